//! The migration runner: statements one at a time, the version with the last of each step.
//!
//! SQLite is migrated when it is opened. PostgreSQL is migrated by the operator (`postrider migrate`),
//! since other programs may be running on it: a step first only adds, so that the release before it
//! still runs, and takes away one release later.

use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::store::postgres::PostgresEngine;
use crate::store::postgres::distribute::distribute;
use crate::store::postgres::statement::PostgresConn;

/// A step of the schema: its number, the oldest program that may run on the result, its statements.
struct Migration {
    version: i64,
    oldest_program: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

/// The version of the schema that this program writes. A schema whose `oldest_program` is larger
/// than this was made by a program that this one must not share a database with.
const PROGRAM: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

const MIGRATIONS: [Migration; 5] = [
    Migration {
        version: 1,
        oldest_program: 1,
        sqlite: include_str!("../../migrations/sqlite/0001_initial.sql"),
        postgres: include_str!("../../migrations/postgres/0001_initial.sql"),
    },
    // Logins are found by their names elsewhere: an older program would not write them there.
    Migration {
        version: 2,
        oldest_program: 2,
        sqlite: include_str!("../../migrations/sqlite/0002_directory.sql"),
        postgres: include_str!("../../migrations/postgres/0002_directory.sql"),
    },
    // An older program orders no pushes: devices hear of its changes with the next one.
    Migration {
        version: 3,
        oldest_program: 2,
        sqlite: include_str!("../../migrations/sqlite/0003_web_push.sql"),
        postgres: include_str!("../../migrations/postgres/0003_web_push.sql"),
    },
    // An older program would take a key for reading for one that is good for everything.
    Migration {
        version: 4,
        oldest_program: 4,
        sqlite: include_str!("../../migrations/sqlite/0004_integrators.sql"),
        postgres: include_str!("../../migrations/postgres/0004_integrators.sql"),
    },
    // What an older program does to mail is missing from the logs of events.
    Migration {
        version: 5,
        oldest_program: 4,
        sqlite: include_str!("../../migrations/sqlite/0005_programs.sql"),
        postgres: include_str!("../../migrations/postgres/0005_programs.sql"),
    },
];

/// A table of the newest schema, the same on every engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, in order.
    pub columns: Vec<TableColumn>,
    /// The columns of its primary key, by their places.
    pub key: Vec<usize>,
}

/// A column of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableColumn {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: ColumnKind,
}

/// What the values of a column are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnKind {
    /// Numbers and truth values.
    Integer,
    /// Texts.
    Text,
    /// Bytes.
    Blob,
}

/// The tables that hold what a server knows, as the migrations make them.
pub fn tables() -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for statement in MIGRATIONS.iter().flat_map(|migration| statements(migration.sqlite)) {
        if let Some(table) = table_of(statement) {
            tables.push(table);
        } else if let Some((name, column)) = added_column(statement)
            && let Some(table) = tables.iter_mut().find(|table| table.name == name)
        {
            table.columns.push(column);
        }
    }
    tables
}

fn added_column(statement: &'static str) -> Option<(&'static str, TableColumn)> {
    let begin = statement.find("alter table ")?;
    let (table, column) = statement[begin + "alter table ".len()..].split_once(" add column ")?;
    Some((table, column_of(column)?))
}

/// A column, of its line in a statement.
fn column_of(line: &'static str) -> Option<TableColumn> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let kind = match words.next()? {
        "integer" => ColumnKind::Integer,
        "text" => ColumnKind::Text,
        "blob" => ColumnKind::Blob,
        _ => return None,
    };
    Some(TableColumn { name, kind })
}

fn table_of(statement: &'static str) -> Option<Table> {
    let begin = statement.find("create table ")?;
    let (name, body) = statement[begin + "create table ".len()..].split_once(" (")?;
    let mut table = Table { name, columns: Vec::new(), key: Vec::new() };
    for line in body.lines().map(|line| line.trim().trim_end_matches(',')) {
        let place_of =
            |table: &Table, name: &str| table.columns.iter().position(|column| column.name == name);
        if let Some(key) = line.strip_prefix("primary key (") {
            let names = key.trim_end_matches(')').split(", ");
            table.key = names.filter_map(|name| place_of(&table, name)).collect();
            continue;
        }
        let Some(column) = column_of(line) else { continue };
        if line.contains("primary key") {
            table.key = vec![table.columns.len()];
        }
        table.columns.push(column);
    }
    Some(table)
}

