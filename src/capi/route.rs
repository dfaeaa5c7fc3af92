//! The hot path: select, acquire, complete, cancel, observe. Nothing here allocates.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr;

use super::abi::{self, Struct, structs};
use super::config::{GRATE_ZERO, dimension_code, reserved};
use super::engine::grate_engine;
use super::error::{Failure, GRATE_ERR_NO_PROVIDER_AVAILABLE, grate_error, grate_status, guard};
use super::headers::{fields, grate_header};
use crate::config::Dimension;
use crate::engine::{Candidates, Engine, Estimate, HeldBy, Rank, Ranked, Report, Routed};
use crate::feedback::{Outcome, headers};
use crate::lease::LeaseId;
use crate::usage::Reported;

/// Nothing holds the provider: it can be chosen.
pub const GRATE_HELD_BY_NOTHING: i32 = 0;
/// The provider is cooling down.
pub const GRATE_HELD_BY_COOLDOWN: i32 = 1;
/// Its health is below `min_health_for_selection`.
pub const GRATE_HELD_BY_HEALTH: i32 = 2;
/// A quota has no room; `held_dimension` and `held_window_ns` say which.
pub const GRATE_HELD_BY_QUOTA: i32 = 3;
/// All its concurrency slots are taken.
pub const GRATE_HELD_BY_CONCURRENCY: i32 = 4;
/// It is half-open after a cooldown, and the leases that may try it are out.
pub const GRATE_HELD_BY_PROBE: i32 = 5;
/// The request excludes it.
pub const GRATE_HELD_BY_EXCLUSION: i32 = 6;

/// A wait that never ends by itself: the request is larger than the limit or than the headroom leaves, excludes the
/// provider, or the capability has none. Do not sleep for it.
pub const GRATE_NEVER: u64 = u64::MAX;

/// Outcome of a request: served.
pub const GRATE_OUTCOME_SUCCESS: i32 = 1;
/// Outcome: refused because of a rate limit (HTTP 429).
pub const GRATE_OUTCOME_RATE_LIMITED: i32 = 2;
/// Outcome: refused because a budget or long quota is spent; `retry_after_ns` says for how long, if known. If not, the longest
/// cooldown (`max_cooldown_secs`) starts at once.
pub const GRATE_OUTCOME_QUOTA_EXHAUSTED: i32 = 3;
/// Outcome: refused as not allowed (HTTP 401, 402, 403).
pub const GRATE_OUTCOME_FORBIDDEN: i32 = 4;
/// Outcome: the provider failed (HTTP 5xx and above), or could not be reached: if nothing was sent, say so with
/// `GRATE_ZERO` for `requests` and for every other amount that was estimated.
pub const GRATE_OUTCOME_SERVER_ERROR: i32 = 5;
/// Outcome: the provider is overloaded, whoever asks (HTTP 503, 529).
pub const GRATE_OUTCOME_OVERLOADED: i32 = 6;
/// Outcome: no answer in time (HTTP 408, or the caller's own timeout).
pub const GRATE_OUTCOME_TIMEOUT: i32 = 7;
/// Outcome: refused as wrong (other HTTP 4xx): the caller's fault, so the provider counts as working.
pub const GRATE_OUTCOME_CLIENT_ERROR: i32 = 8;
/// Outcome: sent, then given up by the caller: says nothing of the provider, but its usage counts.
pub const GRATE_OUTCOME_CANCELLED: i32 = 9;

/// What a request will use and demands. All zero: one request of unknown size. An estimate of 0 is "not given": what
/// requests of this capability used on the provider before stands for it, capped by the limits; `GRATE_ZERO` is a true zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_request {
    /// `sizeof(grate_request)`.
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Estimated tokens, input and output together. If not given, but one of the next two is, their sum.
    pub tokens: u64,
    /// Estimated input tokens.
    pub input_tokens: u64,
    /// Estimated output tokens.
    pub output_tokens: u64,
    /// Estimated bytes.
    pub bytes: u64,
    /// Estimated cost in millionths of a US dollar.
    pub cost_micro_usd: u64,
    /// Share of every quota that must stay free after this request, >= 0 and < 1: batch work with 0.3 leaves 30 %, of
    /// concurrency slots, too. Rounded up: of a single one nothing is left to use.
    pub headroom: f64,
    /// Names of providers that must not be chosen, such as the one that just failed. Unknown names are ignored.
    pub exclude: *const *const c_char,
    /// How many names, at most 64.
    pub exclude_len: u64,
}

