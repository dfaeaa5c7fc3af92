//! Choosing: which providers of a capability are looked at, and which is taken.
//!
//! A close look at a provider takes its lock and forecasts its quotas. What it can score at most is known without: its bound
//! by priority always, and mostly how well off its tightest quota can be (`Provider::peak`). So a decision looks at the one that
//! can score most, and is done if that does score more than any other can.

use crate::clock::Now;
use crate::decision::{Candidates, Ranked};
use crate::judge::{Question, bound, judge};
use crate::provider::Locked;
use crate::registry::{Capability, Row};
use crate::state::{State, Wired};
use crate::usage::Usage;

/// A decision under way.
pub(crate) struct Deciding<'a> {
    pub(crate) state: &'a State,
    pub(crate) all: &'a [Wired],
    pub(crate) capability: &'a Capability,
    pub(crate) question: Question<'a>,
    pub(crate) now: Now,
}

/// A place among the providers of a capability that can be chosen: by score, equals in the order of the list.
#[derive(Clone, Copy)]
struct Place {
    score: f64,
    index: u32,
}

impl Place {
    /// Before all others, and behind all others.
    const ANY: Self = Self { score: f64::INFINITY, index: 0 };
    const NONE: Self = Self { score: f64::NEG_INFINITY, index: u32::MAX };

    /// The best place that a provider can have with at most this score.
    fn at_most(score: f64, row: &Row) -> Self {
        Self { score, index: row.index }
    }

    fn before(&self, other: &Self) -> bool {
        self.score > other.score || (self.score == other.score && self.index < other.index)
    }

    fn beats(&self, ranked: &Ranked) -> bool {
        self.before(&Self { score: ranked.score.total, index: ranked.index })
    }
}

/// What a close look at a provider brought.
#[derive(PartialEq)]
enum Seen {
    /// It is the best, and taken.
    Taken,
    /// It can be chosen.
    Free,
    /// It is held.
    Held,
}

