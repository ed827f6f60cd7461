//! Blob/lookup (RFC 9404, 4.3): which objects refer to a blob. An Email refers to its message and to
//! every part of it; its Thread and its Mailboxes refer to whatever it does.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::capability::Capability;
use crate::jmap::error::MethodError;
use crate::jmap::standard::get::check_count;
use crate::store::email::place::placements;
use crate::store::email::read;
use crate::types::blob_id::{BlobHash, BlobId};
use crate::types::id::Id;

/// The types in which blobs are looked up.
pub const TYPE_NAMES: [&str; 3] = ["Mailbox", "Thread", "Email"];

/// What refers to one blob.
#[derive(Default)]
struct Matched {
    mailboxes: BTreeSet<Id>,
    threads: BTreeSet<Id>,
    emails: BTreeSet<Id>,
}

/// Blob/lookup.
pub async fn lookup(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.account(&mut arguments)?;
    let type_names = arguments.required_strings("typeNames")?;
    let given = arguments.required_strings("ids")?;
    arguments.finish()?;
    check_count(&given)?;
    // RFC 9404, 4.3: also a type whose capability the request does not name is not known.
    let knows_mail = call.using.contains(&Capability::Mail);
    if let Some(unknown) = type_names.iter().find(|name| !knows_mail || !TYPE_NAMES.contains(&name.as_str()))
    {
        return Err(MethodError::UnknownDataType(format!("typeNames: no type {unknown:?} can be looked up")));
    }
    let mut seen = HashSet::with_capacity(given.len());
    let (mut ids, mut not_found): (Vec<(String, BlobId)>, Vec<String>) = (Vec::new(), Vec::new());
    for shown in given {
        match call.resolve_blob_id(&shown) {
            Some(id) if seen.insert(id.to_string()) => ids.push((id.to_string(), id)),
            None if seen.insert(shown.clone()) => not_found.push(shown),
            _ => {}
        }
    }
    let hashes: Vec<BlobHash> = ids.iter().map(|(_, id)| id.hash).collect();
    let mut snapshot = call.jmap.store.read().await?;
    let found = read::by_blobs(&mut snapshot, account.id, &hashes).await?;
    let emails: Vec<Id> = found.iter().map(|(_, email, _)| *email).collect();
    let placed = placements(&mut snapshot, account.id, &emails).await?;
    drop(snapshot);
    let mailboxes: HashMap<Id, Vec<Id>> =
        placed.into_iter().map(|placed| (placed.email_id, placed.mailboxes)).collect();
    let mut matched: HashMap<BlobHash, Matched> = HashMap::new();
    for (hash, email, thread) in found {
        let matched = matched.entry(hash).or_default();
        matched.emails.insert(email);
        matched.threads.insert(thread);
        matched.mailboxes.extend(mailboxes.get(&email).into_iter().flatten());
    }
    let none = Matched::default();
    let list: Vec<Value> = ids
        .iter()
        .map(|(shown, id)| {
            // One that does not exist, or is another's, is one to which nothing refers.
            let matched = matched.get(&id.hash).unwrap_or(&none);
            let ids: Map<String, Value> =
                type_names.iter().map(|name| (name.clone(), matched.of_type(name))).collect();
            json!({"id": shown, "matchedIds": ids})
        })
        .collect();
    Ok(Body::Json(json!({"accountId": account.id.to_string(), "list": list, "notFound": not_found})))
}

impl Matched {
    fn of_type(&self, name: &str) -> Value {
        match name {
            "Mailbox" => json!(self.mailboxes),
            "Thread" => json!(self.threads),
            _ => json!(self.emails),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::jmap::fixture::Fixture;

    #[tokio::test]
    async fn a_message_and_its_parts_lead_to_the_email() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let email = user.email(b"Subject: x\r\n\r\ntext", json!({})).await;
        let properties = json!(["blobId", "textBody", "threadId", "mailboxIds"]);
        let got = user.call("Email/get", json!({"ids": [email], "properties": properties})).await;
        let got = &got["list"][0];
        let (blob, part) = (&got["blobId"], &got["textBody"][0]["blobId"]);
        let unused = user.upload(b"unused").await;
        let asked = json!({"typeNames": ["Email", "Thread", "Mailbox"], "ids": [blob, part, unused, "none"]});
        let answer = user.call("Blob/lookup", asked).await;
        let mailboxes: Vec<&String> = got["mailboxIds"].as_object().unwrap().keys().collect();
        let wanted = json!({"Email": [email], "Thread": [got["threadId"]], "Mailbox": mailboxes});
        assert_eq!(answer["list"][0], json!({"id": blob, "matchedIds": wanted}));
        assert_eq!(answer["list"][1], json!({"id": part, "matchedIds": wanted}));
        let nothing = json!({"Email": [], "Thread": [], "Mailbox": []});
        assert_eq!(answer["list"][2], json!({"id": unused, "matchedIds": nothing}));
        assert_eq!(answer["notFound"], json!(["none"]));
        // Another account learns nothing.
        let bob = fixture.user("bob@example.test").await;
        let asked = json!({"typeNames": ["Email"], "ids": [blob]});
        assert_eq!(bob.call("Blob/lookup", asked).await["list"][0]["matchedIds"], json!({"Email": []}));
    }

    #[tokio::test]
    async fn types_that_are_not_known_are_refused() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let asked = json!({"typeNames": ["Email", "Identity"], "ids": []});
        assert_eq!(user.call("Blob/lookup", asked).await["type"], "unknownDataType");
        let asked =
            json!([["Blob/lookup", {"accountId": user.account(), "typeNames": ["Email"], "ids": []}, "0"]]);
        let answer = user.request_using(&["urn:ietf:params:jmap:blob"], asked).await;
        assert_eq!(answer[0][1]["type"], "unknownDataType");
    }
}
