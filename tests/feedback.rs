//! What responses teach: hidden limits, headers, waits, estimates.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{
    DAY, MINUTE, MS, SEC, UNIX_MS, acquire, capability, concurrency, engine, one, pooled, provider, quota, report,
    reported_tokens, requests, serve, tokens, with,
};
use grate::Engine;
use grate::config::{Change, Dimension, QuotaConfig, Settings, Strategy};
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

/// Of a burst, the refused are answered first; those that are still under way count as soon as they went well.
#[test]
fn a_burst_that_went_well_in_part_teaches_how_large_a_part() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    // So many at once have gone well before.
    let before: Vec<_> = (0..300).map(|_| acquire(&engine).lease.unwrap()).collect();
    before.into_iter().for_each(|lease| engine.complete(lease, &report(Outcome::Success)).unwrap());
    clock.advance_ns(2 * MINUTE);
    refuse_after(&engine, &clock, 20, 0);
    let burst: Vec<_> = (0..300).map(|_| acquire(&engine).lease.unwrap()).collect();
    clock.advance_ns(SEC / 20);
    burst[180..].iter().for_each(|lease| engine.complete(*lease, &report(Outcome::RateLimited)).unwrap());
    clock.advance_ns(SEC / 2);
    burst[..180].iter().for_each(|lease| engine.complete(*lease, &report(Outcome::Success)).unwrap());
    let limit = state(&engine, "a", Dimension::Requests).effective_limit;
    assert!((190..200).contains(&limit), "{limit}");
}

/// The provider documents 600 a minute and lets in ten a second.
#[test]
fn a_shorter_window_that_nobody_told_of_is_not_taken_for_the_minute() {
    let (engine, clock) =
        engine(Settings { cooldown_trigger_count: 100, cooldown_threshold: 0.0, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    let (mut served, mut refused) = (0, 0);
    for _ in 0..60 {
        let mut admitted = 0;
        for _ in 0..40 {
            clock.advance_ns(SEC / 40);
            let Some(lease) = acquire(&engine).lease else { continue };
            admitted += 1;
            let outcome = if admitted <= 10 { Outcome::Success } else { Outcome::RateLimited };
            engine.complete(lease, &report(outcome)).unwrap();
            if admitted <= 10 { served += 1 } else { refused += 1 }
        }
    }
    assert!(served > 400 && refused <= 5, "{served} served, {refused} refused");
}

/// A limit that is as low as the first refusal says stays learned: what tries it is refused, and few do.
#[test]
fn a_limit_far_below_the_documented_one_is_tried_twice() {
    let (engine, clock) =
        engine(Settings { cooldown_trigger_count: 100, cooldown_threshold: 0.0, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    refuse_after(&engine, &clock, 50, 1);
    let mut tries = 0;
    for _ in 0..450 {
        clock.advance_ns(SEC / 10);
        let Some(lease) = acquire(&engine).lease else { continue };
        tries += 1;
        engine.complete(lease, &report(Outcome::RateLimited)).unwrap();
    }
    assert_eq!(tries, 2);
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 48);
}

/// A limit of a few is learned from several refusals.
#[test]
fn a_small_limit_is_learned_from_several_refusals() {
    let (engine, clock) =
        engine(Settings { cooldown_trigger_count: 100, cooldown_threshold: 0.0, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![requests(5, MINUTE)])]);
    for i in 0..3 {
        assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 5, "{i}");
        refuse_after(&engine, &clock, 3, 1);
        clock.advance_ns(MINUTE);
    }
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 3);
}

