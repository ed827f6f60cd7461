//! The collection of blobs that nothing refers to any more. It cannot race a writer.
//!
//! A writer touches a blob's row, puts the object, then commits its reference, all within
//! `PREPARED_KEPT_MS` (a later reference is refused). The sweep marks the row only when nobody has
//! touched it for twice that time at least; a marked row refuses to be touched, so that from then
//! on no writer can be between its touch and its reference; then it asks for references; then it
//! deletes the object and the row, or clears the mark.
//!
//! A sweep that dies leaves its marks. Another takes them over after `TAKE_OVER_AFTER_MS`; one
//! that comes back from a long sleep finds that its time (`MARK_HOLDS_MS`) is over and lets go.

use std::collections::HashSet;

use crate::blob::BlobError;
use crate::blob::Blobs;
use crate::blob::prepared::PREPARED_KEPT_MS;
use crate::store::blob;
use crate::store::cluster::sweep;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::types::blob_id::BlobHash;
use crate::types::id::AccountId;

/// The shortest time of grace, whatever the caller asks for, in milliseconds.
pub const GRACE_MIN_MS: i64 = 2 * PREPARED_KEPT_MS;

/// Blobs looked at together.
const PAGE: usize = 500;
/// Accounts and uploads of one step of the removal of expired uploads.
const ACCOUNTS: usize = 100;
const EXPIRED_AT_ONCE: usize = 500;
/// How long after marking a sweep may delete. By the clock and not a stopwatch, which stands still
/// while the machine sleeps.
const MARK_HOLDS_MS: i64 = 30_000;
/// When the marks of another sweep count as left behind.
const TAKE_OVER_AFTER_MS: i64 = 5 * 60_000;

/// What a sweep has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Uploads whose time was over.
    pub expired: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Half-written files of dead processes.
    pub leftovers: u64,
}

/// Blobs that this sweep alone may delete, as long as its mark holds.
struct Marked {
    hashes: Vec<BlobHash>,
    /// When they were marked, in milliseconds since 1970.
    mark: i64,
}

impl Blobs {
    /// Removes expired uploads, then every object that nothing refers to and nobody has touched for
    /// `grace_ms`. For a timer, some times a day; a second sweep in the process waits for the first.
    pub async fn sweep(&self, grace_ms: i64) -> Result<Swept, BlobError> {
        let _alone = self.inner.sweeping.lock().await;
        let now_ms = self.store.clock().now_ms();
        let mut swept = Swept { expired: self.expire(now_ms).await?, ..Swept::default() };
        let touched_before = now_ms.saturating_sub(grace_ms.max(GRACE_MIN_MS));
        let mut after = None;
        loop {
            let page = {
                let mut snapshot = self.store.read().await?;
                sweep::blob_page(&mut snapshot, after, touched_before, PAGE).await?
            };
            let is_last = page.len() < PAGE;
            after = page.last().map(|row| row.hash);
            let (left, free): (Vec<_>, Vec<_>) = page.into_iter().partition(|row| row.deleting > 0);
            let free = free.into_iter().map(|row| row.hash).collect();
            let left = left.into_iter().map(|row| row.hash).collect();
            // A first look spares the rows of blobs that are in use, which are nearly all.
            let free = self.without_needed(free).await?;
            let marked = self.mark(free, touched_before).await?;
            swept.deleted += self.finish(marked).await?;
            let taken_over = self.take_over(left).await?;
            swept.deleted += self.finish(taken_over).await?;
            if is_last {
                break;
            }
        }
        swept.leftovers = self.inner.objects.clean_leftovers(now_ms).await?;
        Ok(swept)
    }

    /// Closes the door: from here on no writer touches these blobs.
    async fn mark(&self, hashes: Vec<BlobHash>, touched_before: i64) -> Result<Marked, BlobError> {
        if hashes.is_empty() {
            return Ok(Marked { hashes, mark: 0 });
        }
        let unit = async move |tx: &mut Tx| {
            let hashes = sweep::blob_mark(tx, &hashes, touched_before).await?;
            Ok(Marked { hashes, mark: tx.now_ms() })
        };
        Ok(self.store.write_plain(Urgency::Background, unit).await?)
    }

    /// Takes what a sweep has left that died.
    async fn take_over(&self, hashes: Vec<BlobHash>) -> Result<Marked, BlobError> {
        if hashes.is_empty() {
            return Ok(Marked { hashes, mark: 0 });
        }
        let unit = async move |tx: &mut Tx| {
            let marked_before = tx.now_ms().saturating_sub(TAKE_OVER_AFTER_MS);
            let hashes = sweep::blob_take_over(tx, &hashes, marked_before).await?;
            Ok(Marked { hashes, mark: tx.now_ms() })
        };
        Ok(self.store.write_plain(Urgency::Background, unit).await?)
    }

