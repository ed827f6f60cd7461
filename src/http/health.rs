//! Whether the process lives, whether it can serve, and its figures.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::Mutex;

use crate::bus::Queue;
use crate::http::error::HttpError;
use crate::http::state::HttpState;
use crate::store::{cluster, server_key};

/// `GET /healthz`.
pub async fn live() -> &'static str {
    "ok\n"
}

/// How long an answer serves everyone who asks: it costs a sync of the disk, or a look at the whole
/// queues, and nobody signs in to ask.
const FRESH: Duration = Duration::from_secs(1);

/// The last answers of the endpoints that cost something.
#[derive(Default)]
pub struct LastAnswers {
    ready: Mutex<Option<(Instant, StatusCode, String)>>,
    measured: Mutex<Option<Instant>>,
}

/// `GET /readyz`: every part behind answers.
pub async fn ready(State(http): State<HttpState>) -> Response {
    // Whoever comes while another asks waits for that answer.
    let mut last = http.last_answers.ready.lock().await;
    let (status, text) = match last.as_ref().filter(|(at, ..)| at.elapsed() < FRESH) {
        Some((_, status, text)) => (*status, text.clone()),
        None => {
            let (status, text) = ask_all(&http).await;
            *last = Some((Instant::now(), status, text.clone()));
            (status, text)
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn ask_all(http: &HttpState) -> (StatusCode, String) {
    let database = server_key::look(&http.app.store).await.map_err(|error| error.to_string());
    let blobs = http.app.blobs.ready().await.map_err(|error| error.to_string());
    let is_ready = database.is_ok() && blobs.is_ok();
    let told = |outcome: Result<(), String>| outcome.err().unwrap_or_else(|| "ok".to_owned());
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json!({ "ready": is_ready, "database": told(database), "blobs": told(blobs) }).to_string())
}

/// `GET /metrics`, Prometheus text.
pub async fn metrics(State(http): State<HttpState>) -> Result<Response, HttpError> {
    let handle = http.metrics.as_ref().ok_or(HttpError::NotFound)?;
    let mut measured = http.last_answers.measured.lock().await;
    if measured.is_none_or(|at| at.elapsed() >= FRESH) {
        // What is wrong with the database is among the figures; the others are wanted all the more.
        if let Err(error) = measure_queues(&http).await {
            tracing::warn!(?error, "the queues could not be measured");
        }
        *measured = Some(Instant::now());
    }
    drop(measured);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response())
}

async fn measure_queues(http: &HttpState) -> Result<(), HttpError> {
    let mut snapshot = http.app.store.read().await?;
    for (queue, name) in [
        (Queue::Incoming, "incoming"),
        (Queue::Outgoing, "outgoing"),
        (Queue::Index, "index"),
        (Queue::Push, "push"),
        (Queue::Events, "events"),
        (Queue::Webhooks, "webhooks"),
    ] {
        let depth = cluster::queue_depth(&mut snapshot, queue).await?;
        let now_ms = http.app.clock.now_ms();
        let age_ms = depth.oldest_created_at.map_or(0, |oldest| (now_ms - oldest).max(0));
        metrics::gauge!("postrider_queue_messages", "queue" => name).set((depth.rows - depth.held) as f64);
        metrics::gauge!("postrider_queue_held_messages", "queue" => name).set(depth.held as f64);
        metrics::gauge!("postrider_queue_oldest_seconds", "queue" => name).set(age_ms as f64 / 1000.0);
    }
    Ok(())
}
