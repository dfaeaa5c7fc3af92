//! What is learned of a limit that nobody documents, or that others use.
//!
//! A rate-limited response while the books show room means that the limit is lower than configured, or that others spend part
//! of it. The limit drops to just below what the provider really admitted, and later rises again in small steps. A lesson that
//! leaves less than half of the limit is doubted: the refusal may have been for a shorter window that nobody told of, so a
//! request tries, and if it goes well, requests keep a pace instead. A refusal that headers explain shows that others were
//! faster: a margin is kept free of them.

use super::in_force::{CONFIGURED, LEARNED, LimitSource};
use super::told::NEWS_NS;
use super::{NEVER, Quota, QuotaRef, rolling, without};
use crate::cell::{Cell, SmallCell};
use crate::clock::Now;
#[cfg(unix)]
use crate::config::MAX_SPAN_NS;
use crate::config::{Dimension, NS_PER_SEC, Strategy};

// "Measured" is over 24 families of simulated load, 72 runs, as 429s per 1000 attempts at goodput, where nothing else is said.

/// Units that must have been admitted before a refusal, or before several, teaches anything. Fewer learns from accidents, more
/// learns late.
/// Measured: 0.18 with 2, 0.23 with 8, 0.31 with 40, at equal goodput. 8 because a learned limit is hard to tell from bad luck below.
const EVIDENCE: u64 = 8;
/// Share of what was admitted by which a learned limit stays below it. Less needs more lessons, more gives capacity away.
/// Measured: 0.24 at 0.9922 with 0.01, 0.23 at 0.9923 with 0.03, 0.21 at 0.9921 with 0.06.
const MARGIN: f64 = 0.03;
/// After so many windows without a refusal, a learned limit rises by one step; after each further lesson it waits twice as
/// long, up to `2^MAX_PATIENCE` times. Fewer finds a raised limit sooner and asks more often. Measured: 0.20 at 0.9931 with
/// 3, 0.23 at 0.9923 with 10, 0.22 at 0.9923 with 30.
const CALM_WINDOWS: u64 = 3;
const MAX_PATIENCE: u32 = 6;
/// What stands for the window of concurrency, which has none, where time must pass. Longer finds a raised limit
/// later, shorter asks for too much more often.
const CONCURRENCY_WINDOW_NS: u64 = 5 * NS_PER_SEC;
/// What stands for a window that is shorter.
const LEAST_WINDOW_NS: u64 = NS_PER_SEC;
/// The first margin for others, as a divisor of what can be used at once, and the largest; each refusal doubles it. A larger margin gives
/// capacity away, a smaller one needs more refusals. Measured: 0.22 at 0.9925 with 50, 0.23 at 0.9923 with 100, 0.27 at
/// 0.9935 with 300.
const FIRST_MARGIN: u64 = 100;
const MOST_MARGIN: u64 = 4;
/// The first step up, as a share of the limit: larger is back sooner, and further beyond the limit when it asks too much.
/// Measured: no difference between 0.01 and 0.05 within 15 minutes.
const STEP: f64 = 0.02;
/// After so many steps without a refusal of a limit that is used, each is twice as large as the one before: one that was learned
/// much too low, from a refusal that was not for it, is back within the hour and not within the day. One that was learned well is
/// reached before.
/// Measured with `make sim`, as 429s in its hidden limits: 0.09 with 3 and without doubling, 0.28 with 1.
const EQUAL_STEPS: u32 = 3;
const MAX_DOUBLINGS: u32 = 32;
/// With the number of rises: at least half of the limit was in use since the last.
const USED: u32 = 1 << 31;
/// A lesson that is in doubt is tried after a second, and again after pauses that are each so many times longer, up to this part
/// of the window. Longer ones find longer windows, each costs a refusal if the lesson was right, and in a fixed window one that
/// comes late more often finds that a new one has begun: so for this part of the window it may come. Measured with `make sim` as
/// 429s per 1000 attempts at goodput, where a limit per second is hidden: 0.71 at 1.000, and 186 at 0.026 without.
const FIRST_PAUSE_NS: u64 = NS_PER_SEC;
const LONGER: u64 = 4;
const LAST_PAUSE: u64 = 8;
const LATE: u64 = 4;
/// By which part units come slower after each further refusal of a shorter window, and how many times slower than evenly at
/// most; and by which part they come faster when a limit rises.
const SLOWER: u64 = 4;
const SLOWEST: u64 = 16;
const FASTER: u64 = 16;

