//! Emails destroyed: every row of theirs, and the blob when nothing else in the account wants it.

use crate::store::blob::{self, BlobSource};
use crate::store::db::sql;
use crate::store::directory::account::use_more;
use crate::store::email::place::{Placement, place, placements};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;
use crate::types::id::Id;

/// Destroys the Emails of these ids, as far as they exist; those that did.
pub async fn delete(tx: &mut Tx, ids: &[Id]) -> Result<Vec<Id>, StoreError> {
    let account = tx.account();
    let found = placements(tx, account, ids).await?;
    let ids: Vec<Id> = found.iter().map(|placed| placed.email_id).collect();
    if ids.is_empty() {
        return Ok(ids);
    }
    let blobs = sql("select id, blob_hash, size from email where account_id = $1 and id = any($2)")
        .bind(account)
        .bind(&ids)
        .all(tx, |row| Ok((row.get::<Id>(0)?, row.get::<BlobHash>(1)?, row.get::<i64>(2)?)))
        .await?;
    let gone: Vec<Placement> =
        found.into_iter().map(|placed| Placement { before: Some(placed), after: None }).collect();
    place(tx, &gone).await?;
    sql("delete from email where account_id = $1 and id = any($2)").bind(account).bind(&ids).run(tx).await?;
    sql("delete from email_structure where account_id = $1 and email_id = any($2)")
        .bind(account)
        .bind(&ids)
        .run(tx)
        .await?;
    let bytes: i64 = blobs.iter().map(|(_, _, size)| size).sum();
    use_more(tx, -bytes, -(blobs.len() as i64)).await?;
    let references: Vec<(BlobHash, Id)> = blobs.into_iter().map(|(id, hash, _)| (hash, id)).collect();
    blob::reference_remove(tx, BlobSource::Email, &references).await?;
    crate::store::queue::index::enqueue(tx, &ids, true).await?;
    Ok(ids)
}

/// Takes at most `limit` Emails out of a mailbox and destroys those that are nowhere else; how many
/// it took out.
pub async fn remove_from_mailbox(tx: &mut Tx, mailbox_id: Id, limit: usize) -> Result<usize, StoreError> {
    let account = tx.account();
    let ids: Vec<Id> = sql("select email_id from membership where account_id = $1 and mailbox_id = $2 \
                            order by received_at, email_id limit $3")
    .bind(account)
    .bind(mailbox_id)
    .bind(limit as i64)
    .column(tx)
    .await?;
    let found = placements(tx, account, &ids).await?;
    let (only_here, elsewhere): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|placed| placed.mailboxes == [mailbox_id]);
    let moves: Vec<Placement> = elsewhere
        .into_iter()
        .map(|before| {
            let mut after = before.clone();
            after.set_mailbox(mailbox_id, false);
            Placement { before: Some(before), after: Some(after) }
        })
        .collect();
    place(tx, &moves).await?;
    delete(tx, &only_here.iter().map(|placed| placed.email_id).collect::<Vec<_>>()).await?;
    Ok(ids.len())
}
