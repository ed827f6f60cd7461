//! The text of a message for the search index (RFC 8621, 4.4.1): all of it, not its beginning.

use crate::mail::body;
use crate::mail::fields::Field;
use crate::mail::headers::addresses::as_addresses;
use crate::mail::headers::text::as_text;
use crate::mail::html;
use crate::mail::structure::Structure;

/// Octets of body text that are taken.
pub const MAX_BODY_LEN: usize = 4 << 20;
/// Octets that are taken of each of the other fields, all headers together being one.
pub const MAX_FIELD_LEN: usize = 256 << 10;

/// What the index takes of a message, cut into fields as the filter conditions name them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SearchText {
    /// Names and addresses of From.
    pub from: String,
    /// Those of To.
    pub to: String,
    /// Those of Cc.
    pub cc: String,
    /// Those of Bcc.
    pub bcc: String,
    /// Subject in Text form.
    pub subject: String,
    /// All text parts, HTML as text.
    pub body: String,
    /// File names.
    pub attachment_names: Vec<String>,
    /// All header fields of the message: name in lower case, value in Text form.
    pub headers: Vec<(String, String)>,
}

/// Extracts the text of a message from its octets and structure.
pub fn search_text(raw: &[u8], structure: &Structure) -> SearchText {
    let mut text = SearchText::default();
    let mut headers_left = MAX_FIELD_LEN;
    for field in structure.header_fields(raw) {
        for (name, out) in
            [("from", &mut text.from), ("to", &mut text.to), ("cc", &mut text.cc), ("bcc", &mut text.bcc)]
        {
            if field.is(name) {
                push_addresses(out, field);
            }
        }
        if field.is("subject") {
            push_line(&mut text.subject, &as_text(field.value), MAX_FIELD_LEN);
        }
        if headers_left > 0 {
            let mut value = as_text(field.value);
            value.truncate(value.floor_char_boundary(headers_left));
            headers_left = headers_left.saturating_sub(field.name.len() + value.len());
            text.headers.push((field.name.to_ascii_lowercase(), value));
        }
    }
    let mut names_left = MAX_FIELD_LEN;
    for part in &structure.parts {
        if let Some(name) = part.name.as_ref().filter(|name| name.len() <= names_left) {
            names_left -= name.len();
            text.attachment_names.push(name.clone());
        }
        let left = MAX_BODY_LEN.saturating_sub(text.body.len());
        if part.is_text() && !part.is_multipart() && left > 0 {
            // No encoding and charset needs more than twelve octets for one of UTF-8.
            let content = body::text_start(raw, part, left.saturating_mul(12)).text;
            match part.media_type.as_str() {
                "text/html" => push_line(&mut text.body, &html::to_search_text(&content, left), MAX_BODY_LEN),
                _ => push_line(&mut text.body, &content, MAX_BODY_LEN),
            }
        }
    }
    text
}

fn push_addresses(out: &mut String, field: Field<'_>) {
    for address in as_addresses(field.value) {
        if out.len() >= MAX_FIELD_LEN {
            return;
        }
        if let Some(name) = &address.name {
            push_line(out, name, MAX_FIELD_LEN);
        }
        push_line(out, &address.email, MAX_FIELD_LEN);
    }
}

/// Adds a line, as far as it fits.
fn push_line(out: &mut String, line: &str, most: usize) {
    if !out.is_empty() {
        out.push('\n');
    }
    let left = most.saturating_sub(out.len());
    out.push_str(&line[..line.floor_char_boundary(left)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::scan::scan;

    #[test]
    fn all_text_is_found() {
        let raw = "\
From: =?utf-8?q?J=C3=A4ne?= <jane@example.com>\r
To: a@x, B <b@y>\r
Subject: =?utf-8?q?caf=C3=A9?=\r
X-Odd: value\r
Content-Type: multipart/mixed; boundary=1\r
\r
--1\r
\r
plain text\r
--1\r
Content-Type: text/html\r
\r
<p>html <b title=\"and more\">te</b>xt</p><script>no</script>\r
--1\r
Content-Type: application/pdf; name=\"plan.pdf\"\r
\r
xx\r
--1--\r
";
        let text = search_text(raw.as_bytes(), &scan(raw.as_bytes()));
        assert_eq!(text.from, "Jäne\njane@example.com");
        assert_eq!(text.to, "a@x\nB\nb@y");
        assert_eq!(text.subject, "café");
        assert_eq!(text.body, "plain text\nhtml text\nand more");
        assert_eq!(text.attachment_names, ["plan.pdf"]);
        assert!(text.headers.contains(&("x-odd".to_owned(), "value".to_owned())));
    }

    #[test]
    fn text_is_bounded() {
        let raw = format!("Subject: {}\r\n\r\n{}", "é".repeat(300_000), "word ".repeat(1_000_000));
        let text = search_text(raw.as_bytes(), &scan(raw.as_bytes()));
        assert!(text.subject.len() <= MAX_FIELD_LEN && text.body.len() <= MAX_BODY_LEN);
        assert!(text.body.len() > MAX_BODY_LEN - 10);
    }
}
