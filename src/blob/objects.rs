//! The object store: whole objects by hash, synced before a put returns.
//!
//! An object is at `ab/cd/<hash in hexadecimal>`, where `ab` and `cd` are the hash's first octets,
//! so that no folder grows beyond what file systems like.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::blob::BlobError;
use crate::blob::blocking;
use crate::types::blob_id::BlobHash;

/// Octets of a piece in which a large file is put; the least that S3 takes.
const PUT_PIECE: usize = 5 * 1024 * 1024;
/// What `probe` writes.
const PROBE: &str = "ready";
/// A half-written file of this age belongs to a process that has died.
const LEFTOVER_AGE_MS: i64 = 24 * 3_600_000;

/// All objects.
pub struct Objects {
    objects: Arc<dyn ObjectStore>,
    /// Of local files only.
    folders: Option<Arc<Folders>>,
}

/// The folders of local objects. The object store makes missing folders and syncs those that it
/// has made, but a put that finds a folder just made by another put does not wait for the other's
/// sync: its object could vanish with the folder in a power cut. So folders are made and synced
/// here first.
struct Folders {
    root: PathBuf,
    /// Folders `ab` whose entry in the root is known to be on the disk.
    first: Vec<AtomicBool>,
    /// Folders `ab/cd` whose entry in `ab` is.
    second: Vec<AtomicBool>,
}

impl Folders {
    fn new(root: PathBuf) -> Folders {
        let flags = |count| std::iter::repeat_with(|| AtomicBool::new(false)).take(count).collect();
        Folders { root, first: flags(1 << 8), second: flags(1 << 16) }
    }

    fn flags(&self, hash: BlobHash) -> Option<(&AtomicBool, &AtomicBool)> {
        let [first, second, ..] = hash.0;
        let place = usize::from(first) << 8 | usize::from(second);
        Some((self.first.get(usize::from(first))?, self.second.get(place)?))
    }

    fn is_synced(&self, hash: BlobHash) -> bool {
        self.flags(hash).is_some_and(|(_, second)| second.load(Ordering::Acquire))
    }

    fn make_synced(&self, hash: BlobHash) -> Result<(), BlobError> {
        let Some((first, second)) = self.flags(hash) else { return Ok(()) };
        let [outer, inner, ..] = hash.0;
        let outer = self.root.join(format!("{outer:02x}"));
        std::fs::create_dir_all(outer.join(format!("{inner:02x}")))?;
        if !first.load(Ordering::Acquire) {
            File::open(&self.root)?.sync_all()?;
            first.store(true, Ordering::Release);
        }
        File::open(&outer)?.sync_all()?;
        second.store(true, Ordering::Release);
        Ok(())
    }
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
        })
    }

    /// Objects wherever; for tests with a store that fails.
    #[cfg(test)]
    pub fn over(objects: Arc<dyn ObjectStore>) -> Objects {
        Objects { objects, folders: None }
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

    /// Writes an object; it is on the disk when this returns.
    pub async fn put(&self, hash: BlobHash, content: Bytes) -> Result<(), BlobError> {
        self.make_folders(hash).await?;
        let put = self.objects.put(&path_of(hash), PutPayload::from(content)).await;
        put.map(drop).map_err(|error| BlobError::of_object(hash, &error))
    }

    /// Writes an object from the beginning of a file, piece by piece; it is on the disk when this
    /// returns.
    pub async fn put_file(&self, hash: BlobHash, mut file: File) -> Result<(), BlobError> {
        self.make_folders(hash).await?;
        let failed = |error: object_store::Error| BlobError::of_object(hash, &error);
        let mut put = self.objects.put_multipart(&path_of(hash)).await.map_err(failed)?;
        let mut is_first = true;
        let outcome = loop {
            let rewind = std::mem::take(&mut is_first);
            let read = blocking(move || {
                if rewind {
                    file.rewind()?;
                }
                let mut piece = Vec::with_capacity(PUT_PIECE);
                (&mut file).take(PUT_PIECE as u64).read_to_end(&mut piece)?;
                Ok((file, piece))
            });
            let piece = match read.await {
                Err(error) => break Err(error),
                Ok((_, piece)) if piece.is_empty() => break Ok(()),
                Ok((same, piece)) => {
                    file = same;
                    piece
                }
            };
            if let Err(error) = put.put_part(PutPayload::from(piece)).await {
                break Err(failed(error));
            }
        };
        let outcome = match outcome {
            Ok(()) => put.complete().await.map(drop).map_err(failed),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            // What cannot be tidied up now is removed as a leftover later.
            let _ = put.abort().await;
        }
        outcome
    }

    /// The whole object, verified against its hash.
    pub async fn get(&self, hash: BlobHash) -> Result<Bytes, BlobError> {
        let failed = |error: object_store::Error| BlobError::of_object(hash, &error);
        let content =
            self.objects.get(&path_of(hash)).await.map_err(failed)?.bytes().await.map_err(failed)?;
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
        let got = self.objects.get_range(&path_of(hash), range).await;
        let got = got.map_err(|error| BlobError::of_object(hash, &error))?;
        // The range is within the size that was written: an object that ends earlier was cut.
        if got.len() as u64 == wanted { Ok(got) } else { Err(BlobError::Corrupt(hash)) }
    }

    /// Whether the object is there.
    pub async fn is_there(&self, hash: BlobHash) -> Result<bool, BlobError> {
        match self.objects.head(&path_of(hash)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(BlobError::of_object(hash, &error)),
        }
    }

    /// Deletes the object; one that is not there is deleted already.
    pub async fn delete(&self, hash: BlobHash) -> Result<(), BlobError> {
        match self.objects.delete(&path_of(hash)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::of_object(hash, &error)),
        }
    }

    /// Writes and syncs a small object.
    pub async fn probe(&self) -> Result<(), BlobError> {
        let put = self.objects.put(&ObjectPath::from(PROBE), PutPayload::from_static(b"1")).await;
        put.map(drop).map_err(|error| BlobError::of_cause(&error))
    }

    /// Removes half-written files that died with their process a day ago; how many there were.
    pub async fn clean_leftovers(&self, now_ms: i64) -> Result<u64, BlobError> {
        let Some(folders) = self.folders.clone() else { return Ok(0) };
        blocking(move || {
            let written_before = now_ms.saturating_sub(LEFTOVER_AGE_MS).max(0);
            let mut removed = 0;
            for outer in folders_in(&folders.root)? {
                for inner in folders_in(&outer)? {
                    removed += clean_folder(&inner, written_before)?;
                }
            }
            Ok(removed)
        })
        .await
    }
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn clean_folder(folder: &Path, written_before_ms: i64) -> Result<u64, BlobError> {
    let written_before = UNIX_EPOCH + Duration::from_millis(written_before_ms.unsigned_abs());
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // The object store writes `<name>#<number>` and renames it.
        if !entry.file_name().to_string_lossy().contains('#') {
            continue;
        }
        // A file that is gone meanwhile was no leftover.
        let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        if written < written_before && std::fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
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
        assert_eq!(objects.clean_leftovers(now_ms + LEFTOVER_AGE_MS + 60_000).await.unwrap(), 1);
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
            objects.put_file(BlobHash([0xcd; 32]), file).await.unwrap();
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
