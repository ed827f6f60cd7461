//! A message as the REST API shows it, made of what Email/get answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::mail::clean_html::clean_html;
use crate::mail::html::to_text;

/// Octets of each text of a message that is read.
pub const MAX_TEXT: usize = 1 << 20;

/// What of an Email is in a list.
pub const SUMMARY: [&str; 18] = [
    "id",
    "threadId",
    "blobId",
    "mailboxIds",
    "keywords",
    "size",
    "receivedAt",
    "sentAt",
    "messageId",
    "inReplyTo",
    "from",
    "to",
    "cc",
    "bcc",
    "replyTo",
    "subject",
    "preview",
    "hasAttachment",
];

/// An address, with the name of whoever has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Map<String, Value>", deny_unknown_fields)]
pub struct MailAddress {
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address.
    pub email: String,
}

/// As an object only: serde takes a list for a struct as well.
impl TryFrom<Map<String, Value>> for MailAddress {
    type Error = String;

    fn try_from(object: Map<String, Value>) -> Result<MailAddress, String> {
        let mut address = MailAddress { name: None, email: String::new() };
        for (name, value) in object {
            match (name.as_str(), value) {
                ("name", Value::String(name)) => address.name = Some(name),
                ("name", Value::Null) => {}
                ("email", Value::String(email)) => address.email = email,
                ("name" | "email", _) => return Err(format!("{name}: a text is wanted")),
                _ => return Err(format!("unknown field `{name}` of an address, which has name and email")),
            }
        }
        if address.email.is_empty() { Err("email is wanted".to_owned()) } else { Ok(address) }
    }
}

/// A message in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageSummary {
    /// Its id.
    id: String,
    /// The conversation that it is part of.
    thread_id: String,
    /// The mailboxes that it is in, by their ids.
    mailboxes: Vec<String>,
    /// Whether it was read.
    seen: bool,
    /// Whether it is flagged.
    flagged: bool,
    /// Whether it was answered.
    answered: bool,
    /// Whether it is a draft.
    draft: bool,
    /// All keywords, in lower case, those of the flags included.
    keywords: Vec<String>,
    /// Octets of the whole message.
    size: u64,
    /// When it was received, as UTC date (RFC 3339).
    #[schema(format = DateTime)]
    received_at: String,
    /// The Date of its header.
    #[schema(format = DateTime)]
    sent_at: Option<String>,
    /// The Message-ID of its header (RFC 5322, 3.6.4), without angle brackets.
    internet_message_id: Option<String>,
    /// What it answers, as Message-IDs.
    in_reply_to: Vec<String>,
    from: Vec<MailAddress>,
    to: Vec<MailAddress>,
    cc: Vec<MailAddress>,
    bcc: Vec<MailAddress>,
    reply_to: Vec<MailAddress>,
    /// Its subject.
    subject: String,
    /// Up to 256 characters of its text.
    preview: String,
    /// Whether it has attachments.
    has_attachment: bool,
}

/// An attachment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// By which it is downloaded, or attached to another message.
    blob_id: String,
    /// Its file name.
    name: Option<String>,
    /// Its media type.
    #[serde(rename = "type")]
    media_type: String,
    /// Octets, decoded.
    size: u64,
    /// Its Content-ID, by which HTML refers to it.
    #[serde(rename(deserialize = "cid"))]
    content_id: Option<String>,
    /// `attachment` or `inline`.
    disposition: Option<String>,
}

/// A header field.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HeaderField {
    /// Its name as it stands there.
    name: String,
    /// Its value as it stands there, folded and encoded, without blanks around it.
    value: String,
}

impl HeaderField {
    /// Without the blank after the colon.
    fn trimmed(self) -> HeaderField {
        HeaderField { value: self.value.trim().to_owned(), ..self }
    }
}

