//! The message that a submission sends: the Email's octets without Bcc and with what a message must
//! have, and what its header says of authors and recipients (RFC 8621, 7.5; RFC 6409, 8).

use std::borrow::Cow;

use crate::jmap::error::SetError;
use crate::mail::compose::{HeaderValue, write_header};
use crate::mail::dsn;
use crate::mail::field_lines::{Field, fields, split_message};
use crate::mail::header_text::ZonedDate;
use crate::mail::headers::addresses::as_addresses;
use crate::mail::reencode::normalize_line_ends;
use crate::types::address::Address;

/// Fields that do not leave: Bcc (RFC 8621, 7.5), and what only the last server writes (RFC 5321,
/// 4.4).
const REMOVED: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];

/// What the header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Addresses of each From field.
    pub from: Vec<Vec<String>>,
    /// Addresses of each Sender field.
    pub sender: Vec<Vec<String>>,
    /// Addresses of all To, Cc and Bcc fields.
    pub recipients: Vec<String>,
    /// The Message-ID with which it leaves, without angle brackets.
    pub message_id: String,
    /// Its subject, decoded and cut.
    pub subject: Option<String>,
    /// Whether what leaves of it is ASCII.
    pub is_ascii: bool,
}

/// What is added to a message that lacks it.
#[derive(Clone, Debug)]
pub struct Missing {
    /// The time for Date, in milliseconds since 1970.
    pub now_ms: i64,
    /// The Message-ID, without angle brackets.
    pub message_id: String,
}

/// The message as it leaves, borrowed when that is how it is stored, and its header.
pub fn outgoing<'a>(raw: &'a [u8], missing: &Missing) -> (Cow<'a, [u8]>, Header) {
    // Before anything is read: a lone CR must not hide a field that it later sets free.
    let message = normalize_line_ends(raw);
    let (lines, _, _) = split_message(&message);
    let header = read_header(lines, missing);
    let is_removed = |field: &Field<'_>| REMOVED.iter().any(|name| field.is(name));
    let lacks = |name: &str| !fields(lines).any(|field| field.is(name));
    let (lacks_date, lacks_id) = (lacks("Date"), lacks("Message-ID"));
    if !lacks_date && !lacks_id && !fields(lines).any(|field| is_removed(&field)) {
        return (message, header);
    }
    let mut out = Vec::with_capacity(message.len() + 200);
    if lacks_date {
        let now = ZonedDate { ms: missing.now_ms, offset_minutes: 0 };
        write_header(&mut out, "Date", &HeaderValue::Date(now));
    }
    if lacks_id {
        write_header(&mut out, "Message-ID", &HeaderValue::MessageIds(vec![missing.message_id.clone()]));
    }
    let kept = fields(lines).filter(|field| !is_removed(field));
    kept.for_each(|field| out.extend_from_slice(field.raw));
    out.extend_from_slice(message.get(lines.len()..).unwrap_or_default());
    (Cow::Owned(out), header)
}

fn read_header(lines: &[u8], missing: &Missing) -> Header {
    let mut header = Header { is_ascii: true, ..Header::default() };
    let emails = |field: &Field<'_>| as_addresses(field.value).into_iter().map(|address| address.email);
    for field in fields(lines) {
        if field.is("From") {
            header.from.push(emails(&field).collect());
        } else if field.is("Sender") {
            header.sender.push(emails(&field).collect());
        } else if field.is("To") || field.is("Cc") || field.is("Bcc") {
            header.recipients.extend(emails(&field));
        }
        header.is_ascii &= field.raw.is_ascii() || REMOVED.iter().any(|name| field.is(name));
    }
    header.subject = dsn::original_subject(lines);
    header.message_id = dsn::message_id(lines).unwrap_or_else(|| missing.message_id.clone());
    header
}

