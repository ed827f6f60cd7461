//! Tickets: browsers cannot set headers on an EventSource or a link, so a ticket can stand in the
//! URL. It is bound to a login and one purpose, ends by itself, and is void with the credential.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::auth::SignedIn;
use crate::http::body::read_whole;
use crate::http::error::HttpError;
use crate::http::state::HttpState;
use crate::types::clock::Clock;
use crate::types::date::utc_date;
use crate::types::id::Id;

const MAC_LEN: usize = 32;
/// Octets of a request for a ticket.
const MAX_REQUEST: usize = 4_096;
/// A browser reconnects to the same URL for as long as the page is open.
const EVENT_SOURCE_MS: i64 = 24 * 3_600_000;
const DOWNLOAD_MS: i64 = 10 * 60_000;

/// What a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The event source.
    EventSource,
    /// One blob: account and blob id as they stand in the URL.
    Download { account: String, blob: String },
}

impl Purpose {
    fn text(&self) -> String {
        match self {
            Purpose::EventSource => "eventSource".to_owned(),
            Purpose::Download { account, blob } => format!("download {account} {blob}"),
        }
    }
}

/// Makes and reads tickets. They are signed, not stored, with a key that all processes of a server
/// have: the one that serves push reads what the one that serves the API has made.
#[derive(Clone)]
pub struct Tickets {
    key: Arc<[u8; 32]>,
    clock: Clock,
}

impl Tickets {
    /// Signed with a key.
    pub fn new(key: [u8; 32], clock: Clock) -> Tickets {
        Tickets { key: Arc::new(key), clock }
    }

    /// A ticket, and when it ends in milliseconds since 1970.
    pub fn make(&self, login: Id, version: i64, purpose: &Purpose) -> (String, i64) {
        let lifetime = match purpose {
            Purpose::EventSource => EVENT_SOURCE_MS,
            Purpose::Download { .. } => DOWNLOAD_MS,
        };
        let ends = self.clock.now_ms() + lifetime;
        let mut bytes = Vec::with_capacity(24 + MAC_LEN);
        for number in [login.0, version, ends] {
            bytes.extend(number.to_be_bytes());
        }
        let mac = self.mac(&bytes, purpose);
        bytes.extend(mac.as_bytes());
        (URL_SAFE_NO_PAD.encode(bytes), ends)
    }

    /// The login and its version of a ticket that is good for this purpose.
    pub fn read(&self, ticket: &str, purpose: &Purpose) -> Option<(Id, i64)> {
        if ticket.len() > 128 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (fields, mac) = bytes.split_at_checked(24)?;
        let mac: [u8; MAC_LEN] = mac.try_into().ok()?;
        // blake3's comparison takes the same time wherever the two differ.
        if self.mac(fields, purpose) != mac {
            return None;
        }
        let number = |at: usize| fields.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes);
        let (login, version, ends) = (number(0)?, number(8)?, number(16)?);
        (ends > self.clock.now_ms()).then_some((Id(login), version))
    }

    fn mac(&self, fields: &[u8], purpose: &Purpose) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(fields);
        hasher.update(purpose.text().as_bytes());
        hasher.finalize()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TicketRequest {
    purpose: String,
    account_id: Option<String>,
    blob_id: Option<String>,
}

/// `POST /jmap/ticket`: `{"purpose": "eventSource"}` or
/// `{"purpose": "download", "accountId": …, "blobId": …}`.
pub async fn post(
    State(state): State<HttpState>,
    SignedIn(caller, login): SignedIn,
    body: Body,
) -> Result<Json<Value>, HttpError> {
    let body = read_whole(body, MAX_REQUEST).await?;
    let request: TicketRequest = serde_json::from_slice(&body)
        .map_err(|error| HttpError::BadRequest(format!("The body is no ticket request: {error}.")))?;
    let purpose = match (request.purpose.as_str(), request.account_id, request.blob_id) {
        ("eventSource", None, None) => Purpose::EventSource,
        ("download", Some(account), Some(blob)) => {
            let is_known = account.parse().ok().and_then(|id| caller.account(id)).is_some();
            if !is_known {
                return Err(HttpError::NotFound);
            }
            Purpose::Download { account, blob }
        }
        _ => {
            let text = "purpose is eventSource, or download with accountId and blobId.".to_owned();
            return Err(HttpError::BadRequest(text));
        }
    };
    let (ticket, ends) = state.tickets.make(login.id, login.version, &purpose);
    Ok(Json(json!({ "ticket": ticket, "expiresAt": utc_date(ends) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_its_purpose_and_time_only() {
        let clock = Clock::fixed(1_000_000);
        let tickets = Tickets::new([1; 32], clock.clone());
        let (ticket, _) = tickets.make(Id(7), 3, &Purpose::EventSource);
        assert_eq!(tickets.read(&ticket, &Purpose::EventSource), Some((Id(7), 3)));
        let download = Purpose::Download { account: "a".into(), blob: "b".into() };
        assert_eq!(tickets.read(&ticket, &download), None);
        assert_eq!(Tickets::new([2; 32], clock.clone()).read(&ticket, &Purpose::EventSource), None);
        clock.advance_ms(EVENT_SOURCE_MS);
        assert_eq!(tickets.read(&ticket, &Purpose::EventSource), None);
        for rubbish in ["", "é", "AAAA", &"A".repeat(1000)] {
            assert_eq!(tickets.read(rubbish, &Purpose::EventSource), None);
        }
    }
}
