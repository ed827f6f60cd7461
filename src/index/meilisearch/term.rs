//! The terms under which a message is found in Meilisearch, and the conditions that a search makes of
//! them.
//!
//! A document has one list of terms, and a search is a filter on that list: so it answers with the set of
//! all that match, in the engine's exact order of bytes, and none of its ranking, its typing errors, its
//! segmentation or its limits on words has a say. Which of 256 attributes holds the list follows from the
//! account: the engine keeps the terms of each attribute in levels, and makes those of a whole attribute
//! anew when much of it changes. A term is
//!
//! ```text
//! account (13 letters)  part (one letter)  [header name :]  words, each with a + behind it
//! ```
//!
//! so that a search reads that stretch of the list which is the account's own, whatever else is in the
//! instance. In values of one line (addresses, subjects, names of attachments) each word stands in a
//! term with the words that follow it: the beginning of such a term is a word, the beginning of a word,
//! or a phrase. In bodies and header fields each word has a term of its own, once for each message, and
//! a phrase there can only be guessed from its words: those messages are to be looked at.
//!
//! Everything outside a-z and 0-9 is written as its number, so that the engine, which folds what it is
//! given, has nothing to fold.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::index::document::{Part, values};
use crate::index::fold;
use crate::index::query::{Field, Term, TextQuery, Unit};
use crate::index::token::Tokens;
use crate::mail::text::SearchText;
use crate::types::id::AccountId;

/// What the names of the attributes with terms begin with.
pub const ATTRIBUTES: &str = "t";

/// Words that a term of a line has at most.
const CHAIN_WORDS: usize = 8;
/// Octets of a term of a line to which another word is still added. The engine cuts terms at some 470.
const CHAIN_LEN: usize = 240;
/// Longest name of a header field that stands in its terms as it is, in octets.
const HEADER_NAME_LEN: usize = 100;

/// Header fields whose words are not terms: they are long, made of numbers, and nobody searches them.
/// Whoever does is answered all the same, by looking at the messages that have the field.
const UNLISTED: &[&str] = &[
    "arc-authentication-results",
    "arc-message-signature",
    "arc-seal",
    "authentication-results",
    "dkim-signature",
    "domainkey-signature",
    "received",
    "x-google-dkim-signature",
    "x-received",
];

/// All terms of a message.
pub fn terms(account: AccountId, text: &SearchText) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for value in values(text) {
        let start = start_of(account, value.part, value.header.as_deref());
        let limit = value.part.max_positions();
        match (value.part, &value.header) {
            (Part::Header, Some(name)) => {
                if !UNLISTED.contains(&name.as_str()) {
                    add_words(&start, value.text, limit, &mut out);
                }
                out.insert(start);
            }
            (Part::Body | Part::Header, _) => add_words(&start, value.text, limit, &mut out),
            _ => add_chains(&start, value.text, limit, &mut out),
        }
    }
    out
}

/// Each word by itself.
fn add_words(start: &str, text: &str, limit: u32, out: &mut BTreeSet<String>) {
    let mut tokens = Tokens::new(text, limit);
    while let Some(token) = tokens.advance() {
        let mut term = start.to_owned();
        push_word(&token.text, &mut term);
        out.insert(term);
    }
}

/// Each word with those that follow it.
fn add_chains(start: &str, text: &str, limit: u32, out: &mut BTreeSet<String>) {
    let mut words: Vec<(u32, String)> = Vec::new();
    let mut tokens = Tokens::new(text, limit);
    while let Some(token) = tokens.advance() {
        let mut word = String::new();
        push_word(&token.text, &mut word);
        let is_new_place = words.last().is_none_or(|(position, _)| *position != token.position);
        if is_new_place && !is_gram(&token.text) {
            words.push((token.position, word));
        } else {
            // Another form of the word, or a piece of a text without spaces.
            out.insert(format!("{start}{word}"));
        }
    }
    for (at, (first, _)) in words.iter().enumerate() {
        let mut term = start.to_owned();
        for (distance, (position, word)) in words[at..].iter().take(CHAIN_WORDS).enumerate() {
            if *position != first + distance as u32 || term.len() > start.len() + CHAIN_LEN {
                break;
            }
            term.push_str(word);
        }
        out.insert(term);
    }
}

/// What the terms of a part begin with.
fn start_of(account: AccountId, part: Part, header: Option<&str>) -> String {
    let letter = match part {
        Part::From => 'f',
        Part::To => 't',
        Part::Cc => 'c',
        Part::Bcc => 'b',
        Part::Subject => 's',
        Part::Body => 'd',
        Part::AttachmentName => 'a',
        Part::Header => 'h',
    };
    let mut start = format!("{account}{letter}");
    if let Some(name) = header {
        let mut written = String::new();
        push_encoded(name, &mut written);
        if written.len() > HEADER_NAME_LEN {
            written = blake3::hash(name.as_bytes()).to_hex().to_string();
        }
        start.push_str(&written);
        start.push(':');
    }
    start
}

