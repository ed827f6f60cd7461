//! An index that was begun anew is filled from the store: every Email is put into the index queue.
//! Until it has been indexed, a text query reads it directly, so searches are right all the while.

use crate::index::Index;
use crate::store::error::StoreError;
use crate::store::queue::index::enqueue;
use crate::store::tx::Tx;
use crate::store::{Store, cluster};
use crate::types::id::{AccountId, Id};

/// Accounts read at once, and Emails queued in one transaction.
const PAGE: usize = 500;

/// Queues every Email when the index asks for it. Stopping halfway loses nothing: the index asks
/// again at the next start.
pub async fn rebuild_if_needed(index: &Index, store: &Store) -> Result<(), StoreError> {
    if !index.needs_rebuild() {
        return Ok(());
    }
    let mut after = AccountId::default();
    loop {
        let mut snapshot = store.read().await?;
        let accounts = cluster::account_list(&mut snapshot, after, PAGE).await?;
        drop(snapshot);
        let Some(last) = accounts.last() else { break };
        after = last.id;
        for account in accounts.iter().filter(|account| account.used_emails > 0) {
            queue_all(store, account.id).await?;
        }
    }
    if let Err(error) = index.rebuild_queued() {
        tracing::warn!(%error, "the index will be filled again at the next start");
    }
    Ok(())
}

async fn queue_all(store: &Store, account: AccountId) -> Result<(), StoreError> {
    let mut after = Id(0);
    loop {
        let unit = async move |tx: &mut Tx| {
            let account = tx.account();
            let ids = crate::store::email::read::ids_after(tx, account, after, PAGE).await?;
            enqueue(tx, &ids, false).await?;
            Ok(ids.last().copied())
        };
        match store.write_in_background(account, unit).await {
            Ok(Some(last)) => after = last,
            Ok(None) | Err(StoreError::NoSuchAccount) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