/// Held by whoever migrates a PostgreSQL database, so that several do it one after the other.
const ADVISORY_LOCK: i64 = 7_016_532_174_005_115;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    version: i64,
    oldest_program: i64,
}

impl Version {
    /// Refuses a schema that a newer program has made its own.
    fn check(self) -> Result<(), StoreError> {
        if self.oldest_program <= PROGRAM {
            return Ok(());
        }
        Err(StoreError::Engine(
            format!(
                "the database has schema version {}, which needs a newer program than this one; \
                 install the release that made it, or restore a backup from before the upgrade",
                self.version
            )
            .into(),
        ))
    }

    fn missing(self) -> impl Iterator<Item = &'static Migration> {
        MIGRATIONS.iter().filter(move |migration| migration.version > self.version)
    }
}

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
    let found = connection.query_row(
        "select coalesce(max(version), 0), coalesce(max(oldest_program), 0) from schema_version",
        [],
        |row| Ok(Version { version: row.get(0)?, oldest_program: row.get(1)? }),
    )?;
    found.check()?;
    for migration in found.missing() {
        connection.execute_batch(migration.sqlite)?;
        connection.execute(
            "insert into schema_version (version, oldest_program) values (?1, ?2)",
            [migration.version, migration.oldest_program],
        )?;
        tracing::info!(version = migration.version, "schema migrated");
    }
    Ok(())
}

/// What a migration of PostgreSQL has done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Migrated {
    /// Versions of the schema that were added.
    pub versions: Vec<i64>,
    /// Tables that were distributed over a Citus cluster.
    pub distributed: Vec<&'static str>,
}

/// Brings the schema of a PostgreSQL database up to this program, and distributes it over the nodes
/// where there is Citus.
pub async fn migrate_postgres(engine: &PostgresEngine) -> Result<Migrated, StoreError> {
    let mut postgres = engine.connection().await?;
    // The lock goes with the session: another node that migrates meanwhile waits for the end.
    let lock =
        format!("set lock_timeout = 0; set statement_timeout = 0; select pg_advisory_lock({ADVISORY_LOCK})");
    postgres.control(&lock).await?;
    let outcome = async {
        let versions = migrate_locked(&mut postgres).await?;
        let distributed = distribute(engine, &mut postgres).await?;
        Ok(Migrated { versions, distributed })
    };
    let outcome = outcome.await;
    // This session has other settings than the next user of the connection wants.
    postgres.discard();
    outcome
}

async fn migrate_locked(postgres: &mut PostgresConn) -> Result<Vec<i64>, StoreError> {
    postgres
        .control(
            "create table if not exists schema_version \
             (version bigint not null primary key, oldest_program bigint not null)",
        )
        .await?;
    let found = version_of(postgres).await?;
    found.check()?;
    let mut added = Vec::new();
    for migration in found.missing() {
        // One transaction: a step is whole or not there.
        postgres.control("begin").await?;
        if let Err(error) = migrate_step(postgres, migration).await {
            let _ = postgres.control("rollback").await;
            return Err(error);
        }
        postgres.control("commit").await?;
        added.push(migration.version);
    }
    Ok(added)
}

async fn migrate_step(postgres: &mut PostgresConn, migration: &Migration) -> Result<(), StoreError> {
    // Sharded databases take one such statement at a time.
    for statement in statements(migration.postgres) {
        postgres.control(statement).await?;
    }
    let Migration { version, oldest_program, .. } = migration;
    postgres
        .control(&format!(
            "insert into schema_version (version, oldest_program) values ({version}, {oldest_program})"
        ))
        .await
}

async fn version_of(postgres: &mut PostgresConn) -> Result<Version, StoreError> {
    let text = "select coalesce(max(version), 0), coalesce(max(oldest_program), 0) from schema_version";
    match postgres.simple(text).await?.first().map(Vec::as_slice) {
        Some([version, oldest_program]) => Ok(Version { version: *version, oldest_program: *oldest_program }),
        _ => Err(StoreError::corrupt_value("schema_version", &"two numbers are wanted")),
    }
}

