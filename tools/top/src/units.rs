//! Amounts and times as short text.

/// An amount in at most five characters.
pub fn amount(units: u64) -> String {
    const STEPS: [(f64, &str); 6] = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    if units < 10_000 {
        return units.to_string();
    }
    // What would be rounded to 1000 of one step is 1 of the next.
    let (step, name) = STEPS.into_iter().find(|(step, _)| units as f64 >= 0.9995 * step).unwrap_or((1.0, ""));
    let scaled = units as f64 / step;
    let digits = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.digits$}{name}")
}

/// A rate: small ones with a fraction.
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".into(),
        Some(0.0) => "0".into(),
        Some(rate) if rate < 99.95 => format!("{rate:.1}"),
        Some(rate) => amount(rate.round() as u64),
    }
}

/// A share of one, cut: what is not all is not 100 %.
pub fn percent(share: f64) -> String {
    format!("{:.0}%", (share.clamp(0.0, 1.0) * 100.0 + 1e-9).floor())
}

/// A time in at most six characters.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.0005 => "0ms".into(),
        s if s < 0.9995 => format!("{:.0}ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 99.5 => format!("{s:.0}s"),
        s if s < 100.0 * 60.0 => format!("{:.0}m{:02.0}s", (s / 60.0).floor(), (s % 60.0).floor()),
        s if s < 100.0 * 3600.0 => format!("{:.0}h{:02.0}m", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
        s if s < 1000.0 * 86_400.0 => format!("{:.0}d", (s / 86_400.0).floor()),
        _ => "years".into(),
    }
}

/// How long a window is, as people call it.
pub fn window(seconds: f64) -> String {
    match seconds {
        1.0 => "s".into(),
        60.0 => "min".into(),
        3600.0 => "h".into(),
        86_400.0 => "day".into(),
        other => time(other),
    }
}

/// Bytes in binary units.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        b if b < 1 << 20 => format!("{:.0} KiB", b as f64 / f64::from(1 << 10)),
        b if b < 1 << 30 => format!("{:.1} MiB", b as f64 / f64::from(1 << 20)),
        b => format!("{:.1} GiB", b as f64 / f64::from(1 << 30)),
    }
}

/// A moment in UTC.
pub fn moment(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (mut days, mut year) = (seconds / 86_400, 1970);
    let leap = |year: u64| u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)));
    while days >= 365 + leap(year) {
        days -= 365 + leap(year);
        year += 1;
    }
    let months = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{:02}-{:02} {h:02}:{m:02}:{s:02} UTC", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let cases = [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (99_949, "99.9k"),
            (99_950, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (2_000_000, "2.00M"),
            (u64::MAX, "18.4E"),
        ];
        cases.into_iter().for_each(|(units, text)| assert_eq!(amount(units), text));
    }

    #[test]
    fn rates_are_short() {
        let cases = [(0.0, "0"), (0.04, "0.0"), (99.94, "99.9"), (99.96, "100"), (52_310.4, "52.3k")];
        cases.into_iter().for_each(|(per_second, text)| assert_eq!(rate(Some(per_second)), text));
        assert_eq!(rate(None), "-");
    }

    #[test]
    fn shares_are_cut() {
        let cases = [(0.0, "0%"), (0.29, "29%"), (0.999, "99%"), (1.0, "100%"), (7.0, "100%"), (f64::NAN, "NaN%")];
        cases.into_iter().for_each(|(share, text)| assert_eq!(percent(share), text));
    }

    #[test]
    fn times_are_short() {
        let cases = [
            (0.0, "0ms"),
            (0.412, "412ms"),
            (0.9996, "1.0s"),
            (9.96, "10s"),
            (99.6, "1m39s"),
            (125.0, "2m05s"),
            (6000.0, "1h40m"),
            (1e6, "11d"),
            (f64::INFINITY, "years"),
        ];
        cases.into_iter().for_each(|(seconds, text)| assert_eq!(time(seconds), text));
        assert_eq!([60.0, 1.0, 10.0].map(window), ["min", "s", "10s"]);
    }

    #[test]
    fn moments_are_told() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(1_767_225_600_000), "2026-01-01 00:00:00 UTC");
        assert_eq!(moment(1_709_210_096_999), "2024-02-29 12:34:56 UTC");
        assert_eq!([bytes(524_288), bytes(16 << 20), bytes(1 << 36)], ["512 KiB", "16.0 MiB", "64.0 GiB"]);
    }
}
