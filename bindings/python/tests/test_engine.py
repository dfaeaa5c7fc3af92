"""What the binding offers, used as its README says."""

import email.message
import gc
import math
import os
import re
import subprocess
import sys
import threading
import time
from ctypes import c_uint64, string_at
from types import MappingProxyType

import pytest
from conftest import NEW_YEAR, ROOT, config, quota

import grate
from grate import _marshal


def test_the_documented_example():
    clock = grate.MockClock(unix_ms=NEW_YEAR)
    engine = grate.Engine(clock=clock)
    minute = {"dimension": "requests", "window": "minute"}
    engine.configure(
        {
            "providers": [
                {"name": "primary", "priority": 10, "cooldown_seconds": 30, "quotas": [{**minute, "limit": 2}]},
                {"name": "backup", "priority": 5, "cooldown_seconds": 30, "quotas": [{**minute, "limit": 100}]},
            ],
            "capabilities": [{"name": "api", "providers": [{"provider": "primary"}, {"provider": "backup"}]}],
        }
    )
    for _ in range(3):
        clock.advance_secs(1)
        engine.observe("primary", "rate_limited", latency_ms=50, requests=1)
    assert engine.select("api").provider == "backup"
    assert engine.provider_in_cooldown("primary")
    clock.advance_secs(60)
    assert engine.select("api").provider == "primary"
    assert not engine.provider_in_cooldown("primary")


def test_acquire_and_complete(engine):
    d = engine.acquire("api", tokens=300)
    assert d.provider == "a" and d.lease != 0 and d.held_by is None and d.retry_after_ns == 0
    assert engine.remaining_quota("a", "requests") == 1
    assert engine.remaining_quota("a", "tokens") == 700
    assert engine.remaining_quota("b", "tokens") is None
    engine.complete(d, status="success", latency_ms=120.5, tokens=280)
    assert engine.remaining_quota("a", "tokens") == 720
    assert engine.provider_state("a").latency_ns == 120_500_000


def test_complete_by_number_and_cancel(engine):
    engine.complete(engine.acquire("api").lease)
    engine.cancel(engine.acquire("api").lease)
    engine.acquire("api").cancel()
    m = engine.metrics()
    assert (m.acquires, m.completions, m.cancellations, m.leases_in_flight) == (3, 1, 2, 0)


def test_select_reserves_nothing(engine):
    for _ in range(5):
        d = engine.select("api", tokens=10)
        assert (d.provider, d.lease) == ("a", 0)
    with d:
        pass
    assert engine.metrics().selects == 5
    assert engine.remaining_quota("a", "requests") == 2


def test_leaving_the_block_unsettled_gives_the_lease_back(engine):
    with engine.acquire("api", tokens=300):
        assert engine.remaining_quota("a", "tokens") == 700
    with pytest.raises(KeyError):
        with engine.acquire("api", tokens=300):
            raise KeyError
    assert engine.metrics().cancellations == 2
    assert engine.remaining_quota("a", "tokens") == 1000


def test_leaving_the_block_settled_does_nothing(engine, clock):
    with engine.acquire("api") as d:
        d.complete(tokens=5)
    with engine.acquire("api") as d:
        engine.complete(d.lease)
    with engine.acquire("api") as d:
        clock.advance_secs(3600)  # expired
    m = engine.metrics()
    assert (m.completions, m.cancellations, m.expired_leases) == (2, 0, 1)


def test_a_refused_complete_leaves_the_lease_open(engine):
    with engine.acquire("api") as d:
        with pytest.raises(grate.InvalidArgument):
            d.complete("sucess")
    assert engine.metrics().cancellations == 1


def test_not_given_and_true_zero(engine):
    engine.acquire("api", tokens=300).complete()
    assert engine.remaining_quota("a", "tokens") == 700
    engine.acquire("api", tokens=300).complete(tokens=0, requests=0)
    assert engine.remaining_quota("a", "tokens") == 700
    assert engine.remaining_quota("a", "requests") == 1


