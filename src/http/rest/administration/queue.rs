//! The queues of mail.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::queue::{self as acts, Bulk, Which};
use crate::admin::request::{QueueItem, QueueName, QueueRow};
use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::parameters::{Path, Query, page_limit, read_cursor};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;

/// Rows of a page, unless it is said otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// Which rows are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ListParameters {
    /// Only those of this queue.
    queue: Option<QueueName>,
    /// Only what was set aside after too many tries.
    #[serde(default)]
    failed: bool,
    /// Only what is to be sent to this domain.
    destination: Option<String>,
    /// Only what was put off or set aside for a reason with this text.
    reason: Option<String>,
    /// Rows of a page, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

/// A page of the queues.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuePage {
    /// By queue; a page may be empty and not the last one.
    rows: Vec<QueueRow>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List what waits in the queues
///
/// For keys of the whole server, like all about queues.
#[utoipa::path(get, path = "/queue", security(("key" = ["admin"])), tag = "Administration", operation_id = "listQueue", params(ListParameters),
    responses((status = 200, description = "The answer", body = QueuePage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<QueuePage>, Problem> {
    key.administers_all()?;
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let after = read_cursor(parameters.cursor.as_deref())?;
    let which = Which {
        queue: parameters.queue,
        failed_only: parameters.failed,
        destination: parameters.destination,
        reason: parameters.reason,
    };
    let (rows, next) = acts::list_page(&http.office, &which, after, limit).await?;
    Ok(Json(QueuePage { rows, next_cursor: next.map(|place| place.to_string()) }))
}

/// Look at what waits
#[utoipa::path(get, path = "/queue/{id}", security(("key" = ["admin"])), tag = "Administration", operation_id = "getQueued",
    params(("id" = String, Path, description = "Of the row, or of the message")),
    responses((status = 200, description = "The answer", body = QueueItem), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn get(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
) -> Result<Json<QueueItem>, Problem> {
    key.administers_all()?;
    Ok(Json(acts::show(&http.office, &id).await?))
}

/// Try it now
#[utoipa::path(post, path = "/queue/{id}/retry", security(("key" = ["admin"])), tag = "Administration", operation_id = "retryQueued",
    params(("id" = String, Path, description = "Of the row, or of the message")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn retry(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    key.administers_all()?;
    acts::retry(&key.office(&http), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drop it
///
/// Nothing is sent or filed, and nobody is told.
#[utoipa::path(delete, path = "/queue/{id}", security(("key" = ["admin"])), tag = "Administration", operation_id = "dropQueued",
    params(("id" = String, Path, description = "Of the row, or of the message")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    key.administers_all()?;
    acts::drop(&key.office(&http), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hold it
///
/// It is set aside until it is retried or dropped.
#[utoipa::path(post, path = "/queue/{id}/hold", security(("key" = ["admin"])), tag = "Administration", operation_id = "holdQueued",
    params(("id" = String, Path, description = "Of the row, or of the message")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn hold(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    key.administers_all()?;
    acts::hold(&key.office(&http), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is done to many rows.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// They are tried now.
    Retry,
    /// They are set aside.
    Hold,
    /// They are removed: nothing is sent, and nobody is told.
    Drop,
}

/// Something to be done to all mail to be sent to a destination, or that waits for a reason.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "action": "hold", "destination": "example.net" }))]
pub struct ManyQueued {
    action: Action,
    /// The domain to which it goes.
    destination: Option<String>,
    /// A text within what was said last.
    reason: Option<String>,
}

/// To how many rows it was done.
#[derive(Serialize, ToSchema)]
pub struct ManyDone {
    count: u64,
}

/// Retry, hold or drop by destination or reason
///
/// Of mail that waits to be sent; at least one of both is wanted. What a worker has in hand is left alone.
#[utoipa::path(post, path = "/queue/actions", security(("key" = ["admin"])), tag = "Administration", operation_id = "actOnQueue", request_body = ManyQueued,
    responses((status = 200, description = "The answer", body = ManyDone), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn act_on_many(
    State(http): State<HttpState>,
    key: Key,
    Body(many): Body<ManyQueued>,
) -> Result<Json<ManyDone>, Problem> {
    key.administers_all()?;
    let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if !is_given(&many.destination) && !is_given(&many.reason) {
        return Err(Problem::new(Code::Unprocessable, "destination or reason is wanted."));
    }
    let bulk = match many.action {
        Action::Retry => Bulk::Retry,
        Action::Hold => Bulk::Hold,
        Action::Drop => Bulk::Drop,
    };
    let which = Which {
        destination: many.destination.filter(|text| !text.is_empty()),
        reason: many.reason.filter(|text| !text.is_empty()),
        ..Which::default()
    };
    Ok(Json(ManyDone { count: acts::all_of(&key.office(&http), bulk, which).await? }))
}
