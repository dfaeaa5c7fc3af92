//! What response headers tell of a quota: its limit, what is left and when all comes back. They correct what is counted.

use super::in_force::{CONFIGURED, TOLD};
use super::{Quota, QuotaRef, fixed_window, rolling, token_bucket};
use crate::cell::Cell;
use crate::clock::Now;
use crate::config::{NS_PER_SEC, Strategy};

/// A limit that headers tell is taken for this quota's if it is at most so many times larger or smaller than the configured
/// one. Headers often leave out the window, and a limit per day must not become one per minute.
const PLAUSIBLE: u64 = 4;
/// What headers tell is fresh for this part of the window. Then only this part of the limit is believed to be left, and to
/// have come back, until new ones do. Larger parts send more before the news. Measured: 0.25 with 20, 0.23 with 60, 0.22
/// with 200, which takes longer to start again with large requests.
const UNHEARD: u64 = 60;
/// Resets told so close to each other are one moment: many are rounded to a second.
const SAME_MOMENT_NS: u64 = 1_000_000_000;
/// A reset of at least this part of the window, or of this length, is taken for its end: a sliding log or a bucket mostly
/// gives something back sooner. Where it does not, little is sent until there is news.
const LONG_RESET: u64 = 10;
const LONG_RESET_NS: u64 = 10 * NS_PER_SEC;
/// The longest time that a quota is closed by a reset.
const LONGEST_CLOSURE_NS: u64 = 86_400 * NS_PER_SEC;
/// How long to wait for news when a request on its way will bring them.
pub(super) const NEWS_NS: u64 = 1_000_000;

/// What response headers tell of a quota.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) limit: Option<u64>,
    pub(crate) remaining: Option<u64>,
    /// Nanoseconds until it is full again.
    pub(crate) reset_ns: Option<u64>,
    /// When the request was sent whose response this is.
    pub(crate) sent: u64,
    /// Its effective time; what was charged since may be missing in `remaining`.
    pub(crate) sent_at: u64,
    /// Its own units, which the provider has counted.
    pub(crate) own: u64,
}

/// What headers told of a quota.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct News {
    /// The end of the provider's window as headers first told it, and when that was.
    window_end: Cell,
    end_told_at: Cell,
    /// When headers last showed that others use the quota (plus 1 ns; 0 is never).
    others_at: Cell,
    /// Until when headers said that nothing remains.
    closed_until: Cell,
    /// What headers told to be left, when they did (plus 1 ns; 0 is never), and what was charged since.
    left: Cell,
    left_told_at: Cell,
    spent: Cell,
    /// When the latest request was sent whose answer told that.
    told_sent: Cell,
}

impl Quota {
    /// Whether the last response had no headers that say what is left: the usual case, and then only the books count.
    #[inline]
    pub(super) fn says_nothing(&self) -> bool {
        self.told.left_told_at.get() | self.told.closed_until.get() == 0
    }

    /// What headers told is old.
    pub(super) fn forget_news(&self) {
        self.told.left_told_at.set(0);
        self.told.closed_until.set(0);
    }

    /// Makes sense of cells that may be anything.
    #[cfg(unix)]
    pub(super) fn put_news_right(&self) {
        let known = &self.told;
        super::in_force::put_times_right(&[
            &known.left_told_at,
            &known.told_sent,
            &known.others_at,
            &known.closed_until,
        ]);
    }
}

