//! What became of a submission (RFC 8621, 7: deliveryStatus), and the reports that came back.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::store::blob::{self, BlobSource, Reference};
use crate::store::error::StoreError;
use crate::store::submission::{Noted, Submission, by_id, update};
use crate::store::suppression::{self, Reason};
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::blob_id::{BlobHash, BlobId};
use crate::types::event::{EventData, EventKind};
use crate::types::id::Id;

/// Longest reply that is kept, in characters.
const MAX_REPLY_CHARS: usize = 1_000;
/// Reports of one kind that are kept with a submission: anyone can send one.
const MAX_REPORTS: usize = 100;

/// How far a message has come on its way to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivered {
    /// It is in a queue of this server.
    Queued,
    /// It is in the recipient's mail store.
    Yes,
    /// It will not arrive.
    No,
    /// Another server has taken it.
    Unknown,
}

impl Delivered {
    /// Whether nothing can change it any more.
    fn is_final(self) -> bool {
        matches!(self, Delivered::Yes | Delivered::No)
    }
}

/// Whether a message has been shown to its recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Displayed {
    /// Nobody has said.
    Unknown,
    /// The recipient's program says so.
    Yes,
}

/// A DeliveryStatus object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// The last reply about the recipient.
    pub smtp_reply: String,
    /// How far the message has come.
    pub delivered: Delivered,
    /// Whether it has been shown.
    pub displayed: Displayed,
}

/// The status of each recipient, by the address of the envelope.
pub type DeliveryStatuses = BTreeMap<String, DeliveryStatus>;

/// The status of recipients for whom nothing has been tried yet.
pub(super) fn queued(recipients: &[String]) -> DeliveryStatuses {
    let status = |address: &String| {
        let status = DeliveryStatus {
            smtp_reply: "250 2.0.0 Queued".to_owned(),
            delivered: Delivered::Queued,
            displayed: Displayed::Unknown,
        };
        (address.clone(), status)
    };
    recipients.iter().map(status).collect()
}

/// What a submission that was taken back has come to.
pub(super) fn canceled(statuses: &mut DeliveryStatuses) {
    for status in statuses.values_mut() {
        status.smtp_reply = "554 5.0.0 Canceled by the sender".to_owned();
        status.delivered = Delivered::No;
    }
}

/// Statuses under change, found by any spelling of their address.
pub(super) struct Merging<'a> {
    statuses: &'a mut DeliveryStatuses,
    /// The keys by what they mean, made when one is first asked for by another spelling.
    spellings: Option<HashMap<Address, String>>,
}

