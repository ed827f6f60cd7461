//! The rules of the write funnel, each with its test.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::bus::{Event, Queue};
use crate::store::Store;
use crate::store::change::{ChangesSince, changes_since, state_of};
use crate::store::db::sql;
use crate::store::error::StoreError;
use crate::store::testing::{bare_account, sqlite_in, store_in};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// A statement that no schema can run, kept from the test that prepares all statements.
const BROKEN: &str = "insert into nowhere values (1)";
/// Units that one commit may hold.
const BATCH: usize = 64;

struct Bench {
    store: Store,
    account: AccountId,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// On the engine that the tests are run over.
    async fn new() -> Bench {
        Bench::over(store_in).await
    }

    /// On SQLite, whose one writer these tests hold up or break.
    async fn of_one_writer() -> Bench {
        Bench::over(sqlite_in).await
    }

    async fn over(open: fn(&Path, Clock) -> Store) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), Clock::system());
        let account = bare_account(&store).await;
        Bench { store, account, _folder: folder }
    }

    /// Writes a row of that name, and so on one after the other.
    async fn note(&self, name: &'static str) -> Result<(), StoreError> {
        self.store.write(self.account, async move |tx: &mut Tx| note(tx, name).await).await
    }

    /// The names written, in order of name.
    async fn notes(&self) -> Vec<String> {
        let mut snapshot = self.store.read().await.unwrap();
        sql("select address from vacation_sent where account_id = $1 order by address")
            .bind(self.account)
            .column(&mut snapshot)
            .await
            .unwrap()
    }

    async fn state(&self) -> State {
        let mut snapshot = self.store.read().await.unwrap();
        state_of(&mut snapshot, self.account, ObjectType::Mailbox).await.unwrap()
    }

    /// Keeps the writer busy until the answer is dropped or sent to.
    async fn block(&self) -> mpsc::Sender<()> {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (release, released) = mpsc::channel();
        let signals = Arc::new(Mutex::new(Some((started, released))));
        let store = self.store.clone();
        let unit = async move |_tx: &mut Tx| {
            let (started, released) = signals.lock().unwrap().take().unwrap();
            started.send(()).unwrap();
            let _ = released.recv();
            Ok(())
        };
        tokio::spawn(async move { store.write_plain(Urgency::Interactive, unit).await });
        has_started.await.unwrap();
        release
    }

    /// Lets each commit of the writer ask `refuse` whether to fail.
    async fn on_commit(&self, refuse: impl FnMut() -> bool + Send + 'static) {
        let refuse = Arc::new(Mutex::new(Some(refuse)));
        let unit = async move |tx: &mut Tx| {
            let hook = refuse.lock().unwrap().take();
            tx.as_sqlite_mut().commit_hook(hook).unwrap();
            Ok(())
        };
        self.store.write_plain(Urgency::Interactive, unit).await.unwrap();
    }
}

async fn note(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    sql("insert into vacation_sent (account_id, address, sent_at) values ($1, $2, 0)")
        .bind(tx.account())
        .bind(name)
        .run(tx)
        .await?;
    tx.created(ObjectType::Mailbox, tx.new_id());
    Ok(())
}

/// Polls a write once, so that its unit is handed to the writer.
async fn submit<T>(write: impl Future<Output = T>) -> impl Future<Output = T> {
    let mut write = Box::pin(write);
    assert!(futures_util::poll!(&mut write).is_pending());
    write
}

fn modseqs(events: &mut broadcast::Receiver<Event>) -> Vec<i64> {
    let mut found = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Changed { modseq, .. } = event {
            found.push(modseq);
        }
    }
    found
}

#[tokio::test]
async fn a_unit_that_fails_leaves_nothing_and_disturbs_no_neighbour() {
    let bench = Bench::of_one_writer().await;
    let mut events = bench.store.bus().subscribe();
    let release = bench.block().await;
    let before = submit(bench.note("before")).await;
    let failing = submit(bench.store.write(bench.account, async move |tx: &mut Tx| {
        note(tx, "failing").await?;
        tx.wake(Queue::Index, 3);
        Err::<(), _>(StoreError::Conflict)
    }))
    .await;
    let after = submit(bench.note("after")).await;
    drop(release);
    assert!(before.await.is_ok());
    assert!(matches!(failing.await, Err(StoreError::Conflict)));
    assert!(after.await.is_ok());
    assert_eq!(bench.notes().await, ["after", "before"]);
    assert_eq!(modseqs(&mut events), [1, 2], "a failed unit takes no modseq and tells nothing");
    assert_eq!(bench.state().await.modseq, 2);
}

