//! Takes the outgoing queue to other servers, and to mailboxes here.
//!
//! ```text
//! [outgoing] -> claim -> route -> attempt (SMTP) ----> report -> results -> [outgoing] done | later
//!                           \---> local -> [incoming]        \-> bounce -> [incoming]
//! ```
//!
//! A row is a message and its recipients in one domain. Who claims it has a lease, which is
//! renewed while the row is in hand, and checked, fence and all, right before DATA. What a try came
//! to is written in one transaction with the notification to the sender.
//!
//! So no recipient gets a message twice because a worker died, but inside one window that SMTP
//! cannot close: a remote has said 250, or was about to, and we die, or lose the connection, before
//! that is committed here. Then the message is sent again (RFC 5321, 4.5.3.2.6 and 6.1 choose twice
//! over never). The window is the time of one answer and one commit.
//!
//! Not here: who may send and as whom (`receive`, `jmap`), reading notifications that come back
//! (`ingest`), depth and age of the queue (`store::cluster`).
//!
//! Invariants:
//! - only what is committed is done: a worker that dies leaves a row whose lease ends;
//! - a host has at most five connections of this process, and never more than a tenth of its workers;
//!   mail for a host goes over a connection that is open already, where one becomes free in time;
//! - a password goes to a relay over verified TLS, or within this machine;
//! - mail for our own domains never leaves the machine.

pub mod attempt;
#[cfg(test)]
mod bench;
pub mod bounce;
pub mod connect;
#[cfg(test)]
mod connection_tests;
pub mod destination;
#[cfg(test)]
mod fault_tests;
pub mod lease;
#[cfg(test)]
mod lease_tests;
pub mod local;
pub mod message;
#[cfg(test)]
mod notification_tests;
pub mod report;
pub mod results;
#[cfg(test)]
mod results_tests;
pub mod route;
pub mod row;
pub mod schedule;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::blob::Blobs;
use crate::bus::{Event, Queue, Topic};
use crate::config::Config;
use crate::config::value::Relay;
use crate::deliver::destination::Destinations;
use crate::deliver::lease::InHand;
use crate::deliver::results::Finished;
use crate::deliver::route::Ourselves;
use crate::deliver::schedule::Schedule;
use crate::dns::Dns;
use crate::smtp::client::Timeouts;
use crate::smtp::client::tls::{accepting_any, verifying};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::queue::claim::{self, LEASE_MS};
use crate::store::queue::{due_lanes, outgoing};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;

/// Connections of this process at once.
const WORKERS: usize = 64;
/// Rows in hand for each worker: some look names up, some wait for a place at their host.
const IN_HAND_PER_WORKER: usize = 8;
/// What the messages in hand that are larger than `SMALL_MESSAGE` may take together, in KiB. The
/// small ones need not be counted: so many of them are less than that.
const MEMORY_KIB: u32 = 768 * 1024;
/// Octets up to which a message in hand is not weighed.
const SMALL_MESSAGE: i64 = 512 * 1024;
/// Rows claimed from one lane at once.
const CLAIM_BATCH: usize = 32;
/// How long a host that was not reached is left alone, at most.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// How long what is in hand may take when the process is to stop, and how much longer its results may:
/// those that are thrown away are mails that are sent twice.
const FINISH_WITHIN: Duration = Duration::from_millis(6_500);
const WRITE_WITHIN: Duration = Duration::from_millis(1_000);

/// What delivery takes from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we are.
    pub ourselves: Ourselves,
    /// Where all mail goes, if not to the hosts of its domains.
    pub relay: Option<Relay>,
    /// The port of other mail servers.
    pub mx_port: u16,
    /// When to try again.
    pub schedule: Schedule,
    /// How long answers are waited for.
    pub timeouts: Timeouts,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// Connections at once.
    pub workers: usize,
}

impl Settings {
    /// The settings of a configuration.
    pub fn of(config: &Config) -> Settings {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Settings {
            ourselves: Ourselves { host_name: config.hostname.clone(), smtp_listen: config.smtp_listen },
            relay: config.relay.clone(),
            mx_port: config.mx_port,
            schedule: Schedule {
                first_wait_ms: ms(config.retry_first),
                give_up_after_ms: ms(config.retry_for),
            },
            timeouts: Timeouts::default(),
            connect_timeout: Duration::from_secs(30),
            workers: WORKERS,
        }
    }
}

/// The delivery of a process.
pub struct Deliver {
    shared: Arc<Shared>,
}

/// What all deliveries share.
pub struct Shared {
    pub(in crate::deliver) store: Store,
    pub(in crate::deliver) blobs: Blobs,
    pub(in crate::deliver) dns: Dns,
    pub(in crate::deliver) settings: Settings,
    pub(in crate::deliver) in_hand: InHand,
    pub(in crate::deliver) destinations: Destinations,
    pub(in crate::deliver) workers: Semaphore,
    /// What large messages in hand may take together, in KiB.
    pub(in crate::deliver) memory: Semaphore,
    pub(in crate::deliver) accepting_any: Arc<rustls::ClientConfig>,
    pub(in crate::deliver) verifying: Arc<rustls::ClientConfig>,
}

