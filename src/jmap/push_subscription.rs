//! PushSubscription (RFC 8620, 7.2, with `emailPush` of draft-ietf-jmap-emailpush): a device that is told
//! of changes at a URL. Neither an account's nor a state's: a credential has made it, sees it, and takes
//! it along when it ends.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::cache::Rate;
use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, MethodResult};
use crate::jmap::email::push::EmailPushConfig;
use crate::jmap::error::{MethodError, SetError};
use crate::jmap::limits::{
    MAX_DEVICE_CLIENT_ID, MAX_EMAIL_PUSH, MAX_PUSH_SUBSCRIPTION_MS, MAX_PUSH_SUBSCRIPTIONS,
    PUSH_SUBSCRIPTIONS_PER_HOUR,
};
use crate::jmap::standard::patch;
use crate::jmap::standard::set::{SetRequest, object_or_null};
use crate::store::directory::account;
use crate::store::error::StoreError;
use crate::store::push_subscription::{self, Credential, Interest, Keys, PushSubscription};
use crate::store::queue::push::enqueue_verification;
use crate::types::callback_url::{CallbackUrl, NotACallbackUrl};
use crate::types::date::{parse_date, utc_date};
use crate::types::id::{AccountId, Id};
use crate::types::network::is_public;
use crate::types::object_type::{ObjectType, bits_of};

/// What /get shows. Where pushes go, and what they are encrypted with, it tells nobody (7.2.1).
const SHOWN: [&str; 6] = ["id", "deviceClientId", "verificationCode", "expires", "types", "emailPush"];
const HIDDEN: [&str; 2] = ["url", "keys"];
/// Of all types, those to come included.
const ALL_TYPES: i64 = -1;
const HOUR_MS: i64 = 3_600_000;

fn credential(call: &Call<'_>) -> Credential {
    Credential { login: call.caller.login_id, token: call.caller.token_id }
}

async fn all(call: &Call<'_>) -> Result<Vec<PushSubscription>, MethodError> {
    let mut snapshot = call.jmap.store.read().await?;
    let now_ms = call.jmap.store.clock().now_ms();
    Ok(push_subscription::list(&mut snapshot, credential(call), now_ms).await?)
}

/// PushSubscription/get (RFC 8620, 7.2.1).
pub async fn get(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let ids = arguments.strings("ids")?;
    let properties = arguments.strings("properties")?;
    arguments.finish()?;
    for property in properties.iter().flatten() {
        if HIDDEN.contains(&property.as_str()) {
            return Err(MethodError::Forbidden(format!("{property} is told to nobody")));
        }
        if !SHOWN.contains(&property.as_str()) {
            return Err(MethodError::InvalidArguments(format!("properties: {property} is none")));
        }
    }
    let mut list = Vec::new();
    let mut not_found = Vec::new();
    let known: Vec<Map<String, Value>> = all(call).await?.iter().map(to_json).collect();
    let shown = |object: &Map<String, Value>| {
        let mut object = object.clone();
        if let Some(wanted) = &properties {
            object.retain(|name, _| name == "id" || wanted.contains(name));
        }
        Value::Object(object)
    };
    match ids {
        None => list.extend(known.iter().map(shown)),
        Some(ids) => {
            let mut seen = std::collections::HashSet::new();
            for id in ids {
                if !seen.insert(id.clone()) {
                    continue;
                }
                match known.iter().find(|object| object["id"] == id.as_str()) {
                    Some(object) => list.push(shown(object)),
                    None => not_found.push(id),
                }
            }
        }
    }
    Ok(Body::Json(json!({ "list": list, "notFound": not_found })))
}

/// The object as its client sees it.
fn to_json(subscription: &PushSubscription) -> Map<String, Value> {
    let types = match subscription.types {
        ALL_TYPES => Value::Null,
        bits => {
            let wanted = ObjectType::ALL.into_iter().filter(|object_type| object_type.bit() & bits != 0);
            wanted.map(ObjectType::name).collect()
        }
    };
    let code = subscription.is_verified.then_some(&subscription.verification_code);
    let email_push: Value = serde_json::from_str(&subscription.email_push).unwrap_or_default();
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(subscription.id));
    object.insert("deviceClientId".to_owned(), json!(subscription.device_client_id));
    object.insert("verificationCode".to_owned(), json!(code));
    object.insert("expires".to_owned(), json!(utc_date(subscription.expires_at)));
    object.insert("types".to_owned(), types);
    object.insert("emailPush".to_owned(), email_push);
    object
}

