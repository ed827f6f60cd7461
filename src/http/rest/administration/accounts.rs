//! Accounts: people (and programs) and their mail.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::account as acts;
use crate::admin::request::{AccountRow, Quota};
use crate::http::rest::body::{Body, nullable};
use crate::http::rest::key::Key;
use crate::http::rest::parameters::{Path, Query, page_limit, read_cursor};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::types::scope::{Reach, Scope};
use crate::types::secret::Secret;

/// Accounts of a page, unless it is said otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// A page of accounts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountPage {
    accounts: Vec<AccountRow>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which accounts are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ListParameters {
    /// Only those of this domain.
    #[param(example = "example.org")]
    domain: Option<String>,
    /// Accounts of a page, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

/// An account to be added.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "address": "alice@example.org", "password": "correct horse battery", "quota": 10_000_000_000_u64 }))]
pub struct NewAccount {
    /// Its primary address, by which one signs in.
    address: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    password: Secret,
    /// Octets that it may keep; `null` for no limit; else what the server is configured to give.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740991_u64)]
    quota: Option<Option<u64>>,
}

/// What is changed of an account; what is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "quota": 20_000_000_000_u64 }))]
pub struct AccountPatch {
    /// A new password; sessions made with the old one end.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Secret>,
    /// Octets that it may keep; `null` for no limit.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740991_u64)]
    quota: Option<Option<u64>>,
}

/// What every JSON reader takes for a whole number (RFC 8259, 6).
const MAX_QUOTA: u64 = (1 << 53) - 1;

fn quota_of(octets: Option<u64>) -> Result<Quota, Problem> {
    match octets {
        None => Ok(Quota::Unlimited),
        Some(octets @ 1..=MAX_QUOTA) => Ok(Quota::Octets(octets)),
        Some(_) => {
            Err(Problem::field("quota", format!("1 to {MAX_QUOTA} octets are wanted, or null for no limit")))
        }
    }
}

/// List accounts, the oldest first
#[utoipa::path(get, path = "/accounts", security(("key" = ["admin"])), tag = "Administration", operation_id = "listAccounts",
    params(ListParameters),
    responses((status = 200, description = "The answer", body = AccountPage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<AccountPage>, Problem> {
    key.needs(Scope::Admin)?;
    let domain = parameters.domain.as_deref().map(|domain| key.administers(domain)).transpose()?;
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let after = read_cursor(parameters.cursor.as_deref())?;
    let domain = match (&domain, &key.reach) {
        (Some(domain), _) | (None, Reach::Domain(domain)) => Some(domain.as_str()),
        _ => None,
    };
    if domain.is_none() && key.reach != Reach::All {
        return Err(Problem::new(Code::Forbidden, "This needs a key for a domain, or for the whole server."));
    }
    let (accounts, next_cursor) = acts::page(&http.office, domain, after, limit).await?;
    Ok(Json(AccountPage { accounts, next_cursor }))
}

/// Add an account
#[utoipa::path(post, path = "/accounts", security(("key" = ["admin"])), tag = "Administration", operation_id = "addAccount",
    request_body = NewAccount,
    responses((status = 201, description = "It was made", body = AccountRow), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn add(
    State(http): State<HttpState>,
    key: Key,
    Body(new): Body<NewAccount>,
) -> Result<(StatusCode, Json<AccountRow>), Problem> {
    let address =
        key.administers_address(&new.address).map_err(|problem| problem.of_field("address"))?.to_string();
    let quota = new.quota.map(quota_of).transpose()?;
    acts::add(&key.office(&http), &address, new.password, quota).await.map_err(Problem::of_body)?;
    Ok((StatusCode::CREATED, Json(acts::show(&http.office, &address).await?)))
}

/// Look at an account
#[utoipa::path(get, path = "/accounts/{address}", security(("key" = ["admin"])), tag = "Administration", operation_id = "getAccount",
    params(("address" = String, Path, description = "Its primary address")),
    responses((status = 200, description = "The answer", body = AccountRow), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn get(
    State(http): State<HttpState>,
    key: Key,
    Path(address): Path<String>,
) -> Result<Json<AccountRow>, Problem> {
    let address = key.administers_address(&address)?.to_string();
    Ok(Json(acts::show(&http.office, &address).await?))
}

/// Change the password or the quota of an account
#[utoipa::path(patch, path = "/accounts/{address}", security(("key" = ["admin"])), tag = "Administration", operation_id = "updateAccount",
    params(("address" = String, Path, description = "Its primary address")), request_body = AccountPatch,
    responses((status = 200, description = "The answer", body = AccountRow), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn update(
    State(http): State<HttpState>,
    key: Key,
    Path(address): Path<String>,
    Body(patch): Body<AccountPatch>,
) -> Result<Json<AccountRow>, Problem> {
    let address = key.administers_address(&address)?.to_string();
    // The one that may be refused comes first: nothing is done by half.
    let quota = patch.quota.map(quota_of).transpose()?;
    if let Some(password) = patch.password {
        // Whoever sets it can sign in with it.
        if key.reach != Reach::All && address != key.caller.username {
            match key.covers(&http, &address, None).await {
                Err(problem) if problem.is_forbidden() => return Err(problem),
                // What is not there is told below.
                _ => {}
            }
        }
        acts::set_password(&key.office(&http), &address, password).await?;
    }
    if let Some(quota) = quota {
        acts::set_quota(&key.office(&http), &address, quota).await?;
    }
    Ok(Json(acts::show(&http.office, &address).await?))
}

/// Remove an account with all its mail
#[utoipa::path(delete, path = "/accounts/{address}", security(("key" = ["admin"])), tag = "Administration", operation_id = "removeAccount",
    params(("address" = String, Path, description = "Its primary address")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove(
    State(http): State<HttpState>,
    key: Key,
    Path(address): Path<String>,
) -> Result<StatusCode, Problem> {
    let address = key.administers_address(&address)?.to_string();
    if address == key.caller.username {
        let text = "A key does not remove the account of its own login; take a key of another login.";
        return Err(Problem::new(Code::Conflict, text));
    }
    acts::remove(&key.office(&http), &address).await?;
    Ok(StatusCode::NO_CONTENT)
}
