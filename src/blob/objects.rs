//! The object store: whole objects by hash, durable before a put returns.
//!
//! An object is at `ab/cd/<hash in hexadecimal>`, where `ab` and `cd` are the hash's first octets,
//! so that no folder grows beyond what file systems like. Every put is unconditional: an object's
//! name says its content, so that two writers write the same, and one that "seems to be there" may be
//! about to be deleted.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use crate::blob::BlobError;
use crate::blob::blocking;
use crate::blob::folders::Folders;
use crate::blob::link::Link;
use crate::blob::s3;
use crate::config::s3::{S3Credentials, S3Url};
use crate::types::blob_id::BlobHash;

/// Octets of a part. What is larger goes in several: none is sent anew as a whole because of one
/// failure, and a file is not read into memory. The least that S3 takes.
const PART: usize = 5 * 1024 * 1024;
/// Parts of one object on their way at a time.
const PARTS_AT_ONCE: usize = 2;
/// What `probe` writes.
const PROBE: &str = "ready";

/// All objects.
pub struct Objects {
    objects: Arc<dyn ObjectStore>,
    /// Of local files only.
    folders: Option<Arc<Folders>>,
    /// Of a store across the network only.
    link: Option<Arc<Link>>,
}

fn path_of(hash: BlobHash) -> ObjectPath {
    use std::fmt::Write;
    let mut name = String::with_capacity(70);
    for byte in hash.0.iter().take(2) {
        let _ = write!(name, "{byte:02x}/");
    }
    for byte in hash.0 {
        let _ = write!(name, "{byte:02x}");
    }
    ObjectPath::from(name)
}

impl Objects {
    /// Objects in a folder, made if it is not there.
    pub fn open_local(folder: &Path) -> Result<Objects, BlobError> {
        std::fs::create_dir_all(folder)?;
        let folder = std::fs::canonicalize(folder)?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
        let local = LocalFileSystem::new_with_prefix(&folder).map_err(|error| BlobError::of_cause(&error))?;
        Ok(Objects {
            // Without this nothing is synced (see the tests below).
            objects: Arc::new(local.with_fsync(true)),
            folders: Some(Arc::new(Folders::new(folder))),
            link: None,
        })
    }

    /// Objects in a bucket, which may be out of reach for now.
    pub fn open_s3(url: &S3Url, credentials: Option<&S3Credentials>) -> Result<Objects, BlobError> {
        let objects = s3::open(url, credentials)?;
        Ok(Objects { link: Some(Link::new(objects.clone())), objects, folders: None })
    }

    /// Objects wherever; for tests with a store that fails.
    #[cfg(test)]
    pub fn over(objects: Arc<dyn ObjectStore>) -> Objects {
        Objects { objects, folders: None, link: None }
    }

    /// An error when it is known that nothing can be put or read now.
    pub fn check(&self) -> Result<(), BlobError> {
        self.link.as_ref().map_or(Ok(()), |link| link.check())
    }

    /// Runs a request that carries so many octets.
    async fn run<T>(
        &self,
        octets: u64,
        request: impl Future<Output = Result<T, BlobError>>,
    ) -> Result<T, BlobError> {
        match &self.link {
            Some(link) => link.run(octets, request).await,
            None => request.await,
        }
    }

    async fn make_folders(&self, hash: BlobHash) -> Result<(), BlobError> {
        match &self.folders {
            Some(folders) if !folders.is_synced(hash) => {
                let folders = folders.clone();
                blocking(move || folders.make_synced(hash)).await
            }
            _ => Ok(()),
        }
    }

    /// Writes an object; it is durable when this returns.
    pub async fn put(&self, hash: BlobHash, content: Bytes) -> Result<(), BlobError> {
        let left = content.len() as u64;
        self.write(hash, Pieces { source: Source::Memory(content), left }).await
    }

    /// Writes an object from the first `size` octets of a file; it is durable when this returns.
    pub async fn put_file(&self, hash: BlobHash, size: u64, mut file: File) -> Result<(), BlobError> {
        let file = blocking(move || {
            file.rewind()?;
            Ok(file)
        });
        self.write(hash, Pieces { source: Source::File(file.await?), left: size }).await
    }

    async fn write(&self, hash: BlobHash, mut pieces: Pieces) -> Result<(), BlobError> {
        self.make_folders(hash).await?;
        let path = path_of(hash);
        if pieces.left > PART as u64 {
            return self.write_parts(&path, pieces).await;
        }
        let content = pieces.next().await?;
        self.run(content.len() as u64, async {
            let put = self.objects.put(&path, PutPayload::from(content)).await;
            put.map(drop).map_err(|error| BlobError::of_write(&error))
        })
        .await
    }

