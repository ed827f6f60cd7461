//! Where the REST API says no, and where its lists go on: what is refused costs nothing and does nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::http::percent;
use crate::support::jmap::{Client, id_of};
use crate::support::message;
use crate::support::rest::Api;
use crate::support::server::{PASSWORD, Server};
use crate::support::smtp_sink::Sink;

fn to(from: &Client, recipients: &[&str]) -> Value {
    let recipients: Vec<Value> = recipients.iter().map(|email| json!({ "email": email })).collect();
    json!({ "from": { "email": from.address }, "to": recipients, "subject": "s", "text": "t" })
}

#[test]
fn what_is_refused_uses_up_no_allowance_and_says_when_to_come_back() {
    let server = Server::builder().env("POSTRIDER_RECIPIENTS_PER_HOUR", "4").start();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(&server, &alice.address, &["--scope", "send"]);
    let bob = bob.address.as_str();
    let left = |number: u64| Some(format!("\"recipients\";r={number}"));
    let sent = api.ask("POST", "/sends", Some(&to(&alice, &[bob, "x@elsewhere.test"]))).expect(202);
    assert_eq!(sent.header("ratelimit").map(str::to_owned), left(2));
    let refused = api
        .ask("POST", "/sends", Some(&to(&alice, &[bob, "x@elsewhere.test", "y@elsewhere.test"])))
        .expect(429);
    assert_eq!(refused.header("retry-after"), Some("3600"));
    assert_eq!(refused.header("ratelimit").map(str::to_owned), left(2));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"recipients\";q=4;w=3600"));
    // A batch of which nothing can be sent.
    let mut no_blob = to(&alice, &[bob]);
    no_blob["attachments"] = json!([{ "blobId": "Gabcdefgh" }]);
    let mut no_template = to(&alice, &[bob]);
    no_template["template"] = json!({ "name": "none" });
    for _ in 0..5 {
        let batch = json!({ "messages": [no_blob, no_template] });
        let answer = api.ask("POST", "/sends/batch", Some(&batch)).expect(200);
        let results = answer.json()["results"].clone();
        assert!(
            results.as_array().unwrap().iter().all(|result| result["error"]["status"] == 422),
            "{results}"
        );
        assert_eq!(answer.header("ratelimit").map(str::to_owned), left(2));
    }
    // One whose last message is one too many: the others go.
    let batch = json!({ "messages": [to(&alice, &[bob]), to(&alice, &[bob]), to(&alice, &[bob])] });
    let answer = api.ask("POST", "/sends/batch", Some(&batch)).expect(200);
    let results = answer.json()["results"].clone();
    assert!(results[0]["accepted"].is_object() && results[1]["accepted"].is_object(), "{results}");
    assert_eq!(results[2]["error"]["code"], "too_many_requests");
    assert_eq!(answer.header("ratelimit").map(str::to_owned), left(0));
    // The same over JMAP, counted together.
    let mut draft = json!({ "from": [{ "email": alice.address }], "to": [{ "email": bob }], "subject": "s" });
    draft["mailboxIds"] = json!({ alice.mailbox("drafts"): true });
    let email = id_of(&alice.create("Email", draft));
    let identity = alice.call("Identity/get", json!({ "ids": null }))["list"][0]["id"].clone();
    let create = json!({ "create": { "s": { "emailId": email, "identityId": identity } } });
    let answer = alice.call("EmailSubmission/set", create);
    assert_eq!(answer["notCreated"]["s"]["type"], "forbiddenToSend", "{answer}");
}