/// One provider of the capability, as a decision saw it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_candidate {
    /// `sizeof(grate_candidate)`: only the first element's is read, and it is the step of the array.
    pub struct_size: u32,
    /// `GRATE_HELD_BY_NOTHING`, or what holds the provider longest.
    pub held_by: i32,
    /// Name; valid as long as the engine.
    pub provider: *const c_char,
    /// Weighted sum of the four components, in [0, 1]; also computed for providers that are held.
    pub score: f64,
    /// How well off the tightest quota will be at the forecast horizon: 1 while more than a quarter of it will be left,
    /// falling to 0 when none will.
    pub quota_score: f64,
    /// Health, in [0, 1].
    pub health_score: f64,
    /// Priority, relative to the highest of the capability (one half if that is 0), times the weight, in [0, 1].
    pub priority_score: f64,
    /// Lowest known latency of the capability, relative to this one's, in [0, 1]; 1 while this one's is unknown.
    pub latency_score: f64,
    /// Seconds until the first quota is spent if the present burn goes on; infinity if none will be.
    pub seconds_to_exhaustion: f64,
    /// Nanoseconds until it can take this request: 0 if it can now, `GRATE_NEVER` if waiting does not help. Exact for cooldown,
    /// health and quotas, unless something else holds it then (of a bucket, to a nanosecond for each lease that expires
    /// meanwhile); for concurrency and probes the expected end of the oldest lease.
    /// Where response headers hold it: no later than then, or 1 ms if a request in flight will bring news. For a limit that was
    /// learned too low for the request: until it next rises.
    pub retry_after_ns: u64,
    /// With `GRATE_HELD_BY_QUOTA` and `_CONCURRENCY`: the `GRATE_DIMENSION_` of the quota, else 0.
    pub held_dimension: i32,
    /// Its place in the capability's list, from 0.
    pub index: u32,
    /// With `GRATE_HELD_BY_QUOTA`: the window of that quota, else 0.
    pub held_window_ns: u64,
}

/// Where the next request goes, and why. When nothing is available (`GRATE_ERR_NO_PROVIDER_AVAILABLE`), which provider
/// frees first, when, and what holds it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_decision {
    /// `sizeof(grate_decision)`.
    pub struct_size: u32,
    /// `GRATE_HELD_BY_NOTHING`, or what holds `provider`.
    pub held_by: i32,
    /// The lease to settle with `grate_engine_complete` or `_cancel`; 0 from select, and when nothing is available.
    pub lease: u64,
    /// The chosen provider, or the one that frees first; valid as long as the engine. NULL if the capability is empty.
    pub provider: *const c_char,
    /// Weighted sum of the four components below, in [0, 1].
    pub score: f64,
    /// How well off the tightest quota will be at the forecast horizon: 1 while more than a quarter of it will be left,
    /// falling to 0 when none will.
    pub quota_score: f64,
    /// Health, in [0, 1].
    pub health_score: f64,
    /// Priority, relative to the highest of the capability (one half if that is 0), times the weight, in [0, 1].
    pub priority_score: f64,
    /// Lowest known latency of the capability, relative to this one's, in [0, 1]; 1 while this one's is unknown.
    pub latency_score: f64,
    /// Seconds until the first quota is spent if the present burn goes on; infinity if none will be.
    pub seconds_to_exhaustion: f64,
    /// 0, or nanoseconds until `provider` can take this request; see `grate_candidate.retry_after_ns`.
    pub retry_after_ns: u64,
    /// What holds `provider`; see `grate_candidate.held_dimension`.
    pub held_dimension: i32,
    /// Its place in the capability's list, from 0.
    pub index: u32,
    /// What holds `provider`; see `grate_candidate.held_window_ns`.
    pub held_window_ns: u64,
    /// In: an array of the caller's for all candidates, or NULL. Those that can be chosen come first, best first (so the
    /// chosen one is `candidates[0]`), then those that are held, soonest free first.
    pub candidates: *mut grate_candidate,
    /// In: how many elements it has.
    pub candidates_capacity: u64,
    /// Out: how many elements were written: all, or as many as fit.
    pub candidates_len: u64,
    /// Out: how many providers the capability has.
    pub candidates_total: u64,
}

