//! The book: all that is configured, and which record is whose. Plain data, which processes that share records pass to each
//! other.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::config::{
    CapabilityConfig, Change, Dimension, NS_PER_SEC, ProviderConfig, QuotaConfig, Settings, not_found,
};
use crate::error::Error;

/// The configuration with the records that it has been given. Those of providers and quotas are never given back: usage outlives
/// a definition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) settings: Settings,
    /// By the index of their records, removed ones included.
    pub(crate) providers: Vec<Provider>,
    /// By the index of their records, former ones included.
    pub(crate) quotas: Vec<Quota>,
    pub(crate) capabilities: Vec<CapabilityConfig>,
    /// The capability and the provider of each estimator, by the index of its record.
    pub(crate) estimators: Vec<(Box<str>, u32)>,
}

/// A provider. It keeps its record when it is removed: its leases are still out, its usage still counts, and its name may
/// still be in the caller's hands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Provider {
    pub(crate) name: Box<str>,
    pub(crate) registered: bool,
    pub(crate) priority: u32,
    pub(crate) weight: f64,
    pub(crate) cooldown_seconds: f64,
    /// Counts its definitions.
    pub(crate) epoch: u64,
    /// Its own quotas, then its pools, each by index: the order in which pools are locked.
    pub(crate) links: Vec<Link>,
    /// The records of its own quotas, former ones included.
    own: Vec<u32>,
    /// Where leases were charged that may still be out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) former: Vec<Former>,
}

/// From a provider to one of its quotas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) quota: u32,
    /// Since which definition of the provider its leases are charged there.
    pub(crate) since: u64,
    /// Nobody configured it: it only serves to learn.
    pub(crate) implicit: bool,
}

/// A quota that was taken off a provider: leases that were charged there are settled there all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Former {
    pub(crate) quota: u32,
    /// The first definition of the provider whose leases were charged there or hold a slot, and the first whose leases do not.
    pub(crate) since: u64,
    pub(crate) until: u64,
}

impl Former {
    /// Whether leases of a definition were charged there.
    pub(crate) fn charged(&self, epoch: u32) -> bool {
        (self.since..self.until).contains(&u64::from(epoch))
    }
}

/// A quota of a provider or of a pool, as it was configured last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quota {
    pub(crate) config: QuotaConfig,
    /// Where the name of its pool lies, if it has one.
    pub(crate) pool_name: Option<u32>,
}

/// Why nothing more can be registered.
pub(crate) const FULL: Error = Error::Capacity("providers or quotas, removed ones included");

impl Book {
    /// The book after a change, and the providers that are defined anew; what is defined as before is left alone.
    pub(crate) fn with(&self, change: &Change) -> Result<(Self, Vec<u32>), Error> {
        change.validate(|name| self.registered(name).is_some())?;
        let mut book = self.clone();
        if let Some(settings) = &change.settings {
            book.settings = settings.clone();
        }
        if change.replace {
            let stays: HashSet<_> = change.providers.iter().map(|p| &*p.name).collect();
            book.unregister(|name| !stays.contains(name));
            book.capabilities.clear();
        }
        let mut changed = Vec::new();
        let mut indices: HashMap<_, _> = book.providers.iter().map(|p| p.name.clone()).zip(0..).collect();
        for provider in &change.providers {
            let index = *indices.entry(provider.name.clone()).or_insert(book.providers.len() as u32);
            if book.define(provider, index) {
                changed.push(index);
            }
            // Far beyond what is useful, and far below where the tables end.
            if book.providers.len() > MAX_PROVIDERS || book.quotas.len() > MAX_QUOTAS {
                return Err(FULL);
            }
        }
        // As all are defined if this is broken off: then the same is reserved for them.
        changed.sort_unstable();
        let mut estimators: HashSet<_> = book.estimators.iter().cloned().collect();
        let mut unused = book.unused_estimators(&change.capabilities);
        for config in &change.capabilities {
            for candidate in &config.providers {
                let provider = *indices.get(&candidate.provider).ok_or(Error::UnknownProvider)?;
                let estimator = (config.name.clone(), provider);
                if estimators.insert(estimator.clone()) {
                    match unused.get_mut(&provider).and_then(Vec::pop) {
                        Some(index) => book.estimators[index] = estimator,
                        None => book.estimators.push(estimator),
                    }
                }
            }
            match book.capabilities.iter_mut().find(|known| known.name == config.name) {
                Some(known) => known.clone_from(config),
                None => book.capabilities.push(config.clone()),
            }
        }
        Ok((book, changed))
    }

