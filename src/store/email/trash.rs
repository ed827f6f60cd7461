//! Which mailbox is the trash as the counters see it, and the recount after it has changed.
//!
//! The trash is a world of its own for unread threads (RFC 8621, 2), so another trash means counting
//! anew every thread with Emails in the old one or the new one. These may be a million: they are
//! counted a few hundred in one transaction, in the order of their ids, and the place that has been
//! reached is kept. Until the recount is done the threads after that place are still counted, by
//! every change, with the trash that they were counted with before: counters and rows agree at any
//! moment, and at the end they are what a count from nothing would give.

use std::collections::BTreeMap;

use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::email::counters;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};

/// Threads counted anew in one transaction, at the most.
const THREADS_AT_ONCE: usize = 500;
/// Emails of them in the old and the new trash, about, at the most; a larger thread goes alone.
const EMAILS_AT_ONCE: i64 = 2_000;

/// Which mailbox is the trash of which threads.
#[derive(Clone, Debug)]
pub struct Trash {
    current: Option<Id>,
    /// From which thread on another trash still counts, up to the next; in the order of threads.
    stale: Vec<(Id, Option<Id>)>,
}

impl Trash {
    /// As it stands in an account.
    pub async fn load(conn: &mut Conn, account: AccountId) -> Result<Trash, StoreError> {
        let mut trash = Trash { current: None, stale: Vec::new() };
        sql("select -1, id from mailbox where account_id = $1 and role = 'trash' and role is not null \
             union all select from_thread, trash_id from trash_recount where account_id = $1 order by 1")
        .bind(account)
        .each(conn, |row| {
            let mailbox = Some(row.get::<Id>(1)?).filter(|id| *id != Id::default());
            match row.get::<i64>(0)? {
                -1 => trash.current = mailbox,
                from => trash.stale.push((Id(from), mailbox)),
            }
            Ok(true)
        })
        .await?;
        Ok(trash)
    }

    /// The trash of a thread.
    pub fn of(&self, thread: Id) -> Option<Id> {
        let stale = self.stale.iter().rev().find(|(from, _)| *from <= thread);
        stale.map_or(self.current, |(_, trash)| *trash)
    }

    /// Whether some threads are still counted with another trash than the current one.
    pub fn is_changing(&self) -> bool {
        !self.stale.is_empty()
    }
}

/// Begins the recount after the role has moved away from `old`, and does the first step of it.
pub async fn changed(tx: &mut Tx, old: Option<Id>) -> Result<(), StoreError> {
    // The step below always moves this row away from 0, so that there is never another.
    sql("insert into trash_recount (account_id, from_thread, trash_id) values ($1, 0, $2)")
        .bind(tx.account())
        .bind(old.unwrap_or_default())
        .run(tx)
        .await?;
    recount_step(tx).await.map(drop)
}

/// Brings a recount to its end, if one is under way, with other work in between.
pub async fn finish_recount(store: &Store, account: AccountId) -> Result<(), StoreError> {
    let trash = Trash::load(&mut *store.read().await?, account).await?;
    if trash.is_changing() {
        let step = async move |tx: &mut Tx| recount_step(tx).await;
        while store.write_in_background(account, step).await? {}
    }
    Ok(())
}

/// A recount that was cut short goes on with the next change of mail, before that change.
pub async fn go_on(tx: &mut Tx) -> Result<(), StoreError> {
    let account = tx.account();
    if Trash::load(tx, account).await?.is_changing() {
        recount_step(tx).await?;
    }
    Ok(())
}

