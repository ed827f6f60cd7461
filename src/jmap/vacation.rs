//! VacationResponse (RFC 8621, 8): one object for each account, which is always there.

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits::{MAX_VACATION_BODY, MAX_VACATION_SUBJECT};
use crate::jmap::standard;
use crate::jmap::standard::patch;
use crate::jmap::standard::set::{SetOutcome, SetRequest, check_state};
use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::vacation::{self, SINGLETON, Vacation};
use crate::types::date::{parse_date, utc_date};
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// The id of the one object (RFC 8621, 8).
const SINGLETON_ID: &str = "singleton";

/// The type, for the standard methods.
struct VacationType;

impl standard::get::Get for VacationType {
    const TYPE: ObjectType = ObjectType::VacationResponse;
    const PROPERTIES: &'static [&'static str] =
        &["id", "isEnabled", "fromDate", "toDate", "subject", "textBody", "htmlBody"];

    async fn load(
        conn: &mut Conn,
        account: &AccountAccess,
        ids: Option<&[Id]>,
    ) -> Result<Vec<(Id, Map<String, Value>)>, StoreError> {
        if ids.is_some_and(|ids| ids.is_empty()) {
            return Ok(Vec::new());
        }
        Ok(vec![(SINGLETON, to_json(&vacation::get(conn, account.id).await?))])
    }

    fn show_id(_id: Id) -> String {
        SINGLETON_ID.to_owned()
    }

    fn read_id(shown: &str) -> Option<Id> {
        (shown == SINGLETON_ID).then_some(SINGLETON)
    }
}

/// The object as clients see it, without its id.
fn to_json(vacation: &Vacation) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("isEnabled".to_owned(), json!(vacation.is_enabled));
    object.insert("fromDate".to_owned(), json!(vacation.from_date.map(utc_date)));
    object.insert("toDate".to_owned(), json!(vacation.to_date.map(utc_date)));
    object.insert("subject".to_owned(), json!(vacation.subject));
    object.insert("textBody".to_owned(), json!(vacation.text_body));
    object.insert("htmlBody".to_owned(), json!(vacation.html_body));
    object
}

/// VacationResponse/get (RFC 8621, 8.1).
pub async fn get(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    standard::get::get::<VacationType>(call, arguments).await
}

/// VacationResponse/set (RFC 8621, 8.2).
pub async fn set(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.writable_account(&mut arguments)?;
    let request = SetRequest::read(&mut arguments)?;
    arguments.finish()?;
    let request = std::sync::Arc::new(request);
    let unit = async move |tx: &mut Tx| run(tx, &request).await;
    let outcome = call.jmap.store.write(account.id, unit).await??;
    Ok(Body::Json(outcome.to_json(account.id)))
}

async fn run(tx: &mut Tx, request: &SetRequest) -> Result<Result<SetOutcome, MethodError>, StoreError> {
    let object_type = ObjectType::VacationResponse;
    let old_state = match check_state(tx, object_type, request.if_in_state.as_deref()).await? {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    let mut outcome = SetOutcome::new(old_state);
    // RFC 8620, 5.3.
    let singleton = || {
        let text = "there is always exactly one VacationResponse; update it";
        SetError::new("singleton").because(text).to_json()
    };
    for (key, _) in &request.create {
        outcome.not_created.insert(key.clone(), singleton());
    }
    for id in &request.destroy {
        outcome.not_destroyed.insert(id.clone(), singleton());
    }
    for (id, patch) in &request.update {
        if id != SINGLETON_ID {
            outcome.not_updated.insert(id.clone(), SetError::not_found().to_json());
            continue;
        }
        let account = tx.account();
        let old = vacation::get(tx, account).await?;
        match patched(&old, patch) {
            Ok((new, changed)) => {
                if new != old {
                    vacation::put(tx, &new).await?;
                }
                outcome.updated.insert(id.clone(), changed.map_or(Value::Null, Value::Object));
            }
            Err(error) => {
                outcome.not_updated.insert(id.clone(), error.to_json());
            }
        }
    }
    outcome.conclude(tx, object_type);
    Ok(Ok(outcome))
}

/// The settings after a patch, and the properties that came to be other than the client asked.
fn patched(
    old: &Vacation,
    patch: &Map<String, Value>,
) -> Result<(Vacation, Option<Map<String, Value>>), SetError> {
    let mut current = to_json(old);
    current.insert("id".to_owned(), json!(SINGLETON_ID));
    let wanted = patch::apply(&current, patch)?;
    let mut new = old.clone();
    for (name, value) in wanted.iter().filter(|(name, value)| current.get(*name) != Some(value)) {
        write_property(&mut new, name, value)?;
    }
    let mut changed = to_json(&new);
    changed.retain(|name, value| wanted.get(name) != Some(value));
    Ok((new, (!changed.is_empty()).then_some(changed)))
}

fn write_property(vacation: &mut Vacation, name: &str, value: &Value) -> Result<(), SetError> {
    match name {
        "isEnabled" => {
            vacation.is_enabled =
                value.as_bool().ok_or_else(|| SetError::invalid(name, "a Boolean is wanted"))?;
        }
        "fromDate" => vacation.from_date = date(name, value)?,
        "toDate" => vacation.to_date = date(name, value)?,
        "subject" => vacation.subject = text(name, value, MAX_VACATION_SUBJECT)?,
        "textBody" => vacation.text_body = text(name, value, MAX_VACATION_BODY)?,
        "htmlBody" => vacation.html_body = text(name, value, MAX_VACATION_BODY)?,
        _ => return Err(SetError::invalid(name, "a client cannot set this property")),
    }
    Ok(())
}

/// A date; kept in whole seconds, as it is shown.
fn date(name: &str, value: &Value) -> Result<Option<i64>, SetError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => match parse_date(text) {
            Some(ms) => Ok(Some(ms - ms.rem_euclid(1000))),
            None => Err(SetError::invalid(name, "a UTCDate or null is wanted")),
        },
        _ => Err(SetError::invalid(name, "a UTCDate or null is wanted")),
    }
}

