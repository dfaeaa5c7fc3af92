//! Judging a provider: whether it can take a request, what keeps it from doing so and how long, and its score.

use crate::clock::Now;
use crate::config::{Dimension, Settings};
use crate::decision::{Estimate, HeldBy, Ranked};
use crate::estimate::Estimator;
use crate::provider::Locked;
use crate::quota::{NEVER, Peak, QuotaRef};
use crate::registry::Row;
use crate::score::{PLENTY, Score, latency_component, quota_component};
use crate::usage::Usage;

/// The shortest wait that is told for something that only a lease can end.
const MIN_LEASE_WAIT_NS: u64 = 1_000_000;

/// What a request is judged by.
pub(crate) struct Question<'a> {
    pub(crate) estimate: &'a Estimate<'a>,
    pub(crate) settings: &'a Settings,
    /// The lowest known latency of the capability; 0 if none is known.
    pub(crate) lowest_latency: f64,
    /// The estimator of another provider of the capability, for one that has served nothing yet.
    fallback: Option<u32>,
    /// What is told of its usage, where nothing is known of the rest.
    pub(crate) told: Usage,
    /// The dimensions that are told.
    told_dimensions: u8,
}

impl<'a> Question<'a> {
    #[inline]
    pub(crate) fn new(
        estimate: &'a Estimate<'a>,
        settings: &'a Settings,
        lowest_latency: f64,
        fallback: Option<u32>,
    ) -> Self {
        let told = estimate.usage.or(&Usage::NONE);
        Self { estimate, settings, lowest_latency, fallback, told, told_dimensions: estimate.usage.told() }
    }

    /// What the request will use on a provider; `None` if that is what is told.
    #[inline]
    pub(crate) fn usage(&self, locked: &Locked<'_>, row: &Row) -> Option<Usage> {
        let own = &*row.learned;
        let estimator = if own.knows() { Some(own) } else { self.fallback.and_then(|other| locked.estimator(other)) };
        estimator.filter(|e| e.knows_beyond(self.told_dimensions)).map(|e| self.learned_usage(locked, e))
    }

    #[inline(never)]
    fn learned_usage(&self, locked: &Locked<'_>, estimator: &Estimator) -> Usage {
        let learned = estimator.expected(self.settings.estimate_quantile);
        self.estimate.usage.or(&locked.capped(learned, self.estimate.headroom))
    }
}

/// The most that a provider can score now, as far as that can be told without looking closely.
#[inline]
pub(crate) fn bound(row: &Row, question: &Question<'_>, now: Now) -> f64 {
    let Some(peak) = row.record.peak(now) else { return row.bound };
    let latency = latency_component(row.record.health.latency_ns(), question.lowest_latency);
    Score::new(quota_component(peak), 1.0, row.priority, latency, &question.settings.weights).total
}

