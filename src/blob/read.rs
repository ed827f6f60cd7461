//! Reading blobs, by accounts that may.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::blob::BlobError;
use crate::blob::{Blobs, blocking};
use crate::mail::transfer;
use crate::store::blob::{self, InlineBody, Reader};
use crate::types::blob_id::{BlobHash, BlobHasher, BlobId, Encoding, Step};

/// Objects read at the same time for one caller.
const READS_AT_ONCE: usize = 8;
/// Octets of a piece of a stream.
const STREAM_PIECE: u64 = 1024 * 1024;
/// Unpacking more than this at once is not done on an async thread.
const UNPACK_IN_PLACE: usize = 256 * 1024;

/// Octets of a blob, in pieces.
pub struct BlobStream {
    /// Octets of the whole blob.
    pub size: u64,
    /// Which of them come.
    pub range: Range<u64>,
    /// They, in order. Of a whole blob the last piece is withheld, and an error comes instead, when
    /// the octets do not have the blob's hash.
    pub pieces: BoxStream<'static, Result<Bytes, BlobError>>,
}

/// Where a blob was found.
struct Found {
    size: u64,
    inline: Option<InlineBody>,
}

impl Blobs {
    /// A whole blob. `None` when the reader may not read it or it does not exist: the two are not
    /// told apart.
    pub async fn read(&self, reader: impl Into<Reader>, hash: &BlobHash) -> Result<Option<Bytes>, BlobError> {
        Ok(self.read_many(reader, &[*hash]).await?.remove(hash))
    }

    /// Whole blobs, as far as the reader may read them.
    pub async fn read_many(
        &self,
        reader: impl Into<Reader>,
        hashes: &[BlobHash],
    ) -> Result<HashMap<BlobHash, Bytes>, BlobError> {
        let mut small = Vec::new();
        let mut large = Vec::new();
        for (hash, found) in self.find(reader.into(), hashes).await? {
            match found.inline {
                Some(body) => small.push((hash, body)),
                None => large.push(hash),
            }
        }
        let to_unpack: usize = small.iter().map(|(_, body)| body.size.unsigned_abs() as usize).sum();
        let unpack =
            move || small.into_iter().map(|(hash, body)| Ok((hash, unpacked(hash, body)?))).collect();
        let mut read: HashMap<BlobHash, Bytes> =
            if to_unpack <= UNPACK_IN_PLACE { unpack()? } else { blocking(unpack).await? };
        if !large.is_empty() {
            let objects: Vec<(BlobHash, Bytes)> = stream::iter(large)
                .map(async |hash| Ok::<_, BlobError>((hash, self.inner.objects.get(hash).await?)))
                .buffer_unordered(READS_AT_ONCE)
                .try_collect()
                .await?;
            read.extend(objects);
        }
        Ok(read)
    }

    /// What a blob id names: a whole blob, or a part cut from one and decoded. Of a large blob no
    /// more is read than the part's own octets. `None` as with `read`, or when the id reaches
    /// outside of its blob.
    pub async fn read_part(
        &self,
        reader: impl Into<Reader>,
        id: &BlobId,
    ) -> Result<Option<Bytes>, BlobError> {
        let Some(first) = id.steps().first() else { return self.read(reader, &id.hash).await };
        let Some(found) = self.find(reader.into(), &[id.hash]).await?.remove(&id.hash) else {
            return Ok(None);
        };
        if let Some(body) = found.inline {
            return cut(id.clone(), unpacked(id.hash, body)?).await;
        }
        // An offset that is too large by itself, or by its length, is outside.
        let Some(end) = first.offset.checked_add(first.length).filter(|end| *end <= found.size) else {
            return Ok(None);
        };
        let slice = self.inner.objects.get_range(id.hash, first.offset..end).await?;
        let moved = Step { offset: 0, ..*first };
        let mut steps = std::iter::once(&moved).chain(id.steps().iter().skip(1));
        let moved = steps.try_fold(BlobId::whole(id.hash), |id, step| id.cut(*step));
        let Some(moved) = moved else { return Ok(None) };
        cut(moved, slice).await
    }

    /// The octets of an object whoever refers to it: for the worker that holds the row of a staged
    /// message. Small blobs are not objects.
    pub async fn read_unchecked(&self, hash: &BlobHash) -> Result<Bytes, BlobError> {
        self.inner.objects.get(*hash).await
    }

