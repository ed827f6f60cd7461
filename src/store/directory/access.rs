//! Which login reaches which account, and whether it may write there.

use crate::bus::Event;
use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::directory::{DirectoryError, login};
use crate::store::error::StoreError;
use crate::store::push_subscription;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::{AccountId, Id};

/// An account as a login sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessibleAccount {
    /// The account.
    pub id: AccountId,
    /// Its name: its primary address.
    pub name: String,
    /// Whether the login may only read.
    pub is_read_only: bool,
    /// Whether it is the login's own.
    pub is_personal: bool,
}

/// The accounts that a login reaches, its own first.
pub async fn accounts_of_login(conn: &mut Conn, login: Id) -> Result<Vec<AccessibleAccount>, StoreError> {
    sql("select account_id, account_name, is_read_only, is_personal from access where login_id = $1 \
         order by is_personal desc, account_id")
    .bind(login)
    .all(conn, |row| {
        Ok(AccessibleAccount {
            id: row.get(0)?,
            name: row.get(1)?,
            is_read_only: row.get(2)?,
            is_personal: row.get(3)?,
        })
    })
    .await
}

/// A login as an account sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginOfAccount {
    /// The login.
    pub login: Id,
    /// Its name.
    pub name: String,
    /// Whether it may only read.
    pub is_read_only: bool,
    /// Whether the account is its own.
    pub is_personal: bool,
}

/// The logins that reach an account.
pub async fn logins_of_account(
    conn: &mut Conn,
    account: AccountId,
) -> Result<Vec<LoginOfAccount>, StoreError> {
    sql("select a.login_id, l.name, a.is_read_only, a.is_personal from access a \
         join login l on l.id = a.login_id where a.account_id = $1 order by a.login_id")
    .bind(account)
    .everywhere()
    .all(conn, |row| {
        Ok(LoginOfAccount {
            login: row.get(0)?,
            name: row.get(1)?,
            is_read_only: row.get(2)?,
            is_personal: row.get(3)?,
        })
    })
    .await
}

/// Writes the access of a new login to its own account.
pub(super) async fn insert_personal(
    tx: &mut Tx,
    login: Id,
    account: AccountId,
    name: &str,
) -> Result<(), StoreError> {
    sql("insert into access (login_id, account_id, account_name, is_read_only, is_personal) \
         values ($1, $2, $3, 0, 1)")
    .bind(login)
    .bind(account)
    .bind(name)
    .run(tx)
    .await?;
    Ok(())
}

/// Lets a login reach an account, or changes whether it may write there.
pub async fn grant(
    store: &Store,
    login: Id,
    account: AccountId,
    is_read_only: bool,
) -> Result<(), DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            if login::by_id(tx, login).await?.is_none() {
                return Ok(Err(DirectoryError::NoSuchLogin));
            }
            let name = sql("select name from account where id = $1 and removed_at = 0")
                .bind(account)
                .value::<String>(tx)
                .await?;
            let Some(name) = name else { return Ok(Err(DirectoryError::NoSuchAccount)) };
            sql("insert into access (login_id, account_id, account_name, is_read_only, is_personal) \
                 values ($1, $2, $3, $4, 0) \
                 on conflict (login_id, account_id) do update set is_read_only = excluded.is_read_only")
            .bind(login)
            .bind(account)
            .bind(name)
            .bind(is_read_only)
            .run(tx)
            .await?;
            tx.publish_after_commit(Event::LoginChanged { login });
            Ok(Ok(()))
        })
        .await??;
    Ok(push_subscription::hear_of(store, login, account).await?)
}

/// Takes the access of a login to an account of others away.
pub async fn revoke(store: &Store, login: Id, account: AccountId) -> Result<(), DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            let is_personal = sql("select is_personal from access where login_id = $1 and account_id = $2")
                .bind(login)
                .bind(account)
                .value::<bool>(tx)
                .await?;
            match is_personal {
                None => return Ok(Err(DirectoryError::NoSuchAccess)),
                Some(true) => return Ok(Err(DirectoryError::OwnAccount)),
                Some(false) => {}
            }
            sql("delete from access where login_id = $1 and account_id = $2 and is_personal = 0")
                .bind(login)
                .bind(account)
                .run(tx)
                .await?;
            sql("delete from mailbox_subscription where account_id = $1 and login_id = $2")
                .bind(account)
                .bind(login)
                .run(tx)
                .await?;
            tx.publish_after_commit(Event::LoginChanged { login });
            Ok(Ok(()))
        })
        .await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;

    #[tokio::test]
    async fn a_login_reaches_its_own_account_and_what_it_is_granted() {
        let fixture = Fixture::new().await;
        let alice = fixture.account("alice@example.test").await;
        let bob = fixture.account("bob@example.test").await;
        let mut events = fixture.store.bus().subscribe();
        grant(&fixture.store, alice.login, bob.account, true).await.unwrap();
        assert_eq!(events.recv().await, Ok(Event::LoginChanged { login: alice.login }));
        let seen = |accounts: Vec<AccessibleAccount>| {
            accounts
                .into_iter()
                .map(|account| (account.name, account.is_read_only, account.is_personal))
                .collect::<Vec<_>>()
        };
        let mut snapshot = fixture.store.read().await.unwrap();
        let accounts = seen(accounts_of_login(&mut snapshot, alice.login).await.unwrap());
        assert_eq!(
            accounts,
            [("alice@example.test".to_owned(), false, true), ("bob@example.test".to_owned(), true, false)]
        );
        drop(snapshot);

        grant(&fixture.store, alice.login, bob.account, false).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        assert!(!accounts_of_login(&mut snapshot, alice.login).await.unwrap()[1].is_read_only);
        assert_eq!(logins_of_account(&mut snapshot, bob.account).await.unwrap().len(), 2);
        drop(snapshot);

        revoke(&fixture.store, alice.login, bob.account).await.unwrap();
        let mut snapshot = fixture.store.read().await.unwrap();
        assert_eq!(accounts_of_login(&mut snapshot, alice.login).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_not_there_is_neither_granted_nor_revoked() {
        let fixture = Fixture::new().await;
        let alice = fixture.account("alice@example.test").await;
        let nobody = AccountId(Id(7));
        let store = &fixture.store;
        assert!(matches!(grant(store, alice.login, nobody, false).await, Err(DirectoryError::NoSuchAccount)));
        assert!(matches!(grant(store, Id(7), alice.account, false).await, Err(DirectoryError::NoSuchLogin)));
        assert!(matches!(revoke(store, alice.login, nobody).await, Err(DirectoryError::NoSuchAccess)));
        assert!(matches!(revoke(store, alice.login, alice.account).await, Err(DirectoryError::OwnAccount)));
    }
}
