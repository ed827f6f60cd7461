//! Events of mail: what programs that integrate are told.
//!
//! An event is written in the transaction that causes it, as a row of the outbox in the lane of its
//! account (`enqueue`, called by the funnel). `crate::events` takes the rows of a lane to the logs of
//! the domains (`log`), in which they have their numbers, and from there to webhooks (`webhook`).

pub mod log;
pub mod webhook;

use crate::bus::Queue;
use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Value;
use crate::types::event::{EventData, EventKind};
use crate::types::id::{AccountId, Id};

/// An event that a unit of work has noted.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What has happened.
    pub kind: EventKind,
    /// The submission that it is about; 0 for none.
    pub submission: Id,
    /// What is told of it.
    pub data: EventData,
}

/// Where an event stands among those of its account: modseq of its transaction, and place within it.
pub type Place = (i64, i64);

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Whose mail it is.
    pub account: AccountId,
    /// Where it stands.
    pub place: Place,
    /// Its id, the same for ever.
    pub id: Id,
    /// When it happened, in milliseconds since 1970.
    pub created_at: i64,
    /// The kind, as a number.
    pub kind: i64,
    /// The submission that it is about; 0 for none.
    pub submission: Id,
    /// JSON of its data.
    pub data: String,
}

/// Writes the events of a transaction: among the last statements of each.
pub(in crate::store) async fn enqueue(tx: &mut Tx, events: Vec<NewEvent>) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(events.len());
    for (n, event) in (0_i64..).zip(events) {
        let data = serde_json::to_string(&event.data)
            .map_err(|error| StoreError::Engine(format!("an event cannot be written: {error}").into()))?;
        rows.push(vec![
            tx.lane().into(),
            tx.account().into(),
            tx.modseq().into(),
            n.into(),
            tx.new_id().into(),
            tx.now_ms().into(),
            event.kind.number().into(),
            event.submission.into(),
            Value::Text(data),
        ]);
    }
    sql("insert into event_outbox (lane, account_id, modseq, n, id, created_at, kind, submission_id, data) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
    .run_each(tx, rows)
    .await?;
    tx.wake(Queue::Events, tx.lane());
    Ok(())
}

/// Rows of a lane, those of each account in their order, from the one after `after` on.
pub async fn waiting(
    conn: &mut Conn,
    lane: i64,
    after: (AccountId, Place),
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let (account, (modseq, n)) = after;
    sql("select account_id, modseq, n, id, created_at, kind, submission_id, data from event_outbox \
         where lane = $1 and (account_id, modseq, n) > ($2, $3, $4) order by account_id, modseq, n limit $5")
    .bind(lane)
    .bind(account)
    .bind(modseq)
    .bind(n)
    .bind(limit as i64)
    .all(conn, |row| {
        Ok(Waiting {
            account: row.get(0)?,
            place: (row.get(1)?, row.get(2)?),
            id: row.get(3)?,
            created_at: row.get(4)?,
            kind: row.get(5)?,
            submission: row.get(6)?,
            data: row.get(7)?,
        })
    })
    .await
}

/// Takes the work on lanes until a time, or keeps it; the lanes that are the holder's now.
pub async fn lease(store: &Store, lanes: &[i64], holder: i64, lease_ms: i64) -> Result<Vec<i64>, StoreError> {
    let mut held = Vec::with_capacity(lanes.len());
    for group in store.lanes().together(lanes) {
        let first = group.first().copied().unwrap_or_default();
        let unit = async move |tx: &mut Tx| {
            let mut held = Vec::with_capacity(group.len());
            for lane in group {
                let taken = sql("insert into event_lease (lane, holder, ends_at) values ($1, $2, $3) \
                                 on conflict (lane) do update \
                                 set holder = excluded.holder, ends_at = excluded.ends_at \
                                 where event_lease.holder = excluded.holder or event_lease.ends_at <= $4")
                .bind(lane)
                .bind(holder)
                .bind(tx.now_ms() + lease_ms)
                .bind(tx.now_ms())
                .run(tx)
                .await?;
                if taken == 1 {
                    held.push(lane);
                }
            }
            Ok(held)
        };
        held.extend(store.write_lane(first, Urgency::Background, unit).await?);
    }
    Ok(held)
}

/// Removes rows that are in the logs.
pub async fn forget(store: &Store, rows: &[(i64, Waiting)]) -> Result<(), StoreError> {
    let mut lanes: Vec<i64> = rows.iter().map(|(lane, _)| *lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    for group in store.lanes().together(&lanes) {
        let first = group.first().copied().unwrap_or_default();
        let keys: Vec<Vec<Value>> = rows
            .iter()
            .filter(|(lane, _)| group.contains(lane))
            .map(|(lane, row)| {
                vec![(*lane).into(), row.account.into(), row.place.0.into(), row.place.1.into()]
            })
            .collect();
        let unit = async move |tx: &mut Tx| {
            sql("delete from event_outbox where lane = $1 and account_id = $2 and modseq = $3 and n = $4")
                .run_each(tx, keys)
                .await
                .map(drop)
        };
        store.write_lane(first, Urgency::Background, unit).await?;
    }
    Ok(())
}
