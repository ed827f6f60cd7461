//! What RFC 5321 asks of every server that receives: sizes, spellings, the least of commands.

use crate::support::message;
use crate::support::server::Server;
use crate::support::smtp::{Smtp, dot_stuffed};

/// The message with a subject as it stands in the store.
fn stored(client: &crate::support::jmap::Client, subject: &str) -> String {
    let id = client.wait_for_subject(subject);
    let blob = client.get("Email", &id, &["blobId"])["blobId"].clone();
    String::from_utf8_lossy(&client.download(blob.as_str().unwrap_or_default())).into_owned()
}

#[test]
fn verbs_are_read_in_any_case_and_local_parts_are_kept() {
    let server = Server::shared();
    let client = server.account();
    let subject = message::unique("any case ");
    let mut smtp = Smtp::connect(server.smtp());
    smtp.command("eHlO client.test").expect(250);
    smtp.command("mail FROM:<Mixed.Case@Sender.TEST>").expect(250);
    let (local, domain) = client.address.split_once('@').expect("an address");
    smtp.command(&format!("Rcpt tO:<{}@{}>", local.to_uppercase(), domain.to_uppercase())).expect(250);
    smtp.command("dAtA").expect(354);
    let mail = message::text("a@sender.test", &client.address, &subject, "x");
    smtp.send_raw(&dot_stuffed(mail.as_bytes())).expect("sent");
    smtp.reply().expect(250);
    smtp.command("quit").expect(221);
    let raw = stored(&client, &subject);
    assert!(raw.starts_with("Return-Path: <Mixed.Case@Sender.TEST>\r\n"), "{raw}");
    assert!(raw.contains("\r\nReceived: from client.test "), "{raw}");
}

#[test]
fn helo_and_the_null_sender_are_taken() {
    let server = Server::shared();
    let client = server.account();
    let subject = message::unique("null sender ");
    let mut smtp = Smtp::connect(server.smtp());
    assert_eq!(smtp.command("HELO old.test").expect(250).text().lines().count(), 1, "HELO offers nothing");
    smtp.command("MAIL FROM:<>").expect(250);
    smtp.command(&format!("RCPT TO:<{}>", client.address)).expect(250);
    smtp.command("DATA").expect(354);
    let mail = message::text("mailer-daemon@sender.test", &client.address, &subject, "x");
    smtp.send_raw(&dot_stuffed(mail.as_bytes())).expect("sent");
    smtp.reply().expect(250);
    let raw = stored(&client, &subject);
    assert!(raw.starts_with("Return-Path: <>\r\n") && raw.contains("with SMTP\r\n"), "{raw}");
}

#[test]
fn a_transaction_has_at_least_a_hundred_recipients() {
    let server = Server::shared();
    let client = server.account();
    let subject = message::unique("a hundred ");
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    for number in 0..100 {
        let address = client.address.replace('@', &format!("+{number}@"));
        smtp.command(&format!("RCPT TO:<{address}>")).expect(250);
    }
    smtp.command(&format!("RCPT TO:<{}>", client.address)).expect(452);
    smtp.command("DATA").expect(354);
    let mail = message::text("a@sender.test", &client.address, &subject, "x");
    smtp.send_raw(&dot_stuffed(mail.as_bytes())).expect("sent");
    smtp.reply().expect(250);
    client.wait_for_subject(&subject);
}

#[test]
fn names_and_lines_may_be_as_long_as_the_standard_says() {
    let server = Server::shared();
    let client = server.account();
    let subject = message::unique("long ");
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    // RFC 5321, 4.5.3.1.1 to 4.5.3.1.4: a local part of 64, a domain of 255, a line of 512 octets.
    let domain = [&"d".repeat(63), &"e".repeat(63), &"f".repeat(63), "test"].map(str::to_owned).join(".");
    let sender = format!("{}@{domain}", "s".repeat(64));
    smtp.command(&format!("MAIL FROM:<{sender}>")).expect(250);
    let (local, host) = client.address.split_once('@').expect("an address");
    let tag = "t".repeat(64 - local.len() - 1);
    smtp.command(&format!("RCPT TO:<{local}+{tag}@{host}>")).expect(250);
    smtp.command(&format!("NOOP {}", "x".repeat(505))).expect(250);
    smtp.command("DATA").expect(354);
    // 4.5.3.1.6: 1,000 octets with the line end; longer ones are taken all the same.
    let lines = ["a".repeat(998), "b".repeat(5_000), ".leading dot".to_owned()].join("\r\n");
    let mail = message::text("a@sender.test", &client.address, &subject, &lines);
    smtp.send_raw(&dot_stuffed(mail.as_bytes())).expect("sent");
    smtp.reply().expect(250);
    let raw = stored(&client, &subject);
    assert!(raw.ends_with(&format!("{lines}\r\n")), "the text is kept as it came");
}

#[test]
fn what_a_message_lacks_is_no_reason_to_refuse_it() {
    let server = Server::shared();
    let client = server.account();
    server.deliver("a@sender.test", &client.address, "no header at all\r\n");
    server.deliver("a@sender.test", &client.address, "\r\nonly a body\r\n");
    server.deliver("a@sender.test", &client.address, "Subject: only a header\r\n");
    client.wait_for_emails(serde_json::json!({ "inMailbox": client.mailbox("inbox") }), 3);
    client.wait_for_subject("only a header");
}
