//! The ends of every range, and changes at the worst moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::*;
use grate::clock::Clock;
use grate::config::{Change, Dimension, ProviderConfig, QuotaConfig, Settings, Strategy, Weights};
use grate::engine::{Estimate, HeldBy, Ranked, Report};
use grate::feedback::{Outcome, headers};
use grate::health::Circuit;
use grate::lease::LeaseId;
use grate::usage::Reported;
use grate::{Engine, Error};

fn json(engine: &grate::Engine, text: &str) -> Result<(), Error> {
    Change::from_json(text.as_bytes()).and_then(|change| engine.apply(change))
}

fn granted(engine: &grate::Engine, tries: usize) -> usize {
    (0..tries).filter(|_| acquire(engine).available()).count()
}

#[test]
fn time_that_goes_back_stands_still() {
    for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
        let (engine, clock) = engine(Settings { skew_ns: 0, ..Settings::default() });
        serve(&engine, vec![provider("a", vec![with(strategy, requests(2, SEC))])]);
        clock.set_ns(100 * SEC + SEC / 10);
        assert_eq!(granted(&engine, 5), 2);
        for back in [100 * SEC, 50 * SEC, 0] {
            clock.set_ns(back);
            assert_eq!(granted(&engine, 5), 0, "{strategy:?}");
            assert!(acquire(&engine).best.unwrap().retry_after_ns <= SEC);
        }
        clock.set_ns(100 * SEC + SEC / 10);
        assert_eq!(granted(&engine, 5), 0, "{strategy:?}");
        clock.set_ns(102 * SEC);
        assert_eq!(granted(&engine, 5), 2, "{strategy:?}");
    }
}

/// Also a pool that two providers see at different times, and a provider that leaves it.
#[test]
fn time_that_goes_back_stands_still_in_pools() {
    let (engine, clock) = engine(Settings { skew_ns: 0, ..Settings::default() });
    let pool = || vec![pooled("p", requests(2, SEC))];
    serve(&engine, vec![provider("a", pool())]);
    redefine(&engine, provider("b", pool()));
    clock.set_ns(100 * SEC);
    assert_eq!(granted(&engine, 5), 2);
    engine.apply(Change { capabilities: vec![capability("api", &["b"])], ..Change::default() }).unwrap();
    clock.set_ns(5 * SEC);
    assert_eq!(granted(&engine, 5), 0);
    assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, SEC);
}

#[test]
fn time_that_stands_still() {
    let (engine, _) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(3, SEC), concurrency(1)])]);
    for i in 0..3 {
        let lease = acquire(&engine).lease.unwrap();
        assert!(!acquire(&engine).available());
        engine.complete(lease, &report(Outcome::Success)).unwrap();
        let state = engine.provider_state("a").unwrap();
        assert_eq!(state.quotas.iter().find(|q| q.dimension == Dimension::Requests).unwrap().used, i + 1);
    }
    assert!(!acquire(&engine).available());
}

#[test]
fn time_that_jumps_by_years() {
    let (engine, clock) = engine(Settings::default());
    let all = [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow];
    let quotas = all.iter().zip([SEC, MINUTE, DAY]).map(|(s, window)| with(*s, requests(2, window))).collect();
    serve(&engine, vec![provider("a", quotas)]);
    for _ in 0..5 {
        assert_eq!(granted(&engine, 5), 2);
        for _ in 0..3 {
            engine.observe("a", &report(Outcome::ServerError)).unwrap();
        }
        assert_eq!(engine.provider_state("a").unwrap().circuit, Circuit::Open);
        clock.advance_ns(25 * 365 * DAY);
        assert_eq!(engine.provider_state("a").unwrap().circuit, Circuit::HalfOpen);
        for _ in 0..4 {
            let lease = acquire(&engine).lease.unwrap();
            engine.complete(lease, &report(Outcome::Success)).unwrap();
            clock.advance_ns(2 * DAY);
        }
    }
}

/// One value that a clock should never return must not switch the limits off.
#[test]
fn the_end_of_time_does_not_open_the_gates() {
    for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![with(strategy, requests(2, SEC))])]);
        clock.set_ns(u64::MAX);
        assert_eq!(clock.monotonic_ns(), u64::MAX);
        let granted = granted(&engine, 20);
        assert!(granted <= 2, "{strategy:?}: {granted} at one moment");
    }
}

/// Monotonic time counts from any point, also from one that is centuries ago (1601, or a cycle counter that was set).
#[test]
fn a_clock_may_start_anywhere() {
    for start in [1, 1_767_225_600 * SEC, 13_411_699_200 * SEC, u64::MAX / 2, u64::MAX / 10 * 9] {
        for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
            let clock = std::sync::Arc::new(grate::clock::MockClock::new(0));
            clock.set_ns(start);
            let engine = grate::Engine::new(Settings::default(), clock.clone()).unwrap();
            serve(&engine, vec![provider("a", vec![with(strategy, requests(2, SEC))])]);
            for _ in 0..3 {
                assert_eq!(granted(&engine, 5), 2, "{strategy:?} from {start}");
                clock.advance_ns(2 * SEC);
            }
        }
    }
}

#[test]
fn limits_at_their_ends() {
    for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
        for window in [MS, 366 * DAY] {
            for (limit, fit) in [(0, 0), (1, 1), (u64::MAX, 20)] {
                let (engine, _) = engine(Settings::default());
                serve(&engine, vec![provider("a", vec![with(strategy, requests(limit, window))])]);
                assert_eq!(granted(&engine, 20), fit, "{strategy:?} {limit} per {window}");
                if limit == 0 {
                    assert_eq!(acquire(&engine).best.unwrap().retry_after_ns, u64::MAX);
                }
            }
            let (engine, _) = engine(Settings::default());
            serve(&engine, vec![provider("a", vec![with(strategy, quota(Dimension::Tokens, u64::MAX, window))])]);
            let lease = engine.acquire("api", &tokens(u64::MAX - 1), None).unwrap().lease.unwrap();
            assert!(!engine.acquire("api", &tokens(2), None).unwrap().available());
            engine.observe("a", &reported_tokens(Outcome::Success, u64::MAX)).unwrap();
            engine.complete(lease, &reported_tokens(Outcome::Success, u64::MAX)).unwrap();
            assert_eq!(used(&engine, "a", Dimension::Tokens), u64::MAX);
        }
    }
    for (limit, fit) in [(0, 0), (1, 1), (u64::MAX, 20)] {
        let (engine, _) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![concurrency(limit)])]);
        assert_eq!(granted(&engine, 20), fit);
    }
}

#[test]
fn ten_thousand_providers() {
    let (engine, _) = engine(Settings::default());
    let name = |i: usize| format!("p{i}");
    let all = (0..10_000).map(|i| ProviderConfig { priority: i as u32, ..provider(&name(i), vec![requests(1, SEC)]) });
    serve(&engine, all.collect());
    let mut candidates = Vec::new();
    let routed = engine.select("api", &one(), Some(&mut candidates)).unwrap();
    assert_eq!((routed.total, candidates.len()), (10_000, 10_000));
    assert_eq!(routed.best.unwrap().index, 9_999);
    for left in 0..5 {
        assert_eq!(acquire(&engine).best.unwrap().index, 9_999 - left);
    }
    engine.remove_provider(&name(9_994)).unwrap();
    assert_eq!(acquire(&engine).best.unwrap().index, 9_993);
    assert_eq!(engine.prometheus().matches("grate_quota_used{").count(), 9_999);
    // A document that replaces all of them.
    json(
        &engine,
        r#"{"replace": true, "providers": [{"name": "p7"}], "capabilities": [{"name": "api", "providers": [{"provider": "p7"}]}]}"#,
    )
    .unwrap();
    assert_eq!(engine.select("api", &one(), None).unwrap().total, 1);
    assert_eq!(engine.provider_id("p8"), None);
}

