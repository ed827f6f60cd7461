//! Errors of the REST API: problem details (RFC 9457) with a code that stays, and a sentence that says
//! what to do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::request::{AdminError, Refusal};
use crate::blob::BlobError;
use crate::http::body::Unread;
use crate::http::error::HttpError;
use crate::jmap::error::{MethodError, SetError};
use crate::store::error::StoreError;
use crate::types::scope::Scope;

/// What kind of error it is. The names are part of the API and never change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// 401: no key, or one that is not good.
    Unauthorized,
    /// 403: the key lacks a scope.
    MissingScope,
    /// 403: the key does not go so far, or the server does not allow it.
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 400: the body is no JSON, or a parameter of the path, the query or a header is wrong.
    InvalidRequest,
    /// 409: it does not go with what is there.
    Conflict,
    /// 409: the same Idempotency-Key came with another request.
    IdempotencyMismatch,
    /// 410: what came after a cursor is gone.
    CursorExpired,
    /// 408: the rest of the request did not come.
    TimedOut,
    /// 413
    TooLarge,
    /// 415
    UnsupportedMediaType,
    /// 416
    RangeNotSatisfiable,
    /// 422: a field of the body is wrong, or what it asks for cannot be done as it is.
    Unprocessable,
    /// 429
    TooManyRequests,
    /// 503: try again later.
    Unavailable,
    /// 500
    Internal,
}

impl Code {
    const ALL: [Code; 17] = [
        Code::Unauthorized,
        Code::MissingScope,
        Code::Forbidden,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::InvalidRequest,
        Code::Conflict,
        Code::IdempotencyMismatch,
        Code::CursorExpired,
        Code::TimedOut,
        Code::TooLarge,
        Code::UnsupportedMediaType,
        Code::RangeNotSatisfiable,
        Code::Unprocessable,
        Code::TooManyRequests,
        Code::Unavailable,
        Code::Internal,
    ];

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Code::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Not signed in"),
            Code::MissingScope => (StatusCode::FORBIDDEN, "missing_scope", "The key lacks a scope"),
            Code::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Code::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Code::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not for this method")
            }
            Code::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid_request", "The request is wrong"),
            Code::Conflict => (StatusCode::CONFLICT, "conflict", "It conflicts with what is there"),
            Code::IdempotencyMismatch => (
                StatusCode::CONFLICT,
                "idempotency_mismatch",
                "The idempotency key was used for another request",
            ),
            Code::CursorExpired => (StatusCode::GONE, "cursor_expired", "The cursor is too old"),
            Code::TimedOut => (StatusCode::REQUEST_TIMEOUT, "timed_out", "Too slow"),
            Code::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large"),
            Code::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Not this media type")
            }
            Code::RangeNotSatisfiable => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", "There is no such range")
            }
            Code::Unprocessable => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", "It cannot be done as asked")
            }
            Code::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests")
            }
            Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Busy"),
            Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed"),
        }
    }
}

/// Problem details (RFC 9457), with media type `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "about:blank", "title": "Not found", "status": 404, "code": "not_found",
    "detail": "There is no such message in this account."
}))]
pub struct ProblemDetails {
    /// `about:blank`: `code` tells errors apart.
    pub r#type: String,
    /// The kind of error, for people.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// The kind of error, for programs: it never changes.
    pub code: String,
    /// What is wrong and what to do.
    pub detail: String,
    /// The fields that are wrong, where that is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// Why a request of the REST API got no answer. Boxed: results that may hold it are passed about.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: String,
    fields: Vec<String>,
    retry_after_seconds: Option<u64>,
    /// Octets of an object of which no such range was there (RFC 9110, 15.5.17).
    size: Option<u64>,
}

