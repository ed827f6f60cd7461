//! Who is connected, and which of their accounts have changed.
//!
//! An event of the bus only marks an account as changed for those who listen to it; each connection
//! then reads the states from the store when it is ready to write. So a slow reader holds one mark
//! for each account and never a queue, states are exact whatever order commits were told in, and an
//! event that was lost costs time only: `look.rs` finds what nobody has told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::bus::{Event, Interest, Topic};
use crate::push::look;
use crate::store::Store;
use crate::store::change::states_of;
use crate::store::error::StoreError;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// States told to a connection, account by account.
pub type Told = BTreeMap<AccountId, BTreeMap<ObjectType, State>>;

/// All connections. Clones share them.
#[derive(Clone)]
pub struct Hub {
    pub(in crate::push) store: Store,
    listeners: Arc<Mutex<HashMap<AccountId, Listened>>>,
    /// Woken when events may have been missed.
    pub(in crate::push) missed: Arc<Notify>,
    pub(in crate::push) closing: CancellationToken,
}

/// An account that somebody listens to.
#[derive(Default)]
struct Listened {
    marks: Vec<Weak<Marks>>,
    /// The last modseq that its listeners were woken for.
    head: i64,
}

/// What a connection has yet to look at.
#[derive(Default)]
struct Marks {
    accounts: Mutex<HashSet<AccountId>>,
    login_changed: std::sync::atomic::AtomicBool,
    login: Id,
    changed: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Over a store whose bus it listens to once `run` runs.
    pub fn new(store: Store, closing: CancellationToken) -> Hub {
        Hub { store, listeners: Arc::default(), missed: Arc::default(), closing }
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
                    Ok(Event::Changed { account, modseq, .. }) => self.mark(account, Some(modseq)),
                    Ok(Event::LoginChanged { login }) => self.mark_login(login),
                    Ok(Event::Missed(Some(Topic::Account(account)))) => self.mark(account, None),
                    Ok(Event::Missed(None)) => self.missed.notify_one(),
                    Ok(Event::Queued { .. } | Event::Missed(Some(_))) => {}
                    // A change of some login may be among what was missed: all come in again.
                    Err(RecvError::Lagged(_)) => self.mark_every_login(),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn mark(&self, account: AccountId, modseq: Option<i64>) {
        let mut listeners = locked(&self.listeners);
        let Some(listened) = listeners.get_mut(&account) else { return };
        listened.head = listened.head.max(modseq.unwrap_or_default());
        listened.marks.retain(|marks| marks.upgrade().map(|marks| marks.add(account)).is_some());
        if listened.marks.is_empty() {
            listeners.remove(&account);
        }
    }

    /// An account was looked at: its listeners are woken when it has moved.
    pub(in crate::push) fn found(&self, account: AccountId, head: i64) {
        let mut listeners = locked(&self.listeners);
        let Some(listened) = listeners.get_mut(&account) else { return };
        let has_moved = std::mem::replace(&mut listened.head, head) != head;
        drop(listeners);
        if has_moved {
            self.mark(account, None);
        }
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

    fn mark_logins(&self, is_meant: impl Fn(Id) -> bool) {
        let listeners = locked(&self.listeners);
        let marks = listeners.values().flat_map(|listened| &listened.marks).filter_map(Weak::upgrade);
        for marks in marks.filter(|marks| is_meant(marks.login)) {
            marks.login_changed.store(true, std::sync::atomic::Ordering::SeqCst);
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
            store: self.store.clone(),
            closing: self.closing.clone(),
            marks,
            types,
            told: Told::new(),
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
    store: Store,
    closing: CancellationToken,
    marks: Arc<Marks>,
    types: Vec<ObjectType>,
    told: Told,
    /// As long as it is there, the bus brings events of its accounts.
    _interests: Vec<Interest>,
}

impl Listener {
    /// Waits for something to look at.
    pub async fn wake(&self) -> Wake {
        loop {
            if self.marks.login_changed.load(std::sync::atomic::Ordering::SeqCst) {
                return Wake::LoginChanged;
            }
            let accounts = std::mem::take(&mut *locked(&self.marks.accounts));
            if !accounts.is_empty() {
                return Wake::Accounts(accounts.into_iter().collect());
            }
            tokio::select! {
                () = self.closing.cancelled() => return Wake::Closing,
                () = self.marks.changed.notified() => {}
            }
        }
    }

    /// The states of these accounts that the connection has not been told, which count as told
    /// from now on.
    pub async fn news(&mut self, accounts: &[AccountId]) -> Result<Told, StoreError> {
        let mut news = Told::new();
        for account in accounts {
            let mut snapshot = self.store.read().await?;
            let states = match states_of(&mut snapshot, *account).await {
                Ok(states) => states,
                // Removed meanwhile: nothing more to tell of it.
                Err(StoreError::NoSuchAccount) => continue,
                Err(error) => return Err(error),
            };
            let told = self.told.entry(*account).or_default();
            for (object_type, state) in states {
                if self.types.contains(&object_type) && told.insert(object_type, state) != Some(state) {
                    news.entry(*account).or_default().insert(object_type, state);
                }
            }
        }
        Ok(news)
    }

    /// All states that have been told.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Takes states as told, such as those that a client says it knows.
    pub fn assume_told(&mut self, told: Told) {
        self.told = told;
    }
}
