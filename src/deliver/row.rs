//! The work on one claimed row, from the queue to what is to be written about it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::blob::BlobError;
use crate::bus::Queue;
use crate::deliver::Shared;
use crate::deliver::attempt::{self, Parcel, Tried};
use crate::deliver::bounce;
use crate::deliver::local;
use crate::deliver::message::{self, Signer};
use crate::deliver::report::{Judgement, Report, judge};
use crate::deliver::results::{Finished, Said};
use crate::deliver::route::{self, Route};
use crate::store::directory::domain;
use crate::store::error::StoreError;
use crate::store::queue::claim;
use crate::store::queue::incoming::NewIncoming;
use crate::store::queue::outgoing::{Next, Outcome, OutgoingRow};
use crate::types::envelope::{OutgoingRecipient, RecipientStatus};

/// How long a row waits for which there is no room, or whose sender cannot be told at present, in
/// milliseconds.
const TROUBLE_WAIT_MS: i64 = 30_000;
/// When a row is tried again whose message or directory is out of reach.
const OUTAGE_WAIT_MS: i64 = 5_000;

/// How long a large message waits for memory with its row in hand.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// What is to be done with a row.
enum Done {
    /// Its result is to be written.
    Write(Box<Finished>),
    /// Not tried: put back, due at this time.
    PutBack { due: i64 },
    /// Not tried, and to be given back at once.
    GiveBack,
    /// Another worker has it.
    Lost,
}

/// Works on a row, and sees to it that it is in hand no longer than need be.
pub async fn work(
    shared: &Arc<Shared>,
    row: OutgoingRow,
    results: &mpsc::Sender<Finished>,
    lost: &CancellationToken,
    stop: &CancellationToken,
) {
    let claim = row.claim;
    let done = lost.run_until_cancelled(deliver(shared, &row, stop)).await.unwrap_or(Done::Lost);
    let put_back = match done {
        Done::Write(finished) => {
            // The writer lives until all senders are gone.
            let _ = results.send(*finished).await;
            return;
        }
        Done::Lost => {
            metrics::counter!("postrider_delivery_leases_lost_total").increment(1);
            tracing::warn!(row = %claim.id, "the lease of outgoing mail was lost");
            Ok(())
        }
        Done::GiveBack => claim::give_back(&shared.store, Queue::Outgoing, vec![claim]).await,
        Done::PutBack { due } => claim::postpone(&shared.store, Queue::Outgoing, vec![(claim, due)]).await,
    };
    if let Err(error) = put_back {
        tracing::warn!(row = %claim.id, %error, "outgoing mail was not put back; its lease ends by itself");
    }
    shared.in_hand.remove(&[claim]);
}

async fn deliver(shared: &Arc<Shared>, row: &OutgoingRow, stop: &CancellationToken) -> Done {
    if stop.is_cancelled() {
        return Done::GiveBack;
    }
    let pending: Vec<(usize, OutgoingRecipient)> = row
        .recipients
        .iter()
        .enumerate()
        .filter(|(_, recipient)| recipient.status == RecipientStatus::Pending)
        .map(|(place, recipient)| (place, recipient.clone()))
        .collect();
    let host_name = &shared.settings.ourselves.host_name;
    let room = tokio::time::timeout(ROOM_WAIT, shared.room_for(row.size));
    let _room = match stop.run_until_cancelled(room).await {
        None => return Done::GiveBack,
        Some(Ok(room)) => room,
        // Large messages to slow hosts fill the memory: others must not lose their turn to this one.
        Some(Err(_)) => {
            return Done::PutBack { due: shared.store.clock().now_ms() + TROUBLE_WAIT_MS };
        }
    };
    let message = match shared.blobs.read(row.account, &row.body_hash).await {
        Ok(Some(message)) => message::with_trace(&message, host_name, row.claim.id, row.created_at),
        Ok(None) => return set_aside(row, "the message is gone"),
        Err(error) => return trouble(shared, row, error),
    };
    let known = match look_up(shared, row, &message).await {
        Ok(known) => known,
        Err(error) => return trouble(shared, row, BlobError::Store(error)),
    };
    if known.is_ours {
        let handed = local::hand_over(&shared.store, &shared.blobs, host_name, row, &pending, &message).await;
        return match handed {
            Ok(handed) => finish(shared, row, &message, handed.reports, handed.rows).await,
            Err(error) => trouble(shared, row, error),
        };
    }
    let settings = &shared.settings;
    let looked_up = async {
        match &settings.relay {
            Some(relay) => route::to_relay(&shared.dns, relay).await,
            None => route::to_domain(&shared.dns, &settings.ourselves, settings.mx_port, &row.domain).await,
        }
    };
    let reports = match stop.run_until_cancelled(looked_up).await {
        None => return Done::GiveBack,
        Some(Route::Nowhere(report)) => pending.iter().map(|(place, _)| (*place, report.clone())).collect(),
        Some(Route::Hosts(hops)) => {
            let parcel = Parcel { row, pending: &pending, message: &message, signer: known.signer.as_ref() };
            match attempt::deliver(shared, &parcel, &hops, stop).await {
                Tried::Said(reports) => reports,
                Tried::Crowded(crowded) => {
                    let spread_ms = rand::random_range(0..=crowded.postpone_ms.max(1));
                    let due = shared.store.clock().now_ms() + crowded.postpone_ms + spread_ms;
                    return Done::PutBack { due };
                }
                Tried::Lost => return Done::Lost,
                Tried::Stopped => return Done::GiveBack,
            }
        }
    };
    finish(shared, row, &message, reports, Vec::new()).await
}