    async fn write_parts(&self, path: &ObjectPath, mut pieces: Pieces) -> Result<(), BlobError> {
        let begun = async {
            let begun = self.objects.put_multipart(path).await;
            begun.map_err(|error| BlobError::of_write(&error))
        };
        let mut upload = Unfinished(Some(self.run(0, begun).await?));
        let Some(parts) = &mut upload.0 else { return Ok(()) };
        let mut under_way = FuturesUnordered::new();
        while pieces.left > 0 {
            let piece = pieces.next().await?;
            let octets = piece.len() as u64;
            let part = parts.put_part(PutPayload::from(piece));
            under_way
                .push(self.run(octets, async { part.await.map_err(|error| BlobError::of_write(&error)) }));
            if under_way.len() >= PARTS_AT_ONCE {
                under_way.next().await.transpose()?;
            }
        }
        while under_way.next().await.transpose()?.is_some() {}
        let complete = async { parts.complete().await.map_err(|error| BlobError::of_write(&error)) };
        self.run(0, complete).await?;
        upload.0 = None;
        Ok(())
    }

    /// The whole object, verified against its hash.
    pub async fn get(&self, hash: BlobHash) -> Result<Bytes, BlobError> {
        let path = path_of(hash);
        let failed = |error: object_store::Error| BlobError::of_read(hash, &error);
        let head = self.run(0, async { self.objects.get(&path).await.map_err(failed) }).await?;
        let size = head.meta.size;
        let content = self.run(size, async { head.bytes().await.map_err(failed) }).await?;
        blocking(move || match BlobHash::of(&content) == hash {
            true => Ok(content),
            false => Err(BlobError::Corrupt(hash)),
        })
        .await
    }

