//! Text leaves of a filter, turned into sets of ids by the index. The index lags behind the store;
//! what it does not know yet is scanned, so that no client sees the lag.

use crate::index::query::TextQuery;
use crate::index::source::Source;
use crate::jmap::call::Jmap;
use crate::jmap::email::query::Condition;
use crate::jmap::error::MethodError;
use crate::jmap::standard::query::Filter;
use crate::store::db::Conn;
use crate::store::directory;
use crate::store::email::query as stored;
use crate::store::error::StoreError;
use crate::store::queue::{self, index::IndexTask};
use crate::types::id::{AccountId, Id};

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
    let source = Source { store: &jmap.store, blobs: &jmap.blobs };
    let found = source.search(&jmap.index, account, &queued, &texts).await.map_err(|error| {
        tracing::error!(%error, "a search failed");
        MethodError::ServerUnavailable
    })?;
    let mut sets = found.into_iter();
    Ok(replace(filter, &mut sets))
}

/// The Emails that the index queue still holds work for.
async fn queued_emails(conn: &mut Conn, account: AccountId) -> Result<Vec<Id>, StoreError> {
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
fn replace(filter: Filter<Vec<Condition>>, sets: &mut std::vec::IntoIter<Vec<Id>>) -> stored::Filter {
    let mut all = |parts: Vec<_>| parts.into_iter().map(|part| replace(part, sets)).collect();
    match filter {
        Filter::And(parts) => stored::Filter::And(all(parts)),
        Filter::Or(parts) => stored::Filter::Or(all(parts)),
        Filter::Not(parts) => stored::Filter::Not(all(parts)),
        Filter::Is(conditions) => stored::Filter::and(conditions.into_iter().map(|leaf| match leaf {
            Condition::Stored(filter) => filter,
            Condition::Text(_) => stored::Filter::Ids(sets.next().unwrap_or_default()),
        })),
    }
}
