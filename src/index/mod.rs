//! Full-text search: what can be found, in queries and messages alike, and the engines that find
//! it.
//!
//! `token` cuts texts, once for all engines; `query` reads the text leaves of a filter; `document`
//! says what of a message is searched and scans one message directly; `snippet` marks what was
//! found; `source` reads messages for the index and for the direct scan, `worker` takes the index
//! queue into the index, and `rebuild` fills one that was begun anew. An engine is a variant of
//! `Index`. It answers a text leaf with the set of all ids of one account that match (and, where its
//! terms cannot tell, of those that may: they are scanned); the rest of a filter, and the order, are
//! the store's (the index holds no mutable state of an Email). What an engine answers and what the direct scan answers are the
//! same: a message that is not yet indexed is scanned instead.
//!
//! The index holds nothing that cannot be made again from the messages.

#[cfg(test)]
mod contract_tests;
pub mod document;
pub mod fold;
#[cfg(test)]
mod languages;
pub mod meilisearch;
pub mod query;
pub mod rebuild;
pub mod snippet;
pub mod source;
pub mod tantivy;
pub mod token;
pub mod worker;

use std::fmt;
use std::path::Path;

use crate::config::engine::SearchUrl;
use crate::index::meilisearch::MeilisearchIndex;
use crate::index::query::TextQuery;
use crate::index::tantivy::TantivyIndex;
use crate::mail::text::SearchText;
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;

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

impl Operation {
    /// Whose Email, or Emails, it is about.
    pub fn account(&self) -> AccountId {
        match self {
            Operation::Put { account, .. }
            | Operation::Delete { account, .. }
            | Operation::DeleteAccount { account } => *account,
        }
    }
}

/// What the index knows of a search. Both lists are in ascending order, and have nothing in common.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// Emails that match.
    pub certain: Vec<Id>,
    /// Emails that may match: whoever asked reads them. No other Email of the index matches.
    pub possible: Vec<Id>,
}

/// The index failed; the caller may try again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IndexError {
    /// The index cannot be opened.
    Open(String),
    /// A change or a search failed.
    Engine(String),
    /// A fault of the program on what it was given: the same will fail again.
    Fault(String),
    /// The messages cannot be read now.
    Messages(String),
    /// So many messages hold all words of a phrase that they cannot be read one by one.
    TooBroad,
    /// The index is in the folder of another process.
    Elsewhere,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::Open(why) => write!(f, "the search index cannot be opened: {why}"),
            IndexError::Engine(why) => write!(f, "the search index failed: {why}"),
            IndexError::Fault(why) => write!(f, "indexing broke off: {why}"),
            IndexError::Messages(why) => write!(f, "messages cannot be read for the search: {why}"),
            IndexError::TooBroad => f.write_str("a phrase of words that too many messages have"),
            IndexError::Elsewhere => f.write_str("the search index is in the folder of another process"),
        }
    }
}

impl std::error::Error for IndexError {}

/// A full-text index. Clones share it.
#[derive(Clone)]
pub enum Index {
    /// In this process, in a folder.
    Tantivy(TantivyIndex),
    /// Shared by all processes.
    Meilisearch(MeilisearchIndex),
    /// In the folder of another process, which alone can search it.
    Elsewhere,
}

impl Index {
    /// Opens the index at an address. Blocks while it reads files.
    ///
    /// An index in a folder that is broken, or of another version, is moved away and begun anew; then
    /// `needs_rebuild` says so. Meilisearch is asked when it is wanted; `installation`, letters and digits,
    /// tells whose Emails are all in it where several installations share it.
    pub fn open(url: &SearchUrl, key: Option<&Secret>, installation: &str) -> Result<Index, IndexError> {
        match url {
            SearchUrl::Tantivy(folder) => Index::in_folder(folder),
            SearchUrl::Meilisearch(url) => {
                MeilisearchIndex::open(url, key, installation).map(Index::Meilisearch)
            }
        }
    }

    /// Opens the index in a folder, or begins one.
    pub fn in_folder(folder: &Path) -> Result<Index, IndexError> {
        TantivyIndex::open(folder).map(Index::Tantivy)
    }

    /// Whether several processes may use it at once.
    pub fn is_shared(&self) -> bool {
        matches!(self, Index::Meilisearch(_))
    }

    /// Whether the index was begun anew since `rebuild_queued` was last called, so that every
    /// Email must be put into it. True of a new index too. Survives a restart.
    pub async fn needs_rebuild(&self) -> Result<bool, IndexError> {
        match self {
            Index::Tantivy(index) => Ok(index.needs_rebuild()),
            Index::Elsewhere => Ok(false),
            Index::Meilisearch(index) => index.needs_rebuild().await,
        }
    }

    /// Whether this process is to fill the index that asks for it: of several one, as long as it goes on
    /// asking this within a minute. `filler` is a number of its own.
    pub async fn may_rebuild(&self, filler: u32, now_ms: i64) -> Result<bool, IndexError> {
        match self {
            Index::Tantivy(_) => Ok(true),
            Index::Elsewhere => Ok(false),
            Index::Meilisearch(index) => index.may_rebuild(filler, now_ms).await,
        }
    }

    /// Every Email of the store is in the index, or durably in its queue.
    pub async fn rebuild_queued(&self) -> Result<(), IndexError> {
        match self {
            Index::Tantivy(index) => index.rebuild_queued(),
            Index::Elsewhere => Err(IndexError::Elsewhere),
            Index::Meilisearch(index) => index.rebuild_queued().await,
        }
    }

    /// Applies changes in their order. When it returns, they are durable and every search that
    /// begins later sees them; when it fails, none or all of them may have been applied.
    pub async fn apply(&self, batch: Vec<Operation>) -> Result<(), IndexError> {
        match self {
            Index::Tantivy(index) => index.apply(batch).await,
            Index::Elsewhere => Err(IndexError::Elsewhere),
            Index::Meilisearch(index) => index.apply(batch).await,
        }
    }

    /// The Emails of the account that match, as far as the index knows.
    pub async fn search(&self, account: AccountId, query: &TextQuery) -> Result<Found, IndexError> {
        match self {
            Index::Tantivy(index) => {
                let certain = index.search(account, query).await?;
                Ok(Found { certain, possible: Vec::new() })
            }
            Index::Elsewhere => Err(IndexError::Elsewhere),
            Index::Meilisearch(index) => index.search(account, query).await,
        }
    }
}