/// What became of a request. `outcome` or `http_status` is required.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_response {
    /// `sizeof(grate_response)`.
    pub struct_size: u32,
    /// A `GRATE_OUTCOME_`; 0: derived from `http_status`.
    pub outcome: i32,
    /// The HTTP status as it came, at least 100; 0: none. Only used if `outcome` is 0.
    pub http_status: i32,
    /// Must be 0.
    pub reserved: u32,
    /// From sending to the end of the answer, in nanoseconds. 0: since the lease was acquired; unknown for observe.
    /// `GRATE_ZERO`: none at all.
    pub latency_ns: u64,
    /// How long the provider says to stay away (Retry-After), in nanoseconds; of no effect with a success, client error or
    /// cancelled request. 0: it did not say; `GRATE_ZERO`: not at all.
    pub retry_after_ns: u64,
    /// Requests used. 0 is 1; `GRATE_ZERO`: none.
    pub requests: u64,
    /// Tokens used. 0: as estimated (of a request that was refused: none); `GRATE_ZERO`: none.
    /// The same for the fields below; if only input and output are given, this is their sum, and if only one of them is, the
    /// other is as estimated.
    pub tokens: u64,
    /// Input tokens used.
    pub input_tokens: u64,
    /// Output tokens used.
    pub output_tokens: u64,
    /// Bytes used.
    pub bytes: u64,
    /// Cost in millionths of a US dollar.
    pub cost_micro_usd: u64,
    /// The response's header fields, in any order, or NULL: rate-limit fields correct what is known of the provider.
    pub headers: *const grate_header,
    /// How many.
    pub headers_len: u64,
}

structs! {
    grate_request = 72,
    grate_candidate = 88,
    grate_decision = 128,
    grate_response = 96,
}

/// Initialises the first `size` bytes of `request` (pass `sizeof *request`). Does nothing for NULL.
///
/// # Safety
/// `request` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_request_init(request: *mut grate_request, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(request, size) }
}

/// Initialises the first `size` bytes of `candidate` (pass `sizeof *candidate`). Does nothing for NULL.
///
/// # Safety
/// `candidate` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_candidate_init(candidate: *mut grate_candidate, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(candidate, size) }
}

/// Initialises the first `size` bytes of `decision` (pass `sizeof *decision`). Does nothing for NULL.
///
/// # Safety
/// `decision` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_decision_init(decision: *mut grate_decision, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(decision, size) }
}

/// Initialises the first `size` bytes of `response` (pass `sizeof *response`). Does nothing for NULL.
///
/// # Safety
/// `response` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_response_init(response: *mut grate_response, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(response, size) }
}

/// Chooses a provider and changes nothing: a look, not a promise. Concurrent callers may get the same answer; use
/// `grate_engine_acquire` to reserve. `request` may be NULL. On success `out->lease` is 0.
///
/// Fails with `GRATE_ERR_NO_PROVIDER_AVAILABLE` (then `*out` tells which provider frees first, when, and what holds it),
/// `GRATE_ERR_UNKNOWN_CAPABILITY`, `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_STRUCT_SIZE`, `GRATE_ERR_INVALID_NAME`,
/// `GRATE_ERR_INVALID_ARGUMENT`; with these, `*out` is untouched. Does not allocate. Safe on any thread at any time.
///
/// # Safety
/// `engine` must be NULL or alive; `capability` NULL or NUL-terminated; the structs NULL or valid with all they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_select(
    engine: *mut grate_engine,
    capability: *const c_char,
    request: *const grate_request,
    out: *mut grate_decision,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            route(engine, capability, request, out, |e, name, asked, sink, out| e.select_into(name, asked, sink, out))
        })
    }
}

