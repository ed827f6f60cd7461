//! Email/query in SQL (RFC 8621, 4.4): any filter over membership rows, any sort.
//!
//! A query is first prepared: its filter is brought into a flat form (`simplify`), and what drives it
//! is chosen (`driver`): the membership rows of one mailbox, or of mailbox 0 for all mail, or fewer
//! rows than those where something narrower is known. Text conditions come in as sets of ids. The
//! usual list (one mailbox, perhaps unread or flagged only, newest first) is a range read on a
//! covering index; the place of an anchor in it is a count on the same index.

pub mod driver;
pub mod places;
mod simplify;
mod statement;
#[cfg(test)]
mod tests;
mod threads;

use crate::store::db::{Conn, sql};
use crate::store::email::query::statement::{Key, Statement};
use crate::store::email::query::threads::ThreadSet;
use crate::store::error::StoreError;
use crate::types::id::{AccountId, Id};

/// A filter; the leaves speak of stored columns.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// All of them.
    And(Vec<Filter>),
    /// One of them.
    Or(Vec<Filter>),
    /// None of them.
    Not(Vec<Filter>),
    /// In this mailbox.
    InMailbox(Id),
    /// In some mailbox that is none of these.
    InMailboxOtherThan(Vec<Id>),
    /// Received before, in milliseconds since 1970.
    Before(i64),
    /// Received then or later.
    After(i64),
    /// This many octets or more.
    MinSize(i64),
    /// Fewer octets than this.
    MaxSize(i64),
    /// Has the keyword, or has it not.
    Keyword(String, bool),
    /// Every Email of the thread has the keyword.
    AllInThread(String),
    /// Some Email of the thread has it.
    SomeInThread(String),
    /// RFC 8621, 4.1.4.
    HasAttachment(bool),
    /// One of these: what the text index found.
    Ids(Vec<Id>),
}

impl Filter {
    /// All of these; the one itself when it is one.
    pub fn and(parts: impl IntoIterator<Item = Filter>) -> Filter {
        let mut parts: Vec<Filter> = parts.into_iter().collect();
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                Filter::And(parts)
            }
        }
    }
}

/// What to sort by.
#[derive(Clone, Debug, PartialEq)]
pub enum SortBy {
    /// When it was received.
    ReceivedAt,
    /// Its Date header.
    SentAt,
    /// Octets.
    Size,
    /// The first From address.
    From,
    /// The first To address.
    To,
    /// The base subject.
    Subject,
    /// Emails with the keyword after those without.
    Keyword(String),
    /// Threads of which all have the keyword after the others.
    AllInThread(String),
    /// Threads of which some have the keyword after the others.
    SomeInThread(String),
}

/// A comparator.
#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    /// What to compare.
    pub by: SortBy,
    /// Smaller first.
    pub is_ascending: bool,
}

/// Where the window of ids starts (RFC 8620, 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the front; negative from the end.
    Position(i64),
    /// At an Email, moved by an offset.
    Anchor { id: Id, offset: i64 },
}

/// A whole query.
#[derive(Clone, Debug)]
pub struct EmailQuery {
    /// Whose mail.
    pub account: AccountId,
    /// `None`: all mail.
    pub filter: Option<Filter>,
    /// Empty: newest first.
    pub sort: Vec<Sort>,
    /// Only the first Email of each thread.
    pub collapse_threads: bool,
    /// Where the window starts.
    pub start: Start,
    /// How many ids at the most.
    pub limit: usize,
    /// Whether the total is wanted.
    pub calculate_total: bool,
}

/// The window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its Emails.
    pub ids: Vec<Id>,
    /// The index of the first of them in the whole list.
    pub position: i64,
    /// The length of the whole list.
    pub total: Option<i64>,
}

/// Why there is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorNotFound;

/// Rows of the first and of the largest piece in which a list is read.
const FIRST_PIECE: i64 = 100;
const LARGEST_PIECE: i64 = 20_000;

/// Positions up to this one are near the front.
const NEAR_FRONT: i64 = 1_000;

impl EmailQuery {
    /// Works out how the query is best run. Cheap: a few point reads at the most.
    pub async fn prepare(self, conn: &mut Conn) -> Result<Prepared, StoreError> {
        let parts = simplify::conjunction(self.filter.as_ref());
        let chosen = driver::choose(conn, &self, &parts).await?;
        let statement = Statement::new(self.account, chosen.driver, &chosen.rest, &self.sort);
        Ok(Prepared { query: self, parts, rest: chosen.rest, statement })
    }

    /// Whether the list is in the order of the received dates, which the indexes have too.
    fn is_by_date(&self) -> bool {
        matches!(self.sort.as_slice(), [] | [Sort { by: SortBy::ReceivedAt, .. }])
    }
}

