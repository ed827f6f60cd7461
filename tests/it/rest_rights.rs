//! Which key may do what: every operation of the REST API and every method of JMAP, with every kind of
//! key. An operation or a method that is added without a row here fails.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::jmap::{BLOB, CORE, Client, MAIL, QUOTA, SUBMISSION, VACATION, id_of};
use crate::support::rest::Api;
use crate::support::server::Server;

/// An operation: its method and path as in the document, how it is asked, with which scopes it may be
/// (any of these), and whether a key for the whole server is wanted.
struct Operation {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    scopes: &'static [&'static str],
    of_server: bool,
}

fn operations() -> Vec<Operation> {
    let row = |method, path, body: Value, scopes| Operation {
        method,
        path,
        body: Some(body).filter(|body| !body.is_null()),
        scopes,
        of_server: false,
    };
    let of_server = |method, path, body| Operation { of_server: true, ..row(method, path, body, &["admin"]) };
    // For which no single scope does.
    let of_all = |method, path, body| row(method, path, body, &[]);
    let none = || Value::Null;
    let send = || json!({ "from": { "email": "FROM" }, "to": [], "text": "x" });
    vec![
        row("get", "/mailboxes", none(), &["read"]),
        row("get", "/messages", none(), &["read"]),
        row("get", "/messages/{id}", none(), &["read"]),
        of_all("patch", "/messages/{id}", json!({ "seen": true })),
        row("delete", "/messages/{id}", none(), &["write"]),
        row("get", "/messages/{id}/raw", none(), &["read"]),
        row("get", "/threads/{id}", none(), &["read"]),
        of_all("post", "/messages/{id}/reply", json!({ "text": "x" })),
        of_all("post", "/messages/{id}/forward", json!({ "to": [] })),
        row("post", "/attachments", json!("x"), &["write", "send"]),
        row("get", "/attachments/{blobId}", none(), &["read"]),
        row("get", "/sends", none(), &["read", "send"]),
        row("post", "/sends", send(), &["send"]),
        row("post", "/sends/batch", json!({ "messages": [send()] }), &["send"]),
        row("get", "/sends/{id}", none(), &["read", "send"]),
        row("post", "/sends/{id}/cancel", none(), &["send"]),
        row("get", "/templates", none(), &["send"]),
        row("get", "/templates/{name}", none(), &["send"]),
        row("put", "/templates/{name}", json!({ "text": "x" }), &["send"]),
        row("delete", "/templates/{name}", none(), &["send"]),
        row("get", "/suppressions", none(), &["send"]),
        row("post", "/suppressions", json!({ "email": "nobody@nowhere.test" }), &["send"]),
        row("delete", "/suppressions/{email}", none(), &["send"]),
        row("get", "/sends/{id}/timeline", none(), &["read", "send"]),
        row("get", "/events", none(), &["read", "send"]),
        row("get", "/webhooks", none(), &["read", "send"]),
        of_all("post", "/webhooks", json!({ "url": "https://hooks.test/" })),
        row("get", "/webhooks/{id}", none(), &["read", "send"]),
        of_all("patch", "/webhooks/{id}", json!({})),
        of_all("delete", "/webhooks/{id}", none()),
        of_all("post", "/webhooks/{id}/secret", none()),
        of_all("post", "/webhooks/{id}/replay", json!({ "after": "" })),
        of_all("post", "/webhooks/{id}/test", none()),
        row("get", "/domains", none(), &["admin"]),
        of_server("post", "/domains", json!({ "domain": "example.test" })),
        row("get", "/domains/{domain}", none(), &["admin"]),
        row("patch", "/domains/{domain}", json!({}), &["admin"]),
        of_server("delete", "/domains/{domain}", none()),
        row("get", "/accounts", none(), &["admin"]),
        row("post", "/accounts", json!({ "address": "nobody@elsewhere.test", "password": "x" }), &["admin"]),
        row("get", "/accounts/{address}", none(), &["admin"]),
        row("patch", "/accounts/{address}", json!({}), &["admin"]),
        row("delete", "/accounts/{address}", none(), &["admin"]),
        row("get", "/aliases", none(), &["admin"]),
        row(
            "post",
            "/aliases",
            json!({ "alias": "nobody@elsewhere.test", "accounts": ["x@elsewhere.test"] }),
            &["admin"],
        ),
        row("delete", "/aliases/{alias}", none(), &["admin"]),
        row("delete", "/aliases/{alias}/accounts/{address}", none(), &["admin"]),
        row("get", "/keys", none(), &["admin"]),
        row("post", "/keys", json!({ "scopes": ["everything"] }), &["admin"]),
        row("delete", "/keys/{id}", none(), &["admin"]),
        of_server("get", "/queue", none()),
        of_server("get", "/queue/{id}", none()),
        of_server("delete", "/queue/{id}", none()),
        of_server("post", "/queue/{id}/retry", none()),
        of_server("post", "/queue/{id}/hold", none()),
        of_server("post", "/queue/actions", json!({ "action": "retry", "destination": "nowhere.test" })),
        row("get", "/domains/{domain}/dns", none(), &["admin"]),
        row("get", "/audit", none(), &["admin"]),
    ]
}

