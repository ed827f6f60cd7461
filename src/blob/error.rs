//! The one error of blobs.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::store::error::StoreError;
use crate::types::blob_id::BlobHash;

/// Why a blob could not be written or read.
#[derive(Clone, Debug)]
pub enum BlobError {
    /// The place of the blobs cannot be reached or is busy: the same may succeed later.
    Unavailable(Arc<str>),
    /// There is no room left: the same may succeed once there is.
    Full,
    /// The object is gone although something refers to it.
    NotFound(BlobHash),
    /// The stored octets are not those that were written.
    Corrupt(BlobHash),
    /// What was sent is longer than this many octets; nothing is kept.
    TooLarge(u64),
    /// The sender stopped before the end; nothing is kept.
    Interrupted(Arc<str>),
    /// The store failed otherwise.
    Store(StoreError),
}

impl BlobError {
    /// Whether the same request may succeed later: SMTP answers 4xx, HTTP 503.
    pub fn is_temporary(&self) -> bool {
        match self {
            BlobError::Unavailable(_) | BlobError::Full => true,
            BlobError::Store(error) => error.is_temporary(),
            BlobError::NotFound(_)
            | BlobError::Corrupt(_)
            | BlobError::TooLarge(_)
            | BlobError::Interrupted(_) => false,
        }
    }

    pub(in crate::blob) fn unavailable(cause: &dyn fmt::Display) -> BlobError {
        BlobError::Unavailable(cause.to_string().into())
    }

    /// A failure to read or delete an object.
    pub(in crate::blob) fn of_read(hash: BlobHash, error: &object_store::Error) -> BlobError {
        match error {
            // S3 says 404 of a bucket as well, of which nothing follows for the object.
            object_store::Error::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket") => {
                BlobError::NotFound(hash)
            }
            error => BlobError::of_write(error),
        }
    }

    /// A failure of the object store, which wraps that of the file system or the network.
    pub(in crate::blob) fn of_write(error: &object_store::Error) -> BlobError {
        let told = error.to_string();
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                BlobError::unavailable(&format_args!(
                    "the request was refused ({}); check s3_access_key_id, s3_secret_access_key and what \
                     they may do with the bucket",
                    s3_code(&told).unwrap_or("no reason was given")
                ))
            }
            object_store::Error::NotFound { .. } if told.contains("NoSuchBucket") => {
                BlobError::unavailable(&"the bucket of blob_url does not exist")
            }
            // What S3 said, without the address, which is nobody's business who asks whether we are ready.
            error => match (BlobError::of_cause(error), s3_code(&told)) {
                (BlobError::Unavailable(_), Some(code)) => {
                    BlobError::unavailable(&format_args!("the object store answers with the error {code}"))
                }
                (BlobError::Unavailable(text), None) => match text.split_once(" - HTTP error: ") {
                    Some((_, cause)) => {
                        BlobError::unavailable(&format_args!("the object store does not answer: {cause}"))
                    }
                    None => BlobError::Unavailable(text),
                },
                (other, _) => other,
            },
        }
    }

    /// A failure in whose chain of causes a full disk may stand.
    pub(in crate::blob) fn of_cause(error: &(dyn Error + 'static)) -> BlobError {
        let mut text = error.to_string();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.downcast_ref::<std::io::Error>().is_some_and(is_full) {
                return BlobError::Full;
            }
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            // An I/O error passes over the error that it is made of.
            let made_of = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            cause = match made_of {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        BlobError::Unavailable(text.into())
    }
}

/// The code in an answer of S3, such as `SignatureDoesNotMatch`.
fn s3_code(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobError::Unavailable(cause) => write!(f, "blobs cannot be stored or read now: {cause}"),
            BlobError::Full => f.write_str("there is no room for blobs; free some space"),
            BlobError::NotFound(hash) => write!(f, "the object of blob {hash:?} is missing"),
            BlobError::Corrupt(hash) => write!(f, "the stored octets of blob {hash:?} have changed"),
            BlobError::TooLarge(limit) => write!(f, "more than {limit} octets were sent"),
            BlobError::Interrupted(cause) => write!(f, "the sender stopped before the end: {cause}"),
            BlobError::Store(error) => error.fmt(f),
        }
    }
}

impl Error for BlobError {}

impl From<StoreError> for BlobError {
    fn from(error: StoreError) -> BlobError {
        match error {
            StoreError::Full => BlobError::Full,
            StoreError::Busy | StoreError::Closed => BlobError::unavailable(&error),
            error => BlobError::Store(error),
        }
    }
}

impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> BlobError {
        BlobError::of_cause(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_object_store_is_not_told() {
        let told = |text: &str| {
            let error = object_store::Error::Generic { store: "S3", source: text.into() };
            BlobError::of_write(&error).to_string()
        };
        let busy = told(
            "Error performing PUT http://10.0.0.1/mail/x in 1s - Server returned 503: <Code>SlowDown</Code>",
        );
        assert!(busy.ends_with("answers with the error SlowDown"), "{busy}");
        let refused =
            told("Error performing PUT http://10.0.0.1/mail/x in 1s - HTTP error: connection refused");
        assert!(refused.ends_with("does not answer: connection refused"), "{refused}");
    }

    #[test]
    fn a_full_disk_is_told_apart_however_deep_it_is_wrapped() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let wrapped = |source: std::io::Error| object_store::Error::Generic {
            store: "test",
            source: Box::new(std::io::Error::other(source)),
        };
        let hash = BlobHash([0; 32]);
        assert!(matches!(BlobError::of_read(hash, &wrapped(full())), BlobError::Full));
        assert!(matches!(BlobError::from(full()), BlobError::Full));
        assert!(matches!(BlobError::from(StoreError::Full), BlobError::Full));
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = BlobError::of_read(hash, &wrapped(denied));
        assert!(matches!(error, BlobError::Unavailable(_)) && error.is_temporary(), "{error}");
    }
}
