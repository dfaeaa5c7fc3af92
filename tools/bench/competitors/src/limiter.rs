//! The crate grate-limiter, as Rust programs call it.

use std::hint::black_box;
use std::sync::Arc;

use grate_limiter::{
    CapabilityConfig, CapabilityProvider, Dimension, EngineConfig, GrateLimiter, MockClock, Observation, Outcome,
    ProviderConfig, QuotaConfig, StatusClass, Usage, Window,
};

use crate::Workload;
use crate::constants::{MOCK, OBSERVE, SELECT, SELECT_RANKED, SYSTEM};

/// An engine and one of its callers. Aligned so that two callers share no cache line.
#[repr(align(128))]
pub struct Limiter {
    engine: GrateLimiter,
    /// The clock, if each request moves it.
    moving: Option<Arc<MockClock>>,
    workload: Workload,
    capability: String,
    names: Vec<String>,
    /// Whose turn it is to be observed.
    turn: usize,
}

impl Limiter {
    pub fn new(workload: &Workload) -> Self {
        let clock = Arc::new(MockClock::new());
        let config = EngineConfig::default();
        let engine =
            GrateLimiter::new(if workload.clock == SYSTEM { config } else { config.with_clock(clock.clone()) });
        let n = workload.providers;
        // Priorities are all different, as in the benchmark of grate-limiter.
        let providers = (0..n).map(|i| CapabilityProvider {
            provider: format!("provider-{i}"),
            priority: u16::try_from(n - i).unwrap_or(u16::MAX),
        });
        let providers: Vec<_> = providers.collect();
        for provider in &providers {
            engine.upsert_provider(ProviderConfig {
                name: provider.provider.clone(),
                quotas: quotas(workload),
                priority: provider.priority,
                weight: 1.0,
                cooldown_seconds: workload.cooldown_secs,
            });
        }
        let names = providers.iter().map(|p| p.provider.clone()).collect();
        let together =
            if workload.apart == 0 { vec![providers] } else { providers.chunks(1).map(<[_]>::to_vec).collect() };
        for (i, providers) in together.into_iter().enumerate() {
            engine.upsert_capability(CapabilityConfig { name: capability(i), providers });
        }
        let moving = (workload.clock == MOCK).then_some(clock);
        Self { engine, moving, workload: workload.clone(), capability: capability(0), names, turn: 0 }
    }

    /// A second caller: of the second capability, if each provider has its own.
    pub fn another(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            moving: self.moving.clone(),
            workload: self.workload.clone(),
            capability: capability(self.workload.apart as usize),
            names: self.names.clone(),
            turn: 0,
        }
    }

    /// Its select ranks all candidates and reserves nothing, whatever it is compared with.
    pub fn run(&mut self, operation: u32, n: u64) {
        match operation {
            SELECT | SELECT_RANKED => (0..n).for_each(|_| drop(black_box(self.select()))),
            OBSERVE => (0..n).for_each(|_| self.observe_next()),
            _ => (0..n).for_each(|_| {
                let provider = self.select();
                self.tick();
                self.observe(provider);
            }),
        }
    }

    fn select(&self) -> String {
        let Ok(decision) = black_box(self.engine.select(&self.capability)) else {
            unreachable!("grate-limiter: nothing was available");
        };
        decision.provider
    }

    fn observe_next(&mut self) {
        self.tick();
        self.turn = if self.turn + 1 < self.names.len() { self.turn + 1 } else { 0 };
        // Cloned because an observation owns its name: that is part of its price.
        if let Some(name) = self.names.get(self.turn).cloned() {
            self.observe(name);
        }
    }

    fn observe(&self, provider: String) {
        let seen = self.engine.observe(Observation {
            provider,
            // Optional and unused: without it, it need not be allocated.
            capability: None,
            usage: Usage {
                requests: 1,
                tokens: (self.workload.quotas > 1).then_some(self.workload.tokens),
                ..Usage::default()
            },
            outcome: Outcome { status: StatusClass::Success, latency_ms: self.workload.latency_ms },
        });
        assert!(seen.is_ok(), "grate-limiter: observe failed");
    }

    fn tick(&self) {
        if let Some(clock) = &self.moving {
            clock.advance_ms(1);
        }
    }
}

fn capability(i: usize) -> String {
    format!("bench-cap-{i}")
}

/// Requests, and tokens with them. Never concurrency: its slots are never released.
fn quotas(workload: &Workload) -> Vec<QuotaConfig> {
    let quota = |dimension, limit| QuotaConfig { dimension, limit, window: Some(Window::Minute) };
    let mut quotas = vec![quota(Dimension::Requests, workload.requests_per_minute)];
    if workload.quotas > 1 {
        quotas.push(quota(Dimension::Tokens, workload.requests_per_minute * workload.tokens));
    }
    quotas
}
