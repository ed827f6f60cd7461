//! Where the dialects of the engines differ: statements are written for PostgreSQL, one row each.

use std::fmt::Write;

/// SQLite's form of a statement: `$n` is `?n` (SQLite numbers `$n` by order of appearance), a list is
/// a table-valued parameter, and row locks are not needed where there is one writer.
pub fn to_sqlite(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.find(['$', '=', 'f']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(list) = rest.strip_prefix("= any($") {
            let number: String = list.chars().take_while(char::is_ascii_digit).collect();
            out.push_str("in (select value from rarray(?");
            out.push_str(&number);
            out.push_str("))");
            rest = list[number.len()..].strip_prefix(')').unwrap_or_default();
        } else if let Some(after) = rest.strip_prefix("for update") {
            rest = after.strip_prefix(" skip locked").unwrap_or(after);
        } else if let Some(after) = rest.strip_prefix('$') {
            out.push('?');
            rest = after;
        } else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// The type of the list that holds one column of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListType {
    /// `bigint[]`.
    Ints,
    /// `text[]`.
    Texts,
    /// `bytea[]`.
    Blobs,
    /// The value is the same in every row: no list.
    Same,
}

impl ListType {
    fn cast(self) -> &'static str {
        match self {
            ListType::Ints => "::bigint[]",
            ListType::Texts => "::text[]",
            ListType::Blobs => "::bytea[]",
            ListType::Same => "",
        }
    }
}

/// PostgreSQL's form of a statement that runs once for each row of a batch, as one statement over
/// lists. The first placeholder is the account or the lane, the same for all: it stays a plain value,
/// so that a sharded database asks one shard.
///
/// An insert unnests its values in place; an update or delete joins the rows as `v`. Keys must not
/// come twice in a batch.
pub fn to_batch(text: &str, columns: &[ListType]) -> String {
    if text.starts_with("insert") {
        return replace_placeholders(text, |number| match columns.get(number - 1) {
            Some(ListType::Same) | None => format!("${number}"),
            Some(list) => format!("unnest(${number}{})", list.cast()),
        });
    }
    let mut rows = String::new();
    for (place, list) in columns.iter().enumerate().filter(|(_, list)| **list != ListType::Same) {
        let comma = if rows.is_empty() { "" } else { ", " };
        let number = place + 1;
        let _ = write!(rows, "{comma}unnest(${number}{}) as c{number}", list.cast());
    }
    let text = replace_placeholders(text, |number| match columns.get(number - 1) {
        Some(ListType::Same) | None => format!("${number}"),
        Some(_) => format!("v.c{number}"),
    });
    if rows.is_empty() {
        return text;
    }
    let joins = if text.starts_with("delete") { "using" } else { "from" };
    text.replacen(" where ", &format!(" {joins} (select {rows}) v where "), 1)
}

fn replace_placeholders(text: &str, replacement: impl Fn(usize) -> String) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        match rest[..digits].parse() {
            Ok(number) => out.push_str(&replacement(number)),
            Err(_) => out.push('$'),
        }
        rest = &rest[digits..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_of_sqlite() {
        assert_eq!(
            to_sqlite("select a from t where b = $1 and c = any($12) for update skip locked"),
            "select a from t where b = ?1 and c in (select value from rarray(?12)) "
        );
    }

    #[test]
    fn batches_are_statements_over_lists() {
        use ListType::{Ints, Same, Texts};
        assert_eq!(
            to_batch(
                "insert into t (a, b, c) values ($1, $2, $3) on conflict do nothing",
                &[Same, Ints, Texts]
            ),
            "insert into t (a, b, c) values ($1, unnest($2::bigint[]), unnest($3::text[])) on conflict do nothing"
        );
        assert_eq!(
            to_batch("update t set x = x + $3 where a = $1 and id = $2", &[Same, Ints, Ints]),
            "update t set x = x + v.c3 from (select unnest($2::bigint[]) as c2, unnest($3::bigint[]) as c3) v \
             where a = $1 and id = v.c2"
        );
        assert_eq!(
            to_batch("delete from t where a = $1 and id = $2", &[Same, Ints]),
            "delete from t using (select unnest($2::bigint[]) as c2) v where a = $1 and id = v.c2"
        );
        assert_eq!(
            to_batch("delete from t where a = $1 and id = $2", &[Same, Same]),
            "delete from t where a = $1 and id = $2"
        );
    }
}
