//! The cache within one process. Every space is bounded: Email data by octets, the rest by number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::cache::{Rate, Space, Verified};
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id};

/// What an entry costs beside its octets.
const ENTRY_BYTES: usize = 128;
/// Sign-ins remembered at once.
const VERIFIED_MAX: u64 = 50_000;
/// Counters kept at once. The one used longest ago goes first, so that a flood of new keys does not
/// push out those that are being counted.
const COUNTERS_MAX: u64 = 500_000;

/// All spaces. Cheap to clone.
#[derive(Clone)]
pub struct Memory {
    emails: Cache<(Space, AccountId, Id), Bytes>,
    verified: Cache<[u8; 32], Remembered>,
    counters: Cache<Counter, Arc<AtomicU64>>,
    clock: Clock,
}

#[derive(Clone, Copy)]
struct Remembered {
    verified: Verified,
    until_ms: i64,
}

/// A counter in one window.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counter {
    /// What is counted.
    pub rate: Rate,
    /// Of the key, so that long keys cost no memory.
    pub key_hash: [u8; 32],
    /// Windows since 1970.
    pub window: i64,
}

impl Memory {
    /// An empty cache of at most so many octets of Email data.
    pub fn new(max_bytes: u64, clock: Clock) -> Memory {
        Memory {
            emails: Cache::builder()
                .max_capacity(max_bytes)
                .weigher(|_, value: &Bytes| u32::try_from(value.len() + ENTRY_BYTES).unwrap_or(u32::MAX))
                .build(),
            verified: Cache::builder().max_capacity(VERIFIED_MAX).support_invalidation_closures().build(),
            counters: Cache::builder()
                .max_capacity(COUNTERS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            clock,
        }
    }

    /// See `Cache::get_many`.
    pub fn get_many(&self, space: Space, account: AccountId, ids: &[Id]) -> Vec<Option<Bytes>> {
        ids.iter().map(|id| self.emails.get(&(space, account, *id))).collect()
    }

    /// See `Cache::put_many`.
    pub fn put_many(&self, space: Space, account: AccountId, values: Vec<(Id, Bytes)>) {
        for (id, value) in values {
            self.emails.insert((space, account, id), value);
        }
    }

    /// See `Cache::verified`.
    pub fn verified(&self, key: &[u8; 32]) -> Option<Verified> {
        let remembered = self.verified.get(key)?;
        (remembered.until_ms > self.clock.now_ms()).then_some(remembered.verified)
    }

    /// See `Cache::remember_verified`.
    pub fn remember_verified(&self, key: [u8; 32], verified: Verified, for_ms: i64) {
        let until_ms = self.clock.now_ms().saturating_add(for_ms);
        self.verified.insert(key, Remembered { verified, until_ms });
    }

    /// See `Cache::forget_login`.
    pub fn forget_login(&self, login: Id) {
        // Never refused: closures are supported above.
        if self.verified.invalidate_entries_if(move |_, value| value.verified.login == login).is_err() {
            self.verified.invalidate_all();
        }
    }

    /// See `Cache::rate_add`.
    pub fn rate_add(&self, rate: Rate, key: &str, window_ms: i64, by: u64) -> u64 {
        let counter = self.counter(rate, key, window_ms, self.now_ms());
        let now = if by == 0 {
            self.counters.get(&counter).map_or(0, |count| count.load(Ordering::Relaxed))
        } else {
            let count = self.counters.get_with(counter, Arc::default);
            count.fetch_add(by, Ordering::Relaxed).saturating_add(by)
        };
        let before = self.counters.get(&counter.before());
        let before = before.map_or(0, |count| count.load(Ordering::Relaxed));
        let window_ms = window_ms.max(1);
        let overlap_ms = window_ms - self.clock.now_ms().rem_euclid(window_ms);
        let overlapping =
            u128::from(before) * overlap_ms.unsigned_abs() as u128 / window_ms.unsigned_abs() as u128;
        now.saturating_add(u64::try_from(overlapping).unwrap_or(u64::MAX))
    }

    /// See `Cache::now_ms`.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The counter of a key in the window of a time.
    pub fn counter(&self, rate: Rate, key: &str, window_ms: i64, at_ms: i64) -> Counter {
        let window = at_ms.div_euclid(window_ms.max(1));
        Counter { rate, key_hash: *blake3::hash(key.as_bytes()).as_bytes(), window }
    }

    /// See `Cache::rate_take_back`.
    pub fn take_back(&self, counter: Counter, by: u64) {
        if let Some(count) = self.counters.get(&counter) {
            // Never fails: the closure always has a value.
            let _ = count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(by)));
        }
    }

    /// Takes over what was counted elsewhere, if that is more.
    pub fn raise(&self, counter: Counter, to: u64) {
        if to > 0 {
            self.counters.get_with(counter, Arc::default).fetch_max(to, Ordering::Relaxed);
        }
    }
}

