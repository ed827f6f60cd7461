//! Email/set (RFC 8621, 4.6).
//!
//! What takes time (composing, parsing, putting blobs) is done before the transaction; inside it,
//! changes of mailboxes and keywords are checked one by one and written all together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::email::create::{
    PreparedEmail, created_properties, insert_prepared, no_such_mailbox, prepare_draft, read_keywords,
    read_mailbox_ids, too_many_keywords,
};
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
use crate::types::blob_id::BlobId;
use crate::types::date::utc_date;
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
    let mut create = Vec::with_capacity(request.create.len());
    for (key, object) in std::mem::take(&mut request.create) {
        create.push((key, prepare_draft(call, account, &object).await?));
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
    let mut changes = Vec::with_capacity(updates.len());
    for (given, object) in updates {
        let id = creations.resolve(given);
        let shown = id.map_or_else(|| given.clone(), |id| id.to_string());
        let before = id.and_then(|id| stored.get(&id).cloned());
        let patched = match (id, before) {
            (Some(id), _) if to_destroy.contains(&id) => Err(SetError::new("willDestroy")),
            (Some(_), Some(before)) => {
                let immutable = immutable_properties(tx, &before, object).await?;
                apply_patch(&before, object, &immutable, creations, &mailboxes).map(|after| (before, after))
            }
            _ => Err(SetError::not_found()),
        };
        match patched {
            Ok((before, after)) => {
                outcome.updated.insert(shown, Value::Null);
                stored.insert(after.email_id, after.clone());
                if before != after {
                    changes.push(Placement { before: Some(before), after: Some(after) });
                }
            }
            Err(error) => {
                outcome.not_updated.insert(shown, error.to_json());
            }
        }
    }
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
    let mut values = Map::new();
    if object.keys().all(|name| is_mutable(name)) {
        return Ok(values);
    }
    let account = tx.account();
    values.insert("id".to_owned(), json!(placed.email_id));
    values.insert("threadId".to_owned(), json!(placed.thread_id));
    values.insert("receivedAt".to_owned(), json!(utc_date(placed.received_at)));
    for row in read::rows(tx, account, &[placed.email_id]).await? {
        values.insert("blobId".to_owned(), json!(BlobId::whole(row.blob_hash)));
        values.insert("size".to_owned(), json!(row.size));
        values.insert("hasAttachment".to_owned(), json!(row.has_attachment));
        if let Ok(Value::Object(list)) = serde_json::from_str(&row.list_properties) {
            values.extend(list);
        }
    }
    Ok(values)
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
            _ => return Err(SetError::invalid(pointer.clone(), "this property cannot be changed")),
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

/// True sets a member, null removes it; there is nothing else.
fn set_or_removed(pointer: &str, value: &Value) -> Result<bool, SetError> {
    match value {
        Value::Bool(true) => Ok(true),
        Value::Null => Ok(false),
        _ => Err(SetError::invalid(pointer, "true or null is wanted")),
    }
}
