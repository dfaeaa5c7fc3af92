//! A provider's record, and what operations do to it and its quotas while they are locked.

use crate::cell::{Cell, FloatCell, SmallCell};
use crate::clock::Now;
use crate::config::{Dimension, Settings, Strategy, ms_to_ns};
use crate::decision::Report;
use crate::estimate::Estimator;
use crate::feedback::{Outcome, headers};
use crate::health::{Health, Observed};
use crate::lease::{Grant, Lease, LeaseId, LeaseList, Leases};
use crate::lock::Lock;
use crate::quota::{LimitSource, Peak, QuotaRef, Told};
use crate::state::{Link, State, Wired};
use crate::table::Table;
use crate::usage::{Reported, Usage};

/// Counters of a provider, or their sum over all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of select that chose it.
    pub selects: u64,
    /// Leases granted.
    pub acquires: u64,
    /// Leases completed.
    pub completions: u64,
    /// Leases cancelled.
    pub cancellations: u64,
    /// Leases that expired.
    pub expired_leases: u64,
    /// Outcomes observed without a lease.
    pub observations: u64,
    /// Cooldowns started.
    pub cooldowns_triggered: u64,
    /// Outcomes that a quota refused.
    pub rate_limited_responses: u64,
    /// Waits told by the provider that were too long to believe.
    pub capped_waits: u64,
    /// Leases in flight.
    pub leases_in_flight: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
struct CounterCells {
    selects: Cell,
    acquires: Cell,
    completions: Cell,
    cancellations: Cell,
    expired_leases: Cell,
    observations: Cell,
    cooldowns_triggered: Cell,
    rate_limited_responses: Cell,
    capped_waits: Cell,
}

/// A provider. Its definition and all that is known of it, but for the quotas, which are records of their own.
#[derive(Debug, Default)]
// Records of different providers share no cache line, nor two that are fetched together.
#[repr(C, align(128))]
pub(crate) struct Provider {
    pub(crate) lock: Lock,
    /// The latest time seen: a clock that goes back counts as standing still.
    pub(crate) latest: Cell,
    pub(crate) cooldown_secs: FloatCell,
    /// Counts definitions: a lease was charged on the quotas that were there when it was granted.
    pub(crate) epoch: Cell,
    pub(crate) leases: LeaseList,
    /// Where its journal begins; 0 is nowhere.
    pub(crate) journal: SmallCell,
    pub(crate) in_flight: Cell,
    /// Leases out that were granted while the provider was half-open or ramping, since its last cooldown.
    pub(crate) probes: Cell,
    pub(crate) health: Health,
    /// The most leases that were out when one was granted that then went well.
    proven: Cell,
    /// The highest that the predicted share of its tightest quota could be at a time, how that rises with each nanosecond,
    /// and until when it holds: unless something else happens to the provider than that it is charged. 0 is not known.
    peak: FloatCell,
    peak_rise: FloatCell,
    peak_from: Cell,
    pub(crate) peak_until: Cell,
    /// How much a charged unit takes from it, and of which dimension.
    peak_per_unit: FloatCell,
    peak_dimension: SmallCell,
    unused: SmallCell,
    counters: CounterCells,
}

/// So many leases must have completed, or be out, before the number in flight says anything about a refusal.
const ENOUGH_LEASES: u64 = 8;
/// A quota of which at least this share was admitted is what refused, however many leases are out: with a queue, their number
/// rises.
const NEAR: f64 = 0.75;
/// A quota of which headers tell that no more than this part is left explains a refusal. Larger blames the headers' quota
/// for another's refusal, smaller learns a limit where others were just faster. Measured: no difference between 5 and 100.
const NEARLY_SPENT: u64 = 20;
/// A wait of less than this part of a window tells of a shorter one: of a window that is guessed, and of one that is
/// configured.
const MUCH_SHORTER: u64 = 4;
const VERY_MUCH_SHORTER: u64 = 200;
/// A wait in whole seconds may be so much longer than its window.
const ROUNDING_NS: u64 = 1_000_000_000;

/// A provider with its quotas, all locked.
#[derive(Clone, Copy)]
pub(crate) struct Locked<'a> {
    pub(crate) state: &'a State,
    /// All providers, by index.
    pub(crate) all: &'a [Wired],
    pub(crate) wired: &'a Wired,
    pub(crate) index: u32,
    pub(crate) provider: &'a Provider,
    pub(crate) now: Now,
}

