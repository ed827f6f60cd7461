//! Telling the sender: a notification as a row of the incoming queue, with a null sender, so that no
//! notification ever answers another (RFC 5321, 4.5.5).
//!
//! Who submits here sends as an address of this server, so a notification never leaves it. When
//! the address is gone meanwhile, the account that sent the message gets it.

use bytes::Bytes;

use crate::blob::{BlobError, Blobs};
use crate::deliver::local::waiting_row;
use crate::deliver::report::{Judgement, Told};
use crate::mail::compose::Defaults;
use crate::mail::dsn::{Notification, RecipientStatus, compose_dsn};
use crate::store::Store;
use crate::store::directory::address::{self, Resolved};
use crate::store::error::StoreError;
use crate::store::queue::incoming::NewIncoming;
use crate::store::queue::outgoing::OutgoingRow;
use crate::types::address::Address;
use crate::types::envelope::{IncomingEnvelope, IncomingRecipient};
use crate::types::id::AccountId;

/// The notification that a judgement calls for, if any.
pub async fn notify(
    store: &Store,
    blobs: &Blobs,
    host_name: &str,
    row: &OutgoingRow,
    judgement: &Judgement,
    message: &[u8],
) -> Result<Option<NewIncoming>, BlobError> {
    if judgement.told.is_empty() {
        return Ok(None);
    }
    let now_ms = store.clock().now_ms();
    let accounts = accounts_of_sender(store, row).await.map_err(BlobError::Store)?;
    let content: Bytes = compose(host_name, row, judgement, message, now_ms).into();
    let sender = row.envelope.mail_from.clone();
    let envelope = IncomingEnvelope {
        mail_from: String::new(),
        recipients: vec![IncomingRecipient { address: sender, accounts, notify: None, orcpt: None }],
        received_at_ms: now_ms,
        remote_ip: None,
        helo: host_name.to_owned(),
        is_tls: false,
        login: None,
        env_id: None,
        ret: None,
        smtputf8: false,
        // One for each try: whoever tries again after this was committed has another claim.
        delivery_id: format!("dsn-{}-{}", row.claim.id, row.claim.attempts),
    };
    waiting_row(blobs, envelope, content).await.map(Some)
}

async fn accounts_of_sender(store: &Store, row: &OutgoingRow) -> Result<Vec<AccountId>, StoreError> {
    let Ok(sender) = Address::parse(&row.envelope.mail_from) else { return Ok(vec![row.account]) };
    let mut snapshot = store.read().await?;
    Ok(match address::resolve(&mut snapshot, &sender).await? {
        Resolved::Accounts(accounts) => accounts.iter().map(|account| account.account).collect(),
        Resolved::UnknownUser | Resolved::NotLocal => vec![row.account],
    })
}

fn compose(
    host_name: &str,
    row: &OutgoingRow,
    judgement: &Judgement,
    message: &[u8],
    now_ms: i64,
) -> Vec<u8> {
    let status = |told: &'_ Told| {
        let recipient = judgement.recipients.get(told.place)?;
        Some((recipient, told.clone()))
    };
    let told: Vec<_> = judgement.told.iter().filter_map(status).collect();
    let recipients: Vec<RecipientStatus<'_>> = told
        .iter()
        .map(|(recipient, told)| RecipientStatus {
            address: &recipient.address,
            original_recipient: recipient.orcpt.as_deref(),
            outcome: told.outcome,
            status: &told.status,
            remote_mta: recipient.last_host.as_deref(),
            diagnostic: Some(told.diagnostic.as_str()),
            last_attempt_ms: Some(now_ms),
        })
        .collect();
    let sender = Address::parse(&row.envelope.mail_from).ok();
    let domain = sender.as_ref().map_or(host_name, |sender| sender.domain());
    let from = format!("postmaster@{domain}");
    let notification = Notification {
        reporting_mta: host_name,
        from: &from,
        to: &row.envelope.mail_from,
        envelope_id: row.envelope.env_id.as_deref(),
        arrival_ms: row.created_at,
        recipients: &recipients,
        ret: row.envelope.ret,
        original: message,
    };
    let defaults =
        Defaults { now_ms, message_id_domain: host_name.to_owned(), random: rand::random::<u128>() };
    let mut content = b"Return-Path: <>\r\n".to_vec();
    content.extend_from_slice(&compose_dsn(&notification, &defaults));
    content
}
