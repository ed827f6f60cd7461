//! All that the store keeps of a message, read in one go at ingest.

use std::collections::HashSet;

use crate::mail::body;
use crate::mail::body_lists::{BodyLists, body_lists};
use crate::mail::fields::{start_of_list, unfolded};
use crate::mail::headers::addresses::{EmailAddress, as_addresses};
use crate::mail::headers::date::{SentDate, as_date};
use crate::mail::headers::message_ids::as_message_ids;
use crate::mail::headers::text::as_text;
use crate::mail::parameters::decode_percent;
use crate::mail::preview::preview;
use crate::mail::scan::scan;
use crate::mail::structure::{Part, Structure};
use crate::mail::thread::ThreadKeys;

/// Encoded octets of HTML in which links to images are looked for.
const MAX_HTML_OCTETS: usize = 4 << 20;

/// A message read. Fields that are absent are `None`; of those that stand there twice the last
/// counts (RFC 8621, 4.1.3).
#[derive(Clone, PartialEq, Debug)]
pub struct Parsed {
    /// Octets of the message.
    pub size: u64,
    /// Its parts.
    pub structure: Structure,
    /// textBody, htmlBody, attachments.
    pub lists: BodyLists,
    /// The convenience header properties (RFC 8621, 4.1.3).
    pub headers: ConvenienceHeaders,
    /// At most 256 characters.
    pub preview: String,
    /// Whether a client should show that there is something to download.
    pub has_attachment: bool,
    /// What ties it to a thread.
    pub thread_keys: ThreadKeys,
}

/// The header properties that lists show.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConvenienceHeaders {
    /// Message-ID.
    pub message_id: Option<Vec<String>>,
    /// In-Reply-To.
    pub in_reply_to: Option<Vec<String>>,
    /// References.
    pub references: Option<Vec<String>>,
    /// Sender.
    pub sender: Option<Vec<EmailAddress>>,
    /// From.
    pub from: Option<Vec<EmailAddress>>,
    /// To.
    pub to: Option<Vec<EmailAddress>>,
    /// Cc.
    pub cc: Option<Vec<EmailAddress>>,
    /// Bcc.
    pub bcc: Option<Vec<EmailAddress>>,
    /// Reply-To.
    pub reply_to: Option<Vec<EmailAddress>>,
    /// Subject.
    pub subject: Option<String>,
    /// Date.
    pub sent_at: Option<SentDate>,
}

/// The last instance of each field that a convenience property is made from.
#[derive(Default)]
struct LastValues<'a> {
    values: [Option<&'a [u8]>; 11],
}

const NAMES: [&str; 11] = [
    "message-id",
    "in-reply-to",
    "references",
    "sender",
    "from",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
];

/// Reads a message. Any octets are one.
pub fn parse(raw: &[u8]) -> Parsed {
    let structure = scan(raw);
    let lists = body_lists(&structure);
    let mut last = LastValues::default();
    for field in structure.header_fields(raw) {
        if let Some(place) = NAMES.iter().position(|name| field.is(name)) {
            last.values[place] = Some(field.value);
        }
    }
    let headers = last.convenience_headers();
    Parsed {
        size: raw.len() as u64,
        preview: preview(raw, &structure, &lists),
        has_attachment: has_attachment(raw, &structure, &lists),
        thread_keys: last.thread_keys(&headers),
        structure,
        lists,
        headers,
    }
}

