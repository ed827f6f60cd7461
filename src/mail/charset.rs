//! Octets to Unicode: the charsets that mail is written in.

use std::borrow::Cow;

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16LE, WINDOWS_1252};
use mail_parser::decoders::charsets::map::charset_decoder;

use crate::mail::transfer;
use crate::types::blob_id::Encoding as TransferEncoding;

/// Text and whether its octets kept their promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// Without NUL.
    pub text: String,
    /// The charset is not known, or some octets are not of it.
    pub is_problem: bool,
}

enum Charset {
    /// ASCII, whose eighth bit is anyone's guess.
    Ascii,
    Standard(&'static Encoding),
    /// UTF-7 (RFC 2152), which the web has given up but old mail has not.
    Utf7,
    /// Others of the kind: code pages of DOS.
    Legacy(fn(&[u8]) -> String),
}

/// Names that mail uses and the web's list of labels lacks.
const ALIASES: [(&str, &str); 12] = [
    ("cp932", "shift_jis"),
    ("cp936", "gbk"),
    ("cp949", "euc-kr"),
    ("cp950", "big5"),
    ("cp65001", "utf-8"),
    ("utf_8", "utf-8"),
    ("iso_8859_1", "iso-8859-1"),
    ("iso8859_1", "iso-8859-1"),
    ("latin-1", "iso-8859-1"),
    ("8859-1", "iso-8859-1"),
    ("windows1252", "windows-1252"),
    ("ansi_x3.110-1983", "iso-8859-1"),
];

fn charset(label: &str) -> Option<Charset> {
    let label = label.trim().trim_matches(['"', '\'']);
    // No charset has a longer name; the tables below need no more.
    if label.is_empty() || label.len() > 40 {
        return None;
    }
    let label = label.to_ascii_lowercase();
    if matches!(label.as_str(), "us-ascii" | "ascii" | "ansi_x3.4-1968" | "iso646-us" | "us") {
        return Some(Charset::Ascii);
    }
    if matches!(label.as_str(), "utf-7" | "utf7" | "unicode-1-1-utf-7" | "csutf7") {
        return Some(Charset::Utf7);
    }
    let label = ALIASES.iter().find(|(alias, _)| *alias == label).map_or(label.as_str(), |(_, known)| known);
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding != REPLACEMENT => Some(Charset::Standard(encoding)),
        // Charsets for which no decoder exists: decoding would lose all of the text.
        Some(_) => None,
        None => charset_decoder(label.as_bytes()).map(Charset::Legacy),
    }
}

/// Decodes by the charset of that name; `None` when it is not known. Octets that are not of the
/// charset become U+FFFD.
pub fn decode_known(octets: &[u8], label: &str) -> Option<Decoded> {
    Some(match charset(label)? {
        Charset::Ascii if octets.is_ascii() => finish(String::from_utf8_lossy(octets), false),
        Charset::Ascii => guess(octets, true),
        Charset::Standard(encoding) => {
            // Only the label "utf-16" leaves the order of octets to a mark; elsewhere a mark is one
            // of this charset or text like any other.
            let (text, had_errors) = if encoding == UTF_16LE {
                let (text, _, had_errors) = encoding.decode(octets);
                (text, had_errors)
            } else {
                encoding.decode_with_bom_removal(octets)
            };
            finish(text, had_errors)
        }
        Charset::Utf7 => decode_utf7(octets),
        Charset::Legacy(decoder) => {
            let text = decoder(octets);
            let is_problem = text.contains(char::REPLACEMENT_CHARACTER);
            finish(Cow::Owned(text), is_problem)
        }
    })
}

/// RFC 2152: runs of base64 between `+` and the first octet outside the alphabet hold UTF-16.
fn decode_utf7(octets: &[u8]) -> Decoded {
    let mut text = String::with_capacity(octets.len());
    let mut is_problem = false;
    let mut rest = octets;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'+' {
            is_problem |= !byte.is_ascii();
            text.push(if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER });
            continue;
        }
        let is_shifted = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let run = rest.iter().take_while(|byte| is_shifted(byte)).count();
        let (shifted, tail) = rest.split_at(run);
        rest = tail.strip_prefix(b"-").unwrap_or(tail);
        if run == 0 {
            text.push('+');
            continue;
        }
        let bytes = transfer::decode(shifted, TransferEncoding::Base64);
        let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        for unit in char::decode_utf16(units) {
            is_problem |= unit.is_err();
            text.push(unit.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
    finish(Cow::Owned(text), is_problem)
}

/// Decodes the octets of a text part. Without a charset, or with one that is not known, UTF-8 is
/// tried and then windows-1252, in which old mail without a charset mostly is (RFC 8621, 4.1.4
/// allows the guess).
pub fn decode(octets: &[u8], label: Option<&str>) -> Decoded {
    match label {
        Some(label) => decode_known(octets, label).unwrap_or_else(|| guess(octets, true)),
        None => guess(octets, false),
    }
}

fn guess(octets: &[u8], is_problem: bool) -> Decoded {
    match std::str::from_utf8(octets) {
        Ok(_) => finish(UTF_8.decode(octets).0, is_problem),
        Err(_) => finish(WINDOWS_1252.decode_without_bom_handling(octets).0, true),
    }
}

fn finish(text: Cow<'_, str>, is_problem: bool) -> Decoded {
    Decoded { text: without_nul(text), is_problem }
}

/// The text without NUL, which the store refuses and RFC 8621, 4.1.2.1 wants dropped.
pub fn without_nul(text: Cow<'_, str>) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_of_mail() {
        for (label, octets, wanted) in [
            ("utf-8", "héé".as_bytes(), "héé"),
            ("\"UTF8\"", "héé".as_bytes(), "héé"),
            ("ISO-8859-1", b"caf\xe9", "café"),
            ("iso-8859-15", b"\xa4", "€"),
            ("koi8-r", b"\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"),
            ("cp932", b"\x83n\x83\x8D\x81[", "ハロー"),
            ("iso-2022-jp", b"\x1b$B%O%m!<\x1b(B", "ハロー"),
            ("gb2312", b"\xc4\xe3\xba\xc3", "你好"),
            ("big5", b"\xa7A\xa6n", "你好"),
            ("ks_c_5601-1987", b"\xbe\xc8\xb3\xe7", "안녕"),
            ("utf-7", b"Hi +Jjo-! 1 +- 1 +AKM.+AKM, x +AKM y", "Hi ☺! 1 + 1 £.£, x £ y"),
            ("cp850", b"\x9b", "ø"),
            ("utf-16", b"\xfe\xff\x00a\x00b", "ab"),
            ("utf-8", b"\xef\xbb\xbfab", "ab"),
        ] {
            assert_eq!(
                decode(octets, Some(label)),
                Decoded { text: wanted.into(), is_problem: false },
                "{label}"
            );
        }
    }

    #[test]
    fn broken_promises_are_told() {
        for (label, octets, wanted) in [
            (Some("utf-8"), &b"a\xffb"[..], "a\u{fffd}b"),
            (Some("utf-8"), b"\xff\xfeab", "\u{fffd}\u{fffd}ab"),
            (Some("x-nowhere"), "é".as_bytes(), "é"),
            (Some("us-ascii"), "é".as_bytes(), "é"),
            (Some("iso-2022-kr"), b"abc", "abc"),
            (None, b"caf\xe9", "café"),
        ] {
            assert_eq!(decode(octets, label), Decoded { text: wanted.into(), is_problem: true }, "{label:?}");
        }
        assert_eq!(decode("é\0".as_bytes(), None), Decoded { text: "é".into(), is_problem: false });
    }
}