/// What was learned of a quota.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Lessons {
    /// How many lessons there were, and when the last one was learned or partly forgotten.
    lessons: SmallCell,
    /// How often the learned limit, while it was used, has risen since.
    rises: SmallCell,
    since: Cell,
    /// The effective time of the request whose refusal was the last lesson.
    learned_at: Cell,
    /// Units that were admitted before refusals that were too few to teach anything yet.
    evidence: Cell,
    /// The limit before a lesson that is still doubted, or 0; when a request may next try it, and after which pause.
    doubted: Cell,
    try_at: Cell,
    pause: Cell,
    /// How far apart the units were that were admitted before that lesson.
    apart: Cell,
    /// How far apart units must be, in nanoseconds, and when the next may come; 0 is any distance.
    pace: Cell,
    next_at: Cell,
}

impl Quota {
    /// A limit that is configured anew is not known from lessons.
    pub(super) fn unlearn(&self) {
        self.learned.lessons.set(0);
        self.forget_doubts();
    }

    /// Whether the limit in force, or what is left of it to others, may rise with time.
    #[inline]
    pub(super) fn may_rise(&self) -> bool {
        self.source.get() == LEARNED || self.margin() != 0
    }

    /// Units that are left to others, who are faster than headers can tell.
    #[inline]
    pub(crate) fn margin(&self) -> u64 {
        self.margin.get()
    }

    fn forget_doubts(&self) {
        self.learned.doubted.set(0);
        self.learned.pace.set(0);
    }

    /// Makes sense of cells that may be anything.
    #[cfg(unix)]
    pub(super) fn put_lessons_right(&self, capacity: u64) {
        let known = &self.learned;
        self.margin.set(self.margin().min(capacity / MOST_MARGIN));
        known.lessons.set(known.lessons.get().min(u32::MAX - 1));
        known.evidence.set(known.evidence.get().min(EVIDENCE));
        if known.pace.get() > MAX_SPAN_NS || known.next_at.get() > 2 * Now::LAST_MONO {
            self.forget_doubts();
        }
        super::in_force::put_times_right(&[&known.learned_at, &known.try_at, &known.since]);
    }
}

