//! A transaction on one account, which records its changes as it goes.
//!
//! What a unit of work records here becomes the change log, the states of the types and, after the
//! commit, the events on the bus. Nobody writes an object without recording it: the functions of
//! the store that change objects do both.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, RwLock};

use crate::bus::{Event, Queue};
use crate::store::change::{Change, ChangeKind};
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::event::{self, NewEvent};
use crate::store::lanes::Lanes;
use crate::store::queue;
use crate::types::clock::Clock;
use crate::types::event::{EventData, EventKind};
use crate::types::id::{AccountId, Id, IdMaker};
use crate::types::object_type::{ObjectType, bits_of};

const DAY_MS: i64 = 86_400_000;

/// What a unit of work is about: the account or the queue lane whose rows it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// An account, whose row it takes.
    Account(AccountId),
    /// Rows of a queue's lane, or of an account without taking its row: no state of JMAP.
    Lane(i64),
    /// Neither: logins, domains, blobs.
    Elsewhere,
}

impl Scope {
    /// Whether a commit of which nobody knows can be looked up.
    pub fn is_marked(self) -> bool {
        self != Scope::Elsewhere
    }
}

/// What every transaction of a store has at hand. Cheap to clone.
#[derive(Clone)]
pub struct TxParts {
    /// The maker of ids.
    pub ids: Arc<IdMaker>,
    /// The clock.
    pub clock: Clock,
    lanes: Arc<RwLock<Arc<Lanes>>>,
}

impl TxParts {
    /// For a store that is not known to be sharded.
    pub fn new(clock: Clock) -> TxParts {
        let ids = Arc::new(IdMaker::new(clock.clone()));
        TxParts { ids, clock, lanes: Arc::new(RwLock::new(Arc::new(Lanes::Plain))) }
    }

    /// The lanes of the queues.
    pub fn lanes(&self) -> Arc<Lanes> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What has been learnt of the shards.
    pub fn set_lanes(&self, lanes: Lanes) {
        *self.lanes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(lanes);
    }
}

/// An open transaction. Dereferences to its connection, so that what reads a snapshot reads a
/// transaction too.
pub struct Tx {
    conn: Conn,
    parts: TxParts,
    now_ms: i64,
    account: Option<AccountId>,
    modseq: i64,
    lane: i64,
    /// The types of which devices are to be told.
    push_types: i64,
    changes: BTreeMap<(ObjectType, Id), Change>,
    events: Vec<Event>,
    /// What has happened to mail.
    mail_events: Vec<NewEvent>,
    /// Open `attempt`s, one in the other.
    attempts: u32,
    /// What was recorded of an object before, for each record made while an attempt is open.
    undo: Vec<((ObjectType, Id), Option<Change>)>,
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

impl Tx {
    /// A transaction over a connection; `start` begins each unit of work.
    pub(super) fn new(conn: Conn, parts: TxParts) -> Tx {
        let now_ms = parts.clock.now_ms();
        Tx {
            conn,
            parts,
            now_ms,
            account: None,
            modseq: 0,
            lane: 0,
            push_types: 0,
            changes: BTreeMap::new(),
            events: Vec::new(),
            mail_events: Vec::new(),
            attempts: 0,
            undo: Vec::new(),
        }
    }

    /// Forgets the unit before and takes the account's row, which serialises the writers of one
    /// account and gives the modseq of this transaction.
    pub(super) async fn start(&mut self, scope: Scope) -> Result<(), StoreError> {
        self.changes.clear();
        self.events.clear();
        self.mail_events.clear();
        self.attempts = 0;
        self.undo.clear();
        self.account = None;
        self.modseq = 0;
        self.lane = 0;
        self.push_types = 0;
        self.now_ms = self.parts.clock.now_ms();
        match scope {
            Scope::Account(account) => self.take_account(account).await,
            Scope::Lane(_) | Scope::Elsewhere => Ok(()),
        }
    }

