//! The marks of a rolling window: a ring of `(time, count)`, oldest first, each in one word.
//!
//! Time and count share 63 bits; how, the record's layout says. Times count in ticks from a base, counts in units. Mostly a
//! tick is a nanosecond and a unit is one: wherever the window in nanoseconds times the largest count is below 2^58. Beyond that
//! both are rounded up, so that nothing leaves early and nothing is left uncounted: by less than a 2^27th of the window or the lead, and
//! less than a 2^33rd of the largest count. The layout follows what it is given.

use super::{Quota, QuotaRef};
use crate::cell::Cell;
#[cfg(unix)]
use crate::clock::Now;

/// Units charged up to a time, and whether charges of different times share it.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Mark(Cell);

/// What a mark says.
#[derive(Clone, Copy)]
pub(super) struct Content {
    pub(super) time: u64,
    pub(super) count: u64,
    pub(super) shared: bool,
}

/// Words of the record: the ring, see [`Ring`].
const RING: usize = 0;
/// What ticks count from.
const BASE: usize = 1;
/// The layout: bits of a count, and the binary logarithms of tick and unit (8 bits each).
const LAYOUT: usize = 2;
/// When the oldest mark leaves; never if there is none, or 0 if there has never been one.
const LEAVES: usize = 3;
/// The marks that are ahead leave by AHEAD_END and hold AHEAD units; the next one leaves at NEXT or later. So that who asks
/// again need not count again.
const AHEAD: usize = 4;
const AHEAD_END: usize = 5;
const NEXT: usize = 6;

const SHARED: u64 = 1 << 63;
const BITS: u32 = 63;
/// No tick is so long that a range of time has fewer of them.
const LEAST_TIME_BITS: u32 = 28;
/// There is room for counts that are so much larger than the largest, and for such counts from the beginning.
const SPARE_BITS: u32 = 2;
const LEAST_COUNT: u64 = 1 << 4;

#[derive(Clone, Copy)]
struct Layout {
    count_bits: u32,
    tick: u32,
    unit: u32,
}