/// A query that is ready to run in the snapshot in which it was prepared.
#[derive(Clone, Debug)]
pub struct Prepared {
    query: EmailQuery,
    /// The filter: all of these.
    parts: Vec<Filter>,
    /// What of it the driving rows do not decide.
    rest: Vec<Filter>,
    statement: Statement,
}

impl Prepared {
    /// Whether the query is a short range read, to be run in place, or a count, scan or sort that
    /// belongs on a thread of its own.
    pub fn is_short(&self) -> bool {
        let is_dense = self.rest.iter().all(|part| match part {
            Filter::Keyword(keyword, on) => is_indexed_flag(keyword, *on),
            Filter::Before(_) | Filter::After(_) => true,
            _ => false,
        });
        let is_counted = !self.query.calculate_total || self.has_kept_total();
        let is_near_front = matches!(self.query.start, Start::Position(0..=NEAR_FRONT));
        is_dense && is_counted && is_near_front && self.query.is_by_date()
    }

    /// Runs the query.
    pub async fn run(&self, conn: &mut Conn) -> Result<Result<Window, AnchorNotFound>, StoreError> {
        if self.query.collapse_threads {
            return self.run_collapsed(conn).await;
        }
        let total = match self.query.start {
            _ if self.query.calculate_total => Some(self.total(conn).await?),
            Start::Position(..0) => Some(self.total(conn).await?),
            // Known for nothing, it lets a deep page be read from the nearer end.
            Start::Position(position) if position > NEAR_FRONT => self.kept_total(conn).await?,
            _ => None,
        };
        let (position, ids) = match self.query.start {
            Start::Position(position) => {
                let length = total.unwrap_or(i64::MAX);
                let position = if position < 0 { (length.saturating_add(position)).max(0) } else { position };
                (position, self.page(conn, position, total).await?)
            }
            Start::Anchor { id, offset } => match self.page_at(conn, id, offset).await? {
                Some(page) => page,
                None => return Ok(Err(AnchorNotFound)),
            },
        };
        Ok(Ok(Window { ids, position, total: total.filter(|_| self.query.calculate_total) }))
    }

    /// The ids from a position on, read from the nearer end when the length of the list is known.
    async fn page(&self, conn: &mut Conn, position: i64, total: Option<i64>) -> Result<Vec<Id>, StoreError> {
        let limit = i64::try_from(self.query.limit).unwrap_or(i64::MAX);
        let left = total.map_or(i64::MAX, |total| total - position);
        if left <= 0 {
            return Ok(Vec::new());
        }
        if left >= position {
            return self.statement.rows(limit, position).column(conn).await;
        }
        let limit = limit.min(left);
        let mut ids: Vec<Id> = self.statement.reversed().rows(limit, left - limit).column(conn).await?;
        ids.reverse();
        Ok(ids)
    }

    /// The ids from an anchor on, moved by an offset, and the position of the first; `None` when the
    /// anchor is not in the list.
    async fn page_at(
        &self,
        conn: &mut Conn,
        anchor: Id,
        offset: i64,
    ) -> Result<Option<(i64, Vec<Id>)>, StoreError> {
        let Some(key) = self.statement.key_of(conn, anchor).await? else { return Ok(None) };
        let rank = self.statement.count_before(&key).value::<i64>(conn).await?.unwrap_or(0);
        let position = rank.saturating_add(offset).max(0);
        let limit = i64::try_from(self.query.limit).unwrap_or(i64::MAX);
        // From the anchor itself, in both directions: what is far from it is not read.
        let ahead = (rank - position).max(0);
        if position < ahead {
            return Ok(Some((position, self.page(conn, position, None).await?)));
        }
        let mut ids: Vec<Id> = Vec::new();
        if ahead > 0 {
            let wanted = limit.min(ahead);
            ids = self.statement.before(&key).reversed().rows(wanted, ahead - wanted).column(conn).await?;
            ids.reverse();
        }
        let wanted = limit - ids.len() as i64;
        if wanted > 0 {
            let skipped = (position - rank).max(0);
            ids.extend(self.statement.from(&key).rows(wanted, skipped).column::<Id>(conn).await?);
        }
        Ok(Some((position, ids)))
    }

