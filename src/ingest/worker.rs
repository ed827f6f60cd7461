//! The loop of the role: claims rows, works on several at a time, renews their leases.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mail_auth::MessageAuthenticator;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::blob::{BlobError, Blobs};
use crate::bus::Queue;
use crate::ingest::authenticate::{Verdict, authenticate};
use crate::ingest::file::{Filed, Ready, file};
use crate::ingest::report;
use crate::ingest::vacation;
use crate::mail::fields::fields;
use crate::mail::parse::parse;
use crate::mail::reencode::{prepend, remove_authentication_results};
use crate::store::Store;
use crate::store::email::insert::NewEmail;
use crate::store::error::StoreError;
use crate::store::queue::claim::{self, Claim, LEASE_MS, RENEW_EVERY_MS};
use crate::store::queue::incoming::{self, IncomingRow};
use crate::store::queue::watch::Watch;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::event::EventData;
use crate::types::id::AccountId;

/// Messages that are worked on at a time.
const AT_ONCE: usize = 64;
/// What the messages that are worked on may hold together, in KiB; each counts twice, as it came
/// and as it is filed.
const MEMORY_KIB: u32 = 512 * 1024;
/// Rows taken from a lane at once.
const CLAIMED_AT_ONCE: usize = 8;
/// After so many tries a message is set aside.
const MAX_TRIES: i64 = 12;
/// Tries for which a failed DNS look-up is worth waiting.
const DNS_TRIES: i64 = 3;
const FIRST_DELAY_MS: i64 = 1_000;
const MAX_DELAY_MS: i64 = 600_000;
/// When a message is tried again whose octets are out of reach.
const OUTAGE_WAIT_MS: i64 = 3_000;

/// The parts that the role works with. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    /// Queues and mailboxes.
    pub store: Store,
    /// Messages.
    pub blobs: Blobs,
    /// Look-ups for SPF, DKIM, DMARC and ARC.
    pub authenticator: Arc<MessageAuthenticator>,
    /// Our name in Authentication-Results.
    pub hostname: Arc<str>,
    /// What messages may hold, in KiB.
    memory: Arc<Semaphore>,
}

/// Octets of the Return-Path field that a message begins with; 0 when it does not.
fn return_path_len(message: &[u8]) -> usize {
    let mut fields = fields(message);
    let is_first = fields.next().is_some_and(|field| field.is("Return-Path"));
    if is_first { fields.position() } else { 0 }
}

/// Whether a message says that a program has made it (RFC 3834, 5).
fn is_automatic(message: &[u8]) -> bool {
    fields(message)
        .find(|field| field.is("Auto-Submitted"))
        .is_some_and(|field| !field.value.trim_ascii().eq_ignore_ascii_case(b"no"))
}

/// Why a row is not done.
#[derive(Debug)]
enum Failure {
    /// Worth another try.
    Later(String),
    /// The place of large messages is out of reach: soon again, and however often.
    OutOfReach(String),
    /// The lease is lost: somebody else does it.
    Lost,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Later(error.to_string())
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Failure {
        match error {
            BlobError::Unavailable(_) => Failure::OutOfReach(error.to_string()),
            error => Failure::Later(error.to_string()),
        }
    }
}

impl Ingest {
    /// Over the parts; `hostname` is our name in Authentication-Results.
    pub fn new(
        store: Store,
        blobs: Blobs,
        authenticator: Arc<MessageAuthenticator>,
        hostname: Arc<str>,
    ) -> Ingest {
        let memory = Arc::new(Semaphore::new(MEMORY_KIB as usize));
        Ingest { store, blobs, authenticator, hostname, memory }
    }

