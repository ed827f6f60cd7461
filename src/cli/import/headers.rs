//! The header area of a message, as far as an import looks at it.

use std::ops::Range;

/// Header fields that are looked at.
const MAX_FIELDS: usize = 2_000;
/// Octets of the header area that are looked at.
const MAX_HEADER_LEN: usize = 1 << 20;

/// A header field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// In lower case.
    pub name: String,
    /// Unfolded and trimmed; octets that are no UTF-8 are replaced.
    pub value: String,
    /// Where the field stands in the message, line end included.
    pub span: Range<usize>,
}

/// The fields in order, up to the empty line or the first line that is none (RFC 5322, 2.2).
pub fn fields(raw: &[u8]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut value: Vec<u8> = Vec::new();
    let mut at = 0;
    let header = raw.get(..MAX_HEADER_LEN).unwrap_or(raw);
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let start = at;
        at += line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let is_continuation = matches!(text.first(), Some(b' ' | b'\t'));
        if is_continuation && let Some(field) = fields.last_mut() {
            value.extend_from_slice(text);
            field.span.end = at;
            continue;
        }
        set_value(&mut fields, &mut value);
        let Some(colon) = text.iter().position(|byte| *byte == b':') else { break };
        let (name, rest) = text.split_at(colon);
        let name = name.trim_ascii_end();
        // RFC 5322, 3.6.8: a field name is printable ASCII.
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) || fields.len() == MAX_FIELDS {
            break;
        }
        value.extend_from_slice(rest.get(1..).unwrap_or_default());
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push(Field { name, value: String::new(), span: start..at });
    }
    set_value(&mut fields, &mut value);
    fields
}

/// Gives the last field the value that was gathered for it.
fn set_value(fields: &mut [Field], value: &mut Vec<u8>) {
    if let Some(field) = fields.last_mut()
        && !value.is_empty()
    {
        field.value = String::from_utf8_lossy(value).trim().to_owned();
        value.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unfolded_and_stop_at_the_body() {
        let raw = b"Subject: one\r\n two\r\nX-Empty:\r\nstatus : RO\r\n\r\nBody: no\r\n";
        let read: Vec<_> = fields(raw).into_iter().map(|field| (field.name, field.value)).collect();
        let wanted = [("subject", "one two"), ("x-empty", ""), ("status", "RO")];
        assert_eq!(read, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(fields(raw).first().map(|field| field.span.clone()), Some(0..20));
    }

    #[test]
    fn hostile_headers_are_bounded() {
        assert_eq!(fields(&b"A: b\r\n".repeat(10_000)).len(), MAX_FIELDS);
        assert!(fields(b"no colon\r\nA: b\r\n").is_empty());
        assert!(fields(b" folded\r\nA: b\r\n").is_empty());
        assert!(fields(&vec![b'x'; 3_000_000]).is_empty());
    }
}
