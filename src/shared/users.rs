//! The list of those that use a state file.

use std::sync::atomic::{AtomicU64, Ordering};

use super::process::{self, Process, User};
use crate::cell::Cell;
use crate::error::Error;

/// Most users on the list.
const PLACES: usize = 256;

/// Places for users. Those that find none go on without: their leases tell of them.
#[repr(transparent)]
pub(crate) struct Users([Place; PLACES]);

#[repr(C)]
struct Place {
    /// 0 is nobody.
    user: Cell,
    /// Which program it belongs to, see [`process::program`]. Whoever takes a place holds the file's lock.
    program: Cell,
}

impl Place {
    /// Whether its user was one of this process, before that went on with another program: its threads are gone.
    fn is_before_exec(&self) -> bool {
        self.is_of_this_process() && self.program.get() != process::program()
    }

    fn is_of_this_process(&self) -> bool {
        // The id first: what else this process is has to be asked from the system.
        let user = self.user.get();
        process::pid(user) == std::process::id() && process::of(user) == process::this()
    }

    fn is_gone(&self) -> bool {
        process::is_dead(self.user.get()) || self.is_before_exec()
    }

    fn take(&self, from: User, me: User) -> bool {
        let taken = self.user.replace(from, me);
        if taken {
            self.program.set(process::program());
        }
        taken
    }
}

impl Users {
    /// Puts a user on the list, if need be in the place of one that is gone: its leases are those of a user on no list then.
    pub(super) fn enlist(&self, me: User) -> Result<(), Error> {
        let of_the_gone = |place: &&Place| {
            let user = place.user.get();
            place.is_gone() && place.take(user, me)
        };
        let place = self.0.iter().find(|place| place.take(0, me)).or_else(|| self.0.iter().find(of_the_gone));
        place.map(drop).ok_or(Error::Capacity("engines on one state file, forked children included: the most is 256"))
    }

    /// A new user of this process: another copy of this library in it may have given the same number.
    pub(crate) fn new_user(&self) -> User {
        let new = std::iter::repeat_with(process::new_user);
        new.take(PLACES + 1).find(|user| !self.lists(*user)).unwrap_or_else(process::new_user)
    }

    /// Whether the threads of this process have ended that used the file, as it went on with another program, and no others use
    /// it yet.
    pub(super) fn has_lost_threads(&self) -> bool {
        self.taken().any(Place::is_before_exec)
            && !self.taken().any(|place| place.is_of_this_process() && !place.is_before_exec())
    }

    /// Takes a user off the list.
    pub(crate) fn strike_out(&self, user: User) {
        for place in &self.0 {
            place.user.replace(user, 0);
        }
    }

    /// Takes all off the list.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|place| place.user.set(0));
    }

    fn taken(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().filter(|place| place.user.get() != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken().next().is_none()
    }

    fn living(&self) -> impl Iterator<Item = User> {
        self.taken().filter(|place| !place.is_gone()).map(|place| place.user.get())
    }

    pub(super) fn any_lives(&self) -> bool {
        self.living().next().is_some()
    }

    pub(crate) fn lists(&self, user: User) -> bool {
        self.taken().any(|place| place.user.get() == user)
    }

    /// Those that are gone.
    pub(crate) fn gone(&self) -> Vec<User> {
        self.taken().filter(|place| place.is_gone()).map(|place| place.user.get()).collect()
    }

    /// The next one, if it is gone: none of this process is. `next` tells where to look, and goes on.
    pub(super) fn next_if_gone(&self, next: &AtomicU64, this: Process) -> Option<User> {
        for _ in 0..PLACES {
            let user = self.0[next.fetch_add(1, Ordering::Relaxed) as usize % PLACES].user.get();
            if user != 0 {
                return Some(user).filter(|user| process::of(*user) != this && process::is_dead(*user));
            }
        }
        None
    }

    /// The ids of the processes that live.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self.living().map(process::pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}
