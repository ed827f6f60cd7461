//! Blobs made ready outside a transaction, to be referred to inside it.

use std::time::Duration;

use bytes::Bytes;

use crate::blob::BlobError;
use crate::blob::{Blobs, blocking};
use crate::store::blob::{self, BlobSource, INLINE_MAX, InlineBody, Reader, Reference, UploadQuota};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::id::Id;

/// How long after its preparation a large blob can be referred to, in milliseconds. The sweep
/// leaves it alone for much longer.
pub const PREPARED_KEPT_MS: i64 = 30 * 60_000;

/// How long a writer waits for a sweep that is just deleting the same object.
const DELETING_WAITS: u32 = 40;
const DELETING_WAIT: Duration = Duration::from_millis(250);

/// Smaller bodies gain nothing from zstd.
const ZSTD_MIN: usize = 512;
const ZSTD_LEVEL: i32 = 3;
/// Hashing more than this at once is not done on an async thread.
const HASH_IN_PLACE: usize = 256 * 1024;

/// A blob that is safe to refer to. Cheap to clone, so that a unit of work can own it.
#[derive(Clone, Debug)]
pub struct PreparedBlob {
    hash: BlobHash,
    size: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// Travels with the reference.
    Inline(InlineBody),
    /// Is in the object store, touched at this time.
    Object { touched_at_ms: i64 },
}

/// What to refer to, from where.
#[derive(Clone, Debug)]
pub struct PreparedReference {
    /// The blob.
    pub blob: PreparedBlob,
    /// By what.
    pub source: BlobSource,
    /// By which object.
    pub object_id: Id,
    /// Milliseconds since 1970; 0 for never.
    pub expires_at: i64,
}

impl PreparedBlob {
    /// Its name.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Octets.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Refers to the blob from the account of the transaction. Fails with `StoreError::Busy` when
    /// the blob was prepared too long ago: prepare it again.
    pub async fn reference(
        &self,
        tx: &mut Tx,
        source: BlobSource,
        object_id: Id,
        expires_at: i64,
    ) -> Result<(), StoreError> {
        let reference = PreparedReference { blob: self.clone(), source, object_id, expires_at };
        reference_all(tx, &[reference]).await
    }

    /// Refers to the blob as an upload of a login, which expires by itself. The login's oldest
    /// uploads make room for it when need be (RFC 8620, 6).
    pub async fn reference_upload(
        &self,
        tx: &mut Tx,
        login: Id,
        quota: UploadQuota,
    ) -> Result<(), StoreError> {
        blob::inline_put(tx, &bodies(tx.now_ms(), [self])?).await?;
        blob::upload_add(tx, login, self.hash, self.size_in_store(), quota).await
    }

    fn size_in_store(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }
}

/// Refers to many blobs from the account of the transaction; see `PreparedBlob::reference`.
pub async fn reference_all(tx: &mut Tx, references: &[PreparedReference]) -> Result<(), StoreError> {
    let bodies = bodies(tx.now_ms(), references.iter().map(|reference| &reference.blob))?;
    blob::inline_put(tx, &bodies).await?;
    let references: Vec<Reference> = references
        .iter()
        .map(|reference| Reference {
            hash: reference.blob.hash,
            source: reference.source,
            object_id: reference.object_id,
            size: reference.blob.size_in_store(),
            expires_at: reference.expires_at,
        })
        .collect();
    blob::reference_add(tx, &references).await
}

/// The bodies that travel with references, once it is sure that the objects of the others stay.
fn bodies<'a>(
    now_ms: i64,
    blobs: impl IntoIterator<Item = &'a PreparedBlob>,
) -> Result<Vec<(BlobHash, InlineBody)>, StoreError> {
    let mut bodies = Vec::new();
    for blob in blobs {
        match &blob.body {
            Body::Inline(body) => bodies.push((blob.hash, body.clone())),
            // A process that slept in between must not refer to what a sweep may have deleted.
            Body::Object { touched_at_ms } if now_ms - touched_at_ms > PREPARED_KEPT_MS => {
                return Err(StoreError::Busy);
            }
            Body::Object { .. } => {}
        }
    }
    Ok(bodies)
}

impl Blobs {
    /// Makes octets ready to be referred to. Large ones are in the object store, synced, when this
    /// returns; small ones travel with the reference. Never inside a unit of work.
    pub async fn prepare(&self, content: Bytes) -> Result<PreparedBlob, BlobError> {
        if content.len() <= INLINE_MAX {
            return Ok(inline(&content));
        }
        self.put(content).await
    }

