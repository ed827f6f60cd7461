//! The text leaves of a filter (RFC 8621, 4.4.1), read into terms that an engine, or the direct
//! scan of a message, can look for.
//!
//! What white space divides must all be present, in any order and, for `text`, in any of its
//! fields. A word matches words that begin with it; one letter matches as a whole word only. What
//! has separators inside (an address, a file name) matches as a sequence of words, the last of
//! them by its beginning. Scripts without spaces match by any substring. Quoted phrases match as
//! sequences of whole words whose accents, where they are written, count.

use crate::index::fold;
use crate::index::token::{Grams, Runs, Word, push_gram, push_word};

/// Longest text that is read, in bytes; what follows is ignored.
pub const MAX_QUERY_LEN: usize = 8 * 1024;

/// Most units in one query; what follows is ignored.
pub const MAX_UNITS: usize = 128;

/// Longest header field name in the index, in bytes; longer names are cut.
const MAX_HEADER_NAME_LEN: usize = 76;

/// Where a text is looked for (the conditions of RFC 8621, 4.4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Field {
    /// `text`: From, To, Cc, Bcc, Subject, the body and the names of attachments.
    Text,
    /// `from`.
    From,
    /// `to`.
    To,
    /// `cc`.
    Cc,
    /// `bcc`.
    Bcc,
    /// `subject`.
    Subject,
    /// `body`.
    Body,
    /// `header`: the field of this name, as `header_name` writes it.
    Header(String),
}

/// What one position of a text must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// This token.
    Token(String),
    /// A token that begins with this.
    Prefix(String),
}

impl Unit {
    /// Whether a token is what the unit asks for.
    pub fn matches(&self, token: &str) -> bool {
        match self {
            Unit::Token(wanted) => token == wanted,
            Unit::Prefix(wanted) => token.starts_with(wanted.as_str()),
        }
    }

    /// The token, or its beginning.
    pub fn text(&self) -> &str {
        match self {
            Unit::Token(text) | Unit::Prefix(text) => text,
        }
    }
}

/// Something that must be present: units at given distances, in one value of one field. Never
/// empty; the first unit is at distance 0, and only the last may be a `Prefix`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// Distance from the first position, and what stands there; distances grow.
    pub units: Vec<(u32, Unit)>,
}

impl Term {
    /// All units but the last.
    pub fn before_last(&self) -> &[(u32, Unit)] {
        self.units.split_last().map_or(&[], |(_, before)| before)
    }
}

/// One text leaf of a filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextQuery {
    /// Where to look.
    pub field: Field,
    /// What must be present, all of it.
    pub terms: Vec<Term>,
    /// The text holds nothing that can be looked for (signs only), so that nothing matches. A
    /// blank text has no terms either, and matches everything that has the field.
    pub unsearchable: bool,
}

impl TextQuery {
    /// Reads the text of a condition.
    pub fn parse(field: Field, text: &str) -> TextQuery {
        let text = text.get(..text.floor_char_boundary(MAX_QUERY_LEN)).unwrap_or(text);
        let mut terms = Vec::new();
        let mut room = MAX_UNITS;
        for piece in pieces(text) {
            let units = match &piece {
                Piece::Loose(text) => units_of(text, false, room),
                Piece::Quoted(text) => units_of(text, true, room),
            };
            room -= units.len();
            let term = Term { units };
            if !term.units.is_empty() && !terms.contains(&term) {
                terms.push(term);
            }
        }
        let unsearchable = terms.is_empty() && !text.trim().is_empty();
        TextQuery { field, terms, unsearchable }
    }

    /// Reads a `header` condition: a field name, and the text to look for in its value. Without a
    /// text, the field has to be there and no more.
    pub fn header(name: &str, value: Option<&str>) -> TextQuery {
        TextQuery::parse(Field::Header(header_name(name)), value.unwrap_or_default())
    }
}

/// A header field name as the index writes it.
pub fn header_name(name: &str) -> String {
    let name = name.trim();
    let name = name.get(..name.floor_char_boundary(MAX_HEADER_NAME_LEN)).unwrap_or(name);
    name.to_lowercase().replace(':', "")
}

/// What white space divides.
#[derive(PartialEq, Eq, Debug)]
enum Piece<'a> {
    Loose(&'a str),
    /// Without its quotes and escapes.
    Quoted(String),
}

/// Divides a query text. A quote opens a phrase where a piece begins, if it is closed later on; an
/// apostrophe inside a word closes none.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    // A quote that is not closed here is not closed later either: each kind is sought in vain once.
    let mut unclosed = [false; 2];
    while let Some(first) = rest.chars().next() {
        let kind = match first {
            '"' => Some(0),
            '\'' => Some(1),
            _ => None,
        };
        if let Some(kind) = kind
            && !unclosed[kind]
        {
            if let Some((phrase, after)) = read_phrase(&rest[1..], first) {
                out.push(Piece::Quoted(phrase));
                rest = after.trim_start();
                continue;
            }
            unclosed[kind] = true;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        out.push(Piece::Loose(piece));
        rest = after.trim_start();
    }
    out
}

