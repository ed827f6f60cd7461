//! The thin query layer: one text for each statement, run by whichever engine the connection is of.
//!
//! Statements are written for PostgreSQL: `$1` placeholders, `= any($2)` for lists. Where the
//! dialects differ, it is put right in `dialect` and nowhere else. On SQLite every call completes at
//! once; on PostgreSQL each is a round trip.

use std::borrow::Cow;

use crate::store::error::StoreError;
use crate::store::postgres::statement::PostgresConn;
use crate::store::sqlite::statement::SqliteConn;
use crate::store::value::{Column, Row, Value};

/// A connection of one of the engines, inside a transaction or a snapshot.
pub struct Conn {
    engine: Engine,
    /// The first failure since the transaction began. It is what the transaction answers in the
    /// end, even when the unit of work swallowed it.
    failed: Option<StoreError>,
}

enum Engine {
    Sqlite(SqliteConn),
    Postgres(PostgresConn),
}

impl Conn {
    /// Takes over an open SQLite connection.
    pub(super) fn sqlite(connection: rusqlite::Connection) -> Result<Conn, StoreError> {
        Ok(Conn { engine: Engine::Sqlite(SqliteConn::new(connection)?), failed: None })
    }

    /// Takes over a PostgreSQL connection.
    pub(super) fn postgres(connection: PostgresConn) -> Conn {
        Conn { engine: Engine::Postgres(connection), failed: None }
    }

