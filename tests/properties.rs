//! Random use of an engine, recounted by a model that keeps a log of everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use common::*;
use grate::Engine;
use grate::clock::{Clock, MockClock};
use grate::config::{Change, Dimension, QuotaConfig, Settings, Strategy};
use grate::engine::{Estimate, HeldBy, Ranked, Routed};
use grate::feedback::Outcome;
use grate::health::Circuit;
use grate::lease::LeaseId;
use proptest::prelude::{Just, ProptestConfig, prop, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

const PROVIDERS: [&str; 4] = ["a", "b", "c", "d"];
const CAPABILITIES: [(&str, &[usize]); 3] = [("all", &[0, 1, 2, 3]), ("two", &[3, 1]), ("one", &[2])];
/// Rolling windows with more charges than this may be approximated when others overuse them.
const EXACT_CHARGES: usize = 15;

/// Outcomes that teach no limit.
const OUTCOMES: [Outcome; 6] = [
    Outcome::Success,
    Outcome::Success,
    Outcome::ServerError,
    Outcome::ClientError,
    Outcome::Timeout,
    Outcome::Overloaded,
];

#[derive(Clone, Debug)]
enum Op {
    Advance(u64),
    Select {
        capability: usize,
        tokens: u64,
        headroom: f64,
        exclude: Option<usize>,
    },
    Acquire {
        capability: usize,
        tokens: u64,
        headroom: f64,
        exclude: Option<usize>,
    },
    /// Acquires until nothing is available, then checks the wait that is told.
    WaitOut {
        capability: usize,
        tokens: u64,
    },
    Complete {
        lease: usize,
        outcome: usize,
        tokens: Option<u64>,
        latency: Option<u64>,
    },
    Cancel {
        lease: usize,
    },
    Observe {
        provider: usize,
        outcome: usize,
        tokens: u64,
        retry_after: Option<u64>,
    },
    Redefine {
        provider: usize,
        quotas: u16,
        scale: u64,
    },
    Remove {
        provider: usize,
    },
}

/// The quotas that a provider may have; limits grow with `scale`.
fn palette(scale: u64) -> [QuotaConfig; 11] {
    use Dimension::{Requests, Tokens};
    use Strategy::{FixedWindow, TokenBucket};
    let bucket = |burst: u64, q: QuotaConfig| QuotaConfig { burst: Some(burst), ..with(TokenBucket, q) };
    [
        quota(Requests, 3 * scale, SEC),
        quota(Requests, 7 * scale, 10 * SEC),
        quota(Tokens, 9 * scale, 3 * SEC),
        bucket(12 * scale, quota(Tokens, 5 * scale, SEC)),
        QuotaConfig { phase_ns: Some(-2 * SEC as i64), ..with(FixedWindow, quota(Requests, 5 * scale, 7 * SEC)) },
        concurrency(2 * scale),
        pooled("alpha", quota(Requests, 8 * scale, 5 * SEC)),
        pooled("beta", bucket(3 * scale, quota(Requests, 4 * scale, SEC))),
        pooled("gamma", concurrency(3 * scale)),
        pooled("delta", with(FixedWindow, quota(Tokens, 20 * scale, 3 * SEC))),
        pooled("alpha", quota(Requests, 12 * scale, 60 * SEC)),
    ]
}

type Key = (Option<usize>, Dimension, u64, Option<String>);

fn key(provider: usize, q: &QuotaConfig) -> Key {
    (q.pool.is_none().then_some(provider), q.dimension, q.window_ns, q.pool.as_deref().map(Into::into))
}

struct Charge {
    lease: Option<LeaseId>,
    granted: u64,
    /// When it counts at the latest.
    at: u64,
    /// As charged, and what is left of it.
    charged: u64,
    left: u64,
}

/// A quota, as a log.
struct Counter {
    config: QuotaConfig,
    /// Since when a bucket drains at which rate.
    rates: Vec<(u64, u64)>,
    charges: Vec<Charge>,
}

impl Counter {
    fn capacity(&self) -> u64 {
        self.config.burst.unwrap_or(self.config.limit)
    }

    fn ceiling(&self, headroom: f64) -> u64 {
        let capacity = self.capacity();
        capacity - (capacity as f64 * headroom).ceil() as u64
    }

    /// What a bucket lacks, times its window: at least (refunded units were never charged, nothing is on the wire) or at
    /// most (nothing was ever refunded, a full bucket waits for the wire).
    fn debt(&self, now: u64, at_most: bool) -> u128 {
        let drained = |from: u64, to: u64| -> u128 {
            let ends = self.rates.iter().skip(1).map(|(t, _)| *t).chain([u64::MAX]);
            let spans = self.rates.iter().zip(ends).map(|(&(start, rate), end)| {
                let ns = end.min(to).saturating_sub(start.max(from));
                u128::from(rate) * u128::from(ns)
            });
            spans.sum()
        };
        let (mut debt, mut since) = (0u128, 0);
        for charge in &self.charges {
            debt = debt.saturating_sub(drained(since, charge.granted.max(since)));
            since = since.max(charge.granted);
            if at_most && debt == 0 {
                since = since.max(charge.at);
            }
            let n = if at_most { charge.charged } else { charge.left };
            debt += u128::from(n) * u128::from(self.config.window_ns);
        }
        debt.saturating_sub(drained(since, now.max(since)))
    }

    fn counted(&self, now: u64) -> u64 {
        let (window, phase) = (self.config.window_ns, self.config.phase_ns.unwrap_or(0));
        let calendar = |mono: u64| {
            (i128::from(UNIX_MS) * 1_000_000 + i128::from(mono) - i128::from(phase)).div_euclid(i128::from(window))
        };
        let counts = |c: &&Charge| match self.config.strategy() {
            Strategy::FixedWindow => (calendar(c.granted)..=calendar(c.at)).contains(&calendar(now)),
            _ => c.at + window > now,
        };
        self.charges.iter().filter(counts).map(|c| c.left).sum()
    }

    /// Whether `n` units certainly do not fit, or certainly do; neither if the engine may approximate.
    fn verdict(&self, now: u64, n: u64, headroom: f64) -> Option<bool> {
        let ceiling = self.ceiling(headroom);
        match self.config.strategy() {
            Strategy::TokenBucket => {
                let scaled = |n: u64| u128::from(n) * u128::from(self.config.window_ns);
                let fits = |at_most: bool| self.debt(now, at_most) + scaled(n) <= scaled(ceiling);
                if !fits(false) { Some(false) } else { fits(true).then_some(true) }
            }
            _ if self.counted(now) + n > ceiling => Some(false),
            Strategy::Rolling => {
                let recent = self.charges.iter().filter(|c| c.at + self.config.window_ns > now).count();
                (recent <= EXACT_CHARGES).then_some(true)
            }
            _ => Some(true),
        }
    }
}

struct Lease {
    id: LeaseId,
    provider: usize,
    expires: u64,
    tokens: u64,
    /// Granted while the provider was half-open or ramping, after so many cooldowns.
    probe: Option<u64>,
    /// The counters that were charged.
    charged: Vec<Key>,
    /// Pools of slots that its provider left while it was out.
    left: Vec<Key>,
}

#[derive(Default)]
struct Member {
    registered: bool,
    quotas: Vec<Key>,
}

struct World {
    engine: Engine,
    clock: Arc<MockClock>,
    settings: Settings,
    counters: HashMap<Key, Counter>,
    members: Vec<Member>,
    leases: Vec<Lease>,
    /// Expired, of providers that nobody asks for: the engine may not have noticed.
    forgotten: Vec<Lease>,
    transcript: String,
}

impl World {
    fn new(settings: Settings) -> Self {
        let (engine, clock) = engine(settings.clone());
        let members = PROVIDERS.iter().map(|_| Member::default()).collect();
        Self {
            engine,
            clock,
            settings,
            counters: HashMap::new(),
            members,
            leases: Vec::new(),
            forgotten: Vec::new(),
            transcript: String::new(),
        }
    }

    fn now(&self) -> u64 {
        self.clock.monotonic_ns()
    }

    fn expire(&mut self) {
        // Reading all states makes the engine notice what has expired.
        let _ = self.engine.prometheus();
        let now = self.now();
        for lease in std::mem::take(&mut self.leases) {
            if lease.expires > now {
                self.leases.push(lease);
            } else if !self.members[lease.provider].registered {
                self.forgotten.push(lease);
            }
        }
        let members = &self.members;
        self.forgotten.retain(|lease| !members[lease.provider].registered);
    }

    fn redefine(&mut self, i: usize, quotas: u16, scale: u64) {
        let now = self.now();
        let quotas: Vec<QuotaConfig> =
            palette(scale).into_iter().enumerate().filter(|(bit, _)| quotas >> bit & 1 == 1).map(|(_, q)| q).collect();
        for config in &quotas {
            let counter = self.counters.entry(key(i, config)).or_insert_with(|| Counter {
                config: config.clone(),
                rates: vec![(0, config.limit)],
                charges: Vec::new(),
            });
            counter.config = config.clone();
            counter.rates.push((now, config.limit));
        }
        let pools = |key: &Key| key.1 == Dimension::Concurrency && key.3.is_some();
        let new = quotas.iter().map(|config| key(i, config)).collect();
        let left: Vec<_> = std::mem::replace(&mut self.members[i].quotas, new).into_iter().filter(pools).collect();
        let all = self.leases.iter_mut().chain(&mut self.forgotten);
        all.filter(|lease| lease.provider == i).for_each(|lease| lease.left.extend_from_slice(&left));
        self.members[i].registered = true;
        let mut config = provider(PROVIDERS[i], quotas);
        config.priority = i as u32;
        config.cooldown_seconds = 2.0;
        self.engine.apply(Change { providers: vec![config], ..Change::default() }).unwrap();
        self.capabilities();
    }

    fn members_of(&self, capability: usize) -> Vec<usize> {
        CAPABILITIES[capability].1.iter().copied().filter(|&i| self.members[i].registered).collect()
    }

    fn capabilities(&self) {
        let all = CAPABILITIES.iter().enumerate().map(|(c, (name, _))| {
            let names: Vec<&str> = self.members_of(c).into_iter().map(|i| PROVIDERS[i]).collect();
            capability(name, &names)
        });
        self.engine.apply(Change { capabilities: all.collect(), ..Change::default() }).unwrap();
    }

    fn excluded(&self, exclude: Option<usize>) -> Vec<u32> {
        exclude.and_then(|i| self.engine.provider_id(PROVIDERS[i])).into_iter().collect()
    }

    fn in_flight(&self, i: usize) -> u64 {
        self.leases.iter().filter(|l| l.provider == i).count() as u64
    }

    /// Whether the provider can take a request: certainly, certainly not, or unknown.
    fn can_take(&self, i: usize, estimate: &Estimate, excluded: bool) -> Option<bool> {
        let now = self.now();
        let state = self.engine.provider_state(PROVIDERS[i]).unwrap();
        if excluded || state.cooldown_remaining_ns > 0 || state.health < self.settings.min_health_for_selection {
            return Some(false);
        }
        let mut sure = true;
        let cooldowns = Some(state.counters.cooldowns_triggered);
        let probes = self.leases.iter().filter(|l| l.provider == i && l.probe == cooldowns).count();
        match state.circuit {
            Circuit::HalfOpen if probes >= 1 => return Some(false),
            Circuit::Ramping if probes >= 8 => return Some(false),
            Circuit::Ramping if probes >= 2 => sure = false,
            _ => {}
        }
        for key in &self.members[i].quotas {
            let counter = &self.counters[key];
            let n = units(estimate, key.1);
            if key.1 == Dimension::Concurrency {
                let holds = |l: &&Lease| self.members[l.provider].quotas.contains(key) || l.left.contains(key);
                let held = self.leases.iter().filter(holds).count() as u64;
                let ceiling = counter.ceiling(estimate.headroom);
                if held + n > ceiling {
                    return Some(false);
                }
                let ghosts = self.forgotten.iter().filter(holds).count() as u64;
                sure &= held + ghosts + n <= ceiling;
                continue;
            }
            match counter.verdict(now, n, estimate.headroom) {
                Some(false) => return Some(false),
                Some(true) => {}
                None => sure = false,
            }
        }
        sure.then_some(true)
    }

    /// Checks a decision against the model, and what holds of every decision.
    fn check(&self, capability: usize, estimate: &Estimate, exclude: Option<usize>, routed: &Routed, all: &[Ranked]) {
        let members = self.members_of(capability);
        assert_eq!(routed.total as usize, members.len());
        assert_eq!(all.len(), members.len());
        let mut ranks: Vec<_> = all.iter().map(Ranked::rank).collect();
        ranks.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(routed.best.map(|b| b.rank()), ranks.first().copied(), "the best comes first");
        for ranked in all {
            let s = ranked.score;
            let w = self.settings.weights.normalised();
            for component in [s.quota, s.health, s.priority, s.latency, s.total] {
                assert!((0.0..=1.0).contains(&component), "{s:?}");
            }
            let sum = w.quota * s.quota + w.health * s.health + w.priority * s.priority + w.latency * s.latency;
            assert!((sum - s.total).abs() < 1e-12, "{s:?}");
            assert!(ranked.seconds_to_exhaustion >= 0.0);
            assert_eq!(ranked.held_by.is_some(), ranked.retry_after_ns > 0, "{ranked:?}");

            let i = members[ranked.index as usize];
            assert_eq!(self.engine.provider_name(ranked.provider).to_str().unwrap(), PROVIDERS[i]);
            match self.can_take(i, estimate, exclude == Some(i)) {
                Some(true) => assert_eq!(ranked.held_by, None, "{} has room", PROVIDERS[i]),
                Some(false) => assert!(ranked.held_by.is_some(), "{} has no room", PROVIDERS[i]),
                None => {}
            }
        }
    }

    fn select(&mut self, capability: usize, estimate: &Estimate, exclude: Option<usize>) -> Routed {
        let before = without_selects(&self.engine.prometheus());
        let mut all = Vec::new();
        let routed = self.engine.select(CAPABILITIES[capability].0, estimate, Some(&mut all)).unwrap();
        let brief = self.engine.select(CAPABILITIES[capability].0, estimate, None).unwrap();
        assert_eq!(routed, brief, "the candidates change nothing");
        assert_eq!(before, without_selects(&self.engine.prometheus()), "select changes something");
        self.check(capability, estimate, exclude, &routed, &all);
        self.note(&routed);
        routed
    }

    fn acquire(&mut self, capability: usize, estimate: &Estimate, exclude: Option<usize>) -> Routed {
        let looked = self.select(capability, estimate, exclude);
        let now = self.now();
        let routed = self.engine.acquire(CAPABILITIES[capability].0, estimate, None).unwrap();
        assert_eq!(looked.best, routed.best, "acquire takes what select shows");
        let Some(id) = routed.lease else {
            assert!(!routed.available());
            return routed;
        };
        let i = self.members_of(capability)[routed.best.unwrap().index as usize];
        let state = self.engine.provider_state(PROVIDERS[i]).unwrap();
        let at = now + self.settings.skew_ns;
        let charged = self.members[i].quotas.clone();
        for key in charged.iter().filter(|key| key.1 != Dimension::Concurrency) {
            let n = units(estimate, key.1);
            let charge = Charge { lease: Some(id), granted: now, at, charged: n, left: n };
            self.counters.get_mut(key).unwrap().charges.push(charge);
        }
        self.leases.push(Lease {
            id,
            provider: i,
            expires: now + self.settings.lease_ttl_ns,
            tokens: units(estimate, Dimension::Tokens),
            probe: (state.circuit != Circuit::Closed).then_some(state.counters.cooldowns_triggered),
            charged,
            left: Vec::new(),
        });
        routed
    }

    /// Settles a lease in the model: `requests` and `tokens` were used.
    fn settle(&mut self, lease: &Lease, requests: u64, tokens: u64) {
        let now = self.now();
        for key in lease.charged.iter().filter(|key| key.1 != Dimension::Concurrency) {
            let (reserved, used) = if key.1 == Dimension::Requests { (1, requests) } else { (lease.tokens, tokens) };
            let counter = self.counters.get_mut(key).unwrap();
            let charge = counter.charges.iter_mut().find(|c| c.lease == Some(lease.id));
            charge.unwrap().left -= reserved.saturating_sub(used);
            if used > reserved {
                let n = used - reserved;
                // A lease's too, so it leaves as late.
                let at = now + self.settings.skew_ns;
                counter.charges.push(Charge { lease: None, granted: now, at, charged: n, left: n });
            }
        }
    }

    fn note(&mut self, routed: &Routed) {
        let Some(best) = routed.best else { return };
        let bits = |x: f64| x.to_bits();
        let s = best.score;
        let _ = writeln!(
            self.transcript,
            "{} {:?} {:x} {:x} {:x} {:x} {:x} {:x} {}",
            best.index,
            best.held_by,
            bits(s.total),
            bits(s.quota),
            bits(s.health),
            bits(s.priority),
            bits(s.latency),
            bits(best.seconds_to_exhaustion),
            best.retry_after_ns
        );
    }

    /// Uses everything up, then checks that the wait that is told is exact.
    fn wait_out(&mut self, capability: usize, tokens: u64) {
        let estimate = common::tokens(tokens);
        let mut left = 60;
        let none = loop {
            let routed = self.acquire(capability, &estimate, None);
            left -= 1;
            if !routed.available() || left == 0 {
                break routed;
            }
        };
        let Some(best) = none.best.filter(|best| best.held_by.is_some()) else { return };
        let exact = matches!(best.held_by, Some(HeldBy::Cooldown | HeldBy::Health | HeldBy::Quota { .. }));
        if !exact || best.retry_after_ns > 100 * SEC {
            return;
        }
        let look = |world: &mut Self, ns: u64| {
            world.clock.advance_ns(ns);
            world.expire();
            let mut all = Vec::new();
            world.engine.select(CAPABILITIES[capability].0, &estimate, Some(&mut all)).unwrap();
            all.into_iter().find(|r| r.provider == best.provider).unwrap().held_by
        };
        assert!(look(self, best.retry_after_ns - 1).is_some(), "free a nanosecond early: {best:?}");
        let then = look(self, 1);
        assert!(matches!(then, None | Some(HeldBy::Concurrency | HeldBy::Probe)), "{best:?}, then {then:?}");
    }

    fn run(&mut self, op: &Op) {
        self.expire();
        match *op {
            Op::Advance(ns) => self.clock.advance_ns(ns),
            Op::Select { capability, tokens, headroom, exclude } => {
                let excluded = self.excluded(exclude);
                let estimate = Estimate { headroom, excluded: &excluded, ..common::tokens(tokens) };
                self.select(capability, &estimate, exclude);
            }
            Op::Acquire { capability, tokens, headroom, exclude } => {
                let excluded = self.excluded(exclude);
                let estimate = Estimate { headroom, excluded: &excluded, ..common::tokens(tokens) };
                self.acquire(capability, &estimate, exclude);
            }
            Op::WaitOut { capability, tokens } => self.wait_out(capability, tokens),
            Op::Complete { lease, outcome, tokens, latency } if !self.leases.is_empty() => {
                let lease = self.leases.swap_remove(lease % self.leases.len());
                let outcome = OUTCOMES[outcome];
                let mut told = report(outcome);
                told.usage = told.usage.with(Dimension::Tokens, tokens);
                told.latency_ns = latency;
                self.engine.complete(lease.id, &told).unwrap();
                assert!(self.engine.complete(lease.id, &told).is_err(), "settled twice");
                let refused = matches!(outcome, Outcome::ClientError | Outcome::Overloaded);
                self.settle(&lease, 1, tokens.unwrap_or(if refused { 0 } else { lease.tokens }));
            }
            Op::Cancel { lease } if !self.leases.is_empty() => {
                let lease = self.leases.swap_remove(lease % self.leases.len());
                self.engine.cancel(lease.id).unwrap();
                assert!(self.engine.cancel(lease.id).is_err(), "cancelled twice");
                self.settle(&lease, 0, 0);
            }
            Op::Complete { .. } | Op::Cancel { .. } => {}
            Op::Observe { provider, outcome, tokens, retry_after } => {
                let mut told = reported_tokens(OUTCOMES[outcome], tokens);
                told.retry_after_ns = retry_after;
                let observed = self.engine.observe(PROVIDERS[provider], &told);
                assert_eq!(observed.is_ok(), self.members[provider].registered);
                if observed.is_ok() {
                    let now = self.now();
                    for key in &self.members[provider].quotas {
                        let n = if key.1 == Dimension::Requests { 1 } else { tokens };
                        if key.1 != Dimension::Concurrency && n > 0 {
                            let charge = Charge { lease: None, granted: now, at: now, charged: n, left: n };
                            self.counters.get_mut(key).unwrap().charges.push(charge);
                        }
                    }
                }
            }
            Op::Redefine { provider, quotas, scale } => self.redefine(provider, quotas, scale),
            Op::Remove { provider } => {
                let removed = self.engine.remove_provider(PROVIDERS[provider]);
                assert_eq!(removed.is_ok(), self.members[provider].registered);
                self.members[provider].registered = false;
            }
        }
        self.expire();
        for (i, name) in PROVIDERS.iter().enumerate().filter(|(i, _)| self.members[*i].registered) {
            let state = self.engine.provider_state(name).unwrap();
            assert_eq!(state.counters.leases_in_flight, self.in_flight(i), "leases of {name}");
            for q in &state.quotas {
                let _ = write!(self.transcript, "{} {} {:x} ", q.used, q.remaining, q.predicted_share.to_bits());
                assert!((0.0..=1.0).contains(&q.predicted_share) && q.remaining <= q.limit.max(u64::from(u32::MAX)));
            }
        }
    }

    /// Settles everything; then no slot is taken.
    fn finish(&mut self) {
        for lease in std::mem::take(&mut self.leases) {
            self.engine.complete(lease.id, &report(Outcome::Success)).unwrap();
        }
        self.clock.advance_ns(self.settings.lease_ttl_ns);
        for i in 0..PROVIDERS.len() {
            if !self.members[i].registered {
                self.redefine(i, 0x7ff, 1);
            }
        }
        for name in PROVIDERS {
            let state = self.engine.provider_state(name).unwrap();
            assert_eq!(state.counters.leases_in_flight, 0);
            let slots = state.quotas.iter().filter(|q| q.dimension == Dimension::Concurrency);
            assert_eq!(slots.map(|q| q.used).sum::<u64>(), 0, "slots of {name} are lost");
        }
        let c = self.engine.metrics().counters;
        assert_eq!(c.leases_in_flight, 0);
        assert_eq!(c.acquires, c.completions + c.cancellations + c.expired_leases);
    }
}

fn ops() -> impl Generator<Value = Vec<Op>> {
    let capability = || 0..CAPABILITIES.len();
    let providers = || 0..PROVIDERS.len();
    let outcome = || 0..OUTCOMES.len();
    let tokens = || prop_oneof![3 => Just(1u64), 2 => 1u64..8, 1 => 1u64..40];
    let headroom = || prop_oneof![4 => Just(0.0), 1 => 0.0f64..0.99];
    let excluded = || prop::option::weighted(0.2, providers());
    let lease = || 0..64usize;
    let op = prop_oneof![
        8 => prop_oneof![1..50 * MS, 0..SEC, 0..10 * SEC, Just(0), Just(SEC)].prop_map(Op::Advance),
        3 => (capability(), tokens(), headroom(), excluded()).prop_map(|(capability, tokens, headroom, exclude)| {
            Op::Select { capability, tokens, headroom, exclude }
        }),
        14 => (capability(), tokens(), headroom(), excluded()).prop_map(|(capability, tokens, headroom, exclude)| {
            Op::Acquire { capability, tokens, headroom, exclude }
        }),
        2 => (capability(), tokens()).prop_map(|(capability, tokens)| Op::WaitOut { capability, tokens }),
        8 => (lease(), outcome(), prop::option::of(0u64..12), prop::option::of(1..SEC)).prop_map(
            |(lease, outcome, tokens, latency)| Op::Complete { lease, outcome, tokens, latency }
        ),
        3 => lease().prop_map(|lease| Op::Cancel { lease }),
        3 => (providers(), outcome(), 0u64..6, prop::option::weighted(0.2, 1..5 * SEC)).prop_map(
            |(provider, outcome, tokens, retry_after)| Op::Observe { provider, outcome, tokens, retry_after }
        ),
        2 => (providers(), 0u16..0x800, 1u64..4)
            .prop_map(|(provider, quotas, scale)| Op::Redefine { provider, quotas, scale }),
        1 => providers().prop_map(|provider| Op::Remove { provider }),
    ];
    prop::collection::vec(op, 1..90)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_engine_agrees_with_its_log(
        first in prop::array::uniform4(0u16..0x800),
        skew in prop_oneof![Just(0), Just(50 * MS)],
        ttl in prop_oneof![Just(2 * SEC), Just(600 * SEC)],
        ops in ops(),
    ) {
        let settings = Settings { skew_ns: skew, lease_ttl_ns: ttl, ..Settings::default() };
        let mut transcripts = Vec::new();
        for _ in 0..2 {
            let mut world = World::new(settings.clone());
            for (i, quotas) in first.iter().enumerate() {
                world.redefine(i, *quotas, 1);
            }
            for op in &ops {
                world.run(op);
            }
            world.finish();
            transcripts.push(world.transcript);
        }
        assert!(transcripts[0] == transcripts[1], "the same calls at the same times gave other answers");
    }

    /// Any weights: the components times the normalised weights are the score, and it stays in [0, 1].
    #[test]
    fn any_weights_make_a_score(
        weights in prop::array::uniform4(prop_oneof![Just(0.0), 0.0f64..1.0, Just(f64::MAX), Just(f64::MIN_POSITIVE)]),
        failures in 0usize..3,
    ) {
        let [quota, health, priority, latency] = weights;
        let settings =
            Settings { weights: grate::config::Weights { quota, health, priority, latency }, ..Settings::default() };
        let clock = Arc::new(MockClock::new(0));
        let Ok(engine) = Engine::new(settings.clone(), clock) else {
            assert_eq!(weights, [0.0; 4]);
            return Ok(());
        };
        serve(&engine, vec![provider("a", vec![]), provider("b", vec![requests(10, SEC)])]);
        for _ in 0..failures {
            engine.observe("b", &report(Outcome::ServerError)).unwrap();
        }
        let mut all = Vec::new();
        engine.select("api", &one(), Some(&mut all)).unwrap();
        let w = settings.weights.normalised();
        for ranked in &all {
            let s = ranked.score;
            let sum = w.quota * s.quota + w.health * s.health + w.priority * s.priority + w.latency * s.latency;
            assert!((s.total - sum).abs() < 1e-12);
            assert!((0.0..=1.0).contains(&s.total), "{} of {weights:?}", s.total);
        }
    }
}

/// A provider's own book: which requests it refuses, given when they arrive.
fn refusals(kind: u8, mut arrivals: Vec<u64>, limit: u64, window: u64, phase: u64) -> usize {
    arrivals.sort_unstable();
    let (mut log, mut refused) = (Vec::new(), 0);
    let (mut debt, mut since) = (0u128, 0);
    for at in arrivals {
        let admitted = match kind {
            // Windows of its own phase.
            0 => log.iter().filter(|t| (**t + phase) / window == (at + phase) / window).count() < limit as usize,
            // A sliding log.
            1 => log.iter().filter(|t| **t + window > at).count() < limit as usize,
            // A bucket.
            _ => {
                debt = u128::saturating_sub(debt, u128::from(limit) * u128::from(at - since));
                since = at;
                let fits = debt + u128::from(window) <= u128::from(limit) * u128::from(window);
                debt += if fits { u128::from(window) } else { 0 };
                fits
            }
        };
        if admitted { log.push(at) } else { refused += 1 }
    }
    refused
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Requests arrive up to the skew later, in any order: no provider that counts in one of these ways refuses one.
    #[test]
    fn nothing_that_is_admitted_is_refused(
        limit in prop_oneof![1u64..20, 1u64..300],
        window in prop_oneof![Just(SEC), Just(SEC / 5), Just(3 * SEC)],
        phase in 0..SEC / 5,
        gaps in prop::collection::vec((prop_oneof![3 => Just(0u64), 3 => 0..5 * MS, 1 => 0..SEC], 0..=50 * MS), 1..700),
        extremes in prop::bool::ANY,
    ) {
        for (strategy, kinds) in
            [(Strategy::Rolling, &[0u8, 1, 2][..]), (Strategy::FixedWindow, &[0]), (Strategy::TokenBucket, &[2])]
        {
            let (engine, clock) = engine(Settings::default());
            let q = with(strategy, requests(limit, window));
            let fixed = strategy == Strategy::FixedWindow;
            let q = QuotaConfig { phase_ns: fixed.then_some((window - phase) as i64), ..q };
            serve(&engine, vec![provider("a", vec![q])]);
            let mut arrivals = Vec::new();
            for (gap, delay) in &gaps {
                clock.advance_ns(*gap);
                let routed = acquire(&engine);
                let wait = routed.best.unwrap().retry_after_ns;
                if let Some(lease) = routed.lease {
                    // Either at once or as late as can be.
                    let delay = if extremes { delay % 2 * 50 * MS } else { *delay };
                    arrivals.push(clock.monotonic_ns() + delay);
                    engine.complete(lease, &report(Outcome::Success)).unwrap();
                } else if delay % 3 == 0 {
                    clock.advance_ns(wait);
                }
            }
            for kind in kinds {
                let refused = refusals(*kind, arrivals.clone(), limit, window, phase);
                assert_eq!(refused, 0, "{strategy:?}, counted in way {kind}, {} sent", arrivals.len());
            }
        }
    }
}

/// Weights whose normalised sum is above 1 by rounding.
#[test]
fn a_perfect_score_is_one() {
    let weights = grate::config::Weights {
        quota: 0.7003192505173595,
        health: 0.0,
        priority: 0.0,
        latency: 0.0002475486564555586,
    };
    for weights in [weights, grate::config::Weights { health: f64::MIN_POSITIVE, ..weights }] {
        let (engine, _) = engine(Settings { weights, ..Settings::default() });
        serve(&engine, vec![provider("a", vec![])]);
        let total = engine.select("api", &one(), None).unwrap().best.unwrap().score.total;
        assert!(total <= 1.0, "{total:?}");
    }
}

/// Section 5 of the design: the example that must work as documented.
#[test]
fn the_documented_example() {
    let (engine, clock) = engine(Settings::default());
    let mut primary = provider("primary", vec![requests(2, MINUTE)]);
    primary.priority = 10;
    let mut backup = provider("backup", vec![requests(100, MINUTE)]);
    backup.priority = 5;
    serve(&engine, vec![primary, backup]);
    for _ in 0..3 {
        clock.advance_ns(SEC);
        let mut told = report(Outcome::RateLimited);
        told.latency_ns = Some(50 * MS);
        engine.observe("primary", &told).unwrap();
    }
    let chosen = |engine: &Engine| {
        let best = engine.select("api", &one(), None).unwrap().best.unwrap();
        assert_eq!(best.held_by, None);
        engine.provider_name(best.provider).to_str().unwrap().to_owned()
    };
    assert_eq!(chosen(&engine), "backup");
    clock.advance_ns(60 * SEC);
    assert_eq!(chosen(&engine), "primary");
}

#[test]
fn ties_go_to_the_order_of_the_list() {
    let (engine, _) = engine(Settings::default());
    for order in [["x", "y", "z"], ["z", "x", "y"], ["y", "z", "x"]] {
        serve(&engine, order.iter().map(|name| provider(name, vec![requests(10, SEC)])).collect());
        let best = engine.select("api", &one(), None).unwrap().best.unwrap();
        assert_eq!(engine.provider_name(best.provider).to_str().unwrap(), order[0]);
    }
}

/// A spent provider is never returned, also for a request that does not say what it will use.
#[test]
fn a_spent_quota_holds_a_request_of_unknown_size() {
    for dimension in [Dimension::Tokens, Dimension::OutputTokens, Dimension::CostMicroUsd, Dimension::Bytes] {
        for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
            let (engine, _) = engine(Settings::default());
            serve(&engine, vec![provider("a", vec![with(strategy, quota(dimension, 100, MINUTE))])]);
            let mut told = report(Outcome::Success);
            told.usage = told.usage.with(Dimension::Tokens, Some(100));
            told.usage = told.usage.with(Dimension::OutputTokens, Some(100));
            told.usage = told.usage.with(Dimension::CostMicroUsd, Some(100));
            told.usage = told.usage.with(Dimension::Bytes, Some(100));
            engine.observe("a", &told).unwrap();
            let routed = engine.select("api", &one(), None).unwrap();
            assert!(!routed.available(), "{dimension:?} {strategy:?}");
            assert!(matches!(routed.best.unwrap().held_by, Some(HeldBy::Quota { .. })));
        }
    }
}

