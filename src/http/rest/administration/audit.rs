//! What administrators have done.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::audit as acts;
use crate::admin::request::AuditRow;
use crate::http::rest::key::Key;
use crate::http::rest::parameters::{Query, page_limit, read_cursor};
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::types::id::Id;
use crate::types::scope::Reach;

const PAGE: usize = 100;
const MAX_PAGE: usize = 500;

/// Which entries are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// Only those about this domain; for a key of a domain, that one.
    #[param(example = "example.org")]
    domain: Option<String>,
    /// Entries of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Entries of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditLog {
    /// The newest first.
    entries: Vec<AuditRow>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Read the audit log
///
/// Every administrative act, by whatever way it was asked for: who, what, and what came of it.
#[utoipa::path(get, path = "/audit", security(("key" = ["admin"])), tag = "Administration", operation_id = "listAudit", params(ListParameters),
    responses((status = 200, description = "The answer", body = AuditLog), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<AuditLog>, Problem> {
    let domain = match &parameters.domain {
        Some(domain) => Some(key.administers(domain)?),
        None => match &key.reach {
            Reach::Domain(domain) => Some(key.administers(domain)?),
            _ => {
                key.administers_all()?;
                None
            }
        },
    };
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let before: Option<Id> = read_cursor(parameters.cursor.as_deref())?;
    let (entries, next_cursor) = acts::list(&http.office, domain, before, limit).await?;
    Ok(Json(AuditLog { entries, next_cursor }))
}
