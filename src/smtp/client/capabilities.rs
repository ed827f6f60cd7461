//! What a server says it can do, in its answer to EHLO (RFC 5321, 4.1.1.1).

use crate::smtp::reply::Reply;

/// The extensions that matter to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Commands may be sent without waiting (RFC 2920).
    pub pipelining: bool,
    /// Any octets in a body (RFC 6152).
    pub eight_bit_mime: bool,
    /// UTF-8 in addresses and header (RFC 6531).
    pub smtputf8: bool,
    /// SIZE is understood (RFC 1870).
    pub size: bool,
    /// The largest message, where the server names one.
    pub max_size: Option<u64>,
    /// RET, ENVID, NOTIFY and ORCPT are understood (RFC 3461).
    pub dsn: bool,
    /// The connection can be encrypted (RFC 3207).
    pub starttls: bool,
    /// AUTH PLAIN (RFC 4954).
    pub auth_plain: bool,
    /// AUTH LOGIN.
    pub auth_login: bool,
}

impl Capabilities {
    /// Reads a positive reply to EHLO. Its first line is the greeting.
    pub fn read(reply: &Reply) -> Capabilities {
        let mut found = Capabilities::default();
        for line in reply.texts().iter().skip(1) {
            let upper = line.to_ascii_uppercase();
            // `AUTH=PLAIN` is what servers wrote before the RFC, for old clients.
            let upper = upper.replacen("AUTH=", "AUTH ", 1);
            let mut words = upper.split_ascii_whitespace();
            match words.next().unwrap_or_default() {
                "PIPELINING" => found.pipelining = true,
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "SIZE" => {
                    found.size = true;
                    // RFC 1870, 4: zero is no limit.
                    found.max_size = words.next().and_then(|word| word.parse().ok()).filter(|size| *size > 0);
                }
                "DSN" => found.dsn = true,
                "STARTTLS" => found.starttls = true,
                "AUTH" => {
                    for mechanism in words {
                        found.auth_plain |= mechanism == "PLAIN";
                        found.auth_login |= mechanism == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_read() {
        let lines =
            ["SIZE is my name", "size 1000", "Pipelining", "AUTH=LOGIN", "AUTH PLAIN X", "DSN", "XYZ"];
        let reply = Reply::lines(250, lines.iter().map(|line| (*line).into()).collect());
        let expected = Capabilities {
            pipelining: true,
            size: true,
            max_size: Some(1000),
            dsn: true,
            auth_plain: true,
            auth_login: true,
            ..Capabilities::default()
        };
        assert_eq!(Capabilities::read(&reply), expected);
        let zero = Reply::lines(250, vec!["mx".into(), "SIZE 0".into()]);
        assert_eq!(Capabilities::read(&zero).max_size, None);
    }
}
