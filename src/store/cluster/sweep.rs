//! Statements about all accounts at once. On a cluster each asks every shard, so none is on the
//! path of a request; everything else in `store` names one account or one lane.

use crate::store::Store;
use crate::store::db::{Conn, everywhere_sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::id::AccountId;

/// A row of `blob` as the sweep sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobRow {
    /// The object.
    pub hash: BlobHash,
    /// When a sweep marked it, in milliseconds since 1970; 0 when it is not marked.
    pub deleting: i64,
}

/// The next blobs after one, in the order of their hashes, that nobody has touched since
/// `touched_before`.
pub async fn blob_page(
    conn: &mut Conn,
    after: Option<BlobHash>,
    touched_before: i64,
    limit: usize,
) -> Result<Vec<BlobRow>, StoreError> {
    let after = after.map_or_else(Vec::new, |hash| hash.0.to_vec());
    everywhere_sql(
        "select hash, deleting from blob where hash > $1 and touched_at < $2 order by hash limit $3",
    )
    .bind(bytes::Bytes::from(after))
    .bind(touched_before)
    .bind(limit as i64)
    .all(conn, |row| Ok(BlobRow { hash: row.get(0)?, deleting: row.get(1)? }))
    .await
}

/// Which of these blobs are needed: by a message that waits to be filed, or by an account.
pub async fn blob_needed(conn: &mut Conn, hashes: &[BlobHash]) -> Result<Vec<BlobHash>, StoreError> {
    // The waiting messages first: filing refers to the blob before the waiting row goes. Asked the
    // other way round, a message filed between the two questions would be found by neither.
    let mut needed: Vec<BlobHash> =
        everywhere_sql("select distinct body_hash from incoming where is_staged = 1 and body_hash = any($1)")
            .bind(hashes)
            .column(conn)
            .await?;
    let referenced: Vec<BlobHash> =
        everywhere_sql("select distinct hash from blob_reference where hash = any($1)")
            .bind(hashes)
            .column(conn)
            .await?;
    needed.extend(referenced);
    Ok(needed)
}

/// Marks blobs as being deleted, with the time of the transaction, unless somebody has touched them
/// since `touched_before` or they are marked already. Those that this call has marked.
pub async fn blob_mark(
    tx: &mut Tx,
    hashes: &[BlobHash],
    touched_before: i64,
) -> Result<Vec<BlobHash>, StoreError> {
    everywhere_sql(
        "update blob set deleting = $3 \
         where hash = any($1) and touched_at < $2 and deleting = 0 returning hash",
    )
    .bind(hashes)
    .bind(touched_before)
    .bind(tx.now_ms())
    .column(tx)
    .await
}

/// Takes over, with a new mark, blobs that a sweep marked before `marked_before` and then left.
/// Those that this call has taken.
pub async fn blob_take_over(
    tx: &mut Tx,
    hashes: &[BlobHash],
    marked_before: i64,
) -> Result<Vec<BlobHash>, StoreError> {
    everywhere_sql(
        "update blob set deleting = $3 \
         where hash = any($1) and deleting > 0 and deleting < $2 returning hash",
    )
    .bind(hashes)
    .bind(marked_before)
    .bind(tx.now_ms())
    .column(tx)
    .await
}

/// Clears this mark from blobs that are needed after all.
pub async fn blob_unmark(tx: &mut Tx, hashes: &[BlobHash], mark: i64) -> Result<(), StoreError> {
    everywhere_sql("update blob set deleting = 0 where hash = any($1) and deleting = $2")
        .bind(hashes)
        .bind(mark)
        .run(tx)
        .await?;
    Ok(())
}

/// Forgets blobs whose objects are deleted.
pub async fn blob_forget(tx: &mut Tx, hashes: &[BlobHash], mark: i64) -> Result<(), StoreError> {
    everywhere_sql("delete from blob where hash = any($1) and deleting = $2")
        .bind(hashes)
        .bind(mark)
        .run(tx)
        .await?;
    Ok(())
}

/// Forgets the numbers of transactions that began before a time: nobody looks for them any more.
pub async fn commit_marks_trim(store: &Store, before_ms: i64) -> Result<(), StoreError> {
    if !store.marks_commits() {
        return Ok(());
    }
    let unit = async move |tx: &mut Tx| {
        // Of one engine alone: the other has no such table.
        let text = "delete from commit_mark where created_at < $1".to_owned();
        everywhere_sql(text).bind(before_ms).run(tx).await.map(drop)
    };
    store.write_plain(Urgency::Background, unit).await
}

/// Erases the push subscriptions whose time is over, with their URLs and keys.
pub async fn push_subscriptions_trim(store: &Store) -> Result<(), StoreError> {
    let unit = async move |tx: &mut Tx| {
        let now_ms = tx.now_ms();
        let text = "delete from push_subscription where expires_at <= $1";
        everywhere_sql(text).bind(now_ms).run(tx).await.map(drop)
    };
    store.write_plain(Urgency::Background, unit).await
}

/// The domains of which events were logged.
pub async fn domains_with_logs(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    everywhere_sql("select domain from event_head").column(conn).await
}

/// Some accounts with uploads whose time is over.
pub async fn accounts_with_expired_uploads(
    conn: &mut Conn,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<AccountId>, StoreError> {
    everywhere_sql(
        "select distinct account_id from blob_reference \
         where expires_at > 0 and expires_at <= $1 and source = 1 limit $2",
    )
    .bind(now_ms)
    .bind(limit as i64)
    .column(conn)
    .await
}
