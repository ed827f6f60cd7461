//! Events from their transactions to the logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::events::Logger;
use crate::events::testing::{Bench, HOUR_MS, Receiver, domain, recipients};
use crate::store::directory::removal;
use crate::store::error::StoreError;
use crate::store::event::log::{self, Cursor, LoggedEvent, View};
use crate::store::event::webhook as hooks;
use crate::store::event::{self, Place};
use crate::store::tx::Tx;
use crate::types::event::{EventData, EventKind, EventKinds};
use crate::types::id::{AccountId, Id};

#[tokio::test]
async fn events_are_logged_once_and_in_order_whatever_is_done_twice() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    bench.happen(alice, &["1", "2"]).await;
    bench.happen(alice, &["3"]).await;
    let lane = bench.lane(alice).await;
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let waiting = event::waiting(&mut snapshot, lane, (AccountId::default(), Place::default()), 10).await;
    drop(snapshot);
    let waiting: Vec<_> =
        waiting.unwrap().into_iter().map(|row| (row, "alice@example.test".to_owned())).collect();
    // A process that ends between the log and the outbox.
    log::append(&bench.fixture.store, "example.test".to_owned(), waiting[..2].to_vec()).await.unwrap();
    assert!(bench.log(alice).await);
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["1", "2", "3"]);
    let ids: Vec<Id> = waiting.iter().map(|(row, _)| row.id).collect();
    assert_eq!(page.events.iter().map(|event| event.id).collect::<Vec<_>>(), ids);
    // One that was slow, and brings what has long been there.
    log::append(&bench.fixture.store, "example.test".to_owned(), waiting).await.unwrap();
    let again = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(again.events, page.events);
    assert!(!again.has_more);
    assert_eq!(page.events[0].account_name, "alice@example.test");
}

#[tokio::test]
async fn a_unit_that_fails_tells_nothing() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let unit = async |tx: &mut Tx| {
        let tell = |tx: &mut Tx, text: &str| {
            let told = EventData { recipient: Some(text.to_owned()), ..EventData::default() };
            tx.note_event(EventKind::Delivered, Id(0), told);
        };
        tell(tx, "1");
        let failed = tx
            .attempt(async |tx: &mut Tx| {
                tell(tx, "2");
                Err::<(), _>(StoreError::Full)
            })
            .await;
        assert!(failed.is_err());
        Ok(())
    };
    bench.fixture.store.write(alice, unit).await.unwrap();
    bench.log(alice).await;
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["1"]);
}

#[tokio::test]
async fn two_processes_do_not_work_on_one_lane() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    bench.happen(alice, &["1"]).await;
    assert!(bench.log(alice).await);
    bench.happen(alice, &["2"]).await;
    let lane = bench.lane(alice).await;
    let mut other = Logger::new(bench.fixture.store.clone());
    assert!(!other.work(&[lane]).await.unwrap());
    bench.fixture.clock.advance_ms(5_000);
    assert!(other.work(&[lane]).await.unwrap(), "the first one is gone");
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_pass_over_nothing_while_many_write() {
    let bench = Bench::new().await;
    const EACH: usize = 40;
    let mut accounts = Vec::new();
    for number in 0..6 {
        accounts.push(bench.account(&format!("u{number}")).await);
    }
    let bench = Arc::new(bench);
    let mut writing = Vec::new();
    for account in accounts.clone() {
        let bench = bench.clone();
        writing.push(tokio::spawn(async move {
            // As a process of its own, with a lane that it may share with another.
            let mut logger = Logger::new(bench.fixture.store.clone());
            let lane = bench.lane(account).await;
            for number in 0..EACH {
                bench.happen(account, &[&number.to_string()]).await;
                logger.work(&[lane]).await.unwrap();
            }
        }));
    }
    let reading = tokio::spawn({
        let bench = bench.clone();
        let count = accounts.len() * EACH;
        async move {
            let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
            while seen.len() < count {
                let page = bench.read(&domain(), cursor, EventKinds::ALL, 7).await;
                cursor = page.next;
                seen.extend(page.events);
                for account in &accounts {
                    // What was left to another that shared the lane.
                    if writing.iter().all(tokio::task::JoinHandle::is_finished) {
                        bench.fixture.clock.advance_ms(5_000);
                        let lane = bench.lane(*account).await;
                        Logger::new(bench.fixture.store.clone()).work(&[lane]).await.unwrap();
                    }
                }
            }
            seen
        }
    });
    let seen = tokio::time::timeout(Duration::from_secs(120), reading).await.unwrap().unwrap();
    assert!(seen.is_sorted_by_key(|event| event.seq));
    let mut accounts: HashMap<AccountId, Vec<LoggedEvent>> = HashMap::new();
    for event in seen {
        accounts.entry(event.account).or_default().push(event);
    }
    let wanted: Vec<String> = (0..EACH).map(|number| number.to_string()).collect();
    assert!(accounts.values().all(|events| recipients(events) == wanted));
}

