//! Which login may use which account.

use crate::admin::audit::About;
use crate::admin::request::{AccessRow, AdminError};
use crate::admin::{Office, about, account, account_of, login_of};
use crate::store::directory::access;

pub async fn grant(
    office: &Office,
    login: &str,
    account: &str,
    read_only: bool,
) -> Result<String, AdminError> {
    let subject = About::address(account).with(login);
    let act = async {
        let mut snapshot = office.store.read().await?;
        let login_id = login_of(&mut snapshot, login).await?.id;
        let account_id = account_of(&mut snapshot, account).await?;
        let reached = access::accounts_of_login(&mut snapshot, login_id).await?;
        if reached.iter().any(|reached| reached.id == account_id && reached.is_personal) {
            return Err(AdminError::conflict(format!(
                "{account} is the login's own account: it may do everything"
            )));
        }
        drop(snapshot);
        access::grant(&office.store, login_id, account_id, read_only).await.map_err(about(account))?;
        let what = if read_only { "read" } else { "read and change" };
        Ok(format!("{login} may {what} {account}"))
    };
    office.audited("grant access", subject, act).await
}

/// Every login beside the account's own that reaches it.
pub async fn list(office: &Office) -> Result<Vec<AccessRow>, AdminError> {
    let mut rows = Vec::new();
    for entry in account::all(office).await? {
        let logins = access::logins_of_account(&mut *office.store.read().await?, entry.id).await?;
        rows.extend(logins.into_iter().filter(|login| !login.is_personal).map(|login| AccessRow {
            login: login.name,
            account: entry.name.clone(),
            read_only: login.is_read_only,
        }));
    }
    Ok(rows)
}

pub async fn revoke(office: &Office, login: &str, account: &str) -> Result<String, AdminError> {
    let subject = About::address(account).with(login);
    let act = async {
        let mut snapshot = office.store.read().await?;
        let login_id = login_of(&mut snapshot, login).await?.id;
        let account_id = account_of(&mut snapshot, account).await?;
        drop(snapshot);
        access::revoke(&office.store, login_id, account_id).await.map_err(about(account))?;
        Ok(format!("{login} may use {account} no longer"))
    };
    office.audited("revoke access", subject, act).await
}