/// The share of headroom stays free of every quota; a request that needs more than is ever there never waits.
#[test]
fn headroom_and_too_large_requests() {
    let (engine, _) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 10, MINUTE), concurrency(10)])]);
    let batch = Estimate { headroom: 0.3, ..tokens(1) };
    let granted = (0..20).filter(|_| engine.acquire("api", &batch, None).unwrap().available()).count();
    assert_eq!(granted, 7);
    let granted = (0..20).filter(|_| engine.acquire("api", &tokens(1), None).unwrap().available()).count();
    assert_eq!(granted, 3);
    let routed = engine.select("api", &tokens(11), None).unwrap();
    assert_eq!(routed.best.unwrap().retry_after_ns, u64::MAX);
}

/// What has expired is told by the first reading of the metrics as well as by the second.
#[test]
fn metrics_tell_of_expired_leases_at_once() {
    let (engine, clock) = engine(Settings { lease_ttl_ns: SEC, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![concurrency(1)])]);
    assert!(acquire(&engine).available());
    clock.advance_ns(2 * SEC);
    let first = engine.prometheus();
    assert_eq!(first, engine.prometheus());

    assert!(acquire(&engine).available());
    clock.advance_ns(2 * SEC);
    let counters = engine.metrics().counters;
    assert_eq!((counters.leases_in_flight, counters.expired_leases), (0, 2));
}