/// Reads a phrase up to its closing quote: its text, and what follows.
fn read_phrase(text: &str, quote: char) -> Option<(String, &str)> {
    let mut phrase = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let after = chars.as_str();
        let next = after.chars().next();
        match c {
            // "Within a phrase, to match one of the following characters you MUST escape it by
            // prefixing it with a backslash": ' " \ (RFC 8621, 4.4.1).
            '\\' if next.is_some_and(|next| matches!(next, '\'' | '"' | '\\')) => {
                phrase.extend(chars.next());
            }
            _ if c == quote && (quote == '"' || !next.is_some_and(char::is_alphanumeric)) => {
                return Some((phrase, after));
            }
            _ => phrase.push(c),
        }
    }
    None
}

/// The units of one piece, `room` of them at most.
fn units_of(text: &str, quoted: bool, room: usize) -> Vec<(u32, Unit)> {
    let mut units = Vec::new();
    let mut position = 0;
    let mut word = Word::default();
    let mut runs = Runs::new(text).peekable();
    while let Some(run) = runs.next() {
        if run.dense {
            let grams = Grams::new(text, &run).map(|gram| gram.c).take(2 * room).collect::<Vec<_>>();
            push_grams(&grams, position, &mut units);
            position += grams.len() as u32;
        } else {
            word.read(text.get(run.span).unwrap_or_default());
            let form = if quoted && !word.kept.is_empty() { &word.kept } else { &word.folded };
            if form.is_empty() {
                continue;
            }
            let mut token = String::new();
            push_word(form, &mut token);
            // Beginnings of two letters and more; behind other words, of one.
            let long = position > 0 || form.chars().nth(1).is_some();
            let prefix = !quoted && long && runs.peek().is_none();
            units.push((position, if prefix { Unit::Prefix(token) } else { Unit::Token(token) }));
            position += 1;
        }
        if units.len() >= room {
            units.truncate(room);
            break;
        }
    }
    units
}

/// A substring as grams: every second pair covers it, and the last pair whatever is left over.
fn push_grams(grams: &[char], position: u32, units: &mut Vec<(u32, Unit)>) {
    if let [c] = grams {
        let mut token = String::new();
        push_gram(*c, &mut token);
        units.push((position, Unit::Token(token)));
    }
    for (place, pair) in grams.windows(2).enumerate() {
        if place % 2 == 0 || place + 2 == grams.len() {
            let mut token = String::new();
            pair.iter().for_each(|c| push_gram(*c, &mut token));
            units.push((position + place as u32, Unit::Token(token)));
        }
    }
}

/// How much of `word`, in bytes, the beginning `prefix` (a token) covers: what a snippet marks.
pub fn covered(word: &str, prefix: &str) -> usize {
    let (mut kept, mut folded, mut token) = (String::new(), String::new(), String::new());
    let mut end = 0;
    for (at, c) in word.char_indices() {
        let done = !token.is_empty() && token.len() >= prefix.len();
        if done && !fold::continues(c) {
            break;
        }
        end = at + c.len_utf8();
        kept.clear();
        folded.clear();
        fold::keep(&word[at..end], &mut kept);
        fold::fold(&kept, &mut folded);
        if token.is_empty() { push_word(&folded, &mut token) } else { token.push_str(&folded) }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |(at, unit): &(u32, Unit)| match unit {
            Unit::Token(token) => format!("{at}={token}"),
            Unit::Prefix(token) => format!("{at}={token}*"),
        };
        let query = TextQuery::parse(Field::Text, text);
        query.terms.iter().map(|term| term.units.iter().map(show).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn words_phrases_and_substrings() {
        for (text, expected) in [
            ("Café x", vec!["0=cafe*", "0=xx"]),
            ("alice@mail.Ex", vec!["0=alice 1=mail 2=ex*"]),
            ("\"Le café\" now", vec!["0=le 1=café", "0=now*"]),
            ("'le café'", vec!["0=le 1=café"]),
            ("don't 'tis o'clock'", vec!["0=don 1=t*", "0=tis 1=o 2=clock"]),
            ("'tis", vec!["0=tis*"]),
            ("say \"unclosed phrase", vec!["0=say*", "0=unclosed*", "0=phrase*"]),
            (r#""a \"b\" \\ c""#, vec!["0=a 1=b 2=c"]),
            ("日", vec!["0=x65e5"]),
            ("日本語", vec!["0=x65e5x672c 1=x672cx8a9e"]),
            ("日本語学", vec!["0=x65e5x672c 2=x8a9ex5b66"]),
            ("\"日本 go\"", vec!["0=x65e5x672c 2=go"]),
            ("", vec![]),
            ("*** ''", vec![]),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_blank_text_asks_for_nothing_and_signs_cannot_be_found() {
        assert!(!TextQuery::parse(Field::Text, " \u{3000}\t").unsearchable);
        assert!(TextQuery::parse(Field::Text, "?!").unsearchable);
        assert!(!TextQuery::header("X-Test", None).unsearchable);
    }

    #[test]
    fn queries_are_bounded() {
        for text in
            ["a ".repeat(100_000), "' ".repeat(100_000), "'a \"b ".repeat(50_000), "日".repeat(50_000)]
        {
            let query = TextQuery::parse(Field::Text, &text);
            assert!(query.terms.iter().map(|term| term.units.len()).sum::<usize>() <= MAX_UNITS);
        }
    }

    #[test]
    fn beginnings_cover_their_letters() {
        assert_eq!(covered("Foosball", "foo"), 3);
        assert_eq!(covered("Café", "caf"), 3);
        assert_eq!(covered("Cafe\u{301}s", "cafe"), 6);
        assert_eq!(covered("xerox", "xxe"), 2);
        assert_eq!(covered("Straße", "stras"), 6);
    }
}
