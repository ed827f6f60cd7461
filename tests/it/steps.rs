//! A worker that is killed at each of its steps: at each piece of what it says to the database from the
//! moment on at which there is work for it. Another one brings the work to its end.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::jmap::{Client, id_of, plain_email};
use crate::support::relay::Relay;
use crate::support::server::Server;
use crate::support::smtp_sink::Sink;
use crate::support::{eventually, poll, stack};

/// `1`: every step, else some of them.
const ALL_STEPS: &str = "POSTRIDER_TEST_ALL_STEPS";
/// Kills of one role unless all steps are wanted.
const SOME: u64 = 8;
/// More than any worker has steps for one mail.
const MOST_STEPS: u64 = 400;

/// A worker behind a relay, and the rest of the system.
struct Steps {
    rest: Server,
    client: Client,
    role: &'static str,
    relay: Relay,
    /// The database as the worker is told of it.
    through: String,
    relay_to: Vec<(String, String)>,
}

impl Steps {
    fn new(role: &'static str, sink: &Sink) -> Steps {
        let others = ["api", "push", "receive", "ingest", "deliver", "events"]
            .into_iter()
            .filter(|other| *other != role);
        let rest = others.collect::<Vec<_>>().join(",");
        let rest = if role == "index" { rest } else { format!("{rest},index") };
        let relay_to = vec![
            ("POSTRIDER_RELAY".to_owned(), sink.relay()),
            ("POSTRIDER_RETRY_FIRST".to_owned(), "1s".to_owned()),
        ];
        let rest = Server::builder().roles(&rest).envs(relay_to.clone()).start();
        let url = rest.variable("POSTRIDER_DATABASE_URL").expect("a database").to_owned();
        let (before, after) = url.split_at(url.find('@').expect("a user") + 1);
        let (hosts, after) = after.split_at(after.find('/').expect("a database"));
        let target: SocketAddr =
            hosts.split(',').next().and_then(|host| host.parse().ok()).expect("an address");
        let relay = Relay::start(target);
        let through = format!("{before}{}{after}", relay.address());
        let client = rest.account();
        Steps { rest, client, role, relay, through, relay_to }
    }

    fn worker(&self) -> Arc<Server> {
        let worker = Server::builder()
            .roles(self.role)
            .envs(self.relay_to.clone())
            .beside(&self.rest)
            .env("POSTRIDER_DATABASE_URL", &self.through);
        Arc::new(worker.start())
    }

    /// Kills a worker at one step after the other, until it comes to the end of its work alive.
    /// The names of what was to be done, with the moment of the kill.
    fn kill_at_each(
        &self,
        begin: impl Fn(&str),
        is_done: impl Fn(&str) -> bool,
    ) -> Vec<(String, Option<Instant>)> {
        // How many steps there are decides how far apart those are at which it is killed.
        let total = self.steps_of_one(&begin, &is_done);
        let stride = match std::env::var(ALL_STEPS) {
            Ok(all) if all == "1" => 1,
            _ => (total / SOME).max(1),
        };
        let mut names = Vec::new();
        let mut kills = 0;
        for step in (0..total).step_by(stride as usize) {
            let name = format!("{}-{step}", self.role);
            let worker = self.worker();
            let killed = worker.clone();
            let moment = Arc::new(OnceLock::new());
            let told = moment.clone();
            self.relay.set_trap(step, move || {
                // It goes on with other things until it is dead.
                killed.kill();
                let _ = told.set(Instant::now());
            });
            begin(&name);
            let is_killed = poll(|| (worker.has_ended() || is_done(&name)).then(|| worker.has_ended()));
            let was_there = self.relay.take_trap();
            kills += u64::from(is_killed == Some(true));
            drop(worker);
            if !is_done(&name) {
                let next = self.worker();
                eventually(&format!("{name} comes to its end"), || is_done(&name).then_some(()));
                drop(next);
            }
            assert!(is_killed.is_some() || was_there, "{name}: neither killed nor done");
            names.push((name, moment.get().copied()));
        }
        // While it waits for work a worker has steps, too: at some of them the work was done already.
        assert!(kills >= 3, "{} was killed {kills} times of {}", self.role, names.len());
        names
    }