    /// The SQLite connection beneath, for what only the engine's own module does.
    ///
    /// # Panics
    /// On a connection of another engine.
    pub(super) fn as_sqlite(&self) -> &rusqlite::Connection {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.connection(),
            Engine::Postgres(_) => unreachable!("only the engine of SQLite asks"),
        }
    }

    /// The SQLite connection beneath, for tests that make it fail.
    #[cfg(test)]
    pub(super) fn as_sqlite_mut(&mut self) -> &mut rusqlite::Connection {
        match &mut self.engine {
            Engine::Sqlite(sqlite) => sqlite.connection_mut(),
            Engine::Postgres(_) => unreachable!("only the engine of SQLite asks"),
        }
    }

    /// The PostgreSQL connection beneath, for what only the engine's own module does.
    pub(super) fn as_postgres(&mut self) -> Option<&mut PostgresConn> {
        match &mut self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(postgres) => Some(postgres),
        }
    }

    /// Whether the database is sharded.
    pub(super) fn is_sharded(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(_) => false,
            Engine::Postgres(postgres) => postgres.is_sharded(),
        }
    }

    /// Whether the engine has ended the transaction by itself: disk full or I/O error on SQLite, a
    /// broken connection to PostgreSQL.
    pub(super) fn has_lost_transaction(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.connection().is_autocommit(),
            Engine::Postgres(postgres) => postgres.is_broken(),
        }
    }

    /// Runs a statement without values or result, such as `begin`.
    pub(super) async fn control(&mut self, text: &'static str) -> Result<(), StoreError> {
        match &mut self.engine {
            Engine::Sqlite(sqlite) => sqlite.control(text),
            Engine::Postgres(postgres) => postgres.control(text).await,
        }
    }

    /// As `control`, on SQLite, where nothing waits.
    pub(super) fn control_sqlite(&mut self, text: &'static str) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.control(text),
            Engine::Postgres(_) => unreachable!("only the engine of SQLite asks"),
        }
    }

    /// The first failure since the last call, which is then forgotten.
    pub(super) fn take_failure(&mut self) -> Option<StoreError> {
        self.failed.take()
    }

    /// The first failure since it was last taken.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failed.clone()
    }

    /// Remembers a failure that the transaction must not survive.
    pub(super) fn fail(&mut self, error: &StoreError) {
        self.failed.get_or_insert_with(|| error.clone());
    }

    /// PostgreSQL refuses statements after a failed one; so does SQLite here.
    fn refuse_after_failure(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

/// A statement with its values.
#[must_use]
pub struct Query {
    text: Cow<'static, str>,
    values: Vec<Value>,
    is_everywhere: bool,
}

/// Starts a statement.
pub fn sql(text: impl Into<Cow<'static, str>>) -> Query {
    Query { text: text.into(), values: Vec::new(), is_everywhere: false }
}

/// Starts a statement that asks every shard: over all accounts, or to find something by what it is not
/// sharded by. On no request's path.
pub fn everywhere_sql(text: impl Into<Cow<'static, str>>) -> Query {
    sql(text).everywhere()
}

impl Query {
    /// Binds the next placeholder.
    pub fn bind(mut self, value: impl Into<Value>) -> Query {
        self.values.push(value.into());
        self
    }

    /// Binds the next placeholders.
    pub fn bind_all(mut self, values: impl IntoIterator<Item = Value>) -> Query {
        self.values.extend(values);
        self
    }

    /// Says that the statement asks every shard of a sharded database. Any other is refused by the
    /// guard under which the tests run there.
    pub fn everywhere(mut self) -> Query {
        self.is_everywhere = true;
        self
    }

    /// Runs a statement that answers no rows; the number of rows it touched.
    pub async fn run(self, conn: &mut Conn) -> Result<u64, StoreError> {
        conn.refuse_after_failure()?;
        note(&self.text);
        let outcome = match &mut conn.engine {
            Engine::Sqlite(sqlite) => sqlite.run(self.text, &self.values),
            Engine::Postgres(postgres) => postgres.run(self.text, self.values, self.is_everywhere).await,
        };
        outcome.inspect_err(|error| conn.fail(error))
    }

    /// Runs the statement once for each list of values: a batch insert, update or delete. The first
    /// value is the account or the lane; no key comes twice. On PostgreSQL it is one statement.
    pub async fn run_each(self, conn: &mut Conn, rows: Vec<Vec<Value>>) -> Result<u64, StoreError> {
        conn.refuse_after_failure()?;
        if rows.is_empty() {
            return Ok(0);
        }
        note(&self.text);
        let outcome = match &mut conn.engine {
            Engine::Sqlite(sqlite) => sqlite.run_each(self.text, &rows),
            Engine::Postgres(postgres) => postgres.run_each(self.text, rows).await,
        };
        outcome.inspect_err(|error| conn.fail(error))
    }

    /// All rows of the answer, each read by `read`.
    pub async fn all<T: Send>(
        self,
        conn: &mut Conn,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError> + Send,
    ) -> Result<Vec<T>, StoreError> {
        let mut out = Vec::new();
        self.each(conn, |row| {
            out.push(read(row)?);
            Ok(true)
        })
        .await?;
        Ok(out)
    }

    /// The first row of the answer.
    pub async fn first<T: Send>(
        self,
        conn: &mut Conn,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError> + Send,
    ) -> Result<Option<T>, StoreError> {
        let mut out = None;
        self.each(conn, |row| {
            out = Some(read(row)?);
            Ok(false)
        })
        .await?;
        Ok(out)
    }

    /// The first column of every row.
    pub async fn column<T: Column + Send>(self, conn: &mut Conn) -> Result<Vec<T>, StoreError> {
        self.all(conn, |row| row.get(0)).await
    }

    /// The first column of the first row.
    pub async fn value<T: Column + Send>(self, conn: &mut Conn) -> Result<Option<T>, StoreError> {
        self.first(conn, |row| row.get(0)).await
    }

    /// Hands each row to `visit` until it answers false.
    pub async fn each(
        self,
        conn: &mut Conn,
        mut visit: impl FnMut(&Row<'_>) -> Result<bool, StoreError> + Send,
    ) -> Result<(), StoreError> {
        conn.refuse_after_failure()?;
        note(&self.text);
        let outcome = match &mut conn.engine {
            Engine::Sqlite(sqlite) => sqlite.each(self.text, &self.values, &mut visit),
            Engine::Postgres(postgres) => {
                postgres.each(self.text, self.values, self.is_everywhere, &mut visit).await
            }
        };
        outcome.inspect_err(|error| conn.fail(error))
    }
}

/// Lets tests hear what is asked.
fn note(text: &str) {
    #[cfg(test)]
    crate::store::plan::record(text);
    #[cfg(not(test))]
    let _ = text;
}
