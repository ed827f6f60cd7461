//! How much one destination may have of this process.
//!
//! At most five connections to a host at once. A connection whose transaction is over is kept for a
//! moment, and the next mail for the host goes over it: what is due together travels together. Rows
//! wait for a connection without holding a worker; when too many wait for the same host, the others are put back for a while, so that mail for
//! everybody else is claimed. A host that could not be reached is left alone for a short time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::smtp::client::Client;

/// Connections to one host at once.
const CONNECTIONS_PER_HOST: usize = 5;
/// The longest that a row is put back because too many wait for its host, in milliseconds.
const LONGEST_POSTPONE_MS: u32 = 60_000;
const FIRST_POSTPONE_MS: u32 = 1_000;
/// Hosts that are remembered before those without use are forgotten.
const REMEMBERED_HOSTS: usize = 1_000;

/// How long mail waits for a connection in use to become free before it opens one more.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a connection is kept open for the next mail.
const LINGER: Duration = Duration::from_secs(2);
/// Messages that go over one connection: servers have limits of their own, most above this.
const MOST_MESSAGES: u32 = 50;
/// How long is waited for good-byes when the process stops.
const HANG_UP_WITHIN: Duration = Duration::from_millis(300);

/// All hosts that mail goes to.
#[derive(Debug)]
pub struct Destinations {
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    connections: usize,
    most_waiting: usize,
    left_alone_for: Duration,
}

#[derive(Debug)]
struct Host {
    state: Mutex<HostState>,
    /// Told when a connection is kept or has ended.
    freed: Notify,
    waiting: AtomicUsize,
    postpone_ms: AtomicU32,
    unreachable: Mutex<Option<(Instant, String)>>,
}

#[derive(Debug, Default)]
struct HostState {
    /// Places that are taken, those of kept connections too.
    taken: usize,
    /// Open connections that nobody uses, with the number by which their end finds them.
    kept: Vec<(u64, Line)>,
    last_number: u64,
}

/// Leave to have a connection to a host open; the place is free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    host: Arc<Host>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.state().taken -= 1;
        self.host.freed.notify_waiters();
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Line {
    /// Ready for a transaction.
    pub client: Client<TcpStream>,
    /// Its place among the connections to its host.
    pub place: Arc<Place>,
    /// Messages that have gone over it.
    pub messages: u32,
}

impl Line {
    /// Leaves the connection to the next mail for its host, or ends it when none comes in time.
    pub fn keep(self) {
        let host = self.place.host.clone();
        if self.messages >= MOST_MESSAGES {
            tokio::spawn(self.quit());
            return;
        }
        let number = {
            let mut state = host.state();
            state.last_number += 1;
            let number = state.last_number;
            state.kept.push((number, self));
            number
        };
        host.freed.notify_waiters();
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            let line = {
                let mut state = host.state();
                let at = state.kept.iter().position(|(kept, _)| *kept == number);
                at.map(|at| state.kept.swap_remove(at).1)
            };
            if let Some(line) = line {
                line.quit().await;
            }
        });
    }

    /// Says good-bye; the place is taken until then.
    async fn quit(self) {
        self.client.quit().await;
        drop(self.place);
    }
}

/// How mail gets to a host.
#[derive(Debug)]
pub enum Entry {
    /// Over a connection that is open.
    Kept(Box<Line>),
    /// Over one that may be opened.
    New(Arc<Place>),
}

