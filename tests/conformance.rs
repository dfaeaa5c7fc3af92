//! Replays `conformance/*.json` through the C API. `conformance/README.md` has the format.
#![allow(unsafe_code, reason = "the C functions are called as C calls them")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "every pointer here is to a live local")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(missing_docs)]

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::ptr;

use grate::capi::*;
use serde_json::{Map, Value};

type Object = Map<String, Value>;
/// What is wrong with a step: the expectation and what came instead.
type Outcome = Result<(), String>;

const DEFAULT_UNIX_MS: u64 = 1_767_225_600_000;
const DEFAULT_WITHIN: f64 = 1e-9;
const MAX_CANDIDATES: usize = 64;

const REQUEST_FIELDS: [&str; 7] =
    ["tokens", "input_tokens", "output_tokens", "bytes", "cost_micro_usd", "headroom", "exclude"];
const RESPONSE_FIELDS: [&str; 10] = [
    "outcome",
    "http_status",
    "latency_ms",
    "retry_after_ms",
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "bytes",
    "cost_micro_usd",
];
const DECISION_FIELDS: [&str; 14] = [
    "error",
    "within",
    "provider",
    "held_by",
    "held_dimension",
    "held_window_ns",
    "score",
    "quota",
    "health",
    "priority",
    "latency",
    "seconds_to_exhaustion",
    "retry_after_ns",
    "weights",
];
const DIMENSIONS: [(&str, i32); 7] = [
    ("requests", GRATE_DIMENSION_REQUESTS),
    ("tokens", GRATE_DIMENSION_TOKENS),
    ("input_tokens", GRATE_DIMENSION_INPUT_TOKENS),
    ("output_tokens", GRATE_DIMENSION_OUTPUT_TOKENS),
    ("concurrency", GRATE_DIMENSION_CONCURRENCY),
    ("bytes", GRATE_DIMENSION_BYTES),
    ("cost_micro_usd", GRATE_DIMENSION_COST_MICRO_USD),
];
const HOLDS: [(&str, i32); 7] = [
    ("nothing", GRATE_HELD_BY_NOTHING),
    ("cooldown", GRATE_HELD_BY_COOLDOWN),
    ("health", GRATE_HELD_BY_HEALTH),
    ("quota", GRATE_HELD_BY_QUOTA),
    ("concurrency", GRATE_HELD_BY_CONCURRENCY),
    ("probe", GRATE_HELD_BY_PROBE),
    ("exclusion", GRATE_HELD_BY_EXCLUSION),
];
const OUTCOMES: [(&str, i32); 9] = [
    ("success", GRATE_OUTCOME_SUCCESS),
    ("rate_limited", GRATE_OUTCOME_RATE_LIMITED),
    ("quota_exhausted", GRATE_OUTCOME_QUOTA_EXHAUSTED),
    ("forbidden", GRATE_OUTCOME_FORBIDDEN),
    ("server_error", GRATE_OUTCOME_SERVER_ERROR),
    ("overloaded", GRATE_OUTCOME_OVERLOADED),
    ("timeout", GRATE_OUTCOME_TIMEOUT),
    ("client_error", GRATE_OUTCOME_CLIENT_ERROR),
    ("cancelled", GRATE_OUTCOME_CANCELLED),
];
const CIRCUITS: [(&str, i32); 4] = [
    ("closed", GRATE_CIRCUIT_CLOSED),
    ("open", GRATE_CIRCUIT_OPEN),
    ("half_open", GRATE_CIRCUIT_HALF_OPEN),
    ("ramping", GRATE_CIRCUIT_RAMPING),
];

