//! Go's `time.Duration` text (`1m30.951s`), as OpenAI and Groq send it.

use super::cursor::Cursor;
use super::number::{Decimal, fit_i64};

const NANOS_PER_MS: u64 = 1_000_000;

/// Unit names with their length in nanoseconds. A name stands before those
/// that it begins with (`ms` before `m`).
const UNITS: [(&[u8], u64); 8] = [
    (b"ns", 1),
    (b"us", 1_000),
    (b"\xC2\xB5s", 1_000), // U+00B5, micro sign
    (b"\xCE\xBCs", 1_000), // U+03BC, Greek mu; Go reads both
    (b"ms", NANOS_PER_MS),
    (b"s", 1_000 * NANOS_PER_MS),
    (b"m", 60_000 * NANOS_PER_MS),
    (b"h", 3_600_000 * NANOS_PER_MS),
];

/// One or more `number unit` without spaces or sign, in milliseconds, rounded up.
pub(super) fn read(text: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(text);
    let mut nanos = part(&mut cursor)?;
    while !cursor.is_empty() {
        nanos = nanos.checked_add(part(&mut cursor)?)?;
    }
    fit_i64(nanos.div_ceil(NANOS_PER_MS.into()))
}

/// One `number unit`, in nanoseconds.
fn part(cursor: &mut Cursor) -> Option<u128> {
    let number = Decimal::read(cursor)?;
    let (_, nanos) = UNITS.iter().find(|(unit, _)| cursor.eat_text(unit).is_some())?;
    Some(number.scaled(*nanos))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_go_durations() {
        for (text, ms) in [
            ("0s", 0),
            ("17ms", 17),
            ("8.64s", 8640),
            ("6m0s", 360_000),
            ("1m30.951s", 90_951),
            ("2m59.56s", 179_560),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            ("24h0m0s", 86_400_000),
            ("1500us", 2),
            ("500µs", 1),
            ("500μs", 1),
            ("1ns", 1),
            ("0.4ms600us", 1),
            ("1s1s", 2000),
        ] {
            assert_eq!(read(text.as_bytes()), Some(ms), "{text}");
        }
    }

    #[test]
    fn refuses_anything_else() {
        for text in [
            "",
            "s",
            "60",
            "1m30",
            "1 s",
            "1s ",
            " 1s",
            "-1s",
            "+1s",
            ".5s",
            "1.s",
            "1d",
            "1S",
            "3fortnights",
            "1s;DROP",
            "1e400s",
            "1\u{b5}",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
