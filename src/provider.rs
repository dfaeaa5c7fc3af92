//! A provider's record, and the locked view of it that every operation works on.

use crate::clock::Now;
use crate::config::{Dimension, Settings, Strategy, ms_to_ns};
use crate::estimate::Estimator;
use crate::feedback::headers;
use crate::health::{Health, Observed};
use crate::lease::{Grant, Lease, LeaseId, LeaseList};
use crate::lock::Lock;
use crate::quota::{LimitSource, Mark, Peak, Quota, QuotaRef, Told};
use crate::table::{Cell, FloatCell, Record, Run, SmallCell, Table};
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
#[repr(align(128))]
pub(crate) struct Provider {
    lock: Lock,
    /// The latest time seen: a clock that goes back counts as standing still.
    latest: Cell,
    cooldown_secs: FloatCell,
    /// Counts definitions: a lease was charged on the quotas that were there when it was granted.
    epoch: Cell,
    leases: LeaseList,
    in_flight: Cell,
    /// Leases out that were granted while the provider was half-open or ramping.
    probes: Cell,
    pub(crate) health: Health,
    /// The most leases that were out when one was granted that then went well.
    proven: Cell,
    /// The highest that the predicted share of its tightest quota could be at a time, how that rises with each nanosecond,
    /// and until when it holds: unless something else happens to the provider than that it is charged. 0 is not known.
    peak: FloatCell,
    peak_rise: FloatCell,
    peak_from: Cell,
    peak_until: Cell,
    /// How much a charged unit takes from it, and of which dimension.
    peak_per_unit: FloatCell,
    peak_dimension: SmallCell,
    counters: CounterCells,
}

/// So many leases must have completed before the number in flight says anything about a refusal.
const ENOUGH_COMPLETIONS: u64 = 8;
/// A quota of which headers tell that no more than this part is left explains a refusal. Larger blames the headers' quota
/// for another's refusal, smaller learns a limit where others were just faster. Measured: no difference between 5 and 100.
const NEARLY_SPENT: u64 = 20;
/// A wait of less than this part of a window tells of a shorter one.
const MUCH_SHORTER: u64 = 4;
/// A wait in whole seconds may be so much longer than its window.
const ROUNDING_NS: u64 = 1_000_000_000;

/// A provider as the configuration in force wires it: its record and its quotas.
#[derive(Clone)]
pub(crate) struct Wired {
    pub(crate) provider: Record<Provider>,
    /// Its own quotas, then its pools, each by index: the order in which pools are locked.
    links: Box<[Link]>,
    /// How many are its own.
    own: usize,
}

/// From a provider to one of its quotas.
#[derive(Clone)]
pub(crate) struct Link {
    index: u32,
    /// Since which definition of the provider its leases are charged there.
    since: u64,
    /// Nobody configured it: it only serves to learn.
    implicit: bool,
    quota: Record<Quota>,
    marks: Run<Mark>,
}

impl Link {
    #[inline]
    fn quota(&self) -> QuotaRef<'_> {
        QuotaRef::new(&self.quota, &self.marks)
    }
}

impl Wired {
    /// Takes over the marks that a quota got.
    pub(crate) fn renew_marks(&mut self, quota: u32, marks: &Table<Mark>) {
        for link in self.links.iter_mut().filter(|link| link.index == quota) {
            link.marks = link.quota.keep_marks(marks);
        }
    }

    fn is_pooled(&self, quota: u32) -> bool {
        self.links[self.own..].iter().any(|link| link.index == quota)
    }
}

/// The tables of an engine.
pub(crate) struct State {
    pub(crate) providers: Table<Provider>,
    pub(crate) quotas: Table<Quota>,
    pub(crate) marks: Table<Mark>,
    pub(crate) leases: Table<Lease>,
    pub(crate) estimators: Table<Estimator>,
    /// How many estimators know anything: who looks for one that does looks again only when there is one more.
    pub(crate) knowing: Cell,
    /// Where the generations of lease slots start.
    pub(crate) seed: u64,
    /// No lease expires before this time.
    pub(crate) next_expiry: Cell,
}

