//! The token bucket: up to `burst` units at once, refilled continuously at `limit` per window.
//!
//! Kept as a debt that drains: units that are missing from the full bucket, times the window, so that draining `limit` per
//! nanosecond is exact in integers. A full bucket refills nothing, and the provider's is full until a request arrives: so the
//! debt of a charge that finds none on arrival does not drain before its effective time. (The bucket is full again at
//! `max(full_at, at) + n / rate`, as in GCRA.)
//!
//! So there are two debts: a front, which drains from the time SINCE, and behind it what waits to drain from a later time ARRIVES,
//! when the front is gone. What joins those that wait may make all of them wait longer, which never admits too much; but not for
//! longer than twice what a request needs to arrive, or a small bucket would not refill as long as requests come.
//!
//! Of units that a lease reserved and did not use, these books can rarely tell how much of them has drained. So there is a second
//! account: as if what leases have reserved did not drain before they are settled, and then what they used drains from there.
//! Neither account is ever less than what the provider's bucket lacks, and the lower one counts.

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
/// When those that wait begin to drain. `used` are their units.
const ARRIVES: usize = 5;
/// When what is settled will have drained, or [`UNKNOWN`]. `pending` is the rest of that account.
const SETTLED: usize = 6;
const UNKNOWN: u64 = u64::MAX;

pub(super) fn configure(quota: &super::Quota, config: &QuotaConfig) {
    quota.words[BURST].set(config.burst.unwrap_or(0));
}

/// Whether its words make sense.
#[cfg(unix)]
pub(super) fn is_sound(q: &QuotaRef<'_>) -> bool {
    let debt = u128::from(q.quota.words[DEBT_HIGH].get()) << 64 | u128::from(q.quota.words[DEBT_LOW].get());
    debt <= scaled(q, u64::MAX)
        && [SINCE, ARRIVES].into_iter().all(|word| q.quota.words[word].get() <= 2 * Now::LAST_MONO)
}

/// The size of the bucket, with a limit: below the configured one, it is smaller in proportion.
pub(super) fn capacity(q: &QuotaRef<'_>, limit: u64) -> u64 {
    let configured = q.configured_limit();
    match q.quota.words[BURST].get() {
        _ if limit == 0 => 0,
        0 => limit,
        burst if limit >= configured => burst,
        burst => (u128::from(burst) * u128::from(limit) / u128::from(configured)).max(1) as u64,
    }
}

