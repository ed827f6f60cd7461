//! The REST API: sending, messages, administration, over the same mail that JMAP shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::http::{Request, percent};
use crate::support::jmap::{Client, id_of, strings};
use crate::support::rest::Api;
use crate::support::server::Server;
use crate::support::smtp::Smtp;
use crate::support::{eventually, message};

fn greeting(from: &Client, to: &Client) -> Value {
    json!({
        "from": { "name": "Sender", "email": from.address }, "to": [{ "email": to.address }],
        "subject": "Your order", "text": "It is on its way.",
    })
}

#[test]
fn the_document_is_the_one_that_is_committed() {
    let server = Server::shared();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/postrider.json");
    let committed = fs::read_to_string(committed).expect("openapi/postrider.json");
    let made = server.cli(&["openapi"]);
    assert!(made == committed, "make it anew: postrider openapi > openapi/postrider.json");
    let served = Api::new(server, &server.account().address, &[]).get("/openapi.json");
    let document = serde_json::from_str::<Value>(&committed).expect("JSON");
    assert_eq!(served, document);
    // Each operation comes with a call that can be copied.
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let source = operation["x-codeSamples"][0]["source"].as_str().unwrap_or_default();
            assert!(
                source.starts_with("curl ") && !source.contains(['{', '}']) || source.contains("-d '{"),
                "{method} {path}: {source}"
            );
            assert!(!source.contains("null"), "{method} {path} has no example of its body: {source}");
        }
    }
}

#[test]
fn the_page_for_people_asks_no_other_host() {
    let server = Server::shared();
    let page = server.request(Request::get("/docs")).expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
    let page = page.text();
    assert!(!page.contains("://"), "{page}");
    assert!(page.contains("api/v1/openapi.json") && page.contains("docs/redoc.js"), "{page}");
    let script = server.request(Request::get("/docs/redoc.js")).expect(200);
    assert!(script.body.len() > 500_000 && script.text().contains("Redoc"));
}

#[test]
fn a_message_is_sent_and_is_the_same_over_jmap() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "send,read"]);
    let mut new = greeting(&alice, &bob);
    new["html"] = json!("<p>It is <b>on its way</b>.</p>");
    new["tags"] = json!(["order"]);
    new["metadata"] = json!({ "order": 1234, "nested": { "a": [1, 2] } });
    new["headers"] = json!({ "X-Order": "1234", "List-Unsubscribe": "<https://shop.example/u/1>" });
    new["replyTo"] = json!([{ "email": "support@example.com" }]);
    new["attachments"] = json!([
        { "name": "invoice.txt", "type": "text/plain", "content": "VG90YWw6IDEyIEVVUgo=" },
    ]);
    let answer = api.ask("POST", "/sends", Some(&new)).expect(202);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"recipients\";q=1000;w=3600"));
    assert_eq!(answer.header("ratelimit"), Some("\"recipients\";r=999"));
    let accepted = answer.json();
    let id = id_of(&accepted);

    // It is in Sent, as any mail client would have put it there.
    let message_id = accepted["messageId"].as_str().expect("messageId");
    let email = alice.get("Email", message_id, &["subject", "mailboxIds", "keywords", "threadId", "from"]);
    assert_eq!(email["subject"], "Your order");
    assert_eq!(email["mailboxIds"], json!({ alice.mailbox("sent"): true }));
    assert_eq!(email["keywords"], json!({ "$seen": true }));
    assert_eq!(email["threadId"], accepted["threadId"]);
    let submission = alice.get("EmailSubmission", &id, &["emailId", "undoStatus"]);
    assert_eq!(submission["emailId"], *message_id);

    // The recipient has it, whole.
    let received = bob.wait_for_subject("Your order");
    let bobs = Api::new(server, &bob.address, &["--scope", "read"]);
    let read = bobs.get(&format!("/messages/{received}"));
    assert_eq!(read["from"], json!([{ "name": "Sender", "email": alice.address }]));
    assert_eq!(read["replyTo"], json!([{ "email": "support@example.com" }]));
    assert_eq!(read["text"].as_str().map(str::trim_end), Some("It is on its way."));
    assert_eq!(read["html"].as_str().map(str::trim_end), Some("<p>It is <b>on its way</b>.</p>"));
    assert_eq!((&read["seen"], &read["hasAttachment"]), (&json!(false), &json!(true)));
    let attachment = &read["attachments"][0];
    assert_eq!((&attachment["name"], &attachment["type"]), (&json!("invoice.txt"), &json!("text/plain")));
    let blob = attachment["blobId"].as_str().expect("blobId");
    assert_eq!(bob.download(blob), b"Total: 12 EUR\n");
    let has = |name: &str, value: &str| {
        let fields = read["headers"].as_array().expect("headers");
        fields.iter().any(|field| field["name"] == name && field["value"].as_str().unwrap().trim() == value)
    };
    assert!(has("X-Order", "1234") && has("List-Unsubscribe", "<https://shop.example/u/1>"), "{read}");

    // And the send tells what became of it.
    let send = eventually("delivered", || {
        let send = api.get(&format!("/sends/{id}"));
        (send["recipients"][0]["status"] == "delivered").then_some(send)
    });
    assert_eq!(send["recipients"][0]["email"], bob.address);
    assert_eq!(send["tags"], json!(["order"]));
    assert_eq!(send["metadata"], json!({ "order": 1234, "nested": { "a": [1, 2] } }));
    assert_eq!(send["status"], "done");
    assert_eq!(api.get("/sends")["sends"][0]["id"], *id);
}

