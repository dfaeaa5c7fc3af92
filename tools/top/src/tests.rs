//! The text and the document of a fixed state.

use std::path::PathBuf;
use std::sync::Arc;

use grate::Engine;
use grate::clock::MockClock;
use grate::config::{Change, Dimension, Settings};
use grate::engine::{Estimate, Report};
use grate::feedback::Outcome;
use grate::lease::LeaseId;
use grate::shared::StateFile;
use grate::usage::Reported;

use crate::frame;
use crate::line::Style;
use crate::snapshot::Snapshot;

/// 2026-01-01T00:00:00Z.
const UNIX_MS: u64 = 1_767_225_600_000;
const MS: u64 = 1_000_000;

const BOOK: &str = r#"{
  "engine": {"cooldown_trigger_count": 2},
  "providers": [
    {"name": "anthropic", "priority": 10, "quotas": [
      {"dimension": "requests", "limit": 50, "window": "minute"},
      {"dimension": "tokens", "limit": 40000, "window": "minute", "pool": "account"}]},
    {"name": "anthropic-of-another-account", "priority": 9, "quotas": [
      {"dimension": "tokens", "limit": 40000, "window": "minute", "pool": "account"},
      {"dimension": "requests", "limit": 100, "window_ms": 10000}]},
    {"name": "öpenai", "priority": 5, "quotas": [
      {"dimension": "cost_micro_usd", "limit": 25000000, "window": "day", "strategy": "fixed_window"},
      {"dimension": "concurrency", "limit": 8}]},
    {"name": "free", "quotas": []}],
  "capabilities": [
    {"name": "chat", "providers": [{"provider": "anthropic"}]}, {"name": "more", "providers": [{"provider": "öpenai"}]}]
}"#;

/// A path that is free again in the end.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An engine with a configuration, on a file of its own.
fn engine(book: &str) -> (Engine, Arc<MockClock>, Place) {
    let place = Place(std::env::temp_dir().join(format!("grate-top-{:?}", std::thread::current().id())));
    let _ = std::fs::remove_file(&place.0);
    let clock = Arc::new(MockClock::new(UNIX_MS));
    let file = StateFile { path: place.0.clone(), size: StateFile::MIN_SIZE, replace_unusable: false };
    let engine = Engine::open(Settings::default(), clock.clone(), &file).unwrap();
    engine.apply(Change::from_json(book.as_bytes()).unwrap()).unwrap();
    (engine, clock, place)
}

/// A little of everything, looked at twice.
pub fn fixed() -> Snapshot {
    let (engine, clock, place) = engine(BOOK);
    let estimate = Estimate { usage: Reported::default().with(Dimension::Tokens, Some(1500)), ..Estimate::default() };
    let acquire = |capability: &str| engine.acquire(capability, &estimate, None).unwrap().lease.unwrap();
    let complete = |lease: LeaseId, outcome: Outcome| {
        clock.advance_ns(250 * MS);
        let usage = Reported::default().with(Dimension::CostMicroUsd, Some(1_234_567));
        let report = Report { outcome, latency_ns: None, retry_after_ns: None, usage, headers: None };
        engine.complete(lease, &report).unwrap();
    };
    (0..12).for_each(|_| complete(acquire("chat"), Outcome::Success));
    complete(acquire("more"), Outcome::Success);
    let look = || Snapshot::take(&place.0, clock.clone()).unwrap();
    let first = look();
    clock.advance_ns(1000 * MS);
    (0..3).for_each(|_| complete(acquire("chat"), Outcome::Success));
    acquire("chat");
    complete(acquire("chat"), Outcome::RateLimited);
    (0..2).for_each(|_| complete(acquire("more"), Outcome::ServerError));
    engine.observe("free", &Report { outcome: Outcome::Success, latency_ns: Some(42 * MS), ..report() }).unwrap();
    assert!(engine.acquire("more", &estimate, None).unwrap().lease.is_none());
    clock.advance_ns(500 * MS);
    // What differs from run to run, and with the size of records.
    Snapshot { path: "state".into(), processes: Some(vec![7, 1234]), file_used_bytes: 131_072, ..look().since(&first) }
}

fn report() -> Report<'static> {
    let usage = Reported::default();
    Report { outcome: Outcome::Success, latency_ns: None, retry_after_ns: None, usage, headers: None }
}

/// Compares, or with UPDATE in the environment writes what is expected.
fn is_as_expected(text: &str, name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "{name}");
}

fn text(snapshot: &Snapshot, width: usize, ascii: bool) -> String {
    let style = Style { ascii, color: false };
    frame::all(snapshot, width).iter().map(|line| line.text(style) + "\n").collect()
}

#[test]
fn the_text_is_as_expected() {
    is_as_expected(&text(&fixed(), 80, false), "once.txt");
    is_as_expected(&text(&fixed(), 100, true), "once-ascii.txt");
}

#[test]
fn text_has_no_escapes_and_fits() {
    let text = text(&fixed(), 80, false);
    assert!(!text.contains('\x1b'));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn nothing_is_said_where_nothing_is() {
    let empty = Snapshot { processes: Some(Vec::new()), providers: Vec::new(), active_unix_ms: None, ..fixed() };
    let text = text(&empty, 80, false);
    assert!(
        text.contains("no processes; never used; 128 KiB of 1.0 MiB taken\n") && text.ends_with("\nno providers\n")
    );
    let elsewhere = Snapshot { processes: None, ..fixed() };
    assert!(self::text(&elsewhere, 80, false).contains("\nprocesses of another container; last used"));
    let many = Snapshot { processes: Some((1..=11).collect()), ..fixed() };
    assert!(self::text(&many, 80, false).contains("\n11 processes: 1 2 3 4 5 6 7 8 and 3 more; last used"));
}

#[test]
fn a_bucket_is_shown_with_its_size_also_when_it_is_overdrawn() {
    const BUCKET: &str = r#"{"providers": [{"name": "one", "quotas": [
        {"dimension": "tokens", "limit": 5, "window": "minute", "strategy": "token_bucket", "burst": 20}]}]}"#;
    let (engine, clock, place) = engine(BUCKET);
    for (used, shown) in [(3, " 3/20 "), (104, " 107/20 ")] {
        let usage = Reported::default().with(Dimension::Tokens, Some(used));
        engine.observe("one", &Report { usage, ..report() }).unwrap();
        let text = text(&Snapshot::take(&place.0, clock.clone()).unwrap(), 80, false);
        assert!(text.contains(shown), "{text}");
    }
}

#[test]
fn the_document_is_as_expected() {
    is_as_expected(&(serde_json::to_string_pretty(&fixed()).unwrap() + "\n"), "document.json");
}

/// All keys are in the tables of the README, and no others.
#[test]
fn the_readme_explains_all_keys() {
    fn keys(value: &serde_json::Value, to: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                to.push(key.clone());
                keys(value, to);
            }),
            serde_json::Value::Array(values) => values.iter().for_each(|value| keys(value, to)),
            _ => {}
        }
    }
    let readme = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let cells = readme.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let mut explained: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(String::from).collect();
    let mut shown = Vec::new();
    keys(&serde_json::to_value(fixed()).unwrap(), &mut shown);
    for names in [&mut explained, &mut shown] {
        names.sort_unstable();
        names.dedup();
    }
    assert_eq!(explained, shown);
}