/// A whole message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    #[serde(flatten)]
    summary: MessageSummary,
    /// Its text, made of the HTML if there is no other; at most 1 MiB.
    text: String,
    /// Its HTML, cleaned: without scripts, styles, forms and frames. Pictures may lie elsewhere, and tell who looks at
    /// them. Made of at most 1 MiB; absent where it has more tags than a letter. `raw` has all of it as it came.
    html: Option<String>,
    /// Whether text or HTML were cut.
    is_truncated: bool,
    /// The header fields, in order.
    headers: Vec<HeaderField>,
    /// Its attachments.
    attachments: Vec<Attachment>,
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessagePage {
    /// The newest first; of a thread the oldest.
    pub messages: Vec<MessageSummary>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// An Email as JMAP gives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Email {
    id: String,
    thread_id: String,
    pub blob_id: String,
    mailbox_ids: BTreeMap<String, bool>,
    keywords: BTreeMap<String, bool>,
    size: u64,
    received_at: String,
    sent_at: Option<String>,
    message_id: Option<Vec<String>>,
    in_reply_to: Option<Vec<String>>,
    from: Option<Vec<JmapAddress>>,
    to: Option<Vec<JmapAddress>>,
    cc: Option<Vec<JmapAddress>>,
    bcc: Option<Vec<JmapAddress>>,
    reply_to: Option<Vec<JmapAddress>>,
    subject: Option<String>,
    preview: String,
    has_attachment: bool,
    references: Option<Vec<String>>,
    headers: Option<Vec<HeaderField>>,
    body_values: Option<BTreeMap<String, BodyValue>>,
    text_body: Option<Vec<BodyPart>>,
    html_body: Option<Vec<BodyPart>>,
    attachments: Option<Vec<Attachment>>,
}

impl Email {
    /// Its authors.
    pub fn from(&self) -> Vec<MailAddress> {
        addresses(self.from.clone())
    }

    /// Where answers go, if it says so.
    pub fn reply_to(&self) -> Vec<MailAddress> {
        addresses(self.reply_to.clone())
    }

    /// Its recipients.
    pub fn to(&self) -> Vec<MailAddress> {
        addresses(self.to.clone())
    }

    /// Its further recipients.
    pub fn cc(&self) -> Vec<MailAddress> {
        addresses(self.cc.clone())
    }

    /// Its subject.
    pub fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or_default()
    }

    /// Its Message-ID.
    pub fn message_id(&self) -> Option<String> {
        self.message_id.as_ref().and_then(|ids| ids.first().cloned())
    }

    /// The Message-IDs of the conversation before it.
    pub fn references(&self) -> Vec<String> {
        self.references.clone().or_else(|| self.in_reply_to.clone()).unwrap_or_default()
    }
}

#[derive(Clone, Deserialize)]
struct JmapAddress {
    name: Option<String>,
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BodyValue {
    value: String,
    is_truncated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BodyPart {
    part_id: Option<String>,
    r#type: String,
}

fn addresses(given: Option<Vec<JmapAddress>>) -> Vec<MailAddress> {
    let address = |JmapAddress { name, email }| MailAddress { name, email };
    given.unwrap_or_default().into_iter().map(address).collect()
}

impl From<Email> for MessageSummary {
    fn from(email: Email) -> MessageSummary {
        let has = |keyword: &str| email.keywords.contains_key(keyword);
        MessageSummary {
            seen: has("$seen"),
            flagged: has("$flagged"),
            answered: has("$answered"),
            draft: has("$draft"),
            id: email.id,
            thread_id: email.thread_id,
            mailboxes: email.mailbox_ids.into_keys().collect(),
            keywords: email.keywords.into_keys().collect(),
            size: email.size,
            received_at: email.received_at,
            sent_at: email.sent_at,
            internet_message_id: email.message_id.and_then(|ids| ids.into_iter().next()),
            in_reply_to: email.in_reply_to.unwrap_or_default(),
            from: addresses(email.from),
            to: addresses(email.to),
            cc: addresses(email.cc),
            bcc: addresses(email.bcc),
            reply_to: addresses(email.reply_to),
            subject: email.subject.unwrap_or_default(),
            preview: email.preview,
            has_attachment: email.has_attachment,
        }
    }
}

impl From<Email> for Message {
    fn from(mut email: Email) -> Message {
        let values = email.body_values.take().unwrap_or_default();
        let mut is_truncated = false;
        let mut text_of = |parts: Option<Vec<BodyPart>>, is_html: bool| {
            let mut all = Vec::new();
            for part in parts.unwrap_or_default() {
                let value = part.part_id.as_ref().and_then(|id| values.get(id));
                if let Some(value) = value
                    && is_html == part.r#type.eq_ignore_ascii_case("text/html")
                {
                    is_truncated |= value.is_truncated;
                    all.push(value.value.as_str());
                }
            }
            all.join("\n")
        };
        let text = text_of(email.text_body.take(), false);
        let html = Some(text_of(email.html_body.take(), true)).filter(|html| !html.is_empty());
        let text = match &html {
            Some(html) if text.is_empty() => to_text(html, MAX_TEXT),
            _ => text,
        };
        Message {
            text,
            html: html.and_then(|html| clean_html(&html)),
            is_truncated,
            headers: email.headers.take().unwrap_or_default().into_iter().map(HeaderField::trimmed).collect(),
            attachments: email.attachments.take().unwrap_or_default(),
            summary: email.into(),
        }
    }
}
