//! The token bucket: up to `burst` units at once, refilled continuously at `limit` per window.
//!
//! Kept as a debt that drains: units that are missing from the full bucket, times the window, so that draining `limit` per
//! nanosecond is exact in integers. The debt is a 128-bit number in two words; it was so large at the time SINCE, which may
//! lie ahead. A full bucket refills nothing, and the provider's is full until a request arrives: so the debt of a charge
//! does not drain before its effective time, but for what is in front of it (the bucket is full again at `max(full_at, at) +
//! n / rate`, as in GCRA).

use super::{NEVER, QuotaRef};
use crate::clock::Now;
use crate::config::QuotaConfig;

const DEBT_LOW: usize = 0;
const DEBT_HIGH: usize = 1;
const SINCE: usize = 2;
/// The least debt that a charge has found on arrival since the bucket was last full: what was charged before it and turns
/// out to be too much changes what it found, and so comes back to no more than that.
const LEAST: usize = 3;
/// The size of the bucket as configured; 0 is the limit.
const BURST: usize = 4;

pub(super) fn configure(quota: &super::Quota, config: &QuotaConfig) {
    quota.words[BURST].set(config.burst.unwrap_or(0));
}

/// Whether its words make sense.
#[cfg(unix)]
pub(super) fn is_sound(q: &QuotaRef<'_>) -> bool {
    let debt = u128::from(q.quota.words[DEBT_HIGH].get()) << 64 | u128::from(q.quota.words[DEBT_LOW].get());
    debt <= scaled(q, u64::MAX) && q.quota.words[SINCE].get() <= 2 * Now::LAST_MONO
}

/// The size of the bucket, with a limit.
pub(super) fn capacity(q: &QuotaRef<'_>, limit: u64) -> u64 {
    match q.quota.words[BURST].get() {
        0 => limit,
        burst => burst,
    }
}

/// What `n` units are as debt.
fn scaled(q: &QuotaRef<'_>, n: u64) -> u128 {
    u128::from(n) * u128::from(q.quota.window.get())
}

/// Whole units of a debt.
fn units(q: &QuotaRef<'_>, debt: u128) -> u64 {
    u64::try_from(debt / u128::from(q.quota.window.get())).unwrap_or(u64::MAX)
}

fn drained(q: &QuotaRef<'_>, ns: u64) -> u128 {
    u128::from(q.quota.limit.get()) * u128::from(ns)
}

fn debt_at(q: &QuotaRef<'_>, time: u64) -> u128 {
    let debt = u128::from(q.quota.words[DEBT_HIGH].get()) << 64 | u128::from(q.quota.words[DEBT_LOW].get());
    debt.saturating_sub(drained(q, time.saturating_sub(q.quota.words[SINCE].get())))
}

fn debt(q: &QuotaRef<'_>, now: Now) -> u128 {
    debt_at(q, now.mono)
}

fn set_debt(q: &QuotaRef<'_>, debt: u128) {
    q.quota.words[DEBT_HIGH].set((debt >> 64) as u64);
    q.quota.words[DEBT_LOW].set(debt as u64);
}

/// Brings the stored debt up to now.
pub(super) fn advance(q: &QuotaRef<'_>, now: Now) {
    set_debt(q, debt(q, now));
    let since = q.quota.words[SINCE].get().max(now.mono);
    q.quota.words[SINCE].set(since);
}

#[inline(never)]
pub(super) fn used(q: &QuotaRef<'_>, now: Now) -> u64 {
    let window = u128::from(q.quota.window.get());
    units(q, debt(q, now).saturating_add(window - 1))
}

pub(super) fn fits(q: &QuotaRef<'_>, now: Now, n: u64, ceiling: u64) -> bool {
    // Nothing always fits, as with the other strategies.
    n == 0 || debt(q, now) + scaled(q, n) <= scaled(q, ceiling)
}

pub(super) fn wait(q: &QuotaRef<'_>, now: Now, n: u64, ceiling: u64) -> u64 {
    let excess = (debt(q, now) + scaled(q, n)).saturating_sub(scaled(q, ceiling));
    if q.quota.limit.get() == 0 {
        return NEVER;
    }
    let draining = excess.div_ceil(u128::from(q.quota.limit.get()));
    let until_it_drains = q.quota.words[SINCE].get().saturating_sub(now.mono);
    u64::try_from(draining).unwrap_or(NEVER).saturating_add(until_it_drains)
}

#[inline(never)]
pub(super) fn record(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    advance(q, now);
    let (debt, found) = (debt(q, now), debt_at(q, at));
    if found == 0 {
        // Full again when this one arrives: it starts afresh, and the debt waits for it.
        let ahead = debt.checked_div(u128::from(q.quota.limit.get())).unwrap_or(0);
        let since = at.saturating_sub(u64::try_from(ahead).unwrap_or(u64::MAX));
        q.quota.words[SINCE].set(q.quota.words[SINCE].get().max(since));
        q.quota.words[LEAST].set(u64::MAX);
        q.quota.gone.set(q.quota.gone.get().max(at));
    } else {
        q.quota.words[LEAST].set(q.quota.words[LEAST].get().min(units(q, found)));
    }
    // Bounded: 2^64 units of a window below 2^55 ns are below 2^119, far from the end of a u128.
    set_debt(q, (debt + scaled(q, n)).min(scaled(q, u64::MAX)));
}

/// Gives back what was charged too much: as much as no later charge has found missing, or as cannot have drained since.
pub(super) fn refund(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    let drained = drained(q, now.mono.saturating_add(q.quota.lead.get()).saturating_sub(at));
    let back = scaled(q, n.min(q.quota.words[LEAST].get())).max(scaled(q, n).saturating_sub(drained));
    set_debt(q, debt(q, now).saturating_sub(back));
    // Later charges have now found so much less.
    q.quota.words[LEAST].sub(units(q, back));
}

#[inline(never)]
pub(super) fn returning(q: &QuotaRef<'_>, now: Now, horizon: u64) -> u64 {
    units(q, debt(q, now) - debt_at(q, now.mono.saturating_add(horizon)))
}
