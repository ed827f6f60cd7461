//! Any bytes on any port get a protocol error or a closed connection: never a panic, a hang,
//! unbounded memory or a 500.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{self, Request, path_of};
use crate::support::jmap::{CORE, Client, MAIL};
use crate::support::message;
use crate::support::server::Server;
use crate::support::smtp::{Smtp, dot_stuffed};

/// A hostile message must be dealt with in this time, debug build and busy machine included.
const SLOWEST: Duration = Duration::from_secs(20);

/// No panic in the log, the process is the same, memory is bounded.
#[track_caller]
fn assert_unhurt(server: &Server) {
    assert_eq!(server.request(Request::get("/readyz")).status, 200);
    let log = server.log();
    assert!(!log.contains("panicked"), "a panic");
    if let Some(pid) = server.pid()
        && let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status"))
    {
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        let kilobytes: u64 =
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!(kilobytes < 1_500_000, "{line}");
    }
}

/// Sends bytes to a port and reads whatever comes until it closes or the time is over.
fn throw(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("time-out");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("time-out");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn rubbish(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn rubbish_on_every_port() {
    let server = Server::builder().env("POSTRIDER_CONNECTIONS_PER_ADDRESS", "1000").start();
    for port in [server.http(), server.smtp(), server.submission()] {
        for seed in 0..6 {
            throw(port, &rubbish(seed, 20_000));
        }
        throw(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        throw(port, &[0; 10_000]);
        throw(port, b"GET / HTTP/1.1\r\n\r\n");
        throw(port, &vec![b'A'; 3_000_000]);
        throw(port, b"\r\n\r\n\r\n\r\n");
        throw(port, b"");
    }
    assert_unhurt(&server);
}

#[test]
fn http_requests_that_are_none() {
    let server = Server::shared();
    let client = server.account();
    let host = server.http();
    let auth = format!("Authorization: {}\r\n", client.authorization);
    let api = path_of(client.session["apiUrl"].as_str().expect("apiUrl"));
    for request in [
        format!(
            "POST {api} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello"
        ),
        format!("POST {api} HTTP/1.1\r\nHost: x\r\n{auth}Transfer-Encoding: chunked\r\n\r\nZZZ\r\n"),
        format!("POST {api} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: -1\r\n\r\n"),
        format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", "/x".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(50_000)),
        "GET /../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /%2e%2e/%00/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET http://[::1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "NONSENSE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
    ] {
        let head: String = request.chars().take(80).collect();
        match http::raw(host, request.as_bytes()) {
            Ok(response) => assert!((400..500).contains(&response.status), "{head}: {response:?}"),
            Err(_) => { /* closed without a word */ }
        }
    }
    for path in
        ["/", "/jmap", "/jmap/api", "/jmap/download/a/b", "/jmap/upload/%00", "/nothing", "/metrics/x"]
    {
        let response = server.request(client.signed(Request::get(path)));
        assert!((400..500).contains(&response.status), "{path}: {response:?}");
    }
    assert_unhurt(server);
}

#[test]
fn a_gigabyte_that_is_only_declared() {
    let server = Server::shared();
    let client = server.account();
    for url in ["apiUrl", "uploadUrl"] {
        let path =
            path_of(client.session[url].as_str().expect("url")).replace("{accountId}", &client.account);
        let start = Instant::now();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n{{",
            client.authorization
        );
        let response = http::raw(server.http(), request.as_bytes()).expect("an answer at once");
        assert!(response.status == 413 || response.status == 400, "{response:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    smtp.command("MAIL FROM:<a@sender.test> SIZE=1000000000").expect(552);
    assert_unhurt(server);
}

#[test]
fn endless_bodies_are_cut_off() {
    let server = Server::shared();
    let client = server.account();
    let path =
        path_of(client.session["uploadUrl"].as_str().expect("url")).replace("{accountId}", &client.account);
    let mut stream = TcpStream::connect(server.http()).expect("connected");
    stream.set_write_timeout(Some(Duration::from_secs(10))).expect("time-out");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
        client.authorization
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 0x10_0000], b"\r\n"].concat();
    let cut = (0..200).any(|_| stream.write_all(&chunk).is_err());
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    let _ = stream.read_to_end(&mut answer);
    assert!(
        cut || answer.starts_with(b"HTTP/1.1 4"),
        "200 MB were taken: {}",
        String::from_utf8_lossy(&answer)
    );
    assert_unhurt(server);
}

#[test]
fn deep_and_odd_json() {
    let server = Server::shared();
    let client = server.account();
    let path = path_of(client.session["apiUrl"].as_str().expect("apiUrl")).to_owned();
    let post = |body: Vec<u8>| {
        let start = Instant::now();
        let response = client.signed(Request::post(&path)).body("application/json", body).send(server.http());
        assert!(start.elapsed() < SLOWEST);
        response
    };
    let call = |arguments: &str| {
        format!(r#"{{"using":["{CORE}","{MAIL}"],"methodCalls":[["Email/query",{arguments},"c"]]}}"#)
    };
    let account = &client.account;
    for body in [
        "[".repeat(10_000),
        "[".repeat(10_000) + &"]".repeat(10_000),
        "{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000),
        call(&format!(
            "{{\"accountId\":\"{account}\",\"filter\":{}{}}}",
            "{\"operator\":\"NOT\",\"conditions\":[".repeat(10_000),
            "{}".to_owned() + &"]}".repeat(10_000)
        )),
        call(&format!(
            "{{\"accountId\":\"{account}\",\"filter\":{}{}}}",
            "{\"operator\":\"NOT\",\"conditions\":[".repeat(60),
            "{}".to_owned() + &"]}".repeat(60)
        )),
        call("{\"accountId\":1e999}"),
        call(&format!("{{\"accountId\":\"{account}\",\"position\":99999999999999999999}}")),
        call(&format!("{{\"accountId\":\"{account}\",\"limit\":1.5}}")),
        call(&format!("{{\"accountId\":\"{account}\",\"limit\":9007199254740993}}")),
        call(&format!("{{\"accountId\":\"{account}\",\"accountId\":\"{account}\"}}")),
        call(&format!(
            "{{\"accountId\":\"{account}\",\"filter\":{{\"text\":\"{}\"}}}}",
            "wort ".repeat(50_000)
        )),
        call(&format!(
            "{{\"accountId\":\"{account}\",\"filter\":{{\"text\":\"\\u0000\\ud83d\\ude00\\u202e\"}}}}"
        )),
        call(&format!("{{\"accountId\":\"{account}\",\"filter\":{{\"before\":\"0000-00-00T00:00:00Z\"}}}}")),
        call(&format!("{{\"accountId\":\"{account}\",\"filter\":{{\"before\":\"9999-12-31T23:59:60Z\"}}}}")),
        call(&format!(
            "{{\"accountId\":\"{account}\",\"sort\":[{}]}}",
            vec!["{\"property\":\"subject\"}"; 5_000].join(",")
        )),
        call(&format!(
            "{{\"accountId\":\"{account}\",\"#filter\":{{\"resultOf\":\"c\",\"name\":\"Email/query\",\"path\":\"{}\"}}}}",
            "/*".repeat(50_000)
        )),
    ] {
        let head: String = body.chars().take(120).collect();
        let response = post(body.into_bytes());
        assert!(response.status == 200 || response.status == 400, "{head}: {response:?}");
        assert!(!response.text().contains("serverFail"), "{head}: {response:?}");
    }
    assert_unhurt(server);
}

/// Delivers by SMTP and waits until it was filed or refused.
fn deliver_hostile(server: &Server, client: &Client, what: &str, mail: &[u8]) {
    let start = Instant::now();
    let marker = message::unique("after the hostile ");
    let mut smtp = Smtp::connect(server.smtp());
    smtp.ehlo();
    let reply = smtp.try_send("a@sender.test", &[&client.address], mail);
    let taken = match reply {
        Ok(reply) => {
            assert!(reply.code == 250 || (500..600).contains(&reply.code), "{what}: {reply}");
            reply.code == 250
        }
        Err(_) => false,
    };
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, &marker, "x"),
    );
    client.wait_for_subject(&marker);
    assert!(start.elapsed() < SLOWEST, "{what} took {:?}", start.elapsed());
    if taken {
        // Whatever it is, it is returned as far as it can be, and searched.
        let ids = client.query(json!(null));
        for batch in ids.chunks(10) {
            let answer = client.call("Email/get", json!({ "ids": batch, "fetchAllBodyValues": true, "maxBodyValueBytes": 100_000,
                "properties": ["subject", "from", "sentAt", "bodyStructure", "textBody", "preview", "headers", "bodyValues", "header:References:asMessageIds"] }));
            assert_eq!(answer["list"].as_array().map(Vec::len), Some(batch.len()), "{what}");
        }
        client.query(json!({ "text": "anything at all" }));
    }
    assert!(start.elapsed() < SLOWEST * 2, "{what} took {:?}", start.elapsed());
    let all = client.query(json!(null));
    client.call("Email/set", json!({ "destroy": all }));
}

#[test]
fn hostile_messages() {
    let server = Server::start();
    let client = server.account();
    let nested = |depth: usize| {
        let mut out = String::from("Subject: nested\r\n");
        for level in 0..depth {
            out.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"));
        }
        out + "\r\ndeep\r\n"
    };
    let messages = {
        let mut out = String::new();
        for _ in 0..1_000 {
            out.push_str("Content-Type: message/rfc822\r\n\r\n");
        }
        out + "Subject: innermost\r\n\r\nx\r\n"
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("MIME nested 1,000 deep", nested(1_000).into()),
        ("MIME nested 20,000 deep", nested(20_000).into()),
        ("messages in messages", messages.into()),
        ("100,000 headers", ("X-A: b\r\n".repeat(100_000) + "\r\nx\r\n").into()),
        ("100,000 different headers", ((0..100_000).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>() + "\r\nx\r\n").into()),
        ("100,000 parts", ("Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned() + &"--b\r\n\r\nx\r\n".repeat(100_000) + "--b--\r\n").into()),
        ("100,000 addresses", (format!("To: {}\r\n\r\nx\r\n", "a@b.test, ".repeat(100_000))).into()),
        ("unclosed comments", (format!("To: {}\r\nFrom: {}\r\n\r\nx\r\n", "(".repeat(200_000), "a@b (".repeat(50_000))).into()),
        ("nested groups", (format!("To: {}\r\n\r\nx\r\n", "g: ".repeat(100_000))).into()),
        ("angle brackets", (format!("To: {}\r\nReferences: {}\r\n\r\nx\r\n", "<".repeat(200_000), "<".repeat(200_000))).into()),
        ("100,000 references", (format!("References: {}\r\n\r\nx\r\n", "<a@b> ".repeat(100_000))).into()),
        ("100,000 encoded words", (format!("Subject: {}\r\n\r\nx\r\n", "=?utf-8?Q?=C3=A4?= ".repeat(100_000))).into()),
        ("half encoded words", (format!("Subject: {}\r\n\r\nx\r\n", "=?utf-8?Q?".repeat(100_000))).into()),
        ("100,000 parameters", (format!("Content-Type: text/plain{}\r\n\r\nx\r\n", "; a*0=b".repeat(100_000))).into()),
        ("a header of 5 MB", (format!("Subject: {}\r\n\r\nx\r\n", "x".repeat(5_000_000))).into()),
        ("a line of 5 MB", (format!("Subject: line\r\n\r\n{}\r\n", "x".repeat(5_000_000))).into()),
        ("5 MB of markup", (format!("Content-Type: text/html\r\n\r\n{}\r\n", "<div><a href=\"".repeat(300_000))).into()),
        ("5 MB of open brackets", (format!("Content-Type: text/html\r\n\r\n{}\r\n", "<".repeat(5_000_000))).into()),
        ("5 MB of entities", (format!("Content-Type: text/html\r\n\r\n{}\r\n", "&amp".repeat(1_000_000))).into()),
        ("5 MB of comments", (format!("Content-Type: text/html\r\n\r\n{}\r\n", "<!--".repeat(1_000_000))).into()),
        ("5 MB of CJK without spaces", ("Content-Type: text/plain; charset=utf-8\r\n\r\n".to_owned() + &"漢字".repeat(800_000) + "\r\n").into()),
        ("boundaries that nearly fit", (format!("Content-Type: multipart/mixed; boundary={}\r\n\r\n{}\r\n", "x".repeat(70), format!("--{}\r\n", "x".repeat(69)).repeat(30_000))).into()),
        ("dates of no year", b"Date: Sat, 1 Jan 0000 00:00:00 +0000\r\n\r\nx\r\n".to_vec()),
        ("dates of every year", b"Date: Fri, 31 Dec 9999 23:59:59 -9999\r\nResent-Date: Mon, 99 Zzz 99999999999 99:99:99 +999999\r\n\r\nx\r\n".to_vec()),
        ("base64 rubbish", [b"Content-Transfer-Encoding: base64\r\nContent-Type: image/png\r\n\r\n".as_slice(), &rubbish(5, 300_000).into_iter().filter(|byte| !b"\r\n".contains(byte)).collect::<Vec<_>>(), b"\r\n"].concat()),
        ("NULs", [b"Subject: n\0ul\r\nFrom: \0@\0\r\n\r\n".as_slice(), &[0; 100_000], b"\r\n"].concat()),
        ("invalid UTF-8", [b"Subject: \xff\xfe\xc0\x80\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n".as_slice(), &[0xff; 100_000], b"\r\n"].concat()),
        ("only line ends", "\r\n".repeat(500_000).into()),
        ("only dots", ".\r\n..\r\n".repeat(200_000).into()),
        ("rubbish", rubbish(9, 500_000).into_iter().filter(|byte| !b"\r\n".contains(byte)).chain(*b"\r\n").collect()),
    ];
    for (what, mail) in cases {
        println!("{what}");
        deliver_hostile(&server, &client, what, &mail);
        assert_unhurt(&server);
    }
}

#[test]
fn smtp_commands_without_end() {
    let server = Server::shared();
    for line in [
        vec![b'A'; 5_000_000],
        [b"MAIL FROM:<".as_slice(), &vec![b'a'; 200_000], b">\r\n"].concat(),
        [b"EHLO ".as_slice(), &vec![b'.'; 200_000], b"\r\n"].concat(),
        b"EHLO x\r\nMAIL FROM:<a@b> A=B C=D E=F\r\nMAIL FROM:<\"\\\"\\\\@\"@b>\r\nRCPT TO:<\xff\xfe>\r\nBDAT 99999999999999999999\r\n".to_vec(),
        b"EHLO x\r\nBDAT -1\r\nBDAT 1 LAST MORE\r\nBDAT x\r\nDATA\r\n.\r\n".to_vec(),
        b"EHLO \0\r\nEHLO x\r\nMAIL FROM:<\0@b>\r\nRCPT TO:<a\0@example.test>\r\n".to_vec(),
    ] {
        let answer = throw(server.smtp(), &line);
        assert!(answer.starts_with(b"220 "), "{}", String::from_utf8_lossy(&answer));
    }
    assert_unhurt(server);
}

#[test]
fn a_connection_cut_anywhere_leaves_nothing_behind() {
    let server = Server::shared();
    let client = server.account();
    let mail = message::text("a@sender.test", &client.address, "cut off", "text");
    let session = [
        format!("EHLO x\r\nMAIL FROM:<a@sender.test>\r\nRCPT TO:<{}>\r\nDATA\r\n", client.address)
            .into_bytes(),
        dot_stuffed(mail.as_bytes()),
    ]
    .concat();
    let mut cut = 1;
    while cut < session.len() - 1 {
        let mut stream = TcpStream::connect(server.smtp()).expect("connected");
        let _ = stream.write_all(&session[..cut]);
        drop(stream);
        cut += 23;
    }
    let whole = message::text("a@sender.test", &client.address, "whole", "text");
    server.deliver("a@sender.test", &client.address, whole);
    client.wait_for_subject("whole");
    assert!(client.query(json!({ "subject": "cut off" })).is_empty());
    assert_unhurt(server);
}

#[test]
fn ids_of_every_shape_are_not_found() {
    let server = Server::shared();
    let client = server.account();
    let long = "x".repeat(100_000);
    for id in [
        "",
        " ",
        "#",
        "#nobody",
        "../..",
        "%00",
        "\u{0}",
        "é",
        "'; drop table email; --",
        "-1",
        "9223372036854775808",
        "null",
        long.as_str(),
    ] {
        for kind in ["Email", "Mailbox", "Thread", "Identity", "EmailSubmission", "VacationResponse"] {
            let answer = client.answer(&format!("{kind}/get"), json!({ "ids": [id] }));
            let fine =
                answer.arguments["notFound"] == json!([id]) || answer.arguments["type"] == "invalidArguments";
            assert!(fine, "{kind}/get {id:?}: {answer:?}");
            if kind != "Thread" {
                let answer =
                    client.answer(&format!("{kind}/set"), json!({ "update": { id: {} }, "destroy": [] }));
                let fine = answer.arguments["notUpdated"][id].is_object() || answer.name == "error";
                assert!(fine && answer.arguments["type"] != "serverFail", "{kind}/set {id:?}: {answer:?}");
            }
        }
    }
    let _ = Value::Null;
    assert_unhurt(server);
}