#[test]
fn names_at_their_ends() {
    let (engine, _) = engine(Settings::default());
    let long = "ü".repeat(64);
    assert_eq!(long.len(), 128);
    let define = |name: &str| {
        let change = Change {
            providers: vec![provider(name, vec![pooled(name, requests(1, SEC))])],
            capabilities: vec![capability(name, &[name])],
            ..Change::default()
        };
        engine.apply(change)
    };
    for name in [&long, "a", " ", "\"\\{}", "日本"] {
        define(name).unwrap();
        assert!(engine.acquire(name, &one(), None).unwrap().available());
        assert_eq!(engine.provider_name(engine.provider_id(name).unwrap()).to_str().unwrap(), name);
    }
    for name in [format!("{long}x").as_str(), "", "a\0b", "a\nb", "\u{7f}", "\u{85}"] {
        assert!(matches!(define(name), Err(Error::InvalidName(_))), "{name:?}");
        assert_eq!(engine.provider_id(name), None);
    }
}

const BAD: [f64; 4] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0];

#[test]
fn settings_that_are_no_numbers() {
    let (engine, _) = engine(Settings::default());
    let refused = |settings: Settings| {
        let change = Change { settings: Some(settings.clone()), ..Change::default() };
        assert!(matches!(engine.apply(change), Err(Error::InvalidConfig(_))), "{settings:?}");
        let clock = std::sync::Arc::new(grate::clock::MockClock::new(0));
        assert!(grate::Engine::new(settings, clock).is_err());
    };
    let d = Settings::default;
    for bad in BAD {
        refused(Settings { weights: Weights { quota: bad, ..d().weights }, ..d() });
        refused(Settings { weights: Weights { latency: bad, ..d().weights }, ..d() });
        refused(Settings { min_health_for_selection: bad, ..d() });
        refused(Settings { ewma_alpha: bad, ..d() });
        refused(Settings { recovery_half_life_secs: bad, ..d() });
        refused(Settings { cooldown_threshold: bad, ..d() });
        refused(Settings { cooldown_multiplier: bad, ..d() });
        refused(Settings { max_cooldown_secs: bad, ..d() });
        for provider in [
            ProviderConfig { weight: bad, ..provider("a", vec![]) },
            ProviderConfig { cooldown_seconds: bad, ..provider("a", vec![]) },
        ] {
            let change = Change { providers: vec![provider], ..Change::default() };
            assert!(matches!(engine.apply(change), Err(Error::InvalidConfig(_))));
        }
    }
    refused(Settings { weights: Weights::ZERO, ..d() });
    refused(Settings { min_health_for_selection: 1.1, ..d() });
    refused(Settings { ewma_alpha: 0.0, ..d() });
    refused(Settings { recovery_half_life_secs: 0.0, ..d() });
    refused(Settings { cooldown_multiplier: 0.5, ..d() });
    refused(Settings { cooldown_trigger_count: 0, ..d() });
    refused(Settings { lease_ttl_ns: 0, ..d() });
    refused(Settings { skew_ns: u64::MAX, ..d() });

    serve(&engine, vec![provider("a", vec![requests(5, SEC)])]);
    for headroom in [f64::NAN, f64::INFINITY, -0.1, 1.0, 2.0] {
        let estimate = Estimate { headroom, ..one() };
        assert!(matches!(engine.select("api", &estimate, None), Err(Error::InvalidArgument(_))), "{headroom}");
        assert!(matches!(engine.acquire("api", &estimate, None), Err(Error::InvalidArgument(_))), "{headroom}");
    }
    assert_eq!(used(&engine, "a", Dimension::Requests), 0);
    let nearly = Estimate { headroom: 1.0 - f64::EPSILON, ..one() };
    assert_eq!(engine.select("api", &nearly, None).unwrap().best.unwrap().retry_after_ns, u64::MAX);
}

#[test]
fn quotas_that_make_no_sense() {
    let (engine, _) = engine(Settings::default());
    let fixed = |phase| QuotaConfig { phase_ns: Some(phase), ..with(Strategy::FixedWindow, requests(1, SEC)) };
    for bad in [
        requests(1, 0),
        requests(1, MS - 1),
        requests(1, 366 * DAY + 1),
        requests(1, u64::MAX),
        with(Strategy::Concurrency, requests(1, SEC)),
        with(Strategy::Rolling, concurrency(1)),
        quota(Dimension::Concurrency, 1, SEC),
        QuotaConfig { burst: Some(5), ..requests(1, SEC) },
        QuotaConfig { burst: Some(0), ..with(Strategy::TokenBucket, requests(1, SEC)) },
        QuotaConfig { phase_ns: Some(1), ..requests(1, SEC) },
        fixed(SEC as i64),
        fixed(-(SEC as i64)),
        fixed(i64::MIN),
        pooled("", requests(1, SEC)),
    ] {
        let change = Change { providers: vec![provider("a", vec![bad.clone()])], ..Change::default() };
        assert!(engine.apply(change).is_err(), "{bad:?}");
        assert_eq!(engine.provider_id("a"), None);
    }
    let many = (1..=33).map(|i| requests(1, i * SEC)).collect();
    assert!(engine.apply(Change { providers: vec![provider("a", many)], ..Change::default() }).is_err());
}

#[test]
fn nothing_to_choose_from() {
    let (engine, _) = engine(Settings::default());
    assert_eq!(engine.select("api", &one(), None), Err(Error::UnknownCapability));
    assert!(engine.acquire("", &one(), None).is_err());
    engine.apply(Change { capabilities: vec![capability("api", &[])], ..Change::default() }).unwrap();
    for routed in [engine.select("api", &one(), None).unwrap(), acquire(&engine)] {
        assert_eq!((routed.best, routed.lease, routed.total), (None, None, 0));
        assert!(!routed.available());
    }
    assert_eq!(engine.metrics().none_available, 2);
    assert!(engine.prometheus().contains("grate_none_available_total 2"));
    assert_eq!(engine.remove_provider("a"), Err(Error::UnknownProvider));
    assert_eq!(engine.remove_capability("b"), Err(Error::UnknownCapability));
    assert_eq!(engine.observe("a", &report(Outcome::Success)), Err(Error::UnknownProvider));
    for raw in [0, 1, u64::MAX, 1 << 63, 1 << 24, (1 << 24) - 1] {
        assert_eq!(engine.cancel(LeaseId::from_raw(raw)), Err(Error::StaleLease));
    }
}