macro_rules! files {
    ($($test:ident = $file:literal,)*) => {
        const FILES: &[&str] = &[$($file),*];
        $(#[test] fn $test() { replay_file($file); })*
    };
}

files! {
    cooldown = "cooldown.json",
    design_example = "design-example.json",
    exclude = "exclude.json",
    half_open = "half-open.json",
    headroom = "headroom.json",
    health = "health.json",
    leases = "leases.json",
    metrics = "metrics.json",
    pools = "pools.json",
    quota_concurrency = "quota-concurrency.json",
    quota_fixed_window = "quota-fixed-window.json",
    quota_rolling = "quota-rolling.json",
    quota_token_bucket = "quota-token-bucket.json",
    reconfigure = "reconfigure.json",
    score = "score.json",
    select = "select.json",
    time = "time.json",
    wait_and_reason = "wait-and-reason.json",
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn scenarios(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    match serde_json::from_str(&text) {
        Ok(Value::Array(all)) => all,
        Ok(_) => panic!("{file}: not an array of scenarios"),
        Err(e) => panic!("{file}: {e}"),
    }
}

/// A file that nobody replays would pass for ever.
#[test]
fn every_file_is_replayed() {
    let present: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    let replayed: BTreeSet<String> = FILES.iter().map(ToString::to_string).collect();
    assert_eq!(present, replayed, "files in conformance/ (left) and in this test (right)");

    let mut names = BTreeSet::new();
    for file in FILES {
        for scenario in scenarios(file) {
            let name = scenario["name"].as_str().unwrap_or_else(|| panic!("{file}: a scenario without a name"));
            assert!(scenario["about"].is_string(), "{file}: '{name}' does not say what it is about");
            assert!(names.insert(name.to_owned()), "{file}: '{name}' is the name of two scenarios");
        }
    }
    println!("conformance: {} scenarios", names.len());
}

fn replay_file(file: &str) {
    let mut failures = Vec::new();
    for scenario in scenarios(file) {
        let name = scenario["name"].as_str().unwrap_or("(no name)").to_owned();
        let once = replay(&scenario);
        let again = replay(&scenario);
        match (once, again) {
            (Err(why), _) => failures.push(format!("{file}: '{name}', {why}")),
            (Ok(first), Ok(second)) if first == second => {}
            _ => failures.push(format!("{file}: '{name}': a second replay gave other decisions")),
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Runs a scenario on an engine of its own; the bits of all its decisions.
fn replay(scenario: &Value) -> Result<Vec<u64>, String> {
    let scenario = object(scenario)?;
    only(scenario, &[&["name", "about", "unix_ms", "config", "steps"]])?;
    let unix_ms = scenario.get("unix_ms").map_or(Ok(DEFAULT_UNIX_MS), integer)?;
    let mut replay = Replay::new(unix_ms);
    replay.configure(&get(scenario, "config")?.to_string(), None).map_err(|e| format!("config: {e}"))?;
    replay.steps(get(scenario, "steps")?)?;
    Ok(std::mem::take(&mut replay.trace))
}

struct Replay {
    clock: *mut grate_clock,
    engine: *mut grate_engine,
    leases: HashMap<String, u64>,
    trace: Vec<u64>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        unsafe {
            grate_engine_free(self.engine);
            grate_clock_free(self.clock);
        }
    }
}

/// A struct with its size in front and zeroes behind, as `GRATE_..._INIT` makes it.
macro_rules! init {
    ($ty:ty) => {{
        // SAFETY: all zeroes is valid for every struct of the C API.
        let mut value: $ty = unsafe { std::mem::zeroed() };
        value.struct_size = size_of::<$ty>() as u32;
        value
    }};
}

impl Replay {
    fn new(unix_ms: u64) -> Self {
        let clock = grate_clock_mock_new(unix_ms);
        let mut config = init!(grate_engine_config);
        config.clock = clock;
        let mut engine = ptr::null_mut();
        let status = unsafe { grate_engine_new(&config, &mut engine, ptr::null_mut()) };
        assert_eq!(status, GRATE_OK);
        Self { clock, engine, leases: HashMap::new(), trace: Vec::new() }
    }

    fn steps(&mut self, steps: &Value) -> Outcome {
        let steps = steps.as_array().ok_or("steps must be an array")?;
        for (i, step) in steps.iter().enumerate() {
            let step = object(step).map_err(|e| format!("step {}: {e}", i + 1))?;
            let mut verbs = step.iter();
            let (Some((verb, arguments)), None) = (verbs.next(), verbs.next()) else {
                return Err(format!("step {}: a step has one verb", i + 1));
            };
            self.step(verb, arguments).map_err(|e| format!("step {} ({verb}): {e}", i + 1))?;
        }
        Ok(())
    }

    fn step(&mut self, verb: &str, arguments: &Value) -> Outcome {
        let a = object(arguments)?;
        match verb {
            "advance" => self.advance(a),
            "set_ns" => {
                only(a, &[&["ns"]])?;
                let status = unsafe { grate_clock_set_ns(self.clock, integer(get(a, "ns")?)?) };
                same("status", GRATE_OK, status)
            }
            "select" | "acquire" => self.route(verb == "acquire", a),
            "complete" => self.complete(a),
            "cancel" => {
                only(a, &[&["lease", "expect"]])?;
                let (lease, mut err) = (self.lease(get(a, "lease")?)?, init!(grate_error));
                let status = unsafe { grate_engine_cancel(self.engine, lease, &mut err) };
                settled(a, status, &err)
            }
            "observe" => {
                only(a, &[&RESPONSE_FIELDS, &["provider", "expect"]])?;
                let (provider, mut err) = (c_string(get(a, "provider")?)?, init!(grate_error));
                let response = response(a)?;
                let status = unsafe { grate_engine_observe(self.engine, provider.as_ptr(), &response, &mut err) };
                settled(a, status, &err)
            }
            "configure" => {
                only(a, &[&["config", "text", "expect"]])?;
                let text = match a.get("text") {
                    Some(text) => string(text)?.to_owned(),
                    None => get(a, "config")?.to_string(),
                };
                self.configure(&text, Some(a))
            }
            "remove_provider" | "remove_capability" => {
                only(a, &[&["name", "expect"]])?;
                let (name, mut err) = (c_string(get(a, "name")?)?, init!(grate_error));
                let remove = if verb == "remove_provider" {
                    grate_engine_remove_provider
                } else {
                    grate_engine_remove_capability
                };
                let status = unsafe { remove(self.engine, name.as_ptr(), &mut err) };
                settled(a, status, &err)
            }
            "check_health" => {
                only(a, &[&["provider", "value", "within", "error"]])?;
                let (name, mut err, mut health) = (c_string(get(a, "provider")?)?, init!(grate_error), f64::NAN);
                let status = unsafe { grate_engine_provider_health(self.engine, name.as_ptr(), &mut health, &mut err) };
                if status_is(a.get("error"), status, &err)? == GRATE_OK {
                    compare("health", get(a, "value")?, health, within(a)?)?;
                }
                Ok(())
            }
            "check_remaining" => {
                only(a, &[&["provider", "dimension", "value", "error"]])?;
                let (name, mut err, mut units) = (c_string(get(a, "provider")?)?, init!(grate_error), 0);
                let dimension = named(&DIMENSIONS, get(a, "dimension")?)?;
                let status = unsafe {
                    grate_engine_remaining_quota(self.engine, name.as_ptr(), dimension, &mut units, &mut err)
                };
                if status_is(a.get("error"), status, &err)? == GRATE_OK {
                    compare_integer("remaining", get(a, "value")?, units)?;
                }
                Ok(())
            }
            "check_in_cooldown" => {
                only(a, &[&["provider", "value"]])?;
                let (name, mut err, mut yes) = (c_string(get(a, "provider")?)?, init!(grate_error), -1);
                let status =
                    unsafe { grate_engine_provider_in_cooldown(self.engine, name.as_ptr(), &mut yes, &mut err) };
                status_is(None, status, &err)?;
                same("in cooldown", i32::from(get(a, "value")?.as_bool().ok_or("value must be true or false")?), yes)
            }
            "check_circuit" => {
                only(a, &[&["provider", "value"]])?;
                let state = self.state(get(a, "provider")?)?;
                let circuit = named(&CIRCUITS, get(a, "value")?)?;
                same("circuit", name_of(&CIRCUITS, circuit), name_of(&CIRCUITS, state.circuit))
            }
            "check_metrics" => self.metrics(a),
            "repeat" => {
                only(a, &[&["times", "steps"]])?;
                for round in 1..=integer(get(a, "times")?)? {
                    self.steps(get(a, "steps")?).map_err(|e| format!("round {round}, {e}"))?;
                }
                Ok(())
            }
            _ => Err("unknown verb".into()),
        }
    }

    fn advance(&mut self, a: &Object) -> Outcome {
        only(a, &[&["secs", "ms", "ns"]])?;
        for (unit, value) in a {
            let value = integer(value)?;
            let status = unsafe {
                match unit.as_str() {
                    "secs" => grate_clock_advance_secs(self.clock, value),
                    "ms" => grate_clock_advance_ms(self.clock, value),
                    _ => grate_clock_set_ns(self.clock, grate_clock_now_ns(self.clock).saturating_add(value)),
                }
            };
            same("status", GRATE_OK, status)?;
        }
        Ok(())
    }

    fn configure(&mut self, text: &str, expecting: Option<&Object>) -> Outcome {
        let mut err = init!(grate_error);
        let status =
            unsafe { grate_engine_configure_json(self.engine, text.as_ptr().cast(), text.len() as u64, &mut err) };
        settled(expecting.unwrap_or(&Object::new()), status, &err)
    }

    fn lease(&self, value: &Value) -> Result<u64, String> {
        match value {
            Value::String(name) => self.leases.get(name).copied().ok_or(format!("no lease is called '{name}'")),
            forged => integer(forged),
        }
    }

    fn complete(&mut self, a: &Object) -> Outcome {
        only(a, &[&RESPONSE_FIELDS, &["lease", "expect"]])?;
        let (lease, response, mut err) = (self.lease(get(a, "lease")?)?, response(a)?, init!(grate_error));
        let status = unsafe { grate_engine_complete(self.engine, lease, &response, &mut err) };
        settled(a, status, &err)
    }

    fn state(&self, provider: &Value) -> Result<grate_provider_state, String> {
        let (name, mut err, mut state) = (c_string(provider)?, init!(grate_error), init!(grate_provider_state));
        let status = unsafe { grate_engine_provider_state(self.engine, name.as_ptr(), &mut state, &mut err) };
        status_is(None, status, &err)?;
        Ok(state)
    }

    fn metrics(&self, a: &Object) -> Outcome {
        let counters: HashMap<&str, u64> = if let Some(provider) = a.get("provider") {
            let s = self.state(provider)?;
            HashMap::from([
                ("consecutive_failures", u64::from(s.consecutive_failures)),
                ("leases_in_flight", s.leases_in_flight),
                ("selects", s.selects),
                ("acquires", s.acquires),
                ("completions", s.completions),
                ("cancellations", s.cancellations),
                ("expired_leases", s.expired_leases),
                ("observations", s.observations),
                ("cooldowns_triggered", s.cooldowns_triggered),
                ("rate_limited_responses", s.rate_limited_responses),
            ])
        } else {
            let (mut m, mut err) = (init!(grate_metrics), init!(grate_error));
            let status = unsafe { grate_engine_metrics(self.engine, &mut m, &mut err) };
            status_is(None, status, &err)?;
            HashMap::from([
                ("selects", m.selects),
                ("acquires", m.acquires),
                ("completions", m.completions),
                ("cancellations", m.cancellations),
                ("expired_leases", m.expired_leases),
                ("observations", m.observations),
                ("cooldowns_triggered", m.cooldowns_triggered),
                ("none_available", m.none_available),
                ("rate_limited_responses", m.rate_limited_responses),
                ("leases_in_flight", m.leases_in_flight),
            ])
        };
        for (name, expected) in a.iter().filter(|(name, _)| *name != "provider") {
            let got = counters.get(name.as_str()).ok_or(format!("unknown counter '{name}'"))?;
            compare_integer(name, expected, *got)?;
        }
        Ok(())
    }

    fn route(&mut self, acquire: bool, a: &Object) -> Outcome {
        only(a, &[&REQUEST_FIELDS, &["capability", "as", "expect"]])?;
        let capability = c_string(get(a, "capability")?)?;
        let exclude = match a.get("exclude") {
            Some(names) => {
                names.as_array().ok_or("exclude must be an array")?.iter().map(c_string).collect::<Result<_, _>>()?
            }
            None => Vec::new(),
        };
        let exclude: Vec<*const c_char> = exclude.iter().map(|name| name.as_ptr()).collect();
        let mut request = init!(grate_request);
        request.tokens = optional(a, "tokens")?;
        request.input_tokens = optional(a, "input_tokens")?;
        request.output_tokens = optional(a, "output_tokens")?;
        request.bytes = optional(a, "bytes")?;
        request.cost_micro_usd = optional(a, "cost_micro_usd")?;
        request.headroom = a.get("headroom").map_or(Ok(0.0), number)?;
        request.exclude = exclude.as_ptr();
        request.exclude_len = exclude.len() as u64;
        let plain = REQUEST_FIELDS.iter().all(|field| !a.contains_key(*field));

        let mut rows = [init!(grate_candidate); MAX_CANDIDATES];
        let (mut decision, mut err) = (init!(grate_decision), init!(grate_error));
        decision.candidates = rows.as_mut_ptr();
        decision.candidates_capacity = rows.len() as u64;
        let call = if acquire { grate_engine_acquire } else { grate_engine_select };
        // A request that says nothing is the same as none.
        let request = if plain { ptr::null() } else { &raw const request };
        let status = unsafe { call(self.engine, capability.as_ptr(), request, &mut decision, &mut err) };

        let nothing = Object::new();
        let expect = a.get("expect").map_or(Ok(&nothing), object)?;
        only(expect, &[&DECISION_FIELDS, &["candidates"]])?;
        status_is(expect.get("error"), status, &err)?;
        if status != GRATE_OK && status != GRATE_ERR_NO_PROVIDER_AVAILABLE {
            return Ok(());
        }
        let rows = &rows[..decision.candidates_len as usize];
        if status == GRATE_OK {
            same("held_by", GRATE_HELD_BY_NOTHING, decision.held_by)?;
            same("retry_after_ns", 0, decision.retry_after_ns)?;
        }
        same("a lease", acquire && status == GRATE_OK, decision.lease != 0)?;
        same("candidates_total", decision.candidates_len, decision.candidates_total)?;
        let chosen = Seen::of(&decision);
        for seen in std::iter::once(chosen).chain(rows.iter().map(Seen::row)) {
            seen.in_range()?;
            self.trace.extend(seen.bits());
        }
        chosen.matches(expect)?;
        if let Some(expected) = expect.get("candidates") {
            candidates(expected, rows)?;
        }
        if let Some(name) = a.get("as") {
            self.leases.insert(string(name)?.to_owned(), decision.lease);
        }
        Ok(())
    }
}

/// What decisions and their rows have in common.
#[derive(Clone, Copy)]
struct Seen {
    provider: *const c_char,
    held_by: i32,
    held_dimension: i32,
    held_window_ns: u64,
    retry_after_ns: u64,
    seconds_to_exhaustion: f64,
    score: f64,
    /// Quota, health, priority, latency.
    components: [f64; 4],
}

const COMPONENTS: [&str; 4] = ["quota", "health", "priority", "latency"];

impl Seen {
    fn of(d: &grate_decision) -> Self {
        Self {
            provider: d.provider,
            held_by: d.held_by,
            held_dimension: d.held_dimension,
            held_window_ns: d.held_window_ns,
            retry_after_ns: d.retry_after_ns,
            seconds_to_exhaustion: d.seconds_to_exhaustion,
            score: d.score,
            components: [d.quota_score, d.health_score, d.priority_score, d.latency_score],
        }
    }

    fn row(c: &grate_candidate) -> Self {
        Self {
            provider: c.provider,
            held_by: c.held_by,
            held_dimension: c.held_dimension,
            held_window_ns: c.held_window_ns,
            retry_after_ns: c.retry_after_ns,
            seconds_to_exhaustion: c.seconds_to_exhaustion,
            score: c.score,
            components: [c.quota_score, c.health_score, c.priority_score, c.latency_score],
        }
    }

    fn name(&self) -> Option<&str> {
        if self.provider.is_null() {
            return None;
        }
        Some(unsafe { CStr::from_ptr(self.provider) }.to_str().unwrap())
    }

    fn bits(&self) -> impl Iterator<Item = u64> {
        let doubles = [self.score, self.seconds_to_exhaustion].into_iter().chain(self.components);
        let integers = [self.held_by as u64, self.held_dimension as u64, self.held_window_ns, self.retry_after_ns];
        doubles.map(f64::to_bits).chain(integers)
    }

    fn in_range(&self) -> Outcome {
        let all = std::iter::once(("score", self.score)).chain(COMPONENTS.into_iter().zip(self.components));
        for (what, value) in all {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{what} of {:?} is {value}, not in [0, 1]", self.name()));
            }
        }
        Ok(())
    }

    fn matches(&self, expect: &Object) -> Outcome {
        let within = within(expect)?;
        if let Some(provider) = expect.get("provider") {
            same("provider", provider.as_str(), self.name())?;
        }
        if let Some(held_by) = expect.get("held_by") {
            same("held_by", name_of(&HOLDS, named(&HOLDS, held_by)?), name_of(&HOLDS, self.held_by))?;
        }
        if let Some(dimension) = expect.get("held_dimension") {
            let code = if dimension.is_null() { 0 } else { named(&DIMENSIONS, dimension)? };
            same("held_dimension", name_of(&DIMENSIONS, code), name_of(&DIMENSIONS, self.held_dimension))?;
        }
        for (what, got) in [("held_window_ns", self.held_window_ns), ("retry_after_ns", self.retry_after_ns)] {
            if let Some(expected) = expect.get(what) {
                compare_integer(what, expected, got)?;
            }
        }
        let doubles = [("score", self.score), ("seconds_to_exhaustion", self.seconds_to_exhaustion)];
        for (what, got) in doubles.into_iter().chain(COMPONENTS.into_iter().zip(self.components)) {
            if let Some(expected) = expect.get(what) {
                compare(what, expected, got, within)?;
            }
        }
        if let Some(weights) = expect.get("weights") {
            let weights = object(weights)?;
            only(weights, &[&COMPONENTS])?;
            let mut sum = 0.0;
            for (what, got) in COMPONENTS.into_iter().zip(self.components) {
                sum += number(get(weights, what)?)? * got;
            }
            compare("the score against the weighted components", &Value::from(sum), self.score, within)?;
        }
        Ok(())
    }
}

fn candidates(expected: &Value, rows: &[grate_candidate]) -> Outcome {
    let expected = expected.as_array().ok_or("candidates must be an array")?;
    let seen: Vec<Seen> = rows.iter().map(Seen::row).collect();
    let wanted: Vec<Option<&str>> =
        expected.iter().map(|e| e.as_str().or_else(|| e.get("provider").and_then(Value::as_str))).collect();
    same("candidates", wanted, seen.iter().map(Seen::name).collect())?;
    for (i, (expected, seen)) in expected.iter().zip(&seen).enumerate() {
        if let Value::Object(expected) = expected {
            only(expected, &[&DECISION_FIELDS])?;
            seen.matches(expected).map_err(|e| format!("candidate {}: {e}", i + 1))?;
        }
    }
    Ok(())
}

fn response(a: &Object) -> Result<grate_response, String> {
    const NS_PER_MS: u64 = 1_000_000;
    // In a scenario 0 is a true zero, which C spells GRATE_ZERO.
    let given = |field: &str, unit: u64| match a.get(field).map(integer).transpose()? {
        None => Ok::<u64, String>(0),
        Some(0) => Ok(GRATE_ZERO),
        Some(n) => Ok(n * unit),
    };
    let mut r = init!(grate_response);
    r.outcome = a.get("outcome").map_or(Ok(0), |o| named(&OUTCOMES, o))?;
    r.http_status = i32::try_from(optional(a, "http_status")?).map_err(|e| e.to_string())?;
    r.latency_ns = given("latency_ms", NS_PER_MS)?;
    r.retry_after_ns = given("retry_after_ms", NS_PER_MS)?;
    r.requests = given("requests", 1)?;
    r.tokens = given("tokens", 1)?;
    r.input_tokens = given("input_tokens", 1)?;
    r.output_tokens = given("output_tokens", 1)?;
    r.bytes = given("bytes", 1)?;
    r.cost_micro_usd = given("cost_micro_usd", 1)?;
    Ok(r)
}

/// Compares the status of a call with `expect.error` of its step.
fn settled(a: &Object, status: i32, err: &grate_error) -> Outcome {
    let nothing = Object::new();
    let expect = a.get("expect").map_or(Ok(&nothing), object)?;
    only(expect, &[&["error"]])?;
    status_is(expect.get("error"), status, err).map(drop)
}

fn status_is(expected: Option<&Value>, status: i32, err: &grate_error) -> Result<i32, String> {
    let expected = expected.map_or(Ok("GRATE_OK"), string)?;
    let got = unsafe { CStr::from_ptr(grate_status_name(status)) }.to_str().unwrap();
    let message = unsafe { CStr::from_ptr(err.message.as_ptr()) }.to_str().unwrap();
    if got != expected {
        return Err(format!("expected {expected}, got {got} ({message})"));
    }
    same("err.code", status, err.code)?;
    same("an empty message", status == GRATE_OK, message.is_empty())?;
    Ok(status)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, got: T) -> Outcome {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {got:?}")) }
}

fn compare_integer(what: &str, expected: &Value, got: u64) -> Outcome {
    let fits = match expected {
        Value::String(s) if s == "never" => got == GRATE_NEVER,
        Value::Object(range) => {
            only(range, &[&["min", "max"]])?;
            let min = range.get("min").map_or(Ok(0), integer)?;
            let max = range.get("max").map_or(Ok(u64::MAX), integer)?;
            (min..=max).contains(&got)
        }
        exact => got == integer(exact)?,
    };
    if fits { Ok(()) } else { Err(format!("{what}: expected {expected}, got {got}")) }
}

fn compare(what: &str, expected: &Value, got: f64, within: f64) -> Outcome {
    let fits = match expected {
        Value::String(s) if s == "never" => got == f64::INFINITY,
        Value::Object(range) => {
            only(range, &[&["min", "max"]])?;
            let min = range.get("min").map_or(Ok(f64::NEG_INFINITY), number)?;
            let max = range.get("max").map_or(Ok(f64::INFINITY), number)?;
            (min..=max).contains(&got)
        }
        near => (got - number(near)?).abs() <= within,
    };
    if fits { Ok(()) } else { Err(format!("{what}: expected {expected} within {within}, got {got}")) }
}

fn within(a: &Object) -> Result<f64, String> {
    a.get("within").map_or(Ok(DEFAULT_WITHIN), number)
}

fn named(table: &[(&str, i32)], value: &Value) -> Result<i32, String> {
    let name = string(value)?;
    table.iter().find(|(known, _)| *known == name).map(|(_, code)| *code).ok_or(format!("unknown name '{name}'"))
}

fn name_of<'a>(table: &[(&'a str, i32)], code: i32) -> Option<&'a str> {
    table.iter().find(|(_, known)| *known == code).map(|(name, _)| *name)
}

/// A misspelt key would be a check that is never made.
fn only(object: &Object, known: &[&[&str]]) -> Outcome {
    match object.keys().find(|key| !known.iter().any(|list| list.contains(&key.as_str()))) {
        Some(key) => Err(format!("unknown key '{key}'")),
        None => Ok(()),
    }
}

fn get<'a>(object: &'a Object, key: &str) -> Result<&'a Value, String> {
    object.get(key).ok_or(format!("'{key}' is missing"))
}

fn object(value: &Value) -> Result<&Object, String> {
    value.as_object().ok_or(format!("{value} is not an object"))
}

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or(format!("{value} is not a string"))
}

fn c_string(value: &Value) -> Result<CString, String> {
    CString::new(string(value)?).map_err(|e| e.to_string())
}

fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or(format!("{value} is not a number"))
}

fn integer(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or(format!("{value} is not a whole number"))
}

fn optional(object: &Object, key: &str) -> Result<u64, String> {
    object.get(key).map_or(Ok(0), integer)
}
