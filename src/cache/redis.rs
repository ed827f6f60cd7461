//! The cache between processes, in Redis, with one in this process before it.
//!
//! Email data is immutable and verified sign-ins carry a version, so what is near is as good as what
//! is far. Rates are counted in both: while Redis is away each process goes on from the sums that it
//! has seen last, and an emptied Redis does not forgive anybody.
//!
//! Keys of one account, and both windows of one counter, carry their name in braces: in a Cluster they
//! stand on one node, and one command reads them.

mod pool;

use std::sync::Arc;

use bytes::Bytes;
use deadpool_redis::redis::{self, cmd};
use tokio::sync::Semaphore;

use crate::cache::memory::{Counter, Memory};
use crate::cache::redis::pool::Pool;
use crate::cache::{Rate, Space, Verified};
use crate::config::redis_url::RedisUrl;
use crate::types::id::{AccountId, Id};

/// Email data is looked at in its first days most.
const EMAIL_SECONDS: u64 = 7 * 86_400;
/// Writes under way at a time. What comes while Redis is slow is not kept.
const WRITES_AT_ONCE: usize = 32;

/// Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    near: Memory,
    pool: Pool,
    prefix: Arc<str>,
    writes: Arc<Semaphore>,
}

impl Redis {
    /// At an address, with a cache in this process before it.
    pub fn open(url: &RedisUrl, near: Memory) -> Redis {
        let writes = Arc::new(Semaphore::new(WRITES_AT_ONCE));
        Redis { near, pool: Pool::open(url), prefix: url.prefix.as_str().into(), writes }
    }

