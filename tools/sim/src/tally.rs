//! What became of all requests, and the measures that follow from it.

use std::ops::AddAssign;

/// Counts of one run, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests that arrived.
    pub offered: u64,
    /// Requests that were served.
    pub served: u64,
    /// Times that a request was sent.
    pub attempts: u64,
    /// Attempts that were answered with 429.
    pub refused: u64,
    /// Attempts that failed, for any reason.
    pub failed: u64,
    /// Sum of the priorities that served, each as a share of the highest.
    pub priority: f64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.offered += other.offered;
        self.served += other.served;
        self.attempts += other.attempts;
        self.refused += other.refused;
        self.failed += other.failed;
        self.priority += other.priority;
    }
}

/// A number that tells how well a router did.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What it is called.
    pub title: &'static str,
    /// The name of its chart.
    pub file: &'static str,
    /// Whether less of it is better.
    pub less_is_better: bool,
    /// Whether it is a share, so at most 1.
    pub is_share: bool,
    /// The number.
    pub of: fn(&Tally) -> f64,
}

/// All measures.
pub const MEASURES: [Measure; 4] = [RATE_LIMITED, GOODPUT, FAILED, PRIORITY];

/// How often a provider said no.
pub const RATE_LIMITED: Measure = Measure {
    title: "429s per 1000 attempts",
    file: "429s.svg",
    less_is_better: true,
    is_share: false,
    of: |tally| 1000.0 * ratio(tally.refused as f64, tally.attempts),
};

/// How much got done.
pub const GOODPUT: Measure = Measure {
    title: "goodput: requests served / offered",
    file: "goodput.svg",
    less_is_better: false,
    is_share: true,
    of: |tally| ratio(tally.served as f64, tally.offered),
};

/// How much was in vain.
pub const FAILED: Measure = Measure {
    title: "failed attempts per 1000: 429s, errors, timeouts",
    file: "failed.svg",
    less_is_better: true,
    is_share: false,
    of: |tally| 1000.0 * ratio(tally.failed as f64, tally.attempts),
};

/// Whether the preferred providers did it.
pub const PRIORITY: Measure = Measure {
    title: "mean priority served / highest",
    file: "priority.svg",
    less_is_better: false,
    is_share: true,
    of: |tally| ratio(tally.priority, tally.served),
};

fn ratio(part: f64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}