/// Chooses a provider and reserves one request, the estimated usage and a concurrency slot on every quota concerned, all
/// or nothing. `request` may be NULL. On success `out->lease` must be settled with `grate_engine_complete` or
/// `grate_engine_cancel`; a lease that never is expires after `lease_ttl_ns`: its slot is freed, its usage stays counted.
///
/// Fails like `grate_engine_select`, and with `GRATE_ERR_CAPACITY` if there are too many leases in flight.
/// Does not allocate, but for a new peak of leases in flight. Safe on any thread at any time.
///
/// # Safety
/// As for `grate_engine_select`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_acquire(
    engine: *mut grate_engine,
    capability: *const c_char,
    request: *const grate_request,
    out: *mut grate_decision,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            route(engine, capability, request, out, |e, name, asked, sink, out| e.acquire_into(name, asked, sink, out))
        })
    }
}

/// Settles a lease whose request was sent: frees its slot, corrects the estimate to the actual usage (what is beyond it counts
/// from now on), and learns from the outcome. Fails with `GRATE_ERR_STALE_LEASE` if the lease was settled before, has expired or never existed (nothing
/// changes then), `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_STRUCT_SIZE`, `GRATE_ERR_INVALID_ARGUMENT`.
/// Does not allocate. Safe on any thread at any time.
///
/// # Safety
/// `engine` must be NULL or alive; `response` NULL or valid; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_complete(
    engine: *mut grate_engine,
    lease: u64,
    response: *const grate_response,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let lease = LeaseId::from_raw(lease);
            with_report(&engine.inner, response, |report| Ok(engine.inner.complete(lease, report)?))
        })
    }
}

/// Gives a lease back whose request was not sent: its slot and all it reserved that is still counted, on the quotas that it
/// was charged on. On a quota whose strategy has changed since, and on a token bucket that has refilled meanwhile or whose limit
/// has changed, configured or learned, part of it may stay counted: it cannot be told apart there. Otherwise like
/// `grate_engine_complete`.
///
/// # Safety
/// `engine` must be NULL or alive; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_cancel(
    engine: *mut grate_engine,
    lease: u64,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            Ok(engine.inner.cancel(LeaseId::from_raw(lease))?)
        })
    }
}

/// Reports usage and outcome of a request that was sent without a lease. Concurrency, which only leases hold, is
/// untouched. The usage counts even beyond a limit. Fails with `GRATE_ERR_UNKNOWN_PROVIDER`, `GRATE_ERR_NULL_POINTER`,
/// `GRATE_ERR_STRUCT_SIZE`, `GRATE_ERR_INVALID_NAME`, `GRATE_ERR_INVALID_ARGUMENT`.
/// Does not allocate. Safe on any thread at any time.
///
/// # Safety
/// `engine` must be NULL or alive; `provider` NULL or NUL-terminated; `response` NULL or valid; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_engine_observe(
    engine: *mut grate_engine,
    provider: *const c_char,
    response: *const grate_response,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let engine = abi::reference(engine, "engine")?;
            let name = abi::name_bytes(provider, "provider")?;
            with_report(&engine.inner, response, |report| {
                engine.inner.observe(name, report).map_err(|e| Failure::about(&e, name))
            })
        })
    }
}

