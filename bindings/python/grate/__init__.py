"""libgrate: picks which upstream provider gets the next request, so that 429s are predicted and not received."""

from ._clock import MockClock
from ._engine import Decision, Engine, library_version
from ._errors import (
    CapacityExceeded,
    EngineClosed,
    GrateError,
    InternalError,
    InvalidArgument,
    InvalidConfig,
    InvalidJson,
    InvalidName,
    NoAvailableProviders,
    StaleLease,
    UnknownCapability,
    UnknownProvider,
)
from ._types import Breakdown, Candidate, Dimension, HeldBy, Metrics, ProviderState, QuotaState, Status

__version__ = "0.1.0"

__all__ = [
    "Breakdown",
    "Candidate",
    "CapacityExceeded",
    "Decision",
    "Dimension",
    "Engine",
    "EngineClosed",
    "GrateError",
    "HeldBy",
    "InternalError",
    "InvalidArgument",
    "InvalidConfig",
    "InvalidJson",
    "InvalidName",
    "Metrics",
    "MockClock",
    "NoAvailableProviders",
    "ProviderState",
    "QuotaState",
    "StaleLease",
    "Status",
    "UnknownCapability",
    "UnknownProvider",
    "library_version",
]
