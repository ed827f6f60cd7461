//! The push queue: accounts that have changed and devices that are to be told (RFC 8620, 7.2).
//!
//! There is one row at the most for each account and subscription: what changes while it waits is told
//! together, and what changes while it is in hand is told after it.

use crate::bus::Queue;
use crate::store::Store;
use crate::store::db::sql;
use crate::store::error::StoreError;
use crate::store::queue::claim::{self, Claim};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::{AccountId, Id};

/// A claimed row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PushRow {
    /// The claim.
    pub claim: Claim,
    /// How often the row was taken since it was last told.
    pub tries: i64,
    /// Which account has changed.
    pub account: AccountId,
    /// Whose the subscription is.
    pub login: Id,
    /// Who is to be told.
    pub subscription: Id,
    /// The types that have changed, a bit each; 0 when the verification code is to be told.
    pub types: i64,
    /// Of the last of these changes.
    pub modseq: i64,
    /// When the row was made, in milliseconds since 1970.
    pub created_at: i64,
}

/// Orders that whoever wants to hear of these types is told of the transaction's account.
pub(in crate::store) async fn enqueue(tx: &mut Tx, types: i64) -> Result<(), StoreError> {
    let account = tx.account();
    let interested = sql("select login_id, subscription_id, types, rests_until from push_interest \
                          where account_id = $1 and (types & $2) <> 0 order by subscription_id")
    .bind(account)
    .bind(types)
    .all(tx, |row| Ok((row.get::<Id>(0)?, row.get::<Id>(1)?, row.get::<i64>(2)?, row.get::<i64>(3)?)))
    .await?;
    if interested.is_empty() {
        return Ok(());
    }
    let rows = interested
        .into_iter()
        .map(|(login, subscription, wanted, rests_until)| {
            let now_ms = tx.now_ms();
            vec![
                tx.lane().into(),
                tx.new_id().into(),
                now_ms.max(rests_until).into(),
                now_ms.into(),
                tx.account().into(),
                login.into(),
                subscription.into(),
                (wanted & types).into(),
                tx.modseq().into(),
            ]
        })
        .collect();
    sql("insert into push_queue (lane, id, due, created_at, account_id, login_id, subscription_id, types, modseq) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         on conflict (lane, account_id, subscription_id) do update \
         set types = push_queue.types | excluded.types, modseq = excluded.modseq")
    .run_each(tx, rows)
    .await?;
    tx.wake(Queue::Push, tx.lane());
    Ok(())
}

/// Orders that a new subscription of a login is told its verification code. The account is one of the
/// login's, which gives the row its lane.
pub async fn enqueue_verification(
    store: &Store,
    lane: i64,
    account: AccountId,
    login: Id,
    subscription: Id,
) -> Result<(), StoreError> {
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            let (id, now_ms) = (tx.new_id(), tx.now_ms());
            sql("insert into push_queue \
                 (lane, id, due, created_at, account_id, login_id, subscription_id, types, modseq) \
                 values ($1, $2, $3, $3, $4, $5, $6, 0, 0)")
            .bind(lane)
            .bind(id)
            .bind(now_ms)
            .bind(account)
            .bind(login)
            .bind(subscription)
            .run(tx)
            .await?;
            tx.wake(Queue::Push, lane);
            Ok(())
        })
        .await
}

/// Claims due rows of a lane, the oldest first.
pub async fn claim(
    store: &Store,
    lane: i64,
    limit: usize,
    lease_ms: i64,
) -> Result<Vec<PushRow>, StoreError> {
    if !claim::has_work(store, Queue::Push, lane).await? {
        return Ok(Vec::new());
    }
    store
        .write_lane(lane, Urgency::Background, async move |tx: &mut Tx| {
            let rows =
                sql("select id, attempts, tries, account_id, login_id, subscription_id, types, modseq, \
                            created_at from push_queue where lane = $1 and due <= $2 \
                            order by due, id limit $3 for update skip locked")
                .bind(lane)
                .bind(tx.now_ms())
                .bind(limit as i64)
                .all(tx, |row| {
                    Ok(PushRow {
                        claim: Claim { lane, id: row.get(0)?, attempts: row.get::<i64>(1)? + 1 },
                        tries: row.get::<i64>(2)? + 1,
                        account: row.get(3)?,
                        login: row.get(4)?,
                        subscription: row.get(5)?,
                        types: row.get(6)?,
                        modseq: row.get(7)?,
                        created_at: row.get(8)?,
                    })
                })
                .await?;
            let ids: Vec<Id> = rows.iter().map(|row| row.claim.id).collect();
            claim::take(tx, Queue::Push, lane, &ids, lease_ms).await?;
            Ok(rows)
        })
        .await
}

// What a row came to is urgent, as leases are: whoever claims it anew tells all of it again.

/// The row has been told, with new mail up to a modseq where any was looked for. It goes, or is due
/// again when more has changed meanwhile; the next one not before `rests_until`.
pub async fn told(
    store: &Store,
    row: PushRow,
    emails_until: Option<i64>,
    rests_until: i64,
) -> Result<(), StoreError> {
    let PushRow { claim, account, subscription, modseq, .. } = row;
    store
        .write_lane(claim.lane, Urgency::Interactive, async move |tx: &mut Tx| {
            sql("update push_interest set rests_until = $4, \
                 told_modseq = case when told_modseq < $3 then $3 else told_modseq end \
                 where account_id = $1 and subscription_id = $2")
            .bind(account)
            .bind(subscription)
            .bind(emails_until.unwrap_or_default())
            .bind(rests_until)
            .run(tx)
            .await?;
            let gone = sql("delete from push_queue where lane = $1 and id = $2 and attempts = $3 \
                            and is_leased = 1 and modseq = $4")
            .bind(claim.lane)
            .bind(claim.id)
            .bind(claim.attempts)
            .bind(modseq)
            .run(tx)
            .await?;
            if gone == 0 {
                sql("update push_queue set due = $4, created_at = $5, tries = 0, is_leased = 0, last_error = '' \
                     where lane = $1 and id = $2 and attempts = $3 and is_leased = 1")
                .bind(claim.lane)
                .bind(claim.id)
                .bind(claim.attempts)
                .bind(rests_until)
                .bind(tx.now_ms())
                .run(tx)
                .await?;
            }
            Ok(())
        })
        .await
}

/// The row is put back, not counted as a try.
pub async fn postpone(store: &Store, row: PushRow, due: i64) -> Result<(), StoreError> {
    claim::postpone(store, Queue::Push, vec![(row.claim, due)]).await
}

/// The row cannot be told now: again at `due`.
pub async fn retry(store: &Store, row: PushRow, due: i64, why: String) -> Result<(), StoreError> {
    store
        .write_lane(row.claim.lane, Urgency::Interactive, async move |tx: &mut Tx| {
            claim::retry(tx, Queue::Push, row.claim, due, &why).await.map(drop)
        })
        .await
}

/// Nobody is there to be told any more.
pub async fn drop_row(store: &Store, row: PushRow) -> Result<(), StoreError> {
    store
        .write_lane(row.claim.lane, Urgency::Interactive, async move |tx: &mut Tx| {
            claim::done(tx, Queue::Push, &[row.claim]).await.map(drop)
        })
        .await
}
