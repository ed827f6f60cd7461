//! Changes to a finished message on its way: line ends, fields put before it or taken out of it.
//! Everything that is not named by a function stays as it was, byte for byte. Each function reads
//! the message once.
//!
//! Making a message fit for peers without 8BITMIME is in `seven_bit`.

use std::borrow::Cow;
use std::fmt;

use crate::mail::field_lines::{Field, fields, split_message};
use crate::types::address::normalize_domain;

/// Why a field cannot be put before a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IllegalField(pub String);

impl fmt::Display for IllegalField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the header field {:?} has an illegal name or value", self.0)
    }
}

impl std::error::Error for IllegalField {}

/// A CR or LF that stands alone becomes CRLF (RFC 5321, 2.3.8).
pub fn normalize_line_ends(message: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = first_bare_line_end(message) else {
        return Cow::Borrowed(message);
    };
    let (clean, rest) = message.split_at(first);
    let mut out = Vec::with_capacity(message.len() + message.len() / 32 + 16);
    out.extend_from_slice(clean);
    let mut bytes = rest.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            byte => out.push(byte),
        }
    }
    Cow::Owned(out)
}

/// Where the first CR without LF, or LF without CR, stands.
fn first_bare_line_end(text: &[u8]) -> Option<usize> {
    let mut after_cr = false;
    for (at, byte) in text.iter().enumerate() {
        match (after_cr, byte) {
            (true, b'\n') => after_cr = false,
            (true, _) => return Some(at - 1),
            (false, b'\n') => return Some(at),
            (false, byte) => after_cr = *byte == b'\r',
        }
    }
    after_cr.then(|| text.len() - 1)
}

/// The message without its `Bcc` and `Resent-Bcc` fields.
pub fn remove_bcc(message: &[u8]) -> Cow<'_, [u8]> {
    remove_fields(message, |field| field.is("Bcc") || field.is("Resent-Bcc"))
}

/// The message without `Authentication-Results` fields that claim to come from `authserv_id`
/// (RFC 8601, 5). A field whose identifier cannot be read is removed too, since a reader might
/// still take it for ours.
pub fn remove_authentication_results<'a>(message: &'a [u8], authserv_id: &str) -> Cow<'a, [u8]> {
    let ours = comparable(authserv_id);
    remove_fields(message, |field| {
        field.is("Authentication-Results")
            && read_authserv_id(field.value).is_none_or(|theirs| comparable(&theirs) == ours)
    })
}

/// The message without `Return-Path` fields: the server that delivers writes the only one (RFC 5321,
/// 4.4).
pub fn remove_return_path(message: &[u8]) -> Cow<'_, [u8]> {
    remove_fields(message, |field| field.is("Return-Path"))
}

/// How many `Received` fields the message has: hops, for finding loops (RFC 5321, 6.3).
pub fn count_received(message: &[u8]) -> usize {
    fields(message).filter(|field| field.is("Received")).count()
}

