//! Events between the parts of a server: an account has changed, a queue has work.
//!
//! An event is a hint. The change log and the queues are the truth: a lost event makes a push or a
//! delivery late, never wrong. Two commits of one account may be told in inverted order, so a
//! receiver keeps the larger modseq.
//!
//! What is published in a process is heard in it at once. What other processes publish is heard for
//! the topics that somebody here is interested in. Publishing never waits: when the engine is slow
//! or away, events to other processes are dropped, and they are told to look for themselves.

mod memory;
mod redis;
#[cfg(test)]
pub mod testing;

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::bus::memory::Memory;
use crate::bus::redis::{Redis, Shared};
use crate::config::engine::CacheUrl;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// Events that a slow receiver may lag behind before it misses some, is told so, and reads the
/// change log instead.
const CAPACITY: usize = 16_384;

/// A queue whose workers can be woken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Queue {
    /// Mail received, to be filed.
    Incoming,
    /// Mail to be sent.
    Outgoing,
    /// Emails to be indexed.
    Index,
    /// Devices to be told of changes.
    Push,
    /// Events of mail to be logged.
    Events,
    /// Webhooks to be told of events.
    Webhooks,
}

/// What can be listened for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// Changes of an account.
    Account(AccountId),
    /// Work in a queue.
    Queue(Queue),
    /// Changes of logins.
    Logins,
    /// What is logged of mail.
    Logs,
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A commit changed objects of these types; `at` is when, in milliseconds since 1970.
    Changed { account: AccountId, modseq: i64, types: Arc<[ObjectType]>, at: i64 },
    /// A commit put work into a lane of a queue.
    Queued { queue: Queue, lane: i64 },
    /// A login or its tokens changed: whatever is remembered of it is void.
    LoginChanged { login: Id },
    /// Events of mail of these accounts were added to the log of a domain; of any, when none is named.
    Logged { domain: Arc<str>, accounts: Arc<[AccountId]> },
    /// Events of a topic, or of any, may have been missed: look at the truth. Made by the bus.
    Missed(Option<Topic>),
}

/// The bus of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Bus {
    /// Within one process.
    Memory(Memory),
    /// Between processes, over Redis.
    Redis(Redis),
}

impl Bus {
    /// A bus within this process.
    pub fn memory() -> Bus {
        Bus::Memory(Memory::new())
    }

    /// The bus at an address. It connects by and by, and until then it counts as broken.
    pub fn open(url: &CacheUrl) -> Bus {
        match url {
            CacheUrl::Memory => Bus::memory(),
            CacheUrl::Redis(url) => Bus::Redis(Redis::open(url.clone())),
        }
    }

    /// Tells everyone who listens. Never waits.
    pub fn publish(&self, event: Event) {
        match self {
            Bus::Memory(memory) => memory.publish(event),
            Bus::Redis(redis) => redis.publish(event),
        }
    }

    /// Listens to all that is heard in this process from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        match self {
            Bus::Memory(memory) => memory.subscribe(),
            Bus::Redis(redis) => redis.subscribe(),
        }
    }

    /// Has events of a topic told to this process for as long as the answer is kept. They begin a
    /// moment later, and with `Event::Missed`.
    pub fn interest(&self, topic: Topic) -> Interest {
        match self {
            Bus::Memory(_) => Interest(None),
            Bus::Redis(redis) => Interest(Some((redis.interest(topic), topic))),
        }
    }

    /// Whether events of other processes may be missing now. While it is true, whoever must not be
    /// late looks at the truth.
    pub fn is_broken(&self) -> watch::Receiver<bool> {
        match self {
            Bus::Memory(memory) => memory.is_broken(),
            Bus::Redis(redis) => redis.is_broken(),
        }
    }

    /// Sends what is still to be sent and says good-bye, so that others do not wait for this
    /// process. Takes a second at the most.
    pub async fn close(&self) {
        match self {
            Bus::Memory(_) => {}
            Bus::Redis(redis) => redis.close().await,
        }
    }
}

/// See `Bus::interest`.
#[derive(Debug)]
pub struct Interest(Option<(Arc<Shared>, Topic)>);

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some((shared, topic)) = self.0.take() {
            shared.lose_interest(topic);
        }
    }
}
