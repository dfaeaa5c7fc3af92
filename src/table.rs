//! Where everything that changes while routing lives: tables of fixed-layout records without pointers.
//!
//! A record is addressed by its index, never moves and is never freed, so a reference to it may be kept as long as the
//! engine. Its fields are cells.
#![allow(unsafe_code, reason = "pointers to records, which are looked at several times in each call")]

use std::ops::Deref;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::cell::Cell;
use crate::memory::{ALIGN, Head, Memory, Stored};

/// A table of records that grows by chunks. Each chunk is an eighth of all before it, so that little is ever unused.
pub(crate) struct Table<T> {
    memory: Arc<Memory>,
    /// The chunks that this process has seen: another may have made more.
    chunks: [AtomicPtr<T>; CHUNKS],
}

/// Records in the first chunks.
const FIRST: usize = 1 << FIRST_BITS;
const FIRST_BITS: u32 = 7;
/// Chunks of one size.
const EQUAL: usize = 1 << EQUAL_BITS;
const EQUAL_BITS: u32 = 3;
pub(crate) const CHUNKS: usize = 21 << EQUAL_BITS;

/// The chunk of a record and its place among those there. Eight chunks hold 128 records each, the next eight 256, and so on.
#[inline]
fn place(index: usize) -> (usize, usize) {
    // What follows tells the same, with a logarithm.
    if index < FIRST * EQUAL {
        return (index >> FIRST_BITS, index & (FIRST - 1));
    }
    let doublings = (index / (FIRST * EQUAL) + 1).ilog2();
    let at = index - FIRST * EQUAL * ((1 << doublings) - 1);
    let bits = FIRST_BITS + doublings;
    ((doublings << EQUAL_BITS) as usize + (at >> bits), at & ((1 << bits) - 1))
}

/// The first record of a chunk.
fn start(chunk: usize) -> usize {
    let (doublings, nth) = (chunk >> EQUAL_BITS, chunk & (EQUAL - 1));
    FIRST * EQUAL * ((1 << doublings) - 1) + nth * (FIRST << doublings)
}

/// How many records a chunk has.
pub(crate) fn records_of(chunk: usize) -> usize {
    FIRST << (chunk >> EQUAL_BITS)
}

/// How many chunks so many records reach into; `None` if no table has so many.
#[cfg(unix)]
pub(crate) fn chunks_for(len: usize) -> Option<usize> {
    let chunks = len.checked_sub(1).map_or(0, |last| place(last).0 + 1);
    (chunks <= CHUNKS).then_some(chunks)
}

/// A record by itself: as fast as a pointer, and keeps its memory alive.
pub(crate) struct Record<T> {
    at: NonNull<T>,
    _memory: Arc<Memory>,
}

/// Records that were appended together; without memory if there are none.
pub(crate) struct Run<T> {
    at: NonNull<[T]>,
    _memory: Option<Arc<Memory>>,
}

impl<T> Deref for Record<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: it lies in the memory, which lives as long as this, never moves, and is only ever shared.
        unsafe { self.at.as_ref() }
    }
}

impl<T> Deref for Run<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: likewise.
        unsafe { self.at.as_ref() }
    }
}

impl Record<Head> {
    /// The head of a memory.
    pub(crate) fn head(memory: &Arc<Memory>) -> Self {
        Self { at: NonNull::from(memory.head()), _memory: memory.clone() }
    }
}

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Self { at: self.at, _memory: self._memory.clone() }
    }
}

impl<T> Clone for Run<T> {
    fn clone(&self) -> Self {
        Self { at: self.at, _memory: self._memory.clone() }
    }
}

impl<T> Default for Run<T> {
    fn default() -> Self {
        Self { at: NonNull::from(&[]), _memory: None }
    }
}

// SAFETY: they are shared references to what the memory holds, and may go wherever that may.
unsafe impl<T: Send + Sync> Send for Record<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Record<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Send for Run<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Run<T> {}

