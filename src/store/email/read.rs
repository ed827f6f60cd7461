//! Emails read by their ids, in lists.

use std::collections::HashMap;

use bytes::Bytes;

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::types::blob_id::BlobHash;
use crate::types::id::{AccountId, Id};

/// The immutable part of an Email.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailRow {
    /// Its id.
    pub id: Id,
    /// Its thread.
    pub thread_id: Id,
    /// The message.
    pub blob_hash: BlobHash,
    /// Octets of the message.
    pub size: i64,
    /// Milliseconds since 1970.
    pub received_at: i64,
    /// RFC 8621, 4.1.4.
    pub has_attachment: bool,
    /// JSON values ready to be copied into answers, as `mail::list_properties` keeps them.
    pub list_properties: String,
}

/// Octets of what stands before the list properties in the kept form.
const KEPT_HEAD: usize = 32 + 3 * 8 + 1;

impl EmailRow {
    /// As the cache keeps it, with the id as its key.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(KEPT_HEAD + self.list_properties.len());
        out.extend_from_slice(&self.blob_hash.0);
        for number in [self.thread_id.0, self.size, self.received_at] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(u8::from(self.has_attachment));
        out.extend_from_slice(self.list_properties.as_bytes());
        out.into()
    }

    /// What `to_bytes` has made; `None` for anything else.
    pub fn from_bytes(id: Id, kept: &[u8]) -> Option<EmailRow> {
        let (head, list_properties) = kept.split_at_checked(KEPT_HEAD)?;
        let number = |at: usize| Some(i64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?));
        Some(EmailRow {
            id,
            blob_hash: BlobHash(head[..32].try_into().ok()?),
            thread_id: Id(number(32)?),
            size: number(40)?,
            received_at: number(48)?,
            has_attachment: head[56] != 0,
            list_properties: std::str::from_utf8(list_properties).ok()?.to_owned(),
        })
    }
}

/// The Emails of these ids, as far as they exist, in no order.
pub async fn rows(conn: &mut Conn, account: AccountId, ids: &[Id]) -> Result<Vec<EmailRow>, StoreError> {
    sql("select id, thread_id, blob_hash, size, received_at, has_attachment, list_properties from email \
         where account_id = $1 and id = any($2)")
    .bind(account)
    .bind(ids)
    .all(conn, |row| {
        Ok(EmailRow {
            id: row.get(0)?,
            thread_id: row.get(1)?,
            blob_hash: row.get(2)?,
            size: row.get(3)?,
            received_at: row.get(4)?,
            has_attachment: row.get(5)?,
            list_properties: row.get(6)?,
        })
    })
    .await
}

/// The parsed structures of these Emails.
pub async fn structures(
    conn: &mut Conn,
    account: AccountId,
    ids: &[Id],
) -> Result<HashMap<Id, String>, StoreError> {
    let rows =
        sql("select email_id, structure from email_structure where account_id = $1 and email_id = any($2)")
            .bind(account)
            .bind(ids)
            .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
            .await?;
    Ok(rows.into_iter().collect())
}

/// The newest ids of the account, for a get without ids; at most `limit`.
pub async fn ids(conn: &mut Conn, account: AccountId, limit: usize) -> Result<Vec<Id>, StoreError> {
    sql("select email_id from membership where account_id = $1 and mailbox_id = 0 \
         order by received_at desc, email_id desc limit $2")
    .bind(account)
    .bind(limit as i64)
    .column(conn)
    .await
}

/// The Emails of these threads, each thread's oldest first (RFC 8621, 3).
pub async fn thread_emails(
    conn: &mut Conn,
    account: AccountId,
    threads: &[Id],
) -> Result<HashMap<Id, Vec<Id>>, StoreError> {
    let mut out: HashMap<Id, Vec<Id>> = HashMap::new();
    sql("select thread_id, id from email where account_id = $1 and thread_id = any($2) \
         order by thread_id, received_at, id")
    .bind(account)
    .bind(threads)
    .each(conn, |row| {
        out.entry(row.get(0)?).or_default().push(row.get(1)?);
        Ok(true)
    })
    .await?;
    Ok(out)
}

/// The Emails of the account that are made of one of these blobs, with the blob.
pub async fn by_blobs(
    conn: &mut Conn,
    account: AccountId,
    hashes: &[BlobHash],
) -> Result<Vec<(BlobHash, Id, Id)>, StoreError> {
    sql("select blob_hash, id, thread_id from email where account_id = $1 and blob_hash = any($2) \
         order by blob_hash, id")
    .bind(account)
    .bind(hashes)
    .all(conn, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    .await
}

/// Threads of the account, for a get without ids; at most `limit`.
pub async fn thread_ids(conn: &mut Conn, account: AccountId, limit: usize) -> Result<Vec<Id>, StoreError> {
    sql("select distinct thread_id from email where account_id = $1 order by thread_id limit $2")
        .bind(account)
        .bind(limit as i64)
        .column(conn)
        .await
}

/// The ids of all Emails in their own order, from the one after `after` on.
pub async fn ids_after(
    conn: &mut Conn,
    account: AccountId,
    after: Id,
    limit: usize,
) -> Result<Vec<Id>, StoreError> {
    sql("select id from email where account_id = $1 and id > $2 order by id limit $3")
        .bind(account)
        .bind(after)
        .bind(limit as i64)
        .column(conn)
        .await
}