/// Finding out how low a limit is takes several refusals; that it has been raised is found as soon as after one.
#[test]
fn refusals_in_a_row_teach_no_patience() {
    let (engine, clock) =
        engine(Settings { cooldown_trigger_count: 100, cooldown_threshold: 0.0, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    let limit = || state(&engine, "a", Dimension::Requests).effective_limit;
    refuse_after(&engine, &clock, 400, 0);
    while limit() > 300 {
        clock.advance_ns(SEC);
        if let Some(lease) = acquire(&engine).lease {
            engine.complete(lease, &report(Outcome::RateLimited)).unwrap();
        }
    }
    let learned = limit();
    for _ in 0..10 {
        clock.advance_ns(MINUTE);
        for lease in (0..600).map_while(|_| acquire(&engine).lease) {
            engine.complete(lease, &report(Outcome::Success)).unwrap();
        }
    }
    assert!(limit() > learned, "{} after {learned}", limit());
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
    for _ in 0..100 {
        clock.advance_ns(10 * MINUTE);
        engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
        let now = state(&engine, "a", Dimension::Requests).effective_limit;
        assert!(now >= last && now - last <= 1 + last / 50, "{last} to {now}");
        last = now;
    }
    assert_eq!(last, 600);
    assert_eq!(state(&engine, "a", Dimension::Requests).limit_source, LimitSource::Configured);
}

/// A refusal that was not for a quota costs its limit for less than an hour, if there is use for it.
#[test]
fn a_limit_that_was_learned_much_too_low_is_back_within_the_hour() {
    for demand in [1, 100] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![requests(1000, MINUTE)])]);
        refuse_after(&engine, &clock, 19, 1);
        let limit = || state(&engine, "a", Dimension::Requests).effective_limit;
        assert_eq!(limit(), 18);
        for _ in 0..60 {
            clock.advance_ns(MINUTE);
            for lease in (0..demand).map_while(|_| acquire(&engine).lease) {
                engine.complete(lease, &report(Outcome::Success)).unwrap();
            }
        }
        assert_eq!(limit() > 100, demand == 100, "{}", limit());
    }
}

/// Slots that nobody needs do not tell that there are more: a limit on them is not forgotten in a quiet minute.
#[test]
fn a_learned_limit_on_concurrency_is_remembered_while_few_slots_are_used() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(1_000_000, MINUTE)])]);
    for _ in 0..10 {
        engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
    }
    let leases: Vec<_> = (0..11).map(|_| acquire(&engine).lease.unwrap()).collect();
    for (i, lease) in leases.into_iter().enumerate() {
        let outcome = if i == 10 { Outcome::RateLimited } else { Outcome::Success };
        engine.complete(lease, &report(outcome)).unwrap();
    }
    let limit = || state(&engine, "a", Dimension::Concurrency).effective_limit;
    let learned = limit();
    assert!(learned <= 10, "{learned}");
    for _ in 0..60 {
        clock.advance_ns(SEC);
        engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
    }
    assert!(limit() <= learned + 20, "{}", limit());
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
    let metrics = engine.prometheus();
    let labels = r#"{provider="a",dimension="requests",window_seconds="60"}"#;
    assert!(metrics.contains(&format!("\ngrate_quota_limit{labels} +Inf\n")), "{metrics}");
    assert!(metrics.contains(&format!("\ngrate_quota_effective_limit{labels} {}\n", q.effective_limit)), "{metrics}");
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

/// The first to be refused came when nothing had been answered yet: that many were out, not that many a minute.
#[test]
fn a_limit_on_concurrency_that_the_first_burst_meets_is_learned_as_such() {
    let (engine, _clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(6000, MINUTE), concurrency(20)])]);
    let leases: Vec<_> = (0..11).map(|_| acquire(&engine).lease.unwrap()).collect();
    engine.complete(leases[10], &report(Outcome::RateLimited)).unwrap();
    assert_eq!(state(&engine, "a", Dimension::Concurrency).effective_limit, 10);
    assert_eq!(state(&engine, "a", Dimension::Requests).limit_source, LimitSource::Configured);
}

