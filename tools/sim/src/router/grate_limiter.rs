//! The crate grate-limiter, used as its documentation says: select, send, observe.

use std::error::Error;
use std::sync::Arc;

use grate_limiter::{
    CapabilityConfig, CapabilityProvider, EngineConfig, GrateLimiter, MockClock, Observation, Outcome, ProviderConfig,
    QuotaConfig, StatusClass, Timestamp, Usage, Window,
};

use super::{Answer, Ask, Choice, Documented, DocumentedQuota, Reply, Router};
use crate::scenario::{Dimension, HOUR, MINUTE, MS, SECOND};

const CAPABILITY: &str = "api";

/// An engine on a mock clock.
pub struct Limiter {
    engine: GrateLimiter,
    clock: Arc<MockClock>,
    names: Vec<String>,
}

impl Limiter {
    /// An engine that knows what the providers document.
    ///
    /// # Errors
    /// If a window is none of those that it has.
    pub fn new(documented: &[Documented]) -> Result<Self, Box<dyn Error>> {
        let clock = Arc::new(MockClock::new());
        let engine = GrateLimiter::new(EngineConfig::default().with_clock(clock.clone()));
        let mut providers = Vec::new();
        for provider in documented {
            let priority = u16::try_from(provider.priority)?;
            let quotas: Vec<QuotaConfig> =
                provider.quotas.iter().filter_map(|quota| config(quota).transpose()).collect::<Result<_, _>>()?;
            engine.upsert_provider(ProviderConfig {
                name: provider.name.clone(),
                quotas,
                priority,
                weight: 1.0,
                cooldown_seconds: 30,
            });
            providers.push(CapabilityProvider { provider: provider.name.clone(), priority });
        }
        engine.upsert_capability(CapabilityConfig { name: CAPABILITY.to_owned(), providers });
        Ok(Self { engine, clock, names: documented.iter().map(|provider| provider.name.clone()).collect() })
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

/// A quota as it has them; `None` for concurrency, whose slots it never frees, so that it would send nothing more.
fn config(quota: &DocumentedQuota) -> Result<Option<QuotaConfig>, Box<dyn Error>> {
    let dimension = match quota.dimension {
        Dimension::Requests => grate_limiter::Dimension::Requests,
        Dimension::Tokens => grate_limiter::Dimension::Tokens,
        Dimension::Concurrency => return Ok(None),
    };
    let window = match quota.window {
        SECOND => Window::Second,
        MINUTE => Window::Minute,
        HOUR => Window::Hour,
        other => return Err(format!("grate-limiter has no window of {other} ns").into()),
    };
    // It has no burst of its own: bursts are as large as the limit.
    Ok(Some(QuotaConfig { dimension, limit: quota.limit, window: Some(window) }))
}

impl Router for Limiter {
    fn choose(&mut self, now: u64, ask: &Ask) -> Choice {
        self.clock.set(Timestamp::ZERO.add_nanos(now));
        let Ok(decision) = self.engine.select(CAPABILITY) else { return Choice::Wait(None) };
        // It cannot exclude a provider, but it ranks the others.
        let others = decision.alternatives.iter().map(|other| other.provider.as_str());
        let ranked = std::iter::once(decision.provider.as_str()).chain(others);
        let wanted = ranked.filter_map(|name| self.index(name)).find(|&i| ask.avoid != Some(i));
        wanted.map_or(Choice::Wait(None), |provider| Choice::Send { provider, ticket: 0 })
    }

    fn settle(&mut self, now: u64, reply: &Reply<'_>) {
        self.clock.set(Timestamp::ZERO.add_nanos(now));
        let status = match reply.answer {
            Answer::Served => StatusClass::Success,
            Answer::RateLimited => StatusClass::RateLimited,
            Answer::Error => StatusClass::ServerError,
            Answer::TimedOut => StatusClass::Timeout,
        };
        let observed = self.engine.observe(Observation {
            provider: self.names[reply.provider].clone(),
            capability: Some(CAPABILITY.to_owned()),
            usage: Usage { requests: 1, tokens: Some(reply.tokens), ..Usage::default() },
            outcome: Outcome { status, latency_ms: reply.latency / MS },
        });
        debug_assert!(observed.is_ok(), "all providers are registered");
    }
}
