//! The document that describes the API (OpenAPI 3.1).

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    SecurityRequirement, ServerBuilder,
};

use crate::http::rest::{BASE, router};

const ABOUT: &str = "\
Send, read and administer mail.

**Keys.** Every request carries one: `Authorization: Bearer pr_…`. A key has scopes (`read`, `write`, `send`, \
`admin`) and goes as far as it was made for: the accounts of its login, one account, a domain, or the whole server. Each operation \
names the scopes that it wants.

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

/// What stands for parameters in paths, in the examples.
const EXAMPLES: [(&str, &str); 7] = [
    ("{id}", "agvkzq2bw2cda"),
    ("{blobId}", "Gd2f4b8a1c3e5"),
    ("{address}", "alice@example.org"),
    ("{alias}", "team@example.org"),
    ("{domain}", "example.org"),
    ("{email}", "bob@example.net"),
    ("{name}", "order"),
];

/// A call by curl, for each operation.
fn add_examples(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let paths = document["paths"].as_object_mut();
    for (path, operations) in paths.into_iter().flatten() {
        let path = EXAMPLES.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            let mut lines = vec![format!("curl https://mail.example.org{BASE}{path}")];
            if method != "get" {
                lines.push(format!("-X {}", method.to_uppercase()));
            }
            lines.push("-H \"Authorization: Bearer $KEY\"".to_owned());
            if let Some(content) = operation["requestBody"]["content"].as_object() {
                match content.get("application/json") {
                    Some(body) => {
                        let of = body["schema"]["$ref"].as_str().and_then(|of| of.rsplit('/').next());
                        let example = &schemas[of.unwrap_or_default()]["example"];
                        lines.push("-H \"Content-Type: application/json\"".to_owned());
                        lines.push(format!("-d '{example}'"));
                    }
                    None => lines.push("--data-binary @invoice.pdf".to_owned()),
                }
            }
            // Octets may be none at all.
            if operation["requestBody"]["content"]["application/octet-stream"].is_object() {
                operation["requestBody"]["required"] = json!(false);
            }
            let source = lines.join(" \\\n  ");
            operation["x-codeSamples"] = json!([{ "lang": "Shell", "label": "curl", "source": source }]);
        }
    }
}

/// The header fields of answers, which are the same everywhere.
fn add_headers(document: &mut Value) {
    let field = |what: &str, of: Value| json!({ "description": what, "schema": of });
    let retry = field("Seconds after which to try again, with 429 and 503", json!({ "type": "integer" }));
    let request = field("By which the operator finds the request in the log", json!({ "type": "string" }));
    let paths = document["paths"].as_object_mut();
    let operations = paths.into_iter().flatten().filter_map(|(_, operations)| operations.as_object_mut());
    for operation in operations.flat_map(|operations| operations.values_mut()) {
        for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
            response["headers"]["X-Request-Id"] = request.clone();
            if status == "default" {
                response["headers"]["Retry-After"] = retry.clone();
            }
        }
    }
}

/// The whole document as JSON, as it is committed.
pub fn document() -> String {
    let mut document = serde_json::to_value(router().1).unwrap_or_default();
    add_examples(&mut document);
    add_headers(&mut document);
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// `GET /api/v1/openapi.json`
pub async fn get() -> impl IntoResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(document);
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
