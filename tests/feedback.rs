//! What responses teach: hidden limits, headers, waits, estimates.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{
    MINUTE, SEC, UNIX_MS, acquire, concurrency, engine, provider, quota, report, reported_tokens, requests, serve,
    tokens, with,
};
use grate::Engine;
use grate::config::{Dimension, QuotaConfig, Settings, Strategy};
use grate::engine::{Estimate, LimitSource, QuotaState, Report};
use grate::feedback::{Outcome, headers};
use grate::health::Circuit;
use grate::usage::Reported;

fn state<'a>(engine: &'a Engine, name: &str, dimension: Dimension) -> QuotaState<'a> {
    let state = engine.provider_state(name).unwrap();
    state.quotas.into_iter().find(|q| q.dimension == dimension).unwrap()
}

fn read(fields: &[(&str, &str)]) -> headers::Report {
    headers::parse(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), UNIX_MS)
}

/// Requests one after the other, 100 ms apart, of which the provider admits `admitted` and refuses the rest.
fn refuse_after(engine: &Engine, clock: &grate::clock::MockClock, admitted: u64, refused: u64) {
    for i in 0..admitted + refused {
        let lease = acquire(engine).lease.unwrap();
        clock.advance_ns(SEC / 10);
        let outcome = if i < admitted { Outcome::Success } else { Outcome::RateLimited };
        engine.complete(lease, &report(outcome)).unwrap();
    }
}

#[test]
fn a_hidden_limit_is_learned_just_below_what_was_admitted() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    refuse_after(&engine, &clock, 200, 1);
    let q = state(&engine, "a", Dimension::Requests);
    assert_eq!((q.limit, q.limit_source), (600, LimitSource::Learned));
    assert!((190..200).contains(&q.effective_limit), "{}", q.effective_limit);
    assert_eq!(q.remaining, 0);
    assert!(!acquire(&engine).available());
}

/// A bucket of 20 that refuses early is smaller or slower than it seemed, not one of 20 a minute.
#[test]
fn a_bucket_that_refuses_early_keeps_its_proportions() {
    let (engine, clock) = engine(Settings::default());
    let bucket = QuotaConfig { burst: Some(20), ..with(Strategy::TokenBucket, requests(6000, MINUTE)) };
    serve(&engine, vec![provider("a", vec![bucket])]);
    for i in 0..15 {
        let lease = acquire(&engine).lease.unwrap();
        clock.advance_ns(SEC / 1000);
        let outcome = if i < 14 { Outcome::Success } else { Outcome::RateLimited };
        engine.complete(lease, &report(outcome)).unwrap();
    }
    let q = state(&engine, "a", Dimension::Requests);
    assert_eq!((q.limit, q.limit_source), (6000, LimitSource::Learned));
    assert!((3300..4200).contains(&q.effective_limit), "{}", q.effective_limit);
    clock.advance_ns(10 * SEC);
    assert!((11..14).contains(&state(&engine, "a", Dimension::Requests).remaining));
}

/// What is left to others is a part of what can be used at once, however much a bucket gets in a minute.
#[test]
fn a_small_bucket_is_not_left_to_others() {
    let (engine, clock) = engine(Settings::default());
    let bucket = QuotaConfig { burst: Some(20), ..with(Strategy::TokenBucket, requests(6000, MINUTE)) };
    serve(&engine, vec![provider("a", vec![bucket])]);
    let headers = read(&[
        ("x-ratelimit-limit-requests", "6000"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "1s"),
    ]);
    let lease = acquire(&engine).lease.unwrap();
    engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::RateLimited) }).unwrap();
    let wait = acquire(&engine).best.unwrap().retry_after_ns;
    assert!(wait <= SEC, "{wait}");
    clock.advance_ns(wait);
    assert!(acquire(&engine).available());
}

#[test]
fn one_burst_of_refusals_is_one_lesson() {
    let (engine, clock) =
        engine(Settings { cooldown_trigger_count: 100, cooldown_threshold: 0.0, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    refuse_after(&engine, &clock, 100, 0);
    let burst: Vec<_> = (0..10).map(|_| acquire(&engine).lease.unwrap()).collect();
    clock.advance_ns(SEC / 10);
    engine.complete(burst[0], &report(Outcome::RateLimited)).unwrap();
    let learned = state(&engine, "a", Dimension::Requests).effective_limit;
    for lease in &burst[1..] {
        engine.complete(*lease, &report(Outcome::RateLimited)).unwrap();
    }
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, learned);
}

#[test]
fn little_evidence_teaches_nothing() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    refuse_after(&engine, &clock, 7, 1);
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 600);
}

