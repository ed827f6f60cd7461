//! Live queries, ours: a client names a list of Emails and is told what comes into it and what leaves it,
//! with the objects themselves, so that a screen follows a mailbox without asking. docs/clients.md has
//! the messages, as another server could speak them.
//!
//! A list is bounded, so that it can be read anew whenever its account has changed, ten times a second
//! at the most; what is told is the difference. So it always comes to be what a fresh query would give.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::jmap::i_json;
use crate::jmap::limits::{MAX_LIVE_LIMIT, MAX_LIVE_QUERIES};
use crate::types::id::AccountId;
use crate::types::state::State;

const DEFAULT_LIMIT: u64 = 50;
/// Between two readings of a list.
const EVERY: Duration = Duration::from_millis(100);

/// A list that a client wants to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Whose mail it is.
    pub account: AccountId,
    query: Map<String, Value>,
    properties: Value,
}

/// Why a list cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// As the type of a method's error.
    pub kind: String,
    pub description: String,
}

impl Refused {
    fn new(kind: &str, description: impl Into<String>) -> Refused {
        Refused { kind: kind.to_owned(), description: description.into() }
    }

    /// One list too many.
    pub fn too_many() -> Refused {
        Refused::new(
            "limit",
            format!("a connection has {MAX_LIVE_QUERIES} live queries at the most; cancel one"),
        )
    }

    /// There is no room for it now: it is read again soon.
    pub fn busy() -> Refused {
        Refused::new("serverUnavailable", "the server is busy")
    }

    /// The account is none of the caller's.
    pub fn account_not_found() -> Refused {
        Refused::new("accountNotFound", "there is no such account")
    }
}

impl Wanted {
    /// Reads the members of a `LiveQuery` message.
    pub fn read(message: &Value) -> Result<Wanted, Refused> {
        let account = message["accountId"].as_str().and_then(|id| id.parse().ok());
        let account = account.ok_or_else(Refused::account_not_found)?;
        check_filter(&message["filter"])?;
        let sort = &message["sort"];
        if !sort.is_null() && *sort != json!([{ "property": "receivedAt", "isAscending": false }]) {
            return Err(Refused::new("unsupportedSort", "a live list has the newest first"));
        }
        let is_collapsed = match &message["collapseThreads"] {
            Value::Null => false,
            Value::Bool(is_collapsed) => *is_collapsed,
            _ => return Err(Refused::new("invalidArguments", "collapseThreads: a Boolean is wanted")),
        };
        let limit = match &message["limit"] {
            Value::Null => DEFAULT_LIMIT,
            limit => {
                limit.as_u64().filter(|limit| (1..=MAX_LIVE_LIMIT).contains(limit)).ok_or_else(|| {
                    Refused::new(
                        "invalidArguments",
                        format!("limit: a number from 1 to {MAX_LIVE_LIMIT} is wanted"),
                    )
                })?
            }
        };
        let query = json!({
            "accountId": account,
            "filter": message["filter"],
            "sort": [{ "property": "receivedAt", "isAscending": false }],
            "collapseThreads": is_collapsed,
            "limit": limit,
        });
        let Value::Object(query) = query else { return Err(Refused::account_not_found()) };
        Ok(Wanted { account, query, properties: message["properties"].clone() })
    }

    /// The request that reads the list.
    pub fn request(&self) -> Value {
        let ids = json!({ "resultOf": "q", "name": "Email/query", "path": "/ids" });
        let get = json!({ "accountId": self.account, "#ids": ids, "properties": self.properties });
        json!({
            "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
            "methodCalls": [["Email/query", self.query, "q"], ["Email/get", get, "g"]],
        })
    }

    /// The list from the answer to that request.
    pub fn list_of(answer: &str) -> Result<Vec<Value>, Refused> {
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        let responses = answer["methodResponses"].as_array().cloned().unwrap_or_default();
        for response in &responses {
            if response[0] == "error" {
                let text = |name: &str| response[1][name].as_str().unwrap_or_default().to_owned();
                return Err(Refused { kind: text("type"), description: text("description") });
            }
        }
        match responses.into_iter().nth(1) {
            Some(mut response) => match response[1]["list"].take() {
                Value::Array(list) => Ok(list),
                _ => Err(Refused::new("serverFail", "the list could not be read")),
            },
            None => Err(Refused::new("serverFail", "the list could not be read")),
        }
    }
}

