//! DKIM keys and signatures (RFC 6376; Ed25519: RFC 8463).
//!
//! A domain signs with all keys that it has, relaxed/relaxed. Canonical form and cryptography are
//! those of mail-auth; keys are PKCS#8 DER at rest. Verifying is not done here.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::{HeaderStream, Writable, Writer};
use mail_auth::dkim::canonicalize::CanonicalHeaders;
use mail_auth::dkim::generate::DkimKeyPair;
use mail_auth::dkim::{Canonicalization, Signature};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::mail::field_lines::{Fields, fields, split_message};
use crate::types::address::normalize_domain;

/// Fields that are signed when they are there. From is named once more than it occurs, so that
/// none can be added (RFC 6376, 5.4 and 8.15).
const SIGNED_FIELDS: [&str; 19] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
];

const RSA_BITS: usize = 2048;

/// The two kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// RSA with SHA-256, 2,048 bits.
    Rsa,
    /// Ed25519 with SHA-256.
    Ed25519,
}

impl KeyKind {
    /// The word of the `k=` tag (RFC 6376, 3.6.1; RFC 8463, 3).
    pub fn word(self) -> &'static str {
        match self {
            KeyKind::Rsa => "rsa",
            KeyKind::Ed25519 => "ed25519",
        }
    }

    /// The kind of a `k=` word.
    pub fn from_word(word: &str) -> Option<KeyKind> {
        [KeyKind::Rsa, KeyKind::Ed25519].into_iter().find(|kind| kind.word() == word)
    }
}

/// A key as it is made and kept.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKey {
    /// RSA or Ed25519.
    pub kind: KeyKind,
    /// The name under which the public half stands in DNS.
    pub selector: String,
    /// The secret: PKCS#8, DER.
    pub pkcs8: Vec<u8>,
    /// The text of the DNS TXT record at `selector._domainkey.domain`.
    pub txt_record: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKey({}, {})", self.kind.word(), self.selector)
    }
}

/// The keys of one domain, ready to sign.
pub struct DomainKeys {
    domain: String,
    keys: Vec<(String, DkimKey)>,
}

/// What can go wrong with keys and signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DkimError {
    /// The domain or the selector is no domain name.
    Name(String),
    /// The key cannot be made, read or used; the detail holds nothing secret.
    Key(String),
    /// The message has no From field (RFC 6376, 5.4).
    NoFrom,
}

impl fmt::Display for DkimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DkimError::Name(name) => write!(f, "{name:?} is no domain name"),
            DkimError::Key(detail) => write!(f, "DKIM key: {detail}"),
            DkimError::NoFrom => f.write_str("a message without From cannot be signed"),
        }
    }
}

impl std::error::Error for DkimError {}

/// Makes a key. RSA takes seconds in a debug build and tenths of a second otherwise.
pub fn generate(kind: KeyKind, selector: &str) -> Result<NewKey, DkimError> {
    let selector = normalize_domain(selector).ok_or_else(|| DkimError::Name(selector.to_owned()))?;
    let pair = match kind {
        KeyKind::Rsa => DkimKeyPair::generate_rsa(RSA_BITS),
        KeyKind::Ed25519 => DkimKeyPair::generate_ed25519(),
    };
    let (private, public) = pair.map_err(|error| DkimError::Key(error.to_string()))?.into_inner();
    let (pkcs8, public) = match kind {
        KeyKind::Rsa => (rsa_pkcs8(&private), rsa_public_key_info(&public)),
        KeyKind::Ed25519 => (private, public),
    };
    let txt_record = format!("v=DKIM1; k={}; p={}", kind.word(), BASE64.encode(public));
    Ok(NewKey { kind, selector, pkcs8, txt_record })
}

/// A TXT record as a zone file has it: strings of at most 255 octets (RFC 1035, 3.3.14).
pub fn zone_file_line(domain: &str, selector: &str, txt_record: &str) -> String {
    let mut line = format!("{selector}._domainkey.{domain}. IN TXT (");
    let mut rest = txt_record;
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at_checked(255).unwrap_or((rest, ""));
        line.push_str(&format!(" \"{chunk}\""));
        rest = tail;
    }
    line.push_str(" )");
    line
}

impl DomainKeys {
    /// Keys of a domain from their kinds, selectors and PKCS#8 secrets.
    pub fn load<'a>(
        domain: &str,
        keys: impl IntoIterator<Item = (KeyKind, &'a str, &'a [u8])>,
    ) -> Result<DomainKeys, DkimError> {
        let name = |text: &str| normalize_domain(text).ok_or_else(|| DkimError::Name(text.to_owned()));
        let mut loaded = Vec::new();
        for (kind, selector, pkcs8) in keys {
            let key = match kind {
                KeyKind::Rsa => {
                    RsaKey::<Sha256>::from_key_der(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))
                        .map(DkimKey::Rsa)
                }
                KeyKind::Ed25519 => Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8).map(DkimKey::Ed25519),
            };
            loaded.push((name(selector)?, key.map_err(|error| DkimError::Key(error.to_string()))?));
        }
        Ok(DomainKeys { domain: name(domain)?, keys: loaded })
    }

    /// The domain that signs.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