    /// As `start`, with the beginning of the transaction and its mark, in one round trip. Answers
    /// `Conflict` when the mark is there.
    pub(super) async fn begin_postgres(&mut self, scope: Scope, mark: i64) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let marked = |shard: i64| {
            format!(
                "begin; insert into commit_mark (account_id, id, created_at) values ({shard}, {mark}, {now_ms})"
            )
        };
        let text = match scope {
            Scope::Account(account) => format!(
                "{}; update account set modseq = modseq + 1 where id = {} returning modseq, lane, log_day, \
                 push_types",
                marked(account.get()),
                account.get()
            ),
            Scope::Lane(lane) => marked(lane),
            Scope::Elsewhere => "begin".to_owned(),
        };
        let Some(postgres) = self.conn.as_postgres() else { return Ok(()) };
        let rows = postgres.simple(&text).await?;
        match (scope, rows.as_slice()) {
            (Scope::Account(account), [row, ..]) => match row.as_slice() {
                [modseq, lane, log_day, push_types] => {
                    self.account_is_taken(account, [*modseq, *lane, *log_day, *push_types]).await
                }
                _ => Err(StoreError::corrupt_value("account", &"four numbers are wanted")),
            },
            (Scope::Account(_), []) => Err(StoreError::NoSuchAccount),
            _ => Ok(()),
        }
    }

    /// Makes this the transaction of an account. A unit that creates an account calls it as soon as
    /// the row is there; all others begin with it.
    pub(super) async fn take_account(&mut self, account: AccountId) -> Result<(), StoreError> {
        self.account = Some(account);
        let taken =
            sql("update account set modseq = modseq + 1 where id = $1 returning modseq, lane, log_day, push_types")
                .bind(account)
                .first(self, |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
                .await?;
        let Some(taken) = taken else {
            return Err(StoreError::NoSuchAccount);
        };
        self.account_is_taken(account, taken).await
    }

    async fn account_is_taken(
        &mut self,
        account: AccountId,
        [modseq, lane, log_day, push_types]: [i64; 4],
    ) -> Result<(), StoreError> {
        self.account = Some(account);
        self.push_types = push_types;
        self.modseq = modseq;
        self.lane = lane;
        let today = self.now_ms / DAY_MS;
        if today > log_day {
            sql("update account set log_day = $2 where id = $1").bind(account).bind(today).run(self).await?;
            sql(
                "insert into change_day (account_id, day, modseq) values ($1, $2, $3) on conflict do nothing",
            )
            .bind(account)
            .bind(today)
            .bind(modseq)
            .run(self)
            .await?;
        }
        Ok(())
    }

    /// Writes the events of mail and the recorded changes: the last statements of every unit of work.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        let Some(account) = self.account else { return Ok(()) };
        let mail_events = std::mem::take(&mut self.mail_events);
        event::enqueue(self, mail_events).await?;
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        let mut rows = Vec::with_capacity(changes.len());
        let mut types = Vec::new();
        for ((object_type, id), change) in &changes {
            if types.last() != Some(object_type) {
                types.push(*object_type);
            }
            if object_type.has_objects() {
                rows.push(vec![
                    account.into(),
                    object_type.number().into(),
                    self.modseq.into(),
                    (*id).into(),
                    change.kind.number().into(),
                    change.properties.into(),
                ]);
            }
        }
        sql("insert into change (account_id, type, modseq, object_id, kind, properties) \
             values ($1, $2, $3, $4, $5, $6)")
        .run_each(self, rows)
        .await?;
        let heads = types
            .iter()
            .map(|object_type| vec![account.into(), object_type.number().into(), self.modseq.into()])
            .collect();
        sql("insert into type_state (account_id, type, modseq) values ($1, $2, $3) \
             on conflict (account_id, type) do update set modseq = excluded.modseq")
        .run_each(self, heads)
        .await?;
        let to_push = bits_of(&types) & self.push_types;
        if to_push != 0 {
            queue::push::enqueue(self, to_push).await?;
        }
        self.events.push(Event::Changed {
            account,
            modseq: self.modseq,
            types: types.into(),
            at: self.now_ms(),
        });
        Ok(())
    }

    /// What to publish once the commit has succeeded.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The account of the transaction. Units without one must not ask: they get account 0, which
    /// owns nothing.
    pub fn account(&self) -> AccountId {
        self.account.unwrap_or_default()
    }

    /// The modseq that this transaction's changes carry.
    pub fn modseq(&self) -> i64 {
        self.modseq
    }

    /// The lanes of the queues.
    pub fn lanes(&self) -> Arc<Lanes> {
        self.parts.lanes()
    }

    /// The queue lane of the account.
    pub fn lane(&self) -> i64 {
        self.lane
    }

    /// The time of the transaction, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// A new id.
    pub fn new_id(&self) -> Id {
        self.parts.ids.make()
    }

    /// Records that an object has come to be.
    pub fn created(&mut self, object_type: ObjectType, id: Id) {
        self.record(object_type, id, Change { kind: ChangeKind::Created, properties: 0 });
    }

