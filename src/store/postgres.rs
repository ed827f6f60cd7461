//! The PostgreSQL engine: a pool for each host, snapshots, and the write funnel.
//!
//! A unit of work is a transaction of its own, run by a task, so that a caller who leaves cannot cut
//! it between COMMIT and publish. What happens when something fails:
//!
//! - before COMMIT was sent, or when the server answers that another transaction was in the way
//!   (40001, 40P01), nothing is written: the unit runs again;
//! - when the connection breaks while COMMIT is on its way, nobody knows. Every transaction therefore
//!   begins by writing a random number (`commit_mark`) into the shard that it works on. The unit runs
//!   again with the same number: if that is there already, the first run was committed; if another
//!   transaction is still writing it, the insert waits for its end.

pub(super) mod background;
pub mod distribute;
pub mod statement;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::bus::{Bus, Event};
use crate::config::engine::PostgresUrl;
use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::store::lanes::Lanes;
use crate::store::postgres::background::{Background, Turn};
use crate::store::postgres::statement::{InFlight, PostgresConn, Sharding};
use crate::store::tx::{Scope, Tx, TxParts};
use crate::store::unit::{Unit, Urgency};

/// Statements that a connection keeps prepared.
const PREPARED_STATEMENTS: usize = 512;
/// How long work is tried again while the database cannot be reached or others are in the way.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is found out what became of a commit whose answer was lost: longer than a restart of the
/// database takes. Who gave up earlier would say that nothing was written, and be asked again.
const PATIENCE_WITH_COMMITS: Duration = Duration::from_secs(60);
/// A host that did not answer is not asked again for so long, unless no other does.
const HOST_REST: Duration = Duration::from_secs(5);
/// The first wait before that; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How long one host is tried before the next is.
const HOST_PATIENCE: Duration = Duration::from_secs(2);
/// A unit that takes longer is logged.
const SLOW_UNIT: Duration = Duration::from_millis(200);

