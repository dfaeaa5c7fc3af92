//! The value of a `*reset*` field: the wait from receipt, in milliseconds.

use super::number::{Decimal, fit_i64};
use super::{date, duration};

const BILLION: u64 = 1_000_000_000;

/// Reads a bare number, a Go duration (OpenAI, Groq) or an RFC 3339 instant
/// (Anthropic, Jira). An instant before receipt says nothing.
pub(super) fn read(text: &[u8], received_at_unix_ms: u64) -> Option<u64> {
    if let Some(number) = Decimal::read_all(text) {
        bare_number(number, received_at_unix_ms)
    } else {
        duration::read(text).or_else(|| date::rfc3339(text)?.checked_sub(received_at_unix_ms))
    }
}

/// Providers use one name for other units: delta seconds (Reddit, Azure),
/// epoch seconds (GitHub, GitLab), epoch milliseconds (OpenRouter, Linear).
/// The size tells them apart, with wide gaps where no sensible value lies.
fn bare_number(number: Decimal, received_at_unix_ms: u64) -> Option<u64> {
    const EPOCH_SECONDS: std::ops::Range<u64> = BILLION..100 * BILLION;
    const EPOCH_MS: std::ops::Range<u64> = 1_000 * BILLION..100_000 * BILLION;
    match number.whole {
        0..BILLION => fit_i64(number.scaled(1000)),
        whole if EPOCH_SECONDS.contains(&whole) => fit_i64(number.scaled(1000))?.checked_sub(received_at_unix_ms),
        whole if EPOCH_MS.contains(&whole) => fit_i64(number.scaled(1))?.checked_sub(received_at_unix_ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    const NOW: u64 = 1_768_471_200_000;

    #[test]
    fn size_tells_the_unit() {
        assert_eq!(read(b"0", NOW), Some(0));
        assert_eq!(read(b"45.5", NOW), Some(45_500));
        assert_eq!(read(b"2163603", NOW), Some(2_163_603_000));
        assert_eq!(read(b"1768471260", NOW), Some(60_000));
        assert_eq!(read(b"1768471260.125", NOW), Some(60_125));
        assert_eq!(read(b"1768471200000", NOW), Some(0));
        assert_eq!(read(b"1768471201500", NOW), Some(1500));
        assert_eq!(read(b"500000000000", NOW), None);
        assert_eq!(read(b"999999999999999", NOW), None);
        assert_eq!(read(b"18446744073709551616", NOW), None);
    }

    #[test]
    fn an_instant_before_receipt_says_nothing() {
        assert_eq!(read(b"1768471199", NOW), None);
        assert_eq!(read(b"1768471199999", NOW), None);
        assert_eq!(read(b"2026-01-15T09:59:59Z", NOW), None);
        assert_eq!(read(b"2026-01-15T10:00:00Z", NOW), Some(0));
    }

    #[test]
    fn reads_durations_and_refuses_the_rest() {
        assert_eq!(read(b"1m30.951s", NOW), Some(90_951));
        for text in ["", "-30", "NaN", "soon", "30 s", "2025-07-08 15:35:40 -0700"] {
            assert_eq!(read(text.as_bytes(), NOW), None, "{text}");
        }
    }
}
