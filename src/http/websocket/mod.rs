//! `GET /jmap/ws`: JMAP over a WebSocket (RFC 8887). Here is the handshake (RFC 6455, 4.2); a connection's
//! life is in `connection.rs`, and what is said on it in `message.rs`.

mod connection;
mod live;
mod message;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::http::auth::{Shown, ticket_of};
use crate::http::error::HttpError;
use crate::http::limits::PushPlace;
use crate::http::origin::Origin;
use crate::http::server::Place;
use crate::http::state::HttpState;
use crate::http::ticket::Purpose;
use crate::http::websocket::connection::Connection;
use crate::jmap::call::Caller;
use crate::jmap::limits::MAX_SIZE_REQUEST;
use crate::push::hub::Listener;
use crate::types::scope::Scope;

/// The subprotocol (RFC 8887, 4.1).
const SUBPROTOCOL: &str = "jmap";
/// Octets read at a time. Each connection has this buffer for as long as it lives, so it is small.
const READ_BUFFER: usize = 2 << 10;

/// Opens a WebSocket.
pub async fn get(State(http): State<HttpState>, request: Request) -> Result<Response, HttpError> {
    let (mut parts, _) = request.into_parts();
    let Some(key) = handshake_key(&parts.headers)? else {
        return Ok(upgrade_required());
    };
    let origin = parts.extensions.get::<Origin>().cloned().ok_or(HttpError::Internal)?;
    let place = parts.extensions.get::<Place>().cloned().ok_or(HttpError::Internal)?;
    let on_upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>().ok_or_else(|| {
        HttpError::BadRequest("This connection cannot become a WebSocket; use HTTP/1.1.".to_owned())
    })?;
    let (caller, held, listener) = come_in(&http, &mut parts, &origin, place).await?;
    let mut connection = Box::new(Connection::new(http, caller, origin.base_url, listener));
    tokio::spawn(async move {
        let _held = held;
        // The connection ends before the upgrade when the client leaves.
        let Ok(upgraded) = on_upgrade.await else { return };
        // What lives as long as the connection is on the heap once, and not in each future around it.
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_SIZE_REQUEST))
            .max_frame_size(Some(MAX_SIZE_REQUEST));
        let io = TokioIo::new(upgraded);
        let mut socket = Box::new(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await);
        connection.run(&mut socket).await;
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.map_err(|_| HttpError::Internal)?);
    Ok(response)
}

/// Waits for its turn, signs in, takes a place, and listens.
async fn come_in(
    http: &HttpState,
    parts: &mut Parts,
    origin: &Origin,
    place: Place,
) -> Result<(Caller, (PushPlace, Place), Listener), HttpError> {
    let shown = Shown::of(parts, http, &Purpose::WebSocket)?;
    http.openings.turn(origin.client).await?;
    let login_news = http.hub.login_news();
    let caller = shown.enter(parts, http).await?;
    match ticket_of(&parts.uri) {
        Some(ticket) => {
            if !http.tickets.use_up(&ticket).await {
                return Err(HttpError::Unauthorized { offers_basic: false });
            }
        }
        None => check_page(&parts.headers, &origin.base_url)?,
    }
    // What is pushed is read.
    caller.needs(Scope::Read)?;
    let held = (http.push_places.enter(caller.login_id)?, place);
    let accounts: Vec<_> = caller.accounts.iter().map(|account| account.id).collect();
    let listener = http.hub.listen(caller.login_id, &accounts, Vec::new());
    // A credential that went between the check and the listening was not told here: look again.
    if login_news.is_none() || http.hub.login_news() != login_news {
        shown.enter(parts, http).await?;
    }
    Ok((caller, held, listener))
}

/// The key of a handshake; `None` when the request is none, or one of another version.
fn handshake_key(headers: &HeaderMap) -> Result<Option<HeaderValue>, HttpError> {
    let is_handshake = has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket")
        && has_token(headers, header::SEC_WEBSOCKET_VERSION, "13");
    if !is_handshake {
        return Ok(None);
    }
    if !has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        let text = "Sec-WebSocket-Protocol must offer jmap (RFC 8887, 4.1).".to_owned();
        return Err(HttpError::BadRequest(text));
    }
    // RFC 6455, 4.1: 16 octets in base64.
    match headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24) {
        Some(key) => Ok(Some(key.clone())),
        None => Err(HttpError::BadRequest("Sec-WebSocket-Key is missing or wrong.".to_owned())),
    }
}

/// Whether a header field that is a list names a token, in whatever case.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// RFC 6455, 4.4, with the versions that are spoken here.
fn upgrade_required() -> Response {
    let mut response =
        (StatusCode::UPGRADE_REQUIRED, Body::from("This is a WebSocket (RFC 8887).\n")).into_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// A browser sends a password that it remembers with a handshake of any page, so pages of other sites
/// have to show a ticket, which only somebody who knows the password could get.
fn check_page(headers: &HeaderMap, base_url: &str) -> Result<(), HttpError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let (scheme, rest) = base_url.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let ours = format!("{scheme}://{host}");
    if origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&ours)) {
        return Ok(());
    }
    Err(HttpError::Forbidden(
        "A page of another site opens a WebSocket with a ticket: POST {\"purpose\": \"webSocket\"} to /jmap/ticket.",
    ))
}
