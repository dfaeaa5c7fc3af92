//! The results of all runs.

use crate::router::{NAMES, OURS};
use crate::tally::{GOODPUT, Measure, RATE_LIMITED, Tally};

/// What every router made of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// A tally for each router.
    pub tallies: [Tally; NAMES.len()],
}

/// The share of the best goodput that counts as "as good".
const AS_GOOD: f64 = 0.98;

/// All rows added up.
pub fn total(rows: &[Row]) -> Row {
    let mut total = Row { scenario: "all", tallies: Default::default() };
    for row in rows {
        for (sum, tally) in total.tallies.iter_mut().zip(row.tallies) {
            *sum += tally;
        }
    }
    total
}

/// The row as numbers.
pub fn values(row: &Row, measure: &Measure) -> [f64; NAMES.len()] {
    row.tallies.map(|tally| (measure.of)(&tally))
}

/// In how many scenarios libgrate does what it is for, and where it does not.
pub fn verdict(rows: &[Row]) -> String {
    let fewest = |row: &Row| {
        let values = values(row, &RATE_LIMITED);
        values.iter().all(|value| values[OURS] <= *value)
    };
    let as_good = |row: &Row| {
        let values = values(row, &GOODPUT);
        values.iter().all(|value| values[OURS] >= AS_GOOD * value)
    };
    let line = |what: &str, holds: &dyn Fn(&Row) -> bool| {
        let exceptions: Vec<&str> = rows.iter().filter(|row| !holds(row)).map(|row| row.scenario).collect();
        let count = rows.len() - exceptions.len();
        let but = if exceptions.is_empty() { String::new() } else { format!("; not in {}", exceptions.join(", ")) };
        format!("{} has {what} in {count} of {} scenarios{but}.\n", NAMES[OURS], rows.len())
    };
    line("the fewest 429s (none has fewer)", &fewest)
        + &line(&format!("at least {AS_GOOD} of the best goodput"), &as_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_named() {
        let good = Tally { offered: 100, served: 100, attempts: 100, ..Tally::default() };
        let refused = Tally { refused: 1, failed: 1, ..good };
        let slow = Tally { served: 97, attempts: 97, ..good };
        let row = |scenario, ours| {
            let mut tallies = [good; NAMES.len()];
            tallies[OURS] = ours;
            Row { scenario, tallies }
        };
        let verdict = verdict(&[row("x", good), row("y", refused), row("z", slow)]);
        assert!(verdict.contains("in 2 of 3 scenarios; not in y."), "{verdict}");
        assert!(verdict.contains("in 2 of 3 scenarios; not in z."), "{verdict}");
    }
}
