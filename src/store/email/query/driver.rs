//! What drives a query: the rows that are read in their order, of which the filter takes some.
//!
//! The choice is made from the filter and from counters, so that a list of a few Emails is not
//! looked for among a million: a scan would find them as well, but late.

use std::collections::BTreeSet;

use crate::store::db::{Conn, sql};
use crate::store::email::place::ALL_MAIL;
use crate::store::email::query::{EmailQuery, Filter};
use crate::store::error::StoreError;
use crate::types::id::{AccountId, Id};
use crate::types::keyword::flag_of;

/// Mailboxes that are read side by side, at the most.
const MAILBOXES_AT_ONCE: usize = 64;
/// Rows of a keyword that are counted to see whether they are few.
const FEW_ROWS: i64 = 10_000;

/// The rows that are read.
#[derive(Clone, Debug, PartialEq)]
pub enum Driver {
    /// Of one mailbox, or of mailbox 0 for all mail.
    Mailbox(Id),
    /// Of one mailbox, as far as a set of ids in the filter names them.
    Listed(Id),
    /// Of several mailboxes side by side, each Email once. Only for lists by received date.
    Mailboxes(Vec<Id>),
    /// Of a keyword without a flag bit, as far as they are in one mailbox.
    Keyword { keyword: String, mailbox: Id },
}

/// A driver, and the conditions that it does not decide.
pub struct Chosen {
    /// What is read.
    pub driver: Driver,
    /// What each row must satisfy besides.
    pub rest: Vec<Filter>,
}

/// Chooses for conditions that must all hold.
pub async fn choose(conn: &mut Conn, query: &EmailQuery, parts: &[Filter]) -> Result<Chosen, StoreError> {
    let account = query.account;
    let mailbox = smallest(conn, account, &required(parts)).await?;
    let all_but = |decided: &Filter| parts.iter().filter(|part| *part != decided).cloned().collect();
    let in_mailbox = Filter::InMailbox(mailbox);
    if parts.iter().any(|part| matches!(part, Filter::Ids(_))) {
        return Ok(Chosen { driver: Driver::Listed(mailbox), rest: all_but(&in_mailbox) });
    }
    for part in parts {
        if let Filter::Keyword(keyword, true) = part
            && flag_of(keyword).is_none()
            && is_narrower(conn, account, keyword, mailbox).await?
        {
            let mut rest: Vec<Filter> = all_but(part);
            rest.retain(|part| *part != in_mailbox);
            return Ok(Chosen { driver: Driver::Keyword { keyword: keyword.clone(), mailbox }, rest });
        }
    }
    if mailbox == ALL_MAIL && query.is_by_date() {
        for part in parts {
            let Some(mailboxes) = alternatives(conn, account, part).await? else { continue };
            let mut rest: Vec<Filter> = all_but(part);
            return Ok(match mailboxes.as_slice() {
                [] => {
                    rest.push(Filter::Or(Vec::new()));
                    Chosen { driver: Driver::Mailbox(ALL_MAIL), rest }
                }
                [only] => Chosen { driver: Driver::Mailbox(*only), rest },
                _ => Chosen { driver: Driver::Mailboxes(mailboxes), rest },
            });
        }
    }
    Ok(Chosen { driver: Driver::Mailbox(mailbox), rest: all_but(&in_mailbox) })
}

/// Mailboxes in which everything that satisfies all of the conditions must be.
fn required(parts: &[Filter]) -> BTreeSet<Id> {
    parts.iter().flat_map(required_by).collect()
}

fn required_by(filter: &Filter) -> BTreeSet<Id> {
    match filter {
        Filter::InMailbox(id) => BTreeSet::from([*id]),
        Filter::And(parts) => required(parts),
        Filter::Or(parts) => {
            let mut common: Option<BTreeSet<Id>> = None;
            for part in parts {
                let ids = required_by(part);
                common = Some(match common {
                    None => ids,
                    Some(known) => known.intersection(&ids).copied().collect(),
                });
            }
            common.unwrap_or_default()
        }
        _ => BTreeSet::new(),
    }
}

