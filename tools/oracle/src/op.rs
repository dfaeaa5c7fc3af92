//! Calls and their arguments, made of bytes.

use std::ffi::CStr;

use grate::capi::*;

use crate::api::{Field, QuotaConfig, new};
use crate::input::Input;

pub(crate) const SEC: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const DAY: u64 = 86_400 * SEC;

pub(crate) const PROVIDERS: [&CStr; 4] = [c"a", c"b", c"c", c"d"];
pub(crate) const CAPABILITIES: [&CStr; 3] = [c"all", c"two", c"one"];

/// The dimensions that requests and responses tell of, in the order of [`Amounts`], with their names in JSON.
pub(crate) const TOLD: [(i32, &str); 5] = [
    (GRATE_DIMENSION_TOKENS, "tokens"),
    (GRATE_DIMENSION_INPUT_TOKENS, "input_tokens"),
    (GRATE_DIMENSION_OUTPUT_TOKENS, "output_tokens"),
    (GRATE_DIMENSION_BYTES, "bytes"),
    (GRATE_DIMENSION_COST_MICRO_USD, "cost_micro_usd"),
];
/// Amounts of these as the C structs have them: 0 is not given, `GRATE_ZERO` is none.
pub(crate) type Amounts = [u64; TOLD.len()];

#[derive(Debug)]
pub(crate) enum Op {
    Advance(Time),
    /// Sets the clock back by so much.
    SetBack(u64),
    /// Acquires too, after a look.
    Decide {
        acquire: bool,
        capability: usize,
        ask: Ask,
    },
    /// Acquires until nothing is available, then waits as long as it is told to.
    WaitOut {
        capability: usize,
        ask: Ask,
    },
    Complete(Handle, Answer),
    Cancel(Handle),
    Observe(usize, Answer),
    Define(usize, Definition),
    RemoveProvider(usize),
    /// With a priority each.
    SetCapability(usize, Vec<(usize, u32)>),
    RemoveCapability(usize),
    /// Calls that must be refused and change nothing.
    Refused(u8),
    /// Every inspection there is.
    Inspect,
    /// Frees the engine, makes another.
    StartAgain,
}

#[derive(Debug)]
pub(crate) enum Time {
    By(u64),
    /// To this many nanoseconds from when a charge leaves its window, a lease expires or the like.
    Edge {
        which: u8,
        offset: i8,
    },
}

/// A lease: one that is out, one that was, or any number.
#[derive(Debug)]
pub(crate) enum Handle {
    Open(usize),
    Dead(usize),
    Number(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) amounts: Amounts,
    pub(crate) headroom: f64,
    pub(crate) exclude: Vec<usize>,
    /// So many candidates are asked for, after all of them were.
    pub(crate) room: usize,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: i32,
    pub(crate) http_status: i32,
    pub(crate) latency_ns: u64,
    pub(crate) retry_after_ns: u64,
    pub(crate) requests: u64,
    pub(crate) amounts: Amounts,
    pub(crate) headers: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Struct,
    Json,
    /// A document that replaces all there is.
    Replace,
}

#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) form: Form,
    pub(crate) priority: u32,
    pub(crate) weight: f64,
    pub(crate) cooldown_seconds: f64,
    pub(crate) quotas: Vec<QuotaConfig>,
}

impl Op {
    pub(crate) fn read(from: &mut Input<'_>) -> Self {
        match from.byte() % 64 {
            0..=9 => Self::Advance(Time::read(from)),
            10 => Self::SetBack(from.pick(&[1, MS, SEC, 60 * SEC, DAY, u64::MAX])),
            11..=13 => Self::Decide { acquire: false, capability: from.below(3), ask: Ask::read(from) },
            14..=31 => Self::Decide { acquire: true, capability: from.below(3), ask: Ask::read(from) },
            32..=33 => Self::WaitOut { capability: from.below(3), ask: Ask::read(from) },
            34..=43 => Self::Complete(Handle::read(from), Answer::read(from)),
            44..=47 => Self::Cancel(Handle::read(from)),
            48..=51 => Self::Observe(from.below(4), Answer::read(from)),
            52..=55 => Self::Define(from.below(4), Definition::read(from)),
            56 => Self::RemoveProvider(from.below(4)),
            57..=58 => Self::SetCapability(from.below(3), capability(from)),
            59 => Self::RemoveCapability(from.below(3)),
            60..=61 => Self::Refused(from.byte()),
            62 => Self::Inspect,
            _ => Self::StartAgain,
        }
    }
}

