//! What became of sends.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::{OfAccount, read_list};
use crate::http::rest::parameters::{Path, Query, page_limit};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::jmap::request::call_one;
use crate::store::submission::note::{self, Note};
use crate::types::id::Id;
use crate::types::scope::Scope;

/// Sends of a page, unless it is said otherwise, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// How far a message has come to a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecipientState {
    /// It waits, or is on its way.
    Queued,
    /// The recipient's server has taken it, or the relay through which this server sends; or it was filed here.
    Delivered,
    /// It was given up.
    Failed,
}

/// How far a send has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SendState {
    /// It has not left: it can be canceled.
    Pending,
    /// It is on its way to a recipient at least.
    Sending,
    /// It was delivered to each recipient, or given up.
    Done,
    /// It was taken back before it left.
    Canceled,
}

/// What became of a message for one recipient.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecipientStatus {
    /// Its address.
    email: String,
    status: RecipientState,
    /// What the recipient's server said last.
    reply: String,
}

/// A message that was sent, or shall be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// Its id.
    id: String,
    /// The message in the account; it may have been deleted since.
    message_id: String,
    /// Its thread.
    thread_id: String,
    status: SendState,
    /// When it left or will leave.
    #[schema(format = DateTime)]
    send_at: String,
    /// For each recipient.
    recipients: Vec<RecipientStatus>,
    tags: Vec<String>,
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Submission {
    id: String,
    email_id: String,
    thread_id: String,
    undo_status: String,
    send_at: String,
    envelope: Envelope,
    delivery_status: Option<BTreeMap<String, DeliveryStatus>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    rcpt_to: Vec<Recipient>,
}

#[derive(Deserialize)]
struct Recipient {
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryStatus {
    smtp_reply: String,
    delivered: String,
}

/// Sends by EmailSubmission/get.
async fn load(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    ids: Value,
) -> Result<Vec<Send>, Problem> {
    let arguments = json!({ "accountId": account.id.to_string(), "ids": ids });
    let mut got = call_one(&http.jmap, &key.caller_for(account), "EmailSubmission/get", arguments).await?;
    let submissions: Vec<Submission> = read_list(got["list"].take())?;
    let ids: Vec<Id> = submissions.iter().filter_map(|submission| submission.id.parse().ok()).collect();
    let notes = note::of(&mut *http.app.store.read().await?, account.id, &ids).await?;
    let mut notes: BTreeMap<String, Note> =
        notes.into_iter().map(|(id, note)| (id.to_string(), note)).collect();
    let send = |submission: Submission| {
        let statuses = submission.delivery_status.unwrap_or_default();
        let recipients = submission.envelope.rcpt_to.into_iter().map(|Recipient { email }| {
            let known = statuses.get(&email);
            RecipientStatus {
                status: match known.map(|known| (known.delivered.as_str(), known.smtp_reply.as_str())) {
                    // RFC 8621, 7: another server has it, which tells no more; unless it was dropped while
                    // that was not known.
                    Some(("unknown", reply)) if reply.starts_with('5') => RecipientState::Failed,
                    Some(("yes" | "unknown", _)) => RecipientState::Delivered,
                    Some(("no", _)) => RecipientState::Failed,
                    _ => RecipientState::Queued,
                },
                reply: known.map(|known| known.smtp_reply.clone()).unwrap_or_default(),
                email,
            }
        });
        let recipients: Vec<RecipientStatus> = recipients.collect();
        let status = match submission.undo_status.as_str() {
            "pending" => SendState::Pending,
            "canceled" => SendState::Canceled,
            _ if recipients.iter().any(|recipient| recipient.status == RecipientState::Queued) => {
                SendState::Sending
            }
            _ => SendState::Done,
        };
        let Note { tags, metadata } = notes.remove(&submission.id).unwrap_or_default();
        Send {
            recipients,
            id: submission.id,
            message_id: submission.email_id,
            thread_id: submission.thread_id,
            status,
            send_at: submission.send_at,
            tags,
            metadata,
        }
    };
    Ok(submissions.into_iter().map(send).collect())
}

fn no_such_send() -> Problem {
    Problem::not_found("There is no such send in this account.")
}

/// Look at a send
#[utoipa::path(get, path = "/sends/{id}", security(("key" = ["read"]), ("key" = ["send"])), tag = "Sending", operation_id = "getSend",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 200, description = "The answer", body = Send), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn get(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<Json<Send>, Problem> {
    let account = key.account(&http, of.account.as_deref()).await?;
    load(&http, &key, &account, json!([id])).await?.pop().map(Json).ok_or_else(no_such_send)
}

/// A page of sends.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendPage {
    /// The last ones first.
    sends: Vec<Send>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which sends are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ListParameters {
    /// The account, by its primary address or its id; else the key's own.
    account: Option<String>,
    /// Sends of a page, at most 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

/// List sends, those that leave last first
#[utoipa::path(get, path = "/sends", security(("key" = ["read"]), ("key" = ["send"])), tag = "Sending", operation_id = "listSends", params(ListParameters),
    responses((status = 200, description = "The answer", body = SendPage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<SendPage>, Problem> {
    let account = key.account(&http, parameters.account.as_deref()).await?;
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let mut arguments = json!({
        "accountId": account.id.to_string(),
        "sort": [{ "property": "sentAt", "isAscending": false }],
        "limit": limit + 1,
    });
    if let Some(cursor) = parameters.cursor {
        arguments["anchor"] = Value::String(cursor);
        arguments["anchorOffset"] = json!(1);
    }
    let found = call_one(&http.jmap, &key.caller_for(&account), "EmailSubmission/query", arguments).await?;
    let mut ids: Vec<Value> = found["ids"].as_array().cloned().unwrap_or_default();
    let has_more = ids.len() > limit;
    ids.truncate(limit);
    let last = ids.last().and_then(Value::as_str).map(str::to_owned);
    let mut sends = load(&http, &key, &account, json!(ids)).await?;
    let place = |id: &str| ids.iter().position(|known| known == id);
    sends.sort_by_key(|send| place(&send.id));
    Ok(Json(SendPage { sends, next_cursor: last.filter(|_| has_more) }))
}

/// Cancel a send that has not left
#[utoipa::path(post, path = "/sends/{id}/cancel", security(("key" = ["send"])), tag = "Sending", operation_id = "cancelSend",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 200, description = "The answer", body = Send), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn cancel(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<Json<Send>, Problem> {
    key.needs(Scope::Send)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    let update =
        json!({ "accountId": account.id.to_string(), "update": { &id: { "undoStatus": "canceled" } } });
    let done = call_one(&http.jmap, &key.caller_for(&account), "EmailSubmission/set", update).await?;
    match done["notUpdated"].get(&id) {
        None => {}
        Some(error) if error["type"] == "notFound" => return Err(no_such_send()),
        Some(_) => return Err(Problem::new(Code::Conflict, "The message is on its way already.")),
    }
    load(&http, &key, &account, json!([id])).await?.pop().map(Json).ok_or_else(no_such_send)
}
