//! References to blobs, the bodies of small blobs, and the rows of large ones.
//!
//! A reference says why an account holds a blob: a login uploaded it, an Email or a submission is
//! made of it. References give access: an account without one cannot read the blob, and an upload
//! is read by the login that made it alone (RFC 8620, 6.1). A blob of at most `INLINE_MAX` octets
//! lives in `inline_blob`, once for each account that holds it, and goes with the account's last
//! reference; a larger one is an object, has a row in `blob`, and is collected by the sweep.
//! Where objects are is the business of `crate::blob`, not of this module.
//!
//! Every function that writes wants the account's transaction: that account's writers are
//! serialised, so that a body cannot go while another unit adds a reference to it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::value::Value;
use crate::types::blob_id::BlobHash;
use crate::types::id::{AccountId, Id};

/// Blobs of at most this many octets live in the database, larger ones in the object store. Queues
/// draw the line for waiting messages here too.
pub const INLINE_MAX: usize = 64 * 1024;

/// How long an upload is kept when nothing else refers to it, in milliseconds. RFC 8620, 6 asks
/// for an hour at least.
pub const UPLOAD_KEPT_MS: i64 = 24 * 3_600_000;

/// Hashes that one statement asks about.
const HASHES_PER_STATEMENT: usize = 1_000;

/// Why an account holds a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BlobSource {
    /// A login has uploaded it; the object is the login.
    Upload = 1,
    /// The octets of an Email.
    Email = 2,
    /// What a submission sends or has been answered with.
    Submission = 3,
}

impl BlobSource {
    fn number(self) -> i64 {
        self as i64
    }
}

/// Who reads: an account's blobs, seen by a login.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reader {
    /// Whose blobs.
    pub account: AccountId,
    /// Who reads them; 0 for the server itself, which sees no uploads.
    pub login: Id,
}

impl Reader {
    /// A login at an account to which the caller knows it has access.
    pub fn login(account: AccountId, login: Id) -> Reader {
        Reader { account, login }
    }
}

impl From<AccountId> for Reader {
    /// The server itself: it reads what objects of the account refer to, and no uploads.
    fn from(account: AccountId) -> Reader {
        Reader { account, login: Id(0) }
    }
}

/// A reference to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Of which blob.
    pub hash: BlobHash,
    /// By what.
    pub source: BlobSource,
    /// By which object of that kind.
    pub object_id: Id,
    /// Octets of the blob.
    pub size: i64,
    /// When an upload ends by itself, in milliseconds since 1970; 0 for never, as with all else.
    pub expires_at: i64,
}

/// The body of a small blob as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InlineBody {
    /// Octets of the blob itself.
    pub size: i64,
    /// Whether `body` is a zstd frame.
    pub is_zstd: bool,
    /// What is stored.
    pub body: Bytes,
}

/// What uploads of one login may take up in one account while nothing else refers to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UploadQuota {
    /// Octets in all.
    pub bytes: i64,
    /// Uploads in all.
    pub uploads: i64,
}

/// Adds references; one that is there already gets the new expiry.
pub async fn reference_add(tx: &mut Tx, references: &[Reference]) -> Result<(), StoreError> {
    let account = tx.account();
    let rows = references.iter().map(|reference| {
        vec![
            account.into(),
            reference.hash.into(),
            reference.source.number().into(),
            reference.object_id.into(),
            reference.size.into(),
            reference.expires_at.into(),
        ]
    });
    sql("insert into blob_reference (account_id, hash, source, object_id, size, expires_at) \
         values ($1, $2, $3, $4, $5, $6) \
         on conflict (account_id, hash, source, object_id) do update set expires_at = excluded.expires_at")
    .run_each(tx, rows.collect())
    .await?;
    Ok(())
}

