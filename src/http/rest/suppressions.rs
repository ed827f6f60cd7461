//! Addresses to which programs do not send for an account.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::OfAccount;
use crate::http::rest::parameters::{Path, Query, page_limit};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::store::suppression::{self as store, MAX_SUPPRESSIONS, Reason, key_of};
use crate::store::tx::Tx;
use crate::types::date::utc_date;
use crate::types::scope::Scope;

const PAGE: usize = 100;
const MAX_PAGE: usize = 500;
/// Characters of a note.
const MAX_DETAIL: usize = 500;

/// An address that is not tried.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suppression {
    email: String,
    /// `bounce`: there is no such mailbox; `complaint`: its owner calls the mail unwanted; `manual`: a program put it
    /// there.
    reason: String,
    /// What was said.
    detail: String,
    #[schema(format = DateTime)]
    created_at: String,
}

/// Addresses that are not tried, in their order.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuppressionList {
    suppressions: Vec<Suppression>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// An address that shall not be tried.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "email": "bob@example.net", "detail": "asked by telephone" }))]
pub struct NewSuppression {
    email: String,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    detail: String,
}

/// Which addresses are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// The account, by its primary address or its id; else the key's own.
    #[param(example = "shop@example.org")]
    account: Option<String>,
    /// Addresses of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// The account, which a key for sending may change.
async fn account_of(http: &HttpState, key: &Key, named: Option<&str>) -> Result<AccountAccess, Problem> {
    key.needs(Scope::Send)?;
    let account = key.account(http, named).await?;
    if !account.may_send {
        return Err(Problem::new(Code::Forbidden, "This key may not send from this account."));
    }
    Ok(account)
}

/// List suppressions
///
/// A send leaves these addresses out (`message.suppressed`). Addresses come here by themselves when mail to them
/// bounces because there is no such mailbox, and when their owners complain. People who write by a mail program are
/// not kept from trying.
#[utoipa::path(get, path = "/suppressions", security(("key" = ["send"])), tag = "Sending", operation_id = "listSuppressions", params(ListParameters),
    responses((status = 200, description = "The answer", body = SuppressionList), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<SuppressionList>, Problem> {
    key.needs(Scope::Send)?;
    let account = key.account(&http, parameters.account.as_deref()).await?;
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let after = parameters.cursor.unwrap_or_default();
    let mut snapshot = http.app.store.read().await?;
    let mut found = store::list(&mut snapshot, account.id, &after, limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| has_more).map(|last| last.address.clone());
    let shown = |of: store::Suppression| Suppression {
        email: of.address,
        reason: of.reason,
        detail: of.detail,
        created_at: utc_date(of.created_at),
    };
    Ok(Json(SuppressionList { suppressions: found.into_iter().map(shown).collect(), next_cursor }))
}

/// Suppress an address
#[utoipa::path(post, path = "/suppressions", security(("key" = ["send"])), tag = "Sending", operation_id = "addSuppression", params(OfAccount), request_body = NewSuppression,
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn add(
    State(http): State<HttpState>,
    key: Key,
    Query(of): Query<OfAccount>,
    Body(new): Body<NewSuppression>,
) -> Result<StatusCode, Problem> {
    let account = account_of(&http, &key, of.account.as_deref()).await?;
    let no_address = || Problem::field("email", format!("{:?} is no address", new.email));
    let address = key_of(&new.email).ok_or_else(no_address)?;
    if new.detail.chars().count() > MAX_DETAIL {
        return Err(Problem::field("detail", format!("at most {MAX_DETAIL} characters are wanted")));
    }
    if !store::has_room(&mut *http.app.store.read().await?, account.id).await? {
        let text = format!("The list has {MAX_SUPPRESSIONS} addresses, which is the most; remove some.");
        return Err(Problem::new(Code::Conflict, text));
    }
    let unit = async move |tx: &mut Tx| store::add(tx, vec![address], Reason::Manual, &new.detail).await;
    http.app.store.write(account.id, unit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let an address be tried again
#[utoipa::path(delete, path = "/suppressions/{email}", security(("key" = ["send"])), tag = "Sending", operation_id = "removeSuppression",
    params(("email" = String, Path, description = "The address"), OfAccount),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove(
    State(http): State<HttpState>,
    key: Key,
    Path(email): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<StatusCode, Problem> {
    let account = account_of(&http, &key, of.account.as_deref()).await?;
    let none = || Problem::not_found("This address is not suppressed.");
    let address = key_of(&email).ok_or_else(none)?;
    let unit = async move |tx: &mut Tx| store::remove(tx, &address).await;
    if http.app.store.write(account.id, unit).await? { Ok(StatusCode::NO_CONTENT) } else { Err(none()) }
}
