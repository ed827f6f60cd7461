//! How much one destination may have of this process.
//!
//! At most five connections to a host at once. Rows wait for one of them without holding a worker;
//! when too many wait for the same host, the others are put back for a while, so that mail for
//! everybody else is claimed. A host that could not be reached is left alone for a short time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Connections to one host at once.
const CONNECTIONS_PER_HOST: usize = 5;
/// The longest that a row is put back because too many wait for its host, in milliseconds.
const LONGEST_POSTPONE_MS: u32 = 60_000;
const FIRST_POSTPONE_MS: u32 = 1_000;
/// Hosts that are remembered before those without use are forgotten.
const REMEMBERED_HOSTS: usize = 1_000;

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
    connections: Arc<Semaphore>,
    waiting: AtomicUsize,
    postpone_ms: AtomicU32,
    unreachable: Mutex<Option<(Instant, String)>>,
}

/// Leave to open a connection to a host; the place is free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
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
            connections: Arc::new(Semaphore::new(self.connections)),
            waiting: AtomicUsize::new(0),
            postpone_ms: AtomicU32::new(FIRST_POSTPONE_MS),
            unreachable: Mutex::default(),
        });
        hosts.insert(name.to_owned(), host.clone());
        host
    }

    /// Waits for one of the connections to a host.
    pub async fn enter(&self, name: &str) -> Result<Place, Crowded> {
        let host = self.host(name);
        if let Ok(permit) = host.connections.clone().try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let waiting = Waiting(&host.waiting);
        if host.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            let postpone_ms = host.postpone_ms.load(Ordering::Relaxed);
            let longer_ms = postpone_ms.saturating_mul(2).min(LONGEST_POSTPONE_MS);
            host.postpone_ms.store(longer_ms, Ordering::Relaxed);
            return Err(Crowded { postpone_ms: i64::from(postpone_ms) });
        }
        let permit = host.connections.clone().acquire_owned().await;
        drop(waiting);
        permit.map(|permit| Place { _permit: permit }).map_err(|_| Crowded { postpone_ms: 0 })
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
    fn unreachable(&self) -> Option<String> {
        let unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        unreachable.as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, reply)| reply.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_has_five_connections_and_a_short_queue() {
        let destinations = Arc::new(Destinations::new(100, 2, Duration::from_millis(100)));
        let mut places = Vec::new();
        for _ in 0..5 {
            places.push(destinations.enter("mx.test").await.unwrap());
        }
        assert!(destinations.enter("other.test").await.is_ok());
        let wait = || {
            let destinations = destinations.clone();
            tokio::spawn(async move { destinations.enter("mx.test").await.is_ok() })
        };
        let (first, second) = (wait(), wait());
        tokio::time::sleep(Duration::from_millis(20)).await;
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

    #[tokio::test]
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
