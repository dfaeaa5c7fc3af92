//! An engine and its model side by side: each call is made of the one and noted in the other.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

use grate::capi::*;

use crate::api::{Decision, Engine, QuotaConfig, new, text};
use crate::input::Input;
use crate::op::{Ask, CAPABILITIES, Definition, Form, Op, PROVIDERS, SEC, Time};
use crate::quota::{Quota, Rule};
use crate::settle::{given, used};

/// No sequence goes beyond: the library's time ends after 146 years.
const LAST_NS: u64 = 100 * 366 * 86_400 * SEC;
/// So many calls are enough: what a longer sequence finds, a shorter one does too.
const MOST_OPS: usize = 300;

/// Owner (none is a pool), dimension, window, pool: what makes two quotas the same counter.
pub(crate) type Key = (Option<usize>, i32, u64, Option<&'static CStr>);

/// A quota of a provider.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) key: Key,
    /// Nobody configured it: the library counts it to learn from.
    pub(crate) implicit: bool,
}

/// What a provider has been through, as the metrics count it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) selects: u64,
    pub(crate) acquires: u64,
    pub(crate) completions: u64,
    pub(crate) cancellations: u64,
    pub(crate) expired_leases: u64,
    pub(crate) observations: u64,
    pub(crate) rate_limited_responses: u64,
}

#[derive(Default)]
pub(crate) struct Member {
    pub(crate) registered: bool,
    pub(crate) links: Vec<Link>,
    pub(crate) priority: u32,
    pub(crate) weight: f64,
    pub(crate) counts: Counts,
}

pub(crate) struct Lease {
    pub(crate) id: u64,
    pub(crate) provider: usize,
    expires: u64,
    /// Granted while the provider was half-open or ramping, after so many cooldowns.
    pub(crate) probe: Option<u64>,
    /// What was reserved, by dimension; `None` is unknown.
    pub(crate) reserved: [Option<u64>; 8],
    pub(crate) charged: Vec<Link>,
    /// Pools of slots that its provider left while it was out.
    pub(crate) left: Vec<Key>,
}

/// Settings that the model needs to know.
pub(crate) struct Settings {
    pub(crate) weights: [f64; 4],
    pub(crate) min_health: f64,
    pub(crate) skew_ns: u64,
    lease_ttl_ns: u64,
    pub(crate) max_retry_after_ns: u64,
    pub(crate) unix_ms: u64,
    /// Whether states are read only now and then, so that providers see time pass when they are asked for something. Then no
    /// limit is taught and the clock does not go back, because the model would have to look what became of it.
    pub(crate) quiet: bool,
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) settings: Settings,
    /// What the clock shows, and the latest that it has shown: the library's time does not go back.
    pub(crate) clock: u64,
    pub(crate) now: u64,
    pub(crate) quotas: BTreeMap<Key, Quota>,
    pub(crate) members: [Member; PROVIDERS.len()],
    pub(crate) capabilities: [Option<Vec<(usize, u32)>>; CAPABILITIES.len()],
    pub(crate) leases: Vec<Lease>,
    /// Leases that were settled, have expired, or were another engine's.
    pub(crate) dead: Vec<u64>,
    /// Whether the library has seen what requests use: then it estimates what they do not say.
    pub(crate) learned: bool,
    pub(crate) none_available: u64,
    pub(crate) capped_waits: u64,
}

/// Plays bytes as a sequence of calls. With TRACE in the environment, tells what it does.
pub fn calls(bytes: &[u8]) {
    let trace = std::env::var_os("TRACE").is_some();
    let mut from = Input::new(bytes);
    let mut world = World::new(&mut from, Vec::new());
    for _ in 0..MOST_OPS {
        if from.is_empty() {
            break;
        }
        let op = Op::read(&mut from);
        if trace {
            eprintln!("{:>15} ns  {op:?}", world.now);
        }
        match op {
            Op::StartAgain => {
                let leases = world.leases.iter().map(|lease| lease.id);
                let dead = world.dead.iter().copied().chain(leases).collect();
                world = World::new(&mut from, dead);
            }
            op => world.run(op),
        }
    }
    world.finish();
}

