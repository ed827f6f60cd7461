//! Requests that must not be done twice, by the key that their sender gives them (Idempotency-Key): the
//! answer is stored in the transaction that does what was asked, and told again for a day.

use bytes::Bytes;

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::id::AccountId;

/// How long an answer is kept.
const KEPT_MS: i64 = 24 * 3_600_000;
/// Expired answers that a new one takes away at most.
const TRIMMED_AT_ONCE: i64 = 100;

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is to be done.
    New,
    /// It was done; the answer.
    Done(String),
    /// Another request came with the same key.
    Other,
}

/// Looks a request up. What a snapshot does not know may be under way: only within a unit on the account,
/// whose requests come one after the other, is it known to be new.
pub async fn look(
    conn: &mut Conn,
    account: AccountId,
    now_ms: i64,
    key: &str,
    request_hash: &Bytes,
) -> Result<Known, StoreError> {
    let found = sql("select request_hash, answer from idempotency \
                     where account_id = $1 and idempotency_key = $2 and expires_at > $3")
    .bind(account)
    .bind(key)
    .bind(now_ms)
    .first(conn, |row| Ok((row.get::<Bytes>(0)?, row.get::<String>(1)?)))
    .await?;
    Ok(match found {
        None => Known::New,
        Some((hash, answer)) if hash == *request_hash => Known::Done(answer),
        Some(_) => Known::Other,
    })
}

/// Keeps the answer to a request.
pub async fn keep(tx: &mut Tx, key: &str, request_hash: Bytes, answer: &str) -> Result<(), StoreError> {
    let (account, now_ms) = (tx.account(), tx.now_ms());
    sql("delete from idempotency where account_id = $1 and idempotency_key in \
         (select idempotency_key from idempotency where account_id = $1 and expires_at <= $2 \
         order by expires_at limit $3)")
    .bind(account)
    .bind(now_ms)
    .bind(TRIMMED_AT_ONCE)
    .run(tx)
    .await?;
    sql("insert into idempotency (account_id, idempotency_key, request_hash, answer, expires_at) \
         values ($1, $2, $3, $4, $5) on conflict (account_id, idempotency_key) do update \
         set request_hash = excluded.request_hash, answer = excluded.answer, expires_at = excluded.expires_at")
    .bind(account)
    .bind(key)
    .bind(request_hash)
    .bind(answer)
    .bind(now_ms + KEPT_MS)
    .run(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;

    #[tokio::test]
    async fn an_answer_is_told_again_for_a_day_and_to_the_same_request_only() {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let other = fixture.account("bob@example.test").await.account;
        let hash = |text: &str| Bytes::copy_from_slice(blake3::hash(text.as_bytes()).as_bytes());
        let look_at = async |account, text: &str| {
            let mut snapshot = fixture.store.read().await.unwrap();
            look(&mut snapshot, account, fixture.store.clock().now_ms(), "key", &hash(text)).await.unwrap()
        };
        let keep_for = async |answer: &'static str| {
            let hash = hash("request");
            let unit = async move |tx: &mut Tx| keep(tx, "key", hash, answer).await;
            fixture.store.write(account, unit).await.unwrap();
        };
        assert_eq!(look_at(account, "request").await, Known::New);
        keep_for("answer").await;
        assert_eq!(look_at(account, "request").await, Known::Done("answer".to_owned()));
        assert_eq!(look_at(account, "another").await, Known::Other);
        assert_eq!(look_at(other, "request").await, Known::New);
        fixture.clock.advance_ms(KEPT_MS);
        assert_eq!(look_at(account, "another").await, Known::New);
        keep_for("later").await;
        assert_eq!(look_at(account, "request").await, Known::Done("later".to_owned()));
    }
}
