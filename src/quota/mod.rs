//! Quotas: one counter each, of a provider or of a pool.
//!
//! A counter is charged at an effective time `at`: when the provider counts the request at the latest, which for a lease
//! is `skew` after it was granted. Each strategy has its own file with the same small set of functions; what differs
//! between them is nowhere else.

mod concurrency;
mod fixed_window;
mod forecast;
mod in_force;
mod learned;
mod marks;
mod rolling;
mod token_bucket;
mod told;

use std::mem::offset_of;

use crate::cell::{Cell, SmallCell};
use crate::clock::Now;
use crate::config::{Dimension, QuotaConfig, Strategy};
#[cfg(unix)]
use crate::config::{MAX_SKEW_NS, MAX_SPAN_NS};
use crate::journal::Journal;
use crate::lock::Lock;
use crate::table::{Run, Table};

pub(crate) use forecast::{Forecast, Peak};
pub use in_force::LimitSource;
pub(crate) use marks::Mark;
pub(crate) use told::Told;

/// A wait that never ends by itself.
pub(crate) const NEVER: u64 = u64::MAX;

/// A quota's definition and its counter. All of it changes under the owner's lock only.
#[derive(Debug, Default)]
// See `Provider`.
#[repr(C, align(128))]
pub(crate) struct Quota {
    dimension: SmallCell,
    strategy: SmallCell,
    window: Cell,
    /// The limit in force: as configured, learned, or told.
    limit: Cell,
    /// Units counted; each strategy says of what.
    used: Cell,
    /// What else the strategy keeps; each one's file names the words.
    words: [Cell; 7],
    /// Where the marks of a rolling window start, and how many there are.
    marks_at: SmallCell,
    marks_len: SmallCell,
    burn: forecast::Burn,
    /// Units reserved by leases that are out: the provider may or may not have counted them yet.
    pending: Cell,
    /// Charges with an earlier effective time have left, or cannot be told apart any more: they are not refunded.
    gone: Cell,
    /// How far ahead of their charging effective times have been.
    lead: Cell,
    /// The configured limit, and where the one in force comes from.
    configured: Cell,
    source: SmallCell,
    /// The pool's name: its record's index plus 1; 0 is a provider's own quota.
    pub(crate) pool: SmallCell,
    /// Units that are left to others.
    margin: Cell,
    told: told::News,
    /// The pool's lock; the quotas of a provider are under the provider's.
    pub(crate) lock: Lock,
    /// The latest time that the pool has seen.
    pub(crate) latest: Cell,
    /// Rarely changed, and written down in the journal only then.
    learned: learned::Lessons,
}

/// A counter with its marks: what the functions of a quota work on.
#[derive(Clone, Copy)]
pub(crate) struct QuotaRef<'a> {
    pub(crate) quota: &'a Quota,
    marks: &'a [Mark],
    /// Where the marks are written down before one of them changes; the quota is there already.
    journal: &'a Journal,
}

impl Quota {
    /// Most marks of one.
    pub(crate) const MOST_MARKS: usize = rolling::MOST_SLOTS;
    /// How many words are written down before each operation.
    pub(crate) const KEPT: usize = offset_of!(Self, learned) / size_of::<Cell>();

    #[inline]
    pub(crate) fn dimension(&self) -> Dimension {
        Dimension::from_record(self.dimension.get())
    }

    /// Whether nobody limits it: it only counts, to learn from.
    #[inline]
    pub(crate) fn is_unlimited(&self) -> bool {
        self.limit.get() == u64::MAX && self.says_nothing()
    }

    pub(crate) fn is_concurrency(&self) -> bool {
        self.strategy.get() == Strategy::Concurrency as u32
    }

    /// Counts leases in flight of a provider that comes to a concurrency quota.
    pub(crate) fn take_slots(&self, leases: u64) {
        self.used.add(leases);
    }

    /// Frees the slots of a provider that leaves a concurrency quota.
    pub(crate) fn give_slots(&self, leases: u64) {
        self.used.sub(leases);
    }

    /// Charges with an earlier effective time are not refunded any more.
    #[inline]
    fn refund_none_before(&self, at: u64) {
        self.gone.set(self.gone.get().max(at));
    }

    /// The marks that it has now; a definition may give it others.
    pub(crate) fn keep_marks(&self, marks: &Table<Mark>) -> Run<Mark> {
        marks.keep_run(self.marks_at.get() as usize, self.marks_len.get() as usize)
    }

    /// Whether it has the marks that lie there.
    pub(crate) fn uses(&self, at: u32) -> bool {
        self.marks_at.get() == at && self.marks_len.get() != 0
    }