/// One mailbox, and of it all mail, unread mail or flagged mail: what can be read at any time as one
/// range of an index.
fn check_filter(filter: &Value) -> Result<(), Refused> {
    let unsupported = || {
        let text = "a live list is of one inMailbox, and may have notKeyword $seen or hasKeyword $flagged";
        Refused::new("unsupportedFilter", text)
    };
    let Value::Object(filter) = filter else { return Err(unsupported()) };
    let is_fine = filter.iter().all(|(name, value)| match name.as_str() {
        "inMailbox" => value.is_string(),
        "notKeyword" => value == "$seen",
        "hasKeyword" => value == "$flagged",
        _ => false,
    });
    if is_fine && filter.contains_key("inMailbox") && filter.len() <= 2 { Ok(()) } else { Err(unsupported()) }
}

/// An Email that the client has, and of what its object was made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    id: String,
    object: blake3::Hash,
}

/// A list that the client sees.
struct Live {
    /// Which of all that were asked for: what was read for one that it has taken the place of is not its own.
    number: u64,
    wanted: Wanted,
    shown: Vec<Shown>,
    /// Whether anything has been told: an empty list is told too.
    is_told: bool,
    /// The state of Email that was there before the list was last read.
    state: Option<State>,
    is_due: bool,
    is_being_read: bool,
    read_at: Option<Instant>,
}

/// A list that is to be read.
pub struct Reading {
    /// As the client calls it.
    pub id: String,
    /// As we do.
    pub number: u64,
    pub wanted: Wanted,
}

/// The live queries of a connection.
#[derive(Default)]
pub struct LiveQueries {
    lists: BTreeMap<String, Live>,
    /// How many were asked for.
    asked: u64,
    /// When the last of those that were cancelled was read.
    cancelled: Option<Instant>,
}

impl LiveQueries {
    /// Adds a list, or puts it in the place of the one with the same id.
    pub fn add(&mut self, id: String, wanted: Wanted) -> Result<(), Refused> {
        if !self.lists.contains_key(&id) && self.lists.len() >= MAX_LIVE_QUERIES {
            return Err(Refused::too_many());
        }
        self.asked += 1;
        let live = Live {
            number: self.asked,
            wanted,
            shown: Vec::new(),
            is_told: false,
            state: None,
            is_due: true,
            is_being_read: false,
            // Who asks again and again has it read no more often.
            read_at: self.lists.get(&id).map_or(self.cancelled, |before| before.read_at),
        };
        self.lists.insert(id, live);
        Ok(())
    }

    /// Forgets a list.
    pub fn remove(&mut self, id: &str) {
        if let Some(live) = self.lists.remove(id) {
            self.cancelled = self.cancelled.max(live.read_at);
        }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// An account has changed; its Emails are in this state now.
    pub fn changed(&mut self, account: AccountId, state: Option<State>) {
        for live in self.lists.values_mut() {
            if live.wanted.account == account && (state.is_none() || live.state != state) {
                live.state = state;
                live.is_due = true;
            }
        }
    }

    /// When the next list is to be read.
    pub fn due_at(&self) -> Option<Instant> {
        let due = self.lists.values().filter(|live| live.is_due && !live.is_being_read);
        due.map(|live| live.read_at.map_or_else(Instant::now, |at| at + EVERY)).min()
    }

    /// The lists to be read now, which count as being read.
    pub fn take_due(&mut self) -> Vec<Reading> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (id, live) in &mut self.lists {
            let has_rested = live.read_at.is_none_or(|at| at + EVERY <= now);
            if live.is_due && !live.is_being_read && has_rested {
                (live.is_due, live.is_being_read, live.read_at) = (false, true, Some(now));
                due.push(Reading { id: id.clone(), number: live.number, wanted: live.wanted.clone() });
            }
        }
        due
    }

