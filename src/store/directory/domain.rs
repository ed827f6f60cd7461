//! The domains of this server. Few, rarely written, without counters.

use crate::store::Store;
use crate::store::cluster;
use crate::store::db::{Conn, sql};
use crate::store::directory::{DirectoryError, token};
use crate::store::error::StoreError;
use crate::store::event::log::{self, View};
use crate::store::event::webhook;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Row;
use crate::types::address::normalize_domain;
use crate::types::id::{AccountId, Id};

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// In lower-case A-labels.
    pub name: String,
    /// In milliseconds since 1970.
    pub created_at: i64,
    /// Who gets the mail for `postmaster` (RFC 5321, 4.5.1): the first account of the domain until
    /// another is named. `None` while the domain has no account.
    pub postmaster: Option<AccountId>,
    /// Who gets the mail for addresses that are nobody's.
    pub catch_all: Option<AccountId>,
    /// JSON of the keys with which its mail is signed.
    pub dkim_keys: String,
}

/// What a new domain is made of.
#[derive(Clone, Debug)]
pub struct NewDomain {
    /// Any spelling of it.
    pub name: String,
    /// JSON of its keys.
    pub dkim_keys: String,
}

fn account_or_none(number: i64) -> Option<AccountId> {
    (number != 0).then_some(AccountId(Id(number)))
}

fn read_domain(row: &Row<'_>) -> Result<Domain, StoreError> {
    Ok(Domain {
        name: row.get(0)?,
        created_at: row.get(1)?,
        postmaster: account_or_none(row.get(2)?),
        catch_all: account_or_none(row.get(3)?),
        dkim_keys: row.get(4)?,
    })
}

/// A domain by its name in lower-case A-labels.
pub async fn get(conn: &mut Conn, name: &str) -> Result<Option<Domain>, StoreError> {
    sql("select name, created_at, postmaster_account_id, catch_all_account_id, dkim_keys from domain \
         where name = $1")
    .bind(name)
    .first(conn, read_domain)
    .await
}

/// All domains, by name.
pub async fn list(conn: &mut Conn) -> Result<Vec<Domain>, StoreError> {
    sql("select name, created_at, postmaster_account_id, catch_all_account_id, dkim_keys from domain \
         order by name")
    .all(conn, read_domain)
    .await
}

/// Domains by name, from the one after `after` on.
pub async fn page(conn: &mut Conn, after: &str, limit: usize) -> Result<Vec<Domain>, StoreError> {
    sql("select name, created_at, postmaster_account_id, catch_all_account_id, dkim_keys from domain \
         where name > $1 order by name limit $2")
    .bind(after)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .all(conn, read_domain)
    .await
}

/// Those of these names, in lower-case A-labels, that are domains of this server.
pub async fn by_names(conn: &mut Conn, names: Vec<String>) -> Result<Vec<Domain>, StoreError> {
    sql("select name, created_at, postmaster_account_id, catch_all_account_id, dkim_keys from domain \
         where name = any($1)")
    .bind(names)
    .all(conn, read_domain)
    .await
}

/// Adds a domain; its name in lower-case A-labels.
pub async fn add(store: &Store, new: NewDomain) -> Result<String, DirectoryError> {
    let name = normalize_domain(&new.name).filter(|name| !name.starts_with('['));
    let Some(name) = name else { return Err(DirectoryError::NotADomain) };
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            if get(tx, &name).await?.is_some() {
                return Ok(Err(DirectoryError::DomainExists));
            }
            sql("insert into domain (name, created_at, postmaster_account_id, dkim_keys) \
                 values ($1, $2, 0, $3)")
            .bind(&name)
            .bind(tx.now_ms())
            .bind(&new.dkim_keys)
            .run(tx)
            .await?;
            Ok(Ok(name))
        })
        .await?
}

/// Removes a domain that has no addresses, with the tokens that administer it, its webhooks and its log of events. The name is in lower-case
/// A-labels.
pub async fn remove(store: &Store, name: String) -> Result<(), DirectoryError> {
    let domain = name.clone();
    if cluster::domain_has_addresses(&mut *store.read().await?, &name).await? {
        return Err(DirectoryError::DomainHasAddresses);
    }
    // Whoever has the domain next is not theirs to administer.
    for (login, id) in token::of_domain(&mut *store.read().await?, &name).await? {
        token::revoke(store, login, id).await?;
    }
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            if cluster::domain_has_addresses(tx, &name).await? {
                return Ok(Err(DirectoryError::DomainHasAddresses));
            }
            let touched = sql("delete from domain where name = $1").bind(&name).run(tx).await?;
            Ok(if touched == 0 { Err(DirectoryError::NoSuchDomain) } else { Ok(()) })
        })
        .await??;
    // If this is cut short, it is done when the domain is added and removed again; the log goes with its age.
    webhook::delete_of(store, View { domain: domain.clone(), account: None }).await?;
    while log::forget_domain(store, domain.clone()).await? {}
    Ok(())
}

/// Names the account that gets the mail for `postmaster`.
pub async fn set_postmaster(store: &Store, name: String, account: AccountId) -> Result<(), DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            if !account_exists(tx, account).await? {
                return Ok(Err(DirectoryError::NoSuchAccount));
            }
            let touched = sql("update domain set postmaster_account_id = $2 where name = $1")
                .bind(&name)
                .bind(account)
                .run(tx)
                .await?;
            Ok(if touched == 0 { Err(DirectoryError::NoSuchDomain) } else { Ok(()) })
        })
        .await?
}

