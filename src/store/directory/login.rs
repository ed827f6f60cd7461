//! Logins: who signs in. The name is an address in its key form (`Address::to_string`); the version
//! grows with each change of the password, so that what was remembered of the login is void.

use bytes::Bytes;

use crate::bus::Event;
use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::directory::DirectoryError;
use crate::store::error::StoreError;
use crate::store::push_subscription::{self, Credential};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::{AccountId, Id};

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its id.
    pub id: Id,
    /// The address that one signs in with, in key form.
    pub name: String,
    /// Grows with each change of the password.
    pub version: i64,
}

/// What a password is checked against.
#[derive(Clone)]
pub struct VerifyData {
    /// The login.
    pub login: Login,
    /// PHC text for `password::verify`; empty when the login has no password.
    pub password_hash: String,
}

/// What a password of this name is checked against.
pub async fn verify_data(conn: &mut Conn, name: &str) -> Result<Option<VerifyData>, StoreError> {
    let Some(id) = id_by_name(conn, name).await? else { return Ok(None) };
    sql("select id, name, version, password_hash from login where id = $1")
        .bind(id)
        .first(conn, |row| {
            let login = Login { id: row.get(0)?, name: row.get(1)?, version: row.get(2)? };
            Ok(VerifyData { login, password_hash: row.get(3)? })
        })
        .await
}

/// The login of a name.
pub async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<Login>, StoreError> {
    match id_by_name(conn, name).await? {
        Some(id) => by_id(conn, id).await,
        None => Ok(None),
    }
}

/// Names stand apart: they are in the shard of the name, the login is in that of its id.
async fn id_by_name(conn: &mut Conn, name: &str) -> Result<Option<Id>, StoreError> {
    sql("select login_id from login_name where name = $1").bind(name).value(conn).await
}

/// The login of an id.
pub async fn by_id(conn: &mut Conn, login: Id) -> Result<Option<Login>, StoreError> {
    sql("select id, name, version from login where id = $1")
        .bind(login)
        .first(conn, |row| Ok(Login { id: row.get(0)?, name: row.get(1)?, version: row.get(2)? }))
        .await
}

/// Writes a new login.
pub(super) async fn insert(tx: &mut Tx, name: &str, password_hash: &str) -> Result<Id, StoreError> {
    let id = tx.new_id();
    sql("insert into login (id, name, password_hash, version, created_at) values ($1, $2, $3, 1, $4)")
        .bind(id)
        .bind(name)
        .bind(password_hash)
        .bind(tx.now_ms())
        .run(tx)
        .await?;
    sql("insert into login_name (name, login_id) values ($1, $2)").bind(name).bind(id).run(tx).await?;
    tx.publish_after_commit(Event::LoginChanged { login: id });
    Ok(id)
}

/// Sets the hash of a new password. From the commit on the old password counts nowhere.
pub async fn set_password(store: &Store, login: Id, password_hash: String) -> Result<(), DirectoryError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            let touched = sql("update login set password_hash = $2, version = version + 1 where id = $1")
                .bind(login)
                .bind(&password_hash)
                .run(tx)
                .await?;
            if touched == 0 {
                return Ok(Err(DirectoryError::NoSuchLogin));
            }
            push_subscription::delete_of(tx, Credential { login, token: Id(0) }).await?;
            tx.publish_after_commit(Event::LoginChanged { login });
            Ok(Ok(()))
        })
        .await?
}

/// Deletes logins with their tokens, what they may reach and their subscriptions there.
pub(super) async fn delete(tx: &mut Tx, logins: &[Id]) -> Result<(), StoreError> {
    for login in logins {
        delete_one(tx, *login).await?;
        tx.publish_after_commit(Event::LoginChanged { login: *login });
    }
    Ok(())
}

async fn delete_one(tx: &mut Tx, login: Id) -> Result<(), StoreError> {
    let secrets =
        sql("select secret_hash from token where login_id = $1").bind(login).column::<Bytes>(tx).await?;
    for secret in secrets {
        sql("delete from token_secret where secret_hash = $1").bind(secret).run(tx).await?;
    }
    sql("delete from token where login_id = $1").bind(login).run(tx).await?;
    sql("delete from push_subscription where login_id = $1").bind(login).run(tx).await?;
    let accounts =
        sql("select account_id from access where login_id = $1").bind(login).column::<AccountId>(tx).await?;
    for account in accounts {
        sql("delete from mailbox_subscription where account_id = $1 and login_id = $2")
            .bind(account)
            .bind(login)
            .run(tx)
            .await?;
    }
    sql("delete from access where login_id = $1").bind(login).run(tx).await?;
    if let Some(known) = by_id(tx, login).await? {
        sql("delete from login_name where name = $1").bind(known.name).run(tx).await?;
    }
    sql("delete from login where id = $1").bind(login).run(tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;

    #[tokio::test]
    async fn a_new_password_is_a_new_version_and_is_told() {
        let fixture = Fixture::new().await;
        let login = fixture.account("alice@example.test").await.login;
        let mut events = fixture.store.bus().subscribe();
        set_password(&fixture.store, login, "new".to_owned()).await.unwrap();
        assert_eq!(events.recv().await, Ok(Event::LoginChanged { login }));
        let mut snapshot = fixture.store.read().await.unwrap();
        let data = verify_data(&mut snapshot, "alice@example.test").await.unwrap().unwrap();
        assert_eq!((data.login.version, data.password_hash.as_str()), (2, "new"));
        assert_eq!(by_id(&mut snapshot, login).await.unwrap(), Some(data.login));
        assert!(verify_data(&mut snapshot, "bob@example.test").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn nobody_gets_no_password() {
        let fixture = Fixture::new().await;
        let outcome = set_password(&fixture.store, Id(7), "new".to_owned()).await;
        assert!(matches!(outcome, Err(DirectoryError::NoSuchLogin)));
    }
}
