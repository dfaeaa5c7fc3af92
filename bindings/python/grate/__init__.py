"""libgrate: picks which upstream provider gets the next request, so that 429s are predicted and not received."""

from . import _accelerate as _accelerate
from ._clock import Clock, MockClock
from ._config import (
    CapabilityConfig,
    CapabilityProvider,
    Config,
    EngineConfig,
    ProviderConfig,
    QuotaConfig,
    WeightsConfig,
)
from ._decision import Decision
from ._engine import Engine, library_version, status_name
from ._errors import (
    CapacityExceeded,
    EngineClosed,
    ForkedEngine,
    GrateError,
    InternalError,
    InvalidArgument,
    InvalidConfig,
    InvalidJson,
    InvalidName,
    NoAvailableProviders,
    StaleLease,
    StateFileError,
    UnknownCapability,
    UnknownProvider,
)
from ._headers import parse_headers
from ._types import (
    Breakdown,
    Candidate,
    Dimension,
    HeaderQuota,
    HeaderReport,
    HeldBy,
    Metrics,
    ProviderState,
    QuotaState,
    Status,
)

__version__ = "0.1.0"

__all__ = [
    "Breakdown",
    "Candidate",
    "CapabilityConfig",
    "CapabilityProvider",
    "CapacityExceeded",
    "Clock",
    "Config",
    "Decision",
    "Dimension",
    "Engine",
    "EngineClosed",
    "EngineConfig",
    "ForkedEngine",
    "GrateError",
    "HeaderQuota",
    "HeaderReport",
    "HeldBy",
    "InternalError",
    "InvalidArgument",
    "InvalidConfig",
    "InvalidJson",
    "InvalidName",
    "Metrics",
    "MockClock",
    "NoAvailableProviders",
    "ProviderConfig",
    "ProviderState",
    "QuotaConfig",
    "QuotaState",
    "StaleLease",
    "StateFileError",
    "Status",
    "UnknownCapability",
    "UnknownProvider",
    "WeightsConfig",
    "library_version",
    "parse_headers",
    "status_name",
]
