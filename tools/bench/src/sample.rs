//! Times two sides of a comparison in turns.
//!
//! Not criterion, the field's standard: it measures one benchmark after the other, seconds apart, so that whatever else
//! the machine does meanwhile lands on one side only, and it prints no table of two sides. Here short batches alternate
//! (A B A B …), so that both sides meet the same disturbances, and medians leave out the batches that were hit.

use std::time::{Duration, Instant};

/// Long enough that reading the clock twice does not show, short enough that most batches are not interrupted.
const BATCH: Duration = Duration::from_micros(200);

/// One side: runs its operation so many times in a row.
pub type Side = Box<dyn FnMut(u64)>;

/// Runs all sides in turns for `budget` altogether; the median nanoseconds per operation of each.
pub fn medians(sides: &mut [Side], budget: Duration) -> Vec<f64> {
    let sizes: Vec<u64> = sides.iter_mut().map(batch_size).collect();
    let mut samples = vec![Vec::new(); sides.len()];
    let start = Instant::now();
    while start.elapsed() < budget {
        for ((side, &size), samples) in sides.iter_mut().zip(&sizes).zip(&mut samples) {
            samples.push(time(side, size).as_nanos() as f64 / size as f64);
        }
    }
    samples.iter_mut().map(|samples| median(samples)).collect()
}

fn time(side: &mut Side, size: u64) -> Duration {
    let start = Instant::now();
    side(size);
    start.elapsed()
}

/// How many operations make a batch. Finding out also warms the caches.
fn batch_size(side: &mut Side) -> u64 {
    let mut size = 1;
    while time(side, size) < BATCH {
        size *= 2;
    }
    size
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
