//! A message made fit for a server without 8BITMIME (RFC 6152, 3): parts with octets over 127, NUL
//! or lines too long to send become quoted-printable or base64, whatever they are nested in.
//!
//! Header fields stay as they are but for Content-Transfer-Encoding; whether they need SMTPUTF8 is
//! not asked here. A message that is clean already comes back untouched, signatures and all. One
//! pass over the lines, with a stack of open multiparts that is bounded; nothing recurses.
//! Conversion changes what was signed: it comes before DKIM, and an S/MIME or PGP signature over
//! 8-bit content (which RFC 1847, 2.1 tells signers not to make) does not survive it.

use std::borrow::Cow;
use std::fmt;

use crate::mail::encode_body::{MAX_LINE_LEN, Survey, TransferEncoding, encoding_of_text, write_encoded};
use crate::mail::entity_header::{Declared, read_entity};
use crate::mail::field_lines::{fields, line_len, split_message, without_line_end};

/// Most multiparts and messages that may be open at once.
const MAX_LEVELS: usize = 100;
/// Length of the lines that repaired encodings get.
const ENCODED_LINE_LEN: usize = 76;

/// The message holds 8-bit content that may not be encoded, or is nested too deep: an answer of
/// 5.6.3 (RFC 6152, 3; RFC 3463, 3.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotConvertible;

impl fmt::Display for NotConvertible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message cannot be converted to 7 bits")
    }
}

impl std::error::Error for NotConvertible {}

/// Whether the body needs 8BITMIME, or could not be sent at all as it is.
pub fn needs_conversion(message: &[u8]) -> bool {
    let (_, _, body) = split_message(message);
    Survey::of(body).identity() != Some(TransferEncoding::SevenBit)
}

/// The message with a body of 7 bits. Line ends are to be CRLF already.
pub fn to_seven_bit(message: &[u8]) -> Result<Cow<'_, [u8]>, NotConvertible> {
    if !needs_conversion(message) {
        return Ok(Cow::Borrowed(message));
    }
    let out = Vec::with_capacity(message.len() + message.len() / 3 + 1024);
    let mut converter = Converter { rest: message, out, levels: Vec::new() };
    converter.run()?;
    Ok(Cow::Owned(converter.out))
}

/// What an entity is open within.
enum Level {
    Multipart { boundary: Vec<u8>, is_digest: bool },
    Message,
}

struct Converter<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    levels: Vec<Level>,
}

impl<'a> Converter<'a> {
    fn run(&mut self) -> Result<(), NotConvertible> {
        loop {
            self.entity()?;
            // Boundary lines, until one opens the next part.
            loop {
                let line = self.take(line_len(self.rest));
                let Some((level, is_close)) = self.boundary_of(line) else {
                    return Ok(());
                };
                self.out.extend_from_slice(line);
                if !is_close {
                    self.levels.truncate(level + 1);
                    break;
                }
                self.levels.truncate(level);
                self.comment();
            }
        }
    }

    /// Copies one entity's header, and its content up to the next boundary line; of a multipart,
    /// the preamble.
    fn entity(&mut self) -> Result<(), NotConvertible> {
        loop {
            let (header, empty_line) = self.take_header();
            let default_type = match self.levels.last() {
                // RFC 2046, 5.1.5.
                Some(Level::Multipart { is_digest: true, .. }) => "message/rfc822",
                _ => "text/plain",
            };
            let entity = read_entity(header, default_type);
            let is_multipart = entity.media_type.starts_with("multipart/");
            let is_message = entity.media_type == "message/rfc822";
            let is_open = entity.encoding == Declared::Identity;
            if (is_multipart || is_message) && is_open && self.levels.len() >= MAX_LEVELS {
                return Err(NotConvertible);
            }
            if is_message && is_open {
                self.header(header, None);
                self.out.extend_from_slice(empty_line);
                self.levels.push(Level::Message);
                continue;
            }
            if let (true, true, Some(boundary)) = (is_multipart, is_open, entity.boundary()) {
                let boundary = boundary.as_bytes().to_vec();
                self.header(header, None);
                self.out.extend_from_slice(empty_line);
                let is_digest = entity.media_type == "multipart/digest";
                self.levels.push(Level::Multipart { boundary, is_digest });
                self.comment();
                return Ok(());
            }
            return self.leaf(header, empty_line, &entity.media_type, entity.encoding);
        }
    }