impl Provider {
    /// The highest that the predicted share of its tightest quota can be now; `None` if that is not known. Read without its
    /// lock: it tells of a moment ago, as looking closely would have.
    #[inline]
    pub(crate) fn peak(&self, now: Now) -> Option<f64> {
        let now = now.mono.max(self.latest.get());
        let known = now < self.peak_until.get();
        known.then(|| self.peak.get() + self.peak_rise.get() * now.saturating_sub(self.peak_from.get()) as f64)
    }

    #[inline]
    pub(crate) fn set_peak(&self, now: Now, peak: &Peak, dimension: Dimension) {
        self.peak_per_unit.set(peak.per_unit);
        self.peak_dimension.set(dimension as u32);
        self.peak.set(peak.share);
        self.peak_rise.set(peak.per_ns);
        self.peak_from.set(now.mono);
        self.peak_until.set(peak.until);
    }

    pub(crate) fn counters(&self) -> Counters {
        let c = &self.counters;
        Counters {
            selects: c.selects.get(),
            acquires: c.acquires.get(),
            completions: c.completions.get(),
            cancellations: c.cancellations.get(),
            expired_leases: c.expired_leases.get(),
            observations: c.observations.get(),
            cooldowns_triggered: c.cooldowns_triggered.get(),
            rate_limited_responses: c.rate_limited_responses.get(),
            capped_waits: c.capped_waits.get(),
            leases_in_flight: self.in_flight.get(),
        }
    }

    /// When the oldest lease is expected to end: after the usual latency, or when it expires. `None` if none is out.
    pub(crate) fn slot_at(&self, leases: &Table<Lease>) -> Option<u64> {
        let (_, lease) = self.leases.oldest(leases)?;
        let latency = self.health.latency_ns() as u64;
        Some(if latency > 0 { lease.granted.saturating_add(latency).min(lease.expires) } else { lease.expires })
    }

    /// Makes sense of the record, of which the leases make sense; whoever held these is gone.
    #[cfg(unix)]
    pub(crate) fn put_right(&self, entry: &crate::book::Provider, leases: &Table<Lease>) {
        self.latest.set(self.latest.get().min(Now::LAST_MONO));
        self.epoch.set(entry.epoch);
        self.cooldown_secs.set(entry.cooldown_seconds);
        self.in_flight.set(self.leases.active(leases).count() as u64);
        self.health.put_right();
        let probes = self.leases.active(leases).filter(|lease| self.tries(lease)).count();
        self.probes.set(probes as u64);
        self.peak_until.set(0);
    }

    /// Whether a lease is among the probes.
    #[inline]
    fn tries(&self, lease: &Grant) -> bool {
        lease.probe && !self.health.is_straggler(lease.granted)
    }

    /// Counts a selection.
    pub(crate) fn count_select(&self) {
        self.counters.selects.add(1);
    }
}

impl<'a> Locked<'a> {
    /// What a quota of this dimension can leave rises. Others can leave no more than before, and the least of all counts.
    #[inline]
    fn forget_peak_of(&self, dimension: Dimension) {
        if self.provider.peak_dimension.get() == dimension as u32 {
            self.provider.peak_until.set(0);
        }
    }

