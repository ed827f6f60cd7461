//! A store whose events are logged and posted by hand, with a clock that is moved by hand, and a receiver on
//! the loopback.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::callback::Callback;
use crate::dns::Dns;
use crate::events::Logger;
use crate::events::webhook::Webhooks;
use crate::store::Store;
use crate::store::directory::account;
use crate::store::directory::fixture::Fixture;
use crate::store::event::log::{self, Cursor, LoggedEvent, View};
use crate::store::event::webhook::{self as hooks, SigningSecret, Webhook};
use crate::store::queue::webhook as queue;
use crate::store::tx::Tx;
use crate::types::event::{EventData, EventKind, EventKinds};
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;

const LEASE_MS: i64 = 60_000;
/// An hour.
pub const HOUR_MS: i64 = 3_600_000;

/// How a receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Takes,
    Answers(u16),
    /// Closes the connection when it has read the request.
    Closes,
    /// Answers after a while.
    Slow,
    /// Does not take what contains this digit.
    Picky(char),
}

/// A server that takes webhooks.
pub struct Receiver {
    pub address: SocketAddr,
    pub manner: Arc<Mutex<Manner>>,
    /// What it has taken: id and body.
    pub taken: Arc<Mutex<Vec<(String, Value)>>>,
    pub tries: Arc<Mutex<usize>>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Receiver {
            address: listener.local_addr().unwrap(),
            manner: Arc::new(Mutex::new(Manner::Takes)),
            taken: Arc::default(),
            tries: Arc::default(),
        };
        let (manner, taken) = (receiver.manner.clone(), receiver.taken.clone());
        let tries = receiver.tries.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner.clone(), taken.clone(), tries.clone()));
            }
        });
        receiver
    }

    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn tries(&self) -> usize {
        *self.tries.lock().unwrap()
    }

    /// The recipients that it has been told of, in the order in which they came, by account.
    pub fn told(&self) -> HashMap<String, Vec<String>> {
        let mut told: HashMap<String, Vec<String>> = HashMap::new();
        for (id, body) in self.taken.lock().unwrap().iter() {
            assert_eq!(body["id"], **id);
            let recipient = body["data"]["recipient"].as_str().unwrap().to_owned();
            told.entry(body["account"].as_str().unwrap().to_owned()).or_default().push(recipient);
        }
        told
    }
}

async fn serve(
    mut stream: TcpStream,
    manner: Arc<Mutex<Manner>>,
    taken: Arc<Mutex<Vec<(String, Value)>>>,
    tries: Arc<Mutex<usize>>,
) {
    let mut octets = Vec::new();
    loop {
        let (head, length) = loop {
            if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(octets[..end].to_vec()).unwrap().to_lowercase();
                let length = field(&head, "content-length").unwrap().parse::<usize>().unwrap();
                if octets.len() >= end + 4 + length {
                    break (head, end + 4 + length);
                }
            }
            match stream.read_buf(&mut octets).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let body: Vec<u8> = octets.drain(..length).collect();
        let body = &body[body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..];
        *tries.lock().unwrap() += 1;
        let manner = *manner.lock().unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let status = match manner {
            Manner::Takes => 204,
            Manner::Answers(status) => status,
            Manner::Closes => return,
            Manner::Slow => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                204
            }
            Manner::Picky(digit) => {
                let body: Value = serde_json::from_str(&text).unwrap();
                if body["data"]["recipient"].as_str().unwrap().starts_with(digit) { 500 } else { 204 }
            }
        };
        if status == 204 {
            let id = field(&head, "webhook-id").unwrap().to_owned();
            taken.lock().unwrap().push((id, serde_json::from_str(&text).unwrap()));
        }
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

pub struct Bench {
    pub fixture: Fixture,
    pub logger: Logger,
    pub webhooks: Webhooks,
}

impl Bench {
    pub async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let logger = Logger::new(fixture.store.clone());
        let webhooks = webhooks(fixture.store.clone());
        Bench { fixture, logger, webhooks }
    }

    pub async fn account(&self, name: &str) -> AccountId {
        self.fixture.account(&format!("{name}@example.test")).await.account
    }

    /// Events of an account in one transaction, told apart by their recipients.
    pub async fn happen(&self, account: AccountId, recipients: &[&str]) {
        let recipients: Vec<String> = recipients.iter().map(|name| (*name).to_owned()).collect();
        let unit = async move |tx: &mut Tx| {
            for recipient in recipients {
                let told = EventData { recipient: Some(recipient), ..EventData::default() };
                tx.note_event(EventKind::Delivered, Id(7), told);
            }
            Ok(())
        };
        self.fixture.store.write(account, unit).await.unwrap();
    }

    pub async fn lane(&self, account: AccountId) -> i64 {
        account::lane(&mut self.fixture.store.read().await.unwrap(), account).await.unwrap().unwrap()
    }

    pub async fn log(&mut self, account: AccountId) -> bool {
        let lane = self.lane(account).await;
        self.logger.work(&[lane]).await.unwrap()
    }

    pub async fn read(&self, view: &View, cursor: Cursor, kinds: EventKinds, limit: usize) -> log::Page {
        log::read(&mut self.fixture.store.read().await.unwrap(), view, cursor, kinds, limit).await.unwrap()
    }

    pub async fn hook(&self, receiver: &Receiver, account: Option<AccountId>) -> Id {
        let new = Webhook {
            id: self.fixture.store.ids().make(),
            view: View { domain: "example.test".to_owned(), account },
            url: receiver.url(),
            description: String::new(),
            kinds: EventKinds::ALL,
            secrets: vec![SigningSecret { secret: Secret::new("whsec_AAAA"), until_ms: 0 }],
            created_at: 0,
            cursor: Cursor::default(),
            failing_since: 0,
            disabled_at: 0,
            last_error: String::new(),
        };
        let id = new.id;
        assert!(hooks::add(&self.fixture.store, new).await.unwrap());
        id
    }

    pub async fn found(&self, id: Id) -> Webhook {
        let mut snapshot = self.fixture.store.read().await.unwrap();
        hooks::get(&mut snapshot, "example.test", id).await.unwrap().unwrap()
    }

    /// Takes up what is due of webhooks once; how many there were.
    pub async fn post(&self) -> usize {
        let mut count = 0;
        let mut lanes: Vec<i64> = Vec::new();
        for number in 0..64 {
            let lane = self.fixture.store.lanes().of_number(number);
            if !lanes.contains(&lane) {
                lanes.push(lane);
            }
        }
        for lane in lanes {
            for row in queue::claim(&self.fixture.store, &[lane], 100, LEASE_MS).await.unwrap() {
                count += 1;
                self.webhooks.work(row, &CancellationToken::new()).await;
            }
        }
        count
    }
}

/// The log of the domain that every bench has.
pub fn domain() -> View {
    View { domain: "example.test".to_owned(), account: None }
}

/// By which events are told apart.
pub fn recipients(events: &[LoggedEvent]) -> Vec<&str> {
    events.iter().map(|event| event.data.recipient.as_deref().unwrap()).collect()
}

/// Posts to this machine alone, and finds no name.
pub fn webhooks(store: Store) -> Webhooks {
    let dns = Dns::with_server(SocketAddr::from(([127, 0, 0, 1], 9))).unwrap();
    let callback = Callback::new(dns, Arc::new(["127.0.0.0/8".parse().unwrap()])).unwrap();
    Webhooks::new(store, callback, "mail.example.test".into())
}
