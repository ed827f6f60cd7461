//! Mailbox/set (RFC 8621, 2.5).

use serde_json::{Map, Value, json};
use unicode_normalization::UnicodeNormalization;

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Call, MethodResult};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits::{MAX_MAILBOX_DEPTH, MAX_MAILBOX_NAME, MAX_MAILBOXES};
use crate::jmap::mailbox::{MailboxType, to_json};
use crate::jmap::standard::patch;
use crate::jmap::standard::set::{self, Changed, Creations, Set, SetRequest};
use crate::store::change::state_of;
use crate::store::email::{counters, delete};
use crate::store::error::StoreError;
use crate::store::mailbox::{self, Counts, Mailbox};
use crate::store::tx::Tx;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// Emails removed in one transaction when a mailbox is destroyed with its mail.
const REMOVED_AT_ONCE: usize = 1_000;

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

/// What the functions need to know.
pub struct Context {
    account: AccountAccess,
    removes_emails: bool,
}

/// Mailbox/set.
pub async fn set(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.writable_account(&mut arguments)?;
    let mut request = SetRequest::read(&mut arguments)?;
    let removes_emails = arguments.boolean("onDestroyRemoveEmails")?;
    arguments.finish()?;
    if removes_emails && !request.destroy.is_empty() {
        empty_large_mailboxes(call, &account, &mut request).await?;
    }
    let context = Context { account: account.clone(), removes_emails };
    set::set::<MailboxType>(call, account.id, request, context).await
}

/// Removes the mail of large mailboxes about to be destroyed by the thousand, so that no
/// transaction holds the account for long; the rest goes with the mailbox itself.
async fn empty_large_mailboxes(
    call: &Call<'_>,
    account: &AccountAccess,
    request: &mut SetRequest,
) -> Result<(), MethodError> {
    let store = &call.jmap.store;
    let mut snapshot = store.read().await?;
    let all = mailbox::all(&mut snapshot, account.id).await?;
    let state = state_of(&mut snapshot, account.id, ObjectType::Mailbox).await?;
    drop(snapshot);
    let ids: Vec<Id> = request.destroy.iter().filter_map(|given| call.resolve_id(given)).collect();
    let large = all.iter().filter(|mailbox| {
        let is_kept = is_inbox(mailbox)
            || all.iter().any(|child| child.parent_id == mailbox.id && !ids.contains(&child.id));
        ids.contains(&mailbox.id) && !is_kept && mailbox.counts.total_emails > REMOVED_AT_ONCE as i64
    });
    for mailbox in large {
        if request.if_in_state.take().is_some_and(|wanted| wanted != state.to_string()) {
            return Err(MethodError::StateMismatch);
        }
        let id = mailbox.id;
        let unit = async move |tx: &mut Tx| remove_emails(tx, id, REMOVED_AT_ONCE).await;
        while store.write(account.id, unit).await? == REMOVED_AT_ONCE {}
    }
    Ok(())
}

/// Takes Emails out of a mailbox, destroying those that are nowhere else; how many.
async fn remove_emails(tx: &mut Tx, id: Id, limit: usize) -> Result<usize, StoreError> {
    delete::remove_from_mailbox(tx, id, limit).await
}

fn is_inbox(mailbox: &Mailbox) -> bool {
    mailbox.role.as_deref() == Some("inbox")
}

impl Set for MailboxType {
    const TYPE: ObjectType = ObjectType::Mailbox;
    type Context = Context;

    async fn create(
        tx: &mut Tx,
        context: &Context,
        creations: &Creations,
        object: &Map<String, Value>,
    ) -> Changed<(Id, Map<String, Value>)> {
        let account = tx.account();
        let all = mailbox::all(tx, account).await?;
        if all.len() >= MAX_MAILBOXES {
            let text = format!("an account has at most {MAX_MAILBOXES} mailboxes");
            return Ok(Err(SetError::new("overQuota").because(text)));
        }
        let mut new = Mailbox {
            id: Id(0),
            parent_id: Id(0),
            name: String::new(),
            role: None,
            sort_order: 0,
            is_subscribed: true,
            counts: Counts::default(),
        };
        if !object.contains_key("name") {
            return Ok(Err(SetError::invalid("name", "a mailbox needs a name")));
        }
        let checked = object
            .iter()
            .try_for_each(|(name, value)| write_property(&mut new, creations, name, value))
            .and_then(|()| check(&new, &all));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let id = mailbox::insert(
            tx,
            &mailbox::NewMailbox {
                parent_id: new.parent_id,
                name: &new.name,
                role: new.role.as_deref(),
                sort_order: new.sort_order,
                is_subscribed: new.is_subscribed,
            },
        )
        .await?;
        if new.role.as_deref() == Some("trash") {
            counters::trash_changed(tx, None, Some(id)).await?;
        }
        // What the client gave is not echoed unless it was changed, such as a name made NFC.
        let mut properties = to_json(&new, &context.account);
        properties.retain(|name, value| object.get(name) != Some(value) && name != "parentId");
        Ok(Ok((id, properties)))
    }

