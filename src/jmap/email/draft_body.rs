//! The body in an Email/set create: parts, their contents, and the rules on what may be combined
//! (RFC 8621, 4.1.4 and 4.6).

use mail_parser::HeaderValue as Parsed;
use mail_parser::parsers::MessageStream;
use serde_json::{Map, Value};

use crate::jmap::email::draft::{Faults, join};
use crate::jmap::email::draft_headers::{HeaderReader, is_bracketed, is_line};
use crate::mail::compose::{DraftBody, DraftContent, DraftHeader, DraftPart, HeaderValue, MAX_DEPTH};

/// Most body parts of one Email.
const MAX_PARTS: usize = 1000;
/// Longest file name, in octets.
const MAX_NAME_LEN: usize = 1000;
/// Most language tags of a part, and most parameters of its type.
const MAX_LIST_LEN: usize = 50;

/// Fields of a part that have properties of their own, with those properties.
const OWN_PROPERTIES: [(&str, &[&str]); 5] = [
    ("content-type", &["type", "charset"]),
    ("content-disposition", &["disposition", "name"]),
    ("content-id", &["cid"]),
    ("content-language", &["language"]),
    ("content-location", &["location"]),
];

/// Reads the body properties of one Email.
pub struct BodyReader<'a> {
    object: &'a Map<String, Value>,
    values: Option<&'a Map<String, Value>>,
    parts: usize,
}

