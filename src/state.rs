//! The records of an engine, and how a provider and its quotas are locked together.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::book::{self, Book};
use crate::cell::Cell;
use crate::clock::Now;
use crate::config::Dimension;
use crate::error::Error;
use crate::estimate::Estimator;
use crate::journal::{Journal, Word, words_for};
use crate::lease::{Grant, Lease, TOUCHED};
use crate::lock::Guard;
use crate::memory::{Head, Memory};
use crate::names::{PoolName, ProviderName};
use crate::provider::{Counters, Locked, Provider};
use crate::quota::{Mark, Quota, QuotaRef};
use crate::registry::Registry;
#[cfg(unix)]
use crate::shared::TOO_SMALL;
use crate::shared::process::PROCESS_BITS;
use crate::table::{Record, Run, Table};

/// The records of an engine.
pub(crate) struct State {
    pub(crate) memory: Arc<Memory>,
    head: Record<Head>,
    pub(crate) providers: Table<Provider>,
    pub(crate) quotas: Table<Quota>,
    pub(crate) marks: Table<Mark>,
    pub(crate) leases: Table<Lease>,
    pub(crate) estimators: Table<Estimator>,
    provider_names: Table<ProviderName>,
    pool_names: Table<PoolName>,
    journals: Table<Word>,
}

/// A provider as the configuration in force wires it: its record and its quotas.
#[derive(Clone)]
pub(crate) struct Wired {
    pub(crate) provider: Record<Provider>,
    /// Its own quotas, then its pools, each by index: the order in which pools are locked.
    pub(crate) links: Box<[Link]>,
    /// How many are its own.
    own: u32,
    /// The definition of the provider that this is made for.
    pub(crate) epoch: u64,
    pub(crate) journal: Journal,
    /// Only while leases are out that need it.
    former: Option<Box<Former>>,
}

/// Quotas that were taken off a provider while leases were out that were charged there.
#[derive(Clone)]
struct Former {
    quotas: Vec<(Record<Quota>, book::Former)>,
    /// The pools among them and those of now, by index.
    pools: Vec<Link>,
}

/// From a provider to one of its quotas.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) index: u32,
    /// Since which definition of the provider its leases are charged there.
    pub(crate) since: u64,
    /// Nobody configured it: it only serves to learn.
    pub(crate) implicit: bool,
    quota: Record<Quota>,
    marks: Run<Mark>,
}

impl Link {
    #[inline]
    pub(crate) fn quota<'a>(&'a self, journal: &'a Journal) -> QuotaRef<'a> {
        QuotaRef::new(&self.quota, &self.marks, journal)
    }

    /// Its record alone.
    #[inline]
    pub(crate) fn record(&self) -> &Quota {
        &self.quota
    }

    fn keep(&self, journal: &Journal) {
        journal.keep(&*self.quota);
    }
}

impl Wired {
    fn pools(&self) -> &[Link] {
        &self.links[self.own as usize..]
    }

    /// Whether nobody else charges its quotas.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.own as usize == self.links.len()
    }

    pub(crate) fn is_pooled(&self, quota: u32) -> bool {
        self.pools().iter().any(|link| link.index == quota)
    }

    /// Whether leases may be out that hold slots of a pool that it left.
    pub(crate) fn left(&self, quota: u32) -> bool {
        self.former.as_ref().is_some_and(|former| former.quotas.iter().any(|(_, former)| former.quota == quota))
    }

    /// The pools that a lease of a definition may have been charged on.
    fn pools_of(&self, epoch: u64) -> &[Link] {
        match &self.former {
            Some(former) if epoch < self.epoch => &former.pools,
            _ => self.pools(),
        }
    }

    /// The quotas that leases of a definition were charged on, and that were taken off since.
    pub(crate) fn former_quotas<'a>(
        &'a self,
        epoch: u32,
        marks: &'a Table<Mark>,
    ) -> impl Iterator<Item = QuotaRef<'a>> {
        let quotas = self.former.iter().flat_map(|former| &former.quotas);
        quotas.filter(move |(_, former)| former.charged(epoch)).map(|(quota, _)| {
            // One that came back is written down already.
            self.journal.keep_once(&**quota);
            let (at, len) = quota.marks_run();
            QuotaRef::new(quota, marks.run(at, len), &self.journal)
        })
    }

    /// Takes over the marks that pools got.
    pub(crate) fn renew_marks(&mut self, marks: &Table<Mark>) {
        for link in self.links.iter_mut().filter(|link| !link.quota.has(&link.marks)) {
            link.marks = link.quota.keep_marks(marks);
        }
    }

    /// Whether it is still how the locked records are defined: another process may have defined them anew.
    #[inline]
    fn is_current(&self) -> bool {
        self.provider.epoch.get() == self.epoch
            && (self.is_alone() || self.pools().iter().all(|link| link.quota.has(&link.marks)))
    }

    /// An operation begins, or goes on with what may be kept of it so far.
    #[inline]
    pub(crate) fn begin(&self) {
        if self.journal.is_kept() {
            self.keep();
        }
    }

    #[inline(never)]
    fn keep(&self) {
        self.journal.close();
        self.journal.keep(&*self.provider);
        self.links.iter().for_each(|link| link.keep(&self.journal));
    }
}

