//! What the hand-made locks are made of. `tools/model` compiles them with loom's in the place of these, and tries the orders
//! in which threads may take their steps.

pub(crate) use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub(crate) use std::sync::atomic;
pub(crate) use std::{hint, thread};

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
