//! The limit in force: as configured, unless the provider shows or says that it is another.

use super::{Quota, QuotaRef};
#[cfg(unix)]
use crate::cell::Cell;
use crate::clock::Now;
use crate::config::{QuotaConfig, Strategy};
use crate::usage::Usage;

/// Where the limit in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// As configured.
    Configured,
    /// Learned from refusals.
    Learned,
    /// Told by the provider.
    Told,
}

/// In a record.
pub(super) const CONFIGURED: u32 = 0;
pub(super) const LEARNED: u32 = 1;
pub(super) const TOLD: u32 = 2;

/// Takes over a definition. A limit that is configured anew replaces what was learned of the old one.
pub(super) fn configure(quota: &Quota, config: &QuotaConfig) {
    if quota.configured.get() != config.limit || quota.source.get() == CONFIGURED {
        quota.source.set(CONFIGURED);
        quota.unlearn();
        quota.limit.set(config.limit);
    }
    quota.configured.set(config.limit);
}

/// Makes sense of a limit that may be anything: what makes none is as configured.
#[cfg(unix)]
pub(super) fn put_right(quota: &Quota, config: &QuotaConfig) {
    let limit = quota.limit.get();
    let sound = quota.configured.get() == config.limit
        && match quota.source.get() {
            CONFIGURED => limit == config.limit,
            LEARNED => (1..=config.limit).contains(&limit),
            TOLD => true,
            _ => false,
        };
    if !sound {
        quota.source.set(CONFIGURED);
        configure(quota, config);
    }
}

/// Forgets times that may be anything, if one of them is none.
#[cfg(unix)]
pub(super) fn put_times_right(times: &[&Cell]) {
    if times.iter().any(|at| at.get() > 2 * Now::LAST_MONO) {
        times.iter().for_each(|at| at.set(0));
    }
}

impl QuotaRef<'_> {
    pub(crate) fn configured_limit(&self) -> u64 {
        self.quota.configured.get()
    }

    /// The limit in force, or the configured one, to which it may rise.
    pub(super) fn highest_limit(&self) -> u64 {
        self.limit().max(self.configured_limit())
    }

    pub(crate) fn limit_source(&self) -> LimitSource {
        match self.quota.source.get() {
            LEARNED => LimitSource::Learned,
            TOLD => LimitSource::Told,
            _ => LimitSource::Configured,
        }
    }

    pub(super) fn change_limit(&self, now: Now, limit: u64, source: u32) {
        if limit != self.limit() {
            self.prepare(now);
            self.quota.limit.set(limit);
        }
        self.quota.source.set(source);
    }

    /// Takes in that a request went well, which was sent at `sent` with the effective time `at`, and that its response had no
    /// headers.
    #[inline]
    pub(crate) fn went_well(&self, now: Now, sent: u64, at: u64, usage: &Usage) {
        if !self.quota.says_nothing() || self.quota.source.get() == LEARNED {
            self.take_in(now, sent, at, usage.of(self.dimension()));
        }
    }

    #[cold]
    #[inline(never)]
    fn take_in(&self, now: Now, sent: u64, at: u64, n: u64) {
        self.quota.forget_news();
        if self.limit_source() == LimitSource::Learned && self.strategy() == Strategy::Rolling {
            self.revise(now, sent, at, n);
        }
    }
}
