//! Delivery over real sockets, from queue row to queue row.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::value::Relay;
use crate::deliver::bench::{Bench, MESSAGE};
use crate::deliver::testing::{Answer, Sink, eventually};
use crate::mail::dkim::{KeyKind, generate};
use crate::mail::dkim_keys;
use crate::store::db::sql;
use crate::store::directory::address::alias_add;
use crate::store::directory::domain;
use crate::store::submission::{Delivered, UndoStatus};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::address::Address;
use crate::types::envelope::OutgoingRecipient;
use crate::types::secret::Secret;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_once_signed_and_as_it_is() {
    let (bench, sink) = Bench::with_sink().await;
    let keys = [generate(KeyKind::Ed25519, "e1").unwrap(), generate(KeyKind::Ed25519, "e2").unwrap()];
    let json = dkim_keys::to_json(&keys);
    domain::set_dkim_keys(&bench.fixture.store, "example.test".to_owned(), json).await.unwrap();
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test", "carl@remote.test"]).await;
    bench.empty().await;
    let taken = sink.taken();
    assert_eq!(taken.len(), 1, "one transaction for both");
    assert!(taken[0].from.starts_with("MAIL FROM:<alice@example.test> SIZE="), "{}", taken[0].from);
    assert!(taken[0].from.ends_with(" ENVID=e+201"), "{}", taken[0].from);
    assert_eq!(taken[0].to, ["RCPT TO:<bob@remote.test>", "RCPT TO:<carl@remote.test>"]);
    let message = &taken[0].message;
    assert!(message.ends_with(MESSAGE), "{message}");
    let (trace, _) = message.split_once("From: Alice").unwrap();
    assert_eq!(trace.matches("DKIM-Signature:").count(), 2, "{trace}");
    assert_eq!(trace.matches("Received: by mail.example.test with HTTP").count(), 1, "{trace}");
    assert!(!trace.contains("127.0.0.1"));
    assert!(bench.incoming().await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_now_is_tried_again_and_delivered_once() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer(".", Answer::Say("451 4.7.1 not yet"), 1);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    assert_eq!(bench.deferred().await, "451 4.7.1 not yet");
    assert!(sink.taken().is_empty());
    bench.fixture.clock.advance_ms(67_000);
    bench.empty().await;
    assert_eq!(sink.taken().len(), 1);
    assert!(bench.incoming().await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_for_good_is_told_to_the_sender() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer("RCPT TO:<bob", Answer::Say("550 5.1.1 no bob"), 9);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test", "carl@remote.test"]).await;
    bench.empty().await;
    assert_eq!(sink.taken()[0].to, ["RCPT TO:<carl@remote.test>"]);
    let told = bench.incoming().await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0.as_str(), &told[0].1), ("", &vec!["alice@example.test".to_owned()]));
    assert!(
        told[0].2.contains("Final-Recipient: rfc822; bob@remote.test\r\nAction: failed\r\nStatus: 5.1.1\r\n")
    );
    assert!(told[0].2.contains("Remote-MTA: dns; mx.remote.test\r\n"), "{}", told[0].2);
    assert!(told[0].2.contains("Original-Envelope-Id: e 1\r\n"), "{}", told[0].2);
    assert!(!told[0].2.contains("carl@"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_who_does_not_want_to_be() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer("RCPT", Answer::Say("550 5.1.1 nobody"), 9);
    let running = bench.run().await;
    let silent = OutgoingRecipient {
        notify: Some("NEVER".to_owned()),
        ..OutgoingRecipient::new("bob@remote.test".to_owned())
    };
    bench.submit_from("alice@example.test", MESSAGE, vec![silent]).await;
    bench.submit_from("", MESSAGE, vec![OutgoingRecipient::new("carl@remote.test".to_owned())]).await;
    bench.empty().await;
    assert!(bench.incoming().await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_for_too_long_expires() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer("MAIL", Answer::Say("421 4.3.2 busy"), 99);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    bench.deferred().await;
    bench.fixture.clock.advance_ms(5 * 86_400_000);
    bench.empty().await;
    let told = bench.incoming().await;
    assert!(told[0].2.contains("Status: 4.4.7\r\n"), "{}", told[0].2);
    assert!(told[0].2.contains("Diagnostic-Code: smtp; 421 4.3.2 busy\r\n"), "{}", told[0].2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_domains_are_two_transactions_and_ours_never_leaves() {
    let (mut bench, sink) = Bench::with_sink().await;
    bench.zone = bench.zone.with("other.test", &[(10, "mx.other.test", Ipv4Addr::LOCALHOST)]);
    let bob = bench.fixture.account("bob@example.test").await.account;
    alias_add(&bench.fixture.store, Address::parse("sales@example.test").unwrap(), bob).await.unwrap();
    let running = bench.run().await;
    let to = ["a@remote.test", "b@other.test", "sales@example.test", "nobody@example.test"];
    bench.submit(MESSAGE, &to).await;
    bench.empty().await;
    let mut recipients: Vec<Vec<String>> = sink.taken().into_iter().map(|taken| taken.to).collect();
    recipients.sort();
    assert_eq!(recipients, [["RCPT TO:<a@remote.test>"], ["RCPT TO:<b@other.test>"]]);
    let mut incoming = bench.incoming().await;
    incoming.sort();
    assert_eq!(incoming.len(), 2);
    assert_eq!(incoming[0].1, ["alice@example.test"]);
    assert!(
        incoming[0]
            .2
            .contains("Final-Recipient: rfc822; nobody@example.test\r\nAction: failed\r\nStatus: 5.1.1\r\n")
    );
    assert_eq!(incoming[1].1, ["sales@example.test"]);
    assert!(incoming[1].2.starts_with("Return-Path: <alice@example.test>\r\nReceived: by mail.example.test"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_shows_what_became_of_each_recipient() {
    let (bench, sink) = Bench::with_sink().await;
    sink.script(|line| match line {
        "RCPT TO:<no@remote.test>" => Answer::Say("550 5.1.1 nobody"),
        "RCPT TO:<later@remote.test>" => Answer::Say("450 4.2.0 later"),
        _ => Answer::Yes,
    });
    let names = ["yes@remote.test", "no@remote.test", "later@remote.test", "alice@example.test"];
    let submitted = bench.submission(&names).await;
    let all = names.map(|name| OutgoingRecipient::new(name.to_owned())).to_vec();
    bench.submit_as(submitted, "alice@example.test", MESSAGE, all).await;
    let running = bench.run().await;
    let is_tried = async || {
        let rows = bench.outgoing().await;
        (rows.len() == 1 && !rows[0].last_error.is_empty()).then_some(())
    };
    eventually("results", is_tried).await;
    let found = bench.shown(submitted).await;
    let shown: Vec<(String, Delivered)> =
        found.delivery_status.into_values().map(|status| (status.smtp_reply, status.delivered)).collect();
    assert_eq!(found.undo_status, UndoStatus::Final);
    let wanted = [
        ("250 2.1.5 Delivered on this server", Delivered::Yes),
        ("450 4.2.0 later", Delivered::Queued),
        ("550 5.1.1 nobody", Delivered::No),
        ("250 2.0.0 taken", Delivered::Unknown),
    ];
    let wanted = wanted.map(|(reply, delivered)| (reply.to_owned(), delivered));
    assert_eq!(shown, wanted);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_stops_before_data() {
    let (bench, sink) = Bench::with_sink().await;
    let go_on = CancellationToken::new();
    sink.answer("RCPT", Answer::When(go_on.clone()), 1);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    let is_asked = async || sink.lines().iter().any(|line| line.starts_with("RCPT")).then_some(());
    eventually("the recipient", is_asked).await;
    // Another process claims the row, since the lease has ended.
    let claim = async |tx: &mut Tx| {
        sql("update outgoing set attempts = attempts + 1, due = due + 60000").run(tx).await?;
        Ok(())
    };
    bench.fixture.store.write_plain(Urgency::Interactive, claim).await.unwrap();
    go_on.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!sink.lines().iter().any(|line| line == "DATA"), "{:?}", sink.lines());
    assert!(sink.taken().is_empty());
    running.stop().await;
    let row = bench.outgoing().await.remove(0);
    assert_eq!((row.last_error.as_str(), row.is_leased), ("", true), "and writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_holds_nobody_up() {
    let hanging = Sink::start(Ipv4Addr::new(127, 0, 0, 2), 0).await;
    hanging.answer("", Answer::Silence, usize::MAX);
    let good = Sink::start(Ipv4Addr::LOCALHOST, hanging.address.port()).await;
    let mut bench = Bench::new(good.address.port()).await;
    bench.zone = bench
        .zone
        .with("slow.test", &[(10, "mx.slow.test", Ipv4Addr::new(127, 0, 0, 2))])
        .with("remote.test", &[(10, "mx.remote.test", Ipv4Addr::LOCALHOST)]);
    let running = bench.run().await;
    for _ in 0..60 {
        bench.submit(MESSAGE, &["x@slow.test"]).await;
    }
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    eventually("the other mail", async || (!good.taken().is_empty()).then_some(())).await;
    assert_eq!(hanging.most_connections(), 2, "a tenth of the workers");
    running.stop().await;
    let rows = bench.outgoing().await;
    assert_eq!(rows.len(), 60);
    assert!(rows.iter().all(|row| !row.is_leased && row.tries == 0), "given back untried");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_is_asked_when_one_does_not_answer() {
    let sink = Sink::start(Ipv4Addr::LOCALHOST, 0).await;
    let mut bench = Bench::new(sink.address.port()).await;
    let nobody = Ipv4Addr::new(127, 0, 0, 9);
    bench.zone = bench
        .zone
        .with("remote.test", &[(5, "gone.remote.test", nobody), (10, "mx.remote.test", Ipv4Addr::LOCALHOST)]);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    bench.empty().await;
    assert_eq!(sink.taken().len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_that_take_no_mail() {
    let mut bench = Bench::new(1).await;
    bench.zone = bench.zone.with("null.test", &[(0, "", Ipv4Addr::LOCALHOST)]);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["a@null.test", "b@nowhere.test"]).await;
    bench.empty().await;
    let mut told: Vec<String> = bench.incoming().await.into_iter().map(|row| row.2).collect();
    told.sort_by_key(|text| text.contains("nowhere.test"));
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("Status: 5.1.10\r\n"), "{}", told[0]);
    assert!(told[1].contains("Status: 5.1.2\r\n"), "{}", told[1]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_gets_everything_with_its_password() {
    let sink = Sink::start(Ipv4Addr::LOCALHOST, 0).await;
    sink.offer(&["AUTH PLAIN", "8BITMIME"]);
    let mut bench = Bench::new(1).await;
    let login = Some(("me".to_owned(), Secret::new("pass")));
    bench.settings.relay = Some(Relay {
        host: "127.0.0.1".to_owned(),
        port: sink.address.port(),
        login,
        is_implicit_tls: false,
    });
    let running = bench.run().await;
    bench.submit(MESSAGE, &["a@anywhere.test", "b@null.test"]).await;
    bench.empty().await;
    assert_eq!(sink.taken().len(), 2);
    assert_eq!(sink.taken()[0].login, "PLAIN AG1lAHBhc3M=");
    running.stop().await;
    let running = bench.run().await;
    sink.answer("AUTH", Answer::Say("535 5.7.8 wrong"), 9);
    bench.submit(MESSAGE, &["c@anywhere.test"]).await;
    assert_eq!(bench.deferred().await, "535 5.7.8 wrong", "no mail fails because of a wrong password");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_without_extensions() {
    let (bench, sink) = Bench::with_sink().await;
    sink.offer(&["PIPELINING"]);
    let running = bench.run().await;
    bench.submit("From: alice@example.test\n\nK\u{e4}se\n", &["bob@remote.test"]).await;
    bench.empty().await;
    let taken = sink.taken();
    assert!(taken[0].message.is_ascii() && !taken[0].from.contains("BODY"), "{:?}", taken[0]);
    bench.submit("From: alice@example.test\r\nSubject: K\u{e4}se\r\n\r\nx\r\n", &["bob@remote.test"]).await;
    bench.empty().await;
    assert_eq!(sink.taken().len(), 1);
    let told = bench.incoming().await;
    assert!(told[0].2.contains("Status: 5.6.7\r\n"), "{}", told[0].2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_after_the_final_dot_is_tried_again_later() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer(".", Answer::HangUp, 1);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    let why = bench.deferred().await;
    assert!(why.contains("after the whole message was sent"), "{why}");
    bench.fixture.clock.advance_ms(67_000);
    bench.empty().await;
    assert_eq!(sink.taken().len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_leaves_a_row_that_another_sends() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer("DATA", Answer::Silence, 1);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    eventually("DATA", async || sink.lines().contains(&"DATA".to_owned()).then_some(())).await;
    // No time to give anything back.
    running.task.abort();
    let _ = running.task.await;
    let rows = bench.outgoing().await;
    assert!(rows[0].is_leased, "the claim stays");
    let other = bench.run().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sink.taken().is_empty(), "not before the lease has ended");
    bench.fixture.clock.advance_ms(8_001);
    bench.empty().await;
    assert_eq!(sink.taken().len(), 1);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_finishes_what_is_being_sent() {
    let (bench, sink) = Bench::with_sink().await;
    sink.answer(".", Answer::Later(Duration::from_millis(500)), 1);
    let running = bench.run().await;
    bench.submit(MESSAGE, &["bob@remote.test"]).await;
    eventually("DATA", async || sink.lines().contains(&"DATA".to_owned()).then_some(())).await;
    running.stop().await;
    assert_eq!(sink.taken().len(), 1);
    assert!(bench.outgoing().await.is_empty(), "and its result is written");
}