/// PushSubscription/set (RFC 8620, 7.2.2).
pub async fn set(call: &mut Call<'_>, mut arguments: Arguments) -> MethodResult {
    let request = SetRequest::read(&mut arguments)?;
    arguments.finish()?;
    if request.if_in_state.is_some() {
        let text = "ifInState: push subscriptions have no state".to_owned();
        return Err(MethodError::InvalidArguments(text));
    }
    let mut out = Map::new();
    let (mut done, mut refused) = (Map::new(), Map::new());
    for (key, object) in &request.create {
        match create(call, object).await? {
            Ok(created) => {
                if let Some(id) = created["id"].as_str() {
                    call.created_ids.insert(key.clone(), id.to_owned());
                }
                done.insert(key.clone(), Value::Object(created));
            }
            Err(error) => {
                refused.insert(key.clone(), error.to_json());
            }
        }
    }
    out.insert("created".to_owned(), object_or_null(&done));
    out.insert("notCreated".to_owned(), object_or_null(&refused));
    (done, refused) = (Map::new(), Map::new());
    for (id, patch) in &request.update {
        match update(call, id, patch).await? {
            Ok(changed) => {
                done.insert(id.clone(), changed);
            }
            Err(error) => {
                refused.insert(id.clone(), error.to_json());
            }
        }
    }
    out.insert("updated".to_owned(), object_or_null(&done));
    out.insert("notUpdated".to_owned(), object_or_null(&refused));
    let mut destroyed = Vec::new();
    refused = Map::new();
    for id in &request.destroy {
        match destroy(call, id).await? {
            Ok(()) => destroyed.push(json!(id)),
            Err(error) => {
                refused.insert(id.clone(), error.to_json());
            }
        }
    }
    out.insert("destroyed".to_owned(), if destroyed.is_empty() { Value::Null } else { json!(destroyed) });
    out.insert("notDestroyed".to_owned(), object_or_null(&refused));
    Ok(Body::Json(Value::Object(out)))
}

type Outcome<T> = Result<Result<T, SetError>, MethodError>;

/// Makes a subscription, and orders that its URL is sent the verification code.
async fn create(call: &Call<'_>, object: &Map<String, Value>) -> Outcome<Map<String, Value>> {
    let store = &call.jmap.store;
    let now_ms = store.clock().now_ms();
    let mut new = PushSubscription {
        id: store.ids().make(),
        device_client_id: String::new(),
        url: String::new(),
        keys: None,
        verification_code: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()),
        is_verified: false,
        expires_at: latest(call, now_ms),
        types: ALL_TYPES,
        email_push: String::new(),
    };
    if let Err(error) = write_new(call, &mut new, object, now_ms) {
        return Ok(Err(error));
    }
    let mut snapshot = store.read().await?;
    let count = push_subscription::count(&mut snapshot, call.caller.login_id).await?;
    drop(snapshot);
    if count >= MAX_PUSH_SUBSCRIPTIONS as i64 {
        let text = format!("a login may have {MAX_PUSH_SUBSCRIPTIONS} push subscriptions; destroy one");
        return Ok(Err(SetError::new("overQuota").because(text)));
    }
    let key = call.caller.login_id.to_string();
    let made = call.jmap.cache.rate_add(Rate::PushSubscriptions, &key, HOUR_MS, 1).await;
    if made > PUSH_SUBSCRIPTIONS_PER_HOUR {
        let text = format!("a login may make {PUSH_SUBSCRIPTIONS_PER_HOUR} push subscriptions in an hour");
        return Ok(Err(SetError::new("rateLimit").because(text)));
    }
    let Some(account) = call.caller.accounts.first().map(|account| account.id) else {
        return Ok(Err(SetError::new("forbidden").because("there is no account to be told of")));
    };
    let created = to_json(&new);
    let subscription = new.id;
    push_subscription::insert(store, credential(call), new).await?;
    let lane = account::lane(&mut *store.read().await?, account).await?.unwrap_or_default();
    enqueue_verification(store, lane, account, call.caller.login_id, subscription).await?;
    // What the server has set, or otherwise than it was asked to.
    let mut told = created;
    told.retain(|name, value| name == "id" || object.get(name).is_none_or(|wanted| wanted != value));
    told.remove("deviceClientId");
    Ok(Ok(told))
}

