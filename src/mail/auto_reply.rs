//! Automatic replies, as vacation responses are (RFC 3834): whether one may be sent, and composing
//! it.
//!
//! That nobody is answered twice within the interval is the caller's to remember; here is what the
//! message itself forbids. When in doubt there is no reply.

use std::collections::HashMap;

use mail_parser::parsers::MessageStream;
use mail_parser::{Address as Parsed, HeaderValue as ParsedValue};

use crate::mail::compose::{
    ComposeError, Defaults, Draft, DraftBody, DraftContent, DraftHeader, DraftPart, HeaderValue, compose,
};
use crate::mail::dsn::{message_id, message_ids, original_subject};
use crate::mail::entity_header::read_entity;
use crate::mail::field_lines::{fields, split_message};
use crate::mail::header_text::Mailbox;
use crate::types::address::Address;

/// Octets of address fields in which the user's own address is looked for.
const MAX_ADDRESS_OCTETS: usize = 256 * 1024;
/// Most identifiers in a References field that is written.
const MAX_REFERENCES: usize = 50;

/// Local parts of addresses that programs write from (RFC 3834, 2).
const PROGRAMS: [&str; 14] = [
    "mailer-daemon",
    "postmaster",
    "noreply",
    "no-reply",
    "no_reply",
    "donotreply",
    "do-not-reply",
    "do_not_reply",
    "listserv",
    "majordomo",
    "mailman",
    "bounce",
    "bounces",
    "autoreply",
];

/// Why a message gets no automatic reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoReply {
    /// The sender is null, or no address.
    NullSender,
    /// A program wrote it, by the look of its address.
    ProgramSender,
    /// The user wrote it.
    OwnMessage,
    /// It says that it was made automatically, or is a report.
    Automatic,
    /// It came through a list or in bulk.
    List,
    /// It asks for no automatic replies.
    Suppressed,
    /// It is not addressed to the user.
    NotAddressed,
}

/// Whether a message may be answered automatically. `return_path` is the envelope sender,
/// `message` the message or its header, `own_addresses` the addresses of the user.
pub fn should_reply(return_path: &str, message: &[u8], own_addresses: &[Address]) -> bool {
    reason_not_to_reply(return_path, message, own_addresses).is_none()
}

/// The first reason against a reply; `None` when there is none.
pub fn reason_not_to_reply(return_path: &str, message: &[u8], own_addresses: &[Address]) -> Option<NoReply> {
    let Ok(sender) = Address::parse(return_path.trim_start_matches('<').trim_end_matches('>')) else {
        return Some(NoReply::NullSender);
    };
    if is_program(sender.local()) {
        return Some(NoReply::ProgramSender);
    }
    let is_own = |address: &Address| {
        let untagged = address.without_tag();
        own_addresses.iter().any(|own| own == address || Some(own) == untagged.as_ref())
    };
    if is_own(&sender) {
        return Some(NoReply::OwnMessage);
    }
    let (header, _, _) = split_message(message);
    if let Some(reason) = fields(header).find_map(|field| reason_in_field(field.name, &field.text())) {
        return Some(reason);
    }
    // RFC 3834, 2: reports are answered by nobody.
    if read_entity(header, "text/plain").media_type == "multipart/report" {
        return Some(NoReply::Automatic);
    }
    let mut room = MAX_ADDRESS_OCTETS;
    let recipient_fields = ["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"];
    for field in fields(header).filter(|field| recipient_fields.iter().any(|name| field.is(name))) {
        room = room.saturating_sub(field.value.len());
        if room == 0 {
            break;
        }
        if addresses_in(field.value).iter().any(is_own) {
            return None;
        }
    }
    Some(NoReply::NotAddressed)
}

