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
