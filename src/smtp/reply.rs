//! Replies (RFC 5321, 4.2) with enhanced status codes (RFC 3463, RFC 2034): written by the server,
//! read by the client.

use std::borrow::Cow;
use std::fmt;

use bytes::{Buf, BytesMut};

/// Longest reply line that is written, without its CRLF (RFC 5321, 4.5.3.1.5).
const MAX_WRITTEN_LINE: usize = 510;
/// Longest reply line that is read. More generous than the RFC, since some servers are.
const MAX_READ_LINE: usize = 4096;
/// Most lines of a reply that are read.
const MAX_READ_LINES: usize = 128;

/// An enhanced status code: class, subject, detail (RFC 3463, 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// Takes `5.1.1` off the front of a text; gives it and what follows its space.
    pub fn take(text: &str) -> Option<(EnhancedCode, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = word.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let mut number = || -> Option<u16> {
            let part = parts.next()?;
            // RFC 3463, 2: up to three digits.
            ((1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| part.parse().ok())
                .flatten()
        };
        let code = EnhancedCode(class, number()?, number()?);
        parts.next().is_none().then_some((code, rest))
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A reply: a code, an enhanced code except where none belongs (greeting, EHLO, 3yz), lines of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<Cow<'static, str>>,
}

impl Reply {
    /// A reply of one line with an enhanced code.
    pub fn new(code: u16, enhanced: EnhancedCode, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: Some(enhanced), lines: vec![text.into()] }
    }

    /// A reply of one line without enhanced code.
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: None, lines: vec![text.into()] }
    }

    /// A reply of several lines without enhanced code.
    pub fn lines(code: u16, lines: Vec<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: None, lines }
    }

    /// The three-digit code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The lines of text, without codes.
    pub fn texts(&self) -> &[Cow<'static, str>] {
        &self.lines
    }

    /// The text in one line.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Whether the code is 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the code is 5yz.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the reply as it goes over the wire. Control characters in texts become `?`, and
    /// overlong lines are cut, so that no text can forge a line.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let separator = if at == last { ' ' } else { '-' };
            let start = match self.enhanced {
                Some(enhanced) => format!("{}{separator}{enhanced} ", self.code),
                None => format!("{}{separator}", self.code),
            };
            out.extend_from_slice(start.as_bytes());
            let mut room = MAX_WRITTEN_LINE - start.len();
            let mut utf8 = [0; 4];
            for c in line.chars() {
                let c = if c.is_control() { '?' } else { c };
                let bytes = c.encode_utf8(&mut utf8).as_bytes();
                if bytes.len() > room {
                    break;
                }
                room -= bytes.len();
                out.extend_from_slice(bytes);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// Code, enhanced code and text in one line, for logs and bounces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text())
    }
}

/// The other side does not speak SMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAReply;

/// Reads replies from a buffer that somebody else fills. Memory: 128 lines of 4096 octets.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// The lines of an unfinished reply: its code, and their texts.
    code: Option<u16>,
    lines: Vec<String>,
}

impl ReplyReader {
    /// A reader at the start of a reply.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next reply off the front of `input`. `Ok(None)`: more bytes are needed.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, NotAReply> {
        while let Some(end) = input.iter().take(MAX_READ_LINE + 2).position(|byte| *byte == b'\n') {
            let line = input.split_to(end);
            input.advance(1);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let (code, is_last, text) = split_line(line).ok_or(NotAReply)?;
            // RFC 5321, 4.2.1: the code is the same on every line.
            if self.code.is_some_and(|first| first != code) || self.lines.len() >= MAX_READ_LINES {
                return Err(NotAReply);
            }
            self.code = Some(code);
            self.lines.push(text);
            if is_last {
                return Ok(Some(self.finish(code)));
            }
        }
        if input.len() > MAX_READ_LINE { Err(NotAReply) } else { Ok(None) }
    }

    fn finish(&mut self, code: u16) -> Reply {
        self.code = None;
        let lines = std::mem::take(&mut self.lines);
        let enhanced = lines.first().and_then(|line| enhanced_of(line, code)).map(|(found, _)| found);
        // RFC 2034, 4: every line carries the code.
        let without_code = |line: String| match enhanced_of(&line, code) {
            Some((found, rest)) if Some(found) == enhanced => Cow::Owned(rest.to_owned()),
            _ => Cow::Owned(line),
        };
        Reply { code, enhanced, lines: lines.into_iter().map(without_code).collect() }
    }
}

