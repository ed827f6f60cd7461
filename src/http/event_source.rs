//! `GET /jmap/eventsource` (RFC 8620, 7.3).

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;

use crate::http::auth::{Shown, expiry_of};
use crate::http::error::HttpError;
use crate::http::limits::PushPlace;
use crate::http::origin::client_of;
use crate::http::state::HttpState;
use crate::http::ticket::Purpose;
use crate::jmap::call::Caller;
use crate::push::event_source::{Options, read_event_id, stream};
use crate::push::hub::Listener;
use crate::push::online::Online;
use crate::types::id::AccountId;
use crate::types::object_type::ObjectType;
use crate::types::scope::Scope;

#[derive(Deserialize)]
pub struct Parameters {
    types: Option<String>,
    closeafter: Option<String>,
    ping: Option<String>,
}

impl Parameters {
    /// The types that are wanted, and how they are told.
    fn read(&self) -> Result<(Vec<ObjectType>, Options), HttpError> {
        let types = match self.types.as_deref() {
            None | Some("*" | "") => ObjectType::ALL.to_vec(),
            // Types that this server does not have never change.
            Some(list) => list.split(',').filter_map(|name| ObjectType::named(name.trim())).collect(),
        };
        let close_after_state = match self.closeafter.as_deref() {
            None | Some("no") => false,
            Some("state") => true,
            Some(_) => return Err(HttpError::BadRequest("closeafter is state or no.".to_owned())),
        };
        let ping_seconds = match self.ping.as_deref() {
            None => 0,
            Some(text) => {
                text.parse().map_err(|_| HttpError::BadRequest("ping is a number of seconds.".to_owned()))?
            }
        };
        Ok((types, Options { close_after_state, ping_seconds }))
    }
}

/// Opens a stream of events.
pub async fn get(
    State(http): State<HttpState>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Result<Response, HttpError> {
    let (mut parts, _) = request.into_parts();
    let (caller, place, listener, options) = come_in(&http, &mut parts, &parameters).await?;
    let held = (place, Online::event_source());
    // It ends with the token, and gives its place back when it is dropped.
    let ended = Box::pin(async move {
        let _held = held;
        expiry_of(caller.expires_at, http.app.clock.clone()).await;
    });
    let accounts = listener.accounts();
    let events = stream(listener, accounts, options).take_until(ended);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies of the nginx family would gather the stream otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// Waits for its turn, signs in, takes a place, and listens.
async fn come_in(
    http: &HttpState,
    parts: &mut Parts,
    parameters: &Parameters,
) -> Result<(Caller, PushPlace, Listener, Options), HttpError> {
    let shown = Shown::of(parts, http, &Purpose::EventSource)?;
    http.openings.turn(client_of(parts)?).await?;
    let login_news = http.hub.login_news();
    let caller = shown.enter(parts, http).await?;
    caller.needs(Scope::Read)?;
    let (types, options) = parameters.read()?;
    let place = http.push_places.enter(caller.login_id)?;
    let accounts: Vec<AccountId> = caller.accounts.iter().map(|account| account.id).collect();
    let mut listener = http.hub.listen(caller.login_id, &accounts, types);
    // A credential that went between the check and the listening was not told here: look again.
    if login_news.is_none() || http.hub.login_news() != login_news {
        shown.enter(parts, http).await?;
    }
    let last_id = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    match last_id.filter(|id| !id.is_empty()) {
        Some(id) => listener.assume_told(read_event_id(id)),
        // The client reads the objects itself now; it wants to hear of what comes after.
        None => drop(listener.news(&accounts).await?),
    }
    Ok((caller, place, listener, options))
}
