//! What is said on a WebSocket (RFC 8887, 4.3): each message is a JSON object that says by `@type` what
//! it is.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::http::websocket::live::{self, Wanted};
use crate::jmap::error::RequestError;
use crate::jmap::i_json;
use crate::jmap::request::Request;
use crate::push::event_source::{event_id, read_event_id, state_change};
use crate::push::hub::Told;
use crate::types::object_type::ObjectType;

/// Octets of the id of a request, which is given back with its answer.
const MAX_REQUEST_ID: usize = 1_024;

/// A message from a client.
#[derive(Debug)]
pub enum Incoming {
    /// RFC 8887, 4.3.2.
    Request {
        /// For the answer.
        id: Option<String>,
        request: Request,
    },
    /// RFC 8887, 4.3.5.2.
    PushEnable {
        types: Vec<ObjectType>,
        /// The states that the client says it knows.
        push_state: Option<Told>,
    },
    /// RFC 8887, 4.3.5.3.
    PushDisable,
    /// Ours: a list to be shown, or why it cannot be.
    LiveQuery { id: String, wanted: Result<Wanted, live::Refused> },
    /// Ours: a list to be shown no more.
    LiveQueryCancel { id: String },
}

/// Why a message is none.
#[derive(Debug)]
pub struct Refused {
    /// Of the request, when it has one.
    pub id: Option<String>,
    pub error: RequestError,
}

impl Incoming {
    /// Reads a message.
    pub fn parse(text: &str) -> Result<Incoming, Refused> {
        let value = i_json::read(text.as_bytes()).map_err(|error| Refused {
            id: None,
            error: RequestError::NotJson(format!("The message is not I-JSON: {error}.")),
        })?;
        let id = value.get("id").and_then(Value::as_str).filter(|id| id.len() <= MAX_REQUEST_ID);
        let id = id.map(str::to_owned);
        Incoming::of(value, id.clone()).map_err(|error| Refused { id, error })
    }

    fn of(value: Value, id: Option<String>) -> Result<Incoming, RequestError> {
        let not = |what: &str| Err(RequestError::NotRequest(what.to_owned()));
        match value.get("@type").and_then(Value::as_str) {
            Some("Request") => {
                if id.is_none() && value.get("id").is_some_and(|id| !id.is_null()) {
                    return not("The id of a request must be a String of at most 1024 octets.");
                }
                Ok(Incoming::Request { id, request: Request::from_value(value)? })
            }
            Some("WebSocketPushEnable") => {
                let Some(types) = types_of(&value) else {
                    return not("dataTypes must be a String[], or null for all types.");
                };
                let push_state = match value.get("pushState") {
                    None | Some(Value::Null) => None,
                    Some(Value::String(state)) => Some(read_event_id(state)),
                    Some(_) => return not("pushState must be a String."),
                };
                Ok(Incoming::PushEnable { types, push_state })
            }
            Some("WebSocketPushDisable") => Ok(Incoming::PushDisable),
            Some(kind @ ("LiveQuery" | "LiveQueryCancel")) => match id {
                None => not("A live query has an id: a String of at most 1024 octets."),
                Some(id) if kind == "LiveQuery" => {
                    Ok(Incoming::LiveQuery { id, wanted: Wanted::read(&value) })
                }
                Some(id) => Ok(Incoming::LiveQueryCancel { id }),
            },
            _ => not("@type must be Request, WebSocketPushEnable, WebSocketPushDisable or LiveQuery."),
        }
    }
}

/// Types that this server does not have never change.
fn types_of(value: &Value) -> Option<Vec<ObjectType>> {
    match value.get("dataTypes") {
        None | Some(Value::Null) => Some(ObjectType::ALL.to_vec()),
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            Some(names?.into_iter().filter_map(ObjectType::named).collect())
        }
        Some(_) => None,
    }
}

/// The Response to a request, of the JSON text of its answer (RFC 8887, 4.3.3).
pub fn response(id: Option<&str>, answer: &str) -> String {
    let id = id.map(|id| format!("\"requestId\":{},", Value::from(i_json_text(id)))).unwrap_or_default();
    // The answer is an object with members.
    format!("{{\"@type\":\"Response\",{id}{}", answer.strip_prefix('{').unwrap_or(answer))
}

