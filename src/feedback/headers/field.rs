//! A header field as it arrived: one or more field lines of the same name.

/// Distinct lines kept of one field. A field that comes on more is not believed.
const MAX_LINES: usize = 4;

/// The lines of one field in order of arrival, without repeated lines.
#[derive(Clone, Copy, Default)]
pub(super) struct Field<'a> {
    lines: [&'a [u8]; MAX_LINES],
    /// Distinct lines met; `MAX_LINES + 1` stands for every greater number.
    met: usize,
}

impl<'a> Field<'a> {
    pub(super) fn add(&mut self, value: &'a [u8]) {
        let line = trim(value);
        if self.lines().contains(&line) {
            return;
        }
        if let Some(free) = self.lines.get_mut(self.met) {
            *free = line;
        }
        self.met = (self.met + 1).min(MAX_LINES + 1);
    }

    /// The lines, for a field that is defined as a list; none if there were too many.
    pub(super) fn lines(&self) -> &[&'a [u8]] {
        self.lines.get(..self.met).unwrap_or_default()
    }

    /// The members of all lines, for a field that may be a plain list.
    pub(super) fn members(&self) -> impl Iterator<Item = &'a [u8]> {
        self.lines().iter().copied().flat_map(members)
    }

    /// The value of a field that is not a list. RFC 9110 section 5.3 forbids
    /// to send such a field twice, and an intermediary may have joined the two
    /// with a comma: repeats that agree are one value, others are no value.
    pub(super) fn single<T: PartialEq>(&self, read: impl Fn(&'a [u8]) -> Option<T>) -> Option<T> {
        agreed(self.lines().iter().map(|line| {
            // A value may have a comma of its own (HTTP-date), so whole first. Members that agree are written alike: 5,005 is one
            // number, and no two.
            let alike = || agreed(members(line).map(Some)).and_then(&read);
            read(line).or_else(alike)
        }))
    }
}

/// The value that all of `values` have.
fn agreed<T: PartialEq>(mut values: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = values.next()??;
    values.all(|value| value.as_ref() == Some(&first)).then_some(first)
}

/// The members of a plain comma-separated list (RFC 9110 section 5.6.1).
pub(super) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(trim)
}

/// Spaces and tabs around a value are not part of it (RFC 9110 section 5.5).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::number::count;
    use super::*;

    fn field<'a>(lines: &[&'a str]) -> Field<'a> {
        let mut field = Field::default();
        for line in lines {
            field.add(line.as_bytes());
        }
        field
    }

    #[test]
    fn repeats_that_agree_are_one_value() {
        assert_eq!(field(&["5"]).single(count), Some(5));
        assert_eq!(field(&["5", " 5\t"]).single(count), Some(5));
        assert_eq!(field(&["5, 5"]).single(count), Some(5));
        assert_eq!(field(&["5", "5.0", "5, 5"]).single(count), Some(5));
    }

    #[test]
    fn repeats_that_differ_are_no_value() {
        assert_eq!(field(&["5", "6"]).single(count), None);
        assert_eq!(field(&["5, 6"]).single(count), None);
        assert_eq!(field(&["5", "many"]).single(count), None);
        assert_eq!(field(&["5,"]).single(count), None);
        assert_eq!(field(&[]).single(count), None);
    }

    #[test]
    fn too_many_lines_are_not_believed() {
        assert_eq!(field(&["1", "2", "3", "4"]).lines().len(), 4);
        assert!(field(&["1", "2", "3", "4", "5"]).lines().is_empty());
        assert!(field(&["1", "2", "3", "4", "5", "6"]).lines().is_empty());
        assert_eq!(field(&["1"; 9]).lines().len(), 1);
    }

    #[test]
    fn trims_spaces_and_tabs_only() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\n1"), b"\n1");
    }
}