    /// Asks for references, deletes what has none, opens the door to the others.
    async fn finish(&self, marked: Marked) -> Result<u64, BlobError> {
        let Marked { hashes, mark } = marked;
        if hashes.is_empty() {
            return Ok(0);
        }
        let unneeded = self.without_needed(hashes.clone()).await?;
        let mut gone = Vec::with_capacity(unneeded.len());
        for hash in unneeded {
            // What is not deleted in time, or cannot be now, is left to a later sweep: its mark
            // is cleared below like that of a blob in use.
            if self.store.clock().now_ms() - mark > MARK_HOLDS_MS {
                break;
            }
            match self.inner.objects.delete(hash).await {
                Ok(()) => gone.push(hash),
                Err(error) => tracing::warn!(%error, ?hash, "an object could not be deleted"),
            }
        }
        let deleted = gone.len() as u64;
        let is_gone: HashSet<BlobHash> = gone.iter().copied().collect();
        let kept: Vec<BlobHash> = hashes.into_iter().filter(|hash| !is_gone.contains(hash)).collect();
        let unit = async move |tx: &mut Tx| {
            sweep::blob_forget(tx, &gone, mark).await?;
            sweep::blob_unmark(tx, &kept, mark).await
        };
        self.store.write_plain(Urgency::Background, unit).await?;
        Ok(deleted)
    }

    async fn without_needed(&self, mut hashes: Vec<BlobHash>) -> Result<Vec<BlobHash>, BlobError> {
        if !hashes.is_empty() {
            let mut snapshot = self.store.read().await?;
            let needed = sweep::blob_needed(&mut snapshot, &hashes).await?;
            let needed: HashSet<BlobHash> = needed.into_iter().collect();
            hashes.retain(|hash| !needed.contains(hash));
        }
        Ok(hashes)
    }

    /// Removes the uploads whose time is over, account by account.
    async fn expire(&self, now_ms: i64) -> Result<u64, BlobError> {
        let mut expired = 0;
        loop {
            let accounts = {
                let mut snapshot = self.store.read().await?;
                sweep::accounts_with_expired_uploads(&mut snapshot, now_ms, ACCOUNTS).await?
            };
            let mut removed = 0;
            for account in accounts {
                removed += self.expire_in(account).await?;
            }
            // Nothing removed: the clock of the store is behind; another sweep will do it.
            if removed == 0 {
                return Ok(expired);
            }
            expired += removed;
        }
    }

