//! Sending: a send is one message handed in for its recipients. It becomes an Email in the Sent mailbox
//! and an EmailSubmission (RFC 8621, 7), in one transaction with the answer kept for its Idempotency-Key.

pub mod new;
pub mod status;
pub mod template;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::cache::allowance::{Allowance, HOUR_MS};
use crate::http::rest::body::{read_json, read_object};
use crate::http::rest::key::Key;
use crate::http::rest::messages::object::MailAddress;
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::rest::sends::new::{NewBatch, NewSend, filled, refused, to_send};
use crate::http::rest::sends::template::Filler;
use crate::http::state::HttpState;
use crate::jmap::call::{AccountAccess, Call};
use crate::jmap::capability::Capability;
use crate::jmap::submission::create::Sending;
use crate::jmap::submission::send::{PreparedSend, ToSend, insert_send, prepare_sends};
use crate::store::directory::address::{Resolved, resolve};
use crate::store::error::StoreError;
use crate::store::idempotency::{self, Known};
use crate::store::mailbox;
use crate::store::template::{self as template_store, Template};
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::date::utc_date;
use crate::types::scope::Scope;

/// Messages of a batch.
const MAX_BATCH: usize = 500;
/// Octets of a request, attachments in base64 included; larger ones are uploaded before.
const MAX_BODY: usize = 35 << 20;
/// Characters of an Idempotency-Key.
const MAX_KEY: usize = 255;

/// A message that was taken.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Of the send.
    id: String,
    /// Of the message in the Sent mailbox.
    message_id: String,
    /// Of its thread.
    thread_id: String,
    /// When it leaves.
    #[schema(format = DateTime)]
    send_at: String,
}

/// What became of a message of a batch: one of the two.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// It was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<Accepted>,
    /// It was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProblemDetails>)]
    error: Option<Value>,
}

impl From<&Sent> for BatchResult {
    fn from(sent: &Sent) -> BatchResult {
        match sent {
            Ok(accepted) => BatchResult { accepted: Some(accepted.clone()), error: None },
            Err(problem) => BatchResult { accepted: None, error: Some(json!(problem.details())) },
        }
    }
}

