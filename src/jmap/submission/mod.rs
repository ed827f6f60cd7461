//! EmailSubmission (RFC 8621, 7): sending.
//!
//! `create` makes a submission ready outside the transaction: the message as it will leave
//! (`message`) and its envelope (`envelope`), all checks done. `set` stores the record and queues the
//! deliveries, and runs the implicit Email/set, in one transaction; `send` makes the Email too.

pub mod create;
mod envelope;
mod message;
pub mod query;
pub mod send;
pub mod set;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Call, MethodResult};
use crate::jmap::limits::{MAX_DELAYED_SEND, MAX_OBJECTS_IN_GET};
use crate::jmap::standard;
use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::store::submission::{self, Submission};
use crate::types::date::utc_date;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// The type, for the standard methods.
struct SubmissionType;

impl standard::get::Get for SubmissionType {
    const TYPE: ObjectType = ObjectType::EmailSubmission;
    const PROPERTIES: &'static [&'static str] = &[
        "id",
        "identityId",
        "emailId",
        "threadId",
        "envelope",
        "sendAt",
        "undoStatus",
        "deliveryStatus",
        "dsnBlobIds",
        "mdnBlobIds",
    ];

    async fn load(
        conn: &mut Conn,
        account: &AccountAccess,
        ids: Option<&[Id]>,
    ) -> Result<Vec<(Id, Map<String, Value>)>, StoreError> {
        let submissions = match ids {
            Some(ids) => submission::by_ids(conn, account.id, ids).await?,
            None => submission::newest(conn, account.id, MAX_OBJECTS_IN_GET + 1).await?,
        };
        Ok(submissions.iter().map(|submission| (submission.id, to_json(submission))).collect())
    }
}

/// The object as clients see it, without its id.
fn to_json(submission: &Submission) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("identityId".to_owned(), json!(submission.identity_id));
    object.insert("emailId".to_owned(), json!(submission.email_id));
    object.insert("threadId".to_owned(), json!(submission.thread_id));
    object.insert("envelope".to_owned(), submission.envelope.clone());
    object.insert("sendAt".to_owned(), json!(utc_date(submission.send_at)));
    object.insert("undoStatus".to_owned(), json!(submission.undo_status.as_str()));
    object.insert("deliveryStatus".to_owned(), json!(submission.delivery_status));
    object.insert("dsnBlobIds".to_owned(), json!(submission.dsn_blob_ids));
    object.insert("mdnBlobIds".to_owned(), json!(submission.mdn_blob_ids));
    object
}

/// EmailSubmission/get (RFC 8621, 7.1).
pub async fn get(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    standard::get::get::<SubmissionType>(call, arguments).await
}

/// EmailSubmission/changes (RFC 8621, 7.2).
pub async fn changes(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    let answer =
        standard::changes::changes(call, arguments, ObjectType::EmailSubmission, |id| id.to_string()).await?;
    Ok(answer.into_body())
}

/// What the session says of `urn:ietf:params:jmap:submission` for an account (RFC 8621, 1.3.2);
/// `max_message` in octets.
pub fn account_capability(max_message: usize) -> Value {
    json!({
        "maxDelayedSend": MAX_DELAYED_SEND,
        "submissionExtensions": {
            // RFC 4865, 3. The latest date is left out: it would change with every session.
            "FUTURERELEASE": [MAX_DELAYED_SEND.to_string()],
            "DSN": [],
            "SIZE": [max_message.to_string()],
            "8BITMIME": [],
            "SMTPUTF8": [],
        },
    })
}
