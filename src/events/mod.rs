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

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// Rows that are taken to the logs together, and those of a lane where there are many.
const BATCH: usize = 500;
const MIN_BATCH: usize = 50;
/// Accounts that whoever listens is told of; of more, it is said that it may be any.
const ACCOUNTS_NAMED: usize = 100;
/// A lane is one process's for so long after its last batch.
const LEASE_MS: i64 = 5_000;
/// Names of accounts that are remembered.
const NAMES: usize = 20_000;

/// After the first event, for others to come along.
const GATHERED: Duration = Duration::from_millis(5);

/// Takes events to the logs of their domains.
pub struct Logger {
    store: Store,
    /// Tells this process from others.
    holder: i64,
    /// The lanes that are this process's, until when.
    leases: HashMap<i64, i64>,
    /// The primary addresses of accounts, which never change.
    names: HashMap<AccountId, String>,
}

impl Logger {
    /// Over the store.
    pub fn new(store: Store) -> Logger {
        let holder = rand::random_range(1..i64::MAX);
        Logger { store, holder, leases: HashMap::new(), names: HashMap::new() }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut watch = Watch::new(self.store.clone(), Queue::Events);
        loop {
            let lane = tokio::select! {
                () = stop.cancelled() => return,
                lane = watch.lane() => lane,
            };
            tokio::time::sleep(GATHERED).await;
            let mut lanes = watch.more();
            lanes.push(lane);
            lanes.sort_unstable();
            lanes.dedup();
            let mut done = self.work(&lanes).await;
            if done.is_err() && lanes.len() > 1 {
                // What one of them lacks, a node of the database, is none of the others' business.
                for lane in lanes {
                    done = self.work(&[lane]).await.or_else(|error| {
                        tracing::warn!(%error, lane, "events could not be logged; they are tried again");
                        Ok(false)
                    });
                }
            }
            match done {
                Ok(true) => {}
                // Another process has them, or is about to lose them.
                Ok(false) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(error) => {
                    tracing::warn!(%error, "events could not be logged; they are tried again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Takes all events of lanes that are there now to their logs; false when other processes have them all.
    pub async fn work(&mut self, lanes: &[i64]) -> Result<bool, StoreError> {
        let start = (AccountId::default(), Place::default());
        let mut places: BTreeMap<i64, (AccountId, Place)> = lanes.iter().map(|lane| (*lane, start)).collect();
        let mut has_any = false;
        let mut failed = None;
        loop {
            let held = self.held(places.keys().copied().collect()).await?;
            places.retain(|lane, _| held.contains(lane));
            has_any |= !places.is_empty();
            let mut rows: Vec<(i64, Waiting)> = Vec::new();
            let mut snapshot = self.store.read().await?;
            let mut next = BTreeMap::new();
            let batch = (BATCH / places.len().max(1)).max(MIN_BATCH);
            for (lane, after) in places {
                let found = event::waiting(&mut snapshot, lane, after, batch).await?;
                if let Some(last) = found.last().filter(|_| found.len() == batch) {
                    next.insert(lane, (last.account, last.place));
                }
                rows.extend(found.into_iter().map(|row| (lane, row)));
            }
            drop(snapshot);
            if rows.is_empty() {
                return failed.map_or(Ok(has_any), Err);
            }
            let waiting: Vec<&Waiting> = rows.iter().map(|(_, row)| row).collect();
            let kept = self.log(&waiting, &mut failed).await?;
            // Those of a domain that could not be reached stay, and are tried again.
            rows.retain(|(_, row)| !kept.contains(&row.account));
            let oldest = rows.iter().map(|(_, row)| row).map(|row| row.created_at).min().unwrap_or_default();
            let lag_ms = (self.store.clock().now_ms() - oldest).max(0);
            metrics::histogram!("postrider_event_log_seconds").record(lag_ms as f64 / 1_000.0);
            metrics::counter!("postrider_events_logged_total").increment(rows.len() as u64);
            event::forget(&self.store, &rows).await?;
            if next.is_empty() {
                return failed.map_or(Ok(true), Err);
            }
            places = next;
        }
    }

    /// Those of some lanes that are this process's for a while.
    async fn held(&mut self, lanes: Vec<i64>) -> Result<Vec<i64>, StoreError> {
        let now_ms = self.store.clock().now_ms();
        let is_sure = |lane: &i64| self.leases.get(lane).is_some_and(|until| until - now_ms > LEASE_MS / 2);
        let (sure, unsure): (Vec<i64>, Vec<i64>) = lanes.into_iter().partition(is_sure);
        let taken = event::lease(&self.store, &unsure, self.holder, LEASE_MS).await?;
        for lane in unsure {
            self.leases.remove(&lane);
        }
        self.leases.extend(taken.iter().map(|lane| (*lane, now_ms + LEASE_MS)));
        Ok([sure, taken].concat())
    }

    /// Takes rows to the logs of their domains; the accounts of those domains for which that failed, and why.
    async fn log(
        &mut self,
        rows: &[&Waiting],
        failed: &mut Option<StoreError>,
    ) -> Result<HashSet<AccountId>, StoreError> {
        self.learn_names(rows).await?;
        let mut kept = HashSet::new();
        let mut domains: BTreeMap<String, Vec<(Waiting, String)>> = BTreeMap::new();
        for row in rows {
            // Events of an account that has gone are nobody's.
            let Some(name) = self.names.get(&row.account) else { continue };
            let domain = name.rsplit('@').next().unwrap_or_default().to_owned();
            domains.entry(domain).or_default().push((Waiting::clone(row), name.clone()));
        }
        for (domain, events) in domains {
            if let Err(error) = self.log_of(&domain, &events).await {
                tracing::warn!(%error, domain, "the log of a domain cannot be written");
                kept.extend(events.iter().map(|(event, _)| event.account));
                *failed = Some(error);
            }
        }
        Ok(kept)
    }

    async fn log_of(&self, domain: &str, events: &[(Waiting, String)]) -> Result<(), StoreError> {
        let seq = append(&self.store, domain.to_owned(), events.to_vec()).await?;
        let mut accounts: Vec<AccountId> = events.iter().map(|(event, _)| event.account).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let interests = interests(&mut *self.store.read().await?, domain).await?;
        let wanted: Vec<Id> = interests
            .iter()
            .filter(|interest| events.iter().any(|(event, _)| interest.wants(event)))
            .map(|interest| interest.id)
            .collect();
        queue::enqueue(&self.store, domain, &wanted, seq).await?;
        if accounts.len() > ACCOUNTS_NAMED {
            accounts.clear();
        }
        self.store.bus().publish(Event::Logged { domain: domain.into(), accounts: accounts.into() });
        Ok(())
    }

    async fn learn_names(&mut self, rows: &[&Waiting]) -> Result<(), StoreError> {
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
