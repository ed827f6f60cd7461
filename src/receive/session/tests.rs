//! Whole sessions: bytes in, replies out.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;

use crate::receive::policy::Policy;
use crate::receive::session::message::{AcceptedMessage, QueueAnswer};
use crate::receive::session::sign_in::{SignInAnswer, SignedIn};
use crate::receive::session::transaction::RecipientAnswer;
use crate::receive::session::{Role, Session, SessionSettings, Step};
use crate::smtp::parameters::{Notify, Ret};
use crate::smtp::path::ForwardPath;
use crate::types::address::Address;
use crate::types::clock::Clock;
use crate::types::id::{AccountId, Id, IdMaker};

const NOW_MS: i64 = 1_800_000_000_000;

fn settings(role: Role) -> SessionSettings {
    let clock = Clock::fixed(NOW_MS);
    SessionSettings {
        role,
        host_name: "mx.example.test".to_owned(),
        policy: Policy {
            max_message_size: 1000,
            swallow: 1000,
            recipients: 3,
            refused_recipients: 3,
            ..Policy::default()
        },
        has_certificate: true,
        allow_plaintext_auth: false,
        ids: Arc::new(IdMaker::new(clock.clone())),
        clock,
    }
}

/// What an observer of a session has seen.
#[derive(Debug, Default)]
struct Seen {
    replies: String,
    accepted: Vec<AcceptedMessage>,
    is_closed: bool,
}

impl Seen {
    /// The code, with its enhanced code, of each reply but the greeting.
    fn codes(&self) -> Vec<String> {
        let last_lines = self.replies.lines().skip(1).filter(|line| line.as_bytes().get(3) == Some(&b' '));
        last_lines
            .map(|line| {
                let mut words = line.splitn(3, ' ');
                let (code, enhanced) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let is_enhanced = enhanced.split('.').count() == 3 && enhanced.len() <= 7;
                if is_enhanced { format!("{code} {enhanced}") } else { code.to_owned() }
            })
            .collect()
    }
}

fn where_mail_goes(path: &ForwardPath) -> RecipientAnswer {
    let ForwardPath::Mailbox(mailbox) = path else { return RecipientAnswer::Local(vec![AccountId(Id(1))]) };
    match (mailbox.address().local(), mailbox.address().domain()) {
        ("alice" | "postmaster" | "j\u{f6}rg", "example.test") => {
            RecipientAnswer::Local(vec![AccountId(Id(1))])
        }
        ("team", "example.test") => RecipientAnswer::Local(vec![AccountId(Id(1)), AccountId(Id(2))]),
        ("full", "example.test") => RecipientAnswer::OverQuota,
        ("down", "example.test") => RecipientAnswer::Unavailable,
        (_, "example.test") => RecipientAnswer::Unknown,
        _ => RecipientAnswer::NotLocal,
    }
}

fn who_signs_in(login: &str, password: &str) -> SignInAnswer {
    match (login, password) {
        ("alice", "secret") => SignInAnswer::SignedIn(SignedIn {
            version: 1,
            expires_at: 0,
            only: None,
            login: Id(7),
            name: "alice".to_owned(),
            addresses: vec![(Address::parse("alice@example.test").expect("address"), AccountId(Id(1)))],
        }),
        ("down", _) => SignInAnswer::Unavailable,
        ("many", _) => SignInAnswer::TooMany,
        _ => SignInAnswer::Refused,
    }
}

