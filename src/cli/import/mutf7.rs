//! Modified UTF-7, in which IMAP servers write the names of folders (RFC 3501, 5.1.3).

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// The name in plain text; one that is no modified UTF-7 stays as it is.
pub fn decode(name: &str) -> String {
    try_decode(name).unwrap_or_else(|| name.to_owned())
}

fn try_decode(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, encoded)) = rest.split_once('&') {
        out.push_str(plain);
        let (encoded, after) = encoded.split_once('-')?;
        if encoded.is_empty() {
            out.push('&');
        } else {
            let octets = BASE64.decode(encoded).ok()?;
            let units: Vec<u16> = octets
                .chunks_exact(2)
                .filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)))
                .collect();
            out.push_str(&String::from_utf16(&units).ok()?);
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded() {
        for (name, plain) in [
            ("Sent", "Sent"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("&ZeVnLIqe-", "日本語"),
            ("a &- b", "a & b"),
            ("&2D3eAA-", "😀"),
            ("R&D", "R&D"),
            ("Bücher", "Bücher"),
        ] {
            assert_eq!(decode(name), plain);
        }
    }
}
