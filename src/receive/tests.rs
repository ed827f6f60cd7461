//! The servers over real sockets, in front of a real store.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::blob::testing::{blobs_in, on_a_full_disk};
use crate::cache::Cache;
use crate::config::engine::CacheUrl;
use crate::receive::body_memory::BodyMemory;
use crate::receive::connection::Shared;
use crate::receive::intake::Intake;
use crate::receive::listener::Listener;
use crate::receive::policy::Policy;
use crate::receive::session::{Role, SessionSettings};
use crate::smtp::client::tls::{TlsPolicy, TlsSettings, accepting_any};
use crate::smtp::client::transaction::{OutgoingEnvelope, OutgoingRecipient, RecipientResult};
use crate::smtp::client::{Client, ClientOptions, Timeouts};
use crate::smtp::parameters::{Notify, OriginalRecipient, Ret};
use crate::smtp::sasl::Credentials;
use crate::store::directory::fixture::Fixture;
use crate::store::directory::sign_in::SignIn;
use crate::store::directory::{account, login, password};
use crate::store::email::read;
use crate::store::queue::LANES;
use crate::store::queue::incoming::{self, IncomingRow};
use crate::store::queue::outgoing::{self, OutgoingRow};
use crate::store::submission;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::DsnReturn;
use crate::types::id::AccountId;
use crate::types::network::Network;

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

struct Bench {
    fixture: Fixture,
    intake: Intake,
    alice: AccountId,
}

impl Bench {
    async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let created = fixture.account("alice@example.test").await;
        let hash = password::hash("secret").unwrap();
        login::set_password(&fixture.store, created.login, hash).await.unwrap();
        let cache = Cache::open(&CacheUrl::Memory, 1 << 20, fixture.clock.clone());
        let intake = Intake {
            store: fixture.store.clone(),
            blobs: blobs_in(fixture.folder.path(), fixture.store.clone()),
            sign_in: SignIn::new(fixture.store.clone(), cache.clone(), [1; 32]),
            cache,
            recipients_per_hour: 5,
        };
        Bench { fixture, intake, alice: created.account }
    }

    async fn start(&self, role: Role, is_implicit_tls: bool, policy: Policy, proxies: &[Network]) -> Server {
        let settings = SessionSettings {
            role,
            host_name: "mx.example.test".to_owned(),
            policy,
            has_certificate: true,
            allow_plaintext_auth: false,
            clock: self.fixture.clock.clone(),
            ids: Arc::clone(self.fixture.store.ids()),
        };
        let shutdown = CancellationToken::new();
        let shared = Shared {
            body_memory: Arc::new(BodyMemory::new(settings.policy.body_memory)),
            settings: Arc::new(settings),
            tls: Some(acceptor()),
            is_implicit_tls,
            intake: self.intake.clone(),
            shutdown: shutdown.clone(),
        };
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = Listener::new(socket, shared, proxies);
        let address = listener.address().unwrap();
        Server { address, shutdown, running: tokio::spawn(listener.run()) }
    }

    async fn mx(&self) -> Server {
        self.start(Role::Mx, false, Policy::default(), &[]).await
    }

    async fn incoming(&self) -> Vec<IncomingRow> {
        let mut rows = Vec::new();
        for lane in 0..LANES {
            rows.extend(incoming::claim(&self.fixture.store, lane, 10, 8_000).await.unwrap());
        }
        rows
    }

    async fn outgoing(&self) -> Vec<OutgoingRow> {
        let mut rows = Vec::new();
        for lane in 0..LANES {
            rows.extend(outgoing::claim(&self.fixture.store, lane, 10, 8_000).await.unwrap());
        }
        rows.sort_by(|one, two| one.domain.cmp(&two.domain));
        rows
    }

    async fn body(&self, row: &IncomingRow) -> Bytes {
        if row.is_staged {
            return self.intake.blobs.read_unchecked(&row.body_hash).await.unwrap();
        }
        let mut snapshot = self.fixture.store.read().await.unwrap();
        let bodies = incoming::bodies(&mut snapshot, row.claim.lane, &[row.claim.id]).await.unwrap();
        bodies[0].1.clone()
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn tls_settings() -> TlsSettings {
    let server_name = ServerName::try_from("mx.example.test").unwrap();
    TlsSettings { config: accepting_any().unwrap(), server_name }
}

fn options(tls: TlsPolicy, credentials: Option<(&str, &str)>) -> ClientOptions {
    ClientOptions {
        host_name: "client.test".to_owned(),
        timeouts: Timeouts::default(),
        tls,
        credentials: credentials
            .map(|(login, password)| Credentials { login: login.to_owned(), password: password.to_owned() }),
        allow_plaintext_auth: true,
    }
}

async fn connect(server: &Server, options: ClientOptions) -> Client<TcpStream> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    Client::start(stream, &options).await.unwrap()
}

