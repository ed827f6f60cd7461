//! What is behind a session: the directory that knows logins and addresses, and the queues.
//!
//! Each answer is final for the client: a message counts as taken only when its row is on disk, and
//! whatever fails here is told as a temporary failure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;

use crate::blob::{BlobError, Blobs};
use crate::cache::Cache;
use crate::cache::allowance::Allowance;
use crate::receive::session::Role;
use crate::receive::session::message::{AcceptedMessage, QueueAnswer};
use crate::receive::session::sign_in::{SignInAnswer, SignedIn};
use crate::receive::session::transaction::{Recipient, RecipientAnswer};
use crate::receive::submitted::owner;
use crate::smtp::parameters::{OriginalRecipient, Ret};
use crate::smtp::path::{ForwardPath, ReversePath};
use crate::smtp::sasl::Credentials;
use crate::store::Store;
use crate::store::blob::{BlobSource, INLINE_MAX};
use crate::store::directory::address::{Resolved, addresses_of_login, resolve, resolve_bare_postmaster};
use crate::store::directory::login;
use crate::store::directory::sign_in::{SignIn, SignInError};
use crate::store::error::StoreError;
use crate::store::queue::incoming::{self, NewIncoming};
use crate::store::queue::outgoing::{self, NewOutgoing};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::address::Address;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{
    DsnReturn, IncomingEnvelope, IncomingRecipient, OutgoingEnvelope, OutgoingRecipient,
};
use crate::types::event::{EventData, EventKind, MAX_RECIPIENTS_TOLD};
use crate::types::id::{AccountId, Id};
use crate::types::scope::{Reach, Scope};

/// The parts of the server that sessions ask. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    /// Addresses and queues.
    pub store: Store,
    /// Where large messages wait.
    pub blobs: Blobs,
    /// Checks passwords.
    pub sign_in: SignIn,
    /// Counts to how many an account sends.
    pub cache: Cache,
    /// Recipients of an account in an hour.
    pub recipients_per_hour: u64,
}

impl Intake {
    /// The same for users, who wait before their screens; another server has time.
    pub fn for_people(&self) -> Intake {
        let store = self.store.with_urgency(Urgency::Interactive);
        Intake { blobs: self.blobs.over_store(store.clone()), store, ..self.clone() }
    }
}

/// Lanes in which a message is tried to be queued.
const LANES_TRIED: u32 = 3;

impl Intake {
    /// Who a client is.
    pub async fn sign_in(&self, peer: IpAddr, credentials: &Credentials) -> SignInAnswer {
        let entered = match self.sign_in.with_password(&credentials.login, &credentials.password, peer).await
        {
            Ok(entered) => entered,
            Err(SignInError::Refused) => {
                tracing::info!(%peer, login = credentials.login, "sign-in refused");
                return SignInAnswer::Refused;
            }
            Err(SignInError::TooMany { .. }) => {
                tracing::warn!(%peer, login = credentials.login, "too many failed sign-ins");
                return SignInAnswer::TooMany;
            }
            Err(SignInError::Busy) => return SignInAnswer::Unavailable,
            Err(SignInError::Store(error)) => {
                tracing::error!(%error, "cannot check a password");
                return SignInAnswer::Unavailable;
            }
        };
        if !entered.rights.scopes.has(Scope::Send) {
            tracing::info!(%peer, login = credentials.login, "a key without the scope send was refused");
            return SignInAnswer::Refused;
        }
        let only = match entered.rights.reach {
            Reach::Account(account) => Some(account),
            _ => None,
        };
        let login = entered.login;
        match self.addresses_of(login.id, only).await {
            Ok(addresses) => SignInAnswer::SignedIn(SignedIn {
                login: login.id,
                version: login.version,
                expires_at: entered.expires_at,
                only,
                name: login.name,
                addresses,
            }),
            Err(error) => {
                tracing::error!(%error, "cannot read the addresses of a login");
                SignInAnswer::Unavailable
            }
        }
    }

    /// The addresses of a login, or of one of its accounts.
    async fn addresses_of(
        &self,
        login: Id,
        only: Option<AccountId>,
    ) -> Result<Vec<(Address, AccountId)>, StoreError> {
        let mut snapshot = self.store.read().await?;
        let found = addresses_of_login(&mut snapshot, login).await?;
        let parsed = found
            .into_iter()
            .filter(|(account, _)| only.is_none_or(|only| only == *account))
            .filter_map(|(account, address)| Some((Address::parse(&address).ok()?, account)));
        Ok(parsed.collect())
    }