    async fn expire_in(&self, account: AccountId) -> Result<u64, BlobError> {
        let unit = async move |tx: &mut Tx| blob::expired_remove(tx, EXPIRED_AT_ONCE).await;
        match self.store.write_in_background(account, unit).await {
            Ok(removed) => Ok(removed as u64),
            Err(StoreError::NoSuchAccount) => {
                // What an account left behind when it went.
                let unit = async move |tx: &mut Tx| blob::purge(tx, account).await;
                self.store.write_lane(account.get(), Urgency::Background, unit).await?;
                Ok(1)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::blob::prepared::PreparedBlob;
    use crate::blob::testing::{Bench, QUOTA, noise};
    use crate::store::blob::{BlobSource, INLINE_MAX, UPLOAD_KEPT_MS};
    use crate::store::db::sql;
    use crate::types::id::Id;

    fn large(seed: u64) -> bytes::Bytes {
        noise(seed, INLINE_MAX + 1)
    }

    #[tokio::test]
    async fn what_nothing_refers_to_goes_after_the_time_of_grace() {
        let bench = Bench::new();
        let account = bench.account().await;
        let kept = bench.email(account, 1, &large(1)).await;
        let gone = bench.email(account, 2, &large(2)).await;
        bench.remove_email(account, 2, gone).await;
        assert_eq!(bench.blobs.sweep(GRACE_MIN_MS).await.unwrap(), Swept::default());
        // However short a time is asked for: a writer may be about to refer to it.
        bench.clock.advance_ms(PREPARED_KEPT_MS);
        assert_eq!(bench.blobs.sweep(0).await.unwrap(), Swept::default());
        bench.clock.advance_ms(GRACE_MIN_MS + 1);
        assert_eq!(bench.blobs.sweep(0).await.unwrap(), Swept { deleted: 1, ..Swept::default() });
        assert_eq!(bench.objects(), 1);
        assert_eq!(bench.count("select count(*) from blob").await, 1);
        assert_eq!(bench.blobs.read(account, &kept).await.unwrap(), Some(large(1)));
        assert!(!bench.blobs.inner.objects.is_there(gone).await.unwrap());
    }

    #[tokio::test]
    async fn pages_of_blobs_are_all_swept() {
        let bench = Bench::new();
        let count = 2 * PAGE as i64 + 3;
        let unit = async move |tx: &mut Tx| {
            for seed in 0..count {
                let hash = BlobHash::of(&seed.to_le_bytes());
                assert!(blob::touch(tx, hash, 1).await?);
            }
            Ok(())
        };
        bench.store.write_plain(Urgency::Background, unit).await.unwrap();
        bench.clock.advance_ms(GRACE_MIN_MS + 1);
        assert_eq!(bench.blobs.sweep(0).await.unwrap().deleted, count as u64);
    }

    #[tokio::test]
    async fn uploads_go_when_their_time_is_over_and_emails_made_of_them_stay() {
        let bench = Bench::new();
        let account = bench.account().await;
        for content in [noise(1, 1_000), noise(2, 1_000), large(3)] {
            let blob = bench.blobs.prepare(content).await.unwrap();
            let unit = async move |tx: &mut Tx| blob.reference_upload(tx, Id(5), QUOTA).await;
            bench.store.write(account, unit).await.unwrap();
        }
        let used = bench.email(account, 1, &noise(1, 1_000)).await;
        bench.clock.advance_ms(UPLOAD_KEPT_MS - 1);
        assert_eq!(bench.blobs.sweep(0).await.unwrap(), Swept::default());
        bench.clock.advance_ms(1);
        let swept = bench.blobs.sweep(0).await.unwrap();
        assert_eq!(swept, Swept { expired: 3, deleted: 1, leftovers: 0 });
        assert_eq!(bench.count("select count(*) from inline_blob").await, 1);
        assert!(bench.blobs.read(account, &used).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_waiting_message_keeps_its_object() {
        let bench = Bench::new();
        let (hash, size) = bench.blobs.stage(large(1)).await.unwrap();
        let unit = async move |tx: &mut Tx| {
            sql("insert into incoming (lane, id, due, attempts, created_at, envelope, body_hash, size, is_staged) \
                 values (0, 1, 0, 0, 0, '{}', $1, $2, 1)")
            .bind(hash)
            .bind(size as i64)
            .run(tx)
            .await
        };
        bench.store.write_plain(Urgency::Background, unit).await.unwrap();
        bench.clock.advance_ms(GRACE_MIN_MS + 1);
        assert_eq!(bench.blobs.sweep(0).await.unwrap().deleted, 0);
        assert_eq!(bench.blobs.read_unchecked(&hash).await.unwrap(), large(1));
        let account = bench.account().await;
        let filed = bench.blobs.prepare_staged(hash, size).await.unwrap();
        let unit = async move |tx: &mut Tx| filed.reference(tx, BlobSource::Email, Id(1), 0).await;
        bench.store.write(account, unit).await.unwrap();
        let unit = async move |tx: &mut Tx| sql("delete from incoming where lane = 0").run(tx).await;
        bench.store.write_plain(Urgency::Background, unit).await.unwrap();
        bench.clock.advance_ms(GRACE_MIN_MS + 1);
        assert_eq!(bench.blobs.sweep(0).await.unwrap().deleted, 0);
        assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(large(1)));
    }

    #[tokio::test]
    async fn a_writer_waits_for_the_sweep_that_deletes_and_puts_again() {
        let bench = Bench::new();
        let account = bench.account().await;
        let hash = bench.blobs.prepare(large(1)).await.unwrap().hash();
        bench.clock.advance_ms(GRACE_MIN_MS + 1);
        let now_ms = bench.clock.now_ms();
        let marked = bench.blobs.mark(vec![hash], now_ms - GRACE_MIN_MS).await.unwrap();
        assert_eq!(marked.hashes, [hash]);
        let blobs = bench.blobs.clone();
        let writer = tokio::spawn(async move { blobs.prepare(large(1)).await });
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(!writer.is_finished());
        assert_eq!(bench.blobs.finish(marked).await.unwrap(), 1);
        let blob = writer.await.unwrap().unwrap();
        let unit = async move |tx: &mut Tx| blob.reference(tx, BlobSource::Email, Id(1), 0).await;
        bench.store.write(account, unit).await.unwrap();
        assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(large(1)));
    }

    #[tokio::test]
    async fn a_sweep_that_slept_lets_go_and_one_that_died_is_taken_over() {
        let bench = Bench::new();
        let hash = bench.blobs.prepare(large(1)).await.unwrap().hash();
        bench.clock.advance_ms(GRACE_MIN_MS + 1);
        let touched_before = bench.clock.now_ms() - GRACE_MIN_MS;
        let slept = bench.blobs.mark(vec![hash], touched_before).await.unwrap();
        bench.clock.advance_ms(MARK_HOLDS_MS + 1);
        assert_eq!(bench.blobs.finish(slept).await.unwrap(), 0);
        assert_eq!(bench.count("select deleting from blob").await, 0);
        let died = bench.blobs.mark(vec![hash], touched_before).await.unwrap();
        assert_eq!(died.hashes, [hash]);
        assert_eq!(bench.blobs.sweep(0).await.unwrap().deleted, 0);
        bench.clock.advance_ms(TAKE_OVER_AFTER_MS + 1);
        assert_eq!(bench.blobs.sweep(0).await.unwrap().deleted, 1);
        assert_eq!(bench.blobs.finish(died).await.unwrap(), 0);
    }

    /// One step of a writer, of the sweep, or of time.
    #[derive(Clone, Debug)]
    enum Step {
        Prepare,
        Reference,
        Remove,
        Mark,
        TakeOver,
        Finish,
        Wait(i64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Prepare),
            3 => Just(Step::Reference),
            2 => Just(Step::Remove),
            3 => Just(Step::Mark),
            1 => Just(Step::TakeOver),
            3 => Just(Step::Finish),
            2 => (0..MARK_HOLDS_MS * 2).prop_map(Step::Wait),
            2 => (0..PREPARED_KEPT_MS * 2).prop_map(Step::Wait),
            2 => (GRACE_MIN_MS..GRACE_MIN_MS * 2).prop_map(Step::Wait),
        ]
    }

    /// Runs the steps as the sweep and one writer would, except that the sweep does not look first.
    async fn interleaved(steps: Vec<Step>) {
        let bench = Bench::new();
        let account = bench.account().await;
        let content = large(1);
        let mut prepared: Option<PreparedBlob> = None;
        let mut marked: Option<Marked> = None;
        let hash = BlobHash::of(&content);
        for step in steps {
            match step {
                // While it is marked a writer waits.
                Step::Prepare if bench.count("select coalesce(max(deleting), 0) from blob").await > 0 => {}
                Step::Prepare => prepared = Some(bench.blobs.prepare(content.clone()).await.unwrap()),
                Step::Reference => {
                    if let Some(blob) = prepared.take() {
                        let unit =
                            async move |tx: &mut Tx| blob.reference(tx, BlobSource::Email, Id(1), 0).await;
                        let _too_late = bench.store.write(account, unit).await;
                    }
                }
                Step::Remove => bench.remove_email(account, 1, hash).await,
                Step::Mark if marked.is_none() => {
                    let touched_before = bench.clock.now_ms() - GRACE_MIN_MS;
                    marked = Some(bench.blobs.mark(vec![hash], touched_before).await.unwrap());
                }
                Step::TakeOver if marked.is_none() => {
                    marked = Some(bench.blobs.take_over(vec![hash]).await.unwrap());
                }
                Step::Mark | Step::TakeOver => {}
                Step::Finish => {
                    if let Some(marked) = marked.take() {
                        bench.blobs.finish(marked).await.unwrap();
                    }
                }
                Step::Wait(ms) => bench.clock.advance_ms(ms),
            }
            if bench.blobs.size(account, &hash).await.unwrap().is_some() {
                assert_eq!(bench.blobs.read(account, &hash).await.unwrap(), Some(content.clone()));
            }
        }
    }

    #[tokio::test]
    async fn what_is_referred_to_is_there_in_the_orders_that_go_wrong_easily() {
        use Step::{Finish, Mark, Prepare, Reference, Remove, TakeOver, Wait};
        let long = || Wait(GRACE_MIN_MS + 1);
        for steps in [
            // Referred to long before.
            vec![Prepare, Reference, long(), Mark, Finish],
            // Referred to after the object has gone.
            vec![Prepare, long(), Mark, Finish, Reference],
            // Referred to between mark and question, after a sleep.
            vec![Prepare, long(), Mark, Reference, Finish],
            // Within its time, between mark and question.
            vec![Prepare, Wait(PREPARED_KEPT_MS), Mark, Reference, Finish],
            vec![Prepare, Wait(PREPARED_KEPT_MS), Mark, Finish, Reference],
            // Put again because it was about to go.
            vec![Prepare, Reference, long(), Remove, Prepare, Mark, Finish, Reference],
            vec![Prepare, long(), Mark, Finish, Prepare, Reference, long(), Mark, Finish],
            // Left by a sweep that died.
            vec![Prepare, long(), Mark, Wait(TAKE_OVER_AFTER_MS + 1), TakeOver, Finish, Prepare, Reference],
        ] {
            interleaved(steps).await;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn what_is_referred_to_is_there_however_sweep_and_writer_interleave(
            steps in proptest::collection::vec(any_step(), 1..40),
        ) {
            tokio::runtime::Runtime::new().unwrap().block_on(interleaved(steps));
        }
    }
}
