//! The scenarios: situations that a reader who calls metered APIs has met.

use crate::scenario::{HOUR, Load, MINUTE, MS, Provider, Quota, SECOND, Scenario, Sizes, TroubleKind};

/// All scenarios, in the order of the tables.
pub fn all() -> Vec<Scenario> {
    vec![
        fixed_windows(),
        overload(),
        bursts(),
        llm_tokens(),
        hidden_limit(),
        hidden_second(),
        hidden_slots(),
        shared_key_headers(),
        shared_key_silent(),
        outage(),
        no_answer(),
        brownout(),
        layers(),
        concurrency(),
        many_keys(),
    ]
}

/// All quotas are as documented, but nobody says when the windows begin. Four fifths of what they allow is wanted.
fn fixed_windows() -> Scenario {
    let a = Provider::new("a", 10, [Quota::fixed(600, MINUTE, 13)]);
    let b = Provider::new("b", 6, [Quota::fixed(300, MINUTE, 41)]);
    let c = Provider::new("c", 3, [Quota::fixed(120, MINUTE, 29)]);
    Scenario::steady("fixed-windows", 600, 13.5, [a, b, c])
}

/// A third more is wanted than two sliding windows allow, and at one of them refused requests count as well.
fn overload() -> Scenario {
    let a = Provider::new("a", 10, [Quota::sliding(360, MINUTE)]).with_retry_after().counting_refused();
    let b = Provider::new("b", 7, [Quota::sliding(240, MINUTE)]).with_retry_after();
    Scenario::steady("overload", 600, 13.5, [a, b])
}

/// Long pauses, and every half minute 180 requests within 4 seconds, on two buckets.
fn bursts() -> Scenario {
    let a = Provider::new("a", 10, [Quota::bucket(5, 40)]);
    let b = Provider::new("b", 6, [Quota::bucket(8, 60)]);
    let load = (0..20).flat_map(|i| {
        let (start, end, next) = (i * 30 * SECOND, (i * 30 + 4) * SECOND, (i + 1) * 30 * SECOND);
        [Load { from: start, until: end, per_second: 45.0 }, Load { from: end, until: next, per_second: 1.5 }]
    });
    Scenario { load: load.collect(), ..Scenario::steady("bursts", 0, 0.0, [a, b]) }
}

/// Prompts of very different sizes, which the caller can only estimate, on quotas of requests and tokens.
fn llm_tokens() -> Scenario {
    let a = [Quota::fixed(400, MINUTE, 7), Quota::fixed(200_000, MINUTE, 7).of_tokens()];
    let b = [Quota::fixed(300, MINUTE, 33), Quota::fixed(120_000, MINUTE, 33).of_tokens()];
    let c = [Quota::bucket(1, 20), Quota::fixed(60_000, MINUTE, 52).of_tokens()];
    let providers = [
        Provider::new("a", 10, a).taking(2500 * MS),
        Provider::new("b", 8, b).taking(3000 * MS),
        Provider::new("c", 4, c).taking(1500 * MS),
    ];
    Scenario {
        sizes: Sizes { median: 900.0, sigma: 1.0, estimate_sigma: 0.15 },
        timeout: MINUTE,
        patience: 30 * SECOND,
        ..Scenario::steady("llm-tokens", 600, 3.4, providers)
    }
}

/// The preferred provider documents 900 a minute and allows 600.
fn hidden_limit() -> Scenario {
    let a = Provider::new("a", 10, [Quota::fixed(600, MINUTE, 19).documented_as(900)]);
    let b = Provider::new("b", 7, [Quota::fixed(360, MINUTE, 44)]);
    Scenario::steady("hidden-limit", 900, 12.0, [a, b])
}

/// What is documented per minute may not all come at once: nobody says how much of it passes in a second.
fn hidden_second() -> Scenario {
    let a = [Quota::fixed(600, MINUTE, 19), Quota::sliding(10, SECOND).undocumented()];
    let b = [Quota::fixed(360, MINUTE, 44), Quota::sliding(6, SECOND).undocumented()];
    Scenario::steady("hidden-second", 900, 11.0, [Provider::new("a", 10, a), Provider::new("b", 7, b)])
}

