//! Reacting to failures: what most clients do.

use super::{Answer, Ask, Choice, Documented, Reply, Router, by_priority};
use crate::scenario::SECOND;

/// How long a provider is left alone that does not say how long.
const BENCH: u64 = 30 * SECOND;

/// Sends to the provider of the highest priority that did not fail lately.
pub struct Failover {
    order: Vec<usize>,
    benched_until: Vec<u64>,
}

impl Failover {
    /// Nothing failed yet.
    pub fn new(documented: &[Documented]) -> Self {
        Self { order: by_priority(documented), benched_until: vec![0; documented.len()] }
    }
}

impl Router for Failover {
    fn choose(&mut self, now: u64, ask: &Ask) -> Choice {
        let allowed = self.order.iter().copied().filter(|&i| ask.avoid != Some(i));
        let Some(first) = allowed.min_by_key(|&i| self.benched_until[i].max(now)) else { return Choice::Wait(None) };
        if self.benched_until[first] <= now {
            Choice::Send { provider: first, ticket: 0 }
        } else {
            Choice::Wait(Some(self.benched_until[first] - now))
        }
    }

    fn settle(&mut self, now: u64, reply: &Reply<'_>) {
        if reply.answer != Answer::Served {
            let until = now + reply.retry_after().unwrap_or(BENCH);
            let benched = &mut self.benched_until[reply.provider];
            *benched = until.max(*benched);
        }
    }
}