fn bits(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

impl Layout {
    /// For a range of time and counts of so many bits. Ticks are not shorter than `least_tick`: of two times that a longer
    /// one made equal or later, a shorter one would lose the order.
    fn new(range: u64, count_bits: u32, least_tick: u32) -> Self {
        let time_bits = bits(range);
        let excess = (time_bits + count_bits).saturating_sub(BITS);
        let tick = excess.min(time_bits.saturating_sub(LEAST_TIME_BITS));
        let longer = tick.max(least_tick.min(time_bits));
        Self { count_bits: BITS - (time_bits - longer), tick: longer, unit: excess - tick }
    }

    #[inline]
    fn of(q: &QuotaRef<'_>) -> Self {
        let word = q.quota.words[LAYOUT].get() as u32;
        Self { count_bits: word & 0xFF, tick: word >> 8 & 0xFF, unit: word >> 16 }
    }

    fn store(self, q: &QuotaRef<'_>) {
        q.quota.words[LAYOUT].set(u64::from(self.count_bits | self.tick << 8 | self.unit << 16));
    }

    /// A mark as a word; `None` if it does not fit.
    #[inline]
    fn encode(self, base: u64, mark: Content) -> Option<u64> {
        let since = mark.time.checked_sub(base)?;
        let (ticks, units) = match self.is_exact() {
            true => (since, mark.count),
            false => (round_up(since, self.tick), round_up(mark.count, self.unit)),
        };
        let fits = units >> self.count_bits == 0 && ticks >> (BITS - self.count_bits) == 0;
        let shared = if mark.shared { SHARED } else { 0 };
        fits.then(|| shared | ticks << self.count_bits | units)
    }

    #[inline]
    fn decode(self, base: u64, word: u64) -> Content {
        let (ticks, units) = ((word & !SHARED) >> self.count_bits, word & self.units());
        let (since, count) = match self.is_exact() {
            true => (ticks, units),
            false => (ticks << self.tick, units.saturating_mul(1 << self.unit)),
        };
        Content { time: base.saturating_add(since), count, shared: word & SHARED != 0 }
    }

    /// Whether nothing is rounded: the usual case.
    #[inline]
    fn is_exact(self) -> bool {
        self.tick | self.unit == 0
    }

    /// The bits of a count.
    #[inline]
    fn units(self) -> u64 {
        (1 << self.count_bits) - 1
    }
}

#[inline]
fn round_up(value: u64, shift: u32) -> u64 {
    (value >> shift) + u64::from(value & ((1 << shift) - 1) != 0)
}

/// What is known of the ring as a whole, 16 bits each.
#[derive(Clone, Copy)]
struct Ring {
    /// Where the oldest mark lies.
    head: usize,
    /// How many marks there are.
    len: usize,
    /// How many of them are ahead, see AHEAD.
    ahead: usize,
    /// Among so many, from the oldest, no two can join: see [`compact`].
    compact: usize,
}

impl Ring {
    #[inline]
    fn of(q: &QuotaRef<'_>) -> Self {
        let word = q.quota.words[RING].get();
        let part = |i: u32| (word >> (16 * i) & 0xFFFF) as usize;
        Self { head: part(0), len: part(1), ahead: part(2), compact: part(3) }
    }

    #[inline]
    fn store(self, q: &QuotaRef<'_>) {
        let part = |n: usize, i: u32| (n as u64) << (16 * i);
        let word = part(self.head, 0) | part(self.len, 1) | part(self.ahead, 2) | part(self.compact, 3);
        q.quota.words[RING].set(word);
    }
}

#[inline]
pub(super) fn len(q: &QuotaRef<'_>) -> usize {
    Ring::of(q).len
}

/// Where the `i`-th mark from the oldest lies; `i` is below the number of slots.
#[inline]
fn slot<'a>(q: &QuotaRef<'a>, head: usize, i: usize) -> &'a Cell {
    let at = head + i;
    &q.marks[if at >= q.marks.len() { at - q.marks.len() } else { at }].0
}

/// Reads marks of a ring that does not change meanwhile.
pub(super) struct Reader<'a> {
    q: QuotaRef<'a>,
    ring: Ring,
    layout: Layout,
    base: u64,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(q: &QuotaRef<'a>) -> Self {
        Self { q: *q, ring: Ring::of(q), layout: Layout::of(q), base: q.quota.words[BASE].get() }
    }

    #[inline]
    pub(super) fn quota(&self) -> QuotaRef<'a> {
        self.q
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.ring.len
    }

    /// The `i`-th mark from the oldest, which is one.
    #[inline]
    fn read(&self, i: usize) -> Content {
        self.layout.decode(self.base, slot(&self.q, self.ring.head, i).get())
    }

    /// The `i`-th mark from the oldest.
    #[inline]
    pub(super) fn get(&self, i: usize) -> Option<Content> {
        (i < self.ring.len).then(|| self.read(i))
    }

    #[inline]
    pub(super) fn newest(&self) -> Option<Content> {
        (self.ring.len > 0).then(|| self.read(self.ring.len - 1))
    }

    /// All marks with their places, oldest first.
    #[inline]
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, Content)> {
        (0..self.ring.len).map(|i| (i, self.read(i)))
    }

    /// A time as a mark tells it.
    #[inline]
    pub(super) fn rounded(&self, time: u64) -> u64 {
        let Layout { tick, .. } = self.layout;
        if self.layout.is_exact() { time } else { round_up(time, tick) << tick }
    }
}

/// The `i`-th mark from the oldest.
#[inline]
pub(super) fn get(q: &QuotaRef<'_>, i: usize) -> Option<Content> {
    Reader::new(q).get(i)
}

/// When a mark leaves the window.
#[inline]
pub(super) fn leaves(q: &QuotaRef<'_>, mark: Content) -> u64 {
    mark.time.saturating_add(q.window_ns())
}

