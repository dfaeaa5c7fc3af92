//! The `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers, all versions:
//!
//! - to -03: `RateLimit-Limit: 100, 100;w=10` with `-Remaining` and `-Reset`;
//! - to -06: the windows move to `RateLimit-Policy: 100;w=10`;
//! - -07: the first three become `RateLimit: limit=100, remaining=50, reset=5`;
//! - from -08: `RateLimit: "name";r=50;t=5`, `RateLimit-Policy: "name";q=100;w=10`.

use crate::config::Dimension;

use super::counters::Counters;
use super::field::Field;
use super::names::{QuotaName, Role};
use super::slots::Slots;
use super::structured::{self, Bare, Item, MAX_MEMBERS};
use super::{QuotaReport, Report};

/// A `*-Limit` field. Its first member is the limit in force, the others are policies.
#[derive(Default)]
pub(super) struct Limit {
    pub(super) count: Option<u64>,
    pub(super) window_ms: Option<u64>,
    pub(super) policies: Policies,
}

pub(super) type Policies = Slots<Policy, MAX_MEMBERS>;

/// A policy of the drafts to -07, known by its number: `100;w=10`.
pub(super) struct Policy {
    limit: u64,
    window_ms: u64,
}

impl Limit {
    /// A limit that came without policies.
    pub(super) fn bare(count: u64) -> Self {
        Self { count: Some(count), ..Self::default() }
    }

    /// Reads the form of draft -03, which is also Docker Hub's and WHOOP's.
    pub(super) fn read(field: &Field) -> Option<Self> {
        let members = structured::list(field)?;
        let mut members = members.iter();
        let (count, window_ms) = number_and_window(members.next()?)?;
        let mut policies = Policies::default();
        for member in members {
            policies.push(Policy::read(member)?);
        }
        Some(Self { count: Some(count), window_ms, policies })
    }
}

/// Reads `RateLimit-Policy` as the drafts -04 to -07 have it.
pub(super) fn policies(field: &Field) -> Option<Policies> {
    let mut policies = Policies::default();
    for member in structured::list(field)?.iter() {
        policies.push(Policy::read(member)?);
    }
    Some(policies)
}

impl Policy {
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// A policy must have a window.
    fn read(member: &Item) -> Option<Self> {
        let (limit, window_ms) = number_and_window(member)?;
        window_ms.map(|window_ms| Self { limit, window_ms })
    }

    /// Gives the quota of the same number its window, or is reported alone.
    pub(super) fn join(&self, quota: &mut QuotaReport, report: &mut Report) {
        let is_of_quota =
            quota.limit == Some(self.limit) && *quota.window_ms.get_or_insert(self.window_ms) == self.window_ms;
        if !is_of_quota {
            report.add(QuotaReport {
                limit: Some(self.limit),
                window_ms: Some(self.window_ms),
                ..QuotaReport::unknown(quota.dimension)
            });
        }
    }
}

/// One `100` or `100;w=10`.
fn number_and_window(member: &Item) -> Option<(u64, Option<u64>)> {
    // WHOOP writes `window` for `w`.
    let window = member.parameter(b"w").or(member.parameter(b"window"));
    Some((member.value.natural()?, window.and_then(window_in_ms)))
}

/// Docker Hub's `RateLimit-Remaining: 20;w=21600`.
pub(super) fn count_and_window(text: &[u8]) -> Option<(u64, Option<u64>)> {
    let mut field = Field::default();
    field.add(text);
    let members = structured::list(&field)?;
    let mut members = members.iter();
    let only = members.next()?;
    members.next().is_none().then(|| number_and_window(only))?
}

/// Draft -07 folds three fields into one; it is unfolded into them again.
pub(super) fn unfold<'a>(rate_limit: &Field<'a>, policy: &Field<'a>, counters: &mut Counters<'a>) {
    let Some(counter) = counters.of(QuotaName::STANDARD) else {
        return;
    };
    counter.policy = *policy;
    let Some(dictionary) = structured::dictionary(rate_limit) else {
        return;
    };
    for (key, role) in [(&b"limit"[..], Role::Limit), (b"remaining", Role::Remaining), (b"reset", Role::Reset)] {
        // Of repeated keys the last counts (RFC 9651 section 4.2.2).
        if let Some((_, item)) = dictionary.iter().rfind(|(found, _)| *found == key) {
            counter.add(role, item.text);
        }
    }
}

