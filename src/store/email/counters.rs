//! Thread counts and the four counters of every mailbox, kept by the transaction that moves mail.
//!
//! `thread_mailbox` says how many Emails of a thread are in a mailbox and how many of them are
//! unread. Its rows of mailbox 0 count the Emails that are somewhere else than in the trash alone:
//! by them a thread is unread in every mailbox but the trash, which looks at its own Emails only
//! (RFC 8621, 2, unreadThreads). Which mailbox is the trash of a thread is told by `trash`.

use std::collections::{BTreeMap, HashMap};

use crate::store::db::{Conn, sql};
use crate::store::email::place::Placed;
use crate::store::email::trash::{self, Trash};
use crate::store::error::StoreError;
use crate::store::mailbox::{self, Counts};
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// The pseudo-mailbox of a thread's Emails that are not in the trash alone.
const OUTSIDE_TRASH: Id = Id(0);

/// How many Emails of a thread, and how many of them unread.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Tally {
    total: i64,
    unread: i64,
}

type ThreadTallies = BTreeMap<Id, Tally>;

/// What happened to a thread as a whole.
pub struct ThreadFates {
    /// Threads that had no Email before.
    pub created: Vec<Id>,
    /// Threads that have none any more.
    pub destroyed: Vec<Id>,
}

/// One Email before and after a change; `None` where it did not exist or does not any more.
pub type Move<'a> = (Option<&'a Placed>, Option<&'a Placed>);

