//! A request: its calls in order, references between them, and the response (RFC 8620, 3).

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use serde_json::{Map, Value};

use crate::jmap::arguments::Arguments;
use crate::jmap::call::{Body, Call, Caller, Jmap, MethodResult};
use crate::jmap::capability::{Capability, is_not_offered};
use crate::jmap::error::{MethodError, RequestError};
use crate::jmap::i_json;
use crate::jmap::limits;
use crate::jmap::method;
use crate::jmap::reference;

/// A request that is one by its form (RFC 8620, 3.3).
#[derive(Debug)]
pub struct Request {
    using: Vec<Capability>,
    calls: Vec<Invocation>,
    created_ids: Option<HashMap<String, String>>,
}

#[derive(Debug)]
struct Invocation {
    name: String,
    arguments: Map<String, Value>,
    call_id: String,
}

/// A response that later calls may refer to.
pub(super) struct Answered {
    pub(super) name: &'static str,
    pub(super) call_id: String,
    pub(super) body: Body,
}

impl Request {
    /// Reads a request body. The size is the caller's to limit; the depth is limited here.
    pub fn parse(body: &[u8]) -> Result<Request, RequestError> {
        let value = i_json::read(body)
            .map_err(|error| RequestError::NotJson(format!("The body is not I-JSON: {error}.")))?;
        Request::from_value(value)
    }

    /// Of a value that was read as I-JSON. Members that a Request does not have are passed over.
    pub fn from_value(value: Value) -> Result<Request, RequestError> {
        let not_request =
            |what: &str| RequestError::NotRequest(format!("The body is no Request object: {what}."));
        let Value::Object(mut object) = value else { return Err(not_request("it is no object")) };
        let Some(Value::Array(using)) = object.remove("using") else {
            return Err(not_request("using must be a String[]"));
        };
        let mut capabilities = Vec::with_capacity(using.len().min(Capability::ALL.len()));
        for name in &using {
            let Value::String(name) = name else { return Err(not_request("using must be a String[]")) };
            match Capability::named(name) {
                Some(capability) if capabilities.contains(&capability) => {}
                Some(capability) => capabilities.push(capability),
                None if is_not_offered(name) => {}
                None => return Err(RequestError::UnknownCapability(name.clone())),
            }
        }
        let Some(Value::Array(calls)) = object.remove("methodCalls") else {
            return Err(not_request("methodCalls must be an Invocation[]"));
        };
        if calls.len() > limits::MAX_CALLS_IN_REQUEST {
            return Err(RequestError::Limit {
                limit: "maxCallsInRequest",
                detail: format!("A request may hold {} calls.", limits::MAX_CALLS_IN_REQUEST),
            });
        }
        let invocation = |call| {
            Invocation::read(call).ok_or_else(|| not_request("a call must be [String, Object, String]"))
        };
        let calls = calls.into_iter().map(invocation).collect::<Result<_, _>>()?;
        let created_ids = match object.remove("createdIds") {
            None | Some(Value::Null) => None,
            Some(ids) => {
                Some(read_created_ids(ids).ok_or_else(|| not_request("createdIds must be an Id[Id]"))?)
            }
        };
        if created_ids.as_ref().is_some_and(|ids: &HashMap<_, _>| ids.len() > limits::MAX_CREATED_IDS) {
            return Err(not_request("createdIds holds too many ids"));
        }
        Ok(Request { using: capabilities, calls, created_ids })
    }

    /// Runs the calls in order; the response as JSON text.
    pub async fn run(self, jmap: &Jmap, caller: &Caller, session_state: &str) -> String {
        self.run_within(limits::MAX_SIZE_RESPONSE, jmap, caller, session_state).await
    }

