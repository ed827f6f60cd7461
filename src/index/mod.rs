//! Full-text search: what can be found, in queries and messages alike, and the engines that find
//! it.
//!
//! `token` cuts texts, once for all engines; `query` reads the text leaves of a filter; `document`
//! says what of a message is searched and scans one message directly; `snippet` marks what was
//! found; `source` reads messages for the index and for the direct scan, and `worker` takes the
//! index queue into the index. An engine is a variant of `Index`. It answers a text leaf with the set of all ids of
//! one account that match; the rest of a filter, and the order, are the store's (the index holds
//! no mutable state of an Email). What an engine answers and what the direct scan answers are the
//! same: a message that is not yet indexed is scanned instead.
//!
//! The index holds nothing that cannot be made again from the messages.

pub mod document;
pub mod fold;
#[cfg(test)]
mod languages;
pub mod query;
pub mod rebuild;
pub mod snippet;
pub mod source;
pub mod tantivy;
pub mod token;
pub mod worker;

use std::fmt;
use std::path::Path;

use crate::index::query::TextQuery;
use crate::index::tantivy::TantivyIndex;
use crate::mail::text::SearchText;
use crate::types::id::{AccountId, Id};

/// A change of the index. Each may be applied more than once, to the same effect.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Adds an Email, or puts it in the place of what the index has of it.
    Put {
        /// Whose it is.
        account: AccountId,
        /// Its id.
        email: Id,
        /// What can be found in it.
        text: Box<SearchText>,
    },
    /// Removes an Email, if it is there.
    Delete {
        /// Whose it was.
        account: AccountId,
        /// Its id.
        email: Id,
    },
    /// Removes all Emails of an account.
    DeleteAccount {
        /// Which.
        account: AccountId,
    },
}

/// The index failed; the caller may try again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IndexError {
    /// The address names no engine.
    UnknownEngine(String),
    /// The index cannot be opened.
    Open(String),
    /// A change or a search failed.
    Engine(String),
    /// A fault of the program on what it was given: the same will fail again.
    Fault(String),
    /// The messages cannot be read now.
    Messages(String),
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::UnknownEngine(url) => write!(f, "{url}: a search index is tantivy:FOLDER"),
            IndexError::Open(why) => write!(f, "the search index cannot be opened: {why}"),
            IndexError::Engine(why) => write!(f, "the search index failed: {why}"),
            IndexError::Fault(why) => write!(f, "indexing broke off: {why}"),
            IndexError::Messages(why) => write!(f, "messages cannot be read for the search: {why}"),
        }
    }
}

impl std::error::Error for IndexError {}

/// A full-text index. Clones share it.
#[derive(Clone)]
pub enum Index {
    /// In this process, in a folder.
    Tantivy(TantivyIndex),
}

impl Index {
    /// Opens the index at an address: `tantivy:FOLDER`. Blocks while it reads files.
    ///
    /// An index that is broken, or of another version, is moved away and begun anew; then
    /// `needs_rebuild` says so.
    pub fn open(url: &str) -> Result<Index, IndexError> {
        let Some(folder) = url.strip_prefix("tantivy:") else {
            return Err(IndexError::UnknownEngine(url.to_owned()));
        };
        let folder = folder.strip_prefix("//").unwrap_or(folder);
        TantivyIndex::open(Path::new(folder)).map(Index::Tantivy)
    }

    /// Whether the index was begun anew since `rebuild_queued` was last called, so that every
    /// Email must be put into it. True of a new index too. Survives a restart.
    pub fn needs_rebuild(&self) -> bool {
        match self {
            Index::Tantivy(index) => index.needs_rebuild(),
        }
    }

    /// Every Email of the store is in the index, or durably in its queue.
    pub fn rebuild_queued(&self) -> Result<(), IndexError> {
        match self {
            Index::Tantivy(index) => index.rebuild_queued(),
        }
    }

    /// Applies changes in their order. When it returns, they are durable and every search that
    /// begins later sees them; when it fails, none or all of them may have been applied.
    pub async fn apply(&self, batch: Vec<Operation>) -> Result<(), IndexError> {
        match self {
            Index::Tantivy(index) => index.apply(batch).await,
        }
    }

    /// All Emails of the account that match, in ascending order of their ids.
    pub async fn search(&self, account: AccountId, query: &TextQuery) -> Result<Vec<Id>, IndexError> {
        match self {
            Index::Tantivy(index) => index.search(account, query).await,
        }
    }
}
