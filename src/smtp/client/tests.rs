//! The client against scripted servers: what it says, and what it makes of the answers.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use crate::smtp::client::error::ErrorKind;
use crate::smtp::client::tls::{TlsPolicy, TlsSettings, accepting_any, verifying};
use crate::smtp::client::transaction::{OutgoingEnvelope, OutgoingRecipient, RecipientResult};
use crate::smtp::client::{Client, ClientOptions, Timeouts};
use crate::smtp::parameters::{Notify, OriginalRecipient, Ret};
use crate::smtp::reply::EnhancedCode;
use crate::smtp::sasl::Credentials;

const ALL: &str =
    "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE 1000\r\n250 DSN\r\n";

/// Plays the server: says the greeting, then for each step reads exactly the expected bytes and
/// answers. Returns the stream for more.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, greeting: &str, steps: &[(&str, &str)]) -> S {
    stream.write_all(greeting.as_bytes()).await.expect("greets");
    for (expected, answer) in steps {
        let mut got = vec![0; expected.len()];
        if let Err(error) = stream.read_exact(&mut got).await {
            panic!("{error}: wanted {expected:?}, got {:?}", String::from_utf8_lossy(&got));
        }
        assert_eq!(String::from_utf8_lossy(&got), *expected);
        stream.write_all(answer.as_bytes()).await.expect("answers");
    }
    stream
}

fn server(steps: &'static [(&'static str, &'static str)]) -> (DuplexStream, JoinHandle<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (ours, tokio::spawn(play(theirs, "220 mx.test ESMTP\r\n", steps)))
}

fn options() -> ClientOptions {
    ClientOptions {
        host_name: "me.test".to_owned(),
        timeouts: Timeouts::default(),
        tls: TlsPolicy::Never,
        credentials: None,
        allow_plaintext_auth: false,
    }
}

fn envelope(recipients: &[&str]) -> OutgoingEnvelope {
    OutgoingEnvelope {
        sender: "a@me.test".to_owned(),
        recipients: recipients
            .iter()
            .map(|address| OutgoingRecipient { address: (*address).to_owned(), ..Default::default() })
            .collect(),
        ..Default::default()
    }
}

fn codes(results: &[RecipientResult]) -> Vec<u16> {
    results.iter().map(|result| result.code).collect()
}