    /// The estimators of each provider whose capabilities are gone and do not come now. Another capability gets them: also of the
    /// same provider, under whose lock they are written.
    fn unused_estimators(&self, coming: &[CapabilityConfig]) -> HashMap<u32, Vec<usize>> {
        let used: HashSet<_> = self.capabilities.iter().chain(coming).map(|capability| &capability.name).collect();
        let mut unused: HashMap<_, Vec<_>> = HashMap::new();
        for (index, (capability, provider)) in self.estimators.iter().enumerate() {
            if !used.contains(capability) {
                unused.entry(*provider).or_default().push(index);
            }
        }
        unused
    }

    /// The book without a provider.
    pub(crate) fn without_provider(&self, name: &str) -> Result<Self, Error> {
        self.registered(name).ok_or_else(|| not_found(name.as_bytes(), Error::UnknownProvider))?;
        let mut book = self.clone();
        book.unregister(|other| other == name);
        Ok(book)
    }

    /// The book without a capability.
    pub(crate) fn without_capability(&self, name: &str) -> Result<Self, Error> {
        let known = self.capabilities.iter().any(|capability| &*capability.name == name);
        known.then_some(()).ok_or_else(|| not_found(name.as_bytes(), Error::UnknownCapability))?;
        let mut book = self.clone();
        book.capabilities.retain(|capability| &*capability.name != name);
        Ok(book)
    }

