//! What programs say of the messages that they send: tags, and any object of theirs.

use serde_json::{Map, Value};

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};

/// A note beside a submission.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Note {
    /// Short words.
    pub tags: Vec<String>,
    /// Any object.
    pub metadata: Map<String, Value>,
}

/// Writes a note, unless it says nothing.
pub async fn insert(tx: &mut Tx, submission: Id, note: &Note) -> Result<(), StoreError> {
    if *note == Note::default() {
        return Ok(());
    }
    sql("insert into send_note (account_id, submission_id, tags, metadata) values ($1, $2, $3, $4)")
        .bind(tx.account())
        .bind(submission)
        .bind(Value::from(note.tags.clone()).to_string())
        .bind(Value::Object(note.metadata.clone()).to_string())
        .run(tx)
        .await?;
    Ok(())
}

/// The notes of these submissions, as far as they have some.
pub async fn of(conn: &mut Conn, account: AccountId, ids: &[Id]) -> Result<Vec<(Id, Note)>, StoreError> {
    sql("select submission_id, tags, metadata from send_note where account_id = $1 and submission_id = any($2)")
        .bind(account)
        .bind(ids)
        .all(conn, |row| {
            let id: Id = row.get(0)?;
            let corrupt = |error| StoreError::corrupt_value(&format!("note of submission {id}"), &error);
            let tags = serde_json::from_str(row.text(1)?).map_err(corrupt)?;
            let metadata = serde_json::from_str(row.text(2)?).map_err(corrupt)?;
            Ok((id, Note { tags, metadata }))
        })
        .await
}

/// Removes the notes of submissions that go.
pub(super) async fn delete(tx: &mut Tx, ids: &[Id]) -> Result<(), StoreError> {
    sql("delete from send_note where account_id = $1 and submission_id = any($2)")
        .bind(tx.account())
        .bind(ids)
        .run(tx)
        .await?;
    Ok(())
}
