//! Identity (RFC 8621, 6).

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{AccountAccess, Call, MethodResult};
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits;
use crate::jmap::standard;
use crate::jmap::standard::patch;
use crate::jmap::standard::set::{Changed, Creations, Set, SetRequest};
use crate::mail::headers::addresses::EmailAddress;
use crate::store::db::Conn;
use crate::store::directory::address::addresses_of;
use crate::store::error::StoreError;
use crate::store::identity::{self, Identity};
use crate::store::tx::Tx;
use crate::types::address::Address;
use crate::types::id::Id;
use crate::types::object_type::ObjectType;

/// The type, for the standard methods.
pub struct IdentityType;

/// What /set needs to know.
pub struct Context {
    account: AccountAccess,
    addresses: OwnAddresses,
}

/// The addresses that a caller may send as.
#[derive(Clone, Debug)]
pub struct OwnAddresses(Vec<Address>);

impl OwnAddresses {
    /// Those of the accounts from which the caller may send.
    pub async fn of(call: &Call<'_>, conn: &mut Conn) -> Result<OwnAddresses, StoreError> {
        let mut own = Vec::new();
        for account in call.caller.accounts.iter().filter(|account| account.may_send) {
            let addresses = addresses_of(conn, account.id).await?;
            own.extend(addresses.iter().filter_map(|address| Address::parse(address).ok()));
        }
        Ok(OwnAddresses(own))
    }

    /// Whether this is one of them, with or without a plus-address tag.
    pub fn has(&self, address: &Address) -> bool {
        self.0.iter().any(|own| is_same(address, own))
    }
}

/// Whether an address is another, with or without a plus-address tag.
pub fn is_same(address: &Address, other: &Address) -> bool {
    address == other || address.without_tag().as_ref() == Some(other)
}

impl standard::get::Get for IdentityType {
    const TYPE: ObjectType = ObjectType::Identity;
    const PROPERTIES: &'static [&'static str] =
        &["id", "name", "email", "replyTo", "bcc", "textSignature", "htmlSignature", "mayDelete"];

    async fn load(
        conn: &mut Conn,
        account: &AccountAccess,
        ids: Option<&[Id]>,
    ) -> Result<Vec<(Id, Map<String, Value>)>, StoreError> {
        let identities = match ids {
            Some(ids) => identity::by_ids(conn, account.id, ids).await?,
            None => identity::all(conn, account.id).await?,
        };
        Ok(identities.iter().map(|identity| (identity.id, to_json(identity, account))).collect())
    }
}

/// The object as clients see it, without its id.
fn to_json(identity: &Identity, account: &AccountAccess) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("name".to_owned(), json!(identity.name));
    object.insert("email".to_owned(), json!(identity.email));
    object.insert("replyTo".to_owned(), json!(identity.reply_to));
    object.insert("bcc".to_owned(), json!(identity.bcc));
    object.insert("textSignature".to_owned(), json!(identity.text_signature));
    object.insert("htmlSignature".to_owned(), json!(identity.html_signature));
    // One that stands for an address of the account lives as long as the address.
    object.insert("mayDelete".to_owned(), json!(!identity.is_own_address && !account.is_read_only));
    object
}

/// Identity/get (RFC 8621, 6.1).
pub async fn get(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    standard::get::get::<IdentityType>(call, arguments).await
}

/// Identity/changes (RFC 8621, 6.2).
pub async fn changes(call: &mut Call<'_>, arguments: Arguments) -> MethodResult {
    let answer =
        standard::changes::changes(call, arguments, ObjectType::Identity, |id| id.to_string()).await?;
    Ok(answer.into_body())
}

/// Identity/set (RFC 8621, 6.3).
pub async fn set(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let account = call.writable_account(&mut arguments)?;
    let request = SetRequest::read(&mut arguments)?;
    arguments.finish()?;
    let mut snapshot = call.jmap.store.read().await.map_err(MethodError::from)?;
    let addresses = OwnAddresses::of(call, &mut snapshot).await?;
    drop(snapshot);
    let context = Context { account: account.clone(), addresses };
    standard::set::set::<IdentityType>(call, account.id, request, context).await
}

impl Set for IdentityType {
    const TYPE: ObjectType = ObjectType::Identity;
    type Context = Context;

