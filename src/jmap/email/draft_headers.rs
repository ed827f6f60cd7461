//! Header fields in an Email/set create: which property means which field, in which form, and
//! whether its value is legal (RFC 8621, 4.1.2, 4.1.3 and 4.6).

use std::collections::HashMap;

use serde_json::Value;

use crate::jmap::email::draft::{Faults, join};
use crate::mail::compose::{DraftHeader, HeaderValue};
use crate::mail::header_text::{Group, MAX_WORD_LEN, Mailbox, ZonedDate};
use crate::mail::headers::{Form, HeaderProperty, NotAHeaderProperty};
use crate::mail::reencode::{is_field_name, is_folded_value};
use crate::types::date::parse_date;

/// Most header fields of an Email or of a body part.
const MAX_HEADERS: usize = 1000;
/// Most octets of text in the value of one property.
const MAX_VALUE_LEN: usize = 65_536;

/// The field of a property; `None` when it is no header property, the reason when it is a wrong
/// one.
fn header_property(property: &str) -> Option<Result<HeaderProperty, &'static str>> {
    if let Some(convenient) = HeaderProperty::of_convenience(property) {
        return Some(Ok(convenient));
    }
    Some(match property.parse::<HeaderProperty>() {
        Err(NotAHeaderProperty::Other) => return None,
        Err(NotAHeaderProperty::Suffix) => Err("an unknown header form"),
        Err(NotAHeaderProperty::Form) => Err("this header field cannot take that form"),
        Ok(read) if is_field_name(&read.name) => Ok(read),
        Err(NotAHeaderProperty::Name) | Ok(_) => Err("no header field name"),
    })
}

/// Collects the header fields of an Email or of a body part.
#[derive(Default)]
pub struct HeaderReader {
    headers: Vec<DraftHeader>,
    /// Field names in lower case, each with the property that set it.
    seen: HashMap<String, String>,
}

impl HeaderReader {
    /// Reads a property if it stands for a header field; false when it does not. `refuse` gives a
    /// reason why a field may not be set here.
    pub fn read(
        &mut self,
        faults: &mut Faults,
        parent: &str,
        property: &str,
        value: &Value,
        refuse: impl Fn(&str) -> Option<&'static str>,
    ) -> bool {
        let path = if parent.is_empty() { property.to_owned() } else { join(parent, property) };
        let HeaderProperty { name, form, all: is_all, .. } = match header_property(property) {
            None => return false,
            Some(Err(reason)) => {
                faults.add(&path, reason);
                return true;
            }
            Some(Ok(read)) => read,
        };
        if let Some(reason) = refuse(&name) {
            faults.add(&path, reason);
            return true;
        }
        // RFC 8621, 4.6: no two properties for one field.
        if let Some(other) = self.seen.insert(name.to_ascii_lowercase(), path.clone()) {
            faults.add(&path, "another property sets the same header field");
            faults.add(&other, "another property sets the same header field");
        }
        let instances: Vec<(String, &Value)> = match (is_all, value) {
            (true, Value::Array(values)) => {
                values.iter().enumerate().map(|(at, value)| (join(&path, &at.to_string()), value)).collect()
            }
            (true, Value::Null) | (false, Value::Null) => Vec::new(),
            (true, _) => {
                faults.add(&path, "with :all, the value is a list");
                return true;
            }
            (false, value) => vec![(path.clone(), value)],
        };
        if self.headers.len() + instances.len() > MAX_HEADERS {
            faults.add(&path, "too many header fields");
            return true;
        }
        for (path, value) in instances {
            let mut reader = ValueReader { faults, room: MAX_VALUE_LEN };
            if let Some(value) = reader.value(&path, &name, form, value) {
                self.headers.push(DraftHeader { name: name.clone(), value });
            }
        }
        true
    }

    /// The property that set a field.
    pub fn property_of(&self, name: &str) -> Option<&str> {
        self.seen.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// The fields, in the order of their properties.
    pub fn into_headers(self) -> Vec<DraftHeader> {
        self.headers
    }
}

/// Reads one value, noting what is wrong with it.
struct ValueReader<'a> {
    faults: &'a mut Faults,
    /// Octets of text that the value may still hold.
    room: usize,
}

