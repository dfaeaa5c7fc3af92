//! How much a request uses, per dimension.

use crate::config::Dimension;

/// Dimensions that a request uses up; concurrency is held instead.
pub const COUNTED: usize = 6;

/// Units per dimension, in the order of [`Dimension`]. A request takes one concurrency slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage([u64; COUNTED + 1]);

impl Usage {
    /// Nothing at all.
    pub const NONE: Self = Self([0, 0, 0, 0, 0, 0, 1]);

    /// One request of which nothing else is known.
    pub(crate) const REQUEST: Self = Self([1, 0, 0, 0, 0, 0, 1]);

    /// The units as they are stored in a lease.
    #[inline]
    pub fn counted(&self) -> &[u64] {
        &self.0[..COUNTED]
    }

    /// The reverse of [`Usage::counted`].
    #[inline]
    pub fn new(units: [u64; COUNTED]) -> Self {
        let mut usage = Self::NONE;
        usage.0[..COUNTED].copy_from_slice(&units);
        usage
    }

    /// The same with no more than `most` of a dimension.
    pub(crate) fn capped(mut self, dimension: Dimension, most: u64) -> Self {
        if dimension != Dimension::Concurrency {
            let units = &mut self.0[dimension as usize];
            *units = (*units).min(most);
        }
        self
    }

    /// Units of a dimension.
    #[inline]
    pub fn of(&self, dimension: Dimension) -> u64 {
        self.0[dimension as usize]
    }
}

/// Usage as a request or response tells it: of each dimension so many units, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// In the order of [`Dimension`]; 0 where nothing is told.
    units: [u64; COUNTED],
    /// The dimensions that are told, a bit each.
    told: u8,
}

const fn bit(dimension: Dimension) -> u8 {
    1 << dimension as u8
}

const INPUT_OUTPUT: u8 = bit(Dimension::InputTokens) | bit(Dimension::OutputTokens);

impl Reported {
    /// The same with units of a dimension, if any are given. Concurrency is held, not told.
    #[inline]
    #[must_use]
    pub fn with(mut self, dimension: Dimension, units: Option<u64>) -> Self {
        if let (Some(slot), Some(units)) = (self.units.get_mut(dimension as usize), units) {
            *slot = units;
            self.told |= bit(dimension);
        }
        self
    }

    #[inline]
    fn has(&self, dimension: Dimension) -> bool {
        self.told & bit(dimension) != 0
    }

    /// Input and output tokens together.
    #[inline]
    fn sum(&self, assumed: &Usage) -> u64 {
        let part = |d: Dimension| if self.has(d) { self.units[d as usize] } else { assumed.of(d) };
        part(Dimension::InputTokens).saturating_add(part(Dimension::OutputTokens))
    }

    /// The dimensions that are told, or of which all is told that makes them up, a bit each.
    #[inline]
    pub(crate) fn told(&self) -> u8 {
        let sum = self.told & INPUT_OUTPUT == INPUT_OUTPUT;
        self.told | if sum { bit(Dimension::Tokens) } else { 0 }
    }

    /// What is told of a dimension, or of all that makes it up.
    pub(crate) fn of(&self, dimension: Dimension) -> Option<u64> {
        (self.told() & bit(dimension) != 0).then(|| self.or(&Usage::NONE).of(dimension))
    }

    /// The actual usage, where what is not told is as in `assumed`, and one request.
    #[inline]
    pub fn or(&self, assumed: &Usage) -> Usage {
        let mut usage = *assumed;
        usage.0[Dimension::Requests as usize] = 1;
        if self.told == 0 {
            return usage;
        }
        if self.told & INPUT_OUTPUT != 0 {
            usage.0[Dimension::Tokens as usize] = self.sum(assumed);
        }
        for (i, (slot, units)) in usage.0.iter_mut().zip(self.units).enumerate() {
            if self.told >> i & 1 != 0 {
                *slot = units;
            }
        }
        usage
    }

