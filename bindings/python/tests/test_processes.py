"""An engine belongs to the process that made it: a forked child gets a clear error, never a crash or a hang."""

import multiprocessing
import os
import signal
import threading

import pytest
from conftest import config, quota

import grate

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def own_engine(i):
    """What a worker does, at the top level so that a spawned process finds it."""
    with grate.Engine(config(a=[quota(5)])) as engine:
        for _ in range(5):
            engine.acquire("api", tokens=i).complete(http_status=200, tokens=i)
        with pytest.raises(grate.NoAvailableProviders):
            engine.acquire("api")
        return engine.metrics().completions


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_every_worker_has_its_own(method):
    with grate.Engine(config(a=[quota(5)])) as engine:
        engine.acquire("api")
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map_async(own_engine, range(6)).get(timeout=60) == [5] * 6
        assert engine.metrics().acquires == 1


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="skipped: no fork here")


def in_a_child(work):
    """Whether `work` returns in a forked child, in less than 20 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            work()
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@needs_fork
def test_an_engine_of_the_parent(engine):
    d = engine.acquire("api")
    calls = (
        lambda: engine.acquire("api"),
        lambda: engine.select("api", explain=True),
        lambda: engine.complete(d, http_status=200),
        lambda: d.complete(http_status=200),
        lambda: d.complete("success"),
        lambda: d.cancel(),
        lambda: engine.observe("a"),
        lambda: engine.configure({}),
        lambda: engine.metrics(),
        lambda: engine.prometheus(),
    )

    def work():
        for call in calls:
            with pytest.raises(grate.ForkedEngine, match="made before a fork") as caught:
                call()
        assert isinstance(caught.value, grate.EngineClosed) and caught.value.name == "ForkedEngine"
        with d:
            pass  # the lease is the parent's to settle
        engine.close()
        assert engine.closed
        own_engine(1)

    assert in_a_child(work)
    d.complete(http_status=200)
    assert engine.metrics().completions == 1 and not engine.closed


@needs_fork
def test_forks_while_other_threads_call():
    engine = grate.Engine(config(a=[quota(10**6)]))
    stop = threading.Event()

    def call():
        while not stop.is_set():
            with engine.acquire("api") as d:
                d.complete(http_status=200)

    def work():
        with pytest.raises(grate.ForkedEngine):
            engine.acquire("api")
        own_engine(1)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert all(in_a_child(work) for _ in range(10))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@needs_fork
def test_a_child_of_a_child(engine):
    def work():
        own = grate.Engine(config(a=[quota(5)]))

        def inner():
            for inherited in (engine, own):
                with pytest.raises(grate.ForkedEngine):
                    inherited.acquire("api")

        assert in_a_child(inner)
        own.acquire("api").cancel()

    assert in_a_child(work)
