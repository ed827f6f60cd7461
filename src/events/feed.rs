//! Wakes those who listen to the log of a domain: a request that waits, a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Event, Topic};
use crate::types::id::Id;

/// What wakes a listener.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Cause {
    /// Something was logged for the domain.
    Domain(String),
    /// The login, or one of its keys, has changed.
    Login(Id),
}

/// Entries beyond which those that nobody listens to any more are looked for, at the least.
const KEPT: usize = 1_000;

/// What is listened for.
#[derive(Default)]
struct Causes {
    senders: HashMap<Cause, watch::Sender<()>>,
    /// Entries at which the next look is due.
    look_at: usize,
}

impl Causes {
    fn listen(&mut self, cause: Cause) -> watch::Receiver<()> {
        if self.senders.len() >= self.look_at.max(KEPT) {
            self.senders.retain(|_, sender| sender.receiver_count() > 0);
            self.look_at = self.senders.len() * 2;
        }
        self.senders.entry(cause).or_insert_with(|| watch::channel(()).0).subscribe()
    }
}

/// The listeners of a process. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    causes: Arc<Mutex<Causes>>,
    bus: Bus,
    stop: CancellationToken,
}

/// Someone who listens.
pub struct Listener {
    domain: watch::Receiver<()>,
    login: watch::Receiver<()>,
    stop: CancellationToken,
}

/// Why a listener was woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// There may be something new in the log.
    News,
    /// The login has changed: whoever listens must come in again.
    LoginChanged,
    /// The server stops.
    Closing,
}

impl Feed {
    /// Of a server that works until it is told to stop.
    pub fn new(bus: Bus, stop: CancellationToken) -> Feed {
        Feed { causes: Arc::default(), bus, stop }
    }

    /// Hears the bus.
    pub async fn run(self) {
        let mut events = self.bus.subscribe();
        let _interests = [self.bus.interest(Topic::Logs), self.bus.interest(Topic::Logins)];
        loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Ok(Event::Logged { domain }) => self.wake(&Cause::Domain(domain.to_string())),
                Ok(Event::LoginChanged { login }) => self.wake(&Cause::Login(login)),
                Ok(Event::Missed(_)) | Err(RecvError::Lagged(_)) => self.wake_all(),
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Listens to a domain, for a login.
    pub fn listen(&self, domain: &str, login: Id) -> Listener {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        Listener {
            domain: causes.listen(Cause::Domain(domain.to_owned())),
            login: causes.listen(Cause::Login(login)),
            stop: self.stop.clone(),
        }
    }

    fn wake(&self, cause: &Cause) {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        // With the last listener its entry goes.
        if causes.senders.get(cause).is_some_and(|sender| sender.send(()).is_err()) {
            causes.senders.remove(cause);
        }
    }

    fn wake_all(&self) {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        causes.senders.retain(|_, sender| sender.send(()).is_ok());
    }
}

impl Listener {
    /// Waits until something has happened since it was last asked.
    pub async fn wake(&mut self) -> Wake {
        // A closed channel would be one of an entry that went with its last listener, which this is.
        tokio::select! {
            () = self.stop.cancelled() => Wake::Closing,
            _ = self.login.changed() => Wake::LoginChanged,
            _ = self.domain.changed() => Wake::News,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listeners_are_woken_and_those_that_left_are_forgotten() {
        let (bus, stop) = (Bus::memory(), CancellationToken::new());
        let feed = Feed::new(bus.clone(), stop.clone());
        let running = tokio::spawn(feed.clone().run());
        let mut listener = feed.listen("example.test", Id(1));
        tokio::task::yield_now().await;
        bus.publish(Event::Logged { domain: "other.test".into() });
        bus.publish(Event::LoginChanged { login: Id(2) });
        bus.publish(Event::Logged { domain: "example.test".into() });
        assert_eq!(listener.wake().await, Wake::News);
        bus.publish(Event::LoginChanged { login: Id(1) });
        assert_eq!(listener.wake().await, Wake::LoginChanged);
        for login in 0..10_000 {
            drop(feed.listen("example.test", Id(login)));
        }
        assert!(feed.causes.lock().unwrap().senders.len() <= 2 * KEPT);
        bus.publish(Event::Logged { domain: "example.test".into() });
        assert_eq!(listener.wake().await, Wake::News);
        stop.cancel();
        assert_eq!(listener.wake().await, Wake::Closing);
        running.await.unwrap();
    }
}
