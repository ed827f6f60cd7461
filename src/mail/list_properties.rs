//! The properties of an Email that lists show, as one JSON object that is kept beside the metadata:
//! each value is ready to be copied into an answer.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::mail::headers::CONVENIENT;
use crate::mail::headers::addresses::EmailAddress;
use crate::mail::parse::Parsed;

/// The convenience header properties (RFC 8621, 4.1.2 and 4.1.3) and the preview.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListProperties<'a> {
    message_id: &'a Option<Vec<String>>,
    in_reply_to: &'a Option<Vec<String>>,
    references: &'a Option<Vec<String>>,
    sender: &'a Option<Vec<EmailAddress>>,
    from: &'a Option<Vec<EmailAddress>>,
    to: &'a Option<Vec<EmailAddress>>,
    cc: &'a Option<Vec<EmailAddress>>,
    bcc: &'a Option<Vec<EmailAddress>>,
    reply_to: &'a Option<Vec<EmailAddress>>,
    subject: &'a Option<String>,
    sent_at: Option<&'a str>,
    preview: &'a str,
}

impl<'a> ListProperties<'a> {
    /// Of a parsed message.
    pub fn of(parsed: &'a Parsed) -> ListProperties<'a> {
        let headers = &parsed.headers;
        ListProperties {
            message_id: &headers.message_id,
            in_reply_to: &headers.in_reply_to,
            references: &headers.references,
            sender: &headers.sender,
            from: &headers.from,
            to: &headers.to,
            cc: &headers.cc,
            bcc: &headers.bcc,
            reply_to: &headers.reply_to,
            subject: &headers.subject,
            sent_at: headers.sent_at.as_ref().map(|date| date.text.as_str()),
            preview: &parsed.preview,
        }
    }

    /// As it is stored.
    pub fn to_json(&self) -> String {
        // Texts and lists of texts have nothing that JSON could not write.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// The name of a property, when it is stored so.
pub fn stored_name(name: &str) -> Option<&'static str> {
    CONVENIENT.iter().map(|(known, _, _)| *known).chain(["preview"]).find(|known| *known == name)
}

/// Stored properties, each value as it stands in the text.
pub struct StoredProperties<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'a> StoredProperties<'a> {
    /// Takes a stored text apart without reading the values.
    pub fn read(text: &'a str) -> serde_json::Result<StoredProperties<'a>> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Vec<(&'de str, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("list properties")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::with_capacity(CONVENIENT.len() + 1);
                while let Some(entry) = map.next_entry()? {
                    out.push(entry);
                }
                Ok(out)
            }
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        serde::Deserializer::deserialize_map(&mut reader, Members).map(StoredProperties)
    }

    /// The JSON text of a property.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.get())
    }
}