    /// Whether these are the marks that it has now: it only ever gets more.
    #[inline]
    pub(crate) fn has(&self, marks: &Run<Mark>) -> bool {
        self.marks_len.get() as usize == marks.len()
    }

    /// Where its marks begin, and how many there are.
    pub(crate) fn marks_run(&self) -> (usize, usize) {
        (self.marks_at.get() as usize, self.marks_len.get() as usize)
    }

    /// How many marks a definition needs.
    pub(crate) fn marks_for(config: &QuotaConfig) -> usize {
        match config.strategy() {
            Strategy::Rolling => rolling::slots(config.limit),
            _ => 0,
        }
    }
}

/// For who is alone with records that may be anything.
#[cfg(unix)]
impl Quota {
    /// Whether it has the marks that a definition needs.
    pub(crate) fn has_room_for(&self, config: &QuotaConfig) -> bool {
        (Self::marks_for(config)..=Self::MOST_MARKS).contains(&self.marks_run().1)
    }

    /// Takes over what leases in flight have reserved, from a count.
    pub(crate) fn reserve_anew(&self, units: u64) {
        self.pending.set(units);
        if self.is_concurrency() {
            self.used.set(units);
        }
    }

    /// Makes sense of the record, when leases in flight have reserved so much. After a change of the configuration that was
    /// broken off, it may still be defined as before: it stays so until it is defined again.
    pub(crate) fn put_right(&self, config: &QuotaConfig, marks: &Table<Mark>, reserved: u64, broken_off: bool) {
        let (mut strategy, window) = (Strategy::from_record(self.strategy.get()), self.window.get());
        let stays = broken_off && (window == 0) == (strategy == Strategy::Concurrency) && window <= MAX_SPAN_NS;
        let same = stays || (strategy == config.strategy() && window == config.window_ns);
        let (at, len) = self.marks_run();
        let no_journal = Journal::default();
        let q = QuotaRef::new(self, marks.run(at, len), &no_journal);
        self.latest.set(self.latest.get().min(Now::LAST_MONO));
        if !stays {
            strategy = config.strategy();
            self.dimension.set(config.dimension as u32);
            self.strategy.set(strategy as u32);
            self.window.set(config.window_ns);
        }
        let sound = same
            && match strategy {
                Strategy::Rolling => marks::put_right(&q),
                Strategy::TokenBucket => token_bucket::is_sound(&q),
                Strategy::FixedWindow => fixed_window::is_sound(&q),
                Strategy::Concurrency => true,
            };
        if !sound {
            self.words.iter().for_each(|word| word.set(0));
            self.used.set(0);
        }
        if !stays {
            match strategy {
                Strategy::TokenBucket => token_bucket::configure(self, config),
                Strategy::FixedWindow => fixed_window::configure(self, config),
                Strategy::Rolling | Strategy::Concurrency => {}
            }
            in_force::put_right(self, config);
        }
        self.put_lessons_right(q.capacity());
        self.put_news_right();
        self.reserve_anew(reserved);
        // No request is so long on the wire.
        self.lead.set(self.lead.get().min(MAX_SKEW_NS));
        self.burn.put_right();
    }
}

/// What may be used of a capacity if a share of `headroom` stays free.
#[inline]
fn without(capacity: u64, headroom: f64) -> u64 {
    if headroom == 0.0 {
        return capacity;
    }
    // Rounded up, so that the share is really free; the cast saturates.
    capacity.saturating_sub((capacity as f64 * headroom).ceil() as u64)
}

impl<'a> QuotaRef<'a> {
    /// The counter with the marks that it has now.
    #[inline]
    pub(crate) fn new(quota: &'a Quota, marks: &'a [Mark], journal: &'a Journal) -> Self {
        Self { quota, marks, journal }
    }

    #[inline]
    pub(crate) fn dimension(&self) -> Dimension {
        self.quota.dimension()
    }

