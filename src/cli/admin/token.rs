//! API tokens.

use crate::cli::admin::{Office, about, account, done, login_of};
use crate::cli::request::{AdminError, AdminResponse, TokenAdded, TokenRow};
use crate::store::directory::{login, token};
use crate::types::date::utc_date;
use crate::types::id::Id;
use crate::types::secret::Secret;

pub async fn add(
    office: &Office,
    login: &str,
    name: String,
    lifetime_ms: Option<i64>,
) -> Result<AdminResponse, AdminError> {
    let login_id = login_of(&mut *office.store.read().await?, login).await?.id;
    let now_ms = office.store.clock().now_ms();
    let expires_at = lifetime_ms.map_or(0, |lifetime_ms| now_ms.saturating_add(lifetime_ms.max(1)));
    let new = token::add(&office.store, login_id, name, expires_at).await.map_err(about(login))?;
    Ok(AdminResponse::TokenAdded(TokenAdded { id: new.id.to_string(), token: Secret::new(new.secret) }))
}

pub async fn list(office: &Office, login: Option<&str>) -> Result<AdminResponse, AdminError> {
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
        let tokens = token::list(&mut *office.store.read().await?, login.id).await?;
        rows.extend(tokens.into_iter().map(|token| TokenRow {
            id: token.id.to_string(),
            login: login.name.clone(),
            name: token.name,
            created_at: utc_date(token.created_at),
            expires_at: date(token.expires_at),
            last_used_at: date(token.last_used_at),
        }));
    }
    Ok(AdminResponse::Tokens(rows))
}

pub async fn revoke(office: &Office, text: &str) -> Result<AdminResponse, AdminError> {
    let none = || AdminError::new(format!("there is no token {text}; `postrider token list` shows them"));
    let id: Id = text.parse().map_err(|_| none())?;
    let owner = token::owner(&mut *office.store.read().await?, id).await?;
    token::revoke(&office.store, owner.ok_or_else(none)?, id).await.map_err(about(text))?;
    done(format!("the token {text} is worth nothing any more"))
}
