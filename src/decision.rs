//! What is asked of the engine and what it answers.

use crate::config::Dimension;
use crate::feedback::{Outcome, headers};
use crate::lease::LeaseId;
use crate::score::Score;
use crate::usage::{Reported, Usage};

/// What a request will use and demands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate<'a> {
    /// What it will use; what is not given is learned from requests before it.
    pub usage: Reported,
    /// Share of every quota that must stay free after it.
    pub headroom: f64,
    /// Providers that must not be chosen.
    pub excluded: &'a [u32],
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took; `None`: since its lease was granted.
    pub latency_ns: Option<u64>,
    /// How long the provider says to stay away.
    pub retry_after_ns: Option<u64>,
    /// What it used.
    pub usage: Reported,
    /// What its headers say.
    pub headers: Option<&'a headers::Report>,
}

impl Report<'_> {
    /// What the request used, of which so much was reserved: of a rejection, nothing but what is told.
    pub(crate) fn actual(&self, reserved: &Usage) -> Usage {
        self.usage.of_reserved(if self.outcome.is_rejection() { &Usage::NONE } else { reserved })
    }
}

/// What keeps a provider from being chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// It is cooling down.
    Cooldown,
    /// Its health is too low.
    Health,
    /// A quota has no room.
    Quota {
        /// What the quota counts.
        dimension: Dimension,
        /// Its window.
        window_ns: u64,
    },
    /// All concurrency slots are taken.
    Concurrency,
    /// It is half-open, and the leases that may try it are out.
    Probe,
    /// The request excludes it.
    Exclusion,
}

/// A provider as a decision saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Its record.
    pub provider: u32,
    /// Its place in the capability's list.
    pub index: u32,
    /// `None`: it can be chosen.
    pub held_by: Option<HeldBy>,
    /// Its score.
    pub score: Score,
    /// Seconds until its first quota is spent at the present burn.
    pub seconds_to_exhaustion: f64,
    /// Nanoseconds until it can be chosen; `u64::MAX` is never.
    pub retry_after_ns: u64,
}

/// The order of candidates: those that can be chosen by falling score, then those that are held by rising wait; equals in
/// the order of the capability's list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rank {
    /// Whether something holds it.
    pub held: bool,
    /// Its score.
    pub score: f64,
    /// Its wait.
    pub retry_after_ns: u64,
    /// Its place in the capability's list.
    pub index: u32,
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let by_score = || other.score.total_cmp(&self.score);
        let by_wait = || self.retry_after_ns.cmp(&other.retry_after_ns);
        let order = self.held.cmp(&other.held);
        let order = order.then_with(|| if self.held { by_wait() } else { by_score() });
        Some(order.then(self.index.cmp(&other.index)))
    }
}

impl Ranked {
    /// Nothing yet.
    pub(crate) const NONE: Self = Self {
        provider: u32::MAX,
        index: 0,
        held_by: None,
        score: Score { total: 0.0, quota: 0.0, health: 0.0, priority: 0.0, latency: 0.0 },
        seconds_to_exhaustion: f64::INFINITY,
        retry_after_ns: 0,
    };

    /// Where it comes among the candidates.
    pub fn rank(&self) -> Rank {
        Rank {
            held: self.held_by.is_some(),
            score: self.score.total,
            retry_after_ns: self.retry_after_ns,
            index: self.index,
        }
    }
}

/// Takes all candidates of a decision, in any order.
pub trait Candidates {
    /// Forgets what was pushed: the decision is made anew.
    fn clear(&mut self);
    /// One candidate more.
    fn push(&mut self, ranked: &Ranked);
}

impl Candidates for Vec<Ranked> {
    fn clear(&mut self) {
        Vec::clear(self);
    }

    fn push(&mut self, ranked: &Ranked) {
        Vec::push(self, *ranked);
    }
}

/// A decision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Routed {
    /// The chosen provider, or the one that frees first; `None` if the capability has no providers.
    pub best: Option<Ranked>,
    /// The lease, from acquire.
    pub lease: Option<LeaseId>,
    /// How many providers the capability has.
    pub total: u32,
}

impl Routed {
    /// Whether a provider was chosen.
    pub fn available(&self) -> bool {
        self.best.is_some_and(|best| best.held_by.is_none())
    }
}
