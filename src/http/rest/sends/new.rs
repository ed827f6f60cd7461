//! A message to be sent, as a program gives it, and the Email/set create that it is.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::blob::prepared::PreparedBlob;
use crate::http::rest::messages::object::MailAddress;
use crate::http::rest::problem::Problem;
use crate::http::rest::sends::template::{Filler, UseTemplate};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::jmap::error::SetError;
use crate::jmap::limits::{MAX_DELAYED_SEND, UPLOAD_QUOTA};
use crate::jmap::submission::create::Sending;
use crate::jmap::submission::send::ToSend;
use crate::store::submission::note::Note;
use crate::store::tx::Tx;
use crate::types::blob_id::BlobId;
use crate::types::date::{parse_date, utc_date};
use crate::types::id::Id;

/// Tags of a message, and characters of each.
const MAX_TAGS: usize = 10;
const MAX_TAG: usize = 64;
/// Octets of the metadata of a message, as JSON.
const MAX_METADATA: usize = 4_096;

/// Something attached: either its content, or the blob of something that is there already.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAttachment {
    /// Its file name.
    name: Option<String>,
    /// Its media type; else `application/octet-stream`.
    #[serde(rename = "type")]
    media_type: Option<String>,
    /// Its content in base64.
    content: Option<String>,
    /// A blob that the account has, such as that of another message's attachment.
    blob_id: Option<String>,
    /// Makes it an inline part, to which the HTML refers as `cid:` and this.
    content_id: Option<String>,
}

/// A message to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "from": { "name": "Alice", "email": "alice@example.org" }, "to": [{ "email": "bob@example.com" }],
    "subject": "Your order", "text": "It is on its way.", "html": "<p>It is <b>on its way</b>.</p>",
    "tags": ["order"], "metadata": { "order": 1234 }
}))]
pub struct NewSend {
    /// The author, whose account sends it; one that the key reaches.
    pub from: MailAddress,
    /// The recipients; with `cc` and `bcc` at least one, and at most 1,000.
    #[serde(default)]
    pub to: Vec<MailAddress>,
    #[serde(default)]
    pub cc: Vec<MailAddress>,
    /// Recipients that the others do not see.
    #[serde(default)]
    pub bcc: Vec<MailAddress>,
    /// Where answers go, if not to the author.
    #[serde(default)]
    pub reply_to: Vec<MailAddress>,
    /// The subject.
    #[serde(default)]
    pub subject: String,
    /// Makes the subject, the text and the HTML, in place of these.
    pub template: Option<UseTemplate>,
    /// The text; with `html`, for those who do not show that.
    pub text: Option<String>,
    /// The HTML.
    pub html: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<NewAttachment>)]
    pub attachments: Vec<Map<String, Value>>,
    /// Further header fields by their names, such as `List-Unsubscribe`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The Message-ID that this answers, without angle brackets.
    pub in_reply_to: Option<String>,
    /// The Message-IDs of the conversation, the oldest first.
    #[serde(default)]
    pub references: Vec<String>,
    /// When it leaves (RFC 3339), at most 30 days from now; else at once.
    #[schema(format = DateTime)]
    pub send_at: Option<String>,
    /// Whether this is a test: the message is made and kept with the keyword `test`, nobody gets it, and everybody
    /// counts as having got it.
    #[serde(default)]
    pub test: bool,
    /// At most 10 words of at most 64 characters, which are told back.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Any object of at most 4 KiB, which is told back.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

impl NewSend {
    /// With nothing in it yet.
    pub fn new(from: MailAddress, to: Vec<MailAddress>, subject: String) -> NewSend {
        NewSend {
            from,
            to,
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            subject,
            template: None,
            text: None,
            html: None,
            attachments: Vec::new(),
            headers: BTreeMap::new(),
            in_reply_to: None,
            references: Vec::new(),
            send_at: None,
            test: false,
            tags: Vec::new(),
            metadata: Map::new(),
        }
    }
}

impl NewAttachment {
    /// Something that the account has.
    pub fn of_blob(blob_id: &str, media_type: &str, name: &str) -> Map<String, Value> {
        let members = [("blobId", blob_id), ("type", media_type), ("name", name)];
        members.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }
}

