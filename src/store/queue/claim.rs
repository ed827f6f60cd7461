//! Claims on queue rows: a lease with a fence.
//!
//! A worker that claims a row has it until the lease ends, and renews the lease while it works. Each
//! claim raises `attempts`; every later statement of the worker names the value it got. So a worker
//! whose lease has ended changes nothing any more, and hears so.

use crate::bus::Queue;
use crate::store::Store;
use crate::store::db::sql;
use crate::store::error::StoreError;
use crate::store::queue::{NEVER, queue_sql};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Value;
use crate::types::id::Id;

/// How long a claim lasts unless it is renewed.
pub const LEASE_MS: i64 = 8_000;
/// How often a worker renews its claims.
pub const RENEW_EVERY_MS: i64 = 2_000;

/// A row that a worker has in hand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claim {
    /// The lane of the row.
    pub lane: i64,
    /// The row.
    pub id: Id,
    /// The fence.
    pub attempts: i64,
}

impl Claim {
    fn key(&self) -> Vec<Value> {
        vec![self.lane.into(), self.id.into(), self.attempts.into()]
    }

    fn key_and(&self, value: impl Into<Value>) -> Vec<Value> {
        let mut key = self.key();
        key.push(value.into());
        key
    }
}

/// Whether a lane has something due: a read, so that idle workers do not trouble the writer.
pub(super) async fn has_work(store: &Store, queue: Queue, lane: i64) -> Result<bool, StoreError> {
    let now_ms = store.clock().now_ms();
    let mut snapshot = store.read().await?;
    let query = queue_sql("select id from {queue} where lane = $1 and due <= $2 limit 1", queue);
    let found = query.bind(lane).bind(now_ms).value::<Id>(&mut snapshot).await?;
    Ok(found.is_some())
}

/// Leases rows that the transaction has just read.
pub(super) async fn take(
    tx: &mut Tx,
    queue: Queue,
    lane: i64,
    ids: &[Id],
    lease_ms: i64,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let query = queue_sql(
        "update {queue} set due = $3, attempts = attempts + 1, tries = tries + 1, \
             is_leased = 1 where lane = $1 and id = any($2)",
        queue,
    );
    let until = tx.now_ms() + lease_ms;
    query.bind(lane).bind(ids).bind(until).run(tx).await?;
    Ok(())
}

/// Those of the claims, all of one lane, that still hold: to the end of the transaction, nobody takes
/// them over.
pub async fn held(conn: &mut Tx, queue: Queue, claims: &[Claim]) -> Result<Vec<Claim>, StoreError> {
    let Some(first) = claims.first() else { return Ok(Vec::new()) };
    let lane = first.lane;
    let ids: Vec<Id> = claims.iter().map(|claim| claim.id).collect();
    let query = queue_sql(
        "select id, attempts from {queue} where lane = $1 and id = any($2) \
                                and is_leased = 1 for update",
        queue,
    );
    let rows: std::collections::HashSet<(i64, Id, i64)> = query
        .bind(lane)
        .bind(&ids)
        .all(conn, |row| Ok((lane, row.get(0)?, row.get(1)?)))
        .await?
        .into_iter()
        .collect();
    let holds = |claim: &&Claim| rows.contains(&(claim.lane, claim.id, claim.attempts));
    Ok(claims.iter().filter(holds).copied().collect())
}

/// Renews claims, all of one lane; those that still hold. Work on the others must stop.
pub async fn renew(
    store: &Store,
    queue: Queue,
    claims: Vec<Claim>,
    lease_ms: i64,
) -> Result<Vec<Claim>, StoreError> {
    let Some(lane) = claims.first().map(|claim| claim.lane) else { return Ok(claims) };
    // Urgent: a lease that ends while its renewal waits lets another worker do the same work.
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            let until = tx.now_ms() + lease_ms;
            let rows: Vec<_> = claims.iter().map(|claim| claim.key_and(until)).collect();
            let query = queue_sql(
                "update {queue} set due = $4 \
                     where lane = $1 and id = $2 and attempts = $3 and is_leased = 1",
                queue,
            );
            if query.run_each(tx, rows).await? == claims.len() as u64 {
                return Ok(claims);
            }
            held(tx, queue, &claims).await
        })
        .await
}

/// Removes rows that are done; how many of the claims still held. When that is fewer than given,
/// another worker has or had the rest: a unit that has done something only once answers an error,
/// so that all of it is undone.
pub async fn done(tx: &mut Tx, queue: Queue, claims: &[Claim]) -> Result<u64, StoreError> {
    let keys: Vec<_> = claims.iter().map(Claim::key).collect();
    if queue == Queue::Incoming {
        sql("delete from incoming_body where lane = $1 and id = $2 and exists (select 1 from incoming q \
             where q.lane = $1 and q.id = $2 and q.attempts = $3 and q.is_leased = 1)")
        .run_each(tx, keys.clone())
        .await?;
    }
    let query = queue_sql(
        "delete from {queue} where lane = $1 and id = $2 and attempts = $3 and is_leased = 1",
        queue,
    );
    query.run_each(tx, keys).await
}

