//! The configuration in force: the book, and what routing needs of it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::book::Book;
use crate::cell::Cell;
use crate::clock::Now;
use crate::config::{CapabilityConfig, Settings, Strategy, not_found};
use crate::error::Error;
use crate::estimate::Estimator;
use crate::provider::Provider;
use crate::score::{Score, priority_component};
use crate::state::{Reserved, State, Wired};
use crate::table::Record;

/// A capability, ready to route.
#[derive(Clone)]
pub(crate) struct Capability {
    /// Its providers, those with the highest bound first, equals in the order of the list.
    pub(crate) rows: Box<[Row]>,
    /// The estimator of the first provider of the list whose one knows anything, and how many knew something then.
    fallback: Arc<Fallback>,
}

/// In one word, as threads find it at the same time.
struct Fallback(Cell);

impl Default for Fallback {
    /// Not yet looked for: no number of estimators is this large.
    fn default() -> Self {
        let unknown = Cell::default();
        unknown.set(u64::MAX);
        Self(unknown)
    }
}

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
    pub(crate) fn fallback<'a>(&self, state: &'a State) -> Option<&'a Estimator> {
        let (known, knowing) = (self.fallback.0.get(), state.head().knowing.get() as u32);
        let estimator = if (known >> 32) as u32 == knowing { known as u32 } else { self.find_fallback(knowing) };
        if estimator == NONE { None } else { state.estimators.get(estimator as usize) }
    }

    /// What one knows is not forgotten before another configuration: only a new one can change the answer.
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
    pub(crate) book: Book,
    /// The head's generation when the book was in force.
    pub(crate) generation: u64,
    /// The settings, with weights of which the sum is 1.
    pub(crate) settings: Settings,
    /// Whether a quota needs the calendar, so that the wall clock is read.
    pub(crate) needs_calendar: bool,
    /// The providers by the index of their records, removed ones included.
    pub(crate) wired: Vec<Wired>,
    /// By the bytes of their names: whoever asks need not check that they are UTF-8.
    providers: FxHashMap<Box<[u8]>, u32>,
    capabilities: FxHashMap<Box<[u8]>, Capability>,
}

impl Registry {
    /// The record of a registered provider.
    #[inline]
    pub(crate) fn provider(&self, name: &[u8]) -> Result<u32, Error> {
        self.providers.get(name).copied().ok_or_else(|| not_found(name, Error::UnknownProvider))
    }

    #[inline]
    pub(crate) fn capability(&self, name: &[u8]) -> Result<&Capability, Error> {
        self.capabilities.get(name).ok_or_else(|| not_found(name, Error::UnknownCapability))
    }

    /// The registered providers, in the order of their records.
    pub(crate) fn registered(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.book.providers).filter(|(_, provider)| provider.registered).map(|(index, _)| index)
    }

    /// Puts a book in force: of its providers, those that changed are defined anew, with what was reserved for them.
    pub(crate) fn enforce(
        &mut self,
        book: Book,
        changed: &[u32],
        reserved: &Reserved,
        state: &State,
        now: Now,
    ) -> Option<()> {
        state.name(&book);
        for index in changed {
            state.define(&mut self.wired, *index, &book, reserved, now)?;
        }
        self.wired.iter_mut().for_each(|wired| wired.renew_marks(&state.marks));
        for ((old, new), index) in self.book.estimators.iter().zip(&book.estimators).zip(0..) {
            if old != new {
                state.forget_learned(index, new.1);
            }
        }
        self.derive(book, state)
    }

    /// Takes over a book that is in force already.
    pub(crate) fn adopt(&mut self, book: Book, state: &State) -> Option<()> {
        state.name(&book);
        let wired = (0..).zip(&book.providers).map(|(index, entry)| state.wire(index, entry, &book));
        self.wired = wired.collect::<Option<_>>()?;
        self.derive(book, state)
    }

    /// Computes what routing needs from what is configured.
    fn derive(&mut self, book: Book, state: &State) -> Option<()> {
        self.settings = Settings { weights: book.settings.weights.normalised(), ..book.settings.clone() };
        let registered = (0..).zip(&book.providers).filter(|(_, provider)| provider.registered);
        self.providers = registered.map(|(index, provider)| (provider.name.as_bytes().into(), index)).collect();
        let estimators =
            (0..).zip(&book.estimators).map(|(index, (capability, provider))| ((&**capability, *provider), index));
        let estimators: FxHashMap<(&str, u32), u32> = estimators.collect();
        let capabilities = book.capabilities.iter().map(|config| {
            let rows = self.rows(config, &book, &estimators, state)?;
            Some((config.name.as_bytes().into(), Capability { rows, fallback: Arc::default() }))
        });
        self.capabilities = capabilities.collect::<Option<_>>()?;
        self.needs_calendar = book.quotas.iter().any(|quota| quota.config.strategy() == Strategy::FixedWindow);
        self.book = book;
        Some(())
    }

    fn rows(
        &self,
        config: &CapabilityConfig,
        book: &Book,
        estimators: &FxHashMap<(&str, u32), u32>,
        state: &State,
    ) -> Option<Box<[Row]>> {
        let candidates = config.providers.iter().filter_map(|candidate| {
            let index = *self.providers.get(candidate.provider.as_bytes())?;
            let provider = book.providers.get(index as usize)?;
            Some((index, provider.weight, candidate.priority.unwrap_or(provider.priority)))
        });
        let highest = candidates.clone().map(|(_, _, priority)| priority).max().unwrap_or(0);
        let rows = candidates.enumerate().map(|(place, (provider, weight, priority))| {
            let priority = priority_component(priority, highest, weight);
            let estimator = *estimators.get(&(&*config.name, provider))?;
            Some(Row {
                provider,
                index: place as u32,
                record: state.providers.record(provider as usize)?,
                estimator,
                learned: state.estimators.record(estimator as usize)?,
                priority,
                bound: Score::new(1.0, 1.0, priority, 1.0, &self.settings.weights).total,
            })
        });
        let mut rows = rows.collect::<Option<Vec<_>>>()?;
        rows.sort_by(|a, b| b.bound.total_cmp(&a.bound));
        Some(rows.into())
    }
}