impl Counter {
    /// The same in the window before.
    pub fn before(self) -> Counter {
        Counter { window: self.window - 1, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountId = AccountId(Id(1));

    fn memory(max_bytes: u64) -> (Memory, Clock) {
        let clock = Clock::fixed(1_000_000);
        (Memory::new(max_bytes, clock.clone()), clock)
    }

    #[test]
    fn data_of_emails_comes_back_for_its_account_and_space_alone() {
        let (memory, _) = memory(1 << 20);
        let value = Bytes::from_static(b"{}");
        memory.put_many(Space::Email, ACCOUNT, vec![(Id(7), value.clone())]);
        let get = |space, account| memory.get_many(space, account, &[Id(6), Id(7)]);
        assert_eq!(get(Space::Email, ACCOUNT), [None, Some(value)]);
        assert_eq!(get(Space::Structure, ACCOUNT), [None, None]);
        assert_eq!(get(Space::Email, AccountId(Id(2))), [None, None]);
    }

    #[test]
    fn data_of_emails_stays_within_its_bound() {
        let (memory, _) = memory(100_000);
        for id in 0..1_000 {
            memory.put_many(Space::Email, ACCOUNT, vec![(Id(id), Bytes::from(vec![0; 1_000]))]);
        }
        memory.put_many(Space::Email, ACCOUNT, vec![(Id(5_000), Bytes::from(vec![0; 200_000]))]);
        memory.emails.run_pending_tasks();
        let kept = memory.emails.iter().map(|(_, value)| value.len()).sum::<usize>();
        assert!(kept > 50_000 && kept <= 100_000, "{kept}");
    }

    #[test]
    fn sign_ins_are_forgotten_after_their_time_or_with_their_login() {
        let (memory, clock) = memory(1 << 20);
        let verified = |login| Verified { login: Id(login), version: 3 };
        memory.remember_verified([1; 32], verified(1), 60_000);
        memory.remember_verified([2; 32], verified(2), 60_000);
        assert_eq!(memory.verified(&[1; 32]), Some(verified(1)));
        assert_eq!(memory.verified(&[3; 32]), None);
        memory.forget_login(Id(1));
        assert_eq!(memory.verified(&[1; 32]), None);
        assert_eq!(memory.verified(&[2; 32]), Some(verified(2)));
        memory.remember_verified([1; 32], verified(1), 60_000);
        assert_eq!(memory.verified(&[1; 32]), Some(verified(1)));
        clock.advance_ms(60_000);
        assert_eq!(memory.verified(&[2; 32]), None);
    }

    #[test]
    fn rates_count_the_last_window() {
        let (memory, clock) = memory(1 << 20);
        let add = |key, by| memory.rate_add(Rate::FailuresOfAddress, key, 10_000, by);
        assert_eq!(add("a", 0), 0);
        assert_eq!(add("a", 1), 1);
        assert_eq!(add("a", 7), 8);
        assert_eq!(add("b", 1), 1);
        assert_eq!(memory.rate_add(Rate::FailuresOfLogin, "a", 10_000, 0), 0);
        clock.advance_ms(10_000);
        assert_eq!(add("a", 0), 8);
        clock.advance_ms(5_000);
        assert_eq!(add("a", 1), 5);
        clock.advance_ms(5_000);
        assert_eq!(add("a", 0), 1);
        clock.advance_ms(10_000);
        assert_eq!(add("a", 0), 0);
    }

    #[test]
    fn a_flood_of_other_keys_does_not_reset_a_counter_in_use() {
        let (memory, _) = memory(1 << 20);
        let small = Memory {
            counters: Cache::builder().max_capacity(100).eviction_policy(EvictionPolicy::lru()).build(),
            ..memory
        };
        for flood in 0..1_000 {
            small.rate_add(Rate::FailuresOfLogin, "a", 10_000, 1);
            small.rate_add(Rate::FailuresOfLogin, &flood.to_string(), 10_000, 1);
        }
        assert_eq!(small.rate_add(Rate::FailuresOfLogin, "a", 10_000, 0), 1_000);
        small.counters.run_pending_tasks();
        assert!(small.counters.entry_count() <= 100);
    }
}
