//! Who calls the REST API, and which account a call is about.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::auth::{Entry, enter};
use crate::http::error::HttpError;
use crate::http::limits::{Kind, PushPlace};
use crate::http::rest::problem::{Code, Problem};
use crate::http::state::HttpState;
use crate::jmap::call::{AccountAccess, Caller};
use crate::push::hub::Listener;
use crate::store::directory::access::AccessibleAccount;
use crate::store::directory::{account, address};
use crate::types::address::{Address, normalize_domain};
use crate::types::id::AccountId;
use crate::types::scope::{Reach, Scope};

/// A place among the requests of a login that are under way: it is free when nobody holds it any more.
pub type Place = Arc<OwnedSemaphorePermit>;

/// A key (or a password, which is as good as a key for all that is the user's own).
pub struct Key {
    /// Who calls, with the accounts of the login.
    pub caller: Caller,
    /// How far the key goes beside those.
    pub reach: Reach,
    /// Among the requests of the login that are under way.
    place: Option<Place>,
    /// `Hub::login_news` before it came in.
    login_news: Option<u64>,
}

impl FromRequestParts<HttpState> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &HttpState) -> Result<Key, Problem> {
        let login_news = http.hub.login_news();
        let Entry { caller, reach, .. } = enter(parts, http).await?;
        let place = http.concurrency.enter(Kind::Request, caller.login_id).await.map_err(HttpError::Jmap)?;
        Ok(Key { caller, reach, place: Some(Arc::new(place)), login_news })
    }
}

impl Key {
    /// Takes a place among those who stay connected, in exchange for that among requests, with an ear for
    /// changes of the login. `parts` are those of the request that it came in by.
    pub async fn settle_down(
        &mut self,
        http: &HttpState,
        parts: &Parts,
    ) -> Result<(PushPlace, Listener), Problem> {
        let own = self.account(http, None).await?;
        let place = http.push_places.enter(self.caller.login_id)?;
        self.place = None;
        let listener = http.hub.listen(self.caller.login_id, &[own.id], Vec::new());
        // A credential that went between the check and the listening was not told here: look again.
        if self.login_news.is_none() || http.hub.login_news() != self.login_news {
            enter(parts, http).await?;
        }
        Ok((place, listener))
    }

    /// To be held by work that goes on when whoever asked for it has gone.
    pub fn place(&self) -> Option<Place> {
        self.place.clone()
    }

    /// Refuses a key without this scope.
    pub fn needs(&self, scope: Scope) -> Result<(), Problem> {
        if self.caller.scopes.has(scope) { Ok(()) } else { Err(Problem::missing_scope(scope)) }
    }

    /// Refuses a key that does not administer the whole server.
    pub fn administers_all(&self) -> Result<(), Problem> {
        self.needs(Scope::Admin)?;
        match self.reach {
            Reach::All => Ok(()),
            _ => Err(Problem::new(Code::Forbidden, "This needs a key for the whole server (domain `*`).")),
        }
    }

    /// Refuses a key that does not administer a domain; the domain in lower-case A-labels.
    pub fn administers(&self, domain: &str) -> Result<String, Problem> {
        self.needs(Scope::Admin)?;
        let name = normalize_domain(domain)
            .ok_or_else(|| Problem::invalid(format!("{domain:?} is no domain name.")))?;
        // Whether the domain is there is none of this key's business.
        if self.reach.covers_domain(&name) {
            return Ok(name);
        }
        Err(Problem::not_found(format!("There is no domain {name} for this key.")))
    }

    /// Refuses a key that does not administer the domain of an address.
    pub fn administers_address(&self, text: &str) -> Result<Address, Problem> {
        self.needs(Scope::Admin)?;
        let address =
            Address::parse(text).map_err(|error| Problem::invalid(format!("{text:?}: {error}.")))?;
        self.administers(address.domain())?;
        Ok(address)
    }

    /// The account that a call names by its id or its primary address; without a name, the login's own.
    pub async fn account(&self, http: &HttpState, named: Option<&str>) -> Result<AccountAccess, Problem> {
        let none = || Problem::not_found("There is no such account for this key.");
        let Some(named) = named else {
            return self.caller.accounts.first().cloned().ok_or_else(none);
        };
        let mut snapshot = http.app.store.read().await?;
        let id: AccountId = if named.contains('@') {
            let address = Address::parse(named).map_err(|_| none())?;
            address::account_by_primary(&mut snapshot, &address).await?.ok_or_else(none)?
        } else {
            named.parse().map_err(|_| none())?
        };
        if let Some(own) = self.caller.account(id) {
            return Ok(own.clone());
        }
        let name = account::names(&mut snapshot, &[id]).await?.remove(&id).ok_or_else(none)?;
        let domain = name.rsplit('@').next().unwrap_or_default();
        if !self.reach.covers_domain(domain) {
            return Err(none());
        }
        let account = AccessibleAccount { id, name, is_read_only: false, is_personal: false };
        Ok(AccountAccess::of(self.caller.login_id, account, self.caller.scopes))
    }

    /// The caller of a method on one account.
    pub fn caller_for(&self, account: &AccountAccess) -> Caller {
        Caller { accounts: vec![account.clone()], ..self.caller.clone() }
    }
}
