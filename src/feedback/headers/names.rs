//! Names of counter fields: which quota a field speaks of, and what it says of it.
//!
//! Providers build these names from one small vocabulary in any order
//! (`x-ratelimit-limit-requests`, `anthropic-ratelimit-requests-limit`), so a
//! name is read word by word.

use crate::config::Dimension;

use super::number::{count, fit_i64};

/// What a counter field tells of its quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Limit,
    Remaining,
    Reset,
    /// Like `Reset`, but never an instant (Discord).
    ResetAfter,
    /// The window, in milliseconds (HubSpot).
    Interval,
    /// Limits with their windows, in the order of the others (Brave Search).
    Policy,
}

/// The quota that a counter field belongs to.
#[derive(Clone, Copy)]
pub(super) struct QuotaName<'a> {
    /// The name of one of its fields.
    field: &'a [u8],
    pub(super) dimension: Dimension,
    /// The window, if the name tells it.
    pub(super) window_ms: Option<u64>,
}

/// Neighbouring words after which the vocabulary begins. What comes before
/// them names the provider.
struct Marker {
    /// Empty for any word.
    first: &'static str,
    second: &'static str,
    /// What is counted, if the marker tells it.
    dimension: Option<Dimension>,
    /// Whether a name without a role is that of a limit.
    is_limit: bool,
}

static MARKERS: [Marker; 7] = [
    Marker::new("", "ratelimit").or_limit(),
    Marker::new("rate", "limit").or_limit(),
    Marker::new("", "tokenlimit").of(Dimension::Tokens), // Together
    Marker::new("anthropic", "priority"),                // Anthropic's priority tier
    Marker::new("app", "limit"),                         // X: `x-app-limit-24hour-limit`
    Marker::new("user", "limit"),                        // X: `x-user-limit-24hour-limit`
    Marker::new("endpoint", "call"),                     // Cohere: `x-trial-endpoint-call-limit`
];

impl Marker {
    const fn new(first: &'static str, second: &'static str) -> Self {
        Self { first, second, dimension: None, is_limit: false }
    }

    const fn or_limit(mut self) -> Self {
        self.is_limit = true;
        self
    }

    const fn of(mut self, dimension: Dimension) -> Self {
        self.dimension = Some(dimension);
        self
    }
}

/// Amazon's Selling Partner API sends a rate, not a count, under a counter's name.
const RATE_SENDER: &str = "amzn";

/// The longer phrase first where one begins with the other.
const ROLES: [(&[&str], Role); 7] = [
    (&["limit"], Role::Limit),
    (&["max"], Role::Limit), // HubSpot
    (&["remaining"], Role::Remaining),
    (&["reset", "after"], Role::ResetAfter),
    (&["reset"], Role::Reset),
    (&["interval", "milliseconds"], Role::Interval),
    (&["policy"], Role::Policy),
];

const DIMENSIONS: [(&str, Dimension); 9] = [
    ("requests", Dimension::Requests),
    ("request", Dimension::Requests),
    ("req", Dimension::Requests),    // Mistral
    ("reads", Dimension::Requests),  // Azure Resource Manager
    ("writes", Dimension::Requests), // likewise
    ("deletes", Dimension::Requests),
    ("tokens", Dimension::Tokens),
    ("concurrent", Dimension::Concurrency),
    ("complexity", Dimension::CostMicroUsd), // Linear
];

/// Words that tell which tokens.
const TOKEN_KINDS: [(&str, Dimension); 5] = [
    ("input", Dimension::InputTokens),
    ("prompt", Dimension::InputTokens), // Fireworks
    ("output", Dimension::OutputTokens),
    ("generated", Dimension::OutputTokens), // Fireworks
    ("completion", Dimension::OutputTokens),
];

/// Windows of a fixed length; a month has none.
const WINDOWS: [(&str, u64); 8] = [
    ("second", 1_000),
    ("secondly", 1_000),
    ("minute", 60_000),
    ("minutely", 60_000),
    ("hour", 3_600_000),
    ("hourly", 3_600_000),
    ("day", 86_400_000),
    ("daily", 86_400_000),
];

/// Windows of no fixed length, and numbers apart from their unit. What they count must not be taken for what is counted in
/// another window.
fn is_unfit_window(word: &[u8]) -> bool {
    const UNFIT: [&str; 9] = ["week", "weekly", "weeks", "month", "monthly", "months", "year", "yearly", "annual"];
    UNFIT.iter().any(|known| is(word, known)) || word.iter().all(u8::is_ascii_digit)
}

