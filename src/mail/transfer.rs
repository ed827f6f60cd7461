//! Content transfer encodings undone (RFC 2045, 6.7 and 6.8), and blob ids resolved to octets.
//!
//! Decoders take any octets and never fail: what is not of the encoding is passed over (base64)
//! or kept (quoted-printable). They are linear and never yield more than they were given.

use std::borrow::Cow;

use crate::types::blob_id::{BlobId, Encoding};

/// The octets that `encoded` stands for.
pub fn decode(encoded: &[u8], encoding: Encoding) -> Cow<'_, [u8]> {
    match encoding {
        Encoding::None => Cow::Borrowed(encoded),
        Encoding::Base64 => {
            let mut out = Vec::with_capacity(encoded.len() / 4 * 3 + 3);
            decode_base64(encoded, |byte| out.push(byte));
            Cow::Owned(out)
        }
        Encoding::QuotedPrintable => {
            let mut out = Vec::with_capacity(encoded.len());
            decode_quoted_printable(encoded, |byte| out.push(byte));
            Cow::Owned(out)
        }
    }
}

/// How many octets `decode` would yield, without making them.
pub fn decoded_len(encoded: &[u8], encoding: Encoding) -> u64 {
    let mut count = 0;
    match encoding {
        Encoding::None => count = encoded.len() as u64,
        Encoding::Base64 => decode_base64(encoded, |_| count += 1),
        Encoding::QuotedPrintable => decode_quoted_printable(encoded, |_| count += 1),
    }
    count
}

/// The octets that `id` names, cut from `raw`, the whole object of its hash. `None` when a step
/// reaches outside. The work is bounded by the length of an id: some fifty passes over `raw`.
pub fn cut<'a>(id: &BlobId, raw: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let mut content = Cow::Borrowed(raw);
    for step in id.steps() {
        let start = usize::try_from(step.offset).ok()?;
        let end = start.checked_add(usize::try_from(step.length).ok()?)?;
        content = match content {
            Cow::Borrowed(octets) => decode(octets.get(start..end)?, step.encoding),
            Cow::Owned(octets) => Cow::Owned(decode(octets.get(start..end)?, step.encoding).into_owned()),
        };
    }
    Some(content)
}

/// Values of the base64 alphabet (RFC 2045, 6.8, table 1); 255 for every other octet.
const BASE64_VALUE: [u8; 256] = {
    let mut table = [255; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut value = 0;
    while value < 64 {
        table[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    table
};

fn decode_base64(encoded: &[u8], mut sink: impl FnMut(u8)) {
    let (mut bits, mut digits) = (0u32, 0);
    for byte in encoded {
        let value = BASE64_VALUE[usize::from(*byte)];
        if value == 255 {
            // RFC 2045, 6.8: "=" is the end of the data; what list programs append after it is
            // no base64. Anything else outside the alphabet is ignored.
            if *byte == b'=' && digits >= 2 {
                break;
            }
            continue;
        }
        bits = (bits << 6) | u32::from(value);
        digits += 1;
        if digits == 4 {
            sink((bits >> 16) as u8);
            sink((bits >> 8) as u8);
            sink(bits as u8);
            (bits, digits) = (0, 0);
        }
    }
    match digits {
        2 => sink((bits >> 4) as u8),
        3 => {
            sink((bits >> 10) as u8);
            sink((bits >> 2) as u8);
        }
        _ => {}
    }
}

fn decode_quoted_printable(encoded: &[u8], mut sink: impl FnMut(u8)) {
    let hex = |byte: &u8| (*byte as char).to_digit(16).map(|value| value as u8);
    let mut at = 0;
    while let Some(&byte) = encoded.get(at) {
        match byte {
            b'=' => {
                if let [high, low, ..] = &encoded[at + 1..]
                    && let Some((high, low)) = hex(high).zip(hex(low))
                {
                    sink(high << 4 | low);
                    at += 3;
                    continue;
                }
                let blank = run_of_blanks(encoded, at + 1);
                match encoded.get(blank..).unwrap_or_default() {
                    [] => at = blank,
                    [b'\n', ..] => at = blank + 1,
                    [b'\r', b'\n', ..] => at = blank + 2,
                    _ => {
                        sink(b'=');
                        at += 1;
                    }
                }
            }
            b' ' | b'\t' => {
                let end = run_of_blanks(encoded, at);
                // RFC 2045, 6.7 (3): white space at the end of a line was added on the way.
                if !matches!(encoded.get(end..).unwrap_or_default(), [] | [b'\n', ..] | [b'\r', b'\n', ..]) {
                    encoded[at..end].iter().for_each(|blank| sink(*blank));
                }
                at = end;
            }
            _ => {
                sink(byte);
                at += 1;
            }
        }
    }
}

/// Where the blanks that start at `from` end.
fn run_of_blanks(octets: &[u8], from: usize) -> usize {
    let blanks = octets.get(from..).unwrap_or_default();
    from + blanks.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::blob_id::{BlobHash, Step};

    fn text(encoded: &str, encoding: Encoding) -> String {
        String::from_utf8_lossy(&decode(encoded.as_bytes(), encoding)).into_owned()
    }

    #[test]
    fn base64_as_it_arrives() {
        let decoded = |encoded| text(encoded, Encoding::Base64);
        assert_eq!(decoded("SGVs\r\nbG8="), "Hello");
        assert_eq!(decoded("SGVsbG8"), "Hello");
        assert_eq!(decoded("SG Vs!bG8=\r\n____\r\nA mailing list"), "Hello");
        assert_eq!(decoded("=SGVsbG8h"), "Hello!");
        assert_eq!(decoded("S"), "");
    }

    #[test]
    fn quoted_printable_as_it_arrives() {
        let decoded = |encoded| text(encoded, Encoding::QuotedPrintable);
        assert_eq!(decoded("caf=C3=a9 =3D"), "café =");
        assert_eq!(decoded("one =\r\ntwo= \t\r\nthree=\nfour="), "one twothreefour");
        assert_eq!(decoded("end \t\r\nnext \nlast  "), "end\r\nnext\nlast");
        assert_eq!(decoded("50=% =XY =4"), "50=% =XY =4");
    }

    #[test]
    fn a_chain_is_followed() {
        let raw = b"head\r\nbWlkZGxlIHRhaWw=\r\nend";
        let step = |offset, length, encoding| Step { offset, length, encoding };
        let id = BlobId::whole(BlobHash::of(raw))
            .cut(step(6, 16, Encoding::Base64))
            .and_then(|id| id.cut(step(7, 4, Encoding::None)));
        assert_eq!(id.and_then(|id| cut(&id, raw).map(Cow::into_owned)).as_deref(), Some(&b"tail"[..]));
        let outside = BlobId::whole(BlobHash::of(raw)).cut(step(6, 16, Encoding::Base64));
        let outside = outside.and_then(|id| id.cut(step(7, 6, Encoding::None)));
        assert!(outside.is_some_and(|id| cut(&id, raw).is_none()));
    }

    proptest! {
        #[test]
        fn lengths_agree_and_never_grow(encoded in proptest::collection::vec(any::<u8>(), 0..200)) {
            for encoding in [Encoding::None, Encoding::Base64, Encoding::QuotedPrintable] {
                let decoded = decode(&encoded, encoding);
                prop_assert_eq!(decoded.len() as u64, decoded_len(&encoded, encoding));
                prop_assert!(decoded.len() <= encoded.len());
            }
        }
    }
}