impl World {
    fn new(from: &mut Input<'_>, dead: Vec<u64>) -> Self {
        let mut config = new(grate_engine_config_init);
        config.skew_ns = from.pick(&[0, GRATE_ZERO, GRATE_ZERO, 1, 5 * SEC, 3600 * SEC]);
        config.lease_ttl_ns = from.pick(&[0, 2 * SEC, 600 * SEC, 1]);
        config.max_retry_after_ns = from.pick(&[0, SEC]);
        config.min_health_for_selection = from.pick(&[0.0, 0.9, f64::MIN_POSITIVE]);
        config.estimate_quantile = from.pick(&[0.0, 0.9]);
        let weights = from.pick(&[[0.0; 4], [1.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0], [f64::MAX; 4]]);
        [config.weight_quota, config.weight_health, config.weight_priority, config.weight_latency] = weights;
        let or = |value: u64, default: u64| given(value).unwrap_or(default);
        let settings = Settings {
            weights: if weights == [0.0; 4] {
                [0.40, 0.35, 0.20, 0.05]
            } else {
                weights.map(|w| w / weights[3].max(1.0))
            },
            min_health: if config.min_health_for_selection == 0.0 { 0.2 } else { config.min_health_for_selection },
            skew_ns: or(config.skew_ns, SEC / 20),
            lease_ttl_ns: or(config.lease_ttl_ns, 600 * SEC),
            max_retry_after_ns: or(config.max_retry_after_ns, 86_400 * SEC),
            unix_ms: from.pick(&[1_767_225_600_000, 0]),
            quiet: from.once_in(4),
        };
        let mut world = Self {
            engine: Engine::new(config, settings.unix_ms),
            settings,
            clock: 0,
            now: 0,
            quotas: BTreeMap::new(),
            members: Default::default(),
            capabilities: Default::default(),
            leases: Vec::new(),
            dead,
            learned: false,
            none_available: 0,
            capped_waits: 0,
        };
        for i in 0..3 {
            world.define(i, Definition::read(from));
        }
        world.set_capability(0, &[(0, 0), (1, 0), (2, 0)]);
        world.set_capability(1, &[(2, 7), (1, GRATE_PRIORITY_ZERO)]);
        world
    }

    fn run(&mut self, op: Op) {
        self.expire();
        match op {
            Op::Advance(Time::By(ns)) => self.set_clock(self.clock.saturating_add(ns)),
            Op::Advance(Time::Edge { which, offset }) => {
                let edge = self.edge(usize::from(which)).saturating_add_signed(i64::from(offset));
                self.set_clock(edge.max(self.clock));
            }
            Op::SetBack(ns) if !self.settings.quiet => {
                self.set_clock(self.clock.saturating_sub(ns));
                self.quotas.values_mut().for_each(|quota| quota.calendar_moves(self.now));
            }
            Op::Decide { acquire, capability, ask } => {
                self.decide(acquire, capability, &ask);
            }
            Op::WaitOut { capability, ask } => self.wait_out(capability, &ask),
            Op::Complete(handle, answer) => self.complete(&handle, answer),
            Op::Cancel(handle) => self.cancel(&handle),
            Op::Observe(i, answer) => self.observe(i, answer),
            Op::Define(i, definition) => self.define(i, definition),
            Op::RemoveProvider(i) => {
                let status = self.engine.remove_provider(PROVIDERS[i]);
                assert_eq!(status == GRATE_OK, self.members[i].registered, "removing gave {status}");
                self.unregister(|other| other == i);
            }
            Op::SetCapability(c, list) => self.set_capability(c, &list),
            Op::RemoveCapability(c) => {
                let status = self.engine.remove_capability(CAPABILITIES[c]);
                assert_eq!(status == GRATE_OK, self.capabilities[c].is_some(), "removing gave {status}");
                self.capabilities[c] = None;
            }
            Op::Refused(which) => self.check_refused(which),
            Op::Inspect => self.inspect(),
            Op::SetBack(_) | Op::StartAgain => {}
        }
        self.expire();
        if !self.settings.quiet {
            self.check_states();
        }
    }

