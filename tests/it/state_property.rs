//! Random operations; after some of them a client's copy is brought up to date by /changes and
//! /queryChanges alone, and must equal a fresh fetch. The counters of mailboxes must equal what
//! can be counted from the Emails.
//!
//! The operations follow from a seed; `POSTRIDER_SEED=n` runs that one alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::support::jmap::{Client, id_of, strings};
use crate::support::server::Server;

/// Numbers that follow from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }
}

/// What a client remembers of a type.
struct Copy {
    kind: &'static str,
    properties: Value,
    state: String,
    objects: BTreeMap<String, Value>,
}

impl Copy {
    fn new(client: &Client, kind: &'static str, properties: Value) -> Copy {
        let mut copy = Copy { kind, properties, state: String::new(), objects: BTreeMap::new() };
        let (state, objects) = copy.fetch_all(client);
        copy.state = state;
        copy.objects = objects;
        copy
    }

    fn fetch(&self, client: &Client, ids: &[String]) -> (String, BTreeMap<String, Value>) {
        let answer =
            client.call(&format!("{}/get", self.kind), json!({ "ids": ids, "properties": self.properties }));
        let objects = answer["list"].as_array().expect("list").iter();
        let objects = objects.map(|object| (id_of(object), object.clone())).collect();
        (answer["state"].as_str().expect("state").to_owned(), objects)
    }

    fn fetch_all(&self, client: &Client) -> (String, BTreeMap<String, Value>) {
        match self.kind {
            "Mailbox" => {
                let answer =
                    client.call("Mailbox/get", json!({ "ids": null, "properties": self.properties }));
                let objects = answer["list"].as_array().expect("list").iter();
                let objects = objects.map(|object| (id_of(object), object.clone())).collect();
                (answer["state"].as_str().expect("state").to_owned(), objects)
            }
            "Thread" => {
                let emails = client.query(json!(null));
                let answer = client.call("Email/get", json!({ "ids": emails, "properties": ["threadId"] }));
                let threads: BTreeSet<String> = answer["list"]
                    .as_array()
                    .expect("list")
                    .iter()
                    .map(|email| email["threadId"].as_str().expect("threadId").to_owned())
                    .collect();
                self.fetch(client, &threads.into_iter().collect::<Vec<_>>())
            }
            _ => self.fetch(client, &client.query(json!(null))),
        }
    }

    /// Follows /changes to its end, a few objects at a time.
    fn catch_up(&mut self, client: &Client, random: &mut Random) {
        for _ in 0..1000 {
            let mut arguments = json!({ "sinceState": self.state });
            let most = 1 + random.below(6);
            if random.chance(70) {
                arguments["maxChanges"] = json!(most);
            }
            let answer = client.call(&format!("{}/changes", self.kind), arguments.clone());
            assert_eq!(answer["oldState"], json!(self.state));
            let (created, updated, destroyed) =
                (strings(&answer["created"]), strings(&answer["updated"]), strings(&answer["destroyed"]));
            let all: Vec<&String> = created.iter().chain(&updated).chain(&destroyed).collect();
            let different: BTreeSet<&&String> = all.iter().collect();
            assert_eq!(all.len(), different.len(), "an id stands in two lists: {answer}");
            if arguments.get("maxChanges").is_some() {
                assert!(all.len() <= most, "more than maxChanges: {answer}");
            }
            for id in &destroyed {
                self.objects.remove(id);
            }
            let wanted: Vec<String> = created.iter().chain(&updated).cloned().collect();
            if let Some(properties) = answer["updatedProperties"].as_array() {
                // The client fetches these alone for what it knows, and must be right nevertheless.
                let known: Vec<&String> =
                    updated.iter().filter(|id| self.objects.contains_key(*id)).collect();
                let got = client.call("Mailbox/get", json!({ "ids": known, "properties": properties }));
                for object in got["list"].as_array().expect("list") {
                    let copy = self.objects.get_mut(&id_of(object)).expect("known");
                    for (name, value) in object.as_object().expect("object") {
                        copy[name] = value.clone();
                    }
                }
                let unknown: Vec<String> =
                    wanted.iter().filter(|id| !self.objects.contains_key(*id)).cloned().collect();
                self.objects.extend(self.fetch(client, &unknown).1);
            } else {
                // What was destroyed meanwhile comes as notFound, and as destroyed later.
                self.objects.extend(self.fetch(client, &wanted).1);
            }
            let new_state = answer["newState"].as_str().expect("newState").to_owned();
            let has_more = answer["hasMoreChanges"] == json!(true);
            assert!(!has_more || new_state != self.state, "no progress: {answer}");
            self.state = new_state;
            if !has_more {
                return;
            }
        }
        panic!("{}/changes has no end", self.kind);
    }

