//! RFC 8621, section 7: submissions, and how they leave.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::jmap::{Client, SUBMISSION, VACATION, id_of, plain_email};
use crate::support::server::Server;
use crate::support::smtp_sink::{Sink, Stage, Step};

/// A server whose outgoing mail goes to a sink.
fn with_sink() -> (Server, Sink) {
    let sink = Sink::start();
    let server =
        Server::builder().env("POSTRIDER_RELAY", sink.relay()).env("POSTRIDER_RETRY_FIRST", "1s").start();
    (server, sink)
}

fn identity(client: &Client) -> String {
    id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0])
}

fn draft(client: &Client, subject: &str) -> String {
    id_of(&client.create("Email", plain_email(&client.mailbox("drafts"), &client.address, subject, "text")))
}

/// Submits an Email; the id of the submission.
#[track_caller]
fn submit(client: &Client, email: &str, more: Value) -> String {
    let mut submission = json!({ "emailId": email, "identityId": identity(client) });
    for (name, value) in more.as_object().into_iter().flatten() {
        submission[name] = value.clone();
    }
    id_of(&client.create("EmailSubmission", submission))
}

fn envelope(client: &Client, to: &[&str]) -> Value {
    let to: Vec<Value> = to.iter().map(|to| json!({ "email": to, "parameters": null })).collect();
    json!({ "envelope": { "mailFrom": { "email": client.address, "parameters": null }, "rcptTo": to } })
}

fn wait_delivered(client: &Client, submission: &str, to: &str, delivered: &str) -> Value {
    eventually(&format!("{to} is {delivered}"), || {
        let status = client.get("EmailSubmission", submission, &["deliveryStatus", "undoStatus"]);
        (status["deliveryStatus"][to]["delivered"] == delivered).then(|| status.clone())
    })
}

#[test]
fn submissions_are_made_listed_and_forgotten() {
    let (server, sink) = with_sink();
    let client = server.account();
    let email = draft(&client, "made");
    let state = client.state("EmailSubmission");
    let id = submit(&client, &email, json!({}));
    sink.wait_for("somebody@elsewhere.test");
    // What the sink has is written a moment later.
    wait_delivered(&client, &id, "somebody@elsewhere.test", "unknown");
    let got = client.get_with("EmailSubmission", &id, json!({}));
    assert_eq!((&got["emailId"], &got["identityId"]), (&json!(email), &json!(identity(&client))));
    assert_eq!(got["threadId"], client.get("Email", &email, &["threadId"])["threadId"]);
    assert_eq!(got["envelope"]["mailFrom"]["email"], json!(client.address));
    assert_eq!(got["envelope"]["rcptTo"][0]["email"], "somebody@elsewhere.test");
    assert!(got["sendAt"].is_string());
    assert_eq!((&got["dsnBlobIds"], &got["mdnBlobIds"]), (&json!([]), &json!([])));
    let query = |filter: Value| {
        crate::support::jmap::strings(
            &client.call("EmailSubmission/query", json!({ "filter": filter }))["ids"],
        )
    };
    assert_eq!(query(json!({ "emailIds": [email] })), [id.clone()]);
    assert_eq!(query(json!({ "identityIds": [identity(&client)], "undoStatus": "final" })), [id.clone()]);
    assert_eq!(query(json!({ "threadIds": [got["threadId"]] })), [id.clone()]);
    assert_eq!(query(json!({ "before": "2020-01-01T00:00:00Z" })), Vec::<String>::new());
    let changes = client.call("EmailSubmission/changes", json!({ "sinceState": state }));
    assert_eq!(changes["created"], json!([id]));
    assert_eq!(
        client.update_error("EmailSubmission", &id, json!({ "undoStatus": "canceled" }))["type"],
        "cannotUnsend"
    );
    client.destroy("EmailSubmission", &id);
    assert_eq!(client.call("EmailSubmission/get", json!({ "ids": [id] }))["notFound"], json!([id]));
}