/// What complete and observe share: `take` gets the response as the engine takes it, received now.
///
/// # Safety
/// The response is NULL or valid with all that it points to.
#[inline]
unsafe fn with_report(
    engine: &Engine,
    response: *const grate_response,
    take: impl FnOnce(&Report<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut copy = MaybeUninit::uninit();
    // SAFETY: the caller's promise.
    let r = unsafe { abi::view(response, None, &mut copy) }?;
    let outcome = outcome(r)?;
    if r.headers_len == 0 {
        take(&report(r, outcome, None))
    } else {
        // SAFETY: likewise.
        let headers = unsafe { read_headers(engine, r) }?;
        take(&report(r, outcome, Some(&headers)))
    }
}

/// Reads the headers of a response. Not part of the callers: what they tell takes much room.
///
/// # Safety
/// As for [`with_report`].
#[inline(never)]
unsafe fn read_headers(engine: &Engine, r: &grate_response) -> Result<headers::Report, Failure> {
    // SAFETY: the caller's promise.
    let fields = unsafe { fields(r.headers, r.headers_len) }?;
    Ok(headers::parse(fields, engine.unix_ms()))
}

/// What became of the request.
#[inline]
fn outcome(r: &grate_response) -> Result<Outcome, Failure> {
    reserved(r.reserved, "grate_response")?;
    if r.outcome == GRATE_OUTCOME_SUCCESS { Ok(Outcome::Success) } else { other_outcome(r) }
}

#[inline(never)]
fn other_outcome(r: &grate_response) -> Result<Outcome, Failure> {
    Ok(match r.outcome {
        GRATE_OUTCOME_RATE_LIMITED => Outcome::RateLimited,
        GRATE_OUTCOME_QUOTA_EXHAUSTED => Outcome::QuotaExhausted,
        GRATE_OUTCOME_FORBIDDEN => Outcome::Forbidden,
        GRATE_OUTCOME_SERVER_ERROR => Outcome::ServerError,
        GRATE_OUTCOME_OVERLOADED => Outcome::Overloaded,
        GRATE_OUTCOME_TIMEOUT => Outcome::Timeout,
        GRATE_OUTCOME_CLIENT_ERROR => Outcome::ClientError,
        GRATE_OUTCOME_CANCELLED => Outcome::Cancelled,
        0 if r.http_status >= 100 => Outcome::from_http_status(r.http_status),
        0 => {
            return Err(Failure::invalid(format_args!(
                "grate_response needs an outcome, or an http_status of at least 100 (it is {})",
                r.http_status
            )));
        }
        other => return Err(Failure::invalid(format_args!("{other} is not a GRATE_OUTCOME_"))),
    })
}

/// The response as the engine takes it.
#[inline]
fn report<'a>(r: &grate_response, outcome: Outcome, headers: Option<&'a headers::Report>) -> Report<'a> {
    Report {
        outcome,
        latency_ns: given(r.latency_ns),
        retry_after_ns: given(r.retry_after_ns),
        usage: usage([
            (Dimension::Requests, r.requests),
            (Dimension::Tokens, r.tokens),
            (Dimension::InputTokens, r.input_tokens),
            (Dimension::OutputTokens, r.output_tokens),
            (Dimension::Bytes, r.bytes),
            (Dimension::CostMicroUsd, r.cost_micro_usd),
        ]),
        headers,
    }
}

/// An integer in which 0 means "not given" and `GRATE_ZERO` a true zero.
#[inline]
fn given(value: u64) -> Option<u64> {
    match value {
        0 => None,
        GRATE_ZERO => Some(0),
        n => Some(n),
    }
}

/// Amounts in which 0 means "not given" and `GRATE_ZERO` a true zero.
#[inline]
fn usage<const N: usize>(amounts: [(Dimension, u64); N]) -> Reported {
    amounts.into_iter().fold(Reported::default(), |told, (dimension, amount)| told.with(dimension, given(amount)))
}

