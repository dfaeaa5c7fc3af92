//! What a copy of the file tells. It is also the JSON document: README.md explains the fields.

use std::path::Path;
use std::sync::Arc;

use grate::Engine;
use grate::clock::Clock;
use grate::config::Strategy;
use grate::engine::{LimitSource, ProviderState, QuotaState};
use grate::error::Error;
use grate::health::Circuit;
use grate::provider::Counters;
use serde::{Serialize, Serializer};

const NS_PER_MS: u64 = 1_000_000;

/// A state file as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub path: String,
    pub unix_ms: u64,
    /// By the clock that does not jump.
    #[serde(skip)]
    pub mono_ns: u64,
    pub active_unix_ms: Option<u64>,
    pub file_bytes: u64,
    pub file_used_bytes: u64,
    /// `None`: those of another container.
    pub processes: Option<Vec<u32>>,
    pub counters: Counts,
    pub none_available: u64,
    pub leases_in_flight: u64,
    pub per_second: Option<Rates>,
    pub none_available_per_second: Option<f64>,
    pub providers: Vec<Provider>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Provider {
    pub name: String,
    #[serde(serialize_with = "circuit")]
    pub circuit: Circuit,
    pub cooldown_seconds: f64,
    pub health: f64,
    pub latency_seconds: Option<f64>,
    pub consecutive_failures: u32,
    pub leases_in_flight: u64,
    pub counters: Counts,
    pub per_second: Option<Rates>,
    pub quotas: Vec<Quota>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Quota {
    pub dimension: &'static str,
    pub strategy: &'static str,
    /// `None` for concurrency.
    pub window_seconds: Option<f64>,
    pub pool: Option<String>,
    pub used: u64,
    pub remaining: u64,
    /// How many units it can count: of a bucket its size, not what flows in per window.
    #[serde(skip)]
    pub capacity: u64,
    pub effective_limit: u64,
    /// `None`: nobody configured one.
    pub limit: Option<u64>,
    #[serde(serialize_with = "limit_source")]
    pub limit_source: LimitSource,
    pub margin: u64,
    pub predicted_share: f64,
    pub burn_per_second: f64,
    /// Infinity, in JSON null: never.
    pub seconds_to_exhaustion: f64,
}

/// What was counted since the file was made.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    pub selects: u64,
    pub acquires: u64,
    pub completions: u64,
    pub cancellations: u64,
    pub expired_leases: u64,
    pub observations: u64,
    pub cooldowns_triggered: u64,
    pub rate_limited_responses: u64,
    pub capped_waits: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    pub selects: f64,
    pub acquires: f64,
    pub completions: f64,
    pub observations: f64,
    pub rate_limited_responses: f64,
}

impl Snapshot {
    /// Looks at a file.
    ///
    /// # Errors
    /// Why it cannot be read, for the user.
    pub fn take(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let engine = Engine::copy_of(path, clock.clone()).map_err(|why| match why {
            Error::StateFile(why) => why,
            other => other.to_string(),
        })?;
        let file = engine.file_usage().ok_or("no state file")?;
        let metrics = engine.metrics();
        let names = engine.providers().into_iter();
        let providers = names.filter_map(|name| Some(provider(name, &engine.provider_state(name.to_bytes()).ok()?)));
        Ok(Self {
            path: printable(&path.display().to_string()),
            unix_ms: clock.unix_ns() / NS_PER_MS,
            mono_ns: clock.monotonic_ns(),
            active_unix_ms: Some(file.active_unix_ns / NS_PER_MS).filter(|ms| *ms > 0),
            file_bytes: file.size,
            file_used_bytes: file.used,
            processes: (!file.elsewhere).then(|| engine.processes()),
            counters: Counts::of(&metrics.counters),
            none_available: metrics.none_available,
            leases_in_flight: metrics.counters.leases_in_flight,
            per_second: None,
            none_available_per_second: None,
            providers: providers.collect(),
        })
    }

