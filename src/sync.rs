//! What the hand-made locks are made of. `tools/model` compiles them with loom's in the place of these, and tries the orders
//! in which threads may take their steps.
#![allow(unsafe_code, reason = "what a lock guards")]

use std::cell::UnsafeCell;

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::atomic;
pub(crate) use std::thread;

/// Waits for some tens of nanoseconds, so many times.
pub(crate) fn spin(times: u32) {
    (0..times).for_each(|_| std::hint::spin_loop());
}

/// What a lock guards.
pub(crate) struct Guarded<T>(UnsafeCell<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// Nobody changes it meanwhile.
    #[inline]
    pub(crate) unsafe fn get(&self) -> &T {
        // SAFETY: the caller's promise.
        unsafe { &*self.0.get() }
    }

    /// # Safety
    /// Nobody else uses it meanwhile.
    #[allow(clippy::mut_from_ref, reason = "the caller sees to it that there is no other")]
    pub(crate) unsafe fn get_mut(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0.get() }
    }
}

// SAFETY: it hands out references only to who sees to it that they do not exclude each other.
unsafe impl<T: Send + Sync> Sync for Guarded<T> {}

pub(crate) const STRIPES: usize = 1 << STRIPE_BITS;
/// Two threads meet on one stripe in one of 64 cases, and are then somewhat slower.
const STRIPE_BITS: u32 = 6;

/// The stripe of this thread, by where its stack lies. Nothing depends on it but speed.
#[inline]
pub(crate) fn stripe() -> usize {
    let here = 0u8;
    let region = std::ptr::from_ref(&here).addr() as u64 >> 16;
    // Spreads neighbours over all bits (the multiplier is 2^64 / golden ratio, as in Fibonacci hashing).
    (region.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - STRIPE_BITS)) as usize
}
