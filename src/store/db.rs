//! The thin query layer: one text for each statement, run by whichever engine the connection is of.
//!
//! Statements are written for PostgreSQL: `$1` placeholders, `= any($2)` for lists. Where the
//! dialects differ, it is put right here and nowhere else. On SQLite every call completes at once;
//! the calls are async because other engines wait.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::types::{ToSql, ToSqlOutput, Value as SqliteValue, ValueRef};

use crate::store::error::StoreError;
use crate::store::value::{Column, Row, Value};

/// Statements that a connection keeps prepared.
const PREPARED_STATEMENTS: usize = 256;

/// A connection of one of the engines, inside a transaction or a snapshot.
pub struct Conn {
    engine: Engine,
    /// The first failure since the transaction began. It is what the transaction answers in the
    /// end, even when the unit of work swallowed it.
    failed: Option<StoreError>,
}

enum Engine {
    Sqlite(Sqlite),
}

struct Sqlite {
    connection: rusqlite::Connection,
    /// Statements in SQLite's dialect.
    dialect: HashMap<Cow<'static, str>, Arc<str>>,
}

impl Conn {
    /// Takes over an open SQLite connection.
    pub(super) fn sqlite(connection: rusqlite::Connection) -> Result<Conn, StoreError> {
        rusqlite::vtab::array::load_module(&connection)?;
        // Else SQLite plans a statement anew each time that a value is bound which its plan might
        // depend on: more work than most statements are.
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        Ok(Conn { engine: Engine::Sqlite(Sqlite { connection, dialect: HashMap::new() }), failed: None })
    }

    /// The SQLite connection beneath, for what only the engine's own module does.
    pub(super) fn as_sqlite(&self) -> &rusqlite::Connection {
        let Engine::Sqlite(sqlite) = &self.engine;
        &sqlite.connection
    }

    /// The SQLite connection beneath, for tests that make it fail.
    #[cfg(test)]
    pub(super) fn as_sqlite_mut(&mut self) -> &mut rusqlite::Connection {
        let Engine::Sqlite(sqlite) = &mut self.engine;
        &mut sqlite.connection
    }

    /// Whether the engine has ended the transaction by itself (disk full, I/O error).
    pub(super) fn has_lost_transaction(&self) -> bool {
        self.as_sqlite().is_autocommit()
    }

