//! Domains whose mail is accepted here.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::domain as acts;
use crate::admin::request::{CheckedRecord, DnsRecord, DomainRow, RecordState};
use crate::http::rest::body::{Body, nullable};
use crate::http::rest::key::Key;
use crate::http::rest::parameters::{Path, Query, page_limit};
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::types::scope::{Reach, Scope};

/// A domain and what its DNS must say.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainDetails {
    #[serde(flatten)]
    domain: DomainRow,
    /// The records that it needs, so that mail comes in and goes out well.
    records: Vec<DnsRecord>,
}

/// Domains of a page, unless it is said otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// A page of the domains that the key administers.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainPage {
    /// By their names.
    domains: Vec<DomainRow>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which domains are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// Domains of a page, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A domain to be added.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "domain": "example.org" }))]
pub struct NewDomain {
    /// Its name.
    domain: String,
    /// The account that gets the mail for `postmaster`; else the first one of the domain.
    postmaster: Option<String>,
    /// The account that gets the mail for addresses that are nobody's.
    catch_all: Option<String>,
}

/// What is changed of a domain; what is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "catchAll": "alice@example.org" }))]
pub struct DomainPatch {
    /// The account that gets the mail for `postmaster`.
    postmaster: Option<String>,
    /// The account that gets the mail for addresses that are nobody's; `null` for no one.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    catch_all: Option<Option<String>>,
}

async fn details(http: &HttpState, name: &str) -> Result<DomainDetails, Problem> {
    let records = acts::show(&http.office, name.to_owned()).await?.records;
    let domain = acts::get(&http.office, name).await?;
    Ok(DomainDetails { domain, records })
}

/// List domains
#[utoipa::path(get, path = "/domains", security(("key" = ["admin"])), tag = "Administration", operation_id = "listDomains",
    params(ListParameters),
    responses((status = 200, description = "The answer", body = DomainPage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<DomainPage>, Problem> {
    key.needs(Scope::Admin)?;
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let (domains, next_cursor) =
        acts::list_page(&http.office, &key.reach, parameters.cursor.as_deref(), limit).await?;
    Ok(Json(DomainPage { domains, next_cursor }))
}

/// Add a domain
///
/// Makes its DKIM keys, and tells the DNS records that it needs. For keys of the whole server.
#[utoipa::path(post, path = "/domains", security(("key" = ["admin"])), tag = "Administration", operation_id = "addDomain",
    request_body = NewDomain,
    responses((status = 201, description = "It was made", body = DomainDetails), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn add(
    State(http): State<HttpState>,
    key: Key,
    Body(new): Body<NewDomain>,
) -> Result<(StatusCode, Json<DomainDetails>), Problem> {
    key.administers_all()?;
    let name = key.administers(&new.domain).map_err(|problem| problem.of_field("domain"))?;
    let added =
        acts::add(&key.office(&http), name, new.postmaster, new.catch_all).await.map_err(Problem::of_body)?;
    Ok((StatusCode::CREATED, Json(details(&http, &added.domain).await?)))
}

/// Look at a domain
#[utoipa::path(get, path = "/domains/{domain}", security(("key" = ["admin"])), tag = "Administration", operation_id = "getDomain",
    params(("domain" = String, Path, description = "Its name")),
    responses((status = 200, description = "The answer", body = DomainDetails), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn get(
    State(http): State<HttpState>,
    key: Key,
    Path(domain): Path<String>,
) -> Result<Json<DomainDetails>, Problem> {
    let name = key.administers(&domain)?;
    Ok(Json(details(&http, &name).await?))
}

/// Change a domain
#[utoipa::path(patch, path = "/domains/{domain}", security(("key" = ["admin"])), tag = "Administration", operation_id = "updateDomain",
    params(("domain" = String, Path, description = "Its name")), request_body = DomainPatch,
    responses((status = 200, description = "The answer", body = DomainDetails), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn update(
    State(http): State<HttpState>,
    key: Key,
    Path(domain): Path<String>,
    Body(patch): Body<DomainPatch>,
) -> Result<Json<DomainDetails>, Problem> {
    let name = key.administers(&domain)?;
    let catch_all = patch.catch_all.as_ref().and_then(Option::as_ref);
    for (field, address) in [("postmaster", patch.postmaster.as_ref()), ("catchAll", catch_all)] {
        if let Some(address) = address {
            key.administers_address(address).map_err(|problem| problem.of_field(field))?;
        }
    }
    let is_there = acts::get(&http.office, &name).await.is_ok();
    let done = acts::set(&key.office(&http), name.clone(), patch.postmaster, patch.catch_all).await;
    done.map_err(|error| if is_there { Problem::of_body(error) } else { error.into() })?;
    Ok(Json(details(&http, &name).await?))
}

/// Remove a domain
///
/// One that has no accounts or aliases any more. For keys of the whole server.
#[utoipa::path(delete, path = "/domains/{domain}", security(("key" = ["admin"])), tag = "Administration", operation_id = "removeDomain",
    params(("domain" = String, Path, description = "Its name")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove(
    State(http): State<HttpState>,
    key: Key,
    Path(domain): Path<String>,
) -> Result<StatusCode, Problem> {
    let name = key.administers(&domain)?;
    if key.reach != Reach::All {
        key.administers_all()?;
    }
    acts::remove(&key.office(&http), name.clone()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The DNS records of a domain, as they are.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainDns {
    /// Whether each is set as it should be.
    is_complete: bool,
    records: Vec<CheckedRecord>,
}

/// Check the DNS of a domain
///
/// Asks the DNS now for each record that the domain needs.
#[utoipa::path(get, path = "/domains/{domain}/dns", security(("key" = ["admin"])), tag = "Administration", operation_id = "checkDomain",
    params(("domain" = String, Path, description = "Its name")),
    responses((status = 200, description = "The answer", body = DomainDns), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn check(
    State(http): State<HttpState>,
    key: Key,
    Path(domain): Path<String>,
) -> Result<Json<DomainDns>, Problem> {
    let name = key.administers(&domain)?;
    let records = acts::check(&http.office, name).await?;
    let is_complete = records.iter().all(|record| record.state == RecordState::Set);
    Ok(Json(DomainDns { is_complete, records }))
}
