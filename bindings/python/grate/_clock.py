"""The clock for tests and simulations."""

from __future__ import annotations

from typing import Callable

from . import _native

_lib = _native.lib


class MockClock:
    """A clock that stands still until it is moved. It starts at 0 ns and at `unix_ms` milliseconds since the epoch."""

    __slots__ = ("_pointer",)

    def __init__(self, unix_ms: int = 0) -> None:
        self._pointer: int = _lib.grate_clock_mock_new(_checked(unix_ms))

    def advance_ms(self, ms: int) -> None:
        """Moves the clock, monotonic and Unix time alike."""
        _lib.grate_clock_advance_ms(self._pointer, _checked(ms))

    def advance_secs(self, secs: int) -> None:
        """Moves the clock, monotonic and Unix time alike."""
        _lib.grate_clock_advance_secs(self._pointer, _checked(secs))

    def set_ns(self, ns: int) -> None:
        """Sets the clock to `ns` nanoseconds after its start. Going back counts as "no time has passed"."""
        _lib.grate_clock_set_ns(self._pointer, _checked(ns))

    def now_ns(self) -> int:
        """Nanoseconds since its start."""
        now: int = _lib.grate_clock_now_ns(self._pointer)
        return now

    def __del__(self, _free: Callable[[int], None] = _lib.grate_clock_free) -> None:
        # Bound as a default: at the exit of the interpreter the module may be gone already.
        pointer = getattr(self, "_pointer", None)
        if pointer is not None:
            _free(pointer)


def _checked(value: int) -> int:
    # ctypes would wrap silently.
    if not 0 <= value < 2**64:
        raise ValueError(f"{value} is not in the range of an unsigned 64-bit integer")
    return value
