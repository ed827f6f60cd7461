//! Composing a message from a draft: legal RFC 5322 and MIME, CRLF line ends, ASCII but for what
//! has no other form.
//!
//! A `Draft` is what a client asked for, already judged: names, ids and values hold no CR, LF or
//! NUL (but for folds in raw values). Text comes with the draft, other content is a blob that the
//! caller loads. Nothing here reads a clock or makes random numbers: they are handed in.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;

use crate::mail::encode_body::{TransferEncoding, encode_message, encoding_of_text, write_encoded};
use crate::mail::header_text::{FieldWriter, Group, Mailbox, ZonedDate, rfc5322_date};
use crate::mail::reencode::normalize_line_ends;

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
    Structure(DraftPart),
    /// Text, HTML and attachments; the structure is found here.
    Simple {
        /// The text/plain part.
        text: Option<DraftPart>,
        /// The text/html part.
        html: Option<DraftPart>,
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
        let mut waiting: Vec<&DraftPart> = match &self.body {
            DraftBody::Structure(part) => vec![part],
            DraftBody::Simple { text, html, attachments } => {
                text.iter().chain(html).chain(attachments).collect()
            }
        };
        let mut ids = BTreeSet::new();
        while let Some(part) = waiting.pop() {
            match &part.content {
                DraftContent::Blob(id) => {
                    ids.insert(id.as_str());
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

    let root_headers = match &body {
        Node::Leaf { part, .. } | Node::Multipart { part: Some(part), .. } => part.headers.as_slice(),
        Node::Multipart { part: None, .. } => &[],
    };
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
    let mut boundaries = Boundaries { prefix: boundary, made: 0 };
    write_node(&mut out, &body, &mut boundaries);
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

fn write_words(out: &mut Vec<u8>, name: &str, words: Vec<String>) {
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

/// A part with its content made ready.
enum Node<'a> {
    Leaf {
        part: &'a DraftPart,
        charset: Option<&'a str>,
        content: Cow<'a, [u8]>,
        encoding: TransferEncoding,
        fallback: Fallback,
    },
    Multipart {
        subtype: &'static str,
        part: Option<&'a DraftPart>,
        children: Vec<Node<'a>>,
    },
}

/// The disposition of a part that asks for none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fallback {
    None,
    Inline,
    Attachment,
}

impl Node<'_> {
    fn media_type(&self) -> String {
        match self {
            Node::Leaf { part, .. } | Node::Multipart { part: Some(part), .. } => part.media_type.clone(),
            Node::Multipart { subtype, part: None, .. } => format!("multipart/{subtype}"),
        }
    }

    /// About how long the part will be.
    fn encoded_len(&self) -> usize {
        match self {
            Node::Leaf { content, encoding: TransferEncoding::Base64, .. } => content.len() / 2 * 3 + 512,
            Node::Leaf { content, .. } => content.len() + content.len() / 4 + 512,
            Node::Multipart { children, .. } => 512 + children.iter().map(Node::encoded_len).sum::<usize>(),
        }
    }
}

fn prepare_body<'a>(
    body: &'a DraftBody,
    blobs: &'a HashMap<String, Bytes>,
) -> Result<Node<'a>, ComposeError> {
    let (text, html, attachments) = match body {
        DraftBody::Structure(part) => return prepare(part, blobs, Fallback::None, 0),
        DraftBody::Simple { text, html, attachments } => (text, html, attachments),
    };
    // Images that the HTML shows travel beside it (RFC 2387), all else after the text.
    let is_shown = |part: &&DraftPart| {
        html.is_some()
            && part.cid.is_some()
            && part.disposition.as_deref().is_none_or(|value| value != "attachment")
    };
    let (shown, attached): (Vec<&DraftPart>, Vec<&DraftPart>) = attachments.iter().partition(is_shown);
    let leaf = |part: &'a DraftPart, fallback| prepare(part, blobs, fallback, 3);
    let leaves = |parts: Vec<&'a DraftPart>, fallback| -> Result<Vec<Node<'a>>, ComposeError> {
        parts.into_iter().map(|part| leaf(part, fallback)).collect()
    };

    let mut nodes = Vec::new();
    if let Some(text) = text {
        nodes.push(leaf(text, Fallback::None)?);
    }
    if let Some(html) = html {
        let mut related = vec![leaf(html, Fallback::None)?];
        related.extend(leaves(shown, Fallback::Inline)?);
        nodes.extend(single_or("related", related));
    }
    let mut mixed: Vec<Node<'a>> = single_or("alternative", nodes).into_iter().collect();
    mixed.extend(leaves(attached, Fallback::Attachment)?);
    if mixed.is_empty() {
        // A message without a body is one of no lines.
        mixed.push(Node::Leaf {
            part: &EMPTY_TEXT,
            charset: Some("utf-8"),
            content: Cow::Borrowed(b""),
            encoding: TransferEncoding::SevenBit,
            fallback: Fallback::None,
        });
    }
    let has_text = text.is_some() || html.is_some();
    match <[Node<'a>; 1]>::try_from(mixed) {
        Ok([only]) if has_text || attachments.is_empty() => Ok(only),
        Ok([only]) => Ok(Node::Multipart { subtype: "mixed", part: None, children: vec![only] }),
        Err(children) => Ok(Node::Multipart { subtype: "mixed", part: None, children }),
    }
}

