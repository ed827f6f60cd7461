//! The HTTP face: the router and its endpoints. JMAP methods are in `jmap`, push in `push`; here is
//! what is HTTP about them.

pub mod api;
pub mod auth;
pub mod body;
pub mod cors;
pub mod docs;
pub mod download;
pub mod error;
pub mod event_source;
#[cfg(test)]
pub mod fixture;
pub mod health;
pub mod limits;
pub mod origin;
pub mod rest;
pub mod server;
pub mod session;
pub mod state;
pub mod ticket;
pub mod upload;
pub mod websocket;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::config::role::{Role, Roles};
use crate::http::state::HttpState;

/// The routes of a process with these roles. Whether it lives and can serve can be asked of any.
pub fn router(state: HttpState, roles: &Roles) -> Router {
    let mut jmap = Router::new();
    if roles.has(Role::Api) {
        jmap = jmap.merge(api_routes()).nest(rest::BASE, rest::router().0);
    }
    if roles.has(Role::Push) {
        jmap = jmap.route("/jmap/eventsource", get(event_source::get)).route("/jmap/ws", get(websocket::get));
    }
    // Each handler limits its own body.
    let jmap = jmap.layer(DefaultBodyLimit::disable()).layer(axum::middleware::from_fn(cors::allow));
    Router::new()
        .merge(jmap)
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(error::not_found)
        .layer(from_fn_with_state(state.clone(), origin::note))
        .with_state(state)
}

fn api_routes() -> Router<HttpState> {
    Router::new()
        // RFC 8620, 2.2: served here itself, since some clients lose their credentials on a redirect.
        .route("/.well-known/jmap", get(session::get))
        .route("/jmap/session", get(session::get))
        .route("/jmap/api", post(api::post))
        .route("/jmap/upload/{account}", post(upload::post))
        .route("/jmap/download/{account}/{blob}/{name}", get(download::get))
        .route("/jmap/ticket", post(ticket::post))
        .route("/docs", get(docs::page))
        .route("/docs/redoc.js", get(docs::script))
}
