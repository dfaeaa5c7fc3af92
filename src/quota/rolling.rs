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

use super::marks::{self, Content, Reader};
use super::{Quota, QuotaRef};
use crate::clock::Now;

/// How many charges of different times the limit is cut into.
const SHARES: u64 = 51;

pub(super) const MOST_SLOTS: usize = SHARES as usize + 1;

/// How many marks a limit needs: one for each of a few units, and one more. Some even for tiny limits: usage that is
/// observed may exceed them.
pub(super) fn slots(limit: u64) -> usize {
    limit.saturating_add(1).clamp(16, MOST_SLOTS as u64) as usize
}

#[inline]
pub(super) fn used(q: &QuotaRef<'_>, now: Now) -> u64 {
    q.quota.used.get().saturating_sub(left(q, now))
}

/// Units whose marks have left the window and are not yet dropped.
#[inline]
fn left(q: &QuotaRef<'_>, now: Now) -> u64 {
    if now.mono < marks::leaves_at(q.quota) { 0 } else { count_left(q, now) }
}

#[inline(never)]
fn count_left(q: &QuotaRef<'_>, now: Now) -> u64 {
    let gone = |(_, mark): &(usize, Content)| marks::leaves(q, *mark) <= now.mono;
    Reader::new(q).iter().take_while(gone).fold(0, |sum: u64, (_, mark)| sum.saturating_add(mark.count))
}

/// Drops the marks that have left the window.
#[inline]
pub(super) fn advance(q: &QuotaRef<'_>, now: Now) {
    if now.mono >= marks::leaves_at(q.quota) {
        drop_left(q, now);
    }
}

#[inline(never)]
fn drop_left(q: &QuotaRef<'_>, now: Now) {
    while now.mono >= marks::leaves_at(q.quota)
        && let Some(oldest) = marks::get(q, 0)
    {
        drop_oldest(q, oldest);
    }
}

fn drop_oldest(q: &QuotaRef<'_>, mark: Content) {
    q.quota.refund_none_before(mark.time.saturating_add(1));
    marks::remove_oldest(q);
}

#[inline]
pub(super) fn record(q: &QuotaRef<'_>, now: Now, at: u64, n: u64) {
    advance(q, now);
    // Never more than the sum can hold, so that what is added is what is later taken off.
    let n = n.min(u64::MAX - q.quota.used.get());
    if n > 0 && !marks::append(q, at, n) {
        find_place(q, at, n);
    }
}

/// Records a charge that does not simply get a mark of its own behind the last.
#[inline(never)]
fn find_place(q: &QuotaRef<'_>, at: u64, n: u64) {
    let mut ring = Reader::new(q);
    let at = ring.rounded(at);
    let (place, before) = find(&ring, at);
    if let Some(same) = before.filter(|mark| mark.time == at) {
        marks::replace(q, place - 1, Content { count: same.count + n, ..same });
        return;
    }
    if place < ring.len() {
        return record_between(&ring, place, at, n);
    }
    if ring.len() + 1 >= q.marks.len() {
        let share = share(q);
        if share > 0 && before.is_some_and(|newest| !newest.shared) {
            compact(q, share);
            ring = Reader::new(q);
        }
        if ring.len() + 1 >= q.marks.len()
            && let Some(newest) = ring.newest().filter(|newest| share > 0 && newest.count <= share)
        {
            marks::replace(q, ring.len() - 1, Content { time: at, count: newest.count + n, shared: true });
            return;
        }
        if ring.len() == q.marks.len() {
            make_room(q);
            ring = Reader::new(q);
        }
    }
    marks::insert(q, ring.len(), Content { time: at, count: n, shared: false });
}

/// Records a charge that is not the latest: usage that is observed, or of a clock that went back.
#[cold]
fn record_between(ring: &Reader<'_>, mut place: usize, at: u64, n: u64) {
    let q = &ring.quota();
    if ring.len() + 1 >= q.marks.len()
        && share(q) > 0
        && let Some(next) = ring.get(place)
    {
        // Overtaken by a lease's charge, which lies ahead: it leaves with that one, by so much later.
        marks::replace(q, place, Content { count: next.count + n, shared: true, ..next });
        return;
    }
    if ring.len() == q.marks.len() {
        make_room(q);
        place = find(&Reader::new(q), at).0;
    }
    marks::insert(q, place, Content { time: at, count: n, shared: false });
}

/// The place of a charge among the marks, and the mark before it. From the newest: charges mostly come in order.
#[inline]
fn find(ring: &Reader<'_>, at: u64) -> (usize, Option<Content>) {
    let newest = ring.newest();
    if newest.is_none_or(|mark| mark.time <= at) { (ring.len(), newest) } else { find_between(ring, at) }
}

