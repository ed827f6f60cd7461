//! Foo/query and Foo/queryChanges (RFC 8620, 5.5 and 5.6): arguments, windows, answers.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Body, Call};
use crate::jmap::error::MethodError;
use crate::jmap::limits;
use crate::store::change::Changes;
use crate::store::email::query::{Start, Window};
use crate::types::id::Id;
use crate::types::state::State;

/// Collations of text properties. All sort keys are i;unicode-casemap (RFC 5051), which orders as
/// i;ascii-casemap does where that has an order.
pub const COLLATIONS: [&str; 2] = ["i;ascii-casemap", "i;unicode-casemap"];

/// A comparator of the sort argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparator {
    /// The property.
    pub property: String,
    /// True unless said otherwise.
    pub is_ascending: bool,
    /// `keyword`, which some properties of Email want.
    pub keyword: Option<String>,
}

/// The arguments that every /query has.
#[derive(Debug)]
pub struct QueryRequest {
    /// The account.
    pub account: AccountAccess,
    /// The filter as it came.
    pub filter: Option<Value>,
    /// The sort.
    pub sort: Vec<Comparator>,
    /// Where the window starts.
    pub start: Start,
    /// The length of the window, the server's limit applied.
    pub limit: usize,
    /// Whether the limit is the server's rather than the client's.
    pub is_limited_by_server: bool,
    /// Whether the total is wanted.
    pub calculate_total: bool,
}

impl QueryRequest {
    /// Takes the arguments.
    pub fn read(call: &Call<'_>, arguments: &mut Arguments) -> Result<QueryRequest, MethodError> {
        let account = call.account(arguments)?;
        let filter = arguments.object("filter")?.map(Value::Object);
        let sort = read_sort(arguments)?;
        let position = arguments.integer("position")?.unwrap_or(0);
        let anchor = arguments.string("anchor")?;
        let offset = arguments.integer("anchorOffset")?.unwrap_or(0);
        let start = match anchor {
            None => Start::Position(position),
            // An id that cannot be ours is in no list.
            Some(anchor) => {
                Start::Anchor { id: call.resolve_id(&anchor).ok_or(MethodError::AnchorNotFound)?, offset }
            }
        };
        let wanted = arguments.integer("limit")?;
        if wanted.is_some_and(|limit| limit < 0) {
            let text = "limit: a number of 0 or more is wanted".to_owned();
            return Err(MethodError::InvalidArguments(text));
        }
        let wanted = wanted.map_or(usize::MAX, |limit| limit as usize);
        Ok(QueryRequest {
            account,
            filter,
            sort,
            start,
            limit: wanted.min(limits::MAX_QUERY_WINDOW),
            is_limited_by_server: wanted > limits::MAX_QUERY_WINDOW,
            calculate_total: arguments.boolean("calculateTotal")?,
        })
    }

    /// The answer.
    pub fn answer(&self, state: State, window: &Window, can_calculate_changes: bool) -> Body {
        let mut object = Map::new();
        object.insert("accountId".to_owned(), json!(self.account.id.to_string()));
        object.insert("queryState".to_owned(), json!(state.to_string()));
        object.insert("canCalculateChanges".to_owned(), json!(can_calculate_changes));
        object.insert("position".to_owned(), json!(window.position));
        object.insert("ids".to_owned(), json!(window.ids));
        if let Some(total) = window.total.filter(|_| self.calculate_total) {
            object.insert("total".to_owned(), json!(total));
        }
        if self.is_limited_by_server {
            object.insert("limit".to_owned(), json!(self.limit));
        }
        Body::Json(Value::Object(object))
    }

    /// The window of a list that is in memory as a whole.
    pub fn window(&self, all: &[Id]) -> Result<Window, MethodError> {
        let length = all.len() as i64;
        let position = match self.start {
            Start::Position(position @ 0..) => position,
            Start::Position(from_end) => (length + from_end).max(0),
            Start::Anchor { id, offset } => {
                let at = all.iter().position(|listed| *listed == id).ok_or(MethodError::AnchorNotFound)?;
                (at as i64).saturating_add(offset).max(0)
            }
        };
        let skipped = usize::try_from(position).unwrap_or(usize::MAX);
        let ids = all.iter().copied().skip(skipped).take(self.limit).collect();
        Ok(Window { ids, position, total: Some(length) })
    }
}

fn read_sort(arguments: &mut Arguments) -> Result<Vec<Comparator>, MethodError> {
    let wrong = |why: &str| MethodError::InvalidArguments(format!("sort: {why}"));
    let Some(sort) = arguments.take("sort") else { return Ok(Vec::new()) };
    let Value::Array(items) = sort else { return Err(wrong("a Comparator[] is wanted")) };
    if items.len() > 16 {
        return Err(MethodError::UnsupportedSort("at most 16 comparators are supported".to_owned()));
    }
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let Value::Object(item) = item else { return Err(wrong("a Comparator is an object")) };
        let mut item = Arguments::new(item);
        let property = item.required_string("property")?;
        let is_ascending = match item.take("isAscending") {
            None => true,
            Some(Value::Bool(value)) => value,
            Some(_) => return Err(wrong("isAscending is a Boolean")),
        };
        if let Some(collation) = item.string("collation")?
            && !COLLATIONS.contains(&collation.as_str())
        {
            return Err(MethodError::UnsupportedSort(format!("no collation {collation:?}")));
        }
        let keyword = item.string("keyword")?;
        item.finish()?;
        out.push(Comparator { property, is_ascending, keyword });
    }
    Ok(out)
}

