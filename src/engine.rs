//! The engine: choosing, reserving, settling, observing.

use std::ffi::{CStr, c_char};
use std::hash::{BuildHasher, Hasher, RandomState};
#[cfg(unix)]
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::book::{Book, FULL};
use crate::choice::{Deciding, lowest_latency};
use crate::clock::{Clock, Now};
use crate::config::{Change, NS_PER_MS, NS_PER_SEC, Settings};
pub use crate::decision::{Candidates, Estimate, HeldBy, Rank, Ranked, Report, Routed};
use crate::error::Error;
use crate::gate::{Gate, Reading};
pub use crate::inspect::{Metrics, ProviderState, QuotaState};
use crate::judge::Question;
use crate::lease::LeaseId;
use crate::memory::Memory;
use crate::per_process::PerProcess;
use crate::provider::Locked;
pub use crate::quota::LimitSource;
use crate::registry::{Registry, Row};
use crate::shared::StateFile;
#[cfg(unix)]
use crate::shared::{self, Condition, Sharing, process};
use crate::state::{NO_LEASE, State};
use crate::usage::Usage;

/// An engine: see the crate's documentation. Every method may be called on any thread at any time.
pub struct Engine {
    clock: Arc<dyn Clock>,
    registry: PerProcess<Gate<Registry>>,
    /// Whether a quota needs the calendar, so that the wall clock is read.
    needs_calendar: AtomicBool,
    pub(crate) state: State,
}