#[cold]
fn find_between(ring: &Reader<'_>, at: u64) -> (usize, Option<Content>) {
    let before = ring.iter().rev().find(|(_, mark)| mark.time <= at);
    before.map_or((0, None), |(i, mark)| (i + 1, Some(mark)))
}

/// The most that may wait in a mark for charges after it. Of a quota that nobody limits, and that only counts to learn
/// from, a share of its use.
#[inline]
fn share(q: &QuotaRef<'_>) -> u64 {
    match q.quota.limit.get() {
        u64::MAX => q.quota.used.get() / SHARES * 2,
        limit => limit / SHARES,
    }
}

/// Joins small marks. What is left are marks above the share, and the newest.
#[inline]
fn compact(q: &QuotaRef<'_>, share: u64) {
    if q.limit() == u64::MAX {
        // Its share changes with its use.
        marks::compact_anew(q);
    }
    marks::compact(q, share);
}

/// Makes room where the small ones were joined already: after a change of the limit, or with usage beyond it. If the limit is
/// spent without the oldest mark, joining that to the next frees nothing later; else the two that are smallest together join.
#[cold]
fn make_room(q: &QuotaRef<'_>) {
    compact(q, share(q));
    let len = marks::len(q);
    if len < q.marks.len() {
        return;
    }
    let count = |i: usize| marks::get(q, i).map_or(0, |mark| mark.count);
    let spent = q.quota.used.get() - count(0) >= q.quota.limit.get();
    let smallest = (0..len - 1).min_by_key(|&i| count(i).saturating_add(count(i + 1))).unwrap_or(0);
    let joining = if spent { 0 } else { smallest };
    marks::join(q, joining);
    marks::remove(q, joining);
}

pub(super) fn refund(q: &QuotaRef<'_>, at: u64, n: u64) {
    let marks = Reader::new(q);
    let at = marks.rounded(at);
    // The mark that covers `at`: the oldest that is not older.
    let Some((i, first)) = marks.iter().rev().take_while(|(_, mark)| mark.time >= at).last() else { return };
    let mut left = n;
    // Longer ticks may have made others equal to it.
    while let Some(mark) = marks::get(q, i).filter(|mark| mark.time == first.time && left > 0) {
        if left < mark.count {
            marks::replace(q, i, Content { count: mark.count - left, ..mark });
            return;
        }
        left -= mark.count;
        marks::remove(q, i);
    }
}

pub(super) fn wait(q: &QuotaRef<'_>, now: Now, n: u64, ceiling: u64) -> u64 {
    // How much must leave first.
    let mut excess = used(q, now).saturating_sub(ceiling - n);
    for (_, mark) in Reader::new(q).iter().filter(|(_, mark)| marks::leaves(q, *mark) > now.mono) {
        excess = excess.saturating_sub(mark.count);
        if excess == 0 {
            return marks::leaves(q, mark) - now.mono;
        }
    }
    0
}

/// What [`returning`] tells where it need not be counted, and no mark has left; the usual case.
#[inline(always)]
pub(super) fn known(quota: &Quota, now: Now, horizon: u64) -> Option<(u64, u64)> {
    let leaves_at = marks::leaves_at(quota);
    let (leaving, next) = marks::known_by(quota, now.mono.saturating_add(horizon))?;
    (now.mono < leaves_at).then(|| (leaving, leaves_at.min(next.saturating_sub(horizon))))
}

/// What leaves within `horizon`, and when the next mark leaves the window or comes within `horizon` of that.
#[inline]
pub(super) fn returning(q: &QuotaRef<'_>, now: Now, horizon: u64) -> (u64, u64) {
    let (leaving, next) = marks::leaving_by(q, now.mono.saturating_add(horizon));
    (leaving.saturating_sub(left(q, now)), marks::leaves_at(q.quota).min(next.saturating_sub(horizon)))
}

/// The time of the oldest units that are counted.
pub(super) fn first_charge(q: &QuotaRef<'_>) -> Option<u64> {
    marks::get(q, 0).map(|mark| mark.time)
}

/// Units charged after `start` and before `end`; a mark counts whole if its time is between them.
pub(super) fn charged_between(q: &QuotaRef<'_>, start: u64, end: u64) -> u64 {
    Reader::new(q)
        .iter()
        .map(|(_, mark)| mark)
        .filter(|m| start < m.time && m.time < end)
        .fold(0, |sum: u64, m| sum.saturating_add(m.count))
}

/// Takes the oldest `n` units off.
pub(super) fn forget(q: &QuotaRef<'_>, now: Now, n: u64) {
    advance(q, now);
    let mut left = n;
    while let Some(oldest) = marks::get(q, 0).filter(|_| left > 0) {
        if left < oldest.count {
            marks::replace(q, 0, Content { count: oldest.count - left, ..oldest });
            return;
        }
        left -= oldest.count;
        drop_oldest(q, oldest);
    }
}
