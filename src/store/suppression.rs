//! Addresses to which programs do not send for an account: mail to them bounced for good, or they have
//! complained, or the program says so. People who write by JMAP or SMTP are not kept from trying.

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::value::Value;
use crate::types::address::Address;
use crate::types::id::AccountId;

/// Why an address is on the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// There is no such mailbox.
    Bounce,
    /// Its owner calls our mail unwanted.
    Complaint,
    /// A program has put it there.
    Manual,
}

impl Reason {
    /// Its name, on disk and for programs.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Bounce => "bounce",
            Reason::Complaint => "complaint",
            Reason::Manual => "manual",
        }
    }
}

/// An address on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The address, in its usual form.
    pub address: String,
    /// The name of a `Reason`.
    pub reason: String,
    /// What was said.
    pub detail: String,
    /// In milliseconds since 1970.
    pub created_at: i64,
}

/// Whether an enhanced status code (RFC 3463) says that there is no such mailbox. A mailbox that is full, or a
/// message that is not liked, is no reason not to try the next one.
pub fn is_hard(status: &str) -> bool {
    matches!(status, "5.1.0" | "5.1.1" | "5.1.2" | "5.1.3" | "5.1.6" | "5.1.10" | "5.2.1")
}

/// The form in which an address is on the list; nothing when it is none.
pub fn key_of(address: &str) -> Option<String> {
    Address::parse(address).ok().map(|address| address.to_string())
}

/// Puts addresses on the list of the transaction's account; what is there stays as it is.
pub async fn add(
    tx: &mut Tx,
    addresses: Vec<String>,
    reason: Reason,
    detail: &str,
) -> Result<(), StoreError> {
    let (account, now_ms) = (tx.account(), tx.now_ms());
    let row = |address: String| {
        vec![account.into(), address.into(), reason.name().into(), detail.into(), now_ms.into()]
    };
    let rows: Vec<Vec<Value>> = addresses.iter().filter_map(|text| key_of(text)).map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    sql("insert into suppression (account_id, address, reason, detail, created_at) \
         values ($1, $2, $3, $4, $5) on conflict (account_id, address) do nothing")
    .run_each(tx, rows)
    .await
    .map(drop)
}

/// Those of some addresses, in their usual form, that are on the list.
pub async fn among(
    conn: &mut Conn,
    account: AccountId,
    addresses: Vec<String>,
) -> Result<Vec<String>, StoreError> {
    sql("select address from suppression where account_id = $1 and address = any($2)")
        .bind(account)
        .bind(addresses)
        .column(conn)
        .await
}

/// The list, by address, from the one after `after` on.
pub async fn list(
    conn: &mut Conn,
    account: AccountId,
    after: &str,
    limit: usize,
) -> Result<Vec<Suppression>, StoreError> {
    sql("select address, reason, detail, created_at from suppression \
         where account_id = $1 and address > $2 order by address limit $3")
    .bind(account)
    .bind(after)
    .bind(limit as i64)
    .all(conn, |row| {
        Ok(Suppression {
            address: row.get(0)?,
            reason: row.get(1)?,
            detail: row.get(2)?,
            created_at: row.get(3)?,
        })
    })
    .await
}

/// Addresses on the list of an account beyond which no program adds one. What bounces goes on it all the same.
pub const MAX_SUPPRESSIONS: usize = 100_000;

/// Whether the list of an account has room for what a program adds.
pub async fn has_room(conn: &mut Conn, account: AccountId) -> Result<bool, StoreError> {
    let last =
        sql("select address from suppression where account_id = $1 order by address limit 1 offset $2")
            .bind(account)
            .bind(MAX_SUPPRESSIONS as i64 - 1)
            .value::<String>(conn)
            .await?;
    Ok(last.is_none())
}

/// Takes an address, in its usual form, off the list; whether it was there.
pub async fn remove(tx: &mut Tx, address: &str) -> Result<bool, StoreError> {
    let account = tx.account();
    let gone = sql("delete from suppression where account_id = $1 and address = $2")
        .bind(account)
        .bind(address)
        .run(tx)
        .await?;
    Ok(gone == 1)
}