/// How many words an operation on a provider with so many quotas, with so many marks together, may write down.
fn kept_words(quotas: usize, marks: usize) -> usize {
    words_for::<Provider>(1) + TOUCHED * words_for::<Lease>(1) + quotas * (words_for::<Quota>(1) + 2) + marks
}

/// The definition of a lease where none is ended: later than all.
pub(crate) const NO_LEASE: u64 = u64::MAX;

/// Pools that are locked as long as this lives.
struct HeldPools<'a>(&'a [Link]);

impl Drop for HeldPools<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|pool| drop(Guard::of_held(&pool.quota.lock)));
    }
}

/// An operation on locked records. If it is not ended, it has not happened.
struct Operation<'a> {
    journal: &'a Journal,
    memory: &'a Memory,
}

impl Operation<'_> {
    #[inline]
    fn end(self) {
        self.journal.close();
        std::mem::forget(self);
    }
}

impl Drop for Operation<'_> {
    #[cold]
    fn drop(&mut self) {
        self.journal.undo(self.memory);
    }
}

impl State {
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self {
            providers: Table::new(&memory),
            quotas: Table::new(&memory),
            marks: Table::new(&memory),
            leases: Table::new(&memory),
            estimators: Table::new(&memory),
            provider_names: Table::new(&memory),
            pool_names: Table::new(&memory),
            journals: Table::new(&memory),
            head: Record::head(&memory),
            memory,
        }
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// What there is too much of, where nothing else says so: a file has its size.
    pub(crate) fn full(&self, otherwise: Error) -> Error {
        #[cfg(unix)]
        if self.memory.is_shared() {
            return TOO_SMALL;
        }
        otherwise
    }

    /// The name of a provider's record; empty if there is none.
    pub(crate) fn provider_name(&self, index: u32) -> &CStr {
        self.provider_names.get(index as usize).map(ProviderName::get).unwrap_or_default()
    }

    /// The same, NUL-terminated.
    #[inline]
    pub(crate) fn provider_name_ptr(&self, index: u32) -> *const c_char {
        self.provider_names.get(index as usize).map_or(c"".as_ptr(), ProviderName::as_ptr)
    }

    /// The pool name of a quota; `None` if it is a provider's own.
    pub(crate) fn pool_name(&self, quota: u32) -> Option<&CStr> {
        let name = (self.quotas.get(quota as usize)?.pool.get() as usize).checked_sub(1)?;
        self.pool_names.get(name).map(PoolName::get)
    }

