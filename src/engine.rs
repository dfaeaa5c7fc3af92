//! The engine: choosing, reserving, settling, observing.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLockReadGuard;

use crate::choice::{Deciding, lowest_latency};
use crate::clock::{Clock, Now};
use crate::config::{Change, Dimension, NS_PER_MS, Settings, Strategy, ms_to_ns};
pub use crate::decision::{Candidates, Estimate, HeldBy, Rank, Ranked, Report, Routed};
use crate::error::Error;
use crate::feedback::Outcome;
use crate::gate::Gate;
use crate::health::{Circuit, Observed};
use crate::judge::Question;
use crate::lease::{Grant, LeaseId};
use crate::provider::{Counters, Locked, State};
pub use crate::quota::LimitSource;
use crate::registry::{Names, Registry, Row};
use crate::table::Cell;
use crate::usage::Usage;

/// An engine: see the crate's documentation. Every method may be called on any thread at any time.
pub struct Engine {
    clock: Arc<dyn Clock>,
    /// What the clock showed at first: it may count from anywhere.
    start_ns: u64,
    registry: Gate<Registry>,
    /// Whether a quota needs the calendar, so that the wall clock is read.
    needs_calendar: AtomicBool,
    state: State,
    names: Names,
    none_available: Cell,
}

/// A provider as it stands.
#[derive(Clone, Debug)]
pub struct ProviderState<'a> {
    /// Health, in [0, 1].
    pub health: f64,
    /// Whether it may be used.
    pub circuit: Circuit,
    /// Nanoseconds until its cooldown ends.
    pub cooldown_remaining_ns: u64,
    /// Average latency; 0 is unknown.
    pub latency_ns: u64,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Its counters.
    pub counters: Counters,
    /// Its quotas.
    pub quotas: Vec<QuotaState<'a>>,
}

/// A quota as it stands.
#[derive(Clone, Debug)]
pub struct QuotaState<'a> {
    /// What it counts.
    pub dimension: Dimension,
    /// How it counts.
    pub strategy: Strategy,
    /// Units per window, as configured; `u64::MAX` if nobody did.
    pub limit: u64,
    /// The limit in force.
    pub effective_limit: u64,
    /// Where the limit in force comes from.
    pub limit_source: LimitSource,
    /// Units that are left to others.
    pub margin: u64,
    /// Its window; 0 for concurrency.
    pub window_ns: u64,
    /// Units counted.
    pub used: u64,
    /// Units that fit.
    pub remaining: u64,
    /// Predicted share that will be left.
    pub predicted_share: f64,
    /// Units burnt per second.
    pub burn_per_sec: f64,
    /// Seconds until it is spent at that burn.
    pub seconds_to_exhaustion: f64,
    /// Its pool.
    pub pool: Option<&'a CStr>,
}

/// Counters of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Of all providers together, removed ones included.
    pub counters: Counters,
    /// Decisions that found no provider available.
    pub none_available: u64,
}

