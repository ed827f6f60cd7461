//! Quota (RFC 9425). An account with a limit has one Quota object, whose id is the account's own:
//! the octets of its Emails. An account without a limit has none.

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Call, MethodResult};
use crate::jmap::capability::Capability;
use crate::jmap::error::MethodError;
use crate::jmap::limits::MAX_CHANGES;
use crate::jmap::standard;
use crate::jmap::standard::query::{Comparator, Filter, QueryChangesRequest, QueryRequest};
use crate::store::change::{Changes, ChangesSince, changes_since, state_of};
use crate::store::db::Conn;
use crate::store::directory::account::{self, QUOTA_USED_CHANGED};
use crate::store::error::StoreError;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

const RESOURCE_TYPE: &str = "octets";
const SCOPE: &str = "account";
/// The one type that is counted.
const TYPE: &str = "Email";

/// The type, for the standard methods. A client that does not name the capability of the counted
/// type sees no object at all (RFC 9425, 4.1).
struct QuotaType<const KNOWS_EMAIL: bool>;

impl<const KNOWS_EMAIL: bool> standard::get::Get for QuotaType<KNOWS_EMAIL> {
    const TYPE: ObjectType = ObjectType::Quota;
    const PROPERTIES: &'static [&'static str] = &[
        "id",
        "resourceType",
        "used",
        "hardLimit",
        "scope",
        "name",
        "types",
        "warnLimit",
        "softLimit",
        "description",
    ];

    async fn load(
        conn: &mut Conn,
        account: &AccountAccess,
        ids: Option<&[Id]>,
    ) -> Result<Vec<(Id, Map<String, Value>)>, StoreError> {
        if !KNOWS_EMAIL || ids.is_some_and(|ids| !ids.contains(&account.id.0)) {
            return Ok(Vec::new());
        }
        let usage = account::usage(conn, account.id).await?.ok_or(StoreError::NoSuchAccount)?;
        if usage.quota_bytes == 0 {
            return Ok(Vec::new());
        }
        let object = [
            ("resourceType", json!(RESOURCE_TYPE)),
            ("used", json!(usage.used_bytes.max(0))),
            ("hardLimit", json!(usage.quota_bytes)),
            ("scope", json!(SCOPE)),
            ("name", json!(account.name)),
            ("types", json!([TYPE])),
            ("warnLimit", Value::Null),
            ("softLimit", Value::Null),
            ("description", Value::Null),
        ];
        let object = object.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(vec![(account.id.0, object)])
    }
}

fn knows_email(call: &Call<'_>) -> bool {
    call.using.contains(&Capability::Mail)
}

/// Quota/get (RFC 9425, 4.2).
pub async fn get(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    if knows_email(call) {
        standard::get::get::<QuotaType<true>>(call, arguments).await
    } else {
        standard::get::get::<QuotaType<false>>(call, arguments).await
    }
}

/// Quota/changes (RFC 9425, 4.3), which tells when only `used` has changed.
pub async fn changes(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    let mut answer =
        standard::changes::changes(call, arguments, ObjectType::Quota, |id| id.to_string()).await?;
    if !knows_email(call) {
        for name in ["created", "updated", "destroyed"] {
            answer.object.insert(name.to_owned(), json!([]));
        }
        answer.changes = Changes::default();
    }
    let changes = &answer.changes;
    let is_only_used = !changes.any_property && changes.updated_properties == QUOTA_USED_CHANGED;
    let updated = if is_only_used { json!(["used"]) } else { Value::Null };
    answer.object.insert("updatedProperties".to_owned(), updated);
    Ok(answer.into_body())
}

#[derive(Debug)]
enum Condition {
    Name(String),
    Scope(String),
    ResourceType(String),
    Type(String),
}

