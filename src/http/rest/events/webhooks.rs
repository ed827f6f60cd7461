//! Webhooks: where events are posted to.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::events::object::EventObject;
use crate::events::webhook::{Posted, new_secret};
use crate::http::rest::body::Body;
use crate::http::rest::events::{Whose, cursor_of};
use crate::http::rest::key::Key;
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::store::event::log::View;
use crate::store::event::webhook::{self as store, MAX_OF_ACCOUNT, MAX_OF_DOMAIN, SigningSecret};
use crate::store::queue::webhook as queue;
use crate::types::callback_url::CallbackUrl;
use crate::types::date::utc_date;
use crate::types::event::{EventData, EventKinds};
use crate::types::id::Id;
use crate::types::scope::Scope;

/// Characters of a description.
const MAX_DESCRIPTION: usize = 255;
/// How long a secret signs that was replaced.
const OVERLAP_MS: i64 = 24 * 3_600_000;
/// Secrets that sign at a time.
const MAX_SECRETS: usize = 5;

/// Where events are posted to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    id: String,
    /// Where to.
    url: String,
    description: String,
    /// The account whose events it gets, by its id; absent when it gets those of the whole domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    /// The domain.
    domain: String,
    /// The types of events that it gets; all when there are none.
    types: Vec<&'static str>,
    /// Whether events are posted. One to which nothing gets through for three days is disabled, and a mail says so.
    enabled: bool,
    #[schema(format = DateTime)]
    created_at: String,
    /// The cursor of the last event that the receiver has taken.
    cursor: String,
    /// Since when nothing gets through.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    failing_since: Option<String>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// The secret by which posts are signed (`whsec_…`); told when it is made, and not again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// The webhooks of an account or a domain.
#[derive(Serialize, ToSchema)]
pub struct WebhookList {
    webhooks: Vec<Webhook>,
}

/// A webhook to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "url": "https://shop.example.org/mail-events", "types": ["message.delivered", "message.bounced"] }))]
pub struct NewWebhook {
    /// Where events are posted to: `https`; also `http` to an address that the operator allows (`push_networks`).
    #[schema(max_length = 2048)]
    url: String,
    /// The types of events; else all.
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    #[schema(max_length = 255)]
    description: String,
    /// The cursor from which on events are posted; else those that are still to come.
    after: Option<String>,
}

/// What is changed of a webhook; what is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "enabled": true }))]
pub struct WebhookPatch {
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// None for all.
    types: Option<Vec<String>>,
    #[schema(max_length = 255)]
    description: Option<String>,
    /// One that is enabled again goes on where it stopped.
    enabled: Option<bool>,
}

/// From where on events are posted again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "after": "1041.77.0" }))]
pub struct Replay {
    /// The cursor of the last event that is not posted again; empty for all that the log has.
    after: String,
}

/// What came of a trial.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// Whether the receiver took it.
    delivered: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn shown(webhook: store::Webhook) -> Webhook {
    let time = |ms: i64| (ms != 0).then(|| utc_date(ms));
    Webhook {
        id: webhook.id.to_string(),
        url: webhook.url,
        description: webhook.description,
        account_id: webhook.view.account.map(|account| account.to_string()),
        domain: webhook.view.domain,
        types: webhook.kinds.names(),
        enabled: webhook.disabled_at == 0,
        created_at: utc_date(webhook.created_at),
        cursor: webhook.cursor.to_string(),
        failing_since: time(webhook.failing_since),
        last_error: Some(webhook.last_error).filter(|error| !error.is_empty()),
        secret: None,
    }
}

fn shown_with_secret(webhook: store::Webhook) -> Webhook {
    let secret = webhook.secrets.first().map(|secret| secret.secret.reveal().to_owned());
    Webhook { secret, ..shown(webhook) }
}

fn no_such_webhook() -> Problem {
    Problem::not_found("There is no such webhook of this account or domain.")
}

