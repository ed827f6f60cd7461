//! `kill -9` during a load of SMTP, JMAP writes and deliveries, again and again: nothing
//! acknowledged is lost, nothing is stored twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{Request, path_of};
use crate::support::jmap::{CORE, Client, MAIL, SUBMISSION, id_of, plain_email};
use crate::support::server::Server;
use crate::support::smtp::Smtp;
use crate::support::smtp_sink::Sink;
use crate::support::{eventually, message};

/// How often the server is killed.
const KILLS: u64 = 20;

/// What the load was promised.
#[derive(Default)]
struct Promised {
    /// Subjects of mails that SMTP said 250 to.
    delivered: Mutex<Vec<String>>,
    /// Subjects of Emails whose creation was answered, and whether they were flagged since.
    created: Mutex<HashMap<String, (String, bool)>>,
    /// Subjects of Emails whose submission was answered.
    submitted: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that may find nobody there.
fn try_call(client: &Client, method: &str, arguments: Value) -> Option<Value> {
    let path = path_of(client.session["apiUrl"].as_str()?).to_owned();
    let body = json!({ "using": [CORE, MAIL, SUBMISSION], "methodCalls": [[method, arguments, "c"]] });
    let response = client.signed(Request::post(&path)).json(&body).try_send(client.server).ok()?;
    if response.status != 200 {
        return None;
    }
    let answer: Value = serde_json::from_slice(&response.body).ok()?;
    (answer["methodResponses"][0][0] == method).then(|| answer["methodResponses"][0][1].clone())
}

fn send_mail(server: &Server, client: &Client, promised: &Promised, number: u64) {
    let subject = format!("smtp {number}");
    let size = if number.is_multiple_of(7) { 200_000 } else { 200 };
    let mail = message::text("a@sender.test", &client.address, &subject, &"text ".repeat(size / 5));
    let Ok(mut smtp) = Smtp::try_open(server.smtp()) else {
        return std::thread::sleep(Duration::from_millis(20));
    };
    let done = smtp
        .try_reply()
        .and_then(|_| smtp.try_command("EHLO x"))
        .and_then(|_| smtp.try_send("a@sender.test", &[&client.address], mail.as_bytes()));
    if done.is_ok_and(|reply| reply.code == 250) {
        lock(&promised.delivered).push(subject);
    }
}

fn write_mail(client: &Client, drafts: &str, identity: &str, promised: &Promised, number: u64) {
    let subject = format!("jmap {number}");
    let create = json!({ "accountId": client.account, "create": { "e": plain_email(drafts, &client.address, &subject, "text") } });
    let Some(answer) = try_call(client, "Email/set", create) else {
        return std::thread::sleep(Duration::from_millis(20));
    };
    let Some(id) = answer["created"]["e"]["id"].as_str().map(str::to_owned) else { return };
    lock(&promised.created).insert(subject.clone(), (id.clone(), false));
    let update = json!({ "accountId": client.account, "update": { &id: { "keywords/$flagged": true } } });
    if try_call(client, "Email/set", update).is_some_and(|answer| answer["updated"].get(&id).is_some()) {
        lock(&promised.created).insert(subject.clone(), (id.clone(), true));
    }
    let to = format!("r{number}@elsewhere.test");
    let submit = json!({ "accountId": client.account, "create": { "s": { "emailId": id, "identityId": identity,
        "envelope": { "mailFrom": { "email": client.address }, "rcptTo": [{ "email": to }] } } } });
    if try_call(client, "EmailSubmission/set", submit)
        .is_some_and(|answer| answer["created"]["s"]["id"].is_string())
    {
        lock(&promised.submitted).push(to);
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_there_twice() {
    let sink = Sink::start();
    let server =
        Server::builder().env("POSTRIDER_RELAY", sink.relay()).env("POSTRIDER_RETRY_FIRST", "1s").start();
    let client = server.account();
    let drafts = client.mailbox("drafts");
    let identity = id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]);
    let promised = Promised::default();
    let (number, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    send_mail(&server, &client, &promised, number.fetch_add(1, Ordering::SeqCst));
                }
            });
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    write_mail(&client, &drafts, &identity, &promised, number.fetch_add(1, Ordering::SeqCst));
                }
            });
        }
        for kill in 0..KILLS {
            // Different moments: right after the start, and in the middle of things.
            std::thread::sleep(Duration::from_millis(50 + kill * 37 % 450));
            server.restart();
        }
        std::thread::sleep(Duration::from_millis(300));
        over.store(true, Ordering::SeqCst);
    });
    let (delivered, created, submitted) = (
        lock(&promised.delivered).clone(),
        lock(&promised.created).clone(),
        lock(&promised.submitted).clone(),
    );
    assert!(
        delivered.len() > 20 && created.len() > 20 && submitted.len() > 20,
        "too little load: {} {} {}",
        delivered.len(),
        created.len(),
        submitted.len()
    );

    let subjects = eventually("all that was acknowledged has been filed", || {
        let ids = client.query(json!(null));
        let mut found: HashMap<String, Vec<Value>> = HashMap::new();
        for batch in ids.chunks(500) {
            let answer =
                client.call("Email/get", json!({ "ids": batch, "properties": ["subject", "keywords"] }));
            for email in answer["list"].as_array()? {
                found.entry(email["subject"].as_str()?.to_owned()).or_default().push(email.clone());
            }
        }
        delivered.iter().all(|subject| found.contains_key(subject)).then_some(found)
    });
    for (subject, emails) in &subjects {
        assert_eq!(emails.len(), 1, "{subject} is there twice");
    }
    for (subject, (id, flagged)) in &created {
        let email = &subjects.get(subject).unwrap_or_else(|| panic!("{subject} is lost"))[0];
        assert_eq!(email["id"], json!(id));
        assert!(!flagged || email["keywords"]["$flagged"] == true, "the flag of {subject} is lost");
    }
    let arrived = eventually("all that was submitted has left", || {
        let mut arrived: HashMap<String, usize> = HashMap::new();
        for to in sink.deliveries().into_iter().flat_map(|delivery| delivery.to) {
            *arrived.entry(to).or_default() += 1;
        }
        submitted.iter().all(|to| arrived.contains_key(to)).then_some(arrived)
    });
    // The one window that SMTP cannot close: killed after the peer's 250 and before the commit.
    let twice = arrived.values().filter(|count| **count > 1).count() as u64;
    assert!(twice <= KILLS, "{twice} were delivered twice");
    assert_counters(&client);
}

/// The counters after all that are those of a count.
fn assert_counters(client: &Client) {
    let mailboxes = client
        .call("Mailbox/get", json!({ "ids": null, "properties": ["totalEmails", "unreadEmails", "name"] }));
    for mailbox in mailboxes["list"].as_array().expect("list") {
        let total = client.query(json!({ "inMailbox": mailbox["id"] })).len();
        let read = client.query(json!({ "inMailbox": mailbox["id"], "hasKeyword": "$seen" })).len();
        assert_eq!(mailbox["totalEmails"], json!(total), "{mailbox}");
        assert_eq!(mailbox["unreadEmails"], json!(total - read), "{mailbox}");
    }
}
