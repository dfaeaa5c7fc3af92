//! Header fields of any kind, through the C function and the reader behind it.

use grate::capi::*;
use grate::feedback::headers::parse;

use crate::api::{Field, read_headers};
use crate::input::Input;

/// Bytes as a time and lines of `name: value`, which any may be without either.
fn read(bytes: &[u8]) -> (u64, Vec<Field>) {
    let mut from = Input::new(bytes);
    let unix_ms = from.u64();
    let lines = from.bytes(usize::MAX).split(|byte| *byte == b'\n').map(|line| {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b": ").or(value.strip_prefix(b":")).unwrap_or(value);
        (name.to_vec(), value.to_vec())
    });
    (unix_ms, lines.collect())
}

/// Reads bytes as header fields.
pub fn parse_headers(bytes: &[u8]) {
    let (unix_ms, lines) = read(bytes);
    let report = parse(lines.iter().map(|(name, value)| (&name[..], &value[..])), unix_ms);
    let (c, quotas) = read_headers(&lines, unix_ms, 16);
    assert_eq!(c.quotas_total as usize, report.quotas().len());
    assert!(c.quotas_total <= 16 && c.quotas_total == c.quotas_len);
    assert_eq!((c.cached, c.retry_after_ms), (report.cached.into(), report.retry_after_ms.unwrap_or(GRATE_ABSENT)));
    assert!(report.retry_after_ms.is_none_or(|ms| i64::try_from(ms).is_ok()));
    for (quota, c) in report.quotas().iter().zip(&quotas) {
        assert!(quota.limit.is_some() || quota.remaining.is_some(), "a quota of which nothing is told");
        let numbers = [quota.limit, quota.remaining, quota.reset_in_ms, quota.window_ms];
        assert!(numbers.into_iter().flatten().all(|number| i64::try_from(number).is_ok()));
        assert_eq!(numbers.map(|n| n.unwrap_or(GRATE_ABSENT)), [c.limit, c.remaining, c.reset_in_ms, c.window_ms]);
        assert!((GRATE_DIMENSION_REQUESTS..=GRATE_DIMENSION_COST_MICRO_USD).contains(&c.dimension));
    }
    // With room for one, it is the first.
    let first = read_headers(&lines, unix_ms, 1).1;
    assert_eq!(first.first().map(|q| q.limit), quotas.first().map(|q| q.limit));
}
