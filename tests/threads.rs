//! Many threads at once: no limit is exceeded, nothing is lost, nothing locks up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use grate::Engine;
use grate::clock::{Clock, MockClock, SystemClock};
use grate::config::{Change, Dimension, ProviderConfig, Settings, Strategy};
use grate::feedback::Outcome;

const THREADS: usize = 8;
const NAMES: [&str; 3] = ["a", "b", "c"];
const SLOTS: [i64; 3] = [3, 4, 5];
const POOL_SLOTS: i64 = 9;
const PER_PROVIDER: u64 = 40;
const PER_POOL: [u64; 3] = [90, 70, 100];
const WINDOW: u64 = 100 * MS;
/// A test that takes longer has locked up.
const PATIENCE: Duration = Duration::from_secs(30);

fn providers() -> Vec<ProviderConfig> {
    let pool = |i: usize| pooled(["x", "y", "z"][i], requests(PER_POOL[i], WINDOW));
    let orders = [[0, 1, 2], [2, 0, 1], [1, 2, 0]];
    let all = NAMES.iter().zip(SLOTS).zip(orders).map(|((name, slots), order)| {
        let mut quotas = vec![requests(PER_PROVIDER, WINDOW), concurrency(slots as u64)];
        quotas.push(with(Strategy::TokenBucket, quota(Dimension::Tokens, 1_000_000, SEC)));
        quotas.extend(order.map(pool));
        quotas.push(pooled("slots", concurrency(POOL_SLOTS as u64)));
        provider(name, quotas)
    });
    all.collect()
}

/// One admission: the provider, and times just before and after it.
#[derive(Clone, Copy)]
struct Admission {
    provider: usize,
    before: u64,
    after: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    in_flight: [AtomicI64; 3],
    cancelled: AtomicU64,
    completed: AtomicU64,
}

fn hammer(engine: &Engine, clock: &dyn Clock, shared: &Shared, seed: usize) -> Vec<Admission> {
    let mut admissions = Vec::new();
    let mut held = Vec::new();
    let mut random = seed as u64 + 1;
    while !shared.stop.load(SeqCst) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = random >> 33;
        let before = clock.monotonic_ns();
        let routed = engine.acquire("api", &tokens(dice % 20), None).unwrap();
        let after = clock.monotonic_ns();
        if let Some(lease) = routed.lease {
            let provider = routed.best.unwrap().index as usize;
            let now = shared.in_flight[provider].fetch_add(1, SeqCst) + 1;
            assert!(now <= SLOTS[provider], "{now} leases of {} at once", NAMES[provider]);
            let all: i64 = shared.in_flight.iter().map(|n| n.load(SeqCst)).sum();
            assert!(all <= POOL_SLOTS + THREADS as i64, "{all} leases of the pool at once");
            held.push((lease, Admission { provider, before, after }));
        } else if dice.is_multiple_of(64) {
            thread::yield_now();
        }
        if held.len() > (dice % 3) as usize {
            let (lease, admission) = held.swap_remove((dice % held.len() as u64) as usize);
            shared.in_flight[admission.provider].fetch_sub(1, SeqCst);
            if dice.is_multiple_of(5) {
                engine.cancel(lease).unwrap();
                shared.cancelled.fetch_add(1, SeqCst);
            } else {
                engine.complete(lease, &reported_tokens(Outcome::Success, dice % 25)).unwrap();
                shared.completed.fetch_add(1, SeqCst);
                admissions.push(admission);
            }
            assert!(engine.cancel(lease).is_err());
        }
        if dice.is_multiple_of(16) {
            engine.select("api", &one(), Some(&mut Vec::new())).unwrap();
        }
    }
    for (lease, admission) in held {
        shared.in_flight[admission.provider].fetch_sub(1, SeqCst);
        engine.complete(lease, &report(Outcome::Success)).unwrap();
        shared.completed.fetch_add(1, SeqCst);
        admissions.push(admission);
    }
    admissions
}

/// Keeps changing what does not matter to the limits; how often it could, and the longest it took.
fn reconfigure(engine: &Engine, shared: &Shared) -> (u64, Duration) {
    let (mut times, mut longest) = (0, Duration::ZERO);
    while !shared.stop.load(SeqCst) {
        let mut all = providers();
        if times % 2 == 0 {
            for provider in &mut all {
                provider.quotas.insert(0, quota(Dimension::Bytes, 1000, SEC));
                provider.quotas.push(pooled("sometimes", requests(1_000_000, SEC)));
            }
        }
        let started = Instant::now();
        engine.apply(Change { providers: all, ..Change::default() }).unwrap();
        longest = longest.max(started.elapsed());
        let _ = engine.prometheus();
        times += 1;
        thread::sleep(Duration::from_millis(3));
    }
    (times, longest)
}