/// Reads the name of a counter field; `None` if it is not one.
pub(super) fn read(field: &[u8]) -> Option<(QuotaName<'_>, Role)> {
    let mut words = words(field);
    let marker = skip_marker(&mut words)?;
    let mut dimension = marker.dimension;
    let (mut role, mut token_kind, mut window_ms) = (None, None, None);
    let mut has_other_words = false;
    loop {
        if let Some(found) = take_role(&mut words) {
            if role.replace(found).is_some() {
                return None;
            }
            continue;
        }
        let Some(word) = words.next() else { break };
        if let Some(found) = look_up(&DIMENSIONS, word) {
            dimension.get_or_insert(found);
        } else if let Some(found) = look_up(&TOKEN_KINDS, word) {
            token_kind = Some(found);
        } else if let Some(found) = window(word) {
            window_ms = Some(found);
        } else if is_unfit_window(word) {
            return None;
        } else if !is(word, "per") {
            has_other_words = true;
        }
    }
    // Zendesk's `X-Rate-Limit` and HubSpot's `...-Daily` are limits without the word.
    let says_limit = marker.is_limit && dimension.is_none() && !has_other_words;
    let role = role.or(says_limit.then_some(Role::Limit))?;
    let dimension = match (dimension, token_kind) {
        (Some(Dimension::Tokens), Some(kind)) => kind,
        (Some(dimension), None) => dimension,
        // Without a unit a counter counts requests, unless words that are not
        // known may be its unit (RapidAPI's objects of the seller's choice).
        (None, None) if !has_other_words => Dimension::Requests,
        _ => return None,
    };
    let quota = QuotaName { field, dimension, window_ms };
    Some((quota, role))
}

impl<'a> QuotaName<'a> {
    /// The quota of the drafts' own fields (`RateLimit-Limit`, ...).
    pub(super) const STANDARD: Self = Self { field: b"ratelimit", dimension: Dimension::Requests, window_ms: None };

    /// Whether fields of the two names tell of one quota: they differ in the role only.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        same_words(self.own_words(), other.own_words())
    }

    /// Whether the names are spellings of each other: `x-rate-limit`,
    /// `x-ratelimit` and `ratelimit` are one name in three.
    pub(super) fn is_respelled(&self, other: &Self) -> bool {
        let spelled_alike = |name: &Self| {
            name.own_words()
                .filter(|word| !is(word, "x"))
                // The `limit` of `rate-limit` is not among the own words.
                .map(|word| if is(word, "rate") { b"ratelimit" } else { word })
        };
        same_words(spelled_alike(self), spelled_alike(other))
    }

    /// The words that no role has.
    fn own_words(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        words(self.field).filter(|word| {
            let mut of_roles = ROLES.iter().flat_map(|(phrase, _)| phrase.iter());
            !of_roles.any(|of_role| is(word, of_role))
        })
    }
}

fn words(name: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    name.split(|&byte| byte == b'-' || byte == b'_').filter(|word| !word.is_empty())
}

fn is(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

fn look_up<T: Copy>(table: &[(&str, T)], word: &[u8]) -> Option<T> {
    let (_, found) = table.iter().find(|(known, _)| is(word, known))?;
    Some(*found)
}

fn same_words<'a>(mut left: impl Iterator<Item = &'a [u8]>, mut right: impl Iterator<Item = &'a [u8]>) -> bool {
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(left), Some(right)) if left.eq_ignore_ascii_case(right) => {}
            _ => return false,
        }
    }
}

/// Moves past the marker.
fn skip_marker<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> Option<&'static Marker> {
    let mut previous: &[u8] = b"";
    loop {
        let word = words.next()?;
        if is(word, RATE_SENDER) {
            return None;
        }
        let is_here =
            |marker: &&Marker| is(word, marker.second) && (marker.first.is_empty() || is(previous, marker.first));
        if let Some(marker) = MARKERS.iter().find(is_here) {
            return Some(marker);
        }
        previous = word;
    }
}

/// Moves past the words of a role.
fn take_role<'a>(words: &mut (impl Iterator<Item = &'a [u8]> + Clone)) -> Option<Role> {
    ROLES.iter().find_map(|(phrase, role)| {
        let mut ahead = words.clone();
        let is_next = |known: &&str| ahead.next().is_some_and(|word| is(word, known));
        phrase.iter().all(is_next).then(|| {
            *words = ahead;
            *role
        })
    })
}

