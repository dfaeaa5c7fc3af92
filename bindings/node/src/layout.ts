/** The structs of `grate.h`: sizes and offsets by the rules of a 64-bit C compiler. The tests ask one. */

const SIZES = { u32: 4, i32: 4, u64: 8, i64: 8, f64: 8, pointer: 8 } as const;

type Kind = keyof typeof SIZES | number; // a number: so many bytes of text

/** Where the fields of a struct are, in bytes. */
export interface Layout<Field extends string> {
  readonly size: number;
  readonly at: Readonly<Record<Field, number>>;
}

function struct<Field extends string>(fields: Record<Field, Kind>): Layout<Field> {
  const at = {} as Record<Field, number>;
  let end = 0;
  let largest = 1;
  for (const [name, kind] of Object.entries(fields) as [Field, Kind][]) {
    const size = typeof kind === "number" ? kind : SIZES[kind];
    const align = typeof kind === "number" ? 1 : size;
    end = Math.ceil(end / align) * align;
    at[name] = end;
    end += size;
    largest = Math.max(largest, align);
  }
  return { size: Math.ceil(end / largest) * largest, at };
}

export const ErrorInfo = struct({ struct_size: "u32", code: "i32", message: 504 });

export const EngineConfig = struct({
  struct_size: "u32",
  cooldown_trigger_count: "u32",
  clock: "pointer",
  weight_quota: "f64",
  weight_health: "f64",
  weight_priority: "f64",
  weight_latency: "f64",
  min_health_for_selection: "f64",
  ewma_alpha: "f64",
  recovery_half_life_secs: "f64",
  cooldown_threshold: "f64",
  cooldown_multiplier: "f64",
  max_cooldown_secs: "f64",
  lease_ttl_ns: "u64",
  skew_ns: "u64",
  estimate_quantile: "f64",
  max_retry_after_ns: "u64",
  state_path: "pointer",
  state_size: "u64",
  state_flags: "u64",
});

export const Request = struct({
  struct_size: "u32",
  reserved: "u32",
  tokens: "u64",
  input_tokens: "u64",
  output_tokens: "u64",
  bytes: "u64",
  cost_micro_usd: "u64",
  headroom: "f64",
  exclude: "pointer",
  exclude_len: "u64",
});

export const Candidate = struct({
  struct_size: "u32",
  held_by: "i32",
  provider: "pointer",
  score: "f64",
  quota_score: "f64",
  health_score: "f64",
  priority_score: "f64",
  latency_score: "f64",
  seconds_to_exhaustion: "f64",
  retry_after_ns: "u64",
  held_dimension: "i32",
  index: "u32",
  held_window_ns: "u64",
});

export const Decision = struct({
  struct_size: "u32",
  held_by: "i32",
  lease: "u64",
  provider: "pointer",
  score: "f64",
  quota_score: "f64",
  health_score: "f64",
  priority_score: "f64",
  latency_score: "f64",
  seconds_to_exhaustion: "f64",
  retry_after_ns: "u64",
  held_dimension: "i32",
  index: "u32",
  held_window_ns: "u64",
  candidates: "pointer",
  candidates_capacity: "u64",
  candidates_len: "u64",
  candidates_total: "u64",
});

export const Header = struct({ name: "pointer", name_len: "u64", value: "pointer", value_len: "u64" });

export const Response = struct({
  struct_size: "u32",
  outcome: "i32",
  http_status: "i32",
  reserved: "u32",
  latency_ns: "u64",
  retry_after_ns: "u64",
  requests: "u64",
  tokens: "u64",
  input_tokens: "u64",
  output_tokens: "u64",
  bytes: "u64",
  cost_micro_usd: "u64",
  headers: "pointer",
  headers_len: "u64",
});

export const HeaderQuota = struct({
  struct_size: "u32",
  dimension: "i32",
  limit: "u64",
  remaining: "u64",
  reset_in_ms: "u64",
  window_ms: "u64",
});

export const HeaderReport = struct({
  struct_size: "u32",
  cached: "i32",
  retry_after_ms: "u64",
  quotas: "pointer",
  quotas_capacity: "u64",
  quotas_len: "u64",
  quotas_total: "u64",
});

export const Metrics = struct({
  struct_size: "u32",
  reserved: "u32",
  selects: "u64",
  acquires: "u64",
  completions: "u64",
  cancellations: "u64",
  expired_leases: "u64",
  observations: "u64",
  cooldowns_triggered: "u64",
  none_available: "u64",
  rate_limited_responses: "u64",
  leases_in_flight: "u64",
  capped_waits: "u64",
});

export const QuotaState = struct({
  struct_size: "u32",
  dimension: "i32",
  strategy: "i32",
  reserved: "u32",
  limit: "u64",
  window_ns: "u64",
  used: "u64",
  remaining: "u64",
  predicted_share: "f64",
  burn_per_sec: "f64",
  seconds_to_exhaustion: "f64",
  pool: "pointer",
  effective_limit: "u64",
  margin: "u64",
  limit_source: "i32",
  reserved2: "u32",
});

export const ProviderState = struct({
  struct_size: "u32",
  circuit: "i32",
  health: "f64",
  cooldown_remaining_ns: "u64",
  latency_ns: "u64",
  consecutive_failures: "u32",
  reserved: "u32",
  leases_in_flight: "u64",
  selects: "u64",
  acquires: "u64",
  completions: "u64",
  cancellations: "u64",
  expired_leases: "u64",
  observations: "u64",
  cooldowns_triggered: "u64",
  rate_limited_responses: "u64",
  quotas: "pointer",
  quotas_capacity: "u64",
  quotas_len: "u64",
  quotas_total: "u64",
});
