//! The real-time part under pressure: clients that do not read, that are many, that ask for much at once,
//! and mail that changes faster than anybody can look.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::tungstenite::Message;

use crate::live_query::{follow, fresh, subscribe};
use crate::support::events::EventStream;
use crate::support::http::Request;
use crate::support::jmap::{CORE, Client, MAIL, id_of, plain_email, strings};
use crate::support::server::Server;
use crate::support::websocket::Socket;
use crate::support::{PATIENCE, eventually, stack};
use crate::tickets::ticket;

/// Clients of one login that may be connected at a time.
const MOST_CONNECTED: usize = 100;
/// Calls of one request.
const CALLS: usize = 50;
/// Changes made while a client does not read.
const UNREAD: usize = 300;
/// Messages that a client finds when it reads again: one, and some that may have been on their way.
const FEW: usize = 3;
/// The server tells a client no sooner than so long after it told it the last time.
const GAP: Duration = Duration::from_millis(5);
/// Between two readings of a live list.
const LIST_GAP: Duration = Duration::from_millis(100);
/// After which nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);

/// The requests of so many changes: a new mailbox each, which moves the state of Mailbox.
fn changes(client: &Client, count: usize) -> Vec<Value> {
    let call = |number: usize| {
        let create = json!({ "m": { "name": format!("{number} {}", rand::random::<u64>()) } });
        json!(["Mailbox/set", { "accountId": client.account, "create": create }, number.to_string()])
    };
    (0..count).map(call).collect()
}

/// Makes so many changes, one after the other, in as few requests as it takes.
#[track_caller]
fn change(client: &Client, count: usize) {
    for calls in changes(client, count).chunks(CALLS) {
        for answer in client.calls(json!(calls)) {
            assert!(answer.arguments["created"]["m"]["id"].is_string(), "{answer:?}");
        }
    }
}

/// Makes so many changes, each by a request of its own, all of which are sent before the first is answered.
#[track_caller]
fn change_at_once(socket: &mut Socket, client: &Client, count: usize) {
    let using = [CORE, MAIL];
    let asked = changes(client, count).into_iter().map(|call| socket.ask(&using, &json!([call])));
    let asked: Vec<String> = asked.collect();
    let answers: Vec<Value> = asked.iter().map(|_| socket.hear().expect("open")).collect();
    assert_each_answered_once(&asked, &answers);
}

/// Each was answered, once, and has made its mailbox.
#[track_caller]
fn assert_each_answered_once(asked: &[String], answers: &[Value]) {
    let mut answered: Vec<&str> = Vec::new();
    for answer in answers {
        assert!(answer["methodResponses"][0][1]["created"]["m"]["id"].is_string(), "{answer}");
        answered.push(answer["requestId"].as_str().expect("requestId"));
    }
    let mut asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    asked.sort_unstable();
    answered.sort_unstable();
    assert_eq!(answered, asked);
}

/// A client that is told of mailboxes, and has heard how they are now.
#[track_caller]
fn listening(server: &Server, client: &Client) -> Socket {
    let mut socket = Socket::open(server, client);
    socket.enable(&json!(["Mailbox"]), None);
    socket.take_pushed();
    socket
}

/// What is told until a client knows the state of Mailbox; nothing comes after it.
#[track_caller]
fn told_until(socket: &mut Socket, client: &Client, state: &str) -> Vec<Value> {
    let mut told = Vec::new();
    loop {
        let change = socket.pushed();
        let is_last = change["changed"][&client.account]["Mailbox"] == state;
        told.push(change);
        if is_last {
            break;
        }
    }
    assert_eq!(socket.pushed_within(QUIET), None, "told again after {told:?}");
    told
}

