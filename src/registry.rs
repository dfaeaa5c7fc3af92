//! The configuration in force: names, capabilities, and which record is whose.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, CString};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use crate::clock::Now;
use crate::config::{
    CapabilityConfig, Change, Dimension, NS_PER_SEC, ProviderConfig, QuotaConfig, QuotaIdentity, Settings, Strategy,
    validate_name,
};
use crate::error::Error;
use crate::estimate::Estimator;
use crate::provider::{Provider, State, Wanted, Wired};
use crate::quota::QuotaRef;
use crate::score::{Score, priority_component};
use crate::table::{Cell, Record, Table};

/// Names that were handed out as pointers: never moved or freed while the engine lives.
pub(crate) struct Names {
    pub(crate) providers: Table<OnceLock<CString>>,
    pub(crate) pools: Table<OnceLock<CString>>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { providers: Table::new(), pools: Table::new() }
    }

    pub(crate) fn provider(&self, index: u32) -> &CStr {
        name(&self.providers, index).unwrap_or_default()
    }

    /// The pool name of a quota; `None` if it is a provider's own.
    pub(crate) fn pool(&self, quota: u32) -> Option<&CStr> {
        name(&self.pools, quota)
    }
}

fn name(names: &Table<OnceLock<CString>>, index: u32) -> Option<&CStr> {
    names.get(index as usize)?.get().map(CString::as_c_str)
}

/// Stores a name beside a record that was just appended.
fn store(names: &Table<OnceLock<CString>>, name: Option<&str>) -> Option<()> {
    let slot = names.get(names.append(1)?)?;
    if let Some(name) = name.and_then(|n| CString::new(n).ok()) {
        // The slot is new.
        let _ = slot.set(name);
    }
    Some(())
}

/// A provider by name. It keeps its record when it is removed: its leases are still out, its usage still counts, and its
/// name may still be in the caller's hands.
#[derive(Clone)]
struct Known {
    index: u32,
    registered: bool,
    priority: u32,
    weight: f64,
}

/// A capability, ready to route.
#[derive(Clone)]
pub(crate) struct Capability {
    config: CapabilityConfig,
    /// Its providers, those with the highest bound first, equals in the order of the list.
    pub(crate) rows: Box<[Row]>,
    /// The estimator of the first provider of the list whose one knows anything, and how many knew something then.
    fallback: Arc<Fallback>,
}

/// In one word, as threads find it at the same time.
#[derive(Default)]
struct Fallback(Cell);

/// One provider of a capability.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) provider: u32,
    /// Its place in the list.
    pub(crate) index: u32,
    pub(crate) record: Record<Provider>,
    /// What its requests use.
    pub(crate) estimator: u32,
    pub(crate) learned: Record<Estimator>,
    /// The priority component of its score.
    pub(crate) priority: f64,
    /// The score that it can have at most.
    pub(crate) bound: f64,
}

/// No estimator.
const NONE: u32 = u32::MAX;

impl Capability {
    /// The estimator for a provider that has served nothing yet: that of the first of the list whose one knows anything.
    #[inline]
    pub(crate) fn fallback(&self, state: &State) -> u32 {
        let (known, knowing) = (self.fallback.0.get(), state.knowing.get() as u32);
        if (known >> 32) as u32 == knowing { known as u32 } else { self.find_fallback(knowing) }
    }

    /// What one knows is never forgotten: only a new one can change the answer.
    #[cold]
    fn find_fallback(&self, knowing: u32) -> u32 {
        let first = self.rows.iter().filter(|row| row.learned.knows()).min_by_key(|row| row.index);
        let estimator = first.map_or(NONE, |row| row.estimator);
        self.fallback.0.set(u64::from(knowing) << 32 | u64::from(estimator));
        estimator
    }
}