/// No more than `limit` admissions that certainly lie within one window.
fn check_windows(what: &str, mut admissions: Vec<Admission>, limit: u64) {
    admissions.sort_by_key(|a| a.before);
    let mut ends: Vec<u64> = Vec::new();
    for (i, first) in admissions.iter().enumerate() {
        ends.clear();
        let within = admissions[i..].iter().take_while(|a| a.before < first.before + WINDOW);
        ends.extend(within.map(|a| a.after).filter(|after| *after < first.before + WINDOW));
        assert!(ends.len() as u64 <= limit, "{what}: {} in a window, the limit is {limit}", ends.len());
    }
}

fn run(clock: Arc<dyn Clock>, mock: Option<Arc<MockClock>>, duration: Duration) {
    let engine = Arc::new(Engine::new(Settings::default(), clock.clone()).unwrap());
    serve(&engine, providers());
    let shared = Arc::new(Shared::default());
    let (done, results) = mpsc::channel();
    for seed in 0..THREADS {
        let (engine, clock, shared, done) = (engine.clone(), clock.clone(), shared.clone(), done.clone());
        thread::spawn(move || done.send(hammer(&engine, &*clock, &shared, seed)));
    }
    let (reconfigured, changes) = mpsc::channel();
    {
        let (engine, shared) = (engine.clone(), shared.clone());
        thread::spawn(move || reconfigured.send(reconfigure(&engine, &shared)));
    }
    drop(done);
    let (started, began) = (Instant::now(), clock.monotonic_ns());
    while started.elapsed() < duration {
        match &mock {
            Some(mock) => {
                mock.advance_ns(MS);
                thread::sleep(Duration::from_micros(200));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
    shared.stop.store(true, SeqCst);
    let mut admissions = Vec::new();
    for _ in 0..THREADS {
        // A thread that panicked drops its sender; one that is locked up does not.
        admissions.extend(results.recv_timeout(PATIENCE).expect("a thread failed or has locked up"));
    }
    let (times, longest) = changes.recv_timeout(PATIENCE).expect("the reconfiguration has locked up");
    println!("{} admissions, {times} changes, the longest took {longest:?}", admissions.len());

    for (i, name) in NAMES.iter().enumerate() {
        check_windows(name, admissions.iter().filter(|a| a.provider == i).copied().collect(), PER_PROVIDER);
        let state = engine.provider_state(name).unwrap();
        assert_eq!(state.counters.leases_in_flight, 0);
        let slots = state.quotas.iter().filter(|q| q.dimension == Dimension::Concurrency);
        assert_eq!(slots.map(|q| q.used).sum::<u64>(), 0, "slots of {name} are lost");
    }
    for limit in PER_POOL {
        check_windows("a pool", admissions.clone(), limit);
    }
    let c = engine.metrics().counters;
    assert_eq!(c.acquires, c.completions + c.cancellations);
    assert_eq!((c.completions, c.cancellations), (shared.completed.load(SeqCst), shared.cancelled.load(SeqCst)));
    assert_eq!((c.leases_in_flight, c.expired_leases), (0, 0));
    let windows = (clock.monotonic_ns() - began) / (WINDOW + 50 * MS);
    assert!(admissions.len() as u64 > windows * 20, "only {} in {windows} windows", admissions.len());
    assert!(times >= 10, "{times} changes: callers keep a reconfiguration waiting");
    assert!(longest < Duration::from_secs(1), "a reconfiguration waited {longest:?}");
}

#[test]
fn with_the_system_clock() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    run(clock, None, Duration::from_secs(2));
}

#[test]
fn with_a_mock_clock_that_one_thread_advances() {
    let mock = Arc::new(MockClock::new(UNIX_MS));
    run(mock.clone(), Some(mock), Duration::from_secs(2));
}

/// Callers that never pause must not keep a change of the configuration, or the removal of a provider, waiting.
#[test]
fn a_reconfiguration_gets_its_turn() {
    let engine = Arc::new(Engine::new(Settings::default(), Arc::new(SystemClock)).unwrap());
    serve(&engine, (0..20).map(|i| provider(&format!("p{i}"), vec![requests(100, SEC)])).collect());
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..THREADS {
        let (engine, stop) = (engine.clone(), stop.clone());
        thread::spawn(move || {
            while !stop.load(SeqCst) {
                engine.select("api", &one(), None).unwrap();
            }
        });
    }
    thread::sleep(Duration::from_millis(100));
    let (done, result) = mpsc::channel();
    {
        let (engine, stop) = (engine.clone(), stop.clone());
        thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stop.load(SeqCst) {
                let started = Instant::now();
                redefine(&engine, provider("p0", vec![requests(100, SEC)]));
                longest = longest.max(started.elapsed());
                let _ = done.send(longest);
            }
        });
    }
    thread::sleep(Duration::from_millis(1000));
    let changes = result.try_iter().count();
    stop.store(true, SeqCst);
    println!("{changes} changes in a second");
    assert!(changes >= 10, "{changes} changes in a second");
}