fn text(name: &str, value: &Value, max_octets: usize) -> Result<Option<String>, SetError> {
    match value {
        Value::Null => Ok(None),
        // The store keeps no NUL.
        Value::String(text) if text.len() <= max_octets => Ok(Some(text.replace('\0', ""))),
        Value::String(_) => Err(SetError::invalid(name, format!("at most {max_octets} octets are kept"))),
        _ => Err(SetError::invalid(name, "a String or null is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jmap::fixture::Fixture;

    #[tokio::test]
    async fn there_is_one_and_it_can_be_changed() {
        let fixture = Fixture::new().await;
        let alice = fixture.user("alice@example.test").await;
        let got = alice.call("VacationResponse/get", json!({})).await;
        let off = json!({
            "id": "singleton", "isEnabled": false, "fromDate": null, "toDate": null, "subject": null,
            "textBody": null, "htmlBody": null,
        });
        let shown = |value: &Value| Value::Object(value.as_object().unwrap().clone());
        assert_eq!(shown(&got["list"][0]), off);
        let patch = json!({
            "isEnabled": true, "fromDate": "2025-06-01T00:00:00.500Z", "toDate": "2025-07-01T02:00:00+02:00",
            "subject": "Away", "textBody": "a\u{0}b",
        });
        let set = alice.call("VacationResponse/set", json!({"update": {"singleton": patch}})).await;
        assert_eq!(set["oldState"], got["state"]);
        assert_ne!(set["newState"], got["state"]);
        let echoed =
            json!({"fromDate": "2025-06-01T00:00:00Z", "toDate": "2025-07-01T00:00:00Z", "textBody": "ab"});
        assert_eq!(set["updated"]["singleton"], echoed);
        let got = alice.call("VacationResponse/get", json!({"ids": ["singleton", "x"]})).await;
        assert_eq!(got["list"][0]["subject"], "Away");
        assert_eq!(got["notFound"], json!(["x"]));
        assert_eq!(got["state"], set["newState"]);
        let none = alice.call("VacationResponse/get", json!({"ids": []})).await;
        assert_eq!(none["list"], json!([]));
    }

    #[tokio::test]
    async fn it_can_be_neither_made_nor_destroyed() {
        let fixture = Fixture::new().await;
        let alice = fixture.user("alice@example.test").await;
        let set = alice
            .call(
                "VacationResponse/set",
                json!({
                    "create": {"k": {"isEnabled": true}},
                    "update": {"x": {"isEnabled": true}},
                    "destroy": ["singleton", "y"],
                }),
            )
            .await;
        assert_eq!(set["notCreated"]["k"]["type"], "singleton");
        assert_eq!(set["notDestroyed"]["singleton"]["type"], "singleton");
        assert_eq!(set["notDestroyed"]["y"]["type"], "singleton");
        assert_eq!(set["notUpdated"]["x"]["type"], "notFound");
        assert_eq!(set["oldState"], set["newState"]);
        for (patch, wrong) in [
            (json!({"isEnabled": null}), "isEnabled"),
            (json!({"fromDate": "tomorrow"}), "fromDate"),
            (json!({"textBody": 1}), "textBody"),
            (json!({"subject": "x".repeat(1_001)}), "subject"),
            (json!({"id": "x"}), "id"),
        ] {
            let set = alice.call("VacationResponse/set", json!({"update": {"singleton": patch}})).await;
            assert_eq!(set["notUpdated"]["singleton"]["properties"], json!([wrong]));
        }
        let set = alice.call("VacationResponse/set", json!({"ifInState": "s0-0", "update": {}})).await;
        assert_eq!(set["type"], "stateMismatch");
    }
}