#[test]
fn a_capability_with_an_unknown_provider_changes_nothing() {
    let (engine, _) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(5, SEC)])]);
    let before = engine.prometheus();
    let change = Change {
        settings: Some(Settings { min_health_for_selection: 0.9, ..Settings::default() }),
        providers: vec![provider("a", vec![requests(1, SEC)]), provider("b", vec![])],
        capabilities: vec![capability("new", &["b"]), capability("api", &["a", "ghost"])],
        replace: true,
    };
    assert_eq!(engine.apply(change), Err(Error::UnregisteredProvider("ghost".into())));
    assert_eq!(engine.prometheus(), before);
    assert_eq!(engine.provider_id("b"), None);
    assert!(engine.select("new", &one(), None).is_err());

    let text = r#"{
        "engine": {"min_health_for_selection": 0.99},
        "providers": [{"name": "b"}, {"name": "a", "quotas": [{"dimension": "requests", "limit": 0, "window": "second"}]}],
        "capabilities": [
            {"name": "fine", "providers": [{"provider": "b"}]},
            {"name": "api", "providers": [{"provider": "a"}, {"provider": "ghost"}]},
            {"name": "also fine", "providers": [{"provider": "a"}]}
        ]
    }"#;
    assert_eq!(json(&engine, text), Err(Error::UnregisteredProvider("ghost".into())));
    assert_eq!(engine.prometheus(), before);
    assert!(engine.select("fine", &one(), None).is_err());
    // With replace, what is registered but not named counts as gone.
    let text = r#"{"replace": true, "capabilities": [{"name": "api", "providers": [{"provider": "a"}]}]}"#;
    assert_eq!(json(&engine, text), Err(Error::UnregisteredProvider("a".into())));
    engine.observe("a", &report(Outcome::ServerError)).unwrap();
    assert!(engine.select("api", &one(), None).unwrap().available(), "the settings are the old ones");
}

#[test]
fn a_wrong_provider_in_the_middle_changes_nothing() {
    let (engine, _) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![pooled("p", requests(5, SEC))])]);
    let before = engine.prometheus();
    for wrong in [
        provider("", vec![]),
        provider("c", vec![requests(1, 1)]),
        provider("b", vec![]),
        provider("c", vec![requests(1, SEC), requests(2, SEC)]),
        provider("c", vec![pooled("p", requests(2, SEC))]),
    ] {
        let first = provider("b", vec![pooled("p", requests(1, SEC)), requests(9, SEC)]);
        let change = Change { providers: vec![first, wrong, provider("d", vec![])], ..Change::default() };
        assert!(engine.apply(change).is_err());
        assert_eq!(engine.prometheus(), before);
        assert_eq!((engine.provider_id("b"), engine.provider_id("d")), (None, None));
    }
}

#[test]
fn json_errors_say_where() {
    let (engine, _) = engine(Settings::default());
    let place = |text: &str| match json(&engine, text) {
        Err(Error::InvalidJson(message)) => message,
        other => panic!("{other:?} for {text}"),
    };
    for (text, line, column) in [
        ("", 1, 0),
        ("{", 1, 1),
        ("{\"providers\": [\n  {\"name\": \"a\",}\n]}", 2, 16),
        ("{\n\n  \"provider\": []\n}", 3, 12),
        ("{\"providers\": [{\"name\": 7}]}", 1, 25),
        ("{\"replace\": true}\n{}", 2, 1),
        ("{\"engine\": {\"ewma_alpha\": NaN}}", 1, 27),
        ("{\"engine\": {\"ewma_alpha\": 1e999}}", 1, 31),
        ("{\"providers\": [{\"name\": \"a\", \"quotas\": [{\"dimension\": \"request\"}]}]}", 1, 64),
    ] {
        let message = place(text);
        assert!(message.contains(&format!("line {line} column {column}")), "{message} for {text}");
    }
    assert!(
        place("{\"providers\": [{\"name\": \"a\", \"quotas\": [{\"dimension\": \"request\"}]}]}").contains("requests")
    );
    // Neither an enormous number nor a deep document does harm.
    place(&"[".repeat(100_000));
    place("{\"providers\": [{\"name\": \"a\", \"priority\": 4294967296}]}");
    place("{\"providers\": [{\"name\": \"a\", \"name\": \"b\"}]}");
    for limit in ["18446744073709551616", "-1", "1.5"] {
        place(&format!(
            "{{\"providers\": [{{\"name\": \"a\", \"quotas\": [{{\"dimension\": \"requests\", \"limit\": {limit}, \"window\": \"day\"}}]}}]}}"
        ));
    }
    assert_eq!(engine.provider_id("a"), None);
    for text in [
        r#"{"providers": [{"name": "a", "quotas": [{"dimension": "requests", "limit": 1}]}]}"#,
        r#"{"providers": [{"name": "a", "quotas": [{"dimension": "requests", "limit": 1, "window": "day", "window_ms": 5}]}]}"#,
        r#"{"providers": [{"name": "a", "quotas": [{"dimension": "requests", "limit": 1, "window_ms": 18446744073709551615}]}]}"#,
    ] {
        assert!(matches!(json(&engine, text), Err(Error::InvalidConfig(_))), "{text}");
    }
}

/// A message is fit to print whatever the document says, and tells the place also if that is much.
#[test]
fn json_errors_quote_with_care() {
    for name in ["a\\u0000b", "\\u001b[2J", &"x".repeat(2000)] {
        let (engine, _) = engine(Settings::default());
        let Err(Error::InvalidJson(why)) = json(&engine, &format!("{{\"{name}\": 1}}")) else { panic!("{name}") };
        assert!(why.contains("line 1 column") && why.chars().count() < 400, "{why}");
        assert!(!why.contains(char::is_control), "{why}");
    }
}

#[test]
fn a_pool_that_is_defined_in_two_ways() {
    let (engine, _) = engine(Settings::default());
    let apply = |a: QuotaConfig, b: QuotaConfig| {
        let providers = vec![provider("a", vec![pooled("p", a)]), provider("b", vec![pooled("p", b)])];
        engine.apply(Change { providers, ..Change::default() })
    };
    let bucket = |burst| QuotaConfig { burst, ..with(Strategy::TokenBucket, requests(5, SEC)) };
    assert!(apply(requests(5, SEC), requests(6, SEC)).is_err());
    assert!(apply(requests(5, SEC), bucket(None)).is_err());
    assert!(apply(bucket(Some(4)), bucket(Some(5))).is_err());
    assert_eq!(engine.provider_id("a"), None);
    // Another window or dimension is another counter.
    apply(requests(5, SEC), requests(6, MINUTE)).unwrap();
    apply(requests(5, SEC), quota(Dimension::Tokens, 6, SEC)).unwrap();
    apply(requests(5, SEC), requests(5, SEC)).unwrap();
}

#[test]
fn a_limit_lowered_below_its_use() {
    for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
        let (engine, clock) = engine(Settings::default());
        let limited = |limit| provider("a", vec![with(strategy, requests(limit, MINUTE))]);
        serve(&engine, vec![limited(10)]);
        let leases: Vec<_> = (0..6).map(|_| acquire(&engine).lease.unwrap()).collect();
        redefine(&engine, limited(4));
        assert_eq!(used(&engine, "a", Dimension::Requests), 6);
        assert_eq!(engine.remaining("a", Dimension::Requests).unwrap(), 0);
        assert!(!acquire(&engine).available());
        for lease in &leases[..3] {
            engine.cancel(*lease).unwrap();
        }
        assert_eq!(granted(&engine, 5), 1, "{strategy:?}: three of four are used");
        redefine(&engine, limited(0));
        assert!(!acquire(&engine).available());
        redefine(&engine, limited(10));
        assert_eq!(granted(&engine, 20), 6, "{strategy:?}: four of ten are used");
        clock.advance_ns(DAY);
        assert_eq!(used(&engine, "a", Dimension::Requests), 0);
    }
    // Slots.
    let (engine, _) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![concurrency(5)])]);
    let leases: Vec<_> = (0..5).map(|_| acquire(&engine).lease.unwrap()).collect();
    redefine(&engine, provider("a", vec![concurrency(2)]));
    for (i, lease) in leases.into_iter().enumerate() {
        assert_eq!(used(&engine, "a", Dimension::Concurrency), 5 - i as u64);
        assert_eq!(engine.select("api", &one(), None).unwrap().available(), i > 3);
        engine.cancel(lease).unwrap();
    }
}