impl QuotaRef<'_> {
    /// To be called before any of them changes.
    fn keep_lessons(&self) {
        self.journal.keep_rest_once(self.quota);
    }

    /// A limit that is known needs no doubts, and no pace.
    pub(super) fn know_limit(&self) {
        let known = &self.quota.learned;
        if known.doubted.get() | known.pace.get() != 0 {
            self.keep_lessons();
            self.quota.forget_doubts();
        }
    }

    /// Units that the provider admitted in the window up to a request with the effective time `at`, that request's `own`
    /// excluded; if the provider said when the window ends, only those of that window.
    pub(crate) fn admitted_before(&self, now: Now, at: u64, own: u64, retry_after_ns: Option<u64>) -> u64 {
        match self.strategy() {
            Strategy::Rolling => {
                let window = self.window_ns();
                let wait = retry_after_ns.filter(|&wait| wait <= window).unwrap_or(0);
                let start = now.mono.saturating_add(wait).saturating_sub(window);
                // Its own have that time, or a later one.
                rolling::charged_between(self, start, at)
            }
            _ => self.used(now).saturating_sub(own),
        }
    }

    /// Learns from a refusal that the headers explain: they told too late that others had spent the rest.
    pub(crate) fn learn_margin(&self, now: Now, sent: u64) {
        let known = &self.quota.learned;
        if sent >= known.since.get() {
            self.keep_lessons();
            let most = self.capacity();
            let margin = (self.quota.margin() * 2).max(most / FIRST_MARGIN).max(1).min(most / MOST_MARGIN);
            self.quota.margin.set(margin);
            known.since.set(now.mono);
        }
    }

    /// Learns from a refusal of a request that was sent at `sent`, with the effective time `at`, before which `admitted` units
    /// had been admitted.
    pub(crate) fn learn(&self, now: Now, sent: u64, at: u64, admitted: u64) {
        let known = &self.quota.learned;
        let concurrency = self.dimension() == Dimension::Concurrency;
        // What was sent before the last lesson belongs to it. Below a limit of 0 there is none.
        let since = known.since.get();
        if sent < since || self.limit() == 0 || admitted == 0 {
            return;
        }
        self.keep_lessons();
        if self.is_in_doubt(sent) && admitted >= self.limit() {
            return self.confirm(now);
        }
        // Of a small limit, several refusals are needed.
        let evidence = known.evidence.get().saturating_add(admitted);
        if evidence < EVIDENCE && !concurrency {
            known.evidence.set(evidence);
            return known.since.set(now.mono);
        }
        let is_little = concurrency || admitted < EVIDENCE;
        let below = if is_little { admitted } else { (admitted as f64 * (1.0 - MARGIN)) as u64 };
        // A bucket that was refused so early is smaller or slower by as much: both, as that cannot be told apart.
        let part = u128::from(below) * u128::from(self.limit()) / u128::from(self.capacity().max(1));
        let limit = u64::try_from(part).unwrap_or(u64::MAX).min(self.limit().saturating_sub(1)).max(1);
        self.doubt(now, at, admitted);
        self.change_limit(now, limit, LEARNED);
        // Where the limit lies may take several lessons in a row: those teach no patience.
        let is_another = now.mono.saturating_sub(since) >= self.lesson_window_ns();
        if is_another || known.lessons.get() == 0 || known.rises.get() & !USED != 0 {
            known.lessons.set(known.lessons.get().saturating_add(1));
        }
        known.since.set(now.mono);
        known.learned_at.set(at);
        known.evidence.set(0);
        known.rises.set(0);
    }

    /// Doubts a lesson that leaves less than half of the limit: the refusal may have been for a shorter window that nobody told
    /// of. After a pause, in which that would end, a request may try the limit as it was. Where there is one, each is doubted.
    fn doubt(&self, now: Now, at: u64, admitted: u64) {
        let (limit, known) = (self.limit(), &self.quota.learned);
        let may_be_for_another =
            self.strategy() == Strategy::Rolling && limit < u64::MAX && self.window_ns() / LAST_PAUSE > FIRST_PAUSE_NS;
        let is_suspect = admitted <= limit / 2 || known.pace.get() != 0;
        if may_be_for_another && is_suspect && known.doubted.get() == 0 {
            let first = rolling::first_charge(self).unwrap_or(at);
            known.apart.set(at.saturating_sub(first) / admitted.max(1));
            known.doubted.set(limit);
        }
        // Until it stands, also after further ones.
        self.try_after(now, FIRST_PAUSE_NS);
    }

    fn try_after(&self, now: Now, pause: u64) {
        self.quota.learned.pause.set(pause);
        self.quota.learned.try_at.set(now.mono.saturating_add(pause));
    }

    /// Whether the last lesson is in doubt for a request that was sent at a time. One that comes late says nothing of it: more
    /// may have come back.
    fn is_in_doubt(&self, sent: u64) -> bool {
        let since = sent.checked_sub(self.quota.learned.since.get());
        self.quota.learned.doubted.get() != 0 && since.is_some_and(|since| since <= self.window_ns() / LATE)
    }

    /// A request tried, and was refused. After the last pause, the lesson stands.
    fn confirm(&self, now: Now) {
        self.quota.learned.since.set(now.mono);
        let pause = self.quota.learned.pause.get().saturating_mul(LONGER);
        if pause <= self.window_ns() / LAST_PAUSE {
            self.try_after(now, pause);
        } else {
            self.quota.learned.doubted.set(0);
        }
    }

    /// A request tried, and went well: the limit is as it was, and what was refused came too fast.
    fn dispel(&self, now: Now) {
        self.keep_lessons();
        let known = &self.quota.learned;
        let limit = known.doubted.get().max(1);
        known.doubted.set(0);
        let evenly = self.window_ns() / limit;
        let pace = match known.pace.get() {
            0 => evenly.max(known.apart.get()),
            pace => pace.saturating_add(pace / SLOWER),
        };
        known.pace.set(pace.min(evenly.saturating_mul(SLOWEST)).max(1));
        self.change_limit(now, limit.min(self.configured_limit()), LEARNED);
    }

    /// How long until `n` units may try; `None` if they may not.
    fn try_wait(&self, now: Now, n: u64, headroom: f64) -> Option<u64> {
        let may = self.is_in_doubt(now.mono) && n <= without(self.quota.learned.doubted.get(), headroom);
        may.then(|| self.quota.learned.try_at.get().saturating_sub(now.mono))
    }

    /// How long until the pace lets something pass.
    pub(super) fn pace_wait(&self, now: Now) -> u64 {
        let known = &self.quota.learned;
        if known.pace.get() == 0 { 0 } else { known.next_at.get().saturating_sub(now.mono) }
    }

    /// Whether `n` units of a quota that may rise fit, when the books say whether they do. One at a time may try.
    #[cold]
    #[inline(never)]
    pub(super) fn learned_fits(&self, now: Now, n: u64, headroom: f64, fits: bool) -> bool {
        (fits && self.pace_wait(now) == 0)
            || (self.try_wait(now, n, headroom) == Some(0) && self.quota.pending.get() == 0)
    }

    /// How long until `n` units of a quota that may rise fit, when the books say how long.
    pub(super) fn learned_wait(&self, now: Now, n: u64, headroom: f64, wait: u64) -> u64 {
        let tried = self.try_wait(now, n, headroom).map_or(NEVER, |wait| wait.max(NEWS_NS));
        wait.max(self.pace_wait(now)).min(tried)
    }

    /// Notes that `n` units were let pass.
    fn keep_pace(&self, now: Now, n: u64) {
        let known = &self.quota.learned;
        let pace = known.pace.get();
        if pace != 0 {
            let from = known.next_at.get().max(now.mono);
            known.next_at.set(from.saturating_add(pace.saturating_mul(n)));
        }
    }

    /// Whether so many units use all of a learned limit that has risen since the last lesson.
    pub(crate) fn is_tried_by(&self, n: u64) -> bool {
        self.limit_source() == LimitSource::Learned && self.quota.learned.rises.get() & !USED != 0 && n >= self.limit()
    }

    /// Revises the last lesson. If a request may have arrived before the one that was refused, and was not counted in the lesson,
    /// then so much more was admitted: of a burst, the answers that come first are those of the refused.
    pub(super) fn revise(&self, now: Now, sent: u64, at: u64, n: u64) {
        let known = &self.quota.learned;
        if self.is_in_doubt(sent) && self.used(now) > self.limit() {
            self.dispel(now);
        } else if sent < known.since.get()
            && at.checked_sub(known.learned_at.get()).is_some_and(|later| later <= self.quota.lead.get())
            && known.rises.get() & !USED == 0
        {
            let limit = self.limit().saturating_add(n).min(self.configured_limit().saturating_sub(1));
            self.change_limit(now, limit.max(self.limit()), LEARNED);
        }
    }

    /// Lets a learned limit rise a step, if it has been calm for long enough.
    #[inline]
    pub(crate) fn probe_upward(&self, now: Now, n: u64) {
        if self.quota.may_rise() {
            self.probe(now, n);
        }
    }

    #[cold]
    #[inline(never)]
    fn probe(&self, now: Now, n: u64) {
        self.keep_lessons();
        if self.used(now) >= self.capacity() / 2 {
            self.quota.learned.rises.set(self.quota.learned.rises.get() | USED);
        }
        self.rise(now);
        self.keep_pace(now, n);
    }

    /// How long it must be calm before the next step up.
    fn calm_ns(&self) -> u64 {
        let patience = self.quota.learned.lessons.get().saturating_sub(1).min(MAX_PATIENCE);
        (self.lesson_window_ns() * CALM_WINDOWS) << patience
    }

    fn lesson_window_ns(&self) -> u64 {
        if self.strategy() == Strategy::Concurrency {
            CONCURRENCY_WINDOW_NS
        } else {
            self.window_ns().max(LEAST_WINDOW_NS)
        }
    }

    /// How long until the limit next rises, for `n` units for which it is too low now; [`NEVER`] if it always will be.
    pub(super) fn rise_wait(&self, now: Now, n: u64, headroom: f64) -> u64 {
        // What is told stays; only what is kept free of it gets less.
        let learned = self.limit_source() == LimitSource::Learned;
        let highest = if learned { self.highest_limit() } else { self.limit() };
        let most = without(self.capacity_at(highest), headroom);
        if n > most || !self.quota.may_rise() {
            return NEVER;
        }
        let next = self.quota.learned.since.get().saturating_add(self.calm_ns());
        next.saturating_sub(now.mono).max(1)
    }

    fn rise(&self, now: Now) {
        let known = &self.quota.learned;
        if now.mono.saturating_sub(known.since.get()) < self.calm_ns() {
            return;
        }
        known.since.set(now.mono);
        self.quota.margin.set(self.quota.margin() / 2);
        if self.quota.source.get() != LEARNED {
            return;
        }
        // Only what is put to use tells that there may be much more.
        let (limit, rises) = (self.limit(), known.rises.get());
        let (is_used, rises) = (rises & USED != 0, rises & !USED);
        let doublings = if is_used { rises.saturating_sub(EQUAL_STEPS - 1).min(MAX_DOUBLINGS) } else { 0 };
        let next = limit.saturating_add(((limit as f64 * STEP) as u64).max(1).saturating_mul(1 << doublings));
        known.rises.set((rises + u32::from(is_used)).min(USED - 1));
        let configured = self.configured_limit();
        let pace = known.pace.get();
        let pace = pace.saturating_sub((pace / FASTER).max(1));
        let pace = if pace > self.window_ns() / configured.max(1) / 2 { pace } else { 0 };
        known.pace.set(pace);
        let source = if next >= configured && pace == 0 { CONFIGURED } else { LEARNED };
        self.change_limit(now, next.min(configured), source);
    }
}
