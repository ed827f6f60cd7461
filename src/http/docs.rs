//! `GET /docs`: the REST API described for people, by Redoc, whose bundle is part of the program: no other
//! host is asked for anything.

use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

/// Relative, so that a proxy may put it below a path of its own.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Postrider REST API</title>
<style>body { margin: 0 }</style>
</head>
<body>
<redoc spec-url="api/v1/openapi.json" hide-hostname json-sample-expand-level="2"></redoc>
<noscript>This page needs JavaScript; <a href="api/v1/openapi.json">the description itself</a> does not.</noscript>
<script src="docs/redoc.js"></script>
</body>
</html>
"#;

/// openapi/redoc has its licence.
const REDOC: &str = include_str!("../../openapi/redoc/redoc.standalone.js");

/// Nothing but what is served here; the bundle makes styles, and searches in a worker of its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src blob:; style-src 'unsafe-inline'; \
                      img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const NO_SNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// The page.
pub async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        NO_SNIFF,
    ];
    (headers, PAGE)
}

/// What shows it.
pub async fn script() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=86400"),
        NO_SNIFF,
    ];
    (headers, REDOC)
}
