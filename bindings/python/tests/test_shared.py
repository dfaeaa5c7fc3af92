"""An engine whose state is in a file: several processes have one quota."""

import multiprocessing
import threading

import pytest
from conftest import config, quota
from test_processes import in_a_child, needs_fork

import grate

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def shared(path, **more):
    """`a` has 12 requests an hour."""
    return grate.Engine(config(a=[quota(12, window="hour")]), state_path=path, **more)


def served(engine):
    count = 0
    while True:
        try:
            engine.acquire("api").complete(http_status=200)
        except grate.NoAvailableProviders:
            return count
        count += 1


def own_share(path):
    """What a worker does, at the top level so that a spawned process finds it."""
    with shared(path) as engine:
        return served(engine)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_share_one_quota(method, path):
    with shared(path) as engine:
        engine.acquire("api").complete(http_status=200)
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert sum(pool.map_async(own_share, [path] * 4).get(timeout=60)) == 11
        assert served(engine) == 0 and engine.metrics().acquires == 12


@needs_fork
def test_a_child_uses_the_engine_of_its_parent(path):
    engine = shared(path)
    lease = engine.acquire("api")

    def work():
        engine.acquire("api").complete(http_status=200)
        lease.complete(http_status=200)  # by whichever process gets the answer
        assert in_a_child(lambda: engine.acquire("api").complete(http_status=200))
        assert engine.metrics().completions == 3

    assert in_a_child(work)
    with pytest.raises(grate.StaleLease):
        lease.complete(http_status=200)
    assert served(engine) == 9


@needs_fork
def test_a_child_may_close_what_it_inherits(path):
    engine = shared(path)
    lease = engine.acquire("api")

    def work():
        engine.close()
        with pytest.raises(grate.EngineClosed) as caught:
            engine.acquire("api")
        assert not isinstance(caught.value, grate.ForkedEngine)

    def work_and_close():
        engine.acquire("api").complete(http_status=200)
        engine.close()

    assert in_a_child(work) and in_a_child(work_and_close)
    lease.complete(http_status=200)
    assert served(engine) == 10


@needs_fork
def test_a_child_that_dies_leaves_no_lease(path):
    engine = grate.Engine(config(a=[quota(1, "concurrency")]), state_path=path)
    assert in_a_child(lambda: engine.acquire("api"))
    gone = threading.Event()
    for _ in range(400):
        if engine.remaining_quota("a", "concurrency"):
            break
        gone.wait(0.05)
    engine.acquire("api").cancel()


@needs_fork
def test_forks_while_other_threads_call(path):
    engine = grate.Engine(config(a=[quota(10**6)]), state_path=path)
    stop = threading.Event()

    def call():
        while not stop.is_set():
            engine.acquire("api").complete(http_status=200)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert all(in_a_child(lambda: engine.acquire("api").complete(http_status=200)) for _ in range(10))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_restart_keeps_the_usage(path):
    with shared(path) as engine:
        for _ in range(7):
            engine.acquire("api").complete(http_status=200)
    with shared(path) as engine:
        assert served(engine) == 5


def test_a_file_that_cannot_be_used(path):
    path.write_text("something else")
    with pytest.raises(grate.StateFileError, match="is not a state file") as caught:
        shared(path)
    assert (caught.value.code, caught.value.name) == (14, "GRATE_ERR_STATE_FILE") and str(path) in str(caught.value)
    with shared(path, replace_unusable_state=True) as engine:
        assert served(engine) == 12
    with pytest.raises(grate.StateFileError):
        grate.Engine(state_path=path / "none")


def test_path_and_size(path):
    with shared(str(path).encode(), state_size=1 << 20):
        assert path.stat().st_size == 1 << 20
    path.unlink()
    with shared(str(path)):
        assert path.stat().st_size == 16 << 20
    for wrong in (-1, 2**64):
        with pytest.raises(grate.InvalidArgument, match="state_size"):
            shared(path, state_size=wrong)
    for wrong in ("", "a\0b"):
        with pytest.raises(grate.InvalidArgument, match="state_path"):
            shared(wrong)
    with pytest.raises(grate.InvalidConfig):
        grate.Engine(state_path=str(path) + "2", state_size=1)
    with pytest.raises(TypeError):
        shared(3)
