//! Which deliveries an account has filed, so that a second try files nothing. A table of its own,
//! since the user may destroy the mail between two tries.

use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::AccountId;

/// How long a filed delivery is remembered: longer than any retry of it can take.
pub const KEPT_MS: i64 = 14 * 86_400_000;

/// Rows that one transaction trims.
const BATCH: i64 = 1_000;

/// Whether the account of the transaction has not filed this delivery yet; from now on it has.
pub async fn is_first(tx: &mut Tx, delivery_id: &str) -> Result<bool, StoreError> {
    let inserted = sql("insert into delivered (account_id, delivery_id, filed_at) values ($1, $2, $3) \
                        on conflict do nothing")
    .bind(tx.account())
    .bind(delivery_id)
    .bind(tx.now_ms())
    .run(tx)
    .await?;
    Ok(inserted == 1)
}

/// As `is_first`, for what is remembered as long as the account lives: an import can be run again
/// at any time.
pub async fn is_first_for_ever(tx: &mut Tx, delivery_id: &str) -> Result<bool, StoreError> {
    let inserted = sql("insert into delivered (account_id, delivery_id, filed_at) values ($1, $2, $3) \
                        on conflict do nothing")
    .bind(tx.account())
    .bind(delivery_id)
    .bind(i64::MAX)
    .run(tx)
    .await?;
    Ok(inserted == 1)
}

/// Which of these deliveries an account has filed.
pub async fn filed(
    conn: &mut Conn,
    account: AccountId,
    delivery_ids: &[String],
) -> Result<Vec<String>, StoreError> {
    sql("select delivery_id from delivered where account_id = $1 and delivery_id = any($2)")
        .bind(account)
        .bind(delivery_ids.to_vec())
        .column(conn)
        .await
}

/// Forgets the deliveries of an account that are older than `KEPT_MS`, a batch of them; whether there
/// are more.
pub async fn trim(store: &Store, account: AccountId) -> Result<bool, StoreError> {
    store
        .write_lane(account.get(), Urgency::Background, async move |tx: &mut Tx| {
            let cutoff = tx.now_ms() - KEPT_MS;
            let trimmed = sql("delete from delivered where account_id = $1 and delivery_id in \
                               (select delivery_id from delivered where account_id = $1 and filed_at < $2 \
                               order by filed_at limit $3)")
            .bind(account)
            .bind(cutoff)
            .bind(BATCH)
            .run(tx)
            .await?;
            Ok(trimmed == BATCH as u64)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;

    #[tokio::test]
    async fn a_delivery_is_first_once_for_two_weeks() {
        const { assert!(KEPT_MS >= 14 * 86_400_000, "a retry may come as late as that") };
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let alice = fixture.account("alice@example.test").await.account;
        let bob = fixture.account("bob@example.test").await.account;
        let file = async |account| {
            store.write(account, async move |tx: &mut Tx| is_first(tx, "d1").await).await.unwrap()
        };
        assert!(file(alice).await);
        assert!(!file(alice).await);
        assert!(file(bob).await, "another account files its own copy");
        fixture.clock.advance_ms(KEPT_MS);
        assert!(!trim(store, alice).await.unwrap());
        assert!(!file(alice).await);
        fixture.clock.advance_ms(1);
        assert!(!trim(store, alice).await.unwrap());
        assert!(file(alice).await);
        assert!(!file(bob).await, "a trim is of one account");
    }
}
