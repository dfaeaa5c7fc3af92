//! Providers, quotas and capabilities: structs, registration, JSON.

use std::ffi::c_char;
use std::mem::size_of;

use super::abi::{self, structs};
use super::engine::grate_engine;
use super::error::{Failure, grate_error, grate_status, guard};
use crate::config::{Candidate, CapabilityConfig, Change, Dimension, ProviderConfig, QuotaConfig, Strategy};

/// A true zero for the integer fields in which 0 means "default" or "not given".
pub const GRATE_ZERO: u64 = u64::MAX;
/// The same for `grate_capability_provider.priority`.
pub const GRATE_PRIORITY_ZERO: u32 = u32::MAX;

/// Quota dimension: requests; each attempt is one.
pub const GRATE_DIMENSION_REQUESTS: i32 = 1;
/// Quota dimension: tokens, input and output together.
pub const GRATE_DIMENSION_TOKENS: i32 = 2;
/// Quota dimension: input (prompt) tokens.
pub const GRATE_DIMENSION_INPUT_TOKENS: i32 = 3;
/// Quota dimension: output (completion) tokens.
pub const GRATE_DIMENSION_OUTPUT_TOKENS: i32 = 4;
/// Quota dimension: requests in flight. Held by leases, so only `grate_engine_acquire` uses it.
pub const GRATE_DIMENSION_CONCURRENCY: i32 = 5;
/// Quota dimension: bytes.
pub const GRATE_DIMENSION_BYTES: i32 = 6;
/// Quota dimension: money, in millionths of a US dollar.
pub const GRATE_DIMENSION_COST_MICRO_USD: i32 = 7;

/// Quota strategy: no window of this length, wherever it starts, holds more than the limit. Safe whether the
/// provider counts in fixed windows, a sliding log or a bucket of that size. What 0 stands for.
pub const GRATE_STRATEGY_ROLLING: i32 = 1;
/// Quota strategy: a bucket of `burst` units that refills continuously at `limit` per `window_ns`.
pub const GRATE_STRATEGY_TOKEN_BUCKET: i32 = 2;
/// Quota strategy: calendar windows, which start at multiples of `window_ns` since the Unix epoch plus `phase_ns`. The wall
/// clock is read when a window begins; a step of it moves the next boundary only. A reset in response headers ends one.
pub const GRATE_STRATEGY_FIXED_WINDOW: i32 = 3;
/// Quota strategy: leases in flight. What the dimension concurrency always uses.
pub const GRATE_STRATEGY_CONCURRENCY: i32 = 4;

/// A window of one second, in nanoseconds.
pub const GRATE_WINDOW_SECOND: u64 = 1_000_000_000;
/// A window of one minute, in nanoseconds.
pub const GRATE_WINDOW_MINUTE: u64 = 60_000_000_000;
/// A window of one hour, in nanoseconds.
pub const GRATE_WINDOW_HOUR: u64 = 3_600_000_000_000;
/// A window of 24 hours, in nanoseconds.
pub const GRATE_WINDOW_DAY: u64 = 86_400_000_000_000;

/// One quota of a provider.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_quota_config {
    /// `sizeof(grate_quota_config)`.
    pub struct_size: u32,
    /// What is counted: a `GRATE_DIMENSION_`. Required.
    pub dimension: i32,
    /// Units per window, or leases in flight for concurrency. 0 admits nothing; a request that uses none of a
    /// dimension (`GRATE_ZERO`) is not held by it.
    pub limit: u64,
    /// Length of the window in nanoseconds, 1 ms to 366 days. Required, but 0 for concurrency.
    pub window_ns: u64,
    /// A `GRATE_STRATEGY_`; 0 is rolling (concurrency for that dimension).
    pub strategy: i32,
    /// Must be 0.
    pub reserved: u32,
    /// Size of the token bucket in units; 0 is `limit`. Must be 0 for other strategies. At most so many units are admitted in
    /// the time that a request may be on the wire (`skew_ns`), as they may all arrive together: to use all of the limit, it
    /// must be more than what refills meanwhile. While the limit in force is less than the configured one, it is smaller by the
    /// same part.
    pub burst: u64,
    /// Where calendar windows start, in nanoseconds after UTC midnight of 1970-01-01 (8 h for midnight in UTC-8).
    /// More than minus one and less than plus one window. Must be 0 for other strategies.
    pub phase_ns: i64,
    /// Quotas with the same pool name, dimension and window are one counter, whichever providers they are on:
    /// several models of one account, several keys of one organisation. NULL: the provider's own.
    pub pool: *const c_char,
}