/// A slot of a pool comes back when its lease expires, also if nobody asks for the provider that held it.
#[test]
fn expired_leases_free_their_pool() {
    for removed in [false, true] {
        let (engine, clock) = engine(Settings { lease_ttl_ns: SEC, ..Settings::default() });
        let slot = || vec![pooled("account", concurrency(1))];
        serve(&engine, vec![provider("a", slot())]);
        assert!(acquire(&engine).available());
        redefine(&engine, provider("b", slot()));
        engine.apply(Change { capabilities: vec![capability("api", &["b"])], ..Change::default() }).unwrap();
        if removed {
            engine.remove_provider("a").unwrap();
        }
        assert!(!acquire(&engine).available());
        clock.advance_ns(SEC);
        assert!(acquire(&engine).available(), "the slot is lost; removed: {removed}");
    }
}

/// A pool's slots are held by leases of any of its providers: the wait tells of the oldest of them.
#[test]
fn the_wait_for_a_pooled_slot_knows_who_holds_it() {
    let (engine, clock) = engine(Settings { lease_ttl_ns: 10 * SEC, ..Settings::default() });
    let slot = || vec![pooled("account", concurrency(1))];
    serve(&engine, vec![provider("a", slot())]);
    assert!(acquire(&engine).available());
    redefine(&engine, provider("b", slot()));
    engine.apply(Change { capabilities: vec![capability("api", &["b"])], ..Change::default() }).unwrap();
    clock.advance_ns(SEC);
    let best = acquire(&engine).best.unwrap();
    assert_eq!(best.held_by, Some(HeldBy::Concurrency));
    assert_eq!(best.retry_after_ns, 9 * SEC, "nothing is known but that the lease of 'a' expires then");
}

