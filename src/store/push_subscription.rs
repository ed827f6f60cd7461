//! PushSubscriptions (RFC 8620, 7.2): devices that are told of changes at a URL. A subscription belongs
//! to a login and to the credential that made it, and is in the shard of the login. Beside each account
//! that it hears of stands a hint (`push_interest`), by which the account's transactions order pushes.
//!
//! The subscription is what counts: a hint without one leads a worker to nothing, and goes. Hints are
//! written before a subscription counts as verified, and again whenever it is renewed.

use std::collections::HashMap;

use bytes::Bytes;

use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Row;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// Who has signed in, and by what: subscriptions are seen by the credential that made them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credential {
    /// The login.
    pub login: Id,
    /// The token, or 0 for the password.
    pub token: Id,
}

/// A subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PushSubscription {
    /// Its id.
    pub id: Id,
    /// By which its client knows its device.
    pub device_client_id: String,
    /// Where pushes go.
    pub url: String,
    /// What they are encrypted with.
    pub keys: Option<Keys>,
    /// What the client has to tell us, so that we know that the URL is its own.
    pub verification_code: String,
    /// Whether it has.
    pub is_verified: bool,
    /// In milliseconds since 1970.
    pub expires_at: i64,
    /// The types that it wants to hear of, a bit each; -1 for all, those to come included.
    pub types: i64,
    /// What it wants to hear of new mail: the JSON text of `emailPush`; empty for nothing.
    pub email_push: String,
}

impl PushSubscription {
    /// The types of an account by which it has something to be told, a bit each.
    pub fn interest_in(&self, account: AccountId) -> i64 {
        self.types | if self.hears_of_mail(account) { ObjectType::EmailDelivery.bit() } else { 0 }
    }

    /// Whether it wants new mail of an account itself (`emailPush`).
    pub fn hears_of_mail(&self, account: AccountId) -> bool {
        let accounts: HashMap<String, serde::de::IgnoredAny> =
            serde_json::from_str(&self.email_push).unwrap_or_default();
        accounts.contains_key(&account.to_string())
    }
}

/// The keys of a client (RFC 8291, 2).
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Its public key: a point on P-256, uncompressed.
    pub p256dh: Bytes,
    /// The authentication secret.
    pub auth: Bytes,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys { .. }")
    }
}

const COLUMNS: &str = "id, device_client_id, url, p256dh, auth, verification_code, is_verified, expires_at, \
                       types, email_push";

fn read(row: &Row<'_>) -> Result<PushSubscription, StoreError> {
    let (p256dh, auth) = (row.get::<Bytes>(3)?, row.get::<Bytes>(4)?);
    Ok(PushSubscription {
        id: row.get(0)?,
        device_client_id: row.get(1)?,
        url: row.get(2)?,
        keys: (!p256dh.is_empty()).then_some(Keys { p256dh, auth }),
        verification_code: row.get(5)?,
        is_verified: row.get(6)?,
        expires_at: row.get(7)?,
        types: row.get(8)?,
        email_push: row.get(9)?,
    })
}

/// The subscriptions that a credential has made, those that have expired left out.
pub async fn list(conn: &mut Conn, of: Credential, now_ms: i64) -> Result<Vec<PushSubscription>, StoreError> {
    sql(format!(
        "select {COLUMNS} from push_subscription where login_id = $1 and token_id = $2 and expires_at > $3 \
         order by id"
    ))
    .bind(of.login)
    .bind(of.token)
    .bind(now_ms)
    .all(conn, read)
    .await
}

/// A subscription to which something about an account may be told.
pub async fn reached(
    conn: &mut Conn,
    login: Id,
    id: Id,
    account: AccountId,
    now_ms: i64,
) -> Result<Option<PushSubscription>, StoreError> {
    sql(format!(
        "select {COLUMNS} from push_subscription where login_id = $1 and id = $2 and expires_at > $3 \
         and exists (select 1 from access where login_id = $1 and account_id = $4)"
    ))
    .bind(login)
    .bind(id)
    .bind(now_ms)
    .bind(account)
    .first(conn, read)
    .await
}

/// Lets the subscriptions of a login hear of an account that it may reach from now on.
pub(in crate::store) async fn hear_of(
    store: &Store,
    login: Id,
    account: AccountId,
) -> Result<(), StoreError> {
    let mut snapshot = store.read().await?;
    // A key that is for one account, which was another until now, hears of no more than that.
    let all = sql(format!(
        "select {COLUMNS} from push_subscription where login_id = $1 and is_verified = 1 \
         and not exists (select 1 from token where token.login_id = $1 and token.id = push_subscription.token_id \
         and token.account_id <> 0 and token.account_id <> $2)"
    ))
    .bind(login)
    .bind(account)
    .all(&mut snapshot, read)
    .await?;
    drop(snapshot);
    for subscription in all {
        let types = subscription.interest_in(account);
        note_interest(store, account, login, subscription.id, Interest::of_changes(types)).await?;
    }
    Ok(())
}

/// How many subscriptions a login has, of whatever credential.
pub async fn count(conn: &mut Conn, login: Id) -> Result<i64, StoreError> {
    let count = sql("select count(*) from push_subscription where login_id = $1").bind(login).value(conn);
    Ok(count.await?.unwrap_or_default())
}

