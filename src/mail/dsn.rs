//! Delivery status notifications (RFC 3464): telling the sender of a message that it did not, or
//! not yet, reach its recipients, and, when that was asked for, that it did.
//!
//! A notification is ASCII but for the returned message itself; what remote servers said is
//! bounded and cannot end a field. Reading those that come back is in `dsn_read`.

use std::borrow::Cow;

use crate::mail::compose::{Defaults, HeaderValue, write_header};
use crate::mail::encode_body::{TransferEncoding, encode_message, encoding_of_text, write_encoded};
use crate::mail::field_lines::{fields, split_message};
use crate::mail::header_text::{FieldWriter, MAX_WORD_LEN, Mailbox, ZonedDate, rfc5322_date};
use crate::mail::reencode::normalize_line_ends;
use crate::types::envelope::DsnReturn;

/// Largest message that is returned whole unasked; of others only the header is, up to this size.
pub const MAX_RETURNED_LEN: usize = 50 * 1024;
/// Most characters of a server's answer that are passed on.
const MAX_DIAGNOSTIC_CHARS: usize = 2000;

/// One notification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification<'a> {
    /// The host that tells.
    pub reporting_mta: &'a str,
    /// The From address, such as `postmaster@` of our domain.
    pub from: &'a str,
    /// The envelope sender of the message; never the null sender.
    pub to: &'a str,
    /// ENVID of the message, decoded (RFC 3461, 4.4).
    pub envelope_id: Option<&'a str>,
    /// When the message was accepted, in milliseconds since 1970.
    pub arrival_ms: i64,
    /// The recipients that there is something to tell about.
    pub recipients: &'a [RecipientStatus<'a>],
    /// What the sender wants to get back of the message (RFC 3461, 4.3).
    pub ret: Option<DsnReturn>,
    /// The message.
    pub original: &'a [u8],
}

/// What became of one recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecipientStatus<'a> {
    /// The address that delivery was tried for.
    pub address: &'a str,
    /// ORCPT, decoded: an address type, `;` and an address (RFC 3461, 4.2).
    pub original_recipient: Option<&'a str>,
    /// What happened.
    pub outcome: Outcome,
    /// Enhanced status code, such as `5.1.1` (RFC 3463).
    pub status: &'a str,
    /// The server that answered.
    pub remote_mta: Option<&'a str>,
    /// Its answer.
    pub diagnostic: Option<&'a str>,
    /// When delivery was tried last, in milliseconds since 1970.
    pub last_attempt_ms: Option<i64>,
}

/// The outcomes that are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Refused for good.
    Failed,
    /// Tried for too long.
    Expired,
    /// Not yet, but still tried until then (milliseconds since 1970).
    Delayed {
        /// The end of trying.
        retry_until_ms: i64,
    },
    /// In the recipient's mailbox.
    Delivered,
    /// Taken by a server that promises no notification of its own (RFC 3464, 2.3.3).
    Relayed,
}

impl Outcome {
    fn is_failure(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Expired)
    }

    fn is_success(self) -> bool {
        matches!(self, Outcome::Delivered | Outcome::Relayed)
    }

    /// RFC 3464, 2.3.3
    fn action(self) -> &'static str {
        match self {
            Outcome::Failed | Outcome::Expired => "failed",
            Outcome::Delayed { .. } => "delayed",
            Outcome::Delivered => "delivered",
            Outcome::Relayed => "relayed",
        }
    }
}

