//! The full-text index as an operator meets it: made anew while mail goes on, lost, and out of reach.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::http::Request;
use crate::support::jmap::Client;
use crate::support::relay::Relay;
use crate::support::server::Server;
use crate::support::{eventually, stack};

fn deliver(server: &Server, client: &Client, subject: &str) {
    let mail = format!("Subject: {subject}\r\n\r\ntext of it");
    server.deliver("a@sender.test", &client.address, mail);
    eventually("the mail is filed", || {
        let ids = client.query(json!(null));
        let got = client.call("Email/get", json!({ "ids": ids, "properties": ["subject"] }));
        got["list"].as_array()?.iter().any(|email| email["subject"] == subject).then_some(())
    });
}

#[test]
fn an_account_is_indexed_again_by_a_command() {
    let server = Server::start();
    let client = server.account();
    for number in 0..20 {
        deliver(&server, &client, &format!("common number{number}"));
    }
    let done = server.cli_json(&["index", "rebuild", &client.address]);
    assert_eq!(
        (&done["accounts"], &done["emails"], &done["areIndexed"]),
        (&json!(1), &json!(20), &json!(true))
    );
    assert_eq!(client.query(json!({ "subject": "common" })).len(), 20);
    assert_eq!(client.query(json!({ "subject": "number7" })).len(), 1);
    let all = server.cli(&["index", "rebuild"]);
    assert!(all.contains("20 Emails are indexed"), "{all}");
    let refused = server.try_cli(&["index", "rebuild", "nobody@example.test"], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no account nobody@example.test"));
}

/// Meilisearch, if there is one to test.
fn meilisearch() -> Option<String> {
    let url = stack::named(stack::MEILISEARCH);
    if url.is_none() {
        eprintln!("left out: {} names no Meilisearch", stack::MEILISEARCH);
    }
    url
}

#[test]
fn without_meilisearch_texts_are_unavailable_and_all_else_goes_on() {
    let Some(url) = meilisearch() else { return };
    let target = url.strip_prefix("http://").and_then(|host| host.parse().ok()).expect("an address");
    let relay = Relay::start(target);
    let key = stack::named(stack::MEILISEARCH_KEY).unwrap_or_default();
    let search = format!("meilisearch:http://{}?index=down_{}", relay.address(), std::process::id());
    let server =
        Server::builder().env("POSTRIDER_SEARCH_URL", search).env("POSTRIDER_SEARCH_KEY", key).start();
    let client = server.account();
    deliver(&server, &client, "before");
    let found = |text: &str| {
        let answer = client.answer("Email/query", json!({ "filter": { "subject": text } }));
        (answer.name == "Email/query").then(|| answer.arguments["ids"].as_array().map_or(0, Vec::len))
    };
    eventually("the index is there", || (found("before") == Some(1)).then_some(()));
    relay.close();
    let start = Instant::now();
    let answer = client.answer("Email/query", json!({ "filter": { "subject": "before" } }));
    assert_eq!((answer.name.as_str(), &answer.arguments["type"]), ("error", &json!("serverUnavailable")));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    deliver(&server, &client, "meanwhile");
    assert_eq!(client.query(json!(null)).len(), 2);
    assert_eq!(server.request(Request::get("/readyz")).status, 200);
    server.restart();
    deliver(&server, &client, "started-without");
    relay.open();
    for subject in ["before", "meanwhile", "started-without"] {
        eventually(subject, || (found(subject) == Some(1)).then_some(()));
    }
    eventually("the queue is worked on", || {
        (server.metric("postrider_queue_messages") == Some(0.0)).then_some(())
    });
    assert_eq!(found("meanwhile"), Some(1));
    assert!(!server.log().contains(&stack::named(stack::MEILISEARCH_KEY).unwrap_or("no key".into())));
}

#[test]
fn an_index_that_was_lost_is_filled_again_and_never_answers_too_little() {
    let Some(url) = meilisearch() else { return };
    let address = url.strip_prefix("http://").and_then(|host| host.parse().ok()).expect("an address");
    let server = Server::start();
    let client = server.account();
    for number in 0..5 {
        deliver(&server, &client, &format!("common number{number}"));
    }
    eventually("all is indexed", || (server.metric("postrider_queue_messages") == Some(0.0)).then_some(()));
    let search = server.variable("POSTRIDER_SEARCH_URL").expect("Meilisearch");
    let index = search.split_once("index=").expect("the name of the index").1;
    let key = stack::named(stack::MEILISEARCH_KEY).unwrap_or_default();
    let removed = Request::new("DELETE", &format!("/indexes/{index}_v1"))
        .header("Authorization", &format!("Bearer {key}"))
        .send(address);
    assert_eq!(removed.status, 202, "{removed:?}");
    let mut answers = Vec::new();
    eventually("the index is filled again", || {
        let answer = client.answer("Email/query", json!({ "filter": { "subject": "common" } }));
        let found = answer.arguments["ids"].as_array().map(Vec::len);
        answers.push(found);
        (answers.contains(&None) && found == Some(5)).then_some(())
    });
    assert!(answers.iter().all(|found| matches!(found, None | Some(5))), "{answers:?}");
    eventually("all is indexed", || (server.metric("postrider_queue_messages") == Some(0.0)).then_some(()));
    assert_eq!(client.query(json!({ "subject": "number3" })).len(), 1);
}
