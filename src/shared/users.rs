//! The list of those that use a state file.

use std::sync::atomic::{AtomicU64, Ordering};

use super::process::{self, Process, User};
use crate::cell::Cell;
use crate::error::Error;

/// Most users on the list.
const PLACES: usize = 256;

/// Places for users, each 0 or taken. Those that find none go on without: their leases tell of them.
#[repr(transparent)]
pub(crate) struct Users([Cell; PLACES]);

impl Users {
    /// Puts a user on the list, if need be in the place of one that is gone: its leases are those of a user on no list then.
    pub(super) fn enlist(&self, me: User) -> Result<(), Error> {
        let gone = |listed: &&Cell| {
            let user = listed.get();
            process::is_gone(user) && listed.replace(user, me)
        };
        let listed = self.0.iter().find(|listed| listed.replace(0, me)).or_else(|| self.0.iter().find(gone));
        listed.map(drop).ok_or(Error::Capacity("engines on one state file, forked children included: the most is 256"))
    }

    /// A new user of this process: another copy of this library in it may have given the same number.
    pub(crate) fn new_user(&self) -> User {
        let new = std::iter::repeat_with(process::new_user);
        new.take(PLACES + 1).find(|user| !self.lists(*user)).unwrap_or_else(process::new_user)
    }

    /// Whether the threads of this process have ended that used the file, as it went on with another program, and no others use
    /// it yet.
    pub(super) fn has_lost_threads(&self) -> bool {
        self.iter().any(process::is_before_exec) && !self.iter().any(process::is_here)
    }

    /// Takes a user off the list.
    pub(crate) fn strike_out(&self, user: User) {
        for listed in &self.0 {
            listed.replace(user, 0);
        }
    }

    /// Takes all off the list.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|listed| listed.set(0));
    }

    fn iter(&self) -> impl Iterator<Item = User> {
        self.0.iter().map(Cell::get).filter(|user| *user != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    fn living(&self) -> impl Iterator<Item = User> {
        self.iter().filter(|user| !process::is_gone(*user))
    }

    pub(super) fn any_lives(&self) -> bool {
        self.living().next().is_some()
    }

    pub(crate) fn lists(&self, user: User) -> bool {
        self.iter().any(|listed| listed == user)
    }

    /// Those that are gone.
    pub(crate) fn gone(&self) -> Vec<User> {
        self.iter().filter(|user| process::is_gone(*user)).collect()
    }

    /// The next one, if it is gone: none of this process is. `next` tells where to look, and goes on.
    pub(super) fn next_if_gone(&self, next: &AtomicU64, this: Process) -> Option<User> {
        for _ in 0..PLACES {
            let user = self.0[next.fetch_add(1, Ordering::Relaxed) as usize % PLACES].get();
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
