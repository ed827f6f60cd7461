//! Statements over all accounts, addresses or lanes. On a sharded database each of them asks every
//! shard, so they stand here together, and nothing that answers a client or a mail server calls them.

pub mod heads;
pub mod shards;
pub mod sweep;

use crate::bus::Queue;
use crate::store::audit::{Entry, Page, read_entry};
use crate::store::db::{Conn, everywhere_sql, sql};
use crate::store::directory::account;
use crate::store::directory::token::{Token, rights_at};
use crate::store::error::StoreError;
use crate::store::queue::queue_sql;
use crate::store::value::Row;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{IncomingEnvelope, OutgoingEnvelope, OutgoingRecipient};
use crate::types::id::{AccountId, Id};

/// An account in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// Its id.
    pub id: AccountId,
    /// Its primary address.
    pub name: String,
    /// In milliseconds since 1970.
    pub created_at: i64,
    /// Bytes that it may keep; 0 is without limit.
    pub quota_bytes: i64,
    /// Bytes that it keeps.
    pub used_bytes: i64,
    /// Emails that it keeps.
    pub used_emails: i64,
}

/// Accounts in the order in which they were made, from the one after `after` on.
pub async fn account_list(
    conn: &mut Conn,
    after: AccountId,
    limit: usize,
) -> Result<Vec<AccountEntry>, StoreError> {
    everywhere_sql(
        "select id, name, created_at, quota_bytes, used_bytes, used_emails from account \
         where id > $1 and removed_at = 0 order by id limit $2",
    )
    .bind(after)
    .bind(limit as i64)
    .all(conn, read_account)
    .await
}

fn read_account(row: &Row<'_>) -> Result<AccountEntry, StoreError> {
    Ok(AccountEntry {
        id: row.get(0)?,
        name: row.get(1)?,
        created_at: row.get(2)?,
        quota_bytes: row.get(3)?,
        used_bytes: row.get(4)?,
        used_emails: row.get(5)?,
    })
}

/// Accounts of a domain in the order in which they were made, from the one after `after` on.
pub async fn account_list_of_domain(
    conn: &mut Conn,
    domain: &str,
    after: AccountId,
    limit: usize,
) -> Result<Vec<AccountEntry>, StoreError> {
    let ids: Vec<Id> = everywhere_sql(
        "select account_id from address where domain = $1 and is_primary = 1 and account_id > $2 \
         order by account_id limit $3",
    )
    .bind(domain)
    .bind(after)
    .bind(limit as i64)
    .column(conn)
    .await?;
    everywhere_sql(
        "select id, name, created_at, quota_bytes, used_bytes, used_emails from account \
         where id = any($1) and removed_at = 0 order by id",
    )
    .bind(&ids)
    .all(conn, read_account)
    .await
}

/// Accounts whose removal has begun and not ended, with their names.
pub async fn accounts_being_removed(conn: &mut Conn) -> Result<Vec<(AccountId, String)>, StoreError> {
    everywhere_sql("select id, name from account where removed_at > 0 order by id")
        .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
        .await
}

/// An alias in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasEntry {
    /// The alias.
    pub alias: String,
    /// Whose it is.
    pub account: AccountId,
    /// The primary address of that account.
    pub account_name: String,
}

