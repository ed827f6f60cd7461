//! EmailSubmission/query and EmailSubmission/queryChanges (RFC 8621, 7.3 and 7.4).

use serde_json::{Map, Value};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Call, MethodResult};
use crate::jmap::error::MethodError;
use crate::jmap::limits::MAX_QUERY_CHANGES;
use crate::jmap::standard::query::{Comparator, Filter, QueryChangesRequest, QueryRequest};
use crate::store::change::{ChangesSince, changes_since, state_of};
use crate::store::email::query::Start;
use crate::store::snapshot::Snapshot;
use crate::store::submission::UndoStatus;
use crate::store::submission::query as stored;
use crate::store::submission::query::{SortBy, SubmissionQuery};
use crate::types::date::parse_date;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// EmailSubmission/query.
pub async fn query(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryRequest::read(call, &mut arguments)?;
    arguments.finish()?;
    let query = SubmissionQuery {
        account: request.account.id,
        filter: read_filter(call, request.filter.as_ref())?,
        sort: read_sort(&request.sort)?,
        start: request.start,
        limit: request.limit,
        calculate_total: request.calculate_total,
    };
    let mut snapshot = call.jmap.store.read().await?;
    let state = state_of(&mut snapshot, request.account.id, ObjectType::EmailSubmission).await?;
    let window = snapshot.run_long(async move |snapshot: &mut Snapshot| query.run(snapshot).await).await?;
    let window = window.map_err(|_| MethodError::AnchorNotFound)?;
    Ok(request.answer(state, &window, true))
}

/// EmailSubmission/queryChanges.
pub async fn query_changes(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryChangesRequest::read(call, &mut arguments)?;
    arguments.finish()?;
    let account = request.account.id;
    let query = SubmissionQuery {
        account,
        filter: read_filter(call, request.filter.as_ref())?,
        sort: read_sort(&request.sort)?,
        start: Start::Position(0),
        limit: 0,
        calculate_total: false,
    };
    let mut snapshot = call.jmap.store.read().await?;
    let since =
        changes_since(&mut snapshot, account, ObjectType::EmailSubmission, request.since, MAX_QUERY_CHANGES)
            .await?;
    let (changes, new_state) = match since {
        ChangesSince::CannotCalculate => return Err(MethodError::CannotCalculateChanges),
        ChangesSince::Known { has_more: true, .. } => return Err(MethodError::TooManyChanges),
        ChangesSince::Known { changes, new_state, .. } => (changes, new_state),
    };
    let ids = snapshot.run_long(async move |snapshot: &mut Snapshot| query.ids(snapshot).await).await?;
    request.answer_in_memory(new_state, &changes, &ids)
}

fn read_filter(call: &Call<'_>, filter: Option<&Value>) -> Result<Option<stored::Filter>, MethodError> {
    let Some(filter) = filter else { return Ok(None) };
    let filter = Filter::read(filter, &mut |object| read_conditions(call, object))?;
    Ok(Some(to_stored(filter)))
}

fn to_stored(filter: Filter<Vec<stored::Filter>>) -> stored::Filter {
    let all = |parts: Vec<_>| parts.into_iter().map(to_stored).collect();
    match filter {
        Filter::And(parts) => stored::Filter::And(all(parts)),
        Filter::Or(parts) => stored::Filter::Or(all(parts)),
        Filter::Not(parts) => stored::Filter::Not(all(parts)),
        // Several properties in one condition are an AND of them.
        Filter::Is(conditions) => stored::Filter::And(conditions),
    }
}

fn read_conditions(call: &Call<'_>, object: &Map<String, Value>) -> Result<Vec<stored::Filter>, MethodError> {
    // Null is as good as absent.
    object
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| read_condition(call, name, value))
        .collect()
}

fn read_condition(call: &Call<'_>, name: &str, value: &Value) -> Result<stored::Filter, MethodError> {
    let wrong = |wanted: &str| MethodError::InvalidArguments(format!("filter: {name}: {wanted} is wanted"));
    // An id that cannot be ours is in no list.
    let ids = || -> Result<Vec<Id>, MethodError> {
        let items = value.as_array().ok_or_else(|| wrong("an Id[]"))?;
        let given: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
        let given = given.ok_or_else(|| wrong("an Id[]"))?;
        Ok(given.into_iter().filter_map(|id| call.resolve_id(id)).collect())
    };
    let date = || value.as_str().and_then(parse_date).ok_or_else(|| wrong("a UTCDate"));
    Ok(match name {
        "identityIds" => stored::Filter::Identities(ids()?),
        "emailIds" => stored::Filter::Emails(ids()?),
        "threadIds" => stored::Filter::Threads(ids()?),
        "undoStatus" => match UndoStatus::named(value.as_str().ok_or_else(|| wrong("a String"))?) {
            Some(status) => stored::Filter::UndoStatus(status),
            // No submission has another one.
            None => stored::Filter::Or(Vec::new()),
        },
        "before" => stored::Filter::Before(date()?),
        "after" => stored::Filter::After(date()?),
        _ => {
            return Err(MethodError::UnsupportedFilter(format!("EmailSubmission has no filter {name:?}")));
        }
    })
}

fn read_sort(sort: &[Comparator]) -> Result<Vec<(SortBy, bool)>, MethodError> {
    let read = |by: &Comparator| {
        let property = match by.property.as_str() {
            "emailId" => SortBy::EmailId,
            "threadId" => SortBy::ThreadId,
            // RFC 8621, 7.3 calls it "sentAt"; the property itself is "sendAt".
            "sentAt" | "sendAt" => SortBy::SendAt,
            other => {
                let text = format!("EmailSubmission cannot be sorted by {other:?}");
                return Err(MethodError::UnsupportedSort(text));
            }
        };
        Ok((property, by.is_ascending))
    };
    sort.iter().map(read).collect()
}
