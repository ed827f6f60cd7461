//! What of a message is searched, and the direct search of one message for what is not yet in
//! the index. Finds exactly what an engine finds: both cut texts by `index::token`, within the
//! limits that stand here.

use std::collections::HashMap;

use crate::index::query::{Field, Term, TextQuery, header_name};
use crate::index::token::Tokens;
use crate::mail::text::SearchText;

/// Positions of the body that are searched: several megabytes of text.
pub const MAX_BODY_POSITIONS: u32 = 1_000_000;
/// Positions of any other value that are searched.
pub const MAX_LINE_POSITIONS: u32 = 20_000;
/// Attachment names that are searched.
pub const MAX_ATTACHMENT_NAMES: usize = 1_000;
/// Header fields that are searched.
pub const MAX_HEADERS: usize = 1_000;

/// A searched part of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Part {
    /// From.
    From,
    /// To.
    To,
    /// Cc.
    Cc,
    /// Bcc.
    Bcc,
    /// Subject.
    Subject,
    /// Body text.
    Body,
    /// The name of one attachment.
    AttachmentName,
    /// One header field.
    Header,
}

impl Part {
    /// All parts, in the order of their numbers.
    pub const ALL: [Part; 8] = [
        Part::From,
        Part::To,
        Part::Cc,
        Part::Bcc,
        Part::Subject,
        Part::Body,
        Part::AttachmentName,
        Part::Header,
    ];

    /// The parts in which a field is looked for.
    pub fn of(field: &Field) -> &'static [Part] {
        match field {
            Field::Text => &Part::ALL[..7],
            Field::From => &[Part::From],
            Field::To => &[Part::To],
            Field::Cc => &[Part::Cc],
            Field::Bcc => &[Part::Bcc],
            Field::Subject => &[Part::Subject],
            Field::Body => &[Part::Body],
            Field::Header(_) => &[Part::Header],
        }
    }

    /// How many positions of a value are searched.
    pub fn max_positions(self) -> u32 {
        if self == Part::Body { MAX_BODY_POSITIONS } else { MAX_LINE_POSITIONS }
    }
}

/// One searched value. A phrase never reaches from one into another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value<'a> {
    /// Where it stands.
    pub part: Part,
    /// The field's name, for `Part::Header`.
    pub header: Option<String>,
    /// The text.
    pub text: &'a str,
}

/// The searched values of a message.
pub fn values(text: &SearchText) -> impl Iterator<Item = Value<'_>> {
    let single = [
        (Part::From, &text.from),
        (Part::To, &text.to),
        (Part::Cc, &text.cc),
        (Part::Bcc, &text.bcc),
        (Part::Subject, &text.subject),
        (Part::Body, &text.body),
    ];
    let names = text.attachment_names.iter().take(MAX_ATTACHMENT_NAMES);
    let headers = text.headers.iter().take(MAX_HEADERS);
    single
        .into_iter()
        .chain(names.map(|name| (Part::AttachmentName, name)))
        .map(|(part, text)| Value { part, header: None, text })
        .chain(headers.map(|(name, text)| Value {
            part: Part::Header,
            header: Some(header_name(name)),
            text,
        }))
}

/// Whether a message matches a text leaf: what the index would answer, had it the message.
pub fn matches(text: &SearchText, query: &TextQuery) -> bool {
    if query.unsearchable {
        return false;
    }
    let mut missing: Vec<&Term> = query.terms.iter().collect();
    let parts = Part::of(&query.field);
    let wanted = |value: &Value<'_>| match &query.field {
        Field::Header(name) => value.header.as_ref() == Some(name),
        _ => parts.contains(&value.part),
    };
    // A header condition without a text asks whether there is such a field (RFC 8621, 4.4.1).
    let mut field_seen = !matches!(query.field, Field::Header(_));
    for value in values(text).filter(wanted) {
        field_seen = true;
        if missing.is_empty() {
            break;
        }
        let mut hits = find(value.text, value.part.max_positions(), &missing, 1).into_iter();
        missing.retain(|_| hits.next().is_none_or(|hits| hits.is_empty()));
    }
    field_seen && missing.is_empty()
}

/// A place where a term was found, in bytes of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// First byte of its first unit.
    pub start: usize,
    /// First byte of its last unit.
    pub last: usize,
    /// Behind the last byte of its last unit.
    pub end: usize,
}

