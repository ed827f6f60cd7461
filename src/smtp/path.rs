//! Reverse paths and forward paths (RFC 5321, 4.1.2; with UTF-8 RFC 6531, 3.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::types::address::Address;

/// Longest path, its angle brackets included, in octets (RFC 5321, 4.5.3.1.3). Sixty-four octets
/// more are taken, since internationalised domains are longer in UTF-8 than in A-labels.
pub const MAX_PATH_LEN: usize = 256 + 64;

/// A mailbox as it was written, and as a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    text: String,
    address: Address,
}

impl Mailbox {
    /// Reads `local-part@domain`, without angle brackets.
    pub fn parse(text: &str) -> Option<Mailbox> {
        let (local, domain) = text.rsplit_once('@')?;
        // RFC 5321, 4.5.3.1.1: 64 octets of local part, here counted as written, quotes apart.
        let quotes = if local.starts_with('"') { 2 } else { 0 };
        if local.len() > 64 + quotes || text.len() > MAX_PATH_LEN - 2 {
            return None;
        }
        if domain.starts_with('[') && !is_address_literal(domain) {
            return None;
        }
        let address = Address::parse(text).ok()?;
        Some(Mailbox { text: text.to_owned(), address })
    }

    /// `local-part@domain` as the client wrote it: quotes and case kept.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form by which mail is routed.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it can only be sent with SMTPUTF8 (RFC 6531, 3.3).
    pub fn needs_smtputf8(&self) -> bool {
        !self.text.is_ascii()
    }
}

/// Who a message comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: nobody to send a bounce to (RFC 5321, 4.5.5).
    Null,
    /// A mailbox.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The address as written, empty for the null path.
    pub fn as_str(&self) -> &str {
        match self {
            ReversePath::Null => "",
            ReversePath::Mailbox(mailbox) => mailbox.as_str(),
        }
    }
}

/// Who a message goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain (RFC 5321, 4.1.1.3).
    Postmaster,
    /// A mailbox.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// The address as written.
    pub fn as_str(&self) -> &str {
        match self {
            ForwardPath::Postmaster => "postmaster",
            ForwardPath::Mailbox(mailbox) => mailbox.as_str(),
        }
    }
}

/// Takes a reverse path off the front of `text`; gives it and what follows it.
pub fn take_reverse_path(text: &str) -> Option<(ReversePath, &str)> {
    let (inner, rest) = take_brackets(text)?;
    let path = match inner {
        "" => ReversePath::Null,
        _ => ReversePath::Mailbox(Mailbox::parse(inner)?),
    };
    Some((path, rest))
}

/// Takes a forward path off the front of `text`; gives it and what follows it.
pub fn take_forward_path(text: &str) -> Option<(ForwardPath, &str)> {
    let (inner, rest) = take_brackets(text)?;
    let path = if inner.eq_ignore_ascii_case("postmaster") {
        ForwardPath::Postmaster
    } else {
        ForwardPath::Mailbox(Mailbox::parse(inner)?)
    };
    Some((path, rest))
}

/// Splits `<…>` off the front, quoted strings respected, without the source route that may stand
/// in it.
fn take_brackets(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = text.char_indices().find_map(|(at, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(at),
            _ => {}
        }
        None
    })?;
    if end + 2 > MAX_PATH_LEN {
        return None;
    }
    let (inner, rest) = (text.get(..end)?, text.get(end + 1..)?);
    Some((without_source_route(inner)?, rest))
}

/// RFC 5321, 4.1.1.3 and appendix C: `@one,@two:user@three` must be understood, and the route is
/// ignored.
fn without_source_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let mut in_literal = false;
    let colon = path.char_indices().find_map(|(at, c)| {
        match c {
            '[' => in_literal = true,
            ']' => in_literal = false,
            ':' if !in_literal => return Some(at),
            _ => {}
        }
        None
    })?;
    let hops_are_legal = path.get(..colon)?.split(',').all(|hop| {
        let host = hop.strip_prefix('@').unwrap_or_default();
        !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._[]:".contains(c))
    });
    hops_are_legal.then(|| path.get(colon + 1..)).flatten()
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3). General address literals name
/// protocols that nobody speaks.
pub fn is_address_literal(domain: &str) -> bool {
    let Some(inner) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => {
            inner.get(5..).is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> Option<(String, String)> {
        take_forward_path(text).map(|(path, rest)| (path.as_str().to_owned(), rest.to_owned()))
    }

    #[test]
    fn paths_are_read() {
        for (text, path, rest) in [
            ("<a@b.test>", "a@b.test", ""),
            ("<a@b.test> NOTIFY=NEVER", "a@b.test", " NOTIFY=NEVER"),
            ("<\"a>b c@d\"@b.test>", "\"a>b c@d\"@b.test", ""),
            ("<\"a\\\"b\"@b.test>x", "\"a\\\"b\"@b.test", "x"),
            ("<@one.test,@two.test:a@b.test>", "a@b.test", ""),
            ("<@[IPv6:::1]:a@b.test>", "a@b.test", ""),
            ("<a@[192.0.2.1]>", "a@[192.0.2.1]", ""),
            ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", ""),
            ("<PostMaster>", "postmaster", ""),
            ("<j\u{e9}@b\u{fc}cher.test>", "j\u{e9}@b\u{fc}cher.test", ""),
        ] {
            assert_eq!(forward(text), Some((path.to_owned(), rest.to_owned())), "{text}");
        }
        assert_eq!(take_reverse_path("<>").map(|(path, _)| path), Some(ReversePath::Null));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let long_local = format!("<{}@b.test>", "a".repeat(65));
        let long = format!("<a@{}test>", "abcdefg.".repeat(40));
        for text in [
            "",
            "<",
            ">",
            "<>",
            "a@b.test",
            "<a@b.test",
            "<a>",
            "<a@>",
            "<@b.test>",
            "<a b@c.test>",
            "<a@b@c.test>",
            "<\"a@b.test>",
            "<a@[300.1.1.1]>",
            "<a@[x]>",
            "<a@[IPv6:zz]>",
            "<@x a@b.test>",
            "<@one,two:a@b.test>",
            "<a@b..test>",
            "<a\"b@c.test>",
            "<a@-\u{0}.test>",
            &long_local,
            &long,
        ] {
            assert_eq!(forward(text), None, "{text}");
        }
    }
}