/// The configuration in force.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    pub(crate) settings: Settings,
    /// Whether a quota needs the calendar, so that the wall clock is read.
    pub(crate) needs_calendar: bool,
    /// The providers by the index of their records, removed ones included.
    pub(crate) wired: Vec<Wired>,
    /// By the bytes of their names: whoever asks need not check that they are UTF-8.
    providers: FxHashMap<Box<[u8]>, Known>,
    capabilities: FxHashMap<Box<[u8]>, Capability>,
    /// The records of quotas, of a provider (by index) or of a pool. Never forgotten: usage outlives a definition.
    quotas: FxHashMap<(Option<u32>, QuotaIdentity), u32>,
    /// The records of estimators, of a capability and a provider.
    estimators: FxHashMap<(Box<str>, u32), u32>,
}

impl Registry {
    /// `settings` are valid.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings: normalised(settings), ..Self::default() }
    }

    /// The record of a registered provider.
    #[inline]
    pub(crate) fn provider(&self, name: &[u8]) -> Result<u32, Error> {
        let known = self.providers.get(name).filter(|p| p.registered).map(|p| p.index);
        known.ok_or_else(|| not_found(name, Error::UnknownProvider))
    }

    #[inline]
    pub(crate) fn capability(&self, name: &[u8]) -> Result<&Capability, Error> {
        self.capabilities.get(name).ok_or_else(|| not_found(name, Error::UnknownCapability))
    }

    /// The registered providers, in the order of their records.
    pub(crate) fn registered(&self) -> Vec<u32> {
        let mut all: Vec<_> = self.providers.values().filter(|p| p.registered).map(|p| p.index).collect();
        all.sort_unstable();
        all
    }

    /// Applies a change, whole or not at all.
    pub(crate) fn apply(&mut self, change: Change, state: &State, names: &Names, now: Now) -> Result<(), Error> {
        change.validate(|name| self.provider(name.as_bytes()).is_ok())?;
        // Far beyond what is useful, and far below where the tables end: all of the change is refused that might not fit.
        let quotas: usize = change.providers.iter().map(|p| p.quotas.len() + IMPLICIT_QUOTAS).sum();
        if state.providers.len() + change.providers.len() > MAX_PROVIDERS || state.quotas.len() + quotas > MAX_QUOTAS {
            return Err(Error::Capacity("providers or quotas, removed ones included"));
        }
        if let Some(settings) = change.settings {
            self.settings = normalised(settings);
        }
        if change.replace {
            let stays: HashSet<_> = change.providers.iter().map(|p| p.name.as_bytes()).collect();
            self.unregister(|name| !stays.contains(name));
            self.capabilities.clear();
        }
        for provider in change.providers {
            self.define(provider, state, names, now)
                .ok_or(Error::Capacity("providers or quotas, removed ones included"))?;
        }
        for config in change.capabilities {
            for candidate in &config.providers {
                let key = (config.name.clone(), self.provider(candidate.provider.as_bytes())?);
                if let Entry::Vacant(free) = self.estimators.entry(key) {
                    free.insert(state.estimators.append(1).ok_or(Error::Capacity("capabilities"))? as u32);
                }
            }
            let capability = Capability { config, rows: Box::default(), fallback: Arc::default() };
            self.capabilities.insert(capability.config.name.as_bytes().into(), capability);
        }
        self.rebuild(state);
        Ok(())
    }

    pub(crate) fn remove_provider(&mut self, name: &str, state: &State) -> Result<(), Error> {
        self.provider(name.as_bytes())?;
        self.unregister(|other| other == name.as_bytes());
        self.rebuild(state);
        Ok(())
    }

    pub(crate) fn remove_capability(&mut self, name: &str) -> Result<(), Error> {
        let removed = self.capabilities.remove(name.as_bytes()).map(drop);
        removed.ok_or_else(|| not_found(name.as_bytes(), Error::UnknownCapability))
    }

    fn unregister(&mut self, goes: impl Fn(&[u8]) -> bool) {
        for (name, provider) in &mut self.providers {
            provider.registered &= !goes(name);
        }
        for capability in self.capabilities.values_mut() {
            capability.config.providers.retain(|candidate| !goes(candidate.provider.as_bytes()));
        }
    }

    fn define(&mut self, config: ProviderConfig, state: &State, names: &Names, now: Now) -> Option<()> {
        let index = match self.providers.get(config.name.as_bytes()) {
            Some(known) => known.index,
            None => {
                let index = state.providers.append(1)?;
                store(&names.providers, Some(&config.name))?;
                index as u32
            }
        };
        let implicit = implicit_quotas(&config.quotas);
        let mut wanted = Vec::with_capacity(config.quotas.len() + implicit.len());
        for (is_implicit, quota) in config.quotas.iter().map(|q| (false, q)).chain(implicit.iter().map(|q| (true, q))) {
            let owner = quota.pool.is_none().then_some(index);
            let key = (owner, quota.identity());
            let record = match self.quotas.get(&key) {
                Some(record) => *record,
                None => {
                    let record = state.quotas.append(1)?;
                    store(&names.pools, quota.pool.as_deref())?;
                    self.quotas.insert(key, record as u32);
                    record as u32
                }
            };
            let now = state.latest(index, record, now);
            QuotaRef::define(state.quotas.get(record as usize)?, &state.marks, quota, now)?;
            if owner.is_none() {
                self.wired.iter_mut().for_each(|wired| wired.renew_marks(record, &state.marks));
            }
            self.needs_calendar |= quota.strategy() == Strategy::FixedWindow;
            wanted.push(Wanted { quota: record, pooled: owner.is_none(), implicit: is_implicit });
        }
        state.define(&mut self.wired, index, config.cooldown_seconds, wanted, now)?;
        let known = Known { index, registered: true, priority: config.priority, weight: config.weight };
        self.providers.insert(config.name.into_boxed_bytes(), known);
        Some(())
    }

    /// Computes what routing needs from what is configured.
    fn rebuild(&mut self, state: &State) {
        for capability in self.capabilities.values_mut() {
            let candidates = capability.config.providers.iter().filter_map(|c| {
                let known = self.providers.get(c.provider.as_bytes())?;
                Some((known, c.priority.unwrap_or(known.priority)))
            });
            let highest = candidates.clone().map(|(_, priority)| priority).max().unwrap_or(0);
            let rows = candidates.enumerate().filter_map(|(index, (known, priority))| {
                let priority = priority_component(priority, highest, known.weight);
                let estimator = *self.estimators.get(&(capability.config.name.clone(), known.index))?;
                Some(Row {
                    provider: known.index,
                    index: index as u32,
                    record: state.providers.record(known.index as usize)?,
                    estimator,
                    learned: state.estimators.record(estimator as usize)?,
                    priority,
                    bound: Score::new(1.0, 1.0, priority, 1.0, &self.settings.weights).total,
                })
            });
            let mut rows: Vec<_> = rows.collect();
            rows.sort_by(|a, b| b.bound.total_cmp(&a.bound));
            capability.rows = rows.into();
            // Not yet looked for: no number of estimators is this large.
            capability.fallback.0.set(u64::MAX);
        }
    }
}