/// Too many rows wait for the host already: put this one back for so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crowded {
    /// In milliseconds.
    pub postpone_ms: i64,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Destinations {
    /// Destinations of a process with so many workers, none of which gets more than a tenth of them.
    /// At most `most_waiting` rows wait for one host.
    pub fn new(workers: usize, most_waiting: usize, left_alone_for: Duration) -> Destinations {
        let connections = CONNECTIONS_PER_HOST.min(workers / 10).max(1);
        Destinations { hosts: Mutex::default(), connections, most_waiting, left_alone_for }
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return host.clone();
        }
        if hosts.len() >= REMEMBERED_HOSTS {
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.unreachable().is_some());
        }
        let host = Arc::new(Host {
            state: Mutex::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            postpone_ms: AtomicU32::new(FIRST_POSTPONE_MS),
            unreachable: Mutex::default(),
        });
        hosts.insert(name.to_owned(), host.clone());
        host
    }

    /// Waits for one of the connections to a host: one that is kept; or the first; or one more when
    /// none of those in use becomes free for a while.
    pub async fn enter(&self, name: &str) -> Result<Entry, Crowded> {
        let host = self.host(name);
        let patient_until = Instant::now() + PATIENCE;
        let mut waiting = None;
        loop {
            // Made before it is looked for a place: from here on no word is missed.
            let freed = host.freed.notified();
            let is_patient = Instant::now() < patient_until;
            if let Some(entry) = host.try_enter(if is_patient { 1 } else { self.connections }) {
                return Ok(entry);
            }
            if waiting.is_none() {
                let before = host.waiting.fetch_add(1, Ordering::Relaxed);
                waiting = Some(Waiting(&host.waiting));
                if before >= self.most_waiting {
                    return host.try_enter(self.connections).ok_or_else(|| host.crowded());
                }
            }
            if is_patient {
                let _ = tokio::time::timeout_at(patient_until, freed).await;
            } else {
                freed.await;
            }
        }
    }

    /// Ends all connections that are kept, as far as their hosts answer at once.
    pub async fn hang_up(&self) {
        let hosts: Vec<Arc<Host>> = {
            let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.values().cloned().collect()
        };
        let lines = hosts.iter().flat_map(|host| std::mem::take(&mut host.state().kept));
        let quits: Vec<_> = lines.map(|(_, line)| line.quit()).collect();
        let _ = tokio::time::timeout(HANG_UP_WITHIN, futures_util::future::join_all(quits)).await;
    }

    /// What was reported of a host that was not reached a short time ago.
    pub fn unreachable(&self, name: &str) -> Option<String> {
        self.host(name).unreachable()
    }

    /// Notes that a host was not reached, and what was reported of it.
    pub fn note_unreachable(&self, name: &str, reply: String) {
        let host = self.host(name);
        let until = Instant::now() + self.left_alone_for;
        *host.unreachable.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, reply));
    }

    /// Notes that a host has answered.
    pub fn note_answer(&self, name: &str) {
        let host = self.host(name);
        host.postpone_ms.store(FIRST_POSTPONE_MS, Ordering::Relaxed);
        *host.unreachable.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Host {
    fn state(&self) -> MutexGuard<'_, HostState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection, or a place when fewer than `most` are taken.
    fn try_enter(self: &Arc<Host>, most: usize) -> Option<Entry> {
        let mut state = self.state();
        if let Some((_, line)) = state.kept.pop() {
            return Some(Entry::Kept(Box::new(line)));
        }
        if state.taken >= most {
            return None;
        }
        state.taken += 1;
        Some(Entry::New(Arc::new(Place { host: self.clone() })))
    }

    fn crowded(&self) -> Crowded {
        let postpone_ms = self.postpone_ms.load(Ordering::Relaxed);
        let longer_ms = postpone_ms.saturating_mul(2).min(LONGEST_POSTPONE_MS);
        self.postpone_ms.store(longer_ms, Ordering::Relaxed);
        Crowded { postpone_ms: i64::from(postpone_ms) }
    }

    fn unreachable(&self) -> Option<String> {
        let unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        unreachable.as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, reply)| reply.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn place(destinations: &Destinations, name: &str) -> Result<Arc<Place>, Crowded> {
        match destinations.enter(name).await? {
            Entry::New(place) => Ok(place),
            Entry::Kept(_) => panic!("nothing was kept"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_has_five_connections_and_a_short_queue() {
        let destinations = Arc::new(Destinations::new(100, 2, Duration::from_millis(100)));
        let mut places = Vec::new();
        for _ in 0..5 {
            places.push(place(&destinations, "mx.test").await.unwrap());
        }
        assert!(place(&destinations, "other.test").await.is_ok());
        let wait = || {
            let destinations = destinations.clone();
            tokio::spawn(async move { place(&destinations, "mx.test").await.is_ok() })
        };
        let (first, second) = (wait(), wait());
        tokio::time::sleep(Duration::from_secs(5)).await;
        let put_back = [
            destinations.enter("mx.test").await.unwrap_err(),
            destinations.enter("mx.test").await.unwrap_err(),
        ];
        assert_eq!(put_back.map(|crowded| crowded.postpone_ms), [1_000, 2_000]);
        places.clear();
        assert!(first.await.unwrap() && second.await.unwrap());
        destinations.note_answer("mx.test");
        assert!(destinations.enter("mx.test").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_connection_is_opened_only_when_none_becomes_free() {
        let destinations = Destinations::new(100, 10, Duration::ZERO);
        let first = place(&destinations, "mx.test").await.unwrap();
        let started = Instant::now();
        let second = place(&destinations, "mx.test").await.unwrap();
        assert_eq!(started.elapsed(), PATIENCE);
        drop((first, second));
        let started = Instant::now();
        assert!(destinations.enter("mx.test").await.is_ok());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn few_workers_give_a_host_one() {
        let destinations = Destinations::new(10, 0, Duration::ZERO);
        let _place = destinations.enter("mx.test").await.unwrap();
        assert!(destinations.enter("mx.test").await.is_err());
    }

    #[tokio::test]
    async fn what_was_not_reached_is_left_alone_for_a_while() {
        let destinations = Destinations::new(100, 2, Duration::from_millis(100));
        assert_eq!(destinations.unreachable("mx.test"), None);
        destinations.note_unreachable("mx.test", "refused".to_owned());
        assert_eq!(destinations.unreachable("mx.test").as_deref(), Some("refused"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(destinations.unreachable("mx.test"), None);
    }
}