#[test]
fn quotas_that_come_and_go_with_leases_out() {
    let (engine, clock) = engine(Settings::default());
    let tokens_only = || provider("a", vec![quota(Dimension::Tokens, 100, MINUTE)]);
    serve(&engine, vec![tokens_only()]);
    let get = |n| engine.acquire("api", &tokens(n), None).unwrap().lease.unwrap();
    let (first, second) = (get(10), get(20));
    // Requests and slots come: slots know of the leases, requests do not.
    let mut both = tokens_only();
    both.quotas.extend([requests(3, 7 * SEC), concurrency(3)]);
    redefine(&engine, both.clone());
    assert_eq!(used(&engine, "a", Dimension::Tokens), 30);
    assert_eq!(used(&engine, "a", Dimension::Requests), 0);
    assert_eq!(used(&engine, "a", Dimension::Concurrency), 2);
    let third = get(5);
    assert!(!acquire(&engine).available());
    // A lease from before gives back no request.
    engine.cancel(first).unwrap();
    assert_eq!(used(&engine, "a", Dimension::Requests), 1);
    assert_eq!(used(&engine, "a", Dimension::Tokens), 25);
    assert_eq!(used(&engine, "a", Dimension::Concurrency), 2);
    // All quotas go, and come back: usage is remembered, slots are those of the leases.
    redefine(&engine, provider("a", vec![]));
    engine.complete(second, &reported_tokens(Outcome::Success, 1)).unwrap();
    let fourth = get(7);
    redefine(&engine, both);
    assert_eq!(used(&engine, "a", Dimension::Requests), 1);
    assert_eq!(used(&engine, "a", Dimension::Tokens), 6, "settled while it was gone, and not charged");
    assert_eq!(used(&engine, "a", Dimension::Concurrency), 2);
    engine.cancel(fourth).unwrap();
    assert_eq!(used(&engine, "a", Dimension::Tokens), 6, "the fourth was never charged here");
    engine.cancel(third).unwrap();
    assert_eq!(used(&engine, "a", Dimension::Tokens), 1);
    assert_eq!(used(&engine, "a", Dimension::Requests), 0);
    assert_eq!(used(&engine, "a", Dimension::Concurrency), 0);
    clock.advance_ns(2 * MINUTE);
    assert_eq!(used(&engine, "a", Dimension::Tokens), 0);
}

#[test]
fn pools_that_are_joined_and_left_with_leases_out() {
    let (engine, _) = engine(Settings::default());
    let pool = || vec![pooled("p", requests(10, MINUTE)), pooled("p", concurrency(10))];
    serve(&engine, vec![provider("a", vec![]), provider("b", pool())]);
    let on = |name: &str| {
        engine.apply(Change { capabilities: vec![capability("api", &[name])], ..Change::default() }).unwrap();
        acquire(&engine).lease.unwrap()
    };
    let (a, b) = (on("a"), on("b"));
    redefine(&engine, provider("a", pool()));
    assert_eq!(used(&engine, "b", Dimension::Requests), 1);
    assert_eq!(used(&engine, "b", Dimension::Concurrency), 2);
    let joined = on("a");
    assert_eq!(used(&engine, "b", Dimension::Requests), 2);
    redefine(&engine, provider("a", vec![requests(10, 7 * SEC)]));
    assert_eq!(used(&engine, "b", Dimension::Concurrency), 3, "the account still has three requests in flight");
    assert_eq!(used(&engine, "b", Dimension::Requests), 2);
    for lease in [a, joined] {
        engine.cancel(lease).unwrap();
    }
    assert_eq!(used(&engine, "b", Dimension::Concurrency), 1);
    assert_eq!(used(&engine, "b", Dimension::Requests), 1, "who left the pool gives back what it took there");
    assert_eq!(used(&engine, "a", Dimension::Requests), 0);
    engine.cancel(b).unwrap();
    assert_eq!(used(&engine, "b", Dimension::Concurrency), 0);
    assert_eq!(used(&engine, "b", Dimension::Requests), 0);
}

/// Slots of a pool are held by leases until they end, however often their provider leaves it and comes back.
#[test]
fn slots_of_a_pool_are_held_by_whoever_left_it() {
    let (engine, clock) = engine(Settings::default());
    let pool = || vec![pooled("p", concurrency(4))];
    serve(&engine, vec![provider("b", pool())]);
    serve(&engine, vec![provider("a", pool())]);
    let in_use = || used(&engine, "b", Dimension::Concurrency);
    let (first, second) = (acquire(&engine).lease.unwrap(), acquire(&engine).lease.unwrap());
    redefine(&engine, provider("a", vec![]));
    assert_eq!(in_use(), 2);
    engine.cancel(first).unwrap();
    assert_eq!(in_use(), 1);
    let outside = acquire(&engine).lease.unwrap();
    assert_eq!(in_use(), 1);
    // Back again, all that it has in flight counts, and once.
    redefine(&engine, provider("a", pool()));
    assert_eq!(in_use(), 2);
    redefine(&engine, provider("a", vec![pooled("q", concurrency(4))]));
    redefine(&engine, provider("a", vec![]));
    assert_eq!(in_use(), 2);
    engine.complete(second, &report(Outcome::Success)).unwrap();
    assert_eq!(in_use(), 1);
    clock.advance_ns(Settings::default().lease_ttl_ns);
    assert_eq!(in_use(), 0, "one that expires frees its slot there");
    assert!(engine.cancel(outside).is_err());
    redefine(&engine, provider("a", vec![pooled("q", concurrency(4))]));
    assert_eq!(used(&engine, "a", Dimension::Concurrency), 0);
    redefine(&engine, provider("a", pool()));
    assert_eq!(in_use(), 0);
}

/// Who waits for a slot of a pool is told of those who hold it, also if they left.
#[test]
fn the_wait_for_a_slot_knows_who_left_with_it() {
    let (engine, _) = engine(Settings::default());
    let pool = || vec![pooled("p", concurrency(1))];
    serve(&engine, vec![provider("b", pool())]);
    serve(&engine, vec![provider("a", pool())]);
    let lease = acquire(&engine).lease.unwrap();
    engine.apply(Change { capabilities: vec![capability("b", &["b"])], ..Change::default() }).unwrap();
    let wait = || engine.select("b", &one(), None).unwrap().best.unwrap().retry_after_ns;
    let before = wait();
    redefine(&engine, provider("a", vec![]));
    assert_eq!(wait(), before);
    engine.cancel(lease).unwrap();
    assert_eq!(wait(), 0);
}