#[tokio::test]
async fn a_log_is_read_by_cursor_for_an_account_or_a_domain() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    bench.fixture.domain("other.test").await;
    let elsewhere = bench.fixture.account("carol@other.test").await.account;
    for number in 0..5 {
        bench.happen(alice, &[&format!("a{number}")]).await;
        bench.happen(bob, &[&format!("b{number}")]).await;
        bench.happen(elsewhere, &["c"]).await;
        for account in [alice, bob, elsewhere] {
            bench.log(account).await;
        }
    }
    let of_alice = View { account: Some(alice), ..domain() };
    let first = bench.read(&of_alice, Cursor::default(), EventKinds::ALL, 2).await;
    assert_eq!((recipients(&first.events), first.has_more), (vec!["a0", "a1"], true));
    let text = first.next.to_string();
    let rest = bench.read(&of_alice, text.parse().unwrap(), EventKinds::ALL, 100).await;
    assert_eq!((recipients(&rest.events), rest.has_more), (vec!["a2", "a3", "a4"], false));
    let all = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&all.events), ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4"]);
    let none = bench.read(&domain(), Cursor::default(), EventKinds::of([EventKind::Bounced]), 3).await;
    assert!(none.events.is_empty() && !none.has_more);
    assert_eq!(none.next.seq, all.next.seq, "what is not wanted is passed over");
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let latest = log::latest(&mut snapshot, &of_alice).await.unwrap();
    drop(snapshot);
    bench.happen(alice, &["a5"]).await;
    bench.log(alice).await;
    let page = bench.read(&of_alice, latest, EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["a5"]);
    for text in ["", "x", "1.2", "1.2.3.4", "-1.0.0", "1.2.x"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let timeline = log::of_submission(&mut snapshot, "example.test", bob, Id(7), 100).await.unwrap();
    assert_eq!(recipients(&timeline), ["b0", "b1", "b2", "b3", "b4"]);
}

#[tokio::test]
async fn old_events_go_and_cursors_from_before_them_are_known_to_be_too_old() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    bench.happen(alice, &["1", "2"]).await;
    bench.log(alice).await;
    let first = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 1).await;
    bench.fixture.clock.advance_ms(HOUR_MS);
    bench.happen(alice, &["3"]).await;
    bench.log(alice).await;
    let before_ms = bench.fixture.clock.now_ms();
    assert!(!log::trim(&bench.fixture.store, "example.test".to_owned(), before_ms).await.unwrap());
    let left = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&left.events), ["3"]);
    let head = log::head(&mut bench.fixture.store.read().await.unwrap(), "example.test").await.unwrap();
    assert!(head.has_outlived(first.next));
    assert!(!head.has_outlived(Cursor::default()) && !head.has_outlived(left.next));
}

#[tokio::test]
async fn an_account_that_goes_takes_its_events_along() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    bench.happen(alice, &["1"]).await;
    bench.happen(bob, &["2"]).await;
    bench.log(alice).await;
    bench.log(bob).await;
    bench.happen(alice, &["3"]).await;
    removal::remove(&bench.fixture.store, alice).await.unwrap();
    bench.log(bob).await;
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["2"]);
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    assert_eq!(hooks::get(&mut snapshot, "example.test", hook).await.unwrap(), None);
    drop(snapshot);
    assert_eq!(bench.post().await, 1);
    assert_eq!((bench.post().await, receiver.tries()), (0, 0), "its row goes");
}
