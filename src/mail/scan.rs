//! Finds the parts of a message (RFC 2045, RFC 2046, 5.1) in one pass over its lines.
//!
//! Open multiparts stand on a stack; each line that begins with two hyphens is compared with their
//! boundaries. Nothing recurses. Beyond the bounds the rest is one opaque part: a multipart
//! deeper than `MAX_DEPTH` is a leaf, and what follows after `MAX_PARTS` parts is the last one.

use crate::mail::fields::{Header, fields, header_end, line_end, unfolded, without_comments};
use crate::mail::headers::message_ids::as_message_ids;
use crate::mail::headers::text::as_text;
use crate::mail::parameters::Parameterized;
use crate::mail::structure::{PARSER_VERSION, Part, Structure, slice};
use crate::mail::transfer;
use crate::types::blob_id::Encoding;

/// Multiparts within multiparts. JSON readers commonly stop at 128 levels, and a level here is two
/// of theirs.
pub const MAX_DEPTH: usize = 50;
/// Parts of one message, multiparts included.
pub const MAX_PARTS: usize = 10_000;
/// Longest boundary that is compared; RFC 2046, 5.1.1 allows 70.
const MAX_BOUNDARY_LEN: usize = 1_000;
/// Longest name or id that is kept beside the message, in octets of UTF-8.
const MAX_VALUE_LEN: usize = 1_000;
/// Longest media type, charset or disposition that is kept; RFC 6838, 4.2 allows types 255.
const MAX_TOKEN_LEN: usize = 255;
/// Octets of names, ids, languages and locations that are kept of all parts together: what comes
/// after them has none. The structure of no message is larger than a few megabytes.
const MAX_KEPT: usize = 1 << 20;

/// An open multipart.
struct Open {
    index: usize,
    boundary: Vec<u8>,
    is_digest: bool,
    /// Its closing delimiter has come: only an outer delimiter ends the epilogue.
    is_closed: bool,
}

/// The structure of a message. Any octets are a message.
pub fn scan(raw: &[u8]) -> Structure {
    let mut scanner = Scanner { raw, parts: Vec::new(), open: Vec::new(), leaf: None, kept: 0 };
    let mut at = scanner.begin_part(0, false);
    while at < raw.len() {
        let end = line_end(raw, at);
        at = match scanner.delimiter(&raw[at..end]) {
            Some(delimiter) => scanner.take_delimiter(delimiter, at, end),
            None => end,
        };
    }
    scanner.end_leaf(raw.len());
    scanner.end_multiparts(0, raw.len());
    scanner.finish()
}

struct Scanner<'a> {
    raw: &'a [u8],
    parts: Vec<Part>,
    open: Vec<Open>,
    /// The leaf whose body is being read.
    leaf: Option<usize>,
    /// Octets of names and the like that were kept.
    kept: usize,
}

/// A delimiter line of the open multipart at this depth.
struct Delimiter {
    depth: usize,
    is_last: bool,
}

