//! Email/set create: reading the object that a client sends into a draft that can be composed
//! (RFC 8621, 4.6).
//!
//! Everything that the RFC forbids is found in one pass, so that the answer names every offending
//! property. `mailboxIds`, `keywords` and `receivedAt` are the caller's. Strings come through
//! unchanged, but none that could end a header field does.

use std::fmt;

use serde_json::{Map, Value};

use crate::jmap::email::draft_body::BodyReader;
use crate::jmap::email::draft_headers::HeaderReader;
use crate::mail::compose::{Draft, DraftBody};

/// Properties of an Email that only the server sets (RFC 8621, 4.1).
const SERVER_SET: [&str; 6] = ["id", "blobId", "threadId", "size", "hasAttachment", "preview"];

/// Most properties that one error names.
const MAX_NAMED: usize = 200;

/// The kinds of SetError that a draft can meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DraftErrorKind {
    /// Properties break a rule.
    InvalidProperties,
    /// Blobs of body parts do not exist.
    BlobNotFound,
}

impl DraftErrorKind {
    /// The SetError type (RFC 8620, 5.3; RFC 8621, 4.6).
    pub fn name(self) -> &'static str {
        match self {
            DraftErrorKind::InvalidProperties => "invalidProperties",
            DraftErrorKind::BlobNotFound => "blobNotFound",
        }
    }
}

/// Why no Email can be made of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DraftError {
    /// The type of the SetError.
    pub kind: DraftErrorKind,
    /// Paths of the offending properties, such as `bodyStructure/subParts/0/type`; for
    /// `blobNotFound` the ids that belong in `notFound`.
    pub properties: Vec<String>,
    /// What is wrong with the first of them.
    pub description: String,
}

impl fmt::Display for DraftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.description)
    }
}

impl std::error::Error for DraftError {}

impl DraftError {
    /// The error for blobs that the caller could not load.
    pub fn blob_not_found(ids: Vec<String>) -> DraftError {
        let description = "a blob of a body part does not exist".to_owned();
        DraftError { kind: DraftErrorKind::BlobNotFound, properties: ids, description }
    }
}

/// What was found wrong so far.
#[derive(Default)]
pub struct Faults {
    properties: Vec<String>,
    description: String,
}

impl Faults {
    /// Notes an offending property. The first reason is the one that is told.
    pub fn add(&mut self, path: &str, reason: &str) {
        if self.properties.is_empty() {
            self.description = format!("{}: {reason}", shortened(path));
        }
        let path = shortened(path);
        if self.properties.len() < MAX_NAMED && !self.properties.contains(&path) {
            self.properties.push(path);
        }
    }
}

/// A path that is not longer than an error should be.
fn shortened(path: &str) -> String {
    path.chars().take(300).collect()
}

/// The path of a member, its name escaped as in a JSON pointer (RFC 6901, 3).
pub fn join(path: &str, member: &str) -> String {
    let member = member.replace('~', "~0").replace('/', "~1");
    if path.is_empty() { member } else { format!("{path}/{member}") }
}

