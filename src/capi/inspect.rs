//! What an engine knows: health, cooldowns, quotas, metrics.

use std::ffi::c_char;

use super::abi::{self, Struct, structs};
use super::config::{dimension, dimension_code, strategy_code};
use super::engine::grate_engine;
use super::error::{Failure, GRATE_ERR_BUFFER_TOO_SMALL, grate_error, grate_status, guard};
use crate::engine::LimitSource;
use crate::health::Circuit;

/// Working normally.
pub const GRATE_CIRCUIT_CLOSED: i32 = 0;
/// Cooling down: not chosen.
pub const GRATE_CIRCUIT_OPEN: i32 = 1;
/// The cooldown is over, and one lease at a time may try it.
pub const GRATE_CIRCUIT_HALF_OPEN: i32 = 2;
/// Recovering: the number of leases that may be out doubles with each success.
pub const GRATE_CIRCUIT_RAMPING: i32 = 3;

/// The limit in force is the configured one.
pub const GRATE_LIMIT_CONFIGURED: i32 = 0;
/// It was learned: the provider refused requests while the books showed room.
pub const GRATE_LIMIT_LEARNED: i32 = 1;
/// The provider told it in response headers.
pub const GRATE_LIMIT_TOLD: i32 = 2;

/// Counters of an engine since it was made; with a state file, of all who use the file since that was made. Per provider, see
/// `grate_provider_state`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_metrics {
    /// `sizeof(grate_metrics)`.
    pub struct_size: u32,
    /// Written as 0.
    pub reserved: u32,
    /// Calls of select that chose a provider.
    pub selects: u64,
    /// Leases granted.
    pub acquires: u64,
    /// Leases settled by complete.
    pub completions: u64,
    /// Leases given back by cancel.
    pub cancellations: u64,
    /// Leases that expired unsettled.
    pub expired_leases: u64,
    /// Calls of observe.
    pub observations: u64,
    /// Cooldowns started.
    pub cooldowns_triggered: u64,
    /// Calls of select and acquire that found no provider available.
    pub none_available: u64,
    /// Outcomes `RATE_LIMITED` and `QUOTA_EXHAUSTED`: the number this library exists to keep at 0.
    pub rate_limited_responses: u64,
    /// Leases in flight now.
    pub leases_in_flight: u64,
    /// Waits told by providers that were longer than `max_retry_after_ns`, and cut.
    pub capped_waits: u64,
}

/// One quota, as it stands.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_quota_state {
    /// `sizeof(grate_quota_state)`: only the first element's is read, and it is the step of the array.
    pub struct_size: u32,
    /// A `GRATE_DIMENSION_`.
    pub dimension: i32,
    /// A `GRATE_STRATEGY_`.
    pub strategy: i32,
    /// Written as 0.
    pub reserved: u32,
    /// Units per window as configured; `UINT64_MAX` if nobody did, but one was learned.
    pub limit: u64,
    /// Window in nanoseconds; 0 for concurrency.
    pub window_ns: u64,
    /// Units counted now: in the window, missing from the bucket, or in flight.
    pub used: u64,
    /// Units that may be reserved now, by several requests together; where headers told of others' use, one may get more.
    pub remaining: u64,
    /// Predicted share of the limit that will be left at the forecast horizon, in [0, 1].
    pub predicted_share: f64,
    /// Present burn in units per second.
    pub burn_per_sec: f64,
    /// Seconds until it is spent if the present burn goes on; infinity if it will not be.
    pub seconds_to_exhaustion: f64,
    /// Pool name, or NULL; valid as long as the engine.
    pub pool: *const c_char,
    /// The limit in force.
    pub effective_limit: u64,
    /// Units that are kept free, because others who share the quota were seen to be faster than headers tell.
    pub margin: u64,
    /// Why the limit in force is what it is: a `GRATE_LIMIT_`.
    pub limit_source: i32,
    /// Written as 0.
    pub reserved2: u32,
}

/// One provider, as it stands.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_provider_state {
    /// `sizeof(grate_provider_state)`.
    pub struct_size: u32,
    /// A `GRATE_CIRCUIT_`.
    pub circuit: i32,
    /// Health, in [0, 1].
    pub health: f64,
    /// Nanoseconds until the cooldown ends; 0 if there is none.
    pub cooldown_remaining_ns: u64,
    /// Average latency in nanoseconds; 0 if unknown.
    pub latency_ns: u64,
    /// Failures since the last success of a request that was sent after the last cooldown began.
    pub consecutive_failures: u32,
    /// Written as 0.
    pub reserved: u32,
    /// Leases in flight now.
    pub leases_in_flight: u64,
    /// Calls of select that chose it.
    pub selects: u64,
    /// Leases granted on it.
    pub acquires: u64,
    /// Leases settled by complete.
    pub completions: u64,
    /// Leases given back by cancel.
    pub cancellations: u64,
    /// Leases that expired unsettled.
    pub expired_leases: u64,
    /// Calls of observe.
    pub observations: u64,
    /// Cooldowns started.
    pub cooldowns_triggered: u64,
    /// Outcomes `RATE_LIMITED` and `QUOTA_EXHAUSTED`.
    pub rate_limited_responses: u64,
    /// In: an array of the caller's for the quotas, or NULL.
    pub quotas: *mut grate_quota_state,
    /// In: how many elements it has.
    pub quotas_capacity: u64,
    /// Out: how many elements were written: all, or as many as fit.
    pub quotas_len: u64,
    /// Out: how many quotas the provider has.
    pub quotas_total: u64,
}

