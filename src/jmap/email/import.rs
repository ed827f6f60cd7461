//! Email/import (RFC 8621, 4.8): messages that were uploaded, or are parts of other messages, become
//! Emails.
//!
//! Two Emails of the same content may stand side by side. A blob without a single header field is
//! no message; anything else is taken octet for octet.

use serde_json::{Map, Value};

use crate::jmap::arguments::Arguments;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::email::create::{GivenPlace, PreparedEmail, prepare_raw};
use crate::jmap::email::set::{PreparedSet, commit};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::standard::set::{SetRequest, required_objects};
use crate::mail::fields::{fields, line_end};
use crate::mail::headers::date::as_date;

/// The properties of an EmailImport.
const PROPERTIES: [&str; 4] = ["blobId", "mailboxIds", "keywords", "receivedAt"];

/// Pieces of a Received field, from its end, in which its date is looked for.
const DATE_PIECES: usize = 3;

/// Lines in which the first header field is looked for.
const LINES_ABOVE: usize = 100;

/// Email/import.
pub async fn import(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.writable_account(&mut arguments)?;
    let if_in_state = arguments.string("ifInState")?;
    let emails = required_objects(&mut arguments, "emails")?;
    arguments.finish()?;
    let mut create = Vec::with_capacity(emails.len());
    let mut reader = BlobReader::new(call, &account);
    for (key, object) in emails {
        create.push((key, prepare(call, &mut reader, &object).await?));
    }
    let request = SetRequest { if_in_state, ..SetRequest::default() };
    let outcome = commit(call, account.id, PreparedSet { request, create }).await?;
    Ok(Body::Json(Value::Object(outcome.creations_to_json(account.id))))
}

/// Reads one message and makes it ready. One at a time: of all messages of a call no more than one
/// is in memory as a whole.
async fn prepare(
    call: &Call<'_>,
    reader: &mut BlobReader,
    object: &Map<String, Value>,
) -> Result<Result<PreparedEmail, SetError>, MethodError> {
    if let Some(unknown) = object.keys().find(|name| !PROPERTIES.contains(&name.as_str())) {
        return Ok(Err(SetError::invalid(unknown.clone(), "an EmailImport has no such property")));
    }
    let mut place = match GivenPlace::read(object) {
        Ok(place) => place,
        Err(error) => return Ok(Err(error)),
    };
    // RFC 8621, 4.8: a blob that is not there is an invalid property.
    let no_blob = || SetError::invalid("blobId", "there is no such blob");
    let Some(given) = object.get("blobId").and_then(Value::as_str) else {
        return Ok(Err(SetError::invalid("blobId", "the id of a blob is wanted")));
    };
    let Some(blob_id) = call.resolve_blob_id(given) else { return Ok(Err(no_blob())) };
    let Some(raw) = reader.read(&blob_id).await? else { return Ok(Err(no_blob())) };
    if !is_message(&raw) {
        let text = "the blob is no message: nothing at its beginning is a header field";
        return Ok(Err(SetError::new("invalidEmail").because(text)));
    }
    if raw.len() > call.jmap.max_upload {
        let text = format!("a message has at most {} octets", call.jmap.max_upload);
        return Ok(Err(SetError::new("tooLarge").because(text)));
    }
    place.received_at = place.received_at.or_else(|| received_at(&raw));
    Ok(Ok(prepare_raw(call, raw, place).await?))
}

/// Whether octets are a message: before the first empty line stands a header field (RFC 5322, 2.2).
/// A byte order mark, or a line that was left there, may stand above it.
pub fn is_message(raw: &[u8]) -> bool {
    let mut at = 0;
    for _ in 0..LINES_ABOVE {
        let line = &raw[at..line_end(raw, at)];
        if fields(line).next().is_some() {
            return true;
        }
        if matches!(line, b"" | b"\n" | b"\r\n") {
            return false;
        }
        at += line.len();
    }
    false
}

