//! The incoming queue: mail that has its 250 and is to be filed.
//!
//! A row is written durably before the 250. A small body is in a table apart, so that claiming a row
//! does not rewrite it; a larger one is staged in the blob store, synced before the row.

use bytes::Bytes;

use crate::bus::Queue;
use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::queue::claim::{self, Claim};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::IncomingEnvelope;
use crate::types::id::Id;

/// A message to be filed.
#[derive(Clone, Debug)]
pub struct NewIncoming {
    /// Its envelope.
    pub envelope: IncomingEnvelope,
    /// Of the content.
    pub body_hash: BlobHash,
    /// Of the content, in bytes.
    pub size: i64,
    /// The content, of at most `store::blob::INLINE_MAX` bytes; `None` when it is staged in the blob
    /// store.
    pub inline: Option<Bytes>,
}

/// A claimed row.
#[derive(Clone, Debug)]
pub struct IncomingRow {
    /// The claim.
    pub claim: Claim,
    /// How often the row was taken since it came or was last released.
    pub tries: i64,
    /// When the row was made, in milliseconds since 1970.
    pub created_at: i64,
    /// Its envelope.
    pub envelope: IncomingEnvelope,
    /// Of the content.
    pub body_hash: BlobHash,
    /// Of the content, in bytes.
    pub size: i64,
    /// Whether the content is staged in the blob store; else `bodies` has it.
    pub is_staged: bool,
}

fn envelope_text<T: serde::Serialize>(envelope: &T) -> Result<String, StoreError> {
    let text = serde_json::to_string(envelope);
    text.map_err(|error| StoreError::Engine(format!("an envelope cannot be written: {error}").into()))
}

/// Queues a message in a lane, due at once; the id of the row. A message that no account sends takes
/// a random lane.
pub async fn insert(tx: &mut Tx, lane: i64, new: &NewIncoming) -> Result<Id, StoreError> {
    let (id, now_ms) = (tx.new_id(), tx.now_ms());
    sql("insert into incoming (lane, id, due, created_at, envelope, body_hash, size, is_staged) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)")
    .bind(lane)
    .bind(id)
    .bind(now_ms)
    .bind(now_ms)
    .bind(envelope_text(&new.envelope)?)
    .bind(new.body_hash)
    .bind(new.size)
    .bind(new.inline.is_none())
    .run(tx)
    .await?;
    if let Some(body) = &new.inline {
        sql("insert into incoming_body (lane, id, body) values ($1, $2, $3)")
            .bind(lane)
            .bind(id)
            .bind(body.clone())
            .run(tx)
            .await?;
    }
    tx.wake(Queue::Incoming, lane);
    Ok(id)
}

/// Claims due rows of a lane, the oldest first. A row whose envelope cannot be read is set aside.
pub async fn claim(
    store: &Store,
    lane: i64,
    limit: usize,
    lease_ms: i64,
) -> Result<Vec<IncomingRow>, StoreError> {
    if !claim::has_work(store, Queue::Incoming, lane).await? {
        return Ok(Vec::new());
    }
    store
        .write_lane(lane, Urgency::Background, async move |tx: &mut Tx| {
            let mut unreadable = Vec::new();
            let rows = sql("select id, attempts, tries, created_at, envelope, body_hash, size, is_staged \
                            from incoming where lane = $1 and due <= $2 order by due, id limit $3 \
                            for update skip locked")
            .bind(lane)
            .bind(tx.now_ms())
            .bind(limit as i64)
            .all(tx, |row| {
                let claim = Claim { lane, id: row.get(0)?, attempts: row.get::<i64>(1)? + 1 };
                let envelope = match serde_json::from_str(row.text(4)?) {
                    Ok(envelope) => envelope,
                    Err(error) => {
                        unreadable.push((claim, format!("the envelope cannot be read: {error}")));
                        return Ok(None);
                    }
                };
                Ok(Some(IncomingRow {
                    claim,
                    tries: row.get::<i64>(2)? + 1,
                    created_at: row.get(3)?,
                    envelope,
                    body_hash: row.get(5)?,
                    size: row.get(6)?,
                    is_staged: row.get(7)?,
                }))
            })
            .await?;
            let rows: Vec<IncomingRow> = rows.into_iter().flatten().collect();
            let ids: Vec<Id> = rows
                .iter()
                .map(|row| row.claim.id)
                .chain(unreadable.iter().map(|(claim, _)| claim.id))
                .collect();
            claim::take(tx, Queue::Incoming, lane, &ids, lease_ms).await?;
            for (claim, reason) in &unreadable {
                claim::hold(tx, Queue::Incoming, *claim, reason).await?;
            }
            Ok(rows)
        })
        .await
}

/// The contents of rows of a lane that are kept inside the database.
pub async fn bodies(conn: &mut Conn, lane: i64, ids: &[Id]) -> Result<Vec<(Id, Bytes)>, StoreError> {
    sql("select id, body from incoming_body where lane = $1 and id = any($2)")
        .bind(lane)
        .bind(ids)
        .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
        .await
}

/// A row by its id, whoever has it in hand, with its content when it is kept inside the database.
pub async fn body_of(conn: &mut Conn, lane: i64, id: Id) -> Result<Option<Bytes>, StoreError> {
    sql("select body from incoming_body where lane = $1 and id = $2").bind(lane).bind(id).value(conn).await
}

/// Drops a row as an operator asks: the message is lost to its recipients. The hash of the content
/// when it was staged; `None` when there was no such row or nothing staged.
pub async fn discard(store: &Store, lane: i64, id: Id) -> Result<Discarded, StoreError> {
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            sql("delete from incoming_body where lane = $1 and id = $2").bind(lane).bind(id).run(tx).await?;
            let gone = sql("delete from incoming where lane = $1 and id = $2 returning body_hash, is_staged")
                .bind(lane)
                .bind(id)
                .first(tx, |row| Ok((row.get::<BlobHash>(0)?, row.get::<bool>(1)?)))
                .await?;
            Ok(match gone {
                None => Discarded::NotFound,
                Some((hash, true)) => Discarded::Staged(hash),
                Some((_, false)) => Discarded::Inline,
            })
        })
        .await
}

/// What a dropped row leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// There was no such row.
    NotFound,
    /// Nothing: the content is gone with it.
    Inline,
    /// A staged object, which the caller removes.
    Staged(BlobHash),
}
