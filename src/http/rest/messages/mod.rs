//! Messages for programs: list, search, read, flag, move, delete. Thin over the methods of JMAP.

pub mod answer;
pub mod object;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::{OfAccount, named, read_list};
use crate::http::rest::messages::object::{Email, MAX_TEXT, Message, MessagePage, MessageSummary, SUMMARY};
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::jmap::error::MethodError;
use crate::jmap::request::call_one;
use crate::store::blob::Reader;
use crate::types::blob_id::BlobId;
use crate::types::scope::Scope;

/// Messages of a page, unless it is said otherwise, and at most.
const PAGE: u64 = 50;
const MAX_PAGE: u64 = 500;

/// Which messages are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListParameters {
    /// The account, by its primary address or its id; else the key's own.
    account: Option<String>,
    /// Only those in this mailbox, by its id or its role, such as `inbox`.
    #[param(example = "inbox")]
    mailbox: Option<String>,
    /// Only those with these words in text, subject or addresses; `"in quotes"` for a phrase.
    search: Option<String>,
    /// Only those from an address or a name with these words.
    from: Option<String>,
    /// Only those to an address or a name with these words.
    to: Option<String>,
    /// Only those with these words in the subject.
    subject: Option<String>,
    /// Only those that were read, or only those that were not.
    seen: Option<bool>,
    /// Only those that are flagged, or only those that are not.
    flagged: Option<bool>,
    /// Only those with attachments, or only those without.
    has_attachment: Option<bool>,
    /// Only those received at this time or later (RFC 3339).
    #[param(format = DateTime)]
    after: Option<String>,
    /// Only those received before this time (RFC 3339).
    #[param(format = DateTime)]
    before: Option<String>,
    /// Messages of a page, at most 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

impl ListParameters {
    async fn filter(&self, http: &HttpState, account: &AccountAccess) -> Result<Value, Problem> {
        let mut conditions: Vec<Value> = Vec::new();
        if let Some(mailbox) = &self.mailbox {
            conditions.push(json!({ "inMailbox": named(http, account, mailbox).await?.to_string() }));
        }
        let texts =
            [("text", &self.search), ("from", &self.from), ("to", &self.to), ("subject", &self.subject)];
        for (name, text) in texts {
            conditions.extend(text.as_ref().map(|text| json!({ name: text })));
        }
        for (keyword, wanted) in [("$seen", self.seen), ("$flagged", self.flagged)] {
            let name = if wanted == Some(true) { "hasKeyword" } else { "notKeyword" };
            conditions.extend(wanted.map(|_| json!({ name: keyword })));
        }
        conditions.extend(self.has_attachment.map(|has| json!({ "hasAttachment": has })));
        for (name, date) in [("after", &self.after), ("before", &self.before)] {
            if let Some(date) = date {
                let ms = crate::types::date::parse_date(date)
                    .ok_or_else(|| Problem::invalid(format!("{name}: {date:?} is no date (RFC 3339).")))?;
                conditions.push(json!({ name: crate::types::date::utc_date(ms) }));
            }
        }
        Ok(json!({ "operator": "AND", "conditions": conditions }))
    }
}

/// List messages, the newest first
///
/// All of the account, or those that every parameter given is true of.
#[utoipa::path(get, path = "/messages", tag = "Messages", operation_id = "listMessages",
    params(ListParameters),
    responses((status = 200, description = "The answer", body = MessagePage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<MessagePage>, Problem> {
    key.needs(Scope::Read)?;
    let account = key.account(&http, parameters.account.as_deref()).await?;
    let limit = parameters.limit.unwrap_or(PAGE);
    if limit == 0 || limit > MAX_PAGE {
        return Err(Problem::invalid(format!("limit: a number from 1 to {MAX_PAGE} is wanted.")));
    }
    let caller = key.caller_for(&account);
    let mut arguments = json!({
        "accountId": account.id.to_string(),
        "filter": parameters.filter(&http, &account).await?,
        "sort": [{ "property": "receivedAt", "isAscending": false }],
        "limit": limit + 1,
    });
    if let Some(cursor) = &parameters.cursor {
        let anchor = read_cursor(cursor)
            .ok_or_else(|| Problem::invalid("cursor: give nextCursor of the page before, as it is."))?;
        arguments["anchor"] = Value::String(anchor);
        arguments["anchorOffset"] = json!(1);
    }
    let found = match call_one(&http.jmap, &caller, "Email/query", arguments).await {
        Err(MethodError::AnchorNotFound) => {
            let text = "cursor: the message that the page before ended with is not in the list any more; \
                        begin anew, or with `before`.";
            return Err(Problem::invalid(text));
        }
        found => found?,
    };
    let mut ids: Vec<Value> = found["ids"].as_array().cloned().unwrap_or_default();
    let has_more = ids.len() as u64 > limit;
    ids.truncate(limit as usize);
    let last = ids.last().and_then(Value::as_str).map(cursor_of);
    let messages = emails(&http, &key, &account, json!({ "ids": ids, "properties": SUMMARY })).await?;
    Ok(Json(MessagePage {
        messages: messages.into_iter().map(MessageSummary::from).collect(),
        next_cursor: last.filter(|_| has_more),
    }))
}

fn cursor_of(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("m{id}"))
}

fn read_cursor(cursor: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix('m').filter(|id| !id.is_empty()).map(str::to_owned)
}

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
#[utoipa::path(get, path = "/messages/{id}", tag = "Messages", operation_id = "getMessage",
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
    let message = tokio::task::spawn_blocking(move || Message::from(email)).await;
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
#[utoipa::path(get, path = "/messages/{id}/raw", tag = "Messages", operation_id = "getRawMessage",
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
#[utoipa::path(patch, path = "/messages/{id}", tag = "Messages", operation_id = "updateMessage",
    params(("id" = String, Path, description = "Its id"), OfAccount), request_body = MessagePatch,
    responses((status = 200, description = "The answer", body = MessageSummary), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn update(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
    Body(patch): Body<MessagePatch>,
) -> Result<Json<MessageSummary>, Problem> {
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
        let mailbox = named(&http, &account, mailbox).await?.to_string();
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
            Err(Problem::invalid(text))
        }
    }
}

/// Delete a message
///
/// It is gone for good. To move it to the trash, change its `mailbox` to `trash`.
#[utoipa::path(delete, path = "/messages/{id}", tag = "Messages", operation_id = "deleteMessage",
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
#[utoipa::path(get, path = "/threads/{id}", tag = "Messages", operation_id = "getThread",
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
