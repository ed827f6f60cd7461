//! Which properties of Emails a call wants (RFC 8621, 4.1 and 4.2), and what must be read for them.

use crate::jmap::arguments::Arguments;
use crate::jmap::error::MethodError;
use crate::mail::body_part::{BodyPartProperty, default_properties};
use crate::mail::headers::{CONVENIENT, HeaderProperty};
use crate::mail::list_properties::stored_name;

/// Where the value of a property comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Property {
    /// The row of the Email: id, blobId, threadId, size, receivedAt, hasAttachment.
    Row(&'static str),
    /// Its memberships: mailboxIds, keywords.
    Place(&'static str),
    /// Stored beside the row as JSON.
    List(&'static str),
    /// Its structure: bodyStructure, textBody, htmlBody, attachments.
    Structure(&'static str),
    /// bodyValues.
    BodyValues,
    /// headers.
    Headers,
    /// header:….
    Header(HeaderProperty),
}

const ROW: [&str; 6] = ["id", "blobId", "threadId", "size", "receivedAt", "hasAttachment"];
const PLACE: [&str; 2] = ["mailboxIds", "keywords"];
const STRUCTURE: [&str; 4] = ["bodyStructure", "textBody", "htmlBody", "attachments"];

/// What the default of Email/get has beside that of Email/parse (RFC 8621, 4.2).
const METADATA: [&str; 7] = ["id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt"];

/// What the default of Email/parse (RFC 8621, 4.9) has beside the header fields.
const BODY: [&str; 6] = ["hasAttachment", "preview", "bodyValues", "textBody", "htmlBody", "attachments"];

/// The default of Email/parse.
fn parse_default() -> impl Iterator<Item = &'static str> {
    CONVENIENT.iter().map(|(name, _, _)| *name).chain(BODY)
}

impl Property {
    fn read(name: &str) -> Option<Property> {
        let among = |names: &[&'static str]| names.iter().find(|known| **known == name).copied();
        among(&ROW)
            .map(Property::Row)
            .or_else(|| among(&PLACE).map(Property::Place))
            .or_else(|| stored_name(name).map(Property::List))
            .or_else(|| among(&STRUCTURE).map(Property::Structure))
            .or_else(|| (name == "bodyValues").then_some(Property::BodyValues))
            .or_else(|| (name == "headers").then_some(Property::Headers))
            .or_else(|| name.parse().ok().map(Property::Header))
    }
}

/// What is wanted of each Email.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// In the order asked for, none twice.
    pub properties: Vec<Property>,
    /// Of each part.
    pub body_properties: Vec<BodyPartProperty>,
    /// bodyValues of the parts of textBody.
    pub fetch_text: bool,
    /// bodyValues of the parts of htmlBody.
    pub fetch_html: bool,
    /// bodyValues of all text parts.
    pub fetch_all: bool,
    /// Octets of a body value; 0: all.
    pub max_body_value_bytes: usize,
}

impl Wanted {
    /// Takes the arguments of Email/get.
    pub fn of_get(properties: Option<Vec<String>>, arguments: &mut Arguments) -> Result<Wanted, MethodError> {
        Wanted::read(properties, METADATA.into_iter().chain(parse_default()), arguments)
    }

    /// Takes the arguments of Email/parse.
    pub fn of_parse(
        properties: Option<Vec<String>>,
        arguments: &mut Arguments,
    ) -> Result<Wanted, MethodError> {
        Wanted::read(properties, parse_default(), arguments)
    }

    fn read(
        properties: Option<Vec<String>>,
        default: impl Iterator<Item = &'static str>,
        arguments: &mut Arguments,
    ) -> Result<Wanted, MethodError> {
        let properties = match &properties {
            Some(names) => read_properties(names.iter().map(String::as_str))?,
            None => read_properties(default)?,
        };
        let body_properties = match arguments.strings("bodyProperties")? {
            None => default_properties(),
            Some(names) => names
                .iter()
                .map(|name| {
                    name.parse().map_err(|_| {
                        MethodError::InvalidArguments(format!(
                            "bodyProperties: EmailBodyPart has no {name:?}"
                        ))
                    })
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Wanted {
            properties,
            body_properties,
            fetch_text: arguments.boolean("fetchTextBodyValues")?,
            fetch_html: arguments.boolean("fetchHTMLBodyValues")?,
            fetch_all: arguments.boolean("fetchAllBodyValues")?,
            max_body_value_bytes: arguments.unsigned("maxBodyValueBytes")?.unwrap_or(0),
        })
    }

    /// Whether mailboxes or keywords are wanted.
    pub fn needs_place(&self) -> bool {
        self.properties.iter().any(|property| matches!(property, Property::Place(_)))
    }

    /// Whether the structure is.
    pub fn needs_structure(&self) -> bool {
        self.properties.iter().any(|property| {
            matches!(
                property,
                Property::Structure(_) | Property::BodyValues | Property::Headers | Property::Header(_)
            )
        })
    }

    /// Whether the message itself must be read.
    pub fn needs_octets(&self) -> bool {
        let fetches = self.fetch_text || self.fetch_html || self.fetch_all;
        self.properties.iter().any(|property| match property {
            Property::BodyValues => fetches,
            Property::Headers | Property::Header(_) => true,
            // What is a text or an HTML body is told by the structure alone.
            Property::Structure(_) => self.body_properties.iter().any(BodyPartProperty::needs_octets),
            _ => false,
        })
    }
}

fn read_properties<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Property>, MethodError> {
    let mut out = Vec::new();
    for name in names {
        let property = Property::read(name).ok_or_else(|| {
            MethodError::InvalidArguments(format!("properties: Email has no property {name:?}"))
        })?;
        if !out.contains(&property) {
            out.push(property);
        }
        if out.len() > 200 {
            return Err(MethodError::InvalidArguments("properties: too many".to_owned()));
        }
    }
    Ok(out)
}
