//! Leases: checked handles, and the records behind them.

use crate::cell::{Cell, SmallCell};
#[cfg(unix)]
use crate::clock::Now;
use crate::journal::Journal;
use crate::table::Table;
use crate::usage::{COUNTED, Usage};

/// A lease as the caller holds it: the record's index and its generation. Below 2^63, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(u64);

const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 39;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

impl LeaseId {
    fn new(index: usize, generation: u64) -> Self {
        Self((generation & GENERATION_MASK) << INDEX_BITS | index as u64)
    }

    /// The lease that a number stands for; any number will do, and most are stale.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number that stands for the lease.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// Which record it would be.
    pub(crate) fn index(self) -> usize {
        (self.0 & ((1 << INDEX_BITS) - 1)) as usize
    }
}

/// A lease slot. It belongs to one provider for good, whose lock guards it; only the generation changes hands.
#[derive(Debug, Default)]
// See `Provider`.
#[repr(C, align(128))]
pub(crate) struct Lease {
    provider: SmallCell,
    /// The provider's definition that it was charged on.
    epoch: SmallCell,
    /// Counts the leases that the slot has held. Starts differently in each engine, so that a lease of another is stale.
    /// The highest bits say whether it is out, and whether it is a probe.
    generation: Cell,
    granted: Cell,
    expires: Cell,
    /// The effective time of its charges.
    at: Cell,
    level: SmallCell,
    estimator: SmallCell,
    units: [Cell; COUNTED],
    /// Neighbours in the provider's list of active leases, or the next free slot; index plus 1, 0 is none.
    older: SmallCell,
    newer: SmallCell,
    /// Who was granted it.
    owner: Cell,
}

const ACTIVE: u64 = 1 << 63;
const PROBE: u64 = 1 << 62;

/// What a lease stands for.
#[derive(Clone, Copy)]
pub(crate) struct Grant {
    pub(crate) granted: u64,
    pub(crate) expires: u64,
    pub(crate) at: u64,
    pub(crate) epoch: u32,
    /// Whether it was granted while the provider was half-open or ramping.
    pub(crate) probe: bool,
    /// Leases of the provider that were out then, this one included.
    pub(crate) level: u64,
    /// The estimator of its capability and provider.
    pub(crate) estimator: u32,
    pub(crate) usage: Usage,
}

/// Leases of which a slot changes hands: a slot and its two neighbours.
pub(crate) const TOUCHED: usize = 3;

/// The leases of one provider: a list of the active ones, first to expire first, and a list of free slots.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct LeaseList {
    oldest: SmallCell,
    newest: SmallCell,
    free: SmallCell,
}

impl Lease {
    /// The provider that owns the slot. Set once, before the first lease of the slot is known to anyone.
    pub(crate) fn provider(&self) -> u32 {
        self.provider.get()
    }

    /// The provider's definition that the lease was charged on.
    pub(crate) fn epoch(&self) -> u64 {
        u64::from(self.epoch.get())
    }

    /// The lease that the slot holds; `None` if it holds none.
    fn id(&self, index: usize) -> Option<LeaseId> {
        let word = self.generation.get();
        (word & ACTIVE != 0).then(|| LeaseId::new(index, word))
    }

    /// What the lease stands for.
    #[inline(always)]
    pub(crate) fn grant(&self) -> Grant {
        Grant {
            granted: self.granted.get(),
            expires: self.expires.get(),
            at: self.at.get(),
            epoch: self.epoch.get(),
            probe: self.generation.get() & PROBE != 0,
            level: u64::from(self.level.get()),
            estimator: self.estimator.get(),
            usage: Usage::new(std::array::from_fn(|i| self.units[i].get())),
        }
    }
}

/// For who is alone with records that may be anything.
#[cfg(unix)]
impl Lease {
    pub(crate) fn expires(&self) -> u64 {
        self.expires.get()
    }

    /// Makes sense of the slot. A lease that makes none is free.
    pub(crate) fn put_right(&self, providers: u32) {
        let (granted, at, expires) = (self.granted.get(), self.at.get(), self.expires.get());
        let ordered = granted <= at && granted <= expires && at.max(expires) <= 2 * Now::LAST_MONO;
        let word = self.generation.get();
        if self.provider.get() >= providers || !ordered || word & GENERATION_MASK == 0 {
            self.provider.set(self.provider.get().min(providers.saturating_sub(1)));
            self.generation.set(next_generation(word));
        }
        self.older.set(0);
        self.newer.set(0);
    }
}