const COUNTING: [Strategy; 3] = [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow];

/// How a lease of 10 tokens is settled, and what is used then.
type Ending = (fn(&Engine, LeaseId), u64);

const ENDINGS: [Ending; 4] = [
    (|engine, lease| engine.cancel(lease).unwrap(), 0),
    (|engine, lease| engine.complete(lease, &reported_tokens(Outcome::Success, 4)).unwrap(), 4),
    (|engine, lease| engine.complete(lease, &report(Outcome::Success)).unwrap(), 10),
    (|engine, lease| engine.complete(lease, &reported_tokens(Outcome::Success, 17)).unwrap(), 17),
];

/// Each way to settle a lease of 10 tokens that is out while the provider is defined anew.
fn settled_after(from: &[QuotaConfig], changes: &[&[QuotaConfig]], at_last: &str) {
    for (settle, left) in ENDINGS {
        let (engine, clock) = engine(Settings::default());
        serve(&engine, vec![provider("other", from.to_vec())]);
        serve(&engine, vec![provider("a", from.to_vec())]);
        let lease = engine.acquire("api", &tokens(10), None).unwrap().lease.unwrap();
        for quotas in changes {
            clock.advance_ns(SEC);
            redefine(&engine, provider("a", quotas.to_vec()));
        }
        settle(&engine, lease);
        assert_eq!(used(&engine, at_last, Dimension::Tokens), left, "{from:?} {changes:?}");
    }
}

#[test]
fn a_lease_is_settled_on_a_quota_that_was_away() {
    for strategy in COUNTING {
        // So slow that a bucket gives nothing back meanwhile.
        let quota = [with(strategy, quota(Dimension::Tokens, 100, DAY))];
        settled_after(&quota, &[&[], &quota], "a");
        settled_after(&quota, &[&[], &quota, &[], &quota], "a");
        settled_after(&quota, &[&[requests(5, SEC)], &quota], "a");
    }
}

#[test]
fn a_lease_is_settled_on_the_pool_that_its_provider_left() {
    for strategy in COUNTING {
        let own = with(strategy, quota(Dimension::Tokens, 100, DAY));
        let pool = [pooled("p", own.clone())];
        settled_after(&pool, &[&[]], "other");
        settled_after(&pool, &[&[], &pool], "a");
        settled_after(&pool, &[&[own]], "other");
        // The locks of pools are taken in one order, whichever was left.
        let next = [pooled("q", quota(Dimension::Tokens, 100, DAY))];
        settled_after(&pool, &[&next], "other");
        settled_after(&pool, &[&next, &[], &next, &pool], "other");
    }
}

#[test]
fn a_lease_is_settled_on_a_quota_that_was_a_pool_meanwhile() {
    let own = [quota(Dimension::Tokens, 100, MINUTE)];
    let pool = [pooled("p", own[0].clone())];
    settled_after(&own, &[&pool, &own], "a");
    // Whoever is granted meanwhile is settled on the pool.
    for (settle, left) in ENDINGS {
        let (engine, _) = engine(Settings::default());
        serve(&engine, vec![provider("other", pool.to_vec()), provider("a", own.to_vec())]);
        engine.apply(Change { capabilities: vec![capability("api", &["a"])], ..Change::default() }).unwrap();
        let before = engine.acquire("api", &tokens(10), None).unwrap().lease.unwrap();
        redefine(&engine, provider("a", pool.to_vec()));
        assert_eq!(used(&engine, "a", Dimension::Tokens), 0);
        let meanwhile = engine.acquire("api", &tokens(10), None).unwrap().lease.unwrap();
        redefine(&engine, provider("a", own.to_vec()));
        assert_eq!(used(&engine, "a", Dimension::Tokens), 10);
        settle(&engine, meanwhile);
        assert_eq!(used(&engine, "other", Dimension::Tokens), left);
        assert_eq!(used(&engine, "a", Dimension::Tokens), 10);
        settle(&engine, before);
        assert_eq!(used(&engine, "other", Dimension::Tokens), left);
        assert_eq!(used(&engine, "a", Dimension::Tokens), left);
    }
}

#[test]
fn a_lease_is_settled_wherever_its_quota_stands_in_the_list() {
    for strategy in COUNTING {
        let first = with(strategy, quota(Dimension::Tokens, 100, DAY));
        let second = requests(50, SEC);
        let from = [first.clone(), second.clone()];
        settled_after(&from, &[&[second.clone(), first.clone()]], "a");
        settled_after(&from, &[&[concurrency(5), requests(9, MINUTE), first.clone(), second]], "a");
        settled_after(&from, &[&[first]], "a");
    }
}

/// What is used of a quota that came later was not reserved there, and is not charged there.
#[test]
fn a_quota_that_came_later_knows_nothing_of_a_lease() {
    for (settle, _) in ENDINGS {
        let (engine, _) = engine(Settings::default());
        serve(&engine, vec![provider("a", vec![requests(50, SEC)])]);
        let lease = engine.acquire("api", &tokens(10), None).unwrap().lease.unwrap();
        redefine(&engine, provider("a", vec![requests(50, SEC), quota(Dimension::Tokens, 100, MINUTE)]));
        settle(&engine, lease);
        assert_eq!(used(&engine, "a", Dimension::Tokens), 0);
    }
}

/// Only as long as leases are out is it known where those of earlier definitions were charged.
#[test]
fn leases_of_many_definitions_are_settled_each_where_it_was_charged() {
    let (engine, _) = engine(Settings::default());
    let token_quota = |window| quota(Dimension::Tokens, 10_000, window);
    let windows: Vec<_> = (1..=5).map(|i| i * MINUTE).collect();
    serve(&engine, vec![provider("a", vec![])]);
    let mut leases = Vec::new();
    for i in 0..40u64 {
        // Each window is away every other round of all subsets.
        let quotas = windows.iter().enumerate().filter(|(bit, _)| (i + 1) >> bit & 1 == 1);
        redefine(&engine, provider("a", quotas.map(|(_, window)| token_quota(*window)).collect()));
        leases.push(engine.acquire("api", &tokens(10 + i), None).unwrap().lease.unwrap());
    }
    for (i, lease) in leases.into_iter().enumerate() {
        match i % 3 {
            0 => engine.cancel(lease).unwrap(),
            1 => engine.complete(lease, &reported_tokens(Outcome::Success, 3)).unwrap(),
            _ => engine.complete(lease, &reported_tokens(Outcome::Success, 99)).unwrap(),
        }
    }
    redefine(&engine, provider("a", windows.iter().map(|window| token_quota(*window)).collect()));
    for (bit, q) in engine.provider_state("a").unwrap().quotas.iter().enumerate() {
        let charged = (0..40usize).filter(|i| (i + 1) >> bit & 1 == 1);
        let expected: u64 = charged.map(|i| [0, 3, 99][i % 3]).sum();
        assert_eq!(q.used, expected, "{} ns", q.window_ns);
    }
}

