//! References to results of earlier calls (RFC 8620, 3.7).

use serde_json::{Map, Value};

use crate::jmap::call::Body;
use crate::jmap::error::MethodError;
use crate::jmap::request::Answered;

/// Values that `*` may gather for one reference.
const MAX_GATHERED: usize = 100_000;
/// Octets, about, that all references of a request may read as values and copy: references to
/// references would otherwise multiply without end, and a value takes several times the memory of
/// its text.
pub(super) const MAX_REFERRED: usize = 32 << 20;

/// The arguments with every `#name` replaced by what it refers to.
pub(super) fn resolve(
    arguments: Map<String, Value>,
    answered: &mut [Answered],
    left: &mut usize,
) -> Result<Map<String, Value>, MethodError> {
    let is_both = |name: &&str| arguments.contains_key(*name);
    if let Some(plain) = arguments.keys().filter_map(|name| name.strip_prefix('#')).find(is_both) {
        let text = format!("{plain} is given both as a value and as a reference");
        return Err(MethodError::InvalidArguments(text));
    }
    let mut out = Map::with_capacity(arguments.len());
    for (name, value) in arguments {
        match name.strip_prefix('#') {
            None => out.insert(name, value),
            Some(plain) => out.insert(plain.to_owned(), refer(&value, answered, left)?),
        };
    }
    Ok(out)
}

fn refer(reference: &Value, answered: &mut [Answered], left: &mut usize) -> Result<Value, MethodError> {
    let part = |name: &str| reference.get(name).and_then(Value::as_str);
    let (Some(result_of), Some(name), Some(path)) = (part("resultOf"), part("name"), part("path")) else {
        return Err(MethodError::InvalidArguments(
            "a ResultReference has resultOf, name and path".to_owned(),
        ));
    };
    let nowhere = |why: String| MethodError::InvalidResultReference(why);
    let answer = answered
        .iter_mut()
        .find(|answer| answer.call_id == result_of)
        .ok_or_else(|| nowhere(format!("no call before this one has the id {result_of:?}")))?;
    if answer.name != name {
        return Err(nowhere(format!("the response of {result_of:?} is {}, not {name}", answer.name)));
    }
    if let Body::Text(text) = &answer.body {
        let paid = left.checked_sub(text.len());
        *left = paid.ok_or_else(|| nowhere(format!("the response of {result_of:?} is too large")))?;
        let value = serde_json::from_str(text).map_err(|_| MethodError::ServerFail)?;
        answer.body = Body::Json(value);
    }
    let Body::Json(value) = &answer.body else { return Err(MethodError::ServerFail) };
    let mut gathered = 0;
    point(value, path, &mut gathered, left).ok_or_else(|| nowhere(format!("the path {path:?} leads nowhere")))
}

/// Octets, about, that a value takes. Its depth is that of the JSON that it was read from.
fn weight(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| 64 + name.len() + weight(value)).sum(),
        _ => 0,
    }
}

/// Follows a JSON pointer in which `*` stands for every item of an array.
fn point(value: &Value, path: &str, gathered: &mut usize, left: &mut usize) -> Option<Value> {
    if path.is_empty() {
        *left = left.checked_sub(weight(value))?;
        return Some(value.clone());
    }
    let path = path.strip_prefix('/')?;
    let (token, rest) = match path.find('/') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    match value {
        Value::Array(items) if token == "*" => {
            let mut out = Vec::new();
            for item in items {
                match point(item, rest, gathered, left)? {
                    // An array of arrays is flattened.
                    Value::Array(inner) => out.extend(inner),
                    other => out.push(other),
                }
                *gathered += 1;
                if *gathered + out.len() > MAX_GATHERED {
                    return None;
                }
            }
            Some(Value::Array(out))
        }
        Value::Array(items) => {
            let is_canonical = token == "0" || !token.starts_with('0');
            let place: usize = token.parse().ok().filter(|_| is_canonical && !token.starts_with('+'))?;
            point(items.get(place)?, rest, gathered, left)
        }
        Value::Object(members) => {
            let name = token.replace("~1", "/").replace("~0", "~");
            point(members.get(&name)?, rest, gathered, left)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(value: &Value, path: &str) -> Option<Value> {
        point(value, path, &mut 0, &mut 1_000_000)
    }

    fn refers(path: &str) -> Map<String, Value> {
        let reference = json!({"resultOf": "0", "name": "Core/echo", "path": path});
        Map::from_iter([("#a".to_owned(), reference.clone()), ("#b".to_owned(), reference)])
    }

    fn echoed(body: Body) -> Vec<Answered> {
        vec![Answered { name: "Core/echo", call_id: "0".to_owned(), body }]
    }

    #[test]
    fn references_to_references_do_not_multiply_without_end() {
        let mut left = MAX_REFERRED;
        let mut body = Body::Json(json!({"a": "x".repeat(4_096)}));
        let mut largest = 0;
        // Each answer holds the one before it twice.
        let outcome = (0..14).try_for_each(|_| {
            let arguments = resolve(refers(""), &mut echoed(body.clone()), &mut left)?;
            let value = Value::Object(arguments);
            largest = weight(&value);
            body = Body::Json(value);
            Ok(())
        });
        assert!(matches!(outcome, Err(MethodError::InvalidResultReference(_))), "{largest} octets");
        assert!(largest <= MAX_REFERRED, "{largest} octets");
    }

    #[test]
    fn a_request_copies_and_reads_so_much_and_no_more() {
        let list = json!({"list": vec!["x".repeat(100); 1_000]});
        let mut left = 300_000;
        for body in [Body::Json(list.clone()), Body::Json(list.clone())] {
            assert!(resolve(refers("/list/*"), &mut echoed(body), &mut left).is_ok() || left < 150_000);
        }
        let again = resolve(refers("/list/*"), &mut echoed(Body::Json(list.clone())), &mut left);
        assert!(matches!(again, Err(MethodError::InvalidResultReference(_))));
        // A text that would be read as a value counts although little of it is copied.
        let mut left = 50_000;
        let text = resolve(refers("/list/0"), &mut echoed(Body::Text(list.to_string())), &mut left);
        assert!(matches!(text, Err(MethodError::InvalidResultReference(_))));
        let mut left = 150_000;
        let text = resolve(refers("/list/0"), &mut echoed(Body::Text(list.to_string())), &mut left);
        assert_eq!(text.map(|arguments| arguments["a"] == json!("x".repeat(100))), Ok(true));
        // Items without octets are still items.
        let many = json!({"list": vec![json!([]); MAX_GATHERED + 1]});
        let mut left = MAX_REFERRED;
        let items = resolve(refers("/list/*"), &mut echoed(Body::Json(many)), &mut left);
        assert!(matches!(items, Err(MethodError::InvalidResultReference(_))));
    }

    #[test]
    fn pointers_lead_where_the_rfc_says() {
        let value = json!({"list": [{"ids": ["a", "b"]}, {"ids": ["c"]}], "a/b": {"~": 1}});
        assert_eq!(at(&value, "/list/*/ids"), Some(json!(["a", "b", "c"])));
        assert_eq!(at(&value, "/list/1/ids/0"), Some(json!("c")));
        assert_eq!(at(&value, "/a~1b/~0"), Some(json!(1)));
        for path in ["list", "/list/01", "/list/-", "/list/9", "/none", "/list/*/none"] {
            assert_eq!(at(&value, path), None, "{path}");
        }
    }
}