    /// A list has been read; the message for the client, if there is anything to tell.
    pub fn read(&mut self, id: &str, number: u64, list: Result<Vec<Value>, Refused>) -> Option<String> {
        // Cancelled, or another list by now.
        let live = self.lists.get_mut(id).filter(|live| live.number == number)?;
        live.is_being_read = false;
        match list {
            // Soon again.
            Err(refused) if refused.kind == "serverUnavailable" => {
                live.is_due = true;
                None
            }
            Err(refused) => {
                self.lists.remove(id);
                Some(error(id, &refused))
            }
            Ok(list) => live.differ(list).map(|mut message| {
                message.insert("@type".to_owned(), json!("LiveQueryChanges"));
                message.insert("id".to_owned(), json!(id));
                i_json::without_noncharacters(Value::Object(message).to_string())
            }),
        }
    }
}

/// The message that a list is shown no more, and why.
pub fn error(id: &str, refused: &Refused) -> String {
    let message = json!({
        "@type": "LiveQueryError", "id": id, "type": refused.kind, "description": refused.description,
    });
    i_json::without_noncharacters(message.to_string())
}

impl Live {
    /// What leads from what the client has to a list: take out `removed`, put in each of `added` at its
    /// index, in their order, and replace each of `updated`.
    fn differ(&mut self, list: Vec<Value>) -> Option<Map<String, Value>> {
        let shown_of = |email: &Value| Shown {
            id: email["id"].as_str().unwrap_or_default().to_owned(),
            object: blake3::hash(email.to_string().as_bytes()),
        };
        let new: Vec<Shown> = list.iter().map(shown_of).collect();
        let kept = kept(&self.shown, &new);
        let removed: Vec<&str> =
            self.shown.iter().map(|shown| shown.id.as_str()).filter(|id| !kept.contains(id)).collect();
        let (mut added, mut updated) = (Vec::new(), Vec::new());
        for (index, (shown, email)) in new.iter().zip(list).enumerate() {
            if !kept.contains(shown.id.as_str()) {
                added.push(json!({ "index": index, "email": email }));
            } else if !self.shown.contains(shown) {
                updated.push(email);
            }
        }
        let is_same = removed.is_empty() && added.is_empty() && updated.is_empty();
        let message = (!is_same || !self.is_told).then(|| {
            let mut message = Map::new();
            message.insert("removed".to_owned(), json!(removed));
            message.insert("added".to_owned(), Value::Array(added));
            message.insert("updated".to_owned(), Value::Array(updated));
            message
        });
        self.shown = new;
        self.is_told = true;
        message
    }
}