#[test]
fn a_learned_limit_rises_again_while_it_is_calm() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    refuse_after(&engine, &clock, 200, 1);
    let learned = state(&engine, "a", Dimension::Requests).effective_limit;
    let mut last = learned;
    for step in 0..10 {
        clock.advance_ns(10 * MINUTE);
        engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
        let now = state(&engine, "a", Dimension::Requests).effective_limit;
        // The third step is as small as the first.
        let most = (1 + last / 50) << (2_u32.max(step) - 2);
        assert!(now >= last && now - last <= most, "{last} to {now}");
        last = now;
    }
    assert_eq!(last, 600);
    assert_eq!(state(&engine, "a", Dimension::Requests).limit_source, LimitSource::Configured);
}

/// A refusal that was not for a quota costs its limit for less than an hour.
#[test]
fn a_limit_that_was_learned_much_too_low_is_back_within_the_hour() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(1000, MINUTE)])]);
    refuse_after(&engine, &clock, 19, 1);
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 17);
    for _ in 0..60 {
        clock.advance_ns(MINUTE);
        engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
    }
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 1000);
}

#[test]
fn a_limit_configured_anew_replaces_what_was_learned() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    refuse_after(&engine, &clock, 200, 1);
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    assert_eq!(state(&engine, "a", Dimension::Requests).limit_source, LimitSource::Learned);
    serve(&engine, vec![provider("a", vec![requests(500, MINUTE)])]);
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 500);
}

/// Nobody configured a limit on requests, and the provider has one.
#[test]
fn a_limit_that_nobody_configured_is_learned_and_reported() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![])]);
    assert!(engine.provider_state("a").unwrap().quotas.is_empty());
    refuse_after(&engine, &clock, 100, 1);
    let q = state(&engine, "a", Dimension::Requests);
    assert_eq!((q.limit, q.limit_source), (u64::MAX, LimitSource::Learned));
    assert!((90..100).contains(&q.effective_limit), "{}", q.effective_limit);
}

#[test]
fn a_hidden_limit_on_concurrency_is_learned_as_such() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(6000, MINUTE), concurrency(20)])]);
    // Five at a time go well, again and again; then a sixth is refused.
    for _ in 0..20 {
        let leases: Vec<_> = (0..5).map(|_| acquire(&engine).lease.unwrap()).collect();
        clock.advance_ns(SEC);
        leases.into_iter().for_each(|lease| engine.complete(lease, &report(Outcome::Success)).unwrap());
    }
    let leases: Vec<_> = (0..6).map(|_| acquire(&engine).lease.unwrap()).collect();
    engine.complete(leases[5], &report(Outcome::RateLimited)).unwrap();
    let q = state(&engine, "a", Dimension::Concurrency);
    assert_eq!((q.limit, q.effective_limit, q.limit_source), (20, 5, LimitSource::Learned));
    assert_eq!(state(&engine, "a", Dimension::Requests).limit_source, LimitSource::Configured);
}

#[test]
fn headers_correct_the_books_both_ways() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(100, MINUTE)])]);
    let told = |remaining: &str| {
        let lease = acquire(&engine).lease.unwrap();
        clock.advance_ns(SEC);
        let told = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", remaining)];
        let headers = read(&told);
        engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
        engine.remaining("a", Dimension::Requests).unwrap()
    };
    assert_eq!(told("40"), 40);
    assert_eq!(told("99"), 99);
    assert_eq!(told("0"), 0);
    assert!(!acquire(&engine).available());
}

#[test]
fn a_limit_that_headers_tell_is_in_force() {
    let (engine, _clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(100, MINUTE)])]);
    let observe = |limit: &str| {
        let headers = read(&[("x-ratelimit-limit-requests", limit)]);
        engine.observe("a", &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
        let q = state(&engine, "a", Dimension::Requests);
        (q.effective_limit, q.limit_source)
    };
    assert_eq!(observe("60"), (60, LimitSource::Told));
    assert_eq!(observe("200"), (200, LimitSource::Told));
    // A limit per day, by its size: not this quota's.
    assert_eq!(observe("10000"), (200, LimitSource::Told));
    assert_eq!(observe("100"), (100, LimitSource::Configured));
}

#[test]
fn cached_and_absent_headers_change_nothing() {
    let (engine, _clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(100, MINUTE)])]);
    for fields in [&[("x-ratelimit-remaining-requests", "3"), ("age", "7")][..], &[]] {
        let headers = read(fields);
        engine.observe("a", &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
    }
    assert_eq!(engine.remaining("a", Dimension::Requests).unwrap(), 98);
}

