//! Sending: a send is one message handed in for its recipients. It becomes an Email in the Sent mailbox
//! and an EmailSubmission (RFC 8621, 7), in one transaction with the answer kept for its Idempotency-Key.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::blob::prepared::PreparedBlob;
use crate::http::rest::body::read_json;
use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::{OfAccount, read_list};
use crate::http::rest::messages::MailAddress;
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::jmap::call::{AccountAccess, Call};
use crate::jmap::capability::Capability;
use crate::jmap::limits::UPLOAD_QUOTA;
use crate::jmap::request::call_one;
use crate::jmap::submission::send::{PreparedSend, ToSend, insert_send, prepare_sends};
use crate::store::directory::address::{Resolved, resolve};
use crate::store::error::StoreError;
use crate::store::idempotency::{self, Known};
use crate::store::mailbox;
use crate::store::submission::note::{self, Note};
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::blob_id::BlobId;
use crate::types::date::{parse_date, utc_date};
use crate::types::id::Id;
use crate::types::scope::Scope;

/// Messages of a batch.
const MAX_BATCH: usize = 500;
/// Octets of a request, attachments in base64 included; larger ones are uploaded before.
const MAX_BODY: usize = 35 << 20;
/// Characters of an Idempotency-Key.
const MAX_KEY: usize = 255;
/// Tags of a message, and characters of each.
const MAX_TAGS: usize = 10;
const MAX_TAG: usize = 64;
/// Octets of the metadata of a message, as JSON.
const MAX_METADATA: usize = 4_096;
/// Sends of a page, unless it is said otherwise, and at most.
const PAGE: u64 = 50;
const MAX_PAGE: u64 = 500;

/// Something attached: either its content, or the blob of something that is there already.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAttachment {
    /// Its file name.
    name: Option<String>,
    /// Its media type; else `application/octet-stream`.
    #[serde(rename = "type")]
    media_type: Option<String>,
    /// Its content in base64.
    content: Option<String>,
    /// A blob that the account has, such as that of another message's attachment.
    blob_id: Option<String>,
    /// Makes it an inline part, to which the HTML refers as `cid:` and this.
    content_id: Option<String>,
}

/// A message to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "from": { "name": "Alice", "email": "alice@example.org" }, "to": [{ "email": "bob@example.com" }],
    "subject": "Your order", "text": "It is on its way.", "html": "<p>It is <b>on its way</b>.</p>",
    "tags": ["order"], "metadata": { "order": 1234 }
}))]
pub struct NewSend {
    /// The author, whose account sends it; one that the key reaches.
    from: MailAddress,
    /// The recipients; with `cc` and `bcc` at least one, and at most 1,000.
    #[serde(default)]
    to: Vec<MailAddress>,
    #[serde(default)]
    cc: Vec<MailAddress>,
    /// Recipients that the others do not see.
    #[serde(default)]
    bcc: Vec<MailAddress>,
    /// Where answers go, if not to the author.
    #[serde(default)]
    reply_to: Vec<MailAddress>,
    /// The subject.
    #[serde(default)]
    subject: String,
    /// The text; with `html`, for those who do not show that.
    text: Option<String>,
    /// The HTML.
    html: Option<String>,
    #[serde(default)]
    attachments: Vec<NewAttachment>,
    /// Further header fields by their names, such as `List-Unsubscribe`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The Message-ID that this answers, without angle brackets.
    in_reply_to: Option<String>,
    /// The Message-IDs of the conversation, the oldest first.
    #[serde(default)]
    references: Vec<String>,
    /// When it leaves (RFC 3339), at most 30 days from now; else at once.
    #[schema(format = DateTime)]
    send_at: Option<String>,
    /// At most 10 words of at most 64 characters, which are told back.
    #[serde(default)]
    tags: Vec<String>,
    /// Any object of at most 4 KiB, which is told back.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
}

/// Many messages to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBatch {
    /// At most 500, all from addresses of one account.
    #[schema(min_items = 1, max_items = 500)]
    messages: Vec<NewSend>,
}

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
    responses((status = 202, body = Accepted), (status = "default", body = ProblemDetails)))]