/// When a subscription made or renewed now ends at the latest.
fn latest(call: &Call<'_>, now_ms: i64) -> i64 {
    match call.caller.expires_at {
        0 => now_ms + MAX_PUSH_SUBSCRIPTION_MS,
        // RFC 8620, 7.2: with its credential.
        expires_at => expires_at,
    }
}

fn write_new(
    call: &Call<'_>,
    new: &mut PushSubscription,
    object: &Map<String, Value>,
    now_ms: i64,
) -> Result<(), SetError> {
    for required in ["deviceClientId", "url"] {
        if object.get(required).is_none_or(Value::is_null) {
            return Err(SetError::invalid(required, "it must be given"));
        }
    }
    for (name, value) in object {
        match (name.as_str(), value) {
            ("deviceClientId", Value::String(id)) if !id.is_empty() && id.len() <= MAX_DEVICE_CLIENT_ID => {
                new.device_client_id = id.replace('\0', "");
            }
            ("deviceClientId", _) => {
                let text = format!("a String of 1 to {MAX_DEVICE_CLIENT_ID} octets is wanted");
                return Err(SetError::invalid(name, text));
            }
            ("url", Value::String(url)) => {
                check_url(call, url)?;
                new.url = url.clone();
            }
            ("url", _) => return Err(SetError::invalid(name, "a String is wanted")),
            ("keys", Value::Null) => {}
            ("keys", keys) => new.keys = Some(read_keys(keys)?),
            ("verificationCode", Value::Null) => {}
            ("verificationCode", _) => {
                return Err(SetError::invalid(name, "it comes to the URL; give it with an update"));
            }
            (name, value) => write_property(call, new, name, value, now_ms)?,
        }
    }
    if !new.email_push.is_empty() && new.keys.is_none() {
        return Err(SetError::invalid("keys", "without keys no content of mail is pushed"));
    }
    Ok(())
}

fn check_url(call: &Call<'_>, url: &str) -> Result<(), SetError> {
    let parsed: CallbackUrl = url.parse().map_err(|NotACallbackUrl(why)| SetError::invalid("url", why))?;
    let may_be_reached = parsed.address().is_none_or(|address| {
        is_public(address) || call.jmap.push_networks.iter().any(|network| network.contains(address))
    });
    if may_be_reached {
        Ok(())
    } else {
        Err(SetError::invalid("url", "its address is in a network where pushes do not go"))
    }
}

/// Keys as RFC 8291, 2 has them: an uncompressed point and 16 octets.
fn read_keys(keys: &Value) -> Result<Keys, SetError> {
    let octets = |name: &str| {
        let text = keys[name].as_str()?.trim_end_matches('=');
        URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
    };
    let (Some(p256dh), Some(auth)) = (octets("p256dh"), octets("auth")) else {
        return Err(SetError::invalid("keys", "p256dh and auth in base64url are wanted"));
    };
    if p256dh.len() != 65 || p256dh.first() != Some(&4) || auth.len() != 16 {
        let text = "p256dh is an uncompressed point of 65 octets, auth has 16 octets";
        return Err(SetError::invalid("keys", text));
    }
    Ok(Keys { p256dh: p256dh.into(), auth: auth.into() })
}

/// A property that may be set and changed.
fn write_property(
    call: &Call<'_>,
    subscription: &mut PushSubscription,
    name: &str,
    value: &Value,
    now_ms: i64,
) -> Result<(), SetError> {
    match (name, value) {
        ("expires", Value::Null) => subscription.expires_at = latest(call, now_ms),
        ("expires", Value::String(date)) => {
            let wanted = parse_date(date).ok_or_else(|| SetError::invalid(name, "a UTCDate is wanted"))?;
            if wanted <= now_ms {
                return Err(SetError::invalid(name, "it is over; destroy the subscription instead"));
            }
            subscription.expires_at = wanted.min(latest(call, now_ms));
        }
        ("types", Value::Null) => subscription.types = ALL_TYPES,
        ("types", Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            let names = names.ok_or_else(|| SetError::invalid(name, "a String[] or null is wanted"))?;
            // Types that this server does not have never change.
            let types: Vec<ObjectType> = names.into_iter().filter_map(ObjectType::named).collect();
            subscription.types = bits_of(&types);
        }
        ("emailPush", Value::Null) => subscription.email_push = String::new(),
        ("emailPush", Value::Object(accounts)) => {
            for (account, config) in accounts {
                if call.accessible(account).is_none() {
                    return Err(SetError::invalid(name, format!("{account}: there is no such account")));
                }
                EmailPushConfig::read(call, config)
                    .map_err(|why| SetError::invalid(name, format!("{account}: {why}")))?;
            }
            let text = value.to_string();
            if text.len() > MAX_EMAIL_PUSH {
                return Err(SetError::invalid(name, format!("at most {MAX_EMAIL_PUSH} octets are kept")));
            }
            subscription.email_push = text.replace('\0', "");
        }
        ("expires" | "types" | "emailPush", _) => {
            return Err(SetError::invalid(name, "its value is of another type"));
        }
        _ => return Err(SetError::invalid(name, "a client cannot set this property")),
    }
    Ok(())
}

