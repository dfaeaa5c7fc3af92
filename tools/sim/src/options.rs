//! The command line.

use std::path::PathBuf;

use crate::scenario::Scenario;

/// What `--help` prints, before the names of the scenarios.
pub const HELP: &str = "\
sim: simulates routers, libgrate among them, against rate-limited providers on a mock clock

Prints a table for each measure, and writes a chart of each as SVG. The same seed gives the same bytes.

  --seed N          seed of arrivals, sizes and service times (default 1)
  --scenario NAME   only this scenario; charts are then written only with --out
  --out DIR         where the charts go (default docs/sim)
  --help            this text
";

const OUT: &str = "docs/sim";

/// The options.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Whether only help is wanted.
    pub help: bool,
    /// The seed.
    pub seed: u64,
    /// The only scenario.
    pub scenario: Option<String>,
    /// Where charts go, if they are wanted.
    pub out: Option<PathBuf>,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong, for the user.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { help: false, seed: 1, scenario: None, out: None };
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
            match option.as_str() {
                "--help" | "-h" => options.help = true,
                "--seed" => {
                    let seed = value()?;
                    options.seed = seed.parse().map_err(|_| format!("the seed '{seed}' is not a number"))?;
                }
                "--scenario" => options.scenario = Some(value()?),
                "--out" => options.out = Some(value()?.into()),
                _ => return Err(format!("unknown option '{option}'; --help tells the options")),
            }
        }
        // A chart of one scenario must not replace that of all unasked.
        if options.scenario.is_none() && options.out.is_none() {
            options.out = Some(OUT.into());
        }
        Ok(options)
    }

    /// The scenarios that are wanted.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn choose(&self, mut scenarios: Vec<Scenario>) -> Result<Vec<Scenario>, String> {
        if let Some(wanted) = &self.scenario {
            let names: Vec<_> = scenarios.iter().map(|scenario| scenario.name).collect();
            scenarios.retain(|scenario| scenario.name == wanted);
            if scenarios.is_empty() {
                return Err(format!("no scenario '{wanted}'; there are {}", names.join(", ")));
            }
        }
        Ok(scenarios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn options_are_read() {
        let all = parse(&[]).expect("nothing is needed");
        assert_eq!(all, Options { help: false, seed: 1, scenario: None, out: Some(OUT.into()) });
        let one = parse(&["--scenario", "outage", "--seed", "7"]).expect("both are known");
        assert_eq!(one, Options { help: false, seed: 7, scenario: Some("outage".into()), out: None });
        assert_eq!(one.choose(crate::catalogue::all()).map(|chosen| chosen.len()), Ok(1));
    }

    #[test]
    fn mistakes_are_told() {
        for wrong in [&["--seed"][..], &["--seed", "x"], &["--fast"], &["outage"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let unknown = parse(&["--scenario", "sunshine"]).expect("the name is looked up later");
        assert!(unknown.choose(crate::catalogue::all()).is_err());
    }
}
