//! Of operations on shared state that are broken off, and of their journal.

use super::*;
use crate::clock::MockClock;
use crate::config::{Candidate, CapabilityConfig, Dimension, ProviderConfig, QuotaConfig, Strategy};
use crate::feedback::Outcome;
use crate::usage::Reported;

use crate::book::Book;

const SECOND: u64 = 1000 * NS_PER_MS;

fn quota(limit: u64, window_ns: u64, strategy: Option<Strategy>) -> QuotaConfig {
    QuotaConfig { dimension: Dimension::Tokens, limit, window_ns, strategy, burst: None, phase_ns: None, pool: None }
}

fn serve(engine: &Engine, quotas: Vec<QuotaConfig>) {
    let provider = ProviderConfig { name: "p".into(), priority: 1, weight: 1.0, cooldown_seconds: 30.0, quotas };
    let candidate = Candidate { provider: "p".into(), priority: None };
    let capability = CapabilityConfig { name: "c".into(), providers: vec![candidate] };
    let change = Change { providers: vec![provider], capabilities: vec![capability], ..Change::default() };
    engine.apply(change).unwrap();
}

/// A file that is not there yet.
fn file(name: &str, size: u64) -> StateFile {
    let path = std::env::temp_dir().join(format!("grate-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    StateFile { path, size, replace_unusable: false }
}

fn open(name: &str, clock: &Arc<MockClock>, size: u64) -> Engine {
    let file = file(name, size);
    let engine = Engine::open(Settings::default(), clock.clone(), &file).unwrap();
    std::fs::remove_file(file.path).unwrap();
    engine
}

fn told(tokens: u64) -> Reported {
    Reported::default().with(Dimension::Tokens, Some(tokens))
}

fn observe(engine: &Engine, tokens: u64) {
    let (outcome, usage) = (Outcome::Success, told(tokens));
    engine.observe("p", &Report { outcome, latency_ns: None, retry_after_ns: None, usage, headers: None }).unwrap();
}

fn used(engine: &Engine) -> u64 {
    let tokens = |locked: &Locked<'_>, _: &Settings| {
        locked.quotas().find(|(_, q)| q.dimension() == Dimension::Tokens).unwrap().1.used(locked.now)
    };
    engine.with_provider(b"p", tokens).unwrap()
}

/// All marks of a ring are in use, and the first leaves as something new is charged, which then lies where that one did.
fn broken_off_on_a_full_ring(first: u64, then: u64) {
    let clock = Arc::new(MockClock::new(0));
    let engine = open(&format!("ring-{first}"), &clock, StateFile::MIN_SIZE);
    serve(&engine, vec![quota(20, SECOND, None)]);
    for i in 0..21 {
        clock.advance_ns(NS_PER_MS);
        observe(&engine, if i == 0 { first } else { 1 });
    }
    // Two have left.
    clock.advance_ns(SECOND - 19 * NS_PER_MS);
    assert_eq!(used(&engine), 19);
    let broken_off = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        engine.with_provider(b"p", |locked, _| {
            locked.observe_usage(&locked.unleased(told(then).or(&Usage::NONE), None));
            assert!(locked.wired.links.is_empty(), "on purpose");
        })
    }));
    assert!(broken_off.is_err());
    assert_eq!(used(&engine), 19);
    observe(&engine, 1);
    assert_eq!(used(&engine), 20);
    clock.advance_ns(SECOND + NS_PER_SEC / 10);
    observe(&engine, 1);
    assert_eq!(used(&engine), 1);
}

#[test]
fn what_is_broken_off_leaves_a_full_ring_as_it_was() {
    broken_off_on_a_full_ring(9, 1);
    broken_off_on_a_full_ring(1, 15);
}

#[test]
fn the_journal_has_room_for_all_that_a_definition_changes() {
    let clock = Arc::new(MockClock::new(0));
    let engine = open("definitions", &clock, 64 << 20);
    let some = |limit, strategy| (0..32).map(|i| quota(limit, SECOND + i, strategy)).collect::<Vec<_>>();
    serve(&engine, some(10, None));
    serve(&engine, some(1000, Some(Strategy::TokenBucket)));
    observe(&engine, 500);
    let estimate = Estimate { usage: told(7), ..Estimate::default() };
    let lease = || engine.acquire("c", &estimate, None).unwrap().lease.unwrap();
    let (early, late) = (lease(), lease());
    serve(&engine, (0..32).map(|i| quota(1000, 5 * SECOND + i, None)).collect());
    // So does the end of a lease that was charged on other quotas than are there.
    engine.cancel(early).unwrap();
    serve(&engine, some(1000, None));
    assert_eq!(used(&engine), 507);
    engine.cancel(late).unwrap();
    assert_eq!(used(&engine), 500);
}

fn many(providers: usize) -> Change {
    let quotas = |i: u64| (0..3).map(|k| quota(1000, SECOND + i * 10 + k, None)).collect();
    let provider = |i: usize| ProviderConfig {
        name: format!("p{i}").into(),
        priority: 1,
        weight: 1.0,
        cooldown_seconds: 30.0,
        quotas: quotas(i as u64),
    };
    let providers: Vec<_> = (0..providers).map(provider).collect();
    let candidates = providers.iter().map(|p| Candidate { provider: p.name.clone(), priority: None }).collect();
    let capability = CapabilityConfig { name: "c".into(), providers: candidates };
    Change { providers, capabilities: vec![capability], ..Change::default() }
}

