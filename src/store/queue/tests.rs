//! Tests of claims on the incoming and outgoing queues.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::bus::{Event, Queue};
use crate::store::Store;
use crate::store::blob::{self, INLINE_MAX, Reader};
use crate::store::cluster;
use crate::store::db::sql;
use crate::store::directory::fixture::Fixture;
use crate::store::queue::claim::{self, Claim, LEASE_MS};
use crate::store::queue::incoming::{self, Discarded, IncomingRow, NewIncoming};
use crate::store::queue::outgoing::{self, NewOutgoing, Next, Outcome, OutgoingRow};
use crate::store::queue::{LANES, lane_of};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{
    IncomingEnvelope, IncomingRecipient, OutgoingEnvelope, OutgoingRecipient, RecipientStatus,
};
use crate::types::id::{AccountId, Id};

fn message(text: &str) -> NewIncoming {
    let recipient =
        IncomingRecipient { address: "a@b".to_owned(), accounts: vec![], notify: None, orcpt: None };
    NewIncoming {
        envelope: IncomingEnvelope {
            mail_from: "x@y.test".to_owned(),
            recipients: vec![recipient],
            received_at_ms: 0,
            remote_ip: None,
            helo: String::new(),
            is_tls: false,
            login: None,
            env_id: None,
            ret: None,
            smtputf8: false,
            delivery_id: text.to_owned(),
        },
        body_hash: BlobHash([1; 32]),
        size: text.len() as i64,
        inline: Some(Bytes::copy_from_slice(text.as_bytes())),
    }
}

async fn put(store: &Store, text: &str) -> Id {
    let new = message(text);
    let unit = async move |tx: &mut Tx| incoming::insert(tx, tx.lanes().random(), &new).await;
    store.write_plain(Urgency::Interactive, unit).await.unwrap()
}

async fn lanes(store: &Store, queue: Queue) -> Vec<i64> {
    let mut snapshot = store.read().await.unwrap();
    cluster::lanes_with_work(&mut snapshot, queue, store.clock().now_ms()).await.unwrap()
}

/// Claims what is due in the whole queue.
async fn claim_incoming(store: &Store) -> Vec<IncomingRow> {
    let mut rows = Vec::new();
    for lane in lanes(store, Queue::Incoming).await {
        rows.extend(incoming::claim(store, lane, 100, LEASE_MS).await.unwrap());
    }
    rows
}

/// Runs one of the functions of `claim` in a unit of its own.
macro_rules! act {
    ($store:expr, |$tx:ident| $act:expr) => {
        $store.write_plain(Urgency::Background, async move |$tx: &mut Tx| $act.await).await.unwrap()
    };
}

#[tokio::test]
async fn a_message_goes_through_the_queue_once() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let mut events = store.bus().subscribe();
    let id = put(store, "hello").await;
    let lane = lanes(store, Queue::Incoming).await[0];
    assert_eq!(events.recv().await, Ok(Event::Queued { queue: Queue::Incoming, lane }));
    let rows = claim_incoming(store).await;
    assert_eq!((rows.len(), rows[0].claim.id, rows[0].tries), (1, id, 1));
    assert_eq!(rows[0].envelope, message("hello").envelope);
    let mut snapshot = store.read().await.unwrap();
    let bodies = incoming::bodies(&mut snapshot, lane, &[id]).await.unwrap();
    assert_eq!(bodies, [(id, Bytes::from_static(b"hello"))]);
    drop(snapshot);
    assert!(claim_incoming(store).await.is_empty(), "a claimed row is nobody else's");
    let claim = rows[0].claim;
    assert_eq!(act!(store, |tx| claim::done(tx, Queue::Incoming, &[claim])), 1);
    fixture.clock.advance_ms(LEASE_MS);
    assert!(claim_incoming(store).await.is_empty());
    let mut snapshot = store.read().await.unwrap();
    assert_eq!(incoming::bodies(&mut snapshot, lane, &[id]).await.unwrap(), []);
}

