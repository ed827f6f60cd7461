//! The preview of a message (RFC 8621, 4.1.4).

use crate::mail::body;
use crate::mail::body_lists::BodyLists;
use crate::mail::html;
use crate::mail::structure::Structure;

/// Most characters of a preview (RFC 8621, 4.1.4).
pub const MAX_CHARS: usize = 256;
/// Encoded octets of a part that are looked at.
const MAX_OCTETS: usize = 65_536;
/// Parts that are looked at.
const MAX_PARTS: usize = 10;

/// The first 256 characters of the text, without quoted lines where other lines follow, white
/// space collapsed.
pub fn preview(raw: &[u8], structure: &Structure, lists: &BodyLists) -> String {
    let mut own = Collapsed::default();
    let mut quoted = Collapsed::default();
    let parts =
        lists.text.iter().filter_map(|index| structure.parts.get(*index)).filter(|part| part.is_text());
    for part in parts.take(MAX_PARTS) {
        let start = body::text_start(raw, part, MAX_OCTETS).text;
        if part.media_type == "text/html" {
            own.push(&html::to_text(&start, MAX_OCTETS));
        } else {
            for line in start.lines() {
                // RFC 3676, 4.5: the mark of a quoted line; "-- " begins the signature.
                match line {
                    "-- " => break,
                    line if line.starts_with('>') => quoted.push(line.trim_start_matches(['>', ' '])),
                    line => own.push(line),
                }
            }
        }
        if own.chars >= MAX_CHARS {
            break;
        }
    }
    if own.out.is_empty() { quoted.out } else { own.out }
}

/// Text with single spaces, cut to the length of a preview.
#[derive(Default)]
struct Collapsed {
    out: String,
    chars: usize,
}

impl Collapsed {
    fn push(&mut self, text: &str) {
        let is_filler = |c: &char| {
            // Newsletters pad their first line with characters that show nothing.
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
        };
        for word in text.split(char::is_whitespace) {
            let mut is_first = true;
            for c in word.chars().filter(|c| !is_filler(c)) {
                let blank = is_first && !self.out.is_empty();
                if self.chars + usize::from(blank) >= MAX_CHARS {
                    return;
                }
                if blank {
                    self.out.push(' ');
                    self.chars += 1;
                }
                is_first = false;
                self.out.push(c);
                self.chars += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::body_lists::body_lists;
    use crate::mail::scan::scan;

    fn preview_of(raw: &str) -> String {
        let structure = scan(raw.as_bytes());
        preview(raw.as_bytes(), &structure, &body_lists(&structure))
    }

    #[test]
    fn previews_are_one_line_of_own_words() {
        assert_eq!(preview_of("A: b\r\n\r\n  Hello \r\n\r\nworld\r\n-- \r\nSig"), "Hello world");
        assert_eq!(preview_of("A: b\r\n\r\n> old\r\n>> older\r\n\r\nnew"), "new");
        assert_eq!(preview_of("A: b\r\n\r\n> only\r\n> quoted"), "only quoted");
        assert_eq!(preview_of("Content-Type: text/html\r\n\r\n<p>a</p><p>&nbsp;b\u{200c}</p>"), "a b");
        assert_eq!(preview_of("Content-Type: image/png\r\n\r\nxx"), "");
        assert_eq!(preview_of(""), "");
    }

    #[test]
    fn previews_are_short() {
        let preview = preview_of(&format!("A: b\r\n\r\n{}", "日本 ".repeat(1000)));
        assert_eq!(preview.chars().count(), MAX_CHARS);
    }
}
