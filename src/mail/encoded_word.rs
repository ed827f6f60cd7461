//! Encoded words in header fields (RFC 2047).
//!
//! A word counts only where RFC 2047, 5 allows one: with white space or an end on both sides, and
//! without white space inside (RFC 8621, 4.1.2.2: anything else must not be decoded). Linear in
//! the text.

use crate::mail::charset;
use crate::mail::transfer;
use crate::types::blob_id::Encoding;

/// An encoded word taken apart.
struct EncodedWord<'a> {
    charset: &'a str,
    octets: Vec<u8>,
}

impl EncodedWord<'_> {
    /// Whether it ends with the escape sequence to ASCII of ISO-2022-JP, as each word should: then
    /// the next one stands for itself, and the decoder, which takes an escape sequence without text
    /// after it for an attack, must not see the two as one.
    fn is_back_in_ascii(&self) -> bool {
        self.octets.ends_with(b"\x1b(B") || self.octets.ends_with(b"\x1b(J")
    }
}

/// Decodes the encoded words of unstructured text: "text" of RFC 2047, 5 (1). White space between
/// two encoded words vanishes (RFC 2047, 6.2).
pub fn decode_text(text: &str) -> String {
    if !text.contains("=?") {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    // Octets of adjacent words of one charset are joined before decoding, since many programs cut
    // them in the middle of a character.
    let mut pending: Option<EncodedWord<'_>> = None;
    // The token before was a word that did not stay pending.
    let mut was_word = false;
    let mut rest = text;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
        let (gap, tail) = rest.split_at(blanks);
        let (token, tail) = tail.split_at(tail.find(is_blank).unwrap_or(tail.len()));
        rest = tail;
        match read_word(token) {
            Some(word) if !token.is_ascii() => {
                // Octets that are no ASCII stand unencoded in the word, against RFC 2047, 2. What
                // they mean is not known, but the words around them are readable.
                if pending.is_none() && !was_word {
                    out.push_str(gap);
                }
                flush(pending.take(), &mut out);
                flush_mixed(word.charset, token, &mut out);
                was_word = true;
            }
            Some(word) => match &mut pending {
                Some(before)
                    if before.charset.eq_ignore_ascii_case(word.charset) && !before.is_back_in_ascii() =>
                {
                    before.octets.extend_from_slice(&word.octets);
                }
                before => {
                    if before.is_none() && !was_word {
                        out.push_str(gap);
                    }
                    flush(before.replace(word), &mut out);
                }
            },
            None => {
                // White space at the very end follows the word: it is text.
                flush(pending.take(), &mut out);
                out.push_str(gap);
                out.push_str(token);
                was_word = false;
            }
        }
    }
    flush(pending, &mut out);
    out
}

/// Length of the encoded word at the start of `text`, if one stands there. Looks at no more than
/// its first four question marks, so that asking at every token stays linear.
pub fn word_len(text: &str) -> Option<usize> {
    let body = text.strip_prefix("=?")?;
    let mut marks = body.match_indices(|c: char| c == '?' || is_blank(c));
    let (charset_end, _) = marks.next().filter(|(_, mark)| *mark == "?")?;
    let (encoding_end, _) = marks.next().filter(|(_, mark)| *mark == "?")?;
    let (text_end, _) = marks.next().filter(|(_, mark)| *mark == "?")?;
    let is_word = charset_end > 0
        && encoding_end == charset_end + 2
        && body.as_bytes().get(text_end + 1) == Some(&b'=')
        && body[..charset_end]
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\"/[]=".contains(&byte));
    is_word.then_some("=?".len() + text_end + "?=".len())
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn flush(word: Option<EncodedWord<'_>>, out: &mut String) {
    let Some(word) = word else { return };
    let decoded = charset::decode(&word.octets, Some(word.charset)).text;
    // RFC 8621, 4.1.2.2: NUL and control characters that were encoded are dropped.
    out.extend(decoded.chars().filter(|c| !c.is_control()));
}

/// Decodes the pieces of a word in "Q" encoding around characters that should not stand there.
fn flush_mixed(charset: &str, token: &str, out: &mut String) {
    let encoded = token.rsplit('?').nth(1).unwrap_or_default();
    for piece in encoded.split_inclusive(|c: char| !c.is_ascii()) {
        let ascii = piece.trim_end_matches(|c: char| !c.is_ascii());
        flush(Some(EncodedWord { charset, octets: decode_q(ascii.as_bytes()) }), out);
        out.push_str(&piece[ascii.len()..]);
    }
}

/// Takes a whole token apart; `None` when it is no encoded word, or of a charset that is not
/// known.
fn read_word(token: &str) -> Option<EncodedWord<'_>> {
    if word_len(token)? != token.len() {
        return None;
    }
    let mut fields = token.strip_prefix("=?")?.strip_suffix("?=")?.split('?');
    let (charset, encoding, encoded) = (fields.next()?, fields.next()?, fields.next()?);
    // RFC 2231, 5: a language after the charset.
    let charset = charset.split('*').next()?;
    charset::decode_known(b"", charset)?;
    let octets = match encoding {
        "b" | "B" if !encoded.is_ascii() => return None,
        "b" | "B" => transfer::decode(encoded.as_bytes(), Encoding::Base64).into_owned(),
        "q" | "Q" => decode_q(encoded.as_bytes()),
        _ => return None,
    };
    Some(EncodedWord { charset, octets })
}

/// The "Q" encoding (RFC 2047, 4.2).
fn decode_q(encoded: &[u8]) -> Vec<u8> {
    let hex = |byte: &u8| (*byte as char).to_digit(16).map(|value| value as u8);
    let mut out = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'_' => out.push(b' '),
            b'=' => match tail {
                [high, low, after @ ..] if hex(high).is_some() && hex(low).is_some() => {
                    out.push(hex(high).unwrap_or(0) << 4 | hex(low).unwrap_or(0));
                    rest = after;
                }
                _ => out.push(b'='),
            },
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_2047() {
        // RFC 2047, 8.
        for (text, wanted) in [
            ("=?ISO-8859-1?Q?a?=", "a"),
            ("=?ISO-8859-1?Q?a?= b", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a?=  =?ISO-8859-2?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a_b?=", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
            ("=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
            ("=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?= x", "If you can read this yo x"),
        ] {
            assert_eq!(decode_text(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_encoded_word_stays() {
        for text in [
            "a=?utf-8?q?b?=",
            "=?utf-8?q?b?=c",
            "=?utf-8?q?a b?=",
            "=?utf-8?x?a?=",
            "=?utf-8?q?a",
            "=??q?a?=",
            "=?x-unknown?q?a?=",
            "=?utf-8?q?a?b?=",
            "(=?utf-8?q?a?=)",
        ] {
            assert_eq!(decode_text(text), text);
        }
    }

    #[test]
    fn characters_cut_in_two_words_are_joined_and_controls_dropped() {
        assert_eq!(decode_text("=?utf-8?q?=C3?= =?UTF-8?q?=A9?="), "é");
        assert_eq!(decode_text("=?utf-8?b?5pel5pys?=\t=?utf-8?b?6Kqe?= end"), "日本語 end");
        assert_eq!(decode_text("=?utf-8?q?a=00=0D=0Ab=07?="), "ab");
        assert_eq!(decode_text("=?utf-8?q?=FF?="), "\u{fffd}");
        let mixed = "a =?iso-8859-1?q?Fr\u{fffd}_=E9?= =?utf-8?q?=C3=A9?= b";
        assert_eq!(decode_text(mixed), "a Fr\u{fffd} éé b");
    }
}
