//! Leases in flight. `used` counts them; only settling or expiry brings them back.

use super::QuotaRef;

#[inline]
pub(super) fn used(q: &QuotaRef<'_>) -> u64 {
    q.quota.used.get()
}

#[inline]
pub(super) fn record(q: &QuotaRef<'_>, n: u64) {
    q.quota.used.add(n);
}

#[inline]
pub(super) fn refund(q: &QuotaRef<'_>, n: u64) {
    q.quota.used.sub(n);
}
