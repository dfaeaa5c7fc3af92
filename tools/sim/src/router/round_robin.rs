//! One after the other.

use super::{Ask, Choice, Documented, Reply, Router};

/// Sends to the providers in turn, whatever comes back.
pub struct RoundRobin {
    providers: usize,
    next: usize,
}

impl RoundRobin {
    /// Begins with the first.
    pub fn new(documented: &[Documented]) -> Self {
        Self { providers: documented.len(), next: 0 }
    }
}

impl Router for RoundRobin {
    fn choose(&mut self, _: u64, ask: &Ask) -> Choice {
        for _ in 0..self.providers {
            let provider = self.next;
            self.next = (self.next + 1) % self.providers;
            if ask.avoid != Some(provider) {
                return Choice::Send { provider, ticket: 0 };
            }
        }
        Choice::Wait(None)
    }

    fn settle(&mut self, _: u64, _: &Reply<'_>) {}
}