    #[inline]
    pub(crate) fn strategy(&self) -> Strategy {
        Strategy::from_record(self.quota.strategy.get())
    }

    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        self.quota.limit.get()
    }

    #[inline]
    pub(crate) fn window_ns(&self) -> u64 {
        self.quota.window.get()
    }

    /// Units counted now.
    #[inline(always)]
    pub(crate) fn used(&self, now: Now) -> u64 {
        match self.strategy() {
            Strategy::Rolling => rolling::used(self, now),
            Strategy::TokenBucket => token_bucket::used(self, now),
            Strategy::FixedWindow => fixed_window::used(self, now),
            Strategy::Concurrency => concurrency::used(self),
        }
    }

    /// Units that fit now.
    #[inline(always)]
    pub(crate) fn remaining(&self, now: Now) -> u64 {
        self.ceiling(0.0).saturating_sub(self.used(now)).min(self.told_left(now))
    }

    /// The most that can be used at once: the limit in force, or the burst of a bucket.
    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity_at(self.limit())
    }

    /// The same with another limit.
    #[inline]
    fn capacity_at(&self, limit: u64) -> u64 {
        match self.strategy() {
            Strategy::TokenBucket => token_bucket::capacity(self, limit),
            _ => limit,
        }
    }

    /// What may be used at most if a share of `headroom` stays free.
    #[inline]
    pub(crate) fn ceiling(&self, headroom: f64) -> u64 {
        without(self.capacity().saturating_sub(self.quota.margin()), headroom)
    }

    /// Whether `n` units would fit if nothing were counted.
    pub(crate) fn could_fit(&self, n: u64, headroom: f64) -> bool {
        n <= self.ceiling(headroom)
    }

    /// Whether `n` more units fit and leave `headroom` free.
    #[inline]
    pub(crate) fn fits(&self, now: Now, n: u64, headroom: f64) -> bool {
        let fits = self.fits_the_books(now, n, self.ceiling(headroom));
        let fits = if self.quota.may_rise() { self.learned_fits(now, n, headroom, fits) } else { fits };
        fits && self.told_fits(now, n)
    }

    #[inline]
    fn fits_the_books(&self, now: Now, n: u64, ceiling: u64) -> bool {
        match self.strategy() {
            Strategy::TokenBucket => token_bucket::fits(self, now, n, ceiling),
            _ => n <= ceiling.saturating_sub(self.used(now)),
        }
    }

    /// Nanoseconds until `n` more units fit and leave `headroom` free, if nobody else takes them. Exact. [`NEVER`] if
    /// they are more than the quota ever has, and for concurrency, whose slots return when leases do. Where the limit is too
    /// low for now: until it next rises.
    pub(crate) fn wait(&self, now: Now, n: u64, headroom: f64) -> u64 {
        let wait = self.wait_by_the_books(now, n, headroom);
        let wait = if self.quota.may_rise() { self.learned_wait(now, n, headroom, wait) } else { wait };
        wait.max(self.told_wait(now, n))
    }

    fn wait_by_the_books(&self, now: Now, n: u64, headroom: f64) -> u64 {
        if !self.could_fit(n, headroom) {
            return self.rise_wait(now, n, headroom);
        }
        let ceiling = self.ceiling(headroom);
        match self.strategy() {
            _ if self.fits_the_books(now, n, ceiling) => 0,
            Strategy::Rolling => rolling::wait(self, now, n, ceiling),
            Strategy::TokenBucket => token_bucket::wait(self, now, n, ceiling),
            Strategy::FixedWindow => fixed_window::wait(self, now, n, ceiling),
            Strategy::Concurrency => NEVER,
        }
    }

    /// Counts `n` units with the effective time `at`, whether they fit or not.
    #[inline]
    pub(crate) fn charge(&self, now: Now, at: u64, n: u64) {
        self.count(now, at, n, true);
    }

    /// The same for units that are settled, and for those that a lease reserves.
    #[inline]
    fn count(&self, now: Now, at: u64, n: u64, settled: bool) {
        if n == 0 {
            return;
        }
        if self.strategy() != Strategy::Concurrency {
            self.quota.burn_add(now, n);
            self.told_spend(n);
            let lead = at.saturating_sub(now.mono);
            if lead > self.quota.lead.get() {
                self.quota.lead.set(lead);
            }
        }
        self.record(now, at, n, settled);
    }

    #[inline]
    fn record(&self, now: Now, at: u64, n: u64, settled: bool) {
        match self.strategy() {
            Strategy::Rolling => rolling::record(self, now, at, n),
            Strategy::TokenBucket => {
                token_bucket::record(self, now, at, n);
                if settled {
                    token_bucket::settle(self, now, at, n);
                }
            }
            Strategy::FixedWindow => fixed_window::record(self, now, at, n),
            Strategy::Concurrency => concurrency::record(self, n),
        }
    }

    /// Charges `n` units for a lease: they are pending until [`QuotaRef::release`].
    #[inline]
    pub(crate) fn reserve(&self, now: Now, at: u64, n: u64) {
        self.probe_upward(now, n);
        self.count(now, at, n, false);
        self.quota.pending.add(n);
    }

    /// The lease that reserved `n` units, with the effective time `at`, has ended: its slot is free, its units stay counted.
    #[inline]
    pub(crate) fn release(&self, now: Now, at: u64, n: u64) {
        self.quota.pending.sub(n);
        match self.strategy() {
            Strategy::Concurrency => concurrency::refund(self, n),
            Strategy::TokenBucket => token_bucket::settle(self, now, at, n),
            Strategy::Rolling | Strategy::FixedWindow => {}
        }
    }

    /// Takes back `n` units that were charged with the effective time `at`, as far as they are still counted. If a lease had
    /// reserved them, it was released just now.
    #[inline]
    pub(crate) fn refund(&self, now: Now, at: u64, n: u64) {
        if n > 0 {
            self.take_back(now, at, n);
        }
    }

    fn take_back(&self, now: Now, at: u64, n: u64) {
        self.quota.burn_sub(now, n);
        match self.strategy() {
            Strategy::Rolling => rolling::advance(self, now),
            Strategy::TokenBucket => {
                token_bucket::advance(self, now);
                token_bucket::unsettle(self, n);
            }
            Strategy::FixedWindow => fixed_window::advance(self, now),
            Strategy::Concurrency => {}
        }
        if at < self.quota.gone.get() {
            return;
        }
        match self.strategy() {
            Strategy::Rolling => rolling::refund(self, at, n),
            Strategy::TokenBucket => token_bucket::refund(self, now, at, n),
            Strategy::FixedWindow => fixed_window::refund(self, at, n),
            Strategy::Concurrency => concurrency::refund(self, n),
        }
    }

    /// Units that come back within `horizon` nanoseconds without anyone doing anything. And until when they and what is left
    /// now stay the same together, if nobody does anything but charge; 0 is not known.
    #[inline(always)]
    fn returning(&self, now: Now, horizon: u64) -> (u64, u64) {
        match self.strategy() {
            Strategy::Rolling => {
                let (units, steady_until) = rolling::returning(self, now, horizon);
                (units, if self.quota.says_nothing() && !self.quota.may_rise() { steady_until } else { 0 })
            }
            Strategy::TokenBucket => (token_bucket::returning(self, now, horizon), 0),
            Strategy::FixedWindow => (fixed_window::returning(self, now, horizon), 0),
            Strategy::Concurrency => (0, 0),
        }
    }

    /// Gives the record its definition, new or changed. What is counted stays counted; if the strategy changes, as used
    /// now. `reserved` are the marks that were reserved for it: links to the ones that it had are to be renewed. The journal has
    /// the quota.
    pub(crate) fn define(
        quota: &'a Quota,
        marks: &'a Table<Mark>,
        config: &QuotaConfig,
        reserved: Option<u32>,
        journal: &'a Journal,
        now: Now,
    ) {
        let old_run = marks.run(quota.marks_at.get() as usize, quota.marks_len.get() as usize);
        let old = Self::new(quota, old_run, journal);
        let carried = (old.strategy() != config.strategy()).then(|| old.used(now));
        let mut run = old_run;
        if let Some(at) = reserved {
            run = marks.run(at as usize, Quota::marks_for(config));
            if old.strategy() == Strategy::Rolling {
                marks::copy(&old, run);
            }
            quota.marks_at.set(at);
            quota.marks_len.set(run.len() as u32);
        }
        quota.dimension.set(config.dimension as u32);
        quota.strategy.set(config.strategy() as u32);
        quota.window.set(config.window_ns);
        if carried.is_some() {
            quota.words.iter().for_each(|word| word.set(0));
        } else if old.configured_limit() != config.limit {
            old.prepare(now);
        }
        match config.strategy() {
            Strategy::TokenBucket => token_bucket::configure(quota, config),
            Strategy::FixedWindow => fixed_window::configure(quota, config),
            _ => {}
        }
        in_force::configure(quota, config);
        if let Some(used) = carried {
            quota.used.set(0);
            // As one charge, of which nothing is refunded but what is on the wire.
            quota.gone.set(now.mono);
            if used > 0 {
                let at = now.mono.saturating_add(quota.lead.get());
                Self::new(quota, run, journal).record(now, at, used, true);
            }
        }
    }

    /// What must happen before the limit changes.
    fn prepare(&self, now: Now) {
        match self.strategy() {
            Strategy::TokenBucket => token_bucket::prepare(self, now),
            Strategy::Rolling => marks::compact_anew(self),
            Strategy::FixedWindow | Strategy::Concurrency => {}
        }
    }
}

#[cfg(test)]
mod tests;
