//! A quota as a plain log: every charge that was ever made, counted anew each time it is asked for.
//!
//! It answers with bounds, because not all is promised to the last unit: at least so much is counted, and at most so much.
//! "At least" is the promise never to admit more, and always told. "At most" is the promise to admit what there is room for:
//! where the library may round, or learned something that a log cannot know, it is not told.

use grate::capi::*;

/// From so many units on nothing is told: sums leave the range of the library's numbers, and what exceeds that is not counted.
const TOO_MANY: u128 = 1 << 62;
/// Where the window in nanoseconds times a charge is larger, a rolling window rounds. It promises not to below 2^58, with
/// room for charges four times as large.
const ROUNDED: u128 = 1 << 56;

/// What is configured, but for the window.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub(crate) strategy: i32,
    pub(crate) limit: u64,
    pub(crate) burst: u64,
    pub(crate) phase_ns: i64,
}

/// Units of a lease, or of usage that was observed.
struct Charge {
    /// 0 is none.
    lease: u64,
    granted: u64,
    /// When the provider counts it at the latest.
    at: u64,
    /// As it was charged, and what is left of that after corrections.
    charged: u64,
    left: u64,
}

/// How well the log knows what is counted.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Sight {
    Exact,
    /// Charges share marks, which holds back less than 2 % of the limit.
    Shared,
    /// At least so much is counted as the log says, until all of it has left.
    Least,
    /// The same for good.
    Lost,
}

pub(crate) struct Quota {
    window: u64,
    pub(crate) rule: Rule,
    /// The limit that the library says is in force, and what it keeps free of that.
    in_force: u64,
    margin: u64,
    charges: Vec<Charge>,
    /// Which limits were in force since when, for a bucket drains at that rate.
    rates: Vec<(u64, u64)>,
    sight: Sight,
    /// Until then calendar windows may be others than the calendar's.
    blind_until: u64,
    /// Whether the library says that the limit in force was learned.
    pub(crate) is_learned: bool,
    /// There may be so many units that no more are counted.
    flooded: bool,
    unix_start_ns: u64,
}

impl Quota {
    pub(crate) fn new(window: u64, rule: Rule, now: u64, unix_start_ns: u64) -> Self {
        Self {
            window,
            rule,
            in_force: rule.limit,
            margin: 0,
            charges: Vec::new(),
            rates: vec![(now, rule.limit)],
            sight: Sight::Exact,
            blind_until: 0,
            is_learned: false,
            flooded: false,
            unix_start_ns,
        }
    }

    /// Another rule applies to what is counted already.
    pub(crate) fn redefine(&mut self, rule: Rule, now: u64) {
        if (rule.strategy, rule.phase_ns) != (self.rule.strategy, self.rule.phase_ns) {
            self.lose_sight(now);
        }
        if rule.limit != self.rule.limit {
            self.change_rate(rule.limit, now);
        }
        self.rule = rule;
    }

    /// The library says that another limit is in force.
    pub(crate) fn in_force(&mut self, limit: u64, margin: u64, now: u64) {
        if limit != self.in_force {
            self.change_rate(limit, now);
        }
        self.margin = margin;
    }

    fn change_rate(&mut self, limit: u64, now: u64) {
        self.in_force = limit;
        self.rates.push((now, limit));
        // What is on the wire drains at which rate? And marks were shared for another limit.
        if self.sight == Sight::Shared || (self.is_bucket() && self.charges.iter().any(|c| c.at > now)) {
            self.see_no_more_than(Sight::Least);
        }
    }

    pub(crate) fn is_bucket(&self) -> bool {
        self.rule.strategy == GRATE_STRATEGY_TOKEN_BUCKET
    }

    /// Something happened that a log cannot follow: what is counted from now on is counted at least.
    pub(crate) fn lose_sight(&mut self, now: u64) {
        self.charges.clear();
        self.sight = Sight::Lost;
        self.calendar_moves(now);
    }

    /// The wall clock stepped, or may have: a window that has begun ends as it would have.
    pub(crate) fn calendar_moves(&mut self, now: u64) {
        self.blind_until = self.blind_until.max(now + 2 * self.window);
    }

    /// Whether it can tell no more what is counted at most.
    pub(crate) fn is_lost(&self) -> bool {
        self.sight == Sight::Lost
    }

    /// Whether it cannot tell when anything comes back.
    pub(crate) fn is_unclear(&self, now: u64) -> bool {
        self.is_lost() || now < self.blind_until
    }