/// Asks for more than the system holds for a client that does not read, and waits until the server writes
/// it: nothing else can be written until this is read. The id of the request.
#[track_caller]
fn stop_reading(socket: &mut Socket) -> String {
    // What the system takes for a reader would grow; what it takes for a writer ends at 4 MiB.
    SockRef::from(&*socket.stream()).set_recv_buffer_size(64 << 10).expect("a socket");
    let text = "x".repeat(9_500_000);
    let id = socket.ask(&[CORE], &json!([["Core/echo", { "text": text }, "0"]]));
    let begun = socket.stream().peek(&mut [0]);
    assert!(begun.is_ok_and(|octets| octets > 0), "no answer");
    id
}

/// A client of one process does not read while another makes many changes, over this or another process.
#[track_caller]
fn assert_few_are_told_to_who_does_not_read(server: &Server, client: &Client) {
    let mut socket = listening(server, client);
    let id = stop_reading(&mut socket);
    change(client, UNREAD);
    let state = client.state("Mailbox");
    let answer = socket.answer_to(&id);
    assert_eq!(answer["methodResponses"][0][0], "Core/echo");
    let told = told_until(&mut socket, client, &state);
    assert!(told.len() <= FEW, "{} messages for {UNREAD} changes", told.len());
}

#[test]
fn who_does_not_read_its_websocket_is_then_told_the_latest_state_and_not_each_change() {
    let server = Server::shared();
    assert_few_are_told_to_who_does_not_read(server, &server.account());
}

/// An event source over HTTP/2, of which the server may send so many octets and no more until they are
/// read: no buffer of the system's hides what the server has in store.
struct Narrow {
    runtime: Runtime,
    body: Incoming,
    _sender: http2::SendRequest<Empty<Bytes>>,
}

impl Narrow {
    const OCTETS: u32 = 256;

    #[track_caller]
    fn open(client: &Client) -> Narrow {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let (body, sender) = runtime.block_on(async {
            let stream = TcpStream::connect(client.server).await.expect("the server listens");
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(Narrow::OCTETS)
                .handshake(TokioIo::new(stream))
                .await
                .expect("HTTP/2");
            tokio::spawn(connection);
            let path = client.events_path("Mailbox", "no", 0);
            let request = hyper::Request::get(format!("http://{}{path}", client.server))
                .header("Authorization", &client.authorization)
                .body(Empty::new())
                .expect("a request");
            let response = sender.send_request(request).await.expect("an answer");
            assert_eq!(response.status(), 200);
            (response.into_body(), sender)
        });
        Narrow { runtime, body, _sender: sender }
    }

    /// Reads until the text is enough.
    #[track_caller]
    fn read_until(&mut self, is_enough: impl Fn(&str) -> bool) -> String {
        let body = &mut self.body;
        self.runtime.block_on(async {
            let mut text = String::new();
            while !is_enough(&text) {
                let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
                let frame = frame.unwrap_or_else(|_| panic!("nothing comes after {text:?}"));
                let frame = frame.expect("the stream goes on").expect("a frame");
                text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
            }
            text
        })
    }
}

#[test]
fn who_does_not_read_its_event_source_is_then_told_the_latest_state_and_not_each_change() {
    let client = Server::shared().account();
    let mut events = Narrow::open(&client);
    change(&client, UNREAD);
    let last = format!("\"Mailbox\":\"{}\"", client.state("Mailbox"));
    let text = events.read_until(|text| text.contains(&last) && text.ends_with("\n\n"));
    // The first ones were sent before there was no room.
    let told = text.matches("event: state\n").count();
    assert!((1..=2 * FEW).contains(&told), "{told} events for {UNREAD} changes: {text}");
}

/// As many clients of a login as may be connected: half of them on WebSockets.
#[track_caller]
fn full_house(server: &Server, client: &Client) -> (Vec<Socket>, Vec<EventStream>) {
    let sockets = (0..MOST_CONNECTED / 2).map(|_| Socket::open(server, client));
    let streams = (0..MOST_CONNECTED / 2).map(|_| client.events("*", "no", 0));
    (sockets.collect(), streams.collect())
}

/// The two ways to be connected, as requests.
fn ways_in(client: &Client) -> [Request; 2] {
    let handshake = Request::get("/jmap/ws")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
        .header("Sec-WebSocket-Protocol", "jmap");
    [client.signed(handshake), client.signed(Request::get(&client.events_path("*", "no", 0)))]
}