/// The arguments that every /queryChanges has.
#[derive(Debug)]
pub struct QueryChangesRequest {
    /// The account.
    pub account: AccountAccess,
    /// The filter as it came.
    pub filter: Option<Value>,
    /// The sort.
    pub sort: Vec<Comparator>,
    /// The state as it came.
    pub since_text: String,
    /// The state.
    pub since: State,
    /// The largest number of changes that the client wants.
    pub max_changes: Option<usize>,
    /// The last id that the client has.
    pub up_to_id: Option<Id>,
    /// Whether the total is wanted.
    pub calculate_total: bool,
}

impl QueryChangesRequest {
    /// Takes the arguments.
    pub fn read(call: &Call<'_>, arguments: &mut Arguments) -> Result<QueryChangesRequest, MethodError> {
        let account = call.account(arguments)?;
        let filter = arguments.object("filter")?.map(Value::Object);
        let sort = read_sort(arguments)?;
        let since_text = arguments.required_string("sinceQueryState")?;
        let max_changes = arguments.unsigned("maxChanges")?;
        let up_to_id = arguments.string("upToId")?.and_then(|id| id.parse().ok());
        let calculate_total = arguments.boolean("calculateTotal")?;
        let since = since_text.parse().map_err(|_| MethodError::CannotCalculateChanges)?;
        Ok(QueryChangesRequest {
            account,
            filter,
            sort,
            since_text,
            since,
            max_changes,
            up_to_id,
            calculate_total,
        })
    }

    /// The answer: `removed` must hold every id that may have left or moved, `added` those that are
    /// in the list now with their places in it, in the order of the places.
    pub fn answer(
        &self,
        new_state: State,
        removed: &[Id],
        added: &[(i64, Id)],
        total: Option<i64>,
    ) -> Result<Body, MethodError> {
        if self.max_changes.is_some_and(|max| removed.len() + added.len() > max) {
            return Err(MethodError::TooManyChanges);
        }
        let added: Vec<Value> = added.iter().map(|(index, id)| json!({"id": id, "index": index})).collect();
        let mut object = Map::new();
        object.insert("accountId".to_owned(), json!(self.account.id.to_string()));
        object.insert("oldQueryState".to_owned(), json!(self.since_text));
        object.insert("newQueryState".to_owned(), json!(new_state.to_string()));
        object.insert("removed".to_owned(), json!(removed));
        object.insert("added".to_owned(), Value::Array(added));
        if let Some(total) = total.filter(|_| self.calculate_total) {
            object.insert("total".to_owned(), json!(total));
        }
        Ok(Body::Json(Value::Object(object)))
    }

    /// The answer for a list that is in memory as a whole.
    pub fn answer_in_memory(
        &self,
        new_state: State,
        changes: &Changes,
        all: &[Id],
    ) -> Result<Body, MethodError> {
        let changed: HashSet<Id> = changes.created.iter().chain(&changes.updated).copied().collect();
        let removed: Vec<Id> = changes.updated.iter().chain(&changes.destroyed).copied().collect();
        let added: Vec<(i64, Id)> = all
            .iter()
            .enumerate()
            .filter(|(_, id)| changed.contains(id))
            .map(|(index, id)| (index as i64, *id))
            .collect();
        self.answer(new_state, &removed, &added, Some(all.len() as i64))
    }
}

/// A filter: operators over conditions of a type.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter<C> {
    /// AND.
    And(Vec<Filter<C>>),
    /// OR.
    Or(Vec<Filter<C>>),
    /// NOT: none of them.
    Not(Vec<Filter<C>>),
    /// A condition.
    Is(C),
}

impl<C> Filter<C> {
    /// Reads a filter; conditions by the type's own function.
    pub fn read(
        value: &Value,
        condition: &mut impl FnMut(&Map<String, Value>) -> Result<C, MethodError>,
    ) -> Result<Filter<C>, MethodError> {
        let mut conditions = 0;
        Filter::read_level(value, condition, &mut conditions, 0)
    }

    fn read_level(
        value: &Value,
        condition: &mut impl FnMut(&Map<String, Value>) -> Result<C, MethodError>,
        conditions: &mut usize,
        depth: usize,
    ) -> Result<Filter<C>, MethodError> {
        let wrong = |why: &str| MethodError::InvalidArguments(format!("filter: {why}"));
        *conditions += 1;
        if depth > limits::MAX_FILTER_DEPTH || *conditions > limits::MAX_FILTER_CONDITIONS {
            return Err(MethodError::UnsupportedFilter("the filter is too large".to_owned()));
        }
        let Value::Object(object) = value else { return Err(wrong("it is an object")) };
        let Some(operator) = object.get("operator") else {
            return Ok(Filter::Is(condition(object)?));
        };
        if let Some(unknown) = object.keys().find(|name| *name != "operator" && *name != "conditions") {
            return Err(wrong(&format!("a FilterOperator has no {unknown:?}")));
        }
        let Some(Value::Array(parts)) = object.get("conditions") else {
            return Err(wrong("a FilterOperator has conditions"));
        };
        let parts = parts
            .iter()
            .map(|part| Filter::read_level(part, condition, conditions, depth + 1))
            .collect::<Result<_, _>>()?;
        match operator.as_str() {
            Some("AND") => Ok(Filter::And(parts)),
            Some("OR") => Ok(Filter::Or(parts)),
            Some("NOT") => Ok(Filter::Not(parts)),
            _ => Err(wrong("operator is AND, OR or NOT")),
        }
    }

    /// Whether the filter lets an object through.
    pub fn matches(&self, condition: &impl Fn(&C) -> bool) -> bool {
        match self {
            Filter::And(parts) => parts.iter().all(|part| part.matches(condition)),
            Filter::Or(parts) => parts.iter().any(|part| part.matches(condition)),
            Filter::Not(parts) => !parts.iter().any(|part| part.matches(condition)),
            Filter::Is(leaf) => condition(leaf),
        }
    }
}
