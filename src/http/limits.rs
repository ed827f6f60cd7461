//! Requests of one login at a time (`maxConcurrentRequests`, `maxConcurrentUpload`). One too many
//! waits a little before it is refused: clients send bursts. And clients connected for push: how many of
//! a login, and how many come in at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::error::HttpError;
use crate::jmap::error::RequestError;
use crate::jmap::limits;
use crate::push::online::Online;
use crate::types::id::Id;

/// How long one too many waits.
const WAIT: Duration = Duration::from_secs(5);
/// Logins beyond which those with nothing under way are forgotten, at the least.
const REMEMBERED: usize = 10_000;
/// WebSockets and event streams of one login at a time.
pub const MAX_PUSH_CONNECTIONS: usize = 100;
/// WebSockets and event streams that are opened at a time, in a process. When it is started anew all
/// clients come back at once, and each wants several answers of the database: others wait for those too.
const OPENED_AT_ONCE: usize = 1;
/// How long an opening waits for its turn.
const WAIT_FOR_TURN: Duration = Duration::from_secs(60);
/// How long a turn lasts at most. Who takes longer goes on beside the next: a password that is checked
/// takes as long as whoever tries passwords makes it take.
const LONGEST_TURN: Duration = Duration::from_millis(10);

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

/// The turns by which clients come in.
pub struct Openings(Semaphore);

impl Default for Openings {
    fn default() -> Openings {
        Openings(Semaphore::new(OPENED_AT_ONCE))
    }
}

impl Openings {
    /// Lets a client come in when it is its turn, first come, first served.
    pub async fn in_turn<T>(
        &self,
        opening: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<T, HttpError> {
        let Ok(Ok(turn)) = tokio::time::timeout(WAIT_FOR_TURN, self.0.acquire()).await else {
            Online::drop_of("no turn");
            return Err(HttpError::Unavailable);
        };
        let mut opening = std::pin::pin!(opening);
        tokio::select! {
            opened = &mut opening => return opened,
            () = tokio::time::sleep(LONGEST_TURN) => drop(turn),
        }
        opening.await
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
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

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
    async fn a_herd_comes_in_by_turns_and_who_is_slow_holds_up_nobody() {
        let openings = Openings::default();
        let under_way = std::sync::atomic::AtomicUsize::new(0);
        let most = std::sync::atomic::AtomicUsize::new(0);
        let open = |takes: Duration| {
            let (under_way, most) = (&under_way, &most);
            openings.in_turn(async move {
                most.fetch_max(under_way.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(takes).await;
                under_way.fetch_sub(1, SeqCst);
                Ok(())
            })
        };
        let start = tokio::time::Instant::now();
        let all = futures_util::future::join_all((0..100).map(|_| open(Duration::from_millis(4)))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(most.load(SeqCst), OPENED_AT_ONCE);
        assert_eq!(start.elapsed(), Duration::from_millis(4) * 100 / OPENED_AT_ONCE as u32);

        // Ten that take a minute each give their turns on.
        let slow = futures_util::future::join_all((0..10).map(|_| open(Duration::from_secs(60))));
        let quick = async {
            let start = tokio::time::Instant::now();
            open(Duration::ZERO).await.unwrap();
            assert_eq!(start.elapsed(), LONGEST_TURN * 10 / OPENED_AT_ONCE as u32);
        };
        tokio::join!(slow, quick);
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
