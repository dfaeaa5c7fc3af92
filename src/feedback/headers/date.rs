//! Absolute instants, as milliseconds since the Unix epoch.

use std::time::UNIX_EPOCH;

use super::cursor::Cursor;
use super::number::Decimal;

const MS_PER_MINUTE: u64 = 60_000;
const MINUTES_PER_DAY: u64 = 24 * 60;

/// The three date forms of RFC 9110 section 5.6.7.
pub(super) fn http_date(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let instant = httpdate::parse_http_date(text).ok()?;
    let since_epoch = instant.duration_since(UNIX_EPOCH).ok()?;
    since_epoch.as_millis().try_into().ok()
}

/// An RFC 3339 date-time. Jira leaves the seconds out (`2026-03-26T16:00Z`).
/// Leap seconds (`:60`) are refused.
pub(super) fn rfc3339(text: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(text);
    let year = number(&mut cursor, 4)?;
    cursor.eat(b'-')?;
    let month = number(&mut cursor, 2)?;
    cursor.eat(b'-')?;
    let day = number(&mut cursor, 2)?;
    cursor.eat_if(|byte| byte.eq_ignore_ascii_case(&b'T'))?;
    let minute = hour_and_minute(&mut cursor)?;
    let ms = match cursor.eat(b':') {
        Some(_) => seconds_in_ms(&mut cursor)?,
        None => 0,
    };
    let minutes = days_since_epoch(year, month, day)? * MINUTES_PER_DAY + minute;
    let utc_minutes = match cursor.eat_if(|byte| b"Zz+-".contains(&byte))? {
        b'+' => minutes.checked_sub(hour_and_minute(&mut cursor)?)?,
        b'-' => minutes + hour_and_minute(&mut cursor)?,
        _ => minutes,
    };
    let instant = utc_minutes * MS_PER_MINUTE + ms;
    cursor.is_empty().then_some(instant)
}

/// Exactly `length` digits.
fn number(cursor: &mut Cursor, length: u32) -> Option<u64> {
    (0..length).try_fold(0, |value, _| {
        let digit = cursor.eat_if(|byte| byte.is_ascii_digit())?;
        Some(value * 10 + u64::from(digit - b'0'))
    })
}

/// `hh:mm`, in minutes.
fn hour_and_minute(cursor: &mut Cursor) -> Option<u64> {
    let hour = number(cursor, 2)?;
    cursor.eat(b':')?;
    let minute = number(cursor, 2)?;
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

/// `ss` with an optional fraction, in milliseconds.
fn seconds_in_ms(cursor: &mut Cursor) -> Option<u64> {
    let start = *cursor;
    number(cursor, 2)?;
    if cursor.eat(b'.').is_some() {
        cursor.digits()?;
    }
    let seconds = Decimal::read_all(cursor.since(&start))?;
    (seconds.whole < 60).then(|| seconds.scaled(1000).try_into().ok())?
}

/// Days from 1 January 1970 to a date of the Gregorian calendar that is not before it.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    const DAYS_BEFORE_1970: u64 = days_before_year(1970);
    let is_valid = year >= 1970 && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    let before_month: u64 = (1..month).map(|month| days_in_month(year, month)).sum();
    is_valid.then(|| days_before_year(year) - DAYS_BEFORE_1970 + before_month + day - 1)
}

/// Days from the start of year 1 to the start of `year`, which is not 0.
const fn days_before_year(year: u64) -> u64 {
    let passed = year - 1;
    passed * 365 + passed / 4 - passed / 100 + passed / 400
}

const fn days_in_month(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rfc3339() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2025-10-25t12:00:00z", 1_761_393_600_000),
            ("2026-03-26T16:00Z", 1_774_540_800_000),
            ("2026-03-26T17:30:00+01:30", 1_774_540_800_000),
            ("2026-03-26T08:00:00.5-08:00", 1_774_540_800_500),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2000-02-29T00:00:00.0001Z", 951_782_400_001),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), Some(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_rfc3339() {
        for text in [
            "",
            "tomorrow",
            "2026-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-01-00T00:00:00Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:60:00Z",
            "2025-01-01T00:00:60Z",
            "2025-01-01T00:00:00",
            "2025-01-01T00:00:00.Z",
            "2025-01-01T00:00:00Zx",
            "2025-01-01T00:00:00+0100",
            "2025-01-01T00:00:00+24:00",
            "2025-01-01 00:00:00Z",
            "25-01-01T00:00:00Z",
            "12025-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn agrees_with_the_http_date_reader_on_every_day() {
        let start = UNIX_EPOCH;
        for day in (0..2_932_896).step_by(7) {
            let date = start + std::time::Duration::from_secs(day * 86_400);
            let http = httpdate::fmt_http_date(date);
            let month = 1 + "JanFebMarAprMayJunJulAugSepOctNovDec".find(&http[8..11]).unwrap() / 3;
            let text = format!("{}-{month:02}-{}T00:00:00Z", &http[12..16], &http[5..7]);
            assert_eq!(rfc3339(text.as_bytes()), Some(day * 86_400_000), "{text}");
        }
    }

    #[test]
    fn reads_the_three_http_dates() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(http_date(text.as_bytes()), Some(784_111_777_000), "{text}");
        }
        assert_eq!(http_date(b"Tue, 31 Feb 2026 07:28:00 GMT"), None);
        assert_eq!(http_date(b"Sun, 06 Nov 1994 08:49:37 \xFF"), None);
    }
}
