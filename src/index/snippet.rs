//! Search snippets (RFC 8621, 5): where a query was found, marked for display. Text outside marks
//! is escaped; nothing else of a message ever becomes markup.

use std::ops::Range;

use crate::index::document::{Part, find};
use crate::index::query::{Field, Term, TextQuery, Unit, covered};

/// Greatest size of a preview in octets (RFC 8621, 5).
pub const MAX_PREVIEW_LEN: usize = 255;
/// How much of the text before the first match a preview shows, in bytes.
const LEAD: usize = 60;
/// Most matches of one term that are marked.
const MAX_MARKS: usize = 1_000;

const OPEN: &str = "<mark>";
const CLOSE: &str = "</mark>";
const ELLIPSIS: &str = "…";

/// The two texts of a SearchSnippet; `None` where nothing matched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snippet {
    /// The whole subject with its matches marked.
    pub subject: Option<String>,
    /// Part of the body with its matches marked, `MAX_PREVIEW_LEN` octets at most.
    pub preview: Option<String>,
}

/// Marks what the text leaves of a filter find in a message: any of their terms, since a filter
/// may have matched by any of them.
pub fn snippet(subject: &str, body: &str, queries: &[TextQuery]) -> Snippet {
    let terms = |part: Part| -> Vec<&Term> {
        let searched = |query: &&TextQuery| match &query.field {
            Field::Header(name) => part == Part::Subject && name == "subject",
            field => Part::of(field).contains(&part),
        };
        queries.iter().filter(searched).flat_map(|query| &query.terms).collect()
    };
    let subject_marks = marks(subject, Part::Subject, &terms(Part::Subject));
    let body_marks = marks(body, Part::Body, &terms(Part::Body));
    Snippet {
        subject: (!subject_marks.is_empty()).then(|| marked(subject, &subject_marks)),
        preview: body_marks.first().map(|first| preview(body, first.start, &body_marks)),
    }
}

/// The spans to mark, in order, none touching another.
fn marks(text: &str, part: Part, terms: &[&Term]) -> Vec<Range<usize>> {
    if terms.is_empty() {
        return Vec::new();
    }
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (term, hits) in terms.iter().zip(find(text, part.max_positions(), terms, MAX_MARKS)) {
        for hit in hits {
            let end = match term.units.last() {
                Some((_, Unit::Prefix(prefix))) => {
                    hit.last + text.get(hit.last..hit.end).map_or(0, |word| covered(word, prefix))
                }
                _ => hit.end,
            };
            spans.push(hit.start..end);
        }
    }
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    spans.dedup_by(|next, before| {
        let touches = next.start <= before.end;
        if touches {
            before.end = before.end.max(next.end);
        }
        touches
    });
    spans
}

/// The whole text, escaped, with its marks.
fn marked(text: &str, marks: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len() + marks.len() * (OPEN.len() + CLOSE.len()));
    let mut at = 0;
    for mark in marks {
        escape(text.get(at..mark.start).unwrap_or_default(), &mut out);
        out.push_str(OPEN);
        escape(text.get(mark.clone()).unwrap_or_default(), &mut out);
        out.push_str(CLOSE);
        at = mark.end;
    }
    escape(text.get(at..).unwrap_or_default(), &mut out);
    out
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match entity(c) {
            Some(entity) => out.push_str(entity),
            None => out.push(c),
        }
    }
}

