//! Keys that all processes of a server share: what one of them has signed, the others can read.

use bytes::Bytes;

use crate::store::Store;
use crate::store::db::sql;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;

/// The key of a name, 32 random octets, made when it is first asked for.
pub async fn get(store: &Store, name: &'static str) -> Result<[u8; 32], StoreError> {
    let key = get_or(store, name, || Bytes::copy_from_slice(&rand::random::<[u8; 32]>())).await?;
    let length = key.len();
    key.as_ref().try_into().map_err(|_| StoreError::corrupt_value("server_key", &length))
}

/// The key of a name, made so when it is first asked for.
pub async fn get_or(
    store: &Store,
    name: &'static str,
    make: impl FnOnce() -> Bytes,
) -> Result<Bytes, StoreError> {
    let read = move || sql("select key from server_key where name = $1").bind(name);
    let known = read().value::<Bytes>(&mut *store.read().await?).await?;
    match known {
        Some(key) => Ok(key),
        None => {
            let new = make();
            let unit = async move |tx: &mut Tx| {
                // Another process may be doing the same: the first one's counts.
                sql("insert into server_key (name, key) values ($1, $2) on conflict do nothing")
                    .bind(name)
                    .bind(new.clone())
                    .run(tx)
                    .await?;
                read().value::<Bytes>(tx).await
            };
            let made = store.write_plain(Urgency::Interactive, unit).await?;
            made.ok_or_else(|| StoreError::corrupt_value("server_key", &"it is not there"))
        }
    }
}

/// Whether the database answers: one row that every node has.
pub async fn look(store: &Store) -> Result<(), StoreError> {
    let name = "ticket";
    let found = sql("select name from server_key where name = $1").bind(name);
    found.value::<String>(&mut *store.read().await?).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;

    #[tokio::test]
    async fn a_key_is_made_once() {
        let fixture = Fixture::new().await;
        let key = get(&fixture.store, "one").await.unwrap();
        assert_eq!(get(&fixture.store, "one").await.unwrap(), key);
        assert_ne!(get(&fixture.store, "two").await.unwrap(), key);
    }
}
