"""The part in C does what the pure methods do, and leaves to them what is unusual."""

import gc
import inspect
import os
import subprocess
import sys
import weakref

import pytest
from conftest import ROOT

import grate
from grate import _native


def test_the_form_that_was_asked_for_is_tested():
    """By ./test; without it, either will do."""
    asked = os.environ.get("GRATE_PURE_PYTHON")
    assert asked is None or (_native.fast is None) == (asked == "1")


def test_signatures_and_documentation():
    for method in (grate.Engine.acquire, grate.Engine.select):
        names = list(inspect.signature(method).parameters)
        assert names[:3] == ["self", "capability", "tokens"] and names[-1] == "explain"
    for method in (grate.Engine.complete, grate.Decision.complete):
        assert list(inspect.signature(method).parameters)[-2:] == ["retry_after_ms", "headers"]
        assert "ettles the lease" in method.__doc__


@pytest.mark.parametrize("form", ["engine", "decision"])
def test_forms_of_complete(engine, form):
    def settle(*args, **given):
        d = engine.acquire("api", exclude=["a"])
        engine.complete(d, *args, **given) if form == "engine" else d.complete(*args, **given)
        with pytest.raises(grate.StaleLease):
            d.complete(http_status=200)

    settle(http_status=200)
    settle(None, 200)
    settle("success")
    settle(http_status=200, tokens=None, latency_ms=3)
    settle(**{"http_" + "status": 200, "to" + "kens": 5})  # names that are not interned
    settle(http_status=True + 199)
    assert engine.metrics().completions == 6 and engine.provider_state("b").consecutive_failures == 0
    d = engine.acquire("api")
    for wrong in ({"http_status": 99}, {"http_status": -1}, {"http_status": 2**31}, {"http_status": 200, "tokens": -1}):
        with pytest.raises(grate.InvalidArgument):
            d.complete(**wrong)
    with pytest.raises(TypeError):
        d.complete(http_status=200, nonsense=1)
    d.complete(http_status=429)
    assert engine.metrics().rate_limited_responses == 1


def test_forms_of_acquire(engine):
    for call in (engine.select, engine.acquire):
        with pytest.raises(TypeError):
            call()
        with pytest.raises(TypeError):
            call("api", 5)
        with pytest.raises(TypeError):
            call("api", nonsense=5)
        assert call(capability="api").provider == "a"
    with pytest.raises(grate.NoAvailableProviders) as caught:
        engine.acquire("api", tokens=10**6, bytes=0, cost_micro_usd=None, exclude=["b"])
    assert caught.value.retry_after_ns is None


def test_subclasses(clock):
    class Mine(grate.Engine):
        seen = 0

        def acquire(self, capability, **more):
            self.seen += 1
            return super().acquire(capability, **more)

        def complete(self, lease, *args, **more):
            self.seen += 1
            return super().complete(lease, *args, **more)

    made = Mine(
        {"providers": [{"name": "a"}], "capabilities": [{"name": "x", "providers": [{"provider": "a"}]}]}, clock
    )
    made.acquire("x", tokens=1).complete(http_status=200)
    assert made.seen == 2 and made.metrics().completions == 1


def test_what_is_unreachable_is_freed(clock):
    class Mine(grate.Engine):
        pass

    made = Mine(
        {"providers": [{"name": "a"}], "capabilities": [{"name": "x", "providers": [{"provider": "a"}]}]}, clock
    )
    made.latest = made.acquire("x")  # a cycle
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


def test_decisions_outlive_their_engine(engine):
    d = engine.acquire("api", tokens=7)
    engine.close()
    assert d.provider == "a" and 0 < d.score <= 1 and d.breakdown.health == 1 and d.held_by is None
    with pytest.raises(AttributeError):
        d.anything = 1


USE = f"""
import sys
sys.path.insert(0, {str(ROOT / "bindings/python")!r})
for name in [name for name in sys.modules if name.partition(".")[0] == "grate"]:
    del sys.modules[name]
import grate, grate._native
form = "pure" if grate._native.fast is None else "in C"
engine = grate.Engine(dict(providers=[dict(name="a")], capabilities=[dict(name="x", providers=[dict(provider="a")])]))
def work():
    engine.complete(engine.acquire("x", tokens=1), http_status=200)
    print(form, engine.metrics().completions, flush=True)
work()
"""
INTERPRETER = """
try:
    import _interpreters as interpreters
    other = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    other = interpreters.create(isolated=False)
interpreters.run_string(other, use)
"""


@pytest.mark.parametrize("second", ["exec(use, {})", INTERPRETER], ids=["import", "interpreter"])
def test_the_second_is_pure(second):
    """And it leaves the first as it is."""
    code = f"use = {USE!r}\nfirst = {{}}\nexec(use, first)\n{second}\nfirst['work']()"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    form = "pure" if _native.fast is None else "in C"
    assert (out.stdout.splitlines(), out.stderr) == ([f"{form} 1", "pure 1", f"{form} 2"], "")


def test_only_the_first_import_binds():
    if _native.fast is not None:
        assert not _native.fast.claim()
        with pytest.raises(ImportError, match="bound before"):
            _native.fast.bind()
