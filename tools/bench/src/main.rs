//! Times the hot calls of libgrate, through the C ABI of the shared library, beside the crate grate-limiter in the same
//! run. Prints a table and judges nothing.
//!
//! `bench [--quick] [path of the shared library]`; without a path, `GRATE_LIBRARY` names it.
//!
//! `workload` says what is measured, `library` and `limiter` are the two sides, `sample` times them.

mod library;
mod limiter;
mod sample;
mod workload;

use std::error::Error;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use library::Libgrate;
use workload::{Operation, Quotas, Workload};

/// Lines of the table, each for every number of providers.
const LINES: [(&str, Operation, Quotas); 5] = [
    ("select", Operation::Select, Quotas::One),
    ("select, all ranked", Operation::SelectRanked, Quotas::One),
    ("observe", Operation::Observe, Quotas::One),
    ("acquire+complete", Operation::Cycle, Quotas::One),
    ("acquire+complete, 3 quotas", Operation::Cycle, Quotas::Three),
];
const PROVIDERS: [usize; 3] = [2, 10, 100];

fn main() -> Result<(), Box<dyn Error>> {
    let (path, quick) = arguments()?;
    let budget = Duration::from_millis(if quick { 400 } else { 3000 });
    let libgrate = Libgrate::load(&path)?;

    let start = Instant::now();
    println!("{}", machine());
    println!(
        "libgrate {} through its C ABI, grate-limiter {}; mock clock, one thread; median of alternating batches",
        libgrate.version,
        limiter::VERSION
    );
    println!();
    println!("{:<28}{:>9}{:>14}{:>18}{:>8}", "operation", "providers", "libgrate ns", "grate-limiter ns", "ratio");
    for (name, operation, quotas) in LINES {
        for providers in PROVIDERS {
            let workload = Workload { operation, providers, quotas };
            let mut sides = vec![libgrate.side(&workload)?];
            sides.extend(limiter::side(&workload));
            let medians = sample::medians(&mut sides, budget);
            print!("{name:<28}{providers:>9}");
            match medians[..] {
                [ours, theirs] => println!("{ours:>14.0}{theirs:>18.0}{:>8.2}", ours / theirs),
                [ours] => println!("{ours:>14.0}{:>18}{:>8}", "-", "-"),
                _ => println!(),
            }
        }
    }
    println!();
    println!(
        "ratio: libgrate / grate-limiter, below 1 is faster. grate-limiter's select always ranks all candidates, and"
    );
    println!(
        "its counterpart of acquire+complete is select+observe, which reserves nothing. Took {:.0?}.",
        start.elapsed()
    );
    Ok(())
}

/// The path of the library, and whether to be quick.
fn arguments() -> Result<(OsString, bool), Box<dyn Error>> {
    let (options, paths): (Vec<_>, Vec<_>) =
        std::env::args_os().skip(1).partition(|argument| argument.as_encoded_bytes().starts_with(b"-"));
    let quick = options.iter().any(|option| option == "--quick");
    let path = paths.into_iter().next().or_else(|| std::env::var_os("GRATE_LIBRARY"));
    match path {
        Some(path) if options.iter().all(|option| option == "--quick") => Ok((path, quick)),
        _ => Err("usage: bench [--quick] [path of libgrate.so], or its path in GRATE_LIBRARY".into()),
    }
}

/// The processor, as far as the system tells.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    format!("{}, {cores} cores, {}-{}", model.unwrap_or("unknown CPU"), std::env::consts::ARCH, std::env::consts::OS)
}