#[test]
fn retry_after_in_headers_cools_down_for_so_long_but_not_for_years() {
    let (engine, _clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![])]);
    for (value, secs, capped) in [("7", 7, 0), ("99999999", 86_400, 1)] {
        let headers = read(&[("retry-after", value)]);
        engine.observe("a", &Report { headers: Some(&headers), ..report(Outcome::RateLimited) }).unwrap();
        assert_eq!(engine.provider_state("a").unwrap().cooldown_remaining_ns, secs * SEC);
        assert_eq!(engine.metrics().counters.capped_waits, capped);
    }
}

#[test]
fn an_exhausted_quota_is_not_tried_again_soon() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![])]);
    engine.observe("a", &report(Outcome::QuotaExhausted)).unwrap();
    clock.advance_ns(599 * SEC);
    assert_eq!(engine.provider_state("a").unwrap().circuit, Circuit::Open);
    let wait = Report { retry_after_ns: Some(5 * 3600 * SEC), ..report(Outcome::QuotaExhausted) };
    engine.observe("a", &wait).unwrap();
    assert_eq!(engine.provider_state("a").unwrap().cooldown_remaining_ns, 5 * 3600 * SEC);
}

#[test]
fn estimates_are_learned_by_the_quantile_that_is_asked_for() {
    for (quantile, expected) in [(0.0, 500..=700), (0.9, 850..=1100)] {
        let (engine, clock) = engine(Settings { estimate_quantile: quantile, ..Settings::default() });
        serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 1_000_000, MINUTE)])]);
        for i in 0..2000 {
            let lease = acquire(&engine).lease.unwrap();
            engine.complete(lease, &reported_tokens(Outcome::Success, 100 + i * 37 % 1000)).unwrap();
            clock.advance_ns(SEC);
        }
        clock.advance_ns(10 * MINUTE);
        acquire(&engine);
        let reserved = state(&engine, "a", Dimension::Tokens).used;
        assert!(expected.contains(&reserved), "{quantile}: {reserved}");
        // A true zero reserves none.
        let none = Estimate { usage: Reported::default().with(Dimension::Tokens, Some(0)), ..Estimate::default() };
        engine.acquire("api", &none, None).unwrap();
        assert_eq!(state(&engine, "a", Dimension::Tokens).used, reserved);
    }
}

/// What others spent is back at the reset that headers tell, and not a window later.
#[test]
fn a_spent_quota_is_closed_until_its_reset() {
    for (window, reset, secs) in [(MINUTE, "20s", 20), (1440 * MINUTE, "1h0m0s", 3600), (MINUTE, "10m0s", 600)] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![requests(100, window)])]);
        let lease = acquire(&engine).lease.unwrap();
        let headers = read(&[
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", reset),
        ]);
        engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
        assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, secs * SEC, "{reset}");
        clock.advance_ns(secs * SEC);
        assert!(acquire(&engine).available(), "{reset}");
    }
}

/// A share of a key's limit is configured: the key's own is not taken over, but when it is spent nothing is sent.
#[test]
fn a_spent_key_closes_a_small_share_of_it() {
    let (engine, _clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(10, MINUTE)])]);
    let headers = read(&[
        ("x-ratelimit-limit-requests", "1000"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "20s"),
    ]);
    engine.observe("a", &Report { headers: Some(&headers), ..report(Outcome::RateLimited) }).unwrap();
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 10);
    assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, 20 * SEC);
}

/// One reading of others' use does not throttle a provider that is idle since.
#[test]
fn old_news_are_forgotten() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(100, MINUTE)])]);
    let headers = read(&[("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "50")]);
    engine.observe("a", &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
    clock.advance_ns(30 * SEC);
    assert!(engine.remaining("a", Dimension::Requests).unwrap() < 10);
    clock.advance_ns(31 * SEC);
    assert_eq!(engine.remaining("a", Dimension::Requests).unwrap(), 100);
}

/// Headers may tell of concurrency too; leases in flight are counted here and are not charged a second time.
#[test]
fn headers_never_take_slots_of_concurrency() {
    let (engine, _clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![concurrency(10)])]);
    let headers =
        read(&[("ratelimit-policy", r#""slots";q=10;qu="concurrent-requests""#), ("ratelimit", r#""slots";r=4"#)]);
    assert_eq!(headers.quotas()[0].dimension, Dimension::Concurrency);
    let lease = acquire(&engine).lease.unwrap();
    engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
    assert_eq!(state(&engine, "a", Dimension::Concurrency).used, 0);
}

/// What remains of requests, of which nobody configured a limit and no header tells one, holds nobody back.
#[test]
fn headers_do_not_limit_what_nobody_limits() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 1_000_000, MINUTE)])]);
    let headers = read(&[("x-ratelimit-remaining-requests", "59")]);
    for i in 0..300 {
        let lease = acquire(&engine).lease.unwrap_or_else(|| panic!("held at request {i}"));
        clock.advance_ns(SEC / 1000);
        engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
    }
    let spent = read(&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2s")]);
    engine
        .complete(acquire(&engine).lease.unwrap(), &Report { headers: Some(&spent), ..report(Outcome::Success) })
        .unwrap();
    assert!(!acquire(&engine).available(), "what is spent is spent");
    clock.advance_ns(2 * SEC);
    assert!(acquire(&engine).available());
}

