//! The log of events over the REST API: what happens to mail is there, in order, and is waited for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::events::EventStream;
use crate::support::http::Request;
use crate::support::jmap::{Client, id_of};
use crate::support::rest::Api;
use crate::support::server::Server;
use crate::support::smtp_sink::{Sink, Stage, Step};
use crate::support::{eventually, message, smtp};

fn new_send(from: &Client, to: &str) -> Value {
    json!({
        "from": { "email": from.address }, "to": [{ "email": to }], "subject": "Your order", "text": "It comes.",
        "tags": ["order"], "metadata": { "order": 17 },
    })
}

/// The types of events, in order.
fn types(events: &Value) -> Vec<String> {
    let list = events["events"].as_array().expect("events");
    list.iter().map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
}

/// The timeline of a send once it has so many events.
fn timeline(api: &Api, send: &str, count: usize) -> Value {
    eventually(&format!("{count} events of {send}"), || {
        let timeline = api.get(&format!("/sends/{send}/timeline"));
        (types(&timeline).len() >= count).then_some(timeline)
    })
}

#[test]
fn a_send_and_its_receipt_are_told_to_both_sides() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "send"]);
    let bobs = Api::new(server, &bob.address, &["--scope", "read"]);
    assert_eq!(types(&bobs.get("/events")), [""; 0]);
    let begin = bobs.get("/events?after=latest")["nextCursor"].as_str().expect("a cursor").to_owned();
    let accepted = api.post("/sends", &new_send(&alice, &bob.address));
    let send = id_of(&accepted);
    let told = timeline(&api, &send, 2);
    assert_eq!(types(&told), ["message.sent", "message.delivered"]);
    let (sent, delivered) = (&told["events"][0], &told["events"][1]);
    for event in [sent, delivered] {
        assert_eq!((&event["accountId"], &event["account"]), (&json!(alice.account), &json!(alice.address)));
        assert_eq!(event["data"]["sendId"], *send);
        assert_eq!(event["data"]["messageId"], accepted["messageId"]);
        assert_eq!(event["data"]["threadId"], accepted["threadId"]);
        assert_eq!(event["data"]["tags"], json!(["order"]));
        assert_eq!(event["data"]["metadata"], json!({ "order": 17 }));
        assert_eq!(event["data"]["from"], alice.address);
    }
    assert_eq!(sent["data"]["recipients"], json!([bob.address]));
    assert_eq!(sent["data"]["subject"], "Your order");
    assert_eq!(delivered["data"]["recipient"], bob.address);
    assert!(
        delivered["data"]["reply"].as_str().is_some_and(|reply| reply.starts_with("250 ")),
        "{delivered}"
    );
    // The other side: with a cursor from before, and nothing that a key for sending may not hear.
    let page = eventually("received", || {
        let page = bobs.get(&format!("/events?after={begin}"));
        (!types(&page).is_empty()).then_some(page)
    });
    assert_eq!(types(&page), ["message.received"]);
    let received = &page["events"][0]["data"];
    assert_eq!((&received["from"], &received["subject"]), (&json!(alice.address), &json!("Your order")));
    let message = bobs.get(&format!("/messages/{}", received["messageId"].as_str().expect("an id")));
    assert_eq!(message["threadId"], received["threadId"]);
    assert_eq!(api.problem("GET", "/events?types=message.received", None), (403, "missing_scope".to_owned()));
    assert_eq!(bobs.problem("GET", "/events?types=message.read", None), (400, "invalid_request".to_owned()));
    assert_eq!(bobs.problem("GET", "/events?after=17", None), (400, "invalid_request".to_owned()));
    assert_eq!(types(&api.get("/events?types=message.delivered")), ["message.delivered"]);
}

