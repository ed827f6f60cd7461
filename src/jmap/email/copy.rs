//! Email/copy (RFC 8621, 4.7; RFC 8620, 5.4): Emails of one account, once more in another.
//!
//! Two accounts are two transactions: the copies are committed before the originals are destroyed,
//! so that an Email may be there twice after a failure, but never not at all.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::email::create::{GivenPlace, PreparedEmail, run_parsing};
use crate::jmap::email::set::{PreparedSet, commit};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::standard::set::{Objects, SetRequest, required_objects};
use crate::mail::parse::parse;
use crate::store::change::state_of;
use crate::store::email::insert::NewEmail;
use crate::store::email::place::{Placed, placements};
use crate::store::email::read::{self, EmailRow};
use crate::types::blob_id::BlobId;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// What may be said of a copy (RFC 8621, 4.7).
const PROPERTIES: [&str; 4] = ["id", "mailboxIds", "keywords", "receivedAt"];

/// Email/copy.
pub async fn copy(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let from = call.from_account(&mut arguments)?;
    let account = call.writable_account(&mut arguments)?;
    let if_from_in_state = arguments.string("ifFromInState")?;
    let if_in_state = arguments.string("ifInState")?;
    let objects = required_objects(&mut arguments, "create")?;
    let destroys_original = arguments.boolean("onSuccessDestroyOriginal")?;
    let destroy_from_if_in_state = arguments.string("destroyFromIfInState")?;
    arguments.finish()?;
    if from.id == account.id {
        let text = "fromAccountId and accountId are the same; to copy is from one account to another";
        return Err(MethodError::InvalidArguments(text.to_owned()));
    }
    let originals = read_originals(call, &from, if_from_in_state.as_deref(), &objects).await?;
    let mut create = Vec::with_capacity(objects.len());
    let mut reader = BlobReader::new(call, &from);
    for (key, object) in &objects {
        let original = original_id(call, object).and_then(|id| originals.get(&id));
        create.push((key.clone(), prepare(call, &from, &mut reader, object, original).await?));
    }
    let request = SetRequest { if_in_state, ..SetRequest::default() };
    // Ids of originals may refer to creations that those of this call replace.
    let sources: HashMap<&String, Id> =
        objects.iter().filter_map(|(key, object)| Some((key, original_id(call, object)?))).collect();
    let outcome = commit(call, account.id, PreparedSet { request, create }).await?;
    let destroy: Vec<String> =
        outcome.created.keys().filter_map(|key| Some(sources.get(key)?.to_string())).collect();
    if destroys_original && !destroy.is_empty() {
        let request = SetRequest { if_in_state: destroy_from_if_in_state, destroy, ..SetRequest::default() };
        let implicit = match destroy_originals(call, &from, request).await {
            Ok(body) => ("Email/set", body),
            Err(error) => ("error", Body::Json(error.arguments())),
        };
        call.implicit.push(implicit);
    }
    let mut answer = Map::from_iter([("fromAccountId".to_owned(), json!(from.id.to_string()))]);
    answer.extend(outcome.creations_to_json(account.id));
    Ok(Body::Json(Value::Object(answer)))
}

/// What is copied: of each Email the row, and where it is.
type Originals = HashMap<Id, (EmailRow, Placed)>;

fn original_id(call: &Call<'_>, object: &Map<String, Value>) -> Option<Id> {
    call.resolve_id(object.get("id")?.as_str()?)
}

/// The current values in the account that is copied from.
async fn read_originals(
    call: &Call<'_>,
    from: &AccountAccess,
    if_from_in_state: Option<&str>,
    objects: &Objects,
) -> Result<Originals, MethodError> {
    let ids: Vec<Id> = objects.iter().filter_map(|(_, object)| original_id(call, object)).collect();
    let mut snapshot = call.jmap.store.read().await?;
    let state = state_of(&mut snapshot, from.id, ObjectType::Email).await?;
    if if_from_in_state.is_some_and(|wanted| wanted != state.to_string()) {
        return Err(MethodError::StateMismatch);
    }
    let rows = read::rows(&mut snapshot, from.id, &ids).await?;
    let placed = placements(&mut snapshot, from.id, &ids).await?;
    let mut placed: HashMap<Id, Placed> =
        placed.into_iter().map(|placed| (placed.email_id, placed)).collect();
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let placed = placed.remove(&row.id)?;
            Some((row.id, (row, placed)))
        })
        .collect())
}

