//! Filing: one message into one account, in one transaction, at most once.

use std::sync::Arc;

use crate::blob::prepared::PreparedBlob;
use crate::ingest::report::{self, Returned};
use crate::ingest::vacation::{self, Reply};
use crate::store::Store;
use crate::store::blob::BlobSource;
use crate::store::email::insert::{NewEmail, NewPlace, insert};
use crate::store::error::StoreError;
use crate::store::mailbox;
use crate::store::queue::delivered;
use crate::store::tx::Tx;
use crate::types::event::{EventData, EventKind};
use crate::types::id::{AccountId, Id};

/// A message ready to be filed, the same for every recipient.
#[derive(Clone)]
pub struct Ready {
    /// Its blob.
    pub blob: PreparedBlob,
    /// Its row.
    pub email: Arc<NewEmail>,
    /// Names the delivery for ever.
    pub delivery_id: Arc<str>,
    /// The report that it is, if it is one.
    pub report: Option<Arc<Returned>>,
    /// Whether it belongs into Junk.
    pub is_suspicious: bool,
    /// What the log of events is told of it, whoever gets it.
    pub told: Arc<EventData>,
}

/// What filing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filed {
    /// It is there now.
    New(Id),
    /// It had been filed before.
    Before,
    /// The account is gone.
    NoAccount,
}

/// Files a message into an account.
pub async fn file(
    store: &Store,
    account: AccountId,
    ready: &Ready,
    reply: Option<Reply>,
) -> Result<Filed, StoreError> {
    let ready = ready.clone();
    let outcome = store
        .write_in_background(account, async move |tx: &mut Tx| {
            if !delivered::is_first(tx, &ready.delivery_id).await? {
                return Ok(Filed::Before);
            }
            let mailbox_id = target(tx, ready.is_suspicious).await?;
            let keywords = if ready.is_suspicious { vec!["$junk".to_owned()] } else { Vec::new() };
            let place = NewPlace { mailboxes: vec![mailbox_id], keywords, is_delivery: true };
            let inserted = insert(tx, &ready.email, &place).await?;
            ready.blob.reference(tx, BlobSource::Email, inserted.email_id, 0).await?;
            // What is taken for junk is believed nothing.
            if let Some(returned) = ready.report.as_deref().filter(|_| !ready.is_suspicious) {
                report::enter(tx, returned, ready.blob.hash(), ready.email.size).await?;
            }
            if let Some(reply) = reply.filter(|_| !ready.is_suspicious) {
                vacation::queue(tx, &reply).await?;
            }
            let told = EventData {
                message_id: Some(inserted.email_id),
                thread_id: Some(inserted.thread_id),
                is_junk: ready.is_suspicious,
                ..EventData::clone(&ready.told)
            };
            tx.note_event(EventKind::Received, Id(0), told);
            Ok(Filed::New(inserted.email_id))
        })
        .await;
    match outcome {
        Err(StoreError::NoSuchAccount) => Ok(Filed::NoAccount),
        outcome => outcome,
    }
}

/// The mailbox for a message: Junk for what is suspicious, where there is one, else the inbox.
async fn target(tx: &mut Tx, is_suspicious: bool) -> Result<Id, StoreError> {
    let account = tx.account();
    if is_suspicious && let Some(junk) = mailbox::id_by_role(tx, account, "junk").await? {
        return Ok(junk);
    }
    mailbox::id_by_role(tx, account, "inbox")
        .await?
        .ok_or_else(|| StoreError::corrupt_value("mailboxes", &format!("account {account} has no inbox")))
}