/// With a queue there are always more leases out than before; but the quota that is spent is what refused.
#[test]
fn a_spent_quota_is_not_taken_for_concurrency() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(100, MINUTE), concurrency(50)])]);
    refuse_after(&engine, &clock, 70, 0);
    let next = |_| {
        clock.advance_ns(SEC / 1000);
        acquire(&engine).lease.unwrap()
    };
    let leases: Vec<_> = (0..20).map(next).collect();
    engine.complete(leases[19], &report(Outcome::RateLimited)).unwrap();
    assert_eq!(state(&engine, "a", Dimension::Concurrency).limit_source, LimitSource::Configured);
    assert_eq!(state(&engine, "a", Dimension::Requests).limit_source, LimitSource::Learned);
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

/// A granted request that is answered with these headers.
fn answered(engine: &Engine, outcome: Outcome, fields: &[(&str, &str)]) {
    let headers = read(fields);
    engine.complete(acquire(engine).lease.unwrap(), &Report { headers: Some(&headers), ..report(outcome) }).unwrap();
}

/// Nothing is sent under a limit of 0, and so nothing would ever tell of another.
#[test]
fn a_told_limit_of_nothing_holds_until_its_reset() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(50, MINUTE)])]);
    answered(
        &engine,
        Outcome::Success,
        &[("ratelimit-limit", "0;w=60"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "5")],
    );
    assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, 5 * SEC);
    clock.advance_ns(5 * SEC);
    assert!(acquire(&engine).available());
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 50);
}

/// What remains of something larger tells nothing of a quota.
#[test]
fn more_than_there_is_can_not_be_left() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(10, MINUTE)])]);
    for _ in 0..10 {
        clock.advance_ns(MS);
        answered(&engine, Outcome::Success, &[("x-ratelimit-remaining", "598")]);
    }
    assert!(!acquire(&engine).available());
}

#[test]
fn a_longer_window_is_not_taken_for_a_shorter_one() {
    for other in ["month", "week", "year", "1d", "15min"] {
        let (engine, _) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![requests(60, MINUTE)])]);
        let fields = [
            (format!("x-ratelimit-limit-requests-{other}"), "200"),
            (format!("x-ratelimit-remaining-requests-{other}"), "199"),
        ];
        let mut all: Vec<_> = fields.iter().map(|(name, value)| (&**name, *value)).collect();
        all.push(("x-ratelimit-limit-requests-minute", "60"));
        all.push(("x-ratelimit-remaining-requests-minute", "59"));
        answered(&engine, Outcome::Success, &all);
        all.reverse();
        answered(&engine, Outcome::Success, &all);
        let q = state(&engine, "a", Dimension::Requests);
        assert_eq!((q.effective_limit, q.used), (60, 2), "{other}");
    }
}

/// Lists side by side, one member for each window.
#[test]
fn limits_of_several_windows_in_one_field() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(1, SEC), requests(15_000, 30 * DAY)])]);
    answered(
        &engine,
        Outcome::Success,
        &[
            ("x-ratelimit-limit", "1, 15000"),
            ("x-ratelimit-policy", "1;w=1, 15000;w=2592000"),
            ("x-ratelimit-remaining", "0, 14000"),
            ("x-ratelimit-reset", "1, 1419704"),
        ],
    );
    clock.advance_ns(2 * SEC);
    let state = engine.provider_state("a").unwrap();
    let used: Vec<_> = state.quotas.iter().map(|q| (q.window_ns, q.used)).collect();
    assert_eq!(used, [(SEC, 0), (30 * DAY, 1000)]);
    // A limit of 0 is none, and lists that do not fit together say nothing.
    for fields in [
        [
            ("x-ratelimit-limit", "1, 0"),
            ("x-ratelimit-policy", "1;w=1, 0;w=2592000"),
            ("x-ratelimit-remaining", "0, 0"),
        ],
        [("x-ratelimit-limit", "1, 9"), ("x-ratelimit-policy", "1;w=1, 8;w=60"), ("x-ratelimit-remaining", "0, 0")],
    ] {
        answered(&engine, Outcome::Success, &fields);
        clock.advance_ns(2 * SEC);
        assert!(acquire(&engine).available(), "{fields:?}");
        clock.advance_ns(2 * SEC);
    }
}

