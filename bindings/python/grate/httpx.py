"""Transports for `httpx` that send each request to the provider that libgrate chooses, and tell it what became of it.

    engine = grate.Engine(config)  # capability "chat", served by the providers "a" and "b"
    transport = grate.httpx.Transport(engine, "chat", {"a": "https://api.a.example", "b": "https://api.b.example/v2"})
    with httpx.Client(mounts={"http://chat": transport}) as client:
        client.post("http://chat/completions", json=..., extensions={"grate": {"tokens": 1200}})

Needs httpx: `pip install 'libgrate[httpx]'`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, AsyncIterator, Callable, Dict, Generator, Iterator, List, Mapping, Optional, Type, Union, cast

try:
    import anyio
    import httpx
except ImportError as missing:
    raise ImportError("grate.httpx needs httpx: pip install 'libgrate[httpx]'") from missing

from ._decision import Decision
from ._engine import Engine
from ._errors import EngineClosed, InvalidArgument, NoAvailableProviders, StaleLease, UnknownProvider
from ._types import Status

__all__ = ["AsyncTransport", "Transport", "Upstream", "Usage"]

_log = logging.getLogger("grate")

_REFUSED = (429, 503, 529)  # before anything was done: another provider may be asked
_UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
# Before anything was sent; a TypeError tells of a method that is not ASCII.
_OWN_FAULT = (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError, TypeError)
_REDIRECT = "grate.redirect"  # the extension of a request that tells which provider has redirected it
_MOST_EXCLUDED = 64  # names that a request may exclude
_GUESSED = ("concurrency", "probe")  # what holds until a lease ends: when is an estimate
# However long the wait, it looks again then: leases end when they end, on the provider that frees first or on another,
# and give back what they did not use.
_LONGEST_NAP_SECS = 0.05
_NOTHING = dict.fromkeys(("requests", "tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd"), 0)

Usage = Callable[[httpx.Response], Mapping[str, int]]
"""Tells from a whole response what it used, such as `{"tokens": 1043}`: amounts that `Engine.complete` takes."""


@dataclass(frozen=True)
class Upstream:
    """Where a provider is. `headers` replace those of the request, such as `{"Authorization": "Bearer ..."}`."""

    base_url: Union[str, httpx.URL]
    headers: Mapping[str, str] = field(default_factory=dict)


class _Redirected:
    """In place of a decision, for a redirect of a provider to itself: nobody else knows of it. It takes no lease."""

    def __init__(self, engine: Engine, provider: str) -> None:
        self._engine = engine
        self._begun = time.monotonic()
        self.provider = provider

    def complete(self, status: Optional[Status] = None, **response: Any) -> None:
        latency_ms = (time.monotonic() - self._begun) * 1e3
        self._engine.observe(self.provider, status, latency_ms=latency_ms, **response)

    def cancel(self) -> None:
        pass


class _Lease:
    """A lease that is settled once, whatever happens: at the latest when nothing refers to it any more."""

    __slots__ = ("_decision", "_open")

    def __init__(self, decision: Union[Decision, _Redirected]) -> None:
        self._decision = decision
        self._open = True

    def settle(
        self, status: Optional[Status] = None, used: Optional[Mapping[str, Any]] = None, **response: Any
    ) -> None:
        if not self._open:
            return
        self._open = False
        try:
            try:
                self._decision.complete(status, **response, **(used or {}))
            except (InvalidArgument, TypeError):
                if not used:
                    raise
                _log.exception("the usage of a response is none: it counts as estimated")
                self._decision.complete(status, **response)
        except (StaleLease, EngineClosed, UnknownProvider):
            pass  # expired, or gone with the engine or the provider: nothing is left to settle

    def give_back(self) -> None:
        """The request was not sent, and that says nothing of the provider."""
        self._open = False
        try:
            self._decision.cancel()
        except (StaleLease, EngineClosed):
            pass

    def failed(self, error: BaseException, upload: Optional[_Upload] = None) -> None:
        """Sending it, or waiting for the answer, ended so. Unless nothing was sent, it may have been counted."""
        if upload is not None and upload.failed:
            self.settle("cancelled")
        elif isinstance(error, _OWN_FAULT):
            self.give_back()
        elif isinstance(error, _UNREACHABLE):
            self.settle("server_error", _NOTHING)
        elif isinstance(error, httpx.TimeoutException):
            self.settle("timeout")
        elif isinstance(error, httpx.TransportError):
            self.settle("server_error")
        else:
            self.settle("cancelled")

    def __del__(self) -> None:
        self.settle("cancelled")


class _Upload(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of a request, which tells if it cannot be read: that may look like a failure of the connection."""

    def __init__(self, stream: Union[httpx.SyncByteStream, httpx.AsyncByteStream]) -> None:
        self._stream = stream
        self.failed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from cast(httpx.SyncByteStream, self._stream)
        except Exception:
            self.failed = True
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in cast(httpx.AsyncByteStream, self._stream):
                yield chunk
        except Exception:
            self.failed = True
            raise