/// The RequestError (RFC 8887, 4.3.4): the problem details, and for which request they are.
pub fn request_error(id: Option<&str>, error: &RequestError) -> String {
    let mut out = Map::new();
    out.insert("@type".to_owned(), json!("RequestError"));
    out.insert("requestId".to_owned(), id.map_or(Value::Null, |id| Value::from(i_json_text(id))));
    if let Value::Object(problem) = error.problem(400) {
        out.extend(problem);
    }
    i_json::without_noncharacters(Value::Object(out).to_string())
}

/// The StateChange with the state that the client may come back with (RFC 8887, 4.3.5.1).
pub fn push(news: &Told, told: &Told) -> String {
    let mut change = state_change(news);
    change["pushState"] = Value::from(event_id(told));
    change.to_string()
}

fn i_json_text(text: &str) -> Cow<'_, str> {
    if i_json::is_text(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(i_json::without_noncharacters(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Option<String>, &'static str) {
        let refused = Incoming::parse(text).expect_err(text);
        (refused.id, refused.error.problem_type().rsplit(':').next().unwrap_or_default())
    }

    #[test]
    fn what_is_no_message_is_refused_and_says_for_which_request() {
        assert_eq!(refused("{"), (None, "notJSON"));
        assert_eq!(refused("[]"), (None, "notRequest"));
        assert_eq!(refused(r#"{"id":"1"}"#), (Some("1".into()), "notRequest"));
        assert_eq!(refused(r#"{"@type":"Response","id":"é"}"#), (Some("é".into()), "notRequest"));
        assert_eq!(refused(r#"{"@type":"Request","id":"1"}"#), (Some("1".into()), "notRequest"));
        let request = |id: &str| format!(r#"{{"@type":"Request","id":{id},"using":[],"methodCalls":[]}}"#);
        assert_eq!(refused(&request("7")), (None, "notRequest"));
        assert_eq!(refused(&request(&format!("\"{}\"", "x".repeat(1_025)))), (None, "notRequest"));
        assert!(Incoming::parse(&request("\"7\"")).is_ok() && Incoming::parse(&request("null")).is_ok());
        let unknown = r#"{"@type":"Request","id":"1","using":["urn:x"],"methodCalls":[]}"#;
        assert_eq!(refused(unknown), (Some("1".into()), "unknownCapability"));
        for wrong in [r#""dataTypes":"Email""#, r#""dataTypes":[1]"#, r#""pushState":1"#] {
            let text = format!("{{\"@type\":\"WebSocketPushEnable\",{wrong}}}");
            assert_eq!(refused(&text), (None, "notRequest"), "{text}");
        }
    }

    #[test]
    fn types_are_those_named_that_there_are() {
        let types = |text: &str| match Incoming::parse(text) {
            Ok(Incoming::PushEnable { types, push_state: None }) => types,
            other => panic!("{other:?}"),
        };
        assert_eq!(types(r#"{"@type":"WebSocketPushEnable"}"#), ObjectType::ALL);
        assert_eq!(types(r#"{"@type":"WebSocketPushEnable","dataTypes":null}"#), ObjectType::ALL);
        let some = r#"{"@type":"WebSocketPushEnable","dataTypes":["Email","Calendar","Mailbox"]}"#;
        assert_eq!(types(some), [ObjectType::Email, ObjectType::Mailbox]);
    }

    #[test]
    fn answers_are_json_with_the_id_of_their_request() {
        let answer = response(Some("a\"b"), r#"{"methodResponses":[],"sessionState":"s"}"#);
        let wanted =
            json!({"@type": "Response", "requestId": "a\"b", "methodResponses": [], "sessionState": "s"});
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), wanted);
        let answer = request_error(None, &RequestError::NotJson("what".to_owned()));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["@type"], json!("RequestError"));
        assert_eq!(answer["requestId"], json!(null));
        assert_eq!(answer["type"], json!("urn:ietf:params:jmap:error:notJSON"));
    }
}