impl Header {
    /// The authors, when the message can be sent at all (RFC 5322, 3.6.2); `needs_one_sender` says
    /// that a return address must be found in it (RFC 8621, 7: envelope).
    pub fn authors(&self, needs_one_sender: bool) -> Result<Vec<Address>, SetError> {
        let mut invalid = Vec::new();
        let authors: Option<Vec<Address>> = match self.from.as_slice() {
            [from] if !from.is_empty() => from.iter().map(|email| Address::parse(email).ok()).collect(),
            _ => None,
        };
        if authors.is_none() || (needs_one_sender && authors.as_ref().is_some_and(|list| list.len() > 1)) {
            invalid.push("from".to_owned());
        }
        let is_sender_valid = match self.sender.as_slice() {
            [] => true,
            [sender] => matches!(sender.as_slice(), [email] if Address::parse(email).is_ok()),
            _ => false,
        };
        if !is_sender_valid {
            invalid.push("sender".to_owned());
        }
        match authors {
            Some(authors) if invalid.is_empty() => Ok(authors),
            _ => {
                let text = "a message is sent with one From field, and at most one address in Sender";
                let mut error = SetError::new("invalidEmail").because(text);
                error.properties = invalid;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn missing() -> Missing {
        Missing { now_ms: 1_414_649_520_000, message_id: "new@mx.test".to_owned() }
    }

    fn sent(raw: &str) -> (String, Header) {
        let (octets, header) = outgoing(raw.as_bytes(), &missing());
        (String::from_utf8_lossy(&octets).into_owned(), header)
    }

    #[test]
    fn bcc_stays_behind_but_its_addresses_count() {
        let raw = "Return-Path: <x@y>\r\nDate: d\r\nMessage-ID: <m@x>\r\nFrom: A <a@x.test>\r\nTo: b@x.test,\r\n \
                   C <c@x.test>\r\nbcc : secret@x.test\r\n\t, other@x.test\r\nCC: Team: d@x.test;\r\n\
                   Resent-Bcc: e@x.test\r\n\r\nBcc: body\r\n\u{e9}";
        let (text, header) = sent(raw);
        let expected = "Date: d\r\nMessage-ID: <m@x>\r\nFrom: A <a@x.test>\r\nTo: b@x.test,\r\n C <c@x.test>\r\n\
                        CC: Team: d@x.test;\r\n\r\nBcc: body\r\n\u{e9}";
        assert_eq!(text, expected);
        let recipients = ["b@x.test", "c@x.test", "secret@x.test", "other@x.test", "d@x.test"];
        assert_eq!(header.recipients, recipients);
        assert_eq!((header.message_id.as_str(), header.is_ascii), ("m@x", true));
    }

    #[test]
    fn what_is_complete_is_not_copied() {
        let raw = b"Date: d\r\nMessage-ID: <m@x>\r\nFrom: a@x.test\r\n\r\nbody";
        assert!(matches!(outgoing(raw, &missing()).0, Cow::Borrowed(_)));
    }

    #[test]
    fn date_and_message_id_are_added() {
        let (text, header) = sent("From: a@x.test\r\n\r\nbody");
        let expected = "Date: Thu, 30 Oct 2014 06:12:00 +0000\r\nMessage-ID: <new@mx.test>\r\n\
                        From: a@x.test\r\n\r\nbody";
        assert_eq!(text, expected);
        assert_eq!(header.message_id, "new@mx.test");
    }

    #[test]
    fn a_lone_line_end_hides_no_field() {
        let (text, header) =
            sent("Date: d\r\nMessage-ID: <m@x>\r\nFrom: a@x.test\rBcc: secret@x.test\nX: y\r\n\r\n");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(header.recipients, ["secret@x.test"]);
        let (_, header) = sent("From: a@x.test\r\nSubject: x\rFrom: b@x.test\r\n\r\n");
        assert_eq!(header.from.len(), 2);
    }

    #[test]
    fn authors_must_be_clear() {
        let invalid = |raw: &str, needs_one_sender| match sent(raw).1.authors(needs_one_sender) {
            Ok(_) => Vec::new(),
            Err(error) => {
                assert_eq!(error.kind, "invalidEmail");
                error.properties.clone()
            }
        };
        let none: [&str; 0] = [];
        assert_eq!(invalid("From: a@x.test\r\n\r\n", true), none);
        assert_eq!(invalid("From: a@x.test, b@x.test\r\nSender: b@x.test\r\n\r\n", false), none);
        assert_eq!(invalid("From: a@x.test, b@x.test\r\n\r\n", true), ["from"]);
        assert_eq!(invalid("Subject: x\r\n\r\n", false), ["from"]);
        assert_eq!(invalid("From: \r\n\r\n", false), ["from"]);
        assert_eq!(invalid("From: nobody\r\n\r\n", false), ["from"]);
        assert_eq!(invalid("From: a@x.test\r\nfrom: a@x.test\r\n\r\n", false), ["from"]);
        assert_eq!(invalid("From: a@x.test\r\nSender: a@x.test, b@x.test\r\n\r\n", false), ["sender"]);
        assert_eq!(invalid("Sender: \r\nFrom: x\r\nSender: y\r\n\r\n", true), ["from", "sender"]);
    }

    proptest! {
        /// Whatever the octets, no Bcc leaves, nothing else is lost, and doing it again does nothing.
        #[test]
        fn any_message_leaves_without_bcc(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("Bcc: s@x.test\r\n"), Just("bCC : s@x.test\n"), Just(" folded\r\n"), Just("To: b@x.test\r"),
                    Just("From: a@x.test\r\n"), Just("Date: d\r\n"), Just("no field\r\n"), Just("\r\n"), Just("body"),
                ],
                0..12,
            ),
        ) {
            let raw = lines.concat();
            let (once, header) = outgoing(raw.as_bytes(), &missing());
            prop_assert!(!fields(&once).any(|field| field.is("Bcc")));
            prop_assert!(fields(&once).any(|field| field.is("Date")) || once.is_empty());
            let (twice, again) = outgoing(&once, &missing());
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(header.from, again.from);
        }
    }
}
