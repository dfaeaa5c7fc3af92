/** libgrate: picks which upstream provider gets the next request, so that 429s are predicted and not received. */

export { MockClock } from "./clock";
export { Decision } from "./decision";
export { Engine, type EngineOptions, type SharedEngine } from "./engine";
export {
  CapacityError,
  ClosedError,
  GrateError,
  InternalError,
  InvalidArgumentError,
  InvalidConfigError,
  InvalidJsonError,
  InvalidNameError,
  NoProviderAvailableError,
  StaleLeaseError,
  StateFileError,
  UnknownCapabilityError,
  UnknownProviderError,
  statusName,
} from "./errors";
export { createFetch, type FetchOptions, type RoutedFetch, type RoutedResponse } from "./fetch";
export { parseHeaders } from "./headers";
export { libraryVersion } from "./native";
export type {
  Amount,
  Candidate,
  CapabilityConfig,
  Circuit,
  Config,
  Dimension,
  EngineSettings,
  HeaderFields,
  HeaderQuota,
  HeaderReport,
  HeldBy,
  LimitSource,
  Metrics,
  Outcome,
  ProviderConfig,
  ProviderState,
  QuotaConfig,
  QuotaState,
  Report,
  RouteOptions,
  Strategy,
  Usage,
} from "./types";
