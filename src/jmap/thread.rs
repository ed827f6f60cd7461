//! Thread (RFC 8621, 3).

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Call, MethodResult};
use crate::jmap::limits::MAX_OBJECTS_IN_GET;
use crate::jmap::standard;
use crate::store::db::Conn;
use crate::store::email::read;
use crate::store::error::StoreError;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// The type, for the standard methods.
struct ThreadType;

impl standard::get::Get for ThreadType {
    const TYPE: ObjectType = ObjectType::Thread;
    const PROPERTIES: &'static [&'static str] = &["id", "emailIds"];

    async fn load(
        conn: &mut Conn,
        account: &AccountAccess,
        ids: Option<&[Id]>,
    ) -> Result<Vec<(Id, Map<String, Value>)>, StoreError> {
        let ids = match ids {
            Some(ids) => ids.to_vec(),
            None => read::thread_ids(conn, account.id, MAX_OBJECTS_IN_GET + 1).await?,
        };
        let threads = read::thread_emails(conn, account.id, &ids).await?;
        let object = |emails: &Vec<Id>| Map::from_iter([("emailIds".to_owned(), json!(emails))]);
        Ok(threads.iter().map(|(id, emails)| (*id, object(emails))).collect())
    }
}

/// Thread/get.
pub async fn get(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    standard::get::get::<ThreadType>(call, arguments).await
}

/// Thread/changes.
pub async fn changes(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    let answer = standard::changes::changes(call, arguments, ObjectType::Thread, |id| id.to_string()).await?;
    Ok(answer.into_body())
}