impl Engine {
    /// # Errors
    /// [`Error::InvalidConfig`] if the settings are out of range.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        // Makes lease numbers differ between the engines of a process, so that mixing them up is noticed.
        static ENGINES: AtomicU64 = AtomicU64::new(1);
        settings.validate()?;
        // Spreads small numbers over all bits (the multiplier is 2^64 / golden ratio, as in Fibonacci hashing).
        let seed = ENGINES.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 26;
        Ok(Self {
            start_ns: clock.monotonic_ns(),
            clock,
            registry: Gate::new(Registry::new(settings)),
            needs_calendar: AtomicBool::new(false),
            state: State::new(seed),
            names: Names::new(),
            none_available: Cell::default(),
        })
    }

    /// Applies a change of configuration, whole or not at all. Usage, health and leases stay.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn apply(&self, change: Change) -> Result<(), Error> {
        let now = self.now(true);
        self.registry.write(|registry| {
            let applied = registry.apply(change, &self.state, &self.names, now);
            self.needs_calendar.store(registry.needs_calendar, Ordering::Relaxed);
            applied
        })
    }

    /// Removes a provider, also from every capability. Its leases can still be settled.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    pub fn remove_provider(&self, name: &str) -> Result<(), Error> {
        self.registry.write(|registry| registry.remove_provider(name, &self.state))
    }

    /// Removes a capability.
    ///
    /// # Errors
    /// [`Error::UnknownCapability`].
    pub fn remove_capability(&self, name: &str) -> Result<(), Error> {
        self.registry.write(|registry| registry.remove_capability(name))
    }

    /// The record of a registered provider.
    pub fn provider_id(&self, name: impl AsRef<[u8]>) -> Option<u32> {
        self.registry.read().provider(name.as_ref()).ok()
    }

    /// The name of a provider's record; empty if there is none. Valid as long as the engine.
    pub fn provider_name(&self, provider: u32) -> &CStr {
        self.names.provider(provider)
    }

    /// Chooses a provider and changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownCapability`], [`Error::InvalidArgument`].
    pub fn select(
        &self,
        capability: impl AsRef<[u8]>,
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
    ) -> Result<Routed, Error> {
        let mut routed = Routed::default();
        self.select_into(capability.as_ref(), estimate, candidates, &mut routed)?;
        Ok(routed)
    }

    /// The same, written in place.
    #[inline]
    pub(crate) fn select_into(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
        out: &mut Routed,
    ) -> Result<(), Error> {
        self.route(capability, estimate, candidates, out, |locked, _, _, _| locked.provider.count_select()).map(drop)
    }

    /// Chooses a provider and reserves what the request will use.
    ///
    /// # Errors
    /// [`Error::UnknownCapability`], [`Error::InvalidArgument`], [`Error::Capacity`].
    pub fn acquire(
        &self,
        capability: impl AsRef<[u8]>,
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
    ) -> Result<Routed, Error> {
        let mut routed = Routed::default();
        self.acquire_into(capability.as_ref(), estimate, candidates, &mut routed)?;
        Ok(routed)
    }

    /// The same, written in place.
    #[inline]
    pub(crate) fn acquire_into(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
        out: &mut Routed,
    ) -> Result<(), Error> {
        let mut lease = None;
        let taken = self.route(capability, estimate, candidates, out, |locked, row, usage, settings| {
            lease = locked.grant(usage, row.estimator, settings);
        })?;
        if taken && lease.is_none() {
            return Err(Error::Capacity("leases in flight"));
        }
        out.lease = lease;
        Ok(())
    }

    /// Decides, and takes the chosen provider, if there is one: `take` runs while it is locked and can take the request.
    #[inline]
    fn route(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
        out: &mut Routed,
        mut take: impl FnMut(&Locked<'_>, &Row, &Usage, &Settings),
    ) -> Result<bool, Error> {
        let (registry, now) = self.enter();
        let capability = registry.capability(capability)?;
        if !(0.0..1.0).contains(&estimate.headroom) {
            return Err(Error::InvalidArgument("headroom must be at least 0 and below 1"));
        }
        let settings = &registry.settings;
        let deciding = Deciding {
            state: &self.state,
            all: &registry.wired,
            capability,
            question: Question::new(estimate, settings, lowest_latency(capability), capability.fallback(&self.state)),
            now,
        };
        let take = |locked: &Locked<'_>, row: &Row, usage: &Usage| take(locked, row, usage, settings);
        out.total = capability.rows.len() as u32;
        let taken = match candidates {
            Some(candidates) => deciding.explain(candidates, &mut out.best, take),
            None => deciding.decide(&mut out.best, take),
        };
        if !taken {
            self.none_available.count();
        }
        Ok(taken)
    }

    /// Settles a lease whose request was sent.
    ///
    /// # Errors
    /// [`Error::StaleLease`].
    #[inline]
    pub fn complete(&self, lease: LeaseId, report: &Report<'_>) -> Result<(), Error> {
        self.settle(lease, |locked, settings| {
            locked.complete(lease, |grant| {
                let assumed = if report.outcome.is_rejection() { &Usage::NONE } else { &grant.usage };
                locked.correct(grant, &report.usage.or(assumed));
                let latency = report.latency_ns.unwrap_or(locked.now.mono.saturating_sub(grant.granted));
                locked.learn_from(report, grant, Some(latency), settings);
            })
        })
    }

    /// Gives back a lease whose request was not sent.
    ///
    /// # Errors
    /// [`Error::StaleLease`].
    pub fn cancel(&self, lease: LeaseId) -> Result<(), Error> {
        self.settle(lease, |locked, _| locked.cancel(lease))
    }

    /// Reports a request that was sent without a lease.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    #[inline]
    pub fn observe(&self, provider: impl AsRef<[u8]>, report: &Report<'_>) -> Result<(), Error> {
        let (registry, now) = self.enter();
        let index = registry.provider(provider.as_ref())?;
        let observed = self.state.locked(&registry.wired, index, now, |locked| {
            let request = locked.unleased(report.usage.or(&Usage::NONE), report.latency_ns);
            locked.observe_usage(&request);
            locked.learn_from(report, &request, report.latency_ns, &registry.settings);
        });
        observed.ok_or(Error::UnknownProvider)
    }

    /// A provider as it stands now.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    pub fn provider_state(&self, provider: impl AsRef<[u8]>) -> Result<ProviderState<'_>, Error> {
        let (registry, now) = self.enter();
        let index = registry.provider(provider.as_ref())?;
        let state = self.state.locked(&registry.wired, index, now, |locked| self.describe(&locked, &registry.settings));
        state.ok_or(Error::UnknownProvider)
    }

    /// How many units of a dimension may be reserved now; `u64::MAX` without a quota on it.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    pub fn remaining(&self, provider: impl AsRef<[u8]>, dimension: Dimension) -> Result<u64, Error> {
        let (registry, now) = self.enter();
        let index = registry.provider(provider.as_ref())?;
        let remaining = self.state.locked(&registry.wired, index, now, |locked| {
            let quotas = locked.visible_quotas().map(|(_, q)| q).filter(|q| q.dimension() == dimension);
            quotas.map(|q| q.remaining(locked.now)).min().unwrap_or(u64::MAX)
        });
        remaining.ok_or(Error::UnknownProvider)
    }

    /// The counters.
    pub fn metrics(&self) -> Metrics {
        let (registry, _) = self.enter();
        self.counted(&registry)
    }

    /// The counters, for who holds the registry already: taking it twice could wait for a writer in between for good.
    fn counted(&self, _: &Registry) -> Metrics {
        Metrics { counters: self.state.totals(), none_available: self.none_available.get() }
    }

    /// All metrics in the Prometheus text format.
    pub fn prometheus(&self) -> String {
        let (registry, now) = self.enter();
        let providers = registry.registered().into_iter().filter_map(|index| {
            let state =
                self.state.locked(&registry.wired, index, now, |locked| self.describe(&locked, &registry.settings))?;
            Some((self.provider_name(index).to_str().unwrap_or_default(), state))
        });
        crate::metrics::prometheus(&self.counted(&registry), &providers.collect::<Vec<_>>())
    }

    /// Milliseconds since the Unix epoch, by the engine's clock.
    pub fn unix_ms(&self) -> u64 {
        self.clock.unix_ns() / NS_PER_MS
    }

    /// The configuration, held still, and the time, read before any lock: a clock may be the caller's code.
    #[inline]
    fn enter(&self) -> (RwLockReadGuard<'_, Arc<Registry>>, Now) {
        let now = self.now(self.needs_calendar.load(Ordering::Relaxed));
        let registry = self.registry.read();
        // Of all providers: their leases may hold slots of a pool that others wait for.
        if self.state.next_expiry.get() <= now.mono {
            self.state.expire_leases(&registry.wired, now);
        }
        (registry, now)
    }

    #[inline]
    fn now(&self, with_calendar: bool) -> Now {
        let unix = if with_calendar { self.clock.unix_ns() } else { 0 };
        let since_start = self.clock.monotonic_ns().saturating_sub(self.start_ns);
        let mono = since_start.saturating_add(Now::FIRST_MONO).min(Now::LAST_MONO);
        Now { mono, unix }
    }

    #[inline]
    fn settle(&self, lease: LeaseId, work: impl FnOnce(&Locked<'_>, &Settings) -> Option<()>) -> Result<(), Error> {
        let (registry, now) = self.enter();
        let slot = self.state.leases.get(lease.index()).ok_or(Error::StaleLease)?;
        let settled =
            self.state.locked(&registry.wired, slot.provider(), now, |locked| work(&locked, &registry.settings));
        settled.flatten().ok_or(Error::StaleLease)
    }

    fn describe(&self, locked: &Locked<'_>, settings: &Settings) -> ProviderState<'_> {
        let (now, health) = (locked.now, &locked.provider.health);
        let quotas = locked.visible_quotas().map(|(record, q)| {
            let forecast = q.forecast(now);
            QuotaState {
                dimension: q.dimension(),
                strategy: q.strategy(),
                limit: q.configured_limit(),
                effective_limit: q.limit(),
                limit_source: q.limit_source(),
                margin: q.margin(),
                window_ns: q.window_ns(),
                used: q.used(now),
                remaining: q.remaining(now),
                predicted_share: forecast.share(),
                burn_per_sec: forecast.burn_per_sec(),
                seconds_to_exhaustion: forecast.seconds_to_exhaustion(),
                pool: self.names.pool(record),
            }
        });
        ProviderState {
            health: health.at(now.mono, settings),
            circuit: health.circuit(now.mono),
            cooldown_remaining_ns: health.cooldown_left(now.mono),
            latency_ns: health.latency_ns() as u64,
            consecutive_failures: u32::try_from(health.consecutive_failures()).unwrap_or(u32::MAX),
            counters: locked.provider.counters(),
            quotas: quotas.collect(),
        }
    }
}

impl Locked<'_> {
    /// Takes in all that a response says, in the order in which it matters: headers correct the books, the outcome goes to
    /// health, and a refusal that neither explains teaches a limit.
    fn learn_from(&self, report: &Report<'_>, request: &Grant, latency_ns: Option<u64>, settings: &Settings) {
        let refused = report.outcome == Outcome::RateLimited;
        let explained = report.headers.is_some_and(|headers| self.observe_headers(headers, request, refused));
        let told = report.headers.and_then(|headers| headers.retry_after_ms).map(ms_to_ns);
        let wait = report.retry_after_ns.or(told).filter(|_| report.outcome.is_failure());
        let retry_after_ns = wait.map(|wait| self.believed(wait, settings));
        let seen =
            Observed { outcome: report.outcome, sent: request.granted, now: self.now.mono, latency_ns, retry_after_ns };
        self.observe_outcome(seen, settings);
        match report.outcome {
            Outcome::RateLimited if !explained => self.learn(request, retry_after_ns),
            Outcome::Success => {
                self.prove(request);
                if report.headers.is_none_or(|headers| headers.quotas().is_empty()) {
                    self.quotas().for_each(|(_, q)| q.untold());
                }
                self.learn_usage(request, &report.usage, settings.estimate_quantile);
            }
            _ => {}
        }
    }
}
