//! The message of a DATA command (RFC 5321, 4.1.1.4 and 4.5.2): dot-unstuffing on the way in,
//! dot-stuffing on the way out.
//!
//! SMTP smuggling lives on servers that disagree on where a message ends. Here only the five
//! octets `CRLF . CRLF` end it. A message with a bare CR or a bare LF anywhere is read to that end,
//! so that both sides stay in step, and then refused.

use bytes::{Buf, Bytes, BytesMut};

/// Why a message was not taken. The stream stands behind its end, unless this is `Flood`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataError {
    /// It has more octets than the limit.
    TooLarge,
    /// A CR without LF or an LF without CR (RFC 5321, 2.3.8).
    BareLineEnd,
    /// So far above the limit that its end was not waited for: close the connection.
    Flood,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    /// After a dot at the start of a line.
    Dot,
    /// After a dot at the start of a line, and a CR.
    DotCr,
    InLine,
    /// After a CR within a line.
    Cr,
}

/// Decodes one message. Memory: at most `limit` octets.
#[derive(Debug)]
pub struct DataDecoder {
    state: State,
    body: BytesMut,
    /// Octets of the message so far, kept or not.
    length: u64,
    limit: u64,
    swallow: u64,
    bare_line_end: bool,
    given_up: bool,
}

impl DataDecoder {
    /// A decoder for a message of at most `limit` octets (counted as in RFC 1870, 3: without the
    /// stuffed dots and the final one). Beyond it, `swallow` more octets are read and dropped.
    pub fn new(limit: u64, swallow: u64) -> Self {
        DataDecoder {
            state: State::LineStart,
            body: BytesMut::new(),
            length: 0,
            limit,
            swallow,
            bare_line_end: false,
            given_up: false,
        }
    }

    /// Octets kept so far.
    pub fn buffered(&self) -> usize {
        self.body.len()
    }

    /// Drops what was kept and keeps nothing more; the message is still read to its end.
    pub fn give_up(&mut self) {
        self.given_up = true;
        self.body = BytesMut::new();
    }

    /// Takes what belongs to the message off the front of `input`; what the client sent behind the
    /// final dot stays. `None`: more bytes are needed.
    pub fn push(&mut self, input: &mut BytesMut) -> Option<Result<Bytes, DataError>> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            at += 1;
            self.state = match (self.state, byte) {
                (State::LineStart, b'.') => State::Dot,
                (State::Dot, b'\r') => State::DotCr,
                (State::DotCr, b'\n') => {
                    input.advance(at);
                    return Some(self.finish());
                }
                // RFC 5321, 4.5.2: the first of a line's leading dots is dropped, whatever follows.
                (State::Dot, b'\n') => self.bare(b"\n"),
                (State::Dot, _) => {
                    self.keep(&[byte]);
                    State::InLine
                }
                // The line was a dot and a bare CR.
                (State::DotCr, b'\r') => {
                    self.bare(b"\r");
                    State::Cr
                }
                (State::DotCr, _) => {
                    self.bare(b"\r");
                    self.keep(&[byte]);
                    State::InLine
                }
                (State::LineStart | State::InLine, b'\r') => State::Cr,
                (State::LineStart | State::InLine, b'\n') => self.bare(b"\n"),
                (State::Cr, b'\n') => {
                    self.keep(b"\r\n");
                    State::LineStart
                }
                (State::Cr, b'\r') => {
                    self.bare(b"\r");
                    State::Cr
                }
                (State::Cr, _) => {
                    self.bare(b"\r");
                    self.keep(&[byte]);
                    State::InLine
                }
                (State::LineStart | State::InLine, _) => {
                    let rest = input.get(at..).unwrap_or_default();
                    let run = rest.iter().take_while(|byte| !matches!(byte, b'\r' | b'\n')).count();
                    self.keep(input.get(at - 1..at + run).unwrap_or_default());
                    at += run;
                    State::InLine
                }
            };
            if self.length > self.limit.saturating_add(self.swallow) {
                input.clear();
                return Some(Err(DataError::Flood));
            }
        }
        input.clear();
        None
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.limit || self.bare_line_end || self.given_up {
            self.body = BytesMut::new();
        } else {
            self.body.extend_from_slice(bytes);
        }
    }

    /// Notes a bare line end. What follows it is in the middle of a line: a dot there ends nothing.
    fn bare(&mut self, bytes: &[u8]) -> State {
        self.bare_line_end = true;
        self.keep(bytes);
        State::InLine
    }

    fn finish(&mut self) -> Result<Bytes, DataError> {
        if self.length > self.limit {
            Err(DataError::TooLarge)
        } else if self.bare_line_end {
            Err(DataError::BareLineEnd)
        } else {
            Ok(std::mem::take(&mut self.body).freeze())
        }
    }
}

/// Writes a message in pieces in the form in which it follows DATA: CRLF at every line end, dots
/// stuffed. Bare CR and bare LF become CRLF, so that no message can end early at the other side.
#[derive(Debug)]
pub struct DataEncoder {
    line_start: bool,
    after_cr: bool,
}

impl Default for DataEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataEncoder {
    /// An encoder at the start of a message.
    pub fn new() -> Self {
        DataEncoder { line_start: true, after_cr: false }
    }

