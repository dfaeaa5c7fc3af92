//! Settling leases and observing usage, and what the model makes of what the provider answered.

use grate::capi::*;

use crate::api::read_headers;
use crate::op::{Amounts, Answer, Handle, PROVIDERS, TOLD};
use crate::world::{Lease, World};

/// An amount of the C API: 0 is not given.
pub(crate) fn given(amount: u64) -> Option<u64> {
    match amount {
        0 => None,
        GRATE_ZERO => Some(0),
        n => Some(n),
    }
}

/// What is used of a dimension by amounts as told, where `assumed` stands for what is not.
pub(crate) fn used(amounts: &Amounts, dimension: i32, assumed: impl Fn(i32) -> Option<u64>) -> Option<u64> {
    let told = |d: i32| TOLD.iter().zip(amounts).find(|((of, _), _)| *of == d).and_then(|(_, n)| given(*n));
    let part = |d: i32| told(d).or_else(|| assumed(d));
    let (input, output) = (GRATE_DIMENSION_INPUT_TOKENS, GRATE_DIMENSION_OUTPUT_TOKENS);
    match told(dimension) {
        None if dimension == GRATE_DIMENSION_TOKENS && (told(input).is_some() || told(output).is_some()) => {
            let sum = part(input)?.saturating_add(part(output)?);
            let is_all = told(input).is_some() && told(output).is_some();
            let apart = assumed(input) != Some(0) || assumed(output) != Some(0);
            // Tokens that were reserved together are not settled by a part of them.
            if is_all || apart { Some(sum) } else { Some(sum.max(assumed(GRATE_DIMENSION_TOKENS)?)) }
        }
        _ => part(dimension),
    }
}

/// Whether an outcome is the provider's failure, so that its Retry-After counts.
fn is_failure(outcome: i32) -> bool {
    !matches!(outcome, GRATE_OUTCOME_SUCCESS | GRATE_OUTCOME_CLIENT_ERROR | GRATE_OUTCOME_CANCELLED)
}

/// Whether a request was refused before anything was done: then what is not told of its usage is nothing.
fn is_refusal(outcome: i32) -> bool {
    outcome == GRATE_OUTCOME_OVERLOADED
        || outcome == GRATE_OUTCOME_CLIENT_ERROR
        || (GRATE_OUTCOME_RATE_LIMITED..=GRATE_OUTCOME_FORBIDDEN).contains(&outcome)
}

impl World {
    /// The lease that a handle stands for, and its number.
    fn take(&mut self, handle: &Handle) -> (u64, Option<Lease>) {
        let open = match *handle {
            Handle::Open(which) if !self.leases.is_empty() => Some(which % self.leases.len()),
            Handle::Number(id) => self.leases.iter().position(|lease| lease.id == id),
            _ => None,
        };
        if let Some(open) = open {
            if !self.members[self.leases[open].provider].registered {
                self.catch_up();
            }
            self.expire();
        }
        match (open.filter(|open| *open < self.leases.len()), handle) {
            (Some(open), _) => {
                let lease = self.leases.remove(open);
                (lease.id, Some(lease))
            }
            (None, Handle::Dead(which)) if !self.dead.is_empty() => (self.dead[which % self.dead.len()], None),
            (None, Handle::Number(id)) => (*id, None),
            _ => (0, None),
        }
    }

    pub(crate) fn complete(&mut self, handle: &Handle, answer: Answer) {
        let answer = self.permitted(answer);
        let (id, lease) = self.take(handle);
        let complete = |world: &Self| world.engine.complete(id, &answer.response(), &answer.headers);
        let Some(lease) = lease else {
            assert_eq!(complete(self), GRATE_ERR_STALE_LEASE, "lease {id} is not out");
            return;
        };
        let told = self.told_wait(&answer);
        assert_eq!(complete(self), GRATE_OK, "a lease that is out is settled");
        assert_eq!(complete(self), GRATE_ERR_STALE_LEASE, "settled twice");
        self.members[lease.provider].counts.completions += 1;
        self.settle(&lease, Some(&answer));
        self.answered(lease.provider, &answer, told);
    }

    pub(crate) fn cancel(&mut self, handle: &Handle) {
        let (id, lease) = self.take(handle);
        let Some(lease) = lease else {
            assert_eq!(self.engine.cancel(id), GRATE_ERR_STALE_LEASE, "lease {id} is not out");
            return;
        };
        assert_eq!(self.engine.cancel(id), GRATE_OK, "a lease that is out is settled");
        assert_eq!(self.engine.cancel(id), GRATE_ERR_STALE_LEASE, "settled twice");
        self.settle(&lease, None);
    }

