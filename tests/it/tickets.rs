//! Tickets, which stand in URLs where browsers cannot set a header: what they are good for, and
//! that they end with the credential under which they were made.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::events::EventStream;
use crate::support::http::{Request, path_of};
use crate::support::jmap::Client;
use crate::support::server::Server;

/// Asks for a ticket with an Authorization header; the ticket.
pub(crate) fn ticket(server: &Server, authorization: &str, purpose: Value) -> String {
    let request = Request::post("/jmap/ticket").header("Authorization", authorization).json(&purpose);
    let answer = server.request(request).expect(200).json();
    assert!(answer["expiresAt"].as_str().is_some_and(|date| date.ends_with('Z')), "{answer}");
    answer["ticket"].as_str().expect("ticket").to_owned()
}

/// Two tickets of a client: for the event source and for one blob, as paths.
fn paths(server: &Server, client: &Client, authorization: &str) -> [String; 2] {
    let blob = client.upload("text/plain", "by ticket")["blobId"].as_str().expect("blobId").to_owned();
    let purpose = json!({ "purpose": "download", "accountId": client.account, "blobId": blob });
    let download = ticket(server, authorization, purpose);
    let download = format!("{}&ticket={download}", client.download_path(&blob, "t.txt", "text/plain"));
    let events = ticket(server, authorization, json!({ "purpose": "eventSource" }));
    let url = path_of(client.session["eventSourceUrl"].as_str().expect("eventSourceUrl"))
        .replace("{types}", "*")
        .replace("{closeafter}", "no")
        .replace("{ping}", "0");
    [format!("{url}&ticket={events}"), download]
}

#[test]
fn tickets_are_void_once_their_token_is_revoked() {
    let server = Server::shared();
    let client = server.account();
    let added = server.cli_json(&["token", "add", &client.address]);
    let bearer = format!("Bearer {}", added["token"].as_str().expect("token"));
    let [events, download] = paths(server, &client, &bearer);
    assert_eq!(server.request(Request::get(&download)).expect(200).text(), "by ticket");
    let open = EventStream::open(server.http(), Request::get(&events));
    server.cli(&["token", "revoke", added["id"].as_str().expect("id")]);
    for path in [&events, &download] {
        assert_eq!(server.request(Request::get(path)).status, 401, "{path}");
    }
    assert!(open.ended_within(Duration::from_secs(10)), "a stream goes on without a credential");
}

#[test]
fn tickets_are_void_once_the_password_is_changed() {
    let server = Server::shared();
    let client = server.account();
    let [events, download] = paths(server, &client, &client.authorization);
    assert_eq!(server.request(Request::get(&download)).status, 200);
    let open = EventStream::open(server.http(), Request::get(&events));
    server.cli(&["account", "password", &client.address, "--password", "another one entirely"]);
    for path in [&events, &download] {
        assert_eq!(server.request(Request::get(path)).status, 401, "{path}");
    }
    assert!(open.ended_within(Duration::from_secs(10)), "a stream goes on without a credential");
}

#[test]
fn a_ticket_opens_what_it_was_made_for_and_nothing_else() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    let [events, download] = paths(server, &client, &client.authorization);
    let ticket_of = |path: &str| path.split("ticket=").nth(1).expect("ticket").to_owned();
    let (for_events, for_download) = (ticket_of(&events), ticket_of(&download));
    let with = |path: &str, ticket: &str| {
        let separator = if path.contains('?') { '&' } else { '?' };
        server.request(Request::get(&format!("{path}{separator}ticket={ticket}"))).status
    };
    let without = |path: &str| path.split("&ticket=").next().expect("path").to_owned();
    assert_eq!(with(&without(&download), &for_events), 401);
    assert_eq!(with(&without(&events), &for_download), 401);
    assert_eq!(with("/jmap/session", &for_events), 401);
    assert_eq!(with(&without(&download).replace(&client.account, &other.account), &for_download), 401);
    let mut forged = for_download.clone().into_bytes();
    forged[5] ^= 1;
    assert_eq!(with(&without(&download), &String::from_utf8_lossy(&forged)), 401);
    for nonsense in ["", "x", "%00", "AAAA"] {
        assert_eq!(with(&without(&download), nonsense), 401, "{nonsense:?}");
    }
    // It does not stand in the log.
    let log = server.log();
    assert!(!log.contains(&for_download) && !log.contains(&for_events));
}

#[test]
fn what_asks_for_no_ticket_gets_none() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    let ask = |body: Vec<u8>| {
        let request = client.signed(Request::post("/jmap/ticket")).body("application/json", body);
        server.request(request).status
    };
    for purpose in [
        json!({}),
        json!([]),
        json!({ "purpose": "everything" }),
        json!({ "purpose": "eventSource", "accountId": client.account }),
        json!({ "purpose": "download", "accountId": client.account }),
        json!({ "purpose": "eventSource", "more": 1 }),
    ] {
        assert_eq!(ask(purpose.to_string().into_bytes()), 400, "{purpose}");
    }
    let stolen = json!({ "purpose": "download", "accountId": other.account, "blobId": "b" });
    assert_eq!(ask(stolen.to_string().into_bytes()), 404);
    // However long the body is, little of it is read.
    assert_eq!(ask(vec![b' '; 3_000_000]), 400);
    assert_eq!(server.request(Request::post("/jmap/ticket").json(&json!({}))).status, 401);
}
