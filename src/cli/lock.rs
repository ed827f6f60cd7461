//! The data folder has one owner at a time: a server, or a command when no server runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// The right to open the store of a data folder. It ends with the value, or with the process.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the lock was not given.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held,
    /// The folder cannot be used.
    Io(std::io::Error),
}

impl DataLock {
    /// Makes the folder if it is missing (for its owner alone) and takes its lock at once or not
    /// at all.
    pub fn take(data: &Path) -> Result<DataLock, LockError> {
        make_private_folder(data).map_err(LockError::Io)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(data.join("lock"));
        let file = file.map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => Ok(DataLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }
}

fn make_private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_that_it_is_held() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("new/data");
        let first = DataLock::take(&data).expect("free");
        assert!(matches!(DataLock::take(&data), Err(LockError::Held)));
        drop(first);
        assert!(DataLock::take(&data).is_ok());
    }
}
