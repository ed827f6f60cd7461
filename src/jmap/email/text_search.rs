//! Text leaves of a filter, turned into sets of ids by the index. The index lags behind the store;
//! what it does not know yet is scanned, so that no client sees the lag.

use std::collections::{HashMap, HashSet};

use crate::index::document::matches;
use crate::index::query::TextQuery;
use crate::jmap::call::Jmap;
use crate::jmap::email::query::Condition;
use crate::jmap::error::MethodError;
use crate::jmap::standard::query::Filter;
use crate::mail::structure::Structure;
use crate::mail::text::{SearchText, search_text};
use crate::store::db::Conn;
use crate::store::directory;
use crate::store::email::{query as stored, read};
use crate::store::error::StoreError;
use crate::store::queue::{self, index::IndexTask};
use crate::types::id::{AccountId, Id};

/// Messages whose octets are in memory at a time.
const MESSAGES_AT_ONCE: usize = 16;

/// The filter with every text replaced by the ids that match it.
pub async fn resolve_texts(
    jmap: &Jmap,
    conn: &mut Conn,
    account: AccountId,
    filter: Filter<Vec<Condition>>,
) -> Result<stored::Filter, MethodError> {
    let mut texts = Vec::new();
    gather(&filter, &mut texts);
    if texts.is_empty() {
        return Ok(replace(filter, &mut Vec::new().into_iter()));
    }
    // First what is still queued, then the index: an Email leaves the queue only once every search
    // sees it, so none is missed between the two.
    let queued = queued_emails(conn, account).await?;
    let mut found: Vec<HashSet<Id>> = Vec::with_capacity(texts.len());
    for text in &texts {
        let ids = jmap.index.search(account, text).await.map_err(|error| {
            tracing::error!(%error, "a search failed");
            MethodError::ServerUnavailable
        })?;
        found.push(ids.into_iter().collect());
    }
    for ids in &mut found {
        ids.retain(|id| !queued.contains(id));
    }
    scan(jmap, conn, account, &queued.into_iter().collect::<Vec<_>>(), &texts, &mut found).await?;
    let mut sets = found.into_iter();
    Ok(replace(filter, &mut sets))
}

/// The Emails that the index queue still holds work for.
async fn queued_emails(conn: &mut Conn, account: AccountId) -> Result<HashSet<Id>, StoreError> {
    let lane = directory::account::lane(conn, account).await?.ok_or(StoreError::NoSuchAccount)?;
    let tasks = queue::index::pending(conn, lane, account).await?;
    Ok(tasks
        .into_iter()
        .filter_map(|task| match task {
            IndexTask::Add(id) | IndexTask::Delete(id) => Some(id),
            IndexTask::DeleteAccount => None,
        })
        .collect())
}

/// Adds those of the Emails to each set that match its text.
async fn scan(
    jmap: &Jmap,
    conn: &mut Conn,
    account: AccountId,
    ids: &[Id],
    texts: &[TextQuery],
    found: &mut [HashSet<Id>],
) -> Result<(), MethodError> {
    for chunk in ids.chunks(MESSAGES_AT_ONCE) {
        for (id, text) in load_texts(jmap, conn, account, chunk).await? {
            for (query, ids) in texts.iter().zip(found.iter_mut()) {
                if matches(&text, query) {
                    ids.insert(id);
                }
            }
        }
    }
    Ok(())
}

/// The searchable texts of Emails, as far as they exist.
pub async fn load_texts(
    jmap: &Jmap,
    conn: &mut Conn,
    account: AccountId,
    ids: &[Id],
) -> Result<HashMap<Id, SearchText>, MethodError> {
    let rows = read::rows(conn, account, ids).await?;
    let structures = read::structures(conn, account, ids).await?;
    let hashes: Vec<_> = rows.iter().map(|row| row.blob_hash).collect();
    let octets = jmap.blobs.read_many(account, &hashes).await?;
    let mut out = HashMap::with_capacity(rows.len());
    for row in rows {
        let (Some(raw), Some(structure)) = (octets.get(&row.blob_hash), structures.get(&row.id)) else {
            continue;
        };
        let structure = Structure::from_json(structure)
            .map_err(|error| StoreError::corrupt_value(&format!("structure of Email {}", row.id), &error))?;
        out.insert(row.id, search_text(raw, &structure));
    }
    Ok(out)
}

fn gather(filter: &Filter<Vec<Condition>>, texts: &mut Vec<TextQuery>) {
    match filter {
        Filter::And(parts) | Filter::Or(parts) | Filter::Not(parts) => {
            parts.iter().for_each(|part| gather(part, texts));
        }
        Filter::Is(conditions) => texts.extend(conditions.iter().filter_map(|leaf| match leaf {
            Condition::Text(text) => Some(text.clone()),
            Condition::Stored(_) => None,
        })),
    }
}

/// Replaces texts by sets in the order in which `gather` meets them.
fn replace(filter: Filter<Vec<Condition>>, sets: &mut std::vec::IntoIter<HashSet<Id>>) -> stored::Filter {
    let mut all = |parts: Vec<_>| parts.into_iter().map(|part| replace(part, sets)).collect();
    match filter {
        Filter::And(parts) => stored::Filter::And(all(parts)),
        Filter::Or(parts) => stored::Filter::Or(all(parts)),
        Filter::Not(parts) => stored::Filter::Not(all(parts)),
        Filter::Is(conditions) => stored::Filter::and(conditions.into_iter().map(|leaf| match leaf {
            Condition::Stored(filter) => filter,
            Condition::Text(_) => {
                let mut ids: Vec<Id> = sets.next().unwrap_or_default().into_iter().collect();
                ids.sort_unstable();
                stored::Filter::Ids(ids)
            }
        })),
    }
}