    fn leaf(
        &mut self,
        header: &[u8],
        empty_line: &[u8],
        media_type: &str,
        declared: Declared,
    ) -> Result<(), NotConvertible> {
        let content = self.take_content();
        // The line end before a boundary belongs to the boundary (RFC 2046, 5.1.1).
        let (content, line_end) = match self.rest {
            [] => (content, &content[..0]),
            _ => content.split_at(without_line_end(content).len()),
        };
        if Survey::of(content).identity() == Some(TransferEncoding::SevenBit) {
            self.header(header, encoding_word(declared, header));
            self.out.extend_from_slice(empty_line);
            self.out.extend_from_slice(content);
            self.out.extend_from_slice(line_end);
            return Ok(());
        }
        // RFC 2046, 5.2.2 and 5.2.3: these may not be encoded.
        let is_rigid = matches!(media_type, "message/rfc822" | "message/partial" | "message/external-body")
            || media_type.starts_with("multipart/");
        let encoding = match declared {
            Declared::Unknown => return Err(NotConvertible),
            Declared::Identity if is_rigid => return Err(NotConvertible),
            Declared::Identity if media_type.starts_with("text/") || media_type.starts_with("message/") => {
                encoding_of_text(content)
            }
            Declared::Identity | Declared::Base64 => TransferEncoding::Base64,
            Declared::QuotedPrintable => TransferEncoding::QuotedPrintable,
        };
        self.header(header, Some(encoding.word()));
        // A part without an empty line has no header to speak of; now it has one.
        self.out.extend_from_slice(if empty_line.is_empty() { b"\r\n" } else { empty_line });
        match declared {
            Declared::Base64 => repair_base64(&mut self.out, content),
            Declared::QuotedPrintable => repair_quoted_printable(&mut self.out, content),
            _ => write_encoded(&mut self.out, content, encoding),
        }
        self.out.extend_from_slice(line_end);
        Ok(())
    }

    /// Copies header fields, with another Content-Transfer-Encoding or none, which means 7bit.
    fn header(&mut self, header: &[u8], encoding: Option<&str>) {
        for field in fields(header).filter(|field| !field.is("Content-Transfer-Encoding")) {
            self.out.extend_from_slice(field.raw);
        }
        if let Some(word) = encoding {
            self.out.extend_from_slice(format!("Content-Transfer-Encoding: {word}\r\n").as_bytes());
        }
    }

    /// Copies a preamble or an epilogue. Nobody reads them; octets that cannot be sent become
    /// question marks.
    fn comment(&mut self) {
        let comment = self.take_content();
        for line in comment.split_inclusive(|byte| *byte == b'\n') {
            let text = without_line_end(line);
            let sendable = text.iter().take(MAX_LINE_LEN);
            self.out.extend(sendable.map(|byte| if matches!(byte, 1..0x80) { *byte } else { b'?' }));
            self.out.extend_from_slice(line.get(text.len()..).unwrap_or(&[]));
        }
    }

    /// Takes the header section: its fields, and the empty line, which is missing when a boundary
    /// or the end comes first.
    fn take_header(&mut self) -> (&'a [u8], &'a [u8]) {
        let rest = self.rest;
        let len = fields(rest)
            .take_while(|field| {
                let line = field.raw.get(..line_len(field.raw)).unwrap_or(&[]);
                self.boundary_of(line).is_none()
            })
            .map(|field| field.raw.len())
            .sum();
        let header = self.take(len);
        let line = self.rest.get(..line_len(self.rest)).unwrap_or(&[]);
        let empty_line = if without_line_end(line).is_empty() { self.take(line.len()) } else { &[] };
        (header, empty_line)
    }

