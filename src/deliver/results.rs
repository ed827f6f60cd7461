//! What tries came to, written in batches: one transaction for each account and claim, with the
//! submission's status and the notification in the same transaction.
//!
//! A result whose claim is lost counts for nothing: another worker has the row. What could not be
//! written is written again for as long as the lease is kept: it may say that a remote has the
//! message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use crate::bus::Queue;
use crate::deliver::Shared;
use crate::deliver::report::Report;
use crate::store::error::StoreError;
use crate::store::queue::claim::{self, Claim};
use crate::store::queue::incoming::{self, NewIncoming};
use crate::store::queue::outgoing::{self, Next, Outcome};
use crate::store::submission::{self, Delivered, Noted};
use crate::store::suppression::{self, Reason};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::envelope::RecipientStatus;
use crate::types::event::{EventData, EventKind};
use crate::types::id::{AccountId, Id};

/// Results that one transaction takes at most.
const BATCH: usize = 64;
/// Tries to write one result that the database refuses for its own sake.
const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_millis(200);

/// What a try of a row came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Who sends it.
    pub account: AccountId,
    /// The submission; 0 for none.
    pub submission: Id,
    /// The message's id, for the logs.
    pub message: String,
    /// The reverse-path.
    pub sender: String,
    /// For the row.
    pub outcome: Outcome,
    /// What was said of recipients.
    pub said: Vec<Said>,
    /// Messages for the incoming queue: to local recipients, or to the sender.
    pub incoming: Vec<NewIncoming>,
}

/// What was said of a recipient, and what it is now.
#[derive(Clone, Debug)]
pub struct Said {
    /// The forward-path.
    pub address: String,
    /// What was said.
    pub report: Report,
    /// How far it has come.
    pub status: RecipientStatus,
}

/// Writes results until no more can come.
pub async fn write_all(shared: Arc<Shared>, mut results: mpsc::Receiver<Finished>) {
    let mut batch = Vec::with_capacity(BATCH);
    while results.recv_many(&mut batch, BATCH).await > 0 {
        let mut accounts: BTreeMap<AccountId, Vec<Finished>> = BTreeMap::new();
        for finished in batch.drain(..) {
            accounts.entry(finished.account).or_default().push(finished);
        }
        let written = accounts.into_iter().map(|(account, results)| write(&shared, account, results));
        join_all(written).await;
    }
}

async fn write(shared: &Shared, account: AccountId, results: Vec<Finished>) {
    let claims: Vec<Claim> = results.iter().map(|finished| finished.outcome.claim).collect();
    if let Err(error) = commit(shared, account, &results).await {
        if results.len() > 1 && !error.is_temporary() {
            tracing::error!(%account, %error, "a batch of delivery results was not written; one by one now");
        }
        for finished in &results {
            write_one(shared, account, finished).await;
        }
    }
    shared.in_hand.remove(&claims);
}

async fn write_one(shared: &Shared, account: AccountId, finished: &Finished) {
    let claim = finished.outcome.claim;
    let mut tries = 0;
    loop {
        let error = match commit(shared, account, std::slice::from_ref(finished)).await {
            Ok(()) => return,
            Err(StoreError::Closed) => return,
            Err(StoreError::NoSuchAccount) => {
                // The account is gone, and with it whoever would be told.
                if let Err(error) = outgoing::discard(&shared.store, claim.lane, claim.id).await {
                    tracing::warn!(row = %claim.id, %error, "outgoing mail of a removed account stays");
                }
                return;
            }
            Err(error) => error,
        };
        tracing::error!(row = %claim.id, %error, "a delivery result was not written");
        if !error.is_temporary() {
            tries += 1;
        }
        if tries >= TRIES {
            // Trying to deliver again could deliver twice: somebody must look at it.
            let reason = format!("the result of a delivery could not be written: {error}");
            let unit = async move |tx: &mut Tx| claim::hold(tx, Queue::Outgoing, claim, &reason).await;
            let held = shared.store.write_lane(claim.lane, Urgency::Interactive, unit).await;
            tracing::error!(row = %claim.id, ?held, "outgoing mail is set aside");
            return;
        }
        tokio::time::sleep(WAIT).await;
    }
}