#[test]
fn a_request_with_an_idempotency_key_is_done_once() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "send"]);
    let new = greeting(&alice, &bob);
    let send = |body: &Value, key: &str| {
        api.request("POST", "/sends").header("Idempotency-Key", key).json(body).send(api.server)
    };
    let first = send(&new, "order-1").expect(202);
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..3 {
        let again = send(&new, "order-1").expect(202);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.json(), first.json());
    }
    let mut other = new.clone();
    other["subject"] = json!("Another order");
    let refused = send(&other, "order-1").expect(409).json();
    assert_eq!(refused["code"], "idempotency_mismatch");
    // Many at once, as a program does whose network stutters.
    let ids: Vec<Value> = std::thread::scope(|scope| {
        let tasks: Vec<_> =
            (0..8).map(|_| scope.spawn(|| send(&new, "order-2").expect(202).json())).collect();
        tasks.into_iter().map(|task| task.join().expect("sent")["id"].clone()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    bob.wait_for_emails(json!({ "subject": "Your order" }), 2);
    assert_eq!(alice.query(json!({ "inMailbox": alice.mailbox("sent") })).len(), 2);
    // What was refused is no answer to be kept: mended, it goes with the same key.
    let mut wrong = new.clone();
    wrong["to"] = json!([{ "email": "not an address" }]);
    let refused = send(&wrong, "order-3");
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    send(&new, "order-3").expect(202);
}

#[test]
fn a_batch_takes_each_message_for_itself() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "send"]);
    let mut messages: Vec<Value> = (0..20)
        .map(|number| {
            let mut new = greeting(&alice, &bob);
            new["subject"] = json!(format!("batch {number}"));
            new
        })
        .collect();
    messages[7]["to"] = json!([]);
    messages[11]["tags"] = json!(["x".repeat(65)]);
    let results = api.post("/sends/batch", &json!({ "messages": messages }))["results"].clone();
    let results = results.as_array().expect("results");
    assert_eq!(results.len(), 20);
    for (number, result) in results.iter().enumerate() {
        let is_refused = [7, 11].contains(&number);
        assert_eq!(result.get("error").is_some(), is_refused, "{number}: {result}");
        assert_eq!(result.get("accepted").is_some(), !is_refused, "{number}: {result}");
    }
    assert!(results[11]["error"]["detail"].as_str().unwrap().contains("tags"), "{}", results[11]);
    bob.wait_for_emails(json!({ "subject": "batch" }), 18);
    let too_many = vec![greeting(&alice, &bob); 501];
    assert_eq!(api.problem("POST", "/sends/batch", Some(&json!({ "messages": too_many }))).0, 422);
    // One of another's, among one's own; and alone.
    let mut others = vec![greeting(&alice, &bob), greeting(&bob, &alice)];
    let from_two = api.post("/sends/batch", &json!({ "messages": others }))["results"].clone();
    assert!(from_two[0]["accepted"].is_object() && from_two[1]["error"]["code"] == "forbidden", "{from_two}");
    others.remove(0);
    let forbidden = api.problem("POST", "/sends/batch", Some(&json!({ "messages": others })));
    assert_eq!(forbidden, (403, "forbidden".to_owned()));
    others.clear();
    assert_eq!(api.problem("POST", "/sends/batch", Some(&json!({ "messages": others }))).0, 422);
}

