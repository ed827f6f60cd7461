//! The way of objects from one place to another, of whatever kind: `postrider copy`.

use std::collections::BTreeSet;
use std::io::Write;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::blob::upload::nameless_file;
use crate::blob::{BlobError, Blobs, blocking};
use crate::store::cluster::sweep::{blob_needed, blob_page};
use crate::types::blob_id::{BlobHash, BlobHasher};

/// Objects of which the database is asked at once.
const PAGE: usize = 500;
/// Objects on their way at a time.
const AT_ONCE: usize = 8;
/// Octets that are read at once; a larger object goes through a file.
const PIECE: u64 = 4 << 20;

/// What became of the objects.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Copied {
    /// Objects that are there now.
    pub objects: u64,
    /// Octets that went over now.
    pub octets: u64,
    /// Objects that nothing refers to, which stay where they are: the next sweep would remove them.
    pub unneeded: u64,
}

/// Copies every object that something in the database of `from` refers to, each compared with the hash that it
/// is named by. What is there already is not sent again. `looked` hears how many were looked at.
pub async fn copy_all(from: &Blobs, to: &Blobs, mut looked: impl FnMut(u64)) -> Result<Copied, BlobError> {
    let (mut sum, mut after) = (Copied::default(), None);
    loop {
        let mut snapshot = from.store.read().await?;
        let page = blob_page(&mut snapshot, after, i64::MAX, PAGE).await?;
        let Some(last) = page.last() else { return Ok(sum) };
        after = Some(last.hash);
        let hashes: Vec<BlobHash> = page.iter().map(|row| row.hash).collect();
        let needed: BTreeSet<BlobHash> = blob_needed(&mut snapshot, &hashes).await?.into_iter().collect();
        drop(snapshot);
        let unneeded = (hashes.len() - needed.len()) as u64;
        sum.unneeded += unneeded;
        looked(unneeded);
        let mut under_way =
            stream::iter(needed.into_iter().map(|hash| copy(from, to, hash))).buffer_unordered(AT_ONCE);
        while let Some(octets) = under_way.try_next().await? {
            sum.objects += 1;
            sum.octets += octets;
            looked(1);
        }
    }
}

/// Copies an object; the octets that were sent.
async fn copy(from: &Blobs, to: &Blobs, hash: BlobHash) -> Result<u64, BlobError> {
    if to.inner.objects.is_there(hash).await? {
        return Ok(0);
    }
    let size = from.inner.objects.size(hash).await?;
    if size <= PIECE {
        let content = from.inner.objects.get(hash).await?;
        to.inner.objects.put(hash, content).await?;
        return Ok(size);
    }
    let path = to.inner.temporary.join(format!("copy-{hash}"));
    let mut written = (blocking(move || nameless_file(&path)).await?, BlobHasher::new());
    let mut at = 0;
    while at < size {
        let end = size.min(at + PIECE);
        let piece: Bytes = from.inner.objects.get_range(hash, at..end).await?;
        written = blocking(move || {
            let (mut file, mut hasher) = written;
            hasher.update(&piece);
            file.write_all(&piece)?;
            Ok((file, hasher))
        })
        .await?;
        at = end;
    }
    let (file, hasher) = written;
    if hasher.finish() != hash {
        return Err(BlobError::Corrupt(hash));
    }
    to.inner.objects.put_file(hash, size, file).await?;
    Ok(size)
}
