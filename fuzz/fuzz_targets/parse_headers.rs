//! Feeds arbitrary field lines to the header parser.
#![no_main]

use grate::feedback::headers::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, Vec<(Vec<u8>, Vec<u8>)>)| {
    let (received_at_unix_ms, lines) = input;
    let lines = lines.iter().map(|(name, value)| (&name[..], &value[..]));
    let report = parse(lines, received_at_unix_ms);
    for quota in report.quotas() {
        assert!(quota.limit.is_some() || quota.remaining.is_some());
        let numbers = [quota.limit, quota.remaining, quota.reset_in_ms, quota.window_ms];
        for number in numbers.into_iter().flatten() {
            assert!(i64::try_from(number).is_ok());
        }
    }
});
