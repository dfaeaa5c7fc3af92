"""How arguments and results cross the boundary."""

from __future__ import annotations

import ctypes
import os
import struct
from ctypes import addressof, byref, c_char_p, c_uint64, c_void_p
from operator import index
from typing import Any, Callable, Dict, Iterable, List, Optional, Protocol, Tuple, Union

from . import _native
from ._clock import Clock
from ._errors import GrateError, InvalidArgument, InvalidName, error
from ._types import DIMENSIONS, HELD_BY, OUTCOMES, STRATEGIES, Breakdown, Candidate, QuotaState, Status


class _HasItems(Protocol):
    def items(self) -> Iterable[Tuple[Any, Any]]: ...


Headers = Union[_HasItems, Iterable[Tuple[Any, Any]]]

# What packing a number that does not fit raises.
WRONG = (TypeError, ValueError, OverflowError, struct.error)

MAX_CANDIDATES = 1024  # of a decision that explains itself; the best ones if a capability has more

pack_request = _native.packer(_native.Request).pack_into
_pack_response = _native.packer(_native.Response).pack_into
_candidate_layout = _native.packer(_native.Candidate)
REQUEST_SIZE = ctypes.sizeof(_native.Request)
_RESPONSE_SIZE = ctypes.sizeof(_native.Response)
_DECISION_SIZE = ctypes.sizeof(_native.Decision)
_CANDIDATE_SIZE = ctypes.sizeof(_native.Candidate)
_ZERO = _native.ZERO


class Scratch:
    """Arguments of one call, made once. Whoever takes one from the pool has it alone until it puts it back."""

    __slots__ = (
        "request",
        "request_words",
        "request_ref",
        "full_request",
        "full_request_ref",
        "decision",
        "decision_bytes",
        "decision_ref",
        "explained",
        "explained_ref",
        "candidates",
        "response",
        "response_ref",
        "lease",
        "lease_words",
        "error",
        "error_ref",
    )

    def __init__(self) -> None:
        # In `request` only the tokens (word 1) ever change: the common case. All else goes through `full_request`.
        self.request = _native.Request(REQUEST_SIZE)
        self.request_words = memoryview(self.request).cast("B").cast("Q")
        self.request_ref = byref(self.request)
        self.full_request = _native.Request(REQUEST_SIZE)
        self.full_request_ref = byref(self.full_request)
        self.decision = _native.Decision(_DECISION_SIZE)
        self.decision_bytes = memoryview(self.decision).cast("B")
        self.decision_ref = byref(self.decision)
        self.explained: Optional[_native.Decision] = None
        self.explained_ref: Any = None
        self.candidates: Any = None
        self.response = _native.Response(_RESPONSE_SIZE)
        self.response_ref = byref(self.response)
        self.lease = c_uint64()
        self.lease_words = memoryview(self.lease).cast("B").cast("Q")
        self.error = _native.Error(ctypes.sizeof(_native.Error))
        self.error_ref = byref(self.error)

    def explaining(self) -> _native.Decision:
        """The decision that has room for candidates."""
        if self.explained is None:
            self.candidates = (_native.Candidate * MAX_CANDIDATES)()
            self.candidates[0].struct_size = _CANDIDATE_SIZE
            self.explained = _native.Decision(
                _DECISION_SIZE, candidates=addressof(self.candidates), candidates_capacity=MAX_CANDIDATES
            )
            self.explained_ref = byref(self.explained)
        return self.explained

    def failure(self, code: int) -> GrateError:
        message = self.error.message.decode("utf-8", "replace")
        return error(code, message)


# A list, not thread-local storage: pop and append are atomic, cheaper, and right even if a signal handler or a
# finalizer calls the engine in the middle of another call. It grows to the number of calls at one time.
pool: List[Scratch] = []

# Encoded names. There are few; should a caller invent one per request, the cache starts anew now and then.
names: Dict[str, bytes] = {}
_MAX_NAMES = 4096


def encode(name: str) -> bytes:
    known = names.get(name)
    if known is not None:
        return known
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {type(name).__name__}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InvalidName(f"{name!r} is not valid Unicode") from None
    if b"\0" in encoded:
        raise InvalidName(f"{name!r} contains a NUL character")
    if len(names) >= _MAX_NAMES:
        names.clear()
    names[name] = encoded
    return encoded


class Handle:
    """Owns the engine of the library. Calls under way refer to it, so that it is freed after the last of them,
    whatever thread closes the engine meanwhile."""

    __slots__ = ("pointer", "address", "providers", "clock")

    def __init__(self, pointer: c_void_p, clock: Optional[Clock]) -> None:
        self.pointer = pointer  # for functions without argument types, which would cut a number to 32 bits
        self.address: int = pointer.value or 0
        self.clock = clock  # the functions of a `Clock` are called as long as the engine lives
        # Names by address: they stay where they are as long as the engine. No name, that of an empty capability, is "".
        self.providers: Dict[Optional[int], str] = {0: "", None: ""}

    def provider(self, address: Optional[int]) -> str:
        name = self.providers.get(address)
        if name is None:
            assert address is not None
            name = self.providers[address] = ctypes.string_at(address).decode()
        return name

    def disown(self) -> None:
        """In a forked child: the engine is the parent's, and is not freed here."""
        self.pointer.value = None
        self.address = 0

    def __del__(self, _free: Callable[[int], None] = _native.lib.grate_engine_free) -> None:
        # Bound as a default: at the exit of the interpreter the module may be gone already.
        address = self.address
        self.disown()  # the finalizers of garbage run in any order: another may still call the engine
        _free(address)