/// Aliases by name, from the one after `after` on.
pub async fn alias_list(
    conn: &mut Conn,
    after: (&str, AccountId),
    limit: usize,
) -> Result<Vec<AliasEntry>, StoreError> {
    let rows = everywhere_sql(
        "select address, account_id from address where (address, account_id) > ($1, $2) and is_primary = 0 \
         order by address, account_id limit $3",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(limit as i64)
    .all(conn, |row| Ok((row.get::<String>(0)?, row.get::<AccountId>(1)?)))
    .await?;
    // The accounts are in other shards than the addresses: there is no join.
    let accounts: Vec<AccountId> = rows.iter().map(|(_, account)| *account).collect();
    let names = account::names(conn, &accounts).await?;
    let entry = |(alias, account): (String, AccountId)| {
        // Empty when the account is just going: a page that is cut short would be the last one.
        let account_name = names.get(&account).cloned().unwrap_or_default();
        AliasEntry { alias, account, account_name }
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// Who reaches which account, in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessEntry {
    /// The name of the login.
    pub login: String,
    /// The primary address of the account.
    pub account_name: String,
    /// Whether the login may only read.
    pub is_read_only: bool,
    /// Whether the account is the login's own.
    pub is_personal: bool,
}

/// All access of all logins, by login.
pub async fn access_list(conn: &mut Conn) -> Result<Vec<AccessEntry>, StoreError> {
    everywhere_sql(
        "select l.name, a.account_name, a.is_read_only, a.is_personal from access a \
         join login l on l.id = a.login_id order by l.name, a.is_personal desc, a.account_name",
    )
    .all(conn, |row| {
        Ok(AccessEntry {
            login: row.get(0)?,
            account_name: row.get(1)?,
            is_read_only: row.get(2)?,
            is_personal: row.get(3)?,
        })
    })
    .await
}

/// The tokens of all logins, each with the name of its login.
pub async fn token_list(conn: &mut Conn) -> Result<Vec<(String, Token)>, StoreError> {
    everywhere_sql(
        "select l.name, t.id, t.name, t.created_at, t.expires_at, t.last_used_at, t.scopes, t.account_id, \
         t.domain from token t join login l on l.id = t.login_id order by l.name, t.id",
    )
    .all(conn, |row| {
        let token = Token {
            id: row.get(1)?,
            name: row.get(2)?,
            created_at: row.get(3)?,
            expires_at: row.get(4)?,
            last_used_at: row.get(5)?,
            rights: rights_at(row, 6)?,
        };
        Ok((row.get(0)?, token))
    })
    .await
}

/// What administrators have done, the newest first.
pub async fn audit_list(conn: &mut Conn, page: Page) -> Result<Vec<Entry>, StoreError> {
    everywhere_sql(
        "select domain, id, created_at, actor, act, object, outcome from audit \
         where id < $1 order by id desc limit $2",
    )
    .bind(page.before)
    .bind(page.limit as i64)
    .all(conn, read_entry)
    .await
}

/// Whether some account has an address in this domain.
pub async fn domain_has_addresses(conn: &mut Conn, domain: &str) -> Result<bool, StoreError> {
    let found = everywhere_sql("select account_id from address where domain = $1 limit 1")
        .bind(domain)
        .value::<AccountId>(conn)
        .await?;
    Ok(found.is_some())
}

/// For each of these domains the oldest account with its name there, but for one that does not count.
pub async fn oldest_accounts_of_domains(
    conn: &mut Conn,
    domains: Vec<String>,
    except: AccountId,
) -> Result<Vec<(String, AccountId)>, StoreError> {
    everywhere_sql(
        "select domain, min(account_id) from address \
         where domain = any($1) and is_primary = 1 and account_id <> $2 group by domain",
    )
    .bind(domains)
    .bind(except)
    .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
    .await
}

/// The lanes of a queue that have something due. Each lane costs a seek, whether it is empty or has
/// a million rows; on a sharded database each shard reads what is due.
pub async fn lanes_with_work(conn: &mut Conn, queue: Queue, now_ms: i64) -> Result<Vec<i64>, StoreError> {
    if queue == Queue::Events {
        return lanes_with_events(conn).await;
    }
    let query = if conn.is_sharded() {
        queue_sql("select distinct lane from {queue} where due <= $1", queue).everywhere()
    } else {
        queue_sql(
            "with recursive known (lane) as (select min(lane) from {queue} union all \
             select (select min(n.lane) from {queue} n where n.lane > known.lane) from known \
             where known.lane is not null) select known.lane from known where known.lane is not null \
             and exists (select 1 from {queue} q where q.lane = known.lane and q.due <= $1)",
            queue,
        )
    };
    query.bind(now_ms).column(conn).await
}

/// The lanes that have events to be logged: whatever waits there is due.
async fn lanes_with_events(conn: &mut Conn) -> Result<Vec<i64>, StoreError> {
    let query = if conn.is_sharded() {
        everywhere_sql("select distinct lane from event_outbox")
    } else {
        sql("with recursive known (lane) as (select min(lane) from event_outbox union all \
             select (select min(n.lane) from event_outbox n where n.lane > known.lane) from known \
             where known.lane is not null) select known.lane from known where known.lane is not null")
    };
    query.column(conn).await
}

/// How much is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// All rows.
    pub rows: i64,
    /// Rows that are set aside.
    pub held: i64,
    /// When the oldest row that is not set aside was made, in milliseconds since 1970.
    pub oldest_created_at: Option<i64>,
}

/// How much is in a queue, for metrics. It reads the whole queue.
pub async fn queue_depth(conn: &mut Conn, queue: Queue) -> Result<Depth, StoreError> {
    let query = match queue {
        Queue::Events => everywhere_sql("select count(*), 0, min(created_at) from event_outbox"),
        queue => queue_sql(
            "select count(*), cast(coalesce(sum(is_held), 0) as bigint), \
             min(case when is_held = 0 then created_at end) from {queue}",
            queue,
        )
        .everywhere(),
    };
    let depth = query
        .first(conn, |row| Ok(Depth { rows: row.get(0)?, held: row.get(1)?, oldest_created_at: row.get(2)? }))
        .await?;
    Ok(depth.unwrap_or_default())
}

/// A queue row in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// Its lane.
    pub lane: i64,
    /// Its id.
    pub id: Id,
    /// The id that its message was given when it was accepted: told in the reply, the Received field and
    /// the logs. Rows of one message share it.
    pub message: String,
    /// In milliseconds since 1970.
    pub created_at: i64,
    /// When it will be tried next or its lease ends, in milliseconds since 1970.
    pub due: i64,
    /// How often it was taken since it came or was last released.
    pub tries: i64,
    /// Whether a worker has it in hand.
    pub is_leased: bool,
    /// Whether it is set aside until somebody retries or drops it.
    pub is_held: bool,
    /// What went wrong last.
    pub last_error: String,
    /// Of the message, in bytes.
    pub size: i64,
    /// Of its content.
    pub body_hash: BlobHash,
    /// Whether an incoming row has its content staged in the blob store instead of `incoming::bodies`.
    pub is_staged: bool,
    /// Of an outgoing row: the account that sends it.
    pub account: Option<AccountId>,
    /// Of an outgoing row: the domain to which it goes.
    pub destination: Option<String>,
    /// The reverse-path.
    pub sender: String,
    /// The forward-paths.
    pub recipients: Vec<String>,
}

