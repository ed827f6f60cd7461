//! The trace fields (RFC 5321, 4.4): written on top of each message, and counted in it to find
//! loops.

use std::fmt::Write;
use std::net::IpAddr;

use mail_parser::DateTime;

use crate::types::id::Id;

/// How a message came in.
#[derive(Debug, Clone, Copy)]
pub struct Trace<'a> {
    /// The name that the client gave itself.
    pub helo: &'a str,
    /// Whether it greeted with EHLO.
    pub is_extended: bool,
    /// Its address.
    pub peer: IpAddr,
    /// Version and cipher, when encrypted.
    pub tls: Option<&'a str>,
    /// Whether it signed in.
    pub is_signed_in: bool,
    /// Whether the transaction is one of SMTPUTF8.
    pub is_utf8: bool,
    /// Our name.
    pub host_name: &'a str,
    /// The message's id in the queue.
    pub id: Id,
    /// The recipient, when there is only one: several would betray blind copies to each other.
    pub only_recipient: Option<&'a str>,
    /// When, in milliseconds since 1970.
    pub received_at_ms: i64,
}

impl Trace<'_> {
    /// The Received field with its CRLF.
    pub fn field(&self) -> String {
        let address = match self.peer {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        let mut field = format!("Received: from {} ({address})\r\n\tby {} with ", self.helo, self.host_name);
        field.push_str(self.protocol());
        // Writing to a String cannot fail.
        if let Some(tls) = self.tls {
            let _ = write!(field, " ({tls})");
        }
        let _ = write!(field, "\r\n\tid {}", self.id);
        // A quoted local part may look like anything to a careless reader of traces.
        if let Some(recipient) = self.only_recipient.filter(|recipient| !recipient.contains('"')) {
            let _ = write!(field, " for <{recipient}>");
        }
        let date = DateTime::from_timestamp(self.received_at_ms.div_euclid(1000)).to_rfc822();
        let _ = write!(field, ";\r\n\t{date}\r\n");
        field
    }

    /// RFC 3848; for SMTPUTF8 RFC 6531, 4.3.
    fn protocol(&self) -> &'static str {
        match (self.is_extended, self.is_utf8, self.tls.is_some(), self.is_signed_in) {
            (false, ..) => "SMTP",
            (true, false, false, false) => "ESMTP",
            (true, false, true, false) => "ESMTPS",
            (true, false, false, true) => "ESMTPA",
            (true, false, true, true) => "ESMTPSA",
            (true, true, false, false) => "UTF8SMTP",
            (true, true, true, false) => "UTF8SMTPS",
            (true, true, false, true) => "UTF8SMTPA",
            (true, true, true, true) => "UTF8SMTPSA",
        }
    }
}

/// How many Received fields a message's header has, counted to `most` at most.
pub fn received_fields(message: &[u8], most: usize) -> usize {
    message
        .split(|byte| *byte == b'\n')
        .take_while(|line| !matches!(*line, b"" | b"\r"))
        .filter(|line| line.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"received:")))
        .take(most)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace<'static> {
        Trace {
            helo: "mx.sender.test",
            is_extended: true,
            peer: IpAddr::from([192, 0, 2, 1]),
            tls: None,
            is_signed_in: false,
            is_utf8: false,
            host_name: "mx.example.test",
            id: Id(1),
            only_recipient: Some("a@example.test"),
            received_at_ms: 1_414_649_520_123,
        }
    }

    #[test]
    fn a_field_tells_the_way() {
        assert_eq!(
            trace().field(),
            "Received: from mx.sender.test ([192.0.2.1])\r\n\tby mx.example.test with ESMTP\r\n\t\
             id aaaaaaaaaaaab for <a@example.test>;\r\n\tThu, 30 Oct 2014 06:12:00 +0000\r\n"
        );
        let secret = Trace {
            tls: Some("TLSv1_3 TLS13_AES_256_GCM_SHA384"),
            is_signed_in: true,
            is_utf8: true,
            peer: "2001:db8::1".parse().expect("address"),
            only_recipient: None,
            ..trace()
        };
        let field = secret.field();
        assert!(field.contains("([IPv6:2001:db8::1])"), "{field}");
        assert!(field.contains("with UTF8SMTPSA (TLSv1_3 TLS13_AES_256_GCM_SHA384)\r\n"), "{field}");
        assert!(!field.contains(" for "), "{field}");
        assert!(Trace { is_extended: false, ..trace() }.field().contains("with SMTP\r\n"));
    }

    #[test]
    fn received_fields_of_the_header_are_counted() {
        let message = b"Received: a\r\n\tb\r\nreceived:c\r\nX-Received: d\r\n\r\nReceived: body\r\n";
        assert_eq!(received_fields(message, 10), 2);
        assert_eq!(received_fields(&b"Received: x\r\n".repeat(50), 31), 31);
        assert_eq!(received_fields(b"", 10), 0);
    }
}
