//! Foo/set (RFC 8620, 5.3): one transaction of the account for the whole call.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits::MAX_OBJECTS_IN_SET;
use crate::store::change::state_of;
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// The arguments that every /set has.
#[derive(Debug, Default)]
pub struct SetRequest {
    /// The state that the account must be in.
    pub if_in_state: Option<String>,
    /// Creation id and object.
    pub create: Vec<(String, Map<String, Value>)>,
    /// Id, which may refer to a creation, and patch.
    pub update: Vec<(String, Map<String, Value>)>,
    /// Ids, which may refer to creations.
    pub destroy: Vec<String>,
}

impl SetRequest {
    /// Takes the arguments; `accountId` is the caller's to take.
    pub fn read(arguments: &mut Arguments) -> Result<SetRequest, MethodError> {
        let request = SetRequest {
            if_in_state: arguments.string("ifInState")?,
            create: objects(arguments, "create")?,
            update: objects(arguments, "update")?,
            destroy: arguments.strings("destroy")?.unwrap_or_default(),
        };
        if request.create.len() + request.update.len() + request.destroy.len() > MAX_OBJECTS_IN_SET {
            return Err(too_many());
        }
        Ok(request)
    }
}

/// Takes a map of objects that must be there and that one call can take (RFC 8620, 5.3 and 5.4).
pub fn required_objects(arguments: &mut Arguments, name: &str) -> Result<Objects, MethodError> {
    let objects = given_objects(arguments, name)?
        .ok_or_else(|| MethodError::InvalidArguments(format!("{name}: a map of objects is wanted")))?;
    if objects.len() > MAX_OBJECTS_IN_SET {
        return Err(too_many());
    }
    Ok(objects)
}

/// More objects than one call changes.
pub fn too_many() -> MethodError {
    MethodError::RequestTooLarge(format!("maxObjectsInSet is {MAX_OBJECTS_IN_SET}; send fewer objects"))
}

/// Objects by their keys, in the order given.
pub type Objects = Vec<(String, Map<String, Value>)>;

/// Takes a map of objects; empty when it is absent or null.
pub fn objects(arguments: &mut Arguments, name: &str) -> Result<Objects, MethodError> {
    Ok(given_objects(arguments, name)?.unwrap_or_default())
}

