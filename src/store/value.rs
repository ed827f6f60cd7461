//! Values that travel into statements and out of rows, the same for every engine.

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef as _};

use crate::store::error::StoreError;
use crate::store::postgres::statement::integer;
use crate::types::blob_id::BlobHash;
use crate::types::id::{AccountId, Id};

/// One bound value, or a list for `= any($n)`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL null.
    Null,
    /// Every number and truth value.
    Int(i64),
    /// Text without NUL.
    Text(String),
    /// Bytes.
    Blob(Bytes),
    /// A list of numbers.
    Ints(Vec<i64>),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of byte strings.
    Blobs(Vec<Bytes>),
}

/// PostgreSQL keeps no text with NUL; one that a stranger has sent must not keep anything from being stored.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

macro_rules! value_from {
    ($($from:ty => |$value:ident| $into:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Value { $into }
        })*
    };
}

value_from! {
    i64 => |value| Value::Int(value);
    u32 => |value| Value::Int(i64::from(value));
    bool => |value| Value::Int(i64::from(value));
    Id => |value| Value::Int(value.0);
    AccountId => |value| Value::Int(value.get());
    String => |value| Value::Text(without_nul(value));
    &String => |value| Value::Text(without_nul(value.clone()));
    &str => |value| Value::Text(without_nul(value.to_owned()));
    Bytes => |value| Value::Blob(value);
    BlobHash => |value| Value::Blob(Bytes::copy_from_slice(&value.0));
    Vec<i64> => |value| Value::Ints(value);
    Vec<String> => |value| Value::Texts(value);
    &[Id] => |value| Value::Ints(value.iter().map(|id| id.0).collect());
    &Vec<Id> => |value| Value::from(value.as_slice());
    &[BlobHash] => |value| Value::Blobs(value.iter().map(|hash| Bytes::copy_from_slice(&hash.0)).collect());
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// One row of an answer, valid while it is read.
pub enum Row<'a> {
    /// Of SQLite.
    Sqlite(&'a rusqlite::Row<'a>),
    /// Of PostgreSQL.
    Postgres(&'a PgRow),
}

impl Row<'_> {
    /// The value of a column, counted from 0. A column of another type is a corrupt row.
    pub fn get<T: Column>(&self, column: usize) -> Result<T, StoreError> {
        T::read(self, column)
    }

    /// A text column without copying it.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self {
            Row::Sqlite(row) => {
                row.get_ref(column)?.as_str().map_err(|error| StoreError::corrupt(column, &error))
            }
            Row::Postgres(row) => {
                row.try_get_raw(column)?.as_str().map_err(|error| StoreError::corrupt(column, &error))
            }
        }
    }

    /// A column of bytes without copying it.
    pub fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        match self {
            Row::Sqlite(row) => {
                row.get_ref(column)?.as_blob().map_err(|error| StoreError::corrupt(column, &error))
            }
            Row::Postgres(row) => {
                row.try_get_raw(column)?.as_bytes().map_err(|error| StoreError::corrupt(column, &error))
            }
        }
    }

    fn is_null(&self, column: usize) -> Result<bool, StoreError> {
        Ok(match self {
            Row::Sqlite(row) => row.get_ref(column)? == rusqlite::types::ValueRef::Null,
            Row::Postgres(row) => row.try_get_raw(column)?.is_null(),
        })
    }
}

/// What a column can be read as.
pub trait Column: Sized {
    /// Reads it.
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StoreError>;
}

impl Column for i64 {
    fn read(row: &Row<'_>, column: usize) -> Result<i64, StoreError> {
        match row {
            Row::Sqlite(row) => {
                row.get_ref(column)?.as_i64().map_err(|error| StoreError::corrupt(column, &error))
            }
            Row::Postgres(row) => integer(&row.try_get_raw(column)?)
                .ok_or_else(|| StoreError::corrupt(column, &"a number is wanted")),
        }
    }
}

impl Column for bool {
    fn read(row: &Row<'_>, column: usize) -> Result<bool, StoreError> {
        Ok(i64::read(row, column)? != 0)
    }
}

impl Column for Id {
    fn read(row: &Row<'_>, column: usize) -> Result<Id, StoreError> {
        i64::read(row, column).map(Id)
    }
}

impl Column for AccountId {
    fn read(row: &Row<'_>, column: usize) -> Result<AccountId, StoreError> {
        Id::read(row, column).map(AccountId)
    }
}

impl Column for String {
    fn read(row: &Row<'_>, column: usize) -> Result<String, StoreError> {
        row.text(column).map(str::to_owned)
    }
}

impl Column for Bytes {
    fn read(row: &Row<'_>, column: usize) -> Result<Bytes, StoreError> {
        row.bytes(column).map(Bytes::copy_from_slice)
    }
}

impl Column for BlobHash {
    fn read(row: &Row<'_>, column: usize) -> Result<BlobHash, StoreError> {
        let bytes = row.bytes(column)?;
        bytes.try_into().map(BlobHash).map_err(|error| StoreError::corrupt(column, &error))
    }
}

impl<T: Column> Column for Option<T> {
    fn read(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
        if row.is_null(column)? {
            return Ok(None);
        }
        T::read(row, column).map(Some)
    }
}
