//! What the session object says of the server and of accounts (RFC 8620, 2; RFC 8621, 1.3;
//! RFC 9425, 2; RFC 9404, 3), and the state that tells when it has changed.

use serde_json::{Map, Value, json};

use crate::jmap::blob::get::Digest;
use crate::jmap::blob::lookup;
use crate::jmap::call::{AccountAccess, Caller, Jmap};
use crate::jmap::capability::Capability;
use crate::jmap::limits;
use crate::jmap::standard::query::COLLATIONS;
use crate::jmap::submission;

/// The properties that Email/query can sort by.
pub const EMAIL_SORTS: [&str; 9] = [
    "receivedAt",
    "sentAt",
    "size",
    "from",
    "to",
    "subject",
    "hasKeyword",
    "allInThreadHaveKeyword",
    "someInThreadHaveKeyword",
];

/// `capabilities`.
pub fn server_capabilities(jmap: &Jmap) -> Map<String, Value> {
    let mut out = Map::new();
    for capability in Capability::ALL {
        let value = match capability {
            Capability::Core => json!({
                "maxSizeUpload": jmap.max_upload,
                "maxConcurrentUpload": limits::MAX_CONCURRENT_UPLOAD,
                "maxSizeRequest": limits::MAX_SIZE_REQUEST,
                "maxConcurrentRequests": limits::MAX_CONCURRENT_REQUESTS,
                "maxCallsInRequest": limits::MAX_CALLS_IN_REQUEST,
                "maxObjectsInGet": limits::MAX_OBJECTS_IN_GET,
                "maxObjectsInSet": limits::MAX_OBJECTS_IN_SET,
                "collationAlgorithms": COLLATIONS,
            }),
            _ => json!({}),
        };
        out.insert(capability.urn().to_owned(), value);
    }
    out
}

/// `accountCapabilities` of an account.
pub fn account_capabilities(jmap: &Jmap, account: &AccountAccess) -> Map<String, Value> {
    let mut out = Map::new();
    for capability in Capability::ALL {
        let value = match capability {
            // Of the server, not of accounts.
            Capability::Core => continue,
            Capability::Mail => json!({
                "maxMailboxesPerEmail": limits::MAX_MAILBOXES_PER_EMAIL,
                "maxMailboxDepth": limits::MAX_MAILBOX_DEPTH,
                "maxSizeMailboxName": limits::MAX_MAILBOX_NAME,
                "maxSizeAttachmentsPerEmail": limits::MAX_SIZE_ATTACHMENTS_PER_EMAIL,
                "emailQuerySortOptions": EMAIL_SORTS,
                "mayCreateTopLevelMailbox": !account.is_read_only,
            }),
            Capability::Submission => submission::account_capability(jmap.max_upload),
            Capability::Blob => json!({
                "maxSizeBlobSet": jmap.max_upload,
                "maxDataSources": limits::MAX_DATA_SOURCES,
                "supportedTypeNames": lookup::TYPE_NAMES,
                "supportedDigestAlgorithms": Digest::ALL.map(Digest::name),
            }),
            Capability::VacationResponse | Capability::Quota => json!({}),
        };
        out.insert(capability.urn().to_owned(), value);
    }
    out
}

/// Changes whenever the session object of this caller does, and at an upgrade.
pub fn state(caller: &Caller) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.update(caller.username.as_bytes());
    for account in &caller.accounts {
        hasher.update(&account.id.get().to_be_bytes());
        hasher.update(account.name.as_bytes());
        hasher.update(&[u8::from(account.is_read_only), u8::from(account.is_personal)]);
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
