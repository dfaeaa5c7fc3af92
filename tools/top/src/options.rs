//! The command line.

use std::ffi::OsString;
use std::io::{IsTerminal, stdin, stdout};
use std::path::PathBuf;
use std::time::Duration;

use crate::line::Style;

/// What `--help` prints.
pub const HELP: &str = "\
usage: grate-top [OPTION...] FILE

Shows providers, quotas, rates and processes of a state file of libgrate (state_path), live, by the system's clock.
It works on a copy: those who use the file do not notice.

  --once          print it as text and exit
  --json          print it as a JSON document on one line and exit; tools/top/README.md explains the keys
  --interval SEC  seconds between two looks, also between the two that --once and --json take for rates (default 1);
                  0: these look once and have no rates
  --ascii         ASCII only; the default where the locale is not UTF-8
  --help          this text
  --version       the version

Keys: q quits; arrows, j, k, page up and down, g and G scroll. With NO_COLOR in the environment there are no colours.
Exit status: 0, 1 if the file cannot be read, 2 if the command line is wrong.
";

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The help text.
    Help,
    /// The version.
    Version,
    /// Text.
    Once,
    /// A JSON document.
    Json,
    /// A terminal, until it is left.
    Live,
}

/// The options.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What is wanted.
    pub mode: Mode,
    /// The state file.
    pub path: PathBuf,
    /// The time between two looks.
    pub interval: Duration,
    /// How text is shown.
    pub style: Style,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong, for the user.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let style = Style { ascii: !locale_is_utf8(), color: !has("NO_COLOR") };
        let mut options = Self { mode: Mode::Live, path: PathBuf::new(), interval: Duration::from_secs(1), style };
        let mut arguments = arguments.into_iter();
        let mut options_end = false;
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                _ if options_end => options.set_path(argument)?,
                Some("--") => options_end = true,
                Some("--help" | "-h") => return Ok(Self { mode: Mode::Help, ..options }),
                Some("--version" | "-V") => return Ok(Self { mode: Mode::Version, ..options }),
                Some("--once") => options.set_mode(Mode::Once)?,
                Some("--json") => options.set_mode(Mode::Json)?,
                Some("--ascii") => options.style.ascii = true,
                Some("--interval") => {
                    let value = arguments.next().ok_or("--interval needs a number of seconds")?;
                    options.interval = seconds(&value)?;
                }
                Some(unknown) if unknown.starts_with('-') => {
                    return Err(format!("unknown option '{unknown}'; --help tells the options"));
                }
                _ => options.set_path(argument)?,
            }
        }
        if options.path.as_os_str().is_empty() {
            return Err("which state file? --help tells the options".into());
        }
        if options.mode == Mode::Live && options.interval.is_zero() {
            return Err("--interval 0 needs --once or --json".into());
        }
        Ok(options)
    }

    /// Whether what is wanted can be shown here.
    ///
    /// # Errors
    /// Why not, for the user.
    pub fn fit_here(&self) -> Result<(), String> {
        let live = self.mode == Mode::Live;
        if live && !(stdin().is_terminal() && stdout().is_terminal()) {
            return Err("this is not a terminal; --once and --json print".into());
        }
        Ok(())
    }

    fn set_mode(&mut self, mode: Mode) -> Result<(), String> {
        if self.mode != Mode::Live && self.mode != mode {
            return Err("--once and --json exclude each other".into());
        }
        self.mode = mode;
        Ok(())
    }

    fn set_path(&mut self, path: OsString) -> Result<(), String> {
        if !self.path.as_os_str().is_empty() {
            return Err(format!("one state file at a time: '{}' is one more", path.display()));
        }
        self.path = path.into();
        Ok(())
    }
}

/// At most a day.
fn seconds(value: &OsString) -> Result<Duration, String> {
    let seconds = value.to_str().and_then(|value| value.parse::<f64>().ok()).filter(|s| (0.0..=86_400.0).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("the interval '{}' is not a number of seconds, 0 to 86400", value.display()))
}

fn has(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn locale_is_utf8() -> bool {
    let named = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    let named = named.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    named.contains("utf-8") || named.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_read() {
        let live = parse(&["x"]).unwrap();
        assert_eq!((live.mode, live.path, live.interval), (Mode::Live, "x".into(), Duration::from_secs(1)));
        let json = parse(&["--json", "--interval", "0.25", "--ascii", "--", "--x"]).unwrap();
        assert_eq!((json.mode, json.path, json.interval), (Mode::Json, "--x".into(), Duration::from_millis(250)));
        assert!(json.style.ascii);
        assert_eq!(parse(&["--once", "x", "--interval", "0"]).unwrap().mode, Mode::Once);
        assert_eq!(parse(&["--help"]).unwrap().mode, Mode::Help);
        assert_eq!(parse(&["x", "--version"]).unwrap().mode, Mode::Version);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong =
            |arguments: &[&str], why: &str| assert!(parse(arguments).unwrap_err().contains(why), "{arguments:?}");
        wrong(&[], "which state file");
        wrong(&["x", "y"], "'y' is one more");
        wrong(&["--all", "x"], "unknown option '--all'");
        wrong(&["--once", "--json", "x"], "exclude each other");
        wrong(&["x", "--interval"], "needs a number");
        wrong(&["x", "--interval", "-1"], "'-1' is not a number");
        wrong(&["x", "--interval", "nan"], "'nan' is not a number");
        wrong(&["x", "--interval", "0"], "needs --once or --json");
    }
}
