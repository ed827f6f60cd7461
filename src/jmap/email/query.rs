//! Email/query and Email/queryChanges (RFC 8621, 4.4 and 4.5).

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::index::query::{Field, TextQuery};
use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::email::text_search::resolve_texts;
use crate::jmap::error::MethodError;
use crate::jmap::limits::MAX_QUERY_CHANGES;
use crate::jmap::standard::query::{Comparator, Filter, QueryChangesRequest, QueryRequest};
use crate::store::change::{ChangesSince, changes_since, changes_up_to_now, state_of};
use crate::store::db::Conn;
use crate::store::email::query as stored;
use crate::store::email::query::places::{in_touched_threads, threads_of};
use crate::store::email::query::{EmailQuery, Sort, SortBy, Start};
use crate::store::snapshot::Snapshot;
use crate::types::date::parse_date;
use crate::types::id::{AccountId, Id};
use crate::types::keyword::normalize_keyword;
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// Entries of the change log that queryChanges reads: an Email that has changed many times is one.
const MAX_LOG_ENTRIES: usize = 10 * MAX_QUERY_CHANGES;

/// A leaf of the filter: one the store decides, or a text that the index does.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Of stored columns.
    Stored(stored::Filter),
    /// Of the message's text.
    Text(TextQuery),
}

/// Email/query.
pub async fn query(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryRequest::read(call, &mut arguments)?;
    let collapse_threads = arguments.boolean("collapseThreads")?;
    arguments.finish()?;
    let filter = request.filter.as_ref().map(|filter| read_filter(call, filter)).transpose()?;
    let sort = read_sort(&request.sort)?;
    let account = request.account.id;
    let has_text = filter.as_ref().is_some_and(has_text);
    let (filter, mut snapshot, state) = match filter {
        Some(filter) => {
            let resolved = resolve_texts(call.jmap, account, filter).await?;
            (Some(resolved.filter), resolved.snapshot, resolved.state)
        }
        None => {
            let mut snapshot = call.jmap.store.read().await?;
            let state = state_of(&mut snapshot, account, ObjectType::Email).await?;
            (None, snapshot, state)
        }
    };
    let query = EmailQuery {
        account,
        filter,
        sort,
        collapse_threads,
        start: request.start,
        limit: request.limit,
        calculate_total: request.calculate_total,
    };
    let query = query.prepare(&mut snapshot).await?;
    let window = if query.is_short() {
        query.run(&mut snapshot).await?
    } else {
        snapshot.run_long(async move |snapshot: &mut Snapshot| query.run(snapshot).await).await?
    };
    let window = window.map_err(|_| MethodError::AnchorNotFound)?;
    let mut answer = request.answer(state, &window, !has_text);
    tell_collapse_threads(&mut answer, collapse_threads);
    Ok(answer)
}

/// RFC 8621, 4.4 and 4.5: the argument is told back.
fn tell_collapse_threads(answer: &mut Body, collapse_threads: bool) {
    if let Body::Json(value) = answer {
        value["collapseThreads"] = Value::Bool(collapse_threads);
    }
}

