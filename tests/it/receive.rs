//! Mail coming in by SMTP (RFC 5321), and mail handed in by clients (RFC 6409).

use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use crate::support::jmap::id_of;
use crate::support::server::{DOMAIN, PASSWORD, Server};
use crate::support::smtp::{Smtp, dot_stuffed, send};
use crate::support::smtp_sink::Sink;
use crate::support::tls::Certificate;
use crate::support::{eventually, message};

#[test]
fn the_greeting_and_extensions() {
    let server = Server::shared();
    let mut smtp = Smtp::open(server.smtp());
    let greeting = smtp.reply().expect(220);
    assert!(greeting.text().starts_with("mx.example.test "), "{greeting}");
    let hello = smtp.ehlo();
    assert!(hello.text().starts_with("mx.example.test"), "{hello}");
    for extension in ["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"] {
        assert!(hello.offers(extension), "no {extension}: {hello}");
    }
    assert!(!hello.offers("STARTTLS"), "without a certificate");
    assert!(!hello.offers("AUTH"), "port 25 takes no passwords");
    smtp.command("NOOP").expect(250);
    smtp.command("noop with words").expect(250);
    smtp.command("RSET").expect(250);
    smtp.command("VRFY alice").expect(252);
    smtp.command("EXPN list").expect(502);
    smtp.command("HELP");
    smtp.command("STARTTLS").expect(502);
    smtp.command("AUTH PLAIN").expect(502);
    smtp.command("HELO old.client.test").expect(250);
    smtp.command("QUIT").expect(221);
    assert!(smtp.try_reply().is_err(), "still open after QUIT");
}

#[test]
fn recipients_are_checked_at_rcpt() {
    let server = Server::shared();
    let client = server.account();
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    smtp.command("RCPT TO:<Postmaster>").expect(250);
    smtp.command("RCPT TO:<postmaster@EXAMPLE.test>").expect(250);
    smtp.command("RSET").expect(250);
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    smtp.command("RCPT TO:<nobody-here@example.test>").expect_enhanced(550, "5.1.1");
    smtp.command("RCPT TO:<someone@elsewhere.test>").expect_enhanced(550, "5.7.1");
    smtp.command(&format!("RCPT TO:<{}>", client.address)).expect(250);
    smtp.command(&format!("rcpt to:<{}>", client.address.to_uppercase())).expect(250);
    smtp.command(&format!("RCPT TO:<@relay.test,@other.test:{}>", client.address)).expect(250);
    smtp.command("RCPT TO:<>").expect(501);
    smtp.command("RCPT TO:nonsense").expect(501);
    smtp.command(&format!("RCPT TO:<{}> FOO=BAR", client.address)).expect(555);
    smtp.command("DATA").expect(354);
    let mail = message::text("a@sender.test", &client.address, "one copy", "x");
    smtp.send_raw(&dot_stuffed(mail.as_bytes())).expect("sent");
    smtp.reply().expect(250);
    client.wait_for_subject("one copy");
    assert_eq!(
        client.query(json!({ "subject": "one copy" })).len(),
        1,
        "one address by two spellings is one copy"
    );
}

#[test]
fn commands_out_of_order_are_refused() {
    let server = Server::shared();
    let client = server.account();
    let mut smtp = Smtp::connect(server.smtp());
    smtp.command("MAIL FROM:<a@sender.test>").expect(503);
    smtp.ehlo();
    smtp.command(&format!("RCPT TO:<{}>", client.address)).expect(503);
    smtp.command("DATA").expect(503);
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    // RFC 5321, 3.3: either of the two when there is no recipient.
    let code = smtp.command("DATA").code;
    assert!(code == 503 || code == 554, "{code}");
    smtp.command("MAIL FROM:<a@sender.test>").expect(503);
    smtp.command("RSET").expect(250);
    smtp.command("MAIL FROM:<>").expect(250);
    smtp.command("EHLO again.test").expect(250);
    smtp.command(&format!("RCPT TO:<{}>", client.address)).expect(503);
    // A new connection: so many errors end one.
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    smtp.command("MAIL FROM:<a@sender.test> SIZE=999999999999").expect(552);
    smtp.command("MAIL FROM:<a@sender.test> SIZE=x").expect(501);
    smtp.command("MAIL FROM:<a@sender.test> BODY=9BIT").expect(501);
    smtp.command("MAIL FROM:<a@sender.test> NONSENSE=1").expect(555);
    smtp.command("MAIL FROM:a@sender.test");
    smtp.command("FROB").expect(500);
    smtp.command("").expect(500);
}