#[test]
fn pages_go_on_where_they_ended_whatever_becomes_of_their_messages() {
    let server = Server::shared();
    let alice = server.account();
    let api = Api::new(server, &alice.address, &["--scope", "read,write"]);
    let inbox = alice.mailbox("inbox");
    // All of one moment, of which the ids alone tell the order.
    let made: Vec<String> = (0..9)
        .map(|number| {
            let blob =
                alice.upload("message/rfc822", message::text("a@b.test", &alice.address, &format!("{number}"), "x"));
            let new = json!({
                "blobId": blob["blobId"], "mailboxIds": { &inbox: true }, "receivedAt": "2026-01-02T03:04:05.678Z",
            });
            let answer = alice.call("Email/import", json!({ "emails": { "n": new } }));
            id_of(&answer["created"]["n"])
        })
        .collect();
    let newest_first: Vec<String> = made.iter().rev().cloned().collect();
    let page = |cursor: Option<&Value>| -> (Vec<String>, Value) {
        let more = cursor.map(|cursor| format!("&cursor={}", percent(cursor.as_str().unwrap())));
        let page = api.get(&format!("/messages?mailbox=inbox&limit=3{}", more.unwrap_or_default()));
        (page["messages"].as_array().unwrap().iter().map(id_of).collect(), page["nextCursor"].clone())
    };
    let (first, cursor) = page(None);
    assert_eq!(first, newest_first[..3]);
    // That at which the page ended goes, and one of the page to come.
    api.ask("DELETE", &format!("/messages/{}", first[2]), None).expect(204);
    api.ask("PATCH", &format!("/messages/{}", newest_first[4]), Some(&json!({ "mailbox": "archive" })))
        .expect(200);
    // What comes in stands before.
    alice.create_email(&inbox, "newer", "x");
    let (second, cursor) = page(Some(&cursor));
    assert_eq!(second, [newest_first[3].clone(), newest_first[5].clone(), newest_first[6].clone()]);
    let (third, end) = page(Some(&cursor));
    assert_eq!((third, end), (newest_first[7..].to_vec(), Value::Null));
}

#[test]
fn a_parameter_that_is_not_described_is_refused() {
    let server = Server::start();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(&server, &alice.address, &["--scope", "read,write,send,admin", "--domain", "*"]);
    api.post("/aliases", &json!({ "alias": "team@example.test", "accounts": [alice.address, bob.address] }));
    // It would take away the whole alias.
    let misplaced = format!("/aliases/team@example.test?account={}", percent(&bob.address));
    assert_eq!(api.problem("DELETE", &misplaced, None), (400, "invalid_request".to_owned()));
    assert_eq!(api.get("/aliases")["aliases"][0]["accounts"].as_array().unwrap().len(), 2);
    let one = format!("/aliases/team@example.test/accounts/{}", percent(&bob.address));
    api.ask("DELETE", &one, None).expect(204);
    assert_eq!(api.get("/aliases")["aliases"][0]["accounts"], json!([alice.address]));
    assert_eq!(api.problem("DELETE", &one, None), (404, "not_found".to_owned()));
    let document = api.get("/openapi.json");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let path = path.replace(['{', '}'], "");
            let problem = api.problem(&method.to_uppercase(), &format!("{path}?nothing=1"), Some(&json!({})));
            assert_eq!(problem, (400, "invalid_request".to_owned()), "{method} {path}");
        }
    }
}

#[test]
fn what_a_key_may_not_read_it_does_not_change_by_half() {
    let server = Server::shared();
    let alice = server.account();
    let email = alice.create_email(&alice.mailbox("inbox"), "s", "t");
    let writes = Api::new(server, &alice.address, &["--scope", "write"]);
    let path = format!("/messages/{email}");
    let problem = writes.problem("PATCH", &path, Some(&json!({ "flagged": true })));
    assert_eq!(problem, (403, "missing_scope".to_owned()));
    assert_eq!(alice.get("Email", &email, &["keywords"])["keywords"].get("$flagged"), None);
    writes.ask("DELETE", &path, None).expect(204);
}

