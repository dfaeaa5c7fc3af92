//! Time, injected: the engine has no other source of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts at 0.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        let d = self.start.elapsed();
        d.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(d.subsec_nanos()))
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
