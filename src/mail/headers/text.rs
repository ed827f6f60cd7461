//! The Text form (RFC 8621, 4.1.2.2).

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::mail::encoded_word;
use crate::mail::fields::unfolded;

/// Unfolded, encoded words decoded, in NFC, without leading white space.
pub fn as_text(value: &[u8]) -> String {
    let text = unfolded(value);
    nfc(encoded_word::decode_text(text.trim_start_matches([' ', '\t'])))
}

/// The text in Normalization Form C.
pub fn nfc(text: String) -> String {
    if text.is_ascii() || is_nfc(&text) { text } else { text.nfc().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_unfolded_decoded_and_composed() {
        assert_eq!(as_text(b"  plain text "), "plain text ");
        assert_eq!(as_text(b" one\r\n two\r\n\tthree"), "one two\tthree");
        assert_eq!(as_text(b" =?utf-8?q?caf=C3=A9?=\r\n =?utf-8?q?_bar?="), "café bar");
        assert_eq!(as_text("e\u{301}".as_bytes()), "é");
        assert_eq!(as_text(b"=?utf-8?q?e=CC=81?="), "é");
        assert_eq!(as_text(b" a\0\xff"), "a\u{fffd}");
    }
}
