//! The log of events of a domain.
//!
//! Each event has a number, given under a lock on the log's head, so that numbers are committed in
//! their order: who has read up to one has missed none before it. An event that is brought twice is
//! there once. The events of one account stand in the order of its transactions, which is also that
//! of their numbers.

use std::fmt;
use std::str::FromStr;

use crate::store::Store;
use crate::store::db::{Conn, Query, sql};
use crate::store::error::StoreError;
use crate::store::event::{Place, Waiting};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::value::{Row, Value};
use crate::types::event::{EventData, EventKind, EventKinds};
use crate::types::id::{AccountId, Id};

/// Events that one transaction removes.
const TRIMMED_AT_ONCE: i64 = 1_000;
/// Events of an account that one transaction removes.
const BATCH: i64 = 1_000;
/// Events that one read looks at, wanted or not.
const LOOKED_AT: usize = 1_000;

/// An event in a log.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedEvent {
    /// Its number.
    pub seq: i64,
    /// Whose mail it is.
    pub account: AccountId,
    /// The primary address of that account.
    pub account_name: String,
    /// Where it stands among those of the account.
    pub place: Place,
    /// Its id.
    pub id: Id,
    /// When it happened, in milliseconds since 1970.
    pub created_at: i64,
    /// What has happened; absent when it is of a kind that this program does not know.
    pub kind: Option<EventKind>,
    /// What is told of it.
    pub data: EventData,
}

/// What part of a log is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The domain, in lower-case A-labels.
    pub domain: String,
    /// One account of it, or all.
    pub account: Option<AccountId>,
}

/// Up to where a log, or one account's part of it, was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The number of the last event that was read.
    pub seq: i64,
    /// Its place among those of the account.
    pub place: Place,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.seq, self.place.0, self.place.1)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Cursor, ()> {
        let mut parts = text.split('.').map(|part| part.parse::<i64>().ok().filter(|number| *number >= 0));
        let mut next = || parts.next().flatten().ok_or(());
        let cursor = Cursor { seq: next()?, place: (next()?, next()?) };
        if parts.next().is_some() { Err(()) } else { Ok(cursor) }
    }
}

impl LoggedEvent {
    /// The cursor of one who has read up to this event.
    pub fn cursor(&self) -> Cursor {
        Cursor { seq: self.seq, place: self.place }
    }
}

/// What a read of a log has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The events that were asked for, in order.
    pub events: Vec<LoggedEvent>,
    /// Where to go on.
    pub next: Cursor,
    /// Whether there is more after that now.
    pub has_more: bool,
    /// Whether events between the cursor and these may have gone with their age.
    pub is_outlived: bool,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last number.
    pub seq: i64,
    /// The last one that went with its age.
    pub trimmed_seq: i64,
}

/// Appends events to the log of a domain, each with the primary address of its account; the number of
/// the last one.
pub async fn append(
    store: &Store,
    domain: String,
    events: Vec<(Waiting, String)>,
) -> Result<i64, StoreError> {
    let count = events.len() as i64;
    let unit = async move |tx: &mut Tx| {
        let last = sql("insert into event_head (domain, seq) values ($1, $2) \
                        on conflict (domain) do update set seq = event_head.seq + $2 returning seq")
        .bind(&domain)
        .bind(count)
        .value::<i64>(tx)
        .await?
        .unwrap_or(count);
        let row = |(seq, (event, name)): (i64, (Waiting, String))| {
            vec![
                Value::from(&domain),
                seq.into(),
                event.account.into(),
                event.place.0.into(),
                event.place.1.into(),
                event.id.into(),
                event.created_at.into(),
                event.kind.into(),
                event.submission.into(),
                name.into(),
                event.data.into(),
            ]
        };
        let rows = (last - count + 1..).zip(events).map(row).collect();
        sql(
            "insert into event_log (domain, seq, account_id, modseq, n, id, created_at, kind, submission_id, \
             account_name, data) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             on conflict (domain, account_id, modseq, n) do nothing",
        )
        .run_each(tx, rows)
        .await?;
        Ok(last)
    };
    store.write_plain(Urgency::Background, unit).await
}