/// Plays the part of the connection with fixed answers.
fn converse(settings: SessionSettings, peer: &str, chunks: &[&[u8]], queue: QueueAnswer) -> Seen {
    let peer: IpAddr = peer.parse().expect("address");
    let mut session = Session::new(Arc::new(settings), peer, None);
    let (mut input, mut seen) = (BytesMut::new(), Seen::default());
    'bytes: for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            let step = session.advance(&mut input);
            match step {
                Step::Read => break,
                Step::Close => {
                    seen.is_closed = true;
                    break 'bytes;
                }
                Step::StartTls => {
                    input.clear();
                    session.encrypted("TLSv1_3".to_owned());
                }
                Step::SignIn(credentials) => {
                    session.sign_in_answer(who_signs_in(&credentials.login, &credentials.password));
                }
                Step::Recipient(path) => session.recipient_answer(where_mail_goes(&path)),
                Step::Queue(accepted) => {
                    seen.accepted.push(*accepted);
                    session.queue_answer(queue);
                }
            }
        }
    }
    seen.replies = String::from_utf8(session.take_output()).expect("replies are UTF-8");
    seen
}

fn mx(bytes: &str) -> Seen {
    converse(settings(Role::Mx), "192.0.2.1", &[bytes.as_bytes()], QueueAnswer::Queued(Id(1)))
}

fn submission(bytes: &str) -> Seen {
    converse(settings(Role::Submission), "127.0.0.1", &[bytes.as_bytes()], QueueAnswer::Queued(Id(1)))
}

const SIGN_IN: &str = "EHLO me.test\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n";

#[test]
fn a_message_comes_in_within_one_packet() {
    let seen = mx("EHLO mx.sender.test\r\nMAIL FROM:<Bob@sender.test> SIZE=20 BODY=8BITMIME\r\n\
                   RCPT TO:<alice@example.test>\r\nDATA\r\nSubject: x\r\n\r\n..x\r\n.\r\nQUIT\r\n");
    assert_eq!(seen.codes(), ["250", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]);
    assert!(seen.is_closed);
    let [accepted] = &seen.accepted[..] else { panic!("one message") };
    assert_eq!(accepted.from.as_str(), "Bob@sender.test");
    assert_eq!(accepted.recipients[0].accounts, [AccountId(Id(1))]);
    let message = String::from_utf8_lossy(&accepted.message);
    let id = accepted.id.to_string();
    assert_eq!(
        message,
        format!(
            "Return-Path: <Bob@sender.test>\r\nReceived: from mx.sender.test ([192.0.2.1])\r\n\tby mx.example.test \
             with ESMTP\r\n\tid {id} for <alice@example.test>;\r\n\tFri, 15 Jan 2027 08:00:00 +0000\r\n\
             Subject: x\r\n\r\n.x\r\n"
        )
    );
}

#[test]
fn there_is_one_return_path() {
    let seen = mx("EHLO a\r\nMAIL FROM:<bob@sender.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n\
                   Return-Path: <forged@x.test>\r\nSubject: x\r\nreturn-path:\r\n <again@x.test>\r\n\r\n\
                   Return-Path: <body@x.test>\r\n.\r\n");
    let message = String::from_utf8_lossy(&seen.accepted[0].message).into_owned();
    assert!(message.starts_with("Return-Path: <bob@sender.test>\r\nReceived:"), "{message}");
    assert!(message.ends_with("\r\nSubject: x\r\n\r\nReturn-Path: <body@x.test>\r\n"), "{message}");
    assert!(!message.contains("forged") && !message.contains("again"), "{message}");
}

#[test]
fn what_is_offered_depends_on_the_port_and_on_encryption() {
    let seen = mx("EHLO a\r\n");
    assert_eq!(
        seen.replies,
        "220 mx.example.test ESMTP Postrider\r\n250-mx.example.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n\
         250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 STARTTLS\r\n"
    );
    let seen = submission("EHLO a\r\n");
    assert!(
        seen.replies
            .contains("250-AUTH PLAIN LOGIN\r\n250-DSN\r\n250 FUTURERELEASE 2592000 2027-02-14T08:00:00Z")
    );
    let far = converse(settings(Role::Submission), "192.0.2.1", &[b"EHLO a\r\n"], QueueAnswer::Full);
    assert!(!far.replies.contains("AUTH"), "{}", far.replies);
    let chunks: [&[u8]; 2] = [b"EHLO a\r\nSTARTTLS\r\n", b"EHLO a\r\n"];
    let far = converse(settings(Role::Submission), "192.0.2.1", &chunks, QueueAnswer::Full);
    let (_, encrypted) = far.replies.split_once("220 2.0.0 Go ahead\r\n").expect("goes ahead");
    assert!(encrypted.contains("AUTH PLAIN LOGIN") && !encrypted.contains("STARTTLS"), "{encrypted}");
}

