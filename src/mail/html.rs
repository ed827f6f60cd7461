//! HTML as plain text, for previews and the search index. Not a renderer and not a sanitiser: what
//! it yields is never shown as HTML. Linear in the text.

use mail_parser::decoders::html::add_html_token;

/// Elements whose content is no text.
const HIDDEN: [&str; 4] = ["script", "style", "title", "template"];
/// Elements that do not break a word: all others end a line or a cell.
const INLINE: [&str; 28] = [
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd",
    "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "wbr",
];
/// Longest entity that is looked up.
const MAX_ENTITY_LEN: usize = 40;

/// The text of an HTML document, elements that end a line ending one, other white space collapsed.
/// Stops when `limit` octets of text are there.
pub fn to_text(html: &str, limit: usize) -> String {
    read(html, limit, None)
}

/// The same, and after it what attributes show to a reader (RFC 8621, 4.4.1), each on a line.
pub fn to_search_text(html: &str, limit: usize) -> String {
    let mut shown = Writer::default();
    let mut out = read(html, limit, Some(&mut shown));
    if !shown.out.is_empty() {
        let gap = if out.is_empty() { "" } else { "\n" };
        out.push_str(gap);
        out.push_str(&shown.out);
        out.truncate(out.floor_char_boundary(limit));
    }
    out
}

fn read(html: &str, limit: usize, mut shown: Option<&mut Writer>) -> String {
    let mut writer = Writer::default();
    let mut tags = Tags::default();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        if writer.out.len() >= limit {
            break;
        }
        writer.text(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('&') {
            rest = &rest[writer.entity(rest)..];
            continue;
        }
        let Some(end) = tags.end(rest) else {
            writer.text("<");
            rest = &rest[1..];
            continue;
        };
        let tag = &rest[..end];
        rest = &rest[end..];
        let name = tag_name(tag);
        let is_opening = !tag.starts_with("</");
        if is_opening && HIDDEN.contains(&name.as_str()) {
            rest = &rest[hidden_len(rest, &name)..];
            continue;
        }
        let has_attributes = is_opening && !tag.starts_with("<!");
        if let Some(shown) = shown.as_deref_mut().filter(|shown| has_attributes && shown.out.len() < limit) {
            for value in shown_attributes(tag.get(1 + name.len()..).unwrap_or_default()) {
                shown.gap = Gap::Line;
                shown.markup(value);
            }
        }
        writer.is_preformatted = match name.as_str() {
            "pre" => is_opening,
            _ => writer.is_preformatted,
        };
        match name.as_str() {
            "" | "!doctype" | "img" => {}
            "td" | "th" => writer.gap = writer.gap.max(Gap::Space),
            name if INLINE.contains(&name) => {}
            _ => writer.gap = Gap::Line,
        }
    }
    if writer.out.len() < limit {
        writer.text(rest);
    }
    let mut out = writer.out;
    out.truncate(out.floor_char_boundary(limit));
    out
}

/// The longest prefix of at most `most` octets that ends neither in a character nor in a tag
/// (RFC 8621, 4.2: not inside a tag).
pub fn prefix_len(html: &str, most: usize) -> usize {
    let most = html.floor_char_boundary(most);
    let mut tags = Tags::default();
    let mut at = 0;
    while let Some(found) = html[at..most].find('<') {
        at += found;
        match tags.end(&html[at..]) {
            Some(len) if at + len > most => return at,
            Some(len) => at += len,
            None => at += 1,
        }
    }
    most
}

/// The values of the attributes of a tag that a reader sees, as they are written. `rest` is the tag
/// from the end of its name.
fn shown_attributes(rest: &str) -> Vec<&str> {
    let mut values = Vec::new();
    let mut rest = rest;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '='));
        let ends_name = |c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '=');
        let (name, after) = rest.split_at(rest.find(ends_name).unwrap_or(rest.len()));
        if name.is_empty() {
            return values;
        }
        rest = after.trim_ascii_start();
        let Some(value) = rest.strip_prefix('=').map(str::trim_ascii_start) else { continue };
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.split_once(quote));
        let (value, after) = quoted.unwrap_or_else(|| {
            value.split_at(value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len()))
        });
        rest = after;
        if ["alt", "title"].iter().any(|shown| name.eq_ignore_ascii_case(shown)) {
            values.push(value);
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    #[default]
    None,
    Space,
    Line,
}

#[derive(Default)]
struct Writer {
    out: String,
    gap: Gap,
    is_preformatted: bool,
}

impl Writer {
    fn text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if is_space(c) {
                let gap = if self.is_preformatted && c == '\n' { Gap::Line } else { Gap::Space };
                self.gap = self.gap.max(gap);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let end = rest.find(is_space).unwrap_or(rest.len());
            if !self.out.is_empty() {
                match self.gap {
                    Gap::None => {}
                    Gap::Space => self.out.push(' '),
                    Gap::Line => self.out.push('\n'),
                }
            }
            self.gap = Gap::None;
            self.out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }

    /// Writes text that may hold entities.
    fn markup(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find('&') {
            self.text(&rest[..at]);
            rest = &rest[at..];
            rest = &rest[self.entity(rest)..];
        }
        self.text(rest);
    }