class _Answer:
    """A response whose body is under way. Its end settles the lease."""

    def __init__(self, lease: _Lease, response: httpx.Response, usage: Optional[Usage]) -> None:
        self._lease = lease
        self._status = response.status_code
        self._headers = response.headers.raw  # as they came: the caller may change its own
        self._usage = usage if response.is_success else None
        self._body: List[bytes] = []

    def received(self, chunk: bytes) -> bytes:
        if self._usage is not None:
            self._body.append(chunk)
        return chunk

    def ended(self, whole: Optional[httpx.Response] = None) -> None:
        """`whole` is the response if others have read it."""
        used: Optional[Mapping[str, int]] = None
        if self._usage is not None:
            try:
                if whole is None:
                    whole = httpx.Response(self._status, headers=self._headers, content=b"".join(self._body))
                used = self._usage(whole)
            except Exception:
                _log.exception("the usage of a response cannot be told: it counts as estimated")
        self._lease.settle(used=used, http_status=self._status, headers=self._headers)

    def closed(self) -> None:
        """By the caller, who does not want more: what the provider answered is known all the same."""
        self._lease.settle(http_status=self._status, headers=self._headers)

    def failed(self, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):
            self.closed()
        else:
            self._lease.failed(error)


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, answer: _Answer) -> None:
        self._stream = stream
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._stream:
                yield self._answer.received(chunk)
        except BaseException as error:
            self._answer.failed(error)
            raise
        self._answer.ended()

    def close(self) -> None:
        try:
            self._answer.closed()  # before who is reading it hears of that as an error
        finally:
            self._stream.close()


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, answer: _Answer) -> None:
        self._stream = stream
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield self._answer.received(chunk)
        except BaseException as error:
            self._answer.failed(error)
            raise
        self._answer.ended()

    async def aclose(self) -> None:
        try:
            self._answer.closed()  # before who is reading it hears of that as an error
        finally:
            await self._stream.aclose()


@dataclass
class _Sleep:
    secs: float


@dataclass
class _Send:
    request: httpx.Request


@dataclass
class _Close:
    response: httpx.Response


@dataclass
class _Done:
    response: httpx.Response
    answer: Optional[_Answer]  # None: the lease is settled


# What one request takes, step by step, for a transport of either kind to do. Results and exceptions come back.
_Steps = Generator[Union[_Sleep, _Send, _Close], Any, _Done]