/// Changes the `i`-th mark. What it holds may be rounded up; `used` follows.
#[inline]
pub(super) fn replace(q: &QuotaRef<'_>, i: usize, mark: Content) {
    let Some(old) = get(q, i) else { return };
    touch(q, i);
    q.quota.used.sub(old.count);
    write(q, i, mark);
    note_oldest(q, i);
}

/// Inserts a mark before the `i`-th, or behind the last; there is a slot free.
#[inline(never)]
pub(super) fn insert(q: &QuotaRef<'_>, i: usize, mark: Content) {
    touch(q, i);
    let ring = Ring::of(q);
    for k in (i..ring.len).rev() {
        slot(q, ring.head, k + 1).set(slot(q, ring.head, k).get());
    }
    // Empty until it is written: a new layout counts all marks anew.
    slot(q, ring.head, i).set(0);
    Ring { len: ring.len + 1, ..ring }.store(q);
    write(q, i, mark);
    note_oldest(q, i);
}

/// Puts a mark behind the last, in the usual case and in as few steps as that takes: it is later, fits the layout without being
/// rounded, and leaves a slot free. Whether it is done. An operation
/// does so once at most before all marks are written down: then the slot held none when it began, or [`remove_oldest`] saw to it.
#[inline]
pub(super) fn append(q: &QuotaRef<'_>, time: u64, count: u64) -> bool {
    let (ring, layout) = (Ring::of(q), Layout::of(q));
    let Some(newest) = ring.len.checked_sub(1).filter(|_| ring.len + 1 < q.marks.len() && layout.is_exact()) else {
        return false;
    };
    let (ticks, bits) = (time.wrapping_sub(q.quota.words[BASE].get()), layout.count_bits);
    let newest = (slot(q, ring.head, newest).get() & !SHARED) >> bits;
    // A time before the base is more ticks than fit.
    if ticks <= newest || ticks >> (BITS - bits) != 0 || count >> bits != 0 {
        return false;
    }
    slot(q, ring.head, ring.len).set(ticks << bits | count);
    q.quota.used.add(count);
    if ring.ahead == ring.len {
        q.quota.words[NEXT].set(0);
    }
    Ring { len: ring.len + 1, ..ring }.store(q);
    true
}

/// After the `i`-th mark changed.
#[inline]
fn note_oldest(q: &QuotaRef<'_>, i: usize) {
    if i == 0 {
        let oldest = get(q, 0).map_or(u64::MAX, |mark| leaves(q, mark));
        if len(q) == 0 && !Layout::of(q).is_exact() {
            // What comes next may be small again.
            q.quota.words[LAYOUT].set(0);
        }
        q.quota.words[LEAVES].set(oldest);
    }
}

/// When the oldest mark leaves; never if there is none.
#[inline]
pub(super) fn leaves_at(quota: &Quota) -> u64 {
    quota.words[LEAVES].get()
}

#[inline]
fn write(q: &QuotaRef<'_>, i: usize, mark: Content) {
    let (layout, base) = (Layout::of(q), q.quota.words[BASE].get());
    let Some(word) = layout.encode(base, mark) else { return lay_out(q, i, mark) };
    q.quota.used.add(layout.decode(base, word).count);
    slot(q, Ring::of(q).head, i).set(word);
}

/// Takes the `i`-th mark out.
pub(super) fn remove(q: &QuotaRef<'_>, i: usize) {
    let Some(mark) = get(q, i) else { return };
    touch(q, i);
    q.quota.used.sub(mark.count);
    let ring = Ring::of(q);
    for k in i + 1..ring.len {
        slot(q, ring.head, k - 1).set(slot(q, ring.head, k).get());
    }
    Ring { len: ring.len - 1, ..ring }.store(q);
    note_oldest(q, i);
}