    /// Writes what the entity at the start of `text` stands for, and tells its length.
    fn entity(&mut self, text: &str) -> usize {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'#';
        let body =
            text.as_bytes().iter().skip(1).take(MAX_ENTITY_LEN).take_while(|byte| is_part(byte)).count();
        let end = 1 + body;
        if body == 0 || text.as_bytes().get(end) != Some(&b';') {
            self.text("&");
            return 1;
        }
        let mut decoded = String::new();
        add_html_token(&mut decoded, &text.as_bytes()[..=end], false);
        self.text(&decoded.replace('\0', "\u{fffd}"));
        end + 1
    }
}

fn is_space(c: char) -> bool {
    // A no-break space separates words as well; the soft hyphen and the joiners that newsletters
    // pad their previews with are no text.
    c.is_whitespace() || c.is_control()
}

/// Finds the ends of tags.
#[derive(Default)]
struct Tags {
    /// An attribute's quote was not closed: from there on quotes say nothing.
    quotes_are_plain: bool,
}

impl Tags {
    /// Length of the tag or comment at the start of `text`; `None` when it is neither. One that is
    /// not closed takes all that is left.
    fn end(&mut self, text: &str) -> Option<usize> {
        let bytes = text.as_bytes();
        if !matches!(bytes.get(1), Some(b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!' | b'?')) {
            return None;
        }
        if let Some(comment) = text.strip_prefix("<!--") {
            return Some(comment.find("-->").map_or(text.len(), |end| 4 + end + 3));
        }
        let mut quote = None;
        for (at, byte) in bytes.iter().enumerate().skip(1) {
            match (quote, byte) {
                (None, b'>') => return Some(at + 1),
                (None, b'"' | b'\'') if !self.quotes_are_plain => quote = Some(*byte),
                (Some(open), byte) if open == *byte => quote = None,
                _ => {}
            }
        }
        if quote.is_some() {
            self.quotes_are_plain = true;
            return self.end(text);
        }
        Some(bytes.len())
    }
}

fn tag_name(tag: &str) -> String {
    let name = tag.trim_start_matches(['<', '/']);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '!').unwrap_or(name.len());
    name[..end.min(20)].to_ascii_lowercase()
}

/// Length of what is hidden: up to the closing tag of that name, or all that is left.
fn hidden_len(text: &str, name: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = text[at..].find("</") {
        at += found;
        let tail = bytes.get(at + 2..at + 2 + name.len()).unwrap_or_default();
        if tail.eq_ignore_ascii_case(name.as_bytes()) {
            return at;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_of_html() {
        for (html, wanted) in [
            ("<p>one</p><p>two</p>", "one\ntwo"),
            ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
            ("w<b>or</b>d and <i>more</i>", "word and more"),
            ("<head><title>t</title><style>p > a { }</style></head><body>x</body>", "x"),
            ("<script>if (a < b) alert('</p>')</script>y", "y"),
            ("a &amp; b &eacute;&#8364;&#x41;&nope; &nbsp;c&", "a & b é€A&nope; c&"),
            ("<!-- no <b> -->a<br>b<BR/>c", "a\nb\nc"),
            ("1 < 2 <3 >", "1 < 2 <3 >"),
            ("<a title=\"x > y\" href='z'>link</a>", "link"),
            ("<a title=\"open>link</a>", "link"),
            ("<pre>a\n  b</pre>", "a\nb"),
            ("<style>p{}", ""),
            ("x<!-- open", "x"),
            ("&#0;a", "\u{fffd}a"),
        ] {
            assert_eq!(to_text(html, 1000), wanted, "{html}");
        }
        assert_eq!(to_text("<p>héllo", 2), "h");
    }

    #[test]
    fn attributes_that_are_shown_are_searched() {
        for (html, wanted) in [
            ("a<img alt=\"two words\" title='t&amp;t' src=\"s\">b", "ab\ntwo words\nt&t"),
            ("w<b title=one>or</b>d", "word\none"),
            ("<IMG ALT = x /><img alt><img alt=''><img xalt=no data-title=no>", "x"),
            ("<!-- <img alt=no> --></p title=no><script title=no></script>z", "z"),
            ("<p title=\"open>text", "text\n\"open"),
        ] {
            assert_eq!(to_search_text(html, 1000), wanted, "{html}");
        }
        assert_eq!(to_search_text("<p title=\u{e9}\u{e9}>ab", 5), "ab\n\u{e9}");
    }

    #[test]
    fn cuts_are_outside_tags_and_characters() {
        for (html, most, wanted) in [
            ("ab<b>cd", 3, "ab"),
            ("ab<b>cd", 5, "ab<b>"),
            ("a<a title=\"x>y\">b", 14, "a"),
            ("é", 1, ""),
            ("1 < 2 or so", 6, "1 < 2 "),
            ("short", 100, "short"),
            ("<!-- <b> --> x", 9, ""),
        ] {
            assert_eq!(&html[..prefix_len(html, most)], wanted, "{html}");
        }
    }

    #[test]
    fn hostile_html_takes_linear_time() {
        for piece in [
            "<",
            "<a",
            "<a \"",
            "<!--",
            "&",
            "&amp",
            "<style>",
            "<style></",
            "</",
            "<a '\"",
            "< ",
            "<a b='",
            "<a b=\"",
        ] {
            let html = piece.repeat(300_000 / piece.len());
            to_search_text(&html, usize::MAX);
            prefix_len(&html, 200_000);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(html in "[<>a-c=/!&;\"'é\\- ]{0,60}", most in 0usize..60) {
            to_text(&html, most);
            to_search_text(&html, most);
            prop_assert!(prefix_len(&html, most) <= most);
        }
    }
}