#[test]
fn a_strategy_that_changes_with_leases_out() {
    const ALL: [Strategy; 3] = [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow];
    for from in ALL {
        for to in ALL {
            let (engine, clock) = engine(Settings::default());
            let of = |strategy| provider("a", vec![with(strategy, requests(10, MINUTE))]);
            serve(&engine, vec![of(from)]);
            clock.advance_ns(5 * SEC);
            let early: Vec<_> = (0..10).map(|_| acquire(&engine)).collect();
            clock.advance_ns(2 * MINUTE);
            let late: Vec<_> = (0..6).map(|_| acquire(&engine).lease.unwrap()).collect();
            redefine(&engine, of(to));
            assert_eq!(used(&engine, "a", Dimension::Requests), 6, "{from:?} to {to:?}");
            for routed in early {
                engine.cancel(routed.lease.unwrap()).unwrap();
            }
            assert_eq!(used(&engine, "a", Dimension::Requests), 6, "{from:?} to {to:?}");
            assert_eq!(granted(&engine, 20), 4);
            for lease in late {
                engine.cancel(lease).unwrap();
                assert!(used(&engine, "a", Dimension::Requests) >= 4);
            }
            clock.advance_ns(3 * MINUTE);
            assert_eq!(granted(&engine, 20), 10, "{from:?} to {to:?}");
        }
    }
}

/// The use that is carried over starts at the latest time that was seen, not at one that a clock went back to.
#[test]
fn a_strategy_that_changes_while_the_clock_is_behind() {
    for (from, to) in [
        (Strategy::FixedWindow, Strategy::Rolling),
        (Strategy::TokenBucket, Strategy::Rolling),
        (Strategy::Rolling, Strategy::TokenBucket),
    ] {
        let (engine, clock) = engine(Settings::default());
        let of = |strategy| provider("a", vec![with(strategy, requests(10, MINUTE))]);
        serve(&engine, vec![of(from)]);
        clock.set_ns(1000 * SEC);
        assert_eq!(granted(&engine, 20), 10);
        clock.set_ns(0);
        redefine(&engine, of(to));
        assert_eq!(granted(&engine, 20), 0, "{from:?} to {to:?}");
        clock.set_ns(1000 * SEC);
        assert_eq!(granted(&engine, 20), 0, "{from:?} to {to:?}");
    }
}

#[test]
fn a_provider_that_goes_and_comes_back() {
    let (engine, clock) = engine(Settings::default());
    let define = || provider("a", vec![requests(5, MINUTE), concurrency(4), pooled("p", concurrency(4))]);
    serve(&engine, vec![define()]);
    let leases: Vec<_> = (0..4).map(|_| acquire(&engine).lease.unwrap()).collect();
    for _ in 0..2 {
        engine.observe("a", &report(Outcome::ServerError)).unwrap();
    }
    let health = engine.provider_state("a").unwrap().health;
    engine.remove_provider("a").unwrap();
    assert_eq!(engine.remove_provider("a"), Err(Error::UnknownProvider));
    assert!(matches!(engine.provider_state("a"), Err(Error::UnknownProvider)));
    assert_eq!(acquire(&engine).total, 0);
    assert!(!engine.prometheus().contains("provider=\"a\""));
    engine.cancel(leases[0]).unwrap();
    engine.complete(leases[1], &report(Outcome::Success)).unwrap();
    assert_eq!(engine.cancel(leases[0]), Err(Error::StaleLease));
    assert_eq!(engine.metrics().counters.leases_in_flight, 2);

    serve(&engine, vec![define()]);
    let state = engine.provider_state("a").unwrap();
    assert_eq!(state.counters.leases_in_flight, 2);
    assert!(state.health >= health && state.health < 1.0, "health is remembered");
    assert_eq!(used(&engine, "a", Dimension::Requests), 5, "three leases and two observations");
    assert_eq!(used(&engine, "a", Dimension::Concurrency), 2);
    engine.cancel(leases[2]).unwrap();
    assert_eq!(used(&engine, "a", Dimension::Requests), 4);
    clock.advance_ns(600 * SEC);
    assert_eq!(engine.cancel(leases[3]), Err(Error::StaleLease), "expired");
    assert_eq!(used(&engine, "a", Dimension::Concurrency), 0);
}

#[test]
fn a_lease_expires_at_its_nanosecond() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![concurrency(1), requests(5, DAY)])]);
    let lease = acquire(&engine).lease.unwrap();
    clock.advance_ns(600 * SEC - 1);
    assert!(!acquire(&engine).available());
    clock.advance_ns(1);
    assert!(acquire(&engine).available());
    assert_eq!(engine.complete(lease, &report(Outcome::Success)), Err(Error::StaleLease));
    assert_eq!(engine.metrics().counters.expired_leases, 1);
    assert_eq!(used(&engine, "a", Dimension::Requests), 2, "its usage stays counted");
}

#[test]
fn one_probe_at_a_time_then_a_ramp() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![])]);
    let straggler = acquire(&engine).lease.unwrap();
    clock.advance_ns(1);
    for _ in 0..3 {
        engine.observe("a", &report(Outcome::ServerError)).unwrap();
    }
    let best = acquire(&engine).best.unwrap();
    assert_eq!((best.held_by, best.retry_after_ns), (Some(HeldBy::Cooldown), 30 * SEC));
    clock.advance_ns(30 * SEC);
    for allowed in [1, 2, 4, 8] {
        let probes: Vec<_> = (0..allowed).map(|_| acquire(&engine).lease.unwrap()).collect();
        let best = acquire(&engine).best.unwrap();
        assert_eq!(best.held_by, Some(HeldBy::Probe), "more than {allowed}");
        for probe in &probes[1..] {
            engine.cancel(*probe).unwrap();
        }
        engine.complete(probes[0], &report(Outcome::Success)).unwrap();
    }
    assert_eq!(engine.provider_state("a").unwrap().circuit, Circuit::Closed);
    assert_eq!(granted(&engine, 50), 50);
    // Sent before the cooldown: no failure of the time after it.
    engine.complete(straggler, &report(Outcome::ServerError)).unwrap();
    assert_eq!(engine.provider_state("a").unwrap().consecutive_failures, 0);
}

/// A probe that is cancelled or expires makes room for the next.
#[test]
fn a_probe_that_is_never_answered() {
    let (engine, clock) = engine(Settings { lease_ttl_ns: SEC, ..Settings::default() });
    serve(&engine, vec![provider("a", vec![])]);
    for _ in 0..3 {
        engine.observe("a", &report(Outcome::ServerError)).unwrap();
    }
    clock.advance_ns(30 * SEC);
    engine.cancel(acquire(&engine).lease.unwrap()).unwrap();
    assert!(acquire(&engine).available());
    assert!(!acquire(&engine).available());
    clock.advance_ns(SEC);
    assert!(acquire(&engine).available());
}

/// A probe of an earlier recovery that takes its time is none of this one's, also when it ends.
#[test]
fn a_probe_that_is_out_when_the_next_cooldown_begins() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![])]);
    let cool_down = || {
        clock.advance_ns(SEC);
        for _ in 0..3 {
            engine.observe("a", &report(Outcome::ServerError)).unwrap();
        }
        clock.advance_ns(30 * SEC);
    };
    cool_down();
    engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
    let slow = acquire(&engine).lease.unwrap();
    for _ in 0..3 {
        engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
    }
    assert_eq!(engine.provider_state("a").unwrap().circuit, Circuit::Closed);
    cool_down();
    let probe = acquire(&engine).lease.unwrap();
    assert!(!acquire(&engine).available());
    engine.complete(slow, &report(Outcome::Success)).unwrap();
    assert!(!acquire(&engine).available(), "the probe is still out");
    engine.complete(probe, &report(Outcome::Success)).unwrap();
    assert_eq!(granted(&engine, 5), 2);
}

