//! Quotas told by one field per number: limit, remaining and reset apart.

use super::field::Field;
use super::names::{QuotaName, Role};
use super::number::{count, seconds};
use super::slots::Slots;
use super::{MAX_QUOTAS, QuotaReport, Report, ietf, reset};

/// The counter fields of a response, by quota.
#[derive(Default)]
pub(super) struct Counters<'a>(Slots<Counter<'a>, MAX_QUOTAS>);

/// The fields that tell of one quota.
pub(super) struct Counter<'a> {
    name: QuotaName<'a>,
    limit: Field<'a>,
    /// The drafts' `RateLimit-Policy`, for the windows of numbered policies.
    pub(super) policy: Field<'a>,
    remaining: Field<'a>,
    reset: Field<'a>,
    reset_after: Field<'a>,
    interval: Field<'a>,
    /// Policies under a name of the provider's own (Brave Search).
    policies: Field<'a>,
}

impl<'a> Counters<'a> {
    /// The counter of a quota, made if it is not there yet; `None` if there is no room.
    pub(super) fn of(&mut self, name: QuotaName<'a>) -> Option<&mut Counter<'a>> {
        self.0.find_or_add(|counter| counter.name.is_same(&name), || Counter::new(name))
    }

    pub(super) fn report(&self, received_at_unix_ms: u64, report: &mut Report) {
        let mut told = Slots::<(QuotaName, QuotaReport), MAX_QUOTAS>::default();
        for counter in self.0.iter() {
            if counter.report_side_by_side(received_at_unix_ms, report).is_some() {
                continue;
            }
            let quota = counter.read(received_at_unix_ms, report);
            told.push((counter.name, quota));
        }
        // Zendesk tells one bucket in two spellings, in one of them without the reset.
        for (name, quota) in told.iter() {
            let is_told_better =
                told.iter().any(|(other, better)| better.says_more_than(quota) && other.is_respelled(name));
            if !is_told_better {
                report.add(*quota);
            }
        }
    }
}

impl<'a> Counter<'a> {
    fn new(name: QuotaName<'a>) -> Self {
        Self {
            name,
            limit: Field::default(),
            policy: Field::default(),
            remaining: Field::default(),
            reset: Field::default(),
            reset_after: Field::default(),
            interval: Field::default(),
            policies: Field::default(),
        }
    }

    pub(super) fn add(&mut self, role: Role, value: &'a [u8]) {
        let field = match role {
            Role::Limit => &mut self.limit,
            Role::Remaining => &mut self.remaining,
            Role::Reset => &mut self.reset,
            Role::ResetAfter => &mut self.reset_after,
            Role::Interval => &mut self.interval,
            Role::Policy => &mut self.policies,
        };
        field.add(value);
    }

    /// Brave Search: lists side by side, with a policy for each limit: `1, 15000`, `1;w=1, 15000;w=2592000`, `0, 1000`.
    /// Nothing is read unless all agree. A limit of 0 is none: plans without a monthly one have `50, 0` and `49, 0`.
    fn report_side_by_side(&self, received_at_unix_ms: u64, report: &mut Report) -> Option<()> {
        let policies = ietf::policies(&self.policies)?;
        let n = policies.iter().count();
        let same_length = |field: &Field<'a>| field.members().count() == n;
        let limits_agree =
            policies.iter().zip(self.limit.members()).all(|(policy, limit)| Some(policy.limit()) == count(limit));
        if n < 2 || !limits_agree || !same_length(&self.limit) || !same_length(&self.remaining) {
            return None;
        }
        let mut resets = self.reset.members().take(if same_length(&self.reset) { n } else { 0 });
        for (policy, remaining) in policies.iter().zip(self.remaining.members()) {
            let reset = resets.next();
            if policy.limit() > 0 {
                report.add(QuotaReport {
                    dimension: self.name.dimension,
                    limit: Some(policy.limit()),
                    remaining: count(remaining),
                    reset_in_ms: reset.and_then(|text| reset::read(text, received_at_unix_ms)),
                    window_ms: Some(policy.window_ms()),
                });
            }
        }
        Some(())
    }