def engine_config(
    clock: Optional[Clock],
    state_path: Union[str, bytes, os.PathLike[str], None],
    state_size: Optional[int],
    replace_unusable_state: bool,
) -> _native.EngineConfig:
    """What an engine is made with. None is 0, "not given", there."""
    config = _native.EngineConfig(ctypes.sizeof(_native.EngineConfig))
    if clock is not None:
        config.clock = clock._pointer
    if state_path is not None:
        path = os.fsencode(state_path)
        if b"\0" in path:
            raise InvalidArgument("state_path contains a NUL character")
        config.state_path = path
    if state_size is not None:
        if not 0 <= state_size <= _native.ZERO:
            raise InvalidArgument(f"state_size is {state_size}, which is out of its range")
        config.state_size = state_size
    if replace_unusable_state:
        config.state_flags = _native.STATE_REPLACE_UNUSABLE
    return config


def waiting(ns: int) -> Optional[int]:
    return None if ns == _native.NEVER else ns


def read_candidates(handle: Handle, s: Scratch, count: int) -> Tuple[Candidate, ...]:
    rows = memoryview(s.candidates).cast("B")[: count * _CANDIDATE_SIZE]
    return tuple(
        Candidate(
            handle.provider(r[2]),
            r[3],
            Breakdown(*r[4:8]),
            r[8],
            HELD_BY[r[1]],
            waiting(r[9]),
            DIMENSIONS[r[10]],
            r[12],
            r[11],
        )
        for r in _candidate_layout.iter_unpack(rows)
    )


def read_quota(row: _native.QuotaState) -> QuotaState:
    dimension = DIMENSIONS[row.dimension]
    assert dimension is not None
    return QuotaState(
        dimension=dimension,
        strategy=STRATEGIES[row.strategy],
        limit=None if row.limit == _native.UNLIMITED else row.limit,
        window_ns=row.window_ns,
        used=row.used,
        remaining=row.remaining,
        predicted_share=row.predicted_share,
        burn_per_sec=row.burn_per_sec,
        seconds_to_exhaustion=row.seconds_to_exhaustion,
        pool=None if row.pool is None else row.pool.decode(),
        effective_limit=row.effective_limit,
        limit_source=("configured", "learned", "told")[row.limit_source],
        margin=row.margin,
    )


def fill_response(
    s: Scratch,
    status: Optional[Status],
    http_status: Optional[int],
    latency_ms: Optional[float],
    tokens: Optional[int],
    input_tokens: Optional[int],
    output_tokens: Optional[int],
    requests: Optional[int],
    bytes_: Optional[int],
    cost_micro_usd: Optional[int],
    retry_after_ms: Optional[float],
    headers: Optional[Tuple[int, int, Any]],
) -> None:
    """Writes the response of `s`. None is 0, "not given", there."""
    outcome = OUTCOMES.get(status)
    if outcome is None:
        raise ValueError(f"unknown status {status!r}, expected one of {', '.join(known(OUTCOMES))}")
    if http_status is None:
        http_status = 0
        if status is None:
            outcome = OUTCOMES["success"]
    _pack_response(
        s.response,
        0,
        _RESPONSE_SIZE,
        outcome,
        http_status,
        0,
        0 if latency_ms is None else _nanoseconds(latency_ms),
        0 if retry_after_ms is None else _nanoseconds(retry_after_ms),
        0 if requests is None else amount(requests),
        0 if tokens is None else amount(tokens),
        0 if input_tokens is None else amount(input_tokens),
        0 if output_tokens is None else amount(output_tokens),
        0 if bytes_ is None else amount(bytes_),
        0 if cost_micro_usd is None else amount(cost_micro_usd),
        0 if headers is None else headers[0],
        0 if headers is None else headers[1],
    )


def _nanoseconds(ms: float) -> int:
    """Exact for integers, also those of NumPy, whose own products may overflow."""
    return amount(round((index(ms) if hasattr(ms, "__index__") else ms) * 1_000_000))


def amount(given: int) -> int:
    """As the structs hold it: 0 is "not given" there, and GRATE_ZERO a true zero, so that it cannot be given itself."""
    number = index(given)
    if not 0 <= number < _ZERO:
        raise ValueError(number)
    return number or _ZERO


def header_array(headers: Headers) -> Optional[Tuple[int, int, Any]]:
    """An array of grate_header as address and length, and what keeps it alive; None for no headers.

    A response has dozens of fields, so the bytes are made in one go: in Latin-1, as HTTP libraries read them, a
    character is a byte, and lengths and addresses follow from the text.
    """
    pairs = headers.items() if hasattr(headers, "items") else headers
    texts = [
        t if t.__class__ is str else t.decode("latin-1") if isinstance(t, bytes) else str(t)
        for name, value in pairs
        for t in (name, value)
    ]
    if not texts:
        return None
    # What cannot have come over the wire must not keep a lease from being settled: hence "replace".
    blob = c_char_p("".join(texts).encode("latin-1", "replace"))
    at = _address(blob)
    words: List[int] = []
    for text in texts:
        length = len(text)
        words += (at, length)
        at += length
    rows = c_char_p(_native.packed_words(words))
    return _address(rows), len(texts) // 2, (blob, rows)


def _address(text: c_char_p) -> int:
    address: int = c_void_p.from_buffer(text).value or 0
    return address


def name_array(given: Iterable[str]) -> Any:
    if isinstance(given, str):
        given = (given,)  # or its letters would be the names
    encoded = [encode(name) for name in given]
    return (c_char_p * len(encoded))(*encoded)


def known(names: Iterable[Optional[str]]) -> List[str]:
    return [name for name in names if name is not None]


def invalid(wrong: Exception) -> InvalidArgument:
    return InvalidArgument(f"a status, time or amount is out of its range: {wrong}")
