//! The change log: which objects of a type have changed since a state (RFC 8620, 5.2).

use crate::store::Store;
use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

const DAY_MS: i64 = 86_400_000;
/// Entries of one type that one transaction removes.
const TRIMMED_AT_ONCE: i64 = 1_000;

/// What has happened to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// It has come to be.
    Created,
    /// Some property has changed.
    Updated,
    /// It is gone.
    Destroyed,
}

impl ChangeKind {
    pub(super) fn number(self) -> i64 {
        match self {
            ChangeKind::Created => 1,
            ChangeKind::Updated => 2,
            ChangeKind::Destroyed => 3,
        }
    }

    fn of_number(number: i64) -> Result<ChangeKind, StoreError> {
        match number {
            1 => Ok(ChangeKind::Created),
            2 => Ok(ChangeKind::Updated),
            3 => Ok(ChangeKind::Destroyed),
            _ => Err(StoreError::corrupt_value("kind of a change", &number)),
        }
    }
}

/// A change of one object, with the type's own bits for the properties concerned (0: any).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// What has happened.
    pub kind: ChangeKind,
    /// Which properties.
    pub properties: i64,
}

impl Change {
    /// This change followed by another of the same object; `None` when nothing is left of both.
    pub fn then(self, later: Change) -> Option<Change> {
        match (self.kind, later.kind) {
            (ChangeKind::Created, ChangeKind::Destroyed) => None,
            (ChangeKind::Created, _) => Some(self),
            (_, ChangeKind::Destroyed) => Some(later),
            _ => Some(Change { kind: ChangeKind::Updated, properties: self.properties | later.properties }),
        }
    }
}

/// What has changed between two states.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects that are new.
    pub created: Vec<Id>,
    /// Objects that are old and different.
    pub updated: Vec<Id>,
    /// Objects that are gone.
    pub destroyed: Vec<Id>,
    /// Bits of all properties that were updated; meaningful when no update had bits 0.
    pub updated_properties: i64,
    /// Whether some update did not say which properties it changed.
    pub any_property: bool,
}

/// The answer to "what has changed since".
#[derive(Debug)]
pub enum ChangesSince {
    /// The changes, the state that they lead to, and whether there are more after it.
    Known { changes: Changes, new_state: State, has_more: bool },
    /// The state is of another epoch, before the log's beginning or from the future.
    CannotCalculate,
}

/// The state of a type in an account.
pub async fn state_of(
    conn: &mut Conn,
    account: AccountId,
    object_type: ObjectType,
) -> Result<State, StoreError> {
    sql("select a.epoch, coalesce(t.modseq, 0) from account a \
         left join type_state t on t.account_id = a.id and t.type = $2 where a.id = $1")
    .bind(account)
    .bind(object_type.number())
    .first(conn, |row| Ok(State::at(row.get(0)?, row.get(1)?)))
    .await?
    .ok_or(StoreError::NoSuchAccount)
}

/// The states of all types that have changed at all, for push.
pub async fn states_of(conn: &mut Conn, account: AccountId) -> Result<Vec<(ObjectType, State)>, StoreError> {
    let rows = sql("select t.type, a.epoch, t.modseq from account a \
                    join type_state t on t.account_id = a.id where a.id = $1")
    .bind(account)
    .all(conn, |row| Ok((row.get::<i64>(0)?, State::at(row.get(1)?, row.get(2)?))))
    .await?;
    Ok(rows.into_iter().filter_map(|(number, state)| Some((ObjectType::of_number(number)?, state))).collect())
}

/// What has changed since a state, at most `limit` changes of it.
pub async fn changes_since(
    conn: &mut Conn,
    account: AccountId,
    object_type: ObjectType,
    since: State,
    limit: usize,
) -> Result<ChangesSince, StoreError> {
    let head = state_of(conn, account, object_type).await?;
    if since.modseq > head.modseq {
        return Ok(ChangesSince::CannotCalculate);
    }
    changes_from(conn, account, object_type, since, head, limit).await
}

/// As `changes_since`, for a state of another type of the same account, which may be later than
/// the last change of this one.
pub async fn changes_up_to_now(
    conn: &mut Conn,
    account: AccountId,
    object_type: ObjectType,
    since: State,
    limit: usize,
) -> Result<ChangesSince, StoreError> {
    let head = state_of(conn, account, object_type).await?;
    if since.epoch == head.epoch && since.modseq >= head.modseq {
        return Ok(ChangesSince::Known { changes: Changes::default(), new_state: head, has_more: false });
    }
    changes_from(conn, account, object_type, since, head, limit).await
}

/// The objects of a type that were created after a modseq, each with the modseq by which it was, the
/// newest first: at most `limit`, found among at most `looked_through` changes. Some may be gone by now.
pub async fn created_after(
    conn: &mut Conn,
    account: AccountId,
    object_type: ObjectType,
    after: i64,
    limit: usize,
    looked_through: usize,
) -> Result<Vec<(Id, i64)>, StoreError> {
    sql("select object_id, modseq from (select modseq, object_id, kind from change \
         where account_id = $1 and type = $2 and modseq > $3 \
         order by modseq desc, object_id desc limit $4) as latest \
         where kind = $5 order by modseq desc, object_id desc limit $6")
    .bind(account)
    .bind(object_type.number())
    .bind(after)
    .bind(looked_through as i64)
    .bind(ChangeKind::Created.number())
    .bind(limit as i64)
    .all(conn, |row| Ok((row.get(0)?, row.get(1)?)))
    .await
}

