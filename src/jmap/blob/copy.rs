//! Blob/copy (RFC 8620, 6.3). The copy is an upload of the caller in the other account. A part of a
//! message becomes a blob of its own, since the message stays where it is.

use serde_json::{Map, json};

use crate::blob::prepared::PreparedBlob;
use crate::jmap::arguments::Arguments;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits::{MAX_OBJECTS_IN_SET, UPLOAD_QUOTA};
use crate::jmap::standard::set::{object_or_null, too_many};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobId;

/// Blob/copy.
pub async fn copy(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let from = call.from_account(&mut arguments)?;
    let account = call.writable_account(&mut arguments)?;
    let ids = arguments.required_strings("blobIds")?;
    arguments.finish()?;
    if from.id == account.id {
        let text = "fromAccountId and accountId are the same; to copy is from one account to another";
        return Err(MethodError::InvalidArguments(text.to_owned()));
    }
    if ids.len() > MAX_OBJECTS_IN_SET {
        return Err(too_many());
    }
    let mut parts = BlobReader::new(call, &from);
    let mut copied = Map::new();
    let mut not_copied = Map::new();
    let mut blobs = Vec::with_capacity(ids.len());
    for given in ids {
        if copied.contains_key(&given) || not_copied.contains_key(&given) {
            continue;
        }
        let blob = match call.resolve_blob_id(&given) {
            Some(id) => prepare(call, &from, &mut parts, &id).await?,
            None => None,
        };
        match blob {
            Some(blob) => {
                copied.insert(given, json!(BlobId::whole(blob.hash())));
                blobs.push(blob);
            }
            None => {
                not_copied.insert(given, SetError::not_found().to_json());
            }
        }
    }
    let login = call.caller.login_id;
    let unit = async move |tx: &mut Tx| {
        for blob in &blobs {
            blob.reference_upload(tx, login, UPLOAD_QUOTA).await?;
        }
        Ok(())
    };
    call.jmap.store.write(account.id, unit).await?;
    Ok(Body::Json(json!({
        "fromAccountId": from.id.to_string(),
        "accountId": account.id.to_string(),
        "copied": object_or_null(&copied),
        "notCopied": object_or_null(&not_copied),
    })))
}

async fn prepare(
    call: &Call<'_>,
    from: &AccountAccess,
    parts: &mut BlobReader,
    id: &BlobId,
) -> Result<Option<PreparedBlob>, MethodError> {
    let blobs = &call.jmap.blobs;
    if id.is_whole() {
        return Ok(blobs.prepare_existing(call.reader(from), id.hash).await?);
    }
    match parts.read(id).await? {
        Some(octets) => Ok(Some(blobs.prepare(octets).await?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::Fixture;

    #[tokio::test]
    async fn blobs_and_parts_are_readable_in_the_other_account() {
        let fixture = Fixture::new().await;
        let alice = fixture.user("alice@example.test").await;
        let bob = fixture.user("bob@example.test").await;
        alice.grant(&bob, false).await;
        let bobs = bob.account();
        let alice = fixture.login(alice.caller.login_id, "alice@example.test").await;
        let email = alice.email(b"Subject: x\r\n\r\npart text", json!({})).await;
        let asked = json!({"ids": [email], "properties": ["textBody"]});
        let got = alice.call("Email/get", asked).await;
        let part = got["list"][0]["textBody"][0]["blobId"].as_str().unwrap();
        let large = alice.upload(&[b'x'; 100_000]).await;
        let copy = json!({
            "fromAccountId": alice.account(), "accountId": bobs, "blobIds": [part, large, "bnone", part],
        });
        let answer = alice.call("Blob/copy", copy).await;
        assert_eq!(answer["notCopied"], json!({"bnone": {"type": "notFound"}}));
        assert_eq!(answer["copied"][&large], json!(large));
        let copied = &answer["copied"][part];
        assert_ne!(copied, &json!(part));
        let get = json!({"accountId": bobs, "ids": [copied, large, part], "properties": ["size"]});
        let got = alice.call("Blob/get", get).await;
        assert_eq!(got["list"], json!([{"id": copied, "size": 9}, {"id": large, "size": 100_000}]));
        assert_eq!(got["notFound"], json!([part]));
        // The copies are Alice's uploads: Bob does not see them.
        let get = json!({"ids": [copied, large], "properties": ["size"]});
        assert_eq!(bob.call("Blob/get", get).await["list"], json!([]));
    }

    #[tokio::test]
    async fn accounts_are_checked() {
        let fixture = Fixture::new().await;
        let alice = fixture.user("alice@example.test").await;
        let bob = fixture.user("bob@example.test").await;
        let (own, others) = (alice.account(), bob.account());
        for (from, to, error) in [
            (&own, &own, "invalidArguments"),
            (&others, &own, "fromAccountNotFound"),
            (&own, &others, "accountNotFound"),
        ] {
            let copy = json!({"fromAccountId": from, "accountId": to, "blobIds": []});
            assert_eq!(alice.call("Blob/copy", copy).await["type"], error);
        }
        alice.grant(&bob, true).await;
        let alice = fixture.login(alice.caller.login_id, "alice@example.test").await;
        let copy = json!({"fromAccountId": own, "accountId": others, "blobIds": []});
        assert_eq!(alice.call("Blob/copy", copy).await["type"], "accountReadOnly");
        let copy = json!({"fromAccountId": others, "accountId": own, "blobIds": []});
        assert_eq!(alice.call("Blob/copy", copy).await["copied"], Value::Null);
    }
}
