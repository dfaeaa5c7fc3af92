//! The results as text.

use std::fmt::Write;

use crate::results::{Row, total, values};
use crate::router::NAMES;
use crate::tally::Measure;

/// The table of a measure: a row for each scenario, a column for each router.
pub fn table(measure: &Measure, rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.scenario.len()).max().unwrap_or(0).max("scenario".len());
    let mut text = format!("{}\n\n{:<width$}", measure.title, "scenario");
    for name in NAMES {
        cell(&mut text, name);
    }
    text.push('\n');
    let total = (rows.len() > 1).then(|| total(rows));
    for row in rows.iter().chain(&total) {
        text += &format!("{:<width$}", row.scenario);
        for value in values(row, measure) {
            cell(&mut text, &if measure.is_share { format!("{value:.3}") } else { format!("{value:.2}") });
        }
        text.push('\n');
    }
    text
}

fn cell(text: &mut String, content: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{content:>15}");
}
