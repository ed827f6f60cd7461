//! Wakes those who listen to the log of a domain: a request that waits, a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Event, Topic};
use crate::push::hub;

/// A wake that a crash swallowed is made up for after this time at the latest; while the bus is broken, after
/// the other.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY_IF_BROKEN: Duration = Duration::from_secs(3);
/// Entries beyond which those that nobody listens to any more are looked for, at the least.
const KEPT: usize = 1_000;

/// The domains that are listened to.
#[derive(Default)]
struct Domains {
    senders: HashMap<String, watch::Sender<()>>,
    /// Entries at which the next look is due.
    look_at: usize,
}

impl Domains {
    fn listen(&mut self, domain: &str) -> watch::Receiver<()> {
        if self.senders.len() >= self.look_at.max(KEPT) {
            self.senders.retain(|_, sender| sender.receiver_count() > 0);
            self.look_at = self.senders.len() * 2;
        }
        self.senders.entry(domain.to_owned()).or_insert_with(|| watch::channel(()).0).subscribe()
    }
}

/// The listeners of a process. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    domains: Arc<Mutex<Domains>>,
    bus: Bus,
    stop: CancellationToken,
}

/// Someone who listens.
pub struct Listener {
    domain: watch::Receiver<()>,
    login: hub::Listener,
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
        Feed { domains: Arc::default(), bus, stop }
    }

    /// Hears the bus.
    pub async fn run(self) {
        let mut events = self.bus.subscribe();
        let _interest = self.bus.interest(Topic::Logs);
        let is_broken = self.bus.is_broken();
        let mut looked = Instant::now();
        loop {
            let look_every = if *is_broken.borrow() { LOOK_EVERY_IF_BROKEN } else { LOOK_EVERY };
            let event = tokio::select! {
                () = self.stop.cancelled() => return,
                event = events.recv() => event,
                () = sleep_until(looked + look_every) => Ok(Event::Missed(None)),
                // A bus that breaks shortens the wait.
                () = sleep(LOOK_EVERY_IF_BROKEN) => continue,
            };
            match event {
                Ok(Event::Logged { domain }) => self.wake(&domain),
                // Whatever else was missed is none of the log's business.
                Ok(Event::Missed(None | Some(Topic::Logs))) | Err(RecvError::Lagged(_)) => {
                    looked = Instant::now();
                    self.wake_all();
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Listens to a domain, as somebody whose login is listened to as well.
    pub fn listen(&self, domain: &str, login: hub::Listener) -> Listener {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        Listener { domain: domains.listen(domain), login }
    }

    fn wake(&self, domain: &str) {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        // With the last listener its entry goes.
        if domains.senders.get(domain).is_some_and(|sender| sender.send(()).is_err()) {
            domains.senders.remove(domain);
        }
    }

    fn wake_all(&self) {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        domains.senders.retain(|_, sender| sender.send(()).is_ok());
    }
}

impl Listener {
    /// Waits until something has happened since it was last asked.
    pub async fn wake(&mut self) -> Wake {
        loop {
            // A closed channel would be one of an entry that went with its last listener, which this is.
            let login = tokio::select! {
                _ = self.domain.changed() => return Wake::News,
                login = self.login.wake() => login,
            };
            match login {
                hub::Wake::LoginChanged => return Wake::LoginChanged,
                hub::Wake::Closing => return Wake::Closing,
                hub::Wake::Accounts(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::hub::Hub;
    use crate::store::testing::{bare_account, sqlite_in};
    use crate::types::clock::Clock;
    use crate::types::id::Id;

    #[tokio::test]
    async fn listeners_are_woken_and_those_that_left_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite_in(folder.path(), Clock::fixed(1_000));
        let account = bare_account(&store).await;
        let (bus, stop) = (store.bus().clone(), CancellationToken::new());
        let hub = Hub::new(store.clone(), stop.clone());
        let feed = Feed::new(bus.clone(), stop.clone());
        let running = (tokio::spawn(hub.clone().run()), tokio::spawn(feed.clone().run()));
        let listen = |login| feed.listen("example.test", hub.listen(Id(login), &[account], Vec::new()));
        let mut listener = listen(1);
        tokio::task::yield_now().await;
        bus.publish(Event::Logged { domain: "other.test".into() });
        bus.publish(Event::LoginChanged { login: Id(2) });
        bus.publish(Event::Missed(Some(Topic::Account(account))));
        bus.publish(Event::Missed(Some(Topic::Logins)));
        bus.publish(Event::Logged { domain: "example.test".into() });
        assert_eq!(listener.wake().await, Wake::News);
        for missed in [Event::Missed(None), Event::Missed(Some(Topic::Logs))] {
            bus.publish(missed);
            assert_eq!(listener.wake().await, Wake::News);
        }
        bus.publish(Event::LoginChanged { login: Id(1) });
        assert_eq!(listener.wake().await, Wake::LoginChanged);
        for login in 0..10_000 {
            let domain = format!("{login}.test");
            drop(feed.listen(&domain, hub.listen(Id(login), &[account], Vec::new())));
        }
        assert!(feed.domains.lock().unwrap().senders.len() <= 2 * KEPT);
        let mut listener = listen(3);
        bus.publish(Event::Logged { domain: "example.test".into() });
        assert_eq!(listener.wake().await, Wake::News);
        stop.cancel();
        assert_eq!(listener.wake().await, Wake::Closing);
        running.0.await.unwrap();
        running.1.await.unwrap();
    }
}
