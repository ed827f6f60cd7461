//! The queues between the stages: mail to be filed, mail to be sent, Emails to be indexed.
//!
//! A row is written in the transaction that causes it, in a lane; workers claim due rows of a lane
//! with a lease, do them idempotently and remove them. `claim` has what is the same for all queues.

pub mod claim;
pub mod delivered;
pub mod incoming;
pub mod index;
pub mod outgoing;
#[cfg(test)]
mod tests;
pub mod watch;
#[cfg(test)]
mod watch_tests;

use crate::types::id::AccountId;

/// Lanes of each queue where the database is not sharded; see `store::lanes`.
pub const LANES: i64 = 32;

/// When a row is due that is set aside: never.
pub const NEVER: i64 = i64::MAX;

/// The lane of the rows of an account. A new account keeps it in `account.lane`, which is what
/// counts from then on.
pub fn lane_of(account: AccountId) -> i64 {
    // The low bits of an id only count up within a process: mix all bits before taking some.
    let mut mixed = account.get() as u64;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % LANES as u64) as i64
}
