//! Calendar windows: the counter starts again at multiples of the window since the Unix epoch, plus the phase.
//!
//! The calendar is read only when a window begins; it ends at a monotonic time, so that a wall clock that jumps moves the
//! next boundary and nothing else. `used` counts the units of the window. Those charged with an effective time beyond its
//! end, because their requests may arrive in a later one, count in all windows up to that time: CARRY of them, up to
//! CARRY_AT. If the provider says that the end is sooner, some of them turn out to be such units only then: RECENT were charged
//! since RECENT_FROM, and BEFORE in as long a time before.

use super::QuotaRef;
use crate::clock::Now;
use crate::config::QuotaConfig;

const END: usize = 0;
const CARRY: usize = 1;
const CARRY_AT: usize = 2;
/// Start of the windows, in nanoseconds after the epoch, below the window.
const PHASE: usize = 3;
const RECENT: usize = 4;
const BEFORE: usize = 5;
const RECENT_FROM: usize = 6;

pub(super) fn configure(quota: &super::Quota, config: &QuotaConfig) {
    let window = i128::from(config.window_ns).max(1);
    quota.words[PHASE].set(i128::from(config.phase_ns.unwrap_or(0)).rem_euclid(window) as u64);
}

/// Whether its words make sense.
#[cfg(unix)]
pub(super) fn is_sound(q: &QuotaRef<'_>) -> bool {
    [END, CARRY_AT, RECENT_FROM].into_iter().all(|word| q.quota.words[word].get() <= 2 * Now::LAST_MONO)
        && q.quota.words[CARRY].get() <= q.quota.used.get()
}

fn end(q: &QuotaRef<'_>) -> u64 {
    q.quota.words[END].get()
}

/// Nanoseconds until the calendar's next boundary, at least 1 and at most the window.
fn until_boundary(q: &QuotaRef<'_>, now: Now) -> u64 {
    let window = u128::from(q.quota.window.get());
    let since_boundary = (u128::from(now.unix) + window - u128::from(q.quota.words[PHASE].get())) % window;
    (window - since_boundary) as u64
}

/// Units that still count in a window that starts at `start`.
fn carried_into(q: &QuotaRef<'_>, start: u64) -> u64 {
    if q.quota.words[CARRY_AT].get() >= start { q.quota.words[CARRY].get() } else { 0 }
}

/// Start and end of the window that holds `now`.
fn window(q: &QuotaRef<'_>, now: Now) -> (u64, u64) {
    let length = q.quota.window.get();
    if now.mono < end(q) {
        return (end(q).saturating_sub(length), end(q));
    }
    let next = now.mono.saturating_add(until_boundary(q, now));
    // Never before the end of the last one, whatever the wall clock says.
    (end(q).max(next.saturating_sub(length)), next)
}

#[inline(never)]
pub(super) fn used(q: &QuotaRef<'_>, now: Now) -> u64 {
    if now.mono < end(q) { q.quota.used.get() } else { carried_into(q, window(q, now).0) }
}

/// Begins the window that holds `now`, if that is not the one in force.
pub(super) fn advance(q: &QuotaRef<'_>, now: Now) {
    if now.mono >= end(q) {
        let (start, next) = window(q, now);
        let carried = carried_into(q, start);
        q.quota.used.set(carried);
        q.quota.words[CARRY].set(carried_into(q, next).min(carried));
        q.quota.words[END].set(next);
        q.quota.refund_none_before(start);
    }
}

/// Takes the provider's word for when the window that holds `now` ends.
pub(super) fn end_at(q: &QuotaRef<'_>, now: Now, end: u64) {
    advance(q, now);
    let (words, sooner) = (&q.quota.words, end < self::end(q));
    words[END].set(end);
    let last_arrival = now.mono.saturating_add(q.quota.lead.get());
    if words[CARRY_AT].get() < end {
        // What was to count in the next window, too, arrives in this one.
        words[CARRY].set(0);
    }
    if sooner && last_arrival >= end {
        words[CARRY].set(words[CARRY].get().max(on_the_wire(q, now).min(q.quota.used.get())));
        words[CARRY_AT].set(words[CARRY_AT].get().max(last_arrival));
    }
}

/// RECENT and BEFORE as they are now, and since when RECENT are.
fn lately(q: &QuotaRef<'_>, now: Now) -> (u64, u64, u64) {
    let (words, lead) = (&q.quota.words, q.quota.lead.get());
    let (recent, from) = (words[RECENT].get(), words[RECENT_FROM].get());
    match now.mono.saturating_sub(from) {
        age if age < lead => (recent, words[BEFORE].get(), from),
        age if age < 2 * lead => (0, recent, now.mono),
        _ => (0, 0, now.mono),
    }
}

/// Units that may not have arrived, or somewhat more.
fn on_the_wire(q: &QuotaRef<'_>, now: Now) -> u64 {
    let (recent, before, _) = lately(q, now);
    recent.saturating_add(before)
}

/// Notes units that are on the wire from now on.
fn send(q: &QuotaRef<'_>, now: Now, n: u64) {
    let (recent, before, from) = lately(q, now);
    q.quota.words[RECENT].set(recent.saturating_add(n));
    q.quota.words[BEFORE].set(before);
    q.quota.words[RECENT_FROM].set(from);
}

#[inline(never)]
pub(super) fn record(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    advance(q, now);
    let n = n.min(u64::MAX - q.quota.used.get());
    q.quota.used.add(n);
    if at > now.mono {
        send(q, now, n);
    }
    if at >= end(q) {
        q.quota.words[CARRY].add(n);
        q.quota.words[CARRY_AT].set(q.quota.words[CARRY_AT].get().max(at));
    }
}

pub(super) fn refund(q: &QuotaRef<'_>, at: u64, n: u64) {
    let (used, carry) = (&q.quota.used, &q.quota.words[CARRY]);
    used.sub(n);
    if at >= end(q) {
        carry.sub(n);
    }
    // More than only counts here may be taken off, as headers do.
    carry.set(carry.get().min(used.get()));
}

/// Units that count in the window after the one that holds `now`.
fn carried(q: &QuotaRef<'_>, now: Now) -> u64 {
    carried_into(q, window(q, now).1).min(used(q, now))
}

pub(super) fn wait(q: &QuotaRef<'_>, now: Now, n: u64, ceiling: u64) -> u64 {
    let end = window(q, now).1;
    if n <= ceiling.saturating_sub(carried(q, now)) {
        return end - now.mono;
    }
    // The first window that begins after all that is carried.
    let length = q.quota.window.get();
    let later = (q.quota.words[CARRY_AT].get() - end) / length + 1;
    end.saturating_add(later.saturating_mul(length)) - now.mono
}

#[inline(never)]
pub(super) fn returning(q: &QuotaRef<'_>, now: Now, horizon: u64) -> u64 {
    if window(q, now).1 - now.mono > horizon { 0 } else { used(q, now) - carried(q, now) }
}
