"""A decision: where a request goes, and why."""

from __future__ import annotations

import struct
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Tuple, Type

from . import _native
from ._errors import EngineClosed, StaleLease
from ._marshal import Headers, waiting
from ._types import DIMENSIONS, HELD_BY, Breakdown, Candidate, Dimension, HeldBy, Status

if TYPE_CHECKING:
    from ._engine import Engine

_LEASE = struct.Struct("=Q")


class PureBase:
    """What a decision holds. The struct is read when it is asked for: most decisions only name a provider."""

    __slots__ = ("provider", "lease", "_engine", "_raw", "_candidates", "_settled")

    provider: str
    """The chosen provider."""
    lease: int
    """What `complete` and `cancel` settle; 0 from `select`, which reserves nothing."""

    def __init__(self, engine: Any, provider: str, raw: bytes, candidates: Optional[Tuple[Candidate, ...]]) -> None:
        self.provider = provider
        (self.lease,) = _LEASE.unpack_from(raw, _native.Decision.lease.offset)
        self._engine = engine
        self._raw = raw
        self._candidates = candidates
        self._settled = False


if TYPE_CHECKING or _native.fast is None:
    Base = PureBase
else:
    Base = _native.fast.Decision


class Decision(Base):
    """Where a request goes, and why.

    As a context manager it gives its lease back on leaving the block, with or without an exception, unless it was
    settled before. A request that was sent must be settled with `complete`: giving it back would uncount it.
    """

    __slots__ = ()

    _engine: Engine

    @property
    def _row(self) -> _native.Decision:
        return _native.Decision.from_buffer_copy(self._raw)

    @property
    def score(self) -> float:
        """Weighted sum of the breakdown, from 0 to 1."""
        score: float = self._row.score
        return score

    @property
    def breakdown(self) -> Breakdown:
        """The components of the score."""
        row = self._row
        return Breakdown(row.quota_score, row.health_score, row.priority_score, row.latency_score)

    @property
    def seconds_to_exhaustion(self) -> float:
        """Until the first quota is spent if the present burn goes on; infinity if none will be."""
        seconds: float = self._row.seconds_to_exhaustion
        return seconds

    @property
    def held_by(self) -> Optional[HeldBy]:
        """None, or, in the decision of `NoAvailableProviders`, what holds the provider."""
        held_by: int = self._row.held_by
        return HELD_BY[held_by]

    @property
    def retry_after_ns(self) -> Optional[int]:
        """0, or nanoseconds until the provider can take this request; None if waiting does not help."""
        return waiting(self._row.retry_after_ns)

    @property
    def held_dimension(self) -> Optional[Dimension]:
        """The quota that holds the provider, if one does."""
        dimension: int = self._row.held_dimension
        return DIMENSIONS[dimension]

    @property
    def held_window_ns(self) -> int:
        """The window of that quota, else 0."""
        window: int = self._row.held_window_ns
        return window

    @property
    def place(self) -> int:
        """The provider's place in the capability's list, from 0."""
        place: int = self._row.index
        return place

    @property
    def candidates(self) -> Tuple[Candidate, ...]:
        """All providers of the capability: those that can be chosen, best first, then those that are held, soonest
        free first. Needs `explain=True`."""
        if self._candidates is None:
            raise RuntimeError("this decision was not explained: pass explain=True to select or acquire")
        return self._candidates

    @property
    def alternatives(self) -> Tuple[Candidate, ...]:
        """The other providers that could have been chosen, best first. Needs `explain=True`."""
        return tuple(c for c in self.candidates if c.held_by is None)[1:]

    @property
    def held(self) -> Tuple[Candidate, ...]:
        """The providers that could not be chosen, soonest free first. Needs `explain=True`."""
        return tuple(c for c in self.candidates if c.held_by is not None)

    def complete(
        self,
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
        """Settles the lease of a request that was sent. See `Engine.complete`."""
        self._engine.complete(
            self,
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
            headers,
        )

    def cancel(self) -> None:
        """Gives the lease of a request back that was not sent."""
        self._engine.cancel(self)

    def __enter__(self) -> Decision:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._settled or not self.lease:
            return
        try:
            self._engine.cancel(self)
        except (StaleLease, EngineClosed):
            pass  # settled through its number, expired, or gone with the engine: nothing is left to give back

    def __reduce__(self) -> Tuple[Any, ...]:
        # Without its engine, as that of an error which a worker process reports.
        if self.lease:
            raise TypeError("a lease cannot be copied or sent to another process")
        return Decision, (None, self.provider, self._raw, self._candidates)

    def __repr__(self) -> str:
        return f"<grate.Decision provider={self.provider!r} score={self.score:.3f} lease={self.lease:#x}>"
