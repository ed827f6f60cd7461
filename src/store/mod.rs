//! The only owner of SQL: accounts, mail, the change log and the queues.
//!
//! Reads take a snapshot (`Store::read`); writes go through `Store::write`, one account each, which
//! records changes, writes the change log and publishes after the commit. Every statement about
//! account data names its account.

pub mod audit;
pub mod blob;
pub mod change;
#[cfg(test)]
mod change_tests;
pub mod cluster;
pub mod copy;
pub mod db;
mod dialect;
pub mod directory;
pub mod email;
pub mod error;
pub mod event;
#[cfg(test)]
mod funnel_tests;
pub mod idempotency;
pub mod identity;
mod lanes;
pub mod mailbox;
pub mod migrate;
#[cfg(test)]
mod migrate_tests;
#[cfg(test)]
mod plan;
mod postgres;
#[cfg(test)]
mod postgres_tests;
pub mod push_subscription;
pub mod queue;
pub mod server_key;
pub mod snapshot;
mod sqlite;
#[cfg(test)]
mod sqlite_tests;
pub mod submission;
pub mod suppression;
pub mod template;
#[cfg(test)]
pub mod testing;
pub mod tx;
pub mod unit;
pub mod vacation;
pub mod value;

use std::path::Path;
use std::sync::Arc;

use crate::bus::Bus;
use crate::config::engine::{DatabaseUrl, PostgresUrl};
use crate::store::error::StoreError;
use crate::store::lanes::Lanes;
use crate::store::migrate::Migrated;
use crate::store::postgres::PostgresEngine;
use crate::store::snapshot::Snapshot;
use crate::store::sqlite::SqliteEngine;
use crate::store::tx::{Scope, Tx, TxParts};
use crate::store::unit::{Job, Unit, Urgency};
use crate::types::clock::Clock;
use crate::types::id::{AccountId, IdMaker};

/// The store of a server. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    bus: Bus,
    parts: TxParts,
    /// Of those who use this clone.
    urgency: Urgency,
}

enum Engine {
    Sqlite(SqliteEngine),
    Postgres(Arc<PostgresEngine>),
}

impl Store {
    /// Opens a database. One of SQLite is created and migrated if need be; one of PostgreSQL must
    /// have been migrated by the operator. `connections` counts for PostgreSQL, for each host.
    pub async fn open(
        url: &DatabaseUrl,
        connections: u32,
        bus: Bus,
        clock: Clock,
    ) -> Result<Store, StoreError> {
        match url {
            DatabaseUrl::Sqlite(path) => Store::open_sqlite(path, bus, clock),
            DatabaseUrl::Postgres(url) => Store::open_postgres(url, connections, bus, clock).await,
        }
    }

    fn over(engine: Engine, bus: Bus, parts: TxParts) -> Store {
        Store { engine: Arc::new(engine), bus, parts, urgency: Urgency::Interactive }
    }

    /// Opens, and if need be creates or migrates, a SQLite database.
    pub fn open_sqlite(path: &Path, bus: Bus, clock: Clock) -> Result<Store, StoreError> {
        let mut conn = sqlite::open(path, sqlite::Access::Write)?;
        migrate::migrate_sqlite(&mut conn)?;
        drop(conn);
        let parts = TxParts::new(clock);
        let tx_parts = parts.clone();
        let engine = SqliteEngine::start(path, |conn| Tx::new(conn, tx_parts), bus.clone())?;
        Ok(Store::over(Engine::Sqlite(engine), bus, parts))
    }

    /// A store on a PostgreSQL database that has been migrated.
    #[cfg(test)]
    pub fn on_postgres(url: &PostgresUrl, bus: Bus, clock: Clock) -> Result<Store, StoreError> {
        let parts = TxParts::new(clock);
        let engine = PostgresEngine::new(url, 8, parts.clone(), bus.clone())?;
        Ok(Store::over(Engine::Postgres(Arc::new(engine)), bus, parts))
    }

    async fn open_postgres(
        url: &PostgresUrl,
        connections: u32,
        bus: Bus,
        clock: Clock,
    ) -> Result<Store, StoreError> {
        let parts = TxParts::new(clock);
        let engine = PostgresEngine::new(url, connections, parts.clone(), bus.clone())?;
        migrate::check_postgres(&engine).await?;
        engine.learn_shards().await?;
        Ok(Store::over(Engine::Postgres(Arc::new(engine)), bus, parts))
    }

