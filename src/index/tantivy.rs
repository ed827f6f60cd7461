//! The index in this process: one tantivy index for all accounts.
//!
//! Each term begins with the account's id. A search, the beginnings of words among it, therefore
//! reads that part of the term dictionary and those postings that are the account's own, and costs
//! the same however many accounts share the index; and no mistake in a filter could mix accounts.
//! (Terms shared by all accounts, with the account as one more condition, make an index of a
//! quarter of the size: 47 instead of 178 MB for 1,000 accounts of 200 mails of 80 words each. But
//! the beginning of a word then reads the postings of every account.)
//!
//! Invariants: one writer, behind a lock that also orders batches; what is committed survives a
//! crash at any moment, what is not is gone; the folder's version is in its name, and a folder that
//! cannot be read is set aside as `broken`.

mod schema;
mod search;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::tantivy::directory::MmapDirectory;
use ::tantivy::indexer::IndexWriterOptions;
use ::tantivy::{IndexReader, IndexWriter, ReloadPolicy, TantivyError};

use crate::index::query::TextQuery;
use crate::index::tantivy::schema::Fields;
use crate::index::{IndexError, Operation};
use crate::types::id::{AccountId, Id};

/// The folder of this version of tokens and schema. A change of either takes the next number.
const VERSION_FOLDER: &str = "v1";
/// Where an index goes that cannot be read.
const BROKEN_FOLDER: &str = "broken";
/// There while Emails may be missing that the store has.
const REBUILD_MARK: &str = "rebuild";
/// Memory of the writer before it writes a segment, in bytes.
const WRITER_MEMORY: usize = 50_000_000;

/// A tantivy index in a folder. Clones share it.
#[derive(Clone)]
pub struct TantivyIndex(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    index: ::tantivy::Index,
    fields: Fields,
    reader: IndexReader,
    /// Taken out while a batch is applied; gone when one failed, and made anew for the next.
    writer: Mutex<Option<IndexWriter>>,
}

/// Why an index did not open.
enum Fault {
    /// What is in the folder is no index of ours.
    Broken(String),
    /// The folder cannot be used just now: locked, no rights, disk full.
    Unusable(String),
}

impl TantivyIndex {
    /// Opens the index in a folder, or begins one.
    pub fn open(folder: &Path) -> Result<TantivyIndex, IndexError> {
        let io = |error: std::io::Error| IndexError::Open(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(io)?;
        remove_other_versions(folder).map_err(io)?;
        match open_version(folder) {
            Ok(index) => Ok(index),
            Err(Fault::Unusable(why)) => Err(IndexError::Open(why)),
            Err(Fault::Broken(why)) => {
                tracing::warn!(folder = %folder.display(), why, "search index is broken, it is built anew");
                let broken = folder.join(BROKEN_FOLDER);
                if broken.exists() {
                    std::fs::remove_dir_all(&broken).map_err(io)?;
                }
                std::fs::rename(folder.join(VERSION_FOLDER), broken).map_err(io)?;
                open_version(folder).map_err(|fault| match fault {
                    Fault::Broken(why) | Fault::Unusable(why) => IndexError::Open(why),
                })
            }
        }
    }

    /// See `Index::needs_rebuild`.
    pub fn needs_rebuild(&self) -> bool {
        self.0.folder.join(REBUILD_MARK).exists()
    }

    /// See `Index::rebuild_queued`.
    pub fn rebuild_queued(&self) -> Result<(), IndexError> {
        match std::fs::remove_file(self.0.folder.join(REBUILD_MARK)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(IndexError::Engine(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// See `Index::apply`.
    pub async fn apply(&self, batch: Vec<Operation>) -> Result<(), IndexError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.apply(batch)).await
    }

    /// See `Index::search`.
    pub async fn search(&self, account: AccountId, query: &TextQuery) -> Result<Vec<Id>, IndexError> {
        let (inner, query) = (Arc::clone(&self.0), query.clone());
        blocking(move || search::search(&inner.reader.searcher(), &inner.fields, account, &query)).await
    }
}

impl Inner {
    fn apply(&self, batch: Vec<Operation>) -> Result<(), TantivyError> {
        let mut place = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever fails below drops the writer, and with it all that is not committed.
        let mut writer = match place.take() {
            Some(writer) => writer,
            None => self.index.writer_with_options(
                IndexWriterOptions::builder()
                    .num_worker_threads(1)
                    .memory_budget_per_thread(WRITER_MEMORY)
                    .num_merge_threads(1)
                    .build(),
            )?,
        };
        for operation in batch {
            match operation {
                Operation::Put { account, email, text } => {
                    writer.delete_term(self.fields.key_term(account, email));
                    writer.add_document(self.fields.document(account, email, &text))?;
                }
                Operation::Delete { account, email } => {
                    writer.delete_term(self.fields.key_term(account, email));
                }
                Operation::DeleteAccount { account } => {
                    writer.delete_term(self.fields.account_term(account));
                }
            }
        }
        writer.commit()?;
        self.reader.reload()?;
        *place = Some(writer);
        Ok(())
    }
}

#[cfg(test)]
impl TantivyIndex {
    /// The writer of another process: as long as it is there, no batch can be applied.
    pub fn other_writer(&self) -> IndexWriter {
        drop(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.0.index.writer(WRITER_MEMORY).expect("the lock is free")
    }
}

/// Runs engine work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TantivyError> + Send + 'static,
) -> Result<T, IndexError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError::Engine(error.to_string())),
        Err(error) => Err(IndexError::Fault(error.to_string())),
    }
}

