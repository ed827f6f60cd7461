//! Waiting for work in a queue: woken by the bus after a commit, by polling when a wake was lost.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::bus::{Event, Interest, Queue, Topic};
use crate::store::Store;
use crate::store::queue::due_lanes;

/// The ear of a worker.
pub struct Watch {
    store: Store,
    queue: Queue,
    events: Receiver<Event>,
    lanes: BTreeSet<i64>,
    _interest: Interest,
}

impl Watch {
    /// On a queue.
    pub fn new(store: Store, queue: Queue) -> Watch {
        let events = store.bus().subscribe();
        let interest = store.bus().interest(Topic::Queue(queue));
        Watch { store, queue, events, lanes: BTreeSet::new(), _interest: interest }
    }

    /// The next lane that may have work due. Cancelling loses nothing.
    pub async fn lane(&mut self) -> i64 {
        loop {
            if let Some(lane) = self.lanes.pop_first() {
                return lane;
            }
            match due_lanes(&self.store, self.queue).await {
                Ok(lanes) if !lanes.is_empty() => self.lanes.extend(lanes),
                Ok(_) => self.wait().await,
                Err(error) => {
                    tracing::warn!(%error, queue = ?self.queue, "the queue could not be looked at");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Further lanes that were heard of meanwhile.
    pub fn more(&mut self) -> Vec<i64> {
        loop {
            match self.events.try_recv() {
                Ok(Event::Queued { queue, lane }) if queue == self.queue => {
                    self.lanes.insert(lane);
                }
                // What was missed is found by the next look.
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        std::mem::take(&mut self.lanes).into_iter().collect()
    }

    /// Waits for a wake of this queue, or the next poll; jittered, so that workers do not come
    /// together.
    async fn wait(&mut self) {
        let poll = tokio::time::sleep(Duration::from_millis(rand::random_range(1_000..2_000)));
        tokio::pin!(poll);
        loop {
            tokio::select! {
                () = &mut poll => return,
                event = self.events.recv() => match event {
                    Ok(Event::Queued { queue, lane }) if queue == self.queue => {
                        self.lanes.insert(lane);
                        return;
                    }
                    Ok(Event::Missed(_)) | Err(RecvError::Lagged(_)) => return,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return poll.await,
                },
            }
        }
    }
}
