//! Whether the process lives, whether it can serve, and its figures.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::bus::Queue;
use crate::http::error::HttpError;
use crate::http::state::HttpState;
use crate::store::cluster;

/// `GET /healthz`.
pub async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: every part behind answers.
pub async fn ready(State(http): State<HttpState>) -> Response {
    let database = match http.app.store.read().await {
        Ok(mut snapshot) => cluster::account_list(&mut snapshot, Default::default(), 1).await.map(drop),
        Err(error) => Err(error),
    };
    let database = database.map_err(|error| error.to_string());
    let blobs = http.app.blobs.ready().await.map_err(|error| error.to_string());
    let is_ready = database.is_ok() && blobs.is_ok();
    let told = |outcome: Result<(), String>| outcome.err().unwrap_or_else(|| "ok".to_owned());
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": is_ready, "database": told(database), "blobs": told(blobs) })))
        .into_response()
}

/// `GET /metrics`, Prometheus text.
pub async fn metrics(State(http): State<HttpState>) -> Result<Response, HttpError> {
    let handle = http.metrics.as_ref().ok_or(HttpError::NotFound)?;
    let mut snapshot = http.app.store.read().await?;
    for (queue, name) in
        [(Queue::Incoming, "incoming"), (Queue::Outgoing, "outgoing"), (Queue::Index, "index")]
    {
        let depth = cluster::queue_depth(&mut snapshot, queue).await?;
        let now_ms = http.app.clock.now_ms();
        let age_ms = depth.oldest_created_at.map_or(0, |oldest| (now_ms - oldest).max(0));
        metrics::gauge!("postrider_queue_messages", "queue" => name).set((depth.rows - depth.held) as f64);
        metrics::gauge!("postrider_queue_held_messages", "queue" => name).set(depth.held as f64);
        metrics::gauge!("postrider_queue_oldest_seconds", "queue" => name).set(age_ms as f64 / 1000.0);
    }
    drop(snapshot);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response())
}
