//! References to results of earlier calls (RFC 8620, 3.7).

use serde_json::{Map, Value};

use crate::jmap::call::Body;
use crate::jmap::error::MethodError;
use crate::jmap::request::Answered;

/// Values that `*` may gather for one reference.
const MAX_GATHERED: usize = 100_000;
/// Octets, about, that all references of a request may copy: references to references would
/// otherwise multiply without end.
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