impl<T: Stored> Table<T> {
    /// Most records of a table: about two thousand million.
    pub(crate) const MAX: usize = FIRST * EQUAL * ((1 << (CHUNKS >> EQUAL_BITS)) - 1);

    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self { memory: memory.clone(), chunks: [const { AtomicPtr::new(null_mut()) }; CHUNKS] }
    }

    /// Appends `n` records that lie next to each other; the index of the first, or `None` if the table or memory is full.
    pub(crate) fn append(&self, n: usize) -> Option<usize> {
        let directory = self.memory.directory::<T>();
        let _guard = self.memory.lock(&directory.lock);
        let mut first = self.len();
        loop {
            let (chunk, _) = place(first);
            let end = start(chunk + 1);
            if end > Self::MAX || n > Self::MAX {
                return None;
            }
            if first + n <= end {
                if self.chunk(chunk).is_none() {
                    let made = self.memory.new_chunk::<T>(chunk, records_of(chunk))?;
                    self.chunks.get(chunk)?.store(made.as_ptr(), Ordering::Release);
                }
                directory.len.set((first + n) as u64);
                return Some(first);
            }
            // A run never crosses chunks: the rest of this one stays unused.
            first = end;
        }
    }

    /// Appends records until there are `n`. `None` if the table or memory is full.
    pub(crate) fn reach(&self, n: usize) -> Option<()> {
        while self.len() < n {
            self.append(1)?;
        }
        Some(())
    }

    /// How many bytes of new chunks it takes until there are `n` records.
    pub(crate) fn bytes_to_reach(&self, n: usize) -> usize {
        self.bytes_for(std::iter::repeat_n(1, n.saturating_sub(self.len())))
    }

    /// How many bytes of new chunks it takes to append runs of these lengths.
    pub(crate) fn bytes_for(&self, runs: impl Iterator<Item = usize>) -> usize {
        let (mut len, mut bytes, mut made) = (self.len(), 0, 0);
        for n in runs {
            let mut chunk = place(len).0;
            while len + n > start(chunk + 1) && chunk < CHUNKS {
                chunk += 1;
                len = start(chunk);
            }
            len += n;
            if chunk >= made && self.chunk(chunk).is_none() {
                bytes += (records_of(chunk) * size_of::<T>()).next_multiple_of(ALIGN);
                made = chunk + 1;
            }
        }
        bytes
    }

    /// Where a chunk lies.
    #[inline]
    fn chunk(&self, chunk: usize) -> Option<NonNull<T>> {
        let known = NonNull::new(self.chunks.get(chunk)?.load(Ordering::Acquire));
        if known.is_some() { known } else { self.find_chunk(chunk) }
    }

    #[cold]
    fn find_chunk(&self, chunk: usize) -> Option<NonNull<T>> {
        let found = self.memory.chunk::<T>(chunk, records_of(chunk))?;
        self.chunks.get(chunk)?.store(found.as_ptr(), Ordering::Release);
        Some(found)
    }

    /// A record that was appended.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (chunk, at) = place(index);
        let at = if T::STRIDE == 1 { at } else { (at * T::STRIDE) & (records_of(chunk) - 1) };
        // SAFETY: `at` is a place inside the chunk, which lives as long as the memory and so as this, and is only ever
        // shared.
        Some(unsafe { self.chunk(chunk)?.add(at).as_ref() })
    }

    /// Zeroes the records from an index on, also those that were not yet appended: nobody uses them.
    #[cfg(unix)]
    pub(crate) fn clear_from(&self, index: usize) {
        for record in (index..).map_while(|index| self.get(index)) {
            let words = NonNull::from(record).cast::<Cell>();
            // SAFETY: a record consists of atomics.
            let words = unsafe { NonNull::slice_from_raw_parts(words, size_of::<T>() / size_of::<Cell>()).as_ref() };
            words.iter().for_each(|word| word.set(0));
        }
    }

    /// The same as [`Self::get`], to be kept.
    pub(crate) fn record(&self, index: usize) -> Option<Record<T>> {
        Some(Record { at: NonNull::from(self.get(index)?), _memory: self.memory.clone() })
    }

    /// `n` records that were appended together; empty if they were not.
    pub(crate) fn run(&self, first: usize, n: usize) -> &[T] {
        const { assert!(T::STRIDE == 1, "records of a run lie next to each other") }
        let (chunk, at) = place(first);
        let inside = at.checked_add(n).is_some_and(|end| end <= records_of(chunk));
        match self.chunk(chunk).filter(|_| inside) {
            // SAFETY: likewise.
            Some(records) => unsafe { NonNull::slice_from_raw_parts(records.add(at), n).as_ref() },
            None => &[],
        }
    }

    /// The same, to be kept.
    pub(crate) fn keep_run(&self, first: usize, n: usize) -> Run<T> {
        match self.run(first, n) {
            [] => Run::default(),
            run => Run { at: NonNull::from(run), _memory: Some(self.memory.clone()) },
        }
    }

    /// All records, in the order of their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Forgets the records from an index on, which nobody has.
    pub(crate) fn cut(&self, len: usize) {
        let directory = self.memory.directory::<T>();
        let _guard = self.memory.lock(&directory.lock);
        if len < self.len() {
            directory.len.set(len as u64);
        }
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.memory.directory::<T>().len.get() as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::journal::Word;
    use crate::provider::Provider;

    #[test]
    fn records_stay_where_they_are() {
        let table = Table::<Word>::new(&Arc::new(Memory::heap()));
        let first = table.append(1).and_then(|i| table.record(i)).unwrap();
        first.0.set(7);
        for n in 1..200 {
            let at = table.append(n).unwrap();
            assert_eq!(table.run(at, n).len(), n, "a run of {n} at {at}");
            assert_eq!(table.keep_run(at, n).len(), n, "a kept run of {n} at {at}");
        }
        assert_eq!(table.get(0).unwrap().0.get(), 7);
        assert!(table.get(table.len() + 100_000).is_none());
        assert!(table.keep_run(table.len() + 100_000, 3).is_empty());
    }

    #[test]
    fn neighbours_that_lie_apart_have_places_of_their_own() {
        let table = Table::<Provider>::new(&Arc::new(Memory::heap()));
        table.reach(2000).unwrap();
        let at: Vec<_> = table.iter().map(|record| std::ptr::from_ref(record).addr()).collect();
        assert_eq!(at.iter().collect::<HashSet<_>>().len(), 2000);
        let near = at.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 4096).count();
        assert_eq!(near, 0);
    }

    #[test]
    fn chunks_follow_each_other() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            let (chunk, at) = place(index);
            assert_eq!((chunk, at), expected, "{index}");
            assert_eq!(start(chunk) + at, index);
            expected = if index + 1 == start(chunk + 1) { (chunk + 1, 0) } else { (chunk, at + 1) };
        }
        assert!(place(Table::<Word>::MAX - 1).0 < CHUNKS);
    }
}
