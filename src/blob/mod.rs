//! Where octets are: messages, uploads and parts of messages, immutable and named by their hash.
//!
//! A blob of at most `store::blob::INLINE_MAX` octets lives in the database, in each account that
//! refers to it; a larger one is an object of the object store, one for all accounts. Callers do
//! not see the difference. To write: `prepare` (outside any transaction; a large blob is on the
//! disk, or in the bucket, when it returns), then `PreparedBlob::reference` in the account's unit of work. To read:
//! name the account; without a reference there the blob does not exist.
//!
//! Not here: what refers to a blob and why (`store::blob`), and what octets mean (`mail`).
//!
//! Invariants:
//! - an object is durable (a file and its folders are synced) before anything refers to it;
//! - an object is touched in the database before it is put, always put, never taken for present
//!   because it seems to be there, and referenced within `prepared::PREPARED_KEPT_MS` of that;
//! - so the sweep, which deletes only what has not been touched for much longer and asks for
//!   references after it has closed the door to writers, cannot race them;
//! - a whole blob that is read has the hash that it is named by.

pub mod copy;
mod error;
mod folders;
mod link;
mod objects;
pub mod prepared;
mod read;
mod s3;
pub mod sweep;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::blob::error::BlobError;
use crate::blob::objects::Objects;
use crate::config::engine::BlobUrl;
use crate::config::s3::S3Credentials;
use crate::store::Store;

/// All blobs of a server. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
    store: Store,
}

struct Inner {
    objects: Objects,
    /// Folder of the files in which large uploads wait until their hash is known.
    temporary: PathBuf,
    /// Held by the sweep that runs in this process.
    sweeping: tokio::sync::Mutex<()>,
}

impl Blobs {
    /// Opens the place of the objects: a folder, which is made if need be, or a bucket, which need not
    /// be in reach. The folder of temporary files is this process's alone; what an earlier one left
    /// there is removed.
    pub fn open(
        place: &BlobUrl,
        credentials: Option<&S3Credentials>,
        temporary: &Path,
        store: Store,
    ) -> Result<Blobs, BlobError> {
        let objects = match place {
            BlobUrl::File(folder) => Objects::open_local(folder)?,
            BlobUrl::S3(url) => Objects::open_s3(url, credentials)?,
        };
        upload::clean(temporary)?;
        Ok(Blobs::over(objects, temporary, store))
    }

    fn over(objects: Objects, temporary: &Path, store: Store) -> Blobs {
        let temporary = temporary.to_owned();
        let sweeping = tokio::sync::Mutex::default();
        Blobs { inner: Arc::new(Inner { objects, temporary, sweeping }), store }
    }

    /// The same blobs over a clone of the store of another urgency.
    pub fn over_store(&self, store: Store) -> Blobs {
        Blobs { inner: self.inner.clone(), store }
    }

    /// An error while it is known that large blobs can be neither written nor read. Asks nobody.
    pub fn check(&self) -> Result<(), BlobError> {
        self.inner.objects.check()
    }

    /// Whether large blobs can be written: writes a small object, durably.
    pub async fn ready(&self) -> Result<(), BlobError> {
        self.inner.objects.probe().await
    }
}

/// Runs what would keep an async thread busy: hashing and files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BlobError::unavailable(&error))?
}

#[cfg(test)]
pub(crate) mod testing;
