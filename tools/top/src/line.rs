//! Lines of text, with colours where there are any.

/// How lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Nothing but ASCII.
    pub ascii: bool,
    /// Colours.
    pub color: bool,
}

impl Style {
    /// Without escapes.
    pub fn plain(self) -> Self {
        Self { color: false, ..self }
    }
}

/// How a part of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Plain,
    Bold,
    Dim,
    Good,
    Fair,
    Bad,
}

impl Ink {
    /// The parameter of SGR.
    fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Good => 32,
            Self::Fair => 33,
            Self::Bad => 31,
        }
    }
}

/// A line.
#[derive(Clone, Debug, Default)]
pub struct Line(Vec<(Ink, String)>);

impl Line {
    /// A line that begins so.
    pub fn new(ink: Ink, text: impl Into<String>) -> Self {
        Self::default().and(ink, text)
    }

    /// More of it.
    #[must_use]
    pub fn and(mut self, ink: Ink, text: impl Into<String>) -> Self {
        self.0.push((ink, text.into()));
        self
    }

    /// At most so many columns of it.
    #[must_use]
    pub fn cut(mut self, width: usize) -> Self {
        let mut left = width;
        for (_, text) in &mut self.0 {
            *text = text.chars().take(left).collect();
            left -= text.chars().count();
        }
        self
    }

    /// What is shown.
    pub fn text(&self, style: Style) -> String {
        let shown =
            |text: &str| -> String { if style.ascii { text.chars().map(ascii).collect() } else { text.into() } };
        let parts = self.0.iter().filter(|(_, text)| !text.is_empty());
        let line: String = parts
            .map(|(ink, text)| match ink {
                Ink::Plain => shown(text),
                _ if !style.color => shown(text),
                ink => format!("\x1b[{}m{}\x1b[0m", ink.code(), shown(text)),
            })
            .collect();
        line.trim_end().into()
    }
}

/// What stands for a character.
fn ascii(c: char) -> char {
    match c {
        FULL => '#',
        EMPTY => '.',
        MORE => '~',
        c if c.is_ascii() => c,
        _ => '?',
    }
}

/// Parts of a bar, and what stands where something was cut.
const FULL: char = '█';
const EMPTY: char = '░';
pub const MORE: char = '…';

/// A bar. It is full only if the share is one, and empty only if it is zero.
pub fn bar(share: f64, width: usize) -> (String, String) {
    let full = if share > 0.0 { ((share * width as f64) as usize).clamp(1, width) } else { 0 };
    (FULL.to_string().repeat(full), EMPTY.to_string().repeat(width - full))
}

/// A text in so many columns.
pub fn column(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:width$}");
    }
    text.chars().take(width - 1).chain([MORE]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_coloured() {
        let line = Line::new(Ink::Plain, "añ").and(Ink::Bad, "cd ");
        let style = Style { ascii: false, color: true };
        assert_eq!(line.text(style), "añ\x1b[31mcd \x1b[0m");
        assert_eq!(line.text(style.plain()), "añcd");
        assert_eq!(line.clone().cut(3).text(style), "añ\x1b[31mc\x1b[0m");
        assert_eq!(line.clone().cut(2).text(style), "añ");
        assert_eq!(line.text(Style { ascii: true, color: false }), "a?cd");
    }

    #[test]
    fn bars_are_full_when_nothing_is_left() {
        let of = |share| {
            let (full, empty) = bar(share, 4);
            Line::new(Ink::Plain, full + &empty).text(Style { ascii: true, color: false })
        };
        assert_eq!([0.0, 1e-9, 0.5, 0.99, 1.0, 3.0].map(of), ["....", "#...", "##..", "###.", "####", "####"]);
        assert_eq!(of(f64::NAN), "....");
        assert_eq!([column("ab", 3), column("abcd", 3)], ["ab ", "ab…"]);
    }
}