/// Settings of each connection: no statement, no lock and no idle transaction goes on for ever.
const SESSION: [(&str, &str); 5] = [
    ("statement_timeout", "60s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "30s"),
    // Who has left wants no answer.
    ("client_connection_check_interval", "2s"),
    ("timezone", "UTC"),
];

/// A host of the address.
struct Host {
    pool: PgPool,
    /// Until when it is left alone.
    rests_until: Mutex<Option<Instant>>,
}

impl Host {
    fn is_resting(&self) -> bool {
        let until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self, until: Option<Instant>) {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// The engine of one database.
pub struct PostgresEngine {
    hosts: Vec<Host>,
    /// The host whose turn it is.
    turn: AtomicUsize,
    background: Arc<Background>,
    units: TaskTracker,
    parts: TxParts,
    is_sharded: AtomicBool,
    is_guarded: bool,
    bus: Bus,
}

impl PostgresEngine {
    /// An engine that connects when it is first used.
    pub fn new(
        url: &PostgresUrl,
        connections: u32,
        parts: TxParts,
        bus: Bus,
    ) -> Result<PostgresEngine, StoreError> {
        let mut hosts = Vec::new();
        for host in url.hosts() {
            let options = PgConnectOptions::from_str(host.reveal())
                .map_err(|error| StoreError::Engine(format!("database_url cannot be used: {error}").into()))?
                .application_name("postrider")
                .statement_cache_capacity(PREPARED_STATEMENTS)
                .options(SESSION);
            let pool = PgPoolOptions::new()
                .max_connections(connections.max(2))
                .acquire_timeout(PATIENCE)
                // A broken connection is found by its first statement, which is then repeated.
                .test_before_acquire(false)
                .connect_lazy_with(options);
            hosts.push(Host { pool, rests_until: Mutex::new(None) });
        }
        Ok(PostgresEngine {
            hosts,
            turn: AtomicUsize::new(0),
            background: Background::new(connections as usize / 2),
            units: TaskTracker::new(),
            parts,
            is_sharded: AtomicBool::new(false),
            is_guarded: url.hosts().iter().any(|host| host.reveal().contains("multi_task_query_log_level")),
            bus,
        })
    }

    /// Looks whether Citus distributes the tables, and where accounts queue then.
    pub async fn learn_shards(&self) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let known = "select count(*) from pg_extension where extname = 'citus'";
        let has_citus = connection.simple(known).await?.first().is_some_and(|row| row.first() == Some(&1));
        let is_sharded = has_citus && {
            let known = "select count(*) from citus_tables where table_name = 'account'::regclass";
            connection.simple(known).await?.first().is_some_and(|row| row.first() == Some(&1))
        };
        drop(connection);
        if is_sharded {
            self.is_sharded.store(true, Ordering::Relaxed);
            let mut snapshot = self.snapshot(Urgency::Background).await?;
            let lanes = Lanes::of_shards(&mut snapshot).await?;
            self.end_snapshot(snapshot, None);
            self.parts.set_lanes(lanes);
        }
        Ok(())
    }

    fn sharding(&self) -> Sharding {
        Sharding { is_sharded: self.is_sharded.load(Ordering::Relaxed), is_guarded: self.is_guarded }
    }

    /// A connection to a host that answers.
    pub async fn connection(&self) -> Result<PostgresConn, StoreError> {
        let mut last = StoreError::Disconnected;
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let all_rest = self.hosts.iter().all(Host::is_resting);
        let patience = if self.hosts.len() > 1 { HOST_PATIENCE } else { PATIENCE };
        for turn in 0..self.hosts.len() {
            let host = &self.hosts[(first + turn) % self.hosts.len()];
            if host.is_resting() && !all_rest {
                continue;
            }
            match tokio::time::timeout(patience, host.pool.acquire()).await {
                Ok(Ok(connection)) => {
                    host.rest(None);
                    return Ok(PostgresConn::new(connection, self.sharding()));
                }
                Ok(Err(error)) => last = error.into(),
                Err(_) => last = StoreError::Busy,
            }
            // A pool whose connections are all in use is busy, and not away.
            if host.pool.size() < host.pool.options().get_max_connections() {
                host.rest(Some(Instant::now() + HOST_REST));
            }
        }
        Err(last)
    }

    /// Waits for the turn of who is not interactive: for one read, or one unit of work. Those who go first
    /// are told when it does not come: another server waits for an answer, if not long.
    pub async fn turn(&self, urgency: Urgency) -> Result<Option<Turn>, StoreError> {
        let turn = self.background.turn(urgency);
        match urgency {
            Urgency::Soon => tokio::time::timeout(PATIENCE, turn).await.map_err(|_| StoreError::Busy),
            Urgency::Interactive | Urgency::Background => Ok(turn.await),
        }
    }

    /// A connection within a read transaction that sees one state.
    pub async fn snapshot(&self, urgency: Urgency) -> Result<Conn, StoreError> {
        let patience = Patience::new(PATIENCE);
        loop {
            let begun = match self.connection().await {
                Ok(mut connection) => {
                    let asked = Instant::now();
                    let begun = connection.control("begin isolation level repeatable read read only").await;
                    begun.map(|()| {
                        self.background.note(asked.elapsed(), urgency);
                        Conn::postgres(connection)
                    })
                }
                Err(error) => Err(error),
            };
            match begun {
                Err(StoreError::Disconnected) if patience.wait().await => {}
                outcome => return outcome,
            }
        }
    }

    /// Ends a read transaction, and gives its connection back. Nobody waits for it; its turn is over with it.
    pub fn end_snapshot(&self, mut conn: Conn, turn: Option<Turn>) {
        // Whoever left in mid-statement leaves a connection that is of no use; it is closed.
        if conn.as_postgres().is_none_or(|postgres| postgres.in_flight().is_set()) {
            return;
        }
        // Without a runtime the process ends, and the server rolls back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = conn.control("commit").await;
                drop((conn, turn));
            });
        }
    }

    /// Runs a unit of work, durably.
    pub async fn write<T, F>(
        self: &Arc<Self>,
        scope: Scope,
        urgency: Urgency,
        unit: F,
    ) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        if self.units.is_closed() {
            return Err(StoreError::Closed);
        }
        let (reply, result) = oneshot::channel();
        let engine = self.clone();
        self.units.spawn(async move {
            let turn = engine.turn(urgency).await;
            // Whoever has left before the turn of the unit wants it no more.
            if !reply.is_closed() {
                let _ = reply.send(match turn {
                    Ok(turn) => engine.run(scope, urgency, turn, unit).await,
                    Err(error) => Err(error),
                });
            }
        });
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn run<T, F>(
        &self,
        scope: Scope,
        urgency: Urgency,
        mut turn: Option<Turn>,
        unit: F,
    ) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send,
        T: Send,
    {
        let mut patience = Patience::new(PATIENCE);
        let mark = self.parts.ids.make().0;
        let mut uncertain: Option<(T, Vec<Event>)> = None;
        loop {
            let error = match self.attempt(scope, mark, unit.clone()).await {
                Attempt::Committed(result, events) => return Ok(self.publish(result, events)),
                Attempt::Marked => {
                    return match uncertain {
                        Some((result, events)) => Ok(self.publish(result, events)),
                        // Nobody else makes this number.
                        None => Err(StoreError::Conflict),
                    };
                }
                // Without a mark nothing can be looked up: whoever asked looks, and tries again.
                Attempt::Uncertain(..) if !scope.is_marked() => return Err(StoreError::Unknown),
                Attempt::Uncertain(result, events) => {
                    tracing::warn!("the connection broke during a commit; whether it happened is looked up");
                    patience = Patience::new(PATIENCE_WITH_COMMITS);
                    uncertain = Some((result, events));
                    StoreError::Disconnected
                }
                Attempt::Failed(error) => error,
            };
            let may_repeat = match error {
                StoreError::Disconnected | StoreError::Conflicting => true,
                // The look-up waits for the first transaction, which may be half dead.
                StoreError::Busy => uncertain.is_some(),
                _ => false,
            };
            // Those whose part of the database answers have the turn meanwhile.
            drop(turn.take());
            if !may_repeat || !patience.wait().await {
                return Err(if uncertain.is_some() { StoreError::Unknown } else { error });
            }
            // What may have been written is looked up without waiting for more.
            if uncertain.is_none() {
                turn = self.turn(urgency).await?;
            }
        }
    }

    fn publish<T>(&self, result: T, events: Vec<Event>) -> T {
        for event in events {
            self.bus.publish(event);
        }
        result
    }

    /// Runs a unit once.
    async fn attempt<T, F>(&self, scope: Scope, mark: i64, unit: F) -> Attempt<T>
    where
        F: for<'a> Unit<'a, T> + Send,
        T: Send,
    {
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return Attempt::Failed(error),
        };
        let in_flight = connection.in_flight();
        let was_left = in_flight.clone();
        let mut tx = Tx::new(Conn::postgres(connection), self.parts.clone());
        match tx.begin_postgres(scope, mark).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => {
                let _ = tx.control("rollback").await;
                return Attempt::Marked;
            }
            Err(error) => {
                let _ = tx.control("rollback").await;
                return Attempt::Failed(error);
            }
        }
        let begun = Instant::now();
        let outcome = {
            let whole = Box::pin(async {
                let result = unit(&mut tx).await?;
                tx.finish().await?;
                Ok(result)
            });
            // A panic inside is undone with the transaction; what the unit owned is dropped.
            let watched = AssertUnwindSafe(Watched { unit: whole, in_flight }).catch_unwind();
            watched.await.unwrap_or(Err(StoreError::UnitPanicked))
        };
        if was_left.is_set() {
            // A panic between two rows: the connection goes, and the server rolls back.
            return Attempt::Failed(outcome.err().unwrap_or(StoreError::UnitPanicked));
        }
        let took = begun.elapsed();
        if took > SLOW_UNIT {
            let unit = std::any::type_name::<F>();
            tracing::info!(took_ms = took.as_millis() as u64, unit, "slow unit of work");
        }
        let result = match (outcome, tx.take_failure()) {
            // A unit may not hide that a statement failed: PostgreSQL would answer COMMIT with
            // success, having rolled back.
            (_, Some(error)) | (Err(error), None) => {
                let _ = tx.control("rollback").await;
                return Attempt::Failed(error);
            }
            (Ok(result), None) => result,
        };
        let events = tx.take_events();
        match tx.control("commit").await {
            Ok(()) => Attempt::Committed(result, events),
            // These say that it was not; anything else may come after it was.
            Err(error @ (StoreError::Conflicting | StoreError::Conflict)) => Attempt::Failed(error),
            Err(_) => {
                if let Some(postgres) = tx.as_postgres() {
                    postgres.discard();
                }
                Attempt::Uncertain(result, events)
            }
        }
    }

    /// Finishes the units in hand. Later units are refused.
    pub async fn close(&self) {
        self.units.close();
        self.units.wait().await;
        for host in &self.hosts {
            host.pool.close().await;
        }
    }
}

