//! The only owner of SQL: accounts, mail, the change log and the queues.
//!
//! Reads take a snapshot (`Store::read`); writes go through `Store::write`, one account each, which
//! records changes, writes the change log and publishes after the commit. Every statement about
//! account data names its account.

pub mod blob;
pub mod change;
#[cfg(test)]
mod change_tests;
pub mod cluster;
pub mod db;
pub mod directory;
pub mod email;
pub mod error;
#[cfg(test)]
mod funnel_tests;
pub mod identity;
pub mod mailbox;
pub mod migrate;
#[cfg(test)]
mod migrate_tests;
#[cfg(test)]
mod plan;
pub mod queue;
pub mod snapshot;
mod sqlite;
#[cfg(test)]
mod sqlite_tests;
pub mod submission;
#[cfg(test)]
pub mod testing;
pub mod tx;
pub mod unit;
pub mod vacation;
pub mod value;

use std::path::Path;
use std::sync::Arc;

use crate::bus::Bus;
use crate::store::error::StoreError;
use crate::store::snapshot::Snapshot;
use crate::store::sqlite::SqliteEngine;
use crate::store::tx::Tx;
use crate::store::unit::{Job, Unit, Urgency};
use crate::types::clock::Clock;
use crate::types::id::{AccountId, IdMaker};

/// The store of a server. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    bus: Bus,
    ids: Arc<IdMaker>,
    clock: Clock,
}

enum Engine {
    Sqlite(SqliteEngine),
}

impl Store {
    /// Opens, and if need be creates or migrates, a SQLite database.
    pub fn open_sqlite(path: &Path, bus: Bus, clock: Clock) -> Result<Store, StoreError> {
        let mut conn = sqlite::open(path, sqlite::Access::Write)?;
        migrate::migrate_sqlite(&mut conn)?;
        drop(conn);
        let ids = Arc::new(IdMaker::new(clock.clone()));
        let make_tx = {
            let (ids, clock) = (ids.clone(), clock.clone());
            move |conn| Tx::new(conn, ids, clock)
        };
        let engine = SqliteEngine::start(path, make_tx, bus.clone())?;
        Ok(Store { engine: Arc::new(Engine::Sqlite(engine)), bus, ids, clock })
    }

    /// A consistent view for reading.
    pub async fn read(&self) -> Result<Snapshot, StoreError> {
        Snapshot::begin(self.engine.clone())
    }

    /// Runs a unit of work on one account, durably, for a client who waits.
    pub async fn write<T, F>(&self, account: AccountId, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.run(Some(account), Urgency::Interactive, unit).await
    }

    /// As `write`, after all interactive units: ingest and sweeps.
    pub async fn write_in_background<T, F>(&self, account: AccountId, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.run(Some(account), Urgency::Background, unit).await
    }

    /// Runs a unit of work on rows that are no JMAP state of an account (queues, logins): it takes
    /// no account row and moves no modseq.
    pub async fn write_plain<T, F>(&self, urgency: Urgency, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.run(None, urgency, unit).await
    }

    async fn run<T, F>(&self, account: Option<AccountId>, urgency: Urgency, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let (job, result) = Job::new(account, unit);
        let Engine::Sqlite(engine) = &*self.engine;
        engine.submit(Box::new(job), urgency);
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The bus on which commits are told.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The clock of the store.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The maker of ids.
    pub fn ids(&self) -> &Arc<IdMaker> {
        &self.ids
    }

    /// Finishes what is in hand and refuses more. Blocks until the disk has it.
    pub fn close(&self) {
        let Engine::Sqlite(engine) = &*self.engine;
        engine.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::db::sql;

    #[tokio::test]
    async fn a_unit_commits_and_its_changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus::memory();
        let mut events = bus.subscribe();
        let store = Store::open_sqlite(&folder.path().join("t.db"), bus, Clock::system()).unwrap();
        let id = store.ids().make();
        store
            .write_plain(Urgency::Interactive, async move |tx: &mut Tx| {
                sql("insert into account (id, name, created_at, lane, epoch) values ($1, 'a', 0, 0, 1)")
                    .bind(id)
                    .run(tx)
                    .await
            })
            .await
            .unwrap();
        let account = AccountId(id);
        let modseq = store
            .write(account, async move |tx: &mut Tx| {
                tx.created(crate::types::object_type::ObjectType::Mailbox, id);
                Ok(tx.modseq())
            })
            .await
            .unwrap();
        assert_eq!(modseq, 1);
        let mut snapshot = store.read().await.unwrap();
        let state = change::state_of(&mut snapshot, account, crate::types::object_type::ObjectType::Mailbox)
            .await
            .unwrap();
        assert_eq!(state, crate::types::state::State::at(1, 1));
        assert!(matches!(events.recv().await, Ok(crate::bus::Event::Changed { modseq: 1, .. })));
    }
}
