//! The DKIM keys of a domain as the store keeps them: a JSON list, secrets in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::mail::dkim::{DkimError, DomainKeys, KeyKind, NewKey};

#[derive(Serialize, Deserialize)]
struct StoredKey {
    /// The word of the `k=` tag.
    kind: String,
    selector: String,
    /// PKCS#8 DER in base64.
    pkcs8: String,
    /// The text of the DNS record.
    txt: String,
}

/// The JSON of new keys.
pub fn to_json(keys: &[NewKey]) -> String {
    let stored: Vec<StoredKey> = keys
        .iter()
        .map(|key| StoredKey {
            kind: key.kind.word().to_owned(),
            selector: key.selector.clone(),
            pkcs8: BASE64.encode(&key.pkcs8),
            txt: key.txt_record.clone(),
        })
        .collect();
    serde_json::to_string(&stored).unwrap_or_else(|_| "[]".to_owned())
}

/// The keys of a stored JSON.
pub fn from_json(json: &str) -> Result<Vec<NewKey>, DkimError> {
    let broken = || DkimError::Key("the stored keys cannot be read".to_owned());
    let stored: Vec<StoredKey> = serde_json::from_str(json).map_err(|_| broken())?;
    let read = |key: StoredKey| {
        let kind = KeyKind::from_word(&key.kind)?;
        let pkcs8 = BASE64.decode(key.pkcs8).ok()?;
        Some(NewKey { kind, selector: key.selector, pkcs8, txt_record: key.txt })
    };
    stored.into_iter().map(|key| read(key).ok_or_else(broken)).collect()
}

/// The keys of a stored JSON, ready to sign for a domain.
pub fn load(domain: &str, json: &str) -> Result<DomainKeys, DkimError> {
    let keys = from_json(json)?;
    DomainKeys::load(domain, keys.iter().map(|key| (key.kind, key.selector.as_str(), key.pkcs8.as_slice())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::dkim::{generate, sign};

    #[test]
    fn stored_keys_read_back_and_sign() {
        let key = generate(KeyKind::Ed25519, "ed").unwrap();
        let json = to_json(std::slice::from_ref(&key));
        assert_eq!(from_json(&json).unwrap(), [key]);
        let keys = load("example.test", &json).unwrap();
        let signed = sign(b"From: a@example.test\r\n\r\nhi\r\n", &keys, 0).unwrap();
        assert!(signed.contains("d=example.test"), "{signed}");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for json in ["", "{}", r#"[{"kind":"x","selector":"s","pkcs8":"","txt":""}]"#] {
            assert!(from_json(json).is_err());
        }
    }
}
