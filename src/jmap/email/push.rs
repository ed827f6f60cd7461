//! What a device is told of new mail (draft-ietf-jmap-emailpush, `emailPush`): whether a configuration
//! is one, and the Emails of an account that have come since, as far as it wants them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, Caller, Jmap};
use crate::jmap::capability::Capability;
use crate::jmap::email::get;
use crate::jmap::email::properties::Wanted;
use crate::jmap::email::query::read_filter;
use crate::jmap::email::text_search::resolve_texts;
use crate::jmap::error::MethodError;
use crate::store::change::{created_after, state_of};
use crate::store::email::query::{EmailQuery, Filter, Sort, SortBy, Start};
use crate::store::mailbox;
use crate::store::snapshot::Snapshot;
use crate::types::date::parse_date;
use crate::types::id::{AccountId, Id};
use crate::types::object_type::ObjectType;
use crate::types::state::State;

/// Emails that one push is about, at the most: the newest. A device that was told of so many looks
/// for itself.
const MAX_EMAILS: usize = 20;
/// Changes that are looked through for new mail, from the last one back, and new mail that is looked at.
const MAX_CHANGES: usize = 50_000;
const MAX_CREATED: usize = 1_000;
/// What came in longer ago than this when it was stored is no new mail, but was moved here.
const FRESH_MS: i64 = 3_600_000;
/// The urgencies of a push (RFC 8030, 5.3).
const URGENCIES: [&str; 4] = ["very-low", "low", "normal", "high"];

/// The configuration for one account.
#[derive(Clone, Debug)]
pub struct EmailPushConfig {
    filter: Option<Value>,
    properties: Vec<String>,
    /// With which urgency it is pushed.
    pub urgency: &'static str,
}

impl EmailPushConfig {
    /// Reads a configuration; what is wrong with it.
    pub fn read(call: &Call<'_>, config: &Value) -> Result<EmailPushConfig, String> {
        let Value::Object(config) = config else { return Err("an EmailPushConfig is wanted".to_owned()) };
        let mut read = EmailPushConfig { filter: None, properties: Vec::new(), urgency: "normal" };
        for (name, value) in config {
            match (name.as_str(), value) {
                ("filter" | "urgency", Value::Null) => {}
                ("filter", filter) => {
                    let is_one = read_filter(call, filter);
                    is_one.map_err(|error| format!("filter: {}", said(&error)))?;
                    read.filter = Some(filter.clone());
                }
                ("properties", Value::Array(names)) => {
                    let names: Option<Vec<String>> =
                        names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                    read.properties = names.ok_or("properties: a String[] is wanted")?;
                }
                ("urgency", urgency) => {
                    let known = URGENCIES.into_iter().find(|known| urgency == known);
                    read.urgency = known.ok_or("urgency: one of very-low, low, normal and high is wanted")?;
                }
                (name, _) => return Err(format!("{name}: an EmailPushConfig has no such property")),
            }
        }
        if !config.contains_key("properties") {
            return Err("properties: a String[] is wanted".to_owned());
        }
        let mut none = Arguments::new(Map::new());
        Wanted::of_get(Some(read.properties.clone()), &mut none)
            .map_err(|error| format!("properties: {}", said(&error)))?;
        Ok(read)
    }
}

fn said(error: &MethodError) -> String {
    error.arguments()["description"].as_str().unwrap_or("it cannot be used").to_owned()
}

/// New mail of an account.
pub struct NewMail {
    /// Of each Email, in the order in which they came, the modseq by which it did, and the properties that
    /// are wanted, in the order in which they are.
    pub emails: Vec<(i64, Map<String, Value>)>,
    /// The state of Email.
    pub state: State,
}