    /// What a request used of which so much was reserved. Input or output alone makes tokens no less that were reserved
    /// together.
    #[inline]
    pub(crate) fn of_reserved(&self, reserved: &Usage) -> Usage {
        let mut usage = self.or(reserved);
        let is_part = self.told & INPUT_OUTPUT != 0 && self.told() & bit(Dimension::Tokens) == 0;
        if is_part && reserved.of(Dimension::InputTokens) | reserved.of(Dimension::OutputTokens) == 0 {
            let tokens = &mut usage.0[Dimension::Tokens as usize];
            *tokens = (*tokens).max(reserved.of(Dimension::Tokens));
        }
        usage
    }

    /// `usage` with no more than `most` of what is not told; of a sum no less than the part that is told. It stays one request.
    pub(crate) fn within(&self, mut usage: Usage, most: &Usage) -> Usage {
        let told = self.told();
        for (i, units) in usage.0.iter_mut().enumerate().take(COUNTED).skip(1) {
            if told >> i & 1 == 0 {
                let least = if i == Dimension::Tokens as usize { self.sum(&Usage::NONE) } else { 0 };
                *units = (*units).min(most.0[i].max(least));
            }
        }
        usage
    }

    /// The dimensions that are told, or of which all is told that makes them up, each by its place, with their units.
    #[inline]
    pub(crate) fn amounts(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut told = self.told();
        std::iter::from_fn(move || {
            let i = told.trailing_zeros() as usize;
            told &= told.wrapping_sub(1);
            let units = *self.units.get(i)?;
            Some((i, if self.told >> i & 1 != 0 { units } else { self.sum(&Usage::NONE) }))
        })
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.told == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_nothing_told_makes() {
        assert_eq!(Reported::default().or(&Usage::NONE), Usage::REQUEST);
    }

    #[test]
    fn tokens_are_the_sum_unless_told() {
        let parts = |input, output| {
            Reported::default().with(Dimension::InputTokens, input).with(Dimension::OutputTokens, output)
        };
        assert_eq!(parts(Some(3), Some(4)).or(&Usage::NONE).of(Dimension::Tokens), 7);
        assert_eq!(parts(Some(3), Some(4)).with(Dimension::Tokens, Some(9)).or(&Usage::NONE).of(Dimension::Tokens), 9);
        assert_eq!(parts(Some(u64::MAX), Some(4)).or(&Usage::NONE).of(Dimension::Tokens), u64::MAX);
        let assumed = Usage::new([1, 100, 60, 40, 5, 6]);
        let told = parts(None, Some(10)).or(&assumed);
        assert_eq!(told.of(Dimension::Tokens), 70);
        assert_eq!(told.of(Dimension::InputTokens), 60);
        assert_eq!(told.of(Dimension::Bytes), 5);
        assert_eq!(told.of(Dimension::Concurrency), 1);
    }

    #[test]
    fn a_part_of_the_tokens_does_not_settle_the_rest() {
        let told = |kind, n| Reported::default().with(kind, Some(n));
        let tokens = |told: Reported, reserved: [u64; 3]| {
            let [all, input, output] = reserved;
            told.of_reserved(&Usage::new([1, all, input, output, 0, 0])).of(Dimension::Tokens)
        };
        let input = told(Dimension::InputTokens, 10);
        assert_eq!(tokens(input, [1000, 0, 0]), 1000);
        assert_eq!(tokens(input, [5, 0, 0]), 10);
        assert_eq!(tokens(input, [1000, 600, 400]), 410);
        assert_eq!(tokens(input.with(Dimension::OutputTokens, Some(7)), [1000, 0, 0]), 17);
        assert_eq!(tokens(told(Dimension::Tokens, 3), [1000, 0, 0]), 3);
        assert_eq!(tokens(Reported::default(), [1000, 0, 0]), 1000);
    }

    #[test]
    fn what_is_told() {
        let told = Reported::default().with(Dimension::InputTokens, Some(1));
        assert_eq!((told.of(Dimension::InputTokens), told.of(Dimension::Tokens)), (Some(1), None));
        assert_eq!(told.with(Dimension::OutputTokens, Some(0)).of(Dimension::Tokens), Some(1));
        assert_eq!(told.with(Dimension::Concurrency, Some(3)), told);
        assert_eq!(Usage::new([1, 9, 0, 0, 0, 0]).capped(Dimension::Tokens, 4).of(Dimension::Tokens), 4);
    }
}
