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

use crate::cache::Rate;
use crate::http::rest::body::{read_json, read_object};
use crate::http::rest::key::Key;
use crate::http::rest::messages::object::MailAddress;
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::rest::sends::new::{NewBatch, NewSend, to_send};
use crate::http::state::HttpState;
use crate::jmap::call::{AccountAccess, Call};
use crate::jmap::capability::Capability;
use crate::jmap::submission::create::Sending;
use crate::jmap::submission::send::{PreparedSend, ToSend, insert_send, prepare_sends};
use crate::store::directory::address::{Resolved, resolve};
use crate::store::error::StoreError;
use crate::store::idempotency::{self, Known};
use crate::store::mailbox;
use crate::store::template as template_store;
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::date::utc_date;
use crate::types::scope::Scope;

/// The time over which recipients are counted.
const HOUR_MS: i64 = 3_600_000;
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

impl BatchResult {
    fn refused(problem: Problem) -> BatchResult {
        BatchResult { accepted: None, error: Some(json!(problem.details())) }
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
#[utoipa::path(post, path = "/sends", tag = "Sending", operation_id = "send", request_body = NewSend,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 characters")),
    responses((status = 202, description = "It was taken", body = Accepted), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn send(State(http): State<HttpState>, key: Key, request: Request) -> Result<Response, Problem> {
    key.needs(Scope::Send)?;
    let idempotency_key = idempotency_key(request.headers())?;
    let (new, hash) = read_hashed::<NewSend>(request).await?;
    let account = sending_account(&http, &key, &new.from).await?;
    let wanted = Wanted { account: &account, idempotency: idempotency_key.map(|text| (text, hash)) };
    let response = only_answer(send_all(&http, &key, wanted, vec![Ok(new)]).await?)?;
    Ok(with_limit(&http, &account, response).await)
}

/// Says how many recipients more the account may send to within the hour (draft-ietf-httpapi-ratelimit-headers).
async fn with_limit(http: &HttpState, account: &AccountAccess, mut response: Response) -> Response {
    let limit = http.jmap.recipients_per_hour;
    let sent = http.jmap.cache.rate_add(Rate::Recipients, &account.id.to_string(), HOUR_MS, 0).await;
    let policy = format!("\"recipients\";q={limit};w=3600");
    let left = format!("\"recipients\";r={}", limit.saturating_sub(sent));
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Sends a message that another operation has made, from an account.
pub async fn send_one(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    idempotency: Option<(String, Bytes)>,
    new: NewSend,
) -> Result<Response, Problem> {
    let response = only_answer(send_all(http, key, Wanted { account, idempotency }, vec![Ok(new)]).await?)?;
    Ok(with_limit(http, account, response).await)
}

fn only_answer((mut results, is_replayed): (Vec<BatchResult>, bool)) -> Result<Response, Problem> {
    match results.pop() {
        Some(BatchResult { accepted: Some(accepted), .. }) => {
            Ok(answer(StatusCode::ACCEPTED, &accepted, is_replayed))
        }
        Some(BatchResult { error: Some(error), .. }) => Err(Problem::from_details(error)),
        _ => Err(Problem::internal()),
    }
}

/// Send up to 500 messages
///
/// Each is taken or refused for itself; those that are taken are taken together. One that is not as described here
/// is an error of the whole request.
#[utoipa::path(post, path = "/sends/batch", tag = "Sending", operation_id = "sendBatch", request_body = NewBatch,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 characters")),
    responses((status = 200, description = "The answer", body = BatchResults), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn send_batch(
    State(http): State<HttpState>,
    key: Key,
    request: Request,
) -> Result<Response, Problem> {
    key.needs(Scope::Send)?;
    let idempotency_key = idempotency_key(request.headers())?;
    let (batch, hash) = read_hashed::<NewBatch>(request).await?;
    if batch.messages.is_empty() || batch.messages.len() > MAX_BATCH {
        return Err(Problem::new(Code::Unprocessable, format!("messages: 1 to {MAX_BATCH} are wanted.")));
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
                let text = "from: all of a batch come from addresses of one account; this is another's.";
                Some(Problem::new(Code::Unprocessable, text))
            }
        };
        messages.push(refused.map_or(Ok(new), Err));
    }
    let Some(account) = account else {
        // Not one author is the key's.
        return Err(messages.into_iter().find_map(Result::err).unwrap_or_else(Problem::internal));
    };
    let wanted = Wanted { account: &account, idempotency: idempotency_key.map(|text| (text, hash)) };
    let (results, is_replayed) = send_all(&http, &key, wanted, messages).await?;
    let response = answer(StatusCode::OK, &BatchResults { results }, is_replayed);
    Ok(with_limit(&http, &account, response).await)
}

fn answer<T: Serialize>(status: StatusCode, value: &T, is_replayed: bool) -> Response {
    let mut response = (status, Json(value)).into_response();
    if is_replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// The Idempotency-Key of a request.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= MAX_KEY);
    let wrong = || Problem::invalid(format!("Idempotency-Key: 1 to {MAX_KEY} ASCII characters are wanted."));
    text.map(|text| Some(text.to_owned())).ok_or_else(wrong)
}

/// A body, and a hash of it by which a repeated request is known: of its value, not of its spelling.
pub async fn read_hashed<T: serde::de::DeserializeOwned>(request: Request) -> Result<(T, Bytes), Problem> {
    let value: Map<String, Value> = read_json(request, MAX_BODY).await?;
    let value = Value::Object(value);
    let hash = Bytes::copy_from_slice(blake3::hash(value.to_string().as_bytes()).as_bytes());
    let read = read_object(value)?;
    Ok((read, hash))
}

/// The account of an author's address.
async fn sending_account(http: &HttpState, key: &Key, from: &MailAddress) -> Result<AccountAccess, Problem> {
    let refused = || {
        let text = format!("from: {} is no address of an account that this key reaches.", from.email);
        Problem::new(Code::Forbidden, text)
    };
    let address = Address::parse(&from.email)
        .map_err(|error| Problem::new(Code::Unprocessable, format!("from: {error}.")))?;
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
    idempotency: Option<(String, Bytes)>,
}

/// A message ready to be stored, with its note; or why it is refused.
type Ready = Result<(PreparedSend, Sending), Problem>;

/// Sends messages from an account; what became of each, and whether that is told again.
async fn send_all(
    http: &HttpState,
    key: &Key,
    wanted: Wanted<'_>,
    messages: Vec<Result<NewSend, Problem>>,
) -> Result<(Vec<BatchResult>, bool), Problem> {
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
            return Ok((told, true));
        }
    }
    let ready = prepare(http, key, account, messages).await?;
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
            && results.iter().any(|result| result.accepted.is_some())
        {
            idempotency::keep(tx, &text, hash, &json!(results).to_string()).await?;
        }
        Ok(Ok(results))
    };
    match http.app.store.write(account.id, unit).await? {
        Ok(results) => {
            for accepted in results.iter().filter_map(|result| result.accepted.as_ref()) {
                tracing::info!(message = accepted.id, account = %account.id, "queued");
            }
            Ok((results, false))
        }
        Err(known) => told_again(known)?.map(|told| (told, true)).ok_or_else(Problem::internal),
    }
}

