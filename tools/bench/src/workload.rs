//! What is measured: the same for both sides.

/// An operation of the table.
#[derive(Clone, Copy)]
pub enum Operation {
    /// Look for the best provider.
    Select,
    /// The same, with all candidates ranked, which is what grate-limiter's select always tells.
    SelectRanked,
    /// Report a request that was sent without a lease.
    Observe,
    /// Choose, send, settle: acquire and complete; the nearest that grate-limiter has is select and observe, which
    /// reserves nothing.
    Cycle,
}

/// The quotas of each provider.
#[derive(Clone, Copy, PartialEq)]
pub enum Quotas {
    /// Requests per minute.
    One,
    /// Requests and tokens per minute, and concurrency.
    Three,
}

/// One line of the table.
#[derive(Clone, Copy)]
pub struct Workload {
    pub operation: Operation,
    pub providers: usize,
    pub quotas: Quotas,
}

/// Requests per minute of all workloads: one each millisecond of the mock clock.
const LOAD: u64 = 60_000;
/// Requests that an engine has seen before it is timed: a full minute, so that its windows are in use throughout.
pub const WARM_UP: u64 = LOAD;

pub const TOKENS: u64 = 1000;
pub const CONCURRENCY: u64 = 100;
pub const LATENCY_MS: u64 = 50;
pub const COOLDOWN_SECS: u32 = 30;

impl Workload {
    /// The limit of each provider: twice the load over all, so that no call is answered with "nothing is available".
    pub fn requests_per_minute(&self) -> u64 {
        2 * LOAD / self.providers as u64
    }

    /// The names of the providers with their priorities, all different, as in the benchmark of grate-limiter.
    pub fn named(&self) -> impl Iterator<Item = (String, u16)> {
        let n = self.providers;
        (0..n).map(move |i| (format!("provider-{i}"), (n - i) as u16))
    }
}
