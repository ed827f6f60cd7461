//! Blobs as methods see them: Blob/copy (RFC 8620, 6.3), and making, reading and looking up blobs
//! without HTTP (RFC 9404).

pub mod copy;
pub mod get;
pub mod lookup;
pub mod upload;

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
}

impl BlobReader {
    /// The caller's, at one account.
    pub fn new(call: &Call<'_>, account: &AccountAccess) -> BlobReader {
        let left = MAX_SIZE_BLOBS_PER_CALL as u64;
        BlobReader { blobs: call.jmap.blobs.clone(), reader: call.reader(account), left }
    }

    /// The octets that an id names; `None` when the caller may not read them or there are none.
    pub async fn read(&mut self, id: &BlobId) -> Result<Option<Bytes>, MethodError> {
        let Some(octets) = self.blobs.read_part(self.reader, id).await? else { return Ok(None) };
        // A small part may have been cut out of a large encoded one.
        let encoded = id.steps().first().map_or(0, |step| step.length);
        let cost = encoded.max(octets.len() as u64);
        self.left = self.left.checked_sub(cost).ok_or_else(|| {
            MethodError::RequestTooLarge("the blobs are too large for one call; name fewer".to_owned())
        })?;
        Ok(Some(octets))
    }
}
