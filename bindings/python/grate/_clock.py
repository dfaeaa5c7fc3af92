"""Clocks other than the system's."""

from __future__ import annotations

import ctypes
import logging
from operator import index
from typing import Any, Callable, NoReturn

from . import _native

_lib = _native.lib
_log = logging.getLogger("grate")


class Clock:
    """A clock that asks the caller: `monotonic_ns` for intervals, in nanoseconds from any start, and `unix_ms` for
    calendar windows and dates, in milliseconds since the epoch.

    Both are called without arguments on whatever thread calls the engine, several at once, and must not call into an
    engine. A time before an earlier one counts as "no time has passed"; so does an exception, which is logged (logger
    `grate`), because nothing may unwind through the library. A daemon thread that is in one of them at the exit of the
    interpreter does, before Python 3.14, and aborts the process: have such threads end before.
    """

    __slots__ = ("_pointer", "_keep")

    def __init__(self, monotonic_ns: Callable[[], int], unix_ms: Callable[[], int]) -> None:
        # The library calls these as long as the engine lives, which therefore keeps the clock.
        self._keep: Any = (_native.READ_CLOCK(_guarded(monotonic_ns)), _native.READ_CLOCK(_guarded(unix_ms)))
        made = ctypes.c_void_p()
        _lib.grate_clock_callback_new(*self._keep, None, ctypes.byref(made), None)
        self._pointer: int = made.value or 0

    def now_ns(self) -> int:
        """What it shows, in monotonic nanoseconds."""
        now: int = _lib.grate_clock_now_ns(self._pointer)
        return now

    def __reduce__(self) -> NoReturn:
        raise TypeError("a clock cannot be copied or sent to another process")

    def __del__(self, _free: Callable[[int], None] = _lib.grate_clock_free) -> None:
        # Bound as a default: at the exit of the interpreter the module may be gone already.
        pointer = getattr(self, "_pointer", None)
        if pointer is not None:
            self._pointer = 0  # as in an engine: a finalizer may still ask it
            _free(pointer)


class MockClock(Clock):
    """A clock that stands still until it is moved. It starts at 0 ns and at `unix_ms` milliseconds since the epoch."""

    __slots__ = ()

    def __init__(self, unix_ms: int = 0) -> None:
        self._pointer = _lib.grate_clock_mock_new(checked(unix_ms))

    def advance_ms(self, ms: int) -> None:
        """Moves the clock, monotonic and Unix time alike."""
        _lib.grate_clock_advance_ms(self._pointer, checked(ms))

    def advance_secs(self, secs: int) -> None:
        """Moves the clock, monotonic and Unix time alike."""
        _lib.grate_clock_advance_secs(self._pointer, checked(secs))

    def set_ns(self, ns: int) -> None:
        """Sets the clock to `ns` nanoseconds after its start. Going back counts as "no time has passed"."""
        _lib.grate_clock_set_ns(self._pointer, checked(ns))


def checked(value: int) -> int:
    # ctypes would wrap silently, and give what is in memory for a fraction.
    value = index(value)
    if not 0 <= value < 2**64:
        raise ValueError(f"{value} is not in the range of an unsigned 64-bit integer")
    return value


def _guarded(read: Callable[[], int]) -> Callable[[Any], int]:
    last = 0

    def call(_: Any) -> int:
        nonlocal last
        try:
            last = checked(read())
        except BaseException:
            _log.exception("a clock failed: it stands still")
        return last

    return call