static EMPTY_TEXT: std::sync::LazyLock<DraftPart> =
    std::sync::LazyLock::new(|| DraftPart::new("text/plain", DraftContent::Text(String::new())));

fn single_or<'a>(subtype: &'static str, mut nodes: Vec<Node<'a>>) -> Option<Node<'a>> {
    if nodes.len() > 1 {
        return Some(Node::Multipart { subtype, part: None, children: nodes });
    }
    nodes.pop()
}

fn prepare<'a>(
    part: &'a DraftPart,
    blobs: &'a HashMap<String, Bytes>,
    fallback: Fallback,
    depth: usize,
) -> Result<Node<'a>, ComposeError> {
    let is_text = part.media_type.starts_with("text/");
    let is_message = part.media_type.starts_with("message/");
    match &part.content {
        DraftContent::Multipart(_) if depth > MAX_DEPTH => Err(ComposeError::TooDeep),
        DraftContent::Multipart(parts) => {
            let children = parts
                .iter()
                .map(|child| prepare(child, blobs, Fallback::None, depth + 1))
                .collect::<Result<_, _>>()?;
            Ok(Node::Multipart { subtype: "mixed", part: Some(part), children })
        }
        DraftContent::Text(text) => {
            let (content, encoding) = if is_message {
                encode_message(text.as_bytes())
            } else {
                let content = normalize_line_ends(text.as_bytes());
                let encoding = encoding_of_text(&content);
                (content, encoding)
            };
            Ok(Node::Leaf { part, charset: is_text.then_some("utf-8"), content, encoding, fallback })
        }
        DraftContent::Blob(id) => {
            let content: &[u8] = blobs.get(id).ok_or_else(|| ComposeError::BlobNotFound(vec![id.clone()]))?;
            let (content, encoding) = if is_message {
                encode_message(content)
            } else {
                (Cow::Borrowed(content), TransferEncoding::Base64)
            };
            // Text without a charset is ASCII to its readers (RFC 2045, 5.2).
            let is_unicode = is_text && !content.is_ascii() && std::str::from_utf8(&content).is_ok();
            let charset = part.charset.as_deref().or(is_unicode.then_some("utf-8"));
            Ok(Node::Leaf { part, charset, content, encoding, fallback })
        }
    }
}

/// Makes the boundaries of one message: one prefix, counted on.
struct Boundaries {
    prefix: String,
    made: usize,
}

impl Boundaries {
    fn next(&mut self) -> String {
        self.made += 1;
        format!("{}{}", self.prefix, self.made)
    }
}

/// A prefix of boundaries that begins no line of the content. It holds `=_`, which neither base64
/// nor quoted-printable can (RFC 2045, 6.7), so that only content left as it is has to be searched.
fn free_boundary(body: &Node<'_>, random: u128) -> Option<String> {
    (0..16_u128).find_map(|attempt| {
        let prefix = format!("=_{:032x}.", random.wrapping_add(attempt << 64));
        let line_start = format!("--{prefix}");
        (!occurs(body, line_start.as_bytes())).then_some(prefix)
    })
}

fn occurs(node: &Node<'_>, line_start: &[u8]) -> bool {
    match node {
        Node::Leaf { content, encoding, .. } => {
            encoding.is_identity()
                && content.split(|byte| *byte == b'\n').any(|line| line.starts_with(line_start))
        }
        Node::Multipart { children, .. } => children.iter().any(|child| occurs(child, line_start)),
    }
}

