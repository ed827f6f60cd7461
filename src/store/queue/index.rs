use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use std::collections::HashSet;
pub async fn enqueue(_tx: &mut Tx, _ids: &[Id], _is_delete: bool) -> Result<(), StoreError> {
    Ok(())
}
pub async fn queued_emails(conn: &mut Conn, account: AccountId) -> Result<HashSet<Id>, StoreError> {
    sql("select email_id from index_queue where account_id = $1")
        .bind(account)
        .column(conn)
        .await
        .map(|v: Vec<Id>| v.into_iter().collect())
}