pub async fn send(State(http): State<HttpState>, key: Key, request: Request) -> Result<Response, Problem> {
    key.needs(Scope::Send)?;
    let idempotency_key = idempotency_key(request.headers())?;
    let (new, hash) = read_hashed::<NewSend>(request).await?;
    let account = sending_account(&http, &key, &new.from).await?;
    let wanted = Wanted { account: &account, idempotency: idempotency_key.map(|text| (text, hash)) };
    let (mut results, is_replayed) = send_all(&http, &key, wanted, vec![new]).await?;
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
/// Each is taken or refused for itself; those that are taken are taken together.
#[utoipa::path(post, path = "/sends/batch", tag = "Sending", operation_id = "sendBatch", request_body = NewBatch,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 characters")),
    responses((status = 200, body = BatchResults), (status = "default", body = ProblemDetails)))]
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
    let mut seen: Option<String> = None;
    for message in &batch.messages {
        if seen.as_ref() == Some(&message.from.email) {
            continue;
        }
        let of = sending_account(&http, &key, &message.from).await?;
        if account.as_ref().is_some_and(|account| account.id != of.id) {
            let text = "messages: all of a batch come from addresses of one account.";
            return Err(Problem::new(Code::Unprocessable, text));
        }
        (account, seen) = (Some(of), Some(message.from.email.clone()));
    }
    let account = account.ok_or_else(Problem::internal)?;
    let wanted = Wanted { account: &account, idempotency: idempotency_key.map(|text| (text, hash)) };
    let (results, is_replayed) = send_all(&http, &key, wanted, batch.messages).await?;
    Ok(answer(StatusCode::OK, &BatchResults { results }, is_replayed))
}

fn answer<T: Serialize>(status: StatusCode, value: &T, is_replayed: bool) -> Response {
    let mut response = (status, Json(value)).into_response();
    if is_replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    response
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= MAX_KEY);
    let wrong = || Problem::invalid(format!("Idempotency-Key: 1 to {MAX_KEY} ASCII characters are wanted."));
    text.map(|text| Some(text.to_owned())).ok_or_else(wrong)
}

/// A body, and a hash of it by which a repeated request is known: of its value, not of its spelling.
async fn read_hashed<T: serde::de::DeserializeOwned>(request: Request) -> Result<(T, Bytes), Problem> {
    let value: Value = read_json(request, MAX_BODY).await?;
    let hash = Bytes::copy_from_slice(blake3::hash(value.to_string().as_bytes()).as_bytes());
    let read = serde_json::from_value(value).map_err(|error| {
        Problem::new(Code::Unprocessable, format!("The body is not as it should be: {error}."))
    })?;
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
type Ready = Result<(PreparedSend, Note), Problem>;

/// Sends messages from an account; what became of each, and whether that is told again.
async fn send_all(
    http: &HttpState,
    key: &Key,
    wanted: Wanted<'_>,
    messages: Vec<NewSend>,
) -> Result<(Vec<BatchResult>, bool), Problem> {
    let Wanted { account, idempotency } = wanted;
    if !account.may_send {
        return Err(Problem::new(Code::Forbidden, "This key may not send from this account."));
    }
    // A repetition is answered before any work is done for it.
    if let Some((text, hash)) = idempotency.clone() {
        let known = http
            .app
            .store
            .write(account.id, async move |tx: &mut Tx| idempotency::look(tx, &text, &hash).await);
        if let Some(told) = told_again(known.await?)? {
            return Ok((told, true));
        }
    }
    let ready = prepare(http, key, account, messages).await?;
    let ready: Arc<Vec<Ready>> = Arc::new(ready);
    let unit = async move |tx: &mut Tx| {
        if let Some((text, hash)) = &idempotency {
            match idempotency::look(tx, text, hash).await? {
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
        Ok((prepared, note)) => match insert_send(tx, prepared).await? {
            Ok(sent) => {
                note::insert(tx, sent.submission, note).await?;
                Ok(sent)
            }
            Err(error) => Err(Problem::from(error)),
        },
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
        Err(problem) => BatchResult { accepted: None, error: Some(json!(problem.details())) },
    })
}

/// Does what can be done before the transaction.
async fn prepare(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    messages: Vec<NewSend>,
) -> Result<Vec<Ready>, Problem> {
    let mut snapshot = http.app.store.read().await?;
    let sent = mailbox::id_by_role(&mut snapshot, account.id, "sent").await?;
    let place = match sent {
        Some(sent) => Some(sent),
        None => mailbox::id_by_role(&mut snapshot, account.id, "inbox").await?,
    };
    drop(snapshot);
    let place = place.ok_or_else(Problem::internal)?;
    let mut given: Vec<Result<(ToSend, Note), Problem>> = Vec::with_capacity(messages.len());
    for message in messages {
        given.push(to_send(http, account, place, message).await?);
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
            Ok((_, note)) => match prepared.next() {
                Some(Ok(prepared)) => Ok((prepared, note)),
                Some(Err(error)) => Err(error.into()),
                None => Err(Problem::internal()),
            },
        });
    }
    Ok(ready)
}