    async fn update(
        tx: &mut Tx,
        context: &Context,
        creations: &Creations,
        id: Id,
        patch: &Map<String, Value>,
    ) -> Changed<Option<Map<String, Value>>> {
        let account = tx.account();
        let all = mailbox::all(tx, account).await?;
        let Some(old) = all.iter().find(|mailbox| mailbox.id == id) else {
            return Ok(Err(SetError::not_found()));
        };
        let mut current = to_json(old, &context.account);
        current.insert("id".to_owned(), json!(id));
        let mut new = old.clone();
        let patched = patch::apply(&current, patch).and_then(|patched| {
            for (name, value) in patched.iter().filter(|(name, value)| current.get(*name) != Some(value)) {
                write_property(&mut new, creations, name, value)?;
            }
            check(&new, &all)
        });
        if let Err(error) = patched {
            return Ok(Err(error));
        }
        if new == *old {
            return Ok(Ok(None));
        }
        mailbox::update(tx, &new).await?;
        if new.role != old.role {
            let is_trash = |mailbox: &Mailbox| mailbox.role.as_deref() == Some("trash");
            if is_trash(old) || is_trash(&new) {
                let (before, after) = (is_trash(old).then_some(id), is_trash(&new).then_some(id));
                counters::trash_changed(tx, before, after).await?;
            }
        }
        let renamed = patch.get("name").is_some_and(|given| *given != json!(new.name));
        Ok(Ok(renamed.then(|| Map::from_iter([("name".to_owned(), json!(new.name))]))))
    }

    async fn destroy(tx: &mut Tx, context: &Context, id: Id) -> Changed<()> {
        let account = tx.account();
        let all = mailbox::all(tx, account).await?;
        let Some(mailbox) = all.iter().find(|mailbox| mailbox.id == id) else {
            return Ok(Err(SetError::not_found()));
        };
        if is_inbox(mailbox) {
            return Ok(Err(
                SetError::new("forbidden").because("the inbox cannot be destroyed: mail arrives in it")
            ));
        }
        if all.iter().any(|child| child.parent_id == id) {
            return Ok(Err(SetError::new("mailboxHasChild")));
        }
        if mailbox.counts.total_emails > 0 {
            if !context.removes_emails {
                return Ok(Err(SetError::new("mailboxHasEmail")));
            }
            while remove_emails(tx, id, REMOVED_AT_ONCE).await? == REMOVED_AT_ONCE {}
        }
        if mailbox.role.as_deref() == Some("trash") {
            counters::trash_changed(tx, Some(id), None).await?;
        }
        mailbox::delete(tx, id).await?;
        Ok(Ok(()))
    }

    /// Children before their parents, so that a tree can be destroyed in one call.
    async fn destroy_order(
        tx: &mut Tx,
        mut ids: Vec<(String, Option<Id>)>,
    ) -> Result<Vec<(String, Option<Id>)>, StoreError> {
        let account = tx.account();
        let all = mailbox::all(tx, account).await?;
        ids.sort_by_key(|(_, id)| std::cmp::Reverse(id.map_or(0, |id| depth(&all, id))));
        Ok(ids)
    }
}

/// How many mailboxes are above this one; as deep as can be when they form a circle.
fn depth(all: &[Mailbox], id: Id) -> usize {
    let parent = |id: &Id| all.iter().find(|mailbox| mailbox.id == *id).map(|mailbox| mailbox.parent_id);
    std::iter::successors(Some(id), parent).take_while(|id| *id != Id(0)).take(MAX_MAILBOX_DEPTH + 2).count()
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

/// Whether the mailbox may stand among all the others.
fn check(new: &Mailbox, all: &[Mailbox]) -> Result<(), SetError> {
    let has_control = new.name.chars().any(char::is_control);
    if new.name.trim().is_empty() || new.name.len() > MAX_MAILBOX_NAME || has_control {
        let text = format!("a name has 1 to {MAX_MAILBOX_NAME} octets and no control characters");
        return Err(SetError::invalid("name", text));
    }
    let mut others = all.iter().filter(|other| other.id != new.id);
    if new.parent_id != Id(0) {
        if !all.iter().any(|other| other.id == new.parent_id) {
            return Err(SetError::invalid("parentId", "there is no such mailbox"));
        }
        let parent = |id: &Id| all.iter().find(|mailbox| mailbox.id == *id).map(|mailbox| mailbox.parent_id);
        let mut above = std::iter::successors(Some(new.parent_id), parent).take_while(|id| *id != Id(0));
        if new.id != Id(0) && above.by_ref().take(MAX_MAILBOX_DEPTH).any(|id| id == new.id) {
            return Err(SetError::invalid("parentId", "a mailbox cannot be inside itself"));
        }
        if depth(all, new.parent_id) >= MAX_MAILBOX_DEPTH {
            let text = format!("mailboxes nest at most {MAX_MAILBOX_DEPTH} levels deep");
            return Err(SetError::invalid("parentId", text));
        }
    }
    let was_inbox = all.iter().any(|old| old.id == new.id && is_inbox(old));
    if was_inbox && !is_inbox(new) {
        return Err(SetError::invalid(
            "role",
            "mail arrives in the mailbox with the role inbox; it stays there",
        ));
    }
    if let Some(existing) =
        others.clone().find(|other| other.parent_id == new.parent_id && other.name == new.name)
    {
        return Err(SetError::new("alreadyExists")
            .because("a mailbox of this name is there already")
            .with("existingId", json!(existing.id)));
    }
    if new.role.is_some() && others.any(|other| other.role == new.role) {
        return Err(SetError::invalid("role", "another mailbox has this role"));
    }
    Ok(())
}
