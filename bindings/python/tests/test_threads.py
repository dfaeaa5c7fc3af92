"""Many threads on one engine, closing under load, and signals."""

import signal
import threading

import pytest
from conftest import config, quota

import grate

THREADS = 8
ROUNDS = 500


def together(work):
    failures = []

    def run(i):
        try:
            work(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_slots_and_usage_add_up(clock):
    in_flight, most, lock = 0, 0, threading.Lock()
    quotas = [quota(3, "concurrency"), quota(10**6), quota(10**9, "tokens")]
    engine = grate.Engine(config(a=quotas), clock=clock)

    def work(i):
        nonlocal in_flight, most
        done = 0
        while done < ROUNDS:
            try:
                d = engine.acquire("api", tokens=i + 1)
            except grate.NoAvailableProviders as full:
                assert full.reason == "concurrency"
                continue
            with lock:
                in_flight += 1
                most = max(most, in_flight)
            with lock:
                in_flight -= 1
            d.complete(tokens=10 * (i + 1), headers={"x-thread": str(i)})
            done += 1

    together(work)
    assert most <= 3
    used = {q.dimension: q.used for q in engine.provider_state("a").quotas}
    assert used["requests"] == THREADS * ROUNDS
    assert used["tokens"] == ROUNDS * sum(10 * (i + 1) for i in range(THREADS))
    m = engine.metrics()
    assert (m.acquires, m.completions, m.leases_in_flight) == (used["requests"], used["requests"], 0)


def test_decisions_do_not_mix(clock):
    made = {"providers": [], "capabilities": []}
    for i in range(THREADS):
        made["providers"].append({"name": f"p{i}"})
        made["capabilities"].append({"name": f"c{i}", "providers": [{"provider": f"p{i}"}]})
    engine = grate.Engine(made, clock=clock)

    def work(i):
        for _ in range(ROUNDS):
            d = engine.acquire(f"c{i}", explain=True)
            assert d.provider == f"p{i}" and [c.provider for c in d.candidates] == [f"p{i}"]
            d.cancel()

    together(work)


def test_closing_under_load(clock):
    for _ in range(20):
        engine = grate.Engine(config(a=[quota(10**6)]), clock=clock)
        ready = threading.Barrier(THREADS)

        def work(i, engine=engine, ready=ready):
            ready.wait()
            if i == 0:
                engine.close()
                return
            with pytest.raises(grate.EngineClosed):
                while True:
                    with engine.acquire("api", explain=i % 2 == 0) as d:
                        d.complete()

        together(work)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="skipped: no interval timers")
def test_signal_handlers_may_use_the_engine(clock):
    made = {
        "providers": [{"name": "a"}, {"name": "b"}],
        "capabilities": [{"name": n, "providers": [{"provider": n}]} for n in ("a", "b")],
    }
    engine = grate.Engine(made, clock=clock)
    count = 0

    def handler(number, frame):
        nonlocal count
        count += 1
        with engine.acquire("b", tokens=1) as d:
            assert d.provider == "b"
            d.complete(tokens=1)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        while count < 50:
            with engine.acquire("a", tokens=2) as d:
                assert d.provider == "a"
                d.complete(tokens=2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert engine.metrics().leases_in_flight == 0