/// Whether so many units are the configured size of the bucket, and not its limit.
pub(super) fn is_burst(q: &QuotaRef<'_>, n: u64) -> bool {
    n > 0 && n == q.quota.words[BURST].get() && n != q.configured_limit()
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

/// In how many whole nanoseconds a debt drains; 0 if none ever does.
fn drains_in(q: &QuotaRef<'_>, debt: u128) -> u64 {
    u64::try_from(debt.checked_div(u128::from(q.quota.limit.get())).unwrap_or(0)).unwrap_or(u64::MAX)
}

/// What is left of the front.
fn front_at(q: &QuotaRef<'_>, time: u64) -> u128 {
    let debt = u128::from(q.quota.words[DEBT_HIGH].get()) << 64 | u128::from(q.quota.words[DEBT_LOW].get());
    debt.saturating_sub(drained(q, time.saturating_sub(q.quota.words[SINCE].get())))
}

fn books_at(q: &QuotaRef<'_>, time: u64) -> u128 {
    let arrives = q.quota.words[ARRIVES].get();
    match q.quota.used.get() {
        0 => front_at(q, time),
        waiting => {
            let together = front_at(q, time.min(arrives)) + scaled(q, waiting);
            together.saturating_sub(drained(q, time.saturating_sub(arrives)))
        }
    }
}

/// Of the second account.
fn settled_at(q: &QuotaRef<'_>, time: u64) -> u128 {
    match q.quota.words[SETTLED].get() {
        UNKNOWN => u128::MAX,
        settled => drained(q, settled.saturating_sub(time)).saturating_add(scaled(q, q.quota.pending.get())),
    }
}

fn debt_at(q: &QuotaRef<'_>, time: u64) -> u128 {
    books_at(q, time).min(settled_at(q, time))
}

fn debt(q: &QuotaRef<'_>, now: Now) -> u128 {
    debt_at(q, now.mono)
}

fn set_front(q: &QuotaRef<'_>, debt: u128, since: u64) {
    // Bounded: 2^64 units of a window below 2^55 ns are below 2^119, far from the end of a u128.
    let debt = debt.min(scaled(q, u64::MAX));
    q.quota.words[DEBT_HIGH].set((debt >> 64) as u64);
    q.quota.words[DEBT_LOW].set(debt as u64);
    q.quota.words[SINCE].set(since);
}

/// Brings the books up to now.
pub(super) fn advance(q: &QuotaRef<'_>, now: Now) {
    let arrived = q.quota.words[ARRIVES].get() <= now.mono;
    let front = if arrived { books_at(q, now.mono) } else { front_at(q, now.mono) };
    set_front(q, front, q.quota.words[SINCE].get().max(now.mono));
    if arrived {
        q.quota.used.set(0);
    }
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
    let limit = u128::from(q.quota.limit.get());
    if limit == 0 {
        return NEVER;
    }
    let excess_at = |time| (books_at(q, time) + scaled(q, n)).saturating_sub(scaled(q, ceiling));
    let since = q.quota.words[SINCE].get().max(now.mono);
    let arrives = q.quota.words[ARRIVES].get().max(since);
    let from = if excess_at(arrives) > 0 { arrives } else { since };
    let by_the_books = u64::try_from(excess_at(from).div_ceil(limit)).unwrap_or(NEVER).saturating_add(from - now.mono);
    let spare = scaled(q, ceiling).checked_sub(scaled(q, n) + scaled(q, q.quota.pending.get()));
    let settled = q.quota.words[SETTLED].get();
    let when_settled = spare
        .filter(|_| settled != UNKNOWN)
        .map_or(NEVER, |spare| settled.saturating_sub(now.mono).saturating_sub(drains_in(q, spare)));
    by_the_books.min(when_settled)
}

/// Counts units on the books.
#[inline(never)]
pub(super) fn record(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    advance(q, now);
    let (words, waiting) = (&q.quota.words, &q.quota.used);
    let (since, front, found) = (words[SINCE].get(), front_at(q, now.mono), books_at(q, at));
    words[LEAST].set(if found == 0 { u64::MAX } else { words[LEAST].get().min(units(q, found)) });
    if found > 0 && waiting.get() == 0 {
        set_front(q, front + scaled(q, n), since);
    } else if found > 0 {
        waiting.add(n);
    } else if front == 0 && waiting.get() == 0 {
        words[SETTLED].set(words[SETTLED].get().min(now.mono));
        set_front(q, scaled(q, n), since.max(at));
        q.quota.refund_none_before(at);
    } else {
        // Full again when this one arrives, and not yet now.
        if front == 0 {
            // Those that wait are the next front.
            set_front(q, scaled(q, waiting.get()), since.max(words[ARRIVES].get()));
            waiting.set(0);
        }
        words[ARRIVES].set(at.saturating_sub(drains_in(q, scaled(q, waiting.get()))));
        waiting.add(n);
        // Of the front and of those that wait, nothing is given back any more.
        q.quota.refund_none_before(now.mono.saturating_add(q.quota.lead.get()));
    }
}

/// Counts units in the second account: those of a lease when it is settled.
pub(super) fn settle(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    let settled = &q.quota.words[SETTLED];
    // Rounded up, so that it is never too little.
    let drained_after = match u128::from(q.quota.limit.get()) {
        0 => UNKNOWN,
        limit => u64::try_from(scaled(q, n).div_ceil(limit)).unwrap_or(UNKNOWN),
    };
    settled.set(settled.get().max(at).max(now.mono).saturating_add(drained_after));
}

/// What must happen before the limit changes: what drained so far drained at the old rate.
pub(super) fn prepare(q: &QuotaRef<'_>, now: Now) {
    advance(q, now);
    q.quota.refund_none_before(now.mono);
    if q.quota.words[SETTLED].get() > now.mono {
        q.quota.words[SETTLED].set(UNKNOWN);
    }
}

/// Gives back what was charged too much: as much as no later charge has found missing, or as cannot have drained since.
pub(super) fn refund(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    let drained = drained(q, now.mono.saturating_add(q.quota.lead.get()).saturating_sub(at));
    let back = scaled(q, n.min(q.quota.words[LEAST].get())).max(scaled(q, n).saturating_sub(drained));
    match q.quota.used.get() {
        0 => set_front(q, front_at(q, now.mono).saturating_sub(back), q.quota.words[SINCE].get()),
        _ => q.quota.used.sub(units(q, back)),
    }
    // Later charges have now found so much less.
    q.quota.words[LEAST].sub(units(q, back));
}

/// Takes units off the second account that were just settled there.
pub(super) fn unsettle(q: &QuotaRef<'_>, n: u64) {
    let settled = &q.quota.words[SETTLED];
    if settled.get() != UNKNOWN {
        settled.sub(drains_in(q, scaled(q, n)));
    }
}

#[inline(never)]
pub(super) fn returning(q: &QuotaRef<'_>, now: Now, horizon: u64) -> u64 {
    units(q, debt(q, now) - debt_at(q, now.mono.saturating_add(horizon)))
}
