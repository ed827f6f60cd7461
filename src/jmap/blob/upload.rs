//! Blob/upload (RFC 9404, 4.1): blobs put together from texts, base64 and ranges of other blobs.
//!
//! A creation may be made of others of the same call: those it names come first. What is created is
//! an upload of the caller, as if it had come by HTTP, and later calls name it by its creation id.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::blob::prepared::PreparedBlob;
use crate::jmap::arguments::Arguments;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits::{MAX_DATA_SOURCES, UPLOAD_QUOTA};
use crate::jmap::standard::set::{object_or_null, required_objects};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobId;

/// The type of a blob of which nobody has said what it is.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// Levels on which creations of one call may be made of each other.
const MAX_LEVELS: usize = 16;
/// Octets of a media type.
const MAX_TYPE: usize = 255;

/// A piece of a new blob.
#[derive(Debug, PartialEq)]
enum DataSource {
    /// These octets.
    Octets(Bytes),
    /// A range of another blob.
    Blob {
        /// As given.
        id: String,
        offset: u64,
        length: Option<u64>,
    },
}

/// A blob to make.
#[derive(Debug)]
struct Upload {
    key: String,
    sources: Vec<DataSource>,
    media_type: String,
}

impl Upload {
    /// The creation ids that it is made of.
    fn named(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| match source {
            DataSource::Blob { id, .. } => id.strip_prefix('#'),
            DataSource::Octets(_) => None,
        })
    }
}

/// Blob/upload.
pub async fn upload(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.uploading_account(&mut arguments)?;
    let objects = required_objects(&mut arguments, "create")?;
    arguments.finish()?;
    let mut created = Map::new();
    let mut not_created = Map::new();
    let mut waiting = Vec::with_capacity(objects.len());
    for (key, object) in objects {
        match read_upload(key.clone(), &object) {
            Ok(upload) => waiting.push(upload),
            Err(error) => {
                not_created.insert(key, error.to_json());
            }
        }
    }
    let mut reader = BlobReader::new(call, &account);
    for level in 1.. {
        if waiting.is_empty() {
            break;
        }
        let keys: HashSet<String> = waiting.iter().map(|upload| upload.key.clone()).collect();
        let waits = |upload: &Upload| upload.named().any(|key| keys.contains(key));
        let (later, mut now): (Vec<Upload>, Vec<Upload>) = waiting.into_iter().partition(waits);
        waiting = later;
        if now.is_empty() || level == MAX_LEVELS {
            // They are made of each other: none can be the first. Or there is no end to it.
            now.append(&mut waiting);
        }
        let mut blobs = Vec::with_capacity(now.len());
        for upload in now {
            match assemble(call, &mut reader, &upload).await? {
                Ok(blob) => blobs.push((upload, blob)),
                Err(error) => {
                    not_created.insert(upload.key, error.to_json());
                }
            }
        }
        let prepared: Vec<PreparedBlob> = blobs.iter().map(|(_, blob)| blob.clone()).collect();
        let login = call.caller.login_id;
        let unit = async move |tx: &mut Tx| {
            for blob in &prepared {
                blob.reference_upload(tx, login, UPLOAD_QUOTA).await?;
            }
            Ok(())
        };
        call.jmap.store.write(account.id, unit).await?;
        for (upload, blob) in blobs {
            let id = BlobId::whole(blob.hash()).to_string();
            let object = json!({"id": id, "type": upload.media_type, "size": blob.size()});
            call.created_ids.insert(upload.key.clone(), id);
            created.insert(upload.key, object);
        }
    }
    Ok(Body::Json(json!({
        "accountId": account.id.to_string(),
        "created": object_or_null(&created),
        "notCreated": object_or_null(&not_created),
    })))
}

