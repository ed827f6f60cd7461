//! The REST API at `/api/v1`, for programs that send, read and administer mail: thin over the methods of
//! JMAP (`jmap`) and the administrative acts (`admin`). Each operation is described where it is written;
//! `openapi/postrider.json` is made of these descriptions.

mod administration;
mod attachments;
pub mod body;
mod events;
pub mod key;
mod mailboxes;
mod messages;
pub mod openapi;
mod parameters;
pub mod problem;
mod sends;
mod suppressions;
mod templates;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::rest::parameters::{described, only_described};
use crate::http::rest::problem::{Code, Problem};
use crate::http::state::HttpState;

/// The path that all of it begins with; another one comes with what would break it.
pub const BASE: &str = "/api/v1";

/// The operations, with their descriptions.
fn operations() -> OpenApiRouter<HttpState> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(sends::send, sends::status::list))
        .routes(routes!(sends::send_batch))
        .routes(routes!(sends::status::get))
        .routes(routes!(sends::status::cancel))
        .routes(routes!(mailboxes::list))
        .routes(routes!(messages::list::list))
        .routes(routes!(messages::get, messages::update, messages::delete))
        .routes(routes!(messages::raw))
        .routes(routes!(messages::answer::reply))
        .routes(routes!(messages::answer::forward))
        .routes(routes!(messages::thread))
        .routes(routes!(attachments::upload))
        .routes(routes!(attachments::download))
        .routes(routes!(templates::list))
        .routes(routes!(templates::get, templates::put, templates::remove))
        .routes(routes!(suppressions::list, suppressions::add))
        .routes(routes!(suppressions::remove))
        .routes(routes!(events::timeline))
        .routes(routes!(events::list))
        .routes(routes!(events::webhooks::list, events::webhooks::add))
        .routes(routes!(events::webhooks::get, events::webhooks::update, events::webhooks::remove))
        .routes(routes!(events::webhooks::replace_secret))
        .routes(routes!(events::webhooks::replay))
        .routes(routes!(events::webhooks::test))
        .merge(administration::operations())
}

/// The routes below `BASE`, and the document that describes them.
pub fn router() -> (Router<HttpState>, OpenApi) {
    let (router, document) = operations().split_for_parts();
    let router = router
        .layer(from_fn(to_the_end))
        .layer(from_fn_with_state(described(&document), only_described))
        .route("/openapi.json", axum::routing::get(openapi::get))
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here);
    (router, document)
}

/// What changes something is carried out to its end, whether whoever asked waits for it or not.
async fn to_the_end(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let work = tokio::spawn(next.run(request).in_current_span());
    work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request failed");
        Problem::internal().into_response()
    })
}

async fn nothing_here(request: Request) -> Response {
    Problem::not_found(format!("There is no {}; see {BASE}/openapi.json.", request.uri().path()))
        .into_response()
}

async fn wrong_method(request: Request) -> Response {
    let text = format!("{} is not for {}; see {BASE}/openapi.json.", request.method(), request.uri().path());
    Problem::new(Code::MethodNotAllowed, text).into_response()
}