/// Each claim, renewal and retry writes the row anew: the message must not be part of it.
#[tokio::test]
async fn what_a_claim_writes_is_small_however_large_the_message() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let body = Bytes::from(vec![b'x'; INLINE_MAX]);
    let new = NewIncoming { inline: Some(body.clone()), size: body.len() as i64, ..message("hello") };
    let id = act!(store, |tx| incoming::insert(tx, tx.lanes().random(), &new));
    let row = claim_incoming(store).await.remove(0);
    let mut snapshot = store.read().await.unwrap();
    let written = sql("select length(envelope) + length(body_hash) + length(last_error) from incoming \
                       where lane = $1 and id = $2")
    .bind(row.claim.lane)
    .bind(id)
    .value::<i64>(&mut snapshot)
    .await
    .unwrap();
    assert!(written.is_some_and(|octets| octets < 1_000), "{written:?}");
    assert_eq!(incoming::body_of(&mut snapshot, row.claim.lane, id).await.unwrap(), Some(body));
}

#[tokio::test]
async fn who_lost_the_lease_changes_nothing() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let id = put(store, "hello").await;
    let late = claim_incoming(store).await[0].claim;
    fixture.clock.advance_ms(LEASE_MS);
    let taken = claim_incoming(store).await;
    assert_eq!((taken.len(), taken[0].tries), (1, 2), "a lease that ended is claimed again");
    let now = taken[0].claim;
    assert_ne!(late.attempts, now.attempts);

    assert_eq!(claim::renew(store, Queue::Incoming, vec![late], LEASE_MS).await.unwrap(), []);
    assert_eq!(act!(store, |tx| claim::done(tx, Queue::Incoming, &[late])), 0);
    assert!(!act!(store, |tx| claim::retry(tx, Queue::Incoming, late, 0, "late")));
    assert!(!act!(store, |tx| claim::hold(tx, Queue::Incoming, late, "late")));
    claim::give_back(store, Queue::Incoming, vec![late]).await.unwrap();
    assert!(claim_incoming(store).await.is_empty());
    let mut snapshot = store.read().await.unwrap();
    assert!(incoming::body_of(&mut snapshot, now.lane, id).await.unwrap().is_some());
    drop(snapshot);

    assert_eq!(claim::renew(store, Queue::Incoming, vec![late, now], LEASE_MS).await.unwrap(), [now]);
    assert_eq!(act!(store, |tx| claim::done(tx, Queue::Incoming, &[late, now])), 1);
}

