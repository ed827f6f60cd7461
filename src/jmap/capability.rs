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
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 6] = [
        Capability::Core,
        Capability::Mail,
        Capability::Submission,
        Capability::VacationResponse,
        Capability::Quota,
        Capability::Blob,
    ];

    /// Its registered name.
    pub fn urn(self) -> &'static str {
        match self {
            Capability::Core => "urn:ietf:params:jmap:core",
            Capability::Mail => "urn:ietf:params:jmap:mail",
            Capability::Submission => "urn:ietf:params:jmap:submission",
            Capability::VacationResponse => "urn:ietf:params:jmap:vacationresponse",
            Capability::Quota => "urn:ietf:params:jmap:quota",
            Capability::Blob => "urn:ietf:params:jmap:blob",
        }
    }

    /// The capability of a name.
    pub fn named(urn: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|capability| capability.urn() == urn)
    }
}
