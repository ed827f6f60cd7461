//! Mail addresses as keys (RFC 5321, 4.1.2; RFC 6531, 3.3).

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// Longest address that is accepted: 64 octets of local part, `@`, 255 of domain
/// (RFC 5321, 4.5.3.1).
pub const MAX_ADDRESS_LEN: usize = 320;

/// An address in the form by which mail is routed: local part in lower case and NFC, domain in
/// lower-case A-labels. Two spellings of one mailbox compare equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Address {
    local: String,
    domain: String,
}

/// Why a text is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnAddress;

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address has the form local-part@domain")
    }
}

impl std::error::Error for NotAnAddress {}

impl Address {
    /// Reads `local@domain`, quoted local parts included.
    pub fn parse(text: &str) -> Result<Address, NotAnAddress> {
        let (local, domain) = text.rsplit_once('@').ok_or(NotAnAddress)?;
        let local = unquote(local).ok_or(NotAnAddress)?;
        if local.is_empty() || local.len() > 64 || text.len() > MAX_ADDRESS_LEN {
            return Err(NotAnAddress);
        }
        let local = local.nfc().collect::<String>().to_lowercase();
        Ok(Address { local, domain: normalize_domain(domain).ok_or(NotAnAddress)? })
    }

    /// The part before the `@`, without quotes.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain in A-labels.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Without its plus-address tag: `alice+news@…` is `alice@…`. `None` when it has none.
    pub fn without_tag(&self) -> Option<Address> {
        let (base, _) = self.local.split_once('+')?;
        (!base.is_empty()).then(|| Address { local: base.to_owned(), domain: self.domain.clone() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// A domain in lower-case A-labels, or an address literal as it stands; `None` when it is neither.
pub fn normalize_domain(domain: &str) -> Option<String> {
    if domain.starts_with('[') && domain.ends_with(']') && domain.len() <= 64 {
        // RFC 5321, 4.1.3: numbers, or a tag and numbers. What is between goes into SMTP commands.
        let inner = domain.get(1..domain.len() - 1)?;
        if !inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-".contains(&byte)) {
            return None;
        }
        return Some(domain.to_ascii_lowercase());
    }
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let ascii = idna::domain_to_ascii(domain).ok()?;
    let label_is_legal = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (ascii.len() <= 253 && ascii.split('.').all(label_is_legal)).then_some(ascii)
}

/// A local part without its quotes and backslashes; `None` when it is not legal.
fn unquote(local: &str) -> Option<String> {
    let Some(inner) = local.strip_prefix('"') else {
        let legal = |c: char| !c.is_control() && !c.is_whitespace() && !"\"(),:;<>@[\\]".contains(c);
        return local.chars().all(legal).then(|| local.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| !c.is_control())?),
            '"' => return None,
            c if c.is_control() => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_are_equal() {
        let key = |text| Address::parse(text).map(|address| address.to_string());
        assert_eq!(key("Alice@Example.TEST").as_deref(), Ok("alice@example.test"));
        assert_eq!(key("\"alice\"@example.test").as_deref(), Ok("alice@example.test"));
        assert_eq!(key("a@Bücher.example").as_deref(), Ok("a@xn--bcher-kva.example"));
        assert_eq!(key("Jos\u{65}\u{301}@x.test"), key("JOS\u{c9}@x.test"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "a", "@", "a@", "@b", "a b@c", "a@b c", "\"a@b", "a\r\nb@c", "a@b..c", "<a@b>", "a@\u{0}"]
        {
            assert_eq!(Address::parse(text), Err(NotAnAddress), "{text}");
        }
        // What stands in brackets goes into SMTP commands.
        for text in ["a@[>]", "a@[1.2.3.4> NOTIFY=NEVER]", "a@[\r\n]", "a@[x y]"] {
            assert_eq!(Address::parse(text), Err(NotAnAddress), "{text}");
        }
        assert!(Address::parse("a@[192.0.2.1]").is_ok() && Address::parse("a@[IPv6:2001:db8::1]").is_ok());
    }

    #[test]
    fn tags_are_cut() {
        let tagged = Address::parse("alice+news+x@example.test").ok().and_then(|a| a.without_tag());
        assert_eq!(tagged.map(|a| a.to_string()).as_deref(), Some("alice@example.test"));
    }
}
