//! Message encryption for Web Push (RFC 8291, over RFC 8188): what is pushed can be read by the device
//! that made the keys, and by nobody on the way.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::store::push_subscription::Keys;

/// Octets of a record, and so of a message: what push services take at the least (RFC 8030, 7.2).
const RECORD: usize = 4_096;
const SALT: usize = 16;
const POINT: usize = 65;
const TAG: usize = 16;
/// Salt, size of a record, length of the key's id, and the key (RFC 8188, 2.1).
const HEADER: usize = SALT + 4 + 1 + POINT;

/// Octets of the largest text that can be pushed: one record without its delimiter.
pub const MAX_TEXT: usize = RECORD - HEADER - TAG - 1;

/// The text cannot be encrypted: the client's key is no point, or the text is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CannotEncrypt;

impl From<ring::error::Unspecified> for CannotEncrypt {
    fn from(_: ring::error::Unspecified) -> CannotEncrypt {
        CannotEncrypt
    }
}

/// Length of what is derived.
struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

/// The body of a push with this text.
pub fn encrypt(keys: &Keys, text: &[u8]) -> Result<Vec<u8>, CannotEncrypt> {
    if text.len() > MAX_TEXT {
        return Err(CannotEncrypt);
    }
    let random = SystemRandom::new();
    let mut salt = [0; SALT];
    random.fill(&mut salt)?;
    // A key pair for this one message.
    let private = EphemeralPrivateKey::generate(&ECDH_P256, &random)?;
    let public = private.compute_public_key()?;
    let theirs = UnparsedPublicKey::new(&ECDH_P256, &keys.p256dh);
    // RFC 8291, 3.3 and 3.4.
    let info = [b"WebPush: info\0", &keys.p256dh[..], public.as_ref()];
    let secret = agree_ephemeral(private, &theirs, |shared| {
        derive::<32>(&Salt::new(HKDF_SHA256, &keys.auth), shared, &info)
    })??;
    let salted = Salt::new(HKDF_SHA256, &salt);
    let key = derive::<16>(&salted, &secret, &[b"Content-Encoding: aes128gcm\0"])?;
    let nonce = derive::<12>(&salted, &secret, &[b"Content-Encoding: nonce\0"])?;

    let mut body = Vec::with_capacity(HEADER + text.len() + 1 + TAG);
    body.extend_from_slice(&salt);
    body.extend_from_slice(&(RECORD as u32).to_be_bytes());
    body.push(POINT as u8);
    body.extend_from_slice(public.as_ref());
    let mut record = Vec::with_capacity(text.len() + 1 + TAG);
    record.extend_from_slice(text);
    // The last record, with no padding.
    record.push(2);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)?;
    body.append(&mut record);
    Ok(body)
}

fn derive<const N: usize>(salt: &Salt, secret: &[u8], info: &[&[u8]]) -> Result<[u8; N], CannotEncrypt> {
    let mut out = [0; N];
    salt.extract(secret).expand(info, Octets(N))?.fill(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use web_push_native::p256::SecretKey;
    use web_push_native::p256::elliptic_curve::sec1::ToEncodedPoint;
    use web_push_native::{Auth, decrypt};

    /// A client, with another library's arithmetic.
    struct Device {
        secret: SecretKey,
        auth: Auth,
        keys: Keys,
    }

    fn device() -> Device {
        // Any number below the order of the curve is a key.
        let secret = SecretKey::from_slice(&[7; 32]).unwrap();
        let auth = [9_u8; 16];
        let point = secret.public_key().to_encoded_point(false);
        let keys =
            Keys { p256dh: Bytes::copy_from_slice(point.as_bytes()), auth: Bytes::copy_from_slice(&auth) };
        Device { secret, auth: Auth::from(auth), keys }
    }

    #[test]
    fn another_library_reads_what_is_encrypted() {
        let device = device();
        for text in ["", "{}", &"é".repeat(MAX_TEXT / 2)] {
            let body = encrypt(&device.keys, text.as_bytes()).unwrap();
            assert!(body.len() <= RECORD);
            assert_eq!(decrypt(body, &device.secret, &device.auth).unwrap(), text.as_bytes());
        }
        let twice = [(); 2].map(|()| encrypt(&device.keys, b"same").unwrap());
        assert_ne!(twice[0], twice[1]);
        let mut changed = twice[0].clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(decrypt(changed, &device.secret, &device.auth).is_err());
    }

    #[test]
    fn what_cannot_be_encrypted_is_refused() {
        let Device { keys, .. } = device();
        assert!(encrypt(&keys, b"").is_ok());
        assert_eq!(encrypt(&keys, &[b'x'; MAX_TEXT + 1]), Err(CannotEncrypt));
        let mut off_the_curve = keys.p256dh.to_vec();
        off_the_curve[64] ^= 1;
        for p256dh in [Vec::new(), vec![4; 65], off_the_curve, keys.p256dh[..64].to_vec()] {
            let wrong = Keys { p256dh: p256dh.into(), auth: keys.auth.clone() };
            assert_eq!(encrypt(&wrong, b""), Err(CannotEncrypt));
        }
    }
}
