//! Bodies of the REST API: JSON, read whole, every field known by its name.

use axum::extract::{FromRequest, Request};
use axum::http::header;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::http::body::{Unread, read_whole};
use crate::http::rest::problem::{Code, Problem};

/// Octets of a body without attachments; a message has its own limit.
const MAX_BODY: usize = 1 << 20;

/// A JSON body of at most so many octets.
pub async fn read_json<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let text = "Content-Type: application/json is wanted.";
        return Err(Problem::new(Code::UnsupportedMediaType, text));
    }
    let body = read_whole(body, limit).await.map_err(|unread| match unread {
        Unread::TooLarge => {
            Problem::new(Code::TooLarge, format!("The body may have at most {limit} octets."))
        }
        unread => unread.into(),
    })?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::invalid(format!("The body is no JSON: {error}.")))?;
    drop(body);
    read_object(value)
}

/// An object of known fields. A list of their values in order, which serde takes as well, is none.
pub fn read_object<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    if !value.is_object() {
        return Err(Problem::new(
            Code::Unprocessable,
            "The body is not as it should be: an object is wanted.",
        ));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let is_named = !path.is_empty() && path != ".";
        let said = error.into_inner();
        let said = said.to_string();
        let problem = |what: String| Problem::new(Code::Unprocessable, what);
        // serde names a member that is missing in its text alone.
        let missing = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (is_named, missing) {
            (true, Some(name)) => problem(format!("{path}: {said}.")).fields(vec![format!("{path}.{name}")]),
            (true, None) => problem(format!("{path}: {said}.")).fields(vec![path]),
            (false, Some(name)) => problem(format!("{name}: it is wanted.")).fields(vec![name.to_owned()]),
            (false, None) => problem(format!("The body is not as it should be: {said}.")),
        }
    })
}

/// A member for which `null` is a value of its own: `None` when it is absent. Wants `#[serde(default)]` beside it.
pub fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// A JSON body of a usual size.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Body<T>, Problem> {
        read_json(request, MAX_BODY).await.map(Body)
    }
}
