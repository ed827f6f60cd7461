//! Writing header fields: folding, encoded words (RFC 2047), parameters (RFC 2231), addresses and
//! dates. What is written is ASCII wherever the syntax allows it, in lines of 76 characters where
//! there is a place to fold and never over 998 (RFC 5322, 2.1.1), provided that no single word
//! handed in is longer than `MAX_WORD_LEN`.
//!
//! Nothing here checks for CR, LF or NUL in names and ids: callers refuse them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_parser::DateTime;

use crate::types::address::normalize_domain;

/// Longest run without a space that is written on one line.
pub const MAX_WORD_LEN: usize = 900;

/// Longest line with an encoded word (RFC 2047, 2), kept for all lines.
const LINE_LEN: usize = 76;
/// Longest encoded word (RFC 2047, 2).
const ENCODED_WORD_LEN: usize = 75;
/// `=?utf-8?q?` and `?=`.
const ENCODED_WORD_FRAME: usize = 12;

/// A mailbox: a display name and what stands between the angle brackets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mailbox {
    /// Display name.
    pub name: Option<String>,
    /// Address; may be no legal one, in a draft.
    pub email: String,
}

/// Mailboxes, in a group when there is a name (RFC 5322, 3.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Name of the group; `None` for mailboxes outside any group.
    pub name: Option<String>,
    /// The mailboxes.
    pub addresses: Vec<Mailbox>,
}

/// A moment with the offset in which it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZonedDate {
    /// Milliseconds since 1970, UTC.
    pub ms: i64,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

/// Writes one field: words with single spaces between them, folded before a word that would make
/// the line too long.
pub struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    column: usize,
    /// Nothing but the name stands on this line yet.
    is_at_start: bool,
}

impl<'a> FieldWriter<'a> {
    /// Begins a field.
    pub fn start(out: &'a mut Vec<u8>, name: &str) -> FieldWriter<'a> {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        FieldWriter { out, column: name.len() + 1, is_at_start: true }
    }

    /// Writes a space, or a fold, and a word.
    pub fn word(&mut self, word: &str) {
        let limit = if self.is_at_start { MAX_WORD_LEN } else { LINE_LEN };
        if self.column + 1 + word.len() > limit && self.column > 1 {
            self.out.extend_from_slice(b"\r\n");
            self.column = 0;
        }
        self.out.push(b' ');
        self.out.extend_from_slice(word.as_bytes());
        self.column += 1 + word.len();
        self.is_at_start = false;
    }

    /// Ends the field.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// Room for a word on this line.
    fn room(&self) -> usize {
        LINE_LEN.saturating_sub(self.column + 1)
    }

    /// Writes unstructured text: as it is, folded at single spaces, when it is plain, else all of
    /// it in encoded words.
    pub fn text(&mut self, text: &str) {
        if !is_plain_text(text) {
            return self.encoded_words(text, "");
        }
        // Words that more than one space parts stay together: unfolding must give back each space.
        let bytes = text.as_bytes();
        let mut start = 0;
        for at in 1..bytes.len().saturating_sub(1) {
            if bytes[at] == b' ' && bytes[at - 1] != b' ' && bytes[at + 1] != b' ' {
                self.word(&text[start..at]);
                start = at + 1;
            }
        }
        self.word(&text[start..]);
    }

    /// Writes a phrase (RFC 5322, 3.2.5), with `end` right behind its last word.
    fn phrase(&mut self, phrase: &str, end: &str) {
        let is_atom = |word: &str| !word.is_empty() && word.bytes().all(is_atext);
        if phrase.len() <= LINE_LEN - 4 && phrase.split(' ').all(is_atom) && !phrase.contains("=?") {
            let mut words = phrase.split(' ').peekable();
            while let Some(word) = words.next() {
                if words.peek().is_some() { self.word(word) } else { self.word(&format!("{word}{end}")) }
            }
        } else if phrase.len() <= LINE_LEN - 4 && is_printable(phrase) && !phrase.contains("=?") {
            self.word(&format!("{}{end}", quoted_string(phrase)));
        } else {
            self.encoded_words(phrase, end);
        }
    }

    fn encoded_words(&mut self, text: &str, end: &str) {
        // Q words can be read by eye, as long as not too much of them is escaped.
        let escaped = text.bytes().filter(|byte| !is_q_literal(*byte) && *byte != b' ').count();
        let is_quoted = escaped * 2 <= text.len();
        let frame = ENCODED_WORD_FRAME + end.len();
        let mut rest = text;
        while !rest.is_empty() {
            // A first word may use what is left of the line, when that is worth it.
            let room = if self.room() >= 36 { self.room() } else { LINE_LEN - 1 };
            let budget = room.min(ENCODED_WORD_LEN).saturating_sub(frame);
            let (payload, taken) = if is_quoted { q_payload(rest, budget) } else { b_payload(rest, budget) };
            rest = rest.get(taken..).unwrap_or("");
            let kind = if is_quoted { 'q' } else { 'b' };
            let end = if rest.is_empty() { end } else { "" };
            self.word(&format!("=?utf-8?{kind}?{payload}?={end}"));
        }
    }

    /// Writes mailboxes and groups as an address list.
    pub fn addresses(&mut self, groups: &[Group]) {
        let groups: Vec<&Group> =
            groups.iter().filter(|group| group.name.is_some() || !group.addresses.is_empty()).collect();
        for (at, group) in groups.iter().enumerate() {
            let list_end = if at + 1 < groups.len() { "," } else { "" };
            let last_end = match &group.name {
                Some(name) if group.addresses.is_empty() => {
                    self.phrase(or_blank(name), &format!(":;{list_end}"));
                    continue;
                }
                Some(name) => {
                    self.phrase(or_blank(name), ":");
                    format!(";{list_end}")
                }
                None => list_end.to_owned(),
            };
            let mut mailboxes = group.addresses.iter().peekable();
            while let Some(mailbox) = mailboxes.next() {
                self.mailbox(mailbox, if mailboxes.peek().is_some() { "," } else { &last_end });
            }
        }
    }

    fn mailbox(&mut self, mailbox: &Mailbox, end: &str) {
        let email = with_ascii_domain(&mailbox.email);
        match mailbox.name.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
            Some(name) => {
                self.phrase(name, "");
                self.word(&format!("<{email}>{end}"));
            }
            None if is_plain_address(&email) => self.word(&format!("{email}{end}")),
            None => self.word(&format!("<{email}>{end}")),
        }
    }

