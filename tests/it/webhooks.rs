//! Webhooks over the REST API: made, signed, tried, replayed, and never into a private network.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::jmap::{Client, id_of};
use crate::support::receiver::Receiver;
use crate::support::rest::Api;
use crate::support::server::Server;

const SENT: [&str; 2] = ["message.sent", "message.delivered"];

fn server() -> Server {
    Server::builder().env("POSTRIDER_PUSH_NETWORKS", "127.0.0.0/8").start()
}

fn send(api: &Api, from: &Client, to: &Client) -> String {
    let new = json!({ "from": { "email": from.address }, "to": [{ "email": to.address }], "text": "x" });
    id_of(&api.post("/sends", &new))
}

#[test]
fn events_are_posted_signed_and_again_when_they_were_not_taken() {
    let server = server();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(&server, &alice.address, &["--scope", "send,write"]);
    let receiver = Receiver::start();
    let made = api.post("/webhooks", &json!({ "url": receiver.url(), "description": "orders" }));
    let (id, secret) = (id_of(&made), made["secret"].as_str().expect("a secret").to_owned());
    // A key that does not read hears of what is sent alone, and so does its webhook.
    assert!(!made["types"].as_array().expect("types").contains(&json!("message.received")));
    let shown = api.get(&format!("/webhooks/{id}"));
    assert_eq!((&shown["secret"], &shown["url"]), (&Value::Null, &json!(receiver.url())));
    assert_eq!(api.get("/webhooks")["webhooks"], json!([shown]));

    let sent = send(&api, &alice, &bob);
    let events = receiver.wait_for(&SENT);
    assert!(events.iter().all(|event| event["data"]["sendId"] == *sent), "{events:?}");
    for post in receiver.posts() {
        assert!(post.is_signed_by(&secret) && !post.is_signed_by("whsec_AAAA"), "{post:?}");
        assert_eq!(post.header("webhook-id"), post.json()["id"]);
        assert_eq!(post.header("content-type"), "application/json");
    }
    // The log has the very same.
    let page = api.get("/events");
    assert_eq!(page["events"], json!(events));
    eventually("its cursor is at the end", || {
        let place = |cursor: &Value| cursor.as_str()?.split_once('.').map(|(_, place)| place.to_owned());
        let cursor = api.get(&format!("/webhooks/{id}"))["cursor"].clone();
        (place(&cursor) == place(&page["nextCursor"])).then_some(())
    });

    // Both secrets sign for a time; a trial shows it.
    let replaced = api.post(&format!("/webhooks/{id}/secret"), &json!({}));
    let new_secret = replaced["secret"].as_str().expect("a secret").to_owned();
    assert_ne!(new_secret, secret);
    assert_eq!(api.post(&format!("/webhooks/{id}/test"), &json!({})), json!({ "delivered": true }));
    let trial = receiver.posts().pop().expect("a trial");
    assert_eq!(trial.json()["type"], "webhook.test");
    assert!(trial.is_signed_by(&secret) && trial.is_signed_by(&new_secret));

    // What is not taken comes again; meanwhile the webhook says what is wrong.
    receiver.answer("500 Broken");
    let broken = api.post(&format!("/webhooks/{id}/test"), &json!({}));
    assert_eq!(broken["delivered"], false);
    assert!(broken["error"].as_str().is_some_and(|error| error.contains("500")), "{broken}");
    send(&api, &alice, &bob);
    let failing = eventually("failing", || {
        let webhook = api.get(&format!("/webhooks/{id}"));
        webhook["failingSince"].is_string().then_some(webhook)
    });
    assert!(failing["lastError"].as_str().is_some_and(|error| error.contains("500")), "{failing}");
    assert_eq!(failing["enabled"], true);
    receiver.answer("200 OK");
    let patched = api.ask("PATCH", &format!("/webhooks/{id}"), Some(&json!({ "enabled": true })));
    patched.expect(200);
    eventually("all is well", || {
        let webhook = api.get(&format!("/webhooks/{id}"));
        let place = |cursor: &Value| cursor.as_str()?.split_once('.').map(|(_, place)| place.to_owned());
        let is_at_end = place(&webhook["cursor"]) == place(&api.get("/events?after=latest")["nextCursor"]);
        (webhook["failingSince"].is_null() && is_at_end).then_some(())
    });

    // From the beginning once more.
    let before = receiver.posts().len();
    api.post(&format!("/webhooks/{id}/replay"), &json!({ "after": "" }));
    eventually("the replay", || (receiver.posts().len() >= before + 4).then_some(()));
    let again: Vec<Value> = receiver.posts()[before..].iter().map(|post| post.json()).collect();
    assert_eq!(json!(again), api.get("/events")["events"]);

    api.ask("DELETE", &format!("/webhooks/{id}"), None).expect(204);
    assert_eq!(api.get("/webhooks")["webhooks"], json!([]));
}

