//! What a process has for itself of something that its forked children share.
#![allow(unsafe_code, reason = "a pointer that changes in a forked child")]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::shared::process::forks;

/// A value that is made anew in a forked child: its locks may have been held by threads that do not exist there.
pub(crate) struct PerProcess<T> {
    value: AtomicPtr<T>,
    /// For which child the value was made; the highest bit is set while that is under way.
    made_for: AtomicU64,
}

const MAKING: u64 = 1 << 63;

impl<T> PerProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: AtomicPtr::new(Box::into_raw(Box::new(value))), made_for: AtomicU64::new(forks()) }
    }

    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: made by Box::into_raw, and freed with this only.
        unsafe { &*self.value.load(Ordering::Acquire) }
    }

    /// Whether the value was made for this process.
    #[inline]
    pub(crate) fn is_at_home(&self) -> bool {
        self.made_for.load(Ordering::Acquire) == forks()
    }

    /// Makes the value anew, if it is not yet this process's; or keeps it, if there is none. Other threads wait meanwhile.
    #[cold]
    pub(crate) fn move_in(&self, make: impl FnOnce() -> Option<T>) {
        let forks = forks();
        let known = self.made_for.load(Ordering::Acquire);
        let is_first = known & !MAKING != forks
            && self.made_for.compare_exchange(known, forks | MAKING, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if is_first {
            if let Some(value) = make() {
                // The old one is left where it is: a lock in it may seem to be held.
                self.value.store(Box::into_raw(Box::new(value)), Ordering::Release);
            }
            self.made_for.store(forks, Ordering::Release);
        }
        while !self.is_at_home() {
            std::thread::yield_now();
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let value = std::mem::replace(self.value.get_mut(), null_mut());
        // SAFETY: made by Box::into_raw, and nobody has this any more.
        drop(unsafe { Box::from_raw(value) });
    }
}

// SAFETY: it owns the value, and shows it to all threads.
unsafe impl<T: Send + Sync> Send for PerProcess<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}