    fn assert_fresh(&self, client: &Client) {
        let (state, fresh) = self.fetch_all(client);
        let mut differences = Vec::new();
        for id in self.objects.keys().chain(fresh.keys()) {
            let (copy, fresh) = (self.objects.get(id), fresh.get(id));
            if copy != fresh {
                differences.push(format!("{id}: copy {copy:?}, server {fresh:?}"));
            }
        }
        differences.dedup();
        assert!(differences.is_empty(), "{} after {}:\n{}", self.kind, self.state, differences.join("\n"));
        assert_eq!(self.state, state, "{}: the state differs after catching up", self.kind);
    }
}

/// What a client remembers of a query.
struct Window {
    method: &'static str,
    arguments: Value,
    state: String,
    ids: Vec<String>,
}

impl Window {
    fn new(client: &Client, method: &'static str, arguments: Value) -> Window {
        let mut window = Window { method, arguments, state: String::new(), ids: Vec::new() };
        window.refresh(client);
        window
    }

    fn fetch(&self, client: &Client) -> (String, Vec<String>, bool) {
        let mut arguments = self.arguments.clone();
        arguments["calculateTotal"] = json!(true);
        let answer = client.call(&format!("{}/query", self.method), arguments);
        let ids = strings(&answer["ids"]);
        assert_eq!(answer["total"], json!(ids.len()));
        let state = answer["queryState"].as_str().expect("queryState").to_owned();
        (state, ids, answer["canCalculateChanges"] == json!(true))
    }

    fn refresh(&mut self, client: &Client) {
        let (state, ids, _) = self.fetch(client);
        self.state = state;
        self.ids = ids;
    }

    fn catch_up(&mut self, client: &Client) {
        let mut arguments: Map<String, Value> = self.arguments.as_object().expect("object").clone();
        arguments.insert("sinceQueryState".into(), json!(self.state));
        arguments.insert("calculateTotal".into(), json!(true));
        let answer = client.answer(&format!("{}/queryChanges", self.method), Value::Object(arguments));
        if answer.name == "error" {
            assert_eq!(answer.arguments["type"], "cannotCalculateChanges", "{answer:?}");
            assert!(!self.fetch(client).2, "canCalculateChanges, but it cannot: {}", self.arguments);
            return self.refresh(client);
        }
        let answer = answer.arguments;
        assert_eq!(answer["oldQueryState"], json!(self.state));
        // RFC 8620, 5.6: first out, then in, in the order of the answer.
        let removed: BTreeSet<String> = strings(&answer["removed"]).into_iter().collect();
        self.ids.retain(|id| !removed.contains(id));
        for added in answer["added"].as_array().expect("added") {
            let index = added["index"].as_u64().expect("index") as usize;
            assert!(index <= self.ids.len(), "index {index} is beyond the list: {answer}");
            let id = added["id"].as_str().expect("id").to_owned();
            assert!(!self.ids.contains(&id), "{id} is added, and there already: {answer}");
            self.ids.insert(index, id);
        }
        assert_eq!(answer["total"], json!(self.ids.len()), "{answer}");
        self.state = answer["newQueryState"].as_str().expect("newQueryState").to_owned();
    }

    fn assert_fresh(&self, client: &Client) {
        let (_, fresh, _) = self.fetch(client);
        assert_eq!(self.ids, fresh, "{}/query {}", self.method, self.arguments);
    }
}

const KEYWORDS: [&str; 6] = ["$seen", "$flagged", "$answered", "$draft", "work", "$Forwarded"];