/// Puts a row back, to be tried again at `due`; whether the claim still held.
pub async fn retry(
    tx: &mut Tx,
    queue: Queue,
    claim: Claim,
    due: i64,
    error: &str,
) -> Result<bool, StoreError> {
    let query = queue_sql(
        "update {queue} set due = $4, last_error = $5, is_leased = 0 \
             where lane = $1 and id = $2 and attempts = $3 and is_leased = 1",
        queue,
    );
    Ok(query.bind_all(claim.key_and(due)).bind(error_text(error)).run(tx).await? == 1)
}

/// Sets a row aside with the reason, until somebody retries or drops it; whether the claim still held.
pub async fn hold(tx: &mut Tx, queue: Queue, claim: Claim, reason: &str) -> Result<bool, StoreError> {
    let query = queue_sql(
        "update {queue} set due = $4, last_error = $5, is_leased = 0, is_held = 1 \
             where lane = $1 and id = $2 and attempts = $3 and is_leased = 1",
        queue,
    );
    Ok(query.bind_all(claim.key_and(NEVER)).bind(error_text(reason)).run(tx).await? == 1)
}

/// Gives rows back untried, as a worker does that is told to stop: they are due at once.
pub async fn give_back(store: &Store, queue: Queue, claims: Vec<Claim>) -> Result<(), StoreError> {
    let Some(lane) = claims.first().map(|claim| claim.lane) else { return Ok(()) };
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            let now_ms = tx.now_ms();
            let rows = claims.iter().map(|claim| claim.key_and(now_ms)).collect();
            let query = queue_sql(
                "update {queue} set due = $4, tries = tries - 1, is_leased = 0 \
                     where lane = $1 and id = $2 and attempts = $3 and is_leased = 1",
                queue,
            );
            query.run_each(tx, rows).await?;
            for claim in &claims {
                tx.wake(queue, claim.lane);
            }
            Ok(())
        })
        .await
}

/// Puts rows back untried, each due at its time, as a worker does that has no room for them.
pub async fn postpone(store: &Store, queue: Queue, claims: Vec<(Claim, i64)>) -> Result<(), StoreError> {
    let Some(lane) = claims.first().map(|(claim, _)| claim.lane) else { return Ok(()) };
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            let rows = claims.iter().map(|(claim, due)| claim.key_and(*due)).collect();
            let query = queue_sql(
                "update {queue} set due = $4, tries = tries - 1, is_leased = 0 \
                     where lane = $1 and id = $2 and attempts = $3 and is_leased = 1",
                queue,
            );
            query.run_each(tx, rows).await?;
            Ok(())
        })
        .await
}

/// Lets a row that waits or is set aside be tried at once, as an operator asks; false when it is gone
/// or a worker has it in hand.
pub async fn release(store: &Store, queue: Queue, lane: i64, id: Id) -> Result<bool, StoreError> {
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            let query = queue_sql(
                "update {queue} set due = $3, tries = 0, is_held = 0, \
                     last_error = case when substr(last_error, 1, length($4)) = $4 \
                       then substr(last_error, length($4) + 1) else last_error end \
                     where lane = $1 and id = $2 and (is_leased = 0 or due <= $3)",
                queue,
            );
            let now_ms = tx.now_ms();
            let touched = query.bind(lane).bind(id).bind(now_ms).bind(HELD).run(tx).await?;
            tx.wake(queue, lane);
            Ok(touched == 1)
        })
        .await
}

/// What stands before the reason of a row that an operator has set aside.
pub const HELD: &str = "held by an administrator; ";

/// Sets a row aside that no worker has in hand, as an operator asks, until it is released or dropped; false when
/// it is gone or in hand.
pub async fn set_aside(store: &Store, queue: Queue, lane: i64, id: Id) -> Result<bool, StoreError> {
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            let query = queue_sql(
                "update {queue} set due = $3, is_leased = 0, is_held = 1, \
                 last_error = case when substr(last_error, 1, length($4)) = $4 \
                   then last_error else $4 || last_error end \
                 where lane = $1 and id = $2 and (is_leased = 0 or due <= $5)",
                queue,
            );
            let now_ms = tx.now_ms();
            let touched = query.bind(lane).bind(id).bind(NEVER).bind(HELD).bind(now_ms).run(tx).await?;
            Ok(touched == 1)
        })
        .await
}

/// Errors come from anywhere: without NUL, and no longer than anybody reads.
pub(super) fn error_text(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(1_000).collect()
}
