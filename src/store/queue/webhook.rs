//! The queue of webhooks for which something was logged. There is one row at the most for each: what is
//! logged while it waits is told together, and what is logged while it is in hand is told after it.

use crate::bus::Queue;
use crate::store::Store;
use crate::store::db::sql;
use crate::store::error::StoreError;
use crate::store::event::log::Cursor;
use crate::store::event::webhook;
use crate::store::queue::claim::{self, Claim};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Value;
use crate::types::id::Id;

/// A claimed row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookRow {
    /// The claim.
    pub claim: Claim,
    /// How often the row was taken since it was last told.
    pub tries: i64,
    /// The domain of the webhook.
    pub domain: String,
    /// The webhook.
    pub webhook: Id,
    /// Another one with each order: the number of the last event that was logged for it, or a mark.
    pub seq: i64,
}

/// Orders that webhooks are told of what was logged up to a number. A row that waits for a time stays so.
pub async fn enqueue(store: &Store, domain: &str, webhooks: &[Id], seq: i64) -> Result<(), StoreError> {
    let lane_of = |webhook: &Id| store.lanes().of_number(webhook.0);
    let mut lanes: Vec<i64> = webhooks.iter().map(lane_of).collect();
    lanes.sort_unstable();
    lanes.dedup();
    for group in store.lanes().together(&lanes) {
        let first = group.first().copied().unwrap_or_default();
        let domain = domain.to_owned();
        let webhooks: Vec<(i64, Id)> = webhooks
            .iter()
            .map(|webhook| (lane_of(webhook), *webhook))
            .filter(|(lane, _)| group.contains(lane))
            .collect();
        let unit = async move |tx: &mut Tx| {
            let rows = webhooks
                .iter()
                .map(|(lane, webhook)| {
                    let now_ms = tx.now_ms();
                    vec![
                        (*lane).into(),
                        tx.new_id().into(),
                        now_ms.into(),
                        now_ms.into(),
                        Value::from(&domain),
                        (*webhook).into(),
                        seq.into(),
                    ]
                })
                .collect();
            sql("insert into webhook_queue (lane, id, due, created_at, domain, webhook_id, seq) \
                 values ($1, $2, $3, $4, $5, $6, $7) \
                 on conflict (lane, webhook_id) do update set seq = excluded.seq")
            .run_each(tx, rows)
            .await?;
            for lane in group {
                tx.wake(Queue::Webhooks, lane);
            }
            Ok(())
        };
        store.write_lane(first, Urgency::Background, unit).await?;
    }
    Ok(())
}

/// Orders that a webhook is told at once, however long it would have waited.
pub async fn hurry(store: &Store, domain: String, webhook: Id) -> Result<(), StoreError> {
    // As no number of an event: a worker that has the row in hand must see that it is another one.
    let mark = -store.ids().make().0;
    enqueue(store, &domain, &[webhook], mark).await?;
    let lane = store.lanes().of_number(webhook.0);
    let unit = async move |tx: &mut Tx| {
        let now_ms = tx.now_ms();
        sql("update webhook_queue set due = $3, tries = 0 \
             where lane = $1 and webhook_id = $2 and is_leased = 0")
        .bind(lane)
        .bind(webhook)
        .bind(now_ms)
        .run(tx)
        .await?;
        tx.wake(Queue::Webhooks, lane);
        Ok(())
    };
    store.write_lane(lane, Urgency::Interactive, unit).await
}

/// Claims due rows of lanes, so many of each, the oldest first.
pub async fn claim(
    store: &Store,
    lanes: &[i64],
    limit: usize,
    lease_ms: i64,
) -> Result<Vec<WebhookRow>, StoreError> {
    let mut busy = Vec::with_capacity(lanes.len());
    for lane in lanes {
        if claim::has_work(store, Queue::Webhooks, *lane).await? {
            busy.push(*lane);
        }
    }
    let mut claimed = Vec::new();
    for group in store.lanes().together(&busy) {
        let first = group.first().copied().unwrap_or_default();
        let unit = async move |tx: &mut Tx| {
            let mut claimed = Vec::new();
            for lane in group {
                claimed.extend(claim_lane(tx, lane, limit, lease_ms).await?);
            }
            Ok(claimed)
        };
        claimed.extend(store.write_lane(first, Urgency::Background, unit).await?);
    }
    Ok(claimed)
}

