//! Templates of messages.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::rest::body::Body;
use crate::http::rest::key::Key;
use crate::http::rest::mailboxes::OfAccount;
use crate::http::rest::parameters::{Path, Query};
use crate::http::rest::problem::{Code, Problem, ProblemDetails};
use crate::http::rest::sends::template::check;
use crate::http::state::HttpState;
use crate::store::template::{self as store, MAX_TEMPLATES};
use crate::store::tx::Tx;
use crate::types::date::utc_date;
use crate::types::scope::Scope;

/// Octets of the parts of a template together.
const MAX_TEMPLATE: usize = 512 << 10;
/// Characters of a name.
const MAX_NAME: usize = 100;
const PAGE: usize = 100;

/// A template.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    name: String,
    subject: String,
    text: String,
    html: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// Templates by name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateList {
    templates: Vec<Template>,
    /// Gives the next page as `cursor`; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// What a template shall be: subject, text and HTML in the language of Jinja (`{{ name }}`, `{% for %}`, `{% if %}`);
/// what is put into HTML is escaped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "subject": "Your order {{ number }}", "text": "Dear {{ name }}, it is on its way." }))]
pub struct NewTemplate {
    #[serde(default)]
    subject: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    html: String,
}

/// Which templates are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// The account, by its primary address or its id; else the key's own.
    #[param(example = "shop@example.org")]
    account: Option<String>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

fn shown(template: store::Template) -> Template {
    Template {
        name: template.name,
        subject: template.subject,
        text: template.text,
        html: template.html,
        updated_at: utc_date(template.updated_at),
    }
}

fn none() -> Problem {
    Problem::not_found("There is no such template in this account.")
}

/// List templates
#[utoipa::path(get, path = "/templates", security(("key" = ["send"])), tag = "Sending", operation_id = "listTemplates", params(ListParameters),
    responses((status = 200, description = "The answer", body = TemplateList), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn list(
    State(http): State<HttpState>,
    key: Key,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<TemplateList>, Problem> {
    key.needs(Scope::Send)?;
    let account = key.account(&http, parameters.account.as_deref()).await?;
    let after = parameters.cursor.unwrap_or_default();
    let mut snapshot = http.app.store.read().await?;
    let mut found = store::list(&mut snapshot, account.id, &after, PAGE + 1).await?;
    let has_more = found.len() > PAGE;
    found.truncate(PAGE);
    let next_cursor = found.last().filter(|_| has_more).map(|last| last.name.clone());
    Ok(Json(TemplateList { templates: found.into_iter().map(shown).collect(), next_cursor }))
}

/// Look at a template
#[utoipa::path(get, path = "/templates/{name}", security(("key" = ["send"])), tag = "Sending", operation_id = "getTemplate",
    params(("name" = String, Path, description = "Its name"), OfAccount),
    responses((status = 200, description = "The answer", body = Template), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn get(
    State(http): State<HttpState>,
    key: Key,
    Path(name): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<Json<Template>, Problem> {
    key.needs(Scope::Send)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    let mut snapshot = http.app.store.read().await?;
    let found = store::by_names(&mut snapshot, account.id, vec![name]).await?.pop();
    found.map(|template| Json(shown(template))).ok_or_else(none)
}

/// Make or replace a template
#[utoipa::path(put, path = "/templates/{name}", security(("key" = ["send"])), tag = "Sending", operation_id = "putTemplate",
    params(("name" = String, Path, description = "Its name: letters, digits, `-`, `_` and `.`"), OfAccount), request_body = NewTemplate,
    responses((status = 200, description = "The answer", body = Template), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn put(
    State(http): State<HttpState>,
    key: Key,
    Path(name): Path<String>,
    Query(of): Query<OfAccount>,
    Body(new): Body<NewTemplate>,
) -> Result<Json<Template>, Problem> {
    key.needs(Scope::Send)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_name) {
        let text = format!("A name has 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`.");
        return Err(Problem::new(Code::Unprocessable, text));
    }
    let wrong = |text: String| Problem::new(Code::Unprocessable, text);
    if new.subject.len() + new.text.len() + new.html.len() > MAX_TEMPLATE {
        return Err(wrong(format!("A template has at most {MAX_TEMPLATE} octets.")));
    }
    if new.text.is_empty() && new.html.is_empty() {
        return Err(wrong("text or html is wanted.".to_owned()));
    }
    if !account.may_send {
        return Err(Problem::new(Code::Forbidden, "This key may not send from this account."));
    }
    let updated_at = http.app.clock.now_ms();
    let template = store::Template { name, subject: new.subject, text: new.text, html: new.html, updated_at };
    check(&template).map_err(|why| wrong(format!("{why}.")))?;
    let written = template.clone();
    let unit = async move |tx: &mut Tx| store::put(tx, &written).await;
    if !http.app.store.write(account.id, unit).await? {
        let text = format!("An account has at most {MAX_TEMPLATES} templates; remove one.");
        return Err(Problem::new(Code::Conflict, text));
    }
    Ok(Json(shown(template)))
}

/// Remove a template
#[utoipa::path(delete, path = "/templates/{name}", security(("key" = ["send"])), tag = "Sending", operation_id = "removeTemplate",
    params(("name" = String, Path, description = "Its name"), OfAccount),
    responses((status = 204, description = "It is done"), (status = "default", description = "What is wrong", body = ProblemDetails, content_type = "application/problem+json")))]
pub async fn remove(
    State(http): State<HttpState>,
    key: Key,
    Path(name): Path<String>,
    Query(of): Query<OfAccount>,
) -> Result<StatusCode, Problem> {
    key.needs(Scope::Send)?;
    let account = key.account(&http, of.account.as_deref()).await?;
    if !account.may_send {
        return Err(Problem::new(Code::Forbidden, "This key may not send from this account."));
    }
    let unit = async move |tx: &mut Tx| store::delete(tx, &name).await;
    if http.app.store.write(account.id, unit).await? { Ok(StatusCode::NO_CONTENT) } else { Err(none()) }
}
