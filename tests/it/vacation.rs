//! Vacation responses (RFC 8621, 8): who is answered, when, and with what.

use serde_json::json;

use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::message;
use crate::support::server::Server;
use crate::support::smtp_sink::Sink;

/// A server whose outgoing mail goes to a sink.
fn with_sink() -> (Server, Sink) {
    let sink = Sink::start();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    (server, sink)
}

/// Sends a mail of the user's own, so that all that was to go before it has gone.
fn submit_last(client: &Client, sink: &Sink) {
    let email = plain_email(&client.mailbox("drafts"), &client.address, "last", "text");
    let email = id_of(&client.create("Email", email));
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    client.create("EmailSubmission", json!({ "emailId": email, "identityId": identity }));
    sink.wait_for("somebody@elsewhere.test");
}

/// A stranger writes; waits until the mail is there.
fn arrives(server: &Server, client: &Client, from: &str) {
    let subject = message::unique("question ");
    server.deliver(from, &client.address, message::text(from, &client.address, &subject, "hello"));
    client.wait_for_subject(&subject);
}

#[test]
fn vacations_answer_once_and_never_to_machines() {
    let (server, sink) = with_sink();
    let client = server.account();
    let get = client.call("VacationResponse/get", json!({ "ids": null }));
    assert_eq!(get["list"][0]["id"], "singleton");
    assert_eq!(get["list"][0]["isEnabled"], false);
    assert_eq!(client.create_error("VacationResponse", json!({ "isEnabled": true }))["type"], "singleton");
    let answer = client.call("VacationResponse/set", json!({ "destroy": ["singleton"] }));
    assert_eq!(answer["notDestroyed"]["singleton"]["type"], "singleton");
    client.update("VacationResponse", "singleton", json!({ "isEnabled": true, "subject": "Weg bis Märza", "textBody": "Ich bin weg.", "htmlBody": null, "fromDate": null, "toDate": null }));
    let deliver = |from: &str, headers: &[(&str, &str)]| {
        let subject = message::unique("vacation ");
        let mut all = vec![("From", from), ("To", client.address.as_str()), ("Subject", subject.as_str())];
        all.extend_from_slice(headers);
        let envelope = if headers.iter().any(|(name, _)| *name == "X-Null") { "" } else { from };
        server.deliver(envelope, &client.address, message::with_headers(&all, "hello"));
        client.wait_for_subject(&subject);
    };
    deliver("list@elsewhere.test", &[("List-Id", "<l.elsewhere.test>")]);
    deliver("bulk@elsewhere.test", &[("Precedence", "bulk")]);
    deliver("robot@elsewhere.test", &[("Auto-Submitted", "auto-generated")]);
    deliver("mailer-daemon@elsewhere.test", &[]);
    deliver("owner-list@elsewhere.test", &[]);
    deliver("null@elsewhere.test", &[("X-Null", "1")]);
    deliver("friend@elsewhere.test", &[("Message-ID", "<q@elsewhere.test>")]);
    deliver("friend@elsewhere.test", &[]);
    let answer = sink.wait_for("friend@elsewhere.test");
    assert_eq!(answer.from, "", "RFC 3834, 3.3 advises the null sender");
    let text = answer.text();
    assert!(text.to_ascii_lowercase().contains("auto-submitted: auto-replied"), "{text}");
    assert!(text.contains("In-Reply-To: <q@elsewhere.test>"), "{text}");
    assert!(text.contains("Ich bin weg."), "{text}");
    // Nothing else is on its way: the next ordinary mail comes through.
    submit_last(&client, &sink);
    let recipients: Vec<String> = sink.deliveries().into_iter().flat_map(|delivery| delivery.to).collect();
    assert_eq!(recipients, ["friend@elsewhere.test", "somebody@elsewhere.test"]);
}

#[test]
fn there_is_one_object_and_no_other() {
    let client = Server::shared().account();
    let all = client.call("VacationResponse/get", json!({ "ids": null }));
    assert_eq!(all["list"].as_array().map(Vec::len), Some(1), "{all}");
    let off = json!({
        "id": "singleton", "isEnabled": false, "fromDate": null, "toDate": null, "subject": null,
        "textBody": null, "htmlBody": null,
    });
    assert_eq!(all["list"][0].as_object(), off.as_object());
    let one = client.call("VacationResponse/get", json!({ "ids": ["singleton", "other"] }));
    assert_eq!(one["list"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["notFound"], json!(["other"]));
    let events = client.events("VacationResponse", "no", 0);
    client.update("VacationResponse", "singleton", json!({ "subject": "Away" }));
    let state = client.state("VacationResponse");
    assert_ne!(Some(&json!(state)), all.get("state"));
    let told = events.wait_for("the change", |event| event.state_of(&client.account, "VacationResponse"));
    assert_eq!(told, state);
    assert_eq!(client.error("VacationResponse/changes", json!({ "sinceState": state })), "unknownMethod");
}

#[test]
fn dates_bound_the_time_in_which_answers_go() {
    let (server, sink) = with_sink();
    let client = server.account();
    let set = |from: Option<&str>, to: Option<&str>| {
        let patch = json!({ "isEnabled": true, "textBody": "Away.", "fromDate": from, "toDate": to });
        client.update("VacationResponse", "singleton", patch);
    };
    set(Some("2999-01-01T00:00:00Z"), None);
    arrives(&server, &client, "early@elsewhere.test");
    set(None, Some("2020-01-01T00:00:00Z"));
    arrives(&server, &client, "late@elsewhere.test");
    set(Some("2020-01-01T00:00:00Z"), Some("2999-01-01T00:00:00Z"));
    arrives(&server, &client, "within@elsewhere.test");
    sink.wait_for("within@elsewhere.test");
    client.update("VacationResponse", "singleton", json!({ "isEnabled": false }));
    arrives(&server, &client, "off@elsewhere.test");
    submit_last(&client, &sink);
    let answered: Vec<String> = sink.deliveries().into_iter().flat_map(|delivery| delivery.to).collect();
    assert_eq!(answered, ["within@elsewhere.test", "somebody@elsewhere.test"]);
}

#[test]
fn what_the_user_leaves_out_is_made_up() {
    let (server, sink) = with_sink();
    let client = server.account();
    client.update("VacationResponse", "singleton", json!({ "isEnabled": true }));
    arrives(&server, &client, "nothing@elsewhere.test");
    let answer = sink.wait_for("nothing@elsewhere.test").text();
    let (header, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(header.contains("\r\nSubject: ") && !body.trim().is_empty(), "{answer}");
    let html = json!({ "htmlBody": "<p>Back on <b>Monday</b></p>" });
    client.update("VacationResponse", "singleton", html);
    arrives(&server, &client, "html@elsewhere.test");
    let answer = sink.wait_for("html@elsewhere.test").text();
    assert!(answer.contains("text/plain") && answer.contains("text/html"), "{answer}");
    assert!(answer.contains("Back on Monday") && answer.contains("<b>Monday</b>"), "{answer}");
    let both =
        json!({ "subject": "Gone fishing", "textBody": "plain words", "htmlBody": "<i>other words</i>" });
    client.update("VacationResponse", "singleton", both);
    arrives(&server, &client, "both@elsewhere.test");
    let answer = sink.wait_for("both@elsewhere.test").text();
    assert!(answer.contains("Subject: Gone fishing\r\n"), "{answer}");
    assert!(answer.contains("plain words") && answer.contains("<i>other words</i>"), "{answer}");
}
