//! What the tests of this folder share: blobs over a store in a folder of their own.

use tempfile::TempDir;

use crate::blob::Blobs;
use crate::bus::Bus;
use crate::store::Store;
use crate::store::db::sql;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};

/// Where the clocks of tests start: 2026-01-01.
pub const START_MS: i64 = 1_767_225_600_000;

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
        let store = Store::open_sqlite(&folder.path().join("t.db"), Bus::memory(), clock.clone()).unwrap();
        let blobs =
            Blobs::open_local(&folder.path().join("blobs"), &folder.path().join("tmp"), store.clone())
                .unwrap();
        Bench { folder, clock, store, blobs }
    }

    pub async fn account(&self) -> AccountId {
        let id = self.store.ids().make();
        self.store
            .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
                sql("insert into account (id, name, created_at, lane, epoch) values ($1, $2, 0, 0, 1)")
                    .bind(id)
                    .bind(id.to_string())
                    .run(tx)
                    .await
            })
            .await
            .unwrap();
        AccountId(id)
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
                    false => count += 1,
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

/// An id for an object of a test.
pub fn object(number: i64) -> Id {
    Id(number)
}
