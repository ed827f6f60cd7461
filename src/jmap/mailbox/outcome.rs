//! What a Mailbox/set comes to, worked out in memory before anything is written.
//!
//! RFC 8620, 5.3: a call whose final state is valid is allowed, whatever stands between, such as two
//! mailboxes that change names or hand on a role. So the whole is tried first; only when that is not
//! valid is each change taken or refused by itself, in order.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use unicode_normalization::UnicodeNormalization;

use crate::jmap::call::AccountAccess;
use crate::jmap::error::SetError;
use crate::jmap::limits::MAX_MAILBOXES;
use crate::jmap::mailbox::to_json;
use crate::jmap::mailbox::tree::{Tree, check_name, is_inbox};
use crate::jmap::standard::patch;
use crate::jmap::standard::set::{Creations, SetRequest, creation_order};
use crate::store::mailbox::{Counts, Mailbox};
use crate::types::id::Id;

/// Roles of the IANA registry "IMAP Mailbox Name Attributes" that a client may give.
const ROLES: [&str; 13] = [
    "all",
    "archive",
    "drafts",
    "flagged",
    "important",
    "inbox",
    "junk",
    "memos",
    "scheduled",
    "sent",
    "snoozed",
    "subscribed",
    "trash",
];

/// The ids of mailboxes to be made, until they have one of their own: from here downwards.
const FIRST_PROVISIONAL: i64 = i64::MAX;

/// What a call asks for, and of whom.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Whose mailboxes.
    pub account: &'a AccountAccess,
    /// Creations, updates, destructions.
    pub request: &'a SetRequest,
    /// Whether mailboxes are destroyed with their mail.
    pub removes_emails: bool,
    /// What earlier calls have made.
    pub creations: &'a Creations,
}

/// A mailbox before and after.
#[derive(Debug, PartialEq)]
pub struct Change {
    /// As it is stored. Of a mailbox made in the same call: as that has left it.
    pub before: Mailbox,
    /// As it shall be.
    pub after: Mailbox,
}

/// The fate of each object of a call. Mailboxes to be made have provisional ids.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By creation id, parents first.
    pub created: Vec<(String, Result<Mailbox, SetError>)>,
    /// By id as given.
    pub updated: Vec<(String, Result<Change, SetError>)>,
    /// By shown id, children first.
    pub destroyed: Vec<(String, Result<Mailbox, SetError>)>,
    /// The mailbox with the role trash in the end.
    pub trash: Option<Id>,
}

impl Outcome {
    /// Works it out.
    pub fn of(all: &[Mailbox], asked: Asked<'_>) -> Outcome {
        let whole = Work::new(all, asked, false).run();
        whole.unwrap_or_else(|| Work::new(all, asked, true).run().unwrap_or_default())
    }
}

/// Whether an id stands for a mailbox that is yet to be made.
pub fn is_provisional(id: Id) -> bool {
    id.0 > FIRST_PROVISIONAL - MAX_MAILBOXES as i64 * 2
}

struct Work<'a> {
    asked: Asked<'a>,
    tree: Tree,
    creations: Creations,
    /// Whether each change must be right by itself, rather than all of them together.
    one_by_one: bool,
    outcome: Outcome,
}

