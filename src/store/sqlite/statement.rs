//! Statements on a SQLite connection: everything completes in place.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::types::{ToSql, ToSqlOutput, Value as SqliteValue, ValueRef};

use crate::store::dialect::to_sqlite;
use crate::store::error::StoreError;
use crate::store::value::{Row, Value};

/// Statements that a connection keeps prepared.
const PREPARED_STATEMENTS: usize = 256;

/// An open connection with what it knows of statements.
pub struct SqliteConn {
    connection: rusqlite::Connection,
    /// Statements in SQLite's dialect.
    dialect: HashMap<Cow<'static, str>, Arc<str>>,
}

impl SqliteConn {
    /// Takes over an open connection.
    pub fn new(connection: rusqlite::Connection) -> Result<SqliteConn, StoreError> {
        rusqlite::vtab::array::load_module(&connection)?;
        // Else SQLite plans a statement anew each time that a value is bound which its plan might
        // depend on: more work than most statements are.
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        Ok(SqliteConn { connection, dialect: HashMap::new() })
    }

    /// The connection beneath.
    pub fn connection(&self) -> &rusqlite::Connection {
        &self.connection
    }

    /// The connection beneath, for tests that make it fail.
    #[cfg(test)]
    pub fn connection_mut(&mut self) -> &mut rusqlite::Connection {
        &mut self.connection
    }

    /// Runs a statement without values or result, such as `begin`.
    pub fn control(&self, text: &str) -> Result<(), StoreError> {
        Ok(self.connection.prepare_cached(text)?.raw_execute().map(drop)?)
    }

    /// Runs a statement; the number of rows that it touched.
    pub fn run(&mut self, text: Cow<'static, str>, values: &[Value]) -> Result<u64, StoreError> {
        let text = self.translate(text);
        let mut statement = self.connection.prepare_cached(&text)?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }

    /// Runs a statement once for each list of values; the number of rows that it touched in all.
    pub fn run_each(&mut self, text: Cow<'static, str>, rows: &[Vec<Value>]) -> Result<u64, StoreError> {
        let text = self.translate(text);
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut touched = 0;
        for row in rows {
            bind(&mut statement, row)?;
            touched += statement.raw_execute()? as u64;
        }
        Ok(touched)
    }

    /// Hands each row to `visit` until it answers false.
    pub fn each(
        &mut self,
        text: Cow<'static, str>,
        values: &[Value],
        visit: &mut impl FnMut(&Row<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let text = self.translate(text);
        let mut statement = self.connection.prepare_cached(&text)?;
        bind(&mut statement, values)?;
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
    }

    /// The statement in SQLite's dialect, worked out once for each connection and text.
    fn translate(&mut self, text: Cow<'static, str>) -> Arc<str> {
        if let Some(translated) = self.dialect.get(&text) {
            return translated.clone();
        }
        let translated: Arc<str> = to_sqlite(&text).into();
        // Texts made at run time (filters) could be without number; those of the program are not.
        if matches!(text, Cow::Borrowed(_)) {
            self.dialect.insert(text, translated.clone());
        }
        translated
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

fn bind(statement: &mut rusqlite::Statement<'_>, values: &[Value]) -> Result<(), StoreError> {
    for (place, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, value)?;
    }
    Ok(())
}
