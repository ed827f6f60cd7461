//! The main job from end to end: mail comes in, is announced, read, answered, and leaves.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::support::jmap::{Client, id_of};
use crate::support::ports::free_port;
use crate::support::rest::Api;
use crate::support::server::{DOMAIN, Server};
use crate::support::smtp_sink::Sink;
use crate::support::{eventually, message};

/// Writes a draft and submits it, as a mail client does; ids of submission and Email.
fn send(client: &Client, to: &str, subject: &str, more: serde_json::Value) -> (String, String) {
    let identities = client.call("Identity/get", json!({ "ids": null }));
    let identity = identities["list"][0]["id"].clone();
    assert_eq!(identities["list"][0]["email"], json!(client.address));
    let mut email = json!({
        "mailboxIds": { client.mailbox("drafts"): true },
        "keywords": { "$draft": true, "$seen": true },
        "from": [{ "email": client.address }],
        "to": [{ "email": to }],
        "subject": subject,
        "bodyStructure": { "type": "text/plain", "partId": "t" },
        "bodyValues": { "t": { "value": "Grüße,\nhere is the text." } },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        email[name] = value.clone();
    }
    let answers = client.calls(json!([
        ["Email/set", { "accountId": client.account, "create": { "draft": email } }, "0"],
        ["EmailSubmission/set", {
            "accountId": client.account,
            "create": { "send": { "emailId": "#draft", "identityId": identity } },
            "onSuccessUpdateEmail": { "#send": {
                format!("mailboxIds/{}", client.mailbox("drafts")): null,
                format!("mailboxIds/{}", client.mailbox("sent")): true,
                "keywords/$draft": null,
            } },
        }, "1"],
    ]));
    let names: Vec<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
    assert_eq!(names, ["Email/set", "EmailSubmission/set", "Email/set"], "{answers:?}");
    let email = id_of(&answers[0].arguments["created"]["draft"]);
    let submission = id_of(&answers[1].arguments["created"]["send"]);
    assert!(answers[2].arguments["updated"].get(&email).is_some(), "{:?}", answers[2]);
    (submission, email)
}

#[test]
fn mail_comes_in_is_announced_answered_and_leaves() {
    let sink = Sink::start();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let events = client.events("Email,EmailDelivery,Mailbox,Thread", "no", 0);

    let incoming = message::with_headers(
        &[
            ("From", "Zoë <zoe@sender.test>"),
            ("To", &client.address),
            ("Subject", "=?utf-8?Q?Gr=C3=BC=C3=9Fe?="),
            ("Message-ID", "<first@sender.test>"),
            ("Date", "Tue, 04 Mar 2025 10:20:30 +0100"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ],
        "Hallo, wie geht’s?",
    );
    server.deliver("zoe@sender.test", &client.address, &incoming);

    events.wait_for("EmailDelivery", |event| event.state_of(&client.account, "EmailDelivery"));
    let ids = client.query(json!({ "inMailbox": inbox }));
    assert_eq!(ids.len(), 1, "announced, but not there");
    let email = client.get_with("Email", &ids[0], json!({ "fetchTextBodyValues": true }));
    assert_eq!(email["subject"], "Grüße");
    assert_eq!(email["from"], json!([{ "name": "Zoë", "email": "zoe@sender.test" }]));
    assert_eq!(email["preview"], "Hallo, wie geht’s?");
    assert_eq!(email["keywords"], json!({}));
    assert_eq!(email["mailboxIds"], json!({ inbox.as_str(): true }));
    assert_eq!(email["messageId"], json!(["first@sender.test"]));
    assert_eq!(email["sentAt"], "2025-03-04T10:20:30+01:00");
    let part = email["textBody"][0]["partId"].as_str().expect("partId");
    assert_eq!(email["bodyValues"][part]["value"], "Hallo, wie geht’s?\n");
    let mailbox =
        client.get("Mailbox", &inbox, &["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"]);
    for counter in ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"] {
        assert_eq!(mailbox[counter], 1, "{counter}");
    }
    let raw = String::from_utf8(client.download(email["blobId"].as_str().expect("blobId"))).expect("UTF-8");
    assert!(raw.ends_with(&incoming), "changed on its way:\n{raw}");
    assert!(raw.starts_with("Return-Path: <zoe@sender.test>\r\n"), "{raw}");
    assert!(raw.contains("\r\nReceived: from "), "{raw}");
    assert!(raw.contains("Authentication-Results: mx.example.test"), "{raw}");

    let (submission, reply) = send(
        &client,
        "zoe@sender.test",
        "Re: Grüße",
        json!({ "inReplyTo": ["first@sender.test"], "references": ["first@sender.test"], "bcc": [{ "email": "secret@third.test" }] }),
    );
    let delivery = sink.wait_for("zoe@sender.test");
    assert_eq!(delivery.from, client.address);
    let text = delivery.text();
    assert!(text.contains("In-Reply-To: <first@sender.test>\r\n"), "{text}");
    assert!(text.to_ascii_lowercase().contains("\r\nmessage-id: <") && text.contains("Date: "), "{text}");
    assert!(!text.contains("secret@third.test"), "Bcc leaks:\n{text}");
    assert_eq!(text.matches("DKIM-Signature:").count(), 2, "{text}");
    sink.wait_for("secret@third.test");

    let done = eventually("the submission is done", || {
        let submission =
            client.get("EmailSubmission", &submission, &["undoStatus", "deliveryStatus", "threadId"]);
        let status = &submission["deliveryStatus"];
        let all = ["zoe@sender.test", "secret@third.test"];
        all.iter()
            .all(|to| status[to]["delivered"] != "queued" && status[to].is_object())
            .then_some(submission.clone())
    });
    assert_eq!(done["undoStatus"], "final");
    let smtp_reply =
        done["deliveryStatus"]["zoe@sender.test"]["smtpReply"].as_str().unwrap_or_default().to_owned();
    assert!(smtp_reply.starts_with("250"), "{done}");

    let reply = client.get("Email", &reply, &["mailboxIds", "keywords", "threadId"]);
    assert_eq!(reply["mailboxIds"], json!({ client.mailbox("sent"): true }));
    assert_eq!(reply["keywords"], json!({ "$seen": true }));
    assert_eq!(reply["threadId"], email["threadId"], "the answer is in another thread");
    assert_eq!(done["threadId"], email["threadId"]);
}

/// With two connections, workers have one at a time: one that held it and wanted another would stand still.
#[test]
fn all_goes_on_with_as_few_connections_to_the_database_as_there_may_be() {
    let sink = Sink::start();
    let server = Server::builder()
        .env("POSTRIDER_DATABASE_CONNECTIONS", "2")
        .env("POSTRIDER_RELAY", sink.relay())
        .start();
    let client = server.account();
    client.update("VacationResponse", "singleton", json!({ "isEnabled": true, "textBody": "Away." }));
    let large = "A line of a message that is too large for the database.\r\n".repeat(10_000);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (server, to, large) = (&server, &client.address, &large);
            scope.spawn(move || {
                let from = format!("sender-{number}@sender.test");
                let body = if number % 2 == 0 { "Small." } else { large };
                let subject = format!("Gathering {number}");
                let headers = [("From", from.as_str()), ("To", to), ("Subject", &subject)];
                server.deliver(&from, to, message::with_headers(&headers, body));
            });
        }
    });
    let inbox = client.mailbox("inbox");
    eventually("all are filed", || (client.query(json!({ "inMailbox": inbox })).len() == 8).then_some(()));
    assert_eq!(client.query(json!({ "subject": "gathering" })).len(), 8);
    for number in 0..8 {
        sink.wait_for(&format!("sender-{number}@sender.test"));
    }
    send(&client, "zoe@sender.test", "Sent", json!({}));
    sink.wait_for("zoe@sender.test");
    let api = Api::new(&server, &client.address, &[]);
    let events = eventually("all is told in the log", || {
        let page = api.get("/events?types=message.received,message.delivered");
        let list = page["events"].as_array().expect("events").clone();
        (list.len() >= 9).then_some(list)
    });
    assert!(events.iter().any(|event| event["type"] == "message.delivered"), "{events:?}");
}

