"""Replays the scenarios of `conformance/`; its README has the format and the rules."""

import json
import math

import pytest
from conftest import NEW_YEAR, ROOT

import grate

FOLDER = ROOT / "conformance"
SCENARIOS = [
    pytest.param(scenario, id=f"{path.stem}: {scenario['name']}")
    for path in sorted(FOLDER.glob("*.json"))
    for scenario in json.loads(path.read_text(encoding="utf-8"))
]
ESTIMATE = {"tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd", "headroom", "exclude"}
USAGE = {"requests", "tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd"}
RESPONSE = USAGE | {"outcome", "http_status", "latency_ms", "retry_after_ms"}
COMPONENTS = ("quota", "health", "priority", "latency")
ROW = {"error", "within", "provider", "held_by", "held_dimension", "held_window_ns", "score", "seconds_to_exhaustion"}
ROW |= {"retry_after_ns", "weights", *COMPONENTS}
NEVER = 2**64 - 1


@pytest.mark.skipif(not SCENARIOS, reason="skipped: this copy of the package comes without conformance/")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario):
    once = Replay(scenario)
    again = Replay(scenario)
    assert once.trace == again.trace, "a second replay gave other decisions"


class Replay:
    def __init__(self, scenario):
        only(scenario, {"name", "about", "unix_ms", "config", "steps"})
        self.trace = []
        self.leases = {}
        self.clock = grate.MockClock(scenario.get("unix_ms", NEW_YEAR))
        self.engine = grate.Engine(clock=self.clock)
        self.engine.configure(scenario["config"])
        self.steps(scenario["steps"], "")

    def steps(self, steps, place):
        for i, step in enumerate(steps, 1):
            ((verb, a),) = step.items()
            here = f"{place}step {i} ({verb})"
            if verb == "repeat":
                only(a, {"times", "steps"})
                for turn in range(1, a["times"] + 1):
                    self.steps(a["steps"], f"{here}, round {turn}, ")
                continue
            try:
                getattr(self, verb)(a)
            except Exception as error:
                raise AssertionError(f"{here}: {error}") from error

    def advance(self, a):
        only(a, {"secs", "ms", "ns"})
        self.clock.advance_secs(a.get("secs", 0))
        self.clock.advance_ms(a.get("ms", 0))
        if "ns" in a:
            self.clock.set_ns(self.clock.now_ns() + a["ns"])

    def set_ns(self, a):
        only(a, {"ns"})
        self.clock.set_ns(a["ns"])

    def select(self, a):
        self.route(self.engine.select, a, False)

    def acquire(self, a):
        self.route(self.engine.acquire, a, True)

    def route(self, call, a, acquire):
        only(a, ESTIMATE | {"capability", "as", "expect"})
        expect = a.get("expect", {})
        only(expect, ROW | {"candidates"})
        estimate = {key: a[key] for key in ESTIMATE & a.keys()}
        try:
            d, status = call(a["capability"], explain=True, **estimate), "GRATE_OK"
        except grate.NoAvailableProviders as error:
            d, status = error.decision, error.name
        except grate.GrateError as error:
            same("error", expect.get("error"), error.name)
            return
        same("error", expect.get("error", "GRATE_OK"), status)
        if status == "GRATE_OK":
            same("held_by", None, d.held_by)
            same("retry_after_ns", 0, d.retry_after_ns)
        same("a lease", acquire and status == "GRATE_OK", d.lease != 0)
        for row in (d, *d.candidates):
            seen = (row.provider, row.score, row.breakdown, row.seconds_to_exhaustion)
            assert all(0 <= x <= 1 for x in (row.score, *row.breakdown)), f"out of range: {seen}"
            self.trace.append((*seen, row.held_by, row.retry_after_ns, row.held_dimension, row.held_window_ns))
        compare_row(expect, d)
        if "candidates" in expect:
            wanted = [{"provider": c} if isinstance(c, str) else c for c in expect["candidates"]]
            same("candidates", [c["provider"] for c in wanted], [c.provider for c in d.candidates])
            for want, row in zip(wanted, d.candidates):
                only(want, ROW)
                compare_row(want, row)
        if "as" in a:
            self.leases[a["as"]] = d.lease

    def lease(self, name):
        return self.leases[name] if isinstance(name, str) else name

    def complete(self, a):
        only(a, RESPONSE | {"lease", "expect"})
        settled(a, lambda: self.engine.complete(self.lease(a["lease"]), **response(a)))

    def cancel(self, a):
        only(a, {"lease", "expect"})
        settled(a, lambda: self.engine.cancel(self.lease(a["lease"])))

    def observe(self, a):
        only(a, RESPONSE | {"provider", "expect"})
        settled(a, lambda: self.engine.observe(a["provider"], **response(a)))

    def configure(self, a):
        only(a, {"config", "text", "expect"})
        settled(a, lambda: self.engine.configure(a["text"] if "text" in a else a["config"]))

    def remove_provider(self, a):
        only(a, {"name", "expect"})
        settled(a, lambda: self.engine.remove_provider(a["name"]))

    def remove_capability(self, a):
        only(a, {"name", "expect"})
        settled(a, lambda: self.engine.remove_capability(a["name"]))

    def check_health(self, a):
        only(a, {"provider", "value", "within", "error"})
        checked(a, lambda: self.engine.provider_health(a["provider"]))

    def check_remaining(self, a):
        only(a, {"provider", "dimension", "value", "error"})
        checked(a, lambda: never(self.engine.remaining_quota(a["provider"], a["dimension"])))

    def check_in_cooldown(self, a):
        only(a, {"provider", "value"})
        same("in cooldown", a["value"], self.engine.provider_in_cooldown(a["provider"]))

    def check_circuit(self, a):
        only(a, {"provider", "value"})
        same("circuit", a["value"], self.engine.provider_state(a["provider"]).circuit)

    def check_metrics(self, a):
        counters = self.engine.provider_state(a["provider"]) if "provider" in a else self.engine.metrics()
        for name in a.keys() - {"provider"}:
            compare(name, a[name], getattr(counters, name))