#[test]
fn a_told_reset_ends_what_it_holds() {
    for strategy in [Strategy::Rolling, Strategy::FixedWindow] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![with(strategy, requests(5, DAY))])]);
        let fields = [("x-ratelimit-limit", "5"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "3600")];
        answered(&engine, Outcome::Success, &fields);
        assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, 3600 * SEC, "{strategy:?}");
        clock.advance_ns(3600 * SEC);
        assert!(acquire(&engine).available(), "{strategy:?}");
    }
}

/// What is left of a project's larger limit opens nothing that the quota's own fields closed, in whichever order they come.
#[test]
fn what_surely_speaks_of_a_quota_goes_first() {
    let own = [
        ("x-ratelimit-limit-tokens", "100000"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "30s"),
    ];
    let project =
        [("x-ratelimit-limit-project-tokens", "5000000"), ("x-ratelimit-remaining-project-tokens", "4000000")];
    for fields in [[&own[..], &project].concat(), [&project[..], &own].concat()] {
        let (engine, clock) = engine(Settings::default());
        let bucket = with(Strategy::TokenBucket, quota(Dimension::Tokens, 100_000, MINUTE));
        serve(&engine, vec![provider("a", vec![bucket])]);
        answered(&engine, Outcome::Success, &fields);
        clock.advance_ns(20 * SEC);
        assert!(!engine.acquire("api", &tokens(1), None).unwrap().available(), "{fields:?}");
        clock.advance_ns(10 * SEC);
        assert!(engine.acquire("api", &tokens(1), None).unwrap().available(), "{fields:?}");
    }
}

/// Of a request that used less than it reserved, no more is taken off what the provider has not seen of others.
#[test]
fn headers_do_not_forget_what_is_in_flight() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 2000, MINUTE)])]);
    let ask = |n: u64| engine.acquire("api", &tokens(n), None).unwrap().lease.unwrap();
    let first = ask(1000);
    clock.advance_ns(SEC);
    ask(500);
    let headers = read(&[("x-ratelimit-limit-tokens", "2000"), ("x-ratelimit-remaining-tokens", "1990")]);
    let told = Report { headers: Some(&headers), ..reported_tokens(Outcome::Success, 10) };
    engine.complete(first, &told).unwrap();
    assert_eq!(engine.remaining("a", Dimension::Tokens), Ok(1490));
}

/// Nor of one whose units left the window before it was answered.
#[test]
fn headers_of_a_slow_answer_do_not_forget_what_is_in_flight() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(10, SEC)])]);
    let slow = acquire(&engine).lease.unwrap();
    clock.advance_ns(5 * SEC);
    for _ in 0..4 {
        assert!(acquire(&engine).available());
    }
    let headers = read(&[("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", "10")]);
    engine.complete(slow, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
    assert_eq!(engine.remaining("a", Dimension::Requests), Ok(6));
}

/// What was refused is not taken off what was admitted before it: it is not among that.
#[test]
fn what_was_admitted_before_a_refusal_is_counted_in_full() {
    for strategy in [Strategy::Rolling, Strategy::FixedWindow, Strategy::TokenBucket] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![with(strategy, quota(Dimension::Tokens, 10_000, DAY))])]);
        for i in 0..5 {
            let lease = engine.acquire("api", &tokens(1000), None).unwrap().lease.unwrap();
            clock.advance_ns(SEC / 10);
            engine.complete(lease, &report(if i < 4 { Outcome::Success } else { Outcome::RateLimited })).unwrap();
        }
        let limit = state(&engine, "a", Dimension::Tokens).effective_limit;
        assert!((3800..4000).contains(&limit), "{strategy:?}: {limit}");
    }
}

#[test]
fn eight_units_are_evidence_enough() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    refuse_after(&engine, &clock, 8, 1);
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 7);
}

