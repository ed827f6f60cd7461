//! A store with accounts, for the tests of this folder and its neighbours.

use std::path::Path;

use crate::store::Store;
use crate::store::directory::account::{self, Created, NewAccount};
use crate::store::directory::domain::{self, NewDomain};
use crate::store::testing::{sqlite_in, store_in};
use crate::types::address::Address;
use crate::types::clock::Clock;

/// A store in a folder of its own, with the domain `example.test` and a clock that stands still.
pub struct Fixture {
    /// The store.
    pub store: Store,
    /// Its clock.
    pub clock: Clock,
    /// Removed with the fixture.
    pub folder: tempfile::TempDir,
}

impl Fixture {
    /// An empty store with its domain.
    pub async fn new() -> Fixture {
        Fixture::over(store_in).await
    }

    /// As `new`, over SQLite whatever the tests are run over.
    pub async fn on_sqlite() -> Fixture {
        Fixture::over(sqlite_in).await
    }

    async fn over(open: fn(&Path, Clock) -> Store) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(1_750_000_000_000);
        let store = open(folder.path(), clock.clone());
        let fixture = Fixture { store, clock, folder };
        fixture.domain("example.test").await;
        fixture
    }

    /// Adds a domain.
    pub async fn domain(&self, name: &str) {
        let new = NewDomain { name: name.to_owned(), dkim_keys: "[]".to_owned() };
        domain::add(&self.store, new).await.unwrap();
    }

    /// Adds an account whose password nobody knows.
    pub async fn account(&self, address: &str) -> Created {
        let address = Address::parse(address).unwrap();
        let new = NewAccount { address, password_hash: String::new(), quota_bytes: 0 };
        account::create(&self.store, new).await.unwrap()
    }
}
