//! Header field properties: `header:{name}:as{Form}:all` and the parsed forms (RFC 8621, 4.1.2
//! and 4.1.3).

pub mod addresses;
pub mod date;
pub mod message_ids;
pub mod text;
pub mod urls;

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::mail::fields::{Field, raw_value};

/// The form in which a header field is wanted (RFC 8621, 4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// 4.1.2.1.
    Raw,
    /// 4.1.2.2.
    Text,
    /// 4.1.2.3.
    Addresses,
    /// 4.1.2.4.
    GroupedAddresses,
    /// 4.1.2.5.
    MessageIds,
    /// 4.1.2.6.
    Date,
    /// 4.1.2.7.
    Urls,
}

/// A property `header:…` that names a legal form for its field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HeaderProperty {
    /// The field name as the client wrote it.
    pub name: String,
    /// The form of each value.
    pub form: Form,
    /// Whether all instances are wanted, or the last.
    pub all: bool,
    /// Whether the client wrote `:asRaw`, which it may leave out: answers use its own spelling.
    pub names_raw: bool,
}

/// Why a text is no header property.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAHeaderProperty {
    /// It does not begin with `header:`.
    Other,
    /// What follows is no field name.
    Name,
    /// What follows the name is not a form, `:all` or both in this order.
    Suffix,
    /// The field may not have the form.
    Form,
}

/// Properties that stand for a field in a form (RFC 8621, 4.1.3), in the RFC's order.
pub const CONVENIENT: [(&str, &str, Form); 11] = [
    ("messageId", "Message-ID", Form::MessageIds),
    ("inReplyTo", "In-Reply-To", Form::MessageIds),
    ("references", "References", Form::MessageIds),
    ("sender", "Sender", Form::Addresses),
    ("from", "From", Form::Addresses),
    ("to", "To", Form::Addresses),
    ("cc", "Cc", Form::Addresses),
    ("bcc", "Bcc", Form::Addresses),
    ("replyTo", "Reply-To", Form::Addresses),
    ("subject", "Subject", Form::Text),
    ("sentAt", "Date", Form::Date),
];

/// Fields that RFC 5322 and RFC 2369 define, and the one parsed form that each may have besides
/// Raw; grouped addresses go with addresses. Any other field may have every form.
const DEFINED: [(&str, Option<Form>); 29] = [
    ("date", Some(Form::Date)),
    ("from", Some(Form::Addresses)),
    ("sender", Some(Form::Addresses)),
    ("reply-to", Some(Form::Addresses)),
    ("to", Some(Form::Addresses)),
    ("cc", Some(Form::Addresses)),
    ("bcc", Some(Form::Addresses)),
    ("message-id", Some(Form::MessageIds)),
    ("in-reply-to", Some(Form::MessageIds)),
    ("references", Some(Form::MessageIds)),
    ("subject", Some(Form::Text)),
    ("comments", Some(Form::Text)),
    ("keywords", Some(Form::Text)),
    ("resent-date", Some(Form::Date)),
    ("resent-from", Some(Form::Addresses)),
    ("resent-sender", Some(Form::Addresses)),
    // In RFC 8621's list, though only RFC 822 defines it.
    ("resent-reply-to", Some(Form::Addresses)),
    ("resent-to", Some(Form::Addresses)),
    ("resent-cc", Some(Form::Addresses)),
    ("resent-bcc", Some(Form::Addresses)),
    ("resent-message-id", Some(Form::MessageIds)),
    ("return-path", None),
    ("received", None),
    ("list-help", Some(Form::Urls)),
    ("list-unsubscribe", Some(Form::Urls)),
    ("list-subscribe", Some(Form::Urls)),
    ("list-post", Some(Form::Urls)),
    ("list-owner", Some(Form::Urls)),
    ("list-archive", Some(Form::Urls)),
];

const FORMS: [Form; 7] = [
    Form::Raw,
    Form::Text,
    Form::Addresses,
    Form::GroupedAddresses,
    Form::MessageIds,
    Form::Date,
    Form::Urls,
];

impl Form {
    /// How a property names the form.
    pub fn suffix(self) -> &'static str {
        match self {
            Form::Raw => ":asRaw",
            Form::Text => ":asText",
            Form::Addresses => ":asAddresses",
            Form::GroupedAddresses => ":asGroupedAddresses",
            Form::MessageIds => ":asMessageIds",
            Form::Date => ":asDate",
            Form::Urls => ":asURLs",
        }
    }

    /// Whether the field may be fetched or set in this form.
    pub fn is_legal_for(self, name: &str) -> bool {
        let wanted = if self == Form::GroupedAddresses { Form::Addresses } else { self };
        let defined = DEFINED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        self == Form::Raw || defined.is_none_or(|(_, form)| *form == Some(wanted))
    }

    /// A field value in this form.
    pub fn read(self, value: &[u8]) -> Value {
        match self {
            Form::Raw => Value::String(raw_value(value)),
            Form::Text => Value::String(text::as_text(value)),
            Form::Addresses => json!(addresses::as_addresses(value)),
            Form::GroupedAddresses => json!(addresses::as_grouped_addresses(value)),
            Form::MessageIds => json!(message_ids::as_message_ids(value)),
            Form::Date => json!(date::as_date(value).map(|date| date.text)),
            Form::Urls => json!(urls::as_urls(value)),
        }
    }
}

