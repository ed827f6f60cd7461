//! What ties a message to its thread (RFC 8621, 3): its base subject, and the ids of itself and
//! of those it answers, as hashes.

use crate::mail::base_subject::base_subject;

/// Most ids that are kept: the first ones, of which later answers know, and the last, which are
/// nearest.
pub const MAX_IDS: usize = 100;

/// Hashes by which messages of one thread find each other. They are stable: stored rows hold them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ThreadKeys {
    /// Of the base subject, case folded.
    pub subject_hash: i64,
    /// Of Message-ID, In-Reply-To and References, in that order, none twice.
    pub message_id_hashes: Vec<i64>,
}

impl ThreadKeys {
    /// The keys of a message with that subject and those ids, the most important first.
    pub fn new<'a>(
        subject: &str,
        message_id: impl IntoIterator<Item = &'a str>,
        in_reply_to: impl IntoIterator<Item = &'a str>,
        references: impl IntoIterator<Item = &'a str>,
    ) -> ThreadKeys {
        let folded: String = base_subject(subject).chars().flat_map(char::to_lowercase).collect();
        // Answers come before the long list of references, which alone can pass the bound.
        let ids = message_id.into_iter().chain(in_reply_to).chain(references);
        let mut seen = std::collections::HashSet::new();
        let mut hashes: Vec<i64> = ids.map(hash).filter(|hash| seen.insert(*hash)).collect();
        if hashes.len() > MAX_IDS {
            hashes.drain(MAX_IDS / 2..hashes.len() - MAX_IDS / 2);
        }
        ThreadKeys { subject_hash: hash(&folded), message_id_hashes: hashes }
    }
}

fn hash(text: &str) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
    i64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_shares_subject_and_id() {
        let first = ThreadKeys::new("Hello", ["a@x"], [], []);
        let answer = ThreadKeys::new("RE: hello", ["b@x"], ["a@x"], ["a@x"]);
        assert_eq!(first.subject_hash, answer.subject_hash);
        assert_eq!(answer.message_id_hashes, [hash("b@x"), hash("a@x")]);
        assert_ne!(first.subject_hash, ThreadKeys::new("Other", [], [], []).subject_hash);
    }

    #[test]
    fn hashes_never_change() {
        assert_eq!(ThreadKeys::new("", ["a@x"], [], []).message_id_hashes, [hash("a@x")]);
        assert_eq!(hash("a@x"), 8_024_667_769_666_115_903);
    }

    #[test]
    fn the_first_and_last_ids_are_kept() {
        let ids: Vec<String> = (0..1000).map(|number| format!("{number}@x")).collect();
        let keys = ThreadKeys::new("", ["own@x"], [], ids.iter().map(String::as_str));
        assert_eq!(keys.message_id_hashes.len(), MAX_IDS);
        assert_eq!(keys.message_id_hashes.first(), Some(&hash("own@x")));
        assert_eq!(keys.message_id_hashes.last(), Some(&hash("999@x")));
    }
}