fn envelope(sender: &str, recipients: &[&str]) -> OutgoingEnvelope {
    let recipient =
        |address: &&str| OutgoingRecipient { address: (*address).to_owned(), ..OutgoingRecipient::default() };
    OutgoingEnvelope {
        sender: sender.to_owned(),
        recipients: recipients.iter().map(recipient).collect(),
        ..OutgoingEnvelope::default()
    }
}

fn shown(results: &[RecipientResult]) -> Vec<String> {
    let one = |result: &RecipientResult| {
        format!("{} {}", result.code, result.enhanced.map(|code| code.to_string()).unwrap_or_default())
    };
    results.iter().map(one).collect()
}

/// Says `bytes` and reads all until the server closes.
async fn say(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut replies = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut replies)).await.unwrap().unwrap();
    String::from_utf8(replies).unwrap()
}

#[tokio::test]
async fn mail_from_another_server_is_queued_durably() {
    let bench = Bench::new().await;
    let server = bench.mx().await;
    let mut client = connect(&server, options(TlsPolicy::Opportunistic(tls_settings()), None)).await;
    assert!(client.is_encrypted());
    let wanted =
        envelope("Bob@sender.test", &["Alice+x@example.test", "nobody@example.test", "x@other.test"]);
    let results = client.send(&wanted, b"Subject: x\r\n\r\n.x\r\n", async { true }).await.unwrap();
    assert_eq!(shown(&results), ["250 2.0.0", "550 5.1.1", "550 5.7.1"]);
    let [row] = &bench.incoming().await[..] else { panic!("one row") };
    let queued = &row.envelope;
    assert_eq!(queued.mail_from, "Bob@sender.test");
    assert_eq!(queued.recipients.len(), 1);
    assert_eq!(queued.recipients[0].address, "Alice+x@example.test");
    assert_eq!(queued.recipients[0].accounts, [bench.alice]);
    assert_eq!((queued.helo.as_str(), queued.is_tls, &queued.login), ("client.test", true, &None));
    assert_eq!(queued.remote_ip, Some(IpAddr::from([127, 0, 0, 1])));
    let body = bench.body(row).await;
    assert_eq!(BlobHash::of(&body), row.body_hash);
    let text = String::from_utf8_lossy(&body);
    assert!(
        text.starts_with("Return-Path: <Bob@sender.test>\r\nReceived: from client.test ([127.0.0.1])\r\n")
    );
    assert!(
        text.contains("with ESMTPS (TLSv1_3 ") && text.ends_with("\r\nSubject: x\r\n\r\n.x\r\n"),
        "{text}"
    );
    assert!(text.contains(&format!("\tid {} for <Alice+x@example.test>;", queued.delivery_id)), "{text}");
}

#[tokio::test]
async fn a_large_message_is_staged_before_its_row() {
    let bench = Bench::new().await;
    let server = bench.mx().await;
    let mut client = connect(&server, options(TlsPolicy::Never, None)).await;
    let message = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(20_000));
    let wanted = envelope("", &["postmaster", "alice@example.test"]);
    let results = client.send(&wanted, message.as_bytes(), async { true }).await.unwrap();
    assert_eq!(shown(&results), ["250 2.0.0", "250 2.0.0"]);
    let [row] = &bench.incoming().await[..] else { panic!("one row") };
    assert!(row.is_staged);
    let body = bench.body(row).await;
    assert!(body.ends_with(message.as_bytes()) && body.len() as i64 == row.size);
}

