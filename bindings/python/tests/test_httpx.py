"""The transports for httpx, against real servers; each test once sync and once async."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import upstreams
from conftest import config, quota

import grate

httpx = pytest.importorskip("httpx", reason="skipped: httpx is not installed")
from grate.httpx import AsyncTransport, Transport, Upstream  # noqa: E402

RATE = 28  # per second: more than any upstream allows, or all of them in turn
SECONDS = 6


@pytest.fixture
def bases():
    """Base URLs of the metered upstreams, rested."""
    why = upstreams.missing()
    if why is not None:
        pytest.skip(f"skipped: {why}")
    with upstreams.metered() as made:
        yield made


def settled(engine):
    gc.collect()
    metrics = engine.metrics()
    assert metrics.leases_in_flight == 0 and metrics.expired_leases == 0
    return metrics


# ---- Either kind of client, as one: the rest of this file does not know which it works with.


class Sync:
    def __init__(self, engine, bases, capability="api", **more):
        self.client = httpx.Client(mounts={"http://router": Transport(engine, capability, bases, **more)}, timeout=5)

    def run(self, work):
        """`work` yields requests, as a method and its arguments, and gets responses or exceptions."""
        with self.client:
            answer = None
            try:
                while True:
                    method, url, more = work.send(answer)
                    try:
                        answer = getattr(self.client, method)(url, **more)
                    except Exception as error:
                        answer = error
            except StopIteration:
                pass

    def load(self, count):
        def one(i):
            time.sleep(max(0, begin + i / RATE - time.monotonic()))
            try:
                return self.client.get("http://router/v1/answer").status_code
            except grate.NoAvailableProviders:
                return None

        with self.client, ThreadPoolExecutor(32) as pool:
            begin = time.monotonic()
            return list(pool.map(one, range(count)))


class Async(Sync):
    def __init__(self, engine, bases, capability="api", **more):
        transport = AsyncTransport(engine, capability, bases, **more)
        self.client = httpx.AsyncClient(mounts={"http://router": transport}, timeout=5)

    def run(self, work):
        async def main():
            async with self.client:
                answer = None
                try:
                    while True:
                        method, url, more = work.send(answer)
                        try:
                            answer = await getattr(self.client, method)(url, **more)
                        except Exception as error:
                            answer = error
                except StopIteration:
                    pass

        asyncio.run(main())

    def load(self, count):
        async def one(i):
            await asyncio.sleep(i / RATE)
            try:
                return (await self.client.get("http://router/v1/answer")).status_code
            except grate.NoAvailableProviders:
                return None

        async def main():
            async with self.client:
                return await asyncio.gather(*map(one, range(count)))

        return asyncio.run(main())


both = pytest.mark.parametrize("kind", [Sync, Async])


def get(path="/", **more):
    return "get", f"http://router{path}", more


def post(path="/", **more):
    return "post", f"http://router{path}", more


# ---- Metered upstreams


@both
def test_known_quotas_are_kept(kind, bases):
    with grate.Engine(upstreams.config()) as engine:
        statuses = kind(engine, bases, "answer").load(RATE * SECONDS)
        metrics = settled(engine)
    assert statuses == [200] * (RATE * SECONDS)
    print(f"{metrics.completions} attempts, {metrics.rate_limited_responses} refused")
    assert metrics.rate_limited_responses < 0.01 * metrics.completions
    assert metrics.cancellations == 0


@both
@pytest.mark.parametrize("factor", [0, 10], ids=["absent", "tenfold"])
def test_wrong_quotas_are_met_and_reported(kind, factor, bases):
    with grate.Engine(upstreams.config(factor)) as engine:
        statuses = kind(engine, bases, "answer", max_wait_secs=1).load(RATE * 3)
        metrics = settled(engine)
        used = [engine.provider_state(name) for name in bases]
    assert metrics.rate_limited_responses > 0
    assert metrics.completions > len(statuses) - statuses.count(None), "nothing was retried elsewhere"
    assert sum(s.completions > 0 for s in used) > 1
    assert sum(s.cooldowns_triggered for s in used) > 0, "Retry-After was not reported"
    # Limits that nobody documented are learned, and then requests that do not fit are not sent.
    assert statuses.count(200) + statuses.count(None) >= 0.9 * len(statuses)


# ---- What can go wrong


@pytest.fixture
def engine():
    with grate.Engine(config(a=[quota(50), quota(9000, "tokens")], b=[quota(50), quota(9000, "tokens")])) as engine:
        yield engine


def used(engine, provider):
    return {q.dimension: q.used for q in engine.provider_state(provider).quotas}


def fine(handler):
    handler.reply(200, b'{"usage": {"total_tokens": 7}}')


@both
def test_connection_refused(kind, engine):
    def work():
        answer = yield get(extensions={"grate": {"tokens": 5}})
        assert answer.status_code == 200
        assert answer.extensions["grate"] == {"provider": "b", "attempts": 2}
        answer = yield post(content=streamed(kind), extensions={"grate": {"tokens": 5}})
        assert answer.status_code == 200

    with upstreams.closed_port() as a, upstreams.server(fine) as b:
        kind(engine, {"a": a, "b": b}).run(work())
    settled(engine)
    assert engine.provider_state("a").consecutive_failures > 0 and engine.provider_health("a") < 1
    assert used(engine, "a") == {"requests": 0, "tokens": 0}
    assert used(engine, "b") == {"requests": 2, "tokens": 10}


@both
@pytest.mark.parametrize(
    "failure", [httpx.ReadError("x"), httpx.ReadTimeout("x"), httpx.ConnectError("x"), OSError("x")]
)
def test_a_body_of_a_request_that_cannot_be_read(kind, engine, failure):
    """As one that is passed on from another server."""

    def work():
        error = yield post(content=streamed(kind, failure))
        assert error is failure

    with upstreams.server(fine) as a:
        kind(engine, {"a": a, "b": a}).run(work())
    assert settled(engine).completions == 1
    assert engine.provider_state("a").consecutive_failures == 0 and used(engine, "a")["requests"] == 1


def streamed(kind, failure=None):
    def chunks():
        yield b"one"
        if failure is not None:
            raise failure
        yield b"two"

    async def async_chunks():
        yield b"one"
        if failure is not None:
            raise failure
        yield b"two"

    return chunks() if kind is Sync else async_chunks()


@both
def test_nobody_can_be_reached(kind, engine):
    def work():
        error = yield get()
        assert isinstance(error, httpx.ConnectError)

    with upstreams.closed_port() as a:
        kind(engine, {"a": a, "b": a}).run(work())
    settled(engine)
    assert engine.metrics().completions == 2


@both
@pytest.mark.parametrize("status", [429, 503, 529])
def test_refused(kind, engine, status):
    seen = []

    def refuse(handler):
        handler.reply(status, b"no", Retry_After="17")

    def accept(handler):
        seen.append((handler.command, handler.path, handler.headers["host"], handler.headers["x-key"], handler.body))
        fine(handler)

    def work():
        answer = yield post("/chat?q=1", content=b"hello", headers={"x-key": "mine"})
        assert answer.status_code == 200 and answer.json()["usage"] == {"total_tokens": 7}

    with upstreams.server(refuse) as a, upstreams.server(accept) as b:
        kind(engine, {"a": a, "b": Upstream(b + "/v2/", {"X-Key": "of b"})}).run(work())
        assert seen == [("POST", "/v2/chat?q=1", b[7:], "of b", b"hello")]
    settled(engine)
    state = engine.provider_state("a")
    assert state.circuit == "open" and state.cooldown_remaining_ns > 5_000_000_000


@both
def test_refused_by_all(kind, engine):
    def work():
        answer = yield get()
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (429, "no", "17")
        error = yield get()  # now all cool down, for longer than the transport waits
        assert isinstance(error, grate.NoAvailableProviders) and error.reason == "cooldown"

    with upstreams.server(lambda handler: handler.reply(429, b"no", Retry_After="17")) as a:
        kind(engine, {"a": a, "b": a}).run(work())
    assert settled(engine).rate_limited_responses == 2


@both
def test_a_refusal_whose_body_stalls(kind, engine):
    done = threading.Event()

    def stall(handler):
        handler.send_response(429)
        handler.send_header("content-length", "3")
        handler.end_headers()
        done.wait(20)

    def work():
        begin = time.monotonic()
        answer = yield get()
        assert answer.extensions["grate"] == {"provider": "b", "attempts": 2}
        assert time.monotonic() - begin < 2
        done.set()

    with upstreams.server(stall) as a, upstreams.server(fine) as b:
        kind(engine, {"a": a, "b": b}).run(work())
    settled(engine)


@both
def test_more_refusals_than_a_request_may_exclude(kind, clock):
    names = [f"p{i}" for i in range(66)]
    members = [{"provider": name} for name in names]
    made = {"providers": [{"name": name} for name in names], "capabilities": [{"name": "api", "providers": members}]}

    def work():
        answer = yield get()
        assert answer.status_code == 429

    with grate.Engine(made, clock) as engine, upstreams.server(lambda handler: handler.reply(429)) as a:
        kind(engine, dict.fromkeys(names, a), max_attempts=66).run(work())
        assert settled(engine).completions == 66


@both
@pytest.mark.parametrize("attempts", [0, -1])
def test_at_least_one_attempt(kind, engine, attempts):
    with pytest.raises(grate.InvalidArgument, match="max_attempts"):
        kind(engine, {}, max_attempts=attempts)


@both
def test_a_cookie_of_one_provider_is_not_sent_to_another(kind, engine):
    seen = []

    def tell(handler):
        seen.append(handler.headers["cookie"])
        fine(handler)

    def give(handler):
        handler.reply(200, Set_Cookie="sid=secret")

    def work():
        answer = yield get(extensions={"grate": {"exclude": "b"}})
        assert answer.status_code == 200
        yield get(extensions={"grate": {"exclude": "a"}}, headers={"cookie": "mine=1"})
        yield get(extensions={"grate": {"exclude": "a"}})

    with upstreams.server(give) as a, upstreams.server(tell) as b:
        kind(engine, {"a": a, "b": b}).run(work())
    assert seen == ["mine=1", None]


@both
def test_a_location_that_is_none(kind, engine):
    def work():
        answer = yield get()
        assert (answer.status_code, answer.headers["location"]) == (201, "http://xn--a/")

    with upstreams.server(lambda handler: handler.reply(201, Location="http://xn--a/")) as a:
        kind(engine, {"a": a, "b": a}).run(work())
    assert settled(engine).completions == 1


@both
def test_a_streamed_body_is_sent_once(kind, engine):
    def work():
        answer = yield post(content=streamed(kind))
        assert answer.status_code == 429

    with upstreams.server(lambda handler: handler.reply(429)) as a:
        kind(engine, {"a": a, "b": a}).run(work())
    assert settled(engine).completions == 1


@both
def test_errors_are_the_callers(kind, engine):
    def work():
        for status in (400, 404, 500):
            answer = yield get(f"/{status}")
            assert answer.status_code == status

    with upstreams.server(lambda handler: handler.reply(int(handler.path[1:]))) as a:
        kind(engine, {"a": a, "b": a}).run(work())
    assert settled(engine).completions == 3


@both
def test_timeout(kind, engine):
    done = threading.Event()

    def work():
        error = yield get(timeout=0.2)
        assert isinstance(error, httpx.ReadTimeout)

    with upstreams.server(lambda handler: done.wait(5)) as a:
        kind(engine, {"a": a, "b": a}).run(work())
        done.set()
    assert settled(engine).completions == 1
    assert engine.provider_state("a").consecutive_failures == 1
    assert used(engine, "a")["requests"] == 1


@both
def test_a_connection_that_breaks(kind, engine):
    def half(handler):
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        if handler.path == "/body":
            handler.wfile.write(b"half")
        handler.close_connection = True

    def hang_up(handler):
        handler.close_connection = True

    def work():
        for path in ("/body", "/"):
            error = yield get(path)
            assert isinstance(error, httpx.RemoteProtocolError)

    for answer in (half, hang_up):
        with upstreams.server(answer) as a:
            kind(engine, {"a": a, "b": a}).run(work())
    assert settled(engine).completions == 4


@both
def test_redirects(kind, engine):
    paths = []

    def answer(handler):
        paths.append(handler.path)
        if handler.path == "/v2/old":
            handler.reply(302, Location=f"http://{handler.headers['host']}/v2/new?x=1")
        elif handler.path == "/v2/gone":
            handler.reply(307, Location=elsewhere + "/file")
        else:
            fine(handler)

    def work():
        answer = yield get("/old", follow_redirects=True)
        assert answer.status_code == 200 and answer.history[0].status_code == 302
        answer = yield get("/gone", follow_redirects=True)
        assert answer.status_code == 200 and "grate" not in answer.extensions

    with upstreams.server(answer) as a, upstreams.server(fine) as elsewhere:
        kind(engine, {"a": a + "/v2", "b": a + "/v2"}).run(work())
    assert paths == ["/v2/old", "/v2/new?x=1", "/v2/gone"]
    assert (settled(engine).completions, engine.metrics().observations) == (2, 1)


@both
@pytest.mark.parametrize(
    "location, leads_to",
    [
        ("/v2/new?x=1", "/v2/new?x=1"),
        ("new?api=3", "/v2/new?api=3"),
        ("/v2", "/v2/"),
        ("/v2//other/new", "/v2//other/new"),
        ("/v20/new", None),
        ("//other/v2/new", None),
        ("https://base/v2/new", None),
        ("http://[", None),
    ],
)
def test_redirects_are_relative_to_what_was_sent(kind, engine, location, leads_to):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx.Response(200 if len(asked) == 2 else 302, headers={"location": location})

    def work():
        answer = yield get("/old", follow_redirects=leads_to is not None)
        assert leads_to is not None or httpx.URL(answer.headers["location"]).host != "router"

    kind(engine, dict.fromkeys("ab", "http://base/v2"), transport=httpx.MockTransport(answer)).run(work())
    assert asked == ["http://base/v2/old"] + [f"http://base{leads_to}"] * (leads_to is not None)
    settled(engine)


@both
@pytest.mark.parametrize("base", ["https://base/v2", "https://BASE:443/v2"])
@pytest.mark.parametrize("location", ["https://BASE/v2/new", "HTTPS://base:443/v2/new"])
def test_redirects_to_the_same_server_written_otherwise(kind, engine, base, location):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx.Response(200 if len(asked) == 2 else 302, headers={"location": location})

    def work():
        assert (yield get("/old", follow_redirects=True)).extensions["grate"]["provider"] == "a"

    kind(engine, dict.fromkeys("ab", base), transport=httpx.MockTransport(answer)).run(work())
    assert asked == ["https://base/v2/old", "https://base/v2/new"]
    settled(engine)


@both
@pytest.mark.parametrize("status, attempts", [(200, 2), (429, 2)])
def test_a_redirect_stays_with_its_provider(kind, engine, status, attempts):
    """Nobody else knows of it. It needs no lease, but counts."""
    asked = []

    def answer(request):
        asked.append((request.url.path, request.headers["x-key"]))
        if request.url.path == "/new":
            return httpx.Response(status, headers={"x-ratelimit-remaining-requests": "7"})
        engine.observe("a", http_status=200, requests=50)  # others use up what it has
        return httpx.Response(302, headers={"location": "/new"})

    def work():
        answer = yield get("/old", follow_redirects=True)
        assert (answer.status_code, answer.extensions["grate"]["provider"]) == (status, "a")

    bases = {name: Upstream("http://base", {"x-key": f"of {name}"}) for name in "ab"}
    kind(engine, bases, transport=httpx.MockTransport(answer)).run(work())
    assert asked == [("/old", "of a"), ("/new", "of a")]
    assert settled(engine).observations == 2


@both
def test_a_base_with_a_query(kind, engine):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx.Response(200 if len(asked) == 3 else 302, headers={"location": "?api=3&y=2"})

    def work():
        assert (yield get("/x?", follow_redirects=False)).status_code == 302
        assert (yield get("/x?y=1", follow_redirects=True)).status_code == 200

    kind(engine, dict.fromkeys("ab", "http://base/v2/?api=3"), transport=httpx.MockTransport(answer)).run(work())
    assert asked == [f"http://base/v2/x?api=3{more}" for more in ("", "&y=1", "&y=2")]
    settled(engine)


@both
def test_usage(kind, engine):
    def tell(response):
        return {"tokens": response.json()["usage"]["total_tokens"]}

    def work():
        answer = yield get(extensions={"grate": {"tokens": 100}})
        assert answer.status_code == 200
        assert used(engine, "a")["tokens"] == 7

    with upstreams.server(fine) as a:
        kind(engine, {"a": a, "b": a}, usage=tell).run(work())
    settled(engine)


@both
@pytest.mark.parametrize("last", [200, 429])
def test_responses_that_are_read_already(kind, engine, last):
    """A mock or a cache makes such: nobody asks for their stream."""

    def work():
        answer = yield get(extensions={"grate": {"tokens": 100}})
        assert (answer.status_code, answer.text) == (last, "seven")
        assert engine.metrics().completions == 2
        assert used(engine, "b")["tokens"] == (5 if last == 200 else 0)

    answers = iter([httpx.Response(429), httpx.Response(last, text="seven")])
    sender = httpx.MockTransport(lambda request: next(answers))
    bases = {"a": "http://a", "b": "http://b"}
    kind(engine, bases, usage=lambda response: {"tokens": len(response.text)}, transport=sender).run(work())
    settled(engine)


@both
@pytest.mark.parametrize("wrong", [lambda r: r.json()["nope"], lambda r: {"tokens": -1}, lambda r: {"tokns": 1}])
def test_a_usage_that_cannot_be_told(kind, engine, wrong, caplog):
    def work():
        answer = yield get(extensions={"grate": {"tokens": 100}})
        assert answer.status_code == 200
        assert used(engine, "a")["tokens"] == 100

    with upstreams.server(fine) as a:
        kind(engine, {"a": a, "b": a}, usage=wrong).run(work())
    assert "counts as estimated" in caplog.text
    assert settled(engine).completions == 1


@both
def test_waiting(kind):
    def work():
        begin = time.monotonic()
        for _ in range(2):
            assert (yield get()).status_code == 200
        assert 0.3 < time.monotonic() - begin

    slow = config(a=[{"dimension": "requests", "limit": 2, "window": "second", "strategy": "token_bucket", "burst": 1}])
    with upstreams.server(fine) as a, grate.Engine(slow) as engine:
        kind(engine, {"a": a}).run(work())
        settled(engine)


@both
def test_waiting_for_a_slot(kind):
    """It is free when its lease ends. When that is expected, in 10 minutes as nothing has ended yet, is but a guess."""

    def work():
        held = engine.acquire("api")
        timer = threading.Timer(0.1, held.complete)
        timer.start()
        assert (yield get()).status_code == 200
        timer.join()
        engine.acquire("api")
        begin = time.monotonic()
        error = yield get()
        assert isinstance(error, grate.NoAvailableProviders) and error.reason == "concurrency"
        assert 0.3 <= time.monotonic() - begin < 3

    with upstreams.server(fine) as a, grate.Engine(config(a=[quota(1, "concurrency")])) as engine:
        kind(engine, {"a": a}, max_wait_secs=0.3).run(work())


@both
@pytest.mark.parametrize("more", [{}, {"b": [quota(1, "concurrency")]}], ids=["gives back", "frees another"])
def test_waiting_for_a_quota_sees_leases_end(kind, more):
    """Of an hour, which a lease may give back at any time; another provider may become free, too."""

    def work():
        for lease in leases[-1:]:
            timer = threading.Timer(0.1, lease.cancel)
            timer.start()
            answer = yield get()
            assert answer.extensions["grate"]["provider"] == lease.provider
            timer.join()

    with upstreams.server(fine) as a, grate.Engine(config(a=[quota(1, window="hour")], **more)) as engine:
        leases = [engine.acquire("api") for _ in range(1 + len(more))]
        kind(engine, {"a": a, "b": a}, max_wait_secs=7200).run(work())


@both
def test_a_wait_that_is_too_long_is_refused_at_once(kind, engine):
    def work():
        begin = time.monotonic()
        assert isinstance((yield get()), grate.NoAvailableProviders)
        assert time.monotonic() - begin < 2

    with grate.Engine(config(a=[quota(1, window="hour")])) as engine:
        engine.acquire("api")
        kind(engine, {"a": "http://a"}, max_wait_secs=3).run(work())


@both
def test_headers_that_the_caller_changes(kind, engine):
    def tell(handler):
        handler.reply(200, b"x", X_RateLimit_Limit_Requests="50", X_RateLimit_Remaining_Requests="5")

    def change(response):
        del response.headers["x-ratelimit-remaining-requests"]

    async def async_change(response):
        change(response)

    def work():
        assert (yield get()).status_code == 200
        assert engine.remaining_quota("a", "requests") == 5

    with upstreams.server(tell) as a:
        client = kind(engine, {"a": a, "b": a})
        client.client.event_hooks = {"response": [change if kind is Sync else async_change]}
        client.run(work())


@both
@pytest.mark.parametrize("method", ["get", "GÉT"])
def test_malformed_requests_are_given_back(kind, engine, method):
    def work():
        if method == "get":
            yield "get", "http://router/", {"headers": {"x-user": "line\nbreak"}}
        else:
            error = yield "request", method, {"url": "http://router/"}
            assert isinstance(error, Exception)

    with upstreams.server(fine) as a:
        kind(engine, {"a": a, "b": a}).run(work())
    assert settled(engine).cancellations == 1
    assert engine.provider_health("a") == 1


@both
def test_a_provider_without_upstream(kind, engine):
    def work():
        assert isinstance((yield get()), grate.UnknownProvider)
        assert isinstance((yield get(extensions={"grate": {"capability": "nope"}})), grate.UnknownCapability)

    kind(engine, {}).run(work())
    assert settled(engine).cancellations == 1


@both
def test_a_scheme_that_is_none(kind, engine):
    def work():
        assert isinstance((yield get()), httpx.UnsupportedProtocol)

    kind(engine, {"a": "nonsense://127.0.0.1", "b": "nonsense://127.0.0.1"}).run(work())
    assert settled(engine).cancellations == 1


def slowly(handler):
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b"4\r\nabcd\r\n")
            time.sleep(0.02)
        handler.wfile.write(b"0\r\n\r\n")
    except OSError:
        handler.close_connection = True


def test_an_abandoned_body(engine):
    with upstreams.server(slowly) as a:
        transport = Transport(engine, "api", {"a": a, "b": a})
        with httpx.Client(transport=transport, base_url="http://api") as client:
            with client.stream("GET", "/") as answer:
                assert next(answer.iter_raw()) and engine.metrics().leases_in_flight == 1
            settled(engine)
            with pytest.raises(KeyError), client.stream("GET", "/"):
                raise KeyError
            settled(engine)
            # Not even closed: the last reference ends it.
            answer = transport.handle_request(httpx.Request("GET", "http://api/"))
            assert engine.metrics().leases_in_flight == 1
            del answer
    assert settled(engine).completions == 3
    assert engine.provider_health("a") == 1


def test_a_body_of_which_the_caller_has_enough(engine):
    """As after the "[DONE]" of an event stream: the provider has done its work."""
    engine.observe("a", "server_error")
    with upstreams.server(slowly) as a:
        transport = Transport(engine, "api", {"a": a})
        with httpx.Client(transport=transport, base_url="http://api") as client:
            with client.stream("GET", "/", extensions={"grate": {"exclude": "b"}}) as answer:
                assert next(answer.iter_raw()) == b"abcd"
    assert settled(engine).completions == 1
    assert engine.provider_state("a").consecutive_failures == 0


def test_a_body_that_is_closed_while_it_is_read(engine):
    class Slow(httpx.AsyncByteStream):
        """Closing it takes a while, as over TLS."""

        def __init__(self):
            self.closed = asyncio.Event()

        async def __aiter__(self):
            yield b"half"
            await self.closed.wait()
            raise httpx.ReadError("closed")

        async def aclose(self):
            self.closed.set()
            await asyncio.sleep(0.01)

    async def main():
        sender = httpx.MockTransport(lambda request: httpx.Response(200, stream=Slow()))
        transport = AsyncTransport(engine, "api", dict.fromkeys("ab", "http://a"), transport=sender)
        answer = await transport.handle_async_request(httpx.Request("GET", "http://api/"))
        reader = asyncio.create_task(answer.aread())
        await asyncio.sleep(0.01)
        await answer.stream.aclose()
        with pytest.raises(httpx.ReadError):
            await reader

    asyncio.run(main())
    assert settled(engine).completions == 1
    assert engine.provider_state("a").consecutive_failures == 0


def test_a_cancelled_task(engine):
    async def main(url):
        transport = AsyncTransport(engine, "api", {"a": url, "b": url})
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            for wait in (0.1, 0.3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.get("/" if wait > 0.2 else "/never"), wait)
                settled(engine)
            async with client.stream("GET", "/") as answer:
                async for _ in answer.aiter_raw():
                    break
            settled(engine)

    done = threading.Event()

    def answer(handler):
        done.wait(5) if handler.path == "/never" else slowly(handler)

    with upstreams.server(answer) as a:
        asyncio.run(main(a))
        done.set()
    assert settled(engine).completions == 3


def test_trio(engine):
    trio = pytest.importorskip("trio", reason="skipped: trio is not installed")

    async def main(refusing, accepting):
        transport = AsyncTransport(engine, "api", {"a": refusing, "b": accepting})
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            assert (await client.get("/")).status_code == 200
            with trio.move_on_after(0.2) as scope:
                await client.get("/slow")
            assert scope.cancelled_caught

    def answer(handler):
        slowly(handler) if handler.path == "/slow" else fine(handler)

    with upstreams.server(lambda handler: handler.reply(429, Retry_After="9")) as a, upstreams.server(answer) as b:
        trio.run(main, a, b)
    assert settled(engine).completions == 3


def test_an_engine_that_is_closed_meanwhile(engine):
    with upstreams.server(slowly) as a:
        with httpx.Client(transport=Transport(engine, "api", {"a": a, "b": a}), base_url="http://api") as client:
            with client.stream("GET", "/"):
                engine.close()
            with pytest.raises(grate.EngineClosed):
                client.get("/")


def test_without_httpx():
    code = (
        f"import sys; sys.path.insert(0, {str(upstreams.ROOT / 'bindings/python')!r})\n"
        "sys.modules['httpx'] = None\nimport grate\nimport grate.httpx"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError" in out.stderr and "pip install 'libgrate[httpx]'" in out.stderr
