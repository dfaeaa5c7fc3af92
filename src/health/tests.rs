//! Health, cooldown and latency of one provider, as outcomes come in.

use proptest::prelude::{Just, ProptestConfig, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

const SEC: u64 = 1_000_000_000;
const BASE: f64 = 30.0;

const OUTCOMES: [(Outcome, f64, f64); 8] = [
    (Outcome::Success, 0.4, 1.0),
    (Outcome::ClientError, 0.4, 1.0),
    (Outcome::ServerError, 0.4, 0.0),
    (Outcome::Overloaded, 0.4, 0.0),
    (Outcome::Timeout, 0.8, 0.0),
    (Outcome::RateLimited, 1.0, 0.0),
    (Outcome::QuotaExhausted, 1.0, 0.0),
    (Outcome::Forbidden, 2.0, 0.0),
];

fn seen(outcome: Outcome, now: u64) -> Observed {
    Observed { outcome, sent: now, now, latency_ns: None, retry_after_ns: None }
}

/// Settings under which only the count of failures starts a cooldown.
fn by_count() -> Settings {
    Settings { cooldown_threshold: 0.0, ..Settings::default() }
}

/// Settings under which nothing but Retry-After starts a cooldown.
fn never() -> Settings {
    Settings { cooldown_trigger_count: u32::MAX, cooldown_threshold: 0.0, ..Settings::default() }
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

#[test]
fn each_outcome_has_its_weight() {
    let settings = never();
    for (first, weight, target) in OUTCOMES {
        let health = Health::default();
        health.observe(seen(Outcome::RateLimited, 5), BASE, &settings);
        close(health.at(5, &settings), 0.75);
        health.observe(seen(first, 5), BASE, &settings);
        close(health.at(5, &settings), 0.75 + 0.25 * weight * (target - 0.75));
    }
    let health = Health::default();
    health.observe(seen(Outcome::RateLimited, 5), BASE, &settings);
    health.observe(seen(Outcome::Cancelled, 5), BASE, &settings);
    close(health.at(5, &settings), 0.75);
}

#[test]
fn a_step_is_never_more_than_the_whole() {
    let settings = Settings { ewma_alpha: 0.9, ..never() };
    let health = Health::default();
    health.observe(seen(Outcome::Forbidden, 5), BASE, &settings);
    assert_eq!(health.at(5, &settings), 0.0);
    health.observe(seen(Outcome::Success, 5), BASE, &settings);
    close(health.at(5, &settings), 0.36);
}

#[test]
fn the_deficit_halves_every_half_life() {
    let settings = Settings { recovery_half_life_secs: 7.0, ..never() };
    let health = Health::default();
    for _ in 0..3 {
        health.observe(seen(Outcome::Forbidden, 9), BASE, &settings);
    }
    let missing = 1.0 - health.at(9, &settings);
    for halvings in 1..20 {
        let later = 9 + halvings * 7 * SEC;
        close(1.0 - health.at(later, &settings), missing / f64::from(1u32 << halvings));
        // Reading has changed nothing.
        assert_eq!(health.at(9, &settings), 1.0 - missing);
    }
    assert_eq!(health.at(u64::MAX, &settings), 1.0);
    // Time that goes back is time that stands still.
    assert_eq!(health.at(3, &settings), 1.0 - missing);
}

#[test]
fn three_failures_in_a_row_cool_down() {
    for failure in [Outcome::ServerError, Outcome::Timeout, Outcome::RateLimited, Outcome::Forbidden] {
        let (health, settings) = (Health::default(), by_count());
        assert!(!health.observe(seen(failure, 1), BASE, &settings));
        assert!(!health.observe(seen(failure, 2), BASE, &settings));
        assert!(!health.observe(seen(Outcome::Success, 3), BASE, &settings));
        assert!(!health.observe(seen(failure, 4), BASE, &settings));
        assert!(!health.observe(seen(failure, 5), BASE, &settings));
        assert!(!health.observe(seen(Outcome::Cancelled, 5), BASE, &settings), "says nothing");
        assert_eq!(health.consecutive_failures(), 2);
        assert!(health.observe(seen(failure, 6), BASE, &settings), "{failure:?}");
        assert_eq!(health.circuit(6), Circuit::Open);
        assert_eq!(health.cooldown_left(6), 30 * SEC);
        assert_eq!(health.cooldown_left(6 + 30 * SEC - 1), 1);
        assert_eq!(health.circuit(6 + 30 * SEC), Circuit::HalfOpen);
    }
}

#[test]
fn a_client_error_is_no_failure() {
    let (health, settings) = (Health::default(), Settings::default());
    health.observe(seen(Outcome::ServerError, 1), BASE, &settings);
    health.observe(seen(Outcome::ServerError, 1), BASE, &settings);
    assert!(!health.observe(seen(Outcome::ClientError, 1), BASE, &settings));
    assert_eq!(health.consecutive_failures(), 0);
}

#[test]
fn low_health_cools_down_before_the_count() {
    let settings = Settings { cooldown_trigger_count: 100, cooldown_threshold: 0.5, ..Settings::default() };
    let health = Health::default();
    assert!(!health.observe(seen(Outcome::RateLimited, 1), BASE, &settings));
    assert!(!health.observe(seen(Outcome::RateLimited, 1), BASE, &settings));
    close(health.at(1, &settings), 0.5625);
    assert!(health.observe(seen(Outcome::RateLimited, 1), BASE, &settings));
    assert_eq!(health.cooldown_left(1), 30 * SEC);
    // At the threshold is not below it.
    let exact = Settings { ewma_alpha: 0.5, ..settings };
    let health = Health::default();
    assert!(!health.observe(seen(Outcome::RateLimited, 1), BASE, &exact));
    assert_eq!(health.at(1, &exact), 0.5);
}

/// Fails until a cooldown starts, at the time that is returned.
fn cool(health: &Health, mut now: u64, settings: &Settings) -> u64 {
    for _ in 0..settings.cooldown_trigger_count {
        now += 1;
        if health.observe(seen(Outcome::ServerError, now), BASE, settings) {
            return now;
        }
    }
    panic!("no cooldown");
}

#[test]
fn cooldowns_grow_to_the_cap_and_start_again_after_a_success() {
    let (health, settings) = (Health::default(), by_count());
    let mut now = 0;
    for secs in [30, 60, 120, 240, 480, 600, 600, 600] {
        now = cool(&health, now, &settings);
        assert_eq!(health.cooldown_left(now), secs * SEC);
        now += secs * SEC;
    }
    health.observe(seen(Outcome::Success, now), BASE, &settings);
    now = cool(&health, now, &settings);
    assert_eq!(health.cooldown_left(now), 30 * SEC, "a success resets the multiplier");

    // A base above the cap, and a multiplier of 1.
    let health = Health::default();
    let flat = Settings { cooldown_multiplier: 1.0, max_cooldown_secs: 5.0, ..by_count() };
    now = cool(&health, 0, &flat);
    assert_eq!(health.cooldown_left(now), 5 * SEC);
    now = cool(&health, now + 5 * SEC, &flat);
    assert_eq!(health.cooldown_left(now), 5 * SEC);
}

#[test]
fn many_cooldowns_stay_at_the_cap() {
    let (health, settings) = (Health::default(), Settings { cooldown_multiplier: 1e300, ..by_count() });
    let mut now = 0;
    for i in 0..2000 {
        now = cool(&health, now, &settings);
        assert_eq!(health.cooldown_left(now), if i == 0 { 30 } else { 600 } * SEC);
        now += 600 * SEC;
    }
}

#[test]
fn retry_after_is_taken_at_its_word() {
    let settings = never();
    for wait in [1, 999, 1_500_000_000, 86_400 * SEC, 31 * 86_400 * SEC] {
        let health = Health::default();
        let told = Observed { retry_after_ns: Some(wait), ..seen(Outcome::RateLimited, 77) };
        assert!(health.observe(told, BASE, &settings));
        assert_eq!(health.cooldown_left(77), wait);
        assert_eq!(health.circuit(77 + wait - 1), Circuit::Open);
        assert_eq!(health.circuit(77 + wait), Circuit::HalfOpen);
    }
    let health = Health::default();
    let forever = Observed { retry_after_ns: Some(u64::MAX), ..seen(Outcome::RateLimited, 77) };
    assert!(health.observe(forever, BASE, &settings));
    assert_eq!(health.circuit(u64::MAX - 1), Circuit::Open);
}

#[test]
fn retry_after_never_shortens() {
    let settings = by_count();
    let health = Health::default();
    let now = cool(&health, 0, &settings);
    let short = Observed { retry_after_ns: Some(SEC), ..seen(Outcome::RateLimited, now + 5) };
    assert!(!health.observe(short, BASE, &settings));
    assert_eq!(health.cooldown_left(now), 30 * SEC);
    let long = Observed { retry_after_ns: Some(90 * SEC), ..seen(Outcome::RateLimited, now + 10) };
    assert!(!health.observe(long, BASE, &settings), "lengthened, not started");
    assert_eq!(health.cooldown_left(now + 10), 90 * SEC);
    // Nor does a computed cooldown, after one that was told.
    assert!(!health.observe(seen(Outcome::Forbidden, now + 20), BASE, &settings));
    assert_eq!(health.cooldown_left(now + 10), 90 * SEC);
}

/// A cooldown that was told does not make the next computed one longer.
#[test]
fn retry_after_does_not_count_as_a_computed_cooldown() {
    let (health, settings) = (Health::default(), by_count());
    let told = Observed { retry_after_ns: Some(SEC), ..seen(Outcome::RateLimited, 1) };
    assert!(health.observe(told, BASE, &settings));
    let now = 1 + 2 * SEC;
    health.observe(seen(Outcome::Success, now), BASE, &settings);
    let now = cool(&health, now, &settings);
    assert_eq!(health.cooldown_left(now), 30 * SEC);
}

#[test]
fn stragglers_do_not_lengthen() {
    let (health, settings) = (Health::default(), by_count());
    let began = cool(&health, 100, &settings);
    for late in [began + 1, began + 10 * SEC, began + 30 * SEC, began + 40 * SEC] {
        let straggler = Observed { sent: 50, ..seen(Outcome::RateLimited, late) };
        assert!(!health.observe(straggler, BASE, &settings));
        assert_eq!(health.cooldown_left(began), 30 * SEC, "after a straggler at {late}");
    }
    assert_eq!(health.circuit(began + 40 * SEC), Circuit::HalfOpen);
    // Nor does a straggler's success close what a probe has to.
    let straggler = Observed { sent: 50, ..seen(Outcome::Success, began + 41 * SEC) };
    health.observe(straggler, BASE, &settings);
    assert_eq!(health.circuit(began + 41 * SEC), Circuit::HalfOpen);
    // A failure of the probe does: 60 s.
    assert!(health.observe(seen(Outcome::ServerError, began + 42 * SEC), BASE, &settings));
    assert_eq!(health.cooldown_left(began + 42 * SEC), 60 * SEC);
}

/// That a quota is spent is told by all that were under way: the longest cooldown is one, and counted from its beginning.
#[test]
fn an_exhausted_quota_is_told_once() {
    let (health, settings) = (Health::default(), by_count());
    let longest = 600 * SEC;
    assert!(health.observe(seen(Outcome::QuotaExhausted, 100), BASE, &settings));
    for late in [100, 100 + 300 * SEC, 100 + longest, 100 + longest + SEC] {
        let straggler = Observed { sent: 50, ..seen(Outcome::QuotaExhausted, late) };
        assert!(!health.observe(straggler, BASE, &settings));
        assert_eq!(health.cooldown_left(late), (100 + longest).saturating_sub(late));
    }
    // It is longer than a computed one that is running, or is just over.
    for late in [10 * SEC, 40 * SEC] {
        let health = Health::default();
        let began = cool(&health, 100, &settings);
        let straggler = Observed { sent: 50, ..seen(Outcome::QuotaExhausted, began + late) };
        health.observe(straggler, BASE, &settings);
        assert_eq!(health.cooldown_left(began), longest, "{late}");
    }
}

/// Ten requests sent at one time, as a mock clock has it: three failures at once, the rest fails when all is over.
#[test]
fn stragglers_of_the_very_nanosecond_do_not_lengthen() {
    let (health, settings) = (Health::default(), by_count());
    for i in 0..3 {
        assert_eq!(health.observe(seen(Outcome::ServerError, 100), BASE, &settings), i == 2);
    }
    let straggler = Observed { sent: 100, ..seen(Outcome::ServerError, 100 + 31 * SEC) };
    assert!(!health.observe(straggler, BASE, &settings), "sent before the cooldown, which began at the same time");
}

#[test]
fn the_ramp_doubles_with_each_success() {
    let (health, settings) = (Health::default(), by_count());
    assert_eq!(health.allowed(), None);
    let now = cool(&health, 0, &settings) + 30 * SEC;
    for (allowed, circuit) in [
        (Some(1), Circuit::HalfOpen),
        (Some(2), Circuit::Ramping),
        (Some(4), Circuit::Ramping),
        (Some(8), Circuit::Ramping),
        (None, Circuit::Closed),
    ] {
        assert_eq!(health.allowed(), allowed);
        assert_eq!(health.circuit(now), circuit);
        health.observe(seen(Outcome::Success, now), BASE, &settings);
    }
}

#[test]
fn a_failed_probe_reopens_for_longer() {
    let (health, settings) = (Health::default(), by_count());
    let mut now = cool(&health, 0, &settings) + 30 * SEC;
    for secs in [60, 120, 240] {
        assert_eq!(health.circuit(now), Circuit::HalfOpen);
        assert!(health.observe(seen(Outcome::ServerError, now), BASE, &settings), "one failure is enough");
        assert_eq!(health.cooldown_left(now), secs * SEC);
        assert_eq!(health.allowed(), Some(1));
        now += secs * SEC;
    }
}

#[test]
fn a_failure_in_the_ramp_goes_back_to_one_probe() {
    let (health, settings) = (Health::default(), by_count());
    let now = cool(&health, 0, &settings) + 30 * SEC;
    health.observe(seen(Outcome::Success, now), BASE, &settings);
    health.observe(seen(Outcome::Success, now), BASE, &settings);
    assert_eq!(health.allowed(), Some(4));
    assert!(!health.observe(seen(Outcome::ServerError, now), BASE, &settings));
    assert_eq!(health.allowed(), Some(1));
    assert!(health.observe(seen(Outcome::ServerError, now), BASE, &settings));
    assert_eq!(health.cooldown_left(now), 30 * SEC, "the success had reset the multiplier");
}

#[test]
fn latency_is_an_average_of_answers() {
    let (health, settings) = (Health::default(), never());
    let took = |outcome, ns| Observed { latency_ns: Some(ns), ..seen(outcome, 5) };
    assert_eq!(health.latency_ns(), 0.0);
    for (outcome, ..) in OUTCOMES {
        if !matches!(outcome, Outcome::Success | Outcome::Timeout) {
            health.observe(took(outcome, 1), BASE, &settings);
        }
    }
    health.observe(took(Outcome::Cancelled, 1), BASE, &settings);
    assert_eq!(health.latency_ns(), 0.0, "rejections are fast because nothing was done");
    health.observe(took(Outcome::Success, 1000), BASE, &settings);
    assert_eq!(health.latency_ns(), 1000.0);
    health.observe(took(Outcome::Timeout, 2000), BASE, &settings);
    close(health.latency_ns(), 1300.0);
    health.observe(took(Outcome::Success, 300), BASE, &settings);
    close(health.latency_ns(), 1000.0);
    health.observe(seen(Outcome::Success, 6), BASE, &settings);
    close(health.latency_ns(), 1000.0);
    // A latency of 0 is known, and more than nothing.
    let health = Health::default();
    health.observe(took(Outcome::Success, 0), BASE, &settings);
    assert!(health.latency_ns() > 0.0);
    health.observe(took(Outcome::Success, u64::MAX), BASE, &settings);
    assert!(health.latency_ns().is_finite());
}

#[derive(Clone, Debug)]
struct Step {
    advance: u64,
    outcome: usize,
    retry_after: Option<u64>,
    /// How long ago it was sent.
    age: u64,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::strategy::Strategy;
    let step = (
        prop_oneof![Just(0), 0..SEC, 0..100 * SEC, 0..10_000 * SEC],
        0..OUTCOMES.len(),
        prop_oneof![6 => Just(None), 1 => (1..200 * SEC).prop_map(Some)],
        prop_oneof![2 => Just(0), 1 => 0..50 * SEC],
    );
    let step = step.prop_map(|(advance, outcome, retry_after, age)| Step { advance, outcome, retry_after, age });
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn health_follows_the_formula(
        steps in steps(), alpha in 0.01f64..=1.0, half_life in prop_oneof![Just(30.0), 0.001f64..1000.0]
    ) {
        let settings = Settings { ewma_alpha: alpha, recovery_half_life_secs: half_life, ..Settings::default() };
        let health = Health::default();
        let (mut now, mut h) = (1000 * SEC, 1.0f64);
        for step in &steps {
            now += step.advance;
            let passed = step.advance as f64 / 1e9 / half_life;
            h = 1.0 - (1.0 - h) * (-passed).exp2();
            let (outcome, weight, x) = OUTCOMES[step.outcome];
            h += (alpha * weight).min(1.0) * (x - h);
            let what = Observed {
                sent: now - step.age,
                retry_after_ns: step.retry_after,
                ..seen(outcome, now)
            };
            health.observe(what, BASE, &settings);
            let got = health.at(now, &settings);
            prop_assert!((0.0..=1.0).contains(&got));
            prop_assert!((got - h).abs() < 1e-9, "{got}, by the formula {h}");
        }
    }

    /// A cooldown's end never moves back, and whoever asks when it ends is told exactly.
    #[test]
    fn cooldowns_are_never_shortened_and_always_end(steps in steps()) {
        let settings = Settings::default();
        let health = Health::default();
        let (mut now, mut until) = (1000 * SEC, 0);
        for step in &steps {
            now += step.advance;
            let (outcome, ..) = OUTCOMES[step.outcome];
            let (sent, retry_after_ns) = (now - step.age, step.retry_after);
            let open = health.circuit(now) == Circuit::Open;
            let started = health.observe(Observed { sent, retry_after_ns, ..seen(outcome, now) }, BASE, &settings);
            let end = now + health.cooldown_left(now);
            prop_assert!(end >= until, "shortened");
            prop_assert!(!(started && open), "counted twice");
            prop_assert!(!outcome.is_success() || !started);
            if started {
                prop_assert_eq!(health.circuit(now), Circuit::Open);
                let computed = (30..=600).contains(&(health.cooldown_left(now) / SEC));
                prop_assert!(retry_after_ns.is_some() || computed);
            }
            if health.cooldown_left(now) > 0 {
                until = end;
                prop_assert_eq!(health.circuit(end - 1), Circuit::Open);
                prop_assert_eq!(health.circuit(end), Circuit::HalfOpen);
            }
        }
    }

    #[test]
    fn the_wait_for_health_is_exact(
        steps in steps(), level in prop_oneof![Just(0.2), 0.0f64..1.0], half_life in prop_oneof![Just(30.0), 0.001f64..1e7]
    ) {
        let settings = Settings { recovery_half_life_secs: half_life, ..Settings::default() };
        let health = Health::default();
        let mut now = 1000 * SEC;
        for step in &steps {
            now += step.advance;
            health.observe(seen(OUTCOMES[step.outcome].0, now), BASE, &settings);
            let wait = health.wait_for(level, now, &settings);
            prop_assert!(health.at(now + wait, &settings) >= level);
            prop_assert!(wait == 0 || health.at(now + wait - 1, &settings) < level);
        }
    }
}

#[test]
fn waits_for_health_at_the_ends() {
    let settings = never();
    let health = Health::default();
    assert_eq!(health.wait_for(0.999, 0, &settings), 0);
    for _ in 0..50 {
        health.observe(seen(Outcome::Forbidden, 1), BASE, &settings);
    }
    let full = health.wait_for(1.0, 1, &settings);
    assert_eq!(health.at(1 + full, &settings), 1.0);
    let slow = Settings { recovery_half_life_secs: 366.0 * 86_400.0, ..settings };
    let wait = health.wait_for(0.2, 1, &slow);
    assert!(health.at(1 + wait, &slow) >= 0.2 && health.at(wait, &slow) < 0.2);
    // Near the end of time there may be no time left to recover.
    let late = Health::default();
    for _ in 0..50 {
        late.observe(seen(Outcome::Forbidden, u64::MAX - 5), BASE, &slow);
    }
    assert_eq!(late.wait_for(0.5, u64::MAX - 5, &slow), u64::MAX);
}
