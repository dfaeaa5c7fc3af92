//! Health, cooldown and latency of a provider: what its outcomes say.

use crate::cell::{Cell, FloatCell};
use crate::config::{Settings, secs_to_ns};
use crate::decay::half_to_the;
use crate::feedback::Outcome;

/// Share of a new latency in the average.
const LATENCY_ALPHA: f64 = 0.3;
/// With so many leases allowed at once, a provider that recovers counts as recovered. A longer ramp sends less to a provider
/// that is still ill and is slower to return. Measured over simulated outages: 122 failed attempts with 2, 77 with 16 and 64.
const RAMP_END: u64 = 16;

/// Cooldowns in a row after which they get no longer: with any multiplier that matters, the longest was reached before.
const MOST_STEPS: u64 = 10_000;

/// Whether a provider may be used, after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// As usual.
    Closed,
    /// Cooling down.
    Open,
    /// One lease at a time may try it.
    HalfOpen,
    /// The number of leases allowed doubles with each success.
    Ramping,
}

/// The health of one provider, as cells of its record. All zero: perfectly healthy, nothing known.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Health {
    /// What was missing from full health after the last outcome, and when that was. It halves every half-life.
    deficit: FloatCell,
    deficit_at: Cell,
    /// Failures since the last success.
    failures: Cell,
    /// Cooldowns since the last success.
    cooldowns: Cell,
    /// The last cooldown: the moment after its beginning, and its end; both 0 before the first.
    began: Cell,
    until: Cell,
    /// Leases that may be out at once since the last cooldown; 0 is any number.
    allowed: Cell,
    /// Average latency in nanoseconds; 0 is unknown.
    latency: FloatCell,
}

/// An outcome, with the times that matter.
#[derive(Clone, Copy)]
pub(crate) struct Observed {
    pub(crate) outcome: Outcome,
    /// When the request was sent.
    pub(crate) sent: u64,
    pub(crate) now: u64,
    /// How long it took, if known.
    pub(crate) latency_ns: Option<u64>,
    /// How long the provider says to stay away.
    pub(crate) retry_after_ns: Option<u64>,
}

impl Health {
    /// The health at `now`, recovered by the time that has passed.
    pub(crate) fn at(&self, now: u64, settings: &Settings) -> f64 {
        let deficit = self.deficit.get();
        if deficit == 0.0 {
            return 1.0;
        }
        let half_lives = now.saturating_sub(self.deficit_at.get()) as f64 / (settings.recovery_half_life_secs * 1e9);
        1.0 - deficit * half_to_the(half_lives)
    }