/// Composes a notification, to be sent with a null sender (RFC 3464, 2).
pub fn compose_dsn(notification: &Notification<'_>, defaults: &Defaults) -> Vec<u8> {
    let explanation = normalize_line_ends(explain(notification).as_bytes()).into_owned();
    let explanation_encoding = encoding_of_text(&explanation);
    let mut status = Vec::new();
    write_status(&mut status, notification);
    let (returned_type, returned, returned_encoding) = returned_part(notification);

    let mut out = Vec::with_capacity(4096 + explanation.len() + status.len() + returned.len() * 2);
    let now = ZonedDate { ms: defaults.now_ms, offset_minutes: 0 };
    let id = format!("{:032x}@{}", defaults.random, defaults.message_id_domain);
    let from =
        Mailbox { name: Some("Mail Delivery System".to_owned()), email: one_line(notification.from, 320) };
    let to = Mailbox { name: None, email: one_line(notification.to, 320) };
    write_header(&mut out, "Date", &HeaderValue::Date(now));
    write_header(&mut out, "Message-ID", &HeaderValue::MessageIds(vec![id]));
    write_header(&mut out, "From", &HeaderValue::Addresses(vec![from]));
    write_header(&mut out, "To", &HeaderValue::Addresses(vec![to]));
    write_header(&mut out, "Subject", &HeaderValue::Text(subject(notification)));
    if let Some(original_id) = message_id(notification.original) {
        write_header(&mut out, "In-Reply-To", &HeaderValue::MessageIds(vec![original_id.clone()]));
        write_header(&mut out, "References", &HeaderValue::MessageIds(vec![original_id]));
    }
    // RFC 3834, 5.
    write_field(&mut out, "Auto-Submitted", "auto-replied");
    write_field(&mut out, "MIME-Version", "1.0");
    let boundary = free_boundary(defaults.random, &[&explanation, &status, &returned]);
    let mut writer = FieldWriter::start(&mut out, "Content-Type");
    writer
        .with_parameters("multipart/report", &[("report-type", "delivery-status"), ("boundary", &boundary)]);
    writer.finish();

    let part = |out: &mut Vec<u8>, media_type: &str, content: &[u8], encoding: TransferEncoding| {
        out.extend_from_slice(format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\n").as_bytes());
        if encoding != TransferEncoding::SevenBit {
            out.extend_from_slice(format!("Content-Transfer-Encoding: {}\r\n", encoding.word()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        write_encoded(out, content, encoding);
    };
    if returned_encoding == TransferEncoding::EightBit {
        write_field(&mut out, "Content-Transfer-Encoding", "8bit");
    }
    part(&mut out, "text/plain; charset=utf-8", &explanation, explanation_encoding);
    part(&mut out, "message/delivery-status", &status, TransferEncoding::SevenBit);
    part(&mut out, returned_type, &returned, returned_encoding);
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

fn subject(notification: &Notification<'_>) -> String {
    let has = |is: fn(Outcome) -> bool| notification.recipients.iter().any(|told| is(told.outcome));
    let what = match (has(Outcome::is_failure), has(Outcome::is_success)) {
        (true, _) => "Not delivered",
        (false, true) => "Delivered",
        (false, false) => "Delayed",
    };
    match original_subject(notification.original) {
        Some(subject) => format!("{what}: {subject}"),
        None => format!("{what}: your message"),
    }
}

/// The subject of a message, decoded and bounded; `None` when there is nothing in it.
pub fn original_subject(message: &[u8]) -> Option<String> {
    let field = fields(message).find(|field| field.is("Subject"))?;
    let mut value = field.value.get(..field.value.len().min(4096))?.to_vec();
    value.push(b'\n');
    match mail_parser::parsers::MessageStream::new(&value).parse_unstructured() {
        mail_parser::HeaderValue::Text(text) => Some(one_line(&text, 200)).filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// The first Message-ID of a message, without angle brackets.
pub fn message_id(message: &[u8]) -> Option<String> {
    let field = fields(message).find(|field| field.is("Message-ID"))?;
    message_ids(&field.text()).into_iter().next()
}

/// The identifiers in a field, at most a thousand, without angle brackets.
pub fn message_ids(text: &str) -> Vec<String> {
    let is_id = |id: &&str| {
        (1..=MAX_WORD_LEN - 8).contains(&id.len())
            && !id.chars().any(|c| c.is_control() || c.is_whitespace() || c == '<')
    };
    let inner = text.split('<').skip(1).filter_map(|piece| piece.split_once('>').map(|(id, _)| id));
    inner.filter(is_id).take(1000).map(str::to_owned).collect()
}

/// Recipients of whom the same is said.
struct Group {
    holds: fn(Outcome) -> bool,
    before: &'static str,
    after: &'static str,
}

/// Says in plain words what happened.
fn explain(notification: &Notification<'_>) -> String {
    const GROUPS: [Group; 4] = [
        Group {
            holds: Outcome::is_failure,
            before: "Your message could not be delivered to:",
            after: "It will not be tried again for these addresses.\n",
        },
        Group {
            holds: |outcome| matches!(outcome, Outcome::Delayed { .. }),
            before: "Your message has not been delivered yet to:",
            after: "You need not send it again: delivery is still being tried.\n",
        },
        Group {
            holds: |outcome| matches!(outcome, Outcome::Delivered),
            before: "Your message was delivered to:",
            after: "",
        },
        Group {
            holds: |outcome| matches!(outcome, Outcome::Relayed),
            before: "Your message was handed on to the server of:",
            after: "That server tells nothing more about it.\n",
        },
    ];
    let mut text = String::new();
    for Group { holds, before, after } in GROUPS {
        let mut group = notification.recipients.iter().filter(|told| holds(told.outcome)).peekable();
        if group.peek().is_none() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{before}\n\n"));
        group.for_each(|recipient| explain_recipient(&mut text, recipient));
        text.push_str(after);
    }
    text.push_str("\nThe message:\n");
    let accepted = rfc5322_date(ZonedDate { ms: notification.arrival_ms, offset_minutes: 0 });
    if let Some(subject) = original_subject(notification.original) {
        text.push_str(&format!("  Subject: {subject}\n"));
    }
    text.push_str(&format!("  Accepted by {}: {accepted}\n", one_line(notification.reporting_mta, 255)));
    text
}

fn explain_recipient(text: &mut String, recipient: &RecipientStatus<'_>) {
    text.push_str(&format!("  {}\n", one_line(recipient.address, 320)));
    if !recipient.outcome.is_success() {
        let status = one_line(recipient.status, 20);
        text.push_str(&format!("    {} (status {status}).\n", plain_reason(recipient)));
    }
    if let Some(diagnostic) = recipient.diagnostic {
        let server = recipient.remote_mta.map_or("The server".to_owned(), |host| one_line(host, 255));
        text.push_str(&format!("    {server} said: {}\n", one_line(diagnostic, MAX_DIAGNOSTIC_CHARS)));
    }
    if let Outcome::Delayed { retry_until_ms } = recipient.outcome {
        let until = rfc5322_date(ZonedDate { ms: retry_until_ms, offset_minutes: 0 });
        text.push_str(&format!("    It will be tried until {until}.\n"));
    }
    text.push('\n');
}

/// A status code in words (RFC 3463, 3; RFC 7505, 4; RFC 6531, 4).
fn plain_reason(recipient: &RecipientStatus<'_>) -> &'static str {
    if recipient.outcome == Outcome::Expired {
        return "Delivery was tried for several days without success";
    }
    let mut numbers = recipient.status.split('.').skip(1).map(|number| number.parse::<u16>().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (1, 1 | 6) => "There is no mailbox of this name",
        (1, 2) => "The domain of this address does not exist",
        (1, 10) => "The domain of this address accepts no mail",
        (1, 7 | 8) => "The receiving server does not accept your address",
        (1, _) => "The receiving server does not accept this address",
        (2, 1) => "The mailbox is switched off",
        (2, 2) => "The mailbox is full",
        (2, 3) | (3, 4) => "The message is too large for the recipient",
        (2, _) => "The mailbox cannot take the message",
        (4, 1 | 2) => "The receiving server does not answer",
        (4, 4) => "No server was found that takes mail for this address",
        (4, 6) => "The message went in circles",
        (4, 7) => "Delivery was tried for too long",
        (3 | 4, _) => "The receiving server or the network is in trouble",
        (5, _) => "The receiving server did not understand the conversation",
        (6, 7) => "The receiving server does not support this kind of address",
        (6, _) => "The receiving server cannot handle the content of the message",
        (7, _) => "The receiving server refuses the message by its rules",
        _ => "The receiving server gave no reason",
    }
}

/// The machine-readable part (RFC 3464, 2.1).
fn write_status(out: &mut Vec<u8>, notification: &Notification<'_>) {
    let date = |ms: i64| rfc5322_date(ZonedDate { ms, offset_minutes: 0 });
    write_field(out, "Reporting-MTA", &format!("dns; {}", notification.reporting_mta));
    if let Some(id) = notification.envelope_id {
        write_field(out, "Original-Envelope-Id", id);
    }
    write_field(out, "Arrival-Date", &date(notification.arrival_ms));
    for recipient in notification.recipients {
        out.extend_from_slice(b"\r\n");
        if let Some((kind, address)) = recipient.original_recipient.and_then(|text| text.split_once(';')) {
            write_field(out, "Original-Recipient", &typed_address(kind.trim(), address.trim()));
        }
        write_field(out, "Final-Recipient", &typed_address("rfc822", recipient.address));
        write_field(out, "Action", recipient.outcome.action());
        write_field(out, "Status", recipient.status);
        if let Some(host) = recipient.remote_mta {
            write_field(out, "Remote-MTA", &format!("dns; {host}"));
        }
        if let Some(diagnostic) = recipient.diagnostic {
            write_field(out, "Diagnostic-Code", &format!("smtp; {diagnostic}"));
        }
        if let Some(ms) = recipient.last_attempt_ms {
            write_field(out, "Last-Attempt-Date", &date(ms));
        }
        if let Outcome::Delayed { retry_until_ms } = recipient.outcome {
            write_field(out, "Will-Retry-Until", &date(retry_until_ms));
        }
    }
}

/// An address with its type. One that is not ASCII has the type utf-8 and is written in ASCII
/// (RFC 6533, 3: utf-8-addr-xtext).
fn typed_address(kind: &str, address: &str) -> String {
    if address.is_ascii() {
        return format!("{kind}; {address}");
    }
    let mut out = "utf-8; ".to_owned();
    for c in address.chars().filter(|c| !c.is_control()) {
        if c.is_ascii_graphic() && !matches!(c, '\\' | '+' | '=') {
            out.push(c);
        } else {
            out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
        }
    }
    out
}

/// Writes a field of words. Whatever is not printable ASCII becomes a question mark.
fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    let ascii: String = one_line(value, MAX_DIAGNOSTIC_CHARS)
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    let mut writer = FieldWriter::start(out, name);
    ascii.split(' ').for_each(|word| writer.word(word.get(..MAX_WORD_LEN.min(word.len())).unwrap_or("")));
    writer.finish();
}

/// Text on one line, runs of white space and control characters as single spaces, bounded.
fn one_line(text: &str, max_chars: usize) -> String {
    let bounded: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max_chars).collect();
    bounded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is returned of the message (RFC 3461, 4.3): when it could not be delivered all of it, if that
/// was asked for or it is small and nothing was; else its header (RFC 3462, 2; RFC 6533, 5 for
/// headers in UTF-8).
fn returned_part<'a>(notification: &Notification<'a>) -> (&'static str, Cow<'a, [u8]>, TransferEncoding) {
    let (header, _, _) = split_message(notification.original);
    let is_global = !header.is_ascii();
    let has_failure = notification.recipients.iter().any(|recipient| recipient.outcome.is_failure());
    let is_whole = match notification.ret {
        Some(DsnReturn::Full) => true,
        Some(DsnReturn::Headers) => false,
        None => notification.original.len() <= MAX_RETURNED_LEN,
    };
    if has_failure && is_whole {
        let (content, encoding) = encode_message(notification.original);
        if encoding.is_identity() {
            return (if is_global { "message/global" } else { "message/rfc822" }, content, encoding);
        }
    }
    let mut bounded = Vec::new();
    for field in fields(header) {
        if bounded.len() + field.raw.len() > MAX_RETURNED_LEN {
            break;
        }
        bounded.extend_from_slice(field.raw);
    }
    let content = normalize_line_ends(&bounded).into_owned();
    let encoding = encoding_of_text(&content);
    let media_type = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
    (media_type, Cow::Owned(content), encoding)
}

/// A boundary that begins no line of the parts.
fn free_boundary(random: u128, parts: &[&[u8]]) -> String {
    let is_free = |boundary: &String| {
        let line_start = format!("--{boundary}");
        !parts
            .iter()
            .any(|part| part.split(|byte| *byte == b'\n').any(|line| line.starts_with(line_start.as_bytes())))
    };
    let mut candidates = (0..16_u128).map(|attempt| format!("=_{:032x}", random.wrapping_add(attempt << 64)));
    // Nobody guesses sixteen numbers of random bits.
    candidates.find(is_free).unwrap_or_else(|| format!("=_{random:032x}."))
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};

    use super::*;
    use crate::mail::dsn_read::{Action, read_dsn};
    use crate::mail::encode_body::Survey;

    const ORIGINAL: &[u8] = b"From: alice@example.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <m1@example.test>\r\n\r\nHi\r\n";

    fn failed<'a>() -> RecipientStatus<'a> {
        RecipientStatus {
            address: "bob@remote.test",
            original_recipient: Some("rfc822;bobby@remote.test"),
            outcome: Outcome::Failed,
            status: "5.1.1",
            remote_mta: Some("mx.remote.test"),
            diagnostic: Some("550-5.1.1 No\r\n550 5.1.1 such user"),
            last_attempt_ms: Some(1_700_000_000_000),
        }
    }

    fn compose(recipients: &[RecipientStatus<'_>], original: &[u8]) -> Vec<u8> {
        compose_with(None, recipients, original)
    }

    fn compose_with(ret: Option<DsnReturn>, recipients: &[RecipientStatus<'_>], original: &[u8]) -> Vec<u8> {
        let notification = Notification {
            reporting_mta: "mail.example.test",
            from: "postmaster@example.test",
            to: "alice@example.test",
            envelope_id: Some("env-1"),
            arrival_ms: 1_699_900_000_000,
            recipients,
            ret,
            original,
        };
        let defaults =
            Defaults { now_ms: 1_700_000_000_000, message_id_domain: "example.test".into(), random: 9 };
        let raw = compose_dsn(&notification, &defaults);
        let survey = Survey::of(&raw);
        assert!(!survey.has_binary && survey.longest_line <= 998);
        raw
    }

    #[test]
    fn a_failure_is_told_to_people_and_programs() {
        let raw = compose(&[failed()], ORIGINAL);
        let text = std::str::from_utf8(&raw).unwrap();
        assert!(raw.is_ascii());
        let message = MessageParser::new().parse(&raw).unwrap();
        assert_eq!(message.subject(), Some("Not delivered: Grüße"));
        assert_eq!(message.content_type().unwrap().attribute("report-type"), Some("delivery-status"));
        let words = message.body_text(0).unwrap();
        for wanted in [
            "bob@remote.test",
            "There is no mailbox of this name",
            "mx.remote.test said: 550-5.1.1 No 550 5.1.1 such user",
            "Grüße",
        ] {
            assert!(words.contains(wanted), "{words}");
        }
        assert!(
            text.contains(
                "Content-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; mail.example.test\r\nOriginal-Envelope-Id: env-1\r\n\
             Arrival-Date: Mon, 13 Nov 2023 18:26:40 +0000\r\n\r\n\
             Original-Recipient: rfc822; bobby@remote.test\r\nFinal-Recipient: rfc822; bob@remote.test\r\n\
             Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.remote.test\r\n\
             Diagnostic-Code: smtp; 550-5.1.1 No 550 5.1.1 such user\r\n\
             Last-Attempt-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
            ),
            "{text}"
        );
        assert!(text.contains("Content-Type: message/rfc822\r\n\r\nFrom: alice"), "{text}");
        assert!(text.contains("\r\nIn-Reply-To: <m1@example.test>\r\n"));
    }

    #[test]
    fn delays_and_failures_in_one_notification() {
        let delayed = RecipientStatus {
            address: "carl@slow.test",
            outcome: Outcome::Delayed { retry_until_ms: 1_700_400_000_000 },
            status: "4.4.1",
            ..failed()
        };
        let expired =
            RecipientStatus { outcome: Outcome::Expired, status: "4.4.7", diagnostic: None, ..failed() };
        let raw = compose(&[delayed.clone(), expired], ORIGINAL);
        let text = String::from_utf8_lossy(&raw);
        assert!(
            text.contains("Action: delayed\r\nStatus: 4.4.1\r\n")
                && text.contains("Will-Retry-Until: Sun, 19 Nov 2023")
        );
        assert!(text.contains("has not been delivered yet to:") && text.contains("tried for several days"));
        let raw = compose(&[delayed], ORIGINAL);
        let text = String::from_utf8_lossy(&raw);
        assert!(text.contains("Delayed: ") || text.contains("Subject: =?utf-8?"));
        assert!(text.contains("Content-Type: text/rfc822-headers\r\n") && !text.contains("\r\n\r\nHi\r\n"));
    }

    #[test]
    fn what_was_asked_for_is_returned() {
        let large = [ORIGINAL, &b"line\r\n".repeat(MAX_RETURNED_LEN / 6)].concat();
        let text = |ret, told, original: &[u8]| {
            String::from_utf8_lossy(&compose_with(ret, &[told], original)).into_owned()
        };
        let (full, headers) = (Some(DsnReturn::Full), Some(DsnReturn::Headers));
        assert!(text(full, failed(), &large).contains("\r\nHi\r\nline\r\nline\r\n"));
        assert!(!text(headers, failed(), ORIGINAL).contains("\r\nHi\r\n"));
        assert!(text(headers, failed(), ORIGINAL).contains("Content-Type: text/rfc822-headers\r\n"));
        let arrived = RecipientStatus { outcome: Outcome::Delivered, status: "2.1.5", ..failed() };
        assert!(!text(full, arrived, ORIGINAL).contains("\r\nHi\r\n"), "nothing failed");
    }

    #[test]
    fn success_is_told() {
        let arrived = RecipientStatus {
            outcome: Outcome::Delivered,
            status: "2.1.5",
            remote_mta: None,
            diagnostic: None,
            ..failed()
        };
        let relayed = RecipientStatus {
            address: "carl@far.test",
            outcome: Outcome::Relayed,
            status: "2.0.0",
            diagnostic: Some("250 2.0.0 taken"),
            ..failed()
        };
        let raw = compose(&[arrived.clone(), relayed], ORIGINAL);
        let message = MessageParser::new().parse(&raw).unwrap();
        assert_eq!(message.subject(), Some("Delivered: Grüße"));
        let words = message.body_text(0).unwrap();
        for wanted in ["was delivered to:", "bob@remote.test", "handed on to the server of:", "carl@far.test"]
        {
            assert!(words.contains(wanted), "{words}");
        }
        assert!(!words.contains("could not") && !words.contains("refuses"), "{words}");
        let read = read_dsn(&raw).unwrap();
        let actions: Vec<Action> = read.recipients.iter().map(|recipient| recipient.action).collect();
        assert_eq!(actions, [Action::Delivered, Action::Relayed]);
        let mixed = compose(&[arrived, failed()], ORIGINAL);
        assert_eq!(MessageParser::new().parse(&mixed).unwrap().subject(), Some("Not delivered: Grüße"));
    }

    #[test]
    fn large_and_unusual_messages_are_returned_as_headers() {
        let large = [ORIGINAL, &vec![b'x'; MAX_RETURNED_LEN]].concat();
        assert!(String::from_utf8_lossy(&compose(&[failed()], &large)).contains("text/rfc822-headers"));
        let global = "Subject: ü\r\n\r\nHi".as_bytes();
        assert!(
            String::from_utf8_lossy(&compose(&[failed()], global))
                .contains("Content-Type: message/global\r\n")
        );
        let headers = "X: y\r\n".repeat(200_000);
        assert!(compose(&[failed()], headers.as_bytes()).len() < 3 * MAX_RETURNED_LEN);
        let long = format!("X: {}\r\n\r\n", "y".repeat(5000));
        compose(&[failed()], long.as_bytes());
        compose(&[failed()], b"\0\xff");
    }

    #[test]
    fn hostile_answers_stay_in_their_field() {
        let hostile = format!("550 \r\n\r\nFinal-Recipient: rfc822; x@y\u{0}ü{}", "z".repeat(5000));
        let raw = compose(
            &[RecipientStatus { diagnostic: Some(&hostile), status: "5.0.0\r\nX: y", ..failed() }],
            ORIGINAL,
        );
        let read = read_dsn(&raw).unwrap();
        assert_eq!(read.recipients.len(), 1);
        assert_eq!(read.recipients[0].address, "bob@remote.test");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let global = RecipientStatus { address: "jörg+x@remote.test", original_recipient: None, ..failed() };
        let read = read_dsn(&compose(&[failed(), global], ORIGINAL)).unwrap();
        assert_eq!(read.envelope_id.as_deref(), Some("env-1"));
        assert_eq!(read.message_id.as_deref(), Some("m1@example.test"));
        assert_eq!(read.recipients[0].original_address.as_deref(), Some("bobby@remote.test"));
        assert_eq!(read.recipients[1].address, "jörg+x@remote.test");
        assert_eq!(read.recipients[1].action, Action::Failed);
        assert_eq!(read.recipients[1].status, "5.1.1");
    }

    #[test]
    fn a_boundary_in_the_message_is_avoided() {
        let hostile = format!("A: b\r\n\r\n--=_{:032x}--\r\n", 9);
        let raw = compose(&[failed()], hostile.as_bytes());
        assert!(
            String::from_utf8_lossy(&raw).contains(&format!("boundary=\"=_{:032x}\"", 9_u128 + (1 << 64)))
        );
    }
}