/// What the directory says of a row's domain and of its author.
struct Known {
    is_ours: bool,
    signer: Option<Signer>,
}

async fn look_up(shared: &Shared, row: &OutgoingRow, message: &Bytes) -> Result<Known, StoreError> {
    let author = message::author_domain(message);
    let mut names = vec![row.domain.clone()];
    names.extend(author.clone());
    let mut snapshot = shared.store.read().await?;
    let domains = domain::by_names(&mut snapshot, names).await?;
    let is_ours = domains.iter().any(|domain| domain.name == row.domain);
    let signer = domains
        .into_iter()
        .find(|domain| author.as_ref() == Some(&domain.name))
        .map(|domain| Signer { domain: domain.name, keys: domain.dkim_keys });
    Ok(Known { is_ours, signer })
}

/// Judges what was said, and makes the notification that follows.
async fn finish(
    shared: &Shared,
    row: &OutgoingRow,
    message: &[u8],
    reports: Vec<(usize, Report)>,
    mut incoming: Vec<NewIncoming>,
) -> Done {
    let now_ms = shared.store.clock().now_ms();
    let judgement = judge(row, &reports, &shared.settings.schedule, now_ms, rand::random::<f64>());
    let host_name = &shared.settings.ourselves.host_name;
    match bounce::notify(&shared.store, &shared.blobs, host_name, row, &judgement, message).await {
        Ok(notification) => incoming.extend(notification),
        Err(error) => return untold(shared, row, reports, judgement, incoming, &error),
    }
    write(row, reports, judgement.recipients, judgement.next, incoming)
}

/// The notification cannot be stored at present. What was delivered is written all the same, and
/// whoever failed is left pending, to be tried and told again.
fn untold(
    shared: &Shared,
    row: &OutgoingRow,
    mut reports: Vec<(usize, Report)>,
    judgement: Judgement,
    incoming: Vec<NewIncoming>,
    error: &BlobError,
) -> Done {
    tracing::error!(row = %row.claim.id, %error, "a notification was not stored");
    let mut recipients = judgement.recipients;
    let mut untold = HashSet::new();
    for told in &judgement.told {
        if let (Some(recipient), Some(before)) =
            (recipients.get_mut(told.place), row.recipients.get(told.place))
            // Rather a success that nobody hears of than a second copy.
            && recipient.status != RecipientStatus::Delivered
        {
            *recipient = before.clone();
            untold.insert(told.place);
        }
    }
    reports.retain(|(place, _)| !untold.contains(place));
    if recipients.iter().all(|recipient| recipient.status != RecipientStatus::Pending) {
        return write(row, reports, recipients, Next::Done, incoming);
    }
    let due = shared.store.clock().now_ms() + TROUBLE_WAIT_MS;
    let next = Next::Retry { due, error: format!("the sender could not be told: {error}") };
    write(row, reports, recipients, next, incoming)
}

fn write(
    row: &OutgoingRow,
    reports: Vec<(usize, Report)>,
    recipients: Vec<OutgoingRecipient>,
    next: Next,
    incoming: Vec<NewIncoming>,
) -> Done {
    let said = reports
        .into_iter()
        .filter_map(|(place, report)| {
            let recipient = recipients.get(place)?;
            Some(Said { address: recipient.address.clone(), report, status: recipient.status })
        })
        .collect();
    Done::Write(Box::new(Finished {
        account: row.account,
        submission: row.submission,
        message: row.envelope.delivery_id.clone(),
        sender: row.envelope.mail_from.clone(),
        outcome: Outcome { claim: row.claim, body_hash: row.body_hash, recipients, next },
        said,
        incoming,
    }))
}

/// Something behind is down: put back when it may be up again, else set aside.
fn trouble(shared: &Shared, row: &OutgoingRow, error: BlobError) -> Done {
    tracing::warn!(row = %row.claim.id, %error, "outgoing mail cannot be worked on");
    if error.is_temporary() {
        return Done::PutBack { due: shared.store.clock().now_ms() + OUTAGE_WAIT_MS };
    }
    set_aside(row, &error.to_string())
}

fn set_aside(row: &OutgoingRow, reason: &str) -> Done {
    tracing::error!(row = %row.claim.id, reason, "outgoing mail is set aside");
    let next = Next::Hold { reason: reason.to_owned() };
    write(row, Vec::new(), row.recipients.clone(), next, Vec::new())
}
