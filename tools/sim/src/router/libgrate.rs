//! libgrate: acquire, send, complete. Defaults everywhere.

use std::error::Error;
use std::sync::Arc;

use grate::Engine;
use grate::clock::MockClock;
use grate::config::{Candidate, CapabilityConfig, Change, ProviderConfig, QuotaConfig, Settings, Strategy};
use grate::engine::{Estimate, Report};
use grate::feedback::{Outcome, headers};
use grate::lease::LeaseId;
use grate::usage::Reported;

use super::{Answer, Ask, Choice, Documented, DocumentedQuota, Reply, Router};
use crate::scenario::Dimension;

const CAPABILITY: &str = "api";
/// 1 January 2026; it matters to nothing.
const START_UNIX_MS: u64 = 1_767_225_600_000;

/// An engine on a mock clock.
pub struct Libgrate {
    engine: Engine,
    clock: Arc<MockClock>,
    ids: Vec<u32>,
}

impl Libgrate {
    /// An engine that knows what the providers document.
    ///
    /// # Errors
    /// If the engine refuses the configuration.
    pub fn new(documented: &[Documented]) -> Result<Self, Box<dyn Error>> {
        let clock = Arc::new(MockClock::new(START_UNIX_MS));
        let engine = Engine::new(Settings::default(), clock.clone())?;
        let providers = documented.iter().map(|provider| ProviderConfig {
            name: provider.name.as_str().into(),
            priority: provider.priority,
            weight: 1.0,
            cooldown_seconds: ProviderConfig::DEFAULT_COOLDOWN_SECONDS,
            quotas: provider.quotas.iter().map(config).collect(),
        });
        let candidates =
            documented.iter().map(|provider| Candidate { provider: provider.name.as_str().into(), priority: None });
        engine.apply(Change {
            providers: providers.collect(),
            capabilities: vec![CapabilityConfig { name: CAPABILITY.into(), providers: candidates.collect() }],
            ..Change::default()
        })?;
        let ids = documented.iter().filter_map(|provider| engine.provider_id(&provider.name)).collect();
        Ok(Self { engine, clock, ids })
    }
}

fn config(quota: &DocumentedQuota) -> QuotaConfig {
    QuotaConfig {
        dimension: match quota.dimension {
            Dimension::Requests => grate::config::Dimension::Requests,
            Dimension::Tokens => grate::config::Dimension::Tokens,
            Dimension::Concurrency => grate::config::Dimension::Concurrency,
        },
        limit: quota.limit,
        window_ns: quota.window,
        strategy: quota.burst.map(|_| Strategy::TokenBucket),
        burst: quota.burst,
        phase_ns: None,
        pool: None,
    }
}

impl Router for Libgrate {
    fn choose(&mut self, now: u64, ask: &Ask) -> Choice {
        self.clock.set_ns(now);
        let avoided = ask.avoid.and_then(|avoid| self.ids.get(avoid));
        let usage = Reported::default().with(grate::config::Dimension::Tokens, Some(ask.tokens));
        let estimate = Estimate { usage, excluded: avoided.map_or(&[], std::slice::from_ref), ..Estimate::default() };
        let Ok(routed) = self.engine.acquire(CAPABILITY, &estimate, None) else { return Choice::Wait(None) };
        match (routed.best, routed.lease) {
            (Some(best), Some(lease)) => Choice::Send { provider: best.index as usize, ticket: lease.to_raw() },
            (best, _) => Choice::Wait(best.map(|best| best.retry_after_ns)),
        }
    }

    fn settle(&mut self, now: u64, reply: &Reply<'_>) {
        self.clock.set_ns(now);
        let lines = reply.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let headers = headers::parse(lines, self.engine.unix_ms());
        let outcome = match reply.answer {
            Answer::Served => Outcome::Success,
            Answer::RateLimited => Outcome::RateLimited,
            Answer::Error => Outcome::ServerError,
            Answer::TimedOut => Outcome::Timeout,
        };
        // What a failed request used is not known.
        let tokens = (reply.answer == Answer::Served).then_some(reply.tokens);
        let report = Report {
            outcome,
            latency_ns: None,
            retry_after_ns: None,
            usage: Reported::default().with(grate::config::Dimension::Tokens, tokens),
            headers: Some(&headers),
        };
        let settled = self.engine.complete(LeaseId::from_raw(reply.ticket), &report);
        debug_assert!(settled.is_ok(), "the lease is settled once, in time");
    }
}
