//! RFC 8887: JMAP over a WebSocket.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::http::Request;
use crate::support::jmap::{Client, strings};
use crate::support::server::Server;
use crate::support::websocket::Socket;

const CORE: &str = "urn:ietf:params:jmap:core";
const MAIL: &str = "urn:ietf:params:jmap:mail";

fn ticket(server: &Server, client: &Client) -> String {
    let request = client.signed(Request::post("/jmap/ticket").json(&json!({ "purpose": "webSocket" })));
    let answer = server.request(request).expect(200).json();
    answer["ticket"].as_str().expect("ticket").to_owned()
}

#[test]
fn the_session_tells_where_and_requests_are_answered_there() {
    let server = Server::shared();
    let client = server.account();
    let capability = client.session["capabilities"]["urn:ietf:params:jmap:websocket"].clone();
    assert_eq!(capability, json!({ "url": format!("ws://{}/jmap/ws", server.http()), "supportsPush": true }));
    let mut socket = Socket::open(server, &client);
    let calls = json!([["Mailbox/get", { "accountId": client.account, "ids": null }, "m"]]);
    let id = socket.ask(&[CORE, MAIL], &calls);
    let answer = socket.answer_to(&id);
    let over_http = client.request(&json!({ "using": [CORE, MAIL], "methodCalls": calls }));
    assert_eq!(answer["@type"], "Response");
    assert_eq!(answer["methodResponses"], over_http["methodResponses"]);
    assert_eq!(answer["sessionState"], client.session["state"]);
    assert!(answer.get("createdIds").is_none());
    // Without an id the answer has none; and what the request said is said again.
    socket
        .say(&json!({ "@type": "Request", "using": [CORE], "methodCalls": [], "createdIds": { "a": "b" } }));
    let answer = socket.hear().expect("open");
    assert!(answer.get("requestId").is_none(), "{answer}");
    assert_eq!(answer["createdIds"], json!({ "a": "b" }));
}