class _Router:
    def __init__(
        self,
        engine: Engine,
        capability: str,
        upstreams: Mapping[str, Union[str, httpx.URL, Upstream]],
        usage: Optional[Usage],
        max_wait_secs: float,
        max_attempts: int,
    ) -> None:
        if max_attempts < 1:
            raise InvalidArgument(f"max_attempts is {max_attempts}, and must be at least 1")
        self._engine = engine
        self._capability = capability
        self._upstreams: Dict[str, Upstream] = {}
        for name, given in upstreams.items():
            upstream = given if isinstance(given, Upstream) else Upstream(given)
            self._upstreams[name] = Upstream(httpx.URL(upstream.base_url), upstream.headers)
        self._usage = usage
        self._max_wait_secs = max_wait_secs
        self._max_attempts = max_attempts

    def steps(self, request: httpx.Request) -> _Steps:
        wish = dict(request.extensions.get("grate", {}))
        capability = wish.pop("capability", self._capability)
        exclude = wish.pop("exclude", None) or ()
        excluded = [exclude] if isinstance(exclude, str) else list(exclude)
        replayable = isinstance(request.stream, httpx.ByteStream)
        redirected = self._redirected(request)
        max_attempts = 1 if redirected else self._max_attempts
        deadline = time.monotonic() + self._max_wait_secs
        tried: List[str] = []  # the latest first
        # What the caller gets if no other provider can be asked.
        last: Union[httpx.Response, Exception, None] = None
        try:
            while True:
                # The caller's all, even if they are too many.
                exclude = (excluded + tried)[: max(len(excluded), _MOST_EXCLUDED)]
                try:
                    decision = redirected or self._engine.acquire(capability, exclude=exclude, **wish)
                except NoAvailableProviders as none:
                    left = deadline - time.monotonic()
                    if none.retry_after_ns is None or left <= 0:
                        return _give(last or none)
                    wait = none.retry_after_ns / 1e9
                    if wait > left and none.reason not in _GUESSED:
                        return _give(last or none)
                    yield _Sleep(max(min(wait, left, _LONGEST_NAP_SECS), 0.001))
                    continue
                lease = _Lease(decision)
                upstream = self._upstreams.get(decision.provider)
                if upstream is None:
                    lease.give_back()
                    raise UnknownProvider(f"no upstream was given for the provider {decision.provider!r}")
                tried.insert(0, decision.provider)
                upload = None if replayable else _Upload(request.stream)
                try:
                    if isinstance(last, httpx.Response):
                        yield _Close(last)
                    aimed = _aimed(request, upload or request.stream, upstream)
                    response: httpx.Response = yield _Send(aimed)
                except BaseException as error:
                    lease.failed(error, upload)
                    if not isinstance(error, _UNREACHABLE) or (upload and upload.failed) or len(tried) == max_attempts:
                        raise
                    last = error
                    continue
                path = _route_redirect(response, request.url, aimed.url, upstream)
                if path is not None:  # the client makes its next request of this one
                    request.extensions = {**request.extensions, _REDIRECT: (self, path, decision.provider)}
                # The client would keep it for the URL that it asked, and so send it to other providers.
                response.headers.pop("set-cookie", None)
                response.extensions["grate"] = {"provider": decision.provider, "attempts": len(tried)}
                if response.status_code not in _REFUSED or not replayable or len(tried) == max_attempts:
                    answer = _Answer(lease, response, self._usage)
                    if response.is_closed:  # read already, as of a cache or a mock: nobody will read the stream
                        answer.ended(response)
                        return _Done(response, None)
                    return _Done(response, answer)
                lease.settle(http_status=response.status_code, headers=response.headers.raw)
                last = response  # unread, as its body may stall
        except GeneratorExit:
            raise  # of a coroutine that is dropped, which can await nothing more
        except BaseException:
            if isinstance(last, httpx.Response):
                yield _Close(last)
            raise

    def _redirected(self, request: httpx.Request) -> Optional[_Redirected]:
        router, path, provider = request.extensions.get(_REDIRECT, (None, b"", ""))
        if router is not self or path != request.url.raw_path:
            return None
        return _Redirected(self._engine, provider)


def _give(last: Union[httpx.Response, Exception]) -> _Done:
    if isinstance(last, Exception):
        raise last
    return _Done(last, None)


def _path(base: httpx.URL) -> bytes:
    return base.raw_path.partition(b"?")[0].rstrip(b"/")


def _aimed(
    request: httpx.Request, stream: Union[httpx.SyncByteStream, httpx.AsyncByteStream], upstream: Upstream
) -> httpx.Request:
    """The request as the provider gets it."""
    base = cast(httpx.URL, upstream.base_url)
    path, _, query = request.url.raw_path.partition(b"?")
    given = query.split(b"&") if query else []
    # A redirect that was followed may bring the base's own parameters along.
    query = b"&".join([own for own in base.query.split(b"&") if own and own not in given] + given)
    url = base.copy_with(raw_path=_path(base) + path + (b"?" + query if query else b""))
    headers = request.headers.copy()
    headers["Host"] = base.netloc.decode("ascii")
    headers.update(upstream.headers)
    return httpx.Request(request.method, url, headers=headers, stream=stream, extensions=request.extensions)


