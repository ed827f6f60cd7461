//! Blobs as methods see them: Blob/copy (RFC 8620, 6.3), and making, reading and looking up blobs
//! without HTTP (RFC 9404).

pub mod copy;
pub mod get;
pub mod lookup;
pub mod upload;

use std::collections::HashMap;

use bytes::Bytes;

use crate::blob::Blobs;
use crate::jmap::call::{AccountAccess, Call};
use crate::jmap::error::MethodError;
use crate::jmap::limits::MAX_SIZE_BLOBS_PER_CALL;
use crate::store::blob::Reader;
use crate::types::blob_id::BlobId;

/// Reads the blobs of one call, one after the other, and no more octets than a call may.
pub struct BlobReader {
    blobs: Blobs,
    reader: Reader,
    left: u64,
    /// Blobs that are read again at no cost, and octets of those that may still be kept.
    kept: HashMap<BlobId, Bytes>,
    keeps: u64,
}

/// Octets of blobs that are kept for the messages of a call.
const KEPT: u64 = 32 << 20;

impl BlobReader {
    /// The caller's, at one account.
    pub fn new(call: &Call<'_>, account: &AccountAccess) -> BlobReader {
        let left = MAX_SIZE_BLOBS_PER_CALL as u64;
        let (blobs, reader) = (call.jmap.blobs.clone(), call.reader(account));
        BlobReader { blobs, reader, left, kept: HashMap::new(), keeps: 0 }
    }

    /// One that keeps small blobs, for many messages with the same attachments.
    pub fn keeping(call: &Call<'_>, account: &AccountAccess) -> BlobReader {
        BlobReader { keeps: KEPT, ..BlobReader::new(call, account) }
    }

    /// The octets that an id names; `None` when the caller may not read them or there are none.
    pub async fn read(&mut self, id: &BlobId) -> Result<Option<Bytes>, MethodError> {
        if let Some(octets) = self.kept.get(id) {
            return Ok(Some(octets.clone()));
        }
        let Some(octets) = self.blobs.read_part(self.reader, id).await? else { return Ok(None) };
        // A small part may have been cut out of a large encoded one.
        let encoded = id.steps().first().map_or(0, |step| step.length);
        let cost = encoded.max(octets.len() as u64);
        self.spend(cost)?;
        if let Some(keeps) = self.keeps.checked_sub(octets.len() as u64) {
            self.keeps = keeps;
            self.kept.insert(id.clone(), octets.clone());
        }
        Ok(Some(octets))
    }

    /// Counts octets that are made of blobs.
    pub fn spend(&mut self, octets: u64) -> Result<(), MethodError> {
        self.left = self.left.checked_sub(octets).ok_or_else(|| {
            MethodError::RequestTooLarge("the blobs are too large for one call; name fewer".to_owned())
        })?;
        Ok(())
    }
}