impl LastValues<'_> {
    fn convenience_headers(&self) -> ConvenienceHeaders {
        let [message_id, in_reply_to, references, sender, from, to, cc, bcc, reply_to, subject, date] =
            self.values;
        ConvenienceHeaders {
            message_id: message_id.and_then(as_message_ids),
            in_reply_to: in_reply_to.and_then(as_message_ids),
            references: references.and_then(as_message_ids),
            sender: sender.map(as_addresses),
            from: from.map(as_addresses),
            to: to.map(as_addresses),
            cc: cc.map(as_addresses),
            bcc: bcc.map(as_addresses),
            reply_to: reply_to.map(as_addresses),
            subject: subject.map(start_of_list).map(as_text),
            sent_at: date.and_then(as_date),
        }
    }

    fn thread_keys(&self, headers: &ConvenienceHeaders) -> ThreadKeys {
        // Ids without angle brackets are no ids, but they are the same text in answers.
        let [message_id, in_reply_to, references, ..] = self.values;
        let ids = |read: &Option<Vec<String>>, value: Option<&[u8]>| match (read, value) {
            (Some(ids), _) => ids.clone(),
            (None, Some(value)) => {
                let text = unfolded(start_of_list(value));
                text.split_whitespace().filter(|word| word.contains('@')).map(str::to_owned).collect()
            }
            (None, None) => Vec::new(),
        };
        let own = ids(&headers.message_id, message_id);
        let answered = ids(&headers.in_reply_to, in_reply_to);
        let earlier = ids(&headers.references, references);
        ThreadKeys::new(
            headers.subject.as_deref().unwrap_or_default(),
            own.iter().map(String::as_str),
            answered.iter().map(String::as_str),
            earlier.iter().map(String::as_str),
        )
    }
}

/// RFC 8621, 4.1.4: some attachment that is not shown inline. Images to which the HTML links are
/// not counted, whatever their disposition, nor are signatures.
fn has_attachment(raw: &[u8], structure: &Structure, lists: &BodyLists) -> bool {
    let parts = || lists.attachments.iter().filter_map(|index| structure.parts.get(*index));
    let is_automatic = |media_type: &str| {
        matches!(
            media_type,
            "application/pgp-signature" | "application/pkcs7-signature" | "application/x-pkcs7-signature"
        )
    };
    let is_offered =
        |part: &&Part| part.disposition.as_deref() != Some("inline") && !is_automatic(&part.media_type);
    if parts().filter(is_offered).any(|part| part.cid.is_none()) {
        return true;
    }
    if !parts().any(|part| is_offered(&part)) {
        return false;
    }
    let linked = linked_cids(raw, structure, lists);
    parts().filter(is_offered).any(|part| part.cid.as_ref().is_none_or(|cid| !linked.contains(cid)))
}

