//! The three levels of errors of JMAP: of a request (RFC 8620, 3.6.1), of a method (3.6.2), of an
//! object in a /set (5.3).

use std::ops::{Deref, DerefMut};

use serde_json::{Map, Value, json};

use crate::blob::BlobError;
use crate::store::error::StoreError;

/// The whole request cannot be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// A capability in `using` that this server does not have.
    UnknownCapability(String),
    /// The body is no JSON (I-JSON) text.
    NotJson(String),
    /// The JSON is no Request object.
    NotRequest(String),
    /// A limit was exceeded: its name among the core capability's.
    Limit { limit: &'static str, detail: String },
}

impl RequestError {
    /// The problem type (RFC 7807).
    pub fn problem_type(&self) -> &'static str {
        match self {
            RequestError::UnknownCapability(_) => "urn:ietf:params:jmap:error:unknownCapability",
            RequestError::NotJson(_) => "urn:ietf:params:jmap:error:notJSON",
            RequestError::NotRequest(_) => "urn:ietf:params:jmap:error:notRequest",
            RequestError::Limit { .. } => "urn:ietf:params:jmap:error:limit",
        }
    }

    /// The problem details object.
    pub fn problem(&self, status: u16) -> Value {
        let detail = match self {
            RequestError::UnknownCapability(name) => {
                format!(
                    "The server does not know the capability {name:?}; the session object lists those it knows."
                )
            }
            RequestError::NotJson(detail) | RequestError::NotRequest(detail) => detail.clone(),
            RequestError::Limit { detail, .. } => detail.clone(),
        };
        let mut problem = json!({ "type": self.problem_type(), "status": status, "detail": detail });
        if let RequestError::Limit { limit, .. } = self {
            problem["limit"] = json!(limit);
        }
        problem
    }
}

/// A method call failed.
#[derive(Debug, Clone, PartialEq)]
pub enum MethodError {
    /// No such method, or its capability is not in `using`.
    UnknownMethod,
    /// What is wrong with the arguments.
    InvalidArguments(String),
    /// A result reference that leads nowhere.
    InvalidResultReference(String),
    /// The account does not exist, or is none of the caller's.
    AccountNotFound,
    /// The source account of a copy, likewise.
    FromAccountNotFound,
    /// What is asked for is told to nobody.
    Forbidden(String),
    /// The caller may only read this account.
    AccountReadOnly,
    /// `ifInState` is not the state.
    StateMismatch,
    /// The changes since that state are not known (any more).
    CannotCalculateChanges,
    /// There are more changes than `maxChanges`.
    TooManyChanges,
    /// A type name that the method does not know (RFC 9404, 4.3).
    UnknownDataType(String),
    /// The anchor is not in the list.
    AnchorNotFound,
    /// A sort property that cannot be sorted by.
    UnsupportedSort(String),
    /// A filter that cannot be evaluated.
    UnsupportedFilter(String),
    /// More objects than the server takes in one call.
    RequestTooLarge(String),
    /// Something behind is down or busy: try again.
    ServerUnavailable,
    /// A fault of the server, which has logged the cause.
    ServerFail,
}

impl MethodError {
    /// The arguments of the `error` response.
    pub fn arguments(&self) -> Value {
        use MethodError::*;
        let (name, description) = match self {
            UnknownMethod => ("unknownMethod", None),
            InvalidArguments(text) => ("invalidArguments", Some(text.as_str())),
            InvalidResultReference(text) => ("invalidResultReference", Some(text.as_str())),
            AccountNotFound => ("accountNotFound", None),
            FromAccountNotFound => ("fromAccountNotFound", None),
            Forbidden(text) => ("forbidden", Some(text.as_str())),
            AccountReadOnly => ("accountReadOnly", None),
            StateMismatch => ("stateMismatch", None),
            CannotCalculateChanges => ("cannotCalculateChanges", None),
            TooManyChanges => ("tooManyChanges", None),
            UnknownDataType(text) => ("unknownDataType", Some(text.as_str())),
            AnchorNotFound => ("anchorNotFound", None),
            UnsupportedSort(text) => ("unsupportedSort", Some(text.as_str())),
            UnsupportedFilter(text) => ("unsupportedFilter", Some(text.as_str())),
            RequestTooLarge(text) => ("requestTooLarge", Some(text.as_str())),
            ServerUnavailable => {
                ("serverUnavailable", Some("The server is busy; try again in a few seconds."))
            }
            ServerFail => ("serverFail", Some("The server failed; the operator's log has the cause.")),
        };
        match description {
            None => json!({ "type": name }),
            Some(description) => json!({ "type": name, "description": description }),
        }
    }
}