    /// Appends the encoded form of the next piece of the message to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while let Some((&byte, tail)) = rest.split_first() {
            match byte {
                b'\n' => {
                    out.extend_from_slice(b"\r\n");
                    (self.after_cr, self.line_start) = (false, true);
                    rest = tail;
                    continue;
                }
                b'\r' => {
                    if self.after_cr {
                        out.extend_from_slice(b"\r\n");
                    }
                    (self.after_cr, self.line_start) = (true, true);
                    rest = tail;
                    continue;
                }
                _ => {}
            }
            if self.after_cr {
                out.extend_from_slice(b"\r\n");
                self.after_cr = false;
            }
            if self.line_start && byte == b'.' {
                out.push(b'.');
            }
            self.line_start = false;
            let run = rest.iter().take_while(|byte| !matches!(byte, b'\r' | b'\n')).count();
            let (line, tail) = rest.split_at(run);
            out.extend_from_slice(line);
            rest = tail;
        }
    }

    /// Appends the end of the message: a CRLF where the last line had none, and the final dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.after_cr || !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8], limit: u64) -> (Option<Result<Bytes, DataError>>, Vec<u8>) {
        let mut input = BytesMut::from(bytes);
        let result = DataDecoder::new(limit, 1000).push(&mut input);
        (result, input.to_vec())
    }

    fn encode(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut out) = (DataEncoder::new(), Vec::new());
        for piece in pieces {
            encoder.push(piece, &mut out);
        }
        encoder.finish(&mut out);
        out
    }

    #[test]
    fn dots_are_unstuffed_and_what_follows_is_left() {
        let (result, rest) = decode(b"a\r\n..b\r\n.c\r\n...\r\n.\r\nQUIT\r\n", 100);
        assert_eq!(result, Some(Ok(Bytes::from_static(b"a\r\n.b\r\nc\r\n..\r\n"))));
        assert_eq!(rest, b"QUIT\r\n");
    }

    #[test]
    fn a_message_may_be_empty() {
        assert_eq!(decode(b".\r\n", 100).0, Some(Ok(Bytes::new())));
    }

    #[test]
    fn long_lines_are_taken() {
        let line = [&[b'x'; 5000][..], b"\r\n.\r\n"].concat();
        assert_eq!(decode(&line, 10_000).0.and_then(Result::ok).map(|body| body.len()), Some(5002));
    }

    #[test]
    fn bare_line_ends_never_end_a_message_and_refuse_it() {
        for trick in [
            "\n.\n",
            "\n.\r\n",
            "\r.\r",
            "\r.\r\n",
            "\r\n.\n",
            "\r\n.\r",
            "\n.\r",
            "\r\r\n.\r\r\n",
            "\r\n\r.\r\n",
            "\n\n.\r\n",
            "\r\n.\r.\r\n",
            "\r\n.\r\r\nx",
            "\r\n.\n\r\nx",
            "\r\n.\0\n.\r\n",
            "\0\r.\r\n",
        ] {
            let smuggled = format!("a{trick}MAIL FROM:<x@x.test>\r\n.\r\nNOOP\r\n");
            let (result, rest) = decode(smuggled.as_bytes(), 1000);
            assert_eq!(result, Some(Err(DataError::BareLineEnd)), "{trick:?}");
            assert_eq!(rest, b"NOOP\r\n", "{trick:?}");
        }
    }

    #[test]
    fn too_large_is_swallowed_to_its_end() {
        let (result, rest) = decode(b"12345678\r\n.\r\nNOOP\r\n", 9);
        assert_eq!((result, &rest[..]), (Some(Err(DataError::TooLarge)), &b"NOOP\r\n"[..]));
        assert!(matches!(decode(b"1234567\r\n.\r\n", 9).0, Some(Ok(_))));
        assert_eq!(decode(&[b'x'; 2000], 9).0, Some(Err(DataError::Flood)));
    }

    #[test]
    fn what_is_sent_has_only_crlf_and_one_end() {
        assert_eq!(encode(&[b"a\r\n.b\n.\rc"]), b"a\r\n..b\r\n..\r\nc\r\n.\r\n");
        assert_eq!(encode(&[b"a\r", b"\n.", b"."]), b"a\r\n...\r\n.\r\n");
        assert_eq!(encode(&[]), b".\r\n");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_message(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..80),
            cut in 1usize..7,
        ) {
            let mut whole = BytesMut::from(&bytes[..]);
            let expected = DataDecoder::new(20, 1000).push(&mut whole);
            let (mut decoder, mut input, mut taken) = (DataDecoder::new(20, 1000), BytesMut::new(), 0);
            let mut result = None;
            for chunk in bytes.chunks(cut) {
                input.extend_from_slice(chunk);
                taken += chunk.len();
                result = decoder.push(&mut input);
                if result.is_some() {
                    break;
                }
            }
            prop_assert_eq!(&result, &expected);
            if result.is_some() {
                prop_assert_eq!(bytes.len() - whole.len(), taken - input.len());
            }
        }

        #[test]
        fn what_is_sent_reads_back(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..80),
            cut in 1usize..7,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            let mut sent = BytesMut::from(&encode(&pieces)[..]);
            let read = DataDecoder::new(1000, 0).push(&mut sent);
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n").replace('\r', "\n");
            let mut expected = text.replace('\n', "\r\n");
            if !expected.is_empty() && !expected.ends_with("\r\n") {
                expected.push_str("\r\n");
            }
            prop_assert_eq!(read, Some(Ok(Bytes::from(expected))));
            prop_assert!(sent.is_empty());
        }
    }
}
