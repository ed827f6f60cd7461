//! The one error of the store.

use std::fmt;
use std::sync::Arc;

/// Why the store could not do what it was asked. Cheap to clone: one failure of a batch is told to
/// each of its callers.
#[derive(Clone, Debug)]
pub enum StoreError {
    /// The account does not exist (any more).
    NoSuchAccount,
    /// The database is locked or its queue of writers is full: try again.
    Busy,
    /// The disk is full: nothing was written.
    Full,
    /// A unique key is taken already.
    Conflict,
    /// The unit of work waited for something that is not its own statement.
    UnitWaited,
    /// The unit of work panicked; what it wrote is undone.
    UnitPanicked,
    /// The store is shutting down.
    Closed,
    /// The database cannot be reached, or the connection to it broke: nothing was written.
    Disconnected,
    /// The connection broke during a commit, and whether it happened could not be found out.
    Unknown,
    /// The transaction met another one and must run again.
    Conflicting,
    /// A stored value is not what the program wrote: the column or what was being read, and why.
    Corrupt(Arc<str>),
    /// The engine failed otherwise.
    Engine(Arc<str>),
}

impl StoreError {
    /// A column that does not hold what it should.
    pub fn corrupt(column: usize, cause: &dyn fmt::Display) -> StoreError {
        StoreError::Corrupt(format!("column {column}: {cause}").into())
    }

    /// A stored text that does not read back.
    pub fn corrupt_value(what: &str, cause: &dyn fmt::Display) -> StoreError {
        StoreError::Corrupt(format!("{what}: {cause}").into())
    }

    /// Whether the same request may succeed later without anybody mending anything.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            StoreError::Busy
                | StoreError::Full
                | StoreError::Closed
                | StoreError::Disconnected
                | StoreError::Unknown
                | StoreError::Conflicting
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoSuchAccount => f.write_str("the account does not exist"),
            StoreError::Busy => f.write_str("the database is busy; try again"),
            StoreError::Full => f.write_str("the disk that holds the database is full; free some space"),
            StoreError::Conflict => f.write_str("a unique key is taken already"),
            StoreError::UnitWaited => f.write_str("a unit of work waited for something outside the database"),
            StoreError::UnitPanicked => f.write_str("a unit of work panicked and was undone"),
            StoreError::Closed => f.write_str("the store is shutting down"),
            StoreError::Disconnected => f.write_str("the database cannot be reached; try again"),
            StoreError::Unknown => {
                f.write_str("the connection to the database broke during a commit: look whether it was made")
            }
            StoreError::Conflicting => f.write_str("another transaction was in the way; try again"),
            StoreError::Corrupt(what) => write!(f, "the database holds a value that cannot be read: {what}"),
            StoreError::Engine(cause) => write!(f, "the database failed: {cause}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::ConstraintViolation) => StoreError::Conflict,
            _ => StoreError::Engine(error.to_string().into()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match &error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // Serialization failure, deadlock.
                Some("40001" | "40P01") => StoreError::Conflicting,
                Some("23505") => StoreError::Conflict,
                // Lock time-out, statement time-out, too many connections.
                Some("55P03" | "57014" | "53300") => StoreError::Busy,
                Some("53100" | "53200") => StoreError::Full,
                // Shut down, crashed, starting up, gone; a standby; idle for too long; what Citus says of a
                // node that is lost; broken connections and broken disks.
                Some("57P01" | "57P02" | "57P03" | "57P05" | "25006" | "25P03" | "XX000") => {
                    StoreError::Disconnected
                }
                Some(code) if code.starts_with("08") || code.starts_with("58") => StoreError::Disconnected,
                code => {
                    StoreError::Engine(format!("{database} (SQLSTATE {})", code.unwrap_or("none")).into())
                }
            },
            sqlx::Error::PoolTimedOut => StoreError::Busy,
            sqlx::Error::PoolClosed => StoreError::Closed,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => StoreError::Disconnected,
            _ => StoreError::Engine(error.to_string().into()),
        }
    }
}
