//! What happens to mail: the log of a domain or of an account, read page by page, awaited, or as a stream.

mod stream;
pub mod webhooks;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::events::feed::Wake;
use crate::events::object::EventObject;
use crate::http::origin::client_of;
use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::OfAccount;
use crate::http::rest::parameters::{Path, Query, page_limit};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::store::directory::domain;
use crate::store::event::log::{self, Cursor, Page, View};
use crate::types::address::normalize_domain;
use crate::types::event::{EventKind, EventKinds};
use crate::types::id::Id;
use crate::types::scope::Scope;

/// Events of a page, unless it is said otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 500;
/// Seconds that a request may wait for events.
const MAX_WAIT: u64 = 60;
/// Looks at the log that one request has: each is at a thousand events.
const LOOKS: usize = 10;
/// Events that a timeline tells.
const MAX_TIMELINE: usize = 1_000;

/// Whose events are meant.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Whose {
    /// The account, by its id or its primary address; else the key's own, unless a domain is named.
    #[param(example = "shop@example.org")]
    account: Option<String>,
    /// The domain, for a key that goes as far: all of its accounts.
    #[param(example = "example.org")]
    domain: Option<String>,
}

/// What is read of a log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// The account, by its id or its primary address; else the key's own, unless a domain is named.
    #[param(example = "shop@example.org")]
    account: Option<String>,
    /// The domain, for a key that goes as far: all of its accounts.
    #[param(example = "example.org")]
    domain: Option<String>,
    /// The cursor of the last event that is known, or `latest` for what is still to come; else the log is read
    /// from its beginning.
    #[param(example = "1041.77.0")]
    after: Option<String>,
    /// Types of events, with commas between; else all.
    #[param(example = "message.delivered,message.bounced")]
    types: Option<String>,
    /// Events of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
    /// Seconds to wait for an event at the most, when there is none.
    #[param(minimum = 0, maximum = 60, default = 0)]
    wait: Option<u64>,
}

/// Events in their order.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventPage {
    events: Vec<EventObject>,
    /// `after` for what comes next; there is always one.
    next_cursor: String,
    /// Whether there is more now.
    has_more: bool,
}

/// What became of a send, step by step.
#[derive(Serialize, ToSchema)]
pub struct Timeline {
    /// The oldest first, a thousand at the most.
    events: Vec<EventObject>,
}

impl Key {
    /// The log, or the part of one, that a call is about.
    async fn view(&self, http: &HttpState, whose: &Whose) -> Result<View, Problem> {
        if let Some(domain) = &whose.domain {
            if whose.account.is_some() {
                return Err(Problem::invalid("Name an account or a domain, not both."));
            }
            let name = normalize_domain(domain).filter(|name| self.reach.covers_domain(name));
            let none = || Problem::not_found("There is no such domain for this key.");
            let name = name.ok_or_else(none)?;
            let found = domain::get(&mut *http.app.store.read().await?, &name).await?;
            return Ok(View { domain: found.ok_or_else(none)?.name, account: None });
        }
        let account = self.account(http, whose.account.as_deref()).await?;
        let domain = account.name.rsplit('@').next().unwrap_or_default().to_owned();
        Ok(View { domain, account: Some(account.id) })
    }

    /// The kinds of events that the key may hear of: with `send` alone, those of what was sent.
    fn audible(&self) -> Result<EventKinds, Problem> {
        if self.caller.scopes.has(Scope::Read) {
            return Ok(EventKinds::ALL);
        }
        self.needs(Scope::Send).map_err(|_| Problem::missing_scope(Scope::Read))?;
        Ok(EventKinds::of(EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Received)))
    }

    /// The kinds of these names, none of which the key may not hear of; all that it may, without names.
    fn kinds<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<EventKinds, Problem> {
        let audible = self.audible()?;
        let mut kinds = Vec::new();
        for name in names {
            let kind: EventKind =
                name.parse().map_err(|error: String| Problem::invalid(format!("{error}.")))?;
            if !audible.has(kind) {
                return Err(Problem::missing_scope(Scope::Read));
            }
            kinds.push(kind);
        }
        Ok(if kinds.is_empty() { audible } else { EventKinds::of(kinds) })
    }
}

/// The cursor that a call names, which is still good.
async fn cursor_of(http: &HttpState, view: &View, named: Option<&str>) -> Result<Cursor, Problem> {
    let mut snapshot = http.app.store.read().await?;
    let cursor: Cursor = match named {
        None | Some("") => return Ok(Cursor::default()),
        Some("latest") => return Ok(log::latest(&mut snapshot, view).await?),
        Some(text) => text
            .parse()
            .map_err(|()| Problem::invalid("after: this is no cursor of this API, nor `latest`."))?,
    };
    let head = log::head(&mut snapshot, &view.domain).await?;
    if cursor.seq > head.seq {
        return Err(Problem::invalid("after: this is no cursor of this log."));
    }
    if head.has_outlived(cursor) {
        return Err(expired());
    }
    Ok(log::placed(&mut snapshot, view, cursor).await?)
}

