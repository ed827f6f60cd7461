//! A new Email: its thread, its rows, its place.

use crate::mail::headers::addresses::EmailAddress;
use crate::mail::list_properties::ListProperties;
use crate::mail::parse::Parsed;
use crate::mail::sort_key::{address_key, subject_key};
use crate::store::db::sql;
use crate::store::directory::account::use_more;
use crate::store::email::place::{Placed, Placement, place};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::blob_id::BlobHash;
use crate::types::id::Id;
use crate::types::keyword::Flags;
use crate::types::object_type::ObjectType;

/// The immutable part of a new Email, as parsing gave it.
#[derive(Clone, Debug)]
pub struct NewEmail {
    /// The message's blob, which the caller references for this Email in the same unit.
    pub blob_hash: BlobHash,
    /// Octets of the message.
    pub size: i64,
    /// Milliseconds since 1970.
    pub received_at: i64,
    /// The Date header in milliseconds since 1970, `received_at` where it has none.
    pub sent_at: i64,
    /// RFC 8621, 4.1.4.
    pub has_attachment: bool,
    /// Sort keys, i;unicode-casemap applied.
    pub from_key: String,
    /// Of the first To address.
    pub to_key: String,
    /// Of the base subject.
    pub subject_key: String,
    /// JSON values ready to be copied into answers.
    pub list_properties: String,
    /// The parsed structure.
    pub structure: String,
    /// Hashes of Message-ID, In-Reply-To and References, in the order in which they are tried.
    pub message_id_hashes: Vec<i64>,
    /// Hash of the base subject.
    pub subject_hash: i64,
}

impl NewEmail {
    /// Of a parsed message.
    pub fn of(parsed: &Parsed, blob_hash: BlobHash, received_at: i64) -> NewEmail {
        let headers = &parsed.headers;
        let first_key = |list: &Option<Vec<EmailAddress>>| address_key(list.as_deref().unwrap_or_default());
        NewEmail {
            blob_hash,
            size: parsed.size as i64,
            received_at,
            sent_at: headers.sent_at.as_ref().map_or(received_at, |date| date.ms),
            has_attachment: parsed.has_attachment,
            from_key: first_key(&headers.from),
            to_key: first_key(&headers.to),
            subject_key: subject_key(headers.subject.as_deref().unwrap_or_default()),
            list_properties: ListProperties::of(parsed).to_lines(),
            structure: parsed.structure.to_json(),
            message_id_hashes: parsed.thread_keys.message_id_hashes.clone(),
            subject_hash: parsed.thread_keys.subject_hash,
        }
    }
}

/// Where a new Email goes.
#[derive(Clone, Debug)]
pub struct NewPlace {
    /// At least one.
    pub mailboxes: Vec<Id>,
    /// Normalised keywords.
    pub keywords: Vec<String>,
    /// Whether it is mail newly delivered, for the EmailDelivery push type (RFC 8621, 1.5).
    pub is_delivery: bool,
}

/// What a new Email is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Its id.
    pub email_id: Id,
    /// Its thread's.
    pub thread_id: Id,
}

/// Stores a new Email and everything that follows from it, the index queue row included. The
/// caller adds the blob's reference.
pub async fn insert(tx: &mut Tx, new: &NewEmail, place_at: &NewPlace) -> Result<Inserted, StoreError> {
    let account = tx.account();
    let email_id = tx.new_id();
    let thread_id = find_thread(tx, new).await?;
    sql("insert into email (account_id, id, thread_id, blob_hash, size, received_at, sent_at, \
         has_attachment, from_key, to_key, subject_key, list_properties) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
    .bind(account)
    .bind(email_id)
    .bind(thread_id)
    .bind(new.blob_hash)
    .bind(new.size)
    .bind(new.received_at)
    .bind(new.sent_at)
    .bind(new.has_attachment)
    .bind(&new.from_key)
    .bind(&new.to_key)
    .bind(&new.subject_key)
    .bind(&new.list_properties)
    .run(tx)
    .await?;
    sql("insert into email_structure (account_id, email_id, structure) values ($1, $2, $3)")
        .bind(account)
        .bind(email_id)
        .bind(&new.structure)
        .run(tx)
        .await?;
    use_more(tx, new.size, 1).await?;
    let mut placed = Placed {
        email_id,
        thread_id,
        received_at: new.received_at,
        mailboxes: Vec::new(),
        flags: Flags::default(),
        keywords: Vec::new(),
    };
    for mailbox_id in &place_at.mailboxes {
        placed.set_mailbox(*mailbox_id, true);
    }
    for keyword in &place_at.keywords {
        placed.set_keyword(keyword, true);
    }
    place(tx, &[Placement { before: None, after: Some(placed) }]).await?;
    if place_at.is_delivery {
        tx.touched(ObjectType::EmailDelivery);
    }
    crate::store::queue::index::enqueue(tx, &[email_id], false).await?;
    Ok(Inserted { email_id, thread_id })
}

/// The thread of a new Email (RFC 8621, 3): the first that one of its message ids is known to
/// belong to under the same base subject, else a new one. Threads never merge.
async fn find_thread(tx: &mut Tx, new: &NewEmail) -> Result<Id, StoreError> {
    let account = tx.account();
    let known = sql("select message_id_hash, thread_id from thread_key \
                     where account_id = $1 and message_id_hash = any($2) and subject_hash = $3")
    .bind(account)
    .bind(new.message_id_hashes.clone())
    .bind(new.subject_hash)
    .all(tx, |row| Ok((row.get::<i64>(0)?, row.get::<Id>(1)?)))
    .await?;
    let first_known = new
        .message_id_hashes
        .iter()
        .find_map(|hash| known.iter().find(|(known_hash, _)| known_hash == hash))
        .map(|(_, thread_id)| *thread_id);
    let thread_id = first_known.unwrap_or_else(|| tx.new_id());
    let unknown = new
        .message_id_hashes
        .iter()
        .filter(|hash| !known.iter().any(|(known_hash, _)| known_hash == *hash))
        .map(|hash| vec![account.into(), (*hash).into(), new.subject_hash.into(), thread_id.into()])
        .collect();
    sql("insert into thread_key (account_id, message_id_hash, subject_hash, thread_id) \
         values ($1, $2, $3, $4) on conflict do nothing")
    .run_each(tx, unknown)
    .await?;
    Ok(thread_id)
}
