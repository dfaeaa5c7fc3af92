//! A provider's record, and the locked view of it that every operation works on.

use parking_lot::Mutex;

use crate::clock::Now;
use crate::config::{Dimension, Settings, Strategy, ms_to_ns};
use crate::estimate::Estimator;
use crate::feedback::headers;
use crate::health::{Health, Observed};
use crate::lease::{Grant, Lease, LeaseId, LeaseList};
use crate::quota::{LimitSource, Mark, Quota, QuotaRef, Told};
use crate::table::{Cell, FloatCell, Table};
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
pub(crate) struct Provider {
    lock: Mutex<()>,
    /// The latest time seen: a clock that goes back counts as standing still.
    latest: Cell,
    cooldown_secs: FloatCell,
    /// Counts definitions: a lease was charged on the quotas that were there when it was granted.
    epoch: Cell,
    /// Its links: where they start, how many there are, and how many fit.
    links_at: Cell,
    links_len: Cell,
    links_room: Cell,
    leases: LeaseList,
    in_flight: Cell,
    /// Leases out that were granted while the provider was half-open or ramping.
    probes: Cell,
    pub(crate) health: Health,
    /// The most leases that were out when one was granted that then went well.
    proven: Cell,
    counters: CounterCells,
}

/// So many leases must have completed before the number in flight says anything about a refusal.
const ENOUGH_COMPLETIONS: u64 = 8;
/// A quota of which headers tell that no more than this part is left explains a refusal. Larger blames the headers' quota
/// for another's refusal, smaller learns a limit where others were just faster. Measured: no difference between 5 and 100.
const NEARLY_SPENT: u64 = 20;
/// A wait in whole seconds may be so much longer than its window.
const ROUNDING_NS: u64 = 1_000_000_000;

/// From a provider to one of its quotas: the quota's index, whether it is a pool, and since which definition of the
/// provider its leases are charged there; and whether nobody configured it, so that it only serves to learn. One word.
#[derive(Debug, Default)]
pub(crate) struct Link(Cell);

const POOLED: u64 = 1 << 31;
const IMPLICIT: u64 = 1 << 30;

impl Link {
    fn quota(&self) -> usize {
        (self.0.get() & (IMPLICIT - 1)) as usize
    }

    fn is_implicit(&self) -> bool {
        self.0.get() & IMPLICIT != 0
    }

    fn is_pooled(&self) -> bool {
        self.0.get() & POOLED != 0
    }

    fn since(&self) -> u64 {
        self.0.get() >> 32
    }
}

/// The tables of an engine.
pub(crate) struct State {
    pub(crate) providers: Table<Provider>,
    pub(crate) quotas: Table<Quota>,
    pub(crate) links: Table<Link>,
    pub(crate) marks: Table<Mark>,
    pub(crate) leases: Table<Lease>,
    pub(crate) estimators: Table<Estimator>,
    /// Where the generations of lease slots start.
    pub(crate) seed: u64,
    /// No lease expires before this time.
    pub(crate) next_expiry: Cell,
}

