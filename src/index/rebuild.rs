//! An index that was begun anew is filled from the store: every Email is put into the index queue.
//! Until it has been indexed, a text query reads it directly, so searches are right all the while.

use std::fmt;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::index::{Index, IndexError};
use crate::store::email::read::ids_after;
use crate::store::error::StoreError;
use crate::store::queue::index::enqueue;
use crate::store::tx::Tx;
use crate::store::{Store, cluster};
use crate::types::id::{AccountId, Id};

/// Accounts read at once.
const ACCOUNTS: usize = 50;
/// Emails queued in one transaction.
const PAGE: usize = 500;
/// How often an index that others hold is looked at: it may have been lost.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Why an index is not filled.
#[derive(Debug)]
pub enum RebuildError {
    /// The index.
    Index(IndexError),
    /// The store.
    Store(StoreError),
}

impl fmt::Display for RebuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RebuildError::Index(error) => error.fmt(f),
            RebuildError::Store(error) => write!(f, "Emails cannot be queued for the index: {error}"),
        }
    }
}

impl std::error::Error for RebuildError {}

impl From<IndexError> for RebuildError {
    fn from(error: IndexError) -> RebuildError {
        RebuildError::Index(error)
    }
}

impl From<StoreError> for RebuildError {
    fn from(error: StoreError) -> RebuildError {
        RebuildError::Store(error)
    }
}

/// Fills the index when it asks for it: at the start, and one that several processes share also later,
/// since it may be lost while they run.
pub async fn keep_filled(index: Index, store: Store, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(rebuild_if_needed(&index, &store)).await {
            None => return,
            Some(Ok(())) if !index.is_shared() => return,
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(%error, "the index is not filled yet; it is tried again"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

/// Queues every Email when the index asks for it. Stopping halfway loses nothing: the index asks
/// again.
pub async fn rebuild_if_needed(index: &Index, store: &Store) -> Result<(), RebuildError> {
    let filler = rand::random();
    if !index.needs_rebuild().await? {
        return Ok(());
    }
    let mut after = AccountId::default();
    loop {
        if !index.may_rebuild(filler, store.clock().now_ms()).await? {
            return Ok(());
        }
        let mut snapshot = store.read().await?;
        let accounts = cluster::account_list(&mut snapshot, after, ACCOUNTS).await?;
        drop(snapshot);
        let Some(last) = accounts.last() else { break };
        after = last.id;
        for account in accounts.iter().filter(|account| account.used_emails > 0) {
            let mut after = Id(0);
            while let Some(last) = queue_page(store, account.id, after).await?.last() {
                after = *last;
            }
        }
    }
    Ok(index.rebuild_queued().await?)
}

/// Queues the next Emails of an account, in the order of their ids; which. None when there are no more.
pub async fn queue_page(store: &Store, account: AccountId, after: Id) -> Result<Vec<Id>, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let account = tx.account();
        let ids = ids_after(tx, account, after, PAGE).await?;
        enqueue(tx, &ids, false).await?;
        Ok(ids)
    };
    match store.write_in_background(account, unit).await {
        Err(StoreError::NoSuchAccount) => Ok(Vec::new()),
        queued => queued,
    }
}
