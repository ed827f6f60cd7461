//! Looking at the database for those who are connected: every minute for the publish that a crash
//! swallowed, and at once and every moment while the bus may be missing events. Heads are read for
//! many accounts at a time; only connections whose account has moved are woken.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::push::hub::Hub;
use crate::store::cluster::heads::{LoginFacts, heads, login_facts};
use crate::store::error::StoreError;
use crate::types::id::Id;

/// A publish that a crash swallowed is found after this time at the latest.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Between looks while the bus is broken, and never less. With the time in which the bus notices
/// that it is broken, a push is late by less than five seconds.
const LOOK_EVERY: Duration = Duration::from_millis(1_500);
/// Accounts or logins of one statement.
const AT_ONCE: usize = 1_000;

/// Looks until the server closes.
pub async fn run(hub: &Hub) {
    let mut is_broken = hub.store.bus().is_broken();
    let mut logins = HashMap::new();
    let mut last = Instant::now();
    // Of a look that failed: that it is to be done again, and whether events may have been missed.
    let mut owed = None;
    loop {
        let was_broken = *is_broken.borrow_and_update();
        let wait = if was_broken || owed.is_some() { LOOK_EVERY } else { SWEEP_EVERY };
        let has_missed = tokio::select! {
            () = hub.closing.cancelled() => return,
            () = sleep_until(last + wait) => false,
            () = hub.missed.notified() => true,
            Ok(()) = is_broken.changed() => !was_broken,
        };
        // Several that tell of losses in one moment are answered together.
        tokio::select! {
            () = hub.closing.cancelled() => return,
            () = sleep_until(last + LOOK_EVERY) => {}
        }
        last = Instant::now();
        let has_missed = has_missed || owed.take().unwrap_or_default();
        if let Err(error) = look(hub, &mut logins, has_missed).await {
            tracing::warn!(%error, "changes could not be looked for");
            owed = Some(has_missed);
        }
    }
}

/// Looks at all once.
async fn look(hub: &Hub, known: &mut HashMap<Id, LoginFacts>, has_missed: bool) -> Result<(), StoreError> {
    let (accounts, logins) = hub.listened();
    for some in accounts.chunks(AT_ONCE) {
        let mut snapshot = hub.store.read().await?;
        let heads = heads(&mut snapshot, some).await?;
        drop(snapshot);
        for (account, head) in heads {
            hub.found(account, head);
        }
    }
    known.retain(|login, _| logins.binary_search(login).is_ok());
    for some in logins.chunks(AT_ONCE) {
        let mut snapshot = hub.store.read().await?;
        let mut facts = login_facts(&mut snapshot, some).await?;
        drop(snapshot);
        for login in some {
            let now = facts.remove(login).unwrap_or_default();
            let is_changed = match known.insert(*login, now) {
                Some(before) => known.get(login) != Some(&before),
                // Come in since the last look: what has changed meanwhile was told, unless events are
                // missing.
                None => has_missed,
            };
            if is_changed {
                hub.mark_login(*login);
            }
        }
    }
    Ok(())
}
