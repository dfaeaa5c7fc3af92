//! Where everything that changes while routing lives: tables of fixed-layout records without pointers.
//!
//! A record is addressed by its index, never moves and is never freed, so a reference to it may be kept as long as the
//! engine. Its fields are cells: atomics that are written under the lock of the provider or pool that owns the record, and
//! may be read by anyone. They are accessed with relaxed ordering because the lock orders them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

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

/// Records in the first chunk; each further chunk is as large as all before it.
const FIRST: usize = 64;
const CHUNKS: usize = 24;

/// A table of records that grows by chunks.
pub(crate) struct Table<T> {
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
    len: Mutex<usize>,
}

/// The chunk of a record and its place there.
#[inline]
fn place(index: usize) -> (usize, usize) {
    let chunk = (index / FIRST + 1).ilog2() as usize;
    (chunk, index - start(chunk))
}

fn start(chunk: usize) -> usize {
    FIRST * ((1 << chunk) - 1)
}

impl<T: Default> Table<T> {
    /// Most records of a table: about a thousand million.
    pub(crate) const MAX: usize = FIRST * ((1 << CHUNKS) - 1);

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

    /// A record that was appended.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (chunk, at) = place(index);
        self.chunks.get(chunk)?.get()?.get(at)
    }

    /// `n` records that were appended together; empty if they were not.
    #[inline]
    pub(crate) fn run(&self, first: usize, n: usize) -> &[T] {
        let (chunk, at) = place(first);
        self.chunks.get(chunk).and_then(OnceLock::get).and_then(|records| records.get(at..at + n)).unwrap_or_default()
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
        let first = table.append(1).and_then(|i| table.get(i)).unwrap();
        first.set(7);
        for n in 1..200 {
            let at = table.append(n).unwrap();
            assert_eq!(table.run(at, n).len(), n, "a run of {n} at {at}");
        }
        assert_eq!(first.get(), 7);
        assert!(table.get(table.len() + 100_000).is_none());
    }

    #[test]
    fn chunks_follow_each_other() {
        for index in [0, 1, 63, 64, 191, 192, 447, 448, 1_000_000] {
            let (chunk, at) = place(index);
            assert_eq!(start(chunk) + at, index);
            assert!(index < start(chunk + 1));
        }
    }
}
