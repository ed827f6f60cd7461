//! Where Emails stand in a list: what Email/queryChanges tells (RFC 8621, 4.5).
//!
//! The cost is that of the Emails asked about and of counting to the last of them. Nothing after it
//! is read.

use std::collections::HashSet;

use crate::store::db::{Conn, sql};
use crate::store::email::query::Prepared;
use crate::store::email::query::threads::ThreadSet;
use crate::store::error::StoreError;
use crate::types::id::{AccountId, Id};

/// Emails with their places in a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Places {
    /// Place and Email, in the order of the list.
    pub places: Vec<(i64, Id)>,
    /// The length of the list, when it was asked for.
    pub total: Option<i64>,
}

impl Prepared {
    /// The places of those candidates that are in the list, none after `up_to_id`. An `up_to_id` that
    /// is not in the list ends nothing.
    pub async fn places(
        &self,
        conn: &mut Conn,
        candidates: &HashSet<Id>,
        up_to_id: Option<Id>,
    ) -> Result<Places, StoreError> {
        let total = if self.query.calculate_total { Some(self.total(conn).await?) } else { None };
        let asked: Vec<Id> = candidates.iter().copied().chain(up_to_id).collect();
        let mut listed = self.statement.keys_of(conn, &asked).await?;
        if let Some(end) = listed.iter().position(|(id, _)| up_to_id == Some(*id)) {
            listed.truncate(end + 1);
        }
        listed.retain(|(id, _)| candidates.contains(id));
        let Some((last, _)) = listed.last() else { return Ok(Places { places: Vec::new(), total }) };
        if self.query.collapse_threads || !self.query.is_by_date() {
            let places = self.places_by_reading(conn, candidates, *last).await?;
            return Ok(Places { places, total });
        }
        let mut places: Vec<(i64, Id)> = Vec::with_capacity(listed.len());
        for (number, (id, key)) in listed.iter().enumerate() {
            let counted = match number.checked_sub(1) {
                None => self.statement.count_before(key),
                Some(before) => self.statement.count_between(&listed[before].1, key),
            };
            let counted = counted.value::<i64>(conn).await?.unwrap_or(0);
            places.push((places.last().map_or(counted, |(place, _)| place + 1 + counted), *id));
        }
        Ok(Places { places, total })
    }

    /// Reads the list from its beginning to the last candidate in it.
    async fn places_by_reading(
        &self,
        conn: &mut Conn,
        candidates: &HashSet<Id>,
        last: Id,
    ) -> Result<Vec<(i64, Id)>, StoreError> {
        let mut places = Vec::new();
        let mut threads = ThreadSet::default();
        let mut place = 0;
        self.walk(conn, |id, thread| {
            if !self.query.collapse_threads || threads.insert(thread) {
                if candidates.contains(&id) {
                    places.push((place, id));
                }
                place += 1;
            }
            id != last
        })
        .await?;
        Ok(places)
    }
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
