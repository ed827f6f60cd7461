//! What is done to a message that a user submits (RFC 6409, 8): the author is checked, a missing
//! Date and Message-ID are added, Bcc is removed, line ends are made CRLF. Nothing else is touched.

use mail_parser::{DateTime, MessageParser};

use crate::mail::reencode::normalize_line_ends;
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::types::address::Address;
use crate::types::id::{AccountId, Id};

/// Why a message cannot be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSubmittable {
    /// Not exactly one From field, or no address in it.
    From,
    /// From names an address that is not the login's.
    ForeignAuthor,
}

impl NotSubmittable {
    /// What to tell the client.
    pub fn reply(self) -> Reply {
        match self {
            NotSubmittable::From => {
                Reply::new(554, EnhancedCode(5, 6, 0), "The message needs one From field with an address")
            }
            NotSubmittable::ForeignAuthor => {
                Reply::new(550, EnhancedCode(5, 7, 1), "The address in From is not yours")
            }
        }
    }
}

/// The account to which an address, or what it is without its plus-address tag, belongs.
pub fn owner(address: &Address, own: &[(Address, AccountId)]) -> Option<AccountId> {
    let find =
        |wanted: &Address| own.iter().find(|(address, _)| address == wanted).map(|(_, account)| *account);
    find(address).or_else(|| find(&address.without_tag()?))
}

/// The message as it goes out, below its trace fields.
pub fn prepare(
    message: &[u8],
    own: &[(Address, AccountId)],
    id: Id,
    host_name: &str,
    now_ms: i64,
) -> Result<Vec<u8>, NotSubmittable> {
    // Before anything is looked at: a lone CR or LF, which only BDAT can bring, would hide a field from
    // the checks below and show it to the next server.
    let message = normalize_line_ends(message);
    let mut rest: &[u8] = &message;
    let (mut header, mut from, mut has_date, mut has_id) = (Vec::new(), None, false, false);
    while let Some((field, tail)) = take_field(rest) {
        rest = tail;
        match field_name(field).to_ascii_lowercase().as_slice() {
            b"bcc" | b"resent-bcc" | b"return-path" => continue,
            b"from" if from.is_some() => return Err(NotSubmittable::From),
            b"from" => from = Some(field),
            b"date" => has_date = true,
            b"message-id" => has_id = true,
            _ => {}
        }
        header.extend_from_slice(field);
    }
    check_author(from.ok_or(NotSubmittable::From)?, own)?;
    let mut out = Vec::with_capacity(message.len() + 200);
    if !has_date {
        let date = DateTime::from_timestamp(now_ms.div_euclid(1000)).to_rfc822();
        out.extend_from_slice(format!("Date: {date}\r\n").as_bytes());
    }
    if !has_id {
        out.extend_from_slice(format!("Message-ID: <{id}@{host_name}>\r\n").as_bytes());
    }
    out.extend_from_slice(&header);
    if !matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..]) {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// Cuts the next field off a header, its folded lines and line end with it. `None` at the end of
/// the header, and at a line that is no field.
fn take_field(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 0;
    loop {
        let line = rest.get(end..)?;
        let is_folded = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        if end == 0 {
            let name = field_name(line);
            let legal = !name.is_empty() && name.len() < line.len() && name.iter().all(u8::is_ascii_graphic);
            if is_folded || !legal {
                return None;
            }
        } else if !is_folded {
            return rest.split_at_checked(end);
        }
        end += line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |at| at + 1);
    }
}

/// What stands before the colon, without the blanks that once were allowed there
/// (RFC 5322, 4.5.3).
fn field_name(field: &[u8]) -> &[u8] {
    let line = field.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match line.iter().position(|byte| *byte == b':') {
        Some(colon) => line.get(..colon).unwrap_or_default().trim_ascii_end(),
        None => &[],
    }
}

