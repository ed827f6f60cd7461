//! Who is connected, and which of their accounts have changed.
//!
//! The states of each account that somebody listens to are read from the store once and then kept up
//! by the events of the bus, which tell the modseq and the types of each commit; the larger one counts,
//! whatever order they come in. An event marks the account for its listeners, and each connection
//! compares states when it is ready to write. So a change costs no query however many listen, a slow
//! reader holds one mark for each account and never a queue, and an event that was lost costs time
//! only: when the bus may have missed some, or `look.rs` finds a commit that nobody has told, the
//! states are read anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{Event, Interest, Topic};
use crate::push::look;
use crate::store::Store;
use crate::store::change::states_of;
use crate::store::error::StoreError;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// Changes within this time of each other are told to a connection together.
const GAP: Duration = Duration::from_millis(5);

/// States told to a connection, account by account.
pub type Told = BTreeMap<AccountId, BTreeMap<ObjectType, State>>;

/// All connections. Clones share them.
#[derive(Clone)]
pub struct Hub {
    pub(in crate::push) store: Store,
    listeners: Arc<Mutex<HashMap<AccountId, Listened>>>,
    /// Woken when events may have been missed.
    pub(in crate::push) missed: Arc<Notify>,
    /// How often a change of a login was told, or may have been missed.
    login_news: Arc<AtomicU64>,
    pub(in crate::push) closing: CancellationToken,
}

/// An account that somebody listens to.
#[derive(Default)]
struct Listened {
    marks: Vec<Weak<Marks>>,
    /// The last modseq that its listeners were woken for.
    head: i64,
    /// The epoch of its states; `None` until they were read, and when events may have been missed.
    epoch: Option<i64>,
    /// The last modseq of each type that an event has told or the store had; 0 for none.
    heads: [i64; ObjectType::ALL.len()],
    /// How often events may have been missed.
    doubts: u64,
    /// When the last commit was that an event told of, in milliseconds since 1970.
    committed_at: i64,
}

/// The states of an account, and when the last commit was that they were heard of by.
type Known = (Vec<(ObjectType, State)>, i64);

impl Listened {
    fn heard(&mut self, modseq: i64, types: &[ObjectType], committed_at: i64) {
        self.head = self.head.max(modseq);
        self.committed_at = self.committed_at.max(committed_at);
        for object_type in types {
            if let Some(head) = self.heads.get_mut(*object_type as usize) {
                *head = (*head).max(modseq);
            }
        }
    }

    /// States that were read from the store, while so many doubts were known.
    fn read(&mut self, states: &[(ObjectType, State)], doubts: u64) {
        let Some((_, first)) = states.first() else { return };
        self.epoch = (self.doubts == doubts).then_some(first.epoch);
        for (object_type, state) in states {
            if let Some(head) = self.heads.get_mut(*object_type as usize) {
                *head = (*head).max(state.modseq);
            }
        }
    }

    fn known(&self) -> Option<Known> {
        let epoch = self.epoch?;
        let states = ObjectType::ALL.into_iter().zip(self.heads).filter(|(_, head)| *head > 0);
        Some((states.map(|(of, head)| (of, State::at(epoch, head))).collect(), self.committed_at))
    }
}

/// What a connection has yet to look at.
#[derive(Default)]
struct Marks {
    accounts: Mutex<HashSet<AccountId>>,
    login_changed: AtomicBool,
    login: Id,
    changed: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Over a store whose bus it listens to once `run` runs.
    pub fn new(store: Store, closing: CancellationToken) -> Hub {
        Hub { store, listeners: Arc::default(), missed: Arc::default(), login_news: Arc::default(), closing }
    }

    /// Passes events on until the server closes.
    pub async fn run(self) {
        tokio::join!(self.pass_on(), look::run(&self));
    }

