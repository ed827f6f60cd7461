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

use crate::cache::{Cache, Rate};
use crate::http::auth::SignedIn;
use crate::http::body::read_whole;
use crate::http::error::HttpError;
use crate::http::state::HttpState;
use crate::types::clock::Clock;
use crate::types::date::utc_date;
use crate::types::id::Id;

/// Login, version, token, end, and a random number.
const FIELDS_LEN: usize = 40;
const MAC_LEN: usize = 32;
/// Octets of a request for a ticket.
const MAX_REQUEST: usize = 4_096;
/// A browser reconnects to the same URL for as long as the page is open.
const EVENT_SOURCE_MS: i64 = 24 * 3_600_000;
const DOWNLOAD_MS: i64 = 10 * 60_000;
/// For the handshake that follows at once; it may be used for one.
const WEB_SOCKET_MS: i64 = 60_000;

/// What a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The event source.
    EventSource,
    /// One WebSocket.
    WebSocket,
    /// One blob: account and blob id as they stand in the URL.
    Download { account: String, blob: String },
}

impl Purpose {
    fn text(&self) -> String {
        match self {
            Purpose::EventSource => "eventSource".to_owned(),
            Purpose::WebSocket => "webSocket".to_owned(),
            Purpose::Download { account, blob } => format!("download {account} {blob}"),
        }
    }
}

/// Under which credential a ticket was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The login.
    pub login: Id,
    /// Its version, which changes with its credentials.
    pub version: i64,
    /// The token, 0 for the password.
    pub token: Id,
}

/// Makes and reads tickets. They are signed, not stored, with a key that all processes of a server
/// have: the one that serves push reads what the one that serves the API has made.
#[derive(Clone)]
pub struct Tickets {
    key: Arc<[u8; 32]>,
    clock: Clock,
    /// Counts the uses of those that are good for one.
    cache: Cache,
}

impl Tickets {
    /// Signed with a key.
    pub fn new(key: [u8; 32], clock: Clock, cache: Cache) -> Tickets {
        Tickets { key: Arc::new(key), clock, cache }
    }

    /// A ticket, and when it ends in milliseconds since 1970.
    pub fn make(&self, holder: Holder, purpose: &Purpose) -> (String, i64) {
        let lifetime = match purpose {
            Purpose::EventSource => EVENT_SOURCE_MS,
            Purpose::WebSocket => WEB_SOCKET_MS,
            Purpose::Download { .. } => DOWNLOAD_MS,
        };
        let ends = self.clock.now_ms() + lifetime;
        let mut bytes = Vec::with_capacity(FIELDS_LEN + MAC_LEN);
        // The last number makes two tickets of one moment differ, so that each has its own use.
        for number in [holder.login.0, holder.version, holder.token.0, ends, rand::random()] {
            bytes.extend(number.to_be_bytes());
        }
        let mac = self.mac(&bytes, purpose);
        bytes.extend(mac.as_bytes());
        (URL_SAFE_NO_PAD.encode(bytes), ends)
    }