fn push_word(word: &str, out: &mut String) {
    push_encoded(word, out);
    out.push('+');
}

fn push_encoded(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            _ => {
                let _ = write!(out, "_{:x}.", u32::from(c));
            }
        }
    }
}

/// Whether a token is a piece of a text without spaces (`index::token` keeps words apart from them).
fn is_gram(token: &str) -> bool {
    token.starts_with('x') && !token.starts_with("xx")
}

/// The attribute that has the terms of an account's messages.
pub fn attribute_of(account: AccountId) -> String {
    // Other bits than those that choose the instance.
    let bucket = blake3::hash(&account.get().to_be_bytes()).as_bytes()[8];
    format!("{ATTRIBUTES}{bucket:02x}")
}

/// A condition on the terms of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It has this term.
    Equals(String),
    /// It has a term that begins so.
    StartsWith(String),
    /// All of these hold; of none at all, that is so.
    All(Vec<Condition>),
    /// One of these holds at least.
    Any(Vec<Condition>),
}

impl Condition {
    /// Whether it holds for every message.
    pub fn is_always(&self) -> bool {
        matches!(self, Condition::All(parts) if parts.is_empty())
    }

    /// As the engine's filter, where the terms are in this attribute.
    pub fn filter(&self, attribute: &str) -> String {
        let joined = |parts: &[Condition], word: &str| {
            let parts: Vec<String> = parts.iter().map(|part| part.filter(attribute)).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Condition::Equals(term) => format!("{attribute} = \"{term}\""),
            Condition::StartsWith(beginning) => format!("{attribute} STARTS WITH \"{beginning}\""),
            Condition::All(parts) => joined(parts, " AND "),
            Condition::Any(parts) => joined(parts, " OR "),
        }
    }
}

/// What is to be asked for one text leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conditions {
    /// Whatever this holds for, matches; `None` when it would hold for nothing.
    pub certain: Option<Condition>,
    /// Whatever this holds for, beyond what is certain, may match, and nothing else does; `None` when
    /// all is certain.
    pub possible: Option<Condition>,
}

/// The conditions under which a message of the account matches a text leaf; `None` when none can.
pub fn conditions(account: AccountId, query: &TextQuery) -> Option<Conditions> {
    if query.unsearchable {
        return None;
    }
    let header = match &query.field {
        Field::Header(name) => Some(name.as_str()),
        _ => None,
    };
    if query.terms.is_empty() {
        let there = header.map(|name| Condition::Equals(start_of(account, Part::Header, Some(name))));
        return Some(Conditions {
            certain: Some(Condition::All(there.into_iter().collect())),
            possible: None,
        });
    }
    let (mut certain, mut possible) = (Some(Vec::new()), Vec::new());
    let mut is_certain = true;
    for term in &query.terms {
        let (mut sure, mut all) = (Vec::new(), Vec::new());
        for part in Part::of(&query.field) {
            let (condition, is_sure) = condition(account, *part, header, term);
            if is_sure {
                sure.push(condition.clone());
            }
            is_certain &= is_sure;
            all.push(condition);
        }
        certain = certain.filter(|_| !sure.is_empty());
        if let Some(certain) = &mut certain {
            certain.push(Condition::Any(sure));
        }
        possible.push(Condition::Any(all));
    }
    Some(Conditions {
        certain: certain.map(Condition::All),
        possible: (!is_certain).then_some(Condition::All(possible)),
    })
}

/// When a term may be in a part, and whether it is then.
fn condition(account: AccountId, part: Part, header: Option<&str>, term: &Term) -> (Condition, bool) {
    let start = start_of(account, part, header);
    if header.is_some_and(|name| UNLISTED.contains(&name)) {
        return (Condition::Equals(start), false);
    }
    let is_line = !matches!(part, Part::Body | Part::Header);
    if let [(_, unit)] = term.units.as_slice() {
        return (one_word(&start, unit, is_line), true);
    }
    if is_line && let Some(chain) = chain_of(term) {
        return (Condition::StartsWith(start + &chain), true);
    }
    let words = term.units.iter().map(|(_, unit)| one_word(&start, unit, is_line));
    (Condition::All(words.collect()), false)
}

fn one_word(start: &str, unit: &Unit, is_line: bool) -> Condition {
    let mut value = start.to_owned();
    match unit {
        Unit::Token(word) => {
            push_word(word, &mut value);
            if is_line { Condition::StartsWith(value) } else { Condition::Equals(value) }
        }
        Unit::Prefix(word) => {
            push_encoded(word, &mut value);
            Condition::StartsWith(value)
        }
    }
}

