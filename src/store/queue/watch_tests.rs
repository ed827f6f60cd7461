//! Workers are woken by the commit that queued the work, and find it by themselves when they are not.

use std::time::Duration;

use tokio::time::timeout;

use crate::bus::testing::Server;
use crate::bus::{Bus, Event, Queue};
use crate::store::Store;
use crate::store::db::sql;
use crate::store::directory::fixture::Fixture;
use crate::store::queue::watch::Watch;
use crate::store::testing::store_with;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::Id;

/// A row that is due, of which nobody is told.
async fn insert_unheard(store: &Store, lane: i64) {
    let id = store.ids().make();
    let unit = async move |tx: &mut Tx| {
        sql("insert into incoming (lane, id, due, created_at, envelope, body_hash, size, is_staged) \
             values ($1, $2, 0, 0, '{}', $3, 0, 0)")
        .bind(lane)
        .bind(id)
        .bind(bytes::Bytes::new())
        .run(tx)
        .await
    };
    store.write_plain(Urgency::Background, unit).await.unwrap();
}

#[tokio::test]
async fn work_whose_wake_was_lost_is_found_by_looking() {
    let fixture = Fixture::new().await;
    let mut watch = Watch::new(fixture.store.clone(), Queue::Incoming);
    // It has looked, found nothing, and waits.
    let waiting = tokio::spawn(async move { watch.lane().await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "there is nothing to do");
    insert_unheard(&fixture.store, 5).await;
    let lane = timeout(Duration::from_millis(2_500), waiting).await;
    assert_eq!(lane.expect("found within two seconds").unwrap(), 5);
}

#[tokio::test]
async fn a_wake_is_heard_at_once_and_that_of_another_queue_is_not() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let mut watch = Watch::new(store.clone(), Queue::Incoming);
    let (queue, lane) = (Queue::Incoming, 9);
    let waking = async {
        store.bus().publish(Event::Queued { queue: Queue::Outgoing, lane: 3 });
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.bus().publish(Event::Queued { queue, lane });
    };
    // The shortest wait between two looks is a second.
    let woken = timeout(Duration::from_millis(800), watch.lane());
    assert_eq!(tokio::join!(woken, waking).0.expect("woken"), 9);
}

#[tokio::test]
async fn a_wake_of_another_process_is_heard() {
    let fixture = Fixture::new().await;
    let server = Server::start();
    let (here, there) = (Bus::open(&server.url()), Bus::open(&server.url()));
    for bus in [&here, &there] {
        bus.is_broken().wait_for(|is_broken| !is_broken).await.unwrap();
    }
    let mut watch =
        Watch::new(store_with(fixture.folder.path(), here, fixture.clock.clone()), Queue::Incoming);
    let waking = async {
        for lane in [3, 9] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            there.publish(Event::Queued { queue: Queue::Incoming, lane });
        }
    };
    // Nothing is due, so no look finds these lanes.
    let woken = timeout(Duration::from_secs(5), async { [watch.lane().await, watch.lane().await] });
    assert_eq!(tokio::join!(woken, waking).0.expect("woken"), [3, 9]);
}

#[tokio::test]
async fn a_unit_wakes_after_its_commit_and_a_failed_one_wakes_nobody() {
    let fixture = Fixture::new().await;
    let mut events = fixture.store.bus().subscribe();
    let failing = async move |tx: &mut Tx| {
        tx.wake(Queue::Incoming, 4);
        sql("delete from incoming where lane = 4 and id = $1").bind(Id(1)).run(tx).await?;
        Err::<(), _>(crate::store::error::StoreError::Conflict)
    };
    assert!(fixture.store.write_plain(Urgency::Background, failing).await.is_err());
    assert!(events.try_recv().is_err());
    let waking = async move |tx: &mut Tx| {
        tx.wake(Queue::Incoming, 4);
        Ok(())
    };
    fixture.store.write_plain(Urgency::Background, waking).await.unwrap();
    assert_eq!(events.recv().await, Ok(Event::Queued { queue: Queue::Incoming, lane: 4 }));
}
