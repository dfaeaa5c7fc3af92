//! The program itself: in a terminal, beside a process that uses the file, and on the command line.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unsafe_code)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use grate::Engine;
use grate::clock::SystemClock;
use grate::config::{Change, Settings};
use grate::engine::{Estimate, Report};
use grate::feedback::Outcome;
use grate::shared::StateFile;
use grate::usage::Reported;

const TOP: &str = env!("CARGO_BIN_EXE_grate-top");
const SECOND: Duration = Duration::from_secs(1);

/// A state file of this process, gone in the end.
struct Place {
    path: PathBuf,
    engine: Engine,
}

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("grate-top-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        let file = StateFile { path: path.clone(), size: StateFile::MIN_SIZE, replace_unusable: false };
        let engine = Engine::open(Settings::default(), Arc::new(SystemClock), &file).unwrap();
        let book = r#"{"providers": [
            {"name": "one", "quotas": [{"dimension": "requests", "limit": 1000000, "window": "second"}]},
            {"name": "two", "quotas": [{"dimension": "tokens", "limit": 100, "window": "minute", "pool": "shared"}]}],
            "capabilities": [{"name": "chat", "providers": [{"provider": "one"}]}]}"#;
        engine.apply(Change::from_json(book.as_bytes()).unwrap()).unwrap();
        Self { path, engine }
    }

    fn call(&self) {
        let lease = self.engine.acquire("chat", &Estimate::default(), None).unwrap().lease.unwrap();
        let usage = Reported::default();
        let report = Report { outcome: Outcome::Success, latency_ns: None, retry_after_ns: None, usage, headers: None };
        self.engine.complete(lease, &report).unwrap();
    }

    fn top(&self, options: &[&str]) -> Output {
        Command::new(TOP).args(options).arg(&self.path).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The program in a terminal of its own.
struct Terminal {
    child: Child,
    side: File,
    settings: File,
    before: libc::termios,
    screen: Arc<Mutex<Vec<u8>>>,
}

fn settings_of(terminal: &File) -> libc::termios {
    use std::os::fd::AsRawFd;
    let mut settings = std::mem::MaybeUninit::uninit();
    // SAFETY: writes to the struct.
    assert_eq!(unsafe { libc::tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()) }, 0);
    // SAFETY: written.
    unsafe { settings.assume_init() }
}

impl Terminal {
    fn with(path: &Path, columns: u16, rows: u16, environment: &[(&str, &str)]) -> Self {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut ours, mut its) = (-1, -1);
        // SAFETY: writes two descriptors, which are owned by nobody else yet.
        let (side, terminal) = unsafe {
            assert_eq!(libc::openpty(&mut ours, &mut its, null_mut(), null_mut(), &raw const size as *mut _), 0);
            (File::from_raw_fd(ours), File::from_raw_fd(its))
        };
        let before = settings_of(&terminal);
        let to_child = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = Command::new(TOP);
        command.args(["--interval", "0.1"]).arg(path).env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8");
        command.envs(environment.iter().copied()).stdin(to_child()).stdout(to_child()).stderr(to_child());
        let child = command.spawn().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (side.try_clone().unwrap(), screen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = from.read(&mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..len]);
            }
        });
        Self { child, side, settings: terminal, before, screen }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits until what was shown is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !wanted(&self.shown()) {
            assert!(start.elapsed() < 20 * SECOND, "{what}: {}", self.shown());
            sleep(SECOND / 100);
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.side.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: our child, which nobody has waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    fn resize(&self, columns: u16, rows: u16) {
        use std::os::fd::AsRawFd;
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: reads the struct.
        assert_eq!(unsafe { libc::ioctl(self.side.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
        // It is no session's terminal, so that the system tells nobody.
        self.signal(libc::SIGWINCH);
    }

    /// Waits for its end. The terminal is as it was.
    fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(start.elapsed() < 20 * SECOND, "it does not end"),
            }
            sleep(SECOND / 100);
        };
        self.until("restored", |shown| shown.ends_with("\x1b[H\x1b[?7h\x1b[?25h\x1b[?1049l"));
        let after = settings_of(&self.settings);
        let flags = |t: &libc::termios| (t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_cc);
        assert_eq!(flags(&after), flags(&self.before));
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frames(shown: &str) -> usize {
    shown.matches("\x1b[H").count()
}

#[test]
fn frames_come_while_the_file_is_used_and_q_leaves() {
    let place = Place::new("live");
    let done = AtomicBool::new(false);
    let calls = thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                place.call();
                calls += 1;
            }
            calls
        });
        let mut terminal = Terminal::with(&place.path, 100, 30, &[]);
        terminal.until("frames", |shown| frames(shown) > 8);
        let shown = terminal.shown();
        assert!(shown.starts_with("\x1b[?1049h"), "{shown}");
        assert!(shown.contains(&format!("1 process: {}; last used ", std::process::id())), "{shown}");
        assert!(shown.contains("requests/s") && shown.contains("pool shared"), "{shown}");
        assert!(shown.contains("\x1b[32mclosed") || shown.contains("\x1b[32m closed"), "colours: {shown}");
        terminal.type_in("q");
        assert!(terminal.ended().success());
        done.store(true, Ordering::Relaxed);
        caller.join().unwrap()
    });
    // All that was counted was counted here.
    let counters = place.engine.metrics().counters;
    assert_eq!((counters.acquires, counters.completions, counters.leases_in_flight), (calls, calls, 0));
    assert_eq!(place.engine.processes(), [std::process::id()]);
}