/// Takes the oldest mark out.
#[inline]
pub(super) fn remove_oldest(q: &QuotaRef<'_>) {
    let Some(mark) = get(q, 0) else { return };
    q.quota.used.sub(mark.count);
    let ring = Ring::of(q);
    if ring.len == q.marks.len() {
        // What is put behind the last may lie where this one does.
        q.journal.keep_run_once(q.marks);
    }
    if ring.ahead > 0 {
        q.quota.words[AHEAD].sub(mark.count);
    }
    Ring {
        head: if ring.head + 1 >= q.marks.len() { 0 } else { ring.head + 1 },
        len: ring.len - 1,
        ahead: ring.ahead.saturating_sub(1),
        compact: ring.compact.saturating_sub(1),
    }
    .store(q);
    note_oldest(q, 0);
}

/// Joins marks to the next one while what then waits in that stays within `most`. Those that were joined before, for the same
/// `most`, are not looked at again.
pub(super) fn compact(q: &QuotaRef<'_>, most: u64) {
    let ring = Ring::of(q);
    let first = ring.compact.min(ring.len).saturating_sub(1);
    touch(q, first);
    let (layout, head) = (Layout::of(q), ring.head);
    let (units, most) = (layout.units(), most >> layout.unit);
    // The last mark that was kept; it may yet join the next.
    let mut last = slot(q, head, first).get();
    let mut kept = first + 1;
    for i in first + 1..ring.len {
        let mut word = slot(q, head, i).get();
        // What waits in a shared mark is not known, but it is less than its count.
        let waiting = if word & SHARED != 0 { word & units } else { 0 };
        let joined = (last & units) + (word & units);
        if (last & units) + waiting <= most && joined <= units {
            word = word & !units | SHARED | joined;
            kept -= 1;
        }
        slot(q, head, kept).set(word);
        kept += 1;
        last = word;
    }
    Ring { len: kept.min(ring.len), compact: kept.min(ring.len), ..Ring::of(q) }.store(q);
    note_oldest(q, first);
}

/// The next [`compact`] is for another `most`.
pub(super) fn compact_anew(q: &QuotaRef<'_>) {
    Ring { compact: 0, ..Ring::of(q) }.store(q);
}

/// Adds the `i`-th mark to the next one, which its units then leave with; it is left empty.
pub(super) fn join(q: &QuotaRef<'_>, i: usize) {
    let (Some(mark), Some(next)) = (get(q, i), get(q, i + 1)) else { return };
    replace(q, i, Content { count: 0, ..mark });
    replace(q, i + 1, Content { count: next.count.saturating_add(mark.count), shared: true, ..next });
}

/// The units of the marks that leave by `end`, and when the next one does.
#[inline]
pub(super) fn leaving_by(q: &QuotaRef<'_>, end: u64) -> (u64, u64) {
    match known_by(q.quota, end) {
        Some(known) => known,
        None => count_ahead(q, end),
    }
}

/// The same, if it need not be counted.
#[inline]
pub(super) fn known_by(quota: &Quota, end: u64) -> Option<(u64, u64)> {
    let next = quota.words[NEXT].get();
    (quota.words[AHEAD_END].get() <= end && end < next).then(|| (quota.words[AHEAD].get(), next))
}

#[inline(never)]
fn count_ahead(q: &QuotaRef<'_>, end: u64) -> (u64, u64) {
    let ring = Ring::of(q);
    let again = end < q.quota.words[AHEAD_END].get();
    let (mut ahead, mut sum) = if again { (0, 0) } else { (ring.ahead, q.quota.words[AHEAD].get()) };
    let marks = Reader::new(q);
    while let Some(mark) = marks.get(ahead).filter(|mark| leaves(q, *mark) <= end) {
        sum = sum.saturating_add(mark.count);
        ahead += 1;
    }
    let next = marks.get(ahead).map_or(u64::MAX, |mark| leaves(q, mark));
    if !again {
        Ring { ahead, ..ring }.store(q);
        q.quota.words[AHEAD].set(sum);
        q.quota.words[AHEAD_END].set(end);
        q.quota.words[NEXT].set(next);
    }
    (sum, next)
}