impl Deliver {
    /// Delivery out of a store. Fails when TLS cannot be set up.
    pub fn new(store: Store, blobs: Blobs, dns: Dns, settings: Settings) -> Result<Deliver, rustls::Error> {
        let workers = settings.workers.max(1);
        let in_hand = workers * IN_HAND_PER_WORKER;
        // With a relay there is one destination, and nobody else to be held up by it.
        let most_waiting = if settings.relay.is_some() { in_hand } else { in_hand / 10 };
        let first_wait = Duration::from_millis(settings.schedule.first_wait_ms.unsigned_abs());
        let left_alone = LEFT_ALONE.min(first_wait / 2);
        let shared = Shared {
            store,
            blobs,
            dns,
            in_hand: InHand::default(),
            destinations: Destinations::new(workers, most_waiting, left_alone),
            workers: Semaphore::new(workers),
            memory: Semaphore::new(MEMORY_KIB as usize),
            accepting_any: accepting_any()?,
            verifying: verifying()?,
            settings,
        };
        Ok(Deliver { shared: Arc::new(shared) })
    }

    /// Delivers until told to stop; then finishes what is being sent, within eight seconds, and
    /// gives back the rest.
    pub async fn run(self, cancel: CancellationToken) {
        let shared = self.shared;
        let most = shared.settings.workers.max(1) * IN_HAND_PER_WORKER;
        let (sender, receiver) = mpsc::channel(most);
        let writer = tokio::spawn(results::write_all(shared.clone(), receiver));
        let keeping = CancellationToken::new();
        let keeper = {
            let (shared, keeping) = (shared.clone(), keeping.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                shared.in_hand.keep(&shared.store, &keeping).await;
            }))
        };
        let mut tasks = JoinSet::new();
        let mut events = shared.store.bus().subscribe();
        let _interest = shared.store.bus().interest(Topic::Queue(Queue::Outgoing));
        while !cancel.is_cancelled() {
            if let Err(error) = claim_all(&shared, &mut tasks, &sender, &cancel, most).await {
                tracing::warn!(%error, "outgoing mail cannot be claimed");
            }
            while tasks.try_join_next().is_some() {}
            wait(&shared, &mut events, &cancel).await;
        }
        let stopping = tokio::time::Instant::now();
        let finish = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout_at(stopping + FINISH_WITHIN, finish).await;
        tasks.shutdown().await;
        drop(sender);
        let mut writer = writer;
        if tokio::time::timeout_at(stopping + FINISH_WITHIN + WRITE_WITHIN, &mut writer).await.is_err() {
            tracing::warn!("results of deliveries were not written in time; those mails are sent again");
            writer.abort();
        }
        shared.destinations.hang_up().await;
        keeping.cancel();
        let _ = keeper.await;
        let claims = shared.in_hand.claims();
        if !claims.is_empty()
            && let Err(error) = claim::give_back(&shared.store, Queue::Outgoing, claims).await
        {
            tracing::warn!(%error, "outgoing mail was not given back; its leases end by themselves");
        }
    }
}

impl Shared {
    /// Waits until a message of so many octets may be read. A permit is kept while it is in hand.
    pub(in crate::deliver) async fn room_for(&self, size: i64) -> Option<SemaphorePermit<'_>> {
        if size <= SMALL_MESSAGE {
            return None;
        }
        let kib = u32::try_from(size / 1024).unwrap_or(u32::MAX).min(MEMORY_KIB);
        // The semaphore is never closed.
        self.memory.acquire_many(kib).await.ok()
    }
}

/// Claims what is due, as far as there is room, and starts its delivery.
async fn claim_all(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    results: &mpsc::Sender<Finished>,
    stop: &CancellationToken,
    most: usize,
) -> Result<(), StoreError> {
    loop {
        let lanes = due_lanes(&shared.store, Queue::Outgoing).await?;
        let mut may_have_more = false;
        let mut failure = None;
        for lane in lanes {
            let room = most.saturating_sub(shared.in_hand.len());
            if room == 0 || stop.is_cancelled() {
                return Ok(());
            }
            let limit = room.min(CLAIM_BATCH);
            let rows = match outgoing::claim(&shared.store, lane, limit, LEASE_MS).await {
                Ok(rows) => rows,
                Err(error) => {
                    // Other lanes may be on other nodes.
                    failure = Some(error);
                    continue;
                }
            };
            may_have_more |= rows.len() == limit;
            for row in rows {
                let lost = shared.in_hand.add(row.claim);
                let (shared, results, stop) = (shared.clone(), results.clone(), stop.clone());
                let claim = row.claim;
                let span =
                    tracing::info_span!("deliver", row = %claim.id, message = %row.envelope.delivery_id);
                let work = async move {
                    guarded(&shared, claim, row::work(&shared, row, &results, &lost, &stop)).await;
                };
                tasks.spawn(work.instrument(span));
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if !may_have_more {
            return Ok(());
        }
    }
}

/// Works on a row, and sets it aside when the worker breaks: nobody would retry or finish it
/// otherwise, but its lease would be renewed for ever.
async fn guarded(shared: &Shared, claim: claim::Claim, work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
        return;
    }
    let unit = async move |tx: &mut Tx| {
        claim::hold(tx, Queue::Outgoing, claim, "a worker broke on this message").await
    };
    let held = shared.store.write_lane(claim.lane, Urgency::Background, unit).await;
    tracing::error!(row = %claim.id, ?held, "a delivery broke; the mail is set aside");
    shared.in_hand.remove(&[claim]);
}

/// Waits until there may be something to claim.
async fn wait(shared: &Shared, events: &mut broadcast::Receiver<Event>, stop: &CancellationToken) {
    // Several processes that poll shall not do it all at the same time.
    let poll = Duration::from_millis(rand::random_range(1_000..2_000));
    let woken = async {
        loop {
            match events.recv().await {
                Ok(Event::Queued { queue: Queue::Outgoing, .. }) => return,
                // Some events were missed: one of them may have been ours.
                Ok(Event::Missed(_)) => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = woken => {}
        () = shared.in_hand.freed.notified() => {}
        () = tokio::time::sleep(poll) => {}
    }
}
