//! Mailbox (RFC 8621, 2).

mod outcome;
mod query;
mod set;
mod tree;

use serde_json::{Map, Value, json};

pub use self::query::{query, query_changes};
pub use self::set::set;
use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Call, MethodResult};
use crate::jmap::standard;
use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::store::mailbox::{self, Mailbox, changed};
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// The counters, by which a client can tell that nothing else has changed.
const COUNTS: [&str; 4] = ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"];

/// The type, for the standard methods.
struct MailboxType;

impl standard::get::Get for MailboxType {
    const TYPE: ObjectType = ObjectType::Mailbox;
    const PROPERTIES: &'static [&'static str] = &[
        "id",
        "name",
        "parentId",
        "role",
        "sortOrder",
        "totalEmails",
        "unreadEmails",
        "totalThreads",
        "unreadThreads",
        "myRights",
        "isSubscribed",
    ];

    async fn load(
        conn: &mut Conn,
        account: &AccountAccess,
        ids: Option<&[Id]>,
    ) -> Result<Vec<(Id, Map<String, Value>)>, StoreError> {
        let mailboxes = match ids {
            Some(ids) => mailbox::by_ids(conn, account.id, account.viewer(), ids).await?,
            None => mailbox::all(conn, account.id, account.viewer()).await?,
        };
        Ok(mailboxes.iter().map(|mailbox| (mailbox.id, to_json(mailbox, account))).collect())
    }
}

/// The object as clients see it, without its id.
fn to_json(mailbox: &Mailbox, account: &AccountAccess) -> Map<String, Value> {
    let may_change = !account.is_read_only;
    let is_inbox = mailbox.role.as_deref() == Some("inbox");
    let parent = (mailbox.parent_id != Id(0)).then_some(mailbox.parent_id);
    let mut object = Map::new();
    object.insert("name".to_owned(), json!(mailbox.name));
    object.insert("parentId".to_owned(), json!(parent));
    object.insert("role".to_owned(), json!(mailbox.role));
    object.insert("sortOrder".to_owned(), json!(mailbox.sort_order));
    object.insert("totalEmails".to_owned(), json!(mailbox.counts.total_emails));
    object.insert("unreadEmails".to_owned(), json!(mailbox.counts.unread_emails));
    object.insert("totalThreads".to_owned(), json!(mailbox.counts.total_threads));
    object.insert("unreadThreads".to_owned(), json!(mailbox.counts.unread_threads));
    object.insert(
        "myRights".to_owned(),
        json!({
            "mayReadItems": true,
            "mayAddItems": may_change,
            "mayRemoveItems": may_change,
            "maySetSeen": may_change,
            "maySetKeywords": may_change,
            "mayCreateChild": may_change,
            "mayRename": may_change,
            // Mail must have somewhere to arrive.
            "mayDelete": may_change && !is_inbox,
            "maySubmit": may_change,
        }),
    );
    object.insert("isSubscribed".to_owned(), json!(mailbox.is_subscribed));
    object
}

/// Mailbox/get (RFC 8621, 2.1).
pub async fn get(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    standard::get::get::<MailboxType>(call, arguments).await
}

/// Mailbox/changes (RFC 8621, 2.2), which tells when only counters have changed.
pub async fn changes(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    let mut answer =
        standard::changes::changes(call, arguments, ObjectType::Mailbox, |id| id.to_string()).await?;
    let changes = &answer.changes;
    let are_only_counts = !changes.any_property && changes.updated_properties == changed::COUNTS;
    let updated = if are_only_counts && !changes.updated.is_empty() { json!(COUNTS) } else { Value::Null };
    answer.object.insert("updatedProperties".to_owned(), updated);
    Ok(answer.into_body())
}
