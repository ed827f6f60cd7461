//! Mailbox/query and Mailbox/queryChanges (RFC 8621, 2.3 and 2.4). An account has few mailboxes:
//! they are filtered and sorted in memory.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Call, MethodResult};
use crate::jmap::error::MethodError;
use crate::jmap::limits::{MAX_CHANGES, MAX_MAILBOX_DEPTH};
use crate::jmap::standard::query::{Comparator, Filter, QueryChangesRequest, QueryRequest};
use crate::mail::sort_key::sort_key;
use crate::store::change::{ChangesSince, changes_since, state_of};
use crate::store::mailbox::{self, Mailbox};
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

#[derive(Debug)]
enum Condition {
    ParentId(Option<Id>),
    Name(String),
    Role(Option<String>),
    HasAnyRole(bool),
    IsSubscribed(bool),
    /// A condition that nothing fulfils: a parent that cannot exist.
    Nothing,
}

/// Mailbox/query.
pub async fn query(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryRequest::read(call, &mut arguments)?;
    let sort_as_tree = arguments.boolean("sortAsTree")?;
    let filter_as_tree = arguments.boolean("filterAsTree")?;
    arguments.finish()?;
    let filter = read_filter(call, request.filter.as_ref())?;
    check_sort(&request.sort)?;
    let mut snapshot = call.jmap.store.read().await?;
    let state = state_of(&mut snapshot, request.account.id, ObjectType::Mailbox).await?;
    let mailboxes = mailbox::all(&mut snapshot, request.account.id, request.account.viewer()).await?;
    drop(snapshot);
    let ids = list(mailboxes, filter.as_ref(), &request.sort, sort_as_tree, filter_as_tree);
    let window = request.window(&ids)?;
    // A mailbox renamed moves its children in a tree, though they have not changed themselves.
    Ok(request.answer(state, &window, !sort_as_tree && !filter_as_tree))
}

/// Mailbox/queryChanges.
pub async fn query_changes(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryChangesRequest::read(call, &mut arguments)?;
    let as_tree = arguments.boolean("sortAsTree")? | arguments.boolean("filterAsTree")?;
    arguments.finish()?;
    let filter = read_filter(call, request.filter.as_ref())?;
    check_sort(&request.sort)?;
    if as_tree {
        return Err(MethodError::CannotCalculateChanges);
    }
    let mut snapshot = call.jmap.store.read().await?;
    let account = request.account.id;
    let since =
        changes_since(&mut snapshot, account, ObjectType::Mailbox, request.since, MAX_CHANGES).await?;
    let ChangesSince::Known { changes, new_state, has_more: false } = since else {
        return Err(MethodError::CannotCalculateChanges);
    };
    let mailboxes = mailbox::all(&mut snapshot, account, request.account.viewer()).await?;
    drop(snapshot);
    let ids = list(mailboxes, filter.as_ref(), &request.sort, false, false);
    request.answer_in_memory(new_state, &changes, &ids)
}

fn read_filter(call: &Call<'_>, filter: Option<&Value>) -> Result<Option<Filter<Condition>>, MethodError> {
    let Some(filter) = filter else { return Ok(None) };
    let filter = Filter::read(filter, &mut |object| read_condition(call, object))?;
    // Several properties in one condition are an AND of them.
    Ok(Some(flatten(filter)))
}

fn flatten(filter: Filter<Vec<Condition>>) -> Filter<Condition> {
    match filter {
        Filter::And(parts) => Filter::And(parts.into_iter().map(flatten).collect()),
        Filter::Or(parts) => Filter::Or(parts.into_iter().map(flatten).collect()),
        Filter::Not(parts) => Filter::Not(parts.into_iter().map(flatten).collect()),
        Filter::Is(conditions) => Filter::And(conditions.into_iter().map(Filter::Is).collect()),
    }
}

