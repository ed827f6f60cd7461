//! Looking at many accounts and logins at once, for push while events may be missing. Asked now and
//! then for all clients that are connected, never for a request.

use std::collections::HashMap;

use crate::store::db::{Conn, everywhere_sql};
use crate::store::error::StoreError;
use crate::types::id::{AccountId, Id};

/// What a sign-in rests on: when it differs, the client must come in again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginFacts {
    /// The version of the login.
    pub version: i64,
    /// The accounts that it reaches, in order.
    pub accounts: Vec<AccountId>,
}

/// The modseq of the last commit of each of these accounts that is there.
pub async fn heads(conn: &mut Conn, accounts: &[AccountId]) -> Result<Vec<(AccountId, i64)>, StoreError> {
    let ids: Vec<i64> = accounts.iter().map(|account| account.get()).collect();
    everywhere_sql("select id, modseq from account where id = any($1)")
        .bind(ids)
        .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
        .await
}

/// The facts of each of these logins that is there.
pub async fn login_facts(conn: &mut Conn, logins: &[Id]) -> Result<HashMap<Id, LoginFacts>, StoreError> {
    let versions: Vec<(Id, i64)> = everywhere_sql("select id, version from login where id = any($1)")
        .bind(logins)
        .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
        .await?;
    let access: Vec<(Id, AccountId)> = everywhere_sql(
        "select login_id, account_id from access where login_id = any($1) order by login_id, account_id",
    )
    .bind(logins)
    .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
    .await?;
    let mut facts: HashMap<Id, LoginFacts> = versions
        .into_iter()
        .map(|(login, version)| (login, LoginFacts { version, accounts: Vec::new() }))
        .collect();
    for (login, account) in access {
        if let Some(facts) = facts.get_mut(&login) {
            facts.accounts.push(account);
        }
    }
    Ok(facts)
}
