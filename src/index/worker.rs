//! The index role: takes Emails from the index queue into the index.
//!
//! Rows are claimed, the index is brought up to what the store has of their Emails, committed and
//! reloaded, and only then the rows go: at any moment an Email is in its queue, or searches of the
//! index see it. Doing a row twice changes nothing, so a worker that dies, or whose lease ends,
//! leaves nothing to repair.
//!
//! A row never goes because of a failure. An index that fails is tried again, however long it
//! takes; a message that cannot be read, or on which the engine breaks, is set aside after some
//! tries, with its reason. Until it is gone, text queries read it directly.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::blob::Blobs;
use crate::bus::{Event, Queue, Topic};
use crate::index::source::{Source, Unreadable};
use crate::index::{Index, IndexError, Operation};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::queue::claim::{self, Claim, LEASE_MS, RENEW_EVERY_MS};
use crate::store::queue::due_lanes;
use crate::store::queue::index::{self, IndexRow, IndexTask};
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::id::{AccountId, Id};

/// Rows of one commit of the index.
const BATCH: usize = 256;
/// After so many tries a row that is itself at fault is set aside.
const MAX_TRIES: i64 = 5;
/// When a message is tried again whose place is out of reach.
const OUTAGE_WAIT_MS: i64 = 4_000;
/// Longest delay between tries.
const MAX_DELAY_MS: i64 = 300_000;

/// Works until it is told to stop; then finishes what it has in hand.
pub async fn run(index: Index, store: Store, blobs: Blobs, stop: CancellationToken) {
    let mut events = store.bus().subscribe();
    let _interest = store.bus().interest(Topic::Queue(Queue::Index));
    while !stop.is_cancelled() {
        match work_once(&index, &store, &blobs).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => tracing::warn!(%error, "index queue cannot be worked on"),
        }
        // Woken by the bus; the poll, jittered, is the fall-back when a wake was lost.
        let poll = tokio::time::sleep(Duration::from_millis(rand::random_range(1_000..2_000)));
        tokio::pin!(poll);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut poll => break,
                event = events.recv() => match event {
                    Ok(Event::Queued { queue: Queue::Index, .. } | Event::Missed(_))
                    | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => {
                        poll.as_mut().await;
                        break;
                    }
                },
            }
        }
    }
}

/// Works on one batch; how many rows it took.
pub async fn work_once(index: &Index, store: &Store, blobs: &Blobs) -> Result<usize, StoreError> {
    let lanes = due_lanes(store, Queue::Index).await?;
    let (mut rows, mut failure) = (Vec::new(), None);
    for lane in lanes {
        if rows.len() < BATCH {
            match index::claim(store, lane, BATCH - rows.len(), LEASE_MS).await {
                Ok(claimed) => rows.extend(claimed),
                // Other lanes may be on other nodes.
                Err(error) => failure = Some(error),
            }
        }
    }
    let taken = rows.len();
    if taken == 0 {
        return failure.map_or(Ok(0), Err);
    }
    let source = Source { store, blobs };
    for batch in batches(rows) {
        let outcome = while_renewing(store, &batch, apply(source, index, &batch)).await;
        settle(store, batch, outcome).await?;
    }
    Ok(taken)
}

/// Rows of one commit that were taken so often.
fn at_once(tries: i64) -> usize {
    match tries {
        ..=2 => BATCH,
        3 => BATCH / 8,
        4 => BATCH / 64,
        _ => 1,
    }
}

/// A row on which the engine breaks must not keep its neighbours out: whoever was taken with it comes
/// again in ever smaller batches, until it is tried alone, and told. Not at once alone, since most
/// rows that come again were only in the hands of a process that died.
fn batches(mut rows: Vec<IndexRow>) -> Vec<Vec<IndexRow>> {
    rows.sort_by_key(|row| row.tries);
    rows.chunk_by(|one, other| at_once(one.tries) == at_once(other.tries))
        .flat_map(|alike| alike.chunks(alike.first().map_or(1, |row| at_once(row.tries))))
        .map(<[IndexRow]>::to_vec)
        .collect()
}

