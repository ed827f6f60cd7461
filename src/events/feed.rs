//! Wakes those who listen to the log of a domain: a request that waits, a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Event, Topic};
use crate::push::hub;
use crate::store::event::log::View;
use crate::types::id::AccountId;

/// A wake that a crash swallowed is made up for after this time at the latest; while the bus is broken, after
/// the other.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY_IF_BROKEN: Duration = Duration::from_secs(3);
/// Between two looks of one who listens.
const APART: Duration = Duration::from_millis(50);
/// Entries beyond which those that nobody listens to any more are looked for, at the least.
const KEPT: usize = 1_000;

/// The logs that are listened to, each whole or the part of one account.
#[derive(Default)]
struct Views {
    senders: HashMap<View, watch::Sender<()>>,
    /// Entries at which the next look is due.
    look_at: usize,
}

impl Views {
    fn listen(&mut self, view: View) -> watch::Receiver<()> {
        if self.senders.len() >= self.look_at.max(KEPT) {
            self.senders.retain(|_, sender| sender.receiver_count() > 0);
            self.look_at = self.senders.len() * 2;
        }
        self.senders.entry(view).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    fn wake(&mut self, view: &View) {
        // With the last listener its entry goes.
        if self.senders.get(view).is_some_and(|sender| sender.send(()).is_err()) {
            self.senders.remove(view);
        }
    }

    fn wake_all(&mut self, is_wanted: impl Fn(&View) -> bool) {
        self.senders.retain(|view, sender| !is_wanted(view) || sender.send(()).is_ok());
    }
}

/// The listeners of a process. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    views: Arc<Mutex<Views>>,
    bus: Bus,
    stop: CancellationToken,
}

/// Someone who listens.
pub struct Listener {
    log: watch::Receiver<()>,
    login: hub::Listener,
    /// When it was last told of news.
    told: Instant,
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
        Feed { views: Arc::default(), bus, stop }
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
                Ok(Event::Logged { domain, accounts }) => self.wake(&domain, &accounts),
                // Whatever else was missed is none of the log's business.
                Ok(Event::Missed(None | Some(Topic::Logs))) | Err(RecvError::Lagged(_)) => {
                    looked = Instant::now();
                    self.views().wake_all(|_| true);
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Listens to a log, as somebody whose login is listened to as well.
    pub fn listen(&self, view: &View, login: hub::Listener) -> Listener {
        let log = self.views().listen(view.clone());
        Listener { log, login, told: Instant::now() - APART }
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, domain: &str, accounts: &[AccountId]) {
        let mut views = self.views();
        if accounts.is_empty() {
            return views.wake_all(|view| view.domain == domain);
        }
        let mut view = View { domain: domain.to_owned(), account: None };
        views.wake(&view);
        for account in accounts {
            view.account = Some(*account);
            views.wake(&view);
        }
    }
}

impl Listener {
    /// Waits until something has happened since it was last asked; news come no closer together than is worth a
    /// look at the log.
    pub async fn wake(&mut self) -> Wake {
        loop {
            // A closed channel would be one of an entry that went with its last listener, which this is.
            let login = tokio::select! {
                biased;
                login = self.login.wake() => login,
                _ = next_news(&mut self.log, self.told + APART) => {
                    self.told = Instant::now();
                    return Wake::News;
                }
            };
            match login {
                hub::Wake::LoginChanged => return Wake::LoginChanged,
                hub::Wake::Closing => return Wake::Closing,
                hub::Wake::Accounts(_) => {}
            }
        }
    }

    /// Whether it must end now, whatever there may be to be read.
    pub fn ends(&mut self) -> bool {
        while let Some(wake) = self.login.wake().now_or_never() {
            if !matches!(wake, hub::Wake::Accounts(_)) {
                return true;
            }
        }
        false
    }
}

/// Waits until there is something new in a log, and a time has come. Where it is dropped before, what is new stays
/// new.
async fn next_news(log: &mut watch::Receiver<()>, not_before: Instant) {
    // A clone sees for itself.
    let _ = log.clone().changed().await;
    sleep_until(not_before).await;
    log.mark_unchanged();
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
        let view = |domain: &str, account| View { domain: domain.to_owned(), account };
        let log = |domain: &str, accounts: &[AccountId]| {
            bus.publish(Event::Logged { domain: domain.into(), accounts: accounts.into() });
        };
        let listen =
            |login| feed.listen(&view("example.test", None), hub.listen(Id(login), &[account], Vec::new()));
        let mut listener = listen(1);
        tokio::task::yield_now().await;
        log("other.test", &[]);
        bus.publish(Event::LoginChanged { login: Id(2) });
        bus.publish(Event::Missed(Some(Topic::Account(account))));
        bus.publish(Event::Missed(Some(Topic::Logins)));
        log("example.test", &[account]);
        assert_eq!(listener.wake().await, Wake::News);
        for missed in [Event::Missed(None), Event::Missed(Some(Topic::Logs))] {
            bus.publish(missed);
            assert_eq!(listener.wake().await, Wake::News);
        }
        // The part of an account is told of that account, or of any.
        let part = view("example.test", Some(account));
        let mut of_account = feed.listen(&part, hub.listen(Id(4), &[account], Vec::new()));
        for (accounts, is_told) in
            [(&[account][..], true), (&[AccountId(Id(1)), AccountId(Id(2))], false), (&[], true)]
        {
            log("example.test", accounts);
            let told = tokio::time::timeout(Duration::from_millis(200), of_account.wake()).await;
            assert_eq!(told.ok(), is_told.then_some(Wake::News), "{accounts:?}");
        }
        assert!(!of_account.ends());
        bus.publish(Event::LoginChanged { login: Id(4) });
        while !of_account.ends() {
            tokio::task::yield_now().await;
        }
        bus.publish(Event::LoginChanged { login: Id(1) });
        while listener.wake().await != Wake::LoginChanged {}
        for login in 0..10_000 {
            let view = view(&format!("{login}.test"), None);
            drop(feed.listen(&view, hub.listen(Id(login), &[account], Vec::new())));
        }
        assert!(feed.views().senders.len() <= 2 * KEPT);
        let mut listener = listen(3);
        log("example.test", &[account]);
        assert_eq!(listener.wake().await, Wake::News);
        stop.cancel();
        assert_eq!(listener.wake().await, Wake::Closing);
        running.0.await.unwrap();
        running.1.await.unwrap();
    }
}
