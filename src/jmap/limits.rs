//! The limits that the session advertises and the methods enforce (RFC 8620, 2): the one place.

use crate::store::blob::UploadQuota;

/// Octets of one request to the API.
pub const MAX_SIZE_REQUEST: usize = 10_000_000;
/// Requests of one login that run at a time.
pub const MAX_CONCURRENT_REQUESTS: usize = 16;
/// Uploads of one login that run at a time.
pub const MAX_CONCURRENT_UPLOAD: usize = 8;
/// Method calls in one request.
pub const MAX_CALLS_IN_REQUEST: usize = 64;
/// Objects in one /get.
pub const MAX_OBJECTS_IN_GET: usize = 4_096;
/// Objects created, updated and destroyed by one /set.
pub const MAX_OBJECTS_IN_SET: usize = 4_096;
/// Ids of one /query window.
pub const MAX_QUERY_WINDOW: usize = 10_000;
/// Changes told by one /changes.
pub const MAX_CHANGES: usize = 10_000;
/// Objects touched since a state beyond which /queryChanges gives up.
pub const MAX_QUERY_CHANGES: usize = 1_000;
/// Creation ids that a request may bring or make.
pub const MAX_CREATED_IDS: usize = 10_000;
/// Octets of all answers in a response; a method that would go beyond fails as too large.
pub const MAX_SIZE_RESPONSE: usize = 256 << 20;
/// Octets of blobs that one call reads, or makes, in all; a method that would go beyond fails as too
/// large.
pub const MAX_SIZE_BLOBS_PER_CALL: usize = 256 << 20;
/// Sources from which one blob can be put together (RFC 9404, 3.1).
pub const MAX_DATA_SOURCES: usize = 256;
/// What a login's uploads may take in an account until they are used or expire; the oldest make
/// room for new ones (RFC 8620, 6).
pub const UPLOAD_QUOTA: UploadQuota = UploadQuota { bytes: 1 << 30, uploads: 1_000 };
/// Levels of a filter.
pub const MAX_FILTER_DEPTH: usize = 32;
/// Conditions in a filter.
pub const MAX_FILTER_CONDITIONS: usize = 500;

/// Properties of Emails, or of their parts, that one call may ask for.
pub const MAX_PROPERTIES: usize = 100;
/// Octets that the parts and header fields of one Email may take in a response, about.
pub const MAX_SIZE_EMAIL: u64 = 64 << 20;

/// Mailboxes of an account.
pub const MAX_MAILBOXES: usize = 4_096;
/// Levels of mailboxes.
pub const MAX_MAILBOX_DEPTH: usize = 20;
/// Octets of a mailbox's name.
pub const MAX_MAILBOX_NAME: usize = 255;
/// Mailboxes of one Email.
pub const MAX_MAILBOXES_PER_EMAIL: usize = 1_000;
/// Keywords of one Email.
pub const MAX_KEYWORDS_PER_EMAIL: usize = 200;
/// Octets of all attachments of a new Email.
pub const MAX_SIZE_ATTACHMENTS_PER_EMAIL: usize = 50_000_000;
/// Live queries of one connection.
pub const MAX_LIVE_QUERIES: usize = 8;
/// Emails of a live query.
pub const MAX_LIVE_LIMIT: u64 = 200;
/// PushSubscriptions of a login.
pub const MAX_PUSH_SUBSCRIPTIONS: usize = 100;
/// PushSubscriptions that a login may make in an hour: each sends something to a stranger's URL.
pub const PUSH_SUBSCRIPTIONS_PER_HOUR: u64 = 60;
/// Octets of a PushSubscription's deviceClientId.
pub const MAX_DEVICE_CLIENT_ID: usize = 255;
/// Octets of a PushSubscription's emailPush.
pub const MAX_EMAIL_PUSH: usize = 16_384;
/// How long a PushSubscription lasts at the most, in milliseconds; RFC 8620, 7.2 wants seven days.
pub const MAX_PUSH_SUBSCRIPTION_MS: i64 = 14 * 86_400_000;
/// Identities of an account.
pub const MAX_IDENTITIES: usize = 1_000;
/// Octets of an Identity's name.
pub const MAX_IDENTITY_NAME: usize = 1_000;
/// Octets of a signature.
pub const MAX_SIGNATURE: usize = 64 * 1024;
/// Addresses in an Identity's replyTo or bcc.
pub const MAX_IDENTITY_ADDRESSES: usize = 100;
/// Octets of the subject of vacation replies.
pub const MAX_VACATION_SUBJECT: usize = 1_000;
/// Octets of each body of vacation replies.
pub const MAX_VACATION_BODY: usize = 256 * 1024;
/// Recipients of one submission.
pub const MAX_RECIPIENTS: usize = 1_000;
/// Seconds by which sending can be delayed.
pub const MAX_DELAYED_SEND: i64 = 30 * 86_400;
