//! Events from the logs to receivers that are slow, down, picky or gone.

use std::time::Duration;

use crate::events::Logger;
use crate::events::testing::{Bench, HOUR_MS, Manner, Receiver};
use crate::store::cluster;
use crate::store::event::log::Cursor;
use crate::store::event::webhook::{self as hooks, Webhook};
use crate::store::queue::webhook as queue;
use crate::types::id::Id;

#[tokio::test]
async fn a_receiver_that_was_down_for_an_hour_gets_everything_in_order() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    let (down, other) = (Receiver::start().await, Receiver::start().await);
    let hook = bench.hook(&down, None).await;
    bench.hook(&other, None).await;
    let mut wanted = Vec::new();
    for (minute, manner) in [Manner::Answers(500), Manner::Closes, Manner::Answers(302), Manner::Answers(429)]
        .into_iter()
        .cycle()
        .take(60)
        .enumerate()
    {
        down.set(manner);
        let name = format!("{minute}");
        bench.happen(alice, &[&name]).await;
        bench.happen(bob, &[&name]).await;
        wanted.push(name);
        bench.log(alice).await;
        bench.log(bob).await;
        bench.post().await;
        bench.fixture.clock.advance_ms(60_000);
    }
    // Everybody else has not noticed.
    assert_eq!(other.told()["alice@example.test"], wanted);
    assert_eq!(other.told()["bob@example.test"], wanted);
    assert!(down.taken.lock().unwrap().is_empty());
    assert!(down.tries() < 20, "{} tries in an hour", down.tries());
    let failing = bench.found(hook).await;
    assert!(failing.failing_since != 0 && failing.disabled_at == 0);
    assert!(failing.last_error.contains("answered") || failing.last_error.contains("closed"), "{failing:?}");
    down.set(Manner::Takes);
    bench.fixture.clock.advance_ms(HOUR_MS);
    while bench.post().await > 0 {}
    assert_eq!(down.told()["alice@example.test"], wanted);
    assert_eq!(down.told()["bob@example.test"], wanted);
    let mended = bench.found(hook).await;
    assert_eq!((mended.failing_since, mended.last_error.as_str()), (0, ""));
}

#[tokio::test]
async fn what_one_account_waits_for_holds_up_no_other_and_is_not_told_twice() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    let receiver = Receiver::start().await;
    bench.hook(&receiver, None).await;
    receiver.set(Manner::Picky('x'));
    bench.happen(alice, &["1", "x", "2"]).await;
    bench.log(alice).await;
    bench.happen(bob, &["3", "4"]).await;
    bench.log(bob).await;
    assert_eq!(bench.post().await, 1);
    assert_eq!(receiver.told()["alice@example.test"], ["1"]);
    assert_eq!(receiver.told()["bob@example.test"], ["3", "4"]);
    receiver.set(Manner::Takes);
    bench.fixture.clock.advance_ms(10_000);
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "x", "2"]);
    assert_eq!(receiver.told()["bob@example.test"], ["3", "4"], "once");
}

#[tokio::test]
async fn a_slow_receiver_gets_what_comes_while_it_is_slow() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    bench.hook(&receiver, Some(alice)).await;
    receiver.set(Manner::Slow);
    bench.happen(alice, &["1"]).await;
    bench.log(alice).await;
    let posting = bench.post();
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.happen(alice, &["2"]).await;
        let lane = bench.lane(alice).await;
        Logger::new(bench.fixture.store.clone()).work(&[lane]).await.unwrap();
    };
    tokio::join!(posting, meanwhile);
    bench.fixture.clock.advance_ms(6_000);
    bench.log(alice).await;
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "2"]);
}

#[tokio::test]
async fn after_three_days_a_webhook_is_disabled_and_its_owner_is_told() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    receiver.set(Manner::Answers(503));
    bench.happen(alice, &["1"]).await;
    bench.log(alice).await;
    let mut hours = 0;
    while bench.found(hook).await.disabled_at == 0 {
        bench.post().await;
        bench.fixture.clock.advance_ms(HOUR_MS);
        hours += 1;
        assert!(hours <= 80, "it is still tried after {hours} hours");
    }
    assert!(hours > 70, "it was given up after {hours} hours");
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let waiting = cluster::incoming_list(&mut snapshot, (i64::MIN, Id(0)), 10).await.unwrap();
    drop(snapshot);
    let [mail] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert_eq!(mail.recipients, ["alice@example.test"]);
    bench.happen(alice, &["2"]).await;
    bench.log(alice).await;
    let tries = receiver.tries();
    bench.post().await;
    assert_eq!(receiver.tries(), tries, "it is left alone");
    // Enabled again, it goes on where it stopped.
    receiver.set(Manner::Takes);
    let enable = |webhook: &mut Webhook| (webhook.disabled_at, webhook.failing_since) = (0, 0);
    hooks::change(&bench.fixture.store, "example.test".to_owned(), hook, enable).await.unwrap().unwrap();
    queue::hurry(&bench.fixture.store, "example.test".to_owned(), hook).await.unwrap();
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "2"]);
}

#[tokio::test]
async fn a_receiver_that_wants_no_more_is_disabled_at_once() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    receiver.set(Manner::Answers(410));
    bench.happen(alice, &["1"]).await;
    bench.log(alice).await;
    bench.post().await;
    assert!(bench.found(hook).await.disabled_at != 0);
    assert_eq!(bench.post().await, 0);
}