/// A URL that may be posted to.
fn check_url(http: &HttpState, text: &str) -> Result<(), Problem> {
    let refused = |why: &str| Problem::field("url", why);
    http.webhooks.check_url(text).map_err(refused).map(drop)
}

fn check_description(text: &str) -> Result<(), Problem> {
    if text.chars().count() > MAX_DESCRIPTION {
        return Err(Problem::field(
            "description",
            format!("at most {MAX_DESCRIPTION} characters are wanted"),
        ));
    }
    Ok(())
}

impl Key {
    /// Refuses a key that may not change a webhook with these kinds: it decides who hears of them.
    fn may_direct(&self, kinds: EventKinds) -> Result<(), Problem> {
        self.needs(Scope::Write)?;
        let audible = self.audible()?;
        if kinds.bits() & !audible.bits() != 0 { Err(Problem::missing_scope(Scope::Read)) } else { Ok(()) }
    }

    /// The account or domain whose webhooks a call is about: they outlive the right to look into an account
    /// that its owner has given.
    async fn own_view(&self, http: &HttpState, whose: &Whose) -> Result<View, Problem> {
        let view = self.view(http, whose).await?;
        let is_own = |account| self.caller.account(account).is_some_and(|account| account.is_personal);
        if view.account.is_none_or(is_own) || self.reach.covers_domain(&view.domain) {
            return Ok(view);
        }
        Err(Problem::new(
            Code::Forbidden,
            "Webhooks of an account are for its owner, and for keys of its domain.",
        ))
    }

    /// The webhook that a call names.
    async fn webhook(&self, http: &HttpState, whose: &Whose, id: &str) -> Result<store::Webhook, Problem> {
        let view = self.own_view(http, whose).await?;
        let id: Id = id.parse().map_err(|_| no_such_webhook())?;
        let found = store::get(&mut *http.app.store.read().await?, &view.domain, id).await?;
        let is_of_it =
            |webhook: &store::Webhook| view.account.is_none() || webhook.view.account == view.account;
        found.filter(is_of_it).ok_or_else(no_such_webhook)
    }

    /// The webhook that a call names and changes.
    async fn directed(&self, http: &HttpState, whose: &Whose, id: &str) -> Result<store::Webhook, Problem> {
        self.needs(Scope::Write)?;
        self.audible()?;
        let webhook = self.webhook(http, whose, id).await?;
        self.may_direct(webhook.kinds)?;
        Ok(webhook)
    }
}

/// List webhooks
#[utoipa::path(get, path = "/webhooks", security(("key" = ["read"]), ("key" = ["send"])), tag = "Events", operation_id = "listWebhooks", params(Whose),
    responses((status = 200, description = "The answer", body = WebhookList), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(whose): Query<Whose>,
) -> Result<Json<WebhookList>, Problem> {
    key.audible()?;
    let view = key.own_view(&http, &whose).await?;
    let found = store::list(&mut *http.app.store.read().await?, &view).await?;
    Ok(Json(WebhookList { webhooks: found.into_iter().map(shown).collect() }))
}

