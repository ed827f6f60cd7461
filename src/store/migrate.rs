//! The migration runner: statements one at a time, the version with the last of each step.

use crate::store::db::Conn;
use crate::store::error::StoreError;

/// A step of the schema: its number, the oldest program that may run on the result, its statements.
struct Migration {
    version: i64,
    oldest_program: i64,
    sqlite: &'static str,
}

/// The version of the schema that this program writes. A schema whose `oldest_program` is larger
/// than this was made by a program that this one must not share a database with.
const PROGRAM: i64 = 1;

const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    oldest_program: 1,
    sqlite: include_str!("../../migrations/sqlite/0001_initial.sql"),
}];

/// Brings the schema of a SQLite database up to this program, or says why it must not run on it.
pub fn migrate_sqlite(conn: &mut Conn) -> Result<(), StoreError> {
    let connection = conn.as_sqlite();
    connection.execute_batch(
        "create table if not exists schema_version \
         (version integer not null primary key, oldest_program integer not null) strict",
    )?;
    connection.execute_batch("begin immediate")?;
    let outcome = migrate_in_transaction(connection);
    connection.execute_batch(if outcome.is_ok() { "commit" } else { "rollback" })?;
    outcome
}

fn migrate_in_transaction(connection: &rusqlite::Connection) -> Result<(), StoreError> {
    let (version, oldest): (i64, i64) = connection.query_row(
        "select coalesce(max(version), 0), coalesce(max(oldest_program), 0) from schema_version",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    if oldest > PROGRAM {
        return Err(StoreError::Engine(
            format!(
                "the database has schema version {version}, which needs a newer program than this one; \
                 install the release that made it, or restore a backup from before the upgrade"
            )
            .into(),
        ));
    }
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > version) {
        connection.execute_batch(migration.sqlite)?;
        connection.execute(
            "insert into schema_version (version, oldest_program) values (?1, ?2)",
            [migration.version, migration.oldest_program],
        )?;
        tracing::info!(version = migration.version, "schema migrated");
    }
    Ok(())
}
