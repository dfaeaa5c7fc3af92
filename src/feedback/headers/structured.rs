//! Structured Field Values (RFC 9651): Lists and Dictionaries of Items.
//!
//! Inner Lists are left out and make a field malformed, which comes to the
//! same: no rate-limit field allows them.

use super::cursor::Cursor;
use super::field::Field;
use super::slots::Slots;

/// Members kept of one field; later ones are checked but not kept.
pub(super) const MAX_MEMBERS: usize = 16;

/// What a List holds, in order.
pub(super) type List<'a> = Slots<Item<'a>, MAX_MEMBERS>;

/// What a Dictionary holds, in order, repeated keys included.
pub(super) type Dictionary<'a> = Slots<(&'a [u8], Item<'a>), MAX_MEMBERS>;

/// A bare value with its parameters.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) value: Bare<'a>,
    /// The value as it is written.
    pub(super) text: &'a [u8],
    /// Well-formed `;key=value` text.
    parameters: &'a [u8],
}

/// A bare item, in as much detail as the rate-limit fields need.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Bare<'a> {
    Integer(i64),
    /// What stands between the quotes. Only `"` and `\` can be escaped, and
    /// they must be, so equal strings are equally written.
    String(&'a [u8]),
    /// A Decimal, Token, Byte Sequence, Boolean, Date or Display String.
    Other,
}

impl<'a> Item<'a> {
    /// The value of a parameter; of repeated ones the last counts (section 4.2.3.2).
    pub(super) fn parameter(&self, wanted: &[u8]) -> Option<Bare<'a>> {
        let mut cursor = Cursor::new(self.parameters);
        let mut found = None;
        while let Some((key, value)) = parameter(&mut cursor) {
            if key == wanted {
                found = Some(value);
            }
        }
        found
    }
}

impl Bare<'_> {
    /// A non-negative Integer.
    pub(super) fn natural(self) -> Option<u64> {
        match self {
            Self::Integer(number) => number.try_into().ok(),
            _ => None,
        }
    }
}

/// Reads a field as a List; `None` if any of its lines is malformed.
pub(super) fn list<'a>(field: &Field<'a>) -> Option<List<'a>> {
    let mut members = List::default();
    for line in field.lines() {
        comma_separated(line, |cursor| {
            members.push(item(cursor)?);
            Some(())
        })?;
    }
    Some(members)
}

/// Reads a field as a Dictionary; `None` if any of its lines is malformed.
pub(super) fn dictionary<'a>(field: &Field<'a>) -> Option<Dictionary<'a>> {
    let mut members = Dictionary::default();
    for line in field.lines() {
        comma_separated(line, |cursor| {
            let key = key(cursor)?;
            if cursor.eat(b'=').is_some() {
                members.push((key, item(cursor)?));
            } else {
                // A key alone is the Boolean true, which no field here has.
                parameters(cursor)?;
            }
            Some(())
        })?;
    }
    Some(members)
}

/// Sections 4.2.1 and 4.2.2: members between commas, none after the last comma.
fn comma_separated<'a>(line: &'a [u8], mut member: impl FnMut(&mut Cursor<'a>) -> Option<()>) -> Option<()> {
    let is_optional_space = |byte| byte == b' ' || byte == b'\t';
    let mut cursor = Cursor::new(line);
    if cursor.is_empty() {
        return Some(());
    }
    loop {
        member(&mut cursor)?;
        cursor.eat_while(is_optional_space);
        if cursor.is_empty() {
            return Some(());
        }
        cursor.eat(b',')?;
        cursor.eat_while(is_optional_space);
    }
}

/// Section 4.2.3.
fn item<'a>(cursor: &mut Cursor<'a>) -> Option<Item<'a>> {
    let start = *cursor;
    let value = bare(cursor)?;
    let text = cursor.since(&start);
    let parameters = parameters(cursor)?;
    Some(Item { value, text, parameters })
}

/// Section 4.2.3.2: checks all parameters at the cursor and gives their text.
fn parameters<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let start = *cursor;
    while cursor.peek() == Some(b';') {
        parameter(cursor)?;
    }
    Some(cursor.since(&start))
}

/// One `;key` or `;key=value`.
fn parameter<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], Bare<'a>)> {
    cursor.eat(b';')?;
    cursor.eat_while(|byte| byte == b' ');
    let key = key(cursor)?;
    let value = match cursor.eat(b'=') {
        Some(_) => bare(cursor)?,
        None => Bare::Other,
    };
    Some((key, value))
}

/// Section 4.2.3.3.
fn key<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let start = *cursor;
    cursor.eat_if(|byte| byte.is_ascii_lowercase() || byte == b'*')?;
    cursor.eat_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte));
    Some(cursor.since(&start))
}

/// Section 4.2.3.1. The first byte tells the type.
fn bare<'a>(cursor: &mut Cursor<'a>) -> Option<Bare<'a>> {
    match cursor.peek()? {
        b'-' | b'0'..=b'9' => number(cursor),
        b'"' => string(cursor),
        b'*' | b'a'..=b'z' | b'A'..=b'Z' => Some(token(cursor)),
        b':' => byte_sequence(cursor),
        b'?' => boolean(cursor),
        b'@' => date(cursor),
        b'%' => display_string(cursor),
        _ => None,
    }
}

