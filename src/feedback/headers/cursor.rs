//! A reading position in a byte string.

/// The bytes that are still to be read.
///
/// Every `Option`-returning step leaves the cursor where it was when it
/// answers `None`, so steps chain with `?`.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte, which stays unread.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Reads one byte if `wanted` likes it.
    pub(super) fn eat_if(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        wanted(byte).then(|| {
            self.0 = rest;
            byte
        })
    }

    /// Reads exactly this byte.
    pub(super) fn eat(&mut self, byte: u8) -> Option<u8> {
        self.eat_if(|next| next == byte)
    }

    /// Reads exactly these bytes.
    pub(super) fn eat_text(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Reads all bytes up to the first that `wanted` does not like; maybe none.
    pub(super) fn eat_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = *self;
        while self.eat_if(&wanted).is_some() {}
        self.since(&start)
    }

    /// Reads `1*DIGIT`.
    pub(super) fn digits(&mut self) -> Option<&'a [u8]> {
        let digits = self.eat_while(|byte| byte.is_ascii_digit());
        (!digits.is_empty()).then_some(digits)
    }

    /// What was read since `start`, an earlier copy of this cursor.
    pub(super) fn since(&self, start: &Self) -> &'a [u8] {
        let length = start.0.len().saturating_sub(self.0.len());
        start.0.get(..length).unwrap_or_default()
    }
}
