//! What the user configures, and the rules it must obey.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest name, in bytes.
pub const MAX_NAME_LEN: usize = 128;
/// Most quotas of one provider.
pub const MAX_QUOTAS: usize = 32;
/// Highest priority.
pub const MAX_PRIORITY: u32 = 1_000_000;
/// Shortest window.
pub const MIN_WINDOW_NS: u64 = 1_000_000;
/// Longest window, cooldown and half-life: 366 days.
pub const MAX_SPAN_NS: u64 = 366 * 86_400 * NS_PER_SEC;
/// Longest skew.
pub const MAX_SKEW_NS: u64 = 3600 * NS_PER_SEC;
/// Nanoseconds of a second.
pub const NS_PER_SEC: u64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub(crate) const NS_PER_MS: u64 = 1_000_000;
const MAX_SPAN_SECS: f64 = 366.0 * 86_400.0;

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dimension {
    /// Requests; each attempt is one.
    Requests,
    /// Tokens, input and output together.
    Tokens,
    /// Input (prompt) tokens.
    InputTokens,
    /// Output (completion) tokens.
    OutputTokens,
    /// Bytes.
    Bytes,
    /// Millionths of a US dollar.
    CostMicroUsd,
    /// Requests in flight, held by leases.
    Concurrency,
}

impl Dimension {
    /// All dimensions with their names in JSON and metrics.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Requests, "requests"),
        (Self::Tokens, "tokens"),
        (Self::InputTokens, "input_tokens"),
        (Self::OutputTokens, "output_tokens"),
        (Self::Bytes, "bytes"),
        (Self::CostMicroUsd, "cost_micro_usd"),
        (Self::Concurrency, "concurrency"),
    ];

    /// What a record holds as `dimension as u32`.
    #[inline]
    pub(crate) fn from_record(code: u32) -> Self {
        match code {
            0 => Self::Requests,
            1 => Self::Tokens,
            2 => Self::InputTokens,
            3 => Self::OutputTokens,
            4 => Self::Bytes,
            5 => Self::CostMicroUsd,
            _ => Self::Concurrency,
        }
    }

    /// The name in JSON and metrics.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(d, _)| *d == self).map_or("", |(_, name)| name)
    }
}

/// How a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Strategy {
    /// No window, wherever it starts, holds more than the limit.
    Rolling,
    /// A bucket that refills continuously.
    TokenBucket,
    /// Calendar windows.
    FixedWindow,
    /// Leases in flight.
    Concurrency,
}

impl Strategy {
    /// All strategies with their names in JSON.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Rolling, "rolling"),
        (Self::TokenBucket, "token_bucket"),
        (Self::FixedWindow, "fixed_window"),
        (Self::Concurrency, "concurrency"),
    ];

    /// What a record holds as `strategy as u32`.
    #[inline]
    pub(crate) fn from_record(code: u32) -> Self {
        match code {
            0 => Self::Rolling,
            1 => Self::TokenBucket,
            2 => Self::FixedWindow,
            _ => Self::Concurrency,
        }
    }
}

/// One quota of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaConfig {
    /// What is counted.
    pub dimension: Dimension,
    /// Units per window, or leases in flight.
    pub limit: u64,
    /// Window in nanoseconds; 0 for concurrency.
    pub window_ns: u64,
    /// How it counts; `None` is rolling, and concurrency for that dimension.
    pub strategy: Option<Strategy>,
    /// Size of the token bucket; `None` is the limit.
    pub burst: Option<u64>,
    /// Where calendar windows start, relative to the Unix epoch.
    pub phase_ns: Option<i64>,
    /// Name of the counter that is shared with other providers.
    pub pool: Option<Box<str>>,
}

impl QuotaConfig {
    /// How it counts.
    pub fn strategy(&self) -> Strategy {
        self.strategy.unwrap_or(match self.dimension {
            Dimension::Concurrency => Strategy::Concurrency,
            _ => Strategy::Rolling,
        })
    }

    /// What must agree for two quotas of one provider, or of one pool, to be the same counter.
    pub(crate) fn identity(&self) -> QuotaIdentity {
        (self.dimension, self.window_ns, self.pool.clone())
    }

