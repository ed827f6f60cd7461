//! The document that describes the API (OpenAPI 3.1).

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    SecurityRequirement, ServerBuilder,
};

use crate::http::rest::{BASE, router};

const ABOUT: &str = "\
Send, read and administer mail.

**Keys.** Every request carries one: `Authorization: Bearer pr_…`. A key has scopes (`read`, `write`, `send`, \
`admin`) and goes as far as it was made for: the accounts of its login, one account, a domain, or the whole server.

**Errors** are problem details (RFC 9457): `code` tells them apart and never changes, `detail` says what to do. Each \
answer has an `X-Request-Id`, by which the operator finds it in the log.

**Lists** come in pages: give `nextCursor` of one as `cursor` of the next.

Fields that are not described are refused by their names; answers may get new fields.";

/// The document without its operations.
pub fn head() -> OpenApi {
    let license =
        LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build();
    let contact = ContactBuilder::new()
        .name(Some("Postrider"))
        .url(Some("https://github.com/postrider/postrider"))
        .build();
    let info = InfoBuilder::new()
        .title("Postrider")
        .version("1")
        .description(Some(ABOUT))
        .license(Some(license))
        .contact(Some(contact))
        .build();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url(BASE).build()]))
        .components(Some(ComponentsBuilder::new().security_scheme("key", bearer).build()))
        .security(Some([SecurityRequirement::new("key", Vec::<String>::new())]))
        .build()
}

/// The whole document as JSON, as it is committed.
pub fn document() -> String {
    let mut text = serde_json::to_string_pretty(&router().1).unwrap_or_default();
    text.push('\n');
    text
}

/// `GET /api/v1/openapi.json`
pub async fn get() -> impl IntoResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(document);
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