/// Says why this program must not run on a PostgreSQL database, if so.
pub async fn check_postgres(engine: &PostgresEngine) -> Result<(), StoreError> {
    let mut postgres = engine.connection().await?;
    let migrate = "run `postrider migrate` first";
    let tables = postgres.simple("select count(*) from pg_tables where tablename = 'schema_version'").await?;
    if tables.first().and_then(|row| row.first()) == Some(&0) {
        return Err(StoreError::Engine(format!("the database has no schema yet: {migrate}").into()));
    }
    let found = version_of(&mut postgres).await?;
    found.check()?;
    if found.missing().next().is_some() {
        let version = found.version;
        return Err(StoreError::Engine(
            format!("the database has the older schema version {version}: {migrate}").into(),
        ));
    }
    Ok(())
}

/// The statements of a migration; each ends with a semicolon at the end of a line.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    let is_statement = |part: &&str| part.lines().any(|line| !line.is_empty() && !line.starts_with("--"));
    text.split_inclusive(";\n").map(str::trim).filter(is_statement)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Tables that PostgreSQL alone has: SQLite always hears what became of a commit.
    const POSTGRES_ONLY: [&str; 1] = ["commit_mark"];

    /// The tables of a schema with their columns: name, type, and what else is said of each. Indexes
    /// with their tables and columns.
    fn shape(text: &str) -> BTreeMap<String, Vec<String>> {
        let mut shape = BTreeMap::new();
        for statement in statements(text) {
            let statement: String = statement
                .lines()
                .filter(|line| !line.trim_start().starts_with("--"))
                .collect::<Vec<_>>()
                .join("\n");
            let words: Vec<&str> = statement.split([' ', '\n']).collect();
            match words.as_slice() {
                ["create", "table", name, ..] => {
                    let lines = statement.lines().skip(1).filter(|line| line.starts_with("  "));
                    let column = |line: &str| {
                        let line = line.trim().trim_end_matches(',');
                        let line = line.split(" include ").next().unwrap_or_default();
                        line.replace("bigint", "integer")
                            .replace("bytea", "blob")
                            .replace(" collate \"C\"", "")
                    };
                    shape.insert(format!("table {name}"), lines.map(column).collect());
                }
                ["create", "index", name, ..] | ["create", "unique", "index", name, ..] => {
                    // What one engine includes, the other has among the columns.
                    let columns = statement.replace("include (", "").replace([')', ';', ',', '\n', '('], " ");
                    let columns = columns.split_whitespace().map(str::to_owned).collect();
                    shape.insert(format!("index {name}"), columns);
                }
                _ => {}
            }
        }
        shape
    }

    #[test]
    fn tables_are_those_that_the_migrations_make() {
        let folder = tempfile::tempdir().unwrap();
        let mut conn =
            crate::store::sqlite::open(&folder.path().join("t.db"), crate::store::sqlite::Access::Write)
                .unwrap();
        migrate_sqlite(&mut conn).unwrap();
        let connection = conn.as_sqlite();
        let mut names = connection.prepare("select name from sqlite_schema where type = 'table'").unwrap();
        let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut made: Vec<String> =
            names.map(Result::unwrap).filter(|name| name != "schema_version").collect();
        made.sort();
        let mut known: Vec<&str> = tables().iter().map(|table| table.name).collect();
        known.sort_unstable();
        assert_eq!(made, known);
        for table in tables() {
            let text = format!("select name, type, pk from pragma_table_info('{}')", table.name);
            let mut statement = connection.prepare(&text).unwrap();
            let rows = statement.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            });
            let rows: Vec<(String, String, i64)> = rows.unwrap().map(Result::unwrap).collect();
            let ours: Vec<(String, String, i64)> = (0..table.columns.len())
                .map(|place| {
                    let column = table.columns[place];
                    let kind = format!("{:?}", column.kind).to_uppercase();
                    let key = table.key.iter().position(|key| *key == place).map_or(0, |at| at as i64 + 1);
                    (column.name.to_owned(), kind, key)
                })
                .collect();
            assert_eq!(rows, ours, "{}", table.name);
        }
    }

    #[test]
    fn both_engines_have_the_same_schema() {
        for migration in &MIGRATIONS {
            let sqlite = shape(migration.sqlite);
            let mut postgres = shape(migration.postgres);
            postgres.retain(|name, _| !POSTGRES_ONLY.iter().any(|only| name.contains(only)));
            assert_eq!(sqlite.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
            for (name, columns) in sqlite {
                let mut theirs = postgres[&name].clone();
                let mut ours = columns;
                if name.starts_with("index") {
                    theirs.sort();
                    ours.sort();
                }
                assert_eq!(ours, theirs, "{name}");
            }
        }
    }
}