    /// Whether it is the same counter as another of the same provider or of any pool.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        self.dimension == other.dimension && self.window_ns == other.window_ns && self.pool == other.pool
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.validate().is_ok()
    }

    fn validate(&self) -> Result<(), String> {
        let strategy = self.strategy();
        if (self.dimension == Dimension::Concurrency) != (strategy == Strategy::Concurrency) {
            return Err("the dimension concurrency and the strategy concurrency belong together".into());
        }
        if strategy == Strategy::Concurrency {
            if self.window_ns != 0 {
                return Err("concurrency has no window".into());
            }
        } else if !(MIN_WINDOW_NS..=MAX_SPAN_NS).contains(&self.window_ns) {
            return Err(format!("a window of {} ns is not between 1 ms and 366 days", self.window_ns));
        }
        if strategy != Strategy::TokenBucket && self.burst.is_some() {
            return Err("only a token_bucket has a burst".into());
        }
        if self.burst == Some(0) {
            return Err("a burst must be at least 1".into());
        }
        match self.phase_ns {
            Some(_) if strategy != Strategy::FixedWindow => Err("only a fixed_window has a phase".into()),
            Some(phase) if phase.unsigned_abs() >= self.window_ns => {
                Err("a phase must be shorter than its window".into())
            }
            _ => Ok(()),
        }
    }
}

/// Dimension, window and pool of a quota.
pub(crate) type QuotaIdentity = (Dimension, u64, Option<Box<str>>);

/// A provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderConfig {
    /// Its name.
    pub name: Box<str>,
    /// Default priority in capabilities.
    pub priority: u32,
    /// Multiplies the priority component.
    pub weight: f64,
    /// The first cooldown, in seconds.
    pub cooldown_seconds: f64,
    /// Its quotas; all hold at once.
    pub quotas: Vec<QuotaConfig>,
}

impl ProviderConfig {
    /// The first cooldown if none is given.
    pub const DEFAULT_COOLDOWN_SECONDS: f64 = 30.0;

    fn validate(&self) -> Result<(), Error> {
        validate_name(&self.name)?;
        let check = || {
            if self.priority > MAX_PRIORITY {
                return Err(format!("priority {} is above {MAX_PRIORITY}", self.priority));
            }
            if !(self.weight.is_finite() && self.weight > 0.0) {
                return Err(format!("weight {} is not a finite number above 0", self.weight));
            }
            if !(self.cooldown_seconds > 0.0 && self.cooldown_seconds <= MAX_SPAN_SECS) {
                return Err(format!("cooldown_seconds {} is not above 0 and at most 366 days", self.cooldown_seconds));
            }
            if self.quotas.len() > MAX_QUOTAS {
                return Err(format!("{} quotas, the most is {MAX_QUOTAS}", self.quotas.len()));
            }
            let mut seen = HashSet::new();
            for quota in &self.quotas {
                quota.validate()?;
                if !seen.insert(quota.identity()) {
                    return Err(format!("two quotas on {} with the same window and pool", quota.dimension.name()));
                }
            }
            Ok(())
        };
        check().map_err(|why| Error::InvalidConfig(format!("provider '{}': {why}", self.name)))?;
        self.quotas.iter().filter_map(|q| q.pool.as_deref()).try_for_each(validate_name)
    }
}

/// One provider of a capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub provider: Box<str>,
    /// Its priority here; `None` is its default.
    pub priority: Option<u32>,
}

/// A logical operation and the providers that serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityConfig {
    /// Its name.
    pub name: Box<str>,
    /// Its providers; the order breaks ties.
    pub providers: Vec<Candidate>,
}

impl CapabilityConfig {
    fn validate(&self, is_registered: impl Fn(&str) -> bool) -> Result<(), Error> {
        validate_name(&self.name)?;
        let mut seen = HashSet::new();
        for candidate in &self.providers {
            if !is_registered(&candidate.provider) {
                return Err(Error::UnregisteredProvider(candidate.provider.to_string()));
            }
            let why = if !seen.insert(&candidate.provider) {
                "is listed twice"
            } else if candidate.priority.is_some_and(|p| p > MAX_PRIORITY) {
                "has a priority above 1000000"
            } else {
                continue;
            };
            return Err(Error::InvalidConfig(format!(
                "capability '{}': provider '{}' {why}",
                self.name, candidate.provider
            )));
        }
        Ok(())
    }
}

