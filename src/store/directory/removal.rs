//! The removal of an account: at once nobody reaches it and no mail finds it, then its rows go by
//! the thousand, the account itself last. A removal that was cut short is run again from the start.
//!
//! Mail of the account that still waits to be sent is not sent. Its blobs are collected by the sweep
//! once nothing refers to them; its documents leave the index through the index queue.

use crate::bus::Event;
use crate::store::Store;
use crate::store::db::{Query, sql};
use crate::store::directory::{DirectoryError, account, domain, login};
use crate::store::error::StoreError;
use crate::store::event::log::{self, View};
use crate::store::event::webhook;
use crate::store::queue::index;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};

/// Rows that one transaction removes from a table.
const BATCH: usize = 1_000;

/// The tables of which an account may have any number of rows.
const LARGE_TABLES: usize = 19;
/// Those of them, the first ones, whose rows are in the lane of the account.
const OF_LANES: usize = 2;

/// Removes an account, the login that owns it, and all that it has.
pub async fn remove(store: &Store, account: AccountId) -> Result<(), DirectoryError> {
    let name = account::names(&mut *store.read().await?, &[account]).await?.remove(&account);
    store.write(account, close).await?;
    loop {
        for table in 0..LARGE_TABLES {
            while store.write_in_background(account, async move |tx: &mut Tx| batch(tx, table).await).await?
                == BATCH as u64
            {}
        }
        // Once before the account goes, so that a removal that is cut short forgets them in its second run,
        // and once after it: then nothing more is logged.
        forget_events(store, account, name.as_deref()).await?;
        if store.write(account, finish).await? {
            break;
        }
    }
    Ok(forget_events(store, account, name.as_deref()).await?)
}

/// Removes the account from the log of its domain, and its webhooks.
async fn forget_events(store: &Store, account: AccountId, name: Option<&str>) -> Result<(), StoreError> {
    let Some((_, domain)) = name.and_then(|name| name.rsplit_once('@')) else { return Ok(()) };
    let domain = domain.to_owned();
    webhook::delete_of(store, View { domain: domain.clone(), account: Some(account) }).await?;
    while log::forget_account(store, domain.clone(), account).await? {}
    Ok(())
}

/// Lets nobody in any more: no address leads here, no login reaches it.
async fn close(tx: &mut Tx) -> Result<(), StoreError> {
    let account = tx.account();
    sql("update account set removed_at = $2 where id = $1").bind(account).bind(tx.now_ms()).run(tx).await?;
    sql("delete from address where account_id = $1").bind(account).everywhere().run(tx).await?;
    let reached_by = sql("select login_id, is_personal from access where account_id = $1")
        .bind(account)
        .everywhere()
        .all(tx, |row| Ok((row.get::<Id>(0)?, row.get::<bool>(1)?)))
        .await?;
    sql("delete from access where account_id = $1").bind(account).everywhere().run(tx).await?;
    let (mut owners, mut guests) = (Vec::new(), Vec::new());
    for (login, is_personal) in reached_by {
        if is_personal { owners.push(login) } else { guests.push(login) }
    }
    for login in guests {
        tx.publish_after_commit(Event::LoginChanged { login });
    }
    login::delete(tx, &owners).await?;
    domain::relieve(tx, account).await
}

/// Removes a batch of rows of one of the large tables; how many.
async fn batch(tx: &mut Tx, table: usize) -> Result<u64, StoreError> {
    let Some(query) = delete_from(table) else { return Ok(0) };
    let query = query.bind(tx.account()).bind(BATCH as i64);
    let query = if table < OF_LANES { query.bind(tx.lane()) } else { query };
    query.run(tx).await
}

fn delete_from(table: usize) -> Option<Query> {
    Some(match table {
        0 => sql("delete from outgoing where lane = $3 and account_id = $1 and id in \
                  (select id from outgoing where lane = $3 and account_id = $1 limit $2)"),
        1 => sql("delete from event_outbox where lane = $3 and account_id = $1 and (modseq, n) in \
                  (select modseq, n from event_outbox where lane = $3 and account_id = $1 limit $2)"),
        2 => sql("delete from membership where account_id = $1 and (mailbox_id, received_at, email_id) in \
                  (select mailbox_id, received_at, email_id from membership where account_id = $1 limit $2)"),
        3 => sql("delete from keyword where account_id = $1 and (keyword, received_at, email_id) in \
                  (select keyword, received_at, email_id from keyword where account_id = $1 limit $2)"),
        4 => sql("delete from email_structure where account_id = $1 and email_id in \
                  (select email_id from email_structure where account_id = $1 limit $2)"),
        5 => sql("delete from email where account_id = $1 and id in \
                  (select id from email where account_id = $1 limit $2)"),
        6 => sql("delete from thread_mailbox where account_id = $1 and (thread_id, mailbox_id) in \
                  (select thread_id, mailbox_id from thread_mailbox where account_id = $1 limit $2)"),
        7 => sql("delete from thread_key where account_id = $1 and (message_id_hash, subject_hash) in \
                  (select message_id_hash, subject_hash from thread_key where account_id = $1 limit $2)"),
        8 => sql("delete from blob_reference where account_id = $1 and (hash, source, object_id) in \
                  (select hash, source, object_id from blob_reference where account_id = $1 limit $2)"),
        9 => sql("delete from inline_blob where account_id = $1 and hash in \
                  (select hash from inline_blob where account_id = $1 limit $2)"),
        10 => sql("delete from change where account_id = $1 and (type, modseq, object_id) in \
                  (select type, modseq, object_id from change where account_id = $1 limit $2)"),
        11 => sql("delete from delivered where account_id = $1 and delivery_id in \
                   (select delivery_id from delivered where account_id = $1 limit $2)"),
        12 => sql("delete from submission where account_id = $1 and id in \
                   (select id from submission where account_id = $1 limit $2)"),
        13 => sql("delete from vacation_sent where account_id = $1 and address in \
                   (select address from vacation_sent where account_id = $1 limit $2)"),
        14 => sql("delete from mailbox_subscription where account_id = $1 and (mailbox_id, login_id) in \
                   (select mailbox_id, login_id from mailbox_subscription where account_id = $1 limit $2)"),
        15 => sql("delete from send_note where account_id = $1 and submission_id in \
                   (select submission_id from send_note where account_id = $1 limit $2)"),
        16 => sql("delete from idempotency where account_id = $1 and idempotency_key in \
                   (select idempotency_key from idempotency where account_id = $1 limit $2)"),
        17 => sql("delete from suppression where account_id = $1 and address in \
                   (select address from suppression where account_id = $1 limit $2)"),
        18 => sql("delete from template where account_id = $1 and name in \
                   (select name from template where account_id = $1 limit $2)"),
        _ => return None,
    })
}