    /// Who holds a ticket that is good for this purpose.
    pub fn read(&self, ticket: &str, purpose: &Purpose) -> Option<Holder> {
        if ticket.len() > 160 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (fields, mac) = bytes.split_at_checked(FIELDS_LEN)?;
        let mac: [u8; MAC_LEN] = mac.try_into().ok()?;
        // blake3's comparison takes the same time wherever the two differ.
        if self.mac(fields, purpose) != mac {
            return None;
        }
        let number = |at: usize| fields.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes);
        let holder = Holder { login: Id(number(0)?), version: number(8)?, token: Id(number(16)?) };
        (number(24)? > self.clock.now_ms()).then_some(holder)
    }

    /// Uses up a ticket that is good for one use; whether this was the first.
    pub async fn use_up(&self, ticket: &str) -> bool {
        let key = blake3::hash(ticket.as_bytes()).to_hex();
        // It may be shown twice in its time, and each time wait as long for its turn. What was counted in the
        // window before counts by half at the least until then, whenever that began: so by more than one.
        self.cache.rate_add(Rate::TicketUses, &key, 4 * WEB_SOCKET_MS, 4).await == 4
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

/// `POST /jmap/ticket`: `{"purpose": "eventSource"}`, `{"purpose": "webSocket"}`, or
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
        ("webSocket", None, None) => Purpose::WebSocket,
        ("download", Some(account), Some(blob)) => {
            let is_known = account.parse().ok().and_then(|id| caller.account(id)).is_some();
            if !is_known {
                return Err(HttpError::NotFound);
            }
            Purpose::Download { account, blob }
        }
        _ => {
            let text = "purpose is eventSource, webSocket, or download with accountId and blobId.".to_owned();
            return Err(HttpError::BadRequest(text));
        }
    };
    let holder = Holder { login: login.id, version: login.version, token: caller.token_id };
    let (ticket, ends) = state.tickets.make(holder, &purpose);
    Ok(Json(json!({ "ticket": ticket, "expiresAt": utc_date(ends) })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::engine::CacheUrl;

    const HOLDER: Holder = Holder { login: Id(7), version: 3, token: Id(9) };

    fn tickets(key: u8, clock: &Clock) -> Tickets {
        Tickets::new([key; 32], clock.clone(), Cache::open(&CacheUrl::Memory, 1_000_000, clock.clone()))
    }

    #[test]
    fn a_ticket_is_good_for_its_purpose_and_time_only() {
        let clock = Clock::fixed(1_000_000);
        let download = Purpose::Download { account: "a".into(), blob: "b".into() };
        let all = [Purpose::EventSource, Purpose::WebSocket, download];
        let lifetimes = [EVENT_SOURCE_MS, WEB_SOCKET_MS, DOWNLOAD_MS];
        for (purpose, lifetime) in all.iter().zip(lifetimes) {
            let ours = tickets(1, &clock);
            let (ticket, ends) = ours.make(HOLDER, purpose);
            assert_eq!(ends, clock.now_ms() + lifetime);
            for other in &all {
                let wanted = (other == purpose).then_some(HOLDER);
                assert_eq!(ours.read(&ticket, other), wanted, "{purpose:?} {other:?}");
            }
            assert_eq!(tickets(2, &clock).read(&ticket, purpose), None);
            clock.advance_ms(lifetime - 1);
            assert_eq!(ours.read(&ticket, purpose), Some(HOLDER));
            clock.advance_ms(1);
            assert_eq!(ours.read(&ticket, purpose), None);
        }
        for rubbish in ["", "é", "AAAA", &"A".repeat(1000)] {
            assert_eq!(tickets(1, &clock).read(rubbish, &Purpose::EventSource), None);
        }
    }

    #[tokio::test]
    async fn each_ticket_has_one_use() {
        let clock = Clock::fixed(1_000_000);
        let tickets = tickets(1, &clock);
        let [one, two] = [(); 2].map(|()| tickets.make(HOLDER, &Purpose::WebSocket).0);
        assert_ne!(one, two);
        assert!(tickets.use_up(&one).await);
        assert!(!tickets.use_up(&one).await);
        assert!(tickets.use_up(&two).await);
        clock.advance_ms(WEB_SOCKET_MS - 1);
        assert!(!tickets.use_up(&one).await, "for as long as it is good");
        // Uses are counted by windows of time: in whatever part of one the first came.
        for begun in (0..240_000).step_by(7_500) {
            let clock = Clock::fixed(240_000_000 + begun);
            let tickets = self::tickets(1, &clock);
            let ticket = tickets.make(HOLDER, &Purpose::WebSocket).0;
            assert!(tickets.use_up(&ticket).await);
            for _ in 0..16 {
                clock.advance_ms(2 * WEB_SOCKET_MS / 16);
                assert!(!tickets.use_up(&ticket).await, "begun {begun}, now {}", clock.now_ms());
            }
        }
    }
}