impl ValueReader<'_> {
    fn value(&mut self, path: &str, name: &str, form: Form, value: &Value) -> Option<HeaderValue> {
        Some(match form {
            Form::Raw => HeaderValue::Raw(self.raw(path, value)?),
            Form::Text => HeaderValue::Text(self.string(path, value, is_line)?),
            Form::Addresses => HeaderValue::Addresses(self.list(path, value, Self::mailbox)?),
            Form::GroupedAddresses => HeaderValue::GroupedAddresses(self.list(path, value, Self::group)?),
            Form::MessageIds => {
                let ids = self.list(path, value, |reader, path, id| reader.string(path, id, is_bracketed))?;
                // RFC 5322, 3.6.4: one identifier.
                let is_single =
                    ["message-id", "resent-message-id"].iter().any(|one| name.eq_ignore_ascii_case(one));
                if ids.is_empty() {
                    return None;
                }
                if is_single && ids.len() > 1 {
                    self.faults.add(path, "this header field holds one identifier");
                    return None;
                }
                HeaderValue::MessageIds(ids)
            }
            Form::Urls => HeaderValue::Urls(
                self.list(path, value, |reader, path, url| reader.string(path, url, is_bracketed))?,
            ),
            Form::Date => {
                let date = value.as_str().and_then(read_date);
                if date.is_none() {
                    self.faults.add(path, "not a date");
                }
                HeaderValue::Date(date?)
            }
        })
    }

    fn raw(&mut self, path: &str, value: &Value) -> Option<String> {
        let is_legal = |text: &str| {
            is_folded_value(text)
                && text.split(['\r', '\n', ' ', '\t']).all(|word| word.len() <= MAX_WORD_LEN)
                && !text.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t'))
        };
        self.string(path, value, is_legal)
    }

    fn string(&mut self, path: &str, value: &Value, is_legal: impl Fn(&str) -> bool) -> Option<String> {
        let Some(text) = value.as_str() else {
            self.faults.add(path, "not a string");
            return None;
        };
        match self.room.checked_sub(text.len()) {
            Some(room) => self.room = room,
            None => {
                self.faults.add(path, "too long");
                return None;
            }
        }
        if !is_legal(text) {
            self.faults.add(path, "holds characters that cannot stand there");
            return None;
        }
        Some(text.to_owned())
    }

    fn list<T>(
        &mut self,
        path: &str,
        value: &Value,
        read: impl Fn(&mut Self, &str, &Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(values) = value.as_array() else {
            self.faults.add(path, "not a list");
            return None;
        };
        let mut items = Vec::new();
        let mut is_whole = true;
        for (at, value) in values.iter().enumerate() {
            match read(self, &join(path, &at.to_string()), value) {
                Some(item) => items.push(item),
                None => is_whole = false,
            }
            // Each item costs a few octets of separators.
            self.room = self.room.saturating_sub(4);
        }
        is_whole.then_some(items)
    }

    fn mailbox(&mut self, path: &str, value: &Value) -> Option<Mailbox> {
        let object = self.members(path, value, &["name", "email"])?;
        let name = self.name(path, object)?;
        let email =
            self.string(&join(path, "email"), object.get("email").unwrap_or(&Value::Null), is_address)?;
        Some(Mailbox { name, email })
    }

    fn group(&mut self, path: &str, value: &Value) -> Option<Group> {
        let object = self.members(path, value, &["name", "addresses"])?;
        let name = self.name(path, object)?;
        let addresses = object.get("addresses").unwrap_or(&Value::Null);
        Some(Group { name, addresses: self.list(&join(path, "addresses"), addresses, Self::mailbox)? })
    }

    fn name(&mut self, path: &str, object: &serde_json::Map<String, Value>) -> Option<Option<String>> {
        match object.get("name") {
            None | Some(Value::Null) => Some(None),
            Some(name) => self.string(&join(path, "name"), name, is_line).map(Some),
        }
    }

    fn members<'v>(
        &mut self,
        path: &str,
        value: &'v Value,
        known: &[&str],
    ) -> Option<&'v serde_json::Map<String, Value>> {
        let Some(object) = value.as_object() else {
            self.faults.add(path, "not an object");
            return None;
        };
        for unknown in object.keys().filter(|key| !known.contains(&key.as_str())) {
            self.faults.add(&join(path, unknown), "unknown property");
        }
        Some(object)
    }
}

/// One line of text: no control characters but tabs.
pub fn is_line(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')
}

/// What can stand between angle brackets: an identifier or a URL.
pub fn is_bracketed(text: &str) -> bool {
    (1..=MAX_WORD_LEN - 8).contains(&text.len())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>'))
}

/// An address that may be half finished, but closes no bracket.
fn is_address(text: &str) -> bool {
    let length = 1..=MAX_WORD_LEN / 2;
    length.contains(&text.len()) && !text.chars().any(|c| c.is_control() || matches!(c, '<' | '>'))
}

/// A Date with its offset (RFC 8620, 1.4); fractions of a second are accepted.
fn read_date(text: &str) -> Option<ZonedDate> {
    let ms = parse_date(text)?;
    let offset = text.len().checked_sub(6).and_then(|at| text.get(at..));
    let offset_minutes = match offset.map(str::as_bytes) {
        Some([sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]) => {
            let digit = |byte: &u8| i32::from(byte.wrapping_sub(b'0'));
            let minutes = (digit(h1) * 10 + digit(h2)) * 60 + digit(m1) * 10 + digit(m2);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => 0,
    };
    Some(ZonedDate { ms, offset_minutes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_told_from_those_that_are_none() {
        let name_of = |property| header_property(property).and_then(Result::ok).map(|read| read.name);
        for (property, name) in [("header:X-Any:asURLs:all", "X-Any"), ("sentAt", "Date"), ("cc", "Cc")] {
            assert_eq!(name_of(property).as_deref(), Some(name));
        }
        let long = format!("header:{}", "x".repeat(256));
        for illegal in ["header:", "header:ü", "header:From:asText", "header:X:asText:all:all", &long] {
            assert!(matches!(header_property(illegal), Some(Err(_))), "{illegal}");
        }
        assert_eq!(header_property("colour"), None);
    }

    #[test]
    fn dates_keep_their_offset() {
        let date = |text| read_date(text).map(|date| (date.ms, date.offset_minutes));
        assert_eq!(date("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(date("1970-01-01T02:00:00.250+02:00"), Some((250, 120)));
        assert_eq!(date("1969-12-31T20:30:00-03:30"), Some((0, -210)));
        assert_eq!(date("yesterday"), None);
    }
}
