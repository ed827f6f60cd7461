//! Where Emails are and which keywords they have: the one way to change it.

use std::collections::HashMap;

use crate::store::db::{Conn, sql};
use crate::store::email::counters;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::value::Value;
use crate::types::id::{AccountId, Id};
use crate::types::keyword::{Flags, flag_of};
use crate::types::object_type::ObjectType;

/// The mailbox of the row that stands for an Email in queries over all mail.
pub const ALL_MAIL: Id = Id(0);

/// Bits of an Email change.
pub mod changed {
    /// Keywords.
    pub const KEYWORDS: i64 = 1;
    /// Mailboxes.
    pub const MAILBOXES: i64 = 2;
}

/// The mutable part of an Email, with what its rows are keyed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Of the Email.
    pub email_id: Id,
    /// Its thread, for ever.
    pub thread_id: Id,
    /// Milliseconds since 1970, for ever.
    pub received_at: i64,
    /// In id order, at least one.
    pub mailboxes: Vec<Id>,
    /// Keywords with a bit.
    pub flags: Flags,
    /// Other keywords, in order.
    pub keywords: Vec<String>,
}

impl Placed {
    /// All keywords.
    pub fn all_keywords(&self) -> impl Iterator<Item = &str> {
        self.flags
            .keywords()
            .map(|keyword| -> &str { keyword })
            .chain(self.keywords.iter().map(String::as_str))
    }

    /// Sets or clears a (normalised) keyword.
    pub fn set_keyword(&mut self, keyword: &str, on: bool) {
        if let Some(flag) = flag_of(keyword) {
            self.flags = self.flags.with(flag, on);
            return;
        }
        match (self.keywords.binary_search_by(|known| known.as_str().cmp(keyword)), on) {
            (Err(place), true) => self.keywords.insert(place, keyword.to_owned()),
            (Ok(place), false) => drop(self.keywords.remove(place)),
            _ => {}
        }
        self.flags = self.flags.with(Flags::HAS_OTHERS, !self.keywords.is_empty());
    }

    /// Puts the Email into a mailbox or takes it out.
    pub fn set_mailbox(&mut self, mailbox_id: Id, on: bool) {
        match (self.mailboxes.binary_search(&mailbox_id), on) {
            (Err(place), true) => self.mailboxes.insert(place, mailbox_id),
            (Ok(place), false) => drop(self.mailboxes.remove(place)),
            _ => {}
        }
    }
}

/// Where the Emails of these ids are, as far as they exist, in id order.
pub async fn placements(conn: &mut Conn, account: AccountId, ids: &[Id]) -> Result<Vec<Placed>, StoreError> {
    let mut out: Vec<Placed> = Vec::with_capacity(ids.len());
    sql("select email_id, mailbox_id, received_at, thread_id, flags from membership \
         where account_id = $1 and email_id = any($2) order by email_id, mailbox_id")
    .bind(account)
    .bind(ids)
    .each(conn, |row| {
        let email_id = row.get(0)?;
        let mailbox_id: Id = row.get(1)?;
        if out.last().is_none_or(|placed| placed.email_id != email_id) {
            out.push(Placed {
                email_id,
                thread_id: row.get(3)?,
                received_at: row.get(2)?,
                mailboxes: Vec::with_capacity(2),
                flags: Flags(row.get(4)?),
                keywords: Vec::new(),
            });
        }
        if let Some(placed) = out.last_mut().filter(|_| mailbox_id != ALL_MAIL) {
            placed.mailboxes.push(mailbox_id);
        }
        Ok(true)
    })
    .await?;
    let with_others: Vec<Id> = out
        .iter()
        .filter(|placed| placed.flags.contains(Flags::HAS_OTHERS))
        .map(|placed| placed.email_id)
        .collect();
    if !with_others.is_empty() {
        sql("select email_id, keyword from keyword where account_id = $1 and email_id = any($2) \
             order by email_id, keyword")
        .bind(account)
        .bind(&with_others)
        .each(conn, |row| {
            let email_id: Id = row.get(0)?;
            if let Ok(place) = out.binary_search_by_key(&email_id, |placed| placed.email_id) {
                out[place].keywords.push(row.get(1)?);
            }
            Ok(true)
        })
        .await?;
    }
    Ok(out)
}

/// One Email before and after; `None` before it exists and after it is gone.
#[derive(Clone, Debug)]
pub struct Placement {
    /// As it is stored now.
    pub before: Option<Placed>,
    /// As it shall be.
    pub after: Option<Placed>,
}

/// Writes changes of mailboxes and keywords, with everything that follows from them.
pub async fn place(tx: &mut Tx, placements: &[Placement]) -> Result<(), StoreError> {
    write_memberships(tx, placements).await?;
    write_keywords(tx, placements).await?;
    let moves: Vec<counters::Move<'_>> =
        placements.iter().map(|placement| (placement.before.as_ref(), placement.after.as_ref())).collect();
    let fates = counters::apply(tx, &moves).await?;
    record(tx, placements, &fates);
    if !fates.destroyed.is_empty() {
        // A thread without Emails is forgotten, so that its keys do not gather for ever.
        sql("delete from thread_key where account_id = $1 and thread_id = any($2)")
            .bind(tx.account())
            .bind(&fates.destroyed)
            .run(tx)
            .await?;
    }
    Ok(())
}