#[test]
fn each_error_is_told_for_its_request_and_the_connection_goes_on() {
    let server = Server::shared();
    let mut socket = Socket::open(server, &server.account());
    for (message, id, kind) in [
        ("{", Value::Null, "notJSON"),
        (r#"{"@type":"Request","id":"1","id":"2"}"#, Value::Null, "notJSON"),
        (r#"{"@type":"Request","id":"1"}"#, json!("1"), "notRequest"),
        (r#"{"id":"1","using":[],"methodCalls":[]}"#, json!("1"), "notRequest"),
        (
            r#"{"@type":"Request","id":"1","using":["urn:x"],"methodCalls":[]}"#,
            json!("1"),
            "unknownCapability",
        ),
        (r#"{"@type":"WebSocketPushEnable","dataTypes":7}"#, Value::Null, "notRequest"),
    ] {
        socket.send(Message::text(message));
        let answer = socket.hear().expect("open");
        assert_eq!(answer["@type"], "RequestError", "{answer}");
        assert_eq!(answer["requestId"], id, "{answer}");
        assert_eq!(answer["type"], format!("urn:ietf:params:jmap:error:{kind}"), "{answer}");
        assert!(answer["detail"].is_string() && answer["status"] == 400, "{answer}");
    }
    assert_eq!(socket.call("Core/echo", &json!({ "a": 1 })), json!({ "a": 1 }));
}

#[test]
fn many_requests_may_be_under_way() {
    let server = Server::shared();
    let client = server.account();
    let mut socket = Socket::open(server, &client);
    // Three times as many as run at once.
    let mut ids: Vec<String> = (0..48)
        .map(|number| {
            let create = json!({ "m": { "name": format!("box {number}") } });
            socket.ask(
                &[MAIL],
                &json!([["Mailbox/set", { "accountId": client.account, "create": create }, "0"]]),
            )
        })
        .collect();
    while !ids.is_empty() {
        let answer = socket.hear().expect("open");
        assert!(answer["methodResponses"][0][1]["created"]["m"]["id"].is_string(), "{answer}");
        let place = ids.iter().position(|id| answer["requestId"] == id.as_str()).expect("asked for");
        ids.remove(place);
    }
    assert_eq!(strings(&client.call("Mailbox/query", json!({}))["ids"]).len(), 48 + 6);
}

#[test]
fn an_answer_of_megabytes_comes_whole() {
    let server = Server::shared();
    let mut socket = Socket::open(server, &server.account());
    let text = "é€𝄞 and so on ".repeat(200_000);
    assert_eq!(socket.call("Core/echo", &json!({ "text": text }))["text"], json!(text));
}

#[test]
fn changes_are_pushed_while_they_are_asked_for() {
    let server = Server::shared();
    let client = server.account();
    let mut socket = Socket::open(server, &client);
    client.create_mailbox("before");
    assert_eq!(socket.pushed_within(Duration::from_millis(300)), None, "nobody asked");
    let present = socket.enable(&json!(["Mailbox", "Calendar"]), None).expect("the present states");
    let states = json!({ &client.account: { "Mailbox": client.state("Mailbox") } });
    assert_eq!(present["changed"], states);
    assert!(present["pushState"].is_string(), "{present}");
    client.create_email(&client.mailbox("inbox"), "a mail", "text");
    client.create_mailbox("told");
    let state = client.state("Mailbox");
    loop {
        let change = socket.pushed();
        let told = change["changed"][&client.account].as_object().expect("the account").clone();
        assert_eq!(told.keys().collect::<Vec<_>>(), ["Mailbox"], "{change}");
        assert!(change["pushState"].is_string(), "{change}");
        if told["Mailbox"] == state.as_str() {
            break;
        }
    }
    socket.say(&json!({ "@type": "WebSocketPushDisable" }));
    socket.call("Core/echo", &json!({}));
    client.create_mailbox("not told");
    assert_eq!(socket.pushed_within(Duration::from_millis(300)), None, "nobody asks any more");
    // Now for others, and from now on.
    socket.enable(&json!(null), None);
    assert_eq!(socket.pushed_within(Duration::from_millis(200)), None, "nothing has changed");
    client.create_mailbox("told again");
    assert!(socket.pushed()["changed"][&client.account]["Mailbox"].is_string());
}

/// A client that hears of changes by push alone, however often it is cut off, knows all of them.
#[test]
fn no_change_is_missed_whenever_the_connection_is_cut() {
    const MADE: usize = 60;
    let server = Server::shared();
    let client = server.account();
    let mut known = client.state("Mailbox");
    let mut seen: Vec<String> = Vec::new();
    let mut cuts = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Vec<String> {
            let made = (0..MADE).map(|number| {
                std::thread::sleep(Duration::from_millis(rand::random_range(0..12)));
                client.create_mailbox(&format!("box {number}"))
            });
            made.collect()
        });
        let sync = |open: &mut Socket, known: &mut String, seen: &mut Vec<String>| {
            let arguments = json!({ "accountId": client.account, "sinceState": known.as_str() });
            let changes = open.call("Mailbox/changes", &arguments);
            seen.extend(strings(&changes["created"]));
            *known = changes["newState"].as_str().expect("newState").to_owned();
        };
        let mut opening = Socket::open(server, &client);
        let present = opening.enable(&json!(["Mailbox"]), None).expect("the present states");
        sync(&mut opening, &mut known, &mut seen);
        let mut push_state = present["pushState"].as_str().map(str::to_owned);
        // It may be cut off before it hears of any change.
        let mut socket = rand::random_bool(0.5).then_some(opening);
        while seen.len() < MADE {
            let mut open = socket.take().unwrap_or_else(|| {
                let mut again = Socket::open(server, &client);
                again.enable(&json!(["Mailbox"]), push_state.as_deref());
                again
            });
            let change = open.pushed();
            push_state = change["pushState"].as_str().map(str::to_owned);
            sync(&mut open, &mut known, &mut seen);
            // Cut off somewhere, before or after more has come; what was not read counts as not told.
            if rand::random_bool(0.4) {
                std::thread::sleep(Duration::from_millis(rand::random_range(0..15)));
                cuts += 1;
            } else {
                socket = Some(open);
            }
        }
        let mut made = writer.join().expect("the writer");
        made.sort();
        seen.sort();
        assert_eq!(seen, made, "after {cuts} cuts");
    });
}

#[test]
fn who_comes_in_and_who_does_not() {
    let server = Server::shared();
    let client = server.account();
    let open = |path: &str, headers: &[(&str, &str)]| Socket::try_open(server, path, headers).map(drop);
    let basic = ("Authorization", client.authorization.as_str());
    assert_eq!(open("/jmap/ws", &[basic]), Ok(()));
    assert_eq!(open("/jmap/ws", &[]), Err(401));
    assert_eq!(open("/jmap/ws", &[("Authorization", "Bearer pr_nothing")]), Err(401));
    let token = server.cli_json(&["token", "add", &client.address]);
    let bearer = format!("Bearer {}", token["token"].as_str().expect("token"));
    assert_eq!(open("/jmap/ws", &[("Authorization", &bearer)]), Ok(()));
    // A ticket is good once, and for nothing else.
    let path = format!("/jmap/ws?ticket={}", ticket(server, &client));
    assert_eq!(server.request(Request::get(&path.replace("/ws", "/eventsource"))).status, 401);
    assert_eq!(open(&path, &[]), Ok(()));
    assert_eq!(open(&path, &[]), Err(401), "a second time");
    // Browsers add a password that they remember for any page's handshake.
    let ours = server.url();
    assert_eq!(open("/jmap/ws", &[basic, ("Origin", &ours)]), Ok(()));
    for foreign in ["https://evil.test", "null", "http://127.0.0.1"] {
        assert_eq!(open("/jmap/ws", &[basic, ("Origin", foreign)]), Err(403), "{foreign}");
    }
    let path = format!("/jmap/ws?ticket={}", ticket(server, &client));
    assert_eq!(open(&path, &[("Origin", "https://webmail.test")]), Ok(()));
}

#[test]
fn what_is_no_handshake_is_told_so() {
    let server = Server::shared();
    let client = server.account();
    let request = |headers: &[(&str, &str)]| {
        let usual = [
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "WebSocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("Sec-WebSocket-Protocol", "chat, jmap"),
        ];
        let mut request = client.signed(Request::get("/jmap/ws"));
        for (name, value) in usual {
            let other = headers.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
            match other {
                Some("") => {}
                Some(other) => request = request.header(name, other),
                None => request = request.header(name, value),
            }
        }
        let (status, headers, _) = request.open(server.http()).expect("an answer");
        let version = headers.iter().find(|(name, _)| name == "sec-websocket-version");
        (status, version.map(|(_, value)| value.clone()))
    };
    assert_eq!(request(&[]).0, 101);
    let upgrade = (426, Some("13".to_owned()));
    assert_eq!(request(&[("Sec-WebSocket-Version", "8")]), upgrade);
    assert_eq!(request(&[("Upgrade", "")]), upgrade);
    assert_eq!(request(&[("Connection", "close")]), upgrade);
    assert_eq!(request(&[("Sec-WebSocket-Protocol", "")]).0, 400);
    assert_eq!(request(&[("Sec-WebSocket-Protocol", "chat")]).0, 400);
    assert_eq!(request(&[("Sec-WebSocket-Key", "short")]).0, 400);
}

#[test]
fn pings_are_answered_and_close_codes_say_why() {
    let server = Server::shared();
    let client = server.account();
    let mut socket = Socket::open(server, &client);
    socket.send(Message::Ping(Bytes::from_static(b"are you there")));
    assert_eq!(socket.pong(), b"are you there");
    socket.send(Message::binary(vec![1, 2, 3]));
    assert_eq!(socket.hear(), Err(1003), "a binary message");
    // A frame that says it has a hundred megabytes.
    let mut socket = Socket::open(server, &client);
    socket.stream().write_all(&[0x81, 0xff, 0, 0, 0, 0, 6, 0, 0, 0, 1, 2, 3, 4]).expect("sent");
    assert_eq!(socket.hear(), Err(1009), "too large");
    let mut socket = Socket::open(server, &client);
    socket.stream().write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28]).expect("sent");
    assert_eq!(socket.hear(), Err(1007), "no UTF-8");
    let mut socket = Socket::open(server, &client);
    socket.stream().write_all(&[0x81, 0x02, b'{', b'}']).expect("sent");
    assert_eq!(socket.hear(), Err(1002), "not masked");
    let mut socket = Socket::open(server, &client);
    socket.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "done".into() })));
    assert_eq!(socket.hear(), Err(1000), "good-bye is answered");
}