structs! {
    grate_metrics = 96,
    grate_quota_state = 104,
    grate_provider_state = 144,
}

/// Initialises the first `size` bytes of `metrics` (pass `sizeof *metrics`). Does nothing for NULL.
///
/// # Safety
/// `metrics` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_metrics_init(metrics: *mut grate_metrics, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(metrics, size) }
}

/// Initialises the first `size` bytes of `state` (pass `sizeof *state`). Does nothing for NULL.
///
/// # Safety
/// `state` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_quota_state_init(state: *mut grate_quota_state, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(state, size) }
}

/// Initialises the first `size` bytes of `state` (pass `sizeof *state`). Does nothing for NULL.
///
/// # Safety
/// `state` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_provider_state_init(state: *mut grate_provider_state, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(state, size) }
}

/// Writes the provider's health now, in [0, 1]. Fails with `GRATE_ERR_UNKNOWN_PROVIDER`, `GRATE_ERR_NULL_POINTER`,
/// `GRATE_ERR_INVALID_NAME`. Safe on any thread at any time.
///
/// # Safety
/// `engine` must be NULL or alive; `provider` NULL or NUL-terminated; `out` NULL or writable; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_provider_health(
    engine: *mut grate_engine,
    provider: *const c_char,
    out: *mut f64,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let name = abi::name_bytes(provider, "provider")?;
            abi::out(out, "out")?;
            let (health, _) = engine.inner.provider_health(name).map_err(|e| Failure::about(&e, name))?;
            abi::write_value(out, health)
        })
    }
}

/// Writes 1 if the provider is cooling down now, else 0. Errors and safety as for `grate_engine_provider_health`.
///
/// # Safety
/// As for `grate_engine_provider_health`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_provider_in_cooldown(
    engine: *mut grate_engine,
    provider: *const c_char,
    out: *mut i32,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let name = abi::name_bytes(provider, "provider")?;
            abi::out(out, "out")?;
            let (_, circuit) = engine.inner.provider_health(name).map_err(|e| Failure::about(&e, name))?;
            abi::write_value(out, i32::from(circuit == Circuit::Open))
        })
    }
}

/// Writes how many units of a `GRATE_DIMENSION_` may be reserved now, by several requests together: the least over the
/// provider's quotas of that dimension, or `UINT64_MAX` if it has none. Where headers told of others' use, a single request may get
/// more, as its response brings news. Errors and safety as for `grate_engine_provider_health`, and
/// `GRATE_ERR_INVALID_ARGUMENT` for an unknown dimension.
///
/// # Safety
/// As for `grate_engine_provider_health`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_remaining_quota(
    engine: *mut grate_engine,
    provider: *const c_char,
    dimension_code: i32,
    out: *mut u64,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let name = abi::name_bytes(provider, "provider")?;
            abi::out(out, "out")?;
            let dimension = dimension(dimension_code)?;
            let remaining = engine.inner.remaining(name, dimension);
            abi::write_value(out, remaining.map_err(|e| Failure::about(&e, name))?)
        })
    }
}