    async fn pass_on(&self) {
        let mut events = self.store.bus().subscribe();
        let _interest = self.store.bus().interest(Topic::Logins);
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                event = events.recv() => match event {
                    Ok(Event::Changed { account, modseq, types, at }) => {
                        self.mark(account, |listened| listened.heard(modseq, &types, at));
                    }
                    Ok(Event::LoginChanged { login }) => self.mark_login(login),
                    Ok(Event::Missed(Some(Topic::Account(account)))) => self.forget(account),
                    Ok(Event::Missed(None)) => {
                        self.login_news.fetch_add(1, SeqCst);
                        self.missed.notify_one();
                    }
                    Ok(Event::Queued { .. } | Event::Logged { .. } | Event::Missed(Some(_))) => {}
                    // A change of some login may be among what was missed: all come in again.
                    Err(RecvError::Lagged(_)) => self.mark_every_login(),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn mark(&self, account: AccountId, note: impl FnOnce(&mut Listened)) {
        let mut listeners = locked(&self.listeners);
        let Some(listened) = listeners.get_mut(&account) else { return };
        note(listened);
        listened.marks.retain(|marks| marks.upgrade().map(|marks| marks.add(account)).is_some());
        if listened.marks.is_empty() {
            listeners.remove(&account);
        }
    }

    /// Events of an account may have been missed: its states are read anew.
    fn forget(&self, account: AccountId) {
        self.mark(account, |listened| {
            listened.epoch = None;
            listened.doubts += 1;
        });
    }

    /// An account was looked at: its listeners are woken when it has moved.
    pub(in crate::push) fn found(&self, account: AccountId, head: i64) {
        let mut listeners = locked(&self.listeners);
        let Some(listened) = listeners.get_mut(&account) else { return };
        let has_moved = std::mem::replace(&mut listened.head, head) != head;
        drop(listeners);
        if has_moved {
            self.forget(account);
        }
    }

    /// The states of an account with a listener.
    async fn states(&self, account: AccountId) -> Result<Known, StoreError> {
        let doubts = {
            let listeners = locked(&self.listeners);
            let listened = listeners.get(&account);
            if let Some(known) = listened.and_then(Listened::known) {
                return Ok(known);
            }
            listened.map_or(0, |listened| listened.doubts)
        };
        let mut snapshot = self.store.read().await?;
        // Of an account that was removed meanwhile there are none.
        let states = states_of(&mut snapshot, account).await?;
        drop(snapshot);
        let mut listeners = locked(&self.listeners);
        let Some(listened) = listeners.get_mut(&account) else { return Ok((states, 0)) };
        listened.read(&states, doubts);
        Ok(listened.known().unwrap_or((states, 0)))
    }

    /// All accounts and logins with a listener, in order.
    pub(in crate::push) fn listened(&self) -> (Vec<AccountId>, Vec<Id>) {
        let mut accounts = Vec::new();
        let mut logins = HashSet::new();
        locked(&self.listeners).retain(|account, listened| {
            listened.marks.retain(|marks| match marks.upgrade() {
                Some(marks) => {
                    logins.insert(marks.login);
                    true
                }
                None => false,
            });
            if !listened.marks.is_empty() {
                accounts.push(*account);
            }
            !listened.marks.is_empty()
        });
        let mut logins: Vec<Id> = logins.into_iter().collect();
        accounts.sort_unstable();
        logins.sort_unstable();
        (accounts, logins)
    }

    pub(in crate::push) fn mark_login(&self, login: Id) {
        self.mark_logins(|of| of == login);
    }

    fn mark_every_login(&self) {
        self.mark_logins(|_| true);
    }

    /// Grows with each change of a login that is told. Who looks at a login and then listens has missed
    /// nothing if it is the same before and after; `None` while events may be missing.
    pub fn login_news(&self) -> Option<u64> {
        let is_broken = *self.store.bus().is_broken().borrow();
        (!is_broken).then(|| self.login_news.load(SeqCst))
    }

    fn mark_logins(&self, is_meant: impl Fn(Id) -> bool) {
        // First, so that who is not among the listeners yet sees that it has grown.
        self.login_news.fetch_add(1, SeqCst);
        let listeners = locked(&self.listeners);
        let marks = listeners.values().flat_map(|listened| &listened.marks).filter_map(Weak::upgrade);
        for marks in marks.filter(|marks| is_meant(marks.login)) {
            marks.login_changed.store(true, SeqCst);
            marks.changed.notify_one();
        }
    }

    /// Listens to accounts for a login; `types` are those that it wants to hear of.
    pub fn listen(&self, login: Id, accounts: &[AccountId], types: Vec<ObjectType>) -> Listener {
        let marks = Arc::new(Marks { login, ..Marks::default() });
        let mut listeners = locked(&self.listeners);
        for account in accounts {
            listeners.entry(*account).or_default().marks.push(Arc::downgrade(&marks));
        }
        drop(listeners);
        let interests =
            accounts.iter().map(|account| self.store.bus().interest(Topic::Account(*account))).collect();
        Listener {
            hub: self.clone(),
            marks,
            types,
            told: Told::new(),
            woken: Instant::now().checked_sub(GAP),
            committed_at: 0,
            accounts: accounts.into(),
            _interests: interests,
        }
    }
}

impl Marks {
    fn add(&self, account: AccountId) {
        locked(&self.accounts).insert(account);
        self.changed.notify_one();
    }
}

/// Why a listener wakes.
#[derive(Debug, PartialEq, Eq)]
pub enum Wake {
    /// These accounts may have changed.
    Accounts(Vec<AccountId>),
    /// The login, its password, tokens or access have changed: it must come in again.
    LoginChanged,
    /// The server is going down.
    Closing,
}

/// One connection's ear.
pub struct Listener {
    hub: Hub,
    marks: Arc<Marks>,
    types: Vec<ObjectType>,
    told: Told,
    /// When it last woke.
    woken: Option<Instant>,
    committed_at: i64,
    accounts: Box<[AccountId]>,
    /// As long as it is there, the bus brings events of its accounts.
    _interests: Vec<Interest>,
}

impl Listener {
    /// Waits for something to look at. Changes that follow each other closely are told together. May
    /// be dropped before it is done, and called again.
    pub async fn wake(&mut self) -> Wake {
        loop {
            if self.marks.login_changed.load(SeqCst) {
                return Wake::LoginChanged;
            }
            let is_marked = !locked(&self.marks.accounts).is_empty();
            let rest = match self.woken {
                Some(woken) if is_marked => GAP.saturating_sub(woken.elapsed()),
                _ => Duration::ZERO,
            };
            if is_marked && rest.is_zero() {
                self.woken = Some(Instant::now());
                let accounts = std::mem::take(&mut *locked(&self.marks.accounts));
                return Wake::Accounts(accounts.into_iter().collect());
            }
            tokio::select! {
                () = self.hub.closing.cancelled() => return Wake::Closing,
                () = tokio::time::sleep(rest), if is_marked => {}
                () = self.marks.changed.notified(), if !is_marked => {}
            }
        }
    }

    /// The states of these accounts that the connection has not been told, which count as told
    /// from now on.
    pub async fn news(&mut self, accounts: &[AccountId]) -> Result<Told, StoreError> {
        let mut news = Told::new();
        for account in accounts {
            let (states, committed_at) = self.hub.states(*account).await?;
            self.committed_at = committed_at;
            let told = self.told.entry(*account).or_default();
            for (object_type, state) in states {
                if self.types.contains(&object_type) && told.insert(object_type, state) != Some(state) {
                    news.entry(*account).or_default().insert(object_type, state);
                }
            }
        }
        Ok(news)
    }

    /// The state of a type of an account now, told or not.
    pub async fn state_of(
        &self,
        account: AccountId,
        object_type: ObjectType,
    ) -> Result<Option<State>, StoreError> {
        let (states, _) = self.hub.states(account).await?;
        Ok(states.into_iter().find(|(of, _)| *of == object_type).map(|(_, state)| state))
    }

    /// What it tells has been written: for the figures.
    pub fn is_written(&self) {
        metrics::counter!("postrider_push_events_total").increment(1);
        // What was found by looking has no time, nor what was there at the start.
        if self.committed_at > 0 {
            let lag_ms = self.hub.store.clock().now_ms() - self.committed_at;
            metrics::histogram!("postrider_push_lag_seconds").record(lag_ms.max(0) as f64 / 1_000.0);
        }
    }

    /// All states that have been told.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Takes states of its accounts as told, such as those that a client says it knows.
    pub fn assume_told(&mut self, mut told: Told) {
        told.retain(|account, _| self.accounts.contains(account));
        self.told = told;
    }

    /// From now on only these types are news.
    pub fn hear_of(&mut self, types: Vec<ObjectType>) {
        self.types = types;
    }

    /// The accounts it listens to.
    pub fn accounts(&self) -> Vec<AccountId> {
        self.accounts.to_vec()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = locked(&self.hub.listeners);
        for account in &self.accounts {
            if let Some(listened) = listeners.get_mut(account) {
                listened.marks.retain(|marks| !std::ptr::eq(marks.as_ptr(), Arc::as_ptr(&self.marks)));
                // What nobody listens to is not kept up.
                if listened.marks.is_empty() {
                    listeners.remove(account);
                }
            }
        }
    }
}