/// Reports the named policies of draft -08 and later. Items of the two fields
/// belong together by name.
pub(super) fn report_named(rate_limit: &Field, policy: &Field, report: &mut Report) {
    let states = named_items(rate_limit).unwrap_or_default();
    let policies = named_items(policy).unwrap_or_default();
    for state in states.iter() {
        let policy = policies.iter().find(|policy| policy.value == state.value);
        if let Some(dimension) = policy.map_or(Some(Dimension::Requests), quota_unit) {
            report.add(QuotaReport {
                dimension,
                limit: policy.and_then(|policy| policy.parameter(b"q")?.natural()),
                remaining: state.parameter(b"r").and_then(Bare::natural),
                reset_in_ms: state.parameter(b"t").and_then(seconds_in_ms),
                window_ms: policy.and_then(|policy| window_in_ms(policy.parameter(b"w")?)),
            });
        }
    }
    for policy in policies.iter() {
        let has_state = states.iter().any(|state| state.value == policy.value);
        if let (false, Some(dimension)) = (has_state, quota_unit(policy)) {
            report.add(QuotaReport {
                limit: policy.parameter(b"q").and_then(Bare::natural),
                window_ms: policy.parameter(b"w").and_then(window_in_ms),
                ..QuotaReport::unknown(dimension)
            });
        }
    }
}

/// The items of a field whose values must all be Strings (draft -10 sections 3 and 4).
fn named_items<'a>(field: &Field<'a>) -> Option<structured::List<'a>> {
    structured::list(field).filter(|items| items.iter().all(|item| matches!(item.value, Bare::String(_))))
}

/// The registry of quota units. A count in an unknown unit is of no use.
fn quota_unit(policy: &Item) -> Option<Dimension> {
    match policy.parameter(b"qu") {
        None | Some(Bare::String(b"requests")) => Some(Dimension::Requests),
        Some(Bare::String(b"content-bytes")) => Some(Dimension::Bytes),
        Some(Bare::String(b"concurrent-requests")) => Some(Dimension::Concurrency),
        _ => None,
    }
}

/// An Integer of at most 15 digits in milliseconds, so an `i64` holds the product.
fn seconds_in_ms(seconds: Bare) -> Option<u64> {
    seconds.natural()?.checked_mul(1000)
}

