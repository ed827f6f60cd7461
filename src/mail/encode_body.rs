//! Content transfer encodings, done (RFC 2045, 6): which one some content needs, and writing it.
//!
//! Encoded bodies end without a line end of their own: the line end before a boundary belongs to
//! the boundary (RFC 2046, 5.1.1). Work is linear in the content.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::mail::reencode::normalize_line_ends;

/// Longest line of text without its line end (RFC 5322, 2.1.1).
pub const MAX_LINE_LEN: usize = 998;
/// Longest line that the encodings make (RFC 2045, 6.7 and 6.8).
const ENCODED_LINE_LEN: usize = 76;

/// How content stands in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransferEncoding {
    /// As it is: ASCII in lines.
    SevenBit,
    /// As it is, in lines, with octets over 127.
    EightBit,
    /// Quoted-printable.
    QuotedPrintable,
    /// Base64.
    Base64,
}

impl TransferEncoding {
    /// The word of the Content-Transfer-Encoding field.
    pub fn word(self) -> &'static str {
        match self {
            TransferEncoding::SevenBit => "7bit",
            TransferEncoding::EightBit => "8bit",
            TransferEncoding::QuotedPrintable => "quoted-printable",
            TransferEncoding::Base64 => "base64",
        }
    }

    /// Whether content stands in the message as it is.
    pub fn is_identity(self) -> bool {
        matches!(self, TransferEncoding::SevenBit | TransferEncoding::EightBit)
    }
}

/// What was seen of some content in one pass.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Survey {
    /// Octets over 127.
    pub high: usize,
    /// Octets that quoted-printable escapes, those over 127 included.
    pub escaped: usize,
    /// NUL, or a CR or LF that stands alone.
    pub has_binary: bool,
    /// Octets of the longest line.
    pub longest_line: usize,
}

impl Survey {
    /// Reads content.
    pub fn of(content: &[u8]) -> Survey {
        let mut survey = Survey::default();
        let (mut line_len, mut before) = (0_usize, 0_u8);
        for byte in content.iter().copied() {
            match byte {
                b'\n' => {
                    survey.has_binary |= before != b'\r';
                    survey.longest_line = survey.longest_line.max(line_len.saturating_sub(1));
                    line_len = 0;
                }
                _ => {
                    survey.has_binary |= before == b'\r' || byte == 0;
                    survey.high += usize::from(byte >= 0x80);
                    survey.escaped += usize::from(byte != b'\r' && !is_literal(byte));
                    line_len += 1;
                }
            }
            before = byte;
        }
        survey.has_binary |= before == b'\r';
        survey.longest_line = survey.longest_line.max(line_len);
        survey
    }

    /// Whether content may stand as it is: 7bit, or 8bit where that is allowed.
    pub fn identity(&self) -> Option<TransferEncoding> {
        let legal = !self.has_binary && self.longest_line <= MAX_LINE_LEN;
        let encoding = if self.high == 0 { TransferEncoding::SevenBit } else { TransferEncoding::EightBit };
        legal.then_some(encoding)
    }
}

/// The encoding of text: 7bit when it is ASCII in lines, else whichever is shorter.
pub fn encoding_of_text(text: &[u8]) -> TransferEncoding {
    let survey = Survey::of(text);
    if survey.identity() == Some(TransferEncoding::SevenBit) {
        TransferEncoding::SevenBit
    } else if text.len() + 2 * survey.escaped <= text.len() / 3 * 4 {
        TransferEncoding::QuotedPrintable
    } else {
        TransferEncoding::Base64
    }
}

/// An enclosed message with its encoding. Encoding it is not allowed (RFC 2046, 5.2.1), so it
/// stands as it is, its line ends made whole; only what could not be sent at all (NUL, lines too
/// long) becomes base64, which readers undo although it should not occur.
pub fn encode_message(content: &[u8]) -> (Cow<'_, [u8]>, TransferEncoding) {
    let normal = normalize_line_ends(content);
    match Survey::of(&normal).identity() {
        Some(encoding) => (normal, encoding),
        None => (Cow::Borrowed(content), TransferEncoding::Base64),
    }
}

/// Writes content in an encoding at the end of `out`.
pub fn write_encoded(out: &mut Vec<u8>, content: &[u8], encoding: TransferEncoding) {
    match encoding {
        TransferEncoding::SevenBit | TransferEncoding::EightBit => out.extend_from_slice(content),
        TransferEncoding::Base64 => write_base64(out, content),
        TransferEncoding::QuotedPrintable => write_quoted_printable(out, content),
    }
}

