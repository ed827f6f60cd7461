//! API keys.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::request::{AdminError, Refusal, TokenRow};
use crate::admin::token as acts;
use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::state::HttpState;
use crate::types::address::Address;
use crate::types::scope::{Reach, Scope, Scopes, domain_reach};
use crate::types::secret::Secret;

/// Whose keys are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// The address by which their owner signs in; else the key's own.
    #[param(example = "alice@example.org")]
    login: Option<String>,
}

/// The keys of a login.
#[derive(Serialize, ToSchema)]
pub struct KeyList {
    keys: Vec<TokenRow>,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "name": "shop", "scopes": ["send"], "expiresInDays": 365 }))]
pub struct NewKey {
    /// The address by which its owner signs in; else the owner of the key that asks.
    login: Option<String>,
    /// What it is called.
    #[serde(default)]
    #[schema(max_length = 255)]
    name: String,
    /// What it is for: `read`, `write`, `send`, `admin`.
    #[schema(min_items = 1)]
    scopes: Vec<String>,
    /// The one account that it is for, by its primary address.
    account: Option<String>,
    /// The domain all of whose accounts it is for; `*` for all of the server.
    domain: Option<String>,
    /// Days after which it expires; else it does not.
    #[schema(minimum = 1, maximum = 36500)]
    expires_in_days: Option<u32>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub struct KeyAdded {
    /// By which it is revoked.
    id: String,
    /// The key itself, told this once.
    #[schema(value_type = String)]
    key: Secret,
}

/// Characters of a name.
const MAX_NAME: usize = 255;
const MAX_DAYS: u32 = 36_500;
const DAY_MS: i64 = 86_400_000;

impl Key {
    /// The login that a call names: its own, which any key may look after, or one that it administers.
    fn login(&self, named: Option<&str>) -> Result<String, Problem> {
        match named {
            None => Ok(self.caller.username.clone()),
            Some(named) => {
                let own =
                    Address::parse(named).is_ok_and(|address| address.to_string() == self.caller.username);
                if own {
                    Ok(self.caller.username.clone())
                } else {
                    Ok(self.administers_address(named)?.to_string())
                }
            }
        }
    }
}

impl Key {
    /// Refuses to let in as another login whoever has this key, where that login reaches accounts that the key does
    /// not: it may have been granted some of other domains. With an account named, that one counts alone.
    pub(super) async fn covers(
        &self,
        http: &HttpState,
        login: &str,
        account: Option<&str>,
    ) -> Result<(), Problem> {
        let accounts = acts::accounts(&http.office, login).await.map_err(Problem::of_body)?;
        let named =
            account.and_then(|account| Address::parse(account).ok()).map(|account| account.to_string());
        let is_beyond =
            |name: &String| !self.reach.covers_domain(name.rsplit('@').next().unwrap_or_default());
        if accounts.iter().any(|name| named.as_ref().is_none_or(|named| named == name) && is_beyond(name)) {
            let text = "This login reaches accounts that this key does not administer.";
            return Err(Problem::new(Code::Forbidden, text));
        }
        Ok(())
    }
}

/// List keys
#[utoipa::path(get, path = "/keys", security(("key" = ["admin"])), tag = "Administration", operation_id = "listKeys", params(ListParameters),
    responses((status = 200, description = "The answer", body = KeyList), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<KeyList>, Problem> {
    key.needs(Scope::Admin)?;
    let login = key.login(parameters.login.as_deref())?;
    Ok(Json(KeyList { keys: acts::list(&http.office, Some(&login)).await? }))
}

/// Make a key
///
/// It is told this once. It gets no scope that the key that asks for it lacks, and goes no farther.
#[utoipa::path(post, path = "/keys", security(("key" = ["admin"])), tag = "Administration", operation_id = "addKey", request_body = NewKey,
    responses((status = 201, description = "It was made", body = KeyAdded), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn add(
    State(http): State<HttpState>,
    key: Key,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<KeyAdded>), Problem> {
    key.needs(Scope::Admin)?;
    let login = key.login(new.login.as_deref()).map_err(|problem| problem.of_field("login"))?;
    if new.name.chars().count() > MAX_NAME {
        return Err(Problem::field("name", format!("at most {MAX_NAME} characters are wanted")));
    }
    if new.expires_in_days.is_some_and(|days| days == 0 || days > MAX_DAYS) {
        return Err(Problem::field("expiresInDays", format!("a number from 1 to {MAX_DAYS} is wanted")));
    }
    let scopes: Scopes = new
        .scopes
        .iter()
        .map(|name| name.parse::<Scope>())
        .collect::<Result<_, _>>()
        .map_err(|error| Problem::field("scopes", error))?;
    if scopes.is_empty() {
        return Err(Problem::field("scopes", "at least one is wanted"));
    }
    if !key.caller.scopes.has_all(scopes) {
        return Err(Problem::new(Code::Forbidden, "A key makes no key with scopes that it lacks itself."));
    }
    let goes_far = match &new.domain {
        None => true,
        Some(domain) => {
            let reach = domain_reach(domain).map_err(|error| Problem::field("domain", error))?;
            key.reach == Reach::All || key.reach.covers(&reach)
        }
    };
    if !goes_far {
        return Err(Problem::new(Code::Forbidden, "A key makes no key that goes farther than itself."));
    }
    if login != key.caller.username {
        key.covers(&http, &login, new.account.as_deref()).await?;
    }
    let lifetime_ms = new.expires_in_days.map(|days| i64::from(days) * DAY_MS);
    let wanted = acts::Wanted {
        name: new.name,
        lifetime_ms,
        scopes: new.scopes,
        account: new.account,
        domain: new.domain,
    };
    let added = acts::add(&key.office(&http), &login, wanted).await.map_err(Problem::of_body)?;
    Ok((StatusCode::CREATED, Json(KeyAdded { id: added.id, key: added.token })))
}

/// Revoke a key
///
/// It is worth nothing at once, everywhere.
#[utoipa::path(delete, path = "/keys/{id}", security(("key" = ["admin"])), tag = "Administration", operation_id = "revokeKey",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn revoke(
    State(http): State<HttpState>,
    key: Key,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    key.needs(Scope::Admin)?;
    let none = || Problem::not_found("There is no such key.");
    let found = acts::find(&http.office, &id).await.map_err(|error| match error {
        AdminError { refusal: Refusal::NotFound, .. } => none(),
        error => error.into(),
    })?;
    key.login(Some(&found.login)).map_err(|_| none())?;
    if !key.reach.covers(&found.reach) {
        return Err(Problem::new(Code::Forbidden, "A key revokes no key that goes farther than itself."));
    }
    acts::revoke(&key.office(&http), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
