//! A message as an import source gives it: octets, mailboxes, keywords, the time it came.

use std::path::Path;

use crate::cli::import::headers::{Field, fields};
use crate::cli::import::labels;
use crate::types::keyword::normalize_keyword;
use unicode_normalization::UnicodeNormalization;

/// Keywords of a message that are taken.
const MAX_KEYWORDS: usize = 64;
/// Mailboxes of a message that are taken.
const MAX_MAILBOXES: usize = 32;
/// Names in the path of a mailbox; deeper ones are cut off.
const MAX_PATH_DEPTH: usize = 10;
/// Octets of a mailbox name; longer ones are cut.
const MAX_NAME_LEN: usize = 200;

/// A message that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportedMessage {
    /// Lines end in CRLF.
    pub raw: Vec<u8>,
    /// Paths of mailbox names, at least one.
    pub mailboxes: Vec<Vec<String>>,
    /// Legal keywords in lower case, sorted, each once.
    pub keywords: Vec<String>,
    /// Milliseconds since 1970.
    pub received_at_ms: i64,
    /// The mailbox by the place in the source. It is part of the key, labels are not: they change.
    pub source_mailbox: Vec<String>,
    /// Where it was read, for people.
    pub place: String,
}

/// A message that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// File, and place in it.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

/// What a source yields.
pub type ReadMessage = Result<ImportedMessage, Broken>;

/// What a source knows of a message beside its octets.
#[derive(Clone, Default, Debug)]
pub struct Known {
    /// The mailbox by the place in the source.
    pub mailbox: Vec<String>,
    /// Keywords by the place in the source or by the file's name.
    pub keywords: Vec<String>,
    /// The time in the line before the message (mbox).
    pub from_line_ms: Option<i64>,
    /// When the file was last written.
    pub file_ms: i64,
    /// Whether fields such as `Status` are the source's own: true for mbox, where the program
    /// that kept the file wrote them.
    pub has_status_fields: bool,
}

impl ImportedMessage {
    /// Puts together what the source knows and what the message says.
    pub fn assemble(raw: Vec<u8>, known: Known, place: String) -> ReadMessage {
        let fields = fields(&raw);
        if fields.is_empty() {
            return Err(Broken { place, why: "no header fields: this is no message".to_owned() });
        }
        let received_at_ms = known.from_line_ms.or_else(|| time_in(&fields)).unwrap_or(known.file_ms).max(0);
        let mut keywords = known.keywords;
        let source_mailbox = clean_path(known.mailbox);
        let mut mailboxes = vec![source_mailbox.clone()];
        if known.has_status_fields {
            labels::apply_status_fields(&fields, &mut keywords);
            if let Some(of_labels) = labels::of_gmail(&fields, &mut keywords) {
                mailboxes = of_labels;
            }
        }
        let mut keywords: Vec<String> =
            keywords.iter().filter_map(|keyword| normalize_keyword(keyword)).take(MAX_KEYWORDS).collect();
        keywords.sort();
        keywords.dedup();
        let mailboxes = mailboxes.into_iter().take(MAX_MAILBOXES).map(clean_path).collect();
        Ok(ImportedMessage { raw, mailboxes, keywords, received_at_ms, source_mailbox, place })
    }

    /// Tells this message from others: the same message in the same mailbox has the same key,
    /// whatever a mail program has noted in its header meanwhile.
    pub fn key(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let mut rest = self.raw.as_slice();
        for field in fields(&self.raw) {
            if !labels::is_bookkeeping(&field.name) {
                hash.update(self.raw.get(field.span.clone()).unwrap_or_default());
            }
            rest = self.raw.get(field.span.end..).unwrap_or_default();
        }
        hash.update(rest);
        for name in &self.source_mailbox {
            hash.update(b"\0").update(name.as_bytes());
        }
        let hash = hash.finalize();
        format!("import-{}", &hash.to_hex().as_str()[..40])
    }
}

/// A path whose names are legal for a Mailbox (RFC 8621, 2): Net-Unicode, not empty, not too long.
pub fn clean_path(path: Vec<String>) -> Vec<String> {
    let clean = |name: String| {
        let mut clean = String::new();
        for c in name.nfc().filter(|c| !c.is_control()) {
            if clean.len() + c.len_utf8() > MAX_NAME_LEN {
                break;
            }
            clean.push(c);
        }
        clean.trim().to_owned()
    };
    let path: Vec<String> =
        path.into_iter().map(clean).filter(|name| !name.is_empty()).take(MAX_PATH_DEPTH).collect();
    if path.is_empty() { vec!["Inbox".to_owned()] } else { path }
}

/// The time in the top `Received` field, else in `Date`.
fn time_in(fields: &[Field]) -> Option<i64> {
    let first = |name: &str| fields.iter().find(|field| field.name == name);
    // RFC 5322, 3.6.7: the date follows the last semicolon.
    let received = first("received").and_then(|field| parse_time(field.value.rsplit_once(';')?.1));
    received.or_else(|| first("date").and_then(|field| parse_time(&field.value)))
}

/// An RFC 5322 date in milliseconds; `None` for what is none, or lies outside 1970 to 9999.
pub fn parse_time(text: &str) -> Option<i64> {
    let date = mail_parser::DateTime::parse_rfc822(text.trim())?;
    let is_usable = date.is_valid() && (1970..=9999).contains(&date.year);
    is_usable.then(|| date.to_timestamp().saturating_mul(1000)).filter(|ms| *ms >= 0)
}