/// Many messages to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "messages": [
    { "from": { "email": "shop@example.org" }, "to": [{ "email": "bob@example.net" }], "subject": "One", "text": "1" },
    { "from": { "email": "shop@example.org" }, "to": [{ "email": "carol@example.net" }], "subject": "Two", "text": "2" }
] }))]
pub struct NewBatch {
    /// At most 500, all from addresses of one account.
    #[schema(min_items = 1, max_items = 500, value_type = Vec<NewSend>)]
    pub messages: Vec<Map<String, Value>>,
}

/// A message with its template filled, if it has one.
pub fn filled(mut new: NewSend, filler: &mut Filler<'_>) -> Result<NewSend, Problem> {
    let Some(wanted) = new.template.take() else { return Ok(new) };
    if !new.subject.is_empty() || new.text.is_some() || new.html.is_some() {
        return Err(Problem::field("template", "it makes subject, text and html; do not give them as well"));
    }
    let made = filler.fill(&wanted).map_err(|why| Problem::field("template", why))?;
    Ok(NewSend { subject: made.subject, text: made.text, html: made.html, ..new })
}

/// The Email/set create and the envelope of a message. Attachments that come with it are uploaded.
pub async fn to_send(
    http: &HttpState,
    account: &AccountAccess,
    place: Id,
    new: NewSend,
) -> Result<Result<(ToSend, Sending), Problem>, Problem> {
    let note = Note { tags: new.tags, metadata: new.metadata };
    if note.tags.len() > MAX_TAGS
        || note.tags.iter().any(|tag| tag.is_empty() || tag.chars().count() > MAX_TAG)
    {
        let text = format!("at most {MAX_TAGS} of 1 to {MAX_TAG} characters are wanted");
        return Ok(Err(Problem::field("tags", text)));
    }
    if Value::Object(note.metadata.clone()).to_string().len() > MAX_METADATA {
        let text = format!("at most {MAX_METADATA} octets of JSON are kept");
        return Ok(Err(Problem::field("metadata", text)));
    }
    if new.text.is_none() && new.html.is_none() && new.attachments.is_empty() {
        return Ok(Err(Problem::field("text", "it, html, or an attachment is wanted")));
    }
    let mut email = Map::new();
    email.insert("mailboxIds".to_owned(), json!({ place.to_string(): true }));
    let keywords = if new.test { json!({ "$seen": true, "test": true }) } else { json!({ "$seen": true }) };
    email.insert("keywords".to_owned(), keywords);
    email.insert("from".to_owned(), json!([new.from]));
    email.insert("subject".to_owned(), json!(new.subject));
    for (name, addresses) in [("to", &new.to), ("cc", &new.cc), ("bcc", &new.bcc), ("replyTo", &new.reply_to)]
    {
        if !addresses.is_empty() {
            email.insert(name.to_owned(), json!(addresses));
        }
    }
    let references =
        if new.references.is_empty() { new.in_reply_to.iter().cloned().collect() } else { new.references };
    for (name, ids) in [("inReplyTo", new.in_reply_to.into_iter().collect()), ("references", references)] {
        let ids: Vec<String> = ids;
        if !ids.is_empty() {
            email.insert(name.to_owned(), json!(ids));
        }
    }
    for (name, value) in new.headers {
        // As it stands, unless it must be encoded (RFC 2047).
        if value.is_ascii() {
            email.insert(format!("header:{name}:asRaw"), json!(format!(" {value}")));
        } else {
            email.insert(format!("header:{name}:asText"), json!(value));
        }
    }
    let mut values = Map::new();
    for (name, part_id, media_type, text) in
        [("textBody", "text", "text/plain", new.text), ("htmlBody", "html", "text/html", new.html)]
    {
        if let Some(text) = text {
            values.insert(part_id.to_owned(), json!({ "value": text }));
            email.insert(name.to_owned(), json!([{ "partId": part_id, "type": media_type }]));
        }
    }
    email.insert("bodyValues".to_owned(), Value::Object(values));
    let mut attachments = Vec::with_capacity(new.attachments.len());
    for (number, attachment) in new.attachments.into_iter().enumerate() {
        let wrong = |why: String| Problem::field(&format!("attachments[{number}]"), why);
        let read = serde_json::from_value::<NewAttachment>(Value::Object(attachment));
        let part = match read {
            Ok(attachment) => attach(http, account, attachment).await?.map_err(wrong),
            Err(error) => Err(wrong(error.to_string())),
        };
        match part {
            Ok(part) => attachments.push(part),
            Err(problem) => return Ok(Err(problem)),
        }
    }
    if !attachments.is_empty() {
        email.insert("attachments".to_owned(), Value::Array(attachments));
    }
    let envelope = match new.send_at {
        None => None,
        Some(text) => {
            let Some(at) = parse_date(&text) else {
                return Ok(Err(Problem::field("sendAt", format!("{text:?} is no date (RFC 3339)"))));
            };
            // Its Date is that on which it leaves; a time that has passed is now.
            if at > http.app.clock.now_ms() {
                email.insert("sentAt".to_owned(), json!(utc_date(at)));
            }
            let recipients: Vec<Value> = [&new.to, &new.cc, &new.bcc]
                .into_iter()
                .flatten()
                .map(|address| json!({ "email": address.email }))
                .collect();
            // RFC 8621, 7, by FUTURERELEASE (RFC 4865).
            Some(json!({
                "mailFrom": { "email": new.from.email, "parameters": { "HOLDUNTIL": utc_date(at) } },
                "rcptTo": recipients,
            }))
        }
    };
    let sending = Sending { note, heeds_suppressions: true, is_test: new.test };
    Ok(Ok((ToSend { email, envelope, is_test: sending.is_test }, sending)))
}