#[test]
fn wrong_submissions_are_refused() {
    let client = Server::shared().account();
    let email = draft(&client, "wrong");
    let identity = identity(&client);
    let no_recipients = {
        let mut email = plain_email(&client.mailbox("drafts"), &client.address, "nobody", "text");
        email["to"] = json!([]);
        id_of(&client.create("Email", email))
    };
    let foreign = id_of(
        &client.create("Email", plain_email(&client.mailbox("drafts"), "boss@bank.test", "forged", "text")),
    );
    for (object, kind) in [
        (json!({ "identityId": identity }), "invalidProperties"),
        (json!({ "emailId": "nobody", "identityId": identity }), "invalidProperties"),
        (json!({ "emailId": email }), "invalidProperties"),
        (json!({ "emailId": email, "identityId": "nobody" }), "invalidProperties"),
        (json!({ "emailId": no_recipients, "identityId": identity }), "noRecipients"),
        (json!({ "emailId": foreign, "identityId": identity }), "forbiddenFrom"),
        (json!({ "emailId": email, "identityId": identity, "undoStatus": "final" }), "invalidProperties"),
        (
            json!({ "emailId": email, "identityId": identity, "envelope": {
            "mailFrom": { "email": "boss@bank.test" }, "rcptTo": [{ "email": "a@x.test" }] } }),
            "forbiddenMailFrom",
        ),
        (
            json!({ "emailId": email, "identityId": identity, "envelope": {
            "mailFrom": { "email": client.address }, "rcptTo": [] } }),
            "noRecipients",
        ),
        (
            json!({ "emailId": email, "identityId": identity, "envelope": {
            "mailFrom": { "email": client.address }, "rcptTo": [{ "email": "not an address" }] } }),
            "invalidRecipients",
        ),
    ] {
        let error = client.create_error("EmailSubmission", object.clone());
        assert_eq!(error["type"], kind, "{object}: {error}");
        if kind == "invalidRecipients" {
            assert_eq!(error["invalidRecipients"], json!(["not an address"]));
        }
    }
}

#[test]
fn temporary_failures_are_tried_again() {
    let (server, sink) = with_sink();
    let client = server.account();
    for (stage, step) in [
        (Stage::Greeting, Step::Reply("421 4.3.2 not now")),
        (Stage::Mail, Step::Reply("451 4.3.0 later")),
        (Stage::Recipient, Step::Reply("450 4.2.1 busy")),
        (Stage::Data, Step::Disconnect),
        (Stage::Message, Step::Reply("452 4.3.1 full")),
    ] {
        let before = sink.deliveries().len();
        sink.fail(stage, step, 1);
        let subject = format!("again {stage:?}");
        let email = draft(&client, &subject);
        let id = submit(&client, &email, json!({}));
        sink.wait_for_count(before + 1);
        wait_delivered(&client, &id, "somebody@elsewhere.test", "unknown");
    }
    assert_eq!(sink.deliveries().len(), 5, "each is delivered once");
}

#[test]
fn permanent_failures_come_back_as_reports() {
    let (server, sink) = with_sink();
    let client = server.account();
    sink.script(|stage, line| match stage {
        Stage::Recipient if line.contains("gone@") => Step::Reply("550 5.1.1 nobody here by that name"),
        _ => Step::Accept,
    });
    let email = draft(&client, "to two");
    let id = submit(&client, &email, envelope(&client, &["gone@elsewhere.test", "here@elsewhere.test"]));
    let failed = wait_delivered(&client, &id, "gone@elsewhere.test", "no");
    let reply =
        failed["deliveryStatus"]["gone@elsewhere.test"]["smtpReply"].as_str().unwrap_or_default().to_owned();
    assert!(reply.starts_with("550") && reply.contains("nobody here"), "{reply}");
    wait_delivered(&client, &id, "here@elsewhere.test", "unknown");
    let inbox = client.mailbox("inbox");
    let report = client.wait_for_emails(json!({ "inMailbox": inbox }), 1).remove(0);
    let email = client.get_with("Email", &report, json!({ "properties": ["from", "subject", "bodyStructure", "header:Auto-Submitted:asText", "header:Return-Path", "blobId"] }));
    assert_eq!(email["bodyStructure"]["type"], "multipart/report");
    assert_eq!(email["bodyStructure"]["subParts"][1]["type"], "message/delivery-status");
    assert_eq!(email["header:Return-Path"], " <>");
    assert!(email["header:Auto-Submitted:asText"].is_string());
    let raw =
        String::from_utf8_lossy(&client.download(email["blobId"].as_str().expect("blobId"))).into_owned();
    assert!(raw.contains("gone@elsewhere.test") && raw.contains("5.1.1"), "{raw}");
    assert!(!raw.contains("Final-Recipient: rfc822; here@elsewhere.test"), "{raw}");
    assert_eq!(sink.deliveries().len(), 1);
    let submission = client.get("EmailSubmission", &id, &["dsnBlobIds"]);
    assert_eq!(submission["dsnBlobIds"].as_array().map(Vec::len), Some(1), "{submission}");
}

