//! The properties of an Email that lists show, kept beside the metadata as JSON values, one a line, in
//! the order of `CONVENIENT` and the preview last: each is ready to be copied into an answer, and
//! found without reading JSON.

use serde::Serialize;

use crate::mail::headers::CONVENIENT;
use crate::mail::headers::addresses::EmailAddress;
use crate::mail::parse::Parsed;

/// The convenience header properties (RFC 8621, 4.1.2 and 4.1.3) and the preview.
pub struct ListProperties<'a> {
    message_id: &'a Option<Vec<String>>,
    in_reply_to: &'a Option<Vec<String>>,
    references: &'a Option<Vec<String>>,
    sender: &'a Option<Vec<EmailAddress>>,
    from: &'a Option<Vec<EmailAddress>>,
    to: &'a Option<Vec<EmailAddress>>,
    cc: &'a Option<Vec<EmailAddress>>,
    bcc: &'a Option<Vec<EmailAddress>>,
    reply_to: &'a Option<Vec<EmailAddress>>,
    subject: &'a Option<String>,
    sent_at: Option<&'a str>,
    preview: &'a str,
}

impl<'a> ListProperties<'a> {
    /// Of a parsed message.
    pub fn of(parsed: &'a Parsed) -> ListProperties<'a> {
        let headers = &parsed.headers;
        ListProperties {
            message_id: &headers.message_id,
            in_reply_to: &headers.in_reply_to,
            references: &headers.references,
            sender: &headers.sender,
            from: &headers.from,
            to: &headers.to,
            cc: &headers.cc,
            bcc: &headers.bcc,
            reply_to: &headers.reply_to,
            subject: &headers.subject,
            sent_at: headers.sent_at.as_ref().map(|date| date.text.as_str()),
            preview: &parsed.preview,
        }
    }

    /// As they are stored. JSON writes no line end but escaped.
    pub fn to_lines(&self) -> String {
        let mut out = String::with_capacity(1_024);
        line(&mut out, self.message_id);
        line(&mut out, self.in_reply_to);
        line(&mut out, self.references);
        line(&mut out, self.sender);
        line(&mut out, self.from);
        line(&mut out, self.to);
        line(&mut out, self.cc);
        line(&mut out, self.bcc);
        line(&mut out, self.reply_to);
        line(&mut out, self.subject);
        line(&mut out, &self.sent_at);
        line(&mut out, self.preview);
        out
    }
}

fn line<T: Serialize + ?Sized>(out: &mut String, value: &T) {
    if !out.is_empty() {
        out.push('\n');
    }
    // Texts and lists of texts have nothing that JSON could not write.
    out.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
}

/// The preview, after the convenience properties.
const PREVIEW: usize = CONVENIENT.len();

/// The name of a property, when it is stored so.
pub fn stored_name(name: &str) -> Option<&'static str> {
    CONVENIENT.iter().map(|(known, _, _)| *known).chain(["preview"]).find(|known| *known == name)
}

/// Stored properties, each value as it stands in the text.
pub struct StoredProperties<'a>([&'a str; PREVIEW + 1]);

impl<'a> StoredProperties<'a> {
    /// Takes a stored text apart; `None` when it is none.
    pub fn read(text: &'a str) -> Option<StoredProperties<'a>> {
        let mut values = [""; PREVIEW + 1];
        let mut lines = text.split('\n');
        for value in &mut values {
            *value = lines.next().filter(|line| !line.is_empty())?;
        }
        lines.next().is_none().then_some(StoredProperties(values))
    }

    /// The JSON text of a property.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let place = match name {
            "preview" => Some(PREVIEW),
            _ => CONVENIENT.iter().position(|(known, _, _)| *known == name),
        };
        place.map(|place| self.0[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::parse::parse;

    #[test]
    fn every_property_is_found_by_its_name() {
        let message = "Message-ID: <1@x>\r\nFrom: \"A\\\"B\" <a@x>\r\nTo: b@x\r\nCc: c@x\r\nBcc: d@x\r\n\
                       Reply-To: e@x\r\nSender: f@x\r\nIn-Reply-To: <2@x>\r\nReferences: <3@x>\r\n\
                       Subject: =?utf-8?q?two=0Alines?=\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nHello.\r\n";
        let parsed = parse(message.as_bytes());
        let lines = ListProperties::of(&parsed).to_lines();
        let stored = StoredProperties::read(&lines).unwrap();
        for (name, wanted) in [
            ("messageId", "1@x"),
            ("inReplyTo", "2@x"),
            ("references", "3@x"),
            ("sender", "f@x"),
            ("from", "a@x"),
            ("to", "b@x"),
            ("cc", "c@x"),
            ("bcc", "d@x"),
            ("replyTo", "e@x"),
            ("subject", "lines"),
            ("sentAt", "2024-01-01T00:00:00"),
            ("preview", "Hello."),
        ] {
            let value = stored.get(name).unwrap();
            assert!(value.contains(wanted), "{name}: {value}");
            assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{name}: {value}");
        }
        assert!(stored.get("size").is_none());
    }

    #[test]
    fn what_is_not_so_many_lines_is_nothing() {
        for text in ["", "null", "{}", &"null\n".repeat(12), &vec!["null"; 13].join("\n")] {
            assert!(StoredProperties::read(text).is_none(), "{text:?}");
        }
        assert!(StoredProperties::read(&["null"; 12].join("\n")).is_some());
    }
}
