//! What is measured.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fill::{Dice, message};
use crate::http::Connection;
use crate::processor::Programs;
use crate::smtp::Sender;

pub struct Target {
    pub http: SocketAddr,
    pub smtp: SocketAddr,
    pub to: Vec<String>,
    pub processes: Programs,
    pub login: String,
    pub password: String,
    pub mailbox: Option<String>,
    pub connections: usize,
    pub time: Duration,
    pub only: String,
}

const MAIL: &str = "urn:ietf:params:jmap:mail";
const LIST: [&str; 12] = [
    "id",
    "blobId",
    "threadId",
    "mailboxIds",
    "keywords",
    "size",
    "receivedAt",
    "from",
    "to",
    "subject",
    "hasAttachment",
    "preview",
];

/// What the scenarios need to know of the account.
struct Account {
    id: String,
    mailbox: String,
    total: u64,
    newest: Vec<String>,
    far: Option<String>,
}

fn request(calls: Value) -> Value {
    json!({ "using": ["urn:ietf:params:jmap:core", MAIL], "methodCalls": calls })
}

fn look(target: &Target) -> Account {
    let mut connection = Connection::open(target.http, &target.login, &target.password);
    let session: Value =
        serde_json::from_slice(connection.send("GET", "/.well-known/jmap", b"")).expect("JSON");
    let id = session["primaryAccounts"][MAIL].as_str().expect("a mail account").to_owned();
    let mailboxes =
        connection.json("POST", "/jmap/api", &request(json!([["Mailbox/get", { "accountId": id }, "0"]])));
    let wanted = |mailbox: &&Value| match &target.mailbox {
        Some(name) => mailbox["name"] == name.as_str(),
        None => mailbox["role"] == "inbox",
    };
    let list = mailboxes["methodResponses"][0][1]["list"].as_array().expect("mailboxes").clone();
    let mailbox = list.iter().find(wanted).expect("the mailbox");
    let (mailbox, total) =
        (mailbox["id"].as_str().expect("an id").to_owned(), mailbox["totalEmails"].as_u64().unwrap_or(0));
    let mut ids = |position: u64, limit: u64| -> Vec<String> {
        let query = json!([["Email/query", { "accountId": id, "filter": { "inMailbox": mailbox },
            "sort": [{ "property": "receivedAt", "isAscending": false }],
            "position": position, "limit": limit }, "0"]]);
        let answer = connection.json("POST", "/jmap/api", &request(query));
        let ids = answer["methodResponses"][0][1]["ids"].as_array().cloned().unwrap_or_default();
        ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
    };
    let newest = ids(0, 500);
    let far = ids(total / 2, 1).pop();
    assert!(!newest.is_empty(), "the mailbox is empty: import something first");
    Account { id, mailbox, total, newest, far }
}

