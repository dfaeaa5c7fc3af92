//! The header parser: recorded and constructed cases, and whatever else may arrive.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use grate::config::Dimension;
use grate::feedback::headers::{QuotaReport, Report, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("data/header_cases.json")).unwrap()
}

fn dimension_name(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Requests => "requests",
        Dimension::Tokens => "tokens",
        Dimension::InputTokens => "input_tokens",
        Dimension::OutputTokens => "output_tokens",
        Dimension::Concurrency => "concurrency",
        Dimension::Bytes => "bytes",
        Dimension::CostMicroUsd => "cost",
    }
}

fn as_json(quota: &QuotaReport) -> Value {
    json!({
        "dimension": dimension_name(quota.dimension),
        "limit": quota.limit,
        "remaining": quota.remaining,
        "reset_in_ms": quota.reset_in_ms,
        "window_ms": quota.window_ms,
    })
}

/// Quotas in one order, so that they compare as a multiset.
fn sorted(quotas: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut quotas: Vec<_> = quotas.into_iter().map(|quota| quota.to_string()).collect();
    quotas.sort();
    quotas
}

#[test]
fn every_case_is_read_as_expected() {
    let cases = cases();
    let mut failed = 0;
    for case in &cases {
        let headers = case["headers"].as_object().unwrap();
        let report = parse(
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_str().unwrap().as_bytes())),
            case["received_at_unix_ms"].as_u64().unwrap(),
        );
        let got = (json!(report.retry_after_ms), sorted(report.quotas().iter().map(as_json)));
        let expect = &case["expect"];
        let expected = (expect["retry_after_ms"].clone(), sorted(expect["quotas"].as_array().unwrap().iter().cloned()));
        if got != expected {
            failed += 1;
            println!("{}\n  got      {got:?}\n  expected {expected:?}", case["name"]);
        }
    }
    assert_eq!(failed, 0, "of {} cases", cases.len());
    assert_eq!(cases.len(), 121);
}

type Header = (Vec<u8>, Vec<u8>);

fn read(headers: &[Header], received_at_unix_ms: u64) -> Report {
    let lines = headers.iter().map(|(name, value)| (&name[..], &value[..]));
    parse(lines, received_at_unix_ms)
}

/// Every header of the recorded cases.
fn known_headers() -> Vec<Header> {
    let cases = cases();
    let headers = cases.iter().flat_map(|case| case["headers"].as_object().unwrap());
    headers.map(|(name, value)| (name.clone().into_bytes(), value.as_str().unwrap().into())).collect()
}

fn check(report: &Report) -> Result<(), TestCaseError> {
    let quotas = report.quotas();
    prop_assert!(quotas.len() <= 16);
    let mut numbers = vec![report.retry_after_ms];
    for (index, quota) in quotas.iter().enumerate() {
        prop_assert!(quota.limit.is_some() || quota.remaining.is_some());
        prop_assert!(!quotas[..index].contains(quota), "told twice: {quota:?}");
        numbers.extend([quota.limit, quota.remaining, quota.reset_in_ms, quota.window_ms]);
    }
    for number in numbers.into_iter().flatten() {
        prop_assert!(i64::try_from(number).is_ok(), "{number}");
    }
    Ok(())
}

/// A known header with some bytes of its value replaced, added or cut off.
fn mutated_header() -> impl Strategy<Value = Header> {
    let bytes = prop_oneof![any::<u8>(), proptest::sample::select(&b"0123456789.,;=/:\"-@%?*() smhwqrtTZ"[..])];
    let edit = (any::<prop::sample::Index>(), 0..3_u8, bytes);
    let known = proptest::sample::select(known_headers());
    (known, vec(edit, 0..4)).prop_map(|((name, mut value), edits)| {
        for (at, kind, byte) in edits {
            let at = at.index(value.len() + 1);
            match kind {
                0 => value.insert(at, byte),
                1 => value.truncate(at),
                _ if at < value.len() => value[at] = byte,
                _ => {}
            }
        }
        (name, value)
    })
}

proptest! {
    #[test]
    fn random_bytes(
        headers in vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..80)), 0..20),
        received_at_unix_ms: u64,
    ) {
        check(&read(&headers, received_at_unix_ms))?;
    }

    #[test]
    fn mutated_headers(
        headers in vec(mutated_header(), 0..24),
        received_at_unix_ms in prop_oneof![any::<u64>(), 1_400_000_000_000..1_800_000_000_000_u64],
    ) {
        check(&read(&headers, received_at_unix_ms))?;
    }

    #[test]
    fn known_names_with_random_values(
        headers in vec((proptest::sample::select(known_headers()), "[ -~]{0,40}"), 0..24),
    ) {
        let headers: Vec<_> = headers
            .into_iter()
            .map(|((name, _), value)| (name, value.into_bytes()))
            .collect();
        check(&read(&headers, 0))?;
    }

    /// Nothing is read from fields that say nothing, and they disturb nothing.
    #[test]
    fn unknown_fields_change_nothing(
        headers in vec(mutated_header(), 0..8),
        others in vec(("[a-f]{1,12}", vec(any::<u8>(), 0..20)), 0..8),
    ) {
        let mut mixed: Vec<_> = others
            .into_iter()
            .map(|(name, value)| (format!("x-other-{name}").into_bytes(), value))
            .collect();
        mixed.extend(headers.iter().cloned());
        prop_assert_eq!(read(&headers, 0), read(&mixed, 0));
    }

    #[test]
    fn the_case_of_names_does_not_matter(headers in vec(mutated_header(), 0..8)) {
        let upper: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_ascii_uppercase(), value.clone()))
            .collect();
        prop_assert_eq!(read(&headers, 0), read(&upper, 0));
    }
}