/// Why some Emails of a batch are not in the index.
type Refused = HashMap<(AccountId, Id), Unreadable>;

async fn apply(source: Source<'_>, index: &Index, rows: &[IndexRow]) -> Result<Refused, IndexError> {
    let mut emails = Vec::new();
    let mut accounts = Vec::new();
    for row in rows {
        match row.task {
            // Whether an Email is there now says what is to be done, in whatever order rows come.
            IndexTask::Add(email) | IndexTask::Delete(email) => emails.push((row.account, email)),
            IndexTask::DeleteAccount => accounts.push(Operation::DeleteAccount { account: row.account }),
        }
    }
    let unreadable = source.update(index, &emails).await?;
    if !accounts.is_empty() {
        index.apply(accounts).await?;
    }
    Ok(unreadable.into_iter().map(|one| ((one.account, one.email), one)).collect())
}

/// Renews the claims of a batch as long as the work on it takes. A claim that is lost is no reason
/// to stop: the work changes nothing when it is done twice.
async fn while_renewing<T>(store: &Store, rows: &[IndexRow], work: impl Future<Output = T>) -> T {
    let mut lanes: BTreeMap<i64, Vec<Claim>> = BTreeMap::new();
    for row in rows {
        lanes.entry(row.claim.lane).or_default().push(row.claim);
    }
    // Beside the work, which holds what a renewal may have to wait for.
    let renewing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(RENEW_EVERY_MS.unsigned_abs())).await;
            for claims in lanes.values() {
                if let Err(error) = claim::renew(store, Queue::Index, claims.clone(), LEASE_MS).await {
                    tracing::warn!(%error, "claims on the index queue cannot be renewed");
                }
            }
        }
    };
    tokio::select! {
        done = work => done,
        never = renewing => never,
    }
}

/// What becomes of a row.
#[derive(Clone)]
enum Fate {
    Done,
    Retry(String),
    Hold(String),
    /// It is not its fault: soon again, and not counted.
    PutOff,
}

async fn settle(
    store: &Store,
    rows: Vec<IndexRow>,
    outcome: Result<Refused, IndexError>,
) -> Result<(), StoreError> {
    if let Err(error) = &outcome {
        tracing::warn!(%error, rows = rows.len(), "index queue rows are put back");
    }
    let alone = rows.len() == 1;
    let at_fault = |row: &IndexRow, why: &str| match row.tries >= MAX_TRIES {
        true => Fate::Hold(why.to_owned()),
        false => Fate::Retry(why.to_owned()),
    };
    let fate_of = |row: &IndexRow| match &outcome {
        Err(IndexError::Fault(why)) if alone => at_fault(row, why),
        Err(error) => Fate::Retry(error.to_string()),
        Ok(unreadable) => match row.task {
            IndexTask::Add(email) | IndexTask::Delete(email) => match unreadable.get(&(row.account, email)) {
                None => Fate::Done,
                Some(one) if one.is_temporary => Fate::PutOff,
                Some(one) => at_fault(row, &one.why),
            },
            IndexTask::DeleteAccount => Fate::Done,
        },
    };
    let mut of_lanes: BTreeMap<i64, Vec<(IndexRow, Fate)>> = BTreeMap::new();
    for row in &rows {
        of_lanes.entry(row.claim.lane).or_default().push((*row, fate_of(row)));
    }
    // One transaction for each lane: they may be on several nodes, of which one may be lost.
    let mut settled = Ok(());
    for (lane, fates) in of_lanes {
        settled = settled.and(settle_lane(store, lane, fates).await);
    }
    settled
}

