//! State in a file: several engines on it, and what becomes of it when they end.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use common::*;
use grate::clock::{Clock, MockClock};
use grate::config::{Change, Dimension, Settings};
use grate::engine::{Engine, LimitSource};
use grate::error::Error;
use grate::feedback::Outcome;
use grate::shared::StateFile;

/// A path that is free, and is free again in the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = Self(std::env::temp_dir().join(format!("grate-{}-{name}", std::process::id())));
        let _ = fs::remove_file(&place.0);
        place
    }

    fn file(&self) -> StateFile {
        StateFile { path: self.0.clone(), size: StateFile::MIN_SIZE, replace_unusable: false }
    }

    fn open(&self, clock: &Arc<MockClock>) -> Result<Engine, Error> {
        Engine::open(Settings::default(), clock.clone(), &self.file())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn clock() -> Arc<MockClock> {
    Arc::new(MockClock::new(UNIX_MS))
}

/// That a file is refused, and why.
fn refused(opened: Result<Engine, Error>, why: &str) {
    match opened {
        Err(Error::StateFile(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{why}: {:?}", other.map(drop)),
    }
}

fn serve_one(engine: &Engine, limit: u64) {
    serve(engine, vec![provider("a", vec![requests(limit, SEC), concurrency(100)])]);
}

#[test]
fn engines_on_one_file_count_together() {
    let (place, clock) = (Place::new("together"), clock());
    let (one, two) = (place.open(&clock).unwrap(), place.open(&clock).unwrap());
    serve_one(&one, 10);
    // What one configured, the other knows; to say it again changes nothing.
    serve_one(&two, 10);
    let leases: Vec<_> = (0..10).map(|i| acquire(if i % 2 == 0 { &one } else { &two }).lease.unwrap()).collect();
    assert!(!acquire(&one).available() && !acquire(&two).available());
    // Leases may be settled by any of them.
    for lease in leases {
        two.complete(lease, &report(Outcome::Success)).unwrap();
    }
    assert_eq!(one.metrics(), two.metrics());
    assert_eq!(one.metrics().counters.completions, 10);
    clock.advance_ns(2 * SEC);
    assert!(acquire(&one).available());
}

#[test]
fn what_one_configures_all_see() {
    let (place, clock) = (Place::new("configure"), clock());
    let (one, two) = (place.open(&clock).unwrap(), place.open(&clock).unwrap());
    serve_one(&one, 3);
    assert_eq!(two.remaining("a", Dimension::Requests).unwrap(), 3);
    serve_one(&two, 5);
    assert_eq!(one.remaining("a", Dimension::Requests).unwrap(), 5);
    one.remove_provider("a").unwrap();
    assert_eq!(two.remaining("a", Dimension::Requests), Err(Error::UnknownProvider));
    serve_one(&two, 7);
    assert_eq!(one.provider_state("a").unwrap().quotas[0].limit, 7);
    // What is the same is no change.
    serve_one(&one, 7);
    for i in 0..300 {
        serve_one(if i % 2 == 0 { &one } else { &two }, 7 + i);
        assert!(acquire(if i % 3 == 0 { &one } else { &two }).total == 1);
    }
}

#[test]
fn a_lease_is_settled_where_it_was_charged_whoever_took_the_quota_off() {
    let (place, clock) = (Place::new("taken-off"), clock());
    let (one, two) = (place.open(&clock).unwrap(), place.open(&clock).unwrap());
    let pool = || vec![pooled("p", quota(Dimension::Tokens, 100, MINUTE))];
    serve(&one, vec![provider("b", pool())]);
    serve(&one, vec![provider("a", pool())]);
    let lease = || one.acquire("api", &tokens(10), None).unwrap().lease.unwrap();
    let (cancelled, completed, left) = (lease(), lease(), lease());
    redefine(&two, provider("a", vec![requests(5, SEC)]));
    one.cancel(cancelled).unwrap();
    assert_eq!(used(&two, "b", Dimension::Tokens), 20);
    two.complete(completed, &reported_tokens(Outcome::Success, 17)).unwrap();
    assert_eq!(used(&one, "b", Dimension::Tokens), 27);
    redefine(&one, provider("a", pool()));
    // Who comes later finds it in the file.
    let three = place.open(&clock).unwrap();
    three.cancel(left).unwrap();
    assert_eq!(used(&one, "a", Dimension::Tokens), 17);
}

#[test]
fn who_gives_no_settings_changes_none() {
    let (place, clock) = (Place::new("settings"), clock());
    let open = |settings: Settings| Engine::open(settings, clock.clone(), &place.file()).unwrap();
    let once = Settings { cooldown_trigger_count: 1, ..Settings::default() };
    let first = open(once);
    serve_one(&first, 10);
    let fails = |name| {
        serve(&first, vec![provider(name, vec![])]);
        first.observe(name, &report(Outcome::ServerError)).unwrap();
        first.provider_state(name).unwrap().cooldown_remaining_ns > 0
    };
    drop(open(Settings::default()));
    assert!(fails("b"));
    drop(open(Settings { cooldown_trigger_count: 2, ..Settings::default() }));
    assert!(!fails("c"));
}

#[test]
fn nothing_is_forgotten_while_nobody_runs() {
    let (place, clock) = (Place::new("restart"), clock());
    let first = place.open(&clock).unwrap();
    serve_one(&first, 100);
    let left_open = acquire(&first).lease;
    for _ in 0..40 {
        clock.advance_ns(10 * MS);
        let lease = acquire(&first).lease.unwrap();
        first.complete(lease, &report(Outcome::Success)).unwrap();
    }
    clock.advance_ns(10 * MS);
    let lease = acquire(&first).lease.unwrap();
    first.complete(lease, &report(Outcome::RateLimited)).unwrap();
    let state = first.provider_state("a").unwrap();
    let (used, effective, health) = (state.quotas[0].used, state.quotas[0].effective_limit, state.health);
    assert_eq!(state.quotas[0].limit_source, LimitSource::Learned);
    drop(state);
    drop(first);

    clock.advance_ns(100 * MS);
    let second = place.open(&clock).unwrap();
    // Known without being told again.
    let after = second.provider_state("a").unwrap();
    assert_eq!(after.quotas[0].used, used);
    assert_eq!(after.quotas[0].effective_limit, effective);
    assert!((after.health - health).abs() < 0.01 && after.health < 1.0);
    assert_eq!(after.counters.rate_limited_responses, 1);
    // The lease that nobody can settle any more is ended, and its unit stays counted.
    assert!(left_open.is_some());
    assert_eq!(after.counters.leases_in_flight, 0);
    assert_eq!(after.counters.expired_leases, 1);
}

#[test]
fn time_goes_on_over_a_restart_of_the_host() {
    let (place, before) = (Place::new("reboot"), clock());
    before.advance_ns(3600 * SEC);
    let engine = place.open(&before).unwrap();
    serve(&engine, vec![provider("a", vec![requests(10, 60 * SEC)])]);
    (0..7).for_each(|_| assert!(acquire(&engine).available()));
    drop(engine);

    // The monotonic clock starts again, the wall clock goes on.
    let after = Arc::new(MockClock::new(before.unix_ns() / MS + 20_000));
    let engine = place.open(&after).unwrap();
    assert_eq!(engine.remaining("a", Dimension::Requests).unwrap(), 3);
    after.advance_ns(39 * SEC);
    assert_eq!(engine.remaining("a", Dimension::Requests).unwrap(), 3);
    after.advance_ns(2 * SEC);
    assert_eq!(engine.remaining("a", Dimension::Requests).unwrap(), 10);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_or_replaced() {
    let (place, clock) = (Place::new("refused"), clock());
    let refused = |why: &str| refused(place.open(&clock), why);
    fs::write(&place.0, "").unwrap();
    refused("is not a state file");
    fs::write(&place.0, vec![7; 100_000]).unwrap();
    refused("is not a state file");
    assert_eq!(fs::read(&place.0).unwrap(), vec![7; 100_000], "nothing was written to it");

    fs::remove_file(&place.0).unwrap();
    serve_one(&place.open(&clock).unwrap(), 10);
    let good = fs::read(&place.0).unwrap();
    fs::write(&place.0, &good[..good.len() - 4096]).unwrap();
    refused("cut off");
    let mut other_version = good.clone();
    other_version[12] ^= 1;
    fs::write(&place.0, other_version).unwrap();
    refused("another version");
    let mut unfinished = good.clone();
    unfinished[..8].fill(0);
    fs::write(&place.0, unfinished).unwrap();
    refused("is being made");
    let mut damaged = good.clone();
    damaged[40_000] ^= 1;
    fs::write(&place.0, damaged).unwrap();
    refused("damaged");

    // Nobody left this one in order, and one of the two places of its configuration is the beginning of the file.
    let mut abandoned = good.clone();
    abandoned[24..32].fill(0);
    fs::write(&place.0, &abandoned).unwrap();
    assert_eq!(place.open(&clock).unwrap().remaining("a", Dimension::Requests), Ok(10));
    abandoned[112..120].fill(0);
    fs::write(&place.0, abandoned).unwrap();
    refused("contradict each other");

    let replacing = StateFile { replace_unusable: true, ..place.file() };
    let engine = Engine::open(Settings::default(), clock.clone(), &replacing).unwrap();
    assert_eq!(engine.remaining("a", Dimension::Requests), Err(Error::UnknownProvider));
    drop(engine);
    fs::write(&place.0, good).unwrap();
    assert_eq!(place.open(&clock).unwrap().remaining("a", Dimension::Requests), Ok(10));
}

#[test]
fn what_is_used_or_no_regular_file_is_not_replaced() {
    let (place, clock) = (Place::new("kept"), clock());
    let replacing = StateFile { replace_unusable: true, ..place.file() };
    let refused = |why: &str| refused(Engine::open(Settings::default(), clock.clone(), &replacing), why);
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    let file = fs::OpenOptions::new().write(true).open(&place.0).unwrap();
    file.set_len(StateFile::MIN_SIZE + 4096).unwrap();
    refused("extended, and processes use it");
    assert!(acquire(&engine).available());
    drop(engine);
    // Now nobody does.
    drop(Engine::open(Settings::default(), clock.clone(), &replacing).unwrap());
    fs::remove_file(&place.0).unwrap();

    assert!(std::process::Command::new("mkfifo").arg(&place.0).status().unwrap().success());
    refused("is not a regular file");
    assert!(!fs::metadata(&place.0).unwrap().is_file());
    fs::remove_file(&place.0).unwrap();
}

#[test]
fn links_are_followed() {
    let (place, target, clock) = (Place::new("link"), Place::new("target"), clock());
    std::os::unix::fs::symlink(&target.0, &place.0).unwrap();
    refused(place.open(&clock), "leads nowhere");
    fs::write(&target.0, "something else").unwrap();
    let replacing = StateFile { replace_unusable: true, ..place.file() };
    let engine = Engine::open(Settings::default(), clock.clone(), &replacing).unwrap();
    serve_one(&engine, 10);
    assert!(fs::symlink_metadata(&place.0).unwrap().is_symlink());
    assert_eq!(target.open(&clock).unwrap().remaining("a", Dimension::Requests), Ok(10));
}

#[test]
fn what_was_left_unfinished_goes() {
    let (place, clock) = (Place::new("unfinished"), clock());
    let left = place.0.with_file_name(format!("{}.1.7.unfinished", place.0.file_name().unwrap().to_str().unwrap()));
    let other = place.0.with_file_name(format!("{}.1.7", place.0.file_name().unwrap().to_str().unwrap()));
    fs::write(&left, vec![0; 4096]).unwrap();
    fs::write(&other, "a backup").unwrap();
    drop(place.open(&clock).unwrap());
    assert!(!left.exists() && other.exists());
    fs::remove_file(&other).unwrap();
}

#[test]
fn a_name_that_another_took_is_passed_over() {
    let (place, clock) = (Place::new("names"), clock());
    // What cannot be removed: as what another copy of the library is making.
    let name = place.0.file_name().unwrap().to_str().unwrap();
    let taken = |n: u32| place.0.with_file_name(format!("{name}.{}.{n}.unfinished", std::process::id()));
    (0..200).for_each(|n| fs::create_dir(taken(n)).unwrap());
    let opened = place.open(&clock).map(drop);
    (0..200).for_each(|n| fs::remove_dir(taken(n)).unwrap());
    opened.unwrap();
}

#[test]
fn what_the_system_wrote_down_in_part_before_the_host_stopped_is_put_right() {
    let (place, clock) = (Place::new("torn"), clock());
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    assert!(acquire(&engine).available());
    drop(engine);
    let left = fs::read(&place.0).unwrap();
    let engine = place.open(&clock).unwrap();
    (0..3).for_each(|_| assert!(acquire(&engine).available()));
    // The first page says that it was left in order, what follows is from later.
    let mut torn = fs::read(&place.0).unwrap();
    drop(engine);
    torn[..4096].copy_from_slice(&left[..4096]);
    fs::write(&place.0, &torn).unwrap();
    refused(place.open(&clock), "checksum is wrong");
    // When the host started.
    torn[32] ^= 1;
    fs::write(&place.0, &torn).unwrap();
    assert_eq!(place.open(&clock).unwrap().remaining("a", Dimension::Requests), Ok(6));
}

#[test]
fn a_full_file_refuses_and_goes_on() {
    let (place, clock) = (Place::new("full"), clock());
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    let more = |n: usize| (0..n).map(|i| provider(&format!("p{i}"), vec![requests(1000, SEC)])).collect();
    let change = Change { providers: more(1000), ..Change::default() };
    match engine.apply(change) {
        Err(Error::Capacity(text)) => assert!(text.contains("state_size"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.providers().len(), 1, "nothing is half applied");
    assert!(acquire(&engine).available());
    engine.apply(Change { providers: more(20), ..Change::default() }).unwrap();
    assert_eq!(place.open(&clock).unwrap().providers().len(), 21);
}

#[test]
fn a_copy_shows_what_is_there_and_disturbs_nobody() {
    let (place, clock) = (Place::new("copy"), clock());
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    let lease = acquire(&engine).lease.unwrap();
    let copy = Engine::copy_of(&place.0, clock.clone()).unwrap();
    let shown = copy.provider_state("a").unwrap();
    assert_eq!((shown.quotas[0].used, shown.counters.leases_in_flight), (1, 1));
    assert!(acquire(&copy).available());
    drop(copy);
    assert_eq!(engine.metrics().counters.acquires, 1);
    engine.complete(lease, &report(Outcome::Success)).unwrap();
    assert!(Engine::copy_of(std::path::Path::new("/nowhere/at/all"), clock).is_err());
}

#[test]
fn a_copy_takes_no_more_memory_than_is_used() {
    let (place, clock) = (Place::new("large"), clock());
    serve_one(&place.open(&clock).unwrap(), 10);
    // As large as one may be, and empty for the most part.
    let file = fs::OpenOptions::new().write(true).open(&place.0).unwrap();
    file.set_len(StateFile::MAX_SIZE).unwrap();
    file.write_all_at(&StateFile::MAX_SIZE.to_ne_bytes(), 16).unwrap();
    let copy = Engine::copy_of(&place.0, clock).unwrap();
    assert_eq!(copy.remaining("a", Dimension::Requests), Ok(10));
}

#[test]
fn looking_leaves_no_trace() {
    use std::os::unix::fs::MetadataExt;
    let (place, clock) = (Place::new("trace"), clock());
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    assert!(acquire(&engine).available());
    // Long ago, so that the system would note any access.
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let times = fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    fs::File::options().write(true).open(&place.0).unwrap().set_times(times).unwrap();
    let seen = || {
        let found = fs::metadata(&place.0).unwrap();
        (found.atime_nsec(), found.atime(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec())
    };
    let before = seen();
    for _ in 0..3 {
        clock.advance_ns(SEC);
        let copy = Engine::copy_of(&place.0, clock.clone()).unwrap();
        assert_eq!(copy.provider_state("a").unwrap().counters.acquires, 1);
    }
    assert_eq!(seen(), before);
}

#[test]
fn a_copy_tells_how_the_file_is_used() {
    let (place, clock) = (Place::new("usage"), clock());
    clock.advance_ns(5 * SEC);
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    assert!(acquire(&engine).available());
    let active = clock.unix_ns();
    clock.advance_ns(7 * SEC);
    let copy = Engine::copy_of(&place.0, clock.clone()).unwrap();
    assert_eq!(copy.metrics().counters.leases_in_flight, 1);
    let usage = copy.file_usage().unwrap();
    assert_eq!((usage.size, usage.active_unix_ns, usage.elsewhere), (StateFile::MIN_SIZE, active, false));
    assert!(usage.used > 0 && usage.used < usage.size);
    assert_eq!(copy.processes(), [std::process::id()]);
    assert_eq!(Engine::new(Settings::default(), clock).unwrap().file_usage(), None);
}

#[test]
fn copies_make_sense_while_all_changes() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (place, clock) = (Place::new("copies"), clock());
    let engine = place.open(&clock).unwrap();
    let done = AtomicBool::new(false);
    let until_done = |work: &dyn Fn(u64)| (0..).take_while(|_| !done.load(Ordering::Relaxed)).for_each(work);
    serve_one(&engine, 1_000_000);
    let leases = std::thread::scope(|scope| {
        scope.spawn(|| until_done(&|i| serve_one(&engine, 1_000_000 + i % 9)));
        scope.spawn(|| {
            until_done(&|_| {
                let lease = acquire(&engine).lease.unwrap();
                engine.complete(lease, &report(Outcome::Success)).unwrap();
            });
        });
        let look = || Engine::copy_of(&place.0, clock.clone()).map(|copy| copy.metrics().counters.leases_in_flight);
        let leases: Vec<_> = (0..300).map(|_| look()).collect();
        done.store(true, Ordering::Relaxed);
        leases
    });
    leases.iter().for_each(|leases| assert!(matches!(leases, Ok(0 | 1)), "{leases:?}"));
}

#[test]
fn a_copy_shows_the_time_that_passed_over_a_restart_of_the_host() {
    let (place, before) = (Place::new("copy-reboot"), clock());
    before.advance_ns(3600 * SEC);
    let engine = place.open(&before).unwrap();
    serve(&engine, vec![provider("a", vec![requests(10, 60 * SEC)])]);
    (0..7).for_each(|_| assert!(acquire(&engine).available()));
    drop(engine);
    let after = Arc::new(MockClock::new(before.unix_ns() / MS + 61_000));
    let copy = Engine::copy_of(&place.0, after).unwrap();
    assert_eq!(copy.remaining("a", Dimension::Requests).unwrap(), 10);
}

#[test]
fn the_file_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let (place, clock) = (Place::new("mode"), clock());
    drop(place.open(&clock).unwrap());
    assert_eq!(fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_refused_configuration_takes_no_room() {
    let (place, clock) = (Place::new("refused"), clock());
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    // A small provider, and more capabilities than there is room to write down.
    let capabilities = (0..6000).map(|i| capability(&format!("{i:0>120}"), &[])).collect();
    let providers = vec![provider("b", vec![quota(Dimension::Tokens, 1000, SEC)])];
    let change = Change { providers, capabilities, ..Change::default() };
    let refuse = || assert!(matches!(engine.apply(change.clone()), Err(Error::Capacity(_))));
    refuse();
    let used = engine.file_usage().unwrap().used;
    for _ in 0..10 {
        refuse();
    }
    assert_eq!(engine.file_usage().unwrap().used, used);
}

#[test]
fn capabilities_that_come_and_go_take_no_room() {
    let (place, clock) = (Place::new("tenants"), clock());
    let engine = place.open(&clock).unwrap();
    serve_one(&engine, 10);
    for i in 0..4000 {
        let name = format!("tenant-{i}");
        engine.apply(Change { capabilities: vec![capability(&name, &["a"])], ..Change::default() }).unwrap();
        engine.remove_capability(&name).unwrap();
    }
}

#[test]
fn a_provider_that_is_defined_anew_under_load_takes_little_room() {
    let (place, clock) = (Place::new("anew"), clock());
    let file = StateFile { size: StateFile::DEFAULT_SIZE, ..place.file() };
    let engine = Engine::open(Settings::default(), clock.clone(), &file).unwrap();
    let defined = |i: u64| provider("a", vec![quota(Dimension::Tokens, 1000, SEC * (1 + i % 2))]);
    serve(&engine, vec![defined(0)]);
    // A lease of each definition is out.
    let leases: Vec<_> = (0..300)
        .map(|i| {
            clock.advance_ns(SEC / 2);
            redefine(&engine, defined(i));
            engine.acquire("api", &tokens(1), None).unwrap().lease.unwrap()
        })
        .collect();
    leases.into_iter().for_each(|lease| engine.cancel(lease).unwrap());
    redefine(&engine, defined(0));
    assert_eq!(used(&engine, "a", Dimension::Tokens), 0);
}

/// Works in a thread of its own, in which no file can be marked. `None` if the system has no such threads.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "system calls")]
fn without_marks<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    let (load, equal, give) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
    let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let command = std::mem::offset_of!(libc::seccomp_data, args) + if cfg!(target_endian = "big") { 12 } else { 8 };
    let filter = [
        step(load, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32),
        step(equal, 3, libc::SYS_fcntl as u32),
        step(load, 0, command as u32),
        step(equal, 1, libc::F_OFD_SETLK as u32),
        step(give, 0, libc::SECCOMP_RET_ERRNO | libc::ENOLCK as u32),
        step(give, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let work = || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program is there during the call.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        done.then(work)
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Whose mark on the file did not stay, though others' did, is a user all the same when those have gone.
#[test]
#[cfg(target_os = "linux")]
fn who_could_not_mark_a_file_that_others_marked_uses_it() {
    let (place, clock) = (Place::new("unmarked"), clock());
    let first = place.open(&clock).unwrap();
    serve_one(&first, 10);
    let Some(second) = without_marks(|| place.open(&clock).unwrap()) else { return };
    let lease = acquire(&second).lease.unwrap();
    drop(first);
    let third = place.open(&clock).unwrap();
    assert_eq!(third.metrics().counters.leases_in_flight, 1);
    second.complete(lease, &report(Outcome::Success)).unwrap();
}
