"""Every error: its class, code and name; and that nothing wraps or is cut silently."""

import copy
import gc
import os
import pickle
import subprocess
import sys
from fractions import Fraction

import pytest
from conftest import ROOT, config, quota

import grate


def test_unknown_names(engine):
    with pytest.raises(grate.UnknownCapability, match="nope") as caught:
        engine.acquire("nope")
    assert (caught.value.code, caught.value.name) == (7, "GRATE_ERR_UNKNOWN_CAPABILITY")
    for call in (
        lambda: engine.observe("nope"),
        lambda: engine.provider_health("nope"),
        lambda: engine.provider_in_cooldown("nope"),
        lambda: engine.remaining_quota("nope", "requests"),
        lambda: engine.provider_state("nope"),
        lambda: engine.remove_provider("nope"),
    ):
        with pytest.raises(grate.UnknownProvider, match="nope"):
            call()
    with pytest.raises(LookupError):
        engine.remove_capability("nope")


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "a\0b", "a\ud800"])
def test_invalid_name(engine, name):
    with pytest.raises(grate.InvalidName):
        engine.acquire(name)


def test_invalid_name_to_exclude(engine):
    for name in ("x" * 129, "a\0b", "a\ud800"):
        with pytest.raises(grate.InvalidName):
            engine.acquire("api", exclude=[name])


def test_name_of_another_type(engine):
    for wrong in (None, b"api", 3):
        with pytest.raises(TypeError):
            engine.acquire(wrong)


@pytest.mark.parametrize("wrong", [-1, 2**64 - 1, 2**64, 0.0, 1.5, "", "7", ()])
def test_numbers_that_do_not_fit(engine, wrong):
    for call in (engine.acquire, engine.select):
        with pytest.raises(grate.InvalidArgument):
            call("api", tokens=wrong)
        with pytest.raises(grate.InvalidArgument):
            call("api", bytes=wrong)
    with engine.acquire("api") as d:
        for field in ("tokens", "requests", "cost_micro_usd"):
            with pytest.raises(grate.InvalidArgument):
                d.complete(**{field: wrong})
    assert engine.metrics().acquires == 1
    with pytest.raises(grate.InvalidArgument if wrong != 2**64 - 1 else grate.StaleLease):
        engine.cancel(wrong)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), Fraction(2**64 - 1, 10**6), "", "soon"])
def test_times_that_do_not_fit(engine, wrong):
    with pytest.raises(grate.InvalidArgument):
        engine.observe("a", latency_ms=wrong)
    with pytest.raises(grate.InvalidArgument):
        engine.observe("a", "rate_limited", retry_after_ms=wrong)


def test_arguments_out_of_range(engine):
    with pytest.raises(grate.InvalidArgument, match="rate_limited"):
        engine.observe("a", "ratelimited")
    with pytest.raises(grate.InvalidArgument):
        engine.observe("a", http_status=99)
    with pytest.raises(grate.InvalidArgument, match="headroom"):
        engine.select("api", headroom=1.0)
    with pytest.raises(grate.InvalidArgument, match="cost_micro_usd"):
        engine.remaining_quota("a", "request")
    with pytest.raises(grate.InvalidArgument):
        engine.select("api", exclude=["a"] * 65)
    with pytest.raises(ValueError):
        grate.MockClock(unix_ms=-1)


def test_configurations(engine):
    for text in ("{", '{"nope": 1}', b"\xff", "\ud800"):
        with pytest.raises(grate.InvalidJson):
            engine.configure(text)
    with pytest.raises(grate.InvalidConfig):
        engine.configure({"providers": [{"name": "c", "weight": float("nan")}]})
    with pytest.raises(grate.InvalidConfig):
        engine.configure({"providers": [{"name": "c", "quotas": [{"dimension": "requests", "limit": 1}]}]})
    with pytest.raises(grate.UnknownProvider):
        engine.configure({"capabilities": [{"name": "x", "providers": [{"provider": "nope"}]}]})
    with pytest.raises(TypeError):
        engine.configure({"providers": {1, 2}})
    with pytest.raises(grate.InvalidConfig):
        grate.Engine({"engine": {"ewma_alpha": 7}})


def test_stale_lease(engine):
    d = engine.acquire("api")
    d.complete()
    for settle in (d.complete, d.cancel, lambda: engine.complete(d), lambda: engine.cancel(12345)):
        with pytest.raises(grate.StaleLease):
            settle()
    with pytest.raises(grate.StaleLease):
        engine.select("api").complete()


def test_decision_of_another_engine(engine):
    with grate.Engine(config(a=[quota(2)])) as other:
        d = other.acquire("api")
        for settle in (engine.complete, engine.cancel):
            with pytest.raises(grate.InvalidArgument, match="another engine"):
                settle(d)


