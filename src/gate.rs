//! A lock for what every call reads and hardly any changes.

use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, STRIPES, stripe};

/// One value behind many locks, of which a reader takes one: threads that read do not share a cache line. Who changes it
/// takes all of them.
pub(crate) struct Gate<T> {
    /// A writer is waiting: without this, readers would come in on some stripes while it waits for others.
    closed: AtomicBool,
    writer: Mutex<()>,
    stripes: [Stripe<T>; STRIPES],
}

/// As large as the two cache lines that processors fetch at once.
#[repr(align(128))]
struct Stripe<T>(RwLock<Arc<T>>);

impl<T> Gate<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = Arc::new(value);
        Self {
            closed: AtomicBool::new(false),
            writer: Mutex::new(()),
            stripes: std::array::from_fn(|_| Stripe(RwLock::new(value.clone()))),
        }
    }

    #[cold]
    fn wait(&self) {
        drop(self.writer.lock());
    }

    /// The value, held still. A thread that holds it must not ask for it again: a writer may have come in between.
    #[inline]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Arc<T>> {
        if self.closed.load(Ordering::Relaxed) {
            self.wait();
        }
        self.stripes[stripe()].0.read()
    }
}

impl<T: Clone + Default> Gate<T> {
    /// Changes the value while nobody holds it.
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let nothing = Arc::new(T::default());
        let _only = self.writer.lock();
        self.closed.store(true, Ordering::Relaxed);
        let mut all = Writing {
            closed: &self.closed,
            guards: self.stripes.iter().map(|stripe| stripe.0.write()).collect(),
            value: nothing.clone(),
        };
        // Taken out of the stripes, so that the value has one owner and is changed in place.
        for guard in &mut all.guards {
            all.value = std::mem::replace(&mut **guard, nothing.clone());
        }
        change(Arc::make_mut(&mut all.value))
    }
}

/// All stripes, held by a writer; gives them the value back also when the change panics.
struct Writing<'a, T> {
    closed: &'a AtomicBool,
    guards: Vec<RwLockWriteGuard<'a, Arc<T>>>,
    value: Arc<T>,
}

impl<T> Drop for Writing<'_, T> {
    fn drop(&mut self) {
        for guard in &mut self.guards {
            **guard = self.value.clone();
        }
        self.closed.store(false, Ordering::Relaxed);
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
                        let (a, b) = **gate.read();
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
        assert_eq!(**gate.read(), (200, 200));
    }

    #[test]
    fn a_change_that_panics_leaves_the_gate_usable() {
        let gate = Gate::new(7u64);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gate.write(|_| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert!(gate.stripes.iter().all(|stripe| **stripe.0.read() == 7));
    }

    #[derive(Default)]
    struct Uncloned;

    impl Clone for Uncloned {
        fn clone(&self) -> Self {
            unreachable!("a change clones the value")
        }
    }

    #[test]
    fn a_change_is_made_in_place() {
        let gate = Gate::new(Uncloned);
        gate.write(|_| ());
        gate.write(|_| ());
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