    /// Where mail for a path goes.
    pub async fn recipient(&self, path: &ForwardPath) -> RecipientAnswer {
        let resolved = async {
            let mut snapshot = self.store.read().await?;
            match path {
                ForwardPath::Postmaster => resolve_bare_postmaster(&mut snapshot).await,
                ForwardPath::Mailbox(mailbox) => resolve(&mut snapshot, mailbox.address()).await,
            }
        };
        match resolved.await {
            Ok(Resolved::NotLocal) => RecipientAnswer::NotLocal,
            Ok(Resolved::UnknownUser) => RecipientAnswer::Unknown,
            Ok(Resolved::Accounts(accounts)) => {
                let is_full = |quota: i64, used: i64| quota > 0 && used >= quota;
                if accounts.iter().all(|found| is_full(found.quota_bytes, found.used_bytes)) {
                    RecipientAnswer::OverQuota
                } else {
                    RecipientAnswer::Local(accounts.iter().map(|found| found.account).collect())
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot resolve a recipient");
                RecipientAnswer::Unavailable
            }
        }
    }

    /// Puts a message into its queue, durably.
    pub async fn queue(&self, accepted: AcceptedMessage) -> QueueAnswer {
        let (id, size) = (accepted.id, accepted.message.len());
        let (from, recipients) = (accepted.from.as_str().to_owned(), accepted.recipients.len());
        let queued = match (accepted.role, accepted.signed_in.clone()) {
            (Role::Submission, Some(who)) => {
                let account = match self.sending_account(&accepted.from, &who).await {
                    Ok(Ok(account)) => account,
                    Ok(Err(refusal)) => {
                        tracing::info!(login = who.name, ?refusal, "a submission was refused");
                        return refusal;
                    }
                    Err(error) => {
                        tracing::error!(%error, "cannot check a login again");
                        return QueueAnswer::Unavailable;
                    }
                };
                let mut allowance = Allowance::new(&self.cache, account, self.recipients_per_hour);
                if !allowance.take(recipients as u64).await {
                    return QueueAnswer::RateExceeded;
                }
                let queued = self.queue_outgoing(accepted, &who, account).await;
                allowance.keep(if queued.is_ok() { recipients as u64 } else { 0 }).await;
                queued
            }
            _ => self.queue_incoming(accepted).await,
        };
        match queued {
            Ok(()) => {
                metrics::counter!("postrider_smtp_messages_total").increment(1);
                tracing::info!(message = %id, from, recipients, size, "queued");
                QueueAnswer::Queued(id)
            }
            Err(error) => {
                tracing::error!(message = %id, %error, "cannot queue");
                if matches!(error, BlobError::Full) { QueueAnswer::Full } else { QueueAnswer::Unavailable }
            }
        }
    }

    /// The account that sends as `from`, as things are now: a session may outlive a password, or the
    /// right to an account.
    async fn sending_account(
        &self,
        from: &ReversePath,
        who: &SignedIn,
    ) -> Result<Result<AccountId, QueueAnswer>, StoreError> {
        let login = login::by_id(&mut *self.store.read().await?, who.login).await?;
        let has_expired = who.expires_at > 0 && who.expires_at <= self.store.clock().now_ms();
        if has_expired || login.is_none_or(|login| login.version != who.version) {
            return Ok(Err(QueueAnswer::SignInAgain));
        }
        let addresses = self.addresses_of(who.login, who.only).await?;
        let is_theirs = match from {
            ReversePath::Mailbox(mailbox) => owner(mailbox.address(), &addresses).is_some(),
            ReversePath::Null => true,
        };
        let now = SignedIn { addresses, ..who.clone() };
        let account = is_theirs.then(|| sending_account(from, &now)).flatten();
        Ok(account.ok_or(QueueAnswer::NotTheirs))
    }

    async fn queue_incoming(&self, accepted: AcceptedMessage) -> Result<(), BlobError> {
        let (body_hash, inline) = self.wait_where(&accepted.message).await?;
        let new = NewIncoming {
            size: i64::try_from(accepted.message.len()).unwrap_or(i64::MAX),
            envelope: incoming_envelope(accepted),
            body_hash,
            inline,
        };
        let mut tries = 1;
        loop {
            let (lane, new) = (self.store.lanes().random(), new.clone());
            let unit = async move |tx: &mut Tx| incoming::insert(tx, lane, &new).await;
            match self.store.write_lane(lane, Urgency::Interactive, unit).await {
                // Its node may be lost; another lane is on another one. Nothing was written.
                Err(StoreError::Disconnected | StoreError::Busy)
                    if self.store.has_nodes() && tries < LANES_TRIED =>
                {
                    tries += 1;
                }
                outcome => return Ok(outcome.map(drop)?),
            }
        }
    }

    /// A small message waits inside the database, a large one as a synced object.
    async fn wait_where(&self, message: &Bytes) -> Result<(BlobHash, Option<Bytes>), BlobError> {
        if message.len() <= INLINE_MAX {
            return Ok((BlobHash::of(message), Some(message.clone())));
        }
        let (hash, _) = self.blobs.stage(message.clone()).await?;
        Ok((hash, None))
    }

    /// One row for each destination domain, all in the lane of the account that sends.
    async fn queue_outgoing(
        &self,
        accepted: AcceptedMessage,
        who: &SignedIn,
        account: AccountId,
    ) -> Result<(), BlobError> {
        let own_domain = who.addresses.first().map(|(address, _)| address.domain()).unwrap_or_default();
        let prepared = self.blobs.prepare(accepted.message.clone()).await?;
        let size = i64::try_from(accepted.message.len()).unwrap_or(i64::MAX);
        let envelope = outgoing_envelope(&accepted);
        let rows: Vec<NewOutgoing> = by_domain(&accepted.recipients, own_domain)
            .into_iter()
            .map(|(domain, recipients)| NewOutgoing {
                submission: Id(0),
                domain,
                envelope: envelope.clone(),
                recipients,
                body_hash: prepared.hash(),
                size,
                due: accepted.send_at_ms,
            })
            .collect();
        let told = EventData {
            queue_id: Some(accepted.id.to_string()),
            from: Some(accepted.from.as_str().to_owned()).filter(|from| !from.is_empty()),
            recipients: accepted
                .recipients
                .iter()
                .take(MAX_RECIPIENTS_TOLD)
                .map(|recipient| recipient.path.as_str().to_owned())
                .collect(),
            size: Some(size),
            ..EventData::default()
        };
        let unit = async move |tx: &mut Tx| {
            tx.note_event(EventKind::Sent, Id(0), told);
            let ids = outgoing::insert(tx, &rows).await?;
            // The rows refer to the message; its octets come with the reference of the first.
            if let Some(row) = ids.first() {
                prepared.reference(tx, BlobSource::Submission, *row, 0).await?;
            }
            Ok(())
        };
        self.store.write(account, unit).await?;
        Ok(())
    }
}

/// The account of the sender's address; for the null sender the login's own.
fn sending_account(from: &ReversePath, who: &SignedIn) -> Option<AccountId> {
    let of_address = match from {
        ReversePath::Mailbox(mailbox) => owner(mailbox.address(), &who.addresses),
        ReversePath::Null => None,
    };
    of_address.or_else(|| who.addresses.first().map(|(_, account)| *account))
}

fn incoming_envelope(accepted: AcceptedMessage) -> IncomingEnvelope {
    let recipients = accepted.recipients.into_iter().map(|recipient| IncomingRecipient {
        address: recipient.path.as_str().to_owned(),
        accounts: recipient.accounts,
        notify: recipient.parameters.notify.map(|notify| notify.to_string()),
        orcpt: recipient.parameters.orcpt.as_ref().map(OriginalRecipient::decoded),
    });
    IncomingEnvelope {
        mail_from: accepted.from.as_str().to_owned(),
        recipients: recipients.collect(),
        received_at_ms: accepted.received_at_ms,
        remote_ip: Some(accepted.peer),
        helo: accepted.helo,
        is_tls: accepted.tls.is_some(),
        login: None,
        env_id: accepted.parameters.envid,
        ret: accepted.parameters.ret.map(dsn_return),
        smtputf8: accepted.parameters.smtputf8,
        delivery_id: accepted.id.to_string(),
    }
}

fn outgoing_envelope(accepted: &AcceptedMessage) -> OutgoingEnvelope {
    OutgoingEnvelope {
        mail_from: accepted.from.as_str().to_owned(),
        env_id: accepted.parameters.envid.clone(),
        ret: accepted.parameters.ret.map(dsn_return),
        smtputf8: accepted.parameters.smtputf8 && needs_smtputf8(accepted),
        body_8bit: !accepted.message.is_ascii(),
        delivery_id: accepted.id.to_string(),
    }
}

fn dsn_return(ret: Ret) -> DsnReturn {
    match ret {
        Ret::Full => DsnReturn::Full,
        Ret::Headers => DsnReturn::Headers,
    }
}

/// Clients give the parameter with all they send. Only what has UTF-8 in an address or in the
/// header has to go to a server that offers it (RFC 6531, 3.4).
fn needs_smtputf8(accepted: &AcceptedMessage) -> bool {
    let header_end = accepted.message.windows(4).position(|end| end == b"\r\n\r\n");
    let header = accepted.message.get(..header_end.unwrap_or(accepted.message.len())).unwrap_or_default();
    let is_utf8 = |recipient: &Recipient| !recipient.path.as_str().is_ascii();
    !header.is_ascii() || !accepted.from.as_str().is_ascii() || accepted.recipients.iter().any(is_utf8)
}

fn by_domain(recipients: &[Recipient], own_domain: &str) -> BTreeMap<String, Vec<OutgoingRecipient>> {
    let mut domains: BTreeMap<String, Vec<OutgoingRecipient>> = BTreeMap::new();
    for recipient in recipients {
        let (domain, address) = match &recipient.path {
            ForwardPath::Mailbox(mailbox) => {
                (mailbox.address().domain().to_owned(), mailbox.as_str().to_owned())
            }
            ForwardPath::Postmaster => (own_domain.to_owned(), format!("postmaster@{own_domain}")),
        };
        let mut outgoing = OutgoingRecipient::new(address);
        outgoing.notify = recipient.parameters.notify.map(|notify| notify.to_string());
        outgoing.orcpt = recipient.parameters.orcpt.as_ref().map(OriginalRecipient::decoded);
        domains.entry(domain).or_default().push(outgoing);
    }
    domains
}