#[test]
fn a_header_field_in_any_script_leaves_in_ascii() {
    let sink = Sink::start();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let alice = server.account();
    let api = Api::new(&server, &alice.address, &["--scope", "send"]);
    let mut new = to(&alice, &["x@elsewhere.test"]);
    new["headers"] = json!({ "X-Shop": "K\u{e4}se & Br\u{f6}tchen", "X-Plain": "as it is" });
    api.post("/sends", &new);
    let left = sink.wait_for("x@elsewhere.test").message;
    let text = String::from_utf8_lossy(&left).into_owned();
    assert!(text.contains("X-Plain: as it is\r\n") && text.contains("X-Shop: =?utf-8?"), "{text}");
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn a_repeated_request_is_known_whatever_the_order_of_its_members() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "send"]);
    let send = |body: &str| {
        let request = api.request("POST", "/sends").header("Idempotency-Key", "once");
        request.body("application/json", body).send(api.server)
    };
    let (from, bob) = (&alice.address, &bob.address);
    let one = format!(
        r#"{{"from":{{"name":"A","email":"{from}"}},"to":[{{"email":"{bob}"}}],"text":"t","metadata":{{"a":1,"b":2}}}}"#
    );
    let two = format!(
        r#"{{"metadata":{{"b":2,"a":1}},"text":"t","to":[{{"email":"{bob}"}}],"from":{{"email":"{from}","name":"A"}}}}"#
    );
    let first = send(&one).expect(202).json();
    let again = send(&two).expect(202);
    assert_eq!((again.header("idempotency-replayed"), again.json()), (Some("true"), first));
    send(&two.replace("\"t\"", "\"u\"")).expect(409);
}

#[test]
fn a_key_of_a_domain_hands_on_no_account_of_another() {
    let server = Server::start();
    let alice = server.account();
    let all = Api::new(&server, &alice.address, &["--scope", "admin", "--domain", "*"]);
    all.post("/domains", &json!({ "domain": "shop.test" }));
    for name in ["ops", "news"] {
        all.post("/accounts", &json!({ "address": format!("{name}@shop.test"), "password": PASSWORD }));
    }
    // Somebody of the shop looks after a mailbox elsewhere.
    server.cli(&["access", "grant", "news@shop.test", &alice.address]);
    let shop = Api::new(&server, "ops@shop.test", &["--scope", "admin,read", "--domain", "shop.test"]);
    let new = |more: Value| {
        let mut new = json!({ "login": "news@shop.test", "scopes": ["read"] });
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        shop.ask("POST", "/keys", Some(&new)).status
    };
    assert_eq!(new(json!({})), 403);
    assert_eq!(new(json!({ "account": alice.address })), 403);
    assert_eq!(new(json!({ "account": "news@shop.test" })), 201);
    // A key of the domain has the accounts of its login as well.
    assert_eq!(new(json!({ "domain": "shop.test" })), 403);
    let password = json!({ "password": "one that is known" });
    assert_eq!(shop.problem("PATCH", "/accounts/news@shop.test", Some(&password)).0, 403);
    all.ask("PATCH", "/accounts/news@shop.test", Some(&password)).expect(200);
    shop.ask("PATCH", "/accounts/ops@shop.test", Some(&json!({ "password": "another one" }))).expect(200);
    // Nor does it take a key away that goes farther than itself.
    let wide = Api::new(&server, "news@shop.test", &["--scope", "admin", "--domain", "*"]);
    let path = format!("/keys/{}", wide.key_id);
    assert_eq!(shop.problem("DELETE", &path, None), (403, "forbidden".to_owned()));
    wide.get("/domains");
    // With the domain go the keys that administer it, also when it comes back.
    all.post("/domains", &json!({ "domain": "gone.test" }));
    let gone = Api::new(&server, "ops@shop.test", &["--scope", "admin", "--domain", "gone.test"]);
    gone.get("/domains/gone.test");
    all.ask("DELETE", "/domains/gone.test", None).expect(204);
    all.post("/domains", &json!({ "domain": "gone.test" }));
    assert_eq!(gone.problem("GET", "/domains/gone.test", None), (401, "unauthorized".to_owned()));
    let listed: BTreeSet<String> = wide.get("/domains?limit=1")["domains"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["domain"].to_string())
        .collect();
    assert_eq!(listed.len(), 1);
}