/// A shorter time to live applies to the leases that are granted from then on, whatever is out.
#[test]
fn each_lease_expires_at_its_own_time() {
    let (engine, clock) = engine(Settings { lease_ttl_ns: 600 * SEC, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![concurrency(2)])]);
    let long = acquire(&engine).lease.unwrap();
    let shorter = Settings { lease_ttl_ns: SEC, ..Settings::default() };
    engine.apply(Change { settings: Some(shorter), ..Change::default() }).unwrap();
    let short = acquire(&engine).lease.unwrap();
    clock.advance_ns(SEC);
    assert!(acquire(&engine).available(), "the second lease has expired");
    assert!(engine.cancel(short).is_err());
    assert!(engine.cancel(long).is_ok());
}

/// One window may hold no more than the limit at the provider either, however long requests are on the wire.
#[test]
fn units_of_a_lease_leave_late_by_the_skew() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(1, SEC)])]);
    let lease = acquire(&engine).lease.unwrap();
    engine.complete(lease, &report(Outcome::Success)).unwrap();
    let best = acquire(&engine).best.unwrap();
    assert_eq!(best.retry_after_ns, SEC + 50 * MS);
    clock.advance_ns(SEC + 50 * MS - 1);
    assert!(!acquire(&engine).available());
    clock.advance_ns(1);
    assert!(acquire(&engine).available());
    // Observed usage has arrived already.
    clock.advance_ns(MINUTE);
    engine.observe("a", &report(Outcome::Success)).unwrap();
    assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, SEC);
}