    /// Settles everything; then nothing is held.
    fn finish(&mut self) {
        self.catch_up();
        self.expire();
        for lease in std::mem::take(&mut self.leases) {
            assert_eq!(self.engine.cancel(lease.id), GRATE_OK, "a lease that is out is settled");
            assert_eq!(self.engine.cancel(lease.id), GRATE_ERR_STALE_LEASE, "settled twice");
            self.settle(&lease, None);
        }
        self.check_states();
    }

    fn set_clock(&mut self, ns: u64) {
        self.clock = ns.min(LAST_NS);
        self.now = self.now.max(self.clock);
        self.engine.set_clock(self.clock);
    }

    /// Ends a step back of the clock: a provider that did not see the later time goes by the earlier one, and the model has
    /// one time for all.
    pub(crate) fn catch_up(&mut self) {
        self.set_clock(self.now);
    }

    /// A moment at which something changes.
    fn edge(&self, which: usize) -> u64 {
        let leases = self.leases.iter().map(|lease| lease.expires);
        let edges: Vec<u64> = self.quotas.values().flat_map(|q| q.edges(self.now)).chain(leases).collect();
        if edges.is_empty() { self.now } else { edges[which % edges.len()] }
    }

    /// The library ends what has expired in whatever call comes next.
    pub(crate) fn expire(&mut self) {
        for i in (0..self.leases.len()).rev().filter(|i| self.leases[*i].expires <= self.now).collect::<Vec<_>>() {
            let lease = self.leases.remove(i);
            self.members[lease.provider].counts.expired_leases += 1;
            self.dead.push(lease.id);
        }
    }

    fn define(&mut self, i: usize, definition: Definition) {
        self.catch_up();
        let Definition { form, priority, weight, cooldown_seconds, quotas } = definition;
        let status = match form {
            Form::Struct => self.engine.upsert_provider(PROVIDERS[i], priority, weight, cooldown_seconds, &quotas),
            _ => self
                .engine
                .configure(crate::json::document(i, form, priority, weight, cooldown_seconds, &quotas).as_bytes()),
        };
        assert_eq!(status, GRATE_OK, "{quotas:?}");
        if form == Form::Replace {
            self.unregister(|other| other != i);
            self.capabilities = [Some(vec![(i, 0)]), None, None];
        }
        let member = &mut self.members[i];
        (member.registered, member.priority) = (true, priority);
        member.weight = if weight == 0.0 { 1.0 } else { weight };
        let pools = |key: &Key| key.1 == GRATE_DIMENSION_CONCURRENCY && key.3.is_some();
        let left: Vec<_> = self.members[i].links.drain(..).map(|link| link.key).filter(pools).collect();
        self.leases.iter_mut().filter(|lease| lease.provider == i).for_each(|lease| lease.left.extend(&left));
        let requests = quotas.iter().any(|q| q.dimension == GRATE_DIMENSION_REQUESTS);
        let implicit = QuotaConfig {
            dimension: GRATE_DIMENSION_REQUESTS,
            limit: u64::MAX,
            window_ns: 60 * SEC,
            strategy: 0,
            burst: 0,
            phase_ns: 0,
            pool: None,
        };
        let all = quotas.iter().map(|q| (q, false)).chain((!requests).then_some((&implicit, true)));
        for (config, implicit) in all {
            let owner = config.pool.is_none().then_some(i);
            let key = (owner, config.dimension, config.window_ns, config.pool);
            let strategy = match config.strategy {
                0 if config.dimension == GRATE_DIMENSION_CONCURRENCY => GRATE_STRATEGY_CONCURRENCY,
                0 => GRATE_STRATEGY_ROLLING,
                other => other,
            };
            let rule = Rule { strategy, limit: config.limit, burst: config.burst, phase_ns: config.phase_ns };
            let (now, unix_ns) = (self.now, self.settings.unix_ms * 1_000_000);
            let quota = self.quotas.entry(key).or_insert_with(|| Quota::new(config.window_ns, rule, now, unix_ns));
            quota.redefine(rule, now);
            self.members[i].links.push(Link { key, implicit });
        }
    }