impl Time {
    fn read(from: &mut Input<'_>) -> Self {
        match from.byte() % 8 {
            0 => Self::By(0),
            1 => Self::By(from.number()),
            2 => Self::By(from.number() % 1000 * MS),
            3 => Self::By(from.number() % 100 * SEC),
            4 => Self::By(from.pick(&[MS, SEC, 10 * SEC, 60 * SEC, 3600 * SEC, DAY, 366 * DAY])),
            _ => Self::Edge { which: from.byte(), offset: from.pick(&[-1, 0, 1]) },
        }
    }
}

impl Handle {
    fn read(from: &mut Input<'_>) -> Self {
        let which = usize::from(from.byte());
        match which {
            0..=219 => Self::Open(which),
            220..=249 => Self::Dead(usize::from(from.byte())),
            _ => Self::Number(from.u64()),
        }
    }
}

/// What a request or response says of what it uses: mostly something of each, or else it is learned.
fn amounts(from: &mut Input<'_>) -> Amounts {
    let given = |n: u64| if n == 0 { GRATE_ZERO } else { n };
    match from.byte() % 16 {
        0..=7 => [given(from.number()), GRATE_ZERO, GRATE_ZERO, GRATE_ZERO, GRATE_ZERO],
        8..=12 => std::array::from_fn(|_| given(from.number())),
        13..=14 => std::array::from_fn(|_| from.number()),
        _ => [0; TOLD.len()],
    }
}

impl Ask {
    fn read(from: &mut Input<'_>) -> Self {
        let exclude = if from.once_in(4) { from.byte() } else { 0 };
        Self {
            amounts: amounts(from),
            headroom: if from.once_in(4) { from.pick(&[0.1, 0.25, 0.5, 0.9, 0.999, f64::MIN_POSITIVE]) } else { 0.0 },
            exclude: (0..PROVIDERS.len()).filter(|i| exclude >> i & 1 == 1).collect(),
            room: from.below(PROVIDERS.len()),
        }
    }

    pub(crate) fn request(&self) -> grate_request {
        let mut request = new(grate_request_init);
        let [tokens, input_tokens, output_tokens, bytes, cost_micro_usd] = self.amounts;
        (request.tokens, request.input_tokens, request.output_tokens) = (tokens, input_tokens, output_tokens);
        (request.bytes, request.cost_micro_usd) = (bytes, cost_micro_usd);
        request.headroom = self.headroom;
        request
    }
}

impl Answer {
    fn read(from: &mut Input<'_>) -> Self {
        let (outcome, http_status) = match from.byte() {
            0..=159 => (GRATE_OUTCOME_SUCCESS, 0),
            160..=199 => (from.pick(&FAILURES), 0),
            200..=209 => (from.pick(&[GRATE_OUTCOME_RATE_LIMITED, GRATE_OUTCOME_QUOTA_EXHAUSTED]), 0),
            _ => (
                0,
                from.pick(&[100, 200, 204, 302, 400, 401, 402, 403, 404, 408, 418, 429, 500, 503, 529, 600, i32::MAX]),
            ),
        };
        Self {
            outcome,
            http_status,
            latency_ns: from.pick(&[0, 0, 1, MS, SEC, 60 * SEC, GRATE_ZERO, u64::MAX - 1]),
            retry_after_ns: from.pick(&[0, 0, 0, 0, 0, 1, SEC, 60 * SEC, 2 * DAY, 400 * DAY, GRATE_ZERO, u64::MAX - 1]),
            requests: if from.once_in(8) { from.pick(&[GRATE_ZERO, 1, 2, 70, u64::MAX - 1]) } else { 0 },
            amounts: amounts(from),
            headers: if from.once_in(16) { headers(from) } else { Vec::new() },
        }
    }

    pub(crate) fn response(&self) -> grate_response {
        let mut response = new(grate_response_init);
        let [tokens, input_tokens, output_tokens, bytes, cost_micro_usd] = self.amounts;
        (response.outcome, response.http_status) = (self.outcome, self.http_status);
        (response.latency_ns, response.retry_after_ns) = (self.latency_ns, self.retry_after_ns);
        (response.requests, response.tokens) = (self.requests, tokens);
        (response.input_tokens, response.output_tokens) = (input_tokens, output_tokens);
        (response.bytes, response.cost_micro_usd) = (bytes, cost_micro_usd);
        response
    }