/// Makes one copy ready.
async fn prepare(
    call: &Call<'_>,
    from: &AccountAccess,
    reader: &mut BlobReader,
    object: &Map<String, Value>,
    original: Option<&(EmailRow, Placed)>,
) -> Result<Result<PreparedEmail, SetError>, MethodError> {
    if let Some(unknown) = object.keys().find(|name| !PROPERTIES.contains(&name.as_str())) {
        return Ok(Err(SetError::invalid(unknown.clone(), "a copy cannot differ in this property")));
    }
    if !object.get("id").is_some_and(Value::is_string) {
        return Ok(Err(SetError::invalid("id", "the id of an Email is wanted")));
    }
    let mut place = match GivenPlace::read(object) {
        Ok(place) => place,
        Err(error) => return Ok(Err(error)),
    };
    let Some((row, placed)) = original else { return Ok(Err(SetError::not_found())) };
    // RFC 8620, 5.4: what is not given is as it is on the original.
    if object.get("keywords").is_none_or(Value::is_null) {
        place.keywords = placed.all_keywords().map(str::to_owned).collect();
    }
    let received_at = place.received_at.unwrap_or(row.received_at);
    let hash = row.blob_hash;
    // Destroyed since it was read, when its blob is not there.
    let Some(raw) = reader.read(&BlobId::whole(hash)).await? else { return Ok(Err(SetError::not_found())) };
    let Some(blob) = call.jmap.blobs.prepare_existing(call.reader(from), hash).await? else {
        return Ok(Err(SetError::not_found()));
    };
    let email = run_parsing(raw.len(), move || NewEmail::of(&parse(&raw), hash, received_at)).await?;
    Ok(Ok(PreparedEmail { blob, email, place }))
}

