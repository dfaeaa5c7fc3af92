//! A lock for what every call reads and hardly any changes.
#![allow(unsafe_code, reason = "shows a value that is changed while nobody reads it")]

use std::cell::UnsafeCell;
use std::ops::Deref;
use std::time::Duration;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, STRIPES, stripe, thread};

/// A value that many threads read at once, and count that on many stripes, so that they do not share a cache line. Who changes
/// it closes the gate, and waits until nobody reads.
///
/// A reader counts itself and then looks whether the gate is closed; who changes the value closes it and then looks for readers.
/// In the one order that all of these steps have, one of the two sees the other.
pub(crate) struct Gate<T> {
    value: UnsafeCell<T>,
    closed: AtomicBool,
    writer: Mutex<()>,
    stripes: [Stripe; STRIPES],
}

/// How many are reading. As large as the two cache lines that processors fetch at once.
#[derive(Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

/// While it lives, the value does not change.
pub(crate) struct Reading<'a, T> {
    gate: &'a Gate<T>,
    stripe: &'a Stripe,
}

/// Looks after which who waits naps between two, so that a reader of lower priority gets to run.
const YIELDS: u32 = 20;
const NAP: Duration = Duration::from_micros(50);

impl Stripe {
    /// Until nobody reads.
    fn wait(&self) {
        let mut looks = 0u32;
        while self.0.load(Ordering::SeqCst) != 0 {
            looks = looks.saturating_add(1);
            if looks < YIELDS { thread::yield_now() } else { thread::sleep(NAP) }
        }
    }
}

impl<T> Gate<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            closed: AtomicBool::new(false),
            writer: Mutex::new(()),
            stripes: std::array::from_fn(|_| Stripe::default()),
        }
    }

    /// The value, held still. A thread that holds it must not ask for it again: a writer may have come in between.
    #[inline]
    pub(crate) fn read(&self) -> Reading<'_, T> {
        self.try_read().unwrap_or_else(|| self.read_later())
    }

    /// `None` while the gate is closed.
    #[inline]
    fn try_read(&self) -> Option<Reading<'_, T>> {
        let stripe = &self.stripes[stripe()];
        stripe.0.fetch_add(1, Ordering::SeqCst);
        let reading = Reading { gate: self, stripe };
        (!self.closed.load(Ordering::SeqCst)).then_some(reading)
    }

    #[cold]
    fn read_later(&self) -> Reading<'_, T> {
        loop {
            drop(self.writer.lock());
            if let Some(reading) = self.try_read() {
                return reading;
            }
        }
    }

    /// Changes the value while nobody holds it.
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let _only = self.writer.lock();
        self.closed.store(true, Ordering::SeqCst);
        let _closed = Closed(&self.closed);
        self.stripes.iter().for_each(Stripe::wait);
        // SAFETY: nobody reads it, and nobody else is here: they wait for the mutex.
        change(unsafe { &mut *self.value.get() })
    }
}

/// Opens the gate again, also when the change panics.
struct Closed<'a>(&'a AtomicBool);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Deref for Reading<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody changes it while this lives.
        unsafe { &*self.gate.value.get() }
    }
}

impl<T> Drop for Reading<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.stripe.0.fetch_sub(1, Ordering::Release);
    }
}

// SAFETY: it owns the value, shows it to many threads, and gives it to one at a time.
unsafe impl<T: Send + Sync> Sync for Gate<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_whole_from_everywhere() {
        let gate = Gate::new((0u64, 0u64));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let (a, b) = *gate.read();
                        assert_eq!(a, b);
                    }
                });
            }
            for _ in 0..200 {
                gate.write(|(a, b)| {
                    *a += 1;
                    std::thread::yield_now();
                    *b += 1;
                });
            }
        });
        assert_eq!(*gate.read(), (200, 200));
    }

    #[test]
    fn a_change_that_panics_leaves_the_gate_usable() {
        let gate = Gate::new(7u64);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gate.write(|_| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert_eq!(*gate.read(), 7);
        gate.write(|value| *value += 1);
        assert_eq!(*gate.read(), 8);
    }
}
