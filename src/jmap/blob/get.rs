//! Blob/get (RFC 9404, 4.2): octets and digests of blobs, inside a response.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::email::create::run_parsing;
use crate::jmap::error::MethodError;
use crate::jmap::i_json;
use crate::jmap::limits::MAX_SIZE_RESPONSE;
use crate::jmap::request::push_json;
use crate::jmap::standard::get::check_count;
use crate::types::blob_id::{BlobId, Encoding, Step};

/// A digest algorithm of the registry of HTTP (RFC 3230).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Digest {
    /// `sha-256`.
    Sha256,
    /// `sha`: SHA-1, for those who compare with what they already have.
    Sha1,
}

impl Digest {
    /// All of them, the best first.
    pub const ALL: [Digest; 2] = [Digest::Sha256, Digest::Sha1];

    /// Its name in the registry, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Digest::Sha256 => "sha-256",
            Digest::Sha1 => "sha",
        }
    }

    fn of(self, octets: &[u8]) -> String {
        let algorithm = match self {
            Digest::Sha256 => &SHA256,
            Digest::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
        };
        BASE64.encode(digest::digest(algorithm, octets))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Property {
    Id,
    Size,
    /// As text where it is text, else in base64.
    Data,
    AsText,
    AsBase64,
    Digest(Digest),
    IsEncodingProblem,
    IsTruncated,
}

impl Property {
    fn read(name: &str) -> Option<Property> {
        Some(match name {
            "id" => Property::Id,
            "size" => Property::Size,
            "data" => Property::Data,
            "data:asText" => Property::AsText,
            "data:asBase64" => Property::AsBase64,
            "isEncodingProblem" => Property::IsEncodingProblem,
            "isTruncated" => Property::IsTruncated,
            _ => {
                let algorithm = name.strip_prefix("digest:")?;
                Property::Digest(Digest::ALL.into_iter().find(|digest| digest.name() == algorithm)?)
            }
        })
    }

    fn needs_octets(self) -> bool {
        !matches!(self, Property::Id | Property::Size | Property::IsTruncated)
    }
}

/// What is wanted of each blob.
#[derive(Clone, Debug)]
struct Wanted {
    properties: Vec<Property>,
    /// First octet.
    offset: u64,
    /// Octets from there; `None` for all.
    length: Option<u64>,
}

/// Octets of a blob that were asked for, as far as it has them.
struct Selected {
    /// Of the whole blob.
    size: u64,
    octets: Bytes,
    is_truncated: bool,
}

/// Blob/get.
pub async fn get(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.account(&mut arguments)?;
    let ids = arguments.required_strings("ids")?;
    let wanted = read_wanted(&mut arguments)?;
    arguments.finish()?;
    check_count(&ids)?;
    let mut reader = BlobReader::new(call, &account);
    let mut list = String::new();
    let mut not_found = Vec::new();
    let mut seen = HashSet::with_capacity(ids.len());
    for given in ids.iter().filter(|id| seen.insert(*id)) {
        let selected = match call.resolve_blob_id(given) {
            Some(id) => select(call, &mut reader, &wanted, &id).await?.map(|selected| (id, selected)),
            None => None,
        };
        let Some((id, selected)) = selected else {
            not_found.push(given);
            continue;
        };
        let (size, wanted) = (selected.octets.len(), wanted.clone());
        let object = run_parsing(size, move || {
            let mut text = String::new();
            push_json(&mut text, &object(&wanted, &id, &selected));
            text
        });
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&object.await?);
        if list.len() > MAX_SIZE_RESPONSE {
            let text = "the blobs are too large for one response; ask for fewer ids".to_owned();
            return Err(MethodError::RequestTooLarge(text));
        }
    }
    let mut out = String::with_capacity(list.len() + 128);
    out.push_str("{\"accountId\":");
    push_json(&mut out, &account.id);
    out.push_str(",\"list\":[");
    out.push_str(&list);
    out.push_str("],\"notFound\":");
    push_json(&mut out, &not_found);
    out.push('}');
    Ok(Body::Text(out))
}

fn read_wanted(arguments: &mut Arguments) -> Result<Wanted, MethodError> {
    let properties = match arguments.strings("properties")? {
        // RFC 9404, 4.2: the default.
        None => vec![Property::Data, Property::Size],
        Some(names) => {
            let mut properties = Vec::new();
            for name in &names {
                let property = Property::read(name).ok_or_else(|| {
                    MethodError::InvalidArguments(format!("properties: Blob has no property {name:?}"))
                })?;
                if !properties.contains(&property) {
                    properties.push(property);
                }
            }
            properties
        }
    };
    let offset = arguments.unsigned("offset")?.unwrap_or(0) as u64;
    let length = arguments.unsigned("length")?.map(|length| length as u64);
    Ok(Wanted { properties, offset, length })
}

/// Reads what is wanted of a blob and no more, as far as that can be.
async fn select(
    call: &Call<'_>,
    reader: &mut BlobReader,
    wanted: &Wanted,
    id: &BlobId,
) -> Result<Option<Selected>, MethodError> {
    let whole = if id.is_whole() { None } else { Some(reader.read(id).await?) };
    let (size, part) = match whole {
        // How long a part is shows only when it is decoded.
        Some(None) => return Ok(None),
        Some(Some(octets)) => (octets.len() as u64, Some(octets)),
        None => match call.jmap.blobs.size(reader.reader, &id.hash).await? {
            Some(size) => (size, None),
            None => return Ok(None),
        },
    };
    let start = wanted.offset.min(size);
    let end = wanted.length.map_or(size, |length| wanted.offset.saturating_add(length).min(size)).max(start);
    let is_truncated = wanted.offset > size
        || wanted.length.is_some_and(|length| wanted.offset.saturating_add(length) > size);
    let octets = match part {
        Some(part) => part.slice(start as usize..end as usize),
        None if start == end || !wanted.properties.iter().any(|property| property.needs_octets()) => {
            Bytes::new()
        }
        None => {
            let step = Step { offset: start, length: end - start, encoding: Encoding::None };
            let range = if (start, end) == (0, size) { Some(id.clone()) } else { id.cut(step) };
            match range {
                Some(range) => match reader.read(&range).await? {
                    Some(octets) => octets,
                    None => return Ok(None),
                },
                None => return Ok(None),
            }
        }
    };
    Ok(Some(Selected { size, octets, is_truncated }))
}