/// How a decision is made: by [`Engine::select_into`] or [`Engine::acquire_into`].
trait Decide:
    Fn(&Engine, &[u8], &Estimate<'_>, Option<&mut dyn Candidates>, &mut Routed) -> Result<(), crate::error::Error>
{
}

impl<F> Decide for F where
    F: Fn(&Engine, &[u8], &Estimate<'_>, Option<&mut dyn Candidates>, &mut Routed) -> Result<(), crate::error::Error>
{
}

/// What select and acquire share: read, decide, write.
///
/// # Safety
/// As for [`grate_engine_select`].
#[inline(always)]
unsafe fn route(
    engine: *mut grate_engine,
    capability: *const c_char,
    request: *const grate_request,
    out: *mut grate_decision,
    decide: impl Decide,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        let engine = &abi::reference(engine, "engine")?.inner;
        let name = abi::name_bytes(capability, "capability")?;
        // Mostly there is nothing to copy and no list to read or write.
        let asked = if request.is_null() { Some(&DEFAULT) } else { abi::ours(request) };
        let available = match (asked, abi::ours_mut(out)) {
            (Some(asked), Some(decision)) if asked.exclude_len == 0 && decision.candidates.is_null() => {
                answer(engine, name, asked, &[], None, decision, decide)?
            }
            _ => route_with_lists(engine, name, request, out, decide)?,
        };
        if available {
            Ok(())
        } else {
            Err(Failure::fixed(
                GRATE_ERR_NO_PROVIDER_AVAILABLE,
                "no provider can take the request now: the decision says which frees first, when, and what holds it",
            ))
        }
    }
}

/// The same for requests and decisions of any version, with lists.
///
/// # Safety
/// As for [`grate_engine_select`].
#[inline(never)]
unsafe fn route_with_lists(
    engine: &Engine,
    name: &[u8],
    request: *const grate_request,
    out: *mut grate_decision,
    decide: impl Decide,
) -> Result<bool, Failure> {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        let (mut copied_request, mut copied_decision) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let asked = abi::view(request, Some(&DEFAULT), &mut copied_request)?;
        let decision = abi::edit(out, &mut copied_decision)?;
        let mut rows = Rows::new(decision, engine)?;
        let list;
        let excluded: &[u32] = if asked.exclude_len == 0 {
            &[]
        } else {
            list = excluded(asked, engine)?;
            list.0.get(..list.1).unwrap_or_default()
        };
        let available = answer(engine, name, asked, excluded, rows.as_mut(), decision, decide)?;
        abi::finish(out, decision);
        Ok(available)
    }
}

/// Decides, and writes the decision. Whether it is to send the request.
#[inline(always)]
fn answer(
    engine: &Engine,
    name: &[u8],
    asked: &grate_request,
    excluded: &[u32],
    mut rows: Option<&mut Rows<'_>>,
    decision: &mut grate_decision,
    decide: impl Decide,
) -> Result<bool, Failure> {
    reserved(asked.reserved, "grate_request")?;
    let mut routed = Routed::default();
    let sink = rows.as_mut().map(|rows| &mut **rows as &mut dyn Candidates);
    let decided = decide(engine, name, &estimate(asked, excluded), sink, &mut routed);
    decided.map_err(|e| Failure::about(&e, name))?;
    decision.candidates_len = rows.map_or(0, |rows| rows.len as u64);
    decision.candidates_total = u64::from(routed.total);
    decision.lease = routed.lease.map_or(0, LeaseId::to_raw);
    let row = match &routed.best {
        Some(best) => candidate(best, engine),
        None => EMPTY,
    };
    decision.held_by = row.held_by;
    decision.provider = row.provider;
    decision.score = row.score;
    decision.quota_score = row.quota_score;
    decision.health_score = row.health_score;
    decision.priority_score = row.priority_score;
    decision.latency_score = row.latency_score;
    decision.seconds_to_exhaustion = row.seconds_to_exhaustion;
    decision.retry_after_ns = row.retry_after_ns;
    decision.held_dimension = row.held_dimension;
    decision.held_window_ns = row.held_window_ns;
    decision.index = row.index;
    Ok(routed.available())
}

/// What NULL stands for.
const DEFAULT: grate_request = grate_request {
    struct_size: 0,
    reserved: 0,
    tokens: 0,
    input_tokens: 0,
    output_tokens: 0,
    bytes: 0,
    cost_micro_usd: 0,
    headroom: 0.0,
    exclude: ptr::null(),
    exclude_len: 0,
};

/// The request as the engine takes it.
#[inline]
fn estimate<'a>(asked: &grate_request, excluded: &'a [u32]) -> Estimate<'a> {
    Estimate {
        usage: usage([
            (Dimension::Tokens, asked.tokens),
            (Dimension::InputTokens, asked.input_tokens),
            (Dimension::OutputTokens, asked.output_tokens),
            (Dimension::Bytes, asked.bytes),
            (Dimension::CostMicroUsd, asked.cost_micro_usd),
        ]),
        headroom: asked.headroom,
        excluded,
    }
}

