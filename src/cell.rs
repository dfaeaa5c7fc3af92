//! The fields of records: atomics that are written under the lock of the provider or pool that owns the record, and may be read
//! by anyone. They are accessed with relaxed ordering because the lock orders them.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// An integer of a record.
#[derive(Debug, Default)]
#[repr(transparent)]
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

    /// Replaces one value by another, without a lock. Whether it was that.
    pub(crate) fn replace(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
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
#[repr(transparent)]
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
#[repr(transparent)]
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