#[tokio::test]
async fn a_unit_that_panics_leaves_nothing_and_disturbs_no_neighbour() {
    let bench = Bench::of_one_writer().await;
    let release = bench.block().await;
    let before = submit(bench.note("before")).await;
    let panicking = submit(bench.store.write(bench.account, async move |tx: &mut Tx| {
        note(tx, "panicking").await?;
        assert_eq!(tx.modseq(), 0, "a panic on purpose");
        Ok(())
    }))
    .await;
    let after = submit(bench.note("after")).await;
    drop(release);
    assert!(before.await.is_ok());
    assert!(matches!(panicking.await, Err(StoreError::UnitPanicked)));
    assert!(after.await.is_ok());
    assert_eq!(bench.notes().await, ["after", "before"]);
}

#[tokio::test]
async fn a_unit_that_waits_is_stopped() {
    let bench = Bench::new().await;
    let yielding = bench.store.write(bench.account, async move |tx: &mut Tx| {
        note(tx, "yielding").await?;
        tokio::task::yield_now().await;
        Ok(())
    });
    assert!(matches!(yielding.await, Err(StoreError::UnitWaited)));
    let (_sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let waiting = bench.store.write(bench.account, async move |tx: &mut Tx| {
        note(tx, "waiting").await?;
        let receiver = receiver.lock().unwrap().take().unwrap();
        let _ = receiver.await;
        Ok(())
    });
    assert!(matches!(waiting.await, Err(StoreError::UnitWaited)));
    bench.note("after").await.unwrap();
    assert_eq!(bench.notes().await, ["after"]);
}

#[tokio::test]
async fn a_unit_cannot_hide_that_a_statement_failed() {
    let bench = Bench::new().await;
    // Told outside: a panic in the unit would be hidden by its failure.
    let (told, answers) = mpsc::channel();
    let hiding = bench.store.write(bench.account, async move |tx: &mut Tx| {
        note(tx, "one").await?;
        told.send(sql(BROKEN).run(tx).await.is_err()).unwrap();
        told.send(note(tx, "two").await.is_err()).unwrap();
        Ok(())
    });
    assert!(matches!(hiding.await, Err(StoreError::Engine(_))));
    let answers: Vec<bool> = answers.try_iter().collect();
    assert_eq!(answers, [true, true], "after a failure the transaction refuses statements");
    let plain = bench.store.write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
        sql("update account set name = 'b'").run(tx).await?;
        let _ = sql(BROKEN).run(tx).await;
        Ok(())
    });
    assert!(matches!(plain.await, Err(StoreError::Engine(_))), "nor when nothing follows it");
    assert!(bench.notes().await.is_empty());
    bench.note("after").await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_fails_is_undone_and_the_unit_goes_on() {
    let bench = Bench::new().await;
    let mut events = bench.store.bus().subscribe();
    let unit = async move |tx: &mut Tx| {
        note(tx, "a first").await?;
        let gone = tx.new_id();
        tx.updated(ObjectType::Mailbox, Id(5), 1);
        let failed = tx
            .attempt(async |tx: &mut Tx| {
                note(tx, "undone").await?;
                tx.created(ObjectType::Mailbox, gone);
                tx.updated(ObjectType::Mailbox, Id(5), 2);
                tx.wake(Queue::Index, 3);
                sql(BROKEN).run(tx).await
            })
            .await;
        assert!(matches!(failed, Err(StoreError::Engine(_))));
        let swallowed: Result<(), StoreError> = tx
            .attempt(async |tx: &mut Tx| {
                note(tx, "undone too").await?;
                let _ = sql(BROKEN).run(tx).await;
                Ok(())
            })
            .await;
        assert!(matches!(swallowed, Err(StoreError::Engine(_))), "an attempt cannot hide it, either");
        let borrowed = String::from("b nested");
        tx.attempt(async |tx: &mut Tx| {
            note(tx, &borrowed).await?;
            let inner: Result<(), StoreError> = tx
                .attempt(async |tx: &mut Tx| {
                    note(tx, "inner").await?;
                    Err(StoreError::Conflict)
                })
                .await;
            assert!(matches!(inner, Err(StoreError::Conflict)));
            Ok::<(), StoreError>(())
        })
        .await?;
        note(tx, "c last").await?;
        Ok(gone)
    };
    let gone = bench.store.write(bench.account, unit).await.unwrap();
    assert_eq!(bench.notes().await, ["a first", "b nested", "c last"]);
    let mut snapshot = bench.store.read().await.unwrap();
    let changes =
        changes_since(&mut snapshot, bench.account, ObjectType::Mailbox, State::at(1, 0), 100).await.unwrap();
    let ChangesSince::Known { changes, .. } = changes else { panic!("the state is known") };
    assert_eq!(changes.created.len(), 3);
    assert!(!changes.created.contains(&gone));
    assert_eq!((changes.updated.as_slice(), changes.updated_properties), (&[Id(5)][..], 1));
    assert!(matches!(events.recv().await, Ok(Event::Changed { .. })));
    assert!(events.try_recv().is_err(), "what an undone attempt wanted told is not told");
}

