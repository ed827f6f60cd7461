//! Whether the API stays calm: what a request waits for while nothing else happens, and while very much
//! happens elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::Connection;
use crate::smtp::Sender;

/// Connections by which requests come, in turn.
const CONNECTIONS: u64 = 24;
/// Recipients of one transaction (RFC 5321, 4.5.3.1.8).
const PER_TRANSACTION: usize = 100;
/// Connections by which the mail comes.
const SENDERS: usize = 4;

/// Where requests are answered that others should not slow down.
#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    pub login: String,
    pub password: String,
    /// Requests in a second.
    pub rate: u64,
}

/// Times of requests until it is stopped.
pub struct Probe {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Vec<Duration>>>,
}

impl Probe {
    /// Asks `Mailbox/get` at a rate; a request's time begins when it is due, not when the one before it
    /// was answered. Returns when all have signed in: to check a password takes a processor for a while.
    pub fn start(api: &Api) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let signed_in = Arc::new(Barrier::new(CONNECTIONS as usize + 1));
        let threads = (0..CONNECTIONS).map(|number| {
            let (api, stop, signed_in) = (api.clone(), stop.clone(), signed_in.clone());
            std::thread::spawn(move || ask(&api, number, &signed_in, &stop))
        });
        let threads = threads.collect();
        signed_in.wait();
        Probe { threads, stop }
    }

    /// Stops, and prints a row.
    pub fn end(self, what: &str) {
        self.stop.store(true, Ordering::SeqCst);
        let mut times: Vec<Duration> =
            self.threads.into_iter().flat_map(|thread| thread.join().expect("asked")).collect();
        times.sort_unstable();
        let of = |share: usize| {
            times.get(times.len() * share / 1_000).copied().unwrap_or_default().as_secs_f64() * 1_000.0
        };
        println!("| {what} | {} | {:.2} ms | {:.2} ms | {:.2} ms |", times.len(), of(500), of(990), of(999));
    }
}

fn ask(api: &Api, number: u64, signed_in: &Barrier, stop: &AtomicBool) -> Vec<Duration> {
    let mut connection = Connection::open(api.address, &api.login, &api.password);
    let session = connection.json("GET", "/jmap/session", &json!({}));
    let account = &session["primaryAccounts"]["urn:ietf:params:jmap:mail"];
    let using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"];
    let get = json!({ "using": using, "methodCalls": [["Mailbox/get", { "accountId": account }, "0"]] });
    let body = get.to_string();
    let period = Duration::from_micros(1_000_000 * CONNECTIONS / api.rate.max(1));
    signed_in.wait();
    let mut due = Instant::now() + period * number as u32 / CONNECTIONS as u32;
    let mut times = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        connection.send("POST", "/jmap/api", body.as_bytes());
        times.push(due.elapsed());
        due += period;
    }
    times
}

/// Prints the head of the table, and the row of a quiet server.
pub fn idle(api: &Api) {
    println!("| meanwhile | requests | p50 | p99 | p99.9 |\n|---|---|---|---|---|");
    let probe = Probe::start(api);
    std::thread::sleep(Duration::from_secs(15));
    probe.end("nothing");
}

/// A mail to u0, u1 and so on, until all have it.
pub fn mail(api: &Api, smtp: SocketAddr, domain: &str, recipients: usize) {
    let probe = Probe::start(api);
    let begun = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let domain = domain.to_owned();
            std::thread::spawn(move || {
                let mut sender = Sender::open(smtp);
                let all: Vec<String> = (0..recipients).map(|to| format!("u{to}@{domain}")).collect();
                for some in all.chunks(PER_TRANSACTION).skip(number).step_by(SENDERS) {
                    let to: Vec<&str> = some.iter().map(String::as_str).collect();
                    let message = "From: List <list@load.example>\r\nTo: everybody@load.example\r\n\
                                   Message-ID: <fan-out@load.example>\r\nSubject: To all of you\r\n\r\n\
                                   Dear all, this is a mail to very many people.";
                    sender.send("list@load.example", &to, message);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("sent");
    }
    let taken = begun.elapsed();
    while waiting(api.address) > 0.0 {
        std::thread::sleep(Duration::from_millis(100));
    }
    let filed = begun.elapsed();
    probe.end(&format!(
        "a mail to {recipients}: taken after {:.1} s, filed after {:.1} s",
        taken.as_secs_f64(),
        filed.as_secs_f64()
    ));
}

/// Mails that wait to be filed.
fn waiting(server: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(server).expect("connected");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("metrics");
    let line = text.lines().find(|line| line.starts_with("postrider_queue_messages{queue=\"incoming\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the length of the queue")
}