/// The shortest cooldown there is ends with a probe, like any other.
#[test]
fn a_cooldown_of_no_time() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![ProviderConfig { cooldown_seconds: 1e-12, ..provider("a", vec![]) }]);
    for _ in 0..3 {
        engine.observe("a", &report(Outcome::ServerError)).unwrap();
    }
    clock.advance_ns(1);
    for _ in 0..2 {
        engine.cancel(acquire(&engine).lease.unwrap()).unwrap();
    }
}

/// Leases that are settled while their quota is gone are not in flight when it is back: headers correct it in full.
#[test]
fn nothing_stays_in_flight_on_a_quota_that_was_away() {
    for away in [false, true] {
        let (engine, clock) = engine(Settings::default());
        let with_quota = || provider("a", vec![requests(100, MINUTE)]);
        serve(&engine, vec![with_quota()]);
        let leases: Vec<_> = (0..8).map(|_| acquire(&engine).lease.unwrap()).collect();
        clock.advance_ns(SEC);
        if away {
            redefine(&engine, provider("a", vec![requests(100, 7 * SEC)]));
        }
        for lease in leases {
            engine.complete(lease, &report(Outcome::Success)).unwrap();
        }
        redefine(&engine, with_quota());
        assert_eq!(used(&engine, "a", Dimension::Requests), 8);
        let last = acquire(&engine).lease.unwrap();
        clock.advance_ns(SEC);
        let fields = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "99")];
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let headers = headers::parse(fields, UNIX_MS + 2000);
        engine.complete(last, &Report { headers: Some(&headers), ..report(Outcome::Success) }).unwrap();
        assert_eq!(used(&engine, "a", Dimension::Requests), 1, "away: {away}");
    }
}

/// Usage that was never told is learned, and a small limit never blocks for good.
#[test]
fn learned_estimates_are_capped_by_the_limit() {
    for strategy in [Strategy::Rolling, Strategy::TokenBucket, Strategy::FixedWindow] {
        let (engine, clock) = engine(Settings::default());
        let limited = |limit| provider("a", vec![with(strategy, quota(Dimension::Tokens, limit, SEC))]);
        serve(&engine, vec![limited(1_000_000)]);
        for _ in 0..50 {
            let lease = acquire(&engine).lease.unwrap();
            engine.complete(lease, &reported_tokens(Outcome::Success, 1000)).unwrap();
        }
        clock.advance_ns(MINUTE);
        redefine(&engine, limited(100));
        assert_eq!(granted(&engine, 5), 1, "{strategy:?}");
        clock.advance_ns(MINUTE);
        let batch = Estimate { headroom: 0.5, ..one() };
        assert!(engine.acquire("api", &batch, None).unwrap().available(), "{strategy:?} with headroom");
        redefine(&engine, limited(0));
        clock.advance_ns(MINUTE);
        assert!(!acquire(&engine).available(), "{strategy:?}: a limit of 0 admits nothing");
    }
}

/// A sum of which only one part is told is capped by the limit as well, so that it never blocks for good.
#[test]
fn learned_parts_of_a_sum_are_capped_by_the_limit() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 6000, MINUTE)])]);
    let parts =
        |input, output| Reported::default().with(Dimension::InputTokens, input).with(Dimension::OutputTokens, output);
    for _ in 0..3 {
        let lease = acquire(&engine).lease.unwrap();
        let used = Report { usage: parts(Some(500), Some(5200)), ..report(Outcome::Success) };
        engine.complete(lease, &used).unwrap();
        clock.advance_ns(2 * MINUTE);
    }
    for (input, takes) in [(900, 6000), (100, 5300)] {
        let estimate = Estimate { usage: parts(Some(input), None), ..one() };
        let lease = engine.acquire("api", &estimate, None).unwrap().lease.unwrap();
        assert_eq!(used(&engine, "a", Dimension::Tokens), takes);
        engine.cancel(lease).unwrap();
    }
    // What is told is not.
    let estimate = Estimate { usage: parts(Some(6001), None), ..one() };
    assert!(!engine.select("api", &estimate, None).unwrap().available());
}

/// A request is one request, however little of a learned limit the headroom leaves.
#[test]
fn a_request_that_is_granted_is_counted() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(1000, MINUTE)])]);
    for _ in 0..9 {
        engine.complete(acquire(&engine).lease.unwrap(), &reported_tokens(Outcome::Success, 5)).unwrap();
        clock.advance_ns(MS);
    }
    clock.advance_ns(10 * SEC);
    engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::RateLimited)).unwrap();
    let mut granted = 0;
    for _ in 0..40 {
        clock.advance_ns(3 * MINUTE);
        let asked = engine.acquire("api", &Estimate { headroom: 0.9, ..one() }, None).unwrap();
        if let Some(lease) = asked.lease {
            granted += 1;
            assert_eq!(used(&engine, "a", Dimension::Requests), 1);
            engine.cancel(lease).unwrap();
        }
    }
    assert!(granted > 0);
}

/// A capability that is gone teaches nothing to the one that comes after it, not by leases that are still out either.
#[test]
fn a_capability_learns_nothing_from_one_that_is_gone() {
    let (engine, _) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 1_000_000, MINUTE)])]);
    let settled = acquire(&engine).lease.unwrap();
    engine.complete(settled, &reported_tokens(Outcome::Success, 5000)).unwrap();
    let out = acquire(&engine).lease.unwrap();
    engine.remove_capability("api").unwrap();
    engine.apply(Change { capabilities: vec![capability("chat", &["a"])], ..Change::default() }).unwrap();
    engine.complete(out, &reported_tokens(Outcome::Success, 100_000)).unwrap();
    let before = used(&engine, "a", Dimension::Tokens);
    engine.acquire("chat", &one(), None).unwrap().lease.unwrap();
    assert_eq!(used(&engine, "a", Dimension::Tokens), before);
}

/// What a capability's requests use is known also to a provider that has served none: the first burst after a failover.
#[test]
fn estimates_are_learned_per_capability() {
    let (engine, clock) = engine(Settings::default());
    let limited = |name, limit| provider(name, vec![quota(Dimension::Tokens, limit, MINUTE)]);
    serve(&engine, vec![limited("a", 1_000_000), limited("b", 10_000)]);
    for _ in 0..50 {
        let lease = engine.acquire("api", &one(), None).unwrap().lease.unwrap();
        engine.complete(lease, &reported_tokens(Outcome::Success, 1000)).unwrap();
    }
    clock.advance_ns(2 * MINUTE);
    let failover = Estimate { excluded: &[engine.provider_id("a").unwrap()], ..one() };
    let granted = (0..1000).filter(|_| engine.acquire("api", &failover, None).unwrap().available()).count();
    assert!(granted <= 12, "{granted} requests of about 1000 tokens at once, the limit is 10000");
}

