//! The outgoing queue: one row for each message and destination domain, with its recipients.
//!
//! Rows are in the lane of the account that sends, and keep the message by a blob reference of their
//! own, whose object is the row. What a delivery came to is written for a batch of rows in one transaction of that account,
//! so that a bulk sender does not queue on its own account row.

use std::collections::HashSet;

use crate::bus::Queue;
use crate::store::Store;
use crate::store::blob::{self, BlobSource, Reference};
use crate::store::db::sql;
use crate::store::error::StoreError;
use crate::store::queue::NEVER;
use crate::store::queue::claim::{self, Claim};
use crate::store::submission::{self, result::Delivered};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::Value;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{OutgoingEnvelope, OutgoingRecipient, RecipientStatus};
use crate::types::event::{EventData, EventKind};
use crate::types::id::{AccountId, Id};

/// A message to be sent to the recipients of one domain.
#[derive(Clone, Debug)]
pub struct NewOutgoing {
    /// The submission that it belongs to; 0 for none.
    pub submission: Id,
    /// The domain of all recipients, in lower-case A-labels.
    pub domain: String,
    /// Its envelope.
    pub envelope: OutgoingEnvelope,
    /// Who is to get it.
    pub recipients: Vec<OutgoingRecipient>,
    /// Of the content.
    pub body_hash: BlobHash,
    /// Of the content, in bytes.
    pub size: i64,
    /// When to send it, in milliseconds since 1970.
    pub due: i64,
}

/// A claimed row.
#[derive(Clone, Debug)]
pub struct OutgoingRow {
    /// The claim.
    pub claim: Claim,
    /// How often the row was taken since it came or was last released.
    pub tries: i64,
    /// When the row was made, in milliseconds since 1970: its age is counted from here.
    pub created_at: i64,
    /// Who sends it.
    pub account: AccountId,
    /// The submission that it belongs to; 0 for none.
    pub submission: Id,
    /// The domain of all recipients.
    pub domain: String,
    /// Its envelope.
    pub envelope: OutgoingEnvelope,
    /// Who is to get it or has got it.
    pub recipients: Vec<OutgoingRecipient>,
    /// Of the content.
    pub body_hash: BlobHash,
    /// Of the content, in bytes.
    pub size: i64,
}

/// What a try came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The claim under which it was made.
    pub claim: Claim,
    /// Of the row.
    pub body_hash: BlobHash,
    /// All recipients as they are now.
    pub recipients: Vec<OutgoingRecipient>,
    /// What is left to do.
    pub next: Next,
}

/// What is left to do for a row.
#[derive(Clone, Debug)]
pub enum Next {
    /// Nothing: no recipient is pending.
    Done,
    /// Another try.
    Retry { due: i64, error: String },
    /// Somebody must look at it.
    Hold { reason: String },
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    let text = serde_json::to_string(value);
    text.map_err(|error| StoreError::Engine(format!("a queue row cannot be written: {error}").into()))
}

