"""The shape of a configuration, for type checkers; the README of libgrate has the meaning of each field."""

from __future__ import annotations

from typing import List, Optional, TypedDict

from ._types import Dimension, Strategy


class _Quota(TypedDict):
    dimension: Dimension
    limit: int


class QuotaConfig(_Quota, total=False):
    """One quota: `limit` units per `window` ("second", "minute", "hour" or "day") or per `window_ms`."""

    window: str
    window_ms: int
    strategy: Strategy
    burst: int
    phase_ms: int
    pool: Optional[str]


class _Provider(TypedDict):
    name: str


class ProviderConfig(_Provider, total=False):
    """A provider and its quotas, at most 32."""

    priority: int
    weight: float
    cooldown_seconds: float
    quotas: List[QuotaConfig]


class _CapabilityProvider(TypedDict):
    provider: str


class CapabilityProvider(_CapabilityProvider, total=False):
    """One provider of a capability, and its priority there."""

    priority: int


class CapabilityConfig(TypedDict):
    """What callers ask for, and who serves it. The order breaks ties."""

    name: str
    providers: List[CapabilityProvider]


class WeightsConfig(TypedDict, total=False):
    """What the components count for in a score; one that is left out is 0."""

    quota: float
    health: float
    priority: float
    latency: float


class EngineConfig(TypedDict, total=False):
    """Settings of the engine; what is left out is the default."""

    weights: WeightsConfig
    min_health_for_selection: float
    ewma_alpha: float
    recovery_half_life_secs: float
    cooldown_trigger_count: int
    cooldown_threshold: float
    cooldown_multiplier: float
    max_cooldown_secs: float
    lease_ttl_ms: int
    skew_ms: int
    estimate_quantile: float
    max_retry_after_ms: int


class Config(TypedDict, total=False):
    """A configuration, as `Engine.configure` takes it."""

    engine: EngineConfig
    providers: List[ProviderConfig]
    capabilities: List[CapabilityConfig]
    replace: bool
