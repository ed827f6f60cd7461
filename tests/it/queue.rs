//! The queues as an operator sees them: one id from the reply to the end, and what dropping means.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::message;
use crate::support::server::{PASSWORD, Server};
use crate::support::smtp::Smtp;
use crate::support::smtp_sink::{Sink, Stage, Step};

/// A server whose outgoing mail goes to a sink that puts everything off.
fn stuck() -> (Server, Sink) {
    let sink = Sink::start();
    sink.fail(Stage::Mail, Step::Reply("451 4.3.0 later"), usize::MAX);
    let server =
        Server::builder().env("POSTRIDER_RELAY", sink.relay()).env("POSTRIDER_RETRY_FIRST", "1h").start();
    (server, sink)
}

fn submit(client: &Client, subject: &str, to: &[&str]) -> String {
    let email = plain_email(&client.mailbox("drafts"), &client.address, subject, "text");
    let email = id_of(&client.create("Email", email));
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    let to: Vec<Value> = to.iter().map(|to| json!({ "email": to })).collect();
    let envelope = json!({ "mailFrom": { "email": client.address }, "rcptTo": to });
    let submission = json!({ "emailId": email, "identityId": identity, "envelope": envelope });
    id_of(&client.create("EmailSubmission", submission))
}

/// The rows of the queue, once so many have been tried.
fn tried(server: &Server, count: usize) -> Vec<Value> {
    eventually("rows that were tried", || {
        let listed = server.cli_json(&["queue", "list", "--queue", "outgoing"]);
        let rows = listed.as_array()?.clone();
        let tried = rows.iter().filter(|row| row["reason"].is_string() && row["state"] == "waiting").count();
        (tried == count).then_some(rows)
    })
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{name}: {row}"))
}

#[test]
fn one_id_ties_reply_queue_and_logs() {
    let (server, _sink) = stuck();
    let client = server.account();
    let mut smtp = Smtp::connect(server.submission());
    smtp.ehlo();
    smtp.auth_plain(&client.address, PASSWORD).expect(235);
    let mail = message::text(&client.address, "a@elsewhere.test", "tied", "text");
    let reply = smtp.try_send(&client.address, &["a@elsewhere.test"], mail.as_bytes()).expect("a reply");
    let told = reply.text();
    let id = told.split_whitespace().last().unwrap_or_default().to_owned();
    let row = tried(&server, 1).remove(0);
    assert_eq!(text(&row, "message"), id, "{told}");
    let shown = server.cli(&["queue", "show", &id]);
    assert!(shown.contains("a@elsewhere.test") && shown.contains(&format!("id {id}")), "{shown}");
    let lines: Vec<String> =
        server.log().lines().filter(|line| line.contains(&id)).map(str::to_owned).collect();
    for wanted in ["queued", "delivery tried"] {
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}: {lines:?}");
    }
    server.cli(&["queue", "drop", &id]);
    assert_eq!(server.cli_json(&["queue", "list"]), json!([]));
}

#[test]
fn a_message_of_several_entries_is_told_apart() {
    let (server, _sink) = stuck();
    let client = server.account();
    let id = submit(&client, "two", &["a@elsewhere.test", "b@other.test"]);
    let rows = tried(&server, 2);
    assert!(rows.iter().all(|row| text(row, "message") == id), "{rows:?}");
    let answer = server.try_cli(&["queue", "drop", &id], "");
    let told = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(!answer.status.success(), "{told}");
    for row in &rows {
        assert!(told.contains(text(row, "id")), "{told}");
        server.cli(&["queue", "drop", text(row, "id")]);
    }
}

#[test]
fn what_is_dropped_is_shown_as_not_delivered_and_told() {
    let (server, _sink) = stuck();
    let client = server.account();
    let id = submit(&client, "dropped", &["a@elsewhere.test", "b@other.test"]);
    let rows = tried(&server, 2);
    let state = client.state("EmailSubmission");
    let events = client.events("EmailSubmission", "no", 0);
    let first = rows.iter().find(|row| row["recipients"][0] == "a@elsewhere.test").expect("the row");
    server.cli(&["queue", "drop", text(first, "id")]);
    events.wait_for("the change", |event| event.state_of(&client.account, "EmailSubmission"));
    let changes = client.call("EmailSubmission/changes", json!({ "sinceState": state }));
    assert_eq!(changes["updated"], json!([id]));
    let shown = client.get("EmailSubmission", &id, &["deliveryStatus", "undoStatus"]);
    assert_eq!(shown["undoStatus"], "final");
    let dropped = &shown["deliveryStatus"]["a@elsewhere.test"];
    assert_eq!(dropped["delivered"], "no");
    let reply = dropped["smtpReply"].as_str().unwrap_or_default();
    assert!(reply.starts_with("554 5.0.0 ") && reply.contains("operator"), "{reply}");
    assert_eq!(shown["deliveryStatus"]["b@other.test"]["delivered"], "queued");
}

#[test]
fn an_entry_can_be_shown_and_tried_at_once() {
    let (server, sink) = stuck();
    let client = server.account();
    let id = submit(&client, "retried", &["a@elsewhere.test"]);
    let row = tried(&server, 1).remove(0);
    assert_eq!(text(&row, "queue"), "outgoing");
    assert!(server.cli(&["queue", "show", text(&row, "id")]).contains("a@elsewhere.test"));
    sink.accept();
    server.cli(&["queue", "retry", text(&row, "id")]);
    sink.wait_for("a@elsewhere.test");
    eventually("the submission to know", || {
        let shown = client.get("EmailSubmission", &id, &["deliveryStatus"]);
        (shown["deliveryStatus"]["a@elsewhere.test"]["delivered"] == "unknown").then_some(())
    });
    assert_eq!(server.cli_json(&["queue", "list"]), json!([]));
}
