//! Each strategy alone, against a plain log of what was charged.

use std::sync::Arc;

use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::config::{MAX_SPAN_NS, NS_PER_SEC};
use crate::memory::Memory;

const LAST_NS: u64 = Now::LAST_MONO;
const MS: u64 = 1_000_000;
const DAY: u64 = 86_400 * NS_PER_SEC;
/// 2026-01-01T00:00:00Z.
const UNIX: u64 = 1_767_225_600 * NS_PER_SEC;

struct Bed {
    quota: Quota,
    marks: Table<Mark>,
    journal: Journal,
}

impl Bed {
    fn new(config: &QuotaConfig) -> Self {
        let marks = Table::new(&Arc::new(Memory::heap()));
        let bed = Self { quota: Quota::default(), marks, journal: Journal::default() };
        bed.define(config, at(0));
        bed
    }

    fn define(&self, config: &QuotaConfig, now: Now) {
        let needs = Quota::marks_for(config);
        let more = needs > self.quota.marks_run().1;
        let reserved = more.then(|| self.marks.append(needs).unwrap() as u32);
        QuotaRef::define(&self.quota, &self.marks, config, reserved, &self.journal, now);
    }

    fn q(&self) -> QuotaRef<'_> {
        let (at, len) = (self.quota.marks_at.get(), self.quota.marks_len.get());
        QuotaRef::new(&self.quota, self.marks.run(at as usize, len as usize), &self.journal)
    }

    fn forecast(&self, now: u64) -> forecast::Forecast {
        self.q().forecast(at(now), self.q().remaining(at(now)))
    }

    /// Charges if it fits.
    fn admit(&self, now: Now, lead: u64, n: u64) -> bool {
        let fits = self.q().fits(now, n, 0.0);
        if fits {
            self.q().charge(now, now.mono + lead, n);
        }
        fits
    }
}

/// A clock whose monotonic and Unix times move together.
fn at(mono: u64) -> Now {
    Now { mono, unix: UNIX.saturating_add(mono) }
}

fn config(strategy: Strategy, limit: u64, window_ns: u64) -> QuotaConfig {
    let concurrency = strategy == Strategy::Concurrency;
    QuotaConfig {
        dimension: if concurrency { Dimension::Concurrency } else { Dimension::Tokens },
        limit,
        window_ns: if concurrency { 0 } else { window_ns },
        strategy: Some(strategy),
        burst: None,
        phase_ns: None,
        pool: None,
    }
}

fn rolling_config(limit: u64, window_ns: u64) -> QuotaConfig {
    config(Strategy::Rolling, limit, window_ns)
}

/// What was charged and is not refunded: effective time and units.
#[derive(Default)]
struct Log(Vec<(u64, u64)>);

impl Log {
    fn used(&self, now: u64, window: u64) -> u64 {
        let counted = |&&(at, _): &&(u64, u64)| u128::from(at) + u128::from(window) > u128::from(now);
        self.0.iter().filter(counted).map(|(_, n)| n).sum()
    }
}

/// `wait` is exact: no fit a nanosecond before it has passed, a fit then.
fn check_wait(bed: &Bed, now: u64, n: u64, headroom: f64) {
    let q = bed.q();
    let wait = q.wait(at(now), n, headroom);
    assert_eq!(wait == 0, q.fits(at(now), n, headroom), "a wait of 0 is a fit");
    if wait == 0 {
        return;
    }
    if wait == NEVER {
        assert!(!q.could_fit(n, headroom) || q.limit() == 0, "{n} units would fit one day");
        return;
    }
    assert!(!q.fits(at(now + wait - 1), n, headroom), "{n} units fit before now + {wait}");
    assert!(q.fits(at(now + wait), n, headroom), "{n} units do not fit at now + {wait}");
}

/// Units that `returning` promises are those that `used` loses.
fn check_returning(bed: &Bed, now: u64, horizon: u64, slack: u64) {
    let q = bed.q();
    let gone = q.used(at(now)) - q.used(at(now + horizon));
    let promised = q.returning(at(now), horizon).0;
    assert!(promised.abs_diff(gone) <= slack, "{promised} promised, {gone} returned within {horizon}");
}

#[derive(Clone, Debug)]
enum Op {
    Advance(u64),
    /// Reserved if it fits, with this lead.
    Admit(u64, u64),
    /// Counted whether it fits or not.
    Observe(u64),
    /// Takes back so many units of one of the charges.
    Refund(prop::sample::Index, u64),
    Limit(u64),
}

/// Steps that matter: within the window, and around its end.
fn steps(window: u64) -> impl Generator<Value = u64> {
    prop_oneof![
        3 => Just(0),
        2 => Just(1),
        8 => 0..=window / 20,
        3 => 0..=window,
        1 => (window - 1)..=window + 1,
        1 => Just(window * 2),
    ]
}

fn windows() -> impl Generator<Value = u64> {
    prop::sample::select(vec![MS, NS_PER_SEC, 60 * NS_PER_SEC, 31 * DAY])
}

fn ops(limit: u64, window: u64, lead: u64, weights: [u32; 5]) -> impl Generator<Value = Vec<Op>> {
    let [advance, admit, observe, refund, limits] = weights;
    let units = || prop_oneof![3 => Just(1), 2 => 0..=limit / 10 + 1, 1 => 0..=limit + 1];
    let op = prop_oneof![
        advance => steps(window).prop_map(Op::Advance),
        admit => (units(), prop::bool::ANY).prop_map(move |(n, leads)| Op::Admit(n, if leads { lead } else { 0 })),
        observe => units().prop_map(Op::Observe),
        refund => (any::<prop::sample::Index>(), units()).prop_map(|(i, n)| Op::Refund(i, n)),
        limits => (0..=limit).prop_map(Op::Limit),
    ];
    prop::collection::vec(op, 1..120)
}

