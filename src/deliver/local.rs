//! Recipients of this server: handed to the incoming queue, so that their mail is filed like any
//! other, without leaving the machine.
//!
//! The delivery id is the one that the message got when it was submitted: an account files it once,
//! by however many of its addresses, and however often this is tried.

use bytes::Bytes;

use crate::blob::{BlobError, Blobs};
use crate::deliver::message::with_return_path;
use crate::deliver::report::Report;
use crate::smtp::reply::EnhancedCode;
use crate::store::Store;
use crate::store::blob::INLINE_MAX;
use crate::store::directory::address::{self, Resolved};
use crate::store::queue::incoming::NewIncoming;
use crate::store::queue::outgoing::OutgoingRow;
use crate::types::address::Address;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{
    IncomingEnvelope, IncomingRecipient, MAX_INCOMING_RECIPIENTS, OutgoingRecipient,
};

/// What became of the recipients, by their places, and the rows that are to be written with it.
pub struct HandedOver {
    /// One for each recipient that was pending.
    pub reports: Vec<(usize, Report)>,
    /// For the incoming queue.
    pub rows: Vec<NewIncoming>,
}

/// Finds the accounts of the pending recipients of a row, and makes the rows for them.
pub async fn hand_over(
    store: &Store,
    blobs: &Blobs,
    host_name: &str,
    row: &OutgoingRow,
    pending: &[(usize, OutgoingRecipient)],
    message: &Bytes,
) -> Result<HandedOver, BlobError> {
    let mut reports = Vec::with_capacity(pending.len());
    let mut asked = Vec::new();
    for (place, recipient) in pending {
        match Address::parse(&recipient.address) {
            Ok(address) => asked.push((*place, recipient, address)),
            Err(_) => reports.push((*place, Report::failed(EnhancedCode(5, 1, 3), "This is no address"))),
        }
    }
    let addresses: Vec<Address> = asked.iter().map(|(_, _, address)| address.clone()).collect();
    let resolved = {
        let mut snapshot = store.read().await.map_err(BlobError::Store)?;
        address::resolve_many(&mut snapshot, &addresses).await.map_err(BlobError::Store)?
    };
    let mut recipients = Vec::new();
    for ((place, recipient, _), resolved) in asked.into_iter().zip(resolved) {
        let Resolved::Accounts(accounts) = resolved else {
            let text = format!("There is no {} here", recipient.address);
            reports.push((place, Report::failed(EnhancedCode(5, 1, 1), &text)));
            continue;
        };
        let has_room = accounts.iter().any(|account| {
            account.quota_bytes == 0 || account.used_bytes.saturating_add(row.size) <= account.quota_bytes
        });
        if !has_room {
            reports.push((place, Report::later(EnhancedCode(4, 2, 2), "The mailbox is full")));
            continue;
        }
        recipients.push(IncomingRecipient {
            address: recipient.address.clone(),
            accounts: accounts.iter().map(|account| account.account).collect(),
            notify: recipient.notify.clone(),
            orcpt: recipient.orcpt.clone(),
        });
        reports.push((place, Report::delivered_here()));
    }
    if recipients.is_empty() {
        return Ok(HandedOver { reports, rows: Vec::new() });
    }
    let content = with_return_path(message, &row.envelope.mail_from);
    let envelope = IncomingEnvelope {
        mail_from: row.envelope.mail_from.clone(),
        recipients: Vec::new(),
        received_at_ms: store.clock().now_ms(),
        remote_ip: None,
        helo: host_name.to_owned(),
        is_tls: false,
        login: None,
        env_id: row.envelope.env_id.clone(),
        ret: row.envelope.ret,
        smtputf8: row.envelope.smtputf8,
        delivery_id: row.envelope.delivery_id.clone(),
    };
    let row = waiting_row(blobs, envelope, content).await?;
    let rows = recipients.chunks(MAX_INCOMING_RECIPIENTS).map(|some| {
        let mut row = row.clone();
        row.envelope.recipients = some.to_vec();
        row
    });
    Ok(HandedOver { reports, rows: rows.collect() })
}

/// A row for the incoming queue; a large content is in the blob store when this returns.
pub async fn waiting_row(
    blobs: &Blobs,
    envelope: IncomingEnvelope,
    content: Bytes,
) -> Result<NewIncoming, BlobError> {
    let size = i64::try_from(content.len()).unwrap_or(i64::MAX);
    let (body_hash, inline) = if content.len() <= INLINE_MAX {
        (BlobHash::of(&content), Some(content))
    } else {
        (blobs.stage(content).await?.0, None)
    };
    Ok(NewIncoming { envelope, body_hash, size, inline })
}
