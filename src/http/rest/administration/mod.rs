//! Administration: domains, accounts, aliases, keys, the queues. Each operation is the administrative act
//! that the command of that name does too (`admin`), and is entered in the audit log with the key that asked for it.

mod accounts;
mod aliases;
mod audit;
mod domains;
mod keys;
mod queue;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::Office;
use crate::http::rest::key::Key;
use crate::http::state::HttpState;
use crate::types::id::Id;

/// The operations.
pub fn operations() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(domains::list, domains::add))
        .routes(routes!(domains::get, domains::update, domains::remove))
        .routes(routes!(accounts::list, accounts::add))
        .routes(routes!(accounts::get, accounts::update, accounts::remove))
        .routes(routes!(aliases::list, aliases::add))
        .routes(routes!(aliases::remove))
        .routes(routes!(aliases::remove_account))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::revoke))
        .routes(routes!(queue::list))
        .routes(routes!(queue::get, queue::remove))
        .routes(routes!(queue::retry))
        .routes(routes!(queue::hold))
        .routes(routes!(queue::act_on_many))
        .routes(routes!(domains::check))
        .routes(routes!(audit::list))
}

impl Key {
    /// Administrative acts of whoever has this key.
    fn office(&self, http: &HttpState) -> Office {
        let credential = match self.caller.token_id {
            Id(0) => "password".to_owned(),
            id => format!("key {id}"),
        };
        http.office.of_actor(&format!("{} ({credential})", self.caller.username))
    }
}
