//! The header section of a message as lines, for code that copies, drops or counts fields without
//! changing one byte of those it keeps.
//!
//! It is not a parser of values: a field is its name and its raw text, folds and line ends
//! included. Any bytes are accepted; the raw parts of all fields, put together, are the section.

/// One header field (RFC 5322, 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// What stands before the colon, without white space at its end; empty when there is no colon.
    pub name: &'a [u8],
    /// What stands after the colon, folds included, without the line end that closes the field.
    pub value: &'a [u8],
    /// The whole field with its line end.
    pub raw: &'a [u8],
}

impl Field<'_> {
    /// Whether the field has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value without its folds and the white space around it; octets that are no UTF-8 are
    /// replaced.
    pub fn text(&self) -> String {
        let unfolded: Vec<u8> =
            self.value.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        String::from_utf8_lossy(&unfolded).trim().to_owned()
    }
}

/// The fields of a header section, up to the empty line or the end.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of a message, or of a header section alone.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// A message cut into its header section, the empty line, and its body. The empty line is empty
/// when the message ends within its header.
pub fn split_message(message: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let header_len = fields(message).map(|field| field.raw.len()).sum();
    let (header, rest) = message.split_at(header_len);
    let (line, body) = rest.split_at(line_len(rest));
    (header, line, body)
}

/// The length of the first line, its line end included.
pub fn line_len(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1)
}

/// A line without its line end.
pub fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let first = line_len(self.rest);
        if without_line_end(self.rest.get(..first)?).is_empty() {
            self.rest = &[];
            return None;
        }
        let mut end = first;
        while let Some(b' ' | b'\t') = self.rest.get(end) {
            end += line_len(self.rest.get(end..)?);
        }
        let (raw, rest) = self.rest.split_at(end);
        self.rest = rest;
        let content = without_line_end(raw);
        let (name, value) = match content.iter().position(|byte| *byte == b':') {
            Some(colon) => (content.get(..colon)?, content.get(colon + 1..)?),
            None => (&content[..0], content),
        };
        Some(Field { name: name.trim_ascii_end(), value, raw })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_every_byte() {
        let message = b"A: 1\r\nB :\r\n 2\r\n\t3\nno colon\r\nC:\r\n\r\nbody: no\r\n";
        let all: Vec<_> = fields(message).collect();
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].name, all[0].value), (&b"A"[..], &b" 1"[..]));
        assert_eq!((all[1].name, all[1].text().as_str()), (&b"B"[..], "2\t3"));
        assert_eq!((all[2].name, all[2].value), (&b""[..], &b"no colon"[..]));
        let (header, line, body) = split_message(message);
        assert_eq!(all.iter().flat_map(|field| field.raw).copied().collect::<Vec<_>>(), header);
        assert_eq!((line, body), (&b"\r\n"[..], &b"body: no\r\n"[..]));
    }

    #[test]
    fn header_without_body_and_body_without_header() {
        assert_eq!(split_message(b"A: 1"), (&b"A: 1"[..], &b""[..], &b""[..]));
        assert_eq!(split_message(b"\r\nx"), (&b""[..], &b"\r\n"[..], &b"x"[..]));
        assert_eq!(split_message(b""), (&b""[..], &b""[..], &b""[..]));
    }
}
