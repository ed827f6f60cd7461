//! The SQLite engine: readers in place, one writer thread with group commit.
//!
//! Rules of the writer, each with a test below: a unit that fails or panics is rolled back to its
//! savepoint and disturbs no neighbour; a caller that left before its unit began is skipped, one
//! that left later is finished and published; a unit that waits for anything but its own statements
//! is stopped; when SQLite ends the transaction itself or COMMIT fails, the units of the batch run
//! again one by one; every caller hears of its unit after the commit only.

pub mod statement;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::OpenFlags;

use crate::bus::Bus;
use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::{Urgency, Work};

/// Units that one commit may hold.
const BATCH_UNITS: usize = 64;
/// How long a batch may go on gathering units.
const BATCH_TIME: Duration = Duration::from_millis(5);
/// A unit that takes longer is logged.
const SLOW_UNIT: Duration = Duration::from_millis(50);
/// Units that may wait for the writer before callers are told to try again.
const WAITING_UNITS: usize = 20_000;
/// Readers kept open for re-use.
const IDLE_READERS: usize = 64;
/// How long a statement waits for a lock of SQLite's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const CHECKPOINT_EVERY: Duration = Duration::from_millis(200);
/// Pages in the write-ahead log (64 MiB of them) from which the writer is made to begin it anew.
/// Under steady writes a passive checkpoint never catches up, and the log would grow for ever.
const RESTART_PAGES: i64 = 16_384;
/// How long beginning anew may wait for readers, and the writer with it.
const RESTART_PATIENCE: Duration = Duration::from_millis(20);
/// Page cache of a connection, in KiB; SQLite counts it negative.
const CACHE_KIB: i64 = 16_384;

/// The engine of one database file.
pub struct SqliteEngine {
    path: Arc<Path>,
    idle: Mutex<Vec<Conn>>,
    jobs: Arc<Jobs>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// The checkpoint thread asks the writer to begin the write-ahead log anew.
    log_is_long: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    interactive: VecDeque<Box<dyn Work>>,
    background: VecDeque<Box<dyn Work>>,
    closed: bool,
}

impl Waiting {
    fn len(&self) -> usize {
        self.interactive.len() + self.background.len()
    }

