//! Recognising a delivery status notification that comes back (RFC 3464), and what it says: which
//! message it is about, and what became of each recipient.
//!
//! Anyone can send such a message: what it says is a claim. Work is linear and everything that is
//! kept is bounded.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;

use crate::mail::dsn::message_id;
use crate::mail::entity_header::{Declared, read_entity};
use crate::mail::field_lines::{fields, line_len, split_message};

/// Parts of the report that are looked at.
const MAX_PARTS: usize = 8;
/// Octets of the status part that are looked at.
const MAX_STATUS_LEN: usize = 1024 * 1024;
/// Recipients that are kept.
const MAX_RECIPIENTS: usize = 1000;
/// Longest text that is kept of a field, in characters.
const MAX_TEXT_CHARS: usize = 1000;

/// A notification.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReturnedDsn {
    /// ENVID of the message.
    pub envelope_id: Option<String>,
    /// Message-ID of the message, when its header came back, without angle brackets.
    pub message_id: Option<String>,
    /// What became of its recipients.
    pub recipients: Vec<ReturnedRecipient>,
}

/// What became of one recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReturnedRecipient {
    /// The address that the remote server knows.
    pub address: String,
    /// The address that the message was sent to, when it is told.
    pub original_address: Option<String>,
    /// What happened.
    pub action: Action,
    /// Enhanced status code, such as `5.1.1`.
    pub status: String,
    /// What a server said.
    pub diagnostic: Option<String>,
}

/// Actions (RFC 3464, 2.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Given up.
    Failed,
    /// Still tried.
    Delayed,
    /// Delivered.
    Delivered,
    /// Handed to a server that sends no notifications.
    Relayed,
    /// Delivered to a list.
    Expanded,
}

impl Action {
    fn from_word(word: &str) -> Option<Action> {
        Some(match word.to_ascii_lowercase().as_str() {
            "failed" => Action::Failed,
            "delayed" => Action::Delayed,
            "delivered" => Action::Delivered,
            "relayed" => Action::Relayed,
            "expanded" => Action::Expanded,
            _ => return None,
        })
    }
}

/// Reads a message; `None` when it is no notification with at least one recipient.
pub fn read_dsn(raw: &[u8]) -> Option<ReturnedDsn> {
    let (header, _, body) = split_message(raw);
    let entity = read_entity(header, "text/plain");
    let report_type = entity.parameter("report-type").unwrap_or("");
    if entity.media_type != "multipart/report" || !report_type.eq_ignore_ascii_case("delivery-status") {
        return None;
    }
    let mut dsn = ReturnedDsn::default();
    for part in parts(body, entity.boundary()?) {
        let (header, _, content) = split_message(part);
        let entity = read_entity(header, "text/plain");
        match entity.media_type.as_str() {
            // RFC 6533, 4 for the global kinds.
            "message/delivery-status" | "message/global-delivery-status" if dsn.recipients.is_empty() => {
                read_status(&mut dsn, &decode(content, entity.encoding)?);
            }
            "message/rfc822" | "message/global" | "text/rfc822-headers" | "message/global-headers"
                if dsn.message_id.is_none() =>
            {
                dsn.message_id = decode(content, entity.encoding).and_then(|message| message_id(&message));
            }
            _ => {}
        }
    }
    (!dsn.recipients.is_empty()).then_some(dsn)
}

/// The parts of a multipart.
pub(in crate::mail) fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let (mut at, mut start) = (0, None);
    while at < body.len() && parts.len() < MAX_PARTS {
        let rest = body.get(at..).unwrap_or(&[]);
        let line = rest.get(..line_len(rest)).unwrap_or(rest);
        if let Some(end) = line.strip_prefix(delimiter.as_bytes()).map(<[u8]>::trim_ascii_end)
            && (end.is_empty() || end == b"--")
        {
            if let Some(start) = start {
                parts.extend(body.get(start..at));
            }
            if end == b"--" {
                return parts;
            }
            start = Some(at + line.len());
        }
        at += line.len();
    }
    // A last part that nothing closes.
    if let (Some(start), true) = (start, parts.len() < MAX_PARTS) {
        parts.extend(body.get(start..));
    }
    parts
}

/// The content of a part, as far as it is looked at.
pub(in crate::mail) fn decode(content: &[u8], encoding: Declared) -> Option<Cow<'_, [u8]>> {
    let content = content.get(..content.len().min(MAX_STATUS_LEN))?;
    match encoding {
        Declared::Identity => Some(Cow::Borrowed(content)),
        Declared::QuotedPrintable => quoted_printable_decode(content).map(Cow::Owned),
        Declared::Base64 => base64_decode(content).map(Cow::Owned),
        Declared::Unknown => None,
    }
}

