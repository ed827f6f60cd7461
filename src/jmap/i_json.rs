//! I-JSON (RFC 7493), in which requests come and answers go (RFC 8620, 1.5): JSON whose objects
//! name no member twice and whose texts hold no noncharacters.
//!
//! What comes in is held to the first, since two readers would take different members of the same
//! name. Noncharacters are taken as they come; what goes out has none, since mail from strangers
//! may hold anything.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads one value. The depth is limited by the reader of the JSON text.
pub fn read(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Reading.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The text with U+FFFD in the place of each noncharacter (RFC 7493, 2.1).
pub fn without_noncharacters(text: String) -> String {
    match replaced(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(replaced) => replaced,
    }
}

/// Whether a text may stand in I-JSON as it is.
pub fn is_text(text: &str) -> bool {
    !text.contains(is_noncharacter)
}

fn replaced(text: &str) -> Cow<'_, str> {
    if is_text(text) { Cow::Borrowed(text) } else { Cow::Owned(text.replace(is_noncharacter, "\u{fffd}")) }
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// Makes a value, and refuses an object that names a member twice.
struct Reading;

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Reading)? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if out.contains_key(&name) {
                // RFC 7493, 2.3.
                return Err(A::Error::custom("an object names a member twice"));
            }
            let value = members.next_value_seed(Reading)?;
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_as_they_stand() {
        let text = r#" {"a": [1, -2, 3.5, 18446744073709551615, true, null], "ü\n": {"": "\ud83d\ude00"}} "#;
        let value = read(text.as_bytes()).unwrap();
        assert_eq!(
            value,
            json!({"a": [1, -2, 3.5, 18_446_744_073_709_551_615_u64, true, null], "ü\n": {"": "😀"}})
        );
        let order: Vec<String> =
            read(br#"{"b":1,"a":2}"#).unwrap().as_object().unwrap().keys().cloned().collect();
        assert_eq!(order, ["b", "a"]);
    }

    #[test]
    fn what_is_no_i_json_is_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"[{"b":{"a":1,"c":2,"\u0061":3}}]"#,
            r#"{"a":1} 2"#,
            r#"{"a":1"#,
            r#""\ud800""#,
            "1e999",
            "",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(b"\"\xff\"").is_err());
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(read(deep.as_bytes()).is_err());
    }

    #[test]
    fn noncharacters_do_not_go_out() {
        let text = "a\u{ffff}b\u{fdd0}c\u{1fffe}d\u{10ffff}\u{fffd}\u{fdf0}".to_owned();
        assert_eq!(without_noncharacters(text), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}\u{fdf0}");
        assert_eq!(without_noncharacters("plain ü 😀".to_owned()), "plain ü 😀");
    }
}
