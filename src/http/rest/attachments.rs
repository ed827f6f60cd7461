//! Attachments: uploads before they are sent, downloads of those that came. They are blobs (RFC 8620, 6).

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::download::serve;
use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::OfAccount;
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::http::upload::{Uploaded, receive};
use crate::store::blob::Reader;
use crate::types::scope::{Scope, Scopes};

/// What was uploaded.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewBlob {
    /// By which it is attached to a message. What no message has is gone after some hours.
    blob_id: String,
    /// Its media type, as it was given.
    #[serde(rename = "type")]
    media_type: String,
    /// Octets.
    size: u64,
}

/// Any octets.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it stands in the document alone")]
pub struct Octets(Vec<u8>);

/// Upload an attachment
///
/// The body is its content, its media type in `Content-Type`.
#[utoipa::path(post, path = "/attachments", security(("key" = ["write"]), ("key" = ["send"])), tag = "Sending", operation_id = "uploadAttachment", params(OfAccount),
    request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 201, description = "It was made", body = NewBlob), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn upload(
    State(http): State<HttpState>,
    key: Key,
    Query(of): Query<OfAccount>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<NewBlob>), Problem> {
    if !key.caller.scopes.has_any(Scopes::of(&[Scope::Send, Scope::Write])) {
        return Err(Problem::missing_scope(Scope::Send));
    }
    let account = key.account(&http, of.account.as_deref()).await?;
    let Uploaded { blob_id, size, media_type } = receive(&http, &account, &headers, body).await?;
    Ok((StatusCode::CREATED, Json(NewBlob { blob_id: blob_id.to_string(), media_type, size })))
}

/// How a blob is downloaded.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DownloadParameters {
    /// The account, by its primary address or its id; else the key's own.
    account: Option<String>,
    /// The file name that the answer gives it.
    #[serde(default)]
    name: String,
    /// The media type that the answer has.
    r#type: Option<String>,
}

/// Download an attachment
///
/// Ranges are served (RFC 9110, 14).
#[utoipa::path(get, path = "/attachments/{blobId}", security(("key" = ["read"])), tag = "Messages", operation_id = "downloadAttachment",
    params(("blobId" = String, Path, description = "`blobId` of an attachment"), DownloadParameters),
    responses((status = 200, description = "The answer, as `type` says", content((Octets = "application/octet-stream"), (Octets = "*/*"))),
        (status = 206, description = "A range", content((Octets = "application/octet-stream"), (Octets = "*/*"))),
        (status = 304, description = "It is as `If-None-Match` says"),
        (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn download(
    State(http): State<HttpState>,
    key: Key,
    Path(blob_id): Path<String>,
    Query(parameters): Query<DownloadParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    key.needs(Scope::Read)?;
    let account = key.account(&http, parameters.account.as_deref()).await?;
    let blob =
        blob_id.parse().map_err(|_| Problem::not_found("There is no such attachment in this account."))?;
    let reader = Reader::login(account.id, account.login_id);
    let name = if parameters.name.is_empty() { "attachment" } else { &parameters.name };
    Ok(serve(&http, reader, &blob, name, parameters.r#type.as_deref(), &headers).await?)
}