/// What came of one run of a unit.
enum Attempt<T> {
    /// It is written.
    Committed(T, Vec<Event>),
    /// The transaction's number is there: an earlier run was committed.
    Marked,
    /// The connection broke while COMMIT was on its way.
    Uncertain(T, Vec<Event>),
    /// Nothing is written.
    Failed(StoreError),
}

/// Lets a unit wait for its own statements and for nothing else: it holds an account's row.
struct Watched<'a, T> {
    unit: Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>,
    in_flight: InFlight,
}

impl<T> Future for Watched<'_, T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.unit.as_mut().poll(context) {
            Poll::Pending if !self.in_flight.is_set() => Poll::Ready(Err(StoreError::UnitWaited)),
            outcome => outcome,
        }
    }
}

/// How long to go on trying, with growing waits that differ between those who wait.
struct Patience {
    since: Instant,
    length: Duration,
    tries: AtomicUsize,
}

impl Patience {
    fn new(length: Duration) -> Patience {
        Patience { since: Instant::now(), length, tries: AtomicUsize::new(0) }
    }

    /// Waits before the next try; false when it is time to give up.
    async fn wait(&self) -> bool {
        if self.since.elapsed() >= self.length {
            return false;
        }
        let tries = self.tries.fetch_add(1, Ordering::Relaxed).min(16) as u32;
        let wait = (FIRST_WAIT * 2_u32.pow(tries)).min(LONGEST_WAIT);
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        true
    }
}
