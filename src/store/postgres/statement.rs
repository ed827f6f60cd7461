//! Statements on a PostgreSQL connection: each is prepared once for a connection and one round trip.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgDatabaseError, PgSeverity, PgTypeInfo, PgValueFormat, PgValueRef,
    Postgres,
};
use sqlx::{Arguments, AssertSqlSafe, Either, Encode, Executor, Row as _, SqlSafeStr, Type};

use crate::store::dialect::{ListType, to_batch};
use crate::store::error::StoreError;
use crate::store::value::{Row, Value};

/// How long an answer is waited for: somewhat longer than the server lets a statement run
/// (`SESSION`), so that only a server that is gone is given up.
const ANSWER_PATIENCE: Duration = Duration::from_secs(65);
/// Rows of one statement of a batch, at the most.
const BATCH_ROWS: usize = 1_000;

/// A connection on loan from the pool.
pub struct PostgresConn {
    /// `None` once it is broken.
    connection: Option<PoolConnection<Postgres>>,
    /// Whether a statement is on its way.
    in_flight: InFlight,
    sharding: Sharding,
    /// Whether the guard against statements that ask every shard is off for the moment.
    is_lifted: bool,
}

/// What an engine knows of its database's shards.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sharding {
    /// Citus distributes the tables.
    pub is_sharded: bool,
    /// The address asks Citus to refuse statements that ask every shard, as tests do.
    pub is_guarded: bool,
}

/// Whether a statement is on its way: what a unit of work may wait for, and what makes a connection
/// unfit for others when its user leaves meanwhile.
#[derive(Clone, Default)]
pub struct InFlight(Arc<AtomicBool>);

impl InFlight {
    /// Whether it is so.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is_set: bool) {
        self.0.store(is_set, Ordering::Relaxed);
    }
}

impl PostgresConn {
    /// Takes over a connection.
    pub fn new(connection: PoolConnection<Postgres>, sharding: Sharding) -> PostgresConn {
        let in_flight = InFlight::default();
        PostgresConn { connection: Some(connection), in_flight, sharding, is_lifted: false }
    }

    /// Whether the database is sharded.
    pub fn is_sharded(&self) -> bool {
        self.sharding.is_sharded
    }

