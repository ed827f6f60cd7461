//! `POST /jmap/upload/{accountId}` (RFC 8620, 6.1).

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::blob::BlobError;
use crate::http::auth::SignedIn;
use crate::http::body::pieces;
use crate::http::error::HttpError;
use crate::http::limits::Kind;
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::jmap::limits::UPLOAD_QUOTA;
use crate::store::tx::Tx;
use crate::types::blob_id::BlobId;

/// A body that is larger than the limit is read to its end if it is not this many times as large.
const SWALLOWED: u64 = 3;
/// How long that may take.
const SWALLOW_TIME: Duration = Duration::from_secs(30);

/// Reads a body and forgets it.
async fn swallow(body: Body) {
    let read = pieces(body).for_each(|_| std::future::ready(()));
    let _ = tokio::time::timeout(SWALLOW_TIME, read).await;
}

/// Stores a blob.
pub async fn post(
    State(http): State<HttpState>,
    Path(account): Path<String>,
    SignedIn(caller, _): SignedIn,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), HttpError> {
    let account = account.parse().ok().and_then(|id| caller.account(id)).ok_or(HttpError::NotFound)?;
    let Uploaded { blob_id, size, media_type } = receive(&http, account, &headers, body).await?;
    let answer = json!({
        "accountId": account.id.to_string(),
        "blobId": blob_id.to_string(),
        "type": media_type,
        "size": size,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// What was uploaded.
pub struct Uploaded {
    pub blob_id: BlobId,
    /// Octets.
    pub size: u64,
    /// As its sender says.
    pub media_type: String,
}

/// Stores a body as a blob of an account.
pub async fn receive(
    http: &HttpState,
    account: &AccountAccess,
    headers: &HeaderMap,
    body: Body,
) -> Result<Uploaded, HttpError> {
    if !account.may_upload() {
        return Err(HttpError::Forbidden("You may only read this account."));
    }
    let limit = http.jmap.max_upload;
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = declared.filter(|length| *length > limit as u64) {
        // Most clients read no answer before their body has gone: an answer to what is not read
        // looks like a broken connection to them.
        // Who asks first (RFC 9110, 10.1.1) has not sent anything yet.
        let asks_first = headers.contains_key(header::EXPECT);
        if !asks_first && length <= limit as u64 * SWALLOWED {
            swallow(body).await;
        }
        return Err(HttpError::TooLarge { limit });
    }
    let _place = http.concurrency.enter(Kind::Upload, account.login_id).await.map_err(HttpError::Jmap)?;
    let blob = http.jmap.blobs.prepare_stream(pieces(body), limit as u64).await;
    let blob = blob.map_err(|error| match error {
        BlobError::TooLarge { .. } => HttpError::TooLarge { limit },
        BlobError::Interrupted(why) => HttpError::BadRequest(why.to_string()),
        error => error.into(),
    })?;
    let (blob_id, size, login) = (BlobId::whole(blob.hash()), blob.size(), account.login_id);
    http.app
        .store
        .write(account.id, async move |tx: &mut Tx| blob.reference_upload(tx, login, UPLOAD_QUOTA).await)
        .await?;
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/octet-stream")
        .to_owned();
    Ok(Uploaded { blob_id, size, media_type })
}