#[tokio::test]
async fn an_attempt_around_an_attempt_undoes_both() {
    let bench = Bench::new().await;
    let unit = async move |tx: &mut Tx| {
        let outer: Result<(), StoreError> = tx
            .attempt(async |tx: &mut Tx| {
                tx.attempt(async |tx: &mut Tx| note(tx, "inner").await).await?;
                Err(StoreError::Conflict)
            })
            .await;
        assert!(outer.is_err());
        note(tx, "after").await
    };
    bench.store.write(bench.account, unit).await.unwrap();
    assert_eq!(bench.notes().await, ["after"]);
    let mut snapshot = bench.store.read().await.unwrap();
    let logged = sql("select count(*) from change where account_id = $1")
        .bind(bench.account)
        .value::<i64>(&mut snapshot)
        .await;
    assert_eq!(logged.unwrap(), Some(1));
}

#[tokio::test]
async fn a_caller_that_leaves_before_its_unit_begins_is_skipped() {
    let bench = Bench::of_one_writer().await;
    let release = bench.block().await;
    let left = submit(bench.note("left")).await;
    let stayed = submit(bench.note("stayed")).await;
    drop(left);
    drop(release);
    stayed.await.unwrap();
    assert_eq!(bench.notes().await, ["stayed"]);
}

