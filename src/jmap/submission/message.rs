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