/// A provider with its quotas, all locked.
#[derive(Clone, Copy)]
pub(crate) struct Locked<'a> {
    state: &'a State,
    pub(crate) index: u32,
    pub(crate) provider: &'a Provider,
    links: &'a [Link],
    pub(crate) now: Now,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        let state = Self {
            next_expiry: Cell::default(),
            providers: Table::new(),
            quotas: Table::new(),
            links: Table::new(),
            marks: Table::new(),
            leases: Table::new(),
            estimators: Table::new(),
            seed,
        };
        state.next_expiry.set(u64::MAX);
        state
    }

    /// Runs `work` with a provider and its pools locked. Locks are taken in one order everywhere:
    /// the provider, then its pools by index; no call holds two providers. `None` if there is no such provider.
    pub(crate) fn locked<R>(&self, index: u32, now: Now, work: impl FnOnce(Locked<'_>) -> R) -> Option<R> {
        let provider = self.providers.get(index as usize)?;
        let _guard = provider.lock.lock();
        let links = self.links.run(provider.links_at.get() as usize, provider.links_len.get() as usize);
        let private = links.iter().take_while(|link| !link.is_pooled()).count();
        let pools = links.get(private..).unwrap_or_default();
        let mono = provider.latest.get().max(now.mono);
        provider.latest.set(mono);
        Some(
            self.with_pools(pools, Now { mono, ..now }, |now| {
                work(Locked { state: self, index, provider, links, now })
            }),
        )
    }

    /// Locks the pools one after the other. Each passes on the latest time that it or the ones before have seen.
    fn with_pools<R>(&self, pools: &[Link], now: Now, work: impl FnOnce(Now) -> R) -> R {
        let Some((first, rest)) = pools.split_first() else { return work(now) };
        let Some(pool) = self.quotas.get(first.quota()) else { return work(now) };
        let _guard = pool.lock.lock();
        let mono = pool.latest.get().max(now.mono);
        pool.latest.set(mono);
        self.with_pools(rest, Now { mono, ..now }, work)
    }

    /// Ends the leases of all providers that have expired. Every provider is locked, so that no lease is missed: one that is
    /// granted later lowers `next_expiry` after it was raised here.
    pub(crate) fn expire_leases(&self, now: Now) {
        self.next_expiry.set(u64::MAX);
        for index in 0..self.providers.len() {
            let next = self.locked(index as u32, now, |locked| {
                locked.expire_leases();
                locked.oldest_lease().map_or(u64::MAX, |lease| lease.expires)
            });
            self.next_expiry.lower(next.unwrap_or(u64::MAX));
        }
    }

    /// When the next slot of a pool is expected to come back, by a look at its providers without their locks: each may
    /// have moved on meanwhile.
    pub(crate) fn pool_slot_at(&self, quota: u32) -> u64 {
        let providers = (0..self.providers.len()).filter_map(|i| self.providers.get(i));
        let members = providers.filter(|p| {
            let links = self.links.run(p.links_at.get() as usize, p.links_len.get() as usize);
            p.in_flight.get() > 0 && links.iter().any(|link| link.quota() == quota as usize)
        });
        members.filter_map(|p| p.slot_at(&self.leases)).min().unwrap_or(0)
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

impl Provider {
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
    /// they were charged there. `false`, with nothing changed, if there is no room left.
    #[must_use]
    pub(crate) fn define(&self, index: u32, cooldown_secs: f64, wanted: &[Wanted], now: Now) -> bool {
        let Some(provider) = self.providers.get(index as usize) else { return false };
        let grows = wanted.len() > provider.links_room.get() as usize;
        let run = if grows { self.links.append(wanted.len()) } else { Some(provider.links_at.get() as usize) };
        let Some(run) = run else { return false };

        // Slots that the old definition holds go back, and the new one takes its own: nobody can see the gap, as a
        // definition changes only while no other call runs.
        self.locked(index, now, |locked| locked.hold_slots(Quota::give_slots));
        let epoch = provider.epoch.get() + 1;
        let old: Vec<(usize, u64)> = self
            .links
            .run(provider.links_at.get() as usize, provider.links_len.get() as usize)
            .iter()
            .map(|link| (link.quota(), link.since()))
            .collect();
        for (quota, since) in old.iter().filter(|(quota, _)| !wanted.iter().any(|w| w.quota as usize == *quota)) {
            // Its leases will not release what they reserved on a quota that goes.
            if let Some(q) = self.quotas.get(*quota) {
                let q = QuotaRef::new(q, &self.marks);
                provider.leases.active(&self.leases).filter(|lease| lease.epoch >= *since).for_each(|lease| {
                    q.forget_pending(lease.usage.of(q.dimension()));
                });
            }
        }
        let mut wanted = wanted.to_vec();
        wanted.sort_by_key(|w| (w.pooled, w.quota));
        for (link, w) in self.links.run(run, wanted.len()).iter().zip(&wanted) {
            let known = old.iter().find(|(quota, _)| *quota == w.quota as usize);
            let since = known.map_or(epoch, |(_, since)| *since);
            let flags = if w.pooled { POOLED } else { 0 } | if w.implicit { IMPLICIT } else { 0 };
            link.0.set(since << 32 | flags | u64::from(w.quota));
        }
        if grows {
            provider.links_room.set(wanted.len() as u64);
        }
        provider.links_at.set(run as u64);
        provider.links_len.set(wanted.len() as u64);
        provider.epoch.set(epoch);
        provider.cooldown_secs.set(cooldown_secs);
        self.locked(index, now, |locked| locked.hold_slots(Quota::take_slots));
        true
    }
}

impl<'a> Locked<'a> {
    fn quota(&self, link: &Link) -> Option<QuotaRef<'a>> {
        Some(QuotaRef::new(self.state.quotas.get(link.quota())?, &self.state.marks))
    }

    /// Its quotas with their records.
    pub(crate) fn quotas(self) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        self.links.iter().filter_map(move |link| Some((link.quota() as u32, self.quota(link)?)))
    }

    /// The quotas that someone configured, or that were learned.
    pub(crate) fn visible_quotas(self) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        let visible = move |link: &&Link| {
            !link.is_implicit() || self.quota(link).is_some_and(|q| q.limit_source() != LimitSource::Configured)
        };
        self.links.iter().filter(visible).filter_map(move |link| Some((link.quota() as u32, self.quota(link)?)))
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

    /// What a request of which `told` is told will use here, by the first of the estimators that knows anything. What is
    /// learned is capped by the limits, so that a small one
    /// never blocks for good.
    pub(crate) fn expected_usage(&self, told: &Reported, headroom: f64, estimators: [u32; 2], quantile: f64) -> Usage {
        let known = estimators.into_iter().filter_map(|i| self.state.estimators.get(i as usize));
        let Some(estimator) = known.into_iter().find(|e| e.knows()) else { return told.or(&Usage::NONE) };
        let mut learned = estimator.expected(quantile);
        for (_, q) in self.quotas() {
            learned = learned.capped(q.dimension(), q.ceiling(headroom));
        }
        told.or(&learned)
    }

    /// Learns what requests use from one that went well.
    pub(crate) fn learn_usage(&self, request: &Grant, used: &Reported, quantile: f64) {
        if let Some(estimator) = self.state.estimators.get(request.estimator as usize) {
            estimator.learn(used, quantile);
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
        let pooled = self.links.iter().any(|link| link.is_pooled() && link.quota() == quota as usize);
        if pooled { self.state.pool_slot_at(quota) } else { self.slot_at() }
    }

    /// Reserves `usage` on every quota; `None`, with nothing changed, if there is no lease slot left.
    pub(crate) fn grant(&self, usage: Usage, estimator: u32, settings: &Settings) -> Option<LeaseId> {
        let p = self.provider;
        let granted = self.now.mono;
        let grant = Grant {
            granted,
            expires: granted.saturating_add(settings.lease_ttl_ns),
            at: granted.saturating_add(settings.skew_ns),
            epoch: p.epoch.get(),
            probe: p.health.allowed().is_some(),
            level: p.in_flight.get() + 1,
            estimator,
            usage,
        };
        let id = p.leases.add(&self.state.leases, self.index, self.state.seed, &grant)?;
        for (_, q) in self.quotas() {
            q.reserve(self.now, grant.at, usage.of(q.dimension()));
        }
        self.state.next_expiry.lower(grant.expires);
        p.in_flight.add(1);
        p.probes.add(u64::from(grant.probe));
        p.counters.acquires.add(1);
        Some(id)
    }

    /// Ends a lease that completed, corrects what it reserved to what was used, and tells what it stood for. `actual`
    /// is computed from the reserved usage. `None` if it is stale.
    pub(crate) fn complete(&self, id: LeaseId, actual: impl FnOnce(&Usage) -> Usage) -> Option<Grant> {
        let grant = self.end(id)?;
        let actual = actual(&grant.usage);
        self.correct(&grant, &actual);
        self.provider.counters.completions.add(1);
        Some(grant)
    }

    /// Ends a lease whose request was not sent, and gives back all it reserved. `None` if it is stale.
    pub(crate) fn cancel(&self, id: LeaseId) -> Option<Grant> {
        let grant = self.end(id)?;
        self.correct(&grant, &Usage::default());
        self.provider.counters.cancellations.add(1);
        Some(grant)
    }

    /// Ends a lease: its slots are free.
    fn end(&self, id: LeaseId) -> Option<Grant> {
        let p = self.provider;
        let grant = p.leases.remove(&self.state.leases, id)?;
        p.in_flight.sub(1);
        p.probes.sub(u64::from(grant.probe));
        for (_, q) in self.charged(grant.epoch) {
            q.release(self.now, grant.usage.of(q.dimension()));
        }
        Some(grant)
    }

    /// Makes `actual` of what a lease reserved. What was used beyond the estimate counts from now on, like a lease's.
    fn correct(&self, grant: &Grant, actual: &Usage) {
        for (_, q) in self.charged(grant.epoch).filter(|(_, q)| q.dimension() != Dimension::Concurrency) {
            let (reserved, used) = (grant.usage.of(q.dimension()), actual.of(q.dimension()));
            q.refund(self.now, grant.at, reserved.saturating_sub(used));
            q.charge(self.now, self.now.mono.saturating_add(grant.at - grant.granted), used.saturating_sub(reserved));
        }
    }

    /// The quotas that a lease of this definition was charged on. It holds a slot on every concurrency quota: one that
    /// came later counted it when it came.
    fn charged(self, epoch: u64) -> impl Iterator<Item = (u32, QuotaRef<'a>)> {
        let charged = move |(link, q): (&Link, QuotaRef<'a>)| {
            (link.since() <= epoch || q.dimension() == Dimension::Concurrency).then_some((link.quota() as u32, q))
        };
        self.links.iter().filter_map(move |link| charged((link, self.quota(link)?)))
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
            if !limit.is_none_or(|limit| q.is_plausible(limit, window_ns)) {
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
        let suspects =
            self.quotas().map(|(_, q)| q).filter(|q| q.dimension() != Dimension::Concurrency && long_enough(q));
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
            if grant.expires > self.now.mono || self.end(id).is_none() {
                return;
            }
            self.provider.counters.expired_leases.add(1);
        }
    }
}
