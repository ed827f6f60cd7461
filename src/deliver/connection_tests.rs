//! Connections: how many, how encrypted, and who gets a password.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::config::value::Relay;
use crate::deliver::bench::{Bench, MESSAGE};
use crate::deliver::connect::options;
use crate::deliver::route::Hop;
use crate::deliver::testing::{Answer, Sink, Tls, Zone, eventually};
use crate::deliver::{Deliver, Settings};
use crate::smtp::client::tls::TlsPolicy;
use crate::types::secret::Secret;

fn relay(port: u16, is_implicit_tls: bool) -> Relay {
    let login = Some(("me".to_owned(), Secret::new("pass")));
    Relay { host: "127.0.0.1".to_owned(), port, login, is_implicit_tls }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_together_shares_connections() {
    let (bench, sink) = Bench::with_sink().await;
    for _ in 0..12 {
        bench.submit(MESSAGE, &["bob@remote.test"]).await;
    }
    let running = bench.run().await;
    bench.empty().await;
    assert_eq!(sink.taken().len(), 12);
    // One, or both that a tenth of the workers may have, when the first is slow to become free.
    assert!(sink.all_connections() <= 2, "{}", sink.all_connections());
    let greetings = sink.lines().iter().filter(|line| line.starts_with("EHLO")).count();
    assert_eq!(greetings, sink.all_connections());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_host_gets_more_connections_but_few() {
    let (mut bench, sink) = Bench::with_sink().await;
    bench.settings.workers = 100;
    sink.answer("MAIL", Answer::Silence, usize::MAX);
    for _ in 0..9 {
        bench.submit(MESSAGE, &["bob@remote.test"]).await;
    }
    let running = bench.run().await;
    eventually("five connections", async || (sink.all_connections() == 5).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(sink.most_connections(), 5);
    running.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_host_has_ended_costs_no_try() {
    for end in [Answer::Say("421 4.7.0 enough for one connection"), Answer::HangUp] {
        let (bench, sink) = Bench::with_sink().await;
        let (mut mails, answer) = (0, end.clone());
        sink.script(move |line| {
            mails += usize::from(line.starts_with("MAIL"));
            if line.starts_with("MAIL") && mails == 2 { answer.clone() } else { Answer::Yes }
        });
        for _ in 0..3 {
            bench.submit(MESSAGE, &["bob@remote.test"]).await;
        }
        let running = bench.run().await;
        bench.empty().await;
        assert_eq!(sink.taken().len(), 3, "{end:?}");
        assert_eq!(sink.all_connections(), 2, "{end:?}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_encrypted_where_that_is_offered() {
    let (bench, sink) = Bench::with_sink().await;
    sink.offer(&["STARTTLS", "8BITMIME"]);
    sink.tls(Tls::Works);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    bench.empty().await;
    assert!(sink.taken()[0].is_encrypted, "whatever the certificate");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_in_the_clear_when_encryption_fails() {
    // A handshake that breaks, and a server that offers what it then refuses.
    for refusal in [Answer::Yes, Answer::Say("454 4.7.0 TLS not available")] {
        let (bench, sink) = Bench::with_sink().await;
        sink.offer(&["STARTTLS", "8BITMIME"]);
        sink.answer("STARTTLS", refusal.clone(), 1);
        let running = bench.run().await;
        bench.submit(MESSAGE, &["bob@remote.test"]).await;
        bench.empty().await;
        assert_eq!(sink.taken().len(), 1, "{refusal:?}");
        assert!(!sink.taken()[0].is_encrypted);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_may_be_spoken_to_inside_tls() {
    let sink = Sink::start(Ipv4Addr::LOCALHOST, 0).await;
    sink.tls(Tls::Implicit);
    sink.offer(&["AUTH PLAIN", "8BITMIME"]);
    let mut bench = Bench::new(1).await;
    bench.settings.relay = Some(relay(sink.address.port(), true));
    let running = bench.run().await;
    bench.submit(MESSAGE, &["a@anywhere.test"]).await;
    bench.empty().await;
    let taken = sink.taken();
    assert!(taken[0].is_encrypted);
    assert_eq!(taken[0].login, "PLAIN AG1lAHBhc3M=");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_inside_tls_is_never_spoken_to_without() {
    let sink = Sink::start(Ipv4Addr::LOCALHOST, 0).await;
    sink.offer(&["AUTH PLAIN", "8BITMIME"]);
    let mut bench = Bench::new(1).await;
    bench.settings.relay = Some(relay(sink.address.port(), true));
    let running = bench.run().await;
    bench.submit(MESSAGE, &["a@anywhere.test"]).await;
    let why = bench.deferred().await;
    assert!(why.contains("TLS handshake failed"), "{why}");
    assert!(sink.taken().is_empty());
    assert!(!sink.lines().iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_leaves_the_machine_only_inside_verified_tls() {
    let bench = Bench::new(1).await;
    let far = IpAddr::from([198, 51, 100, 1]);
    let here = IpAddr::from([127, 0, 0, 1]);
    let policy = async |relay: Option<Relay>, address: IpAddr| {
        let settings = Settings { relay, ..bench.settings.clone() };
        let dns = Zone::default().serve().await;
        let deliver = Deliver::new(bench.fixture.store.clone(), bench.blobs.clone(), dns, settings).unwrap();
        let hop = Hop { name: "relay.test".to_owned(), addresses: vec![address], port: 25 };
        let options = options(&deliver.shared, &hop, address);
        let (name, is_verified) = match &options.tls {
            TlsPolicy::Never => ("never", false),
            TlsPolicy::Opportunistic(tls) => {
                ("opportunistic", std::sync::Arc::ptr_eq(&tls.config, &deliver.shared.verifying))
            }
            TlsPolicy::Required(tls) => {
                ("required", std::sync::Arc::ptr_eq(&tls.config, &deliver.shared.verifying))
            }
            TlsPolicy::Implicit(tls) => {
                ("implicit", std::sync::Arc::ptr_eq(&tls.config, &deliver.shared.verifying))
            }
        };
        (name, is_verified, options.allow_plaintext_auth, options.credentials.is_some())
    };
    assert_eq!(policy(Some(relay(25, false)), far).await, ("required", true, false, true));
    assert_eq!(policy(Some(relay(465, true)), far).await, ("implicit", true, false, true));
    assert_eq!(policy(Some(relay(25, false)), here).await, ("opportunistic", false, true, true));
    assert_eq!(policy(None, far).await, ("opportunistic", false, false, false));
}
