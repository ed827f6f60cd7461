//! The bus between processes, over pub/sub of Redis.
//!
//! One connection for each process publishes and listens (`link.rs`). A publisher only puts its
//! event into a bounded queue. What does not fit, or falls into a time without a connection, is
//! dropped, and the others are told to look for themselves once that is possible. Until then they
//! notice that this process is silent: each says every second that it is there.

mod link;
mod nodes;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use crate::bus::redis::nodes::Nodes;
use crate::bus::redis::wire::Heard;
use crate::bus::{CAPACITY, Event, Topic};
use crate::config::redis_url::RedisUrl;

/// Events on their way out.
const OUTGOING: usize = 16_384;
/// For the last words.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The bus of a process. Cheap to clone; its connection ends with the last clone.
#[derive(Clone, Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
}

/// What the connection has to send.
#[derive(Debug)]
enum Outgoing {
    Message {
        channel: String,
        text: String,
    },
    /// Nothing more comes; say good-bye, and tell when it is said.
    Close(oneshot::Sender<()>),
}

/// What the connection and those who use the bus have in common.
pub struct Shared {
    prefix: String,
    /// Tells this process from others.
    origin: String,
    events: broadcast::Sender<Event>,
    topics: Mutex<Topics>,
    topics_changed: Notify,
    nodes: Mutex<Nodes>,
    /// Whether events of this process were dropped that the others have not been told of.
    has_lost: AtomicBool,
    is_broken: watch::Sender<bool>,
}

#[derive(Default)]
struct Topics {
    /// How many are interested.
    wanted: HashMap<Topic, usize>,
    /// What may differ from that on the connection.
    changed: HashSet<Topic>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("prefix", &self.prefix).field("origin", &self.origin).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Redis {
    /// See `Bus::open`.
    pub fn open(url: RedisUrl) -> Redis {
        if url.is_tls {
            // The client takes the provider of the process, and panics when it has several to choose from.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let shared = Arc::new(Shared {
            prefix: url.prefix.clone(),
            origin: format!("{:016x}", rand::random::<u64>()),
            events: broadcast::channel(CAPACITY).0,
            topics: Mutex::default(),
            topics_changed: Notify::new(),
            nodes: Mutex::default(),
            has_lost: AtomicBool::new(false),
            is_broken: watch::channel(true).0,
        });
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        tokio::spawn(link::run(shared.clone(), url, to_send));
        Redis { shared, outgoing }
    }

    /// See `Bus::publish`.
    pub fn publish(&self, event: Event) {
        let message = wire::encode(&self.shared.prefix, &self.shared.origin, &event);
        self.shared.tell(event);
        if let Some((channel, text)) = message
            && self.outgoing.try_send(Outgoing::Message { channel, text }).is_err()
        {
            self.shared.lose(1);
        }
    }

    /// See `Bus::subscribe`.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// See `Bus::interest`; ended by `Shared::lose_interest`.
    pub fn interest(&self, topic: Topic) -> Arc<Shared> {
        let mut topics = locked(&self.shared.topics);
        let count = topics.wanted.entry(topic).or_default();
        *count += 1;
        if *count == 1 {
            topics.changed.insert(topic);
            self.shared.topics_changed.notify_one();
        }
        self.shared.clone()
    }

    /// See `Bus::is_broken`.
    pub fn is_broken(&self) -> watch::Receiver<bool> {
        self.shared.is_broken.subscribe()
    }

    /// See `Bus::close`.
    pub async fn close(&self) {
        let (said, is_said) = oneshot::channel();
        let closing = async {
            if self.outgoing.send(Outgoing::Close(said)).await.is_ok() {
                let _ = is_said.await;
            }
        };
        // Who is not heard any more is missed by the others, later.
        let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
    }
}

impl Shared {
    /// The end of one interest.
    pub fn lose_interest(&self, topic: Topic) {
        let mut topics = locked(&self.topics);
        let Some(count) = topics.wanted.get_mut(&topic) else { return };
        *count -= 1;
        if *count == 0 {
            topics.wanted.remove(&topic);
            topics.changed.insert(topic);
            self.topics_changed.notify_one();
        }
    }

    /// All topics of interest: what a new connection listens for.
    fn wanted(&self) -> Vec<Topic> {
        let mut topics = locked(&self.topics);
        topics.changed.clear();
        topics.wanted.keys().copied().collect()
    }

    /// Topics that have come into interest and gone out of it, as it may be.
    fn changed(&self) -> (Vec<Topic>, Vec<Topic>) {
        let mut topics = locked(&self.topics);
        let changed = std::mem::take(&mut topics.changed);
        changed.into_iter().partition(|topic| topics.wanted.contains_key(topic))
    }

    /// Tells those in this process.
    fn tell(&self, event: Event) {
        // No receivers is no failure: nobody wants to know.
        let _ = self.events.send(event);
    }

    /// What another process, or this one, has sent. Called on the connection: it must not wait.
    fn hear(&self, channel: &str, text: &str) {
        let Some((origin, heard)) = wire::decode(&self.prefix, channel, text) else { return };
        // This process heard itself when it published.
        if origin == self.origin {
            return;
        }
        match heard {
            Heard::Event(event) => self.tell(event),
            Heard::Look => self.tell(Event::Missed(None)),
            Heard::Up => locked(&self.nodes).heard(origin),
            Heard::Bye => locked(&self.nodes).left(origin),
        }
    }

    /// Events that no other process will hear of.
    fn lose(&self, events: usize) {
        self.has_lost.store(true, Ordering::SeqCst);
        metrics::counter!("postrider_bus_events_lost_total").increment(events as u64);
    }

    /// Sets whether the bus is broken, and tells who watches when that is new.
    fn set_broken(&self, is_broken: bool) {
        metrics::gauge!("postrider_bus_up").set(if is_broken { 0.0 } else { 1.0 });
        self.is_broken.send_if_modified(|current| std::mem::replace(current, is_broken) != is_broken);
    }
}