/// Section 4.2.4: at most 15 digits, or 12 and up to 3 after a point.
fn number<'a>(cursor: &mut Cursor<'a>) -> Option<Bare<'a>> {
    let is_negative = cursor.eat(b'-').is_some();
    let whole = cursor.digits()?;
    if cursor.eat(b'.').is_some() {
        let fraction = cursor.digits()?;
        return (whole.len() <= 12 && fraction.len() <= 3).then_some(Bare::Other);
    }
    (whole.len() <= 15).then(|| {
        let value = whole.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        Bare::Integer(if is_negative { -value } else { value })
    })
}

/// Section 4.2.5.
fn string<'a>(cursor: &mut Cursor<'a>) -> Option<Bare<'a>> {
    cursor.eat(b'"')?;
    let start = *cursor;
    loop {
        cursor.eat_while(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
        let text = cursor.since(&start);
        if cursor.eat(b'"').is_some() {
            return Some(Bare::String(text));
        }
        cursor.eat(b'\\')?;
        cursor.eat_if(|byte| byte == b'"' || byte == b'\\')?;
    }
}

/// Section 4.2.6; the first byte was looked at already.
fn token<'a>(cursor: &mut Cursor<'a>) -> Bare<'a> {
    cursor.eat_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
    Bare::Other
}

/// Section 4.2.7. The alphabet is checked, the padding is not.
fn byte_sequence<'a>(cursor: &mut Cursor<'a>) -> Option<Bare<'a>> {
    cursor.eat(b':')?;
    cursor.eat_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    cursor.eat(b':')?;
    Some(Bare::Other)
}

/// Section 4.2.8.
fn boolean<'a>(cursor: &mut Cursor<'a>) -> Option<Bare<'a>> {
    cursor.eat(b'?')?;
    cursor.eat_if(|byte| byte == b'0' || byte == b'1')?;
    Some(Bare::Other)
}

/// Section 4.2.9: an Integer after `@`.
fn date<'a>(cursor: &mut Cursor<'a>) -> Option<Bare<'a>> {
    cursor.eat(b'@')?;
    matches!(number(cursor)?, Bare::Integer(_)).then_some(Bare::Other)
}

/// Section 4.2.10, without the check that the decoded text is UTF-8.
fn display_string<'a>(cursor: &mut Cursor<'a>) -> Option<Bare<'a>> {
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    cursor.eat_text(b"%\"")?;
    loop {
        cursor.eat_while(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'%');
        if cursor.eat(b'"').is_some() {
            return Some(Bare::Other);
        }
        cursor.eat(b'%')?;
        cursor.eat_if(is_lower_hex)?;
        cursor.eat_if(is_lower_hex)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(line: &str) -> Field<'_> {
        let mut field = Field::default();
        field.add(line.as_bytes());
        field
    }

    #[test]
    fn reads_items_with_parameters() {
        let field = field(r#""a\"b";r=50; t=-3;x;pk=:aGk=:;r=51 ,	7;f=1.25;b=?1;d=@1;u=%"%c3%a9";t=a/b"#);
        let members = list(&field).unwrap();
        let [first, second] = members.iter().collect::<Vec<_>>()[..] else {
            panic!("two members");
        };
        assert!(first.value == Bare::String(br#"a\"b"#));
        assert!(first.parameter(b"r") == Some(Bare::Integer(51)));
        assert!(first.parameter(b"t") == Some(Bare::Integer(-3)));
        assert!(first.parameter(b"x") == Some(Bare::Other));
        assert!(first.parameter(b"q").is_none());
        assert!(second.value == Bare::Integer(7));
        assert_eq!(second.text, b"7");
    }

    #[test]
    fn reads_dictionaries() {
        let field = field("limit=20, flag;a=1,reset=1;x=2");
        let members = dictionary(&field).unwrap();
        let keys: Vec<_> = members.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [&b"limit"[..], b"reset"]);
    }

    #[test]
    fn one_bad_member_spoils_the_field() {
        for line in [
            ",",
            "1,",
            ",1",
            "1,,2",
            "1 2",
            "1;",
            "1;A=2",
            "1;a=",
            "-",
            "1.",
            "1.2345",
            ".5",
            "1234567890123456",
            "1234567890123.5",
            "\"a",
            "\"a\\",
            "\"a\\n\"",
            "\"é\"",
            "\"\t\"",
            ":a",
            ":a!:",
            "?2",
            "@1.5",
            "@",
            "%a",
            "%\"",
            "%\"%C3\"",
            "%\"%c\"",
            "(1 2)",
            "=1",
            "a=1",
            "{}",
            "1, \"x",
        ] {
            assert!(list(&field(line)).is_none(), "{line}");
        }
        for line in ["1", "a=", "a=1,", "A=1", "a b", "a=(1 2)", "a;", "\"a\"=1"] {
            assert!(dictionary(&field(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn lines_are_joined() {
        let mut field = field("1, 2");
        field.add(b"3");
        assert_eq!(list(&field).unwrap().iter().count(), 3);
        field.add(b"(");
        assert!(list(&field).is_none());
    }

    #[test]
    fn members_beyond_the_cap_are_still_checked() {
        let many = vec!["1"; 40].join(",");
        assert_eq!(list(&field(&many)).unwrap().iter().count(), MAX_MEMBERS);
        assert!(list(&field(&(many + ",!"))).is_none());
    }
}