/// Before the `i`-th mark changes, or one behind it: all are written down, and what is known of those up to it holds no longer.
#[inline]
fn touch(q: &QuotaRef<'_>, i: usize) {
    q.journal.keep_run_once(q.marks);
    let ring = Ring::of(q);
    if i <= ring.ahead {
        q.quota.words[NEXT].set(0);
    }
    if i < ring.ahead {
        q.quota.words[AHEAD].set(0);
        q.quota.words[AHEAD_END].set(0);
    }
    if i < ring.ahead || i < ring.compact {
        let ahead = if i < ring.ahead { 0 } else { ring.ahead };
        Ring { ahead, compact: ring.compact.min(i), ..ring }.store(q);
    }
}

/// Writes the `i`-th mark, which counts for nothing as it is, in a layout that has room for it: for some more time, and four times the count,
/// so that this is rarely needed again.
#[cold]
fn lay_out(q: &QuotaRef<'_>, i: usize, mark: Content) {
    touch(q, 0);
    let old = Reader::new(q);
    let contents = || old.iter().map(|(k, known)| (k, if k == i { mark } else { known }));
    let first = contents().map(|(_, m)| m.time).min().unwrap_or(mark.time);
    let last = contents().map(|(_, m)| m.time).max().unwrap_or(mark.time);
    let most = contents().map(|(_, m)| m.count).max().unwrap_or(0).max(LEAST_COUNT);
    let span = (last - first).max(q.window_ns());
    let least_tick = if len(q) > 1 { Layout::of(q).tick } else { 0 };
    let layout = Layout::new(span + span / 8 + 1, bits(most) + SPARE_BITS, least_tick);
    // A multiple of the tick, so that times that are one too are exact.
    let base = first >> layout.tick << layout.tick;
    let mut used = 0u64;
    for (k, m) in contents() {
        // There is room for all; if there were not, a mark that never leaves is the safe side.
        let word = layout.encode(base, m).unwrap_or(!SHARED);
        used = used.saturating_add(layout.decode(base, word).count);
        slot(q, old.ring.head, k).set(word);
    }
    q.quota.used.set(used);
    q.quota.words[BASE].set(base);
    layout.store(q);
    note_oldest(q, 0);
}

/// Makes sense of a ring that may be anything; false if it makes none.
#[cfg(unix)]
pub(super) fn put_right(q: &QuotaRef<'_>) -> bool {
    let (ring, layout) = (Ring::of(q), Layout::of(q));
    let last = 2 * Now::LAST_MONO;
    if ring.len == 0 {
        // As if there had never been a mark.
        q.quota.words.iter().for_each(|word| word.set(0));
        q.quota.used.set(0);
        return true;
    }
    let bits_are_sound = (1..BITS).contains(&layout.count_bits) && layout.tick < BITS && layout.unit < BITS;
    let fits = ring.len <= q.marks.len() && ring.head < q.marks.len();
    if !fits || !bits_are_sound || q.quota.words[BASE].get() > last {
        return false;
    }
    let marks = Reader::new(q);
    let in_order = || marks.iter().zip(marks.iter().skip(1)).all(|((_, a), (_, b))| a.time <= b.time);
    if marks.iter().any(|(_, mark)| mark.time > last) || !in_order() {
        return false;
    }
    let sum = marks.iter().try_fold(0u64, |sum, (_, mark)| sum.checked_add(mark.count));
    let Some(sum) = sum else { return false };
    q.quota.used.set(sum);
    [AHEAD, AHEAD_END, NEXT].into_iter().for_each(|word| q.quota.words[word].set(0));
    Ring { ahead: 0, compact: 0, ..ring }.store(q);
    note_oldest(q, 0);
    true
}

/// Moves the ring to a longer run of marks.
pub(super) fn copy(q: &QuotaRef<'_>, to: &[Mark]) {
    let ring = Ring::of(q);
    for (i, mark) in to.iter().enumerate().take(ring.len) {
        mark.0.set(slot(q, ring.head, i).get());
    }
    Ring { head: 0, ..ring }.store(q);
}