/// The preferred provider documents 24 requests at a time and serves 12.
fn hidden_slots() -> Scenario {
    let a = Provider::new("a", 10, [Quota::slots(12).documented_as(24)]).taking(1200 * MS);
    let b = Provider::new("b", 7, [Quota::slots(12)]).taking(1200 * MS);
    Scenario::steady("hidden-slots", 600, 13.0, [a, b])
}

/// Another service takes more than half of the preferred quota; each answer says what is left.
fn shared_key_headers() -> Scenario {
    let a = Provider::new("a", 10, [Quota::fixed(600, MINUTE, 22)]).with_headers().shared(6.0);
    let b = Provider::new("b", 7, [Quota::fixed(540, MINUTE, 48)]).with_headers();
    Scenario::steady("shared-key-headers", 600, 10.5, [a, b])
}

/// The same, but the answers say nothing.
fn shared_key_silent() -> Scenario {
    let a = Provider::new("a", 10, [Quota::fixed(600, MINUTE, 22)]).shared(6.0);
    let b = Provider::new("b", 7, [Quota::fixed(540, MINUTE, 48)]);
    Scenario::steady("shared-key-silent", 600, 10.5, [a, b])
}

/// The preferred provider fails for three minutes.
fn outage() -> Scenario {
    let a = Provider::new("a", 10, [Quota::fixed(900, MINUTE, 5)]).in_trouble(120, 300, TroubleKind::Errors(1.0));
    let b = Provider::new("b", 5, [Quota::fixed(720, MINUTE, 35)]);
    Scenario::steady("outage", 600, 9.0, [a, b])
}

/// The preferred provider leaves two of three requests unanswered for three minutes.
fn no_answer() -> Scenario {
    let a = Provider::new("a", 10, [Quota::fixed(900, MINUTE, 5)]).in_trouble(120, 300, TroubleKind::Silence(0.67));
    let b = Provider::new("b", 5, [Quota::fixed(720, MINUTE, 35)]);
    Scenario::steady("no-answer", 600, 9.0, [a, b])
}

/// The preferred provider takes fifteen times as long for four minutes, so that some requests time out.
fn brownout() -> Scenario {
    let a = Provider::new("a", 10, [Quota::fixed(900, MINUTE, 11)]).in_trouble(120, 360, TroubleKind::Slow(15.0));
    let b = Provider::new("b", 8, [Quota::fixed(720, MINUTE, 50)]).taking(500 * MS);
    Scenario::steady("brownout", 600, 9.0, [a, b])
}

/// Three quotas at once; the hourly one lasts ten minutes at full speed.
fn layers() -> Scenario {
    let a = [Quota::sliding(10, SECOND), Quota::fixed(300, MINUTE, 15), Quota::fixed(3000, HOUR, 0)];
    let b = [Quota::sliding(8, SECOND), Quota::fixed(300, MINUTE, 37), Quota::fixed(4000, HOUR, 0)];
    Scenario::steady("layers", 1000, 6.0, [Provider::new("a", 10, a), Provider::new("b", 6, b)])
}

/// Nothing but slots: the rate depends on how long the answers take.
fn concurrency() -> Scenario {
    let a = Provider::new("a", 10, [Quota::slots(16)]).taking(1200 * MS);
    let b = Provider::new("b", 6, [Quota::slots(8)]).taking(1200 * MS);
    Scenario::steady("concurrency", 300, 15.5, [a, b])
}

/// Twelve small keys, enforced in all three ways.
fn many_keys() -> Scenario {
    let key = |i: u64| {
        let quota = match i % 3 {
            0 => Quota::fixed(60, MINUTE, i * 4),
            1 => Quota::sliding(60, MINUTE),
            _ => Quota::bucket(1, 15),
        };
        Provider::new(&format!("key{i}"), 10 - (i / 3) as u32, [quota]).taking((200 + 40 * i) * MS)
    };
    Scenario::steady("many-keys", 600, 10.0, (0..12).map(key).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }
}