/// A window, a limit, a lead, a start and a schedule.
fn schedules(
    limits: std::ops::Range<u64>,
    weights: [u32; 5],
    lead: impl Fn(u64) -> u64 + Clone,
) -> impl Generator<Value = (u64, u64, u64, Vec<Op>)> {
    let start = prop_oneof![Just(0), Just(1), 0..=400 * DAY, Just(LAST_NS - 150 * 200 * DAY)];
    (windows(), limits, start).prop_flat_map(move |(window, limit, start)| {
        (Just(window), Just(limit), Just(start), ops(limit, window, lead(window), weights))
    })
}

/// How a rolling quota is compared with the log.
#[derive(Clone, Copy)]
struct Slack {
    /// Share of the limit that may be lost, as a divisor; `None`: nothing.
    lost: Option<u64>,
    /// How much later than its time a charge may leave, as those of leases do.
    late: u64,
}

fn run_rolling(window: u64, limit: u64, start: u64, ops: &[Op], slack: Slack) {
    let bed = Bed::new(&rolling_config(limit, window));
    let mut log = Log::default();
    let (mut now, mut limit) = (start, limit);
    for op in ops {
        let q = bed.q();
        match *op {
            Op::Advance(ns) => now += ns,
            Op::Admit(n, lead) => {
                let fits = q.fits(at(now), n, 0.0);
                assert!(!fits || n == 0 || log.used(now, window) + n <= limit, "admits more than the limit");
                if slack.lost.is_none() && n > 0 {
                    assert_eq!(fits, log.used(now, window) + n <= limit);
                }
                if bed.admit(at(now), lead, n) {
                    log.0.push((now + lead, n));
                }
            }
            Op::Observe(n) => {
                q.charge(at(now), now, n);
                log.0.push((now, n));
            }
            Op::Refund(ref index, n) if !log.0.is_empty() => {
                let i = index.index(log.0.len());
                let (time, charged) = log.0[i];
                let n = n.min(charged);
                let before = q.used(at(now));
                q.refund(at(now), time, n);
                let back = before - bed.q().used(at(now));
                let counted = u128::from(time) + u128::from(window) > u128::from(now);
                if counted {
                    assert_eq!(back, n, "a unit that is still counted comes back");
                }
                assert!(back <= n);
                if slack.lost.is_none() && !counted {
                    assert_eq!(back, 0);
                }
                log.0[i].1 -= n;
            }
            Op::Refund(..) => {}
            Op::Limit(to) => {
                limit = to;
                bed.define(&rolling_config(limit, window), at(now));
            }
        }
        let (used, counted) = (bed.q().used(at(now)), log.used(now, window));
        assert!(used >= counted, "{used} used, the log has {counted}: too little");
        // Of a long window, and a large limit, marks tell times less exactly.
        let tick = if slack.lost.is_some() && window > DAY { window >> 27 } else { 0 };
        let late = log.used(now.saturating_sub(slack.late + tick), window);
        let lost = limit.saturating_sub(late).saturating_sub(bed.q().remaining(at(now)));
        match slack.lost {
            None => assert_eq!(used, counted, "a small limit is exact"),
            Some(part) => assert!(lost <= limit.div_ceil(part), "{lost} of {limit} lost"),
        }
        for n in [1, limit / 3, limit] {
            check_wait(&bed, now, n, 0.0);
            check_wait(&bed, now, n, 0.3);
        }
        for horizon in [0, 1, window / 7, window] {
            check_returning(&bed, now, horizon, 0);
        }
    }
}

/// The skew's usual relation to the window, and a large one.
fn short_lead(window: u64) -> u64 {
    (window / 20).min(50 * MS)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rolling_is_exact_for_small_limits(
        (window, limit, start, ops) in schedules(0..50, [10, 10, 0, 3, 0], short_lead)
    ) {
        run_rolling(window, limit, start, &ops, Slack { lost: None, late: 0 });
    }

    /// Usage that is observed in order, more than the limit but not more than a few times.
    #[test]
    fn rolling_is_exact_for_small_limits_with_observed_usage(
        (window, limit, start, ops) in schedules(0..50, [10, 10, 1, 3, 0], short_lead)
    ) {
        run_rolling(window, limit, start, &ops, Slack { lost: None, late: 0 });
    }

    #[test]
    fn rolling_loses_little_of_large_limits(
        (window, limit, start, ops) in schedules(50..5000, [10, 20, 0, 2, 0], |_| 0)
    ) {
        run_rolling(window, limit, start, &ops, Slack { lost: Some(50), late: 0 });
    }

    /// Charges with and without lead, so that they do not come in order.
    #[test]
    fn rolling_loses_little_when_charges_overtake(
        (window, limit, start, ops) in schedules(50..5000, [10, 20, 5, 0, 0], short_lead)
    ) {
        run_rolling(window, limit, start, &ops, Slack { lost: Some(50), late: short_lead(window) });
    }

    #[test]
    fn rolling_refunds_what_is_counted_when_charges_overtake(
        (window, limit, start, ops) in schedules(50..5000, [10, 20, 5, 5, 0], short_lead)
    ) {
        run_rolling(window, limit, start, &ops, Slack { lost: Some(1), late: 0 });
    }

    #[test]
    fn rolling_survives_changes_of_its_limit(
        (window, limit, start, ops) in schedules(1..5000, [10, 20, 1, 3, 2], |_| 0)
    ) {
        run_rolling(window, limit, start, &ops, Slack { lost: Some(1), late: 0 });
    }
}

