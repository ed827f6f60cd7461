//! The body of a message to be composed: which structure it gets, how each part is encoded, which
//! boundaries divide it.
//!
//! Recursion follows the nesting of multiparts, which `prepare_body` bounds.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

use crate::mail::compose::{
    ComposeError, DraftBody, DraftContent, DraftHeader, DraftPart, HeaderValue, MAX_DEPTH, write_header,
    write_words,
};
use crate::mail::encode_body::{TransferEncoding, encode_message, encoding_of_text, write_encoded};
use crate::mail::header_text::FieldWriter;
use crate::mail::reencode::normalize_line_ends;

/// A part with its content made ready.
pub enum Node<'a> {
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
pub enum Fallback {
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

    /// Fields that the draft asks for on the outermost part; they stand in the message's header.
    pub fn extra_headers(&self) -> &[DraftHeader] {
        match self {
            Node::Leaf { part, .. } | Node::Multipart { part: Some(part), .. } => &part.headers,
            Node::Multipart { part: None, .. } => &[],
        }
    }

    /// About how long the part will be.
    pub fn encoded_len(&self) -> usize {
        match self {
            Node::Leaf { content, encoding: TransferEncoding::Base64, .. } => content.len() / 2 * 3 + 512,
            Node::Leaf { content, .. } => content.len() + content.len() / 4 + 512,
            Node::Multipart { children, .. } => 512 + children.iter().map(Node::encoded_len).sum::<usize>(),
        }
    }
}

pub fn prepare_body<'a>(
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
pub struct Boundaries {
    prefix: String,
    made: usize,
}

impl Boundaries {
    /// Boundaries that begin with a prefix that `free_boundary` found.
    pub fn new(prefix: String) -> Boundaries {
        Boundaries { prefix, made: 0 }
    }

    fn next(&mut self) -> String {
        self.made += 1;
        format!("{}{}", self.prefix, self.made)
    }
}

/// A prefix of boundaries that begins no line of the content. It holds `=_`, which neither base64
/// nor quoted-printable can (RFC 2045, 6.7), so that only content left as it is has to be searched.
pub fn free_boundary(body: &Node<'_>, random: u128) -> Option<String> {
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
pub fn write_node(out: &mut Vec<u8>, node: &Node<'_>, boundaries: &mut Boundaries) {
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
    let has_own = part.headers.iter().any(|field| field.name.eq_ignore_ascii_case("Content-Disposition"));
    let disposition = part.disposition.as_deref().or(match fallback {
        _ if has_own => None,
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