/// Names the account that gets the mail for addresses that are nobody's, or none.
pub async fn set_catch_all(
    store: &Store,
    name: String,
    account: Option<AccountId>,
) -> Result<(), DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            if let Some(account) = account
                && !account_exists(tx, account).await?
            {
                return Ok(Err(DirectoryError::NoSuchAccount));
            }
            let touched = sql("update domain set catch_all_account_id = $2 where name = $1")
                .bind(&name)
                .bind(account.unwrap_or_default())
                .run(tx)
                .await?;
            Ok(if touched == 0 { Err(DirectoryError::NoSuchDomain) } else { Ok(()) })
        })
        .await?
}

/// Replaces the keys with which the mail of a domain is signed.
pub async fn set_dkim_keys(store: &Store, name: String, dkim_keys: String) -> Result<(), DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            let touched = sql("update domain set dkim_keys = $2 where name = $1")
                .bind(&name)
                .bind(&dkim_keys)
                .run(tx)
                .await?;
            Ok(if touched == 0 { Err(DirectoryError::NoSuchDomain) } else { Ok(()) })
        })
        .await?
}

async fn account_exists(conn: &mut Conn, account: AccountId) -> Result<bool, StoreError> {
    let found = sql("select id from account where id = $1 and removed_at = 0")
        .bind(account)
        .value::<AccountId>(conn)
        .await?;
    Ok(found.is_some())
}

/// Makes an account the postmaster of a domain that has none yet.
pub(super) async fn offer_postmaster(tx: &mut Tx, name: &str, account: AccountId) -> Result<(), StoreError> {
    sql("update domain set postmaster_account_id = $2 where name = $1 and postmaster_account_id = 0")
        .bind(name)
        .bind(account)
        .run(tx)
        .await?;
    Ok(())
}

/// Takes an account that goes out of the duties it has: each domain of which it was the postmaster
/// gets its oldest other account instead.
pub(super) async fn relieve(tx: &mut Tx, account: AccountId) -> Result<(), StoreError> {
    sql("update domain set catch_all_account_id = 0 where catch_all_account_id = $1")
        .bind(account)
        .run(tx)
        .await?;
    let orphans = sql("select name from domain where postmaster_account_id = $1")
        .bind(account)
        .column::<String>(tx)
        .await?;
    if orphans.is_empty() {
        return Ok(());
    }
    let heirs = cluster::oldest_accounts_of_domains(tx, orphans, account).await?;
    sql("update domain set postmaster_account_id = 0 where postmaster_account_id = $1")
        .bind(account)
        .run(tx)
        .await?;
    let rows = heirs.into_iter().map(|(name, heir)| vec![name.into(), heir.into()]).collect();
    sql("update domain set postmaster_account_id = $2 where name = $1").run_each(tx, rows).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;

    #[tokio::test]
    async fn a_domain_is_kept_in_one_spelling() {
        let fixture = Fixture::new().await;
        let new = |name: &str| NewDomain { name: name.to_owned(), dkim_keys: "[1]".to_owned() };
        let name = add(&fixture.store, new("Bücher.Example")).await.unwrap();
        assert_eq!(name, "xn--bcher-kva.example");
        let again = add(&fixture.store, new("bücher.example")).await;
        assert!(matches!(again, Err(DirectoryError::DomainExists)));
        for wrong in ["", "a b", "[127.0.0.1]"] {
            let outcome = add(&fixture.store, new(wrong)).await;
            assert!(matches!(outcome, Err(DirectoryError::NotADomain)), "{wrong}");
        }
        let mut snapshot = fixture.store.read().await.unwrap();
        let domain = get(&mut snapshot, &name).await.unwrap().unwrap();
        assert_eq!((domain.dkim_keys.as_str(), domain.postmaster), ("[1]", None));
        assert_eq!(list(&mut snapshot).await.unwrap().len(), 2);
        let asked = vec![name.clone(), "other.test".to_owned()];
        assert_eq!(by_names(&mut snapshot, asked).await.unwrap(), [domain]);
    }

    #[tokio::test]
    async fn a_domain_with_addresses_stays() {
        let fixture = Fixture::new().await;
        let alice = fixture.account("alice@example.test").await;
        let outcome = remove(&fixture.store, "example.test".to_owned()).await;
        assert!(matches!(outcome, Err(DirectoryError::DomainHasAddresses)));
        crate::store::directory::removal::remove(&fixture.store, alice.account).await.unwrap();
        remove(&fixture.store, "example.test".to_owned()).await.unwrap();
        let outcome = remove(&fixture.store, "example.test".to_owned()).await;
        assert!(matches!(outcome, Err(DirectoryError::NoSuchDomain)));
    }

    #[tokio::test]
    async fn the_postmaster_who_leaves_has_an_heir() {
        let fixture = Fixture::new().await;
        let alice = fixture.account("alice@example.test").await.account;
        let bob = fixture.account("bob@example.test").await.account;
        let name = "example.test".to_owned();
        set_catch_all(&fixture.store, name.clone(), Some(alice)).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        let domain = get(&mut snapshot, &name).await.unwrap().unwrap();
        assert_eq!((domain.postmaster, domain.catch_all), (Some(alice), Some(alice)));
        drop(snapshot);
        crate::store::directory::removal::remove(&fixture.store, alice).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        let domain = get(&mut snapshot, &name).await.unwrap().unwrap();
        assert_eq!((domain.postmaster, domain.catch_all), (Some(bob), None));
    }
}
