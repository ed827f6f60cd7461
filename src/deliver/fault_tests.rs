//! What goes wrong on our side: nothing is lost, and nothing sent twice because of it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::deliver::bench::{Bench, MESSAGE};
use crate::deliver::testing::{Answer, eventually};
use crate::deliver::{Deliver, guarded};
use crate::store::cluster::incoming_list;
use crate::store::queue::claim::LEASE_MS;
use crate::store::queue::outgoing;
use crate::store::submission::{Delivered, UndoStatus};
use crate::store::testing::refuse;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::envelope::OutgoingRecipient;
use crate::types::id::Id;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_arrives_whole() {
    let (bench, sink) = Bench::with_sink().await;
    bench.fixture.account("bob@example.test").await;
    let running = bench.run().await;
    let large = format!("{MESSAGE}{}last line\r\n", "0123456789\r\n".repeat(60_000));
    bench.submit(&large, &["bob@remote.test", "bob@example.test"]).await;
    bench.empty().await;
    assert!(sink.taken()[0].message.ends_with(&large), "over the wire");
    let entry = {
        let mut snapshot = bench.fixture.store.read().await.unwrap();
        incoming_list(&mut snapshot, (-1, Id(0)), 10).await.unwrap().remove(0)
    };
    assert!(entry.is_staged);
    let staged = bench.blobs.read_unchecked(&entry.body_hash).await.unwrap();
    assert!(staged.ends_with(large.as_bytes()), "to a mailbox here");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_written_sets_the_message_aside() {
    let (bench, sink) = Bench::with_sink().await;
    refuse(&bench.fixture.store, "delete on outgoing").await;
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    let held = async || bench.outgoing().await.into_iter().find(|row| row.is_held);
    let row = eventually("a row that is set aside", held).await;
    assert!(row.last_error.contains("result of a delivery could not be written"), "{}", row.last_error);
    assert_eq!(row.recipients, ["bob@remote.test"], "it is not lost");
    bench.fixture.clock.advance_ms(10 * LEASE_MS);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sink.taken().len(), 1, "and not sent again by itself");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_written_before_a_process_that_stops_ends() {
    let (bench, sink) = Bench::with_sink().await;
    let store = bench.fixture.store.clone();
    if store.is_postgres() {
        // It is SQLite's one writer that is held up here.
        return;
    }
    let running = bench.run().await;
    sink.script(move |line| {
        if line == "." {
            let store = store.clone();
            tokio::spawn(async move {
                let slow = async |_: &mut Tx| {
                    std::thread::sleep(Duration::from_millis(2_500));
                    Ok(())
                };
                store.write_plain(Urgency::Interactive, slow).await
            });
            // The peer says that it has the message when nothing can be written any more.
            return Answer::Later(Duration::from_millis(200));
        }
        Answer::Yes
    });
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    eventually("the message", async || sink.taken().pop()).await;
    running.stop().await;
    assert!(bench.outgoing().await.is_empty(), "it would be sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_cannot_be_queued_leaves_the_failure_to_be_told() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer("RCPT", Answer::Say("550 5.1.1 nobody"), 99);
    refuse(&bench.fixture.store, "insert on incoming").await;
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    let held = async || bench.outgoing().await.into_iter().find(|row| row.is_held);
    let row = eventually("a row that is set aside", held).await;
    assert_eq!(row.recipients, ["bob@remote.test"]);
    assert!(bench.incoming().await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_breaks_sets_its_message_aside() {
    let (bench, _sink) = Bench::with_sink().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    let store = bench.fixture.store.clone();
    let dns = bench.zone.clone().serve().await;
    let deliver = Deliver::new(store.clone(), bench.blobs.clone(), dns, bench.settings.clone()).unwrap();
    let lane = bench.outgoing().await[0].lane;
    let claim = outgoing::claim(&store, lane, 1, LEASE_MS).await.unwrap()[0].claim;
    let lost: CancellationToken = deliver.shared.in_hand.add(claim);
    guarded(&deliver.shared, claim, async { panic!("a worker breaks on purpose") }).await;
    let row = bench.outgoing().await.remove(0);
    assert!(row.is_held && !row.is_leased);
    assert_eq!(row.last_error, "a worker broke on this message");
    assert!(deliver.shared.in_hand.is_empty() && !lost.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_drops_is_shown_as_not_delivered() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer("RCPT TO:<later", Answer::Say("450 4.2.0 later"), 9);
    let names = ["later@remote.test", "yes@remote.test"];
    let submission = bench.submission(&names).await;
    let all = names.map(|name| OutgoingRecipient::new(name.to_owned())).to_vec();
    bench.submit_as(submission, "alice@example.test", MESSAGE, all.clone()).await;
    let running = bench.run().await;
    bench.deferred().await;
    running.stop().await;
    let row = bench.outgoing().await.remove(0);
    assert!(outgoing::discard(&bench.fixture.store, row.lane, row.id).await.unwrap());
    let shown = bench.shown(submission).await;
    assert_eq!(shown.undo_status, UndoStatus::Final);
    let dropped = &shown.delivery_status["later@remote.test"];
    assert_eq!(dropped.delivered, Delivered::No);
    assert_eq!(dropped.smtp_reply, "554 5.0.0 Dropped by an operator");
    assert_eq!(shown.delivery_status["yes@remote.test"].smtp_reply, "250 2.0.0 taken");

    // One that has never been tried, and one that is being sent.
    let untried = bench.submission(&names).await;
    bench.submit_as(untried, "alice@example.test", MESSAGE, all.clone()).await;
    let row = bench.outgoing().await.remove(0);
    assert!(outgoing::discard(&bench.fixture.store, row.lane, row.id).await.unwrap());
    let shown = bench.shown(untried).await;
    assert_eq!(shown.undo_status, UndoStatus::Final);
    assert!(shown.delivery_status.values().all(|status| status.delivered == Delivered::No));
    let in_hand = bench.submission(&names).await;
    bench.submit_as(in_hand, "alice@example.test", MESSAGE, all).await;
    let row = bench.outgoing().await.remove(0);
    outgoing::claim(&bench.fixture.store, row.lane, 1, LEASE_MS).await.unwrap();
    assert!(outgoing::discard(&bench.fixture.store, row.lane, row.id).await.unwrap());
    let shown = bench.shown(in_hand).await;
    assert!(shown.delivery_status.values().all(|status| status.delivered == Delivered::Unknown));
}
