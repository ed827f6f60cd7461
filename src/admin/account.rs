//! Accounts: adding, listing, removing, passwords, quotas.

use crate::admin::request::{AccountRow, AdminError, Quota};
use crate::admin::{Office, PAGE, about, account_of, login_of, parse_address};
use crate::store::cluster;
use crate::store::directory::account::{self, NewAccount};
use crate::store::directory::{login, password, removal};
use crate::types::date::utc_date;
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;
use crate::types::size::show_size;

pub async fn add(
    office: &Office,
    text: &str,
    password: Secret,
    quota: Option<Quota>,
) -> Result<String, AdminError> {
    let address = parse_address(text)?;
    let new = NewAccount {
        address: address.clone(),
        password_hash: hash(password).await?,
        quota_bytes: office.quota_bytes(quota),
    };
    account::create(&office.store, new).await.map_err(about(text))?;
    Ok(format!("{address} is added"))
}

pub async fn list(office: &Office) -> Result<Vec<AccountRow>, AdminError> {
    Ok(all(office).await?.into_iter().map(row).collect())
}

fn row(entry: cluster::AccountEntry) -> AccountRow {
    let size = |octets: i64| u64::try_from(octets).unwrap_or(0);
    AccountRow {
        id: entry.id.to_string(),
        address: entry.name,
        quota: (entry.quota_bytes != 0).then(|| size(entry.quota_bytes)),
        used: size(entry.used_bytes),
        messages: size(entry.used_emails),
        created_at: utc_date(entry.created_at),
    }
}

/// The next accounts after one that are listed, at most `limit`; and after which the next ones come.
pub async fn page(
    office: &Office,
    after: Option<AccountId>,
    limit: usize,
    is_listed: impl Fn(&AccountRow) -> bool,
) -> Result<(Vec<AccountRow>, Option<String>), AdminError> {
    let mut rows: Vec<AccountRow> = Vec::new();
    let mut after = after.unwrap_or_default();
    loop {
        let found = cluster::account_list(&mut *office.store.read().await?, after, PAGE).await?;
        let is_last = found.len() < PAGE;
        for entry in found {
            after = entry.id;
            let row = row(entry);
            if !is_listed(&row) {
                continue;
            }
            if rows.len() == limit {
                let next = rows.last().map(|row| row.id.clone());
                return Ok((rows, next));
            }
            rows.push(row);
        }
        if is_last {
            return Ok((rows, None));
        }
    }
}

/// One account.
pub async fn show(office: &Office, text: &str) -> Result<AccountRow, AdminError> {
    let mut snapshot = office.store.read().await?;
    let account = account_of(&mut snapshot, text).await?;
    let before = AccountId(Id(account.get() - 1));
    let found = cluster::account_list(&mut snapshot, before, 1).await?.into_iter().next();
    found.filter(|entry| entry.id == account).map(row).ok_or_else(|| {
        AdminError::not_found(format!("there is no account {text}; `postrider account list` shows them"))
    })
}

/// All accounts, read page by page: no snapshot is kept for long.
pub async fn all(office: &Office) -> Result<Vec<cluster::AccountEntry>, AdminError> {
    let mut entries: Vec<cluster::AccountEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(AccountId::default(), |entry| entry.id);
        let mut snapshot = office.store.read().await?;
        let page = cluster::account_list(&mut snapshot, after, PAGE).await?;
        let is_last = page.len() < PAGE;
        entries.extend(page);
        if is_last {
            return Ok(entries);
        }
    }
}

pub async fn remove(office: &Office, text: &str) -> Result<String, AdminError> {
    let account = account_of(&mut *office.store.read().await?, text).await?;
    removal::remove(&office.store, account).await.map_err(about(text))?;
    Ok(format!("{text} is removed with all its mail"))
}

pub async fn set_password(office: &Office, text: &str, password: Secret) -> Result<String, AdminError> {
    let login = login_of(&mut *office.store.read().await?, text).await?;
    let hash = hash(password).await?;
    login::set_password(&office.store, login.id, hash).await.map_err(about(text))?;
    Ok(format!("the password of {text} is changed"))
}

pub async fn set_quota(office: &Office, text: &str, quota: Quota) -> Result<String, AdminError> {
    let account = account_of(&mut *office.store.read().await?, text).await?;
    let octets = office.quota_bytes(Some(quota));
    account::set_quota(&office.store, account, octets).await.map_err(about(text))?;
    Ok(match quota {
        Quota::Unlimited => format!("{text} may hold any amount of mail"),
        Quota::Octets(octets) => format!("{text} may hold {} of mail", show_size(octets)),
    })
}

/// Hashes a password on a thread of its own: it takes long on purpose.
async fn hash(password: Secret) -> Result<String, AdminError> {
    let hashed = tokio::task::spawn_blocking(move || password::hash(password.reveal())).await;
    hashed
        .map_err(|error| AdminError::failed(format!("the password cannot be hashed: {error}")))?
        .map_err(|error| AdminError::invalid(error.to_string()))
}