#[test]
fn aliases_tags_and_catch_alls_find_their_accounts() {
    let server = Server::start();
    let (one, two) = (server.account(), server.account());
    server.cli(&["alias", "add", "team@example.test", &one.address, &two.address]);
    let send_to = |to: &str, subject: &str| {
        server.deliver("a@sender.test", to, message::text("a@sender.test", to, subject, "x"))
    };
    send_to("team@example.test", "to the team");
    one.wait_for_subject("to the team");
    two.wait_for_subject("to the team");
    send_to(&one.address.replace('@', "+news@"), "with a tag");
    one.wait_for_subject("with a tag");
    // RFC 5321, 4.5.1: postmaster is always there, also without a domain.
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    smtp.command("RCPT TO:<postmaster@example.test>").expect(250);
    smtp.command("RCPT TO:<Postmaster>").expect(250);
    server.cli(&["domain", "add", "caught.test", "--catch-all", &two.address]);
    send_to("anything-at-all@caught.test", "caught");
    two.wait_for_subject("caught");
}

#[test]
fn all_recipients_of_a_transaction_get_the_same_bytes() {
    let server = Server::shared();
    let (one, two) = (server.account(), server.account());
    let mail = message::text("a@sender.test", "undisclosed-recipients:;", "blind copies", "x");
    send(server.smtp(), "a@sender.test", &[&one.address, &two.address], &mail);
    let read = |client: &crate::support::jmap::Client| {
        let id = client.wait_for_subject("blind copies");
        client.download(client.get("Email", &id, &["blobId"])["blobId"].as_str().expect("blobId"))
    };
    let (first, second) = (read(&one), read(&two));
    assert_eq!(first, second);
    let text = String::from_utf8(first).expect("UTF-8");
    assert!(!text.contains(&one.address) && !text.contains(&two.address), "{text}");
}

#[test]
fn chunks_are_put_together() {
    let server = Server::shared();
    let client = server.account();
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    let mail = message::text("a@sender.test", &client.address, "in chunks", ".dot\nlines stay\n.\n");
    let (first, second) = mail.as_bytes().split_at(37);
    smtp.command("MAIL FROM:<a@sender.test> BODY=8BITMIME").expect(250);
    smtp.command(&format!("RCPT TO:<{}>", client.address)).expect(250);
    smtp.send_raw(format!("BDAT {}\r\n", first.len()).as_bytes()).expect("sent");
    smtp.send_raw(first).expect("sent");
    smtp.reply().expect(250);
    smtp.send_raw(format!("BDAT {} LAST\r\n", second.len()).as_bytes()).expect("sent");
    smtp.send_raw(second).expect("sent");
    smtp.reply().expect(250);
    let id = client.wait_for_subject("in chunks");
    let blob = client.get("Email", &id, &["blobId"])["blobId"].clone();
    let raw = client.download(blob.as_str().expect("blobId"));
    assert!(raw.ends_with(mail.as_bytes()), "{}", String::from_utf8_lossy(&raw));
}

#[test]
fn pipelined_commands_are_answered_one_by_one() {
    let server = Server::shared();
    let client = server.account();
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    let mail = message::text("a@sender.test", &client.address, "pipelined", "x");
    let commands = format!(
        "MAIL FROM:<a@sender.test>\r\nRCPT TO:<nobody-here@example.test>\r\nRCPT TO:<{}>\r\nDATA\r\n",
        client.address
    );
    smtp.send_raw(commands.as_bytes()).expect("sent");
    for code in [250, 550, 250, 354] {
        smtp.reply().expect(code);
    }
    let mut rest = dot_stuffed(mail.as_bytes());
    rest.extend_from_slice(b"NOOP\r\nQUIT\r\n");
    smtp.send_raw(&rest).expect("sent");
    for code in [250, 250, 221] {
        smtp.reply().expect(code);
    }
    client.wait_for_subject("pipelined");
}