fn check_author(field: &[u8], own: &[(Address, AccountId)]) -> Result<(), NotSubmittable> {
    let parsed = MessageParser::new().parse_headers(field).ok_or(NotSubmittable::From)?;
    let from = parsed.from().ok_or(NotSubmittable::From)?;
    let mut authors = from.iter().peekable();
    authors.peek().ok_or(NotSubmittable::From)?;
    for author in authors {
        let address = author.address.as_deref().ok_or(NotSubmittable::From)?;
        let address = Address::parse(address).map_err(|_| NotSubmittable::From)?;
        if owner(&address, own).is_none() {
            return Err(NotSubmittable::ForeignAuthor);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own() -> Vec<(Address, AccountId)> {
        vec![(Address::parse("alice@example.test").expect("address"), AccountId(Id(1)))]
    }

    fn prepared(message: &str) -> Result<String, NotSubmittable> {
        let out = prepare(message.as_bytes(), &own(), Id(1), "mx.example.test", 1_414_649_520_000)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn what_is_missing_is_added_and_bcc_is_removed() {
        let message = "From: Alice <Alice@example.test>\r\nbcc: secret@x.test,\r\n\tother@x.test\r\nTo: b@x.test\r\n\
                       Bcc : more@x.test\r\n\r\nBcc: body\r\n";
        let expected = "Date: Thu, 30 Oct 2014 06:12:00 +0000\r\nMessage-ID: <aaaaaaaaaaaab@mx.example.test>\r\n\
                        From: Alice <Alice@example.test>\r\nTo: b@x.test\r\n\r\nBcc: body\r\n";
        assert_eq!(prepared(message).as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_there_is_kept() {
        let message = "DATE: x\r\nmessage-id: <y>\r\nFrom: alice+tag@example.test\r\n\r\nbody";
        assert_eq!(prepared(message).as_deref(), Ok(message));
        let without_body = "Date: x\r\nMessage-ID: <y>\r\nFrom: alice@example.test\r\n";
        assert_eq!(prepared(without_body), Ok(format!("{without_body}\r\n")));
    }

    #[test]
    fn line_ends_become_crlf() {
        let message = "Date: x\nMessage-ID: <y>\nFrom: alice@example.test\n\na\rb\n.\r\n";
        let expected = "Date: x\r\nMessage-ID: <y>\r\nFrom: alice@example.test\r\n\r\na\r\nb\r\n.\r\n";
        assert_eq!(prepared(message).as_deref(), Ok(expected));
    }

    #[test]
    fn the_author_must_be_the_login() {
        for (from, error) in [
            ("", NotSubmittable::From),
            ("From:\r\n", NotSubmittable::From),
            ("From: nobody\r\n", NotSubmittable::From),
            ("From: alice@example.test\r\nFrom: alice@example.test\r\n", NotSubmittable::From),
            ("From: alice@example.test\r\nFROM : bob@example.test\r\n", NotSubmittable::From),
            ("X: y\rFrom: bob@example.test\r\nFrom: alice@example.test\r\n", NotSubmittable::From),
            ("From: bob@example.test\r\n", NotSubmittable::ForeignAuthor),
            ("From: alice@example.test, bob@example.test\r\n", NotSubmittable::ForeignAuthor),
            ("From: alice@example.test <bob@example.test>\r\n", NotSubmittable::ForeignAuthor),
            ("From: team: alice@example.test, bob@example.test;\r\n", NotSubmittable::ForeignAuthor),
        ] {
            assert_eq!(prepared(&format!("Subject: x\r\n{from}\r\nbody")), Err(error), "{from}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let message = [b"From: alice@example.test\r\n", &bytes[..]].concat();
            let _ = prepare(&bytes, &own(), Id(1), "mx.example.test", 0);
            if let Ok(out) = prepare(&message, &own(), Id(1), "mx.example.test", 0) {
                let text = String::from_utf8_lossy(&out).replace("\r\n", "");
                prop_assert!(!text.contains('\r') && !text.contains('\n'));
            }
        }
    }
}
