//! What response headers say about rate limits.
//!
//! [`parse`] reads every form of these headers that is known to be in use: the
//! one-number-per-field families (`x-ratelimit-limit-requests`, ...), all
//! versions of the IETF draft, `Retry-After` and its relatives, and the odd
//! forms of single providers. It decides by names and syntax alone; who sent
//! the response does not matter.
//!
//! Values come from outside and are not trusted. What cannot be read is
//! absent: one bad value takes nothing else with it, no input panics, nothing
//! is allocated, and the time is linear in the size of the headers.
//!
//! Rules without a standard behind them:
//!
//! - Part of an hour, minute or second is rounded up to a whole millisecond.
//! - A quota that tells neither limit nor remaining is not reported.
//! - `remaining` is never derived, but for the forms that tell `used/limit`.
//! - The window is what the headers say, not what a provider's manual says.

#![cfg_attr(not(test), deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod counters;
mod cursor;
mod date;
mod duration;
mod field;
mod ietf;
mod names;
mod number;
mod reset;
mod slots;
mod structured;
mod vendors;

use crate::config::Dimension;

use counters::Counters;
use field::Field;
use vendors::VendorFields;

/// Quotas reported of one response. Real ones have up to eight.
const MAX_QUOTAS: usize = 16;

/// What a response says about one quota. All numbers fit an `i64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotaReport {
    /// What is counted.
    pub dimension: Dimension,
    /// The size of the quota.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// Milliseconds from receipt until it is filled up, partly or wholly.
    pub reset_in_ms: Option<u64>,
    /// The length of the window that the limit is for.
    pub window_ms: Option<u64>,
}

/// What the headers of one response say about rate limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// How long to wait from receipt before the next request.
    pub retry_after_ms: Option<u64>,
    /// Whether the response comes from a cache (`Age` above 0): the quotas
    /// are then those of an earlier time, and the IETF draft says to ignore them.
    pub cached: bool,
    quotas: [QuotaReport; MAX_QUOTAS],
    quota_count: usize,
}

/// Reads the headers of a response.
///
/// `headers` are name and value of each field line in order of arrival, as
/// they came off the wire: neither needs to be UTF-8. `received_at_unix_ms` is
/// the time of receipt; instants in the headers are reported relative to it.
pub fn parse<'a>(headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, received_at_unix_ms: u64) -> Report {
    let mut fields = Fields::default();
    for (name, value) in headers {
        fields.add(name, value);
    }
    fields.report(received_at_unix_ms)
}

impl Report {
    /// The quotas, each told once, in no particular order.
    pub fn quotas(&self) -> &[QuotaReport] {
        self.quotas.get(..self.quota_count).unwrap_or_default()
    }

    /// Adds a quota that tells a limit or what remains of it, unless an equal
    /// one is there already or there is no room.
    fn add(&mut self, quota: QuotaReport) {
        let is_told = quota.limit.is_some() || quota.remaining.is_some();
        if !is_told || self.quotas().contains(&quota) {
            return;
        }
        if let Some(free) = self.quotas.get_mut(self.quota_count) {
            *free = quota;
            self.quota_count += 1;
        }
    }
}

impl QuotaReport {
    /// A quota of which nothing is known yet.
    const fn unknown(dimension: Dimension) -> Self {
        Self { dimension, limit: None, remaining: None, reset_in_ms: None, window_ms: None }
    }

    /// Whether this has all that `other` tells, and something more.
    fn says_more_than(&self, other: &Self) -> bool {
        let agrees = |own: Option<u64>, others: Option<u64>| others.is_none() || own == others;
        self != other
            && self.dimension == other.dimension
            && agrees(self.limit, other.limit)
            && agrees(self.remaining, other.remaining)
            && agrees(self.reset_in_ms, other.reset_in_ms)
            && agrees(self.window_ms, other.window_ms)
    }
}

/// The fields of a response that matter here.
#[derive(Default)]
struct Fields<'a> {
    retry_after_ms: Field<'a>,
    x_ms_retry_after_ms: Field<'a>,
    retry_after: Field<'a>,
    age: Field<'a>,
    rate_limit: Field<'a>,
    rate_limit_policy: Field<'a>,
    vendors: VendorFields<'a>,
    counters: Counters<'a>,
}

impl<'a> Fields<'a> {
    /// Field names are case-insensitive (RFC 9110 section 5.1).
    fn add(&mut self, name: &'a [u8], value: &'a [u8]) {
        let whole_names = [
            ("retry-after-ms", &mut self.retry_after_ms),
            ("x-ms-retry-after-ms", &mut self.x_ms_retry_after_ms),
            ("retry-after", &mut self.retry_after),
            ("age", &mut self.age),
            ("ratelimit", &mut self.rate_limit),
            ("ratelimit-policy", &mut self.rate_limit_policy),
        ];
        for (known, field) in whole_names {
            if name.eq_ignore_ascii_case(known.as_bytes()) {
                field.add(value);
                return;
            }
        }
        if self.vendors.add(name, value) {
            return;
        }
        if let Some((quota, role)) = names::read(name)
            && let Some(counter) = self.counters.of(quota)
        {
            counter.add(role, value);
        }
    }