impl Operation {
    /// Asks it for things that are not there: whoever may ask is told so.
    fn ask(&self, api: &Api, from: &str) -> (u16, String) {
        let path = self
            .path
            .replace("{id}", "abcdefgh")
            .replace("{domain}", "nowhere.test")
            .replace("{blobId}", "abcdefgh");
        let path = path.replace("{name}", "nothing").replace("{email}", "nobody@nowhere.test");
        let path = path.replace("{address}", "nobody@nowhere.test").replace("{alias}", "nobody@nowhere.test");
        let body = self.body.as_ref().map(|body| body.to_string().replace("FROM", from));
        let body = body.map(|text| serde_json::from_str(&text).expect("JSON"));
        let response = api.ask(&self.method.to_uppercase(), &path, body.as_ref());
        let code = if response.status < 300 {
            String::new()
        } else {
            response.json()["code"].as_str().unwrap().to_owned()
        };
        (response.status, code)
    }
}

#[test]
fn every_operation_has_a_row_and_says_which_scopes_do() {
    let document: Value = serde_json::from_str(&Server::shared().cli(&["openapi"])).expect("JSON");
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let sets = operation["security"].as_array().unwrap_or_else(|| panic!("{method} {path}"));
            let alone = sets.iter().filter_map(|set| match &set["key"].as_array().expect("scopes")[..] {
                [scope] => scope.as_str().map(str::to_owned),
                _ => None,
            });
            described.insert((method.clone(), path.clone(), alone.collect::<BTreeSet<_>>()));
        }
    }
    let scopes = |row: &Operation| row.scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let rows: BTreeSet<_> =
        operations().iter().map(|row| (row.method.to_owned(), row.path.to_owned(), scopes(row))).collect();
    assert_eq!(rows, described);
}