    /// Brings the schema of a PostgreSQL database up to this program, and distributes it over the nodes
    /// where there is Citus.
    pub async fn migrate(url: &PostgresUrl) -> Result<Migrated, StoreError> {
        let engine = PostgresEngine::new(url, 2, TxParts::new(Clock::system()), Bus::memory())?;
        let added = migrate::migrate_postgres(&engine).await;
        engine.close().await;
        added
    }

    /// The same store for those for whom nobody waits (`Background`), or another server that has time
    /// (`Soon`): on PostgreSQL their reads take their turn, and none of their units is interactive. Who
    /// holds a snapshot may not ask for another, nor write, until it is dropped: it might be the last turn.
    pub fn with_urgency(&self, urgency: Urgency) -> Store {
        Store { urgency, ..self.clone() }
    }

    /// A consistent view for reading.
    pub async fn read(&self) -> Result<Snapshot, StoreError> {
        Snapshot::begin(self.engine.clone(), self.urgency).await
    }

    /// Runs a unit of work on one account, durably, for a client who waits.
    pub async fn write<T, F>(&self, account: AccountId, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.run(Scope::Account(account), Urgency::Interactive, unit).await
    }

    /// As `write`, after all interactive units: ingest and sweeps.
    pub async fn write_in_background<T, F>(&self, account: AccountId, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.run(Scope::Account(account), Urgency::Background, unit).await
    }

    /// Runs a unit of work on rows of a queue's lane, or of an account's rows that are no JMAP state:
    /// it takes no account row and moves no modseq.
    pub async fn write_lane<T, F>(&self, lane: i64, urgency: Urgency, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.run(Scope::Lane(lane), urgency, unit).await
    }

    /// Runs a unit of work on rows of no account and no lane (logins, domains, blobs). Such a unit
    /// may be run twice when its first commit was not heard of: it must not mind.
    pub async fn write_plain<T, F>(&self, urgency: Urgency, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        self.run(Scope::Elsewhere, urgency, unit).await
    }

    async fn run<T, F>(&self, scope: Scope, urgency: Urgency, unit: F) -> Result<T, StoreError>
    where
        F: for<'a> Unit<'a, T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(engine) => {
                let (job, result) = Job::new(scope, unit);
                engine.submit(Box::new(job), urgency);
                result.await.unwrap_or(Err(StoreError::Closed))
            }
            Engine::Postgres(engine) => {
                // Turns are for workers: behind a store of clients somebody waits, whatever it is for.
                let urgency = match (self.urgency, urgency) {
                    (Urgency::Interactive, _) => Urgency::Interactive,
                    (_, Urgency::Interactive) => Urgency::Soon,
                    (_, urgency) => urgency,
                };
                engine.write(scope, urgency, unit).await
            }
        }
    }

    /// Whether the lanes of the queues are on several nodes, of which one may be lost.
    pub fn has_nodes(&self) -> bool {
        matches!(*self.parts.lanes(), Lanes::Sharded(_))
    }

    /// Whether each transaction leaves a number by which its commit can be looked up.
    pub fn marks_commits(&self) -> bool {
        matches!(*self.engine, Engine::Postgres(_))
    }

    /// Whether the tests run over PostgreSQL, whose dialect is another where they change the schema.
    #[cfg(test)]
    pub fn is_postgres(&self) -> bool {
        matches!(*self.engine, Engine::Postgres(_))
    }

    /// The bus on which commits are told.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The clock of the store.
    pub fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// The maker of ids.
    pub fn ids(&self) -> &Arc<IdMaker> {
        &self.parts.ids
    }

    /// The lanes of the queues.
    pub fn lanes(&self) -> Arc<Lanes> {
        self.parts.lanes()
    }

    /// Finishes what is in hand and refuses more; returns when the disk has it.
    pub async fn close(&self) {
        match &*self.engine {
            Engine::Sqlite(_) => {
                let engine = self.engine.clone();
                let close = move || match &*engine {
                    Engine::Sqlite(sqlite) => sqlite.close(),
                    Engine::Postgres(_) => {}
                };
                // A writer that panicked has nothing left to finish.
                let _ = tokio::task::spawn_blocking(close).await;
            }
            Engine::Postgres(engine) => engine.close().await,
        }
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
