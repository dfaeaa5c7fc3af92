//! The limit in force: as configured, unless the provider shows or says that it is another.
//!
//! *Learned*: a rate-limited response while the books show room means that the limit is lower than configured, or that
//! others spend part of it. The limit drops to just below what the provider really admitted, and later rises again in small
//! steps. *Told*: response headers give the limit, and correct what is counted. A refusal that they explain shows that
//! others were faster: a margin is kept free of them.

use super::{NEVER, Quota, QuotaRef, fixed_window, rolling, token_bucket, without};
use crate::cell::{Cell, SmallCell};
use crate::clock::Now;
#[cfg(unix)]
use crate::config::MAX_SPAN_NS;
use crate::config::{Dimension, NS_PER_SEC, QuotaConfig, Strategy};
use crate::usage::Usage;

// "Measured" is over 24 families of simulated load, 72 runs, as 429s per 1000 attempts at goodput.

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
/// A limit that headers tell is taken for this quota's if it is at most so many times larger or smaller than the configured
/// one. Headers often leave out the window, and a limit per day must not become one per minute.
const PLAUSIBLE: u64 = 4;

/// Where the limit in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// As configured.
    Configured,
    /// Learned from refusals.
    Learned,
    /// Told by the provider.
    Told,
}

/// What is known of the limit beside its present value.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct InForce {
    configured: Cell,
    source: SmallCell,
    /// How many lessons there were, and when the last one was learned or partly forgotten.
    lessons: SmallCell,
    since: Cell,
    /// Units that are left to others.
    margin: Cell,
    /// The end of the provider's window as headers first told it, and when that was.
    window_end: Cell,
    end_told_at: Cell,
    /// When headers last showed that others use the quota (plus 1 ns; 0 is never).
    others_at: Cell,
    /// Until when headers said that nothing remains.
    closed_until: Cell,
    /// What headers told to be left, when they did (plus 1 ns; 0 is never), and what was charged since.
    left: Cell,
    left_told_at: Cell,
    spent: Cell,
    /// When the latest request was sent whose answer told that.
    told_sent: Cell,
}

/// What is known of the refusals that teach, apart from the rest: it is rarely looked at.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Refusals {
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

const CONFIGURED: u32 = 0;
const LEARNED: u32 = 1;
const TOLD: u32 = 2;

/// What response headers tell of a quota.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) limit: Option<u64>,
    pub(crate) remaining: Option<u64>,
    /// Nanoseconds until it is full again.
    pub(crate) reset_ns: Option<u64>,
    /// When the request was sent whose response this is.
    pub(crate) sent: u64,
    /// Its effective time; what was charged since may be missing in `remaining`.
    pub(crate) sent_at: u64,
    /// Its own units, which the provider has counted.
    pub(crate) own: u64,
}

/// Takes over a definition. A limit that is configured anew replaces what was learned of the old one.
pub(super) fn configure(quota: &Quota, config: &QuotaConfig) {
    let known = &quota.in_force;
    let source = &known.source;
    if known.configured.get() != config.limit || source.get() == CONFIGURED {
        source.set(CONFIGURED);
        known.lessons.set(0);
        quota.forget_doubts();
        quota.limit.set(config.limit);
    }
    known.configured.set(config.limit);
}

/// Makes sense of a limit that may be anything: what makes none is as configured.
#[cfg(unix)]
pub(super) fn put_limit_right(quota: &Quota, config: &QuotaConfig) {
    let known = &quota.in_force;
    let limit = quota.limit.get();
    let sound = known.configured.get() == config.limit
        && match known.source.get() {
            CONFIGURED => limit == config.limit,
            LEARNED => (1..=config.limit).contains(&limit),
            TOLD => true,
            _ => false,
        };
    if !sound {
        known.source.set(CONFIGURED);
        configure(quota, config);
    }
}

/// Makes sense of the other cells, which may be anything.
#[cfg(unix)]
pub(super) fn put_others_right(quota: &Quota, capacity: u64) {
    let known = &quota.in_force;
    known.margin.set(known.margin.get().min(capacity / MOST_MARGIN));
    known.lessons.set(known.lessons.get().min(u32::MAX - 1));
    let refusals = &quota.refusals;
    refusals.evidence.set(refusals.evidence.get().min(EVIDENCE));
    if refusals.pace.get() > MAX_SPAN_NS || refusals.next_at.get() > 2 * Now::LAST_MONO {
        quota.forget_doubts();
    }
    let times = [
        &refusals.learned_at,
        &refusals.try_at,
        &known.left_told_at,
        &known.told_sent,
        &known.others_at,
        &known.closed_until,
        &known.since,
    ];
    if times.iter().any(|at| at.get() > 2 * Now::LAST_MONO) {
        times.into_iter().for_each(|at| at.set(0));
    }
}

