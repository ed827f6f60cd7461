//! Events of mail: from the transactions in which they happen to the logs of their domains, and from there
//! to webhooks (`webhook`) and to whoever listens (`feed`).
//!
//! The order in which each step is done makes it safe to stop anywhere: events are logged, then webhooks
//! are queued, then the rows of the outbox go. What is done twice is there once: a log knows an event by
//! its place among those of the account.

pub mod feed;
pub mod object;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bus::{Event, Queue};
use crate::store::Store;
use crate::store::directory::account;
use crate::store::error::StoreError;
use crate::store::event::log::append;
use crate::store::event::webhook::{Interest, interests};
use crate::store::event::{self, Place, Waiting};
use crate::store::queue::watch::Watch;
use crate::store::queue::webhook as queue;
use crate::types::event::EventKind;
use crate::types::id::{AccountId, Id};

/// Rows of a lane that are taken to the logs together.
const BATCH: usize = 500;
/// A lane is one process's for so long after its last batch.
const LEASE_MS: i64 = 5_000;
/// Names of accounts that are remembered.
const NAMES: usize = 20_000;

/// Takes events to the logs of their domains.
pub struct Logger {
    store: Store,
    /// Tells this process from others.
    holder: i64,
    /// The primary addresses of accounts, which never change.
    names: HashMap<AccountId, String>,
}

impl Logger {
    /// Over the store.
    pub fn new(store: Store) -> Logger {
        Logger { store, holder: rand::random_range(1..i64::MAX), names: HashMap::new() }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut watch = Watch::new(self.store.clone(), Queue::Events);
        loop {
            let lane = tokio::select! {
                () = stop.cancelled() => return,
                lane = watch.lane() => lane,
            };
            match self.work(lane).await {
                Ok(true) => {}
                // Another process has the lane, or is about to lose it.
                Ok(false) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(error) => {
                    tracing::warn!(%error, lane, "events could not be logged; they are tried again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Takes all events of a lane that are there now to their logs; false when another process has it.
    pub async fn work(&mut self, lane: i64) -> Result<bool, StoreError> {
        let mut after = (AccountId::default(), Place::default());
        loop {
            if !event::lease(&self.store, lane, self.holder, LEASE_MS).await? {
                return Ok(false);
            }
            let rows = event::waiting(&mut *self.store.read().await?, lane, after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(true) };
            after = (last.account, last.place);
            self.log(&rows).await?;
            event::forget(&self.store, lane, &rows).await?;
            let oldest = rows.iter().map(|row| row.created_at).min().unwrap_or_default();
            let lag_ms = (self.store.clock().now_ms() - oldest).max(0);
            metrics::histogram!("postrider_event_log_seconds").record(lag_ms as f64 / 1_000.0);
            metrics::counter!("postrider_events_logged_total").increment(rows.len() as u64);
            if rows.len() < BATCH {
                return Ok(true);
            }
        }
    }

    async fn log(&mut self, rows: &[Waiting]) -> Result<(), StoreError> {
        self.learn_names(rows).await?;
        let mut domains: BTreeMap<String, Vec<(Waiting, String)>> = BTreeMap::new();
        for row in rows {
            // Events of an account that has gone are nobody's.
            let Some(name) = self.names.get(&row.account) else { continue };
            let domain = name.rsplit('@').next().unwrap_or_default().to_owned();
            domains.entry(domain).or_default().push((row.clone(), name.clone()));
        }
        for (domain, events) in domains {
            let seq = append(&self.store, domain.clone(), events.clone()).await?;
            let interests = interests(&mut *self.store.read().await?, &domain).await?;
            let wanted: Vec<Id> = interests
                .iter()
                .filter(|interest| events.iter().any(|(event, _)| interest.wants(event)))
                .map(|interest| interest.id)
                .collect();
            queue::enqueue(&self.store, &domain, &wanted, seq).await?;
            self.store.bus().publish(Event::Logged { domain: domain.into() });
        }
        Ok(())
    }

    async fn learn_names(&mut self, rows: &[Waiting]) -> Result<(), StoreError> {
        let mut unknown: Vec<AccountId> =
            rows.iter().map(|row| row.account).filter(|account| !self.names.contains_key(account)).collect();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        if self.names.len() + unknown.len() > NAMES {
            let kept = rows.iter().filter_map(|row| self.names.remove_entry(&row.account)).collect();
            self.names = kept;
        }
        self.names.extend(account::names(&mut *self.store.read().await?, &unknown).await?);
        Ok(())
    }
}

impl Interest {
    fn wants(&self, event: &Waiting) -> bool {
        self.account.is_none_or(|account| account == event.account)
            && EventKind::of_number(event.kind).is_some_and(|kind| self.kinds.has(kind))
    }
}
