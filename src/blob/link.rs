//! Whether an object store across the network answers. Once it is known not to, whoever wants it is
//! told so at once instead of waiting for another time-out, and it is asked again and again in the
//! background until it answers: nobody's request is the one that tries.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use crate::blob::BlobError;

/// What a probe writes.
const PROBE: &str = "ready";
/// How long a probe may take.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// Pauses between probes of a store that is down, in milliseconds: not all processes at once.
const PAUSE_MS: std::ops::Range<u64> = 500..1_500;
/// Time for a request, its retries among them, and so long for each octet it carries.
const REQUEST_TIME: Duration = Duration::from_secs(10);
const OCTETS_PER_SECOND: u64 = 512 * 1024;

/// The way to a remote store.
pub struct Link {
    objects: Arc<dyn ObjectStore>,
    /// Why it is down, while it is.
    down: Mutex<Option<Arc<str>>>,
}

impl Link {
    /// Taken for sound; a first probe is under way when this returns.
    pub fn new(objects: Arc<dyn ObjectStore>) -> Arc<Link> {
        let link = Arc::new(Link { objects, down: Mutex::default() });
        if let Ok(runtime) = Handle::try_current() {
            let first = Arc::downgrade(&link);
            runtime.spawn(async move {
                if let Some(link) = first.upgrade() {
                    let _ = link.ready().await;
                }
            });
        }
        link
    }

    /// An error when the store is known to be down.
    pub fn check(&self) -> Result<(), BlobError> {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.as_ref().map_or(Ok(()), |cause| Err(BlobError::Unavailable(cause.clone())))
    }

    /// Runs a request that carries so many octets. One that fails because the store is down keeps the
    /// next ones from trying.
    pub async fn run<T>(
        self: &Arc<Self>,
        octets: u64,
        request: impl Future<Output = Result<T, BlobError>>,
    ) -> Result<T, BlobError> {
        self.check()?;
        let outcome = within(time_for(octets), request).await;
        if let Err(BlobError::Unavailable(cause)) = &outcome {
            self.lost(cause.clone());
        }
        outcome
    }

    /// Whether a small object can be written; at once when it is known that it cannot.
    pub async fn ready(self: &Arc<Self>) -> Result<(), BlobError> {
        self.check()?;
        let outcome = self.probe().await;
        match &outcome {
            Ok(()) => metrics::gauge!("postrider_object_store_up").set(1.0),
            Err(error) => self.lost(error.to_string().into()),
        }
        outcome
    }

    async fn probe(&self) -> Result<(), BlobError> {
        let put = async {
            let put = self.objects.put(&ObjectPath::from(PROBE), PutPayload::from_static(b"1")).await;
            put.map(drop).map_err(|error| BlobError::of_write(&error))
        };
        within(PROBE_TIME, put).await
    }

    /// Notes that the store is down, and begins to look for its return.
    fn lost(self: &Arc<Self>, cause: Arc<str>) {
        {
            let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
            if down.replace(cause.clone()).is_some() {
                return;
            }
        }
        metrics::gauge!("postrider_object_store_up").set(0.0);
        tracing::warn!(%cause, "the object store is down: large messages are put off until it is back");
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(await_return(Arc::downgrade(self)));
        }
    }

    fn found(&self) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = None;
        metrics::gauge!("postrider_object_store_up").set(1.0);
        tracing::info!("the object store is back");
    }
}

/// Probes until the store answers, or nobody wants it any more.
async fn await_return(link: Weak<Link>) {
    while let Some(link) = link.upgrade() {
        match link.probe().await {
            Ok(()) => return link.found(),
            Err(error) => {
                let mut down = link.down.lock().unwrap_or_else(PoisonError::into_inner);
                *down = Some(error.to_string().into());
            }
        }
        drop(link);
        tokio::time::sleep(Duration::from_millis(rand::random_range(PAUSE_MS))).await;
    }
}

fn time_for(octets: u64) -> Duration {
    REQUEST_TIME + Duration::from_secs(octets / OCTETS_PER_SECOND)
}

async fn within<T>(
    time: Duration,
    request: impl Future<Output = Result<T, BlobError>>,
) -> Result<T, BlobError> {
    match tokio::time::timeout(time, request).await {
        Ok(outcome) => outcome,
        Err(_) => Err(BlobError::unavailable(&format_args!("no answer within {time:?}"))),
    }
}