#[tokio::test]
async fn a_renewed_lease_lasts() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    put(store, "hello").await;
    let claim = claim_incoming(store).await[0].claim;
    for _ in 0..10 {
        fixture.clock.advance_ms(claim::RENEW_EVERY_MS);
        let held = claim::renew(store, Queue::Incoming, vec![claim], LEASE_MS).await.unwrap();
        assert_eq!(held, [claim]);
        assert!(claim_incoming(store).await.is_empty());
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_later_and_then_set_aside() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let id = put(store, "hello").await;
    let claim = claim_incoming(store).await[0].claim;
    let due = store.clock().now_ms() + 60_000;
    assert!(act!(store, |tx| claim::retry(tx, Queue::Incoming, claim, due, "no \0DNS")));
    assert!(claim_incoming(store).await.is_empty());
    fixture.clock.advance_ms(60_000);
    let row = claim_incoming(store).await.remove(0);
    assert_eq!(row.tries, 2);
    let claim = row.claim;
    assert!(!claim::release(store, Queue::Incoming, claim.lane, id).await.unwrap(), "it is in hand");
    assert!(act!(store, |tx| claim::hold(tx, Queue::Incoming, claim, "poison")));
    fixture.clock.advance_ms(1_000_000_000);
    assert!(claim_incoming(store).await.is_empty(), "what is set aside stays there");
    let mut snapshot = store.read().await.unwrap();
    let entries = cluster::incoming_list(&mut snapshot, (-1, Id(0)), 10).await.unwrap();
    assert_eq!(cluster::incoming_entry(&mut snapshot, id).await.unwrap().as_ref(), entries.first());
    let entry = &entries[0];
    assert_eq!((entry.is_held, entry.is_leased, entry.last_error.as_str()), (true, false, "poison"));
    assert_eq!((entry.sender.as_str(), entry.recipients[0].as_str()), ("x@y.test", "a@b"));
    let depth = cluster::queue_depth(&mut snapshot, Queue::Incoming).await.unwrap();
    assert_eq!((depth.rows, depth.held, depth.oldest_created_at), (1, 1, None));
    drop(snapshot);

    assert!(claim::release(store, Queue::Incoming, claim.lane, id).await.unwrap());
    let row = claim_incoming(store).await.remove(0);
    assert_eq!(row.tries, 1, "released by an operator, it has all its tries again");
    assert!(row.claim.attempts > claim.attempts, "the fence only grows");
    assert_eq!(incoming::discard(store, claim.lane, id).await.unwrap(), Discarded::Inline);
    assert_eq!(incoming::discard(store, claim.lane, id).await.unwrap(), Discarded::NotFound);
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_rows_back_untried() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    put(store, "hello").await;
    let claim = claim_incoming(store).await[0].claim;
    claim::give_back(store, Queue::Incoming, vec![claim]).await.unwrap();
    assert_eq!(claim_incoming(store).await[0].tries, 1);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_set_aside_and_stops_nobody() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let broken = put(store, "broken").await;
    act!(store, |tx| sql("update incoming set envelope = '{', lane = 1 where id = $1").bind(broken).run(tx));
    let good = put(store, "good").await;
    act!(store, |tx| sql("update incoming set lane = 1 where id = $1").bind(good).run(tx));
    let rows = claim_incoming(store).await;
    assert_eq!(rows.iter().map(|row| row.claim.id).collect::<Vec<_>>(), [good]);
    let mut snapshot = store.read().await.unwrap();
    let entry = cluster::incoming_entry(&mut snapshot, broken).await.unwrap().unwrap();
    assert!(entry.is_held && entry.last_error.contains("cannot be read"), "{entry:?}");
}

#[tokio::test]
async fn messages_of_nobody_spread_over_the_lanes() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    for _ in 0..200 {
        put(store, "x").await;
    }
    let found = lanes(store, Queue::Incoming).await;
    assert!(found.len() > 16, "{found:?}");
    assert!(found.iter().all(|lane| (0..LANES).contains(lane)));
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
    assert_eq!(claim_incoming(store).await.len(), 200);
    assert!(lanes(store, Queue::Incoming).await.is_empty());
}

fn outgoing_message(submission: i64, domain: &str, due: i64) -> NewOutgoing {
    NewOutgoing {
        submission: Id(submission),
        domain: domain.to_owned(),
        envelope: OutgoingEnvelope {
            mail_from: "alice@example.test".to_owned(),
            env_id: None,
            ret: None,
            smtputf8: false,
            body_8bit: false,
            delivery_id: "d".to_owned(),
        },
        recipients: vec![OutgoingRecipient::new(format!("x@{domain}"))],
        body_hash: BlobHash([7; 32]),
        size: 5,
        due,
    }
}

async fn send(store: &Store, account: AccountId, new: Vec<NewOutgoing>) -> Vec<Id> {
    let unit = async move |tx: &mut Tx| outgoing::insert(tx, &new).await;
    store.write(account, unit).await.unwrap()
}

async fn claim_outgoing(store: &Store, account: AccountId) -> Vec<OutgoingRow> {
    outgoing::claim(store, lane_of(account), 100, LEASE_MS).await.unwrap()
}

async fn settle(store: &Store, account: AccountId, outcomes: Vec<Outcome>) -> Vec<Claim> {
    let unit = async move |tx: &mut Tx| outgoing::settle(tx, &outcomes).await;
    store.write(account, unit).await.unwrap()
}

async fn has_body(store: &Store, account: AccountId) -> bool {
    let mut snapshot = store.read().await.unwrap();
    let hash = BlobHash([7; 32]);
    !blob::has_access(&mut snapshot, Reader::from(account), &[hash]).await.unwrap().is_empty()
}

