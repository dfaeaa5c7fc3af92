//! How much a request uses, per dimension.

use crate::config::Dimension;

/// Dimensions that a request uses up; concurrency is held instead.
pub const COUNTED: usize = 6;

/// Units per dimension, in the order of [`Dimension`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage([u64; COUNTED]);

impl Usage {
    /// Nothing at all.
    pub const NONE: Self = Self([0; COUNTED]);

    /// The units as they are stored in a lease.
    pub fn to_array(self) -> [u64; COUNTED] {
        self.0
    }

    /// The reverse of [`Usage::to_array`].
    pub fn from_array(units: [u64; COUNTED]) -> Self {
        Self(units)
    }

    /// The same with no more than `most` of a dimension.
    pub(crate) fn capped(mut self, dimension: Dimension, most: u64) -> Self {
        if let Some(units) = self.0.get_mut(dimension as usize) {
            *units = (*units).min(most);
        }
        self
    }

    /// Units of a dimension. A request takes one concurrency slot.
    #[inline]
    pub fn of(&self, dimension: Dimension) -> u64 {
        self.0.get(dimension as usize).copied().unwrap_or(1)
    }
}

/// Usage as a request or response tells it; `None` is "not given".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Requests; not given is 1.
    pub requests: Option<u64>,
    /// Tokens, input and output together.
    pub tokens: Option<u64>,
    /// Input tokens.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_micro_usd: Option<u64>,
}

impl Reported {
    /// All of it, in the order of [`Usage`].
    #[inline]
    pub(crate) fn told(&self) -> [Option<u64>; COUNTED] {
        [
            self.requests,
            self.tokens.or_else(|| Some(self.input_tokens?.saturating_add(self.output_tokens?))),
            self.input_tokens,
            self.output_tokens,
            self.bytes,
            self.cost_micro_usd,
        ]
    }

    /// Whether it tells nothing at all.
    #[inline]
    pub(crate) fn tells_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it tells a dimension, or all that makes it up.
    pub(crate) fn tells(&self, dimension: Dimension) -> bool {
        self.told().get(dimension as usize).copied().flatten().is_some()
    }

    /// The actual usage, where what is not told is as in `assumed`.
    #[inline]
    pub fn or(&self, assumed: &Usage) -> Usage {
        let Usage([_, tokens, input, output, bytes, cost]) = *assumed;
        let sum = match (self.input_tokens, self.output_tokens) {
            (None, None) => None,
            (i, o) => Some(i.unwrap_or(input).saturating_add(o.unwrap_or(output))),
        };
        Usage([
            self.requests.unwrap_or(1),
            self.tokens.or(sum).unwrap_or(tokens),
            self.input_tokens.unwrap_or(input),
            self.output_tokens.unwrap_or(output),
            self.bytes.unwrap_or(bytes),
            self.cost_micro_usd.unwrap_or(cost),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_sum_unless_told() {
        let parts = |input, output| Reported { input_tokens: input, output_tokens: output, ..Reported::default() };
        assert_eq!(parts(Some(3), Some(4)).or(&Usage::NONE).of(Dimension::Tokens), 7);
        assert_eq!(Reported { tokens: Some(9), ..parts(Some(3), Some(4)) }.or(&Usage::NONE).of(Dimension::Tokens), 9);
        assert_eq!(parts(Some(u64::MAX), Some(4)).or(&Usage::NONE).of(Dimension::Tokens), u64::MAX);
        let assumed = Usage::from_array([1, 100, 60, 40, 5, 6]);
        let told = parts(None, Some(10)).or(&assumed);
        assert_eq!(told.of(Dimension::Tokens), 70);
        assert_eq!(told.of(Dimension::InputTokens), 60);
        assert_eq!(told.of(Dimension::Bytes), 5);
        assert_eq!(told.of(Dimension::Concurrency), 1);
    }

    #[test]
    fn what_is_told() {
        let told = Reported { input_tokens: Some(1), ..Reported::default() };
        assert!(told.tells(Dimension::InputTokens) && !told.tells(Dimension::Tokens));
        assert!(Reported { output_tokens: Some(0), ..told }.tells(Dimension::Tokens));
        assert_eq!(Usage::from_array([1, 9, 0, 0, 0, 0]).capped(Dimension::Tokens, 4).of(Dimension::Tokens), 4);
    }
}
