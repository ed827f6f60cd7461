//! The mailboxes of an account while a /set changes them, in memory: what may stand beside what
//! (RFC 8621, 2).

use std::collections::HashMap;

use serde_json::json;

use crate::jmap::error::SetError;
use crate::jmap::limits::{MAX_MAILBOX_DEPTH, MAX_MAILBOX_NAME, MAX_MAILBOXES};
use crate::store::mailbox::Mailbox;
use crate::types::id::Id;

/// All mailboxes. It may hold what is not allowed; `check` and `is_valid` tell.
#[derive(Debug, Default)]
pub struct Tree {
    mailboxes: HashMap<Id, Mailbox>,
    /// By parent and name: more than one only while the whole is not valid.
    names: HashMap<(Id, String), Vec<Id>>,
    roles: HashMap<String, Vec<Id>>,
    children: HashMap<Id, Vec<Id>>,
}

/// Whether mail arrives in the mailbox.
pub fn is_inbox(mailbox: &Mailbox) -> bool {
    mailbox.role.as_deref() == Some("inbox")
}

impl Tree {
    /// Of these mailboxes.
    pub fn of(mailboxes: &[Mailbox]) -> Tree {
        let mut tree = Tree::default();
        mailboxes.iter().for_each(|mailbox| tree.put(mailbox.clone()));
        tree
    }

    /// The mailbox of an id.
    pub fn get(&self, id: Id) -> Option<&Mailbox> {
        self.mailboxes.get(&id)
    }

    /// The mailbox of a role.
    pub fn by_role(&self, role: &str) -> Option<Id> {
        self.roles.get(role)?.first().copied()
    }

    /// Whether there are as many as there may be.
    pub fn is_full(&self) -> bool {
        self.mailboxes.len() >= MAX_MAILBOXES
    }

    /// Whether a mailbox has others inside.
    pub fn has_children(&self, id: Id) -> bool {
        self.children.get(&id).is_some_and(|children| !children.is_empty())
    }

    /// Adds a mailbox, in the place of the one that had its id.
    pub fn put(&mut self, mailbox: Mailbox) {
        self.take(mailbox.id);
        let id = mailbox.id;
        self.names.entry((mailbox.parent_id, mailbox.name.clone())).or_default().push(id);
        if let Some(role) = &mailbox.role {
            self.roles.entry(role.clone()).or_default().push(id);
        }
        self.children.entry(mailbox.parent_id).or_default().push(id);
        self.mailboxes.insert(id, mailbox);
    }

    /// Removes a mailbox.
    pub fn take(&mut self, id: Id) -> Option<Mailbox> {
        let mailbox = self.mailboxes.remove(&id)?;
        let forget = |ids: Option<&mut Vec<Id>>| {
            if let Some(ids) = ids {
                ids.retain(|known| *known != id);
            }
        };
        forget(self.names.get_mut(&(mailbox.parent_id, mailbox.name.clone())));
        forget(mailbox.role.as_ref().and_then(|role| self.roles.get_mut(role)));
        forget(self.children.get_mut(&mailbox.parent_id));
        Some(mailbox)
    }

    /// Whether a mailbox may stand among the others as it is, in the place of the one that has its
    /// id.
    pub fn check(&self, new: &Mailbox) -> Result<(), SetError> {
        check_name(&new.name)?;
        if new.parent_id != Id(0) {
            if !self.mailboxes.contains_key(&new.parent_id) {
                return Err(SetError::invalid("parentId", "there is no such mailbox"));
            }
            let Some(depth) = self.depth_without(new.parent_id, new.id) else {
                return Err(SetError::invalid("parentId", "a mailbox cannot be inside itself"));
            };
            if depth + self.height(new.id) > MAX_MAILBOX_DEPTH {
                let text = format!("mailboxes nest at most {MAX_MAILBOX_DEPTH} levels deep");
                return Err(SetError::invalid("parentId", text));
            }
        }
        let other = |ids: Option<&Vec<Id>>| ids.and_then(|ids| ids.iter().find(|id| **id != new.id).copied());
        if let Some(existing) = other(self.names.get(&(new.parent_id, new.name.clone()))) {
            return Err(SetError::new("alreadyExists")
                .because("a mailbox of this name is there already")
                .with("existingId", json!(existing)));
        }
        if new.role.as_ref().and_then(|role| other(self.roles.get(role))).is_some() {
            return Err(SetError::invalid("role", "another mailbox has this role"));
        }
        Ok(())
    }

