//! An Email written as JSON text: what Email/get and Email/parse have in common.

use serde_json::{Map, Value, json};

use crate::jmap::email::properties::{Property, Wanted};
use crate::jmap::limits::MAX_SIZE_EMAIL;
use crate::jmap::request::push_json;
use crate::mail::body;
use crate::mail::body_lists::{BodyLists, body_lists};
use crate::mail::body_part::{BodyParts, email_headers};
use crate::mail::list_properties::StoredProperties;
use crate::mail::structure::Structure;
use crate::store::email::place::Placed;
use crate::types::blob_id::BlobId;
use crate::types::date::utc_date;
use crate::types::id::Id;

/// The stored metadata of an Email; absent for a blob that is only parsed.
pub struct Metadata<'a> {
    /// Its id.
    pub id: Id,
    /// Its thread.
    pub thread_id: Id,
    /// Milliseconds since 1970.
    pub received_at: i64,
    /// Where it is, when that is wanted.
    pub placed: Option<&'a Placed>,
}

/// Everything that an Email is written from.
pub struct Source<'a> {
    /// The message.
    pub blob_id: &'a BlobId,
    /// Its octets; empty when nothing wanted needs them.
    pub raw: &'a [u8],
    /// Its structure; absent when nothing wanted needs it.
    pub structure: Option<&'a Structure>,
    /// Its list properties.
    pub list: &'a StoredProperties<'a>,
    /// Octets.
    pub size: i64,
    /// RFC 8621, 4.1.4.
    pub has_attachment: bool,
    /// What the store knows beyond the message.
    pub metadata: Option<Metadata<'a>>,
}

/// What is wanted of a message would take more memory than a response may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooCostly;

/// Octets, about, that the properties of parts and header fields take: few, but for messages that
/// are made of nothing else.
fn cost(wanted: &Wanted, structure: &Structure) -> u64 {
    const VALUE: u64 = 64;
    let of = |fits: fn(&Property) -> bool| wanted.properties.iter().filter(|p| fits(p)).count() as u64;
    let lists = of(|property| matches!(property, Property::Structure(_)));
    let fields = of(|property| matches!(property, Property::Header(_)));
    let in_parts = wanted.body_properties.iter().filter(|property| property.needs_octets()).count() as u64;
    let octets: u64 = structure.parts.iter().map(|part| part.header.1).sum();
    let values = structure.parts.len() as u64 * wanted.body_properties.len() as u64 * VALUE;
    (values + octets * in_parts).saturating_mul(lists).saturating_add(octets * fields)
}

/// Writes the object at the end of `out`; nothing when it would be too large.
pub fn write(out: &mut String, wanted: &Wanted, source: &Source<'_>) -> Result<(), TooCostly> {
    if source.structure.is_some_and(|structure| cost(wanted, structure) > MAX_SIZE_EMAIL) {
        return Err(TooCostly);
    }
    let lists = source.structure.map(body_lists);
    out.push('{');
    let mut is_first = true;
    let id_comes_unasked = !wanted.properties.contains(&Property::Row("id"));
    if let Some(metadata) = source.metadata.as_ref().filter(|_| id_comes_unasked) {
        write_name(out, "id", &mut is_first);
        write_id(out, metadata.id);
    }
    for property in &wanted.properties {
        match property {
            Property::Row(name) => {
                write_name(out, name, &mut is_first);
                write_row(out, name, source);
            }
            Property::Place(name) => {
                write_name(out, name, &mut is_first);
                write_place(out, name, source.metadata.as_ref().and_then(|metadata| metadata.placed));
            }
            Property::List(name) => {
                write_name(out, name, &mut is_first);
                out.push_str(source.list.get(name).unwrap_or("null"));
            }
            Property::Structure(name) => {
                write_name(out, name, &mut is_first);
                push_json(out, &structure_value(name, wanted, source, lists.as_ref()));
            }
            Property::BodyValues => {
                write_name(out, "bodyValues", &mut is_first);
                push_json(out, &body_values(wanted, source, lists.as_ref()));
            }
            Property::Headers => {
                write_name(out, "headers", &mut is_first);
                let fields = source.structure.map(|structure| structure.header_fields(source.raw));
                push_json(out, &fields.map_or(Value::Null, email_headers));
            }
            Property::Header(header) => {
                write_comma(out, &mut is_first);
                push_json(out, &header.to_string());
                out.push(':');
                let fields = source.structure.map(|structure| structure.header_fields(source.raw));
                push_json(out, &fields.map_or(Value::Null, |fields| header.value(fields)));
            }
        }
    }
    out.push('}');
    Ok(())
}

/// Writes the name of a property or a keyword: neither has anything that JSON escapes.
fn write_name(out: &mut String, name: &str, is_first: &mut bool) {
    write_comma(out, is_first);
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
}

fn write_comma(out: &mut String, is_first: &mut bool) {
    if !std::mem::take(is_first) {
        out.push(',');
    }
}

fn write_id(out: &mut String, id: Id) {
    out.push('"');
    id.push_to(out);
    out.push('"');
}

fn write_row(out: &mut String, name: &str, source: &Source<'_>) {
    let metadata = source.metadata.as_ref();
    match (name, metadata) {
        ("id", Some(metadata)) => write_id(out, metadata.id),
        ("threadId", Some(metadata)) => write_id(out, metadata.thread_id),
        ("receivedAt", Some(metadata)) => push_json(out, &utc_date(metadata.received_at)),
        ("blobId", _) => push_json(out, &source.blob_id.to_string()),
        ("size", _) => push_json(out, &source.size),
        ("hasAttachment", _) => push_json(out, &source.has_attachment),
        // RFC 8621, 4.9: these are null for a blob that is no Email.
        _ => out.push_str("null"),
    }
}

fn write_place(out: &mut String, name: &str, placed: Option<&Placed>) {
    let Some(placed) = placed else {
        out.push_str("null");
        return;
    };
    out.push('{');
    let mut is_first = true;
    if name == "mailboxIds" {
        for id in &placed.mailboxes {
            write_comma(out, &mut is_first);
            write_id(out, *id);
            out.push_str(":true");
        }
    } else {
        for keyword in placed.all_keywords() {
            write_name(out, keyword, &mut is_first);
            out.push_str("true");
        }
    }
    out.push('}');
}

fn structure_value(name: &str, wanted: &Wanted, source: &Source<'_>, lists: Option<&BodyLists>) -> Value {
    let (Some(structure), Some(lists)) = (source.structure, lists) else { return Value::Null };
    let parts = BodyParts {
        structure,
        raw: source.raw,
        message: source.blob_id,
        properties: &wanted.body_properties,
    };
    match name {
        "bodyStructure" => parts.tree(),
        "textBody" => parts.list(&lists.text),
        "htmlBody" => parts.list(&lists.html),
        _ => parts.list(&lists.attachments),
    }
}

fn body_values(wanted: &Wanted, source: &Source<'_>, lists: Option<&BodyLists>) -> Value {
    let mut values = Map::new();
    let (Some(structure), Some(lists)) = (source.structure, lists) else { return Value::Object(values) };
    for (index, part) in structure.parts.iter().enumerate() {
        let is_wanted = wanted.fetch_all
            || (wanted.fetch_text && lists.text.contains(&index))
            || (wanted.fetch_html && lists.html.contains(&index));
        // RFC 8621, 4.1.4: values are of text parts only.
        if let Some(part_id) = part.part_id.filter(|_| is_wanted && part.is_text()) {
            let value = body::value(source.raw, part, wanted.max_body_value_bytes);
            values.insert(part_id.to_string(), json!(value));
        }
    }
    Value::Object(values)
}