/// Does one thing to the account.
fn operate(server: &Server, client: &Client, random: &mut Random, step: usize) -> String {
    let mailboxes = strings(&client.call("Mailbox/query", json!({}))["ids"]);
    let emails = client.query(json!(null));
    let some_emails = |random: &mut Random, most: usize| -> Vec<String> {
        let count = 1 + random.below(most);
        let picked: BTreeSet<String> = (0..count).filter_map(|_| random.pick(&emails).cloned()).collect();
        picked.into_iter().collect()
    };
    match random.below(14) {
        0..=3 => {
            // Some begin a thread, others answer into one.
            let thread = random.below(6);
            let subject =
                if random.chance(50) { format!("topic {thread}") } else { format!("Re: topic {thread}") };
            let mut place = Map::new();
            for _ in 0..1 + random.below(2) {
                place.insert(random.pick(&mailboxes).cloned().unwrap_or_default(), json!(true));
            }
            let mut keywords = Map::new();
            for keyword in KEYWORDS {
                if random.chance(25) {
                    keywords.insert(keyword.into(), json!(true));
                }
            }
            let day = 1 + random.below(28);
            client.create(
                "Email",
                json!({
                    "mailboxIds": place, "keywords": keywords, "subject": subject,
                    "from": [{ "name": format!("Sender {}", random.below(5)), "email": "s@sender.test" }],
                    "messageId": [format!("{step}.{}@sender.test", random.next())],
                    "references": [format!("root{thread}@sender.test")],
                    "receivedAt": format!("2025-02-{day:02}T10:00:00Z"),
                    "bodyStructure": { "type": "text/plain", "partId": "1" },
                    "bodyValues": { "1": { "value": format!("text of step {step}") } },
                }),
            );
            "create".into()
        }
        4 => {
            let subject = format!("delivered {step}");
            let mail = crate::support::message::text("s@sender.test", &client.address, &subject, "by SMTP");
            server.deliver("s@sender.test", &client.address, mail);
            client.wait_for_subject(&subject);
            "deliver".into()
        }
        5..=7 => {
            let mut update = Map::new();
            for id in some_emails(random, 8) {
                let keyword = random.pick(&KEYWORDS).copied().unwrap_or_default();
                let value = if random.chance(60) { json!(true) } else { json!(null) };
                update.insert(id, json!({ format!("keywords/{keyword}"): value }));
            }
            client.call("Email/set", json!({ "update": update }));
            "flag".into()
        }
        8 | 9 => {
            let mut update = Map::new();
            for id in some_emails(random, 5) {
                let to = random.pick(&mailboxes).cloned().unwrap_or_default();
                let patch = if random.chance(60) {
                    json!({ "mailboxIds": { to: true } })
                } else {
                    json!({ format!("mailboxIds/{to}"): true })
                };
                update.insert(id, patch);
            }
            client.call("Email/set", json!({ "update": update }));
            "move".into()
        }
        10 => {
            client.call("Email/set", json!({ "destroy": some_emails(random, 3) }));
            "destroy".into()
        }
        11 => {
            let mut mailbox = json!({ "name": format!("box {step}"), "sortOrder": random.below(4) });
            if random.chance(40) {
                mailbox["parentId"] = json!(random.pick(&mailboxes));
            }
            client.call("Mailbox/set", json!({ "create": { "new": mailbox } }));
            "new mailbox".into()
        }
        12 => {
            let id = random.pick(&mailboxes).cloned().unwrap_or_default();
            let patch = match random.below(3) {
                0 => json!({ "name": format!("renamed {step}") }),
                1 => json!({ "sortOrder": random.below(9) }),
                _ => json!({ "isSubscribed": random.chance(50) }),
            };
            client.call("Mailbox/set", json!({ "update": { id: patch } }));
            "change mailbox".into()
        }
        _ => {
            // One without a role, so that mail still has where to go.
            let answer = client.call("Mailbox/get", json!({ "ids": null, "properties": ["role"] }));
            let plain: Vec<String> = answer["list"]
                .as_array()
                .expect("list")
                .iter()
                .filter(|mailbox| mailbox["role"].is_null())
                .map(id_of)
                .collect();
            if let Some(id) = random.pick(&plain) {
                client.call(
                    "Mailbox/set",
                    json!({ "destroy": [id], "onDestroyRemoveEmails": random.chance(70) }),
                );
            }
            "destroy mailbox".into()
        }
    }
}