    /// The same with what happened per second since an earlier one.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        let seconds = self.mono_ns.saturating_sub(earlier.mono_ns) as f64 / 1e9;
        if seconds > 0.0 {
            self.per_second = Some(self.counters.since(&earlier.counters, seconds));
            self.none_available_per_second = Some(rate(self.none_available, earlier.none_available, seconds));
            for provider in &mut self.providers {
                let before = earlier.providers.iter().find(|before| before.name == provider.name);
                provider.per_second = before.map(|before| provider.counters.since(&before.counters, seconds));
            }
        }
        self
    }
}

/// A copy that was taken in the middle of a call may count one that the next copy does not.
fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

impl Counts {
    fn of(counters: &Counters) -> Self {
        Self {
            selects: counters.selects,
            acquires: counters.acquires,
            completions: counters.completions,
            cancellations: counters.cancellations,
            expired_leases: counters.expired_leases,
            observations: counters.observations,
            cooldowns_triggered: counters.cooldowns_triggered,
            rate_limited_responses: counters.rate_limited_responses,
            capped_waits: counters.capped_waits,
        }
    }

    fn since(&self, before: &Self, seconds: f64) -> Rates {
        let rate = |of: fn(&Self) -> u64| rate(of(self), of(before), seconds);
        Rates {
            selects: rate(|c| c.selects),
            acquires: rate(|c| c.acquires),
            completions: rate(|c| c.completions),
            observations: rate(|c| c.observations),
            rate_limited_responses: rate(|c| c.rate_limited_responses),
        }
    }
}

fn provider(name: &std::ffi::CStr, state: &ProviderState<'_>) -> Provider {
    Provider {
        name: printable(&name.to_string_lossy()),
        circuit: state.circuit,
        cooldown_seconds: state.cooldown_remaining_ns as f64 / 1e9,
        health: state.health,
        latency_seconds: Some(state.latency_ns as f64 / 1e9).filter(|seconds| *seconds > 0.0),
        consecutive_failures: state.consecutive_failures,
        leases_in_flight: state.counters.leases_in_flight,
        counters: Counts::of(&state.counters),
        per_second: None,
        quotas: state.quotas.iter().map(quota).collect(),
    }
}

fn quota(state: &QuotaState<'_>) -> Quota {
    Quota {
        dimension: state.dimension.name(),
        strategy: Strategy::ALL.iter().find(|(s, _)| *s == state.strategy).map_or("", |(_, name)| name),
        window_seconds: Some(state.window_ns as f64 / 1e9).filter(|seconds| *seconds > 0.0),
        pool: state.pool.map(|pool| printable(&pool.to_string_lossy())),
        used: state.used,
        remaining: state.remaining,
        capacity: state.capacity,
        effective_limit: state.effective_limit,
        limit: Some(state.limit).filter(|limit| *limit != u64::MAX),
        limit_source: state.limit_source,
        margin: state.margin,
        predicted_share: state.predicted_share,
        burn_per_second: state.burn_per_sec,
        seconds_to_exhaustion: state.seconds_to_exhaustion,
    }
}

/// Nothing in a file commands a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The name of a circuit.
pub fn circuit_name(circuit: Circuit) -> &'static str {
    match circuit {
        Circuit::Closed => "closed",
        Circuit::Open => "open",
        Circuit::HalfOpen => "half-open",
        Circuit::Ramping => "ramping",
    }
}

/// The name of where a limit comes from.
pub fn source_name(source: LimitSource) -> &'static str {
    match source {
        LimitSource::Configured => "configured",
        LimitSource::Learned => "learned",
        LimitSource::Told => "told",
    }
}

fn circuit<S: Serializer>(circuit: &Circuit, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(circuit_name(*circuit))
}

fn limit_source<S: Serializer>(source: &LimitSource, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(source_name(*source))
}
