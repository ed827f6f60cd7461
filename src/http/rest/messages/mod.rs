//! Messages for programs: list, search, read, flag, move, delete. Thin over the methods of JMAP.

pub mod answer;
pub mod list;
pub mod object;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::{OfAccount, named, read_list};
use crate::http::rest::messages::object::{Email, MAX_TEXT, Message, MessagePage, MessageSummary, SUMMARY};
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::jmap::request::call_one;
use crate::store::blob::Reader;
use crate::types::blob_id::BlobId;
use crate::types::scope::Scope;

/// Emails by Email/get, with these arguments beside the account.
async fn emails(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    mut arguments: Value,
) -> Result<Vec<Email>, Problem> {
    arguments["accountId"] = json!(account.id.to_string());
    let mut got = call_one(&http.jmap, &key.caller_for(account), "Email/get", arguments).await?;
    read_list(got["list"].take())
}

fn no_such_message() -> Problem {
    Problem::not_found("There is no such message in this account.")
}

/// Read a message
#[utoipa::path(get, path = "/messages/{id}", security(("key" = ["read"])), tag = "Messages", operation_id = "getMessage",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 200, description = "The answer", body = Message), (status = 304, description = "It is as `If-None-Match` says"),
        (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn get(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    key.needs(Scope::Read)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    let more = ["headers", "bodyValues", "textBody", "htmlBody", "attachments"];
    let properties: Vec<&str> = SUMMARY.into_iter().chain(more).collect();
    let wanted = json!({
        "ids": [id],
        "properties": properties,
        "bodyProperties": ["partId", "blobId", "name", "type", "size", "cid", "disposition"],
        "fetchAllBodyValues": true,
        "maxBodyValueBytes": MAX_TEXT,
    });
    let email = emails(&http, &key, &account, wanted).await?.pop().ok_or_else(no_such_message)?;
    // Cleaning takes its time.
    let place = key.place();
    let clean = move || {
        let _place = place;
        Message::from(email)
    };
    let message = tokio::task::spawn_blocking(clean).await;
    Ok(tagged(&headers, &message.map_err(|_| Problem::internal())?))
}

/// An answer with an ETag of its content (RFC 9110, 8.8.3).
fn tagged<T: Serialize>(asked: &HeaderMap, value: &T) -> Response {
    let Ok(text) = serde_json::to_string(value) else { return Problem::internal().into_response() };
    let etag = format!("\"{}\"", blake3::hash(text.as_bytes()).to_hex().get(..32).unwrap_or_default());
    let is_known = asked
        .get_all(header::IF_NONE_MATCH)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == etag);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response()
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// Download a message as it is
#[utoipa::path(get, path = "/messages/{id}/raw", security(("key" = ["read"])), tag = "Messages", operation_id = "getRawMessage",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 200, description = "The answer", content_type = "message/rfc822", body = String),
        (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn raw(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<Response, Problem> {
    key.needs(Scope::Read)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    let email = emails(&http, &key, &account, json!({ "ids": [id], "properties": SUMMARY })).await?.pop();
    let blob: BlobId = email.and_then(|email| email.blob_id.parse().ok()).ok_or_else(no_such_message)?;
    let reader = Reader::login(account.id, account.login_id);
    let stream = http.jmap.blobs.stream_range(reader, &blob.hash, None).await?.ok_or_else(no_such_message)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("message/rfc822")),
        (header::CONTENT_LENGTH, HeaderValue::from(stream.size)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"message.eml\"")),
    ];
    Ok((headers, HttpBody::from_stream(stream.pieces)).into_response())
}

/// What is changed of a message; what is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "seen": true, "mailbox": "archive" }))]
pub struct MessagePatch {
    /// Whether it was read.
    seen: Option<bool>,
    /// Whether it is flagged.
    flagged: Option<bool>,
    /// Whether it was answered.
    answered: Option<bool>,
    /// Moves it into this mailbox, by its id or its role, out of all others.
    mailbox: Option<String>,
}

/// Flag or move a message
///
/// Wants the scopes `read` and `write`.
#[utoipa::path(patch, path = "/messages/{id}", security(("key" = ["read", "write"])), tag = "Messages", operation_id = "updateMessage",
    params(("id" = String, Path, description = "Its id"), OfAccount), request_body = MessagePatch,
    responses((status = 200, description = "The answer", body = MessageSummary), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn update(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
    Body(patch): Body<MessagePatch>,
) -> Result<Json<MessageSummary>, Problem> {
    key.needs(Scope::Read)?;
    key.needs(Scope::Write)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    let mut changes = Map::new();
    let flags = [("$seen", patch.seen), ("$flagged", patch.flagged), ("$answered", patch.answered)];
    for (keyword, wanted) in flags {
        if let Some(wanted) = wanted {
            let value = if wanted { json!(true) } else { Value::Null };
            changes.insert(format!("keywords/{keyword}"), value);
        }
    }
    if let Some(mailbox) = &patch.mailbox {
        let mailbox =
            named(&http, &account, mailbox).await.map_err(|problem| problem.of_field("mailbox"))?.to_string();
        changes.insert("mailboxIds".to_owned(), json!({ mailbox: true }));
    }
    change(&http, &key, &account, json!({ "update": { &id: changes } }), &id).await?;
    let found = emails(&http, &key, &account, json!({ "ids": [id], "properties": SUMMARY })).await?.pop();
    found.map(|email| Json(email.into())).ok_or_else(no_such_message)
}

/// Runs an Email/set on one message; what it refuses is the error.
async fn change(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    mut arguments: Value,
    id: &str,
) -> Result<(), Problem> {
    arguments["accountId"] = json!(account.id.to_string());
    let done = call_one(&http.jmap, &key.caller_for(account), "Email/set", arguments).await?;
    let refused = ["notUpdated", "notDestroyed"].iter().find_map(|name| done[*name].get(id));
    match refused {
        None => Ok(()),
        Some(error) if error["type"] == "notFound" => Err(no_such_message()),
        Some(error) => {
            let text = error["description"].as_str().or(error["type"].as_str()).unwrap_or_default();
            Err(Problem::new(Code::Unprocessable, text))
        }
    }
}

/// Delete a message
///
/// It is gone for good. To move it to the trash, change its `mailbox` to `trash`.
#[utoipa::path(delete, path = "/messages/{id}", security(("key" = ["write"])), tag = "Messages", operation_id = "deleteMessage",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 204, description = "It is done"),
        (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn delete(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<StatusCode, Problem> {
    key.needs(Scope::Write)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    change(&http, &key, &account, json!({ "destroy": [&id] }), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the messages of a thread, the oldest first
#[utoipa::path(get, path = "/threads/{id}", security(("key" = ["read"])), tag = "Messages", operation_id = "getThread",
    params(("id" = String, Path, description = "`threadId` of a message"), OfAccount),
    responses((status = 200, description = "The answer", body = MessagePage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn thread(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<Json<MessagePage>, Problem> {
    key.needs(Scope::Read)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    let arguments = json!({ "accountId": account.id.to_string(), "ids": [id] });
    let mut found = call_one(&http.jmap, &key.caller_for(&account), "Thread/get", arguments).await?;
    let ids = found.pointer_mut("/list/0/emailIds").map(Value::take);
    let ids = ids.ok_or_else(|| Problem::not_found("There is no such thread in this account."))?;
    let messages = emails(&http, &key, &account, json!({ "ids": ids, "properties": SUMMARY })).await?;
    let messages = messages.into_iter().map(MessageSummary::from).collect();
    Ok(Json(MessagePage { messages, next_cursor: None }))
}
