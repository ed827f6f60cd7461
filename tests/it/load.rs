//! A load of SMTP, JMAP writes and deliveries on one server or on many processes of one system, and what
//! must be true of it afterwards, whatever happened to the processes meanwhile: nothing acknowledged is
//! lost, nothing is stored twice, and what is told of it all still fits together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::state_property::assert_counters;
use crate::support::eventually;
use crate::support::http::{Request, path_of};
use crate::support::jmap::{CORE, Client, MAIL, SUBMISSION, id_of, plain_email, strings};
use crate::support::server::Server;
use crate::support::smtp::Smtp;
use crate::support::smtp_sink::Sink;
use crate::support::{message, poll, stack};

/// How long after a delivery's 250 a fault can come before its result is written.
const WINDOW: Duration = Duration::from_secs(2);

/// An Email whose creation was answered.
#[derive(Clone)]
struct Created {
    id: String,
    blob: String,
    is_flagged: bool,
    is_destroyed: bool,
}

/// A submission that was answered.
#[derive(Clone)]
struct Submitted {
    id: String,
    email: String,
    to: String,
}

/// What the load was promised.
#[derive(Default)]
struct Promised {
    /// Subjects of mails that SMTP said 250 to.
    delivered: Mutex<Vec<String>>,
    /// By their subjects.
    created: Mutex<HashMap<String, Created>>,
    submitted: Mutex<Vec<Submitted>>,
    /// Blob ids of uploads, with what was uploaded.
    uploaded: Mutex<Vec<(String, String)>>,
    /// States of Email that an answer told.
    states: Mutex<Vec<String>>,
    /// Exchanges that were begun and broke off.
    broken: Mutex<Vec<String>>,
}

