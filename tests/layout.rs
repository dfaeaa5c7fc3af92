//! The structs of the C API lie in Rust as they do in C: every field of every struct, at the same place, of the same size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::mem::{offset_of, size_of};
use std::process::Command;

use grate::capi::*;

fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The fields of structs as `scripts/abi-facts.sh` tells them, without their types.
macro_rules! fields {
    ($($name:ident { $($field:ident),* $(,)? })*) => {{
        $({
            // Names them all: without `..` a field that is missing here does not compile.
            let _ = |$name { $($field: _),* }: $name| ();
        })*
        vec![$($(format!(
            "field {}.{} at {}, {} bytes",
            stringify!($name),
            stringify!($field),
            offset_of!($name, $field),
            size_of_field(|s: &$name| &s.$field),
        )),*),*]
    }};
}

fn in_rust() -> Vec<String> {
    fields! {
        grate_error { struct_size, code, message }
        grate_quota_config { struct_size, dimension, limit, window_ns, strategy, reserved, burst, phase_ns, pool }
        grate_provider_config { struct_size, priority, name, weight, cooldown_seconds, quotas, quotas_len }
        grate_capability_provider { struct_size, priority, provider }
        grate_capability_config { struct_size, reserved, name, providers, providers_len }
        grate_engine_config {
            struct_size, cooldown_trigger_count, clock, weight_quota, weight_health, weight_priority,
            weight_latency, min_health_for_selection, ewma_alpha, recovery_half_life_secs, cooldown_threshold,
            cooldown_multiplier, max_cooldown_secs, lease_ttl_ns, skew_ns, estimate_quantile, max_retry_after_ns,
            state_path, state_size, state_flags
        }
        grate_header_quota { struct_size, dimension, limit, remaining, reset_in_ms, window_ms }
        grate_header_report { struct_size, cached, retry_after_ms, quotas, quotas_capacity, quotas_len, quotas_total }
        grate_header { name, name_len, value, value_len }
        grate_metrics {
            struct_size, reserved, selects, acquires, completions, cancellations, expired_leases, observations,
            cooldowns_triggered, none_available, rate_limited_responses, leases_in_flight, capped_waits
        }
        grate_quota_state {
            struct_size, dimension, strategy, reserved, limit, window_ns, used, remaining, predicted_share,
            burn_per_sec, seconds_to_exhaustion, pool, effective_limit, margin, limit_source, reserved2
        }
        grate_provider_state {
            struct_size, circuit, health, cooldown_remaining_ns, latency_ns, consecutive_failures, reserved,
            leases_in_flight, selects, acquires, completions, cancellations, expired_leases, observations,
            cooldowns_triggered, rate_limited_responses, quotas, quotas_capacity, quotas_len, quotas_total
        }
        grate_request {
            struct_size, reserved, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, headroom,
            exclude, exclude_len
        }
        grate_candidate {
            struct_size, held_by, provider, score, quota_score, health_score, priority_score, latency_score,
            seconds_to_exhaustion, retry_after_ns, held_dimension, index, held_window_ns
        }
        grate_decision {
            struct_size, held_by, lease, provider, score, quota_score, health_score, priority_score,
            latency_score, seconds_to_exhaustion, retry_after_ns, held_dimension, index, held_window_ns,
            candidates, candidates_capacity, candidates_len, candidates_total
        }
        grate_response {
            struct_size, outcome, http_status, reserved, latency_ns, retry_after_ns, requests, tokens,
            input_tokens, output_tokens, bytes, cost_micro_usd, headers, headers_len
        }
    }
}

/// By the compiler of C, from the header.
fn in_c() -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let told = Command::new("sh").args(["scripts/abi-facts.sh", "include/grate.h"]).current_dir(root).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let text = String::from_utf8(told.stdout).unwrap();
    let fields = text.lines().filter(|line| line.starts_with("field "));
    fields.map(|line| line.split_once(':').unwrap().0.to_owned()).collect()
}

#[test]
fn structs_lie_alike_in_rust_and_c() {
    let (mut rust, mut c) = (in_rust(), in_c());
    rust.sort();
    c.sort();
    assert!(c.len() > 100, "{c:?}");
    assert_eq!(rust, c);
}
