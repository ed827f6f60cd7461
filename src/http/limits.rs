//! Requests of one login at a time (`maxConcurrentRequests`, `maxConcurrentUpload`). One too many
//! waits a little before it is refused: clients send bursts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::jmap::error::RequestError;
use crate::jmap::limits;
use crate::types::id::Id;

/// How long one too many waits.
const WAIT: Duration = Duration::from_secs(5);
/// Logins beyond which those with nothing under way are forgotten.
const REMEMBERED: usize = 10_000;

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

#[cfg(test)]
mod tests {
    use super::*;

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
