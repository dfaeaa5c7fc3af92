//! What the integration tests share.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;

use grate::Engine;
use grate::clock::MockClock;
use grate::config::{Candidate, CapabilityConfig, Change, Dimension, ProviderConfig, QuotaConfig, Settings, Strategy};
use grate::engine::{Estimate, Report, Routed};
use grate::feedback::Outcome;
use grate::usage::{Reported, Usage};

pub const MS: u64 = 1_000_000;
pub const SEC: u64 = 1_000_000_000;
pub const MINUTE: u64 = 60 * SEC;
pub const DAY: u64 = 86_400 * SEC;
/// 2026-01-01T00:00:00Z.
pub const UNIX_MS: u64 = 1_767_225_600_000;

/// An engine on a mock clock.
pub fn engine(settings: Settings) -> (Engine, Arc<MockClock>) {
    let clock = Arc::new(MockClock::new(UNIX_MS));
    (Engine::new(settings, clock.clone()).unwrap(), clock)
}

pub fn quota(dimension: Dimension, limit: u64, window_ns: u64) -> QuotaConfig {
    QuotaConfig { dimension, limit, window_ns, strategy: None, burst: None, phase_ns: None, pool: None }
}

pub fn requests(limit: u64, window_ns: u64) -> QuotaConfig {
    quota(Dimension::Requests, limit, window_ns)
}

pub fn concurrency(limit: u64) -> QuotaConfig {
    quota(Dimension::Concurrency, limit, 0)
}

pub fn with(strategy: Strategy, quota: QuotaConfig) -> QuotaConfig {
    QuotaConfig { strategy: Some(strategy), ..quota }
}

pub fn pooled(pool: &str, quota: QuotaConfig) -> QuotaConfig {
    QuotaConfig { pool: Some(pool.into()), ..quota }
}

pub fn provider(name: &str, quotas: Vec<QuotaConfig>) -> ProviderConfig {
    ProviderConfig { name: name.into(), priority: 1, weight: 1.0, cooldown_seconds: 30.0, quotas }
}

pub fn capability(name: &str, providers: &[&str]) -> CapabilityConfig {
    let providers = providers.iter().map(|p| Candidate { provider: (*p).into(), priority: None }).collect();
    CapabilityConfig { name: name.into(), providers }
}

/// Registers providers, all of which serve "api".
pub fn serve(engine: &Engine, providers: Vec<ProviderConfig>) {
    let names: Vec<String> = providers.iter().map(|p| p.name.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let capabilities = vec![capability("api", &names)];
    engine.apply(Change { providers, capabilities, ..Change::default() }).unwrap();
}

pub fn redefine(engine: &Engine, provider: ProviderConfig) {
    engine.apply(Change { providers: vec![provider], ..Change::default() }).unwrap();
}

pub fn tokens(n: u64) -> Estimate<'static> {
    Estimate { usage: Reported::default().with(Dimension::Tokens, Some(n)), ..Estimate::default() }
}

/// One request of unknown size.
pub fn one() -> Estimate<'static> {
    Estimate::default()
}

/// What a request of known size takes.
pub fn units(estimate: &Estimate, dimension: Dimension) -> u64 {
    estimate.usage.or(&Usage::NONE).of(dimension)
}

pub fn report(outcome: Outcome) -> Report<'static> {
    Report { outcome, latency_ns: None, retry_after_ns: None, usage: Reported::default(), headers: None }
}

pub fn reported_tokens(outcome: Outcome, n: u64) -> Report<'static> {
    Report { usage: Reported::default().with(Dimension::Tokens, Some(n)), ..report(outcome) }
}

pub fn acquire(engine: &Engine) -> Routed {
    engine.acquire("api", &one(), None).unwrap()
}

/// Units counted by the provider's first quota on a dimension.
pub fn used(engine: &Engine, provider: &str, dimension: Dimension) -> u64 {
    let state = engine.provider_state(provider).unwrap();
    state.quotas.iter().find(|q| q.dimension == dimension).unwrap().used
}

/// The metrics without those that select counts.
pub fn without_selects(text: &str) -> String {
    text.lines()
        .filter(|l| !l.contains("selects_total") && !l.contains("none_available"))
        .collect::<Vec<_>>()
        .join("\n")
}
