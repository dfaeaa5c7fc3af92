//! Bytes as a source of decisions. When they run out, all that follows is zero.

pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// As many as are left, at most `n`.
    pub(crate) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub(crate) fn pick<T: Clone>(&mut self, table: &[T]) -> T {
        table[self.below(table.len())].clone()
    }

    /// Once in `n`, and not when the bytes have run out.
    pub(crate) fn once_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.bytes(8).iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    /// Mostly small; sometimes any number, or one near a power of two.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small) % 20,
            medium @ 200..=239 => u64::from(medium) * u64::from(self.byte()),
            240..=247 => self.u64(),
            power => (1u64 << (self.byte() % 64)).wrapping_add(u64::from(power)).wrapping_sub(251),
        }
    }
}