    /// Runs `work` with a provider and its pools locked. Locks are taken in one order everywhere:
    /// the provider, then its pools by index; no call holds two providers. `None` if there is no such provider, or if it has
    /// been defined anew since `all` was made, by another process.
    #[inline]
    pub(crate) fn locked<R>(
        &self,
        all: &[Wired],
        index: u32,
        now: Now,
        work: impl FnOnce(Locked<'_>) -> R,
    ) -> Option<R> {
        self.locked_for_lease(all, index, now, NO_LEASE, work)
    }

    /// The same where `work` may end a lease of this definition or of a later one: pools that it was charged on, and that were
    /// left since, are locked too.
    #[inline(always)]
    pub(crate) fn locked_for_lease<R>(
        &self,
        all: &[Wired],
        index: u32,
        now: Now,
        epoch: u64,
        work: impl FnOnce(Locked<'_>) -> R,
    ) -> Option<R> {
        let wired = all.get(index as usize)?;
        let provider = &*wired.provider;
        let _guard = self.lock_provider(index, provider);
        let now = later(&provider.latest, now);
        if wired.is_alone() && epoch >= wired.epoch {
            self.operate(Locked { state: self, all, wired, index, provider, now }, work)
        } else {
            let (_pools, now) = self.lock_pools(wired.pools_of(epoch), index, now);
            self.operate(Locked { state: self, all, wired, index, provider, now }, work)
        }
    }

    /// Works with what is locked, if that is still defined as it was.
    #[inline(always)]
    fn operate<R>(&self, locked: Locked<'_>, work: impl FnOnce(Locked<'_>) -> R) -> Option<R> {
        let wired = locked.wired;
        if !wired.is_current() {
            return None;
        }
        wired.begin();
        let operation = Operation { journal: &wired.journal, memory: &self.memory };
        let result = work(locked);
        operation.end();
        Some(result)
    }

    #[inline]
    fn lock_provider<'a>(&self, index: u32, provider: &'a Provider) -> Guard<'a> {
        provider.lock.lock(self.memory.process(), |_| self.rescue(index))
    }

    /// Locks the pools one after the other. Each passes on the latest time that it or the ones before have seen.
    #[inline(never)]
    fn lock_pools<'a>(&self, pools: &'a [Link], provider: u32, mut now: Now) -> (HeldPools<'a>, Now) {
        // A pool's lock tells for which provider it is held: the index plus 1, above the process.
        let holder = u64::from(provider + 1) << PROCESS_BITS | self.memory.process();
        let mut held = HeldPools(&[]);
        for (i, pool) in pools.iter().enumerate() {
            pool.quota.lock.lock(holder, |holder| self.rescue_pool(&pool.quota, holder)).keep();
            held.0 = &pools[..=i];
            now = later(&pool.quota.latest, now);
        }
        (held, now)
    }

    /// If the process that holds a provider is gone: undoes what it was doing, and frees the provider and the pools that it
    /// held for it.
    #[cold]
    fn rescue(&self, index: u32) {
        let holder = self.providers.get(index as usize).map_or(0, |provider| provider.lock.holder());
        if holder != 0 && self.memory.is_dead(holder) {
            self.take_over(index, holder);
        }
    }

    /// The same where it is known that the holder is gone, if it is this one.
    pub(crate) fn take_over(&self, index: u32, holder: u64) {
        let Some(provider) = self.providers.get(index as usize) else { return };
        let Some(_guard) = provider.lock.seize(holder, self.memory.process()) else { return };
        self.undo(index);
        for quota in self.quotas.iter() {
            let holder = quota.lock.holder();
            if holder >> PROCESS_BITS == u64::from(index + 1) {
                // Nobody but a process that is gone: we hold the provider.
                drop(quota.lock.seize(holder, holder));
            }
        }
    }

    /// The same for the provider for which a pool is held.
    #[cold]
    fn rescue_pool(&self, pool: &Quota, holder: u64) {
        match (holder >> PROCESS_BITS).checked_sub(1) {
            Some(provider) => self.rescue(provider as u32),
            // Held to count anew, see `put_in_force`.
            None if self.memory.is_dead(holder) => drop(pool.lock.seize(holder, self.memory.process())),
            None => {}
        }
    }

    /// Undoes what was begun with a provider.
    pub(crate) fn undo(&self, index: u32) {
        if let Some(provider) = self.providers.get(index as usize) {
            Journal::at(provider.journal.get(), &self.journals, &self.memory).undo(&self.memory);
        }
    }

    /// Ends the leases of all providers that have expired. Every provider is locked, so that no lease is missed: one that is
    /// granted later lowers `next_expiry` after it was raised here.
    #[cold]
    pub(crate) fn expire_leases(&self, all: &[Wired], now: Now) {
        self.head().next_expiry.set(u64::MAX);
        for index in 0..all.len() {
            let next = self.locked_for_lease(all, index as u32, now, 0, |locked| {
                locked.expire_leases();
                locked.oldest_lease().map_or(u64::MAX, |lease| lease.expires)
            });
            self.head().next_expiry.lower(next.unwrap_or(u64::MAX));
        }
    }

    /// Ends the leases of users that are gone. Whether all providers could be asked.
    pub(crate) fn reclaim(&self, all: &[Wired], now: Now, gone: impl Fn(u64) -> bool) -> bool {
        let expire = |locked: Locked<'_>| locked.expire_leases_of(&gone);
        let asked = |index: &usize| self.locked_for_lease(all, *index as u32, now, 0, expire).is_some();
        (0..all.len()).filter(asked).count() == all.len()
    }

    /// The counters of all providers together.
    pub(crate) fn totals(&self) -> Counters {
        self.providers.iter().fold(Counters::default(), |sum, p| {
            let c = p.counters();
            Counters {
                selects: sum.selects + c.selects,
                acquires: sum.acquires + c.acquires,
                completions: sum.completions + c.completions,
                cancellations: sum.cancellations + c.cancellations,
                expired_leases: sum.expired_leases + c.expired_leases,
                observations: sum.observations + c.observations,
                cooldowns_triggered: sum.cooldowns_triggered + c.cooldowns_triggered,
                rate_limited_responses: sum.rate_limited_responses + c.rate_limited_responses,
                capped_waits: sum.capped_waits + c.capped_waits,
                leases_in_flight: sum.leases_in_flight + c.leases_in_flight,
            }
        })
    }
}