/// Removes what is left, and the account; false when meanwhile more has come than one batch.
async fn finish(tx: &mut Tx) -> Result<bool, StoreError> {
    for table in 0..LARGE_TABLES {
        if batch(tx, table).await? == BATCH as u64 {
            return Ok(false);
        }
    }
    let account = tx.account();
    sql("delete from mailbox where account_id = $1").bind(account).run(tx).await?;
    sql("delete from trash_recount where account_id = $1").bind(account).run(tx).await?;
    sql("delete from identity where account_id = $1").bind(account).run(tx).await?;
    sql("delete from vacation where account_id = $1").bind(account).run(tx).await?;
    sql("delete from type_state where account_id = $1").bind(account).run(tx).await?;
    sql("delete from change_day where account_id = $1").bind(account).run(tx).await?;
    sql("delete from push_interest where account_id = $1").bind(account).run(tx).await?;
    let lane = tx.lane();
    sql("delete from push_queue where lane = $1 and account_id = $2")
        .bind(lane)
        .bind(account)
        .run(tx)
        .await?;
    index::enqueue_account_removal(tx).await?;
    sql("delete from account where id = $1").bind(account).run(tx).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Queue;
    use crate::store::directory::address;
    use crate::store::directory::fixture::Fixture;
    use crate::store::directory::{access, account};
    use crate::store::mailbox;
    use crate::types::address::Address;

    /// The tables with rows of this account.
    async fn tables_with_rows(fixture: &Fixture, account: AccountId) -> Vec<String> {
        let mut snapshot = fixture.store.read().await.unwrap();
        let tables = sql(if fixture.store.is_postgres() {
            // Marks of commits go by their age.
            "select table_name from information_schema.columns where table_schema = 'public' \
             and column_name = 'account_id' and table_name <> 'commit_mark'"
        } else {
            "select m.name from sqlite_schema m join pragma_table_info(m.name) c \
             where m.type = 'table' and c.name = 'account_id'"
        })
        .column::<String>(&mut snapshot)
        .await
        .unwrap();
        assert!(tables.len() >= 20, "{tables:?}");
        let mut found = Vec::new();
        for table in tables {
            let text = format!("select count(*) from {table} where account_id = $1");
            if sql(text).bind(account).value::<i64>(&mut snapshot).await.unwrap() != Some(0) {
                found.push(table);
            }
        }
        found
    }

    #[tokio::test]
    async fn nothing_is_left_but_the_order_to_the_index() {
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let alice = fixture.account("alice@example.test").await;
        let bob = fixture.account("bob@example.test").await;
        access::grant(store, bob.login, alice.account, false).await.unwrap();
        store
            .write(alice.account, async move |tx: &mut Tx| {
                let rows = (1..=2_500_i64)
                    .map(|number| vec![tx.account().into(), number.to_string().into()])
                    .collect();
                sql("insert into delivered (account_id, delivery_id, filed_at) values ($1, $2, 0)")
                    .run_each(tx, rows)
                    .await?;
                sql("insert into membership (account_id, mailbox_id, received_at, email_id, thread_id, flags) \
                     values ($1, 1, 2, 3, 4, 0)")
                .bind(tx.account())
                .run(tx)
                .await?;
                mailbox::subscribe(tx, bob.login, Id(1), true).await?;
                index::enqueue(tx, &[Id(3)], false).await
            })
            .await
            .unwrap();
        let bobs = tables_with_rows(&fixture, bob.account).await;
        let mut events = store.bus().subscribe();
        remove(store, alice.account).await.unwrap();
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.push(event);
        }
        for login in [alice.login, bob.login] {
            assert!(told.contains(&Event::LoginChanged { login }));
        }
        assert_eq!(tables_with_rows(&fixture, alice.account).await, ["index_queue"]);
        assert_eq!(tables_with_rows(&fixture, bob.account).await, bobs, "a neighbour keeps all");
        let mut snapshot = store.read().await.unwrap();
        assert_eq!(account::usage(&mut snapshot, alice.account).await.unwrap(), None);
        let address = Address::parse("alice@example.test").unwrap();
        let resolved = address::resolve(&mut snapshot, &address).await.unwrap();
        assert_eq!(resolved, address::Resolved::UnknownUser);
        assert!(login::by_id(&mut snapshot, alice.login).await.unwrap().is_none());
        assert_eq!(access::accounts_of_login(&mut snapshot, bob.login).await.unwrap().len(), 1);
        drop(snapshot);
        assert!(told.iter().any(|event| matches!(event, Event::Queued { queue: Queue::Index, .. })));
        assert!(matches!(remove(store, alice.account).await, Err(DirectoryError::NoSuchAccount)));
        fixture.account("alice@example.test").await;
    }
}
