//! The encodings of DSN parameter values: xtext (RFC 3461, 4) and utf-8-addr-xtext (RFC 6533, 3).

/// Decodes xtext: `+41` is `A`, all other characters from `!` to `~` but `+` and `=` are
/// themselves. `None` for anything else, and where the result is no printable UTF-8.
pub fn decode_xtext(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => {
                let (high, low) = (upper_hex(bytes.next()?)?, upper_hex(bytes.next()?)?);
                out.push(high << 4 | low);
            }
            b'=' => return None,
            b'!'..=b'~' => out.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Encodes as xtext.
pub fn encode_xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => out.push(char::from(byte)),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

/// Decodes utf-8-addr-xtext or utf-8-addr-unitext: `\x{E9}` is `é`, all others are themselves.
pub fn decode_utf8_address(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (hex, tail) = after.strip_prefix("x{")?.split_once('}')?;
        if !(2..=6).contains(&hex.len()) || !hex.bytes().all(|byte| upper_hex(byte).is_some()) {
            return None;
        }
        out.push(u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?);
        rest = tail;
    }
    out.push_str(rest);
    let legal = !text.bytes().any(|byte| byte <= b' ' || byte == b'+' || byte == b'=' || byte == 0x7f);
    (legal && !out.chars().any(char::is_control)).then_some(out)
}

/// Encodes as utf-8-addr-xtext, which is ASCII.
pub fn encode_utf8_address(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '!'..='~' if !"+=\\".contains(c) => out.push(c),
            _ => out.push_str(&format!("\\x{{{:02X}}}", c as u32)),
        }
    }
    out
}

/// RFC 3461, 4: hexadecimal digits are upper-case.
fn upper_hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn xtext_is_decoded_strictly() {
        assert_eq!(decode_xtext("a+2Bb+3D").as_deref(), Some("a+b="));
        for wrong in ["a+2", "a+", "a+2b", "a=b", "a b", "a\u{e9}", "+0D+0A", "+FF"] {
            assert_eq!(decode_xtext(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn utf8_addresses_are_decoded_strictly() {
        assert_eq!(decode_utf8_address("j\\x{E9}@x.test").as_deref(), Some("j\u{e9}@x.test"));
        assert_eq!(decode_utf8_address("j\u{e9}@x.test").as_deref(), Some("j\u{e9}@x.test"));
        for wrong in ["\\x{E}", "\\x{D800}", "\\x{110000}", "\\x{E9", "\\E9", "a b", "a=b", "\\x{0A}"] {
            assert_eq!(decode_utf8_address(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(text in "[^\\p{Cc}]{0,40}") {
            let decoded = decode_xtext(&encode_xtext(&text));
            prop_assert_eq!(decoded.as_deref(), Some(&*text));
            let decoded = decode_utf8_address(&encode_utf8_address(&text));
            prop_assert_eq!(decoded.as_deref(), Some(&*text));
        }
    }
}
