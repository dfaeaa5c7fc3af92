//! The rolling window: no window, wherever it starts, holds more than the limit.
//!
//! The units of the last window are a ring of marks `(time, count)`, oldest first. A mark covers what was charged after
//! the mark before it and up to its own time, and all of it leaves one window after that time: never early. While the ring
//! has room, each charge has a mark of its own and leaves to the nanosecond. When it fills up, charges share marks: units
//! wait for later ones of the same mark, but never more than 1/51 of the limit. At any moment only the oldest mark can hold
//! units that could have left, so less than 2 % of the limit is ever lost. A mark that is shared holds more than 1/51, and
//! so 52 marks are enough; limits below 51 share nothing and are exact.
//!
//! `used` is the sum of the ring.

use super::QuotaRef;
use crate::clock::Now;
use crate::table::Cell;

/// Units charged up to a time. The highest bit of the time, which no time has, marks those that charges share.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    time: Cell,
    count: Cell,
}

const SHARED: u64 = 1 << 63;

impl Mark {
    fn time(&self) -> u64 {
        self.time.get() & !SHARED
    }

    fn is_shared(&self) -> bool {
        self.time.get() & SHARED != 0
    }

    /// Adds units, at its own time or, with `shared`, of another.
    fn add(&self, n: u64, shared: bool) {
        self.count.add(n);
        if shared {
            self.time.set(self.time.get() | SHARED);
        }
    }

    fn take(&self, other: &Self) {
        self.time.set(other.time.get());
        self.count.set(other.count.get());
    }
}

/// Words of the record: where the ring starts, and how many marks it holds.
const HEAD: usize = 0;
const LEN: usize = 1;

/// How many charges of different times the limit is cut into.
const SHARES: u64 = 51;

/// How many marks a limit needs: one for each of a few units, and one more. Some even for tiny limits: usage that is
/// observed may exceed them.
pub(super) fn slots(limit: u64) -> usize {
    limit.saturating_add(1).clamp(16, SHARES + 1) as usize
}

#[inline]
fn len(q: &QuotaRef<'_>) -> usize {
    q.quota.words[LEN].get() as usize
}

/// The `i`-th mark from the oldest; `i` is below the number of slots.
#[inline]
fn mark<'a>(q: &QuotaRef<'a>, i: usize) -> &'a Mark {
    let at = q.quota.words[HEAD].get() as usize + i;
    &q.marks[if at >= q.marks.len() { at - q.marks.len() } else { at }]
}

#[inline]
fn leaves_at(q: &QuotaRef<'_>, mark: &Mark) -> u64 {
    mark.time().saturating_add(q.quota.window.get())
}

/// The marks that are still in the window.
fn live<'a>(q: &QuotaRef<'a>, now: Now) -> impl Iterator<Item = &'a Mark> {
    let q = *q;
    (0..len(&q)).map(move |i| mark(&q, i)).skip_while(move |m| leaves_at(&q, m) <= now.mono)
}

#[inline]
pub(super) fn used(q: &QuotaRef<'_>, now: Now) -> u64 {
    let mut used = q.quota.used.get();
    for i in 0..len(q) {
        let m = mark(q, i);
        if leaves_at(q, m) > now.mono {
            break;
        }
        used -= m.count.get();
    }
    used
}

/// Drops the marks that have left the window.
pub(super) fn advance(q: &QuotaRef<'_>, now: Now) {
    while len(q) > 0 && leaves_at(q, mark(q, 0)) <= now.mono {
        q.quota.used.sub(mark(q, 0).count.get());
        drop_oldest(q);
    }
}

fn drop_oldest(q: &QuotaRef<'_>) {
    q.quota.gone.set(q.quota.gone.get().max(mark(q, 0).time().saturating_add(1)));
    let head = q.quota.words[HEAD].get() + 1;
    q.quota.words[HEAD].set(if head as usize >= q.marks.len() { 0 } else { head });
    q.quota.words[LEN].sub(1);
}

pub(super) fn record(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    advance(q, now);
    // Never more than the sum can hold, so that what is added is what is later taken off.
    let n = n.min(u64::MAX - q.quota.used.get());
    q.quota.used.add(n);
    // The place among the marks, from the newest: charges come in order, but for observed usage and a clock that went back.
    let find = || (0..len(q)).rev().find(|&i| mark(q, i).time() <= at).map_or(0, |i| i + 1);
    let mut place = find();
    if place > 0 && mark(q, place - 1).time() == at {
        mark(q, place - 1).add(n, false);
        return;
    }
    if len(q) + 1 >= q.marks.len() && share(q) > 0 {
        if place < len(q) {
            // Overtaken by a lease's charge, which lies ahead: it leaves with that one, by so much later.
            mark(q, place).add(n, true);
            return;
        }
        if !mark(q, place - 1).is_shared() {
            compact(q);
            place = len(q);
        }
        let newest = mark(q, place - 1);
        if len(q) + 1 >= q.marks.len() && newest.count.get() <= share(q) {
            newest.time.set(at | SHARED);
            newest.count.add(n);
            return;
        }
    }
    if len(q) == q.marks.len() {
        compact(q);
        join_one(q);
        place = find();
    }
    for i in (place..len(q)).rev() {
        mark(q, i + 1).take(mark(q, i));
    }
    mark(q, place).time.set(at);
    mark(q, place).count.set(n);
    q.quota.words[LEN].add(1);
}