    fn report(&mut self, received_at_unix_ms: u64) -> Report {
        let mut report = Report {
            retry_after_ms: self.retry_after(received_at_unix_ms),
            // However large it is.
            cached: self
                .age
                .single(|age| age.iter().all(u8::is_ascii_digit).then(|| age.iter().any(|digit| *digit != b'0')))
                == Some(true),
            quotas: [QuotaReport::unknown(Dimension::Requests); MAX_QUOTAS],
            quota_count: 0,
        };
        ietf::unfold(&self.rate_limit, &self.rate_limit_policy, &mut self.counters);
        self.counters.report(received_at_unix_ms, &mut report);
        ietf::report_named(&self.rate_limit, &self.rate_limit_policy, &mut report);
        self.vendors.report(received_at_unix_ms, &mut report);
        report
    }

    /// The most exact field first, as the SDKs of OpenAI and Azure have it; a
    /// field that cannot be read falls through to the next.
    fn retry_after(&self, received_at_unix_ms: u64) -> Option<u64> {
        let seconds_or_date =
            |text| number::seconds(text).or_else(|| date::http_date(text)?.checked_sub(received_at_unix_ms));
        self.retry_after_ms
            .single(number::milliseconds)
            .or_else(|| self.x_ms_retry_after_ms.single(number::milliseconds))
            .or_else(|| self.retry_after.single(seconds_or_date))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 15 January 2026, 10:00:00 GMT.
    pub(super) const NOW: u64 = 1_768_471_200_000;

    pub(super) fn parse_text(headers: &[(&str, &str)]) -> Report {
        let bytes = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        parse(bytes, NOW)
    }

    /// `limit`, `remaining`, `reset_in_ms` and `window_ms` of a quota.
    pub(super) type Numbers = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);

    /// The reported quotas in ascending order; all must be of one dimension.
    pub(super) fn quotas(dimension: Dimension, headers: &[(&str, &str)]) -> Vec<Numbers> {
        let report = parse_text(headers);
        let mut quotas: Vec<_> = report
            .quotas()
            .iter()
            .inspect(|quota| assert_eq!(quota.dimension, dimension))
            .map(|quota| (quota.limit, quota.remaining, quota.reset_in_ms, quota.window_ms))
            .collect();
        quotas.sort_unstable();
        quotas
    }

    fn retry_after(headers: &[(&str, &str)]) -> Option<u64> {
        parse_text(headers).retry_after_ms
    }

    #[test]
    fn the_most_exact_wait_wins_if_it_can_be_read() {
        let (ms, x_ms, plain) = ("Retry-After-Ms", "x-ms-retry-after-ms", "RETRY-AFTER");
        assert_eq!(retry_after(&[(plain, "3"), (x_ms, "2"), (ms, "1")]), Some(1));
        assert_eq!(retry_after(&[(plain, "3"), (x_ms, "2"), (ms, "-1")]), Some(2));
        assert_eq!(retry_after(&[(plain, "3"), (x_ms, ""), (ms, "1s")]), Some(3000));
        assert_eq!(retry_after(&[(plain, "3"), (ms, "1"), (ms, "2")]), Some(3000));
        assert_eq!(retry_after(&[(plain, "soon"), (x_ms, "x")]), None);
    }

    #[test]
    fn a_wait_may_be_a_date() {
        let date = "Thu, 15 Jan 2026 10:00:20 GMT";
        assert_eq!(retry_after(&[("retry-after", date)]), Some(20_000));
        assert_eq!(retry_after(&[("retry-after", date), ("retry-after", date)]), Some(20_000));
        assert_eq!(retry_after(&[("retry-after", date), ("retry-after", "20")]), Some(20_000));
        assert_eq!(retry_after(&[("retry-after", date), ("retry-after", "21")]), None);
        assert_eq!(retry_after(&[("retry-after", "Thu, 15 Jan 2026 09:59:59 GMT")]), None);
    }

    #[test]
    fn a_response_with_an_age_is_from_a_cache() {
        assert!(parse_text(&[("Age", "1")]).cached);
        for age in ["0", "-1", "x", "1, 2"] {
            assert!(!parse_text(&[("Age", age)]).cached, "{age}");
        }
        assert!(!parse_text(&[]).cached);
    }

    #[test]
    fn equal_quotas_are_reported_once_and_at_most_sixteen_in_all() {
        let names: Vec<_> = (1..100).map(|hours| format!("x-ratelimit-limit-{hours}hour")).collect();
        let headers: Vec<_> = names.iter().map(|name| (name.as_str(), "5")).collect();
        assert_eq!(parse_text(&headers).quotas().len(), MAX_QUOTAS);
        let twins = [("x-ratelimit-limit", "5"), ("x-vendor-ratelimit-limit", "5")];
        assert_eq!(parse_text(&twins).quotas().len(), 1);
    }

    #[test]
    fn headers_that_matter_are_found_behind_many_others() {
        let names: Vec<_> = (0..5000).map(|number| format!("x-{number}")).collect();
        let mut headers: Vec<_> = names.iter().map(|name| (name.as_str(), "5")).collect();
        headers.push(("retry-after", "7"));
        assert_eq!(retry_after(&headers), Some(7000));
    }
}
