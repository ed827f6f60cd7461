//! Email/set (RFC 8621, 4.6).
//!
//! What takes time (composing, parsing, putting blobs) is done before the transaction; inside it,
//! changes of mailboxes and keywords are checked one by one and written all together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::jmap::arguments::Arguments;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::email::create::{
    PreparedEmail, created_properties, insert_prepared, no_such_mailbox, prepare_draft, read_keywords,
    read_mailbox_ids, too_many_keywords,
};
use crate::jmap::email::get::{current_structure, write_email};
use crate::jmap::email::properties::Wanted;
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits;
use crate::jmap::standard::patch;
use crate::jmap::standard::set::{Creations, SetOutcome, SetRequest, check_state};
use crate::store::email::delete::delete;
use crate::store::email::place::{Placed, Placement, place, placements};
use crate::store::email::read;
use crate::store::error::StoreError;
use crate::store::mailbox;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use crate::types::keyword::normalize_keyword;
use crate::types::object_type::ObjectType;

/// A request whose creations are ready to be stored.
#[derive(Debug, Default)]
pub struct PreparedSet {
    /// State, updates and destructions.
    pub request: SetRequest,
    /// Creation id, and the Email or why there is none.
    pub create: Vec<(String, Result<PreparedEmail, SetError>)>,
}

/// Email/set.
pub async fn set(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.writable_account(&mut arguments)?;
    let request = SetRequest::read(&mut arguments)?;
    arguments.finish()?;
    let prepared = prepare(call, &account, request).await?;
    let outcome = commit(call, account.id, prepared).await?;
    Ok(Body::Json(outcome.to_json(account.id)))
}

/// Runs a prepared /set in a transaction of its own, and remembers what it created.
pub async fn commit(
    call: &mut Call<'_>,
    account: AccountId,
    prepared: PreparedSet,
) -> Result<SetOutcome, MethodError> {
    let prepared = Arc::new(prepared);
    let creations = Creations(call.created_ids.clone());
    let unit = async move |tx: &mut Tx| {
        let mut creations = creations;
        let outcome = run(tx, &prepared, &mut creations).await?;
        Ok(outcome.map(|outcome| (outcome, creations)))
    };
    let (outcome, creations) = call.jmap.store.write(account, unit).await??;
    *call.created_ids = creations.0;
    Ok(outcome)
}

/// Does what can be done before the transaction.
pub async fn prepare(
    call: &Call<'_>,
    account: &AccountAccess,
    mut request: SetRequest,
) -> Result<PreparedSet, MethodError> {
    let mut reader = BlobReader::new(call, account);
    let mut create = Vec::with_capacity(request.create.len());
    for (key, object) in std::mem::take(&mut request.create) {
        create.push((key, prepare_draft(call, account, &mut reader, &object).await?));
    }
    Ok(PreparedSet { request, create })
}