/// Octets with every bare LF made CRLF.
pub fn with_crlf(octets: Vec<u8>) -> Vec<u8> {
    let mut previous = 0;
    let mut has_bare = false;
    for byte in &octets {
        has_bare |= *byte == b'\n' && previous != b'\r';
        previous = *byte;
    }
    if !has_bare {
        return octets;
    }
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    push_with_crlf(&mut out, &octets);
    out
}

/// Appends octets, every bare LF made CRLF; `out` may end in the CR of a line end.
pub fn push_with_crlf(out: &mut Vec<u8>, octets: &[u8]) {
    for part in octets.split_inclusive(|byte| *byte == b'\n') {
        match part.strip_suffix(b"\n") {
            Some(line) => {
                out.extend_from_slice(line);
                out.extend_from_slice(if out.last() == Some(&b'\r') { b"\n" } else { b"\r\n" });
            }
            None => out.extend_from_slice(part),
        }
    }
}

/// When a file was last written, in milliseconds since 1970.
pub fn file_time_ms(metadata: &std::fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Reads a file that holds one message.
pub fn read_whole(path: &Path, max_size: u64) -> Result<(Vec<u8>, i64), Broken> {
    let place = path.display().to_string();
    let unreadable =
        |error: std::io::Error| Broken { place: place.clone(), why: format!("cannot be read: {error}") };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Broken { place, why: "is no file".to_owned() });
    }
    if metadata.len() > max_size {
        return Err(Broken { place, why: too_large(max_size) });
    }
    let raw = with_crlf(std::fs::read(path).map_err(unreadable)?);
    if raw.len() as u64 > max_size {
        return Err(Broken { place, why: too_large(max_size) });
    }
    Ok((raw, file_time_ms(&metadata)))
}

/// Why a message of more octets than allowed is left out.
pub fn too_large(max_size: u64) -> String {
    format!("larger than max_message_size ({})", crate::types::size::show_size(max_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(raw: &str, known: Known) -> ImportedMessage {
        ImportedMessage::assemble(with_crlf(raw.into()), known, "here".into()).expect("a message")
    }

    const DATED: &str = "Received: from a by b; Thu, 10 Nov 2005 12:00:00 +0000\n\
                         Received: from c by a; Thu, 10 Nov 2005 11:00:00 +0000\n\
                         Date: Wed, 9 Nov 2005 12:00:00 +0000\n\nHi\n";

    #[test]
    fn the_time_is_of_the_from_line_then_received_then_date_then_the_file() {
        let time = |raw: &str, from_line_ms| {
            assembled(raw, Known { from_line_ms, file_ms: 7, ..Known::default() }).received_at_ms
        };
        assert_eq!(time(DATED, Some(5)), 5);
        assert_eq!(time(DATED, None), 1_131_624_000_000);
        assert_eq!(time("Date: Wed, 9 Nov 2005 12:00:00 +0000\n\n", None), 1_131_537_600_000);
        assert_eq!(time("Received: nonsense; yesterday\nDate: never\n\n", None), 7);
        assert_eq!(time("Date: Wed, 9 Nov 1900 12:00:00 +0000\n\n", None), 7);
    }

    #[test]
    fn line_ends_become_crlf() {
        assert_eq!(with_crlf(b"a\nb\r\nc\r\r\n\n".to_vec()), b"a\r\nb\r\nc\r\r\n\r\n");
        let mut out = b"a\r".to_vec();
        push_with_crlf(&mut out, b"\nb");
        assert_eq!(out, b"a\r\nb");
    }

    #[test]
    fn the_key_knows_the_message_again() {
        let known = Known { mailbox: vec!["A".into()], has_status_fields: true, ..Known::default() };
        let key = |raw: &str, known: &Known| assembled(raw, known.clone()).key();
        let first = key("Subject: x\n\nbody\n", &known);
        assert_eq!(key("Subject: x\nStatus: RO\nX-Mozilla-Status: 0001\n\nbody\n", &known), first);
        assert_ne!(key("Subject: x\n\nbody \n", &known), first);
        assert_ne!(key("Subject: y\n\nbody\n", &known), first);
        let labelled = "X-GM-THRID: 1\nX-Gmail-Labels: Work\nSubject: x\n\nbody\n";
        assert_eq!(key(labelled, &known), first);
        let elsewhere = Known { mailbox: vec!["B".into()], ..known };
        assert_ne!(key("Subject: x\n\nbody\n", &elsewhere), first);
    }

    #[test]
    fn names_of_mailboxes_become_legal() {
        let path = vec!["a\u{0}\r\nb ".into(), String::new(), "\u{7}".into(), "é".repeat(300)];
        assert_eq!(clean_path(path), ["ab".to_owned(), "é".repeat(100)]);
        assert_eq!(clean_path(vec!["x".into(); 50]).len(), MAX_PATH_DEPTH);
        assert_eq!(clean_path(Vec::new()), ["Inbox"]);
    }

    #[test]
    fn what_has_no_header_is_no_message() {
        let broken = ImportedMessage::assemble(b"\r\nhello".to_vec(), Known::default(), "here".into());
        assert!(broken.is_err_and(|broken| broken.place == "here"));
    }
}