/// A provider with its quotas, all locked.
#[derive(Clone, Copy)]
pub(crate) struct Locked<'a> {
    state: &'a State,
    /// All providers, by index.
    all: &'a [Wired],
    wired: &'a Wired,
    pub(crate) index: u32,
    pub(crate) provider: &'a Provider,
    pub(crate) now: Now,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        let state = Self {
            next_expiry: Cell::default(),
            providers: Table::new(),
            quotas: Table::new(),
            marks: Table::new(),
            leases: Table::new(),
            estimators: Table::new(),
            knowing: Cell::default(),
            seed,
        };
        state.next_expiry.set(u64::MAX);
        state
    }

    /// Runs `work` with a provider and its pools locked. Locks are taken in one order everywhere:
    /// the provider, then its pools by index; no call holds two providers. `None` if there is no such provider.
    #[inline]
    pub(crate) fn locked<R>(
        &self,
        all: &[Wired],
        index: u32,
        now: Now,
        work: impl FnOnce(Locked<'_>) -> R,
    ) -> Option<R> {
        let wired = all.get(index as usize)?;
        let provider = &*wired.provider;
        let _guard = provider.lock.lock();
        let now = later(&provider.latest, now);
        let work = |now| work(Locked { state: self, all, wired, index, provider, now });
        Some(with_pools(&wired.links[wired.own..], now, work))
    }

    /// Ends the leases of all providers that have expired. Every provider is locked, so that no lease is missed: one that is
    /// granted later lowers `next_expiry` after it was raised here.
    #[cold]
    pub(crate) fn expire_leases(&self, all: &[Wired], now: Now) {
        self.next_expiry.set(u64::MAX);
        for index in 0..all.len() {
            let next = self.locked(all, index as u32, now, |locked| {
                locked.expire_leases();
                locked.oldest_lease().map_or(u64::MAX, |lease| lease.expires)
            });
            self.next_expiry.lower(next.unwrap_or(u64::MAX));
        }
    }

    /// The latest time that a provider and its pools have seen, or `now`.
    pub(crate) fn latest(&self, index: u32, quota: u32, now: Now) -> Now {
        let seen = |latest: Option<&Cell>| latest.map_or(0, Cell::get);
        let provider = seen(self.providers.get(index as usize).map(|p| &p.latest));
        let pool = seen(self.quotas.get(quota as usize).map(|q| &q.latest));
        Now { mono: now.mono.max(provider).max(pool), ..now }
    }

    /// The counters of all providers together.
    pub(crate) fn totals(&self) -> Counters {
        (0..self.providers.len()).filter_map(|i| self.providers.get(i)).fold(Counters::default(), |sum, p| {
            let c = p.counters();
            Counters {
                selects: sum.selects + c.selects,
                acquires: sum.acquires + c.acquires,
                completions: sum.completions + c.completions,
                cancellations: sum.cancellations + c.cancellations,
                expired_leases: sum.expired_leases + c.expired_leases,
                observations: sum.observations + c.observations,
                cooldowns_triggered: sum.cooldowns_triggered + c.cooldowns_triggered,
                rate_limited_responses: sum.rate_limited_responses + c.rate_limited_responses,
                capped_waits: sum.capped_waits + c.capped_waits,
                leases_in_flight: sum.leases_in_flight + c.leases_in_flight,
            }
        })
    }
}

/// The later of now and the latest time that a record has seen, which that becomes.
#[inline]
fn later(latest: &Cell, now: Now) -> Now {
    let seen = latest.get();
    if now.mono > seen {
        latest.set(now.mono);
    }
    Now { mono: now.mono.max(seen), ..now }
}

/// Locks the pools one after the other. Each passes on the latest time that it or the ones before have seen.
#[inline]
fn with_pools<R>(pools: &[Link], now: Now, work: impl FnOnce(Now) -> R) -> R {
    match pools.split_first() {
        None => work(now),
        Some((first, rest)) => with_pool(first, rest, now, work),
    }
}