#[test]
fn refusals_of_recipients() {
    let seen = mx("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<x@other.test>\r\n\
                   RCPT TO:<full@example.test>\r\nRCPT TO:<down@example.test>\r\nRCPT TO:<j\u{f6}rg@example.test>\r\n\
                   RCPT TO:<alice@example.test> NOTIFY=NEVER\r\nDATA\r\nRCPT TO:<Postmaster>\r\n\
                   RCPT TO:<\"alice\"@EXAMPLE.test>\r\nRCPT TO:<@a,@b:team@example.test>\r\n\
                   RCPT TO:<alice@example.test>\r\nDATA\r\n\r\n.\r\n");
    assert_eq!(
        seen.codes(),
        [
            "250",
            "250 2.1.0",
            "550 5.1.1",
            "550 5.7.1",
            "452 4.2.2",
            "451 4.3.0",
            "553 5.6.7",
            "555 5.5.4",
            "554 5.5.1",
            "250 2.1.5",
            "250 2.1.5",
            "250 2.1.5",
            "452 4.5.3",
            "354",
            "250 2.0.0"
        ]
    );
    let message = String::from_utf8_lossy(&seen.accepted[0].message).into_owned();
    assert!(message.starts_with("Return-Path: <>\r\n") && !message.contains(" for <"), "{message}");
}

#[test]
fn recipients_are_limited() {
    let seen = mx(&format!(
        "EHLO a\r\nMAIL FROM:<>\r\n{}DATA\r\nx\r\n.\r\n",
        "RCPT TO:<alice@example.test>\r\n".repeat(4)
    ));
    assert_eq!(seen.codes()[4..], ["250 2.1.5", "452 4.5.3", "354", "250 2.0.0"]);
    assert_eq!(seen.accepted[0].recipients.len(), 3);
    let seen = mx(&format!("EHLO a\r\nMAIL FROM:<>\r\n{}NOOP\r\n", "RCPT TO:<x@example.test>\r\n".repeat(5)));
    assert_eq!(seen.codes()[2..], ["550 5.1.1", "550 5.1.1", "550 5.1.1", "421 4.7.0"]);
    assert!(seen.is_closed);
}

#[test]
fn commands_come_in_order() {
    let seen = mx(
        "MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nEHLO a\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n\
                   AUTH PLAIN\r\nRSET\r\nRCPT TO:<alice@example.test>\r\nHELO a\r\nVRFY x\r\nEXPN x\r\nHELP\r\nNOOP\r\n",
    );
    assert_eq!(
        seen.codes(),
        [
            "503 5.5.1",
            "503 5.5.1",
            "503 5.5.1",
            "250",
            "250 2.1.0",
            "503 5.5.1",
            "502 5.5.1",
            "250 2.0.0",
            "503 5.5.1",
            "250",
            "252 2.0.0",
            "502 5.5.1",
            "214 2.0.0",
            "250 2.0.0"
        ]
    );
}

#[test]
fn errors_and_commands_are_limited() {
    let seen = mx(&"RUBBISH\r\n".repeat(20));
    assert_eq!(seen.codes().len(), 11);
    assert_eq!(seen.codes()[10], "421 4.7.0");
    let seen = mx(&"NOOP\r\n".repeat(1100));
    assert_eq!(seen.codes().len(), 1001);
    assert!(seen.is_closed && seen.codes()[1000] == "421 4.7.0");
    let mut few = settings(Role::Mx);
    few.policy.messages = 2;
    let bytes = format!("EHLO a\r\n{}", "MAIL FROM:<>\r\nRSET\r\n".repeat(3));
    let seen = converse(few, "192.0.2.1", &[bytes.as_bytes()], QueueAnswer::Full);
    assert_eq!(seen.codes().last().map(String::as_str), Some("421 4.7.0"));
}