/// Arrays of values in the order of the fields are not what the format says.
#[test]
fn json_objects_are_objects() {
    for text in ["[null, [], [], true]", r#"{"providers": [["a", 3, 1, 30, []]]}"#, r#"{"engine": []}"#] {
        let error = Change::from_json(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }
}

/// A decision looks closely at as few providers as it can; one that is explained looks at all. Two engines, of which one
/// explains everything, agree at every step of a long walk, whatever quota is the tightest.
#[test]
fn a_short_look_finds_what_a_long_one_does() {
    let providers = || {
        let all = (0..8u64).map(|i| {
            let slots = concurrency(20 + i);
            let quotas = match i % 4 {
                0 => vec![requests(20 + i, SEC), slots],
                1 => vec![requests(300, MINUTE), quota(Dimension::Tokens, 14_000, MINUTE), slots],
                2 => vec![with(Strategy::TokenBucket, requests(15, SEC)), slots],
                _ => vec![with(Strategy::FixedWindow, requests(200, MINUTE)), concurrency(30)],
            };
            ProviderConfig { priority: 10 - (i as u32) / 2, ..provider(&format!("p{i}"), quotas) }
        });
        all.collect::<Vec<_>>()
    };
    let sides = [engine(Settings::default()), engine(Settings::default())];
    sides.iter().for_each(|(engine, _)| serve(engine, providers()));
    let (mut random, mut leases, mut available) = (1u64, Vec::new(), 0);
    for step in 0..20_000 {
        // A linear congruential generator is random enough here.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = random >> 40;
        let asked = tokens(pick % 60);
        sides.iter().for_each(|(_, clock)| clock.advance_ns(pick % 40 * MS));
        let short = sides[0].0.acquire("api", &asked, None).unwrap();
        let long = sides[1].0.acquire("api", &asked, Some(&mut Vec::new())).unwrap();
        assert_eq!(short.best, long.best, "step {step}");
        available += u64::from(short.available());
        leases.extend(short.lease.zip(long.lease));
        let keep = if short.available() { 60 + pick as usize % 110 } else { leases.len().saturating_sub(2) };
        while leases.len() > keep {
            let (a, b) = leases.swap_remove(pick as usize % leases.len());
            for ((engine, _), lease) in sides.iter().zip([a, b]) {
                match pick % 17 {
                    0 => engine.cancel(lease).unwrap(),
                    1 => engine.complete(lease, &reported_tokens(Outcome::Timeout, 1)).unwrap(),
                    _ => engine.complete(lease, &reported_tokens(Outcome::Success, pick % 50)).unwrap(),
                }
            }
        }
    }
    assert!((2_000..19_900).contains(&available), "{available} of 20000 were available: the walk shows little");
}

/// Half for the quotas, half for the priority, so that both decide.
fn halves() -> Settings {
    let weights = Weights { quota: 0.5, health: 0.0, priority: 0.5, latency: 0.0 };
    Settings { weights, skew_ns: 0, ..Settings::default() }
}

/// The decision, the same with all candidates and without.
fn seen(engine: &Engine) -> Option<Ranked> {
    let short = engine.select("api", &one(), None).unwrap();
    let long = engine.select("api", &one(), Some(&mut Vec::new())).unwrap();
    assert_eq!(short.best, long.best);
    short.best
}

#[test]
fn a_concurrency_limit_that_rises_is_seen() {
    let (engine, clock) = engine(halves());
    let a = ProviderConfig { priority: 10, ..provider("a", vec![concurrency(20)]) };
    serve(&engine, vec![a, ProviderConfig { priority: 6, ..provider("b", vec![]) }]);
    for _ in 0..8 {
        engine.complete(acquire(&engine).lease.unwrap(), &report(Outcome::Success)).unwrap();
    }
    let mut out: Vec<_> = (0..10).map(|_| acquire(&engine).lease.unwrap()).collect();
    // That nine may be out is learned.
    engine.complete(out.pop().unwrap(), &report(Outcome::RateLimited)).unwrap();
    for _ in 0..2 {
        engine.complete(out.pop().unwrap(), &report(Outcome::Success)).unwrap();
    }
    clock.advance_ns(15 * SEC);
    // It rises to ten, of which eight are out.
    acquire(&engine);
    assert_eq!(seen(&engine).map(|best| best.index), Some(0));
}

#[test]
fn a_clock_that_goes_back_shows_nothing_old() {
    let (engine, clock) = engine(halves());
    let a = ProviderConfig { priority: 10, ..provider("a", vec![requests(100, MINUTE)]) };
    serve(&engine, vec![a, ProviderConfig { priority: 6, ..provider("b", vec![]) }]);
    clock.set_ns(100 * SEC);
    (0..80).for_each(|_| engine.observe("a", &report(Outcome::Success)).unwrap());
    clock.set_ns(109 * SEC);
    seen(&engine);
    // All of it has left, as `a` has seen.
    clock.set_ns(170 * SEC);
    engine.observe("a", &report(Outcome::Success)).unwrap();
    clock.set_ns(108 * SEC);
    assert_eq!(seen(&engine).map(|best| best.index), Some(0));
}

#[test]
fn usage_beyond_all_numbers_leaves_like_any_other() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 100, MINUTE)])]);
    engine.observe("a", &reported_tokens(Outcome::Success, (1 << 63) + 1)).unwrap();
    clock.advance_ns(5000);
    engine.observe("a", &reported_tokens(Outcome::Success, 1 << 63)).unwrap();
    assert!(!engine.select("api", &tokens(1), None).unwrap().available());
    clock.advance_ns(10 * MINUTE);
    assert!(engine.select("api", &tokens(1), None).unwrap().available());
}

/// The marks that a huge number made coarse are fine again when it has left.
#[test]
fn one_huge_report_blocks_for_one_window() {
    let (engine, clock) = engine(halves());
    serve(&engine, vec![provider("a", vec![quota(Dimension::Tokens, 100, MINUTE)])]);
    engine.observe("a", &reported_tokens(Outcome::Success, 1 << 40)).unwrap();
    clock.advance_ns(MINUTE + SEC);
    assert!(engine.acquire("api", &tokens(1), None).unwrap().available());
    clock.advance_ns(SEC);
    assert!(engine.select("api", &tokens(1), None).unwrap().available());
}

/// What was given back of one lease is not there to be given back of another.
#[test]
fn a_bucket_gives_nothing_back_twice() {
    let (engine, clock) = engine(Settings { skew_ns: 0, ..Settings::default() });
    let bucket = with(Strategy::TokenBucket, quota(Dimension::Tokens, 60, MINUTE));
    serve(&engine, vec![provider("a", vec![QuotaConfig { burst: Some(100), ..bucket }])]);
    let lease = |n| engine.acquire("api", &tokens(n), None).unwrap().lease.unwrap();
    let early = [lease(30), lease(30)];
    clock.set_ns(40 * SEC);
    let late = lease(7);
    early.into_iter().for_each(|lease| engine.cancel(lease).unwrap());
    assert_eq!(used(&engine, "a", Dimension::Tokens), 7);
    engine.cancel(late).unwrap();
    assert_eq!(used(&engine, "a", Dimension::Tokens), 0);
}

#[test]
fn a_limit_of_zero_is_not_learned_upward() {
    let (engine, clock) = engine(Settings::default());
    serve(&engine, vec![provider("a", vec![requests(0, SEC)])]);
    for _ in 0..20 {
        engine.observe("a", &report(Outcome::Success)).unwrap();
    }
    clock.set_ns(1);
    engine.observe("a", &report(Outcome::RateLimited)).unwrap();
    assert_eq!(engine.provider_state("a").unwrap().quotas[0].effective_limit, 0);
}