fn read_upload(key: String, object: &Map<String, Value>) -> Result<Upload, SetError> {
    if let Some(unknown) = object.keys().find(|name| !["data", "type"].contains(&name.as_str())) {
        return Err(SetError::invalid(unknown.clone(), "an UploadObject has no such property"));
    }
    let media_type = match object.get("type") {
        None | Some(Value::Null) => UNKNOWN_TYPE.to_owned(),
        Some(Value::String(text)) if text.len() <= MAX_TYPE => text.clone(),
        Some(_) => return Err(SetError::invalid("type", "a media type is wanted")),
    };
    let Some(Value::Array(sources)) = object.get("data") else {
        return Err(SetError::invalid("data", "a DataSourceObject[] is wanted"));
    };
    if sources.len() > MAX_DATA_SOURCES {
        let text = format!("a blob is made of at most {MAX_DATA_SOURCES} sources");
        return Err(SetError::invalid("data", text));
    }
    let sources = sources.iter().map(read_source).collect::<Result<_, _>>()?;
    Ok(Upload { key, sources, media_type })
}

fn read_source(source: &Value) -> Result<DataSource, SetError> {
    let wrong = |why: &str| SetError::invalid("data", why);
    let Value::Object(source) = source else { return Err(wrong("a DataSourceObject is an object")) };
    let given: Vec<(&str, &Value)> = source
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    match given.as_slice() {
        [("data:asText", Value::String(text))] => Ok(DataSource::Octets(Bytes::from(text.clone()))),
        [("data:asBase64", Value::String(text))] => {
            let octets = BASE64.decode(text).map_err(|_| wrong("data:asBase64 is not base64"))?;
            Ok(DataSource::Octets(octets.into()))
        }
        members => {
            let (mut id, mut offset, mut length) = (None, 0, None);
            for (name, value) in members {
                match (*name, value) {
                    ("blobId", Value::String(text)) => id = Some(text.clone()),
                    ("offset", Value::Number(number)) => {
                        offset = number.as_u64().ok_or_else(|| wrong("offset is an UnsignedInt"))?;
                    }
                    ("length", Value::Number(number)) => {
                        length = Some(number.as_u64().ok_or_else(|| wrong("length is an UnsignedInt"))?);
                    }
                    _ => return Err(wrong("a source is one of data:asText, data:asBase64 and blobId")),
                }
            }
            let id = id.ok_or_else(|| wrong("a source is one of data:asText, data:asBase64 and blobId"))?;
            Ok(DataSource::Blob { id, offset, length })
        }
    }
}