#[test]
fn rolling_unit_leaves_at_the_nanosecond() {
    for window in [MS, NS_PER_SEC, 31 * DAY, MAX_SPAN_NS] {
        for limit in [1, 7, 49] {
            let bed = Bed::new(&rolling_config(limit, window));
            for i in 0..limit {
                assert!(bed.admit(at(1000 + i), 0, 1));
            }
            assert!(!bed.admit(at(1000 + limit), 0, 1));
            for i in 0..limit {
                assert_eq!(bed.q().used(at(999 + i + window)), limit - i);
                assert_eq!(bed.q().used(at(1000 + i + window)), limit - i - 1);
            }
        }
    }
}

/// The most that is lost of a limit under requests with a lead, each followed by other usage: 50 a second, three minutes.
fn worst_loss(limit: u64, window: u64, other_lead: u64) -> u64 {
    let bed = Bed::new(&rolling_config(limit, window));
    let mut log = Log::default();
    let (mut now, mut worst) = (50 * MS, 0);
    for i in 0..9000u64 {
        now += 20 * MS;
        if bed.admit(at(now), 50 * MS, 20) {
            log.0.push((now + 50 * MS, 20));
        }
        let (then, extra) = (now + 7 * MS, 1 + i % 13);
        bed.q().charge(at(then), then + other_lead, extra);
        log.0.push((then + other_lead, extra));
        log.0.retain(|(at, _)| at + window + NS_PER_SEC > now);
        // What is overtaken may leave as late as what overtakes it.
        let counted = log.used(then - (50 * MS - other_lead), window);
        worst = worst.max(limit.saturating_sub(counted).saturating_sub(bed.q().remaining(at(then))));
    }
    worst
}

#[test]
fn rolling_keeps_its_resolution_with_corrections() {
    let worst = worst_loss(100_000, 60 * NS_PER_SEC, 50 * MS);
    assert!(worst <= 2000, "{worst} of 100000 lost");
}

#[test]
fn rolling_keeps_its_resolution_when_observed_usage_is_overtaken() {
    let worst = worst_loss(100_000, 60 * NS_PER_SEC, 0);
    // And what is charged within the lead.
    assert!(worst <= 2100, "{worst} of 100000 lost");
}

/// A small limit stays exact also while others use far more than it.
#[test]
fn rolling_is_exact_after_much_observed_usage() {
    let (limit, window) = (10, 60 * NS_PER_SEC);
    let bed = Bed::new(&rolling_config(limit, window));
    let mut log = Log::default();
    for i in 0..100 {
        bed.q().charge(at(i * 100 * MS), i * 100 * MS, 1);
        log.0.push((i * 100 * MS, 1));
    }
    for i in 0..120 {
        let now = window + i * 100 * MS;
        let free = limit.saturating_sub(log.used(now, window));
        assert_eq!(bed.q().remaining(at(now)), free, "{i}");
    }
}

#[test]
fn rolling_refund_finds_its_mark_among_overtaking_charges() {
    let bed = Bed::new(&rolling_config(1000, NS_PER_SEC));
    // The first two may share a mark; the third lies between them.
    bed.q().charge(at(10), 60, 5);
    bed.q().charge(at(50), 100, 5);
    bed.q().charge(at(80), 80, 1);
    bed.q().refund(at(81), 60, 5);
    assert_eq!(bed.q().used(at(81)), 6);
}

#[test]
fn rolling_extremes() {
    for window in [MS, 31 * DAY] {
        let bed = Bed::new(&rolling_config(u64::MAX, window));
        assert!(bed.admit(at(5), 0, u64::MAX));
        assert!(!bed.admit(at(5), 0, 1));
        bed.q().charge(at(6), 6, u64::MAX);
        assert_eq!(bed.q().used(at(6)), u64::MAX);
        check_wait(&bed, 6, 1, 0.0);
        // Such counts leave little room for times in a mark.
        assert_eq!(bed.q().used(at(6 + window + (window >> 27))), 0);

        let none = Bed::new(&rolling_config(0, window));
        assert!(!none.admit(at(5), 0, 1));
        assert_eq!(none.q().wait(at(5), 1, 0.0), NEVER);
        none.q().charge(at(5), 5, u64::MAX);
        assert_eq!(none.q().used(at(5)), u64::MAX);
        assert_eq!(none.q().remaining(at(5)), 0);
    }
}

/// The end of time closes a quota rather than opening it: a clock that returns -1 once must not undo all limits.
#[test]
fn the_end_of_time_admits_no_more_than_the_limit() {
    for strategy in [Strategy::Rolling, Strategy::FixedWindow, Strategy::TokenBucket] {
        let bed = Bed::new(&config(strategy, 3, NS_PER_SEC));
        let admitted = (0..10).filter(|_| bed.q().fits(at(LAST_NS), 1, 0.0)).map(|_| {
            bed.q().charge(at(LAST_NS), LAST_NS, 1);
        });
        assert_eq!(admitted.count(), 3, "{strategy:?}");
    }
}

/// The token bucket in exact arithmetic: debt in units times the window.
struct Bucket {
    debt: u128,
    limit: u128,
    window: u128,
    burst: u128,
}

impl Bucket {
    fn advance(&mut self, ns: u64) {
        self.debt = self.debt.saturating_sub(self.limit * u128::from(ns));
    }