def test_none_available(engine, clock):
    engine.acquire("api", exclude=["b"]).complete()
    clock.advance_secs(12)
    engine.acquire("api", exclude=["b"]).complete()
    with pytest.raises(grate.NoAvailableProviders) as caught:
        engine.acquire("api", exclude=["b"], explain=True)
    error = caught.value
    assert (error.code, error.name) == (9, "GRATE_ERR_NO_PROVIDER_AVAILABLE")
    assert (error.provider, error.reason) == ("a", "quota")
    assert 48_000_000_000 <= error.retry_after_ns <= 48_100_000_000
    assert (error.decision.held_dimension, error.decision.held_window_ns) == ("requests", 60_000_000_000)
    assert error.decision.lease == 0
    assert [c.held_by for c in error.decision.held] == ["quota", "exclusion"]
    assert error.decision.alternatives == ()
    assert "'a'" in str(error) and "requests" in str(error)


def test_none_ever_available(engine):
    with pytest.raises(grate.NoAvailableProviders, match="waiting does not help") as caught:
        engine.select("api", tokens=1001, exclude="b")
    assert caught.value.retry_after_ns is None
    engine.configure({"capabilities": [{"name": "empty"}]})
    with pytest.raises(grate.NoAvailableProviders, match="has none") as caught:
        engine.select("empty")
    assert (caught.value.provider, caught.value.reason) == (None, None)


def test_closed(engine):
    d = engine.acquire("api")
    with d:
        engine.close()
    engine.close()
    assert engine.closed
    for call in (
        lambda: engine.acquire("api"),
        lambda: engine.select("api"),
        lambda: engine.complete(d),
        lambda: d.cancel(),
        lambda: engine.observe("a"),
        lambda: engine.configure({}),
        lambda: engine.metrics(),
        lambda: engine.prometheus(),
        lambda: engine.provider_health("a"),
    ):
        with pytest.raises(grate.EngineClosed, match="closed") as caught:
            call()
    assert isinstance(caught.value, grate.GrateError)
    assert caught.value.name == "EngineClosed"


def test_finalizers_of_what_is_garbage_with_its_engine():
    """They run in any order: some after that of the engine, whose memory nobody may touch then."""
    raised = []

    class Job:
        def __init__(self, engine):
            self.engine, self.decision, self.me = engine, engine.acquire("api"), self

        def __del__(self):
            for call in (
                lambda: self.decision.complete(http_status=200),
                lambda: self.engine.acquire("api", tokens=1),
                lambda: self.engine.cancel(self.decision),
                lambda: self.engine.metrics(),
                lambda: self.engine.prometheus(),
            ):
                with pytest.raises(grate.EngineClosed, match="closed") as caught:
                    call()
                raised.append(caught.value.name)

    Job(grate.Engine(config(a=[quota(2)])))
    gc.collect()
    assert raised == ["EngineClosed"] * 5
    clock = grate.MockClock()
    clock.set_ns(7)
    clock.__del__()
    assert clock.now_ns() == 0


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(grate.UnknownProvider("no provider 'x'", 8)))
    assert (type(error), error.code, str(error)) == (grate.UnknownProvider, 8, "no provider 'x'")


def test_what_cannot_travel(engine, clock):
    d = engine.acquire("api")
    for thing in (engine, clock, d):
        for move in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="another process"):
                move(thing)
    with pytest.raises(grate.NoAvailableProviders) as caught:
        engine.acquire("api", exclude=["a", "b"], explain=True)
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value) and error.code == 9
    assert (error.provider, error.reason, error.retry_after_ns) == ("a", "exclusion", None)
    assert error.decision.candidates == caught.value.decision.candidates


def run(code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python"), **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_library_that_cannot_be_loaded(tmp_path):
    out = run("import grate", GRATE_LIBRARY=str(tmp_path / "nowhere.so"))
    assert "ImportError" in out.stderr and "GRATE_LIBRARY" in out.stderr and "nowhere.so" in out.stderr


def test_library_that_is_another():
    code = "import ctypes.util, os; os.environ['GRATE_LIBRARY'] = ctypes.util.find_library('c') or 'libc.so.6'"
    out = run(code + "; import grate")
    assert "ImportError" in out.stderr and "is not a libgrate" in out.stderr


def test_library_that_is_not_installed():
    code = (
        "import ctypes\ndef no(name): raise OSError(name)\nctypes.PyDLL = no\nctypes.util.find_library = lambda n: None"
    )
    out = run("import ctypes.util\n" + code + "\nimport grate", GRATE_LIBRARY="")
    assert "ImportError" in out.stderr and "make install" in out.stderr and "GRATE_LIBRARY" in out.stderr
