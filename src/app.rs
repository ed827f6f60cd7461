//! Every part of a running server, built once. It has no methods: who needs a part takes it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::blob::{BlobError, Blobs};
use crate::bus::Bus;
use crate::cache::Cache;
use crate::config::Config;
use crate::config::engine::{DatabaseUrl, SearchUrl};
use crate::config::role::Role;
use crate::index::{Index, IndexError};
use crate::store::directory::sign_in::SignIn;
use crate::store::error::StoreError;
use crate::store::server_key;
use crate::store::{Store, copy};
use crate::types::clock::Clock;
use crate::vapid::Vapid;

/// Octets that the cache of immutable metadata may take.
const CACHE_BYTES: u64 = 64 << 20;

/// The parts of a server. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The settings.
    pub config: Arc<Config>,
    /// The clock.
    pub clock: Clock,
    /// Events.
    pub bus: Bus,
    /// What is read most, and rate counters.
    pub cache: Cache,
    /// Metadata and queues.
    pub store: Store,
    /// Messages and uploads.
    pub blobs: Blobs,
    /// Full text.
    pub index: Index,
    /// Who may come in.
    pub sign_in: SignIn,
    /// Signs tickets; the same in all processes of a server.
    pub ticket_key: [u8; 32],
    /// Signs web pushes.
    pub vapid: Vapid,
}

/// A part that could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A folder cannot be made.
    Folder(std::io::Error),
    /// The database.
    Store(StoreError),
    /// A copy into the database has not come to its end.
    HalfCopied,
    /// The blobs.
    Blobs(BlobError),
    /// The index.
    Index(IndexError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Folder(error) => write!(f, "the data folder cannot be made: {error}"),
            OpenError::Store(error) => write!(f, "the database cannot be opened: {error}"),
            OpenError::HalfCopied => f.write_str(
                "a copy into this database was begun and has not ended: run the same `postrider copy` again, \
                 or take another database",
            ),
            OpenError::Blobs(error) => write!(f, "the place of blobs cannot be opened: {error}"),
            OpenError::Index(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens all parts. Whoever calls this holds the lock of the data folder.
pub async fn open(config: Arc<Config>, clock: Clock) -> Result<App, OpenError> {
    std::fs::create_dir_all(&config.data).map_err(OpenError::Folder)?;
    let bus = Bus::open(&config.cache_url);
    if let DatabaseUrl::Sqlite(database) = &config.database_url {
        make_parent(database)?;
    }
    let store = Store::open(&config.database_url, config.database_connections, bus.clone(), clock.clone());
    let store = store.await.map_err(OpenError::Store)?;
    if copy::is_under_way(&store).await.map_err(OpenError::Store)? {
        return Err(OpenError::HalfCopied);
    }
    let credentials = config.s3_credentials.as_ref();
    let blobs = Blobs::open(&config.blob_url, credentials, &config.data.join("tmp"), store.clone())
        .map_err(OpenError::Blobs)?;
    let cache = Cache::open(&config.cache_url, CACHE_BYTES, clock.clone());
    let sign_in_key = server_key::get(&store, "sign-in").await.map_err(OpenError::Store)?;
    let ticket_key = server_key::get(&store, "ticket").await.map_err(OpenError::Store)?;
    // All processes of an installation have this number, and no other installation does.
    let vapid = Vapid::open(&store, &config.hostname).await.map_err(OpenError::Store)?;
    let number = blake3::keyed_hash(&ticket_key, b"installation").to_hex();
    let settings = config.clone();
    let index = tokio::task::spawn_blocking(move || {
        // Of processes that share a database, the one that fills a folder is the one that has it.
        if matches!(settings.search_url, SearchUrl::Tantivy(_)) && !settings.role.has(Role::Index) {
            return Ok(Index::Elsewhere);
        }
        Index::open(&settings.search_url, settings.search_key.as_ref(), &number[..16])
    })
    .await
    .unwrap_or_else(|error| Err(IndexError::Open(error.to_string())))
    .map_err(OpenError::Index)?;
    let sign_in = SignIn::new(store.clone(), cache.clone(), sign_in_key);
    Ok(App { config, clock, bus, cache, store, blobs, index, sign_in, ticket_key, vapid })
}

fn make_parent(path: &Path) -> Result<(), OpenError> {
    match path.parent() {
        Some(parent) => std::fs::create_dir_all(parent).map_err(OpenError::Folder),
        None => Ok(()),
    }
}
