//! Text leaves of a filter, turned into sets of ids by the index. The index lags behind the store;
//! what it does not know yet is scanned, so that no client sees the lag.

use crate::index::IndexError;
use crate::index::query::TextQuery;
use crate::index::source::Source;
use crate::jmap::call::Jmap;
use crate::jmap::email::query::Condition;
use crate::jmap::error::MethodError;
use crate::jmap::standard::query::Filter;
use crate::store::change::{ChangesSince, changes_since, state_of};
use crate::store::db::Conn;
use crate::store::directory;
use crate::store::email::query as stored;
use crate::store::error::StoreError;
use crate::store::queue::{self, index::IndexTask};
use crate::store::snapshot::Snapshot;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// Changes of Email that a search follows in each of its rounds.
const MAX_MEANWHILE: usize = 4096;

/// Rounds in which what comes in meanwhile is read without a view of the store in hand.
const FREE_ROUNDS: usize = 4;

/// A filter of which the texts are resolved, and the view of the store for which they are.
pub struct Resolved {
    /// The filter, with the ids that match in the place of each text.
    pub filter: stored::Filter,
    /// Where the rest of the query is to be read.
    pub snapshot: Snapshot,
    /// The state of Email in it.
    pub state: State,
}

/// Replaces every text of a filter by the ids that match it.
///
/// A search takes time and connections of its own, so that it holds no view of the store: twenty
/// searches that each held a connection and waited for a second one would stop a pool of twenty. What
/// has come in until the view is taken is read by itself, and the answer is exact for that view.
pub async fn resolve_texts(
    jmap: &Jmap,
    account: AccountId,
    filter: Filter<Vec<Condition>>,
) -> Result<Resolved, MethodError> {
    let mut texts = Vec::new();
    gather(&filter, &mut texts);
    let mut snapshot = jmap.store.read().await?;
    let mut state = state_of(&mut snapshot, account, ObjectType::Email).await?;
    if texts.is_empty() {
        let filter = replace(filter, &mut Vec::new().into_iter());
        return Ok(Resolved { filter, snapshot, state });
    }
    // First what is still queued, then the index: an Email leaves the queue only once every search
    // sees it, so none is missed between the two.
    let queued = queued_emails(&mut snapshot, account).await?;
    drop(snapshot);
    let source = Source { store: &jmap.store, blobs: &jmap.blobs };
    let mut found = source.search(&jmap.index, account, &queued, &texts).await.map_err(failed)?;
    let mut rounds = 0;
    loop {
        let mut snapshot = jmap.store.read().await?;
        let now = state_of(&mut snapshot, account, ObjectType::Email).await?;
        let created = created_since(&mut snapshot, account, state, now).await?;
        if created.is_empty() {
            return Ok(Resolved { filter: replace(filter, &mut found.into_iter()), snapshot, state: now });
        }
        // Where mail never stops coming in, the view is kept at last.
        let kept = (rounds == FREE_ROUNDS).then_some(snapshot);
        let scanned = source.scan(account, &created, &texts).await.map_err(failed)?;
        for (ids, more) in found.iter_mut().zip(scanned) {
            ids.extend(more);
            ids.sort_unstable();
            ids.dedup();
        }
        if let Some(snapshot) = kept {
            return Ok(Resolved { filter: replace(filter, &mut found.into_iter()), snapshot, state: now });
        }
        state = now;
        rounds += 1;
    }
}

fn failed(error: IndexError) -> MethodError {
    if error == IndexError::TooBroad {
        let why = "too many messages have all words of a phrase; add a condition, or leave the quotes out";
        return MethodError::UnsupportedFilter(why.into());
    }
    if error == IndexError::Elsewhere {
        let why = "texts cannot be searched on this connection; ask by HTTP (apiUrl)";
        return MethodError::UnsupportedFilter(why.into());
    }
    tracing::error!(%error, "a search failed");
    MethodError::ServerUnavailable
}

/// The Emails that have come to be between two states.
async fn created_since(
    conn: &mut Conn,
    account: AccountId,
    before: State,
    now: State,
) -> Result<Vec<Id>, MethodError> {
    if before == now {
        return Ok(Vec::new());
    }
    match changes_since(conn, account, ObjectType::Email, before, MAX_MEANWHILE).await? {
        ChangesSince::Known { changes, has_more: false, .. } => Ok(changes.created),
        // More mail than a search can follow, or a restore under way: the client tries again.
        _ => Err(MethodError::ServerUnavailable),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::{Fixture, User};

    fn mail(number: usize) -> Vec<u8> {
        format!("Subject: common {number}\r\nMessage-ID: <{number}@x>\r\n\r\n").into_bytes()
    }

    async fn query(user: &User<'_>, filter: Value) -> Value {
        user.call("Email/query", json!({"filter": filter, "limit": 500})).await
    }

    #[tokio::test]
    async fn what_comes_in_during_a_search_is_in_it() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let come_in = async {
            for number in 0..60 {
                user.email(&mail(number), json!({})).await;
            }
        };
        let search = async {
            let mut compared = 0;
            while compared < 20 {
                let found = query(&user, json!({"subject": "common"})).await;
                let all = query(&user, json!({})).await;
                if found["queryState"] == all["queryState"] {
                    assert_eq!(found["ids"], all["ids"]);
                    compared += 1;
                }
            }
        };
        tokio::join!(come_in, search);
    }

    #[tokio::test]
    async fn many_searches_at_once_do_not_wait_for_each_other() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let email = user.email(&mail(1), json!({})).await;
        let searches = (0..40).map(|_| query(&user, json!({"subject": "common"})));
        for answer in futures_util::future::join_all(searches).await {
            assert_eq!(answer["ids"], json!([email]));
        }
    }
}
