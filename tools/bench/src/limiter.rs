//! The other side: the crate grate-limiter, as Rust programs call it.

use std::hint::black_box;
use std::sync::Arc;

use grate_limiter::{
    CapabilityConfig, CapabilityProvider, Dimension, EngineConfig, GrateLimiter, MockClock, Observation, Outcome,
    ProviderConfig, QuotaConfig, StatusClass, Usage, Window,
};

use crate::sample::Side;
use crate::workload::{COOLDOWN_SECS, LATENCY_MS, Operation, Quotas, WARM_UP, Workload};

/// As pinned in Cargo.toml; the crate does not tell its version.
pub const VERSION: &str = "0.1.1";

const CAPABILITY: &str = "bench-cap";

/// A warm engine that runs the operation; `None` if it has no such operation. Its concurrency slots are never released,
/// so it cannot run with three quotas.
pub fn side(workload: &Workload) -> Option<Side> {
    if workload.quotas != Quotas::One {
        return None;
    }
    let clock = Arc::new(MockClock::new());
    let engine = GrateLimiter::new(EngineConfig::default().with_clock(clock.clone()));
    let mut providers = Vec::new();
    for (name, priority) in workload.named() {
        engine.upsert_provider(ProviderConfig {
            name: name.clone(),
            quotas: vec![QuotaConfig {
                dimension: Dimension::Requests,
                limit: workload.requests_per_minute(),
                window: Some(Window::Minute),
            }],
            priority,
            weight: 1.0,
            cooldown_seconds: COOLDOWN_SECS.into(),
        });
        providers.push(CapabilityProvider { provider: name, priority });
    }
    let names: Vec<String> = providers.iter().map(|p| p.provider.clone()).collect();
    engine.upsert_capability(CapabilityConfig { name: CAPABILITY.into(), providers });

    // Its select ranks all candidates and reserves nothing, whatever it is compared with.
    let select = |engine: &GrateLimiter| black_box(engine.select(CAPABILITY));
    let observe = |engine: &GrateLimiter, provider: String| {
        let seen = engine.observe(Observation {
            provider,
            // Optional and unused: without it, it need not be allocated.
            capability: None,
            usage: Usage { requests: 1, ..Usage::default() },
            outcome: Outcome { status: StatusClass::Success, latency_ms: LATENCY_MS },
        });
        assert!(seen.is_ok(), "grate-limiter: observe failed");
    };

    let mut turn = names.into_iter().cycle();
    let mut observe_next = {
        let (engine, clock) = (engine.clone(), clock.clone());
        move |n: u64| {
            // The names are cloned because an observation owns its name: that is part of its price.
            for provider in turn.by_ref().take(n as usize) {
                clock.advance_ms(1);
                observe(&engine, provider);
            }
        }
    };
    observe_next(WARM_UP);

    Some(match workload.operation {
        Operation::Select | Operation::SelectRanked => Box::new(move |n| {
            for _ in 0..n {
                assert!(select(&engine).is_ok(), "grate-limiter: select failed");
            }
        }),
        Operation::Observe => Box::new(observe_next),
        Operation::Cycle => Box::new(move |n| {
            for _ in 0..n {
                let decision = select(&engine);
                assert!(decision.is_ok(), "grate-limiter: select failed");
                clock.advance_ms(1);
                if let Ok(decision) = decision {
                    observe(&engine, decision.provider);
                }
            }
        }),
    })
}