/// The implicit Email/set in the account that was copied from.
async fn destroy_originals(call: &mut Call<'_>, from: &AccountAccess, request: SetRequest) -> MethodResult {
    if from.is_read_only {
        return Err(MethodError::AccountReadOnly);
    }
    let outcome = commit(call, from.id, PreparedSet { request, create: Vec::new() }).await?;
    Ok(Body::Json(outcome.to_json(from.id)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::{Fixture, User};

    const MESSAGE: &[u8] = b"Subject: hello\r\nMessage-ID: <one@example.org>\r\n\r\nBody\r\n";

    /// Alice, who may use Bob's account and read Carol's; an Email of hers; Bob's inbox.
    async fn scene(fixture: &Fixture) -> (User<'_>, String, String, String) {
        let alice = fixture.user("alice@example.test").await;
        let bob = fixture.user("bob@example.test").await;
        let carol = fixture.user("carol@example.test").await;
        alice.grant(&bob, false).await;
        alice.grant(&carol, true).await;
        let inbox = bob.mailbox("inbox").await;
        let (bob, login) = (bob.account(), alice.caller.login_id);
        let alice = fixture.login(login, "alice@example.test").await;
        let email = alice.email(MESSAGE, json!({"$flagged": true, "mine": true})).await;
        (alice, bob, inbox, email)
    }

    #[tokio::test]
    async fn a_copy_is_the_same_message_in_another_place() {
        let fixture = Fixture::new().await;
        let (alice, bob, inbox, email) = scene(&fixture).await;
        let place = json!({ &inbox: true });
        let copy = json!({"fromAccountId": alice.account(), "accountId": bob, "create": {
            "plain": {"id": email, "mailboxIds": place},
            "other": {"id": email, "mailboxIds": place, "keywords": {}, "receivedAt": "2001-02-03T04:05:06Z"},
            "none": {"id": inbox, "mailboxIds": place},
            "subject": {"id": email, "mailboxIds": place, "subject": "x"},
            "nowhere": {"id": email},
        }});
        let answer = alice.call("Email/copy", copy).await;
        assert_eq!(answer["fromAccountId"], json!(alice.account()));
        assert_eq!(answer["notCreated"]["none"]["type"], "notFound");
        assert_eq!(answer["notCreated"]["subject"]["properties"], json!(["subject"]));
        assert_eq!(answer["notCreated"]["nowhere"]["properties"], json!(["mailboxIds"]));
        let (plain, other) = (&answer["created"]["plain"], &answer["created"]["other"]);
        let properties = ["keywords", "receivedAt", "subject", "mailboxIds", "blobId", "size", "threadId"];
        let get = json!({"accountId": bob, "ids": [plain["id"], other["id"]], "properties": properties});
        let list = alice.call("Email/get", get).await["list"].clone();
        let (first, second) = (&list[0], &list[1]);
        assert_eq!(first["keywords"], json!({"$flagged": true, "mine": true}));
        assert_eq!(second["keywords"], json!({}));
        assert_eq!(second["receivedAt"], json!("2001-02-03T04:05:06Z"));
        assert_eq!(first["subject"], json!("hello"));
        assert_eq!(first["mailboxIds"], place);
        for name in ["blobId", "size", "threadId"] {
            assert_eq!(first[name], plain[name], "{name}");
        }
        let got = alice.call("Email/get", json!({"ids": [email], "properties": ["receivedAt"]})).await;
        assert_eq!(got["list"][0]["receivedAt"], first["receivedAt"]);
    }

    #[tokio::test]
    async fn the_original_goes_once_the_copy_is_there() {
        let fixture = Fixture::new().await;
        let (alice, bob, inbox, email) = scene(&fixture).await;
        let create = json!({"k": {"id": email, "mailboxIds": {&inbox: true}}});
        let copy = |state: Value| {
            json!([["Email/copy", {
                "fromAccountId": alice.account(), "accountId": bob, "create": create,
                "onSuccessDestroyOriginal": true, "destroyFromIfInState": state,
            }, "c"]])
        };
        let kept = alice.request(copy(json!("s1-99"))).await;
        assert_eq!(kept[0][1]["notCreated"], Value::Null);
        assert_eq!((&kept[1][0], &kept[1][1]["type"]), (&json!("error"), &json!("stateMismatch")));
        let moved = alice.request(copy(Value::Null)).await;
        assert_eq!(
            (&moved[0][0], &moved[1][0], &moved[1][2]),
            (&json!("Email/copy"), &json!("Email/set"), &json!("c"))
        );
        assert_eq!(moved[1][1]["destroyed"], json!([email]));
        assert_eq!(moved[1][1]["accountId"], json!(alice.account()));
        // Nothing was copied: no call is made for the original.
        let gone = alice.request(copy(Value::Null)).await;
        assert_eq!(gone[0][1]["notCreated"]["k"]["type"], "notFound");
        assert_eq!(gone.len(), 1);
    }

    #[tokio::test]
    async fn accounts_and_states_are_checked() {
        let fixture = Fixture::new().await;
        let (alice, bob, inbox, email) = scene(&fixture).await;
        let carol = alice.caller.accounts.iter().find(|account| account.is_read_only).unwrap().id.to_string();
        let create = json!({"k": {"id": email, "mailboxIds": {&inbox: true}}});
        let own = alice.account();
        for (from, to, more, error) in [
            (&own, &own, json!({}), "invalidArguments"),
            (&inbox, &bob, json!({}), "fromAccountNotFound"),
            (&own, &inbox, json!({}), "accountNotFound"),
            (&own, &carol, json!({}), "accountReadOnly"),
            (&own, &bob, json!({"ifInState": "s1-99"}), "stateMismatch"),
            (&own, &bob, json!({"ifFromInState": "s1-99"}), "stateMismatch"),
            (&own, &bob, json!({"create": null}), "invalidArguments"),
        ] {
            let mut arguments = json!({"fromAccountId": from, "accountId": to, "create": create});
            more.as_object().unwrap().iter().for_each(|(name, value)| arguments[name] = value.clone());
            let answer = alice.call("Email/copy", arguments).await;
            assert_eq!(answer["type"], error);
        }
    }
}