/// Queues messages of the transaction's account; the ids of the rows.
pub async fn insert(tx: &mut Tx, new: &[NewOutgoing]) -> Result<Vec<Id>, StoreError> {
    let (lane, account, now_ms) = (tx.lane(), tx.account(), tx.now_ms());
    let mut ids = Vec::with_capacity(new.len());
    let mut rows = Vec::with_capacity(new.len());
    let mut references = Vec::with_capacity(new.len());
    for row in new {
        let id = tx.new_id();
        ids.push(id);
        rows.push(vec![
            lane.into(),
            id.into(),
            row.due.into(),
            now_ms.into(),
            account.into(),
            row.submission.into(),
            Value::from(&row.domain),
            json(&row.envelope)?.into(),
            json(&row.recipients)?.into(),
            row.body_hash.into(),
            row.size.into(),
        ]);
        references.push(Reference {
            hash: row.body_hash,
            source: BlobSource::Submission,
            object_id: id,
            size: row.size,
            expires_at: 0,
        });
    }
    sql("insert into outgoing (lane, id, due, created_at, account_id, submission_id, domain, envelope, \
         recipients, body_hash, size) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
    .run_each(tx, rows)
    .await?;
    blob::reference_add(tx, &references).await?;
    if new.iter().any(|row| row.due <= now_ms) {
        tx.wake(Queue::Outgoing, lane);
    }
    Ok(ids)
}

/// Claims due rows of a lane, the oldest first. A row that cannot be read is set aside.
pub async fn claim(
    store: &Store,
    lane: i64,
    limit: usize,
    lease_ms: i64,
) -> Result<Vec<OutgoingRow>, StoreError> {
    if !claim::has_work(store, Queue::Outgoing, lane).await? {
        return Ok(Vec::new());
    }
    store
        .write_lane(lane, Urgency::Background, async move |tx: &mut Tx| {
            let mut unreadable = Vec::new();
            let rows = sql("select id, attempts, tries, created_at, account_id, submission_id, domain, \
                            envelope, recipients, body_hash, size from outgoing \
                            where lane = $1 and due <= $2 order by due, id limit $3 \
                            for update skip locked")
            .bind(lane)
            .bind(tx.now_ms())
            .bind(limit as i64)
            .all(tx, |row| {
                let claim = Claim { lane, id: row.get(0)?, attempts: row.get::<i64>(1)? + 1 };
                let envelope = serde_json::from_str(row.text(7)?);
                let recipients = serde_json::from_str(row.text(8)?);
                let (envelope, recipients) = match (envelope, recipients) {
                    (Ok(envelope), Ok(recipients)) => (envelope, recipients),
                    (Err(error), _) | (_, Err(error)) => {
                        unreadable.push((claim, format!("the envelope cannot be read: {error}")));
                        return Ok(None);
                    }
                };
                Ok(Some(OutgoingRow {
                    claim,
                    tries: row.get::<i64>(2)? + 1,
                    created_at: row.get(3)?,
                    account: row.get(4)?,
                    submission: row.get(5)?,
                    domain: row.get(6)?,
                    envelope,
                    recipients,
                    body_hash: row.get(9)?,
                    size: row.get(10)?,
                }))
            })
            .await?;
            let rows: Vec<OutgoingRow> = rows.into_iter().flatten().collect();
            let ids: Vec<Id> = rows
                .iter()
                .map(|row| row.claim.id)
                .chain(unreadable.iter().map(|(claim, _)| claim.id))
                .collect();
            claim::take(tx, Queue::Outgoing, lane, &ids, lease_ms).await?;
            for (claim, reason) in &unreadable {
                claim::hold(tx, Queue::Outgoing, *claim, reason).await?;
            }
            Ok(rows)
        })
        .await
}

/// Writes what the tries of rows of one claim, all of the transaction's account, came to; the claims
/// that still held. The outcomes of the others count for nothing: another worker has those rows.
pub async fn settle(tx: &mut Tx, outcomes: &[Outcome]) -> Result<Vec<Claim>, StoreError> {
    let claims: Vec<Claim> = outcomes.iter().map(|outcome| outcome.claim).collect();
    let held = claim::held(tx, Queue::Outgoing, &claims).await?;
    let holds: HashSet<Claim> = held.iter().copied().collect();
    let (mut done, mut references, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for outcome in outcomes.iter().filter(|outcome| holds.contains(&outcome.claim)) {
        let claim = outcome.claim;
        let (due, error, is_held) = match &outcome.next {
            Next::Done => {
                done.push(claim);
                references.push((outcome.body_hash, claim.id));
                continue;
            }
            Next::Retry { due, error } => (*due, error, false),
            Next::Hold { reason } => (NEVER, reason, true),
        };
        kept.push(vec![
            claim.lane.into(),
            claim.id.into(),
            claim.attempts.into(),
            due.into(),
            json(&outcome.recipients)?.into(),
            claim::error_text(error).into(),
            is_held.into(),
        ]);
    }
    claim::done(tx, Queue::Outgoing, &done).await?;
    blob::reference_remove(tx, BlobSource::Submission, &references).await?;
    sql("update outgoing set due = $4, recipients = $5, last_error = $6, is_held = $7, is_leased = 0 \
         where lane = $1 and id = $2 and attempts = $3 and is_leased = 1")
    .run_each(tx, kept)
    .await?;
    Ok(held)
}

/// Takes a submission of the transaction's account back, if no worker has had any part of it in hand
/// yet; whether it did.
pub async fn cancel(tx: &mut Tx, submission: Id) -> Result<bool, StoreError> {
    let (lane, account) = (tx.lane(), tx.account());
    let taken = sql("select id from outgoing where lane = $1 and account_id = $2 and submission_id = $3 \
                     and attempts > 0 limit 1")
    .bind(lane)
    .bind(account)
    .bind(submission)
    .value::<Id>(tx)
    .await?;
    if taken.is_some() {
        return Ok(false);
    }
    let references: Vec<(BlobHash, Id)> =
        sql("delete from outgoing where lane = $1 and account_id = $2 and submission_id = $3 \
                    and attempts = 0 returning body_hash, id")
        .bind(lane)
        .bind(account)
        .bind(submission)
        .all(tx, |row| Ok((row.get(0)?, row.get(1)?)))
        .await?;
    // A worker may have claimed one between the two statements: then nothing is taken back.
    let left =
        sql("select id from outgoing where lane = $1 and account_id = $2 and submission_id = $3 limit 1")
            .bind(lane)
            .bind(account)
            .bind(submission)
            .value::<Id>(tx)
            .await?;
    if left.is_some() {
        return Err(StoreError::Busy);
    }
    blob::reference_remove(tx, BlobSource::Submission, &references).await?;
    Ok(!references.is_empty())
}

/// Drops a row as an operator asks: its pending recipients do not get the message, and its submission
/// says so. False when there is no such row.
pub async fn discard(store: &Store, lane: i64, id: Id) -> Result<bool, StoreError> {
    discard_if(store, lane, id, None).await
}

/// The same of one that no worker has in hand, and of which nothing else was said last.
pub async fn discard_waiting(store: &Store, lane: i64, id: Id, last_error: &str) -> Result<bool, StoreError> {
    discard_if(store, lane, id, Some(last_error.to_owned())).await
}

async fn discard_if(store: &Store, lane: i64, id: Id, only: Option<String>) -> Result<bool, StoreError> {
    let mut snapshot = store.read().await?;
    let account = sql("select account_id from outgoing where lane = $1 and id = $2")
        .bind(lane)
        .bind(id)
        .value::<AccountId>(&mut snapshot)
        .await?;
    drop(snapshot);
    let Some(account) = account else { return Ok(false) };
    store
        .write(account, async move |tx: &mut Tx| {
            let query = match &only {
                None => sql("delete from outgoing where lane = $1 and id = $2 \
                             returning body_hash, submission_id, recipients, is_leased, due"),
                Some(_) => sql("delete from outgoing where lane = $1 and id = $2 and last_error = $3 \
                                and (is_leased = 0 or due <= $4) \
                                returning body_hash, submission_id, recipients, is_leased, due"),
            };
            let query = query.bind(lane).bind(id);
            let query = match &only {
                None => query,
                Some(last_error) => query.bind(last_error).bind(tx.now_ms()),
            };
            let gone = query
                .first(tx, |row| {
                    // A row that cannot be read is dropped all the same: nobody is told of anybody.
                    let recipients: Vec<OutgoingRecipient> =
                        serde_json::from_str(row.text(2)?).unwrap_or_default();
                    let lease: (bool, i64) = (row.get(3)?, row.get(4)?);
                    Ok((row.get::<BlobHash>(0)?, row.get::<Id>(1)?, recipients, lease))
                })
                .await?;
            let Some((hash, submission, recipients, (is_leased, due))) = gone else { return Ok(false) };
            blob::reference_remove(tx, BlobSource::Submission, &[(hash, id)]).await?;
            // Whoever has it in hand may be past the point of no return.
            let (reply, delivered) = if is_leased && due > tx.now_ms() {
                ("554 5.0.0 Dropped by an operator while it was being sent", Delivered::Unknown)
            } else {
                ("554 5.0.0 Dropped by an operator", Delivered::No)
            };
            let pending = recipients.iter().filter(|each| each.status == RecipientStatus::Pending);
            let results: Vec<_> = pending.map(|each| (each.address.as_str(), reply, delivered)).collect();
            if let Some(noted) = submission::record_results(tx, submission, &results).await? {
                for (address, reply, _) in results {
                    let (recipient, reply) = (Some(address.to_owned()), Some(reply.to_owned()));
                    let told = EventData { recipient, reply, ..noted.told() };
                    tx.note_event(EventKind::Bounced, submission, told);
                }
            }
            Ok(true)
        })
        .await
}
