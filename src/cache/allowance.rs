//! To how many recipients an account may still send within the hour, the same wherever mail is submitted.

use crate::cache::{Cache, Rate};
use crate::types::id::AccountId;

/// The time over which recipients are counted.
pub const HOUR_MS: i64 = 3_600_000;

/// Recipients that are taken before the work, so that many requests at once get no more than one after
/// the other would. What is not kept when it is dropped is given back: only what was queued counts.
pub struct Allowance {
    cache: Cache,
    key: String,
    limit: u64,
    taken: u64,
    taken_at_ms: i64,
}

impl Allowance {
    /// Of an account that may send to so many within the hour.
    pub fn new(cache: &Cache, account: AccountId, limit: u64) -> Allowance {
        Allowance { cache: cache.clone(), key: account.to_string(), limit, taken: 0, taken_at_ms: 0 }
    }

    /// Takes so many, unless that is more than there are.
    pub async fn take(&mut self, recipients: u64) -> bool {
        let rate = Rate::Recipients;
        self.taken_at_ms = self.cache.now_ms();
        // Before the wait: whoever is cut off there gives it back too.
        self.taken += recipients;
        let now = self.cache.rate_add(rate, &self.key, HOUR_MS, recipients).await;
        if now <= self.limit {
            return true;
        }
        self.taken -= recipients;
        self.cache.rate_take_back(rate, &self.key, HOUR_MS, recipients, self.taken_at_ms).await;
        tracing::warn!(account = self.key, "too many recipients within the hour");
        false
    }

    /// Gives back all but so many that were taken.
    pub async fn keep(mut self, recipients: u64) {
        let over = std::mem::take(&mut self.taken).saturating_sub(recipients);
        if over > 0 {
            self.cache.rate_take_back(Rate::Recipients, &self.key, HOUR_MS, over, self.taken_at_ms).await;
        }
    }

    /// How many an account may still send to.
    pub async fn left(cache: &Cache, account: AccountId, limit: u64) -> u64 {
        limit.saturating_sub(cache.rate_add(Rate::Recipients, &account.to_string(), HOUR_MS, 0).await)
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let (over, at_ms) = (std::mem::take(&mut self.taken), self.taken_at_ms);
        let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| over > 0) else { return };
        let (cache, key) = (self.cache.clone(), std::mem::take(&mut self.key));
        runtime
            .spawn(async move { cache.rate_take_back(Rate::Recipients, &key, HOUR_MS, over, at_ms).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::engine::CacheUrl;
    use crate::types::clock::Clock;
    use crate::types::id::Id;

    #[tokio::test]
    async fn only_what_was_kept_counts() {
        let cache = Cache::open(&CacheUrl::Memory, 1 << 20, Clock::system());
        let account = AccountId(Id(1));
        let left = async || Allowance::left(&cache, account, 10).await;
        let mut one = Allowance::new(&cache, account, 10);
        assert!(one.take(4).await && one.take(3).await);
        // While it is open, nobody else gets it.
        let mut other = Allowance::new(&cache, account, 10);
        assert!(!other.take(4).await && other.take(3).await);
        one.keep(4).await;
        assert_eq!(left().await, 3);
        drop(other);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(left().await, 6);
    }
}
