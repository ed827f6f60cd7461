//! Uploads: octets that arrive piece by piece, of which neither hash nor length is known before
//! the end. Small ones are gathered in memory, large ones in a temporary file of bounded length.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::blob::error::BlobError;
use crate::blob::prepared::{PreparedBlob, inline};
use crate::blob::{Blobs, blocking};
use crate::store::blob::INLINE_MAX;
use crate::types::blob_id::BlobHash;

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
        self.put_file(BlobHash(*hasher.finalize().as_bytes()), total, file).await
    }

    /// Hashes and writes what has been gathered; makes the file when there is none yet.
    async fn spooled(&self, spool: Option<Spool>, gathered: Bytes) -> Result<Spool, BlobError> {
        let path = self.inner.temporary.join(format!("{PREFIX}{}", self.inner.store.ids().make()));
        blocking(move || {
            let mut spool = match spool {
                Some(spool) => spool,
                None => Spool { file: nameless_file(&path)?, hasher: blake3::Hasher::new() },
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
    hasher: blake3::Hasher,
}

/// A file that is gone as soon as it is closed, however that comes about.
fn nameless_file(path: &Path) -> Result<File, BlobError> {
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
