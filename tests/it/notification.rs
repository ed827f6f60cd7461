//! Delivery reports: asked for, made, passed on, and entered into submissions (RFC 3461, 3464, 8098).

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::message;
use crate::support::server::{PASSWORD, Server};
use crate::support::smtp::Smtp;
use crate::support::smtp_sink::Sink;

/// A server whose outgoing mail goes to a sink, which knows no DSN until it is told to.
fn with_sink() -> (Server, Sink) {
    let sink = Sink::start();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    (server, sink)
}

/// Submits a mail over JMAP; the id of the submission.
fn submit(client: &Client, subject: &str, to: &str, from_parameters: Value, to_parameters: Value) -> String {
    let mut email = plain_email(&client.mailbox("drafts"), &client.address, subject, "text");
    email["messageId"] = json!([format!("{}@example.test", subject.replace(' ', "-"))]);
    let email = id_of(&client.create("Email", email));
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    let envelope = json!({
        "mailFrom": { "email": client.address, "parameters": from_parameters },
        "rcptTo": [{ "email": to, "parameters": to_parameters }],
    });
    let submission = json!({ "emailId": email, "identityId": identity, "envelope": envelope });
    id_of(&client.create("EmailSubmission", submission))
}

/// The newest mail in the inbox, as it stands in the store, once there are so many.
fn inbox(client: &Client, count: usize) -> String {
    let inbox = client.mailbox("inbox");
    let newest = client.wait_for_emails(json!({ "inMailbox": inbox }), count).remove(0);
    let blob = client.get("Email", &newest, &["blobId"])["blobId"].clone();
    String::from_utf8_lossy(&client.download(blob.as_str().unwrap_or_default())).into_owned()
}

fn status(client: &Client, submission: &str, to: &str, name: &str, wanted: &str) -> Value {
    eventually(&format!("{name} of {to} to be {wanted}"), || {
        let shown =
            client.get("EmailSubmission", submission, &["deliveryStatus", "dsnBlobIds", "mdnBlobIds"]);
        (shown["deliveryStatus"][to][name] == wanted).then(|| shown.clone())
    })
}

#[test]
fn success_is_told_to_who_asks_on_the_submission_port() {
    let (server, sink) = with_sink();
    let (client, bob) = (server.account(), server.account());
    let mut smtp = Smtp::connect(server.submission());
    assert!(smtp.ehlo().offers("DSN"));
    smtp.auth_plain(&client.address, PASSWORD).expect(235);
    smtp.command(&format!("MAIL FROM:<{}> RET=HDRS ENVID=mark+2B1", client.address)).expect(250);
    smtp.command(&format!("RCPT TO:<{}> NOTIFY=SUCCESS ORCPT=rfc822;bob@first.test", bob.address))
        .expect(250);
    smtp.command("RCPT TO:<far@elsewhere.test> NOTIFY=SUCCESS,FAILURE").expect(250);
    smtp.command("RCPT TO:<silent@elsewhere.test> NOTIFY=NEVER").expect(250);
    smtp.command("DATA").expect(354);
    let mail = message::text(&client.address, "bob@first.test", "asked", "the body");
    smtp.send_raw(format!("{mail}.\r\n").as_bytes()).expect("sends");
    smtp.reply().expect(250);
    assert_eq!(sink.wait_for("far@elsewhere.test").to.len(), 2);
    let inbox = client.mailbox("inbox");
    let reports = client.wait_for_emails(json!({ "inMailbox": inbox }), 2);
    let texts: Vec<String> = reports
        .iter()
        .map(|id| {
            let blob = client.get("Email", id, &["blobId"])["blobId"].clone();
            String::from_utf8_lossy(&client.download(blob.as_str().unwrap_or_default())).into_owned()
        })
        .collect();
    let here = texts.iter().find(|text| text.contains("Action: delivered")).expect("of the mailbox here");
    assert!(here.contains("Original-Recipient: rfc822; bob@first.test\r\n"), "{here}");
    assert!(here.contains(&format!("Final-Recipient: rfc822; {}\r\n", bob.address)), "{here}");
    assert!(here.contains("Original-Envelope-Id: mark+1\r\n") && !here.contains("the body"), "{here}");
    let far = texts.iter().find(|text| text.contains("Action: relayed")).expect("of the server without DSN");
    assert!(far.contains("Final-Recipient: rfc822; far@elsewhere.test\r\n"), "{far}");
    assert!(!far.contains("silent@"), "{far}");
}