/// Make a webhook
///
/// Each event is posted as JSON, at least once, those of one account in their order, signed by the scheme of
/// Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`). A receiver that does not answer with
/// 2xx within 15 seconds gets it again, later and later, for three days.
#[utoipa::path(post, path = "/webhooks", security(("key" = ["read", "write"]), ("key" = ["send", "write"])), tag = "Events", operation_id = "addWebhook", params(Whose), request_body = NewWebhook,
    responses((status = 201, description = "It was made", body = Webhook), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn add(
    State(http): State<HttpState>,
    key: Key,
    Query(whose): Query<Whose>,
    Body(new): Body<NewWebhook>,
) -> Result<(StatusCode, Json<Webhook>), Problem> {
    let kinds =
        key.kinds(new.types.iter().map(String::as_str)).map_err(|problem| problem.of_field("types"))?;
    key.may_direct(kinds)?;
    check_url(&http, &new.url)?;
    check_description(&new.description)?;
    let view = key.own_view(&http, &whose).await?;
    let cursor = cursor_of(&http, &view, Some(new.after.as_deref().unwrap_or("latest")))
        .await
        .map_err(|problem| problem.of_field("after"))?;
    let webhook = store::Webhook {
        id: http.app.store.ids().make(),
        view,
        url: new.url,
        description: new.description,
        kinds,
        secrets: vec![SigningSecret { secret: new_secret(), until_ms: 0 }],
        created_at: http.app.clock.now_ms(),
        cursor,
        failing_since: 0,
        disabled_at: 0,
        last_error: String::new(),
    };
    if !store::add(&http.app.store, webhook.clone()).await? {
        let text = format!(
            "An account has at most {MAX_OF_ACCOUNT} webhooks, a domain {MAX_OF_DOMAIN} of its own; remove one."
        );
        return Err(Problem::new(Code::Conflict, text));
    }
    queue::hurry(&http.app.store, webhook.view.domain.clone(), webhook.id).await?;
    tracing::info!(webhook = %webhook.id, domain = webhook.view.domain, "a webhook was made");
    Ok((StatusCode::CREATED, Json(shown_with_secret(webhook))))
}

/// Look at a webhook
#[utoipa::path(get, path = "/webhooks/{id}", security(("key" = ["read"]), ("key" = ["send"])), tag = "Events", operation_id = "getWebhook",
    params(("id" = String, Path, description = "Its id"), Whose),
    responses((status = 200, description = "The answer", body = Webhook), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn get(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<Json<Webhook>, Problem> {
    key.audible()?;
    Ok(Json(shown(key.webhook(&http, &whose, &id).await?)))
}

/// Change a webhook
#[utoipa::path(patch, path = "/webhooks/{id}", security(("key" = ["read", "write"]), ("key" = ["send", "write"])), tag = "Events", operation_id = "updateWebhook",
    params(("id" = String, Path, description = "Its id"), Whose), request_body = WebhookPatch,
    responses((status = 200, description = "The answer", body = Webhook), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn update(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
    Body(patch): Body<WebhookPatch>,
) -> Result<Json<Webhook>, Problem> {
    let webhook = key.directed(&http, &whose, &id).await?;
    let WebhookPatch { url, types, description, enabled } = patch;
    if let Some(url) = &url {
        check_url(&http, url)?;
    }
    if let Some(description) = &description {
        check_description(description)?;
    }
    let kinds = types.map(|types| key.kinds(types.iter().map(String::as_str))).transpose();
    let kinds = kinds.map_err(|problem| problem.of_field("types"))?;
    let now_ms = http.app.clock.now_ms();
    let change = move |webhook: &mut store::Webhook| {
        if let Some(url) = &url {
            webhook.url.clone_from(url);
        }
        if let Some(description) = &description {
            webhook.description.clone_from(description);
        }
        webhook.kinds = kinds.unwrap_or(webhook.kinds);
        match enabled {
            Some(true) => (webhook.disabled_at, webhook.failing_since) = (0, 0),
            Some(false) if webhook.disabled_at == 0 => webhook.disabled_at = now_ms,
            _ => {}
        }
    };
    let changed = store::change(&http.app.store, webhook.view.domain, webhook.id, change).await?;
    let webhook = changed.ok_or_else(no_such_webhook)?;
    if webhook.disabled_at == 0 {
        queue::hurry(&http.app.store, webhook.view.domain.clone(), webhook.id).await?;
    }
    Ok(Json(shown(webhook)))
}

/// Remove a webhook
#[utoipa::path(delete, path = "/webhooks/{id}", security(("key" = ["read", "write"]), ("key" = ["send", "write"])), tag = "Events", operation_id = "removeWebhook",
    params(("id" = String, Path, description = "Its id"), Whose),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<StatusCode, Problem> {
    let webhook = key.directed(&http, &whose, &id).await?;
    store::delete(&http.app.store, webhook.view.domain, webhook.id).await?;
    tracing::info!(webhook = %webhook.id, "a webhook was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Replace the secret of a webhook
///
/// The new one is told this once. The old one signs beside it for 24 hours more, so that a receiver can change over.
#[utoipa::path(post, path = "/webhooks/{id}/secret", security(("key" = ["read", "write"]), ("key" = ["send", "write"])), tag = "Events", operation_id = "replaceWebhookSecret",
    params(("id" = String, Path, description = "Its id"), Whose),
    responses((status = 200, description = "The answer", body = Webhook), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn replace_secret(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<Json<Webhook>, Problem> {
    let webhook = key.directed(&http, &whose, &id).await?;
    let (now_ms, new) = (http.app.clock.now_ms(), new_secret());
    let change = move |webhook: &mut store::Webhook| {
        webhook.secrets.retain(|secret| secret.until_ms == 0 || secret.until_ms > now_ms);
        for secret in webhook.secrets.iter_mut().filter(|secret| secret.until_ms == 0) {
            secret.until_ms = now_ms + OVERLAP_MS;
        }
        webhook.secrets.insert(0, SigningSecret { secret: new.clone(), until_ms: 0 });
        webhook.secrets.truncate(MAX_SECRETS);
    };
    let changed = store::change(&http.app.store, webhook.view.domain, webhook.id, change).await?;
    Ok(Json(shown_with_secret(changed.ok_or_else(no_such_webhook)?)))
}

/// Replay events to a webhook
///
/// Everything after a cursor is posted again, with the same ids.
#[utoipa::path(post, path = "/webhooks/{id}/replay", security(("key" = ["read", "write"]), ("key" = ["send", "write"])), tag = "Events", operation_id = "replayWebhook",
    params(("id" = String, Path, description = "Its id"), Whose), request_body = Replay,
    responses((status = 200, description = "The answer", body = Webhook), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn replay(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
    Body(replay): Body<Replay>,
) -> Result<Json<Webhook>, Problem> {
    let webhook = key.directed(&http, &whose, &id).await?;
    let cursor = cursor_of(&http, &webhook.view, Some(&replay.after))
        .await
        .map_err(|problem| problem.of_field("after"))?;
    store::set_cursor(&http.app.store, webhook.view.domain.clone(), webhook.id, cursor).await?;
    queue::hurry(&http.app.store, webhook.view.domain.clone(), webhook.id).await?;
    Ok(Json(shown(store::Webhook { cursor, ..webhook })))
}

/// Try a webhook
///
/// Posts an event of the type `webhook.test`, and tells what came of it.
#[utoipa::path(post, path = "/webhooks/{id}/test", security(("key" = ["read", "write"]), ("key" = ["send", "write"])), tag = "Events", operation_id = "testWebhook",
    params(("id" = String, Path, description = "Its id"), Whose),
    responses((status = 200, description = "The answer", body = Trial), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn test(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<Json<Trial>, Problem> {
    let webhook = key.directed(&http, &whose, &id).await?;
    let url = CallbackUrl::of_webhook(&webhook.url).map_err(|_| Problem::internal())?;
    let event = EventObject {
        id: http.app.store.ids().make().to_string(),
        r#type: "webhook.test".to_owned(),
        timestamp: utc_date(http.app.clock.now_ms()),
        account_id: webhook.view.account.map(|account| account.to_string()).unwrap_or_default(),
        account: String::new(),
        cursor: webhook.cursor.to_string(),
        data: EventData::default(),
    };
    let error = match http.webhooks.post(&webhook, &url, &event).await {
        Posted::Taken => None,
        Posted::Gone => Some("the receiver answered 410: it wants no more".to_owned()),
        Posted::Failed(why, _) => Some(why),
    };
    Ok(Json(Trial { delivered: error.is_none(), error }))
}
