/** What goes into an engine and what it tells, as plain values. */

/** An amount of a quota dimension: a non-negative integer. Beyond 2^53 it has to be a bigint, which is below 2^64 - 1. */
export type Amount = number | bigint;

/** What a quota counts. */
export type Dimension =
  | "requests"
  | "tokens"
  | "input_tokens"
  | "output_tokens"
  | "concurrency"
  | "bytes"
  | "cost_micro_usd";

/** How a quota counts; `rolling` is the default. */
export type Strategy = "rolling" | "token_bucket" | "fixed_window" | "concurrency";

/** What became of a request. */
export type Outcome =
  | "success"
  | "rate_limited"
  | "quota_exhausted"
  | "forbidden"
  | "server_error"
  | "overloaded"
  | "timeout"
  | "client_error"
  | "cancelled";

/** What keeps a provider from being chosen. */
export type HeldBy = "cooldown" | "health" | "quota" | "concurrency" | "probe" | "exclusion";

/** Whether a provider works normally, cools down, is probed after that, or recovers. */
export type Circuit = "closed" | "open" | "half_open" | "ramping";

/** Why the limit in force is what it is. */
export type LimitSource = "configured" | "learned" | "told";

// The place in each of these is the constant in grate.h.
export const DIMENSIONS: readonly (Dimension | null)[] = [
  null,
  "requests",
  "tokens",
  "input_tokens",
  "output_tokens",
  "concurrency",
  "bytes",
  "cost_micro_usd",
];
export const STRATEGIES: readonly (Strategy | null)[] = [
  null,
  "rolling",
  "token_bucket",
  "fixed_window",
  "concurrency",
];
export const OUTCOMES: readonly (Outcome | null)[] = [
  null,
  "success",
  "rate_limited",
  "quota_exhausted",
  "forbidden",
  "server_error",
  "overloaded",
  "timeout",
  "client_error",
  "cancelled",
];
export const HELD_BY: readonly (HeldBy | null)[] = [
  null,
  "cooldown",
  "health",
  "quota",
  "concurrency",
  "probe",
  "exclusion",
];
export const CIRCUITS: readonly Circuit[] = ["closed", "open", "half_open", "ramping"];
export const LIMIT_SOURCES: readonly LimitSource[] = ["configured", "learned", "told"];

/** One quota of a provider. It needs a window, by its name or in milliseconds, unless its dimension is concurrency. */
export interface QuotaConfig {
  dimension: Dimension;
  /** Units per window, or leases in flight for concurrency. */
  limit: number;
  window?: "second" | "minute" | "hour" | "day";
  /** 1 ms to 366 days. */
  window_ms?: number;
  strategy?: Strategy;
  /** Size of a token bucket in units; `limit` by default. */
  burst?: number;
  /** Where calendar windows start, in milliseconds after UTC midnight; 8 hours is midnight in UTC-8. */
  phase_ms?: number;
  /** Quotas of the same pool, dimension and window are one counter, whichever providers they are on. */
  pool?: string;
}

/** A provider. A name that is registered already is changed, and keeps its usage, health and leases. */
export interface ProviderConfig {
  /** 1 to 128 bytes of UTF-8 without control characters. */
  name: string;
  /** Higher is better, up to 1000000. */
  priority?: number;
  /** Multiplies the priority component; above 0, by default 1. */
  weight?: number;
  /** The first cooldown in seconds; by default 30. */
  cooldown_seconds?: number;
  /** At most 32. */
  quotas?: readonly QuotaConfig[];
}

/** What callers ask for, and the providers that serve it. Their order breaks ties. */
export interface CapabilityConfig {
  name: string;
  providers: readonly { provider: string; priority?: number }[];
}

