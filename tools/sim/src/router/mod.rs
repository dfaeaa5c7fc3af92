//! What decides where a request goes. A router knows what the providers document, and what comes back; nothing else.

mod failover;
mod grate_limiter;
mod libgrate;
mod round_robin;
mod sliding_log;

use std::error::Error;

use crate::scenario::{Dimension, Enforcement, SECOND, Scenario};

/// A router.
pub trait Router {
    /// Where a request goes now.
    fn choose(&mut self, now: u64, ask: &Ask) -> Choice;
    /// What came back.
    fn settle(&mut self, now: u64, reply: &Reply<'_>);
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// How many tokens its caller believes it to use.
    pub tokens: u64,
    /// A provider that it does not want: it just failed there.
    pub avoid: Option<usize>,
}

/// What a router decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Send it.
    Send {
        /// Where to.
        provider: usize,
        /// Handed back with the reply.
        ticket: u64,
    },
    /// Nothing is free, for so many nanoseconds if that is known.
    Wait(Option<u64>),
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Where it was sent.
    pub provider: usize,
    /// From the choice.
    pub ticket: u64,
    /// How it ended.
    pub answer: Answer,
    /// Tokens that it used.
    pub tokens: u64,
    /// How long it took.
    pub latency: u64,
    /// The response headers.
    pub headers: &'a [(String, String)],
}

impl Reply<'_> {
    /// How long the provider says to stay away.
    fn retry_after(&self) -> Option<u64> {
        let (_, seconds) = self.headers.iter().find(|(name, _)| name == "retry-after")?;
        Some(seconds.parse::<u64>().ok()? * SECOND)
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was served.
    Served,
    /// 429.
    RateLimited,
    /// 500.
    Error,
    /// No answer in time.
    TimedOut,
}

/// What a provider documents.
#[derive(Clone, Debug)]
pub struct Documented {
    /// Its name.
    pub name: String,
    /// Its priority, which is the caller's choice.
    pub priority: u32,
    /// Its quotas.
    pub quotas: Vec<DocumentedQuota>,
}

/// A quota as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct DocumentedQuota {
    /// What it counts.
    pub dimension: Dimension,
    /// Units per window.
    pub limit: u64,
    /// Its window.
    pub window: u64,
    /// The burst of a token bucket. Of windows it is not documented how they are counted.
    pub burst: Option<u64>,
}

/// The routers, by name, in the order of the tables.
pub const NAMES: [&str; 5] = ["round-robin", "failover", "hand-built", "grate-limiter", "libgrate"];
/// The name of the one that this is about.
pub const OURS: usize = 4;

/// A new router for a scenario.
///
/// # Errors
/// If the router takes none of the scenario's numbers.
pub fn build(index: usize, scenario: &Scenario) -> Result<Box<dyn Router>, Box<dyn Error>> {
    let documented = documented(scenario);
    Ok(match index {
        0 => Box::new(round_robin::RoundRobin::new(&documented)),
        1 => Box::new(failover::Failover::new(&documented)),
        2 => Box::new(sliding_log::SlidingLog::new(&documented)),
        3 => Box::new(grate_limiter::Limiter::new(&documented)?),
        _ => Box::new(libgrate::Libgrate::new(&documented)?),
    })
}

fn documented(scenario: &Scenario) -> Vec<Documented> {
    let providers = scenario.providers.iter().map(|provider| {
        let told = provider.quotas.iter().filter(|quota| quota.documented > 0);
        let quotas = told.map(|quota| DocumentedQuota {
            dimension: quota.dimension,
            limit: quota.documented,
            window: quota.window,
            burst: match quota.enforcement {
                Enforcement::Bucket { burst } => Some(burst),
                Enforcement::Fixed { .. } | Enforcement::Sliding | Enforcement::Slots => None,
            },
        });
        Documented { name: provider.name.clone(), priority: provider.priority, quotas: quotas.collect() }
    });
    providers.collect()
}

/// Providers by falling priority; equals in their order.
fn by_priority(documented: &[Documented]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..documented.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(documented[i].priority));
    order
}
