//! Stores for tests, in this folder and in those that build on the store.

use std::path::Path;

use crate::bus::Bus;
use crate::store::Store;
use crate::store::db::sql;
use crate::store::mailbox::Viewer;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};

/// Mailboxes as an owner sees them who has said nothing on subscriptions.
pub const OWNER: Viewer = Viewer { login_id: Id(0), is_owner: true };

/// A new store in a folder.
pub fn store_in(folder: &Path, clock: Clock) -> Store {
    Store::open_sqlite(&folder.join("t.db"), Bus::memory(), clock).unwrap()
}

/// A new account, without address, login or mailboxes.
pub async fn bare_account(store: &Store) -> AccountId {
    let id = store.ids().make();
    let unit = async move |tx: &mut Tx| {
        sql("insert into account (id, name, created_at, lane, epoch) values ($1, $2, 0, 0, 1)")
            .bind(id)
            .bind(id.to_string())
            .run(tx)
            .await
    };
    store.write_plain(Urgency::Interactive, unit).await.unwrap();
    AccountId(id)
}

/// From now on the database refuses something, such as `delete on outgoing`.
pub async fn refuse(store: &Store, what: &'static str) {
    let text = format!("create trigger refused before {what} begin select raise(abort, 'refused'); end");
    let unit = async move |tx: &mut Tx| sql(text.clone()).run(tx).await;
    store.write_plain(Urgency::Interactive, unit).await.unwrap();
}