/// The later of now and the latest time that a record has seen, which that becomes.
#[inline]
fn later(latest: &Cell, now: Now) -> Now {
    let seen = latest.get();
    if now.mono >= seen {
        latest.set(now.mono);
        return now;
    }
    // The calendar has moved on as well, if it is known.
    let unix = if now.unix == 0 { 0 } else { now.unix.saturating_add(seen - now.mono) };
    Now { mono: seen, unix }
}

/// What was reserved for a change of definitions, by the records that it is for.
#[derive(Default)]
pub(crate) struct Reserved {
    marks: FxHashMap<u32, u32>,
    journals: FxHashMap<u32, u32>,
}

impl State {
    /// Makes room for all that a book names, and for the providers that it defines anew. `None`, with nothing changed, if there
    /// is too little.
    pub(crate) fn reserve(&self, book: &Book, changed: &[u32]) -> Option<Reserved> {
        self.give_back_reserved();
        let (marks, journals) = (self.marks_needed(book, changed), self.journals_needed(book, changed));
        let (providers, quotas) = (book.providers.len(), book.quotas.len());
        let (estimators, pools) = (book.estimators.len(), book.pools() as usize);
        let needed = [
            self.providers.bytes_to_reach(providers),
            self.provider_names.bytes_to_reach(providers),
            self.quotas.bytes_to_reach(quotas),
            self.estimators.bytes_to_reach(estimators),
            self.pool_names.bytes_to_reach(pools),
            self.marks.bytes_for(marks.iter().map(|(_, slots)| *slots)),
            self.journals.bytes_for(journals.iter().map(|(_, words)| Journal::words(*words))),
        ];
        self.memory.has_room_for(needed.into_iter().sum()).then_some(())?;
        self.providers.reach(providers)?;
        self.provider_names.reach(providers)?;
        self.quotas.reach(quotas)?;
        self.estimators.reach(estimators)?;
        self.pool_names.reach(pools)?;
        let mut reserved = Reserved::default();
        for (index, slots) in marks {
            reserved.marks.insert(index, u32::try_from(self.marks.append(slots)?).ok()?);
        }
        for (index, words) in journals {
            reserved.journals.insert(index, Journal::make(words, &self.journals)?);
        }
        Some(reserved)
    }

    /// What was reserved for a change that was refused or broken off belongs to nobody: it lies behind all that records have, as
    /// they are given it in the order in which it was reserved. Who changes the configuration is alone with it.
    fn give_back_reserved(&self) {
        let marks = self.quotas.iter().map(|quota| quota.marks_run()).map(|(at, len)| at + len);
        self.marks.cut(marks.max().unwrap_or(0));
        let journals = self.providers.iter().map(|provider| provider.journal.get()).filter(|journal| *journal != 0);
        self.journals.cut(journals.map(|journal| Journal::end(journal, &self.journals)).max().unwrap_or(0));
    }