/** Settings of an engine. What is left out is the default. */
export interface EngineSettings {
  /** Weights of the score's components, relative to their sum. By default 0.4, 0.35, 0.2 and 0.05. */
  weights?: { quota?: number; health?: number; priority?: number; latency?: number };
  /** Providers with less health are not chosen; by default 0.2. */
  min_health_for_selection?: number;
  /** Share of a new outcome in the health average; by default 0.25. */
  ewma_alpha?: number;
  /** Seconds in which the health that is missing halves; by default 30. */
  recovery_half_life_secs?: number;
  /** Consecutive failures that start a cooldown; by default 3. */
  cooldown_trigger_count?: number;
  /** A failure that leaves less health than this starts a cooldown; by default 0.2. */
  cooldown_threshold?: number;
  /** Each cooldown in a row is this times longer; by default 2. */
  cooldown_multiplier?: number;
  /** The longest computed cooldown, in seconds; by default 600. */
  max_cooldown_secs?: number;
  /** A lease that is not settled after so many milliseconds expires; by default 10 minutes. */
  lease_ttl_ms?: number;
  /** The longest time a request spends on the wire before the provider counts it; by default 50 ms. */
  skew_ms?: number;
  /** Which quantile of past usage stands for an estimate that is not given; 0, the default, is the mean. */
  estimate_quantile?: number;
  /** The longest Retry-After that is believed, in milliseconds; by default one day. */
  max_retry_after_ms?: number;
}

/** A configuration in the JSON form of libgrate, whose names are the same in every language. */
export interface Config {
  engine?: EngineSettings;
  providers?: readonly ProviderConfig[];
  capabilities?: readonly CapabilityConfig[];
  /** Whether what the configuration does not name is removed; by default it stays. */
  replace?: boolean;
}

/** Usage of a request, estimated or actual. What is left out is not known; 0 is zero. */
export interface Usage {
  /** Input and output together. If it is left out, but one of the next two is not, their sum. */
  tokens?: Amount | undefined;
  inputTokens?: Amount | undefined;
  outputTokens?: Amount | undefined;
  bytes?: Amount | undefined;
  /** Millionths of a US dollar. */
  costMicroUsd?: Amount | undefined;
}

/** What a request will use, and what it demands. An estimate that is left out is learned from requests before it. */
export interface RouteOptions extends Usage {
  /** Share of every quota that must stay free, from 0 to below 1: batch work with 0.3 leaves 30 %. */
  headroom?: number | undefined;
  /** Providers that must not be chosen, such as the one that just failed; at most 64. Unknown names are ignored. */
  exclude?: readonly string[] | undefined;
  /** Whether the decision also records the other providers, in `candidates`. For logs and dashboards. */
  explain?: boolean | undefined;
}

/** Header fields: a `Headers`, an object such as `IncomingMessage.headers`, or pairs of name and value. */
export type HeaderFields =
  | Iterable<readonly [name: string, value: string]>
  | Readonly<Record<string, string | number | readonly string[] | undefined>>;

/** What became of a request. Usage that is left out is as estimated (none, of a request that was refused). */
export interface Report extends Usage {
  /** Left out, it is derived from `httpStatus`; without both it is a success. */
  outcome?: Outcome | undefined;
  /** As it came, at least 100. Only used without `outcome`. */
  httpStatus?: number | undefined;
  /** From sending to the end of the answer, in milliseconds. Left out, it is the time since `acquire`. */
  latencyMs?: number | undefined;
  /** How long the provider says to stay away, in milliseconds, if that is not in the headers. */
  retryAfterMs?: number | undefined;
  /** By default 1. 0 is for a request that never reached the provider. */
  requests?: Amount | undefined;
  /** Of the response: rate-limit fields among them correct what is known of the provider. */
  headers?: HeaderFields | undefined;
}