/// Writes the state of one provider, and of its quotas if `out->quotas` is an array. Errors and safety as for
/// `grate_engine_provider_health`, and `GRATE_ERR_STRUCT_SIZE`.
///
/// # Safety
/// As for `grate_engine_provider_health`; `out->quotas` must be NULL or writable for `out->quotas_capacity` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_provider_state(
    engine: *mut grate_engine,
    provider: *const c_char,
    out: *mut grate_provider_state,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = &abi::reference(engine, "engine")?.inner;
            let name = abi::name_bytes(provider, "provider")?;
            let mut to = abi::check_out(out)?;
            let rows = if to.quotas.is_null() { 0 } else { to.quotas_capacity };
            let step = if rows == 0 { 0 } else { abi::check_out(to.quotas)?.struct_size as usize };
            let rows = abi::checked_len(rows, step, grate_quota_state::NAME)?;

            let state = engine.provider_state(name).map_err(|e| Failure::about(&e, name))?;
            to.circuit = match state.circuit {
                Circuit::Closed => GRATE_CIRCUIT_CLOSED,
                Circuit::Open => GRATE_CIRCUIT_OPEN,
                Circuit::HalfOpen => GRATE_CIRCUIT_HALF_OPEN,
                Circuit::Ramping => GRATE_CIRCUIT_RAMPING,
            };
            to.health = state.health;
            to.cooldown_remaining_ns = state.cooldown_remaining_ns;
            to.latency_ns = state.latency_ns;
            to.consecutive_failures = state.consecutive_failures;
            to.reserved = 0;
            to.leases_in_flight = state.counters.leases_in_flight;
            to.selects = state.counters.selects;
            to.acquires = state.counters.acquires;
            to.completions = state.counters.completions;
            to.cancellations = state.counters.cancellations;
            to.expired_leases = state.counters.expired_leases;
            to.observations = state.counters.observations;
            to.cooldowns_triggered = state.counters.cooldowns_triggered;
            to.rate_limited_responses = state.counters.rate_limited_responses;
            to.quotas_total = state.quotas.len() as u64;
            to.quotas_len = to.quotas_total.min(rows as u64);
            for (i, quota) in state.quotas.iter().take(rows).enumerate() {
                let row = to.quotas.byte_add(i * step);
                row.cast::<u32>().write_unaligned(step as u32);
                abi::write(
                    row,
                    &grate_quota_state {
                        struct_size: step as u32,
                        dimension: dimension_code(quota.dimension),
                        strategy: strategy_code(quota.strategy),
                        reserved: 0,
                        limit: quota.limit,
                        window_ns: quota.window_ns,
                        used: quota.used,
                        remaining: quota.remaining,
                        predicted_share: quota.predicted_share,
                        burn_per_sec: quota.burn_per_sec,
                        seconds_to_exhaustion: quota.seconds_to_exhaustion,
                        effective_limit: quota.effective_limit,
                        margin: quota.margin,
                        limit_source: match quota.limit_source {
                            LimitSource::Configured => GRATE_LIMIT_CONFIGURED,
                            LimitSource::Learned => GRATE_LIMIT_LEARNED,
                            LimitSource::Told => GRATE_LIMIT_TOLD,
                        },
                        reserved2: 0,
                        pool: quota.pool.map_or(std::ptr::null(), |name| name.as_ptr()),
                    },
                );
            }
            abi::write(out, &to);
            Ok(())
        })
    }
}

/// Writes the engine's counters. Fails with `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_STRUCT_SIZE`.
/// Safe on any thread at any time; counters that change meanwhile may be from slightly different moments.
///
/// # Safety
/// `engine` must be NULL or alive; `out` NULL or valid; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_metrics(
    engine: *mut grate_engine,
    out: *mut grate_metrics,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let mut to = abi::check_out(out)?;
            let m = engine.inner.metrics();
            to.reserved = 0;
            to.selects = m.counters.selects;
            to.acquires = m.counters.acquires;
            to.completions = m.counters.completions;
            to.cancellations = m.counters.cancellations;
            to.expired_leases = m.counters.expired_leases;
            to.observations = m.counters.observations;
            to.cooldowns_triggered = m.counters.cooldowns_triggered;
            to.none_available = m.none_available;
            to.rate_limited_responses = m.counters.rate_limited_responses;
            to.leases_in_flight = m.counters.leases_in_flight;
            to.capped_waits = m.counters.capped_waits;
            abi::write(out, &to);
            Ok(())
        })
    }
}

/// Writes metrics in the Prometheus text format, with a terminating NUL, and their length without it to `*len`: the
/// counters, engine-wide and per provider; of each provider health, cooldown, latency and leases in flight; of each quota
/// the limit as configured and as in force, what is used, what remains and what is predicted. If `capacity` bytes are too
/// few, writes only `*len` and returns `GRATE_ERR_BUFFER_TOO_SMALL`: call again with more than `*len` bytes. `buffer` may be
/// NULL if `capacity` is 0. All who use a state file tell the same numbers: scrape one of them.
/// Also fails with `GRATE_ERR_NULL_POINTER`. Safe on any thread at any time.
///
/// # Safety
/// `engine` must be NULL or alive; `buffer` writable for `capacity` bytes; `len` NULL or writable; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_prometheus(
    engine: *mut grate_engine,
    buffer: *mut c_char,
    capacity: u64,
    len: *mut u64,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            abi::out(len, "len")?;
            if buffer.is_null() && capacity > 0 {
                return Err(Failure::null("buffer"));
            }
            let text = engine.inner.prometheus();
            abi::write_value(len, text.len() as u64)?;
            if capacity <= text.len() as u64 {
                return Err(Failure::new(
                    GRATE_ERR_BUFFER_TOO_SMALL,
                    format_args!("the text has {} bytes and its NUL, the buffer {capacity}", text.len()),
                ));
            }
            let to = buffer.cast::<u8>();
            std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
            to.add(text.len()).write(0);
            Ok(())
        })
    }
}