fn given_objects(arguments: &mut Arguments, name: &str) -> Result<Option<Objects>, MethodError> {
    let wrong = || MethodError::InvalidArguments(format!("{name}: a map of objects is wanted"));
    let Some(objects) = arguments.object(name)? else { return Ok(None) };
    objects
        .into_iter()
        .map(|(key, value)| match value {
            Value::Object(object) => Ok((key, object)),
            _ => Err(wrong()),
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// What creation ids stand for, in this request so far.
#[derive(Clone, Debug, Default)]
pub struct Creations(pub HashMap<String, String>);

impl Creations {
    /// An id as a client gave it, `#key` included.
    pub fn resolve(&self, given: &str) -> Option<Id> {
        self.shown(given)?.parse().ok().filter(|id| *id != Id::default())
    }

    /// The same, in its shown form.
    pub fn shown<'a>(&'a self, given: &'a str) -> Option<&'a str> {
        match given.strip_prefix('#') {
            Some(key) => self.0.get(key).map(String::as_str),
            None => Some(given),
        }
    }
}

/// What a /set has done.
#[derive(Debug)]
pub struct SetOutcome {
    /// Before.
    pub old_state: State,
    /// After.
    pub new_state: State,
    /// Creation id -> what the server set.
    pub created: Map<String, Value>,
    /// Id -> what the server changed beside what was asked, or null.
    pub updated: Map<String, Value>,
    /// Ids.
    pub destroyed: Vec<String>,
    /// Creation id -> why not.
    pub not_created: Map<String, Value>,
    /// Id -> why not.
    pub not_updated: Map<String, Value>,
    /// Id -> why not.
    pub not_destroyed: Map<String, Value>,
}

impl SetOutcome {
    /// Nothing done yet.
    pub fn new(old_state: State) -> SetOutcome {
        SetOutcome {
            old_state,
            new_state: old_state,
            created: Map::new(),
            updated: Map::new(),
            destroyed: Vec::new(),
            not_created: Map::new(),
            not_updated: Map::new(),
            not_destroyed: Map::new(),
        }
    }

    /// Takes the state that the transaction will leave behind.
    pub fn conclude(&mut self, tx: &Tx, object_type: ObjectType) {
        if tx.has_changed(object_type) {
            self.new_state = State::at(self.old_state.epoch, tx.modseq());
        }
    }

    /// The arguments of the response of a method that only makes objects (/copy, /import).
    pub fn creations_to_json(&self, account: AccountId) -> Map<String, Value> {
        let members = [
            ("accountId", json!(account.to_string())),
            ("oldState", json!(self.old_state.to_string())),
            ("newState", json!(self.new_state.to_string())),
            ("created", object_or_null(&self.created)),
            ("notCreated", object_or_null(&self.not_created)),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The arguments of the response.
    pub fn to_json(&self, account: AccountId) -> Value {
        let map = object_or_null;
        json!({
            "accountId": account.to_string(),
            "oldState": self.old_state.to_string(),
            "newState": self.new_state.to_string(),
            "created": map(&self.created),
            "updated": map(&self.updated),
            "destroyed": if self.destroyed.is_empty() { Value::Null } else { json!(self.destroyed) },
            "notCreated": map(&self.not_created),
            "notUpdated": map(&self.not_updated),
            "notDestroyed": map(&self.not_destroyed),
        })
    }
}

/// The map, or null where RFC 8620, 5.3 wants that for an empty one.
pub fn object_or_null(map: &Map<String, Value>) -> Value {
    if map.is_empty() { Value::Null } else { Value::Object(map.clone()) }
}

/// What one object's change came to; the outer error undoes the whole call.
pub type Changed<T> = Result<Result<T, SetError>, StoreError>;

/// A type whose objects are set one by one. Each function checks before it writes: what it refuses
/// must leave nothing behind.
pub trait Set {
    /// The type.
    const TYPE: ObjectType;
    /// What the functions need beside the transaction: access, further arguments.
    type Context: Send + Sync;

    /// Makes an object; its id, and the properties that the server set (without `id`).
    fn create(
        tx: &mut Tx,
        context: &Self::Context,
        creations: &Creations,
        object: &Map<String, Value>,
    ) -> impl Future<Output = Changed<(Id, Map<String, Value>)>> + Send;

    /// Changes an object; the properties that changed beside those asked for.
    fn update(
        tx: &mut Tx,
        context: &Self::Context,
        creations: &Creations,
        id: Id,
        patch: &Map<String, Value>,
    ) -> impl Future<Output = Changed<Option<Map<String, Value>>>> + Send;

    /// Destroys an object.
    fn destroy(tx: &mut Tx, context: &Self::Context, id: Id) -> impl Future<Output = Changed<()>> + Send;

    /// The order in which ids are destroyed, for types whose objects hold each other.
    fn destroy_order(
        tx: &mut Tx,
        ids: Vec<(String, Option<Id>)>,
    ) -> impl Future<Output = Result<Vec<(String, Option<Id>)>, StoreError>> + Send {
        let _ = tx;
        std::future::ready(Ok(ids))
    }
}

/// The method for a type.
pub async fn set<T>(
    call: &mut Call<'_>,
    account: AccountId,
    request: SetRequest,
    context: T::Context,
) -> MethodResult
where
    T: Set + 'static,
    T::Context: 'static,
{
    let shared = Arc::new((request, context));
    let creations = Creations(call.created_ids.clone());
    let outcome = call
        .jmap
        .store
        .write(account, async move |tx: &mut Tx| {
            let (request, context) = &*shared;
            let mut creations = creations;
            let outcome = run::<T>(tx, request, context, &mut creations).await?;
            Ok(outcome.map(|outcome| (outcome, creations)))
        })
        .await?;
    let (outcome, creations) = outcome?;
    *call.created_ids = creations.0;
    Ok(Body::Json(outcome.to_json(account)))
}

/// The old state of a type, when `ifInState` allows the call to go on.
pub async fn check_state(
    tx: &mut Tx,
    object_type: ObjectType,
    if_in_state: Option<&str>,
) -> Result<Result<State, MethodError>, StoreError> {
    let account = tx.account();
    let state = state_of(tx, account, object_type).await?;
    let is_as_wanted = if_in_state.is_none_or(|wanted| wanted == state.to_string());
    Ok(if is_as_wanted { Ok(state) } else { Err(MethodError::StateMismatch) })
}

/// Runs a /set inside a transaction.
pub async fn run<T: Set>(
    tx: &mut Tx,
    request: &SetRequest,
    context: &T::Context,
    creations: &mut Creations,
) -> Result<Result<SetOutcome, MethodError>, StoreError> {
    let old_state = match check_state(tx, T::TYPE, request.if_in_state.as_deref()).await? {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    let mut outcome = SetOutcome::new(old_state);
    for (key, object) in creation_order(&request.create) {
        match T::create(tx, context, creations, object).await? {
            Ok((id, mut properties)) => {
                creations.0.insert(key.clone(), id.to_string());
                properties.insert("id".to_owned(), json!(id));
                outcome.created.insert(key.clone(), Value::Object(properties));
            }
            Err(error) => {
                outcome.not_created.insert(key.clone(), error.to_json());
            }
        }
    }
    let destroy: Vec<(String, Option<Id>)> = request
        .destroy
        .iter()
        .map(|given| (creations.shown(given).unwrap_or(given).to_owned(), creations.resolve(given)))
        .collect();
    for (given, patch) in &request.update {
        let id = creations.resolve(given);
        let shown = id.map_or_else(|| given.clone(), |id| id.to_string());
        let changed = match id {
            None => Err(SetError::not_found()),
            Some(id) if destroy.iter().any(|(_, destroyed)| *destroyed == Some(id)) => {
                Err(SetError::new("willDestroy"))
            }
            Some(id) => T::update(tx, context, creations, id, patch).await?,
        };
        match changed {
            Ok(properties) => {
                outcome.updated.insert(shown, properties.map_or(Value::Null, Value::Object));
            }
            Err(error) => {
                outcome.not_updated.insert(shown, error.to_json());
            }
        }
    }
    for (shown, id) in T::destroy_order(tx, destroy).await? {
        let destroyed = match id {
            None => Err(SetError::not_found()),
            Some(id) => T::destroy(tx, context, id).await?,
        };
        match destroyed {
            Ok(()) => outcome.destroyed.push(shown),
            // Named twice: destroyed the first time.
            Err(_) if outcome.destroyed.contains(&shown) => {}
            Err(error) => {
                outcome.not_destroyed.insert(shown, error.to_json());
            }
        }
    }
    outcome.conclude(tx, T::TYPE);
    Ok(Ok(outcome))
}

/// The objects to create, those that others of the call refer to before the others.
pub fn creation_order(create: &[(String, Map<String, Value>)]) -> Vec<&(String, Map<String, Value>)> {
    let places: HashMap<&str, usize> =
        create.iter().enumerate().map(|(place, (key, _))| (key.as_str(), place)).collect();
    // For each object how many others it waits for, and which wait for it. The time that this
    // takes grows with the size of the call, however long the chains are.
    let mut waits_for = vec![0_usize; create.len()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); create.len()];
    for (place, (_, object)) in create.iter().enumerate() {
        let named = object.values().filter_map(Value::as_str).filter_map(|text| text.strip_prefix('#'));
        for other in named.filter_map(|key| places.get(key).copied()).filter(|other| *other != place) {
            waits_for[place] += 1;
            waiting[other].push(place);
        }
    }
    let mut order: Vec<usize> = (0..create.len()).filter(|place| waits_for[*place] == 0).collect();
    let mut next = 0;
    while let Some(done) = order.get(next).copied() {
        next += 1;
        for place in std::mem::take(&mut waiting[done]) {
            waits_for[place] -= 1;
            if waits_for[place] == 0 {
                order.push(place);
            }
        }
    }
    // Those left refer to each other in a circle: each fails for want of the other.
    order.extend((0..create.len()).filter(|place| waits_for[*place] > 0));
    order.into_iter().map(|place| &create[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_is_created_first() {
        let object = |parent: &str| Map::from_iter([("parentId".to_owned(), json!(parent))]);
        let create = [
            ("c".to_owned(), object("#b")),
            ("b".to_owned(), object("#a")),
            ("a".to_owned(), object("#elsewhere")),
            ("x".to_owned(), object("#y")),
            ("y".to_owned(), object("#x")),
        ];
        let order: Vec<&str> = creation_order(&create).iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(order, ["a", "b", "c", "x", "y"]);
    }

    #[test]
    fn long_chains_are_ordered_as_fast_as_short_ones() {
        // Each refers to the next, and to it in many properties.
        let create: Vec<(String, Map<String, Value>)> = (0..MAX_OBJECTS_IN_SET)
            .map(|number| {
                let refers = |property: i32| (format!("p{property}"), json!(format!("#k{}", number + 1)));
                (format!("k{number}"), Map::from_iter((0..50).map(refers)))
            })
            .collect();
        let start = std::time::Instant::now();
        let order = creation_order(&create);
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(order.iter().rev().zip(&create).all(|(ordered, given)| ordered.0 == given.0));
        assert_eq!(order.len(), MAX_OBJECTS_IN_SET);
    }
}
