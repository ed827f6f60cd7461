//! EmailSubmission/query in SQL (RFC 8621, 7.3).

use crate::store::db::{Conn, Query, sql};
use crate::store::email::query::{AnchorNotFound, Start, Window};
use crate::store::error::StoreError;
use crate::store::submission::UndoStatus;
use crate::store::value::Value;
use crate::types::id::{AccountId, Id};

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// All of them.
    And(Vec<Filter>),
    /// One of them.
    Or(Vec<Filter>),
    /// None of them.
    Not(Vec<Filter>),
    /// With one of these Identities.
    Identities(Vec<Id>),
    /// Of one of these Emails.
    Emails(Vec<Id>),
    /// Of one of these threads.
    Threads(Vec<Id>),
    /// With this status.
    UndoStatus(UndoStatus),
    /// Released before, in milliseconds since 1970.
    Before(i64),
    /// Released then or later.
    After(i64),
}

/// What to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The Email.
    EmailId,
    /// Its thread.
    ThreadId,
    /// When it is released.
    SendAt,
}

/// A whole query.
#[derive(Clone, Debug)]
pub struct SubmissionQuery {
    /// Whose submissions.
    pub account: AccountId,
    /// `None`: all.
    pub filter: Option<Filter>,
    /// What to sort by, smaller first or last; empty: the newest first.
    pub sort: Vec<(SortBy, bool)>,
    /// Where the window starts.
    pub start: Start,
    /// How many ids at the most.
    pub limit: usize,
    /// Whether the total is wanted.
    pub calculate_total: bool,
}

impl SubmissionQuery {
    /// Runs the query.
    pub async fn run(&self, conn: &mut Conn) -> Result<Result<Window, AnchorNotFound>, StoreError> {
        let mut total = None;
        if self.calculate_total || matches!(self.start, Start::Position(..0)) {
            total = Some(self.select("count(*)", "", &[]).value::<i64>(conn).await?.unwrap_or(0));
        }
        let position = match self.start {
            Start::Position(position @ 0..) => position,
            Start::Position(from_end) => (total.unwrap_or(0) + from_end).max(0),
            Start::Anchor { id, offset } => match self.rank(conn, id).await? {
                Some(rank) => rank.saturating_add(offset).max(0),
                None => return Ok(Err(AnchorNotFound)),
            },
        };
        let tail = format!("{} limit ? offset ?", self.order());
        let ids = self.select("id", &tail, &[self.limit as i64, position]).column(conn).await?;
        Ok(Ok(Window { ids, position, total }))
    }

    /// All ids of the list, in its order.
    pub async fn ids(&self, conn: &mut Conn) -> Result<Vec<Id>, StoreError> {
        self.select("id", &self.order(), &[]).column(conn).await
    }

    /// How many are before this one.
    async fn rank(&self, conn: &mut Conn, id: Id) -> Result<Option<i64>, StoreError> {
        let (mut rank, mut is_found) = (0, false);
        self.select("id", &self.order(), &[])
            .each(conn, |row| {
                is_found = row.get::<Id>(0)? == id;
                rank += i64::from(!is_found);
                Ok(!is_found)
            })
            .await?;
        Ok(is_found.then_some(rank))
    }

    fn order(&self) -> String {
        let mut order = " order by ".to_owned();
        for (by, is_ascending) in &self.sort {
            order.push_str(match by {
                SortBy::EmailId => "email_id",
                SortBy::ThreadId => "thread_id",
                SortBy::SendAt => "send_at",
            });
            order.push_str(if *is_ascending { ", " } else { " desc, " });
        }
        // Whatever the sort, the order of equal ones is always the same.
        order.push_str(if self.sort.is_empty() { "send_at desc, id desc" } else { "id" });
        order
    }

    /// The statement; each `?` of its tail is a placeholder for the next of the numbers.
    fn select(&self, what: &str, tail: &str, numbers: &[i64]) -> Query {
        let mut values = vec![Value::from(self.account)];
        let mut text = format!("select {what} from submission where account_id = $1");
        if let Some(filter) = &self.filter {
            text.push_str(" and ");
            push_filter(&mut text, &mut values, filter);
        }
        let mut pieces = tail.split('?');
        text.push_str(pieces.next().unwrap_or_default());
        for (piece, number) in pieces.zip(numbers) {
            values.push(Value::Int(*number));
            text.push_str(&format!("${}{piece}", values.len()));
        }
        sql(text).bind_all(values)
    }
}

fn push_filter(text: &mut String, values: &mut Vec<Value>, filter: &Filter) {
    let mut join = |text: &mut String, parts: &[Filter], operator: &str, of_none: &str| {
        text.push('(');
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                text.push_str(operator);
            }
            push_filter(text, values, part);
        }
        if parts.is_empty() {
            text.push_str(of_none);
        }
        text.push(')');
    };
    let (condition, value) = match filter {
        Filter::And(parts) => return join(text, parts, " and ", "1 = 1"),
        Filter::Or(parts) => return join(text, parts, " or ", "1 = 0"),
        Filter::Not(parts) => {
            text.push_str("not ");
            return join(text, parts, " or ", "1 = 0");
        }
        Filter::Identities(ids) => ("identity_id = any(", Value::from(ids)),
        Filter::Emails(ids) => ("email_id = any(", Value::from(ids)),
        Filter::Threads(ids) => ("thread_id = any(", Value::from(ids)),
        Filter::UndoStatus(status) => ("undo_status = (", Value::Int(status.number())),
        Filter::Before(ms) => ("send_at < (", Value::Int(*ms)),
        Filter::After(ms) => ("send_at >= (", Value::Int(*ms)),
    };
    values.push(value);
    text.push_str(&format!("{condition}${})", values.len()));
}
