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

use crate::blob::Blobs;
use crate::blob::error::BlobError;
use crate::blob::prepared::PREPARED_KEPT_MS;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::unit::Urgency;
use crate::store::{blob, cluster};
use crate::types::blob_id::BlobHash;
use crate::types::id::AccountId;

/// The shortest time of grace, whatever the caller asks for, in milliseconds.
pub const GRACE_MIN_MS: i64 = 2 * PREPARED_KEPT_MS;

/// Blobs looked at together.
const PAGE: usize = 500;
/// Accounts and references of one step of the removal of expired references.
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
    /// References whose time was over.
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
        let now_ms = self.inner.store.clock().now_ms();
        let mut swept = Swept { expired: self.expire(now_ms).await?, ..Swept::default() };
        let touched_before = now_ms.saturating_sub(grace_ms.max(GRACE_MIN_MS));
        let mut after = None;
        loop {
            let page = {
                let mut snapshot = self.inner.store.read().await?;
                cluster::blob_page(&mut snapshot, after, touched_before, PAGE).await?
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
            let hashes = cluster::blob_mark(tx, &hashes, touched_before).await?;
            Ok(Marked { hashes, mark: tx.now_ms() })
        };
        Ok(self.inner.store.write_plain(Urgency::Background, unit).await?)
    }

    /// Takes what a sweep has left that died.
    async fn take_over(&self, hashes: Vec<BlobHash>) -> Result<Marked, BlobError> {
        if hashes.is_empty() {
            return Ok(Marked { hashes, mark: 0 });
        }
        let unit = async move |tx: &mut Tx| {
            let marked_before = tx.now_ms().saturating_sub(TAKE_OVER_AFTER_MS);
            let hashes = cluster::blob_take_over(tx, &hashes, marked_before).await?;
            Ok(Marked { hashes, mark: tx.now_ms() })
        };
        Ok(self.inner.store.write_plain(Urgency::Background, unit).await?)
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
            if self.inner.store.clock().now_ms() - mark > MARK_HOLDS_MS {
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
            cluster::blob_forget(tx, &gone, mark).await?;
            cluster::blob_unmark(tx, &kept, mark).await
        };
        self.inner.store.write_plain(Urgency::Background, unit).await?;
        Ok(deleted)
    }

    async fn without_needed(&self, mut hashes: Vec<BlobHash>) -> Result<Vec<BlobHash>, BlobError> {
        if !hashes.is_empty() {
            let mut snapshot = self.inner.store.read().await?;
            let needed = cluster::blob_needed(&mut snapshot, &hashes).await?;
            let needed: HashSet<BlobHash> = needed.into_iter().collect();
            hashes.retain(|hash| !needed.contains(hash));
        }
        Ok(hashes)
    }

    /// Removes the references whose time is over, account by account.
    async fn expire(&self, now_ms: i64) -> Result<u64, BlobError> {
        let mut expired = 0;
        loop {
            let accounts = {
                let mut snapshot = self.inner.store.read().await?;
                cluster::accounts_with_expired_references(&mut snapshot, now_ms, ACCOUNTS).await?
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
        match self.inner.store.write_in_background(account, unit).await {
            Ok(removed) => Ok(removed as u64),
            Err(StoreError::NoSuchAccount) => {
                // What an account left behind when it went.
                let unit = async move |tx: &mut Tx| blob::purge(tx, account).await;
                self.inner.store.write_plain(Urgency::Background, unit).await?;
                Ok(1)
            }
            Err(error) => Err(error.into()),
        }
    }
}