    /// Takes everything up to the next boundary line or the end.
    fn take_content(&mut self) -> &'a [u8] {
        let mut len = 0;
        while let Some(rest) = self.rest.get(len..).filter(|rest| !rest.is_empty()) {
            let line = rest.get(..line_len(rest)).unwrap_or(rest);
            if self.boundary_of(line).is_some() {
                break;
            }
            len += line.len();
        }
        self.take(len)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// The level that a line divides, and whether it closes it; innermost first.
    fn boundary_of(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_prefix(b"--")?.trim_ascii_end();
        self.levels.iter().enumerate().rev().find_map(|(at, level)| {
            let Level::Multipart { boundary, .. } = level else { return None };
            match text.strip_prefix(boundary.as_slice())? {
                b"" => Some((at, false)),
                b"--" => Some((at, true)),
                _ => None,
            }
        })
    }
}

/// The label that content of 7 bits keeps.
fn encoding_word(declared: Declared, header: &[u8]) -> Option<&str> {
    match declared {
        Declared::Identity => None,
        Declared::QuotedPrintable => Some("quoted-printable"),
        Declared::Base64 => Some("base64"),
        Declared::Unknown => fields(header)
            .find(|field| field.is("Content-Transfer-Encoding"))
            .and_then(|field| std::str::from_utf8(field.value).ok())
            .map(str::trim),
    }
}

/// Base64 without what does not belong to it, in lines of legal length.
fn repair_base64(out: &mut Vec<u8>, content: &[u8]) {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    for (at, byte) in content.iter().filter(|byte| is_base64(byte)).enumerate() {
        if at > 0 && at % ENCODED_LINE_LEN == 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.push(*byte);
    }
}