/// For who is alone with records that may be anything.
#[cfg(unix)]
impl LeaseList {
    pub(crate) fn clear(&self) {
        [&self.oldest, &self.newest, &self.free].into_iter().for_each(|cell| cell.set(0));
    }

    /// Takes a slot in again that is in no list: behind all active ones, or among the free ones.
    pub(crate) fn put_back(&self, table: &Table<Lease>, index: usize, slot: &Lease) {
        let this = index as u32 + 1;
        if slot.id(index).is_none() {
            slot.newer.set(self.free.get());
            return self.free.set(this);
        }
        slot.older.set(self.newest.get());
        match neighbour(table, self.newest.get()) {
            Some(newest) => newest.newer.set(this),
            None => self.oldest.set(this),
        }
        self.newest.set(this);
    }
}

impl LeaseList {
    /// Takes a slot for a lease of a process; `None` if the table is full.
    #[inline(always)]
    pub(crate) fn add(&self, leases: &Leases<'_>, provider: u32, owner: u64, grant: &Grant) -> Option<LeaseId> {
        let table = leases.table;
        let free = self.free.get();
        let index = match free {
            // Of those who find the last place at the same time, all but one get a slot that has no number.
            0 if table.len() >> INDEX_BITS != 0 => return None,
            0 => table.append(1).filter(|index| index >> INDEX_BITS == 0)?,
            free => (free - 1) as usize,
        };
        let slot = table.get(index)?;
        leases.journal.keep(slot);
        if free == 0 {
            slot.provider.set(provider);
            slot.generation.set(leases.seed.max(1));
        } else {
            self.free.set(slot.newer.get());
        }
        slot.granted.set(grant.granted);
        slot.expires.set(grant.expires);
        slot.at.set(grant.at);
        slot.epoch.set(grant.epoch);
        slot.level.set(u32::try_from(grant.level).unwrap_or(u32::MAX));
        slot.estimator.set(grant.estimator);
        slot.owner.set(owner);
        slot.units.iter().zip(grant.usage.counted()).for_each(|(cell, n)| cell.set(*n));
        let generation = slot.generation.get() & GENERATION_MASK;
        slot.generation.set(generation | ACTIVE | if grant.probe { PROBE } else { 0 });

        // Behind those that expire no later: the newest, unless the time to live was lowered.
        let (mut older, mut newer) = (self.newest.get(), 0);
        while let Some(before) = neighbour(table, older) {
            if before.expires.get() <= grant.expires {
                break;
            }
            (older, newer) = (before.older.get(), older);
        }
        slot.older.set(older);
        slot.newer.set(newer);
        let this = index as u32 + 1;
        self.set_after(leases, older, this);
        self.set_before(leases, newer, this);
        Some(LeaseId::new(index, generation))
    }

    /// The slot of a lease; `None` if it is not active.
    #[inline(always)]
    pub(crate) fn find<'a>(&self, leases: &Leases<'a>, id: LeaseId) -> Option<&'a Lease> {
        leases.table.get(id.index()).filter(|slot| slot.id(id.index()) == Some(id))
    }

    /// Ends a lease of this provider, and frees its slot.
    #[inline(always)]
    pub(crate) fn remove(&self, leases: &Leases<'_>, id: LeaseId, slot: &Lease) {
        leases.journal.keep(slot);
        let (older, newer) = (slot.older.get(), slot.newer.get());
        self.set_after(leases, older, newer);
        self.set_before(leases, newer, older);
        slot.generation.set(next_generation(slot.generation.get()));
        slot.newer.set(self.free.get());
        self.free.set(id.index() as u32 + 1);
    }

    /// Makes `next` follow `slot`, or lead the list if that is 0.
    #[inline]
    fn set_after(&self, leases: &Leases<'_>, slot: u32, next: u32) {
        match leases.neighbour(slot) {
            Some(slot) => slot.newer.set(next),
            None => self.oldest.set(next),
        }
    }

    /// Makes `previous` precede `slot`, or end the list if that is 0.
    #[inline]
    fn set_before(&self, leases: &Leases<'_>, slot: u32, previous: u32) {
        match leases.neighbour(slot) {
            Some(slot) => slot.older.set(previous),
            None => self.newest.set(previous),
        }
    }

    /// The slots of the active leases.
    fn slots<'a>(&'a self, table: &'a Table<Lease>) -> impl Iterator<Item = &'a Lease> + 'a {
        let first = neighbour(table, self.oldest.get());
        std::iter::successors(first, |lease| neighbour(table, lease.newer.get()))
    }

    /// The active leases.
    pub(crate) fn active<'a>(&'a self, table: &'a Table<Lease>) -> impl Iterator<Item = Grant> + 'a {
        self.slots(table).map(Lease::grant)
    }

    /// Leases that are out teach an estimator nothing any more.
    pub(crate) fn forget_estimator(&self, table: &Table<Lease>, estimator: u32) {
        let taught = self.slots(table).filter(|lease| lease.estimator.get() == estimator);
        taught.for_each(|lease| lease.estimator.set(u32::MAX));
    }

    /// The active leases, and who was granted them.
    pub(crate) fn owners<'a>(&'a self, table: &'a Table<Lease>) -> impl Iterator<Item = (LeaseId, u64)> + 'a {
        let first = Some(self.oldest.get()).filter(|link| *link != 0);
        let links = std::iter::successors(first, |link| {
            neighbour(table, *link).map(|lease| lease.newer.get()).filter(|link| *link != 0)
        });
        links.filter_map(|link| {
            let lease = neighbour(table, link)?;
            Some((lease.id(link as usize - 1)?, lease.owner.get()))
        })
    }

    /// The active lease that expires first.
    pub(crate) fn oldest(&self, table: &Table<Lease>) -> Option<(LeaseId, Grant)> {
        let index = (self.oldest.get() as usize).checked_sub(1)?;
        let slot = table.get(index)?;
        Some((slot.id(index)?, slot.grant()))
    }
}

