//! Accounts: adding, listing, removing, passwords, quotas.

use crate::admin::audit::About;
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
    let subject = About::address(text);
    let act = async {
        let address = parse_address(text)?;
        let new = NewAccount {
            address: address.clone(),
            password_hash: hash(password).await?,
            quota_bytes: office.quota_bytes(quota),
        };
        account::create(&office.store, new).await.map_err(about(text))?;
        Ok(format!("{address} is added"))
    };
    office.audited("add account", subject, act).await
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

/// The next accounts after one, of a domain or of all, at most `limit`; and after which the next ones come.
pub async fn page(
    office: &Office,
    domain: Option<&str>,
    after: Option<AccountId>,
    limit: usize,
) -> Result<(Vec<AccountRow>, Option<String>), AdminError> {
    let mut snapshot = office.store.read().await?;
    let after = after.unwrap_or_default();
    let mut found = match domain {
        Some(domain) => cluster::account_list_of_domain(&mut snapshot, domain, after, limit + 1).await?,
        None => cluster::account_list(&mut snapshot, after, limit + 1).await?,
    };
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|last| last.id.to_string());
    Ok((found.into_iter().map(row).collect(), next))
}

/// One account.
pub async fn show(office: &Office, text: &str) -> Result<AccountRow, AdminError> {
    let mut snapshot = office.store.read().await?;
    let account = account_of(&mut snapshot, text).await?;
    let before = AccountId(Id(account.get() - 1));
    let found = cluster::account_list(&mut snapshot, before, 1).await?.into_iter().next();
    found.filter(|entry| entry.id == account).map(row).ok_or_else(|| {
        AdminError::not_found(format!("there is no account {text}")).see("postrider account list")
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
    let subject = About::address(text);
    let act = async {
        let account = account_of(&mut *office.store.read().await?, text).await?;
        removal::remove(&office.store, account).await.map_err(about(text))?;
        Ok(format!("{text} is removed with all its mail"))
    };
    office.audited("remove account", subject, act).await
}

pub async fn set_password(office: &Office, text: &str, password: Secret) -> Result<String, AdminError> {
    let subject = About::address(text);
    let act = async {
        let login = login_of(&mut *office.store.read().await?, text).await?;
        let hash = hash(password).await?;
        login::set_password(&office.store, login.id, hash).await.map_err(about(text))?;
        Ok(format!("the password of {text} is changed"))
    };
    office.audited("change password", subject, act).await
}

pub async fn set_quota(office: &Office, text: &str, quota: Quota) -> Result<String, AdminError> {
    let subject = About::address(text);
    let act = async {
        let account = account_of(&mut *office.store.read().await?, text).await?;
        let octets = office.quota_bytes(Some(quota));
        account::set_quota(&office.store, account, octets).await.map_err(about(text))?;
        Ok(match quota {
            Quota::Unlimited => format!("{text} may hold any amount of mail"),
            Quota::Octets(octets) => format!("{text} may hold {} of mail", show_size(octets)),
        })
    };
    office.audited("change quota", subject, act).await
}

/// Hashes a password on a thread of its own: it takes long on purpose.
async fn hash(password: Secret) -> Result<String, AdminError> {
    let hashed = tokio::task::spawn_blocking(move || password::hash(password.reveal())).await;
    hashed
        .map_err(|error| AdminError::failed(format!("the password cannot be hashed: {error}")))?
        .map_err(|error| AdminError::invalid(error.to_string()))
}
