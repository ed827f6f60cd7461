//! The way of all rows from one database to another, of whatever engines: `postrider copy`.
//!
//! Tables are read in the order of their primary keys and written in the same order, a page at a time,
//! so that the greatest key there says how far a copy has come: one that was cut short goes on from
//! there. Rows that the copy itself may have written are written again to the same effect. Numbers of
//! queue lanes are those of the new database; all else stays as it is, ids and states among it, so that
//! clients do not notice.
//!
//! A database that a copy was begun into is marked until all of it is there and compared.

use bytes::Bytes;

use crate::store::Store;
use crate::store::db::{Conn, Query, everywhere_sql, sql};
use crate::store::error::StoreError;
use crate::store::migrate::{ColumnKind, Table, tables};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::{Row, Value};
use crate::types::id::AccountId;

/// Rows of a page, and octets after which it is full.
const PAGE_ROWS: usize = 500;
const PAGE_OCTETS: usize = 8 << 20;
/// The name, among the keys of the server, of the mark that a copy is under way.
const MARK: &str = "copy";
/// Made anew from the rest: the index is filled from the Emails; leases are of processes that are gone.
const LEFT_OUT: [&str; 2] = ["index_queue", "event_lease"];
/// Tables whose keys begin with a lane, which is another one there.
const QUEUES: [&str; 6] =
    ["incoming", "incoming_body", "outgoing", "push_queue", "event_outbox", "webhook_queue"];

/// What is copied, in this order.
pub fn copied_tables() -> Vec<Table> {
    tables().into_iter().filter(|table| !LEFT_OUT.contains(&table.name)).collect()
}

/// How many rows a table has, and a number made of all of them, in whatever order they stand.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Digest {
    /// Rows.
    pub rows: u64,
    sum: u128,
}

/// Marks a database as one that a copy is under way into. Refuses one that holds anything else: a text
/// says why.
pub async fn begin(to: &Store, from: &str) -> Result<Result<(), String>, StoreError> {
    let source = Bytes::copy_from_slice(blake3::hash(from.as_bytes()).as_bytes());
    match mark_of(to).await? {
        Some(mark) if mark == source => return Ok(Ok(())),
        Some(_) => return Ok(Err("a copy from elsewhere was begun into it and did not end".to_owned())),
        None => {}
    }
    for table in ["domain", "account", "login", "blob"] {
        let found = everywhere_sql(format!("select 1 from {table} limit 1"));
        if found.value::<i64>(&mut *to.read().await?).await?.is_some() {
            return Ok(Err("it holds mail already: copy into an empty database".to_owned()));
        }
    }
    let unit = async move |tx: &mut Tx| {
        sql("insert into server_key (name, key) values ($1, $2)")
            .bind(MARK)
            .bind(source.clone())
            .run(tx)
            .await
    };
    to.write_plain(Urgency::Interactive, unit).await?;
    Ok(Ok(()))
}

/// Says that the copy is whole.
pub async fn end(to: &Store) -> Result<(), StoreError> {
    let unit = async |tx: &mut Tx| sql("delete from server_key where name = $1").bind(MARK).run(tx).await;
    to.write_plain(Urgency::Interactive, unit).await.map(drop)
}

/// Whether a copy was begun into this database and has not ended.
pub async fn is_under_way(store: &Store) -> Result<bool, StoreError> {
    Ok(mark_of(store).await?.is_some())
}

async fn mark_of(store: &Store) -> Result<Option<Bytes>, StoreError> {
    sql("select key from server_key where name = $1").bind(MARK).value(&mut *store.read().await?).await
}