/// Lease slots that are to change.
#[derive(Clone, Copy)]
pub(crate) struct Leases<'a> {
    pub(crate) table: &'a Table<Lease>,
    pub(crate) journal: &'a Journal,
    /// Where the generations of a new slot start.
    pub(crate) seed: u64,
}

impl<'a> Leases<'a> {
    /// The slot that a link leads to, which is to change.
    #[inline]
    fn neighbour(&self, link: u32) -> Option<&'a Lease> {
        let slot = neighbour(self.table, link)?;
        self.journal.keep(slot);
        Some(slot)
    }
}

/// The slot that a link leads to.
#[inline]
fn neighbour(table: &Table<Lease>, link: u32) -> Option<&Lease> {
    table.get((link as usize).checked_sub(1)?)
}

/// The generation after this one; never 0, so that no lease is 0.
fn next_generation(generation: u64) -> u64 {
    match (generation + 1) & GENERATION_MASK {
        0 => 1,
        next => next,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::Memory;

    const SEED: u64 = 77;

    fn grant(granted: u64) -> Grant {
        let usage = Usage::new([1, granted, granted, 0, 0, 0]);
        Grant { granted, expires: granted + 10, at: granted, epoch: 0, probe: false, level: 1, estimator: 0, usage }
    }

    fn settle(list: &LeaseList, leases: &Leases<'_>, id: LeaseId) -> Option<Grant> {
        let slot = list.find(leases, id)?;
        let grant = slot.grant();
        list.remove(leases, id, slot);
        Some(grant)
    }

    #[test]
    fn settles_once_in_any_order() {
        let (table, list) = (Table::new(&Arc::new(Memory::heap())), LeaseList::default());
        let leases = Leases { table: &table, journal: &Journal::default(), seed: SEED };
        let ids: Vec<_> = (0..5).map(|i| list.add(&leases, 3, 1, &grant(i)).unwrap()).collect();
        assert_eq!(table.get(ids[2].index()).unwrap().provider(), 3);
        for i in [2, 0, 4, 1, 3] {
            assert_eq!(settle(&list, &leases, ids[i]).unwrap().granted, i as u64);
            assert!(settle(&list, &leases, ids[i]).is_none());
        }
        assert!(list.oldest(&table).is_none());
    }

    #[test]
    fn a_reused_slot_refuses_the_old_lease() {
        let (table, list) = (Table::new(&Arc::new(Memory::heap())), LeaseList::default());
        let leases = Leases { table: &table, journal: &Journal::default(), seed: SEED };
        let first = list.add(&leases, 0, 1, &grant(1)).unwrap();
        settle(&list, &leases, first).unwrap();
        let second = list.add(&leases, 0, 1, &grant(2)).unwrap();
        assert_eq!(first.index(), second.index());
        assert!(settle(&list, &leases, first).is_none());
        assert_eq!(list.oldest(&table).unwrap().0, second);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn generations_wrap_without_becoming_zero() {
        assert_eq!(next_generation(GENERATION_MASK), 1);
        assert_ne!(LeaseId::new(0, 1).to_raw(), 0);
        assert!(LeaseId::new((1 << INDEX_BITS) - 1, GENERATION_MASK).to_raw() < 1 << 63);
    }
}