/// The beginning of the term of a line that has this phrase, if one can have it.
fn chain_of(term: &Term) -> Option<String> {
    if term.units.len() > CHAIN_WORDS {
        return None;
    }
    let mut chain = String::new();
    let mut folded = String::new();
    for (place, (distance, unit)) in term.units.iter().enumerate() {
        folded.clear();
        fold::fold(unit.text(), &mut folded);
        // Terms go on with the folded form of a word, and with no pieces of texts without spaces.
        let is_word = !is_gram(unit.text()) && folded == unit.text();
        if !is_word || *distance != place as u32 || chain.len() > CHAIN_LEN {
            return None;
        }
        match unit {
            Unit::Token(word) => push_word(word, &mut chain),
            Unit::Prefix(word) => push_encoded(word, &mut chain),
        }
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::contract_tests::{any_message, any_query};
    use crate::index::document::matches;
    use crate::types::id::Id;

    const ANNA: AccountId = AccountId(Id(1));

    fn all_of(text: &SearchText) -> Vec<String> {
        let own = ANNA.to_string();
        terms(ANNA, text)
            .into_iter()
            .map(|term| term.strip_prefix(&own).expect("the account comes first").to_owned())
            .collect()
    }

    #[test]
    fn lines_have_chains_and_bodies_have_words() {
        let text = SearchText {
            subject: "Un Café noir".into(),
            body: "two words, two".into(),
            headers: vec![("List-Id".into(), "a b".into()), ("Received".into(), "by x".into())],
            ..SearchText::default()
        };
        let wanted = [
            "dtwo+",
            "dwords+",
            "hlist_2d.id:",
            "hlist_2d.id:a+",
            "hlist_2d.id:b+",
            "hreceived:",
            "scaf_e9.+",
            "scafe+noir+",
            "snoir+",
            "sun+cafe+noir+",
        ];
        assert_eq!(all_of(&text), wanted);
    }

    #[test]
    fn terms_are_shorter_than_what_the_engine_cuts() {
        let text = SearchText {
            subject: format!("{} {}", "é".repeat(200), "日".repeat(200)),
            headers: vec![("!".repeat(76), "🎉".repeat(100)), ("é".repeat(76), "ü".repeat(300))],
            ..SearchText::default()
        };
        let longest = terms(ANNA, &text).into_iter().map(|term| term.len()).max();
        assert!(longest.is_some_and(|longest| longest < 470), "{longest:?}");
        let many = SearchText { from: "abcdefghij ".repeat(100), ..SearchText::default() };
        assert!(all_of(&many).iter().all(|term| term.matches('+').count() <= CHAIN_WORDS));
    }

    fn asked(field: Field, text: &str) -> (Option<String>, Option<String>) {
        let own = ANNA.to_string();
        let bare = |condition: Condition| condition.filter("terms").replace(&own, "");
        let found = conditions(ANNA, &TextQuery::parse(field, text)).expect("something can match");
        (found.certain.map(bare), found.possible.map(bare))
    }

    #[test]
    fn what_is_certain_is_asked_for_alone() {
        let (certain, possible) = asked(Field::From, "alice@mail.ex");
        assert_eq!(certain.as_deref(), Some("((terms STARTS WITH \"falice+mail+ex\"))"));
        assert_eq!(possible, None);
        let (certain, possible) = asked(Field::Body, "\"one two\" three");
        assert_eq!(certain, None);
        let wanted = "(((terms = \"done+\" AND terms = \"dtwo+\")) AND (terms STARTS WITH \"dthree\"))";
        assert_eq!(possible.as_deref(), Some(wanted));
        let (certain, possible) = asked(Field::Subject, "\"un café\"");
        assert_eq!((certain, possible.is_some()), (None, true), "an accent in quotes");
        let (_, possible) = asked(Field::Header("received".into()), "by");
        assert_eq!(possible.as_deref(), Some("((terms = \"hreceived:\"))"));
        assert_eq!(conditions(ANNA, &TextQuery::parse(Field::Text, "?")), None);
    }

    fn holds(condition: &Condition, terms: &BTreeSet<String>) -> bool {
        match condition {
            Condition::Equals(term) => terms.contains(term),
            Condition::StartsWith(beginning) => terms
                .range(beginning.clone()..)
                .next()
                .is_some_and(|term| term.starts_with(beginning.as_str())),
            Condition::All(parts) => parts.iter().all(|part| holds(part, terms)),
            Condition::Any(parts) => parts.iter().any(|part| holds(part, terms)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn what_is_certain_matches_and_what_matches_is_possible(
            messages in prop::collection::vec(any_message(), 1..20),
            queries in prop::collection::vec(any_query(), 40),
        ) {
            let all: Vec<BTreeSet<String>> = messages.iter().map(|text| terms(ANNA, text)).collect();
            for (query, (text, terms)) in queries.iter().flat_map(|query| {
                messages.iter().zip(&all).map(move |message| (query, message))
            }) {
                let is_match = matches(text, query);
                let Some(found) = conditions(ANNA, query) else {
                    prop_assert!(!is_match, "{:?}", query);
                    continue;
                };
                let is_certain = found.certain.is_some_and(|condition| holds(&condition, terms));
                let is_possible = found.possible.as_ref().map_or(is_certain, |condition| holds(condition, terms));
                prop_assert!(!is_certain || is_match, "{:?} in {:?}", query, text);
                prop_assert!(!is_match || is_possible, "{:?} in {:?}", query, text);
            }
        }
    }
}
