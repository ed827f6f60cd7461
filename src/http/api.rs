//! `POST /jmap/api` (RFC 8620, 3).

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tracing::Instrument;

use crate::http::auth::SignedIn;
use crate::http::error::HttpError;
use crate::http::limits::Kind;
use crate::http::state::HttpState;
use crate::jmap::error::RequestError;
use crate::jmap::limits::MAX_SIZE_REQUEST;
use crate::jmap::request::Request;
use crate::jmap::session::state;

/// Runs a request.
pub async fn post(
    State(http): State<HttpState>,
    SignedIn(caller, _): SignedIn,
    headers: axum::http::HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let place = http.concurrency.enter(Kind::Request, caller.login_id).await.map_err(HttpError::Jmap)?;
    let is_json = headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let text = "The Content-Type of a request is application/json.".to_owned();
        return Err(HttpError::Jmap(RequestError::NotJson(text)));
    }
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > MAX_SIZE_REQUEST as u64) {
        return Err(too_large());
    }
    let body = read_limited(body).await?;
    let request = Request::parse(&body).map_err(HttpError::Jmap)?;
    drop(body);
    // A task of its own: a client that hangs up frees its place only once the work has ended.
    let jmap = http.jmap.clone();
    let run = async move {
        let _place = place;
        request.run(&jmap, &caller, &state(&caller)).await
    };
    let answer = tokio::spawn(run.in_current_span()).await.map_err(|_| HttpError::Internal)?;
    let mut response = (StatusCode::OK, answer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn too_large() -> HttpError {
    HttpError::Jmap(RequestError::Limit {
        limit: "maxSizeRequest",
        detail: format!("A request may have at most {MAX_SIZE_REQUEST} octets."),
    })
}

async fn read_limited(body: Body) -> Result<bytes::Bytes, HttpError> {
    match Limited::new(body, MAX_SIZE_REQUEST).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(HttpError::BadRequest("The body ended before it was whole.".to_owned())),
    }
}