/// Unlimited quotas for what nobody configured, requests and concurrency, so that a limit that nobody knew of can be
/// learned.
fn implicit_quotas(configured: &[QuotaConfig]) -> Vec<QuotaConfig> {
    [(Dimension::Requests, 60 * NS_PER_SEC), (Dimension::Concurrency, 0)]
        .into_iter()
        .filter(|(dimension, _)| configured.iter().all(|q| q.dimension != *dimension))
        .map(|(dimension, window_ns)| QuotaConfig {
            dimension,
            limit: u64::MAX,
            window_ns,
            strategy: None,
            burst: None,
            phase_ns: None,
            pool: None,
        })
        .collect()
}

/// Most implicit quotas of a provider.
const IMPLICIT_QUOTAS: usize = 2;
const MAX_PROVIDERS: usize = 1 << 20;
const MAX_QUOTAS: usize = 1 << 22;

/// Why a name is not found: it may be one that nothing can have.
fn not_found(name: &[u8], unknown: Error) -> Error {
    match std::str::from_utf8(name) {
        Ok(name) => validate_name(name).err().unwrap_or(unknown),
        Err(_) => Error::InvalidName("not valid UTF-8".into()),
    }
}

fn normalised(settings: Settings) -> Settings {
    Settings { weights: settings.weights.normalised(), ..settings }
}
