//! Administration: domains, accounts, aliases, keys, the queues. Each operation is the administrative act
//! that the command of that name does too (`admin`), and is logged with the key that asked for it.

mod accounts;
mod aliases;
mod domains;
mod keys;
mod queue;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::rest::key::Key;
use crate::http::state::HttpState;

/// The operations.
pub fn operations() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(domains::list, domains::add))
        .routes(routes!(domains::get, domains::update, domains::remove))
        .routes(routes!(accounts::list, accounts::add))
        .routes(routes!(accounts::get, accounts::update, accounts::remove))
        .routes(routes!(aliases::list, aliases::add))
        .routes(routes!(aliases::remove))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::revoke))
        .routes(routes!(queue::list))
        .routes(routes!(queue::get, queue::remove))
        .routes(routes!(queue::retry))
}

/// Notes in the log who has done what.
fn note(key: &Key, act: &str, on: &str) {
    tracing::info!(login = key.caller.username, token = %key.caller.token_id, act, on, "an administrative act");
}
