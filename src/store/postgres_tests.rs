//! The write funnel over PostgreSQL: what happens when others are in the way or connections break.
//!
//! The rules that both engines share are in `funnel_tests`. These need a server, which `tests/run`
//! starts and names by POSTRIDER_TEST_POSTGRES; without it they say so and test nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bus::{Bus, Event};
use crate::config::engine::PostgresUrl;
use crate::store::Store;
use crate::store::db::sql;
use crate::store::error::StoreError;
use crate::store::testing::{bare_account, database};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::clock::Clock;
use crate::types::id::AccountId;
use crate::types::object_type::ObjectType;

/// What the proxy does when a client sends COMMIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OnCommit {
    /// Passes it on, and closes the connection instead of bringing the answer.
    SwallowAnswer,
    /// Closes the connection without passing it on.
    CutBefore,
}

/// A proxy before the server that does so to the first few commits.
struct Proxy {
    port: u16,
    left: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(server: String, what: OnCommit, times: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicUsize::new(times));
        let left_here = left.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass(client, upstream, what, left_here.clone()));
            }
        });
        Proxy { port, left }
    }
}

async fn pass(client: TcpStream, upstream: TcpStream, what: OnCommit, left: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let mut asked = vec![0; 65_536];
    let mut answered = vec![0; 65_536];
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let is_commit = asked[..length].windows(7).any(|window| window == b"commit\0");
                let take = |left: usize| left.checked_sub(1);
                if is_commit && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    if what == OnCommit::SwallowAnswer {
                        to_server.write_all(&asked[..length]).await.unwrap();
                        // It is done when the server says so; nobody else hears it.
                        let _ = from_server.read(&mut answered).await;
                    }
                    return;
                }
                if to_server.write_all(&asked[..length]).await.is_err() { return }
            }
            read = from_server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if to_client.write_all(&answered[..length]).await.is_err() { return }
            }
        }
    }
}

/// A database of its own with an account.
struct Bench {
    url: PostgresUrl,
    store: Store,
    account: AccountId,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// `None` without a server.
    async fn new() -> Option<Bench> {
        let folder = tempfile::tempdir().unwrap();
        let Some(url) = database::of_folder(folder.path()) else {
            eprintln!("left out: POSTRIDER_TEST_POSTGRES names no server; tests/run starts one");
            return None;
        };
        let store = Store::on_postgres(&url, Bus::memory(), Clock::system()).unwrap();
        let account = bare_account(&store).await;
        Some(Bench { url, store, account, _folder: folder })
    }

    /// The same database through a proxy.
    async fn through(&self, what: OnCommit, times: usize) -> (Store, Proxy) {
        let proxy = Proxy::start(database::server_of(&self.url), what, times).await;
        let url = database::through(&self.url, proxy.port);
        (Store::on_postgres(&url, Bus::memory(), Clock::system()).unwrap(), proxy)
    }

    async fn notes(&self) -> Vec<String> {
        sql("select address from vacation_sent where account_id = $1 order by address")
            .bind(self.account)
            .column(&mut self.store.read().await.unwrap())
            .await
            .unwrap()
    }
}