/// The counters as RFC 8621, 2 defines them, from the Emails themselves.
pub fn assert_counters(client: &Client) {
    let mailboxes = client.call("Mailbox/get", json!({ "ids": null }));
    let ids = client.query(json!(null));
    let emails =
        client.call("Email/get", json!({ "ids": ids, "properties": ["mailboxIds", "keywords", "threadId"] }));
    let emails = emails["list"].as_array().expect("list");
    let trash = client.find_mailbox("trash").unwrap_or_default();
    let is_in = |email: &Value, mailbox: &str| email["mailboxIds"].get(mailbox).is_some();
    let is_unread =
        |email: &Value| email["keywords"].get("$seen").is_none() && email["keywords"].get("$draft").is_none();
    let only_in_trash = |email: &Value| {
        is_in(email, &trash) && email["mailboxIds"].as_object().is_some_and(|mailboxes| mailboxes.len() == 1)
    };
    for mailbox in mailboxes["list"].as_array().expect("list") {
        let id = id_of(mailbox);
        let inside: Vec<&Value> = emails.iter().filter(|email| is_in(email, &id)).collect();
        let threads: BTreeSet<&str> = inside.iter().filter_map(|email| email["threadId"].as_str()).collect();
        let unread_threads = threads.iter().filter(|thread| {
            emails.iter().any(|email| {
                let counts = if id == trash { is_in(email, &trash) } else { !only_in_trash(email) };
                email["threadId"] == ***thread && is_unread(email) && counts
            })
        });
        let counted = json!({
            "totalEmails": inside.len(),
            "unreadEmails": inside.iter().filter(|email| is_unread(email)).count(),
            "totalThreads": threads.len(),
            "unreadThreads": unread_threads.count(),
        });
        for (name, value) in counted.as_object().expect("object") {
            assert_eq!(mailbox[name], *value, "{name} of {} ({})", mailbox["name"], mailbox["role"]);
        }
    }
}

fn windows(client: &Client) -> Vec<Window> {
    let inbox = client.mailbox("inbox");
    let received = json!([{ "property": "receivedAt", "isAscending": false }]);
    let list = [
        json!({ "filter": { "inMailbox": inbox }, "sort": received }),
        json!({ "filter": { "inMailbox": inbox }, "sort": received, "collapseThreads": true }),
        json!({ "sort": received }),
        json!({ "filter": { "notKeyword": "$seen" }, "sort": received, "collapseThreads": true }),
        json!({ "filter": { "hasKeyword": "$flagged" }, "sort": [{ "property": "receivedAt" }] }),
        json!({ "filter": { "someInThreadHaveKeyword": "work" }, "sort": received }),
        json!({ "filter": { "inMailboxOtherThan": [inbox] }, "sort": [{ "property": "size" }, { "property": "receivedAt" }] }),
        json!({ "filter": { "operator": "OR", "conditions": [
            { "hasKeyword": "$answered" }, { "operator": "NOT", "conditions": [{ "inMailbox": inbox }] },
        ] }, "sort": [{ "property": "hasKeyword", "keyword": "$flagged" }, { "property": "receivedAt" }] }),
        json!({ "sort": [{ "property": "allInThreadHaveKeyword", "keyword": "$seen", "isAscending": false }, { "property": "receivedAt" }] }),
        json!({ "sort": [{ "property": "subject" }, { "property": "from" }, { "property": "receivedAt" }], "collapseThreads": true }),
    ];
    let mut windows: Vec<Window> =
        list.into_iter().map(|query| Window::new(client, "Email", query)).collect();
    for query in [
        json!({ "sort": [{ "property": "sortOrder" }, { "property": "name" }] }),
        json!({ "filter": { "hasAnyRole": false }, "sort": [{ "property": "name", "isAscending": false }] }),
        json!({ "sortAsTree": true, "sort": [{ "property": "name" }] }),
    ] {
        windows.push(Window::new(client, "Mailbox", query));
    }
    windows
}

fn run(server: &Server, seed: u64, steps: usize) {
    println!("seed {seed}");
    let client = server.account();
    let mut random = Random(seed);
    for name in ["one", "two"] {
        client.create_mailbox(name);
    }
    let mut copies = vec![
        Copy::new(&client, "Mailbox", json!(null)),
        Copy::new(&client, "Email", json!(["mailboxIds", "keywords", "threadId", "subject"])),
        Copy::new(&client, "Thread", json!(null)),
    ];
    let mut windows = windows(&client);
    let mut done = Vec::new();
    for step in 0..steps {
        done.push(operate(server, &client, &mut random, step));
        if !random.chance(30) && step + 1 < steps {
            continue;
        }
        for copy in &mut copies {
            copy.catch_up(&client, &mut random);
        }
        for window in &mut windows {
            window.catch_up(&client);
        }
        println!("step {step}: {}", done.join(", "));
        done.clear();
        for copy in &copies {
            copy.assert_fresh(&client);
        }
        for window in &windows {
            window.assert_fresh(&client);
        }
        assert_counters(&client);
    }
}

#[test]
fn a_copy_kept_by_changes_equals_a_fresh_fetch() {
    let server = Server::shared();
    if let Some(seed) = std::env::var("POSTRIDER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(server, seed, 200);
    }
    for seed in 1..=6 {
        run(server, seed, 60);
    }
}