    /// How many pieces the worker sends until a piece of work is done.
    fn steps_of_one(&self, begin: &impl Fn(&str), is_done: &impl Fn(&str) -> bool) -> u64 {
        let worker = self.worker();
        self.relay.set_trap(MOST_STEPS, || ());
        begin("first");
        eventually("the first is done", || is_done("first").then_some(()));
        let left = self.relay.pieces_left().unwrap_or(0);
        self.relay.take_trap();
        drop(worker);
        MOST_STEPS - left
    }

    /// Whether nothing is in any queue. The figure may be a second old.
    fn is_idle(&self) -> bool {
        let is_empty = || self.rest.metric("postrider_queue_messages") == Some(0.0);
        is_empty() && {
            std::thread::sleep(Duration::from_millis(1_100));
            is_empty()
        }
    }

    fn emails(&self, subject: &str) -> usize {
        let ids = self.client.query(json!(null));
        let got = self.client.call("Email/get", json!({ "ids": ids, "properties": ["subject"] }));
        got["list"].as_array().into_iter().flatten().filter(|email| email["subject"] == subject).count()
    }
}

#[test]
fn ingest_killed_at_each_step_files_each_mail_once() {
    if !stack::is_shared() {
        return;
    }
    let sink = Sink::start();
    let steps = Steps::new("ingest", &sink);
    let deliver = |subject: &str| {
        let mail = format!("Subject: {subject}\r\n\r\ntext");
        steps.rest.deliver("a@sender.test", &steps.client.address, mail);
    };
    let names = steps.kill_at_each(deliver, |subject| steps.emails(subject) > 0 && steps.is_idle());
    for (name, _) in names {
        assert_eq!(steps.emails(&name), 1, "{name}");
    }
}

#[test]
fn deliver_killed_at_each_step_sends_each_mail() {
    if !stack::is_shared() {
        return;
    }
    let sink = Sink::start();
    let steps = Steps::new("deliver", &sink);
    let client = &steps.client;
    let (drafts, identity) =
        (client.mailbox("drafts"), id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]));
    let submit = |name: &str| {
        let email = plain_email(&drafts, &client.address, name, "text");
        let made = client.call("Email/set", json!({ "create": { "e": email } }));
        let create = json!({ "s": {
            "emailId": made["created"]["e"]["id"], "identityId": identity,
            "envelope": {
                "mailFrom": { "email": client.address },
                "rcptTo": [{ "email": format!("{name}@elsewhere.test") }],
            },
        } });
        let sent = client.call("EmailSubmission/set", json!({ "create": create }));
        assert!(sent["created"]["s"].is_object(), "{sent}");
    };
    let times = |name: &str| {
        let to = format!("{name}@elsewhere.test");
        let all = sink.deliveries();
        let mut times: Vec<Instant> = all
            .iter()
            .filter(|delivery| delivery.to.contains(&to))
            .filter_map(|delivery| delivery.at)
            .collect();
        times.sort();
        times
    };
    let names = steps.kill_at_each(submit, |name| !times(name).is_empty() && steps.is_idle());
    for (name, killed) in names {
        let times = times(&name);
        match times.as_slice() {
            [_] => {}
            // Killed after the remote's 250 and before our commit.
            [first, _] => assert!(killed.is_some_and(|killed| *first <= killed), "{name}: sent twice"),
            _ => panic!("{name}: sent {} times", times.len()),
        }
    }
}

#[test]
fn index_killed_at_each_step_leaves_nothing_unfound() {
    // Where the index is of one process, that is killed by `crash`.
    if !stack::is_shared() || !stack::is_meilisearch() {
        return;
    }
    let sink = Sink::start();
    let steps = Steps::new("index", &sink);
    let deliver = |subject: &str| {
        let mail = format!("Subject: {subject}\r\n\r\ntext");
        steps.rest.deliver("a@sender.test", &steps.client.address, mail);
    };
    let names = steps.kill_at_each(deliver, |subject| steps.emails(subject) > 0 && steps.is_idle());
    for (name, _) in names {
        let found = steps.client.query(json!({ "subject": format!("\"{}\"", name.replace('-', " ")) }));
        assert_eq!(found.len(), 1, "{name}");
    }
}