    /// Octets of a blob; `None` as with `read`.
    pub async fn size(&self, reader: impl Into<Reader>, hash: &BlobHash) -> Result<Option<u64>, BlobError> {
        Ok(self.sizes(reader, &[*hash]).await?.remove(hash))
    }

    /// Sizes of the blobs that the reader may read.
    pub async fn sizes(
        &self,
        reader: impl Into<Reader>,
        hashes: &[BlobHash],
    ) -> Result<HashMap<BlobHash, u64>, BlobError> {
        let mut snapshot = self.store.read().await?;
        let sizes = blob::has_access(&mut snapshot, reader.into(), hashes).await?;
        Ok(sizes.into_iter().map(|(hash, size)| (hash, size.unsigned_abs())).collect())
    }

    /// Some octets of a blob, or all, in bounded memory. What lies beyond its end is left out.
    /// `None` as with `read`.
    pub async fn stream_range(
        &self,
        reader: impl Into<Reader>,
        hash: &BlobHash,
        range: Option<Range<u64>>,
    ) -> Result<Option<BlobStream>, BlobError> {
        let hash = *hash;
        let Some(Found { size, inline }) = self.find(reader.into(), &[hash]).await?.remove(&hash) else {
            return Ok(None);
        };
        let range = range.unwrap_or(0..size);
        let end = range.end.min(size);
        let range = range.start.min(end)..end;
        let pieces = match inline {
            Some(body) => {
                let content = unpacked(hash, body)?;
                let piece = content.slice(range.start as usize..range.end as usize);
                stream::once(async move { Ok(piece) }).boxed()
            }
            None => self.object_stream(hash, size, range.clone()).await?,
        };
        Ok(Some(BlobStream { size, range, pieces }))
    }

