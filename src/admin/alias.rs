//! Aliases.

use crate::admin::audit::About;
use crate::admin::request::{AdminError, AliasRow};
use crate::admin::{Office, PAGE, about, account_of, parse_address};
use crate::store::cluster;
use crate::store::directory::{account, address};
use crate::types::id::AccountId;

pub async fn add(office: &Office, text: &str, accounts: &[String]) -> Result<String, AdminError> {
    let subject = About::address(text);
    let act = async {
        let alias = parse_address(text)?;
        let mut ids = Vec::with_capacity(accounts.len());
        let mut snapshot = office.store.read().await?;
        for account in accounts {
            ids.push(account_of(&mut snapshot, account).await?);
        }
        drop(snapshot);
        for account in ids {
            address::alias_add(&office.store, alias.clone(), account).await.map_err(about(text))?;
        }
        let accounts = show(office, text).await?.accounts;
        Ok(format!("mail to {alias} goes to {}", accounts.join(", ")))
    };
    office.audited("add alias", subject, act).await
}

/// One alias.
pub async fn show(office: &Office, text: &str) -> Result<AliasRow, AdminError> {
    let alias = parse_address(text)?;
    let mut snapshot = office.store.read().await?;
    let all = address::accounts_of_alias(&mut snapshot, &alias).await?;
    let mut accounts: Vec<String> = account::names(&mut snapshot, &all).await?.into_values().collect();
    accounts.sort_unstable();
    Ok(AliasRow { alias: alias.to_string(), accounts })
}

pub async fn list(office: &Office) -> Result<Vec<AliasRow>, AdminError> {
    let mut rows: Vec<AliasRow> = Vec::new();
    let mut after = (String::new(), AccountId::default());
    loop {
        let mut snapshot = office.store.read().await?;
        let page = cluster::alias_list(&mut snapshot, (&after.0, after.1), PAGE).await?;
        let is_last = page.len() < PAGE;
        for entry in page {
            after = (entry.alias.clone(), entry.account);
            match rows.last_mut().filter(|row| row.alias == entry.alias) {
                Some(row) => row.accounts.push(entry.account_name),
                None => rows.push(AliasRow { alias: entry.alias, accounts: vec![entry.account_name] }),
            }
        }
        if is_last {
            return Ok(rows);
        }
    }
}

pub async fn remove(office: &Office, text: &str, named: &[String]) -> Result<String, AdminError> {
    let subject = About::address(text);
    let act = async {
        let alias = parse_address(text)?;
        let mut snapshot = office.store.read().await?;
        let all = address::accounts_of_alias(&mut snapshot, &alias).await?;
        if all.is_empty() {
            return Err(AdminError::not_found(format!(
                "there is no alias {text}; `postrider alias list` shows them"
            )));
        }
        let mut gone = Vec::new();
        for name in named {
            let account = account_of(&mut snapshot, name).await?;
            if !all.contains(&account) {
                return Err(AdminError::not_found(format!("mail to {alias} does not go to {name}")));
            }
            gone.push(account);
        }
        drop(snapshot);
        if named.is_empty() {
            gone.clone_from(&all);
        }
        for account in &gone {
            address::alias_remove(&office.store, alias.clone(), *account).await.map_err(about(text))?;
        }
        if gone.len() < all.len() {
            return Ok(format!("mail to {alias} does not go to {} any more", named.join(", ")));
        }
        Ok(format!("the alias {alias} is removed"))
    };
    office.audited("remove alias", subject, act).await
}