/// The message with fields put before it, in the order given. A value may be folded, but each
/// line end in it must be CRLF followed by white space.
pub fn prepend(message: &[u8], new_fields: &[(&str, &str)]) -> Result<Vec<u8>, IllegalField> {
    let mut out = Vec::with_capacity(message.len() + 64 * new_fields.len() + 256);
    for (name, value) in new_fields {
        if !is_field_name(name) || !is_folded_value(value) {
            return Err(IllegalField((*name).to_owned()));
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.trim_start_matches(' ').as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(message);
    Ok(out)
}

/// Whether this can name a header field: printable ASCII without colon (RFC 5322, 2.2), of at most
/// 255 characters.
pub fn is_field_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// Whether a value may stand in a header as it is: no NUL, and no line end but folds, each followed
/// by a line that is not all white space (RFC 5322, 2.2.3 and 3.2.2).
pub fn is_folded_value(value: &str) -> bool {
    let mut lines = value.split("\r\n");
    let legal = |line: &str| !line.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let first_is_legal = lines.next().is_some_and(legal);
    first_is_legal
        && lines.all(|line| {
            legal(line) && line.starts_with([' ', '\t']) && !line.trim_matches([' ', '\t']).is_empty()
        })
}

fn remove_fields<'a>(message: &'a [u8], is_removed: impl Fn(&Field<'a>) -> bool) -> Cow<'a, [u8]> {
    let (header, line, body) = split_message(message);
    if !fields(header).any(|field| is_removed(&field)) {
        return Cow::Borrowed(message);
    }
    let mut out = Vec::with_capacity(message.len());
    for field in fields(header).filter(|field| !is_removed(field)) {
        out.extend_from_slice(field.raw);
    }
    out.extend_from_slice(line);
    out.extend_from_slice(body);
    Cow::Owned(out)
}

fn comparable(host: &str) -> String {
    normalize_domain(host).unwrap_or_else(|| host.trim_end_matches('.').to_ascii_lowercase())
}

/// The identifier at the start of an `Authentication-Results` value: `[CFWS] authserv-id`, a token
/// or a quoted string (RFC 8601, 2.2).
fn read_authserv_id(value: &[u8]) -> Option<String> {
    let mut bytes = value.iter().copied().peekable();
    let mut comment_depth = 0_usize;
    let mut id = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if comment_depth > 0 => {
                bytes.next();
            }
            b'(' => {
                if !id.is_empty() && comment_depth == 0 {
                    break;
                }
                comment_depth += 1;
            }
            b')' => comment_depth = comment_depth.checked_sub(1)?,
            _ if comment_depth > 0 => {}
            b'"' if id.is_empty() => {
                loop {
                    match bytes.next()? {
                        b'"' => break,
                        b'\\' => id.push(bytes.next()?),
                        b'\r' | b'\n' => {}
                        byte => id.push(byte),
                    }
                }
                break;
            }
            b' ' | b'\t' | b'\r' | b'\n' if id.is_empty() => {}
            b' ' | b'\t' | b'\r' | b'\n' | b';' => break,
            byte => id.push(byte),
        }
    }
    let id = String::from_utf8(id).ok()?;
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lone_line_ends_become_crlf() {
        assert_eq!(&*normalize_line_ends(b"a\nb\rc\r\nd\r\r\ne\r"), b"a\r\nb\r\nc\r\nd\r\n\r\ne\r\n");
        assert!(matches!(normalize_line_ends(b"a\r\n\r\nb"), Cow::Borrowed(_)));
    }

    #[test]
    fn bcc_is_removed_with_its_folds_and_nothing_else() {
        let message =
            b"To: a@x\r\nBCC: b@x,\r\n c@x\r\nBcc-Note: stays\r\nbcc : d@x\r\n\r\nBcc: in the body\r\n";
        assert_eq!(&*remove_bcc(message), b"To: a@x\r\nBcc-Note: stays\r\n\r\nBcc: in the body\r\n");
    }

    #[test]
    fn results_that_claim_our_name_are_removed() {
        let ours = [
            "Authentication-Results: mx.example.test; spf=pass\r\n",
            "authentication-results:\r\n\t(a (nested\\) ) comment) MX.Example.TEST. 1;\r\n dkim=pass\r\n",
            "Authentication-Results: \"mx.example.test\"; none\r\n",
            "Authentication-Results : mx.example.test(c); none\r\n",
            "Authentication-Results: (unclosed\r\n",
        ];
        for field in ours {
            let message = format!("A: 1\r\n{field}B: 2\r\n\r\nbody");
            let kept = remove_authentication_results(message.as_bytes(), "mx.example.test");
            assert_eq!(String::from_utf8_lossy(&kept), "A: 1\r\nB: 2\r\n\r\nbody", "{field}");
        }
        let foreign = b"Authentication-Results: other.test; spf=pass\r\n (mx.example.test)\r\n\r\n";
        assert_eq!(&*remove_authentication_results(foreign, "mx.example.test"), foreign);
    }

    #[test]
    fn hops_are_counted_in_the_header_only() {
        assert_eq!(count_received(b"Received: a\r\nX: y\r\nRECEIVED:\r\n b\r\n\r\nReceived: no\r\n"), 2);
    }

    #[test]
    fn prepended_fields_cannot_smuggle_others() {
        let prepended =
            prepend(b"A: 1\r\n\r\n", &[("Return-Path", "<a@x>"), ("Received", "from a\r\n\tby b")]);
        assert_eq!(
            prepended.as_deref(),
            Ok(&b"Return-Path: <a@x>\r\nReceived: from a\r\n\tby b\r\nA: 1\r\n\r\n"[..])
        );
        for value in ["a\r\nBcc: x", "a\nb", "a\r b", "a\0b", "a\r\n ", "a\r\n\r\n b"] {
            assert_eq!(prepend(b"", &[("X", value)]), Err(IllegalField("X".to_owned())), "{value:?}");
        }
        assert!(prepend(b"", &[("X:Y", "a")]).is_err());
    }

    proptest! {
        #[test]
        fn normalized_text_has_no_lone_line_ends(text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..40)) {
            let normal = normalize_line_ends(&text).into_owned();
            prop_assert_eq!(first_bare_line_end(&normal), None);
            let letters = |text: &[u8]| text.iter().filter(|byte| **byte == b'a').count();
            prop_assert_eq!(letters(&normal), letters(&text));
        }

        #[test]
        fn any_bytes_are_survived(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            remove_bcc(&message);
            remove_authentication_results(&message, "mx.example.test");
            count_received(&message);
        }
    }
}