#[test]
fn every_operation_with_every_kind_of_key() {
    let server = Server::builder().env("POSTRIDER_TRUSTED_PROXIES", "127.0.0.1").start();
    let (alice, bob) = (server.account(), server.account());
    let scopes = ["read", "write", "send", "admin"];
    let with = |scope: &str, domain: &str| {
        let rights = ["--scope", scope, "--domain", domain];
        Api::new(&server, &alice.address, if scope == "admin" { &rights } else { &rights[..2] })
    };
    let narrow: Vec<(&str, Api)> = scopes.iter().map(|scope| (*scope, with(scope, "*"))).collect();
    let of_domain = with("admin", "example.test");
    let revoked = Api::new(&server, &alice.address, &[]);
    server.cli(&["token", "revoke", &revoked.key_id]);
    let expired = Api::new(&server, &alice.address, &["--expires", "1s"]);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let rubbish = Api { key: Some(format!("pr_{}", "a".repeat(52))), ..revoked.clone() };
    for (number, operation) in operations().into_iter().enumerate() {
        // Failed sign-ins are counted by address.
        let client = Some(format!("192.0.2.{number}"));
        let what = format!("{} {}", operation.method, operation.path);
        for (kind, api) in [
            ("nobody", &revoked.nobody()),
            ("revoked", &revoked),
            ("expired", &expired),
            ("rubbish", &rubbish),
        ] {
            let api = Api { client: client.clone(), ..api.clone() };
            assert_eq!(
                operation.ask(&api, &alice.address),
                (401, "unauthorized".to_owned()),
                "{what}: {kind}"
            );
        }
        for (scope, api) in &narrow {
            let (status, code) = operation.ask(api, &alice.address);
            if operation.scopes.contains(scope) {
                assert!(![401, 403, 405, 500].contains(&status), "{what} with {scope}: {status} {code}");
            } else {
                assert_eq!((status, code.as_str()), (403, "missing_scope"), "{what} with {scope}");
            }
        }
        if operation.of_server {
            let (status, code) = operation.ask(&of_domain, &alice.address);
            assert!(["forbidden", "not_found"].contains(&code.as_str()), "{what}: {status} {code}");
        }
        // Another's account is not there, whatever the key may do with one's own.
        if let Some(scope) = operation.scopes.iter().find(|scope| **scope != "admin") {
            let api = &narrow.iter().find(|(of, _)| of == scope).expect("a key").1;
            if operation.path.starts_with("/sends") && operation.body.is_some() {
                assert_eq!(operation.ask(api, &bob.address), (403, "forbidden".to_owned()), "{what}");
            } else {
                let path = operation.path.replace("{id}", "abcdefgh").replace("{blobId}", "abcdefgh");
                let path = path.replace("{name}", "nothing").replace("{email}", "nobody@nowhere.test");
                let path = format!("{path}?account={}", bob.account);
                let problem = api.problem(&operation.method.to_uppercase(), &path, operation.body.as_ref());
                assert_eq!(problem, (404, "not_found".to_owned()), "{what}");
            }
        }
    }
}

#[test]
fn another_s_message_and_send_are_not_there() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let email = bob.create_email(&bob.mailbox("inbox"), "secret", "secret text");
    let thread = bob.get("Email", &email, &["threadId"])["threadId"].as_str().unwrap().to_owned();
    let bobs = Api::new(server, &bob.address, &[]);
    let new = json!({ "from": { "email": bob.address }, "to": [{ "email": bob.address }], "text": "x" });
    let send = id_of(&bobs.post("/sends", &new));
    let webhook = id_of(&bobs.post("/webhooks", &json!({ "url": "https://hooks.test/" })));
    let api = Api::new(server, &alice.address, &[]);
    for (method, path, body) in [
        ("GET", format!("/messages/{email}"), None),
        ("GET", format!("/messages/{email}/raw"), None),
        ("PATCH", format!("/messages/{email}"), Some(json!({ "seen": true }))),
        ("DELETE", format!("/messages/{email}"), None),
        ("GET", format!("/threads/{thread}"), None),
        ("GET", format!("/sends/{send}"), None),
        ("POST", format!("/sends/{send}/cancel"), None),
        ("GET", format!("/sends/{send}/timeline"), None),
        ("GET", format!("/webhooks/{webhook}"), None),
        ("PATCH", format!("/webhooks/{webhook}"), Some(json!({ "url": "https://elsewhere.test/" }))),
        ("DELETE", format!("/webhooks/{webhook}"), None),
        ("POST", format!("/webhooks/{webhook}/secret"), None),
        ("POST", format!("/webhooks/{webhook}/replay"), Some(json!({ "after": "" }))),
        ("POST", format!("/webhooks/{webhook}/test"), None),
        ("GET", "/events?domain=example.test".to_owned(), None),
        ("GET", "/webhooks?domain=example.test".to_owned(), None),
    ] {
        assert_eq!(api.problem(method, &path, body.as_ref()).0, 404, "{method} {path}");
    }
    assert_eq!(api.get("/messages")["messages"], json!([]));
    // A key for one account goes no farther than that, though its login does.
    server.cli(&["access", "grant", &alice.address, &bob.address]);
    assert_eq!(id_of(&api.get(&format!("/messages/{email}?account={}", bob.address))), email);
    // Who may look into an account hears of it, for as long as that; what outlives it is for the owner.
    let events = api.get(&format!("/events?account={}", bob.address));
    assert_eq!(events["events"][0]["data"]["sendId"], *send);
    let hooks = format!("/webhooks?account={}", bob.address);
    assert_eq!(api.problem("GET", &hooks, None), (403, "forbidden".to_owned()));
    let new_hook = json!({ "url": "https://hooks.test/" });
    assert_eq!(api.problem("POST", &hooks, Some(&new_hook)), (403, "forbidden".to_owned()));
    let only = Api::new(server, &alice.address, &["--account", &alice.address]);
    assert_eq!(only.problem("GET", &format!("/messages/{email}?account={}", bob.address), None).0, 404);
    assert_eq!(only.problem("POST", "/sends", Some(&new)), (403, "forbidden".to_owned()));
    let session = Request::get("/jmap/session")
        .header("Authorization", &format!("Bearer {}", only.key.clone().unwrap()));
    let session = session.send(server.http()).expect(200).json();
    assert_eq!(session["accounts"].as_object().unwrap().keys().collect::<Vec<_>>(), [&alice.account]);
}