    /// Whether nobody else charges its quotas.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.wired.is_alone()
    }

    /// The quotas that can hold a request.
    #[inline]
    pub(crate) fn limiting_links(self) -> impl Iterator<Item = &'a Link> {
        self.wired.links.iter().filter(|link| !link.implicit || !link.record().is_unlimited())
    }

    /// Its quotas with their records.
    #[inline]
    pub(crate) fn quotas(self) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        self.wired.links.iter().map(|link| (link.index, link.quota(&self.wired.journal)))
    }

    /// The quotas that someone configured, that were learned, or that headers closed.
    pub(crate) fn visible_quotas(self) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        let configured = move |q: QuotaRef<'_>| q.limit_source() == LimitSource::Configured && !q.is_closed(self.now);
        let journal = &self.wired.journal;
        let seen = move |link: &&Link| !link.implicit || !configured(link.quota(journal));
        self.wired.links.iter().filter(seen).map(|link| (link.index, link.quota(journal)))
    }

    /// Leases out that try a provider after its cooldown.
    pub(crate) fn probes(&self) -> u64 {
        self.provider.probes.get()
    }

    pub(crate) fn estimator(&self, index: u32) -> Option<&'a Estimator> {
        self.state.estimators.get(index as usize)
    }

    /// An estimate capped by the limits, so that a small one never blocks for good.
    pub(crate) fn capped(&self, mut learned: Usage, headroom: f64) -> Usage {
        for (_, q) in self.quotas() {
            learned = learned.capped(q.dimension(), q.ceiling(headroom));
        }
        learned
    }

    /// Learns what requests use from one that went well.
    fn learn_usage(&self, request: &Grant, used: &Reported, quantile: f64) {
        if !used.is_empty()
            && let Some(estimator) = self.estimator(request.estimator)
            && estimator.learn(used, quantile)
        {
            self.state.head().knowing.count();
        }
    }

    /// The lease slots, to be changed.
    #[inline]
    fn leases(&self) -> Leases<'a> {
        let State { leases, memory, .. } = self.state;
        Leases { table: leases, journal: &self.wired.journal, seed: memory.head().seed.get() }
    }

    /// The oldest lease in flight.
    pub(crate) fn oldest_lease(&self) -> Option<Grant> {
        self.provider.leases.oldest(&self.state.leases).map(|(_, grant)| grant)
    }

    /// When the next of its leases is expected to end.
    pub(crate) fn slot_at(&self) -> u64 {
        self.provider.slot_at(&self.state.leases).unwrap_or(0)
    }

    /// When the next slot of one of its concurrency quotas is expected to come back.
    pub(crate) fn quota_slot_at(&self, quota: u32) -> u64 {
        if self.wired.is_pooled(quota) { self.pool_slot_at(quota) } else { self.slot_at() }
    }

    /// When the next slot of a pool is expected to come back, by a look at its providers without their locks: each may
    /// have moved on meanwhile.
    fn pool_slot_at(&self, quota: u32) -> u64 {
        let members =
            self.all.iter().filter(|w| w.provider.in_flight.get() > 0 && (w.is_pooled(quota) || w.left(quota)));
        members.filter_map(|w| w.provider.slot_at(&self.state.leases)).min().unwrap_or(0)
    }

    /// Reserves `usage` on every quota; `None`, with nothing changed, if there is no lease slot left.
    #[inline]
    pub(crate) fn grant(&self, usage: &Usage, estimator: u32, settings: &Settings) -> Option<LeaseId> {
        let p = self.provider;
        let granted = self.now.mono;
        let grant = Grant {
            granted,
            expires: granted.saturating_add(settings.lease_ttl_ns),
            at: granted.saturating_add(settings.skew_ns),
            epoch: p.epoch.get() as u32,
            probe: p.health.allowed().is_some(),
            level: p.in_flight.get() + 1,
            estimator,
            usage: *usage,
        };
        let id = p.leases.add(&self.leases(), self.index, self.state.memory.user(), &grant)?;
        for (_, q) in self.quotas() {
            q.reserve(self.now, grant.at, usage.of(q.dimension()));
        }
        let peak_units = usage.of(Dimension::from_record(p.peak_dimension.get()));
        p.peak.set(p.peak.get() - p.peak_per_unit.get() * peak_units as f64);
        self.state.head().next_expiry.lower(grant.expires);
        p.in_flight.add(1);
        p.probes.add(u64::from(grant.probe));
        p.counters.acquires.add(1);
        Some(id)
    }

    /// Ends a lease that completed, and passes on what it stood for. `None` if it is stale.
    #[inline]
    pub(crate) fn complete(&self, id: LeaseId, then: impl FnOnce(&Grant)) -> Option<()> {
        self.end(id, |grant| {
            then(grant);
            self.provider.counters.completions.add(1);
        })
    }

    /// Ends a lease whose request was not sent, and gives back all it reserved. `None` if it is stale.
    pub(crate) fn cancel(&self, id: LeaseId) -> Option<()> {
        self.end(id, |grant| {
            self.correct(grant, &Usage::NONE);
            self.provider.counters.cancellations.add(1);
        })
    }

    /// Ends a lease: its slots are free.
    #[inline(always)]
    fn end(&self, id: LeaseId, then: impl FnOnce(&Grant)) -> Option<()> {
        let p = self.provider;
        let leases = self.leases();
        let slot = p.leases.find(&leases, id)?;
        let grant = slot.grant();
        p.leases.remove(&leases, id, slot);
        p.in_flight.sub(1);
        p.probes.sub(u64::from(p.tries(&grant)));
        self.for_charged(grant.epoch, |q| {
            q.release(self.now, grant.at, grant.usage.of(q.dimension()));
            if q.dimension() == Dimension::Concurrency {
                self.forget_peak_of(Dimension::Concurrency);
            }
        });
        then(&grant);
        Some(())
    }

    /// Makes `actual` of what a lease reserved. What was used beyond the estimate counts from now on, like a lease's.
    #[inline]
    pub(crate) fn correct(&self, grant: &Grant, actual: &Usage) {
        self.for_charged(grant.epoch, |q| {
            let (reserved, used) = (grant.usage.of(q.dimension()), actual.of(q.dimension()));
            if used != reserved && q.dimension() != Dimension::Concurrency {
                self.correct_one(q, grant, reserved, used);
            }
        });
    }

    #[inline(never)]
    fn correct_one(&self, q: &QuotaRef<'_>, grant: &Grant, reserved: u64, used: u64) {
        if used < reserved {
            q.refund(self.now, grant.at, reserved - used);
            self.forget_peak_of(q.dimension());
        }
        q.charge(self.now, self.now.mono.saturating_add(grant.at - grant.granted), used.saturating_sub(reserved));
    }

    /// Works with the quotas that a lease of a definition was charged on.
    #[inline]
    fn for_charged(self, epoch: u32, work: impl Fn(&QuotaRef<'_>)) {
        if u64::from(epoch) == self.wired.epoch {
            self.quotas().for_each(|(_, q)| work(&q));
        } else {
            self.for_charged_before(epoch, &work);
        }
    }

    /// The same for a lease of an earlier definition. It holds a slot on every concurrency quota: one that came later counted
    /// it when it came.
    #[cold]
    #[inline(never)]
    fn for_charged_before(self, epoch: u32, work: &dyn Fn(&QuotaRef<'_>)) {
        for link in &self.wired.links {
            let q = link.quota(&self.wired.journal);
            if link.since <= u64::from(epoch) || q.dimension() == Dimension::Concurrency {
                work(&q);
            }
        }
        self.wired.former_quotas(epoch, &self.state.marks).for_each(|q| work(&q));
    }

    /// A request that was sent without a lease, `latency_ns` before now, as if it had had one.
    pub(crate) fn unleased(&self, usage: Usage, latency_ns: Option<u64>) -> Grant {
        let now = self.now.mono;
        let granted = now.saturating_sub(latency_ns.unwrap_or(0));
        Grant { granted, expires: now, at: now, epoch: 0, probe: false, level: 0, estimator: u32::MAX, usage }
    }

    /// Counts usage that no lease reserved; concurrency, which only leases hold, is untouched.
    pub(crate) fn observe_usage(&self, request: &Grant) {
        for (_, q) in self.quotas().filter(|(_, q)| q.dimension() != Dimension::Concurrency) {
            let units = request.usage.of(q.dimension());
            q.probe_upward(self.now, units);
            q.charge(self.now, request.at, units);
        }
        self.provider.counters.observations.add(1);
    }

    /// A request that went well shows how many leases may be out.
    fn prove(&self, request: &Grant) {
        let proven = self.provider.proven.get().max(request.level);
        self.provider.proven.set(proven);
    }

    /// Takes in all that a response says, in the order in which it matters: headers correct the books, the outcome goes to
    /// health, and a refusal that neither explains teaches a limit.
    pub(crate) fn learn_from(
        &self,
        report: &Report<'_>,
        request: &Grant,
        latency_ns: Option<u64>,
        settings: &Settings,
    ) {
        let explained = report.headers.is_some_and(|headers| self.observe_headers(headers, report, request));
        let told = report.headers.and_then(|headers| headers.retry_after_ms).map(ms_to_ns);
        let wait = report.retry_after_ns.or(told).filter(|_| report.outcome.is_failure());
        let retry_after_ns = wait.map(|wait| self.believed(wait, settings));
        let seen =
            Observed { outcome: report.outcome, sent: request.granted, now: self.now.mono, latency_ns, retry_after_ns };
        self.observe_outcome(seen, settings);
        match report.outcome {
            Outcome::RateLimited if !explained => self.learn(request, &report.actual(&request.usage), retry_after_ns),
            Outcome::Success => {
                self.prove(request);
                if report.headers.is_none_or(|headers| headers.quotas().is_empty()) {
                    self.quotas().for_each(|(_, q)| {
                        q.went_well(self.now, request.granted, request.at, &request.usage);
                    });
                }
                self.learn_usage(request, &report.usage, settings.estimate_quantile);
            }
            _ => {}
        }
    }

    /// Takes in what the response headers tell of quotas. Whether they explain why the request was refused, if it was:
    /// one is spent.
    fn observe_headers(&self, headers: &headers::Report, report: &Report<'_>, request: &Grant) -> bool {
        let refused = report.outcome == Outcome::RateLimited;
        let actual = report.actual(&request.usage);
        let mut explained = false;
        // Headers may raise anything.
        self.provider.peak_until.set(0);
        // What is spent comes last: nothing else in the response opens it.
        let is_spent = |told: &&headers::QuotaReport| [told.remaining, told.limit].contains(&Some(0));
        let quotas = || headers.quotas().iter().filter(|_| !headers.cached);
        for told in quotas().filter(|told| !is_spent(told)).chain(quotas().filter(is_spent)) {
            let window_ns = told.window_ms.map(ms_to_ns);
            // Leases in flight are counted here and nowhere better, so that concurrency is not corrected.
            let meant = || {
                self.quotas().map(|(_, q)| q).filter(|q| {
                    q.dimension() == told.dimension && q.strategy() != Strategy::Concurrency && q.is_meant(window_ns)
                })
            };
            // Which of several it speaks of, only an equal limit can tell, or else the size of a bucket.
            let only = || meant().next().filter(|_| meant().count() == 1);
            let equal = meant().find(|q| Some(q.configured_limit()) == told.limit);
            let sized = || meant().find(|q| q.is_equal(told.limit));
            let Some(q) = equal.or_else(sized).or_else(only) else { continue };
            // What surely speaks of it goes before what may.
            let is_sure = |told: &headers::QuotaReport| {
                told.dimension == q.dimension()
                    && (q.is_equal(told.limit) || told.window_ms.map(ms_to_ns) == Some(q.window_ns()))
            };
            let goes_first = is_sure(told) || !headers.quotas().iter().any(is_sure);
            // A limit of 0 would hold for good, as nothing is sent that could bring another: nothing remains, for now.
            let remaining = told.remaining.filter(|_| told.limit != Some(0)).or(told.limit.filter(|limit| *limit == 0));
            let (limit, reset_ns) = (told.limit.filter(|limit| !q.is_burst(*limit)), told.reset_in_ms.map(ms_to_ns));
            let (asked, own) = (request.usage.of(q.dimension()), actual.of(q.dimension()));
            // What remains of an unknown limit tells nothing of how much was used; nor does more than there is in all.
            let fits = q.limit() < u64::MAX && remaining.is_none_or(|left| left <= q.most_left());
            let speaks_of_it = goes_first && limit.map_or(fits, |limit| limit > 0 && q.is_plausible(limit, window_ns));
            if !speaks_of_it {
                // Another's limit, or one of which this quota is a share: but what is spent is spent. What is left of it opens
                // nothing that the quota's own headers closed.
                if remaining == Some(0) || goes_first {
                    q.close(self.now, request.granted, remaining.unwrap_or(u64::MAX), reset_ns);
                    explained |= remaining == Some(0);
                }
                continue;
            }
            let (sent, sent_at) = (request.granted, request.at);
            q.correct(self.now, &Told { limit, remaining, reset_ns, sent, sent_at, own });
            // The headers may be from a moment later, in which a little has come back.
            if refused && remaining.is_some_and(|left| left <= asked.max(q.limit() / NEARLY_SPENT)) {
                q.learn_margin(self.now, request.granted);
                explained = true;
            }
        }
        explained
    }

    /// Learns from a refusal that nothing on the books explains: a limit is lower than it was taken to be. `counted` is what is
    /// on the books of the request itself.
    fn learn(&self, request: &Grant, counted: &Usage, retry_after_ns: Option<u64>) {
        // The quota that was nearest to its limit, of those whose window is long enough for the wait.
        let long_enough = |q: &QuotaRef<'_>| retry_after_ns.is_none_or(|wait| wait <= q.window_ns() + ROUNDING_NS);
        // A wait that is much shorter is not for it. Of what nobody limits the window is only guessed; of the others, a little
        // may come back soon.
        let short_enough = |q: &QuotaRef<'_>| {
            let part = if q.limit() < u64::MAX { VERY_MUCH_SHORTER } else { MUCH_SHORTER };
            retry_after_ns.is_none_or(|wait| wait >= q.window_ns() / part)
        };
        let suspects = self
            .quotas()
            .map(|(_, q)| q)
            .filter(|q| q.dimension() != Dimension::Concurrency && long_enough(q) && short_enough(q));
        let judged = suspects.map(|q| {
            let own = counted.of(q.dimension());
            let admitted = q.admitted_before(self.now, request.at, own, retry_after_ns);
            (admitted as f64 / q.limit().max(1) as f64, admitted, q)
        });
        let nearest = judged.max_by(|a, b| a.0.total_cmp(&b.0));
        let is_near = nearest.as_ref().is_some_and(|(share, ..)| *share >= NEAR);
        if !is_near && retry_after_ns.is_none() && self.learn_slots(request) {
            return;
        }
        if let Some((_, admitted, q)) = nearest {
            q.learn(self.now, request.granted, request.at, admitted);
        }
    }

    /// Learns a limit on concurrency, if there were more leases out than were ever seen to go well, or as many as a limit that
    /// was learned allows. Whether it was one.
    fn learn_slots(&self, request: &Grant) -> bool {
        let p = self.provider;
        let slots = || self.quotas().map(|(_, q)| q).filter(|q| q.dimension() == Dimension::Concurrency);
        // Those that were sent after it may have arrived before it.
        let is_new = request.level > p.proven.get();
        let others = if is_new { request.level - 1 } else { p.in_flight.get() };
        // Of a pool, other providers hold slots, too.
        let in_all = |q: &QuotaRef<'_>| q.used(self.now).saturating_sub(p.in_flight.get()).saturating_add(others);
        let is_crowded = is_new || others >= p.proven.get() || slots().any(|q| q.is_tried_by(in_all(&q) + 1));
        if !is_crowded || p.counters.completions.get().max(others) < ENOUGH_LEASES {
            return false;
        }
        slots().for_each(|q| q.learn(self.now, request.granted, request.at, in_all(&q)));
        p.proven.set(p.proven.get().min(others));
        true
    }

    /// A wait that the provider tells, as far as it is believed.
    fn believed(&self, wait_ns: u64, settings: &Settings) -> u64 {
        if wait_ns > settings.max_retry_after_ns {
            self.provider.counters.capped_waits.add(1);
        }
        wait_ns.min(settings.max_retry_after_ns)
    }

    /// Takes in what a request says of the provider.
    fn observe_outcome(&self, seen: Observed, settings: &Settings) {
        let p = self.provider;
        if p.health.observe(seen, p.cooldown_secs.get(), settings) {
            p.counters.cooldowns_triggered.add(1);
            // Those that are out tell of the time before it.
            p.probes.set(0);
        }
        if seen.outcome.is_rate_limited() {
            p.counters.rate_limited_responses.add(1);
        }
    }

    /// Frees the slots of leases that were never settled; their usage stays counted.
    pub(crate) fn expire_leases(&self) {
        while let Some((id, grant)) = self.provider.leases.oldest(&self.state.leases) {
            if grant.expires > self.now.mono || self.expire(id).is_none() {
                return;
            }
        }
    }

    /// The same for leases that nobody will settle, as their users are gone.
    pub(crate) fn expire_leases_of(&self, gone: impl Fn(u64) -> bool) {
        let leases = self.provider.leases.owners(&self.state.leases);
        let left: Vec<_> = leases.filter(|(_, owner)| gone(*owner)).collect();
        for (id, _) in left {
            let _ = self.expire(id);
        }
    }

    fn expire(&self, id: LeaseId) -> Option<()> {
        self.end(id, |_| self.provider.counters.expired_leases.add(1))?;
        // The journal has room for one lease.
        self.wired.begin();
        Some(())
    }
}
