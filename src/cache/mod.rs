//! What is read most, kept near: immutable data of Emails, sign-ins just verified, rates.
//!
//! Losing any of it costs time and nothing else; the database is the truth. Data of Emails is
//! immutable, so it is never invalidated: whether an Email exists, and who may see it, is asked of
//! the database before. Redis shares it between nodes; each call waits a moment for it at the most,
//! and without it each node goes on with what it keeps itself.

pub mod allowance;
mod memory;
mod redis;
#[cfg(test)]
mod redis_tests;

use bytes::Bytes;

use crate::cache::memory::Memory;
use crate::cache::redis::Redis;
use crate::config::engine::CacheUrl;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};

/// The cache of a server. Cheap to clone.
#[derive(Clone)]
pub enum Cache {
    /// Within one process.
    Memory(Memory),
    /// Between processes, and near in each.
    Redis(Redis),
}

/// What is kept of an Email.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Space {
    /// The properties that lists show.
    Email,
    /// Its parsed structure.
    Structure,
}

/// A sign-in that has been verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Whose.
    pub login: Id,
    /// The version of the login that it was verified against. A later one voids it.
    pub version: i64,
}

/// What is counted for each key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rate {
    /// Failed sign-ins from an address.
    FailuresOfAddress,
    /// Failed sign-ins of a login.
    FailuresOfLogin,
    /// Recipients of an account's submissions.
    Recipients,
    /// PushSubscriptions made by a login.
    PushSubscriptions,
    /// Uses of a ticket.
    TicketUses,
}

impl Cache {
    /// The cache at an address, of at most so many octets of Email data in this process.
    pub fn open(url: &CacheUrl, max_bytes: u64, clock: Clock) -> Cache {
        match url {
            CacheUrl::Memory => Cache::Memory(Memory::new(max_bytes, clock)),
            CacheUrl::Redis(url) => Cache::Redis(Redis::open(url, Memory::new(max_bytes, clock))),
        }
    }

    /// What is kept of these Emails, in their order.
    pub async fn get_many(&self, space: Space, account: AccountId, ids: &[Id]) -> Vec<Option<Bytes>> {
        match self {
            Cache::Memory(memory) => memory.get_many(space, account, ids),
            Cache::Redis(redis) => redis.get_many(space, account, ids).await,
        }
    }

    /// Keeps data of Emails.
    pub async fn put_many(&self, space: Space, account: AccountId, values: Vec<(Id, Bytes)>) {
        match self {
            Cache::Memory(memory) => memory.put_many(space, account, values),
            Cache::Redis(redis) => redis.put_many(space, account, values).await,
        }
    }

    /// The sign-in of these credentials, when they were verified a short while ago. The key is a
    /// keyed hash of the credentials, never they themselves.
    pub async fn verified(&self, key: &[u8; 32]) -> Option<Verified> {
        match self {
            Cache::Memory(memory) => memory.verified(key),
            Cache::Redis(redis) => redis.verified(key).await,
        }
    }

    /// Remembers a verified sign-in for a while.
    pub async fn remember_verified(&self, key: [u8; 32], verified: Verified, for_ms: i64) {
        match self {
            Cache::Memory(memory) => memory.remember_verified(key, verified, for_ms),
            Cache::Redis(redis) => redis.remember_verified(key, verified, for_ms).await,
        }
    }

    /// Forgets all sign-ins of a login: its password has changed or it is gone. Other processes may
    /// keep them near for their time: what makes them void is the version.
    pub async fn forget_login(&self, login: Id) {
        match self {
            Cache::Memory(memory) => memory.forget_login(login),
            Cache::Redis(redis) => redis.forget_login(login).await,
        }
    }

    /// Adds to a counter and answers how much was counted within the last `window_ms`, this
    /// included: exact within a window, and of the window before as much as still overlaps, taken
    /// as even. Adding 0 only asks. A counter must always be used with the same window.
    pub async fn rate_add(&self, rate: Rate, key: &str, window_ms: i64, by: u64) -> u64 {
        match self {
            Cache::Memory(memory) => memory.rate_add(rate, key, window_ms, by),
            Cache::Redis(redis) => redis.rate_add(rate, key, window_ms, by).await,
        }
    }

    /// Takes back what was counted at a time; a counter does not go below nothing.
    async fn rate_take_back(&self, rate: Rate, key: &str, window_ms: i64, by: u64, at_ms: i64) {
        match self {
            Cache::Memory(memory) => memory.take_back(memory.counter(rate, key, window_ms, at_ms), by),
            Cache::Redis(redis) => redis.rate_take_back(rate, key, window_ms, by, at_ms).await,
        }
    }

    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64 {
        match self {
            Cache::Memory(memory) => memory.now_ms(),
            Cache::Redis(redis) => redis.now_ms(),
        }
    }
}