impl Promised {
    fn note_broken(&self, what: &str, error: &io::Error) {
        // Whoever finds nobody there has begun nothing.
        if error.kind() != io::ErrorKind::ConnectionRefused {
            lock(&self.broken).push(format!("{what}: {error}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer, when somebody was there to give it.
fn try_send(client: &Client, promised: &Promised, request: Request, status: u16) -> Option<Value> {
    let response = match client.signed(request).try_send(client.server) {
        Ok(response) => response,
        Err(error) => {
            promised.note_broken("a request", &error);
            std::thread::sleep(Duration::from_millis(20));
            return None;
        }
    };
    if response.status != status {
        std::thread::sleep(Duration::from_millis(20));
        return None;
    }
    serde_json::from_slice(&response.body).ok()
}

fn try_call(client: &Client, promised: &Promised, method: &str, mut arguments: Value) -> Option<Value> {
    arguments["accountId"] = json!(client.account);
    let path = path_of(client.session["apiUrl"].as_str()?).to_owned();
    let body = json!({ "using": [CORE, MAIL, SUBMISSION], "methodCalls": [[method, arguments, "c"]] });
    let answer = try_send(client, promised, Request::post(&path).json(&body), 200)?;
    (answer["methodResponses"][0][0] == method).then(|| answer["methodResponses"][0][1].clone())
}

fn try_upload(client: &Client, promised: &Promised, content: &str) -> Option<String> {
    let path = path_of(client.session["uploadUrl"].as_str()?).replace("{accountId}", &client.account);
    let answer = try_send(client, promised, Request::post(&path).body("text/plain", content), 201)?;
    answer["blobId"].as_str().map(str::to_owned)
}

/// A word that stands in no other message.
fn word(number: u64) -> String {
    format!("word{number}x")
}

/// Some are large: those wait as files, not in the database.
fn is_large(number: u64) -> bool {
    number.is_multiple_of(7)
}

/// One mail to several accounts: killed in between, some have it and some do not.
fn send_mail(to_server: SocketAddr, clients: &[Client], promised: &Promised, number: u64) {
    let subject = format!("smtp {number}");
    let filler = "text ".repeat(if is_large(number) { 20_000 } else { 40 });
    let body = format!("{filler}\n{}\n", word(number));
    let to: Vec<&str> = clients.iter().map(|client| client.address.as_str()).collect();
    let mail = message::text("a@sender.test", to[0], &subject, &body);
    let Ok(mut smtp) = Smtp::try_open(to_server) else {
        return std::thread::sleep(Duration::from_millis(20));
    };
    // A server that stops says 421 and closes: that is no answer, and no broken promise.
    let mut greeted = false;
    let done = smtp.try_reply().and_then(|greeting| {
        greeted = greeting.code == 220;
        let hello = smtp.try_command("EHLO x")?;
        if hello.code != 250 { Ok(hello) } else { smtp.try_send("a@sender.test", &to, mail.as_bytes()) }
    });
    match done {
        Ok(reply) if reply.code == 250 => lock(&promised.delivered).push(subject),
        Ok(_) => std::thread::sleep(Duration::from_millis(20)),
        Err(error) if greeted => promised.note_broken("a mail", &error),
        Err(_) => std::thread::sleep(Duration::from_millis(20)),
    }
    // All servers share this machine: what comes in must also be worked on.
    std::thread::sleep(Duration::from_millis(match (stack::is_citus(), stack::is_postgres()) {
        (true, _) => 500,
        (_, true) => 100,
        _ => 0,
    }));
}

/// Uploads an attachment, makes a draft with it, flags it, and sends or destroys it.
fn write_mail(client: &Client, sender: &SenderOf, promised: &Promised, number: u64) -> Option<()> {
    let subject = format!("jmap {number}");
    let attached = format!("attachment {number} ").repeat(if is_large(number) { 8_000 } else { 4 });
    let blob = try_upload(client, promised, &attached)?;
    lock(&promised.uploaded).push((blob.clone(), attached));
    let mut email = plain_email(&sender.drafts, &client.address, &subject, &word(number));
    email["bodyStructure"] = json!({ "type": "multipart/mixed", "subParts": [
        { "type": "text/plain", "partId": "1" },
        { "type": "text/plain", "blobId": blob, "disposition": "attachment", "name": "a.txt" },
    ] });
    let answer = try_call(client, promised, "Email/set", json!({ "create": { "e": email } }))?;
    let made = &answer["created"]["e"];
    let (id, blob) = (made["id"].as_str()?.to_owned(), made["blobId"].as_str()?.to_owned());
    lock(&promised.states).push(answer["newState"].as_str()?.to_owned());
    let created = Created { id: id.clone(), blob, is_flagged: false, is_destroyed: false };
    lock(&promised.created).insert(subject.clone(), created);
    let update = json!({ "update": { &id: { "keywords/$flagged": true } } });
    let answer = try_call(client, promised, "Email/set", update)?;
    answer["updated"].get(&id)?;
    lock(&promised.created).get_mut(&subject)?.is_flagged = true;
    if number.is_multiple_of(5) {
        let answer = try_call(client, promised, "Email/set", json!({ "destroy": [id] }))?;
        // From the moment of asking it may be gone, from the answer on it is.
        if answer["destroyed"] == json!([id]) {
            lock(&promised.created).get_mut(&subject)?.is_destroyed = true;
        }
        return Some(());
    }
    let to = format!("r{number}@elsewhere.test");
    let submit = json!({
        "create": { "s": { "emailId": id, "identityId": sender.identity, "envelope": {
            "mailFrom": { "email": client.address },
            "rcptTo": [{ "email": to }, { "email": sender.colleague }],
        } } },
        "onSuccessUpdateEmail": { "#s": { "mailboxIds": { &sender.sent: true }, "keywords/$draft": null } },
    });
    let answer = try_call(client, promised, "EmailSubmission/set", submit)?;
    let submission = answer["created"]["s"]["id"].as_str()?.to_owned();
    lock(&promised.submitted).push(Submitted { id: submission, email: id, to });
    Some(())
}

/// What a client knows of itself before it writes.
struct SenderOf {
    drafts: String,
    sent: String,
    identity: String,
    /// An address on the same server that gets a copy of everything.
    colleague: String,
}

/// All Emails of an account, by their subjects.
fn by_subject(client: &Client) -> HashMap<String, Vec<Value>> {
    let mut found: HashMap<String, Vec<Value>> = HashMap::new();
    for batch in client.query(json!(null)).chunks(500) {
        let properties = json!(["subject", "keywords", "mailboxIds", "blobId"]);
        let answer = client.call("Email/get", json!({ "ids": batch, "properties": properties }));
        for email in answer["list"].as_array().expect("list") {
            found
                .entry(email["subject"].as_str().expect("subject").to_owned())
                .or_default()
                .push(email.clone());
        }
    }
    found
}

fn assert_none_twice(of: &str, found: &HashMap<String, Vec<Value>>) {
    for (subject, emails) in found {
        assert_eq!(emails.len(), 1, "{of}: {subject} is there twice");
    }
}

/// The load, and what it was promised.
pub struct Load {
    sink: Sink,
    clients: Vec<Client>,
    /// One of the clients on each process that answers requests.
    writers: Vec<Client>,
    receivers: Vec<SocketAddr>,
    sender: SenderOf,
    before: String,
    promised: Promised,
    faults: Mutex<Vec<Instant>>,
    number: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    /// What the processes that deliver want in their environment to send to the load's own server.
    pub fn environment(sink: &Sink) -> Vec<(String, String)> {
        let set = |name: &str, value: String| (name.to_owned(), value);
        vec![set("POSTRIDER_RELAY", sink.relay()), set("POSTRIDER_RETRY_FIRST", "1s".to_owned())]
    }

    /// A load on one server.
    pub fn on(server: &Server, sink: Sink) -> Load {
        Load::over(server, &[server], &[server], sink)
    }

    /// A load on many processes; `server` is one of `apis`.
    pub fn over(server: &Server, apis: &[&Server], receivers: &[&Server], sink: Sink) -> Load {
        let clients = vec![server.account(), server.account(), server.account()];
        // A server that has just started knows no password that it has verified: with a token the load
        // does not spend its time on that.
        let token = server.cli_json(&["token", "add", &clients[0].address]);
        let token = token["token"].as_str().expect("token");
        let client = Client { authorization: format!("Bearer {token}"), ..clients[0].clone() };
        let sender = SenderOf {
            drafts: client.mailbox("drafts"),
            sent: client.mailbox("sent"),
            identity: id_of(&client.call("Identity/get", json!({ "ids": null }))["list"][0]),
            colleague: clients[1].address.clone(),
        };
        Load {
            before: client.state("Email"),
            writers: apis.iter().map(|api| Client { server: api.http(), ..client.clone() }).collect(),
            receivers: receivers.iter().map(|server| server.smtp()).collect(),
            sender,
            sink,
            clients,
            promised: Promised::default(),
            faults: Mutex::default(),
            number: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Puts the load on while `faults` runs, and for a moment more.
    pub fn run(&self, faults: impl FnOnce()) {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !self.is_over.load(Ordering::SeqCst) {
                        let number = self.number.fetch_add(1, Ordering::SeqCst);
                        let receiver = self.receivers[number as usize % self.receivers.len()];
                        send_mail(receiver, &self.clients, &self.promised, number);
                    }
                });
                scope.spawn(|| {
                    while !self.is_over.load(Ordering::SeqCst) {
                        let number = self.number.fetch_add(1, Ordering::SeqCst);
                        let writer = &self.writers[number as usize % self.writers.len()];
                        // `None` is an answer that did not come.
                        if write_mail(writer, &self.sender, &self.promised, number).is_none() {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                    }
                });
            }
            let stop = StopAtEnd(&self.is_over);
            faults();
            poll(|| self.is_enough().then_some(()));
            std::thread::sleep(Duration::from_millis(300));
            drop(stop);
        });
    }

    /// Whether so much was promised that it says something.
    fn is_enough(&self) -> bool {
        let promised = &self.promised;
        [lock(&promised.delivered).len(), lock(&promised.created).len(), lock(&promised.submitted).len()]
            .iter()
            .all(|count| *count > 20)
    }

    /// Notes that something is about to break: what was on its way may be sent once more.
    pub fn note_fault(&self) {
        lock(&self.faults).push(Instant::now());
    }

    /// Mail comes in, is written and leaves again within so much time.
    #[track_caller]
    pub fn goes_on_within(&self, time: Duration) {
        let done = || {
            let promised = &self.promised;
            [lock(&promised.delivered).len(), lock(&promised.submitted).len(), self.sink.deliveries().len()]
        };
        let (start, before) = (Instant::now(), done());
        while done().iter().zip(before).any(|(now, before)| *now < before + 3) {
            assert!(start.elapsed() < time, "not as it was within {time:?}: {before:?}, then {:?}", done());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// No exchange that was begun broke off.
    #[track_caller]
    pub fn assert_nothing_broke_off(&self) {
        assert_eq!(*lock(&self.promised.broken), Vec::<String>::new());
    }

    /// Everything that was promised has been kept; `server` is a process that answers requests. To be
    /// asked when the load is over.
    #[track_caller]
    pub fn assert_kept(&self, server: &Server) {
        let client = &Client { server: server.http(), ..self.writers[0].clone() };
        let clients: Vec<Client> =
            self.clients.iter().map(|client| Client { server: server.http(), ..client.clone() }).collect();
        let promised = &self.promised;
        let delivered = lock(&promised.delivered).clone();
        let (created, submitted) = (lock(&promised.created).clone(), lock(&promised.submitted).clone());
        assert!(
            self.is_enough(),
            "too little load: {} {} {}",
            delivered.len(),
            created.len(),
            submitted.len()
        );
        // Rows that were in hand at several faults are worked on one by one: that takes its time.
        let empty = || (server.metric("postrider_queue_messages") == Some(0.0)).then_some(());
        let is_empty = (0..3).find_map(|_| poll(empty));
        assert!(is_empty.is_some(), "there is still something in a queue: {}", left_over(server));
        assert_eq!(server.metric("postrider_queue_held_messages"), Some(0.0), "and nothing is set aside");
        assert_mail_is_there_once(&clients, &delivered, &created);
        assert_writes(client, &created, promised);
        assert_submissions(client, &self.sender, &submitted);
        assert_sent(&clients[1], &self.sink, &created, &submitted, &lock(&self.faults));
        assert_states(client, &self.before, &lock(&promised.states));
        assert_found(client, &delivered, &created);
        clients.iter().for_each(assert_counters);
        assert_logged(&clients, &delivered);
    }
}

/// Ends the load also when a test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What the queues hold.
fn left_over(server: &Server) -> String {
    let metrics = server.request(Request::get("/metrics")).text();
    let depths: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("postrider_queue_messages")).collect();
    format!("{depths:?} {}", server.cli(&["queue", "list"]))
}

/// Each account has one copy of everything that SMTP said 250 to, and nobody anything twice.
fn assert_mail_is_there_once(clients: &[Client], delivered: &[String], created: &HashMap<String, Created>) {
    for client in clients {
        let found = by_subject(client);
        assert_none_twice(&client.address, &found);
        for subject in delivered {
            assert!(found.contains_key(subject), "{}: {subject} is lost", client.address);
        }
    }
    assert!(created.values().any(|email| email.is_destroyed) && delivered.len() > created.len() / 10);
}

/// The log of events has each mail that came in once, and each message that was sent once, whatever was killed.
fn assert_logged(clients: &[Client], delivered: &[String]) {
    for client in clients {
        // Filing follows what happened, and does so again when whoever filed has been replaced.
        let (received, sent) = eventually("the log has every mail", || {
            let (received, sent) = logged(client);
            delivered.iter().all(|subject| received.contains_key(subject)).then_some((received, sent))
        });
        for subject in delivered {
            assert_eq!(received.get(subject), Some(&1), "{}: events of {subject}", client.address);
        }
        assert!(sent.values().all(|count| *count == 1), "{}: {sent:?}", client.address);
    }
}

/// How often the log of a client has each mail that came in, by subject, and each send, by id.
fn logged(client: &Client) -> (HashMap<String, usize>, HashMap<String, usize>) {
    let (mut received, mut sent, mut ids) = (HashMap::new(), HashMap::new(), HashSet::new());
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/events?limit=500&after={after}");
        let page = client.signed(Request::get(&path)).send(client.server).expect(200).json();
        for event in page["events"].as_array().expect("events") {
            assert!(ids.insert(event["id"].to_string()), "an event is told twice: {event}");
            let (kind, data) = (event["type"].as_str().expect("a type"), &event["data"]);
            match (kind, data["subject"].as_str(), data["sendId"].as_str()) {
                ("message.received", Some(subject), _) => {
                    *received.entry(subject.to_owned()).or_insert(0) += 1;
                }
                ("message.sent", _, Some(send)) => *sent.entry(send.to_owned()).or_insert(0) += 1,
                _ => {}
            }
        }
        after = page["nextCursor"].as_str().expect("a cursor").to_owned();
        if page["hasMore"] == false {
            return (received, sent);
        }
    }
}

/// What answers of /set and uploads said is so.
fn assert_writes(client: &Client, created: &HashMap<String, Created>, promised: &Promised) {
    let found = by_subject(client);
    for (number, (subject, created)) in created.iter().enumerate() {
        if created.is_destroyed {
            assert!(!found.contains_key(subject), "{subject} was destroyed and is back");
            continue;
        }
        let Some(email) = found.get(subject).map(|emails| &emails[0]) else {
            // Its destruction may have been asked for and done, and the answer lost.
            let asked = subject.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
            assert!(asked.is_some_and(|number| number.is_multiple_of(5)), "{subject} is lost");
            continue;
        };
        assert_eq!((&email["id"], &email["blobId"]), (&json!(created.id), &json!(created.blob)));
        if created.is_flagged {
            assert_eq!(email["keywords"]["$flagged"], true, "the flag of {subject} is lost");
        }
        if number % 10 == 0 {
            let text = String::from_utf8_lossy(&client.download(&created.blob)).into_owned();
            assert!(text.contains(subject), "{subject}: {text}");
        }
    }
    for (blob, content) in lock(&promised.uploaded).iter() {
        assert!(client.download(blob) == content.as_bytes(), "the upload {blob} is lost");
    }
}

/// Each submission that was answered is there once, final, and its Email is where it was put in the
/// same transaction.
fn assert_submissions(client: &Client, sender: &SenderOf, submitted: &[Submitted]) {
    let answer = client.call("EmailSubmission/get", json!({ "ids": null }));
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for submission in answer["list"].as_array().expect("list") {
        found
            .entry(submission["emailId"].as_str().expect("emailId").to_owned())
            .or_default()
            .push(submission.clone());
    }
    for (email, submissions) in &found {
        assert_eq!(submissions.len(), 1, "{email} was submitted twice");
        let submission = &submissions[0];
        assert_eq!(submission["undoStatus"], "final", "{submission}");
        for (recipient, status) in submission["deliveryStatus"].as_object().expect("deliveryStatus") {
            let is_through = status["delivered"] == "yes" || status["delivered"] == "unknown";
            assert!(is_through, "{recipient}: {submission}");
        }
    }
    let emails: Vec<&String> = found.keys().collect();
    let properties = json!(["mailboxIds", "keywords"]);
    let got = client.call("Email/get", json!({ "ids": emails, "properties": properties }));
    for email in got["list"].as_array().expect("list") {
        assert_eq!(email["mailboxIds"], json!({ &sender.sent: true }), "submitted, and still a draft");
    }
    for submission in submitted {
        let there = found.get(&submission.email).map(|submissions| &submissions[0]["id"]);
        assert_eq!(there, Some(&json!(submission.id)), "a submission is lost");
    }
}

/// Everything that was submitted has left, once but for the one window that SMTP cannot close; the
/// colleague on the same server has it exactly once.
fn assert_sent(
    colleague: &Client,
    sink: &Sink,
    created: &HashMap<String, Created>,
    submitted: &[Submitted],
    faults: &[Instant],
) {
    let mut arrived: HashMap<String, Vec<Instant>> = HashMap::new();
    for delivery in sink.deliveries() {
        for to in delivery.to {
            arrived.entry(to).or_default().extend(delivery.at);
        }
    }
    let mut twice = 0;
    for (to, times) in &mut arrived {
        times.sort();
        for pair in times.windows(2) {
            twice += 1;
            // Broken after the peer's 250 and before the commit.
            let broken = faults.iter().find(|fault| **fault >= pair[0] - Duration::from_millis(1));
            let is_excused = broken.is_some_and(|fault| *fault <= pair[1] && *fault <= pair[0] + WINDOW);
            assert!(is_excused, "{to} was delivered to twice without a fault in between");
        }
    }
    // More is on its way at once where the database is another process.
    let at_most = faults.len() * if stack::is_postgres() { 3 } else { 1 };
    assert!(twice <= at_most, "{twice} were delivered twice");
    let found = by_subject(colleague);
    let subjects: HashMap<&str, &str> =
        created.iter().map(|(subject, email)| (email.id.as_str(), subject.as_str())).collect();
    for submission in submitted {
        assert!(arrived.contains_key(&submission.to), "{} has got nothing", submission.to);
        let subject = subjects[submission.email.as_str()];
        assert!(found.contains_key(subject), "the colleague has not got {subject}");
    }
}

/// A client that knew the state before all this, or was told one in between, can still catch up.
fn assert_states(client: &Client, before: &str, told: &[String]) {
    let changes = client.call("Email/changes", json!({ "sinceState": before }));
    assert_eq!(changes["hasMoreChanges"], false, "the check below wants them all");
    let created: BTreeSet<String> = strings(&changes["created"]).into_iter().collect();
    let there: BTreeSet<String> = client.query(json!(null)).into_iter().collect();
    assert_eq!(created, there, "the log tells of other Emails than there are");
    // A state that was told and then lost would be one from the future.
    for state in told.iter().step_by(10).chain(told.last()) {
        let changes = client.call("Email/changes", json!({ "sinceState": state }));
        assert!(strings(&changes["created"]).iter().all(|id| there.contains(id)), "{changes}");
    }
}

/// The index, whose queue is empty by now, finds each by the word that stands in it alone.
fn assert_found(client: &Client, delivered: &[String], created: &HashMap<String, Created>) {
    let there: Vec<&String> =
        created.iter().filter(|(_, email)| !email.is_destroyed).map(|(subject, _)| subject).collect();
    for subject in delivered.iter().step_by(4).chain(there.into_iter().step_by(4)) {
        let number: u64 =
            subject.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        let found = client.query(json!({ "body": word(number) }));
        let is_destroyed = subject.starts_with("jmap") && number.is_multiple_of(5);
        assert!(found.len() == 1 || is_destroyed && found.is_empty(), "{subject}: {found:?}");
    }
}