fn read_condition(call: &Call<'_>, object: &Map<String, Value>) -> Result<Vec<Condition>, MethodError> {
    let wrong =
        |name: &str| MethodError::InvalidArguments(format!("filter: {name} has a value of the wrong type"));
    let mut conditions = Vec::new();
    for (name, value) in object {
        conditions.push(match (name.as_str(), value) {
            ("parentId", Value::Null) => Condition::ParentId(None),
            ("parentId", Value::String(id)) => match call.resolve_id(id) {
                Some(id) => Condition::ParentId(Some(id)),
                None => Condition::Nothing,
            },
            ("name", Value::String(text)) => Condition::Name(sort_key(text)),
            ("role", Value::Null) => Condition::Role(None),
            ("role", Value::String(role)) => Condition::Role(Some(role.to_ascii_lowercase())),
            ("hasAnyRole", Value::Bool(wanted)) => Condition::HasAnyRole(*wanted),
            ("isSubscribed", Value::Bool(wanted)) => Condition::IsSubscribed(*wanted),
            ("parentId" | "name" | "role" | "hasAnyRole" | "isSubscribed", _) => return Err(wrong(name)),
            _ => return Err(MethodError::UnsupportedFilter(format!("Mailbox has no filter {name:?}"))),
        });
    }
    Ok(conditions)
}

fn check_sort(sort: &[Comparator]) -> Result<(), MethodError> {
    match sort.iter().find(|by| !["sortOrder", "name", "parentId"].contains(&by.property.as_str())) {
        None => Ok(()),
        Some(by) => {
            Err(MethodError::UnsupportedSort(format!("Mailbox cannot be sorted by {:?}", by.property)))
        }
    }
}

fn is_match(condition: &Condition, mailbox: &Mailbox) -> bool {
    match condition {
        Condition::ParentId(parent) => mailbox.parent_id == parent.unwrap_or_default(),
        Condition::Name(text) => sort_key(&mailbox.name).contains(text),
        Condition::Role(role) => mailbox.role == *role,
        Condition::HasAnyRole(wanted) => mailbox.role.is_some() == *wanted,
        Condition::IsSubscribed(wanted) => mailbox.is_subscribed == *wanted,
        Condition::Nothing => false,
    }
}

fn list(
    mut mailboxes: Vec<Mailbox>,
    filter: Option<&Filter<Condition>>,
    sort: &[Comparator],
    sort_as_tree: bool,
    filter_as_tree: bool,
) -> Vec<Id> {
    let names: HashMap<Id, String> = mailboxes.iter().map(|m| (m.id, sort_key(&m.name))).collect();
    let compare = |a: &Mailbox, b: &Mailbox| {
        let by_sort = sort.iter().map(|by| {
            let order = match by.property.as_str() {
                "sortOrder" => a.sort_order.cmp(&b.sort_order),
                "name" => names.get(&a.id).cmp(&names.get(&b.id)),
                _ => a.parent_id.cmp(&b.parent_id),
            };
            if by.is_ascending { order } else { order.reverse() }
        });
        by_sort.fold(Ordering::Equal, Ordering::then).then(a.id.cmp(&b.id))
    };
    mailboxes.sort_by(compare);
    if sort_as_tree {
        mailboxes = as_tree(mailboxes);
    }
    let matching: HashSet<Id> = mailboxes
        .iter()
        .filter(|mailbox| filter.is_none_or(|filter| filter.matches(&|leaf| is_match(leaf, mailbox))))
        .map(|mailbox| mailbox.id)
        .collect();
    let parents: HashMap<Id, Id> = mailboxes.iter().map(|mailbox| (mailbox.id, mailbox.parent_id)).collect();
    let is_listed = |id: Id| {
        if !filter_as_tree {
            return matching.contains(&id);
        }
        // RFC 8621, 2.3: every ancestor must match too.
        let ancestors =
            std::iter::successors(Some(id), |id| parents.get(id).copied().filter(|id| *id != Id(0)));
        ancestors.take(MAX_MAILBOX_DEPTH + 1).all(|id| matching.contains(&id))
    };
    mailboxes.iter().map(|mailbox| mailbox.id).filter(|id| is_listed(*id)).collect()
}

/// Children right after their parent, siblings in the order given.
fn as_tree(sorted: Vec<Mailbox>) -> Vec<Mailbox> {
    let mut children: HashMap<Id, Vec<Mailbox>> = HashMap::new();
    // Reversed, so that popping gives them in order.
    for mailbox in sorted.into_iter().rev() {
        children.entry(mailbox.parent_id).or_default().push(mailbox);
    }
    let mut out = Vec::new();
    let mut stack = children.remove(&Id(0)).unwrap_or_default();
    while let Some(mailbox) = stack.pop() {
        stack.extend(children.remove(&mailbox.id).unwrap_or_default());
        out.push(mailbox);
    }
    out
}
