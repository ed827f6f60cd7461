//! The capabilities (RFC 8620, 9.4) that this server has and that a request can name.

/// A capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// RFC 8620.
    Core,
    /// RFC 8621: Mailbox, Thread, Email, SearchSnippet.
    Mail,
    /// RFC 8621: Identity, EmailSubmission.
    Submission,
    /// RFC 8621: VacationResponse.
    VacationResponse,
    /// RFC 9425.
    Quota,
    /// RFC 9404.
    Blob,
    /// RFC 8887.
    WebSocket,
    /// RFC 9749.
    WebPushVapid,
    /// draft-ietf-jmap-emailpush.
    EmailPush,
    /// Ours: lists that a WebSocket keeps up to date (docs/clients.md).
    LiveQuery,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 10] = [
        Capability::Core,
        Capability::Mail,
        Capability::Submission,
        Capability::VacationResponse,
        Capability::Quota,
        Capability::Blob,
        Capability::WebSocket,
        Capability::WebPushVapid,
        Capability::EmailPush,
        Capability::LiveQuery,
    ];

    /// Its registered name; ours is a URL of ours (RFC 8620, 2).
    pub fn urn(self) -> &'static str {
        match self {
            Capability::Core => "urn:ietf:params:jmap:core",
            Capability::Mail => "urn:ietf:params:jmap:mail",
            Capability::Submission => "urn:ietf:params:jmap:submission",
            Capability::VacationResponse => "urn:ietf:params:jmap:vacationresponse",
            Capability::Quota => "urn:ietf:params:jmap:quota",
            Capability::Blob => "urn:ietf:params:jmap:blob",
            Capability::WebSocket => "urn:ietf:params:jmap:websocket",
            Capability::WebPushVapid => "urn:ietf:params:jmap:webpush-vapid",
            Capability::EmailPush => "urn:ietf:params:jmap:emailpush",
            Capability::LiveQuery => "https://github.com/postrider/postrider/live-query",
        }
    }

    /// The capability of a name.
    pub fn named(urn: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|capability| capability.urn() == urn)
    }
}

/// Capabilities that clients name and that are not offered here.
///
/// RFC 8620, 3.6.1 lets a server refuse a request that uses what it does not support. But a widely
/// used client library names everything it knows in every request, whatever the session says, and
/// refusing would lock its users out for methods that they never call. So these names are understood
/// and give nothing: their methods stay unknown. Names that stand nowhere are refused.
const NOT_OFFERED: [&str; 11] = [
    "urn:ietf:params:jmap:mdn",
    "urn:ietf:params:jmap:smimeverify",
    "urn:ietf:params:jmap:sieve",
    "urn:ietf:params:jmap:contacts",
    "urn:ietf:params:jmap:contacts:parse",
    "urn:ietf:params:jmap:calendars",
    "urn:ietf:params:jmap:calendars:parse",
    "urn:ietf:params:jmap:principals",
    "urn:ietf:params:jmap:principals:owner",
    "urn:ietf:params:jmap:principals:availability",
    "urn:ietf:params:jmap:tasks",
];

/// Whether a name is that of a capability which other servers have.
pub fn is_not_offered(urn: &str) -> bool {
    NOT_OFFERED.contains(&urn)
}
