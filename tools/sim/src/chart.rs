//! The results as a picture: horizontal bars, grouped by scenario.

use crate::results::{Row, total, values};
use crate::router::NAMES;
use crate::tally::Measure;

/// Colours that stand out from white and from black, in the order of the routers.
const COLOURS: [&str; NAMES.len()] = ["#8c959f", "#d4843e", "#a371c9", "#4a90d9", "#1fa15d"];
/// Text in a grey that can be read on both; where the viewer tells its background, one that is easier to read.
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;\
                     fill:#717a84}.title{font-size:15px;font-weight:600}.value{font-size:9px}.all{font-weight:600}\
                     .grid{stroke:#8c959f;stroke-opacity:.25}.band{fill:#8c959f;fill-opacity:.08}\
                     @media(prefers-color-scheme:light){text{fill:#3d444d}}\
                     @media(prefers-color-scheme:dark){text{fill:#b1bac4}}";

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 812.0;
const TOP: f64 = 92.0;
const BAR: f64 = 9.0;
const PITCH: f64 = 10.0;
const GROUP: f64 = PITCH * NAMES.len() as f64 + 12.0;

/// Where values lie.
struct Axis {
    ticks: Vec<f64>,
    /// Whether the square root of a value is drawn, so that 0.1 and 300 can both be seen.
    is_root: bool,
    label: &'static str,
}

impl Axis {
    fn new(measure: &Measure, highest: f64) -> Self {
        if measure.is_share {
            return Self { ticks: [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].to_vec(), is_root: false, label: "" };
        }
        const TICKS: [f64; 11] = [0.0, 1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 400.0, 600.0, 800.0, 1000.0];
        let beyond = TICKS.iter().position(|tick| *tick >= highest.max(1.0)).unwrap_or(TICKS.len() - 1);
        Self { ticks: TICKS[..=beyond].to_vec(), is_root: true, label: ", square-root scale" }
    }

    fn x(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_root { value.sqrt() } else { value };
        let end = self.ticks.last().copied().unwrap_or(1.0);
        LEFT + (RIGHT - LEFT) * scale(value) / scale(end)
    }
}

/// The chart of a measure, as SVG without a background.
pub fn chart(measure: &Measure, rows: &[Row]) -> String {
    let total = (rows.len() > 1).then(|| total(rows));
    let groups: Vec<&Row> = rows.iter().chain(&total).collect();
    let highest = groups.iter().flat_map(|row| values(row, measure)).fold(0.0, f64::max);
    let axis = Axis::new(measure, highest);
    let bottom = TOP + GROUP * groups.len() as f64;
    let height = bottom + 28.0;
    let wish = if measure.less_is_better { "less is better" } else { "more is better" };
    let title = format!("{} ({wish}{})", measure.title, axis.label);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{}\" y=\"22\" text-anchor=\"middle\">{title}</text>\n",
        WIDTH / 2.0
    );
    svg += &legend();
    let bands = (0..groups.len()).step_by(2).map(|i| TOP + GROUP * i as f64);
    svg += &bands
        .map(|y| format!("<rect class=\"band\" y=\"{y}\" width=\"{WIDTH}\" height=\"{GROUP}\"/>\n"))
        .collect::<String>();
    // Below the bars and their numbers.
    svg += &grid(&axis, bottom);
    for (i, row) in groups.iter().enumerate() {
        svg += &group(row, &values(row, measure), measure, &axis, TOP + GROUP * i as f64);
    }
    svg + "</svg>\n"
}

fn legend() -> String {
    // Wide enough for the longest name.
    const EACH: f64 = 118.0;
    let start = (WIDTH - EACH * NAMES.len() as f64) / 2.0 + 12.0;
    let entry = |(i, (name, colour)): (usize, (&str, &str))| {
        let x = start + EACH * i as f64;
        format!(
            "<rect x=\"{x:.1}\" y=\"40\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"50.5\">{name}</text>\n",
            x + 18.0
        )
    };
    NAMES.into_iter().zip(COLOURS).enumerate().map(entry).collect()
}

fn grid(axis: &Axis, bottom: f64) -> String {
    let line = |&tick: &f64| {
        let x = axis.x(tick);
        format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>\n",
            TOP - 8.0,
            bottom + 17.0
        )
    };
    axis.ticks.iter().map(line).collect()
}

fn group(row: &Row, values: &[f64], measure: &Measure, axis: &Axis, top: f64) -> String {
    let class = if row.scenario == "all" { " class=\"all\"" } else { "" };
    let mut svg = format!(
        "<text{class} x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
        LEFT - 10.0,
        top + GROUP / 2.0 + 4.0,
        row.scenario
    );
    for (i, (&value, colour)) in values.iter().zip(COLOURS).enumerate() {
        let y = top + (GROUP - PITCH * NAMES.len() as f64) / 2.0 + PITCH * i as f64;
        let end = axis.x(value);
        if end - LEFT >= 0.05 {
            let width = end - LEFT;
            svg += &format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"1.5\" fill=\"{colour}\"/>"
            );
        }
        let text = rounded(value, measure);
        svg += &format!("<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>\n", end + 4.0, y + 8.0);
    }
    svg
}

/// Two or three digits are enough beside a bar.
fn rounded(value: f64, measure: &Measure) -> String {
    match value {
        _ if measure.is_share => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        0.0..1.0 => format!("{value:.2}"),
        1.0..10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::{GOODPUT, RATE_LIMITED};

    #[test]
    fn all_values_lie_within_the_axis() {
        for highest in [0.0, 0.1, 1.0, 3.0, 450.0, 1000.0] {
            let axis = Axis::new(&RATE_LIMITED, highest);
            assert!((LEFT..=RIGHT).contains(&axis.x(highest)), "{highest}");
        }
        let axis = Axis::new(&RATE_LIMITED, 1000.0);
        assert!(axis.x(0.1) - LEFT > 5.0, "a tenth can be seen");
        assert_eq!(Axis::new(&GOODPUT, 0.3).x(1.0), RIGHT);
    }

    #[test]
    fn labels_are_short() {
        let text = [0.0, 0.123, 4.56, 312.4].map(|value| rounded(value, &RATE_LIMITED));
        assert_eq!(text, ["0", "0.12", "4.6", "312"]);
    }
}