#[test]
fn a_send_waits_for_its_time_and_can_be_canceled() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "send,read"]);
    let mut new = greeting(&alice, &bob);
    // The server's own idea of tomorrow.
    let held = alice.create_email(&alice.mailbox("drafts"), "held", "x");
    let identity = id_of(&alice.call("Identity/get", json!({ "ids": null }))["list"][0]);
    let envelope = json!({
        "mailFrom": { "email": alice.address, "parameters": { "HOLDFOR": "86400" } },
        "rcptTo": [{ "email": bob.address }],
    });
    let held = json!({ "emailId": held, "identityId": identity, "envelope": envelope });
    new["sendAt"] = alice.create("EmailSubmission", held)["sendAt"].clone();
    let accepted = api.post("/sends", &new);
    assert_eq!(accepted["sendAt"], new["sendAt"]);
    // It is dated when it leaves.
    let message = api.get(&format!("/messages/{}", accepted["messageId"].as_str().expect("an id")));
    let moment = |date: &Value| date.as_str().expect("a date")[..19].to_owned();
    assert_eq!(moment(&message["sentAt"]), moment(&new["sendAt"]));
    let path = format!("/sends/{}", id_of(&accepted));
    assert_eq!(api.get(&path)["status"], "pending");
    assert_eq!(api.ask("POST", &format!("{path}/cancel"), None).expect(200).json()["status"], "canceled");
    assert_eq!(api.get(&path)["status"], "canceled");
    // What has left cannot be.
    let accepted = api.post("/sends", &greeting(&alice, &bob));
    bob.wait_for_subject("Your order");
    let path = format!("/sends/{}", id_of(&accepted));
    eventually("it has left", || (api.get(&path)["status"] == "done").then_some(()));
    assert_eq!(api.problem("POST", &format!("{path}/cancel"), None), (409, "conflict".to_owned()));
    for wrong in ["tomorrow", "2999-01-01T00:00:00Z"] {
        new["sendAt"] = json!(wrong);
        assert_eq!(api.problem("POST", "/sends", Some(&new)).0, 422, "{wrong}");
    }
    // A time that has passed is now (RFC 4865, 4).
    new["sendAt"] = json!("2020-01-01T00:00:00Z");
    new["subject"] = json!("Late");
    api.post("/sends", &new);
    bob.wait_for_subject("Late");
}