#[test]
fn a_connection_ends_with_its_credential() {
    let server = Server::shared();
    let client = server.account();
    let mut socket = Socket::open(server, &client);
    socket.call("Core/echo", &json!({}));
    server.cli(&["account", "password", &client.address, "--password", "another one entirely"]);
    assert_eq!(socket.hear(), Err(1008));
}

#[test]
fn a_connection_ends_when_its_token_expires() {
    let server = Server::shared();
    let client = server.account();
    let token = server.cli_json(&["token", "add", &client.address, "--expires", "3s"]);
    let bearer = format!("Bearer {}", token["token"].as_str().expect("token"));
    let open = || Socket::try_open(server, "/jmap/ws", &[("Authorization", &bearer)]);
    let mut socket = open().unwrap_or_else(|status| panic!("refused with {status}"));
    let mut phone = server.sign_in(&client.address);
    phone.authorization.clone_from(&bearer);
    let events = phone.events("*", "no", 0);
    assert_eq!(socket.hear(), Err(1008));
    assert!(events.ended_within(Duration::from_secs(10)), "the stream goes on");
    assert_eq!(open().map(drop), Err(401));
}

#[test]
fn what_was_asked_is_answered_before_a_server_goes_down() {
    let server = Server::start();
    let client = server.account();
    let mut sockets: Vec<Socket> = (0..5).map(|_| Socket::open(&server, &client)).collect();
    for socket in &mut sockets {
        for number in 0..5 {
            let create = json!({ "m": { "name": format!("{number} {}", rand::random::<u32>()) } });
            let set = json!([["Mailbox/set", { "accountId": client.account, "create": create }, "0"]]);
            socket.ask(&[MAIL], &set);
        }
    }
    // Let the server have read them.
    for socket in &mut sockets {
        socket.hear().expect("an answer");
    }
    server.signal("TERM");
    for socket in &mut sockets {
        let mut answers = 1;
        let code = loop {
            match socket.hear() {
                Ok(_) => answers += 1,
                Err(code) => break code,
            }
        };
        assert_eq!((answers, code), (5, 1001));
    }
    assert_eq!(server.wait_exit(Duration::from_secs(10)).code(), Some(0));
}