impl From<BatchResult> for Sent {
    fn from(told: BatchResult) -> Sent {
        told.accepted.ok_or_else(|| Problem::from_details(told.error.unwrap_or_default()))
    }
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResults {
    /// One for each message, in order.
    results: Vec<BatchResult>,
}

/// Send a message
///
/// With an `Idempotency-Key` the same request may be repeated for 24 hours: the message is sent once, and the
/// first answer is told again, with `Idempotency-Replayed: true`.
#[utoipa::path(post, path = "/sends", security(("key" = ["send"])), tag = "Sending", operation_id = "send", request_body = NewSend,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 characters")),
    responses((status = 202, description = "It was taken", body = Accepted, headers(
        ("RateLimit-Policy" = String, description = "Recipients per hour (draft-ietf-httpapi-ratelimit-headers)"),
        ("RateLimit" = String, description = "How many of them are left"),
        ("Idempotency-Replayed" = String, description = "`true` when the first answer is told again"))), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn send(State(http): State<HttpState>, key: Key, request: Request) -> Result<Response, Problem> {
    key.needs(Scope::Send)?;
    let (new, idempotency) = read_send::<NewSend>(request).await?;
    let account = sending_account(&http, &key, &new.from).await?;
    let wanted = Wanted { account: &account, idempotency };
    let answer = only_answer(send_all(&http, &key, wanted, vec![Ok(new)]).await);
    Ok(with_limit(&http, &account, answer).await)
}

/// Says how many recipients more the account may send to within the hour (draft-ietf-httpapi-ratelimit-headers).
async fn with_limit(http: &HttpState, account: &AccountAccess, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let limit = http.jmap.recipients_per_hour;
    let left = Allowance::left(&http.jmap.cache, account.id, limit).await;
    let policy = format!("\"recipients\";q={limit};w={}", HOUR_MS / 1_000);
    let left = format!("\"recipients\";r={left}");
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Sends a message that another operation has made, from an account; whether it was accepted, and the answer.
pub async fn send_one(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    idempotency: Idempotency,
    new: NewSend,
) -> (bool, Response) {
    let answer = only_answer(send_all(http, key, Wanted { account, idempotency }, vec![Ok(new)]).await);
    let is_accepted = answer.is_ok();
    (is_accepted, with_limit(http, account, answer).await)
}

fn only_answer(told: Result<Told, Problem>) -> Result<Response, Problem> {
    let Told { mut results, is_replayed } = told?;
    let accepted = results.pop().ok_or_else(Problem::internal)??;
    Ok(answer(StatusCode::ACCEPTED, &accepted, is_replayed))
}

/// Send up to 500 messages
///
/// Each is taken or refused for itself; those that are taken are taken together. One that is not as described here
/// is an error of the whole request.
#[utoipa::path(post, path = "/sends/batch", security(("key" = ["send"])), tag = "Sending", operation_id = "sendBatch", request_body = NewBatch,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 characters")),
    responses((status = 200, description = "The answer", body = BatchResults, headers(
        ("RateLimit-Policy" = String, description = "Recipients per hour (draft-ietf-httpapi-ratelimit-headers)"),
        ("RateLimit" = String, description = "How many of them are left"),
        ("Idempotency-Replayed" = String, description = "`true` when the first answer is told again"))), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn send_batch(
    State(http): State<HttpState>,
    key: Key,
    request: Request,
) -> Result<Response, Problem> {
    key.needs(Scope::Send)?;
    let (batch, idempotency) = read_send::<NewBatch>(request).await?;
    if batch.messages.is_empty() || batch.messages.len() > MAX_BATCH {
        return Err(Problem::field("messages", format!("1 to {MAX_BATCH} are wanted")));
    }
    let mut account: Option<AccountAccess> = None;
    // What was found of each author.
    let mut authors: HashMap<String, Result<AccountAccess, Problem>> = HashMap::new();
    let mut messages: Vec<Result<NewSend, Problem>> = Vec::with_capacity(batch.messages.len());
    for (number, message) in batch.messages.into_iter().enumerate() {
        // What is no message at all is a fault of the program: nothing is sent.
        let new: NewSend = read_object(Value::Object(message))
            .map_err(|problem: Problem| problem.within(&format!("messages[{number}]")))?;
        let author = &new.from.email;
        if !authors.contains_key(author) {
            authors.insert(author.clone(), sending_account(&http, &key, &new.from).await);
        }
        let refused = match authors.get(author) {
            Some(Ok(of)) if account.get_or_insert_with(|| of.clone()).id == of.id => None,
            Some(Err(problem)) => Some(problem.clone()),
            _ => {
                let text = "all of a batch come from addresses of one account; this is another's";
                Some(Problem::field("from", text))
            }
        };
        messages.push(refused.map_or(Ok(new), Err));
    }
    let Some(account) = account else {
        // Not one author is the key's.
        return Err(messages.into_iter().find_map(Result::err).unwrap_or_else(Problem::internal));
    };
    let wanted = Wanted { account: &account, idempotency };
    let answer = send_all(&http, &key, wanted, messages).await.map(|Told { results, is_replayed }| {
        let results = results.iter().map(BatchResult::from).collect();
        answer(StatusCode::OK, &BatchResults { results }, is_replayed)
    });
    Ok(with_limit(&http, &account, answer).await)
}

fn answer<T: Serialize>(status: StatusCode, value: &T, is_replayed: bool) -> Response {
    let mut response = (status, Json(value)).into_response();
    if is_replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// The Idempotency-Key of a request, and a hash by which the same request is known again.
pub type Idempotency = Option<(String, Bytes)>;

/// The Idempotency-Key of a request.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= MAX_KEY);
    let wrong = || Problem::invalid(format!("Idempotency-Key: 1 to {MAX_KEY} ASCII characters are wanted."));
    text.map(|text| Some(text.to_owned())).ok_or_else(wrong)
}

/// A body that makes a send, and whether it may be a repetition.
pub async fn read_send<T: serde::de::DeserializeOwned>(
    request: Request,
) -> Result<(T, Idempotency), Problem> {
    let key = idempotency_key(request.headers())?;
    let value: Map<String, Value> = read_json(request, MAX_BODY).await?;
    let value = Value::Object(value);
    let idempotency = key.map(|key| (key, hash_of(&value)));
    Ok((read_object(value)?, idempotency))
}

/// The hash of a value: not of its spelling, nor of the order of its members.
fn hash_of(value: &Value) -> Bytes {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    Bytes::copy_from_slice(blake3::hash(sorted.to_string().as_bytes()).as_bytes())
}

/// The account of an author's address.
async fn sending_account(http: &HttpState, key: &Key, from: &MailAddress) -> Result<AccountAccess, Problem> {
    let refused = || {
        let text = format!("from: {} is no address of an account that this key reaches.", from.email);
        Problem::new(Code::Forbidden, text)
    };
    let address = Address::parse(&from.email).map_err(|error| Problem::field("from", error))?;
    let mut snapshot = http.app.store.read().await?;
    let Resolved::Accounts(accounts) = resolve(&mut snapshot, &address).await? else { return Err(refused()) };
    drop(snapshot);
    // The key's own account before others of an alias.
    if let Some(own) =
        key.caller.accounts.iter().find(|own| accounts.iter().any(|found| found.account == own.id))
    {
        return Ok(own.clone());
    }
    for found in accounts {
        if let Ok(account) = key.account(http, Some(&found.account.to_string())).await {
            return Ok(account);
        }
    }
    Err(refused())
}

/// From where, and whether it may be a repetition.
struct Wanted<'a> {
    account: &'a AccountAccess,
    idempotency: Idempotency,
}

/// A message ready to be stored, with its note; or why it is refused.
type Ready = Result<(PreparedSend, Sending), Problem>;

/// What became of a message.
type Sent = Result<Accepted, Problem>;

/// What became of all messages of a request.
struct Told {
    results: Vec<Sent>,
    is_replayed: bool,
}

/// Sends messages from an account.
async fn send_all(
    http: &HttpState,
    key: &Key,
    wanted: Wanted<'_>,
    messages: Vec<Result<NewSend, Problem>>,
) -> Result<Told, Problem> {
    let Wanted { account, idempotency } = wanted;
    if !account.may_send {
        return Err(Problem::new(Code::Forbidden, "This key may not send from this account."));
    }
    // A repetition is answered before any work is done for it.
    if let Some((text, hash)) = &idempotency {
        let now_ms = http.app.store.clock().now_ms();
        let mut snapshot = http.app.store.read().await?;
        let known = idempotency::look(&mut snapshot, account.id, now_ms, text, hash).await?;
        drop(snapshot);
        if let Some(told) = told_again(known)? {
            return Ok(told);
        }
    }
    let (ready, allowance) = prepare(http, key, account, messages).await?;
    let counted: Vec<u64> =
        ready.iter().map(|ready| ready.as_ref().map_or(0, |(prepared, _)| prepared.counted())).collect();
    let ready: Arc<Vec<Ready>> = Arc::new(ready);
    let unit = async move |tx: &mut Tx| {
        if let Some((text, hash)) = &idempotency {
            let (account, now_ms) = (tx.account(), tx.now_ms());
            match idempotency::look(tx, account, now_ms, text, hash).await? {
                Known::New => {}
                known => return Ok(Err(known)),
            }
        }
        let mut results = Vec::with_capacity(ready.len());
        for ready in ready.iter() {
            results.push(store(tx, ready).await?);
        }
        if let Some((text, hash)) = idempotency
            // What was refused may be mended and tried again with the same key.
            && results.iter().any(Result::is_ok)
        {
            let told: Vec<BatchResult> = results.iter().map(BatchResult::from).collect();
            idempotency::keep(tx, &text, hash, &json!(told).to_string()).await?;
        }
        Ok(Ok(results))
    };
    match http.app.store.write(account.id, unit).await? {
        Ok(results) => {
            for accepted in results.iter().flatten() {
                tracing::info!(message = accepted.id, account = %account.id, "queued");
            }
            let accepted = results.iter().zip(&counted).filter(|(sent, _)| sent.is_ok());
            allowance.keep(accepted.map(|(_, counted)| counted).sum()).await;
            Ok(Told { results, is_replayed: false })
        }
        Err(known) => told_again(known)?.ok_or_else(Problem::internal),
    }
}

/// The answer to a repeated request; `None` when it is none.
fn told_again(known: Known) -> Result<Option<Told>, Problem> {
    match known {
        Known::New => Ok(None),
        Known::Done(answer) => {
            let told: Vec<BatchResult> = serde_json::from_str(&answer).map_err(|error| {
                tracing::error!(%error, "an answer that was kept cannot be read");
                Problem::internal()
            })?;
            Ok(Some(Told { results: told.into_iter().map(Sent::from).collect(), is_replayed: true }))
        }
        Known::Other => {
            let text = "Another request came with this Idempotency-Key within 24 hours; take a new one.";
            Err(Problem::new(Code::IdempotencyMismatch, text))
        }
    }
}

async fn store(tx: &mut Tx, ready: &Ready) -> Result<Sent, StoreError> {
    let (prepared, sending) = match ready {
        Ok(ready) => ready,
        Err(problem) => return Ok(Err(problem.clone())),
    };
    let sent = insert_send(tx, prepared, sending).await?;
    Ok(sent.map_err(refused).map(|sent| Accepted {
        id: sent.submission.to_string(),
        message_id: sent.email.to_string(),
        thread_id: sent.thread.to_string(),
        send_at: utc_date(sent.send_at),
    }))
}

/// Fills the templates of messages, on a thread of its own.
async fn fill(
    key: &Key,
    templates: HashMap<String, Template>,
    messages: Vec<Result<NewSend, Problem>>,
) -> Result<Vec<Result<NewSend, Problem>>, Problem> {
    if !messages.iter().flatten().any(|new| new.template.is_some()) {
        return Ok(messages);
    }
    let place = key.place();
    let fill = move || {
        let _place = place;
        let mut filler = Filler::new(&templates);
        messages.into_iter().map(|new| filled(new?, &mut filler)).collect()
    };
    tokio::task::spawn_blocking(fill).await.map_err(|error| {
        tracing::error!(%error, "filling templates failed");
        Problem::internal()
    })
}

/// Does what can be done before the transaction; and what is taken of the allowance.
async fn prepare(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    messages: Vec<Result<NewSend, Problem>>,
) -> Result<(Vec<Ready>, Allowance), Problem> {
    let mut snapshot = http.app.store.read().await?;
    let sent = mailbox::id_by_role(&mut snapshot, account.id, "sent").await?;
    let place = match sent {
        Some(sent) => Some(sent),
        None => mailbox::id_by_role(&mut snapshot, account.id, "inbox").await?,
    };
    let names: BTreeSet<&str> =
        messages.iter().flatten().filter_map(|new| Some(new.template.as_ref()?.name.as_str())).collect();
    let names = names.into_iter().map(str::to_owned).collect();
    let templates = template_store::by_names(&mut snapshot, account.id, names).await?;
    let templates = templates.into_iter().map(|template| (template.name.clone(), template)).collect();
    drop(snapshot);
    let place = place.ok_or_else(Problem::internal)?;
    let mut legal: Vec<ToSend> = Vec::with_capacity(messages.len());
    let mut given: Vec<Result<Sending, Problem>> = Vec::with_capacity(messages.len());
    for message in fill(key, templates, messages).await? {
        let message = match message {
            Ok(message) => to_send(http, account, place, message).await?,
            Err(problem) => Err(problem),
        };
        given.push(message.map(|(message, sending)| {
            legal.push(message);
            sending
        }));
    }
    let caller = key.caller_for(account);
    let mut created_ids = Default::default();
    let call = Call {
        jmap: &http.jmap,
        caller: &caller,
        using: &Capability::ALL,
        created_ids: &mut created_ids,
        implicit: Vec::new(),
    };
    let (prepared, allowance) = prepare_sends(&call, account, legal).await?;
    let mut prepared = prepared.into_iter();
    let mut ready = Vec::with_capacity(given.len());
    for given in given {
        ready.push(match given {
            Err(problem) => Err(problem),
            Ok(sending) => match prepared.next() {
                Some(prepared) => prepared.map(|prepared| (prepared, sending)).map_err(refused),
                None => Err(Problem::internal()),
            },
        });
    }
    Ok((ready, allowance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_makes_no_other_request() {
        let read = |text: &str| hash_of(&serde_json::from_str(text).unwrap());
        assert_eq!(
            read(r#"{"a":{"b":[{"c":1,"d":2}],"e":3},"f":4}"#),
            read(r#"{"f":4, "a":{"e":3,"b":[{"d":2,"c":1}]}}"#)
        );
        assert_ne!(read(r#"{"a":[1,2]}"#), read(r#"{"a":[2,1]}"#));
    }
}