#[test]
fn smuggled_mails_are_refused() {
    let server = Server::shared();
    let client = server.account();
    for (number, end) in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r"].iter().enumerate() {
        let mut smtp = Smtp::connect(server.smtp());
        smtp.ehlo();
        smtp.command("MAIL FROM:<a@sender.test>").expect(250);
        smtp.command(&format!("RCPT TO:<{}>", client.address)).expect(250);
        smtp.command("DATA").expect(354);
        let smuggled = format!(
            "Subject: outer {number}\r\n\r\ntext{end}MAIL FROM:<boss@bank.test>\r\nRCPT TO:<{}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n",
            client.address
        );
        smtp.send_raw(smuggled.as_bytes()).expect("sent");
        smtp.set_timeout(Duration::from_secs(10));
        // One reply at most is a 250, and then it is for one mail that holds all of it.
        let mut accepted = 0;
        while let Ok(reply) = smtp.try_reply() {
            accepted += usize::from(reply.code == 250);
            assert_ne!(reply.code, 354, "{end:?}: a second DATA was taken");
            if reply.code >= 400 || accepted > 0 {
                break;
            }
        }
    }
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, "after all", "x"),
    );
    client.wait_for_subject("after all");
    assert!(client.query(json!({ "subject": "smuggled" })).is_empty());
}

#[test]
fn too_large_mails_are_refused_and_the_session_goes_on() {
    let server = Server::builder().env("POSTRIDER_MAX_MESSAGE_SIZE", "100KiB").start();
    let client = server.account();
    let mut smtp = Smtp::connect(server.smtp());
    let hello = smtp.ehlo();
    assert!(hello.lines.iter().any(|line| line == "SIZE 102400"), "{hello}");
    smtp.command("MAIL FROM:<a@sender.test> SIZE=102401").expect_enhanced(552, "5.3.4");
    let large = format!("Subject: large\r\n\r\n{}", "0123456789\r\n".repeat(10_000));
    let reply = smtp.try_send("a@sender.test", &[&client.address], large.as_bytes()).expect("reply");
    assert_eq!(reply.code, 552, "{reply}");
    let small = message::text("a@sender.test", &client.address, "small", "x");
    smtp.try_send("a@sender.test", &[&client.address], small.as_bytes()).expect("reply").expect(250);
    client.wait_for_subject("small");
    assert!(client.query(json!({ "subject": "large" })).is_empty());
}

#[test]
fn loops_are_cut() {
    let server = Server::shared();
    let client = server.account();
    let hops = "Received: from a.test by b.test; Tue, 4 Mar 2025 10:00:00 +0000\r\n".repeat(120);
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    let mail = format!("{hops}Subject: round and round\r\n\r\nx\r\n");
    let reply = smtp.try_send("a@sender.test", &[&client.address], mail.as_bytes()).expect("reply");
    assert_eq!(reply.code, 554, "{reply}");
    assert!(reply.text().starts_with("5.4.6"), "{reply}");
}

#[test]
fn foreign_results_that_claim_our_name_are_removed() {
    let server = Server::shared();
    let client = server.account();
    let mail = message::with_headers(
        &[
            ("Authentication-Results", "mx.example.test; dmarc=pass header.from=bank.test"),
            ("Authentication-Results", "other.test; spf=pass"),
            ("From", "a@sender.test"),
            ("Subject", "claims"),
        ],
        "x",
    );
    server.deliver("a@sender.test", &client.address, mail);
    let id = client.wait_for_subject("claims");
    let email = client.get("Email", &id, &["header:Authentication-Results:asText:all"]);
    let all = email["header:Authentication-Results:asText:all"].as_array().expect("list").clone();
    let ours: Vec<&Value> = all
        .iter()
        .filter(|value| value.as_str().is_some_and(|text| text.starts_with("mx.example.test")))
        .collect();
    assert_eq!(ours.len(), 1, "{all:?}");
    assert!(!ours[0].to_string().contains("dmarc=pass"), "{all:?}");
    assert!(
        all.iter().any(|value| value.as_str().is_some_and(|text| text.starts_with("other.test"))),
        "{all:?}"
    );
}

