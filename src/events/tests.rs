//! Events from their transactions to logs and webhooks, with a receiver on the loopback and a clock that is
//! moved by hand.

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
use crate::store::directory::fixture::Fixture;
use crate::store::directory::{account, removal};
use crate::store::event::log::{self, Cursor, LoggedEvent, View};
use crate::store::event::webhook::{self as hooks, SigningSecret, Webhook};
use crate::store::event::{self, Place};
use crate::store::queue::webhook as queue;
use crate::store::tx::Tx;
use crate::types::event::{EventData, EventKind, EventKinds};
use crate::types::id::{AccountId, Id};
use crate::types::secret::Secret;

const LEASE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// How a receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
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
struct Receiver {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    /// What it has taken: id and body.
    taken: Arc<Mutex<Vec<(String, Value)>>>,
    tries: Arc<Mutex<usize>>,
}

impl Receiver {
    async fn start() -> Receiver {
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

    fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn tries(&self) -> usize {
        *self.tries.lock().unwrap()
    }

    /// The recipients that it has been told of, in the order in which they came, by account.
    fn told(&self) -> HashMap<String, Vec<String>> {
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

struct Bench {
    fixture: Fixture,
    logger: Logger,
    webhooks: Webhooks,
}

impl Bench {
    async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let logger = Logger::new(fixture.store.clone());
        let dns = Dns::with_server(SocketAddr::from(([127, 0, 0, 1], 9))).unwrap();
        let callback = Callback::new(dns, Arc::new(["127.0.0.0/8".parse().unwrap()])).unwrap();
        let webhooks = Webhooks::new(fixture.store.clone(), callback, "mail.example.test".into());
        Bench { fixture, logger, webhooks }
    }

    async fn account(&self, name: &str) -> AccountId {
        self.fixture.account(&format!("{name}@example.test")).await.account
    }

    /// Events of an account in one transaction, told apart by their recipients.
    async fn happen(&self, account: AccountId, recipients: &[&str]) {
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

    async fn lane(&self, account: AccountId) -> i64 {
        account::lane(&mut self.fixture.store.read().await.unwrap(), account).await.unwrap().unwrap()
    }

    async fn log(&mut self, account: AccountId) -> bool {
        let lane = self.lane(account).await;
        self.logger.work(lane).await.unwrap()
    }

    async fn read(&self, view: &View, cursor: Cursor, kinds: EventKinds, limit: usize) -> log::Page {
        log::read(&mut self.fixture.store.read().await.unwrap(), view, cursor, kinds, limit).await.unwrap()
    }

    async fn hook(&self, receiver: &Receiver, account: Option<AccountId>) -> Id {
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

    async fn found(&self, id: Id) -> Webhook {
        let mut snapshot = self.fixture.store.read().await.unwrap();
        hooks::get(&mut snapshot, "example.test", id).await.unwrap().unwrap()
    }

    /// Takes up what is due of webhooks once; how many there were.
    async fn post(&self) -> usize {
        let mut count = 0;
        let mut lanes: Vec<i64> = Vec::new();
        for number in 0..64 {
            let lane = self.fixture.store.lanes().of_number(number);
            if !lanes.contains(&lane) {
                lanes.push(lane);
            }
        }
        for lane in lanes {
            for row in queue::claim(&self.fixture.store, lane, 100, LEASE_MS).await.unwrap() {
                count += 1;
                self.webhooks.work(row, &CancellationToken::new()).await;
            }
        }
        count
    }
}

fn domain() -> View {
    View { domain: "example.test".to_owned(), account: None }
}

fn recipients(events: &[LoggedEvent]) -> Vec<&str> {
    events.iter().map(|event| event.data.recipient.as_deref().unwrap()).collect()
}

#[tokio::test]
async fn events_are_logged_once_and_in_order_whatever_is_done_twice() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    bench.happen(alice, &["1", "2"]).await;
    bench.happen(alice, &["3"]).await;
    let lane = bench.lane(alice).await;
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let waiting = event::waiting(&mut snapshot, lane, (AccountId::default(), Place::default()), 10).await;
    drop(snapshot);
    let waiting: Vec<_> =
        waiting.unwrap().into_iter().map(|row| (row, "alice@example.test".to_owned())).collect();
    // A process that ends between the log and the outbox.
    log::append(&bench.fixture.store, "example.test".to_owned(), waiting[..2].to_vec()).await.unwrap();
    assert!(bench.log(alice).await);
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["1", "2", "3"]);
    let ids: Vec<Id> = waiting.iter().map(|(row, _)| row.id).collect();
    assert_eq!(page.events.iter().map(|event| event.id).collect::<Vec<_>>(), ids);
    // One that was slow, and brings what has long been there.
    log::append(&bench.fixture.store, "example.test".to_owned(), waiting).await.unwrap();
    let again = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(again.events, page.events);
    assert!(!again.has_more);
    assert_eq!(page.events[0].account_name, "alice@example.test");
}

#[tokio::test]
async fn a_unit_that_fails_tells_nothing() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let unit = async |tx: &mut Tx| {
        let tell = |tx: &mut Tx, text: &str| {
            let told = EventData { recipient: Some(text.to_owned()), ..EventData::default() };
            tx.note_event(EventKind::Delivered, Id(0), told);
        };
        tell(tx, "1");
        let failed = tx
            .attempt(async |tx: &mut Tx| {
                tell(tx, "2");
                Err::<(), _>(crate::store::error::StoreError::Full)
            })
            .await;
        assert!(failed.is_err());
        Ok(())
    };
    bench.fixture.store.write(alice, unit).await.unwrap();
    bench.log(alice).await;
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["1"]);
}