/// Removes references of objects of one kind, and the bodies of small blobs to which none is left.
pub async fn reference_remove(
    tx: &mut Tx,
    source: BlobSource,
    references: &[(BlobHash, Id)],
) -> Result<(), StoreError> {
    let account = tx.account();
    let rows = references.iter().map(|(hash, object_id)| {
        vec![account.into(), (*hash).into(), source.number().into(), (*object_id).into()]
    });
    sql("delete from blob_reference \
         where account_id = $1 and hash = $2 and source = $3 and object_id = $4")
    .run_each(tx, rows.collect())
    .await?;
    let mut hashes: Vec<BlobHash> = references.iter().map(|(hash, _)| *hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    inline_collect(tx, &hashes).await
}

/// Removes the bodies to which the account has no reference left.
async fn inline_collect(tx: &mut Tx, hashes: &[BlobHash]) -> Result<(), StoreError> {
    for some in hashes.chunks(HASHES_PER_STATEMENT) {
        sql("delete from inline_blob where account_id = $1 and hash = any($2) and not exists \
             (select 1 from blob_reference r where r.account_id = $1 and r.hash = inline_blob.hash)")
        .bind(tx.account())
        .bind(some)
        .run(tx)
        .await?;
    }
    Ok(())
}

/// Stores the bodies of small blobs in the account; what is there already stays.
pub async fn inline_put(tx: &mut Tx, bodies: &[(BlobHash, InlineBody)]) -> Result<(), StoreError> {
    let account = tx.account();
    let rows = bodies.iter().map(|(hash, inline)| {
        vec![
            account.into(),
            (*hash).into(),
            inline.size.into(),
            inline.is_zstd.into(),
            Value::Blob(inline.body.clone()),
        ]
    });
    sql("insert into inline_blob (account_id, hash, size, is_zstd, body) values ($1, $2, $3, $4, $5) \
         on conflict (account_id, hash) do nothing")
    .run_each(tx, rows.collect())
    .await?;
    Ok(())
}

/// The stored bodies of those blobs that are small. Asks nothing about access: pass only what
/// `has_access` has let through.
pub async fn inline_get(
    conn: &mut Conn,
    account: AccountId,
    hashes: &[BlobHash],
) -> Result<HashMap<BlobHash, InlineBody>, StoreError> {
    let mut found = HashMap::with_capacity(hashes.len());
    for some in hashes.chunks(HASHES_PER_STATEMENT) {
        let rows = sql("select hash, size, is_zstd, body from inline_blob \
                        where account_id = $1 and hash = any($2)")
        .bind(account)
        .bind(some)
        .all(conn, |row| {
            let body = InlineBody { size: row.get(1)?, is_zstd: row.get(2)?, body: row.get(3)? };
            Ok((row.get(0)?, body))
        })
        .await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Which of these blobs the reader may read, with their sizes.
pub async fn has_access(
    conn: &mut Conn,
    reader: Reader,
    hashes: &[BlobHash],
) -> Result<HashMap<BlobHash, i64>, StoreError> {
    let mut found = HashMap::with_capacity(hashes.len());
    for some in hashes.chunks(HASHES_PER_STATEMENT) {
        // RFC 8620, 6.1: an unreferenced upload is seen by its uploader only. Source 1 is an upload.
        let rows = sql("select distinct hash, size from blob_reference \
                        where account_id = $1 and hash = any($2) and (source <> 1 or object_id = $3)")
        .bind(reader.account)
        .bind(some)
        .bind(reader.login)
        .all(conn, |row| Ok((row.get::<BlobHash>(0)?, row.get::<i64>(1)?)))
        .await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Adds the reference of an upload that expires in `UPLOAD_KEPT_MS`. A blob that the login has
/// uploaded before starts its time anew. When all of the login's uploads would take up more than
/// the quota, the oldest go (RFC 8620, 6); this one stays in any case, so check its size first.
pub async fn upload_add(
    tx: &mut Tx,
    login: Id,
    hash: BlobHash,
    size: i64,
    quota: UploadQuota,
) -> Result<(), StoreError> {
    let expires_at = tx.now_ms() + UPLOAD_KEPT_MS;
    let upload = Reference { hash, source: BlobSource::Upload, object_id: login, size, expires_at };
    reference_add(tx, &[upload]).await?;
    let (uploads, bytes) =
        sql("select count(*), cast(coalesce(sum(size), 0) as bigint) from blob_reference \
                                where account_id = $1 and expires_at > 0 and source = 1 and object_id = $2")
        .bind(tx.account())
        .bind(login)
        .first(tx, |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?)))
        .await?
        .unwrap_or_default();
    if uploads <= quota.uploads && bytes <= quota.bytes {
        return Ok(());
    }
    let oldest_first = sql("select hash, size from blob_reference \
                            where account_id = $1 and expires_at > 0 and source = 1 and object_id = $2 \
                            order by expires_at, hash")
    .bind(tx.account())
    .bind(login)
    .all(tx, |row| Ok((row.get::<BlobHash>(0)?, row.get::<i64>(1)?)))
    .await?;
    let (mut uploads, mut bytes) = (uploads, bytes);
    let mut evicted = Vec::new();
    for (old, size) in oldest_first.into_iter().filter(|(old, _)| *old != hash) {
        if uploads <= quota.uploads && bytes <= quota.bytes {
            break;
        }
        uploads -= 1;
        bytes -= size;
        evicted.push((old, login));
    }
    reference_remove(tx, BlobSource::Upload, &evicted).await
}

/// Removes at most `limit` uploads whose time is over; how many there were. Nothing but uploads
/// expires.
pub async fn expired_remove(tx: &mut Tx, limit: usize) -> Result<usize, StoreError> {
    let expired = sql("select hash, object_id from blob_reference \
                       where account_id = $1 and expires_at > 0 and expires_at <= $2 and source = 1 \
                       order by expires_at limit $3")
    .bind(tx.account())
    .bind(tx.now_ms())
    .bind(limit as i64)
    .all(tx, |row| Ok((row.get(0)?, row.get(1)?)))
    .await?;
    reference_remove(tx, BlobSource::Upload, &expired).await?;
    Ok(expired.len())
}

/// Removes everything that the account holds: for an account that goes. Takes the account as a
/// value, since its row may be gone already.
pub async fn purge(tx: &mut Tx, account: AccountId) -> Result<(), StoreError> {
    sql("delete from inline_blob where account_id = $1").bind(account).run(tx).await?;
    sql("delete from blob_reference where account_id = $1").bind(account).run(tx).await?;
    Ok(())
}

/// Announces that an object is about to be put or referenced: from now on the sweep leaves it
/// alone for its time of grace. False when the sweep is deleting it: wait and ask again.
pub async fn touch(tx: &mut Tx, hash: BlobHash, size: i64) -> Result<bool, StoreError> {
    let touched = sql("insert into blob (hash, size, touched_at) values ($1, $2, $3) \
                       on conflict (hash) do update set touched_at = excluded.touched_at \
                       where blob.deleting = 0")
    .bind(hash)
    .bind(size)
    .bind(tx.now_ms())
    .run(tx)
    .await?;
    Ok(touched > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{bare_account, store_in};
    use crate::types::clock::Clock;

    fn body() -> InlineBody {
        InlineBody { size: 3, is_zstd: false, body: Bytes::from_static(b"abc") }
    }

    #[tokio::test]
    async fn a_body_goes_with_the_last_reference_of_its_account() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path(), Clock::fixed(1_000));
        let (mine, other) = (bare_account(&store).await, bare_account(&store).await);
        let (one, two) = (BlobHash([1; 32]), BlobHash([2; 32]));
        for account in [mine, other] {
            let unit = async move |tx: &mut Tx| {
                let reference = |hash, source, object| Reference {
                    hash,
                    source,
                    object_id: Id(object),
                    size: 3,
                    expires_at: 0,
                };
                inline_put(tx, &[(one, body()), (two, body())]).await?;
                reference_add(
                    tx,
                    &[
                        reference(one, BlobSource::Email, 1),
                        reference(one, BlobSource::Submission, 1),
                        reference(two, BlobSource::Email, 2),
                    ],
                )
                .await
            };
            store.write(account, unit).await.unwrap();
        }
        let found = async |account: AccountId| {
            let mut snapshot = store.read().await.unwrap();
            let bodies = inline_get(&mut snapshot, account, &[one, two]).await.unwrap();
            let readable = has_access(&mut snapshot, account.into(), &[one, two]).await.unwrap();
            assert_eq!(bodies.len(), readable.len());
            let mut found: Vec<BlobHash> = bodies.into_keys().collect();
            found.sort();
            found
        };
        let remove = async |source: BlobSource, removed: Vec<(BlobHash, Id)>| {
            let unit = async move |tx: &mut Tx| reference_remove(tx, source, &removed).await;
            store.write(mine, unit).await.unwrap();
        };
        remove(BlobSource::Email, vec![(one, Id(1)), (two, Id(3))]).await;
        assert_eq!(found(mine).await, [one, two]);
        remove(BlobSource::Submission, vec![(one, Id(1))]).await;
        assert_eq!(found(mine).await, [two]);
        remove(BlobSource::Email, vec![(two, Id(2))]).await;
        assert_eq!(found(mine).await, []);
        assert_eq!(found(other).await, [one, two]);
    }

    #[tokio::test]
    async fn the_oldest_uploads_of_the_login_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path(), Clock::fixed(1_000));
        let account = bare_account(&store).await;
        let hash = |number| BlobHash([number; 32]);
        let quota = UploadQuota { bytes: 100, uploads: 3 };
        let upload = async |login: i64, number: u8, size: i64| {
            store.clock().advance_ms(1);
            let unit = async move |tx: &mut Tx| upload_add(tx, Id(login), hash(number), size, quota).await;
            store.write(account, unit).await.unwrap();
            let mut snapshot = store.read().await.unwrap();
            let hashes: Vec<BlobHash> = (1..=9).map(hash).collect();
            let reader = Reader::login(account, Id(login));
            let found = has_access(&mut snapshot, reader, &hashes).await.unwrap();
            let mut found: Vec<u8> = found.into_keys().map(|hash| hash.0[0]).collect();
            found.sort_unstable();
            found
        };
        upload(5, 1, 10).await;
        upload(5, 2, 10).await;
        assert_eq!(upload(6, 8, 100).await, [8]);
        assert_eq!(upload(5, 3, 10).await, [1, 2, 3]);
        // Uploaded again, 1 is the newest.
        assert_eq!(upload(5, 1, 10).await, [1, 2, 3]);
        assert_eq!(upload(5, 4, 10).await, [1, 3, 4]);
        assert_eq!(upload(5, 5, 85).await, [4, 5]);
        assert_eq!(upload(5, 6, 100).await, [6]);
    }
}
