//! Email/query in SQL (RFC 8621, 4.4): any filter over membership rows, any sort.
//!
//! A query is driven by the membership rows of one mailbox, or of mailbox 0 for all mail. Text
//! conditions come in as sets of ids. The usual list (one mailbox, perhaps unread or flagged only,
//! newest first) is a range read on a covering index.

use std::collections::HashSet;

use crate::store::db::{Conn, Query, sql};
use crate::store::email::place::ALL_MAIL;
use crate::store::error::StoreError;
use crate::store::value::Value;
use crate::types::id::{AccountId, Id};
use crate::types::keyword::{Flags, flag_of};

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

impl EmailQuery {
    /// Whether the query is a short range read, to be run in place, or a scan or sort that belongs
    /// on a thread of its own.
    pub fn is_short(&self) -> bool {
        let is_range = match &self.filter {
            None | Some(Filter::InMailbox(_)) => true,
            Some(Filter::And(parts)) => {
                let has_mailbox = parts.iter().any(|part| matches!(part, Filter::InMailbox(_)));
                has_mailbox
                    && parts.len() == 2
                    && parts.iter().all(|part| match part {
                        Filter::InMailbox(_) => true,
                        Filter::Keyword(keyword, on) => {
                            (keyword == "$seen" && !on) || (keyword == "$flagged" && *on)
                        }
                        _ => false,
                    })
            }
            Some(_) => false,
        };
        let is_newest_first = matches!(self.sort.as_slice(), [] | [Sort { by: SortBy::ReceivedAt, .. }]);
        is_range && is_newest_first && matches!(self.start, Start::Position(0..=1_000))
    }

    /// Runs the query.
    pub async fn run(&self, conn: &mut Conn) -> Result<Result<Window, AnchorNotFound>, StoreError> {
        let mut plan = Plan::of(self);
        if self.collapse_threads {
            return self.run_collapsed(conn, &mut plan).await;
        }
        let mut total = None;
        if self.calculate_total || matches!(self.start, Start::Position(..0)) {
            total = Some(self.total(conn, &plan).await?);
        }
        let position = match self.start {
            Start::Position(position @ 0..) => position,
            Start::Position(from_end) => (total.unwrap_or(0) + from_end).max(0),
            Start::Anchor { id, offset } => match self.rank(conn, &plan, id).await? {
                Some(rank) => (rank + offset).max(0),
                None => return Ok(Err(AnchorNotFound)),
            },
        };
        let limit = plan.bind(Value::Int(self.limit as i64));
        let offset = plan.bind(Value::Int(position));
        let ids = plan.select("m.email_id", &format!(" limit {limit} offset {offset}")).column(conn).await?;
        Ok(Ok(Window { ids, position, total: total.filter(|_| self.calculate_total) }))
    }

    /// The places in the whole list of those candidates that are in it, none after `up_to_id`.
    pub async fn places(
        &self,
        conn: &mut Conn,
        candidates: &HashSet<Id>,
        up_to_id: Option<Id>,
    ) -> Result<Places, StoreError> {
        let mut out = Places { places: Vec::new(), total: 0 };
        let mut threads = HashSet::new();
        let mut is_past_end = false;
        Plan::of(self)
            .select("m.email_id, m.thread_id", "")
            .each(conn, |row| {
                let id = row.get::<Id>(0)?;
                if self.collapse_threads && !threads.insert(row.get::<Id>(1)?) {
                    return Ok(true);
                }
                if candidates.contains(&id) && !is_past_end {
                    out.places.push((out.total, id));
                }
                is_past_end |= up_to_id == Some(id);
                out.total += 1;
                Ok(true)
            })
            .await?;
        Ok(out)
    }

    /// How many Emails are before this one.
    async fn rank(&self, conn: &mut Conn, plan: &Plan, id: Id) -> Result<Option<i64>, StoreError> {
        let mut rank = 0;
        let mut found = false;
        plan.clone()
            .select("m.email_id", "")
            .each(conn, |row| {
                found = row.get::<Id>(0)? == id;
                rank += i64::from(!found);
                Ok(!found)
            })
            .await?;
        Ok(found.then_some(rank))
    }

    async fn run_collapsed(
        &self,
        conn: &mut Conn,
        plan: &mut Plan,
    ) -> Result<Result<Window, AnchorNotFound>, StoreError> {
        // From the front with a known window, reading stops at its end; else all is read.
        let known_end = match self.start {
            Start::Position(position @ 0..) => Some(position as usize + self.limit),
            _ => None,
        };
        let mut seen = HashSet::new();
        let mut ids: Vec<Id> = Vec::new();
        plan.clone()
            .select("m.email_id, m.thread_id", "")
            .each(conn, |row| {
                let is_full = known_end.is_some_and(|end| ids.len() >= end);
                if !is_full && seen.insert(row.get::<Id>(1)?) {
                    ids.push(row.get(0)?);
                }
                Ok(!is_full)
            })
            .await?;
        let position = match self.start {
            Start::Position(position @ 0..) => position,
            Start::Position(from_end) => (ids.len() as i64 + from_end).max(0),
            // The anchor may stand for its thread only if it is the one that is listed.
            Start::Anchor { id, offset } => match ids.iter().position(|listed| *listed == id) {
                Some(rank) => (rank as i64 + offset).max(0),
                None => return Ok(Err(AnchorNotFound)),
            },
        };
        let total = match (self.calculate_total, known_end) {
            (false, _) => None,
            (true, None) => Some(ids.len() as i64),
            (true, Some(end)) if ids.len() < end => Some(ids.len() as i64),
            (true, Some(_)) => Some(self.total(conn, plan).await?),
        };
        let ids = ids.into_iter().skip(position as usize).take(self.limit).collect();
        Ok(Ok(Window { ids, position, total }))
    }

