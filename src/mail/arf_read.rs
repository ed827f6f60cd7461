//! Recognising a complaint that comes back (RFC 5965, the Abuse Reporting Format): the recipient of a message
//! has called it unwanted.
//!
//! Anyone can send such a report: what it says is a claim. Everything that is kept is bounded.

use crate::mail::dsn::message_id;
use crate::mail::dsn_read::{bounded, decode, parts};
use crate::mail::entity_header::read_entity;
use crate::mail::field_lines::{fields, split_message};

/// Recipients that are kept.
const MAX_RECIPIENTS: usize = 100;

/// A complaint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReturnedComplaint {
    /// `abuse`, `fraud`, `virus`, `other` (RFC 5965, 3.1 and 7.3).
    pub kind: String,
    /// ENVID of the message.
    pub envelope_id: Option<String>,
    /// Message-ID of the message, without angle brackets.
    pub message_id: Option<String>,
    /// Who complains, where that is told: many reports leave it out.
    pub recipients: Vec<String>,
}

/// Reads a message; `None` when it is no complaint.
pub fn read_complaint(raw: &[u8]) -> Option<ReturnedComplaint> {
    let (header, _, body) = split_message(raw);
    let entity = read_entity(header, "text/plain");
    let report_type = entity.parameter("report-type").unwrap_or("");
    if entity.media_type != "multipart/report" || !report_type.eq_ignore_ascii_case("feedback-report") {
        return None;
    }
    let mut complaint = ReturnedComplaint::default();
    for part in parts(body, entity.boundary()?) {
        let (header, _, content) = split_message(part);
        let entity = read_entity(header, "text/plain");
        match entity.media_type.as_str() {
            "message/feedback-report" if complaint.kind.is_empty() => {
                let report = decode(content, entity.encoding)?;
                let named = |name: &'static str| {
                    fields(&report)
                        .filter(move |field| field.is(name))
                        .map(|field| bounded(field.text().trim()))
                };
                complaint.kind = named("Feedback-Type").next()?.to_ascii_lowercase();
                complaint.envelope_id = named("Original-Envelope-Id").next().filter(|id| !id.is_empty());
                complaint.recipients = named("Original-Rcpt-To")
                    .map(|text| text.trim_start_matches('<').trim_end_matches('>').to_owned())
                    .take(MAX_RECIPIENTS)
                    .collect();
            }
            "message/rfc822" | "message/global" | "text/rfc822-headers" | "message/global-headers"
                if complaint.message_id.is_none() =>
            {
                complaint.message_id =
                    decode(content, entity.encoding).and_then(|message| message_id(&message));
            }
            _ => {}
        }
    }
    // `not-spam` says the opposite (RFC 6430); others are about authentication (RFC 6591).
    let is_complaint = matches!(complaint.kind.as_str(), "abuse" | "fraud" | "virus" | "other");
    is_complaint.then_some(complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: &str) -> String {
        format!(
            "From: <fbl@mail.test>\r\nTo: <abuse@example.test>\r\nSubject: FW: Earn money\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nThis is an abuse report.\r\n\
             --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: {kind}\r\nVersion: 1\r\n\
             User-Agent: Some/1\r\nOriginal-Mail-From: <shop@example.test>\r\nOriginal-Rcpt-To: <user@mail.test>\r\n\
             Original-Envelope-Id: e1\r\n\r\n\
             --b\r\nContent-Type: message/rfc822\r\n\r\nFrom: <shop@example.test>\r\nMessage-ID: <m1@example.test>\r\n\r\n\
             Hello\r\n--b--\r\n"
        )
    }

    #[test]
    fn a_complaint_is_read() {
        let read = read_complaint(report("abuse").as_bytes()).unwrap();
        assert_eq!(read.kind, "abuse");
        assert_eq!(read.message_id.as_deref(), Some("m1@example.test"));
        assert_eq!(read.envelope_id.as_deref(), Some("e1"));
        assert_eq!(read.recipients, ["user@mail.test"]);
    }

    #[test]
    fn what_is_no_complaint_is_none() {
        assert_eq!(read_complaint(report("not-spam").as_bytes()), None);
        assert_eq!(read_complaint(report("").as_bytes()), None);
        assert_eq!(read_complaint(b"Subject: x\r\n\r\nFeedback-Type: abuse\r\n"), None);
        for end in 0..report("abuse").len() {
            read_complaint(&report("abuse").as_bytes()[..end]);
        }
    }
}