/// Weights of the score's components; only their proportion matters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Of the quota forecast.
    pub quota: f64,
    /// Of health.
    pub health: f64,
    /// Of priority.
    pub priority: f64,
    /// Of latency.
    pub latency: f64,
}

impl Weights {
    /// No weight at all: not a valid configuration, but what "not given" looks like from C.
    pub const ZERO: Self = Self { quota: 0.0, health: 0.0, priority: 0.0, latency: 0.0 };

    /// The same proportions with a sum of 1.
    pub fn normalised(&self) -> Self {
        // Divided by the largest first, so that the sum of huge weights stays finite.
        let top = self.all().into_iter().fold(0.0, f64::max);
        let [quota, health, priority, latency] = self.all().map(|w| w / top);
        let sum = quota + health + priority + latency;
        Self { quota: quota / sum, health: health / sum, priority: priority / sum, latency: latency / sum }
    }

    fn all(&self) -> [f64; 4] {
        [self.quota, self.health, self.priority, self.latency]
    }
}

/// Settings of an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Weights of the score.
    pub weights: Weights,
    /// Providers with less health are not chosen.
    pub min_health_for_selection: f64,
    /// Share of a new outcome in the health average.
    pub ewma_alpha: f64,
    /// Seconds in which missing health halves.
    pub recovery_half_life_secs: f64,
    /// Consecutive failures that start a cooldown.
    pub cooldown_trigger_count: u32,
    /// A failure that leaves less health than this starts a cooldown.
    pub cooldown_threshold: f64,
    /// Each cooldown in a row is this times longer.
    pub cooldown_multiplier: f64,
    /// The longest computed cooldown, in seconds.
    pub max_cooldown_secs: f64,
    /// When an unsettled lease expires, in nanoseconds.
    pub lease_ttl_ns: u64,
    /// The longest time a request spends on the wire, in nanoseconds.
    pub skew_ns: u64,
    /// Which quantile of past usage stands for an estimate that is not given; 0 is the mean.
    pub estimate_quantile: f64,
    /// The longest wait that is believed when a provider tells one, in nanoseconds.
    pub max_retry_after_ns: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weights: Weights { quota: 0.40, health: 0.35, priority: 0.20, latency: 0.05 },
            min_health_for_selection: 0.2,
            ewma_alpha: 0.25,
            recovery_half_life_secs: 30.0,
            cooldown_trigger_count: 3,
            cooldown_threshold: 0.2,
            cooldown_multiplier: 2.0,
            max_cooldown_secs: 600.0,
            lease_ttl_ns: 600 * NS_PER_SEC,
            skew_ns: 50_000_000,
            estimate_quantile: 0.0,
            max_retry_after_ns: 86_400 * NS_PER_SEC,
        }
    }
}