/// Rows of a table.
pub async fn count(store: &Store, table: &Table) -> Result<u64, StoreError> {
    let text = format!("select count(*) from {}", table.name);
    let count = everywhere_sql(text).value::<i64>(&mut *store.read().await?).await?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

/// Copies a table; `copied` hears of each page.
pub async fn copy_table(
    from: &Store,
    to: &Store,
    table: &Table,
    mut copied: impl FnMut(u64),
) -> Result<(), StoreError> {
    let mut after = if QUEUES.contains(&table.name) || table.name == "server_key" {
        // What is greatest there says nothing: lanes are others, and keys of a server may be its own.
        None
    } else {
        greatest(to, table).await?
    };
    loop {
        let page = page(from, table, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(table.key.iter().map(|place| last[*place].clone()).collect());
        let count = page.len() as u64;
        write(to, table, page).await?;
        copied(count);
    }
}

/// A digest of a table. Numbers of lanes do not count; `read` hears of each page.
pub async fn digest(store: &Store, table: &Table, mut read: impl FnMut(u64)) -> Result<Digest, StoreError> {
    let (mut digest, mut after) = (Digest::default(), None);
    loop {
        let page = page(store, table, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(digest) };
        after = Some(table.key.iter().map(|place| last[*place].clone()).collect::<Vec<Value>>());
        read(page.len() as u64);
        for row in page {
            if table.name == "server_key" && row.first() == Some(&Value::from(MARK)) {
                continue;
            }
            digest.rows += 1;
            digest.sum = digest.sum.wrapping_add(hash(table, &row));
        }
    }
}

fn hash(table: &Table, row: &[Value]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for (column, value) in table.columns.iter().zip(row) {
        let (kind, octets): (u8, &[u8]) = match value {
            _ if column.name == "lane" => continue,
            Value::Int(number) => (1, &number.to_be_bytes()),
            Value::Text(text) => (2, text.as_bytes()),
            Value::Blob(bytes) => (3, bytes),
            _ => (0, &[]),
        };
        hasher.update(&[kind]).update(&(octets.len() as u64).to_be_bytes()).update(octets);
    }
    let bytes = hasher.finalize();
    bytes.as_bytes().iter().take(16).fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

/// The columns of the key, with commas.
fn key_of(table: &Table) -> String {
    let names: Vec<&str> = table.key.iter().map(|place| table.columns[*place].name).collect();
    names.join(", ")
}

async fn greatest(store: &Store, table: &Table) -> Result<Option<Vec<Value>>, StoreError> {
    let backwards: Vec<String> =
        table.key.iter().map(|place| format!("{} desc", table.columns[*place].name)).collect();
    let text =
        format!("select {} from {} order by {} limit 1", key_of(table), table.name, backwards.join(", "));
    let kinds: Vec<ColumnKind> = table.key.iter().map(|place| table.columns[*place].kind).collect();
    everywhere_sql(text).first(&mut *store.read().await?, |row| values(row, &kinds)).await
}

/// The rows after a key, or the first ones.
async fn page(store: &Store, table: &Table, after: Option<&[Value]>) -> Result<Vec<Vec<Value>>, StoreError> {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let kinds: Vec<ColumnKind> = table.columns.iter().map(|column| column.kind).collect();
    let (columns, key) = (names.join(", "), key_of(table));
    let condition = after.map_or_else(String::new, |after| {
        let places: Vec<String> = (1..=after.len()).map(|number| format!("${number}")).collect();
        format!("where ({key}) > ({}) ", places.join(", "))
    });
    let text = format!("select {columns} from {} {condition}order by {key} limit {PAGE_ROWS}", table.name);
    let query: Query = everywhere_sql(text).bind_all(after.unwrap_or_default().iter().cloned());
    let (mut rows, mut octets) = (Vec::new(), 0);
    let read = |row: &Row<'_>| {
        let row = values(row, &kinds)?;
        octets += row.iter().map(octets_of).sum::<usize>();
        rows.push(row);
        Ok(octets < PAGE_OCTETS)
    };
    query.each(&mut *store.read().await?, read).await?;
    Ok(rows)
}

fn octets_of(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}

fn values(row: &Row<'_>, kinds: &[ColumnKind]) -> Result<Vec<Value>, StoreError> {
    let value = |(place, kind): (usize, &ColumnKind)| {
        Ok(match kind {
            ColumnKind::Integer => row.get::<Option<i64>>(place)?.into(),
            ColumnKind::Text => row.get::<Option<String>>(place)?.into(),
            ColumnKind::Blob => row.get::<Option<Bytes>>(place)?.into(),
        })
    };
    kinds.iter().enumerate().map(value).collect()
}

/// Writes rows, those of an account or a lane together.
async fn write(to: &Store, table: &Table, mut rows: Vec<Vec<Value>>) -> Result<(), StoreError> {
    let lane = table.columns.iter().position(|column| column.name == "lane");
    if let Some(lane) = lane {
        let mut snapshot = to.read().await?;
        for row in &mut rows {
            row[lane] = lane_of(to, &mut snapshot, table, row).await?.into();
        }
    }
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let places: Vec<String> = (1..=names.len()).map(|number| format!("${number}")).collect();
    // Keys that a server has made there already are of no use: those of the old server count.
    let otherwise = match table.name {
        "server_key" => "(name) do update set key = excluded.key",
        _ => "do nothing",
    };
    let (columns, places) = (names.join(", "), places.join(", "));
    let text = format!("insert into {} ({columns}) values ({places}) on conflict {otherwise}", table.name);
    let is_by_number = table.columns.first().is_some_and(|column| column.kind == ColumnKind::Integer);
    let groups: Vec<Vec<Vec<Value>>> = if is_by_number {
        // Rows of one account stand together.
        rows.chunk_by(|one, other| one.first() == other.first()).map(<[_]>::to_vec).collect()
    } else {
        rows.into_iter().map(|row| vec![row]).collect()
    };
    for group in groups.chunks(PAGE_ROWS) {
        let (text, group) = (text.clone(), group.to_vec());
        let unit = async move |tx: &mut Tx| {
            for rows in group.clone() {
                if is_by_number {
                    sql(text.clone()).run_each(tx, rows).await?;
                } else {
                    for row in rows {
                        sql(text.clone()).bind_all(row).run(tx).await?;
                    }
                }
            }
            Ok(())
        };
        to.write_plain(Urgency::Interactive, unit).await?;
    }
    Ok(())
}

/// The lane of a row in the new database: its account's, or one that follows from its id, so that a
/// second run puts it into the same.
async fn lane_of(to: &Store, conn: &mut Conn, table: &Table, row: &[Value]) -> Result<i64, StoreError> {
    let number = |name: &str| {
        let place = table.columns.iter().position(|column| column.name == name)?;
        match row.get(place) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    };
    let account = if table.name == "account" { number("id") } else { number("account_id") };
    // The row of a webhook is in the lane of the webhook.
    match (account, number("webhook_id").or(number("id"))) {
        (Some(account), _) => to.lanes().of_account(conn, AccountId(crate::types::id::Id(account))).await,
        (None, id) => Ok(to.lanes().of_number(id.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;
    use crate::store::testing::{sqlite_in, store_in};
    use crate::types::clock::Clock;

    async fn copy(from: &Store, to: &Store) {
        assert_eq!(begin(to, "here").await.unwrap(), Ok(()));
        for table in copied_tables() {
            copy_table(from, to, &table, |_| ()).await.unwrap();
        }
    }

    async fn assert_same(from: &Store, to: &Store) {
        for table in copied_tables() {
            let (here, there) = (digest(from, &table, |_| ()).await, digest(to, &table, |_| ()).await);
            assert_eq!(here.unwrap(), there.unwrap(), "{}", table.name);
        }
    }

    #[tokio::test]
    async fn everything_is_copied_there_and_back_and_a_second_time_nothing() {
        let fixture = Fixture::new().await;
        for name in ["alice@example.test", "bob@example.test"] {
            fixture.account(name).await;
        }
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        // To the other engine where the tests run over it, and to SQLite in any case.
        let there = store_in(folders[0].path(), Clock::system());
        copy(&fixture.store, &there).await;
        assert_same(&fixture.store, &there).await;
        copy(&fixture.store, &there).await;
        assert_same(&fixture.store, &there).await;
        assert!(is_under_way(&there).await.unwrap());
        end(&there).await.unwrap();
        assert!(!is_under_way(&there).await.unwrap());
        let told = begin(&there, "here").await.unwrap().expect_err("it has mail");
        assert!(told.contains("holds mail already"));
        let back = sqlite_in(folders[1].path(), Clock::system());
        copy(&there, &back).await;
        assert_same(&there, &back).await;
        assert!(begin(&back, "elsewhere").await.unwrap().is_err(), "another copy is under way");
    }
}
