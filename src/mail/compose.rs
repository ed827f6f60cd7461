//! Composing a message from a draft: legal RFC 5322 and MIME, CRLF line ends, ASCII but for what
//! has no other form.
//!
//! A `Draft` is what a client asked for, already judged: names, ids and values hold no CR, LF or
//! NUL (but for folds in raw values). Text comes with the draft, other content is a blob that the
//! caller loads. Nothing here reads a clock or makes random numbers: they are handed in.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;

use crate::mail::compose_parts::{Boundaries, free_boundary, prepare_body, write_node};
use crate::mail::header_text::{FieldWriter, Group, Mailbox, ZonedDate, rfc5322_date};

/// Deepest nesting of multiparts that is composed.
pub const MAX_DEPTH: usize = 50;

/// A message to be composed.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// Fields of the message, in their order.
    pub headers: Vec<DraftHeader>,
    /// The body.
    pub body: DraftBody,
}

/// One header field.
#[derive(Clone, PartialEq, Debug)]
pub struct DraftHeader {
    /// Name as it will be written.
    pub name: String,
    /// Value in the form in which it was given.
    pub value: HeaderValue,
}

/// A header value in one of the forms of RFC 8621, 4.1.2.
#[derive(Clone, PartialEq, Debug)]
pub enum HeaderValue {
    /// As it stands after the colon.
    Raw(String),
    /// Unstructured text.
    Text(String),
    /// Mailboxes.
    Addresses(Vec<Mailbox>),
    /// Mailboxes in groups.
    GroupedAddresses(Vec<Group>),
    /// Message ids without angle brackets.
    MessageIds(Vec<String>),
    /// A date.
    Date(ZonedDate),
    /// URLs without angle brackets.
    Urls(Vec<String>),
}

/// A body: given part by part, or as what a mail program shows.
#[derive(Clone, PartialEq, Debug)]
pub enum DraftBody {
    /// The MIME structure as it shall be.
    Structure(Box<DraftPart>),
    /// Text, HTML and attachments; the structure is found here.
    Simple {
        /// The text/plain part.
        text: Option<Box<DraftPart>>,
        /// The text/html part.
        html: Option<Box<DraftPart>>,
        /// All others.
        attachments: Vec<DraftPart>,
    },
}

/// A body part.
#[derive(Clone, PartialEq, Debug)]
pub struct DraftPart {
    /// `type/subtype`, in lower case.
    pub media_type: String,
    /// Other parameters of Content-Type; neither charset nor boundary nor name.
    pub parameters: Vec<(String, String)>,
    /// Charset of a blob.
    pub charset: Option<String>,
    /// File name.
    pub name: Option<String>,
    /// `inline`, `attachment` or another token.
    pub disposition: Option<String>,
    /// Content-ID without angle brackets.
    pub cid: Option<String>,
    /// Language tags.
    pub language: Vec<String>,
    /// Content-Location.
    pub location: Option<String>,
    /// Further fields.
    pub headers: Vec<DraftHeader>,
    /// What the part holds.
    pub content: DraftContent,
}

/// What a part holds.
#[derive(Clone, PartialEq, Debug)]
pub enum DraftContent {
    /// Text that came with the draft.
    Text(String),
    /// A blob, by its id.
    Blob(String),
    /// Parts.
    Multipart(Vec<DraftPart>),
}

/// What is added to a draft that lacks it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defaults {
    /// The time for a missing Date, in milliseconds since 1970.
    pub now_ms: i64,
    /// The right side of a missing Message-ID.
    pub message_id_domain: String,
    /// Random bits for Message-ID and boundaries; fresh for each message.
    pub random: u128,
}

/// Why a draft cannot be composed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ComposeError {
    /// Blobs that were not handed in.
    BlobNotFound(Vec<String>),
    /// Multiparts are nested too deep.
    TooDeep,
    /// The boundary occurs in the content, whatever was tried.
    Boundary,
}

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ComposeError::BlobNotFound(ids) => write!(f, "blobs not found: {}", ids.join(", ")),
            ComposeError::TooDeep => write!(f, "multiparts are nested deeper than {MAX_DEPTH}"),
            ComposeError::Boundary => f.write_str("no boundary can be found"),
        }
    }
}

impl std::error::Error for ComposeError {}

impl DraftPart {
    /// A part of a type with its content and nothing else.
    pub fn new(media_type: &str, content: DraftContent) -> DraftPart {
        DraftPart {
            media_type: media_type.to_owned(),
            parameters: Vec::new(),
            charset: None,
            name: None,
            disposition: None,
            cid: None,
            language: Vec::new(),
            location: None,
            headers: Vec::new(),
            content,
        }
    }
}

