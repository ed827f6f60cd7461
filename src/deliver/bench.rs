//! A store, an account that sends, and the delivery out of it: where the tests of this folder begin.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::blob::Blobs;
use crate::blob::testing::blobs_in;
use crate::deliver::route::Ourselves;
use crate::deliver::schedule::Schedule;
use crate::deliver::testing::{Sink, Zone, eventually};
use crate::deliver::{Deliver, Settings};
use crate::smtp::client::Timeouts;
use crate::store::blob::BlobSource;
use crate::store::cluster::{QueueEntry, incoming_list, outgoing_list};
use crate::store::directory::fixture::Fixture;
use crate::store::queue::incoming;
use crate::store::queue::outgoing::{self, NewOutgoing};
use crate::store::submission::{self, NewSubmission, Submission};
use crate::store::tx::Tx;
use crate::types::envelope::{DsnReturn, OutgoingEnvelope, OutgoingRecipient};
use crate::types::id::{AccountId, Id};

/// What alice writes.
pub const MESSAGE: &str = "From: Alice <alice@example.test>\r\nTo: bob@remote.test\r\nSubject: Hi\r\n\
                       Message-ID: <m1@example.test>\r\n\r\nHello\r\n.\r\nend\r\n";

/// A store with alice, and the delivery out of it.
pub struct Bench {
    pub fixture: Fixture,
    pub blobs: Blobs,
    pub alice: AccountId,
    pub settings: Settings,
    pub zone: Zone,
    /// RET of what is submitted.
    pub ret: Option<DsnReturn>,
}

/// The delivery of a bench.
pub struct Running {
    cancel: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Running {
    pub async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

impl Bench {
    pub async fn new(mx_port: u16) -> Bench {
        let fixture = Fixture::new().await;
        let blobs = blobs_in(fixture.folder.path(), fixture.store.clone());
        let alice = fixture.account("alice@example.test").await.account;
        let settings = Settings {
            ourselves: Ourselves { host_name: "mail.example.test".to_owned(), smtp_listen: None },
            relay: None,
            mx_port,
            schedule: Schedule { first_wait_ms: 60_000, give_up_after_ms: 5 * 86_400_000 },
            timeouts: Timeouts::default(),
            connect_timeout: Duration::from_secs(5),
            workers: 20,
        };
        Bench { blobs, fixture, alice, settings, zone: Zone::default(), ret: None }
    }

    /// A bench with a mail server for `remote.test`.
    pub async fn with_sink() -> (Bench, Sink) {
        let sink = Sink::start(Ipv4Addr::LOCALHOST, 0).await;
        let mut bench = Bench::new(sink.address.port()).await;
        bench.zone = bench.zone.with("remote.test", &[(10, "mx.remote.test", Ipv4Addr::LOCALHOST)]);
        (bench, sink)
    }

    pub async fn run(&self) -> Running {
        let cancel = CancellationToken::new();
        let dns = self.zone.clone().serve().await;
        let store = self.fixture.store.clone();
        let deliver = Deliver::new(store, self.blobs.clone(), dns, self.settings.clone()).unwrap();
        let task = tokio::spawn(deliver.run(cancel.clone()));
        Running { cancel, task }
    }

    pub async fn submit(&self, message: &str, recipients: &[&str]) -> Vec<Id> {
        let all: Vec<OutgoingRecipient> =
            recipients.iter().map(|address| OutgoingRecipient::new((*address).to_owned())).collect();
        self.submit_from("alice@example.test", message, all).await
    }

    pub async fn submit_from(
        &self,
        from: &str,
        message: &str,
        recipients: Vec<OutgoingRecipient>,
    ) -> Vec<Id> {
        self.submit_as(Id(0), from, message, recipients).await
    }

    pub async fn submit_as(
        &self,
        submission: Id,
        from: &str,
        message: &str,
        recipients: Vec<OutgoingRecipient>,
    ) -> Vec<Id> {
        let content = Bytes::from(message.to_owned());
        let prepared = self.blobs.prepare(content.clone()).await.unwrap();
        let mut domains = std::collections::BTreeMap::<String, Vec<OutgoingRecipient>>::new();
        for recipient in recipients {
            let domain = recipient.address.rsplit_once('@').unwrap().1.to_owned();
            domains.entry(domain).or_default().push(recipient);
        }
        let envelope = OutgoingEnvelope {
            mail_from: from.to_owned(),
            env_id: Some("e 1".to_owned()),
            ret: self.ret,
            smtputf8: !message.split("\r\n\r\n").next().unwrap().is_ascii(),
            body_8bit: !message.is_ascii(),
            delivery_id: self.fixture.store.ids().make().to_string(),
        };
        let rows: Vec<NewOutgoing> = domains
            .into_iter()
            .map(|(domain, recipients)| NewOutgoing {
                submission,
                domain,
                envelope: envelope.clone(),
                recipients,
                body_hash: prepared.hash(),
                size: content.len() as i64,
                due: 0,
            })
            .collect();
        let unit = async move |tx: &mut Tx| {
            let ids = outgoing::insert(tx, &rows).await?;
            prepared.reference(tx, BlobSource::Submission, ids[0], 0).await?;
            Ok(ids)
        };
        self.fixture.store.write(self.alice, unit).await.unwrap()
    }

    /// A submission to these addresses, of which nothing is queued yet.
    pub async fn submission(&self, recipients: &[&str]) -> Id {
        let recipients: Vec<String> = recipients.iter().map(|address| (*address).to_owned()).collect();
        let unit = async move |tx: &mut Tx| {
            let envelope = serde_json::json!({});
            let new = NewSubmission {
                settled: &[],
                identity_id: Id(1),
                email_id: Id(1),
                thread_id: Id(1),
                envelope: &envelope,
                recipients: &recipients,
                send_at: 0,
                message_id: "m1@example.test",
            };
            Ok(submission::insert(tx, &new).await?.id)
        };
        self.fixture.store.write(self.alice, unit).await.unwrap()
    }

    /// What a submission shows.
    pub async fn shown(&self, id: Id) -> Submission {
        let mut snapshot = self.fixture.store.read().await.unwrap();
        submission::by_ids(&mut snapshot, self.alice, &[id]).await.unwrap().remove(0)
    }

    pub async fn outgoing(&self) -> Vec<QueueEntry> {
        let mut snapshot = self.fixture.store.read().await.unwrap();
        outgoing_list(&mut snapshot, (-1, Id(0)), 1_000).await.unwrap()
    }

    pub async fn empty(&self) {
        eventually("an empty queue", async || self.outgoing().await.is_empty().then_some(())).await;
    }

    /// Waits until the one row has been tried and is to be tried again; why.
    pub async fn deferred(&self) -> String {
        let seen = async || {
            let rows = self.outgoing().await;
            rows.first()
                .filter(|row| !row.is_leased && !row.last_error.is_empty())
                .map(|row| row.last_error.clone())
        };
        eventually("a deferral", seen).await
    }

    /// What waits to be filed: senders, recipients, contents.
    pub async fn incoming(&self) -> Vec<(String, Vec<String>, String)> {
        let mut snapshot = self.fixture.store.read().await.unwrap();
        let mut found = Vec::new();
        for row in incoming_list(&mut snapshot, (-1, Id(0)), 1_000).await.unwrap() {
            let body = match incoming::body_of(&mut snapshot, row.lane, row.id).await.unwrap() {
                Some(body) => body,
                None => self.blobs.read_unchecked(&row.body_hash).await.unwrap(),
            };
            found.push((row.sender, row.recipients, String::from_utf8_lossy(&body).into_owned()));
        }
        found
    }
}