/// A provider. Registering a name again changes the definition and keeps usage, health and leases.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_provider_config {
    /// `sizeof(grate_provider_config)`.
    pub struct_size: u32,
    /// Default priority in capabilities: higher is better, up to 1000000.
    pub priority: u32,
    /// Name: 1 to 128 bytes of UTF-8 without control characters. Required; copied.
    pub name: *const c_char,
    /// Multiplies the priority component; finite, > 0. 0 is 1.
    pub weight: f64,
    /// The first cooldown in seconds, > 0 and at most 31622400 (366 days). 0 is 30.
    pub cooldown_seconds: f64,
    /// The quotas, copied; each with its `struct_size`, which is the step. NULL if there are none.
    pub quotas: *const grate_quota_config,
    /// How many, at most 32.
    pub quotas_len: u64,
}

/// One provider of a capability.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_capability_provider {
    /// `sizeof(grate_capability_provider)`.
    pub struct_size: u32,
    /// Priority here, up to 1000000. 0 is the provider's default; `GRATE_PRIORITY_ZERO` a true zero.
    pub priority: u32,
    /// Name of a registered provider. Required.
    pub provider: *const c_char,
}

/// A logical operation and the providers that serve it. The order breaks ties of equal scores.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_capability_config {
    /// `sizeof(grate_capability_config)`.
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Name, as for providers. Required; copied.
    pub name: *const c_char,
    /// The providers, copied; each with its `struct_size`, which is the step. May be empty.
    pub providers: *const grate_capability_provider,
    /// How many.
    pub providers_len: u64,
}

structs! {
    grate_quota_config = 56,
    grate_provider_config = 48,
    grate_capability_provider = 16,
    grate_capability_config = 32,
}

/// Initialises the first `size` bytes of `config` (pass `sizeof *config`). Does nothing for NULL.
///
/// # Safety
/// `config` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_quota_config_init(config: *mut grate_quota_config, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(config, size) }
}

/// Initialises the first `size` bytes of `config` (pass `sizeof *config`). Does nothing for NULL.
///
/// # Safety
/// `config` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_provider_config_init(config: *mut grate_provider_config, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(config, size) }
}

/// Initialises the first `size` bytes of `provider` (pass `sizeof *provider`). Does nothing for NULL.
///
/// # Safety
/// `provider` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_capability_provider_init(provider: *mut grate_capability_provider, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(provider, size) }
}

/// Initialises the first `size` bytes of `config` (pass `sizeof *config`). Does nothing for NULL.
///
/// # Safety
/// `config` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_capability_config_init(config: *mut grate_capability_config, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(config, size) }
}

/// A reserved field that a later version may give a meaning to.
#[inline]
pub(super) fn reserved(value: u32, what: &str) -> Result<(), Failure> {
    if value == 0 { Ok(()) } else { Err(not_reserved(what)) }
}

#[cold]
#[inline(never)]
fn not_reserved(what: &str) -> Failure {
    Failure::invalid(format_args!("{what}.reserved must be 0"))
}

/// The dimension that a `GRATE_DIMENSION_` stands for.
pub(super) fn dimension(value: i32) -> Result<Dimension, Failure> {
    Ok(match value {
        GRATE_DIMENSION_REQUESTS => Dimension::Requests,
        GRATE_DIMENSION_TOKENS => Dimension::Tokens,
        GRATE_DIMENSION_INPUT_TOKENS => Dimension::InputTokens,
        GRATE_DIMENSION_OUTPUT_TOKENS => Dimension::OutputTokens,
        GRATE_DIMENSION_CONCURRENCY => Dimension::Concurrency,
        GRATE_DIMENSION_BYTES => Dimension::Bytes,
        GRATE_DIMENSION_COST_MICRO_USD => Dimension::CostMicroUsd,
        _ => return Err(Failure::invalid(format_args!("{value} is not a GRATE_DIMENSION_"))),
    })
}