/// Quoted-printable with every octet escaped that should have been, in lines of legal length.
fn repair_quoted_printable(out: &mut Vec<u8>, content: &[u8]) {
    let mut column = 0;
    let mut rest = content;
    while let Some(byte) = rest.first() {
        if rest.starts_with(b"\r\n") || rest.starts_with(b"=\r\n") {
            let (line_end, after) = rest.split_at(if *byte == b'=' { 3 } else { 2 });
            out.extend_from_slice(line_end);
            rest = after;
            column = 0;
            continue;
        }
        let is_escape =
            matches!(rest, [b'=', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
        let escaped = format!("={byte:02X}");
        let (token, taken) = match byte {
            b'=' if is_escape => (&rest[..3], 3),
            b'\t' | b' '..=b'~' => (&rest[..1], 1),
            _ => (escaped.as_bytes(), 1),
        };
        if column + token.len() >= ENCODED_LINE_LEN {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        out.extend_from_slice(token);
        column += token.len();
        rest = rest.get(taken..).unwrap_or(&[]);
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::{Message, MessageParser, PartType};
    use proptest::prelude::*;

    use super::*;

    fn convert(message: &str) -> String {
        let converted = to_seven_bit(message.as_bytes()).unwrap();
        assert!(!needs_conversion(&converted), "{}", String::from_utf8_lossy(&converted));
        String::from_utf8(converted.into_owned()).unwrap()
    }

    /// The decoded leaves of a message and of the messages in it.
    fn leaves(message: &Message<'_>, found: &mut Vec<Vec<u8>>) {
        for part in &message.parts {
            match &part.body {
                PartType::Multipart(_) => {}
                PartType::Message(inner) => leaves(inner, found),
                _ => found.push(part.contents().to_vec()),
            }
        }
    }

    fn all_leaves(raw: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        leaves(&MessageParser::new().parse(raw).unwrap(), &mut found);
        found
    }

    #[test]
    fn clean_messages_are_left_alone() {
        let clean = "Subject: ü\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain\r\n";
        assert!(matches!(to_seven_bit(clean.as_bytes()), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn a_simple_body_is_encoded_and_its_header_kept() {
        assert_eq!(
            convert(
                "A: ü\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n\r\nKäse und Brot\r\n"
            ),
            "A: ü\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nK=C3=A4se und Brot\r\n"
        );
        assert!(convert("\r\nü").starts_with("Content-Transfer-Encoding: "));
        let long = convert(&format!("A: b\r\n\r\n{}\r\n", "x".repeat(5000)));
        assert!(long.lines().all(|line| line.len() <= 76));
    }

    const NESTED: &str = "Content-Type: multipart/mixed; boundary=\"a b\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        pre ü\r\n--a b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain\r\n\
        --a b\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n\r\nü one\r\n\
        --inner\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\u{89}PNG\r\n--inner--\r\n\
        --a b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: in\r\n\
        Content-Type: multipart/digest; boundary=deep\r\n\r\n--deep\r\n\r\nSubject: deepest\r\n\r\ndeep ü\r\n\
        --deep--\r\nepi ü\r\n--a b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        a=C3=BC ü=\r\nb\r\n--a b--\r\n";

    #[test]
    fn parts_are_encoded_wherever_they_are() {
        let converted = convert(NESTED);
        assert_eq!(all_leaves(NESTED.as_bytes()), all_leaves(converted.as_bytes()));
        assert!(!converted.contains("8bit") && !converted.contains("binary"), "{converted}");
        assert!(
            converted.contains("pre ??\r\n--a b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--a b"),
            "{converted}"
        );
        assert!(converted.contains("Subject: deepest\r\nContent-Transfer-Encoding: "), "{converted}");
        assert!(converted.contains("epi ??\r\n--a b\r\n"), "{converted}");
    }

    #[test]
    fn broken_encodings_are_mended() {
        let raw = "Content-Transfer-Encoding: base64\r\n\r\nSGVs\u{fc}bG8=\r\n";
        assert_eq!(convert(raw), "Content-Transfer-Encoding: base64\r\n\r\nSGVsbG8=");
        let raw =
            format!("Content-Transfer-Encoding: quoted-printable\r\n\r\n{}=C3=BC\r\n", "ü".repeat(1000));
        assert_eq!(all_leaves(convert(&raw).as_bytes()), all_leaves(raw.as_bytes()));
    }

    #[test]
    fn what_may_not_be_encoded_is_refused() {
        for raw in [
            "Content-Type: message/partial\r\n\r\nü".to_owned(),
            "Content-Transfer-Encoding: x-uuencode\r\n\r\nü".to_owned(),
            "Content-Type: multipart/mixed\r\n\r\nü".to_owned(),
            format!("{}\r\nü", "Content-Type: message/rfc822\r\n\r\n".repeat(MAX_LEVELS + 1)),
        ] {
            assert_eq!(to_seven_bit(raw.as_bytes()), Err(NotConvertible));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_clean_or_are_refused(
            lines in proptest::collection::vec(prop_oneof![
                Just("--b".to_owned()), Just("--b--".to_owned()), Just("--c".to_owned()), Just(String::new()),
                Just("Content-Type: multipart/mixed; boundary=b".to_owned()),
                Just("Content-Type: multipart/digest; boundary=c".to_owned()),
                Just("Content-Type: message/rfc822".to_owned()),
                Just("Content-Type: image/png".to_owned()),
                Just("Content-Transfer-Encoding: base64".to_owned()),
                Just("Content-Transfer-Encoding: quoted-printable".to_owned()),
                Just("ü".to_owned()), "\\PC{0,10}",
            ], 0..40),
        ) {
            let raw = lines.join("\r\n");
            if let Ok(converted) = to_seven_bit(raw.as_bytes()) {
                prop_assert_eq!(to_seven_bit(&converted).map(Cow::into_owned), Ok(converted.to_vec()));
                prop_assert!(converted.len() <= raw.len() * 4 + 200 * lines.len() + 200);
            }
        }
    }
}
