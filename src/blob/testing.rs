//! What the tests of this folder and of those that build on it share: blobs over a store, in a folder
//! of their own.

pub mod s3;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tempfile::TempDir;

use crate::blob::Blobs;
use crate::blob::objects::Objects;
use crate::blob::testing::s3::S3Server;
use crate::config::engine::{BlobUrl, blob_url};
use crate::config::s3::S3Credentials;
use crate::store::Store;
use crate::store::blob::{BlobSource, UploadQuota, reference_remove};
use crate::store::db::sql;
use crate::store::testing::{bare_account, store_in};
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;

/// Where the clocks of tests start: 2026-01-01.
pub const START_MS: i64 = 1_767_225_600_000;

/// `s3`: the tests run over a bucket of a server of their own instead of a folder.
const VARIABLE: &str = "POSTRIDER_TEST_BLOBS";

/// The blobs of a folder, on the engine that the tests are run over. Objects are in `blobs` in any case,
/// which is a bucket's name as well.
pub fn blobs_in(folder: &Path, store: Store) -> Blobs {
    let place = folder.join("blobs");
    if std::env::var(VARIABLE).is_ok_and(|engine| engine == "s3") {
        std::fs::create_dir_all(&place).unwrap();
        return blobs_at(&S3Server::start(folder).url("blobs"), folder, store);
    }
    Blobs::open(&BlobUrl::File(place), None, &folder.join("tmp"), store).unwrap()
}

/// Blobs at an address of a test's server.
pub fn blobs_at(url: &str, folder: &Path, store: Store) -> Blobs {
    let credentials = credentials();
    Blobs::open(&blob_url(url).unwrap(), Some(&credentials), &folder.join("tmp"), store).unwrap()
}

/// Those that a test's server knows.
pub fn credentials() -> S3Credentials {
    S3Credentials { access_key_id: s3::KEY_ID.to_owned(), secret_access_key: Secret::new(s3::SECRET) }
}

/// Blobs, with what stands behind them.
pub struct Bench {
    pub folder: TempDir,
    pub clock: Clock,
    pub store: Store,
    pub blobs: Blobs,
}

impl Bench {
    pub fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(START_MS);
        let store = store_in(folder.path(), clock.clone());
        let blobs = blobs_in(folder.path(), store.clone());
        Bench { folder, clock, store, blobs }
    }

    /// Over an S3 server, whatever the others run over.
    pub fn over_s3() -> (Bench, S3Server) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("blobs")).unwrap();
        let server = S3Server::start(folder.path());
        let clock = Clock::fixed(START_MS);
        let store = store_in(folder.path(), clock.clone());
        let blobs = blobs_at(&server.url("blobs"), folder.path(), store.clone());
        (Bench { folder, clock, store, blobs }, server)
    }

    pub async fn account(&self) -> AccountId {
        bare_account(&self.store).await
    }

    /// Files of objects that are in the folder.
    pub fn objects(&self) -> usize {
        let mut count = 0;
        let mut folders = vec![self.folder.path().join("blobs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    // A probe is no object.
                    false => count += usize::from(entry.file_name() != "ready"),
                }
            }
        }
        count
    }
}

/// Octets that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> bytes::Bytes {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out.into()
}

/// What uploads of a login may take up.
pub const QUOTA: UploadQuota = UploadQuota { bytes: 1 << 30, uploads: 1_000 };

impl Bench {
    /// Prepares octets and refers to them as an Email of this number.
    pub async fn email(&self, account: AccountId, number: i64, content: &bytes::Bytes) -> BlobHash {
        let blob = self.blobs.prepare(content.clone()).await.unwrap();
        let hash = blob.hash();
        self.store
            .write(account, async move |tx: &mut Tx| {
                blob.reference(tx, BlobSource::Email, Id(number), 0).await
            })
            .await
            .unwrap();
        hash
    }

    /// Removes the reference of the Email of this number.
    pub async fn remove_email(&self, account: AccountId, number: i64, hash: BlobHash) {
        self.store
            .write(account, async move |tx: &mut Tx| {
                reference_remove(tx, BlobSource::Email, &[(hash, Id(number))]).await
            })
            .await
            .unwrap();
    }

    /// The number that a statement without values answers.
    pub async fn count(&self, text: &'static str) -> i64 {
        let mut snapshot = self.store.read().await.unwrap();
        sql(text).value(&mut snapshot).await.unwrap().unwrap()
    }
}

/// Runs an ignored test of this program in a process of its own, in a folder, under a command.
pub fn child(under: &[&str], test: &str, folder: &std::path::Path) -> Option<String> {
    let program = std::env::current_exe().unwrap();
    let mut words = under.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let output = std::process::Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_FOLDER, folder)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

/// Where a child works; not set when somebody runs all ignored tests.
pub const CHILD_FOLDER: &str = "POSTRIDER_TEST_CHILD_FOLDER";

/// Blobs whose large ones find no room.
pub fn on_a_full_disk(temporary: &Path, store: Store) -> Blobs {
    Blobs::over(Objects::over(Arc::new(FullDisk)), temporary, store)
}

/// A disk without room.
#[derive(Debug)]
struct FullDisk;

impl std::fmt::Display for FullDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a full disk")
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'a>>;

fn full<T>() -> object_store::Result<T> {
    let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
    Err(object_store::Error::Generic { store: "full", source })
}

impl ObjectStore for FullDisk {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        _: &'b ObjectPath,
        _: PutPayload,
        _: PutOptions,
    ) -> Answer<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { full() })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        _: &'b ObjectPath,
        _: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { full() })
    }

    fn get_opts<'a, 'b, 'c>(&'a self, _: &'b ObjectPath, _: GetOptions) -> Answer<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { full() })
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        Box::pin(futures_util::stream::once(async { full() }))
    }

    fn list(&self, _: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        Box::pin(futures_util::stream::once(async { full() }))
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, _: Option<&'b ObjectPath>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { full() })
    }

    fn copy_opts<'a, 'b, 'c, 'd>(
        &'a self,
        _: &'b ObjectPath,
        _: &'c ObjectPath,
        _: CopyOptions,
    ) -> Answer<'d, ()>
    where
        'a: 'd,
        'b: 'd,
        'c: 'd,
    {
        Box::pin(async { full() })
    }
}
