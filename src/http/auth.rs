//! Who calls: Basic, Bearer, or a ticket in the URL (RFC 8620, 1.7 and 8.2).

use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::http::error::HttpError;
use crate::http::origin::Origin;
use crate::http::state::HttpState;
use crate::http::ticket::{Holder, Purpose};
use crate::jmap::call::{AccountAccess, Caller};
use crate::store::directory::login::Login;
use crate::store::directory::sign_in::{Entered, SignInError};
use crate::store::directory::{access, login, token};
use crate::types::clock::Clock;
use crate::types::id::Id;
use crate::types::scope::{Reach, Rights, Scope};

/// Longest Authorization header that is looked at.
const MAX_HEADER: usize = 4_096;

/// A caller signed in by the Authorization header.
pub struct SignedIn(pub Caller, pub Login);

impl FromRequestParts<HttpState> for SignedIn {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<SignedIn, HttpError> {
        let Entry { caller, login, .. } = enter(parts, state).await?;
        Ok(SignedIn(caller, login))
    }
}

/// Who has come in by the Authorization header.
pub struct Entry {
    /// Who calls, with the accounts of the login.
    pub caller: Caller,
    /// The login.
    pub login: Login,
    /// How far its credential goes.
    pub reach: Reach,
}

/// Signs in by the Authorization header.
pub async fn enter(parts: &Parts, state: &HttpState) -> Result<Entry, HttpError> {
    let entered = sign_in(parts, state).await?;
    let (login, reach) = (entered.login.clone(), entered.rights.reach.clone());
    Ok(Entry { caller: caller_of(entered), login, reach })
}

async fn sign_in(parts: &Parts, state: &HttpState) -> Result<Entered, HttpError> {
    let unauthorized = || HttpError::Unauthorized { offers_basic: offers_basic(&parts.headers) };
    let origin = parts.extensions.get::<Origin>().ok_or(HttpError::Internal)?;
    let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(unauthorized)?;
    let value = value.to_str().ok().filter(|value| value.len() <= MAX_HEADER).ok_or_else(unauthorized)?;
    let (scheme, credentials) = value.split_once(' ').ok_or_else(unauthorized)?;
    let signed_in = if scheme.eq_ignore_ascii_case("basic") {
        let (name, password) = read_basic(credentials).ok_or_else(unauthorized)?;
        state.app.sign_in.with_password(&name, &password, origin.client).await
    } else if scheme.eq_ignore_ascii_case("bearer") {
        state.app.sign_in.with_token(credentials.trim(), origin.client).await
    } else {
        return Err(unauthorized());
    };
    signed_in.map_err(|error| match error {
        SignInError::Refused => {
            tracing::info!(client = %origin.client, "a sign-in was refused");
            unauthorized()
        }
        SignInError::TooMany { retry_after_seconds } => HttpError::TooMany {
            retry_after_seconds,
            detail: "Too many sign-ins have failed; wait before the next one.",
        },
        SignInError::Busy => HttpError::Unavailable,
        SignInError::Store(error) => error.into(),
    })
}

/// RFC 7617: user-id, a colon, the password, in UTF-8 and base64.
fn read_basic(credentials: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// A browser shows a dialog when Basic is offered to a script's request.
fn offers_basic(headers: &HeaderMap) -> bool {
    let mode = headers.get("sec-fetch-mode").and_then(|mode| mode.to_str().ok());
    mode.is_none_or(|mode| mode == "navigate")
}

impl Caller {
    /// Refuses who has come in by a key without this scope.
    pub fn needs(&self, scope: Scope) -> Result<(), HttpError> {
        if self.scopes.has(scope) { Ok(()) } else { Err(HttpError::MissingScope(scope)) }
    }
}

fn caller_of(entered: Entered) -> Caller {
    let Entered { login, token_id, expires_at, rights, accounts } = entered;
    let accounts = accounts
        .into_iter()
        .filter(|account| !matches!(rights.reach, Reach::Account(only) if only != account.id))
        .map(|account| AccountAccess::of(login.id, account, rights.scopes))
        .collect();
    Caller { login_id: login.id, token_id, expires_at, username: login.name, scopes: rights.scopes, accounts }
}

#[derive(Deserialize)]
struct TicketParameter {
    ticket: Option<String>,
}

/// Waits until the token of a caller expires: for ever for a password, or a token that does not.
pub async fn expiry_of(caller_expires_at: i64, clock: Clock) {
    if caller_expires_at == 0 {
        return std::future::pending().await;
    }
    let left = u64::try_from(caller_expires_at - clock.now_ms()).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(left)).await;
}

/// The ticket in a URL.
pub fn ticket_of(uri: &Uri) -> Option<String> {
    Query::<TicketParameter>::try_from_uri(uri).ok().and_then(|query| query.0.ticket)
}

/// What a URL's caller shows: a ticket in it, or a header.
pub enum Shown {
    /// A ticket, as it was when it was shown: it may take a while until whoever has it comes in.
    Ticket(Holder),
    /// The Authorization header.
    Header,
}

impl Shown {
    /// What is shown for this purpose. Who shows nothing, or what is no ticket, is refused at once.
    pub fn of(parts: &Parts, state: &HttpState, purpose: &Purpose) -> Result<Shown, HttpError> {
        match ticket_of(&parts.uri) {
            Some(given) => {
                let holder = state.tickets.read(&given, purpose);
                holder.map(Shown::Ticket).ok_or(HttpError::Unauthorized { offers_basic: false })
            }
            None if parts.headers.contains_key(header::AUTHORIZATION) => Ok(Shown::Header),
            None => Err(HttpError::Unauthorized { offers_basic: offers_basic(&parts.headers) }),
        }
    }

    /// Signs in by it.
    pub async fn enter(&self, parts: &mut Parts, state: &HttpState) -> Result<Caller, HttpError> {
        let Shown::Ticket(holder) = self else {
            return SignedIn::from_request_parts(parts, state).await.map(|signed_in| signed_in.0);
        };
        let refused = || HttpError::Unauthorized { offers_basic: false };
        let mut snapshot = state.app.store.read().await?;
        let login = login::by_id(&mut snapshot, holder.login).await?;
        let in_force = match holder.token {
            Id(0) => Some((0, Rights::default())),
            token => token::in_force(&mut snapshot, holder.login, token, state.app.clock.now_ms()).await?,
        };
        let accounts = access::accounts_of_login(&mut snapshot, holder.login).await?;
        drop(snapshot);
        // A ticket is void with the credential that it was made under.
        let login = login.filter(|login| login.version == holder.version).ok_or_else(refused)?;
        let (expires_at, rights) = in_force.ok_or_else(refused)?;
        Ok(caller_of(Entered { login, token_id: holder.token, expires_at, rights, accounts }))
    }
}