impl Draft {
    /// The ids of all blobs that the draft uses, each once.
    pub fn blob_ids(&self) -> BTreeSet<&str> {
        self.blob_uses().into_iter().collect()
    }

    /// The blob ids of all parts that are made of blobs, one for each part, in no order.
    pub fn blob_uses(&self) -> Vec<&str> {
        let mut waiting: Vec<&DraftPart> = match &self.body {
            DraftBody::Structure(part) => vec![part],
            DraftBody::Simple { text, html, attachments } => {
                text.iter().chain(html).map(|part| &**part).chain(attachments).collect()
            }
        };
        let mut ids = Vec::new();
        while let Some(part) = waiting.pop() {
            match &part.content {
                DraftContent::Blob(id) => {
                    ids.push(id.as_str());
                }
                DraftContent::Multipart(parts) => waiting.extend(parts),
                DraftContent::Text(_) => {}
            }
        }
        ids
    }
}

/// Composes the message of a draft. `blobs` holds the content of every id of `draft.blob_ids()`.
pub fn compose(
    draft: &Draft,
    blobs: &HashMap<String, Bytes>,
    defaults: &Defaults,
) -> Result<Vec<u8>, ComposeError> {
    let missing: Vec<String> =
        draft.blob_ids().into_iter().filter(|id| !blobs.contains_key(*id)).map(str::to_owned).collect();
    if !missing.is_empty() {
        return Err(ComposeError::BlobNotFound(missing));
    }
    let body = prepare_body(&draft.body, blobs)?;
    let boundary = free_boundary(&body, defaults.random).ok_or(ComposeError::Boundary)?;

    let root_headers = body.extra_headers();
    let is_given = |name: &str| {
        draft.headers.iter().chain(root_headers).any(|field| field.name.eq_ignore_ascii_case(name))
    };
    let mut out = Vec::with_capacity(1024 + body.encoded_len());
    if !is_given("Date") {
        let now = HeaderValue::Date(ZonedDate { ms: defaults.now_ms, offset_minutes: 0 });
        write_header(&mut out, "Date", &now);
    }
    if !is_given("Message-ID") {
        let id = format!("{:032x}@{}", defaults.random, defaults.message_id_domain);
        write_header(&mut out, "Message-ID", &HeaderValue::MessageIds(vec![id]));
    }
    draft.headers.iter().for_each(|field| write_header(&mut out, &field.name, &field.value));
    if !is_given("MIME-Version") {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    write_node(&mut out, &body, &mut Boundaries::new(boundary));
    Ok(out)
}

/// Writes one field. An empty list is no field at all.
pub fn write_header(out: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    match value {
        HeaderValue::Raw(raw) => write_raw_header(out, name, raw),
        HeaderValue::Text(text) => {
            let mut writer = FieldWriter::start(out, name);
            writer.text(text);
            writer.finish();
        }
        HeaderValue::Addresses(mailboxes) => {
            let group = Group { name: None, addresses: mailboxes.clone() };
            write_header(out, name, &HeaderValue::GroupedAddresses(vec![group]));
        }
        HeaderValue::GroupedAddresses(groups) => {
            if groups.iter().any(|group| group.name.is_some() || !group.addresses.is_empty()) {
                let mut writer = FieldWriter::start(out, name);
                writer.addresses(groups);
                writer.finish();
            }
        }
        HeaderValue::MessageIds(ids) => {
            write_words(out, name, ids.iter().map(|id| format!("<{id}>")).collect())
        }
        HeaderValue::Urls(urls) => {
            let last = urls.len().saturating_sub(1);
            let end = |at| if at < last { "," } else { "" };
            write_words(
                out,
                name,
                urls.iter().enumerate().map(|(at, url)| format!("<{url}>{}", end(at))).collect(),
            );
        }
        HeaderValue::Date(date) => write_words(out, name, vec![rfc5322_date(*date)]),
    }
}

/// Writes a field of words, folded between them; without words, nothing.
pub fn write_words(out: &mut Vec<u8>, name: &str, words: Vec<String>) {
    if !words.is_empty() {
        let mut writer = FieldWriter::start(out, name);
        words.iter().for_each(|word| writer.word(word));
        writer.finish();
    }
}

/// Writes a raw value as it is, or folded at its spaces when a line of it is too long to be sent.
fn write_raw_header(out: &mut Vec<u8>, name: &str, raw: &str) {
    if name.len() + 1 + raw.split("\r\n").map(str::len).max().unwrap_or(0) <= 998 {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(b"\r\n");
    } else {
        write_words(out, name, raw.split_ascii_whitespace().map(str::to_owned).collect());
    }
}
