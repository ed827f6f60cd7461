//! The folders of objects that are files of this machine: made and synced before a put, and tidied
//! up after processes that died.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use crate::blob::BlobError;
use crate::types::blob_id::BlobHash;

/// A half-written file of this age belongs to a process that has died.
pub const LEFTOVER_AGE_MS: i64 = 24 * 3_600_000;

/// The folders of local objects. The object store makes missing folders and syncs those that it
/// has made, but a put that finds a folder just made by another put does not wait for the other's
/// sync: its object could vanish with the folder in a power cut. So folders are made and synced
/// here first.
pub struct Folders {
    root: PathBuf,
    /// Folders `ab` whose entry in the root is known to be on the disk.
    first: Vec<AtomicBool>,
    /// Folders `ab/cd` whose entry in `ab` is.
    second: Vec<AtomicBool>,
}

impl Folders {
    /// Over the folder of all objects, which is there.
    pub fn new(root: PathBuf) -> Folders {
        let flags = |count| std::iter::repeat_with(|| AtomicBool::new(false)).take(count).collect();
        Folders { root, first: flags(1 << 8), second: flags(1 << 16) }
    }

    fn flags(&self, hash: BlobHash) -> Option<(&AtomicBool, &AtomicBool)> {
        let [first, second, ..] = hash.0;
        let place = usize::from(first) << 8 | usize::from(second);
        Some((self.first.get(usize::from(first))?, self.second.get(place)?))
    }

    /// Whether an object's folders are known to be on the disk.
    pub fn is_synced(&self, hash: BlobHash) -> bool {
        self.flags(hash).is_some_and(|(_, second)| second.load(Ordering::Acquire))
    }

    /// Makes an object's folders; they are on the disk when this returns.
    pub fn make_synced(&self, hash: BlobHash) -> Result<(), BlobError> {
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

    /// Removes half-written files that died with their process a day ago; how many there were.
    pub fn clean_leftovers(&self, now_ms: i64) -> Result<u64, BlobError> {
        let written_before = now_ms.saturating_sub(LEFTOVER_AGE_MS).max(0);
        let mut removed = 0;
        for outer in folders_in(&self.root)? {
            for inner in folders_in(&outer)? {
                removed += clean_folder(&inner, written_before)?;
            }
        }
        Ok(removed)
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