    async fn create(
        tx: &mut Tx,
        context: &Context,
        _creations: &Creations,
        object: &Map<String, Value>,
    ) -> Changed<(Id, Map<String, Value>)> {
        let mut new = Identity {
            id: Id(0),
            name: String::new(),
            email: String::new(),
            reply_to: None,
            bcc: None,
            text_signature: String::new(),
            html_signature: String::new(),
            is_own_address: false,
        };
        let written = object.iter().try_for_each(|(name, value)| match (name.as_str(), value) {
            ("email", Value::String(email)) => {
                new.email = email.clone();
                Ok(())
            }
            _ => write_property(&mut new, name, value),
        });
        if let Err(error) = written.and_then(|()| check_address(&new.email, &context.addresses)) {
            return Ok(Err(error));
        }
        let account = tx.account();
        if identity::count(tx, account).await? >= limits::MAX_IDENTITIES as i64 {
            let text = format!("an account has at most {} identities", limits::MAX_IDENTITIES);
            return Ok(Err(SetError::new("overQuota").because(text)));
        }
        let id = identity::insert(tx, &new).await?;
        // What the client gave is not echoed unless it was changed.
        let mut properties = to_json(&new, &context.account);
        properties.retain(|name, value| object.get(name) != Some(value));
        Ok(Ok((id, properties)))
    }

    async fn update(
        tx: &mut Tx,
        context: &Context,
        _creations: &Creations,
        id: Id,
        patch: &Map<String, Value>,
    ) -> Changed<Option<Map<String, Value>>> {
        let account = tx.account();
        let Some(old) = identity::by_ids(tx, account, &[id]).await?.pop() else {
            return Ok(Err(SetError::not_found()));
        };
        let mut current = to_json(&old, &context.account);
        current.insert("id".to_owned(), json!(id));
        let mut new = old.clone();
        let patched = patch::apply(&current, patch).and_then(|patched| {
            for (name, value) in patched.iter().filter(|(name, value)| current.get(*name) != Some(value)) {
                write_property(&mut new, name, value)?;
            }
            Ok(patched)
        });
        let patched = match patched {
            Ok(patched) => patched,
            Err(error) => return Ok(Err(error)),
        };
        if new != old {
            identity::update(tx, &new).await?;
        }
        let mut changed = to_json(&new, &context.account);
        changed.retain(|name, value| patched.get(name) != Some(value));
        Ok(Ok((!changed.is_empty()).then_some(changed)))
    }

    async fn destroy(tx: &mut Tx, _context: &Context, id: Id) -> Changed<()> {
        let account = tx.account();
        if identity::by_ids(tx, account, &[id]).await?.is_empty() {
            return Ok(Err(SetError::not_found()));
        }
        if !identity::delete(tx, id).await? {
            let text = "this identity stands for an address of the account and goes with it alone";
            return Ok(Err(SetError::new("forbidden").because(text)));
        }
        Ok(Ok(()))
    }
}

fn check_address(email: &str, addresses: &OwnAddresses) -> Result<(), SetError> {
    if email.is_empty() {
        return Err(SetError::invalid("email", "an identity needs an address"));
    }
    match Address::parse(email) {
        Ok(address) if addresses.has(&address) => Ok(()),
        // RFC 8621, 9.6.
        _ => Err(SetError::new("forbiddenFrom").because("you may not send from this address")),
    }
}

fn write_property(identity: &mut Identity, name: &str, value: &Value) -> Result<(), SetError> {
    match name {
        "name" => identity.name = text(name, value, limits::MAX_IDENTITY_NAME)?,
        "textSignature" => identity.text_signature = text(name, value, limits::MAX_SIGNATURE)?,
        "htmlSignature" => identity.html_signature = text(name, value, limits::MAX_SIGNATURE)?,
        "replyTo" => identity.reply_to = addresses(name, value)?,
        "bcc" => identity.bcc = addresses(name, value)?,
        _ => return Err(SetError::invalid(name, "a client cannot set this property")),
    }
    Ok(())
}

/// A text; null is the default, which is empty.
fn text(name: &str, value: &Value, max_octets: usize) -> Result<String, SetError> {
    match value {
        Value::Null => Ok(String::new()),
        // The store keeps no NUL.
        Value::String(text) if text.len() <= max_octets => Ok(text.replace('\0', "")),
        Value::String(_) => Err(SetError::invalid(name, format!("at most {max_octets} octets are kept"))),
        _ => Err(SetError::invalid(name, "a String is wanted")),
    }
}

