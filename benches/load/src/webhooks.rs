//! Webhooks: how many events a second get to how many receivers, and how long after the mail that causes
//! them; and how fast a backlog is posted.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Connection;
use crate::smtp::Sender;

/// Connections by which the mail comes.
const SENDERS: usize = 8;
/// For the last events to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
pub struct Target {
    pub api: SocketAddr,
    pub smtp: SocketAddr,
    pub domain: String,
    pub password: String,
    pub endpoints: usize,
    pub rate: u64,
    pub time: Duration,
}

/// What has come.
struct Receiver {
    address: SocketAddr,
    begun: Instant,
    count: AtomicUsize,
    times: Mutex<Vec<Duration>>,
    ids: Mutex<HashSet<String>>,
}

impl Receiver {
    fn start() -> Arc<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let receiver = Arc::new(Receiver {
            address: listener.local_addr().expect("an address"),
            begun: Instant::now(),
            count: AtomicUsize::new(0),
            times: Mutex::default(),
            ids: Mutex::default(),
        });
        let shared = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let receiver = shared.clone();
                std::thread::spawn(move || receiver.serve(stream));
            }
        });
        receiver
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut stream = BufReader::new(stream);
        let mut body = Vec::new();
        loop {
            let (mut length, mut line) = (0, String::new());
            loop {
                line.clear();
                if stream.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    if line.trim_end().is_empty() {
                        break;
                    }
                    continue;
                };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().ok()?;
                }
            }
            body.resize(length, 0);
            stream.read_exact(&mut body).ok()?;
            stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
            let now = self.begun.elapsed();
            let event: Value = serde_json::from_slice(&body).ok()?;
            // The subject says when it was sent.
            if let Some(sent) = event["data"]["subject"].as_str().and_then(|text| text.parse().ok()) {
                self.times.lock().ok()?.push(now.saturating_sub(Duration::from_micros(sent)));
            }
            self.ids.lock().ok()?.insert(event["id"].as_str()?.to_owned());
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wait_for(&self, count: usize) -> bool {
        let until = Instant::now() + PATIENCE;
        while self.count.load(Ordering::SeqCst) < count {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

/// Makes a webhook for each of u0, u1 and so on, has mail come for them at a rate, and then all of it posted
/// again at once.
pub fn measure(target: &Target) {
    let receiver = Receiver::start();
    let mut connections: Vec<(Connection, String)> = (0..target.endpoints)
        .map(|number| {
            let login = format!("u{number}@{}", target.domain);
            let mut connection = Connection::open(target.api, &login, &target.password);
            let latest = connection.json("GET", "/api/v1/events?after=latest", &json!({}));
            let cursor = latest["nextCursor"].as_str().expect("a cursor").to_owned();
            (connection, cursor)
        })
        .collect();
    let url = format!("http://{}/", receiver.address);
    let new = json!({ "url": url, "types": ["message.received"] });
    let hooks: Vec<String> = connections
        .iter_mut()
        .map(|(connection, _)| {
            let made = connection.created("POST", "/api/v1/webhooks", &new);
            made["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    let begun = Instant::now();
    let sent = send(target, receiver.begun);
    let took = begun.elapsed();
    let is_all = receiver.wait_for(sent);
    let mut times = std::mem::take(&mut *receiver.times.lock().expect("times"));
    times.sort_unstable();
    let of =
        |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default().as_secs_f64() * 1e3;
    println!("| what | events | per second | 50 % within | 99 % within | twice |\n|---|---|---|---|---|---|");
    let came = receiver.count.load(Ordering::SeqCst);
    println!(
        "| as they come, {} webhooks{} | {came} | {:.0} | {:.1} ms | {:.1} ms | {} |",
        target.endpoints,
        if is_all { "" } else { " (not all came)" },
        sent as f64 / took.as_secs_f64(),
        of(50),
        of(99),
        came - receiver.ids.lock().expect("ids").len(),
    );
    let begun = Instant::now();
    for ((connection, cursor), hook) in connections.iter_mut().zip(&hooks) {
        connection.json("POST", &format!("/api/v1/webhooks/{hook}/replay"), &json!({ "after": cursor }));
    }
    receiver.wait_for(came + sent);
    let again = receiver.count.load(Ordering::SeqCst) - came;
    println!(
        "| all of them again at once | {again} | {:.0} | | | |",
        again as f64 / begun.elapsed().as_secs_f64()
    );
    for ((connection, _), hook) in connections.iter_mut().zip(&hooks) {
        connection.created("DELETE", &format!("/api/v1/webhooks/{hook}"), &json!({}));
    }
}

/// Has mails come at a rate, each for one account; how many.
fn send(target: &Target, begun: Instant) -> usize {
    let total = (target.rate as f64 * target.time.as_secs_f64()) as usize;
    let period = Duration::from_secs_f64(SENDERS as f64 / target.rate as f64);
    let start = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let (smtp, domain, endpoints) = (target.smtp, target.domain.clone(), target.endpoints);
            std::thread::spawn(move || {
                let mut sender = Sender::open(smtp);
                let mut sent = 0;
                let mut due = start + period * number as u32 / SENDERS as u32;
                for mail in (number..total).step_by(SENDERS) {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += period;
                    // A connection brings a hundred at the most.
                    sent += 1;
                    if sent % 100 == 0 {
                        sender = Sender::open(smtp);
                    }
                    let to = format!("u{}@{domain}", mail % endpoints);
                    let message = format!(
                        "From: a@load.example\r\nTo: {to}\r\nMessage-ID: <{mail}.{}@load.example>\r\n\
                         Subject: {}\r\n\r\nSomething.",
                        start.elapsed().as_nanos(),
                        begun.elapsed().as_micros()
                    );
                    sender.send("a@load.example", &[&to], &message);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("sent");
    }
    total
}