#[tokio::test]
async fn two_processes_do_not_work_on_one_lane() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    bench.happen(alice, &["1"]).await;
    assert!(bench.log(alice).await);
    bench.happen(alice, &["2"]).await;
    let lane = bench.lane(alice).await;
    let mut other = Logger::new(bench.fixture.store.clone());
    assert!(!other.work(lane).await.unwrap());
    bench.fixture.clock.advance_ms(5_000);
    assert!(other.work(lane).await.unwrap(), "the first one is gone");
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_pass_over_nothing_while_many_write() {
    let bench = Bench::new().await;
    const EACH: usize = 40;
    let mut accounts = Vec::new();
    for number in 0..6 {
        accounts.push(bench.account(&format!("u{number}")).await);
    }
    let bench = Arc::new(bench);
    let mut writing = Vec::new();
    for account in accounts.clone() {
        let bench = bench.clone();
        writing.push(tokio::spawn(async move {
            // As a process of its own, with a lane that it may share with another.
            let mut logger = Logger::new(bench.fixture.store.clone());
            let lane = bench.lane(account).await;
            for number in 0..EACH {
                bench.happen(account, &[&number.to_string()]).await;
                logger.work(lane).await.unwrap();
            }
        }));
    }
    let reading = tokio::spawn({
        let bench = bench.clone();
        let count = accounts.len() * EACH;
        async move {
            let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
            while seen.len() < count {
                let page = bench.read(&domain(), cursor, EventKinds::ALL, 7).await;
                cursor = page.next;
                seen.extend(page.events);
                for account in &accounts {
                    // What was left to another that shared the lane.
                    if writing.iter().all(tokio::task::JoinHandle::is_finished) {
                        bench.fixture.clock.advance_ms(5_000);
                        let lane = bench.lane(*account).await;
                        Logger::new(bench.fixture.store.clone()).work(lane).await.unwrap();
                    }
                }
            }
            seen
        }
    });
    let seen = tokio::time::timeout(Duration::from_secs(120), reading).await.unwrap().unwrap();
    assert!(seen.is_sorted_by_key(|event| event.seq));
    let mut accounts: HashMap<AccountId, Vec<LoggedEvent>> = HashMap::new();
    for event in seen {
        accounts.entry(event.account).or_default().push(event);
    }
    let wanted: Vec<String> = (0..EACH).map(|number| number.to_string()).collect();
    assert!(accounts.values().all(|events| recipients(events) == wanted));
}

