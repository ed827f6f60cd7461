//! Housekeeping of every account: what is kept for a time only goes when the time is over. Nothing
//! here is urgent, and nothing depends on when it runs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::blob::Blobs;
use crate::store::Store;
use crate::store::directory::{DirectoryError, removal};
use crate::store::email::trash;
use crate::store::error::StoreError;
use crate::store::event::log;
use crate::store::queue::delivered;
use crate::store::{change, cluster};
use crate::types::id::AccountId;

/// The first round comes soon after a start, so that a server that is restarted often has one.
const FIRST_AFTER: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_secs(6 * 3_600);
/// The numbers of transactions are many, and go more often.
const MARKS_EVERY: Duration = Duration::from_secs(300);
/// A commit is looked up within a minute.
const MARKS_KEPT_MS: i64 = 3_600_000;
/// Accounts looked at between two reads of the list.
const PAGE: usize = 500;
/// A blob that nobody refers to is kept at least this long.
const BLOB_GRACE_MS: i64 = 6 * 3_600_000;

/// How long what is kept for a time is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Changes of accounts.
    pub changes: Duration,
    /// Events in the logs of domains.
    pub events: Duration,
}

/// Sweeps now and then until it is told to stop.
pub async fn run(store: Store, blobs: Blobs, keep: Keep, stop: CancellationToken) {
    let mut wait = FIRST_AFTER;
    let mut marks = tokio::time::interval(MARKS_EVERY);
    loop {
        let begun = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(begun) => break,
                _ = marks.tick() => forget(&store).await,
            }
        }
        wait = EVERY;
        tokio::select! {
            () = stop.cancelled() => return,
            () = round(&store, &blobs, keep) => {}
        }
    }
}

async fn round(store: &Store, blobs: &Blobs, keep: Keep) {
    if let Err(error) = finish_removals(store).await {
        tracing::warn!(%error, "an account could not be removed to its end; the next round tries again");
    }
    if let Err(error) = sweep_accounts(store, keep.changes).await {
        tracing::warn!(%error, "the accounts could not be swept; the next round tries again");
    }
    if let Err(error) = sweep_logs(store, keep.events).await {
        tracing::warn!(%error, "the logs of events could not be swept; the next round tries again");
    }
    match blobs.sweep(BLOB_GRACE_MS).await {
        Ok(swept) => tracing::info!(?swept, "blobs swept"),
        Err(error) => tracing::warn!(%error, "the blobs could not be swept; the next round tries again"),
    }
}

async fn forget(store: &Store) {
    if let Err(error) = cluster::sweep::push_subscriptions_trim(store).await {
        tracing::warn!(%error, "push subscriptions whose time is over are still there; they go a little later");
    }
    let before_ms = store.clock().now_ms() - MARKS_KEPT_MS;
    if let Err(error) = cluster::sweep::commit_marks_trim(store, before_ms).await {
        tracing::warn!(%error, "the numbers of old transactions are still there; they go a little later");
    }
}

/// Removes accounts to their end whose removal was cut short.
async fn finish_removals(store: &Store) -> Result<(), DirectoryError> {
    let begun = cluster::accounts_being_removed(&mut *store.read().await?).await?;
    for (account, _) in begun {
        match removal::remove(store, account).await {
            // Another process has brought it to its end.
            Err(DirectoryError::Store(StoreError::NoSuchAccount)) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Of every account: trims the change log and the record of deliveries, and ends a recount that was
/// cut short.
pub async fn sweep_accounts(store: &Store, keep_changes: Duration) -> Result<(), StoreError> {
    let before_ms = store.clock().now_ms() - keep_changes.as_millis() as i64;
    let mut after = AccountId::default();
    loop {
        let mut snapshot = store.read().await?;
        let accounts = cluster::account_list(&mut snapshot, after, PAGE).await?;
        drop(snapshot);
        let Some(last) = accounts.last() else { return Ok(()) };
        after = last.id;
        for account in &accounts {
            match sweep_account(store, account.id, before_ms).await {
                // Removed meanwhile.
                Err(StoreError::NoSuchAccount) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Removes old events from the logs of all domains, those that are gone among them.
pub async fn sweep_logs(store: &Store, keep_events: Duration) -> Result<(), StoreError> {
    let before_ms = store.clock().now_ms() - keep_events.as_millis() as i64;
    let domains = cluster::sweep::domains_with_logs(&mut *store.read().await?).await?;
    for domain in domains {
        while log::trim(store, domain.clone(), before_ms).await? {}
    }
    Ok(())
}

async fn sweep_account(store: &Store, account: AccountId, before_ms: i64) -> Result<(), StoreError> {
    trash::finish_recount(store, account).await?;
    while change::trim(store, account, before_ms).await? {}
    while delivered::trim(store, account).await? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::change::{ChangesSince, changes_since, state_of};
    use crate::store::directory::fixture::Fixture;
    use crate::store::mailbox::{NewMailbox, insert};
    use crate::store::tx::Tx;
    use crate::types::id::Id;
    use crate::types::object_type::ObjectType;
    use crate::types::state::State;

    async fn add_mailbox(store: &Store, account: AccountId, name: &'static str) {
        let unit = async move |tx: &mut Tx| {
            let new = NewMailbox { parent_id: Id(0), name, role: None, sort_order: 0 };
            insert(tx, &new).await
        };
        store.write(account, unit).await.unwrap();
    }

    async fn is_known(store: &Store, account: AccountId, since: State) -> bool {
        let mut snapshot = store.read().await.unwrap();
        let answer = changes_since(&mut snapshot, account, ObjectType::Mailbox, since, 100).await.unwrap();
        matches!(answer, ChangesSince::Known { .. })
    }

    #[tokio::test]
    async fn old_changes_go_and_states_from_before_them_are_refused() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let (store, keep) = (&fixture.store, Duration::from_secs(30 * 86_400));
        let state = async || {
            let mut snapshot = store.read().await.unwrap();
            state_of(&mut snapshot, account, ObjectType::Mailbox).await.unwrap()
        };
        add_mailbox(store, account, "a").await;
        let first = state().await;
        add_mailbox(store, account, "b").await;
        let last_of_day = state().await;
        fixture.clock.advance_ms(40 * 86_400_000);
        // Nothing newer is there yet: the log stays, and so does every state.
        sweep_accounts(store, keep).await.unwrap();
        assert!(is_known(store, account, first).await);
        add_mailbox(store, account, "c").await;
        sweep_accounts(store, keep).await.unwrap();
        assert!(!is_known(store, account, first).await);
        assert!(is_known(store, account, last_of_day).await);
        assert!(is_known(store, account, state().await).await);
    }
}