impl Engine {
    /// # Errors
    /// [`Error::InvalidConfig`] if the settings are out of range.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        settings.validate()?;
        let engine = Self::with(Memory::heap().into(), clock);
        engine.begin();
        engine.configure(|book| Ok((Book { settings, ..book.clone() }, Vec::new())))?;
        Ok(engine)
    }

    /// An engine whose state lives in a file, shared by all processes that open it: what one counts, all count. The clock must
    /// be the same for all. Settings replace those in force, unless all of them are the default: who only looks gives none.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the settings are out of range, [`Error::StateFile`] if the file cannot be used,
    /// [`Error::Capacity`] if it is too small or used by too many.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>, file: &StateFile) -> Result<Self, Error> {
        settings.validate()?;
        #[cfg(not(unix))]
        return Err(Error::StateFile(format!("'{}': this system has no shared state", file.path.display())));
        #[cfg(unix)]
        Self::open_shared(settings, clock, file)
    }

    #[cfg(unix)]
    fn open_shared(settings: Settings, clock: Arc<dyn Clock>, file: &StateFile) -> Result<Self, Error> {
        let (memory, condition, locked) = Sharing::open(file, &Book { settings: settings.clone(), ..Book::default() })?;
        let engine = Self::with(memory, clock);
        match condition {
            Condition::New => engine.begin(),
            Condition::Used => {}
            Condition::Left | Condition::Abandoned => engine.go_on(),
        }
        // Others are not waited for while it is locked.
        let locked = Some(locked).filter(|_| condition != Condition::Used);
        if let Some(file) = engine.state.memory.sharing().filter(|_| locked.is_none()) {
            file.is_readable(&engine.state.memory)?;
        }
        engine.catch_up();
        let (registry, now) = engine.enter();
        if condition == Condition::Abandoned {
            // Nobody lives who could settle them, and nobody else has come yet.
            let _ = engine.state.reclaim(&registry.wired, now, |_| true);
        }
        drop(locked);
        for gone in engine.state.memory.sharing().map(|file| file.users().gone()).unwrap_or_default() {
            engine.forget(&registry, gone, now);
        }
        drop(registry);
        if settings != Settings::default() {
            engine.configure(|book| Ok((Book { settings, ..book.clone() }, Vec::new())))?;
        }
        Ok(engine)
    }

    /// An engine on a copy of a state file as it is now, to look at: those who use the file do not notice.
    ///
    /// # Errors
    /// [`Error::StateFile`] if there is none that can be read.
    #[cfg(unix)]
    pub fn copy_of(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let engine = Self::with(shared::copy(path)?, clock);
        engine.go_on();
        // It shows who uses the file, and looks after nobody.
        engine.state.head().next_tick.set(u64::MAX);
        engine.catch_up();
        Ok(engine)
    }

    fn with(memory: Arc<Memory>, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            registry: PerProcess::new(Gate::new(Registry::default())),
            needs_calendar: AtomicBool::new(false),
            state: State::new(memory),
        }
    }

    /// Time begins.
    fn begin(&self) {
        // Makes lease numbers differ between engines, so that mixing them up is noticed: also between those of two processes,
        // of which one may be the child of the other, and of two copies of the library.
        static ENGINES: AtomicU64 = AtomicU64::new(1);
        static RANDOM: OnceLock<u64> = OnceLock::new();
        let random = *RANDOM.get_or_init(|| RandomState::new().build_hasher().finish());
        let process = random ^ u64::from(std::process::id()) << 32;
        let number = process.wrapping_add(ENGINES.fetch_add(1, Ordering::Relaxed));
        let head = self.state.head();
        let next_tick = if self.state.memory.is_shared() { 0 } else { u64::MAX };
        // Spreads numbers that follow each other over all bits (the multiplier is 2^64 / golden ratio, as in Fibonacci hashing).
        head.seed.set(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 26);
        head.start.set(self.clock.monotonic_ns());
        head.first.set(Now::FIRST_MONO);
        head.next_expiry.set(u64::MAX);
        head.next_tick.set(next_tick);
    }

    /// Time goes on where the last process left it, also if the host was started since.
    #[cfg(unix)]
    fn go_on(&self) {
        let (clock_ns, unix_ns) = (self.clock.monotonic_ns(), self.clock.unix_ns());
        let time = self.state.memory.sharing().and_then(|file| file.time_goes_on(clock_ns, unix_ns));
        if let Some(now) = time {
            self.state.head().start.set(clock_ns);
            self.state.head().first.set(now);
        }
        self.state.head().next_tick.set(0);
    }

    /// Applies a change of configuration, whole or not at all. Usage, health and leases stay. What is defined as before is
    /// left alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn apply(&self, change: Change) -> Result<(), Error> {
        self.configure(|book| book.with(&change))
    }

    /// Removes a provider, also from every capability. Its leases can still be settled.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    pub fn remove_provider(&self, name: &str) -> Result<(), Error> {
        self.configure(|book| Ok((book.without_provider(name)?, Vec::new())))
    }

    /// Removes a capability.
    ///
    /// # Errors
    /// [`Error::UnknownCapability`].
    pub fn remove_capability(&self, name: &str) -> Result<(), Error> {
        self.configure(|book| Ok((book.without_capability(name)?, Vec::new())))
    }

    /// Puts another book in force, of which some providers are defined anew.
    fn configure(&self, edit: impl FnOnce(&Book) -> Result<(Book, Vec<u32>), Error>) -> Result<(), Error> {
        let state = &self.state;
        let now = self.now();
        self.at_home();
        self.registry.get().write(|registry| {
            let _changing = state.memory.lock(&state.head().changing);
            self.catch_up_locked(registry, now);
            let (mut book, changed) = edit(&registry.book)?;
            if book == registry.book {
                return Ok(());
            }
            state.forget_settled(&mut book, &changed);
            let reserved = state.reserve(&book, &changed).ok_or(state.full(FULL))?;
            #[cfg(unix)]
            if let Some(file) = state.memory.sharing() {
                file.announce(&state.memory, &book)?;
            }
            registry.enforce(book, &changed, &reserved, state, now).ok_or(state.full(FULL))?;
            self.published(registry);
            Ok(())
        })
    }

    /// What was announced is in force.
    fn published(&self, registry: &mut Registry) {
        #[cfg(unix)]
        if let Some(file) = self.state.memory.sharing() {
            registry.generation = file.publish();
        }
        self.needs_calendar.store(registry.needs_calendar, Ordering::Relaxed);
    }

    /// Takes over what another process has configured.
    fn catch_up(&self) {
        let now = self.now();
        self.registry.get().write(|registry| {
            let _changing = self.state.memory.lock(&self.state.head().changing);
            self.catch_up_locked(registry, now);
        });
    }

    fn catch_up_locked(&self, registry: &mut Registry, now: Now) {
        #[cfg(unix)]
        if let Some(file) = self.state.memory.sharing() {
            let generation = self.state.head().generation.get();
            if generation == registry.generation {
                return;
            }
            registry.generation = generation;
            let adopt = |registry: &mut Registry, book: Book| {
                let _ = registry.adopt(book, &self.state);
                self.needs_calendar.store(registry.needs_calendar, Ordering::Relaxed);
            };
            // If there is none, somebody else wrote to the file. What is known goes on.
            let Some(book) = file.book(&self.state.memory, generation) else { return };
            if generation.is_multiple_of(2) {
                adopt(registry, book);
            } else {
                // Who announced it is gone, and may have defined some of it: all is defined again, from what was before.
                if let Some(before) = file.book(&self.state.memory, generation - 1) {
                    adopt(registry, before);
                }
                if self.state.put_in_force(registry, book, now).is_some() {
                    self.published(registry);
                }
            }
        }
        #[cfg(not(unix))]
        let _ = (registry, now);
    }

    /// The record of a registered provider.
    pub fn provider_id(&self, name: impl AsRef<[u8]>) -> Option<u32> {
        self.enter().0.provider(name.as_ref()).ok()
    }

    /// The name of a provider's record; empty if there is none. Valid as long as the engine.
    pub fn provider_name(&self, provider: u32) -> &CStr {
        self.state.provider_name(provider)
    }

    /// The same, NUL-terminated.
    #[inline]
    pub(crate) fn provider_name_ptr(&self, provider: u32) -> *const c_char {
        self.state.provider_name_ptr(provider)
    }

    /// Chooses a provider and changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownCapability`], [`Error::InvalidArgument`].
    pub fn select(
        &self,
        capability: impl AsRef<[u8]>,
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
    ) -> Result<Routed, Error> {
        let mut routed = Routed::default();
        self.select_into(capability.as_ref(), estimate, candidates, &mut routed)?;
        Ok(routed)
    }

    /// The same, written in place.
    #[inline]
    pub(crate) fn select_into(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
        out: &mut Routed,
    ) -> Result<(), Error> {
        self.route(capability, estimate, candidates, out, |locked, _, _, _| locked.provider.count_select()).map(drop)
    }

    /// Chooses a provider and reserves what the request will use.
    ///
    /// # Errors
    /// [`Error::UnknownCapability`], [`Error::InvalidArgument`], [`Error::Capacity`].
    pub fn acquire(
        &self,
        capability: impl AsRef<[u8]>,
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
    ) -> Result<Routed, Error> {
        let mut routed = Routed::default();
        self.acquire_into(capability.as_ref(), estimate, candidates, &mut routed)?;
        Ok(routed)
    }

    /// The same, written in place.
    #[inline]
    pub(crate) fn acquire_into(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        candidates: Option<&mut dyn Candidates>,
        out: &mut Routed,
    ) -> Result<(), Error> {
        let mut lease = None;
        let taken = self.route(capability, estimate, candidates, out, |locked, row, usage, settings| {
            lease = locked.grant(usage, row.estimator, settings);
        })?;
        if taken && lease.is_none() {
            return Err(self.state.full(Error::Capacity("leases in flight")));
        }
        out.lease = lease;
        Ok(())
    }

    /// Decides, and takes the chosen provider, if there is one: `take` runs while it is locked and can take the request.
    #[inline]
    fn route(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        mut candidates: Option<&mut dyn Candidates>,
        out: &mut Routed,
        mut take: impl FnMut(&Locked<'_>, &Row, &Usage, &Settings),
    ) -> Result<bool, Error> {
        match self.try_route(capability, estimate, &mut candidates, out, &mut take)? {
            Some(taken) => Ok(taken),
            None => self.route_again(capability, estimate, candidates, out, &mut take),
        }
    }

    #[cold]
    fn route_again(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        mut candidates: Option<&mut dyn Candidates>,
        out: &mut Routed,
        mut take: &mut dyn FnMut(&Locked<'_>, &Row, &Usage, &Settings),
    ) -> Result<bool, Error> {
        loop {
            if let Some(taken) = self.try_route(capability, estimate, &mut candidates, out, &mut take)? {
                return Ok(taken);
            }
        }
    }

    /// `None` if nothing was taken and the configuration is not in force any more.
    #[inline]
    fn try_route(
        &self,
        capability: &[u8],
        estimate: &Estimate<'_>,
        candidates: &mut Option<&mut dyn Candidates>,
        out: &mut Routed,
        take: &mut impl FnMut(&Locked<'_>, &Row, &Usage, &Settings),
    ) -> Result<Option<bool>, Error> {
        let (registry, now) = self.enter();
        let capability = registry.capability(capability)?;
        if !(0.0..1.0).contains(&estimate.headroom) {
            return Err(Error::InvalidArgument("headroom must be at least 0 and below 1"));
        }
        let settings = &registry.settings;
        let told;
        let told = if estimate.usage.is_empty() {
            &Usage::REQUEST
        } else {
            told = estimate.usage.or(&Usage::NONE);
            &told
        };
        let deciding = Deciding {
            state: &self.state,
            all: &registry.wired,
            capability,
            question: Question { estimate, settings, lowest_latency: lowest_latency(capability), told },
            now,
        };
        let take = |locked: &Locked<'_>, row: &Row, usage: &Usage| take(locked, row, usage, settings);
        out.total = capability.rows.len() as u32;
        let taken = match candidates {
            Some(candidates) => deciding.explain(&mut **candidates, &mut out.best, take),
            None => deciding.decide(&mut out.best, take),
        };
        if !taken {
            if self.is_outdated(&registry) {
                return Ok(None);
            }
            self.state.head().none_available.0.count();
        }
        Ok(Some(taken))
    }

    /// Settles a lease whose request was sent.
    ///
    /// # Errors
    /// [`Error::StaleLease`].
    #[inline]
    pub fn complete(&self, lease: LeaseId, report: &Report<'_>) -> Result<(), Error> {
        self.settle(lease, |locked, settings| {
            locked.complete(lease, |grant| {
                if report.outcome.is_rejection() || !report.usage.is_empty() {
                    locked.correct(grant, &report.actual(&grant.usage));
                }
                let latency = report.latency_ns.unwrap_or(locked.now.mono.saturating_sub(grant.granted));
                locked.learn_from(report, grant, Some(latency), settings);
            })
        })
    }

    /// Gives back a lease whose request was not sent.
    ///
    /// # Errors
    /// [`Error::StaleLease`].
    pub fn cancel(&self, lease: LeaseId) -> Result<(), Error> {
        self.settle(lease, |locked, _| locked.cancel(lease))
    }

    /// Reports a request that was sent without a lease.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`].
    #[inline]
    pub fn observe(&self, provider: impl AsRef<[u8]>, report: &Report<'_>) -> Result<(), Error> {
        self.with_provider(provider.as_ref(), |locked, settings| {
            let request = locked.unleased(report.usage.or(&Usage::NONE), report.latency_ns);
            locked.observe_usage(&request);
            locked.learn_from(report, &request, report.latency_ns, settings);
        })
    }

    #[inline]
    pub(crate) fn with_provider<R>(&self, name: &[u8], work: impl Fn(&Locked<'_>, &Settings) -> R) -> Result<R, Error> {
        let which = |registry: &Registry| registry.provider(name);
        self.try_with(which, NO_LEASE, &work)
            .unwrap_or_else(|| self.again(which, NO_LEASE, &work))?
            .ok_or(Error::UnknownProvider)
    }

    /// Works with a provider, if it is there, and may end a lease of a definition; `None` if the configuration is not in force
    /// any more.
    #[inline]
    #[allow(clippy::type_complexity, reason = "three ways in which there is no result")]
    fn try_with<R>(
        &self,
        which: impl Fn(&Registry) -> Result<u32, Error>,
        epoch: u64,
        work: impl Fn(&Locked<'_>, &Settings) -> R,
    ) -> Option<Result<Option<R>, Error>> {
        let (registry, now) = self.enter();
        let index = match which(&registry) {
            Ok(index) => index,
            Err(why) => return Some(Err(why)),
        };
        let work = |locked: Locked<'_>| work(&locked, &registry.settings);
        let done = self.state.locked_for_lease(&registry.wired, index, now, epoch, work);
        if done.is_none() && self.is_outdated(&registry) { None } else { Some(Ok(done)) }
    }

    #[cold]
    fn again<R>(
        &self,
        which: impl Fn(&Registry) -> Result<u32, Error>,
        epoch: u64,
        work: &dyn Fn(&Locked<'_>, &Settings) -> R,
    ) -> Result<Option<R>, Error> {
        loop {
            if let Some(done) = self.try_with(&which, epoch, work) {
                return done;
            }
        }
    }

    /// Milliseconds since the Unix epoch, by the engine's clock.
    pub fn unix_ms(&self) -> u64 {
        self.clock.unix_ns() / NS_PER_MS
    }

    /// The configuration, held still, and the time, read before any lock: a clock may be the caller's code.
    #[inline(always)]
    pub(crate) fn enter(&self) -> (Reading<'_, Registry>, Now) {
        self.at_home();
        let (head, mono) = (self.state.head(), self.mono());
        let (with_calendar, tick) = (self.needs_calendar.load(Ordering::Relaxed), head.next_tick.get() <= mono);
        let now = Now { mono, unix: if with_calendar || tick { self.clock.unix_ns() } else { 0 } };
        let registry = self.registry.get().read();
        if self.is_outdated(&registry) || (registry.needs_calendar && !with_calendar) {
            drop(registry);
            return self.enter_again();
        }
        if tick || head.next_expiry.get() <= mono {
            self.look_after(&registry, now, tick);
        }
        (registry, now)
    }

    #[cold]
    fn enter_again(&self) -> (Reading<'_, Registry>, Now) {
        self.catch_up();
        self.enter()
    }

    /// Whether another process has configured something since.
    #[inline]
    fn is_outdated(&self, registry: &Registry) -> bool {
        self.state.head().generation.get() != registry.generation
    }

    /// In a forked child, what a process has for itself is made anew.
    #[inline]
    fn at_home(&self) {
        if !self.registry.is_at_home() {
            self.move_in();
        }
    }

    #[cold]
    fn move_in(&self) {
        self.registry.move_in(|| {
            #[cfg(unix)]
            if let Some(file) = self.state.memory.sharing() {
                let me = file.users().new_user();
                self.state.memory.become_user(me);
                file.join(me);
                return Some(Gate::new(Registry::default()));
            }
            None
        });
    }

    /// What somebody has to do from time to time: end the leases that have expired, and with each tick those of users of the state
    /// that are gone.
    #[cold]
    fn look_after(&self, registry: &Registry, now: Now, tick: bool) {
        let head = self.state.head();
        let mut expire = head.next_expiry.get() <= now.mono;
        #[cfg(unix)]
        if let Some(file) = self.state.memory.sharing().filter(|_| tick && head.next_tick.get() <= now.mono) {
            let last_tick = head.next_tick.get().saturating_sub(TICK_NS);
            let a_second_begins = last_tick / NS_PER_SEC != now.mono / NS_PER_SEC;
            // Who computed when the next lease expires may have died before it was done.
            expire |= a_second_begins;
            head.next_tick.set(now.mono.saturating_add(TICK_NS));
            file.note_time(now.mono, now.unix);
            for gone in (0..AT_ONCE).map_while(|_| file.next_if_gone(self.state.memory.process())) {
                self.forget(registry, gone, now);
            }
            if a_second_begins {
                self.look_after_unlisted(file, registry, now);
            }
        }
        // Of all providers: their leases may hold slots of a pool that others wait for.
        if expire {
            self.state.expire_leases(&registry.wired, now);
        }
    }

    /// Ends the leases of a user of the state that is gone, and forgets it when all are ended.
    #[cfg(unix)]
    fn forget(&self, registry: &Registry, gone: u64, now: Now) {
        if let Some(file) = self.state.memory.sharing()
            && self.state.reclaim(&registry.wired, now, |user| user == gone)
        {
            file.users().strike_out(gone);
        }
    }

    /// More users than the list has places, and those whose place another took when they were gone.
    #[cfg(unix)]
    fn look_after_unlisted(&self, file: &Sharing, registry: &Registry, now: Now) {
        let me = self.state.memory.user();
        if !file.users().lists(me) {
            file.join(me);
        }
        let _ = self.state.reclaim(&registry.wired, now, |user| !file.users().lists(user) && process::is_dead(user));
    }

    /// The time with the calendar, as changes of the configuration need it.
    fn now(&self) -> Now {
        let unix = self.clock.unix_ns();
        Now { mono: self.mono(), unix }
    }

    #[inline]
    fn mono(&self) -> u64 {
        let head = self.state.head();
        let since_start = self.clock.monotonic_ns().saturating_sub(head.start.get());
        since_start.saturating_add(head.first.get()).min(Now::LAST_MONO)
    }

    #[inline]
    fn settle(&self, lease: LeaseId, work: impl Fn(&Locked<'_>, &Settings) -> Option<()>) -> Result<(), Error> {
        let slot = self.state.leases.get(lease.index()).ok_or(Error::StaleLease)?;
        // If the lease is out, it is the slot's.
        let (which, epoch) = (|_: &Registry| Ok(slot.provider()), slot.epoch());
        self.try_with(which, epoch, &work)
            .unwrap_or_else(|| self.again(which, epoch, &work))?
            .flatten()
            .ok_or(Error::StaleLease)
    }
}

/// How often somebody looks after the other processes: after one, or after so many in a row that are gone.
const TICK_NS: u64 = 20 * NS_PER_MS;
#[cfg(unix)]
const AT_ONCE: u32 = 16;

impl Drop for Engine {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(file) = self.state.memory.sharing()
            // A child that never used it leaves its parent's leases alone.
            && self.registry.is_at_home()
        {
            let unix_ns = self.clock.unix_ns();
            let (registry, now) = self.enter();
            let me = self.state.memory.user();
            let _ = self.state.reclaim(&registry.wired, now, |user| user == me);
            file.note_time(now.mono, unix_ns);
            drop(registry);
            file.leave(&self.state.memory);
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
