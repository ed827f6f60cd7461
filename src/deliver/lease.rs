//! The rows that this process has in hand, and the keeping of their leases.
//!
//! A row is in hand from its claim until what its try came to is committed, or until it is given
//! back. While it is, its lease is renewed every two seconds, since a remote may take ten minutes
//! for its answer. A row whose lease is lost belongs to somebody else: its token is cancelled, and
//! whoever works on it stops.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::Queue;
use crate::store::Store;
use crate::store::queue::claim::{self, Claim, LEASE_MS, RENEW_EVERY_MS};

/// The rows in hand.
#[derive(Debug, Default)]
pub struct InHand {
    rows: Mutex<HashMap<Claim, Held>>,
    /// Told whenever there is room for another row.
    pub freed: Notify,
}

#[derive(Debug)]
struct Held {
    lost: CancellationToken,
    renewed: Instant,
}

impl InHand {
    fn rows(&self) -> MutexGuard<'_, HashMap<Claim, Held>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a row that has just been claimed; the token is cancelled when its lease is lost.
    pub fn add(&self, claim: Claim) -> CancellationToken {
        let lost = CancellationToken::new();
        self.rows().insert(claim, Held { lost: lost.clone(), renewed: Instant::now() });
        lost
    }

    /// Lets rows go.
    pub fn remove(&self, claims: &[Claim]) {
        let mut rows = self.rows();
        for claim in claims {
            rows.remove(claim);
        }
        drop(rows);
        self.freed.notify_one();
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows().is_empty()
    }

    /// All rows.
    pub fn claims(&self) -> Vec<Claim> {
        self.rows().keys().copied().collect()
    }

    /// Renews all leases; tells those who work on rows that are lost.
    async fn renew(&self, store: &Store) {
        let mut lanes: BTreeMap<i64, Vec<Claim>> = BTreeMap::new();
        for claim in self.claims() {
            lanes.entry(claim.lane).or_default().push(claim);
        }
        // All at once: a renewal that waited behind another lane's could come after the claim of a
        // lease that had run out meanwhile.
        let asked = Instant::now();
        let renewals = lanes.into_iter().map(async |(lane, claims)| {
            let held = claim::renew(store, Queue::Outgoing, claims.clone(), LEASE_MS).await;
            (lane, claims, held)
        });
        for (lane, claims, held) in futures_util::future::join_all(renewals).await {
            let mut rows = self.rows();
            match held {
                Ok(held) => {
                    for claim in &held {
                        if let Some(row) = rows.get_mut(claim) {
                            row.renewed = asked;
                        }
                    }
                    for claim in claims.iter().filter(|claim| !held.contains(claim)) {
                        if let Some(row) = rows.get(claim) {
                            row.lost.cancel();
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(lane, %error, "leases of outgoing mail were not renewed");
                    for claim in &claims {
                        if let Some(row) = rows.get(claim)
                            && row.renewed.elapsed() >= Duration::from_millis(LEASE_MS.unsigned_abs())
                        {
                            row.lost.cancel();
                        }
                    }
                }
            }
        }
    }

    /// Keeps the leases until told to stop.
    pub async fn keep(&self, store: &Store, stop: &CancellationToken) {
        let mut ticks = tokio::time::interval(Duration::from_millis(RENEW_EVERY_MS.unsigned_abs()));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.renew(store).await;
        }
    }
}
