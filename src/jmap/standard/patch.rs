//! PatchObject (RFC 8620, 5.3): a set of changes to the properties of an object.

use serde_json::{Map, Value};

use crate::jmap::error::SetError;

/// Segments of a pointer.
const MAX_DEPTH: usize = 16;

fn invalid_patch(pointer: &str, why: &str) -> SetError {
    SetError::new("invalidPatch").because(format!("{pointer}: {why}"))
}

/// The object with the patch applied. Pointers may not lead through arrays or missing objects, nor
/// may one be the beginning of another.
pub fn apply(
    current: &Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, SetError> {
    check_prefixes(patch)?;
    let mut out = current.clone();
    for (pointer, value) in patch {
        let tokens = split(pointer);
        let Some((last, path)) = tokens.split_last() else { continue };
        let mut target = &mut out;
        for token in path {
            target = match target.get_mut(token) {
                Some(Value::Object(inner)) => inner,
                Some(Value::Array(_)) => return Err(invalid_patch(pointer, "it leads through an array")),
                _ => return Err(invalid_patch(pointer, "it leads through something that is not there")),
            };
        }
        // Null removes a member; at the top it sets the property to its default, which the type
        // knows, so null itself is handed on.
        if value.is_null() && !path.is_empty() {
            target.remove(last);
        } else {
            target.insert(last.clone(), value.clone());
        }
    }
    Ok(out)
}

/// A pointer that is not longer than an error should be.
fn shortened(pointer: &str) -> &str {
    pointer.get(..pointer.floor_char_boundary(200)).unwrap_or(pointer)
}

/// The reference tokens of a pointer, whose first slash is implied.
pub fn split(pointer: &str) -> Vec<String> {
    pointer.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

/// Refuses a patch in which one pointer is the beginning of another.
pub fn check_prefixes(patch: &Map<String, Value>) -> Result<(), SetError> {
    for pointer in patch.keys() {
        if pointer.bytes().filter(|byte| *byte == b'/').count() >= MAX_DEPTH {
            return Err(invalid_patch(shortened(pointer), "the pointer is too long"));
        }
        let mut end = pointer.len();
        while let Some(at) = pointer[..end].rfind('/') {
            if patch.contains_key(&pointer[..at]) {
                return Err(invalid_patch(pointer, "another pointer of the patch is its beginning"));
            }
            end = at;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }

    #[test]
    fn patches_apply() {
        let current = object(json!({"name": "a", "keywords": {"x": true}, "list": [1]}));
        let patched = apply(&current, &object(json!({"name": "b", "keywords/y": true, "keywords/x": null})));
        assert_eq!(patched, Ok(object(json!({"name": "b", "keywords": {"y": true}, "list": [1]}))));
        for patch in [
            json!({"list/0": 2}),
            json!({"none/x": 2}),
            json!({"name/x": 2}),
            json!({"keywords": {}, "keywords/x": null}),
            json!({"/".repeat(1_000_000): 1}),
        ] {
            let error = apply(&current, &object(patch.clone()));
            assert_eq!(error.map_err(|error| error.kind), Err("invalidPatch"), "{patch}");
        }
    }
}
