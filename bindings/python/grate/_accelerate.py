"""Puts the methods of `_fast.c`, if there are any, over the pure ones, to which they leave all that is unusual."""

from __future__ import annotations

import ctypes
from typing import Any, NoReturn, Tuple, Type

from . import _native
from ._decision import Decision
from ._engine import Engine
from ._errors import NoAvailableProviders

_ESTIMATE = ("tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd")
_USAGE = ("requests", *_ESTIMATE)


def _raise_none_available(decision: Decision) -> NoReturn:
    raise NoAvailableProviders(decision)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _initial(layout: Type[ctypes.Structure]) -> bytes:
    return bytes(layout(ctypes.sizeof(layout)))


def _fields(layout: Type[ctypes.Structure], *names: str) -> Tuple[Tuple[str, int, bool], ...]:
    return tuple((name, getattr(layout, name).offset, name == "http_status") for name in names)


def _replace(fast: Any, place: int, kind: type, name: str, signature: str) -> None:
    slow = getattr(kind, name)
    fast.replace(place, kind, slow, f"{name}($self, {signature})\n--\n\n{slow.__doc__}".encode())


def _install(fast: Any) -> None:
    lib = _native.lib
    functions = (lib.grate_engine_select, lib.grate_engine_acquire, lib.grate_engine_complete)
    fast.bind(
        tuple(_address(function) for function in functions),
        _initial(_native.Request),
        _fields(_native.Request, *_ESTIMATE),
        _initial(_native.Response),
        _fields(_native.Response, "http_status", *_USAGE),
        _initial(_native.Decision),
        _native.Decision.lease.offset,
        _native.Decision.provider.offset,
        _native.ERR_NO_PROVIDER_AVAILABLE,
        _raise_none_available,
        Decision,
        Engine,
    )
    estimate = "capability, *, tokens=None, input_tokens=None, output_tokens=None, bytes=None, cost_micro_usd=None"
    request = f"{estimate}, exclude=None, headroom=0.0, explain=False"
    usage = "tokens=None, input_tokens=None, output_tokens=None, requests=None, bytes=None, cost_micro_usd=None"
    response = f"status=None, http_status=None, latency_ms=None, {usage}, retry_after_ms=None, headers=None"
    _replace(fast, 0, Engine, "select", request)
    _replace(fast, 1, Engine, "acquire", request)
    _replace(fast, 2, Engine, "complete", f"lease, {response}")
    _replace(fast, 3, Decision, "complete", response)


if _native.fast is not None:
    _install(_native.fast)
