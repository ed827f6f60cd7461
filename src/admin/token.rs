//! API tokens.

use crate::admin::audit::About;
use crate::admin::domain::no_such_domain;
use crate::admin::request::{AdminError, TokenAdded, TokenRow};
use crate::admin::{Office, about, account, account_of, login_of};
use crate::store::directory::account::names;
use crate::store::directory::token::TokenWanted;
use crate::store::directory::{access, domain, login, token};
use crate::types::date::utc_date;
use crate::types::id::Id;
use crate::types::scope::{Reach, Rights, Scope, Scopes, domain_reach};
use crate::types::secret::Secret;

/// What a new token shall be, as it was typed.
pub struct Wanted {
    pub name: String,
    pub lifetime_ms: Option<i64>,
    pub scopes: Vec<String>,
    pub account: Option<String>,
    pub domain: Option<String>,
}

impl Wanted {
    /// For the audit log.
    fn told(&self) -> String {
        let scopes =
            if self.scopes.is_empty() { "read, write, send".to_owned() } else { self.scopes.join(", ") };
        let reach = match (&self.account, &self.domain) {
            (Some(account), _) => format!(", account {account}"),
            (None, Some(domain)) => format!(", domain {domain}"),
            (None, None) => String::new(),
        };
        format!("{:?}: {scopes}{reach}", self.name)
    }
}

pub async fn add(office: &Office, login: &str, wanted: Wanted) -> Result<TokenAdded, AdminError> {
    let subject = About::address(login).with(&wanted.told());
    let act = async {
        let mut snapshot = office.store.read().await?;
        let login_id = login_of(&mut snapshot, login).await?.id;
        let scopes = wanted.scopes.iter().map(|name| name.parse::<Scope>()).collect::<Result<Scopes, _>>();
        let scopes = scopes.map_err(AdminError::invalid)?;
        let scopes = if scopes.is_empty() { Scopes::USER } else { scopes };
        let reach = match (wanted.account, wanted.domain) {
            (Some(_), Some(_)) => {
                return Err(AdminError::invalid("a token is for one account or for a domain, not both"));
            }
            (Some(account), None) => Reach::Account(account_of(&mut snapshot, &account).await?),
            (None, Some(domain)) => domain_reach(&domain).map_err(AdminError::invalid)?,
            (None, None) => Reach::Login,
        };
        if let Reach::Domain(name) = &reach
            && domain::get(&mut snapshot, name).await?.is_none()
        {
            return Err(no_such_domain(name));
        }
        if scopes.has(Scope::Admin) && !matches!(reach, Reach::Domain(_) | Reach::All) {
            let text = "the scope admin is for a domain, or for all with domain *: name it";
            return Err(AdminError::invalid(text));
        }
        drop(snapshot);
        let now_ms = office.store.clock().now_ms();
        let expires_at =
            wanted.lifetime_ms.map_or(0, |lifetime_ms| now_ms.saturating_add(lifetime_ms.max(1)));
        let wanted = TokenWanted { name: wanted.name, expires_at, rights: Rights { scopes, reach } };
        let new = token::add(&office.store, login_id, wanted).await.map_err(about(login))?;
        Ok(TokenAdded { id: new.id.to_string(), token: Secret::new(new.secret) })
    };
    office.audited("add key", subject, act).await
}

pub async fn list(office: &Office, login: Option<&str>) -> Result<Vec<TokenRow>, AdminError> {
    let logins = match login {
        Some(login) => vec![login_of(&mut *office.store.read().await?, login).await?],
        None => {
            let mut logins = Vec::new();
            for entry in account::all(office).await? {
                logins.extend(login::by_name(&mut *office.store.read().await?, &entry.name).await?);
            }
            logins
        }
    };
    let date = |ms: i64| (ms != 0).then(|| utc_date(ms));
    let mut rows = Vec::new();
    for login in logins {
        let mut snapshot = office.store.read().await?;
        let tokens = token::list(&mut snapshot, login.id).await?;
        let only: Vec<_> = tokens.iter().map(|token| token.rights.reach.columns().0).collect();
        let names = names(&mut snapshot, &only).await?;
        rows.extend(tokens.into_iter().map(|token| {
            let (account, domain) = token.rights.reach.columns();
            TokenRow {
                id: token.id.to_string(),
                login: login.name.clone(),
                created_at: utc_date(token.created_at),
                expires_at: date(token.expires_at),
                last_used_at: date(token.last_used_at),
                scopes: token.rights.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
                account: names.get(&account).cloned(),
                domain: (!domain.is_empty()).then(|| domain.to_owned()),
                name: token.name,
            }
        }));
    }
    Ok(rows)
}

/// A token: whose it is, and how far it goes.
pub struct Found {
    pub login: String,
    pub reach: Reach,
}

/// Looks a token up.
pub async fn find(office: &Office, text: &str) -> Result<Found, AdminError> {
    let (id, none) = (read_id(text)?, || no_such_token(text));
    let mut snapshot = office.store.read().await?;
    let owner = token::owner(&mut snapshot, id).await?.ok_or_else(none)?;
    let login = login::by_id(&mut snapshot, owner).await?.ok_or_else(none)?.name;
    let tokens = token::list(&mut snapshot, owner).await?;
    let reach = tokens.into_iter().find(|token| token.id == id).ok_or_else(none)?.rights.reach;
    Ok(Found { login, reach })
}

/// The accounts that a login reaches, by their primary addresses.
pub async fn accounts(office: &Office, login: &str) -> Result<Vec<String>, AdminError> {
    let mut snapshot = office.store.read().await?;
    let login = login_of(&mut snapshot, login).await?.id;
    let accounts = access::accounts_of_login(&mut snapshot, login).await?;
    Ok(accounts.into_iter().map(|account| account.name).collect())
}

pub async fn revoke(office: &Office, text: &str) -> Result<String, AdminError> {
    let owner = find(office, text).await.map(|found| found.login).unwrap_or_default();
    let subject = About::address(&owner).with(text);
    let act = async {
        let id = read_id(text)?;
        let owner = token::owner(&mut *office.store.read().await?, id).await?;
        token::revoke(&office.store, owner.ok_or_else(|| no_such_token(text))?, id)
            .await
            .map_err(about(text))?;
        Ok(format!("the token {text} is worth nothing any more"))
    };
    office.audited("revoke key", subject, act).await
}

fn read_id(text: &str) -> Result<Id, AdminError> {
    text.parse().map_err(|_| no_such_token(text))
}

fn no_such_token(text: &str) -> AdminError {
    AdminError::not_found(format!("there is no token {text}")).see("postrider token list")
}