/// A window must not be zero.
fn window_in_ms(seconds: Bare) -> Option<u64> {
    seconds_in_ms(seconds).filter(|&ms| ms > 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse_text, quotas};
    use crate::config::Dimension::{Bytes, Concurrency, Requests};

    #[test]
    fn a_limit_field_is_a_list_of_policies_after_the_first_member() {
        for headers in [
            &[("RateLimit-Limit", "100, 100;w=10, 1000;w=60")][..],
            &[("RateLimit-Limit", "100"), ("RateLimit-Limit", "100;w=10, 1000;w=60")],
            &[("X-RateLimit-Limit", "100, 1000;window=60, 100;window=10")],
            &[("RateLimit-Limit", "100"), ("RateLimit-Policy", "100;w=10,1000;w=60")],
            &[("RateLimit", "limit=100, reset=x"), ("RateLimit-Policy", "100;w=10,1000;w=60")],
        ] {
            let expected = [(Some(100), None, None, Some(10_000)), (Some(1000), None, None, Some(60_000))];
            assert_eq!(quotas(Requests, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_malformed_limit_list_is_ignored_whole() {
        for limit in ["100, 200", "100, x;w=10", "100, 200;w=0", "-1;w=5", "100;w=1,", "\"a\";w=1"] {
            assert_eq!(quotas(Requests, &[("RateLimit-Limit", limit)]), [], "{limit}");
        }
    }

    #[test]
    fn docker_hub_tells_the_window_with_each_number() {
        let both = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "20;w=21600")];
        assert_eq!(quotas(Requests, &both), [(Some(100), Some(20), None, Some(21_600_000))]);
        assert_eq!(quotas(Requests, &both[1..]), [(None, Some(20), None, Some(21_600_000))]);
    }

    #[test]
    fn policies_alone_are_reported() {
        let numbered = [("RateLimit-Policy", "10;w=1, 50;w=60")];
        let named = [("RateLimit-Policy", r#""s";q=10;w=1, "m";q=50;w=60"#)];
        let expected = [(Some(10), None, None, Some(1000)), (Some(50), None, None, Some(60_000))];
        assert_eq!(quotas(Requests, &numbered), expected);
        assert_eq!(quotas(Requests, &named), expected);
    }

    #[test]
    fn draft_07_is_the_three_older_fields_in_one() {
        let headers = [("RateLimit", "limit=20, remaining=19, reset=1")];
        assert_eq!(quotas(Requests, &headers), [(Some(20), Some(19), Some(1000), None)]);
        let twice = [("RateLimit", "limit=20"), ("ratelimit", "limit=21")];
        assert_eq!(quotas(Requests, &twice), [(Some(21), None, None, None)]);
        assert_eq!(quotas(Requests, &[("RateLimit", "limit=20, !")]), []);
    }

    #[test]
    fn named_items_join_by_name() {
        let headers = [
            ("RateLimit-Policy", r#""hour";q=1000;w=3600"#),
            ("RateLimit", r#""day";t=36000;r=100"#),
            ("RateLimit-Policy", r#""day";q=5000;w=86400"#),
        ];
        let expected =
            [(Some(1000), None, None, Some(3_600_000)), (Some(5000), Some(100), Some(36_000_000), Some(86_400_000))];
        assert_eq!(quotas(Requests, &headers), expected);
    }

    #[test]
    fn the_policy_tells_the_unit() {
        let in_unit = |unit: &str| {
            let policy = format!(r#""a";q=8;qu={unit}"#);
            [("RateLimit", r#""a";r=7"#), ("RateLimit-Policy", &policy)].map(|(name, value)| (name, value.to_owned()))
        };
        for (unit, dimension) in [
            (r#""requests""#, Some(Requests)),
            (r#""content-bytes""#, Some(Bytes)),
            (r#""concurrent-requests""#, Some(Concurrency)),
            (r#""parsecs""#, None),
            ("requests", None),
        ] {
            let headers = in_unit(unit);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let dimensions: Vec<_> = parse_text(&headers).quotas().iter().map(|quota| quota.dimension).collect();
            assert_eq!(dimensions, Vec::from_iter(dimension), "{unit}");
        }
    }

    #[test]
    fn a_bad_parameter_takes_nothing_with_it() {
        let policy = ("RateLimit-Policy", r#""a";q=9;w=60"#);
        for (state, remaining, reset) in [
            (r#""a";r=-1;t=30"#, None, Some(30_000)),
            (r#""a";r=5;t=3.5"#, Some(5), None),
            (r#""a";r="5";t"#, None, None),
            (r#""a""#, None, None),
        ] {
            let expected = [(Some(9), remaining, reset, Some(60_000))];
            assert_eq!(quotas(Requests, &[policy, ("RateLimit", state)]), expected, "{state}");
        }
    }

    #[test]
    fn a_malformed_named_field_is_ignored_whole() {
        for state in [r#""a";r=5, b;r=6"#, r#""a";r=5, 6"#, r#""a";r=5,"#, r#""é";r=5"#, r#""a;r=5"#] {
            assert_eq!(quotas(Requests, &[("RateLimit", state)]), [], "{state}");
        }
        // Hugging Face's policies are not structured fields.
        let headers =
            [("RateLimit", r#""api";r=499;t=293"#), ("RateLimit-Policy", r#""fixed window";"api";q=500;w=300"#)];
        assert_eq!(quotas(Requests, &headers), [(None, Some(499), Some(293_000), None)]);
    }
}