#[tokio::test]
async fn on_a_full_disk_large_mail_is_put_off_and_small_mail_is_taken() {
    let mut bench = Bench::new().await;
    bench.intake.blobs = on_a_full_disk(bench.fixture.folder.path(), bench.fixture.store.clone());
    let server = bench.mx().await;
    let mut client = connect(&server, options(TlsPolicy::Never, None)).await;
    let wanted = envelope("", &["alice@example.test"]);
    let large = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(20_000));
    let results = client.send(&wanted, large.as_bytes(), async { true }).await.unwrap();
    assert_eq!(shown(&results), ["452 4.3.1"]);
    assert!(bench.incoming().await.is_empty(), "a row without its object");
    let results = client.send(&wanted, b"Subject: x\r\n\r\n", async { true }).await.unwrap();
    assert_eq!(shown(&results), ["250 2.0.0"]);
    assert_eq!(bench.incoming().await.len(), 1);
}

#[tokio::test]
async fn what_users_send_becomes_a_row_for_each_domain() {
    let bench = Bench::new().await;
    let server = bench.start(Role::Submission, false, Policy::default(), &[]).await;
    let required = TlsPolicy::Required(tls_settings());
    let mut client = connect(&server, options(required, Some(("Alice@example.test", "secret")))).await;
    let mut wanted =
        envelope("alice@example.test", &["b@two.test", "c@one.test", "alice@example.test", "d@two.test"]);
    wanted.ret = Some(Ret::Headers);
    wanted.envid = Some("x+y".to_owned());
    wanted.recipients[0].notify = Some(Notify::NEVER);
    wanted.recipients[0].orcpt = OriginalRecipient::parse("rfc822;b+2B@two.test");
    let message = b"From: alice@example.test\r\nBcc: d@two.test\r\n\r\n\xc3\xa9\r\n";
    let results = client.send(&wanted, message, async { true }).await.unwrap();
    assert_eq!(shown(&results), ["250 2.0.0"; 4]);
    let rows = bench.outgoing().await;
    let domains: Vec<(&str, usize)> =
        rows.iter().map(|row| (row.domain.as_str(), row.recipients.len())).collect();
    assert_eq!(domains, [("example.test", 1), ("one.test", 1), ("two.test", 2)]);
    let (sent, first) = (&rows[2].envelope, &rows[2].recipients[0]);
    assert_eq!((sent.mail_from.as_str(), sent.env_id.as_deref()), ("alice@example.test", Some("x+y")));
    assert_eq!((sent.ret, sent.body_8bit, sent.smtputf8), (Some(DsnReturn::Headers), true, false));
    assert_eq!(first.orcpt.as_deref(), Some("rfc822;b+@two.test"));
    assert_eq!(first.notify.as_deref(), Some("NEVER"));
    assert_eq!(rows[0].envelope.delivery_id, rows[2].envelope.delivery_id);
    let body = bench.intake.blobs.read(bench.alice, &rows[0].body_hash).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("with ESMTPSA (") && text.contains("\r\nMessage-ID: <"), "{text}");
    assert!(!text.contains("Bcc") && text.ends_with("\r\n\r\n\u{e9}\r\n"), "{text}");
    // It is the client that puts a copy into Sent: nothing but the rows and their message is there.
    let mut snapshot = bench.fixture.store.read().await.unwrap();
    assert_eq!(read::ids(&mut snapshot, bench.alice, 10).await.unwrap(), []);
    assert_eq!(submission::newest(&mut snapshot, bench.alice, 10).await.unwrap(), []);
    drop(snapshot);
    // Four of five recipients in an hour are used up.
    let more = envelope("alice@example.test", &["b@two.test", "c@one.test"]);
    let results = client.send(&more, b"From: alice@example.test\r\n\r\n", async { true }).await.unwrap();
    assert_eq!(shown(&results), ["450 4.7.1"; 2]);
    let one = envelope("alice@example.test", &["b@two.test"]);
    let results = client.send(&one, b"From: alice@example.test\r\n\r\n", async { true }).await.unwrap();
    assert_eq!(shown(&results), ["250 2.0.0"]);
}