    /// Writes a value followed by parameters (RFC 2045, 5.1; RFC 2231).
    pub fn with_parameters(&mut self, value: &str, parameters: &[(&str, &str)]) {
        let mut items = vec![value.to_owned()];
        parameters.iter().for_each(|(name, value)| push_parameter(&mut items, name, value));
        let count = items.len();
        for (at, item) in items.into_iter().enumerate() {
            if at + 1 < count { self.word(&format!("{item};")) } else { self.word(&item) }
        }
    }
}

/// A date as RFC 5322, 3.3 writes it, in its own offset.
pub fn rfc5322_date(date: ZonedDate) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let local_s = date.ms.div_euclid(1000) + i64::from(date.offset_minutes) * 60;
    let local = DateTime::from_timestamp(local_s);
    // 1970 began on a Thursday.
    let day = DAYS[usize::try_from(local_s.div_euclid(86_400).rem_euclid(7)).unwrap_or(0)];
    let month = MONTHS.get(usize::from(local.month).saturating_sub(1)).unwrap_or(&"Jan");
    let offset = date.offset_minutes.unsigned_abs();
    format!(
        "{day}, {} {month} {:04} {:02}:{:02}:{:02} {}{:02}{:02}",
        local.day,
        local.year,
        local.hour,
        local.minute,
        local.second,
        if date.offset_minutes < 0 { '-' } else { '+' },
        offset / 60,
        offset % 60
    )
}

/// Whether text can stand in a field unencoded, and comes back from it unchanged.
fn is_plain_text(text: &str) -> bool {
    is_printable(text)
        && !text.contains("=?")
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && text.split(' ').all(|word| word.len() <= MAX_WORD_LEN)
        && (text.len() <= MAX_WORD_LEN || !text.contains("  "))
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// RFC 5322, 3.2.3.
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// What stands for itself in a Q word anywhere, phrases included (RFC 2047, 5, rule 3).
fn is_q_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!*+-/".contains(&byte)
}

/// RFC 2045, 5.1.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
}

fn quoted_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A phrase may not be empty.
fn or_blank(name: &str) -> &str {
    if name.trim().is_empty() { " " } else { name.trim() }
}

/// As much of `text` as fits, at least one character, as the payload of a Q word; and its length.
fn q_payload(text: &str, budget: usize) -> (String, usize) {
    let mut payload = String::with_capacity(budget);
    let mut taken = 0;
    for c in text.chars() {
        let mut octets = [0; 4];
        let encoded = c.encode_utf8(&mut octets).bytes().fold(String::new(), |mut encoded, byte| {
            match byte {
                b' ' => encoded.push('_'),
                byte if is_q_literal(byte) => encoded.push(char::from(byte)),
                byte => encoded.push_str(&format!("={byte:02X}")),
            }
            encoded
        });
        if taken > 0 && payload.len() + encoded.len() > budget {
            break;
        }
        payload.push_str(&encoded);
        taken += c.len_utf8();
    }
    (payload, taken)
}