    /// The length of the whole list: a counter where one is kept.
    async fn total(&self, conn: &mut Conn, plan: &Plan) -> Result<i64, StoreError> {
        let counted = match &self.filter {
            None if !self.collapse_threads => {
                sql("select used_emails from account where id = $1").bind(self.account).value(conn).await?
            }
            Some(Filter::InMailbox(id)) => {
                let column = if self.collapse_threads { "total_threads" } else { "total_emails" };
                sql(format!("select {column} from mailbox where account_id = $1 and id = $2"))
                    .bind(self.account)
                    .bind(*id)
                    .value(conn)
                    .await?
            }
            _ => None,
        };
        if let Some(total) = counted {
            return Ok(total);
        }
        let what = if self.collapse_threads { "count(distinct m.thread_id)" } else { "count(*)" };
        Ok(plan.clone().unsorted(what).value(conn).await?.unwrap_or(0))
    }
}

/// Where Emails stand in a list.
#[derive(Debug)]
pub struct Places {
    /// Place and Email, in the order of the list.
    pub places: Vec<(i64, Id)>,
    /// The length of the list.
    pub total: i64,
}

/// The Emails of every thread that an Email changed in; `None` when they are more than `limit`.
/// Destroyed Emails have left their rows, but not their thread's other Emails: those are found by
/// the change of the thread itself.
pub async fn in_touched_threads(
    conn: &mut Conn,
    account: AccountId,
    threads: &[Id],
    limit: usize,
) -> Result<Option<Vec<Id>>, StoreError> {
    let ids: Vec<Id> = sql("select id from email where account_id = $1 and thread_id = any($2) limit $3")
        .bind(account)
        .bind(threads)
        .bind(limit as i64 + 1)
        .column(conn)
        .await?;
    Ok((ids.len() <= limit).then_some(ids))
}

/// The threads of these Emails, as far as they exist.
pub async fn threads_of(conn: &mut Conn, account: AccountId, emails: &[Id]) -> Result<Vec<Id>, StoreError> {
    sql("select distinct thread_id from email where account_id = $1 and id = any($2)")
        .bind(account)
        .bind(emails)
        .column(conn)
        .await
}

/// The pieces of the statement.
#[derive(Clone)]
struct Plan {
    values: Vec<Value>,
    conditions: Vec<String>,
    order: String,
    needs_email: bool,
}

impl Plan {
    fn of(query: &EmailQuery) -> Plan {
        let mut plan = Plan {
            values: vec![query.account.into()],
            conditions: Vec::new(),
            order: String::new(),
            needs_email: false,
        };
        // One InMailbox that everything must satisfy chooses the rows that are read.
        let mut driver = ALL_MAIL;
        let mut rest = None;
        match &query.filter {
            Some(Filter::InMailbox(id)) => driver = *id,
            Some(Filter::And(parts)) => {
                let at = parts.iter().position(|part| matches!(part, Filter::InMailbox(_)));
                let mut parts = parts.clone();
                if let Some(at) = at
                    && let Filter::InMailbox(id) = parts.remove(at)
                {
                    driver = id;
                }
                rest = Some(Filter::And(parts));
            }
            other => rest = other.clone(),
        }
        let driver = plan.bind(driver.into());
        plan.condition(&format!("m.mailbox_id = {driver}"));
        match rest {
            Some(Filter::And(parts)) => {
                for part in &parts {
                    let text = plan.filter(part);
                    plan.condition(&text);
                }
            }
            Some(filter) => {
                let text = plan.filter(&filter);
                plan.condition(&text);
            }
            None => {}
        }
        plan.order = plan.order_of(&query.sort);
        plan
    }

