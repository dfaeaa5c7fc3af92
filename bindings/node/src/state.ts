/** Counters and states of an engine, as values. */

import type { Layout } from "./layout";
import { Metrics as MetricsLayout, ProviderState as StateLayout, QuotaState as QuotaLayout } from "./layout";
import { METRICS, PROVIDER_STATE, QUOTA_STATES, f64, getNumber, getNumberOrNull, i32, u32 } from "./memory";
import {
  CIRCUITS,
  DIMENSIONS,
  LIMIT_SOURCES,
  STRATEGIES,
  type Dimension,
  type Metrics,
  type ProviderState,
  type QuotaState,
  type Strategy,
} from "./types";

function counter<Field extends string>(start: number, layout: Layout<Field>): (field: Field) => number {
  return (field) => getNumber(start + layout.at[field]);
}

/** Reads `METRICS`. */
export function readMetrics(): Metrics {
  const read = counter(METRICS, MetricsLayout);
  return {
    selects: read("selects"),
    acquires: read("acquires"),
    completions: read("completions"),
    cancellations: read("cancellations"),
    expiredLeases: read("expired_leases"),
    observations: read("observations"),
    cooldownsTriggered: read("cooldowns_triggered"),
    noneAvailable: read("none_available"),
    rateLimitedResponses: read("rate_limited_responses"),
    leasesInFlight: read("leases_in_flight"),
    cappedWaits: read("capped_waits"),
  };
}

/** Reads `PROVIDER_STATE` and `QUOTA_STATES`. */
export function readProviderState(nameAt: (address: number) => string): ProviderState {
  const read = counter(PROVIDER_STATE, StateLayout);
  const quotas: QuotaState[] = [];
  for (let i = 0; i < read("quotas_len"); i++) quotas.push(readQuota(QUOTA_STATES + i * QuotaLayout.size, nameAt));
  return {
    circuit: CIRCUITS[i32[(PROVIDER_STATE + StateLayout.at.circuit) >> 2]!]!,
    health: f64[(PROVIDER_STATE + StateLayout.at.health) >> 3]!,
    cooldownRemainingNs: read("cooldown_remaining_ns"),
    latencyNs: read("latency_ns"),
    consecutiveFailures: u32[(PROVIDER_STATE + StateLayout.at.consecutive_failures) >> 2]!,
    leasesInFlight: read("leases_in_flight"),
    selects: read("selects"),
    acquires: read("acquires"),
    completions: read("completions"),
    cancellations: read("cancellations"),
    expiredLeases: read("expired_leases"),
    observations: read("observations"),
    cooldownsTriggered: read("cooldowns_triggered"),
    rateLimitedResponses: read("rate_limited_responses"),
    quotas,
  };
}

function readQuota(start: number, nameAt: (address: number) => string): QuotaState {
  const { at } = QuotaLayout;
  const read = counter(start, QuotaLayout);
  return {
    dimension: DIMENSIONS[i32[(start + at.dimension) >> 2]!] as Dimension,
    strategy: STRATEGIES[i32[(start + at.strategy) >> 2]!] as Strategy,
    limit: getNumberOrNull(start + at.limit),
    windowNs: read("window_ns"),
    used: read("used"),
    remaining: read("remaining"),
    predictedShare: f64[(start + at.predicted_share) >> 3]!,
    burnPerSec: f64[(start + at.burn_per_sec) >> 3]!,
    secondsToExhaustion: f64[(start + at.seconds_to_exhaustion) >> 3]!,
    pool: nameAt(read("pool")) || null,
    effectiveLimit: read("effective_limit"),
    margin: read("margin"),
    limitSource: LIMIT_SOURCES[i32[(start + at.limit_source) >> 2]!]!,
  };
}