/// Groups of fields with empty lines between them: the first about the message, the others about
/// recipients (RFC 3464, 2.1).
fn read_status(dsn: &mut ReturnedDsn, status: &[u8]) {
    let mut rest = status;
    while !rest.is_empty() && dsn.recipients.len() < MAX_RECIPIENTS {
        let (group, _, after) = split_message(rest);
        rest = after;
        let field =
            |name: &str| fields(group).find(|field| field.is(name)).map(|field| bounded(&field.text()));
        if dsn.envelope_id.is_none() && dsn.recipients.is_empty() {
            dsn.envelope_id = field("Original-Envelope-Id").filter(|id| !id.is_empty());
        }
        let action = field("Action").and_then(|text| Action::from_word(first_word(&text)));
        let address = field("Final-Recipient").and_then(|text| read_address(&text));
        let original_address = field("Original-Recipient").and_then(|text| read_address(&text));
        if let (Some(action), Some(address)) = (action, address.or(original_address.clone())) {
            let status = field("Status").unwrap_or_default();
            let diagnostic = field("Diagnostic-Code")
                .map(|text| text.split_once(';').map_or(text.as_str(), |(_, said)| said).trim().to_owned());
            let status = first_word(&status).to_owned();
            dsn.recipients.push(ReturnedRecipient { address, original_address, action, status, diagnostic });
        }
    }
}

/// A word, without what follows it: comments, mostly.
fn first_word(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ';')).next().unwrap_or("")
}

/// The address behind its type; of type utf-8, with its escapes undone (RFC 6533, 3).
pub(in crate::mail) fn read_address(text: &str) -> Option<String> {
    let (kind, address) = text.split_once(';')?;
    let address = address.trim().trim_start_matches('<').trim_end_matches('>');
    let mut out = String::with_capacity(address.len());
    let mut rest = address;
    let is_utf8 = kind.trim().eq_ignore_ascii_case("utf-8");
    while let Some(at) = rest.find("\\x{").filter(|_| is_utf8) {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let end = escape.find('}')?;
        out.push(u32::from_str_radix(escape.get(3..end)?, 16).ok().and_then(char::from_u32)?);
        rest = escape.get(end + 1..)?;
    }
    out.push_str(rest);
    (!out.is_empty() && !out.chars().any(char::is_control)).then_some(out)
}

/// As much of a text as is kept.
pub(in crate::mail) fn bounded(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(status: &str) -> String {
        format!(
            "Content-Type: multipart/report;\r\n report-type=Delivery-Status; boundary=\"b\"\r\n\r\n--b\r\n\r\nwords\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n\
             Subject: x\r\nMessage-Id:\r\n <id@example.test>\r\n--b--\r\n"
        )
    }

    #[test]
    fn notifications_of_other_servers_are_read() {
        let raw = report(
            "\r\nReporting-MTA: dns;x\r\noriginal-envelope-id: QQ1\r\n\r\n\r\nFinal-recipient: RFC822;<a@x.test>\r\n\
             ACTION: Failed (bounced)\r\nStatus: 5.2.2 (full)\r\nDiagnostic-Code: smtp;552 5.2.2\r\n  full\r\n\r\n\
             Final-Recipient: LOCAL; b\r\nAction: delivered\r\nStatus: 2.0.0\r\n\r\nFinal-Recipient: rfc822; c@x\r\n",
        );
        let read = read_dsn(raw.as_bytes()).unwrap();
        assert_eq!(read.envelope_id.as_deref(), Some("QQ1"));
        assert_eq!(read.message_id.as_deref(), Some("id@example.test"));
        assert_eq!(read.recipients.len(), 2);
        assert_eq!(
            read.recipients[0],
            ReturnedRecipient {
                address: "a@x.test".into(),
                original_address: None,
                action: Action::Failed,
                status: "5.2.2".into(),
                diagnostic: Some("552 5.2.2  full".into()),
            }
        );
        assert_eq!(read.recipients[1].action, Action::Delivered);
    }

    #[test]
    fn other_messages_are_not() {
        for raw in [
            "",
            "Subject: Undelivered\r\n\r\nFinal-Recipient: rfc822; a@b\r\nAction: failed\r\n",
            "Content-Type: multipart/report; boundary=b; report-type=disposition-notification\r\n\r\n--b--",
            "Content-Type: multipart/report; report-type=delivery-status\r\n\r\n",
            &report("Reporting-MTA: dns; x"),
        ] {
            assert_eq!(read_dsn(raw.as_bytes()), None, "{raw}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let group = "\r\nFinal-Recipient: rfc822; a@x\r\nAction: failed\r\nStatus: 5.0.0\r\n";
        let read = read_dsn(report(&group.repeat(20_000)).as_bytes()).unwrap();
        assert_eq!(read.recipients.len(), MAX_RECIPIENTS);
        let long = format!("Final-Recipient: rfc822; {}\r\nAction: failed\r\n", "x".repeat(100_000));
        assert!(read_dsn(report(&long).as_bytes()).unwrap().recipients[0].address.len() <= MAX_TEXT_CHARS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(status in "[\\x00-\\x7fü]{0,200}", tail in proptest::collection::vec(any::<u8>(), 0..50)) {
            read_dsn(report(&status).as_bytes());
            read_dsn(&[report(&status).as_bytes(), &tail].concat());
            read_address(&status);
            read_address(&format!("utf-8;\\x{{{status}"));
        }
    }
}