#[test]
fn messages_are_listed_page_by_page_flagged_moved_and_deleted() {
    let server = Server::shared();
    let alice = server.account();
    let api = Api::new(server, &alice.address, &["--scope", "read,write"]);
    let inbox = alice.mailbox("inbox");
    let made: BTreeSet<String> =
        (0..23).map(|number| alice.create_email(&inbox, &format!("page {number}"), "some text")).collect();
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let more = cursor.map(|cursor: String| format!("&cursor={}", percent(&cursor))).unwrap_or_default();
        let page = api.get(&format!("/messages?mailbox=inbox&limit=10{more}"));
        let list = page["messages"].as_array().expect("messages");
        assert!(list.len() <= 10);
        seen.extend(list.iter().map(id_of));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen.len(), 23);
    assert_eq!(seen.iter().cloned().collect::<BTreeSet<_>>(), made);
    let found = api.get("/messages?subject=page%207");
    let id = id_of(&found["messages"][0]);

    let patched =
        api.ask("PATCH", &format!("/messages/{id}"), Some(&json!({ "seen": true, "flagged": true })));
    let patched = patched.expect(200).json();
    assert_eq!((&patched["seen"], &patched["flagged"]), (&json!(true), &json!(true)));
    assert_eq!(api.get("/messages?flagged=true")["messages"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/messages?seen=false")["messages"].as_array().unwrap().len(), 22);
    let moved = api.ask("PATCH", &format!("/messages/{id}"), Some(&json!({ "mailbox": "archive" })));
    assert_eq!(strings(&moved.expect(200).json()["mailboxes"]), [alice.mailbox("archive")]);
    let thread = patched["threadId"].as_str().expect("threadId");
    assert_eq!(id_of(&api.get(&format!("/threads/{thread}"))["messages"][0]), id);

    let whole = api.ask("GET", &format!("/messages/{id}"), None);
    let etag = whole.header("etag").expect("an ETag").to_owned();
    let path = format!("/messages/{id}");
    let known = api.request("GET", &path).header("If-None-Match", &etag).send(api.server);
    assert_eq!((known.status, known.text().as_str()), (304, ""));
    api.ask("PATCH", &path, Some(&json!({ "flagged": false }))).expect(200);
    api.request("GET", &path).header("If-None-Match", &etag).send(api.server).expect(200);
    let raw = api.ask("GET", &format!("{path}/raw"), None).expect(200);
    assert!(raw.text().contains("Subject: page 7"), "{}", raw.text());

    api.ask("PATCH", &path, Some(&json!({ "mailbox": "trash" }))).expect(200);
    assert_eq!(strings(&api.get(&path)["mailboxes"]), [alice.mailbox("trash")]);
    api.ask("DELETE", &path, None).expect(204);
    for _ in 0..2 {
        assert_eq!(api.problem("GET", &path, None), (404, "not_found".to_owned()));
        assert_eq!(api.problem("DELETE", &path, None), (404, "not_found".to_owned()));
    }
    let other = id_of(&api.get("/messages?subject=page%208")["messages"][0]);
    api.ask("DELETE", &format!("/messages/{other}"), None).expect(204);
    let counted = api.get("/mailboxes")["mailboxes"].clone();
    let inbox =
        counted.as_array().unwrap().iter().find(|mailbox| mailbox["role"] == "inbox").unwrap().clone();
    assert_eq!((&inbox["messages"], &inbox["unread"]), (&json!(21), &json!(21)));
}

#[test]
fn messages_are_answered_and_forwarded_with_attachments() {
    let server = Server::shared();
    let (alice, bob, carol) = (server.account(), server.account(), server.account());
    let (alices, bobs) = (Api::new(server, &alice.address, &[]), Api::new(server, &bob.address, &[]));
    let octets: Vec<u8> = (0..100_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let upload = alices.request("POST", "/attachments").body("image/png", octets.clone()).send(alices.server);
    let uploaded = upload.expect(201).json();
    assert_eq!((&uploaded["type"], &uploaded["size"]), (&json!("image/png"), &json!(100_000)));
    let mut new = greeting(&alice, &bob);
    new["cc"] = json!([{ "email": carol.address }]);
    new["attachments"] = json!([{ "blobId": uploaded["blobId"], "name": "plan.png", "type": "image/png" }]);
    alices.post("/sends", &new);
    let received = bob.wait_for_subject("Your order");
    let read = bobs.get(&format!("/messages/{received}"));
    let attachment = &read["attachments"][0];
    let path =
        format!("/attachments/{}?name=plan.png&type=image/png", attachment["blobId"].as_str().unwrap());
    let whole = bobs.ask("GET", &path, None).expect(200);
    assert_eq!((whole.body == octets, whole.header("content-type")), (true, Some("image/png")));
    let part = bobs.request("GET", &path).header("Range", "bytes=5-9").send(bobs.server).expect(206);
    assert_eq!(part.body, octets[5..10]);
    // Another's blob is not there.
    assert_eq!(
        alices.problem("GET", &format!("/attachments/{}", attachment["blobId"].as_str().unwrap()), None).0,
        404
    );

    bobs.post(&format!("/messages/{received}/reply"), &json!({ "text": "Thank you.", "toAll": true }));
    let answered = bob.get("Email", &received, &["keywords", "threadId"]);
    assert_eq!(answered["keywords"], json!({ "$answered": true }));
    for client in [&alice, &carol] {
        let reply = client.wait_for_subject("Re: Your order");
        let reply = client.get("Email", &reply, &["to", "cc", "inReplyTo", "references", "threadId"]);
        assert_eq!(reply["to"][0]["email"], alice.address);
        assert_eq!(reply["cc"][0]["email"], carol.address);
        assert_eq!(reply["inReplyTo"], reply["references"]);
        let whole = client.call("Thread/get", json!({ "ids": [reply["threadId"]] }))["list"][0].clone();
        assert_eq!(whole["emailIds"].as_array().unwrap().len(), 2, "one conversation: {whole}");
    }
    let forward = json!({
        "to": [{ "email": carol.address }], "text": "See below.", "html": "<p>See <b>below</b>.</p>",
        "attachments": [{ "name": "note.txt", "type": "text/plain", "content": "bm90ZQ==" }], "tags": ["handed on"],
    });
    bobs.post(&format!("/messages/{received}/forward"), &forward);
    let forwarded = carol.wait_for_subject("Fwd: Your order");
    let carols = Api::new(server, &carol.address, &[]);
    let forwarded = carols.get(&format!("/messages/{forwarded}"));
    let original = &forwarded["attachments"][0];
    assert_eq!(original["type"], "message/rfc822");
    let original = carol.download(original["blobId"].as_str().unwrap());
    assert!(String::from_utf8_lossy(&original).contains("Subject: Your order"));
    assert_eq!(forwarded["attachments"][1]["name"], "note.txt");
    assert_eq!(forwarded["html"].as_str().map(str::trim_end), Some("<p>See <b>below</b>.</p>"));
    assert_eq!(bobs.get("/sends")["sends"][0]["tags"], json!(["handed on"]));
    assert_eq!(bob.get("Email", &received, &["keywords"])["keywords"]["$forwarded"], true);
}

#[test]
fn what_is_wrong_is_told_by_its_name() {
    let server = Server::shared();
    let alice = server.account();
    let api = Api::new(server, &alice.address, &[]);
    let mut new = greeting(&alice, &alice);
    new["subjekt"] = json!("typo");
    let refused = api.ask("POST", "/sends", Some(&new)).expect(422).json();
    assert!(refused["detail"].as_str().unwrap().contains("subjekt"), "{refused}");
    let nothing = api.ask("POST", "/sends", Some(&json!({}))).expect(422).json();
    assert_eq!(nothing["fields"], json!(["from"]), "{nothing}");
    let invalid = (400, "invalid_request".to_owned());
    assert_eq!(api.problem("GET", "/messages?limit=501", None), invalid);
    assert_eq!(api.problem("GET", "/messages?limti=5", None), invalid);
    assert_eq!(api.problem("GET", "/messages?limit=many", None), invalid);
    assert_eq!(api.problem("GET", "/messages?after=yesterday", None), invalid);
    assert_eq!(api.problem("GET", "/messages?cursor=%21", None), invalid);
    assert_eq!(api.problem("GET", "/messages?mailbox=nowhere", None).0, 404);
    assert_eq!(api.problem("GET", "/massages", None), (404, "not_found".to_owned()));
    assert_eq!(api.problem("PUT", "/messages", None), (405, "method_not_allowed".to_owned()));
    assert_eq!(api.problem("GET", "/messages/%FF", None).0, 400);
    let broken = api.request("POST", "/sends").body("application/json", "{").send(api.server);
    assert_eq!((broken.status, &broken.json()["code"]), (400, &json!("invalid_request")));
    let text = api.request("POST", "/sends").body("text/plain", "{}").send(api.server);
    assert_eq!((text.status, &text.json()["code"]), (415, &json!("unsupported_media_type")));
    let mut empty = greeting(&alice, &alice);
    empty["text"] = Value::Null;
    assert_eq!(api.problem("POST", "/sends", Some(&empty)).0, 422);
    let mut injected = greeting(&alice, &alice);
    injected["headers"] = json!({ "X-A": "a\r\nBcc: victim@example.com" });
    assert_eq!(api.problem("POST", "/sends", Some(&injected)).0, 422);
    injected["headers"] = json!({ "X-A: b\r\nBcc": "victim@example.com" });
    assert_eq!(api.problem("POST", "/sends", Some(&injected)).0, 422);
}

#[test]
fn a_domain_is_administered_by_its_key_and_no_other() {
    let server = Server::start();
    let alice = server.account();
    let all = Api::new(&server, &alice.address, &["--scope", "admin,send,read", "--domain", "*"]);
    let added = all.post("/domains", &json!({ "domain": "shop.test" }));
    assert!(added["records"].as_array().unwrap().iter().any(|record| record["type"] == "MX"), "{added}");
    assert_eq!(all.problem("POST", "/domains", Some(&json!({ "domain": "shop.test" }))).0, 409);
    let new = json!({ "address": "ops@shop.test", "password": "a password", "quota": 1_000_000 });
    assert_eq!(all.post("/accounts", &new)["quota"], 1_000_000);

    let made = all.post(
        "/keys",
        &json!({
            "login": "ops@shop.test", "name": "shop", "scopes": ["admin", "send"], "domain": "shop.test",
        }),
    );
    let shop = Api { key: made["key"].as_str().map(str::to_owned), key_id: id_of(&made), ..all.clone() };
    shop.post("/accounts", &json!({ "address": "news@shop.test", "password": "another password" }));
    let names = |list: &Value| -> Vec<String> {
        list["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["address"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&shop.get("/accounts")), ["ops@shop.test", "news@shop.test"]);
    let first = shop.get("/accounts?limit=1");
    let next = format!("/accounts?limit=1&cursor={}", first["nextCursor"].as_str().unwrap());
    assert_eq!(names(&shop.get(&next)), ["news@shop.test"]);
    assert_eq!(shop.get("/domains")["domains"].as_array().unwrap().len(), 1);
    shop.post(
        "/aliases",
        &json!({ "alias": "info@shop.test", "accounts": ["ops@shop.test", "news@shop.test"] }),
    );
    assert_eq!(shop.get("/aliases")["aliases"][0]["accounts"].as_array().unwrap().len(), 2);
    shop.ask("DELETE", "/aliases/info@shop.test", None).expect(204);
    let quota = shop.ask("PATCH", "/accounts/news@shop.test", Some(&json!({ "quota": null })));
    assert_eq!(quota.expect(200).json()["quota"], Value::Null);

    // It sends as anybody of the domain, and as nobody else.
    let as_news = json!({
        "from": { "email": "news@shop.test" }, "to": [{ "email": alice.address }],
        "subject": "News of the shop", "text": "There is something new.",
    });
    shop.post("/sends", &as_news);
    alice.wait_for_subject("News of the shop");
    let mut as_alice = as_news.clone();
    as_alice["from"] = json!({ "email": alice.address });
    assert_eq!(shop.problem("POST", "/sends", Some(&as_alice)), (403, "forbidden".to_owned()));

    // Nothing of another domain is there for it.
    let others = percent(&alice.address);
    for (method, path, body) in [
        ("GET", "/domains/example.test".to_owned(), None),
        ("GET", format!("/accounts/{others}"), None),
        ("DELETE", format!("/accounts/{others}"), None),
        ("PATCH", format!("/accounts/{others}"), Some(json!({ "password": "taken over" }))),
        ("GET", format!("/keys?login={others}"), None),
        ("DELETE", format!("/keys/{}", all.key_id), None),
    ] {
        assert_eq!(shop.problem(method, &path, body.as_ref()).0, 404, "{method} {path}");
    }
    for (path, body, field) in [
        ("/accounts", json!({ "address": "x@example.test", "password": "x" }), "address"),
        ("/aliases", json!({ "alias": "x@shop.test", "accounts": [alice.address] }), "accounts"),
        ("/keys", json!({ "login": alice.address, "scopes": ["send"] }), "login"),
    ] {
        let problem = shop.ask("POST", path, Some(&body)).expect(422).json();
        assert_eq!(problem["fields"], json!([field]), "{path}: {problem}");
    }
    for (method, path, body) in [
        ("POST", "/domains", Some(json!({ "domain": "other.test" }))),
        ("DELETE", "/domains/shop.test", None),
        ("GET", "/queue", None),
        ("POST", "/keys", Some(json!({ "scopes": ["read"] }))),
        ("POST", "/keys", Some(json!({ "scopes": ["send"], "domain": "*" }))),
        ("POST", "/keys", Some(json!({ "scopes": ["admin"], "domain": "example.test" }))),
    ] {
        assert_eq!(shop.problem(method, path, body.as_ref()).0, 403, "{method} {path}");
    }
    // A key that is revoked is worth nothing at once.
    all.ask("DELETE", &format!("/keys/{}", shop.key_id), None).expect(204);
    assert_eq!(shop.problem("GET", "/domains", None), (401, "unauthorized".to_owned()));
    let own = format!("/accounts/{}", percent(&alice.address));
    assert_eq!(all.problem("DELETE", &own, None), (409, "conflict".to_owned()));
    all.ask("DELETE", "/accounts/news@shop.test", None).expect(204);
    all.ask("DELETE", "/accounts/ops@shop.test", None).expect(204);
    all.ask("DELETE", "/domains/shop.test", None).expect(204);
}

#[test]
fn a_key_is_a_password_as_far_as_its_scopes_go() {
    let server = Server::start();
    let (alice, bob) = (server.account(), server.account());
    let sends = Api::new(&server, &alice.address, &["--scope", "send"]);
    let reads = Api::new(&server, &alice.address, &["--scope", "read"]);
    let sign_in = |login: &str, api: &Api| {
        let mut session = Smtp::connect(server.submission());
        session.ehlo();
        let reply = session.auth_plain(login, api.key.as_deref().expect("a key"));
        (session, reply)
    };
    let (mut session, reply) = sign_in(&alice.address, &sends);
    reply.expect(235);
    let mail = message::text(&alice.address, &bob.address, "by a key", "y");
    session.try_send(&alice.address, &[&bob.address], mail.as_bytes()).expect("a reply").expect(250);
    bob.wait_for_subject("by a key");
    sign_in(&alice.address, &reads).1.expect(535);
    // It is the key of one login.
    sign_in(&bob.address, &sends).1.expect(535);

    // A mail program that knows of passwords only.
    let basic = crate::support::http::basic(&alice.address, reads.key.as_deref().unwrap());
    let reader = Client { authorization: basic, ..alice.clone() };
    assert_eq!(reader.query(json!({})).len(), 0);
    assert_eq!(reader.error("Email/set", json!({ "create": {} })), "forbidden");
    server.cli(&["token", "revoke", &sends.key_id]);
    let mail = message::text(&alice.address, &bob.address, "too late", "y");
    let refused = session.try_send(&alice.address, &[&bob.address], mail.as_bytes()).expect("a reply");
    assert!(refused.code >= 400, "{refused:?}");
    sign_in(&alice.address, &sends).1.expect(535);
}