/// Writes a new subscription.
pub async fn insert(store: &Store, of: Credential, new: PushSubscription) -> Result<(), StoreError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            let keys = new.keys.clone().unwrap_or(Keys { p256dh: Bytes::new(), auth: Bytes::new() });
            // The funnel may run this twice (see `write_plain`): the second time it is there.
            sql(
                "insert into push_subscription (login_id, id, token_id, device_client_id, url, p256dh, auth, \
                 verification_code, is_verified, expires_at, types, email_push, created_at) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, $12) on conflict do nothing",
            )
            .bind(of.login)
            .bind(new.id)
            .bind(of.token)
            .bind(&new.device_client_id)
            .bind(&new.url)
            .bind(keys.p256dh)
            .bind(keys.auth)
            .bind(&new.verification_code)
            .bind(new.expires_at)
            .bind(new.types)
            .bind(&new.email_push)
            .bind(tx.now_ms())
            .run(tx)
            .await?;
            Ok(())
        })
        .await
}

/// Writes what may change of a subscription; false when it is gone.
pub async fn update(store: &Store, of: Credential, new: PushSubscription) -> Result<bool, StoreError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            let touched = sql("update push_subscription set is_verified = $4, expires_at = $5, types = $6, \
                               email_push = $7 where login_id = $1 and id = $2 and token_id = $3")
            .bind(of.login)
            .bind(new.id)
            .bind(of.token)
            .bind(new.is_verified)
            .bind(new.expires_at)
            .bind(new.types)
            .bind(&new.email_push)
            .run(tx)
            .await?;
            Ok(touched == 1)
        })
        .await
}

/// Erases a subscription of a login, with its URL and its keys.
pub async fn delete(store: &Store, login: Id, id: Id) -> Result<(), StoreError> {
    store
        .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
            sql("delete from push_subscription where login_id = $1 and id = $2")
                .bind(login)
                .bind(id)
                .run(tx)
                .await?;
            Ok(())
        })
        .await
}

/// Erases the subscriptions that a credential has made: it is void.
pub(in crate::store) async fn delete_of(tx: &mut Tx, of: Credential) -> Result<(), StoreError> {
    sql("delete from push_subscription where login_id = $1 and token_id = $2")
        .bind(of.login)
        .bind(of.token)
        .run(tx)
        .await?;
    Ok(())
}

/// What a subscription wants to hear of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// The types, a bit each; 0 for none.
    pub types: i64,
    /// Whether new mail is told from now on, and not from where it was told before.
    pub is_anew: bool,
}

impl Interest {
    /// In nothing.
    pub const NONE: Interest = Interest { types: 0, is_anew: false };

    /// In the changes of these types; what is new mail stays as it is.
    pub fn of_changes(types: i64) -> Interest {
        Interest { types, is_anew: false }
    }
}

/// Notes what a subscription wants to hear of an account.
pub async fn note_interest(
    store: &Store,
    account: AccountId,
    login: Id,
    subscription: Id,
    interest: Interest,
) -> Result<(), StoreError> {
    let Interest { types, is_anew } = interest;
    store
        .write(account, async move |tx: &mut Tx| {
            if types == 0 {
                sql("delete from push_interest where account_id = $1 and subscription_id = $2")
                    .bind(account)
                    .bind(subscription)
                    .run(tx)
                    .await?;
            } else {
                sql("insert into push_interest (account_id, subscription_id, login_id, types, told_modseq) \
                     values ($1, $2, $3, $4, $5) \
                     on conflict (account_id, subscription_id) do update set types = excluded.types, \
                     told_modseq = case when $6 = 1 then excluded.told_modseq else push_interest.told_modseq end")
                .bind(account)
                .bind(subscription)
                .bind(login)
                .bind(types)
                .bind(tx.modseq())
                .bind(is_anew)
                .run(tx)
                .await?;
            }
            let all = sql("select types from push_interest where account_id = $1")
                .bind(account)
                .column::<i64>(tx)
                .await?;
            sql("update account set push_types = $2 where id = $1")
                .bind(account)
                .bind(all.into_iter().fold(0, |bits, types| bits | types))
                .run(tx)
                .await?;
            Ok(())
        })
        .await
}

/// New mail of an account has been told to a subscription up to a modseq.
pub async fn note_told(
    store: &Store,
    lane: i64,
    account: AccountId,
    subscription: Id,
    modseq: i64,
) -> Result<(), StoreError> {
    store
        .write_lane(lane, Urgency::Interactive, async move |tx: &mut Tx| {
            sql("update push_interest set told_modseq = $3 \
                 where account_id = $1 and subscription_id = $2 and told_modseq < $3")
            .bind(account)
            .bind(subscription)
            .bind(modseq)
            .run(tx)
            .await?;
            Ok(())
        })
        .await
}

/// Up to which modseq new mail of an account has been told to a subscription.
pub async fn told_until(
    conn: &mut Conn,
    account: AccountId,
    subscription: Id,
) -> Result<Option<i64>, StoreError> {
    sql("select told_modseq from push_interest where account_id = $1 and subscription_id = $2")
        .bind(account)
        .bind(subscription)
        .value(conn)
        .await
}