/// Runs a prepared /set inside a transaction.
pub async fn run(
    tx: &mut Tx,
    prepared: &PreparedSet,
    creations: &mut Creations,
) -> Result<Result<SetOutcome, MethodError>, StoreError> {
    let request = &prepared.request;
    let old_state = match check_state(tx, ObjectType::Email, request.if_in_state.as_deref()).await? {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    let mut outcome = SetOutcome::new(old_state);
    for (key, email) in &prepared.create {
        let inserted = match email {
            Ok(email) => insert_prepared(tx, email, creations).await?.map(|ids| (email, ids)),
            Err(error) => Err(error.clone()),
        };
        match inserted {
            Ok((email, ids)) => {
                creations.0.insert(key.clone(), ids.email_id.to_string());
                outcome.created.insert(key.clone(), Value::Object(created_properties(email, ids)));
            }
            Err(error) => {
                outcome.not_created.insert(key.clone(), error.to_json());
            }
        }
    }
    let destroy: Vec<(String, Option<Id>)> = request
        .destroy
        .iter()
        .map(|given| (creations.shown(given).unwrap_or(given).to_owned(), creations.resolve(given)))
        .collect();
    let to_destroy: HashSet<Id> = destroy.iter().filter_map(|(_, id)| *id).collect();
    update(tx, &request.update, &to_destroy, creations, &mut outcome).await?;
    let destroyed: HashSet<Id> =
        delete(tx, &to_destroy.into_iter().collect::<Vec<_>>()).await?.into_iter().collect();
    let mut told = HashSet::new();
    for (shown, id) in destroy {
        if !told.insert(shown.clone()) {
            continue;
        }
        if id.is_some_and(|id| destroyed.contains(&id)) {
            outcome.destroyed.push(shown);
        } else {
            outcome.not_destroyed.insert(shown, SetError::not_found().to_json());
        }
    }
    outcome.conclude(tx, ObjectType::Email);
    Ok(Ok(outcome))
}

async fn update(
    tx: &mut Tx,
    updates: &[(String, Map<String, Value>)],
    to_destroy: &HashSet<Id>,
    creations: &Creations,
    outcome: &mut SetOutcome,
) -> Result<(), StoreError> {
    if updates.is_empty() {
        return Ok(());
    }
    let account = tx.account();
    let ids: Vec<Id> = updates.iter().filter_map(|(given, _)| creations.resolve(given)).collect();
    let mut stored: HashMap<Id, Placed> =
        placements(tx, account, &ids).await?.into_iter().map(|placed| (placed.email_id, placed)).collect();
    let mailboxes: BTreeSet<Id> = mailbox::ids(tx, account).await?.into_iter().collect();
    // An Email may be patched twice, by its id and by a creation id: it is placed once, at the end.
    let originals = stored.clone();
    for (given, object) in updates {
        let id = creations.resolve(given);
        let shown = id.map_or_else(|| given.clone(), |id| id.to_string());
        let before = id.and_then(|id| stored.get(&id).cloned());
        let patched = match (id, before) {
            (Some(id), _) if to_destroy.contains(&id) => Err(SetError::new("willDestroy")),
            (Some(_), Some(before)) => {
                let immutable = immutable_properties(tx, &before, object).await?;
                apply_patch(&before, object, &immutable, creations, &mailboxes)
            }
            _ => Err(SetError::not_found()),
        };
        match patched {
            Ok(after) => {
                outcome.updated.insert(shown, Value::Null);
                stored.insert(after.email_id, after);
            }
            Err(error) => {
                outcome.not_updated.insert(shown, error.to_json());
            }
        }
    }
    let changes: Vec<Placement> = stored
        .into_iter()
        .filter_map(|(id, after)| {
            let before = originals.get(&id)?;
            (*before != after).then(|| Placement { before: Some(before.clone()), after: Some(after) })
        })
        .collect();
    place(tx, &changes).await
}

/// The values of immutable properties that a patch names: it may repeat them, not change them
/// (RFC 8620, 5.3).
async fn immutable_properties(
    tx: &mut Tx,
    placed: &Placed,
    object: &Map<String, Value>,
) -> Result<Map<String, Value>, StoreError> {
    let is_mutable =
        |name: &str| name.split('/').next().is_some_and(|top| ["keywords", "mailboxIds"].contains(&top));
    let mut properties = Vec::new();
    for name in object.keys().filter(|name| !is_mutable(name)) {
        // What must be read from the message itself is not compared.
        let wanted = Wanted::of_get(Some(vec![name.clone()]), &mut Arguments::new(Map::new()));
        properties.extend(wanted.ok().filter(|wanted| !wanted.needs_octets()).map(|_| name.clone()));
    }
    let Ok(wanted) = Wanted::of_get(Some(properties), &mut Arguments::new(Map::new())) else {
        return Ok(Map::new());
    };
    if wanted.properties.is_empty() {
        return Ok(Map::new());
    }
    let (account, id) = (tx.account(), placed.email_id);
    let structures =
        if wanted.needs_structure() { read::structures(tx, account, &[id]).await? } else { HashMap::new() };
    let mut text = String::new();
    for row in read::rows(tx, account, &[id]).await? {
        let structure = structures.get(&id).and_then(|text| current_structure(text));
        if wanted.needs_structure() && structure.is_none() {
            return Ok(Map::new());
        }
        if write_email(&mut text, &wanted, &row, structure.as_ref(), None, None)?.is_err() {
            return Ok(Map::new());
        }
    }
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// The Email after a patch of its keywords and mailboxes.
fn apply_patch(
    before: &Placed,
    object: &Map<String, Value>,
    immutable: &Map<String, Value>,
    creations: &Creations,
    mailboxes: &BTreeSet<Id>,
) -> Result<Placed, SetError> {
    patch::check_prefixes(object)?;
    let mut after = before.clone();
    for (pointer, value) in object {
        let tokens = patch::split(pointer);
        match tokens.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["keywords"] => {
                let keywords = read_keywords(Some(value))?;
                let old: Vec<String> = after.all_keywords().map(str::to_owned).collect();
                old.iter().for_each(|keyword| after.set_keyword(keyword, false));
                keywords.iter().for_each(|keyword| after.set_keyword(keyword, true));
            }
            ["keywords", keyword] => {
                let on = set_or_removed(pointer, value)?;
                let keyword = normalize_keyword(keyword)
                    .ok_or_else(|| SetError::invalid(pointer.clone(), "this is no legal keyword"))?;
                after.set_keyword(&keyword, on);
            }
            ["mailboxIds"] => {
                let given = read_mailbox_ids(Some(value))?;
                after.mailboxes.clear();
                for id in &given {
                    after.set_mailbox(creations.resolve(id).ok_or_else(no_such_mailbox)?, true);
                }
            }
            ["mailboxIds", given] => {
                let on = set_or_removed(pointer, value)?;
                match creations.resolve(given) {
                    Some(id) => after.set_mailbox(id, on),
                    None if on => return Err(no_such_mailbox()),
                    None => {}
                }
            }
            [name] if immutable.get(*name) == Some(value) => {}
            [name] | ["bodyStructure" | "bodyValues", .., name] if !name.is_empty() => {
                return Err(SetError::invalid(pointer.clone(), "this property cannot be changed"));
            }
            // RFC 8620, 5.3: through a value, into an array, or through what is not there.
            _ => {
                let text = format!("{pointer}: the pointer leads nowhere");
                return Err(SetError::new("invalidPatch").because(text));
            }
        }
    }
    if after.mailboxes.is_empty() {
        return Err(SetError::invalid("mailboxIds", "an Email is in at least one mailbox"));
    }
    if after.mailboxes.iter().any(|id| !mailboxes.contains(id)) {
        return Err(no_such_mailbox());
    }
    if after.mailboxes.len() > limits::MAX_MAILBOXES_PER_EMAIL {
        return Err(SetError::new("tooManyMailboxes"));
    }
    if after.all_keywords().count() > limits::MAX_KEYWORDS_PER_EMAIL {
        return Err(too_many_keywords());
    }
    Ok(after)
}

/// True sets a member, null removes it (RFC 8620, 5.3). Some clients remove with false, which can
/// mean nothing else.
fn set_or_removed(pointer: &str, value: &Value) -> Result<bool, SetError> {
    match value {
        Value::Bool(set) => Ok(*set),
        Value::Null => Ok(false),
        _ => Err(SetError::invalid(pointer, "true or null is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::Fixture;
    use crate::store::change::state_of;
    use crate::types::object_type::ObjectType;

    const MESSAGE: &[u8] = b"Subject: hello\r\n\r\nBody\r\n";

    #[tokio::test]
    async fn keywords_and_mailboxes_are_patched() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let (inbox, archive) = (user.mailbox("inbox").await, user.mailbox("archive").await);
        let email = user.email(MESSAGE, json!({"a": true, "$Seen": true})).await;
        let get = async || user.call("Email/get", json!({"ids": [email]})).await["list"][0].clone();
        let set = async |patch: Value| user.call("Email/set", json!({"update": {&email: patch}})).await;
        let archived = format!("mailboxIds/{archive}");
        let answer = set(json!({"keywords/B": true, "keywords/A": null, &archived: true})).await;
        assert_eq!(answer["updated"], json!({&email: null}));
        let now = get().await;
        assert_eq!(now["keywords"], json!({"$seen": true, "b": true}));
        assert_eq!(now["mailboxIds"], json!({&inbox: true, &archive: true}));
        // What is sent back unchanged is no change.
        let state = answer["newState"].clone();
        let removed = set(json!({"keywords/never": false})).await;
        assert_eq!((&removed["updated"], &removed["newState"]), (&json!({&email: null}), &state));
        let same = json!({"id": email, "threadId": now["threadId"], "size": now["size"], "subject": "hello",
                          "receivedAt": now["receivedAt"], "mailboxIds": now["mailboxIds"]});
        assert_eq!(set(same).await["newState"], state);
        for (patch, kind, property) in [
            (json!({"subject": "other"}), "invalidProperties", json!(["subject"])),
            (json!({"size": 1}), "invalidProperties", json!(["size"])),
            (json!({"mailboxIds": {}}), "invalidProperties", json!(["mailboxIds"])),
            (json!({"mailboxIds": {&inbox: false}}), "invalidProperties", json!(["mailboxIds"])),
            (json!({"mailboxIds/none": true}), "invalidProperties", json!(["mailboxIds"])),
            (json!({"keywords": {"a b": true}}), "invalidProperties", json!(["keywords"])),
            (json!({"keywords/x": 0}), "invalidProperties", json!(["keywords/x"])),
            (json!({"keywords": {}, "keywords/x": true}), "invalidPatch", Value::Null),
        ] {
            let error = set(patch.clone()).await["notUpdated"][&email].clone();
            assert_eq!((&error["type"], &error["properties"]), (&json!(kind), &property), "{patch}");
        }
        let many: Vec<(String, Value)> = (0..201).map(|n| (format!("keywords/k{n}"), json!(true))).collect();
        let many = set(Value::Object(many.into_iter().collect())).await;
        assert_eq!(many["notUpdated"][&email]["type"], "tooManyKeywords");
        assert_eq!(get().await, now);
    }

    #[tokio::test]
    async fn mailboxes_of_the_same_request_are_named_by_their_creation_ids() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let account = user.account();
        let email = user.email(MESSAGE, json!({})).await;
        let answers = user
            .request(json!([
                ["Mailbox/set", {"accountId": account, "create": {"m": {"name": "new"}}}, "0"],
                ["Email/set", {"accountId": account,
                    "create": {"d": {"mailboxIds": {"#m": true}, "subject": "draft", "keywords": {"$draft": true}}},
                    "update": {&email: {"mailboxIds": {"#m": true}}, "#d": {"keywords/$draft": null}},
                }, "1"],
                ["Email/query", {"accountId": account, "filter": {"inMailbox": "#m"}}, "2"],
            ]))
            .await;
        let set = &answers[1][1];
        let draft = set["created"]["d"]["id"].as_str().unwrap();
        assert_eq!(set["updated"], json!({&email: null, draft: null}), "{set}");
        assert_eq!(answers[2][1]["ids"].as_array().unwrap().len(), 2);
        let both = json!({"update": {draft: {"keywords": {}}}, "destroy": [draft, draft, "none"]});
        let answer = user.call("Email/set", both).await;
        assert_eq!(answer["notUpdated"][draft]["type"], "willDestroy");
        assert_eq!(answer["destroyed"], json!([draft]));
        assert_eq!(answer["notDestroyed"]["none"]["type"], "notFound");
    }

    #[tokio::test]
    async fn email_delivery_moves_with_every_new_email_and_with_nothing_else() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let state = async || {
            let mut snapshot = fixture.jmap.store.read().await.unwrap();
            state_of(&mut snapshot, user.caller.accounts[0].id, ObjectType::EmailDelivery).await.unwrap()
        };
        let before = state().await;
        let email = user.email(MESSAGE, json!({})).await;
        let imported = state().await;
        assert_ne!(before, imported);
        user.call("Email/set", json!({"update": {&email: {"keywords/$seen": true}}})).await;
        assert_eq!(state().await, imported);
        let draft = json!({"mailboxIds": {user.mailbox("drafts").await: true}});
        user.call("Email/set", json!({"create": {"d": draft}})).await;
        let drafted = state().await;
        assert_ne!(drafted, imported);
        user.call("Email/set", json!({"destroy": [email]})).await;
        assert_eq!(state().await, drafted);
    }

    #[tokio::test]
    async fn missing_and_oversized_attachments_are_told() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let inbox = user.mailbox("inbox").await;
        let attach = |ids: &[&str]| {
            let parts: Vec<Value> = ids.iter().map(|id| json!({"blobId": id, "type": "image/png"})).collect();
            json!({"create": {"d": {"mailboxIds": {&inbox: true}, "attachments": parts}}})
        };
        let missing = user.call("Email/set", attach(&["bnone", "#none"])).await;
        let error = &missing["notCreated"]["d"];
        assert_eq!(
            (&error["type"], &error["notFound"]),
            (&json!("blobNotFound"), &json!(["#none", "bnone"]))
        );
        // Each part counts, though they are the same octets.
        let blob = user.upload(&vec![0; 13_000_000]).await;
        let large = user.call("Email/set", attach(&[&blob, &blob, &blob, &blob])).await;
        assert_eq!(large["notCreated"]["d"]["type"], "tooLarge");
    }
}
