//! Secrets end when they should, and are written nowhere.

use serde_json::json;

use crate::support::http::{Request, basic, path_of};
use crate::support::jmap::Client;
use crate::support::server::{PASSWORD, Server};
use crate::support::smtp::Smtp;
use crate::support::{PATIENCE, eventually, message};

fn ticket(client: &Client) -> String {
    let asked = client.signed(Request::post("/jmap/ticket")).json(&json!({ "purpose": "eventSource" }));
    asked.send(client.server).json()["ticket"].as_str().expect("ticket").to_owned()
}

fn event_source(client: &Client, ticket: &str) -> Request {
    let url = client.session["eventSourceUrl"].as_str().expect("eventSourceUrl");
    let path = path_of(url).replace("{types}", "*").replace("{closeafter}", "state").replace("{ping}", "0");
    Request::get(&format!("{path}&ticket={ticket}"))
}

#[test]
fn a_ticket_ends_with_the_password_under_which_it_was_made() {
    let server = Server::shared();
    let client = server.account();
    let ticket = ticket(&client);
    let opened = |ticket: &str| event_source(&client, ticket).open(client.server).expect("an answer").0;
    assert_eq!(opened(&ticket), 200);
    let changed = server.try_cli(&["account", "password", &client.address, "--password", "another one"], "");
    assert!(changed.status.success(), "{changed:?}");
    eventually("the ticket is void", || (opened(&ticket) == 401).then_some(()));
    let renewed = Client { authorization: basic(&client.address, "another one"), ..client.clone() };
    assert_eq!(opened(&self::ticket(&renewed)), 200);
}

#[test]
fn an_open_stream_ends_with_the_password() {
    let server = Server::shared();
    let client = server.account();
    let events = client.events("*", "no", 0);
    server.cli(&["account", "password", &client.address, "--password", "another one"]);
    assert!(events.ended_within(PATIENCE), "whoever is connected goes on listening");
}

#[test]
fn a_submission_session_ends_with_its_password_or_its_right_to_an_account() {
    let server = Server::start();
    let (client, other) = (server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &other.address]);
    let open = |password: &str| {
        let mut session = Smtp::connect(server.submission());
        session.ehlo();
        session.auth_plain(&client.address, password).expect(235);
        session
    };
    let send = |session: &mut Smtp, from: &str| {
        let mail = message::text(from, &client.address, "x", "y");
        session.try_send(from, &[&client.address], mail.as_bytes()).expect("a reply")
    };
    let mut session = open(PASSWORD);
    send(&mut session, &other.address).expect(250);
    server.cli(&["access", "revoke", &client.address, &other.address]);
    send(&mut session, &other.address).expect_enhanced(550, "5.7.1");
    send(&mut session, &client.address).expect(250);
    server.cli(&["account", "password", &client.address, "--password", "another one"]);
    send(&mut session, &client.address).expect_enhanced(421, "4.7.0");
    send(&mut open("another one"), &client.address).expect(250);
}

#[test]
fn no_secret_and_no_text_of_a_message_is_logged() {
    let server = Server::builder().env("RUST_LOG", "debug").start();
    let client = server.account();
    let ticket = ticket(&client);
    assert_eq!(event_source(&client, &ticket).open(client.server).expect("an answer").0, 200);
    let token = server.cli_json(&["token", "add", &client.address, "--name", "t"]);
    let token = token["token"].as_str().unwrap_or_else(|| panic!("{token}")).to_owned();
    let bearer = Request::get("/.well-known/jmap").header("Authorization", &format!("Bearer {token}"));
    assert_eq!(server.request(bearer).status, 200);
    let guess = Request::get("/.well-known/jmap").basic(&client.address, "guessed-password");
    assert_eq!(server.request(guess).status, 401);
    let mut submission = Smtp::connect(server.submission());
    submission.ehlo();
    submission.auth_plain(&client.address, PASSWORD).expect(235);
    let mail = message::text(&client.address, &client.address, "secret subject", "secret text of a message");
    submission.try_send(&client.address, &[&client.address], mail.as_bytes()).expect("a reply").expect(250);
    client.wait_for_subject("secret subject");
    let found = client.query(json!({ "text": "secret text" }));
    assert_eq!(found.len(), 1);
    let log = server.log();
    assert!(log.contains("queued") && log.contains(&client.address), "a log that tells something:\n{log}");
    let encoded = basic(&client.address, PASSWORD);
    for secret in [
        ticket.as_str(),
        &token,
        PASSWORD,
        "guessed-password",
        encoded.trim_start_matches("Basic "),
        "secret text",
        "secret subject",
    ] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret:?} is in the log: {line:?}");
    }
}