/// The enhanced code at the front of a line. One of another class than the basic code is text
/// (RFC 2034, 4).
fn enhanced_of(line: &str, code: u16) -> Option<(EnhancedCode, &str)> {
    EnhancedCode::take(line).filter(|(found, _)| u16::from(found.0) == code / 100)
}

/// Code, whether it is the last line, text.
fn split_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    if !(200..600).contains(&code) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (is_last, text) = match rest.split_first() {
        None => (true, &[][..]),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    let clean = |c: char| if c.is_control() { '?' } else { c };
    Some((code, is_last, String::from_utf8_lossy(text).chars().map(clean).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn read(bytes: &[u8]) -> Result<Option<Reply>, NotAReply> {
        ReplyReader::new().next(&mut BytesMut::from(bytes))
    }

    #[test]
    fn replies_are_written() {
        assert_eq!(written(&Reply::new(250, EnhancedCode(2, 0, 0), "OK")), "250 2.0.0 OK\r\n");
        assert_eq!(written(&Reply::plain(220, "mx ESMTP")), "220 mx ESMTP\r\n");
        let several = Reply::lines(250, vec!["mx".into(), "SIZE 10".into(), "DSN".into()]);
        assert_eq!(written(&several), "250-mx\r\n250-SIZE 10\r\n250 DSN\r\n");
    }

    #[test]
    fn no_text_can_forge_a_line() {
        let reply = Reply::new(550, EnhancedCode(5, 0, 0), "no\r\n250 yes\u{7f}\n");
        assert_eq!(written(&reply), "550 5.0.0 no??250 yes??\r\n");
        assert_eq!(written(&Reply::plain(250, "\u{e9}".repeat(400))).len(), 4 + 506 + 2);
    }

    #[test]
    fn replies_are_read() {
        let reply = read(b"550-5.1.1 no\r\n550 5.1.1 such user\r\nrest");
        let expected = Reply {
            code: 550,
            enhanced: Some(EnhancedCode(5, 1, 1)),
            lines: vec!["no".into(), "such user".into()],
        };
        assert_eq!(reply, Ok(Some(expected)));
        assert_eq!(read(b"250\r\n"), Ok(Some(Reply::plain(250, ""))));
        assert_eq!(read(b"250 2.1000.0 x\r\n"), Ok(Some(Reply::plain(250, "2.1000.0 x"))));
        assert_eq!(read(b"250 5.1.1 odd\r\n"), Ok(Some(Reply::plain(250, "5.1.1 odd"))));
        assert_eq!(read(b"250-a\r\n25"), Ok(None));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"25\r\n",
            b"999 x\r\n",
            b"250-a\r\n251 b\r\n",
            b"250x\r\n",
        ] {
            assert_eq!(read(bytes), Err(NotAReply));
        }
        assert_eq!(read(&[b'2'; 5000]), Err(NotAReply));
        assert_eq!(read("250-x\r\n".repeat(200).as_bytes()), Err(NotAReply));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn what_is_written_reads_back(code in 200u16..600, text in "[a-z ]{0,80}") {
            let class = match code / 100 { 3 => 2, class => class as u8 };
            let reply = if code / 100 == 3 {
                Reply::plain(code, text)
            } else {
                Reply::new(code, EnhancedCode(class, 1, 2), text)
            };
            prop_assert_eq!(read(written(&reply).as_bytes()), Ok(Some(reply)));
        }
    }
}
