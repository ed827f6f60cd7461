//! How events travel: a channel for each topic, and a line of text.
//!
//! ```text
//! PREFIX:a:ACCOUNT   ORIGIN MODSEQ TYPE,TYPE AT  an account has changed; types by their numbers
//! PREFIX:q:QUEUE     ORIGIN LANE                 a queue has work
//! PREFIX:l           ORIGIN LOGIN                a login has changed
//! PREFIX:e           ORIGIN DOMAIN               events of mail were logged
//! PREFIX:beat        ORIGIN up|bye               a process is there, or leaves in order
//! PREFIX:look        ORIGIN look                 events of this process were lost
//! ```

use crate::bus::{Event, Queue, Topic};
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Event),
    /// The sender is there.
    Up,
    /// The sender leaves in order.
    Bye,
    /// Events of the sender were lost.
    Look,
}

/// Where the processes say that they are there.
pub fn beat_channel(prefix: &str) -> String {
    format!("{prefix}:beat")
}

/// Where a process tells that events were lost.
pub fn look_channel(prefix: &str) -> String {
    format!("{prefix}:look")
}

/// The channel of a topic.
pub fn channel(prefix: &str, topic: Topic) -> String {
    match topic {
        Topic::Account(account) => format!("{prefix}:a:{account}"),
        Topic::Queue(queue) => format!("{prefix}:q:{}", queue_name(queue)),
        Topic::Logins => format!("{prefix}:l"),
        Topic::Logs => format!("{prefix}:e"),
    }
}

fn queue_name(queue: Queue) -> &'static str {
    match queue {
        Queue::Incoming => "incoming",
        Queue::Outgoing => "outgoing",
        Queue::Index => "index",
        Queue::Push => "push",
        Queue::Events => "events",
        Queue::Webhooks => "webhooks",
    }
}

/// The channel and the text of an event; `None` for what stays in the process.
pub fn encode(prefix: &str, origin: &str, event: &Event) -> Option<(String, String)> {
    let (topic, text) = match event {
        Event::Changed { account, modseq, types, at } => {
            let types: Vec<String> = types.iter().map(|known| known.number().to_string()).collect();
            (Topic::Account(*account), format!("{origin} {modseq} {} {at}", types.join(",")))
        }
        Event::Queued { queue, lane } => (Topic::Queue(*queue), format!("{origin} {lane}")),
        Event::LoginChanged { login } => (Topic::Logins, format!("{origin} {login}")),
        Event::Logged { domain, accounts } => {
            let accounts: Vec<String> = accounts.iter().map(ToString::to_string).collect();
            (Topic::Logs, format!("{origin} {domain} {}", accounts.join(",")))
        }
        Event::Missed(_) => return None,
    };
    Some((channel(prefix, topic), text))
}

/// Who sent it, and what; `None` for what nobody of ours has sent.
pub fn decode<'t>(prefix: &str, channel: &str, text: &'t str) -> Option<(&'t str, Heard)> {
    let channel = channel.strip_prefix(prefix)?.strip_prefix(':')?;
    let (origin, rest) = text.split_once(' ')?;
    let (kind, name) = channel.split_once(':').unwrap_or((channel, ""));
    let heard = match (kind, name, rest) {
        ("a", account, rest) => {
            let account = AccountId(account.parse::<Id>().ok()?);
            let (modseq, rest) = rest.split_once(' ')?;
            let (types, at) = rest.split_once(' ')?;
            // A type that a newer program has is of no interest here.
            let types = types.split(',').filter_map(|number| ObjectType::of_number(number.parse().ok()?));
            let (modseq, at) = (modseq.parse().ok()?, at.parse().ok()?);
            Heard::Event(Event::Changed { account, modseq, types: types.collect(), at })
        }
        ("q", name, lane) => {
            let known =
                [Queue::Incoming, Queue::Outgoing, Queue::Index, Queue::Push, Queue::Events, Queue::Webhooks];
            let queue = known.into_iter().find(|queue| queue_name(*queue) == name)?;
            Heard::Event(Event::Queued { queue, lane: lane.parse().ok()? })
        }
        ("l", "", login) => Heard::Event(Event::LoginChanged { login: login.parse().ok()? }),
        ("e", "", rest) => {
            // An earlier program names the domain alone.
            let (domain, accounts) = rest.split_once(' ').unwrap_or((rest, ""));
            let accounts = accounts.split(',').filter_map(|account| account.parse().ok().map(AccountId));
            Heard::Event(Event::Logged { domain: domain.into(), accounts: accounts.collect() })
        }
        ("beat", "", "up") => Heard::Up,
        ("beat", "", "bye") => Heard::Bye,
        ("look", "", _) => Heard::Look,
        _ => return None,
    };
    Some((origin, heard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_as_they_went_in() {
        let types = [ObjectType::Email, ObjectType::Thread].into();
        for event in [
            Event::Changed { account: AccountId(Id(7)), modseq: 12, types, at: 34 },
            Event::Changed { account: AccountId(Id(1)), modseq: 1, types: [].into(), at: 0 },
            Event::Queued { queue: Queue::Outgoing, lane: 3 },
            Event::LoginChanged { login: Id(9) },
            Event::Logged { domain: "example.test".into(), accounts: [].into() },
            Event::Logged { domain: "a.test".into(), accounts: [AccountId(Id(7)), AccountId(Id(8))].into() },
            Event::Queued { queue: Queue::Webhooks, lane: 1 },
        ] {
            let (channel, text) = encode("p", "me", &event).expect("it travels");
            assert_eq!(decode("p", &channel, &text), Some(("me", Heard::Event(event))));
            assert_eq!(decode("other", &channel, &text), None);
        }
        assert_eq!(encode("p", "me", &Event::Missed(None)), None);
    }

    #[test]
    fn rubbish_is_passed_over() {
        for (channel, text) in [
            ("p:a:7", "me 1 3"),
            ("p:a:7", "me 1 3 now"),
            ("p:q:none", "me 1"),
            ("p:q:index", "me"),
            ("p:l", "me !"),
            ("p:beat", "me what"),
            ("p", "me up"),
            ("", ""),
        ] {
            assert_eq!(decode("p", channel, text), None, "{channel} {text}");
        }
    }
}