#[tokio::test]
async fn a_log_is_read_by_cursor_for_an_account_or_a_domain() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    bench.fixture.domain("other.test").await;
    let elsewhere = bench.fixture.account("carol@other.test").await.account;
    for number in 0..5 {
        bench.happen(alice, &[&format!("a{number}")]).await;
        bench.happen(bob, &[&format!("b{number}")]).await;
        bench.happen(elsewhere, &["c"]).await;
        for account in [alice, bob, elsewhere] {
            bench.log(account).await;
        }
    }
    let of_alice = View { account: Some(alice), ..domain() };
    let first = bench.read(&of_alice, Cursor::default(), EventKinds::ALL, 2).await;
    assert_eq!((recipients(&first.events), first.has_more), (vec!["a0", "a1"], true));
    let text = first.next.to_string();
    let rest = bench.read(&of_alice, text.parse().unwrap(), EventKinds::ALL, 100).await;
    assert_eq!((recipients(&rest.events), rest.has_more), (vec!["a2", "a3", "a4"], false));
    let all = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&all.events), ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4"]);
    let none = bench.read(&domain(), Cursor::default(), EventKinds::of([EventKind::Bounced]), 3).await;
    assert!(none.events.is_empty() && !none.has_more);
    assert_eq!(none.next.seq, all.next.seq, "what is not wanted is passed over");
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let latest = log::latest(&mut snapshot, &of_alice).await.unwrap();
    drop(snapshot);
    bench.happen(alice, &["a5"]).await;
    bench.log(alice).await;
    let page = bench.read(&of_alice, latest, EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["a5"]);
    for text in ["", "x", "1.2", "1.2.3.4", "-1.0.0", "1.2.x"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let timeline = log::of_submission(&mut snapshot, "example.test", bob, Id(7), 100).await.unwrap();
    assert_eq!(recipients(&timeline), ["b0", "b1", "b2", "b3", "b4"]);
}

#[tokio::test]
async fn old_events_go_and_cursors_from_before_them_are_known_to_be_too_old() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    bench.happen(alice, &["1", "2"]).await;
    bench.log(alice).await;
    let first = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 1).await;
    bench.fixture.clock.advance_ms(HOUR_MS);
    bench.happen(alice, &["3"]).await;
    bench.log(alice).await;
    let before_ms = bench.fixture.clock.now_ms();
    assert!(!log::trim(&bench.fixture.store, "example.test".to_owned(), before_ms).await.unwrap());
    let left = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&left.events), ["3"]);
    let head = log::head(&mut bench.fixture.store.read().await.unwrap(), "example.test").await.unwrap();
    assert!(head.has_outlived(first.next));
    assert!(!head.has_outlived(Cursor::default()) && !head.has_outlived(left.next));
}

#[tokio::test]
async fn an_account_that_goes_takes_its_events_along() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    bench.happen(alice, &["1"]).await;
    bench.happen(bob, &["2"]).await;
    bench.log(alice).await;
    bench.log(bob).await;
    bench.happen(alice, &["3"]).await;
    removal::remove(&bench.fixture.store, alice).await.unwrap();
    bench.log(bob).await;
    let page = bench.read(&domain(), Cursor::default(), EventKinds::ALL, 100).await;
    assert_eq!(recipients(&page.events), ["2"]);
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    assert_eq!(hooks::get(&mut snapshot, "example.test", hook).await.unwrap(), None);
    drop(snapshot);
    assert_eq!(bench.post().await, 1);
    assert_eq!((bench.post().await, receiver.tries()), (0, 0), "its row goes");
}

#[tokio::test]
async fn a_receiver_that_was_down_for_an_hour_gets_everything_in_order() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    let (down, other) = (Receiver::start().await, Receiver::start().await);
    let hook = bench.hook(&down, None).await;
    bench.hook(&other, None).await;
    let mut wanted = Vec::new();
    for (minute, manner) in [Manner::Answers(500), Manner::Closes, Manner::Answers(302), Manner::Answers(429)]
        .into_iter()
        .cycle()
        .take(60)
        .enumerate()
    {
        down.set(manner);
        let name = format!("{minute}");
        bench.happen(alice, &[&name]).await;
        bench.happen(bob, &[&name]).await;
        wanted.push(name);
        bench.log(alice).await;
        bench.log(bob).await;
        bench.post().await;
        bench.fixture.clock.advance_ms(60_000);
    }
    // Everybody else has not noticed.
    assert_eq!(other.told()["alice@example.test"], wanted);
    assert_eq!(other.told()["bob@example.test"], wanted);
    assert!(down.taken.lock().unwrap().is_empty());
    assert!(down.tries() < 20, "{} tries in an hour", down.tries());
    let failing = bench.found(hook).await;
    assert!(failing.failing_since != 0 && failing.disabled_at == 0);
    assert!(failing.last_error.contains("answered") || failing.last_error.contains("closed"), "{failing:?}");
    down.set(Manner::Takes);
    bench.fixture.clock.advance_ms(HOUR_MS);
    while bench.post().await > 0 {}
    assert_eq!(down.told()["alice@example.test"], wanted);
    assert_eq!(down.told()["bob@example.test"], wanted);
    let mended = bench.found(hook).await;
    assert_eq!((mended.failing_since, mended.last_error.as_str()), (0, ""));
}