fn write_base64(out: &mut Vec<u8>, content: &[u8]) {
    out.reserve(content.len() / 3 * 4 + content.len() / 28 + 8);
    for (at, chunk) in content.chunks(ENCODED_LINE_LEN / 4 * 3).enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(BASE64.encode(chunk).as_bytes());
    }
}

/// Whether quoted-printable leaves this octet as it is, white space at line ends apart.
fn is_literal(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~') && byte != b'='
}

/// Writes quoted-printable (RFC 2045, 6.7). CRLF is a line end; a CR or LF that stands alone is
/// escaped. `From ` and a dot at the start of a line are escaped too, since mail stores and careless
/// relays change them.
fn write_quoted_printable(out: &mut Vec<u8>, content: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut column = 0;
    let mut at = 0;
    while let Some(byte) = content.get(at).copied() {
        let rest = content.get(at..).unwrap_or(&[]);
        if rest.starts_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            column = 0;
            at += 2;
            continue;
        }
        let after = rest.get(1..).unwrap_or(&[]);
        let is_line_end = after.is_empty() || after.starts_with(b"\r\n");
        let is_mangled = column == 0
            && (rest.starts_with(b"From ") || (byte == b'.' && is_line_end) || rest.starts_with(b"--"));
        let literal = is_literal(byte) && !(matches!(byte, b' ' | b'\t') && is_line_end) && !is_mangled;
        let width = if literal { 1 } else { 3 };
        // A line that goes on needs room for its soft break.
        let limit = if is_line_end { ENCODED_LINE_LEN } else { ENCODED_LINE_LEN - 1 };
        if column + width > limit {
            out.extend_from_slice(b"=\r\n");
            column = 0;
            continue;
        }
        if literal {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        column += width;
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(content: &str) -> String {
        let mut out = Vec::new();
        write_encoded(&mut out, content.as_bytes(), TransferEncoding::QuotedPrintable);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quoted_printable_by_example() {
        assert_eq!(quoted("a=b\r\nö \r\n"), "a=3Db\r\n=C3=B6=20\r\n");
        assert_eq!(quoted("From me\r\n.\r\n..\r\n--b"), "=46rom me\r\n=2E\r\n..\r\n=2D-b");
        assert_eq!(quoted("a\rb\nc"), "a=0Db=0Ac");
        assert_eq!(quoted(&"x".repeat(80)), format!("{}=\r\n{}", "x".repeat(75), "x".repeat(5)));
        assert_eq!(quoted(&"x".repeat(76)), "x".repeat(76));
    }

    #[test]
    fn the_encoding_fits_the_content() {
        assert_eq!(encoding_of_text(b"plain\r\n"), TransferEncoding::SevenBit);
        assert_eq!(encoding_of_text("mostly ASCII, one é\r\n".as_bytes()), TransferEncoding::QuotedPrintable);
        assert_eq!(encoding_of_text("日本語の本文".as_bytes()), TransferEncoding::Base64);
        assert_eq!(encoding_of_text("x".repeat(999).as_bytes()), TransferEncoding::QuotedPrintable);
        assert_eq!(encoding_of_text(b"nul\0 in text and so on"), TransferEncoding::QuotedPrintable);
        assert_eq!(
            encode_message(b"A: b\n\nc"),
            (Cow::Owned(b"A: b\r\n\r\nc".to_vec()), TransferEncoding::SevenBit)
        );
        assert_eq!(encode_message("ü".as_bytes()).1, TransferEncoding::EightBit);
        assert_eq!(encode_message(b"\0").1, TransferEncoding::Base64);
    }

    proptest! {
        #[test]
        fn encoded_content_comes_back(content in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'.'), b'a'..b'f'], 0..400)) {
            for encoding in [TransferEncoding::QuotedPrintable, TransferEncoding::Base64] {
                let mut out = format!("Content-Type: application/x\r\nContent-Transfer-Encoding: {}\r\n\r\n", encoding.word()).into_bytes();
                let start = out.len();
                write_encoded(&mut out, &content, encoding);
                let body = &out[start..];
                let survey = Survey::of(body);
                prop_assert_eq!(survey.identity(), Some(TransferEncoding::SevenBit));
                prop_assert!(survey.longest_line <= 76);
                let message = mail_parser::MessageParser::new().parse(&out).unwrap();
                prop_assert_eq!(message.root_part().contents(), &content[..]);
            }
        }
    }
}