fn with_pool<R>(pool: &Link, rest: &[Link], now: Now, work: impl FnOnce(Now) -> R) -> R {
    let _guard = pool.quota.lock.lock();
    let now = later(&pool.quota.latest, now);
    match rest.split_first() {
        None => work(now),
        Some((first, rest)) => with_pool(first, rest, now, work),
    }
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

    /// Counts a selection, which needs no lock.
    pub(crate) fn count_select(&self) {
        self.counters.selects.count();
    }
}

/// A quota that a definition links a provider to.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) quota: u32,
    pub(crate) pooled: bool,
    pub(crate) implicit: bool,
}

impl State {
    /// Gives a provider its definition: its cooldown and the quotas it is charged on, which are defined already. Leases in
    /// flight hold a slot on every concurrency quota, also on one that is new; on other quotas they are settled only if
    /// they were charged there. `index` may be one behind the last of `all`: a new provider.
    pub(crate) fn define(
        &self,
        all: &mut Vec<Wired>,
        index: u32,
        cooldown_secs: f64,
        mut wanted: Vec<Wanted>,
        now: Now,
    ) -> Option<()> {
        let provider = self.providers.record(index as usize)?;
        let old = all.get(index as usize).map(|wired| &*wired.links).unwrap_or_default();
        let epoch = provider.epoch.get() + 1;
        wanted.sort_by_key(|w| (w.pooled, w.quota));
        let links = wanted.iter().map(|w| {
            let since = old.iter().find(|link| link.index == w.quota).map_or(epoch, |link| link.since);
            let quota = self.quotas.record(w.quota as usize)?;
            let marks = quota.keep_marks(&self.marks);
            Some(Link { index: w.quota, since, implicit: w.implicit, quota, marks })
        });
        let links = links.collect::<Option<Box<[_]>>>()?;
        let own = wanted.iter().filter(|w| !w.pooled).count();

        // Slots that the old definition holds go back, and the new one takes its own: nobody can see the gap, as a
        // definition changes only while no other call runs.
        self.locked(all, index, now, |locked| locked.hold_slots(Quota::give_slots));
        for link in old.iter().filter(|link| !wanted.iter().any(|w| w.quota == link.index)) {
            // Its leases will not release what they reserved on a quota that goes.
            let q = link.quota();
            provider.leases.active(&self.leases).filter(|lease| u64::from(lease.epoch) >= link.since).for_each(
                |lease| {
                    q.forget_pending(lease.usage.of(q.dimension()));
                },
            );
        }
        provider.peak_until.set(0);
        provider.epoch.set(epoch);
        provider.cooldown_secs.set(cooldown_secs);
        let wired = Wired { provider, links, own };
        match all.get_mut(index as usize) {
            Some(old) => *old = wired,
            None => all.push(wired),
        }
        self.locked(all, index, now, |locked| locked.hold_slots(Quota::take_slots))
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
        self.wired.own == self.wired.links.len()
    }

