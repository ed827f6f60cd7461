//! Aliases: further addresses of accounts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::alias as acts;
use crate::admin::request::{AliasRow, Refusal};
use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::parameters::{Path, Query, page_limit};
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::types::scope::Scope;

/// Aliases of a page, unless it is said otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// A page of the aliases that the key administers.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AliasPage {
    /// By their addresses; a page may be empty and not the last one.
    aliases: Vec<AliasRow>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which aliases are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// Aliases of a page, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

/// An alias, or further accounts of one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "alias": "team@example.org", "accounts": ["alice@example.org"] }))]
pub struct NewAlias {
    /// The address.
    alias: String,
    /// The accounts that get its mail, by their primary addresses.
    #[schema(min_items = 1, max_items = 100)]
    accounts: Vec<String>,
}

/// Accounts that one request names at most.
const MAX_ACCOUNTS: usize = 100;

/// List aliases
#[utoipa::path(get, path = "/aliases", security(("key" = ["admin"])), tag = "Administration", operation_id = "listAliases",
    params(ListParameters),
    responses((status = 200, description = "The answer", body = AliasPage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<AliasPage>, Problem> {
    key.needs(Scope::Admin)?;
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let (aliases, next_cursor) = acts::list_page(&http.office, &key.reach, parameters.cursor, limit).await?;
    Ok(Json(AliasPage { aliases, next_cursor }))
}

/// Add an alias, or further accounts to one
#[utoipa::path(post, path = "/aliases", security(("key" = ["admin"])), tag = "Administration", operation_id = "addAlias",
    request_body = NewAlias,
    responses((status = 201, description = "It was made", body = AliasRow), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn add(
    State(http): State<HttpState>,
    key: Key,
    Body(new): Body<NewAlias>,
) -> Result<(StatusCode, Json<AliasRow>), Problem> {
    let alias = key.administers_address(&new.alias).map_err(|problem| problem.of_field("alias"))?.to_string();
    if new.accounts.is_empty() || new.accounts.len() > MAX_ACCOUNTS {
        return Err(Problem::field("accounts", format!("1 to {MAX_ACCOUNTS} are wanted")));
    }
    for account in &new.accounts {
        key.administers_address(account).map_err(|problem| problem.of_field("accounts"))?;
    }
    acts::add(&key.office(&http), &alias, &new.accounts).await.map_err(Problem::of_body)?;
    Ok((StatusCode::CREATED, Json(acts::show(&http.office, &alias).await?)))
}

/// Remove an alias
#[utoipa::path(delete, path = "/aliases/{alias}", security(("key" = ["admin"])), tag = "Administration", operation_id = "removeAlias",
    params(("alias" = String, Path, description = "The address")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove(
    State(http): State<HttpState>,
    key: Key,
    Path(alias): Path<String>,
) -> Result<StatusCode, Problem> {
    let alias = key.administers_address(&alias)?.to_string();
    acts::remove(&key.office(&http), &alias, &[]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take an account off an alias
///
/// Its mail does not go there any more; with its last account the alias is gone.
#[utoipa::path(delete, path = "/aliases/{alias}/accounts/{address}", security(("key" = ["admin"])), tag = "Administration", operation_id = "removeAccountOfAlias",
    params(("alias" = String, Path, description = "The address"), ("address" = String, Path, description = "The account's primary address")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove_account(
    State(http): State<HttpState>,
    key: Key,
    Path((alias, account)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let alias = key.administers_address(&alias)?.to_string();
    let done = acts::remove(&key.office(&http), &alias, &[account]).await;
    done.map_err(|error| match error.refusal {
        // Whether there is such an account elsewhere is none of this key's business.
        Refusal::NotFound => Problem::not_found(format!("{alias} has no such account.")),
        _ => error.into(),
    })?;
    Ok(StatusCode::NO_CONTENT)
}