    fn registered(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.registered && &*provider.name == name)
    }

    fn unregister(&mut self, goes: impl Fn(&str) -> bool) {
        for provider in &mut self.providers {
            provider.registered &= !goes(&provider.name);
        }
        for capability in &mut self.capabilities {
            capability.providers.retain(|candidate| !goes(&candidate.provider));
        }
    }

    /// Defines a provider, which may be one behind the last: a new one. Whether it was not defined so already.
    fn define(&mut self, config: &ProviderConfig, index: u32) -> bool {
        let old = self.providers.get(index as usize).cloned();
        let epoch = old.as_ref().map_or(1, |old| old.epoch + 1);
        let mut own = old.as_ref().map(|old| old.own.clone()).unwrap_or_default();
        let implicit = implicit_quotas(&config.quotas);
        let mut same_quotas = true;
        let mut links = Vec::with_capacity(config.quotas.len() + implicit.len());
        for (is_implicit, wanted) in config.quotas.iter().map(|q| (false, q)).chain(implicit.iter().map(|q| (true, q)))
        {
            let found = match &wanted.pool {
                None => own.iter().copied().find(|quota| self.is(*quota, wanted)),
                Some(_) => (0..self.quotas.len() as u32).find(|quota| self.is(*quota, wanted)),
            };
            let quota = found.unwrap_or_else(|| {
                let quota = self.quotas.len() as u32;
                if wanted.pool.is_none() {
                    own.push(quota);
                }
                self.quotas.push(Quota { config: wanted.clone(), pool_name: self.pool_name(wanted) });
                quota
            });
            let record = &mut self.quotas[quota as usize];
            same_quotas &= found.is_some() && record.config == *wanted;
            record.config.clone_from(wanted);
            let before = old.as_ref().and_then(|old| old.links.iter().find(|link| link.quota == quota));
            links.push(Link { quota, since: before.map_or(epoch, |link| link.since), implicit: is_implicit });
        }
        links.sort_by_key(|link| (self.is_pool(link.quota), link.quota));
        let mut former = old.as_ref().map(|old| old.former.clone()).unwrap_or_default();
        let stays = |quota: u32| links.iter().any(|link| link.quota == quota);
        // Every lease in flight holds a slot, of whichever definition it is.
        let holds_slots = |quota: u32| self.quotas[quota as usize].config.dimension == Dimension::Concurrency;
        former.retain(|former| !(holds_slots(former.quota) && stays(former.quota)));
        // A provider's own slots go with the quota.
        let counts = |link: &&Link| !holds_slots(link.quota) || self.is_pool(link.quota);
        let gone = old.iter().flat_map(|old| &old.links).filter(|link| !stays(link.quota)).filter(counts);
        former.extend(gone.map(|link| Former {
            quota: link.quota,
            since: if holds_slots(link.quota) { 0 } else { link.since },
            until: epoch,
        }));
        let new = Provider {
            name: config.name.clone(),
            registered: true,
            priority: config.priority,
            weight: config.weight,
            cooldown_seconds: config.cooldown_seconds,
            epoch,
            links,
            own,
            former,
        };
        if same_quotas && old.is_some_and(|old| old == Provider { epoch: old.epoch, ..new.clone() }) {
            return false;
        }
        match self.providers.get_mut(index as usize) {
            Some(provider) => *provider = new,
            None => self.providers.push(new),
        }
        true
    }

    /// Whether a record counts what is wanted: dimension, window and pool agree.
    fn is(&self, quota: u32, wanted: &QuotaConfig) -> bool {
        self.quotas.get(quota as usize).is_some_and(|quota| quota.config.counts_as(wanted))
    }

    /// The provider that a quota belongs to, if it is not a pool's.
    pub(crate) fn owner(&self, quota: u32) -> Option<u32> {
        (0..).zip(&self.providers).find(|(_, provider)| provider.own.contains(&quota)).map(|(index, _)| index)
    }

    pub(crate) fn is_pool(&self, quota: u32) -> bool {
        self.quotas.get(quota as usize).is_some_and(|quota| quota.pool_name.is_some())
    }

    /// Where the name of a quota's pool lies; a new one gets the next place.
    fn pool_name(&self, wanted: &QuotaConfig) -> Option<u32> {
        let pool = wanted.pool.as_ref()?;
        let known = self.quotas.iter().find(|quota| quota.config.pool.as_ref() == Some(pool));
        known.map_or_else(|| Some(self.pools()), |quota| quota.pool_name)
    }

    /// How many pools there are.
    pub(crate) fn pools(&self) -> u32 {
        self.quotas.iter().filter_map(|quota| quota.pool_name).max().map_or(0, |last| last + 1)
    }

    /// Whether all that it names is there: what was read from elsewhere may be anything.
    pub(crate) fn is_sound(&self) -> bool {
        let pools = self.pools() as usize;
        let sound_provider = |provider: &Provider| {
            let former = provider.former.iter().map(|former| former.quota);
            let mut quotas = provider.links.iter().map(|link| link.quota).chain(former);
            let own = provider.links.iter().take_while(|link| !self.is_pool(link.quota)).count();
            let in_order = |links: &[Link]| links.windows(2).all(|pair| pair[0].quota < pair[1].quota);
            quotas.all(|quota| (quota as usize) < self.quotas.len())
                && in_order(&provider.links[..own])
                && in_order(&provider.links[own..])
                && provider.links[own..].iter().all(|link| self.is_pool(link.quota))
                && provider.links.len() <= crate::config::MAX_QUOTAS + IMPLICIT_QUOTAS
        };
        self.settings.validate().is_ok()
            && pools <= self.quotas.len()
            && self.providers.iter().all(sound_provider)
            && self.quotas.iter().all(|quota| quota.config.is_valid())
            && self.estimators.iter().all(|(_, provider)| (*provider as usize) < self.providers.len())
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
