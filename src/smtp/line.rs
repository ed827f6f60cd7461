//! Cuts a stream of bytes into command lines.
//!
//! A line ends with CRLF and nothing else (RFC 5321, 2.3.8). A bare LF does close the line, so that
//! a careless client gets an answer instead of silence, but the line is reported as malformed and
//! nothing in it is obeyed.

use bytes::{Buf, Bytes, BytesMut};

/// Longest command line, without its CRLF, in octets. RFC 5321, 4.5.3.1.4 says 512; the extensions
/// offered here add to that: SIZE 26, BODY 17, SMTPUTF8 10, RET 8, ENVID 107, AUTH 500,
/// HOLDUNTIL 34, ORCPT 500 and NOTIFY 28.
pub const MAX_COMMAND_LINE: usize = 2048;

/// Longest line of an authentication exchange, in octets (RFC 4954, 4).
pub const MAX_AUTH_LINE: usize = 12_288;

/// How much of an overlong line is swallowed while its end is looked for, in octets.
pub const MAX_SWALLOWED: usize = 1 << 20;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line, without its CRLF.
    Complete(Bytes),
    /// A line that contains, or ends with, a bare CR or a bare LF. Its content is dropped.
    Malformed,
    /// A line longer than the limit. Its content is dropped.
    TooLong,
    /// A line so long that its end is not worth waiting for: close the connection.
    Flood,
}

/// Reads lines from a buffer that somebody else fills. Memory: at most the limit it is asked for.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Octets at the front of the buffer that are known to hold no LF.
    scanned: usize,
    /// Octets of the current line that were dropped already.
    swallowed: usize,
}

impl LineReader {
    /// A reader at the start of a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line of at most `limit` octets off the front of `input`. `None`: more bytes
    /// are needed.
    pub fn next(&mut self, input: &mut BytesMut, limit: usize) -> Option<Line> {
        let unseen = input.get(self.scanned..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n').map(|at| at + self.scanned) else {
            self.scanned = input.len();
            // The CRLF does not count, and the last octet may be its CR.
            if self.swallowed + input.len() > limit + 1 {
                self.swallowed = self.swallowed.saturating_add(input.len());
                self.scanned = 0;
                input.clear();
            }
            return (self.swallowed > MAX_SWALLOWED).then_some(Line::Flood);
        };
        let mut line = input.split_to(at);
        input.advance(1);
        let total = std::mem::take(self).swallowed + line.len();
        let ended_by_crlf = line.ends_with(b"\r");
        if ended_by_crlf {
            line.truncate(line.len() - 1);
        }
        Some(if total > MAX_SWALLOWED {
            Line::Flood
        } else if total > limit + usize::from(ended_by_crlf) {
            Line::TooLong
        } else if !ended_by_crlf || line.contains(&b'\r') {
            Line::Malformed
        } else {
            Line::Complete(line.freeze())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(chunks: &[&[u8]], limit: usize) -> (Vec<Line>, Vec<u8>) {
        let (mut reader, mut input, mut lines) = (LineReader::new(), BytesMut::new(), Vec::new());
        for chunk in chunks {
            input.extend_from_slice(chunk);
            while let Some(line) = reader.next(&mut input, limit) {
                lines.push(line.clone());
                if line == Line::Flood {
                    return (lines, Vec::new());
                }
            }
        }
        (lines, input.to_vec())
    }

    fn complete(text: &'static str) -> Line {
        Line::Complete(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_end_with_crlf_only() {
        let (lines, rest) = read_all(&[b"EHLO a\r\nNOOP\r\nQU"], 100);
        assert_eq!(lines, [complete("EHLO a"), complete("NOOP")]);
        assert_eq!(rest, b"QU");
        let (lines, _) = read_all(&[b"EHLO a\nNO\rOP\r\n\nRSET\r\r\nQUIT\r\n"], 100);
        assert_eq!(
            lines,
            [Line::Malformed, Line::Malformed, Line::Malformed, Line::Malformed, complete("QUIT")]
        );
    }

    #[test]
    fn the_limit_counts_the_line_without_its_end() {
        let (lines, _) = read_all(&[b"12345\r\n123456\r\nok\r\n"], 5);
        assert_eq!(lines, [complete("12345"), Line::TooLong, complete("ok")]);
    }

    #[test]
    fn an_endless_line_is_given_up_in_bounded_memory() {
        let (mut reader, mut input) = (LineReader::new(), BytesMut::new());
        for _ in 0..3 * MAX_SWALLOWED / 1000 {
            input.extend_from_slice(&[b'x'; 1000]);
            if let Some(line) = reader.next(&mut input, 100) {
                assert_eq!(line, Line::Flood);
                return;
            }
            assert!(input.len() <= 102);
        }
        panic!("the flood was not noticed");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..60),
            cuts in proptest::collection::vec(1usize..5, 0..60),
        ) {
            let whole = read_all(&[&bytes], 4);
            let (mut chunks, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            prop_assert_eq!(whole.0, read_all(&chunks, 4).0);
        }
    }
}
