//! Clients that are connected for push: what each costs the server, and how soon they hear of a change.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore};

use crate::calm::{Api, Probe};

/// Clients of one login, which may have a hundred.
const PER_LOGIN: usize = 95;
/// Connections that are opened side by side.
const OPENING: usize = 32;

pub struct Target {
    /// Where clients are connected.
    pub push: SocketAddr,
    /// Where changes are made; else by the clients themselves.
    pub api: Option<SocketAddr>,
    pub domain: String,
    pub password: String,
    /// Of the server where clients are connected, for its memory.
    pub pid: Option<u32>,
    pub rate: u64,
    pub time: Duration,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime")
}

/// Opens so many connections that say nothing, and prints what they take.
pub fn idle(target: &Target, kind: &str, count: usize) {
    let resident = || target.pid.map_or(0, resident_kb);
    runtime().block_on(async {
        // What a first connection of each login costs is not what a connection costs.
        drop(open_many(target, kind, count.div_ceil(PER_LOGIN), 1).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = resident();
        let begun = Instant::now();
        let held = open_many(target, kind, count, PER_LOGIN).await;
        let took = begun.elapsed();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let after = resident();
        let each = (after.saturating_sub(before)) as f64 / held.len().max(1) as f64;
        println!(
            "| {kind} | {} | {:.1} s | {} MiB | {} MiB | {each:.1} KiB |",
            held.len(),
            took.as_secs_f64(),
            before / 1024,
            after / 1024
        );
    });
}

async fn open_many(target: &Target, kind: &str, count: usize, per_login: usize) -> Vec<TcpStream> {
    side_by_side(OPENING, count, |number| {
        let login = format!("u{}@{}", number / per_login, target.domain);
        let (server, password, kind) = (target.push, target.password.clone(), kind.to_owned());
        async move { open(server, &kind, &login, &password, number).await }
    })
    .await
}

/// What `count` tasks give, so many at a time.
async fn side_by_side<T: Send + 'static, F: Future<Output = Option<T>> + Send + 'static>(
    at_once: usize,
    count: usize,
    task: impl Fn(usize) -> F,
) -> Vec<T> {
    let places = Arc::new(Semaphore::new(at_once));
    let mut tasks = Vec::new();
    for number in 0..count {
        let place = places.clone().acquire_owned().await.expect("open");
        let task = task(number);
        tasks.push(tokio::spawn(async move {
            let done = task.await;
            drop(place);
            done
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("done"));
    }
    all
}

/// The first wait of a client before it comes back, as docs/clients.md has it: it doubles, and there is some
/// chance in it. And how long it tries.
const COMES_BACK_AFTER: Duration = Duration::from_millis(500);
const TRIES_FOR: Duration = Duration::from_secs(180);

/// Clients of so many accounts that lose their connections, or the server to which they have them, and come
/// back, all at once.
pub fn herd(api: &Api, push: SocketAddr, domain: &str, accounts: usize, is_restarted: bool) {
    runtime().block_on(async {
        let come_in = |at_once: usize, comes_back: bool| {
            side_by_side(at_once, accounts, move |number| {
                let login = format!("u{number}@{domain}");
                let password = api.password.clone();
                async move {
                    let begun = Instant::now();
                    let mut wait = COMES_BACK_AFTER;
                    let chance = (number * 7_919 % 1_000) as f64 / 1_000.0;
                    if comes_back {
                        tokio::time::sleep(wait.mul_f64(0.5 + chance)).await;
                    }
                    loop {
                        let listening = listen(push, &login, &password, number).await;
                        if listening.is_some() || begun.elapsed() > TRIES_FOR {
                            return listening;
                        }
                        wait *= 2;
                        tokio::time::sleep(wait.mul_f64(0.5 + chance)).await;
                    }
                }
            })
        };
        // By few at first, so that passwords are known when they come back.
        let mut first = come_in(OPENING, false).await;
        println!("({} clients are connected)", first.len());
        if is_restarted {
            println!("(start the server at {push} anew)");
            // Nothing comes but the end.
            while let Some(stream) = first.last_mut()
                && stream.read_u8().await.is_ok()
            {}
            drop(first);
        } else {
            drop(first);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let probe = Probe::start(api);
        let begun = Instant::now();
        let back = come_in(accounts, true).await;
        let took = begun.elapsed().as_secs_f64();
        probe.end(&format!("{} clients come back: all are there after {took:.1} s", back.len()));
    });
}

/// A WebSocket of a login that hears of changes.
async fn listen(server: SocketAddr, login: &str, password: &str, number: usize) -> Option<TcpStream> {
    let mut stream = open(server, "websocket", login, password, number).await?;
    let (mut reader, writer) = stream.split();
    let writer = Mutex::new(writer);
    let enable = json!({ "@type": "WebSocketPushEnable", "dataTypes": null, "pushState": "" });
    say(&mut *writer.lock().await, &enable).await;
    hear(&mut reader, &writer).await?;
    Some(stream)
}

/// Opens a connection of a login, from one of several addresses, since each has some thousands of
/// ports; `None` when the server refuses it.
async fn open(
    server: SocketAddr,
    kind: &str,
    login: &str,
    password: &str,
    number: usize,
) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().expect("socket");
    let source = Ipv4Addr::new(127, 0, 0, 1 + (number % 8) as u8);
    socket.bind(SocketAddr::new(IpAddr::V4(source), 0)).expect("a port");
    let mut stream = match socket.connect(server).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return None,
        Err(error) => panic!("{server}: {error}"),
    };
    stream.set_nodelay(true).expect("nodelay");
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{login}:{password}"));
    let head = format!("Host: {server}\r\nAuthorization: Basic {credentials}\r\n");
    let request = match kind {
        "websocket" => format!(
            "GET /jmap/ws HTTP/1.1\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: jmap\r\n\r\n"
        ),
        _ => format!("GET /jmap/eventsource?types=*&closeafter=no&ping=0 HTTP/1.1\r\n{head}\r\n"),
    };
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8_lossy(&answer);
    let is_open = text.starts_with("HTTP/1.1 101") || text.starts_with("HTTP/1.1 200");
    if !is_open {
        eprintln!("{login}: {}", text.lines().next().unwrap_or_default());
    }
    is_open.then_some(stream)
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Sends a text message, masked with zeros (RFC 6455, 5.3).
async fn say(stream: &mut (impl AsyncWrite + Unpin), message: &Value) {
    let text = message.to_string();
    let mut frame = vec![0x81];
    match text.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    stream.write_all(&frame).await.expect("sent");
}

/// The next text message; a ping is answered.
async fn hear(
    stream: &mut (impl AsyncRead + Unpin),
    writer: &Mutex<impl AsyncWrite + Unpin>,
) -> Option<Value> {
    let mut text = Vec::new();
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.ok()?;
        let length = match head[1] & 0x7f {
            126 => usize::from(stream.read_u16().await.ok()?),
            127 => stream.read_u64().await.ok()? as usize,
            length => usize::from(length),
        };
        let before = text.len();
        text.resize(before + length, 0);
        stream.read_exact(&mut text[before..]).await.ok()?;
        match head[0] & 0x0f {
            8 => return None,
            9 => {
                text.truncate(before);
                // A pong without content, masked.
                writer.lock().await.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.ok()?;
            }
            10 => text.truncate(before),
            _ if head[0] & 0x80 != 0 => return serde_json::from_slice(&text).ok(),
            _ => {}
        }
    }
}

struct Client {
    /// By which changes are made.
    writer: Arc<Mutex<OwnedWriteHalf>>,
    account: String,
    mailbox: String,
    /// When the change that is under way was asked for, in microseconds since the start; 0 for none.
    asked: AtomicU64,
}

/// What is measured.
#[derive(Clone)]
struct Measured {
    start: Instant,
    answered: Arc<Times>,
    told: Arc<Times>,
}

/// Times in microseconds.
#[derive(Default)]
struct Times(std::sync::Mutex<Vec<u64>>);

impl Times {
    fn add(&self, time: u64) {
        self.0.lock().expect("times").push(time);
    }

    fn show(&self, what: &str) {
        let mut times = self.0.lock().expect("times").clone();
        times.sort_unstable();
        let of = |share: usize| {
            times.get(times.len() * share / 1_000).copied().unwrap_or_default() as f64 / 1_000.0
        };
        println!("| {what} | {} | {:.2} ms | {:.2} ms | {:.2} ms |", times.len(), of(500), of(990), of(999));
    }
}

/// Connects a client for each account, makes changes at a rate, and prints how soon each was told.
pub fn latency(target: &Target, accounts: usize) {
    runtime().block_on(async {
        let start = Instant::now();
        let measured = Measured { start, answered: Arc::default(), told: Arc::default() };
        let all = connect(target, accounts, &measured).await;
        println!("{} clients are connected after {:.1} s", all.len(), start.elapsed().as_secs_f64());
        let Measured { answered, told, .. } = measured;
        let late = Arc::new(AtomicUsize::new(0));
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let end = Instant::now() + target.time;
        let each = (target.rate / 200).max(1) as usize;
        let mut next = 0;
        while Instant::now() < end {
            tick.tick().await;
            for _ in 0..each {
                // Far from the last one, so that nothing is near by chance.
                next = (next + 7_919) % all.len();
                let client = all[next].clone();
                let now = start.elapsed().as_micros() as u64;
                if client.asked.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                    late.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                tokio::spawn(async move {
                    let patch = json!({ &client.mailbox: { "sortOrder": now % 100_000 } });
                    let set = json!([["Mailbox/set", { "accountId": client.account, "update": patch }, "0"]]);
                    let using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"];
                    let request =
                        json!({ "@type": "Request", "id": "c", "using": using, "methodCalls": set });
                    say(&mut *client.writer.lock().await, &request).await;
                });
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!("| from the request | count | p50 | p99 | p99.9 |\n|---|---|---|---|---|");
        answered.show("to its answer");
        told.show("to the push");
        println!(
            "{} changes were left out since the one before was not told yet",
            late.load(Ordering::SeqCst)
        );
    });
}

/// A client for each account: with one connection for both, or with one at each server.
async fn connect(target: &Target, accounts: usize, measured: &Measured) -> Vec<Arc<Client>> {
    side_by_side(OPENING, accounts, |number| {
        let login = format!("u{number}@{}", target.domain);
        let (push, api, password) = (target.push, target.api, target.password.clone());
        let measured = measured.clone();
        async move { connect_one(push, api, &login, &password, number, &measured).await }
    })
    .await
}

async fn connect_one(
    push: SocketAddr,
    api: Option<SocketAddr>,
    login: &str,
    password: &str,
    number: usize,
    measured: &Measured,
) -> Option<Arc<Client>> {
    let split = |stream: TcpStream| {
        let (reader, writer) = stream.into_split();
        (reader, Arc::new(Mutex::new(writer)))
    };
    let (mut reader, writer) = split(open(push, "websocket", login, password, number).await?);
    // The one account of the login is told by the first state that is pushed.
    let enable = json!({ "@type": "WebSocketPushEnable", "dataTypes": ["Mailbox"], "pushState": "" });
    say(&mut *writer.lock().await, &enable).await;
    let first = hear(&mut reader, &writer).await?;
    let account = first["changed"].as_object()?.keys().next()?.clone();
    let get = json!([["Mailbox/get", { "accountId": account, "properties": ["role"] }, "0"]]);
    let using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"];
    let request = json!({ "@type": "Request", "using": using, "methodCalls": get });
    say(&mut *writer.lock().await, &request).await;
    let got = hear(&mut reader, &writer).await?;
    let list = got["methodResponses"][0][1]["list"].as_array()?;
    let mailbox = list.iter().find(|mailbox| mailbox["role"] == "inbox")?["id"].as_str()?.to_owned();
    let mut connections = vec![(reader, writer.clone())];
    let mut changes_by = writer;
    if let Some(api) = api {
        let (reader, writer) = split(open(api, "websocket", login, password, number).await?);
        changes_by = writer.clone();
        connections.push((reader, writer));
    }
    let client = Arc::new(Client { writer: changes_by, account, mailbox, asked: AtomicU64::new(0) });
    for (mut reader, writer) in connections {
        let (client, measured) = (client.clone(), measured.clone());
        tokio::spawn(async move {
            while let Some(message) = hear(&mut reader, &writer).await {
                let asked = client.asked.load(Ordering::SeqCst);
                let now = measured.start.elapsed().as_micros() as u64;
                match message["@type"].as_str() {
                    Some("StateChange") if asked > 0 => {
                        measured.told.add(now - asked);
                        client.asked.store(0, Ordering::SeqCst);
                    }
                    Some("Response") if asked > 0 => measured.answered.add(now - asked),
                    _ => {}
                }
            }
        });
    }
    Some(client)
}
