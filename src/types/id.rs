//! Object ids: 63 bits, made by the program, ordered by time of making.
//!
//! An id is 41 bits of milliseconds since 2024 and 22 bits counting up from a random start in
//! each process. It is shown as thirteen characters of lower-case base32, of which the first is
//! always a letter (RFC 8620, 1.2 advises both), so that no two ids differ by case only.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::clock::Clock;

/// 2024-01-01T00:00:00Z in milliseconds since 1970: where the time in an id starts to count.
const EPOCH_MS: i64 = 1_704_067_200_000;
const COUNTER_BITS: u32 = 22;
const COUNTER_MASK: i64 = (1 << COUNTER_BITS) - 1;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of a shown id: 13 × 5 bits hold 63.
const SHOWN_LEN: usize = 13;

/// The id of any object. Zero is never made and means "none" where the store needs a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub i64);

/// The id of an account, apart from other ids so that the two cannot be mixed up in a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub Id);

impl Id {
    /// When it was made, in milliseconds since 1970.
    pub fn made_at_ms(self) -> i64 {
        (self.0 >> COUNTER_BITS) + EPOCH_MS
    }

    /// Writes the id in its shown form at the end of `out`.
    pub fn push_to(self, out: &mut String) {
        for place in (0..SHOWN_LEN).rev() {
            let digit = (self.0 >> (place * 5)) & 31;
            out.push(char::from(ALPHABET[digit as usize]));
        }
    }
}

impl AccountId {
    /// The number by which the store knows the account.
    pub fn get(self) -> i64 {
        self.0.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::with_capacity(SHOWN_LEN);
        self.push_to(&mut shown);
        f.write_str(&shown)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not the shown form of an id of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != SHOWN_LEN {
            return Err(NotAnId);
        }
        let mut value: i64 = 0;
        for (place, byte) in text.bytes().enumerate() {
            let digit = match byte {
                b'a'..=b'z' => byte - b'a',
                b'2'..=b'7' => byte - b'2' + 26,
                _ => return Err(NotAnId),
            };
            if place == 0 && digit > 7 {
                return Err(NotAnId);
            }
            value = (value << 5) | i64::from(digit);
        }
        Ok(Id(value))
    }
}

impl FromStr for AccountId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.parse().map(AccountId)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|NotAnId| serde::de::Error::custom("not an id"))
    }
}

/// Makes ids: one for the process.
#[derive(Debug)]
pub struct IdMaker {
    clock: Clock,
    last: Mutex<(i64, i64)>,
}

impl IdMaker {
    /// A maker whose counter starts at a random place.
    pub fn new(clock: Clock) -> Self {
        let start = rand::random::<u32>() as i64 & COUNTER_MASK;
        IdMaker { clock, last: Mutex::new((0, start)) }
    }

    /// A new id. Never the same twice in a process, and never of an earlier millisecond than the
    /// one before, even when the clock is set back.
    pub fn make(&self) -> Id {
        let now = (self.clock.now_ms() - EPOCH_MS).max(1);
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let counter = (last.1 + 1) & COUNTER_MASK;
        // When the counter wraps, the millisecond moves on, so that the pair stays unique.
        let floor = if counter == 0 { last.0 + 1 } else { last.0 };
        *last = (now.max(floor), counter);
        Id((last.0 << COUNTER_BITS) | counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_form_reads_back_and_starts_with_a_letter() {
        for value in [1, 31, 32, i64::MAX, 0x1234_5678_9abc] {
            let shown = Id(value).to_string();
            assert_eq!(shown.len(), SHOWN_LEN);
            assert!(shown.as_bytes()[0].is_ascii_lowercase());
            assert_eq!(shown.parse(), Ok(Id(value)));
        }
    }

    #[test]
    fn foreign_texts_are_no_ids() {
        for text in ["", "a", "aaaaaaaaaaaaaA", "zaaaaaaaaaaaa", "aaaaaaaaaaaa1", "aaaaaaaaaaaaé"] {
            assert_eq!(text.parse::<Id>(), Err(NotAnId), "{text}");
        }
    }

    #[test]
    fn ids_of_a_process_are_unique_and_their_time_never_goes_back() {
        let clock = Clock::fixed(EPOCH_MS + 1_000_000);
        let maker = IdMaker::new(clock.clone());
        let first = maker.make();
        clock.advance_ms(-5_000);
        let second = maker.make();
        assert_ne!(first, second);
        assert!(second.0 >> COUNTER_BITS >= first.0 >> COUNTER_BITS);
    }

    #[test]
    fn ids_of_one_millisecond_are_unique_also_when_the_counter_wraps() {
        let maker = IdMaker::new(Clock::fixed(EPOCH_MS + 1_000_000));
        let mut last = maker.make();
        for _ in 0..=COUNTER_MASK + 10 {
            let next = maker.make();
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
    }

    #[test]
    fn ids_are_in_order_of_time_and_of_other_numbers_in_each_process() {
        let clock = Clock::fixed(EPOCH_MS + 1_000_000);
        let makers: Vec<IdMaker> = (0..8).map(|_| IdMaker::new(clock.clone())).collect();
        let first: std::collections::BTreeSet<Id> = makers.iter().map(IdMaker::make).collect();
        assert_eq!(first.len(), makers.len(), "processes start at random places");
        clock.advance_ms(1);
        assert!(makers.iter().all(|maker| first.iter().all(|id| maker.make() > *id)));
    }
}