    fn unregister(&mut self, goes: impl Fn(usize) -> bool) {
        for i in (0..PROVIDERS.len()).filter(|i| goes(*i)) {
            self.members[i].registered = false;
        }
        for list in self.capabilities.iter_mut().flatten() {
            list.retain(|(i, _)| !goes(*i));
        }
    }

    fn set_capability(&mut self, c: usize, list: &[(usize, u32)]) {
        let named: Vec<_> = list.iter().map(|(i, priority)| (PROVIDERS[*i], *priority)).collect();
        let status = self.engine.upsert_capability(CAPABILITIES[c], &named);
        if list.iter().all(|(i, _)| self.members[*i].registered) {
            assert_eq!(status, GRATE_OK);
            self.capabilities[c] = Some(list.to_vec());
        } else {
            assert_eq!(status, GRATE_ERR_UNKNOWN_PROVIDER);
        }
    }

    /// What a request takes of a dimension: so much must there be room for, and so much is charged if that is known.
    pub(crate) fn needs(&self, ask: &Ask, dimension: i32) -> (u64, Option<u64>) {
        if matches!(dimension, GRATE_DIMENSION_REQUESTS | GRATE_DIMENSION_CONCURRENCY) {
            return (1, Some(1));
        }
        let charged = used(&ask.amounts, dimension, |_| if self.learned { None } else { Some(0) });
        let told = used(&ask.amounts, dimension, |_| None).is_some();
        // Of what is not said, one unit must be there.
        let least = used(&ask.amounts, dimension, |_| Some(0)).unwrap_or(0);
        (if told { least } else { least.max(1) }, charged)
    }

    fn exclude(ask: &Ask) -> Vec<CString> {
        let known = ask.exclude.iter().map(|i| PROVIDERS[*i].to_owned());
        known.chain((!ask.exclude.is_empty()).then(|| c"nobody".to_owned())).collect()
    }

    /// A look at all candidates; nothing if the capability is unknown.
    fn look(&mut self, c: usize, ask: &Ask) -> Option<Decision> {
        let decision = self.engine.decide(false, CAPABILITIES[c], &ask.request(), &Self::exclude(ask), PROVIDERS.len());
        if self.capabilities[c].is_none() {
            assert_eq!(decision.status, GRATE_ERR_UNKNOWN_CAPABILITY);
            return None;
        }
        self.count(&decision, false);
        self.check_decision(c, ask, &decision);
        Some(decision)
    }

    fn count(&mut self, decision: &Decision, acquire: bool) {
        if decision.status == GRATE_ERR_NO_PROVIDER_AVAILABLE {
            self.none_available += 1;
            return;
        }
        assert_eq!(decision.status, GRATE_OK);
        let counts = &mut self.members[index(decision.best.provider)].counts;
        if acquire {
            counts.acquires += 1;
        } else {
            counts.selects += 1;
        }
    }

    /// Whether a provider was found.
    fn decide(&mut self, acquire: bool, c: usize, ask: &Ask) -> Option<Decision> {
        let look = !(acquire && self.settings.quiet);
        let looked = if look { Some(self.look(c, ask)?) } else { None };
        let decision = self.engine.decide(acquire, CAPABILITIES[c], &ask.request(), &Self::exclude(ask), ask.room);
        if self.capabilities[c].is_none() {
            assert_eq!(decision.status, GRATE_ERR_UNKNOWN_CAPABILITY);
            return None;
        }
        self.count(&decision, acquire);
        if let Some(looked) = looked {
            crate::checks::check_same(&looked, &decision);
        }
        if acquire && decision.status == GRATE_OK {
            self.grant(&decision, ask);
        } else {
            assert_eq!(decision.best.lease, 0);
        }
        Some(decision)
    }