/// The `GRATE_DIMENSION_` of a dimension.
pub(super) fn dimension_code(dimension: Dimension) -> i32 {
    match dimension {
        Dimension::Requests => GRATE_DIMENSION_REQUESTS,
        Dimension::Tokens => GRATE_DIMENSION_TOKENS,
        Dimension::InputTokens => GRATE_DIMENSION_INPUT_TOKENS,
        Dimension::OutputTokens => GRATE_DIMENSION_OUTPUT_TOKENS,
        Dimension::Concurrency => GRATE_DIMENSION_CONCURRENCY,
        Dimension::Bytes => GRATE_DIMENSION_BYTES,
        Dimension::CostMicroUsd => GRATE_DIMENSION_COST_MICRO_USD,
    }
}

fn strategy(value: i32) -> Result<Option<Strategy>, Failure> {
    Ok(match value {
        0 => None,
        GRATE_STRATEGY_ROLLING => Some(Strategy::Rolling),
        GRATE_STRATEGY_TOKEN_BUCKET => Some(Strategy::TokenBucket),
        GRATE_STRATEGY_FIXED_WINDOW => Some(Strategy::FixedWindow),
        GRATE_STRATEGY_CONCURRENCY => Some(Strategy::Concurrency),
        _ => return Err(Failure::invalid(format_args!("{value} is not a GRATE_STRATEGY_"))),
    })
}

/// The `GRATE_STRATEGY_` of a strategy.
pub(super) fn strategy_code(strategy: Strategy) -> i32 {
    match strategy {
        Strategy::Rolling => GRATE_STRATEGY_ROLLING,
        Strategy::TokenBucket => GRATE_STRATEGY_TOKEN_BUCKET,
        Strategy::FixedWindow => GRATE_STRATEGY_FIXED_WINDOW,
        Strategy::Concurrency => GRATE_STRATEGY_CONCURRENCY,
    }
}

/// # Safety
/// The pool name is NULL or a valid string.
unsafe fn quota(c: &grate_quota_config) -> Result<QuotaConfig, Failure> {
    reserved(c.reserved, "grate_quota_config")?;
    Ok(QuotaConfig {
        dimension: dimension(c.dimension)?,
        limit: c.limit,
        window_ns: c.window_ns,
        strategy: strategy(c.strategy)?,
        burst: (c.burst != 0).then_some(c.burst),
        phase_ns: (c.phase_ns != 0).then_some(c.phase_ns),
        // SAFETY: the caller's promise.
        pool: unsafe { abi::optional_name(c.pool, "grate_quota_config.pool") }?.map(Into::into),
    })
}

/// Registers a provider, or changes one: usage, health and leases are kept, and a changed limit applies to what is
/// already counted. A lease that is out is settled on the quotas that it was charged on, also on those that are taken off;
/// of one that is added it holds a slot, if that counts concurrency, and nothing else, whatever its request uses. (One that
/// counts requests per minute goes on from those of the last minute: they are counted without it, too.)
/// Everything is copied. Takes longer the more providers there are (some 0.2 ms for 1000, and several times as long with a
/// state file): to register many, call `grate_engine_configure_json` once. Nothing changes on failure:
/// `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_STRUCT_SIZE`, `GRATE_ERR_INVALID_NAME`, `GRATE_ERR_INVALID_ARGUMENT`,
/// `GRATE_ERR_INVALID_CONFIG`, `GRATE_ERR_CAPACITY`.
/// Safe on any thread at any time.
///
/// # Safety
/// `engine` must be NULL or alive; `config` NULL or valid with all that it points to; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_upsert_provider(
    engine: *mut grate_engine,
    config: *const grate_provider_config,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let c = abi::read(config)?;
            let name = abi::name(c.name, "grate_provider_config.name")?;
            let quotas = abi::read_array(c.quotas, c.quotas_len)?;
            let provider = ProviderConfig {
                name: name.into(),
                priority: c.priority,
                weight: if c.weight == 0.0 { 1.0 } else { c.weight },
                cooldown_seconds: if c.cooldown_seconds == 0.0 {
                    ProviderConfig::DEFAULT_COOLDOWN_SECONDS
                } else {
                    c.cooldown_seconds
                },
                quotas: quotas.iter().map(|q| quota(q)).collect::<Result<_, _>>()?,
            };
            Ok(engine.inner.apply(Change { providers: vec![provider], ..Change::default() })?)
        })
    }
}

