//! The schema's version: a program runs on what it knows, and says so of what it does not.

use crate::bus::Bus;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::types::clock::Clock;

fn open(folder: &tempfile::TempDir) -> Result<Store, StoreError> {
    Store::open_sqlite(&folder.path().join("t.db"), Bus::memory(), Clock::system())
}

fn execute(folder: &tempfile::TempDir, text: &str) {
    let connection = rusqlite::Connection::open(folder.path().join("t.db")).unwrap();
    connection.execute_batch(text).unwrap();
}

#[tokio::test]
async fn a_second_start_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).unwrap().close().await;
    execute(&folder, "insert into login values (7, 'a', '', 1, 0)");
    open(&folder).unwrap().close().await;
    let connection = rusqlite::Connection::open(folder.path().join("t.db")).unwrap();
    let logins: i64 = connection.query_row("select count(*) from login", [], |row| row.get(0)).unwrap();
    let versions: i64 =
        connection.query_row("select count(*) from schema_version", [], |row| row.get(0)).unwrap();
    assert_eq!((logins, versions), (1, 5));
}

#[tokio::test]
async fn a_schema_that_needs_a_newer_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).unwrap().close().await;
    execute(&folder, "insert into schema_version values (99, 99)");
    let refused = open(&folder).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("newer program"), "{refused:?}");
    execute(&folder, "delete from schema_version where version = 99");
    assert!(open(&folder).is_ok());
}

#[tokio::test]
async fn a_newer_schema_on_which_this_program_may_run_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).unwrap().close().await;
    execute(&folder, "insert into schema_version values (98, 1)");
    assert!(open(&folder).is_ok());
}

#[tokio::test]
async fn a_migration_that_breaks_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // A table of somebody else, with a name of ours from the middle of the schema.
    execute(&folder, "create table email (x integer)");
    assert!(open(&folder).is_err());
    let connection = rusqlite::Connection::open(folder.path().join("t.db")).unwrap();
    let tables: i64 = connection
        .query_row(
            "select count(*) from sqlite_master where type = 'table' and name = 'account'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tables, 0);
}