#[test]
fn sizes_are_limited() {
    let start = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n";
    let seen =
        mx("EHLO a\r\nMAIL FROM:<> SIZE=1073741824\r\nMAIL FROM:<> SIZE=1001\r\nMAIL FROM:<> SIZE=1000\r\n");
    assert_eq!(seen.codes()[1..], ["552 5.3.4", "552 5.3.4", "250 2.1.0"]);
    let seen = mx(&format!("{start}{}\r\n.\r\nNOOP\r\n", "x".repeat(999)));
    assert_eq!(seen.codes()[4..], ["552 5.3.4", "250 2.0.0"]);
    assert!(mx(&format!("{start}{}\r\n.\r\n", "x".repeat(998))).accepted.len() == 1);
    let seen = mx(&format!("{start}{}", "x".repeat(3000)));
    assert_eq!(seen.codes()[4..], ["552 5.3.4"]);
    assert!(seen.is_closed);
}

#[test]
fn lines_are_limited_and_end_with_crlf() {
    let seen = mx(&format!("NOOP {}\r\nNOOP\nNO\rOP\r\nNOOP \0\r\nNOOP\r\n", "x".repeat(3000)));
    assert_eq!(seen.codes(), ["500 5.5.2", "500 5.5.2", "500 5.5.2", "500 5.5.2", "250 2.0.0"]);
    let seen = mx(&"x".repeat(2 << 20));
    assert_eq!((seen.codes(), seen.is_closed), (vec!["421 4.7.0".to_owned()], true));
}

#[test]
fn smuggled_messages_are_refused_and_the_session_stays_in_step() {
    for trick in ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n\n.\r\n", "\0\n.\r\n"] {
        let seen = mx(&format!(
            "EHLO a\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: x\r\n\r\nbody{trick}\
             MAIL FROM:<admin@example.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nforged\r\n.\r\nNOOP\r\n"
        ));
        assert_eq!(seen.codes()[3..], ["354", "550 5.6.11", "250 2.0.0"], "{trick:?}");
        assert!(seen.accepted.is_empty(), "{trick:?}");
    }
}

#[test]
fn messages_in_chunks() {
    let start = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\n";
    let seen = mx(&format!("{start}BDAT 4\r\na: bBDAT 5 LAST\r\n\r\n\r\n.BDAT 0 LAST\r\n"));
    assert_eq!(seen.codes()[3..], ["250 2.0.0", "250 2.0.0", "503 5.5.1"]);
    assert!(seen.accepted[0].message.ends_with(b"a: b\r\n\r\n."));
    let seen = mx(&format!(
        "{start}BDAT 2\r\nabDATA\r\nRCPT TO:<alice@example.test>\r\nRSET\r\nBDAT 5\r\nQUIT\nNOOP\r\n"
    ));
    assert_eq!(
        seen.codes()[3..],
        ["250 2.0.0", "503 5.5.1", "503 5.5.1", "250 2.0.0", "503 5.5.1", "250 2.0.0"]
    );
    let big = "x".repeat(1500);
    let seen = mx(&format!("{start}BDAT 1500\r\n{big}BDAT 3 LAST\r\nabcNOOP\r\n"));
    assert_eq!(seen.codes()[3..], ["552 5.3.4", "503 5.5.1", "250 2.0.0"]);
    let seen = mx(&format!("{start}BDAT 999\r\n"));
    assert_eq!(seen.codes().len(), 3);
    for closing in ["BDAT 1073741824 LAST\r\n", "BDAT x\r\n", "BDAT\r\n", "BDAT 99999999999999999999999\r\n"]
    {
        let seen = mx(&format!("{start}{closing}NOOP\r\n"));
        assert_eq!((seen.codes().len(), seen.is_closed), (4, true), "{closing}");
        let seen = mx(&format!("{closing}NOOP\r\n"));
        assert_eq!((seen.codes().len(), seen.is_closed), (1, true), "{closing}");
    }
    let seen = mx("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@example.test>\r\nBDAT 6 LAST\r\nNOOP\r\nNOOP\r\n");
    assert_eq!(seen.codes()[2..], ["550 5.1.1", "554 5.5.1", "250 2.0.0"]);
}

