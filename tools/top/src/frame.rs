//! A snapshot, laid out as lines.

use grate::engine::LimitSource;
use grate::health::Circuit;

use crate::line::{Ink, Line, bar, column};
use crate::snapshot::{Counts, Provider, Quota, Rates, Snapshot, circuit_name, source_name};
use crate::units::{amount, bytes, moment, percent, rate, time, window};

/// What tables need; what is more goes to names and bars.
const NARROW: usize = 80;
/// More than so much for names and bars helps nobody.
const MOST_MORE: usize = 40;
const NAME: usize = 20;
const BAR: usize = 12;
/// A quarter left counts as all, as in scores.
const AMPLE: f64 = 0.25;

/// All lines.
pub fn all(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut lines = head(snapshot, width);
    lines.extend(body(snapshot, width));
    lines
}

/// What is told of all together, and the names of columns.
pub fn head(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let title =
        Line::new(Ink::Bold, snapshot.path.as_str()).and(Ink::Plain, format!("   {}", moment(snapshot.unix_ms)));
    let active = match snapshot.active_unix_ms {
        None => "never used".into(),
        Some(ms) => format!("last used {} ago", time(snapshot.unix_ms.saturating_sub(ms) as f64 / 1e3)),
    };
    let space = format!("{} of {} taken", bytes(snapshot.file_used_bytes), bytes(snapshot.file_bytes));
    let use_of = format!("{}; {active}; {space}", processes(snapshot));
    let mut lines = vec![title, Line::new(Ink::Plain, use_of), Line::default()];
    lines.extend(totals(snapshot));
    lines.extend([Line::default(), provider_names(more(width)), quota_names(more(width))]);
    lines
}

/// How many columns names and bars get beside those that they have anyway.
fn more(width: usize) -> usize {
    width.saturating_sub(NARROW).min(MOST_MORE)
}

fn processes(snapshot: &Snapshot) -> String {
    // More ids than fit into a line help nobody.
    const SHOWN: usize = 8;
    match snapshot.processes.as_deref() {
        None => "processes of another container".into(),
        Some([]) => "no processes".into(),
        Some(ids) => {
            let shown: Vec<_> = ids.iter().take(SHOWN).map(u32::to_string).collect();
            let more = if ids.len() > SHOWN { format!(" and {} more", ids.len() - SHOWN) } else { String::new() };
            let noun = if ids.len() == 1 { "process" } else { "processes" };
            format!("{} {noun}: {}{more}", ids.len(), shown.join(" "))
        }
    }
}

fn totals(snapshot: &Snapshot) -> [Line; 3] {
    let row = |name: &str, cells: [String; 7]| {
        let [selects, acquires, completions, observations, none, refused, leases] = cells;
        format!(
            "{name:10}{selects:>9}{acquires:>10}{completions:>13}{observations:>10}{none:>12}{refused:>8}{leases:>8}"
        )
    };
    let names = ["selects", "acquires", "completions", "observes", "none free", "429s", "leases"].map(String::from);
    let (all, rates) = (&snapshot.counters, snapshot.per_second.as_ref());
    let per_second = |of: fn(&Rates) -> f64| rate(rates.map(of));
    let in_all = |of: fn(&Counts) -> u64| amount(of(all));
    [
        Line::new(Ink::Dim, row("", names)),
        Line::new(
            Ink::Plain,
            row(
                "per second",
                [
                    per_second(|r| r.selects),
                    per_second(|r| r.acquires),
                    per_second(|r| r.completions),
                    per_second(|r| r.observations),
                    rate(snapshot.none_available_per_second),
                    per_second(|r| r.rate_limited_responses),
                    String::new(),
                ],
            ),
        ),
        Line::new(
            Ink::Plain,
            row(
                "in all",
                [
                    in_all(|c| c.selects),
                    in_all(|c| c.acquires),
                    in_all(|c| c.completions),
                    in_all(|c| c.observations),
                    amount(snapshot.none_available),
                    in_all(|c| c.rate_limited_responses),
                    amount(snapshot.leases_in_flight),
                ],
            ),
        ),
    ]
}

/// Pools and providers with their quotas.
pub fn body(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let more = more(width);
    let mut lines = Vec::new();
    for pool in pools(&snapshot.providers) {
        lines
            .push(Line::new(Ink::Bold, format!("pool {}", pool.name)).and(Ink::Plain, format!(" of {}", pool.members)));
        lines.extend(pool.quotas.into_iter().map(|quota| quota_line(quota, more)));
    }
    for provider in &snapshot.providers {
        lines.push(provider_line(provider, more));
        let own = provider.quotas.iter().filter(|quota| quota.pool.is_none());
        lines.extend(own.map(|quota| quota_line(quota, more)));
    }
    if snapshot.providers.is_empty() {
        lines.push(Line::new(Ink::Plain, "no providers"));
    }
    lines
}

