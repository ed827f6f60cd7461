//! Replies and forwards: sends that are made of a message.

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::OfAccount;
use crate::http::rest::messages::object::{Email, MailAddress, SUMMARY};
use crate::http::rest::messages::{change, emails, no_such_message};
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::rest::sends::new::{NewAttachment, NewSend};
use crate::http::rest::sends::{Accepted, read_send, send_one};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::types::address::Address;
use crate::types::scope::{Scope, Scopes};

/// Message-IDs of a conversation that an answer names.
const MAX_REFERENCES: usize = 100;

/// A reply.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "text": "Thank you, it has come." }))]
pub struct NewReply {
    /// The text.
    text: Option<String>,
    /// The HTML.
    html: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<NewAttachment>)]
    attachments: Vec<Map<String, Value>>,
    /// Whether those in To and Cc get it too.
    #[serde(default)]
    to_all: bool,
    /// At most 10 words of at most 64 characters, which are told back.
    #[serde(default)]
    tags: Vec<String>,
    /// Any object of at most 4 KiB, which is told back.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// The author, if not the account by its primary address.
    from: Option<MailAddress>,
}

/// A forward.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "to": [{ "email": "carol@example.com" }], "text": "Can you look after this?" }))]
pub struct NewForward {
    /// The recipients.
    to: Vec<MailAddress>,
    #[serde(default)]
    cc: Vec<MailAddress>,
    /// What stands above.
    #[serde(default)]
    text: String,
    /// The same as HTML.
    html: Option<String>,
    /// What is attached beside the message.
    #[serde(default)]
    #[schema(value_type = Vec<NewAttachment>)]
    attachments: Vec<Map<String, Value>>,
    /// At most 10 words of at most 64 characters, which are told back.
    #[serde(default)]
    tags: Vec<String>,
    /// Any object of at most 4 KiB, which is told back.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// The author, if not the account by its primary address.
    from: Option<MailAddress>,
}

/// Reply to a message
///
/// To its Reply-To or its author, in its thread, and flags it as answered. Wants the scopes `read`, `write` and
/// `send`.
#[utoipa::path(post, path = "/messages/{id}/reply", security(("key" = ["read", "write", "send"])), tag = "Messages", operation_id = "replyToMessage",
    params(("id" = String, Path, description = "Its id"), OfAccount,
        ("Idempotency-Key" = Option<String>, Header, description = "As with a send")), request_body = NewReply,
    responses((status = 202, description = "It was taken", body = Accepted), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn reply(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
    request: Request,
) -> Result<Response, Problem> {
    let (new, idempotency) = read_send::<NewReply>(request).await?;
    let (account, email) = load(&http, &key, of.account.as_deref(), &id).await?;
    let from = author(new.from, &account);
    let is_own = |address: &MailAddress| is_same(&address.email, &from.email);
    let to: Vec<MailAddress> = match email.reply_to() {
        given if given.is_empty() => email.from(),
        given => given,
    };
    let cc = if new.to_all {
        let others = [email.to(), email.cc()].concat();
        let is_among = |address: &MailAddress| to.iter().any(|to| is_same(&to.email, &address.email));
        others.into_iter().filter(|address| !is_own(address) && !is_among(address)).collect()
    } else {
        Vec::new()
    };
    let send = NewSend {
        cc,
        text: new.text,
        html: new.html,
        attachments: new.attachments,
        tags: new.tags,
        metadata: new.metadata,
        ..NewSend::new(from, to, subject("Re", &email))
    };
    let idempotency = idempotency.map(|(text, hash)| (text, hash_of(&hash, &id)));
    let (is_accepted, answer) = send_one(&http, &key, &account, idempotency, within(send, &email)).await;
    if is_accepted {
        flag(&http, &key, &account, &id, "$answered").await;
    }
    Ok(answer)
}

/// Forward a message
///
/// As an attachment, whole and as it came, and flags it as forwarded. Wants the scopes `read`, `write` and `send`.
#[utoipa::path(post, path = "/messages/{id}/forward", security(("key" = ["read", "write", "send"])), tag = "Messages", operation_id = "forwardMessage",
    params(("id" = String, Path, description = "Its id"), OfAccount,
        ("Idempotency-Key" = Option<String>, Header, description = "As with a send")), request_body = NewForward,
    responses((status = 202, description = "It was taken", body = Accepted), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn forward(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
    request: Request,
) -> Result<Response, Problem> {
    let (new, idempotency) = read_send::<NewForward>(request).await?;
    let (account, email) = load(&http, &key, of.account.as_deref(), &id).await?;
    let attachment = NewAttachment::of_blob(&email.blob_id, "message/rfc822", "message.eml");
    let send = NewSend {
        cc: new.cc,
        text: Some(new.text),
        html: new.html,
        attachments: [vec![attachment], new.attachments].concat(),
        tags: new.tags,
        metadata: new.metadata,
        ..NewSend::new(author(new.from, &account), new.to, subject("Fwd", &email))
    };
    let idempotency = idempotency.map(|(text, hash)| (text, hash_of(&hash, &id)));
    let (is_accepted, answer) = send_one(&http, &key, &account, idempotency, within(send, &email)).await;
    if is_accepted {
        flag(&http, &key, &account, &id, "$forwarded").await;
    }
    Ok(answer)
}

/// Flags what was answered. It has been sent: what fails here is no reason to send it again.
async fn flag(http: &HttpState, key: &Key, account: &AccountAccess, id: &str, keyword: &str) {
    let flag = json!({ "update": { id: { format!("keywords/{keyword}"): true } } });
    if let Err(problem) = change(http, key, account, flag, id).await {
        let detail = problem.details().detail;
        tracing::warn!(account = %account.id, message = id, keyword, detail, "an answer was sent, and not flagged");
    }
}

/// The hash of a request about a message.
fn hash_of(body: &Bytes, id: &str) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(&[body, id.as_bytes()].concat()).as_bytes())
}