#[test]
fn a_server_with_the_extension_is_given_what_was_asked() {
    let (server, sink) = with_sink();
    sink.set_extensions(&["PIPELINING", "8BITMIME", "DSN"]);
    let client = server.account();
    let to = json!({ "NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;first@x.test" });
    let from = json!({ "RET": "FULL", "ENVID": "mine" });
    submit(&client, "passed on", "far@elsewhere.test", from, to);
    let delivery = sink.wait_for("far@elsewhere.test");
    assert!(delivery.from_parameters.contains("RET=FULL"), "{}", delivery.from_parameters);
    assert!(delivery.from_parameters.contains("ENVID=mine"), "{}", delivery.from_parameters);
    let rcpt = sink.wait_for_line("RCPT TO:<far@elsewhere.test>");
    assert!(rcpt.contains("NOTIFY=SUCCESS,DELAY") && rcpt.contains("ORCPT=rfc822;first@x.test"), "{rcpt}");
    assert!(client.query(json!({ "inMailbox": client.mailbox("inbox") })).is_empty(), "the server tells");
}

#[test]
fn reports_that_come_back_are_entered() {
    let (server, sink) = with_sink();
    let client = server.account();
    let to = "far@elsewhere.test";
    let id = submit(&client, "followed", to, Value::Null, Value::Null);
    sink.wait_for(to);
    status(&client, &id, to, "delivered", "unknown");
    let report = |kind: &str, part: &str, fields: &str| {
        format!(
            "From: mx@elsewhere.test\r\nTo: {}\r\nSubject: report\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type={kind}; boundary=b\r\n\r\n--b\r\n\r\nwords\r\n\
             --b\r\nContent-Type: {part}\r\n\r\n{fields}\r\n--b--\r\n",
            client.address
        )
    };
    let dsn = |action: &str, code: &str| {
        let fields = format!(
            "Original-Envelope-Id: {id}\r\n\r\nFinal-Recipient: rfc822; {to}\r\nAction: {action}\r\nStatus: {code}\r\n"
        );
        report("delivery-status", "message/delivery-status", &fields)
    };
    let deliver = |text: String, count: usize| {
        server.deliver("", &client.address, text);
        inbox(&client, count)
    };
    deliver(dsn("delayed", "4.4.1"), 1);
    let shown = status(&client, &id, to, "delivered", "unknown");
    assert_eq!(shown["dsnBlobIds"].as_array().map(Vec::len), Some(1), "a delay decides nothing");
    let raw = deliver(dsn("delivered", "2.0.0"), 2);
    let shown = status(&client, &id, to, "delivered", "yes");
    assert_eq!(shown["deliveryStatus"][to]["displayed"], "unknown");
    let dsns = shown["dsnBlobIds"].as_array().cloned().unwrap_or_default();
    assert_eq!(dsns.len(), 2);
    let kept = client.download(dsns[1].as_str().unwrap_or_default());
    assert_eq!(String::from_utf8_lossy(&kept), raw, "whole, as received, the oldest first");
    let mdn = |disposition: &str| {
        let fields = format!(
            "Final-Recipient: rfc822; {to}\r\nOriginal-Message-ID: <followed@example.test>\r\n\
             Disposition: manual-action/MDN-sent-manually; {disposition}\r\n"
        );
        report("disposition-notification", "message/disposition-notification", &fields)
    };
    deliver(mdn("deleted"), 3);
    let shown = status(&client, &id, to, "displayed", "unknown");
    assert_eq!(shown["mdnBlobIds"].as_array().map(Vec::len), Some(1));
    deliver(mdn("displayed"), 4);
    let shown = status(&client, &id, to, "displayed", "yes");
    assert_eq!(shown["mdnBlobIds"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["dsnBlobIds"].as_array().map(Vec::len), Some(2));
}

#[test]
fn mail_within_the_server_is_known_to_have_arrived() {
    let (server, _sink) = with_sink();
    let (client, bob) = (server.account(), server.account());
    let id = submit(&client, "inside", &bob.address, Value::Null, json!({ "NOTIFY": "SUCCESS" }));
    status(&client, &id, &bob.address, "delivered", "yes");
    let told = inbox(&client, 1);
    assert!(told.contains("Action: delivered\r\n"), "{told}");
    let shown = client.get("EmailSubmission", &id, &["dsnBlobIds"]);
    assert_eq!(shown["dsnBlobIds"].as_array().map(Vec::len), Some(1), "{shown}");
}
