//! What a seed determines: who asks when for what, and how each attempt fares. Drawn before any router is asked, so that
//! it is the same for all of them.

use crate::rng::Rng;
use crate::scenario::{MS, SECOND, Scenario};

/// How often a request is sent, at most.
pub const ATTEMPTS: usize = 4;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// When it arrives.
    pub arrives: u64,
    /// Its size.
    pub tokens: u64,
    /// What its caller believes its size to be.
    pub estimate: u64,
    /// How its attempts fare.
    pub fates: [Fate; ATTEMPTS],
}

/// How an attempt fares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    /// Time on the wire to the provider.
    pub there: u64,
    /// Time on the wire back.
    pub back: u64,
    /// Multiplies the provider's median service time.
    pub pace: f64,
    /// In (0, 1): whether a trouble hits it.
    pub luck: f64,
}

/// All that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The requests, in order of arrival.
    pub requests: Vec<Request>,
    /// Arrivals of other users of a key, for each provider.
    pub others: Vec<Vec<u64>>,
}

impl Input {
    /// Draws the input of a scenario.
    pub fn draw(scenario: &Scenario, seed: u64) -> Self {
        let rng = |purpose: &str| Rng::new(seed, &format!("{}/{purpose}", scenario.name));
        let (mut gaps, mut sizes, mut fates) = (rng("gaps"), rng("sizes"), rng("fates"));
        let loads = scenario.load.iter();
        let arrivals = loads.flat_map(|load| poisson(&mut gaps, load.from, load.until, load.per_second));
        let arrivals: Vec<u64> = arrivals.collect();
        let request = |&arrives| {
            let size = sizes.log_normal(scenario.sizes.median, scenario.sizes.sigma);
            let estimate = sizes.log_normal(size, scenario.sizes.estimate_sigma);
            let fates = [(); ATTEMPTS].map(|()| Fate {
                there: wire(&mut fates),
                back: wire(&mut fates),
                pace: fates.log_normal(1.0, 0.35),
                luck: fates.uniform(),
            });
            Request { arrives, tokens: whole(size), estimate: whole(estimate), fates }
        };
        let requests = arrivals.iter().map(request).collect();
        let others = scenario.providers.iter().map(|provider| {
            let mut gaps = rng(&format!("others/{}", provider.name));
            // They go on while the last requests wait.
            let until = scenario.end() + scenario.patience;
            poisson(&mut gaps, 0, until, provider.others_per_second)
        });
        Self { requests, others: others.collect() }
    }
}

fn poisson(gaps: &mut Rng, from: u64, until: u64, per_second: f64) -> Vec<u64> {
    let mut arrivals = Vec::new();
    if per_second > 0.0 {
        let mean = SECOND as f64 / per_second;
        let mut at = from + gaps.exponential(mean) as u64;
        while at < until {
            arrivals.push(at);
            at += gaps.exponential(mean) as u64;
        }
    }
    arrivals
}

/// One way: 5 ms, and a queue somewhere that rarely takes more than 30 ms.
fn wire(fates: &mut Rng) -> u64 {
    5 * MS + fates.log_normal(10.0 * MS as f64, 0.4) as u64
}

fn whole(size: f64) -> u64 {
    size.round().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Provider;

    #[test]
    fn the_seed_determines_the_input() {
        let scenario = Scenario::steady("test", 100, 20.0, [Provider::new("a", 1, []).shared(5.0)]);
        let input = Input::draw(&scenario, 1);
        assert_eq!(input, Input::draw(&scenario, 1));
        assert_ne!(input, Input::draw(&scenario, 2));
        assert!(input.requests.is_sorted_by_key(|request| request.arrives));
        let expected = |n: usize, of: usize| n.abs_diff(of) < of / 5;
        assert!(expected(input.requests.len(), 2000));
        assert!(expected(input.others[0].len(), 600));
    }
}