/// Reads rows of `incoming`; what follows is a condition.
const FROM_INCOMING: &str = "select lane, id, created_at, due, tries, is_leased, is_held, last_error, size, \
                             body_hash, is_staged, envelope from incoming where";

fn read_incoming(row: &Row<'_>) -> Result<QueueEntry, StoreError> {
    // A list shows rows that cannot be read, too: they are the ones that somebody looks for.
    let envelope: Option<IncomingEnvelope> = serde_json::from_str(row.text(11)?).ok();
    let (message, sender, recipients) = match envelope {
        Some(envelope) => (envelope.delivery_id, envelope.mail_from, envelope.recipients),
        None => Default::default(),
    };
    Ok(QueueEntry {
        lane: row.get(0)?,
        id: row.get(1)?,
        message,
        created_at: row.get(2)?,
        due: row.get(3)?,
        tries: row.get(4)?,
        is_leased: row.get(5)?,
        is_held: row.get(6)?,
        last_error: row.get(7)?,
        size: row.get(8)?,
        body_hash: row.get(9)?,
        is_staged: row.get(10)?,
        account: None,
        destination: None,
        sender,
        recipients: recipients.into_iter().map(|recipient| recipient.address).collect(),
    })
}

/// Reads rows of `outgoing`; what follows is a condition.
const FROM_OUTGOING: &str = "select lane, id, created_at, due, tries, is_leased, is_held, last_error, size, \
                             body_hash, account_id, domain, envelope, recipients from outgoing where";

