//! Exponential decay, the same to the last bit on every machine.

/// Parts of a halving that the table knows.
const PARTS: u64 = 32;

/// `2^(-i / PARTS)`, each the nearest double.
#[allow(clippy::excessive_precision, clippy::approx_constant, reason = "the shortest text of the nearest double")]
const TABLE: [f64; PARTS as usize] = [
    1.0,
    0.9785720620877001,
    0.9576032806985737,
    0.93708381705515,
    0.9170040432046712,
    0.8973545375015536,
    0.8781260801866497,
    0.859309649061239,
    0.8408964152537145,
    0.8228777390769825,
    0.8052451659746271,
    0.7879904225539432,
    0.7711054127039704,
    0.7545822137967114,
    0.7384130729697497,
    0.7225904034885233,
    0.7071067811865476,
    0.691954940981916,
    0.6771277734684463,
    0.6626183215798707,
    0.6484197773255048,
    0.6345254785958666,
    0.620928906036742,
    0.6076236799902345,
    0.5946035575013605,
    0.5818624293887887,
    0.5693943173783458,
    0.5571933712979462,
    0.5452538663326288,
    0.5335702003384118,
    0.5221368912137069,
    0.5109485743270583,
];

/// `2^-x` for `x >= 0`, from additions and multiplications alone: the C library's `exp2` differs between platforms in the
/// last bit, and the same calls must give the same answers everywhere. Exact for whole `x`, else within 1e-15.
pub(crate) fn half_to_the(x: f64) -> f64 {
    if x >= 1074.0 {
        return 0.0;
    }
    let parts = (x * PARTS as f64).round();
    // 2^-x = 2^(-parts / PARTS) * e^r with |r| <= ln 2 / 64, where 7 terms of the Taylor series are exact enough.
    let r = (parts / PARTS as f64 - x) * std::f64::consts::LN_2;
    let series =
        1.0 + r * (1.0 + r * (1.0 / 2.0 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let parts = parts as u64;
    // Halving is exact; large powers in two steps, as 2^-1022 is the smallest with a full exponent.
    let halvings = parts / PARTS;
    let first = halvings.min(1000);
    TABLE[(parts % PARTS) as usize] * series * power_of_half(first) * power_of_half(halvings - first)
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