/// Judges a provider and writes what it finds in place: its score, and what keeps it from taking the request, for how long.
/// A thorough look finds the longest of all that does; else the first ends it, without its wait and without a score.
#[inline(always)]
pub(crate) fn judge(
    locked: &Locked<'_>,
    question: &Question<'_>,
    row: &Row,
    usage: &Usage,
    thorough: bool,
    into: &mut Ranked,
) {
    let (now, estimate, settings) = (locked.now, question.estimate, question.settings);
    let health = &locked.provider.health;
    let health_now = health.at(now.mono, settings);
    let mut found = Found { thorough, longest: None };

    if !estimate.excluded.is_empty()
        && estimate.excluded.contains(&locked.index)
        && found.add(HeldBy::Exclusion, || NEVER)
    {
        return found.tell(into);
    }
    let cooldown = health.cooldown_left(now.mono);
    if cooldown > 0 && found.add(HeldBy::Cooldown, || cooldown) {
        return found.tell(into);
    }
    let least = settings.min_health_for_selection;
    if health_now < least && found.add(HeldBy::Health, || health.wait_for(least, now.mono, settings)) {
        return found.tell(into);
    }
    if health.allowed().is_some_and(|allowed| locked.probes() >= allowed)
        && found.add(HeldBy::Probe, || lease_wait(locked.slot_at(), now))
    {
        return found.tell(into);
    }
    let mut share = 1.0_f64;
    let mut seconds_to_exhaustion = f64::INFINITY;
    let mut tightest: Option<(Peak, Dimension)> = None;
    for (record, q) in locked.limiting_quotas() {
        // Of what is neither told nor learned, one unit must be there: what is spent is not chosen.
        let n = usage.of(q.dimension());
        let n = if n == 0 && estimate.usage.of(q.dimension()).is_none() { 1 } else { n };
        let mut left = q.remaining(now);
        // Mostly no headroom is asked for, and what is left is all that counts.
        let fits = estimate.headroom == 0.0 && n <= left;
        if !fits && !q.fits(now, n, estimate.headroom) {
            let fits_now = risen(&q, now, n, estimate.headroom);
            left = q.remaining(now);
            if !fits_now && found.add_quota(locked, record, &q, n, estimate.headroom) {
                return found.tell(into);
            }
        }
        let forecast = q.forecast(now, left);
        if !forecast.leaves(PLENTY) {
            let own = forecast.share();
            if own < share {
                share = own;
                tightest = Some((forecast.peak(), q.dimension()));
            }
        }
        seconds_to_exhaustion = seconds_to_exhaustion.min(forecast.seconds_to_exhaustion());
    }
    if let Some((peak, dimension)) = tightest.filter(|_| locked.is_alone()) {
        locked.provider.set_peak(now, &peak, dimension);
    }
    into.provider = locked.index;
    into.index = row.index;
    into.score = Score::new(
        quota_component(share),
        health_now,
        row.priority,
        latency_component(health.latency_ns(), question.lowest_latency),
        &settings.weights,
    );
    into.seconds_to_exhaustion = seconds_to_exhaustion;
    found.tell(into);
}

/// Whether what does not fit does so now that the limit has risen. One that was learned too low for a request ever to pass must
/// rise without one.
#[cold]
fn risen(q: &QuotaRef<'_>, now: Now, n: u64, headroom: f64) -> bool {
    if !q.could_fit(n, headroom) {
        q.probe_upward(now);
    }
    q.fits(now, n, headroom)
}

/// What was found to hold a provider.
struct Found {
    thorough: bool,
    longest: Option<(HeldBy, u64)>,
}

impl Found {
    /// Adds something. Whether that is enough.
    #[inline]
    fn add(&mut self, held_by: HeldBy, wait: impl FnOnce() -> u64) -> bool {
        let wait = if self.thorough { wait() } else { 0 };
        if self.longest.is_none_or(|(_, known)| wait > known) {
            self.longest = Some((held_by, wait));
        }
        !self.thorough
    }

    /// Adds a quota that has no room for `n` units. Whether that is enough.
    #[cold]
    fn add_quota(&mut self, locked: &Locked<'_>, record: u32, q: &QuotaRef<'_>, n: u64, headroom: f64) -> bool {
        let now = locked.now;
        if q.dimension() == Dimension::Concurrency {
            // Without any slot there is no lease to wait for.
            let any = q.could_fit(n, headroom);
            let wait = || if any { lease_wait(locked.quota_slot_at(record), now) } else { q.wait(now, n, headroom) };
            self.add(HeldBy::Concurrency, wait)
        } else {
            let held_by = HeldBy::Quota { dimension: q.dimension(), window_ns: q.window_ns() };
            self.add(held_by, || q.wait(now, n, headroom))
        }
    }

    #[inline]
    fn tell(&self, into: &mut Ranked) {
        if let Some((held_by, retry_after_ns)) = self.longest {
            into.held_by = Some(held_by);
            into.retry_after_ns = retry_after_ns;
        }
    }
}

/// How long until a lease ends that is expected to do so at a time.
fn lease_wait(at: u64, now: Now) -> u64 {
    at.saturating_sub(now.mono).max(MIN_LEASE_WAIT_NS)
}