/// What `configure` does until what comes is announced, and no more: as if the process had died. Whether there is room.
fn announce(engine: &Engine, change: &Change) -> bool {
    engine.registry.get().write(|registry| {
        let _changing = engine.state.memory.lock(&engine.state.head().changing);
        let (mut book, changed): (Book, Vec<u32>) = registry.book.with(change).unwrap();
        engine.state.forget_settled(&mut book, &changed);
        let has_room = engine.state.reserve(&book, &changed).is_some();
        has_room && engine.state.memory.sharing().unwrap().announce(&engine.state.memory, &book).is_ok()
    })
}

#[test]
fn a_configuration_that_was_broken_off_in_a_fairly_full_file_comes_into_force() {
    let clock = Arc::new(MockClock::new(0));
    let file = file("broken-off", StateFile::MIN_SIZE);
    let (dying, one, other) = [(); 3].map(|()| Engine::open(Settings::default(), clock.clone(), &file).unwrap()).into();
    std::fs::remove_file(&file.path).unwrap();
    assert!(announce(&dying, &many(40)));
    let estimate = Estimate { usage: told(1), ..Estimate::default() };
    for engine in [&one, &other] {
        let routed = engine.acquire("c", &estimate, None).unwrap();
        assert!(routed.available());
        assert_eq!(routed.total, 40);
        engine.cancel(routed.lease.unwrap()).unwrap();
    }
    // And what had been reserved for it is not lost.
    let used = one.file_usage().unwrap().used;
    one.apply(many(40)).unwrap();
    assert_eq!(one.file_usage().unwrap().used, used);
}

#[test]
fn a_refused_acquire_takes_no_record() {
    let engine = Engine::new(Settings::default(), Arc::new(MockClock::new(0))).unwrap();
    serve(&engine, vec![]);
    // As if all numbers were taken.
    engine.state.memory.directory::<crate::lease::Lease>().len.set(1 << 24);
    for _ in 0..10 {
        assert!(matches!(engine.acquire("c", &Estimate::default(), None), Err(Error::Capacity(_))));
    }
    assert_eq!(engine.state.leases.len(), 1 << 24);
}

#[test]
#[allow(unsafe_code, reason = "a cell that nothing else writes so")]
fn a_damaged_count_of_cooldowns_holds_nobody_up() {
    let settings = Settings { cooldown_multiplier: 1.0, ..Settings::default() };
    let engine = Engine::new(settings, Arc::new(MockClock::new(0))).unwrap();
    serve(&engine, vec![]);
    let health = &engine.state.providers.get(0).unwrap().health;
    // SAFETY: it consists of such cells; the fourth counts cooldowns.
    let words = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(health).cast::<crate::cell::Cell>(), 4) };
    words[3].set(1 << 60);
    for _ in 0..3 {
        let (outcome, usage) = (Outcome::ServerError, Reported::default());
        engine.observe("p", &Report { outcome, latency_ns: None, retry_after_ns: None, usage, headers: None }).unwrap();
    }
    assert!(health.cooldown_left(engine.now().mono) > 0);
}

#[test]
fn a_process_that_comes_now_goes_on_from_what_was_before() {
    let clock = Arc::new(MockClock::new(0));
    let file = file("before", StateFile::MIN_SIZE);
    let open = || Engine::open(Settings::default(), clock.clone(), &file).unwrap();
    let dying = open();
    serve(&dying, vec![quota(1_000_000, SECOND, None)]);
    let estimate = Estimate { usage: told(10), ..Estimate::default() };
    let lease = dying.acquire("c", &estimate, None).unwrap().lease.unwrap();
    let (outcome, usage) = (Outcome::Success, told(5000));
    dying.complete(lease, &Report { outcome, latency_ns: None, retry_after_ns: None, usage, headers: None }).unwrap();
    dying.remove_capability("c").unwrap();
    let candidate = Candidate { provider: "p".into(), priority: None };
    let other = CapabilityConfig { name: "other".into(), providers: vec![candidate] };
    assert!(announce(&dying, &Change { capabilities: vec![other], ..Change::default() }));
    // What is learned of one capability is not known of another, also if the change was broken off.
    let fresh = open();
    std::fs::remove_file(&file.path).unwrap();
    let before = used(&fresh);
    fresh.acquire("other", &Estimate::default(), None).unwrap().lease.unwrap();
    assert_eq!(used(&fresh), before);
}

#[test]
fn what_was_announced_in_any_order_has_room_again() {
    let mut announced = 0;
    for seed in 0..60 {
        let clock = Arc::new(MockClock::new(0));
        let file = file("order", StateFile::MIN_SIZE);
        let one = Engine::open(Settings::default(), clock.clone(), &file).unwrap();
        let small = many(8 + seed % 20);
        one.apply(small.clone()).unwrap();
        // The same providers with more quotas, in another order.
        let mut large = small;
        large.providers.reverse();
        large.providers.rotate_left(seed % 8);
        for (provider, n) in large.providers.iter_mut().zip(0..) {
            provider.quotas.extend((0..(n * 7 + seed as u64) % 5).map(|k| quota(1000, 7 * SECOND + k, None)));
        }
        announced += usize::from(announce(&one, &large));
        let fresh = Engine::open(Settings::default(), clock, &file).unwrap();
        std::fs::remove_file(&file.path).unwrap();
        assert_eq!(fresh.enter().0.generation % 2, 0, "seed {seed}: it is not in force");
    }
    assert!(announced > 20, "{announced}");
}