fn read_outgoing(row: &Row<'_>) -> Result<QueueEntry, StoreError> {
    let envelope: Option<OutgoingEnvelope> = serde_json::from_str(row.text(12)?).ok();
    let recipients: Vec<OutgoingRecipient> = serde_json::from_str(row.text(13)?).unwrap_or_default();
    let (message, sender) = match envelope {
        Some(envelope) => (envelope.delivery_id, envelope.mail_from),
        None => Default::default(),
    };
    Ok(QueueEntry {
        lane: row.get(0)?,
        id: row.get(1)?,
        message,
        created_at: row.get(2)?,
        due: row.get(3)?,
        tries: row.get(4)?,
        is_leased: row.get(5)?,
        is_held: row.get(6)?,
        last_error: row.get(7)?,
        size: row.get(8)?,
        body_hash: row.get(9)?,
        is_staged: false,
        account: Some(row.get(10)?),
        destination: Some(row.get(11)?),
        sender,
        recipients: recipients.into_iter().map(|recipient| recipient.address).collect(),
    })
}

/// Incoming rows by lane and id, from the one after `after` on.
pub async fn incoming_list(
    conn: &mut Conn,
    after: (i64, Id),
    limit: usize,
) -> Result<Vec<QueueEntry>, StoreError> {
    everywhere_sql(format!("{FROM_INCOMING} (lane, id) > ($1, $2) order by lane, id limit $3"))
        .bind(after.0)
        .bind(after.1)
        .bind(limit as i64)
        .all(conn, read_incoming)
        .await
}

/// An incoming row by its id alone.
pub async fn incoming_entry(conn: &mut Conn, id: Id) -> Result<Option<QueueEntry>, StoreError> {
    everywhere_sql(format!("{FROM_INCOMING} id = $1")).bind(id).first(conn, read_incoming).await
}

/// Outgoing rows by lane and id, from the one after `after` on.
pub async fn outgoing_list(
    conn: &mut Conn,
    after: (i64, Id),
    limit: usize,
) -> Result<Vec<QueueEntry>, StoreError> {
    everywhere_sql(format!("{FROM_OUTGOING} (lane, id) > ($1, $2) order by lane, id limit $3"))
        .bind(after.0)
        .bind(after.1)
        .bind(limit as i64)
        .all(conn, read_outgoing)
        .await
}

/// An outgoing row by its id alone.
pub async fn outgoing_entry(conn: &mut Conn, id: Id) -> Result<Option<QueueEntry>, StoreError> {
    everywhere_sql(format!("{FROM_OUTGOING} id = $1")).bind(id).first(conn, read_outgoing).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;
    use crate::store::directory::{access, address, token};
    use crate::types::address::Address;

    #[tokio::test]
    async fn lists_go_on_where_they_ended() {
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let alice = fixture.account("alice@example.test").await;
        let bob = fixture.account("bob@example.test").await;
        access::grant(store, alice.login, bob.account, true).await.unwrap();
        token::add(store, bob.login, token::TokenWanted::default()).await.unwrap();
        for alias in ["x@example.test", "y@example.test"] {
            for account in [alice.account, bob.account] {
                address::alias_add(store, Address::parse(alias).unwrap(), account).await.unwrap();
            }
        }
        let mut snapshot = store.read().await.unwrap();
        let first = account_list(&mut snapshot, AccountId::default(), 1).await.unwrap();
        assert_eq!(first[0].name, "alice@example.test");
        let rest = account_list(&mut snapshot, first[0].id, 10).await.unwrap();
        assert_eq!(rest.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["bob@example.test"]);

        let mut aliases = Vec::new();
        let mut after = (String::new(), AccountId::default());
        loop {
            let page = alias_list(&mut snapshot, (&after.0, after.1), 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = (last.alias.clone(), last.account);
            aliases.extend(page.into_iter().map(|entry| (entry.alias, entry.account_name)));
        }
        assert_eq!(aliases.len(), 4, "{aliases:?}");
        assert_eq!(aliases[3], ("y@example.test".to_owned(), "bob@example.test".to_owned()));

        let reached = access_list(&mut snapshot).await.unwrap();
        let shown: Vec<_> =
            reached.iter().map(|entry| (entry.login.as_str(), entry.account_name.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("alice@example.test", "alice@example.test"),
                ("alice@example.test", "bob@example.test"),
                ("bob@example.test", "bob@example.test"),
            ]
        );
        let tokens = token_list(&mut snapshot).await.unwrap();
        assert_eq!((tokens.len(), tokens[0].0.as_str()), (1, "bob@example.test"));
    }
}
