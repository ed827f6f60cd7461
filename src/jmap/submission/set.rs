//! EmailSubmission/set (RFC 8621, 7.5).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::email::set::{self as email_set, PreparedSet};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits::MAX_OBJECTS_IN_SET;
use crate::jmap::standard::patch;
use crate::jmap::standard::set::{Changed, Creations, SetOutcome, SetRequest, check_state, objects};
use crate::jmap::submission::create::{PreparedSubmission, Sending, insert, prepare};
use crate::jmap::submission::to_json;
use crate::store::error::StoreError;
use crate::store::submission::{self, Submission, UndoStatus};
use crate::store::tx::Tx;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// The call, ready for its transaction.
struct Prepared {
    request: SetRequest,
    create: Vec<(String, Result<PreparedSubmission, SetError>)>,
    on_success: OnSuccess,
}

/// What is to be done with Emails that were sent, by the submission's id or creation reference.
struct OnSuccess {
    update: Vec<(String, Map<String, Value>)>,
    destroy: Vec<String>,
}

/// What the transaction did.
struct Outcome {
    submissions: SetOutcome,
    emails: Option<SetOutcome>,
    creations: Creations,
}

/// EmailSubmission/set.
pub async fn set(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.sending_account(&mut arguments)?;
    let request = SetRequest::read(&mut arguments)?;
    let on_success = OnSuccess {
        update: objects(&mut arguments, "onSuccessUpdateEmail")?,
        destroy: arguments.strings("onSuccessDestroyEmail")?.unwrap_or_default(),
    };
    arguments.finish()?;
    if account.is_read_only && !(on_success.update.is_empty() && on_success.destroy.is_empty()) {
        return Err(MethodError::AccountReadOnly);
    }
    if on_success.update.len() + on_success.destroy.len() > MAX_OBJECTS_IN_SET {
        let text = format!("maxObjectsInSet is {MAX_OBJECTS_IN_SET}; send fewer objects");
        return Err(MethodError::RequestTooLarge(text));
    }
    run(call, &account, request, on_success).await
}

async fn run(
    call: &mut Call<'_>,
    account: &AccountAccess,
    request: SetRequest,
    on_success: OnSuccess,
) -> MethodResult {
    let (create, allowance) = prepare(call, account, &request.create).await?;
    let counted = create.iter().filter_map(|(_, created)| created.as_ref().ok()).map(|of| of.counted).sum();
    let prepared = Arc::new(Prepared { request, create, on_success });
    let creations = Creations(call.created_ids.clone());
    let unit = async move |tx: &mut Tx| write(tx, &prepared, creations).await;
    let outcome = call.jmap.store.write(account.id, unit).await??;
    if let Some(allowance) = allowance {
        allowance.keep(counted).await;
    }
    for (_, submission) in outcome.submissions.created.iter() {
        // The id by which the queue, the logs of delivery and reports know the message.
        tracing::info!(message = submission["id"].as_str(), account = %account.id, "queued");
    }
    *call.created_ids = outcome.creations.0;
    if let Some(emails) = outcome.emails {
        call.implicit.push(("Email/set", Body::Json(emails.to_json(account.id))));
    }
    Ok(Body::Json(outcome.submissions.to_json(account.id)))
}

