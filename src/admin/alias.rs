//! Aliases.

use crate::admin::audit::About;
use crate::admin::request::{AdminError, AliasRow};
use crate::admin::{Office, PAGE, about, account_of, parse_address};
use crate::store::cluster;
use crate::store::directory::{account, address};
use crate::types::id::{AccountId, Id};
use crate::types::scope::Reach;

pub async fn add(office: &Office, text: &str, accounts: &[String]) -> Result<String, AdminError> {
    let subject = About::address(text);
    let act = async {
        let alias = parse_address(text)?;
        let mut ids = Vec::with_capacity(accounts.len());
        let mut snapshot = office.store.read().await?;
        for account in accounts {
            ids.push(account_of(&mut snapshot, account).await?);
        }
        let known = address::accounts_of_alias(&mut snapshot, &alias).await?;
        drop(snapshot);
        // Those that have it already need nothing, unless that is all of them.
        ids.sort_unstable();
        ids.dedup();
        if !ids.iter().all(|id| known.contains(id)) {
            ids.retain(|id| !known.contains(id));
        }
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

/// Entries that are looked through for a page of them.
const LOOKED_AT: usize = 10_000;

/// All aliases, by name.
pub async fn list(office: &Office) -> Result<Vec<AliasRow>, AdminError> {
    Ok(list_page(office, &Reach::All, None, usize::MAX).await?.0)
}

/// Aliases within a reach, by name, after one; and the last one when there may be more.
pub async fn list_page(
    office: &Office,
    reach: &Reach,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<AliasRow>, Option<String>), AdminError> {
    let mut rows: Vec<AliasRow> = Vec::new();
    let mut looked_at = 0;
    let mut after =
        after.map_or((String::new(), AccountId::default()), |alias| (alias, AccountId(Id(i64::MAX))));
    loop {
        let mut snapshot = office.store.read().await?;
        let page = cluster::alias_list(&mut snapshot, (&after.0, after.1), PAGE).await?;
        let Some(last) = page.last() else { return Ok((rows, None)) };
        after = (last.alias.clone(), last.account);
        looked_at += page.len();
        for entry in page {
            let domain = entry.alias.rsplit('@').next().unwrap_or_default();
            // Without a name the account is just going.
            if !reach.covers_domain(domain) || entry.account_name.is_empty() {
                continue;
            }
            let is_full = rows.len() == limit;
            match rows.last_mut() {
                Some(row) if row.alias == entry.alias => row.accounts.push(entry.account_name),
                Some(row) if is_full => {
                    let last = row.alias.clone();
                    return Ok((rows, Some(last)));
                }
                _ => rows.push(AliasRow { alias: entry.alias, accounts: vec![entry.account_name] }),
            }
        }
        // Those of other domains lie between: a page may be empty and not the last one.
        if looked_at >= LOOKED_AT && limit < usize::MAX && rows.last().is_none_or(|row| row.alias != after.0)
        {
            return Ok((rows, Some(after.0)));
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
            return Err(
                AdminError::not_found(format!("there is no alias {text}")).see("postrider alias list")
            );
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
