//! A set of threads that is quick for a million of them.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::types::id::Id;

/// Threads seen while a list is read. The hash is no defence against chosen keys: ids are made by
/// the server alone.
#[derive(Default)]
pub struct ThreadSet(HashSet<i64, BuildHasherDefault<IdHasher>>);

impl ThreadSet {
    /// Adds a thread; whether it was not there before.
    pub fn insert(&mut self, thread: Id) -> bool {
        self.0.insert(thread.0)
    }

    /// How many threads.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Spreads the bits of one number over the whole word.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing; the upper half goes into the lower, which chooses the place.
        let spread = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }
}
