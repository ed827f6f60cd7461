//! Foo/get (RFC 8620, 5.1).

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Body, Call, MethodResult};
use crate::jmap::error::MethodError;
use crate::jmap::limits::MAX_OBJECTS_IN_GET;
use crate::store::change::state_of;
use crate::store::db::Conn;
use crate::store::error::StoreError;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// Objects by their ids, each without `id` itself.
pub type Objects = Vec<(Id, Map<String, Value>)>;

/// A type whose objects can be got as values.
pub trait Get {
    /// The type.
    const TYPE: ObjectType;
    /// All properties, `id` among them.
    const PROPERTIES: &'static [&'static str];

    /// The objects of these ids, as far as they exist, or all of them; `None` may answer one more
    /// than can be got, by which it is known that there are too many.
    fn load(
        conn: &mut Conn,
        account: &AccountAccess,
        ids: Option<&[Id]>,
    ) -> impl Future<Output = Result<Objects, StoreError>> + Send;

    /// The id that stands for an object on the wire.
    fn show_id(id: Id) -> String {
        id.to_string()
    }

    /// The id of an object from the wire.
    fn read_id(shown: &str) -> Option<Id> {
        shown.parse().ok()
    }
}

/// The arguments that every /get has.
#[derive(Debug)]
pub struct GetRequest {
    /// The account.
    pub account: AccountAccess,
    /// The ids as they were given, creation ids resolved; `None` asks for all.
    pub ids: Option<Vec<String>>,
    /// The properties asked for; `None` asks for the type's default.
    pub properties: Option<Vec<String>>,
}

impl GetRequest {
    /// Takes the arguments.
    pub fn read(call: &Call<'_>, arguments: &mut Arguments) -> Result<GetRequest, MethodError> {
        let account = call.account(arguments)?;
        let ids = arguments.strings("ids")?;
        if ids.as_ref().is_some_and(|ids| ids.len() > MAX_OBJECTS_IN_GET) {
            return Err(too_many());
        }
        let resolve = |id: String| match id.strip_prefix('#').and_then(|key| call.created_ids.get(key)) {
            Some(created) => created.clone(),
            None => id,
        };
        let ids = ids.map(|ids| ids.into_iter().map(resolve).collect());
        Ok(GetRequest { account, ids, properties: arguments.strings("properties")? })
    }
}

/// More objects than one call answers.
pub fn too_many() -> MethodError {
    MethodError::RequestTooLarge(format!("maxObjectsInGet is {MAX_OBJECTS_IN_GET}; ask for fewer ids"))
}

/// Refuses more ids than one call answers.
pub fn check_count(ids: &[String]) -> Result<(), MethodError> {
    if ids.len() > MAX_OBJECTS_IN_GET { Err(too_many()) } else { Ok(()) }
}

/// The method for a type.
pub async fn get<T: Get>(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = GetRequest::read(call, &mut arguments)?;
    arguments.finish()?;
    if let Some(properties) = &request.properties
        && let Some(unknown) = properties.iter().find(|name| !T::PROPERTIES.contains(&name.as_str()))
    {
        return Err(MethodError::InvalidArguments(format!(
            "properties: {} has no property {unknown:?}",
            T::TYPE.name()
        )));
    }
    let ids: Option<Vec<Id>> =
        request.ids.as_ref().map(|ids| ids.iter().filter_map(|id| T::read_id(id)).collect());
    let mut snapshot = call.jmap.store.read().await?;
    // The state is read in the objects' own snapshot.
    let state = state_of(&mut snapshot, request.account.id, T::TYPE).await?;
    let found = T::load(&mut snapshot, &request.account, ids.as_deref()).await?;
    drop(snapshot);
    if found.len() > MAX_OBJECTS_IN_GET {
        return Err(too_many());
    }
    let mut by_id: HashMap<String, Map<String, Value>> = HashMap::with_capacity(found.len());
    let mut order = Vec::with_capacity(found.len());
    for (id, object) in found {
        let shown = T::show_id(id);
        order.push(shown.clone());
        by_id.insert(shown, object);
    }
    let mut not_found = Vec::new();
    let mut list = Vec::with_capacity(order.len());
    let wanted = request.ids.unwrap_or(order);
    let mut seen: HashSet<&str> = HashSet::with_capacity(wanted.len());
    // An id given twice is answered once (RFC 8620, 5.1).
    for id in wanted.iter().filter(|id| seen.insert(id)) {
        match by_id.remove(id) {
            Some(object) => list.push(choose(object, request.properties.as_deref(), id)),
            None => not_found.push(id),
        }
    }
    Ok(Body::Json(json!({
        "accountId": request.account.id.to_string(),
        "state": state.to_string(),
        "list": list,
        "notFound": not_found,
    })))
}

/// The object with `id` and the properties asked for, and nothing else.
fn choose(mut object: Map<String, Value>, properties: Option<&[String]>, id: &str) -> Value {
    object.insert("id".to_owned(), json!(id));
    if let Some(properties) = properties {
        object.retain(|name, _| name == "id" || properties.contains(name));
    }
    Value::Object(object)
}