fn addresses(name: &str, value: &Value) -> Result<Option<Vec<EmailAddress>>, SetError> {
    let wrong = || SetError::invalid(name, "an EmailAddress[] or null is wanted");
    let items = match value {
        Value::Null => return Ok(None),
        Value::Array(items) => items,
        _ => return Err(wrong()),
    };
    if items.len() > limits::MAX_IDENTITY_ADDRESSES {
        let text = format!("at most {} addresses are kept", limits::MAX_IDENTITY_ADDRESSES);
        return Err(SetError::invalid(name, text));
    }
    let read = |item: &Value| {
        let object = item.as_object().ok_or_else(wrong)?;
        if object.keys().any(|key| key != "name" && key != "email") {
            return Err(wrong());
        }
        let email = object.get("email").and_then(Value::as_str).ok_or_else(wrong)?.to_owned();
        if Address::parse(&email).is_err() {
            return Err(SetError::invalid(name, "an email is no address"));
        }
        let display = match object.get("name") {
            None | Some(Value::Null) => None,
            Some(display) => Some(text(name, display, limits::MAX_IDENTITY_NAME)?),
        };
        Ok(EmailAddress { name: display, email })
    };
    items.iter().map(read).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jmap::fixture::Fixture;
    use crate::store::directory::access;
    use crate::store::directory::address::alias_add;

    #[tokio::test]
    async fn an_address_has_an_identity_that_can_be_edited_but_not_destroyed() {
        let fixture = Fixture::new().await;
        let alice = fixture.user("alice@example.test").await;
        let alias = Address::parse("team@example.test").unwrap();
        alias_add(&fixture.jmap.store, alias, alice.caller.accounts[0].id).await.unwrap();
        let got = alice.call("Identity/get", json!({"ids": null})).await;
        let mut list = got["list"].as_array().unwrap().clone();
        assert_eq!(list.len(), 2);
        let id = list[0]["id"].as_str().unwrap().to_owned();
        list[0].as_object_mut().unwrap().shift_remove("id");
        assert_eq!(
            list[0],
            json!({
                "name": "", "email": "alice@example.test", "replyTo": null, "bcc": null, "textSignature": "",
                "htmlSignature": "", "mayDelete": false,
            })
        );
        assert_eq!(list[1]["email"], "team@example.test");

        let patch = json!({
            "name": "Alice\u{0}", "replyTo": [{"name": null, "email": "r@x.test"}], "textSignature": "-- \nA",
            "email": "alice@example.test",
        });
        let set = alice.call("Identity/set", json!({"update": {&id: patch}, "destroy": ["x"]})).await;
        assert_eq!(set["updated"][&id], json!({"name": "Alice"}), "{set}");
        assert_eq!(set["notDestroyed"]["x"]["type"], "notFound");
        let got = alice.call("Identity/get", json!({"ids": [&id], "properties": ["name", "replyTo"]})).await;
        assert_eq!(
            got["list"],
            json!([{"id": id, "name": "Alice", "replyTo": [{"name": null, "email": "r@x.test"}]}])
        );
        let changes = alice.call("Identity/changes", json!({"sinceState": set["oldState"]})).await;
        assert_eq!(changes["updated"], json!([id]));
        assert_eq!(changes["newState"], set["newState"]);
        for (patch, wrong) in [
            (json!({"email": "other@example.test"}), "email"),
            (json!({"mayDelete": true}), "mayDelete"),
            (json!({"name": 1}), "name"),
            (json!({"bcc": [{"email": "nobody"}]}), "bcc"),
            (json!({"replyTo": {}}), "replyTo"),
            (json!({"more": 1}), "more"),
        ] {
            let set = alice.call("Identity/set", json!({"update": {&id: patch}})).await;
            assert_eq!(set["notUpdated"][&id]["properties"], json!([wrong]), "{set}");
            assert_eq!(set["oldState"], set["newState"]);
        }
        let set = alice.call("Identity/set", json!({"destroy": [&id]})).await;
        assert_eq!(set["notDestroyed"][&id]["type"], "forbidden");
    }

    #[tokio::test]
    async fn identities_are_made_for_own_addresses_only() {
        let fixture = Fixture::new().await;
        let alice = fixture.user("alice@example.test").await;
        let bob = fixture.user("bob@example.test").await;
        let create = json!({
            "own": {"email": "Alice+news@example.test", "name": "News", "bcc": []},
            "other": {"email": "bob@example.test"},
            "any": {"email": "*@example.test"},
            "none": {"name": "x"},
            "wrong": {"email": "nobody"},
            "unknown": {"email": "alice@example.test", "x": 1},
        });
        let set = alice.call("Identity/set", json!({"create": create})).await;
        let own = &set["created"]["own"];
        let id = own["id"].as_str().unwrap();
        assert_eq!(
            *own,
            json!({"id": id, "replyTo": null, "textSignature": "", "htmlSignature": "", "mayDelete": true})
        );
        for (key, kind) in [
            ("other", "forbiddenFrom"),
            ("any", "forbiddenFrom"),
            ("wrong", "forbiddenFrom"),
            ("none", "invalidProperties"),
            ("unknown", "invalidProperties"),
        ] {
            assert_eq!(set["notCreated"][key]["type"], kind, "{key}");
        }
        assert_eq!(bob.call("Identity/get", json!({"ids": [id]})).await["notFound"], json!([id]));

        // Whoever may write to an account sends as it.
        let store = &fixture.jmap.store;
        access::grant(store, alice.caller.login_id, bob.caller.accounts[0].id, false).await.unwrap();
        let alice = fixture.login(alice.caller.login_id, "alice@example.test").await;
        let create = json!({"as": {"email": "bob@example.test"}});
        let set = alice.call("Identity/set", json!({"create": create, "destroy": [id]})).await;
        assert!(set["created"]["as"]["id"].is_string(), "{set}");
        assert_eq!(set["destroyed"], json!([id]));
    }
}