#[test]
fn what_other_servers_say_is_told_for_each_recipient() {
    let sink = Sink::start();
    sink.script(|stage, line| {
        let is_refused = stage == Stage::Recipient && line.contains("no@remote.test");
        if is_refused { Step::Reply("550 5.1.1 No such user") } else { Step::Accept }
    });
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let alice = server.account();
    let api = Api::new(&server, &alice.address, &["--scope", "send"]);
    let mut new = new_send(&alice, "yes@remote.test");
    new["to"] = json!([{ "email": "yes@remote.test" }, { "email": "no@remote.test" }]);
    let send = id_of(&api.post("/sends", &new));
    let told = timeline(&api, &send, 3);
    let of = |kind: &str| {
        let found = told["events"].as_array().expect("events").iter().find(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("{kind}: {told}"))["data"].clone()
    };
    assert_eq!(of("message.delivered")["recipient"], "yes@remote.test");
    assert_eq!(of("message.bounced")["recipient"], "no@remote.test");
    assert_eq!(of("message.bounced")["reply"], "550 5.1.1 No such user");
    // A later one that is taken back.
    let mut later = new_send(&alice, "yes@remote.test");
    let held = json!({
        "emailId": alice.create_email(&alice.mailbox("drafts"), "held", "text"),
        "identityId": id_of(&alice.call("Identity/get", json!({ "ids": null }))["list"][0]),
        "envelope": { "mailFrom": { "email": alice.address, "parameters": { "HOLDFOR": "1000" } },
            "rcptTo": [{ "email": "yes@remote.test" }] },
    });
    later["sendAt"] = alice.create("EmailSubmission", held)["sendAt"].clone();
    let send = id_of(&api.post("/sends", &later));
    api.post(&format!("/sends/{send}/cancel"), &json!({}));
    let told = timeline(&api, &send, 2);
    assert_eq!(types(&told), ["message.sent", "message.canceled"]);
    assert_eq!(told["events"][0]["data"]["sendAt"], later["sendAt"]);
}

#[test]
fn whoever_waits_hears_at_once_and_pages_join_without_a_gap() {
    let server = Server::shared();
    let alice = server.account();
    let api = Api::new(server, &alice.address, &["--scope", "read"]);
    let cursor = api.get("/events?after=latest")["nextCursor"].as_str().expect("a cursor").to_owned();
    // Who waits is asked to come again when its login has changed, as by a key that another process has just
    // made.
    let waits = (0..5).any(|_| {
        let begun = Instant::now();
        assert!(types(&api.get(&format!("/events?after={cursor}&wait=1"))).is_empty());
        begun.elapsed() >= Duration::from_secs(1)
    });
    assert!(waits);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let page = api.get(&format!("/events?after={cursor}&wait=60"));
            (page, Instant::now())
        });
        std::thread::sleep(Duration::from_millis(300));
        let text = message::text("sender@remote.test", &alice.address, "1", "text");
        smtp::send(server.smtp(), "sender@remote.test", &[&alice.address], &text);
        // What is filed is logged in a moment, and the log is looked at in a minute without a wake.
        alice.wait_for_subject("1");
        let filed = Instant::now();
        let (page, heard) = waiting.join().expect("an answer");
        assert_eq!(types(&page), ["message.received"]);
        assert!(heard.saturating_duration_since(filed) < Duration::from_secs(10), "it was not woken");
    });
    for number in 2..=9 {
        let text = message::text("sender@remote.test", &alice.address, &number.to_string(), "text");
        smtp::send(server.smtp(), "sender@remote.test", &[&alice.address], &text);
    }
    alice.wait_for_emails(json!({}), 9);
    let (mut subjects, mut after) = (Vec::new(), cursor);
    while subjects.len() < 9 {
        let page = api.get(&format!("/events?after={after}&limit=2&wait=10"));
        let list = page["events"].as_array().expect("events");
        assert!(!list.is_empty() && list.len() <= 2, "{page}");
        subjects.extend(list.iter().map(|event| event["data"]["subject"].as_str().unwrap().to_owned()));
        // The cursor of an event is as good as that of its page.
        let cursor =
            if subjects.len() % 4 == 0 { &list[list.len() - 1]["cursor"] } else { &page["nextCursor"] };
        after = cursor.as_str().expect("a cursor").to_owned();
    }
    subjects.sort();
    assert_eq!(subjects, (1..=9).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_stream_goes_on_where_it_was_cut_and_ends_with_its_key() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "read", "--domain", "example.test"]);
    let open = |last: Option<&str>| {
        let path = "/events?domain=example.test&after=latest";
        let request = api.request("GET", path);
        let request = match last {
            Some(id) => request.header("Last-Event-ID", id),
            None => request,
        };
        EventStream::open(server.http(), request)
    };
    let deliver = |to: &Client, subject: &str| {
        let text = message::text("sender@remote.test", &to.address, subject, "text");
        smtp::send(server.smtp(), "sender@remote.test", &[&to.address], &text);
    };
    // Others use the same domain: only these two are looked at.
    let next = |stream: &EventStream| {
        stream.wait_for("an event", |event| {
            let account = event.json()["accountId"].as_str()?.to_owned();
            [&alice.account, &bob.account].contains(&&account).then(|| event.clone())
        })
    };
    // Whoever is cut off before anything has happened knows where to go on.
    let place = open(None).wait_for("the place", |event| event.id.clone());
    deliver(&alice, "while away");
    alice.wait_for_subject("while away");
    assert_eq!(next(&open(Some(&place))).json()["data"]["subject"], "while away");
    let stream = open(None);
    deliver(&alice, "first");
    let first = next(&stream);
    assert_eq!(
        (first.name.as_str(), &first.json()["data"]["subject"]),
        ("message.received", &json!("first"))
    );
    drop(stream);
    deliver(&bob, "second");
    bob.wait_for_subject("second");
    let stream = open(first.id.as_deref());
    let second = next(&stream);
    assert_eq!(
        (&second.json()["account"], &second.json()["data"]["subject"]),
        (&json!(bob.address), &json!("second"))
    );
    server.cli(&["token", "revoke", &api.key_id]);
    assert!(stream.ended_within(Duration::from_secs(20)), "the key is void");
    let refused =
        Request::get("/api/v1/events").header("Authorization", &format!("Bearer {}", api.key.unwrap()));
    refused.send(server.http()).expect(401);
}

