//! Lists of messages, the newest first.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::{named, read_list};
use crate::http::rest::messages::emails;
use crate::http::rest::messages::object::{MessagePage, MessageSummary, SUMMARY};
use crate::http::rest::parameters::{Query, page_limit, read_cursor};
use crate::http::rest::problem::{Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::jmap::call::AccountAccess;
use crate::jmap::request::call_one;
use crate::store::email::read as email;
use crate::types::date::{DATES, millis_date, parse_date, utc_date};
use crate::types::id::Id;
use crate::types::scope::Scope;

/// Messages of a page, unless it is said otherwise, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// Which messages are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ListParameters {
    /// The account, by its primary address or its id; else the key's own.
    account: Option<String>,
    /// Only those in this mailbox, by its id or its role, such as `inbox`.
    #[param(example = "inbox")]
    mailbox: Option<String>,
    /// Only those with these words in text, subject or addresses; `"in quotes"` for a phrase.
    search: Option<String>,
    /// Only those from an address or a name with these words.
    from: Option<String>,
    /// Only those to an address or a name with these words.
    to: Option<String>,
    /// Only those with these words in the subject.
    subject: Option<String>,
    /// Only those that were read, or only those that were not.
    seen: Option<bool>,
    /// Only those that are flagged, or only those that are not.
    flagged: Option<bool>,
    /// Only those with attachments, or only those without.
    has_attachment: Option<bool>,
    /// Only those received at this time or later (RFC 3339).
    #[param(format = DateTime)]
    after: Option<String>,
    /// Only those received before this time (RFC 3339).
    #[param(format = DateTime)]
    before: Option<String>,
    /// Messages of a page, at most 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// Where the page begins: `nextCursor` of the page before.
    cursor: Option<String>,
}

impl ListParameters {
    async fn filter(&self, http: &HttpState, account: &AccountAccess) -> Result<Vec<Value>, Problem> {
        let mut conditions: Vec<Value> = Vec::new();
        if let Some(mailbox) = &self.mailbox {
            conditions.push(json!({ "inMailbox": named(http, account, mailbox).await?.to_string() }));
        }
        let texts =
            [("text", &self.search), ("from", &self.from), ("to", &self.to), ("subject", &self.subject)];
        for (name, text) in texts {
            conditions.extend(text.as_ref().map(|text| json!({ name: text })));
        }
        for (keyword, wanted) in [("$seen", self.seen), ("$flagged", self.flagged)] {
            let name = if wanted == Some(true) { "hasKeyword" } else { "notKeyword" };
            conditions.extend(wanted.map(|_| json!({ name: keyword })));
        }
        conditions.extend(self.has_attachment.map(|has| json!({ "hasAttachment": has })));
        for (name, date) in [("after", &self.after), ("before", &self.before)] {
            if let Some(date) = date {
                let ms = parse_date(date)
                    .ok_or_else(|| Problem::invalid(format!("{name}: {date:?} is no date (RFC 3339).")))?;
                conditions.push(json!({ name: utc_date(ms) }));
            }
        }
        Ok(conditions)
    }
}

/// List messages, the newest first
///
/// All of the account, or those that every parameter given is true of.
#[utoipa::path(get, path = "/messages", security(("key" = ["read"])), tag = "Messages", operation_id = "listMessages",
    params(ListParameters),
    responses((status = 200, description = "The answer", body = MessagePage), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<MessagePage>, Problem> {
    key.needs(Scope::Read)?;
    let account = key.account(&http, parameters.account.as_deref()).await?;
    let limit = page_limit(parameters.limit, PAGE, MAX_PAGE)?;
    let filter = parameters.filter(&http, &account).await?;
    let after: Option<Place> = read_cursor(parameters.cursor.as_deref())?;
    let (ids, next) = page(&http, &key, &account, filter, after, limit).await?;
    let messages = emails(&http, &key, &account, json!({ "ids": ids, "properties": SUMMARY })).await?;
    Ok(Json(MessagePage {
        messages: messages.into_iter().map(MessageSummary::from).collect(),
        next_cursor: next.map(|place| place.to_string()),
    }))
}

/// The ids of a page, and where it ends when there is another one.
async fn page(
    http: &HttpState,
    key: &Key,
    account: &AccountAccess,
    mut filter: Vec<Value>,
    after: Option<Place>,
    limit: usize,
) -> Result<(Vec<Id>, Option<Place>), Problem> {
    if let Some(Place { received_at, .. }) = after {
        filter.push(json!({ "before": millis_date(received_at.saturating_add(1)) }));
    }
    let mut places: Vec<Place> = Vec::with_capacity(limit + 1);
    let mut position = 0;
    while places.len() <= limit {
        // One more tells whether there is another page, and one is that at which the page before ended.
        let wanted = limit + 2 - places.len();
        let arguments = json!({
            "accountId": account.id.to_string(),
            "filter": { "operator": "AND", "conditions": filter },
            "sort": [{ "property": "receivedAt", "isAscending": false }],
            "position": position,
            "limit": wanted,
        });
        let mut found = call_one(&http.jmap, &key.caller_for(account), "Email/query", arguments).await?;
        let ids: Vec<Id> = read_list(found["ids"].take())?;
        let rows = email::rows(&mut *http.app.store.read().await?, account.id, &ids).await?;
        let received: HashMap<Id, i64> = rows.into_iter().map(|row| (row.id, row.received_at)).collect();
        let found = ids.iter().filter_map(|id| Some(Place { received_at: *received.get(id)?, id: *id }));
        places.extend(found.filter(|place| after.is_none_or(|after| place.is_after(after))));
        if ids.len() < wanted {
            break;
        }
        position += ids.len();
    }
    let has_more = places.len() > limit;
    places.truncate(limit);
    let next = places.last().copied().filter(|_| has_more);
    Ok((places.iter().map(|place| place.id).collect(), next))
}

/// A place in the list, whether the message that was there is there still or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// Milliseconds since 1970.
    received_at: i64,
    id: Id,
}

impl Place {
    fn is_after(self, other: Place) -> bool {
        (self.received_at, self.id) < (other.received_at, other.id)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{}/{}", self.received_at, self.id)))
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(cursor: &str) -> Result<Place, ()> {
        let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|octets| String::from_utf8(octets).ok());
        let (received_at, id) = text.as_deref().and_then(|text| text.split_once('/')).ok_or(())?;
        let received_at = received_at.parse().ok().filter(|ms| DATES.contains(ms)).ok_or(())?;
        Ok(Place { received_at, id: id.parse().map_err(|_| ())? })
    }
}