    /// Makes a blob that the reader can read ready to be referred to from wherever, another account
    /// among them, without reading a large one. `None` when there is no such blob for the reader.
    pub async fn prepare_existing(
        &self,
        reader: impl Into<Reader>,
        hash: BlobHash,
    ) -> Result<Option<PreparedBlob>, BlobError> {
        let reader = reader.into();
        let (size, body) = {
            let mut snapshot = self.store.read().await?;
            let Some(size) = blob::has_access(&mut snapshot, reader, &[hash]).await?.remove(&hash) else {
                return Ok(None);
            };
            (size, blob::inline_get(&mut snapshot, reader.account, &[hash]).await?.remove(&hash))
        };
        let size = size.unsigned_abs();
        if let Some(body) = body {
            return Ok(Some(PreparedBlob { hash, size, body: Body::Inline(body) }));
        }
        let touched_at_ms = self.touch(hash, size).await?;
        // Once it is touched it stays, but the reference may have gone, and the object with it,
        // between the two.
        if !self.inner.objects.is_there(hash).await? {
            return Ok(None);
        }
        Ok(Some(PreparedBlob { hash, size, body: Body::Object { touched_at_ms } }))
    }

    /// Puts a message that is about to wait in the incoming queue into the object store, synced.
    /// For those over `INLINE_MAX`; smaller ones wait in the database. The object is the message's
    /// final one: the waiting row (`is_staged`) keeps it until accounts refer to it, and nothing is
    /// copied when they do, nor to be removed when the row goes.
    pub async fn stage(&self, content: Bytes) -> Result<(BlobHash, u64), BlobError> {
        let prepared = self.put(content).await?;
        Ok((prepared.hash, prepared.size))
    }

    /// Makes a staged message ready to be referred to. The caller holds the waiting row, which goes
    /// only after the last account has committed its reference.
    pub async fn prepare_staged(&self, hash: BlobHash, size: u64) -> Result<PreparedBlob, BlobError> {
        let touched_at_ms = self.touch(hash, size).await?;
        Ok(PreparedBlob { hash, size, body: Body::Object { touched_at_ms } })
    }

    async fn put(&self, content: Bytes) -> Result<PreparedBlob, BlobError> {
        let hash = if content.len() <= HASH_IN_PLACE {
            BlobHash::of(&content)
        } else {
            let content = content.clone();
            blocking(move || Ok(BlobHash::of(&content))).await?
        };
        let size = content.len() as u64;
        self.inner.objects.check()?;
        let touched_at_ms = self.touch(hash, size).await?;
        self.inner.objects.put(hash, content).await?;
        Ok(PreparedBlob { hash, size, body: Body::Object { touched_at_ms } })
    }

    /// Puts the octets of a file; `hash` and `size` are theirs.
    pub(in crate::blob) async fn put_file(
        &self,
        hash: BlobHash,
        size: u64,
        file: std::fs::File,
    ) -> Result<PreparedBlob, BlobError> {
        self.inner.objects.check()?;
        let touched_at_ms = self.touch(hash, size).await?;
        self.inner.objects.put_file(hash, size, file).await?;
        Ok(PreparedBlob { hash, size, body: Body::Object { touched_at_ms } })
    }

    /// Keeps the sweep off an object that is about to be put or referred to; the time from which it
    /// counts. Waits when the sweep is just deleting it.
    async fn touch(&self, hash: BlobHash, size: u64) -> Result<i64, BlobError> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        for _ in 0..DELETING_WAITS {
            let unit = async move |tx: &mut Tx| Ok((tx.now_ms(), blob::touch(tx, hash, size).await?));
            let (now_ms, is_touched) = self.store.write_plain(Urgency::Interactive, unit).await?;
            if is_touched {
                return Ok(now_ms);
            }
            tokio::time::sleep(DELETING_WAIT).await;
        }
        Err(BlobError::Unavailable("an object of the same content is being deleted; try again".into()))
    }
}

/// A small blob, compressed where it pays.
pub(in crate::blob) fn inline(content: &Bytes) -> PreparedBlob {
    let size = content.len() as i64;
    let body = match compressed(content) {
        Some(body) => InlineBody { size, is_zstd: true, body },
        None => InlineBody { size, is_zstd: false, body: content.clone() },
    };
    PreparedBlob { hash: BlobHash::of(content), size: content.len() as u64, body: Body::Inline(body) }
}

