//! Vacation replies (RFC 8621, 8): the settings of an account, and who has been answered when.
//!
//! What a message itself forbids (RFC 3834) is the business of `mail::auto_reply`; here is whether
//! the account wants a reply at all, and whether the sender has had one lately.

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// The id that stands in the change log for the one VacationResponse of an account.
pub const SINGLETON: Id = Id(1);

/// How long a sender who was answered is not answered again, in milliseconds (RFC 3834, 2 advises
/// seven days).
pub const INTERVAL_MS: i64 = 7 * 86_400_000;

/// Rows of senders answered long ago that go with each new one.
const TRIMMED_AT_ONCE: i64 = 100;

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacation {
    /// Whether replies are sent at all.
    pub is_enabled: bool,
    /// From when, in milliseconds since 1970.
    pub from_date: Option<i64>,
    /// Until before when, in milliseconds since 1970.
    pub to_date: Option<i64>,
    /// The subject of replies.
    pub subject: Option<String>,
    /// Their text.
    pub text_body: Option<String>,
    /// Their HTML.
    pub html_body: Option<String>,
}

impl Vacation {
    /// Whether a message that arrives at this time gets a reply.
    pub fn is_active(&self, now_ms: i64) -> bool {
        self.is_enabled
            && self.from_date.is_none_or(|from| now_ms >= from)
            && self.to_date.is_none_or(|to| now_ms < to)
    }
}

/// The settings of an account; those of one that has never set any are the default.
pub async fn get(conn: &mut Conn, account: AccountId) -> Result<Vacation, StoreError> {
    let found = sql("select is_enabled, from_date, to_date, subject, text_body, html_body from vacation \
                     where account_id = $1")
    .bind(account)
    .first(conn, |row| {
        Ok(Vacation {
            is_enabled: row.get(0)?,
            from_date: row.get(1)?,
            to_date: row.get(2)?,
            subject: row.get(3)?,
            text_body: row.get(4)?,
            html_body: row.get(5)?,
        })
    })
    .await?;
    Ok(found.unwrap_or_default())
}

/// Writes the settings of the transaction's account.
pub async fn put(tx: &mut Tx, vacation: &Vacation) -> Result<(), StoreError> {
    sql("insert into vacation (account_id, is_enabled, from_date, to_date, subject, text_body, html_body) \
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (account_id) do update set \
         is_enabled = excluded.is_enabled, from_date = excluded.from_date, to_date = excluded.to_date, \
         subject = excluded.subject, text_body = excluded.text_body, html_body = excluded.html_body")
    .bind(tx.account())
    .bind(vacation.is_enabled)
    .bind(vacation.from_date)
    .bind(vacation.to_date)
    .bind(vacation.subject.as_deref())
    .bind(vacation.text_body.as_deref())
    .bind(vacation.html_body.as_deref())
    .run(tx)
    .await?;
    tx.updated(ObjectType::VacationResponse, SINGLETON, 0);
    Ok(())
}

/// The settings, when a message of this sender that arrives now is to be answered. To be asked
/// before the reply is made; `claim_reply` is what makes sure that there is one only.
pub async fn due_reply(
    conn: &mut Conn,
    account: AccountId,
    sender: &Address,
    now_ms: i64,
) -> Result<Option<Vacation>, StoreError> {
    let vacation = get(conn, account).await?;
    if !vacation.is_active(now_ms) {
        return Ok(None);
    }
    let lately = sql("select sent_at from vacation_sent where account_id = $1 and address = $2 \
                      and sent_at > $3")
    .bind(account)
    .bind(sender.to_string())
    .bind(now_ms - INTERVAL_MS)
    .value::<i64>(conn)
    .await?;
    Ok(lately.is_none().then_some(vacation))
}