    /// The quotas that can hold a request.
    #[inline]
    pub(crate) fn limiting_quotas(self) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        let limiting = |link: &&Link| !link.implicit || !link.quota().is_unlimited();
        self.wired.links.iter().filter(limiting).map(|link| (link.index, link.quota()))
    }

    /// Its quotas with their records.
    #[inline]
    pub(crate) fn quotas(self) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        self.wired.links.iter().map(|link| (link.index, link.quota()))
    }

    /// The quotas that someone configured, or that were learned.
    pub(crate) fn visible_quotas(self) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        let seen = |link: &&Link| !link.implicit || link.quota().limit_source() != LimitSource::Configured;
        self.wired.links.iter().filter(seen).map(|link| (link.index, link.quota()))
    }

    /// Passes the leases in flight to every concurrency quota.
    fn hold_slots(self, change: impl Fn(&Quota, u64)) {
        for (_, q) in self.quotas().filter(|(_, q)| q.dimension() == Dimension::Concurrency) {
            change(q.quota, self.provider.in_flight.get());
        }
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
    pub(crate) fn learn_usage(&self, request: &Grant, used: &Reported, quantile: f64) {
        if let Some(estimator) = self.estimator(request.estimator)
            && estimator.learn(used, quantile)
        {
            self.state.knowing.count();
        }
    }

    /// The oldest lease in flight.
    fn oldest_lease(&self) -> Option<Grant> {
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
        let members = self.all.iter().filter(|w| w.provider.in_flight.get() > 0 && w.is_pooled(quota));
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
        let id = p.leases.add(&self.state.leases, self.index, self.state.seed, &grant)?;
        for (_, q) in self.quotas() {
            q.reserve(self.now, grant.at, usage.of(q.dimension()));
        }
        let peak_units = usage.of(Dimension::from_record(p.peak_dimension.get()));
        p.peak.set(p.peak.get() - p.peak_per_unit.get() * peak_units as f64);
        self.state.next_expiry.lower(grant.expires);
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
            self.correct(grant, &Usage::default());
            self.provider.counters.cancellations.add(1);
        })
    }

    /// Ends a lease: its slots are free.
    #[inline(always)]
    fn end(&self, id: LeaseId, then: impl FnOnce(&Grant)) -> Option<()> {
        let p = self.provider;
        let grant = p.leases.remove(&self.state.leases, id)?;
        p.in_flight.sub(1);
        p.probes.sub(u64::from(grant.probe));
        for (_, q) in self.charged(grant.epoch) {
            q.release(grant.usage.of(q.dimension()));
            if q.dimension() == Dimension::Concurrency {
                self.forget_peak_of(Dimension::Concurrency);
            }
        }
        then(&grant);
        Some(())
    }

    /// Makes `actual` of what a lease reserved. What was used beyond the estimate counts from now on, like a lease's.
    #[inline]
    pub(crate) fn correct(&self, grant: &Grant, actual: &Usage) {
        for (_, q) in self.charged(grant.epoch).filter(|(_, q)| q.dimension() != Dimension::Concurrency) {
            let (reserved, used) = (grant.usage.of(q.dimension()), actual.of(q.dimension()));
            if used < reserved {
                q.refund(self.now, grant.at, reserved - used);
                self.forget_peak_of(q.dimension());
            }
            q.charge(self.now, self.now.mono.saturating_add(grant.at - grant.granted), used.saturating_sub(reserved));
        }
    }

    /// The quotas that a lease of this definition was charged on. It holds a slot on every concurrency quota: one that
    /// came later counted it when it came.
    fn charged(self, epoch: u32) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        let links = self.wired.links.iter().map(|link| (link, link.quota()));
        let charged = move |(link, q): &(&Link, QuotaRef<'_>)| {
            link.since <= u64::from(epoch) || q.dimension() == Dimension::Concurrency
        };
        links.filter(charged).map(|(link, q)| (link.index, q))
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
            q.charge(self.now, request.at, request.usage.of(q.dimension()));
        }
        self.provider.counters.observations.add(1);
    }

    /// A request that went well shows how many leases may be out.
    pub(crate) fn prove(&self, request: &Grant) {
        let proven = self.provider.proven.get().max(request.level);
        self.provider.proven.set(proven);
    }

    /// Takes in what the response headers tell of quotas. Whether they explain why the request was `refused`, if it was:
    /// one is spent.
    pub(crate) fn observe_headers(&self, headers: &headers::Report, request: &Grant, refused: bool) -> bool {
        let mut explained = false;
        // Headers may raise anything.
        self.provider.peak_until.set(0);
        for told in headers.quotas().iter().filter(|_| !headers.cached) {
            let window_ns = told.window_ms.map(ms_to_ns);
            // Leases in flight are counted here and nowhere better, so that concurrency is not corrected.
            let meant = || {
                self.quotas().map(|(_, q)| q).filter(|q| {
                    q.dimension() == told.dimension && q.strategy() != Strategy::Concurrency && q.is_meant(window_ns)
                })
            };
            // Which of several it speaks of, only an equal limit can tell.
            let only = || meant().next().filter(|_| meant().count() == 1);
            let equal = meant().find(|q| Some(q.configured_limit()) == told.limit);
            let Some(q) = equal.or_else(only) else { continue };
            let (limit, remaining, reset_ns) = (told.limit, told.remaining, told.reset_in_ms.map(ms_to_ns));
            let own = request.usage.of(q.dimension());
            // What remains of an unknown limit tells nothing of how much was used.
            let speaks_of_it = limit.map_or(q.limit() < u64::MAX, |limit| q.is_plausible(limit, window_ns));
            if !speaks_of_it {
                // Another's limit, or one of which this quota is a share: but what is spent is spent.
                q.close(self.now, remaining.unwrap_or(u64::MAX), reset_ns);
                explained |= remaining == Some(0);
                continue;
            }
            q.correct(self.now, &Told { limit, remaining, reset_ns, sent_at: request.at, own });
            // The headers may be from a moment later, in which a little has come back.
            if refused && remaining.is_some_and(|left| left <= own.max(q.limit() / NEARLY_SPENT)) {
                q.learn_margin(self.now, request.granted);
                explained = true;
            }
        }
        explained
    }

    /// Learns from a refusal that nothing on the books explains: a limit is lower than it was taken to be.
    pub(crate) fn learn(&self, request: &Grant, retry_after_ns: Option<u64>) {
        let p = self.provider;
        // More leases out than were ever seen to go well, and nothing said of time: a limit on concurrency.
        let crowded = request.level > p.proven.get() && p.counters.completions.get() >= ENOUGH_COMPLETIONS;
        if crowded && retry_after_ns.is_none() {
            for (_, q) in self.quotas().filter(|(_, q)| q.dimension() == Dimension::Concurrency) {
                q.learn(self.now, request.granted, request.level - 1);
            }
            return;
        }
        // The quota that was nearest to its limit, of those whose window is long enough for the wait.
        let long_enough = |q: &QuotaRef<'_>| retry_after_ns.is_none_or(|wait| wait <= q.window_ns() + ROUNDING_NS);
        // Of what nobody limits the window is only guessed: a wait that is much shorter is not for it.
        let guessed_well = |q: &QuotaRef<'_>| {
            q.limit() < u64::MAX || retry_after_ns.is_none_or(|wait| wait >= q.window_ns() / MUCH_SHORTER)
        };
        let suspects = self
            .quotas()
            .map(|(_, q)| q)
            .filter(|q| q.dimension() != Dimension::Concurrency && long_enough(q) && guessed_well(q));
        let judged = suspects.map(|q| {
            let own = request.usage.of(q.dimension());
            let admitted = q.admitted_before(self.now, request.at, own, retry_after_ns);
            (admitted as f64 / q.limit().max(1) as f64, admitted, q)
        });
        if let Some((_, admitted, q)) = judged.max_by(|a, b| a.0.total_cmp(&b.0)) {
            q.learn(self.now, request.granted, admitted);
        }
    }

    /// A wait that the provider tells, as far as it is believed.
    pub(crate) fn believed(&self, wait_ns: u64, settings: &Settings) -> u64 {
        if wait_ns > settings.max_retry_after_ns {
            self.provider.counters.capped_waits.add(1);
        }
        wait_ns.min(settings.max_retry_after_ns)
    }

    /// Takes in what a request says of the provider.
    pub(crate) fn observe_outcome(&self, seen: Observed, settings: &Settings) {
        let p = self.provider;
        if p.health.observe(seen, p.cooldown_secs.get(), settings) {
            p.counters.cooldowns_triggered.add(1);
        }
        if seen.outcome.is_rate_limited() {
            p.counters.rate_limited_responses.add(1);
        }
    }

    /// Frees the slots of leases that were never settled; their usage stays counted.
    fn expire_leases(&self) {
        while let Some((id, grant)) = self.provider.leases.oldest(&self.state.leases) {
            if grant.expires > self.now.mono || self.end(id, |_| ()).is_none() {
                return;
            }
            self.provider.counters.expired_leases.add(1);
        }
    }
}