    /// Works until it is told to stop; then finishes what is in hand.
    pub async fn run(self, stop: CancellationToken) {
        let mut watch = Watch::new(self.store.clone(), Queue::Incoming);
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let tasks = TaskTracker::new();
        loop {
            let lane = tokio::select! {
                () = stop.cancelled() => break,
                lane = watch.lane() => lane,
            };
            // Claims only what can be worked on at once: a lease is short.
            let Ok(mut claimed) = places.clone().acquire_many_owned(CLAIMED_AT_ONCE as u32).await else {
                break;
            };
            let rows = match incoming::claim(&self.store, lane, CLAIMED_AT_ONCE, LEASE_MS).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(%error, "messages could not be claimed");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            for row in rows {
                let (ingest, place) = (self.clone(), claimed.split(1));
                let span =
                    tracing::info_span!("ingest", row = %row.claim.id, message = %row.envelope.delivery_id);
                tasks.spawn(
                    async move {
                        let _place = place;
                        ingest.work(row).await;
                    }
                    .instrument(span),
                );
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    pub(in crate::ingest) async fn work(self, row: IncomingRow) {
        let claim = row.claim;
        let tries = row.tries;
        if tries > MAX_TRIES {
            // Whatever broke or hung the process on it must not do so at every start.
            let reason = "it was taken too often without an outcome".to_owned();
            if let Err(error) = self.later(claim, tries, reason).await {
                tracing::warn!(%error, "the outcome could not be written");
            }
            return;
        }
        let renewing = self.clone();
        // A panic in a parser must not take the role down, nor be tried for ever.
        let task = tokio::spawn({
            let ingest = self.clone();
            async move { ingest.deliver(&row).await }.instrument(tracing::Span::current())
        });
        let abort = task.abort_handle();
        let outcome = tokio::select! {
            outcome = task => outcome.unwrap_or_else(|error| Err(Failure::Later(format!("a worker broke: {error}")))),
            () = renewing.renew(claim) => {
                abort.abort();
                Err(Failure::Lost)
            }
        };
        let settled = match outcome {
            Ok(()) => self.done(claim).await,
            Err(Failure::Lost) => {
                tracing::warn!("the lease was lost; another worker has the message");
                Ok(())
            }
            Err(Failure::Later(reason)) => self.later(claim, tries, reason).await,
            Err(Failure::OutOfReach(reason)) => {
                tracing::info!(reason, "a message is put off");
                let due =
                    self.store.clock().now_ms() + OUTAGE_WAIT_MS + rand::random_range(0..OUTAGE_WAIT_MS);
                claim::postpone(&self.store, Queue::Incoming, vec![(claim, due)]).await
            }
        };
        if let Err(error) = settled {
            // The lease ends by itself, and the message is tried again.
            tracing::warn!(%error, "the outcome could not be written");
        }
    }

    /// Renews a lease until it is lost.
    async fn renew(self, claim: Claim) {
        loop {
            tokio::time::sleep(Duration::from_millis(RENEW_EVERY_MS as u64)).await;
            match claim::renew(&self.store, Queue::Incoming, vec![claim], LEASE_MS).await {
                Ok(held) if held.is_empty() => return,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a lease could not be renewed"),
            }
        }
    }

    async fn deliver(&self, row: &IncomingRow) -> Result<(), Failure> {
        let kib = u32::try_from(row.size / 512).unwrap_or(u32::MAX).min(MEMORY_KIB);
        // The semaphore is never closed.
        let _room = self.memory.acquire_many(kib).await.map_err(|error| Failure::Later(error.to_string()))?;
        let body = self.body(row).await?;
        let envelope = &row.envelope;
        // Mail of our own users was checked when they handed it in.
        let stranger = envelope.remote_ip.filter(|_| envelope.login.is_none());
        let verdict = match stranger {
            Some(remote_ip) => Some(self.check(row, remote_ip, &body).await?),
            None => None,
        };
        let ready = self.prepare(row, body.clone(), verdict).await?;
        let accounts: BTreeSet<AccountId> =
            envelope.recipients.iter().flat_map(|recipient| recipient.accounts.iter().copied()).collect();
        for account in accounts {
            let reply =
                vacation::prepare(&self.store, &self.blobs, account, &envelope.mail_from, &body).await?;
            match file(&self.store, account, &ready, reply).await? {
                Filed::New(email) => {
                    metrics::counter!("postrider_messages_filed_total").increment(1);
                    tracing::info!(%account, %email, "filed");
                }
                Filed::Before => tracing::debug!(%account, "had been filed before"),
                Filed::NoAccount => tracing::warn!(%account, "the account is gone; its copy is dropped"),
            }
        }
        Ok(())
    }

    async fn body(&self, row: &IncomingRow) -> Result<Bytes, Failure> {
        if row.is_staged {
            return Ok(self.blobs.read_unchecked(&row.body_hash).await?);
        }
        let mut snapshot = self.store.read().await?;
        let body = incoming::body_of(&mut snapshot, row.claim.lane, row.claim.id).await?;
        // Without a body the row is done already: the claim is an old one.
        body.ok_or(Failure::Lost)
    }

    async fn check(&self, row: &IncomingRow, remote_ip: IpAddr, body: &[u8]) -> Result<Verdict, Failure> {
        let verdict = authenticate(&self.authenticator, &self.hostname, &row.envelope, remote_ip, body).await;
        if verdict.is_temporary && row.tries < DNS_TRIES {
            return Err(Failure::Later("the sender's DNS did not answer".to_owned()));
        }
        Ok(verdict)
    }

    /// The message as it will be filed, made once for all recipients.
    async fn prepare(
        &self,
        row: &IncomingRow,
        body: Bytes,
        verdict: Option<Verdict>,
    ) -> Result<Ready, Failure> {
        let hostname = self.hostname.clone();
        let received_at = row.envelope.received_at_ms;
        let is_suspicious = verdict.as_ref().is_some_and(|verdict| verdict.is_suspicious);
        let final_bytes = move || match verdict {
            // Nobody was asked, so nobody may say in our name what the answer was.
            None => Ok(match remove_authentication_results(&body, &hostname) {
                Cow::Borrowed(_) => body,
                Cow::Owned(without) => Bytes::from(without),
            }),
            Some(verdict) => {
                let body = remove_authentication_results(&body, &hostname);
                let fields = [("Authentication-Results", verdict.authentication_results.as_str())];
                // Return-Path, which was put on top when the message came, stays there.
                let (top, rest) = body.split_at(return_path_len(&body));
                let below = prepend(rest, &fields).map_err(|error| format!("{error:?}"))?;
                Ok(Bytes::from([top, &below].concat()))
            }
        };
        let message = tokio::task::spawn_blocking(final_bytes)
            .await
            .map_err(|error| Failure::Later(error.to_string()))?
            .map_err(Failure::Later)?;
        let blob = self.blobs.prepare(message.clone()).await?;
        let hash = blob.hash();
        let (mail_from, queue_id) = (row.envelope.mail_from.clone(), row.envelope.delivery_id.clone());
        let read = move || {
            let returned = report::read(&mail_from, &message).map(Arc::new);
            let parsed = parse(&message);
            let headers = &parsed.headers;
            let told = EventData {
                from: headers.from.as_ref().and_then(|from| from.first()).map(|from| from.email.clone()),
                subject: headers.subject.clone(),
                size: i64::try_from(message.len()).ok(),
                queue_id: Some(queue_id),
                is_automatic: mail_from.is_empty() || is_automatic(&message),
                ..EventData::default()
            };
            (NewEmail::of(&parsed, hash, received_at), returned, told)
        };
        let (email, report, told) = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Failure::Later(format!("the message could not be parsed: {error}")))?;
        Ok(Ready {
            blob,
            email: Arc::new(email),
            report,
            delivery_id: row.envelope.delivery_id.as_str().into(),
            is_suspicious,
            told: Arc::new(told),
        })
    }

    async fn done(&self, claim: Claim) -> Result<(), StoreError> {
        self.store
            // Urgent, as below: it is renewed no more, and whoever claims it anew does all of it again.
            .write_lane(claim.lane, Urgency::Interactive, async move |tx: &mut Tx| {
                claim::done(tx, Queue::Incoming, &[claim]).await.map(drop)
            })
            .await
    }

    async fn later(&self, claim: Claim, tries: i64, reason: String) -> Result<(), StoreError> {
        let is_hopeless = tries >= MAX_TRIES;
        if is_hopeless {
            tracing::error!(reason, "a message is set aside; see `postrider queue show`");
            metrics::counter!("postrider_messages_held_total").increment(1);
        } else {
            tracing::warn!(reason, tries, "a message could not be filed; it is tried again");
        }
        let delay_ms = (FIRST_DELAY_MS << tries.clamp(0, 20)).min(MAX_DELAY_MS);
        let jitter_ms = rand::random_range(0..=delay_ms / 4);
        self.store
            .write_lane(claim.lane, Urgency::Interactive, async move |tx: &mut Tx| {
                let due = tx.now_ms() + delay_ms + jitter_ms;
                if is_hopeless {
                    claim::hold(tx, Queue::Incoming, claim, &reason).await.map(drop)
                } else {
                    claim::retry(tx, Queue::Incoming, claim, due, &reason).await.map(drop)
                }
            })
            .await
    }
}