impl<'a> Work<'a> {
    fn new(all: &[Mailbox], asked: Asked<'a>, one_by_one: bool) -> Work<'a> {
        let creations = asked.creations.clone();
        Work { asked, tree: Tree::of(all), creations, one_by_one, outcome: Outcome::default() }
    }

    /// `None` when the whole was to be right and is not.
    fn run(mut self) -> Option<Outcome> {
        let request = self.asked.request;
        for (place, (key, object)) in creation_order(&request.create).into_iter().enumerate() {
            let id = Id(FIRST_PROVISIONAL - place as i64);
            let made = self.create(id, object);
            if made.is_err() && !self.one_by_one {
                return None;
            }
            if made.is_ok() {
                self.creations.0.insert(key.clone(), id.to_string());
            }
            self.outcome.created.push((key.clone(), made));
        }
        let destroy: Vec<(String, Option<Id>)> = request
            .destroy
            .iter()
            .map(|given| {
                (self.creations.shown(given).unwrap_or(given).to_owned(), self.creations.resolve(given))
            })
            .collect();
        let to_destroy: HashSet<Id> = destroy.iter().filter_map(|(_, id)| *id).collect();
        for (given, object) in &request.update {
            let changed = match self.creations.resolve(given) {
                Some(id) if to_destroy.contains(&id) => Err(SetError::new("willDestroy")),
                Some(id) => self.update(id, object),
                None => Err(SetError::not_found()),
            };
            if changed.is_err() && !self.one_by_one {
                return None;
            }
            self.outcome.updated.push((given.clone(), changed));
        }
        // Children before their parents, so that a tree can be destroyed in one call.
        let mut seen = HashSet::new();
        let mut destroy: Vec<_> =
            destroy.into_iter().filter(|(shown, _)| seen.insert(shown.clone())).collect();
        destroy.sort_by_key(|(_, id)| std::cmp::Reverse(id.map_or(0, |id| self.tree.depth(id))));
        for (shown, id) in destroy {
            let destroyed = id.ok_or_else(SetError::not_found).and_then(|id| self.destroy(id));
            if destroyed.is_err() && !self.one_by_one {
                return None;
            }
            self.outcome.destroyed.push((shown, destroyed));
        }
        if !self.one_by_one && !self.tree.is_valid() {
            return None;
        }
        self.outcome.trash = self.tree.by_role("trash");
        Some(self.outcome)
    }

    fn create(&mut self, id: Id, object: &Map<String, Value>) -> Result<Mailbox, SetError> {
        if self.tree.is_full() && self.one_by_one {
            let text = format!("an account has at most {MAX_MAILBOXES} mailboxes");
            return Err(SetError::new("overQuota").because(text));
        }
        if !object.contains_key("name") {
            return Err(SetError::invalid("name", "a mailbox needs a name"));
        }
        let mut new = Mailbox {
            id,
            parent_id: Id(0),
            name: String::new(),
            role: None,
            sort_order: 0,
            is_subscribed: true,
            counts: Counts::default(),
        };
        for (name, value) in object {
            write_property(&mut new, &self.creations, name, value)?;
        }
        self.put(&new)?;
        Ok(new)
    }

    fn update(&mut self, id: Id, object: &Map<String, Value>) -> Result<Change, SetError> {
        let before = self.tree.get(id).cloned().ok_or_else(SetError::not_found)?;
        let mut current = to_json(&before, self.asked.account);
        current.insert("id".to_owned(), json!(id));
        let mut after = before.clone();
        let patched = patch::apply(&current, object)?;
        for (name, value) in patched.iter().filter(|(name, value)| current.get(*name) != Some(value)) {
            write_property(&mut after, &self.creations, name, value)?;
        }
        if is_inbox(&before) && !is_inbox(&after) {
            let text = "mail arrives in the mailbox with the role inbox; it stays there";
            return Err(SetError::invalid("role", text));
        }
        self.put(&after)?;
        Ok(Change { before, after })
    }

    fn put(&mut self, mailbox: &Mailbox) -> Result<(), SetError> {
        if self.one_by_one { self.tree.check(mailbox) } else { check_name(&mailbox.name) }?;
        self.tree.put(mailbox.clone());
        Ok(())
    }

    fn destroy(&mut self, id: Id) -> Result<Mailbox, SetError> {
        let mailbox = self.tree.get(id).ok_or_else(SetError::not_found)?;
        if is_inbox(mailbox) {
            let text = "the inbox cannot be destroyed: mail arrives in it";
            return Err(SetError::new("forbidden").because(text));
        }
        if self.tree.has_children(id) {
            return Err(SetError::new("mailboxHasChild"));
        }
        if mailbox.counts.total_emails > 0 && !self.asked.removes_emails {
            return Err(SetError::new("mailboxHasEmail"));
        }
        self.tree.take(id).ok_or_else(SetError::not_found)
    }
}

fn write_property(
    mailbox: &mut Mailbox,
    creations: &Creations,
    name: &str,
    value: &Value,
) -> Result<(), SetError> {
    match (name, value) {
        ("name", Value::String(text)) => mailbox.name = text.nfc().collect(),
        ("parentId", Value::Null) => mailbox.parent_id = Id(0),
        ("parentId", Value::String(given)) => {
            let id = creations.resolve(given);
            mailbox.parent_id =
                id.ok_or_else(|| SetError::invalid("parentId", "there is no such mailbox"))?;
        }
        ("role", Value::Null) => mailbox.role = None,
        ("role", Value::String(role)) => {
            if !ROLES.contains(&role.as_str()) {
                return Err(SetError::invalid("role", "a role is one of the IANA registry, in lower case"));
            }
            mailbox.role = Some(role.clone());
        }
        ("sortOrder", Value::Null) => mailbox.sort_order = 0,
        ("sortOrder", Value::Number(number)) => {
            let order = number.as_i64().filter(|order| (0..1 << 31).contains(order));
            mailbox.sort_order =
                order.ok_or_else(|| SetError::invalid("sortOrder", "a number from 0 to 2^31-1 is wanted"))?;
        }
        ("isSubscribed", Value::Null) => mailbox.is_subscribed = true,
        ("isSubscribed", Value::Bool(value)) => mailbox.is_subscribed = *value,
        ("name" | "parentId" | "role" | "sortOrder" | "isSubscribed", _) => {
            return Err(SetError::invalid(name, "the value has the wrong type"));
        }
        _ => return Err(SetError::invalid(name, "a client cannot set this property")),
    }
    Ok(())
}