/// Email/queryChanges, for any filter without text. What left or moved is among the Emails changed
/// since (with thread conditions: those of their threads); what is in the list now is looked up.
pub async fn query_changes(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryChangesRequest::read(call, &mut arguments)?;
    let collapse_threads = arguments.boolean("collapseThreads")?;
    arguments.finish()?;
    let filter = request.filter.as_ref().map(|filter| read_filter(call, filter)).transpose()?;
    let sort = read_sort(&request.sort)?;
    if filter.as_ref().is_some_and(has_text) {
        return Err(MethodError::CannotCalculateChanges);
    }
    let account = request.account.id;
    let filter = filter.map(without_texts);
    let depends_on_threads = collapse_threads
        || filter.as_ref().is_some_and(looks_at_threads)
        || sort.iter().any(|sort| matches!(sort.by, SortBy::AllInThread(_) | SortBy::SomeInThread(_)));
    let mut snapshot = call.jmap.store.read().await?;
    let since =
        changes_since(&mut snapshot, account, ObjectType::Email, request.since, MAX_LOG_ENTRIES).await?;
    let (changes, new_state) = match since {
        ChangesSince::CannotCalculate => return Err(MethodError::CannotCalculateChanges),
        ChangesSince::Known { has_more: true, .. } => return Err(MethodError::TooManyChanges),
        ChangesSince::Known { changes, new_state, .. } => (changes, new_state),
    };
    if changes.created.len() + changes.updated.len() + changes.destroyed.len() > MAX_QUERY_CHANGES {
        return Err(MethodError::TooManyChanges);
    }
    let thread_changes = if depends_on_threads {
        updated_threads(&mut snapshot, account, request.since).await?
    } else {
        Vec::new()
    };
    let query = EmailQuery {
        account,
        filter,
        sort,
        collapse_threads,
        start: Start::Position(0),
        limit: 0,
        calculate_total: request.calculate_total,
    };
    // RFC 8620, 5.6: ignored where an Email can move without being another.
    let is_immutable = !collapse_threads
        && query.filter.as_ref().is_none_or(is_immutable)
        && query.sort.iter().all(|sort| {
            !matches!(sort.by, SortBy::Keyword(_) | SortBy::AllInThread(_) | SortBy::SomeInThread(_))
        });
    let up_to_id = request.up_to_id.filter(|_| is_immutable);
    let found = snapshot
        .run_long(async move |snapshot: &mut Snapshot| {
            let mut removed: Vec<Id> = changes.updated.iter().chain(&changes.destroyed).copied().collect();
            let mut candidates: HashSet<Id> =
                changes.created.iter().chain(&changes.updated).copied().collect();
            if depends_on_threads {
                // Threads of which an Email was destroyed are told by their own changes.
                let changed: Vec<Id> = candidates.iter().copied().collect();
                let mut threads = threads_of(snapshot, account, &changed).await?;
                threads.extend(thread_changes);
                let touched = in_touched_threads(snapshot, account, &threads, MAX_QUERY_CHANGES).await?;
                let Some(touched) = touched else { return Ok(None) };
                for id in touched {
                    if candidates.insert(id) {
                        removed.push(id);
                    }
                }
            }
            let listed = query.prepare(snapshot).await?.places(snapshot, &candidates, up_to_id).await?;
            Ok(Some((removed, listed)))
        })
        .await?;
    let Some((removed, listed)) = found else { return Err(MethodError::TooManyChanges) };
    let mut answer = request.answer(new_state, &removed, &listed.places, listed.total)?;
    tell_collapse_threads(&mut answer, collapse_threads);
    Ok(answer)
}

/// The threads that have gained or lost an Email since a state of Email.
async fn updated_threads(conn: &mut Conn, account: AccountId, since: State) -> Result<Vec<Id>, MethodError> {
    // Within a cut transaction, all of it counts: what is told twice does no harm.
    let since = State { modseq: since.modseq - i64::from(since.within != State::ALL), ..since };
    let since = State::at(since.epoch, since.modseq);
    match changes_up_to_now(conn, account, ObjectType::Thread, since, MAX_LOG_ENTRIES).await? {
        ChangesSince::CannotCalculate => Err(MethodError::CannotCalculateChanges),
        ChangesSince::Known { has_more: true, .. } => Err(MethodError::TooManyChanges),
        ChangesSince::Known { changes, .. } if changes.updated.len() > MAX_QUERY_CHANGES => {
            Err(MethodError::TooManyChanges)
        }
        ChangesSince::Known { changes, .. } => Ok(changes.updated),
    }
}

fn has_text(filter: &Filter<Vec<Condition>>) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) | Filter::Not(parts) => parts.iter().any(has_text),
        Filter::Is(conditions) => conditions.iter().any(|leaf| matches!(leaf, Condition::Text(_))),
    }
}