    /// Runs a statement without values or result, such as `begin`.
    pub(super) fn control(&mut self, text: &'static str) -> Result<(), StoreError> {
        Ok(self.as_sqlite().prepare_cached(text)?.raw_execute().map(drop)?)
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

    fn guarded<T>(&mut self, run: impl FnOnce(&mut Conn) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // PostgreSQL refuses statements after a failed one; so does SQLite here.
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        run(self).inspect_err(|error| self.fail(error))
    }
}

/// A statement with its values.
#[must_use]
pub struct Query {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

/// Starts a statement.
pub fn sql(text: impl Into<Cow<'static, str>>) -> Query {
    Query { text: text.into(), values: Vec::new() }
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

    /// Runs a statement that answers no rows; the number of rows it touched.
    pub async fn run(self, conn: &mut Conn) -> Result<u64, StoreError> {
        conn.guarded(|conn| {
            let Engine::Sqlite(sqlite) = &mut conn.engine;
            let text = sqlite_text(&mut sqlite.dialect, self.text);
            let mut statement = sqlite.connection.prepare_cached(&text)?;
            bind_sqlite(&mut statement, &self.values)?;
            Ok(statement.raw_execute()? as u64)
        })
    }

    /// Runs the statement once for each list of values: a batch insert or update.
    pub async fn run_each(self, conn: &mut Conn, rows: Vec<Vec<Value>>) -> Result<u64, StoreError> {
        conn.guarded(|conn| {
            if rows.is_empty() {
                return Ok(0);
            }
            let Engine::Sqlite(sqlite) = &mut conn.engine;
            let text = sqlite_text(&mut sqlite.dialect, self.text);
            let mut statement = sqlite.connection.prepare_cached(&text)?;
            let mut touched = 0;
            for row in &rows {
                bind_sqlite(&mut statement, row)?;
                touched += statement.raw_execute()? as u64;
            }
            Ok(touched)
        })
    }

    /// All rows of the answer, each read by `read`.
    pub async fn all<T>(
        self,
        conn: &mut Conn,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
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
    pub async fn first<T>(
        self,
        conn: &mut Conn,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
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
    pub async fn column<T: Column>(self, conn: &mut Conn) -> Result<Vec<T>, StoreError> {
        self.all(conn, |row| row.get(0)).await
    }

    /// The first column of the first row.
    pub async fn value<T: Column>(self, conn: &mut Conn) -> Result<Option<T>, StoreError> {
        self.first(conn, |row| row.get(0)).await
    }

    /// Hands each row to `visit` until it answers false.
    pub async fn each(
        self,
        conn: &mut Conn,
        mut visit: impl FnMut(&Row<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        conn.guarded(|conn| {
            let Engine::Sqlite(sqlite) = &mut conn.engine;
            let text = sqlite_text(&mut sqlite.dialect, self.text);
            let mut statement = sqlite.connection.prepare_cached(&text)?;
            bind_sqlite(&mut statement, &self.values)?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                if !visit(&Row::Sqlite(row))? {
                    break;
                }
            }
            drop(rows);
            #[cfg(test)]
            crate::store::plan::record_work(&statement);
            Ok(())
        })
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let list = |values: Vec<SqliteValue>| ToSqlOutput::from_rc(Rc::new(values), c"rarray");
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Int(value) => ToSqlOutput::Borrowed(ValueRef::Integer(*value)),
            Value::Text(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
            Value::Blob(value) => ToSqlOutput::Borrowed(ValueRef::Blob(value)),
            Value::Ints(values) => list(values.iter().map(|value| SqliteValue::Integer(*value)).collect()),
            Value::Texts(values) => {
                list(values.iter().map(|value| SqliteValue::Text(value.clone())).collect())
            }
            Value::Blobs(values) => {
                list(values.iter().map(|value| SqliteValue::Blob(value.to_vec())).collect())
            }
        })
    }
}

fn bind_sqlite(statement: &mut rusqlite::Statement<'_>, values: &[Value]) -> Result<(), StoreError> {
    for (place, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, value)?;
    }
    Ok(())
}

/// The statement in SQLite's dialect, worked out once for each connection and text.
fn sqlite_text(known: &mut HashMap<Cow<'static, str>, Arc<str>>, text: Cow<'static, str>) -> Arc<str> {
    #[cfg(test)]
    crate::store::plan::record(&text);
    if let Some(translated) = known.get(&text) {
        return translated.clone();
    }
    let translated: Arc<str> = to_sqlite(&text).into();
    // Texts made at run time (filters) could be without number; those of the program are not.
    if matches!(text, Cow::Borrowed(_)) {
        known.insert(text, translated.clone());
    }
    translated
}

/// Translates: `$n` is `?n` (SQLite numbers `$n` by order of appearance), a list is a table-valued
/// parameter, and row locks are not needed where there is one writer.
pub(super) fn to_sqlite(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.find(['$', '=', 'f']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(list) = rest.strip_prefix("= any($") {
            let number: String = list.chars().take_while(char::is_ascii_digit).collect();
            out.push_str("in (select value from rarray(?");
            out.push_str(&number);
            out.push_str("))");
            rest = list[number.len()..].strip_prefix(')').unwrap_or_default();
        } else if let Some(after) = rest.strip_prefix("for update skip locked") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix('$') {
            out.push('?');
            rest = after;
        } else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_of_sqlite() {
        assert_eq!(
            to_sqlite("select a from t where b = $1 and c = any($12) for update skip locked"),
            "select a from t where b = ?1 and c in (select value from rarray(?12)) "
        );
    }
}
