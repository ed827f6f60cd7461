//! Leases of outgoing rows, while the work on them takes longer than a lease lasts.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::deliver::lease::InHand;
use crate::store::Store;
use crate::store::directory::fixture::Fixture;
use crate::store::queue::claim::{Claim, LEASE_MS, RENEW_EVERY_MS};
use crate::store::queue::lane_of;
use crate::store::queue::outgoing::{self, NewOutgoing};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{OutgoingEnvelope, OutgoingRecipient};
use crate::types::id::{AccountId, Id};

async fn queue(store: &Store, account: AccountId) {
    let row = NewOutgoing {
        submission: Id(0),
        domain: "remote.test".to_owned(),
        envelope: OutgoingEnvelope {
            mail_from: "alice@example.test".to_owned(),
            env_id: None,
            ret: None,
            smtputf8: false,
            body_8bit: false,
            delivery_id: "d".to_owned(),
        },
        recipients: vec![OutgoingRecipient::new("bob@remote.test".to_owned())],
        body_hash: BlobHash([7; 32]),
        size: 5,
        due: 0,
    };
    store.write(account, async move |tx: &mut Tx| outgoing::insert(tx, &[row]).await).await.unwrap();
}

async fn claim(store: &Store, account: AccountId) -> Vec<Claim> {
    let rows = outgoing::claim(store, lane_of(account), 10, LEASE_MS).await.unwrap();
    rows.into_iter().map(|row| row.claim).collect()
}

#[tokio::test]
async fn leases_are_renewed_for_as_long_as_a_remote_takes() {
    let fixture = Fixture::new().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let alice = fixture.account("alice@example.test").await.account;
    queue(store, alice).await;
    let in_hand = InHand::default();
    let claimed = claim(store, alice).await;
    let lost = in_hand.add(claimed[0]);
    let stop = CancellationToken::new();
    let keeping = in_hand.keep(store, &stop);
    let remote = async {
        // Three renewals, each after nearly all of a lease.
        for _ in 0..3 {
            clock.advance_ms(LEASE_MS - 1);
            tokio::time::sleep(Duration::from_millis(RENEW_EVERY_MS.unsigned_abs() + 300)).await;
            assert!(claim(store, alice).await.is_empty(), "another worker took what is in hand");
        }
        assert!(!lost.is_cancelled());
        stop.cancel();
    };
    tokio::join!(keeping, remote);
}

#[tokio::test]
async fn whoever_has_lost_a_lease_is_told() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let alice = fixture.account("alice@example.test").await.account;
    queue(store, alice).await;
    queue(store, alice).await;
    let in_hand = InHand::default();
    let first = claim(store, alice).await;
    fixture.clock.advance_ms(LEASE_MS);
    let taken = claim(store, alice).await;
    assert_eq!(taken.len(), 2, "leases that ended are claimed again");
    let lost = in_hand.add(first[0]);
    let kept = in_hand.add(taken[1]);
    let stop = CancellationToken::new();
    let watching = async {
        tokio::time::timeout(Duration::from_secs(10), lost.cancelled()).await.expect("told");
        assert!(!kept.is_cancelled(), "and nobody else");
        stop.cancel();
    };
    tokio::join!(in_hand.keep(store, &stop), watching);
}
