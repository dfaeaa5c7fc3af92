//! What a request will use, learned from those before it: per capability and provider, for estimates that callers leave out.

use crate::cell::{Cell, FloatCell};
use crate::usage::{COUNTED, Reported, Usage};

/// Share of a new value in the averages, once there are enough: a change of traffic shows within some tens of requests.
const ALPHA: f64 = 0.05;
/// Step of the quantile, in mean deviations. Larger follows faster and trembles more.
const STEP: f64 = 0.2;

/// What the requests of one capability on one provider use. Written under the provider's lock.
#[derive(Debug, Default)]
// See `Provider`.
#[repr(C, align(64))]
pub(crate) struct Estimator {
    /// How many values of each dimension were seen, a byte for each; it stops where their number no longer matters. The
    /// highest byte has a bit for each dimension of which any were.
    seen: Cell,
    dimensions: [Learned; COUNTED],
}

#[derive(Debug, Default)]
#[repr(C)]
struct Learned {
    mean: FloatCell,
    /// Mean distance from the mean.
    deviation: FloatCell,
    quantile: FloatCell,
}

impl Learned {
    /// Takes in the `n`th value. The quantile moves up by `p` steps when the value is above it and down by `1 - p` when
    /// below, and so settles where a share `p` of the values lies below (stochastic approximation, Robbins and Monro 1951).
    fn learn(&self, n: u64, value: f64, p: f64) {
        if n == 1 {
            self.mean.set(value);
            self.quantile.set(value);
            return;
        }
        let alpha = if n < MANY { 1.0 / n as f64 } else { ALPHA };
        let mean = self.mean.get();
        let deviation = self.deviation.get();
        self.deviation.set(deviation + alpha * ((value - mean).abs() - deviation));
        self.mean.set(mean + alpha * (value - mean));
        let quantile = self.quantile.get();
        let direction = if value > quantile { p } else { p - 1.0 };
        self.quantile.set((quantile + STEP * self.deviation.get() * direction).max(0.0));
    }

    fn expected(&self, p: f64) -> u64 {
        // The cast saturates.
        (if p > 0.0 { self.quantile.get() } else { self.mean.get() }).ceil() as u64
    }
}

/// From so many values on, each has the share [`ALPHA`].
const MANY: u64 = (1.0 / ALPHA) as u64;
/// Where the bits of the dimensions start.
const KNOWN: u32 = 56;

impl Estimator {
    /// Takes in what a request used, as far as the response tells. `quantile` is the one to learn; 0 is none. Whether that
    /// was the first thing it learned.
    pub(crate) fn learn(&self, used: &Reported, quantile: f64) -> bool {
        let before = self.seen.get();
        let mut seen = before | u64::from(used.told()) << KNOWN;
        for (i, units) in used.amounts() {
            let n = (seen >> (8 * i) & 0xFF) + 1;
            if n <= MANY {
                seen += 1 << (8 * i);
            }
            self.dimensions[i].learn(n, units as f64, quantile);
        }
        if seen != before {
            self.seen.set(seen);
        }
        before == 0 && seen != 0
    }

    /// Makes sense of cells that may be anything: what makes none is forgotten.
    #[cfg(unix)]
    pub(crate) fn put_right(&self) {
        let seen = self.seen.get();
        let numbers = self.dimensions.iter().flat_map(|d| [d.mean.get(), d.deviation.get(), d.quantile.get()]);
        let counts = |i: usize| (seen >> (8 * i)) & 0xFF;
        let known = |i: usize| seen >> (KNOWN + i as u32) & 1 != 0;
        let sound = seen >> (KNOWN + COUNTED as u32) == 0
            && (0..COUNTED).all(|i| counts(i) <= MANY && (counts(i) != 0) == known(i));
        if !sound || !numbers.into_iter().all(|n| n.is_finite() && n >= 0.0) {
            self.forget();
        }
    }

    /// Forgets all.
    pub(crate) fn forget(&self) {
        self.seen.set(0);
        for learned in &self.dimensions {
            [&learned.mean, &learned.deviation, &learned.quantile].into_iter().for_each(|cell| cell.set(0.0));
        }
    }

    /// Whether it has learned anything.
    #[inline]
    pub(crate) fn knows(&self) -> bool {
        self.seen.get() != 0
    }

    /// Whether it has learned anything of a dimension that is not among `told`.
    #[inline]
    pub(crate) fn knows_beyond(&self, told: u8) -> bool {
        (self.seen.get() >> KNOWN) as u8 & !told != 0
    }

    /// What a request is expected to use: the quantile, or with 0 the mean. Nothing before the first is known.
    pub(crate) fn expected(&self, quantile: f64) -> Usage {
        let seen = self.seen.get();
        Usage::new(std::array::from_fn(|i| {
            if seen >> (KNOWN + i as u32) & 1 == 0 { 0 } else { self.dimensions[i].expected(quantile) }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dimension;

    fn told(tokens: u64) -> Reported {
        Reported::default().with(Dimension::Tokens, Some(tokens))
    }

    #[test]
    fn the_mean_follows_the_values() {
        let estimator = Estimator::default();
        assert_eq!(estimator.expected(0.0), Usage::NONE);
        for i in 0..1000 {
            estimator.learn(&told(if i % 2 == 0 { 100 } else { 300 }), 0.0);
        }
        let mean = estimator.expected(0.0).of(Dimension::Tokens);
        assert!((190..=210).contains(&mean), "{mean}");
        assert_eq!(estimator.expected(0.0).of(Dimension::Bytes), 0);
    }

    #[test]
    fn a_share_of_the_values_lies_below_the_quantile() {
        for p in [0.5, 0.8, 0.95] {
            let estimator = Estimator::default();
            let (mut below, mut n) = (0.0, 12_345_u64);
            for i in 0..20_000 {
                // A linear congruential generator is random enough here.
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let value = (n >> 40) % 1000;
                if i >= 10_000 && value < estimator.expected(p).of(Dimension::Tokens) {
                    below += 1.0;
                }
                estimator.learn(&told(value), p);
            }
            assert!((below / 10_000.0 - p).abs() < 0.05, "{p}: {below}");
        }
    }

    #[test]
    fn extremes_do_no_harm() {
        let estimator = Estimator::default();
        for value in [0, u64::MAX, 0, u64::MAX] {
            estimator.learn(&told(value), 0.9);
        }
        assert!(estimator.expected(0.0).of(Dimension::Tokens) > 0);
    }
}
