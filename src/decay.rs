//! Exponential decay, the same to the last bit on every machine.

/// `2^-x` for `x >= 0`, from additions and multiplications alone: the C library's `exp2` differs between platforms in the
/// last bit, and the same calls must give the same answers everywhere. Exact for whole `x`, else within 1e-15.
pub(crate) fn half_to_the(x: f64) -> f64 {
    if x >= 1074.0 {
        return 0.0;
    }
    let whole = x.round();
    // 2^-x = 2^-whole * e^r with |r| <= ln 2 / 2, where 14 terms of the Taylor series are exact enough.
    let r = (whole - x) * std::f64::consts::LN_2;
    let mut sum = 1.0;
    for n in (1..=13).rev() {
        sum = 1.0 + r * sum / f64::from(n);
    }
    // Halving is exact; large powers in two steps, as 2^-1022 is the smallest with a full exponent.
    let halvings = whole as u64;
    let first = halvings.min(1000);
    sum * power_of_half(first) * power_of_half(halvings - first)
}

/// `2^-n` for `n <= 1000`.
fn power_of_half(n: u64) -> f64 {
    f64::from_bits((1023 - n) << 52)
}

#[cfg(test)]
mod tests {
    use super::half_to_the;

    #[test]
    fn agrees_with_the_definition() {
        assert_eq!(half_to_the(0.0), 1.0);
        assert_eq!(half_to_the(1.0), 0.5);
        assert_eq!(half_to_the(10.0), 1.0 / 1024.0);
        assert_eq!(half_to_the(1e300), 0.0);
        assert_eq!(half_to_the(f64::INFINITY), 0.0);
        for i in 0..100_000 {
            let x = f64::from(i) * 1e-3;
            let exact = (-x).exp2();
            assert!((half_to_the(x) - exact).abs() <= 1e-15 * exact, "{x}");
        }
        assert!(half_to_the(1073.5) < 1e-320);
    }

    #[test]
    fn never_rises() {
        let mut last = 1.0;
        for i in 1..100_000 {
            let next = half_to_the(f64::from(i) * 0.000_37);
            assert!(next <= last, "{i}");
            last = next;
        }
    }
}
