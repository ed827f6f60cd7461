//! A filter brought into a flat form that says the same: a list of conditions that must all hold,
//! NOT only in front of conditions that have no opposite.
//!
//! Clients write one thing in many ways: an AND in an AND, an OR of one, NOT of `hasKeyword`. What
//! drives a query is found among the conditions that all must hold, so they are brought to the top.

use std::collections::HashSet;

use crate::store::email::query::Filter;
use crate::types::id::Id;

/// The conditions that must all hold. The depth of a filter is limited where it is read.
pub fn conjunction(filter: Option<&Filter>) -> Vec<Filter> {
    let mut out = Vec::new();
    match filter.map(|filter| simplify(filter, true)) {
        None => {}
        Some(Filter::And(parts)) => out = parts,
        Some(other) => out.push(other),
    }
    out
}

/// The filter (`is`), or its opposite.
fn simplify(filter: &Filter, is: bool) -> Filter {
    let opposite = |plain: Filter| if is { filter.clone() } else { plain };
    match filter {
        Filter::And(parts) if is => all(parts, is),
        Filter::Or(parts) if !is => all(parts, is),
        Filter::And(parts) => any(parts, is),
        Filter::Or(parts) => any(parts, is),
        Filter::Not(parts) if is => all(parts, false),
        Filter::Not(parts) => any(parts, true),
        Filter::Before(ms) => opposite(Filter::After(*ms)),
        Filter::After(ms) => opposite(Filter::Before(*ms)),
        Filter::MinSize(size) => opposite(Filter::MaxSize(*size)),
        Filter::MaxSize(size) => opposite(Filter::MinSize(*size)),
        Filter::Keyword(keyword, on) => opposite(Filter::Keyword(keyword.clone(), !on)),
        Filter::HasAttachment(has) => opposite(Filter::HasAttachment(!has)),
        Filter::InMailbox(_)
        | Filter::InMailboxOtherThan(_)
        | Filter::AllInThread(_)
        | Filter::SomeInThread(_)
        | Filter::Ids(_) => opposite(Filter::Not(vec![filter.clone()])),
    }
}

/// All of these, each as it is or its opposite. Sets of ids become what they have in common.
fn all(parts: &[Filter], is: bool) -> Filter {
    let mut out: Vec<Filter> = Vec::with_capacity(parts.len());
    let mut common: Option<Vec<Id>> = None;
    let mut add = |part: Filter| match part {
        Filter::Ids(ids) => {
            common = Some(match common.take() {
                None => ids,
                Some(known) => {
                    let ids: HashSet<Id> = ids.into_iter().collect();
                    known.into_iter().filter(|id| ids.contains(id)).collect()
                }
            });
        }
        part if out.contains(&part) => {}
        part => out.push(part),
    };
    for part in parts {
        match simplify(part, is) {
            Filter::And(inner) => inner.into_iter().for_each(&mut add),
            part => add(part),
        }
    }
    out.extend(common.map(Filter::Ids));
    Filter::and(out)
}

/// One of these, each as it is or its opposite. Sets of ids become one.
fn any(parts: &[Filter], is: bool) -> Filter {
    let mut out: Vec<Filter> = Vec::with_capacity(parts.len());
    let mut ids: Option<Vec<Id>> = None;
    let mut add = |part: Filter| match part {
        Filter::Ids(more) => ids.get_or_insert_default().extend(more),
        part if out.contains(&part) => {}
        part => out.push(part),
    };
    for part in parts {
        match simplify(part, is) {
            Filter::Or(inner) => inner.into_iter().for_each(&mut add),
            part => add(part),
        }
    }
    out.extend(ids.map(Filter::Ids));
    match out.pop() {
        Some(only) if out.is_empty() => only,
        last => {
            out.extend(last);
            Filter::Or(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyword(name: &str, on: bool) -> Filter {
        Filter::Keyword(name.to_owned(), on)
    }

    fn flat(filter: Filter) -> Vec<Filter> {
        conjunction(Some(&filter))
    }

    #[test]
    fn what_must_hold_comes_to_the_top() {
        let inbox = Filter::InMailbox(Id(5));
        let wanted = vec![inbox.clone(), keyword("$seen", false)];
        for filter in [
            Filter::And(vec![Filter::And(vec![inbox.clone()]), keyword("$seen", false)]),
            Filter::And(vec![Filter::Or(vec![inbox.clone()]), Filter::Not(vec![keyword("$seen", true)])]),
            Filter::Not(vec![Filter::Not(vec![inbox.clone()]), keyword("$seen", true)]),
            Filter::Not(vec![Filter::Or(vec![Filter::Not(vec![inbox.clone()]), keyword("$seen", true)])]),
            Filter::And(vec![inbox.clone(), keyword("$seen", false), inbox.clone()]),
        ] {
            assert_eq!(flat(filter.clone()), wanted, "{filter:?}");
        }
        assert_eq!(conjunction(None), []);
        assert_eq!(flat(Filter::And(Vec::new())), []);
        assert_eq!(flat(Filter::Not(vec![inbox.clone()])), [Filter::Not(vec![inbox])]);
    }

    #[test]
    fn the_opposite_of_all_is_not_one() {
        let both = Filter::And(vec![Filter::Before(5), Filter::MinSize(7)]);
        assert_eq!(flat(Filter::Not(vec![both])), [Filter::Or(vec![Filter::After(5), Filter::MaxSize(7)])]);
        let none = Filter::Or(Vec::new());
        assert_eq!(flat(Filter::Not(vec![none.clone()])), []);
        assert_eq!(flat(Filter::Not(vec![Filter::And(Vec::new())])), [none]);
    }

    #[test]
    fn sets_of_ids_become_one() {
        let ids = |ids: &[i64]| Filter::Ids(ids.iter().map(|id| Id(*id)).collect());
        assert_eq!(flat(Filter::And(vec![ids(&[1, 2, 3]), ids(&[3, 1])])), [ids(&[1, 3])]);
        assert_eq!(flat(Filter::Or(vec![ids(&[1]), ids(&[2])])), [ids(&[1, 2])]);
        assert_eq!(flat(Filter::Not(vec![ids(&[1])])), [Filter::Not(vec![ids(&[1])])]);
    }
}