    /// As `run`, in a response of about so many octets at the most.
    async fn run_within(self, max_size: usize, jmap: &Jmap, caller: &Caller, session_state: &str) -> String {
        let wants_created_ids = self.created_ids.is_some();
        let mut created_ids = self.created_ids.unwrap_or_default();
        let mut answered: Vec<Answered> = Vec::new();
        let mut size = 0;
        let mut left = reference::MAX_REFERRED;
        for invocation in self.calls {
            let mut call = Call {
                jmap,
                caller,
                using: &self.using,
                created_ids: &mut created_ids,
                implicit: Vec::new(),
            };
            let Invocation { name, arguments, call_id } = invocation;
            let (name, result) = run_call(&mut call, &name, arguments, &mut answered, &mut left).await;
            let implicit = std::mem::take(&mut call.implicit);
            let (name, body) = match result {
                Ok(body) => (name, body),
                Err(error) => ("error", Body::Json(error.arguments())),
            };
            for (name, body) in std::iter::once((name, body)).chain(implicit) {
                let (name, body) = if size + body.size_hint() > max_size && only_reads(name) {
                    let error = MethodError::RequestTooLarge("the response would be too large".to_owned());
                    ("error", Body::Json(error.arguments()))
                } else {
                    (name, body)
                };
                size += body.size_hint();
                answered.push(Answered { name, call_id: call_id.clone(), body });
            }
        }
        write_response(&answered, wants_created_ids.then_some(&created_ids), session_state, size)
    }
}

/// Runs one method for another part of the program: its answer as a value.
pub async fn call_one(
    jmap: &Jmap,
    caller: &Caller,
    name: &str,
    arguments: Value,
) -> Result<Value, MethodError> {
    let Value::Object(arguments) = arguments else { return Err(MethodError::ServerFail) };
    let mut call = Call {
        jmap,
        caller,
        using: &Capability::ALL,
        created_ids: &mut HashMap::new(),
        implicit: Vec::new(),
    };
    let (_, result) = run_call(&mut call, name, arguments, &mut [], &mut 0).await;
    match result? {
        Body::Json(value) => Ok(value),
        Body::Text(text) => serde_json::from_str(&text).map_err(|error| {
            tracing::error!(%error, method = name, "an answer is no JSON");
            MethodError::ServerFail
        }),
    }
}

async fn run_call(
    call: &mut Call<'_>,
    name: &str,
    arguments: Map<String, Value>,
    answered: &mut [Answered],
    left: &mut usize,
) -> (&'static str, MethodResult) {
    let Some(method) = method::named(name) else {
        return ("error", Err(MethodError::UnknownMethod));
    };
    if !call.using.contains(&method.capability) {
        return (method.name, Err(MethodError::UnknownMethod));
    }
    if !call.caller.scopes.has_any(method.needs) {
        let text = format!("this key lacks the scope that is needed here: {}", method.needs);
        return (method.name, Err(MethodError::Forbidden(text)));
    }
    let arguments = match reference::resolve(arguments, answered, left) {
        Ok(arguments) => Arguments::new(arguments),
        Err(error) => return (method.name, Err(error)),
    };
    // A panic is a fault of ours; it fails its call and nothing else.
    let outcome = AssertUnwindSafe((method.run)(call, arguments)).catch_unwind().await;
    let result = outcome.unwrap_or_else(|_| {
        tracing::error!(method = method.name, "a method panicked");
        Err(MethodError::ServerFail)
    });
    (method.name, result)
}

impl Invocation {
    fn read(value: Value) -> Option<Invocation> {
        let Value::Array(parts) = value else { return None };
        let parts: [Value; 3] = parts.try_into().ok()?;
        match parts {
            [Value::String(name), Value::Object(arguments), Value::String(call_id)] => {
                Some(Invocation { name, arguments, call_id })
            }
            _ => None,
        }
    }
}

fn read_created_ids(value: Value) -> Option<HashMap<String, String>> {
    let Value::Object(ids) = value else { return None };
    ids.into_iter().map(|(key, id)| Some((key, id.as_str()?.to_owned()))).collect()
}

impl Body {
    fn size_hint(&self) -> usize {
        match self {
            Body::Text(text) => text.len(),
            Body::Json(value) => reference::weight(value),
        }
    }
}

/// Whether an error may stand in the place of a method's answer: what has changed something must be
/// told (RFC 8620, 3.6.2).
fn only_reads(method: &str) -> bool {
    let verb = method.rsplit('/').next().unwrap_or_default();
    matches!(verb, "get" | "changes" | "query" | "queryChanges" | "parse" | "lookup" | "echo")
}

