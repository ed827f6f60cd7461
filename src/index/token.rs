//! Cuts text into tokens: the one place that decides what can be found.
//!
//! A text is a sequence of *runs*: stretches of word characters between separators. A run of a
//! script with spaces is one word, at one position, as one or two tokens (folded, and kept when
//! that differs). A run that contains a character of a script without spaces is cut into one- and
//! two-character grams, one position for each character, and the words of other scripts inside it
//! are words besides. So an address or a file name is a sequence of words, and each of its parts,
//! and each sequence of its parts, can be found.
//!
//! Grams are plain ASCII, so that no engine's own segmenter takes them apart: `x` and the
//! character's number in hexadecimal, once or twice. A word that begins with `x` has it doubled,
//! so that words and grams never meet, not even by their beginnings.
//!
//! Separators take no position of their own. Work and memory are linear in the text.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;

use crate::index::fold::{self, Class, class};

/// Longest word token, in bytes of its form; the rest of a longer word is not indexed. A word of a
/// query is cut at the same place.
pub const MAX_WORD_LEN: usize = 96;

/// A word is read as far as this many bytes, which leaves room for marks that folding removes.
const MAX_WORD_SOURCE_LEN: usize = 4 * MAX_WORD_LEN;

/// Most characters that are normalised together; further marks stand alone.
const MAX_CLUSTER: usize = 32;

/// A stretch of word characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Where it stands in the text, in bytes.
    pub span: Range<usize>,
    /// Whether it holds a character of a script without spaces.
    pub dense: bool,
}

/// The runs of a text, in order.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Runs<'a> {
    /// All runs of a text.
    pub fn new(text: &'a str) -> Runs<'a> {
        Runs { text, at: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let rest = self.text.get(self.at..)?;
        let starts = |c: char| matches!(class(c), Class::Letter | Class::Dense);
        let Some(start) = rest.find(starts) else {
            self.at = self.text.len();
            return None;
        };
        let start = self.at + start;
        let (mut end, mut dense, mut before) = (start, false, ' ');
        let mut chars = self.text.get(start..)?.chars();
        while let Some(c) = chars.next() {
            match class(c) {
                Class::Separator => {
                    // Lines of these scripts are broken in the middle of words.
                    let after = chars.as_str();
                    let after = if c == '\r' { after.strip_prefix('\n').unwrap_or(after) } else { after };
                    let goes_on = after.chars().next().is_some_and(fold::breaks_anywhere);
                    if !(matches!(c, '\r' | '\n') && fold::breaks_anywhere(before) && goes_on) {
                        break;
                    }
                    chars = after.chars();
                    end = self.text.len() - after.len();
                    continue;
                }
                Class::Dense => dense = true,
                Class::Letter | Class::Joined => {}
            }
            if class(c) != Class::Joined {
                before = c;
            }
            end += c.len_utf8();
        }
        self.at = end;
        Some(Run { span: start..end, dense })
    }
}

/// The forms of a word; `kept` is empty when it is no other than `folded`. Both are empty when
/// nothing of the word is left.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Without accents.
    pub folded: String,
    /// With accents, where there are any.
    pub kept: String,
    spare: String,
}

impl Word {
    /// Reads the word that `text` is.
    pub fn read(&mut self, text: &str) {
        self.folded.clear();
        self.kept.clear();
        self.spare.clear();
        fold::keep(cut(text, MAX_WORD_SOURCE_LEN), &mut self.spare);
        fold::fold(&self.spare, &mut self.folded);
        if self.folded.is_empty() {
            self.folded.push_str(&self.spare);
        }
        if self.folded != self.spare {
            self.kept.push_str(cut(&self.spare, MAX_WORD_LEN));
        }
        self.folded.truncate(cut(&self.folded, MAX_WORD_LEN).len());
    }
}

/// The text up to `max` bytes, at a character boundary.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Appends a word in the form in which it is indexed.
pub fn push_word(word: &str, out: &mut String) {
    if word.starts_with('x') {
        out.push('x');
    }
    out.push_str(word);
}

/// Appends the token of one character.
pub fn push_gram(c: char, out: &mut String) {
    let _ = write!(out, "x{:x}", u32::from(c));
}

