//! Time, injected: the engine has no other source of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(unix)]
use crate::config::NS_PER_SEC;
use crate::config::ms_to_ns;

/// A source of time. Called on any thread, with no lock of the engine held.
pub trait Clock: Send + Sync {
    /// Nanoseconds from any fixed point. A value lower than an earlier one counts as "no time has passed".
    fn monotonic_ns(&self) -> u64;
    /// Nanoseconds since the Unix epoch: for calendar windows and dates only.
    fn unix_ns(&self) -> u64;
}

/// The time of one call, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds.
    pub mono: u64,
    /// Unix nanoseconds; 0 if no quota needs the calendar.
    pub unix: u64,
}

impl Now {
    /// The time at which an engine is made: more than the longest window after 0, so that a moment a window ago can be told.
    pub const FIRST_MONO: u64 = 1 << 55;
    /// The end of time, 146 years after the engine was made: it stands still there, so that no sum of times overflows.
    pub const LAST_MONO: u64 = 1 << 62;
}

/// The operating system's clocks, which show all processes of a host the same time.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(unix)]
    #[allow(unsafe_code, reason = "the standard library shows time only since another moment of the same process")]
    fn monotonic_ns(&self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes to the struct, and cannot fail for this clock.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        (time.tv_sec as u64).saturating_mul(NS_PER_SEC).saturating_add(time.tv_nsec as u64)
    }

    #[cfg(not(unix))]
    fn monotonic_ns(&self) -> u64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        u64::try_from(START.get_or_init(std::time::Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn unix_ns(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct MockClock {
    ns: AtomicU64,
    unix_start_ns: u64,
}

impl MockClock {
    /// A clock at 0 ns and `unix_ms`.
    pub fn new(unix_ms: u64) -> Self {
        Self { ns: AtomicU64::new(0), unix_start_ns: ms_to_ns(unix_ms) }
    }

    /// Moves it forward; it stops at the end of a `u64`.
    pub fn advance_ns(&self, ns: u64) {
        // A closure that always returns Some cannot fail.
        let _ = self.ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| Some(t.saturating_add(ns)));
    }

    /// Sets it to `ns` after its start.
    pub fn set_ns(&self, ns: u64) {
        self.ns.store(ns, Ordering::Relaxed);
    }
}

impl Clock for MockClock {
    fn monotonic_ns(&self) -> u64 {
        self.ns.load(Ordering::Relaxed)
    }

    fn unix_ns(&self) -> u64 {
        self.unix_start_ns.saturating_add(self.monotonic_ns())
    }
}
