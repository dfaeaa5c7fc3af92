"""The C library: where it is found, and its structs as ctypes sees them. Nothing here is public."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import struct
import sys
from ctypes import POINTER, c_char, c_char_p, c_double, c_int32, c_uint32, c_uint64, c_void_p
from typing import Any, Dict, List, Type

HEADER_VERSION = 1000  # GRATE_VERSION of the header that the structs below mirror
ZERO = NEVER = ABSENT = UNLIMITED = 2**64 - 1  # the last: no such quota, or none with a limit

OK = 0
ERR_NULL_POINTER = 1
ERR_INVALID_NAME = 3
ERR_INVALID_ARGUMENT = 4
ERR_INVALID_CONFIG = 5
ERR_NO_PROVIDER_AVAILABLE = 9
ERR_STALE_LEASE = 10
ERR_BUFFER_TOO_SMALL = 11
ERR_STATE_FILE = 14

STATE_REPLACE_UNUSABLE = 1


class Error(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("code", c_int32), ("message", c_char * 504)]


class EngineConfig(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("cooldown_trigger_count", c_uint32),
        ("clock", c_void_p),
        ("weight_quota", c_double),
        ("weight_health", c_double),
        ("weight_priority", c_double),
        ("weight_latency", c_double),
        ("min_health_for_selection", c_double),
        ("ewma_alpha", c_double),
        ("recovery_half_life_secs", c_double),
        ("cooldown_threshold", c_double),
        ("cooldown_multiplier", c_double),
        ("max_cooldown_secs", c_double),
        ("lease_ttl_ns", c_uint64),
        ("skew_ns", c_uint64),
        ("estimate_quantile", c_double),
        ("max_retry_after_ns", c_uint64),
        ("state_path", c_char_p),
        ("state_size", c_uint64),
        ("state_flags", c_uint64),
    ]


class Metrics(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("selects", c_uint64),
        ("acquires", c_uint64),
        ("completions", c_uint64),
        ("cancellations", c_uint64),
        ("expired_leases", c_uint64),
        ("observations", c_uint64),
        ("cooldowns_triggered", c_uint64),
        ("none_available", c_uint64),
        ("rate_limited_responses", c_uint64),
        ("leases_in_flight", c_uint64),
        ("capped_waits", c_uint64),
    ]


class QuotaState(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dimension", c_int32),
        ("strategy", c_int32),
        ("reserved", c_uint32),
        ("limit", c_uint64),
        ("window_ns", c_uint64),
        ("used", c_uint64),
        ("remaining", c_uint64),
        ("predicted_share", c_double),
        ("burn_per_sec", c_double),
        ("seconds_to_exhaustion", c_double),
        ("pool", c_char_p),
        ("effective_limit", c_uint64),
        ("margin", c_uint64),
        ("limit_source", c_int32),
        ("reserved2", c_uint32),
    ]


class ProviderState(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("circuit", c_int32),
        ("health", c_double),
        ("cooldown_remaining_ns", c_uint64),
        ("latency_ns", c_uint64),
        ("consecutive_failures", c_uint32),
        ("reserved", c_uint32),
        ("leases_in_flight", c_uint64),
        ("selects", c_uint64),
        ("acquires", c_uint64),
        ("completions", c_uint64),
        ("cancellations", c_uint64),
        ("expired_leases", c_uint64),
        ("observations", c_uint64),
        ("cooldowns_triggered", c_uint64),
        ("rate_limited_responses", c_uint64),
        ("quotas", POINTER(QuotaState)),
        ("quotas_capacity", c_uint64),
        ("quotas_len", c_uint64),
        ("quotas_total", c_uint64),
    ]


class Request(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("tokens", c_uint64),
        ("input_tokens", c_uint64),
        ("output_tokens", c_uint64),
        ("bytes", c_uint64),
        ("cost_micro_usd", c_uint64),
        ("headroom", c_double),
        ("exclude", c_void_p),
        ("exclude_len", c_uint64),
    ]


class Candidate(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("held_by", c_int32),
        ("provider", c_void_p),
        ("score", c_double),
        ("quota_score", c_double),
        ("health_score", c_double),
        ("priority_score", c_double),
        ("latency_score", c_double),
        ("seconds_to_exhaustion", c_double),
        ("retry_after_ns", c_uint64),
        ("held_dimension", c_int32),
        ("index", c_uint32),
        ("held_window_ns", c_uint64),
    ]


class Decision(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("held_by", c_int32),
        ("lease", c_uint64),
        ("provider", c_void_p),
        ("score", c_double),
        ("quota_score", c_double),
        ("health_score", c_double),
        ("priority_score", c_double),
        ("latency_score", c_double),
        ("seconds_to_exhaustion", c_double),
        ("retry_after_ns", c_uint64),
        ("held_dimension", c_int32),
        ("index", c_uint32),
        ("held_window_ns", c_uint64),
        ("candidates", c_void_p),
        ("candidates_capacity", c_uint64),
        ("candidates_len", c_uint64),
        ("candidates_total", c_uint64),
    ]


class Header(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("name_len", c_uint64), ("value", c_char_p), ("value_len", c_uint64)]


class Response(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("outcome", c_int32),
        ("http_status", c_int32),
        ("reserved", c_uint32),
        ("latency_ns", c_uint64),
        ("retry_after_ns", c_uint64),
        ("requests", c_uint64),
        ("tokens", c_uint64),
        ("input_tokens", c_uint64),
        ("output_tokens", c_uint64),
        ("bytes", c_uint64),
        ("cost_micro_usd", c_uint64),
        ("headers", c_void_p),
        ("headers_len", c_uint64),
    ]


class HeaderQuota(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dimension", c_int32),
        ("limit", c_uint64),
        ("remaining", c_uint64),
        ("reset_in_ms", c_uint64),
        ("window_ms", c_uint64),
    ]


class HeaderReport(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("cached", c_int32),
        ("retry_after_ms", c_uint64),
        ("quotas", POINTER(HeaderQuota)),
        ("quotas_capacity", c_uint64),
        ("quotas_len", c_uint64),
        ("quotas_total", c_uint64),
    ]


READ_CLOCK = ctypes.CFUNCTYPE(c_uint64, c_void_p)

_CODES: Dict[Any, str] = {c_uint32: "I", c_int32: "i", c_uint64: "Q", c_double: "d", c_void_p: "Q"}


def packer(layout: Type[ctypes.Structure]) -> struct.Struct:
    """All fields at once: one pack or unpack is as fast as three reads of ctypes attributes, and it checks ranges."""
    packed = struct.Struct("=" + "".join(_CODES[field[1]] for field in layout._fields_))
    if packed.size != ctypes.sizeof(layout):
        raise ImportError("grate needs a 64-bit Python")
    return packed


def packed_words(words: List[int]) -> bytes:
    """64-bit integers in the order of the machine."""
    return struct.pack(f"={len(words)}Q", *words)


def _candidates() -> List[str]:
    if sys.platform == "win32":
        names = ["grate.dll"]
    elif sys.platform == "darwin":
        names = ["libgrate.0.dylib", "libgrate.dylib"]
    else:
        names = ["libgrate.so.0"]
    return names


def _load() -> ctypes.PyDLL:
    # PyDLL keeps the interpreter lock during a call. No call waits for anything but another short call, so giving the
    # lock away gains nothing; and as no other thread is ever inside the library, a fork cannot copy a lock in use.
    path = os.environ.get("GRATE_LIBRARY")
    if path:
        try:
            return ctypes.PyDLL(path)
        except OSError as error:
            raise ImportError(f"cannot load libgrate from GRATE_LIBRARY={path!r}: {error}") from error
    tried = []
    for name in _candidates():
        try:
            return ctypes.PyDLL(name)
        except OSError as error:
            tried.append(str(error))
    found = ctypes.util.find_library("grate")
    if found:
        try:
            return ctypes.PyDLL(found)
        except OSError as error:
            tried.append(str(error))
    raise ImportError(
        "the libgrate library was not found. Install it (`make install` in the libgrate sources, then `ldconfig`), "
        "or set the environment variable GRATE_LIBRARY to the path of libgrate.so. Tried: " + "; ".join(tried)
    )


# Results and arguments of the functions. Those of the hot path have no argument types on purpose: they get ctypes
# objects made beforehand, and checking their types would take as long as the rest of the call.
_HOT = (
    "grate_engine_select",
    "grate_engine_acquire",
    "grate_engine_complete",
    "grate_engine_cancel",
    "grate_engine_observe",
)
_COLD: Dict[str, Any] = {
    "grate_version": (c_uint32,),
    "grate_version_string": (c_char_p,),
    "grate_status_name": (c_char_p, c_int32),
    "grate_clock_mock_new": (c_void_p, c_uint64),
    "grate_clock_callback_new": (c_int32, READ_CLOCK, READ_CLOCK, c_void_p, c_void_p, c_void_p),
    "grate_clock_advance_ms": (c_int32, c_void_p, c_uint64),
    "grate_clock_advance_secs": (c_int32, c_void_p, c_uint64),
    "grate_clock_set_ns": (c_int32, c_void_p, c_uint64),
    "grate_clock_now_ns": (c_uint64, c_void_p),
    "grate_clock_free": (None, c_void_p),
    "grate_engine_new": (c_int32, c_void_p, c_void_p, c_void_p),
    "grate_engine_free": (None, c_void_p),
    "grate_engine_configure_json": (c_int32, c_void_p, c_char_p, c_uint64, c_void_p),
    "grate_engine_remove_provider": (c_int32, c_void_p, c_char_p, c_void_p),
    "grate_engine_remove_capability": (c_int32, c_void_p, c_char_p, c_void_p),
    "grate_parse_headers": (c_int32, c_void_p, c_uint64, c_uint64, c_void_p, c_void_p),
    "grate_engine_provider_health": (c_int32, c_void_p, c_char_p, c_void_p, c_void_p),
    "grate_engine_provider_in_cooldown": (c_int32, c_void_p, c_char_p, c_void_p, c_void_p),
    "grate_engine_remaining_quota": (c_int32, c_void_p, c_char_p, c_int32, c_void_p, c_void_p),
    "grate_engine_provider_state": (c_int32, c_void_p, c_char_p, c_void_p, c_void_p),
    "grate_engine_metrics": (c_int32, c_void_p, c_void_p, c_void_p),
    "grate_engine_prometheus": (c_int32, c_void_p, c_void_p, c_uint64, c_void_p, c_void_p),
}


def _open() -> ctypes.PyDLL:
    library = _load()
    try:
        for name, (result, *arguments) in _COLD.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        for name in _HOT:
            getattr(library, name)
    except AttributeError as error:
        raise ImportError(f"{library._name} is not a libgrate that this package can use: {error}") from error
    version = library.grate_version()
    if version < HEADER_VERSION or version // 1_000_000 != HEADER_VERSION // 1_000_000:
        text = library.grate_version_string().decode()
        raise ImportError(f"{library._name} is libgrate {text}, this package needs 0.1.0 or a later 0.x")
    return library


lib = _open()


def _load_fast() -> Any:
    """The part in C, if it was built: `grate/_fast.c`. GRATE_PURE_PYTHON=1 leaves it out, as a second import does."""
    if os.environ.get("GRATE_PURE_PYTHON", "0") not in ("", "0"):
        return None
    try:
        from . import _fast
    except ImportError:
        return None
    return _fast if _fast.claim() else None


fast = _load_fast()