/// The status that is answered to this, and after how many seconds one should come again.
#[track_caller]
fn answer_to(request: Request, client: &Client) -> (u16, Option<u64>) {
    let (status, headers, _) = request.open(client.server).expect("an answer");
    let after = headers.iter().find(|(name, _)| name == "retry-after");
    (status, after.map(|(_, value)| value.parse().expect("seconds")))
}

#[test]
fn one_client_too_many_of_a_login_is_refused_until_another_leaves() {
    let server = Server::shared();
    let (client, other) = (server.account(), server.account());
    let (mut sockets, mut streams) = full_house(server, &client);
    for request in ways_in(&client) {
        let (status, after) = answer_to(request, &client);
        assert_eq!(status, 429);
        assert!(after.is_some_and(|seconds| (1..=300).contains(&seconds)), "{after:?}");
    }
    // Others do not notice, nor do those who are there, nor requests.
    let statuses = ways_in(&other).map(|request| answer_to(request, &other).0);
    assert_eq!(statuses, [101, 200]);
    assert_eq!(sockets[0].call("Core/echo", &json!({ "a": 1 })), json!({ "a": 1 }));
    client.create_mailbox("told");
    streams[0].wait_for("Mailbox", |event| event.state_of(&client.account, "Mailbox"));
    // The place of a WebSocket is good for an event stream, and the other way round.
    drop(sockets.pop());
    let [handshake, stream] = ways_in(&client);
    // Kept open, so that the house is full again.
    let _open = eventually("an event stream comes in", || {
        let opened = stream.clone().open(client.server).expect("an answer");
        (opened.0 == 200).then_some(opened)
    });
    assert_eq!(answer_to(handshake.clone(), &client).0, 429, "full again");
    drop(streams.pop());
    eventually("a WebSocket comes in", || (answer_to(handshake.clone(), &client).0 == 101).then_some(()));
}

#[test]
fn of_many_requests_at_once_each_is_answered_and_no_more_run_than_the_session_says() {
    const ASKED: usize = 200;
    let server = Server::shared();
    let client = server.account();
    let at_once = client.session["capabilities"][CORE]["maxConcurrentRequests"].as_u64().expect("a number");
    let at_once = usize::try_from(at_once).expect("a small number");
    let mut socket = Socket::open(server, &client);
    let calls = changes(&client, ASKED).into_iter();
    let asked: Vec<String> = calls.map(|call| socket.ask(&[CORE, MAIL], &json!([call]))).collect();
    // What is sent after them is read only when fewer are under way than may be: by then all others have
    // been answered.
    socket.send(Message::Ping(Bytes::from_static(b"read")));
    let (mut answers, pong) = socket.until_pong();
    assert_eq!(pong, b"read");
    let under_way = ASKED - answers.len();
    assert!(under_way < at_once, "{under_way} were under way when the next message was read");
    answers.extend((0..under_way).map(|_| socket.hear().expect("open")));
    assert_each_answered_once(&asked, &answers);
    assert_eq!(socket.call("Core/echo", &json!({ "a": 1 })), json!({ "a": 1 }), "nothing comes twice");
    assert!(strings(&client.call("Mailbox/query", json!({}))["ids"]).len() >= ASKED);
}

/// However fast changes come, a client is told in intervals. On a slow machine the changes are as far
/// apart as these, so the bound is one of time.
#[test]
fn changes_that_follow_each_other_closely_are_told_together_and_the_last_one_is_told() {
    let server = Server::shared();
    let client = server.account();
    let mut socket = listening(server, &client);
    let mut writer = Socket::open(server, &client);
    for round in 0..6 {
        let begun = Instant::now();
        if round % 2 == 0 {
            change(&client, CALLS);
        } else {
            change_at_once(&mut writer, &client, CALLS);
        }
        let state = client.state("Mailbox");
        let took = begun.elapsed();
        let told = told_until(&mut socket, &client, &state);
        // One at the start, and one that is told after the time was taken.
        let most = took.as_millis() / GAP.as_millis() + 2;
        assert!(told.len() as u128 <= most, "{} messages for {CALLS} changes in {took:?}", told.len());
    }
}

