//! Panics on demand, for the tests of what becomes of them: only with the feature `fault-injection`, which no release has.
#![allow(unsafe_code, reason = "a symbol that C tests look up")]
#![allow(clippy::panic, reason = "the purpose")]

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Where a panic can be raised.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Place {
    /// In a call, before it has done anything.
    Call = 1,
    /// With the lock of a record just taken.
    Lock = 2,
}

static PLACE: AtomicI32 = AtomicI32::new(0);
/// How many passages are left until the one that panics; 0 is none.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Makes the `nth` passage of a place from now panic, on whatever thread; 0 is none. Returns how many were left.
#[unsafe(no_mangle)]
pub extern "C" fn grate_fault_panic(place: i32, nth: u64) -> u64 {
    PLACE.store(place, Ordering::Relaxed);
    LEFT.swap(nth, Ordering::Relaxed)
}

/// Called in each place.
pub(crate) fn point(place: Place) {
    let here = PLACE.load(Ordering::Relaxed) == place as i32;
    if here && LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1) {
        panic!("injected");
    }
}