/// What a decision says of a capability without providers.
const EMPTY: grate_candidate = grate_candidate {
    struct_size: 0,
    held_by: GRATE_HELD_BY_NOTHING,
    provider: ptr::null(),
    score: 0.0,
    quota_score: 0.0,
    health_score: 0.0,
    priority_score: 0.0,
    latency_score: 0.0,
    seconds_to_exhaustion: f64::INFINITY,
    retry_after_ns: GRATE_NEVER,
    held_dimension: 0,
    index: 0,
    held_window_ns: 0,
};

/// What holds a provider: its code, and the dimension and window of a quota.
#[inline(never)]
fn held_by(by: HeldBy) -> (i32, i32, u64) {
    match by {
        HeldBy::Cooldown => (GRATE_HELD_BY_COOLDOWN, 0, 0),
        HeldBy::Health => (GRATE_HELD_BY_HEALTH, 0, 0),
        HeldBy::Quota { dimension, window_ns } => (GRATE_HELD_BY_QUOTA, dimension_code(dimension), window_ns),
        HeldBy::Concurrency => (GRATE_HELD_BY_CONCURRENCY, super::config::GRATE_DIMENSION_CONCURRENCY, 0),
        HeldBy::Probe => (GRATE_HELD_BY_PROBE, 0, 0),
        HeldBy::Exclusion => (GRATE_HELD_BY_EXCLUSION, 0, 0),
    }
}

#[inline(always)]
fn candidate(c: &Ranked, engine: &Engine) -> grate_candidate {
    let (held_by, dimension, window) = c.held_by.map_or((GRATE_HELD_BY_NOTHING, 0, 0), held_by);
    grate_candidate {
        struct_size: size_of::<grate_candidate>() as u32,
        held_by,
        provider: engine.provider_name_ptr(c.provider),
        score: c.score.total,
        quota_score: c.score.quota,
        health_score: c.score.health,
        priority_score: c.score.priority,
        latency_score: c.score.latency,
        seconds_to_exhaustion: c.seconds_to_exhaustion,
        retry_after_ns: c.retry_after_ns,
        held_dimension: dimension,
        index: c.index,
        held_window_ns: window,
    }
}

/// Most names of an exclude list.
const MAX_EXCLUDED: usize = 64;

/// The providers of a request's exclude list, and how many they are.
///
/// # Safety
/// The list is valid.
#[inline(never)]
unsafe fn excluded(asked: &grate_request, engine: &Engine) -> Result<([u32; MAX_EXCLUDED], usize), Failure> {
    if asked.exclude.is_null() {
        return Err(Failure::null("grate_request.exclude"));
    }
    if asked.exclude_len > MAX_EXCLUDED as u64 {
        return Err(Failure::invalid(format_args!(
            "grate_request.exclude_len is {}, the most is {MAX_EXCLUDED}",
            asked.exclude_len
        )));
    }
    let (mut excluded, mut len) = ([0; MAX_EXCLUDED], 0);
    for i in 0..asked.exclude_len as usize {
        // SAFETY: the caller's promise; `i` is within the array.
        let name = unsafe { abi::name(asked.exclude.add(i).read_unaligned(), "a name in grate_request.exclude") }?;
        if let Some(provider) = engine.provider_id(name) {
            excluded[len] = provider;
            len += 1;
        }
    }
    Ok((excluded, len))
}

