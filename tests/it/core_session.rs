//! RFC 8620, sections 1.7, 2 and 8: the session as proxies, shared accounts and TLS show it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::jmap::{CORE, MAIL};
use crate::support::ports::free_port;
use crate::support::server::{PASSWORD, Server};
use crate::support::tls::{self, Certificate};

#[test]
fn the_session_and_its_state_follow_the_address_behind_a_trusted_proxy() {
    let server = Server::builder()
        .env("POSTRIDER_PUBLIC_URL", "")
        .env("POSTRIDER_TRUSTED_PROXIES", "127.0.0.1")
        .start();
    let client = server.account();
    let session = |host: &str| {
        let request = client.signed(Request::get("/.well-known/jmap"));
        let request = request.header("X-Forwarded-Host", host).header("X-Forwarded-Proto", "https");
        server.request(request).expect(200).json()
    };
    let (one, two) = (session("mail.example.test"), session("jmap.example.test:8443"));
    for (session, base) in [(&one, "https://mail.example.test/"), (&two, "https://jmap.example.test:8443/")] {
        for url in ["apiUrl", "downloadUrl", "uploadUrl", "eventSourceUrl"] {
            assert!(session[url].as_str().is_some_and(|url| url.starts_with(base)), "{url} of {session}");
        }
    }
    // Whatever differs in the session, its state differs too, and responses name that state.
    assert_ne!(one["state"], two["state"]);
    assert_eq!(session("mail.example.test")["state"], one["state"]);
    let request = client
        .signed(Request::post("/jmap/api"))
        .header("X-Forwarded-Host", "mail.example.test")
        .header("X-Forwarded-Proto", "https")
        .json(&json!({ "using": [CORE], "methodCalls": [] }));
    assert_eq!(server.request(request).expect(200).json()["sessionState"], one["state"]);
    // Rubbish in the headers makes no rubbish in the URLs.
    let odd = session("evil.test/?x=\"<script>");
    assert!(!odd.to_string().contains("script"), "{odd}");
}

#[test]
fn the_upload_limit_that_is_told_is_the_one_that_holds() {
    let server = Server::builder().env("POSTRIDER_MAX_UPLOAD_SIZE", "60 MB").start();
    let client = server.account();
    let limit = &client.session["capabilities"][CORE]["maxSizeUpload"];
    assert!(limit.as_u64() >= Some(60_000_000), "{limit}");
    // The default is smaller.
    let response = client.upload_response("text/plain", vec![b'x'; 55_000_000]);
    assert_eq!(response.status, 201, "{response:?}");
}

#[test]
fn shared_accounts_are_told_apart() {
    let server = Server::shared();
    let (client, written, read) = (server.account(), server.account(), server.account());
    server.cli(&["access", "grant", &client.address, &written.address]);
    server.cli(&["access", "grant", &client.address, &read.address, "--read-only"]);
    let session = server.sign_in(&client.address).session;
    let flags = |account: &str| {
        let account = &session["accounts"][account];
        (account["name"].clone(), account["isPersonal"].clone(), account["isReadOnly"].clone())
    };
    assert_eq!(flags(&client.account), (json!(client.address), json!(true), json!(false)));
    assert_eq!(flags(&written.account), (json!(written.address), json!(false), json!(false)));
    assert_eq!(flags(&read.account), (json!(read.address), json!(false), json!(true)));
    for (_, account) in session["primaryAccounts"].as_object().expect("primaryAccounts") {
        assert_eq!(*account, json!(client.account));
    }
    for (id, account) in session["accounts"].as_object().expect("accounts") {
        // Each account has what the server has, but for what is no account's.
        let mut capabilities: Vec<&String> =
            account["accountCapabilities"].as_object().expect("accountCapabilities").keys().collect();
        let mut of_server: Vec<&String> =
            session["capabilities"].as_object().expect("capabilities").keys().collect();
        let of_no_account = [
            CORE,
            "urn:ietf:params:jmap:websocket",
            "urn:ietf:params:jmap:webpush-vapid",
            "https://github.com/postrider/postrider/live-query",
        ];
        of_server.retain(|name| !of_no_account.contains(&name.as_str()));
        capabilities.sort();
        of_server.sort();
        assert_eq!(capabilities, of_server, "{id}");
        let may_create = &account["accountCapabilities"][MAIL]["mayCreateTopLevelMailbox"];
        assert_eq!(*may_create, json!(account["isReadOnly"] == Value::Bool(false)), "{id}");
    }
    // The members of the RFC, and no others.
    let mut members: Vec<&String> = session.as_object().expect("session").keys().collect();
    members.sort();
    assert_eq!(
        members,
        [
            "accounts",
            "apiUrl",
            "capabilities",
            "downloadUrl",
            "eventSourceUrl",
            "primaryAccounts",
            "state",
            "uploadUrl",
            "username"
        ]
    );
}

#[test]
fn discovery_answers_itself_without_a_redirect() {
    let server = Server::shared();
    let client = server.account();
    let known = server.request(client.signed(Request::get("/.well-known/jmap"))).expect(200);
    assert_eq!(known.header("cache-control"), Some("no-cache, no-store, must-revalidate"), "RFC 8620, 2");
    assert_eq!(known.json()["username"], json!(client.address));
}

#[test]
fn the_session_is_served_over_tls() {
    let port = free_port();
    let certificate = Certificate::make(&["mail.example.test"]);
    let folder = tempfile::tempdir().expect("folder");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, &certificate.certificate_pem).expect("written");
    std::fs::write(&key, &certificate.key_pem).expect("written");
    let server = Server::builder()
        .env("POSTRIDER_PUBLIC_URL", "https://jmap.example.test:8443")
        .env("POSTRIDER_HTTPS_LISTEN", format!("127.0.0.1:{port}"))
        .env("POSTRIDER_TLS_CERT", cert.to_string_lossy())
        .env("POSTRIDER_TLS_KEY", key.to_string_lossy())
        .start();
    let client = server.account();
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let mut stream = tls::connect(stream, "mail.example.test").expect("TLS");
    let request = format!(
        "GET /.well-known/jmap HTTP/1.1\r\nHost: mail.example.test:{port}\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
        crate::support::http::basic(&client.address, PASSWORD)
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    let session: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(session["apiUrl"], "https://jmap.example.test:8443/jmap/api");
    if let tls::Stream::Client(stream) = &stream {
        let version = stream.conn.protocol_version();
        assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
    }
    // RFC 8620, 2.2: a record leads clients there.
    let printed = server.cli_json(&["domain", "add", "discovered.test"]);
    let records = printed["records"].as_array().expect("records");
    let record = json!({ "name": "_jmap._tcp.discovered.test", "type": "SRV", "value": "0 1 8443 jmap.example.test." });
    assert!(records.contains(&record), "{printed}");
    // Nothing is said to those who do not speak TLS.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard);
    assert!(!heard.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&heard));
}
