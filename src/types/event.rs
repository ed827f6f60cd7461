//! What happens to mail, as the log of a domain tells it to programs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::types::id::Id;

/// What has happened. The numbers are on disk and never change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventKind {
    /// A message was filed into an account.
    Received = 1,
    /// A message was taken for sending.
    Sent = 2,
    /// The server of a recipient has it, or it was filed here.
    Delivered = 3,
    /// A recipient could not be reached; it is tried again.
    Deferred = 4,
    /// It was given up for a recipient.
    Bounced = 5,
    /// A recipient says that it is unwanted.
    Complained = 6,
    /// A recipient is on the list of those that are not tried.
    Suppressed = 7,
    /// It was taken back before it left.
    Canceled = 8,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 8] = [
        EventKind::Received,
        EventKind::Sent,
        EventKind::Delivered,
        EventKind::Deferred,
        EventKind::Bounced,
        EventKind::Complained,
        EventKind::Suppressed,
        EventKind::Canceled,
    ];

    /// The name by which programs know it; it never changes.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Received => "message.received",
            EventKind::Sent => "message.sent",
            EventKind::Delivered => "message.delivered",
            EventKind::Deferred => "message.deferred",
            EventKind::Bounced => "message.bounced",
            EventKind::Complained => "message.complained",
            EventKind::Suppressed => "message.suppressed",
            EventKind::Canceled => "message.canceled",
        }
    }

    /// The number that stands for it on disk.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// The kind of a number.
    pub fn of_number(number: i64) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(name: &str) -> Result<EventKind, String> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
            format!("{name:?} is no type of event; there are {}", known.join(", "))
        })
    }
}

/// A set of kinds: a bit for each, on disk as well.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct EventKinds(i64);

impl EventKinds {
    /// All there are, and those that are still to come.
    pub const ALL: EventKinds = EventKinds(i64::MAX);

    /// Of a list.
    pub fn of(kinds: impl IntoIterator<Item = EventKind>) -> EventKinds {
        EventKinds(kinds.into_iter().fold(0, |bits, kind| bits | 1 << kind.number()))
    }

    /// Whether a kind is among them.
    pub fn has(self, kind: EventKind) -> bool {
        self.0 & (1 << kind.number()) != 0
    }

    /// The number that stands for them on disk.
    pub fn bits(self) -> i64 {
        self.0
    }

    /// The set of a number.
    pub fn of_bits(bits: i64) -> EventKinds {
        EventKinds(bits)
    }

    /// Their names; none for all.
    pub fn names(self) -> Vec<&'static str> {
        if self == EventKinds::ALL {
            return Vec::new();
        }
        EventKind::ALL.into_iter().filter(|kind| self.has(*kind)).map(EventKind::name).collect()
    }
}

impl fmt::Debug for EventKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// What is told of an event; what does not apply is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventData {
    /// The message in the account; it may have been deleted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub message_id: Option<Id>,
    /// Its thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub thread_id: Option<Id>,
    /// The send that it belongs to; absent for what was handed in over SMTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub send_id: Option<Id>,
    /// The id of the message in the queue, the log and its Received fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<String>,
    /// Who it is from: the address in the header of what was received, that of the envelope of what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whom it was sent to, a hundred at the most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// The recipient that the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// What was said of the recipient: the reply of a server in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Whether it was filed into Junk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_junk: bool,
    /// Whether a program has made it: a bounce, a reply of somebody who is away, and the like. Answer none of these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_automatic: bool,
    /// Whether it was a test, which nobody got.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_test: bool,
    /// When it leaves, where that is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub send_at: Option<String>,
    /// The tags of the send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The metadata of the send.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

/// Recipients that an event lists.
pub const MAX_RECIPIENTS_TOLD: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_and_sets_have_bits() {
        for kind in EventKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(EventKind::of_number(kind.number()), Some(kind));
            assert!(EventKinds::ALL.has(kind) && EventKinds::of([kind]).has(kind));
            assert_eq!(EventKinds::of([kind]).names(), [kind.name()]);
        }
        assert!("message.read".parse::<EventKind>().unwrap_err().contains("message.bounced"));
        assert!(!EventKinds::of([EventKind::Sent]).has(EventKind::Bounced));
        assert!(EventKinds::ALL.names().is_empty());
    }

    #[test]
    fn what_does_not_apply_is_absent() {
        assert_eq!(serde_json::to_string(&EventData::default()).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<EventData>("{}").unwrap(), EventData::default());
    }
}