def test_an_estimate_of_zero(engine):
    engine.acquire("api", tokens=0).cancel()
    engine.acquire("api", tokens=0, input_tokens=0, bytes=0).complete(tokens=0)
    assert engine.remaining_quota("a", "tokens") == 1000


def test_http_status_and_status(engine):
    engine.observe("a", http_status=429)
    assert engine.metrics().rate_limited_responses == 1
    engine.observe("a", "success", http_status=429)
    engine.observe("a", http_status=200)
    engine.observe("a")
    assert engine.metrics().rate_limited_responses == 1
    assert engine.provider_state("a").consecutive_failures == 0
    engine.observe("b", http_status=503)
    assert engine.provider_state("b").consecutive_failures == 1


@pytest.mark.parametrize("status", sorted(filter(None, grate._types.OUTCOMES)))
def test_every_status(engine, status):
    with engine.acquire("api") as d:
        d.complete(status)
    assert engine.metrics().completions == 1
    failed = status not in ("success", "client_error", "cancelled")
    assert engine.provider_state("a").consecutive_failures == failed


def test_times_in_other_integers(engine):
    class Int32:  # as NumPy's
        def __init__(self, value):
            self.value = value

        def __index__(self):
            return self.value

        def __mul__(self, other):
            return Int32((self.value * other + 2**31) % 2**32 - 2**31)

        def __round__(self):
            return self.value

    engine.observe("a", latency_ms=Int32(5000))
    assert engine.provider_state("a").latency_ns == 5_000_000_000


def test_retry_after(engine):
    engine.observe("a", "rate_limited", retry_after_ms=45_000)
    state = engine.provider_state("a")
    assert (state.circuit, state.cooldown_remaining_ns) == ("open", 45_000_000_000)


def test_scores(engine):
    engine.observe("a", latency_ms=100, requests=0)
    engine.observe("b", latency_ms=50, requests=0)
    d = engine.select("api", exclude=["b"])
    weights = (0.40, 0.35, 0.20, 0.05)
    assert d.score == pytest.approx(sum(w * x for w, x in zip(weights, d.breakdown)))
    assert d.breakdown == (d.breakdown.quota, 1.0, 1.0, 0.5)
    assert d.seconds_to_exhaustion > 0
    assert repr(d).startswith("<grate.Decision provider='a'")


def test_explained(engine):
    engine.observe("b", "rate_limited", retry_after_ms=5000)
    engine.configure({"providers": [{"name": "c"}]})
    everyone = [{"provider": name} for name in ("b", "c", "a")]
    engine.configure({"capabilities": [{"name": "api", "providers": everyone}]})
    d = engine.acquire("api", explain=True)
    assert [c.provider for c in d.candidates] == ["a", "c", "b"]
    assert [(c.provider, c.held_by, c.retry_after_ns) for c in d.alternatives] == [("c", None, 0)]
    assert [(c.provider, c.held_by, c.retry_after_ns) for c in d.held] == [("b", "cooldown", 5_000_000_000)]
    assert d.candidates[0].breakdown == d.breakdown and d.candidates[0].score == d.score
    assert d.candidates[1].seconds_to_exhaustion == math.inf
    for what in ("candidates", "alternatives", "held"):
        with pytest.raises(RuntimeError, match="explain=True"):
            getattr(engine.select("api"), what)


def test_estimates_exclusion_and_headroom(engine):
    assert engine.select("api", exclude=["a", "unknown"]).provider == "b"
    assert engine.select("api", exclude=("a",)).provider == "b"
    assert engine.select("api", exclude="a").provider == "b"
    assert engine.select("api", exclude=(name for name in "a")).provider == "b"
    assert engine.select("api", exclude=[]).provider == "a"
    assert engine.select("api", tokens=900).provider == "a"
    assert engine.select("api", tokens=900, headroom=0.3).provider == "b"
    assert engine.select("api", input_tokens=600, output_tokens=600).provider == "b"
    assert engine.select("api").provider == "a"  # nothing of the last request is left