async fn commit(shared: &Shared, account: AccountId, results: &[Finished]) -> Result<(), StoreError> {
    let results: Arc<[Finished]> = results.into();
    let written = results.clone();
    let unit = async move |tx: &mut Tx| {
        let outcomes: Vec<Outcome> = written.iter().map(|finished| finished.outcome.clone()).collect();
        let held = outgoing::settle(tx, &outcomes).await?;
        for finished in written.iter().filter(|finished| held.contains(&finished.outcome.claim)) {
            for new in &finished.incoming {
                incoming::insert(tx, tx.lane(), new).await?;
            }
            let found = submission::record_results(tx, finished.submission, &statuses(finished)).await?;
            note_events(tx, finished, found.as_ref());
            if found.is_some() {
                suppress(tx, finished).await?;
            }
        }
        Ok(held)
    };
    // Nobody waits for it, but what has left is sent again if we end before it is written.
    let held = shared.store.write(account, unit).await?;
    for finished in results.iter() {
        count(finished, held.contains(&finished.outcome.claim));
    }
    Ok(())
}

/// Notes what was said of each recipient. What the server itself sends, notifications and replies of people
/// who are away, is of interest to nobody.
fn note_events(tx: &mut Tx, finished: &Finished, submission: Option<&Noted>) {
    if submission.is_none() && finished.sender.is_empty() {
        return;
    }
    for Said { address, report, status } in &finished.said {
        let kind = match status {
            RecipientStatus::Pending => EventKind::Deferred,
            RecipientStatus::Delivered => EventKind::Delivered,
            RecipientStatus::Failed => EventKind::Bounced,
        };
        let told = EventData {
            queue_id: Some(finished.message.clone()),
            from: Some(finished.sender.clone()).filter(|sender| !sender.is_empty()),
            recipient: Some(address.clone()),
            reply: Some(report.reply.clone()),
            ..submission.map(Noted::told).unwrap_or_default()
        };
        tx.note_event(kind, finished.submission, told);
    }
}

/// Programs do not send again to addresses that there are not.
async fn suppress(tx: &mut Tx, finished: &Finished) -> Result<(), StoreError> {
    for Said { address, report, status } in &finished.said {
        if *status == RecipientStatus::Failed && suppression::is_hard(&report.status) {
            suppression::add(tx, vec![address.clone()], Reason::Bounce, &report.reply).await?;
        }
    }
    Ok(())
}

/// What a submission shows of its recipients (RFC 8621, 7).
fn statuses(finished: &Finished) -> Vec<(&str, &str, Delivered)> {
    let status = |said: &Said| match (said.status, said.report.host.is_some()) {
        (RecipientStatus::Pending, _) => Delivered::Queued,
        (RecipientStatus::Failed, _) => Delivered::No,
        (RecipientStatus::Delivered, true) => Delivered::Unknown,
        (RecipientStatus::Delivered, false) => Delivered::Yes,
    };
    let said = finished.said.iter();
    said.map(|said| (said.address.as_str(), said.report.reply.as_str(), status(said))).collect()
}

fn count(finished: &Finished, is_held: bool) {
    let row = finished.outcome.claim.id;
    if !is_held {
        metrics::counter!("postrider_delivery_leases_lost_total").increment(1);
        tracing::warn!(%row, "a delivery result came after its lease: another worker has the row");
        return;
    }
    for Said { report, status, .. } in &finished.said {
        let result = match status {
            RecipientStatus::Delivered => "delivered",
            RecipientStatus::Pending => "deferred",
            RecipientStatus::Failed => "failed",
        };
        metrics::counter!("postrider_deliveries_total", "result" => result).increment(1);
        tracing::info!(%row, message = finished.message, submission = %finished.submission, result, host = report.host,
            reply = report.reply, "delivery tried");
    }
    if let Next::Retry { .. } = finished.outcome.next {
        metrics::counter!("postrider_delivery_deferrals_total").increment(1);
    }
}