/// Puts a blob together and makes it ready.
async fn assemble(
    call: &Call<'_>,
    reader: &mut BlobReader,
    upload: &Upload,
) -> Result<Result<PreparedBlob, SetError>, MethodError> {
    let limit = call.jmap.max_upload;
    let mut octets = Vec::new();
    for source in &upload.sources {
        let piece = match source {
            DataSource::Octets(octets) => octets.clone(),
            DataSource::Blob { id, offset, length } => {
                let found = match call.resolve_blob_id(id) {
                    Some(blob_id) => reader.read(&blob_id).await?,
                    None => None,
                };
                let Some(found) = found else {
                    return Ok(Err(SetError::new("blobNotFound").with("notFound", json!([id]))));
                };
                let size = found.len() as u64;
                let end = length.map_or(Some(size), |length| offset.checked_add(length));
                match end.filter(|end| *offset <= *end && *end <= size) {
                    Some(end) => found.slice(*offset as usize..end as usize),
                    None => {
                        let text = format!("the range is not inside of {id}, which has {size} octets");
                        return Ok(Err(SetError::invalid("data", text)));
                    }
                }
            }
        };
        if octets.len() + piece.len() > limit {
            let text = format!("maxSizeBlobSet is {limit} octets");
            return Ok(Err(SetError::new("tooLarge").because(text)));
        }
        octets.extend_from_slice(&piece);
    }
    Ok(Ok(call.jmap.blobs.prepare(octets.into()).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::Fixture;

    #[tokio::test]
    async fn blobs_are_made_of_pieces_and_of_each_other() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let account = user.account();
        let inbox = user.mailbox("inbox").await;
        let answers = user
            .request(json!([
                ["Blob/upload", {"accountId": account, "create": {
                    "cat": {"type": "text/plain", "data": [
                        {"data:asText": "How "},
                        {"blobId": "#fox", "offset": 4, "length": 5},
                        {"data:asBase64": "IGFyZSA="},
                        {"blobId": "#fox", "offset": 10},
                    ]},
                    "fox": {"data": [{"data:asText": "The quick foxes"}]},
                    "mail": {"data": [{"data:asText": "Subject: sent\r\n\r\n"}, {"blobId": "#cat"}]},
                    "empty": {"data": []},
                }}, "0"],
                ["Blob/get", {"accountId": account, "ids": ["#cat"]}, "1"],
                ["Email/import", {"accountId": account, "emails": {
                    "e": {"blobId": "#mail", "mailboxIds": {&inbox: true}},
                }}, "2"],
                ["Email/set", {"accountId": account, "create": {"draft": {
                    "mailboxIds": {&inbox: true}, "subject": "d", "bodyStructure": {"blobId": "#cat", "type": "text/plain"},
                }}}, "3"],
            ]))
            .await;
        let created = &answers[0][1]["created"];
        assert_eq!(answers[0][1]["notCreated"], Value::Null);
        assert_eq!((&created["cat"]["size"], &created["cat"]["type"]), (&json!(19), &json!("text/plain")));
        assert_eq!(created["empty"]["size"], json!(0));
        assert_eq!(created["fox"]["type"], json!("application/octet-stream"));
        let got = &answers[1][1]["list"][0];
        assert_eq!(got["id"], created["cat"]["id"]);
        assert_eq!(got["data:asText"], json!("How quick are foxes"));
        assert_eq!(answers[2][1]["created"]["e"]["blobId"], created["mail"]["id"]);
        assert_eq!(answers[3][1]["notCreated"], Value::Null, "{:?}", answers[3]);
    }

    #[tokio::test]
    async fn bad_pieces_are_refused_one_by_one() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let blob = user.upload(b"0123456789").await;
        let large = user.upload(&vec![b'x'; 600_000]).await;
        let many: Vec<Value> = (0..257).map(|_| json!({"data:asText": "x"})).collect();
        let create = json!({
            "fine": {"data": [{"blobId": blob, "offset": 10, "length": 0}], "type": null},
            "both": {"data": [{"data:asText": "x", "blobId": blob}]},
            "none": {"data": [{}]},
            "base64": {"data": [{"data:asBase64": "???"}]},
            "range": {"data": [{"blobId": blob, "offset": 5, "length": 6}]},
            "far": {"data": [{"blobId": blob, "offset": 11}]},
            "missing": {"data": [{"blobId": "bnone"}]},
            "circle": {"data": [{"blobId": "#elcric"}]},
            "elcric": {"data": [{"blobId": "#circle"}]},
            "many": {"data": many},
            "large": {"data": [{"blobId": large}, {"blobId": large}]},
            "odd": {"data": [], "name": "x"},
            "typed": {"data": [], "type": 1},
        });
        let answer = user.call("Blob/upload", json!({"create": create})).await;
        assert_eq!(answer["created"].as_object().unwrap().keys().collect::<Vec<_>>(), ["fine"]);
        for (key, kind) in [
            ("both", "invalidProperties"),
            ("none", "invalidProperties"),
            ("base64", "invalidProperties"),
            ("range", "invalidProperties"),
            ("far", "invalidProperties"),
            ("missing", "blobNotFound"),
            ("circle", "blobNotFound"),
            ("elcric", "blobNotFound"),
            ("many", "invalidProperties"),
            ("large", "tooLarge"),
            ("odd", "invalidProperties"),
            ("typed", "invalidProperties"),
        ] {
            assert_eq!(answer["notCreated"][key]["type"], kind, "{key}: {answer}");
        }
    }
}