    /// Nanoseconds until the health is at least `level`, which is below 1.
    pub(crate) fn wait_for(&self, level: f64, now: u64, settings: &Settings) -> u64 {
        if self.at(now, settings) >= level {
            return 0;
        }
        // The closed form lands within a few nanoseconds of the answer; bisection makes it exact and platform-independent.
        let (mut low, mut high) = (0u64, 1u64);
        while self.at(now.saturating_add(high), settings) < level {
            if high >= u64::MAX / 2 {
                return u64::MAX;
            }
            low = high;
            high *= 2;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.at(now.saturating_add(middle), settings) < level {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Average latency in nanoseconds; 0 is unknown.
    pub(crate) fn latency_ns(&self) -> f64 {
        self.latency.get()
    }

    pub(crate) fn consecutive_failures(&self) -> u64 {
        self.failures.get()
    }

    /// Nanoseconds until the cooldown ends.
    pub(crate) fn cooldown_left(&self, now: u64) -> u64 {
        self.until.get().saturating_sub(now)
    }

    /// How many leases may be out at once since the last cooldown; `None` is any number.
    pub(crate) fn allowed(&self) -> Option<u64> {
        Some(self.allowed.get()).filter(|&n| n > 0)
    }

    pub(crate) fn circuit(&self, now: u64) -> Circuit {
        match self.allowed() {
            _ if self.cooldown_left(now) > 0 => Circuit::Open,
            None => Circuit::Closed,
            Some(1) => Circuit::HalfOpen,
            Some(_) => Circuit::Ramping,
        }
    }

    /// Whether a request was sent before the last cooldown began, or just then: it tells of the time before it.
    pub(crate) fn is_straggler(&self, sent: u64) -> bool {
        sent < self.began.get()
    }

    /// Makes sense of cells that may be anything.
    #[cfg(unix)]
    pub(crate) fn put_right(&self) {
        let deficit = self.deficit.get();
        self.deficit.set(if deficit.is_finite() { deficit.clamp(0.0, 1.0) } else { 0.0 });
        let latency = self.latency.get();
        self.latency.set(if latency.is_finite() { latency.clamp(0.0, u64::MAX as f64) } else { 0.0 });
        let calm = self.began.get() <= self.until.get();
        if !calm {
            self.began.set(0);
            self.until.set(0);
        }
        // It doubles.
        self.allowed.set(self.allowed.get().min(RAMP_END));
    }

    /// Takes in an outcome. Whether it started a cooldown.
    pub(crate) fn observe(&self, seen: Observed, base_cooldown_secs: f64, settings: &Settings) -> bool {
        if let Some(latency) = seen.latency_ns.filter(|_| seen.outcome.has_latency()) {
            let (old, new) = (self.latency.get(), latency as f64);
            self.latency.set(if old == 0.0 { new.max(1.0) } else { old + LATENCY_ALPHA * (new - old) });
        }
        let Some(weight) = seen.outcome.health_weight() else { return false };
        let step = (settings.ewma_alpha * weight).min(1.0);
        let target = if seen.outcome.is_success() { 1.0 } else { 0.0 };
        let health = self.at(seen.now, settings);
        let health = health + step * (target - health);
        self.deficit.set(1.0 - health);
        self.deficit_at.set(seen.now.max(self.deficit_at.get()));

        let straggler = self.is_straggler(seen.sent);
        if seen.outcome.is_failure() {
            self.fail(seen, straggler, health, base_cooldown_secs, settings)
        } else {
            if !straggler {
                self.succeed(seen.now);
            }
            false
        }
    }

    fn succeed(&self, now: u64) {
        self.failures.set(0);
        if self.cooldown_left(now) > 0 {
            return;
        }
        self.cooldowns.set(0);
        if let Some(allowed) = self.allowed() {
            self.allowed.set(if allowed * 2 >= RAMP_END { 0 } else { allowed * 2 });
        }
    }

    fn fail(&self, seen: Observed, straggler: bool, health: f64, base_secs: f64, settings: &Settings) -> bool {
        let idle = !straggler && self.cooldown_left(seen.now) == 0;
        if idle {
            self.failures.add(1);
        }
        // The provider's word, also to a straggler: it speaks of its state now.
        if let Some(wait) = seen.retry_after_ns.filter(|&wait| wait > 0) {
            return self.cool_down(seen.now, seen.now.saturating_add(wait));
        }
        // Spent for hours, not for seconds: not tried again soon. Who tells of it late, tells of when the cooldown began.
        if seen.outcome == Outcome::QuotaExhausted {
            let since = if idle { seen.now } else { self.began.get().saturating_sub(1) };
            return self.cool_down(seen.now, since.saturating_add(secs_to_ns(settings.max_cooldown_secs)));
        }
        if !idle {
            return false;
        }
        let probing = self.circuit(seen.now) == Circuit::HalfOpen;
        if self.allowed().is_some() {
            self.allowed.set(1);
        }
        if !probing
            && self.failures.get() < u64::from(settings.cooldown_trigger_count)
            && health >= settings.cooldown_threshold
        {
            return false;
        }
        let mut secs = base_secs;
        for _ in 0..self.cooldowns.get().min(MOST_STEPS) {
            secs *= settings.cooldown_multiplier;
            if secs >= settings.max_cooldown_secs {
                break;
            }
        }
        self.cooldowns.add(1);
        let wait = secs_to_ns(secs.min(settings.max_cooldown_secs));
        self.cool_down(seen.now, seen.now.saturating_add(wait))
    }

    /// Starts a cooldown, or lengthens the one that is running; never shortens it.
    fn cool_down(&self, now: u64, until: u64) -> bool {
        if until <= self.until.get() || until < now {
            return false;
        }
        let starts = self.cooldown_left(now) == 0;
        if starts {
            self.began.set(now.saturating_add(1));
        }
        // Not over before who is sent then is no straggler.
        self.until.set(until.max(now.saturating_add(1)));
        self.allowed.set(1);
        starts
    }
}

#[cfg(test)]
mod tests;