impl Problem {
    /// Of a kind, with a sentence on what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem(Box::new(Parts {
            code,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after_seconds: None,
            size: None,
        }))
    }

    /// The request is wrong.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(Code::InvalidRequest, detail)
    }

    /// A field of the body has a value that cannot be.
    pub fn field(name: &str, what: impl std::fmt::Display) -> Problem {
        Problem::new(Code::Unprocessable, format!("{name}: {what}.")).fields(vec![name.to_owned()])
    }

    /// What is wrong with a parameter, when it was a field of the body.
    pub fn of_field(self, name: &str) -> Problem {
        match self.0.code {
            Code::InvalidRequest | Code::NotFound => {
                let detail = self.0.detail.trim_end_matches('.');
                Problem::field(name, detail.strip_prefix(&format!("{name}: ")).unwrap_or(detail))
            }
            _ => self,
        }
    }

    /// What was asked for is not there, or is not for this key.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(Code::NotFound, detail)
    }

    /// A key without this scope.
    pub fn missing_scope(scope: Scope) -> Problem {
        Problem::new(Code::MissingScope, format!("This needs a key with the scope {}.", scope.name()))
    }

    /// The same of something within the request.
    pub fn within(mut self, place: &str) -> Problem {
        self.0.detail = format!("{place}.{}", self.0.detail);
        for field in &mut self.0.fields {
            *field = format!("{place}.{field}");
        }
        self
    }

    /// And the fields that are wrong.
    pub fn fields(mut self, fields: Vec<String>) -> Problem {
        self.0.fields = fields;
        self
    }

    fn retry_after(mut self, seconds: u64) -> Problem {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// One that was told before, from its details.
    pub fn from_details(told: serde_json::Value) -> Problem {
        let code =
            Code::ALL.into_iter().find(|code| told["code"] == code.parts().1).unwrap_or(Code::Internal);
        let fields = told["fields"].as_array().into_iter().flatten();
        let fields = fields.filter_map(|field| field.as_str().map(str::to_owned)).collect();
        Problem::new(code, told["detail"].as_str().unwrap_or_default()).fields(fields)
    }

    fn unavailable() -> Problem {
        Problem::new(Code::Unavailable, "The server is busy; try again in a few seconds.").retry_after(5)
    }

    /// A fault of ours, which is logged.
    pub fn internal() -> Problem {
        Problem::new(Code::Internal, "The server failed; its log has the cause.")
    }

    /// Whether it is that the key does not go so far.
    pub fn is_forbidden(&self) -> bool {
        self.0.code == Code::Forbidden
    }

    /// As it is told.
    pub fn details(&self) -> ProblemDetails {
        let Parts { code, detail, fields, .. } = &*self.0;
        let (status, code, title) = code.parts();
        ProblemDetails {
            r#type: "about:blank".to_owned(),
            title: title.to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.clone(),
            fields: fields.clone(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, ..) = self.0.code.parts();
        let mut response = (status, Json(self.details())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.0.code == Code::Unauthorized {
            let bearer = HeaderValue::from_static("Bearer realm=\"Postrider\"");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(size) = self.0.size
            && let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}"))
        {
            headers.insert(header::CONTENT_RANGE, range);
        }
        response
    }
}

impl From<HttpError> for Problem {
    fn from(error: HttpError) -> Problem {
        match error {
            HttpError::Unauthorized { .. } => {
                let text = "Send a key that is good: `Authorization: Bearer pr_…`.";
                Problem::new(Code::Unauthorized, text)
            }
            HttpError::TooMany { retry_after_seconds, detail } => {
                Problem::new(Code::TooManyRequests, detail).retry_after(retry_after_seconds)
            }
            HttpError::NotFound => Problem::not_found("There is nothing here for you."),
            HttpError::Forbidden(detail) => Problem::new(Code::Forbidden, detail),
            HttpError::MissingScope(scope) => Problem::missing_scope(scope),
            HttpError::BadRequest(detail) => Problem::invalid(detail),
            HttpError::TimedOut => {
                Problem::new(Code::TimedOut, "The rest of the request did not come in time.")
            }
            HttpError::TooLarge { limit } => {
                Problem::new(Code::TooLarge, format!("The body may have at most {limit} octets."))
            }
            HttpError::RangeNotSatisfiable { size } => {
                let mut problem =
                    Problem::new(Code::RangeNotSatisfiable, format!("The object has {size} octets."));
                problem.0.size = Some(size);
                problem
            }
            HttpError::Jmap(error) => {
                let detail = error.problem(429)["detail"].as_str().unwrap_or_default().to_owned();
                Problem::new(Code::TooManyRequests, detail).retry_after(1)
            }
            HttpError::Unavailable => Problem::unavailable(),
            HttpError::Internal => Problem::internal(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        HttpError::from(error).into()
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Problem {
        HttpError::from(error).into()
    }
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Problem {
        HttpError::from(unread).into()
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Problem {
        let AdminError { refusal, message, .. } = error;
        let code = match refusal {
            Refusal::Invalid => Code::Unprocessable,
            Refusal::NotFound => Code::NotFound,
            Refusal::Conflict => Code::Conflict,
            Refusal::Unavailable => return Problem::unavailable(),
            Refusal::Failed => {
                tracing::error!(error = message, "an administrative act failed");
                return Problem::internal();
            }
        };
        Problem::new(code, message)
    }
}

impl Problem {
    /// Why an act could not be done that was asked for in a body: what that names, and is not there, is
    /// wrong in it.
    pub fn of_body(error: AdminError) -> Problem {
        match error.refusal {
            Refusal::NotFound => Problem::new(Code::Unprocessable, error.message),
            _ => error.into(),
        }
    }
}

impl From<MethodError> for Problem {
    fn from(error: MethodError) -> Problem {
        match error {
            MethodError::AccountNotFound | MethodError::FromAccountNotFound => {
                Problem::not_found("There is no such account for this key.")
            }
            MethodError::AccountReadOnly => {
                Problem::new(Code::Forbidden, "This key may not change this account.")
            }
            MethodError::Forbidden(detail) => Problem::new(Code::MissingScope, detail),
            MethodError::ServerUnavailable => Problem::unavailable(),
            MethodError::ServerFail | MethodError::UnknownMethod => Problem::internal(),
            MethodError::AnchorNotFound => {
                Problem::invalid("cursor: the message that it stood at is gone; begin anew")
            }
            MethodError::InvalidArguments(text)
            | MethodError::InvalidResultReference(text)
            | MethodError::UnknownDataType(text)
            | MethodError::UnsupportedSort(text)
            | MethodError::UnsupportedFilter(text)
            | MethodError::RequestTooLarge(text) => Problem::invalid(text),
            MethodError::StateMismatch
            | MethodError::CannotCalculateChanges
            | MethodError::TooManyChanges => {
                Problem::new(Code::Conflict, "The account has changed meanwhile.")
            }
        }
    }
}

impl From<SetError> for Problem {
    fn from(error: SetError) -> Problem {
        let detail = error.description.clone().unwrap_or_else(|| error.kind.to_owned());
        let code = match error.kind {
            "notFound" => Code::NotFound,
            "overQuota" | "forbiddenFrom" | "forbiddenMailFrom" => Code::Forbidden,
            "forbiddenToSend" => Code::TooManyRequests,
            "tooLarge" => Code::TooLarge,
            "cannotUnsend" => Code::Conflict,
            _ => Code::Unprocessable,
        };
        let problem = Problem::new(code, detail).fields(error.properties.clone());
        // Recipients are counted by the hour.
        if code == Code::TooManyRequests { problem.retry_after(3_600) } else { problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_described_and_read_again() {
        let documented = include_str!("../../../docs/integrators.md");
        for code in Code::ALL {
            let (status, name, _) = code.parts();
            assert!(documented.contains(&format!("| {} | `{name}` |", status.as_u16())), "{name}");
            let problem = Problem::new(code, "why").fields(vec!["a".to_owned()]);
            let told = serde_json::to_value(problem.details()).unwrap();
            assert_eq!(serde_json::to_value(Problem::from_details(told.clone()).details()).unwrap(), told);
        }
    }
}
