//! What an operation has changed, so that it can be undone: for processes that die in the middle of one.
//!
//! An operation holds the lock of a provider. Before it changes a record that processes share, it copies that record to the
//! provider's journal. If it ends, the journal is emptied by one store; if its process dies or it panics, whoever comes next
//! puts the copies back. So an operation has happened or not, and no count is ever wrong.
#![allow(unsafe_code, reason = "copies records as words")]

use std::sync::atomic::{Ordering, fence};

use crate::cell::Cell;
use crate::memory::{Memory, Stored};
use crate::table::{Run, Table};

/// A word of a journal.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Word(pub(crate) Cell);

/// The journal of a provider. Where nobody shares the records there is none, and nothing is written down.
///
/// The first word tells how many others are in use: copies, one after the other, each behind a word that tells where it
/// belongs (as words from the beginning of the memory, 40 bits) and how long it is.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    words: Run<Word>,
    /// Where the memory begins.
    base: usize,
}

const LEN_BITS: u32 = 24;
const WORD: usize = size_of::<u64>();

/// How many words a copy of a record takes.
pub(crate) const fn words_for<T>(records: usize) -> usize {
    1 + records * size_of::<T>() / WORD
}

impl Journal {
    /// The journal that begins at a word; none if that is 0.
    pub(crate) fn at(first: u32, words: &Table<Word>, memory: &Memory) -> Self {
        let Some(base) = memory.base().filter(|_| first != 0) else { return Self::default() };
        let first = first as usize;
        // Its length stands before it.
        let len = words.get(first - 1).map_or(0, |len| len.0.get() as usize);
        Self { words: words.keep_run(first, len), base }
    }

    /// Makes room for a journal with so many words of copies; the word that it begins at. `None` if there is no room.
    pub(crate) fn make(copies: usize, words: &Table<Word>) -> Option<u32> {
        let at = words.append(Self::words(copies))?;
        words.get(at)?.0.set(1 + copies as u64);
        words.get(at + 1)?.0.set(0);
        u32::try_from(at + 1).ok()
    }

    /// The word behind the journal that begins at one.
    pub(crate) fn end(first: u32, words: &Table<Word>) -> usize {
        let first = first as usize;
        first.saturating_add(words.get(first - 1).map_or(0, |len| len.0.get() as usize))
    }

    /// How many words that takes: it begins with two lengths.
    pub(crate) fn words(copies: usize) -> usize {
        2 + copies
    }

    /// Whether there is room for so many words of copies.
    pub(crate) fn holds(&self, copies: usize) -> bool {
        self.words.len() > copies
    }

    #[inline]
    pub(crate) fn is_kept(&self) -> bool {
        !self.words.is_empty()
    }

    /// Writes down a record that is about to change: its first words, [`Stored::KEPT`] of them. Its lock is held.
    #[inline]
    pub(crate) fn keep<T: Stored>(&self, record: &T) {
        if self.is_kept() {
            self.copy(std::ptr::from_ref(record).cast(), T::KEPT);
        }
    }

    /// The same for a record that may have been written down already.
    #[inline]
    pub(crate) fn keep_once<T: Stored>(&self, record: &T) {
        if self.is_kept() && !self.has(std::ptr::from_ref(record).addr()) {
            self.keep(record);
        }
    }

    /// The same for the other words of a record.
    pub(crate) fn keep_rest_once<T: Stored>(&self, record: &T) {
        let rest = std::ptr::from_ref(record).cast::<u64>().wrapping_add(T::KEPT);
        if self.is_kept() && !self.has(rest.addr()) {
            self.copy(rest, size_of::<T>() / WORD - T::KEPT);
        }
    }

    /// The same for all of a run of records.
    #[inline]
    pub(crate) fn keep_run_once<T: Stored>(&self, run: &[T]) {
        if self.is_kept() && !run.is_empty() && !self.has(run.as_ptr().addr()) {
            self.copy(run.as_ptr().cast(), size_of_val(run) / WORD);
        }
    }

    /// Whether what begins there is written down.
    fn has(&self, at: usize) -> bool {
        let at = ((at - self.base) / WORD) as u64;
        let used = self.words[0].0.get() as usize;
        let mut rest = self.words.get(1..).and_then(|words| words.get(..used)).unwrap_or_default();
        while let [head, behind @ ..] = rest {
            let head = head.0.get();
            if head >> LEN_BITS == at {
                return true;
            }
            rest = behind.get((head & ((1 << LEN_BITS) - 1)) as usize..).unwrap_or_default();
        }
        false
    }

    fn copy(&self, from: *const u64, len: usize) {
        let used = self.words[0].0.get() as usize;
        let Some([head, to @ ..]) = self.words.get(1 + used..2 + used + len) else {
            // Its length was computed from what can be written down: see `State::define`.
            debug_assert!(false, "the journal is too short");
            return;
        };
        head.0.set((((from.addr() - self.base) / WORD) as u64) << LEN_BITS | len as u64);
        // SAFETY: the record is as long, and neither it nor the journal is written by anyone else while the lock is held;
        // the words of the journal are atomics, behind shared references, and so may be written.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_ptr().cast_mut().cast(), len) };
        // The copy is there before it counts, and counts before anything changes.
        fence(Ordering::Release);
        self.words[0].0.set((used + 1 + len) as u64);
        fence(Ordering::Release);
    }

    /// The operation has ended: what it changed stays.
    #[inline]
    pub(crate) fn close(&self) {
        if self.is_kept() {
            fence(Ordering::Release);
            self.words[0].0.set(0);
        }
    }

    /// Puts back everything that was written down. May itself be broken off, and done again.
    #[inline]
    pub(crate) fn undo(&self, memory: &Memory) {
        if self.is_kept() && self.words[0].0.get() != 0 {
            self.put_back(memory);
        }
    }

    #[cold]
    fn put_back(&self, memory: &Memory) {
        fence(Ordering::Acquire);
        let used = (self.words[0].0.get() as usize).min(self.words.len() - 1);
        let mut rest = &self.words[1..=used];
        let mut copies = Vec::new();
        while let [head, behind @ ..] = rest {
            let (at, len) = ((head.0.get() >> LEN_BITS) as usize, (head.0.get() & ((1 << LEN_BITS) - 1)) as usize);
            let (Some(copy), Some(behind)) = (behind.get(..len), behind.get(len..)) else { break };
            if let Some(record) = memory.words(at * WORD, len) {
                copies.push((record, copy));
            }
            rest = behind;
        }
        // The first copy of a record is the oldest.
        for (record, copy) in copies.into_iter().rev() {
            record.iter().zip(copy).for_each(|(to, from)| to.set(from.0.get()));
        }
        self.close();
    }
}