impl<'a> Merging<'a> {
    /// Of a submission.
    pub(super) fn of(statuses: &'a mut DeliveryStatuses) -> Merging<'a> {
        Merging { statuses, spellings: None }
    }

    /// Enters a result. An address that the envelope does not have is nobody's.
    /// Whether that is new.
    pub(super) fn enter(&mut self, address: &str, reply: &str, delivered: Delivered) -> bool {
        let Some(status) = self.status_of(address).filter(|status| !status.delivered.is_final()) else {
            return false;
        };
        status.smtp_reply = reply.chars().filter(|c| !c.is_control()).take(MAX_REPLY_CHARS).collect();
        status.delivered = delivered;
        true
    }

    fn status_of(&mut self, address: &str) -> Option<&mut DeliveryStatus> {
        if self.statuses.contains_key(address) {
            return self.statuses.get_mut(address);
        }
        let spellings = self.spellings.get_or_insert_with(|| {
            let keys = self.statuses.keys();
            keys.filter_map(|key| Some((Address::parse(key).ok()?, key.clone()))).collect()
        });
        self.statuses.get_mut(spellings.get(&Address::parse(address).ok()?)?)
    }
}

/// What a report says of a recipient: the address, a reply (RFC 8621, 7), how far the message has come.
pub type Told = (String, String, Delivered);

/// A report that came back about a submission.
#[derive(Clone, Debug)]
pub enum Report {
    /// A delivery status notification (RFC 3464), with what it says of recipients: the address, a
    /// reply (RFC 8621, 7), and how far the message has come. Actions other than `failed` and
    /// `delivered` do not belong here.
    Dsn(Vec<Told>),
    /// A message disposition notification (RFC 8098), with the recipients who have seen the message.
    Mdn(Vec<String>),
}

/// Enters a report, whole as it was received, into the submission that it is about; its blob must be
/// in the account of the transaction. False when there is no such submission, or it has too many.
pub async fn record_report(
    tx: &mut Tx,
    submission: Id,
    blob: BlobHash,
    size: i64,
    report: &Report,
) -> Result<bool, StoreError> {
    let account = tx.account();
    let Some(mut found) = by_id(tx, account, submission).await? else { return Ok(false) };
    let Some(news) = enter(&mut found, &BlobId::whole(blob), report) else { return Ok(false) };
    let reference =
        Reference { hash: blob, source: BlobSource::Submission, object_id: submission, size, expires_at: 0 };
    blob::reference_add(tx, &[reference]).await?;
    update(tx, &found).await?;
    if !news.is_empty() {
        let told = Noted::of(tx, account, found).await?.told();
        for (address, reply, delivered) in news {
            let kind = if *delivered == Delivered::Yes { EventKind::Delivered } else { EventKind::Bounced };
            let recipient = Some(address.clone());
            let code = reply.split(' ').nth(1).unwrap_or_default();
            if *delivered == Delivered::No && suppression::is_hard(code) {
                suppression::add(tx, vec![address.clone()], Reason::Bounce, reply).await?;
            }
            let told = EventData { recipient, reply: Some(reply.clone()), ..told.clone() };
            tx.note_event(kind, submission, told);
        }
    }
    Ok(true)
}

/// Enters a complaint about a submission by some of its recipients; it may not say by which.
pub async fn record_complaint(
    tx: &mut Tx,
    submission: Id,
    complainants: &[String],
    kind: &str,
) -> Result<(), StoreError> {
    let account = tx.account();
    let Some(found) = by_id(tx, account, submission).await? else { return Ok(()) };
    let sent_to: HashMap<String, &String> =
        found.delivery_status.keys().filter_map(|text| Some((suppression::key_of(text)?, text))).collect();
    // By the form in which they are on the list, each once, with the spelling that was given.
    let mut named: BTreeMap<String, String> = complainants
        .iter()
        .filter_map(|text| Some((suppression::key_of(text)?, text.clone())))
        .filter(|(key, _)| sent_to.contains_key(key))
        .collect();
    if complainants.is_empty() && sent_to.len() == 1 {
        named.extend(sent_to.into_iter().map(|(key, text)| (key, text.clone())));
    }
    // A complaint that comes again says nothing new.
    let known = suppression::among(tx, account, named.keys().cloned().collect()).await?;
    let is_anonymous = named.is_empty();
    named.retain(|key, _| !known.contains(key));
    suppression::add(tx, named.keys().cloned().collect(), Reason::Complaint, kind).await?;
    let told = Noted::of(tx, account, found).await?.told();
    let whose: Vec<Option<String>> =
        if is_anonymous { vec![None] } else { named.into_values().map(Some).collect() };
    for recipient in whose {
        let told = EventData { recipient, reply: Some(kind.to_owned()), ..told.clone() };
        tx.note_event(EventKind::Complained, submission, told);
    }
    Ok(())
}

/// What is new of recipients; `None` when the report is not kept.
fn enter<'r>(submission: &mut Submission, blob_id: &BlobId, report: &'r Report) -> Option<Vec<&'r Told>> {
    let reports = match report {
        Report::Dsn(_) => &mut submission.dsn_blob_ids,
        Report::Mdn(_) => &mut submission.mdn_blob_ids,
    };
    if reports.contains(blob_id) || reports.len() >= MAX_REPORTS {
        return None;
    }
    reports.push(blob_id.clone());
    let mut news = Vec::new();
    match report {
        Report::Dsn(results) => {
            let mut merging = Merging::of(&mut submission.delivery_status);
            for told in results {
                if merging.enter(&told.0, &told.1, told.2) {
                    news.push(told);
                }
            }
        }
        Report::Mdn(seen_by) => {
            let mut merging = Merging::of(&mut submission.delivery_status);
            for address in seen_by {
                if let Some(status) = merging.status_of(address) {
                    status.displayed = Displayed::Yes;
                }
            }
        }
    }
    Some(news)
}