/// Why JMAP refuses a message, in the words of this API.
pub fn refused(error: SetError) -> Problem {
    let why = error.description.clone().unwrap_or_default();
    match (error.kind, error.properties.first()) {
        ("blobNotFound", _) => Problem::field("attachments", "a blobId is not of this account, or has gone"),
        ("noRecipients", _) => Problem::field("to", "a recipient is wanted here, in cc or in bcc"),
        ("invalidRecipients" | "tooManyRecipients", _) => Problem::field("to", why),
        ("invalidProperties", Some(property)) if property == "envelope" => {
            let days = MAX_DELAYED_SEND / 86_400;
            Problem::field("sendAt", format!("a time within the next {days} days is wanted"))
        }
        ("invalidProperties", Some(property)) => {
            let why = why.strip_prefix(&format!("{property}: ")).unwrap_or(&why).to_owned();
            let field = match property.split('/').next().unwrap_or_default() {
                "bodyValues" | "textBody" => "text".to_owned(),
                "htmlBody" => "html".to_owned(),
                other => match other.strip_prefix("header:") {
                    Some(header) => format!("headers.{}", header.split(':').next().unwrap_or_default()),
                    None => other.to_owned(),
                },
            };
            Problem::field(&field, why)
        }
        _ => error.into(),
    }
}

/// The body part of an attachment; or what is wrong with it.
async fn attach(
    http: &HttpState,
    account: &AccountAccess,
    new: NewAttachment,
) -> Result<Result<Value, String>, Problem> {
    let blob_id = match (new.content, new.blob_id) {
        (Some(content), None) => {
            let Ok(octets) = STANDARD.decode(content.as_bytes()) else {
                return Ok(Err("content is no base64".to_owned()));
            };
            upload(http, account, http.jmap.blobs.prepare(octets.into()).await?).await?.to_string()
        }
        (None, Some(blob_id)) => blob_id,
        _ => return Ok(Err("either content or blobId is wanted".to_owned())),
    };
    let is_inline = new.content_id.is_some();
    Ok(Ok(json!({
        "blobId": blob_id,
        "name": new.name,
        "type": new.media_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
        "disposition": if is_inline { "inline" } else { "attachment" },
        "cid": new.content_id,
    })))
}

async fn upload(http: &HttpState, account: &AccountAccess, blob: PreparedBlob) -> Result<BlobId, Problem> {
    let (id, login) = (BlobId::whole(blob.hash()), account.login_id);
    let unit = async move |tx: &mut Tx| blob.reference_upload(tx, login, UPLOAD_QUOTA).await;
    http.app.store.write(account.id, unit).await?;
    Ok(id)
}