#[test]
fn loops_are_found() {
    let start = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n";
    let message = |count| format!("{start}{}\r\n.\r\n", "Received: x\r\n".repeat(count));
    assert_eq!(mx(&message(30)).accepted.len(), 1);
    assert_eq!(mx(&message(31)).codes()[4..], ["554 5.4.6"]);
}

#[test]
fn a_failing_queue_is_a_temporary_failure() {
    let bytes = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n.\r\n";
    for (answer, code) in [
        (QueueAnswer::Unavailable, "451 4.3.0"),
        (QueueAnswer::Full, "452 4.3.1"),
        (QueueAnswer::RateExceeded, "450 4.7.1"),
    ] {
        assert_eq!(converse(settings(Role::Mx), "192.0.2.1", &[bytes], answer).codes()[4], code);
    }
}

#[test]
fn what_comes_behind_starttls_is_dropped() {
    let seen = mx("EHLO a\r\nSTARTTLS\r\nMAIL FROM:<>\r\n");
    assert_eq!(seen.codes(), ["250", "220 2.0.0"]);
    let chunks: [&[u8]; 2] =
        [b"EHLO a\r\nMAIL FROM:<>\r\nSTARTTLS\r\nRSET\r\n", b"MAIL FROM:<>\r\nSTARTTLS\r\n"];
    let seen = converse(settings(Role::Mx), "192.0.2.1", &chunks, QueueAnswer::Full);
    assert_eq!(seen.codes(), ["250", "250 2.1.0", "220 2.0.0", "503 5.5.1", "503 5.5.1"]);
    let without = SessionSettings { has_certificate: false, ..settings(Role::Mx) };
    let seen = converse(without, "192.0.2.1", &[b"EHLO a\r\nSTARTTLS\r\n"], QueueAnswer::Full);
    assert_eq!(seen.codes(), ["250", "502 5.5.1"]);
    assert!(!seen.replies.contains("250 STARTTLS"));
}

#[test]
fn signing_in() {
    let seen = submission(
        "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nEHLO a\r\nMAIL FROM:<alice@example.test>\r\nAUTH CRAM-MD5\r\nAUTH PLAIN !\r\n\
         AUTH LOGIN\r\n*\r\nAUTH LOGIN YWxpY2U=\r\nd3Jvbmc=\r\nAUTH PLAIN\r\nAGRvd24AeA==\r\nAUTH LOGIN\r\nYWxpY2U=\r\n\
         c2VjcmV0\r\nAUTH PLAIN\r\nMAIL FROM:<alice@example.test>\r\n",
    );
    assert_eq!(
        seen.codes(),
        [
            "503 5.5.1",
            "250",
            "530 5.7.0",
            "504 5.5.4",
            "501 5.5.2",
            "334",
            "501 5.7.0",
            "334",
            "535 5.7.8",
            "334",
            "454 4.7.0",
            "334",
            "334",
            "235 2.7.0",
            "503 5.5.1",
            "250 2.1.0"
        ]
    );
    let far =
        |bytes: &[u8]| converse(settings(Role::Submission), "192.0.2.1", &[bytes], QueueAnswer::Full).codes();
    assert_eq!(far(SIGN_IN.as_bytes()), ["250", "538 5.7.11"]);
    let wrong = submission(&format!("EHLO a\r\n{}", "AUTH PLAIN AGEAYg==\r\n".repeat(5)));
    assert_eq!(wrong.codes()[1..], ["535 5.7.8", "535 5.7.8", "535 5.7.8", "421 4.7.0"]);
    assert_eq!(submission("EHLO a\r\nAUTH PLAIN AG1hbnkAeA==\r\n").codes()[1..], ["421 4.7.0"]);
    let long = submission(&format!("EHLO a\r\nAUTH PLAIN\r\n{}\r\nNOOP\r\n", "A".repeat(20_000)));
    assert_eq!(long.codes()[1..], ["334", "500 5.5.6", "250 2.0.0"]);
}