/// The message that is answered, for a key that may.
async fn load(
    http: &HttpState,
    key: &Key,
    account: Option<&str>,
    id: &str,
) -> Result<(AccountAccess, Email), Problem> {
    let wanted = [Scope::Read, Scope::Write, Scope::Send];
    if !key.caller.scopes.has_all(Scopes::of(&wanted)) {
        let missing = wanted.into_iter().find(|scope| !key.caller.scopes.has(*scope));
        return Err(Problem::missing_scope(missing.unwrap_or(Scope::Send)));
    }
    let account = key.account(http, account).await?;
    let properties: Vec<&str> = SUMMARY.into_iter().chain(["references"]).collect();
    let asked = json!({ "ids": [id], "properties": properties });
    let email = emails(http, key, &account, asked).await?.pop().ok_or_else(no_such_message)?;
    Ok((account, email))
}

fn author(given: Option<MailAddress>, account: &AccountAccess) -> MailAddress {
    given.unwrap_or_else(|| MailAddress { name: None, email: account.name.clone() })
}

fn is_same(one: &str, other: &str) -> bool {
    match (Address::parse(one), Address::parse(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// The subject of an answer: one prefix, however often it goes to and fro.
fn subject(prefix: &str, email: &Email) -> String {
    let subject = email.subject();
    let has_one =
        subject.get(..=prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(&format!("{prefix}:")));
    if has_one { subject.to_owned() } else { format!("{prefix}: {subject}") }
}

/// In the thread of a message (RFC 5322, 3.6.4).
fn within(send: NewSend, email: &Email) -> NewSend {
    let Some(message_id) = email.message_id() else { return send };
    let mut references = email.references();
    references.push(message_id.clone());
    // The first one, and the last: what is between may go.
    if references.len() > MAX_REFERENCES {
        references.drain(1..references.len() - MAX_REFERENCES + 1);
    }
    NewSend { in_reply_to: Some(message_id), references, ..send }
}