/// The object as clients see it.
fn object(wanted: &Wanted, id: &BlobId, selected: &Selected) -> Map<String, Value> {
    // A noncharacter cannot stand in a text of the answer, which is I-JSON.
    let text = std::str::from_utf8(&selected.octets).ok().filter(|text| i_json::is_text(text));
    let mut object = Map::from_iter([("id".to_owned(), json!(id))]);
    let mut put = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    for property in &wanted.properties {
        match property {
            Property::Id => {}
            Property::Size => put("size", json!(selected.size)),
            Property::Data => match text {
                Some(text) => put("data:asText", json!(text)),
                None => {
                    put("data:asBase64", json!(BASE64.encode(&selected.octets)));
                    put("isEncodingProblem", json!(true));
                }
            },
            Property::AsText => {
                put("data:asText", json!(text));
                if text.is_none() {
                    put("isEncodingProblem", json!(true));
                }
            }
            Property::AsBase64 => put("data:asBase64", json!(BASE64.encode(&selected.octets))),
            Property::Digest(digest) => {
                put(&format!("digest:{}", digest.name()), json!(digest.of(&selected.octets)));
            }
            Property::IsEncodingProblem => put("isEncodingProblem", json!(text.is_none())),
            Property::IsTruncated => put("isTruncated", json!(selected.is_truncated)),
        }
    }
    if selected.is_truncated {
        put("isTruncated", json!(true));
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::Fixture;

    const FOX: &[u8] = b"The quick brown fox jumped over the lazy dog.";

    #[tokio::test]
    async fn text_base64_digests_and_ranges() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let fox = user.upload(FOX).await;
        let binary = user.upload(&[0xff, 0x00, 0xfe]).await;
        let get = async |ids: &[&str], more: Value| {
            let mut asked = json!({"ids": ids});
            more.as_object().unwrap().iter().for_each(|(name, value)| asked[name] = value.clone());
            user.call("Blob/get", asked).await
        };
        let answer = get(&[&fox, "bnone", &binary, &fox], json!({})).await;
        assert_eq!(answer["notFound"], json!(["bnone"]));
        assert_eq!(
            answer["list"],
            json!([
                {"id": fox, "data:asText": "The quick brown fox jumped over the lazy dog.", "size": 45},
                {"id": binary, "data:asBase64": "/wD+", "isEncodingProblem": true, "size": 3},
            ])
        );
        let properties = json!(["data:asText", "digest:sha", "digest:sha-256", "size", "isTruncated"]);
        let answer = get(&[&fox], json!({"properties": properties, "offset": 4, "length": 9})).await;
        assert_eq!(
            answer["list"][0],
            json!({
                "id": fox, "data:asText": "quick bro", "size": 45, "isTruncated": false,
                "digest:sha": "QiRAPtfyX8K6tm1iOAtZ87Xj3Ww=",
                "digest:sha-256": "gdg9INW7lwHK6OQ9u0dwDz2ZY/gubi0En0xlFpKt0OA=",
            })
        );
        let past = get(&[&fox], json!({"properties": ["data:asBase64"], "offset": 40, "length": 9})).await;
        assert_eq!(past["list"][0], json!({"id": fox, "data:asBase64": "IGRvZy4=", "isTruncated": true}));
        let beyond = get(&[&fox], json!({"offset": 46})).await;
        assert_eq!(beyond["list"][0], json!({"id": fox, "data:asText": "", "size": 45, "isTruncated": true}));
        let not_text = get(&[&binary], json!({"properties": ["data:asText", "id"]})).await;
        let wanted = json!({"id": binary, "data:asText": null, "isEncodingProblem": true});
        assert_eq!(not_text["list"][0], wanted);
        let odd = user.upload("\u{ffff}".as_bytes()).await;
        let wanted = json!({"id": odd, "data:asBase64": "77+/", "isEncodingProblem": true, "size": 3});
        assert_eq!(get(&[&odd], json!({})).await["list"][0], wanted);
        let large = user.upload(&[b'a'; 200_000]).await;
        let range = get(&[&large], json!({"properties": ["data", "size"], "offset": 199_998})).await;
        assert_eq!(range["list"][0], json!({"id": large, "data:asText": "aa", "size": 200_000}));
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_refused() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        for asked in [
            json!({}),
            json!({"ids": null}),
            json!({"ids": [], "properties": ["digest:md5"]}),
            json!({"ids": [], "properties": ["data:asHex"]}),
            json!({"ids": [], "offset": -1}),
            json!({"ids": [], "length": "x"}),
        ] {
            assert_eq!(user.call("Blob/get", asked.clone()).await["type"], "invalidArguments", "{asked}");
        }
        let ids: Vec<String> = (0..4_097).map(|number| number.to_string()).collect();
        assert_eq!(user.call("Blob/get", json!({"ids": ids})).await["type"], "requestTooLarge");
        let other = fixture.user("bob@example.test").await;
        let blob = other.upload(FOX).await;
        assert_eq!(user.call("Blob/get", json!({"ids": [blob]})).await["notFound"], json!([blob]));
    }
}