    /// Some octets of an object, not verified.
    pub async fn get_range(&self, hash: BlobHash, range: Range<u64>) -> Result<Bytes, BlobError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wanted = range.end - range.start;
        let path = path_of(hash);
        let got = self.run(wanted, async {
            let got = self.objects.get_range(&path, range).await;
            got.map_err(|error| BlobError::of_read(hash, &error))
        });
        let got = got.await?;
        // The range is within the size that was written: an object that ends earlier was cut.
        if got.len() as u64 == wanted { Ok(got) } else { Err(BlobError::Corrupt(hash)) }
    }

    /// The octets of an object.
    pub async fn size(&self, hash: BlobHash) -> Result<u64, BlobError> {
        let path = path_of(hash);
        let head = async {
            let head = self.objects.head(&path).await;
            head.map(|head| head.size).map_err(|error| BlobError::of_read(hash, &error))
        };
        self.run(0, head).await
    }

    /// Whether the object is there. No object is empty, so its first octet is asked for: the answer
    /// to a question for the head alone cannot say that it is the bucket that is missing.
    pub async fn is_there(&self, hash: BlobHash) -> Result<bool, BlobError> {
        match self.get_range(hash, 0..1).await {
            Ok(_) => Ok(true),
            Err(BlobError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object; one that is not there is deleted already.
    pub async fn delete(&self, hash: BlobHash) -> Result<(), BlobError> {
        let path = path_of(hash);
        let deleted = self.run(0, async {
            self.objects.delete(&path).await.map_err(|error| BlobError::of_read(hash, &error))
        });
        match deleted.await {
            Ok(()) | Err(BlobError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes a small object, durably.
    pub async fn probe(&self) -> Result<(), BlobError> {
        if let Some(link) = &self.link {
            return link.ready().await;
        }
        let put = self.objects.put(&ObjectPath::from(PROBE), PutPayload::from_static(b"1")).await;
        put.map(drop).map_err(|error| BlobError::of_write(&error))
    }

    /// Removes half-written files that died with their process a day ago; how many there were. In a
    /// bucket that is the service's work, by a rule for its multipart uploads.
    pub async fn clean_leftovers(&self, now_ms: i64) -> Result<u64, BlobError> {
        let Some(folders) = self.folders.clone() else { return Ok(0) };
        blocking(move || folders.clean_leftovers(now_ms)).await
    }
}

/// What is to be written, a part at a time.
struct Pieces {
    source: Source,
    left: u64,
}

enum Source {
    Memory(Bytes),
    File(File),
}

impl Pieces {
    async fn next(&mut self) -> Result<Bytes, BlobError> {
        let len = self.left.min(PART as u64);
        self.left -= len;
        match &mut self.source {
            Source::Memory(content) => Ok(content.split_to(len as usize)),
            Source::File(file) => {
                let mut file = file.try_clone()?;
                blocking(move || {
                    let mut piece = vec![0; len as usize];
                    file.read_exact(&mut piece)?;
                    Ok(piece.into())
                })
                .await
            }
        }
    }
}

/// An upload in parts that is given up when whoever makes it fails or goes away: parts take room,
/// and on S3 nobody sees them.
struct Unfinished(Option<Box<dyn MultipartUpload>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "the parts of an upload could not be removed");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_spread_over_folders() {
        let mut hash = [0xee; 32];
        hash[0] = 0x0a;
        let path = path_of(BlobHash(hash)).to_string();
        assert_eq!(path, format!("0a/ee/0a{}", "ee".repeat(31)));
    }

    #[test]
    fn local_objects_are_synced() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open_local(folder.path()).unwrap();
        assert!(format!("{:?}", objects.objects).contains("fsync: true"));
    }

    #[tokio::test]
    async fn leftovers_of_dead_processes_go_and_objects_stay() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open_local(folder.path()).unwrap();
        let content = Bytes::from_static(b"content");
        let hash = BlobHash::of(&content);
        objects.put(hash, content.clone()).await.unwrap();
        let path = folder.path().join(path_of(hash).to_string());
        let leftover = path.with_file_name("leftover#1");
        std::fs::write(&leftover, b"cont").unwrap();
        let now_ms = crate::types::clock::Clock::system().now_ms();
        assert_eq!(objects.clean_leftovers(now_ms).await.unwrap(), 0);
        assert_eq!(
            objects.clean_leftovers(now_ms + crate::blob::folders::LEFTOVER_AGE_MS + 60_000).await.unwrap(),
            1
        );
        assert!(!leftover.exists());
        assert_eq!(objects.get(hash).await.unwrap(), content);
    }

    #[tokio::test]
    async fn changed_octets_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open_local(folder.path()).unwrap();
        let hash = BlobHash::of(b"content");
        objects.put(hash, Bytes::from_static(b"content")).await.unwrap();
        let path = folder.path().join(path_of(hash).to_string());
        std::fs::write(&path, b"Content").unwrap();
        assert!(matches!(objects.get(hash).await, Err(BlobError::Corrupt(_))));
        std::fs::write(&path, b"con").unwrap();
        assert!(matches!(objects.get_range(hash, 0..5).await, Err(BlobError::Corrupt(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(objects.get(hash).await, Err(BlobError::NotFound(_))));
    }

    #[test]
    #[ignore = "a child of the test below"]
    fn child_that_puts() {
        let Ok(folder) = std::env::var(crate::blob::testing::CHILD_FOLDER) else { return };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let objects = Objects::open_local(&Path::new(&folder).join("blobs")).unwrap();
            let hash = BlobHash([0xab; 32]);
            objects.put(hash, Bytes::from_static(b"content")).await.unwrap();
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, b"content").unwrap();
            // In several parts.
            std::io::Write::write_all(&mut file, &vec![0; PART]).unwrap();
            objects.put_file(BlobHash([0xcd; 32]), PART as u64 + 7, file).await.unwrap();
        });
    }

    /// The calls by which the system is told, in order: a power cut at any point after a put has
    /// returned leaves file, name and folders on the disk.
    #[test]
    fn file_name_and_folders_are_synced_before_a_put_returns() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let under = [
            "strace",
            "-f",
            "-y",
            "-e",
            "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat",
            "-o",
        ];
        let under = [under.as_slice(), &[trace.to_str().unwrap()]].concat();
        let test = "blob::objects::tests::child_that_puts";
        if crate::blob::testing::child(&under, test, folder.path()).is_none() {
            // Without strace `local_objects_are_synced` stands alone.
            return;
        }
        let trace = std::fs::read_to_string(trace).unwrap();
        let place = |from: usize, what: &str, path: &str| {
            let is_it = |line: &str| line.contains(what) && line.contains(path);
            let place = trace.lines().skip(from).position(is_it);
            from + place.unwrap_or_else(|| panic!("no {what} of {path} after line {from} of\n{trace}"))
        };
        for octet in ["ab", "cd"] {
            let name = octet.repeat(32);
            let made = place(0, "mkdir", &format!("/{octet}/{octet}\""));
            let outer = place(made, "fsync", &format!("blobs/{octet}>"));
            place(made, "fsync", "/blobs>");
            let file = place(outer, "fsync", &format!("{name}#1>"));
            let renamed = place(file, "rename", &name);
            place(renamed, "fsync", &format!("blobs/{octet}/{octet}>"));
        }
    }
}
