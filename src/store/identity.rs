//! Identities (RFC 8621, 6): whom an account may send as, and what clients keep about that.
//!
//! Each address of an account has an Identity with `is_own_address`, which comes and goes with the
//! address (`directory::address`); those beside them are made and destroyed by clients.

use crate::mail::headers::addresses::EmailAddress;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::value::Row;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// An Identity as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id; 0 before it is stored.
    pub id: Id,
    /// The display name.
    pub name: String,
    /// The address, which never changes.
    pub email: String,
    /// The Reply-To of new messages.
    pub reply_to: Option<Vec<EmailAddress>>,
    /// The Bcc of new messages.
    pub bcc: Option<Vec<EmailAddress>>,
    /// The signature of plain messages.
    pub text_signature: String,
    /// The signature of HTML messages.
    pub html_signature: String,
    /// Whether it stands for an address of the account and goes with it alone.
    pub is_own_address: bool,
}

// Each statement is a text of the program: one that is made at run time is planned anew each time.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, name, email, reply_to, bcc, text_signature, html_signature, is_own_address \
             from identity where account_id = $1",
            $rest
        )
    };
}

fn read_identity(row: &Row<'_>) -> Result<Identity, StoreError> {
    Ok(Identity {
        id: row.get(0)?,
        name: row.get(1)?,
        email: row.get(2)?,
        reply_to: addresses(row.get(3)?)?,
        bcc: addresses(row.get(4)?)?,
        text_signature: row.get(5)?,
        html_signature: row.get(6)?,
        is_own_address: row.get(7)?,
    })
}

fn addresses(text: Option<String>) -> Result<Option<Vec<EmailAddress>>, StoreError> {
    let read = |text: String| serde_json::from_str(&text);
    text.map(read).transpose().map_err(|error| StoreError::corrupt_value("addresses of an identity", &error))
}

fn addresses_text(addresses: Option<&[EmailAddress]>) -> Result<Option<String>, StoreError> {
    let written = addresses.map(serde_json::to_string).transpose();
    written.map_err(|error| StoreError::Engine(format!("addresses cannot be written: {error}").into()))
}

/// All Identities of the account, the oldest first; their number is limited.
pub async fn all(conn: &mut Conn, account: AccountId) -> Result<Vec<Identity>, StoreError> {
    sql(select!(" order by id")).bind(account).all(conn, read_identity).await
}

/// The Identities of these ids, as far as they exist, in no order.
pub async fn by_ids(conn: &mut Conn, account: AccountId, ids: &[Id]) -> Result<Vec<Identity>, StoreError> {
    sql(select!(" and id = any($2)")).bind(account).bind(ids).all(conn, read_identity).await
}

/// How many Identities the account has.
pub async fn count(conn: &mut Conn, account: AccountId) -> Result<i64, StoreError> {
    let count = sql("select count(*) from identity where account_id = $1").bind(account).value(conn).await?;
    Ok(count.unwrap_or(0))
}

/// Makes an Identity; its id. The caller has checked the address.
pub async fn insert(tx: &mut Tx, new: &Identity) -> Result<Id, StoreError> {
    let id = tx.new_id();
    sql("insert into identity (account_id, id, name, email, reply_to, bcc, text_signature, \
         html_signature, is_own_address) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
    .bind(tx.account())
    .bind(id)
    .bind(&new.name)
    .bind(&new.email)
    .bind(addresses_text(new.reply_to.as_deref())?)
    .bind(addresses_text(new.bcc.as_deref())?)
    .bind(&new.text_signature)
    .bind(&new.html_signature)
    .bind(new.is_own_address)
    .run(tx)
    .await?;
    tx.created(ObjectType::Identity, id);
    Ok(id)
}

/// Writes all that a client can change of an Identity.
pub async fn update(tx: &mut Tx, identity: &Identity) -> Result<(), StoreError> {
    sql("update identity set name = $3, reply_to = $4, bcc = $5, text_signature = $6, html_signature = $7 \
         where account_id = $1 and id = $2")
    .bind(tx.account())
    .bind(identity.id)
    .bind(&identity.name)
    .bind(addresses_text(identity.reply_to.as_deref())?)
    .bind(addresses_text(identity.bcc.as_deref())?)
    .bind(&identity.text_signature)
    .bind(&identity.html_signature)
    .run(tx)
    .await?;
    tx.updated(ObjectType::Identity, identity.id, 0);
    Ok(())
}

/// Removes an Identity that a client has made; whether there was one.
pub async fn delete(tx: &mut Tx, id: Id) -> Result<bool, StoreError> {
    let touched = sql("delete from identity where account_id = $1 and id = $2 and is_own_address = 0")
        .bind(tx.account())
        .bind(id)
        .run(tx)
        .await?;
    if touched > 0 {
        tx.destroyed(ObjectType::Identity, id);
    }
    Ok(touched > 0)
}