/// The value of a figure with these labels; 0 when nothing was counted yet.
#[track_caller]
fn figure(server: &Server, name: &str) -> f64 {
    server.metric(name).unwrap_or_default()
}

#[test]
fn figures_tell_who_is_connected_what_is_pushed_how_late_and_who_was_sent_away() {
    // All of its figures are this test's.
    let server = Server::start();
    let client = server.account();
    let connected = |sockets: f64, streams: f64| {
        eventually(&format!("{sockets} WebSockets and {streams} streams"), || {
            let of = |kind: &str| figure(&server, &format!("postrider_push_connections{{kind=\"{kind}\"}}"));
            (of("websocket") == sockets && of("eventsource") == streams).then_some(())
        });
    };
    let counted = |name: &str, wanted: f64| {
        eventually(&format!("{name} is {wanted}"), || (figure(&server, name) == wanted).then_some(()));
    };
    connected(0.0, 0.0);
    let mut socket = listening(&server, &client);
    let idle = Socket::open(&server, &client);
    connected(2.0, 0.0);
    let told_before = figure(&server, "postrider_push_events_total");
    let asked_before = figure(&server, "postrider_websocket_requests_total");
    let timed_before = figure(&server, "postrider_push_lag_seconds_count");
    for number in 0..3 {
        client.create_mailbox(&format!("told {number}"));
        let state = client.state("Mailbox");
        assert_eq!(told_until(&mut socket, &client, &state).len(), 1);
        socket.call("Core/echo", &json!({}));
    }
    counted("postrider_push_events_total", told_before + 3.0);
    counted("postrider_websocket_requests_total", asked_before + 3.0);
    // What is found by looking at the database, as after a moment without the bus, has no time.
    let timed = figure(&server, "postrider_push_lag_seconds_count") - timed_before;
    assert!((1.0..=3.0).contains(&timed), "{timed}");
    let lag = figure(&server, "postrider_push_lag_seconds_sum");
    assert!((0.0..3.0 * PATIENCE.as_secs_f64()).contains(&lag), "{lag}");
    drop((socket, idle));
    connected(0.0, 0.0);
    let (mut sockets, streams) = full_house(&server, &client);
    connected(50.0, 50.0);
    for request in ways_in(&client) {
        assert_eq!(answer_to(request, &client).0, 429);
    }
    counted("postrider_push_dropped_total{reason=\"too many\"}", 2.0);
    // Who is refused is not connected.
    connected(50.0, 50.0);
    sockets.truncate(20);
    connected(20.0, 50.0);
    drop(streams);
    connected(20.0, 0.0);
    drop(sockets);
    connected(0.0, 0.0);
    // Nor was anybody else sent away: all others left by themselves.
    assert_eq!(figure(&server, "postrider_push_dropped_total"), 2.0);
}

#[test]
fn a_live_list_is_told_ten_times_a_second_at_the_most_and_ends_as_a_query_would() {
    const MADE: usize = 2 * CALLS;
    let server = Server::shared();
    let client = server.account();
    let inbox = client.mailbox("inbox");
    let (filter, more) = (json!({ "inMailbox": inbox }), json!({ "limit": 200 }));
    let mut socket = Socket::open(server, &client);
    subscribe(&mut socket, "list", &client.account, &filter, &more);
    assert_eq!(socket.hear().expect("open")["added"], json!([]), "an empty list is told");
    let call = |number: usize| {
        let email = plain_email(&inbox, &client.address, &format!("mail {number}"), "text");
        json!(["Email/set", { "accountId": client.account, "create": { "m": email } }, number.to_string()])
    };
    let calls: Vec<Value> = (0..MADE).map(call).collect();
    let begun = Instant::now();
    for calls in calls.chunks(CALLS) {
        client.calls(json!(calls));
    }
    let wanted = fresh(&client, &filter, &more);
    assert_eq!(wanted.len(), MADE);
    let (mut list, mut told) = (Vec::new(), 0);
    while list != wanted {
        let message = socket.hear().expect("open");
        assert_eq!((&message["@type"], &message["id"]), (&json!("LiveQueryChanges"), &json!("list")));
        follow(&mut list, &message);
        told += 1;
    }
    let took = begun.elapsed();
    assert!(told <= took.as_millis() / LIST_GAP.as_millis() + 1, "{told} messages in {took:?}");
    assert_eq!(socket.pushed_within(QUIET), None, "nothing is told twice");
}

