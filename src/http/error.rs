//! Errors of HTTP itself, as problem details (RFC 9457). Errors of JMAP requests and methods are
//! `jmap::error`'s.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::blob::BlobError;
use crate::jmap::error::RequestError;
use crate::store::error::StoreError;
use crate::types::scope::Scope;

/// Why a request got no answer.
#[derive(Debug)]
pub enum HttpError {
    /// Nobody is signed in. Browsers' scripts are not offered Basic, which would open a dialog.
    Unauthorized {
        /// Whether Basic is offered.
        offers_basic: bool,
    },
    /// Too many attempts or requests.
    TooMany {
        /// Seconds.
        retry_after_seconds: u64,
        /// What to do.
        detail: &'static str,
    },
    /// The path or the object does not exist, or is none of the caller's.
    NotFound,
    /// The caller may not.
    Forbidden(&'static str),
    /// The caller's key is not good for it.
    MissingScope(Scope),
    /// The request is wrong.
    BadRequest(String),
    /// The rest of the request did not come in time.
    TimedOut,
    /// The body is too large.
    TooLarge {
        /// Octets.
        limit: usize,
    },
    /// The range lies outside of the object.
    RangeNotSatisfiable {
        /// Octets of the object.
        size: u64,
    },
    /// A part behind is down or busy.
    Unavailable,
    /// A fault of ours, which is logged.
    Internal,
    /// A request-level error of JMAP.
    Jmap(RequestError),
}

impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> HttpError {
        match error {
            StoreError::NoSuchAccount => HttpError::NotFound,
            error => {
                tracing::error!(%error, "a request failed");
                if error.is_temporary() { HttpError::Unavailable } else { HttpError::Internal }
            }
        }
    }
}

impl From<BlobError> for HttpError {
    fn from(error: BlobError) -> HttpError {
        tracing::warn!(%error, "a blob could not be read or written");
        if error.is_temporary() { HttpError::Unavailable } else { HttpError::Internal }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let (status, detail) = match &self {
            HttpError::Unauthorized { .. } => (
                StatusCode::UNAUTHORIZED,
                "Sign in with an address and its password, or with an API token.".to_owned(),
            ),
            HttpError::TooMany { detail, .. } => (StatusCode::TOO_MANY_REQUESTS, (*detail).to_owned()),
            HttpError::NotFound => (StatusCode::NOT_FOUND, "There is nothing here for you.".to_owned()),
            HttpError::Forbidden(detail) => (StatusCode::FORBIDDEN, (*detail).to_owned()),
            HttpError::MissingScope(scope) => {
                (StatusCode::FORBIDDEN, format!("This needs a key with the scope {}.", scope.name()))
            }
            HttpError::BadRequest(detail) => (StatusCode::BAD_REQUEST, detail.clone()),
            HttpError::TimedOut => {
                (StatusCode::REQUEST_TIMEOUT, "The rest of the request did not come in time.".to_owned())
            }
            HttpError::TooLarge { limit } => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("The body may have at most {limit} octets."))
            }
            HttpError::RangeNotSatisfiable { size } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, format!("The object has {size} octets."))
            }
            HttpError::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is busy; try again in a few seconds.".to_owned(),
            ),
            HttpError::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "The server failed; its log has the cause.".to_owned())
            }
            HttpError::Jmap(_) => (StatusCode::BAD_REQUEST, String::new()),
        };
        let mut problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": detail,
        });
        if let HttpError::TooLarge { .. } = &self {
            // RFC 8620, 3.6.1: which limit it is.
            problem["type"] = json!("urn:ietf:params:jmap:error:limit");
            problem["limit"] = json!("maxSizeUpload");
        }
        if let HttpError::Jmap(error) = &self {
            problem = error.problem(status.as_u16());
        }
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            HttpError::Unauthorized { offers_basic } => {
                if offers_basic {
                    let basic = HeaderValue::from_static("Basic realm=\"Postrider\", charset=\"UTF-8\"");
                    headers.append(header::WWW_AUTHENTICATE, basic);
                }
                let bearer = HeaderValue::from_static("Bearer realm=\"Postrider\"");
                headers.append(header::WWW_AUTHENTICATE, bearer);
            }
            HttpError::TooMany { retry_after_seconds, .. } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
            }
            HttpError::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(5));
            }
            HttpError::RangeNotSatisfiable { size } => {
                if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
                    headers.insert(header::CONTENT_RANGE, range);
                }
            }
            _ => {}
        }
        response
    }
}

/// Answers every path that is none.
pub async fn not_found() -> HttpError {
    HttpError::NotFound
}