fn compressed(content: &[u8]) -> Option<Bytes> {
    if content.len() < ZSTD_MIN {
        return None;
    }
    let body = zstd::bulk::compress(content, ZSTD_LEVEL).ok()?;
    // An eighth saved at least, or reading is not worth the work.
    (body.len() <= content.len() / 8 * 7).then(|| body.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::testing::{Bench, QUOTA, noise, on_a_full_disk};

    #[tokio::test]
    async fn small_and_large_blobs_read_back_and_are_stored_once() {
        let bench = Bench::new();
        let account = bench.account().await;
        let text = Bytes::from("the same line again\n".repeat(2_000));
        for content in [Bytes::new(), noise(1, 100), text.clone(), noise(2, INLINE_MAX), noise(3, 300_000)] {
            for number in [1, 2] {
                let hash = bench.email(account, number, &content).await;
                assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(content.clone()));
                assert_eq!(bench.blobs.size(account, &hash).await.unwrap(), Some(content.len() as u64));
            }
        }
        assert_eq!(bench.objects(), 1);
        assert_eq!(bench.count("select count(*) from inline_blob").await, 4);
        assert_eq!(bench.count("select count(*) from blob_reference").await, 10);
        assert_eq!(bench.count("select cast(sum(is_zstd) as bigint) from inline_blob").await, 1);
        assert!(bench.count("select min(length(body)) from inline_blob where is_zstd = 1").await < 1_000);
    }

    #[tokio::test]
    async fn a_put_is_never_left_out_because_the_object_seems_to_be_there() {
        let bench = Bench::new();
        let account = bench.account().await;
        let content = noise(1, INLINE_MAX + 1);
        let hash = bench.email(account, 1, &content).await;
        let name: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = bench.folder.path().join("blobs").join(&name[..2]).join(&name[2..4]).join(&name);
        // What a power cut leaves of an object that was never synced.
        std::fs::write(&path, b"half of").unwrap();
        assert!(bench.blobs.read(account, &hash).await.is_err());
        bench.blobs.prepare(content.clone()).await.unwrap();
        assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(content.clone()));
        std::fs::write(&path, b"half of").unwrap();
        bench
            .blobs
            .prepare_stream(futures_util::stream::iter([Ok::<_, String>(content.clone())]), 1 << 30)
            .await
            .unwrap();
        assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(content));
    }

    #[tokio::test]
    async fn a_blob_of_another_account_is_not_there() {
        let bench = Bench::new();
        let (mine, other) = (bench.account().await, bench.account().await);
        for content in [noise(1, 1_000), noise(2, INLINE_MAX + 1)] {
            let hash = bench.email(mine, 1, &content).await;
            assert!(bench.blobs.read(other, &hash).await.unwrap().is_none());
            assert!(bench.blobs.size(other, &hash).await.unwrap().is_none());
            assert!(bench.blobs.stream_range(other, &hash, None).await.unwrap().is_none());
            assert!(bench.blobs.prepare_existing(other, hash).await.unwrap().is_none());
            assert!(bench.blobs.read(mine, &hash).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn an_upload_is_seen_by_its_uploader_until_something_refers_to_it() {
        let bench = Bench::new();
        let account = bench.account().await;
        let (uploader, other) = (Reader::login(account, Id(5)), Reader::login(account, Id(6)));
        let blob = bench.blobs.prepare(noise(1, 1_000)).await.unwrap();
        let hash = blob.hash();
        let unit = async move |tx: &mut Tx| blob.reference_upload(tx, Id(5), QUOTA).await;
        bench.store.write(account, unit).await.unwrap();
        assert!(bench.blobs.read(uploader, &hash).await.unwrap().is_some());
        assert!(bench.blobs.read(other, &hash).await.unwrap().is_none());
        assert!(bench.blobs.read(account, &hash).await.unwrap().is_none());
        bench.email(account, 1, &noise(1, 1_000)).await;
        assert!(bench.blobs.read(other, &hash).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_blob_is_copied_to_another_account_without_its_octets() {
        let bench = Bench::new();
        let (mine, other) = (bench.account().await, bench.account().await);
        for content in [noise(1, 1_000), noise(2, INLINE_MAX + 1)] {
            let hash = bench.email(mine, 1, &content).await;
            let blob = bench.blobs.prepare_existing(mine, hash).await.unwrap().unwrap();
            let unit = async move |tx: &mut Tx| blob.reference(tx, BlobSource::Email, Id(1), 0).await;
            bench.store.write(other, unit).await.unwrap();
            bench.remove_email(mine, 1, hash).await;
            assert!(bench.blobs.read(mine, &hash).await.unwrap().is_none());
            assert_eq!(bench.blobs.read(other, &hash).await.unwrap(), Some(content));
        }
    }

    #[tokio::test]
    async fn a_large_blob_prepared_too_long_ago_is_refused() {
        let bench = Bench::new();
        let account = bench.account().await;
        let blob = bench.blobs.prepare(noise(1, INLINE_MAX + 1)).await.unwrap();
        bench.clock.advance_ms(PREPARED_KEPT_MS + 1);
        let unit = async move |tx: &mut Tx| blob.reference(tx, BlobSource::Email, Id(1), 0).await;
        assert!(matches!(bench.store.write(account, unit).await, Err(StoreError::Busy)));
    }

    #[tokio::test]
    async fn on_a_full_disk_large_blobs_fail_as_full_and_small_ones_pass() {
        let bench = Bench::new();
        let tmp = bench.folder.path().join("tmp");
        let blobs = on_a_full_disk(&tmp, bench.store.clone());
        assert!(matches!(blobs.ready().await, Err(BlobError::Full)));
        assert!(matches!(blobs.prepare(noise(1, INLINE_MAX + 1)).await, Err(BlobError::Full)));
        let chunk = Ok::<_, String>(noise(1, INLINE_MAX + 1));
        let stream = futures_util::stream::iter([chunk]);
        assert!(matches!(blobs.prepare_stream(stream, 1 << 30).await, Err(BlobError::Full)));
        assert!(blobs.prepare(noise(1, INLINE_MAX)).await.is_ok());
        assert!(bench.blobs.ready().await.is_ok());
    }
}
