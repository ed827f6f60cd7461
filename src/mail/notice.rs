//! Mail from the server itself to one of its users.

use crate::mail::compose::{Defaults, HeaderValue, write_header};
use crate::mail::encode_body::{encoding_of_text, write_encoded};
use crate::mail::header_text::{Mailbox, ZonedDate};
use crate::mail::reencode::normalize_line_ends;

/// Something that a user should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice<'a> {
    /// The From address, such as `postmaster@` of the user's domain.
    pub from: &'a str,
    /// The user.
    pub to: &'a str,
    /// In a line.
    pub subject: &'a str,
    /// In full.
    pub text: &'a str,
}

/// Composes a notice, to be sent with a null sender.
pub fn compose_notice(notice: &Notice<'_>, defaults: &Defaults) -> Vec<u8> {
    let text = normalize_line_ends(notice.text.as_bytes()).into_owned();
    let encoding = encoding_of_text(&text);
    let mut out = Vec::with_capacity(1_024 + text.len());
    let now = ZonedDate { ms: defaults.now_ms, offset_minutes: 0 };
    let id = format!("{:032x}@{}", defaults.random, defaults.message_id_domain);
    let mailbox = |name: Option<&str>, email: &str| {
        HeaderValue::Addresses(vec![Mailbox { name: name.map(str::to_owned), email: email.to_owned() }])
    };
    write_header(&mut out, "Date", &HeaderValue::Date(now));
    write_header(&mut out, "Message-ID", &HeaderValue::MessageIds(vec![id]));
    write_header(&mut out, "From", &mailbox(Some("Mail System"), notice.from));
    write_header(&mut out, "To", &mailbox(None, notice.to));
    write_header(&mut out, "Subject", &HeaderValue::Text(notice.subject.to_owned()));
    // RFC 3834, 5: nobody answers it.
    out.extend_from_slice(b"Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n");
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    out.extend_from_slice(format!("Content-Transfer-Encoding: {}\r\n\r\n", encoding.word()).as_bytes());
    write_encoded(&mut out, &text, encoding);
    out
}
