//! A read transaction: every statement of it sees the same state.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::store::Engine;
use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::store::postgres::background::Turn;
use crate::store::unit::Urgency;

/// A consistent view. On SQLite its statements run in place, on the thread that asks: keep them
/// short, and keep a snapshot no longer than one request.
pub struct Snapshot {
    engine: Arc<Engine>,
    /// Taken by `Drop` alone.
    conn: Option<Conn>,
    /// Of a worker's read.
    turn: Option<Turn>,
}

impl Snapshot {
    pub(super) async fn begin(engine: Arc<Engine>, urgency: Urgency) -> Result<Snapshot, StoreError> {
        let mut turn = None;
        let conn = match &*engine {
            Engine::Sqlite(sqlite) => {
                let mut conn = sqlite.reader()?;
                conn.control_sqlite("begin")?;
                conn
            }
            Engine::Postgres(postgres) => {
                turn = postgres.turn(urgency).await?;
                postgres.snapshot(urgency).await?
            }
        };
        Ok(Snapshot { engine, conn: Some(conn), turn })
    }
}

impl Snapshot {
    /// Runs a long read (a scan, a sort) of this view; on SQLite, on a thread of its own.
    pub async fn run_long<T, F>(mut self, read: F) -> Result<T, StoreError>
    where
        F: for<'a> Reading<'a, T> + Send + 'static,
        T: Send + 'static,
    {
        if matches!(*self.engine, Engine::Postgres(_)) {
            return read(&mut self).await;
        }
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(read(&mut self)))
            .await
            .unwrap_or(Err(StoreError::UnitPanicked))
    }
}

const HELD: &str = "a snapshot holds its connection until it is dropped";

impl Deref for Snapshot {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect(HELD)
    }
}

impl DerefMut for Snapshot {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect(HELD)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        let _ = conn.take_failure();
        // A connection that cannot end its transaction is not used again.
        match &*self.engine {
            Engine::Sqlite(sqlite) => {
                if conn.control_sqlite("commit").is_ok() {
                    sqlite.give_back(conn);
                }
            }
            Engine::Postgres(postgres) => postgres.end_snapshot(conn, self.turn.take()),
        }
    }
}

/// A read over a snapshot: `async move |snapshot: &mut Snapshot| { … Ok(value) }`, as a bound that
/// can ask that its future is `Send`.
pub trait Reading<'a, T>: FnOnce(&'a mut Snapshot) -> <Self as Reading<'a, T>>::Future {
    /// The future of the read.
    type Future: Future<Output = Result<T, StoreError>> + Send + 'a;
}

impl<'a, T, F, Fut> Reading<'a, T> for F
where
    F: FnOnce(&'a mut Snapshot) -> Fut,
    Fut: Future<Output = Result<T, StoreError>> + Send + 'a,
{
    type Future = Fut;
}