    /// Moments at which it changes: a charge leaves, a calendar window ends.
    pub(crate) fn edges(&self, now: u64) -> impl Iterator<Item = u64> {
        let unix = i128::from(self.unix_start_ns) + i128::from(now) - i128::from(self.rule.phase_ns);
        let window = i128::from(self.window.max(1));
        let boundary = now + (window - unix.rem_euclid(window)) as u64;
        self.charges.iter().map(|c| c.at + self.window).chain([boundary])
    }

    /// The most that may be used at once.
    pub(crate) fn capacity(&self) -> u64 {
        if self.in_force == 0 {
            return 0;
        }
        if self.is_bucket() && self.rule.burst != 0 {
            let Rule { burst, limit, .. } = self.rule;
            if self.in_force >= limit {
                return burst;
            }
            // Smaller by the same part as the limit.
            return (u128::from(burst) * u128::from(self.in_force) / u128::from(limit)).max(1) as u64;
        }
        // Only headers raise a limit.
        if self.is_lost() { self.in_force } else { self.in_force.min(self.rule.limit) }
    }

    /// `None` units are unknown ones.
    pub(crate) fn charge(&mut self, lease: u64, now: u64, at: u64, units: Option<u64>) {
        if units == Some(0) {
            return;
        }
        let (in_time, units) = (self.charges.iter().all(|c| c.at <= at), units.unwrap_or(0));
        // When all have left, what is counted is known again. Of a bucket it is not known when it is full.
        if self.sight < Sight::Lost && !self.is_bucket() && self.charges.iter().all(|c| self.surely_gone(c, now)) {
            (self.sight, self.flooded) = (Sight::Exact, false);
        }
        self.charges.push(Charge { lease, granted: now, at, charged: units, left: units });
        self.flooded |= self.charges.iter().map(|c| u128::from(c.charged)).sum::<u128>() > TOO_MANY;
        if self.flooded {
            self.charges.iter_mut().for_each(|c| (c.charged, c.left) = (0, 0));
        }
        let sight = if units == 0 || self.flooded { Sight::Least } else { self.sight_of_newest(now, in_time) };
        self.see_no_more_than(sight);
    }

    fn see_no_more_than(&mut self, sight: Sight) {
        if sight > self.sight {
            self.sight = sight;
        }
    }

    fn surely_gone(&self, charge: &Charge, now: u64) -> bool {
        // Rounded by less than a 2^27th of the window or the lead.
        let rounding = (self.window >> 27) + ((charge.at - charge.granted) >> 27) + 1;
        charge.at + 2 * self.window + 2 * rounding <= now
    }

    /// How well all is known with one more charge.
    fn sight_of_newest(&self, now: u64, in_time: bool) -> Sight {
        let newest = self.charges.last().expect("there is one");
        let lead = newest.at - newest.granted;
        match self.rule.strategy {
            GRATE_STRATEGY_ROLLING => {
                let counted: Vec<_> = self.charges.iter().filter(|c| c.at + self.window > now && c.left > 0).collect();
                let sum: u128 = counted.iter().map(|c| u128::from(c.left)).sum();
                let most = self.rule.limit.min(self.in_force);
                if u128::from(self.window + lead) * u128::from(newest.charged) > ROUNDED {
                    Sight::Least
                } else if counted.len() as u64 <= most.clamp(15, 50) {
                    Sight::Exact
                } else if in_time && sum <= u128::from(most) {
                    Sight::Shared
                } else {
                    Sight::Least
                }
            }
            // Of longer ways than a window all is taken to be on the longest.
            GRATE_STRATEGY_FIXED_WINDOW if lead >= self.window => Sight::Least,
            _ => Sight::Exact,
        }
    }

    /// A lease used another amount than it reserved. What it used beyond that counts like a new one.
    pub(crate) fn correct(&mut self, lease: u64, now: u64, lead: u64, reserved: Option<u64>, used: Option<u64>) {
        match (reserved, used) {
            (Some(reserved), Some(used)) => {
                if let Some(charge) = self.charges.iter_mut().find(|c| c.lease == lease) {
                    charge.left = charge.left.saturating_sub(reserved.saturating_sub(used));
                }
                self.charge(0, now, now + lead, Some(used.saturating_sub(reserved)));
            }
            // It took nothing at all, whatever it reserved.
            (None, Some(0)) => {}
            // Perhaps more than was reserved.
            _ => self.charge(0, now, now + lead, None),
        }
    }

