//! The content of parts: octets for download, text for bodyValues (RFC 8621, 4.1.4 and 4.2).

use std::borrow::Cow;

use serde::Serialize;

use crate::mail::charset::{self, Decoded};
use crate::mail::html;
use crate::mail::structure::{Part, slice};
use crate::mail::transfer;

/// Octets of an HTML document in which its own word on its charset is looked for.
const META_WITHIN: usize = 2_048;

/// An EmailBodyValue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyValue {
    /// The text, line ends as LF, without NUL.
    pub value: String,
    /// Octets were not of the charset, or the charset or transfer encoding is not known.
    pub is_encoding_problem: bool,
    /// Cut to the octets that were asked for.
    pub is_truncated: bool,
}

/// The part's octets after transfer decoding, as its blob id names them.
pub fn octets<'a>(raw: &'a [u8], part: &Part) -> Cow<'a, [u8]> {
    transfer::decode(slice(raw, part.body), part.encoding)
}

/// The text of a part, whole.
pub fn text(raw: &[u8], part: &Part) -> Decoded {
    decode_text(&octets(raw, part), part)
}

/// The text of the first `most` encoded octets of a part.
pub fn text_start(raw: &[u8], part: &Part, most: usize) -> Decoded {
    let body = slice(raw, part.body);
    let start = body.get(..most).unwrap_or(body);
    decode_text(&transfer::decode(start, part.encoding), part)
}

fn decode_text(octets: &[u8], part: &Part) -> Decoded {
    let given = part.charset.as_deref().filter(|_| part.has_charset);
    let from_html = || {
        let is_needed = part.media_type == "text/html" && std::str::from_utf8(octets).is_err();
        is_needed.then(|| meta_charset(octets)).flatten()
    };
    let label = given.map(str::to_owned).or_else(from_html);
    let mut decoded = charset::decode(octets, label.as_deref());
    if decoded.text.contains('\r') {
        decoded.text = decoded.text.replace("\r\n", "\n");
    }
    decoded.is_problem |= part.is_encoding_unknown;
    decoded
}

/// What an HTML document says of its charset: `charset=…` near its start.
fn meta_charset(octets: &[u8]) -> Option<String> {
    let start = octets.get(..META_WITHIN).unwrap_or(octets);
    let start = String::from_utf8_lossy(start).to_ascii_lowercase();
    let (_, value) = start.split_once("charset=")?;
    let value = value.trim_start_matches(['"', '\'', ' ']);
    let end = value.find(|c: char| !c.is_ascii_alphanumeric() && !"-_:.".contains(c)).unwrap_or(value.len());
    Some(value[..end].to_owned()).filter(|label| !label.is_empty())
}

/// The value of a text part. `max_bytes` (0: no limit) is counted in octets of UTF-8; the cut is
/// never inside a character, and for HTML not inside a tag (RFC 8621, 4.2).
pub fn value(raw: &[u8], part: &Part, max_bytes: usize) -> BodyValue {
    let Decoded { text: mut value, is_problem } = text(raw, part);
    let is_truncated = max_bytes > 0 && value.len() > max_bytes;
    if is_truncated {
        let end = match part.media_type.as_str() {
            "text/html" => html::prefix_len(&value, max_bytes),
            _ => value.floor_char_boundary(max_bytes),
        };
        value.truncate(end);
    }
    BodyValue { value, is_encoding_problem: is_problem, is_truncated }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::scan::scan;

    fn value_of(header: &str, body: &[u8], max_bytes: usize) -> BodyValue {
        let raw = [header.as_bytes(), b"\r\n\r\n", body].concat();
        let structure = scan(&raw);
        value(&raw, &structure.parts[0], max_bytes)
    }

    fn good(value: &str) -> BodyValue {
        BodyValue { value: value.into(), is_encoding_problem: false, is_truncated: false }
    }

    #[test]
    fn text_is_decoded_with_line_feeds() {
        assert_eq!(value_of("A: b", b"one\r\ntwo\n\0", 0), good("one\ntwo\n"));
        let header =
            "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable";
        assert_eq!(value_of(header, b"caf=E9=\r\n!", 0), good("café!"));
        let html = "Content-Type: text/html";
        assert_eq!(value_of(html, b"<meta charset=\"koi8-r\">\xf0", 0), good("<meta charset=\"koi8-r\">П"));
    }

    #[test]
    fn problems_are_told() {
        let problem = |value: &str| BodyValue { is_encoding_problem: true, ..good(value) };
        assert_eq!(value_of("Content-Type: text/plain; charset=utf-8", b"a\xff", 0), problem("a\u{fffd}"));
        assert_eq!(value_of("Content-Type: text/plain; charset=x-odd", b"a", 0), problem("a"));
        assert_eq!(value_of("Content-Transfer-Encoding: x-odd", b"a", 0), problem("a"));
    }

    #[test]
    fn values_are_cut_at_characters() {
        let cut = |value: &str| BodyValue { is_truncated: true, ..good(value) };
        assert_eq!(value_of("A: b", "aéé".as_bytes(), 4), cut("aé"));
        assert_eq!(value_of("A: b", "aéé".as_bytes(), 5), good("aéé"));
        assert_eq!(value_of("Content-Type: text/html", b"ab<b>c</b>", 4), cut("ab"));
    }
}
