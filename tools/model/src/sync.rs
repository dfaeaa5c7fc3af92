//! loom's parts in the form of `src/sync.rs`: that of parking_lot, whose guards come without a `Result`. Some can be made
//! weaker than they were asked to be, to see that the models notice.

use std::sync::PoisonError;

use loom::cell::UnsafeCell;

pub(crate) mod atomic {
    use std::sync::OnceLock;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    /// What is made weaker.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Planted {
        /// What is released is not seen by who takes the lock.
        Release,
        /// Another thread gets in between looking and taking.
        Exchange,
        /// Another thread gets in between reading and lowering.
        Min,
        /// A reader of the gate lets go between two looks.
        Hold,
    }

    pub(crate) static PLANTED: OnceLock<Planted> = OnceLock::new();

    pub(crate) fn planted(what: Planted) -> bool {
        PLANTED.get() == Some(&what)
    }

    #[derive(Debug, Default)]
    pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: u64, order: Ordering) {
            self.0.store(value, if planted(Planted::Release) { Ordering::Relaxed } else { order });
        }

        pub(crate) fn compare_exchange(
            &self,
            from: u64,
            to: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            if !planted(Planted::Exchange) {
                return self.0.compare_exchange(from, to, success, failure);
            }
            let found = self.0.load(success);
            if found != from {
                return Err(found);
            }
            self.0.store(to, Ordering::Relaxed);
            Ok(found)
        }

        pub(crate) fn fetch_min(&self, value: u64, order: Ordering) -> u64 {
            if !planted(Planted::Min) {
                return self.0.fetch_min(value, order);
            }
            let found = self.0.load(order);
            self.0.store(found.min(value), order);
            found
        }

        pub(crate) fn fetch_add(&self, n: u64, order: Ordering) -> u64 {
            self.0.fetch_add(n, order)
        }
    }
}

/// A thread that waits lets the others go on: for how long it spins or naps is nothing to a model.
pub(crate) fn spin(_: u32) {
    loom::thread::yield_now();
}

pub(crate) mod thread {
    pub(crate) fn yield_now() {
        loom::thread::yield_now();
    }

    pub(crate) fn sleep(_: std::time::Duration) {
        loom::thread::yield_now();
    }
}

pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a lock guards: loom notices who uses it while another changes it.
pub(crate) struct Guarded<T>(UnsafeCell<T>);

#[allow(unsafe_code, reason = "likewise in `src/sync.rs`")]
impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// Nobody changes it meanwhile.
    pub(crate) unsafe fn get(&self) -> &T {
        // SAFETY: the caller's promise.
        self.0.with(|value| unsafe { &*value })
    }

    /// # Safety
    /// Nobody else uses it meanwhile.
    #[allow(clippy::mut_from_ref, reason = "the caller sees to it that there is no other")]
    pub(crate) unsafe fn get_mut(&self) -> &mut T {
        // SAFETY: the caller's promise.
        self.0.with_mut(|value| unsafe { &mut *value })
    }
}

#[allow(unsafe_code, reason = "likewise")]
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Guarded<T> {}

/// Enough for readers that do not meet.
pub(crate) const STRIPES: usize = 2;

loom::thread_local! {
    static STRIPE: std::cell::Cell<usize> = std::cell::Cell::new(0);
}

/// The stripe of this thread is its own choice.
pub(crate) fn choose_stripe(stripe: usize) {
    STRIPE.with(|mine| mine.set(stripe));
}

pub(crate) fn stripe() -> usize {
    STRIPE.with(std::cell::Cell::get)
}