#[test]
fn delayed_mail_waits_and_can_be_cancelled() {
    let (server, sink) = with_sink();
    let client = server.account();
    let hold = |seconds: &str, email: &str| {
        let mut more = envelope(&client, &["later@elsewhere.test"]);
        more["envelope"]["mailFrom"]["parameters"] = json!({ "HOLDFOR": seconds });
        submit(&client, email, more)
    };
    let cancelled = hold("3600", &draft(&client, "cancelled"));
    let got = client.get("EmailSubmission", &cancelled, &["undoStatus", "sendAt"]);
    assert_eq!(got["undoStatus"], "pending");
    client.update("EmailSubmission", &cancelled, json!({ "undoStatus": "canceled" }));
    assert_eq!(client.get("EmailSubmission", &cancelled, &["undoStatus"])["undoStatus"], "canceled");
    let start = std::time::Instant::now();
    let held = hold("2", &draft(&client, "held"));
    assert_eq!(client.get("EmailSubmission", &held, &["undoStatus"])["undoStatus"], "pending");
    let delivery = sink.wait_for("later@elsewhere.test");
    assert!(start.elapsed() >= Duration::from_millis(1_500), "sent at once");
    assert!(delivery.text().contains("Subject: held"));
    assert!(!delivery.from_parameters.contains("HOLD"), "{}", delivery.from_parameters);
    assert_eq!(sink.deliveries().len(), 1, "the cancelled one left");
}

#[test]
fn success_updates_and_destroys_emails() {
    let (server, sink) = with_sink();
    let client = server.account();
    let email = draft(&client, "destroyed on success");
    let answers = client.calls(json!([["EmailSubmission/set", {
        "accountId": client.account,
        "create": { "a": { "emailId": email, "identityId": identity(&client) }, "bad": { "emailId": "nobody", "identityId": identity(&client) } },
        "onSuccessDestroyEmail": ["#a", "#bad"],
    }, "0"]]));
    let names: Vec<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
    assert_eq!(names, ["EmailSubmission/set", "Email/set"], "{answers:?}");
    assert_eq!(answers[1].call_id, "0");
    assert_eq!(answers[1].arguments["destroyed"], json!([email]));
    let delivery = sink.wait_for("somebody@elsewhere.test");
    assert!(delivery.text().contains("Subject: destroyed on success"), "a destroyed mail still goes out");
}