/// The answer to a repeated request; `None` when it is none.
fn told_again(known: Known) -> Result<Option<Vec<BatchResult>>, Problem> {
    match known {
        Known::New => Ok(None),
        Known::Done(answer) => serde_json::from_str(&answer).map(Some).map_err(|error| {
            tracing::error!(%error, "an answer that was kept cannot be read");
            Problem::internal()
        }),
        Known::Other => {
            let text = "Another request came with this Idempotency-Key within 24 hours; take a new one.";
            Err(Problem::new(Code::IdempotencyMismatch, text))
        }
    }
}

async fn store(tx: &mut Tx, ready: &Ready) -> Result<BatchResult, StoreError> {
    let sent = match ready {
        Ok((prepared, sending)) => insert_send(tx, prepared, sending).await?.map_err(Problem::from),
        Err(problem) => Err(problem.clone()),
    };
    Ok(match sent {
        Ok(sent) => BatchResult {
            accepted: Some(Accepted {
                id: sent.submission.to_string(),
                message_id: sent.email.to_string(),
                thread_id: sent.thread.to_string(),
                send_at: utc_date(sent.send_at),
            }),
            error: None,
        },
        Err(problem) => BatchResult::refused(problem),
    })
}

/// Does what can be done before the transaction.
async fn prepare(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    messages: Vec<Result<NewSend, Problem>>,
) -> Result<Vec<Ready>, Problem> {
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
    let mut given: Vec<Result<(ToSend, Sending), Problem>> = Vec::with_capacity(messages.len());
    for message in messages {
        given.push(match message {
            Ok(message) => to_send(http, account, place, &templates, message).await?,
            Err(problem) => Err(problem),
        });
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
    let legal: Vec<ToSend> =
        given.iter().filter_map(|given| given.as_ref().ok()).map(|(message, _)| message.clone()).collect();
    let mut prepared = prepare_sends(&call, account, &legal).await?.into_iter();
    let mut ready = Vec::with_capacity(given.len());
    for given in given {
        ready.push(match given {
            Err(problem) => Err(problem),
            Ok((_, sending)) => match prepared.next() {
                Some(Ok(prepared)) => Ok((prepared, sending)),
                Some(Err(error)) => Err(error.into()),
                None => Err(Problem::internal()),
            },
        });
    }
    Ok(ready)
}