/// The time in the Received field that was added last, which is the topmost (RFC 5321, 4.4).
fn received_at(raw: &[u8]) -> Option<i64> {
    let newest = fields(raw).find(|field| field.is("received"))?;
    let mut pieces = newest.value.rsplit(|byte| *byte == b';').take(DATE_PIECES);
    pieces.find_map(as_date).map(|date| date.ms)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jmap::fixture::Fixture;

    const MESSAGE: &str = "Received: from a by b; Thu, 30 Oct 2014 14:12:00 +0800 (CST; really)\r\n\
                           Received: from c by a; Wed, 29 Oct 2014 00:00:00 +0000\r\n\
                           Subject: hello\r\nMessage-ID: <one@example.org>\r\n\r\nBody\r\n";

    #[test]
    fn the_topmost_received_field_tells_the_time() {
        assert_eq!(received_at(MESSAGE.as_bytes()), Some(1_414_649_520_000));
        assert_eq!(received_at(b"Subject: x\r\n\r\nReceived: b; 30 Oct 2014 14:12:00 +0800"), None);
        assert_eq!(received_at(b"Received: from a by b\r\n\r\n"), None);
    }

    #[tokio::test]
    async fn uploads_and_attached_messages_become_emails() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let inbox = user.mailbox("inbox").await;
        let attached = format!(
            "Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
             --b\r\nContent-Type: message/rfc822\r\n\r\n{MESSAGE}\r\n--b--\r\n"
        );
        let blob = user.upload(attached.as_bytes()).await;
        let place = json!({ &inbox: true });
        let import = json!({ "emails": {
            "one": {"blobId": blob, "mailboxIds": place, "keywords": {"$SEEN": true, "Mine": true}},
            "none": {"blobId": "bnone", "mailboxIds": place},
            "nowhere": {"blobId": blob, "mailboxIds": {}},
            "else": {"blobId": blob, "mailboxIds": {"#none": true}},
            "odd": {"blobId": blob, "mailboxIds": place, "subject": "mine"},
            "empty": {"blobId": user.upload(b"").await, "mailboxIds": place},
            "text": {"blobId": user.upload(b"Dear all, this is no message.\r\n").await, "mailboxIds": place},
            "image": {"blobId": user.upload(b"\x89PNG\r\n\x1a\n\0\0").await, "mailboxIds": place},
        }});
        let answer = user.call("Email/import", import).await;
        let created = &answer["created"]["one"];
        assert_eq!(created["blobId"], json!(blob));
        assert_eq!(created["size"], json!(attached.len()));
        assert_ne!(answer["oldState"], answer["newState"]);
        for (key, kind, property) in [
            ("none", "invalidProperties", json!(["blobId"])),
            ("nowhere", "invalidProperties", json!(["mailboxIds"])),
            ("else", "invalidProperties", json!(["mailboxIds"])),
            ("odd", "invalidProperties", json!(["subject"])),
            ("empty", "invalidEmail", Value::Null),
            ("text", "invalidEmail", Value::Null),
            ("image", "invalidEmail", Value::Null),
        ] {
            let error = &answer["notCreated"][key];
            assert_eq!((&error["type"], &error["properties"]), (&json!(kind), &property), "{answer}");
        }
        let got = user
            .call("Email/get", json!({"ids": [created["id"]], "properties": ["attachments", "keywords"]}))
            .await;
        let outer = &got["list"][0];
        assert_eq!(outer["keywords"], json!({"$seen": true, "mine": true}));
        // A part that is imported is a whole blob afterwards, and may be imported as often as wanted.
        let part = &outer["attachments"][0]["blobId"];
        let inner = json!({"blobId": part, "mailboxIds": place});
        let answer = user.call("Email/import", json!({"emails": {"a": inner, "b": inner}})).await;
        let (a, b) = (&answer["created"]["a"], &answer["created"]["b"]);
        assert_ne!(a["id"], b["id"]);
        assert_eq!(a["threadId"], b["threadId"]);
        assert_ne!(&a["blobId"], part);
        let got =
            user.call("Email/get", json!({"ids": [a["id"]], "properties": ["receivedAt", "subject"]})).await;
        assert_eq!(got["list"][0]["receivedAt"], json!("2014-10-30T06:12:00Z"));
        assert_eq!(got["list"][0]["subject"], json!("hello"));
    }

    #[tokio::test]
    async fn states_quota_and_size_are_respected() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let place = json!({ user.mailbox("inbox").await: true });
        let blob = user.upload(MESSAGE.as_bytes()).await;
        let emails = json!({"k": {"blobId": blob, "mailboxIds": place}});
        let stale = user.call("Email/import", json!({"ifInState": "s1-99", "emails": emails})).await;
        assert_eq!(stale["type"], "stateMismatch");
        assert_eq!(user.call("Email/import", json!({})).await["type"], "invalidArguments");
        user.set_quota(MESSAGE.len() as i64).await;
        let first = user.call("Email/import", json!({"emails": emails})).await;
        assert_eq!(first["notCreated"], Value::Null, "{first}");
        let second = user.call("Email/import", json!({"emails": emails})).await;
        assert_eq!(second["notCreated"]["k"]["type"], "overQuota");
        assert_eq!(second["created"], Value::Null);
    }
}