/// Reads the object of an Email/set create.
pub fn read_draft(object: &Map<String, Value>) -> Result<Draft, DraftError> {
    let mut faults = Faults::default();
    let mut headers = HeaderReader::default();
    for (property, value) in object {
        match property.as_str() {
            "mailboxIds" | "keywords" | "receivedAt" => {}
            "bodyStructure" | "bodyValues" | "textBody" | "htmlBody" | "attachments" => {}
            "headers" => faults.add(property, "header fields are given as properties of their own"),
            name if SERVER_SET.contains(&name) => faults.add(property, "only the server sets this"),
            _ => {
                let is_header = headers.read(&mut faults, "", property, value, |name| {
                    // RFC 8621, 4.6.
                    let is_content =
                        name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
                    is_content.then_some("Content fields belong to body parts")
                });
                if !is_header {
                    faults.add(property, "no property of an Email");
                }
            }
        }
    }
    let mut body = BodyReader::new(&mut faults, object);
    let read = body.read(&mut faults);
    if let Some(DraftBody::Structure(root)) = &read {
        // RFC 8621, 4.6: the root part's fields stand in the same header as the Email's.
        for field in &root.headers {
            if let Some(property) = headers.property_of(&field.name) {
                faults.add(property, "bodyStructure sets the same header field");
                faults.add("bodyStructure", "the Email sets the same header field");
            }
        }
    }
    match read {
        Some(body) if faults.properties.is_empty() => Ok(Draft { headers: headers.into_headers(), body }),
        _ => Err(DraftError {
            kind: DraftErrorKind::InvalidProperties,
            properties: faults.properties,
            description: faults.description,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use mail_parser::{Address, Message, MessageParser, MimeHeaders, PartType};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mail::compose::{Defaults, compose};
    use crate::mail::encode_body::Survey;

    const DEFAULTS_NOW_MS: i64 = 1_700_000_000_000;

    fn read(object: Value) -> Result<Draft, DraftError> {
        read_draft(object.as_object().unwrap())
    }

    /// The paths that are refused.
    fn refused(object: Value) -> Vec<String> {
        let error = read(object).unwrap_err();
        assert_eq!(error.kind.name(), "invalidProperties");
        assert!(!error.description.is_empty());
        error.properties
    }

    fn blobs() -> HashMap<String, Bytes> {
        let blob = |id: &str, content: &[u8]| (id.to_owned(), Bytes::copy_from_slice(content));
        HashMap::from([
            blob("png", b"\x89PNG\r\n\x1a\n\0\0"),
            blob("pdf", &[b'%'; 500]),
            blob("mail", b"Subject: inner\r\n\r\nHi \xc3\xbc\r\n"),
            blob("utf8", "Größe\n".as_bytes()),
        ])
    }

    fn composed(object: Value) -> String {
        let draft = read(object).unwrap();
        let defaults =
            Defaults { now_ms: DEFAULTS_NOW_MS, message_id_domain: "mail.test".into(), random: 0xabc };
        let raw = compose(&draft, &blobs(), &defaults).unwrap();
        let survey = Survey::of(&raw);
        assert!(!survey.has_binary && survey.longest_line <= 998);
        String::from_utf8(raw).unwrap()
    }

    fn parsed(raw: &str) -> Message<'_> {
        MessageParser::new().parse(raw.as_bytes()).unwrap()
    }

    /// The shape of a message: types, with what is within in brackets.
    fn shape(message: &Message<'_>, part: u32) -> String {
        let part = message.part(part).unwrap();
        let Some(kind) = part.content_type() else { return "none".to_owned() };
        let name = format!("{}/{}", kind.ctype(), kind.subtype().unwrap());
        match &part.body {
            PartType::Multipart(parts) => {
                let inner: Vec<_> = parts.iter().map(|part| shape(message, *part)).collect();
                format!("{}[{}]", kind.subtype().unwrap(), inner.join(" "))
            }
            _ => name,
        }
    }

    #[test]
    fn a_plain_mail_is_composed_as_it_was_written() {
        let raw = composed(json!({
            "mailboxIds": {"m": true}, "keywords": {"$draft": true}, "receivedAt": "rubbish is not mine",
            "from": [{"name": "Alice", "email": "alice@example.test"}],
            "to": [{"name": "Jörg", "email": "joerg@example.test"}, {"email": "x@y.test"}],
            "cc": null, "bcc": [],
            "subject": "Hello",
            "sentAt": "2014-10-30T14:12:00.250+08:00",
            "messageId": ["a@b"],
            "references": ["one@x", "two@x"],
            "header:X-Custom": " raw value",
            "header:X-Many:asText:all": ["one", "zwölf"],
            "header:List-Post:asURLs": ["mailto:l@x", "https://x/l"],
            "header:Resent-To:asGroupedAddresses": [{"name": "Us", "addresses": [{"email": "a@x"}]}],
            "bodyValues": {"1": {"value": "Hi\nthere", "isTruncated": false}},
            "textBody": [{"partId": "1", "type": "text/plain"}],
        }));
        assert_eq!(
            raw,
            "From: Alice <alice@example.test>\r\n\
             To: =?utf-8?q?J=C3=B6rg?= <joerg@example.test>, x@y.test\r\n\
             Subject: Hello\r\n\
             Date: Thu, 30 Oct 2014 14:12:00 +0800\r\n\
             Message-ID: <a@b>\r\n\
             References: <one@x> <two@x>\r\n\
             X-Custom: raw value\r\n\
             X-Many: one\r\n\
             X-Many: =?utf-8?q?zw=C3=B6lf?=\r\n\
             List-Post: <mailto:l@x>, <https://x/l>\r\n\
             Resent-To: Us: a@x;\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             \r\n\
             Hi\r\nthere"
        );
    }

    #[test]
    fn what_is_missing_is_added() {
        let raw = composed(json!({}));
        assert_eq!(
            raw,
            "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
             Message-ID: <00000000000000000000000000000abc@mail.test>\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\n"
        );
    }

    #[test]
    fn text_html_images_and_attachments_find_their_places() {
        let part = |id: &str, kind: &str| json!([{"partId": id, "type": kind}]);
        let values = json!({"t": {"value": "text"}, "h": {"value": "<p>html"}});
        let shape_of = |object: Value| {
            let mut object = object;
            object["bodyValues"] = values.clone();
            let raw = composed(object);
            let message = parsed(&raw);
            shape(&message, 0)
        };
        let image = json!({"blobId": "png", "type": "image/png", "cid": "i@x"});
        let pdf = json!({"blobId": "pdf", "type": "application/pdf", "name": "a.pdf"});
        let (text, html) = (part("t", "text/plain"), part("h", "text/html"));
        assert_eq!(shape_of(json!({"htmlBody": html})), "text/html");
        assert_eq!(
            shape_of(json!({"textBody": text, "htmlBody": html})),
            "alternative[text/plain text/html]"
        );
        assert_eq!(
            shape_of(json!({"textBody": text, "htmlBody": html, "attachments": [pdf, image]})),
            "mixed[alternative[text/plain related[text/html image/png]] application/pdf]"
        );
        assert_eq!(
            shape_of(json!({"textBody": text, "attachments": [image]})),
            "mixed[text/plain image/png]"
        );
        assert_eq!(shape_of(json!({"attachments": [pdf]})), "mixed[application/pdf]");

        let raw = composed(json!({
            "htmlBody": html, "bodyValues": values,
            "attachments": [image, pdf, {"blobId": "mail", "type": "message/rfc822"}]
        }));
        let message = parsed(&raw);
        assert_eq!(shape(&message, 0), "mixed[related[text/html image/png] application/pdf message/rfc822]");
        assert!(raw.contains("multipart/related; type=\"text/html\";\r\n boundary="), "{raw}");
        let image = message.part(3).unwrap();
        assert_eq!(image.content_disposition().unwrap().ctype(), "inline");
        assert_eq!(image.content_id(), Some("i@x"));
        assert_eq!(image.contents(), b"\x89PNG\r\n\x1a\n\0\0");
        let pdf = message.part(4).unwrap();
        assert_eq!(
            (pdf.attachment_name(), pdf.content_disposition().unwrap().ctype()),
            (Some("a.pdf"), "attachment")
        );
        assert!(
            raw.contains("Content-Transfer-Encoding: 8bit\r\n\r\nSubject: inner\r\n\r\nHi ü\r\n\r\n--"),
            "{raw}"
        );
    }

    #[test]
    fn a_body_structure_is_kept() {
        let raw = composed(json!({
            "subject": "s",
            "bodyStructure": {"type": "multipart/mixed", "header:X-Root": " r", "language": ["de", "en"], "subParts": [
                {"type": "multipart/digest", "subParts": [{"blobId": "mail", "type": "message/rfc822"}]},
                {"partId": "c", "header:Content-Type": "text/calendar; method=REQUEST; charset=latin1", "name": "ä.ics"},
                {"blobId": "utf8", "type": "text/plain", "size": 7, "location": "http://x/y",
                 "disposition": "attachment", "name": "größe.txt", "header:X-Part:asText": "é"},
                {"type": "multipart/mixed", "subParts": []}
            ]},
            "bodyValues": {"c": {"value": "BEGIN:VCALENDAR"}, "unused": {"value": ""}}
        }));
        let message = parsed(&raw);
        assert!(
            shape(&message, 0).starts_with("mixed[digest[message/rfc822] text/calendar text/plain mixed[")
        );
        assert!(raw.contains("Content-Language: de, en\r\nX-Root: r\r\n"));
        assert!(
            raw.contains(
                "Content-Type: text/calendar; charset=utf-8; method=REQUEST;\r\n name*=utf-8''%C3%A4.ics\r\n"
            ),
            "{raw}"
        );
        assert!(raw.contains("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.txt\r\nContent-Location: http://x/y\r\nX-Part: =?utf-8?"), "{raw}");
    }

    #[test]
    fn boundaries_do_not_occur_in_the_content() {
        let hostile = format!("x\n--=_{:032x}.1\n--=_{:032x}.1--\n", 0xabc, 0xabc);
        let raw = composed(json!({
            "textBody": [{"partId": "1"}], "attachments": [{"blobId": "pdf"}],
            "bodyValues": {"1": {"value": hostile}}
        }));
        let message = parsed(&raw);
        assert_eq!(shape(&message, 0), "mixed[text/plain application/octet-stream]");
        assert_eq!(message.body_text(0).as_deref(), Some(hostile.replace('\n', "\r\n").as_str()));
    }

    #[test]
    fn blobs_are_listed_and_missing_ones_told() {
        let object = json!({"attachments": [{"blobId": "b"}, {"blobId": "a"}, {"blobId": "b"}]});
        let draft = read(object).unwrap();
        assert_eq!(draft.blob_ids().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        let defaults = Defaults { now_ms: 0, message_id_domain: "x".into(), random: 0 };
        let error = compose(&draft, &HashMap::new(), &defaults).unwrap_err();
        assert_eq!(error, crate::mail::compose::ComposeError::BlobNotFound(vec!["a".into(), "b".into()]));
        assert_eq!(DraftError::blob_not_found(vec![]).kind.name(), "blobNotFound");
    }

    #[test]
    fn properties_of_an_email_that_are_refused() {
        for (object, wanted) in [
            (json!({"headers": []}), vec!["headers"]),
            (
                json!({"id": "x", "blobId": "x", "threadId": "x", "size": 1, "hasAttachment": false, "preview": ""}),
                vec!["id", "blobId", "threadId", "size", "hasAttachment", "preview"],
            ),
            (json!({"colour": 1, "a/b": 1}), vec!["colour", "a/b"]),
            (json!({"from": null, "header:From": "a"}), vec!["header:From", "from"]),
            (json!({"header:X-A": "a", "header:x-a:asText": "a"}), vec!["header:x-a:asText", "header:X-A"]),
            (json!({"header:X-A:all": ["a"], "header:X-A": "a"}), vec!["header:X-A", "header:X-A:all"]),
            (json!({"header:Content-Type": "text/plain"}), vec!["header:Content-Type"]),
            (json!({"header:content-foo:asText": "x"}), vec!["header:content-foo:asText"]),
            (json!({"header:From:asText": "x"}), vec!["header:From:asText"]),
            (json!({"header:Subject:asAddresses": []}), vec!["header:Subject:asAddresses"]),
            (json!({"header:X-A:all": "a"}), vec!["header:X-A:all"]),
            (json!({"header:X A": "a"}), vec!["header:X A"]),
            (json!({"subject": "a\r\nBcc: b@x"}), vec!["subject"]),
            (json!({"subject": "a\u{0}"}), vec!["subject"]),
            (json!({"subject": 7}), vec!["subject"]),
            (json!({"header:X-A": "a\nb"}), vec!["header:X-A"]),
            (json!({"header:X-A": "a\r\n\r\nb"}), vec!["header:X-A"]),
            (json!({"header:X-A:asText:all": ["a", "b\r"]}), vec!["header:X-A:asText:all/1"]),
            (json!({"from": [{"name": "a\nb", "email": "a@b\r\n"}]}), vec!["from/0/name"]),
            (json!({"from": [{"email": "a@b\r\n"}]}), vec!["from/0/email"]),
            (json!({"to": [{"name": "x"}, {"email": "a>b"}]}), vec!["to/0/email", "to/1/email"]),
            (json!({"to": [{"email": "a@b", "extra": 1}]}), vec!["to/0/extra"]),
            (json!({"to": {"email": "a@b"}}), vec!["to"]),
            (json!({"sentAt": "soon"}), vec!["sentAt"]),
            (json!({"messageId": ["a@b", "c@d"]}), vec!["messageId"]),
            (json!({"inReplyTo": ["<a@b>"]}), vec!["inReplyTo/0"]),
            (json!({"references": ["a b"]}), vec!["references/0"]),
            (json!({"header:List-Post:asURLs": ["a>, <b"]}), vec!["header:List-Post:asURLs/0"]),
            (json!({"subject": "x".repeat(70_000)}), vec!["subject"]),
            (json!({"header:X:all": vec![""; 1001]}), vec!["header:X:all"]),
        ] {
            assert_eq!(refused(object.clone()), wanted, "{object}");
        }
    }

    #[test]
    fn bodies_that_are_refused() {
        let values = json!({"1": {"value": "x"}});
        for (object, wanted) in [
            (
                json!({"bodyStructure": {"partId": "1"}, "textBody": [{"partId": "1"}], "attachments": []}),
                vec!["textBody", "attachments", "bodyStructure"],
            ),
            (json!({"textBody": []}), vec!["textBody"]),
            (json!({"textBody": [{"partId": "1"}, {"partId": "1"}]}), vec!["textBody"]),
            (json!({"textBody": [{"partId": "1", "type": "text/html"}]}), vec!["textBody/0/type"]),
            (json!({"htmlBody": [{"partId": "1", "type": "text/plain"}]}), vec!["htmlBody/0/type"]),
            (json!({"textBody": [{"partId": "1", "charset": "utf-8"}]}), vec!["textBody/0/charset"]),
            (json!({"textBody": [{"partId": "1", "size": 1}]}), vec!["textBody/0/size"]),
            (
                json!({"textBody": [{"partId": "1", "blobId": "b"}]}),
                vec!["textBody/0/blobId", "textBody/0/partId"],
            ),
            (json!({"textBody": [{"partId": "2"}]}), vec!["textBody/0/partId"]),
            (json!({"textBody": [{}]}), vec!["textBody/0/partId"]),
            (json!({"attachments": [{"blobId": "b", "size": -1}]}), vec!["attachments/0/size"]),
            (json!({"attachments": [{"blobId": "b", "headers": []}]}), vec!["attachments/0/headers"]),
            (
                json!({"attachments": [{"type": "multipart/mixed", "subParts": []}]}),
                vec!["attachments/0/type"],
            ),
            (
                json!({"attachments": [{"type": "multipart/mixed", "subParts": []}]}),
                vec!["attachments/0/type"],
            ),
            (json!({"attachments": [{"blobId": "b", "x": 1}]}), vec!["attachments/0/x"]),
            (json!({"attachments": [{"blobId": "b", "type": "nonsense"}]}), vec!["attachments/0/type"]),
            (json!({"attachments": [{"blobId": "b", "name": "a\r\nb"}]}), vec!["attachments/0/name"]),
            (json!({"attachments": [{"blobId": "b", "cid": "<a>"}]}), vec!["attachments/0/cid"]),
            (json!({"attachments": [{"blobId": "b", "language": ["a b"]}]}), vec!["attachments/0/language"]),
            (
                json!({"attachments": [{"blobId": "b", "type": "image/png", "subParts": []}]}),
                vec!["attachments/0/subParts"],
            ),
            (
                json!({"attachments": [{"blobId": "b", "header:Content-Transfer-Encoding": "7bit"}]}),
                vec!["attachments/0/header:Content-Transfer-Encoding"],
            ),
            (
                json!({"attachments": [{"blobId": "b", "type": "a/b", "header:Content-Type": "a/b"}]}),
                vec!["attachments/0/header:Content-Type"],
            ),
            (
                json!({"attachments": [{"blobId": "b", "cid": "a", "header:content-id:asMessageIds": ["a"]}]}),
                vec!["attachments/0/header:content-id:asMessageIds"],
            ),
            (json!({"bodyStructure": {"type": "multipart/mixed"}}), vec!["bodyStructure/subParts"]),
            (
                json!({"bodyStructure": {"type": "multipart/mixed", "blobId": "b", "subParts": []}}),
                vec!["bodyStructure/blobId"],
            ),
            (
                json!({"bodyStructure": {"type": "multipart/mixed", "subParts": [{"partId": "9"}, {"blobId": 1}]}}),
                vec!["bodyStructure/subParts/0/partId", "bodyStructure/subParts/1/blobId"],
            ),
            (
                json!({"subject": "a", "bodyStructure": {"partId": "1", "header:Subject": "b"}}),
                vec!["subject", "bodyStructure"],
            ),
            (json!({"bodyStructure": 1}), vec!["bodyStructure"]),
        ] {
            let mut object = object;
            object["bodyValues"] = values.clone();
            assert_eq!(refused(object.clone()), wanted, "{object}");
        }
        for (values, wanted) in [
            (json!([]), vec!["bodyValues"]),
            (json!({"1": {"value": "x", "isTruncated": true}}), vec!["bodyValues/1/isTruncated"]),
            (json!({"1": {"value": "x", "isEncodingProblem": true}}), vec!["bodyValues/1/isEncodingProblem"]),
            (json!({"1": {"value": 3}}), vec!["bodyValues/1/value"]),
            (json!({"1": {"value": "", "other": false}}), vec!["bodyValues/1/other"]),
        ] {
            assert_eq!(refused(json!({"bodyValues": values})), wanted);
        }
    }

    #[test]
    fn depth_and_number_of_parts_are_bounded() {
        let nested = |depth: usize| {
            (0..depth).fold(
                json!({"partId": "1"}),
                |part, _| json!({"type": "multipart/mixed", "subParts": [part]}),
            )
        };
        let object = |depth| json!({"bodyStructure": nested(depth), "bodyValues": {"1": {"value": ""}}});
        assert!(composed(object(50)).contains("multipart/mixed"));
        assert_eq!(refused(object(51)).len(), 1);
        assert!(read(json!({"attachments": vec![json!({"blobId": "b"}); 1000]})).is_ok());
        assert_eq!(refused(json!({"attachments": vec![json!({"blobId": "b"}); 1001]})), ["attachments/1000"]);
        assert_eq!(refused(json!({"attachments": vec![json!(1); 5000]})).len(), MAX_NAMED);
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~]{0,100}", "\\PC{0,40}", "[a-zäöü\n.=]{0,200}"]
    }

    fn line() -> impl Strategy<Value = String> {
        text().prop_map(|text| text.replace('\n', " "))
    }

    proptest! {
        #[test]
        fn a_message_says_what_its_draft_said(
            subject in line(), name in line(), file in line(), plain in text(), html in text(),
            content in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let draft = read(json!({
                "subject": subject, "from": [{"name": name, "email": "a@b.test"}],
                "textBody": [{"partId": "t"}], "htmlBody": [{"partId": "h"}],
                "attachments": [{"blobId": "b", "name": file}],
                "bodyValues": {"t": {"value": plain}, "h": {"value": html}},
            })).unwrap();
            let blobs = HashMap::from([("b".to_owned(), Bytes::from(content.clone()))]);
            let defaults = Defaults { now_ms: 0, message_id_domain: "x.test".into(), random: 1 };
            let raw = compose(&draft, &blobs, &defaults).unwrap();
            prop_assert!(raw.is_ascii());
            let survey = Survey::of(&raw);
            prop_assert!(!survey.has_binary && survey.longest_line <= 998);
            let message = MessageParser::new().parse(&raw).unwrap();
            prop_assert_eq!(message.subject().unwrap_or(""), subject);
            let Some(Address::List(from)) = message.from() else { panic!() };
            prop_assert_eq!(from[0].name.as_deref().unwrap_or("").trim(), name.trim());
            let part = |at| message.part(at).unwrap().text_contents().unwrap_or("").replace("\r\n", "\n");
            prop_assert_eq!(part(2), plain);
            prop_assert_eq!(part(3), html);
            let attachment = message.part(4).unwrap();
            prop_assert_eq!(attachment.contents(), &content[..]);
            prop_assert_eq!(attachment.attachment_name().unwrap_or(""), file);
        }
    }
}