fn is_program(local: &str) -> bool {
    let base = local.split('+').next().unwrap_or("");
    PROGRAMS.contains(&base)
        || base.starts_with("owner-")
        || base.ends_with("-owner")
        || base.ends_with("-request")
        || base.ends_with("-bounces")
        || base.ends_with("-noreply")
        || base.ends_with("-no-reply")
        || base.starts_with("bounce-")
        || base.starts_with("bounces-")
        || base.starts_with("noreply-")
        || base.starts_with("no-reply-")
}

fn reason_in_field(name: &[u8], value: &str) -> Option<NoReply> {
    let name = name.to_ascii_lowercase();
    let value = value.to_ascii_lowercase();
    let first_word = value.split([';', ' ', '\t', '(']).find(|word| !word.is_empty()).unwrap_or("");
    match name.as_slice() {
        // RFC 3834, 5: a keyword, then parameters and comments.
        b"auto-submitted" if first_word != "no" => Some(NoReply::Automatic),
        b"x-autoreply" | b"x-autorespond" | b"x-auto-reply" if first_word != "no" => Some(NoReply::Automatic),
        b"precedence" if matches!(first_word, "bulk" | "list" | "junk") => Some(NoReply::List),
        b"x-auto-response-suppress" => {
            let mut words = value.split([',', ' ', ';']);
            words.any(|word| matches!(word, "all" | "oof" | "autoreply")).then_some(NoReply::Suppressed)
        }
        name if name.starts_with(b"list-") || name == b"mailing-list" => Some(NoReply::List),
        _ => None,
    }
}

/// The addresses in a field that can be read.
fn addresses_in(value: &[u8]) -> Vec<Address> {
    let mut line = value.to_vec();
    line.push(b'\n');
    let ParsedValue::Address(parsed) = MessageStream::new(&line).parse_address() else {
        return Vec::new();
    };
    let list = match &parsed {
        Parsed::List(list) => list.iter().collect::<Vec<_>>(),
        Parsed::Group(groups) => groups.iter().flat_map(|group| &group.addresses).collect(),
    };
    list.into_iter().filter_map(|item| Address::parse(item.address.as_deref()?).ok()).collect()
}

/// A reply to be composed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AutoReply<'a> {
    /// Who is away.
    pub from: Mailbox,
    /// The envelope sender of the message that is answered.
    pub to: &'a str,
    /// That message, or its header.
    pub original: &'a [u8],
    /// The subject that the user set.
    pub subject: Option<&'a str>,
    /// The text that the user set.
    pub text: Option<&'a str>,
    /// The HTML that the user set.
    pub html: Option<&'a str>,
}

/// Composes a reply, to be sent with a null sender (RFC 3834, 3).
pub fn compose_reply(reply: &AutoReply<'_>, defaults: &Defaults) -> Result<Vec<u8>, ComposeError> {
    let subject = match reply.subject {
        Some(subject) => one_line(subject),
        None => {
            // RFC 3834, 3.1.5.
            let original = original_subject(reply.original);
            format!("Auto: {}", original.unwrap_or_else(|| "your message".to_owned()))
        }
    };
    let to = reply.to.trim_start_matches('<').trim_end_matches('>');
    let header = |name: &str, value: HeaderValue| DraftHeader { name: name.to_owned(), value };
    let from = Mailbox { name: reply.from.name.as_deref().map(one_line), email: one_line(&reply.from.email) };
    let mut headers = vec![
        header("From", HeaderValue::Addresses(vec![from])),
        header("To", HeaderValue::Addresses(vec![Mailbox { name: None, email: one_line(to) }])),
        header("Subject", HeaderValue::Text(subject)),
        header("Auto-Submitted", HeaderValue::Raw(" auto-replied".to_owned())),
        header("X-Auto-Response-Suppress", HeaderValue::Raw(" All".to_owned())),
    ];
    if let Some(id) = message_id(reply.original) {
        headers.push(header("References", HeaderValue::MessageIds(references(reply.original, &id))));
        headers.push(header("In-Reply-To", HeaderValue::MessageIds(vec![id])));
    }
    let text = match (reply.text, reply.html) {
        (Some(text), _) => text.to_owned(),
        // RFC 8621, 8: a plain text is made of the HTML, and some text when there is neither.
        (None, Some(html)) => mail_parser::decoders::html::html_to_text(html),
        (None, None) => {
            format!("{} is away and will read your message later.\n", one_line(&reply.from.email))
        }
    };
    let part =
        |media_type: &str, text: String| Box::new(DraftPart::new(media_type, DraftContent::Text(text)));
    let body = DraftBody::Simple {
        text: Some(part("text/plain", text)),
        html: reply.html.map(|html| part("text/html", html.to_owned())),
        attachments: Vec::new(),
    };
    compose(&Draft { headers, body }, &HashMap::new(), defaults)
}