/// Also for who reports requests and holds no leases.
#[test]
fn a_learned_limit_rises_again_for_who_only_observes() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(600, MINUTE)])]);
    let observe = |outcome: Outcome| {
        clock.advance_ns(SEC / 10);
        engine.observe("a", &report(outcome)).unwrap();
    };
    (0..100).for_each(|_| observe(Outcome::Success));
    observe(Outcome::RateLimited);
    assert!(state(&engine, "a", Dimension::Requests).effective_limit < 100);
    for _ in 0..60 {
        clock.advance_ns(MINUTE);
        while engine.select("api", &Estimate::default(), None).unwrap().available() {
            observe(Outcome::Success);
        }
    }
    assert_eq!(state(&engine, "a", Dimension::Requests).effective_limit, 600);
}

/// The slots that other providers of a pool hold were admitted, too.
#[test]
fn a_hidden_limit_on_the_slots_of_a_pool_counts_them_all() {
    let (engine, clock) = engine(Settings::default());
    let member = |name| provider(name, vec![pooled("account", concurrency(100))]);
    let capabilities = vec![capability("api", &["a"]), capability("other", &["b"])];
    engine.apply(Change { providers: vec![member("a"), member("b")], capabilities, ..Change::default() }).unwrap();
    refuse_after(&engine, &clock, 8, 0);
    for _ in 0..50 {
        assert!(engine.acquire("other", &Estimate::default(), None).unwrap().available());
    }
    let leases: Vec<_> = (0..10).map(|_| acquire(&engine).lease.unwrap()).collect();
    engine.complete(leases[9], &report(Outcome::RateLimited)).unwrap();
    assert_eq!(state(&engine, "a", Dimension::Concurrency).effective_limit, 59);
}

/// What is kept free of a told limit gets less with time: of no use for a request above that limit.
#[test]
fn a_request_above_a_told_limit_waits_for_good() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 1000, MINUTE)])]);
    let ask = |n: u64| engine.acquire("api", &tokens(n), None).unwrap();
    let lease = ask(100).lease.unwrap();
    clock.advance_ns(SEC);
    let headers = read(&[
        ("x-ratelimit-limit-tokens", "500"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "1s"),
    ]);
    engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::RateLimited) }).unwrap();
    assert!(state(&engine, "a", Dimension::Tokens).margin > 0);
    assert_eq!(ask(501).best.unwrap().retry_after_ns, u64::MAX);
    assert!(ask(500).best.unwrap().retry_after_ns < 10 * MINUTE);
}

/// Of several that may be the quota's, one that is spent holds, in whichever order they come.
#[test]
fn what_is_spent_is_opened_by_nothing_in_the_same_response() {
    let spent = ("x-ms-ratelimit-remaining-resource", "Compute/Get3Min;0,Compute/Get30Min;97");
    let left = ("x-ms-ratelimit-remaining-resource", "Compute/Get30Min;97,Compute/Get3Min;0");
    for fields in [spent, left] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![requests(100, MINUTE)])]);
        answered(&engine, Outcome::Success, &[fields]);
        clock.advance_ns(MS);
        assert!(!acquire(&engine).available(), "{fields:?}");
    }
    for policies in [r#""a";r=0;t=20, "b";r=9"#, r#""b";r=9, "a";r=0;t=20"#] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![requests(100, MINUTE)])]);
        answered(&engine, Outcome::Success, &[("ratelimit", policies)]);
        clock.advance_ns(19 * SEC);
        assert!(!acquire(&engine).available(), "{policies}");
        clock.advance_ns(SEC);
        assert!(acquire(&engine).available(), "{policies}");
    }
}