/// The ids that stand after `cid:` in the HTML of the message.
fn linked_cids(raw: &[u8], structure: &Structure, lists: &BodyLists) -> HashSet<String> {
    let mut linked = HashSet::new();
    let mut left = MAX_HTML_OCTETS;
    for part in lists.html.iter().filter_map(|index| structure.parts.get(*index)) {
        if part.media_type != "text/html" {
            continue;
        }
        let html = body::text_start(raw, part, left).text;
        left = left.saturating_sub(html.len());
        for after in html.split("cid:").skip(1) {
            let end = after.find(|c: char| c.is_whitespace() || "\"'<>()".contains(c)).unwrap_or(after.len());
            let mut cid = Vec::new();
            decode_percent(&after.as_bytes()[..end], &mut cid);
            linked.insert(String::from_utf8_lossy(&cid).into_owned());
        }
    }
    linked
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::mail::headers::Form;
    use crate::mail::scan::{MAX_DEPTH, MAX_PARTS};
    use crate::mail::text::search_text;
    use crate::mail::transfer;
    use crate::types::blob_id::{BlobHash, BlobId};

    const MESSAGE: &str = "\
From: =?utf-8?q?J=C3=A4ne?= <jane@example.com>\r
To: Friends: a@x, b@y;\r
Cc: old@x\r
Cc: new@x\r
Subject: Re: =?utf-8?b?w6k=?= [1]\r
Message-ID: <own@x>\r
In-Reply-To: <first@x>\r
References: <zero@x> <first@x>\r
Date: Thu, 30 Oct 2014 14:12:00 +0800\r
Content-Type: multipart/related; boundary=\"=_a:1\"\r
\r
--=_a:1\r
Content-Type: text/html; charset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
\r
<p>Hello =E2=82=AC</p><img src=3D\"cid:pic%40x\">\r
--=_a:1\r
Content-Type: image/png\r
Content-ID: <pic@x>\r
Content-Transfer-Encoding: base64\r
\r
iVBORw==\r
--=_a:1--\r
";

    /// Everything that is ever derived from a message.
    fn derive_all(raw: &[u8]) -> Parsed {
        let parsed = parse(raw);
        search_text(raw, &parsed.structure);
        let message = BlobId::whole(BlobHash::of(raw));
        for part in &parsed.structure.parts {
            for (offset, length) in [part.header, part.body] {
                assert!(offset + length <= raw.len() as u64, "a range leaves the message");
            }
            body::value(raw, part, 100);
            if let Some(id) = part.blob_id(&message) {
                let octets = transfer::cut(&id, raw).expect("the id of a part names octets");
                assert_eq!(octets.len() as u64, part.size);
            }
            for field in part.header_fields(raw) {
                for form in [
                    Form::Raw,
                    Form::Text,
                    Form::Addresses,
                    Form::GroupedAddresses,
                    Form::MessageIds,
                    Form::Date,
                    Form::Urls,
                ] {
                    assert!(!form.read(field.value).to_string().contains("\\u0000"));
                }
            }
        }
        let mut listed = [&parsed.lists.text[..], &parsed.lists.html, &parsed.lists.attachments].concat();
        listed.sort_unstable();
        listed.dedup();
        let is_leaf = |index: &usize| !parsed.structure.parts[*index].is_multipart();
        let leaves: Vec<usize> = (0..parsed.structure.parts.len()).filter(is_leaf).collect();
        assert_eq!(listed, leaves, "each leaf is in some list");
        assert_eq!(Structure::from_json(&parsed.structure.to_json()).ok(), Some(parsed.structure.clone()));
        assert!(parsed.preview.chars().count() <= 256 && !parsed.preview.contains('\0'));
        parsed
    }

    #[test]
    fn a_message_is_read() {
        let parsed = derive_all(MESSAGE.as_bytes());
        let headers = &parsed.headers;
        let emails = |list: &Option<Vec<EmailAddress>>| -> Vec<String> {
            list.iter().flatten().map(|address| address.email.clone()).collect()
        };
        assert_eq!(emails(&headers.from), ["jane@example.com"]);
        assert_eq!(emails(&headers.to), ["a@x", "b@y"]);
        assert_eq!(emails(&headers.cc), ["new@x"], "the last instance counts");
        assert_eq!(headers.bcc, None);
        assert_eq!(headers.subject.as_deref(), Some("Re: é [1]"));
        assert_eq!(headers.references, Some(vec!["zero@x".to_owned(), "first@x".to_owned()]));
        let sent_at = headers.sent_at.as_ref().map(|date| (date.text.as_str(), date.ms));
        assert_eq!(sent_at, Some(("2014-10-30T14:12:00+08:00", 1_414_649_520_000)));
        assert_eq!(parsed.preview, "Hello €");
        assert!(!parsed.has_attachment, "the picture is shown by the HTML");
        assert_eq!(parsed.thread_keys.message_id_hashes.len(), 3);
    }

    #[test]
    fn attachments_are_told_from_what_is_shown() {
        let has_attachment =
            |from: &str, to: &str| parse(MESSAGE.replace(from, to).as_bytes()).has_attachment;
        assert!(has_attachment("cid:pic", "cid:other"));
        assert!(has_attachment("Content-ID: <pic@x>", "X: y"));
        assert!(!has_attachment("Content-ID: <pic@x>", "Content-Disposition: inline"));
        assert!(has_attachment("Content-ID: <pic@x>", "Content-Disposition: attachment"));
    }

    /// Time that no hostile message may take, even unoptimised and on a busy machine; quadratic
    /// work would take hours.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn hostile_messages_take_linear_time_and_lose_nothing() {
        let nested: String = (0..1_000)
            .map(|depth| format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n"))
            .collect();
        let nested = format!("{nested}\r\nthe innermost text\r\n");
        let many_headers = format!("{}\r\nbody", "X: y\r\n".repeat(100_000));
        let many_parts = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b\r\n\r\nthe last\r\n--b--",
            "--b\r\n\r\nx\r\n".repeat(100_000)
        );
        let encapsulated = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
        let unfinished = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(1_000);
        let encoded_words = format!("Subject: {}\r\n\r\n", "=?aa?q?".repeat(50_000));
        let parameters = format!("Content-Type: a/b{}\r\n\r\n", "; n*1*=x".repeat(50_000));
        let hyphens = format!("{nested}{}", "--b\r\n".repeat(100_000));
        for raw in [
            &nested,
            &many_headers,
            &many_parts,
            &encapsulated,
            &unfinished,
            &encoded_words,
            &parameters,
            &hyphens,
        ] {
            let start = Instant::now();
            let parsed = derive_all(raw.as_bytes());
            assert!(start.elapsed() < PATIENCE, "{:?} for {:.60}", start.elapsed(), raw);
            assert!(parsed.structure.parts.len() <= MAX_PARTS);
        }
        let holds_last = |raw: &str, text: &str| {
            let parsed = parse(raw.as_bytes());
            let last =
                parsed.structure.parts.last().map(|part| body::octets(raw.as_bytes(), part).into_owned());
            last.is_some_and(|octets| String::from_utf8_lossy(&octets).contains(text))
        };
        assert_eq!(parse(nested.as_bytes()).structure.parts.len(), MAX_DEPTH + 1);
        assert!(holds_last(&nested, "the innermost text"));
        assert!(holds_last(&many_parts, "the last"));
    }

    proptest! {
        #[test]
        fn any_octets_are_a_message(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            derive_all(&raw);
        }

        #[test]
        fn any_change_of_a_message_is_a_message(
            changes in proptest::collection::vec((0..MESSAGE.len(), any::<u8>()), 0..8),
            cut in 0..MESSAGE.len(),
            copied in (0..MESSAGE.len(), 0usize..200, 0..MESSAGE.len()),
        ) {
            let mut raw = MESSAGE.as_bytes().to_vec();
            for (at, octet) in changes {
                raw[at] = octet;
            }
            let (from, length, to) = copied;
            let piece = raw[from..(from + length).min(raw.len())].to_vec();
            raw.splice(to..to, piece);
            derive_all(&raw);
            raw.truncate(cut);
            derive_all(&raw);
        }

        #[test]
        fn any_lines_are_a_message(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("--a"), Just("--a--"), Just("--b"), Just("--b--"), Just(""), Just("text"), Just(" fold"),
                    Just("Content-Type: multipart/mixed; boundary=a"),
                    Just("Content-Type: multipart/alternative; boundary=b"),
                    Just("Content-Type: multipart/digest; boundary=a"),
                    Just("Content-Type: text/html; charset=utf-16"),
                    Just("Content-Type: message/rfc822"),
                    Just("Content-Transfer-Encoding: base64"),
                    Just("Content-Disposition: attachment; filename=x"),
                ],
                0..40,
            ),
            end in prop_oneof![Just("\r\n"), Just("\n")],
        ) {
            derive_all(lines.join(end).as_bytes());
        }
    }

    #[test]
    fn a_field_of_nothing_but_addresses_takes_little() {
        let many = "a,".repeat(5_000_000);
        let ids = "<a@b>".repeat(2_000_000);
        let parsed = parse(format!("To: {many}\r\nReferences: {ids}\r\nSubject: {many}\r\n\r\n").as_bytes());
        let headers = &parsed.headers;
        assert!((1_000..=200_000).contains(&headers.to.as_ref().unwrap().len()));
        assert!((1_000..=200_000).contains(&headers.references.as_ref().unwrap().len()));
        assert!(headers.subject.as_ref().unwrap().len() <= 256 * 1024);
    }
}