    /// The outcome, as the header derives it from the status.
    pub(crate) fn outcome(&self) -> i32 {
        match self.http_status {
            _ if self.outcome != 0 => self.outcome,
            429 => GRATE_OUTCOME_RATE_LIMITED,
            401..=403 => GRATE_OUTCOME_FORBIDDEN,
            408 => GRATE_OUTCOME_TIMEOUT,
            503 | 529 => GRATE_OUTCOME_OVERLOADED,
            400..=499 => GRATE_OUTCOME_CLIENT_ERROR,
            500.. => GRATE_OUTCOME_SERVER_ERROR,
            _ => GRATE_OUTCOME_SUCCESS,
        }
    }
}

/// Outcomes that teach no limit.
const FAILURES: [i32; 6] = [
    GRATE_OUTCOME_FORBIDDEN,
    GRATE_OUTCOME_SERVER_ERROR,
    GRATE_OUTCOME_OVERLOADED,
    GRATE_OUTCOME_TIMEOUT,
    GRATE_OUTCOME_CLIENT_ERROR,
    GRATE_OUTCOME_CANCELLED,
];

fn headers(from: &mut Input<'_>) -> Vec<Field> {
    let names = ["limit-requests", "remaining-requests", "reset-requests", "limit-tokens", "remaining-tokens"];
    let mut lines: Vec<Field> = Vec::new();
    for name in names {
        if from.once_in(2) {
            lines.push((format!("x-ratelimit-{name}").into(), from.number().to_string().into()));
        }
    }
    if from.once_in(4) {
        lines.push((b"Retry-After".to_vec(), from.number().to_string().into()));
    }
    if from.once_in(8) {
        let len = from.below(40);
        lines.push((b"RateLimit".to_vec(), from.bytes(len).to_vec()));
    }
    lines
}

impl Definition {
    pub(crate) fn read(from: &mut Input<'_>) -> Self {
        let form = from.pick(&[Form::Struct, Form::Struct, Form::Struct, Form::Json, Form::Json, Form::Replace]);
        let priority = from.pick(&[0, 1, 5, 10, 1_000_000]);
        let weight = from.pick(&[0.0, 0.5, 1.0, 3.0, f64::MAX]);
        let cooldown_seconds = from.pick(&[0.0, 1e-9, 2.0, 31_622_400.0]);
        let mut quotas: Vec<QuotaConfig> = Vec::new();
        for _ in 0..from.below(6) {
            let quota = quota(from);
            let same =
                |q: &QuotaConfig| (q.dimension, q.window_ns, q.pool) == (quota.dimension, quota.window_ns, quota.pool);
            if !quotas.iter().any(same) {
                quotas.push(quota);
            }
        }
        Self { form, priority, weight, cooldown_seconds, quotas }
    }
}

fn quota(from: &mut Input<'_>) -> QuotaConfig {
    let dimension = from.pick(&[1, 1, 1, 2, 2, 3, 4, 5, 5, 6, 7]);
    let limit = match from.byte() {
        small @ 0..=159 => u64::from(small % 12),
        medium @ 160..=219 => u64::from(medium - 160) * 4,
        _ => from.number(),
    };
    let pool = from.pick(&[None, None, Some(c"p"), Some(c"q")]);
    let mut quota = QuotaConfig { dimension, limit, window_ns: 0, strategy: 0, burst: 0, phase_ns: 0, pool };
    if dimension != GRATE_DIMENSION_CONCURRENCY {
        quota.window_ns = from.pick(&[MS, SEC, SEC, 7 * SEC, 60 * SEC, 60 * SEC, 3600 * SEC, DAY, 366 * DAY]);
        quota.strategy = from.pick(&[0, 0, 1, 2, 2, 3, 3]);
        match quota.strategy {
            GRATE_STRATEGY_TOKEN_BUCKET => quota.burst = from.pick(&[0, 0, 1, 3, limit.saturating_mul(2), u64::MAX]),
            GRATE_STRATEGY_FIXED_WINDOW => {
                let window = i64::try_from(quota.window_ns).expect("a window is no longer than 366 days");
                // JSON has milliseconds.
                quota.phase_ns = from.pick(&[0, 0, window / 2, -window / 4]) / MS as i64 * MS as i64;
            }
            _ => {}
        }
    }
    quota
}

fn capability(from: &mut Input<'_>) -> Vec<(usize, u32)> {
    let mut list: Vec<(usize, u32)> = Vec::new();
    for _ in 0..from.below(5) {
        let provider = from.below(PROVIDERS.len());
        if !list.iter().any(|(known, _)| *known == provider) {
            list.push((provider, from.pick(&[0, 0, 1, 7, 1_000_000, GRATE_PRIORITY_ZERO])));
        }
    }
    list
}