/// What remains of a minute's limit tells nothing of a bucket that paces it.
#[test]
fn headers_of_a_rate_do_not_fill_a_smaller_bucket() {
    let (engine, clock) = engine(Settings::default());
    let bucket = QuotaConfig { burst: Some(20), ..with(Strategy::TokenBucket, requests(600, MINUTE)) };
    serve(&engine, vec![provider("a", vec![bucket])]);
    let mut served = 0;
    for _ in 0..100 {
        for lease in (0..20).map_while(|_| acquire(&engine).lease) {
            served += 1;
            let remaining = (600 - served).to_string();
            let headers = read(&[("x-ratelimit-limit", "600"), ("x-ratelimit-remaining", &remaining)]);
            engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
        }
        clock.advance_ns(10 * MS);
    }
    assert!((29..=30).contains(&served), "{served} in a second of 10, and 20 at once");
}

/// Shopify tells the size of its bucket, and not what it gets in a minute.
#[test]
fn headers_of_the_size_of_a_bucket_leave_its_rate() {
    let (engine, clock) = engine(Settings::default());
    for per_minute in [60, 120, 2000] {
        let bucket = QuotaConfig { burst: Some(40), ..with(Strategy::TokenBucket, requests(per_minute, MINUTE)) };
        serve(&engine, vec![provider("a", vec![bucket])]);
        answered(&engine, Outcome::Success, &[("x-shopify-shop-api-call-limit", "30/40")]);
        let q = state(&engine, "a", Dimension::Requests);
        assert_eq!((q.effective_limit, q.remaining), (per_minute, 10));
        clock.advance_ns(MINUTE);
    }
}

/// A part of the tokens alone does not settle the rest.
#[test]
fn input_tokens_alone_do_not_settle_all() {
    let (engine, _clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 2000, MINUTE)])]);
    let lease = engine.acquire("api", &tokens(1000), None).unwrap().lease.unwrap();
    let usage = Reported::default().with(Dimension::InputTokens, Some(10));
    engine.complete(lease, &Report { usage, ..report(Outcome::Success) }).unwrap();
    assert_eq!(engine.remaining("a", Dimension::Tokens), Ok(1000));
}

/// A slow answer tells what was left when its request came: before all that was sent and settled meanwhile.
#[test]
fn headers_of_a_slow_answer_do_not_forget_what_was_settled_since() {
    for strategy in [Strategy::Rolling, Strategy::FixedWindow, Strategy::TokenBucket] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![with(strategy, requests(100, DAY))])]);
        let slow = acquire(&engine).lease.unwrap();
        let told = |lease, remaining: u64| {
            let remaining = remaining.to_string();
            let headers = read(&[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", &remaining)]);
            engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
            engine.remaining("a", Dimension::Requests).unwrap()
        };
        for i in 1..=60 {
            clock.advance_ns(SEC / 10);
            told(acquire(&engine).lease.unwrap(), 99 - i);
        }
        assert_eq!(told(slow, 99), 39, "{strategy:?}");
        // The latest that was sent corrects both ways, as before.
        clock.advance_ns(SEC / 10);
        assert_eq!(told(acquire(&engine).lease.unwrap(), 80), 80, "{strategy:?}");
    }
}