fn entity(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

/// The text around the first match, white space and control characters as single spaces.
fn preview(text: &str, first: usize, marks: &[Range<usize>]) -> String {
    let start = preview_start(text, first);
    let mut out = String::new();
    if start > 0 {
        out.push_str(ELLIPSIS);
    }
    let mut marks = marks.iter().skip_while(|mark| mark.end <= start).peekable();
    let mut open = false;
    // Where the text may be cut so that the ellipsis, and the end of an open mark, still fit.
    let room = MAX_PREVIEW_LEN - ELLIPSIS.len();
    let mut buffer = [0; 4];
    let mut space = true;
    for (at, c) in text.get(start..).unwrap_or_default().char_indices() {
        let at = start + at;
        if open && marks.peek().is_some_and(|mark| mark.end <= at) {
            out.push_str(CLOSE);
            open = false;
            marks.next();
        }
        let blank = c.is_whitespace() || c.is_control();
        if blank && space {
            continue;
        }
        space = blank;
        let opens = !open && marks.peek().is_some_and(|mark| mark.start <= at);
        let shown = match entity(c) {
            Some(entity) => entity,
            None if blank => " ",
            None => c.encode_utf8(&mut buffer),
        };
        let tags = if opens {
            OPEN.len() + CLOSE.len()
        } else if open {
            CLOSE.len()
        } else {
            0
        };
        if out.len() + tags + shown.len() > room {
            if open {
                out.push_str(CLOSE);
            }
            out.truncate(out.trim_end().len());
            out.push_str(ELLIPSIS);
            return out;
        }
        if opens {
            out.push_str(OPEN);
            open = true;
        }
        out.push_str(shown);
    }
    if open {
        out.push_str(CLOSE);
    }
    out.truncate(out.trim_end().len());
    out
}

/// Where a preview begins: a little before the first match, where a word begins if that is near.
fn preview_start(text: &str, first: usize) -> usize {
    let from = text.ceil_char_boundary(first.saturating_sub(LEAD));
    if from == 0 {
        return 0;
    }
    let lead = text.get(from..first).unwrap_or_default();
    let word = lead.char_indices().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    from + word.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Vec<TextQuery> {
        vec![TextQuery::parse(Field::Text, text)]
    }

    #[test]
    fn matches_are_marked_and_everything_else_is_escaped() {
        let found = snippet("The <Foo>sball & café", "nothing here", &text("foo CAFE"));
        assert_eq!(
            found.subject.as_deref(),
            Some("The &lt;<mark>Foo</mark>&gt;sball &amp; <mark>café</mark>")
        );
        assert_eq!(found.preview, None);
        let found = snippet("x", "a <b>fox</b>\r\n\tjumps", &text("'fox b' jump"));
        assert_eq!(found.subject, None);
        assert_eq!(
            found.preview.as_deref(),
            Some("a &lt;b&gt;<mark>fox&lt;/b</mark>&gt; <mark>jump</mark>s")
        );
        let found = snippet("東京都の会議", "", &text("京都"));
        assert_eq!(found.subject.as_deref(), Some("東<mark>京都</mark>の会議"));
        let found = snippet("Foosball", "", &text("fo foos"));
        assert_eq!(found.subject.as_deref(), Some("<mark>Foos</mark>ball"));
    }

    #[test]
    fn only_the_fields_that_are_searched_are_marked() {
        let queries = [TextQuery::parse(Field::Subject, "word"), TextQuery::parse(Field::From, "word")];
        let found = snippet("word", "word", &queries);
        assert_eq!(found.subject.as_deref(), Some("<mark>word</mark>"));
        assert_eq!(found.preview, None);
        let header = [TextQuery::header("Subject", Some("word"))];
        assert_eq!(snippet("word", "word", &header).subject.as_deref(), Some("<mark>word</mark>"));
        assert_eq!(snippet("word", "word", &[]), Snippet::default());
    }

    #[test]
    fn the_preview_is_around_the_first_match() {
        let body = format!("{}the needle{}", "hay & straw ".repeat(50_000), " and more <hay>".repeat(100));
        let preview = snippet("", &body, &text("needle")).preview.unwrap_or_default();
        assert!(preview.starts_with("…") && preview.ends_with("…"), "{preview}");
        assert!(preview.contains("straw the <mark>needle</mark> and more &lt;hay&gt;"), "{preview}");
        assert!(preview.len() <= MAX_PREVIEW_LEN);
    }

    proptest! {
        #[test]
        fn a_preview_is_short_and_well_formed(
            before in "[a <>&é日\\n]{0,120}", inside in "[b<>&日 ]{0,300}", after in "[c<&日 ]{0,300}",
        ) {
            let body = format!("{before} needle {inside} pin {after}");
            let queries = text("need \"pin\" 日 b");
            let found = snippet(&body, &body, &queries);
            let preview = found.preview.unwrap_or_default();
            prop_assert!(preview.len() <= MAX_PREVIEW_LEN, "{}", preview.len());
            for shown in [preview, found.subject.unwrap_or_default()] {
                let mut open = false;
                for piece in shown.split('<').skip(1) {
                    prop_assert!(piece.starts_with(if open { "/mark>" } else { "mark>" }), "{shown}");
                    open = !open;
                }
                prop_assert!(!open && shown.contains("<mark>"));
            }
        }
    }
}