/// The Email/set create and the envelope of a message. Attachments that come with it are uploaded.
async fn to_send(
    http: &HttpState,
    account: &AccountAccess,
    place: Id,
    new: NewSend,
) -> Result<Result<(ToSend, Note), Problem>, Problem> {
    let unprocessable = |text: String| Problem::new(Code::Unprocessable, text);
    let note = Note { tags: new.tags, metadata: new.metadata };
    if note.tags.len() > MAX_TAGS
        || note.tags.iter().any(|tag| tag.is_empty() || tag.chars().count() > MAX_TAG)
    {
        let text = format!("tags: at most {MAX_TAGS} of 1 to {MAX_TAG} characters are wanted.");
        return Ok(Err(unprocessable(text)));
    }
    if Value::Object(note.metadata.clone()).to_string().len() > MAX_METADATA {
        return Ok(Err(unprocessable(format!("metadata: at most {MAX_METADATA} octets of JSON are kept."))));
    }
    if new.text.is_none() && new.html.is_none() && new.attachments.is_empty() {
        return Ok(Err(unprocessable("text, html, or an attachment is wanted.".to_owned())));
    }
    let mut email = Map::new();
    email.insert("mailboxIds".to_owned(), json!({ place.to_string(): true }));
    email.insert("keywords".to_owned(), json!({ "$seen": true }));
    email.insert("from".to_owned(), json!([new.from]));
    email.insert("subject".to_owned(), json!(new.subject));
    for (name, addresses) in [("to", &new.to), ("cc", &new.cc), ("bcc", &new.bcc), ("replyTo", &new.reply_to)]
    {
        if !addresses.is_empty() {
            email.insert(name.to_owned(), json!(addresses));
        }
    }
    let references =
        if new.references.is_empty() { new.in_reply_to.iter().cloned().collect() } else { new.references };
    for (name, ids) in [("inReplyTo", new.in_reply_to.into_iter().collect()), ("references", references)] {
        let ids: Vec<String> = ids;
        if !ids.is_empty() {
            email.insert(name.to_owned(), json!(ids));
        }
    }
    for (name, value) in new.headers {
        email.insert(format!("header:{name}:asRaw"), json!(format!(" {value}")));
    }
    let mut values = Map::new();
    for (name, part_id, media_type, text) in
        [("textBody", "text", "text/plain", new.text), ("htmlBody", "html", "text/html", new.html)]
    {
        if let Some(text) = text {
            values.insert(part_id.to_owned(), json!({ "value": text }));
            email.insert(name.to_owned(), json!([{ "partId": part_id, "type": media_type }]));
        }
    }
    email.insert("bodyValues".to_owned(), Value::Object(values));
    let mut attachments = Vec::with_capacity(new.attachments.len());
    for (number, attachment) in new.attachments.into_iter().enumerate() {
        match attach(http, account, attachment).await? {
            Ok(part) => attachments.push(part),
            Err(why) => return Ok(Err(unprocessable(format!("attachments[{number}]: {why}")))),
        }
    }
    if !attachments.is_empty() {
        email.insert("attachments".to_owned(), Value::Array(attachments));
    }
    let envelope = match new.send_at {
        None => None,
        Some(text) => {
            let Some(at) = parse_date(&text) else {
                return Ok(Err(unprocessable(format!("sendAt: {text:?} is no date (RFC 3339)."))));
            };
            let recipients: Vec<Value> = [&new.to, &new.cc, &new.bcc]
                .into_iter()
                .flatten()
                .map(|address| json!({ "email": address.email }))
                .collect();
            // RFC 8621, 7, by FUTURERELEASE (RFC 4865).
            Some(json!({
                "mailFrom": { "email": new.from.email, "parameters": { "HOLDUNTIL": utc_date(at) } },
                "rcptTo": recipients,
            }))
        }
    };
    Ok(Ok((ToSend { email, envelope }, note)))
}