/// Counts the next threads anew; whether there may be more.
pub async fn recount_step(tx: &mut Tx) -> Result<bool, StoreError> {
    let account = tx.account();
    let trash = Trash::load(tx, account).await?;
    let Some((from, stale)) = trash.stale.first().copied() else { return Ok(false) };
    let end = trash.stale.get(1).map_or(Id(i64::MAX), |(next, _)| *next);
    // Of each mailbox the threads that come first; together the first of both.
    let mut found: BTreeMap<Id, i64> = BTreeMap::new();
    let mut is_cut = false;
    for mailbox in stale.into_iter().chain(trash.current) {
        let rows = sql("select thread_id, total from thread_mailbox \
                        where account_id = $1 and mailbox_id = $2 and thread_id >= $3 and thread_id < $4 \
                        order by thread_id limit $5")
        .bind(account)
        .bind(mailbox)
        .bind(from)
        .bind(end)
        .bind(THREADS_AT_ONCE as i64)
        .all(tx, |row| Ok((row.get::<Id>(0)?, row.get::<i64>(1)?)))
        .await?;
        is_cut |= rows.len() == THREADS_AT_ONCE;
        for (thread, total) in rows {
            *found.entry(thread).or_default() += total;
        }
    }
    let mut emails = 0;
    let all = found.len();
    let threads: Vec<Id> = found
        .into_iter()
        .take(THREADS_AT_ONCE)
        .take_while(|(_, total)| {
            let is_first = emails == 0;
            emails += total;
            is_first || emails <= EMAILS_AT_ONCE
        })
        .map(|(thread, _)| thread)
        .collect();
    counters::recount(tx, &threads, stale, trash.current).await?;
    let next = threads.last().map(|last| Id(last.0 + 1));
    match next.filter(|next| (is_cut || threads.len() < all) && *next < end) {
        Some(next) => {
            sql("update trash_recount set from_thread = $3 where account_id = $1 and from_thread = $2")
                .bind(account)
                .bind(from)
                .bind(next)
                .run(tx)
                .await?;
        }
        None => {
            sql("delete from trash_recount where account_id = $1 and from_thread = $2")
                .bind(account)
                .bind(from)
                .run(tx)
                .await?;
        }
    }
    Ok(Trash::load(tx, account).await?.is_changing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;
    use crate::store::email::place::{Placement, place, placements};
    use crate::store::mailbox::{self, Counts};
    use crate::store::testing::{Filling, OWNER, fill};

    /// What a count from nothing gives.
    async fn counted(conn: &mut Conn, account: AccountId) -> BTreeMap<Id, Counts> {
        let trash = mailbox::id_by_role(conn, account, "trash").await.unwrap();
        let rows = sql("select mailbox_id, thread_id, email_id, flags from membership \
                        where account_id = $1 and mailbox_id <> 0")
        .bind(account)
        .all(conn, |row| {
            Ok((row.get::<Id>(0)?, row.get::<Id>(1)?, row.get::<Id>(2)?, row.get::<i64>(3)? & 3 == 0))
        })
        .await
        .unwrap();
        let is_trash = |mailbox: Id| Some(mailbox) == trash;
        let unread_in = |in_trash: bool| -> std::collections::HashSet<Id> {
            let unread = rows.iter().filter(|row| row.3 && is_trash(row.0) == in_trash);
            unread.map(|row| row.1).collect()
        };
        let (inside, outside) = (unread_in(true), unread_in(false));
        let mut threads: BTreeMap<Id, std::collections::HashSet<Id>> = BTreeMap::new();
        let mut counts: BTreeMap<Id, Counts> = BTreeMap::new();
        for (mailbox, thread, _, is_unread) in &rows {
            let count = counts.entry(*mailbox).or_default();
            count.total_emails += 1;
            count.unread_emails += i64::from(*is_unread);
            if threads.entry(*mailbox).or_default().insert(*thread) {
                let unread = if is_trash(*mailbox) { &inside } else { &outside };
                count.total_threads += 1;
                count.unread_threads += i64::from(unread.contains(thread));
            }
        }
        counts
    }

    async fn kept(conn: &mut Conn, account: AccountId) -> BTreeMap<Id, Counts> {
        let all = mailbox::all(conn, account, OWNER).await.unwrap();
        let counts = all.into_iter().map(|mailbox| (mailbox.id, mailbox.counts));
        counts.filter(|(_, counts)| *counts != Counts::default()).collect()
    }

    async fn set_trash(tx: &mut Tx, new: Option<Id>) -> Result<(), StoreError> {
        let account = tx.account();
        let old = mailbox::id_by_role(tx, account, "trash").await?;
        for (id, role) in old.map(|id| (id, None)).into_iter().chain(new.map(|id| (id, Some("trash")))) {
            let Some(mut mailbox) = mailbox::by_ids(tx, account, OWNER, &[id]).await?.pop() else { continue };
            mailbox.role = role.map(str::to_owned);
            mailbox::update(tx, &mailbox).await?;
        }
        changed(tx, old).await
    }

    /// An account with 1,400 threads in the archive, the last Email of every third in Sent instead.
    async fn filled() -> (Fixture, AccountId, [Id; 2], Vec<Id>) {
        let fixture = Fixture::new().await;
        let account = fixture.account("alice@example.test").await.account;
        let store = &fixture.store;
        let mut snapshot = store.read().await.unwrap();
        let by_role = async |snapshot: &mut Conn, role| {
            mailbox::id_by_role(snapshot, account, role).await.unwrap().unwrap()
        };
        let archive = by_role(&mut snapshot, "archive").await;
        let sent = by_role(&mut snapshot, "sent").await;
        drop(snapshot);
        // Every third thread has its last Email in Sent.
        let filling = Filling { mailbox: archive, emails: 4_200, in_thread: 3, unread_every: 7 };
        let ids = fill(store, account, filling).await;
        let moved: Vec<Id> = ids.iter().copied().skip(2).step_by(9).collect();
        let unit = async move |tx: &mut Tx| {
            let found = placements(tx, account, &moved).await?;
            let moves: Vec<Placement> = found
                .into_iter()
                .map(|before| {
                    let after =
                        crate::store::email::place::Placed { mailboxes: vec![sent], ..before.clone() };
                    Placement { before: Some(before), after: Some(after) }
                })
                .collect();
            place(tx, &moves).await
        };
        store.write(account, unit).await.unwrap();
        (fixture, account, [archive, sent], ids)
    }

    /// Marks what is read as unread, and what is not as read.
    async fn toggle(store: &Store, account: AccountId, emails: Vec<Id>) {
        let unit = async move |tx: &mut Tx| {
            let found = placements(tx, account, &emails).await?;
            let moves: Vec<Placement> = found
                .into_iter()
                .map(|before| {
                    let mut after = before.clone();
                    after.set_keyword("$seen", before.flags.is_unread());
                    Placement { before: Some(before), after: Some(after) }
                })
                .collect();
            place(tx, &moves).await
        };
        store.write(account, unit).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_in_the_very_step_that_it_brings_about_is_counted_once() {
        let (fixture, account, [archive, _], ids) = filled().await;
        let store = &fixture.store;
        store.write(account, async move |tx: &mut Tx| set_trash(tx, Some(archive)).await).await.unwrap();
        // Unread, in Sent, and of a thread that the next step counts.
        let email = ids[1_820];
        toggle(store, account, vec![email]).await;
        finish_recount(store, account).await.unwrap();
        toggle(store, account, vec![email]).await;
        let conn = &mut *store.read().await.unwrap();
        assert_eq!(kept(conn, account).await, counted(conn, account).await);
    }

    #[tokio::test]
    async fn a_large_trash_is_counted_in_steps_and_counters_are_right_in_the_end() {
        let (fixture, account, [archive, sent], ids) = filled().await;
        let store = &fixture.store;
        let conn = &mut *store.read().await.unwrap();
        assert_eq!(kept(conn, account).await, counted(conn, account).await);

        let is_changing =
            async || Trash::load(&mut store.read().await.unwrap(), account).await.unwrap().is_changing();
        let to_archive = async move |tx: &mut Tx| set_trash(tx, Some(archive)).await;
        store.write(account, to_archive).await.unwrap();
        assert!(is_changing().await, "1,400 threads were counted in one transaction");
        // A change of mail in between, at both ends of the recount and in the step that it brings
        // about, and another change of the trash.
        let seen: Vec<Id> = [0, 1, 1_799, 1_806, 1_810, 4_000, 4_195].map(|place| ids[place]).to_vec();
        toggle(store, account, seen).await;
        let to_sent = async move |tx: &mut Tx| set_trash(tx, Some(sent)).await;
        store.write(account, to_sent).await.unwrap();
        let mut steps = 0;
        while store.write(account, async move |tx: &mut Tx| recount_step(tx).await).await.unwrap() {
            steps += 1;
        }
        assert!((1..20).contains(&steps), "{steps}");
        let conn = &mut *store.read().await.unwrap();
        let wanted = counted(conn, account).await;
        assert_eq!(kept(conn, account).await, wanted);
        assert_ne!(wanted[&archive].unread_threads, wanted[&archive].total_threads);

        let to_none = async move |tx: &mut Tx| set_trash(tx, None).await;
        store.write(account, to_none).await.unwrap();
        finish_recount(store, account).await.unwrap();
        assert!(!is_changing().await);
        let conn = &mut *store.read().await.unwrap();
        assert_eq!(kept(conn, account).await, counted(conn, account).await);
    }
}
