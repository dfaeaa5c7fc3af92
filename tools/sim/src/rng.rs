//! Random draws that a seed determines.
//!
//! Only integer arithmetic and the correctly rounded operations of IEEE 754 (`+ - * /` and square root) are used:
//! the `ln` and `exp` of the standard library are those of the platform and differ in the last bit.

use std::f64::consts::LN_2;

/// A generator: xoshiro256++, seeded through splitmix64 as its authors advise.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// The generator of a seed and a purpose: draws for one purpose do not shift those for another.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut state = seed;
        for byte in purpose.bytes() {
            state = splitmix64(&mut state) ^ u64::from(byte);
        }
        Self([(); 4].map(|()| splitmix64(&mut state)))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in (0, 1): the middle of one of 2^52 equal parts, so that its logarithm is finite.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Exponential with the given mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * ln(self.uniform())
    }

    /// Standard normal, by Marsaglia's polar method, which needs no sine.
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = x * x + y * y;
            if s < 1.0 {
                return x * (-2.0 * ln(s) / s).sqrt();
            }
        }
    }

    /// Log-normal with the given median; `sigma` is the deviation of its logarithm.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * exp(sigma * self.normal())
    }
}

/// Natural logarithm of a positive, normal number: `ln(m * 2^e)` with m in [0.5, 2), by the series of `2 atanh`.
fn ln(x: f64) -> f64 {
    const EXPONENT: u64 = 0x7FF << 52;
    let bits = x.to_bits();
    let e = (bits >> 52) as i64 - 1023;
    let m = f64::from_bits((bits & !EXPONENT) | (1023 << 52));
    let (m, e) = if m > std::f64::consts::SQRT_2 { (m / 2.0, e + 1) } else { (m, e) };
    let t = (m - 1.0) / (m + 1.0);
    let t2 = t * t;
    // |t| < 0.18, so the first term that is left out is below 1e-17.
    let series = (0..11).rev().fold(0.0, |sum, k| sum * t2 + 1.0 / f64::from(2 * k + 1));
    2.0 * t * series + e as f64 * LN_2
}

/// e^x for |x| < 700: `2^k * e^r` with r within half of ln 2, by Taylor's series.
fn exp(x: f64) -> f64 {
    let k = (x / LN_2).round();
    let r = x - k * LN_2;
    let series = (1..18).rev().fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    series * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_draws() {
        let draw = |seed, purpose| {
            let mut rng = Rng::new(seed, purpose);
            [0; 100].map(|_| (rng.uniform().to_bits(), rng.exponential(2.0).to_bits(), rng.normal().to_bits()))
        };
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
    }

    /// Guards the promise that results do not change from platform to platform, or by a rewrite.
    #[test]
    fn draws_are_those_of_record() {
        let mut rng = Rng::new(1, "record");
        let bits = [rng.uniform(), rng.exponential(1.0), rng.normal(), rng.log_normal(1.0, 1.0)].map(f64::to_bits);
        assert_eq!(
            bits.map(|b| format!("{b:016x}")),
            ["3fb3740cae109378", "3fb629a61990556f", "c008229e45d86ff5", "3ff1e6e2ec91766d"]
        );
    }

    #[test]
    fn functions_agree_with_the_standard_library() {
        for i in 1..4000 {
            let x = f64::from(i) * 0.005;
            assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0), "ln {x}");
            let y = x - 10.0;
            assert!((exp(y) - y.exp()).abs() <= 1e-14 * y.exp(), "exp {y}");
        }
        assert!(ln(1e-16).is_finite());
    }

    #[test]
    fn moments_are_right() {
        let mut rng = Rng::new(7, "moments");
        let n = 200_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || rng.uniform()) - 0.5).abs() < 0.005);
        assert!((mean(&mut || rng.exponential(3.0)) - 3.0).abs() < 0.03);
        assert!(mean(&mut || rng.normal()).abs() < 0.01);
        assert!((mean(&mut || rng.normal().powi(2)) - 1.0).abs() < 0.02);
        // The mean of a log-normal is median * e^(sigma^2 / 2).
        assert!((mean(&mut || rng.log_normal(1.0, 0.5)) - 0.125_f64.exp()).abs() < 0.01);
    }
}
