//! The queues between the stages: mail to be filed, mail to be sent, Emails to be indexed, devices and
//! webhooks to be told.
//!
//! A row is written in the transaction that causes it, in a lane; workers claim due rows of a lane
//! with a lease, do them idempotently and remove them. `claim` has what is the same for all queues, but for
//! events to be logged: nobody claims them, since logging one twice does nothing (`store::event`).

pub mod claim;
pub mod delivered;
pub mod incoming;
pub mod index;
pub mod outgoing;
pub mod push;
#[cfg(test)]
mod push_tests;
#[cfg(test)]
mod tests;
pub mod watch;
#[cfg(test)]
mod watch_tests;
pub mod webhook;

use crate::bus::Queue;
use crate::store::Store;
use crate::store::cluster;
use crate::store::db::{Query, sql};
use crate::store::error::StoreError;
use crate::store::lanes::Lanes;
use crate::types::id::AccountId;

/// Lanes of each queue where the database is not sharded; see `store::lanes`.
pub const LANES: i64 = 32;

/// The lanes of a queue that have something due. When a node of a sharded database is lost, and with it
/// the answer for all: all lanes, of which those on the other nodes can be worked on.
pub async fn due_lanes(store: &Store, queue: Queue) -> Result<Vec<i64>, StoreError> {
    let lanes = {
        let mut snapshot = store.read().await?;
        cluster::lanes_with_work(&mut snapshot, queue, store.clock().now_ms()).await
    };
    match (lanes, &*store.lanes()) {
        (Err(error), Lanes::Sharded(by_shard)) => {
            tracing::warn!(%error, ?queue, "not every shard tells what is due: each lane is tried by itself");
            Ok(by_shard.values().copied().collect())
        }
        (lanes, _) => lanes,
    }
}

/// The table of a queue.
fn table(queue: Queue) -> &'static str {
    match queue {
        Queue::Incoming => "incoming",
        Queue::Outgoing => "outgoing",
        Queue::Index => "index_queue",
        Queue::Push => "push_queue",
        Queue::Events => "event_outbox",
        Queue::Webhooks => "webhook_queue",
    }
}

/// A statement that is the same for all queues, which says `{queue}` for the table.
pub(in crate::store) fn queue_sql(text: &'static str, queue: Queue) -> Query {
    sql(text.replace("{queue}", table(queue)))
}

/// When a row is due that is set aside: never.
pub const NEVER: i64 = i64::MAX;

/// The lane of the rows of an account. A new account keeps it in `account.lane`, which is what
/// counts from then on.
pub fn lane_of(account: AccountId) -> i64 {
    // The low bits of an id only count up within a process: mix all bits before taking some.
    let mut mixed = account.get() as u64;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % LANES as u64) as i64
}