    /// Notes a lease.
    fn grant(&mut self, decision: &Decision, ask: &Ask) {
        let (i, id) = (index(decision.best.provider), decision.best.lease);
        assert!(id != 0 && self.leases.iter().all(|lease| lease.id != id), "a lease that is out already");
        self.check_room(i, ask);
        let state = self.engine.state(PROVIDERS[i]).expect("it is registered").provider;
        let mut reserved = [Some(0); 8];
        for (dimension, units) in reserved.iter_mut().enumerate() {
            *units = self.needs(ask, dimension as i32).1;
        }
        let charged = self.members[i].links.clone();
        for link in charged.iter().filter(|link| link.key.1 != GRATE_DIMENSION_CONCURRENCY) {
            let quota = self.quotas.get_mut(&link.key).expect("it is defined");
            quota.charge(id, self.now, self.now + self.settings.skew_ns, reserved[link.key.1 as usize]);
        }
        let expires = self.now + self.settings.lease_ttl_ns;
        let probe = (state.circuit != GRATE_CIRCUIT_CLOSED).then_some(state.cooldowns_triggered);
        let left = Vec::new();
        self.leases.push(Lease { id, provider: i, expires, probe, reserved, charged, left });
    }

    /// Uses everything up, then checks that what is told of the wait is exact.
    fn wait_out(&mut self, c: usize, ask: &Ask) {
        self.catch_up();
        let mut tries = 0..60;
        let best = loop {
            let Some(decision) = self.decide(true, c, ask) else { return };
            if decision.status != GRATE_OK || tries.next().is_none() {
                break decision.best;
            }
        };
        let exact = matches!(best.held_by, GRATE_HELD_BY_COOLDOWN | GRATE_HELD_BY_HEALTH | GRATE_HELD_BY_QUOTA);
        let wait = best.retry_after_ns;
        if !exact || wait == GRATE_NEVER || wait > LAST_NS - self.now {
            return;
        }
        let i = index(best.provider);
        // Where headers told something, it may only be news that are waited for; and the wall clock may have stepped. Of a limit
        // that was learned too low, only the next rise is told.
        // What a lease that expires meanwhile has reserved drains from a whole nanosecond on.
        let expires = |link: &Link| {
            let reserved = |lease: &&Lease| lease.charged.iter().any(|charged| charged.key == link.key);
            self.leases.iter().filter(reserved).any(|lease| lease.expires <= self.now + wait)
        };
        let uncertain = |link: &Link| {
            let quota = &self.quotas[&link.key];
            quota.is_unclear(self.now)
                || (quota.is_bucket() && expires(link))
                || quota.fit(0, Some(0), self.needs(ask, link.key.1).0, ask.headroom) != Some(true)
        };
        if self.members[i].links.iter().any(uncertain) {
            return;
        }
        let mut held_after = |ns: u64| {
            self.set_clock(self.clock + ns);
            self.expire();
            let all = self.look(c, ask).expect("it is known").candidates;
            all.iter().find(|candidate| index(candidate.provider) == i).expect("it is listed").held_by
        };
        assert_ne!(held_after(wait - 1), GRATE_HELD_BY_NOTHING, "free a nanosecond before it was told to be");
        let then = held_after(1);
        let free = [GRATE_HELD_BY_NOTHING, GRATE_HELD_BY_CONCURRENCY, GRATE_HELD_BY_PROBE].contains(&then);
        assert!(free, "held by {then} when it was told to be free of {}", best.held_by);
    }
}

/// Which provider a name is.
pub(crate) fn index(name: *const std::ffi::c_char) -> usize {
    let name = text(name).expect("there is a provider");
    PROVIDERS.iter().position(|p| p.to_str() == Ok(name)).expect("it is one of ours")
}
