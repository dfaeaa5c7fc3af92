//! Looking at an engine: providers and quotas as they stand, counters, and who shares them.

use std::ffi::CStr;

use crate::config::{Dimension, Settings, Strategy};
use crate::engine::Engine;
use crate::error::Error;
use crate::health::Circuit;
use crate::provider::{Counters, Locked};
use crate::quota::LimitSource;
use crate::registry::Registry;
use crate::shared::FileUsage;
#[cfg(unix)]
use crate::shared::Sharing;

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
    /// The most that can be used at once: the limit in force, or the size of a bucket.
    pub capacity: u64,
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
    /// A provider as it stands now.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    pub fn provider_state(&self, provider: impl AsRef<[u8]>) -> Result<ProviderState<'_>, Error> {
        self.with_provider(provider.as_ref(), |locked, settings| self.describe(locked, settings))
    }

    /// The health of a provider, in [0, 1], and whether it may be used.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    pub fn provider_health(&self, provider: impl AsRef<[u8]>) -> Result<(f64, Circuit), Error> {
        self.with_provider(provider.as_ref(), |locked, settings| {
            let (now, health) = (locked.now.mono, &locked.provider.health);
            (health.at(now, settings), health.circuit(now))
        })
    }

    /// How many units of a dimension may be reserved now; `u64::MAX` without a quota on it.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    pub fn remaining(&self, provider: impl AsRef<[u8]>, dimension: Dimension) -> Result<u64, Error> {
        self.with_provider(provider.as_ref(), |locked, _| {
            let quotas = locked.visible_quotas().map(|(_, q)| q).filter(|q| q.dimension() == dimension);
            quotas.map(|q| q.remaining(locked.now)).min().unwrap_or(u64::MAX)
        })
    }

    /// The ids of the processes that share the state, if any do.
    pub fn processes(&self) -> Vec<u32> {
        #[cfg(unix)]
        if let Some(file) = self.state.memory.sharing() {
            return file.users().pids();
        }
        Vec::new()
    }

    /// How the state file is used, if the state lives in one.
    pub fn file_usage(&self) -> Option<FileUsage> {
        #[cfg(unix)]
        return self.state.memory.sharing().map(Sharing::usage);
        #[cfg(not(unix))]
        None
    }

    /// The names of the registered providers.
    pub fn providers(&self) -> Vec<&CStr> {
        self.enter().0.registered().map(|index| self.provider_name(index)).collect()
    }

    /// The counters.
    pub fn metrics(&self) -> Metrics {
        let (registry, _) = self.enter();
        self.counted(&registry)
    }

    /// The counters, for who holds the registry already: taking it twice could wait for a writer in between for good.
    fn counted(&self, _: &Registry) -> Metrics {
        Metrics { counters: self.state.totals(), none_available: self.state.head().none_available.0.get() }
    }

    /// All metrics in the Prometheus text format.
    pub fn prometheus(&self) -> String {
        let (registry, now) = self.enter();
        let providers = registry.registered().filter_map(|index| {
            let state =
                self.state.locked(&registry.wired, index, now, |locked| self.describe(&locked, &registry.settings))?;
            Some((self.provider_name(index).to_str().unwrap_or_default(), state))
        });
        crate::metrics::prometheus(&self.counted(&registry), &providers.collect::<Vec<_>>())
    }

    fn describe(&self, locked: &Locked<'_>, settings: &Settings) -> ProviderState<'_> {
        let (now, health) = (locked.now, &locked.provider.health);
        let quotas = locked.visible_quotas().map(|(record, q)| {
            let remaining = q.remaining(now);
            let forecast = q.forecast(now, remaining);
            QuotaState {
                dimension: q.dimension(),
                strategy: q.strategy(),
                limit: q.configured_limit(),
                effective_limit: q.limit(),
                capacity: q.capacity(),
                limit_source: q.limit_source(),
                margin: q.quota.margin(),
                window_ns: q.window_ns(),
                used: q.used(now),
                remaining,
                predicted_share: forecast.share(),
                burn_per_sec: forecast.burn_per_sec(),
                seconds_to_exhaustion: forecast.seconds_to_exhaustion(),
                pool: self.state.pool_name(record),
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
