//! Signatures of webhooks by the scheme of Standard Webhooks (standardwebhooks.com, version 1.0.0): HMAC-SHA256
//! of id, time and body, joined by full stops.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::store::event::webhook::SigningSecret;
use crate::types::secret::Secret;

/// What a secret begins with, before its base64.
const PREFIX: &str = "whsec_";
/// Octets of a new secret.
const LENGTH: usize = 24;

/// A new secret.
pub fn new_secret() -> Secret {
    let octets: [u8; LENGTH] = rand::random();
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(octets)))
}

/// The value of the header `webhook-signature`: a signature by each secret that signs now.
pub fn signatures(secrets: &[SigningSecret], now_ms: i64, id: &str, seconds: i64, body: &[u8]) -> String {
    let signs = secrets.iter().filter(|secret| secret.until_ms == 0 || secret.until_ms > now_ms);
    let texts: Vec<String> = signs.filter_map(|secret| sign(&secret.secret, id, seconds, body)).collect();
    texts.join(" ")
}

fn sign(secret: &Secret, id: &str, seconds: i64, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.reveal().strip_prefix(PREFIX)?).ok()?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str, until_ms: i64) -> SigningSecret {
        SigningSecret { secret: Secret::new(text), until_ms }
    }

    #[test]
    fn the_example_of_the_scheme() {
        // The example of the specification's reference libraries.
        let secrets = [secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0)];
        let body = br#"{"test": 2432232314}"#;
        let signed = signatures(&secrets, 0, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn old_secrets_sign_until_their_time_is_over() {
        let (new, old) = (new_secret(), new_secret());
        assert_ne!(new, old);
        let secrets = [secret(new.reveal(), 0), secret(old.reveal(), 1_000)];
        assert_eq!(signatures(&secrets, 999, "id", 1, b"x").split(' ').count(), 2);
        let one = signatures(&secrets, 1_000, "id", 1, b"x");
        assert_eq!(one, signatures(&secrets[..1], 0, "id", 1, b"x"));
    }
}
