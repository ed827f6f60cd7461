//! What a message travels with beside its content: sender and recipients, and what SMTP extensions
//! say of them. Queue rows keep it as JSON, so fields are only ever added, with a default.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::id::AccountId;

/// Recipients that one incoming row may have; more are split into rows of one message.
pub const MAX_INCOMING_RECIPIENTS: usize = 100;

/// What a DSN about a message contains of it (RFC 3461, 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DsnReturn {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// The envelope of a message that has been accepted and is to be filed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IncomingEnvelope {
    /// The reverse-path as given; empty for the null sender.
    pub mail_from: String,
    /// At most `MAX_INCOMING_RECIPIENTS`.
    pub recipients: Vec<IncomingRecipient>,
    /// When it was accepted, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// Who brought it; `None` for a message made on this server.
    pub remote_ip: Option<IpAddr>,
    /// The name with which the peer greeted.
    pub helo: String,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// The name of the login that sent it, when one did.
    pub login: Option<String>,
    /// ENVID (RFC 3461, 4.4), as given.
    pub env_id: Option<String>,
    /// RET (RFC 3461, 4.3).
    pub ret: Option<DsnReturn>,
    /// Whether the SMTPUTF8 parameter was given (RFC 6531, 3.4).
    pub smtputf8: bool,
    /// Names this delivery for ever: an account files it once, however often it is tried.
    pub delivery_id: String,
}

/// A recipient of a message that is to be filed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IncomingRecipient {
    /// The forward-path as given.
    pub address: String,
    /// The accounts to which the address led when it was accepted.
    pub accounts: Vec<AccountId>,
    /// NOTIFY (RFC 3461, 4.1), as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// ORCPT (RFC 3461, 4.2), as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
}

/// The envelope of a message that is to be sent, without its recipients.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutgoingEnvelope {
    /// The reverse-path; empty for the null sender.
    pub mail_from: String,
    /// ENVID (RFC 3461, 4.4).
    pub env_id: Option<String>,
    /// RET (RFC 3461, 4.3).
    pub ret: Option<DsnReturn>,
    /// Whether an address or a header needs SMTPUTF8 (RFC 6531, 3.4).
    pub smtputf8: bool,
    /// Whether the content has octets over 127 (RFC 6152).
    pub body_8bit: bool,
    /// Names this delivery for ever, also when it ends on this server.
    pub delivery_id: String,
}

/// How far the delivery to a recipient has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientStatus {
    /// To be tried (again).
    Pending,
    /// The next host has taken it.
    Delivered,
    /// Given up.
    Failed,
}

/// A recipient of a message that is to be sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutgoingRecipient {
    /// The forward-path.
    pub address: String,
    /// NOTIFY (RFC 3461, 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// ORCPT (RFC 3461, 4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
    /// How far it has come.
    pub status: RecipientStatus,
    /// The last reply about it, or why there was none; empty before the first try.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_reply: String,
    /// The host that gave it (RFC 3464, 2.3.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_host: Option<String>,
    /// Whether the sender has been told of a delay.
    #[serde(default)]
    pub is_delay_told: bool,
    /// When it was first tried, in milliseconds since 1970: the time for which delivery is tried
    /// counts from here, since a message may have been held before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_tried_ms: Option<i64>,
}

impl OutgoingRecipient {
    /// A recipient that has not been tried.
    pub fn new(address: String) -> OutgoingRecipient {
        OutgoingRecipient {
            address,
            notify: None,
            orcpt: None,
            status: RecipientStatus::Pending,
            last_reply: String::new(),
            last_host: None,
            is_delay_told: false,
            first_tried_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::id::Id;

    #[test]
    fn envelopes_read_back() {
        let incoming = IncomingEnvelope {
            mail_from: String::new(),
            recipients: vec![IncomingRecipient {
                address: "Bob@example.test".to_owned(),
                accounts: vec![AccountId(Id(5))],
                notify: Some("NEVER".to_owned()),
                orcpt: None,
            }],
            received_at_ms: 1,
            remote_ip: Some(IpAddr::from([127, 0, 0, 1])),
            helo: "peer".to_owned(),
            is_tls: true,
            login: None,
            env_id: None,
            ret: Some(DsnReturn::Headers),
            smtputf8: false,
            delivery_id: "d".to_owned(),
        };
        let text = serde_json::to_string(&incoming).unwrap();
        assert_eq!(serde_json::from_str::<IncomingEnvelope>(&text).unwrap(), incoming);
        let outgoing = OutgoingRecipient::new("x@y.test".to_owned());
        let text = serde_json::to_string(&outgoing).unwrap();
        assert_eq!(serde_json::from_str::<OutgoingRecipient>(&text).unwrap(), outgoing);
        assert_eq!(text, r#"{"address":"x@y.test","status":"pending","is_delay_told":false}"#);
    }
}