def _route_redirect(response: httpx.Response, asked: httpx.URL, sent: httpx.URL, upstream: Upstream) -> Optional[bytes]:
    """A redirect is relative to the URL that was sent, of which the client knows nothing. One of a provider to itself
    leads back to where the client asked: with this path, which then is this provider's."""
    try:
        target = sent.join(response.headers["location"])
    except (KeyError, httpx.InvalidURL):
        return None
    base = _path(cast(httpx.URL, upstream.base_url))
    rest = target.raw_path[len(base) :]
    same = (target.scheme, target.raw_host, target.port) == (sent.scheme, sent.raw_host, sent.port)
    same = same and target.raw_path.startswith(base) and rest[:1] in (b"", b"/", b"?")
    if same:
        rest = rest if rest.startswith(b"/") else b"/" + rest
        target = asked.copy_with(raw_path=rest, fragment=target.fragment or None)
    response.headers["location"] = str(target)
    return target.raw_path if same and response.has_redirect_location else None


class Transport(httpx.BaseTransport):
    """Routes the requests of an `httpx.Client` over the providers of a capability.

    `upstreams` tells where each provider is: a URL or an `Upstream`; path and query of a request are appended to its
    own. A request says more in its extension `grate`, a dict of what `Engine.acquire` takes (`tokens`, `exclude`,
    `headroom`, ...), or another `capability`. The extension `grate` of a response has `provider` and `attempts`.

    A request that could not be sent goes to another provider; so does one that was refused (429, 503, 529), unless its
    body is a stream, which cannot be sent again. It is sent at most `max_attempts` times. When nothing is available the
    transport waits, at most `max_wait_secs` seconds per request, and looks again every 50 ms: when the leases of others
    end nobody knows. If no other provider can be asked, the caller gets the last refusal or error, or
    `NoAvailableProviders`.

    Each lease is settled with status, headers and time when the body of the answer ends, fails or is closed. `usage`
    tells how many tokens it was; for it, bodies are kept until they end. `transport` does the sending (None is
    `httpx.HTTPTransport()`) and is closed with this one. May be used on several threads, as a client may.
    """

    def __init__(
        self,
        engine: Engine,
        capability: str,
        upstreams: Mapping[str, Union[str, httpx.URL, Upstream]],
        *,
        usage: Optional[Usage] = None,
        max_wait_secs: float = 10.0,
        max_attempts: int = 4,
        transport: Optional[httpx.BaseTransport] = None,
    ) -> None:
        self._router = _Router(engine, capability, upstreams, usage, max_wait_secs, max_attempts)
        self._transport = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        steps = self._router.steps(request)
        try:
            step = next(steps)
            while True:
                try:
                    result = self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            done: _Done = stop.value
        if done.answer is not None:
            done.response.stream = _Body(cast(httpx.SyncByteStream, done.response.stream), done.answer)
        return done.response

    def _do(self, step: Union[_Sleep, _Send, _Close]) -> Any:
        if isinstance(step, _Sleep):
            return time.sleep(step.secs)
        if isinstance(step, _Send):
            return self._transport.handle_request(step.request)
        return step.response.close()

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Transport:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        trace: Optional[TracebackType] = None,
    ) -> None:
        self._transport.__exit__(kind, error, trace)


class AsyncTransport(httpx.AsyncBaseTransport):
    """The same for an `httpx.AsyncClient`, on asyncio or trio. A task that is cancelled settles its lease."""

    def __init__(
        self,
        engine: Engine,
        capability: str,
        upstreams: Mapping[str, Union[str, httpx.URL, Upstream]],
        *,
        usage: Optional[Usage] = None,
        max_wait_secs: float = 10.0,
        max_attempts: int = 4,
        transport: Optional[httpx.AsyncBaseTransport] = None,
    ) -> None:
        self._router = _Router(engine, capability, upstreams, usage, max_wait_secs, max_attempts)
        self._transport = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        steps = self._router.steps(request)
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            done: _Done = stop.value
        if done.answer is not None:
            done.response.stream = _AsyncBody(cast(httpx.AsyncByteStream, done.response.stream), done.answer)
        return done.response

    async def _do(self, step: Union[_Sleep, _Send, _Close]) -> Any:
        if isinstance(step, _Sleep):
            return await anyio.sleep(step.secs)
        if isinstance(step, _Send):
            return await self._transport.handle_async_request(step.request)
        return await step.response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncTransport:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        error: Optional[BaseException] = None,
        trace: Optional[TracebackType] = None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)