#[test]
fn a_policy_of_reject_files_into_junk() {
    let server = Server::start();
    let client = server.account();
    server.dns.add_txt("_dmarc.bank.test", "v=DMARC1; p=reject");
    server.dns.add_txt("bank.test", "v=spf1 -all");
    server.dns.add_txt("friend.test", "v=spf1 ip4:127.0.0.1 -all");
    server.dns.add_txt("_dmarc.friend.test", "v=DMARC1; p=reject");
    for (from, mailbox, result) in
        [("boss@bank.test", "junk", "dmarc=fail"), ("bob@friend.test", "inbox", "dmarc=pass")]
    {
        let subject = format!("from {from}");
        server.deliver(from, &client.address, message::text(from, &client.address, &subject, "x"));
        let id = client.wait_for_subject(&subject);
        let email = client.get("Email", &id, &["mailboxIds", "header:Authentication-Results:asText"]);
        assert_eq!(email["mailboxIds"], json!({ client.mailbox(mailbox): true }), "{email}");
        let results = email["header:Authentication-Results:asText"].as_str().unwrap_or_default();
        assert!(results.contains(result) && results.contains("spf="), "{results}");
    }
}

#[test]
fn signed_mail_from_another_instance_passes() {
    let sink = Sink::start();
    let sender = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let printed = sender.cli_json(&["domain", "show", "example.test"]);
    let client = sender.account();
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    let email = id_of(&client.create(
        "Email",
        crate::support::jmap::plain_email(&client.mailbox("drafts"), &client.address, "signed", "text"),
    ));
    client.create("EmailSubmission", json!({ "emailId": email, "identityId": identity }));
    let delivery = sink.wait_for("somebody@elsewhere.test");
    let receiver = Server::builder().without_domain().start();
    receiver.cli(&["domain", "add", "elsewhere.test"]);
    receiver.cli(&["account", "add", "somebody@elsewhere.test", "--password", PASSWORD]);
    let mut records = 0;
    for record in printed["records"].as_array().into_iter().flatten() {
        let name = record["name"].as_str().unwrap_or_default().trim_end_matches('.').to_owned();
        if record["type"] == "TXT" && name.contains("_domainkey") {
            receiver.dns.add_txt(&name, record["value"].as_str().unwrap_or_default());
            records += 1;
        }
    }
    assert_eq!(records, 2, "domain show tells both keys: {printed}");
    send(receiver.smtp(), &client.address, &["somebody@elsewhere.test"], &delivery.message);
    let reader = receiver.sign_in("somebody@elsewhere.test");
    let id = reader.wait_for_subject("signed");
    let results = reader.get("Email", &id, &["header:Authentication-Results:asText"])["header:Authentication-Results:asText"].to_string();
    assert_eq!(results.matches("dkim=pass").count(), 2, "{results}");
}

#[test]
fn mail_is_taken_while_the_dns_is_down() {
    let server = Server::start();
    let client = server.account();
    server.dns.set_trouble_everywhere(Some(crate::support::dns::Trouble::Fails));
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, "in the dark", "x"),
    );
    // It stays down: the message waits a little for it, and is filed all the same.
    let id = client.wait_for_subject("in the dark");
    let blob = client.get("Email", &id, &["blobId"])["blobId"].as_str().expect("blobId").to_owned();
    let text = String::from_utf8_lossy(&client.download(&blob)).into_owned();
    assert!(text.contains("Authentication-Results:") && text.contains("=temperror"), "{text}");
}