/// Writes a row that may be there twice under other names, and counts how often it was asked to.
async fn note(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    let id = tx.new_id();
    sql("insert into vacation_sent (account_id, address, sent_at) values ($1, $2, 0)")
        .bind(tx.account())
        .bind(format!("{name} {id}"))
        .run(tx)
        .await?;
    tx.created(ObjectType::Mailbox, id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_looked_up_and_not_done_twice() {
    let Some(bench) = Bench::new().await else { return };
    let (store, proxy) = bench.through(OnCommit::SwallowAnswer, 1).await;
    let mut events = store.bus().subscribe();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let unit = async move |tx: &mut Tx| {
        counted.fetch_add(1, Ordering::SeqCst);
        note(tx, "once").await?;
        Ok(tx.modseq())
    };
    assert_eq!(store.write(bench.account, unit).await.unwrap(), 1);
    assert_eq!(proxy.left.load(Ordering::SeqCst), 0, "the answer was swallowed");
    assert_eq!(runs.load(Ordering::SeqCst), 1, "what is committed is not run again");
    assert_eq!(bench.notes().await.len(), 1);
    assert!(matches!(events.recv().await, Ok(Event::Changed { modseq: 1, .. })), "and it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_lane_are_not_queued_twice_when_the_answer_is_lost() {
    let Some(bench) = Bench::new().await else { return };
    let (store, proxy) = bench.through(OnCommit::SwallowAnswer, 1).await;
    let account = bench.account;
    let unit = async move |tx: &mut Tx| {
        let id = tx.new_id();
        sql("insert into vacation_sent (account_id, address, sent_at) values ($1, $2, 0)")
            .bind(account)
            .bind(id.to_string())
            .run(tx)
            .await
    };
    store.write_lane(7, Urgency::Interactive, unit).await.unwrap();
    assert_eq!(proxy.left.load(Ordering::SeqCst), 0);
    assert_eq!(bench.notes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_before_the_commit_arrives_runs_the_unit_again() {
    let Some(bench) = Bench::new().await else { return };
    let (store, proxy) = bench.through(OnCommit::CutBefore, 2).await;
    store.write(bench.account, async move |tx: &mut Tx| note(tx, "again").await).await.unwrap();
    assert_eq!(proxy.left.load(Ordering::SeqCst), 0);
    assert_eq!(bench.notes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_has_closed_are_replaced() {
    let Some(bench) = Bench::new().await else { return };
    let close_others = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                        where datname = current_database() and pid <> pg_backend_pid()";
    let other = Store::on_postgres(&bench.url, Bus::memory(), Clock::system()).unwrap();
    for _ in 0..3 {
        // Several connections wait in the pool, and all of them are dead after this.
        let reads: Vec<_> = (0..4).map(|_| bench.store.read()).collect();
        drop(futures_util::future::join_all(reads).await);
        let unit = async move |tx: &mut Tx| sql(close_others).value::<i64>(tx).await;
        other.write_plain(Urgency::Interactive, unit).await.unwrap();
        bench.store.write(bench.account, async move |tx: &mut Tx| note(tx, "after").await).await.unwrap();
        bench.store.read().await.unwrap();
    }
    assert_eq!(bench.notes().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_in_each_others_way_run_again() {
    let Some(bench) = Bench::new().await else { return };
    let other = bare_account(&bench.store).await;
    let runs = Arc::new(AtomicUsize::new(0));
    // Each takes one row and then wants the other's: PostgreSQL ends one of the two.
    let both = [(bench.account, other), (other, bench.account)].map(|(first, second)| {
        let (store, runs) = (bench.store.clone(), runs.clone());
        tokio::spawn(async move {
            let unit = async move |tx: &mut Tx| {
                runs.fetch_add(1, Ordering::SeqCst);
                let take = "update account set used_bytes = used_bytes + 1 where id = $1";
                sql(take).bind(first).run(tx).await?;
                sql("select count(*) from (select pg_sleep(0.2)) t").value::<i64>(tx).await?;
                sql(take).bind(second).run(tx).await
            };
            store.write_plain(Urgency::Interactive, unit).await
        })
    });
    for outcome in futures_util::future::join_all(both).await {
        outcome.unwrap().unwrap();
    }
    assert!(runs.load(Ordering::SeqCst) >= 3, "one of them was run again");
    let used = sql("select used_bytes from account where id = $1")
        .bind(other)
        .value::<i64>(&mut bench.store.read().await.unwrap())
        .await;
    assert_eq!(used.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_account_take_turns_and_a_snapshot_sees_one_state() {
    let Some(bench) = Bench::new().await else { return };
    let before = &mut *bench.store.read().await.unwrap();
    let modseq = async |conn: &mut crate::store::db::Conn| {
        sql("select modseq from account where id = $1").bind(bench.account).value::<i64>(conn).await.unwrap()
    };
    assert_eq!(modseq(before).await, Some(0));
    let writes: Vec<_> = (0..40)
        .map(|_| {
            let (store, account) = (bench.store.clone(), bench.account);
            tokio::spawn(async move {
                let unit = async move |tx: &mut Tx| {
                    note(tx, "one of many").await?;
                    Ok(tx.modseq())
                };
                store.write(account, unit).await.unwrap()
            })
        })
        .collect();
    let mut modseqs: Vec<i64> =
        futures_util::future::join_all(writes).await.into_iter().map(Result::unwrap).collect();
    modseqs.sort_unstable();
    assert_eq!(modseqs, (1..=40).collect::<Vec<i64>>());
    assert_eq!(modseq(before).await, Some(0), "what was begun before sees nothing of it");
    assert_eq!(bench.notes().await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_told_within_seconds() {
    let Some(bench) = Bench::new().await else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let store =
        Store::on_postgres(&database::through(&bench.url, nobody), Bus::memory(), Clock::system()).unwrap();
    let asked = std::time::Instant::now();
    let refused = store.write(bench.account, async move |tx: &mut Tx| note(tx, "never").await).await;
    assert!(refused.is_err_and(|error| error.is_temporary()));
    assert!(store.read().await.is_err_and(|error| error.is_temporary()));
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_wait_for_their_turn_clients_do_not_and_other_servers_not_long() {
    let Some(bench) = Bench::new().await else { return };
    let worker = bench.store.with_urgency(Urgency::Background);
    let server = bench.store.with_urgency(Urgency::Soon);
    // There are two turns as long as nothing has shown that the database is fast.
    let mut held = vec![worker.read().await.unwrap(), worker.read().await.unwrap()];
    let begun = std::time::Instant::now();
    bench.store.read().await.unwrap();
    let unit = async move |tx: &mut Tx| note(tx, "a client's").await;
    bench.store.write(bench.account, unit).await.unwrap();
    let unit = async move |tx: &mut Tx| note(tx, "on behalf of a client").await;
    bench.store.write_in_background(bench.account, unit).await.unwrap();
    let unit = async move |tx: &mut Tx| note(tx, "a server's").await;
    server.write(bench.account, unit).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "somebody waited: {:?}", begun.elapsed());
    // As long as no turn is over there is one more every second, up to half of the eight connections. When
    // all of them are held, servers are told so.
    while held.len() < 4 {
        held.push(worker.read().await.unwrap());
    }
    held.push(server.read().await.unwrap());
    assert!(matches!(server.read().await.map(drop), Err(StoreError::Busy)));
    let unit = async move |tx: &mut Tx| note(tx, "never").await;
    assert!(matches!(server.write(bench.account, unit).await, Err(StoreError::Busy)));
    drop(held);
    server.read().await.unwrap();
    worker.write(bench.account, async move |tx: &mut Tx| note(tx, "a worker's").await).await.unwrap();
    let notes = bench.notes().await;
    assert!(notes.len() == 4 && !notes.iter().any(|note| note.starts_with("never")), "{notes:?}");
}