    /// Tells while somebody else polls.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.clone()
    }

    /// Whether the connection is gone, and with it the transaction.
    pub fn is_broken(&self) -> bool {
        self.connection.is_none()
    }

    /// Runs statements without values, in one round trip.
    pub async fn control(&mut self, text: &str) -> Result<(), StoreError> {
        self.simple(text).await.map(drop)
    }

    /// Runs statements without values, in one round trip; the numbers of the rows that they answer.
    pub async fn simple(&mut self, text: &str) -> Result<Vec<Vec<i64>>, StoreError> {
        let text = AssertSqlSafe(text.to_owned());
        self.guarded(async |connection| {
            let mut rows = Vec::new();
            let mut answers = connection.fetch_many(sqlx::raw_sql(text));
            while let Some(answer) = answers.try_next().await? {
                if let Either::Right(row) = answer {
                    let number = |at| row.try_get_raw(at).map(|value| integer(&value).unwrap_or_default());
                    rows.push((0..row.len()).map(number).collect::<Result<Vec<i64>, _>>()?);
                }
            }
            Ok(rows)
        })
        .await
    }

    /// Runs a statement; the number of rows that it touched.
    pub async fn run(
        &mut self,
        text: Cow<'static, str>,
        values: Vec<Value>,
        is_everywhere: bool,
    ) -> Result<u64, StoreError> {
        self.guard(is_everywhere).await?;
        self.execute(text, arguments(values)?).await
    }

    async fn execute(&mut self, text: Cow<'static, str>, values: PgArguments) -> Result<u64, StoreError> {
        let is_kept = is_kept(&text);
        self.execute_as(text, values, is_kept).await
    }

    async fn execute_as(
        &mut self,
        text: Cow<'static, str>,
        values: PgArguments,
        is_kept: bool,
    ) -> Result<u64, StoreError> {
        let query = sqlx::query_with(safe(text), values).persistent(is_kept);
        self.guarded(async |connection| Ok(connection.execute(query).await?.rows_affected())).await
    }

    /// Runs a statement for each list of values; the number of rows that it touched in all.
    pub async fn run_each(
        &mut self,
        text: Cow<'static, str>,
        rows: Vec<Vec<Value>>,
    ) -> Result<u64, StoreError> {
        self.guard(false).await?;
        let mut touched = 0;
        for rows in by_first_value(rows) {
            for rows in rows.chunks(BATCH_ROWS) {
                touched += match rows {
                    [only] => self.execute(text.clone(), arguments(only.clone())?).await?,
                    _ => {
                        let (columns, values) = columns(rows)?;
                        // Citus sees the one shard of a join only while it knows the values: a plan
                        // that is kept for any value would ask every shard.
                        let is_kept = !self.sharding.is_sharded;
                        self.execute_as(to_batch(&text, &columns).into(), values, is_kept).await?
                    }
                };
            }
        }
        Ok(touched)
    }

    /// Hands each row to `visit` until it answers false.
    pub async fn each(
        &mut self,
        text: Cow<'static, str>,
        values: Vec<Value>,
        is_everywhere: bool,
        visit: &mut (impl FnMut(&Row<'_>) -> Result<bool, StoreError> + Send),
    ) -> Result<(), StoreError> {
        self.guard(is_everywhere).await?;
        let is_kept = is_kept(&text);
        let query = sqlx::query_with(safe(text), arguments(values)?).persistent(is_kept);
        let mut refused = None;
        self.guarded(async |connection| {
            let mut rows = connection.fetch(query);
            while let Some(row) = rows.try_next().await? {
                match visit(&Row::Postgres(&row)) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        })
        .await?;
        refused.map_or(Ok(()), Err)
    }

    /// Lifts the guard against statements that ask every shard for one that may, and sets it again
    /// for the next.
    async fn guard(&mut self, is_everywhere: bool) -> Result<(), StoreError> {
        if !self.sharding.is_guarded || self.is_lifted == is_everywhere {
            return Ok(());
        }
        let level = if is_everywhere { "off" } else { "error" };
        self.control(&format!("set local citus.multi_task_query_log_level = '{level}'")).await?;
        self.is_lifted = is_everywhere;
        Ok(())
    }

    /// Closes the connection instead of giving it back.
    pub fn discard(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }

    /// Runs something on the connection; one that breaks is not used again.
    async fn guarded<T>(
        &mut self,
        run: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let Some(connection) = &mut self.connection else { return Err(StoreError::Disconnected) };
        self.in_flight.set(true);
        let outcome = tokio::time::timeout(ANSWER_PATIENCE, run(connection)).await;
        self.in_flight.set(false);
        let error = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => {
                self.discard();
                return Err(StoreError::Disconnected);
            }
        };
        // What a node says of another one leaves this connection as it is.
        if breaks_connection(&error) {
            self.discard();
        }
        Err(error.into())
    }

    /// Forgets how the guard was set: the setting has been rolled back with a savepoint.
    pub async fn renew_guard(&mut self) -> Result<(), StoreError> {
        self.is_lifted = !self.is_lifted;
        let wanted = !self.is_lifted;
        self.guard(wanted).await
    }
}

impl Drop for PostgresConn {
    fn drop(&mut self) {
        // Whoever left in mid-statement leaves the connection in a state that nobody knows.
        if self.in_flight.is_set()
            && let Some(connection) = self.connection.take()
        {
            drop(connection.detach());
        }
    }
}

/// Texts made at run time (filters) are without number: a connection that kept them would lose those
/// that it needs.
#[allow(clippy::ptr_arg, reason = "whether it is borrowed is the question")]
fn is_kept(text: &Cow<'static, str>) -> bool {
    matches!(text, Cow::Borrowed(_))
}

fn breaks_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database
            .try_downcast_ref::<PgDatabaseError>()
            .is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        _ => false,
    }
}

fn safe(text: Cow<'static, str>) -> sqlx::SqlStr {
    match text {
        Cow::Borrowed(text) => text.into_sql_str(),
        // Put together from literals of the program; values travel beside it.
        Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
    }
}

