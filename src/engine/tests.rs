//! Of operations on shared state that are broken off, and of their journal.

use super::*;
use crate::clock::MockClock;
use crate::config::{Candidate, CapabilityConfig, Dimension, ProviderConfig, QuotaConfig, Strategy};
use crate::feedback::Outcome;
use crate::usage::Reported;

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

fn open(name: &str, clock: &Arc<MockClock>, size: u64) -> Engine {
    let path = std::env::temp_dir().join(format!("grate-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let file = StateFile { path: path.clone(), size, replace_unusable: false };
    let engine = Engine::open(Settings::default(), clock.clone(), &file).unwrap();
    std::fs::remove_file(path).unwrap();
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