impl<'a> BodyReader<'a> {
    /// Starts with `bodyValues`, which all parts refer to.
    pub fn new(faults: &mut Faults, object: &'a Map<String, Value>) -> BodyReader<'a> {
        let values = match object.get("bodyValues") {
            None | Some(Value::Null) => None,
            Some(Value::Object(values)) => Some(values),
            Some(_) => {
                faults.add("bodyValues", "not an object");
                None
            }
        };
        for (id, value) in values.into_iter().flatten() {
            check_body_value(faults, &join("bodyValues", id), value);
        }
        BodyReader { object, values, parts: 0 }
    }

    /// Reads the body; `None` when something is wrong with it.
    pub fn read(&mut self, faults: &mut Faults) -> Option<DraftBody> {
        let given = |name: &str| self.object.get(name).filter(|value| !value.is_null());
        if let Some(structure) = given("bodyStructure") {
            let mut is_alone = true;
            for other in
                ["textBody", "htmlBody", "attachments"].into_iter().filter(|name| given(name).is_some())
            {
                faults.add(other, "bodyStructure is given");
                is_alone = false;
            }
            if !is_alone {
                faults.add("bodyStructure", "textBody, htmlBody or attachments are given");
            }
            let part = self.part(faults, "bodyStructure", structure, None, 0)?;
            return is_alone.then(|| DraftBody::Structure(Box::new(part)));
        }
        let (text, html, attachments) = (given("textBody"), given("htmlBody"), given("attachments"));
        let text = text.map(|value| self.single(faults, "textBody", value, "text/plain"));
        let html = html.map(|value| self.single(faults, "htmlBody", value, "text/html"));
        let attachments = match attachments {
            Some(value) => self.list(faults, "attachments", value, 0),
            None => Some(Vec::new()),
        };
        let transpose = |part: Option<Option<DraftPart>>| match part {
            Some(None) => None,
            Some(Some(part)) => Some(Some(Box::new(part))),
            None => Some(None),
        };
        Some(DraftBody::Simple { text: transpose(text)?, html: transpose(html)?, attachments: attachments? })
    }

    /// textBody or htmlBody: exactly one part, of exactly one type (RFC 8621, 4.6).
    fn single(
        &mut self,
        faults: &mut Faults,
        path: &str,
        value: &Value,
        media_type: &str,
    ) -> Option<DraftPart> {
        let Some([part]) = value.as_array().map(Vec::as_slice) else {
            faults.add(path, "must hold exactly one body part");
            return None;
        };
        let part = self.part(faults, &join(path, "0"), part, Some(media_type), 0)?;
        if part.media_type != media_type {
            faults.add(&format!("{path}/0/type"), &format!("must be {media_type}"));
            return None;
        }
        Some(part)
    }

    fn list(
        &mut self,
        faults: &mut Faults,
        path: &str,
        value: &Value,
        depth: usize,
    ) -> Option<Vec<DraftPart>> {
        let Some(values) = value.as_array() else {
            faults.add(path, "not a list");
            return None;
        };
        // All are read, so that all faults are told.
        let parts: Vec<Option<DraftPart>> = values
            .iter()
            .enumerate()
            .map(|(at, value)| {
                let path = join(path, &at.to_string());
                let part = self.part(faults, &path, value, None, depth)?;
                // RFC 8621, 4.1.4: attachments hold no parts of their own.
                let is_bundle = depth == 0 && part.media_type.starts_with("multipart/");
                if is_bundle {
                    faults.add(&join(&path, "type"), "an attachment is no multipart");
                }
                (!is_bundle).then_some(part)
            })
            .collect();
        parts.into_iter().collect()
    }

    /// Reads one part and those within it, down to `MAX_DEPTH`.
    fn part(
        &mut self,
        faults: &mut Faults,
        path: &str,
        value: &Value,
        implied_type: Option<&str>,
        depth: usize,
    ) -> Option<DraftPart> {
        let Some(object) = value.as_object() else {
            faults.add(path, "not an object");
            return None;
        };
        self.parts += 1;
        if self.parts > MAX_PARTS || depth > MAX_DEPTH {
            faults.add(path, "too many or too deeply nested body parts");
            return None;
        }
        let given = |name: &str| object.get(name).filter(|value| !value.is_null());
        let mut headers = HeaderReader::default();
        for (property, value) in object {
            match property.as_str() {
                "partId" | "blobId" | "size" | "name" | "type" | "charset" | "disposition" | "cid"
                | "language" | "location" | "subParts" => {}
                "headers" => {
                    faults.add(&join(path, property), "header fields are given as properties of their own")
                }
                name if name.starts_with("header:") => {
                    headers.read(faults, path, property, value, |name| {
                        let own = OWN_PROPERTIES.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
                        let is_doubled =
                            own.is_some_and(|(_, others)| others.iter().any(|other| given(other).is_some()));
                        // RFC 8621, 4.6.
                        if name.eq_ignore_ascii_case("Content-Transfer-Encoding") {
                            Some("the server chooses the encoding")
                        } else if is_doubled {
                            Some("another property sets the same header field")
                        } else {
                            None
                        }
                    });
                }
                _ => faults.add(&join(path, property), "no property of a body part"),
            }
        }
        let mut headers = headers.into_headers();
        let mut text = |name: &str, is_legal: fn(&str) -> bool| -> Option<String> {
            let value = given(name)?;
            let text = value.as_str().filter(|text| is_legal(text));
            if text.is_none() {
                faults.add(&join(path, name), "not a legal value");
            }
            text.map(str::to_owned)
        };
        let charset = text("charset", is_short_token);
        let name = text("name", |name| is_line(name) && name.len() <= MAX_NAME_LEN);
        let disposition = text("disposition", is_short_token).map(|value| value.to_ascii_lowercase());
        let cid = text("cid", |cid| is_bracketed(cid) && cid.is_ascii());
        let location = text("location", |location| is_line(location) && location.len() <= 8000);
        let type_given = text("type", is_line);
        let blob = text("blobId", |id| (1..=255).contains(&id.len()));
        let part_id = text("partId", |_| true);
        let language = languages(faults, &join(path, "language"), given("language"));
        if given("size").is_some_and(|size| size.as_u64().is_none()) {
            faults.add(&join(path, "size"), "not an unsigned integer");
        }

        let type_text = type_given.or_else(|| take_content_type(faults, path, &mut headers));
        let default_type = match (implied_type, given("subParts"), &blob) {
            (Some(implied), _, _) => implied,
            (None, Some(_), _) => "multipart/mixed",
            (None, None, Some(_)) => "application/octet-stream",
            (None, None, None) => "text/plain",
        };
        let Some((media_type, mut parameters)) = read_type(type_text.as_deref().unwrap_or(default_type))
        else {
            faults.add(&join(path, "type"), "not a media type");
            return None;
        };
        let charset = charset.or_else(|| take_parameter(&mut parameters, "charset"));
        let name = name.or_else(|| take_parameter(&mut parameters, "name"));
        ["charset", "name", "boundary"].iter().for_each(|own| {
            take_parameter(&mut parameters, own);
        });

        let is_multipart = media_type.starts_with("multipart/");
        for (name, is_wrong, reason) in [
            ("blobId", given("partId").is_some() && given("blobId").is_some(), "partId is given"),
            ("partId", given("partId").is_some() && given("blobId").is_some(), "blobId is given"),
            ("charset", given("partId").is_some() && given("charset").is_some(), "partId is given"),
            ("size", given("partId").is_some() && given("size").is_some(), "partId is given"),
            ("charset", is_multipart && given("charset").is_some(), "the part is a multipart"),
            ("partId", is_multipart && given("partId").is_some(), "the part is a multipart"),
            ("blobId", is_multipart && given("blobId").is_some(), "the part is a multipart"),
            ("subParts", !is_multipart && given("subParts").is_some(), "the part is no multipart"),
            (
                "partId",
                !is_multipart && given("partId").is_none() && given("blobId").is_none(),
                "partId or blobId must be given",
            ),
        ] {
            if is_wrong {
                faults.add(&join(path, name), reason);
            }
        }
        let content = if is_multipart {
            let sub_path = join(path, "subParts");
            match given("subParts") {
                Some(parts) => DraftContent::Multipart(self.list(faults, &sub_path, parts, depth + 1)?),
                None => {
                    faults.add(&sub_path, "a multipart has parts");
                    return None;
                }
            }
        } else if let Some(id) = &part_id {
            match self.values.and_then(|values| values.get(id)) {
                Some(value) => DraftContent::Text(value.get("value").and_then(Value::as_str)?.to_owned()),
                None => {
                    faults.add(&join(path, "partId"), "not in bodyValues");
                    return None;
                }
            }
        } else {
            DraftContent::Blob(blob?)
        };
        Some(DraftPart {
            media_type,
            parameters,
            charset,
            name,
            disposition,
            cid,
            language,
            location,
            headers,
            content,
        })
    }
}

/// RFC 8621, 4.6: a value is whole and well encoded.
fn check_body_value(faults: &mut Faults, path: &str, value: &Value) {
    let Some(object) = value.as_object() else {
        return faults.add(path, "not an object");
    };
    if !object.get("value").is_some_and(Value::is_string) {
        faults.add(&join(path, "value"), "not a string");
    }
    for (property, value) in object {
        match property.as_str() {
            "value" => {}
            "isEncodingProblem" | "isTruncated" if *value == Value::Bool(false) => {}
            "isEncodingProblem" | "isTruncated" => faults.add(&join(path, property), "must be false"),
            _ => faults.add(&join(path, property), "no property of a body value"),
        }
    }
}

fn languages(faults: &mut Faults, path: &str, value: Option<&Value>) -> Vec<String> {
    let is_tag = |tag: &str| {
        (1..=100).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let Some(value) = value else { return Vec::new() };
    let tags: Option<Vec<String>> =
        value.as_array().filter(|tags| tags.len() <= MAX_LIST_LEN).and_then(|tags| {
            tags.iter().map(|tag| tag.as_str().filter(|tag| is_tag(tag)).map(str::to_owned)).collect()
        });
    if tags.is_none() {
        faults.add(path, "not a list of language tags");
    }
    tags.unwrap_or_default()
}

/// Takes a Content-Type that was given as a header field out of the fields: it is written together
/// with charset and boundary.
fn take_content_type(faults: &mut Faults, path: &str, headers: &mut Vec<DraftHeader>) -> Option<String> {
    let at = headers.iter().position(|field| field.name.eq_ignore_ascii_case("Content-Type"))?;
    let field = headers.remove(at);
    match field.value {
        HeaderValue::Raw(text) | HeaderValue::Text(text) => Some(text.trim().to_owned()),
        _ => {
            faults.add(&join(path, "header:Content-Type"), "this header field cannot take that form");
            None
        }
    }
}

/// A media type with its parameters; names in lower case.
fn read_type(text: &str) -> Option<(String, Vec<(String, String)>)> {
    let line = format!("{text}\n");
    let Parsed::ContentType(read) = MessageStream::new(line.as_bytes()).parse_content_type() else {
        return None;
    };
    let (kind, subtype) = (read.c_type, read.c_subtype?);
    if !is_short_token(&kind) || !is_short_token(&subtype) {
        return None;
    }
    let mut parameters = Vec::new();
    for attribute in read.attributes.unwrap_or_default() {
        if parameters.len() >= MAX_LIST_LEN || !is_short_token(&attribute.name) || !is_line(&attribute.value)
        {
            return None;
        }
        parameters.push((attribute.name.to_ascii_lowercase(), attribute.value.into_owned()));
    }
    Some((format!("{kind}/{subtype}").to_ascii_lowercase(), parameters))
}

fn take_parameter(parameters: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let at = parameters.iter().position(|(known, _)| known == name)?;
    Some(parameters.remove(at).1)
}

/// RFC 2045, 5.1, of bounded length.
fn is_short_token(text: &str) -> bool {
    (1..=127).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
}
