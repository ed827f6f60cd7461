//! Administration over the REST API: what is done is entered, mail that waits is acted on by destination, the
//! DNS is asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::dns::Record;
use crate::support::eventually;
use crate::support::jmap::id_of;
use crate::support::rest::Api;
use crate::support::server::{PASSWORD, Server};

const ALL: [&str; 4] = ["--scope", "admin", "--domain", "*"];

#[test]
fn every_act_is_entered_with_who_asked_and_what_came_of_it() {
    let server = Server::builder().without_domain().start();
    server.cli(&["domain", "add", "example.test"]);
    let alice = server.account();
    let api = Api::new(&server, &alice.address, &ALL);
    let new = json!({ "address": "bob@example.test", "password": PASSWORD });
    api.ask("POST", "/accounts", Some(&new)).expect(201);
    api.ask("POST", "/accounts", Some(&new)).expect(409);
    api.ask("PATCH", "/accounts/bob@example.test", Some(&json!({ "quota": 1_000_000 }))).expect(200);
    api.ask("DELETE", "/accounts/bob@example.test", None).expect(204);
    let log = api.get("/audit?limit=4")["entries"].clone();
    let line = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
        (text("act"), text("object"), text("domain"))
    };
    let acts: Vec<_> = log.as_array().expect("entries").iter().map(line).collect();
    let act = |name: &str| (name.to_owned(), "bob@example.test".to_owned(), "example.test".to_owned());
    assert_eq!(acts, [act("remove account"), act("change quota"), act("add account"), act("add account")]);
    let who = format!("{} (key {})", alice.address, api.key_id);
    assert!(log.as_array().expect("entries").iter().all(|entry| entry["actor"] == *who), "{log}");
    assert_eq!((&log[0]["outcome"], &log[3]["outcome"]), (&json!("done"), &json!("done")));
    assert!(log[2]["outcome"].as_str().is_some_and(|text| text.contains("in use")), "{log}");
    // Page by page, from the command line too, and with it what was done there.
    let first = api.get("/audit?limit=1");
    let second = api.get(&format!("/audit?limit=1&cursor={}", first["nextCursor"].as_str().expect("more")));
    assert_eq!(second["entries"][0], log[1]);
    let shown = server.cli(&["audit", "--json"]);
    assert!(
        shown.contains("command line") && shown.contains("add domain") && shown.contains(&who),
        "{shown}"
    );
    assert!(!shown.contains(PASSWORD) && !shown.contains(api.key.as_deref().expect("a key")), "{shown}");
    // A key of a domain sees what was done there.
    server.cli(&["domain", "add", "other.test"]);
    let narrow = Api::new(&server, &alice.address, &["--scope", "admin", "--domain", "other.test"]);
    let entries = narrow.get("/audit?domain=other.test")["entries"].clone();
    assert_eq!(
        entries.as_array().expect("entries").iter().map(|entry| &entry["act"]).collect::<Vec<_>>(),
        ["add domain"]
    );
    assert_eq!(narrow.get("/audit")["entries"], entries);
    assert_eq!(narrow.problem("GET", "/audit?domain=example.test", None).0, 404);
}

