//! The crate governor: one limiter that knows one quota, and chooses nothing. Less than that nobody can do.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::Workload;
use crate::constants::SYSTEM;

type Mocked = RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>;

/// A direct limiter, with its clock if that is a mock.
pub enum Governor {
    Mock(Mocked, FakeRelativeClock),
    System(DefaultDirectRateLimiter),
}

impl Governor {
    pub fn new(workload: &Workload) -> Self {
        let limit = u32::try_from(workload.requests_per_minute).ok().and_then(NonZeroU32::new);
        let quota = Quota::per_minute(limit.unwrap_or(NonZeroU32::MAX));
        if workload.clock == SYSTEM {
            return Self::System(RateLimiter::direct(quota));
        }
        let clock = FakeRelativeClock::default();
        Self::Mock(RateLimiter::direct_with_clock(quota, clock.clone()), clock)
    }

    /// There is only one operation.
    pub fn run(&mut self, _operation: u32, n: u64) {
        match self {
            Self::System(limiter) => (0..n).for_each(|_| passed(limiter.check().is_ok())),
            Self::Mock(limiter, clock) => (0..n).for_each(|_| {
                clock.advance(Duration::from_millis(1));
                passed(limiter.check().is_ok());
            }),
        }
    }
}

fn passed(ok: bool) {
    assert!(black_box(ok), "governor: the limit was reached");
}
