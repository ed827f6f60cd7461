//! The header fields of a message or part, as octets (RFC 5322, 2.2).
//!
//! Fields end at LF, with or without CR before it. A field name is printable ASCII; white space
//! before the colon is tolerated (RFC 5322, 4.5). The first line that is neither a field nor a
//! continuation ends the header, as an empty line does.

use std::borrow::Cow;

use crate::mail::charset::without_nul;

/// One header field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// As it is written, without white space.
    pub name: &'a str,
    /// All after the colon up to the line end that closes the field, folds included.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether this is the field of that name.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// A header taken apart: its fields, and where it and the body begin and end.
pub struct Header {
    /// Length of the header, with the last field's line end, without the empty line.
    pub len: usize,
    /// Where the body starts, counted from the start of the header.
    pub body_at: usize,
}

/// What a line at the start of a field can be.
enum Line<'a> {
    Field {
        name: &'a str,
        value_at: usize,
    },
    Empty,
    /// Neither: the body has begun without an empty line.
    Other,
}

/// Goes over the fields of a header block. Linear; octets after the header are not looked at.
pub struct Fields<'a> {
    octets: &'a [u8],
    at: usize,
}

/// The fields of a header block.
pub fn fields(header: &[u8]) -> Fields<'_> {
    Fields { octets: header, at: from_line_len(header) }
}

impl Fields<'_> {
    /// Where the next field starts.
    pub fn position(&self) -> usize {
        self.at
    }
}

/// Where the line that starts at `from` ends, its LF included.
pub fn line_end(octets: &[u8], from: usize) -> usize {
    let rest = octets.get(from..).unwrap_or_default();
    rest.iter().position(|byte| *byte == b'\n').map_or(octets.len(), |lf| from + lf + 1)
}

/// Finds the end of the header that starts at `octets`. `ends_at` tells of a field, and of the
/// octets from its start, whether it is none but ends the header: a boundary may hold a colon.
pub fn header_end(octets: &[u8], ends_at: impl Fn(Field<'_>, &[u8]) -> bool) -> Header {
    let mut fields = fields(octets);
    let mut len = fields.at;
    while let Some(field) = fields.next() {
        if ends_at(field, &octets[len..]) {
            break;
        }
        len = fields.at;
    }
    let rest = octets.get(len..).unwrap_or_default();
    let blank = match rest {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => 0,
    };
    Header { len, body_at: len + blank }
}

/// Mailbox files begin a message with a line `From …`, which some programs leave there. `From :` is
/// a field in its obsolete form (RFC 5322, 4.5.2).
fn from_line_len(octets: &[u8]) -> usize {
    let rest = octets.strip_prefix(b">").unwrap_or(octets);
    match rest.strip_prefix(b"From ") {
        Some(rest) if !rest.trim_ascii_start().starts_with(b":") => line_end(octets, 0),
        _ => 0,
    }
}

fn read_line(octets: &[u8]) -> Line<'_> {
    if octets.starts_with(b"\n") || octets.starts_with(b"\r\n") {
        return Line::Empty;
    }
    let name_len = octets.iter().take_while(|byte| byte.is_ascii_graphic() && **byte != b':').count();
    let blanks = octets[name_len..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match std::str::from_utf8(&octets[..name_len]) {
        Ok(name) if name_len > 0 && octets.get(name_len + blanks) == Some(&b':') => {
            Line::Field { name, value_at: name_len + blanks + 1 }
        }
        _ => Line::Other,
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let rest = self.octets.get(self.at..)?;
        let Line::Field { name, value_at } = read_line(rest) else { return None };
        let mut end = line_end(rest, value_at);
        // RFC 5322, 2.2.3: a line that begins with white space continues the field.
        while rest[..end].ends_with(b"\n") && matches!(rest.get(end), Some(b' ' | b'\t')) {
            end = line_end(rest, end);
        }
        self.at += end;
        let value = &rest[value_at..end];
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        Some(Field { name, value })
    }
}

/// A field value in the Raw form of RFC 8621, 4.1.2.1: invalid UTF-8 replaced, NUL dropped.
pub fn raw_value(value: &[u8]) -> String {
    without_nul(String::from_utf8_lossy(value))
}

/// A field value unfolded (RFC 5322, 2.2.3): line ends before white space removed, and those that
/// stand elsewhere, which no legal message has, too.
pub fn unfolded(value: &[u8]) -> String {
    let text = without_nul(String::from_utf8_lossy(value));
    if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "") } else { text }
}

