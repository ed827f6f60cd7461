//! The index queue: Emails to be indexed or forgotten. What is in it is what a text query must read
//! by itself, because the index does not know it yet.

use crate::bus::Queue;
use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::queue::claim::{self, Claim};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::{AccountId, Id};

/// What is to be done to the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexTask {
    /// Index an Email.
    Add(Id),
    /// Forget an Email.
    Delete(Id),
    /// Forget all of the account.
    DeleteAccount,
}

/// A claimed row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexRow {
    /// The claim.
    pub claim: Claim,
    /// How often the row was taken.
    pub tries: i64,
    /// Whose Email it is.
    pub account: AccountId,
    /// What is to be done.
    pub task: IndexTask,
}

/// Orders Emails of the transaction's account to be indexed, or to be forgotten.
pub async fn enqueue(tx: &mut Tx, emails: &[Id], is_delete: bool) -> Result<(), StoreError> {
    if emails.is_empty() {
        return Ok(());
    }
    let (lane, now_ms, account) = (tx.lane(), tx.now_ms(), tx.account());
    let rows = emails
        .iter()
        .map(|email| {
            vec![
                lane.into(),
                tx.new_id().into(),
                now_ms.into(),
                now_ms.into(),
                account.into(),
                (*email).into(),
                is_delete.into(),
            ]
        })
        .collect();
    sql("insert into index_queue (lane, id, due, created_at, account_id, email_id, is_delete) \
         values ($1, $2, $3, $4, $5, $6, $7)")
    .run_each(tx, rows)
    .await?;
    tx.wake(Queue::Index, lane);
    Ok(())
}

/// Orders that nothing of the transaction's account stays in the index. Earlier orders are void.
pub(in crate::store) async fn enqueue_account_removal(tx: &mut Tx) -> Result<(), StoreError> {
    sql("delete from index_queue where lane = $1 and account_id = $2")
        .bind(tx.lane())
        .bind(tx.account())
        .run(tx)
        .await?;
    enqueue(tx, &[Id::default()], true).await
}

fn task_of(email: Id, is_delete: bool) -> IndexTask {
    match (email, is_delete) {
        (Id(0), _) => IndexTask::DeleteAccount,
        (email, true) => IndexTask::Delete(email),
        (email, false) => IndexTask::Add(email),
    }
}

/// What the index does not know yet of an account, in order.
pub async fn pending(conn: &mut Conn, lane: i64, account: AccountId) -> Result<Vec<IndexTask>, StoreError> {
    sql("select email_id, is_delete from index_queue where lane = $1 and account_id = $2 order by id")
        .bind(lane)
        .bind(account)
        .all(conn, |row| Ok(task_of(row.get(0)?, row.get(1)?)))
        .await
}

/// How many rows of an account are waiting.
pub async fn count(conn: &mut Conn, lane: i64, account: AccountId) -> Result<i64, StoreError> {
    sql("select count(*) from index_queue where lane = $1 and account_id = $2")
        .bind(lane)
        .bind(account)
        .value(conn)
        .await
        .map(Option::unwrap_or_default)
}

/// Claims due rows of a lane, the oldest first.
pub async fn claim(
    store: &Store,
    lane: i64,
    limit: usize,
    lease_ms: i64,
) -> Result<Vec<IndexRow>, StoreError> {
    if !claim::has_work(store, Queue::Index, lane).await? {
        return Ok(Vec::new());
    }
    store
        .write_lane(lane, Urgency::Background, async move |tx: &mut Tx| {
            let rows = sql("select id, attempts, tries, account_id, email_id, is_delete from index_queue \
                            where lane = $1 and due <= $2 order by due, id limit $3 \
                            for update skip locked")
            .bind(lane)
            .bind(tx.now_ms())
            .bind(limit as i64)
            .all(tx, |row| {
                Ok(IndexRow {
                    claim: Claim { lane, id: row.get(0)?, attempts: row.get::<i64>(1)? + 1 },
                    tries: row.get::<i64>(2)? + 1,
                    account: row.get(3)?,
                    task: task_of(row.get(4)?, row.get(5)?),
                })
            })
            .await?;
            let ids: Vec<Id> = rows.iter().map(|row| row.claim.id).collect();
            claim::take(tx, Queue::Index, lane, &ids, lease_ms).await?;
            Ok(rows)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Event;
    use crate::store::cluster;
    use crate::store::directory::fixture::Fixture;

    #[tokio::test]
    async fn what_is_ordered_is_pending_until_it_is_done() {
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let account = fixture.account("alice@example.test").await.account;
        let mut events = store.bus().subscribe();
        let lane = store
            .write(account, async move |tx: &mut Tx| {
                enqueue(tx, &[Id(5), Id(6)], false).await?;
                enqueue(tx, &[Id(5)], true).await?;
                Ok(tx.lane())
            })
            .await
            .unwrap();
        assert_eq!(events.recv().await, Ok(Event::Queued { queue: Queue::Index, lane }));
        let mut snapshot = store.read().await.unwrap();
        let tasks = [IndexTask::Add(Id(5)), IndexTask::Add(Id(6)), IndexTask::Delete(Id(5))];
        assert_eq!(pending(&mut snapshot, lane, account).await.unwrap(), tasks);
        let now = store.clock().now_ms();
        assert_eq!(cluster::lanes_with_work(&mut snapshot, Queue::Index, now).await.unwrap(), [lane]);
        drop(snapshot);
        let rows = claim(store, lane, 10, claim::LEASE_MS).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.task).collect::<Vec<_>>(), tasks);
        assert_eq!(claim(store, lane, 10, claim::LEASE_MS).await.unwrap(), []);
        let mut snapshot = store.read().await.unwrap();
        assert_eq!(pending(&mut snapshot, lane, account).await.unwrap().len(), 3, "leased is not done");
        drop(snapshot);
        let claims: Vec<Claim> = rows.iter().map(|row| row.claim).collect();
        let done = store
            .write_lane(lane, Urgency::Background, async move |tx: &mut Tx| {
                claim::done(tx, Queue::Index, &claims).await
            })
            .await
            .unwrap();
        assert_eq!(done, 3);
        let mut snapshot = store.read().await.unwrap();
        assert_eq!(pending(&mut snapshot, lane, account).await.unwrap(), []);
    }
}