#[test]
fn mail_goes_to_a_second_instance_found_by_mx_and_back() {
    let (first_port, second_port) = (free_port(), free_port());
    let first =
        Server::builder().smtp_port(first_port).env("POSTRIDER_MX_PORT", second_port.to_string()).start();
    let second_host = Ipv4Addr::new(127, 0, 0, 2);
    let second = Server::builder()
        .host(second_host, "mx.second.test")
        .smtp_port(second_port)
        .env("POSTRIDER_MX_PORT", first_port.to_string())
        .without_domain()
        .start();
    second.cli(&["domain", "add", "second.test"]);
    second.cli(&["account", "add", "dora@second.test", "--password", crate::support::server::PASSWORD]);
    first.dns.add_mail_host("second.test", "mx.second.test", second_host.into());
    second.dns.add_mail_host(DOMAIN, "mx.example.test", Ipv4Addr::LOCALHOST.into());

    let alice = first.account_named("alice");
    let dora = second.sign_in("dora@second.test");
    send(&alice, "dora@second.test", "there", json!({}));
    let there = dora.wait_for_subject("there");
    let there = dora.get(
        "Email",
        &there,
        &["from", "messageId", "mailboxIds", "header:Authentication-Results:asText"],
    );
    assert_eq!(there["from"][0]["email"], json!(alice.address));
    assert_eq!(there["mailboxIds"], json!({ dora.mailbox("inbox"): true }));

    let ids = there["messageId"].clone();
    send(&dora, &alice.address, "Re: there", json!({ "inReplyTo": ids, "references": ids }));
    let back = alice.wait_for_subject("Re: there");
    let back = alice.get("Email", &back, &["threadId", "inReplyTo"]);
    assert_eq!(back["inReplyTo"], there["messageId"]);
    let thread = alice.get("Thread", back["threadId"].as_str().expect("threadId"), &["emailIds"]);
    assert_eq!(
        thread["emailIds"].as_array().map(Vec::len),
        Some(2),
        "sent and received are one thread: {thread}"
    );
}

#[test]
fn mail_between_accounts_does_not_leave_the_machine() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    send(&alice, &bob.address, "next door", json!({}));
    let id = bob.wait_for_subject("next door");
    let email = bob.get("Email", &id, &["from", "mailboxIds"]);
    assert_eq!(email["from"][0]["email"], json!(alice.address));
    assert!(!server.dns.was_asked(DOMAIN), "looked up the MX of a local domain");
}