#[test]
fn mail_that_waits_is_held_retried_and_dropped_by_destination_or_reason() {
    // Nobody listens at this relay.
    let server = Server::builder().env("POSTRIDER_RELAY", "smtp://127.0.0.1:9").start();
    let alice = server.account();
    let sender = Api::new(&server, &alice.address, &["--scope", "send"]);
    for to in ["a@one.test", "b@one.test", "c@two.test"] {
        sender.post(
            "/sends",
            &json!({ "from": { "email": alice.address }, "to": [{ "email": to }], "text": "x" }),
        );
    }
    let api = Api::new(&server, &alice.address, &ALL);
    let rows = |query: &str| api.get(&format!("/queue{query}"))["rows"].as_array().expect("rows").clone();
    eventually("all were tried", || {
        let tried = rows("?queue=outgoing").iter().filter(|row| row["reason"].is_string()).count();
        (tried == 3).then_some(())
    });
    let act = |body: Value| api.post("/queue/actions", &body)["count"].as_u64().expect("a count");
    let states = |query: &str| -> Vec<String> {
        let mut states: Vec<_> =
            rows(query).iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    };
    let mut paged = BTreeSet::new();
    let mut next = api.get("/queue?queue=outgoing&limit=1");
    loop {
        paged.extend(next["rows"].as_array().expect("rows").iter().map(id_of));
        let Some(cursor) = next["nextCursor"].as_str() else { break };
        next = api.get(&format!("/queue?queue=outgoing&limit=1&cursor={cursor}"));
    }
    assert_eq!(paged, rows("").iter().map(id_of).collect());
    assert_eq!(rows("?destination=one.test").len(), 2);
    assert_eq!(rows("?destination=one.test")[0]["destination"], "one.test");
    assert_eq!(act(json!({ "action": "hold", "destination": "One.test" })), 2);
    assert_eq!(states("?destination=one.test"), ["held", "held"]);
    assert_eq!(rows("?reason=held%20by%20an%20administrator").len(), 2);
    // What was wrong before stays to be read, and to be found.
    assert!(rows("?destination=one.test")[0]["reason"].as_str().is_some_and(|text| text.len() > 30));
    assert_eq!(states("?destination=two.test"), ["waiting"]);
    assert_eq!(act(json!({ "action": "retry", "reason": "held by" })), 2);
    eventually("they were tried again", || {
        (states("?destination=one.test") == ["waiting", "waiting"]).then_some(())
    });
    // One alone.
    let id = rows("?destination=two.test")[0]["id"].as_str().expect("an id").to_owned();
    api.ask("POST", &format!("/queue/{id}/hold"), None).expect(204);
    assert_eq!(states("?destination=two.test"), ["held"]);
    assert_eq!(act(json!({ "action": "drop", "destination": "one.test" })), 2);
    assert_eq!(rows("?queue=outgoing").len(), 1);
    // Whoever sent it hears of it.
    let bounced = eventually("bounces", || {
        let page = sender.get("/events?types=message.bounced")["events"].clone();
        (page.as_array().expect("events").len() == 2).then_some(page)
    });
    assert_eq!(bounced[0]["data"]["reply"], "554 5.0.0 Dropped by an operator");
    // The same when one alone is dropped, even one that is just being tried.
    let body =
        json!({ "from": { "email": alice.address }, "to": [{ "email": "d@three.test" }], "text": "x" });
    let send = id_of(&sender.post("/sends", &body));
    let id = eventually("it waits", || rows("?destination=three.test").first().map(id_of));
    api.ask("DELETE", &format!("/queue/{id}"), None).expect(204);
    let recipient = sender.get(&format!("/sends/{send}"))["recipients"][0].clone();
    assert_eq!(recipient["status"], "failed", "{recipient}");
    eventually("its bounce", || {
        let told = sender.get(&format!("/sends/{send}/timeline"))["events"].clone();
        told.as_array()?.iter().any(|event| event["type"] == "message.bounced").then_some(())
    });
    // Never all of it by mistake.
    assert_eq!(api.problem("POST", "/queue/actions", Some(&json!({ "action": "drop" }))).0, 422);
    assert_eq!(
        api.problem("POST", "/queue/actions", Some(&json!({ "action": "drop", "reason": "" }))).0,
        422
    );
}

#[test]
fn the_dns_of_a_domain_is_asked() {
    let server = Server::start();
    let alice = server.account();
    let api = Api::new(&server, &alice.address, &ALL);
    let wanted = api.get("/domains/example.test")["records"].clone();
    let checked = api.get("/domains/example.test/dns");
    assert_eq!(checked["isComplete"], false);
    let states = |checked: &Value| -> Vec<String> {
        let records = checked["records"].as_array().expect("records");
        records.iter().map(|record| record["state"].as_str().expect("a state").to_owned()).collect()
    };
    assert!(states(&checked).iter().all(|state| state == "missing"), "{checked}");
    for record in wanted.as_array().expect("records") {
        let (name, value) =
            (record["name"].as_str().expect("a name"), record["value"].as_str().expect("a value"));
        match record["type"].as_str().expect("a type") {
            "MX" => {
                let host = value.split(' ').nth(1).expect("a host").trim_end_matches('.').to_owned();
                server.dns.add(name, Record::Mx(10, host));
            }
            // One that the domain's owner has made otherwise.
            "TXT" if value.starts_with("v=spf1") => {
                server.dns.add_txt(name, "v=spf1 include:other.test -all")
            }
            "TXT" => {
                server.dns.add_txt(name, "something else that stands beside it");
                server.dns.add_txt(name, value);
            }
            other => panic!("{other}"),
        }
    }
    let checked = eventually("the records are seen", || {
        let checked = api.get("/domains/example.test/dns");
        (!states(&checked).iter().any(|state| state == "missing")).then_some(checked)
    });
    let expected: Vec<&str> = wanted
        .as_array()
        .expect("records")
        .iter()
        .map(|record| if record["value"].as_str().unwrap().starts_with("v=spf1") { "differs" } else { "set" })
        .collect();
    assert_eq!(states(&checked), expected, "{checked}");
    let output = server.try_cli(&["domain", "check", "example.test"], "");
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("differs") && shown.contains("include:other.test"), "{shown}");
}