async fn changes_from(
    conn: &mut Conn,
    account: AccountId,
    object_type: ObjectType,
    since: State,
    head: State,
    limit: usize,
) -> Result<ChangesSince, StoreError> {
    if since == head {
        return Ok(ChangesSince::Known { changes: Changes::default(), new_state: head, has_more: false });
    }
    let floor = sql("select log_floor from account where id = $1").bind(account).value::<i64>(conn).await?;
    let floor = floor.unwrap_or(0);
    let is_trimmed = since.modseq < floor || (since.modseq == floor && since.within != State::ALL);
    if since.epoch != head.epoch || is_trimmed {
        return Ok(ChangesSince::CannotCalculate);
    }
    // A state within a transaction skips as many objects of it as the state includes.
    let (from, skip) = if since.within == State::ALL {
        (since.modseq + 1, 0)
    } else {
        (since.modseq, since.within as usize)
    };
    let mut rows = sql("select modseq, object_id, kind, properties from change \
                        where account_id = $1 and type = $2 and modseq >= $3 \
                        order by modseq, object_id limit $4")
    .bind(account)
    .bind(object_type.number())
    .bind(from)
    .bind((skip + limit + 1) as i64)
    .all(conn, |row| {
        let change = Change { kind: ChangeKind::of_number(row.get(2)?)?, properties: row.get(3)? };
        Ok((row.get::<i64>(0)?, row.get::<Id>(1)?, change))
    })
    .await?;
    let has_more = rows.len() > skip + limit;
    rows.truncate(skip + limit);
    let new_state = if has_more {
        let modseq = rows.last().map_or(since.modseq, |row| row.0);
        let within = rows.iter().filter(|row| row.0 == modseq).count();
        State { epoch: head.epoch, modseq, within: within as u32 }
    } else {
        head
    };
    Ok(ChangesSince::Known { changes: merge(rows.into_iter().skip(skip)), new_state, has_more })
}

/// Removes entries of the log from before a time, a bounded number at once; whether there are more.
/// States from before the floor that this raises are refused from then on.
pub async fn trim(store: &Store, account: AccountId, before_ms: i64) -> Result<bool, StoreError> {
    let day = before_ms.div_euclid(DAY_MS);
    let mut snapshot = store.read().await?;
    // The first modseq of the first day that is kept: all before it goes.
    let kept_from =
        sql("select modseq from change_day where account_id = $1 and day >= $2 order by day limit 1")
            .bind(account)
            .bind(day)
            .value::<i64>(&mut snapshot)
            .await?;
    let has_old_days = sql("select 1 from change_day where account_id = $1 and day < $2 limit 1")
        .bind(account)
        .bind(day)
        .value::<i64>(&mut snapshot)
        .await?;
    drop(snapshot);
    let (Some(kept_from), Some(_)) = (kept_from, has_old_days) else { return Ok(false) };
    let floor = kept_from - 1;
    store
        .write_lane(account.get(), Urgency::Background, async move |tx: &mut Tx| {
            let mut removed = 0;
            for object_type in ObjectType::ALL {
                removed +=
                    sql("delete from change where account_id = $1 and type = $2 and (modseq, object_id) in \
                                (select modseq, object_id from change where account_id = $1 and type = $2 \
                                and modseq <= $3 order by modseq limit $4)")
                    .bind(account)
                    .bind(object_type.number())
                    .bind(floor)
                    .bind(TRIMMED_AT_ONCE)
                    .run(tx)
                    .await?;
            }
            let has_more = removed > 0;
            // Raised with the first entry that goes: no answer is ever built on a log with holes.
            sql("update account set log_floor = $2 where id = $1 and log_floor < $2")
                .bind(account)
                .bind(floor)
                .run(tx)
                .await?;
            if !has_more {
                sql("delete from change_day where account_id = $1 and day < $2")
                    .bind(account)
                    .bind(day)
                    .run(tx)
                    .await?;
            }
            Ok(has_more)
        })
        .await
}

/// Folds the changes of each object into one, in the order in which the objects first changed.
fn merge(rows: impl Iterator<Item = (i64, Id, Change)>) -> Changes {
    let mut order = Vec::new();
    let mut merged: std::collections::HashMap<Id, Option<Change>> = std::collections::HashMap::new();
    for (_, id, change) in rows {
        match merged.entry(id) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                order.push(id);
                entry.insert(Some(change));
            }
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                let now = entry.get().map_or(Some(change), |before| before.then(change));
                entry.insert(now);
            }
        }
    }
    let mut out = Changes::default();
    for id in order {
        let Some(Some(change)) = merged.get(&id) else { continue };
        match change.kind {
            ChangeKind::Created => out.created.push(id),
            ChangeKind::Destroyed => out.destroyed.push(id),
            ChangeKind::Updated => {
                out.updated.push(id);
                out.updated_properties |= change.properties;
                out.any_property |= change.properties == 0;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: ChangeKind) -> Change {
        Change { kind, properties: 0 }
    }

    #[test]
    fn changes_of_one_object_fold_into_one() {
        let rows = [
            (1, Id(1), change(ChangeKind::Created)),
            (1, Id(2), change(ChangeKind::Created)),
            (2, Id(1), change(ChangeKind::Updated)),
            (2, Id(3), Change { kind: ChangeKind::Updated, properties: 1 }),
            (3, Id(2), change(ChangeKind::Destroyed)),
            (3, Id(4), change(ChangeKind::Updated)),
            (4, Id(4), change(ChangeKind::Destroyed)),
        ];
        let changes = merge(rows.into_iter());
        assert_eq!(changes.created, [Id(1)]);
        assert_eq!(changes.updated, [Id(3)]);
        assert_eq!(changes.destroyed, [Id(4)]);
        assert_eq!((changes.updated_properties, changes.any_property), (1, false));
    }
}
