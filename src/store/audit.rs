//! What administrators have done. Entries are kept for ever: there are few, and they are what somebody
//! looks for after years.

use crate::store::Store;
use crate::store::cluster;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Row;
use crate::types::id::Id;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id: the newer the larger.
    pub id: Id,
    /// In milliseconds since 1970.
    pub created_at: i64,
    /// The domain that the act was about; empty for the server.
    pub domain: String,
    /// Who acted.
    pub actor: String,
    /// What was done.
    pub act: String,
    /// To what.
    pub object: String,
    /// What came of it.
    pub outcome: String,
}

/// What part of the entries is read.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Entries older than this one.
    pub before: Id,
    /// At most so many.
    pub limit: usize,
}

/// Reads a row of `domain, id, created_at, actor, act, object, outcome`.
pub(in crate::store) fn read_entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    Ok(Entry {
        domain: row.get(0)?,
        id: row.get(1)?,
        created_at: row.get(2)?,
        actor: row.get(3)?,
        act: row.get(4)?,
        object: row.get(5)?,
        outcome: row.get(6)?,
    })
}

/// Enters an act that is about to be carried out.
pub async fn begin(store: &Store, new: Entry) -> Result<(), StoreError> {
    let unit = async move |tx: &mut Tx| {
        sql("insert into audit (domain, id, created_at, actor, act, object, outcome) \
             values ($1, $2, $3, $4, $5, $6, $7)")
        .bind(&new.domain)
        .bind(new.id)
        .bind(new.created_at)
        .bind(&new.actor)
        .bind(&new.act)
        .bind(&new.object)
        .bind(&new.outcome)
        .run(tx)
        .await
        .map(drop)
    };
    store.write_plain(Urgency::Interactive, unit).await
}

/// Enters what came of it.
pub async fn end(store: &Store, domain: String, id: Id, outcome: String) -> Result<(), StoreError> {
    let unit = async move |tx: &mut Tx| {
        sql("update audit set outcome = $3 where domain = $1 and id = $2")
            .bind(&domain)
            .bind(id)
            .bind(&outcome)
            .run(tx)
            .await
            .map(drop)
    };
    store.write_plain(Urgency::Interactive, unit).await
}

/// Entries about a domain, the newest first.
pub async fn of_domain(conn: &mut Conn, domain: &str, page: Page) -> Result<Vec<Entry>, StoreError> {
    sql("select domain, id, created_at, actor, act, object, outcome from audit \
         where domain = $1 and id < $2 order by id desc limit $3")
    .bind(domain)
    .bind(page.before)
    .bind(page.limit as i64)
    .all(conn, read_entry)
    .await
}

/// All entries, the newest first.
pub async fn all(conn: &mut Conn, page: Page) -> Result<Vec<Entry>, StoreError> {
    cluster::audit_list(conn, page).await
}
