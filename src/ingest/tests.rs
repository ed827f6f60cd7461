//! From a claimed row to the mailboxes: each delivery once into each account, whatever happens in
//! between, and nothing that has its 250 is lost.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use crate::blob::Blobs;
use crate::blob::testing::s3::{Fault, S3Server};
use crate::blob::testing::{blobs_at, blobs_in};
use crate::dns::Dns;
use crate::ingest::worker::Ingest;
use crate::store::Store;
use crate::store::cluster::{self, QueueEntry};
use crate::store::directory::account::set_quota;
use crate::store::directory::fixture::Fixture;
use crate::store::email::delete::delete;
use crate::store::email::read;
use crate::store::queue::LANES;
use crate::store::queue::claim::{LEASE_MS, RENEW_EVERY_MS};
use crate::store::queue::incoming::{self, IncomingRow, NewIncoming};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::envelope::{IncomingEnvelope, IncomingRecipient};
use crate::types::id::{AccountId, Id};

const MESSAGE: &str = "Return-Path: <x@y.test>\r\nFrom: x@y.test\r\nSubject: Hi\r\n\r\nHello\r\n";

struct Bench {
    fixture: Fixture,
    ingest: Ingest,
    alice: AccountId,
    bob: AccountId,
    /// The DNS server: it never answers.
    _silent: UdpSocket,
}

impl Bench {
    async fn new() -> Bench {
        let fixture = Fixture::new().await;
        let blobs = blobs_in(fixture.folder.path(), fixture.store.clone());
        Bench::over(fixture, blobs).await
    }

    async fn over_s3() -> (Bench, S3Server) {
        let fixture = Fixture::new().await;
        let folder = fixture.folder.path();
        std::fs::create_dir_all(folder.join("blobs")).unwrap();
        let server = S3Server::start(folder);
        let blobs = blobs_at(&server.url("blobs"), folder, fixture.store.clone());
        (Bench::over(fixture, blobs).await, server)
    }

    async fn over(fixture: Fixture, blobs: Blobs) -> Bench {
        let alice = fixture.account("alice@example.test").await.account;
        let bob = fixture.account("bob@example.test").await.account;
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = Dns::with_server(silent.local_addr().unwrap()).unwrap();
        let ingest = Ingest::new(
            fixture.store.clone(),
            blobs,
            Arc::new(dns.authenticator()),
            Arc::from("mx.example.test"),
        );
        Bench { fixture, ingest, alice, bob, _silent: silent }
    }

    fn store(&self) -> &Store {
        &self.fixture.store
    }

    /// Queues a message under a delivery id, for recipients with their accounts.
    async fn queue(&self, delivery_id: &str, message: &str, to: &[(&str, &[AccountId])]) {
        self.queue_from(None, delivery_id, message, to).await;
    }

    async fn queue_from(
        &self,
        remote_ip: Option<IpAddr>,
        delivery_id: &str,
        message: &str,
        to: &[(&str, &[AccountId])],
    ) {
        let recipients = to.iter().map(|(address, accounts)| IncomingRecipient {
            address: (*address).to_owned(),
            accounts: accounts.to_vec(),
            notify: None,
            orcpt: None,
        });
        let message = Bytes::from(message.to_owned());
        let staged = message.len() > crate::store::blob::INLINE_MAX;
        let body_hash = match staged {
            true => self.ingest.blobs.stage(message.clone()).await.unwrap().0,
            false => BlobHash::of(&message),
        };
        let new = NewIncoming {
            envelope: IncomingEnvelope {
                mail_from: "x@y.test".to_owned(),
                recipients: recipients.collect(),
                received_at_ms: self.fixture.clock.now_ms(),
                remote_ip,
                helo: "y.test".to_owned(),
                is_tls: false,
                login: None,
                env_id: None,
                ret: None,
                smtputf8: false,
                delivery_id: delivery_id.to_owned(),
            },
            body_hash,
            size: message.len() as i64,
            inline: (!staged).then_some(message),
        };
        let unit = async move |tx: &mut Tx| incoming::insert(tx, tx.lanes().random(), &new).await;
        self.store().write_plain(Urgency::Interactive, unit).await.unwrap();
    }

    async fn claim(&self) -> Vec<IncomingRow> {
        let mut rows = Vec::new();
        for lane in 0..LANES {
            rows.extend(incoming::claim(self.store(), lane, 10, LEASE_MS).await.unwrap());
        }
        rows
    }

    /// Works on all that is due; how many rows there were.
    async fn work(&self) -> usize {
        let rows = self.claim().await;
        let count = rows.len();
        for row in rows {
            self.ingest.clone().work(row).await;
        }
        count
    }

    async fn waiting(&self) -> Vec<QueueEntry> {
        let mut snapshot = self.store().read().await.unwrap();
        cluster::incoming_list(&mut snapshot, (-1, Id(0)), 100).await.unwrap()
    }