    /// What is counted at least, and at most if that is known; of a bucket, times the window.
    fn bounds(&self, now: u64) -> (u128, Option<u128>) {
        if now < self.blind_until && self.rule.strategy == GRATE_STRATEGY_FIXED_WINDOW {
            return (0, None);
        }
        let at_most = |exact: u128| match self.sight {
            Sight::Exact => Some(exact),
            Sight::Shared => Some(exact + u128::from(self.rule.limit.min(self.in_force) / 51)),
            Sight::Least | Sight::Lost => None,
        };
        let sum = |counts: &dyn Fn(&Charge) -> bool| {
            self.charges.iter().filter(|c| counts(c)).map(|c| u128::from(c.left)).sum::<u128>()
        };
        let counted = match self.rule.strategy {
            GRATE_STRATEGY_TOKEN_BUCKET => {
                return (self.least_debt(now), (self.sight == Sight::Exact).then(|| self.most_debt(now)));
            }
            GRATE_STRATEGY_FIXED_WINDOW => {
                let this = self.calendar_window(now);
                sum(&|c| (self.calendar_window(c.granted)..=self.calendar_window(c.at)).contains(&this))
            }
            _ => sum(&|c| c.at + self.window > now),
        };
        (counted, at_most(counted))
    }

    fn calendar_window(&self, mono: u64) -> i128 {
        (i128::from(self.unix_start_ns) + i128::from(mono) - i128::from(self.rule.phase_ns))
            .div_euclid(i128::from(self.window))
    }

    /// What drains between two times.
    fn drained(&self, from: u64, to: u64) -> u128 {
        let ends = self.rates.iter().skip(1).map(|(start, _)| *start).chain([u64::MAX]);
        let spans =
            self.rates.iter().zip(ends).map(|(&(start, rate), end)| {
                u128::from(rate) * u128::from(end.min(to).saturating_sub(start.max(from)))
            });
        spans.sum()
    }

    /// What is missing from the bucket if every request arrived at once, and what was given back was never charged.
    fn least_debt(&self, now: u64) -> u128 {
        let (mut debt, mut since) = (0u128, 0);
        for c in &self.charges {
            debt = debt.saturating_sub(self.drained(since, c.granted)) + u128::from(c.left) * u128::from(self.window);
            since = c.granted;
        }
        debt.saturating_sub(self.drained(since, now))
    }

    /// What is missing if every request arrives as late as it can, and nothing was given back: full again when the last has
    /// drained (as GCRA counts), and until then what drains from now on is still missing.
    fn most_debt(&self, now: u64) -> u128 {
        let (mut debt, mut since) = (0u128, 0);
        for c in &self.charges {
            debt = debt.saturating_sub(self.drained(since, c.at)) + u128::from(c.charged) * u128::from(self.window);
            since = since.max(c.at);
        }
        let rounding = u128::from(self.in_force) * self.charges.len() as u128;
        debt.saturating_sub(self.drained(since, now)) + self.drained(now, since) + rounding
    }

    /// Whether `units` more surely do not fit, or surely do, and leave a share of `headroom` free.
    pub(crate) fn fits(&self, now: u64, units: u64, headroom: f64) -> Option<bool> {
        let (least, most) = self.bounds(now);
        self.fit(least, most, units, headroom)
    }

    /// The same, where at least and at most so much is counted.
    pub(crate) fn fit(&self, least: u128, most: Option<u128>, units: u64, headroom: f64) -> Option<bool> {
        let ceiling = self.capacity().saturating_sub(self.margin);
        // Rounding may go either way, but when it goes up, it is to whole units.
        let kept = headroom * ceiling as f64;
        let at_least = (kept * (1.0 - 1e-9) * self.scale() as f64) as u128;
        let at_most = (kept * (1.0 + 1e-9)).ceil() as u128 * self.scale();
        let fits = |used: u128, kept: u128| {
            used + u128::from(units) * self.scale() + kept <= u128::from(ceiling) * self.scale()
        };
        if units > 0 && !fits(least, at_least) {
            Some(false)
        } else {
            most.filter(|most| fits(*most, at_most)).map(|_| true)
        }
    }

    /// Checks what the library says is used.
    pub(crate) fn check_used(&self, now: u64, used: u64) {
        let (least, most) = self.bounds(now);
        let (least, most) = (least.div_ceil(self.scale()), most.map(|most| most.div_ceil(self.scale())));
        assert!(u128::from(used) >= least, "{used} units are used, and the log has {least}");
        assert!(most.is_none_or(|m| u128::from(used) <= m), "{used} units are used, and the log has at most {most:?}");
    }

    /// What a unit is in the bounds.
    fn scale(&self) -> u128 {
        if self.is_bucket() { u128::from(self.window) } else { 1 }
    }
}