/// The most that may wait in a mark for charges after it. Of a quota that nobody limits, and that only counts to learn
/// from, a share of its use.
fn share(q: &QuotaRef<'_>) -> u64 {
    match q.quota.limit.get() {
        u64::MAX => q.quota.used.get() / SHARES * 2,
        limit => limit / SHARES,
    }
}

/// Makes room: marks join the next one while what then waits in that stays within the share. What is left are marks above
/// the share, and the newest.
fn compact(q: &QuotaRef<'_>) {
    let (len, share) = (len(q), share(q));
    let count = |i: usize| mark(q, i).count.get();
    // What waits in a shared mark is not known, but it is less than its count.
    let waiting = |i: usize| if mark(q, i).is_shared() { count(i) } else { 0 };
    let mut kept = 0;
    for i in 0..len {
        if i + 1 < len && count(i).saturating_add(waiting(i + 1)) <= share {
            mark(q, i + 1).add(count(i), true);
        } else {
            mark(q, kept).take(mark(q, i));
            kept += 1;
        }
    }
    q.quota.words[LEN].set(kept as u64);
}

/// Makes room where that was not enough: after a change of the limit, or with usage beyond it. If the limit is spent
/// without the oldest mark, joining that to the next frees nothing later; else the two that are smallest together join.
fn join_one(q: &QuotaRef<'_>) {
    let len = len(q);
    if len < q.marks.len() {
        return;
    }
    let count = |i: usize| mark(q, i).count.get();
    let spent = q.quota.used.get() - count(0) >= q.quota.limit.get();
    let smallest = (0..len - 1).min_by_key(|&i| count(i).saturating_add(count(i + 1))).unwrap_or(0);
    let joining = if spent { 0 } else { smallest };
    mark(q, joining + 1).add(count(joining), true);
    remove(q, joining);
}

/// Takes a mark out of the ring.
fn remove(q: &QuotaRef<'_>, i: usize) {
    for k in i + 1..len(q) {
        mark(q, k - 1).take(mark(q, k));
    }
    q.quota.words[LEN].sub(1);
}

pub(super) fn refund(q: &QuotaRef<'_>, at: u64, n: u64) {
    let len = len(q);
    // The mark that covers `at`: the oldest that is not older.
    let Some(found) = (0..len).rev().take_while(|&i| mark(q, i).time() >= at).last() else { return };
    let n = n.min(mark(q, found).count.get());
    q.quota.used.sub(n);
    mark(q, found).count.sub(n);
    if mark(q, found).count.get() == 0 {
        remove(q, found);
    }
}

pub(super) fn wait(q: &QuotaRef<'_>, now: Now, n: u64, ceiling: u64) -> u64 {
    // How much must leave first.
    let mut excess = used(q, now).saturating_sub(ceiling - n);
    for m in live(q, now) {
        excess = excess.saturating_sub(m.count.get());
        if excess == 0 {
            return leaves_at(q, m) - now.mono;
        }
    }
    0
}

pub(super) fn returning(q: &QuotaRef<'_>, now: Now, horizon: u64) -> u64 {
    let end = now.mono.saturating_add(horizon);
    live(q, now).take_while(|m| leaves_at(q, m) <= end).map(|m| m.count.get()).sum()
}

/// Units charged after `start` and before `end`; a mark counts whole if its time is between them.
pub(super) fn charged_between(q: &QuotaRef<'_>, start: u64, end: u64) -> u64 {
    let marks = (0..len(q)).map(|i| mark(q, i));
    marks.filter(|m| start < m.time() && m.time() < end).map(|m| m.count.get()).sum()
}

/// Takes the oldest `n` units off.
pub(super) fn forget(q: &QuotaRef<'_>, now: Now, n: u64) {
    advance(q, now);
    let mut left = n.min(q.quota.used.get());
    q.quota.used.sub(left);
    while left > 0 {
        let oldest = mark(q, 0);
        let taken = left.min(oldest.count.get());
        oldest.count.sub(taken);
        left -= taken;
        if oldest.count.get() == 0 {
            drop_oldest(q);
        }
    }
}

/// Moves the ring to a longer run of marks.
pub(super) fn copy(q: &QuotaRef<'_>, to: &[Mark]) {
    for (i, slot) in to.iter().enumerate().take(len(q)) {
        slot.take(mark(q, i));
    }
    q.quota.words[HEAD].set(0);
}