/// One character of a dense run, normalised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gram {
    /// The character.
    pub c: char,
    /// Where it came from in the text, in bytes.
    pub span: Range<usize>,
    /// Whether it is of a script without spaces; else it is part of a word inside the run.
    pub dense: bool,
    /// The word that begins here.
    pub word: Option<Range<usize>>,
}

/// The characters of a dense run, in order.
#[derive(Debug)]
pub struct Grams<'a> {
    text: &'a str,
    at: usize,
    end: usize,
    in_word: bool,
    ready: VecDeque<Gram>,
    forms: (String, String),
}

impl<'a> Grams<'a> {
    /// The characters of one run of `text`.
    pub fn new(text: &'a str, run: &Run) -> Grams<'a> {
        Grams {
            text,
            at: run.span.start,
            end: run.span.end,
            in_word: false,
            ready: VecDeque::new(),
            forms: Default::default(),
        }
    }

    /// Reads one cluster: a character and what can only be normalised with it.
    fn read_cluster(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..self.end)?;
        let first = rest.chars().next()?;
        let joined = rest.chars().skip(1).take(MAX_CLUSTER).take_while(|c| fold::continues(*c));
        let span = self.at..self.at + first.len_utf8() + joined.map(char::len_utf8).sum::<usize>();
        self.at = span.end;
        let dense = match class(first) {
            Class::Separator => return Some(()),
            Class::Dense => true,
            Class::Letter => false,
            // Marks beyond the bound of a cluster.
            Class::Joined => !self.in_word,
        };
        let word = (!dense && !self.in_word).then(|| {
            let inside = |c: char| matches!(class(c), Class::Letter | Class::Joined);
            span.start..span.start + rest.find(|c| !inside(c)).unwrap_or(rest.len())
        });
        self.in_word = !dense;
        let (kept, folded) = &mut self.forms;
        kept.clear();
        folded.clear();
        fold::keep(self.text.get(span.clone())?, kept);
        fold::fold(kept, folded);
        for (place, c) in folded.chars().enumerate() {
            let word = word.clone().filter(|_| place == 0);
            self.ready.push_back(Gram { c, span: span.clone(), dense, word });
        }
        Some(())
    }
}

impl Iterator for Grams<'_> {
    type Item = Gram;

    fn next(&mut self) -> Option<Gram> {
        while self.ready.is_empty() {
            self.read_cluster()?;
        }
        self.ready.pop_front()
    }
}

/// One token of a text.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// As it is indexed.
    pub text: String,
    /// Counts words and dense characters; several tokens may stand at one position.
    pub position: u32,
    /// Where it came from in the text, in bytes.
    pub span: Range<usize>,
}