/** One provider of the capability, as a decision saw it. Scores are in [0, 1]. */
export interface Candidate {
  readonly provider: string;
  /** Weighted sum of the four components below. */
  readonly score: number;
  /** How well off its tightest quota will be soon: 1 while more than a quarter of it will be left, 0 when none will. */
  readonly quotaScore: number;
  readonly healthScore: number;
  /** Relative to the highest of the capability. */
  readonly priorityScore: number;
  /** Lowest latency of the capability, relative to this one's. */
  readonly latencyScore: number;
  /** Seconds until its first quota is spent if the present burn goes on; Infinity if none will be. */
  readonly secondsToExhaustion: number;
  /** What holds it longest; null if it can be chosen. */
  readonly heldBy: HeldBy | null;
  /** Nanoseconds until it can take this request: 0 if it can now, null if waiting does not help. */
  readonly retryAfterNs: number | null;
  /** The dimension of the quota that holds it, if one does. */
  readonly heldDimension: Dimension | null;
  /** The window of that quota in nanoseconds, else 0. */
  readonly heldWindowNs: number;
  /** Its place in the capability's list, from 0. */
  readonly index: number;
}

/** Counters of an engine since it was made. */
export interface Metrics {
  /** Calls of select that chose a provider. */
  readonly selects: number;
  /** Leases granted. */
  readonly acquires: number;
  /** Leases settled by complete. */
  readonly completions: number;
  /** Leases given back by cancel. */
  readonly cancellations: number;
  /** Leases that expired unsettled. */
  readonly expiredLeases: number;
  /** Calls of observe. */
  readonly observations: number;
  /** Cooldowns started. */
  readonly cooldownsTriggered: number;
  /** Calls of select and acquire that found no provider available. */
  readonly noneAvailable: number;
  /** Outcomes `rate_limited` and `quota_exhausted`: the number this library exists to keep at 0. */
  readonly rateLimitedResponses: number;
  /** Leases in flight now. */
  readonly leasesInFlight: number;
  /** Waits told by providers that were too long to be believed, and cut. */
  readonly cappedWaits: number;
}

/** One quota, as it stands. */
export interface QuotaState {
  readonly dimension: Dimension;
  readonly strategy: Strategy;
  /** Units per window as configured; null if nobody did, but one was learned. */
  readonly limit: number | null;
  /** 0 for concurrency. */
  readonly windowNs: number;
  /** Units counted now: in the window, missing from the bucket, or in flight. */
  readonly used: number;
  /** Units that may be reserved now. */
  readonly remaining: number;
  /** Predicted share of the limit that will be left at the forecast horizon, in [0, 1]. */
  readonly predictedShare: number;
  /** Present burn in units per second. */
  readonly burnPerSec: number;
  /** Infinity if it will not be spent at the present burn. */
  readonly secondsToExhaustion: number;
  readonly pool: string | null;
  /** The limit in force. */
  readonly effectiveLimit: number;
  /** Units that are kept free of others who share the quota. */
  readonly margin: number;
  readonly limitSource: LimitSource;
}

/** One provider, as it stands. */
export interface ProviderState {
  readonly circuit: Circuit;
  /** In [0, 1]. */
  readonly health: number;
  /** 0 if it does not cool down. */
  readonly cooldownRemainingNs: number;
  /** Average latency; 0 if unknown. */
  readonly latencyNs: number;
  /** Failures since the last success. */
  readonly consecutiveFailures: number;
  readonly leasesInFlight: number;
  readonly selects: number;
  readonly acquires: number;
  readonly completions: number;
  readonly cancellations: number;
  readonly expiredLeases: number;
  readonly observations: number;
  readonly cooldownsTriggered: number;
  readonly rateLimitedResponses: number;
  readonly quotas: readonly QuotaState[];
}

/** What headers tell of one quota; null is what they do not tell. */
export interface HeaderQuota {
  readonly dimension: Dimension;
  readonly limit: number | null;
  readonly remaining: number | null;
  /** Milliseconds from receipt until it is filled up, partly or wholly. */
  readonly resetInMs: number | null;
  readonly windowMs: number | null;
}

/** What the headers of one response tell about rate limits. */
export interface HeaderReport {
  /** Whether the response comes from a cache, so that its quotas are those of an earlier time. */
  readonly cached: boolean;
  /** Milliseconds to wait from receipt; null if they do not tell. */
  readonly retryAfterMs: number | null;
  /** At most 16. */
  readonly quotas: readonly HeaderQuota[];
}
