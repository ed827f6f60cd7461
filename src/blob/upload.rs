//! Uploads: octets that arrive piece by piece, of which neither hash nor length is known before
//! the end. Small ones are gathered in memory, large ones in a temporary file of bounded length.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::blob::BlobError;
use crate::blob::prepared::{PreparedBlob, inline};
use crate::blob::{Blobs, blocking};
use crate::store::blob::INLINE_MAX;
use crate::types::blob_id::BlobHasher;

/// Octets gathered before they are hashed and written.
const WRITE_AT_ONCE: usize = 512 * 1024;
/// How names of temporary files begin.
const PREFIX: &str = "upload-";

impl Blobs {
    /// Makes octets ready that arrive piece by piece, at most `limit` of them, in memory that does
    /// not grow with their number. Nothing is kept when the sender stops or sends too much.
    pub async fn prepare_stream<E: std::fmt::Display>(
        &self,
        chunks: impl Stream<Item = Result<Bytes, E>>,
        limit: u64,
    ) -> Result<PreparedBlob, BlobError> {
        let mut chunks = pin!(chunks);
        let mut total: u64 = 0;
        let mut gathered = BytesMut::new();
        let mut spool = None;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| BlobError::Interrupted(error.to_string().into()))?;
            total = total.saturating_add(chunk.len() as u64);
            if total > limit {
                return Err(BlobError::TooLarge(limit));
            }
            gathered.extend_from_slice(&chunk);
            let gather_up_to = if spool.is_some() { WRITE_AT_ONCE } else { INLINE_MAX };
            if gathered.len() > gather_up_to {
                spool = Some(self.spooled(spool.take(), gathered.split().freeze()).await?);
            }
        }
        let gathered = gathered.freeze();
        let Some(spool) = spool else { return Ok(inline(&gathered)) };
        let Spool { file, hasher } = self.spooled(Some(spool), gathered).await?;
        self.put_file(hasher.finish(), total, file).await
    }

    /// Hashes and writes what has been gathered; makes the file when there is none yet.
    async fn spooled(&self, spool: Option<Spool>, gathered: Bytes) -> Result<Spool, BlobError> {
        let path = self.inner.temporary.join(format!("{PREFIX}{}", self.store.ids().make()));
        blocking(move || {
            let mut spool = match spool {
                Some(spool) => spool,
                None => Spool { file: nameless_file(&path)?, hasher: BlobHasher::new() },
            };
            spool.hasher.update(&gathered);
            spool.file.write_all(&gathered)?;
            Ok(spool)
        })
        .await
    }
}

struct Spool {
    file: File,
    hasher: BlobHasher,
}

/// A file that is gone as soon as it is closed, however that comes about.
pub(in crate::blob) fn nameless_file(path: &Path) -> Result<File, BlobError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Makes the folder of temporary files, or removes what a process left there that died between
/// making a file and taking its name away.
pub fn clean(folder: &Path) -> Result<(), BlobError> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::blob::testing::{Bench, CHILD_FOLDER, QUOTA, child, noise};
    use crate::store::blob::Reader;
    use crate::store::tx::Tx;
    use crate::types::blob_id::BlobHash;
    use crate::types::id::Id;

    fn chunks(content: &Bytes, len: usize) -> impl Stream<Item = Result<Bytes, String>> {
        let content = content.clone();
        let starts = (0..content.len()).step_by(len);
        stream::iter(starts.map(move |at| Ok(content.slice(at..content.len().min(at + len)))))
    }

    #[tokio::test]
    async fn uploads_of_all_sizes_read_back() {
        let bench = Bench::new();
        let account = bench.account().await;
        for len in [0, 1, INLINE_MAX, INLINE_MAX + 1, WRITE_AT_ONCE * 3 + 17, 6 * 1024 * 1024] {
            let content = noise(len as u64, len);
            let blob = bench.blobs.prepare_stream(chunks(&content, 10_007), 1 << 30).await.unwrap();
            assert_eq!((blob.hash(), blob.size()), (BlobHash::of(&content), len as u64));
            let unit = async move |tx: &mut Tx| blob.reference_upload(tx, Id(5), QUOTA).await;
            bench.store.write(account, unit).await.unwrap();
            let read =
                bench.blobs.read(Reader::login(account, Id(5)), &BlobHash::of(&content)).await.unwrap();
            assert_eq!(read, Some(content));
        }
        assert_eq!(bench.objects(), 3);
        assert_eq!(std::fs::read_dir(bench.folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn too_long_and_broken_uploads_leave_nothing() {
        let bench = Bench::new();
        let content = noise(1, 300_000);
        let long = bench.blobs.prepare_stream(chunks(&content, 5_000), 299_999).await;
        assert!(matches!(long, Err(BlobError::TooLarge(299_999))));
        let broken = chunks(&content, 5_000).chain(stream::iter([Err("gone".to_owned())]));
        let broken = bench.blobs.prepare_stream(broken, 1 << 30).await;
        assert!(matches!(broken, Err(BlobError::Interrupted(_))));
        assert_eq!(bench.objects(), 0);
        assert_eq!(std::fs::read_dir(bench.folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    #[ignore = "a child of the test below"]
    fn child_that_uploads_200_mb() {
        if std::env::var(CHILD_FOLDER).is_err() {
            return;
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let account = bench.account().await;
            let pieces = stream::iter((0..3_200).map(|seed| Ok::<_, String>(noise(seed, 65_536))));
            let blob = bench.blobs.prepare_stream(pieces, 1 << 30).await.unwrap();
            let hash = blob.hash();
            let unit = async move |tx: &mut Tx| blob.reference_upload(tx, Id(5), QUOTA).await;
            bench.store.write(account, unit).await.unwrap();
            let reader = Reader::login(account, Id(5));
            let mut download = bench.blobs.stream_range(reader, &hash, None).await.unwrap().unwrap();
            let mut read = 0;
            while let Some(piece) = download.pieces.next().await {
                read += piece.unwrap().len();
            }
            assert_eq!(read, 3_200 * 65_536);
        });
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        print!("{status}");
    }

    #[test]
    fn memory_does_not_grow_with_an_upload_or_a_download() {
        let folder = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        // With S3 the memory of the server, which is in the same process, counts as well.
        for (engine, most_kb) in [("file", 150_000), ("s3", 170_000)] {
            let under = ["env", &format!("POSTRIDER_TEST_BLOBS={engine}")];
            let status = child(&under, "blob::upload::tests::child_that_uploads_200_mb", folder.path());
            let status = status.unwrap_or_else(|| panic!("{program} could not be run"));
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(peak < most_kb, "{engine}: {peak} kB");
        }
    }
}