impl HeaderProperty {
    /// What a property of section 4.1.3 stands for.
    pub fn of_convenience(property: &str) -> Option<HeaderProperty> {
        let (_, name, form) = CONVENIENT.iter().find(|(known, _, _)| *known == property)?;
        Some(HeaderProperty { name: (*name).to_owned(), form: *form, all: false, names_raw: false })
    }

    /// The property's value for these header fields: null, or an empty list with `:all`, when the
    /// field is absent (RFC 8621, 4.1.3).
    pub fn value<'a>(&self, fields: impl IntoIterator<Item = Field<'a>>) -> Value {
        let instances = fields.into_iter().filter(|field| field.is(&self.name));
        if self.all {
            Value::Array(instances.map(|field| self.form.read(field.value)).collect())
        } else {
            instances.last().map_or(Value::Null, |field| self.form.read(field.value))
        }
    }
}

impl fmt::Display for HeaderProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.form == Form::Raw && !self.names_raw { "" } else { self.form.suffix() };
        write!(f, "header:{}{form}{}", self.name, if self.all { ":all" } else { "" })
    }
}

impl FromStr for HeaderProperty {
    type Err = NotAHeaderProperty;

    fn from_str(text: &str) -> Result<HeaderProperty, NotAHeaderProperty> {
        let mut pieces = text.strip_prefix("header:").ok_or(NotAHeaderProperty::Other)?.split(':');
        let name = pieces.next().unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotAHeaderProperty::Name);
        }
        let mut property =
            HeaderProperty { name: name.to_owned(), form: Form::Raw, all: false, names_raw: false };
        let mut suffix = pieces.next();
        let form = FORMS.into_iter().find(|form| form.suffix().strip_prefix(':') == suffix);
        if let Some(form) = form {
            property.form = form;
            property.names_raw = form == Form::Raw;
            suffix = pieces.next();
        }
        if suffix == Some("all") {
            property.all = true;
            suffix = pieces.next();
        }
        if suffix.is_some() {
            return Err(NotAHeaderProperty::Suffix);
        }
        if property.form.is_legal_for(name) { Ok(property) } else { Err(NotAHeaderProperty::Form) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::fields::fields;

    fn value(property: &str, header: &str) -> Value {
        let property: HeaderProperty = property.parse().expect("legal");
        property.value(fields(header.as_bytes()))
    }

    #[test]
    fn properties_are_read() {
        let property = |text: &str| text.parse::<HeaderProperty>();
        let wanted =
            |name: &str, form, all| Ok(HeaderProperty { name: name.to_owned(), form, all, names_raw: false });
        assert_eq!(property("header:Subject"), wanted("Subject", Form::Raw, false));
        assert_eq!(property("header:Subject:all"), wanted("Subject", Form::Raw, true));
        assert_eq!(property("header:subject:asText:all"), wanted("subject", Form::Text, true));
        assert_eq!(property("header:x-y:asURLs"), wanted("x-y", Form::Urls, false));
        for text in ["header:X:asRaw:all", "header:x", "header:To:asGroupedAddresses"] {
            assert_eq!(property(text).map(|property| property.to_string()).as_deref(), Ok(text));
        }
        for (text, why) in [
            ("", NotAHeaderProperty::Other),
            ("subject", NotAHeaderProperty::Other),
            ("Header:Subject", NotAHeaderProperty::Other),
            ("header:", NotAHeaderProperty::Name),
            ("header::asText", NotAHeaderProperty::Name),
            ("header:a b", NotAHeaderProperty::Name),
            ("header:é", NotAHeaderProperty::Name),
            ("header:Subject:", NotAHeaderProperty::Suffix),
            ("header:Subject:all:asText", NotAHeaderProperty::Suffix),
            ("header:Subject:asText:all:all", NotAHeaderProperty::Suffix),
            ("header:Subject:astext", NotAHeaderProperty::Suffix),
            ("header:Subject:asFoo", NotAHeaderProperty::Suffix),
            ("header:Subject:asAddresses", NotAHeaderProperty::Form),
        ] {
            assert_eq!(property(text), Err(why), "{text}");
        }
    }

    #[test]
    fn forms_are_legal_for_their_fields_only() {
        for (name, form, is_legal) in [
            ("Subject", Form::Text, true),
            ("Subject", Form::Addresses, false),
            ("FROM", Form::Addresses, true),
            ("From", Form::GroupedAddresses, true),
            ("From", Form::Text, false),
            ("Date", Form::Date, true),
            ("Date", Form::Text, false),
            ("Message-ID", Form::MessageIds, true),
            ("List-Post", Form::Urls, true),
            ("List-Post", Form::Text, false),
            ("List-Id", Form::Text, true),
            ("List-Id", Form::Urls, true),
            ("Received", Form::Raw, true),
            ("Received", Form::Text, false),
            ("Return-Path", Form::Addresses, false),
            ("X-Other", Form::Date, true),
            ("X-Other", Form::MessageIds, true),
        ] {
            assert_eq!(form.is_legal_for(name), is_legal, "{name} {form:?}");
        }
    }

    #[test]
    fn the_last_instance_or_all_of_them() {
        let header = "X-A: one\r\nx-a: two\r\nDate: nonsense\r\n";
        assert_eq!(value("header:X-A", header), json!(" two"));
        assert_eq!(value("header:X-A:asText:all", header), json!(["one", "two"]));
        assert_eq!(value("header:X-B", header), Value::Null);
        assert_eq!(value("header:X-B:all", header), json!([]));
        assert_eq!(value("header:Date:asDate", header), Value::Null);
        assert_eq!(value("header:Date:asDate:all", header), json!([null]));
    }
}
