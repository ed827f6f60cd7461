//! What tries came to is written for many rows at once, and handed-over mail in rows of bounded size.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blob::Blobs;
use crate::blob::testing::blobs_in;
use crate::deliver::results::{Finished, write_all};
use crate::deliver::route::Ourselves;
use crate::deliver::schedule::Schedule;
use crate::deliver::{Deliver, Settings, local};
use crate::dns::Dns;
use crate::smtp::client::Timeouts;
use crate::store::db::sql;
use crate::store::directory::fixture::Fixture;
use crate::store::queue::claim::LEASE_MS;
use crate::store::queue::lane_of;
use crate::store::queue::outgoing::{self, NewOutgoing, Next, Outcome, OutgoingRow};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{MAX_INCOMING_RECIPIENTS, OutgoingEnvelope, OutgoingRecipient};
use crate::types::id::{AccountId, Id};

async fn queue(fixture: &Fixture, account: AccountId, rows: usize, to: Vec<OutgoingRecipient>) {
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
        recipients: to,
        body_hash: BlobHash([7; 32]),
        size: 5,
        due: 0,
    };
    let rows = vec![row; rows];
    fixture.store.write(account, async move |tx: &mut Tx| outgoing::insert(tx, &rows).await).await.unwrap();
}

async fn claim(fixture: &Fixture, account: AccountId) -> Vec<OutgoingRow> {
    outgoing::claim(&fixture.store, lane_of(account), 100, LEASE_MS).await.unwrap()
}

fn blobs_of(fixture: &Fixture) -> Blobs {
    blobs_in(fixture.folder.path(), fixture.store.clone())
}

async fn modseq(fixture: &Fixture, account: AccountId) -> i64 {
    let mut snapshot = fixture.store.read().await.unwrap();
    let modseq = sql("select modseq from account where id = $1").bind(account).value(&mut snapshot).await;
    modseq.unwrap().unwrap()
}

#[tokio::test]
async fn the_results_of_a_bulk_sender_are_one_transaction() {
    let fixture = Fixture::new().await;
    let alice = fixture.account("alice@example.test").await.account;
    let bob = fixture.account("bob@example.test").await.account;
    for (account, rows) in [(alice, 40), (bob, 1)] {
        queue(&fixture, account, rows, vec![OutgoingRecipient::new("x@remote.test".to_owned())]).await;
    }
    let settings = Settings {
        ourselves: Ourselves { host_name: "mail.example.test".to_owned(), smtp_listen: None },
        relay: None,
        mx_port: 25,
        schedule: Schedule { first_wait_ms: 60_000, give_up_after_ms: 5 * 86_400_000 },
        timeouts: Timeouts::default(),
        connect_timeout: Duration::from_secs(5),
        workers: 20,
    };
    let dns = Dns::with_server(([127, 0, 0, 1], 9).into()).unwrap();
    let deliver = Deliver::new(fixture.store.clone(), blobs_of(&fixture), dns, settings).unwrap();
    let (sender, receiver) = mpsc::channel(64);
    let mut rows = claim(&fixture, alice).await;
    rows.extend(claim(&fixture, bob).await.into_iter().filter(|row| row.account == bob));
    assert_eq!(rows.len(), 41);
    let before = (modseq(&fixture, alice).await, modseq(&fixture, bob).await);
    for row in rows {
        let outcome = Outcome {
            claim: row.claim,
            body_hash: row.body_hash,
            recipients: row.recipients,
            next: Next::Done,
        };
        let (said, incoming) = (Vec::new(), Vec::new());
        let finished = Finished {
            account: row.account,
            submission: Id(0),
            message: row.envelope.delivery_id.clone(),
            sender: row.envelope.mail_from.clone(),
            outcome,
            said,
            incoming,
        };
        sender.send(finished).await.unwrap();
    }
    drop(sender);
    write_all(deliver.shared.clone(), receiver).await;
    let after = (modseq(&fixture, alice).await, modseq(&fixture, bob).await);
    assert_eq!(after, (before.0 + 1, before.1 + 1), "one transaction for each account");
    fixture.clock.advance_ms(LEASE_MS);
    assert!(claim(&fixture, alice).await.is_empty(), "and all of them are done");
}

#[tokio::test]
async fn mail_handed_over_to_many_here_comes_in_rows_of_a_hundred() {
    let fixture = Fixture::new().await;
    let alice = fixture.account("alice@example.test").await.account;
    let to: Vec<OutgoingRecipient> =
        (0..250).map(|number| OutgoingRecipient::new(format!("alice+{number}@example.test"))).collect();
    queue(&fixture, alice, 1, to.clone()).await;
    let row = claim(&fixture, alice).await.remove(0);
    let pending: Vec<(usize, OutgoingRecipient)> = to.into_iter().enumerate().collect();
    let message = Bytes::from_static(b"Subject: x\r\n\r\ny\r\n");
    let (store, blobs) = (&fixture.store, blobs_of(&fixture));
    let handed = local::hand_over(store, &blobs, "mx.example.test", &row, &pending, &message).await.unwrap();
    let sizes: Vec<usize> = handed.rows.iter().map(|row| row.envelope.recipients.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    assert!(sizes.iter().all(|size| *size <= MAX_INCOMING_RECIPIENTS));
    assert!(handed.rows.iter().all(|row| row.envelope.delivery_id == "d"), "one delivery, by any address");
}

#[test]
fn a_transaction_takes_no_more_recipients_than_a_row_carries() {
    let most = crate::receive::policy::Policy::default().recipients;
    assert!((100..=MAX_INCOMING_RECIPIENTS).contains(&most), "{most}");
}