fn write_response(
    answered: &[Answered],
    created_ids: Option<&HashMap<String, String>>,
    session_state: &str,
    size: usize,
) -> String {
    let mut out = String::with_capacity(size.min(limits::MAX_SIZE_RESPONSE) + 256);
    out.push_str("{\"methodResponses\":[");
    for (place, Answered { name, call_id, body }) in answered.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        out.push('[');
        push_json(&mut out, name);
        out.push(',');
        match body {
            Body::Text(text) => out.push_str(text),
            Body::Json(value) => push_json(&mut out, value),
        }
        out.push(',');
        push_json(&mut out, call_id);
        out.push(']');
    }
    out.push(']');
    if let Some(created_ids) = created_ids {
        out.push_str(",\"createdIds\":");
        push_json(&mut out, created_ids);
    }
    out.push_str(",\"sessionState\":");
    push_json(&mut out, session_state);
    out.push('}');
    i_json::without_noncharacters(out)
}

/// Writes a value as JSON at the end of a text.
pub fn push_json<T: serde::Serialize + ?Sized>(out: &mut String, value: &T) {
    let before = out.len();
    // Values and texts have no map keys or numbers that JSON could not write.
    if serde_json::to_writer(Appending(out), value).is_err() {
        out.truncate(before);
        out.push_str("null");
    }
}

/// The end of a text, as something to write to.
struct Appending<'a>(&'a mut String);

impl std::io::Write for Appending<'_> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        // serde_json writes whole pieces of UTF-8.
        self.0.push_str(std::str::from_utf8(octets).map_err(std::io::Error::other)?);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::jmap::fixture::Fixture;

    use super::*;

    fn problem(body: &str) -> &'static str {
        Request::parse(body.as_bytes())
            .map(|_| "none")
            .unwrap_or_else(|error| error.problem_type().rsplit(':').next().unwrap_or_default())
    }

    #[test]
    fn what_is_no_request_is_refused_at_the_right_level() {
        assert_eq!(problem("{"), "notJSON");
        assert_eq!(problem(&"[".repeat(10_000)), "notJSON");
        assert_eq!(problem("[]"), "notRequest");
        assert_eq!(problem("{}"), "notRequest");
        assert_eq!(problem(r#"{"using":[1],"methodCalls":[]}"#), "notRequest");
        assert_eq!(problem(r#"{"using":[],"methodCalls":[["a",{}]]}"#), "notRequest");
        assert_eq!(problem(r#"{"using":["urn:x"],"methodCalls":[]}"#), "unknownCapability");
        assert_eq!(problem(r#"{"using":["urn:ietf:params:jmap:contacts"],"methodCalls":[]}"#), "none");
        assert_eq!(problem(r#"{"using":[],"methodCalls":[]}"#), "none");
        let calls = vec![r#"["Core/echo",{},"0"]"#; 65].join(",");
        assert_eq!(problem(&format!(r#"{{"using":[],"methodCalls":[{calls}]}}"#)), "limit");
        assert_eq!(problem(r#"{"using":[],"methodCalls":[],"using":[]}"#), "notJSON");
        assert_eq!(problem(r#"{"using":[],"methodCalls":[["Core/echo",{"a":1,"a":2},"0"]]}"#), "notJSON");
    }

    #[tokio::test]
    async fn a_full_response_still_tells_what_was_changed() {
        let fixture = Fixture::new().await;
        let user = fixture.user("alice@example.test").await;
        let (account, blob) = (user.account(), user.upload(&[b'x'; 10_000]).await);
        let read = |length: usize| json!({"accountId": account, "ids": [blob], "length": length});
        let set = json!({"accountId": account, "create": {"new": {"name": "made"}}});
        let calls = json!([
            ["Blob/get", read(10_000), "large"],
            ["Blob/get", read(100), "small"],
            ["Blob/get", read(9_000), "large"],
            ["Mailbox/set", set, "changed"],
        ]);
        let using = ["urn:ietf:params:jmap:mail", "urn:ietf:params:jmap:blob"];
        let body = json!({"using": using, "methodCalls": calls}).to_string();
        let request = Request::parse(body.as_bytes()).unwrap();
        let response = request.run_within(1_000, &fixture.jmap, &user.caller, "s").await;
        let response: Value = serde_json::from_str(&response).unwrap();
        let responses = &response["methodResponses"];
        for place in [0, 2] {
            assert_eq!(responses[place][1]["type"], json!("requestTooLarge"), "{responses}");
        }
        assert_eq!(responses[1][1]["list"][0]["size"], json!(10_000), "{responses}");
        assert!(responses[3][1]["created"]["new"]["id"].is_string(), "{responses}");
    }
}
