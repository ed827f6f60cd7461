//! Webhooks: where events are posted to, and how far each has come.

use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::event::log::{Cursor, View};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Row;
use crate::types::event::EventKinds;
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;

/// Webhooks of an account, of all accounts of a domain, and of the domain itself: nobody's leave no room for
/// others.
pub const MAX_OF_ACCOUNT: usize = 20;
const MAX_OF_ACCOUNTS: usize = 1_000;
pub const MAX_OF_DOMAIN: usize = 50;

/// A secret by which a receiver knows that a post is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    /// The secret, in the form `whsec_` and base64.
    pub secret: Secret,
    /// Until when it signs, in milliseconds since 1970; 0 for the one that is told now.
    pub until_ms: i64,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Its id.
    pub id: Id,
    /// Whose events it wants.
    pub view: View,
    /// Where they go.
    pub url: String,
    /// What its owner says of it.
    pub description: String,
    /// Those that it wants.
    pub kinds: EventKinds,
    /// The newest first.
    pub secrets: Vec<SigningSecret>,
    /// In milliseconds since 1970.
    pub created_at: i64,
    /// Up to where it has been told.
    pub cursor: Cursor,
    /// Since when nothing gets through, in milliseconds since 1970; 0 while all is well.
    pub failing_since: i64,
    /// Since when it is not told any more; 0 while it is.
    pub disabled_at: i64,
    /// What went wrong last.
    pub last_error: String,
}

impl Webhook {
    fn account(&self) -> AccountId {
        self.view.account.unwrap_or_default()
    }
}

const COLUMNS: &str = "select domain, id, account_id, url, description, kinds, secrets, created_at, seq, modseq, n, \
                       failing_since, disabled_at, last_error from webhook where domain = $1";

fn read_webhook(row: &Row<'_>) -> Result<Webhook, StoreError> {
    let id: Id = row.get(1)?;
    let secrets = serde_json::from_str(row.text(6)?)
        .map_err(|error| StoreError::corrupt_value(&format!("secrets of webhook {id}"), &error))?;
    let account: AccountId = row.get(2)?;
    Ok(Webhook {
        id,
        view: View { domain: row.get(0)?, account: Some(account).filter(|account| account.get() != 0) },
        url: row.get(3)?,
        description: row.get(4)?,
        kinds: EventKinds::of_bits(row.get(5)?),
        secrets,
        created_at: row.get(7)?,
        cursor: Cursor { seq: row.get(8)?, place: (row.get(9)?, row.get(10)?) },
        failing_since: row.get(11)?,
        disabled_at: row.get(12)?,
        last_error: row.get(13)?,
    })
}

fn secrets_text(secrets: &[SigningSecret]) -> Result<String, StoreError> {
    let written = serde_json::to_string(secrets);
    written.map_err(|error| StoreError::Engine(format!("a secret cannot be written: {error}").into()))
}

/// The webhooks of a domain, or of one account of it, the oldest first.
pub async fn list(conn: &mut Conn, view: &View) -> Result<Vec<Webhook>, StoreError> {
    match view.account {
        None => sql(format!("{COLUMNS} order by id")).bind(&view.domain),
        Some(account) => {
            sql(format!("{COLUMNS} and account_id = $2 order by id")).bind(&view.domain).bind(account)
        }
    }
    .all(conn, read_webhook)
    .await
}

/// A webhook of a domain.
pub async fn get(conn: &mut Conn, domain: &str, id: Id) -> Result<Option<Webhook>, StoreError> {
    sql(format!("{COLUMNS} and id = $2")).bind(domain).bind(id).first(conn, read_webhook).await
}

/// Adds a webhook; false when there are too many.
pub async fn add(store: &Store, new: Webhook) -> Result<bool, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let (own, others) = sql("select count(case when account_id = $2 then 1 end), \
                                 count(case when account_id <> 0 then 1 end) from webhook where domain = $1")
        .bind(&new.view.domain)
        .bind(new.account())
        .first(tx, |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?)))
        .await?
        .unwrap_or_default();
        let has_room = match new.view.account {
            None => own < MAX_OF_DOMAIN as i64,
            Some(_) => own < MAX_OF_ACCOUNT as i64 && others < MAX_OF_ACCOUNTS as i64,
        };
        if !has_room {
            return Ok(false);
        }
        sql(
            "insert into webhook (domain, id, account_id, url, description, kinds, secrets, created_at, seq, \
             modseq, n) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(&new.view.domain)
        .bind(new.id)
        .bind(new.account())
        .bind(&new.url)
        .bind(&new.description)
        .bind(new.kinds.bits())
        .bind(secrets_text(&new.secrets)?)
        .bind(new.created_at)
        .bind(new.cursor.seq)
        .bind(new.cursor.place.0)
        .bind(new.cursor.place.1)
        .run(tx)
        .await?;
        Ok(true)
    };
    store.write_plain(Urgency::Interactive, unit).await
}