    /// Binds a value; its placeholder.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn condition(&mut self, text: &str) {
        self.conditions.push(text.to_owned());
    }

    fn filter(&mut self, filter: &Filter) -> String {
        match filter {
            Filter::And(parts) => self.join(parts, " and ", "1 = 1"),
            Filter::Or(parts) => self.join(parts, " or ", "1 = 0"),
            Filter::Not(parts) => format!("not {}", self.join(parts, " or ", "1 = 0")),
            Filter::InMailbox(id) => {
                let mailbox = self.bind((*id).into());
                format!("exists ({OTHER_ROWS} and x.mailbox_id = {mailbox})")
            }
            Filter::InMailboxOtherThan(ids) => {
                let list = self.bind(Value::from(ids));
                format!("exists ({OTHER_ROWS} and x.mailbox_id <> 0 and not (x.mailbox_id = any({list})))")
            }
            Filter::Before(ms) => format!("m.received_at < {}", self.bind((*ms).into())),
            Filter::After(ms) => format!("m.received_at >= {}", self.bind((*ms).into())),
            Filter::MinSize(size) => {
                self.needs_email = true;
                format!("e.size >= {}", self.bind((*size).into()))
            }
            Filter::MaxSize(size) => {
                self.needs_email = true;
                format!("e.size < {}", self.bind((*size).into()))
            }
            Filter::Keyword(keyword, on) => self.keyword("m", keyword, *on),
            Filter::AllInThread(keyword) => {
                let lacks = self.keyword("a", keyword, false);
                format!("not exists ({THREAD_ROWS} and {lacks})")
            }
            Filter::SomeInThread(keyword) => {
                let has = self.keyword("a", keyword, true);
                format!("exists ({THREAD_ROWS} and {has})")
            }
            Filter::HasAttachment(has) => {
                self.needs_email = true;
                format!("e.has_attachment = {}", i64::from(*has))
            }
            Filter::Ids(ids) => {
                let list = self.bind(Value::from(ids));
                format!("m.email_id = any({list})")
            }
        }
    }

    fn join(&mut self, parts: &[Filter], operator: &str, empty: &str) -> String {
        let texts: Vec<String> = parts.iter().map(|part| self.filter(part)).collect();
        if texts.is_empty() { format!("({empty})") } else { format!("({})", texts.join(operator)) }
    }

    /// Whether the membership row `alias` has a keyword. The two literal forms of the partial
    /// indexes come out of here for `$seen` absent and `$flagged` present.
    fn keyword(&mut self, alias: &str, keyword: &str, on: bool) -> String {
        if let Some(Flags(bit)) = flag_of(keyword) {
            let wanted = if on { bit } else { 0 };
            return format!("{alias}.flags & {bit} = {wanted}");
        }
        let keyword = self.bind(keyword.into());
        let not = if on { "" } else { "not " };
        format!(
            "{not}exists (select 1 from keyword k where k.account_id = $1 and k.keyword = {keyword} \
             and k.received_at = {alias}.received_at and k.email_id = {alias}.email_id)"
        )
    }

    fn order_of(&mut self, sort: &[Sort]) -> String {
        let mut terms = Vec::new();
        for Sort { by, is_ascending } in sort {
            let column = match by {
                SortBy::ReceivedAt => "m.received_at".to_owned(),
                SortBy::SentAt => self.email_column("sent_at"),
                SortBy::Size => self.email_column("size"),
                SortBy::From => self.email_column("from_key"),
                SortBy::To => self.email_column("to_key"),
                SortBy::Subject => self.email_column("subject_key"),
                SortBy::Keyword(keyword) => as_number(&self.keyword("m", keyword, true)),
                SortBy::AllInThread(keyword) => {
                    as_number(&self.filter(&Filter::AllInThread(keyword.clone())))
                }
                SortBy::SomeInThread(keyword) => {
                    as_number(&self.filter(&Filter::SomeInThread(keyword.clone())))
                }
            };
            terms.push(format!("{column}{}", if *is_ascending { "" } else { " desc" }));
        }
        // The order must be total, and the same in every query: newest first where the client does
        // not say, by id last, in the direction of the received date so that an index serves both.
        let received = sort.iter().find(|sort| sort.by == SortBy::ReceivedAt);
        if received.is_none() {
            terms.push("m.received_at desc".to_owned());
        }
        let is_ascending = received.is_some_and(|sort| sort.is_ascending);
        terms.push(format!("m.email_id{}", if is_ascending { "" } else { " desc" }));
        terms.join(", ")
    }

    fn email_column(&mut self, column: &str) -> String {
        self.needs_email = true;
        format!("e.{column}")
    }

    fn select(self, what: &str, tail: &str) -> Query {
        let order = self.order.clone();
        let (text, values) = self.text(what);
        sql(format!("{text} order by {order}{tail}")).bind_all(values)
    }

    fn unsorted(self, what: &str) -> Query {
        let (text, values) = self.text(what);
        sql(text).bind_all(values)
    }

    fn text(self, what: &str) -> (String, Vec<Value>) {
        let join =
            if self.needs_email { " join email e on e.account_id = $1 and e.id = m.email_id" } else { "" };
        let conditions = self.conditions.join(" and ");
        let text = format!("select {what} from membership m{join} where m.account_id = $1 and {conditions}");
        (text, self.values)
    }
}

/// The other membership rows of the Email in hand.
const OTHER_ROWS: &str = "select 1 from membership x where x.account_id = $1 and x.email_id = m.email_id";
/// The all-mail rows of the thread in hand.
const THREAD_ROWS: &str = "select 1 from email t join membership a on a.account_id = $1 and a.mailbox_id = 0 \
                           and a.received_at = t.received_at and a.email_id = t.id \
                           where t.account_id = $1 and t.thread_id = m.thread_id";

fn as_number(condition: &str) -> String {
    format!("case when {condition} then 1 else 0 end")
}
