//! Email/parse (RFC 8621, 4.9): messages that are blobs, attached ones among them, read without
//! becoming Emails.

use std::collections::HashSet;
use std::sync::Arc;

use crate::jmap::arguments::Arguments;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::email::create::run_parsing;
use crate::jmap::email::import::is_message;
use crate::jmap::email::properties::Wanted;
use crate::jmap::email::view::{Source, write};
use crate::jmap::error::MethodError;
use crate::jmap::limits::MAX_SIZE_RESPONSE;
use crate::jmap::request::push_json;
use crate::jmap::standard::get::check_count;
use crate::mail::list_properties::{ListProperties, StoredProperties};
use crate::mail::parse::parse as parse_message;
use crate::types::blob_id::BlobId;

/// Email/parse.
pub async fn parse(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.account(&mut arguments)?;
    let ids = arguments.required_strings("blobIds")?;
    let properties = arguments.strings("properties")?;
    let wanted = Arc::new(Wanted::of_parse(properties, &mut arguments)?);
    arguments.finish()?;
    check_count(&ids)?;
    let mut reader = BlobReader::new(call, &account);
    let mut parsed = String::new();
    let mut not_parsable: Vec<&str> = Vec::new();
    let mut not_found: Vec<&str> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::with_capacity(ids.len());
    for given in ids.iter().filter(|id| seen.insert(id)) {
        let Some(blob_id) = call.resolve_blob_id(given) else {
            not_found.push(given);
            continue;
        };
        let Some(raw) = reader.read(&blob_id).await? else {
            not_found.push(given);
            continue;
        };
        if parsed.len() > MAX_SIZE_RESPONSE {
            let text = "the messages are too large for one response; ask for fewer ids".to_owned();
            return Err(MethodError::RequestTooLarge(text));
        }
        let shown = blob_id.to_string();
        let wanted = wanted.clone();
        match run_parsing(raw.len(), move || view(&wanted, &blob_id, &raw)).await? {
            Some(text) => {
                parsed.push(if parsed.is_empty() { '{' } else { ',' });
                push_json(&mut parsed, &shown);
                parsed.push(':');
                parsed.push_str(&text);
            }
            None => not_parsable.push(given),
        }
    }
    let mut out = String::with_capacity(parsed.len() + 256);
    out.push_str("{\"accountId\":");
    push_json(&mut out, &account.id);
    out.push_str(",\"parsed\":");
    if parsed.is_empty() {
        out.push_str("null");
    } else {
        out.push_str(&parsed);
        out.push('}');
    }
    for (name, ids) in [("notParsable", not_parsable), ("notFound", not_found)] {
        out.push(',');
        push_json(&mut out, name);
        out.push(':');
        push_json(&mut out, &Some(ids).filter(|ids| !ids.is_empty()));
    }
    out.push('}');
    Ok(Body::Text(out))
}

/// The Email of a message as JSON text; `None` when the octets are no message.
fn view(wanted: &Wanted, blob_id: &BlobId, raw: &[u8]) -> Option<String> {
    if !is_message(raw) {
        return None;
    }
    let parsed = parse_message(raw);
    let list = ListProperties::of(&parsed).to_lines();
    let list = StoredProperties::read(&list)?;
    let source = Source {
        blob_id,
        raw,
        structure: Some(&parsed.structure),
        list: &list,
        size: raw.len() as i64,
        has_attachment: parsed.has_attachment,
        metadata: None,
    };
    let mut out = String::new();
    write(&mut out, wanted, &source).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::Fixture;

    #[tokio::test]
    async fn blobs_and_attached_messages_are_read() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        // The attached message is encoded, and has a part of its own.
        let inner = "Subject: inner\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n\
                     --i\r\n\r\ninner text\r\n--i\r\nContent-Type: image/png\r\nContent-Disposition: attachment\r\n\r\nPNG\r\n--i--\r\n";
        let encoded = base64(inner.as_bytes());
        let outer = format!(
            "From: Ann <ann@example.org>\r\nSubject: outer\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\nHello w\u{f6}rld\r\n\
             --o\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n--o--\r\n"
        );
        let blob = user.upload(outer.as_bytes()).await;
        let text = user.upload(b"not a message").await;
        let answer = user
            .call("Email/parse", json!({"blobIds": [blob, text, "bnone", blob], "fetchTextBodyValues": true}))
            .await;
        assert_eq!(answer["notParsable"], json!([text]));
        assert_eq!(answer["notFound"], json!(["bnone"]));
        let email = &answer["parsed"][&blob];
        assert_eq!(email["from"], json!([{"name": "Ann", "email": "ann@example.org"}]));
        assert_eq!(email["bodyValues"]["1"]["value"], json!("Hello w\u{f6}rld"));
        assert_eq!(email.get("id"), None);
        let part = email["attachments"][0]["blobId"].as_str().unwrap();
        let asked = json!({"blobIds": [part], "properties": [
            "id", "threadId", "mailboxIds", "keywords", "receivedAt", "blobId", "size", "subject",
            "header:SUBJECT", "bodyStructure", "attachments"
        ], "bodyProperties": ["type", "subParts", "blobId"]});
        let answer = user.call("Email/parse", asked).await;
        let email = &answer["parsed"][part];
        for name in ["id", "threadId", "mailboxIds", "keywords", "receivedAt"] {
            assert_eq!(email.get(name), Some(&Value::Null), "{name}: {answer}");
        }
        assert_eq!(email["blobId"], json!(part));
        assert_eq!(email["size"], json!(inner.len()));
        assert_eq!(email["subject"], json!("inner"));
        assert_eq!(email["header:SUBJECT"], json!(" inner"));
        assert_eq!(email["bodyStructure"]["subParts"][1]["type"], json!("image/png"));
        assert_eq!(answer["notFound"], Value::Null);
        // A part of the part has a blob id too.
        let image = email["attachments"][0]["blobId"].as_str().unwrap();
        let got = user.call("Blob/get", json!({"ids": [image]})).await;
        assert_eq!(got["list"][0]["data:asText"], json!("PNG"), "{got}");
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_refused() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        for arguments in [
            json!({}),
            json!({"blobIds": [], "properties": ["nonsense"]}),
            json!({"blobIds": [], "properties": ["header:From:asDate"]}),
            json!({"blobIds": [], "bodyProperties": ["nonsense"]}),
            json!({"blobIds": [], "maxBodyValueBytes": -1}),
            json!({"blobIds": [], "ids": []}),
        ] {
            let answer = user.call("Email/parse", arguments.clone()).await;
            assert_eq!(answer["type"], "invalidArguments", "{arguments}");
        }
        let answer = user.call("Email/parse", json!({"blobIds": []})).await;
        assert_eq!(answer["parsed"], Value::Null);
    }

    fn base64(octets: &[u8]) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(octets)
    }
}