#[tokio::test]
async fn what_one_account_waits_for_holds_up_no_other_and_is_not_told_twice() {
    let mut bench = Bench::new().await;
    let (alice, bob) = (bench.account("alice").await, bench.account("bob").await);
    let receiver = Receiver::start().await;
    bench.hook(&receiver, None).await;
    receiver.set(Manner::Picky('x'));
    bench.happen(alice, &["1", "x", "2"]).await;
    bench.log(alice).await;
    bench.happen(bob, &["3", "4"]).await;
    bench.log(bob).await;
    assert_eq!(bench.post().await, 1);
    assert_eq!(receiver.told()["alice@example.test"], ["1"]);
    assert_eq!(receiver.told()["bob@example.test"], ["3", "4"]);
    receiver.set(Manner::Takes);
    bench.fixture.clock.advance_ms(10_000);
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "x", "2"]);
    assert_eq!(receiver.told()["bob@example.test"], ["3", "4"], "once");
}

#[tokio::test]
async fn a_slow_receiver_gets_what_comes_while_it_is_slow() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    bench.hook(&receiver, Some(alice)).await;
    receiver.set(Manner::Slow);
    bench.happen(alice, &["1"]).await;
    bench.log(alice).await;
    let posting = bench.post();
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.happen(alice, &["2"]).await;
        let lane = bench.lane(alice).await;
        Logger::new(bench.fixture.store.clone()).work(lane).await.unwrap();
    };
    tokio::join!(posting, meanwhile);
    bench.fixture.clock.advance_ms(6_000);
    bench.log(alice).await;
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "2"]);
}

#[tokio::test]
async fn after_three_days_a_webhook_is_disabled_and_its_owner_is_told() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    receiver.set(Manner::Answers(503));
    bench.happen(alice, &["1"]).await;
    bench.log(alice).await;
    let mut hours = 0;
    while bench.found(hook).await.disabled_at == 0 {
        bench.post().await;
        bench.fixture.clock.advance_ms(HOUR_MS);
        hours += 1;
        assert!(hours <= 80, "it is still tried after {hours} hours");
    }
    assert!(hours > 70, "it was given up after {hours} hours");
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    let waiting = crate::store::cluster::incoming_list(&mut snapshot, (i64::MIN, Id(0)), 10).await.unwrap();
    drop(snapshot);
    let [mail] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert_eq!(mail.recipients, ["alice@example.test"]);
    bench.happen(alice, &["2"]).await;
    bench.log(alice).await;
    let tries = receiver.tries();
    bench.post().await;
    assert_eq!(receiver.tries(), tries, "it is left alone");
    // Enabled again, it goes on where it stopped.
    receiver.set(Manner::Takes);
    let again = Webhook { disabled_at: 0, failing_since: 0, ..bench.found(hook).await };
    hooks::set(&bench.fixture.store, again).await.unwrap();
    queue::hurry(&bench.fixture.store, "example.test".to_owned(), hook).await.unwrap();
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "2"]);
}

#[tokio::test]
async fn a_receiver_that_wants_no_more_is_disabled_at_once() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    receiver.set(Manner::Answers(410));
    bench.happen(alice, &["1"]).await;
    bench.log(alice).await;
    bench.post().await;
    assert!(bench.found(hook).await.disabled_at != 0);
    assert_eq!(bench.post().await, 0);
}

#[tokio::test]
async fn what_is_set_back_is_told_again() {
    let mut bench = Bench::new().await;
    let alice = bench.account("alice").await;
    let receiver = Receiver::start().await;
    let hook = bench.hook(&receiver, Some(alice)).await;
    bench.happen(alice, &["1", "2"]).await;
    bench.log(alice).await;
    while bench.post().await > 0 {}
    let store = &bench.fixture.store;
    let cursor = bench.found(hook).await.cursor;
    hooks::set_cursor(store, "example.test".to_owned(), hook, Cursor::default()).await.unwrap();
    // A worker that was under way does not undo it.
    assert!(!hooks::advance(store, "example.test".to_owned(), hook, cursor, cursor).await.unwrap());
    queue::hurry(store, "example.test".to_owned(), hook).await.unwrap();
    while bench.post().await > 0 {}
    assert_eq!(receiver.told()["alice@example.test"], ["1", "2", "1", "2"]);
}