/// The mailbox with the fewest Emails; all mail when none is given.
async fn smallest(conn: &mut Conn, account: AccountId, among: &BTreeSet<Id>) -> Result<Id, StoreError> {
    let ids: Vec<Id> = among.iter().copied().collect();
    let [_, _, ..] = ids.as_slice() else { return Ok(ids.first().copied().unwrap_or(ALL_MAIL)) };
    let totals = sql("select id, total_emails from mailbox where account_id = $1 and id = any($2)")
        .bind(account)
        .bind(&ids)
        .all(conn, |row| Ok((row.get::<Id>(0)?, row.get::<i64>(1)?)))
        .await?;
    let total_of = |id: &Id| totals.iter().find(|(known, _)| known == id).map_or(0, |(_, total)| *total);
    Ok(ids.iter().copied().min_by_key(total_of).unwrap_or(ALL_MAIL))
}

/// Whether fewer Emails have the keyword than are in the mailbox.
async fn is_narrower(
    conn: &mut Conn,
    account: AccountId,
    keyword: &str,
    mailbox: Id,
) -> Result<bool, StoreError> {
    let total = if mailbox == ALL_MAIL {
        sql("select used_emails from account where id = $1").bind(account).value(conn).await?
    } else {
        sql("select total_emails from mailbox where account_id = $1 and id = $2")
            .bind(account)
            .bind(mailbox)
            .value(conn)
            .await?
    };
    let limit = total.unwrap_or(0).min(FEW_ROWS);
    let having = sql("select count(*) from (select 1 from keyword where account_id = $1 and keyword = $2 \
                      limit $3) few")
    .bind(account)
    .bind(keyword)
    .bind(limit)
    .value::<i64>(conn)
    .await?;
    Ok(having.unwrap_or(0) < limit)
}

/// The mailboxes of which the Email must be in one, when the condition says just that.
async fn alternatives(
    conn: &mut Conn,
    account: AccountId,
    part: &Filter,
) -> Result<Option<Vec<Id>>, StoreError> {
    let ids: BTreeSet<Id> = match part {
        Filter::Or(parts) if parts.len() <= MAILBOXES_AT_ONCE => {
            let id_of = |part: &Filter| match part {
                Filter::InMailbox(id) => Some(*id),
                _ => None,
            };
            let Some(ids) = parts.iter().map(id_of).collect() else { return Ok(None) };
            ids
        }
        Filter::InMailboxOtherThan(excluded) => {
            let totals = totals(conn, account).await?;
            totals.into_iter().map(|(id, _)| id).filter(|id| !excluded.contains(id)).collect()
        }
        _ => return Ok(None),
    };
    Ok((ids.len() <= MAILBOXES_AT_ONCE).then(|| ids.into_iter().collect()))
}

/// How many Emails are in each mailbox that is not empty.
async fn totals(conn: &mut Conn, account: AccountId) -> Result<Vec<(Id, i64)>, StoreError> {
    sql("select id, total_emails from mailbox where account_id = $1 and total_emails > 0")
        .bind(account)
        .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
        .await
}

/// How many Emails are in some mailbox that is none of these, counted on the smaller side.
pub async fn count_elsewhere(
    conn: &mut Conn,
    account: AccountId,
    excluded: &[Id],
) -> Result<i64, StoreError> {
    let totals = totals(conn, account).await?;
    let (here, elsewhere): (Vec<_>, Vec<_>) = totals.into_iter().partition(|(id, _)| excluded.contains(id));
    let sum = |side: &[(Id, i64)]| side.iter().map(|(_, total)| *total).sum::<i64>();
    let ids = |side: &[(Id, i64)]| side.iter().map(|(id, _)| *id).collect::<Vec<Id>>();
    if sum(&elsewhere) < sum(&here) {
        // The sign keeps the planner from reading all of an index that has the Emails in order.
        let counted = sql("select count(distinct +email_id) from membership \
                           where account_id = $1 and mailbox_id = any($2)")
        .bind(account)
        .bind(&ids(&elsewhere));
        return Ok(counted.value(conn).await?.unwrap_or(0));
    }
    let all = sql("select used_emails from account where id = $1").bind(account).value::<i64>(conn).await?;
    let only_here = sql("select count(distinct +m.email_id) from membership m \
                         where m.account_id = $1 and m.mailbox_id = any($2) and not exists \
                         (select 1 from membership x where x.account_id = $1 and x.email_id = m.email_id \
                         and x.mailbox_id <> 0 and not (x.mailbox_id = any($2)))")
    .bind(account)
    .bind(&ids(&here))
    .value::<i64>(conn)
    .await?;
    Ok(all.unwrap_or(0) - only_here.unwrap_or(0))
}