impl Quota {
    /// Whether the last response had no headers that say what is left: the usual case, and then only the books count.
    #[inline]
    pub(super) fn says_nothing(&self) -> bool {
        self.in_force.left_told_at.get() | self.in_force.closed_until.get() == 0
    }

    /// Units that are left to others, who are faster than headers can tell.
    #[inline]
    pub(crate) fn margin(&self) -> u64 {
        self.in_force.margin.get()
    }

    /// A limit that is known needs no doubts, and no pace.
    fn forget_doubts(&self) {
        self.refusals.doubted.set(0);
        self.refusals.pace.set(0);
    }

    /// Whether the limit in force, or what is left of it to others, may rise with time.
    #[inline]
    pub(super) fn may_rise(&self) -> bool {
        self.in_force.source.get() == LEARNED || self.margin() != 0
    }
}

impl QuotaRef<'_> {
    pub(crate) fn configured_limit(&self) -> u64 {
        self.quota.in_force.configured.get()
    }

    pub(crate) fn limit_source(&self) -> LimitSource {
        match self.quota.in_force.source.get() {
            LEARNED => LimitSource::Learned,
            TOLD => LimitSource::Told,
            _ => LimitSource::Configured,
        }
    }

    fn change_limit(&self, now: Now, limit: u64, source: u32) {
        if limit != self.limit() {
            self.prepare(now);
            self.quota.limit.set(limit);
        }
        self.quota.in_force.source.set(source);
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
        let known = &self.quota.in_force;
        if sent >= known.since.get() {
            let most = self.capacity();
            let margin = (known.margin.get() * 2).max(most / FIRST_MARGIN).max(1).min(most / MOST_MARGIN);
            known.margin.set(margin);
            known.since.set(now.mono);
        }
    }

    /// Learns from a refusal of a request that was sent at `sent`, with the effective time `at`, before which `admitted` units
    /// had been admitted.
    pub(crate) fn learn(&self, now: Now, sent: u64, at: u64, admitted: u64) {
        let (known, refusals) = (&self.quota.in_force, &self.quota.refusals);
        let concurrency = self.dimension() == Dimension::Concurrency;
        // What was sent before the last lesson belongs to it. Below a limit of 0 there is none.
        let since = known.since.get();
        if sent < since || self.limit() == 0 || admitted == 0 {
            return;
        }
        if self.is_in_doubt(sent) && admitted >= self.limit() {
            return self.confirm(now);
        }
        // Of a small limit, several refusals are needed.
        let evidence = refusals.evidence.get().saturating_add(admitted);
        if evidence < EVIDENCE && !concurrency {
            refusals.evidence.set(evidence);
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
        if is_another || known.lessons.get() == 0 || self.quota.rises.get() & !USED != 0 {
            known.lessons.set(known.lessons.get().saturating_add(1));
        }
        known.since.set(now.mono);
        refusals.learned_at.set(at);
        refusals.evidence.set(0);
        self.quota.rises.set(0);
    }

    /// Doubts a lesson that leaves less than half of the limit: the refusal may have been for a shorter window that nobody told
    /// of. After a pause, in which that would end, a request may try the limit as it was. Where there is one, each is doubted.
    fn doubt(&self, now: Now, at: u64, admitted: u64) {
        let (limit, refusals) = (self.limit(), &self.quota.refusals);
        let may_be_for_another =
            self.strategy() == Strategy::Rolling && limit < u64::MAX && self.window_ns() / LAST_PAUSE > FIRST_PAUSE_NS;
        let is_suspect = admitted <= limit / 2 || refusals.pace.get() != 0;
        if may_be_for_another && is_suspect && refusals.doubted.get() == 0 {
            let first = rolling::first_charge(self).unwrap_or(at);
            refusals.apart.set(at.saturating_sub(first) / admitted.max(1));
            refusals.doubted.set(limit);
        }
        // Until it stands, also after further ones.
        self.try_after(now, FIRST_PAUSE_NS);
    }

    fn try_after(&self, now: Now, pause: u64) {
        self.quota.refusals.pause.set(pause);
        self.quota.refusals.try_at.set(now.mono.saturating_add(pause));
    }

    /// Whether the last lesson is in doubt for a request that was sent at a time. One that comes late says nothing of it: more
    /// may have come back.
    fn is_in_doubt(&self, sent: u64) -> bool {
        let since = sent.checked_sub(self.quota.in_force.since.get());
        self.quota.refusals.doubted.get() != 0 && since.is_some_and(|since| since <= self.window_ns() / LATE)
    }

    /// A request tried, and was refused. After the last pause, the lesson stands.
    fn confirm(&self, now: Now) {
        self.quota.in_force.since.set(now.mono);
        let pause = self.quota.refusals.pause.get().saturating_mul(LONGER);
        if pause <= self.window_ns() / LAST_PAUSE {
            self.try_after(now, pause);
        } else {
            self.quota.refusals.doubted.set(0);
        }
    }

    /// A request tried, and went well: the limit is as it was, and what was refused came too fast.
    fn dispel(&self, now: Now) {
        let refusals = &self.quota.refusals;
        let limit = refusals.doubted.get().max(1);
        refusals.doubted.set(0);
        let evenly = self.window_ns() / limit;
        let pace = match refusals.pace.get() {
            0 => evenly.max(refusals.apart.get()),
            pace => pace.saturating_add(pace / SLOWER),
        };
        refusals.pace.set(pace.min(evenly.saturating_mul(SLOWEST)).max(1));
        self.change_limit(now, limit.min(self.configured_limit()), LEARNED);
    }

    /// How long until `n` units may try; `None` if they may not.
    fn try_wait(&self, now: Now, n: u64, headroom: f64) -> Option<u64> {
        let may = self.is_in_doubt(now.mono) && n <= without(self.quota.refusals.doubted.get(), headroom);
        may.then(|| self.quota.refusals.try_at.get().saturating_sub(now.mono))
    }

    /// How long until the pace lets something pass.
    pub(super) fn pace_wait(&self, now: Now) -> u64 {
        let refusals = &self.quota.refusals;
        if refusals.pace.get() == 0 { 0 } else { refusals.next_at.get().saturating_sub(now.mono) }
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
        let refusals = &self.quota.refusals;
        let pace = refusals.pace.get();
        if pace != 0 {
            let from = refusals.next_at.get().max(now.mono);
            refusals.next_at.set(from.saturating_add(pace.saturating_mul(n)));
        }
    }

    /// Whether so many units use all of a learned limit that has risen since the last lesson.
    pub(crate) fn is_tried_by(&self, n: u64) -> bool {
        self.limit_source() == LimitSource::Learned && self.quota.rises.get() & !USED != 0 && n >= self.limit()
    }

    /// Takes in that a request went well, which was sent at `sent` with the effective time `at`, and that its response had no
    /// headers.
    #[inline]
    pub(crate) fn went_well(&self, now: Now, sent: u64, at: u64, usage: &Usage) {
        if !self.quota.says_nothing() || self.quota.in_force.source.get() == LEARNED {
            self.take_in(now, sent, at, usage.of(self.dimension()));
        }
    }

    #[cold]
    #[inline(never)]
    fn take_in(&self, now: Now, sent: u64, at: u64, n: u64) {
        // What headers told before is old.
        self.quota.in_force.left_told_at.set(0);
        self.quota.in_force.closed_until.set(0);
        if self.limit_source() == LimitSource::Learned && self.strategy() == Strategy::Rolling {
            self.revise(now, sent, at, n);
        }
    }

    /// Revises the last lesson. If a request may have arrived before the one that was refused, and was not counted in the lesson,
    /// then so much more was admitted: of a burst, the answers that come first are those of the refused.
    fn revise(&self, now: Now, sent: u64, at: u64, n: u64) {
        let learned_at = self.quota.refusals.learned_at.get();
        if self.is_in_doubt(sent) && self.used(now) > self.limit() {
            self.dispel(now);
        } else if sent < self.quota.in_force.since.get()
            && at.checked_sub(learned_at).is_some_and(|later| later <= self.quota.lead.get())
            && self.quota.rises.get() & !USED == 0
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
        if self.used(now) >= self.capacity() / 2 {
            self.quota.rises.set(self.quota.rises.get() | USED);
        }
        self.rise(now);
        self.keep_pace(now, n);
    }

    /// How long it must be calm before the next step up.
    fn calm_ns(&self) -> u64 {
        let patience = self.quota.in_force.lessons.get().saturating_sub(1).min(MAX_PATIENCE);
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
        let next = self.quota.in_force.since.get().saturating_add(self.calm_ns());
        next.saturating_sub(now.mono).max(1)
    }

    fn rise(&self, now: Now) {
        let known = &self.quota.in_force;
        if now.mono.saturating_sub(known.since.get()) < self.calm_ns() {
            return;
        }
        known.since.set(now.mono);
        known.margin.set(known.margin.get() / 2);
        if known.source.get() != LEARNED {
            return;
        }
        // Only what is put to use tells that there may be much more.
        let (limit, rises) = (self.limit(), self.quota.rises.get());
        let (is_used, rises) = (rises & USED != 0, rises & !USED);
        let doublings = if is_used { rises.saturating_sub(EQUAL_STEPS - 1).min(MAX_DOUBLINGS) } else { 0 };
        let next = limit.saturating_add(((limit as f64 * STEP) as u64).max(1).saturating_mul(1 << doublings));
        self.quota.rises.set((rises + u32::from(is_used)).min(USED - 1));
        let configured = known.configured.get();
        let refusals = &self.quota.refusals;
        let pace = refusals.pace.get();
        let pace = pace.saturating_sub((pace / FASTER).max(1));
        let pace = if pace > self.window_ns() / configured.max(1) / 2 { pace } else { 0 };
        refusals.pace.set(pace);
        let source = if next >= configured && pace == 0 { CONFIGURED } else { LEARNED };
        self.change_limit(now, next.min(configured), source);
    }

    /// Whether headers for a window of `window_ns`, if they say so, can speak of this quota.
    pub(crate) fn is_meant(&self, window_ns: Option<u64>) -> bool {
        window_ns.is_none_or(|window| window == self.window_ns())
    }

    /// Whether a limit that headers tell is the size of the bucket, and says nothing of its rate.
    pub(crate) fn is_burst(&self, limit: u64) -> bool {
        self.strategy() == Strategy::TokenBucket && token_bucket::is_burst(self, limit)
    }

    /// Whether a limit that headers tell is the configured one, or the size of the bucket.
    pub(crate) fn is_equal(&self, limit: Option<u64>) -> bool {
        limit.is_some_and(|limit| limit == self.configured_limit() || self.is_burst(limit))
    }

    /// The most that headers can tell to be left: of the limit or of the bucket, in force or configured.
    pub(crate) fn most_left(&self) -> u64 {
        let limit = self.highest_limit();
        limit.max(self.capacity_at(limit))
    }

    /// The limit in force, or the configured one, to which it may rise.
    fn highest_limit(&self) -> u64 {
        self.limit().max(self.configured_limit())
    }

    /// Whether a limit that headers tell can be this quota's: its window agrees, or at least its size.
    pub(crate) fn is_plausible(&self, limit: u64, window_ns: Option<u64>) -> bool {
        let configured = self.configured_limit();
        window_ns.is_some() || (limit / PLAUSIBLE <= configured && configured / PLAUSIBLE <= limit)
    }

    /// Takes in what response headers tell.
    pub(crate) fn correct(&self, now: Now, told: &Told) {
        if let Some(limit) = told.limit {
            let source = if limit == self.configured_limit() { CONFIGURED } else { TOLD };
            self.quota.forget_doubts();
            self.change_limit(now, limit, source);
        }
        let Some(remaining) = told.remaining else { return };
        // What follows may be the second charge of an operation: see `marks::append`.
        self.journal.keep_once(self.marks);
        let latest = self.close(now, told.sent, remaining, told.reset_ns);
        if let Some(reset) = told.reset_ns.filter(|&reset| reset > 0 && reset <= self.window_ns())
            && self.strategy() == Strategy::FixedWindow
        {
            fixed_window::end_at(self, now, now.mono.saturating_add(reset));
        }
        // What the provider has counted; it may not have seen yet what is on the wire, or came after this request.
        let capacity = self.capacity();
        let counted = capacity.saturating_sub(remaining);
        // What remains of a limit does not tell how full a bucket of another size is.
        let size = told.limit.map_or(self.capacity_at(self.highest_limit()), |_| capacity);
        let is_of_all = remaining <= size && told.limit.is_none_or(|limit| limit == size);
        let unseen = match self.strategy() {
            // One that was sent a little earlier may have arrived later.
            Strategy::Rolling => {
                let since = told.sent_at.saturating_sub(self.quota.lead.get()).saturating_sub(1);
                // Its own units may have left the window while it took its time.
                let own = if told.sent_at.saturating_add(self.window_ns()) > now.mono { told.own } else { 0 };
                rolling::charged_between(self, since, u64::MAX).saturating_sub(own)
            }
            _ => self.quota.pending.get(),
        };
        let most = counted.saturating_add(unseen);
        let used = self.used(now);
        let known = &self.quota.in_force;
        if used < counted {
            // Others spent it: before now, so that it is not taken for what the next response has not seen.
            let window = self.window_ns();
            let before = now.mono.saturating_sub(self.quota.lead.get() + 1);
            let back_at = self.window_end(now, told.reset_ns).unwrap_or(before.saturating_add(window));
            self.charge(now, back_at.saturating_sub(window), counted - used);
            known.others_at.set(now.mono + 1);
        } else if used > most && is_of_all && (latest || self.strategy() == Strategy::Rolling) {
            // Without marks, what was sent later and is settled by now could not be told apart.
            self.forget(now, used - most);
        }
        known.left.set(remaining.saturating_sub(unseen));
        known.spent.set(0);
        known.left_told_at.set(now.mono + 1);
    }

    /// Whether no answer told what is left yet whose request was sent later, and notes this one.
    fn is_latest(&self, sent: u64) -> bool {
        let latest = &self.quota.in_force.told_sent;
        let is_latest = sent >= latest.get();
        if is_latest {
            latest.set(sent);
        }
        is_latest
    }

    /// Whether headers said that nothing remains, until later than now.
    pub(crate) fn is_closed(&self, now: Now) -> bool {
        now.mono < self.quota.in_force.closed_until.get()
    }

    /// Closes the quota until its reset if nothing remains, whatever the books and limits say, and else opens it, unless the answer
    /// is late. Whether it is not: see [`QuotaRef::is_latest`].
    pub(crate) fn close(&self, now: Now, sent: u64, remaining: u64, reset_ns: Option<u64>) -> bool {
        let (closed_until, latest) = (&self.quota.in_force.closed_until, self.is_latest(sent));
        if remaining == 0 {
            let reset = reset_ns.unwrap_or(self.window_ns() / UNHEARD).min(LONGEST_CLOSURE_NS);
            closed_until.set(now.mono.saturating_add(reset));
        } else if latest {
            closed_until.set(0);
        }
        latest
    }

    /// When the last headers told what is left, if that still matters: others were seen to use the quota too, and both was
    /// less than a window ago.
    fn news_at(&self, now: Now) -> Option<u64> {
        let known = &self.quota.in_force;
        let recent = |at: u64| at.checked_sub(1).filter(|at| now.mono.saturating_sub(*at) < self.window_ns());
        let told_at = recent(known.others_at.get()).and(recent(known.left_told_at.get()))?;
        self.told_end(told_at).is_none_or(|end| now.mono < end).then_some(told_at)
    }

    /// When all comes back, if headers told it and that is long enough to be believed.
    fn told_end(&self, told_at: u64) -> Option<u64> {
        let end = self.quota.in_force.window_end.get();
        (end.saturating_sub(told_at) >= (self.window_ns() / LONG_RESET).min(LONG_RESET_NS)).then_some(end)
    }

    /// What can be left at most, by the last headers, also when the books, which cannot know when the use of others leaves,
    /// have more: what they told, while that is fresh, and a little of what has come back since, less what was charged since.
    /// Requests within that bring news.
    #[inline]
    pub(super) fn told_left(&self, now: Now) -> u64 {
        if self.quota.says_nothing() {
            return u64::MAX;
        }
        self.told_left_now(now)
    }

    fn told_left_now(&self, now: Now) -> u64 {
        let known = &self.quota.in_force;
        if self.is_closed(now) {
            return 0;
        }
        let Some(told_at) = self.news_at(now) else { return u64::MAX };
        let since = now.mono.saturating_sub(told_at);
        let unheard = (self.limit() / UNHEARD).max(1);
        let told = if since < self.window_ns() / UNHEARD { known.left.get() } else { known.left.get().min(unheard) };
        told.saturating_add(self.back_since(since).min(unheard)).saturating_sub(known.spent.get())
    }

    /// Units that come back in a time at the limit's rate.
    fn back_since(&self, ns: u64) -> u64 {
        let back = u128::from(self.limit()) * u128::from(ns) / u128::from(self.window_ns().max(1));
        u64::try_from(back).unwrap_or(u64::MAX)
    }

    /// Whether the last headers let `n` units pass. A single request may always take what has come back: it brings news.
    #[inline]
    pub(super) fn told_fits(&self, now: Now, n: u64) -> bool {
        self.quota.says_nothing() || self.told_fits_now(now, n)
    }

    fn told_fits_now(&self, now: Now, n: u64) -> bool {
        n <= self.told_left_now(now) || (self.quota.pending.get() == 0 && self.missing_for(now, n) == 0)
    }

    /// How long until the quota is open, and `n` units have come back since the last headers or those no longer matter.
    fn missing_for(&self, now: Now, n: u64) -> u64 {
        let known = &self.quota.in_force;
        let closed = known.closed_until.get().saturating_sub(now.mono);
        let Some(told_at) = self.news_at(now) else { return closed };
        let missing = u128::from(n.saturating_add(known.spent.get()).saturating_sub(known.left.get()));
        let needed = (missing * u128::from(self.window_ns())).div_ceil(u128::from(self.limit().max(1)));
        let back_at = told_at.saturating_add(u64::try_from(needed).unwrap_or(u64::MAX).min(self.window_ns()));
        let back_at = self.told_end(told_at).map_or(back_at, |end| back_at.min(end));
        back_at.saturating_sub(now.mono).max(closed)
    }

    /// How long the last headers hold `n` units back; if only for news, a short while.
    pub(super) fn told_wait(&self, now: Now, n: u64) -> u64 {
        if self.told_fits(now, n) {
            return 0;
        }
        self.missing_for(now, n).max(NEWS_NS)
    }

    /// Notes what is charged after the last headers.
    #[inline]
    pub(super) fn told_spend(&self, n: u64) {
        if !self.quota.says_nothing() {
            self.quota.in_force.spent.add(n);
        }
    }

    /// When all that the provider has counted comes back at once, as far as a reset tells. A short one may also be when a
    /// little comes back (a sliding log, a bucket), unless it stays the same moment while time passes.
    fn window_end(&self, now: Now, reset_ns: Option<u64>) -> Option<u64> {
        let known = &self.quota.in_force;
        let reset = reset_ns?;
        let end = now.mono.saturating_add(reset);
        if known.window_end.get().abs_diff(end) > SAME_MOMENT_NS {
            known.window_end.set(end);
            known.end_told_at.set(now.mono);
        }
        let stays = now.mono.saturating_sub(known.end_told_at.get()) > 2 * SAME_MOMENT_NS;
        let long = reset >= (self.window_ns() / LONG_RESET).min(LONG_RESET_NS);
        (stays || long).then_some(end.min(now.mono.saturating_add(self.window_ns())))
    }

    /// Takes the oldest `n` units off the books: the provider no longer counts them.
    fn forget(&self, now: Now, n: u64) {
        match self.strategy() {
            Strategy::Rolling => rolling::forget(self, now, n),
            _ => self.refund(now, now.mono, n),
        }
    }
}

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
/// What headers tell is fresh for this part of the window. Then only this part of the limit is believed to be left, and to
/// have come back, until new ones do. Larger parts send more before the news. Measured: 0.25 with 20, 0.23 with 60, 0.22
/// with 200, which takes longer to start again with large requests.
const UNHEARD: u64 = 60;
/// Resets told so close to each other are one moment: many are rounded to a second.
const SAME_MOMENT_NS: u64 = 1_000_000_000;
/// A reset of at least this part of the window, or of this length, is taken for its end: a sliding log or a bucket mostly
/// gives something back sooner. Where it does not, little is sent until there is news.
const LONG_RESET: u64 = 10;
const LONG_RESET_NS: u64 = 10 * NS_PER_SEC;
/// The longest time that a quota is closed by a reset.
const LONGEST_CLOSURE_NS: u64 = 86_400 * NS_PER_SEC;
/// How long to wait for news when a request on its way will bring them.
const NEWS_NS: u64 = 1_000_000;
/// What stands for the window of concurrency, which has none, where time must pass.
/// Longer finds a raised limit later, shorter asks for too much more often.
const CONCURRENCY_WINDOW_NS: u64 = 5 * NS_PER_SEC;
/// For how long a limit of a shorter window is learned at least, in the same way.
const LEAST_WINDOW_NS: u64 = NS_PER_SEC;
