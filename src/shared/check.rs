//! Putting a file right that was not left in order: its processes died, the host did, or a few bytes are wrong.
//!
//! What a dead process was about to do is undone. Then everything that follows from something else is computed anew, and
//! what makes no sense is forgotten, so that no content of a file can do harm: leases from their slots, slots in use from
//! leases, sums from marks.

use std::sync::Arc;

use super::file::NO_BOOK;
use crate::estimate::Estimator;
use crate::lock::Lock;
use crate::memory::Memory;
use crate::quota::Quota;
use crate::state::State;

/// Puts all records right. Nobody else uses them. What is wrong beyond that.
pub(super) fn put_right(memory: &Arc<Memory>) -> Result<(), &'static str> {
    let damaged = "is damaged: its records contradict its configuration";
    let sharing = memory.sharing().ok_or(damaged)?;
    let book = sharing.present_book(memory).ok_or(NO_BOOK)?;
    let state = State::new(memory.clone());
    state.is_as_large_as(&book).ok_or(damaged)?;
    undo_all(&state);
    // What was undone may have been anything.
    sharing.is_sound(memory)?;
    free_locks(&state, Lock::holder);
    // What no book has named yet will be taken for new.
    state.providers.clear_from(book.providers.len());
    state.quotas.clear_from(book.quotas.len());
    state.estimators.clear_from(book.estimators.len());
    // Where a change was broken off, records may lack what is reserved for them: who takes over the book defines all.
    let is_broken_off = !state.head().generation.get().is_multiple_of(2);
    for (quota, index) in book.quotas.iter().zip(0..) {
        let record = state.quotas.get(index).ok_or(damaged)?;
        let (at, len) = record.marks_run();
        let has_room = record.has_room_for(&quota.config) || (is_broken_off && len < Quota::MOST_MARKS);
        if !has_room || state.marks.run(at, len).len() != len {
            return Err(damaged);
        }
    }
    no_run_overlaps(&state).ok_or(damaged)?;
    state.put_leases_right(book.providers.len());
    for (entry, index) in book.providers.iter().zip(0..) {
        let provider = state.providers.get(index).ok_or(damaged)?;
        provider.put_right(entry, &state.leases);
    }
    state.estimators.iter().for_each(Estimator::put_right);
    for (index, quota) in (0..).zip(&book.quotas) {
        if let Some(record) = state.quotas.get(index as usize) {
            record.put_right(&quota.config, &state.marks, state.reserved(&book, index), is_broken_off);
            record.pool.set(quota.pool_name.map_or(0, |name| name + 1));
        }
    }
    let head = state.head();
    head.next_expiry.set(0);
    head.next_tick.set(0);
    head.knowing.set(state.estimators.iter().filter(|estimator| estimator.knows()).count() as u64);
    Ok(())
}

/// Undoes what was begun, from the beginning: a provider of which nothing is known is not named by the book yet.
fn undo_all(state: &State) {
    (0..state.providers.len()).for_each(|index| state.undo(index as u32));
}

/// Frees all locks that are held by whom `from` says.
fn free_locks(state: &State, from: impl Fn(&Lock) -> u64) {
    let free = |lock: &Lock| drop(lock.seize(from(lock), 1));
    state.providers.iter().for_each(|provider| free(&provider.lock));
    state.quotas.iter().for_each(|quota| free(&quota.lock));
    state.head().tables.iter().for_each(|table| free(&table.lock));
    free(&state.head().changing);
}

/// Ends what threads of this process were doing when it went on with another program, while others use the file: whoever waits
/// for them goes on.
pub(super) fn end_lost_threads(memory: &Arc<Memory>) {
    let (state, this) = (State::new(memory.clone()), memory.process());
    (0..state.providers.len()).for_each(|index| state.take_over(index as u32, this));
    free_locks(&state, |_| this);
}

/// Marks and journals of different owners lie apart.
fn no_run_overlaps(state: &State) -> Option<()> {
    let apart = |mut runs: Vec<(usize, usize)>| {
        runs.sort_unstable();
        runs.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
    };
    let marks = state.quotas.iter().map(Quota::marks_run).filter(|run| run.1 > 0).collect();
    (apart(marks) && apart(state.journal_runs()?)).then_some(())
}