/// The identifiers that a reply refers to: those that the message refers to, and its own (RFC
/// 5322, 3.6.4). Of very many the first and the last stay.
fn references(original: &[u8], id: &str) -> Vec<String> {
    let of_field = |name: &str| {
        let field = fields(original).find(|field| field.is(name));
        field.map(|field| message_ids(&field.text())).unwrap_or_default()
    };
    let mut ids = of_field("References");
    if ids.is_empty() {
        ids = of_field("In-Reply-To");
        if ids.len() > 1 {
            ids.clear();
        }
    }
    if ids.len() >= MAX_REFERENCES {
        let surplus = ids.len() + 1 - MAX_REFERENCES;
        ids.drain(1..=surplus);
    }
    ids.retain(|known| known != id);
    ids.push(id.to_owned());
    ids
}

/// Text that fits into a field: control characters as spaces, bounded.
fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() || matches!(c, '<' | '>') { ' ' } else { c })
        .take(500)
        .collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use mail_parser::{HeaderName, MessageParser};

    use super::*;

    fn own() -> Vec<Address> {
        ["alice@example.test", "ally@example.test"].iter().map(|text| Address::parse(text).unwrap()).collect()
    }

    fn reason(return_path: &str, header: &str) -> Option<NoReply> {
        reason_not_to_reply(return_path, header.as_bytes(), &own())
    }

    #[test]
    fn people_who_write_to_the_user_are_answered() {
        for header in [
            "To: Alice <ALICE@example.test>\r\n\r\n",
            "To: x@y\r\nCc: Friends: a@b, ally+tag@example.test;\r\n\r\n",
            "Resent-To: alice@example.test\r\nAuto-Submitted: No (really)\r\nPrecedence: first-class\r\n\r\n",
        ] {
            assert_eq!(reason("bob@remote.test", header), None, "{header}");
            assert!(should_reply("<bob@remote.test>", header.as_bytes(), &own()));
        }
    }

    #[test]
    fn endless_recipients_are_not_read() {
        let header = format!("To: {}alice@example.test\r\n\r\n", "a@b.test, ".repeat(50_000));
        assert_eq!(reason("bob@x.test", &header), Some(NoReply::NotAddressed));
    }

    #[test]
    fn programs_and_lists_are_not() {
        let to = "To: alice@example.test\r\n";
        for (sender, wanted) in [
            ("", NoReply::NullSender),
            ("<>", NoReply::NullSender),
            ("rubbish", NoReply::NullSender),
            ("MAILER-DAEMON@x.test", NoReply::ProgramSender),
            ("owner-list@x.test", NoReply::ProgramSender),
            ("list-request@x.test", NoReply::ProgramSender),
            ("no-reply@x.test", NoReply::ProgramSender),
            ("NoReply+abc@x.test", NoReply::ProgramSender),
            ("bounces+1=2@x.test", NoReply::ProgramSender),
            ("list-bounces@x.test", NoReply::ProgramSender),
            ("alice+x@example.test", NoReply::OwnMessage),
        ] {
            assert_eq!(reason(sender, to), Some(wanted), "{sender}");
        }
        for (field, wanted) in [
            ("Auto-Submitted: auto-generated; x=y", NoReply::Automatic),
            ("auto-submitted:\r\n auto-replied", NoReply::Automatic),
            ("X-Autoreply: yes", NoReply::Automatic),
            ("Precedence: BULK", NoReply::List),
            ("Precedence: junk", NoReply::List),
            ("List-Id: <l.x.test>", NoReply::List),
            ("List-Unsubscribe: <mailto:u@x>", NoReply::List),
            ("X-Auto-Response-Suppress: DR, OOF", NoReply::Suppressed),
            ("Content-Type: multipart/report; boundary=x", NoReply::Automatic),
        ] {
            assert_eq!(reason("bob@x.test", &format!("{to}{field}\r\n\r\n")), Some(wanted), "{field}");
        }
        assert_eq!(
            reason("bob@x.test", "To: other@example.test\r\n\r\nTo: alice@example.test"),
            Some(NoReply::NotAddressed)
        );
    }

    fn reply(original: &str, subject: Option<&str>, text: Option<&str>, html: Option<&str>) -> String {
        let from = Mailbox { name: Some("Alice Ä".into()), email: "alice@example.test".into() };
        let reply =
            AutoReply { from, to: "<bob@x.test>", original: original.as_bytes(), subject, text, html };
        let defaults = Defaults { now_ms: 0, message_id_domain: "example.test".into(), random: 5 };
        String::from_utf8(compose_reply(&reply, &defaults).unwrap()).unwrap()
    }

    #[test]
    fn a_reply_belongs_to_its_thread_and_starts_no_loop() {
        let raw = reply(
            "Message-ID: <m@x>\r\nReferences: <a@x>\r\n <b@x>\r\nSubject: =?utf-8?q?K=C3=A4se?=\r\n\r\n",
            None,
            Some("Away"),
            None,
        );
        for wanted in [
            "To: bob@x.test\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "References: <a@x> <b@x> <m@x>\r\nIn-Reply-To: <m@x>\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n\r\nAway",
        ] {
            assert!(raw.contains(wanted), "{raw}");
        }
        let message = MessageParser::new().parse(raw.as_bytes()).unwrap();
        assert_eq!(message.subject(), Some("Auto: Käse"));
        let bob = [Address::parse("bob@x.test").unwrap()];
        assert_eq!(reason_not_to_reply("alice@example.test", raw.as_bytes(), &bob), Some(NoReply::Automatic));
    }

    #[test]
    fn subjects_and_bodies_of_the_user() {
        let raw = reply("X: y\r\n\r\n", Some("Away\r\nBcc: x@y"), None, Some("<p>Gone <b>fishing</b></p>"));
        let message = MessageParser::new().parse(raw.as_bytes()).unwrap();
        assert_eq!(message.subject(), Some("Away  Bcc: x@y"));
        assert!(message.header(HeaderName::Bcc).is_none() && message.header(HeaderName::InReplyTo).is_none());
        assert!(message.body_text(0).unwrap().contains("Gone fishing"));
        assert_eq!(message.body_html(0).as_deref(), Some("<p>Gone <b>fishing</b></p>"));
        assert!(reply("", None, None, None).contains("alice@example.test is away"));
        assert!(reply("", None, None, None).contains("Subject: Auto: your message\r\n"));
    }

    #[test]
    fn references_are_bounded() {
        let ids: String = (0..900).map(|at| format!(" <{at}@x>")).collect();
        let listed = references(format!("References:{ids}\r\n").as_bytes(), "m@x");
        assert_eq!(listed.len(), MAX_REFERENCES);
        assert_eq!((listed[0].as_str(), listed[48].as_str(), listed[49].as_str()), ("0@x", "899@x", "m@x"));
        assert_eq!(references(b"In-Reply-To: <a@x>\r\n", "m@x"), ["a@x", "m@x"]);
        assert_eq!(references(b"In-Reply-To: <a@x> <b@x>\r\n", "m@x"), ["m@x"]);
    }
}