#[tokio::test]
async fn what_is_set_back_is_told_again() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    bench.happen(alice, &["1", "2"]).await;
    bench.log(alice).await;
    while bench.post().await > 0 {}
    let store = &bench.fixture.store;
    let cursor = bench.found(hook).await.cursor;
    hooks::set_cursor(store, "example.test".to_owned(), hook, Cursor::default()).await.unwrap();
    // A worker that was under way does not undo it.
    assert!(!hooks::advance(store, "example.test".to_owned(), hook, cursor, cursor).await.unwrap());
    queue::hurry(store, "example.test".to_owned(), hook).await.unwrap();
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "2", "1", "2"]);
}

#[tokio::test]
async fn a_receiver_that_takes_some_is_tried_again_soon() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    bench.hook(&receiver, Some(alice)).await;
    receiver.set(Manner::Answers(500));
    bench.happen(alice, &["1", "x", "2"]).await;
    bench.log(alice).await;
    for _ in 0..6 {
        bench.post().await;
        bench.fixture.clock.advance_ms(2 * HOUR_MS);
    }
    receiver.set(Manner::Picky('x'));
    bench.post().await;
    assert_eq!(receiver.told()["alice@example.test"], ["1"]);
    receiver.set(Manner::Takes);
    bench.fixture.clock.advance_ms(6_000);
    bench.post().await;
    assert_eq!(receiver.told()["alice@example.test"], ["1", "x", "2"]);
}

#[tokio::test]
async fn an_order_that_comes_while_the_one_before_is_carried_out_is_not_lost() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    bench.happen(alice, &["1"]).await;
    bench.log(alice).await;
    while bench.post().await > 0 {}
    let store = bench.fixture.store.clone();
    let domain = || "example.test".to_owned();
    let lane = store.lanes().of_number(hook.0);
    queue::hurry(&store, domain(), hook).await.unwrap();
    let mut rows = queue::claim(&store, &[lane], 1, 60_000).await.unwrap();
    // Set back while a worker has the row in hand, and has read the cursor before.
    hooks::set_cursor(&store, domain(), hook, Cursor::default()).await.unwrap();
    queue::hurry(&store, domain(), hook).await.unwrap();
    queue::told(&store, rows.remove(0), None).await.unwrap();
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "1"]);
    // The same while it is tried in vain, or while nobody wants it.
    for number in 0..2 {
        hooks::set_cursor(&store, domain(), hook, Cursor::default()).await.unwrap();
        queue::hurry(&store, domain(), hook).await.unwrap();
        let row = queue::claim(&store, &[lane], 1, 60_000).await.unwrap().remove(0);
        queue::hurry(&store, domain(), hook).await.unwrap();
        if number == 0 {
            let later = store.clock().now_ms() + 4 * HOUR_MS;
            queue::retry(&store, row, later, 7, "no answer".to_owned()).await.unwrap();
        } else {
            queue::drop_row(&store, row).await.unwrap();
        }
        while bench.post().await > 0 {}
        assert_eq!(receiver.told()["alice@example.test"].len(), 3 + number);
    }
    // What was only logged meanwhile shortens no wait.
    let row_of = async || queue::claim(&store, &[lane], 1, 60_000).await.unwrap().pop();
    queue::hurry(&store, domain(), hook).await.unwrap();
    let row = row_of().await.unwrap();
    bench.happen(alice, &["2"]).await;
    bench.log(alice).await;
    let later = store.clock().now_ms() + HOUR_MS;
    queue::retry(&store, row, later, 7, "no answer".to_owned()).await.unwrap();
    assert_eq!(row_of().await, None);
}

#[tokio::test]
async fn what_was_taken_comes_again_when_it_is_replayed_or_goes_elsewhere() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let hook = bench.hook(&receiver, None).await;
    receiver.set(Manner::Picky('x'));
    bench.happen(alice, &["1", "x"]).await;
    bench.log(alice).await;
    bench.happen(bob, &["2"]).await;
    bench.log(bob).await;
    bench.post().await;
    assert_eq!(receiver.told()["bob@example.test"], ["2"]);
    let failing = bench.found(hook).await;
    assert!(failing.failing_since != 0 && failing.last_error.contains("(event "), "{failing:?}");
    let store = bench.fixture.store.clone();
    let domain = || "example.test".to_owned();
    hooks::set_cursor(&store, domain(), hook, Cursor::default()).await.unwrap();
    assert_eq!(bench.found(hook).await.failing_since, 0, "what is replayed begins anew");
    queue::hurry(&store, domain(), hook).await.unwrap();
    bench.post().await;
    assert_eq!(receiver.told()["bob@example.test"], ["2", "2"]);
    let url = other.url();
    let elsewhere = move |webhook: &mut Webhook| webhook.url.clone_from(&url);
    hooks::change(&store, domain(), hook, elsewhere).await.unwrap().unwrap();
    queue::hurry(&store, domain(), hook).await.unwrap();
    while bench.post().await > 0 {}
    assert_eq!(other.told()["bob@example.test"], ["2"]);
    assert_eq!(other.told()["alice@example.test"], ["x"], "what was before the cursor was taken");
}
