//! The JSON form of a configuration. Unknown fields are errors, so that a misspelt one is not a silent default.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::config::{
    Candidate, CapabilityConfig, Change, Dimension, NS_PER_MS, NS_PER_SEC, ProviderConfig, QuotaConfig, Settings,
    Strategy, Weights, ms_to_ns,
};
use crate::error::Error;

/// A struct written as a JSON object: serde would also take an array of its fields' values in order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        from.deserialize_map(Fields(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    engine: Option<Object<EngineSection>>,
    #[serde(default)]
    providers: Vec<Object<ProviderEntry>>,
    #[serde(default)]
    capabilities: Vec<Object<CapabilityEntry>>,
    #[serde(default)]
    replace: bool,
}

/// What is absent stays as it is by default, not as it is in force: a document says all it means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineSection {
    weights: Option<Object<WeightsEntry>>,
    min_health_for_selection: Option<f64>,
    ewma_alpha: Option<f64>,
    recovery_half_life_secs: Option<f64>,
    cooldown_trigger_count: Option<u32>,
    cooldown_threshold: Option<f64>,
    cooldown_multiplier: Option<f64>,
    max_cooldown_secs: Option<f64>,
    lease_ttl_ms: Option<u64>,
    skew_ms: Option<u64>,
    estimate_quantile: Option<f64>,
    max_retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsEntry {
    #[serde(default)]
    quota: f64,
    #[serde(default)]
    health: f64,
    #[serde(default)]
    priority: f64,
    #[serde(default)]
    latency: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    name: Box<str>,
    #[serde(default)]
    priority: u32,
    weight: Option<f64>,
    cooldown_seconds: Option<f64>,
    #[serde(default)]
    quotas: Vec<Object<QuotaEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaEntry {
    #[serde(deserialize_with = "dimension")]
    dimension: Dimension,
    limit: u64,
    window_ms: Option<u64>,
    #[serde(default, deserialize_with = "window")]
    window: Option<u64>,
    #[serde(default, deserialize_with = "strategy")]
    strategy: Option<Strategy>,
    burst: Option<u64>,
    phase_ms: Option<i64>,
    pool: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapabilityEntry {
    name: Box<str>,
    #[serde(default)]
    providers: Vec<Object<CandidateEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CandidateEntry {
    provider: Box<str>,
    priority: Option<u32>,
}

/// The value that a table gives to a name in the document.
fn named<'de, D: Deserializer<'de>, T: Copy>(from: D, what: &str, table: &[(T, &'static str)]) -> Result<T, D::Error> {
    let name = String::deserialize(from)?;
    table.iter().find(|(_, n)| *n == name).map(|(value, _)| *value).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(_, n)| *n).collect();
        D::Error::custom(format!("unknown {what} '{name}', expected one of {}", known.join(", ")))
    })
}

fn dimension<'de, D: Deserializer<'de>>(from: D) -> Result<Dimension, D::Error> {
    named(from, "dimension", &Dimension::ALL)
}

fn strategy<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Strategy>, D::Error> {
    named(from, "strategy", &Strategy::ALL).map(Some)
}

fn window<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    const WINDOWS: [(u64, &str); 4] = [
        (NS_PER_SEC, "second"),
        (60 * NS_PER_SEC, "minute"),
        (3600 * NS_PER_SEC, "hour"),
        (86_400 * NS_PER_SEC, "day"),
    ];
    named(from, "window", &WINDOWS).map(Some)
}

impl Change {
    /// Reads a JSON document. What it means is checked when the change is applied.
    ///
    /// # Errors
    /// [`Error::InvalidJson`] with line and column, [`Error::InvalidConfig`].
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let Object(document): Object<Document> =
            serde_json::from_slice(text).map_err(|e| Error::InvalidJson(readable(&e.to_string())))?;
        Ok(Self {
            settings: document.engine.map(|engine| engine.0.settings()),
            providers: document.providers.into_iter().map(|provider| provider.0.config()).collect::<Result<_, _>>()?,
            capabilities: document.capabilities.into_iter().map(|capability| capability.0.config()).collect(),
            replace: document.replace,
        })
    }
}

