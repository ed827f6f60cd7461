//! Vacation replies (RFC 8621, 8; RFC 3834): made ready before the message is filed, queued in the
//! transaction that files it, so that a message tried twice is answered once.

use bytes::Bytes;

use crate::blob::Blobs;
use crate::blob::prepared::PreparedBlob;
use crate::mail::auto_reply::{AutoReply, compose_reply, should_reply};
use crate::mail::compose::Defaults;
use crate::mail::header_text::Mailbox;
use crate::store::Store;
use crate::store::blob::BlobSource;
use crate::store::directory::address::addresses_of;
use crate::store::error::StoreError;
use crate::store::queue::outgoing::{self, NewOutgoing};
use crate::store::tx::Tx;
use crate::store::vacation::{claim_reply, due_reply};
use crate::types::address::Address;
use crate::types::envelope::{OutgoingEnvelope, OutgoingRecipient};
use crate::types::id::{AccountId, Id};

/// A reply ready to be queued.
#[derive(Clone)]
pub struct Reply {
    to: Address,
    blob: PreparedBlob,
    size: i64,
    is_8bit: bool,
}

/// The reply of an account to a message, when one is due. A reply that cannot be made is no reason
/// not to file the message.
pub async fn prepare(
    store: &Store,
    blobs: &Blobs,
    account: AccountId,
    mail_from: &str,
    message: &Bytes,
) -> Result<Option<Reply>, StoreError> {
    let Ok(to) = Address::parse(mail_from) else { return Ok(None) };
    let now_ms = store.clock().now_ms();
    let mut snapshot = store.read().await?;
    let Some(vacation) = due_reply(&mut snapshot, account, &to, now_ms).await? else { return Ok(None) };
    let own = addresses_of(&mut snapshot, account).await?;
    drop(snapshot);
    let addresses: Vec<Address> = own.iter().filter_map(|address| Address::parse(address).ok()).collect();
    let Some(from) = own.first() else { return Ok(None) };
    if !should_reply(mail_from, message, &addresses) {
        return Ok(None);
    }
    let reply = AutoReply {
        from: Mailbox { name: None, email: from.clone() },
        to: mail_from,
        original: message,
        subject: vacation.subject.as_deref(),
        text: vacation.text_body.as_deref(),
        html: vacation.html_body.as_deref(),
    };
    let message_id_domain = addresses.first().map_or_else(String::new, |address| address.domain().to_owned());
    let composed = compose_reply(&reply, &Defaults { now_ms, message_id_domain, random: rand::random() });
    let raw = match composed {
        Ok(raw) => Bytes::from(raw),
        Err(error) => {
            tracing::warn!(%account, %error, "a vacation reply could not be composed");
            return Ok(None);
        }
    };
    let (size, is_8bit) = (raw.len() as i64, !raw.is_ascii());
    match blobs.prepare(raw).await {
        Ok(blob) => Ok(Some(Reply { to, blob, size, is_8bit })),
        Err(error) => {
            tracing::warn!(%account, %error, "a vacation reply could not be stored");
            Ok(None)
        }
    }
}

/// Queues a reply, unless another has come first.
pub async fn queue(tx: &mut Tx, reply: &Reply) -> Result<(), StoreError> {
    let now_ms = tx.now_ms();
    if !claim_reply(tx, &reply.to, now_ms).await? {
        return Ok(());
    }
    let row = NewOutgoing {
        submission: Id(0),
        domain: reply.to.domain().to_owned(),
        envelope: OutgoingEnvelope {
            // RFC 3834, 3.3: so that no reply is ever answered.
            mail_from: String::new(),
            env_id: None,
            ret: None,
            smtputf8: !reply.to.local().is_ascii(),
            body_8bit: reply.is_8bit,
            delivery_id: tx.new_id().to_string(),
        },
        recipients: vec![OutgoingRecipient::new(reply.to.to_string())],
        body_hash: reply.blob.hash(),
        size: reply.size,
        due: now_ms,
    };
    for id in outgoing::insert(tx, &[row]).await? {
        reply.blob.reference(tx, BlobSource::Submission, id, 0).await?;
    }
    Ok(())
}
