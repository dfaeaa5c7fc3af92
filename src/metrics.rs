//! Metrics as Prometheus text.

use std::fmt::Write;

use crate::config::NS_PER_SEC;
use crate::engine::{Metrics, ProviderState};
use crate::health::Circuit;
use crate::provider::Counters;

type CounterOf = fn(&Counters) -> u64;

/// Counters that exist engine-wide (as the sum over providers) and per provider: name, help, value.
const COUNTERS: [(&str, &str, CounterOf); 9] = [
    ("selects_total", "Calls of select that chose a provider.", |c| c.selects),
    ("acquires_total", "Leases granted.", |c| c.acquires),
    ("completions_total", "Leases completed.", |c| c.completions),
    ("cancellations_total", "Leases cancelled.", |c| c.cancellations),
    ("expired_leases_total", "Leases that expired unsettled.", |c| c.expired_leases),
    ("observations_total", "Outcomes observed without a lease.", |c| c.observations),
    ("cooldowns_triggered_total", "Cooldowns started.", |c| c.cooldowns_triggered),
    ("rate_limited_responses_total", "Responses that a provider's quota refused.", |c| c.rate_limited_responses),
    ("capped_waits_total", "Waits told by a provider that were too long to believe.", |c| c.capped_waits),
];

type GaugeOf = fn(&ProviderState<'_>) -> f64;

/// Gauges per provider.
const GAUGES: [(&str, &str, GaugeOf); 4] =
    [
        ("provider_health", "Health, from 0 to 1.", |p| p.health),
        ("provider_in_cooldown", "1 while the provider cools down.", |p| {
            if p.circuit == Circuit::Open { 1.0 } else { 0.0 }
        }),
        ("provider_latency_seconds", "Average latency; 0 if unknown.", |p| p.latency_ns as f64 / 1e9),
        ("provider_leases_in_flight", "Leases in flight.", |p| p.counters.leases_in_flight as f64),
    ];

/// Version 0.0.4 of the text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
pub(crate) fn prometheus(metrics: &Metrics, providers: &[(&str, ProviderState<'_>)]) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &mut dyn FnMut(&mut String)| {
        // Writing to a String cannot fail.
        let _ = write!(out, "# HELP grate_{name} {help}\n# TYPE grate_{name} {kind}\n");
        samples(&mut out);
    };
    family("none_available_total", "counter", "Decisions that found no provider available.", &mut |out| {
        let _ = writeln!(out, "grate_none_available_total {}", metrics.none_available);
    });
    for (name, help, value) in COUNTERS {
        family(name, "counter", help, &mut |out| {
            let _ = writeln!(out, "grate_{name} {}", value(&metrics.counters));
        });
    }
    for (name, help, value) in COUNTERS {
        family(&format!("provider_{name}"), "counter", help, &mut |out| {
            for (provider, state) in providers {
                let provider = escaped(provider);
                let _ = writeln!(out, "grate_provider_{name}{{provider=\"{provider}\"}} {}", value(&state.counters));
            }
        });
    }
    for (name, help, value) in GAUGES {
        family(name, "gauge", help, &mut |out| {
            for (provider, state) in providers {
                let _ = writeln!(out, "grate_{name}{{provider=\"{}\"}} {}", escaped(provider), value(state));
            }
        });
    }
    type QuotaOf = fn(&crate::engine::QuotaState<'_>) -> f64;
    let quotas: [(&str, &str, QuotaOf); 5] = [
        ("quota_limit", "Units per window, or slots, as configured; +Inf if nobody did.", |q| limit(q.limit)),
        ("quota_effective_limit", "The same as in force: as configured, learned, or told by the provider.", |q| {
            limit(q.effective_limit)
        }),
        ("quota_used", "Units counted now.", |q| q.used as f64),
        ("quota_remaining", "Units that may be reserved now.", |q| q.remaining as f64),
        ("quota_predicted_share", "Predicted share that will be left, from 0 to 1.", |q| q.predicted_share),
    ];
    for (name, help, value) in quotas {
        family(name, "gauge", help, &mut |out| {
            for (provider, state) in providers {
                for q in &state.quotas {
                    let _ = write!(
                        out,
                        "grate_{name}{{provider=\"{}\",dimension=\"{}\",window_seconds=\"{}\"",
                        escaped(provider),
                        q.dimension.name(),
                        seconds(q.window_ns)
                    );
                    if let Some(pool) = q.pool.and_then(|pool| pool.to_str().ok()) {
                        let _ = write!(out, ",pool=\"{}\"", escaped(pool));
                    }
                    let value = value(q);
                    // Rust writes infinity as "inf".
                    let _ = if value.is_infinite() { writeln!(out, "}} +Inf") } else { writeln!(out, "}} {value}") };
                }
            }
        });
    }
    out
}

fn limit(units: u64) -> f64 {
    if units == u64::MAX { f64::INFINITY } else { units as f64 }
}

/// Nanoseconds as seconds, all digits that matter.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / NS_PER_SEC, ns % NS_PER_SEC);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// A label value: backslashes and quotes escaped. Names have no line ends.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}