/// A message that may quote the document: fit to print, and cut in the middle, as the end tells the place.
fn readable(message: &str) -> String {
    const MOST: usize = 360;
    const END: usize = 120;
    let fit: Vec<char> =
        message.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    match fit.len() {
        0..=MOST => fit.into_iter().collect(),
        len => fit[..MOST - END].iter().chain(['…'].iter()).chain(&fit[len - END..]).collect(),
    }
}

impl EngineSection {
    fn settings(self) -> Settings {
        let default = Settings::default();
        let ms = |value: Option<u64>, default: u64| value.map_or(default, ms_to_ns);
        Settings {
            weights: self.weights.map_or(default.weights, |Object(w)| Weights {
                quota: w.quota,
                health: w.health,
                priority: w.priority,
                latency: w.latency,
            }),
            min_health_for_selection: self.min_health_for_selection.unwrap_or(default.min_health_for_selection),
            ewma_alpha: self.ewma_alpha.unwrap_or(default.ewma_alpha),
            recovery_half_life_secs: self.recovery_half_life_secs.unwrap_or(default.recovery_half_life_secs),
            cooldown_trigger_count: self.cooldown_trigger_count.unwrap_or(default.cooldown_trigger_count),
            cooldown_threshold: self.cooldown_threshold.unwrap_or(default.cooldown_threshold),
            cooldown_multiplier: self.cooldown_multiplier.unwrap_or(default.cooldown_multiplier),
            max_cooldown_secs: self.max_cooldown_secs.unwrap_or(default.max_cooldown_secs),
            lease_ttl_ns: ms(self.lease_ttl_ms, default.lease_ttl_ns),
            skew_ns: ms(self.skew_ms, default.skew_ns),
            estimate_quantile: self.estimate_quantile.unwrap_or(default.estimate_quantile),
            max_retry_after_ns: ms(self.max_retry_after_ms, default.max_retry_after_ns),
        }
    }
}

impl ProviderEntry {
    fn config(self) -> Result<ProviderConfig, Error> {
        let name = self.name;
        let quotas = self
            .quotas
            .into_iter()
            .map(|Object(q)| q.config().map_err(|why| Error::InvalidConfig(format!("provider '{name}': {why}"))));
        Ok(ProviderConfig {
            priority: self.priority,
            weight: self.weight.unwrap_or(1.0),
            cooldown_seconds: self.cooldown_seconds.unwrap_or(ProviderConfig::DEFAULT_COOLDOWN_SECONDS),
            quotas: quotas.collect::<Result<_, _>>()?,
            name,
        })
    }
}

impl QuotaEntry {
    fn config(self) -> Result<QuotaConfig, String> {
        let window_ns = match (self.window, self.window_ms) {
            (Some(_), Some(_)) => return Err("a quota has both window and window_ms".into()),
            (Some(ns), None) => ns,
            (None, Some(ms)) => ms_to_ns(ms),
            (None, None) if self.dimension == Dimension::Concurrency => 0,
            (None, None) => return Err(format!("the {} quota has no window_ms", self.dimension.name())),
        };
        Ok(QuotaConfig {
            dimension: self.dimension,
            limit: self.limit,
            window_ns,
            strategy: self.strategy,
            burst: self.burst,
            phase_ns: self.phase_ms.map(|ms| ms.saturating_mul(NS_PER_MS as i64)),
            pool: self.pool,
        })
    }
}

impl CapabilityEntry {
    fn config(self) -> CapabilityConfig {
        let providers = self
            .providers
            .into_iter()
            .map(|Object(c)| Candidate { provider: c.provider, priority: c.priority })
            .collect();
        CapabilityConfig { name: self.name, providers }
    }
}
