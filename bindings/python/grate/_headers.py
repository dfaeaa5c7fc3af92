"""Rate-limit headers, read without an engine."""

from __future__ import annotations

import ctypes
import time
from ctypes import byref
from typing import Optional

from . import _native
from ._clock import checked
from ._errors import error
from ._marshal import Headers, header_array
from ._types import DIMENSIONS, HeaderQuota, HeaderReport

_MAX_QUOTAS = 16


def parse_headers(headers: Headers, received_at_unix_ms: Optional[int] = None) -> HeaderReport:
    """Reads rate-limit headers as `Engine.complete` and `Engine.observe` do. What cannot be read is absent.

    `received_at_unix_ms` is the time of receipt, in milliseconds since the epoch, to which instants in the headers are
    made relative; None is now. May be called on any thread.
    """
    received = time.time_ns() // 1_000_000 if received_at_unix_ms is None else checked(received_at_unix_ms)
    address, count, _keep = header_array(headers) or (None, 0, None)
    rows = (_native.HeaderQuota * _MAX_QUOTAS)()
    rows[0].struct_size = ctypes.sizeof(_native.HeaderQuota)
    out = _native.HeaderReport(ctypes.sizeof(_native.HeaderReport), quotas=rows, quotas_capacity=_MAX_QUOTAS)
    failed = _native.Error(ctypes.sizeof(_native.Error))
    code = _native.lib.grate_parse_headers(address, count, received, byref(out), byref(failed))
    if code:
        raise error(code, failed.message.decode("utf-8", "replace"))
    return HeaderReport(bool(out.cached), _told(out.retry_after_ms), tuple(map(_quota, rows[: out.quotas_len])))


def _quota(row: _native.HeaderQuota) -> HeaderQuota:
    dimension = DIMENSIONS[row.dimension]
    assert dimension is not None
    return HeaderQuota(dimension, _told(row.limit), _told(row.remaining), _told(row.reset_in_ms), _told(row.window_ms))


def _told(value: int) -> Optional[int]:
    return None if value == _native.ABSENT else value