impl Deciding<'_> {
    #[inline]
    fn locked<R>(&self, row: &Row, work: impl FnOnce(Locked<'_>) -> R) -> Option<R> {
        self.state.locked(self.all, row.provider, self.now, work)
    }

    /// The best provider, and whether it is taken; or else the one that frees first. Looks closely only at those that can be
    /// the best: first at the one that can score most, which is mostly seen to be the best while it is locked.
    #[inline]
    pub(crate) fn decide(&self, best: &mut Option<Ranked>, mut take: impl FnMut(&Locked<'_>, &Row, &Usage)) -> bool {
        *best = None;
        let Some((favourite, rival)) = self.favourite() else { return false };
        if self.look(favourite, rival, best.insert(Ranked::NONE), &mut take) == Seen::Taken {
            return true;
        }
        self.decide_among_all(favourite, best, &mut take)
    }

    /// The same after the favourite turned out not to be the best.
    #[inline(never)]
    fn decide_among_all(
        &self,
        favourite: &Row,
        best: &mut Option<Ranked>,
        mut take: &mut dyn FnMut(&Locked<'_>, &Row, &Usage),
    ) -> bool {
        loop {
            let row = self.search(favourite, best);
            match row {
                // If nothing is available, the exact waits are worth their price.
                None => {
                    *best = self.judge_all(|_| ()).map(|(best, _)| best);
                    if best.is_none_or(|best| best.held_by.is_some()) {
                        return false;
                    }
                }
                Some(row) if self.take_again(row, &mut take) => return true,
                Some(_) => {}
            }
        }
    }

    /// The best provider, after a look at those that can be.
    #[cold]
    fn search(&self, favourite: &Row, into: &mut Option<Ranked>) -> Option<&Row> {
        let mut best: Option<(Ranked, &Row)> = None;
        let first = self.capability.rows.iter().filter(|row| row.index == favourite.index);
        let others = self.capability.rows.iter().filter(|row| row.index != favourite.index);
        for row in first.chain(others) {
            if let Some((best, _)) = &best {
                // Nor can those after it, whose bounds are no higher.
                if !Place::at_most(row.bound, row).beats(best) {
                    break;
                }
                if !Place::at_most(bound(row, &self.question, self.now), row).beats(best) {
                    continue;
                }
            }
            let mut ranked = Ranked::NONE;
            if self.look(row, Place::ANY, &mut ranked, &mut |_, _, _| ()) == Seen::Free
                && best.is_none_or(|(best, _)| ranked.rank() < best.rank())
            {
                best = Some((ranked, row));
            }
        }
        *into = best.map(|(best, _)| best);
        best.map(|(_, row)| row)
    }

    /// The provider that can score most, and the best place that another can have.
    #[inline]
    fn favourite(&self) -> Option<(&Row, Place)> {
        let mut rows = self.capability.rows.iter();
        let mut favourite = rows.next()?;
        let mut first = Place::at_most(bound(favourite, &self.question, self.now), favourite);
        let mut second = Place::NONE;
        for row in rows {
            let most = Place::at_most(row.bound, row);
            if !most.before(&first) {
                // No one after it can have a better place either.
                if most.before(&second) {
                    second = most;
                }
                break;
            }
            let place = Place::at_most(bound(row, &self.question, self.now), row);
            if place.before(&first) {
                (favourite, second, first) = (row, first, place);
            } else if place.before(&second) {
                second = place;
            }
        }
        Some((favourite, second))
    }

    /// Looks closely at a provider, and takes it if it comes before `rival`, the best place that another can have.
    #[inline]
    fn look(
        &self,
        row: &Row,
        rival: Place,
        into: &mut Ranked,
        take: &mut impl FnMut(&Locked<'_>, &Row, &Usage),
    ) -> Seen {
        let seen = self.locked(row, |locked| {
            let learned = self.question.usage(&locked, row, self.capability);
            let usage = learned.as_ref().unwrap_or(self.question.told);
            judge(&locked, &self.question, row, usage, false, into);
            if into.held_by.is_some() {
                return Seen::Held;
            }
            if rival.beats(into) {
                return Seen::Free;
            }
            take(&locked, row, usage);
            Seen::Taken
        });
        seen.unwrap_or(Seen::Held)
    }

    /// The same, with every provider told to `candidates`.
    pub(crate) fn explain(
        &self,
        candidates: &mut dyn Candidates,
        into: &mut Option<Ranked>,
        mut take: impl FnMut(&Locked<'_>, &Row, &Usage),
    ) -> bool {
        loop {
            candidates.clear();
            let best = self.judge_all(|ranked| candidates.push(ranked));
            *into = best.map(|(best, _)| best);
            let Some((_, row)) = best.filter(|(best, _)| best.held_by.is_none()) else { return false };
            if self.take_again(row, &mut take) {
                return true;
            }
        }
    }

    /// Judges every provider; the best that can be chosen, or the one that frees first.
    fn judge_all(&self, mut visit: impl FnMut(&Ranked)) -> Option<(Ranked, &Row)> {
        let mut best: Option<(Ranked, &Row)> = None;
        for row in &self.capability.rows {
            let judged = self.locked(row, |locked| {
                let mut ranked = Ranked::NONE;
                let learned = self.question.usage(&locked, row, self.capability);
                let usage = learned.as_ref().unwrap_or(self.question.told);
                judge(&locked, &self.question, row, usage, true, &mut ranked);
                ranked
            });
            let Some(ranked) = judged else { continue };
            visit(&ranked);
            if best.is_none_or(|(best, _)| ranked.rank() < best.rank()) {
                best = Some((ranked, row));
            }
        }
        best
    }

    /// Takes a provider that could take the request when it was looked at. Whether it still could.
    fn take_again(&self, row: &Row, take: &mut impl FnMut(&Locked<'_>, &Row, &Usage)) -> bool {
        self.look(row, Place::NONE, &mut { Ranked::NONE }, take) == Seen::Taken
    }
}

/// The lowest known latency of a capability's providers; 0 if none is known.
#[inline]
pub(crate) fn lowest_latency(capability: &Capability) -> f64 {
    // Numbers that are not negative have the order of their bits. One less, and 0 is the largest.
    let latencies = capability.rows.iter().map(|row| row.record.health.latency_ns().to_bits().wrapping_sub(1));
    f64::from_bits(latencies.fold(u64::MAX, u64::min).wrapping_add(1))
}