/// What providers share, told once.
struct Pool<'a> {
    name: &'a str,
    members: String,
    quotas: Vec<&'a Quota>,
}

fn pools(providers: &[Provider]) -> Vec<Pool<'_>> {
    let mut pools: Vec<Pool<'_>> = Vec::new();
    for provider in providers {
        let mut joined = Vec::new();
        for quota in &provider.quotas {
            let Some(name) = quota.pool.as_deref() else { continue };
            let known = pools.iter().position(|pool| pool.name == name).unwrap_or_else(|| {
                pools.push(Pool { name, members: String::new(), quotas: Vec::new() });
                pools.len() - 1
            });
            let pool = &mut pools[known];
            if !joined.contains(&known) {
                joined.push(known);
                let comma = if pool.members.is_empty() { "" } else { ", " };
                pool.members += &format!("{comma}{}", provider.name);
            }
            if !pool.quotas.iter().any(|q| (q.dimension, q.window_seconds) == (quota.dimension, quota.window_seconds)) {
                pool.quotas.push(quota);
            }
        }
    }
    pools
}

fn provider_names(more: usize) -> Line {
    let [name, state] = [column("PROVIDER", name_width(more)), column("STATE", bar_width(more))];
    let [health, leases, latency, chosen, done] = ["HEALTH", "LEASES", "LATENCY", "CHOSEN/S", "DONE/S"];
    Line::new(Ink::Dim, format!("{name} {state} {health} {leases} {latency} {chosen} {done:>8}  429/S"))
}

fn quota_names(more: usize) -> Line {
    let [name, used] = [column("  QUOTA", name_width(more)), column("USED", bar_width(more))];
    Line::new(Ink::Dim, format!("{name} {used} {:>11} AHEAD SPENT IN LIMIT", "OF"))
}

fn name_width(more: usize) -> usize {
    NAME + more / 2
}

fn bar_width(more: usize) -> usize {
    BAR + more - more / 2
}

fn provider_line(provider: &Provider, more: usize) -> Line {
    let rates = provider.per_second.as_ref();
    let chosen = rate(rates.map(|r| r.selects + r.acquires));
    let done = rate(rates.map(|r| r.completions + r.observations));
    let refused = rate(rates.map(|r| r.rate_limited_responses));
    let (state, ink) = match provider.circuit {
        Circuit::Closed => (circuit_name(provider.circuit).into(), Ink::Good),
        Circuit::Open => (format!("cools {}", time(provider.cooldown_seconds)), Ink::Bad),
        Circuit::HalfOpen | Circuit::Ramping => (circuit_name(provider.circuit).into(), Ink::Fair),
    };
    let latency = provider.latency_seconds.map_or("-".into(), time);
    let (health, leases) = (percent(provider.health), amount(provider.leases_in_flight));
    Line::new(Ink::Bold, column(&provider.name, name_width(more)))
        .and(ink, format!(" {}", column(&state, bar_width(more))))
        .and(Ink::Plain, format!(" {health:>6} {leases:>6} {latency:>7} {chosen:>8} {done:>8}"))
        .and(if refused == "0" { Ink::Plain } else { Ink::Bad }, format!(" {refused:>6}"))
}

fn quota_line(quota: &Quota, more: usize) -> Line {
    let name = match quota.window_seconds {
        Some(seconds) => format!("  {}/{}", quota.dimension, window(seconds)),
        None => format!("  {}", quota.dimension),
    };
    let (full, empty) = bar(quota.used as f64 / quota.capacity as f64, bar_width(more));
    let ink = match quota.predicted_share {
        share if share >= AMPLE => Ink::Good,
        share if share > 0.0 => Ink::Fair,
        _ => Ink::Bad,
    };
    let of = format!("{}/{}", amount(quota.used), amount(quota.capacity));
    let (ahead, spent) = (percent(quota.predicted_share), quota.seconds_to_exhaustion);
    let spent = match spent {
        _ if quota.remaining == 0 => "spent".into(),
        spent if spent.is_finite() => time(spent),
        _ => "-".into(),
    };
    let source = match quota.limit {
        Some(limit) if quota.limit_source != LimitSource::Configured => {
            format!("{}, not {}", source_name(quota.limit_source), amount(limit))
        }
        _ => source_name(quota.limit_source).into(),
    };
    Line::new(Ink::Plain, column(&name, name_width(more)) + " ")
        .and(ink, full)
        .and(Ink::Dim, empty)
        .and(Ink::Plain, format!(" {of:>11} {ahead:>5} {spent:>8} "))
        .and(if quota.limit_source == LimitSource::Configured { Ink::Plain } else { Ink::Fair }, source)
}