/// Where the log of a domain begins and ends.
pub async fn head(conn: &mut Conn, domain: &str) -> Result<Head, StoreError> {
    let found = sql("select seq, trimmed_seq from event_head where domain = $1")
        .bind(domain)
        .first(conn, |row| Ok(Head { seq: row.get(0)?, trimmed_seq: row.get(1)? }))
        .await?;
    Ok(found.unwrap_or_default())
}

/// The cursor of one who has read all that is there.
pub async fn latest(conn: &mut Conn, view: &View) -> Result<Cursor, StoreError> {
    let seq = head(conn, &view.domain).await?.seq;
    let Some(account) = view.account else { return Ok(Cursor { seq, place: (0, 0) }) };
    let place = sql("select modseq, n from event_log where domain = $1 and account_id = $2 \
                     order by modseq desc, n desc limit 1")
    .bind(&view.domain)
    .bind(account)
    .first(conn, |row| Ok((row.get(0)?, row.get(1)?)))
    .await?;
    Ok(Cursor { seq, place: place.unwrap_or_default() })
}

/// A cursor as it is good for a view: one that was got from the whole log, or from another account's part of it,
/// has a place that says nothing of this one's.
pub async fn placed(conn: &mut Conn, view: &View, cursor: Cursor) -> Result<Cursor, StoreError> {
    let Some(account) = view.account else { return Ok(cursor) };
    let is_its_own = sql("select 1 from event_log where domain = $1 and seq = $2 and account_id = $3 \
                          and modseq = $4 and n = $5")
    .bind(&view.domain)
    .bind(cursor.seq)
    .bind(account)
    .bind(cursor.place.0)
    .bind(cursor.place.1)
    .value::<i64>(conn)
    .await?;
    if is_its_own.is_some() {
        return Ok(cursor);
    }
    let place = sql("select modseq, n from event_log where domain = $1 and account_id = $2 and seq <= $3 \
                     order by modseq desc, n desc limit 1")
    .bind(&view.domain)
    .bind(account)
    .bind(cursor.seq)
    .first(conn, |row| Ok((row.get(0)?, row.get(1)?)))
    .await?;
    Ok(Cursor { seq: cursor.seq, place: place.unwrap_or_default() })
}

const COLUMNS: &str =
    "select seq, account_id, account_name, modseq, n, id, created_at, kind, data from event_log where";

fn read_event(row: &Row<'_>) -> Result<LoggedEvent, StoreError> {
    let id: Id = row.get(5)?;
    let data = serde_json::from_str(row.text(8)?)
        .map_err(|error| StoreError::corrupt_value(&format!("data of event {id}"), &error))?;
    Ok(LoggedEvent {
        seq: row.get(0)?,
        account: row.get(1)?,
        account_name: row.get(2)?,
        place: (row.get(3)?, row.get(4)?),
        id,
        created_at: row.get(6)?,
        kind: EventKind::of_number(row.get(7)?),
        data,
    })
}

fn after(view: &View, cursor: Cursor) -> Query {
    match view.account {
        None => sql(format!("{COLUMNS} domain = $1 and seq > $2 order by seq limit $3"))
            .bind(&view.domain)
            .bind(cursor.seq),
        Some(account) => sql(format!(
            "{COLUMNS} domain = $1 and account_id = $2 and (modseq, n) > ($3, $4) order by modseq, n limit $5"
        ))
        .bind(&view.domain)
        .bind(account)
        .bind(cursor.place.0)
        .bind(cursor.place.1),
    }
}

impl Head {
    /// Whether events that a cursor wants may be gone. Who begins at the beginning gets what there is.
    pub fn has_outlived(&self, cursor: Cursor) -> bool {
        cursor.seq < self.trimmed_seq && cursor != Cursor::default()
    }
}