/// Over the engines that several processes can share: `tests/run --scaled`.
#[test]
fn a_process_for_push_alone_takes_requests_and_tickets_and_tells_what_others_change() {
    if !stack::is_shared() {
        return;
    }
    let api = Server::builder().roles("api,receive,ingest,deliver,index,events").start();
    let push = Server::builder().roles("push").beside(&api).start();
    let client = api.account();
    // Each does its own work alone, so that what follows is of two processes.
    let authorization = ("Authorization", client.authorization.as_str());
    assert_eq!(Socket::try_open(&api, "/jmap/ws", &[authorization]).map(drop), Err(404));
    assert_eq!(push.request(client.signed(Request::get("/jmap/session"))).status, 404);
    let inbox = client.mailbox("inbox");

    let mut socket = Socket::open(&push, &client);
    assert_eq!(socket.call("Core/echo", &json!({ "a": 1 })), json!({ "a": 1 }));
    let email = client.create_email(&inbox, "made over HTTP", "text");
    let get = json!({ "accountId": client.account, "ids": [email], "properties": ["subject"] });
    assert_eq!(socket.call("Email/get", &get)["list"][0]["subject"], "made over HTTP");
    let create = json!({ "m": plain_email(&inbox, &client.address, "made over a WebSocket", "text") });
    let set = json!({ "accountId": client.account, "create": create });
    let email = id_of(&socket.call("Email/set", &set)["created"]["m"]);
    assert_eq!(client.get("Email", &email, &["subject"])["subject"], "made over a WebSocket");
    let set = json!({ "accountId": client.account, "update": { &email: { "keywords/$seen": true } } });
    assert!(socket.call("Email/set", &set)["updated"].get(&email).is_some());
    assert_eq!(client.get("Email", &email, &["keywords"])["keywords"], json!({ "$seen": true }));

    // What is changed at the other process is told here, on both kinds of connections.
    socket.enable(&json!(["Mailbox"]), None);
    socket.take_pushed();
    let mut there = client.clone();
    there.server = push.http();
    let events = there.events("Mailbox", "no", 0);
    client.create_mailbox("told");
    let state = client.state("Mailbox");
    told_until(&mut socket, &client, &state);
    let is_told = |told: Option<String>| (told? == state).then_some(());
    events.wait_for("Mailbox", |event| is_told(event.state_of(&client.account, "Mailbox")));
    assert_few_are_told_to_who_does_not_read(&push, &client);

    // Tickets of the one are good at the other; for a WebSocket once.
    let ticket_for = |purpose: &str| ticket(&api, &client.authorization, json!({ "purpose": purpose }));
    let path = format!("/jmap/ws?ticket={}", ticket_for("webSocket"));
    let opened = Socket::try_open(&push, &path, &[]);
    let mut socket = opened.unwrap_or_else(|status| panic!("refused with {status}"));
    assert_eq!(socket.call("Email/get", &get)["list"][0]["subject"], "made over HTTP");
    assert_eq!(Socket::try_open(&push, &path, &[]).map(drop), Err(401), "a second time");
    let path = format!("{}&ticket={}", client.events_path("Mailbox", "no", 0), ticket_for("eventSource"));
    let events = EventStream::open(push.http(), Request::get(&path));
    client.create_mailbox("told by ticket");
    events.wait_for("Mailbox", |event| event.state_of(&client.account, "Mailbox"));
}