    /// Records that properties of an object have changed; the bits are the type's own.
    pub fn updated(&mut self, object_type: ObjectType, id: Id, properties: i64) {
        self.record(object_type, id, Change { kind: ChangeKind::Updated, properties });
    }

    /// Records that an object is gone.
    pub fn destroyed(&mut self, object_type: ObjectType, id: Id) {
        self.record(object_type, id, Change { kind: ChangeKind::Destroyed, properties: 0 });
    }

    /// Moves the state of a type that has no objects of its own (EmailDelivery).
    pub fn touched(&mut self, object_type: ObjectType) {
        self.updated(object_type, Id(0), 0);
    }

    /// Whether the object was created in this transaction.
    pub fn is_created_here(&self, object_type: ObjectType, id: Id) -> bool {
        self.changes.get(&(object_type, id)).is_some_and(|change| change.kind == ChangeKind::Created)
    }

    /// Whether the transaction has recorded a change of the type.
    pub fn has_changed(&self, object_type: ObjectType) -> bool {
        self.changes.range((object_type, Id(i64::MIN))..).next().is_some_and(|(key, _)| key.0 == object_type)
    }

    fn record(&mut self, object_type: ObjectType, id: Id, change: Change) {
        if self.attempts > 0 {
            let key = (object_type, id);
            self.undo.push((key, self.changes.get(&key).copied()));
        }
        match self.changes.entry((object_type, id)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(change);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => match entry.get().then(change) {
                Some(merged) => {
                    entry.insert(merged);
                }
                None => {
                    entry.remove();
                }
            },
        }
    }

    /// Notes, in the transaction of an account, what has happened to its mail.
    pub fn note_event(&mut self, kind: EventKind, submission: Id, data: EventData) {
        self.mail_events.push(NewEvent { kind, submission, data });
    }

    /// Tells the workers of a queue, after the commit, that there is work in a lane.
    pub fn wake(&mut self, queue: Queue, lane: i64) {
        self.publish_after_commit(Event::Queued { queue, lane });
    }

    /// Publishes an event once the commit has succeeded, and not otherwise.
    pub fn publish_after_commit(&mut self, event: Event) {
        if !self.events.contains(&event) {
            self.events.push(event);
        }
    }

    /// Runs a part of the unit that may fail by itself: when it answers an error, or a statement of
    /// it has failed, all that it wrote, recorded and wanted published is undone, and the unit goes
    /// on. Attempts may stand one in the other.
    pub async fn attempt<T, E: From<StoreError>>(
        &mut self,
        part: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(error) = self.conn.failure() {
            return Err(error.into());
        }
        self.conn.control("savepoint attempt").await?;
        let (undo_mark, events_mark) = (self.undo.len(), self.events.len());
        let mail_events_mark = self.mail_events.len();
        self.attempts += 1;
        let outcome = part(self).await;
        self.attempts -= 1;
        let failure = self.conn.failure();
        let outcome = match (outcome, failure.clone()) {
            // A part may not hide that a statement failed, either.
            (Ok(_), Some(error)) => Err(error.into()),
            (outcome, _) => outcome,
        };
        if outcome.is_ok() {
            if self.attempts == 0 {
                self.undo.clear();
            }
            self.control_or_fail("release attempt").await?;
            return outcome;
        }
        if self.conn.has_lost_transaction() {
            // The engine has undone more than this part: the unit cannot go on.
            let error = failure.unwrap_or(StoreError::Full);
            self.conn.fail(&error);
            return Err(error.into());
        }
        self.control_or_fail("rollback to attempt").await?;
        self.control_or_fail("release attempt").await?;
        let _ = self.conn.take_failure();
        if let Some(postgres) = self.conn.as_postgres() {
            postgres.renew_guard().await?;
        }
        for (key, before) in self.undo.drain(undo_mark..).rev() {
            match before {
                Some(change) => self.changes.insert(key, change),
                None => self.changes.remove(&key),
            };
        }
        self.events.truncate(events_mark);
        self.mail_events.truncate(mail_events_mark);
        outcome
    }

    /// Runs a statement of `attempt` itself, whose failure the unit must not survive.
    async fn control_or_fail(&mut self, text: &'static str) -> Result<(), StoreError> {
        let outcome = self.conn.control(text).await;
        if let Err(error) = &outcome {
            self.conn.fail(error);
        }
        outcome
    }
}