impl Scanner<'_> {
    /// Takes the header that starts at `at`, and returns where the body starts.
    fn begin_part(&mut self, at: usize, in_digest: bool) -> usize {
        let header = self.header(at);
        let (mut part, content_type) = describe(&self.raw[at..at + header.len], in_digest);
        self.keep(&mut part);
        part.header = (at as u64, header.len as u64);
        let body_at = at + header.body_at;
        part.body = (body_at as u64, 0);
        let index = self.parts.len();
        let boundary = content_type.plain("boundary").map(|boundary| boundary.trim_end().as_bytes().to_vec());
        match boundary.filter(|boundary| (1..=MAX_BOUNDARY_LEN).contains(&boundary.len())) {
            Some(boundary) if is_multipart(&part) && self.open.len() < MAX_DEPTH => {
                let is_digest = part.media_type == "multipart/digest";
                self.open.push(Open { index, boundary, is_digest, is_closed: false });
                self.leaf = None;
            }
            Some(_) if is_multipart(&part) => {
                make_leaf(&mut part, "application/octet-stream");
                self.leaf = Some(index);
            }
            _ => {
                if is_multipart(&part) {
                    make_leaf(&mut part, "text/plain");
                }
                self.leaf = Some(index);
            }
        }
        self.parts.push(part);
        body_at
    }

    /// Counts what a part's description keeps, and drops it when there is too much already.
    fn keep(&mut self, part: &mut Part) {
        let texts = [&part.name, &part.cid, &part.location].into_iter().flatten();
        self.kept += texts.chain(part.language.iter().flatten()).map(String::len).sum::<usize>();
        if self.kept > MAX_KEPT {
            (part.name, part.cid, part.location, part.language) = (None, None, None, None);
        }
    }

    /// The header at `at`. A delimiter line ends it as an empty line would.
    fn header(&self, at: usize) -> Header {
        header_end(&self.raw[at..], |field, rest| {
            field.name.starts_with("--") && self.delimiter(&rest[..line_end(rest, 0)]).is_some()
        })
    }

    /// Whether a line is a delimiter of an open multipart, innermost first.
    fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let text = line.strip_prefix(b"--")?.trim_ascii_end();
        self.open.iter().enumerate().rev().filter(|(_, open)| !open.is_closed).find_map(|(depth, open)| {
            let rest = text.strip_prefix(open.boundary.as_slice())?;
            match rest {
                b"" => Some(Delimiter { depth, is_last: false }),
                b"--" => Some(Delimiter { depth, is_last: true }),
                _ => None,
            }
        })
    }

    /// Ends what the delimiter line at `at` ends, begins what it begins, and returns where reading
    /// goes on.
    fn take_delimiter(&mut self, delimiter: Delimiter, at: usize, end: usize) -> usize {
        // RFC 2046, 5.1.1: the line end before a delimiter belongs to the delimiter.
        let content_end = match &self.raw[..at] {
            [.., b'\r', b'\n'] => at - 2,
            [.., b'\n'] => at - 1,
            _ => at,
        };
        self.end_leaf(content_end);
        self.end_multiparts(delimiter.depth + 1, content_end);
        let Some(open) = self.open.get_mut(delimiter.depth) else { return end };
        if delimiter.is_last {
            open.is_closed = true;
            return end;
        }
        let is_digest = open.is_digest;
        if self.parts.len() + 1 < MAX_PARTS {
            return self.begin_part(end, is_digest);
        }
        let mut rest = Part::default();
        make_leaf(&mut rest, "application/octet-stream");
        rest.header = (end as u64, 0);
        rest.body = (end as u64, (self.raw.len() - end) as u64);
        self.parts.push(rest);
        self.raw.len()
    }

    fn end_leaf(&mut self, end: usize) {
        if let Some(part) = self.leaf.take().and_then(|index| self.parts.get_mut(index)) {
            part.body.1 = (end as u64).saturating_sub(part.body.0);
        }
    }

    /// Ends the open multiparts from `depth` inwards.
    fn end_multiparts(&mut self, depth: usize, end: usize) {
        while self.open.len() > depth {
            let Some(open) = self.open.pop() else { break };
            let after = self.parts.len();
            let Some(part) = self.parts.get_mut(open.index) else { continue };
            part.body.1 = (end as u64).saturating_sub(part.body.0);
            part.descendants = (after - open.index - 1) as u32;
            if part.descendants == 0 {
                // No part was begun: the text is all that there is to show.
                make_leaf(part, "text/plain");
            }
        }
    }

    /// Numbers the leaves and measures the bodies.
    fn finish(mut self) -> Structure {
        let mut last_id = 0;
        for part in &mut self.parts {
            let body = slice(self.raw, part.body);
            if is_multipart(part) {
                part.size = body.len() as u64;
            } else {
                last_id += 1;
                part.part_id = Some(last_id);
                part.size = transfer::decoded_len(body, part.encoding);
            }
        }
        Structure { version: PARSER_VERSION, parts: self.parts }
    }
}

fn is_multipart(part: &Part) -> bool {
    part.media_type.starts_with("multipart/")
}

/// A multipart that cannot be taken apart becomes a leaf.
fn make_leaf(part: &mut Part, media_type: &str) {
    part.media_type = media_type.to_owned();
    part.charset = (media_type == "text/plain").then(|| "us-ascii".to_owned());
    part.has_charset = false;
}