/// A pool is one counter: an answer of one provider is late if another's, whose request was sent later, has told already.
#[test]
fn headers_of_a_slow_answer_do_not_forget_what_others_of_its_pool_settled_since() {
    for strategy in [Strategy::Rolling, Strategy::FixedWindow, Strategy::TokenBucket] {
        let (engine, clock) = engine(Settings::default());
        let quota = || vec![pooled("account", with(strategy, requests(100, DAY)))];
        serve(&engine, vec![provider("a", quota()), provider("b", quota())]);
        engine.apply(Change { capabilities: vec![capability("b", &["b"])], ..Change::default() }).unwrap();
        let told = |lease, remaining: u64| {
            let remaining = remaining.to_string();
            let headers = read(&[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", &remaining)]);
            engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
            engine.remaining("a", Dimension::Requests).unwrap()
        };
        let slow = acquire(&engine).lease.unwrap();
        for i in 1..=60 {
            clock.advance_ns(SEC / 10);
            told(engine.acquire("b", &one(), None).unwrap().lease.unwrap(), 99 - i);
        }
        assert_eq!(told(slow, 99), 39, "{strategy:?}");
    }
}

/// Only what tells of a quota makes other answers late for it: a cached answer tells nothing, and another quota's is no news.
#[test]
fn what_tells_nothing_of_a_quota_makes_no_answer_late() {
    for fields in [
        [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "10"), ("age", "5")],
        [("x-ratelimit-limit-tokens", "100"), ("x-ratelimit-remaining-tokens", "10"), ("via", "1.1 a")],
    ] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![with(Strategy::FixedWindow, requests(100, DAY))])]);
        for _ in 0..50 {
            engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
        }
        let told = |lease, fields: &[(&str, &str)]| {
            engine.complete(lease, &Report { headers: Some(&read(fields)), ..report(Outcome::Success) }).unwrap();
        };
        clock.advance_ns(SEC);
        let lease = acquire(&engine).lease.unwrap();
        clock.advance_ns(SEC);
        told(acquire(&engine).lease.unwrap(), &fields);
        told(lease, &[("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "90")]);
        assert_eq!(engine.remaining("a", Dimension::Requests), Ok(90), "{fields:?}");
    }
}

/// Which of several quotas is meant, a limit that one has tells before the size of another's bucket.
#[test]
fn a_configured_limit_tells_a_quota_before_the_size_of_a_bucket_does() {
    let (engine, _clock) = engine(Settings::default());
    let bucket = QuotaConfig { burst: Some(100), ..with(Strategy::TokenBucket, requests(10, SEC)) };
    serve(&engine, vec![provider("a", vec![bucket, requests(100, MINUTE)])]);
    let headers = read(&[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "30")]);
    let lease = acquire(&engine).lease.unwrap();
    engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
    let state = engine.provider_state("a").unwrap();
    let used: Vec<_> = state.quotas.iter().map(|q| (q.limit, q.used)).collect();
    assert_eq!(used, [(10, 1), (100, 70)]);
}

/// More than a learned limit can be left of the configured one: then all that is on the books beyond the rest is taken off.
#[test]
fn what_remains_of_more_than_a_learned_limit_corrects_the_books() {
    for strategy in [Strategy::Rolling, Strategy::FixedWindow] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![with(strategy, requests(100, DAY))])]);
        refuse_after(&engine, &clock, 50, 1);
        clock.advance_ns(31 * SEC);
        let limit = state(&engine, "a", Dimension::Requests).effective_limit;
        assert!(limit < 50);
        engine
            .observe(
                "a",
                &Report { headers: Some(&read(&[("x-ratelimit-remaining", "90")])), ..report(Outcome::Success) },
            )
            .unwrap();
        assert_eq!(engine.remaining("a", Dimension::Requests), Ok(limit), "{strategy:?}");
    }
}

/// What one answer says is spent is not opened by a slow one whose request was sent before, but by the next that is sent later.
#[test]
fn a_slow_answer_opens_nothing_that_a_later_one_closed() {
    for strategy in [Strategy::Rolling, Strategy::FixedWindow, Strategy::TokenBucket] {
        // Its own limit, and another's.
        for limit in ["60", "10000"] {
            let (engine, clock) = engine(Settings::default());
            serve(&engine, vec![provider("a", vec![with(strategy, requests(60, MINUTE))])]);
            let told = |lease, remaining: &str| {
                let (limit, remaining) = (("x-ratelimit-limit", limit), ("x-ratelimit-remaining", remaining));
                let headers = read(&[limit, remaining, ("x-ratelimit-reset", "50")]);
                engine.complete(lease, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
                acquire(&engine).available()
            };
            let [slow, spent, later] = [0; 3].map(|_| {
                clock.advance_ns(SEC);
                acquire(&engine).lease.unwrap()
            });
            assert!(!told(spent, "0"), "{strategy:?} {limit}");
            assert!(!told(slow, "5"), "{strategy:?} {limit}");
            assert!(told(later, "50"), "{strategy:?} {limit}");
        }
    }
}
