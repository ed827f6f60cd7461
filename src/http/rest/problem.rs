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
    /// 400: the body is no JSON, or a parameter is wrong.
    InvalidRequest,
    /// 409: it does not go with what is there.
    Conflict,
    /// 409: the same Idempotency-Key came with another request.
    IdempotencyMismatch,
    /// 410: what came after a cursor is gone.
    CursorExpired,
    /// 413
    TooLarge,
    /// 422: the request is understood and cannot be done as it is.
    Unprocessable,
    /// 429
    TooManyRequests,
    /// 503: try again later.
    Unavailable,
    /// 500
    Internal,
}

impl Code {
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
            Code::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large"),
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
}

impl Problem {
    /// Of a kind, with a sentence on what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem(Box::new(Parts {
            code,
            detail: detail.into(),
            fields: Vec::new(),
            retry_after_seconds: None,
        }))
    }

    /// The request is wrong.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(Code::InvalidRequest, detail)
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
        let all = [
            Code::Unauthorized,
            Code::MissingScope,
            Code::Forbidden,
            Code::NotFound,
            Code::InvalidRequest,
            Code::Conflict,
            Code::IdempotencyMismatch,
            Code::TooLarge,
            Code::Unprocessable,
            Code::TooManyRequests,
            Code::Unavailable,
        ];
        let code = all.into_iter().find(|code| told["code"] == code.parts().1).unwrap_or(Code::Internal);
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
            HttpError::TimedOut => Problem::invalid("The rest of the request did not come in time."),
            HttpError::TooLarge { limit } => {
                Problem::new(Code::TooLarge, format!("The body may have at most {limit} octets."))
            }
            HttpError::RangeNotSatisfiable { size } => {
                Problem::invalid(format!("The object has {size} octets."))
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
        let AdminError { refusal, message } = error;
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
        let problem = if code == Code::TooManyRequests { problem.retry_after(600) } else { problem };
        if code == Code::TooManyRequests { problem.retry_after(3_600) } else { problem }
    }
}
