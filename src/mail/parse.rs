//! All that the store keeps of a message, read in one go at ingest.

use std::collections::HashSet;

use crate::mail::body;
use crate::mail::body_lists::{BodyLists, body_lists};
use crate::mail::fields::unfolded;
use crate::mail::headers::addresses::{EmailAddress, as_addresses};
use crate::mail::headers::date::{SentDate, as_date};
use crate::mail::headers::message_ids::as_message_ids;
use crate::mail::headers::text::as_text;
use crate::mail::parameters::decode_percent;
use crate::mail::preview::preview;
use crate::mail::scan::scan;
use crate::mail::structure::Structure;
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
            subject: subject.map(as_text),
            sent_at: date.and_then(as_date),
        }
    }

    fn thread_keys(&self, headers: &ConvenienceHeaders) -> ThreadKeys {
        // Ids without angle brackets are no ids, but they are the same text in answers.
        let [message_id, in_reply_to, references, ..] = self.values;
        let ids = |read: &Option<Vec<String>>, value: Option<&[u8]>| match (read, value) {
            (Some(ids), _) => ids.clone(),
            (None, Some(value)) => {
                let text = unfolded(value);
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
    let is_offered = |part: &&crate::mail::structure::Part| {
        part.disposition.as_deref() != Some("inline") && !is_automatic(&part.media_type)
    };
    if parts().filter(is_offered).any(|part| part.cid.is_none()) {
        return true;
    }
    if parts().filter(is_offered).next().is_none() {
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