/// What a part's header says of it.
fn describe(header: &[u8], in_digest: bool) -> (Part, Parameterized) {
    let mut part = Part::default();
    let mut content_type = None;
    let mut file_name = None;
    // Of a field that stands there twice the first counts, as in most mail programs.
    for field in fields(header) {
        if !field.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-")) {
            continue;
        }
        let value = field.value;
        match field.name.to_ascii_lowercase().as_str() {
            "content-type" => {
                content_type.get_or_insert_with(|| Parameterized::parse(value));
            }
            "content-transfer-encoding" if part.encoding == Encoding::None && !part.is_encoding_unknown => {
                (part.encoding, part.is_encoding_unknown) = transfer_encoding(value);
            }
            "content-disposition" if part.disposition.is_none() => {
                let disposition = Parameterized::parse(value);
                file_name = disposition.decoded("filename");
                part.disposition = bounded_token(disposition.value);
            }
            "content-id" if part.cid.is_none() => {
                let id = as_message_ids(value).and_then(|ids| ids.into_iter().next());
                let text = || without_comments(&unfolded(value)).trim_matches(['<', '>']).to_owned();
                part.cid = bounded(id.unwrap_or_else(text));
            }
            "content-language" if part.language.is_none() => {
                let tags = unfolded(value);
                let tags = without_comments(&tags);
                let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
                part.language = Some(tags.take(100).filter_map(|tag| bounded(tag.to_owned())).collect());
            }
            "content-location" if part.location.is_none() => {
                // RFC 2557, 4.4: white space comes from folding.
                let location: String = as_text(value).chars().filter(|c| !c.is_whitespace()).collect();
                part.location = bounded(location);
            }
            _ => {}
        }
    }
    let has_type = content_type.is_some();
    let content_type = content_type.unwrap_or_default();
    part.media_type = match bounded_token(content_type.value.clone()) {
        Some(media_type) if is_media_type(&media_type) => media_type,
        // RFC 2046, 5.1.5, and RFC 2045, 5.2.
        _ if in_digest && !has_type => "message/rfc822".to_owned(),
        _ => "text/plain".to_owned(),
    };
    let charset = content_type.plain("charset").and_then(bounded_token);
    part.has_charset = charset.is_some();
    part.charset = charset.or_else(|| (!has_type || part.is_text()).then(|| "us-ascii".to_owned()));
    part.name = file_name.and_then(bounded).or_else(|| content_type.decoded("name").and_then(bounded));
    (part, content_type)
}

