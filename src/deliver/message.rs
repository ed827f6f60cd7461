//! The octets that go out: line ends, our trace field, 7 bits where the peer wants them, signatures.
//!
//! The order matters: what changes the message comes before the signatures over it.

use std::borrow::Cow;

use bytes::Bytes;
use mail_parser::{DateTime, MessageParser};

use crate::mail::dkim;
use crate::mail::dkim_keys;
use crate::mail::encode_body::Survey;
use crate::mail::field_lines::split_message;
use crate::mail::reencode::{count_received, normalize_line_ends};
use crate::mail::seven_bit::{NotConvertible, needs_conversion, to_seven_bit};
use crate::types::address::Address;
use crate::types::id::Id;

/// The message in CRLF lines and with a trace field of ours. One that came by SMTP has it already;
/// one that a client made over HTTP gets it here, without the client's address.
pub fn with_trace(message: &Bytes, host_name: &str, id: Id, accepted_ms: i64) -> Bytes {
    let lines = match normalize_line_ends(message) {
        Cow::Borrowed(_) => message.clone(),
        Cow::Owned(lines) => lines.into(),
    };
    if count_received(&lines) > 0 {
        return lines;
    }
    let date = DateTime::from_timestamp(accepted_ms.div_euclid(1000)).to_rfc822();
    let field = format!("Received: by {host_name} with HTTP id {id};\r\n\t{date}\r\n");
    [field.as_bytes(), &lines].concat().into()
}

/// The message for a mailbox here: with the envelope's sender above all (RFC 5321, 4.4).
pub fn with_return_path(message: &[u8], mail_from: &str) -> Bytes {
    // A sender was parsed when it came; should it hold a line end all the same, it adds no field.
    let sender = mail_from.replace(char::is_control, "?");
    [format!("Return-Path: <{sender}>\r\n").as_bytes(), message].concat().into()
}

/// The keys that a domain signs with: its name, and their JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer {
    /// In lower-case A-labels.
    pub domain: String,
    /// As the store keeps them.
    pub keys: String,
}

/// The message as a peer gets it, signed by the domain of its author when that is ours.
pub fn for_peer(
    message: &Bytes,
    takes_eight_bit: bool,
    signer: Option<&Signer>,
    now_ms: i64,
) -> Result<Bytes, NotConvertible> {
    let converted: Bytes = if takes_eight_bit {
        let (_, _, body) = split_message(message);
        match Survey::of(body).identity() {
            // Too long lines, or NUL: encoded if that can be done, else left to the peer.
            None => to_seven_bit(message).map_or_else(|_| message.clone(), |done| owned(message, done)),
            Some(_) => message.clone(),
        }
    } else if needs_conversion(message) {
        owned(message, to_seven_bit(message)?)
    } else {
        message.clone()
    };
    let Some(signer) = signer else { return Ok(converted) };
    let signed =
        dkim_keys::load(&signer.domain, &signer.keys).and_then(|keys| dkim::sign(&converted, &keys, now_ms));
    match signed {
        Ok(fields) if fields.is_empty() => Ok(converted),
        Ok(fields) => Ok([fields.as_bytes(), &converted].concat().into()),
        // A message without signature is better than none.
        Err(error) => {
            tracing::error!(domain = signer.domain, %error, "outgoing mail is not signed");
            Ok(converted)
        }
    }
}

fn owned(message: &Bytes, done: Cow<'_, [u8]>) -> Bytes {
    match done {
        Cow::Borrowed(_) => message.clone(),
        Cow::Owned(done) => done.into(),
    }
}

/// The domain of the (first) author, in lower-case A-labels.
pub fn author_domain(message: &[u8]) -> Option<String> {
    let (header, _, _) = split_message(message);
    let parsed = MessageParser::new().parse_headers(header)?;
    let author = parsed.from()?.first()?.address.as_deref()?;
    Address::parse(author).ok().map(|address| address.domain().to_owned())
}

/// Whether the header has octets over 127 (RFC 6531, 3.4).
pub fn has_utf8_header(message: &[u8]) -> bool {
    let (header, _, _) = split_message(message);
    !header.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::dkim::{KeyKind, generate};

    const HTTP: &[u8] = b"From: a@example.test\nSubject: x\n\nbody\rend\n";

    #[test]
    fn a_message_made_over_http_gets_one_trace_field() {
        let made = with_trace(&Bytes::from_static(HTTP), "mail.example.test", Id(1), 1_414_649_520_000);
        let expected = "Received: by mail.example.test with HTTP id aaaaaaaaaaaab;\r\n\t\
                        Thu, 30 Oct 2014 06:12:00 +0000\r\n\
                        From: a@example.test\r\nSubject: x\r\n\r\nbody\r\nend\r\n";
        assert_eq!(String::from_utf8_lossy(&made), expected);
        assert_eq!(with_trace(&made, "other.test", Id(2), 0), made);
    }

    #[test]
    fn the_author_is_read_from_the_header() {
        assert_eq!(
            author_domain(b"From: A <a@B\xc3\xbccher.example>\r\n\r\n").as_deref(),
            Some("xn--bcher-kva.example")
        );
        assert_eq!(author_domain(b"From: nobody\r\n\r\nFrom: a@b.test\r\n"), None);
        assert!(has_utf8_header("Subject: \u{fc}\r\n\r\n".as_bytes()));
        assert!(!has_utf8_header("A: b\r\n\r\n\u{fc}".as_bytes()));
    }

    #[test]
    fn a_peer_that_takes_7_bits_gets_7_bits() {
        let message = Bytes::from("A: b\r\n\r\nK\u{e4}se\r\n".to_owned());
        assert_eq!(for_peer(&message, true, None, 0), Ok(message.clone()));
        let converted = for_peer(&message, false, None, 0).unwrap();
        assert!(converted.is_ascii());
        let partial = Bytes::from("Content-Type: message/partial\r\n\r\nK\u{e4}se\r\n".to_owned());
        assert_eq!(for_peer(&partial, false, None, 0), Err(NotConvertible));
    }

    #[test]
    fn what_is_signed_is_what_the_peer_gets() {
        let keys = dkim_keys::to_json(&[generate(KeyKind::Ed25519, "e1").unwrap()]);
        let signer = Signer { domain: "example.test".to_owned(), keys };
        let message = Bytes::from("From: a@example.test\r\n\r\nK\u{e4}se\r\n".to_owned());
        for takes_eight_bit in [true, false] {
            let unsigned = for_peer(&message, takes_eight_bit, None, 0).unwrap();
            let signed = for_peer(&message, takes_eight_bit, Some(&signer), 0).unwrap();
            // Over other octets than these it would not verify; Ed25519 signs the same twice.
            let keys = dkim_keys::load(&signer.domain, &signer.keys).unwrap();
            let fields = dkim::sign(&unsigned, &keys, 0).unwrap();
            assert!(!fields.is_empty());
            assert_eq!(signed, [fields.as_bytes(), &unsigned].concat(), "takes 8 bits: {takes_eight_bit}");
        }
    }

    #[test]
    fn a_return_path_cannot_add_a_field() {
        let made = with_return_path(b"A: b\r\n\r\n", "a@b\r\nBcc: c");
        assert_eq!(String::from_utf8_lossy(&made), "Return-Path: <a@b??Bcc: c>\r\nA: b\r\n\r\n");
    }
}
