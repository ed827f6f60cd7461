//! `POST /jmap/api` (RFC 8620, 3).

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::http::auth::SignedIn;
use crate::http::body::{Unread, read_whole};
use crate::http::error::HttpError;
use crate::http::limits::Kind;
use crate::http::origin::Origin;
use crate::http::state::HttpState;
use crate::jmap::error::RequestError;
use crate::jmap::limits::MAX_SIZE_REQUEST;
use crate::jmap::request::Request;
use crate::jmap::session::state;

/// Runs a request.
pub async fn post(
    State(http): State<HttpState>,
    Extension(origin): Extension<Origin>,
    SignedIn(caller, _): SignedIn,
    headers: axum::http::HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let place = http.concurrency.enter(Kind::Request, caller.login_id).await.map_err(HttpError::Jmap)?;
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
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
    let body = match read_whole(body, MAX_SIZE_REQUEST).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => return Err(too_large()),
        Err(unread) => return Err(unread.into()),
    };
    let request = Request::parse(&body).map_err(HttpError::Jmap)?;
    drop(body);
    // A task of its own: a client that hangs up frees its place only once the work has ended.
    let jmap = http.jmap.clone();
    let run = async move {
        let _place = place;
        request.run(&jmap, &caller, &state(&jmap, &origin.base_url, &caller)).await
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::json;

    use crate::http::fixture::Fixture;
    use crate::jmap::limits::MAX_CONCURRENT_REQUESTS;

    use super::*;

    fn headers(content_type: Option<&'static str>) -> axum::http::HeaderMap {
        let value = content_type.map(HeaderValue::from_static);
        value.map(|value| (header::CONTENT_TYPE, value)).into_iter().collect()
    }

    async fn ask(
        fixture: &Fixture,
        content_type: Option<&'static str>,
        body: Body,
    ) -> Result<Response, HttpError> {
        let (state, origin) = (State(fixture.state.clone()), Extension(fixture.origin()));
        post(state, origin, fixture.signed_in(), headers(content_type), body).await
    }

    #[tokio::test]
    async fn a_request_is_application_json() {
        let fixture = Fixture::new().await;
        let body = || Body::from(r#"{"using":[],"methodCalls":[]}"#);
        for fine in ["application/json", "Application/JSON;charset=utf-8"] {
            assert!(ask(&fixture, Some(fine), body()).await.is_ok(), "{fine}");
        }
        for wrong in [None, Some("text/plain"), Some("application/json-patch+json"), Some("")] {
            let answer = ask(&fixture, wrong, body()).await;
            assert!(matches!(answer, Err(HttpError::Jmap(RequestError::NotJson(_)))), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_frees_its_place_only_when_the_work_has_ended() {
        let fixture = Fixture::new().await;
        let set = json!({"accountId": fixture.caller.accounts[0].id.to_string()});
        let using = ["urn:ietf:params:jmap:mail"];
        let body = json!({"using": using, "methodCalls": [["Mailbox/set", set, "0"]]}).to_string();
        // On the one thread of this test the work does not begin before the test waits.
        let mut asking = Box::pin(ask(&fixture, Some("application/json"), Body::from(body)));
        assert!(asking.as_mut().now_or_never().is_none());
        let enter = || fixture.state.concurrency.enter(Kind::Request, fixture.caller.login_id);
        let others: Vec<_> =
            (1..MAX_CONCURRENT_REQUESTS).map(|_| enter().now_or_never().unwrap().unwrap()).collect();
        assert!(enter().now_or_never().is_none(), "all places are taken");
        drop(asking);
        assert!(enter().now_or_never().is_none(), "the work has not ended");
        assert!(enter().await.is_ok());
        drop(others);
    }
}