#[test]
fn submission_is_for_own_addresses() {
    let seen = submission(&format!(
        "{SIGN_IN}MAIL FROM:<bob@example.test>\r\nMAIL FROM:<Alice+x@example.test>\r\nRCPT TO:<nobody@example.test>\r\n\
         RCPT TO:<x@other.test>\r\nRCPT TO:<full@example.test>\r\nDATA\r\nFrom: bob@example.test\r\n\r\n.\r\n\
         MAIL FROM:<alice@example.test>\r\nRCPT TO:<x@other.test>\r\nDATA\r\nFrom: alice@example.test\r\nBcc: y@z.test\r\n\r\n.\r\n"
    ));
    assert_eq!(
        seen.codes()[2..],
        [
            "550 5.7.1",
            "250 2.1.0",
            "550 5.1.1",
            "250 2.1.5",
            "250 2.1.5",
            "354",
            "550 5.7.1",
            "250 2.1.0",
            "250 2.1.5",
            "354",
            "250 2.0.0"
        ]
    );
    let accepted = &seen.accepted[0];
    let message = String::from_utf8_lossy(&accepted.message).into_owned();
    assert!(
        message.starts_with("Received: from me.test ([127.0.0.1])\r\n\tby mx.example.test with ESMTPA\r\n"),
        "{message}"
    );
    assert!(
        message.contains("\r\nMessage-ID: <") && message.contains("\r\nDate: Fri, 15 Jan 2027"),
        "{message}"
    );
    assert!(!message.contains("Bcc") && !message.contains("Return-Path"), "{message}");
    assert!(accepted.signed_in.is_some() && accepted.send_at_ms == NOW_MS);
}

#[test]
fn delayed_submission_and_notifications() {
    let seen = submission(&format!(
        "{SIGN_IN}MAIL FROM:<alice@example.test> HOLDFOR=2592001\r\n\
         MAIL FROM:<alice@example.test> HOLDUNTIL=2027-02-15T08:00:00Z\r\n\
         MAIL FROM:<alice@example.test> HOLDFOR=60 RET=FULL ENVID=x+2By\r\n\
         RCPT TO:<x@other.test> NOTIFY=NEVER ORCPT=rfc822;x@other.test\r\nDATA\r\nFrom: alice@example.test\r\n\r\n.\r\n\
         MAIL FROM:<alice@example.test> HOLDUNTIL=2020-01-01T00:00:00Z\r\n"
    ));
    assert_eq!(
        seen.codes()[2..],
        ["501 5.5.4", "501 5.5.4", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "250 2.1.0"]
    );
    let accepted = &seen.accepted[0];
    assert_eq!(accepted.send_at_ms, NOW_MS + 60_000);
    assert_eq!(accepted.parameters.ret, Some(Ret::Full));
    assert_eq!(accepted.parameters.envid.as_deref(), Some("x+y"));
    assert_eq!(accepted.recipients[0].parameters.notify, Some(Notify::NEVER));
    let seen = mx("EHLO a\r\nMAIL FROM:<> RET=FULL\r\nMAIL FROM:<> HOLDFOR=1\r\n");
    assert_eq!(seen.codes()[1..], ["555 5.5.4", "555 5.5.4"]);
}