/// The caller's array of candidates, in order. They mostly come best first, so that none has to move; if there are more than fit,
/// the best stay.
struct Rows<'a> {
    start: *mut grate_candidate,
    step: usize,
    capacity: usize,
    len: usize,
    engine: &'a Engine,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// The decision's array is NULL or writable as it says.
    unsafe fn new(decision: &grate_decision, engine: &'a Engine) -> Result<Option<Self>, Failure> {
        let start = decision.candidates;
        if start.is_null() || decision.candidates_capacity == 0 {
            return Ok(None);
        }
        // SAFETY: there is a first element.
        let step = unsafe { abi::check_out(start) }?.struct_size as usize;
        let capacity = abi::checked_len(decision.candidates_capacity, step, grate_candidate::NAME)?;
        Ok(Some(Self { start, step, capacity, len: 0, engine }))
    }

    fn at(&self, i: usize) -> *mut grate_candidate {
        debug_assert!(i < self.capacity);
        self.start.wrapping_byte_add(i * self.step)
    }

    fn write(&mut self, i: usize, ranked: &Ranked) {
        let row = candidate(ranked, self.engine);
        // SAFETY: `i` is below the capacity; the step says how much of an element may be written.
        unsafe {
            self.at(i).cast::<u32>().write_unaligned(self.step as u32);
            abi::write(self.at(i), &row);
        }
    }

    fn rank(&self, i: usize) -> Rank {
        let row = self.at(i);
        // SAFETY: `i` is a row that was written, at least as long as the first version, which has these fields.
        unsafe {
            Rank {
                held: (&raw const (*row).held_by).read_unaligned() != GRATE_HELD_BY_NOTHING,
                score: (&raw const (*row).score).read_unaligned(),
                retry_after_ns: (&raw const (*row).retry_after_ns).read_unaligned(),
                index: (&raw const (*row).index).read_unaligned(),
            }
        }
    }

    /// Where a row belongs: behind all that come before it.
    fn place(&self, rank: Rank) -> usize {
        if self.len == 0 || self.rank(self.len - 1) < rank {
            return self.len;
        }
        let (mut low, mut high) = (0, self.len - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.rank(middle) < rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl Candidates for Rows<'_> {
    fn clear(&mut self) {
        self.len = 0;
    }

    fn push(&mut self, ranked: &Ranked) {
        let place = self.place(ranked.rank());
        if place == self.capacity {
            return;
        }
        let behind = self.len.min(self.capacity - 1) - place;
        let row = self.at(place).cast::<u8>();
        // SAFETY: they and the place behind them are inside the caller's array.
        unsafe { ptr::copy(row, row.wrapping_add(self.step), behind * self.step) };
        self.write(place, ranked);
        self.len = self.capacity.min(self.len + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MockClock;
    use crate::config::Settings;
    use crate::score::Score;

    /// Lies where nothing may be written.
    const CANARY: u8 = 0xAA;

    #[test]
    fn the_best_rows_are_told_in_order_whatever_order_they_come_in() {
        let engine = Engine::new(Settings::default(), std::sync::Arc::new(MockClock::new(0))).unwrap();
        let mut random = 1u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for round in 0..500 {
            let (len, capacity) = (draw(20) as usize, 1 + draw(20) as usize);
            let step = size_of::<grate_candidate>() + if round % 2 == 0 { 0 } else { 24 };
            let mut all: Vec<_> = (0..len as u32)
                .map(|index| Ranked {
                    index,
                    held_by: (draw(3) == 0).then_some(HeldBy::Health),
                    score: Score { total: draw(5) as f64, ..Ranked::NONE.score },
                    retry_after_ns: draw(5),
                    ..Ranked::NONE
                })
                .collect();
            let mut room = vec![CANARY; (capacity + 1) * step];
            let mut decision = grate_decision { candidates_capacity: capacity as u64, ..all_zero() };
            decision.candidates = room.as_mut_ptr().cast();
            room[..size_of::<u32>()].copy_from_slice(&(step as u32).to_ne_bytes());
            // SAFETY: so many rows of that step.
            let mut rows = unsafe { Rows::new(&decision, &engine) }.unwrap_or_else(|_| unreachable!()).unwrap();
            for ranked in &all {
                rows.push(ranked);
            }
            let told: Vec<_> = (0..rows.len).map(|i| rows.rank(i).index).collect();
            all.sort_by(|a, b| a.rank().partial_cmp(&b.rank()).unwrap());
            let wanted: Vec<_> = all.iter().take(capacity).map(|ranked| ranked.index).collect();
            assert_eq!(told, wanted, "{len} rows in {capacity} places");
            assert!(room[capacity * step..].iter().all(|byte| *byte == CANARY));
        }
    }

    fn all_zero() -> grate_decision {
        // SAFETY: any bytes are a valid `Struct`.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}