    /// The quotas that need more marks, and how many; in the order in which they are defined.
    fn marks_needed(&self, book: &Book, changed: &[u32]) -> Vec<(u32, usize)> {
        let links = changed.iter().filter_map(|index| book.providers.get(*index as usize)).flat_map(|p| &p.links);
        let mut pools = FxHashSet::default();
        let needed = links.filter_map(|link| {
            let config = &book.quotas.get(link.quota as usize)?.config;
            let has = self.quotas.get(link.quota as usize).map_or(0, |quota| quota.marks_run().1);
            let needs = Quota::marks_for(config);
            (needs > has && (config.pool.is_none() || pools.insert(link.quota))).then_some((link.quota, needs))
        });
        needed.collect()
    }

    /// The providers that need a longer journal, and for how many words of copies; in the order in which they are defined.
    fn journals_needed(&self, book: &Book, changed: &[u32]) -> Vec<(u32, usize)> {
        let changed = changed.iter().filter(|_| self.memory.is_shared());
        let needed = changed.filter_map(|index| {
            let entry = book.providers.get(*index as usize)?;
            // A definition changes the quotas of the old one and of the new one, the end of a lease also those before.
            let quotas = entry.links.len() + entry.links.len().max(entry.former.len());
            let words = kept_words(quotas, quotas * Quota::MOST_MARKS);
            let journal = self.providers.get(*index as usize).map_or(0, |provider| provider.journal.get());
            let holds = Journal::at(journal, &self.journals, &self.memory).holds(words);
            // The old one is lost: where there was one, there is room for as much again.
            (!holds).then_some((*index, if journal == 0 { words } else { words.next_power_of_two() }))
        });
        needed.collect()
    }

    /// Names the records of a book.
    pub(crate) fn name(&self, book: &Book) {
        for (provider, index) in book.providers.iter().zip(0..) {
            if let Some(name) = self.provider_names.get(index) {
                name.set(&provider.name);
            }
        }
        for quota in &book.quotas {
            let name = quota.pool_name.and_then(|name| self.pool_names.get(name as usize));
            if let (Some(name), Some(pool)) = (name, &quota.config.pool) {
                name.set(pool);
            }
        }
    }

    /// A provider as a book defines it.
    pub(crate) fn wire(&self, index: u32, entry: &book::Provider, book: &Book) -> Option<Wired> {
        let provider = self.providers.record(index as usize)?;
        let link = |index: u32, since: u64, implicit: bool| {
            let quota = self.quotas.record(index as usize)?;
            let marks = quota.keep_marks(&self.marks);
            Some(Link { index, since, implicit, quota, marks })
        };
        let links = entry.links.iter().map(|entry| link(entry.quota, entry.since, entry.implicit));
        let links = links.collect::<Option<Box<[_]>>>()?;
        let own = entry.links.iter().take_while(|link| !book.is_pool(link.quota)).count() as u32;
        let former = match &*entry.former {
            [] => None,
            gone => {
                let mut pools = links[own as usize..].to_vec();
                for former in gone.iter().filter(|former| book.is_pool(former.quota)) {
                    pools.push(link(former.quota, former.since, false)?);
                }
                pools.sort_by_key(|link| link.index);
                pools.dedup_by_key(|link| link.index);
                let quotas =
                    gone.iter().map(|former| Some((self.quotas.record(former.quota as usize)?, former.clone())));
                Some(Box::new(Former { quotas: quotas.collect::<Option<_>>()?, pools }))
            }
        };
        let journal = Journal::at(provider.journal.get(), &self.journals, &self.memory);
        Some(Wired { provider, links, own, epoch: entry.epoch, journal, former })
    }