async fn find(call: &Call<'_>, id: &str) -> Result<Option<PushSubscription>, MethodError> {
    let Some(id) = call.resolve_id(id) else { return Ok(None) };
    Ok(all(call).await?.into_iter().find(|subscription| subscription.id == id))
}

/// Verifies a subscription, renews it, or changes what it hears of.
async fn update(call: &Call<'_>, id: &str, patch: &Map<String, Value>) -> Outcome<Value> {
    let Some(old) = find(call, id).await? else { return Ok(Err(SetError::not_found())) };
    let now_ms = call.jmap.store.clock().now_ms();
    let (new, told) = match patched(call, &old, patch, now_ms) {
        Ok(patched) => patched,
        Err(error) => return Ok(Err(error)),
    };
    if new.is_verified {
        // Before it counts, so that nothing that changes from then on is missed.
        note_interests(call, &old, &new).await?;
    }
    if !push_subscription::update(&call.jmap.store, credential(call), new).await? {
        return Ok(Err(SetError::not_found()));
    }
    Ok(Ok(object_or_null(&told)))
}

/// The subscription after a patch, and what came to be other than the client asked.
fn patched(
    call: &Call<'_>,
    old: &PushSubscription,
    patch: &Map<String, Value>,
    now_ms: i64,
) -> Result<(PushSubscription, Map<String, Value>), SetError> {
    let current = to_json(old);
    let wanted = patch::apply(&current, patch)?;
    let mut new = old.clone();
    for (name, value) in wanted.iter().filter(|(name, value)| current.get(*name) != Some(value)) {
        match (name.as_str(), value) {
            ("verificationCode", Value::String(code)) => {
                // The code has been told to the URL alone.
                if *code != old.verification_code {
                    return Err(SetError::invalid(name, "it is not the code that was pushed"));
                }
                new.is_verified = true;
            }
            ("verificationCode", _) => return Err(SetError::invalid(name, "a String is wanted")),
            ("id" | "deviceClientId" | "url" | "keys", _) => {
                return Err(SetError::invalid(name, "it cannot change; make another subscription"));
            }
            (name, value) => write_property(call, &mut new, name, value, now_ms)?,
        }
    }
    if !new.email_push.is_empty() && new.keys.is_none() {
        return Err(SetError::invalid("emailPush", "without keys no content of mail is pushed"));
    }
    let mut told = to_json(&new);
    told.retain(|name, value| wanted.get(name) != Some(value));
    Ok((new, told))
}

/// Lets the transactions of all accounts of the caller know what is to be pushed. What came before a
/// subscription asked for new mail is no news to it.
async fn note_interests(
    call: &Call<'_>,
    old: &PushSubscription,
    new: &PushSubscription,
) -> Result<(), MethodError> {
    for account in &call.caller.accounts {
        let is_anew = new.hears_of_mail(account.id) && !(old.is_verified && old.hears_of_mail(account.id));
        let interest = Interest { types: new.interest_in(account.id), is_anew };
        note_interest(call, account.id, new.id, interest).await?;
    }
    Ok(())
}

async fn note_interest(
    call: &Call<'_>,
    account: AccountId,
    subscription: Id,
    interest: Interest,
) -> Result<(), MethodError> {
    let (store, login) = (&call.jmap.store, call.caller.login_id);
    match push_subscription::note_interest(store, account, login, subscription, interest).await {
        // Removed meanwhile.
        Ok(()) | Err(StoreError::NoSuchAccount) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn destroy(call: &Call<'_>, id: &str) -> Outcome<()> {
    let Some(subscription) = find(call, id).await? else { return Ok(Err(SetError::not_found())) };
    push_subscription::delete(&call.jmap.store, call.caller.login_id, subscription.id).await?;
    for account in &call.caller.accounts {
        note_interest(call, account.id, subscription.id, Interest::NONE).await?;
    }
    Ok(Ok(()))
}