    /// Whether all of it is as it must be: what one change alone would break, another may mend.
    pub fn is_valid(&self) -> bool {
        self.roles.values().all(|ids| ids.len() <= 1)
            && self.names.values().all(|ids| ids.len() <= 1)
            && self.mailboxes.len() <= MAX_MAILBOXES
            // From the top, every mailbox is reached: no parent is missing, none is inside itself.
            && self.reached(Id(0), MAX_MAILBOX_DEPTH) == self.mailboxes.len()
    }

    /// How many mailboxes are below one, at most so many levels deep.
    fn reached(&self, from: Id, most: usize) -> usize {
        let mut level = vec![from];
        let mut count = 0;
        for _ in 0..most {
            level = level.iter().filter_map(|id| self.children.get(id)).flatten().copied().collect();
            count += level.len();
        }
        count
    }

    /// Levels from a mailbox down, itself included; 1 for one that is not there yet.
    fn height(&self, id: Id) -> usize {
        let mut level = vec![id];
        let mut height = 0;
        while !level.is_empty() && height <= MAX_MAILBOX_DEPTH {
            height += 1;
            level = level.iter().filter_map(|id| self.children.get(id)).flatten().copied().collect();
        }
        height
    }

    /// Levels from the top down to a mailbox, itself included; `None` when `without` is above it.
    fn depth_without(&self, id: Id, without: Id) -> Option<usize> {
        let parent = |id: &Id| self.mailboxes.get(id).map(|mailbox| mailbox.parent_id);
        let above = std::iter::successors(Some(id), parent).take_while(|id| *id != Id(0));
        let above: Vec<Id> = above.take(MAX_MAILBOX_DEPTH + 1).collect();
        (!above.contains(&without)).then_some(above.len())
    }

    /// Levels from the top down to a mailbox, itself included.
    pub fn depth(&self, id: Id) -> usize {
        self.depth_without(id, Id(0)).unwrap_or_default()
    }
}

/// Whether a mailbox may have the name.
pub fn check_name(name: &str) -> Result<(), SetError> {
    let has_control = name.chars().any(char::is_control);
    if name.trim().is_empty() || name.len() > MAX_MAILBOX_NAME || has_control {
        let text = format!("a name has 1 to {MAX_MAILBOX_NAME} octets and no control characters");
        return Err(SetError::invalid("name", text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mailbox::Counts;

    fn mailbox(id: i64, parent: i64) -> Mailbox {
        Mailbox {
            id: Id(id),
            parent_id: Id(parent),
            name: format!("m{id}"),
            role: None,
            sort_order: 0,
            is_subscribed: true,
            counts: Counts::default(),
        }
    }

    #[test]
    fn depth_counts_what_is_below_as_well() {
        let most = MAX_MAILBOX_DEPTH as i64;
        let mut tree = Tree::of(&(1..most).map(|id| mailbox(id, id - 1)).collect::<Vec<_>>());
        assert!(tree.is_valid());
        assert_eq!(tree.check(&mailbox(100, most - 1)), Ok(()));
        tree.put(mailbox(100, 0));
        tree.put(mailbox(101, 100));
        // With its child, mailbox 100 would reach one level too deep.
        let error = tree.check(&mailbox(100, most - 1)).unwrap_err();
        assert_eq!(error.properties, ["parentId"]);
        assert_eq!(tree.check(&mailbox(100, most - 2)), Ok(()));
        tree.put(mailbox(100, most - 1));
        assert!(!tree.is_valid());
    }

    #[test]
    fn circles_and_lost_parents_are_not_valid() {
        let mut tree = Tree::of(&[mailbox(1, 0), mailbox(2, 1)]);
        assert!(tree.check(&mailbox(1, 2)).is_err());
        assert!(tree.check(&mailbox(1, 1)).is_err());
        assert!(tree.check(&mailbox(3, 9)).is_err());
        tree.put(mailbox(1, 2));
        assert!(!tree.is_valid());
        tree.put(mailbox(1, 0));
        assert!(tree.is_valid());
        tree.take(Id(1));
        assert!(!tree.is_valid());
    }
}