#[tokio::test]
async fn a_caller_that_leaves_later_is_finished_and_published() {
    let bench = Bench::of_one_writer().await;
    let mut events = bench.store.bus().subscribe();
    let (started, has_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let signals = Arc::new(Mutex::new(Some((started, released))));
    let write = submit(bench.store.write(bench.account, async move |tx: &mut Tx| {
        let (started, released) = signals.lock().unwrap().take().unwrap();
        started.send(()).unwrap();
        let _ = released.recv();
        note(tx, "finished").await
    }))
    .await;
    has_started.recv().unwrap();
    drop(write);
    drop(release);
    assert!(matches!(events.recv().await, Ok(Event::Changed { modseq: 1, .. })));
    assert_eq!(bench.notes().await, ["finished"]);
}

#[tokio::test]
async fn a_commit_that_fails_runs_its_units_again() {
    let bench = Bench::of_one_writer().await;
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = commits.clone();
    // The first commit after this one fails.
    bench.on_commit(move || counted.fetch_add(1, Ordering::SeqCst) == 1).await;
    let mut events = bench.store.bus().subscribe();
    // Both wait for the same commit.
    let release = bench.block().await;
    let one = submit(bench.note("one")).await;
    let two = submit(bench.note("two")).await;
    drop(release);
    assert!(one.await.is_ok() && two.await.is_ok());
    assert_eq!(bench.notes().await, ["one", "two"]);
    assert_eq!(modseqs(&mut events), [1, 2], "what was not committed was not told");
    assert!(commits.load(Ordering::SeqCst) >= 3);
}

#[tokio::test]
async fn commits_that_go_on_failing_are_errors_and_tell_nothing() {
    let bench = Bench::of_one_writer().await;
    let is_failing = Arc::new(AtomicUsize::new(0));
    let asked = is_failing.clone();
    bench.on_commit(move || asked.load(Ordering::SeqCst) == 1).await;
    let mut events = bench.store.bus().subscribe();
    is_failing.store(1, Ordering::SeqCst);
    let (one, two) = tokio::join!(bench.note("one"), bench.note("two"));
    assert!(one.is_err() && two.is_err());
    assert!(modseqs(&mut events).is_empty());
    assert!(bench.notes().await.is_empty());
    is_failing.store(0, Ordering::SeqCst);
    bench.note("three").await.unwrap();
    assert_eq!(bench.notes().await, ["three"]);
    assert_eq!(modseqs(&mut events), [1]);
}

#[tokio::test]
async fn a_full_disk_fails_the_unit_that_met_it_and_no_other() {
    let bench = Bench::of_one_writer().await;
    let limit = async move |tx: &mut Tx| {
        let pages: i64 = tx.as_sqlite_mut().query_row("pragma page_count", [], |row| row.get(0))?;
        tx.as_sqlite_mut().pragma_update(None, "max_page_count", pages + 8)?;
        Ok(())
    };
    bench.store.write_plain(Urgency::Interactive, limit).await.unwrap();
    let release = bench.block().await;
    let before = submit(bench.note("before")).await;
    let large = submit(bench.store.write(bench.account, async move |tx: &mut Tx| {
        note(tx, "large").await?;
        note(tx, &"x".repeat(1 << 20)).await
    }))
    .await;
    let after = submit(bench.note("after")).await;
    drop(release);
    assert!(before.await.is_ok());
    assert!(matches!(large.await, Err(StoreError::Full)));
    assert!(after.await.is_ok());
    assert_eq!(bench.notes().await, ["after", "before"]);
}

#[tokio::test]
async fn an_attempt_does_not_survive_the_end_of_its_transaction() {
    let bench = Bench::of_one_writer().await;
    let unit = async move |tx: &mut Tx| {
        note(tx, "before").await?;
        let pages: i64 = tx.as_sqlite_mut().query_row("pragma page_count", [], |row| row.get(0))?;
        tx.as_sqlite_mut().pragma_update(None, "max_page_count", pages + 8)?;
        let large = "x".repeat(1 << 20);
        let full: Result<(), StoreError> = tx.attempt(async |tx: &mut Tx| note(tx, &large).await).await;
        assert!(matches!(full, Err(StoreError::Full)));
        // Whether the engine has undone the attempt alone or all of it, nothing may be half done.
        note(tx, "after").await
    };
    let outcome = bench.store.write(bench.account, unit).await;
    let expected: &[&str] = if outcome.is_ok() { &["after", "before"] } else { &[] };
    assert_eq!(bench.notes().await, expected);
}

#[tokio::test]
async fn a_batch_holds_sixty_four_units_at_most_and_is_one_commit() {
    let bench = Bench::of_one_writer().await;
    let (units, largest, commits) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hook = {
        let (units, largest, commits) = (units.clone(), largest.clone(), commits.clone());
        move || {
            commits.fetch_add(1, Ordering::SeqCst);
            largest.fetch_max(units.swap(0, Ordering::SeqCst), Ordering::SeqCst);
            false
        }
    };
    bench.on_commit(hook).await;
    let release = bench.block().await;
    let mut writes = Vec::new();
    for _ in 0..BATCH * 4 {
        let units = units.clone();
        let unit = async move |tx: &mut Tx| {
            units.fetch_add(1, Ordering::SeqCst);
            sql("update account set log_floor = 0 where id = $1").bind(tx.account()).run(tx).await
        };
        writes.push(submit(bench.store.write(bench.account, unit)).await);
    }
    drop(release);
    for write in writes {
        write.await.unwrap();
    }
    let largest = largest.load(Ordering::SeqCst);
    assert!(largest <= BATCH, "{largest} units in a commit");
    // On a slow machine the time ends a batch before its size does; never after each unit.
    let commits = commits.load(Ordering::SeqCst);
    assert!(largest > 1 && commits < BATCH * 4, "{commits} commits, the largest of {largest}");
}

#[tokio::test]
async fn interactive_units_go_first() {
    let bench = Bench::of_one_writer().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let release = bench.block().await;
    let mut writes = Vec::new();
    for number in 0..6 {
        let order = order.clone();
        let urgency = if number < 3 { Urgency::Background } else { Urgency::Interactive };
        let unit = async move |_tx: &mut Tx| {
            order.lock().unwrap().push(number);
            Ok(())
        };
        writes.push(submit(bench.store.write_plain(urgency, unit)).await);
    }
    drop(release);
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [3, 4, 5, 0, 1, 2]);
}

