//! What senders are told, and what is left to the next server to tell (RFC 3461).

use crate::deliver::bench::{Bench, MESSAGE};
use crate::deliver::testing::Answer;
use crate::types::envelope::{DsnReturn, OutgoingRecipient};

fn asking(address: &str, notify: &str) -> OutgoingRecipient {
    OutgoingRecipient {
        notify: Some(notify.to_owned()),
        orcpt: Some(format!("rfc822;first+{address}")),
        ..OutgoingRecipient::new(address.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_told_by_us_when_the_peer_cannot() {
    let (bench, sink) = Bench::with_sink().await;
    sink.offer(&["8BITMIME"]);
    let running = bench.run().await;
    let recipients = vec![asking("bob@remote.test", "SUCCESS"), asking("carl@remote.test", "FAILURE")];
    bench.submit_from("alice@example.test", MESSAGE, recipients).await;
    bench.empty().await;
    assert_eq!(sink.taken()[0].to, ["RCPT TO:<bob@remote.test>", "RCPT TO:<carl@remote.test>"]);
    let told = bench.incoming().await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0.as_str(), &told[0].1), ("", &vec!["alice@example.test".to_owned()]));
    let text = &told[0].2;
    let wanted = "Original-Recipient: rfc822; first+bob@remote.test\r\n\
                  Final-Recipient: rfc822; bob@remote.test\r\nAction: relayed\r\nStatus: 2.0.0\r\n";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("Original-Envelope-Id: e 1\r\n"), "{text}");
    assert!(!text.contains("carl@") && !text.contains("Hello"), "{text}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_the_extension_is_asked_to_tell() {
    let (mut bench, sink) = Bench::with_sink().await;
    bench.ret = Some(DsnReturn::Headers);
    let running = bench.run().await;
    let recipients = vec![asking("bob@remote.test", "SUCCESS,FAILURE")];
    bench.submit_from("alice@example.test", MESSAGE, recipients).await;
    bench.empty().await;
    let taken = sink.taken();
    assert!(taken[0].from.ends_with(" RET=HDRS ENVID=e+201"), "{}", taken[0].from);
    let wanted = "RCPT TO:<bob@remote.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Bbob@remote.test";
    assert_eq!(taken[0].to, [wanted]);
    assert!(bench.incoming().await.is_empty(), "the peer tells");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn success_in_a_mailbox_here_is_told() {
    let (bench, _sink) = Bench::with_sink().await;
    bench.fixture.account("bob@example.test").await;
    let running = bench.run().await;
    let recipients = vec![asking("bob@example.test", "SUCCESS")];
    bench.submit_from("alice@example.test", MESSAGE, recipients).await;
    bench.empty().await;
    let mut incoming = bench.incoming().await;
    incoming.sort();
    assert_eq!(incoming.len(), 2);
    assert!(
        incoming[0]
            .2
            .contains("Final-Recipient: rfc822; bob@example.test\r\nAction: delivered\r\nStatus: 2.1.5\r\n"),
        "{}",
        incoming[0].2
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_returns_what_was_asked_for() {
    let large = format!("{MESSAGE}{}last line\r\n", "0123456789\r\n".repeat(10_000));
    for (ret, is_whole) in [(Some(DsnReturn::Full), true), (Some(DsnReturn::Headers), false), (None, false)] {
        let (mut bench, sink) = Bench::with_sink().await;
        bench.ret = ret;
        sink.answer("RCPT", Answer::Say("550 5.1.1 nobody"), 9);
        let running = bench.run().await;
        bench.submit(&large, &["bob@remote.test"]).await;
        bench.empty().await;
        let told = bench.incoming().await;
        assert_eq!(told.len(), 1);
        assert!(told[0].2.contains("Subject: Hi\r\n"));
        assert_eq!(told[0].2.contains("last line"), is_whole, "{ret:?}");
        running.stop().await;
    }
}
