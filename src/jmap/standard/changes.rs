//! Foo/changes (RFC 8620, 5.2).

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call};
use crate::jmap::error::MethodError;
use crate::jmap::limits::MAX_CHANGES;
use crate::store::change::{Changes, ChangesSince, changes_since};
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// The answer, and the changes that it was made of for types that add to it.
pub struct Answer {
    /// The answer so far.
    pub object: Map<String, Value>,
    /// What has changed.
    pub changes: Changes,
}

impl Answer {
    /// As the method's result.
    pub fn into_body(self) -> Body {
        Body::Json(Value::Object(self.object))
    }
}

/// The method for a type whose ids are shown by `show_id`.
pub async fn changes(
    call: &mut Call<'_>,
    mut arguments: Arguments,
    object_type: ObjectType,
    show_id: fn(Id) -> String,
) -> Result<Answer, MethodError> {
    let account = call.account(&mut arguments)?;
    let since_text = arguments.required_string("sinceState")?;
    let max_changes = arguments.integer("maxChanges")?;
    arguments.finish()?;
    let limit = match max_changes {
        None => MAX_CHANGES,
        // RFC 8620, 5.2: greater than 0.
        Some(..=0) => {
            let text = "maxChanges: a number greater than 0 is wanted".to_owned();
            return Err(MethodError::InvalidArguments(text));
        }
        Some(limit) => (limit as usize).min(MAX_CHANGES),
    };
    let since = since_text.parse().map_err(|_| MethodError::CannotCalculateChanges)?;
    let mut snapshot = call.jmap.store.read().await?;
    match changes_since(&mut snapshot, account.id, object_type, since, limit).await? {
        ChangesSince::CannotCalculate => Err(MethodError::CannotCalculateChanges),
        ChangesSince::Known { changes, new_state, has_more } => {
            let show = |ids: &[Id]| ids.iter().map(|id| json!(show_id(*id))).collect::<Vec<_>>();
            let mut object = Map::new();
            object.insert("accountId".to_owned(), json!(account.id.to_string()));
            object.insert("oldState".to_owned(), json!(since_text));
            object.insert("newState".to_owned(), json!(new_state.to_string()));
            object.insert("hasMoreChanges".to_owned(), json!(has_more));
            object.insert("created".to_owned(), Value::Array(show(&changes.created)));
            object.insert("updated".to_owned(), Value::Array(show(&changes.updated)));
            object.insert("destroyed".to_owned(), Value::Array(show(&changes.destroyed)));
            Ok(Answer { object, changes })
        }
    }
}