/// Brings thread counts and mailbox counters up to date with moves of Emails.
pub async fn apply(tx: &mut Tx, moves: &[Move<'_>]) -> Result<ThreadFates, StoreError> {
    let account = tx.account();
    let mut trash = Trash::load(tx, account).await?;
    if trash.is_changing() {
        // A recount that was cut short goes on with the next change of mail.
        trash::recount_step(tx).await?;
        trash = Trash::load(tx, account).await?;
    }
    let mut deltas: BTreeMap<Id, ThreadTallies> = BTreeMap::new();
    for (before, after) in moves {
        for (placed, sign) in [(before, -1), (after, 1)] {
            if let Some(placed) = placed {
                let tallies = deltas.entry(placed.thread_id).or_default();
                add(tallies, placed, trash.of(placed.thread_id), sign);
            }
        }
    }
    let thread_ids: Vec<Id> = deltas.keys().copied().collect();
    let mut tallies = load(tx, account, &thread_ids).await?;
    let mut fates = ThreadFates { created: Vec::new(), destroyed: Vec::new() };
    let mut counters = Counters::default();
    let mut writes = Writes::default();
    for (thread_id, delta) in deltas {
        let before = tallies.remove(&thread_id).unwrap_or_default();
        let mut after = before.clone();
        for (mailbox_id, change) in &delta {
            let tally = after.entry(*mailbox_id).or_default();
            tally.total += change.total;
            tally.unread += change.unread;
        }
        after.retain(|_, tally| tally.total > 0);
        match (before.is_empty(), after.is_empty()) {
            (true, false) => fates.created.push(thread_id),
            (false, true) => fates.destroyed.push(thread_id),
            _ => {}
        }
        writes.difference(account, thread_id, &before, &after);
        let trash = trash.of(thread_id);
        counters.difference(&before, trash, &after, trash);
    }
    writes.run(tx).await?;
    counters.write(tx).await?;
    let more_threads = fates.created.len() as i64 - fates.destroyed.len() as i64;
    if more_threads != 0 {
        sql("update account set used_threads = used_threads + $2 where id = $1")
            .bind(account)
            .bind(more_threads)
            .run(tx)
            .await?;
    }
    Ok(fates)
}

/// Counts threads anew, of which another mailbox was the trash when they were last counted.
pub(super) async fn recount(
    tx: &mut Tx,
    threads: &[Id],
    old_trash: Option<Id>,
    trash: Option<Id>,
) -> Result<(), StoreError> {
    let account = tx.account();
    let mut counters = Counters::default();
    let mut writes = Writes::default();
    let mut tallies = load(tx, account, threads).await?;
    let mut outside = outside_trash(tx, account, threads, trash).await?;
    for thread_id in threads {
        let before = tallies.remove(thread_id).unwrap_or_default();
        let mut after = before.clone();
        match outside.remove(thread_id) {
            Some(tally) => after.insert(OUTSIDE_TRASH, tally),
            None => after.remove(&OUTSIDE_TRASH),
        };
        writes.difference(account, *thread_id, &before, &after);
        counters.difference(&before, old_trash, &after, trash);
    }
    writes.run(tx).await?;
    counters.write(tx).await
}

fn add(tallies: &mut ThreadTallies, placed: &Placed, trash: Option<Id>, sign: i64) {
    let unread = if placed.flags.is_unread() { sign } else { 0 };
    let is_outside = placed.mailboxes.iter().any(|id| Some(*id) != trash);
    let outside = is_outside.then_some(OUTSIDE_TRASH);
    for mailbox_id in placed.mailboxes.iter().copied().chain(outside) {
        let tally = tallies.entry(mailbox_id).or_default();
        tally.total += sign;
        tally.unread += unread;
    }
}

async fn load(
    conn: &mut Conn,
    account: AccountId,
    threads: &[Id],
) -> Result<HashMap<Id, ThreadTallies>, StoreError> {
    let mut out: HashMap<Id, ThreadTallies> = HashMap::new();
    sql("select thread_id, mailbox_id, total, unread from thread_mailbox \
         where account_id = $1 and thread_id = any($2)")
    .bind(account)
    .bind(threads)
    .each(conn, |row| {
        let tally = Tally { total: row.get(2)?, unread: row.get(3)? };
        out.entry(row.get(0)?).or_default().insert(row.get(1)?, tally);
        Ok(true)
    })
    .await?;
    Ok(out)
}

/// Counts anew the Emails of threads that are somewhere else than in the trash.
async fn outside_trash(
    conn: &mut Conn,
    account: AccountId,
    threads: &[Id],
    trash: Option<Id>,
) -> Result<HashMap<Id, Tally>, StoreError> {
    let rows = sql("select e.thread_id, m.email_id, m.flags from email e \
                    join membership m on m.account_id = $1 and m.email_id = e.id \
                    where e.account_id = $1 and e.thread_id = any($2) and m.mailbox_id <> 0 and m.mailbox_id <> $3")
    .bind(account)
    .bind(threads)
    .bind(trash.unwrap_or_default())
    .all(conn, |row| Ok((row.get::<Id>(0)?, row.get::<Id>(1)?, crate::types::keyword::Flags(row.get(2)?))))
    .await?;
    let emails: HashMap<Id, _> =
        rows.into_iter().map(|(thread, email, flags)| (email, (thread, flags))).collect();
    let mut out: HashMap<Id, Tally> = HashMap::new();
    for (thread_id, flags) in emails.into_values() {
        let tally = out.entry(thread_id).or_default();
        tally.total += 1;
        tally.unread += i64::from(flags.is_unread());
    }
    Ok(out)
}

/// What a thread adds to the counters of the mailboxes that it is in.
fn contributions(tallies: &ThreadTallies, trash: Option<Id>) -> impl Iterator<Item = (Id, Counts)> {
    let unread_outside = tallies.get(&OUTSIDE_TRASH).is_some_and(|tally| tally.unread > 0);
    tallies.iter().filter(|(id, _)| **id != OUTSIDE_TRASH).map(move |(id, tally)| {
        let is_unread = if Some(*id) == trash { tally.unread > 0 } else { unread_outside };
        let counts = Counts {
            total_emails: tally.total,
            unread_emails: tally.unread,
            total_threads: 1,
            unread_threads: i64::from(is_unread),
        };
        (*id, counts)
    })
}

#[derive(Default)]
struct Counters(BTreeMap<Id, Counts>);

impl Counters {
    fn difference(
        &mut self,
        before: &ThreadTallies,
        trash_before: Option<Id>,
        after: &ThreadTallies,
        trash_after: Option<Id>,
    ) {
        let before = contributions(before, trash_before).map(|(id, counts)| (id, counts, -1));
        let after = contributions(after, trash_after).map(|(id, counts)| (id, counts, 1));
        for (id, counts, sign) in before.chain(after) {
            let sum = self.0.entry(id).or_default();
            sum.total_emails += sign * counts.total_emails;
            sum.unread_emails += sign * counts.unread_emails;
            sum.total_threads += sign * counts.total_threads;
            sum.unread_threads += sign * counts.unread_threads;
        }
    }

    async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        let account = tx.account();
        let mut rows = Vec::new();
        for (id, counts) in self.0.into_iter().filter(|(_, counts)| *counts != Counts::default()) {
            rows.push(vec![
                account.into(),
                id.into(),
                counts.total_emails.into(),
                counts.unread_emails.into(),
                counts.total_threads.into(),
                counts.unread_threads.into(),
            ]);
            tx.updated(ObjectType::Mailbox, id, mailbox::changed::COUNTS);
        }
        sql("update mailbox set total_emails = total_emails + $3, unread_emails = unread_emails + $4, \
             total_threads = total_threads + $5, unread_threads = unread_threads + $6 \
             where account_id = $1 and id = $2")
        .run_each(tx, rows)
        .await?;
        Ok(())
    }
}

/// Rows of `thread_mailbox` to write.
#[derive(Default)]
struct Writes {
    upserts: Vec<Vec<crate::store::value::Value>>,
    deletes: Vec<Vec<crate::store::value::Value>>,
}

impl Writes {
    fn difference(&mut self, account: AccountId, thread: Id, before: &ThreadTallies, after: &ThreadTallies) {
        for (mailbox_id, tally) in after {
            if before.get(mailbox_id) != Some(tally) {
                let key = [account.into(), thread.into(), (*mailbox_id).into()];
                self.upserts.push(key.into_iter().chain([tally.total.into(), tally.unread.into()]).collect());
            }
        }
        for mailbox_id in before.keys().filter(|id| !after.contains_key(*id)) {
            self.deletes.push(vec![account.into(), thread.into(), (*mailbox_id).into()]);
        }
    }

    async fn run(self, tx: &mut Tx) -> Result<(), StoreError> {
        sql("insert into thread_mailbox (account_id, thread_id, mailbox_id, total, unread) \
             values ($1, $2, $3, $4, $5) \
             on conflict (account_id, thread_id, mailbox_id) \
             do update set total = excluded.total, unread = excluded.unread")
        .run_each(tx, self.upserts)
        .await?;
        sql("delete from thread_mailbox where account_id = $1 and thread_id = $2 and mailbox_id = $3")
            .run_each(tx, self.deletes)
            .await?;
        Ok(())
    }
}
