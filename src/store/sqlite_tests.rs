//! What durability rests on: a commit is on the disk before anybody hears of it; and readers see
//! one state each, however long they look.

use std::collections::HashSet;
use std::path::Path;

use crate::blob::testing::{CHILD_FOLDER, child};
use crate::store::db::sql;
use crate::store::directory::fixture::Fixture;
use crate::store::sqlite::{Access, open};
use crate::store::testing::{bare_account, sqlite_in};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::clock::Clock;
use crate::types::id::AccountId;

/// Answers that the child below waits for.
const COMMITS: i64 = 5;

#[test]
fn every_connection_syncs_each_commit() {
    let folder = tempfile::tempdir().unwrap();
    for access in [Access::Write, Access::Read] {
        let conn = open(&folder.path().join("t.db"), access).unwrap();
        let setting = |name: &str| -> String {
            let read = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
            match conn.as_sqlite().query_row(&format!("pragma {name}"), [], read).unwrap() {
                rusqlite::types::Value::Text(text) => text,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(setting("journal_mode"), "wal");
        // 2 is full: the log is synced at each commit, not only at a checkpoint.
        assert_eq!(setting("synchronous"), "Integer(2)");
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_that_commits() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let folder = Path::new(&folder);
        let store = sqlite_in(folder, Clock::system());
        let account = bare_account(&store).await;
        for number in 0..COMMITS {
            // A sync that comes too late for one answer is not to be taken for that of the next.
            std::thread::sleep(std::time::Duration::from_millis(50));
            std::fs::create_dir(folder.join(format!("begin{number}"))).unwrap();
            let unit = async move |tx: &mut Tx| {
                sql("insert into vacation_sent (account_id, address, sent_at) values ($1, $2, 0)")
                    .bind(account)
                    .bind(number.to_string())
                    .run(tx)
                    .await
            };
            store.write(account, unit).await.unwrap();
            // Whoever heard of the commit does something that the trace shows.
            std::fs::create_dir(folder.join(format!("answer{number}"))).unwrap();
        }
    });
}

/// The calls by which the system is told: between two answers there is a sync of the log.
#[test]
fn a_commit_is_synced_before_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let calls = "trace=fsync,fdatasync,mkdir,mkdirat";
    let under = ["strace", "-f", "-y", "-e", calls, "-o", trace.to_str().unwrap()];
    let test = "store::sqlite_tests::child_that_commits";
    if child(&under, test, folder.path()).is_none() {
        // Without strace `every_connection_syncs_each_commit` stands alone.
        return;
    }
    let trace = std::fs::read_to_string(trace).unwrap();
    let mut is_synced = false;
    let mut answers = 0;
    // A sync that another thread has begun counts when it has ended.
    let mut begun = HashSet::new();
    for line in trace.lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        if line.contains("sync(") && line.contains("t.db-wal") {
            match line.contains("<unfinished") {
                true => drop(begun.insert(thread)),
                false => is_synced = true,
            }
        }
        if line.contains("sync resumed>") {
            is_synced |= begun.remove(thread);
        }
        if line.contains("mkdir") && line.contains("/begin") {
            is_synced = false;
        }
        if line.contains("mkdir") && line.contains("/answer") {
            assert!(is_synced, "answered without a sync:\n{trace}");
            answers += 1;
        }
    }
    assert_eq!(answers, COMMITS, "{trace}");
}

async fn logins(conn: &mut crate::store::db::Conn) -> Option<i64> {
    sql("select count(*) from login").value(conn).await.unwrap()
}

#[tokio::test]
async fn a_snapshot_sees_one_state_while_others_write() {
    let fixture = Fixture::new().await;
    fixture.account("alice@example.test").await;
    let mut before = fixture.store.read().await.unwrap();
    assert_eq!(logins(&mut before).await, Some(1));
    fixture.account("bob@example.test").await;
    assert_eq!(logins(&mut before).await, Some(1), "the state of its first look");
    let mut after = fixture.store.read().await.unwrap();
    assert_eq!(logins(&mut after).await, Some(2));
    drop(before);
    let mut again = fixture.store.read().await.unwrap();
    assert_eq!(logins(&mut again).await, Some(2), "a connection that was given back forgets");
}

#[tokio::test]
async fn a_snapshot_writes_nothing() {
    let fixture = Fixture::new().await;
    let mut snapshot = fixture.store.read().await.unwrap();
    assert!(sql("update domain set created_at = 7").run(&mut snapshot).await.is_err());
}

#[tokio::test]
async fn what_is_no_state_of_jmap_leaves_the_account_row_alone() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let alice = fixture.account("alice@example.test").await.account;
    let modseq = async |account: AccountId| {
        let mut snapshot = store.read().await.unwrap();
        sql("select modseq from account where id = $1").bind(account).value::<i64>(&mut snapshot).await
    };
    let before = modseq(alice).await.unwrap();
    store.write_plain(Urgency::Background, async move |_: &mut Tx| Ok(())).await.unwrap();
    assert_eq!(modseq(alice).await.unwrap(), before);
    store.write(alice, async move |_: &mut Tx| Ok(())).await.unwrap();
    assert_eq!(modseq(alice).await.unwrap().unwrap(), before.unwrap() + 1);
}

/// The test that runs as a process of its own below.
const SLOW_CHILD: &str = "store::sqlite_tests::child_with_a_slow_unit";

#[test]
#[ignore = "a child of the test below"]
fn child_with_a_slow_unit() {
    if std::env::var(CHILD_FOLDER).is_err() {
        return;
    }
    tracing_subscriber::fmt().with_writer(std::io::stdout).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite_in(folder.path(), Clock::system());
        let account = bare_account(&store).await;
        for (name, milliseconds) in [("quick", 1), ("slow", 80)] {
            let unit = async move |tx: &mut Tx| {
                std::thread::sleep(std::time::Duration::from_millis(milliseconds));
                sql("update account set name = $2 where id = $1").bind(tx.account()).bind(name).run(tx).await
            };
            store.write(account, unit).await.unwrap();
            println!("done: {name}");
        }
    });
}

#[test]
fn a_slow_unit_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    // The log is the process's own: a child has one for itself.
    let told = child(&[], SLOW_CHILD, folder.path()).unwrap();
    let (before, after) = told.split_once("done: quick").unwrap_or_else(|| panic!("{told}"));
    assert!(!before.contains("slow unit of work"), "{told}");
    assert!(after.contains("slow unit of work") && after.contains("took_ms="), "{told}");
}
