//! New Emails, made ready outside the transaction: composed or loaded, parsed, their blobs put.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::blob::prepared::PreparedBlob;
use crate::jmap::blob::BlobReader;
use crate::jmap::call::{AccountAccess, Call};
use crate::jmap::email::draft::read_draft;
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits;
use crate::jmap::standard::set::Creations;
use crate::mail::compose::{Defaults, compose};
use crate::mail::parse::parse;
use crate::store::blob::BlobSource;
use crate::store::directory::account;
use crate::store::email::insert::{Inserted, NewEmail, NewPlace, insert};
use crate::store::error::StoreError;
use crate::store::mailbox;
use crate::store::tx::Tx;
use crate::types::blob_id::BlobId;
use crate::types::date::parse_date;
use crate::types::id::Id;
use crate::types::keyword::normalize_keyword;

/// Parsing more than this at once is not done on an async thread.
const PARSE_IN_PLACE: usize = 64 * 1024;

/// A message that can become an Email in a unit of work. Cheap enough to clone.
#[derive(Clone, Debug)]
pub struct PreparedEmail {
    /// Its blob.
    pub blob: PreparedBlob,
    /// Its row.
    pub email: NewEmail,
    /// Where it shall be; the mailboxes are looked up in the transaction.
    pub place: GivenPlace,
}

/// Where a client wants an Email to be.
#[derive(Clone, Debug)]
pub struct GivenPlace {
    /// Ids as given, creation ids included.
    pub mailbox_ids: Vec<String>,
    /// Normalised.
    pub keywords: Vec<String>,
    /// Milliseconds since 1970.
    pub received_at: Option<i64>,
}

impl GivenPlace {
    /// Reads `mailboxIds`, `keywords` and `receivedAt` of an object.
    pub fn read(object: &Map<String, Value>) -> Result<GivenPlace, SetError> {
        let mailbox_ids = read_mailbox_ids(object.get("mailboxIds"))?;
        if mailbox_ids.is_empty() {
            return Err(SetError::invalid("mailboxIds", "an Email is in at least one mailbox"));
        }
        let keywords = read_keywords(object.get("keywords"))?;
        let received_at = match object.get("receivedAt") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let date = value.as_str().and_then(parse_date);
                Some(date.ok_or_else(|| SetError::invalid("receivedAt", "a UTCDate is wanted"))?)
            }
        };
        Ok(GivenPlace { mailbox_ids, keywords, received_at })
    }
}

/// Reads a set of mailbox ids: `Id[Boolean]`, every value true.
pub fn read_mailbox_ids(value: Option<&Value>) -> Result<Vec<String>, SetError> {
    let wrong = || SetError::invalid("mailboxIds", "a map of mailbox ids to true is wanted");
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(ids)) if ids.values().all(|value| *value == Value::Bool(true)) => {
            if ids.len() > limits::MAX_MAILBOXES_PER_EMAIL {
                let text = format!("an Email is in at most {} mailboxes", limits::MAX_MAILBOXES_PER_EMAIL);
                return Err(SetError::new("tooManyMailboxes").because(text));
            }
            Ok(ids.keys().cloned().collect())
        }
        Some(_) => Err(wrong()),
    }
}

