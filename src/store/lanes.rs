//! The lanes of the queues, and which one an account has.
//!
//! On SQLite and plain PostgreSQL there are `LANES` of them, and accounts spread over them by a hash.
//! On a sharded database each shard of `account` has a lane whose number hashes into that shard: what
//! an account queues stays on the node that its mail is on.

use std::collections::BTreeMap;

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::queue::{LANES, lane_of};
use crate::types::id::AccountId;

/// Numbers that are tried as lanes: so many that every one of a thousand shards gets one.
const TRIED: i64 = 20_000;

/// The lanes of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// From 0 to `LANES`.
    Plain,
    /// One for each shard: lane by shard id.
    Sharded(BTreeMap<i64, i64>),
}

impl Lanes {
    /// Those of a sharded database.
    pub async fn of_shards(conn: &mut Conn) -> Result<Lanes, StoreError> {
        // Answered from what the node knows of its shards, without asking any.
        let numbers = sql("select get_shard_id_for_distribution_column('account', n), n \
                           from generate_series(0::bigint, $1) n order by n desc")
        .bind(TRIED)
        .all(conn, |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?)))
        .await?;
        // The smallest number of each shard comes last and stays.
        Ok(Lanes::Sharded(numbers.into_iter().collect()))
    }

    /// The lane for the rows of a new account.
    pub async fn of_account(&self, conn: &mut Conn, account: AccountId) -> Result<i64, StoreError> {
        let Lanes::Sharded(by_shard) = self else { return Ok(lane_of(account)) };
        let shard = sql("select get_shard_id_for_distribution_column('account', $1)")
            .bind(account)
            .value::<i64>(conn)
            .await?;
        // A shard that was split off since is served from another lane: slower, and no less right.
        let lane = shard.and_then(|shard| by_shard.get(&shard).copied());
        Ok(lane.or_else(|| by_shard.values().next().copied()).unwrap_or(0))
    }

    /// Lanes in groups that one transaction may write without asking several nodes.
    pub fn together(&self, lanes: &[i64]) -> Vec<Vec<i64>> {
        match self {
            Lanes::Plain if lanes.is_empty() => Vec::new(),
            Lanes::Plain => vec![lanes.to_vec()],
            Lanes::Sharded(_) => lanes.iter().map(|lane| vec![*lane]).collect(),
        }
    }

    /// A lane for a row that belongs to no account, always the same for the same number.
    pub fn of_number(&self, number: i64) -> i64 {
        let place = |count: usize| (number.cast_unsigned() % count.max(1) as u64) as usize;
        match self {
            Lanes::Plain => place(LANES as usize) as i64,
            Lanes::Sharded(by_shard) => {
                by_shard.values().nth(place(by_shard.len())).copied().unwrap_or_default()
            }
        }
    }

    /// A lane for a row that belongs to no account.
    pub fn random(&self) -> i64 {
        match self {
            Lanes::Plain => rand::random_range(0..LANES),
            Lanes::Sharded(by_shard) if by_shard.is_empty() => 0,
            Lanes::Sharded(by_shard) => {
                by_shard.values().nth(rand::random_range(0..by_shard.len())).copied().unwrap_or(0)
            }
        }
    }
}
