//! A message that is made and sent at once: an Email and its submission in one transaction.

use serde_json::{Map, Value};

use crate::cache::allowance::Allowance;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{AccountAccess, Call};
use crate::jmap::email::create::{PreparedEmail, compose_draft, insert_prepared, prepare_raw};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::identity::is_same;
use crate::jmap::standard::set::Creations;
use crate::jmap::submission::create::{PreparedSubmission, Preparing, Sending, insert};
use crate::store::email::insert::Inserted;
use crate::store::error::StoreError;
use crate::store::identity::{self, Identity};
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::id::Id;

/// A message that is made and sent at once.
#[derive(Clone, Debug)]
pub struct PreparedSend {
    email: PreparedEmail,
    submission: PreparedSubmission,
}

impl PreparedSend {
    /// How many recipients count as written to.
    pub fn counted(&self) -> u64 {
        self.submission.counted
    }
}

/// A message to be made and sent.
#[derive(Clone, Debug)]
pub struct ToSend {
    /// As for the create of an Email/set.
    pub email: Map<String, Value>,
    /// As of an EmailSubmission; else the recipients of its header.
    pub envelope: Option<Value>,
    /// Whether nobody gets it: then its recipients do not count as written to.
    pub is_test: bool,
}

/// Makes messages ready that are made and sent at once, each from the identity of its author's address;
/// and what they take of the allowance.
pub async fn prepare_sends(
    call: &Call<'_>,
    account: &AccountAccess,
    messages: Vec<ToSend>,
) -> Result<(Vec<Result<PreparedSend, SetError>>, Allowance), MethodError> {
    let mut snapshot = call.jmap.store.read().await?;
    let identities = identity::all(&mut snapshot, account.id).await?;
    let mut preparing = Preparing::new(call, account, &mut snapshot).await?;
    drop(snapshot);
    let mut reader = BlobReader::keeping(call, account);
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        out.push(match preparing.send(&mut reader, &identities, &message).await {
            // Those before it go out, and smaller ones after it.
            Err(MethodError::RequestTooLarge(_)) => {
                let text = "the messages of this request are too large together; send it in another";
                Err(SetError::new("tooLarge").because(text))
            }
            done => done?,
        });
    }
    Ok((out, preparing.allowance))
}

impl Preparing<'_, '_> {
    async fn send(
        &mut self,
        reader: &mut BlobReader,
        identities: &[Identity],
        message: &ToSend,
    ) -> Result<Result<PreparedSend, SetError>, MethodError> {
        let author = message.email.get("from").and_then(|from| from.get(0)?.get("email")?.as_str());
        let author = author.and_then(|text| Address::parse(text).ok());
        let identity = author.and_then(|author| {
            let is_of = |identity: &&Identity| {
                Address::parse(&identity.email).is_ok_and(|address| is_same(&author, &address))
            };
            identities.iter().find(is_of)
        });
        let Some(identity) = identity else {
            let text = "from is not an address of this account";
            return Ok(Err(SetError::new("forbiddenFrom").because(text)));
        };
        let (raw, place) = match compose_draft(self.call, self.account, reader, &message.email).await? {
            Ok(composed) => composed,
            Err(error) => return Ok(Err(error)),
        };
        if raw.len() > self.call.jmap.max_upload {
            let text = format!("a message that is sent has at most {} octets", self.call.jmap.max_upload);
            return Ok(Err(SetError::new("tooLarge").because(text)));
        }
        reader.spend(raw.len() as u64)?;
        let leaving = self.message_of(raw.clone()).await?;
        let submission =
            match self.submission(identity, leaving, message.envelope.as_ref(), !message.is_test).await {
                Ok(submission) => submission,
                Err(error) => return Ok(Err(error)),
            };
        let email = prepare_raw(self.call, raw, place).await?;
        Ok(Ok(PreparedSend { email, submission }))
    }
}

/// What a message has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The EmailSubmission.
    pub submission: Id,
    /// The Email.
    pub email: Id,
    /// Its thread.
    pub thread: Id,
    /// When it leaves, in milliseconds since 1970.
    pub send_at: i64,
}

/// Stores a message and its submission, and queues its deliveries.
pub async fn insert_send(
    tx: &mut Tx,
    prepared: &PreparedSend,
    sending: &Sending,
) -> Result<Result<Sent, SetError>, StoreError> {
    let inserted = match insert_prepared(tx, &prepared.email, &Creations::default()).await? {
        Ok(inserted) => inserted,
        Err(error) => return Ok(Err(error)),
    };
    let Inserted { email_id, thread_id, .. } = inserted;
    let submission = prepared.submission.clone().of(email_id, thread_id);
    let (id, _) = insert(tx, &submission, sending).await?;
    Ok(Ok(Sent { submission: id, email: email_id, thread: thread_id, send_at: submission.send_at }))
}