#[test]
fn a_cursor_is_good_for_every_part_of_the_log() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "read", "--domain", "example.test"]);
    // Alice's transactions are many, so that her places are no places of Bob's.
    let inbox = alice.mailbox("inbox");
    (0..5).for_each(|number| drop(alice.create_email(&inbox, &number.to_string(), "text")));
    let begin =
        api.get("/events?domain=example.test&after=latest")["nextCursor"].as_str().unwrap().to_owned();
    for (to, subject) in [(&bob, "b1"), (&alice, "a1"), (&bob, "b2"), (&alice, "a2"), (&bob, "b3")] {
        let text = message::text("sender@remote.test", &to.address, subject, "text");
        smtp::send(server.smtp(), "sender@remote.test", &[&to.address], &text);
        // One after the other into the log.
        eventually(subject, || {
            let page = api.get(&format!("/events?account={}&limit=500", to.account));
            page["events"].as_array()?.iter().any(|event| event["data"]["subject"] == subject).then_some(())
        });
    }
    let subjects = |whose: &str, after: &str| -> Vec<String> {
        let page = api.get(&format!("/events?{whose}&after={after}&limit=500"));
        let list = page["events"].as_array().expect("events").clone();
        list.iter().map(|event| event["data"]["subject"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let of_bob = format!("account={}", bob.account);
    assert_eq!(subjects(&of_bob, &begin), ["b1", "b2", "b3"]);
    let page = api.get(&format!("/events?domain=example.test&after={begin}&limit=500"));
    let cursor = |subject: &str| {
        let list = page["events"].as_array().expect("events");
        let event = list.iter().find(|event| event["data"]["subject"] == subject).expect("an event");
        event["cursor"].as_str().expect("a cursor").to_owned()
    };
    assert_eq!(subjects(&of_bob, &cursor("a1")), ["b2", "b3"]);
    assert_eq!(subjects(&of_bob, &cursor("b2")), ["b3"]);
    assert_eq!(subjects(&format!("account={}", alice.account), &cursor("b1")), ["a1", "a2"]);
    let mut after_b1 = subjects("domain=example.test", &cursor("b1"));
    // Others use the same domain.
    after_b1.retain(|subject| ["a1", "a2", "b2", "b3"].contains(&subject.as_str()));
    assert_eq!(after_b1, ["a1", "b2", "a2", "b3"]);
}

#[test]
fn addresses_that_are_not_there_or_complain_are_not_tried_again() {
    let sink = Sink::start();
    sink.script(|stage, line| {
        let step = |name: &str, reply| (line.contains(name)).then_some(Step::Reply(reply));
        match stage {
            Stage::Recipient => step("no@remote.test", "550 5.1.1 No such user")
                .or_else(|| step("full@remote.test", "552 5.2.2 Mailbox full"))
                .unwrap_or(Step::Accept),
            _ => Step::Accept,
        }
    });
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let alice = server.account();
    let api = Api::new(&server, &alice.address, &["--scope", "send"]);
    let mut new = new_send(&alice, "x");
    let to = ["no@remote.test", "full@remote.test", "yes@remote.test"];
    new["to"] = to.map(|email| json!({ "email": email })).into();
    let first = id_of(&api.post("/sends", &new));
    timeline(&api, &first, 4);
    let listed = |api: &Api| -> Vec<(String, String)> {
        let list = api.get("/suppressions")["suppressions"].clone();
        let text = |of: &Value, name: &str| of[name].as_str().expect("a text").to_owned();
        list.as_array().expect("a list").iter().map(|of| (text(of, "email"), text(of, "reason"))).collect()
    };
    assert_eq!(listed(&api), [("no@remote.test".to_owned(), "bounce".to_owned())]);

    // A recipient complains, by the report of its provider (RFC 5965) to the account that sent.
    let delivery = sink.wait_for("yes@remote.test");
    let text = String::from_utf8_lossy(&delivery.message).into_owned();
    let id = text.lines().find(|line| line.starts_with("Message-ID:")).expect("a Message-ID");
    let report = format!(
        "From: <fbl@remote.test>\r\nTo: <{to}>\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\
         User-Agent: Test/1\r\nOriginal-Rcpt-To: <Yes@remote.test>\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\n{id}\r\n\r\n--b--\r\n",
        to = alice.address
    );
    smtp::send(server.smtp(), "fbl@remote.test", &[&alice.address], &report);
    let told = timeline(&api, &first, 5);
    let complaint = told["events"].as_array().expect("events").last().expect("an event").clone();
    assert_eq!(
        (&complaint["type"], &complaint["data"]["recipient"]),
        (&json!("message.complained"), &json!("Yes@remote.test"))
    );
    // Again it says nothing new.
    smtp::send(server.smtp(), "fbl@remote.test", &[&alice.address], &report);
    alice.wait_for_emails(json!({ "subject": "complaint" }), 2);
    assert_eq!(listed(&api).len(), 2);

    // Neither is tried; the others get it, and the send says so.
    let seen = sink.deliveries().len();
    let second = id_of(&api.post("/sends", &new));
    let told = timeline(&api, &second, 4);
    let mut seen_types = types(&told);
    seen_types.sort();
    assert_eq!(seen_types, ["message.bounced", "message.sent", "message.suppressed", "message.suppressed"]);
    assert_eq!(sink.deliveries().len(), seen);
    assert_eq!(types(&timeline(&api, &first, 5)).len(), 5);
    let status = api.get(&format!("/sends/{second}"));
    for recipient in status["recipients"].as_array().expect("recipients") {
        assert_eq!(recipient["status"], "failed", "{status}");
    }
    // A person may try all the same, and a program when the address is off the list.
    api.ask("DELETE", "/suppressions/yes@remote.test", None).expect(204);
    assert_eq!(api.problem("DELETE", "/suppressions/yes@remote.test", None).0, 404);
    new["to"] = json!([{ "email": "yes@remote.test" }]);
    let third = id_of(&api.post("/sends", &new));
    assert_eq!(types(&timeline(&api, &third, 2)), ["message.sent", "message.delivered"]);
    api.ask("POST", "/suppressions", Some(&json!({ "email": "YES@Remote.test", "detail": "as\u{0}ked" })))
        .expect(204);
    assert!(
        listed(&api).contains(&("yes@remote.test".to_owned(), "manual".to_owned())),
        "{:?}",
        listed(&api)
    );
}

#[test]
fn a_test_is_made_and_kept_and_nobody_gets_it() {
    let sink = Sink::start();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(&server, &alice.address, &["--scope", "send"]);
    let mut new = new_send(&alice, &bob.address);
    new["to"] = json!([{ "email": bob.address }, { "email": "yes@remote.test" }]);
    new["test"] = json!(true);
    let accepted = api.post("/sends", &new);
    let told = timeline(&api, &id_of(&accepted), 3);
    assert_eq!(types(&told), ["message.sent", "message.delivered", "message.delivered"]);
    assert!(
        told["events"].as_array().expect("events").iter().all(|event| event["data"]["isTest"] == true),
        "{told}"
    );
    assert_eq!(api.get(&format!("/sends/{}", id_of(&accepted)))["status"], "done");
    let message =
        alice.get("Email", accepted["messageId"].as_str().expect("an id"), &["keywords", "mailboxIds"]);
    assert_eq!(message["keywords"], json!({ "$seen": true, "test": true }));
    // What is really sent after it arrives; the test has not.
    new["test"] = json!(false);
    new["subject"] = json!("in earnest");
    api.post("/sends", &new);
    bob.wait_for_subject("in earnest");
    sink.wait_for("yes@remote.test");
    assert_eq!((bob.query(json!({})).len(), sink.deliveries().len()), (1, 1));
}

#[test]
fn templates_make_messages() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let api = Api::new(server, &alice.address, &["--scope", "send"]);
    let template = json!({
        "subject": "Order {{ number }}", "text": "Dear {{ name }},{% for item in items %} {{ item }}{% endfor %}",
        "html": "<p>Dear {{ name }}</p>",
    });
    api.ask("PUT", "/templates/order", Some(&template)).expect(200);
    assert_eq!(api.get("/templates")["templates"][0]["name"], "order");
    assert_eq!(api.get("/templates/order")["subject"], "Order {{ number }}");
    let variables = json!({ "number": 17, "name": "<Bob>", "items": ["a", "b"] });
    let new = |variables: &Value| {
        json!({
            "from": { "email": alice.address }, "to": [{ "email": bob.address }],
            "template": { "name": "order", "variables": variables },
        })
    };
    // Many at once, each with its own variables; one lacks one.
    let batch =
        api.post("/sends/batch", &json!({ "messages": [new(&variables), new(&json!({ "number": 1 }))] }));
    assert!(batch["results"][0]["accepted"].is_object(), "{batch}");
    let refused = &batch["results"][1]["error"];
    assert_eq!(refused["code"], "unprocessable");
    assert!(
        refused["detail"].as_str().is_some_and(|text| text.contains("order") && text.contains("items, name")),
        "{refused}"
    );
    // One that is no message at all is a fault of the whole request, told by the name of its field.
    let mut wrong = new(&variables);
    wrong["to"] = json!([{ "email": 5 }]);
    let told = api.ask("POST", "/sends/batch", Some(&json!({ "messages": [wrong] }))).expect(422).json();
    assert_eq!(told["fields"], json!(["messages[0].to[0]"]), "{told}");
    let received = bob.wait_for_subject("Order 17");
    let read = Api::new(server, &bob.address, &["--scope", "read"]).get(&format!("/messages/{received}"));
    assert_eq!(read["text"].as_str().map(str::trim_end), Some("Dear <Bob>, a b"));
    assert_eq!(read["html"].as_str().map(str::trim_end), Some("<p>Dear &lt;Bob&gt;</p>"));
    // What is wrong is told when it is written.
    let problem = |body: Value| api.problem("PUT", "/templates/wrong", Some(&body));
    assert_eq!(problem(json!({ "text": "{{ a" })), (422, "unprocessable".to_owned()));
    assert_eq!(problem(json!({ "subject": "nothing else" })), (422, "unprocessable".to_owned()));
    let mut both = new(&variables);
    both["text"] = json!("x");
    assert_eq!(api.problem("POST", "/sends", Some(&both)), (422, "unprocessable".to_owned()));
    api.ask("DELETE", "/templates/order", None).expect(204);
    assert_eq!(api.problem("POST", "/sends", Some(&new(&variables))), (422, "unprocessable".to_owned()));
}

#[test]
fn a_reply_is_sent_once_and_what_programs_write_is_marked() {
    let server = Server::shared();
    let (alice, bob) = (server.account(), server.account());
    let (api, bobs) = (Api::new(server, &alice.address, &[]), Api::new(server, &bob.address, &[]));
    bobs.post("/sends", &new_send(&bob, &alice.address));
    let question = alice.wait_for_subject("Your order");
    let reply = |text: &str| {
        let request = api.request("POST", &format!("/messages/{question}/reply"));
        let body = json!({ "text": text, "tags": ["answer"] });
        request.header("Idempotency-Key", "answer-1").json(&body).send(api.server)
    };
    let first = reply("Yes.").expect(202).json();
    let again = reply("Yes.").expect(202);
    assert_eq!((again.header("idempotency-replayed"), again.json()), (Some("true"), first));
    assert_eq!(reply("No.").expect(409).json()["code"], "idempotency_mismatch");
    bob.wait_for_subject("Re: Your order");
    // A bounce, and a person's mail.
    bobs.post("/sends", &new_send(&bob, "nobody@example.test"));
    let told = eventually("three messages", || {
        let page = bobs.get("/events?types=message.received&wait=5");
        (types(&page).len() == 2).then_some(page)
    });
    let marks: Vec<bool> = told["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["data"]["isAutomatic"] == true)
        .collect();
    assert_eq!(marks, [false, true], "{told}");
    assert_eq!(bob.query(json!({ "subject": "Re: Your order" })).len(), 1);
}