/// Of a provider without quotas, a refusal for a second teaches no limit of a minute.
#[test]
fn a_short_wait_teaches_no_long_limit() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![])]);
    refuse_after(&engine, &clock, 30, 0);
    let refused = Report { retry_after_ns: Some(SEC), ..report(Outcome::RateLimited) };
    engine.complete(acquire(&engine).lease.unwrap(), &refused).unwrap();
    assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, SEC);
    clock.advance_ns(SEC);
    engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
    assert!(acquire(&engine).available());
}

#[test]
fn a_wait_of_seconds_teaches_nothing_of_a_day() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(100, MINUTE), quota(Dimension::Tokens, 1000, 1440 * MINUTE)])]);
    let lease = engine.acquire("api", &tokens(100), None).unwrap().lease.unwrap();
    clock.advance_ns(SEC / 5);
    engine.complete(lease, &reported_tokens(Outcome::Success, 90)).unwrap();
    let refused = Report { retry_after_ns: Some(7 * SEC), ..report(Outcome::RateLimited) };
    engine.observe("a", &refused).unwrap();
    assert_eq!(state(&engine, "a", Dimension::Tokens).limit_source, LimitSource::Configured);
    clock.advance_ns(60 * SEC);
    assert!(engine.acquire("api", &tokens(100), None).unwrap().available());
}

/// Only what passes shows that there is more: but if nothing can pass, time must do.
#[test]
fn a_limit_that_was_learned_too_low_rises_though_nothing_passes() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 1000, MINUTE)])]);
    let ask = || engine.acquire("api", &tokens(100), None).unwrap();
    let lease = ask().lease.unwrap();
    clock.advance_ns(SEC / 5);
    engine.complete(lease, &reported_tokens(Outcome::Success, 90)).unwrap();
    clock.advance_ns(SEC / 5);
    engine.observe("a", &report(Outcome::RateLimited)).unwrap();
    assert!(state(&engine, "a", Dimension::Tokens).effective_limit < 100);
    let minutes = (1..1000).find(|_| {
        clock.advance_ns(MINUTE);
        ask().available()
    });
    assert!(minutes.is_some_and(|minutes| minutes < 100), "{minutes:?}");
}

/// That is a wait like any other, also for who only looks.
#[test]
fn how_long_a_learned_limit_is_too_low_is_told() {
    let (engine, clock) = engine(Settings { cooldown_threshold: 0.0, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 100, MINUTE)])]);
    for i in 0..6 {
        let lease = engine.acquire("api", &tokens(10), None).unwrap().lease.unwrap();
        clock.advance_ns(SEC);
        engine.complete(lease, &report(if i < 5 { Outcome::Success } else { Outcome::RateLimited })).unwrap();
    }
    let limit = state(&engine, "a", Dimension::Tokens).effective_limit;
    assert!(limit < 100);
    let look = |n: u64| engine.select("api", &tokens(n), None).unwrap().best.unwrap();
    let held = look(limit + 1);
    assert_eq!(look(limit + 1), held, "who looks changes nothing");
    assert!(held.held_by.is_some() && held.retry_after_ns < 10 * MINUTE, "{held:?}");
    clock.advance_ns(held.retry_after_ns - 1);
    assert!(look(limit + 1).held_by.is_some());
    clock.advance_ns(1);
    assert_eq!(look(limit + 1).held_by, None);
    // What is above the configured limit never fits.
    assert_eq!(look(101).retry_after_ns, u64::MAX);
}

#[test]
fn what_headers_close_is_shown_though_nobody_configured_it() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![])]);
    let headers = read(&[
        ("x-ratelimit-limit-requests", "18"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "31"),
    ]);
    let told = Report { headers: Some(&headers), ..report(Outcome::Success) };
    engine.complete(acquire(&engine).lease.unwrap(), &told).unwrap();
    assert!(!acquire(&engine).available());
    assert_eq!(engine.remaining("a", Dimension::Requests), Ok(0));
    assert_eq!(state(&engine, "a", Dimension::Requests).remaining, 0);
    clock.advance_ns(32 * SEC);
    assert!(acquire(&engine).available());
    assert_eq!(engine.remaining("a", Dimension::Requests), Ok(u64::MAX));
}