    /// The first octets are there when this returns: what cannot be read is told before a download
    /// has begun.
    async fn object_stream(
        &self,
        hash: BlobHash,
        size: u64,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, BlobError>>, BlobError> {
        // Only the whole has a hash to be compared with.
        let mut hasher = (range == (0..size)).then(BlobHasher::new);
        let blobs = self.clone();
        let end = range.end;
        // Piece by piece, and none before it is wanted: a client may take its time, and a request under
        // way that nobody looks after meanwhile would run out of its own.
        let starts = (range.start..end).step_by(STREAM_PIECE as usize);
        let mut pieces = stream::iter(starts)
            .then(move |at| {
                let (blobs, next) = (blobs.clone(), at.saturating_add(STREAM_PIECE).min(end));
                async move { Ok((next, blobs.inner.objects.get_range(hash, at..next).await?)) }
            })
            .map(move |read: Result<(u64, Bytes), BlobError>| {
                let (next, piece) = read?;
                if let Some(hasher) = &mut hasher {
                    hasher.update(&piece);
                    if next == end && std::mem::take(hasher).finish() != hash {
                        return Err(BlobError::Corrupt(hash));
                    }
                }
                Ok(piece)
            })
            // After an error there is nothing more.
            .scan(false, |is_over, read| {
                let read = (!*is_over).then_some(read);
                *is_over = matches!(read, Some(Err(_)));
                std::future::ready(read)
            })
            .boxed();
        let first = pieces.next().await.transpose()?;
        Ok(stream::iter(first.map(Ok)).chain(pieces).boxed())
    }

    async fn find(&self, reader: Reader, hashes: &[BlobHash]) -> Result<HashMap<BlobHash, Found>, BlobError> {
        let mut snapshot = self.store.read().await?;
        let sizes = blob::has_access(&mut snapshot, reader, hashes).await?;
        let readable: Vec<BlobHash> = sizes.keys().copied().collect();
        let mut bodies = blob::inline_get(&mut snapshot, reader.account, &readable).await?;
        let found = sizes
            .into_iter()
            .map(|(hash, size)| (hash, Found { size: size.unsigned_abs(), inline: bodies.remove(&hash) }));
        Ok(found.collect())
    }
}

/// The octets that the steps of an id cut from a blob.
async fn cut(id: BlobId, content: Bytes) -> Result<Option<Bytes>, BlobError> {
    if let [Step { offset, length, encoding: Encoding::None }] = id.steps() {
        // Nothing to decode: no copy.
        let end = offset.checked_add(*length).filter(|end| *end <= content.len() as u64);
        return Ok(end.map(|end| content.slice(*offset as usize..end as usize)));
    }
    let is_short = content.len() <= UNPACK_IN_PLACE;
    let decode = move || Ok(transfer::cut(&id, &content).map(|part| Bytes::from(part.into_owned())));
    if is_short { decode() } else { blocking(decode).await }
}

/// The octets that a stored body stands for, verified.
fn unpacked(hash: BlobHash, stored: InlineBody) -> Result<Bytes, BlobError> {
    let content = if stored.is_zstd {
        let size = usize::try_from(stored.size).map_err(|_| BlobError::Corrupt(hash))?;
        zstd::bulk::decompress(&stored.body, size).map_err(|_| BlobError::Corrupt(hash))?.into()
    } else {
        stored.body
    };
    if BlobHash::of(&content) == hash { Ok(content) } else { Err(BlobError::Corrupt(hash)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::testing::{Bench, noise};

    async fn collected(stream: BlobStream) -> Result<Vec<u8>, BlobError> {
        let pieces: Vec<Bytes> = stream.pieces.try_collect().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn ranges_of_small_and_large_blobs() {
        let bench = Bench::new();
        let account = bench.account().await;
        for len in [10_000, 2_500_000] {
            let content = noise(len as u64, len);
            let hash = bench.email(account, 1, &content).await;
            let all = len as u64;
            for (asked, got) in [
                (None, 0..all),
                (Some(0..1), 0..1),
                (Some(5_000..all + 9), 5_000..all),
                (Some(all..all + 1), all..all),
                (Some(all + 5..all + 7), all..all),
                (Some(1_000..all - 1), 1_000..all - 1),
            ] {
                let stream = bench.blobs.stream_range(account, &hash, asked).await.unwrap().unwrap();
                assert_eq!((stream.size, stream.range.clone()), (all, got.clone()));
                let wanted = &content[got.start as usize..got.end as usize];
                assert_eq!(collected(stream).await.unwrap(), wanted);
            }
        }
    }

    #[tokio::test]
    async fn parts_of_small_and_large_messages() {
        let bench = Bench::new();
        let account = bench.account().await;
        let step = |offset, length, encoding| Step { offset, length, encoding };
        for padding in [0, 100_000] {
            let message = [b"Hello QWJj".as_slice(), &b"ZGVm".repeat(20), &noise(1, padding)].concat();
            let hash = bench.email(account, 1, &message.into()).await;
            let whole = BlobId::whole(hash);
            let plain = whole.cut(step(1, 4, Encoding::None)).unwrap();
            let encoded = whole.cut(step(6, 4, Encoding::Base64)).unwrap();
            let nested = encoded.cut(step(1, 2, Encoding::None)).unwrap();
            for (id, wanted) in [(&plain, "ello"), (&encoded, "Abc"), (&nested, "bc")] {
                let part = bench.blobs.read_part(account, id).await.unwrap().unwrap();
                assert_eq!(part, wanted);
            }
            for outside in [
                whole.cut(step(80 + padding as u64, 20, Encoding::None)).unwrap(),
                whole.cut(step(80 + padding as u64, 20, Encoding::Base64)).unwrap(),
                encoded.cut(step(2, 2, Encoding::None)).unwrap(),
            ] {
                assert_eq!(bench.blobs.read_part(account, &outside).await.unwrap(), None);
            }
            assert_eq!(bench.blobs.read_part(bench.account().await, &plain).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn many_blobs_at_once() {
        let bench = Bench::new();
        let account = bench.account().await;
        let mut wanted = HashMap::new();
        for seed in 0..20 {
            let content = noise(seed, if seed % 4 == 0 { 70_000 } else { 30_000 });
            wanted.insert(bench.email(account, seed as i64, &content).await, content);
        }
        let mut asked: Vec<BlobHash> = wanted.keys().copied().collect();
        asked.push(BlobHash([7; 32]));
        assert_eq!(bench.blobs.read_many(account, &asked).await.unwrap(), wanted);
    }

    #[tokio::test]
    async fn changed_octets_end_a_download_with_an_error() {
        let bench = Bench::new();
        let account = bench.account().await;
        let (content, other) = (noise(1, 2_500_000), noise(2, 2_500_000));
        let hash = bench.email(account, 1, &content).await;
        bench.blobs.inner.objects.put(hash, other).await.unwrap();
        let stream = bench.blobs.stream_range(account, &hash, None).await.unwrap().unwrap();
        assert!(matches!(collected(stream).await, Err(BlobError::Corrupt(_))));
        assert!(matches!(bench.blobs.read(account, &hash).await, Err(BlobError::Corrupt(_))));
    }
}