async fn write(
    tx: &mut Tx,
    prepared: &Prepared,
    mut creations: Creations,
) -> Result<Result<Outcome, MethodError>, StoreError> {
    let request = &prepared.request;
    let object_type = ObjectType::EmailSubmission;
    let old_state = match check_state(tx, object_type, request.if_in_state.as_deref()).await? {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    let mut outcome = SetOutcome::new(old_state);
    // The Email of each submission that something was done to.
    let mut emails: HashMap<Id, Id> = HashMap::new();
    for (key, created) in &prepared.create {
        match created {
            Ok(created) => {
                let (id, mut properties) = insert(tx, created, &Sending::default()).await?;
                emails.insert(id, created.email_id);
                creations.0.insert(key.clone(), id.to_string());
                properties.insert("id".to_owned(), json!(id));
                outcome.created.insert(key.clone(), Value::Object(properties));
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
    let updated = request.update.iter().filter_map(|(given, _)| creations.resolve(given));
    let ids: Vec<Id> = updated.chain(destroy.iter().filter_map(|(_, id)| *id)).collect();
    let account = tx.account();
    let mut stored: HashMap<Id, Submission> = HashMap::new();
    if !ids.is_empty() {
        let found = submission::by_ids(tx, account, &ids).await?;
        stored.extend(found.into_iter().map(|submission| (submission.id, submission)));
    }
    let to_destroy: HashSet<Id> = destroy.iter().filter_map(|(_, id)| *id).collect();
    for (given, patch) in &request.update {
        let id = creations.resolve(given);
        let shown = id.map_or_else(|| given.clone(), |id| id.to_string());
        let changed = match id.and_then(|id| stored.get_mut(&id)) {
            None => Err(SetError::not_found()),
            Some(found) if to_destroy.contains(&found.id) => Err(SetError::new("willDestroy")),
            Some(found) => update(tx, found, patch).await?.map(|changed| (found, changed)),
        };
        match changed {
            Ok((found, changed)) => {
                emails.insert(found.id, found.email_id);
                outcome.updated.insert(shown, changed.map_or(Value::Null, Value::Object));
            }
            Err(error) => {
                outcome.not_updated.insert(shown, error.to_json());
            }
        }
    }
    let mut told = HashSet::new();
    let mut gone = Vec::new();
    for (shown, id) in destroy.into_iter().filter(|(shown, _)| told.insert(shown.clone())) {
        match id.and_then(|id| stored.remove(&id)) {
            Some(found) => {
                emails.insert(found.id, found.email_id);
                outcome.destroyed.push(shown);
                gone.push(found);
            }
            None => {
                outcome.not_destroyed.insert(shown, SetError::not_found().to_json());
            }
        }
    }
    submission::delete(tx, &gone).await?;
    outcome.conclude(tx, object_type);
    let emails = match implicit_set(&prepared.on_success, &emails, &creations) {
        None => None,
        Some(implicit) => match email_set::run(tx, &implicit, &mut creations).await? {
            Ok(emails) => Some(emails),
            Err(error) => return Ok(Err(error)),
        },
    };
    Ok(Ok(Outcome { submissions: outcome, emails, creations }))
}

/// The Email/set for what was asked of the Emails of submissions that something was done to; `None`
/// when that is nothing.
fn implicit_set(
    on_success: &OnSuccess,
    emails: &HashMap<Id, Id>,
    creations: &Creations,
) -> Option<PreparedSet> {
    let email_of = |given: &str| Some(emails.get(&creations.resolve(given)?)?.to_string());
    let update: Vec<_> = on_success
        .update
        .iter()
        .filter_map(|(given, patch)| Some((email_of(given)?, patch.clone())))
        .collect();
    let destroy: Vec<_> = on_success.destroy.iter().filter_map(|given| email_of(given)).collect();
    if update.is_empty() && destroy.is_empty() {
        return None;
    }
    let request = SetRequest { update, destroy, ..SetRequest::default() };
    Some(PreparedSet { request, ..PreparedSet::default() })
}

/// Changes a submission: it can be taken back, and nothing else.
async fn update(
    tx: &mut Tx,
    submission: &mut Submission,
    patch: &Map<String, Value>,
) -> Changed<Option<Map<String, Value>>> {
    let mut current = to_json(submission);
    current.insert("id".to_owned(), json!(submission.id));
    let wanted = match patch::apply(&current, patch) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(Err(error)),
    };
    let changed = wanted.iter().find(|(name, value)| {
        let is_cancel = *name == "undoStatus" && **value == json!(UndoStatus::Canceled.as_str());
        current.get(*name) != Some(value) && !is_cancel
    });
    if let Some((name, _)) = changed {
        let text = "only undoStatus can be changed, from pending to canceled";
        return Ok(Err(SetError::invalid(name.clone(), text)));
    }
    if wanted.get("undoStatus") == current.get("undoStatus") {
        return Ok(Ok(None));
    }
    if !submission::cancel(tx, submission).await? {
        let text = "the message is on its way already";
        return Ok(Err(SetError::new("cannotUnsend").because(text)));
    }
    let mut changed = to_json(submission);
    changed.retain(|name, value| wanted.get(name) != Some(value));
    Ok(Ok(Some(changed).filter(|changed| !changed.is_empty())))
}