def response(a):
    given = {key: a[key] for key in RESPONSE & a.keys()}
    if "outcome" in given:
        given["status"] = given.pop("outcome")
    elif "http_status" not in given:
        given["http_status"] = 0  # without both, the binding takes a success; C does not
    return given


def compare_row(expect, row):
    within = expect.get("within", 1e-9)
    if "provider" in expect:
        same("provider", expect["provider"], row.provider or None)
    if "held_by" in expect:
        same("held_by", expect["held_by"], row.held_by or "nothing")
    if "held_dimension" in expect:
        same("held_dimension", expect["held_dimension"], row.held_dimension)
    if "held_window_ns" in expect:
        compare("held_window_ns", expect["held_window_ns"], row.held_window_ns)
    if "retry_after_ns" in expect:
        compare("retry_after_ns", expect["retry_after_ns"], never(row.retry_after_ns))
    values = {"score": row.score, "seconds_to_exhaustion": row.seconds_to_exhaustion, **row.breakdown._asdict()}
    for what, got in values.items():
        if what in expect:
            compare(what, expect[what], got, within)
    if "weights" in expect:
        same("weights", set(COMPONENTS), set(expect["weights"]))
        total = sum(expect["weights"][what] * values[what] for what in COMPONENTS)
        compare("the score against the weighted components", total, row.score, within)


def compare(what, expected, got, within=1e-9):
    """Integers are equal or not; doubles are close."""
    if expected == "never":
        fits = got == (math.inf if isinstance(got, float) else NEVER)
    elif isinstance(expected, dict):
        only(expected, {"min", "max"})
        fits = expected.get("min", -math.inf) <= got <= expected.get("max", math.inf)
    elif isinstance(got, float):
        fits = abs(got - expected) <= within
    else:
        fits = got == expected
    assert fits, f"{what}: expected {expected!r}, got {got!r}"


def never(value):
    return NEVER if value is None else value


def same(what, expected, got):
    assert expected == got, f"{what}: expected {expected!r}, got {got!r}"


def only(a, known):
    """A misspelt key would be a check that is never made."""
    assert not a.keys() - known, f"unknown keys {a.keys() - known}"


def attempt(call):
    try:
        return "GRATE_OK", call()
    except grate.GrateError as error:
        return error.name, None


def settled(a, call):
    expect = a.get("expect", {})
    only(expect, {"error"})
    same("error", expect.get("error", "GRATE_OK"), attempt(call)[0])


def checked(a, call):
    status, got = attempt(call)
    same("error", a.get("error", "GRATE_OK"), status)
    if status == "GRATE_OK":
        compare("value", a["value"], got, a.get("within", 1e-9))