#[test]
fn mail_waits_for_a_dns_that_is_soon_back() {
    let server = Server::start();
    let client = server.account();
    server.dns.add_txt("sender.test", "v=spf1 ip4:127.0.0.1 -all");
    server.dns.set_trouble_everywhere(Some(crate::support::dns::Trouble::Fails));
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, "at dawn", "x"),
    );
    eventually("a try without DNS", || server.log().contains("DNS did not answer").then_some(()));
    server.dns.set_trouble_everywhere(None);
    let id = client.wait_for_subject("at dawn");
    let blob = client.get("Email", &id, &["blobId"])["blobId"].as_str().expect("blobId").to_owned();
    let text = String::from_utf8_lossy(&client.download(&blob)).into_owned();
    assert!(text.contains("spf=pass"), "{text}");
}

#[test]
fn an_account_over_its_quota_is_told_at_rcpt() {
    let server = Server::shared();
    let client = server.account();
    server.cli(&["account", "quota", &client.address, "1KB"]);
    let filling = message::text("a@sender.test", &client.address, "filling", &"x".repeat(2_000));
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    let _ = smtp.try_send("a@sender.test", &[&client.address], filling.as_bytes());
    client.wait_for_subject("filling");
    smtp.command("RSET").expect(250);
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    smtp.command(&format!("RCPT TO:<{}>", client.address)).expect_enhanced(452, "4.2.2");
    let quota = client.calls_using(
        &[crate::support::jmap::CORE, crate::support::jmap::MAIL, crate::support::jmap::QUOTA],
        json!([["Quota/get", { "accountId": client.account, "ids": null }, "c"]]),
    );
    let octets = quota[0].arguments["list"]
        .as_array()
        .and_then(|list| list.iter().find(|quota| quota["resourceType"] == "octets"))
        .cloned();
    let octets = octets.unwrap_or_else(|| panic!("{quota:?}"));
    assert_eq!(octets["hardLimit"], 1_000);
    assert!(octets["used"].as_u64() >= Some(2_000), "{octets}");
    let error = client.create_error(
        "Email",
        crate::support::jmap::plain_email(
            &client.mailbox("inbox"),
            &client.address,
            "over",
            &"x".repeat(2_000),
        ),
    );
    assert_eq!(error["type"], "overQuota");
}

#[test]
fn international_addresses_are_taken() {
    let server = Server::shared();
    server.cli(&["account", "add", "Пётр@example.test", "--password", PASSWORD]);
    let client = server.sign_in("пётр@example.test");
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    let mail = "From: 用户@例え.test\r\nTo: пётр@example.test\r\nSubject: международный\r\n\r\nпривет\r\n";
    smtp.try_send("用户@例え.test", &["пётр@example.test"], mail.as_bytes()).expect("reply").expect(250);
    client.wait_for_subject("международный");
    smtp.command("MAIL FROM:<a@sender.test>").expect(250);
    let reply = smtp.command("RCPT TO:<пётр@example.test>");
    assert!(reply.code == 553 || reply.code == 501 || reply.code == 550, "without SMTPUTF8: {reply}");
}