/// Writes a part: its header, an empty line, its content. Deeper than `MAX_DEPTH` and the levels of
/// the simple form it never goes: `prepare` refused what is.
fn write_node(out: &mut Vec<u8>, node: &Node<'_>, boundaries: &mut Boundaries) {
    match node {
        Node::Leaf { part, charset, content, encoding, fallback } => {
            write_part_header(out, part, &part.media_type, *charset, None, None, *fallback);
            if *encoding != TransferEncoding::SevenBit {
                out.extend_from_slice(
                    format!("Content-Transfer-Encoding: {}\r\n", encoding.word()).as_bytes(),
                );
            }
            out.extend_from_slice(b"\r\n");
            write_encoded(out, content, *encoding);
        }
        Node::Multipart { part, children, .. } => {
            let boundary = boundaries.next();
            let media_type = node.media_type();
            // RFC 2387, 3.1: multipart/related names the type of its root.
            let root_type =
                (media_type == "multipart/related").then(|| children.first().map(Node::media_type)).flatten();
            let bare = DraftPart::new(&media_type, DraftContent::Multipart(Vec::new()));
            let part = part.unwrap_or(&bare);
            write_part_header(
                out,
                part,
                &media_type,
                None,
                Some(&boundary),
                root_type.as_deref(),
                Fallback::None,
            );
            if has_eight_bit(node) {
                // RFC 2045, 6.4: a multipart is labelled as the widest of what it holds.
                out.extend_from_slice(b"Content-Transfer-Encoding: 8bit\r\n");
            }
            for child in children {
                out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
                write_node(out, child, boundaries);
            }
            if children.is_empty() {
                // RFC 2046, 5.1.1: a multipart has one part at least.
                out.extend_from_slice(format!("\r\n--{boundary}\r\n\r\n").as_bytes());
            }
            out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        }
    }
}

fn has_eight_bit(node: &Node<'_>) -> bool {
    match node {
        Node::Leaf { encoding, .. } => *encoding == TransferEncoding::EightBit,
        Node::Multipart { children, .. } => children.iter().any(has_eight_bit),
    }
}

fn write_part_header(
    out: &mut Vec<u8>,
    part: &DraftPart,
    media_type: &str,
    charset: Option<&str>,
    boundary: Option<&str>,
    root_type: Option<&str>,
    fallback: Fallback,
) {
    let disposition = part.disposition.as_deref().or(match fallback {
        Fallback::None => None,
        Fallback::Inline => Some("inline"),
        Fallback::Attachment => Some("attachment"),
    });
    let mut parameters: Vec<(&str, &str)> = Vec::new();
    parameters.extend(charset.map(|charset| ("charset", charset)));
    parameters.extend(part.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let has_type = part.parameters.iter().any(|(name, _)| name == "type");
    parameters.extend(root_type.filter(|_| !has_type).map(|root_type| ("type", root_type)));
    parameters.extend(boundary.map(|boundary| ("boundary", boundary)));
    // A file name belongs to the disposition; without one there is only the old place for it.
    let name = part.name.as_deref();
    parameters.extend(name.filter(|_| disposition.is_none()).map(|name| ("name", name)));
    let mut writer = FieldWriter::start(out, "Content-Type");
    writer.with_parameters(media_type, &parameters);
    writer.finish();

    if let Some(disposition) = disposition {
        let parameters: Vec<_> = name.map(|name| ("filename", name)).into_iter().collect();
        let mut writer = FieldWriter::start(out, "Content-Disposition");
        writer.with_parameters(disposition, &parameters);
        writer.finish();
    }
    if let Some(cid) = &part.cid {
        write_words(out, "Content-ID", vec![format!("<{cid}>")]);
    }
    let last = part.language.len().saturating_sub(1);
    let end = |at| if at < last { "," } else { "" };
    let tags = part.language.iter().enumerate().map(|(at, tag)| format!("{tag}{}", end(at)));
    write_words(out, "Content-Language", tags.collect());
    if let Some(location) = &part.location {
        write_header(out, "Content-Location", &HeaderValue::Text(location.clone()));
    }
    part.headers.iter().for_each(|field| write_header(out, &field.name, &field.value));
}