/// Changes a webhook as it is now, all but how far it has come: what it has become, or `None` when it is gone.
pub async fn change(
    store: &Store,
    domain: String,
    id: Id,
    change: impl Fn(&mut Webhook) + Clone + Send + 'static,
) -> Result<Option<Webhook>, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let found = sql(format!("{COLUMNS} and id = $2 for update")).bind(&domain).bind(id);
        let Some(mut webhook) = found.first(tx, read_webhook).await? else { return Ok(None) };
        change(&mut webhook);
        sql("update webhook set url = $3, description = $4, kinds = $5, secrets = $6, failing_since = $7, \
             disabled_at = $8, last_error = $9 where domain = $1 and id = $2")
        .bind(&webhook.view.domain)
        .bind(webhook.id)
        .bind(&webhook.url)
        .bind(&webhook.description)
        .bind(webhook.kinds.bits())
        .bind(secrets_text(&webhook.secrets)?)
        .bind(webhook.failing_since)
        .bind(webhook.disabled_at)
        .bind(&webhook.last_error)
        .run(tx)
        .await?;
        Ok(Some(webhook))
    };
    store.write_plain(Urgency::Interactive, unit).await
}

/// Lets it be told again from a cursor on, or leave out what is before it.
pub async fn set_cursor(store: &Store, domain: String, id: Id, cursor: Cursor) -> Result<(), StoreError> {
    let unit = async move |tx: &mut Tx| {
        // How long what was before did not get through says nothing any more.
        sql("update webhook set seq = $3, modseq = $4, n = $5, failing_since = 0, last_error = '' \
             where domain = $1 and id = $2")
        .bind(&domain)
        .bind(id)
        .bind(cursor.seq)
        .bind(cursor.place.0)
        .bind(cursor.place.1)
        .run(tx)
        .await
        .map(drop)
    };
    store.write_plain(Urgency::Interactive, unit).await
}

/// It has been told what is between two cursors; false when somebody has set it to another one meanwhile.
pub async fn advance(
    store: &Store,
    domain: String,
    id: Id,
    from: Cursor,
    to: Cursor,
) -> Result<bool, StoreError> {
    let unit = async move |tx: &mut Tx| advance_in(tx, &domain, id, from, to).await;
    store.write_plain(Urgency::Background, unit).await
}

/// As `advance`, within a transaction.
pub(in crate::store) async fn advance_in(
    tx: &mut Tx,
    domain: &str,
    id: Id,
    from: Cursor,
    to: Cursor,
) -> Result<bool, StoreError> {
    let moved = sql("update webhook set seq = $3, modseq = $4, n = $5, failing_since = 0, last_error = '' \
                     where domain = $1 and id = $2 and seq = $6 and modseq = $7 and n = $8")
    .bind(domain)
    .bind(id)
    .bind(to.seq)
    .bind(to.place.0)
    .bind(to.place.1)
    .bind(from.seq)
    .bind(from.place.0)
    .bind(from.place.1)
    .run(tx)
    .await?;
    Ok(moved == 1)
}

/// Notes that nothing gets through, and disables it for good when it is time; since when that is so.
pub async fn failed(
    store: &Store,
    domain: String,
    id: Id,
    why: String,
    is_over: impl Fn(i64, i64) -> bool + Clone + Send + 'static,
) -> Result<Failing, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let now_ms = tx.now_ms();
        let since = sql("update webhook set last_error = $4, \
                         failing_since = case when failing_since = 0 then $3 else failing_since end \
                         where domain = $1 and id = $2 and disabled_at = 0 returning failing_since")
        .bind(&domain)
        .bind(id)
        .bind(now_ms)
        .bind(&why)
        .value::<i64>(tx)
        .await?;
        let Some(since) = since else { return Ok(Failing::Gone) };
        if !is_over(since, now_ms) {
            return Ok(Failing::Since(since));
        }
        sql("update webhook set disabled_at = $3 where domain = $1 and id = $2")
            .bind(&domain)
            .bind(id)
            .bind(now_ms)
            .run(tx)
            .await?;
        Ok(Failing::Disabled)
    };
    store.write_plain(Urgency::Background, unit).await
}

/// What has become of a webhook that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// It goes on, and has failed since then (milliseconds since 1970).
    Since(i64),
    /// It was disabled now.
    Disabled,
    /// It is not there any more, or was disabled before.
    Gone,
}

/// Removes a webhook; whether it was there.
pub async fn delete(store: &Store, domain: String, id: Id) -> Result<bool, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let gone =
            sql("delete from webhook where domain = $1 and id = $2").bind(&domain).bind(id).run(tx).await?;
        Ok(gone == 1)
    };
    store.write_plain(Urgency::Interactive, unit).await
}

/// Removes the webhooks of an account, or of all of a domain.
pub async fn delete_of(store: &Store, view: View) -> Result<(), StoreError> {
    let unit = async move |tx: &mut Tx| {
        match view.account {
            None => sql("delete from webhook where domain = $1").bind(&view.domain),
            Some(account) => sql("delete from webhook where domain = $1 and account_id = $2")
                .bind(&view.domain)
                .bind(account),
        }
        .run(tx)
        .await
        .map(drop)
    };
    store.write_plain(Urgency::Interactive, unit).await
}

/// A webhook as the one who logs events sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Its id.
    pub id: Id,
    /// The account whose events it wants; all of the domain when absent.
    pub account: Option<AccountId>,
    /// The kinds that it wants.
    pub kinds: EventKinds,
}

/// Who wants to be told of a domain.
pub async fn interests(conn: &mut Conn, domain: &str) -> Result<Vec<Interest>, StoreError> {
    sql("select id, account_id, kinds from webhook where domain = $1 and disabled_at = 0")
        .bind(domain)
        .all(conn, |row| {
            let account: AccountId = row.get(1)?;
            let account = Some(account).filter(|account| account.get() != 0);
            Ok(Interest { id: row.get(0)?, account, kinds: EventKinds::of_bits(row.get(2)?) })
        })
        .await
}
