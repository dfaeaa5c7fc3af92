//! Where everything that changes while routing lives: tables of fixed-layout records without pointers.
//!
//! A record is addressed by its index, never moves and is never freed, so a reference to it may be kept as long as the
//! engine. Its fields are cells: atomics that are written under the lock of the provider or pool that owns the record, and
//! may be read by anyone. They are accessed with relaxed ordering because the lock orders them.
#![allow(unsafe_code, reason = "pointers to records, which are looked at several times in each call")]

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// An integer of a record.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds under the owner's lock: not one atomic step.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.set(self.get().saturating_add(n));
    }

    /// Subtracts under the owner's lock.
    #[inline]
    pub(crate) fn sub(&self, n: u64) {
        self.set(self.get().saturating_sub(n));
    }

    /// Lowers it to a value, without a lock.
    #[inline]
    pub(crate) fn lower(&self, value: u64) {
        if value < self.get() {
            self.0.fetch_min(value, Ordering::Relaxed);
        }
    }

    /// Adds without a lock.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A small integer of a record.
#[derive(Debug, Default)]
pub(crate) struct SmallCell(AtomicU32);

impl SmallCell {
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number of a record. Zero bytes are 0.0.
#[derive(Debug, Default)]
pub(crate) struct FloatCell(Cell);

impl FloatCell {
    #[inline]
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.get())
    }

    #[inline]
    pub(crate) fn set(&self, value: f64) {
        self.0.set(value.to_bits());
    }
}

/// A table of records that grows by chunks. Each chunk is an eighth of all before it, so that little is ever unused.
pub(crate) struct Table<T> {
    chunks: [OnceLock<Arc<[T]>>; CHUNKS],
    len: Mutex<usize>,
}

/// Records in the first chunks.
const FIRST: usize = 1 << FIRST_BITS;
const FIRST_BITS: u32 = 7;
/// Chunks of one size.
const EQUAL: usize = 1 << EQUAL_BITS;
const EQUAL_BITS: u32 = 3;
const CHUNKS: usize = 21 << EQUAL_BITS;

/// The chunk of a record and its place there. Eight chunks hold 128 records each, the next eight 256, and so on.
#[inline]
fn place(index: usize) -> (usize, usize) {
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

/// A record by itself: as fast as a pointer, and keeps its chunk alive.
pub(crate) struct Record<T> {
    at: NonNull<T>,
    _chunk: Arc<[T]>,
}

/// Records that were appended together.
pub(crate) struct Run<T> {
    at: NonNull<[T]>,
    _chunk: Arc<[T]>,
}

impl<T> Deref for Record<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: it lies in the chunk, which lives as long as this, never moves, and is only ever shared.
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

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Self { at: self.at, _chunk: self._chunk.clone() }
    }
}

impl<T> Clone for Run<T> {
    fn clone(&self) -> Self {
        Self { at: self.at, _chunk: self._chunk.clone() }
    }
}

// SAFETY: they are shared references to what their chunk holds, and may go wherever that may.
unsafe impl<T: Send + Sync> Send for Record<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Record<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Send for Run<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Run<T> {}

impl<T: Default> Table<T> {
    /// Most records of a table: about two thousand million.
    pub(crate) const MAX: usize = FIRST * EQUAL * ((1 << (CHUNKS >> EQUAL_BITS)) - 1);

    pub(crate) fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS], len: Mutex::new(0) }
    }

    /// Appends `n` records that lie next to each other; the index of the first, or `None` if the table is full.
    pub(crate) fn append(&self, n: usize) -> Option<usize> {
        let mut len = self.len.lock();
        let mut first = *len;
        loop {
            let (chunk, _) = place(first);
            let end = start(chunk + 1);
            if end > Self::MAX || n > Self::MAX {
                return None;
            }
            if first + n <= end {
                self.chunks.get(chunk)?.get_or_init(|| (start(chunk)..end).map(|_| T::default()).collect());
                *len = first + n;
                return Some(first);
            }
            // A run never crosses chunks: the rest of this one stays unused.
            first = end;
        }
    }

    #[inline]
    fn chunk(&self, index: usize) -> Option<(&Arc<[T]>, usize)> {
        let (chunk, at) = place(index);
        Some((self.chunks.get(chunk)?.get()?, at))
    }

    /// A record that was appended.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (chunk, at) = self.chunk(index)?;
        chunk.get(at)
    }

    /// The same, to be kept.
    pub(crate) fn record(&self, index: usize) -> Option<Record<T>> {
        let (chunk, at) = self.chunk(index)?;
        Some(Record { at: NonNull::from(chunk.get(at)?), _chunk: chunk.clone() })
    }

    /// `n` records that were appended together; empty if they were not.
    pub(crate) fn run(&self, first: usize, n: usize) -> &[T] {
        self.chunk(first).and_then(|(chunk, at)| chunk.get(at..at + n)).unwrap_or_default()
    }

    /// The same, to be kept.
    pub(crate) fn keep_run(&self, first: usize, n: usize) -> Run<T> {
        let found = self.chunk(first).and_then(|(chunk, at)| {
            let run = chunk.get(at..at + n)?;
            Some(Run { at: NonNull::from(run), _chunk: chunk.clone() })
        });
        found.unwrap_or_else(|| {
            let nothing: Arc<[T]> = Arc::new([]);
            Run { at: NonNull::from(&*nothing), _chunk: nothing }
        })
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        *self.len.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_where_they_are() {
        let table = Table::<Cell>::new();
        let first = table.append(1).and_then(|i| table.record(i)).unwrap();
        first.set(7);
        for n in 1..200 {
            let at = table.append(n).unwrap();
            assert_eq!(table.run(at, n).len(), n, "a run of {n} at {at}");
            assert_eq!(table.keep_run(at, n).len(), n, "a kept run of {n} at {at}");
        }
        assert_eq!(table.get(0).unwrap().get(), 7);
        assert!(table.get(table.len() + 100_000).is_none());
        assert!(table.keep_run(table.len() + 100_000, 3).is_empty());
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
        assert!(place(Table::<Cell>::MAX - 1).0 < CHUNKS);
    }
}