#[test]
fn a_webhook_of_a_domain_gets_the_events_of_all_its_accounts() {
    let server = server();
    let (alice, bob) = (server.account(), server.account());
    let admin = Api::new(&server, &alice.address, &["--scope", "read,write", "--domain", "example.test"]);
    let receiver = Receiver::start();
    let new = json!({ "url": receiver.url(), "types": ["message.received"] });
    let made = admin.post("/webhooks?domain=example.test", &new);
    assert_eq!((&made["accountId"], &made["domain"]), (&Value::Null, &json!("example.test")));
    assert_eq!(made["types"], json!(["message.received"]));
    let api = Api::new(&server, &alice.address, &[]);
    send(&api, &alice, &bob);
    let events = receiver.wait_for(&["message.received"]);
    assert_eq!((&events[0]["account"], &events[0]["accountId"]), (&json!(bob.address), &json!(bob.account)));
    send(&Api::new(&server, &bob.address, &[]), &bob, &alice);
    receiver.wait_for(&["message.received", "message.received"]);
    // It is not the account's own, and not another domain's.
    let id = id_of(&made);
    assert_eq!(api.problem("GET", &format!("/webhooks/{id}"), None).0, 404);
    assert_eq!(admin.problem("GET", "/webhooks?domain=other.test", None).0, 404);
    assert_eq!(admin.problem("GET", "/webhooks?domain=example.test&account=x", None).0, 400);
}

#[test]
fn private_networks_are_not_asked_whatever_leads_there() {
    let closed = Server::start();
    let alice = closed.account();
    let api = Api::new(&closed, &alice.address, &[]);
    let receiver = Receiver::start();
    for url in [
        receiver.url(),
        "https://127.0.0.1/".to_owned(),
        "https://[::1]/".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "http://hooks.test/".to_owned(),
        "https://user:pw@hooks.test/".to_owned(),
        "https://2130706433/".to_owned(),
        "ftp://hooks.test/".to_owned(),
    ] {
        let refused = api.problem("POST", "/webhooks", Some(&json!({ "url": url })));
        assert_eq!(refused, (422, "unprocessable".to_owned()), "{url}");
    }
    // A name is looked up when it is asked, each time.
    closed.dns.add_address("hooks.test", std::net::Ipv4Addr::LOCALHOST.into());
    let made = api.post("/webhooks", &json!({ "url": "https://hooks.test/x" }));
    let tried = api.post(&format!("/webhooks/{}/test", id_of(&made)), &json!({}));
    assert_eq!(tried["delivered"], false);
    assert!(tried["error"].as_str().is_some_and(|error| error.contains("push_networks")), "{tried}");

    // A redirect is not followed, wherever it leads.
    let open = server();
    let bob = open.account();
    let api = Api::new(&open, &bob.address, &[]);
    let (elsewhere, redirecting) = (Receiver::start(), Receiver::start());
    redirecting.answer(&format!("307 Moved\r\nLocation: {}", elsewhere.url()));
    let made = api.post("/webhooks", &json!({ "url": redirecting.url() }));
    let tried = api.post(&format!("/webhooks/{}/test", id_of(&made)), &json!({}));
    assert_eq!((tried["delivered"].clone(), elsewhere.posts().len()), (json!(false), 0), "{tried}");
}