/// Removes the folders of other versions: nothing reads them again.
fn remove_other_versions(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix('v')).map(str::parse::<u32>);
        if matches!(version, Some(Ok(_))) && name != VERSION_FOLDER {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn open_version(folder: &Path) -> Result<TantivyIndex, Fault> {
    let path = folder.join(VERSION_FOLDER);
    let unusable = |error: &dyn std::fmt::Display| Fault::Unusable(format!("{}: {error}", path.display()));
    if !path.exists() {
        // The mark comes first: whatever happens, a new index is known to be incomplete.
        let mark = std::fs::File::create(folder.join(REBUILD_MARK)).map_err(|error| unusable(&error))?;
        mark.sync_all().map_err(|error| unusable(&error))?;
        std::fs::create_dir(&path).map_err(|error| unusable(&error))?;
    }
    let (schema, fields) = schema::build();
    let open = || {
        let directory = MmapDirectory::open(&path)?;
        let index = ::tantivy::Index::open_or_create(directory, schema)?;
        schema::register(&index);
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok((index, reader))
    };
    // Damaged files may make the engine panic instead of answering with an error.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok((index, reader))) => Ok(TantivyIndex(Arc::new(Inner {
            folder: folder.to_owned(),
            index,
            fields,
            reader,
            writer: Mutex::new(None),
        }))),
        Ok(Err(error)) => Err(fault_of(error)),
        Err(_) => Err(Fault::Broken("the search engine stopped on its files".to_owned())),
    }
}

/// Whether an error says that the files are bad, or that they cannot be used now.
fn fault_of(error: TantivyError) -> Fault {
    use std::io::ErrorKind;
    let why = error.to_string();
    let kind = match &error {
        TantivyError::LockFailure(..)
        | TantivyError::OpenDirectoryError(_)
        | TantivyError::OpenWriteError(_) => {
            return Fault::Unusable(why);
        }
        TantivyError::IoError(error) => error.kind(),
        TantivyError::OpenReadError(::tantivy::directory::error::OpenReadError::IoError {
            io_error, ..
        }) => io_error.kind(),
        _ => return Fault::Broken(why),
    };
    match kind {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::NotFound => {
            Fault::Broken(why)
        }
        _ => Fault::Unusable(why),
    }
}

#[cfg(test)]
mod tests;
