//! The mail of the demo: who has it, where it lies, how old it is.

use bytes::Bytes;
use mail_parser::DateTime;

use crate::admin::request::ImportItem;
use crate::cli::import::message::{ImportedMessage, Known, with_crlf};

/// Whose mailbox a message is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Alice,
    Bob,
}

/// A message of the demo without its `Date` field.
struct DemoMail {
    text: &'static [u8],
    /// Minutes before the demo was first started.
    age_min: i64,
    /// Where it lies: owner, mailbox, keywords.
    copies: &'static [(Owner, &'static str, &'static [&'static str])],
}

use Owner::{Alice, Bob};

const SEEN: &[&str] = &["$seen"];
const NEW: &[&str] = &[];

/// Oldest first.
const MAIL: &[DemoMail] = &[
    DemoMail {
        text: include_bytes!("gazette.eml"),
        age_min: 6 * 1440 + 95,
        copies: &[(Alice, "Newsletters", SEEN)],
    },
    DemoMail {
        text: include_bytes!("invoice.eml"),
        age_min: 4 * 1440 + 220,
        copies: &[(Alice, "Inbox", &["$seen", "$flagged"])],
    },
    DemoMail {
        text: include_bytes!("crane-1.eml"),
        age_min: 3 * 1440 + 400,
        copies: &[(Alice, "Inbox", SEEN), (Bob, "Inbox", &["$seen", "$answered"])],
    },
    DemoMail {
        text: include_bytes!("crane-2.eml"),
        age_min: 3 * 1440 + 310,
        copies: &[(Alice, "Inbox", SEEN), (Bob, "Sent", SEEN)],
    },
    DemoMail {
        text: include_bytes!("tokyo.eml"),
        age_min: 2 * 1440 + 600,
        copies: &[(Alice, "Inbox", SEEN)],
    },
    DemoMail {
        text: include_bytes!("picnic-1.eml"),
        age_min: 1440 + 180,
        copies: &[(Alice, "Inbox", &["$seen", "$answered"]), (Bob, "Sent", SEEN)],
    },
    DemoMail {
        text: include_bytes!("picnic-2.eml"),
        age_min: 1440 + 90,
        copies: &[(Alice, "Sent", SEEN), (Bob, "Inbox", &["$seen", "$answered"])],
    },
    DemoMail {
        text: include_bytes!("picnic-3.eml"),
        age_min: 1440 + 75,
        copies: &[(Alice, "Inbox", NEW), (Bob, "Sent", SEEN)],
    },
    DemoMail {
        text: include_bytes!("meeting.eml"),
        age_min: 500,
        copies: &[(Alice, "Inbox", NEW), (Bob, "Inbox", NEW)],
    },
    DemoMail { text: include_bytes!("parcel.eml"), age_min: 130, copies: &[(Alice, "Inbox", NEW)] },
    DemoMail { text: include_bytes!("welcome.eml"), age_min: 2, copies: &[(Alice, "Inbox", NEW)] },
];

/// The messages of an owner as they are at a time, in the form in which mail is imported.
pub fn mail_of(owner: Owner, now_ms: i64) -> Vec<ImportItem> {
    let copies = MAIL.iter().flat_map(|mail| mail.copies.iter().map(move |copy| (mail, copy)));
    copies
        .filter(|(_, (of, ..))| *of == owner)
        .filter_map(|(mail, (_, mailbox, keywords))| {
            let sent_at_ms = now_ms - mail.age_min * 60_000;
            let date = DateTime::from_timestamp(sent_at_ms.div_euclid(1000)).to_rfc822();
            let raw = with_crlf([format!("Date: {date}\n").as_bytes(), mail.text].concat());
            let known = Known {
                mailbox: vec![(*mailbox).to_owned()],
                keywords: keywords.iter().map(|keyword| (*keyword).to_owned()).collect(),
                file_ms: sent_at_ms,
                ..Known::default()
            };
            let message = ImportedMessage::assemble(raw, known, String::new()).ok()?;
            Some(ImportItem {
                key: message.key(),
                mailboxes: message.mailboxes,
                keywords: message.keywords,
                received_at_ms: message.received_at_ms,
                size: message.raw.len() as u64,
                raw: Bytes::from(message.raw),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_whole_and_dated() {
        let now_ms = 1_767_225_600_000;
        let (alice, bob) = (mail_of(Alice, now_ms), mail_of(Bob, now_ms));
        assert_eq!((alice.len(), bob.len()), (11, 6));
        for item in alice.iter().chain(&bob) {
            let message = mail_parser::MessageParser::new().parse(&item.raw[..]).expect("a message");
            assert!(
                message.from().is_some() && message.subject().is_some() && message.message_id().is_some()
            );
            let date = message.date().expect("a date").to_timestamp() * 1000;
            assert_eq!(date, item.received_at_ms);
            assert!(date < now_ms && date > now_ms - 7 * 86_400_000);
        }
        let has = |test: &dyn Fn(&mail_parser::Message<'_>) -> bool| {
            alice
                .iter()
                .any(|item| mail_parser::MessageParser::new().parse(&item.raw[..]).is_some_and(|m| test(&m)))
        };
        assert!(has(&|message| message.subject().is_some_and(|subject| subject.contains("東京"))));
        assert!(has(&|message| message.attachments().any(|part| part.contents().starts_with(b"%PDF"))));
        assert!(has(&|message| message.html_body_count() > 0));
    }
}