/// Quota/query (RFC 9425, 4.4).
pub async fn query(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryRequest::read(call, &mut arguments)?;
    arguments.finish()?;
    let filter = read_filter(request.filter.as_ref())?;
    check_sort(&request.sort)?;
    let mut snapshot = call.jmap.store.read().await?;
    let state = state_of(&mut snapshot, request.account.id, ObjectType::Quota).await?;
    let ids = list(&mut snapshot, call, &request.account, filter.as_ref()).await?;
    let window = request.window(&ids)?;
    Ok(request.answer(state, &window, true))
}

/// Quota/queryChanges (RFC 9425, 4.5).
pub async fn query_changes(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = QueryChangesRequest::read(call, &mut arguments)?;
    arguments.finish()?;
    let filter = read_filter(request.filter.as_ref())?;
    check_sort(&request.sort)?;
    let account = &request.account;
    let mut snapshot = call.jmap.store.read().await?;
    let since =
        changes_since(&mut snapshot, account.id, ObjectType::Quota, request.since, MAX_CHANGES).await?;
    let ChangesSince::Known { changes, new_state, has_more: false } = since else {
        return Err(MethodError::CannotCalculateChanges);
    };
    let changes = if knows_email(call) { changes } else { Changes::default() };
    let ids = list(&mut snapshot, call, account, filter.as_ref()).await?;
    request.answer_in_memory(new_state, &changes, &ids)
}

/// The Quota of the account, if it has one and the filter lets it through.
async fn list(
    conn: &mut Conn,
    call: &Call<'_>,
    account: &AccountAccess,
    filter: Option<&Filter<Vec<Condition>>>,
) -> Result<Vec<Id>, StoreError> {
    let usage = account::usage(conn, account.id).await?.ok_or(StoreError::NoSuchAccount)?;
    let is_match = |conditions: &Vec<Condition>| {
        conditions.iter().all(|condition| match condition {
            Condition::Name(text) => account.name.contains(text.as_str()),
            Condition::Scope(scope) => scope == SCOPE,
            Condition::ResourceType(resource) => resource == RESOURCE_TYPE,
            Condition::Type(name) => name == TYPE,
        })
    };
    let is_listed =
        usage.quota_bytes > 0 && knows_email(call) && filter.is_none_or(|filter| filter.matches(&is_match));
    Ok(if is_listed { vec![account.id.0] } else { Vec::new() })
}

fn read_filter(filter: Option<&Value>) -> Result<Option<Filter<Vec<Condition>>>, MethodError> {
    filter.map(|filter| Filter::read(filter, &mut read_condition)).transpose()
}

fn read_condition(object: &Map<String, Value>) -> Result<Vec<Condition>, MethodError> {
    object
        .iter()
        .map(|(name, value)| {
            let condition = match name.as_str() {
                "name" => Condition::Name,
                "scope" => Condition::Scope,
                "resourceType" => Condition::ResourceType,
                "type" => Condition::Type,
                _ => return Err(MethodError::UnsupportedFilter(format!("Quota has no filter {name:?}"))),
            };
            let text = value.as_str().ok_or_else(|| {
                MethodError::InvalidArguments(format!("filter: {name}: a String is wanted"))
            })?;
            Ok(condition(text.to_owned()))
        })
        .collect()
}

