//! Recognising a message disposition notification that comes back (RFC 8098): which message it is
//! about, and whether a recipient's program claims to have displayed it.
//!
//! Anyone can send such a message: what it says is a claim. Work is linear and everything that is kept
//! is bounded. Asking for notifications and sending them is not here.

use crate::mail::dsn::message_ids;
use crate::mail::dsn_read::{bounded, decode, parts, read_address};
use crate::mail::entity_header::read_entity;
use crate::mail::field_lines::{fields, split_message};

/// A notification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReturnedMdn {
    /// Message-ID of the message, without angle brackets.
    pub message_id: Option<String>,
    /// The addresses of the recipient: that to which the message was sent, and that of its mailbox, as
    /// far as they are told.
    pub recipients: Vec<String>,
    /// Whether the message has been displayed (RFC 8098, 3.2.6.2).
    pub is_displayed: bool,
}

/// Reads a message; `None` when it is no notification with a disposition.
pub fn read_mdn(raw: &[u8]) -> Option<ReturnedMdn> {
    let (header, _, body) = split_message(raw);
    let entity = read_entity(header, "text/plain");
    let report_type = entity.parameter("report-type").unwrap_or("");
    if entity.media_type != "multipart/report"
        || !report_type.eq_ignore_ascii_case("disposition-notification")
    {
        return None;
    }
    parts(body, entity.boundary()?).into_iter().find_map(|part| {
        let (header, _, content) = split_message(part);
        let entity = read_entity(header, "text/plain");
        // RFC 6533, 5 for the global kind.
        let is_notification = matches!(
            entity.media_type.as_str(),
            "message/disposition-notification" | "message/global-disposition-notification"
        );
        if is_notification { read_notification(&decode(content, entity.encoding)?) } else { None }
    })
}

fn read_notification(content: &[u8]) -> Option<ReturnedMdn> {
    // An empty line may stand before the fields.
    let content = content.trim_ascii_start();
    let field = |name: &str| fields(content).find(|field| field.is(name)).map(|field| bounded(&field.text()));
    let disposition = field("Disposition")?;
    // RFC 8098, 3.2.6: modes, a semicolon, the type and its modifiers.
    let (_, kind) = disposition.split_once(';')?;
    let kind = kind.split(['/', ',', '(']).next().unwrap_or_default().trim();
    let recipients = ["Original-Recipient", "Final-Recipient"];
    Some(ReturnedMdn {
        message_id: field("Original-Message-ID").and_then(|text| message_ids(&text).into_iter().next()),
        recipients: recipients.iter().filter_map(|name| read_address(&field(name)?)).collect(),
        is_displayed: kind.eq_ignore_ascii_case("displayed"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(content: &str) -> String {
        format!(
            "Content-Type: multipart/report; report-type=Disposition-Notification; boundary=b\r\n\r\n\
             --b\r\n\r\nSeen.\r\n--b\r\nContent-Type: message/disposition-notification\r\n\r\n{content}\r\n--b--\r\n"
        )
    }

    #[test]
    fn notifications_are_read() {
        let raw = report(
            "Reporting-UA: joes-pc; Foomail\r\nOriginal-Recipient: rfc822;Joe@x.test\r\n\
             Final-Recipient: rfc822; joe@inner.x.test\r\nOriginal-Message-ID: <m1@example.test>\r\n\
             Disposition: manual-action/MDN-sent-manually; Displayed/warning",
        );
        let expected = ReturnedMdn {
            message_id: Some("m1@example.test".to_owned()),
            recipients: vec!["Joe@x.test".to_owned(), "joe@inner.x.test".to_owned()],
            is_displayed: true,
        };
        assert_eq!(read_mdn(raw.as_bytes()), Some(expected));
        let deleted = report("Final-Recipient: rfc822;a@x\r\nDisposition: automatic-action/x; deleted");
        let read = read_mdn(deleted.as_bytes()).unwrap();
        assert_eq!((read.is_displayed, read.message_id), (false, None));
    }

    #[test]
    fn other_messages_are_not() {
        for raw in [
            "Subject: Read: x\r\n\r\nDisposition: a/b; displayed\r\n".to_owned(),
            report("Final-Recipient: rfc822;a@x"),
            report("Disposition: displayed"),
            report("Disposition: a/b; displayed").replace("report-type=Disposition-Notification", "x=y"),
            report("Disposition: a/b; displayed").replace("message/disposition", "text/disposition"),
        ] {
            assert_eq!(read_mdn(raw.as_bytes()), None, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(content in "[\\x00-\\x7fü]{0,200}") {
            read_mdn(report(&content).as_bytes());
            read_mdn(report(&format!("Disposition: {content}")).as_bytes());
        }
    }
}