    /// Forgets the quotas that were taken off providers, as soon as no lease is out that was charged there.
    pub(crate) fn forget_settled(&self, book: &mut Book, changed: &[u32]) {
        for index in changed {
            let entry = book.providers.get_mut(*index as usize);
            let Some((entry, provider)) = entry.zip(self.providers.get(*index as usize)) else { continue };
            let _guard = self.lock_provider(*index, provider);
            entry.former.retain(|former| {
                // Until the new definition is in force, other processes grant leases of the one before.
                let more_may_come = self.memory.is_shared() && former.until == entry.epoch;
                more_may_come || provider.leases.active(&self.leases).any(|lease| former.charged(lease.epoch))
            });
        }
    }

    /// Empties an estimator of a provider: it is for another capability from now on.
    pub(crate) fn forget_learned(&self, index: usize, provider: u32) {
        let record = self.providers.get(provider as usize);
        if let Some((provider_record, estimator)) = record.zip(self.estimators.get(index)) {
            let _guard = self.lock_provider(provider, provider_record);
            estimator.forget();
            provider_record.leases.forget_estimator(&self.leases, index as u32);
        }
    }

    /// Gives a provider its definition: its cooldown and its quotas, and those theirs. Leases in flight hold a slot on every
    /// concurrency quota, also on one that is new; other quotas settle them if they were charged there, also those that go.
    /// `index` may be one behind the last of `all`: a new provider.
    pub(crate) fn define(
        &self,
        all: &mut Vec<Wired>,
        index: u32,
        book: &Book,
        reserved: &Reserved,
        now: Now,
    ) -> Option<()> {
        let entry = book.providers.get(index as usize)?;
        let (mut new, old) = (self.wire(index, entry, book)?, all.get(index as usize).cloned());
        let former =
            old.as_ref().and_then(|old| old.former.as_deref()).map(|former| &*former.quotas).unwrap_or_default();
        let old = old.as_ref().map(|old| &*old.links).unwrap_or_default();
        let stays = |quota: u32| new.links.iter().any(|link| link.index == quota);
        let goes = |link: &&Link| !stays(link.index);
        let mut pools: Vec<_> = new.pools().to_vec();
        pools.extend(old.iter().filter(goes).filter(|link| book.is_pool(link.index)).cloned());
        pools.sort_by_key(|link| link.index);

        let provider = new.provider.clone();
        let guard = self.lock_provider(index, &provider);
        let now = later(&provider.latest, now);
        let (held, now) = self.lock_pools(&pools, index, now);
        // Empty, and long enough for both definitions.
        if let Some(journal) = reserved.journals.get(&index) {
            provider.journal.set(*journal);
        }
        let journal = Journal::at(provider.journal.get(), &self.journals, &self.memory);
        journal.keep(&*provider);
        for link in new.links.iter().chain(old.iter().filter(goes)) {
            link.keep(&journal);
            journal.keep_rest_once(link.record());
        }
        let operation = Operation { journal: &journal, memory: &self.memory };
        let in_flight = provider.in_flight.get();
        // Slots that the old definition holds go back, and the new one takes its own. Those of a pool that goes are held on.
        let gives = |link: &&Link| link.quota.is_concurrency() && (stays(link.index) || !book.is_pool(link.index));
        old.iter().filter(gives).for_each(|link| link.quota.give_slots(in_flight));
        for (quota, before) in former.iter().filter(|(quota, _)| quota.is_concurrency()) {
            if stays(before.quota) {
                let held = provider.leases.active(&self.leases).filter(|lease| before.charged(lease.epoch)).count();
                quota.give_slots(held as u64);
            }
        }
        for link in &new.links {
            let Some(quota) = book.quotas.get(link.index as usize) else { continue };
            // Once: the next provider of a pool finds them in use.
            let marks = reserved.marks.get(&link.index).copied().filter(|marks| !link.quota.uses(*marks));
            QuotaRef::define(&link.quota, &self.marks, &quota.config, marks, &journal, now);
            link.quota.pool.set(quota.pool_name.map_or(0, |name| name + 1));
        }
        provider.peak_until.set(0);
        provider.epoch.set(entry.epoch);
        provider.cooldown_secs.set(entry.cooldown_seconds);
        new.links.iter().filter(|link| link.quota.is_concurrency()).for_each(|link| link.quota.take_slots(in_flight));
        operation.end();
        drop((held, guard));
        new.journal = Journal::at(provider.journal.get(), &self.journals, &self.memory);
        match all.get_mut(index as usize) {
            Some(old) => *old = new,
            None => all.push(new),
        }
        Some(())
    }
}

