//! Blob ids: the hash of a stored object, and where inside it the wanted octets are.
//!
//! A part of a message is not stored again: its id names the message's blob and a chain of steps,
//! each of which cuts a slice and undoes a transfer encoding. A chain, because an encoded
//! message/rfc822 holds parts of its own. An id is text of lower-case letters, digits, `-` and
//! `_`, starts with a letter, and is never longer than 255 characters (RFC 8620, 1.2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of a shown hash: 52 × 5 bits hold 256.
const HASH_SHOWN_LEN: usize = 52;
/// The letter before the hash, so that an id never starts with a digit.
const PREFIX: char = 'b';
/// Longest id (RFC 8620, 1.2).
pub const MAX_BLOB_ID_LEN: usize = 255;

/// The BLAKE3 hash of an object's octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

/// Hashes octets that arrive piece by piece.
#[derive(Clone, Default)]
pub struct BlobHasher(blake3::Hasher);

/// How the octets of a slice are encoded (RFC 2045, 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Encoding {
    /// They stand for themselves: 7bit, 8bit, binary, or an encoding that is not known.
    #[default]
    #[serde(rename = "n")]
    None,
    /// Base64 (RFC 2045, 6.8).
    #[serde(rename = "b")]
    Base64,
    /// Quoted-printable (RFC 2045, 6.7).
    #[serde(rename = "q")]
    QuotedPrintable,
}

/// One cut: `length` octets from `offset`, then decoded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// First octet, counted in what the step before yields.
    pub offset: u64,
    /// Number of octets before decoding.
    pub length: u64,
    /// What is undone after cutting.
    pub encoding: Encoding,
}

/// Names octets: a stored object, or what a chain of cuts yields from it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BlobId {
    /// The stored object.
    pub hash: BlobHash,
    /// Cuts, outermost first; none for the object itself.
    steps: SmallVec<[Step; 1]>,
}

/// The text is no blob id of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotABlobId;

impl fmt::Display for NotABlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a blob id")
    }
}

impl std::error::Error for NotABlobId {}

impl BlobHash {
    /// The hash of all the octets.
    pub fn of(content: &[u8]) -> BlobHash {
        BlobHash(*blake3::hash(content).as_bytes())
    }
}

impl BlobHasher {
    /// A hasher that has seen nothing yet.
    pub fn new() -> BlobHasher {
        BlobHasher::default()
    }

    /// Takes the next octets.
    pub fn update(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    /// The hash of all that was taken.
    pub fn finish(&self) -> BlobHash {
        BlobHash(*self.0.finalize().as_bytes())
    }
}

impl BlobId {
    /// The id of a whole object.
    pub fn whole(hash: BlobHash) -> BlobId {
        BlobId { hash, steps: SmallVec::new() }
    }

    /// The cuts, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether this names the object itself.
    pub fn is_whole(&self) -> bool {
        self.steps.is_empty()
    }

