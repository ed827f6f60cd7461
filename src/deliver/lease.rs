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
use crate::store::error::StoreError;
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

    /// Renews all leases, those of a lane at once by `renew`, which says which of them still hold;
    /// tells those who work on rows that are lost.
    async fn renew<R>(&self, renew: impl Fn(Vec<Claim>) -> R)
    where
        R: Future<Output = Result<Vec<Claim>, StoreError>>,
    {
        let mut lanes: BTreeMap<i64, Vec<Claim>> = BTreeMap::new();
        for claim in self.claims() {
            lanes.entry(claim.lane).or_default().push(claim);
        }
        // All at once: a renewal that waited behind another lane's could come after the claim of a
        // lease that had run out meanwhile.
        let asked = Instant::now();
        let renewals = lanes.into_iter().map(|(lane, claims)| {
            let renewed = renew(claims.clone());
            async move { (lane, claims, renewed.await) }
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
            self.renew(|claims| claim::renew(store, Queue::Outgoing, claims, LEASE_MS)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Barrier;

    use super::*;
    use crate::types::id::Id;

    fn claim(lane: i64) -> Claim {
        Claim { lane, id: Id(lane + 1), attempts: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn all_lanes_are_renewed_at_once() {
        let in_hand = InHand::default();
        let tokens: Vec<CancellationToken> = (0..8).map(|lane| in_hand.add(claim(lane))).collect();
        // Each renewal ends only when all have begun.
        let begun = Barrier::new(8);
        let renewing = in_hand.renew(async |claims| {
            begun.wait().await;
            // Another worker has the row of the last lane.
            Ok(claims.into_iter().filter(|claim| claim.lane != 7).collect())
        });
        let renewed = tokio::time::timeout(Duration::from_secs(5), renewing).await;
        assert!(renewed.is_ok(), "a renewal waited for another lane's");
        let lost: Vec<bool> = tokens.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(lost, [false, false, false, false, false, false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_cannot_be_renewed_is_lost_when_it_ends() {
        let in_hand = InHand::default();
        let lost = in_hand.add(claim(0));
        let fail = async |_| Err(StoreError::Busy);
        tokio::time::sleep(Duration::from_millis(7_999)).await;
        in_hand.renew(fail).await;
        assert!(!lost.is_cancelled());
        tokio::time::sleep(Duration::from_millis(1)).await;
        in_hand.renew(fail).await;
        assert!(lost.is_cancelled());
    }
}
