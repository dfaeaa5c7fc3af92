//! How a provider counts one quota. What is here is known to the simulator alone.

use std::collections::VecDeque;

use crate::scenario::{Dimension, Enforcement, Quota};

/// A quota with what was counted so far.
#[derive(Debug)]
pub struct Meter {
    dimension: Dimension,
    limit: u64,
    window: u64,
    count: Count,
}

#[derive(Debug)]
enum Count {
    /// Windows begin `phase` before the multiples of the window.
    Fixed { phase: u64, index: u64, used: u64 },
    /// Time and units of all that was counted in the last window.
    Sliding { log: VecDeque<(u64, u64)>, used: u64 },
    /// The level counts units times nanoseconds of a window, so that refilling is exact.
    Bucket { full: u128, level: u128, at: u64 },
    /// Requests being served.
    Slots { used: u64 },
}

impl Meter {
    /// Nothing is counted yet.
    pub fn new(quota: &Quota) -> Self {
        let count = match quota.enforcement {
            Enforcement::Fixed { phase } => Count::Fixed { phase, index: 0, used: 0 },
            Enforcement::Sliding => Count::Sliding { log: VecDeque::new(), used: 0 },
            Enforcement::Bucket { burst } => {
                let full = u128::from(burst) * u128::from(quota.window);
                Count::Bucket { full, level: full, at: 0 }
            }
            Enforcement::Slots => Count::Slots { used: 0 },
        };
        Self { dimension: quota.dimension, limit: quota.limit, window: quota.window, count }
    }

    /// What it counts.
    pub fn dimension(&self) -> Dimension {
        self.dimension
    }

    /// Units per window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Lets time pass: what left the window is forgotten, a bucket is refilled.
    fn settle(&mut self, now: u64) {
        match &mut self.count {
            Count::Fixed { phase, index, used } => {
                let current = (now + *phase) / self.window;
                if *index != current {
                    (*index, *used) = (current, 0);
                }
            }
            Count::Sliding { log, used } => {
                while let Some(&(_, units)) = log.front().filter(|(at, _)| at + self.window <= now) {
                    *used -= units;
                    log.pop_front();
                }
            }
            Count::Bucket { full, level, at } => {
                *level = (*level + u128::from(now - *at) * u128::from(self.limit)).min(*full);
                *at = now;
            }
            Count::Slots { .. } => {}
        }
    }

    /// Units that fit now.
    pub fn remaining(&mut self, now: u64) -> u64 {
        self.settle(now);
        match &self.count {
            Count::Fixed { used, .. } | Count::Sliding { used, .. } | Count::Slots { used } => {
                self.limit.saturating_sub(*used)
            }
            Count::Bucket { level, .. } => (*level / u128::from(self.window)) as u64,
        }
    }

    /// Counts units, whether they fit or not.
    pub fn take(&mut self, now: u64, units: u64) {
        self.settle(now);
        match &mut self.count {
            Count::Fixed { used, .. } | Count::Slots { used } => *used += units,
            Count::Sliding { log, used } => {
                log.push_back((now, units));
                *used += units;
            }
            Count::Bucket { level, .. } => {
                *level = level.saturating_sub(u128::from(units) * u128::from(self.window));
            }
        }
    }

    /// The end of a request that held a slot.
    pub fn release(&mut self) {
        if let Count::Slots { used } = &mut self.count {
            *used = used.saturating_sub(1);
        }
    }

    /// Nanoseconds until as many units fit, if nobody takes any meanwhile; `None` for slots, which nobody can foretell.
    pub fn wait(&mut self, now: u64, units: u64) -> Option<u64> {
        let missing = units.saturating_sub(self.remaining(now));
        if missing == 0 {
            return Some(0);
        }
        match &self.count {
            Count::Fixed { .. } => self.reset(now),
            Count::Sliding { log, .. } => {
                let mut freed = 0;
                let last = log.iter().find(|(_, units)| {
                    freed += units;
                    freed >= missing
                });
                Some(last.map_or(self.window, |(at, _)| at + self.window - now))
            }
            Count::Bucket { level, .. } => {
                let lacking = (u128::from(units) * u128::from(self.window)).saturating_sub(*level);
                Some(lacking.div_ceil(u128::from(self.limit)) as u64)
            }
            Count::Slots { .. } => None,
        }
    }