    async fn emails(&self, account: AccountId) -> Vec<Id> {
        let mut snapshot = self.store().read().await.unwrap();
        read::ids(&mut snapshot, account, 100).await.unwrap()
    }

    async fn destroy(&self, account: AccountId, emails: Vec<Id>) {
        let unit = async move |tx: &mut Tx| delete(tx, &emails).await;
        self.store().write(account, unit).await.unwrap();
    }
}

#[tokio::test]
async fn a_delivery_is_filed_once_however_often_it_is_worked_on() {
    let bench = Bench::new().await;
    let to: &[(&str, &[AccountId])] = &[("alice@example.test", &[bench.alice])];
    // As after a crash between the filing and the end of the row.
    for _ in 0..2 {
        bench.queue("d1", MESSAGE, to).await;
        assert_eq!(bench.work().await, 1);
    }
    assert_eq!(bench.emails(bench.alice).await.len(), 1);
    assert!(bench.waiting().await.is_empty(), "what had been filed is done all the same");
    bench.queue("d2", MESSAGE, to).await;
    bench.work().await;
    assert_eq!(bench.emails(bench.alice).await.len(), 2, "the same text in another delivery is another mail");
    bench.destroy(bench.alice, bench.emails(bench.alice).await).await;
    bench.queue("d1", MESSAGE, to).await;
    bench.work().await;
    assert!(bench.emails(bench.alice).await.is_empty(), "what the user destroyed does not come back");
}

#[tokio::test]
async fn a_crash_between_two_accounts_gives_each_its_one_copy() {
    let bench = Bench::new().await;
    bench.queue("d1", MESSAGE, &[("alice@example.test", &[bench.alice])]).await;
    bench.work().await;
    let both: &[(&str, &[AccountId])] =
        &[("alice@example.test", &[bench.alice]), ("bob@example.test", &[bench.bob])];
    bench.queue("d1", MESSAGE, both).await;
    bench.work().await;
    assert_eq!(bench.emails(bench.alice).await.len(), 1);
    assert_eq!(bench.emails(bench.bob).await.len(), 1);
}

#[tokio::test]
async fn an_account_reached_by_several_addresses_gets_one_copy_and_all_get_the_same_blob() {
    let bench = Bench::new().await;
    let to: &[(&str, &[AccountId])] = &[
        ("alice@example.test", &[bench.alice]),
        ("sales@example.test", &[bench.alice, bench.bob]),
        ("alice+x@example.test", &[bench.alice]),
    ];
    bench.queue("d1", MESSAGE, to).await;
    bench.work().await;
    let mut hashes = Vec::new();
    for account in [bench.alice, bench.bob] {
        let emails = bench.emails(account).await;
        assert_eq!(emails.len(), 1);
        let mut snapshot = bench.store().read().await.unwrap();
        hashes.push(read::rows(&mut snapshot, account, &emails).await.unwrap()[0].blob_hash);
    }
    assert_eq!(hashes[0], hashes[1]);
}

#[tokio::test]
async fn what_has_its_250_is_filed_whatever_the_quota() {
    let bench = Bench::new().await;
    bench.queue("d1", MESSAGE, &[("alice@example.test", &[bench.alice])]).await;
    set_quota(bench.store(), bench.alice, 1).await.unwrap();
    bench.work().await;
    assert_eq!(bench.emails(bench.alice).await.len(), 1);
    assert!(bench.waiting().await.is_empty());
}

#[tokio::test]
async fn mail_of_an_account_that_is_gone_holds_up_nobody() {
    let bench = Bench::new().await;
    let gone = AccountId(Id(7));
    let to: &[(&str, &[AccountId])] = &[("a@example.test", &[gone]), ("b@example.test", &[bench.bob])];
    bench.queue("d1", MESSAGE, to).await;
    bench.work().await;
    assert_eq!(bench.emails(bench.bob).await.len(), 1);
    assert!(bench.waiting().await.is_empty());
}

