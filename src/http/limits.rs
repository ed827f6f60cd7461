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
