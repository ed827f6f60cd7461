//! The log as a stream of Server-Sent Events. It ends with the key, when the login changes, and when the server
//! stops; the client comes back with the id of the last event.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;

use crate::events::feed::{Listener, Wake};
use crate::events::object::EventObject;
use crate::http::auth::expiry_of;
use crate::http::limits::PushPlace;
use crate::http::rest::events::{PAGE, read_on};
use crate::http::rest::key::Key;
use crate::http::state::HttpState;
use crate::store::event::log::{Cursor, LoggedEvent, View};
use crate::types::event::EventKinds;

/// After so long without an event the place is told, which keeps the connection open.
const PLACE_AFTER: Duration = Duration::from_secs(15);

struct Streaming {
    http: HttpState,
    listener: Listener,
    view: View,
    kinds: EventKinds,
    cursor: Cursor,
    events: VecDeque<LoggedEvent>,
    is_new: bool,
}

/// The answer that is a stream.
pub fn answer(
    http: HttpState,
    key: Key,
    place: PushPlace,
    listener: Listener,
    view: View,
    cursor: Cursor,
    kinds: EventKinds,
) -> Response {
    let clock = http.app.clock.clone();
    let ended = Box::pin(async move {
        let _place = place;
        expiry_of(key.caller.expires_at, clock).await;
    });
    let streaming = Streaming { http, listener, view, kinds, cursor, events: VecDeque::new(), is_new: true };
    let events = unfold(streaming, |mut streaming| async move {
        let text = streaming.next().await?;
        Some((Ok::<Bytes, Infallible>(text), streaming))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies of the nginx family would gather the stream otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(events.take_until(ended))).into_response()
}

impl Streaming {
    /// What is written next; nothing more when `None`.
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_new) {
            // Something must be written at once, or some proxies and browsers hold the answer back.
            return Some(place(self.cursor));
        }
        loop {
            // Also while there is more to be read than the client takes.
            if self.listener.ends() {
                return None;
            }
            if let Some(event) = self.events.pop_front() {
                return Some(text_of(EventObject::from(event)));
            }
            let page = read_on(&self.http, &self.view, self.cursor, self.kinds, PAGE).await;
            // Whoever comes back is told what is wrong.
            let Ok(page) = page.inspect_err(|problem| {
                tracing::info!(detail = problem.details().detail, "a stream of events ends");
            }) else {
                return None;
            };
            self.cursor = page.next;
            self.events = page.events.into();
            if !self.events.is_empty() || page.has_more {
                continue;
            }
            match tokio::time::timeout(PLACE_AFTER, self.listener.wake()).await {
                Ok(Wake::News) => {}
                Ok(Wake::LoginChanged | Wake::Closing) => return None,
                Err(_) => return Some(place(self.cursor)),
            }
        }
    }
}

/// Tells where the stream is, which is no event: whoever comes back without having heard of one goes on there.
fn place(cursor: Cursor) -> Bytes {
    Bytes::from(format!("id: {cursor}\n\n"))
}

fn text_of(event: EventObject) -> Bytes {
    let data = serde_json::to_string(&event).unwrap_or_default();
    Bytes::from(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.cursor, event.r#type))
}
