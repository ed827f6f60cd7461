//! Aliases: further addresses of accounts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::alias as acts;
use crate::admin::request::AliasRow;
use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::parameters::Path;
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::types::scope::Scope;

/// The aliases that the key administers.
#[derive(Serialize, ToSchema)]
pub struct AliasList {
    aliases: Vec<AliasRow>,
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
#[utoipa::path(get, path = "/aliases", tag = "Administration", operation_id = "listAliases",
    responses((status = 200, description = "The answer", body = AliasList), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(State(http): State<HttpState>, key: Key) -> Result<Json<AliasList>, Problem> {
    key.needs(Scope::Admin)?;
    let mut aliases = acts::list(&http.office).await?;
    aliases.retain(|row| key.reach.covers_domain(row.alias.rsplit('@').next().unwrap_or_default()));
    Ok(Json(AliasList { aliases }))
}

/// Add an alias, or further accounts to one
#[utoipa::path(post, path = "/aliases", tag = "Administration", operation_id = "addAlias",
    request_body = NewAlias,
    responses((status = 201, description = "It was made", body = AliasRow), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn add(
    State(http): State<HttpState>,
    key: Key,
    Body(new): Body<NewAlias>,
) -> Result<(StatusCode, Json<AliasRow>), Problem> {
    let alias = key.administers_address(&new.alias)?.to_string();
    if new.accounts.is_empty() || new.accounts.len() > MAX_ACCOUNTS {
        return Err(Problem::invalid(format!("accounts: 1 to {MAX_ACCOUNTS} are wanted.")));
    }
    for account in &new.accounts {
        key.administers_address(account)?;
    }
    acts::add(&key.office(&http), &alias, &new.accounts).await?;
    Ok((StatusCode::CREATED, Json(acts::show(&http.office, &alias).await?)))
}

/// Remove an alias
#[utoipa::path(delete, path = "/aliases/{alias}", tag = "Administration", operation_id = "removeAlias",
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