fn arguments(values: Vec<Value>) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Null => arguments.add(Untyped),
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Blob(value) => arguments.add(&*value),
            Value::Ints(values) => arguments.add(values),
            Value::Texts(values) => arguments.add(values),
            Value::Blobs(values) => {
                arguments.add(values.iter().map(|value| &**value).collect::<Vec<&[u8]>>())
            }
        }
        .map_err(unsendable)?;
    }
    Ok(arguments)
}

/// A null of whatever type the statement wants there.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// The rows of a batch, apart for each account or lane.
fn by_first_value(rows: Vec<Vec<Value>>) -> Vec<Vec<Vec<Value>>> {
    let first = |row: &Vec<Value>| match row.first() {
        Some(Value::Int(value)) => Some(*value),
        _ => None,
    };
    let Some(common) = rows.first().map(first) else { return Vec::new() };
    if rows.iter().all(|row| first(row) == common) {
        return vec![rows];
    }
    let mut groups: BTreeMap<Option<i64>, Vec<Vec<Value>>> = BTreeMap::new();
    for row in rows {
        groups.entry(first(&row)).or_default().push(row);
    }
    groups.into_values().collect()
}

/// The columns of a batch as lists.
fn columns(rows: &[Vec<Value>]) -> Result<(Vec<ListType>, PgArguments), StoreError> {
    let width = rows.first().map_or(0, Vec::len);
    let mut types = Vec::with_capacity(width);
    let mut lists = PgArguments::default();
    for place in 0..width {
        let column = || rows.iter().map(|row| &row[place]);
        let mixed = || StoreError::Engine(format!("column {place} of a batch is of several types").into());
        let first = column().find(|value| **value != Value::Null);
        let (list_type, added) = match (place, first) {
            (0, Some(Value::Int(same))) => (ListType::Same, lists.add(*same)),
            (_, Some(Value::Int(_))) => {
                let numbers = column().map(|value| match value {
                    Value::Int(number) => Ok(Some(*number)),
                    Value::Null => Ok(None),
                    _ => Err(mixed()),
                });
                (ListType::Ints, lists.add(numbers.collect::<Result<Vec<Option<i64>>, _>>()?))
            }
            // Of whatever type the statement wants there.
            (_, None) => (ListType::Same, lists.add(Untyped)),
            (_, Some(Value::Text(_))) => {
                let texts = column().map(|value| match value {
                    Value::Text(text) => Ok(Some(text.as_str())),
                    Value::Null => Ok(None),
                    _ => Err(mixed()),
                });
                (ListType::Texts, lists.add(texts.collect::<Result<Vec<Option<&str>>, _>>()?))
            }
            (_, Some(Value::Blob(_))) => {
                let blobs = column().map(|value| match value {
                    Value::Blob(bytes) => Ok(Some(&**bytes)),
                    Value::Null => Ok(None),
                    _ => Err(mixed()),
                });
                (ListType::Blobs, lists.add(blobs.collect::<Result<Vec<Option<&[u8]>>, _>>()?))
            }
            (_, Some(_)) => return Err(mixed()),
        };
        added.map_err(unsendable)?;
        types.push(list_type);
    }
    Ok((types, lists))
}

fn unsendable(error: BoxDynError) -> StoreError {
    StoreError::Engine(format!("a value cannot be sent: {error}").into())
}

/// An integer of any width, a truth value as 0 or 1; `None` for what is neither.
pub fn integer(value: &PgValueRef<'_>) -> Option<i64> {
    let bytes = value.as_bytes().ok()?;
    match (value.format(), bytes) {
        (PgValueFormat::Text, b"t") => Some(1),
        (PgValueFormat::Text, b"f") => Some(0),
        (PgValueFormat::Text, _) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        (PgValueFormat::Binary, [truth]) => Some(i64::from(*truth)),
        (PgValueFormat::Binary, [_, _]) => Some(i64::from(i16::from_be_bytes(bytes.try_into().ok()?))),
        (PgValueFormat::Binary, [_, _, _, _]) => Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
        (PgValueFormat::Binary, _) => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
    }
}
