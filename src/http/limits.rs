//! Requests of one login at a time (`maxConcurrentRequests`, `maxConcurrentUpload`). One too many
//! waits a little before it is refused: clients send bursts. And clients connected for push: how many of
//! a login, and how many come in at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::error::HttpError;
use crate::jmap::error::RequestError;
use crate::jmap::limits;
use crate::push::online::Online;
use crate::types::connections::Connections;
use crate::types::id::Id;

/// How long one too many waits.
const WAIT: Duration = Duration::from_secs(5);
/// Logins beyond which those with nothing under way are forgotten, at the least.
const REMEMBERED: usize = 10_000;
/// WebSockets and event streams of one login at a time.
pub const MAX_PUSH_CONNECTIONS: usize = 100;
/// WebSockets and event streams that a process opens in a second. When it is started anew all clients come
/// back at once, and each wants several answers of the database: others wait for those too.
const OPENED_PER_SECOND: u32 = 100;
/// So many come in at once after a quiet time.
const OPENED_AT_ONCE: u32 = 50;
/// Openings that wait for their turn: the last one for a minute.
const OPENINGS_WAITING: usize = 60 * OPENED_PER_SECOND as usize;
/// Of one address: who floods the server from one takes the turns of some, and not of all.
const OPENINGS_WAITING_PER_ADDRESS: usize = 2_000;

/// What is counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Requests to the API.
    Request,
    /// Uploads.
    Upload,
}

impl Kind {
    fn limit(self) -> (usize, &'static str) {
        match self {
            Kind::Request => (limits::MAX_CONCURRENT_REQUESTS, "maxConcurrentRequests"),
            Kind::Upload => (limits::MAX_CONCURRENT_UPLOAD, "maxConcurrentUpload"),
        }
    }
}

/// Requests under way, by login.
#[derive(Default)]
pub struct Concurrency {
    logins: Mutex<HashMap<(Kind, Id), Arc<Semaphore>>>,
}

impl Concurrency {
    /// A place for a request; it is free again when the permit is dropped.
    pub async fn enter(&self, kind: Kind, login: Id) -> Result<OwnedSemaphorePermit, RequestError> {
        let (count, name) = kind.limit();
        let places = {
            let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
            if logins.len() > REMEMBERED {
                logins.retain(|_, places| Arc::strong_count(places) > 1);
            }
            logins.entry((kind, login)).or_insert_with(|| Arc::new(Semaphore::new(count))).clone()
        };
        let refused = || RequestError::Limit {
            limit: name,
            detail: format!("At most {count} requests of one login run at a time; wait for one to end."),
        };
        match tokio::time::timeout(WAIT, places.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(refused()),
        }
    }
}

/// Clients that are connected for push, by login.
#[derive(Clone, Default)]
pub struct PushPlaces {
    logins: Arc<Mutex<HashMap<Id, usize>>>,
}

impl PushPlaces {
    /// A place for one more client of a login; it is free again when the answer is dropped.
    pub fn enter(&self, login: Id) -> Result<PushPlace, HttpError> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let count = logins.entry(login).or_default();
        if *count >= MAX_PUSH_CONNECTIONS {
            Online::drop_of("too many");
            return Err(HttpError::TooMany {
                retry_after_seconds: 30,
                detail: "This login has 100 clients connected for push, which is the most; close some.",
            });
        }
        *count += 1;
        Ok(PushPlace { all: self.clone(), login })
    }
}

/// The turns by which clients come in: first come, first served, however long each takes. Who leaves while it
/// waits takes none.
pub struct Openings {
    /// When the next turn would be if there had been no quiet time; held by whoever is the next.
    next: tokio::sync::Mutex<Option<Instant>>,
    waiting: Semaphore,
    of_addresses: Connections,
}

impl Default for Openings {
    fn default() -> Openings {
        let waiting = Semaphore::new(OPENINGS_WAITING);
        Openings { next: tokio::sync::Mutex::default(), waiting, of_addresses: Connections::default() }
    }
}

