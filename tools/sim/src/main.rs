//! Simulates routers, libgrate among them, against rate-limited providers on a mock clock; prints tables, draws charts.
//!
//! * `catalogue` has the scenarios, in the terms of `scenario`. `input` draws what a seed determines, through `rng`.
//! * `run` plays one router in one scenario, event by event; `provider` and `meter` are the other side, `router` has ours.
//! * `tally` counts and defines the measures; `results`, `table` and `chart` show them.

mod catalogue;
mod chart;
mod input;
mod meter;
mod options;
mod provider;
mod results;
mod rng;
mod router;
mod run;
mod scenario;
mod table;
mod tally;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use input::Input;
use options::{HELP, Options};
use results::Row;
use scenario::Scenario;
use tally::{MEASURES, Tally};

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.help {
        print!("{HELP}\nScenarios:\n");
        catalogue::all().iter().for_each(|scenario| println!("  {}", scenario.name));
        return Ok(());
    }
    let scenarios = options.choose(catalogue::all())?;
    let rows = play(&scenarios, options.seed)?;

    let offered: u64 = rows.iter().map(|row| row.tallies[router::OURS].offered).sum();
    println!("seed {}: {offered} requests in {} scenarios, the same for every router\n", options.seed, rows.len());
    for measure in &MEASURES {
        println!("{}", table::table(measure, &rows));
    }
    print!("{}", results::verdict(&rows));
    if let Some(out) = options.out {
        std::fs::create_dir_all(&out)?;
        for measure in &MEASURES {
            let path = out.join(measure.file);
            std::fs::write(&path, chart::chart(measure, &rows)).map_err(|why| format!("{}: {why}", path.display()))?;
        }
        eprintln!("charts: {}", out.display());
    }
    Ok(())
}

/// Plays every router in every scenario.
fn play(scenarios: &[Scenario], seed: u64) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let input = Input::draw(scenario, seed);
        let mut tallies = [Tally::default(); router::NAMES.len()];
        for (i, tally) in tallies.iter_mut().enumerate() {
            let start = Instant::now();
            *tally = run::run(scenario, &input, router::build(i, scenario)?.as_mut());
            let ms = start.elapsed().as_millis();
            eprintln!("{:<20} {:<14} {:>6} attempts {ms:>5} ms", scenario.name, router::NAMES[i], tally.attempts);
        }
        rows.push(Row { scenario: scenario.name, tallies });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scenario::{MINUTE, Provider, Quota, TroubleKind};

    /// A bit of everything, short.
    fn medley() -> Scenario {
        let quotas = [Quota::fixed(60, MINUTE, 20), Quota::bucket(5, 10), Quota::slots(6)];
        let a = Provider::new("a", 10, quotas).with_headers().shared(0.5).in_trouble(30, 50, TroubleKind::Slow(9.0));
        let b = Provider::new("b", 4, [Quota::sliding(90, MINUTE)]).in_trouble(60, 80, TroubleKind::Silence(0.5));
        Scenario::steady("medley", 120, 2.5, [a, b])
    }

    #[test]
    fn a_seed_determines_every_byte() {
        let output = |seed| {
            let rows = play(&[medley()], seed).expect("every router takes it");
            MEASURES.map(|measure| table::table(&measure, &rows) + &chart::chart(&measure, &rows))
        };
        assert_eq!(output(1), output(1));
        assert_ne!(output(1), output(2));
    }

    #[test]
    fn the_counts_add_up() {
        let rows = play(&[medley()], 3).expect("every router takes it");
        for (tally, name) in rows[0].tallies.iter().zip(router::NAMES) {
            assert_eq!(tally.attempts, tally.served + tally.failed, "{name}");
            assert!(tally.served <= tally.offered && tally.refused <= tally.failed, "{name}");
            assert_eq!(tally.offered, rows[0].tallies[0].offered, "{name}");
            assert!(tally.served > 0, "{name}");
        }
    }

    #[test]
    fn without_limits_all_is_served_at_once() {
        let scenario = Scenario::steady("free", 60, 10.0, [Provider::new("a", 1, [])]);
        let rows = play(&[scenario], 1).expect("every router takes it");
        for (tally, name) in rows[0].tallies.iter().zip(router::NAMES) {
            assert_eq!((tally.served, tally.attempts, tally.failed), (tally.offered, tally.offered, 0), "{name}");
        }
    }
}
