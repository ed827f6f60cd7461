//! What the session object says of the server and of accounts (RFC 8620, 2; RFC 8621, 1.3;
//! RFC 8887, 3; RFC 9749; RFC 9425, 2; RFC 9404, 3), and the state that tells when it has changed.

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

/// `capabilities`, where `base_url` is what the server's URLs begin with.
pub fn server_capabilities(jmap: &Jmap, base_url: &str) -> Map<String, Value> {
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
            // `https:` becomes `wss:`, `http:` becomes `ws:`.
            Capability::WebSocket => {
                let host = base_url.strip_prefix("http").unwrap_or(base_url);
                json!({ "url": format!("ws{host}/jmap/ws"), "supportsPush": true })
            }
            Capability::LiveQuery => json!({
                "maxQueries": limits::MAX_LIVE_QUERIES,
                "maxLimit": limits::MAX_LIVE_LIMIT,
            }),
            Capability::WebPushVapid => json!({ "applicationServerKey": &*jmap.push_key }),
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
            Capability::Core | Capability::WebSocket | Capability::WebPushVapid | Capability::LiveQuery => {
                continue;
            }
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
            Capability::VacationResponse | Capability::Quota | Capability::EmailPush => json!({}),
        };
        out.insert(capability.urn().to_owned(), value);
    }
    out
}

/// Changes whenever the session object of this caller does, and at an upgrade. `base_url` is what
/// the URLs in it begin with.
pub fn state(jmap: &Jmap, base_url: &str, caller: &Caller) -> String {
    let mut hasher = blake3::Hasher::new();
    // Each with its length before it: no two lists of texts look alike.
    let mut add = |octets: &[u8]| {
        hasher.update(&octets.len().to_be_bytes());
        hasher.update(octets);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(base_url.as_bytes());
    add(Value::Object(server_capabilities(jmap, base_url)).to_string().as_bytes());
    add(caller.username.as_bytes());
    // What accounts can do differs by whether they can be written, and else by settings alone.
    let mut is_told = [false; 2];
    for account in &caller.accounts {
        add(&account.id.get().to_be_bytes());
        add(account.name.as_bytes());
        add(&[u8::from(account.is_read_only), u8::from(account.is_personal)]);
        let is_told = &mut is_told[usize::from(account.is_read_only)];
        if !std::mem::replace(is_told, true) {
            add(Value::Object(account_capabilities(jmap, account)).to_string().as_bytes());
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use crate::jmap::fixture::Fixture;

    use super::*;

    #[tokio::test]
    async fn the_state_follows_everything_that_the_session_tells() {
        let fixture = Fixture::new().await;
        let alice = fixture.user("alice@example.test").await;
        let bob = fixture.user("bob@example.test").await;
        let base = "https://mail.example.test";
        let caller = &alice.caller;
        let before = state(&fixture.jmap, base, caller);
        assert_eq!(state(&fixture.jmap, base, &caller.clone()), before);
        let mut others = vec![
            before,
            state(&fixture.jmap, "https://other.example.test", caller),
            state(&fixture.jmap, base, &bob.caller),
        ];
        let mut jmap = fixture.jmap.clone();
        jmap.max_upload += 1;
        others.push(state(&jmap, base, caller));
        let mut granted = caller.clone();
        granted.accounts.push(bob.caller.accounts[0].clone());
        others.push(state(&fixture.jmap, base, &granted));
        granted.accounts[1].is_read_only = true;
        others.push(state(&fixture.jmap, base, &granted));
        granted.accounts[1].is_personal = false;
        others.push(state(&fixture.jmap, base, &granted));
        granted.accounts[1].name = "robert@example.test".to_owned();
        others.push(state(&fixture.jmap, base, &granted));
        let count = others.len();
        others.sort();
        others.dedup();
        assert_eq!(others.len(), count, "two sessions have one state");
    }
}
