//! Shows a file again and again, until it is left.

use std::time::Instant;

use crate::frame;
use crate::line::{Ink, Line, MORE, Style};
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::terminal::{Event, Terminal, size};

/// Which lines of the body are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct View {
    /// How many are above.
    first: usize,
    /// How many are shown.
    shown: usize,
}

enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// Shows what `look` sees.
///
/// # Errors
/// Why the file cannot be read at the beginning, or the terminal cannot be used.
pub fn run(options: &Options, look: &dyn Fn(&Options) -> Result<Snapshot, String>) -> Result<(), String> {
    let mut seen = look(options)?;
    let failed = |why: std::io::Error| format!("cannot use the terminal: {why}");
    let mut terminal = Terminal::enter().map_err(failed)?;
    let (mut view, mut trouble) = (View::default(), None);
    let mut next = Instant::now() + options.interval;
    loop {
        let (width, height) = size();
        let lines = screen(&seen, trouble.as_deref(), &mut view, width, height);
        terminal.show(&text(&lines, width, options.style)).map_err(failed)?;
        match terminal.wait(next).map_err(failed)? {
            Event::Left => return Ok(()),
            Event::Resized => {}
            Event::Keys(bytes) => {
                for key in keys(&bytes) {
                    if matches!(key, Key::Quit) {
                        return Ok(());
                    }
                    view.turn(&key);
                }
            }
            Event::Time => {
                next = Instant::now() + options.interval;
                match look(options) {
                    Ok(now) => (seen, trouble) = (now.since(&seen), None),
                    Err(why) => trouble = Some(why),
                }
            }
        }
    }
}

/// As many lines as there is room for. The view is put where there is something to see.
fn screen(seen: &Snapshot, trouble: Option<&str>, view: &mut View, width: usize, height: usize) -> Vec<Line> {
    let mut lines = frame::head(seen, width);
    if let Some(why) = trouble {
        // In the place of an empty line.
        lines[2] = Line::new(Ink::Bad, format!("what is below is old: {why}"));
    }
    let body = frame::body(seen, width);
    let room = height.saturating_sub(lines.len() + 1);
    view.shown = room;
    view.first = view.first.min(body.len().saturating_sub(room));
    let below = body.len().saturating_sub(view.first + room);
    lines.extend(body.into_iter().skip(view.first).take(room));
    let more = match (view.first, below) {
        (0, 0) => String::new(),
        (0, below) => format!("{MORE} {below} more   "),
        (above, below) => format!("{MORE} {below} more, {above} above   "),
    };
    lines.push(Line::new(Ink::Dim, format!("{more}q: quit{}", if more.is_empty() { "" } else { ", arrows: scroll" })));
    lines.truncate(height);
    lines
}

/// What draws lines over those that are there. Each is cleared first: behind a full one, its last column would be.
fn text(lines: &[Line], width: usize, style: Style) -> String {
    let clear = |i| if i + 1 == lines.len() { "\x1b[J" } else { "\x1b[K" };
    let shown = |(i, line): (usize, &Line)| format!("{}{}", clear(i), line.clone().cut(width).text(style));
    format!("\x1b[H{}", lines.iter().enumerate().map(shown).collect::<Vec<_>>().join("\r\n"))
}

impl View {
    fn turn(&mut self, key: &Key) {
        let page = self.shown.saturating_sub(1).max(1);
        self.first = match key {
            Key::Up => self.first.saturating_sub(1),
            Key::Down => self.first.saturating_add(1),
            Key::PageUp => self.first.saturating_sub(page),
            Key::PageDown => self.first.saturating_add(page),
            Key::First => 0,
            Key::Last => usize::MAX,
            Key::Quit => self.first,
        };
    }
}

/// The keys among the bytes of a terminal.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while !bytes.is_empty() {
        let (key, rest) = match bytes {
            [0x1b, b'[' | b'O', b'A', rest @ ..] | [b'k', rest @ ..] => (Some(Key::Up), rest),
            [0x1b, b'[' | b'O', b'B', rest @ ..] | [b'j', rest @ ..] => (Some(Key::Down), rest),
            [0x1b, b'[' | b'O', b'H', rest @ ..] | [b'g', rest @ ..] => (Some(Key::First), rest),
            [0x1b, b'[' | b'O', b'F', rest @ ..] | [b'G', rest @ ..] => (Some(Key::Last), rest),
            [0x1b, b'[', b'5', b'~', rest @ ..] => (Some(Key::PageUp), rest),
            [0x1b, b'[', b'6', b'~', rest @ ..] => (Some(Key::PageDown), rest),
            // Raw terminals send Ctrl-C as a byte.
            [b'q' | b'Q' | 0x03, rest @ ..] => (Some(Key::Quit), rest),
            [_, rest @ ..] => (None, rest),
            [] => (None, bytes),
        };
        bytes = rest;
        keys.extend(key);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixed;

    fn plain(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.text(Style { ascii: true, color: false })).collect()
    }

    #[test]
    fn what_does_not_fit_is_counted_and_scrolled_to() {
        let (seen, mut view) = (fixed(), View::default());
        let body = plain(&frame::body(&seen, 80));
        let show = |view: &mut View, height| plain(&screen(&seen, None, view, 80, height));
        let (head, all) = (frame::head(&seen, 80).len(), show(&mut view, 100));
        assert_eq!(all[all.len() - 2..], [body[body.len() - 1].clone(), "q: quit".into()]);

        let cut = show(&mut view, head + 5);
        assert_eq!(cut.len(), head + 5);
        assert_eq!(cut[head + 4], format!("~ {} more   q: quit, arrows: scroll", body.len() - 4));
        keys(b"jj\x1b[B").iter().for_each(|key| view.turn(key));
        let scrolled = show(&mut view, head + 5);
        assert_eq!(scrolled[head..head + 4], body[3..7]);
        assert_eq!(scrolled[head + 4], format!("~ {} more, 3 above   q: quit, arrows: scroll", body.len() - 7));
        keys(b"\x1b[6~k\x1b[5~").iter().for_each(|key| view.turn(key));
        assert_eq!(view.first, 2);
        keys(b"G").iter().for_each(|key| view.turn(key));
        assert_eq!(show(&mut view, head + 5)[head + 3], body[body.len() - 1]);
        assert_eq!(show(&mut view, 3).len(), 3);
        keys(b"g").iter().for_each(|key| view.turn(key));
        assert_eq!(view.first, 0);
    }

    #[test]
    fn what_is_old_says_so() {
        let lines = plain(&screen(&fixed(), Some("gone"), &mut View::default(), 80, 24));
        assert_eq!(lines[2], "what is below is old: gone");
    }

    #[test]
    fn a_frame_is_drawn_over_the_last_one() {
        let drawn =
            text(&[Line::new(Ink::Plain, "abc"), Line::new(Ink::Plain, "d")], 2, Style { ascii: true, color: true });
        assert_eq!(drawn, "\x1b[H\x1b[Kab\r\n\x1b[Jd");
    }
}
