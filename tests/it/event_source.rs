//! RFC 8620, section 7: the event source.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::events::EventStream;
use crate::support::http::{Request, path_of};
use crate::support::message;
use crate::support::server::Server;

#[test]
fn changes_are_told_with_the_state_that_the_client_then_sees() {
    let client = Server::shared().account();
    let events = client.events("*", "no", 0);
    let kind =
        events.headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
    assert!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
    client.create_email(&client.mailbox("inbox"), "told", "text");
    let state = events.wait_for("Email", |event| event.state_of(&client.account, "Email"));
    assert_eq!(state, client.state("Email"));
    let event = {
        client.create_mailbox("told too");
        events.wait_for("Mailbox", |event| {
            let told = event.state_of(&client.account, "Mailbox")?;
            (told == client.state("Mailbox")).then(|| event.clone())
        })
    };
    assert_eq!(event.name, "state");
    assert_eq!(event.json()["@type"], "StateChange");
    assert!(event.id.is_some(), "an id for Last-Event-ID: {event:?}");
}

#[test]
fn only_the_types_asked_for_are_told() {
    let client = Server::shared().account();
    let mailboxes = client.events("Mailbox", "no", 0);
    let threads = client.events("Thread,EmailDelivery", "no", 0);
    client.create_mailbox("only");
    let event = mailboxes.wait_for("Mailbox", |event| (event.name == "state").then(|| event.clone()));
    let changed = event.json()["changed"][&client.account].clone();
    assert_eq!(
        changed.as_object().map(|types| types.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["Mailbox".into()])
    );
    assert_eq!(threads.next_within(Duration::from_millis(500)), None);
}

#[test]
fn delivery_is_told_for_new_mail_only() {
    let server = Server::shared();
    let client = server.account();
    let events = client.events("EmailDelivery", "no", 0);
    // Whatever adds an Email moves the state (RFC 8621, 1.5), and nothing else does.
    let id = client.create_email(&client.mailbox("drafts"), "a draft", "text");
    events.wait_for("EmailDelivery", |event| event.state_of(&client.account, "EmailDelivery"));
    client.update("Email", &id, json!({ "keywords/$seen": true }));
    client.destroy("Email", &id);
    while let Some(event) = events.next_within(Duration::from_millis(300)) {
        assert_eq!(event.state_of(&client.account, "EmailDelivery"), None, "{event:?}");
    }
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, "new", "x"),
    );
    events.wait_for("EmailDelivery", |event| event.state_of(&client.account, "EmailDelivery"));
}

#[test]
fn pings_come_at_the_interval_asked_for() {
    let client = Server::shared().account();
    let start = Instant::now();
    let events = client.events("*", "no", 1);
    let event = events.wait_for("ping", |event| (event.name == "ping").then(|| event.clone()));
    assert!(event.json()["interval"].as_u64().is_some(), "{event:?}");
    assert!(start.elapsed() > Duration::from_millis(500), "at once");
}

#[test]
fn close_after_state_closes_after_the_first_event() {
    let client = Server::shared().account();
    let events = client.events("*", "state", 0);
    client.create_mailbox("once");
    events.wait_for("state", |event| (event.name == "state").then_some(()));
    assert!(events.ended_within(Duration::from_secs(5)));
}

#[test]
fn what_was_missed_is_told_after_a_reconnect() {
    let server = Server::shared();
    let client = server.account();
    let path = path_of(client.session["eventSourceUrl"].as_str().expect("eventSourceUrl"))
        .replace("{types}", "*")
        .replace("{closeafter}", "no")
        .replace("{ping}", "0");
    let first = EventStream::open(server.http(), client.signed(Request::get(&path)));
    client.create_mailbox("seen");
    let id = first.wait_for("an id", |event| event.id.clone());
    drop(first);
    client.create_mailbox("missed");
    let request = client.signed(Request::get(&path)).header("Last-Event-ID", &id);
    let second = EventStream::open(server.http(), request);
    let told = second.wait_for("what was missed", |event| event.state_of(&client.account, "Mailbox"));
    assert_eq!(told, client.state("Mailbox"));
}

#[test]
fn all_accounts_of_a_login_are_told_and_no_others() {
    let server = Server::shared();
    let (client, shared, stranger) = (server.account(), server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &shared.address]);
    let events = client.events("*", "no", 0);
    stranger.create_mailbox("secret");
    shared.create_mailbox("shared");
    let event = events.wait_for("state", |event| (event.name == "state").then(|| event.clone()));
    let changed = event.json()["changed"].clone();
    assert!(changed.get(&shared.account).is_some(), "{changed}");
    assert!(changed.get(&stranger.account).is_none(), "{changed}");
}

#[test]
fn a_ticket_opens_the_event_source_again_and_again() {
    let server = Server::shared();
    let client = server.account();
    let asked = client.signed(Request::post("/jmap/ticket")).json(&json!({ "purpose": "eventSource" }));
    let ticket = server.request(asked).json()["ticket"].as_str().expect("ticket").to_owned();
    let path = path_of(client.session["eventSourceUrl"].as_str().expect("eventSourceUrl"))
        .replace("{types}", "*")
        .replace("{closeafter}", "no")
        .replace("{ping}", "0");
    for round in 0..2 {
        let events = EventStream::open(server.http(), Request::get(&format!("{path}&ticket={ticket}")));
        client.create_mailbox(&format!("round {round}"));
        events.wait_for("state", |event| event.state_of(&client.account, "Mailbox"));
    }
    let session = Request::get(&format!("/.well-known/jmap?ticket={ticket}"));
    assert_eq!(server.request(session).status, 401, "the ticket is for the event source alone");
}

#[test]
fn wrong_parameters_are_refused() {
    let server = Server::shared();
    let client = server.account();
    let path = path_of(client.session["eventSourceUrl"].as_str().expect("eventSourceUrl")).to_owned();
    for (types, close_after, ping) in [("*", "sometimes", "0"), ("*", "no", "often"), ("*", "no", "-1")] {
        let path =
            path.replace("{types}", types).replace("{closeafter}", close_after).replace("{ping}", ping);
        assert_eq!(server.request(client.signed(Request::get(&path))).status, 400, "{path}");
    }
}
