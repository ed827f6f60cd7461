//! Mailboxes (RFC 8621, 2). Their counters are kept by `counters`, never counted at reading. All of a
//! mailbox is the account's, but for the subscription, which is each login's own.

use crate::store::db::{Conn, Query, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::value::Row;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// Bits of a Mailbox change: what a client need read again.
pub mod changed {
    /// The four counters.
    pub const COUNTS: i64 = 1;
    /// Anything else.
    pub const OTHER: i64 = 2;
}

/// Through whose eyes mailboxes are read: each login has subscriptions of its own (RFC 8621, 2).
#[derive(Clone, Copy, Debug)]
pub struct Viewer {
    /// The login; 0 for the program itself.
    pub login_id: Id,
    /// Whether the account is the login's own. An owner is subscribed to what is not said otherwise,
    /// anybody else is not.
    pub is_owner: bool,
}

/// A mailbox as a login sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// Its id.
    pub id: Id,
    /// The mailbox it is in; 0 at the top.
    pub parent_id: Id,
    /// Unique among its siblings.
    pub name: String,
    /// A role of the IANA registry, in lower case.
    pub role: Option<String>,
    /// Lower comes first.
    pub sort_order: i64,
    /// Whether the login wants to see it.
    pub is_subscribed: bool,
    /// Kept by every transaction that moves mail.
    pub counts: Counts,
}

/// The counters of a mailbox (RFC 8621, 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Emails in it.
    pub total_emails: i64,
    /// Emails in it with neither `$seen` nor `$draft`.
    pub unread_emails: i64,
    /// Threads with an Email in it.
    pub total_threads: i64,
    /// Those of them that a client would show as unread.
    pub unread_threads: i64,
}

/// What a new mailbox is made of.
#[derive(Clone, Debug)]
pub struct NewMailbox<'a> {
    /// 0 at the top.
    pub parent_id: Id,
    /// Unique among its siblings.
    pub name: &'a str,
    /// Unique in the account.
    pub role: Option<&'a str>,
    /// Lower comes first.
    pub sort_order: i64,
}

// Each statement is a text of the program: one that is made at run time is planned anew each time.
macro_rules! select {
    ($filter:literal) => {
        concat!(
            "select m.id, m.parent_id, m.name, m.role, m.sort_order, coalesce(s.is_subscribed, $3), \
             m.total_emails, m.unread_emails, m.total_threads, m.unread_threads from mailbox m \
             left join mailbox_subscription s \
             on s.account_id = m.account_id and s.mailbox_id = m.id and s.login_id = $2 \
             where m.account_id = $1",
            $filter
        )
    };
}

fn select(text: &'static str, account: AccountId, viewer: Viewer) -> Query {
    sql(text).bind(account).bind(viewer.login_id).bind(viewer.is_owner)
}

fn read_mailbox(row: &Row<'_>) -> Result<Mailbox, StoreError> {
    Ok(Mailbox {
        id: row.get(0)?,
        parent_id: row.get(1)?,
        name: row.get(2)?,
        role: row.get(3)?,
        sort_order: row.get(4)?,
        is_subscribed: row.get(5)?,
        counts: Counts {
            total_emails: row.get(6)?,
            unread_emails: row.get(7)?,
            total_threads: row.get(8)?,
            unread_threads: row.get(9)?,
        },
    })
}

/// All mailboxes of the account; their number is limited.
pub async fn all(conn: &mut Conn, account: AccountId, viewer: Viewer) -> Result<Vec<Mailbox>, StoreError> {
    select(select!(""), account, viewer).all(conn, read_mailbox).await
}

/// The mailboxes of these ids, as far as they exist, in no order.
pub async fn by_ids(
    conn: &mut Conn,
    account: AccountId,
    viewer: Viewer,
    ids: &[Id],
) -> Result<Vec<Mailbox>, StoreError> {
    select(select!(" and m.id = any($4)"), account, viewer).bind(ids).all(conn, read_mailbox).await
}

/// Those of these ids that are mailboxes, in no order.
pub async fn existing(conn: &mut Conn, account: AccountId, ids: &[Id]) -> Result<Vec<Id>, StoreError> {
    sql("select id from mailbox where account_id = $1 and id = any($2)")
        .bind(account)
        .bind(ids)
        .column(conn)
        .await
}