/// The length of a window that a word names, maybe many times over (`24hour`).
fn window(word: &[u8]) -> Option<u64> {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (times, unit) = word.split_at_checked(digits)?;
    let times = if times.is_empty() { 1 } else { count(times)? };
    let unit_ms = look_up(&WINDOWS, unit)?;
    fit_i64(u128::from(times) * u128::from(unit_ms)).filter(|&ms| ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dimension::*;

    #[test]
    fn reads_words_in_any_order() {
        for (name, dimension, window_ms, role) in [
            ("x-ratelimit-limit-requests", Requests, None, Role::Limit),
            ("anthropic-ratelimit-requests-limit", Requests, None, Role::Limit),
            ("anthropic-ratelimit-input-tokens-reset", InputTokens, None, Role::Reset),
            ("anthropic-priority-output-tokens-remaining", OutputTokens, None, Role::Remaining),
            ("x-ratelimit-remaining-tokens-generated", OutputTokens, None, Role::Remaining),
            ("X-RateLimit-Reset-After", Requests, None, Role::ResetAfter),
            ("x-ratelimit-limit-req-minute", Requests, Some(60_000), Role::Limit),
            ("x-ratelimit-reset-tokens-per-day", Tokens, Some(86_400_000), Role::Reset),
            ("x-app-limit-24hour-remaining", Requests, Some(86_400_000), Role::Remaining),
            ("X-Rate-Limit", Requests, None, Role::Limit),
            ("X-Rate-Limit-Limit", Requests, None, Role::Limit),
            ("X-HubSpot-RateLimit-Daily", Requests, Some(86_400_000), Role::Limit),
            ("X-HubSpot-RateLimit-Secondly-Remaining", Requests, Some(1000), Role::Remaining),
            ("X-HubSpot-RateLimit-Max", Requests, None, Role::Limit),
            ("X-HubSpot-RateLimit-Interval-Milliseconds", Requests, None, Role::Interval),
            ("x-tokenlimit-remaining", Tokens, None, Role::Remaining),
            ("x-trial-endpoint-call-limit", Requests, None, Role::Limit),
            ("x-ms-ratelimit-remaining-subscription-reads", Requests, None, Role::Remaining),
            ("X-RateLimit-Complexity-Limit", CostMicroUsd, None, Role::Limit),
            ("x-ratelimit-limit-concurrent-requests", Concurrency, None, Role::Limit),
        ] {
            let (quota, found) = read(name.as_bytes()).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((quota.dimension, quota.window_ms, found), (dimension, window_ms, role), "{name}");
        }
    }

    #[test]
    fn leaves_other_names_alone() {
        for name in [
            "",
            "-",
            "content-type",
            "limit",
            "x-ratelimit-used",
            "x-ratelimit-resource",
            "X-RateLimit-Bucket",
            "X-RateLimit-NearLimit",
            "x-ratelimit-over-limit",
            "x-user-limit",
            "x-tokenlimit",
            "x-ratelimit-tokens-query-cost",
            "x-ratelimit-api-units-remaining",
            "x-ratelimit-limit-0hour",
            "x-ratelimit-limit-remaining",
            "x-ratelimit-limit-input",
            "RateLimit-Name",
            "RateLimit-ResetTime",
            "x-amzn-RateLimit-Limit",
            "x-endpoint-monthly-call-limit",
            "Stripe-Rate-Limited-Reason",
            "X-MBX-USED-WEIGHT-1M",
            "anthropic-ratelimit-unified-5h-utilization",
        ] {
            assert!(read(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn fields_of_one_quota_differ_in_the_role_only() {
        let quota = |name: &'static str| read(name.as_bytes()).unwrap().0;
        let limit = quota("x-ratelimit-limit-tokens");
        assert!(limit.is_same(&quota("X-RateLimit-Tokens-Reset")));
        assert!(!limit.is_same(&quota("x-ratelimit-limit-tokens_usage_based")));
        assert!(!limit.is_same(&quota("x-ratelimit-limit-project-tokens")));
        assert!(!limit.is_same(&quota("ratelimit-limit-tokens")));
        assert!(limit.is_respelled(&quota("ratelimit-limit-tokens")));
        assert!(QuotaName::STANDARD.is_same(&quota("RateLimit-Reset")));
        assert!(QuotaName::STANDARD.is_respelled(&quota("X-Rate-Limit")));
        assert!(!QuotaName::STANDARD.is_respelled(&quota("X-HubSpot-RateLimit-Remaining")));
    }
}
