//! Who pushes (RFC 8292): a signature with the server's own key, so that a push service can take what
//! comes from us and nothing else for a subscription that names the key (RFC 9749).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::server_key;

/// How long a signature is good; at most a day (RFC 8292, 2).
const LIFETIME_SECONDS: i64 = 12 * 3_600;

/// The key of the server, which all of its processes share.
#[derive(Clone)]
pub struct Vapid {
    pair: Arc<EcdsaKeyPair>,
    /// Whom a push service may write to when something is wrong with our pushes.
    contact: Arc<str>,
}

impl Vapid {
    /// The key from the database, made at the first start.
    pub async fn open(store: &Store, hostname: &str) -> Result<Vapid, StoreError> {
        let corrupt = |what: &dyn std::fmt::Display| StoreError::corrupt_value("server_key vapid", what);
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let made = made.map_err(|error| corrupt(&error))?;
        let key = server_key::get_or(store, "vapid", || Bytes::copy_from_slice(made.as_ref())).await?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &SystemRandom::new());
        let pair = pair.map_err(|error| corrupt(&error.to_string()))?;
        Ok(Vapid { pair: Arc::new(pair), contact: format!("mailto:postmaster@{hostname}").into() })
    }

    /// The public key as clients give it to their push service: a point, in base64url.
    pub fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref())
    }

    /// The Authorization of a push to a service, which is named by its origin (`https://host`).
    pub fn authorization(&self, origin: &str, now_ms: i64) -> Option<String> {
        let header = json!({"typ": "JWT", "alg": "ES256"});
        let claims = json!({"aud": origin, "exp": now_ms / 1_000 + LIFETIME_SECONDS, "sub": &*self.contact});
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Some(format!("vapid t={signed}.{signature}, k={}", self.public_key()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::fixture::Fixture;
    use serde_json::Value;
    use web_push_native::p256::ecdsa::signature::Verifier;
    use web_push_native::p256::ecdsa::{Signature, VerifyingKey};

    #[tokio::test]
    async fn another_library_verifies_what_is_signed_with_the_key_that_all_processes_have() {
        let fixture = Fixture::new().await;
        let vapid = Vapid::open(&fixture.store, "mx.example.test").await.unwrap();
        let again = Vapid::open(&fixture.store, "mx.example.test").await.unwrap();
        assert_eq!(vapid.public_key(), again.public_key());
        let header = vapid.authorization("https://push.test", 1_750_000_000_000).unwrap();
        let (token, key) = header.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(key, again.public_key());
        let key = VerifyingKey::from_sec1_bytes(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        key.verify(signed.as_bytes(), &signature).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let wanted = json!({"aud": "https://push.test", "exp": 1_750_043_200, "sub": "mailto:postmaster@mx.example.test"});
        assert_eq!(claims, wanted);
    }
}