impl From<StoreError> for MethodError {
    fn from(error: StoreError) -> MethodError {
        match error {
            // Removed while the request was running.
            StoreError::NoSuchAccount => MethodError::AccountNotFound,
            error if error.is_temporary() => {
                tracing::warn!(%error, "a method call was refused for now");
                MethodError::ServerUnavailable
            }
            error => {
                tracing::error!(%error, "a method call failed");
                MethodError::ServerFail
            }
        }
    }
}

impl From<BlobError> for MethodError {
    fn from(error: BlobError) -> MethodError {
        tracing::error!(%error, "a blob could not be read or written");
        if error.is_temporary() { MethodError::ServerUnavailable } else { MethodError::ServerFail }
    }
}

/// One object of a /set (or import, copy) was refused. Boxed: it is the rare outcome, and results
/// that may hold it are passed about for every object.
#[derive(Debug, Clone, PartialEq)]
pub struct SetError(Box<Refusal>);

/// What a `SetError` says.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The type of the error.
    pub kind: &'static str,
    /// What to do about it.
    pub description: Option<String>,
    /// The offending properties of `invalidProperties`.
    pub properties: Vec<String>,
    /// Further members that some types of error have.
    pub more: Map<String, Value>,
}

impl Deref for SetError {
    type Target = Refusal;

    fn deref(&self) -> &Refusal {
        &self.0
    }
}

impl DerefMut for SetError {
    fn deref_mut(&mut self) -> &mut Refusal {
        &mut self.0
    }
}

impl SetError {
    /// An error of a type.
    pub fn new(kind: &'static str) -> SetError {
        let refusal = Refusal { kind, description: None, properties: Vec::new(), more: Map::new() };
        SetError(Box::new(refusal))
    }

    /// With a sentence for the developer of the client.
    pub fn because(mut self, description: impl Into<String>) -> SetError {
        self.description = Some(description.into());
        self
    }

    /// With a further member.
    pub fn with(mut self, name: &str, value: Value) -> SetError {
        self.more.insert(name.to_owned(), value);
        self
    }

    /// `invalidProperties`, naming one.
    pub fn invalid(property: impl Into<String>, description: impl Into<String>) -> SetError {
        let mut error = SetError::new("invalidProperties").because(description);
        error.properties.push(property.into());
        error
    }

    /// `notFound`.
    pub fn not_found() -> SetError {
        SetError::new("notFound")
    }

    /// The object of `notCreated` and its like.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("type".to_owned(), json!(self.kind));
        if let Some(description) = &self.description {
            out.insert("description".to_owned(), json!(description));
        }
        if !self.properties.is_empty() {
            out.insert("properties".to_owned(), json!(self.properties));
        }
        out.extend(self.more.clone());
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_may_be_tried_again_and_what_is_broken_may_not() {
        let told = |error: StoreError| MethodError::from(error).arguments();
        assert_eq!(told(StoreError::NoSuchAccount), json!({ "type": "accountNotFound" }));
        for (error, kind) in
            [(StoreError::Busy, "serverUnavailable"), (StoreError::UnitPanicked, "serverFail")]
        {
            let told = told(error);
            assert_eq!(told["type"], kind);
            // RFC 8620, 3.6.2: serverFail says more; what failed is for the log alone.
            assert!(told["description"].is_string(), "{told}");
        }
    }
}