    fn next(&mut self) -> Option<Box<dyn Work>> {
        self.interactive.pop_front().or_else(|| self.background.pop_front())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SqliteEngine {
    /// Starts the writer and the checkpoint thread over an open, migrated database.
    pub fn start(
        path: &Path,
        make_tx: impl FnOnce(Conn) -> Tx,
        bus: Bus,
    ) -> Result<SqliteEngine, StoreError> {
        let tx = make_tx(open(path, Access::Write)?);
        let jobs = Arc::new(Jobs::default());
        let writer_jobs = jobs.clone();
        let writer = thread("store-writer", move || Writer { tx, bus, jobs: writer_jobs }.run())?;
        let checkpoint_connection = open(path, Access::Write)?;
        let checkpoint_jobs = jobs.clone();
        let checkpoint =
            thread("store-checkpoint", move || checkpoint_loop(&checkpoint_connection, &checkpoint_jobs))?;
        Ok(SqliteEngine {
            path: path.into(),
            idle: Mutex::new(Vec::new()),
            jobs,
            threads: Mutex::new(vec![writer, checkpoint]),
        })
    }

    /// A reader; give it back with `give_back`.
    pub fn reader(&self) -> Result<Conn, StoreError> {
        if let Some(conn) = locked(&self.idle).pop() {
            return Ok(conn);
        }
        open(&self.path, Access::Read)
    }

    /// Keeps a reader for the next one who wants one.
    pub fn give_back(&self, conn: Conn) {
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE_READERS {
            idle.push(conn);
        }
    }

    /// Hands a unit of work to the writer. Refused work is told so by its own `finish`.
    pub fn submit(&self, work: Box<dyn Work>, urgency: Urgency) {
        let mut waiting = locked(&self.jobs.waiting);
        let refusal = match () {
            () if waiting.closed => Some(StoreError::Closed),
            () if waiting.len() >= WAITING_UNITS => Some(StoreError::Busy),
            () => None,
        };
        if let Some(error) = refusal {
            drop(waiting);
            return work.finish(Some(error));
        }
        match urgency {
            Urgency::Interactive | Urgency::Soon => waiting.interactive.push_back(work),
            Urgency::Background => waiting.background.push_back(work),
        }
        drop(waiting);
        self.jobs.changed.notify_all();
    }

    /// Finishes the units in hand and stops the threads. Later units are refused.
    pub fn close(&self) {
        locked(&self.jobs.waiting).closed = true;
        self.jobs.changed.notify_all();
        for thread in std::mem::take(&mut *locked(&self.threads)) {
            // A thread that panicked has nothing left to finish.
            let _ = thread.join();
        }
    }
}

impl Drop for SqliteEngine {
    fn drop(&mut self) {
        self.close();
    }
}

fn thread(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| StoreError::Engine(format!("cannot start the thread {name}: {error}").into()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Opens a connection with the settings that durability and speed rest on.
pub(super) fn open(path: &Path, access: Access) -> Result<Conn, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // The 250 of SMTP and the answer of a /set stand on this: a commit is on the disk.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "journal_size_limit", 64_i64 << 20)?;
    // A thread of its own checkpoints, so that no writer pays for it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    if access == Access::Read {
        connection.pragma_update(None, "query_only", true)?;
    }
    Conn::sqlite(connection)
}

fn checkpoint_loop(conn: &Conn, jobs: &Jobs) {
    loop {
        let waiting = locked(&jobs.waiting);
        if waiting.closed {
            break;
        }
        let (waiting, _) =
            jobs.changed.wait_timeout(waiting, CHECKPOINT_EVERY).unwrap_or_else(PoisonError::into_inner);
        drop(waiting);
        std::thread::sleep(CHECKPOINT_EVERY);
        match checkpoint(conn) {
            Ok(pages) => jobs.log_is_long.store(pages > RESTART_PAGES, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log could not be checkpointed; it grows until this works");
            }
        }
    }
    // The last one leaves a small log behind; nothing depends on it.
    let _ = conn.as_sqlite().query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()));
}

/// Copies what it can into the database file beside the writer; the pages that the log then has.
fn checkpoint(conn: &Conn) -> Result<i64, rusqlite::Error> {
    conn.as_sqlite().query_row("pragma wal_checkpoint(passive)", [], |row| row.get(1))
}