async fn settle_lane(store: &Store, lane: i64, fates: Vec<(IndexRow, Fate)>) -> Result<(), StoreError> {
    let due = store.clock().now_ms() + OUTAGE_WAIT_MS;
    let put_off = fates.iter().filter(|(_, fate)| matches!(fate, Fate::PutOff));
    let put_off: Vec<(Claim, i64)> = put_off.map(|(row, _)| (row.claim, due)).collect();
    if !put_off.is_empty() {
        tracing::info!(rows = put_off.len(), "messages out of reach are put off");
        claim::postpone(store, Queue::Index, put_off).await?;
    }
    store
        .write_lane(lane, Urgency::Background, async move |tx: &mut Tx| {
            let mut done = Vec::new();
            for (row, fate) in &fates {
                match fate {
                    Fate::Done => done.push(row.claim),
                    Fate::PutOff => {}
                    Fate::Retry(why) => {
                        let delay = 1_000_i64.saturating_mul(1 << row.tries.clamp(0, 16));
                        let due = tx.now_ms() + delay.min(MAX_DELAY_MS);
                        claim::retry(tx, Queue::Index, row.claim, due, why).await?;
                    }
                    Fate::Hold(why) => {
                        claim::hold(tx, Queue::Index, row.claim, why).await?;
                    }
                }
            }
            claim::done(tx, Queue::Index, &done).await
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::testing::s3::{Fault, S3Server};
    use crate::blob::testing::{blobs_at, blobs_in};
    use crate::index::query::{Field, TextQuery};
    use crate::store::directory::fixture::Fixture;
    use crate::store::queue::lane_of;

    struct Bench {
        fixture: Fixture,
        blobs: Blobs,
        index: Index,
        account: AccountId,
    }

    impl Bench {
        async fn new() -> Bench {
            let fixture = Fixture::new().await;
            let blobs = blobs_in(fixture.folder.path(), fixture.store.clone());
            Bench::over(fixture, blobs).await
        }

        async fn over(fixture: Fixture, blobs: Blobs) -> Bench {
            let at = |name: &str| fixture.folder.path().join(name);
            let index = Index::in_folder(&at("index")).unwrap();
            let account = fixture.account("alice@example.test").await.account;
            Bench { fixture, blobs, index, account }
        }

        async fn add(&self, raw: &str) -> Id {
            let source = Source { store: &self.fixture.store, blobs: &self.blobs };
            let email = crate::index::source::testing::add(source, self.account, raw.to_owned()).await;
            self.queue(email).await;
            email
        }

        async fn queue(&self, email: Id) {
            let unit = async move |tx: &mut Tx| index::enqueue(tx, &[email], false).await;
            self.fixture.store.write(self.account, unit).await.unwrap();
        }

        async fn work(&self) -> usize {
            work_once(&self.index, &self.fixture.store, &self.blobs).await.unwrap()
        }

        async fn pending(&self) -> usize {
            let mut snapshot = self.fixture.store.read().await.unwrap();
            index::pending(&mut snapshot, lane_of(self.account), self.account).await.unwrap().len()
        }

        async fn search(&self, text: &str) -> Vec<Id> {
            self.index.search(self.account, &TextQuery::parse(Field::Text, text)).await.unwrap().certain
        }
    }

    #[tokio::test]
    async fn what_is_queued_is_indexed_and_leaves_the_queue() {
        let bench = Bench::new().await;
        let first = bench.add("Subject: first\r\n\r\nbody").await;
        let second = bench.add("Subject: second\r\n\r\nbody").await;
        bench.queue(first).await;
        assert_eq!(bench.work().await, 3);
        assert_eq!(bench.pending().await, 0);
        assert_eq!(bench.search("body").await, [first, second]);
        // An Email that the store does not have any more is forgotten.
        bench.queue(Id(99)).await;
        assert_eq!(bench.work().await, 1);
        assert_eq!(bench.work().await, 0);
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_is_set_aside_with_the_rest_indexed() {
        let bench = Bench::new().await;
        let broken = bench.add(&format!("Subject: broken\r\n\r\n{}", "text ".repeat(40_000))).await;
        std::fs::remove_dir_all(bench.fixture.folder.path().join("blobs")).unwrap();
        std::fs::create_dir(bench.fixture.folder.path().join("blobs")).unwrap();
        let sound = bench.add("Subject: sound\r\n\r\ntext").await;
        assert_eq!(bench.work().await, 2);
        assert_eq!(bench.search("text").await, [sound]);
        assert_eq!(bench.pending().await, 1);
        for _ in 1..MAX_TRIES {
            bench.fixture.clock.advance_ms(MAX_DELAY_MS);
            assert_eq!(bench.work().await, 1);
        }
        bench.fixture.clock.advance_ms(100 * MAX_DELAY_MS);
        assert_eq!(bench.work().await, 0, "set aside");
        assert_eq!(bench.pending().await, 1, "but not lost: {broken}");
    }

    #[tokio::test]
    async fn large_messages_out_of_reach_keep_no_small_one_out() {
        let fixture = Fixture::new().await;
        let folder = fixture.folder.path();
        std::fs::create_dir_all(folder.join("blobs")).unwrap();
        let server = S3Server::start(folder);
        let blobs = blobs_at(&server.url("blobs"), folder, fixture.store.clone());
        let bench = Bench::over(fixture, blobs).await;
        let large = bench.add(&format!("Subject: large\r\n\r\n{}", "text ".repeat(40_000))).await;
        let small = bench.add("Subject: small\r\n\r\ntext").await;
        server.set(Fault::Busy);
        assert_eq!(bench.work().await, 2);
        assert_eq!(bench.search("text").await, [small]);
        for _ in 0..3 * MAX_TRIES {
            bench.fixture.clock.advance_ms(OUTAGE_WAIT_MS + 1);
            assert_eq!(bench.work().await, 1, "soon again, and never set aside");
        }
        server.set(Fault::None);
        while bench.blobs.check().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bench.fixture.clock.advance_ms(OUTAGE_WAIT_MS + 1);
        assert_eq!(bench.work().await, 1);
        assert_eq!(bench.search("text").await, [large, small]);
        assert_eq!(bench.pending().await, 0);
    }

    #[test]
    fn what_comes_again_comes_in_smaller_batches_until_it_is_alone() {
        let row = |number, tries| IndexRow {
            claim: Claim { lane: 0, id: Id(number), attempts: tries },
            tries,
            account: AccountId(Id(1)),
            task: IndexTask::Add(Id(number)),
        };
        let rows = |count: i64, tries| (0..count).map(move |number| row(number, tries));
        assert_eq!(batches(rows(BATCH as i64, 2).collect()).len(), 1);
        assert_eq!(batches(rows(BATCH as i64, 3).collect()).len(), 8, "a dead process is no reason for more");
        assert!(batches(rows(20, MAX_TRIES).collect()).iter().all(|batch| batch.len() == 1));
        let mixed = rows(3, 1).chain(rows(2, MAX_TRIES + 1)).chain(rows(3, 2)).collect();
        assert_eq!(batches(mixed).iter().map(Vec::len).collect::<Vec<_>>(), [6, 1, 1]);
    }

    #[tokio::test]
    async fn an_index_that_fails_keeps_its_rows() {
        let bench = Bench::new().await;
        let email = bench.add("Subject: first\r\n\r\nbody").await;
        // Another process's writer holds the index.
        let Index::Tantivy(engine) = &bench.index else { panic!("it is in a folder") };
        let other = engine.other_writer();
        for _ in 0..2 * MAX_TRIES {
            assert_eq!(bench.work().await, 1);
            assert_eq!(bench.pending().await, 1);
            bench.fixture.clock.advance_ms(MAX_DELAY_MS);
        }
        drop(other);
        assert_eq!(bench.work().await, 1);
        assert_eq!(bench.search("body").await, [email]);
        assert_eq!(bench.pending().await, 0);
    }

    #[tokio::test]
    async fn the_worker_is_woken_and_stops() {
        let bench = Bench::new().await;
        let stop = CancellationToken::new();
        let worker = run(bench.index.clone(), bench.fixture.store.clone(), bench.blobs.clone(), stop.clone());
        let worker = tokio::spawn(worker);
        let email = bench.add("Subject: first\r\n\r\nbody").await;
        while bench.pending().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(bench.search("body").await, [email]);
        stop.cancel();
        worker.await.unwrap();
    }
}