/// For what others have left half done.
#[cfg(unix)]
impl State {
    /// Puts a book in force of which another process may have defined a part. `None`, with nothing changed, if there is no room.
    pub(crate) fn put_in_force(&self, registry: &mut Registry, book: Book, now: Now) -> Option<()> {
        let all: Vec<_> = (0..book.providers.len() as u32).collect();
        // What was begun is undone before what is missing is counted.
        for index in &all {
            let _guard = self.providers.get(*index as usize).map(|provider| self.lock_provider(*index, provider));
        }
        // There was room for it before it was announced.
        let reserved = self.reserve(&book, &all)?;
        registry.wired.clear();
        registry.enforce(book, &all, &reserved, self, now)?;
        for (index, entry) in (0..).zip(&registry.book.quotas) {
            let Some(quota) = self.quotas.get(index as usize) else { continue };
            if entry.pool_name.is_some() {
                let _guard = quota.lock.lock(self.memory.process(), |holder| self.rescue_pool(quota, holder));
                quota.reserve_anew(self.reserved(&registry.book, index));
            } else if let Some(owner) = registry.book.owner(index) {
                let Some(provider) = self.providers.get(owner as usize) else { continue };
                let _guard = self.lock_provider(owner, provider);
                quota.reserve_anew(self.reserved(&registry.book, index));
            }
        }
        Some(())
    }

    /// What the leases in flight have reserved on a quota, which is locked.
    pub(crate) fn reserved(&self, book: &Book, quota: u32) -> u64 {
        let Some(dimension) = book.quotas.get(quota as usize).map(|quota| quota.config.dimension) else { return 0 };
        let mut sum = 0u64;
        for (entry, index) in book.providers.iter().zip(0..) {
            let Some(provider) = self.providers.get(index) else { continue };
            let since = entry.links.iter().find(|link| link.quota == quota).map(|link| match dimension {
                Dimension::Concurrency => 0,
                _ => link.since,
            });
            let charged = |lease: &Grant| {
                since.is_some_and(|since| since <= u64::from(lease.epoch))
                    || entry.former.iter().any(|former| former.quota == quota && former.charged(lease.epoch))
            };
            for lease in provider.leases.active(&self.leases).filter(charged) {
                sum = sum.saturating_add(lease.usage.of(dimension));
            }
        }
        sum
    }
}

/// For who is alone with records that may be anything.
#[cfg(unix)]
impl State {
    /// Whether there are all records that a book names.
    pub(crate) fn is_as_large_as(&self, book: &Book) -> Option<()> {
        let large = self.providers.len() >= book.providers.len()
            && self.provider_names.len() >= book.providers.len()
            && self.quotas.len() >= book.quotas.len()
            && self.estimators.len() >= book.estimators.len()
            && self.pool_names.len() >= book.pools() as usize;
        large.then_some(())
    }

    /// Beginning and length of all journals; `None` if one is not there.
    pub(crate) fn journal_runs(&self) -> Option<Vec<(usize, usize)>> {
        let journals = self.providers.iter().map(|provider| provider.journal.get());
        let run = |journal: u32| {
            let len = self.journals.get(journal as usize - 1)?.0.get() as usize;
            let there = self.journals.run(journal as usize, len).len();
            (len > 0 && there == len).then_some((journal as usize - 1, len + 1))
        };
        journals.filter(|journal| *journal != 0).map(run).collect()
    }

    /// Gives every lease slot to its provider again, among so many: in flight, or free.
    pub(crate) fn put_leases_right(&self, providers: usize) {
        self.providers.iter().for_each(|provider| provider.leases.clear());
        let mut slots: Vec<_> = (0..self.leases.len()).filter_map(|i| Some((i, self.leases.get(i)?))).collect();
        slots.iter().for_each(|(_, slot)| slot.put_right(providers as u32));
        // Those that expire later go behind.
        slots.sort_by_key(|(_, slot)| slot.expires());
        for (index, slot) in slots {
            if let Some(provider) = self.providers.get(slot.provider() as usize) {
                provider.leases.put_back(&self.leases, index, slot);
            }
        }
    }
}
