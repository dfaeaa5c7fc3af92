//! Judging a provider: whether it can take a request, what keeps it from doing so and how long, and its score.

use crate::clock::Now;
use crate::config::{Dimension, Settings};
use crate::decision::{Estimate, HeldBy, Ranked};
use crate::estimate::Estimator;
use crate::provider::Locked;
use crate::quota::{Forecast, NEVER, Peak, QuotaRef};
use crate::registry::{Capability, Row};
use crate::score::{PLENTY, Score, latency_component, quota_component};
use crate::state::Link;
use crate::usage::Usage;

/// The shortest wait that is told for something that only a lease can end.
const MIN_LEASE_WAIT_NS: u64 = 1_000_000;

/// What a request is judged by.
pub(crate) struct Question<'a> {
    pub(crate) estimate: &'a Estimate<'a>,
    pub(crate) settings: &'a Settings,
    /// The lowest known latency of the capability; 0 if none is known.
    pub(crate) lowest_latency: f64,
    /// What is told of its usage, where nothing is known of the rest.
    pub(crate) told: &'a Usage,
}

impl Question<'_> {
    /// What the request will use on a provider; `None` if that is what is told.
    #[inline]
    pub(crate) fn usage(&self, locked: &Locked<'_>, row: &Row, capability: &Capability) -> Option<Usage> {
        let own = &*row.learned;
        // One that has served nothing yet is taken to be like another.
        let estimator = if own.knows() { Some(own) } else { capability.fallback(locked.state) };
        estimator.filter(|e| e.knows_beyond(self.estimate.usage.told())).map(|e| self.learned_usage(locked, e))
    }

    /// Units of a dimension that must be there. Of what is neither told nor learned, one: what is spent is not chosen.
    #[inline]
    fn units(&self, usage: &Usage, dimension: Dimension) -> u64 {
        let n = usage.of(dimension);
        if n == 0 && self.estimate.usage.of(dimension).is_none() { 1 } else { n }
    }

    #[inline(never)]
    fn learned_usage(&self, locked: &Locked<'_>, estimator: &Estimator) -> Usage {
        let learned = estimator.expected(self.settings.estimate_quantile);
        let (told, headroom) = (&self.estimate.usage, self.estimate.headroom);
        let usage = told.or(&locked.capped(learned, headroom));
        // A sum of which a part is learned is capped, too.
        told.within(usage, &locked.capped(usage, headroom))
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
#[inline(never)]
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
    let mut tightest = Tightest::NONE;
    for link in locked.limiting_links() {
        if tightest.add(question, link, locked, usage) {
            continue;
        }
        let (q, n) = (link.quota(&locked.wired.journal), question.units(usage, link.record().dimension()));
        if !risen(&q, now, n, estimate.headroom) && found.add_quota(locked, link.index, &q, n, estimate.headroom) {
            return found.tell(into);
        }
        tightest.add_forecast(&q.look_closely(now).1, q.dimension());
    }
    if let Some((peak, dimension)) = tightest.peak.filter(|_| locked.is_alone()) {
        locked.provider.set_peak(now, &peak, dimension);
    }
    into.provider = locked.index;
    into.index = row.index;
    into.score = Score::new(
        quota_component(tightest.share),
        health_now,
        row.priority,
        latency_component(health.latency_ns(), question.lowest_latency),
        &settings.weights,
    );
    into.seconds_to_exhaustion = tightest.seconds;
    found.tell(into);
}

/// What the quotas of a provider will leave: the least share of any, and in how many seconds the first is spent.
struct Tightest {
    share: f64,
    seconds: f64,
    peak: Option<(Peak, Dimension)>,
}

impl Tightest {
    const NONE: Self = Self { share: 1.0, seconds: f64::INFINITY, peak: None };

    /// Takes in a quota, if the request fits. Whether it does.
    #[inline(never)]
    fn add(&mut self, question: &Question<'_>, link: &Link, locked: &Locked<'_>, usage: &Usage) -> bool {
        let (now, record) = (locked.now, link.record());
        let (dimension, headroom) = (record.dimension(), question.estimate.headroom);
        let n = question.units(usage, dimension);
        let journal = &locked.wired.journal;
        let (left, forecast) = record.look(now).unwrap_or_else(|| link.quota(journal).look_closely(now));
        // Mostly no headroom is asked for, and what is left is all that counts.
        let fits = (headroom == 0.0 && n <= left) || link.quota(journal).fits(now, n, headroom);
        if fits {
            self.add_forecast(&forecast, dimension);
        }
        fits
    }

    #[inline(always)]
    fn add_forecast(&mut self, forecast: &Forecast, dimension: Dimension) {
        if !forecast.leaves(PLENTY) {
            self.add_share(forecast, dimension);
        }
        let seconds = forecast.seconds_to_exhaustion();
        if seconds < self.seconds {
            self.seconds = seconds;
        }
    }

    fn add_share(&mut self, forecast: &Forecast, dimension: Dimension) {
        let share = forecast.share();
        if share < self.share {
            self.share = share;
            self.peak = Some((forecast.peak(), dimension));
        }
    }
}

/// Whether what does not fit does so now that the limit has risen. One that was learned too low for a request ever to pass must
/// rise without one.
#[cold]
fn risen(q: &QuotaRef<'_>, now: Now, n: u64, headroom: f64) -> bool {
    if !q.could_fit(n, headroom) {
        q.probe_upward(now, 0);
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
