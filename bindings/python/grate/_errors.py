"""What can go wrong, one exception per status of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, Type

from . import _native

if TYPE_CHECKING:
    from ._decision import Decision


class GrateError(Exception):
    """Base of all errors. `code` is the number of the status in `grate.h`."""

    code: int = -1

    def __init__(self, message: str, code: Optional[int] = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    @property
    def name(self) -> str:
        """Symbolic name of the status, such as `"GRATE_ERR_STALE_LEASE"`."""
        text: bytes = _native.lib.grate_status_name(self.code)
        return text.decode()


class InvalidName(GrateError, ValueError):
    """A name is empty, longer than 128 bytes, not UTF-8, or contains control characters."""

    code = _native.ERR_INVALID_NAME


class InvalidArgument(GrateError, ValueError):
    """A value is out of its range."""

    code = _native.ERR_INVALID_ARGUMENT


class InvalidConfig(GrateError, ValueError):
    """A configuration contradicts itself or the one in force; nothing was applied."""

    code = _native.ERR_INVALID_CONFIG


class InvalidJson(InvalidConfig):
    """A configuration is malformed, or has fields that do not exist; nothing was applied."""

    code = 6


class UnknownCapability(GrateError, LookupError):
    """No capability of that name is registered."""

    code = 7


class UnknownProvider(GrateError, LookupError):
    """No provider of that name is registered."""

    code = 8


class NoAvailableProviders(GrateError):
    """No provider can take the request now. `decision` has all that is known, the attributes what matters most."""

    code = _native.ERR_NO_PROVIDER_AVAILABLE

    def __init__(self, decision: Decision) -> None:
        # No text yet: under load this is raised often, caught, and never printed.
        super().__init__("")
        self.decision = decision

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.decision,)

    @property
    def provider(self) -> Optional[str]:
        """The provider that frees first; None if the capability has none."""
        return self.decision.provider or None

    @property
    def retry_after_ns(self) -> Optional[int]:
        """Nanoseconds until then; None if waiting does not help, as for a request larger than the limit."""
        return self.decision.retry_after_ns

    @property
    def reason(self) -> Optional[str]:
        """What holds that provider: cooldown, health, quota, concurrency, probe or exclusion."""
        return self.decision.held_by

    def __str__(self) -> str:
        d = self.decision
        if not d.provider:
            return "no provider available: the capability has none"
        why = str(d.held_by)
        if d.held_by == "quota":
            why = f"quota of {d.held_dimension} per {d.held_window_ns / 1e9:g} s"
        if d.retry_after_ns is None:
            return f"no provider available: {d.provider!r} is held by its {why}, and waiting does not help"
        return f"no provider available: {d.provider!r} frees first, in {d.retry_after_ns / 1e6:.0f} ms ({why})"


class StaleLease(GrateError):
    """The lease was settled already, has expired, or never existed."""

    code = _native.ERR_STALE_LEASE


class CapacityExceeded(GrateError):
    """Too many providers, quotas or leases in flight for one engine."""

    code = 12


class StateFileError(GrateError):
    """The state file cannot be used: it is damaged, not one, of another version, or cannot be opened."""

    code = _native.ERR_STATE_FILE


class InternalError(GrateError):
    """A bug in libgrate or in this package. Please report it."""

    code = 13


class EngineClosed(GrateError, RuntimeError):
    """The engine was used after `close()`, or by a finalizer that ran after its own."""

    def __init__(self, message: str = "this engine is closed", code: Optional[int] = None) -> None:
        super().__init__(message, code)

    @property
    def name(self) -> str:
        return type(self).__name__


class ForkedEngine(EngineClosed):
    """The engine has no state file, was made before a fork, and used in the child: it belongs to the parent."""


_BY_CODE: Dict[int, Type[GrateError]] = {
    kind.code: kind
    for kind in (
        InvalidName,
        InvalidArgument,
        InvalidConfig,
        InvalidJson,
        UnknownCapability,
        UnknownProvider,
        StaleLease,
        CapacityExceeded,
        StateFileError,
        InternalError,
    )
}


def error(code: int, message: str) -> GrateError:
    """The exception for a status."""
    if code == _native.ERR_NULL_POINTER:
        return EngineClosed()  # freed by the garbage collector, along with what calls it
    return _BY_CODE.get(code, InternalError)(message, code)
