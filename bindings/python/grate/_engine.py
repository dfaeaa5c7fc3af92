"""The engine and its decisions."""

from __future__ import annotations

import ctypes
import json
import os
import weakref
from ctypes import addressof, byref, c_double, c_int32, c_uint64, c_void_p
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, Mapping, NoReturn, Optional, Type, Union

from . import _native
from ._clock import Clock
from ._config import CapabilityConfig, Config, ProviderConfig
from ._decision import Decision
from ._errors import EngineClosed, ForkedEngine, GrateError, InvalidArgument, InvalidConfig, NoAvailableProviders, error
from ._marshal import (
    REQUEST_SIZE,
    WRONG,
    Handle,
    Headers,
    Scratch,
    amount,
    encode,
    engine_config,
    fill_response,
    header_array,
    invalid,
    known,
    name_array,
    names,
    pack_request,
    pool,
    read_candidates,
    read_quota,
)
from ._types import CIRCUITS, DIMENSIONS, Dimension, Metrics, ProviderState, Status

_lib = _native.lib
_acquire = _lib.grate_engine_acquire
_select = _lib.grate_engine_select
_complete = _lib.grate_engine_complete
_cancel = _lib.grate_engine_cancel
_observe = _lib.grate_engine_observe

_NONE_AVAILABLE = _native.ERR_NO_PROVIDER_AVAILABLE
_MAX_QUOTAS = 32  # of a provider