#[test]
fn every_method_of_jmap_with_every_scope() {
    let server = Server::shared();
    let alice = server.account();
    let with = |scope: &str| {
        let api = Api::new(server, &alice.address, &["--scope", scope]);
        Client { authorization: format!("Bearer {}", api.key.expect("a key")), ..alice.clone() }
    };
    let using = [CORE, MAIL, SUBMISSION, VACATION, QUOTA, BLOB];
    let clients = [("read", with("read")), ("write", with("write")), ("send", with("send"))];
    for (method, scopes) in METHODS {
        for (scope, client) in &clients {
            let calls = json!([[method, { "accountId": alice.account }, "c"]]);
            let body = json!({ "using": using, "methodCalls": calls });
            let answer = client.request(&body)["methodResponses"][0].clone();
            let is_forbidden = answer[0] == "error" && answer[1]["type"] == "forbidden";
            assert_eq!(is_forbidden, !scopes.contains(scope), "{method} with {scope}: {answer}");
        }
    }
    let named: BTreeSet<&str> = METHODS.iter().map(|(method, _)| *method).collect();
    assert_eq!(named, crate::isolation::methods().iter().map(String::as_str).collect());
}

const READ: &[&str] = &["read"];
const WRITE: &[&str] = &["write"];
const METHODS: &[(&str, &[&str])] = &[
    ("Core/echo", &["read", "write", "send"]),
    ("Blob/copy", WRITE),
    ("Blob/upload", &["write", "send"]),
    ("Blob/get", READ),
    ("Blob/lookup", READ),
    ("PushSubscription/get", READ),
    ("PushSubscription/set", READ),
    ("Mailbox/get", READ),
    ("Mailbox/changes", READ),
    ("Mailbox/query", READ),
    ("Mailbox/queryChanges", READ),
    ("Mailbox/set", WRITE),
    ("Thread/get", READ),
    ("Thread/changes", READ),
    ("Email/get", READ),
    ("Email/changes", READ),
    ("Email/query", READ),
    ("Email/queryChanges", READ),
    ("Email/set", WRITE),
    ("Email/copy", WRITE),
    ("Email/import", WRITE),
    ("Email/parse", READ),
    ("SearchSnippet/get", READ),
    ("Identity/get", &["read", "send"]),
    ("Identity/changes", &["read", "send"]),
    ("Identity/set", WRITE),
    ("EmailSubmission/get", &["read", "send"]),
    ("EmailSubmission/changes", &["read", "send"]),
    ("EmailSubmission/query", &["read", "send"]),
    ("EmailSubmission/queryChanges", &["read", "send"]),
    ("EmailSubmission/set", &["send"]),
    ("VacationResponse/get", READ),
    ("VacationResponse/set", WRITE),
    ("Quota/get", READ),
    ("Quota/changes", READ),
    ("Quota/query", READ),
    ("Quota/queryChanges", READ),
];
