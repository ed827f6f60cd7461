//! The binary header of the PROXY protocol, version 2: a load balancer's word for where a
//! connection really comes from. Only heard from trusted proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The octets by which the header is known.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of the header before its addresses.
pub const FIXED_LEN: usize = 16;
/// Longest rest of a header that is read: addresses, and extensions that nobody looks at.
const MAX_REST_LEN: usize = 4096;

/// The first sixteen octets are no header, or one that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHeader;

/// What the fixed part of a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The proxy speaks for itself: a health check.
    pub is_local: bool,
    /// Family and protocol, as they stand.
    family: u8,
    /// Octets that follow.
    pub rest_len: usize,
}

impl Header {
    /// Reads the fixed part.
    pub fn parse(bytes: &[u8; FIXED_LEN]) -> Result<Header, NotAHeader> {
        let [.., command, family, length_high, length_low] = *bytes;
        let rest_len = usize::from(u16::from_be_bytes([length_high, length_low]));
        if !bytes.starts_with(&SIGNATURE) || rest_len > MAX_REST_LEN {
            return Err(NotAHeader);
        }
        match command {
            0x20 => Ok(Header { is_local: true, family, rest_len }),
            0x21 => Ok(Header { is_local: false, family, rest_len }),
            _ => Err(NotAHeader),
        }
    }

    /// Reads the client's address out of the rest. `None`: the proxy's own address counts.
    pub fn source(&self, rest: &[u8]) -> Result<Option<IpAddr>, NotAHeader> {
        match self.family {
            _ if self.is_local => Ok(None),
            0x11 => {
                let octets: [u8; 4] = *rest.first_chunk().filter(|_| rest.len() >= 12).ok_or(NotAHeader)?;
                Ok(Some(IpAddr::V4(Ipv4Addr::from(octets))))
            }
            0x21 => {
                let octets: [u8; 16] = *rest.first_chunk().filter(|_| rest.len() >= 36).ok_or(NotAHeader)?;
                Ok(Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest_len: u16) -> Result<Header, NotAHeader> {
        let mut bytes = [0; FIXED_LEN];
        bytes[..12].copy_from_slice(&SIGNATURE);
        bytes[12] = command;
        bytes[13] = family;
        bytes[14..].copy_from_slice(&rest_len.to_be_bytes());
        Header::parse(&bytes)
    }

    #[test]
    fn the_source_is_read() {
        let four = header(0x21, 0x11, 12).expect("header");
        let rest = [192, 0, 2, 1, 10, 0, 0, 1, 0, 99, 0, 25];
        assert_eq!(four.source(&rest), Ok(Some(IpAddr::from([192, 0, 2, 1]))));
        assert_eq!(four.source(&rest[..11]), Err(NotAHeader));
        let six = header(0x21, 0x21, 36).expect("header");
        let mut rest = [0; 36];
        rest[15] = 1;
        assert_eq!(six.source(&rest), Ok(Some(IpAddr::V6(Ipv6Addr::LOCALHOST))));
        assert_eq!(six.source(&rest[..35]), Err(NotAHeader));
        assert_eq!(header(0x20, 0x11, 12).and_then(|local| local.source(&[0; 12])), Ok(None));
        assert_eq!(header(0x21, 0x00, 0).and_then(|unknown| unknown.source(&[])), Ok(None));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert_eq!(header(0x11, 0x11, 12), Err(NotAHeader));
        assert_eq!(header(0x21, 0x11, 5000), Err(NotAHeader));
        assert_eq!(Header::parse(b"EHLO example.tes"), Err(NotAHeader));
    }
}