/// As much of `text` as fits, at least one character, as the payload of a B word; and its length.
fn b_payload(text: &str, budget: usize) -> (String, usize) {
    let mut taken = 0;
    for c in text.chars() {
        if taken > 0 && taken + c.len_utf8() > budget / 4 * 3 {
            break;
        }
        taken += c.len_utf8();
    }
    (BASE64.encode(text.get(..taken).unwrap_or("")), taken)
}

/// An address that needs no angle brackets.
fn is_plain_address(email: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| is_atext(byte) || byte == b'.');
    email.split_once('@').is_some_and(|(local, domain)| plain(local) && plain(domain))
}

/// An address whose local part is ASCII, with its domain in ASCII too, so that no server on the
/// way needs SMTPUTF8 for it (RFC 5890, 2.3.2.1); any other as it is.
fn with_ascii_domain(email: &str) -> String {
    match email.rsplit_once('@') {
        Some((local, domain)) if local.is_ascii() && !domain.is_ascii() => match normalize_domain(domain) {
            Some(domain) => format!("{local}@{domain}"),
            None => email.to_owned(),
        },
        _ => email.to_owned(),
    }
}

/// Adds a parameter: as a token, quoted, or percent-encoded in sections.
fn push_parameter(items: &mut Vec<String>, name: &str, value: &str) {
    if is_token(value) && value.len() <= 64 {
        return items.push(format!("{name}={value}"));
    }
    if is_printable(value) && !value.contains("=?") && value.len() <= 64 {
        return items.push(format!("{name}={}", quoted_string(value)));
    }
    // RFC 2231, 3 and 4.
    let budget = (LINE_LEN - 8).saturating_sub(name.len() + 12).max(24);
    let mut sections = vec![String::new()];
    for c in value.chars() {
        let mut octets = [0; 4];
        let encoded = c.encode_utf8(&mut octets).bytes().fold(String::new(), |mut encoded, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            encoded
        });
        match sections.last_mut() {
            Some(section) if section.len() + encoded.len() <= budget => section.push_str(&encoded),
            _ => sections.push(encoded),
        }
    }
    if let [only] = sections.as_slice() {
        return items.push(format!("{name}*=utf-8''{only}"));
    }
    for (at, section) in sections.iter().enumerate() {
        items.push(format!("{name}*{at}*={}{section}", if at == 0 { "utf-8''" } else { "" }));
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::{Address, HeaderValue, MimeHeaders};
    use proptest::prelude::*;

    use super::*;

    fn write(name: &str, fill: impl FnOnce(&mut FieldWriter<'_>)) -> String {
        let mut out = Vec::new();
        let mut writer = FieldWriter::start(&mut out, name);
        fill(&mut writer);
        writer.finish();
        let text = String::from_utf8(out).unwrap();
        for line in text.split("\r\n") {
            assert!(line.len() <= 998, "{line}");
        }
        text
    }

    fn subject(text: &str) -> String {
        write("Subject", |writer| writer.text(text))
    }

    fn read_subject(field: &str) -> Option<String> {
        let field = format!("{field}\r\n");
        let message = mail_parser::MessageParser::new().parse(field.as_bytes())?;
        message.subject().map(str::to_owned)
    }

    fn mailbox(name: &str, email: &str) -> Mailbox {
        Mailbox { name: (!name.is_empty()).then(|| name.to_owned()), email: email.to_owned() }
    }

    #[test]
    fn plain_text_is_folded_and_other_text_encoded() {
        assert_eq!(subject("Hello world"), "Subject: Hello world\r\n");
        let long = "word ".repeat(40);
        let folded = subject(long.trim_end());
        assert!(folded.lines().count() > 2 && folded.lines().all(|line| line.len() <= 76), "{folded}");
        assert_eq!(subject("Käse"), "Subject: =?utf-8?q?K=C3=A4se?=\r\n");
        assert_eq!(subject("日本"), "Subject: =?utf-8?b?5pel5pys?=\r\n");
        for tricky in
            ["=?utf-8?q?a?=", " lead", "trail ", "a  b", "a\tb", &"x".repeat(2000), &"ä ".repeat(300)]
        {
            let field = subject(tricky);
            assert_eq!(read_subject(&field).as_deref(), Some(tricky), "{field}");
        }
    }

    #[test]
    fn addresses_in_all_forms() {
        let list = |mailboxes: Vec<Mailbox>| {
            write("To", |writer| writer.addresses(&[Group { name: None, addresses: mailboxes }]))
        };
        assert_eq!(
            list(vec![mailbox("Ann Lee", "ann@x.test"), mailbox("", "bob@x.test")]),
            "To: Ann Lee <ann@x.test>, bob@x.test\r\n"
        );
        assert_eq!(list(vec![mailbox("Lee, A. \"Z\"", "a@x")]), "To: \"Lee, A. \\\"Z\\\"\" <a@x>\r\n");
        assert_eq!(
            list(vec![mailbox("Jörg", "j@bücher.test")]),
            "To: =?utf-8?q?J=C3=B6rg?= <j@xn--bcher-kva.test>\r\n"
        );
        assert_eq!(list(vec![mailbox("", "half done")]), "To: <half done>\r\n");
        let groups = [
            Group { name: Some("Friends".into()), addresses: vec![mailbox("", "a@x"), mailbox("", "b@x")] },
            Group { name: Some("Nobody".into()), addresses: vec![] },
            Group { name: None, addresses: vec![mailbox("C", "c@x")] },
        ];
        assert_eq!(
            write("To", |writer| writer.addresses(&groups)),
            "To: Friends: a@x, b@x;, Nobody:;, C <c@x>\r\n"
        );
    }

    #[test]
    fn dates_keep_their_offset() {
        let date = ZonedDate { ms: 1_414_649_520_000, offset_minutes: 480 };
        assert_eq!(rfc5322_date(date), "Thu, 30 Oct 2014 14:12:00 +0800");
        let date = ZonedDate { ms: 951_782_400_000, offset_minutes: -210 };
        assert_eq!(rfc5322_date(date), "Mon, 28 Feb 2000 20:30:00 -0330");
        let date = ZonedDate { ms: -62_135_596_800_000, offset_minutes: 0 };
        assert_eq!(rfc5322_date(date), "Mon, 1 Jan 0001 00:00:00 +0000");
    }

    #[test]
    fn parameters_in_all_forms() {
        let write = |value: &str| {
            write("Content-Disposition", |w| w.with_parameters("attachment", &[("filename", value)]))
        };
        assert_eq!(write("a.pdf"), "Content-Disposition: attachment; filename=a.pdf\r\n");
        assert_eq!(write("a \"b\".pdf"), "Content-Disposition: attachment; filename=\"a \\\"b\\\".pdf\"\r\n");
        assert_eq!(write("ä.pdf"), "Content-Disposition: attachment; filename*=utf-8''%C3%A4.pdf\r\n");
        assert!(write(&"ä".repeat(40)).contains(";\r\n filename*1*=%C3%A4"));
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~]{0,120}", "\\PC{0,60}", "[a-z ]{0,300}", "[äöü =?_日本]{0,80}"]
    }

    proptest! {
        #[test]
        fn text_comes_back(text in text()) {
            let read = read_subject(&subject(&text));
            prop_assert_eq!(read.unwrap_or_default(), text);
        }

        #[test]
        fn names_come_back(names in proptest::collection::vec(text(), 1..4)) {
            let mailboxes: Vec<_> = names.iter().map(|name| mailbox(name, "a.b@x.test")).collect();
            let field = write("To", |writer| writer.addresses(&[Group { name: None, addresses: mailboxes }]));
            let field = format!("{field}\r\n");
            let message = mail_parser::MessageParser::new().parse(field.as_bytes()).unwrap();
            let Some(Address::List(read)) = message.to() else { panic!("{field}") };
            prop_assert_eq!(read.len(), names.len());
            for (read, name) in read.iter().zip(&names) {
                prop_assert_eq!(read.address.as_deref(), Some("a.b@x.test"));
                prop_assert_eq!(read.name.as_deref().unwrap_or("").trim(), name.trim());
            }
        }

        #[test]
        fn file_names_come_back(name in text()) {
            let field = write("Content-Disposition", |w| w.with_parameters("attachment", &[("filename", &name)]));
            let field = format!("{field}\r\n");
            let message = mail_parser::MessageParser::new().parse(field.as_bytes()).unwrap();
            let disposition = message.root_part().content_disposition().unwrap();
            prop_assert_eq!(disposition.attribute("filename").unwrap_or(""), name);
        }

        #[test]
        fn dates_come_back(ms in -30_000_000_000_000_i64..253_402_214_400_000, offset_minutes in -1439..1440) {
            let text = format!("{}\n", rfc5322_date(ZonedDate { ms, offset_minutes }));
            let HeaderValue::DateTime(read) = mail_parser::parsers::MessageStream::new(text.as_bytes()).parse_date() else { panic!("{text}") };
            prop_assert_eq!(read.to_timestamp(), ms.div_euclid(1000));
        }
    }
}
