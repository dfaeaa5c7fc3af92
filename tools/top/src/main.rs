//! Shows what is in a state file of libgrate, without touching it: live in a terminal, once as text, or as JSON.
//!
//! * `snapshot` is what a copy of the file tells; rates come from two.
//! * `frame` lays it out as lines, which `line` makes text; `units` has amounts and times.
//! * `live` shows it again and again in a `terminal`; `options` is the command line.

mod frame;
mod line;
mod live;
mod options;
mod snapshot;
mod terminal;
#[cfg(test)]
mod tests;
mod units;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;

use grate::clock::SystemClock;
use options::{HELP, Mode, Options};
use snapshot::Snapshot;

fn main() -> ExitCode {
    let options = Options::parse(std::env::args_os().skip(1));
    let options = match options.and_then(|options| options.fit_here().map(|()| options)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("grate-top: {why}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("grate-top: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    match options.mode {
        Mode::Help => print(HELP),
        Mode::Version => print(concat!("grate-top ", env!("CARGO_PKG_VERSION"), "\n")),
        Mode::Once => {
            let lines = frame::all(&look_twice(options)?, terminal::size().0);
            print(&lines.iter().map(|line| line.text(options.style.plain()) + "\n").collect::<String>())
        }
        Mode::Json => {
            let document = serde_json::to_string(&look_twice(options)?).map_err(|why| why.to_string())?;
            print(&(document + "\n"))
        }
        Mode::Live => live::run(options, &look),
    }
}

fn look(options: &Options) -> Result<Snapshot, String> {
    Snapshot::take(&options.path, Arc::new(SystemClock))
}

/// A snapshot with rates, unless the interval is zero.
fn look_twice(options: &Options) -> Result<Snapshot, String> {
    let first = look(options)?;
    if options.interval.is_zero() {
        return Ok(first);
    }
    std::thread::sleep(options.interval);
    Ok(look(options)?.since(&first))
}

fn print(text: &str) -> Result<(), String> {
    stdout().lock().write_all(text.as_bytes()).map_err(|why| format!("cannot write: {why}"))
}