    fn fits(&self, n: u64) -> bool {
        n == 0 || self.debt + u128::from(n) * self.window <= self.burst * self.window
    }

    fn charge(&mut self, n: u64) {
        self.debt += u128::from(n) * self.window;
    }
}

fn bucket_config(limit: u64, window: u64, burst: u64) -> QuotaConfig {
    QuotaConfig { burst: Some(burst), ..config(Strategy::TokenBucket, limit, window) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bucket_equals_exact_arithmetic(
        (window, limit, start, ops) in schedules(1..3000, [10, 15, 1, 0, 0], |_| 0),
        burst in 1u64..5000,
    ) {
        let bed = Bed::new(&bucket_config(limit, window, burst));
        let mut model =
            Bucket { debt: 0, limit: limit.into(), window: window.into(), burst: burst.into() };
        let mut now = start;
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        let mut observed = false;
        for op in &ops {
            match *op {
                Op::Advance(ns) => {
                    now += ns;
                    model.advance(ns);
                }
                Op::Admit(n, _) => {
                    prop_assert_eq!(bed.q().fits(at(now), n, 0.0), model.fits(n));
                    if bed.admit(at(now), 0, n) {
                        model.charge(n);
                        admitted.push((now, n));
                    }
                }
                Op::Observe(n) => {
                    observed |= n > 0;
                    bed.q().charge(at(now), now, n);
                    model.charge(n);
                }
                _ => {}
            }
            prop_assert_eq!(u128::from(bed.q().used(at(now))), model.debt.div_ceil(window.into()));
            for n in [1, burst / 2, burst] {
                check_wait(&bed, now, n, 0.0);
                check_wait(&bed, now, n, 0.25);
            }
            check_returning(&bed, now, window / 3, 1);
        }
        if !observed {
            for (i, &(from, _)) in admitted.iter().enumerate() {
                let mut sum = 0u128;
                for &(to, n) in &admitted[i..] {
                    sum += u128::from(n);
                    let most = u128::from(burst) * u128::from(window) + u128::from(limit) * u128::from(to - from);
                    prop_assert!(sum * u128::from(window) <= most, "{sum} in {} ns", to - from);
                }
            }
        }
    }

    /// With a refund, the bucket is never fuller than one in which the overcharge had not happened.
    #[test]
    fn bucket_refund_is_never_too_much(
        (window, limit, start, ops) in schedules(1..3000, [10, 10, 3, 0, 0], |_| 0),
        burst in 1u64..5000,
        over in 1u64..3000,
        when in 0usize..60,
        settled in 0usize..60,
    ) {
        let with = Bed::new(&bucket_config(limit, window, burst));
        let without = Bed::new(&bucket_config(limit, window, burst));
        let mut now = start;
        let mut charged = None;
        for (i, op) in ops.iter().enumerate() {
            match *op {
                Op::Advance(ns) => now += ns,
                Op::Admit(n, _) | Op::Observe(n) => {
                    with.q().charge(at(now), now, n);
                    without.q().charge(at(now), now, n);
                }
                _ => {}
            }
            if i == when {
                with.q().reserve(at(now), now, over);
                charged = Some(now);
            }
            if i >= when + settled
                && let Some(time) = charged.take()
            {
                with.q().release(at(now), time, over);
                with.q().refund(at(now), time, over);
            }
            if charged.is_none() {
                let full = |bed: &Bed| bed.q().wait(at(now), burst, 0.0);
                prop_assert!(full(&with) >= full(&without), "a refund of {over} gave more than was taken");
            }
        }
    }

    /// The same for charges of leases, whose effective time lies ahead.
    #[test]
    fn bucket_refund_of_a_lease_is_never_too_much(
        before in 0u64..3, gap in 0u64..200 * MS, over in 1u64..100, later in 0u64..100 * MS, after in 0u64..10,
        rate in 1u64..200, lead in prop_oneof![Just(0), Just(50 * MS)],
    ) {
        let with = Bed::new(&bucket_config(rate, NS_PER_SEC, 200));
        let without = Bed::new(&bucket_config(rate, NS_PER_SEC, 200));
        for bed in [&with, &without] {
            bed.q().charge(at(0), lead, before);
        }
        with.q().reserve(at(gap), gap + lead, over);
        let now = gap + later;
        for bed in [&with, &without] {
            bed.q().charge(at(now), now + lead, after);
        }
        with.q().release(at(now), gap + lead, over);
        with.q().refund(at(now), gap + lead, over);
        let full = |bed: &Bed| bed.q().wait(at(now), 200, 0.0);
        // A bucket that is full refills nothing until the request arrives; one that is not quite full does.
        prop_assert!(
            full(&with) + lead >= full(&without),
            "full in {} ns, {} had it not been charged", full(&with), full(&without)
        );
    }
}

/// What a bucket may lack at most, times its window: charges of which the effective time has come have just arrived then, and
/// all others may arrive now.
fn most_debt(charges: &[(u64, u64)], limit: u64, window: u64, now: u64) -> u128 {
    let mut charges = charges.to_vec();
    charges.sort_unstable();
    let (mut debt, mut since, mut on_the_wire) = (0u128, 0, 0u128);
    for &(at, n) in &charges {
        let units = u128::from(n) * u128::from(window);
        if at > now {
            on_the_wire += units;
        } else {
            debt = debt.saturating_sub(u128::from(limit) * u128::from(at - since)) + units;
            since = at;
        }
    }
    debt.saturating_sub(u128::from(limit) * u128::from(now - since)) + on_the_wire
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// No bucket is thought to be fuller than it may be, nor emptier than if all requests took thrice as long and nothing were
    /// given back.
    #[test]
    fn bucket_knows_what_is_on_the_wire(
        charges in prop::collection::vec((0u64..60 * MS, 1u64..5, prop::bool::weighted(0.9), 0usize..12, 0u64..5), 1..60),
        rate in 20u64..2000, burst in 3u64..60, greedy in any::<bool>(),
    ) {
        let lead = 50 * MS;
        let bed = Bed::new(&bucket_config(rate, NS_PER_SEC, burst));
        let (mut sooner, mut later, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        let mut now = 0;
        let unit = u128::from(NS_PER_SEC);
        for (gap, n, leased, which, unused) in charges {
            now += if greedy { gap / 20 } else { gap };
            // Also where the skew has changed.
            let wire = if leased { lead - (n % 3) * 20 * MS } else { 0 };
            if !leased {
                bed.q().charge(at(now), now, n);
            } else if bed.q().fits(at(now), n, 0.0) {
                bed.q().reserve(at(now), now + wire, n);
                leases.push((sooner.len(), now + wire, n));
            } else {
                check_wait(&bed, now, n, 0.0);
                continue;
            }
            sooner.push((now + wire, n));
            later.push((now + 3 * lead, n));
            if which < leases.len() {
                let (i, time, n) = leases.swap_remove(which);
                let unused = unused.min(n);
                bed.q().release(at(now), time, n);
                bed.q().refund(at(now), time, unused);
                sooner[i].1 -= unused;
            }
            for time in [now, now + lead / 2, now + lead, now + 2 * lead, now + 4 * lead] {
                let used = u128::from(bed.q().used(at(time)));
                let (least, most) = (most_debt(&sooner, rate, NS_PER_SEC, time), most_debt(&later, rate, NS_PER_SEC, time));
                prop_assert!(used * unit >= least, "{used} at {time}, and may be {least}");
                prop_assert!(used <= most / unit + 1, "{used} at {time}, and is {most} at most");
            }
            check_wait(&bed, now, 1, 0.0);
            check_returning(&bed, now, 7 * MS, 1);
        }
    }
}

/// A bucket that is smaller than what refills it while a request is on the wire.
#[test]
fn a_small_bucket_refills_while_requests_come() {
    let (lead, burst) = (50 * MS, 20);
    let bed = Bed::new(&bucket_config(1000, NS_PER_SEC, burst));
    let admitted =
        (0..10 * NS_PER_SEC).step_by(MS as usize / 4).filter(|&now| bed.admit(at(now), lead, 1)).count() as u64;
    // At least a burst in the time that two requests need one after the other.
    assert!(admitted >= burst * 10 * NS_PER_SEC / (2 * lead), "{admitted} in ten seconds");
}

/// What was reserved and not used comes back, also when much has drained and other leases overlap.
#[test]
fn a_bucket_is_full_again_when_all_leases_are_given_back() {
    let bed = Bed::new(&bucket_config(60, 60 * NS_PER_SEC, 10));
    let leases: Vec<_> = (0..10).map(|i| i * 10 * MS).collect();
    for &granted in &leases {
        assert!(bed.q().fits(at(granted), 1, 0.0));
        bed.q().reserve(at(granted), granted + 50 * MS, 1);
    }
    let now = 5 * NS_PER_SEC;
    assert_eq!(bed.q().used(at(now)), 6);
    for granted in leases {
        bed.q().release(at(now), granted + 50 * MS, 1);
        bed.q().refund(at(now), granted + 50 * MS, 1);
    }
    assert_eq!(bed.q().used(at(now)), 0);
}

#[test]
fn bucket_refund_after_its_limit_fell() {
    let bed = Bed::new(&bucket_config(100, NS_PER_SEC, 100));
    bed.q().charge(at(0), 0, 100);
    // All of it has drained; now others use 90.
    bed.q().charge(at(NS_PER_SEC), NS_PER_SEC, 90);
    bed.define(&bucket_config(1, NS_PER_SEC, 100), at(NS_PER_SEC));
    bed.q().refund(at(NS_PER_SEC), 0, 100);
    assert_eq!(bed.q().used(at(NS_PER_SEC)), 90);
}

#[test]
fn bucket_limit_change_applies_from_now_on() {
    let bed = Bed::new(&bucket_config(10, NS_PER_SEC, 100));
    bed.q().charge(at(0), 0, 100);
    bed.define(&bucket_config(1, NS_PER_SEC, 100), at(5 * NS_PER_SEC));
    assert_eq!(bed.q().used(at(5 * NS_PER_SEC)), 50);
    assert_eq!(bed.q().used(at(7 * NS_PER_SEC)), 48);
}

#[test]
fn bucket_extremes() {
    let bed = Bed::new(&bucket_config(u64::MAX, MAX_SPAN_NS, u64::MAX));
    assert!(bed.admit(at(7), 0, u64::MAX));
    assert!(!bed.admit(at(7), 0, 1));
    check_wait(&bed, 7, u64::MAX, 0.0);
    bed.q().charge(at(8), 8, u64::MAX);
    bed.q().charge(at(8), 8, u64::MAX);
    assert_eq!(bed.q().used(at(8)), u64::MAX);
    assert_eq!(bed.q().used(at(LAST_NS)), 0);

    let slow = Bed::new(&bucket_config(1, 31 * DAY, 1));
    assert!(slow.admit(at(0), 0, 1));
    check_wait(&slow, 3, 1, 0.0);
    assert_eq!(slow.q().wait(at(3), 1, 0.0), 31 * DAY - 3);

    let dry = Bed::new(&bucket_config(0, NS_PER_SEC, 5));
    assert!(!dry.admit(at(0), 0, 1));
    assert_eq!(dry.q().wait(at(0), 1, 0.0), NEVER);
    assert!(!dry.admit(at(u64::MAX - 1), 0, 1));
}

/// Which calendar window holds a Unix time.
fn calendar(unix: u64, window: u64, phase: i64) -> i128 {
    (i128::from(unix) - i128::from(phase)).div_euclid(i128::from(window))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fixed_window_equals_the_calendar(
        (window, limit, start, ops) in schedules(0..3000, [10, 15, 2, 3, 0], short_lead),
        phase in -1.0f64..1.0,
    ) {
        let phase = (phase * (window - 1) as f64) as i64;
        let start = start.min(400 * DAY);
        let bed = Bed::new(&QuotaConfig { phase_ns: Some(phase), ..config(Strategy::FixedWindow, limit, window) });
        let window_of = |mono: u64| calendar(at(mono).unix, window, phase);
        // Granted, effective, units.
        let mut log: Vec<(u64, u64, u64)> = Vec::new();
        let mut now = start;
        for op in &ops {
            match *op {
                Op::Advance(ns) => now += ns,
                Op::Admit(n, lead) if bed.admit(at(now), lead, n) => log.push((now, now + lead, n)),
                Op::Observe(n) => {
                    bed.q().charge(at(now), now, n);
                    log.push((now, now, n));
                }
                Op::Refund(ref index, n) if !log.is_empty() => {
                    let i = index.index(log.len());
                    let n = n.min(log[i].2);
                    bed.q().refund(at(now), log[i].1, n);
                    log[i].2 -= n;
                }
                _ => {}
            }
            let counts = |granted: u64, effective: u64| {
                (window_of(granted)..=window_of(effective)).contains(&window_of(now))
            };
            let counted: u64 = log.iter().filter(|(g, e, _)| counts(*g, *e)).map(|(_, _, n)| n).sum();
            prop_assert_eq!(bed.q().used(at(now)), counted);
            for n in [1, limit / 3, limit] {
                check_wait(&bed, now, n, 0.0);
                check_wait(&bed, now, n, 0.3);
            }
            for horizon in [0, window / 9, window / 2] {
                check_returning(&bed, now, horizon, 0);
            }
        }
    }
}

#[test]
fn fixed_window_boundaries_follow_the_phase() {
    for (phase, boundary) in [(None, 60), (Some(20), 20), (Some(-15), 45), (Some(59), 59)] {
        let phase_ns = phase.map(|s: i64| s * NS_PER_SEC as i64);
        let bed = Bed::new(&QuotaConfig { phase_ns, ..config(Strategy::FixedWindow, 1, 60 * NS_PER_SEC) });
        let boundary = boundary * NS_PER_SEC;
        assert!(bed.admit(at(boundary - 2), 0, 1));
        assert!(!bed.admit(at(boundary - 1), 0, 1));
        assert!(bed.admit(at(boundary), 0, 1), "{phase:?}");
        assert!(!bed.admit(at(boundary + 60 * NS_PER_SEC - 1), 0, 1));
        assert!(bed.admit(at(boundary + 60 * NS_PER_SEC), 0, 1));
    }
}

/// The wall clock jumps while the monotonic clock walks on: a window is never cut short, nor left open.
#[test]
fn fixed_window_survives_jumps_of_the_wall_clock() {
    let hour = 3600 * NS_PER_SEC;
    for jump in [-3 * 365 * DAY as i64, -1, 1, 7, hour as i64, 3 * 365 * DAY as i64] {
        let bed = Bed::new(&config(Strategy::FixedWindow, 5, hour));
        assert!(bed.admit(at(10), 0, 5));
        let jumped = |mono: u64| Now { mono, unix: UNIX.saturating_add(mono).saturating_add_signed(jump) };
        for mono in [11, hour / 2, hour - 1] {
            assert!(!bed.q().fits(jumped(mono), 1, 0.0), "cut short by a jump of {jump}");
        }
        let wait = bed.q().wait(jumped(hour / 2), 1, 0.0);
        assert_eq!(wait, hour / 2, "{jump}");
        assert!(bed.admit(jumped(hour), 0, 5));
        assert!(!bed.q().fits(jumped(hour), 1, 0.0));
        // The next boundary is the new calendar's.
        let next = hour - (jumped(hour).unix % hour);
        assert_eq!(bed.q().wait(jumped(hour), 1, 0.0), next, "{jump}");
        assert!(bed.q().fits(jumped(hour + next), 5, 0.0));
    }
}

#[test]
fn fixed_window_carries_over_the_boundary() {
    let window = 60 * NS_PER_SEC;
    let bed = Bed::new(&config(Strategy::FixedWindow, 10, window));
    assert!(bed.admit(at(window - 80 * MS), 50 * MS, 4));
    assert!(bed.admit(at(window - 50 * MS), 50 * MS, 3));
    assert!(bed.admit(at(window - 1), 50 * MS, 2));
    assert_eq!(bed.q().used(at(window - 1)), 9);
    assert_eq!(bed.q().used(at(window)), 5);
    check_wait(&bed, window - 1, 6, 0.0);
    // Refunded where it counts: in both windows, or in the one that is left.
    bed.q().refund(at(window - 1), window - 1 + 50 * MS, 2);
    assert_eq!(bed.q().used(at(window)), 3);
    bed.q().refund(at(window + 5), window, 3);
    assert_eq!(bed.q().used(at(window + 5)), 0);
    assert_eq!(bed.q().used(at(2 * window)), 0);
}

/// The provider says that it ends sooner: what was sent just now may arrive after that, and what was sent before does not.
#[test]
fn fixed_window_carries_what_is_on_the_wire_over_an_end_that_was_brought_forward() {
    let bed = Bed::new(&config(Strategy::FixedWindow, 100, 60 * NS_PER_SEC));
    let q = bed.q();
    let send = |now: u64, n: u64| q.reserve(at(now), now + 50 * MS, n);
    let now = 10 * NS_PER_SEC;
    send(now - NS_PER_SEC, 7);
    send(now - 40 * MS, 5);
    send(now - 10 * MS, 4);
    fixed_window::end_at(&q, at(now), now + 20 * MS);
    assert_eq!(q.used(at(now)), 16);
    assert_eq!(q.used(at(now + 20 * MS)), 9);
    fixed_window::end_at(&q, at(now + 30 * MS), now + 10 * NS_PER_SEC);
    assert_eq!(q.used(at(now + 10 * NS_PER_SEC)), 0);
}

/// The provider says that it ends later: then nothing that was sent shortly before the old end arrives after the new one.
#[test]
fn fixed_window_carries_nothing_over_an_end_that_was_put_off() {
    let bed = Bed::new(&config(Strategy::FixedWindow, 10, 60 * NS_PER_SEC));
    let now = 59_980 * MS;
    assert!(bed.admit(at(now), 50 * MS, 6));
    let end = now + 30 * NS_PER_SEC;
    fixed_window::end_at(&bed.q(), at(now), end);
    assert!(bed.admit(at(end - 20 * MS), 50 * MS, 1));
    assert_eq!(bed.q().used(at(end - 1)), 7);
    assert_eq!(bed.q().used(at(end)), 1);
}

/// Headers may take off more than what surely counts in this window only: then less is carried over, as many units as there are.
/// A state file that is left so is in order.
#[test]
#[cfg(unix)]
fn fixed_window_carries_no_more_than_it_has() {
    let shape = config(Strategy::FixedWindow, 100, 60 * NS_PER_SEC);
    let bed = Bed::new(&shape);
    let (q, now) = (bed.q(), 10 * NS_PER_SEC);
    for _ in 0..5 {
        q.reserve(at(now), now + 50 * MS, 1);
        q.release(at(now), now + 50 * MS, 1);
    }
    let told = |remaining| Told {
        limit: None,
        remaining: Some(remaining),
        reset_ns: Some(20 * MS),
        sent: now,
        sent_at: now + 50 * MS,
        own: 1,
    };
    q.correct(at(now), &told(98));
    assert_eq!(q.used(at(now)), 2);
    bed.quota.put_right(&shape, &bed.marks, 0, false);
    assert_eq!(q.used(at(now)), 2);
    assert_eq!(q.used(at(now + 20 * MS)), 2);
}

/// When the latest units were sent may be anything in a state file, too: they would never have arrived.
#[test]
#[cfg(unix)]
fn fixed_window_puts_right_when_units_were_sent() {
    let shape = config(Strategy::FixedWindow, 100, 60 * NS_PER_SEC);
    let bed = Bed::new(&shape);
    let (q, now) = (bed.q(), 10 * NS_PER_SEC);
    q.reserve(at(now), now + 50 * MS, 1);
    q.quota.words.last().unwrap().set(u64::MAX);
    bed.quota.put_right(&shape, &bed.marks, 1, false);
    q.reserve(at(now), now + 50 * MS, 7);
    let now = now + NS_PER_SEC;
    fixed_window::end_at(&q, at(now), now + 20 * MS);
    assert_eq!(q.used(at(now)), 7);
    assert_eq!(q.used(at(now + 20 * MS)), 0);
}

/// Requests that may arrive several windows later count in each of them.
#[test]
fn fixed_window_shorter_than_the_lead() {
    let window = 10 * MS;
    let bed = Bed::new(&config(Strategy::FixedWindow, 10, window));
    let lead = 50 * MS;
    // Everything admitted in 50 ms may arrive at its end, in one window.
    let admitted = (0..5).filter(|i| bed.admit(at(i * window), lead, 10)).count();
    assert_eq!(admitted, 1, "requests of {admitted} windows may arrive in one");
}

#[test]
fn fixed_window_extremes() {
    for window in [MS, 31 * DAY] {
        let bed = Bed::new(&config(Strategy::FixedWindow, u64::MAX, window));
        assert!(bed.admit(at(5), 0, u64::MAX));
        bed.q().charge(at(5), 5, u64::MAX);
        assert_eq!(bed.q().used(at(5)), u64::MAX);
        check_wait(&bed, 5, u64::MAX, 0.0);
        bed.q().refund(at(5), 5, u64::MAX);
        bed.q().refund(at(5), 5, u64::MAX);
        assert_eq!(bed.q().used(at(5)), 0);
        let none = Bed::new(&config(Strategy::FixedWindow, 0, window));
        assert_eq!(none.q().wait(at(5), 1, 0.0), NEVER);
    }
    // Before the epoch, as phases go.
    let bed = Bed::new(&QuotaConfig { phase_ns: Some(-(DAY as i64 - 1)), ..config(Strategy::FixedWindow, 1, DAY) });
    let dawn = Now { mono: 0, unix: 0 };
    assert!(bed.admit(dawn, 0, 1));
    assert_eq!(bed.q().wait(dawn, 1, 0.0), 1);
}

#[test]
fn concurrency_counts_slots() {
    let bed = Bed::new(&config(Strategy::Concurrency, 2, 0));
    assert!(bed.admit(at(0), 0, 1));
    assert!(bed.admit(at(0), 0, 1));
    assert!(!bed.admit(at(u64::MAX - 1), 0, 1));
    assert_eq!(bed.q().wait(at(0), 1, 0.0), NEVER);
    assert_eq!(bed.q().returning(at(0), u64::MAX).0, 0);
    bed.define(&config(Strategy::Concurrency, 1, 0), at(1));
    bed.q().refund(at(2), 0, 1);
    assert!(!bed.admit(at(2), 0, 1));
    bed.q().refund(at(2), 0, 1);
    bed.q().refund(at(2), 0, 1);
    assert_eq!(bed.q().used(at(2)), 0);
}

const COUNTING: [Strategy; 3] = [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow];

/// Every change from one strategy to another, at once and after use, also of a day and of a lot.
#[test]
fn a_change_of_strategy_keeps_the_use() {
    for from in COUNTING {
        for to in COUNTING {
            for (limit, window, used) in
                [(100, 60 * NS_PER_SEC, 30), (10_000_000, DAY, 9_000_000), (u64::MAX, 31 * DAY, 1 << 62)]
            {
                let bed = Bed::new(&config(from, limit, window));
                bed.q().charge(at(NS_PER_SEC), NS_PER_SEC, used);
                bed.define(&config(to, limit, window), at(NS_PER_SEC));
                assert_eq!(bed.q().used(at(NS_PER_SEC)), used, "{from:?} to {to:?}");
                assert_eq!(bed.q().used(at(NS_PER_SEC + 2 * window)), 0, "{from:?} to {to:?}");
                bed.define(&config(from, limit, window), at(NS_PER_SEC));
                assert_eq!(bed.q().used(at(NS_PER_SEC)), used, "{to:?} back to {from:?}");
            }
        }
    }
}

/// What had returned before the strategy changed is not given back again at the cost of others.
#[test]
fn a_refund_after_a_change_of_strategy_takes_nothing_from_others() {
    let window = 60 * NS_PER_SEC;
    for from in COUNTING {
        for to in COUNTING {
            let bed = Bed::new(&config(from, 100, window));
            bed.q().reserve(at(0), 50 * MS, 50);
            let now = window + NS_PER_SEC;
            bed.q().charge(at(now), now + 50 * MS, 40);
            bed.define(&config(to, 100, window), at(now));
            bed.q().release(at(now), 50 * MS, 50);
            bed.q().refund(at(now), 50 * MS, 50);
            assert_eq!(bed.q().used(at(now)), 40, "{from:?} to {to:?}");
        }
    }
}

/// A refund never leaves a fixed window with less than what it carries.
#[test]
fn a_drained_refund_leaves_a_fixed_window_sane() {
    let window = 60 * NS_PER_SEC;
    let bed = Bed::new(&config(Strategy::TokenBucket, 100, window));
    bed.q().charge(at(0), 50 * MS, 50);
    bed.define(&config(Strategy::FixedWindow, 100, window), at(window - 29 * NS_PER_SEC));
    let now = window - 10 * MS;
    bed.q().charge(at(now), now + 50 * MS, 10);
    bed.q().refund(at(now), 50 * MS, 50);
    assert!(bed.q().used(at(now)) >= 10);
    assert!(bed.q().returning(at(now), window).0 <= bed.q().used(at(now)));
    let share = bed.forecast(now).share();
    assert!((0.0..=1.0).contains(&share));
}

#[test]
fn nothing_fits_also_where_too_much_is_used() {
    for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
        let bed = Bed::new(&config(strategy, 10, NS_PER_SEC));
        bed.q().charge(at(0), 0, 25);
        assert!(bed.q().fits(at(1), 0, 0.0) && !bed.q().fits(at(1), 1, 0.0), "{strategy:?}");
        assert_eq!(bed.q().wait(at(1), 0, 0.0), 0, "{strategy:?}");
    }
}

#[test]
fn headroom_leaves_its_share_free() {
    for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow, Strategy::Concurrency] {
        let bed = Bed::new(&config(strategy, 10, NS_PER_SEC));
        let mut admitted = 0;
        while bed.q().fits(at(0), 1, 0.3) {
            bed.q().charge(at(0), 0, 1);
            admitted += 1;
        }
        assert_eq!(admitted, 7, "{strategy:?}");
        assert!(bed.q().fits(at(0), 3, 0.0));
        assert!(!bed.q().fits(at(0), 4, 0.0));
    }
}

/// Whatever the numbers, a forecast is a share and two rates.
#[test]
fn forecasts_are_numbers() {
    for strategy in COUNTING {
        for limit in [0, 1, 1000, u64::MAX] {
            for n in [1, 1000, u64::MAX] {
                let bed = Bed::new(&config(strategy, limit, NS_PER_SEC));
                for now in [0, 1, NS_PER_SEC - 1, NS_PER_SEC, 3 * NS_PER_SEC, u64::MAX / 2, u64::MAX - 1] {
                    bed.q().charge(at(now), now, n);
                    let f = bed.forecast(now);
                    assert!((0.0..=1.0).contains(&f.share()), "{f:?}");
                    assert!(f.burn_per_sec() >= 0.0 && f.burn_per_sec().is_finite(), "{f:?}");
                    assert!(f.seconds_to_exhaustion() >= 0.0, "{f:?}");
                }
            }
        }
    }
}
