//! New submissions, made ready outside the transaction: all that can be refused is refused here, and
//! the message that leaves is in the blob store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::blob::prepared::PreparedBlob;
use crate::cache::allowance::Allowance;
use crate::jmap::call::{AccountAccess, Call};
use crate::jmap::email::create::run_parsing;
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::identity::OwnAddresses;
use crate::jmap::submission::envelope::{Envelope, Mailbox, forbidden_mail_from};
use crate::jmap::submission::message::{Header, Missing, outgoing};
use crate::jmap::submission::to_json;
use crate::store::blob::BlobSource;
use crate::store::db::Conn;
use crate::store::email::read::{self, EmailRow};
use crate::store::error::StoreError;
use crate::store::identity::{self, Identity};
use crate::store::queue::outgoing::{self as queue, NewOutgoing};
use crate::store::submission::note::{self, Note};
use crate::store::submission::{self, Delivered, NewSubmission};
use crate::store::suppression;
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::date::utc_date;
use crate::types::envelope::{OutgoingEnvelope, OutgoingRecipient};
use crate::types::event::{EventData, EventKind, MAX_RECIPIENTS_TOLD};
use crate::types::id::Id;

/// A submission that can be stored in a unit of work.
#[derive(Clone, Debug)]
pub struct PreparedSubmission {
    identity_id: Id,
    /// The Email that is sent.
    pub email_id: Id,
    thread_id: Id,
    message: Arc<PreparedMessage>,
    envelope: Envelope,
    is_envelope_given: bool,
    /// When it leaves, in milliseconds since 1970.
    pub(super) send_at: i64,
    /// How many recipients count as written to.
    pub(super) counted: u64,
}

impl PreparedSubmission {
    /// Of an Email that is known now.
    pub(super) fn of(self, email_id: Id, thread_id: Id) -> PreparedSubmission {
        PreparedSubmission { email_id, thread_id, ..self }
    }
}

/// A message that is ready to leave.
#[derive(Debug)]
pub(super) struct PreparedMessage {
    blob: PreparedBlob,
    header: Header,
    is_8bit: bool,
}

/// What a client gave.
struct Given<'a> {
    identity_id: Id,
    email_id: Id,
    envelope: Option<&'a Value>,
}

impl Given<'_> {
    fn read<'a>(call: &Call<'_>, object: &'a Map<String, Value>) -> Result<Given<'a>, SetError> {
        let id = |name: &str| match object.get(name) {
            Some(Value::String(given)) => call.resolve_id(given).ok_or_else(|| not_there(name)),
            _ => Err(SetError::invalid(name, "an Id is wanted")),
        };
        for (name, value) in object {
            let may_be_given = match name.as_str() {
                "identityId" | "emailId" | "envelope" => true,
                // What it is set to in any case may be said.
                "undoStatus" => value.is_null() || value == "pending",
                _ => false,
            };
            if !may_be_given {
                return Err(SetError::invalid(name.clone(), "a client cannot set this property"));
            }
        }
        let envelope = object.get("envelope").filter(|value| !value.is_null());
        Ok(Given { identity_id: id("identityId")?, email_id: id("emailId")?, envelope })
    }
}

fn not_there(name: &str) -> SetError {
    SetError::invalid(name, "there is no such object in the account")
}

/// The submissions of a /set, by creation id, ready or refused; and what they take of the allowance.
pub type Prepared = (Vec<(String, Result<PreparedSubmission, SetError>)>, Option<Allowance>);

