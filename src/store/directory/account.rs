//! Accounts: whose mail it is. An account is made with its address, its login and its mailboxes in
//! one transaction; `removal` takes it away.

use std::collections::HashMap;

use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::directory::{DirectoryError, access, address, domain, login};
use crate::store::error::StoreError;
use crate::store::mailbox::{self, NewMailbox};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::address::Address;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// Bit of a Quota change: more or less is used. The Quota object has the id of its account.
pub const QUOTA_USED_CHANGED: i64 = 1;
/// Bit of a Quota change: the limit is another.
pub const QUOTA_LIMIT_CHANGED: i64 = 2;

/// The mailboxes of a new account, in the order in which clients show them: name and role.
const DEFAULT_MAILBOXES: [(&str, &str); 6] = [
    ("Inbox", "inbox"),
    ("Drafts", "drafts"),
    ("Sent", "sent"),
    ("Archive", "archive"),
    ("Junk", "junk"),
    ("Trash", "trash"),
];

/// What a new account is made of.
#[derive(Clone)]
pub struct NewAccount {
    /// Its primary address, which names the account and its login.
    pub address: Address,
    /// Of `password::hash`; empty for a login that cannot sign in with a password.
    pub password_hash: String,
    /// Bytes that it may keep; 0 is without limit.
    pub quota_bytes: i64,
}

/// A new account and its login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The account.
    pub account: AccountId,
    /// The login that owns it.
    pub login: Id,
}

/// What an account keeps and may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that it may keep; 0 is without limit.
    pub quota_bytes: i64,
    /// Bytes that it keeps.
    pub used_bytes: i64,
    /// Emails that it keeps.
    pub used_emails: i64,
}

/// Makes an account: its address and Identity, its login, the default mailboxes.
pub async fn create(store: &Store, new: NewAccount) -> Result<Created, DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            if let Err(refusal) = address::check_new(tx, &new.address).await? {
                return Ok(Err(refusal));
            }
            let name = new.address.to_string();
            let is_taken = sql("select account_id from address where address = $1 limit 1")
                .bind(&name)
                .value::<AccountId>(tx)
                .await?;
            if is_taken.is_some() || login::by_name(tx, &name).await?.is_some() {
                return Ok(Err(DirectoryError::AddressTaken));
            }
            let account = AccountId(tx.new_id());
            let lane = tx.lanes().of_account(tx, account).await?;
            sql("insert into account (id, name, created_at, lane, epoch, quota_bytes) \
                 values ($1, $2, $3, $4, $5, $6)")
            .bind(account)
            .bind(&name)
            .bind(tx.now_ms())
            .bind(lane)
            .bind(i64::from(rand::random::<u32>()))
            .bind(new.quota_bytes)
            .run(tx)
            .await?;
            tx.take_account(account).await?;
            address::insert(tx, &new.address, true).await?;
            let login = login::insert(tx, &name, &new.password_hash).await?;
            access::insert_personal(tx, login, account, &name).await?;
            domain::offer_postmaster(tx, new.address.domain(), account).await?;
            insert_default_mailboxes(tx).await?;
            if new.quota_bytes > 0 {
                tx.created(ObjectType::Quota, account.0);
            }
            Ok(Ok(Created { account, login }))
        })
        .await?
}

async fn insert_default_mailboxes(tx: &mut Tx) -> Result<(), StoreError> {
    for (place, (name, role)) in (1..).zip(DEFAULT_MAILBOXES) {
        let new = NewMailbox { parent_id: Id::default(), name, role: Some(role), sort_order: place };
        mailbox::insert(tx, &new).await?;
    }
    Ok(())
}

/// What an account keeps and may keep.
pub async fn usage(conn: &mut Conn, account: AccountId) -> Result<Option<Usage>, StoreError> {
    sql("select quota_bytes, used_bytes, used_emails from account where id = $1")
        .bind(account)
        .first(conn, |row| {
            Ok(Usage { quota_bytes: row.get(0)?, used_bytes: row.get(1)?, used_emails: row.get(2)? })
        })
        .await
}

/// The lane in which the queue rows of an account are.
pub async fn lane(conn: &mut Conn, account: AccountId) -> Result<Option<i64>, StoreError> {
    sql("select lane from account where id = $1").bind(account).value(conn).await
}

/// The primary addresses of accounts, as far as they exist.
pub async fn names(conn: &mut Conn, ids: &[AccountId]) -> Result<HashMap<AccountId, String>, StoreError> {
    let ids: Vec<Id> = ids.iter().map(|account| account.0).collect();
    let rows = sql("select id, name from account where id = any($1)")
        .bind(&ids)
        .everywhere()
        .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
        .await?;
    Ok(rows.into_iter().collect())
}