/// The body part of an attachment; or what is wrong with it.
async fn attach(
    http: &HttpState,
    account: &AccountAccess,
    new: NewAttachment,
) -> Result<Result<Value, String>, Problem> {
    let blob_id = match (new.content, new.blob_id) {
        (Some(content), None) => {
            let Ok(octets) = STANDARD.decode(content.as_bytes()) else {
                return Ok(Err("content is no base64.".to_owned()));
            };
            upload(http, account, http.jmap.blobs.prepare(octets.into()).await?).await?.to_string()
        }
        (None, Some(blob_id)) => blob_id,
        _ => return Ok(Err("either content or blobId is wanted.".to_owned())),
    };
    let is_inline = new.content_id.is_some();
    Ok(Ok(json!({
        "blobId": blob_id,
        "name": new.name,
        "type": new.media_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
        "disposition": if is_inline { "inline" } else { "attachment" },
        "cid": new.content_id,
    })))
}

async fn upload(http: &HttpState, account: &AccountAccess, blob: PreparedBlob) -> Result<BlobId, Problem> {
    let (id, login) = (BlobId::whole(blob.hash()), account.login_id);
    let unit = async move |tx: &mut Tx| blob.reference_upload(tx, login, UPLOAD_QUOTA).await;
    http.app.store.write(account.id, unit).await?;
    Ok(id)
}

/// What became of a message for one recipient.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecipientStatus {
    /// Its address.
    email: String,
    /// `queued`: it is on its way, or waits; `delivered`: the recipient's server has it, or it was filed here;
    /// `failed`: it was given up; `unknown`: it was handed to a server that tells no more.
    status: &'static str,
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
    /// `pending`: it can be canceled; `final`: it has left; `canceled`.
    status: String,
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
                status: match known.map(|known| known.delivered.as_str()) {
                    Some("yes") => "delivered",
                    Some("no") => "failed",
                    Some("unknown") => "unknown",
                    _ => "queued",
                },
                reply: known.map(|known| known.smtp_reply.clone()).unwrap_or_default(),
                email,
            }
        });
        let Note { tags, metadata } = notes.remove(&submission.id).unwrap_or_default();
        Send {
            recipients: recipients.collect(),
            id: submission.id,
            message_id: submission.email_id,
            thread_id: submission.thread_id,
            status: submission.undo_status,
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
#[utoipa::path(get, path = "/sends/{id}", tag = "Sending", operation_id = "getSend",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 200, body = Send), (status = "default", body = ProblemDetails)))]
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
    next_cursor: Option<String>,
}

/// Which sends are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListParameters {
    /// The account, by its primary address or its id; else the key's own.
    account: Option<String>,
    /// Sends of a page, at most 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

/// List sends, the last ones first
#[utoipa::path(get, path = "/sends", tag = "Sending", operation_id = "listSends", params(ListParameters),
    responses((status = 200, body = SendPage), (status = "default", body = ProblemDetails)))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<SendPage>, Problem> {
    let account = key.account(&http, parameters.account.as_deref()).await?;
    let limit = parameters.limit.unwrap_or(PAGE);
    if limit == 0 || limit > MAX_PAGE {
        return Err(Problem::invalid(format!("limit: a number from 1 to {MAX_PAGE} is wanted.")));
    }
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
    let has_more = ids.len() as u64 > limit;
    ids.truncate(limit as usize);
    let last = ids.last().and_then(Value::as_str).map(str::to_owned);
    let mut sends = load(&http, &key, &account, json!(ids)).await?;
    let place = |id: &str| ids.iter().position(|known| known == id);
    sends.sort_by_key(|send| place(&send.id));
    Ok(Json(SendPage { sends, next_cursor: last.filter(|_| has_more) }))
}

/// Cancel a send that has not left
#[utoipa::path(post, path = "/sends/{id}/cancel", tag = "Sending", operation_id = "cancelSend",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 200, body = Send), (status = "default", body = ProblemDetails)))]
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