    /// The id of a slice of what this id names. `None` when its text would pass 255 characters
    /// (reached only by encoded messages nested deeper than any mail program writes), when its
    /// numbers overflow, or when it reaches past the end of an unencoded cut.
    pub fn cut(&self, step: Step) -> Option<BlobId> {
        let mut steps = self.steps.clone();
        step.offset.checked_add(step.length)?;
        match steps.last_mut() {
            // A slice of a slice is a slice: one step is enough, and equal parts get equal ids.
            Some(last) if last.encoding == Encoding::None => {
                if step.offset.checked_add(step.length)? > last.length {
                    return None;
                }
                let offset = last.offset.checked_add(step.offset)?;
                *last = Step { offset, length: step.length, encoding: step.encoding };
            }
            _ => steps.push(step),
        }
        let id = BlobId { hash: self.hash, steps };
        (id.to_string().len() <= MAX_BLOB_ID_LEN).then_some(id)
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::with_capacity(HASH_SHOWN_LEN);
        let (mut bits, mut held) = (0u32, 0u32);
        for byte in self.0 {
            bits = (bits << 8) | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                shown.push(char::from(ALPHABET[(bits >> held) as usize & 31]));
            }
            bits &= (1 << held) - 1;
        }
        shown.push(char::from(ALPHABET[(bits << (5 - held)) as usize & 31]));
        f.write_str(&shown)
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobHash {
    type Err = NotABlobId;

    fn from_str(text: &str) -> Result<BlobHash, NotABlobId> {
        if text.len() != HASH_SHOWN_LEN {
            return Err(NotABlobId);
        }
        let mut hash = [0; 32];
        let mut places = hash.iter_mut();
        let (mut bits, mut held) = (0u32, 0u32);
        for byte in text.bytes() {
            let digit = match byte {
                b'a'..=b'z' => byte - b'a',
                b'2'..=b'7' => byte - b'2' + 26,
                _ => return Err(NotABlobId),
            };
            bits = (bits << 5) | u32::from(digit);
            held += 5;
            if held >= 8 {
                held -= 8;
                if let Some(place) = places.next() {
                    *place = (bits >> held) as u8;
                }
                bits &= (1 << held) - 1;
            }
        }
        // The last character holds four bits more than the hash: only zeroes are ours.
        if bits == 0 { Ok(BlobHash(hash)) } else { Err(NotABlobId) }
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hash)?;
        for step in &self.steps {
            let encoding = match step.encoding {
                Encoding::None => "",
                Encoding::Base64 => "_b",
                Encoding::QuotedPrintable => "_q",
            };
            write!(f, "-{}_{}{encoding}", Base36(step.offset), Base36(step.length))?;
        }
        Ok(())
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobId {
    type Err = NotABlobId;

    fn from_str(text: &str) -> Result<BlobId, NotABlobId> {
        if text.len() > MAX_BLOB_ID_LEN {
            return Err(NotABlobId);
        }
        let mut pieces = text.strip_prefix(PREFIX).ok_or(NotABlobId)?.split('-');
        let hash = pieces.next().ok_or(NotABlobId)?.parse()?;
        let mut steps = SmallVec::new();
        for piece in pieces {
            let mut fields = piece.split('_');
            let mut number = || {
                let digits = fields.next().filter(|digits| !digits.starts_with('+'))?;
                u64::from_str_radix(digits, 36).ok()
            };
            let (offset, length) = number().zip(number()).ok_or(NotABlobId)?;
            let encoding = match fields.next() {
                None => Encoding::None,
                Some("b") => Encoding::Base64,
                Some("q") => Encoding::QuotedPrintable,
                Some(_) => return Err(NotABlobId),
            };
            steps.push(Step { offset, length, encoding });
        }
        let id = BlobId { hash, steps };
        // Only the form that we write: no leading zeroes, no upper case, nothing left over.
        if id.to_string() == text { Ok(id) } else { Err(NotABlobId) }
    }
}

impl Serialize for BlobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A number in digits and lower-case letters.
struct Base36(u64);

impl fmt::Display for Base36 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits: SmallVec<[char; 13]> = SmallVec::new();
        let mut rest = self.0;
        loop {
            digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        digits.iter().rev().try_for_each(|digit| fmt::Write::write_char(f, *digit))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_step() -> impl Strategy<Value = Step> {
        let encoding =
            prop_oneof![Just(Encoding::None), Just(Encoding::Base64), Just(Encoding::QuotedPrintable)];
        (0..u64::MAX / 2, 0..u64::MAX / 2, encoding).prop_map(|(offset, length, encoding)| Step {
            offset,
            length,
            encoding,
        })
    }

    proptest! {
        #[test]
        fn ids_read_back_and_are_legal(
            hash in any::<[u8; 32]>(),
            steps in proptest::collection::vec(any_step(), 0..12),
        ) {
            let mut id = BlobId::whole(BlobHash(hash));
            for step in steps {
                id = id.cut(step).unwrap_or(id);
            }
            let shown = id.to_string();
            prop_assert!(shown.len() <= MAX_BLOB_ID_LEN);
            prop_assert!(shown.starts_with(|c: char| c.is_ascii_lowercase()));
            let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            prop_assert!(shown.chars().all(is_legal));
            prop_assert_eq!(shown.parse(), Ok(id));
        }

        #[test]
        fn any_text_is_refused_or_reads_as_itself(text in "b[a-z2-7]{52}(-[0-9a-z+]{0,3}_[0-9a-zA-Z]{0,2}(_[bq])?){0,2}") {
            if let Ok(id) = text.parse::<BlobId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn hashing_in_pieces_is_hashing_at_once() {
        let mut hasher = BlobHasher::new();
        hasher.update(b"one ");
        hasher.update(b"two");
        assert_eq!(hasher.finish(), BlobHash::of(b"one two"));
        assert_ne!(BlobHash::of(b"one two"), BlobHash::of(b"one  two"));
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let shown = BlobHash([0; 32]).to_string();
        assert_eq!(shown.parse(), Ok(BlobHash([0; 32])));
        assert_eq!(format!("{}b", &shown[1..]).parse::<BlobHash>(), Err(NotABlobId));
    }

    #[test]
    fn a_slice_of_a_slice_is_one_step() {
        let whole = BlobId::whole(BlobHash::of(b"x"));
        let step = |offset, length, encoding| Step { offset, length, encoding };
        let inner = whole
            .cut(step(100, 50, Encoding::None))
            .and_then(|id| id.cut(step(10, 20, Encoding::Base64)))
            .expect("fits");
        assert_eq!(inner.steps(), [step(110, 20, Encoding::Base64)]);
        let nested = inner.cut(step(1, 2, Encoding::None)).expect("fits");
        assert_eq!(nested.steps().len(), 2);
        assert_eq!(
            whole.cut(step(0, 50, Encoding::None)).and_then(|id| id.cut(step(49, 2, Encoding::None))),
            None
        );
        assert_eq!(whole.cut(step(u64::MAX, 1, Encoding::None)), None);
    }
}
