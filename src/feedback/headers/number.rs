//! Counts and decimal numbers, read exactly: no floating point anywhere.

use super::cursor::Cursor;

/// `1*DIGIT ["." 1*DIGIT]`: no sign, exponent, separator or other script's digits.
#[derive(Clone, Copy)]
pub(super) struct Decimal<'a> {
    pub(super) whole: u64,
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// Reads a number at the cursor and leaves what follows it.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let whole = integer(cursor.digits()?)?;
        let fraction = match cursor.eat(b'.') {
            Some(_) => cursor.digits()?,
            None => &[],
        };
        Some(Self { whole, fraction })
    }

    /// Reads a text that is a number and nothing else.
    pub(super) fn read_all(text: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(text);
        let number = Self::read(&mut cursor)?;
        cursor.is_empty().then_some(number)
    }

    /// The number in a unit of which `per_one` make one, rounded up: a wait
    /// that is cut short is refused again.
    pub(super) fn scaled(&self, per_one: u64) -> u128 {
        /// Digits of a fraction that count. The products below stay exact.
        const DIGITS: usize = 18;
        let (part, one) = self
            .fraction
            .iter()
            .take(DIGITS)
            .fold((0, 1), |(part, one), digit| (part * 10 + u128::from(digit - b'0'), one * 10));
        let per_one = u128::from(per_one);
        u128::from(self.whole) * per_one + (part * per_one).div_ceil(one)
    }
}

/// The value of a string of digits.
fn integer(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// The number if an `i64` can hold it: callers across the C ABI get signed numbers.
pub(super) fn fit_i64(number: u128) -> Option<u64> {
    i64::try_from(number).ok()?.try_into().ok()
}

/// A count. Reddit and Mistral send whole numbers with a fraction (`598.0`).
pub(super) fn count(text: &[u8]) -> Option<u64> {
    let number = Decimal::read_all(text)?;
    let is_whole = number.fraction.iter().all(|&digit| digit == b'0');
    is_whole.then(|| fit_i64(number.whole.into()))?
}

/// Milliseconds, maybe with a fraction, rounded up to whole ones.
pub(super) fn milliseconds(text: &[u8]) -> Option<u64> {
    fit_i64(Decimal::read_all(text)?.scaled(1))
}

/// Delta seconds, given in milliseconds. RFC 9110 section 10.2.3 has whole
/// seconds only; Shopify (`2.0`) and Discord (`64.57`) send fractions.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    fit_i64(Decimal::read_all(text)?.scaled(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_counts() {
        assert_eq!(count(b"0"), Some(0));
        assert_eq!(count(b"007"), Some(7));
        assert_eq!(count(b"598.00"), Some(598));
        assert_eq!(count(b"9223372036854775807"), Some(i64::MAX as u64));
    }

    #[test]
    fn refuses_what_is_no_count() {
        for text in [
            "",
            ".",
            "5.",
            ".5",
            "5.5",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1e3",
            "0x10",
            "1,000",
            "1_000",
            "NaN",
            "inf",
            "１２",
            "١٢",
            "5.0.0",
            "9223372036854775808",
            "18446744073709551616",
        ] {
            assert_eq!(count(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn converts_seconds_exactly() {
        assert_eq!(seconds(b"64.57"), Some(64_570));
        assert_eq!(seconds(b"2.0"), Some(2000));
        assert_eq!(seconds(b"0.001"), Some(1));
        assert_eq!(seconds(b"9223372036854775.807"), Some(i64::MAX as u64));
        assert_eq!(seconds(b"9223372036854775.808"), None);
        assert_eq!(seconds(b"9223372036854775807"), None);
    }

    #[test]
    fn rounds_up_below_a_millisecond() {
        assert_eq!(seconds(b"33011.382867"), Some(33_011_383));
        assert_eq!(seconds(b"0.0000000000000000010"), Some(1));
        assert_eq!(milliseconds(b"1500.25"), Some(1501));
    }
}
