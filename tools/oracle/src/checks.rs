//! What must hold of every answer.

use grate::capi::*;

use crate::api::{Decision, QuotaConfig, State, new, text};
use crate::op::{Ask, CAPABILITIES, PROVIDERS};
use crate::world::{Counts, Key, Lease, Link, World, index};

/// Dimensions have numbers up to this one.
const LAST_DIMENSION: i32 = GRATE_DIMENSION_COST_MICRO_USD;

fn in_unit(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

/// Two decisions of one moment: the one that saw all candidates, and another with less room for them.
pub(crate) fn check_same(all: &Decision, other: &Decision) {
    let facts = |d: &grate_decision| {
        let scores =
            [d.score, d.quota_score, d.health_score, d.priority_score, d.latency_score, d.seconds_to_exhaustion];
        let held = (d.held_by, d.retry_after_ns, d.held_dimension, d.held_window_ns);
        (d.provider, d.index, held, scores.map(f64::to_bits), d.candidates_total)
    };
    assert_eq!(all.status, other.status);
    assert_eq!(facts(&all.best), facts(&other.best), "the same call at the same time");
    let row = |c: &grate_candidate| (c.provider, c.held_by, c.retry_after_ns, c.score.to_bits(), c.index);
    assert!(
        all.candidates.iter().zip(&other.candidates).all(|(a, b)| row(a) == row(b)),
        "the best candidates come first"
    );
}

impl World {
    /// Checks a look at all candidates.
    pub(crate) fn check_decision(&mut self, c: usize, ask: &Ask, decision: &Decision) {
        let list = self.capabilities[c].clone().expect("it is known");
        let (best, all) = (&decision.best, &decision.candidates);
        assert_eq!((best.candidates_total, all.len()), (list.len() as u64, list.len()));
        assert_eq!(decision.status == GRATE_OK, all.first().is_some_and(|c| c.held_by == GRATE_HELD_BY_NOTHING));
        let Some(first) = all.first() else {
            assert!(best.provider.is_null() && best.retry_after_ns == GRATE_NEVER);
            return;
        };
        assert_eq!((best.provider, best.held_by, best.score), (first.provider, first.held_by, first.score));
        assert_eq!((best.retry_after_ns, best.index), (first.retry_after_ns, first.index));
        assert!(all.windows(2).all(|pair| ordered(&pair[0], &pair[1])), "candidates are not in order");
        let states = self.states();
        let highest = list.iter().map(|(i, own)| self.priority(*i, *own)).max().unwrap_or(0);
        for candidate in all {
            let i = index(candidate.provider);
            let (listed, own) = list[candidate.index as usize];
            assert_eq!(listed, i);
            let state = states[i].as_ref().expect("it is registered");
            self.check_score(candidate, state, f64::from(self.priority(i, own)), f64::from(highest), i);
            self.check_held(candidate, state, i, ask);
        }
    }

    /// A provider's priority where a capability says `own`.
    fn priority(&self, i: usize, own: u32) -> u32 {
        match own {
            0 => self.members[i].priority,
            GRATE_PRIORITY_ZERO => 0,
            own => own,
        }
    }

    fn check_score(&self, c: &grate_candidate, state: &State, priority: f64, highest: f64, i: usize) {
        let components = [c.quota_score, c.health_score, c.priority_score, c.latency_score];
        assert!(components.into_iter().chain([c.score]).all(in_unit), "{components:?}");
        let (sum, weights) = (self.settings.weights.iter().sum::<f64>(), self.settings.weights);
        let score: f64 = components.iter().zip(weights).map(|(component, weight)| component * weight / sum).sum();
        assert!((score - c.score).abs() < 1e-9, "the score is {}, its parts make {score}", c.score);
        assert_eq!(c.health_score, state.provider.health);
        // Headers may close a quota that nobody configured, which is not shown.
        let hidden = self.members[i].links.iter().any(|link| link.implicit && self.quotas[&link.key].is_lost());
        let tightest = state.quotas.iter().map(|q| q.predicted_share).fold(1.0, f64::min);
        let off = c.quota_score - (4.0 * tightest).min(1.0);
        assert!(off.abs() < 1e-9 || (hidden && off < 0.0), "{} of {tightest}", c.quota_score);
        let first = state.quotas.iter().map(|q| q.seconds_to_exhaustion).fold(f64::INFINITY, f64::min);
        assert!(c.seconds_to_exhaustion == first || (hidden && c.seconds_to_exhaustion < first));
        assert!(c.seconds_to_exhaustion >= 0.0);
        if highest > 0.0 {
            let expected = (priority / highest * self.members[i].weight).min(1.0);
            assert!((c.priority_score - expected).abs() < 1e-9, "{} and not {expected}", c.priority_score);
        }
    }

    fn check_held(&self, c: &grate_candidate, state: &State, i: usize, ask: &Ask) {
        assert_eq!(c.held_by != GRATE_HELD_BY_NOTHING, c.retry_after_ns > 0);
        let of_quota = c.held_by == GRATE_HELD_BY_QUOTA;
        assert_eq!(of_quota || c.held_by == GRATE_HELD_BY_CONCURRENCY, c.held_dimension != 0);
        assert_eq!(of_quota, c.held_window_ns != 0);
        match self.can_take(state, i, ask) {
            Some(true) => {
                assert_eq!(c.held_by, GRATE_HELD_BY_NOTHING, "there is room on {:?}", PROVIDERS[i]);
            }
            Some(false) => assert_ne!(c.held_by, GRATE_HELD_BY_NOTHING, "there is no room on {:?}", PROVIDERS[i]),
            None => {}
        }
    }

    /// Whether a provider can take a request: surely, surely not, or unknown.
    fn can_take(&self, state: &State, i: usize, ask: &Ask) -> Option<bool> {
        let p = &state.provider;
        if ask.exclude.contains(&i) || p.cooldown_remaining_ns > 0 || p.health < self.settings.min_health {
            return Some(false);
        }
        let tries = |lease: &&Lease| lease.provider == i && lease.probe == Some(p.cooldowns_triggered);
        let probes = self.leases.iter().filter(tries).count();
        let circuit = match p.circuit {
            GRATE_CIRCUIT_CLOSED => Some(true),
            GRATE_CIRCUIT_HALF_OPEN => Some(probes == 0),
            // Two, four or eight.
            _ if probes >= 8 => Some(false),
            _ => (probes < 2).then_some(true),
        };
        // A limit on concurrency may have been learned that nobody configured.
        let links = &self.members[i].links;
        let known = state.quotas.iter().all(|row| links.iter().any(|link| is_row(row, link)));
        all(links.iter().map(|link| self.fits(link, ask)).chain([circuit, known.then_some(true)]))
    }

    fn fits(&self, link: &Link, ask: &Ask) -> Option<bool> {
        let quota = &self.quotas[&link.key];
        // What was learned may be in doubt, and then tried, or ask for a pace.
        if quota.is_learned && quota.rule.strategy == GRATE_STRATEGY_ROLLING {
            return None;
        }
        let (units, charged) = self.needs(ask, link.key.1);
        let fits = if link.key.1 == GRATE_DIMENSION_CONCURRENCY {
            let held = self.held(&link.key);
            quota.fit(held, Some(held), units, ask.headroom)
        } else {
            quota.fits(self.now, units, ask.headroom)
        };
        // Of unknown units it is only known whether a single one fits.
        fits.filter(|fits| !fits || charged.is_some())
    }

    /// Slots that leases hold of a concurrency quota: those of every provider that has it, or had it.
    fn held(&self, key: &Key) -> u128 {
        let has = |i: usize| self.members[i].links.iter().any(|link| link.key == *key);
        self.leases.iter().filter(|lease| has(lease.provider) || lease.left.contains(key)).count() as u128
    }

    /// A lease was granted, and is not yet in the log: there must have been room.
    pub(crate) fn check_room(&self, i: usize, ask: &Ask) {
        assert!(self.members[i].registered && !ask.exclude.contains(&i));
        for link in &self.members[i].links {
            assert_ne!(self.fits(link, ask), Some(false), "granted beyond {:?}", link.key);
        }
    }

    /// The states of all providers. Takes over which limits the library says are in force: learned and told ones a log cannot
    /// know.
    fn states(&mut self) -> [Option<State>; PROVIDERS.len()] {
        let states = PROVIDERS.map(|name| self.engine.state(name));
        for (member, state) in self.members.iter().zip(&states) {
            let Some(state) = state else { continue };
            for link in &member.links {
                let quota = self.quotas.get_mut(&link.key).expect("it is defined");
                match state.quotas.iter().find(|row| is_row(row, link)) {
                    Some(row) => quota.in_force(row.effective_limit, row.margin, self.now),
                    None => quota.in_force(quota.rule.limit, 0, self.now),
                }
                let source = state.quotas.iter().find(|row| is_row(row, link)).map(|row| row.limit_source);
                quota.is_learned = source == Some(GRATE_LIMIT_LEARNED);
            }
        }
        states
    }

    /// Checks the states of all providers, and the counters.
    pub(crate) fn check_states(&mut self) {
        let mut sum = [0; 8];
        for (i, state) in self.states().into_iter().enumerate() {
            let (member, name) = (&self.members[i], PROVIDERS[i]);
            assert_eq!(state.is_some(), member.registered);
            let in_flight = self.leases.iter().filter(|lease| lease.provider == i).count() as u64;
            let counts = flat(&member.counts, in_flight);
            sum = std::array::from_fn(|k| sum[k] + counts[k]);
            let Some(state) = state else { continue };
            let p = &state.provider;
            let counted = Counts {
                selects: p.selects,
                acquires: p.acquires,
                completions: p.completions,
                cancellations: p.cancellations,
                expired_leases: p.expired_leases,
                observations: p.observations,
                rate_limited_responses: p.rate_limited_responses,
            };
            assert_eq!(flat(&counted, p.leases_in_flight), counts, "counters of {name:?}");
            assert!(in_unit(p.health));
            assert_eq!(p.cooldown_remaining_ns > 0, p.circuit == GRATE_CIRCUIT_OPEN);
            let shown = member.links.iter().filter(|link| !link.implicit).count();
            assert!(state.quotas.len() >= shown, "a quota is not shown");
            for row in &state.quotas {
                self.check_row(i, row);
            }
        }
        let m = self.engine.metrics();
        let counted = Counts {
            selects: m.selects,
            acquires: m.acquires,
            completions: m.completions,
            cancellations: m.cancellations,
            expired_leases: m.expired_leases,
            observations: m.observations,
            rate_limited_responses: m.rate_limited_responses,
        };
        assert_eq!(flat(&counted, m.leases_in_flight), sum, "counters of the engine");
        assert_eq!((m.none_available, m.capped_waits), (self.none_available, self.capped_waits));
        assert_eq!(m.acquires, m.completions + m.cancellations + m.expired_leases + m.leases_in_flight);
    }

    fn check_row(&self, i: usize, row: &grate_quota_state) {
        let link = self.members[i].links.iter().find(|link| is_row(row, link));
        assert!(in_unit(row.predicted_share) && row.burn_per_sec >= 0.0 && row.seconds_to_exhaustion >= 0.0);
        // What nobody configured is concurrency that was learned of.
        let Some(link) = link else {
            assert_eq!((row.dimension, row.limit), (GRATE_DIMENSION_CONCURRENCY, u64::MAX));
            return;
        };
        let quota = &self.quotas[&link.key];
        assert_eq!((row.limit, row.strategy), (quota.rule.limit, quota.rule.strategy));
        // Only headers raise a limit.
        let raised = row.effective_limit > row.limit;
        assert!(!raised || quota.is_lost(), "a limit of {} above {}", row.effective_limit, row.limit);
        let free = quota.capacity().saturating_sub(row.margin).saturating_sub(row.used);
        assert!(row.remaining == free || (quota.is_lost() && row.remaining < free), "{} of {free} left", row.remaining);
        if link.key.1 == GRATE_DIMENSION_CONCURRENCY {
            assert_eq!(u128::from(row.used), self.held(&link.key), "slots of {:?}", link.key);
        } else {
            quota.check_used(self.now, row.used);
        }
    }

    /// Checks the states, and that every other inspection says the same.
    pub(crate) fn inspect(&mut self) {
        self.check_states();
        for (i, name) in PROVIDERS.iter().enumerate().filter(|(i, _)| self.members[*i].registered) {
            let state = self.engine.state(name).expect("it is registered");
            assert_eq!(self.engine.health(name), state.provider.health);
            assert_eq!(self.engine.in_cooldown(name), state.provider.cooldown_remaining_ns > 0);
            for dimension in 1..=LAST_DIMENSION {
                let rows = state.quotas.iter().filter(|row| row.dimension == dimension);
                let least = rows.map(|row| row.remaining).min().unwrap_or(u64::MAX);
                assert_eq!(self.engine.remaining(name, dimension), least, "dimension {dimension} of provider {i}");
            }
        }
        self.engine.check_small_buffer();
        let metrics = self.engine.prometheus();
        let registered = (0..PROVIDERS.len()).filter(|i| self.members[*i].registered);
        registered.for_each(|i| assert!(metrics.contains(&format!("provider=\"{}\"", PROVIDERS[i].to_str().unwrap()))));
    }

    /// Calls that must be refused; nothing changes.
    pub(crate) fn check_refused(&mut self, which: u8) {
        let (engine, before) = (&self.engine, self.engine.prometheus());
        let quota = |burst: u64, window_ns: u64| QuotaConfig {
            dimension: GRATE_DIMENSION_REQUESTS,
            limit: 1,
            window_ns,
            strategy: GRATE_STRATEGY_ROLLING,
            burst,
            phase_ns: 0,
            pool: None,
        };
        let upsert =
            |weight: f64, cooldown: f64, quotas: &[_]| engine.upsert_provider(c"a", 1, weight, cooldown, quotas);
        let ask = |headroom: f64| {
            let request = grate_request { headroom, ..new(grate_request_init) };
            engine.decide(which < 128, CAPABILITIES[0], &request, &[], 0).status
        };
        let expected = match which % 12 {
            0 => (upsert(-1.0, 0.0, &[]), GRATE_ERR_INVALID_CONFIG),
            1 => (upsert(f64::NAN, 0.0, &[]), GRATE_ERR_INVALID_CONFIG),
            2 => (upsert(0.0, f64::INFINITY, &[]), GRATE_ERR_INVALID_CONFIG),
            3 => (upsert(0.0, 0.0, &[quota(1, 1_000_000)]), GRATE_ERR_INVALID_CONFIG),
            4 => (upsert(0.0, 0.0, &[quota(0, 1)]), GRATE_ERR_INVALID_CONFIG),
            5 => (upsert(0.0, 0.0, &[quota(0, 1_000_000), quota(0, 1_000_000)]), GRATE_ERR_INVALID_CONFIG),
            6 => (engine.upsert_capability(c"all", &[(c"nobody", 0)]), GRATE_ERR_UNKNOWN_PROVIDER),
            7 => (engine.remove_provider(c"nobody"), GRATE_ERR_UNKNOWN_PROVIDER),
            8 => (engine.remove_capability(c"\n"), GRATE_ERR_INVALID_NAME),
            9 => (engine.configure(b"{\"replace\": true, \"providers\": [{\"name\": \"\"}]}"), GRATE_ERR_INVALID_NAME),
            10 if self.capabilities[0].is_some() => (ask(1.0), GRATE_ERR_INVALID_ARGUMENT),
            11 if self.capabilities[0].is_some() => (ask(f64::NAN), GRATE_ERR_INVALID_ARGUMENT),
            _ => (engine.configure(b"{\"replace\": true"), GRATE_ERR_INVALID_JSON),
        };
        assert_eq!(expected.0, expected.1);
        assert_eq!(before, self.engine.prometheus(), "a call that was refused changed something");
    }
}

/// Whether a row of a provider's state is the quota of a link.
fn is_row(row: &grate_quota_state, link: &Link) -> bool {
    let pool = link.key.3.map(|pool| pool.to_str().expect("ours are UTF-8"));
    (row.dimension, row.window_ns, text(row.pool)) == (link.key.1, link.key.2, pool)
}

/// Surely no if one is, surely yes if all are.
fn all(answers: impl Iterator<Item = Option<bool>> + Clone) -> Option<bool> {
    if answers.clone().any(|answer| answer == Some(false)) {
        return Some(false);
    }
    answers.clone().all(|answer| answer == Some(true)).then_some(true)
}

/// Those that can be chosen come first, best first, then those that are held, soonest free first; ties as listed.
fn ordered(a: &grate_candidate, b: &grate_candidate) -> bool {
    let (a_held, b_held) = (a.held_by != GRATE_HELD_BY_NOTHING, b.held_by != GRATE_HELD_BY_NOTHING);
    let listed = a.index < b.index;
    match (a_held, b_held) {
        (false, true) => true,
        (true, false) => false,
        (false, false) => a.score > b.score || (a.score == b.score && listed),
        (true, true) => a.retry_after_ns < b.retry_after_ns || (a.retry_after_ns == b.retry_after_ns && listed),
    }
}

fn flat(c: &Counts, in_flight: u64) -> [u64; 8] {
    [
        c.selects,
        c.acquires,
        c.completions,
        c.cancellations,
        c.expired_leases,
        c.observations,
        c.rate_limited_responses,
        in_flight,
    ]
}
