//! A lock for what every call reads and hardly any changes.
#![allow(unsafe_code, reason = "a value that is shared under one of many locks")]

use std::ops::Deref;

use crate::lock::{Guard, Lock};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Guarded, Mutex, STRIPES, stripe, thread};

/// One value behind many locks, of which a reader takes one: threads that read do not share a cache line. Who changes it
/// takes all of them. Each is an exclusive one, which takes one locked step where a lock for many readers takes two; readers that
/// meet at one go on to the next.
pub(crate) struct Gate<T> {
    value: Guarded<T>,
    /// A writer is waiting: without this, readers would come in on some stripes while it waits for others.
    closed: AtomicBool,
    writer: Mutex<()>,
    stripes: [Stripe; STRIPES],
}

/// As large as the two cache lines that processors fetch at once.
#[derive(Default)]
#[repr(align(128))]
struct Stripe(Lock);

/// The value, held still.
pub(crate) struct Reading<'a, T> {
    value: &'a T,
    _stripe: Guard<'a>,
}

impl<T> Deref for Reading<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

/// Who holds a stripe does not matter.
const SOMEBODY: u64 = 1;

impl<T> Gate<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Guarded::new(value),
            closed: AtomicBool::new(false),
            writer: Mutex::new(()),
            stripes: std::array::from_fn(|_| Stripe::default()),
        }
    }

    #[cold]
    fn wait(&self) {
        drop(self.writer.lock());
    }

    /// The value, held still. A thread that holds it must not ask for it again: a writer may have come in between.
    #[inline]
    pub(crate) fn read(&self) -> Reading<'_, T> {
        if self.closed.load(Ordering::Relaxed) {
            self.wait();
        }
        let own = stripe();
        let stripe = self.stripes[own].0.try_lock(SOMEBODY).unwrap_or_else(|| self.another(own));
        // SAFETY: who changes the value holds all stripes.
        Reading { value: unsafe { self.value.get() }, _stripe: stripe }
    }

    /// The next stripe that is free.
    #[cold]
    fn another(&self, own: usize) -> Guard<'_> {
        loop {
            let mut next = (1..=STRIPES).map(|ahead| &self.stripes[(own + ahead) % STRIPES]);
            if let Some(free) = next.find_map(|stripe| stripe.0.try_lock(SOMEBODY)) {
                return free;
            }
            // A writer has them all, or more threads read than there are stripes.
            self.wait();
            thread::yield_now();
        }
    }

    /// Changes the value while nobody holds it.
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let _only = self.writer.lock();
        let _closed = Closed::new(&self.closed);
        let _stripes: Vec<_> = self.stripes.iter().map(|stripe| stripe.0.lock(SOMEBODY, |_| ())).collect();
        // SAFETY: who reads the value holds a stripe, and all are held here.
        change(unsafe { self.value.get_mut() })
    }
}

/// Readers wait for the writer; not any more when this ends, also when the change panics.
struct Closed<'a>(&'a AtomicBool);

impl<'a> Closed<'a> {
    fn new(closed: &'a AtomicBool) -> Self {
        closed.store(true, Ordering::Relaxed);
        Self(closed)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

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
        gate.write(|value| *value += 1);
        assert_eq!(*gate.read(), 8);
    }

    #[test]
    fn readers_that_meet_do_not_wait_for_each_other() {
        // As many as there are stripes, so that some meet; all are inside when the last one is.
        let (gate, inside) = (Gate::new(7u64), std::sync::Barrier::new(STRIPES));
        std::thread::scope(|scope| {
            for _ in 0..STRIPES {
                scope.spawn(|| {
                    let value = gate.read();
                    inside.wait();
                    assert_eq!(*value, 7);
                });
            }
        });
    }

    #[test]
    fn who_changes_it_again_and_again_lets_readers_in() {
        let (gate, changes) = (Gate::new(0u64), std::sync::atomic::AtomicU64::new(0));
        let done = std::sync::atomic::AtomicBool::new(false);
        let most = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    gate.write(|_| {
                        let begun = std::time::Instant::now();
                        while begun.elapsed() < std::time::Duration::from_micros(500) {}
                    });
                    changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
            let missed = |_| {
                let before = changes.load(std::sync::atomic::Ordering::Relaxed);
                drop(gate.read());
                changes.load(std::sync::atomic::Ordering::Relaxed) - before
            };
            std::thread::sleep(std::time::Duration::from_millis(10));
            let changes = || changes.load(std::sync::atomic::Ordering::Relaxed);
            let most = (0..).take_while(|_| changes() < 3000).map(missed).max();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            most
        });
        assert!(most < Some(400), "so many changes while a reader waited: {most:?}");
    }
}