#[test]
fn watching_leaves_no_trace() {
    let place = Place::new("trace");
    (0..100).for_each(|_| place.call());
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    let seen = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.atime(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec(), found.ino(), found.len())
    };
    let content = fs::read(&place.path).unwrap();
    File::options().write(true).open(&place.path).unwrap().set_times(times).unwrap();
    let before = seen(&place.path);
    let mut terminal = Terminal::with(&place.path, 80, 24, &[]);
    terminal.until("frames", |shown| frames(shown) > 5);
    terminal.type_in("\x03");
    assert!(terminal.ended().success());
    assert!(place.top(&["--once", "--interval", "0.1"]).status.success());
    assert!(place.top(&["--json", "--interval", "0"]).status.success());
    assert_eq!(seen(&place.path), before);
    assert_eq!(fs::read(&place.path).unwrap(), content);
}

#[test]
fn the_terminal_is_restored_whatever_ends_it() {
    let place = Place::new("ends");
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut terminal = Terminal::with(&place.path, 80, 24, &[]);
        terminal.until("frames", |shown| frames(shown) > 1);
        terminal.signal(signal);
        assert!(terminal.ended().success());
    }
}

#[test]
fn it_goes_by_the_size_of_the_terminal() {
    let place = Place::new("size");
    let mut terminal = Terminal::with(&place.path, 80, 12, &[("NO_COLOR", "1"), ("LC_ALL", "C")]);
    terminal.until("a cut frame", |shown| shown.contains("~ 3 more   q: quit, arrows: scroll"));
    terminal.type_in("j\x1b[B");
    terminal.until("scrolled", |shown| shown.contains("~ 1 more, 2 above"));
    assert!(!terminal.shown().contains("\x1b[0m"), "no colours: {}", terminal.shown());
    let bar = |more: usize| format!("\x1b[K  requests/s{:1$} ............", "", 8 + more);
    assert!(terminal.shown().contains(&bar(0)), "{}", terminal.shown());
    terminal.resize(120, 40);
    terminal.until("larger", |shown| shown.contains("\r\n\x1b[Jq: quit\x1b[H") && shown.contains(&bar(20)));
    terminal.type_in("q");
    assert!(terminal.ended().success());
}

#[test]
fn a_file_that_is_gone_is_missed_and_found_again() {
    let place = Place::new("gone");
    let mut terminal = Terminal::with(&place.path, 120, 24, &[]);
    terminal.until("frames", |shown| frames(shown) > 1);
    let aside = place.path.with_extension("aside");
    fs::rename(&place.path, &aside).unwrap();
    terminal.until("trouble", |shown| {
        shown.contains("what is below is old: cannot read ") && shown.contains("No such file")
    });
    fs::rename(&aside, &place.path).unwrap();
    let missed = frames(&terminal.shown());
    terminal.until("frames", |shown| frames(shown) > missed + 3);
    let shown = terminal.shown();
    assert!(!shown[shown.rfind("\x1b[H").unwrap()..].contains("is old"), "{shown}");
    terminal.type_in("q");
    assert!(terminal.ended().success());
}

#[test]
fn errors_are_told_with_their_status() {
    let place = Place::new("errors");
    let told = |output: Output, status: i32, why: &str| {
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(status) && text.starts_with("grate-top: ") && text.contains(why),
            "{text}"
        );
        assert!(output.stdout.is_empty());
    };
    let run = |arguments: &[&str]| Command::new(TOP).args(arguments).stdin(Stdio::null()).output().unwrap();
    told(run(&["--once", "/nowhere/at/all"]), 1, "cannot read '/nowhere/at/all': No such file");
    told(run(&["--once", "/"]), 1, "'/' is not a state file of libgrate");
    told(run(&["--json", TOP]), 1, "is not a state file of libgrate");
    told(run(&[]), 2, "which state file?");
    told(run(&["--what"]), 2, "unknown option '--what'");
    told(place.top(&[]), 2, "this is not a terminal");
    let mut unfinished = fs::read(&place.path).unwrap();
    unfinished[..8].fill(0);
    let path = place.path.with_extension("unfinished");
    fs::write(&path, unfinished).unwrap();
    told(run(&["--once", path.to_str().unwrap()]), 1, "is being made");
    fs::remove_file(path).unwrap();
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"usage: grate-top "));
    assert_eq!(run(&["--version"]).stdout, format!("grate-top {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

#[test]
fn text_and_document_have_rates() {
    let place = Place::new("rates");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                place.call();
                sleep(SECOND / 1000);
            }
        });
        let json = place.top(&["--json", "--interval", "0.3"]).stdout;
        let once = String::from_utf8(place.top(&["--once", "--interval", "0"]).stdout).unwrap();
        done.store(true, Ordering::Relaxed);
        let document: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let rate = document["per_second"]["acquires"].as_f64().unwrap();
        assert!(rate > 1.0 && rate < 1001.0, "{rate}");
        assert_eq!(document["processes"][0], std::process::id());
        assert_eq!(document["providers"][1]["quotas"][0]["pool"], "shared");
        assert!(once.contains("\nper second        -         -"), "{once}");
    });
}