#[tokio::test]
async fn held_mail_is_due_later() {
    let bench = Bench::new().await;
    let server = bench.start(Role::Submission, false, Policy::default(), &[]).await;
    let replies = say(
        &server,
        b"EHLO a\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\nMAIL FROM:<alice@example.test> HOLDFOR=3600\r\n\
          RCPT TO:<b@two.test>\r\nDATA\r\nFrom: alice@example.test\r\n\r\n.\r\nQUIT\r\n",
    )
    .await;
    assert!(replies.contains("250 2.0.0 Queued as"), "{replies}");
    assert!(bench.outgoing().await.is_empty());
    bench.fixture.clock.advance_ms(3_600_000);
    assert_eq!(bench.outgoing().await.len(), 1);
}

#[tokio::test]
async fn wrong_passwords_are_refused() {
    let bench = Bench::new().await;
    let server = bench.start(Role::Submission, true, Policy::default(), &[]).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let wrong = options(TlsPolicy::Implicit(tls_settings()), Some(("alice@example.test", "wrong")));
    let error = Client::start(stream, &wrong).await.unwrap_err();
    assert_eq!(error.reply().map(|reply| reply.code()), Some(535));
    let right = options(TlsPolicy::Implicit(tls_settings()), Some(("alice@example.test", "secret")));
    assert!(connect(&server, right).await.is_encrypted());
}

#[tokio::test]
async fn a_full_mailbox_and_a_closed_store_put_mail_off() {
    let bench = Bench::new().await;
    let server = bench.mx().await;
    account::set_quota(&bench.fixture.store, bench.alice, 1).await.unwrap();
    let mut client = connect(&server, options(TlsPolicy::Never, None)).await;
    let wanted = envelope("", &["alice@example.test"]);
    assert_eq!(shown(&client.send(&wanted, b"x: y\r\n", async { true }).await.unwrap()), ["250 2.0.0"]);
    let mut unit = bench.fixture.store.read().await.unwrap();
    let used = account::usage(&mut unit, bench.alice).await.unwrap().unwrap().used_bytes;
    assert_eq!(used, 0, "filing counts, queueing does not");
    drop(unit);
    bench.fixture.store.close().await;
    let results = client.send(&wanted, b"x: y\r\n", async { true }).await.unwrap();
    assert_eq!(shown(&results), ["451 4.3.0"]);
}

#[tokio::test]
async fn bytes_behind_starttls_are_never_obeyed() {
    let bench = Bench::new().await;
    let server = bench.mx().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"EHLO a\r\nSTARTTLS\r\nHELP\r\nQUIT\r\n").await.unwrap();
    let mut replies = vec![0; 4096];
    let mut seen = String::new();
    while !seen.contains("220 2.0.0 Go ahead") {
        let count = stream.read(&mut replies).await.unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&replies[..count]));
    }
    let settings = tls_settings();
    let connector = tokio_rustls::TlsConnector::from(settings.config);
    let mut encrypted = connector.connect(settings.server_name, stream).await.unwrap();
    encrypted.write_all(b"NOOP\r\nQUIT\r\n").await.unwrap();
    let mut rest = String::new();
    // The server may close without a TLS good-bye; what it said counts.
    let _ = encrypted.read_to_string(&mut rest).await;
    assert_eq!(rest, "250 2.0.0 OK\r\n221 2.0.0 Bye\r\n");
}