/// Notes that a sender is answered now, in the transaction that queues the reply; false when that
/// must not be, since another reply came first or the settings have changed.
pub async fn claim_reply(tx: &mut Tx, sender: &Address, now_ms: i64) -> Result<bool, StoreError> {
    let account = tx.account();
    if due_reply(tx, account, sender, now_ms).await?.is_none() {
        return Ok(false);
    }
    sql("insert into vacation_sent (account_id, address, sent_at) values ($1, $2, $3) \
         on conflict (account_id, address) do update set sent_at = excluded.sent_at")
    .bind(account)
    .bind(sender.to_string())
    .bind(now_ms)
    .run(tx)
    .await?;
    sql("delete from vacation_sent where account_id = $1 and address in \
         (select address from vacation_sent where account_id = $1 and sent_at <= $2 \
         order by sent_at limit $3)")
    .bind(account)
    .bind(now_ms - INTERVAL_MS)
    .bind(TRIMMED_AT_ONCE)
    .run(tx)
    .await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;

    const NOW: i64 = 1_750_000_000_000;

    fn sender(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    async fn set(fixture: &Fixture, account: AccountId, vacation: &Vacation) {
        let vacation = vacation.clone();
        fixture.store.write(account, async move |tx: &mut Tx| put(tx, &vacation).await).await.unwrap();
    }

    async fn claim(fixture: &Fixture, account: AccountId, from: &str, now_ms: i64) -> bool {
        let from = sender(from);
        let mut snapshot = fixture.store.read().await.unwrap();
        let is_due = due_reply(&mut snapshot, account, &from, now_ms).await.unwrap().is_some();
        drop(snapshot);
        let unit = async move |tx: &mut Tx| claim_reply(tx, &from, now_ms).await;
        let is_claimed = fixture.store.write(account, unit).await.unwrap();
        assert_eq!(is_due, is_claimed);
        is_claimed
    }

    #[tokio::test]
    async fn a_sender_is_answered_once_in_a_week() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let other = fixture.account("bob@example.test").await.account;
        assert!(!claim(&fixture, account, "x@remote.test", NOW).await, "off unless switched on");
        let vacation = Vacation { is_enabled: true, subject: Some("Away".into()), ..Vacation::default() };
        for account in [account, other] {
            set(&fixture, account, &vacation).await;
        }
        assert!(claim(&fixture, account, "x@remote.test", NOW).await);
        assert!(!claim(&fixture, account, "X@Remote.TEST", NOW).await);
        assert!(claim(&fixture, account, "y@remote.test", NOW + 1).await);
        assert!(claim(&fixture, other, "x@remote.test", NOW).await, "another account answers for itself");
        assert!(!claim(&fixture, account, "x@remote.test", NOW + INTERVAL_MS - 1).await);
        assert!(claim(&fixture, account, "x@remote.test", NOW + INTERVAL_MS).await);
        assert!(!claim(&fixture, account, "x@remote.test", NOW + INTERVAL_MS).await);
        // What is over is forgotten.
        assert!(claim(&fixture, account, "z@remote.test", NOW + INTERVAL_MS + 2).await);
        let mut snapshot = fixture.store.read().await.unwrap();
        let kept = sql("select address from vacation_sent where account_id = $1 order by address")
            .bind(account)
            .column::<String>(&mut snapshot)
            .await
            .unwrap();
        assert_eq!(kept, ["x@remote.test", "z@remote.test"]);
        assert_eq!(get(&mut snapshot, account).await.unwrap(), vacation);
    }

    #[tokio::test]
    async fn a_reply_keeps_to_its_dates() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let mut vacation = Vacation {
            is_enabled: true,
            from_date: Some(NOW),
            to_date: Some(NOW + 10),
            ..Vacation::default()
        };
        set(&fixture, account, &vacation).await;
        for (now_ms, from, due) in [
            (NOW - 1, "a@remote.test", false),
            (NOW, "b@remote.test", true),
            (NOW + 9, "c@remote.test", true),
            (NOW + 10, "d@remote.test", false),
        ] {
            assert_eq!(claim(&fixture, account, from, now_ms).await, due, "{from}");
        }
        vacation.is_enabled = false;
        set(&fixture, account, &vacation).await;
        assert!(!claim(&fixture, account, "e@remote.test", NOW).await);
    }
}