/// There is one object at the most: any order is the right one.
fn check_sort(sort: &[Comparator]) -> Result<(), MethodError> {
    match sort.iter().find(|by| !["name", "used"].contains(&by.property.as_str())) {
        None => Ok(()),
        Some(by) => Err(MethodError::UnsupportedSort(format!("Quota cannot be sorted by {:?}", by.property))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::jmap::fixture::Fixture;

    const MESSAGE: &[u8] = b"Subject: hello\r\n\r\nBody\r\n";

    #[tokio::test]
    async fn the_quota_comes_and_goes_with_the_limit() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        user.email(MESSAGE, json!({})).await;
        let none = user.call("Quota/get", json!({"ids": null})).await;
        assert_eq!(none["list"], json!([]));
        let changes = async |since: &Value| user.call("Quota/changes", json!({"sinceState": since})).await;
        assert_eq!(changes(&none["state"]).await["newState"], none["state"]);
        user.set_quota(1_000).await;
        let id = user.account();
        let some = user.call("Quota/get", json!({"ids": null})).await;
        let wanted = json!([{
            "id": id, "resourceType": "octets", "used": MESSAGE.len(), "hardLimit": 1_000,
            "scope": "account", "name": "alice@example.test", "types": ["Email"],
            "warnLimit": null, "softLimit": null, "description": null,
        }]);
        assert_eq!(some["list"], wanted);
        assert_eq!(changes(&none["state"]).await["created"], json!([id]));
        let email = user.email(MESSAGE, json!({})).await;
        let used = changes(&some["state"]).await;
        assert_eq!((&used["updated"], &used["updatedProperties"]), (&json!([id]), &json!(["used"])));
        user.call("Email/set", json!({"destroy": [email]})).await;
        assert_eq!(changes(&used["newState"]).await["updatedProperties"], json!(["used"]));
        user.set_quota(2_000).await;
        let both = changes(&used["newState"]).await;
        assert_eq!((&both["updated"], &both["updatedProperties"]), (&json!([id]), &Value::Null));
        user.set_quota(0).await;
        let gone = changes(&some["state"]).await;
        assert_eq!((&gone["destroyed"], &gone["updatedProperties"]), (&json!([id]), &Value::Null));
        assert_eq!(changes(&none["state"]).await["created"], json!([]));
    }

    #[tokio::test]
    async fn queries_find_it_by_its_properties() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        user.set_quota(1_000).await;
        let id = user.account();
        let query = async |filter: Value| user.call("Quota/query", json!({"filter": filter})).await;
        for (filter, is_found) in [
            (Value::Null, true),
            (json!({}), true),
            (json!({"name": "alice", "scope": "account"}), true),
            (json!({"name": "bob"}), false),
            (json!({"scope": "domain"}), false),
            (json!({"resourceType": "octets", "type": "Email"}), true),
            (json!({"resourceType": "count"}), false),
            (json!({"type": "Calendar"}), false),
            (json!({"operator": "NOT", "conditions": [{"name": "bob"}]}), true),
        ] {
            let ids = if is_found { json!([id]) } else { json!([]) };
            assert_eq!(query(filter.clone()).await["ids"], ids, "{filter}");
        }
        assert_eq!(query(json!({"used": 1})).await["type"], "unsupportedFilter");
        assert_eq!(query(json!({"name": 1})).await["type"], "invalidArguments");
        let sorted = json!({"sort": [{"property": "used"}, {"property": "name"}], "calculateTotal": true});
        let answer = user.call("Quota/query", sorted).await;
        assert_eq!((&answer["total"], &answer["canCalculateChanges"]), (&json!(1), &json!(true)));
        let unsorted = user.call("Quota/query", json!({"sort": [{"property": "scope"}]})).await;
        assert_eq!(unsorted["type"], "unsupportedSort");
        let since = answer["queryState"].clone();
        user.email(MESSAGE, json!({})).await;
        let changed = user.call("Quota/queryChanges", json!({"sinceQueryState": since})).await;
        assert_eq!(changed["removed"], json!([id]));
        assert_eq!(changed["added"], json!([{"id": id, "index": 0}]));
    }

    #[tokio::test]
    async fn a_client_that_knows_no_email_sees_none() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let before = user.call("Quota/get", json!({})).await["state"].clone();
        user.set_quota(1_000).await;
        let account = user.account();
        let using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:quota"];
        let responses = user
            .request_using(
                &using,
                json!([
                    ["Quota/get", {"accountId": account, "ids": [account]}, "0"],
                    ["Quota/query", {"accountId": account}, "1"],
                    ["Quota/changes", {"accountId": account, "sinceState": before}, "2"],
                ]),
            )
            .await;
        assert_eq!(responses[0][1]["notFound"], json!([account]));
        assert_eq!(responses[1][1]["ids"], json!([]));
        assert_eq!(responses[2][1]["created"], json!([]));
    }
}
