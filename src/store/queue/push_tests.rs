//! The push queue: who is told of what, once, whatever comes meanwhile.

use crate::bus::{Event, Queue};
use crate::store::directory::account;
use crate::store::directory::fixture::Fixture;
use crate::store::push_subscription::{Interest, note_interest, note_told, told_until};
use crate::store::queue::push::{PushRow, claim, drop_row, postpone, retry, told};
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

const LEASE_MS: i64 = 60_000;

struct Bench {
    fixture: Fixture,
    account: AccountId,
    lane: i64,
}

impl Bench {
    async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let lane = account::lane(&mut fixture.store.read().await.unwrap(), account).await.unwrap().unwrap();
        Bench { fixture, account, lane }
    }

    async fn interest(&self, subscription: i64, types: i64) {
        note_interest(
            &self.fixture.store,
            self.account,
            Id(1),
            Id(subscription),
            Interest::of_changes(types),
        )
        .await
        .unwrap();
    }

    async fn change(&self, object_type: ObjectType) -> i64 {
        let unit = async move |tx: &mut Tx| {
            tx.created(object_type, tx.new_id());
            Ok(tx.modseq())
        };
        self.fixture.store.write(self.account, unit).await.unwrap()
    }

    async fn claim(&self) -> Vec<PushRow> {
        let mut rows = claim(&self.fixture.store, self.lane, 10, LEASE_MS).await.unwrap();
        rows.sort_by_key(|row| row.subscription);
        rows
    }

    async fn told(&self, row: PushRow, until: Option<i64>) {
        let rests_until = self.fixture.clock.now_ms() + 2_000;
        told(&self.fixture.store, row, until, rests_until).await.unwrap();
    }
}

#[tokio::test]
async fn changes_order_one_push_for_each_device_that_wants_to_hear_of_them() {
    let bench = Bench::new().await;
    bench.change(ObjectType::Email).await;
    assert!(bench.claim().await.is_empty(), "nobody wants to hear");
    bench.interest(7, ObjectType::Mailbox.bit()).await;
    bench.interest(8, -1).await;
    let mut events = bench.fixture.store.bus().subscribe();
    bench.change(ObjectType::Email).await;
    bench.change(ObjectType::Mailbox).await;
    let last = bench.change(ObjectType::Email).await;
    let rows = bench.claim().await;
    let seen: Vec<_> = rows.iter().map(|row| (row.subscription, row.types, row.tries)).collect();
    let both = ObjectType::Mailbox.bit() | ObjectType::Email.bit();
    assert_eq!(seen, [(Id(7), ObjectType::Mailbox.bit(), 1), (Id(8), both, 1)]);
    assert_eq!(rows[1].modseq, last);
    let woken = std::iter::from_fn(|| events.try_recv().ok());
    assert!(woken.into_iter().any(|event| event == Event::Queued { queue: Queue::Push, lane: bench.lane }));
    assert!(bench.claim().await.is_empty(), "they are in hand");
    for row in rows {
        drop_row(&bench.fixture.store, row).await.unwrap();
    }
    bench.interest(8, 0).await;
    bench.change(ObjectType::Email).await;
    assert!(bench.claim().await.is_empty(), "none of its types, and one that is gone");
}

#[tokio::test]
async fn what_changes_while_it_is_told_is_told_after_it() {
    let bench = Bench::new().await;
    let clock = &bench.fixture.clock;
    bench.interest(7, -1).await;
    bench.change(ObjectType::Email).await;
    let first = bench.claim().await.remove(0);
    let last = bench.change(ObjectType::Mailbox).await;
    bench.told(first, Some(first.modseq)).await;
    assert!(bench.claim().await.is_empty(), "after a rest");
    clock.advance_ms(2_000);
    let second = bench.claim().await.remove(0);
    assert_eq!((second.modseq, second.tries), (last, 1));
    assert_ne!(second.types & ObjectType::Mailbox.bit(), 0);
    bench.told(second, None).await;
    let until =
        told_until(&mut bench.fixture.store.read().await.unwrap(), bench.account, Id(7)).await.unwrap();
    assert_eq!(until, Some(first.modseq), "nobody looked for mail the second time");
    // Nothing is left, and the next one waits for the end of the rest.
    clock.advance_ms(1_000);
    bench.change(ObjectType::Email).await;
    assert!(bench.claim().await.is_empty());
    clock.advance_ms(1_000);
    assert_eq!(bench.claim().await.len(), 1);
}

#[tokio::test]
async fn tries_are_counted_but_for_those_that_were_none() {
    let bench = Bench::new().await;
    let (store, clock) = (&bench.fixture.store, &bench.fixture.clock);
    bench.interest(7, -1).await;
    bench.change(ObjectType::Email).await;
    let row = bench.claim().await.remove(0);
    postpone(store, row, clock.now_ms() + 500).await.unwrap();
    assert!(bench.claim().await.is_empty());
    clock.advance_ms(500);
    let row = bench.claim().await.remove(0);
    assert_eq!(row.tries, 1);
    retry(store, row, clock.now_ms() + 5_000, "busy".to_owned()).await.unwrap();
    clock.advance_ms(5_000);
    let row = bench.claim().await.remove(0);
    assert_eq!(row.tries, 2);
    // A worker that died: its row is another's when the lease is over, and it settles nothing any more.
    clock.advance_ms(LEASE_MS);
    let again = bench.claim().await.remove(0);
    bench.told(row, None).await;
    clock.advance_ms(LEASE_MS);
    assert_eq!(bench.claim().await.len(), 1, "{again:?} is not settled by who has lost it");
}

#[tokio::test]
async fn new_mail_is_told_once_and_from_when_it_was_asked_for() {
    let bench = Bench::new().await;
    let store = &bench.fixture.store;
    let until = async || told_until(&mut store.read().await.unwrap(), bench.account, Id(7)).await.unwrap();
    bench.interest(7, ObjectType::EmailDelivery.bit()).await;
    let first = bench.change(ObjectType::Email).await;
    // What was pushed counts though something else of the same row failed.
    note_told(store, bench.lane, bench.account, Id(7), first).await.unwrap();
    note_told(store, bench.lane, bench.account, Id(7), first - 1).await.unwrap();
    assert_eq!(until().await, Some(first));
    // Renewed: it goes on where it was.
    let last = bench.change(ObjectType::Email).await;
    bench.interest(7, -1).await;
    assert_eq!(until().await, Some(first));
    // It asks for new mail itself now: what has come before is none.
    let interest = Interest { types: -1, is_anew: true };
    note_interest(store, bench.account, Id(1), Id(7), interest).await.unwrap();
    assert!(until().await >= Some(last), "{:?}", until().await);
}