/// Signs a message (CRLF line ends, as it will be sent) with every key of the domain. Returns the
/// `DKIM-Signature` fields, line ends included, to be put before it; empty when there are no keys.
pub fn sign(message: &[u8], keys: &DomainKeys, now_ms: i64) -> Result<String, DkimError> {
    let is_there = |name: &str| fields(message).any(|field| field.is(name));
    if !is_there("From") {
        return Err(DkimError::NoFrom);
    }
    // A name that stands twice here, and is found, is signed once more than it occurs.
    let mut names: Vec<String> = vec!["From".to_owned()];
    names.extend(SIGNED_FIELDS.iter().filter(|name| is_there(name)).map(|name| (*name).to_owned()));

    let (_, _, body) = split_message(message);
    let mut block = Vec::new();
    for (selector, key) in &keys.keys {
        let mut signature = Signature {
            v: 1,
            a: key.algorithm(),
            d: keys.domain.clone(),
            s: selector.clone(),
            h: names.clone(),
            t: u64::try_from(now_ms.div_euclid(1000)).unwrap_or(0),
            ch: Canonicalization::Relaxed,
            cb: Canonicalization::Relaxed,
            ..Signature::default()
        };
        let (_, headers, signed_names, canonical_body) =
            signature.canonicalize(Stream { fields: fields(message), body });
        signature.bh = key.hash(canonical_body).as_ref().to_vec();
        signature.h = signed_names;
        signature.b = key
            .sign(Signable { headers, signature: &signature })
            .map_err(|error| DkimError::Key(error.to_string()))?;
        signature.write(&mut block, true);
    }
    String::from_utf8(block).map_err(|_| DkimError::Key("a signature is not ASCII".to_owned()))
}

/// A message as mail-auth reads it: fields with their line ends, then the body.
struct Stream<'a> {
    fields: Fields<'a>,
    body: &'a [u8],
}

impl<'a> HeaderStream<'a> for Stream<'a> {
    fn next_header(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        // A line without a colon is no field; verifiers skip it too.
        let field = self.fields.find(|field| !field.name.is_empty())?;
        let colon = field.raw.iter().position(|byte| *byte == b':')?;
        Some((field.name, field.raw.get(colon + 1..)?))
    }

    fn body(&mut self) -> &'a [u8] {
        self.body
    }
}

/// What is hashed: the signed fields, then the signature's own field with an empty `b=` and
/// without a line end (RFC 6376, 3.7).
struct Signable<'a> {
    headers: CanonicalHeaders<'a>,
    signature: &'a Signature,
}

impl Writable for Signable<'_> {
    fn write(self, writer: &mut impl Writer) {
        self.headers.write(writer);
        self.signature.write(writer, false);
    }
}

/// `AlgorithmIdentifier` of RSA: the object identifier 1.2.840.113549.1.1.1 and NULL.
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A PKCS#1 private key as PKCS#8 (RFC 5208, 5).
fn rsa_pkcs8(pkcs1: &[u8]) -> Vec<u8> {
    der(0x30, &[&[0x02, 0x01, 0x00], &RSA_ALGORITHM, &der(0x04, &[pkcs1])])
}

/// A PKCS#1 public key as SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), the form that verifiers read
/// in `p=` (RFC 6376, erratum 3017).
fn rsa_public_key_info(pkcs1: &[u8]) -> Vec<u8> {
    der(0x30, &[&RSA_ALGORITHM, &der(0x03, &[&[0x00], pkcs1])])
}