    /// Nanoseconds until a fixed window ends; `None` for what has no such end.
    pub fn reset(&self, now: u64) -> Option<u64> {
        match self.count {
            Count::Fixed { phase, .. } => Some(self.window - (now + phase) % self.window),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const WINDOW: u64 = 1000;
    const LIMIT: u64 = 20;

    /// Drives a meter at the edge of its limit; everything that was let in, and every time it was asked, with the answer.
    fn drive(enforcement: Enforcement) -> Vec<(u64, u64, bool)> {
        let mut meter = Meter::new(&Quota::new(Dimension::Requests, LIMIT, WINDOW, enforcement));
        let mut rng = Rng::new(3, "drive");
        let mut now = 0;
        let ask = |_| {
            now += (rng.uniform() * 60.0) as u64;
            let units = 1 + (rng.uniform() * 4.0) as u64;
            let fits = units <= meter.remaining(now);
            assert_eq!(fits, meter.wait(now, units) == Some(0));
            if fits {
                meter.take(now, units);
            }
            (now, units, fits)
        };
        (0..5000).map(ask).collect()
    }

    /// Compares every answer with the whole log: `used` sums up what counts at a time.
    fn compare(asked: &[(u64, u64, bool)], counts: impl Fn(u64, u64) -> bool) {
        let mut refused = 0;
        for (i, &(now, units, fits)) in asked.iter().enumerate() {
            let before = asked[..i].iter().filter(|(at, _, fits)| *fits && counts(*at, now));
            let used: u64 = before.map(|(_, units, _)| units).sum();
            assert_eq!(fits, used + units <= LIMIT, "at {now}");
            refused += u32::from(!fits);
        }
        assert!(refused > 500, "the edge was hardly touched: {refused}");
    }

    #[test]
    fn fixed_windows_agree_with_the_log() {
        let phase = 300;
        compare(&drive(Enforcement::Fixed { phase }), |at, now| (at + phase) / WINDOW == (now + phase) / WINDOW);
    }

    #[test]
    fn sliding_windows_agree_with_the_log() {
        compare(&drive(Enforcement::Sliding), |at, now| at + WINDOW > now);
    }

    /// No interval of any length may hold more than the bucket and what flowed in; and a refusal was necessary.
    #[test]
    fn buckets_agree_with_the_log() {
        let burst = 8;
        let asked = drive(Enforcement::Bucket { burst });
        let let_in: Vec<_> = asked.iter().filter(|(_, _, fits)| *fits).collect();
        for (i, &&(now, units, fits)) in asked.iter().collect::<Vec<_>>().iter().enumerate() {
            // The level is the least, over all starts of an interval, of what it may still take.
            let mut used = units;
            let mut level_allows = units <= burst;
            for &(at, earlier, fitted) in asked[..i].iter().rev() {
                used += if fitted { earlier } else { 0 };
                level_allows &= used * WINDOW <= burst * WINDOW + (now - at) * LIMIT;
            }
            assert_eq!(fits, level_allows, "at {now}");
        }
        assert!(asked.len() - let_in.len() > 500);
    }

    #[test]
    fn waits_are_exact() {
        for enforcement in [Enforcement::Fixed { phase: 300 }, Enforcement::Sliding, Enforcement::Bucket { burst: 8 }] {
            let mut meter = Meter::new(&Quota::new(Dimension::Requests, LIMIT, WINDOW, enforcement));
            for now in [10, 20, 35] {
                let all = meter.remaining(now).min(7);
                meter.take(now, all);
            }
            let wait = meter.wait(40, 8).filter(|wait| *wait > 0);
            let at = 40 + wait.expect("it is full");
            assert!(meter.remaining(at - 1) < 8, "{enforcement:?}");
            assert!(meter.remaining(at) >= 8, "{enforcement:?}");
        }
    }

    #[test]
    fn slots_are_given_back() {
        let mut meter = Meter::new(&Quota::new(Dimension::Concurrency, 2, 0, Enforcement::Slots));
        meter.take(0, 1);
        meter.take(0, 1);
        assert_eq!(meter.remaining(5), 0);
        assert_eq!(meter.wait(5, 1), None);
        meter.release();
        assert_eq!(meter.remaining(5), 1);
    }
}