struct Writer {
    tx: Tx,
    bus: Bus,
    jobs: Arc<Jobs>,
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.wait() {
            if self.jobs.log_is_long.swap(false, Ordering::Relaxed) {
                self.restart_log();
            }
            self.batch(first);
        }
    }

    /// Copies what the checkpoint thread left of the log, and begins it anew. Only the writer can:
    /// anyone else would wait for a moment without a writer, which under load never comes.
    fn restart_log(&self) {
        let connection = self.tx.as_sqlite();
        let restarted = connection
            .busy_timeout(RESTART_PATIENCE)
            .and_then(|()| connection.query_row("pragma wal_checkpoint(restart)", [], |_| Ok(())));
        let patient_again = connection.busy_timeout(BUSY_TIMEOUT);
        if let Err(error) = restarted.and(patient_again) {
            tracing::warn!(%error, "the write-ahead log could not be begun anew; it grows until this works");
        }
    }

    /// The next unit; `None` when the store has closed and nothing waits.
    fn wait(&self) -> Option<Box<dyn Work>> {
        let mut waiting = locked(&self.jobs.waiting);
        loop {
            if let Some(work) = waiting.next() {
                return Some(work);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.jobs.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs units until none waits or the batch is full, commits, publishes, and tells the callers.
    fn batch(&mut self, first: Box<dyn Work>) {
        if let Err(error) = self.tx.control_sqlite("begin immediate") {
            return first.finish(Some(error));
        }
        let begun = Instant::now();
        let mut done: Vec<Box<dyn Work>> = Vec::new();
        let mut failed: Vec<(Box<dyn Work>, StoreError)> = Vec::new();
        let mut events = Vec::new();
        let mut next = Some(first);
        let mut units = 0;
        while let Some(mut work) = next.take() {
            units += 1;
            if !work.is_abandoned() {
                match self.run_unit(work.as_mut()) {
                    Ok(()) => {
                        events.extend(self.tx.take_events());
                        done.push(work);
                    }
                    Err(error) => failed.push((work, error)),
                }
            }
            if self.tx.as_sqlite().is_autocommit() {
                // SQLite ended the transaction itself (disk full, I/O error): all is undone.
                break;
            }
            if units < BATCH_UNITS && begun.elapsed() < BATCH_TIME {
                next = locked(&self.jobs.waiting).next();
            }
        }
        let lost = self.tx.as_sqlite().is_autocommit();
        let committed = if lost { Err(StoreError::Full) } else { self.tx.control_sqlite("commit") };
        match committed {
            Ok(()) => {
                for event in events {
                    self.bus.publish(event);
                }
                for work in done {
                    work.finish(None);
                }
            }
            Err(error) => {
                if !self.tx.as_sqlite().is_autocommit() {
                    let _ = self.tx.control_sqlite("rollback");
                }
                tracing::warn!(%error, units = done.len(), "a commit failed; its units run again one by one");
                for work in done {
                    self.alone(work);
                }
            }
        }
        for (work, error) in failed {
            work.finish(Some(error));
        }
    }

    /// Runs one unit in a transaction of its own.
    fn alone(&mut self, mut work: Box<dyn Work>) {
        let outcome = self.tx.control_sqlite("begin immediate").and_then(|()| {
            let outcome = self.run_unit(work.as_mut());
            match outcome {
                Ok(()) => self.tx.control_sqlite("commit"),
                Err(error) => Err(error),
            }
        });
        if !self.tx.as_sqlite().is_autocommit() {
            let _ = self.tx.control_sqlite("rollback");
        }
        let events = self.tx.take_events();
        if outcome.is_ok() {
            for event in events {
                self.bus.publish(event);
            }
        }
        work.finish(outcome.err());
    }

    fn run_unit(&mut self, work: &mut dyn Work) -> Result<(), StoreError> {
        let begun = Instant::now();
        self.tx.control_sqlite("savepoint unit")?;
        let outcome = work.run(&mut self.tx);
        let failure = self.tx.take_failure();
        let outcome = match (outcome, failure) {
            // A unit may not hide that a statement failed.
            (_, Some(error)) => Err(error),
            (outcome, None) => outcome,
        };
        if !self.tx.as_sqlite().is_autocommit() {
            match &outcome {
                Ok(()) => self.tx.control_sqlite("release unit")?,
                Err(_) => {
                    self.tx.control_sqlite("rollback to unit")?;
                    self.tx.control_sqlite("release unit")?;
                }
            }
        } else if outcome.is_ok() {
            return Err(StoreError::Full);
        }
        let took = begun.elapsed();
        if took > SLOW_UNIT {
            tracing::info!(took_ms = took.as_millis() as u64, unit = work.name(), "slow unit of work");
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::db::sql;
    use crate::store::testing::{bare_account, sqlite_in};
    use crate::types::clock::Clock;

    #[tokio::test(flavor = "multi_thread")]
    async fn steady_writes_do_not_make_the_log_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite_in(folder.path(), Clock::system());
        let account = bare_account(&store).await;
        let log = folder.path().join("t.db-wal");
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for number in 0..400 {
                        let unit = async move |tx: &mut Tx| {
                            sql("insert into vacation_sent (account_id, address, sent_at) values ($1, $2, 0)")
                                .bind(tx.account())
                                .bind(&*format!("{writer} {number} {}", "x".repeat(200_000)))
                                .run(tx)
                                .await
                        };
                        store.write(account, unit).await.unwrap();
                    }
                })
            })
            .collect();
        let mut largest = 0;
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            largest = largest.max(std::fs::metadata(&log).unwrap().len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(largest < 200 << 20, "640 MB were written, and the log grew to {} MiB", largest >> 20);
    }
}