#[test]
fn tls_and_passwords_on_the_submission_port() {
    let certificate = Certificate::make(&["mx.example.test", "localhost"]);
    let folder = tempfile::TempDir::new().expect("folder");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, &certificate.certificate_pem).expect("certificate");
    std::fs::write(&key, &certificate.key_pem).expect("key");
    let sink = Sink::start();
    let server = Server::builder()
        .env("POSTRIDER_RELAY", sink.relay())
        .env("POSTRIDER_TLS_CERT", cert.to_string_lossy())
        .env("POSTRIDER_TLS_KEY", key.to_string_lossy())
        .start();
    let client = server.account();
    let mut smtp = Smtp::connect(server.smtp());
    assert!(smtp.ehlo().offers("STARTTLS"));
    let mut smtp = smtp.starttls();
    assert!(!smtp.ehlo().offers("STARTTLS"), "inside TLS");
    let mail = message::text("a@sender.test", &client.address, "inside TLS", "x");
    smtp.try_send("a@sender.test", &[&client.address], mail.as_bytes()).expect("reply").expect(250);
    client.wait_for_subject("inside TLS");

    // What was sent before the handshake counts for nothing after it (RFC 3207, 4.2).
    let mut injected = Smtp::connect(server.submission());
    injected.ehlo();
    injected.send_raw(b"STARTTLS\r\nNOOP injected\r\n").expect("sent");
    injected.reply().expect(220);
    injected.set_timeout(Duration::from_secs(2));
    assert!(injected.try_reply().is_err(), "a command from before the handshake was answered");

    let mut smtp = Smtp::connect(server.submission());
    smtp.ehlo();
    smtp.command("MAIL FROM:<a@sender.test>").expect_enhanced(530, "5.7");
    let mut smtp = smtp.starttls();
    let hello = smtp.ehlo();
    assert!(
        hello
            .lines
            .iter()
            .any(|line| line.starts_with("AUTH ") && line.contains("PLAIN") && line.contains("LOGIN")),
        "{hello}"
    );
    smtp.auth_plain(&client.address, "wrong").expect_enhanced(535, "5.7.8");
    smtp.auth_plain(&client.address, PASSWORD).expect_enhanced(235, "2.7.0");
    smtp.command(&format!("AUTH PLAIN {}", "AA==")).expect(503);
    smtp.command("MAIL FROM:<boss@bank.test>").expect_enhanced(550, "5.7.1");
    let mail = format!(
        "From: {}\r\nTo: x@elsewhere.test\r\nBcc: y@elsewhere.test\r\nSubject: handed in\r\n\r\nbody\r\n",
        client.address
    );
    smtp.try_send(&client.address, &["x@elsewhere.test"], mail.as_bytes()).expect("reply").expect(250);
    let text = sink.wait_for("x@elsewhere.test").text();
    assert!(!text.contains("Bcc:"), "{text}");
    assert!(
        text.contains("Message-ID: <") && text.contains("Date: ") && text.contains("DKIM-Signature:"),
        "{text}"
    );
    let forged = "From: boss@bank.test\r\nTo: x@elsewhere.test\r\nSubject: forged\r\n\r\nbody\r\n";
    let reply = smtp.try_send(&client.address, &["x@elsewhere.test"], forged.as_bytes()).expect("reply");
    assert_eq!(reply.code, 550, "{reply}");
}

#[test]
fn auth_login_and_cancelled_auth() {
    let server = Server::shared();
    let client = server.account();
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut smtp = Smtp::connect(server.submission());
    let hello = smtp.ehlo();
    assert!(hello.text().contains("AUTH "), "on the loopback, passwords may go without TLS: {hello}");
    smtp.command("AUTH LOGIN").expect(334);
    smtp.command("*").expect(501);
    smtp.command("AUTH PLAIN !!!").expect(501);
    smtp.command("AUTH NONSENSE").expect(504);
    smtp.command("AUTH LOGIN").expect(334);
    smtp.command(&encode(&client.address)).expect(334);
    smtp.command(&encode(PASSWORD)).expect(235);
    let other = server.account();
    let mail = message::text(&client.address, &other.address, "handed in next door", "x");
    smtp.try_send(&client.address, &[&other.address], mail.as_bytes()).expect("reply").expect(250);
    other.wait_for_subject("handed in next door");
}

#[test]
fn silent_and_slow_clients_hold_nothing_up() {
    let server = Server::shared();
    let client = server.account();
    let idle: Vec<Smtp> = (0..5).map(|_| Smtp::connect(server.smtp())).collect();
    let mut half = Smtp::connect(server.smtp());
    half.send_raw(b"EHLO half").expect("sent");
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, "in between", "x"),
    );
    client.wait_for_subject("in between");
    drop(idle);
}

#[test]
fn a_client_that_only_errs_is_sent_away() {
    let server = Server::shared();
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    let mut count = 0;
    while let Ok(reply) = smtp.try_command("NONSENSE") {
        count += 1;
        assert!(count < 200, "errors without end");
        if reply.code == 421 {
            break;
        }
    }
    assert!(count >= 5, "sent away after {count} errors");
    let _ = DOMAIN;
}