/// Reads `limit` positions of a text once and finds each term in it, `most` times at most.
///
/// Memory is linear in the text whatever the terms are: only the tokens that a phrase needs before
/// its end are remembered, each of them once.
pub fn find(text: &str, limit: u32, terms: &[&Term], most: usize) -> Vec<Vec<Hit>> {
    let mut inner: HashMap<&str, Vec<(u32, usize)>> = HashMap::new();
    for (_, unit) in terms.iter().flat_map(|term| term.before_last()) {
        inner.entry(unit.text()).or_default();
    }
    let mut hits = vec![Vec::new(); terms.len()];
    let mut tokens = Tokens::new(text, limit);
    while let Some(token) = tokens.advance() {
        let mut all_found = true;
        for (term, hits) in terms.iter().zip(&mut hits) {
            if hits.len() >= most {
                continue;
            }
            all_found = false;
            let Some((distance, last)) = term.units.last() else { continue };
            if last.matches(&token.text)
                && let Some(first) = token.position.checked_sub(*distance)
                && let Some(start) = start_of_phrase(term, first, &inner)
            {
                let start = start.unwrap_or(token.span.start);
                hits.push(Hit { start, last: token.span.start, end: token.span.end });
            }
        }
        if all_found {
            break;
        }
        if let Some(places) = inner.get_mut(token.text.as_str()) {
            places.push((token.position, token.span.start));
        }
    }
    hits
}

/// Whether all units but the last stand where a phrase that begins at position `first` wants them:
/// the byte at which the first of them begins, `Some(None)` when there is none.
fn start_of_phrase(
    term: &Term,
    first: u32,
    inner: &HashMap<&str, Vec<(u32, usize)>>,
) -> Option<Option<usize>> {
    let mut start = None;
    for (distance, unit) in term.before_last() {
        let places = inner.get(unit.text())?;
        let at = places.binary_search_by_key(&(first + distance), |(position, _)| *position).ok()?;
        start = start.or(places.get(at).map(|(_, start)| *start));
    }
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> SearchText {
        SearchText {
            from: "Alice Müller <alice@mail.example.test>".into(),
            to: "bob@example.test".into(),
            subject: "Quarterly report 第3回会議".into(),
            body: format!("{} needle at the end", "hay ".repeat(120_000)),
            attachment_names: vec!["invoice-2024.pdf".into(), "photo.jpeg".into()],
            headers: vec![
                ("List-Id".into(), "<news.example.test>".into()),
                ("X-Priority".into(), "1".into()),
            ],
            ..SearchText::default()
        }
    }

    #[test]
    fn fields_and_words() {
        let message = message();
        for (field, text, expected) in [
            (Field::Text, "mull", true),
            (Field::Text, "MÜLLER quarterly needle invoice", true),
            (Field::Text, "muller absent", false),
            (Field::From, "alice@mail", true),
            (Field::From, "mail.example.test", true),
            (Field::From, "example", true),
            (Field::From, "xample", false),
            (Field::From, "bob", false),
            (Field::To, "bob", true),
            (Field::Subject, "回会", true),
            (Field::Subject, "第3", true),
            (Field::Subject, "3", true),
            (Field::Subject, "\"report quarterly\"", false),
            (Field::Subject, "\"quarterly report\"", true),
            (Field::Subject, "\"quarterly repor\"", false),
            (Field::Body, "needle", true),
            (Field::Body, "invoice", false),
            (Field::Text, "pdf", true),
            (Field::Text, "invoice-2024.p", true),
            (Field::Text, "\"pdf photo\"", false),
            (Field::Text, "news", false),
            (Field::Text, "", true),
            (Field::Text, "?", false),
        ] {
            let query = TextQuery::parse(field.clone(), text);
            assert_eq!(matches(&message, &query), expected, "{field:?} {text}");
        }
    }

    #[test]
    fn quoted_accents_count() {
        let with = SearchText { subject: "Das Café".into(), ..SearchText::default() };
        let without = SearchText { subject: "Das Cafe".into(), ..SearchText::default() };
        let found = |text: &str| {
            let query = TextQuery::parse(Field::Subject, text);
            (matches(&with, &query), matches(&without, &query))
        };
        assert_eq!(found("cafe"), (true, true));
        assert_eq!(found("café"), (true, true));
        assert_eq!(found("'cafe'"), (true, true));
        assert_eq!(found("'café'"), (true, false));
    }

    #[test]
    fn headers() {
        let message = message();
        for (name, value, expected) in [
            ("list-id", None, true),
            ("List-Id", Some("news"), true),
            ("List-Id", Some("\"news example\""), true),
            ("List-Id", Some("1"), false),
            ("X-Priority", Some("1"), true),
            ("X-Prio", None, false),
            ("Absent", Some(""), false),
        ] {
            assert_eq!(matches(&message, &TextQuery::header(name, value)), expected, "{name} {value:?}");
        }
    }
}