/// Adds to what the account of the transaction keeps; negative numbers take away. Its Quota object
/// has changed, when there is one.
pub async fn use_more(tx: &mut Tx, bytes: i64, emails: i64) -> Result<(), StoreError> {
    let account = tx.account();
    let quota_bytes = sql("update account set used_bytes = used_bytes + $2, used_emails = used_emails + $3 \
                           where id = $1 returning quota_bytes")
    .bind(account)
    .bind(bytes)
    .bind(emails)
    .value::<i64>(tx)
    .await?;
    if quota_bytes.is_some_and(|limit| limit > 0) {
        tx.updated(ObjectType::Quota, account.0, QUOTA_USED_CHANGED);
    }
    Ok(())
}

/// Whether so many bytes more fit into the account of the transaction.
pub async fn has_room(tx: &mut Tx, size: i64) -> Result<bool, StoreError> {
    let account = tx.account();
    let usage = usage(tx, account).await?.ok_or(StoreError::NoSuchAccount)?;
    Ok(usage.quota_bytes == 0 || usage.used_bytes.saturating_add(size) <= usage.quota_bytes)
}

/// Sets how many bytes an account may keep; 0 is without limit. What it has stays.
pub async fn set_quota(store: &Store, account: AccountId, quota_bytes: i64) -> Result<(), DirectoryError> {
    store
        .write(account, async move |tx: &mut Tx| {
            let before = usage(tx, account).await?.map_or(0, |usage| usage.quota_bytes);
            sql("update account set quota_bytes = $2 where id = $1")
                .bind(account)
                .bind(quota_bytes)
                .run(tx)
                .await?;
            // An account without a limit has no Quota object.
            match (before > 0, quota_bytes > 0) {
                (false, true) => tx.created(ObjectType::Quota, account.0),
                (true, false) => tx.destroyed(ObjectType::Quota, account.0),
                (true, true) => tx.updated(ObjectType::Quota, account.0, QUOTA_LIMIT_CHANGED),
                (false, false) => {}
            }
            Ok(())
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::change::state_of;
    use crate::store::directory::fixture::Fixture;
    use crate::store::queue::lane_of;
    use crate::store::testing::OWNER;

    #[tokio::test]
    async fn a_new_account_has_all_that_it_needs() {
        let fixture = Fixture::new().await;
        let created = fixture.account("Alice@Example.TEST").await;
        let mut snapshot = fixture.store.read().await.unwrap();
        let mut mailboxes = mailbox::all(&mut snapshot, created.account, OWNER).await.unwrap();
        mailboxes.sort_by_key(|mailbox| mailbox.sort_order);
        let roles: Vec<_> = mailboxes.iter().filter_map(|mailbox| mailbox.role.as_deref()).collect();
        assert_eq!(roles, ["inbox", "drafts", "sent", "archive", "junk", "trash"]);
        let addresses = address::addresses_of(&mut snapshot, created.account).await.unwrap();
        assert_eq!(addresses, ["alice@example.test"]);
        let login = login::by_name(&mut snapshot, "alice@example.test").await.unwrap().unwrap();
        assert_eq!(login.id, created.login);
        let reached = access::accounts_of_login(&mut snapshot, login.id).await.unwrap();
        assert_eq!((reached.len(), reached[0].id, reached[0].is_personal), (1, created.account, true));
        for object_type in [ObjectType::Mailbox, ObjectType::Identity] {
            let state = state_of(&mut snapshot, created.account, object_type).await.unwrap();
            assert_eq!(state.modseq, 1, "{object_type:?}");
        }
        let lane = lane(&mut snapshot, created.account).await.unwrap();
        assert_eq!(lane, Some(lane_of(created.account)));
    }

    #[tokio::test]
    async fn an_address_names_one_account() {
        let fixture = Fixture::new().await;
        let bob = fixture.account("bob@example.test").await;
        let alias = Address::parse("team@example.test").unwrap();
        address::alias_add(&fixture.store, alias, bob.account).await.unwrap();
        let new = |text: &str| NewAccount {
            address: Address::parse(text).unwrap(),
            password_hash: String::new(),
            quota_bytes: 0,
        };
        for (text, refused) in [
            ("BOB@example.test", "in use"),
            ("team@example.test", "in use"),
            ("bob@elsewhere.test", "not one of this server"),
            ("\"b ob\"@example.test", "quotes"),
        ] {
            let error = create(&fixture.store, new(text)).await.unwrap_err();
            assert!(error.to_string().contains(refused), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_quota_that_changes_is_a_change() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let room = async |size| {
            let unit = async move |tx: &mut Tx| has_room(tx, size).await;
            fixture.store.write(account, unit).await.unwrap()
        };
        assert!(room(i64::MAX).await);
        set_quota(&fixture.store, account, 1_000).await.unwrap();
        assert!(room(1_000).await);
        assert!(!room(1_001).await);
        let mut snapshot = fixture.store.read().await.unwrap();
        assert_eq!(usage(&mut snapshot, account).await.unwrap().unwrap().quota_bytes, 1_000);
        assert_eq!(state_of(&mut snapshot, account, ObjectType::Quota).await.unwrap().modseq, 3);
        let outcome = set_quota(&fixture.store, AccountId(Id(7)), 1).await;
        assert!(matches!(outcome, Err(DirectoryError::NoSuchAccount)));
    }
}