/// The mail that has come into an account since a modseq and that a device wants to hear of.
pub async fn new_mail(
    jmap: &Jmap,
    caller: &Caller,
    account: AccountId,
    config: &Value,
    since: i64,
) -> Result<NewMail, MethodError> {
    let mut created_ids = HashMap::new();
    let mut call =
        Call { jmap, caller, using: &Capability::ALL, created_ids: &mut created_ids, implicit: Vec::new() };
    let config = EmailPushConfig::read(&call, config).map_err(MethodError::InvalidArguments)?;
    let mut snapshot = jmap.store.read().await?;
    let state = state_of(&mut snapshot, account, ObjectType::Email).await?;
    let created = snapshot
        .run_long(async move |snapshot: &mut Snapshot| {
            created_after(snapshot, account, ObjectType::Email, since, MAX_CREATED, MAX_CHANGES).await
        })
        .await?;
    if created.is_empty() {
        return Ok(NewMail { emails: Vec::new(), state });
    }
    let came_by: HashMap<Id, i64> = created.iter().copied().collect();
    let created = created.into_iter().map(|(id, _)| id).collect();
    let ids = wanted_of(&mut call, account, &config, created).await?;
    let emails = read(&mut call, account, &config, &ids).await?;
    let modseq_of = |id: Id| came_by.get(&id).copied().unwrap_or(state.modseq);
    let mut emails: Vec<_> = emails.into_iter().map(|(id, email)| (modseq_of(id), email)).collect();
    emails.sort_by_key(|(modseq, _)| *modseq);
    Ok(NewMail { emails, state })
}

/// Those of the Emails that the filter lets through, the newest first.
async fn wanted_of(
    call: &mut Call<'_>,
    account: AccountId,
    config: &EmailPushConfig,
    created: Vec<Id>,
) -> Result<Vec<Id>, MethodError> {
    let created = Filter::Ids(created);
    let (filter, mut snapshot) = match &config.filter {
        None => (created, call.jmap.store.read().await?),
        Some(filter) => {
            let filter = read_filter(call, filter)?;
            let resolved = resolve_texts(call.jmap, account, filter).await?;
            (Filter::And(vec![created, resolved.filter]), resolved.snapshot)
        }
    };
    let query = EmailQuery {
        account,
        filter: Some(filter),
        sort: vec![Sort { by: SortBy::ReceivedAt, is_ascending: false }],
        collapse_threads: false,
        start: Start::Position(0),
        limit: MAX_EMAILS,
        calculate_total: false,
    };
    let query = query.prepare(&mut snapshot).await?;
    let window = snapshot.run_long(async move |snapshot: &mut Snapshot| query.run(snapshot).await).await?;
    Ok(window.map(|window| window.ids).unwrap_or_default())
}

/// The wanted properties of Emails, but for what the user writes and for mail that is old.
async fn read(
    call: &mut Call<'_>,
    account: AccountId,
    config: &EmailPushConfig,
    ids: &[Id],
) -> Result<Vec<(Id, Map<String, Value>)>, MethodError> {
    let mut properties = config.properties.clone();
    let mut snapshot = call.jmap.store.read().await?;
    let mut own = Vec::new();
    for role in ["drafts", "sent"] {
        own.extend(mailbox::id_by_role(&mut snapshot, account, role).await?.map(|id| id.to_string()));
    }
    drop(snapshot);
    for needed in ["id", "mailboxIds", "keywords", "receivedAt"] {
        if !properties.iter().any(|property| property == needed) {
            properties.push(needed.to_owned());
        }
    }
    let shown: Vec<String> = ids.iter().map(Id::to_string).collect();
    let arguments = json!({"accountId": account.to_string(), "ids": shown, "properties": properties});
    let Value::Object(arguments) = arguments else { return Ok(Vec::new()) };
    let answer = match get::get(call, Arguments::new(arguments)).await? {
        Body::Json(value) => value,
        Body::Text(text) => serde_json::from_str(&text).map_err(|_| MethodError::ServerFail)?,
    };
    let list = answer["list"].as_array().cloned().unwrap_or_default();
    let id_of = |email: &Value| email["id"].as_str().and_then(|id| id.parse::<Id>().ok()).unwrap_or_default();
    let is_new = |email: &Value| {
        let stored_at = id_of(email).made_at_ms();
        let received_at = email["receivedAt"].as_str().and_then(parse_date).unwrap_or_default();
        let is_own = email["keywords"]["$draft"] == json!(true)
            || own.iter().any(|mailbox| email["mailboxIds"][mailbox] == json!(true));
        !is_own && received_at > stored_at - FRESH_MS
    };
    Ok(list
        .into_iter()
        .filter(is_new)
        .map(|mut email| {
            let id = id_of(&email);
            let mut ordered = Map::new();
            for name in &config.properties {
                ordered.insert(name.clone(), email[name].take());
            }
            (id, ordered)
        })
        .collect())
}