#[test]
fn utf8_addresses_come_with_smtputf8() {
    let seen = mx(
        "EHLO a\r\nMAIL FROM:<j\u{f6}rg@b\u{fc}cher.test>\r\nMAIL FROM:<j\u{f6}rg@b\u{fc}cher.test> SMTPUTF8\r\n\
                   RCPT TO:<j\u{f6}rg@example.test>\r\nDATA\r\n.\r\n",
    );
    assert_eq!(seen.codes()[1..], ["553 5.6.7", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]);
    assert!(String::from_utf8_lossy(&seen.accepted[0].message).contains("with UTF8SMTP\r\n"));
}

#[test]
fn an_overloaded_server_puts_messages_off() {
    let mut session = Session::new(Arc::new(settings(Role::Mx)), IpAddr::from([192, 0, 2, 1]), None);
    let start = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nsome";
    let mut input = BytesMut::from(start);
    while let Step::Recipient(path) = session.advance(&mut input) {
        session.recipient_answer(where_mail_goes(&path));
    }
    assert_eq!(session.buffered(), 4);
    session.overloaded();
    assert_eq!(session.buffered(), 0);
    input.extend_from_slice(b" more\r\n.\r\nNOOP\r\n");
    assert!(matches!(session.advance(&mut input), Step::Read));
    let replies = String::from_utf8(session.take_output()).expect("UTF-8");
    assert!(
        replies.ends_with("again later\r\n250 2.0.0 OK\r\n") && replies.contains("452 4.3.1"),
        "{replies}"
    );
}

/// Pieces of sessions, legal and not, to be strung together.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    prop_oneof![
        text("EHLO a\r\n"),
        text("MAIL FROM:<a@b.test>\r\n"),
        text("RCPT TO:<alice@example.test>\r\n"),
        text("DATA\r\n"),
        text("Subject: x\r\n\r\nbody"),
        text("\r\n.\r\n"),
        text("\n.\n"),
        text("\r.\r"),
        text("BDAT 5\r\n"),
        text("BDAT 3 LAST\r\n"),
        text("abcde"),
        text("STARTTLS\r\n"),
        text("AUTH LOGIN\r\n"),
        text("YQ==\r\n"),
        text("RSET\r\n"),
        text("\n"),
        text("\r"),
        text("QUIT\r\n"),
        proptest::collection::vec(any::<u8>(), 0..12),
        "[ -~]{0,30}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn any_bytes_in_any_packets_give_the_same_session(
        pieces in proptest::collection::vec(piece(), 0..25),
        cuts in proptest::collection::vec(1usize..20, 0..40),
        is_submission in any::<bool>(),
    ) {
        let bytes = pieces.concat();
        // What comes in one packet with STARTTLS is dropped, so there cuts do matter.
        prop_assume!(!String::from_utf8_lossy(&bytes).to_ascii_uppercase().contains("STARTTLS"));
        let role = if is_submission { Role::Submission } else { Role::Mx };
        let whole = converse(settings(role), "127.0.0.1", &[&bytes], QueueAnswer::Queued(Id(1)));
        let (mut chunks, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        chunks.extend(rest.chunks(1));
        let cut = converse(settings(role), "127.0.0.1", &chunks, QueueAnswer::Queued(Id(1)));
        prop_assert_eq!(&whole.replies, &cut.replies);
        prop_assert_eq!(whole.is_closed, cut.is_closed);
        prop_assert_eq!(whole.accepted.len(), cut.accepted.len());
    }

    #[test]
    fn starttls_in_the_middle_of_anything(pieces in proptest::collection::vec(piece(), 0..25)) {
        let chunks: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        converse(settings(Role::Mx), "127.0.0.1", &chunks, QueueAnswer::Unavailable);
    }
}
