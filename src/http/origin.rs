//! Who asks and under which address they know us: the peer's address, and the URL that absolute
//! links start with. Forwarded headers count only when the peer is a trusted proxy.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::http::error::HttpError;
use crate::http::state::HttpState;

/// How a connection came in, as the server's listener knows it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other end of the socket.
    pub address: SocketAddr,
    /// Whether it is encrypted.
    pub is_tls: bool,
}

/// What is known of a request's origin.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address.
    pub client: IpAddr,
    /// `https://mail.example.org`, without a slash at the end.
    pub base_url: String,
}

/// The address of the client of a request.
pub fn client_of(parts: &Parts) -> Result<IpAddr, HttpError> {
    parts.extensions.get::<Origin>().map(|origin| origin.client).ok_or(HttpError::Internal)
}

/// Notes the origin in the request, and follows the request in the log under one id.
pub async fn note(
    State(state): State<HttpState>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = origin_of(&state, peer, request.headers());
    let id = state.app.store.ids().make();
    let span = tracing::info_span!("http", %id, method = %request.method(), path = request.uri().path(), client = %origin.client);
    request.extensions_mut().insert(origin);
    let began = std::time::Instant::now();
    async move {
        let mut response = next.run(request).await;
        if let Ok(value) = id.to_string().parse() {
            response.headers_mut().insert("x-request-id", value);
        }
        let took = began.elapsed();
        let status = response.status().as_u16();
        metrics::counter!("postrider_http_requests_total", "status" => status.to_string()).increment(1);
        metrics::histogram!("postrider_http_request_seconds").record(took.as_secs_f64());
        tracing::debug!(status, took_us = took.as_micros() as u64, "answered");
        response
    }
    .instrument(span)
    .await
}

fn origin_of(state: &HttpState, peer: Peer, headers: &HeaderMap) -> Origin {
    let config = &state.app.config;
    let socket_address = peer.address.ip().to_canonical();
    let is_proxy = config.trusted_proxies.iter().any(|network| network.contains(socket_address));
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = |name: &str| text(name).filter(|_| is_proxy);
    // The last entry is the one that our own proxy wrote.
    let client = forwarded("x-forwarded-for")
        .and_then(|list| list.rsplit(',').next())
        .and_then(|address| address.trim().parse().ok())
        .unwrap_or(socket_address);
    let base_url = match &config.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let scheme = match forwarded("x-forwarded-proto") {
                Some("https") => "https",
                Some(_) => "http",
                None if peer.is_tls => "https",
                None => "http",
            };
            let host = forwarded("x-forwarded-host")
                .or_else(|| text(header::HOST.as_str()))
                .filter(|host| is_host(host))
                .map_or_else(|| config.http_listen.to_string(), str::to_owned);
            format!("{scheme}://{host}")
        }
    };
    Origin { client, base_url }
}

/// Whether a text can stand as the host of a URL.
fn is_host(host: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    !host.is_empty() && host.len() <= 300 && host.bytes().all(legal)
}
