//! The mail that says that a webhook was disabled: to its account, or to the postmaster of its domain.

use bytes::Bytes;

use crate::mail::compose::Defaults;
use crate::mail::notice::{Notice, compose_notice};
use crate::store::Store;
use crate::store::directory::{account, domain};
use crate::store::error::StoreError;
use crate::store::event::webhook::{self, Webhook};
use crate::store::queue::incoming::{self, NewIncoming};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::date::utc_date;
use crate::types::envelope::{IncomingEnvelope, IncomingRecipient};
use crate::types::id::{AccountId, Id};

/// Queues the mail, like any mail that comes in.
pub async fn send(store: &Store, hostname: &str, domain: &str, id: Id) -> Result<(), StoreError> {
    let mut snapshot = store.read().await?;
    let Some(hook) = webhook::get(&mut snapshot, domain, id).await? else { return Ok(()) };
    let owner = match hook.view.account {
        Some(account) => Some(account),
        None => domain::get(&mut snapshot, domain).await?.and_then(|domain| domain.postmaster),
    };
    let Some(owner) = owner else { return Ok(()) };
    let Some(to) = account::names(&mut snapshot, &[owner]).await?.remove(&owner) else { return Ok(()) };
    drop(snapshot);
    let new = message(store.clock().now_ms(), hostname, &hook, owner, &to);
    let lane = store.lanes().random();
    let unit = async move |tx: &mut Tx| incoming::insert(tx, lane, &new).await.map(drop);
    store.write_lane(lane, Urgency::Background, unit).await
}

fn message(now_ms: i64, hostname: &str, hook: &Webhook, owner: AccountId, to: &str) -> NewIncoming {
    let domain = &hook.view.domain;
    let text = format!(
        "Events are no longer posted to\r\n\r\n    {}\r\n\r\n(webhook {}). What went wrong last: {}.\r\n\r\n\
         No event is lost: the log keeps them for its time. When the receiver is mended, enable the webhook \
         again, and it goes on where it stopped:\r\n\r\n    \
         PATCH /api/v1/webhooks/{} with {{ \"enabled\": true }}\r\n",
        hook.url, hook.id, hook.last_error, hook.id
    );
    let from = format!("postmaster@{domain}");
    let notice = Notice { from: &from, to, subject: "A webhook was disabled", text: &text };
    let defaults = Defaults { now_ms, message_id_domain: domain.clone(), random: rand::random() };
    let content = Bytes::from(compose_notice(&notice, &defaults));
    let envelope = IncomingEnvelope {
        mail_from: String::new(),
        recipients: vec![IncomingRecipient {
            address: to.to_owned(),
            accounts: vec![owner],
            notify: None,
            orcpt: None,
        }],
        received_at_ms: now_ms,
        remote_ip: None,
        helo: hostname.to_owned(),
        is_tls: false,
        login: None,
        env_id: None,
        ret: None,
        smtputf8: false,
        // Once for each time that it is disabled.
        delivery_id: format!("webhook-{}-{}", hook.id, utc_date(hook.disabled_at)),
    };
    let size = i64::try_from(content.len()).unwrap_or(i64::MAX);
    NewIncoming { envelope, body_hash: BlobHash::of(&content), size, inline: Some(content) }
}