impl Settings {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let fail = |why: &str| Err(Error::InvalidConfig(format!("engine: {why}")));
        let weights = self.weights.all();
        if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) || !weights.iter().any(|w| *w > 0.0) {
            return fail("weights must be finite, not negative, and not all 0");
        }
        let share = |x: f64| (0.0..=1.0).contains(&x);
        if !share(self.min_health_for_selection) {
            return fail("min_health_for_selection must be between 0 and 1");
        }
        if !share(self.cooldown_threshold) {
            return fail("cooldown_threshold must be between 0 and 1");
        }
        if !(share(self.ewma_alpha) && self.ewma_alpha > 0.0) {
            return fail("ewma_alpha must be above 0 and at most 1");
        }
        let span = |x: f64| x > 0.0 && x <= MAX_SPAN_SECS;
        if !span(self.recovery_half_life_secs) {
            return fail("recovery_half_life_secs must be above 0 and at most 366 days");
        }
        if !span(self.max_cooldown_secs) {
            return fail("max_cooldown_secs must be above 0 and at most 366 days");
        }
        if !(self.cooldown_multiplier.is_finite() && self.cooldown_multiplier >= 1.0) {
            return fail("cooldown_multiplier must be a finite number of at least 1");
        }
        if self.cooldown_trigger_count == 0 {
            return fail("cooldown_trigger_count must be at least 1");
        }
        if !(1..=MAX_SPAN_NS).contains(&self.lease_ttl_ns) {
            return fail("the lease time to live must be above 0 and at most 366 days");
        }
        if !(0.0..1.0).contains(&self.estimate_quantile) {
            return fail("estimate_quantile must be at least 0 and below 1");
        }
        if !(1..=MAX_SPAN_NS).contains(&self.max_retry_after_ns) {
            return fail("the longest believed wait must be above 0 and at most 366 days");
        }
        if self.skew_ns > MAX_SKEW_NS {
            return fail("skew must be at most one hour");
        }
        Ok(())
    }
}

/// A change of the configuration, applied whole or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// New settings; `None` leaves them.
    pub settings: Option<Settings>,
    /// Providers to register or redefine.
    pub providers: Vec<ProviderConfig>,
    /// Capabilities to register or redefine.
    pub capabilities: Vec<CapabilityConfig>,
    /// Whether providers and capabilities that are not named go.
    pub replace: bool,
}

impl Change {
    /// Checks everything that can be wrong with the change. `is_registered` tells of the configuration in force.
    pub(crate) fn validate(&self, is_registered: impl Fn(&str) -> bool) -> Result<(), Error> {
        if let Some(settings) = &self.settings {
            settings.validate()?;
        }
        let mut named = HashSet::new();
        for provider in &self.providers {
            provider.validate()?;
            if !named.insert(&*provider.name) {
                return Err(Error::InvalidConfig(format!("provider '{}' is defined twice", provider.name)));
            }
        }
        self.validate_pools()?;
        let mut capabilities = HashSet::new();
        for capability in &self.capabilities {
            capability.validate(|name| named.contains(name) || (!self.replace && is_registered(name)))?;
            if !capabilities.insert(&*capability.name) {
                return Err(Error::InvalidConfig(format!("capability '{}' is defined twice", capability.name)));
            }
        }
        Ok(())
    }

    /// All that one document says of a pool must agree.
    fn validate_pools(&self) -> Result<(), Error> {
        let mut pools: HashMap<QuotaIdentity, &QuotaConfig> = HashMap::new();
        for quota in self.providers.iter().flat_map(|p| &p.quotas) {
            let Some(pool) = &quota.pool else { continue };
            let known = pools.entry(quota.identity()).or_insert(quota);
            let rule = |q: &QuotaConfig| (q.limit, q.strategy(), q.burst, q.phase_ns);
            if rule(known) != rule(quota) {
                return Err(Error::InvalidConfig(format!(
                    "pool '{pool}': its {} quota is defined in two ways",
                    quota.dimension.name()
                )));
            }
        }
        Ok(())
    }
}

pub(crate) fn validate_name(name: &str) -> Result<(), Error> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_LEN {
        const { assert!(MAX_NAME_LEN == 128) }
        "it is longer than 128 bytes"
    } else if name.chars().any(char::is_control) {
        "it contains a control character"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName(why))
}

/// Why a name is not found: it may be one that nothing can have.
pub(crate) fn not_found(name: &[u8], unknown: Error) -> Error {
    match std::str::from_utf8(name) {
        Ok(name) => validate_name(name).err().unwrap_or(unknown),
        Err(_) => Error::InvalidName("not valid UTF-8"),
    }
}

/// Milliseconds as nanoseconds; the longest time if they are more.
pub(crate) fn ms_to_ns(ms: u64) -> u64 {
    ms.saturating_mul(NS_PER_MS)
}

/// Seconds as whole nanoseconds; never negative, never beyond `u64`.
pub(crate) fn secs_to_ns(secs: f64) -> u64 {
    (secs * NS_PER_SEC as f64).round() as u64
}