/// A clock of the caller's, which holds up who asks it next, if it is told to.
struct Turnstile {
    time: MockClock,
    /// Somebody shall wait, does wait, and may go on.
    closed: [AtomicBool; 2],
    waiting: AtomicBool,
}

impl Turnstile {
    fn new(unix_ms: u64) -> Arc<Self> {
        let closed = [const { AtomicBool::new(false) }; 2];
        Arc::new(Self { time: MockClock::new(unix_ms), closed, waiting: AtomicBool::new(false) })
    }

    /// Who asks what next waits there while `meanwhile` runs.
    fn hold_up(&self, which: usize, who: impl FnOnce() + Send, meanwhile: impl FnOnce()) {
        self.closed[which].store(true, SeqCst);
        thread::scope(|scope| {
            scope.spawn(who);
            await_true(&self.waiting);
            meanwhile();
            self.waiting.store(false, SeqCst);
        });
    }

    fn pass(&self, which: usize) {
        if self.closed[which].swap(false, SeqCst) {
            self.waiting.store(true, SeqCst);
            while self.waiting.load(SeqCst) {
                thread::yield_now();
            }
        }
    }
}

const MONOTONIC: usize = 0;
const UNIX: usize = 1;

impl Clock for Turnstile {
    fn monotonic_ns(&self) -> u64 {
        self.pass(MONOTONIC);
        self.time.monotonic_ns()
    }

    fn unix_ns(&self) -> u64 {
        self.pass(UNIX);
        self.time.unix_ns()
    }
}

fn await_true(flag: &AtomicBool) {
    let begun = Instant::now();
    while !flag.load(SeqCst) {
        assert!(begun.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

/// A caller that was on its way in when the first calendar window was configured knows the calendar as well.
#[test]
fn the_first_calendar_window_begins_where_the_calendar_says() {
    // 23:00 UTC.
    let clock = Turnstile::new(UNIX_MS + 23 * 3_600_000);
    let engine = Engine::new(Settings::default(), clock.clone()).unwrap();
    serve(&engine, vec![provider("a", vec![])]);
    let daily = || provider("a", vec![with(Strategy::FixedWindow, requests(10, DAY))]);
    clock.hold_up(MONOTONIC, || assert!(acquire(&engine).available()), || redefine(&engine, daily()));
    assert_eq!(used(&engine, "a", Dimension::Requests), 1);
    // 00:30.
    clock.time.advance_ns(90 * MINUTE);
    assert_eq!(used(&engine, "a", Dimension::Requests), 0);
}

/// Who is held up between the clock and the lock knows the calendar as it is then.
#[test]
fn the_calendar_goes_on_while_somebody_is_held_up() {
    // 50 s into a minute.
    let clock = Turnstile::new(UNIX_MS + 50_000);
    let engine = Engine::new(Settings::default(), clock.clone()).unwrap();
    serve(&engine, vec![provider("a", vec![with(Strategy::FixedWindow, requests(10, MINUTE))])]);
    let meanwhile = || {
        clock.time.advance_ns(20 * SEC);
        assert!(engine.select("api", &one(), None).unwrap().available());
    };
    clock.hold_up(MONOTONIC, || assert!(acquire(&engine).available()), meanwhile);
    while acquire(&engine).available() {}
    assert_eq!(engine.select("api", &one(), None).unwrap().best.unwrap().retry_after_ns, 50 * SEC);
}

/// The caller's clock may need a lock that another thread has which calls the engine.
#[cfg(unix)]
#[test]
fn the_clock_is_asked_while_no_lock_is_held() {
    let path = std::env::temp_dir().join(format!("grate-{}-clock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let file = grate::shared::StateFile { path: path.clone(), size: 0, replace_unusable: false };
    let clock = Turnstile::new(UNIX_MS);
    let engine = Engine::open(Settings::default(), clock.clone(), &file).unwrap();
    let other = Engine::open(Settings::default(), clock.clone(), &file).unwrap();
    serve(&engine, vec![provider("a", vec![])]);
    let change = |cooldown_seconds| redefine(&engine, ProviderConfig { cooldown_seconds, ..provider("a", vec![]) });
    // As somebody looks after the other processes, catches up with the configuration, and leaves.
    clock.time.advance_ns(SEC);
    clock.hold_up(UNIX, || assert!(acquire(&engine).available()), || change(1.0));
    clock.hold_up(UNIX, || assert!(acquire(&other).available()), || change(2.0));
    clock.hold_up(UNIX, || drop(other), || change(3.0));
    std::fs::remove_file(path).unwrap();
}
