//! Events between the parts of a server: an account has changed, a queue has work.
//!
//! An event is a hint. The change log and the queues are the truth: a lost event makes a push or a
//! delivery late, never wrong. Two commits of one account may be told in inverted order, so a
//! receiver keeps the larger modseq.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::types::id::AccountId;
use crate::types::object_type::ObjectType;

/// Events that a slow receiver may lag behind before it misses some, is told so, and reads the
/// change log instead.
const CAPACITY: usize = 16_384;

/// A queue whose workers can be woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// Mail received, to be filed.
    Incoming,
    /// Mail to be sent.
    Outgoing,
    /// Emails to be indexed.
    Index,
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A commit changed objects of these types.
    Changed { account: AccountId, modseq: i64, types: Arc<[ObjectType]> },
    /// A commit put work into a lane of a queue.
    Queued { queue: Queue, lane: i64 },
    /// A login or its tokens changed: whatever is remembered of it is void.
    LoginChanged { login: crate::types::id::Id },
}

/// The bus of a server.
#[derive(Clone, Debug)]
pub enum Bus {
    /// Within one process.
    Memory(broadcast::Sender<Event>),
}

impl Bus {
    /// A bus within this process.
    pub fn memory() -> Bus {
        Bus::Memory(broadcast::channel(CAPACITY).0)
    }

    /// Tells everyone who listens.
    pub fn publish(&self, event: Event) {
        let Bus::Memory(sender) = self;
        // No receivers is no failure: nobody wants to know.
        let _ = sender.send(event);
    }

    /// Listens to all that is published from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        let Bus::Memory(sender) = self;
        sender.subscribe()
    }
}
