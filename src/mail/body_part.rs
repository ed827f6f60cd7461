//! EmailBodyPart objects (RFC 8621, 4.1.4) as JSON, from a structure and, for header fields, the
//! octets of the message.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::mail::fields::{Fields, raw_value};
use crate::mail::headers::HeaderProperty;
use crate::mail::scan::MAX_DEPTH;
use crate::mail::structure::{Part, Structure};
use crate::types::blob_id::BlobId;

/// A property that `bodyProperties` may name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BodyPartProperty {
    /// One without parameters, by its name.
    Named(&'static str),
    /// `header:…`.
    Header(HeaderProperty),
}

/// The text names no property of an EmailBodyPart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotABodyPartProperty;

const NAMES: [&str; 12] = [
    "partId",
    "blobId",
    "size",
    "headers",
    "name",
    "type",
    "charset",
    "disposition",
    "cid",
    "language",
    "location",
    "subParts",
];

/// The default of `bodyProperties` (RFC 8621, 4.2).
pub fn default_properties() -> Vec<BodyPartProperty> {
    NAMES
        .into_iter()
        .filter(|name| !matches!(*name, "headers" | "subParts"))
        .map(BodyPartProperty::Named)
        .collect()
}

impl FromStr for BodyPartProperty {
    type Err = NotABodyPartProperty;

    fn from_str(text: &str) -> Result<BodyPartProperty, NotABodyPartProperty> {
        if let Some(name) = NAMES.into_iter().find(|name| *name == text) {
            return Ok(BodyPartProperty::Named(name));
        }
        text.parse().map(BodyPartProperty::Header).map_err(|_| NotABodyPartProperty)
    }
}

impl BodyPartProperty {
    /// Whether the octets of the message are needed, not its structure alone.
    pub fn needs_octets(&self) -> bool {
        matches!(self, BodyPartProperty::Named("headers") | BodyPartProperty::Header(_))
    }
}

/// What parts are made into JSON from.
#[derive(Clone, Copy)]
pub struct BodyParts<'a> {
    /// The structure of the message.
    pub structure: &'a Structure,
    /// Its octets; may be empty when no property needs them.
    pub raw: &'a [u8],
    /// Its blob.
    pub message: &'a BlobId,
    /// What is wanted of each part.
    pub properties: &'a [BodyPartProperty],
}

impl BodyParts<'_> {
    /// bodyStructure: the whole tree. A multipart has its `subParts` whether they were asked for or
    /// not: the default of bodyProperties does not name them, and without them there is no tree.
    pub fn tree(&self) -> Value {
        self.part(0, Some(0))
    }

    /// textBody, htmlBody or attachments: parts without their sub-parts.
    pub fn list(&self, indexes: &[usize]) -> Value {
        indexes.iter().map(|index| self.part(*index, None)).collect()
    }

    /// One part; with those below it when their depth is given. Recursion ends where the scan ends.
    fn part(&self, index: usize, depth: Option<usize>) -> Value {
        let Some(part) = self.structure.parts.get(index) else { return Value::Null };
        let mut object = Map::new();
        for property in self.properties {
            match property {
                BodyPartProperty::Named("subParts") => {}
                BodyPartProperty::Named(name) => {
                    object.insert((*name).to_owned(), self.named(part, name));
                }
                BodyPartProperty::Header(header) => {
                    object.insert(header.to_string(), header.value(part.header_fields(self.raw)));
                }
            }
        }
        let is_asked = self.properties.contains(&BodyPartProperty::Named("subParts"));
        match depth.filter(|depth| part.is_multipart() && *depth <= MAX_DEPTH) {
            Some(depth) => {
                let children = self.structure.children(index).map(|child| self.part(child, Some(depth + 1)));
                object.insert("subParts".to_owned(), children.collect());
            }
            None if is_asked => {
                object.insert("subParts".to_owned(), Value::Null);
            }
            None => {}
        }
        Value::Object(object)
    }

    fn named(&self, part: &Part, name: &str) -> Value {
        match name {
            "partId" => json!(part.part_id.map(|id| id.to_string())),
            "blobId" => json!(part.blob_id(self.message)),
            "size" => json!(part.size),
            "headers" => email_headers(part.header_fields(self.raw)),
            "name" => json!(part.name),
            "type" => json!(part.media_type),
            "charset" => json!(part.charset),
            "disposition" => json!(part.disposition),
            "cid" => json!(part.cid),
            "language" => json!(part.language),
            "location" => json!(part.location),
            _ => Value::Null,
        }
    }
}

/// The `headers` property: EmailHeader objects in the order of the message (RFC 8621, 4.1.3).
pub fn email_headers(fields: Fields<'_>) -> Value {
    fields.map(|field| json!({ "name": field.name, "value": raw_value(field.value) })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::scan::scan;
    use crate::types::blob_id::BlobHash;

    #[test]
    fn parts_as_a_client_sees_them() {
        let raw = b"Content-Type: multipart/mixed; boundary=1\n\n--1\nX-A: b\n\nhi\n--1--\n";
        let structure = scan(raw);
        let message = BlobId::whole(BlobHash::of(raw));
        let properties: Vec<BodyPartProperty> = ["partId", "type", "size", "headers", "header:x-a:asText"]
            .iter()
            .flat_map(|name| name.parse())
            .collect();
        let parts = BodyParts { structure: &structure, raw, message: &message, properties: &properties };
        let leaf = json!({
            "partId": "1", "type": "text/plain", "size": 2,
            "headers": [{ "name": "X-A", "value": " b" }], "header:x-a:asText": "b",
        });
        assert_eq!(parts.list(&[1]), json!([leaf]));
        let tree = parts.tree();
        assert_eq!(tree["partId"], Value::Null);
        assert_eq!(tree["header:x-a:asText"], Value::Null);
        assert_eq!(tree["subParts"], json!([leaf]));
        let defaults = BodyParts { properties: &default_properties(), ..parts };
        let keys: Vec<String> =
            defaults.list(&[1])[0].as_object().into_iter().flat_map(Map::keys).cloned().collect();
        let wanted = [
            "partId",
            "blobId",
            "size",
            "name",
            "type",
            "charset",
            "disposition",
            "cid",
            "language",
            "location",
        ];
        assert_eq!(keys, wanted);
        assert_eq!("bodyValues".parse::<BodyPartProperty>(), Err(NotABodyPartProperty));
    }
}