impl Openings {
    /// Waits for the turn of a client with this address.
    pub async fn turn(&self, client: IpAddr) -> Result<(), HttpError> {
        let Some(_of_address) = self.of_addresses.enter(client, OPENINGS_WAITING_PER_ADDRESS) else {
            Online::drop_of("too many of an address");
            return Err(HttpError::Unavailable);
        };
        let Ok(_waiting) = self.waiting.try_acquire() else {
            Online::drop_of("no turn");
            return Err(HttpError::Unavailable);
        };
        let mut next = self.next.lock().await;
        let gap = Duration::from_secs(1) / OPENED_PER_SECOND;
        let now = Instant::now();
        let saved = now.checked_sub(gap * (OPENED_AT_ONCE - 1)).unwrap_or(now);
        let turn = next.map_or(saved, |next| next.max(saved));
        tokio::time::sleep_until(turn).await;
        *next = Some(turn + gap);
        Ok(())
    }
}

/// One client that is connected.
pub struct PushPlace {
    all: PushPlaces,
    login: Id,
}

impl Drop for PushPlace {
    fn drop(&mut self) {
        let mut logins = self.all.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = logins.entry(self.login) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;

    use super::*;

    fn host(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
    }

    #[test]
    fn one_client_too_many_is_refused_until_another_leaves() {
        let places = PushPlaces::default();
        let mut held: Vec<PushPlace> =
            (0..MAX_PUSH_CONNECTIONS).map(|_| places.enter(Id(1)).ok().unwrap()).collect();
        assert!(matches!(places.enter(Id(1)), Err(HttpError::TooMany { .. })));
        assert!(places.enter(Id(2)).is_ok(), "another login");
        held.pop();
        assert!(places.enter(Id(1)).is_ok());
        drop(held);
        assert!(places.logins.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_herd_comes_in_by_turns() {
        let openings = &Openings::default();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let start = Instant::now();
        let come_in = |number: u32| async move {
            openings.turn(host(number)).await.ok().unwrap();
            start.elapsed()
        };
        let came = futures_util::future::join_all((0..1_000).map(come_in)).await;
        let within = |time: Duration| came.iter().filter(|after| **after <= time).count();
        assert_eq!(within(Duration::ZERO), OPENED_AT_ONCE as usize);
        let second = Duration::from_secs(1);
        assert_eq!(within(second), (OPENED_AT_ONCE + OPENED_PER_SECOND) as usize);
        assert_eq!(within(2 * second), (OPENED_AT_ONCE + 2 * OPENED_PER_SECOND) as usize);
        assert!(came.is_sorted(), "first come, first served");
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_or_is_too_many_is_told_so_at_once() {
        let openings = Openings::default();
        let refused = |addresses: &mut dyn Iterator<Item = u32>| {
            let mut waiting: Vec<_> = addresses.map(|number| Box::pin(openings.turn(host(number)))).collect();
            waiting.iter_mut().filter_map(|turn| turn.now_or_never()).filter(Result::is_err).count()
        };
        let many = u32::try_from(OPENINGS_WAITING).unwrap() + 1_000;
        // Some have come in at once.
        assert!((900..=1_000).contains(&refused(&mut (0..many))));
        assert!(
            (900..=1_000)
                .contains(&refused(&mut std::iter::repeat_n(0, OPENINGS_WAITING_PER_ADDRESS + 1_000)))
        );
        // All of them have left, and hold up nobody.
        let start = Instant::now();
        assert!(openings.turn(host(1)).await.is_ok());
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_waits_a_little_and_is_refused() {
        for (kind, name) in [(Kind::Request, "maxConcurrentRequests"), (Kind::Upload, "maxConcurrentUpload")]
        {
            let concurrency = Concurrency::default();
            let mut places = Vec::new();
            for _ in 0..kind.limit().0 {
                places.push(concurrency.enter(kind, Id(1)).await.unwrap());
            }
            let start = tokio::time::Instant::now();
            match concurrency.enter(kind, Id(1)).await {
                Err(RequestError::Limit { limit, .. }) => assert_eq!(limit, name),
                other => panic!("{other:?}"),
            }
            assert_eq!(start.elapsed(), WAIT);
            // Neither another login nor another kind waits for them.
            assert!(concurrency.enter(kind, Id(2)).await.is_ok());
            let other = if kind == Kind::Request { Kind::Upload } else { Kind::Request };
            assert!(concurrency.enter(other, Id(1)).await.is_ok());
            let leaves = async {
                tokio::time::sleep(WAIT / 2).await;
                places.pop();
            };
            let (entered, ()) = tokio::join!(concurrency.enter(kind, Id(1)), leaves);
            assert!(entered.is_ok(), "a place became free");
        }
    }
}