/// Runs every scenario that was asked for and prints a table.
pub fn run_all(target: &Target) {
    let account = look(target);
    println!("mailbox of {} mails, {} connections\n", account.total, target.connections);
    let names = target.processes.names();
    let programs: String = names.iter().map(|name| format!(" {name} takes |")).collect();
    println!("| scenario | per second | 50 % within | 99 % within |{programs}");
    println!("|---|---|---|---|{}", "---|".repeat(names.len()));
    let sort = json!([{ "property": "receivedAt", "isAscending": false }]);
    let query = |more: Value| {
        let mut arguments = json!({ "accountId": account.id, "filter": { "inMailbox": account.mailbox },
            "sort": sort, "limit": 50, "calculateTotal": true });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        arguments
    };
    let get = json!(["Email/get", { "accountId": account.id,
        "#ids": { "resultOf": "0", "name": "Email/query", "path": "/ids" }, "properties": LIST }, "1"]);
    let list = |more: Value| request(json!([["Email/query", query(more), "0"], get])).to_string();
    let unread = json!({ "filter": { "inMailbox": account.mailbox, "notKeyword": "$seen" } });
    let fixed = |name: &str, body: String| {
        jmap(target, name, &|_| body.clone());
    };
    fixed("list view of 50", list(json!({})));
    fixed("list view of 50, threads collapsed", list(json!({ "collapseThreads": true })));
    fixed("list view of 50, unread", list(unread));
    fixed(
        "query in the middle by position",
        request(json!([["Email/query", query(json!({ "position": account.total / 2 })), "0"]])).to_string(),
    );
    if let Some(far) = &account.far {
        let body = request(json!([["Email/query", query(json!({ "anchor": far })), "0"]])).to_string();
        fixed("query in the middle by anchor", body);
    }
    fixed("Mailbox/get", request(json!([["Mailbox/get", { "accountId": account.id }, "0"]])).to_string());
    fixed(
        "Email/get of 50",
        request(json!([["Email/get", { "accountId": account.id,
        "ids": account.newest.iter().take(50).collect::<Vec<_>>(), "properties": LIST }, "0"]]))
        .to_string(),
    );
    fixed("Core/echo", request(json!([["Core/echo", {}, "0"]])).to_string());
    jmap(target, "flag change", &|dice| {
        let id = &account.newest[dice.below(account.newest.len())];
        let seen = if dice.below(2) == 0 { json!(true) } else { Value::Null };
        request(json!([["Email/set", { "accountId": account.id,
            "update": { id: { "keywords/$seen": seen } } }, "0"]]))
        .to_string()
    });
    jmap(target, "flag change of 500", &|dice| {
        let seen = if dice.below(2) == 0 { json!(true) } else { Value::Null };
        let update: serde_json::Map<String, Value> =
            account.newest.iter().map(|id| (id.clone(), json!({ "keywords/$flagged": seen }))).collect();
        request(json!([["Email/set", { "accountId": account.id, "update": update }, "0"]])).to_string()
    });
    receive(target, "receive 2 kB", &|_| 2_000);
    // As people get it: one of five has an attachment, 50 kB on the average.
    receive(target, "receive 50 kB", &|number| if number % 5 == 0 { 210_000 } else { 10_000 });
}

/// One JMAP request after the other on each connection; `make` writes the next.
fn jmap(target: &Target, name: &str, make: &(dyn Fn(&mut Dice) -> String + Sync)) {
    measure(target, name, &|number, until| {
        let mut dice = Dice::new(number as u64 + 7);
        let mut connection = Connection::open(target.http, &target.login, &target.password);
        let mut times = Vec::new();
        while Instant::now() < until {
            let body = make(&mut dice);
            let begun = Instant::now();
            connection.send("POST", "/jmap/api", body.as_bytes());
            times.push(begun.elapsed());
        }
        times
    });
}

/// Mail from another server; a request is a message with its 250.
fn receive(target: &Target, name: &str, octets: &(dyn Fn(usize) -> usize + Sync)) {
    static NEXT: AtomicUsize = AtomicUsize::new(10_000_000);
    measure(target, name, &|number, until| {
        let mut sender = Sender::open(target.smtp);
        let mut times = Vec::new();
        while Instant::now() < until {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let to = &target.to[next % target.to.len()];
            let text = message(next, to, octets(next));
            let begun = Instant::now();
            sender.send(&format!("sender{number}@load.example"), &[to], &text);
            times.push(begun.elapsed());
            // Servers limit the messages of one connection.
            if times.len() % 50 == 0 {
                sender = Sender::open(target.smtp);
            }
        }
        times
    });
}

/// Runs `work` on all connections at once and prints the row.
fn measure(target: &Target, name: &str, work: &(dyn Fn(usize, Instant) -> Vec<Duration> + Sync)) {
    if !name.starts_with(&target.only) {
        return;
    }
    let taken = target.processes.taken();
    let begun = Instant::now();
    let until = begun + target.time;
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..target.connections).map(|number| scope.spawn(move || work(number, until))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker failed")).collect()
    });
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let part = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    let shown = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1_000.0);
    let spent = target.processes.for_each(&taken, begun.elapsed(), times.len());
    let spent: String = spent.iter().map(|spent| format!(" {spent:.2} ms |")).collect();
    println!("| {name} | {rate:.0} | {} | {} |{spent}", shown(part(50)), shown(part(99)));
}