def test_every_dimension(clock):
    amounts = ("tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd")
    quotas = [quota(10 * (i + 1), name) for i, name in enumerate(amounts)]
    with grate.Engine(config(a=[*quotas, quota(3), quota(2, "concurrency")]), clock=clock) as engine:
        estimate = {name: i + 1 for i, name in enumerate(amounts)}
        d = engine.acquire("api", **estimate)
        for i, name in enumerate(amounts):
            assert engine.remaining_quota("a", name) == 9 * (i + 1)
        assert engine.remaining_quota("a", "concurrency") == 1
        d.complete(**{name: 2 * n for name, n in estimate.items()}, requests=2)
        for i, name in enumerate(amounts):
            assert engine.remaining_quota("a", name) == 8 * (i + 1)
        assert engine.remaining_quota("a", "requests") == 1
        assert engine.remaining_quota("a", "concurrency") == 2


def test_configurations(clock):
    text = '{"providers": [{"name": "ä", "quotas": [{"dimension": "requests", "limit": 1, "window": "hour"}]}]}'
    for form in (text, text.encode()):
        with grate.Engine(form, clock=clock) as engine:
            assert engine.remaining_quota("ä", "requests") == 1
    with grate.Engine(config(a=[quota(5)], b=[]), clock=clock) as engine:
        engine.observe("a")
        engine.configure({"providers": [{"name": "a", "quotas": [quota(9)]}]})
        assert engine.remaining_quota("a", "requests") == 8
        engine.remove_provider("a")
        assert engine.select("api").provider == "b"
        engine.remove_capability("api")
        with pytest.raises(grate.UnknownCapability):
            engine.select("api")
    made = config(a=[MappingProxyType(quota(5))])
    with grate.Engine(MappingProxyType(made)) as engine:
        assert engine.remaining_quota("a", "requests") == 5
        with pytest.raises(TypeError):
            engine.configure({"providers": {"a", "b"}})


def test_the_systems_clock():
    with grate.Engine(config(a=[quota(5)])) as engine:
        with engine.acquire("api") as d:
            d.complete()
        assert engine.remaining_quota("a", "requests") == 4


def test_mock_clock(clock):
    assert clock.now_ns() == 0
    clock.advance_ms(5)
    clock.advance_secs(2)
    assert clock.now_ns() == 2_005_000_000
    clock.set_ns(7)
    assert clock.now_ns() == 7
    engine = grate.Engine(clock=grate.MockClock())
    engine.configure(config(a=[]))
    assert engine.select("api").provider == "a"  # the engine keeps its clock


def test_a_clock_of_the_callers():
    times = {"monotonic": 5, "unix": NEW_YEAR}
    clock = grate.Clock(lambda: times["monotonic"], lambda: times["unix"])
    assert clock.now_ns() == 5
    with grate.Engine(config(a=[quota(1)]), clock=clock) as engine:
        del clock  # the engine keeps what it needs
        gc.collect()
        engine.acquire("api").complete(http_status=200)
        with pytest.raises(grate.NoAvailableProviders):
            engine.acquire("api")
        times["monotonic"] += 61_000_000_000
        engine.acquire("api").complete(http_status=200)


def test_a_clock_that_fails_stands_still(caplog):
    times = iter([7])
    clock = grate.Clock(lambda: next(times), lambda: -1)
    assert clock.now_ns() == 7
    with grate.Engine(config(a=[quota(9)]), clock=clock) as engine:
        engine.acquire("api").complete()
    assert clock.now_ns() == 7
    assert "it stands still" in caplog.text and "StopIteration" in caplog.text


