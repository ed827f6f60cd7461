//! The bus within one process. It is never broken.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::bus::{CAPACITY, Event};

/// The sending end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory {
    events: broadcast::Sender<Event>,
    is_broken: Arc<watch::Sender<bool>>,
}

impl Memory {
    /// A new bus.
    pub fn new() -> Memory {
        Memory { events: broadcast::channel(CAPACITY).0, is_broken: Arc::new(watch::channel(false).0) }
    }

    /// See `Bus::publish`.
    pub fn publish(&self, event: Event) {
        // No receivers is no failure: nobody wants to know.
        let _ = self.events.send(event);
    }

    /// See `Bus::subscribe`.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// See `Bus::is_broken`.
    pub fn is_broken(&self) -> watch::Receiver<bool> {
        self.is_broken.subscribe()
    }
}