/// The Emails of both lists, as far as they stand in one order in both.
fn kept<'a>(old: &'a [Shown], new: &'a [Shown]) -> HashSet<&'a str> {
    let there: HashSet<&str> = new.iter().map(|shown| shown.id.as_str()).collect();
    let before: Vec<&str> =
        old.iter().map(|shown| shown.id.as_str()).filter(|id| there.contains(id)).collect();
    let known: HashSet<&str> = before.iter().copied().collect();
    let after = new.iter().map(|shown| shown.id.as_str()).filter(|id| known.contains(id));
    // Dates of receipt do not change, so that nothing moves; should it, all of it is told anew.
    if after.eq(before.iter().copied()) { known } else { HashSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(more: Value) -> Result<Wanted, Refused> {
        let mut message = json!({
            "accountId": "aaaaaaaaaaaab", "filter": { "inMailbox": "aaaaaaaaaaaac" }, "properties": ["id"],
        });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Wanted::read(&message)
    }

    #[test]
    fn what_can_be_live() {
        for fine in [
            json!({}),
            json!({"filter": {"inMailbox": "a", "notKeyword": "$seen"}}),
            json!({"filter": {"inMailbox": "a", "hasKeyword": "$flagged"}}),
            json!({"limit": 200, "collapseThreads": true}),
            json!({"sort": [{"property": "receivedAt", "isAscending": false}]}),
        ] {
            assert!(wanted(fine.clone()).is_ok(), "{fine}");
        }
        for (wrong, kind) in [
            (json!({"filter": null}), "unsupportedFilter"),
            (json!({"filter": {"notKeyword": "$seen"}}), "unsupportedFilter"),
            (json!({"filter": {"inMailbox": "a", "text": "x"}}), "unsupportedFilter"),
            (json!({"filter": {"inMailbox": "a", "hasKeyword": "red"}}), "unsupportedFilter"),
            (json!({"filter": {"inMailbox": 1}}), "unsupportedFilter"),
            (
                json!({"filter": {"inMailbox": "a", "hasKeyword": "$flagged", "notKeyword": "$seen"}}),
                "unsupportedFilter",
            ),
            (json!({"filter": {"operator": "OR", "conditions": []}}), "unsupportedFilter"),
            (json!({"sort": [{"property": "subject"}]}), "unsupportedSort"),
            (json!({"limit": 0}), "invalidArguments"),
            (json!({"limit": 201}), "invalidArguments"),
            (json!({"collapseThreads": 1}), "invalidArguments"),
            (json!({"accountId": "nobody"}), "accountNotFound"),
        ] {
            assert_eq!(
                wanted(wrong.clone()).map_err(|refused| refused.kind),
                Err(kind.to_owned()),
                "{wrong}"
            );
        }
    }

    fn emails(list: &[(u8, u8)]) -> Vec<Value> {
        let mut seen = HashSet::new();
        let list = list.iter().filter(|(id, _)| seen.insert(*id));
        list.map(|(id, flags)| json!({"id": format!("e{id}"), "flags": flags})).collect()
    }

    /// What a client does with a message.
    fn follow(list: &mut Vec<Value>, message: &Value) {
        let removed: HashSet<&str> =
            message["removed"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        list.retain(|email| !removed.contains(email["id"].as_str().unwrap()));
        for added in message["added"].as_array().unwrap() {
            list.insert(added["index"].as_u64().unwrap() as usize, added["email"].clone());
        }
        for updated in message["updated"].as_array().unwrap() {
            *list.iter_mut().find(|email| email["id"] == updated["id"]).unwrap() = updated.clone();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_for_a_list_that_was_asked_for_anew_is_not_told() {
        let mut queries = LiveQueries::default();
        queries.add("q".to_owned(), wanted(json!({})).unwrap()).unwrap();
        let old = queries.take_due().remove(0);
        // A view that is built anew asks for the same list while the first reading is under way.
        queries.remove("q");
        queries.add("q".to_owned(), wanted(json!({})).unwrap()).unwrap();
        assert!(queries.take_due().is_empty(), "no more often for that");
        tokio::time::advance(EVERY).await;
        let new = queries.take_due().remove(0);
        let told = queries.read("q", new.number, Ok(emails(&[(2, 0)])));
        assert!(told.is_some_and(|told| told.contains("e2")));
        assert_eq!(queries.read("q", old.number, Ok(emails(&[(1, 0)]))), None);
        queries.changed(new.wanted.account, None);
        tokio::time::advance(EVERY).await;
        let again = queries.take_due().remove(0);
        assert_eq!(queries.read("q", again.number, Ok(emails(&[(2, 0)]))), None, "the client has it");
    }

    proptest! {
        #[test]
        fn whoever_follows_the_messages_has_the_list(
            lists in prop::collection::vec(prop::collection::vec((0_u8..12, 0_u8..3), 0..10), 1..12)
        ) {
            let mut queries = LiveQueries::default();
            let wanted = wanted(json!({})).unwrap();
            queries.add("q".to_owned(), wanted.clone()).unwrap();
            let number = queries.take_due()[0].number;
            let mut followed = Vec::new();
            let mut before = None;
            for list in lists {
                let list = emails(&list);
                let message = queries.read("q", number, Ok(list.clone()));
                prop_assert_eq!(message.is_some(), before.as_ref() != Some(&list), "told when it differs");
                if let Some(message) = message {
                    follow(&mut followed, &serde_json::from_str(&message).unwrap());
                }
                prop_assert_eq!(&followed, &list);
                before = Some(list);
            }
        }
    }
}
