//! What mail programs note in header fields: flags in mbox files, labels in Gmail's exports.

use mail_parser::MessageParser;

use crate::cli::import::headers::Field;

/// Fields that a program which keeps mail writes into it and changes later; no part of the message.
pub fn is_bookkeeping(name: &str) -> bool {
    matches!(
        name,
        "status"
            | "x-status"
            | "x-keywords"
            | "x-uid"
            | "x-imap"
            | "x-imapbase"
            | "content-length"
            | "x-mozilla-status"
            | "x-mozilla-status2"
            | "x-mozilla-keys"
            | "x-gmail-labels"
            | "x-gm-thrid"
    )
}

/// Labels of a message that are looked at.
const MAX_LABELS: usize = 200;

/// `X-Mozilla-Status`: the message was deleted and waits for the file to be compacted.
const MOZILLA_EXPUNGED: u32 = 0x0008;

/// Whether the program that kept the file has deleted the message, or put it there for itself.
pub fn is_no_mail(fields: &[Field]) -> bool {
    let is_internal = fields.iter().any(|field| field.name == "x-imap")
        && fields.iter().any(|field| field.name == "subject" && field.value.contains("FOLDER INTERNAL DATA"));
    is_internal || mozilla_status(fields) & MOZILLA_EXPUNGED != 0
}

fn mozilla_status(fields: &[Field]) -> u32 {
    let status = fields.iter().find(|field| field.name == "x-mozilla-status");
    status.and_then(|field| u32::from_str_radix(&field.value, 16).ok()).unwrap_or(0)
}

/// Adds the keywords that stand in `Status`, `X-Status`, `X-Keywords` and Mozilla's fields.
pub fn apply_status_fields(fields: &[Field], keywords: &mut Vec<String>) {
    for field in fields {
        match field.name.as_str() {
            "status" | "x-status" => keywords.extend(field.value.chars().filter_map(|flag| {
                let keyword = match flag {
                    'R' => "$seen",
                    'A' => "$answered",
                    'F' => "$flagged",
                    'T' => "$draft",
                    _ => return None,
                };
                Some(keyword.to_owned())
            })),
            "x-keywords" => keywords.extend(
                field.value.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(str::to_owned),
            ),
            "x-mozilla-keys" => keywords.extend(field.value.split_whitespace().map(str::to_owned)),
            _ => {}
        }
    }
    let status = mozilla_status(fields);
    for (bit, keyword) in
        [(0x0001, "$seen"), (0x0002, "$answered"), (0x0004, "$flagged"), (0x1000, "$forwarded")]
    {
        if status & bit != 0 {
            keywords.push(keyword.to_owned());
        }
    }
}

/// The mailboxes of a message of Gmail's export; adds its keywords. `None` when it is none: the
/// export writes its two fields before all others, and a sender must not choose mailboxes.
pub fn of_gmail(fields: &[Field], keywords: &mut Vec<String>) -> Option<Vec<Vec<String>>> {
    let mut first = fields.iter();
    let labels = match (first.next(), first.next()) {
        (Some(thread), Some(labels)) if thread.name == "x-gm-thrid" && labels.name == "x-gmail-labels" => {
            labels
        }
        _ => return None,
    };
    let mut mailboxes = Vec::new();
    let mut is_unread = false;
    for label in split_labels(&decode(&labels.value)) {
        let mailbox = match label.as_str() {
            "Unread" => {
                is_unread = true;
                continue;
            }
            "Starred" => {
                keywords.push("$flagged".to_owned());
                continue;
            }
            "Important" => {
                keywords.push("$important".to_owned());
                continue;
            }
            "Draft" | "Drafts" => {
                keywords.push("$draft".to_owned());
                vec!["Drafts".to_owned()]
            }
            "Spam" => vec!["Junk".to_owned()],
            "Opened" | "Archived" => continue,
            category if category.starts_with("Category ") || category.starts_with("IMAP_") => continue,
            name => name.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        };
        if !mailbox.is_empty() && !mailboxes.contains(&mailbox) {
            mailboxes.push(mailbox);
        }
    }
    if !is_unread {
        keywords.push("$seen".to_owned());
    }
    if mailboxes.is_empty() {
        mailboxes.push(vec!["Archive".to_owned()]);
    }
    Some(mailboxes)
}

/// Undoes the encoding of words (RFC 2047).
fn decode(value: &str) -> String {
    let field = format!("Subject: {value}\r\n\r\n");
    let decoded = MessageParser::new().parse_headers(field.as_bytes());
    decoded.as_ref().and_then(|message| message.subject()).unwrap_or(value).to_owned()
}

/// Splits at commas; a label with a comma stands in quotes.
fn split_labels(value: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut label = String::new();
    let mut is_quoted = false;
    for c in value.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => labels.push(std::mem::take(&mut label)),
            c => label.push(c),
        }
    }
    labels.push(label);
    labels.truncate(MAX_LABELS);
    labels.iter().map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::headers::fields;

    fn gmail(labels: &str) -> Option<(Vec<String>, Vec<String>)> {
        let raw = format!("X-GM-THRID: 1\r\nX-Gmail-Labels: {labels}\r\nSubject: x\r\n\r\n");
        let mut keywords = Vec::new();
        let mailboxes = of_gmail(&fields(raw.as_bytes()), &mut keywords)?;
        Some((mailboxes.iter().map(|path| path.join("|")).collect(), keywords))
    }

    #[test]
    fn status_fields_are_keywords() {
        let raw = b"Status: RO\r\nX-Status: AF\r\nX-Keywords: NonJunk $Label1\r\nX-Mozilla-Status: 1001\r\n\
                    X-Mozilla-Keys: work\r\n\r\n";
        let mut keywords = Vec::new();
        apply_status_fields(&fields(raw), &mut keywords);
        assert_eq!(
            keywords,
            ["$seen", "$answered", "$flagged", "NonJunk", "$Label1", "work", "$seen", "$forwarded"]
        );
    }

    #[test]
    fn labels_are_mailboxes_and_keywords() {
        let (mailboxes, keywords) =
            gmail("Inbox,Unread,Starred,Work/Old,\"a, b\",Category Updates").expect("labels");
        assert_eq!(mailboxes, ["Inbox", "Work|Old", "a, b"]);
        assert_eq!(keywords, ["$flagged"]);
        assert_eq!(gmail("Archived,Opened"), Some((vec!["Archive".into()], vec!["$seen".into()])));
        assert_eq!(gmail("=?UTF-8?Q?R=C3=A4tsel?="), Some((vec!["Rätsel".into()], vec!["$seen".into()])));
        assert_eq!(gmail("Spam").map(|(mailboxes, _)| mailboxes), Some(vec!["Junk".into()]));
    }

    #[test]
    fn a_sender_cannot_choose_labels() {
        let raw = b"Received: x\r\nX-GM-THRID: 1\r\nX-Gmail-Labels: Sent\r\n\r\n";
        assert_eq!(of_gmail(&fields(raw), &mut Vec::new()), None);
    }

    #[test]
    fn deleted_messages_and_internal_data_are_no_mail() {
        assert!(is_no_mail(&fields(b"X-Mozilla-Status: 0009\r\n\r\n")));
        assert!(is_no_mail(&fields(
            b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r\nX-IMAP: 1 2\r\n\r\n"
        )));
        assert!(!is_no_mail(&fields(b"X-Mozilla-Status: 0001\r\nSubject: FOLDER INTERNAL DATA\r\n\r\n")));
    }
}
