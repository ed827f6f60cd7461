//! The session object (RFC 8620, 2).

use axum::Extension;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use axum::extract::State;

use crate::http::auth::SignedIn;
use crate::http::origin::Origin;
use crate::http::state::HttpState;
use crate::jmap::call::Caller;
use crate::jmap::session::{account_capabilities, server_capabilities, state};

/// `GET /.well-known/jmap` and `GET /jmap/session`.
pub async fn get(
    State(http): State<HttpState>,
    Extension(origin): Extension<Origin>,
    SignedIn(caller, _): SignedIn,
) -> Response {
    let session = session(&http, &origin.base_url, &caller);
    let mut response = axum::Json(session).into_response();
    // RFC 8620, 2: it may change at any time.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    response
}

fn session(http: &HttpState, base: &str, caller: &Caller) -> Value {
    let mut accounts = Map::new();
    for account in &caller.accounts {
        accounts.insert(
            account.id.to_string(),
            json!({
                "name": account.name,
                "isPersonal": account.is_personal,
                "isReadOnly": account.is_read_only,
                "accountCapabilities": account_capabilities(&http.jmap, account),
            }),
        );
    }
    let capabilities = server_capabilities(&http.jmap, base);
    let primary = caller.accounts.iter().find(|account| account.is_personal);
    let mut primary_accounts = Map::new();
    if let Some(account) = primary {
        for urn in account_capabilities(&http.jmap, account).keys() {
            primary_accounts.insert(urn.clone(), json!(account.id.to_string()));
        }
    }
    json!({
        "capabilities": capabilities,
        "accounts": accounts,
        "primaryAccounts": primary_accounts,
        "username": caller.username,
        "apiUrl": format!("{base}/jmap/api"),
        "downloadUrl": format!("{base}/jmap/download/{{accountId}}/{{blobId}}/{{name}}?type={{type}}"),
        "uploadUrl": format!("{base}/jmap/upload/{{accountId}}"),
        "eventSourceUrl": format!("{base}/jmap/eventsource?types={{types}}&closeafter={{closeafter}}&ping={{ping}}"),
        "state": state(&http.jmap, base, caller),
    })
}