/// Reads a set of keywords: `String[Boolean]`, every value true.
pub fn read_keywords(value: Option<&Value>) -> Result<Vec<String>, SetError> {
    let wrong = || SetError::invalid("keywords", "a map of legal keywords to true is wanted");
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(keywords)) if keywords.values().all(|value| *value == Value::Bool(true)) => {
            if keywords.len() > limits::MAX_KEYWORDS_PER_EMAIL {
                return Err(too_many_keywords());
            }
            keywords.keys().map(|keyword| normalize_keyword(keyword).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// An Email would have more keywords than it can.
pub fn too_many_keywords() -> SetError {
    let text = format!("an Email has at most {} keywords", limits::MAX_KEYWORDS_PER_EMAIL);
    SetError::new("tooManyKeywords").because(text)
}

/// Composes an Email from the object of an Email/set create, and makes it ready.
pub async fn prepare_draft(
    call: &Call<'_>,
    account: &AccountAccess,
    reader: &mut BlobReader,
    object: &Map<String, Value>,
) -> Result<Result<PreparedEmail, SetError>, MethodError> {
    match compose_draft(call, account, reader, object).await? {
        Ok((raw, place)) => Ok(Ok(prepare_raw(call, raw, place).await?)),
        Err(error) => Ok(Err(error)),
    }
}

/// Composes a message from the object of an Email/set create; it, and where it shall be.
pub async fn compose_draft(
    call: &Call<'_>,
    account: &AccountAccess,
    reader: &mut BlobReader,
    object: &Map<String, Value>,
) -> Result<Result<(Bytes, GivenPlace), SetError>, MethodError> {
    let place = match GivenPlace::read(object) {
        Ok(place) => place,
        Err(error) => return Ok(Err(error)),
    };
    let draft = match read_draft(object) {
        Ok(draft) => draft,
        Err(error) => {
            let mut refused = SetError::new(error.kind.name()).because(error.description);
            refused.properties = error.properties;
            return Ok(Err(refused));
        }
    };
    let ids: Vec<String> = draft.blob_uses().into_iter().map(str::to_owned).collect();
    let Some(blobs) = load_blobs(call, reader, &ids).await? else {
        let text = format!("attachments have at most {} octets", limits::MAX_SIZE_ATTACHMENTS_PER_EMAIL);
        return Ok(Err(SetError::new("tooLarge").because(text)));
    };
    let missing: BTreeSet<&String> = ids.iter().filter(|id| !blobs.contains_key(*id)).collect();
    if !missing.is_empty() {
        return Ok(Err(SetError::new("blobNotFound").with("notFound", json!(missing))));
    }
    let total: usize = ids.iter().filter_map(|id| blobs.get(id)).map(Bytes::len).sum();
    let now_ms = call.jmap.store.clock().now_ms();
    let defaults = Defaults {
        now_ms,
        message_id_domain: account.name.rsplit('@').next().unwrap_or(&call.jmap.hostname).to_owned(),
        random: rand::random(),
    };
    let composed = run_parsing(total, move || compose(&draft, &blobs, &defaults)).await?;
    let raw = match composed {
        Ok(raw) => Bytes::from(raw),
        Err(error) => return Ok(Err(SetError::new("invalidProperties").because(error.to_string()))),
    };
    Ok(Ok((raw, place)))
}

/// Makes a whole message ready.
pub async fn prepare_raw(
    call: &Call<'_>,
    raw: Bytes,
    place: GivenPlace,
) -> Result<PreparedEmail, MethodError> {
    let received_at = place.received_at.unwrap_or_else(|| call.jmap.store.clock().now_ms());
    let blob = call.jmap.blobs.prepare(raw.clone()).await?;
    let hash = blob.hash();
    let email = run_parsing(raw.len(), move || NewEmail::of(&parse(&raw), hash, received_at)).await?;
    Ok(PreparedEmail { blob, email, place })
}

/// Runs work on a message in place when it is small, else on a thread of its own.
pub async fn run_parsing<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MethodError> {
    if size <= PARSE_IN_PLACE {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "work on a message failed");
        MethodError::ServerFail
    })
}

/// The octets of blobs that the caller may read, parts of messages included, by their ids as given.
/// `None` when they are more than the attachments of one Email may have.
async fn load_blobs(
    call: &Call<'_>,
    reader: &mut BlobReader,
    ids: &[String],
) -> Result<Option<HashMap<String, Bytes>>, MethodError> {
    let mut out = HashMap::with_capacity(ids.len());
    let mut total = 0;
    for given in ids {
        let known = out.get(given).cloned();
        let octets: Option<Bytes> = match (known, call.resolve_blob_id(given)) {
            (Some(octets), _) => Some(octets),
            (None, Some(id)) => reader.read(&id).await?,
            (None, None) => None,
        };
        let Some(octets) = octets else { continue };
        // A blob that several parts are made of counts for each of them.
        total += octets.len();
        if total > limits::MAX_SIZE_ATTACHMENTS_PER_EMAIL {
            return Ok(None);
        }
        out.insert(given.clone(), octets);
    }
    Ok(Some(out))
}

/// Stores a prepared Email inside a unit of work.
pub async fn insert_prepared(
    tx: &mut Tx,
    prepared: &PreparedEmail,
    creations: &Creations,
) -> Result<Result<Inserted, SetError>, StoreError> {
    let mut mailboxes = Vec::with_capacity(prepared.place.mailbox_ids.len());
    for given in &prepared.place.mailbox_ids {
        match creations.resolve(given) {
            Some(id) => mailboxes.push(id),
            None => return Ok(Err(no_such_mailbox())),
        }
    }
    let account_id = tx.account();
    if mailbox::existing(tx, account_id, &mailboxes).await?.len() < distinct(&mailboxes) {
        return Ok(Err(no_such_mailbox()));
    }
    if !account::has_room(tx, prepared.email.size).await? {
        return Ok(Err(SetError::new("overQuota").because("the account has no room for this Email")));
    }
    // RFC 8621, 1.5: the state of EmailDelivery changes with every new Email, however it came.
    let place = NewPlace { mailboxes, keywords: prepared.place.keywords.clone(), is_delivery: true };
    let inserted = insert(tx, &prepared.email, &place).await?;
    prepared.blob.reference(tx, BlobSource::Email, inserted.email_id, 0).await?;
    Ok(Ok(inserted))
}

fn distinct(ids: &[Id]) -> usize {
    ids.iter().collect::<std::collections::HashSet<_>>().len()
}

/// The error of a mailbox that does not exist.
pub fn no_such_mailbox() -> SetError {
    SetError::invalid("mailboxIds", "there is no such mailbox")
}

/// What the server tells of an Email that it has made (RFC 8621, 4.6).
pub fn created_properties(prepared: &PreparedEmail, inserted: Inserted) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(inserted.email_id));
    object.insert("blobId".to_owned(), json!(BlobId::whole(prepared.blob.hash())));
    object.insert("threadId".to_owned(), json!(inserted.thread_id));
    object.insert("size".to_owned(), json!(prepared.email.size));
    object
}