impl QuotaRef<'_> {
    /// Whether headers for a window of `window_ns`, if they say so, can speak of this quota.
    pub(crate) fn is_meant(&self, window_ns: Option<u64>) -> bool {
        window_ns.is_none_or(|window| window == self.window_ns())
    }

    /// Whether a limit that headers tell is the size of the bucket, and says nothing of its rate.
    pub(crate) fn is_burst(&self, limit: u64) -> bool {
        self.strategy() == Strategy::TokenBucket && token_bucket::is_burst(self, limit)
    }

    /// Whether a limit that headers tell is the configured one, or the size of the bucket.
    pub(crate) fn is_equal(&self, limit: Option<u64>) -> bool {
        limit.is_some_and(|limit| limit == self.configured_limit() || self.is_burst(limit))
    }

    /// The most that headers can tell to be left: of the limit or of the bucket, in force or configured.
    pub(crate) fn most_left(&self) -> u64 {
        let limit = self.highest_limit();
        limit.max(self.capacity_at(limit))
    }

    /// Whether a limit that headers tell can be this quota's: its window agrees, or at least its size.
    pub(crate) fn is_plausible(&self, limit: u64, window_ns: Option<u64>) -> bool {
        let configured = self.configured_limit();
        window_ns.is_some() || (limit / PLAUSIBLE <= configured && configured / PLAUSIBLE <= limit)
    }

    /// Takes in what response headers tell.
    pub(crate) fn correct(&self, now: Now, told: &Told) {
        if let Some(limit) = told.limit {
            let source = if limit == self.configured_limit() { CONFIGURED } else { TOLD };
            self.know_limit();
            self.change_limit(now, limit, source);
        }
        let Some(remaining) = told.remaining else { return };
        // What follows may be the second charge of an operation: see `marks::append`.
        self.journal.keep_run_once(self.marks);
        let latest = self.close(now, told.sent, remaining, told.reset_ns);
        if let Some(reset) = told.reset_ns.filter(|&reset| reset > 0 && reset <= self.window_ns())
            && self.strategy() == Strategy::FixedWindow
        {
            fixed_window::end_at(self, now, now.mono.saturating_add(reset));
        }
        // What the provider has counted; it may not have seen yet what is on the wire, or came after this request.
        let capacity = self.capacity();
        let counted = capacity.saturating_sub(remaining);
        // What remains of a limit does not tell how full a bucket of another size is.
        let size = told.limit.map_or(self.capacity_at(self.highest_limit()), |_| capacity);
        let is_of_all = remaining <= size && told.limit.is_none_or(|limit| limit == size);
        let unseen = match self.strategy() {
            // One that was sent a little earlier may have arrived later.
            Strategy::Rolling => {
                let since = told.sent_at.saturating_sub(self.quota.lead.get()).saturating_sub(1);
                // Its own units may have left the window while it took its time.
                let own = if told.sent_at.saturating_add(self.window_ns()) > now.mono { told.own } else { 0 };
                rolling::charged_between(self, since, u64::MAX).saturating_sub(own)
            }
            _ => self.quota.pending.get(),
        };
        let most = counted.saturating_add(unseen);
        let used = self.used(now);
        let known = &self.quota.told;
        if used < counted {
            // Others spent it: before now, so that it is not taken for what the next response has not seen.
            let window = self.window_ns();
            let before = now.mono.saturating_sub(self.quota.lead.get() + 1);
            let back_at = self.window_end(now, told.reset_ns).unwrap_or(before.saturating_add(window));
            self.charge(now, back_at.saturating_sub(window), counted - used);
            known.others_at.set(now.mono + 1);
        } else if used > most && is_of_all && (latest || self.strategy() == Strategy::Rolling) {
            // Without marks, what was sent later and is settled by now could not be told apart.
            self.forget(now, used - most);
        }
        known.left.set(remaining.saturating_sub(unseen));
        known.spent.set(0);
        known.left_told_at.set(now.mono + 1);
    }

    /// Whether no answer told what is left yet whose request was sent later, and notes this one.
    fn is_latest(&self, sent: u64) -> bool {
        let latest = &self.quota.told.told_sent;
        let is_latest = sent >= latest.get();
        if is_latest {
            latest.set(sent);
        }
        is_latest
    }

    /// Whether headers said that nothing remains, until later than now.
    pub(crate) fn is_closed(&self, now: Now) -> bool {
        now.mono < self.quota.told.closed_until.get()
    }

    /// Closes the quota until its reset if nothing remains, whatever the books and limits say, and else opens it, unless the answer
    /// is late. Whether it is not: see [`QuotaRef::is_latest`].
    pub(crate) fn close(&self, now: Now, sent: u64, remaining: u64, reset_ns: Option<u64>) -> bool {
        let (closed_until, latest) = (&self.quota.told.closed_until, self.is_latest(sent));
        if remaining == 0 {
            let reset = reset_ns.unwrap_or(self.window_ns() / UNHEARD).min(LONGEST_CLOSURE_NS);
            closed_until.set(now.mono.saturating_add(reset));
        } else if latest {
            closed_until.set(0);
        }
        latest
    }

    /// When the last headers told what is left, if that still matters: others were seen to use the quota too, and both was
    /// less than a window ago.
    fn news_at(&self, now: Now) -> Option<u64> {
        let known = &self.quota.told;
        let recent = |at: u64| at.checked_sub(1).filter(|at| now.mono.saturating_sub(*at) < self.window_ns());
        let told_at = recent(known.others_at.get()).and(recent(known.left_told_at.get()))?;
        self.told_end(told_at).is_none_or(|end| now.mono < end).then_some(told_at)
    }

    /// When all comes back, if headers told it and that is long enough to be believed.
    fn told_end(&self, told_at: u64) -> Option<u64> {
        let end = self.quota.told.window_end.get();
        (end.saturating_sub(told_at) >= (self.window_ns() / LONG_RESET).min(LONG_RESET_NS)).then_some(end)
    }

    /// What can be left at most, by the last headers, also when the books, which cannot know when the use of others leaves,
    /// have more: what they told, while that is fresh, and a little of what has come back since, less what was charged since.
    /// Requests within that bring news.
    #[inline]
    pub(super) fn told_left(&self, now: Now) -> u64 {
        if self.quota.says_nothing() {
            return u64::MAX;
        }
        self.told_left_now(now)
    }

    fn told_left_now(&self, now: Now) -> u64 {
        let known = &self.quota.told;
        if self.is_closed(now) {
            return 0;
        }
        let Some(told_at) = self.news_at(now) else { return u64::MAX };
        let since = now.mono.saturating_sub(told_at);
        let unheard = (self.limit() / UNHEARD).max(1);
        let told = if since < self.window_ns() / UNHEARD { known.left.get() } else { known.left.get().min(unheard) };
        told.saturating_add(self.back_since(since).min(unheard)).saturating_sub(known.spent.get())
    }

    /// Units that come back in a time at the limit's rate.
    fn back_since(&self, ns: u64) -> u64 {
        let back = u128::from(self.limit()) * u128::from(ns) / u128::from(self.window_ns().max(1));
        u64::try_from(back).unwrap_or(u64::MAX)
    }

    /// Whether the last headers let `n` units pass. A single request may always take what has come back: it brings news.
    #[inline]
    pub(super) fn told_fits(&self, now: Now, n: u64) -> bool {
        self.quota.says_nothing() || self.told_fits_now(now, n)
    }

    fn told_fits_now(&self, now: Now, n: u64) -> bool {
        n <= self.told_left_now(now) || (self.quota.pending.get() == 0 && self.missing_for(now, n) == 0)
    }

    /// How long until the quota is open, and `n` units have come back since the last headers or those no longer matter.
    fn missing_for(&self, now: Now, n: u64) -> u64 {
        let known = &self.quota.told;
        let closed = known.closed_until.get().saturating_sub(now.mono);
        let Some(told_at) = self.news_at(now) else { return closed };
        let missing = u128::from(n.saturating_add(known.spent.get()).saturating_sub(known.left.get()));
        let needed = (missing * u128::from(self.window_ns())).div_ceil(u128::from(self.limit().max(1)));
        let back_at = told_at.saturating_add(u64::try_from(needed).unwrap_or(u64::MAX).min(self.window_ns()));
        let back_at = self.told_end(told_at).map_or(back_at, |end| back_at.min(end));
        back_at.saturating_sub(now.mono).max(closed)
    }

    /// How long the last headers hold `n` units back; if only for news, a short while.
    pub(super) fn told_wait(&self, now: Now, n: u64) -> u64 {
        if self.told_fits(now, n) {
            return 0;
        }
        self.missing_for(now, n).max(NEWS_NS)
    }

    /// Notes what is charged after the last headers.
    #[inline]
    pub(super) fn told_spend(&self, n: u64) {
        if !self.quota.says_nothing() {
            self.quota.told.spent.add(n);
        }
    }

    /// When all that the provider has counted comes back at once, as far as a reset tells. A short one may also be when a
    /// little comes back (a sliding log, a bucket), unless it stays the same moment while time passes.
    fn window_end(&self, now: Now, reset_ns: Option<u64>) -> Option<u64> {
        let known = &self.quota.told;
        let reset = reset_ns?;
        let end = now.mono.saturating_add(reset);
        if known.window_end.get().abs_diff(end) > SAME_MOMENT_NS {
            known.window_end.set(end);
            known.end_told_at.set(now.mono);
        }
        let stays = now.mono.saturating_sub(known.end_told_at.get()) > 2 * SAME_MOMENT_NS;
        let long = reset >= (self.window_ns() / LONG_RESET).min(LONG_RESET_NS);
        (stays || long).then_some(end.min(now.mono.saturating_add(self.window_ns())))
    }

    /// Takes the oldest `n` units off the books: the provider no longer counts them.
    fn forget(&self, now: Now, n: u64) {
        match self.strategy() {
            Strategy::Rolling => rolling::forget(self, now, n),
            _ => self.refund(now, now.mono, n),
        }
    }
}