/// The mailbox of a role.
pub async fn id_by_role(conn: &mut Conn, account: AccountId, role: &str) -> Result<Option<Id>, StoreError> {
    sql("select id from mailbox where account_id = $1 and role = $2 and role is not null")
        .bind(account)
        .bind(role)
        .value(conn)
        .await
}

/// The mailbox of a name among the children of another.
pub async fn id_by_name(
    conn: &mut Conn,
    account: AccountId,
    parent_id: Id,
    name: &str,
) -> Result<Option<Id>, StoreError> {
    sql("select id from mailbox where account_id = $1 and parent_id = $2 and name = $3")
        .bind(account)
        .bind(parent_id)
        .bind(name)
        .value(conn)
        .await
}

/// Makes a mailbox. The caller has checked its name, role and parent.
pub async fn insert(tx: &mut Tx, new: &NewMailbox<'_>) -> Result<Id, StoreError> {
    let id = tx.new_id();
    sql("insert into mailbox (account_id, id, parent_id, name, role, sort_order) \
         values ($1, $2, $3, $4, $5, $6)")
    .bind(tx.account())
    .bind(id)
    .bind(new.parent_id)
    .bind(new.name)
    .bind(new.role)
    .bind(new.sort_order)
    .run(tx)
    .await?;
    tx.created(ObjectType::Mailbox, id);
    Ok(id)
}

/// Writes all that a client can change of a mailbox, but for the subscription.
pub async fn update(tx: &mut Tx, mailbox: &Mailbox) -> Result<(), StoreError> {
    sql("update mailbox set parent_id = $3, name = $4, role = $5, sort_order = $6 \
         where account_id = $1 and id = $2")
    .bind(tx.account())
    .bind(mailbox.id)
    .bind(mailbox.parent_id)
    .bind(&mailbox.name)
    .bind(mailbox.role.as_deref())
    .bind(mailbox.sort_order)
    .run(tx)
    .await?;
    tx.updated(ObjectType::Mailbox, mailbox.id, changed::OTHER);
    Ok(())
}

/// Subscribes a login to a mailbox, or ends that. The state of mailboxes is one for all logins, so
/// others read the mailbox again and find nothing changed.
pub async fn subscribe(tx: &mut Tx, login_id: Id, id: Id, is_subscribed: bool) -> Result<(), StoreError> {
    sql("insert into mailbox_subscription (account_id, mailbox_id, login_id, is_subscribed) \
         values ($1, $2, $3, $4) \
         on conflict (account_id, mailbox_id, login_id) do update set is_subscribed = excluded.is_subscribed")
    .bind(tx.account())
    .bind(id)
    .bind(login_id)
    .bind(is_subscribed)
    .run(tx)
    .await?;
    tx.updated(ObjectType::Mailbox, id, changed::OTHER);
    Ok(())
}

/// Takes role and name from mailboxes that are about to get others or to go, so that what replaces
/// them finds both free. The caller goes on to `update` or `delete` each, which records the change.
pub async fn vacate(tx: &mut Tx, ids: &[Id]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    // No mailbox has a control character in its name.
    sql("update mailbox set role = null, name = $3 || cast(id as text) where account_id = $1 and id = any($2)")
        .bind(tx.account())
        .bind(ids)
        .bind("\u{1}")
        .run(tx)
        .await?;
    Ok(())
}

/// Removes a mailbox that has neither mail nor children.
pub async fn delete(tx: &mut Tx, id: Id) -> Result<(), StoreError> {
    let account = tx.account();
    sql("delete from mailbox_subscription where account_id = $1 and mailbox_id = $2")
        .bind(account)
        .bind(id)
        .run(tx)
        .await?;
    sql("delete from mailbox where account_id = $1 and id = $2").bind(account).bind(id).run(tx).await?;
    tx.destroyed(ObjectType::Mailbox, id);
    Ok(())
}

/// The ids of all mailboxes.
pub async fn ids(conn: &mut Conn, account: AccountId) -> Result<Vec<Id>, StoreError> {
    sql("select id from mailbox where account_id = $1").bind(account).column(conn).await
}