async fn write_memberships(tx: &mut Tx, placements: &[Placement]) -> Result<(), StoreError> {
    let account = tx.account();
    let mut deletes: Vec<Vec<Value>> = Vec::new();
    let mut inserts: Vec<Vec<Value>> = Vec::new();
    let mut flag_updates: HashMap<Flags, Vec<Id>> = HashMap::new();
    for Placement { before, after } in placements {
        let rows_before = before.as_ref().map(rows_of).unwrap_or_default();
        let rows_after = after.as_ref().map(rows_of).unwrap_or_default();
        if let Some(before) = before {
            for mailbox_id in rows_before.iter().filter(|id| !rows_after.contains(id)) {
                deletes.push(vec![
                    account.into(),
                    (*mailbox_id).into(),
                    before.received_at.into(),
                    before.email_id.into(),
                ]);
            }
        }
        if let Some(after) = after {
            for mailbox_id in rows_after.iter().filter(|id| !rows_before.contains(id)) {
                inserts.push(vec![
                    account.into(),
                    (*mailbox_id).into(),
                    after.received_at.into(),
                    after.email_id.into(),
                    after.thread_id.into(),
                    after.flags.0.into(),
                ]);
            }
            if before.as_ref().is_some_and(|before| before.flags != after.flags) {
                flag_updates.entry(after.flags).or_default().push(after.email_id);
            }
        }
    }
    sql("delete from membership where account_id = $1 and mailbox_id = $2 and received_at = $3 and email_id = $4")
        .run_each(tx, deletes)
        .await?;
    sql("insert into membership (account_id, mailbox_id, received_at, email_id, thread_id, flags) \
         values ($1, $2, $3, $4, $5, $6)")
    .run_each(tx, inserts)
    .await?;
    for (flags, ids) in flag_updates {
        sql("update membership set flags = $2 where account_id = $1 and email_id = any($3)")
            .bind(account)
            .bind(flags.0)
            .bind(&ids)
            .run(tx)
            .await?;
    }
    Ok(())
}

fn rows_of(placed: &Placed) -> Vec<Id> {
    std::iter::once(ALL_MAIL).chain(placed.mailboxes.iter().copied()).collect()
}

async fn write_keywords(tx: &mut Tx, placements: &[Placement]) -> Result<(), StoreError> {
    let account = tx.account();
    let mut deletes: Vec<Vec<Value>> = Vec::new();
    let mut inserts: Vec<Vec<Value>> = Vec::new();
    for Placement { before, after } in placements {
        let (Some(key), none) = (before.as_ref().or(after.as_ref()), Vec::new()) else { continue };
        let old = before.as_ref().map_or(&none, |placed| &placed.keywords);
        let new = after.as_ref().map_or(&none, |placed| &placed.keywords);
        let row = |keyword: &String| {
            vec![account.into(), keyword.into(), key.received_at.into(), key.email_id.into()]
        };
        deletes.extend(old.iter().filter(|keyword| !new.contains(keyword)).map(row));
        inserts.extend(new.iter().filter(|keyword| !old.contains(keyword)).map(row));
    }
    sql("delete from keyword where account_id = $1 and keyword = $2 and received_at = $3 and email_id = $4")
        .run_each(tx, deletes)
        .await?;
    sql("insert into keyword (account_id, keyword, received_at, email_id) values ($1, $2, $3, $4)")
        .run_each(tx, inserts)
        .await?;
    Ok(())
}

fn record(tx: &mut Tx, placements: &[Placement], fates: &counters::ThreadFates) {
    for thread_id in &fates.created {
        tx.created(ObjectType::Thread, *thread_id);
    }
    for thread_id in &fates.destroyed {
        tx.destroyed(ObjectType::Thread, *thread_id);
    }
    for Placement { before, after } in placements {
        match (before, after) {
            (None, Some(after)) => {
                tx.created(ObjectType::Email, after.email_id);
                if !fates.created.contains(&after.thread_id) {
                    tx.updated(ObjectType::Thread, after.thread_id, 0);
                }
            }
            (Some(before), None) => {
                tx.destroyed(ObjectType::Email, before.email_id);
                if !fates.destroyed.contains(&before.thread_id) {
                    tx.updated(ObjectType::Thread, before.thread_id, 0);
                }
            }
            (Some(before), Some(after)) => {
                let mut properties = 0;
                if before.mailboxes != after.mailboxes {
                    properties |= changed::MAILBOXES;
                }
                if before.flags != after.flags || before.keywords != after.keywords {
                    properties |= changed::KEYWORDS;
                }
                if properties != 0 {
                    tx.updated(ObjectType::Email, after.email_id, properties);
                }
            }
            (None, None) => {}
        }
    }
}