fn expired() -> Problem {
    let text = "Events after this cursor are gone (`keep_events`). Look at the messages themselves, and go on with \
                `latest`.";
    Problem::new(Code::CursorExpired, text)
}

/// Reads on from a cursor until there is something that is wanted, or nothing more.
async fn read_on(
    http: &HttpState,
    view: &View,
    mut cursor: Cursor,
    kinds: EventKinds,
    limit: usize,
) -> Result<Page, Problem> {
    let mut looks = 0;
    loop {
        let mut snapshot = http.app.store.read().await?;
        let page = log::read(&mut snapshot, view, cursor, kinds, limit).await?;
        // Since it was checked.
        if page.is_outlived {
            return Err(expired());
        }
        looks += 1;
        if !page.events.is_empty() || !page.has_more || looks == LOOKS {
            return Ok(page);
        }
        cursor = page.next;
    }
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// Read events
///
/// The log of an account or a domain, in its order: every event is there once, and none is added before one that
/// was read. With `wait` the answer comes when there is an event. With `Accept: text/event-stream` it is a stream of
/// Server-Sent Events, which a client resumes by `Last-Event-ID`.
#[utoipa::path(get, path = "/events", security(("key" = ["read"]), ("key" = ["send"])), tag = "Events", operation_id = "listEvents", params(ListParameters),
    responses((status = 200, description = "The answer", content((EventPage = "application/json"), (String = "text/event-stream"))), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    mut key: Key,
    Query(parameters): Query<ListParameters>,
    parts: Parts,
) -> Result<Response, Problem> {
    let ListParameters { account, domain, after, types, limit, wait } = parameters;
    let kinds = key.kinds(types.iter().flat_map(|types| types.split(',').map(str::trim)))?;
    let limit = page_limit(limit, PAGE, MAX_PAGE)?;
    let wait = wait.unwrap_or_default();
    if wait > MAX_WAIT {
        return Err(Problem::invalid(format!("wait: a number from 0 to {MAX_WAIT} is wanted.")));
    }
    let view = key.view(&http, &Whose { account, domain }).await?;
    if accepts_stream(&parts.headers) {
        let resumed = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let cursor = cursor_of(&http, &view, resumed.or(after.as_deref())).await?;
        http.openings.turn(client_of(&parts)?).await?;
        let (place, login) = key.settle_down(&http, &parts).await?;
        let listener = http.feed.listen(&view, login);
        return Ok(stream::answer(http, key, place, listener, view, cursor, kinds));
    }
    let cursor = cursor_of(&http, &view, after.as_deref()).await?;
    let mut page = read_on(&http, &view, cursor, kinds, limit).await?;
    if wait > 0 && page.events.is_empty() && !page.has_more {
        let until = Instant::now() + Duration::from_secs(wait);
        let (_place, login) = key.settle_down(&http, &parts).await?;
        let mut listener = http.feed.listen(&view, login);
        loop {
            // The first time for what came before somebody listened.
            page = read_on(&http, &view, page.next, kinds, limit).await?;
            if !page.events.is_empty() || page.has_more || Instant::now() >= until {
                break;
            }
            match tokio::time::timeout_at(until, listener.wake()).await {
                // Whether the key is still good is found out when it comes again.
                Ok(Wake::Closing | Wake::LoginChanged) => break,
                Ok(Wake::News) | Err(_) => {}
            }
        }
    }
    let page = EventPage {
        next_cursor: page.next.to_string(),
        has_more: page.has_more,
        events: page.events.into_iter().map(EventObject::from).collect(),
    };
    Ok(Json(page).into_response())
}

/// Look at the timeline of a send
///
/// What became of it for each recipient, step by step.
#[utoipa::path(get, path = "/sends/{id}/timeline", security(("key" = ["read"]), ("key" = ["send"])), tag = "Sending", operation_id = "getSendTimeline",
    params(("id" = String, Path, description = "Its id"), OfAccount),
    responses((status = 200, description = "The answer", body = Timeline), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn timeline(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<Json<Timeline>, Problem> {
    key.audible()?;
    let view = key.view(&http, &Whose { account: of.account, domain: None }).await?;
    let none = || Problem::not_found("There is no such send in this account.");
    let id: Id = id.parse().map_err(|_| none())?;
    let mut snapshot = http.app.store.read().await?;
    let account = view.account.unwrap_or_default();
    let events = log::of_submission(&mut snapshot, &view.domain, account, id, MAX_TIMELINE).await?;
    if events.is_empty() && crate::store::submission::by_ids(&mut snapshot, account, &[id]).await?.is_empty()
    {
        return Err(none());
    }
    Ok(Json(Timeline { events: events.into_iter().map(EventObject::from).collect() }))
}