/// The value without comments (RFC 5322, 3.2.2), white space around removed. For fields whose
/// value is a token: types, encodings, dispositions.
pub fn without_comments(text: &str) -> Cow<'_, str> {
    if !text.contains('(') {
        return Cow::Borrowed(text.trim());
    }
    let mut out = String::with_capacity(text.len());
    let (mut depth, mut in_quotes) = (0u32, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_quotes || depth > 0 => {
                let escaped = chars.next();
                if depth == 0 {
                    out.push(c);
                    out.extend(escaped);
                }
            }
            '"' if depth == 0 => {
                in_quotes = !in_quotes;
                out.push(c);
            }
            '(' if !in_quotes => depth += 1,
            ')' if !in_quotes && depth > 0 => {
                depth -= 1;
                out.push(' ');
            }
            _ if depth > 0 => {}
            _ => out.push(c),
        }
    }
    Cow::Owned(out.trim().to_owned())
}

/// What follows comments and white space at the beginning; nothing when a comment has no end.
pub fn after_comments(text: &str) -> &str {
    let mut depth = 0u32;
    let mut is_escaped = false;
    let end = text.find(|c: char| {
        let is_over = depth == 0 && c != '(' && !c.is_ascii_whitespace();
        match c {
            _ if std::mem::take(&mut is_escaped) => {}
            '\\' if depth > 0 => is_escaped = true,
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ => {}
        }
        is_over
    });
    end.map_or("", |end| &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_values(header: &str) -> Vec<(String, String)> {
        fields(header.as_bytes()).map(|field| (field.name.to_owned(), raw_value(field.value))).collect()
    }

    #[test]
    fn fields_with_their_folds() {
        let header = "Subject: one\r\n two\r\nX-Empty:\r\nOld : x\nlast:y";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            names_and_values(header),
            [pair("Subject", " one\r\n two"), pair("X-Empty", ""), pair("Old", " x"), pair("last", "y")]
        );
    }

    #[test]
    fn where_headers_end() {
        for (octets, len, body_at) in [
            ("A: b\r\n\r\nbody", 6, 8),
            ("A: b\n\nbody", 5, 6),
            ("A: b\nno field here\n", 5, 5),
            ("\r\nbody", 0, 2),
            ("body", 0, 0),
            ("", 0, 0),
            ("A: b", 4, 4),
            ("From x@y Mon\nA: b\n\nbody", 18, 19),
            (": x\n\n", 0, 0),
        ] {
            let header = header_end(octets.as_bytes(), |_, _| false);
            assert_eq!((header.len, header.body_at), (len, body_at), "{octets:?}");
        }
    }

    #[test]
    fn raw_values_are_unicode_without_nul() {
        assert_eq!(raw_value(b" a\0b\xff\xc3\xa9"), " ab\u{fffd}é");
        assert_eq!(unfolded(b" a\r\n b\n\tc"), " a b\tc");
    }

    #[test]
    fn comments_are_passed_over() {
        for (text, rest) in [
            ("a (b)", "a (b)"),
            (" \t(a (b) c)(d) e", "e"),
            ("(\\) \\( \\\\)x", "x"),
            ("(without end", ""),
            (") x", ") x"),
            ("", ""),
        ] {
            assert_eq!(after_comments(text), rest, "{text:?}");
        }
    }

    #[test]
    fn comments_vanish() {
        assert_eq!(without_comments(" base64 (as (it) is) "), "base64");
        assert_eq!(without_comments("a (b\\) c) d"), "a   d");
        assert_eq!(without_comments("\"a (b)\" (c"), "\"a (b)\"");
    }
}
