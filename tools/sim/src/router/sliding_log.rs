//! What a careful engineer writes: an exact log per documented quota, reserved when a request is sent.

use std::collections::VecDeque;

use super::{Answer, Ask, Choice, Documented, DocumentedQuota, Reply, Router, by_priority};
use crate::scenario::{Dimension, SECOND};

/// How long a provider is left alone that failed, or refused against the books, and does not say how long.
const BENCH: u64 = 5 * SECOND;

/// Sends to the provider of the highest priority whose documented quotas all have room.
pub struct SlidingLog {
    order: Vec<usize>,
    quotas: Vec<Vec<Log>>,
    benched_until: Vec<u64>,
    next_ticket: u64,
}

/// A quota with what was sent in its last window.
struct Log {
    dimension: Dimension,
    limit: u64,
    window: u64,
    /// Time, ticket and units of each request; empty for concurrency.
    entries: VecDeque<(u64, u64, u64)>,
    used: u64,
}

impl SlidingLog {
    /// Nothing was sent yet.
    pub fn new(documented: &[Documented]) -> Self {
        Self {
            order: by_priority(documented),
            quotas: documented.iter().map(|provider| provider.quotas.iter().map(Log::new).collect()).collect(),
            benched_until: vec![0; documented.len()],
            next_ticket: 0,
        }
    }
}

impl Log {
    fn new(quota: &DocumentedQuota) -> Self {
        // A bucket is safe if no time in which it fills up sees more than one bucketful.
        let (limit, window) = match quota.burst {
            Some(burst) => (burst, burst * quota.window / quota.limit),
            None => (quota.limit, quota.window),
        };
        Self { dimension: quota.dimension, limit, window, entries: VecDeque::new(), used: 0 }
    }

    fn units(&self, tokens: u64) -> u64 {
        if self.dimension == Dimension::Tokens { tokens.min(self.limit) } else { 1 }
    }

    /// Nanoseconds until the request fits; `None` if only a reply can tell.
    fn wait(&mut self, now: u64, tokens: u64) -> Option<u64> {
        while let Some(&(_, _, units)) = self.entries.front().filter(|(at, _, _)| at + self.window <= now) {
            self.used -= units;
            self.entries.pop_front();
        }
        let missing = (self.used + self.units(tokens)).saturating_sub(self.limit);
        if missing == 0 {
            return Some(0);
        }
        let mut freed = 0;
        let last = self.entries.iter().find(|(_, _, units)| {
            freed += units;
            freed >= missing
        });
        last.map(|(at, _, _)| at + self.window - now)
    }

    fn enter(&mut self, now: u64, ticket: u64, tokens: u64) {
        let units = self.units(tokens);
        self.used += units;
        if self.dimension != Dimension::Concurrency {
            self.entries.push_back((now, ticket, units));
        }
    }

    /// The reply is there: a slot is free again, and perhaps it is known what was used.
    fn correct(&mut self, ticket: u64, tokens: Option<u64>) {
        match self.dimension {
            Dimension::Requests => {}
            Dimension::Concurrency => self.used -= 1,
            Dimension::Tokens => {
                // Tickets are given in order.
                let found = self.entries.binary_search_by_key(&ticket, |(_, ticket, _)| *ticket);
                if let (Ok(i), Some(tokens)) = (found, tokens) {
                    self.used = self.used - self.entries[i].2 + tokens;
                    self.entries[i].2 = tokens;
                }
            }
        }
    }
}

impl Router for SlidingLog {
    fn choose(&mut self, now: u64, ask: &Ask) -> Choice {
        let mut shortest: Option<u64> = None;
        for &provider in self.order.iter().filter(|&&i| ask.avoid != Some(i)) {
            let mut waits = self.quotas[provider].iter_mut().map(|log| log.wait(now, ask.tokens));
            let benched = self.benched_until[provider].saturating_sub(now);
            let wait = waits.try_fold(benched, |longest, wait| Some(longest.max(wait?)));
            if wait == Some(0) {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.quotas[provider].iter_mut().for_each(|log| log.enter(now, ticket, ask.tokens));
                return Choice::Send { provider, ticket };
            }
            shortest = [shortest, wait].into_iter().flatten().min();
        }
        Choice::Wait(shortest)
    }

    fn settle(&mut self, now: u64, reply: &Reply<'_>) {
        // What a request used that failed on the way is not known.
        let tokens = matches!(reply.answer, Answer::Served | Answer::RateLimited).then_some(reply.tokens);
        self.quotas[reply.provider].iter_mut().for_each(|log| log.correct(reply.ticket, tokens));
        if reply.answer != Answer::Served {
            let until = now + reply.retry_after().unwrap_or(BENCH);
            let benched = &mut self.benched_until[reply.provider];
            *benched = until.max(*benched);
        }
    }
}