/// Registers a capability, or replaces its list of providers. Everything is copied. A provider that is not registered
/// is an error (`GRATE_ERR_UNKNOWN_PROVIDER`) and nothing changes; other errors as for `grate_engine_upsert_provider`.
/// Safe on any thread at any time.
///
/// # Safety
/// As for `grate_engine_upsert_provider`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_upsert_capability(
    engine: *mut grate_engine,
    config: *const grate_capability_config,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let c = abi::read(config)?;
            reserved(c.reserved, "grate_capability_config")?;
            let name = abi::name(c.name, "grate_capability_config.name")?;
            let list = abi::read_array(c.providers, c.providers_len)?;
            let providers = list
                .iter()
                .map(|p| {
                    Ok(Candidate {
                        provider: abi::name(p.provider, "grate_capability_provider.provider")?.into(),
                        priority: match p.priority {
                            0 => None,
                            GRATE_PRIORITY_ZERO => Some(0),
                            n => Some(n),
                        },
                    })
                })
                .collect::<Result<_, Failure>>()?;
            let capability = CapabilityConfig { name: name.into(), providers };
            Ok(engine.inner.apply(Change { capabilities: vec![capability], ..Change::default() })?)
        })
    }
}

/// Removes a provider, also from every capability that lists it. Its leases can still be settled, and its usage and
/// health are remembered: a provider of that name that is registered later goes on from there.
/// Fails with `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_INVALID_NAME`, `GRATE_ERR_UNKNOWN_PROVIDER`. Safe on any thread.
///
/// # Safety
/// `engine` must be NULL or alive; `name` NULL or NUL-terminated; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_remove_provider(
    engine: *mut grate_engine,
    name: *const c_char,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let name = abi::name(name, "name")?;
            engine.inner.remove_provider(name).map_err(|e| Failure::about(&e, name.as_bytes()))
        })
    }
}

/// Removes a capability; its providers and leases stay. Fails with `GRATE_ERR_NULL_POINTER`,
/// `GRATE_ERR_INVALID_NAME`, `GRATE_ERR_UNKNOWN_CAPABILITY`. Safe on any thread.
///
/// # Safety
/// As for `grate_engine_remove_provider`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_remove_capability(
    engine: *mut grate_engine,
    name: *const c_char,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let name = abi::name(name, "name")?;
            engine.inner.remove_capability(name).map_err(|e| Failure::about(&e, name.as_bytes()))
        })
    }
}

/// Applies a JSON document, whole or not at all. It registers or changes what it names and leaves the rest, or, with
/// `"replace": true`, removes what it does not name; of leases that are out see `grate_engine_upsert_provider`. The README
/// has the format. `json` is `len` bytes of UTF-8 and needs no NUL. Fails with `GRATE_ERR_INVALID_JSON` (the message gives
/// line and column), `GRATE_ERR_INVALID_CONFIG`, `GRATE_ERR_INVALID_NAME`, `GRATE_ERR_UNKNOWN_PROVIDER`,
/// `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_INVALID_ARGUMENT` (an impossible length), `GRATE_ERR_CAPACITY`. Safe on any thread
/// at any time.
///
/// # Safety
/// `engine` must be NULL or alive; `json` NULL or readable for `len` bytes; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_configure_json(
    engine: *mut grate_engine,
    json: *const c_char,
    len: u64,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let start = abi::reference(json.cast::<u8>(), "json")?;
            let len = abi::checked_len(len, size_of::<u8>(), "json")?;
            let text = std::slice::from_raw_parts(start, len);
            Ok(engine.inner.apply(Change::from_json(text)?)?)
        })
    }
}