#[tokio::test]
async fn events_follow_the_commit() {
    let bench = Bench::of_one_writer().await;
    let mut events = bench.store.bus().subscribe();
    let release = bench.block().await;
    let written = submit(bench.note("told")).await;
    assert!(events.try_recv().is_err());
    let held_up = events.recv();
    assert!(tokio::time::timeout(Duration::from_millis(50), held_up).await.is_err());
    drop(release);
    // Whoever hears of a change can read it at once.
    let event = events.recv().await;
    assert_eq!(bench.notes().await, ["told"]);
    assert!(
        matches!(&event, Ok(Event::Changed { account, modseq: 1, types, .. })
            if *account == bench.account && types[..] == [ObjectType::Mailbox]),
        "{event:?}"
    );
    written.await.unwrap();
}

#[tokio::test]
async fn closing_finishes_what_is_in_hand_and_refuses_more() {
    let bench = Bench::of_one_writer().await;
    let release = bench.block().await;
    let mut writes = Vec::new();
    for name in ["a", "b", "c"] {
        writes.push(submit(bench.note(name)).await);
    }
    let store = bench.store.clone();
    let closing = tokio::spawn(async move { store.close().await });
    drop(release);
    closing.await.unwrap();
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(bench.notes().await, ["a", "b", "c"]);
    assert!(matches!(bench.note("late").await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn an_account_that_is_gone_refuses_units() {
    let bench = Bench::new().await;
    let unit = async move |tx: &mut Tx| note(tx, "x").await;
    let outcome = bench.store.write(AccountId(Id(7)), unit).await;
    assert!(matches!(outcome, Err(StoreError::NoSuchAccount)));
}

#[tokio::test]
async fn a_failure_is_told_after_the_commit_as_well() {
    let bench = Bench::of_one_writer().await;
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = commits.clone();
    bench
        .on_commit(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            false
        })
        .await;
    let release = bench.block().await;
    let failing =
        submit(bench.store.write(bench.account, async move |_: &mut Tx| Err::<(), _>(StoreError::Conflict)))
            .await;
    let (started, has_started) = mpsc::channel();
    let (go_on, told_to_go_on) = mpsc::channel::<()>();
    let signals = Arc::new(Mutex::new(Some((started, told_to_go_on))));
    // In the same batch: it keeps the commit from coming.
    let slow = submit(bench.store.write(bench.account, async move |tx: &mut Tx| {
        let (started, told_to_go_on) = signals.lock().unwrap().take().unwrap();
        started.send(()).unwrap();
        let _ = told_to_go_on.recv();
        note(tx, "slow").await
    }))
    .await;
    let before = commits.load(Ordering::SeqCst);
    drop(release);
    has_started.recv().unwrap();
    // On a busy machine time may end the batch before the slow unit: then there was a commit between.
    let is_committed = commits.load(Ordering::SeqCst) > before + 1;
    let mut failing = Box::pin(failing);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut failing).await;
    // What made it fail may itself be undone: a reader would not see it yet.
    assert!(early.is_err() || is_committed, "told before the commit");
    drop(go_on);
    let told = match early {
        Ok(told) => told,
        Err(_) => failing.await,
    };
    assert!(matches!(told, Err(StoreError::Conflict)));
    slow.await.unwrap();
}

#[tokio::test]
async fn a_batch_does_not_go_on_gathering() {
    let bench = Bench::of_one_writer().await;
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = commits.clone();
    bench
        .on_commit(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            false
        })
        .await;
    let release = bench.block().await;
    let mut writes = Vec::new();
    for _ in 0..20 {
        let unit = async move |_: &mut Tx| {
            std::thread::sleep(Duration::from_millis(4));
            Ok(())
        };
        writes.push(submit(bench.store.write(bench.account, unit)).await);
    }
    let before = commits.load(Ordering::SeqCst);
    drop(release);
    for write in writes {
        write.await.unwrap();
    }
    let commits = commits.load(Ordering::SeqCst) - before;
    assert!(commits >= 10, "{commits} commits for 80 ms of work: the first caller waited for the last");
}