def test_a_clock_that_is_no_integer_stands_still(caplog):
    clock = grate.Clock(lambda: 1e9, lambda: 1e3)
    assert clock.now_ns() == 0
    assert len(caplog.records) == 1 and "a clock failed" in caplog.text


def test_a_clock_gives_other_threads_their_turn():
    """Python runs inside the call, so that the interpreter lock changes hands there: nothing may be shared."""

    def slow():
        time.sleep(0)
        return time.monotonic_ns()

    made = {
        "providers": [{"name": f"p{i}"} for i in range(4)],
        "capabilities": [{"name": f"c{i}", "providers": [{"provider": f"p{i}"}]} for i in range(4)],
    }
    wrong = []
    with grate.Engine(made, clock=grate.Clock(slow, lambda: NEW_YEAR)) as engine:

        def work(i):
            for _ in range(300):
                with engine.acquire(f"c{i}", tokens=i) as d:
                    if d.provider != f"p{i}":
                        wrong.append(d)
                    d.complete(http_status=200, tokens=i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and engine.metrics().completions == 1200


def test_provider_state(engine):
    pooled = {**quota(50), "pool": "account"}
    engine.configure({"providers": [{"name": "p", "quotas": [pooled, quota(4, "concurrency")]}]})
    engine.observe("p", "timeout", latency_ms=700, requests=3)
    state = engine.provider_state("p")
    assert state.circuit == "closed" and state.consecutive_failures == 1 and state.observations == 1
    assert state.health == engine.provider_health("p") == pytest.approx(0.8)
    by_dimension = {q.dimension: q for q in state.quotas}
    rate, slots = by_dimension["requests"], by_dimension["concurrency"]
    assert (rate.dimension, rate.strategy, rate.limit, rate.used, rate.remaining) == ("requests", "rolling", 50, 3, 47)
    assert (rate.pool, rate.window_ns) == ("account", 60_000_000_000)
    assert (slots.dimension, slots.strategy, slots.pool) == ("concurrency", "concurrency", None)


def test_a_quota_that_nobody_configured(clock):
    with grate.Engine(config(a=[]), clock=clock) as engine:
        for _ in range(30):
            clock.advance_ms(200)
            engine.acquire("api").complete(http_status=200)
        engine.acquire("api").complete(http_status=429)
        (learned,) = engine.provider_state("a").quotas
    assert (learned.limit, learned.limit_source) == (None, "learned")
    assert 0 < learned.effective_limit <= 30


def test_prometheus(engine):
    many = [{"name": f"provider-{i:03}"} for i in range(100)]
    engine.configure({"providers": many})
    engine.acquire("api")
    text = engine.prometheus()
    assert len(text) > 8192  # needs a second call with a larger buffer
    assert re.search(r"^grate_acquires_total 1$", text, re.M)
    assert "provider-099" in text and text.endswith("\n")


class Items:
    """A mapping of its own kind, as HTTP libraries have."""

    def __init__(self, pairs):
        self.pairs = pairs

    def items(self):
        return iter(self.pairs)


def message(pairs):
    made = email.message.Message()
    for name, value in pairs:
        made[name] = value
    return made


PAIRS = [("Retry-After", "45"), ("x-empty", ""), ("X-Twice", "1"), ("X-Twice", "2")]
FORMS = {
    "pairs": PAIRS,
    "tuple": tuple(PAIRS),
    "iterator": Items(PAIRS).items,
    "bytes": [(name.encode(), value.encode()) for name, value in PAIRS],
    "mapping of its own": Items(PAIRS),
    "http.client": message(PAIRS),
}


@pytest.mark.parametrize("form", FORMS)
def test_headers_arrive(form):
    headers = FORMS[form]() if form == "iterator" else FORMS[form]
    assert read_back(headers) == [(name.encode(), value.encode()) for name, value in PAIRS]


def test_odd_headers_arrive():
    assert read_back({}) == []
    assert read_back({"n": 7, b"\xff\0": "caf\u00e9", "x": "\u20ac\ud800"}) == [
        (b"n", b"7"),
        (b"\xff\0", b"caf\xe9"),
        (b"x", b"??"),
    ]
    with pytest.raises(ValueError):
        read_back([("a", "b", "c")])


def read_back(headers):
    """What the library sees."""
    made = _marshal.header_array(headers)
    if made is None:
        return []
    address, count, _keep = made
    words = (c_uint64 * (4 * count)).from_address(address)
    return [(string_at(n, n_len), string_at(v, v_len)) for n, n_len, v, v_len in zip(*[iter(words)] * 4)]


def test_headers_take_effect(engine):
    engine.observe("b", http_status=429, headers={"Retry-After": "45"})
    assert engine.provider_state("b").cooldown_remaining_ns == 45_000_000_000
    with engine.acquire("api", tokens=100) as d:
        d.complete(
            http_status=200,
            headers=[
                (b"x-ratelimit-limit-tokens", b"1000"),
                (b"x-ratelimit-remaining-tokens", b"250"),
                (b"x-ratelimit-reset-tokens", b"30s"),
            ],
        )
    assert engine.remaining_quota("a", "tokens") == 250


def test_headers_without_an_engine():
    told = {"Retry-After": "7", "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"}
    report = grate.parse_headers(told)
    assert (report.cached, report.retry_after_ms) == (False, 7000)
    ((dimension, limit, remaining, reset, window),) = report.quotas
    assert (dimension, limit, remaining, reset, window) == ("requests", 60, 59, None, None)
    assert grate.parse_headers([]) == (False, None, ())
    date = {"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT"}
    assert grate.parse_headers(date, received_at_unix_ms=NEW_YEAR).retry_after_ms == 60_000
    with pytest.raises(ValueError):
        grate.parse_headers({}, received_at_unix_ms=-1)


def test_upserts(engine):
    engine.upsert_provider({"name": "c", "priority": 7, "quotas": [quota(3)]})
    engine.upsert_capability({"name": "api", "providers": [{"provider": "c", "priority": 0}, {"provider": "b"}]})
    assert engine.remaining_quota("c", "requests") == 3
    d = engine.select("api", explain=True)
    assert (d.provider, d.place) == ("b", 1)
    assert [(c.provider, c.place) for c in d.candidates] == [("b", 1), ("c", 0)]
    with pytest.raises(grate.InvalidJson):
        engine.upsert_provider({"name": "c", "prioritty": 7})
    with pytest.raises(grate.UnknownProvider):
        engine.upsert_capability({"name": "api", "providers": [{"provider": "nope"}]})


def test_status_names():
    assert grate.status_name(10) == "GRATE_ERR_STALE_LEASE"
    assert grate.status_name(999) == "GRATE_ERR_UNKNOWN"


def test_the_cache_of_names_is_bounded(engine):
    for i in range(2 * _marshal._MAX_NAMES):
        with pytest.raises(grate.UnknownCapability):
            engine.select(f"user-{i}", headroom=0.1)
    assert len(_marshal.names) <= _marshal._MAX_NAMES


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", grate.library_version())
    assert grate.__version__.split(".")[0] == grate.library_version().split(".")[0]


def test_types():
    api = pytest.importorskip("mypy.api", reason="skipped: mypy is not installed")
    folder = ROOT / "bindings" / "python"
    out, err, code = api.run(["--strict", "--cache-dir", os.devnull, str(folder / "grate")])
    assert code == 0, out + err


def test_the_exit_of_the_interpreter_is_quiet():
    code = """
import threading, grate
clock = grate.MockClock()
engine = grate.Engine({"providers": [{"name": "a"}], "capabilities": [{"name": "x", "providers": [{"provider": "a"}]}]},
                      clock=clock)
lease = engine.acquire("x")
def forever():
    while True:
        engine.select("x")
threading.Thread(target=forever, daemon=True).start()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python")}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "")