#[test]
fn one_connection_serves_one_host_and_line_ends_are_mended() {
    let (server, sink) = with_sink();
    let client = server.account();
    let blob = client.upload(
        "message/rfc822",
        format!("From: {}\nTo: a@elsewhere.test\nSubject: bare\n\none\rtwo\n.three\n", client.address),
    );
    let answer = client.call("Email/import", json!({ "emails": { "i": { "blobId": blob["blobId"], "mailboxIds": { client.mailbox("drafts"): true } } } }));
    let email = id_of(&answer["created"]["i"]);
    submit(&client, &email, envelope(&client, &["a@elsewhere.test", "b@elsewhere.test", "c@elsewhere.test"]));
    let delivery = sink.wait_for("c@elsewhere.test");
    assert_eq!(delivery.to.len(), 3, "one transaction for all: {:?}", delivery.to);
    let text = delivery.text();
    assert!(text.ends_with("\r\n\r\none\r\ntwo\r\n.three\r\n"), "{text:?}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
}

#[test]
fn peers_without_extensions_get_what_they_can_read() {
    let (server, sink) = with_sink();
    let client = server.account();
    sink.set_extensions(&[]);
    let blob = client.upload("message/rfc822", format!("From: {}\r\nTo: a@elsewhere.test\r\nSubject: eight\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n", client.address));
    let answer = client.call("Email/import", json!({ "emails": { "i": { "blobId": blob["blobId"], "mailboxIds": { client.mailbox("drafts"): true } } } }));
    submit(&client, &id_of(&answer["created"]["i"]), json!({}));
    let delivery = sink.wait_for("a@elsewhere.test");
    assert!(delivery.message.is_ascii(), "{}", delivery.text());
    assert!(!delivery.from_parameters.contains("8BITMIME"));
    let email = draft(&client, "to a foreign local part");
    let id = submit(&client, &email, envelope(&client, &["пётр@elsewhere.test"]));
    let status = wait_delivered(&client, &id, "пётр@elsewhere.test", "no");
    assert!(status.to_string().contains("5.6.7"), "{status}");
}

#[test]
fn starttls_is_used_where_it_is_offered() {
    let sink = Sink::start_tls();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let client = server.account();
    submit(&client, &draft(&client, "secret"), json!({}));
    assert!(sink.wait_for("somebody@elsewhere.test").tls, "sent in the clear");
}

#[test]
fn the_relay_is_given_its_password() {
    let sink = Sink::start();
    sink.set_extensions(&["AUTH PLAIN LOGIN", "8BITMIME"]);
    let relay = format!("smtp://user:p%40ss@{}", sink.address());
    let server = Server::builder().env("POSTRIDER_RELAY", relay).start();
    let client = server.account();
    submit(&client, &draft(&client, "with a password"), json!({}));
    let delivery = sink.wait_for("somebody@elsewhere.test");
    assert_eq!(delivery.auth.as_deref(), Some("AHVzZXIAcEBzcw=="));
}

#[test]
fn the_session_tells_what_can_be_asked_for() {
    let client = Server::shared().account();
    for capability in [SUBMISSION, VACATION] {
        assert_eq!(client.session["capabilities"][capability], json!({}), "{capability}");
    }
    let capabilities = &client.session["accounts"][&client.account]["accountCapabilities"];
    assert_eq!(capabilities[VACATION], json!({}));
    let submission = &capabilities[SUBMISSION];
    assert!(submission["maxDelayedSend"].as_u64() >= Some(86_400), "{submission}");
    let extensions = submission["submissionExtensions"].as_object().expect("an object");
    for (name, arguments) in extensions {
        assert!(arguments.as_array().is_some_and(|all| all.iter().all(Value::is_string)), "{name}");
    }
    for offered in ["FUTURERELEASE", "DSN", "SIZE", "8BITMIME", "SMTPUTF8"] {
        assert!(extensions.contains_key(offered), "{offered}: {submission}");
    }
    for hidden in ["PIPELINING", "CHUNKING", "STARTTLS", "AUTH", "ENHANCEDSTATUSCODES"] {
        assert!(!extensions.contains_key(hidden), "{hidden} is of the transport");
    }
}

#[test]
fn replies_of_several_lines_become_one() {
    let (server, sink) = with_sink();
    let client = server.account();
    let reply = "550-5.7.1 Our system has detected that this message is\r\n550 5.7.1 likely spam.";
    sink.fail(Stage::Message, Step::Reply(reply), 1);
    let id = submit(&client, &draft(&client, "spam"), json!({}));
    let shown = wait_delivered(&client, &id, "somebody@elsewhere.test", "no");
    assert_eq!(
        shown["deliveryStatus"]["somebody@elsewhere.test"]["smtpReply"],
        "550 5.7.1 Our system has detected that this message is likely spam."
    );
    assert_eq!(shown["undoStatus"], "final");
}

#[test]
fn mail_that_is_no_draft_can_be_sent_again() {
    let (server, sink) = with_sink();
    let client = server.account();
    let sent = draft(&client, "sent twice");
    client.update("Email", &sent, json!({ "keywords/$draft": null, "keywords/$seen": true }));
    submit(&client, &sent, envelope(&client, &["first@elsewhere.test"]));
    submit(&client, &sent, envelope(&client, &["second@elsewhere.test"]));
    let (first, second) = (sink.wait_for("first@elsewhere.test"), sink.wait_for("second@elsewhere.test"));
    let body = |text: String| text[text.find("\r\nFrom:").expect("a From field")..].to_owned();
    assert_eq!(body(first.text()), body(second.text()));
}

#[test]
fn submissions_check_the_state_and_the_rights() {
    let server = Server::shared();
    let (owner, reader) = (server.account(), server.account());
    let state = owner.state("EmailSubmission");
    let submission = json!({ "emailId": draft(&owner, "checked"), "identityId": identity(&owner), "envelope": {
        "mailFrom": { "email": owner.address }, "rcptTo": [{ "email": owner.address }] } });
    owner.create("EmailSubmission", submission.clone());
    let stale = json!({ "ifInState": state, "create": { "s": submission } });
    assert_eq!(owner.error("EmailSubmission/set", stale), "stateMismatch");
    server.cli(&["access", "grant", &reader.address, &owner.address, "--read-only"]);
    let reader = server.sign_in(&reader.address).in_account(&owner.account);
    for (method, create) in [
        ("EmailSubmission/set", submission),
        ("Identity/set", json!({ "email": owner.address })),
        ("VacationResponse/set", json!({})),
    ] {
        assert_eq!(reader.error(method, json!({ "create": { "x": create } })), "accountReadOnly", "{method}");
    }
    assert_eq!(reader.get("Identity", &identity(&owner), &["mayDelete"])["mayDelete"], false);
}

#[test]
fn submissions_are_sorted_by_each_property() {
    let client = Server::shared().account();
    let hold = |seconds: &str| {
        let mut more = envelope(&client, &["later@elsewhere.test"]);
        more["envelope"]["mailFrom"]["parameters"] = json!({ "HOLDFOR": seconds });
        submit(&client, &draft(&client, &format!("held for {seconds}")), more)
    };
    let made = [hold("7200"), hold("3600"), hold("10800")];
    // Ids are in the order in which objects are made.
    for (property, order) in [("emailId", [0, 1, 2]), ("threadId", [0, 1, 2]), ("sentAt", [1, 0, 2])] {
        for is_ascending in [true, false] {
            let mut wanted: Vec<&String> = order.iter().map(|place| &made[*place]).collect();
            if !is_ascending {
                wanted.reverse();
            }
            let sort = json!([{ "property": property, "isAscending": is_ascending }]);
            let found = client.call("EmailSubmission/query", json!({ "sort": sort }));
            assert_eq!(found["ids"], json!(wanted), "{property} {is_ascending}");
        }
    }
}