#[tokio::test]
async fn all_extensions_in_one_pipelined_transaction() {
    let (stream, script) = server(&[
        ("EHLO me.test\r\n", ALL),
        (
            "MAIL FROM:<a@me.test> SIZE=13 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By\r\n\
             RCPT TO:<b@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2B1@x.test\r\n\
             RCPT TO:<c@x.test>\r\n",
            "250 2.1.0 ok\r\n250 2.1.5 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n",
        ),
        ("DATA\r\n", "354 go\r\n"),
        ("A: \u{e9}\r\n\r\n..x\r\n.\r\n", "250 2.0.0 queued\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ]);
    let mut client = Client::start(stream, &options()).await.expect("starts");
    let mut envelope = envelope(&["b@x.test", "c@x.test"]);
    envelope.smtputf8 = true;
    envelope.ret = Some(Ret::Headers);
    envelope.envid = Some("x+y".to_owned());
    envelope.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
    envelope.recipients[0].orcpt = OriginalRecipient::parse("rfc822;b+2B1@x.test");
    let results =
        client.send(&envelope, "A: \u{e9}\r\n\r\n.x\r\n".as_bytes(), async { true }).await.expect("sends");
    assert_eq!(codes(&results), [250, 550]);
    assert_eq!(results[1].enhanced, Some(EnhancedCode(5, 1, 1)));
    assert_eq!(results[1].text, "no such user");
    client.quit().await;
    script.await.expect("script");
}

#[tokio::test]
async fn an_old_server_is_spoken_to_as_of_old() {
    let (stream, script) = server(&[
        ("EHLO me.test\r\n", "502 what?\r\n"),
        ("HELO me.test\r\n", "250 mx\r\n"),
        ("MAIL FROM:<a@me.test>\r\n", "250 ok\r\n"),
        ("RCPT TO:<b@x.test>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        ("x\r\n.\r\n", "250 ok\r\n"),
    ]);
    let mut client = Client::start(stream, &options()).await.expect("starts");
    let results = client.send(&envelope(&["b@x.test"]), b"x", async { true }).await.expect("sends");
    assert_eq!(codes(&results), [250]);
    script.await.expect("script");
}

#[tokio::test]
async fn refusals_leave_the_connection_usable() {
    let (stream, script) = server(&[
        ("EHLO me.test\r\n", "250-mx\r\n250 PIPELINING\r\n"),
        ("MAIL FROM:<a@me.test>\r\nRCPT TO:<b@x.test>\r\n", "451 4.3.0 later\r\n503 5.5.1 MAIL first\r\n"),
        ("RSET\r\n", "250 ok\r\n"),
        ("MAIL FROM:<a@me.test>\r\nRCPT TO:<b@x.test>\r\n", "250 ok\r\n450 4.2.1 busy\r\n"),
        ("RSET\r\n", "250 ok\r\n"),
        ("MAIL FROM:<a@me.test>\r\nRCPT TO:<b@x.test>\r\n", "250 ok\r\n250 ok\r\n"),
        ("DATA\r\n", "554 5.7.1 no\r\n"),
        ("RSET\r\n", "250 ok\r\n"),
        ("MAIL FROM:<a@me.test>\r\nRCPT TO:<b@x.test>\r\n", "250 ok\r\n250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        ("x\r\n.\r\n", "552 5.2.2 full\r\n"),
        ("MAIL FROM:<a@me.test>\r\nRCPT TO:<b@x.test>\r\n", "250 ok\r\n220 odd\r\n"),
        ("DATA\r\n", "250 odd\r\n"),
        ("RSET\r\n", "250 ok\r\n"),
    ]);
    let mut client = Client::start(stream, &options()).await.expect("starts");
    for expected in [451, 450, 554, 552, 451] {
        let results = client.send(&envelope(&["b@x.test"]), b"x", async { true }).await.expect("sends");
        assert_eq!(codes(&results), [expected]);
    }
    script.await.expect("script");
}

#[tokio::test]
async fn what_the_server_cannot_take_is_not_sent() {
    let (stream, script) = server(&[("EHLO me.test\r\n", "250-mx\r\n250 SIZE 10\r\n")]);
    let mut client = Client::start(stream, &options()).await.expect("starts");
    let mut international = envelope(&["b@x.test"]);
    international.smtputf8 = true;
    for (envelope, message, enhanced) in [
        (&international, &b"x"[..], EnhancedCode(5, 6, 7)),
        (&envelope(&["b@x.test"]), &b"\xe9"[..], EnhancedCode(5, 6, 3)),
        (&envelope(&["b@x.test"]), &[b'x'; 11][..], EnhancedCode(5, 3, 4)),
    ] {
        let results = client.send(envelope, message, async { true }).await.expect("answers");
        assert!(results[0].is_permanent());
        assert_eq!(results[0].enhanced, Some(enhanced));
    }
    drop(client);
    let mut rest = String::new();
    script.await.expect("script").read_to_string(&mut rest).await.expect("reads");
    assert_eq!(rest, "");
}

#[tokio::test]
async fn the_hook_before_data_can_stop_it() {
    let (stream, script) = server(&[
        ("EHLO me.test\r\n", "250 mx\r\n"),
        ("MAIL FROM:<a@me.test>\r\n", "250 ok\r\n"),
        ("RCPT TO:<b@x.test>\r\n", "250 ok\r\n"),
    ]);
    let mut client = Client::start(stream, &options()).await.expect("starts");
    let failed = client.send(&envelope(&["b@x.test"]), b"x", async { false }).await.expect_err("aborts");
    assert!(matches!(failed.error.kind, ErrorKind::Aborted));
    drop(client);
    let mut rest = String::new();
    script.await.expect("script").read_to_string(&mut rest).await.expect("reads");
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_lost_answer_is_told_from_a_lost_message() {
    let (stream, script) = server(&[
        ("EHLO me.test\r\n", "250 mx\r\n"),
        ("MAIL FROM:<a@me.test>\r\n", "250 ok\r\n"),
        ("RCPT TO:<b@x.test>\r\n", "550 no\r\n"),
        ("RCPT TO:<c@x.test>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        ("x\r\n.\r\n", ""),
    ]);
    let mut client = Client::start(stream, &options()).await.expect("starts");
    let closing = tokio::spawn(async { drop(script.await) });
    let failed =
        client.send(&envelope(&["b@x.test", "c@x.test"]), b"x", async { true }).await.expect_err("cut");
    assert!(failed.error.after_final_dot && !failed.error.is_permanent());
    assert_eq!(failed.results[0].as_ref().map(|result| result.code), Some(550));
    assert_eq!(failed.results[1], None);
    closing.await.expect("closes");

    let (stream, script) =
        server(&[("EHLO me.test\r\n", "250 mx\r\n"), ("MAIL FROM:<a@me.test>\r\n", "421 4.3.2 bye\r\n")]);
    let mut client = Client::start(stream, &options()).await.expect("starts");
    let failed = client.send(&envelope(&["b@x.test"]), b"x", async { true }).await.expect_err("cut");
    assert!(!failed.error.after_final_dot);
    assert_eq!(failed.error.reply().map(|reply| reply.code()), Some(421));
    script.await.expect("script");
}

#[tokio::test]
async fn the_last_words_of_a_server_that_hangs_up_are_heard() {
    let (stream, theirs) = tokio::io::duplex(1 << 10);
    let script = tokio::spawn(async move {
        let steps = [
            ("EHLO me.test\r\n", "250 mx\r\n"),
            ("MAIL FROM:<a@me.test>\r\n", "250 ok\r\n"),
            ("RCPT TO:<b@x.test>\r\n", "250 ok\r\n"),
            ("DATA\r\n", "354 go\r\n"),
            ("xxxx", "552 5.3.4 enough\r\n"),
        ];
        drop(play(theirs, "220 mx.test\r\n", &steps).await);
    });
    let mut client = Client::start(stream, &options()).await.expect("starts");
    let sent = client.send(&envelope(&["b@x.test"]), &[b'x'; 100_000], async { true }).await;
    let failed = sent.expect_err("cut");
    assert!(failed.error.is_permanent() && !failed.error.after_final_dot, "{}", failed.error);
    script.await.expect("script");
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let (stream, _theirs) = tokio::io::duplex(1000);
    let short = Duration::from_millis(20);
    let timeouts = Timeouts { greeting: short, ..Timeouts::default() };
    let failed =
        Client::start(stream, &ClientOptions { timeouts, ..options() }).await.expect_err("times out");
    assert!(matches!(failed.kind, ErrorKind::TimedOut(after) if after == short));
}

#[tokio::test]
async fn greetings_that_are_none() {
    for (greeting, permanent) in
        [("554 no\r\n", true), ("421 busy\r\n", false), ("SSH-2.0-x\r\n", false), ("250-\r\n\u{0}", false)]
    {
        let (ours, theirs) = tokio::io::duplex(1000);
        tokio::spawn(async move { drop(play(theirs, greeting, &[]).await) });
        let failed = Client::start(ours, &options()).await.expect_err("fails");
        assert_eq!(failed.is_permanent(), permanent, "{greeting:?}");
    }
}

#[tokio::test]
async fn signing_in() {
    let credentials = Credentials { login: "u".to_owned(), password: "p".to_owned() };
    let plain = ClientOptions { credentials: Some(credentials), allow_plaintext_auth: true, ..options() };
    let (stream, script) = server(&[
        ("EHLO me.test\r\n", "250-mx\r\n250 AUTH LOGIN PLAIN\r\n"),
        ("AUTH PLAIN AHUAcA==\r\n", "235 2.7.0 ok\r\n"),
    ]);
    assert!(Client::start(stream, &plain).await.is_ok());
    script.await.expect("script");
    let (stream, script) = server(&[
        ("EHLO me.test\r\n", "250-mx\r\n250 AUTH LOGIN\r\n"),
        ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
        ("dQ==\r\n", "334 UGFzc3dvcmQ6\r\n"),
        ("cA==\r\n", "535 5.7.8 no\r\n"),
    ]);
    assert!(Client::start(stream, &plain).await.expect_err("refused").is_permanent());
    script.await.expect("script");
    let (stream, _script) = server(&[("EHLO me.test\r\n", "250-mx\r\n250 AUTH PLAIN\r\n")]);
    let careful = ClientOptions { allow_plaintext_auth: false, ..plain };
    let failed = Client::start(stream, &careful).await.expect_err("too careful");
    assert!(matches!(failed.kind, ErrorKind::TlsNotOffered));
}

fn settings(config: Arc<rustls::ClientConfig>) -> TlsSettings {
    TlsSettings { config, server_name: ServerName::try_from("mx.test").expect("name") }
}

/// A server that offers STARTTLS with a certificate of its own making, and sends something in the
/// clear behind its 220.
async fn tls_server(mut stream: DuplexStream) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).expect("certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("configuration");
    stream = play(
        stream,
        "220 mx\r\n",
        &[
            ("EHLO me.test\r\n", "250-mx\r\n250-STARTTLS\r\n250 SIZE 1\r\n"),
            ("STARTTLS\r\n", "220 go\r\n250-forged\r\n250 SIZE 2\r\n"),
        ],
    )
    .await;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    if let Ok(stream) = acceptor.accept(stream).await {
        play(stream, "", &[("EHLO me.test\r\n", "250-mx\r\n250 SIZE 3\r\n"), ("QUIT\r\n", "221 bye\r\n")])
            .await;
    }
}

#[tokio::test]
async fn starttls_is_taken_when_offered_and_what_came_before_is_dropped() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let script = tokio::spawn(tls_server(theirs));
    let tls = TlsPolicy::Opportunistic(settings(accepting_any().expect("configuration")));
    let client = Client::start(ours, &ClientOptions { tls, ..options() }).await.expect("starts");
    assert!(client.is_encrypted());
    assert_eq!(client.capabilities().max_size, Some(3));
    client.quit().await;
    script.await.expect("script");
}

#[tokio::test]
async fn a_verifying_client_refuses_an_unknown_certificate() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let _script = tokio::spawn(tls_server(theirs));
    let tls = TlsPolicy::Required(settings(verifying().expect("configuration")));
    let failed = Client::start(ours, &ClientOptions { tls, ..options() }).await.expect_err("refuses");
    assert!(matches!(failed.kind, ErrorKind::Tls(_)));
    let (stream, _script) = server(&[("EHLO me.test\r\n", "250 mx\r\n")]);
    let tls = TlsPolicy::Required(settings(verifying().expect("configuration")));
    let failed = Client::start(stream, &ClientOptions { tls, ..options() }).await.expect_err("refuses");
    assert!(matches!(failed.kind, ErrorKind::TlsNotOffered));
}