/// The events of these kinds after a cursor, at most `limit`. A read looks at a thousand events, wanted or
/// not: where there are more, `has_more` says so.
pub async fn read(
    conn: &mut Conn,
    view: &View,
    cursor: Cursor,
    kinds: EventKinds,
    limit: usize,
) -> Result<Page, StoreError> {
    let head = head(conn, &view.domain).await?;
    let looks_at = if kinds == EventKinds::ALL { limit } else { limit.max(LOOKED_AT) };
    let found = after(view, cursor).bind(looks_at as i64).all(conn, read_event).await?;
    let is_end = found.len() < looks_at;
    let is_outlived = head.has_outlived(cursor);
    let mut page = Page { events: Vec::new(), next: cursor, has_more: !is_end, is_outlived };
    for event in found {
        let is_wanted = event.kind.is_some_and(|kind| kinds.has(kind));
        if is_wanted && page.events.len() == limit {
            page.has_more = true;
            return Ok(page);
        }
        page.next = event.cursor();
        if is_wanted {
            page.events.push(event);
        }
    }
    if is_end {
        // What is appended later has larger numbers: a cursor of an account that is quiet does not age.
        page.next.seq = page.next.seq.max(head.seq);
    }
    Ok(page)
}

/// The events of a submission, at most `limit`, the oldest first.
pub async fn of_submission(
    conn: &mut Conn,
    domain: &str,
    account: AccountId,
    submission: Id,
    limit: usize,
) -> Result<Vec<LoggedEvent>, StoreError> {
    sql(format!(
        "{COLUMNS} domain = $1 and account_id = $2 and submission_id = $3 and submission_id <> 0 \
         order by modseq, n limit $4"
    ))
    .bind(domain)
    .bind(account)
    .bind(submission)
    .bind(limit as i64)
    .all(conn, read_event)
    .await
}

/// Removes some events of a domain from before a time, the oldest first; whether there may be more.
pub async fn trim(store: &Store, domain: String, before_ms: i64) -> Result<bool, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let oldest = sql("select seq, created_at from event_log where domain = $1 order by seq limit $2")
            .bind(&domain)
            .bind(TRIMMED_AT_ONCE)
            .all(tx, |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?)))
            .await?;
        let old = oldest.iter().take_while(|(_, created_at)| *created_at < before_ms);
        let Some((last, _)) = old.clone().last() else { return Ok(false) };
        sql("delete from event_log where domain = $1 and seq <= $2")
            .bind(&domain)
            .bind(*last)
            .run(tx)
            .await?;
        sql("update event_head set trimmed_seq = $2 where domain = $1 and trimmed_seq < $2")
            .bind(&domain)
            .bind(*last)
            .run(tx)
            .await?;
        Ok(old.count() as i64 == TRIMMED_AT_ONCE)
    };
    store.write_plain(Urgency::Background, unit).await
}

/// Removes some events of an account that goes; whether there may be more.
pub async fn forget_account(store: &Store, domain: String, account: AccountId) -> Result<bool, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let gone = sql("delete from event_log where domain = $1 and account_id = $2 and (modseq, n) in \
                        (select modseq, n from event_log where domain = $1 and account_id = $2 limit $3)")
        .bind(&domain)
        .bind(account)
        .bind(BATCH)
        .run(tx)
        .await?;
        Ok(gone as i64 == BATCH)
    };
    store.write_plain(Urgency::Background, unit).await
}

/// Removes some events of a domain that is gone; whether there may be more.
pub async fn forget_domain(store: &Store, domain: String) -> Result<bool, StoreError> {
    let unit = async move |tx: &mut Tx| {
        let gone = sql("delete from event_log where domain = $1 and seq in \
                        (select seq from event_log where domain = $1 order by seq limit $2)")
        .bind(&domain)
        .bind(BATCH)
        .run(tx)
        .await?;
        if gone as i64 == BATCH {
            return Ok(true);
        }
        // Numbers go on from there if the domain comes back.
        sql("update event_head set trimmed_seq = seq where domain = $1").bind(&domain).run(tx).await?;
        Ok(false)
    };
    store.write_plain(Urgency::Background, unit).await
}
