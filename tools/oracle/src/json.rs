//! JSON documents: those that stand for a call of `calls`, and any bytes.

use std::ffi::CStr;
use std::fmt::Write;

use grate::capi::*;

use crate::api::{Engine, QuotaConfig, new, text};
use crate::op::{Form, PROVIDERS, TOLD};

/// A document that defines a provider.
pub(crate) fn document(
    i: usize,
    form: Form,
    priority: u32,
    weight: f64,
    cooldown_seconds: f64,
    quotas: &[QuotaConfig],
) -> String {
    let name = PROVIDERS[i].to_str().expect("ours are UTF-8");
    let mut json = format!("{{\"providers\": [{{\"name\": \"{name}\", \"priority\": {priority}");
    let mut number = |name: &str, value: f64| {
        if value != 0.0 {
            write!(json, ", \"{name}\": {value:e}").expect("a string takes all");
        }
    };
    number("weight", weight);
    number("cooldown_seconds", cooldown_seconds);
    let quotas: Vec<String> = quotas.iter().map(quota).collect();
    write!(json, ", \"quotas\": [{}]}}]", quotas.join(", ")).expect("a string takes all");
    if form == Form::Replace {
        json += &format!(", \"capabilities\": [{{\"name\": \"all\", \"providers\": [{{\"provider\": \"{name}\"}}]}}]");
        json += ", \"replace\": true";
    }
    json + "}"
}

fn quota(q: &QuotaConfig) -> String {
    let others = [(GRATE_DIMENSION_REQUESTS, "requests"), (GRATE_DIMENSION_CONCURRENCY, "concurrency")];
    let dimension = TOLD.iter().chain(&others).find(|(code, _)| *code == q.dimension).expect("there are seven").1;
    let mut json = format!("{{\"dimension\": \"{dimension}\", \"limit\": {}", q.limit);
    let strategies = ["rolling", "token_bucket", "fixed_window", "concurrency"];
    let fields = [
        ("window_ms", (q.window_ns != 0).then(|| (q.window_ns / 1_000_000).to_string())),
        ("burst", (q.burst != 0).then(|| q.burst.to_string())),
        ("phase_ms", (q.phase_ns != 0).then(|| (q.phase_ns / 1_000_000).to_string())),
        ("strategy", (q.strategy != 0).then(|| format!("\"{}\"", strategies[q.strategy as usize - 1]))),
        ("pool", q.pool.map(|pool| format!("\"{}\"", pool.to_str().expect("ours are UTF-8")))),
    ];
    for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        json += &format!(", \"{name}\": {value}");
    }
    json + "}"
}

/// What is there before the document.
const BEFORE: &str = r#"{"providers": [
    {"name": "a", "priority": 10, "quotas": [
        {"dimension": "requests", "limit": 5, "window": "minute"},
        {"dimension": "tokens", "limit": 900, "window": "second", "strategy": "token_bucket", "burst": 1000, "pool": "p"},
        {"dimension": "concurrency", "limit": 2}]},
    {"name": "b", "quotas": [
        {"dimension": "tokens", "limit": 900, "window": "second", "strategy": "token_bucket", "burst": 1000, "pool": "p"},
        {"dimension": "bytes", "limit": 100, "window": "day", "strategy": "fixed_window", "phase_ms": 1000}]},
    {"name": "c"}],
    "capabilities": [{"name": "chat", "providers": [{"provider": "a"}, {"provider": "b", "priority": 3}, {"provider": "c"}]},
        {"name": "one", "providers": [{"provider": "b"}]}]}"#;
const CAPABILITIES: [&CStr; 2] = [c"chat", c"one"];
/// What configuring may answer.
const ANSWERS: [grate_status; 7] = [
    GRATE_OK,
    GRATE_ERR_INVALID_NAME,
    GRATE_ERR_INVALID_ARGUMENT,
    GRATE_ERR_INVALID_CONFIG,
    GRATE_ERR_INVALID_JSON,
    GRATE_ERR_UNKNOWN_PROVIDER,
    GRATE_ERR_CAPACITY,
];

/// All that can be seen of an engine: metrics without the count of looks, states, and what select says.
fn seen(engine: &Engine) -> String {
    let metrics = engine.prometheus();
    let quiet = metrics.lines().filter(|line| !line.contains("select") && !line.contains("none_available"));
    let mut all: String = quiet.flat_map(|line| [line, "\n"]).collect();
    for name in PROVIDERS {
        for row in engine.state(name).into_iter().flat_map(|state| state.quotas) {
            let limit = (row.dimension, row.strategy, row.limit, row.window_ns, text(row.pool).map(str::to_owned));
            let state = (row.used, row.remaining, row.effective_limit, row.limit_source, row.margin);
            writeln!(all, "{name:?} {limit:?} {state:?}").expect("a string takes all");
        }
    }
    for name in CAPABILITIES {
        let looked = engine.decide(false, name, &new(grate_request_init), &[], 8);
        write!(all, "{name:?} {} {:?}", looked.status, text(looked.best.provider)).expect("a string takes all");
        for c in looked.candidates {
            let held = (c.held_by, c.held_dimension, c.held_window_ns, c.retry_after_ns);
            write!(all, " {:?} {} {held:?}", text(c.provider), c.score).expect("a string takes all");
        }
        all.push('\n');
    }
    all
}

/// Configures an engine with bytes: refused, they change nothing; accepted, the same again changes nothing more.
pub fn configure_json(bytes: &[u8]) {
    let engine = Engine::new(new(grate_engine_config_init), 1_767_225_600_000);
    assert_eq!(engine.configure(BEFORE.as_bytes()), GRATE_OK);
    let mut request = new(grate_request_init);
    (request.tokens, request.bytes) = (70, 30);
    let leases = CAPABILITIES.map(|name| engine.decide(true, name, &request, &[], 0).best.lease);
    engine.set_clock(10_000_000);
    let before = seen(&engine);
    let answer = engine.configure(bytes);
    assert!(ANSWERS.contains(&answer), "{answer}");
    let after = seen(&engine);
    if answer != GRATE_OK {
        assert_eq!(after, before, "refused with {answer}, and something changed");
    }
    assert_eq!(engine.configure(bytes), answer, "the same document again");
    assert_eq!(seen(&engine), after, "the same document again changed something");
    // Whatever is configured now, the leases can be settled.
    for lease in leases {
        assert_eq!(engine.cancel(lease), GRATE_OK);
    }
    for name in CAPABILITIES {
        engine.decide(true, name, &request, &[], 8);
    }
}
