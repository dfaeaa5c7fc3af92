"""What the engine tells, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Literal, NamedTuple, Optional, Tuple

Status = Literal[
    "success",
    "rate_limited",
    "quota_exhausted",
    "forbidden",
    "server_error",
    "overloaded",
    "timeout",
    "client_error",
    "cancelled",
]
Dimension = Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrency", "bytes", "cost_micro_usd"]
HeldBy = Literal["cooldown", "health", "quota", "concurrency", "probe", "exclusion"]
Circuit = Literal["closed", "open", "half_open", "ramping"]
Strategy = Literal["rolling", "token_bucket", "fixed_window", "concurrency"]


# The place in each of these is the constant in grate.h.
DIMENSIONS: Tuple[Optional[Dimension], ...] = (
    None,
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "concurrency",
    "bytes",
    "cost_micro_usd",
)
HELD_BY: Tuple[Optional[HeldBy], ...] = (None, "cooldown", "health", "quota", "concurrency", "probe", "exclusion")
CIRCUITS: Tuple[Circuit, ...] = ("closed", "open", "half_open", "ramping")
STRATEGIES: Tuple[Strategy, ...] = ("rolling", "rolling", "token_bucket", "fixed_window", "concurrency")
OUTCOMES: Dict[Optional[str], int] = {
    None: 0,
    "success": 1,
    "rate_limited": 2,
    "quota_exhausted": 3,
    "forbidden": 4,
    "server_error": 5,
    "overloaded": 6,
    "timeout": 7,
    "client_error": 8,
    "cancelled": 9,
}


class Breakdown(NamedTuple):
    """The components of a score, each from 0 to 1. The score is their sum, weighted."""

    quota: float
    health: float
    priority: float
    latency: float


class Candidate(NamedTuple):
    """One provider of the capability, as a decision saw it."""

    provider: str
    score: float
    breakdown: Breakdown
    seconds_to_exhaustion: float
    """Until its first quota is spent if the present burn goes on; infinity if none will be."""
    held_by: Optional[HeldBy]
    """What holds it longest; None if it could have been chosen."""
    retry_after_ns: Optional[int]
    """Until it can take this request: 0 if it can now, None if waiting does not help."""
    held_dimension: Optional[Dimension]
    """The quota that holds it, if one does."""
    held_window_ns: int
    """The window of that quota, else 0."""
    place: int
    """Its place in the capability's list, from 0."""


@dataclass(frozen=True)
class Metrics:
    """Counters of an engine since it was made."""

    selects: int
    acquires: int
    completions: int
    cancellations: int
    expired_leases: int
    observations: int
    cooldowns_triggered: int
    none_available: int
    rate_limited_responses: int
    leases_in_flight: int
    capped_waits: int


@dataclass(frozen=True)
class QuotaState:
    """One quota, as it stands."""

    dimension: Dimension
    strategy: Strategy
    limit: Optional[int]  # as configured; None: nobody did, but one was learned
    window_ns: int
    used: int
    remaining: int
    predicted_share: float
    burn_per_sec: float
    seconds_to_exhaustion: float
    pool: Optional[str]
    effective_limit: int  # the limit in force
    limit_source: str  # "configured", "learned" or "told"
    margin: int  # units that are kept free of others who share the quota


@dataclass(frozen=True)
class ProviderState:
    """One provider, as it stands."""

    circuit: Circuit
    health: float
    cooldown_remaining_ns: int
    latency_ns: int
    consecutive_failures: int
    leases_in_flight: int
    selects: int
    acquires: int
    completions: int
    cancellations: int
    expired_leases: int
    observations: int
    cooldowns_triggered: int
    rate_limited_responses: int
    quotas: Tuple[QuotaState, ...]


class HeaderQuota(NamedTuple):
    """What headers tell of one quota. None: they do not tell it."""

    dimension: Dimension
    limit: Optional[int]
    """The size of the quota."""
    remaining: Optional[int]
    """What is left of it."""
    reset_in_ms: Optional[int]
    """Milliseconds from receipt until it is filled up, partly or wholly."""
    window_ms: Optional[int]
    """The window that the limit is for, in milliseconds."""


class HeaderReport(NamedTuple):
    """What the headers of one response tell about rate limits."""

    cached: bool
    """Whether the response comes from a cache, so that its quotas are those of an earlier time."""
    retry_after_ms: Optional[int]
    """Milliseconds to wait from receipt; None if they do not tell it."""
    quotas: Tuple[HeaderQuota, ...]
    """At most 16."""