#[tokio::test]
async fn what_deliveries_came_to_is_written_in_one_go() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let alice = fixture.account("alice@example.test").await.account;
    let now = store.clock().now_ms();
    let domains = ["a.test", "b.test", "c.test"];
    let new = domains.iter().map(|domain| outgoing_message(9, domain, now)).collect();
    let ids = send(store, alice, new).await;
    assert!(has_body(store, alice).await);
    assert_eq!(lanes(store, Queue::Outgoing).await, [lane_of(alice)]);
    let rows = claim_outgoing(store, alice).await;
    assert_eq!(rows.iter().map(|row| row.domain.as_str()).collect::<Vec<_>>(), domains);
    assert_eq!((rows[0].account, rows[0].submission, rows[0].tries), (alice, Id(9), 1));

    let outcome = |row: &OutgoingRow, status, next| {
        let mut recipients = row.recipients.clone();
        recipients[0].status = status;
        Outcome { claim: row.claim, body_hash: row.body_hash, recipients, next }
    };
    let later = now + 300_000;
    let outcomes = vec![
        outcome(&rows[0], RecipientStatus::Delivered, Next::Done),
        outcome(
            &rows[1],
            RecipientStatus::Pending,
            Next::Retry { due: later, error: "451 later".to_owned() },
        ),
        outcome(&rows[2], RecipientStatus::Pending, Next::Hold { reason: "odd".to_owned() }),
    ];
    assert_eq!(settle(store, alice, outcomes.clone()).await.len(), 3);
    assert_eq!(settle(store, alice, outcomes).await, [], "a claim ends with its outcome");
    let mut snapshot = store.read().await.unwrap();
    let entries = cluster::outgoing_list(&mut snapshot, (-1, Id(0)), 10).await.unwrap();
    assert_eq!(cluster::outgoing_entry(&mut snapshot, ids[1]).await.unwrap().as_ref(), entries.first());
    drop(snapshot);
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.destination.as_deref().unwrap(), entry.is_held, entry.last_error.as_str()))
        .collect();
    assert_eq!(shown, [("b.test", false, "451 later"), ("c.test", true, "odd")]);

    fixture.clock.advance_ms(300_000);
    let rows = claim_outgoing(store, alice).await;
    assert_eq!((rows.len(), rows[0].tries), (1, 2));
    settle(store, alice, vec![outcome(&rows[0], RecipientStatus::Failed, Next::Done)]).await;
    assert!(has_body(store, alice).await, "the row that is set aside still needs it");
    assert!(outgoing::discard(store, lane_of(alice), ids[2]).await.unwrap());
    assert!(!outgoing::discard(store, lane_of(alice), ids[2]).await.unwrap());
    assert!(!has_body(store, alice).await);
}

#[tokio::test]
async fn a_submission_is_taken_back_as_long_as_no_part_of_it_is_in_hand() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let alice = fixture.account("alice@example.test").await.account;
    let now = store.clock().now_ms();
    let mut events = store.bus().subscribe();
    let new = vec![outgoing_message(9, "a.test", now + 60_000), outgoing_message(9, "b.test", now + 60_000)];
    send(store, alice, new).await;
    assert!(events.try_recv().is_err(), "nobody is woken for what is not due");
    assert!(lanes(store, Queue::Outgoing).await.is_empty());
    let cancel = async |submission| {
        let unit = async move |tx: &mut Tx| outgoing::cancel(tx, Id(submission)).await;
        store.write(alice, unit).await.unwrap()
    };
    assert!(!cancel(8).await);
    assert!(cancel(9).await);
    assert!(!has_body(store, alice).await);

    send(store, alice, vec![outgoing_message(10, "a.test", now), outgoing_message(10, "b.test", now + 1)])
        .await;
    assert_eq!(claim_outgoing(store, alice).await.len(), 1);
    assert!(!cancel(10).await);
    fixture.clock.advance_ms(1);
    assert_eq!(claim_outgoing(store, alice).await.len(), 1);
}

#[test]
fn accounts_spread_over_all_lanes() {
    let lanes: BTreeSet<i64> = (0..1_000).map(|number| lane_of(AccountId(Id(number << 22)))).collect();
    assert_eq!(lanes.into_iter().collect::<Vec<_>>(), (0..LANES).collect::<Vec<_>>());
}
