//! Stores for tests, in this folder and in those that build on the store.

pub mod database;

use std::path::Path;

use crate::bus::Bus;
use crate::store::Store;
use crate::store::db::sql;
use crate::store::mailbox::Viewer;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};

/// Mailboxes as an owner sees them who has said nothing on subscriptions.
pub const OWNER: Viewer = Viewer { login_id: Id(0), is_owner: true };

/// The store of a folder, on the engine that the tests are run over.
pub fn store_in(folder: &Path, clock: Clock) -> Store {
    store_with(folder, Bus::memory(), clock)
}

/// A new store over SQLite, for what is special to it, and for tests whose clock runs ahead while a
/// server is waited for.
pub fn sqlite_in(folder: &Path, clock: Clock) -> Store {
    Store::open_sqlite(&folder.join("t.db"), Bus::memory(), clock).unwrap()
}

/// As `store_in`, with a bus: a second one of the same folder is another process.
pub fn store_with(folder: &Path, bus: Bus, clock: Clock) -> Store {
    match database::of_folder(folder) {
        Some(url) => Store::on_postgres(&url, bus, clock).unwrap(),
        None => Store::open_sqlite(&folder.join("t.db"), bus, clock).unwrap(),
    }
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
    let texts = if store.is_postgres() {
        vec![
            "create or replace function refuse() returns trigger language plpgsql \
             as 'begin raise exception ''refused''; end'"
                .to_owned(),
            format!("create trigger refused before {what} for each row execute function refuse()"),
        ]
    } else {
        vec![format!("create trigger refused before {what} begin select raise(abort, 'refused'); end")]
    };
    let unit = async move |tx: &mut Tx| {
        for text in &texts {
            sql(text.clone()).run(tx).await?;
        }
        Ok(())
    };
    store.write_plain(Urgency::Interactive, unit).await.unwrap();
}

/// Puts another text in the place of an Email's structure, such as an older program's.
pub async fn replace_structure(store: &Store, account: AccountId, email: Id, text: &'static str) {
    let unit = async move |tx: &mut Tx| {
        sql("update email_structure set structure = $3 where account_id = $1 and email_id = $2")
            .bind(account)
            .bind(email)
            .bind(text)
            .run(tx)
            .await
    };
    store.write(account, unit).await.unwrap();
}

/// Many Emails of one mailbox, made at once.
#[derive(Clone, Copy)]
pub struct Filling {
    /// Where they are.
    pub mailbox: Id,
    /// How many; one is received each second.
    pub emails: i64,
    /// How many follow each other in a thread.
    pub in_thread: i64,
    /// The first, and then every so many, is unread.
    pub unread_every: i64,
}

/// Fills an empty mailbox of an account without other mail; the ids, oldest first. Rows are made as
/// `place` makes them, but for bodies, thread keys and the change log.
pub async fn fill(store: &Store, account: AccountId, filling: Filling) -> Vec<Id> {
    let first = store.ids().make().0;
    let unit = async move |tx: &mut Tx| {
        let Filling { mailbox, emails, in_thread, unread_every } = filling;
        // Ids are as far from each other as if one was made each millisecond.
        sql("insert into email (account_id, id, thread_id, blob_hash, size, received_at, sent_at, \
             has_attachment, from_key, to_key, subject_key, list_properties) \
             with recursive n (i) as (select cast(0 as bigint) union all select i + 1 from n where i + 1 < $4) \
             select $1, $2 + i * 4194304, $2 + (i / $3) * 4194304 + 1, $6, 1000 + i % 1000, \
             i * 1000, i * 1000, case when i % 10 = 0 then 1 else 0 end, 'alice', 'bob', 'subject ' || (i % 777), $5 from n")
        .bind(account)
        .bind(first)
        .bind(in_thread)
        .bind(emails)
        .bind(LIST_PROPERTIES)
        .bind(BlobHash::of(b""))
        .run(tx)
        .await?;
        for mailbox in [Id(0), mailbox] {
            sql("insert into membership (account_id, mailbox_id, received_at, email_id, thread_id, flags) \
                 select account_id, $2, received_at, id, thread_id, \
                 case when (received_at / 1000) % $3 = 0 then 0 else 1 end from email where account_id = $1")
            .bind(account)
            .bind(mailbox)
            .bind(unread_every)
            .run(tx)
            .await?;
            sql("insert into thread_mailbox (account_id, thread_id, mailbox_id, total, unread) \
                 select account_id, thread_id, mailbox_id, count(*), \
                 sum(case when flags = 0 then 1 else 0 end) from membership \
                 where account_id = $1 and mailbox_id = $2 group by account_id, thread_id, mailbox_id")
            .bind(account)
            .bind(mailbox)
            .run(tx)
            .await?;
        }
        sql("update mailbox set (total_emails, unread_emails, total_threads, unread_threads) = \
             (select sum(total), sum(unread), count(*), sum(case when unread > 0 then 1 else 0 end) from thread_mailbox \
             where account_id = $1 and mailbox_id = $2) where account_id = $1 and id = $2")
        .bind(account)
        .bind(mailbox)
        .run(tx)
        .await?;
        sql("update account set used_emails = $2, used_threads = ($2 + $3 - 1) / $3 where id = $1")
            .bind(account)
            .bind(emails)
            .bind(in_thread)
            .run(tx)
            .await
    };
    store.write_plain(Urgency::Interactive, unit).await.unwrap();
    (0..filling.emails).map(|number| Id(first + number * 4_194_304)).collect()
}

const LIST_PROPERTIES: &str = r#"["one-of-many@example.test"]
null
null
null
[{"name":"Alice Example","email":"alice@example.test"}]
[{"name":"Bob Example","email":"bob@example.test"}]
null
null
null
"Minutes of the meeting and what is to be done until the next"
"2024-01-01T00:00:00Z"
"Dear all, thank you for coming. Here is what we have agreed on, and who does what until we meet again. Please tell me if I have forgotten anything, or if you cannot do your part in time.""#;