/// The encoding, and whether it is one that nobody knows (RFC 2045, 6.1).
fn transfer_encoding(value: &[u8]) -> (Encoding, bool) {
    let text = unfolded(value);
    let text = without_comments(&text);
    let token = text.split([';', ' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
    match token.as_str() {
        "base64" => (Encoding::Base64, false),
        "quoted-printable" => (Encoding::QuotedPrintable, false),
        "" | "7bit" | "8bit" | "binary" => (Encoding::None, false),
        _ => (Encoding::None, true),
    }
}

/// `type/subtype`, both tokens (RFC 2045, 5.1).
fn is_media_type(text: &str) -> bool {
    let is_token = |token: &str| {
        let is_legal = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte);
        !token.is_empty() && token.bytes().all(is_legal)
    };
    text.split_once('/').is_some_and(|(main, sub)| is_token(main) && is_token(sub))
}

/// The text without control characters, cut to what is kept; `None` when nothing is left.
fn bounded(text: String) -> Option<String> {
    cut(text, MAX_VALUE_LEN)
}

fn bounded_token(text: String) -> Option<String> {
    cut(text, MAX_TOKEN_LEN)
}

fn cut(mut text: String, most: usize) -> Option<String> {
    text.retain(|c| !c.is_control());
    text.truncate(text.floor_char_boundary(most));
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each part as `type body`, indented by depth.
    fn outline(raw: &str) -> Vec<String> {
        let raw = raw.replace('\n', "\r\n");
        let structure = scan(raw.as_bytes());
        let mut ends: Vec<usize> = Vec::new();
        let lines = structure.parts.iter().enumerate().map(|(index, part)| {
            ends.retain(|end| index < *end);
            let depth = ends.len();
            let text = String::from_utf8_lossy(slice(raw.as_bytes(), part.body)).into_owned();
            if part.is_multipart() {
                ends.push(index + 1 + part.descendants as usize);
            }
            let text = if part.is_multipart() { String::new() } else { format!(" {text:?}") };
            format!("{}{}{text}", " ".repeat(depth), part.media_type)
        });
        lines.collect()
    }

    #[test]
    fn parts_and_their_bodies() {
        let raw = "\
Content-Type: multipart/mixed; boundary=out

preamble
--out

first

--out
Content-Type: multipart/digest; boundary=\"outer\"

--outer

Subject: x

y
--outer
Content-Type: text/plain

z
--outer--
epilogue
--out
Content-Type: text/html
--out--
epilogue
--out
";
        assert_eq!(
            outline(raw),
            [
                "multipart/mixed",
                " text/plain \"first\\r\\n\"",
                " multipart/digest",
                "  message/rfc822 \"Subject: x\\r\\n\\r\\ny\"",
                "  text/plain \"z\"",
                " text/html \"\"",
            ]
        );
    }

    #[test]
    fn broken_multiparts_are_still_readable() {
        for (raw, wanted) in [
            ("Content-Type: multipart/mixed\n\ntext", vec!["text/plain \"text\""]),
            ("Content-Type: multipart/mixed; boundary=b\n\ntext", vec!["text/plain \"text\""]),
            (
                "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--bb\n",
                vec!["multipart/mixed", " text/plain \"one\\r\\n--bb\\r\\n\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\nin\n--b--",
                vec!["multipart/mixed", " text/plain \"in\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b:1\n\n--b:1\nA: b\n--b:1\n\ntwo\n--b:1--",
                vec!["multipart/mixed", " text/plain \"\"", " text/plain \"two\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\n\ntext\n--b--",
                vec!["text/plain \"text\\r\\n--b--\""],
            ),
            ("Content-Type: text\n\nx", vec!["text/plain \"x\""]),
            ("", vec!["text/plain \"\""]),
        ] {
            assert_eq!(outline(raw), wanted, "{raw}");
        }
    }

    #[test]
    fn what_headers_say_of_a_part() {
        let raw = b"\
Content-Type: Text/Plain; name=\"=?utf-8?q?=C3=A9.txt?=\" (n)
Content-Transfer-Encoding: BASE64 (yes)
Content-Disposition: Attachment; filename*=utf-8''%C3%A9%20x.txt
Content-ID: <a@b> (id)
Content-Language: de (German), en
Content-Location: http://example.com/a/
 b

aGk=";
        let structure = scan(raw);
        let part = &structure.parts[0];
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(
            part,
            &Part {
                part_id: Some(1),
                header: (0, part.header.1),
                body: (raw.len() as u64 - 4, 4),
                encoding: Encoding::Base64,
                size: 2,
                media_type: "text/plain".to_owned(),
                name: text("é x.txt"),
                charset: text("us-ascii"),
                disposition: text("attachment"),
                cid: text("a@b"),
                language: Some(vec!["de".to_owned(), "en".to_owned()]),
                location: text("http://example.com/a/b"),
                ..Part::default()
            }
        );
        assert_eq!(Structure::from_json(&structure.to_json()).ok(), Some(structure));
    }

    #[test]
    fn the_structure_of_a_message_is_small() {
        let part = format!("--b\r\nContent-Type: text/plain; name={}\r\n\r\n", "é".repeat(2_000));
        let raw = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", part.repeat(3_000));
        let structure = scan(raw.as_bytes());
        assert_eq!(structure.parts[1].name.as_ref().map(String::len), Some(MAX_VALUE_LEN));
        assert!(structure.to_json().len() < 2 * MAX_KEPT);
    }

    #[test]
    fn charsets_are_filled_in_as_rfc_8621_says() {
        for (header, wanted) in [
            ("A: b", Some("us-ascii")),
            ("Content-Type: text/html", Some("us-ascii")),
            ("Content-Type: text/html; charset=UTF-8", Some("UTF-8")),
            ("Content-Type: image/png", None),
        ] {
            let structure = scan(format!("{header}\n\n").as_bytes());
            assert_eq!(structure.parts[0].charset.as_deref(), wanted, "{header}");
        }
    }
}
