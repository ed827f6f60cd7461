//! Mailboxes, and how a call names one.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::rest::key::Key;
use crate::http::rest::parameters::Query;
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::jmap::request::call_one;
use crate::store::mailbox;
use crate::types::id::Id;

/// Of which account a call is.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfAccount {
    /// The account, by its primary address or its id; else the key's own.
    #[param(example = "alice@example.org")]
    pub account: Option<String>,
}

/// A mailbox.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mailbox {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// What it is for, such as `inbox`, `sent` or `trash`; wherever a mailbox is named, its role does as well.
    role: Option<String>,
    /// The mailbox that it is in.
    parent_id: Option<String>,
    /// Messages in it.
    #[serde(rename(deserialize = "totalEmails"))]
    messages: u64,
    /// Those of them that were not read.
    #[serde(rename(deserialize = "unreadEmails"))]
    unread: u64,
}

/// All mailboxes of an account.
#[derive(Serialize, ToSchema)]
pub struct MailboxList {
    mailboxes: Vec<Mailbox>,
}

/// List mailboxes
#[utoipa::path(get, path = "/mailboxes", security(("key" = ["read"])), tag = "Messages", operation_id = "listMailboxes", params(OfAccount),
    responses((status = 200, description = "The answer", body = MailboxList), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(of): Query<OfAccount>,
) -> Result<Json<MailboxList>, Problem> {
    let account = key.account(&http, of.account.as_deref()).await?;
    let arguments = json!({ "accountId": account.id.to_string(),
        "properties": ["id", "name", "role", "parentId", "totalEmails", "unreadEmails"] });
    let mut got = call_one(&http.jmap, &key.caller_for(&account), "Mailbox/get", arguments).await?;
    Ok(Json(MailboxList { mailboxes: read_list(got["list"].take())? }))
}

/// Objects of a method's answer.
pub fn read_list<T: serde::de::DeserializeOwned>(list: serde_json::Value) -> Result<Vec<T>, Problem> {
    serde_json::from_value(list).map_err(|error| {
        tracing::error!(%error, "objects are not as they should be");
        Problem::internal()
    })
}

/// The mailbox that a call names by its id or its role.
pub async fn named(http: &HttpState, account: &AccountAccess, text: &str) -> Result<Id, Problem> {
    let mut snapshot = http.app.store.read().await?;
    if let Some(id) = mailbox::id_by_role(&mut snapshot, account.id, text).await? {
        return Ok(id);
    }
    let none = || Problem::not_found(format!("There is no mailbox with the id or the role {text:?}."));
    let id: Id = text.parse().map_err(|_| none())?;
    let there = mailbox::existing(&mut snapshot, account.id, &[id]).await?;
    there.first().copied().filter(|id| *id != Id::default()).ok_or_else(none)
}