    /// See `Cache::get_many`.
    pub async fn get_many(&self, space: Space, account: AccountId, ids: &[Id]) -> Vec<Option<Bytes>> {
        let mut found = self.near.get_many(space, account, ids);
        let missing: Vec<Id> =
            ids.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(id, _)| *id).collect();
        if missing.is_empty() {
            return found;
        }
        let mut pipeline = redis::pipe();
        let keys: Vec<String> = missing.iter().map(|id| self.email_key(space, account, *id)).collect();
        pipeline.cmd("MGET").arg(keys);
        let Some((far,)) = self.pool.ask::<(Vec<Option<Vec<u8>>>,)>(pipeline).await else { return found };
        let mut far = missing.into_iter().zip(far);
        let mut came = Vec::new();
        for place in found.iter_mut().filter(|found| found.is_none()) {
            let Some((id, value)) = far.next() else { break };
            *place = value.map(Bytes::from);
            came.extend(place.clone().map(|value| (id, value)));
        }
        self.near.put_many(space, account, came);
        found
    }

    /// See `Cache::put_many`. Nobody waits for Redis to have it.
    pub async fn put_many(&self, space: Space, account: AccountId, values: Vec<(Id, Bytes)>) {
        self.near.put_many(space, account, values.clone());
        let Ok(permit) = self.writes.clone().try_acquire_owned() else { return };
        let mut pipeline = redis::pipe();
        for (id, value) in values {
            let key = self.email_key(space, account, id);
            pipeline.cmd("SET").arg(key).arg(&value[..]).arg("EX").arg(EMAIL_SECONDS).ignore();
        }
        let pool = self.pool.clone();
        tokio::spawn(async move {
            pool.ask::<()>(pipeline).await;
            drop(permit);
        });
    }

    /// See `Cache::verified`.
    pub async fn verified(&self, key: &[u8; 32]) -> Option<Verified> {
        if let Some(verified) = self.near.verified(key) {
            return Some(verified);
        }
        let name = self.verified_key(&hex(key));
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(&name).cmd("PTTL").arg(&name);
        let (text, left_ms) = self.pool.ask::<(Option<String>, i64)>(pipeline).await?;
        let text = text?;
        let (login, version) = text.split_once(' ')?;
        let verified = Verified { login: login.parse().ok()?, version: version.parse().ok()? };
        self.near.remember_verified(*key, verified, left_ms);
        Some(verified)
    }

    /// See `Cache::remember_verified`.
    pub async fn remember_verified(&self, key: [u8; 32], verified: Verified, for_ms: i64) {
        self.near.remember_verified(key, verified, for_ms);
        let name = hex(&key);
        let mut pipeline = redis::pipe();
        let text = format!("{} {}", verified.login, verified.version);
        pipeline.cmd("SET").arg(self.verified_key(&name)).arg(text).arg("PX").arg(for_ms.max(1)).ignore();
        // Two keys are on two nodes of a Cluster: each is asked for itself.
        if self.pool.ask::<()>(pipeline).await.is_some() {
            let list = self.login_key(verified.login);
            let mut pipeline = redis::pipe();
            pipeline.cmd("SADD").arg(&list).arg(&name).ignore();
            pipeline.cmd("PEXPIRE").arg(&list).arg(for_ms.max(1)).ignore();
            self.pool.ask::<()>(pipeline).await;
        }
    }

    /// See `Cache::forget_login`.
    pub async fn forget_login(&self, login: Id) {
        self.near.forget_login(login);
        let list = self.login_key(login);
        let mut pipeline = redis::pipe();
        pipeline.cmd("SMEMBERS").arg(&list).cmd("DEL").arg(&list).ignore();
        let Some((names,)) = self.pool.ask::<(Vec<String>,)>(pipeline).await else { return };
        for name in names {
            let mut pipeline = redis::pipe();
            pipeline.add_command(cmd("DEL").arg(self.verified_key(&name)).take()).ignore();
            self.pool.ask::<()>(pipeline).await;
        }
    }

    /// See `Cache::rate_add`.
    pub async fn rate_add(&self, rate: Rate, key: &str, window_ms: i64, by: u64) -> u64 {
        let counter = self.near.counter(rate, key, window_ms, self.near.now_ms());
        let alone = self.near.rate_add(rate, key, window_ms, by);
        let (now, before) = (self.rate_key(counter, window_ms), self.rate_key(counter.before(), window_ms));
        let mut pipeline = redis::pipe();
        if by == 0 {
            pipeline.cmd("GET").arg(&now);
        } else {
            pipeline.cmd("INCRBY").arg(&now).arg(i64::try_from(by).unwrap_or(i64::MAX));
            // It is asked for until the window after it ends.
            let kept_ms = window_ms.max(1).saturating_mul(2);
            pipeline.cmd("PEXPIRE").arg(&now).arg(kept_ms).ignore();
        }
        pipeline.cmd("GET").arg(&before);
        let Some((now, before)) = self.pool.ask::<(Option<i64>, Option<i64>)>(pipeline).await else {
            return alone;
        };
        // Below nothing when it was lost before something was taken back.
        let counted = |count: Option<i64>| count.unwrap_or_default().max(0).unsigned_abs();
        self.near.raise(counter, counted(now));
        self.near.raise(counter.before(), counted(before));
        self.near.rate_add(rate, key, window_ms, 0)
    }

    /// See `Cache::rate_take_back`.
    pub async fn rate_take_back(&self, rate: Rate, key: &str, window_ms: i64, by: u64, at_ms: i64) {
        let counter = self.near.counter(rate, key, window_ms, at_ms);
        self.near.take_back(counter, by);
        let key = self.rate_key(counter, window_ms);
        let mut pipeline = redis::pipe();
        pipeline.cmd("DECRBY").arg(&key).arg(i64::try_from(by).unwrap_or(i64::MAX));
        pipeline.cmd("PEXPIRE").arg(&key).arg(window_ms.max(1).saturating_mul(2)).ignore();
        // Without Redis what is counted near is what counts.
        let _: Option<(i64,)> = self.pool.ask(pipeline).await;
    }

    /// See `Cache::now_ms`.
    pub fn now_ms(&self) -> i64 {
        self.near.now_ms()
    }

    /// Each release has its own: another one may keep other data of an Email.
    fn email_key(&self, space: Space, account: AccountId, id: Id) -> String {
        let space = match space {
            Space::Email => "e",
            Space::Structure => "s",
        };
        format!("{}:{space}:{}:{{{account}}}:{id}", self.prefix, env!("CARGO_PKG_VERSION"))
    }

    fn verified_key(&self, name: &str) -> String {
        format!("{}:v:{name}", self.prefix)
    }

    fn login_key(&self, login: Id) -> String {
        format!("{}:vl:{login}", self.prefix)
    }

    fn rate_key(&self, counter: Counter, window_ms: i64) -> String {
        let rate = match counter.rate {
            Rate::FailuresOfAddress => "fa",
            Rate::FailuresOfLogin => "fl",
            Rate::TicketUses => "tu",
            Rate::PushSubscriptions => "ps",
            Rate::Recipients => "to",
        };
        let hash = hex(&counter.key_hash);
        format!("{}:r:{{{rate}:{hash}}}:{window_ms}:{}", self.prefix, counter.window)
    }

    /// For tests: whether Redis is in use now.
    #[cfg(test)]
    pub fn is_up(&self) -> bool {
        self.pool.is_up()
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}