/// The filter of the store, when no leaf is a text.
fn without_texts(filter: Filter<Vec<Condition>>) -> stored::Filter {
    let all = |parts: Vec<_>| parts.into_iter().map(without_texts).collect();
    match filter {
        Filter::And(parts) => stored::Filter::And(all(parts)),
        Filter::Or(parts) => stored::Filter::Or(all(parts)),
        Filter::Not(parts) => stored::Filter::Not(all(parts)),
        Filter::Is(conditions) => stored::Filter::and(conditions.into_iter().filter_map(|leaf| match leaf {
            Condition::Stored(filter) => Some(filter),
            Condition::Text(_) => None,
        })),
    }
}

/// Whether a filter looks at nothing of an Email that can change.
fn is_immutable(filter: &stored::Filter) -> bool {
    match filter {
        stored::Filter::And(parts) | stored::Filter::Or(parts) | stored::Filter::Not(parts) => {
            parts.iter().all(is_immutable)
        }
        stored::Filter::Before(_)
        | stored::Filter::After(_)
        | stored::Filter::MinSize(_)
        | stored::Filter::MaxSize(_)
        | stored::Filter::HasAttachment(_) => true,
        _ => false,
    }
}

fn looks_at_threads(filter: &stored::Filter) -> bool {
    match filter {
        stored::Filter::And(parts) | stored::Filter::Or(parts) | stored::Filter::Not(parts) => {
            parts.iter().any(looks_at_threads)
        }
        stored::Filter::AllInThread(_) | stored::Filter::SomeInThread(_) => true,
        _ => false,
    }
}

/// Reads a filter; each leaf is the AND of its properties.
pub fn read_filter(call: &Call<'_>, filter: &Value) -> Result<Filter<Vec<Condition>>, MethodError> {
    Filter::read(filter, &mut |object| read_conditions(call, object))
}

fn read_conditions(call: &Call<'_>, object: &Map<String, Value>) -> Result<Vec<Condition>, MethodError> {
    object.iter().map(|(name, value)| read_condition(call, name, value)).collect()
}

fn read_condition(call: &Call<'_>, name: &str, value: &Value) -> Result<Condition, MethodError> {
    use stored::Filter as F;
    let wrong = |wanted: &str| MethodError::InvalidArguments(format!("filter: {name}: {wanted} is wanted"));
    let string = || value.as_str().ok_or_else(|| wrong("a String"));
    let date = || parse_date(string()?).ok_or_else(|| wrong("a UTCDate"));
    let size =
        || value.as_u64().map(|size| size.min(i64::MAX as u64) as i64).ok_or_else(|| wrong("an UnsignedInt"));
    let boolean = || value.as_bool().ok_or_else(|| wrong("a Boolean"));
    let keyword = || normalize_keyword(string()?).ok_or_else(|| wrong("a keyword"));
    let text = |field| string().map(|text| Condition::Text(TextQuery::parse(field, text)));
    Ok(Condition::Stored(match name {
        // An id that cannot be ours names no mailbox: nothing is in it.
        "inMailbox" => call.resolve_id(string()?).map_or(F::Or(Vec::new()), F::InMailbox),
        "inMailboxOtherThan" => {
            let ids = value.as_array().ok_or_else(|| wrong("an Id[]"))?;
            let texts: Option<Vec<&str>> = ids.iter().map(Value::as_str).collect();
            let texts = texts.ok_or_else(|| wrong("an Id[]"))?;
            F::InMailboxOtherThan(texts.into_iter().filter_map(|id| call.resolve_id(id)).collect())
        }
        "before" => F::Before(date()?),
        "after" => F::After(date()?),
        "minSize" => F::MinSize(size()?),
        "maxSize" => F::MaxSize(size()?),
        "allInThreadHaveKeyword" => F::AllInThread(keyword()?),
        "someInThreadHaveKeyword" => F::SomeInThread(keyword()?),
        "noneInThreadHaveKeyword" => F::Not(vec![F::SomeInThread(keyword()?)]),
        "hasKeyword" => F::Keyword(keyword()?, true),
        "notKeyword" => F::Keyword(keyword()?, false),
        "hasAttachment" => F::HasAttachment(boolean()?),
        "text" => return text(Field::Text),
        "from" => return text(Field::From),
        "to" => return text(Field::To),
        "cc" => return text(Field::Cc),
        "bcc" => return text(Field::Bcc),
        "subject" => return text(Field::Subject),
        "body" => return text(Field::Body),
        "header" => {
            let parts: Option<Vec<&str>> =
                value.as_array().and_then(|parts| parts.iter().map(Value::as_str).collect());
            return match parts.as_deref() {
                Some([name]) => Ok(Condition::Text(TextQuery::header(name, None))),
                Some([name, text]) => Ok(Condition::Text(TextQuery::header(name, Some(text)))),
                _ => Err(wrong("a list of one or two Strings")),
            };
        }
        _ => return Err(MethodError::UnsupportedFilter(format!("Email has no filter {name:?}"))),
    }))
}