    /// The quota itself. The policies that stand in its fields are reported
    /// directly, but for the one that gives this quota its window.
    fn read(&self, received_at_unix_ms: u64, report: &mut Report) -> QuotaReport {
        let limit = match self.limit.single(count) {
            Some(limit) => ietf::Limit::bare(limit),
            None => ietf::Limit::read(&self.limit).unwrap_or_default(),
        };
        // Several limits, of which nothing tells the windows: what remains of them, be it equal now, is not of one quota.
        let of_several = limit.count.is_none() && self.limit.members().nth(1).is_some();
        let remaining =
            if of_several && self.remaining.members().nth(1).is_some() { Field::default() } else { self.remaining };
        let (remaining, remaining_window_ms) = match remaining.single(count) {
            Some(remaining) => (Some(remaining), None),
            None => remaining.single(ietf::count_and_window).unzip(),
        };
        let mut quota = QuotaReport {
            dimension: self.name.dimension,
            limit: limit.count,
            remaining,
            // A relative field beats an absolute one: no clock is involved.
            reset_in_ms: self
                .reset_after
                .single(seconds)
                .or_else(|| self.reset.single(|text| reset::read(text, received_at_unix_ms))),
            window_ms: limit
                .window_ms
                .or(remaining_window_ms.flatten())
                .or(self.name.window_ms)
                .or_else(|| self.interval.single(count).filter(|&ms| ms > 0)),
        };
        let policies = ietf::policies(&self.policy).unwrap_or_default();
        for policy in limit.policies.iter().chain(policies.iter()) {
            policy.join(&mut quota, report);
        }
        quota
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::quotas;
    use crate::config::Dimension::{Requests, Tokens};

    #[test]
    fn a_bad_value_takes_nothing_with_it() {
        let quota = quotas(
            Tokens,
            &[
                ("x-ratelimit-limit-tokens", "50000"),
                ("x-ratelimit-remaining-tokens", "-27689"),
                ("x-ratelimit-reset-tokens", "64"),
            ],
        );
        assert_eq!(quota, [(Some(50_000), None, Some(64_000), None)]);
        let nothing_known = [
            ("x-ratelimit-limit-tokens", "-1"),
            ("x-ratelimit-remaining-tokens", "-1"),
            ("x-ratelimit-reset-tokens", "0"),
        ];
        assert_eq!(quotas(Tokens, &nothing_known), []);
    }

    #[test]
    fn a_relative_reset_beats_an_absolute_one_if_it_can_be_read() {
        for (after, ms) in [("64.57", 64_570), ("-1", 60_000)] {
            let quota = quotas(
                Requests,
                &[("X-RateLimit-Limit", "10"), ("X-RateLimit-Reset", "1768471260"), ("X-RateLimit-Reset-After", after)],
            );
            assert_eq!(quota, [(Some(10), None, Some(ms), None)]);
        }
    }

    #[test]
    fn fields_on_lines_that_differ_are_ignored() {
        let quota = quotas(
            Requests,
            &[
                ("X-RateLimit-Limit", "60"),
                ("x-ratelimit-limit", "60"),
                ("X-RateLimit-Remaining", "5"),
                ("x-ratelimit-remaining", "9"),
            ],
        );
        assert_eq!(quota, [(Some(60), None, None, None)]);
        let limits = [("X-RateLimit-Limit", "60"), ("x-ratelimit-limit", "61")];
        assert_eq!(quotas(Requests, &limits), []);
    }

    #[test]
    fn a_quota_in_two_spellings_is_one_unless_they_disagree() {
        let spellings = |remaining| {
            quotas(
                Requests,
                &[
                    ("x-rate-limit", "700"),
                    ("x-rate-limit-remaining", remaining),
                    ("ratelimit-limit", "700"),
                    ("ratelimit-remaining", "699"),
                    ("ratelimit-reset", "41"),
                ],
            )
        };
        let told_fully = (Some(700), Some(699), Some(41_000), None);
        assert_eq!(spellings("699"), [told_fully]);
        assert_eq!(spellings("698"), [(Some(700), Some(698), None, None), told_fully]);
    }

    #[test]
    fn the_interval_is_that_of_the_quota_without_a_window_in_its_name() {
        let quota = quotas(
            Requests,
            &[
                ("X-HubSpot-RateLimit-Interval-Milliseconds", "10000"),
                ("X-HubSpot-RateLimit-Max", "100"),
                ("X-HubSpot-RateLimit-Remaining", "99"),
                ("X-HubSpot-RateLimit-Secondly", "10"),
            ],
        );
        assert_eq!(quota, [(Some(10), None, None, Some(1000)), (Some(100), Some(99), None, Some(10_000)),]);
    }
}