async fn claim_lane(
    tx: &mut Tx,
    lane: i64,
    limit: usize,
    lease_ms: i64,
) -> Result<Vec<WebhookRow>, StoreError> {
    let rows = sql("select id, attempts, tries, domain, webhook_id, seq from webhook_queue \
                    where lane = $1 and due <= $2 order by due, id limit $3 for update skip locked")
    .bind(lane)
    .bind(tx.now_ms())
    .bind(limit as i64)
    .all(tx, |row| {
        Ok(WebhookRow {
            claim: Claim { lane, id: row.get(0)?, attempts: row.get::<i64>(1)? + 1 },
            tries: row.get::<i64>(2)? + 1,
            domain: row.get(3)?,
            webhook: row.get(4)?,
            seq: row.get(5)?,
        })
    })
    .await?;
    let ids: Vec<Id> = rows.iter().map(|row| row.claim.id).collect();
    claim::take(tx, Queue::Webhooks, lane, &ids, lease_ms).await?;
    Ok(rows)
}

/// The webhook has been told all that there was, up to a cursor. Its row goes, or is due again when more was
/// logged meanwhile.
pub async fn told(store: &Store, row: WebhookRow, moved: Option<(Cursor, Cursor)>) -> Result<(), StoreError> {
    // Where one transaction can do both, it does.
    let moves_here = !store.has_nodes();
    if let Some((from, to)) = moved.filter(|_| !moves_here) {
        webhook::advance(store, row.domain.clone(), row.webhook, from, to).await?;
    }
    let WebhookRow { claim, seq, domain, webhook: id, .. } = row;
    let unit = async move |tx: &mut Tx| {
        if let Some((from, to)) = moved.filter(|_| moves_here) {
            webhook::advance_in(tx, &domain, id, from, to).await?;
        }
        let gone = sql("delete from webhook_queue where lane = $1 and id = $2 and attempts = $3 \
                        and is_leased = 1 and seq = $4")
        .bind(claim.lane)
        .bind(claim.id)
        .bind(claim.attempts)
        .bind(seq)
        .run(tx)
        .await?;
        if gone == 0 {
            again(tx, claim).await?;
        }
        Ok(())
    };
    store.write_lane(claim.lane, Urgency::Background, unit).await
}

/// There is more to be told: the row is due again, behind others that wait.
pub async fn go_on(store: &Store, row: WebhookRow) -> Result<(), StoreError> {
    let claim = row.claim;
    let unit = async move |tx: &mut Tx| again(tx, claim).await;
    store.write_lane(claim.lane, Urgency::Background, unit).await
}

async fn again(tx: &mut Tx, claim: Claim) -> Result<(), StoreError> {
    let now_ms = tx.now_ms();
    sql("update webhook_queue set due = $4, tries = 0, is_leased = 0, last_error = '' \
         where lane = $1 and id = $2 and attempts = $3 and is_leased = 1")
    .bind(claim.lane)
    .bind(claim.id)
    .bind(claim.attempts)
    .bind(now_ms)
    .run(tx)
    .await?;
    tx.wake(Queue::Webhooks, claim.lane);
    Ok(())
}

/// The webhook cannot be told now: again at `due`. So many tries have come to nothing.
pub async fn retry(
    store: &Store,
    row: WebhookRow,
    due: i64,
    tries: i64,
    why: String,
) -> Result<(), StoreError> {
    let WebhookRow { claim, seq, .. } = row;
    let unit = async move |tx: &mut Tx| {
        // Not over an order that came meanwhile, whose marks are below nothing.
        let waits = sql("update webhook_queue set due = $4, tries = $5, last_error = $6, is_leased = 0 \
                         where lane = $1 and id = $2 and attempts = $3 and is_leased = 1 \
                         and (seq = $7 or seq >= 0)")
        .bind(claim.lane)
        .bind(claim.id)
        .bind(claim.attempts)
        .bind(due)
        .bind(tries)
        .bind(claim::error_text(&why))
        .bind(seq)
        .run(tx)
        .await?;
        if waits == 0 {
            again(tx, claim).await?;
        }
        Ok(())
    };
    store.write_lane(claim.lane, Urgency::Background, unit).await
}

/// Nobody is there to be told any more.
pub async fn drop_row(store: &Store, row: WebhookRow) -> Result<(), StoreError> {
    let WebhookRow { claim, seq, .. } = row;
    let unit = async move |tx: &mut Tx| {
        let gone = sql("delete from webhook_queue where lane = $1 and id = $2 and attempts = $3 \
                        and is_leased = 1 and (seq = $4 or seq >= 0)")
        .bind(claim.lane)
        .bind(claim.id)
        .bind(claim.attempts)
        .bind(seq)
        .run(tx)
        .await?;
        if gone == 0 {
            again(tx, claim).await?;
        }
        Ok(())
    };
    store.write_lane(claim.lane, Urgency::Background, unit).await
}