    /// Corrects the log to what a lease's request used: nothing if it was not sent.
    pub(crate) fn settle(&mut self, lease: &Lease, answer: Option<&Answer>) {
        if answer.is_none() {
            self.members[lease.provider].counts.cancellations += 1;
        }
        self.dead.push(lease.id);
        for link in &lease.charged {
            let dimension = link.key.1;
            let reserved = lease.reserved[dimension as usize];
            let actual = answer.map_or(Some(0), |answer| match dimension {
                GRATE_DIMENSION_REQUESTS => Some(given(answer.requests).unwrap_or(1)),
                _ => used(&answer.amounts, dimension, |d| {
                    if is_refusal(answer.outcome()) { Some(0) } else { lease.reserved[d as usize] }
                }),
            });
            if dimension != GRATE_DIMENSION_CONCURRENCY {
                let quota = self.quotas.get_mut(&link.key).expect("it is defined");
                quota.correct(lease.id, self.now, self.settings.skew_ns, reserved, actual);
            }
        }
    }

    pub(crate) fn observe(&mut self, i: usize, answer: Answer) {
        let answer = self.permitted(answer);
        let told = self.told_wait(&answer);
        let status = self.engine.observe(PROVIDERS[i], &answer.response(), &answer.headers);
        assert_eq!(status == GRATE_OK, self.members[i].registered, "observe gave {status}");
        if status != GRATE_OK {
            return;
        }
        self.members[i].counts.observations += 1;
        for link in self.members[i].links.iter().filter(|link| link.key.1 != GRATE_DIMENSION_CONCURRENCY) {
            let units = match link.key.1 {
                GRATE_DIMENSION_REQUESTS => Some(given(answer.requests).unwrap_or(1)),
                dimension => used(&answer.amounts, dimension, |_| Some(0)),
            };
            self.quotas.get_mut(&link.key).expect("it is defined").charge(0, self.now, self.now, units);
        }
        self.answered(i, &answer, told);
    }

    /// An answer that this world may have.
    fn permitted(&self, mut answer: Answer) -> Answer {
        if self.settings.quiet {
            answer.headers.clear();
            if answer.outcome() == GRATE_OUTCOME_RATE_LIMITED {
                (answer.outcome, answer.http_status) = (GRATE_OUTCOME_QUOTA_EXHAUSTED, 0);
            }
        }
        answer
    }

    /// The wait that an answer tells.
    fn told_wait(&self, answer: &Answer) -> Option<u64> {
        let unix_ms = self.settings.unix_ms + self.clock / 1_000_000;
        let told = read_headers(&answer.headers, unix_ms, 0).0.retry_after_ms;
        let in_headers = (told != GRATE_ABSENT).then(|| told.saturating_mul(1_000_000));
        given(answer.retry_after_ns).or(in_headers).filter(|_| is_failure(answer.outcome()))
    }

    /// Notes what an answer says of its provider.
    fn answered(&mut self, i: usize, answer: &Answer, wait: Option<u64>) {
        let outcome = answer.outcome();
        let refused = matches!(outcome, GRATE_OUTCOME_RATE_LIMITED | GRATE_OUTCOME_QUOTA_EXHAUSTED);
        self.members[i].counts.rate_limited_responses += u64::from(refused);
        self.learned |= outcome == GRATE_OUTCOME_SUCCESS && (answer.requests != 0 || answer.amounts != [0; TOLD.len()]);
        self.capped_waits += u64::from(wait.is_some_and(|wait| wait > self.settings.max_retry_after_ns));
        let taught_unseen = outcome == GRATE_OUTCOME_RATE_LIMITED && !self.members[i].registered;
        if !answer.headers.is_empty() || taught_unseen {
            for link in &self.members[i].links {
                self.quotas.get_mut(&link.key).expect("it is defined").lose_sight(self.now);
            }
        }
        if let (Some(wait), true) = (wait, self.members[i].registered) {
            let left = self.engine.state(PROVIDERS[i]).expect("it is registered").provider.cooldown_remaining_ns;
            assert!(
                left >= wait.min(self.settings.max_retry_after_ns),
                "it says {wait} ns and cools down for {left} ns"
            );
        }
    }
}