/// Reads the sort. More than the sorts that the session lists there are none.
fn read_sort(sort: &[Comparator]) -> Result<Vec<Sort>, MethodError> {
    sort.iter()
        .map(|by| {
            let keyword = || {
                by.keyword.as_deref().and_then(normalize_keyword).ok_or_else(|| {
                    MethodError::InvalidArguments(format!("sort: {} needs a keyword", by.property))
                })
            };
            let property = match by.property.as_str() {
                "receivedAt" => SortBy::ReceivedAt,
                "sentAt" => SortBy::SentAt,
                "size" => SortBy::Size,
                "from" => SortBy::From,
                "to" => SortBy::To,
                "subject" => SortBy::Subject,
                "hasKeyword" => SortBy::Keyword(keyword()?),
                "allInThreadHaveKeyword" => SortBy::AllInThread(keyword()?),
                "someInThreadHaveKeyword" => SortBy::SomeInThread(keyword()?),
                other => {
                    return Err(MethodError::UnsupportedSort(format!("Email cannot be sorted by {other:?}")));
                }
            };
            Ok(Sort { by: property, is_ascending: by.is_ascending })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::{Fixture, User};

    /// Ten Emails, one received each minute, in threads of two; the newest is the last.
    async fn ten(user: &User<'_>) -> Vec<String> {
        let inbox = user.mailbox("inbox").await;
        let mut ids = Vec::new();
        for number in 0..10 {
            let message = format!(
                "Subject: Re: {0}\r\nMessage-ID: <{1}@x>\r\nReferences: <t{0}@x>\r\n\r\n",
                number / 2,
                number
            );
            let blob = user.upload(message.as_bytes()).await;
            let email = json!({
                "blobId": blob, "mailboxIds": {&inbox: true}, "receivedAt": format!("2024-01-01T00:0{number}:00Z"),
            });
            let answer = user.call("Email/import", json!({"emails": {"k": email}})).await;
            ids.push(answer["created"]["k"]["id"].as_str().unwrap().to_owned());
        }
        ids
    }

    fn by_date() -> Value {
        json!([{"property": "receivedAt"}])
    }

    #[tokio::test]
    async fn windows_by_position_and_anchor() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let ids = ten(&user).await;
        let query = async |more: Value| {
            let mut asked = json!({"sort": by_date()});
            more.as_object().unwrap().iter().for_each(|(name, value)| asked[name] = value.clone());
            user.call("Email/query", asked).await
        };
        for (asked, position, listed) in [
            (json!({"position": 2, "limit": 2}), 2, &ids[2..4]),
            (json!({"position": -2}), 8, &ids[8..]),
            (json!({"position": -99, "limit": 1}), 0, &ids[..1]),
            (json!({"position": 10}), 10, &[]),
            (json!({"anchor": ids[5], "limit": 2}), 5, &ids[5..7]),
            (json!({"anchor": ids[5], "anchorOffset": -2, "limit": 2, "position": 9}), 3, &ids[3..5]),
            (json!({"anchor": ids[1], "anchorOffset": -9, "limit": 1}), 0, &ids[..1]),
            (json!({"anchor": ids[5], "anchorOffset": 9}), 14, &[]),
            (json!({"limit": 0}), 0, &[]),
        ] {
            let answer = query(asked.clone()).await;
            assert_eq!(answer["ids"], json!(listed), "{asked}");
            assert_eq!(answer["position"], json!(position), "{asked}");
            assert_eq!(answer.get("total"), None, "{asked}");
        }
        assert_eq!(query(json!({"anchor": user.account()})).await["type"], "anchorNotFound");
        assert_eq!(query(json!({"anchor": "none"})).await["type"], "anchorNotFound");
        assert_eq!(query(json!({"limit": -1})).await["type"], "invalidArguments");
        assert_eq!(query(json!({"sort": [{"property": "hasKeyword"}]})).await["type"], "invalidArguments");
        assert_eq!(query(json!({"sort": [{"property": "colour"}]})).await["type"], "unsupportedSort");
        assert_eq!(query(json!({"filter": {"colour": "red"}})).await["type"], "unsupportedFilter");
        let of_nothing = query(json!({"filter": {"inMailbox": "aaaaaaaaaaaaa"}})).await;
        assert_eq!(of_nothing["ids"], json!([]));
    }

    #[tokio::test]
    async fn a_thread_is_listed_once() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let ids = ten(&user).await;
        let inbox = user.mailbox("inbox").await;
        for filter in [Value::Null, json!({"inMailbox": inbox}), json!({"minSize": 1})] {
            let asked = json!({
                "filter": filter, "sort": by_date(), "collapseThreads": true, "calculateTotal": true, "limit": 2,
            });
            let answer = user.call("Email/query", asked).await;
            assert_eq!(answer["ids"], json!([ids[0], ids[2]]), "{filter}");
            assert_eq!(answer["total"], json!(5), "{filter}");
        }
        // The second Email of a thread stands for nothing.
        let asked = json!({"sort": by_date(), "collapseThreads": true, "anchor": ids[1]});
        assert_eq!(user.call("Email/query", asked).await["type"], "anchorNotFound");
    }

    #[tokio::test]
    async fn changes_end_at_up_to_id_only_where_nothing_moves() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let ids = ten(&user).await;
        let state = user.call("Email/query", json!({})).await["queryState"].clone();
        user.call(
            "Email/set",
            json!({"update": {
                &ids[1]: {"keywords/$flagged": true}, &ids[8]: {"keywords/$flagged": true},
            }}),
        )
        .await;
        let changes = async |sort: Value| {
            let asked = json!({
                "sinceQueryState": state, "sort": sort, "upToId": ids[4], "calculateTotal": true,
            });
            let answer = user.call("Email/queryChanges", asked).await;
            assert_eq!(answer["total"], json!(10));
            answer["added"].clone()
        };
        assert_eq!(changes(by_date()).await, json!([{"id": ids[1], "index": 1}]));
        let sort = json!([{"property": "hasKeyword", "keyword": "$flagged"}, {"property": "receivedAt"}]);
        let wanted = json!([{"id": ids[1], "index": 8}, {"id": ids[8], "index": 9}]);
        assert_eq!(changes(sort).await, wanted);
        let asked = json!({"sinceQueryState": state, "maxChanges": 3});
        assert_eq!(user.call("Email/queryChanges", asked).await["type"], "tooManyChanges");
        let asked = json!({"sinceQueryState": "x"});
        assert_eq!(user.call("Email/queryChanges", asked).await["type"], "cannotCalculateChanges");
    }

    #[tokio::test]
    async fn an_email_that_changed_often_is_one_change() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let ids = ten(&user).await;
        let state = user.call("Email/query", json!({})).await["queryState"].clone();
        for round in 0..1_001 {
            let patch = json!({"keywords/$flagged": if round % 2 == 0 { json!(true) } else { Value::Null }});
            user.call("Email/set", json!({"update": {&ids[3]: patch}})).await;
        }
        let asked = json!({"sinceQueryState": state, "sort": by_date()});
        let answer = user.call("Email/queryChanges", asked).await;
        assert_eq!(answer["removed"], json!([ids[3]]));
        assert_eq!(answer["added"], json!([{"id": ids[3], "index": 3}]));
    }
}