/// Makes the submissions of a /set ready.
pub async fn prepare(
    call: &Call<'_>,
    account: &AccountAccess,
    create: &[(String, Map<String, Value>)],
) -> Result<Prepared, MethodError> {
    if create.is_empty() {
        return Ok((Vec::new(), None));
    }
    let given: Vec<(&String, Result<Given<'_>, SetError>)> =
        create.iter().map(|(key, object)| (key, Given::read(call, object))).collect();
    let mut preparing = Preparing::start(call, account, &given).await?;
    let mut out = Vec::with_capacity(given.len());
    for (key, given) in given {
        let prepared = match given {
            Ok(given) => preparing.prepare(&given).await?,
            Err(error) => Err(error),
        };
        out.push((key.clone(), prepared));
    }
    Ok((out, Some(preparing.allowance)))
}

/// What the submissions of one /set have in common.
pub(super) struct Preparing<'a, 'b> {
    pub(super) call: &'a Call<'b>,
    pub(super) account: &'a AccountAccess,
    identities: HashMap<Id, Identity>,
    emails: HashMap<Id, EmailRow>,
    own: OwnAddresses,
    /// An Email that is sent several times is made ready once.
    messages: HashMap<Id, Arc<PreparedMessage>>,
    pub(super) allowance: Allowance,
    now_ms: i64,
}

impl<'a, 'b> Preparing<'a, 'b> {
    /// For messages that are no Emails yet.
    pub(super) async fn new(
        call: &'a Call<'b>,
        account: &'a AccountAccess,
        conn: &mut Conn,
    ) -> Result<Preparing<'a, 'b>, StoreError> {
        Ok(Preparing {
            call,
            account,
            identities: HashMap::new(),
            emails: HashMap::new(),
            own: OwnAddresses::of(call, conn).await?,
            messages: HashMap::new(),
            allowance: Allowance::new(&call.jmap.cache, account.id, call.jmap.recipients_per_hour),
            now_ms: call.jmap.store.clock().now_ms(),
        })
    }

    async fn start(
        call: &'a Call<'b>,
        account: &'a AccountAccess,
        given: &[(&String, Result<Given<'_>, SetError>)],
    ) -> Result<Preparing<'a, 'b>, MethodError> {
        let legal = || given.iter().filter_map(|(_, given)| given.as_ref().ok());
        let identity_ids: Vec<Id> = legal().map(|given| given.identity_id).collect();
        let email_ids: Vec<Id> = legal().map(|given| given.email_id).collect();
        let mut snapshot = call.jmap.store.read().await?;
        let identities = identity::by_ids(&mut snapshot, account.id, &identity_ids).await?;
        let emails = read::rows(&mut snapshot, account.id, &email_ids).await?;
        Ok(Preparing {
            identities: identities.into_iter().map(|identity| (identity.id, identity)).collect(),
            emails: emails.into_iter().map(|email| (email.id, email)).collect(),
            ..Preparing::new(call, account, &mut snapshot).await?
        })
    }

    async fn prepare(
        &mut self,
        given: &Given<'_>,
    ) -> Result<Result<PreparedSubmission, SetError>, MethodError> {
        let Some(identity) = self.identities.get(&given.identity_id) else {
            return Ok(Err(not_there("identityId")));
        };
        let identity = identity.clone();
        let message = match self.message(given.email_id).await? {
            Ok(message) => message,
            Err(error) => return Ok(Err(error)),
        };
        let thread_id = self.emails.get(&given.email_id).map_or(Id(0), |email| email.thread_id);
        let prepared = self.submission(&identity, message, given.envelope, true).await;
        Ok(prepared.map(|prepared| prepared.of(given.email_id, thread_id)))
    }

    /// A submission of a message whose Email is not known yet; whether its recipients count as written to.
    pub(super) async fn submission(
        &mut self,
        identity: &Identity,
        message: Arc<PreparedMessage>,
        envelope: Option<&Value>,
        is_counted: bool,
    ) -> Result<PreparedSubmission, SetError> {
        // Its address may have gone since the identity was made.
        if !Address::parse(&identity.email).is_ok_and(|address| self.own.has(&address)) {
            let text = "the address of this identity is not yours any more";
            return Err(SetError::new("forbiddenFrom").because(text));
        }
        let is_envelope_given = envelope.is_some();
        let (envelope, send_at) = self.check(&message.header, envelope, &identity.email)?;
        let counted = if is_counted { envelope.recipients.len() as u64 } else { 0 };
        if is_counted && !self.allowance.take(counted).await {
            let text = "You have written to too many recipients within the hour. Try again later.";
            return Err(SetError::new("forbiddenToSend").because(text));
        }
        Ok(PreparedSubmission {
            identity_id: identity.id,
            email_id: Id(0),
            thread_id: Id(0),
            message,
            envelope,
            is_envelope_given,
            send_at,
            counted,
        })
    }

    /// Whether the user may send this message in this envelope, and when it leaves.
    fn check(
        &self,
        header: &Header,
        given: Option<&Value>,
        identity_email: &str,
    ) -> Result<(Envelope, i64), SetError> {
        let authors = header.authors(given.is_none())?;
        if !authors.iter().all(|author| self.own.has(author)) {
            return Err(SetError::new("forbiddenFrom").because("From is not an address of yours"));
        }
        let envelope = match given {
            Some(given) => Envelope::read(given)?,
            None => Envelope::of_header(header, identity_email)?,
        };
        // The null path is nobody's: notifications go out with it, and their author was checked.
        if envelope.mail_from.as_ref().is_some_and(|mail_from| !self.own.has(&mail_from.address)) {
            return Err(forbidden_mail_from());
        }
        let send_at = envelope.send_at(self.now_ms)?;
        Ok((envelope, send_at))
    }

    async fn message(&mut self, id: Id) -> Result<Result<Arc<PreparedMessage>, SetError>, MethodError> {
        if let Some(message) = self.messages.get(&id) {
            return Ok(Ok(message.clone()));
        }
        let Some(email) = self.emails.get(&id) else { return Ok(Err(not_there("emailId"))) };
        let max_size = self.call.jmap.max_upload;
        if email.size > max_size as i64 {
            let text = format!("a message that is sent has at most {max_size} octets");
            return Ok(Err(SetError::new("tooLarge").because(text).with("maxSize", json!(max_size))));
        }
        let Some(raw) = self.call.jmap.blobs.read(self.account.id, &email.blob_hash).await? else {
            return Ok(Err(not_there("emailId")));
        };
        let message = self.message_of(raw).await?;
        self.messages.insert(id, message.clone());
        Ok(Ok(message))
    }

    /// A message as it leaves.
    pub(super) async fn message_of(&self, raw: Bytes) -> Result<Arc<PreparedMessage>, MethodError> {
        let jmap = self.call.jmap;
        let missing = Missing {
            now_ms: self.now_ms,
            message_id: format!("{}@{}", jmap.store.ids().make(), jmap.hostname),
        };
        let (octets, header) = run_parsing(raw.len(), move || {
            let (octets, header) = outgoing(&raw, &missing);
            let changed = match octets {
                std::borrow::Cow::Borrowed(_) => None,
                std::borrow::Cow::Owned(octets) => Some(Bytes::from(octets)),
            };
            (changed.unwrap_or_else(|| raw.clone()), header)
        })
        .await?;
        let is_8bit = !octets.is_ascii();
        let blob = jmap.blobs.prepare(octets).await?;
        Ok(Arc::new(PreparedMessage { blob, header, is_8bit }))
    }
}

/// Stores a prepared submission and queues its deliveries, one row for each destination domain; its
/// id, and the properties that the server set (without `id`).
pub async fn insert(
    tx: &mut Tx,
    prepared: &PreparedSubmission,
    sending: &Sending,
) -> Result<(Id, Map<String, Value>), StoreError> {
    let PreparedSubmission { message, envelope, .. } = prepared;
    let note = &sending.note;
    let kept_back = sending.kept_back(tx, envelope).await?;
    let recipients: Vec<String> =
        envelope.recipients.iter().map(|recipient| recipient.mailbox.text.clone()).collect();
    let new = NewSubmission {
        identity_id: prepared.identity_id,
        email_id: prepared.email_id,
        thread_id: prepared.thread_id,
        envelope: &envelope.json,
        recipients: &recipients,
        settled: &kept_back,
        send_at: prepared.send_at,
        message_id: &message.header.message_id,
    };
    let stored = submission::insert(tx, &new).await?;
    note::insert(tx, stored.id, note).await?;
    let told = EventData {
        send_id: Some(stored.id),
        message_id: Some(prepared.email_id),
        thread_id: Some(prepared.thread_id),
        from: envelope.mail_from.as_ref().map(|mailbox| mailbox.on_the_wire()),
        subject: message.header.subject.clone(),
        recipients: recipients.iter().take(MAX_RECIPIENTS_TOLD).cloned().collect(),
        send_at: (prepared.send_at > tx.now_ms()).then(|| utc_date(prepared.send_at)),
        tags: note.tags.clone(),
        metadata: note.metadata.clone(),
        is_test: sending.is_test,
        ..EventData::default()
    };
    tx.note_event(EventKind::Sent, stored.id, told.clone());
    for (address, reply, delivered) in &kept_back {
        let kind = if *delivered == Delivered::Yes { EventKind::Delivered } else { EventKind::Suppressed };
        let (recipient, reply) = (Some(address.clone()), Some((*reply).to_owned()));
        let told = EventData { recipient, reply, recipients: Vec::new(), send_at: None, ..told.clone() };
        tx.note_event(kind, stored.id, told);
    }
    let rows = queue::insert(tx, &outgoing_rows(prepared, stored.id, &kept_back)).await?;
    if let Some(first) = rows.first() {
        // The rows refer to the message; its octets come with the reference of the first.
        message.blob.reference(tx, BlobSource::Submission, *first, 0).await?;
    }
    let mut properties = to_json(&stored);
    properties.retain(|name, _| match name.as_str() {
        "identityId" | "emailId" => false,
        "envelope" => !prepared.is_envelope_given,
        _ => true,
    });
    Ok((stored.id, properties))
}

/// What a program says beside the message.
#[derive(Clone, Debug, Default)]
pub struct Sending {
    /// It is told back.
    pub note: Note,
    /// Whether recipients are left out to whom programs do not send.
    pub heeds_suppressions: bool,
    /// Whether nothing leaves, and everybody counts as having got it.
    pub is_test: bool,
}

/// A recipient for whom nothing is queued, with what is said of it.
type KeptBack = (String, &'static str, Delivered);

impl Sending {
    async fn kept_back(&self, tx: &mut Tx, envelope: &Envelope) -> Result<Vec<KeptBack>, StoreError> {
        let all = || envelope.recipients.iter().map(|recipient| &recipient.mailbox);
        if self.is_test {
            let reply = "250 2.0.0 Captured: it was a test";
            return Ok(all().map(|mailbox| (mailbox.text.clone(), reply, Delivered::Yes)).collect());
        }
        if !self.heeds_suppressions {
            return Ok(Vec::new());
        }
        let (account, addresses) = (tx.account(), all().map(|mailbox| mailbox.address.to_string()).collect());
        let suppressed = suppression::among(tx, account, addresses).await?;
        let is_suppressed = |mailbox: &&Mailbox| suppressed.contains(&mailbox.address.to_string());
        let reply = "550 5.1.0 Not tried: the address is on the list of suppressions";
        Ok(all().filter(is_suppressed).map(|mailbox| (mailbox.text.clone(), reply, Delivered::No)).collect())
    }
}

fn outgoing_rows(prepared: &PreparedSubmission, submission: Id, kept_back: &[KeptBack]) -> Vec<NewOutgoing> {
    let PreparedSubmission { message, envelope, .. } = prepared;
    let mail_from = envelope.mail_from.as_ref().map_or_else(String::new, |mailbox| mailbox.on_the_wire());
    let mut domains: BTreeMap<&str, Vec<OutgoingRecipient>> = BTreeMap::new();
    let kept_back: HashSet<&str> = kept_back.iter().map(|(address, ..)| address.as_str()).collect();
    for recipient in envelope.recipients.iter().filter(|of| !kept_back.contains(of.mailbox.text.as_str())) {
        let mut outgoing = OutgoingRecipient::new(recipient.mailbox.on_the_wire());
        outgoing.notify = recipient.notify.clone();
        outgoing.orcpt = recipient.orcpt.clone();
        domains.entry(recipient.mailbox.address.domain()).or_default().push(outgoing);
    }
    let row = |(domain, recipients): (&str, Vec<OutgoingRecipient>)| NewOutgoing {
        submission,
        domain: domain.to_owned(),
        envelope: OutgoingEnvelope {
            mail_from: mail_from.clone(),
            // RFC 8621, 7: reports that come back are known by it.
            env_id: Some(envelope.env_id.clone().unwrap_or_else(|| submission.to_string())),
            ret: envelope.ret,
            // RFC 6531, 3.4: asked for only where it is needed.
            smtputf8: !message.header.is_ascii
                || !mail_from.is_ascii()
                || recipients.iter().any(|recipient| !recipient.address.is_ascii()),
            body_8bit: message.is_8bit,
            delivery_id: submission.to_string(),
        },
        recipients,
        body_hash: message.blob.hash(),
        size: i64::try_from(message.blob.size()).unwrap_or(i64::MAX),
        due: prepared.send_at,
    };
    domains.into_iter().map(row).collect()
}