/// The tokens of a text, in order of their positions. Token texts are reused: look at one, then
/// `advance`.
#[derive(Debug)]
pub struct Tokens<'a> {
    text: &'a str,
    runs: Runs<'a>,
    grams: Option<Grams<'a>>,
    ahead: Option<Gram>,
    word: Word,
    position: u32,
    limit: u32,
    /// Tokens of one position; the first `filled` count.
    ready: Vec<Token>,
    filled: usize,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of the first `limit` positions.
    pub fn new(text: &'a str, limit: u32) -> Tokens<'a> {
        Tokens {
            text,
            runs: Runs::new(text),
            grams: None,
            ahead: None,
            word: Word::default(),
            position: 0,
            limit,
            ready: Vec::new(),
            filled: 0,
            at: 0,
        }
    }

    /// The next token, if there is one.
    pub fn advance(&mut self) -> Option<&Token> {
        if self.at < self.filled {
            self.at += 1;
        } else {
            self.filled = 0;
            while self.filled == 0 {
                self.fill()?;
            }
            self.at = 1;
        }
        self.ready.get(self.at - 1)
    }

    /// Makes the tokens of the next position; `None` at the end.
    fn fill(&mut self) -> Option<()> {
        if self.position >= self.limit {
            return None;
        }
        let Some(grams) = &mut self.grams else {
            let run = self.runs.next()?;
            if run.dense {
                let mut grams = Grams::new(self.text, &run);
                self.ahead = grams.next();
                self.grams = Some(grams);
            } else {
                self.put_word(run.span);
                self.position += u32::from(self.filled > 0);
            }
            return Some(());
        };
        let Some(gram) = self.ahead.take() else {
            self.grams = None;
            return Some(());
        };
        self.ahead = grams.next();
        if let Some(word) = gram.word {
            self.put_word(word);
        }
        if gram.dense {
            push_gram(gram.c, self.put(gram.span.clone()));
        }
        if let Some(next) = &self.ahead {
            let (next, end) = (next.c, next.span.end);
            let text = self.put(gram.span.start..end);
            push_gram(gram.c, text);
            push_gram(next, text);
        }
        self.position += 1;
        Some(())
    }

    fn put_word(&mut self, span: Range<usize>) {
        let mut word = std::mem::take(&mut self.word);
        word.read(self.text.get(span.clone()).unwrap_or_default());
        for form in [&word.folded, &word.kept] {
            if !form.is_empty() {
                push_word(form, self.put(span.clone()));
            }
        }
        self.word = word;
    }

    /// An empty token at the current position; what is returned is its text.
    fn put(&mut self, span: Range<usize>) -> &mut String {
        if self.filled == self.ready.len() {
            self.ready.push(Token::default());
        }
        let token = &mut self.ready[self.filled];
        self.filled += 1;
        token.text.clear();
        token.position = self.position;
        token.span = span;
        &mut token.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<(u32, String)> {
        let mut tokens = Tokens::new(text, u32::MAX);
        let mut out = Vec::new();
        while let Some(token) = tokens.advance() {
            out.push((token.position, token.text.clone()));
        }
        out
    }

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn words_stand_at_positions() {
        assert_eq!(
            tokens("Un Café, s'il vous plaît"),
            [
                (0, "un".into()),
                (1, "cafe".into()),
                (1, "café".into()),
                (2, "s".into()),
                (3, "il".into()),
                (4, "vous".into()),
                (5, "plait".into()),
                (5, "plaît".into()),
            ]
        );
        assert_eq!(words("alice@mail.example.test"), ["alice", "mail", "example", "test"]);
        assert_eq!(words("invoice-2024_final.pdf"), ["invoice", "2024", "final", "pdf"]);
    }

    #[test]
    fn dense_runs_are_grams_and_the_words_inside_them() {
        assert_eq!(
            tokens("a 日本 go日"),
            [
                (0, "a".into()),
                (1, "x65e5".into()),
                (1, "x65e5x672c".into()),
                (2, "x672c".into()),
                (3, "go".into()),
                (3, "x67x6f".into()),
                (4, "x6fx65e5".into()),
                (5, "x65e5".into()),
            ]
        );
    }

    #[test]
    fn lines_are_broken_inside_words_of_dense_scripts_only() {
        assert!(words("日\r\n本").contains(&"x65e5x672c".into()));
        assert!(words("日\n本").contains(&"x65e5x672c".into()));
        assert!(!words("日\n\n本").contains(&"x65e5x672c".into()));
        assert!(!words("한\n국").contains(&"xd55cxad6d".into()));
        assert_eq!(words("ab\ncd"), ["ab", "cd"]);
    }

    #[test]
    fn words_never_look_like_grams() {
        assert_eq!(words("x65e5 xerox x"), ["xx65e5", "xxerox", "xx"]);
    }

    #[test]
    fn long_words_are_cut_at_a_character() {
        let word = "é".repeat(10_000);
        assert_eq!(words(&word), ["e".repeat(96), "é".repeat(48)]);
        // Bases with a thousand marks each neither hang nor panic.
        let marks = format!("ก{}", "\u{e48}".repeat(5_000));
        assert!(!tokens(&marks).is_empty());
    }

    #[test]
    fn the_limit_counts_positions() {
        let mut tokens = Tokens::new("one two three", 2);
        let mut count = 0;
        while tokens.advance().is_some() {
            count += 1;
        }
        assert_eq!(count, 2);
    }

    proptest! {
        #[test]
        fn any_text_has_tokens_in_order_with_spans_inside_it(text in "\\PC{0,60}|[a日한กé\\u{301}\\u{200d}\\r\\n x🎉]{0,30}") {
            let mut tokens = Tokens::new(&text, u32::MAX);
            let mut last = 0;
            while let Some(token) = tokens.advance() {
                prop_assert!(token.position >= last);
                last = token.position;
                prop_assert!(text.get(token.span.clone()).is_some_and(|part| !part.is_empty()));
                prop_assert!(!token.text.is_empty() && token.text.len() <= MAX_WORD_LEN + 1);
            }
        }
    }
}
