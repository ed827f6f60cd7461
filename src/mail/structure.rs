//! The body structure of a message (RFC 8621, 4.1.4), with offsets into its octets.
//!
//! Made once by `scan::scan` and stored as JSON. Parts stand in one flat list in the order of
//! reading, parents before children, so that no reader recurses. `message/rfc822` parts are
//! leaves: their octets, decoded, are a message of their own with its own structure.

use serde::{Deserialize, Serialize};

use crate::mail::fields::{Fields, fields};
use crate::types::blob_id::{BlobId, Encoding, Step};

/// Version of the scan that made a structure; raised when it would find something else.
pub const PARSER_VERSION: u8 = 1;

/// A message's parts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Structure {
    /// The `PARSER_VERSION` that made it.
    #[serde(rename = "v")]
    pub version: u8,
    /// In order of reading; the first is the whole message. Never empty when made by us.
    #[serde(rename = "p")]
    pub parts: Vec<Part>,
}

/// A part of a message: what an EmailBodyPart says of it, but for what the octets must tell.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// The partId; `None` if, and only if, this is a multipart.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub part_id: Option<u32>,
    /// Number of parts below this one, at any depth: they follow it in the list.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub descendants: u32,
    /// Header block: offset and length in octets, without the empty line.
    #[serde(rename = "h")]
    pub header: (u64, u64),
    /// Body: offset and length in octets, before decoding.
    #[serde(rename = "b")]
    pub body: (u64, u64),
    /// The transfer encoding.
    #[serde(rename = "e", default, skip_serializing_if = "is_no_encoding")]
    pub encoding: Encoding,
    /// The transfer encoding is none that we know; the body is then taken as it stands.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_encoding_unknown: bool,
    /// Octets of the body after decoding.
    #[serde(rename = "s")]
    pub size: u64,
    /// Media type in lower case.
    #[serde(rename = "t")]
    pub media_type: String,
    /// File name.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Charset, as RFC 8621 fills it in when it is not given.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// Content-Disposition in lower case.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
    /// Content-Id without angle brackets.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
    /// Content-Language.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Vec<String>>,
    /// Content-Location.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// A charset is really given, not filled in.
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    pub has_charset: bool,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_no_encoding(encoding: &Encoding) -> bool {
    *encoding == Encoding::None
}

/// The octets of a range stored by `Part`; empty when they are not there.
pub fn slice(raw: &[u8], (offset, length): (u64, u64)) -> &[u8] {
    let range = || {
        let start = usize::try_from(offset).ok()?;
        Some(start..start.checked_add(usize::try_from(length).ok()?)?)
    };
    range().and_then(|range| raw.get(range)).unwrap_or_default()
}

impl Structure {
    /// Indexes of the parts directly below a part, in order.
    pub fn children(&self, index: usize) -> impl Iterator<Item = usize> {
        let end = self.parts.get(index).map_or(0, |part| index + 1 + part.descendants as usize);
        let mut next = index + 1;
        std::iter::from_fn(move || {
            let child = self.parts.get(next).filter(|_| next < end)?;
            let index = next;
            next += 1 + child.descendants as usize;
            Some(index)
        })
    }

    /// The part of that partId. `None` for anything but the id of a leaf.
    pub fn part_by_id(&self, part_id: &str) -> Option<&Part> {
        let wanted: u32 = part_id.parse().ok()?;
        let part = self.parts.iter().find(|part| part.part_id == Some(wanted))?;
        (wanted.to_string() == part_id).then_some(part)
    }

    /// The header fields of the message itself, from its octets.
    pub fn header_fields<'a>(&self, raw: &'a [u8]) -> Fields<'a> {
        fields(self.parts.first().map_or(&[][..], |part| slice(raw, part.header)))
    }

    /// As stored.
    pub fn to_json(&self) -> String {
        // Strings and numbers only: writing them cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what `to_json` wrote.
    pub fn from_json(text: &str) -> serde_json::Result<Structure> {
        serde_json::from_str(text)
    }
}

impl Part {
    /// Whether the type is `multipart/*`: then there is no partId and no blob.
    pub fn is_multipart(&self) -> bool {
        self.part_id.is_none()
    }

    /// Whether the type is `text/*`.
    pub fn is_text(&self) -> bool {
        self.media_type.starts_with("text/")
    }

    /// The part's header fields, from the octets of its message.
    pub fn header_fields<'a>(&self, raw: &'a [u8]) -> Fields<'a> {
        fields(slice(raw, self.header))
    }

    /// The id of the part's decoded octets, within the message that `message` names. `None` for a
    /// multipart, and for encodings nested so deep that no id is long enough.
    pub fn blob_id(&self, message: &BlobId) -> Option<BlobId> {
        self.part_id?;
        let (offset, length) = self.body;
        message.cut(Step { offset, length, encoding: self.encoding })
    }
}