#[tokio::test]
async fn a_staged_message_stays_until_its_last_account_has_it() {
    let bench = Bench::new().await;
    let large = format!("{MESSAGE}{}", "text\r\n".repeat(60_000));
    let to: &[(&str, &[AccountId])] =
        &[("alice@example.test", &[bench.alice]), ("bob@example.test", &[bench.bob])];
    bench.queue("d1", &large, to).await;
    // Longer than any sweep waits.
    bench.fixture.clock.advance_ms(7 * 3_600_000);
    bench.ingest.blobs.sweep(0).await.unwrap();
    bench.work().await;
    assert!(bench.waiting().await.is_empty());
    bench.fixture.clock.advance_ms(7 * 3_600_000);
    bench.ingest.blobs.sweep(0).await.unwrap();
    for account in [bench.alice, bench.bob] {
        let emails = bench.emails(account).await;
        let mut snapshot = bench.store().read().await.unwrap();
        let hash = read::rows(&mut snapshot, account, &emails).await.unwrap()[0].blob_hash;
        drop(snapshot);
        assert_eq!(bench.ingest.blobs.read(account, &hash).await.unwrap().unwrap().len(), large.len());
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_filed_is_set_aside_with_its_reason() {
    let bench = Bench::new().await;
    let large = format!("{MESSAGE}{}", "text\r\n".repeat(60_000));
    bench.queue("d1", &large, &[("alice@example.test", &[bench.alice])]).await;
    let blobs = bench.fixture.folder.path().join("blobs");
    std::fs::remove_dir_all(&blobs).unwrap();
    std::fs::create_dir(&blobs).unwrap();
    let mut tries = 0;
    while bench.work().await > 0 {
        tries += 1;
        assert!(tries < 100, "tried for ever");
        bench.fixture.clock.advance_ms(3_600_000);
    }
    let waiting = bench.waiting().await;
    assert_eq!(waiting.len(), 1, "never lost");
    assert!(waiting[0].is_held && !waiting[0].last_error.is_empty(), "{waiting:?}");
    assert!(tries > 5, "given up after {tries} tries");
}

#[tokio::test]
async fn a_message_out_of_reach_is_put_off_and_never_set_aside() {
    let (bench, server) = Bench::over_s3().await;
    let large = format!("{MESSAGE}{}", "text\r\n".repeat(60_000));
    bench.queue("d1", &large, &[("alice@example.test", &[bench.alice])]).await;
    server.set(Fault::Busy);
    for _ in 0..30 {
        assert_eq!(bench.work().await, 1);
        // Soon again, however long it has been tried.
        bench.fixture.clock.advance_ms(6_000);
    }
    let waiting = bench.waiting().await;
    assert!(waiting.len() == 1 && !waiting[0].is_held, "{waiting:?}");
    server.set(Fault::None);
    while bench.ingest.blobs.check().is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.work().await, 1);
    assert!(bench.waiting().await.is_empty());
}

#[tokio::test]
async fn a_lease_is_renewed_while_a_look_up_takes_its_time() {
    let bench = Bench::new().await;
    let stranger = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    bench.queue_from(stranger, "d1", MESSAGE, &[("alice@example.test", &[bench.alice])]).await;
    let row = bench.claim().await.remove(0);
    let work = tokio::spawn(bench.ingest.clone().work(row));
    // Nearly as long as the lease lasts, then a renewal, then as long again.
    bench.fixture.clock.advance_ms(LEASE_MS - 1);
    tokio::time::sleep(Duration::from_millis(RENEW_EVERY_MS.unsigned_abs() + 500)).await;
    assert!(!work.is_finished(), "the look-up still waits");
    bench.fixture.clock.advance_ms(LEASE_MS - 1);
    assert!(bench.claim().await.is_empty(), "another worker took what is in hand");
    work.abort();
}

#[tokio::test]
async fn who_has_lost_the_lease_stops_and_writes_nothing() {
    let bench = Bench::new().await;
    let stranger = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    bench.queue_from(stranger, "d1", MESSAGE, &[("alice@example.test", &[bench.alice])]).await;
    let row = bench.claim().await.remove(0);
    let work = tokio::spawn(bench.ingest.clone().work(row));
    bench.fixture.clock.advance_ms(LEASE_MS);
    let taken = bench.claim().await;
    assert_eq!(taken.len(), 1, "the lease had ended");
    let stopped = tokio::time::timeout(Duration::from_millis(RENEW_EVERY_MS.unsigned_abs() * 2), work).await;
    stopped.expect("it noticed at its renewal").unwrap();
    let waiting = bench.waiting().await;
    assert!(waiting[0].is_leased && waiting[0].last_error.is_empty(), "{waiting:?}");
}

#[tokio::test]
async fn nobody_speaks_in_our_name_of_mail_that_nobody_checked() {
    let bench = Bench::new().await;
    let forged = "Authentication-Results: mx.example.test; dkim=pass\r\n\
                  Authentication-Results: other.test; dkim=pass\r\nSubject: x\r\n\r\ny\r\n";
    bench.queue("d1", forged, &[("alice@example.test", &[bench.alice])]).await;
    assert_eq!(bench.work().await, 1);
    let email = bench.emails(bench.alice).await;
    let mut snapshot = bench.store().read().await.unwrap();
    let hash = read::rows(&mut snapshot, bench.alice, &email).await.unwrap()[0].blob_hash;
    drop(snapshot);
    let filed = bench.ingest.blobs.read(bench.alice, &hash).await.unwrap().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&filed),
        "Authentication-Results: other.test; dkim=pass\r\nSubject: x\r\n\r\ny\r\n"
    );
}