class Engine:
    """Providers, capabilities, quotas, health and leases. All methods may be called on any thread at any time.

    `config` is applied as by `configure`. `clock` is a `MockClock` for tests, or a `Clock`; None is the system's time.

    `state_path` is a file in which the state lives, shared by all processes of this host that give the same path, and
    kept over restarts; if it is not there, it is made with `state_size` bytes (None: 16 MiB). None: the state is this
    engine's own. A file that cannot be used raises `StateFileError`, or is replaced with `replace_unusable_state`.
    """

    __slots__ = ("_handle", "_forked", "__weakref__")

    def __init__(
        self,
        config: Union[Config, Mapping[str, Any], str, bytes, None] = None,
        clock: Optional[Clock] = None,
        *,
        state_path: Union[str, bytes, os.PathLike[str], None] = None,
        state_size: Optional[int] = None,
        replace_unusable_state: bool = False,
    ) -> None:
        self._handle: Optional[Handle] = None
        self._forked = False
        settings = engine_config(clock, state_path, state_size, replace_unusable_state)
        pointer = c_void_p()
        failed = _native.Error(ctypes.sizeof(_native.Error))
        code = _lib.grate_engine_new(byref(settings), byref(pointer), byref(failed))
        if code:
            raise error(code, failed.message.decode("utf-8", "replace"))
        self._handle = Handle(pointer, clock)
        if state_path is None:
            _private.add(self)
        if config is not None:
            self.configure(config)

    def close(self) -> None:
        """Frees the engine, after calls that other threads have under way. Leases need not be settled before."""
        self._handle = None

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more: `close` was called, or it belongs to the process that forked this one."""
        return self._handle is None

    def _gone(self) -> EngineClosed:
        if self._forked:
            return ForkedEngine(
                "this engine was made before a fork and is the parent's: make one in the child, or with a state_path"
            )
        return EngineClosed()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine cannot be copied or sent to another process: make one there")

    # ---------------------------------------------------------------- configuration

    def configure(self, config: Union[Config, Mapping[str, Any], str, bytes]) -> None:
        """Applies a configuration, whole or not at all: a dict in the JSON form, or a JSON document as text.

        It registers or changes what it names and leaves the rest, or, with `"replace": True`, removes what it does not
        name. Usage, health and leases are kept.
        """
        if isinstance(config, bytes):
            document = config
        elif isinstance(config, str):
            document = config.encode(errors="surrogatepass")  # the library refuses what is not UTF-8
        else:
            try:
                document = json.dumps(config, allow_nan=False, default=_as_dict).encode()
            except ValueError as failed:
                raise InvalidConfig(str(failed)) from None
        self._cold(_lib.grate_engine_configure_json, document, len(document))

    def upsert_provider(self, provider: Union[ProviderConfig, Mapping[str, Any]]) -> None:
        """Registers a provider, or changes one: one of the `providers` of a configuration."""
        self.configure({"providers": [provider]})

    def upsert_capability(self, capability: Union[CapabilityConfig, Mapping[str, Any]]) -> None:
        """Registers a capability, or replaces its list of providers: one of the `capabilities` of a configuration."""
        self.configure({"capabilities": [capability]})

    def remove_provider(self, name: str) -> None:
        """Removes a provider, also from every capability. Its leases can still be settled."""
        self._cold(_lib.grate_engine_remove_provider, encode(name))

    def remove_capability(self, name: str) -> None:
        """Removes a capability; its providers and leases stay."""
        self._cold(_lib.grate_engine_remove_capability, encode(name))

    # ---------------------------------------------------------------- routing

    def select(
        self,
        capability: str,
        *,
        tokens: Optional[int] = None,
        input_tokens: Optional[int] = None,
        output_tokens: Optional[int] = None,
        bytes: Optional[int] = None,
        cost_micro_usd: Optional[int] = None,
        exclude: Optional[Iterable[str]] = None,
        headroom: float = 0.0,
        explain: bool = False,
    ) -> Decision:
        """Chooses a provider and changes nothing: a look, not a promise. Arguments and errors as for `acquire`."""
        return self._route(
            _select, capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom, explain
        )

    def acquire(
        self,
        capability: str,
        *,
        tokens: Optional[int] = None,
        input_tokens: Optional[int] = None,
        output_tokens: Optional[int] = None,
        bytes: Optional[int] = None,
        cost_micro_usd: Optional[int] = None,
        exclude: Optional[Iterable[str]] = None,
        headroom: float = 0.0,
        explain: bool = False,
    ) -> Decision:
        """Chooses a provider and reserves one request, the estimated usage and a concurrency slot, all or nothing.

        `exclude` names providers that must not be chosen, such as the one that just failed. `headroom` is the share of
        every quota that must stay free: batch work with 0.3 leaves 30 %. `explain` also records the other providers.

        Settle the decision with `complete` or `cancel`, or use it as a context manager. Raises `NoAvailableProviders`,
        `UnknownCapability`, `InvalidArgument`, `CapacityExceeded`.
        """
        return self._route(
            _acquire, capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom, explain
        )

    def _route(
        self,
        function: Callable[..., int],
        capability: str,
        tokens: Optional[int],
        input_tokens: Optional[int],
        output_tokens: Optional[int],
        bytes_: Optional[int],
        cost_micro_usd: Optional[int],
        exclude: Optional[Iterable[str]],
        headroom: float,
        explain: bool,
    ) -> Decision:
        handle = self._handle
        if handle is None:
            raise self._gone()
        name = names.get(capability) or encode(capability)
        excluded = name_array(exclude) if exclude else None
        try:
            s = pool.pop()
        except IndexError:
            s = Scratch()
        try:
            if input_tokens is output_tokens is bytes_ is cost_micro_usd is excluded is None and headroom == 0:
                s.request_words[1] = 0 if tokens is None else amount(tokens)
                request = s.request_ref
            else:
                pack_request(
                    s.full_request,
                    0,
                    REQUEST_SIZE,
                    0,
                    0 if tokens is None else amount(tokens),
                    0 if input_tokens is None else amount(input_tokens),
                    0 if output_tokens is None else amount(output_tokens),
                    0 if bytes_ is None else amount(bytes_),
                    0 if cost_micro_usd is None else amount(cost_micro_usd),
                    headroom,
                    0 if excluded is None else addressof(excluded),
                    0 if excluded is None else len(excluded),
                )
                request = s.full_request_ref
        except WRONG as wrong:
            raise invalid(wrong) from None
        if explain:
            decision = s.explaining()
            code = function(handle.pointer, name, request, s.explained_ref, s.error_ref)
        else:
            decision = s.decision
            code = function(handle.pointer, name, request, s.decision_ref, s.error_ref)
        if code and code != _NONE_AVAILABLE:
            failed = s.failure(code)
            pool.append(s)
            raise failed
        if explain:
            raw = bytes(decision)
            candidates = read_candidates(handle, s, decision.candidates_len)
        else:
            raw = s.decision_bytes.tobytes()
            candidates = None
        made = Decision(self, handle.provider(decision.provider), raw, candidates)
        pool.append(s)
        if code:
            raise NoAvailableProviders(made)
        return made

    def complete(
        self,
        lease: Union[Decision, int],
        status: Optional[Status] = None,
        http_status: Optional[int] = None,
        latency_ms: Optional[float] = None,
        tokens: Optional[int] = None,
        input_tokens: Optional[int] = None,
        output_tokens: Optional[int] = None,
        requests: Optional[int] = None,
        bytes: Optional[int] = None,
        cost_micro_usd: Optional[int] = None,
        retry_after_ms: Optional[float] = None,
        headers: Optional[Headers] = None,
    ) -> None:
        """Settles the lease of a request that was sent: frees its slot, corrects the estimate to the actual usage, and
        learns from the outcome.

        `status` is one of `Status`. Without it the library tells from `http_status`; without both it is a success.
        Usage that is not given is as estimated (none, of a request that was refused); 0 is a true zero.
        `latency_ms` that is not given is the time since `acquire`. `headers` are those of the response, as a mapping
        or as pairs, str or bytes. Raises `StaleLease`, `InvalidArgument`.
        """
        handle = self._handle
        if handle is None:
            raise self._gone()
        number = self._lease(lease) if isinstance(lease, Decision) else lease
        fields = header_array(headers) if headers else None
        try:
            s = pool.pop()
        except IndexError:
            s = Scratch()
        try:
            s.lease_words[0] = number
            fill_response(
                s,
                status,
                http_status,
                latency_ms,
                tokens,
                input_tokens,
                output_tokens,
                requests,
                bytes,
                cost_micro_usd,
                retry_after_ms,
                fields,
            )
        except WRONG as wrong:
            raise invalid(wrong) from None
        code = _complete(handle.pointer, s.lease, s.response_ref, s.error_ref)
        if code:
            failed = s.failure(code)
            pool.append(s)
            raise failed
        pool.append(s)
        if isinstance(lease, Decision):
            lease._settled = True

    def cancel(self, lease: Union[Decision, int]) -> None:
        """Gives the lease of a request back that was not sent, with all it reserved. Raises `StaleLease`."""
        handle = self._handle
        if handle is None:
            raise self._gone()
        number = self._lease(lease) if isinstance(lease, Decision) else lease
        try:
            s = pool.pop()
        except IndexError:
            s = Scratch()
        try:
            s.lease_words[0] = number
        except WRONG as wrong:
            raise invalid(wrong) from None
        code = _cancel(handle.pointer, s.lease, s.error_ref)
        if code:
            failed = s.failure(code)
            pool.append(s)
            raise failed
        pool.append(s)
        if isinstance(lease, Decision):
            lease._settled = True

    def observe(
        self,
        provider: str,
        status: Optional[Status] = None,
        http_status: Optional[int] = None,
        latency_ms: Optional[float] = None,
        tokens: Optional[int] = None,
        input_tokens: Optional[int] = None,
        output_tokens: Optional[int] = None,
        requests: Optional[int] = None,
        bytes: Optional[int] = None,
        cost_micro_usd: Optional[int] = None,
        retry_after_ms: Optional[float] = None,
        headers: Optional[Headers] = None,
    ) -> None:
        """Reports a request that was sent without a lease. Arguments as for `complete`. Raises `UnknownProvider`,
        `InvalidArgument`."""
        handle = self._handle
        if handle is None:
            raise self._gone()
        name = names.get(provider) or encode(provider)
        fields = header_array(headers) if headers else None
        try:
            s = pool.pop()
        except IndexError:
            s = Scratch()
        try:
            fill_response(
                s,
                status,
                http_status,
                latency_ms,
                tokens,
                input_tokens,
                output_tokens,
                requests,
                bytes,
                cost_micro_usd,
                retry_after_ms,
                fields,
            )
        except WRONG as wrong:
            raise invalid(wrong) from None
        code = _observe(handle.pointer, name, s.response_ref, s.error_ref)
        if code:
            failed = s.failure(code)
            pool.append(s)
            raise failed
        pool.append(s)

    def _lease(self, decision: Decision) -> int:
        # Lease numbers of two engines look alike: here the mistake can still be seen.
        if decision._engine is not self:
            raise InvalidArgument("this decision was made by another engine")
        return decision.lease

    # ---------------------------------------------------------------- inspection

    def provider_health(self, provider: str) -> float:
        """Health now, from 0 to 1."""
        out = c_double()
        self._cold(_lib.grate_engine_provider_health, encode(provider), byref(out))
        return out.value

    def provider_in_cooldown(self, provider: str) -> bool:
        """Whether it is cooling down now."""
        out = c_int32()
        self._cold(_lib.grate_engine_provider_in_cooldown, encode(provider), byref(out))
        return bool(out.value)

    def remaining_quota(self, provider: str, dimension: Dimension) -> Optional[int]:
        """How many units may be reserved now: the least over its quotas of that dimension, None if it has none."""
        if dimension not in DIMENSIONS or dimension is None:
            raise InvalidArgument(f"unknown dimension {dimension!r}, expected one of {', '.join(known(DIMENSIONS))}")
        out = c_uint64()
        code = DIMENSIONS.index(dimension)
        self._cold(_lib.grate_engine_remaining_quota, encode(provider), code, byref(out))
        return None if out.value == _native.UNLIMITED else out.value

    def provider_state(self, provider: str) -> ProviderState:
        """All that is known of a provider and of its quotas."""
        quotas = (_native.QuotaState * _MAX_QUOTAS)()
        quotas[0].struct_size = ctypes.sizeof(_native.QuotaState)
        out = _native.ProviderState(ctypes.sizeof(_native.ProviderState), quotas=quotas, quotas_capacity=_MAX_QUOTAS)
        handle = self._cold(_lib.grate_engine_provider_state, encode(provider), byref(out))
        rows = tuple(read_quota(row) for row in quotas[: out.quotas_len])
        del handle  # not earlier: the names of the pools live as long
        return ProviderState(
            circuit=CIRCUITS[out.circuit], quotas=rows, **{field: getattr(out, field) for field in _PROVIDER_FIELDS}
        )

    def metrics(self) -> Metrics:
        """The engine's counters."""
        out = _native.Metrics(ctypes.sizeof(_native.Metrics))
        self._cold(_lib.grate_engine_metrics, byref(out))
        return Metrics(**{field: getattr(out, field) for field in Metrics.__dataclass_fields__})

    def prometheus(self) -> str:
        """All metrics in the Prometheus text format, engine-wide and per provider."""
        handle = self._handle
        if handle is None:
            raise self._gone()
        length, failed = c_uint64(8192), _native.Error(ctypes.sizeof(_native.Error))
        while True:
            buffer = ctypes.create_string_buffer(length.value + 1)
            code = _lib.grate_engine_prometheus(handle.pointer, buffer, len(buffer), byref(length), byref(failed))
            if code == _native.OK:
                return buffer.raw[: length.value].decode()
            if code != _native.ERR_BUFFER_TOO_SMALL:
                raise error(code, failed.message.decode("utf-8", "replace"))

    def _cold(self, function: Callable[..., int], *arguments: Any) -> Handle:
        """A call that need not be fast."""
        handle = self._handle
        if handle is None:
            raise self._gone()
        failed = _native.Error(ctypes.sizeof(_native.Error))
        code = function(handle.pointer, *arguments, byref(failed))
        if code:
            raise error(code, failed.message.decode("utf-8", "replace"))
        return handle


_PROVIDER_FIELDS = tuple(f for f in ProviderState.__dataclass_fields__ if f not in ("circuit", "quotas"))


def _as_dict(value: Any) -> Dict[Any, Any]:
    """A mapping of another kind, which `json` does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a configuration cannot have a {type(value).__name__}")


def status_name(code: int) -> str:
    """The symbolic name of a status code, such as `"GRATE_ERR_STALE_LEASE"`."""
    return GrateError("", code).name


def library_version() -> str:
    """Version of the library that is loaded."""
    text: bytes = _lib.grate_version_string()
    return text.decode()


# A fork copies engines without a state file, and with them the belief to have all of their quotas. A hook at the fork
# costs calls nothing.
_private: weakref.WeakSet[Engine] = weakref.WeakSet()


def _disown() -> None:
    for engine in list(_private):
        handle = engine._handle
        if handle is not None:
            engine._forked = True
            engine._handle = None
            handle.disown()
    _private.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