#[tokio::test]
async fn connections_of_an_address_are_limited() {
    let bench = Bench::new().await;
    let policy = Policy { connections_per_address: 2, ..Policy::default() };
    let server = bench.start(Role::Mx, false, policy, &[]).await;
    let first = connect(&server, options(TlsPolicy::Never, None)).await;
    let second = connect(&server, options(TlsPolicy::Never, None)).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let refused = Client::start(stream, &options(TlsPolicy::Never, None)).await.unwrap_err();
    assert_eq!(refused.reply().map(|reply| reply.code()), Some(421));
    first.quit().await;
    for _ in 0..100 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        if Client::start(stream, &options(TlsPolicy::Never, None)).await.is_ok() {
            drop(second);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn connections_of_a_server_are_limited() {
    let bench = Bench::new().await;
    let policy = Policy { connections: 1, ..Policy::default() };
    let server = bench.start(Role::Mx, false, policy, &[]).await;
    let first = connect(&server, options(TlsPolicy::Never, None)).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let mut heard = String::new();
    second.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "421 4.3.2 Too many connections, try again later\r\n");
    first.quit().await;
}

#[tokio::test]
async fn the_silent_are_sent_away() {
    let bench = Bench::new().await;
    let policy = Policy { idle: Duration::from_millis(50), ..Policy::default() };
    let server = bench.start(Role::Mx, false, policy, &[]).await;
    assert!(say(&server, b"EHLO a\r\n").await.ends_with("421 4.4.2 Waited too long\r\n"));
    // Bytes that trickle in make no progress.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let trickle = async {
        for _ in 0..500 {
            if stream.write_all(b"N").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still connected");
    };
    trickle.await;
    let policy = Policy { transaction: Duration::from_millis(50), ..Policy::default() };
    let server = bench.start(Role::Mx, false, policy, &[]).await;
    let replies = say(&server, b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx").await;
    assert!(replies.ends_with("421 4.4.2 Waited too long\r\n"), "{replies}");
}

#[tokio::test]
async fn a_stopping_server_finishes_messages_and_sends_the_others_away() {
    let bench = Bench::new().await;
    let server = bench.mx().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n").await.unwrap();
    let (mut seen, mut buffer) = (String::new(), vec![0; 4096]);
    while !seen.contains("354") {
        let count = busy.read(&mut buffer).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    server.shutdown.cancel();
    let mut replies = String::new();
    idle.read_to_string(&mut replies).await.unwrap();
    assert!(replies.ends_with("421 4.3.2 The server is stopping\r\n"), "{replies}");
    busy.write_all(b"x: y\r\n.\r\n").await.unwrap();
    let mut replies = String::new();
    busy.read_to_string(&mut replies).await.unwrap();
    assert!(replies.starts_with("250 2.0.0 Queued") && replies.contains("\r\n421 4.3.2"), "{replies}");
    timeout(Duration::from_secs(8), server.running).await.unwrap().unwrap();
    assert_eq!(bench.incoming().await.len(), 1);
}

#[tokio::test]
async fn only_trusted_proxies_speak_for_others() {
    let bench = Bench::new().await;
    let header = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..],
        &[192, 0, 2, 7, 127, 0, 0, 1, 0, 99, 0, 25],
        b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n.\r\nQUIT\r\n",
    ]
    .concat();
    let trusting = bench.start(Role::Mx, false, Policy::default(), &["127.0.0.0/8".parse().unwrap()]).await;
    assert!(say(&trusting, &header).await.contains("Queued as"));
    let [row] = &bench.incoming().await[..] else { panic!("one row") };
    assert_eq!(row.envelope.remote_ip, Some(IpAddr::from([192, 0, 2, 7])));
    // Without a header a client is greeted all the same.
    assert!(say(&trusting, b"QUIT\r\n").await.contains("221 2.0.0"));
    let suspicious = bench.mx().await;
    let replies = say(&suspicious, &[&header[..], b"EHLO a\r\nQUIT\r\n"].concat()).await;
    assert!(replies.contains("500 5.5.2") && !replies.contains("Queued as"), "{replies}");
    assert!(bench.incoming().await.is_empty());
}

#[tokio::test]
async fn rubbish_is_answered_or_closed() {
    let bench = Bench::new().await;
    let server = bench.mx().await;
    let noise: Vec<u8> = (0..200_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(say(&server, &noise).await.contains("421 4.7.0"));
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n\n\n\n\n\n\n\n\n\n\n";
    assert!(say(&server, hello).await.contains("421 4.7.0"));
    let web = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nQUIT\r\n";
    assert!(say(&server, web).await.contains("500 5.5.1"));
}