/// One DER element.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let len: usize = content.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | significant.len() as u8);
        out.extend(significant);
    }
    content.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use std::borrow::Borrow;
    use std::collections::HashMap;
    use std::hash::Hash;
    use std::sync::{Arc, OnceLock};

    use mail_auth::common::parse::TxtRecordParser;
    use mail_auth::common::verify::DomainKey;
    use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt};

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const MESSAGE: &str = "Received: by a\r\nFrom: Alice <alice@example.test>\r\nTo: bob@example.test\r\n\
        Subject: A  long\r\n subject\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@example.test>\r\n\
        List-Id: <l.example.test>\r\n\r\nHello,\r\n\r\n  world \r\n\r\n\r\n";

    fn new_keys() -> &'static [NewKey; 2] {
        static KEYS: OnceLock<[NewKey; 2]> = OnceLock::new();
        KEYS.get_or_init(|| {
            [generate(KeyKind::Rsa, "r1").unwrap(), generate(KeyKind::Ed25519, "e1").unwrap()]
        })
    }

    fn domain_keys() -> DomainKeys {
        let keys = new_keys().iter().map(|key| (key.kind, key.selector.as_str(), key.pkcs8.as_slice()));
        DomainKeys::load("Example.Test", keys).unwrap()
    }

    /// DNS as a table, so that verifying asks nobody.
    struct Records(HashMap<Box<str>, Txt>);

    impl ResolverCache<Box<str>, Txt> for Records {
        fn get<Q>(&self, name: &Q) -> Option<Txt>
        where
            Box<str>: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            Some(self.0.get(name).cloned().unwrap_or(Txt::Error(mail_auth::Error::ParseError)))
        }

        fn remove<Q>(&self, _: &Q) -> Option<Txt>
        where
            Box<str>: Borrow<Q>,
            Q: Hash + Eq + ?Sized,
        {
            None
        }

        fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
    }

    async fn verify(message: &str) -> Vec<DkimResult> {
        let records = new_keys().iter().map(|key| {
            let name = format!("{}._domainkey.example.test.", key.selector).into_boxed_str();
            (name, Txt::DomainKey(Arc::new(DomainKey::parse(key.txt_record.as_bytes()).unwrap())))
        });
        let records = Records(records.collect());
        let resolver = MessageAuthenticator::new(Default::default(), Default::default()).unwrap();
        let parsed = AuthenticatedMessage::parse(message.as_bytes()).unwrap();
        let parameters = Parameters::new(&parsed).with_txt_cache(&records);
        resolver.verify_dkim(parameters).await.into_iter().map(|output| output.result().clone()).collect()
    }

    #[tokio::test]
    async fn both_signatures_verify_and_survive_refolding() {
        let block = sign(MESSAGE, NOW_MS);
        assert_eq!(verify(&format!("{block}{MESSAGE}")).await, [DkimResult::Pass, DkimResult::Pass]);
        let refolded = MESSAGE.replace("A  long\r\n subject", "A long subject").replace("world ", "world");
        assert_eq!(verify(&format!("{block}{refolded}")).await, [DkimResult::Pass, DkimResult::Pass]);
    }

    #[tokio::test]
    async fn what_is_signed_cannot_be_changed_or_doubled() {
        let block = sign(MESSAGE, NOW_MS);
        for forged in [
            format!("{block}{}", MESSAGE.replace("Hello", "Hullo")),
            format!("{block}{}", MESSAGE.replace("<l.example", "<m.example")),
            format!("{block}From: mallory@example.test\r\n{MESSAGE}"),
        ] {
            let results = verify(&forged).await;
            assert_eq!(results.len(), 2);
            assert!(results.iter().all(|result| *result != DkimResult::Pass), "{forged}");
        }
        let with_hop = format!("{block}Received: by b\r\n{MESSAGE}");
        assert_eq!(verify(&with_hop).await, [DkimResult::Pass, DkimResult::Pass]);
    }

    fn sign(message: &str, now_ms: i64) -> String {
        super::sign(message.as_bytes(), &domain_keys(), now_ms).unwrap()
    }

    #[test]
    fn the_field_says_what_was_asked_for() {
        let block = sign(MESSAGE, NOW_MS);
        assert!(block.lines().all(|line| line.len() <= 80), "{block}");
        let unfolded = block.replace("\r\n\t", " ");
        for wanted in ["a=rsa-sha256; s=r1; d=example.test; c=relaxed/relaxed;", "a=ed25519-sha256; s=e1;"] {
            assert!(unfolded.contains(wanted), "{unfolded}");
        }
        assert_eq!(unfolded.matches("t=1700000000").count(), 2);
        let names = unfolded.split_once("h=").and_then(|(_, rest)| rest.split_once(';')).unwrap().0;
        assert_eq!(names.replace(' ', ""), "List-Id:Message-ID:Date:Subject:To:From:From");
    }

    #[test]
    fn messages_and_keys_that_cannot_be_used() {
        assert_eq!(super::sign(b"To: x\r\n\r\n", &domain_keys(), 0), Err(DkimError::NoFrom));
        assert!(DomainKeys::load("a b", []).is_err());
        assert!(DomainKeys::load("a.test", [(KeyKind::Rsa, "s", &b"rubbish"[..])]).is_err());
        assert!(generate(KeyKind::Ed25519, "a;b").is_err());
    }

    #[test]
    fn records_fit_dns_strings() {
        let key = &new_keys()[0];
        let line = zone_file_line("example.test", "r1", &key.txt_record);
        assert!(line.starts_with("r1._domainkey.example.test. IN TXT ( \"v=DKIM1; k=rsa; p="));
        let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        assert!(strings.len() == 2 && strings.iter().all(|string| string.len() <= 255));
        assert_eq!(strings.concat(), key.txt_record);
        assert!(!format!("{key:?}").contains("pkcs8"));
    }
}
