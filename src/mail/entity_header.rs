//! The three things about a MIME entity that code which changes or splits messages must know: its
//! type, its boundary, its transfer encoding. Whatever cannot be read is as if it were not there.

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use crate::mail::field_lines::fields;

/// What an entity's header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entity {
    /// `type/subtype` in lower case.
    pub media_type: String,
    /// Parameters of the type, names in lower case.
    pub parameters: Vec<(String, String)>,
    /// The transfer encoding.
    pub encoding: Declared,
}

/// A transfer encoding as it is declared (RFC 2045, 6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Declared {
    /// 7bit, 8bit, binary, or nothing.
    Identity,
    /// Quoted-printable.
    QuotedPrintable,
    /// Base64.
    Base64,
    /// Another.
    Unknown,
}

impl Entity {
    /// A parameter of the type.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The boundary, without white space at its end (RFC 2046, 5.1.1); `None` when empty.
    pub fn boundary(&self) -> Option<&str> {
        self.parameter("boundary").map(str::trim_end).filter(|boundary| !boundary.is_empty())
    }
}

/// Reads the fields of an entity; `default_type` is its type when it has none.
pub fn read_entity(header: &[u8], default_type: &str) -> Entity {
    let mut entity =
        Entity { media_type: default_type.to_owned(), parameters: Vec::new(), encoding: Declared::Identity };
    if let Some(field) = fields(header).find(|field| field.is("Content-Type")) {
        let mut value = field.value.to_vec();
        value.push(b'\n');
        if let HeaderValue::ContentType(read) = MessageStream::new(&value).parse_content_type() {
            let subtype = read.c_subtype.as_deref().unwrap_or("");
            entity.media_type = format!("{}/{subtype}", read.c_type).to_ascii_lowercase();
            let parameters = read.attributes.into_iter().flatten();
            entity.parameters = parameters
                .map(|attribute| (attribute.name.to_ascii_lowercase(), attribute.value.into_owned()))
                .collect();
        }
    }
    if let Some(field) = fields(header).find(|field| field.is("Content-Transfer-Encoding")) {
        let word = field.text().to_ascii_lowercase();
        entity.encoding = match word.split([';', ' ', '(']).next().unwrap_or("") {
            "" | "7bit" | "8bit" | "binary" => Declared::Identity,
            "quoted-printable" => Declared::QuotedPrintable,
            "base64" => Declared::Base64,
            _ => Declared::Unknown,
        };
    }
    entity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_any_spelling() {
        let header = b"CONTENT-TYPE: Multipart/Mixed;\r\n BOUNDARY=\"a b \"; X=y\r\ncontent-transfer-encoding: 8BIT (c)\r\n";
        let entity = read_entity(header, "text/plain");
        assert_eq!((entity.media_type.as_str(), entity.boundary()), ("multipart/mixed", Some("a b")));
        assert_eq!((entity.parameter("x"), entity.encoding), (Some("y"), Declared::Identity));
        let bare = read_entity(b"Content-Transfer-Encoding: x-new\r\n", "text/plain");
        assert_eq!(
            (bare.media_type.as_str(), bare.boundary(), bare.encoding),
            ("text/plain", None, Declared::Unknown)
        );
    }
}