    async fn run_collapsed(&self, conn: &mut Conn) -> Result<Result<Window, AnchorNotFound>, StoreError> {
        // Reading stops at the end of the window as soon as that is known.
        let mut end = match self.query.start {
            Start::Position(position @ 0..) => Some(self.end_of(position)),
            _ => None,
        };
        let mut total = match end {
            Some(_) if self.query.calculate_total => Some(self.total(conn).await?),
            _ => None,
        };
        let mut start = match self.query.start {
            Start::Position(position @ 0..) => Some(position),
            _ => None,
        };
        let end_at_most = total.and_then(|total| usize::try_from(total).ok());
        let mut seen = ThreadSet::default();
        let mut ids: Vec<Id> = Vec::new();
        self.walk(conn, |id, thread| {
            let is_full = end.is_some_and(|end| ids.len() >= end)
                || end_at_most.is_some_and(|length| ids.len() >= length);
            if !is_full && seen.insert(thread) {
                if let Start::Anchor { id: anchor, offset } = self.query.start
                    && anchor == id
                {
                    let position = (ids.len() as i64).saturating_add(offset).max(0);
                    start = Some(position);
                    end = Some(self.end_of(position));
                }
                ids.push(id);
            }
            !is_full
        })
        .await?;
        let position = match (start, self.query.start) {
            (Some(position), _) => position,
            (None, Start::Position(from_end)) => (ids.len() as i64).saturating_add(from_end).max(0),
            // The anchor may stand for its thread only if it is the one that is listed.
            (None, Start::Anchor { .. }) => return Ok(Err(AnchorNotFound)),
        };
        if self.query.calculate_total && total.is_none() {
            total = Some(match self.query.start {
                Start::Position(_) => ids.len() as i64,
                Start::Anchor { .. } => self.total(conn).await?,
            });
        }
        let skipped = usize::try_from(position).unwrap_or(usize::MAX);
        let ids = ids.into_iter().skip(skipped).take(self.query.limit).collect();
        Ok(Ok(Window { ids, position, total }))
    }

    /// Hands Email and thread of each row of the list to `visit` until that answers false. The list is
    /// read in growing pieces, so that little is read which nobody visits.
    async fn walk(
        &self,
        conn: &mut Conn,
        mut visit: impl FnMut(Id, Id) -> bool + Send,
    ) -> Result<(), StoreError> {
        let mut piece = (2 * self.query.limit as i64).clamp(FIRST_PIECE, LARGEST_PIECE);
        let mut read = 0;
        let mut statement = self.statement.rows(piece, 0);
        loop {
            let (mut rows, mut last) = (0, None);
            let mut wants_more = true;
            statement
                .each(conn, |row| {
                    let id = row.get(0)?;
                    rows += 1;
                    last = Some((row.get::<i64>(2)?, id));
                    wants_more = visit(id, row.get(1)?);
                    Ok(wants_more)
                })
                .await?;
            let Some((received_at, id)) = last.filter(|_| wants_more && rows == piece) else { return Ok(()) };
            read += rows;
            statement = if self.query.is_by_date() {
                piece = (4 * piece).min(LARGEST_PIECE);
                self.statement.after(&Key::of_date(received_at, id)).rows(piece, 0)
            } else {
                // Each piece is a sort of the whole list: few of them.
                piece = piece.saturating_mul(16);
                self.statement.rows(piece, read)
            };
        }
    }

    fn end_of(&self, position: i64) -> usize {
        usize::try_from(position).unwrap_or(usize::MAX).saturating_add(self.query.limit)
    }

    /// Whether a counter has the length of the list.
    fn has_kept_total(&self) -> bool {
        matches!(self.parts.as_slice(), [] | [Filter::InMailbox(_)])
    }

    /// The length of the list, where a counter has it.
    async fn kept_total(&self, conn: &mut Conn) -> Result<Option<i64>, StoreError> {
        let collapses = self.query.collapse_threads;
        let text = match (self.parts.as_slice(), collapses) {
            ([], true) => "select used_threads from account where id = $1",
            ([], false) => "select used_emails from account where id = $1",
            ([Filter::InMailbox(_)], true) => {
                "select total_threads from mailbox where account_id = $1 and id = $2"
            }
            ([Filter::InMailbox(_)], false) => {
                "select total_emails from mailbox where account_id = $1 and id = $2"
            }
            _ => return Ok(None),
        };
        let mut query = sql(text).bind(self.query.account);
        if let [Filter::InMailbox(id)] = self.parts.as_slice() {
            query = query.bind(*id);
        }
        // A mailbox that is not there is empty.
        Ok(Some(query.value(conn).await?.unwrap_or(0)))
    }

    /// The length of the list: a counter where one is kept.
    async fn total(&self, conn: &mut Conn) -> Result<i64, StoreError> {
        if let Some(total) = self.kept_total(conn).await? {
            return Ok(total);
        }
        if let ([Filter::InMailboxOtherThan(ids)], false) =
            (self.parts.as_slice(), self.query.collapse_threads)
        {
            return driver::count_elsewhere(conn, self.query.account, ids).await;
        }
        if !self.query.collapse_threads {
            return Ok(self.statement.count().value(conn).await?.unwrap_or(0));
        }
        let mut seen = ThreadSet::default();
        self.statement
            .threads()
            .each(conn, |row| {
                seen.insert(row.get(0)?);
                Ok(true)
            })
            .await?;
        Ok(seen.len() as i64)
    }
}

/// Whether a partial index holds the Emails of which this is true.
fn is_indexed_flag(keyword: &str, on: bool) -> bool {
    (keyword == "$seen" && !on) || (keyword == "$flagged" && on)
}
