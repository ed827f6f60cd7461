//! Ranges of IP addresses: `127.0.0.1`, `10.0.0.0/8`, `fd00::/8` (RFC 4632, 3.1; RFC 4291, 2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix_len: u8,
}

/// The text is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotANetwork;

impl Network {
    /// 127.0.0.0/8: this machine.
    pub fn loopback() -> Network {
        Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix_len: 8 }
    }

    /// Whether an address is in the range. An IPv4 address seen through an IPv6 socket
    /// (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (mine, prefix_len) = (bits(self.address), u32::from(self.prefix_len));
        let theirs = bits(address.to_canonical());
        let shift = 128 - prefix_len;
        mine.1 == theirs.1 && (shift == 128 || mine.0 >> shift == theirs.0 >> shift)
    }
}

/// Networks that are not the public internet's (RFC 6890 and its registries), of IPv4.
const SPECIAL: [(u32, u32); 15] = [
    (0x0000_0000, 8),  // 0.0.0.0, this network
    (0x0a00_0000, 8),  // 10.0.0.0, private
    (0x6440_0000, 10), // 100.64.0.0, shared by customers of a provider
    (0x7f00_0000, 8),  // 127.0.0.0, this machine
    (0xa9fe_0000, 16), // 169.254.0.0, this link; clouds tell secrets there
    (0xac10_0000, 12), // 172.16.0.0, private
    (0xc000_0000, 24), // 192.0.0.0, protocols
    (0xc000_0200, 24), // 192.0.2.0, documentation
    (0xc058_6300, 24), // 192.88.99.0, relays to IPv6
    (0xc0a8_0000, 16), // 192.168.0.0, private
    (0xc612_0000, 15), // 198.18.0.0, benchmarks
    (0xc633_6400, 24), // 198.51.100.0, documentation
    (0xcb00_7100, 24), // 203.0.113.0, documentation
    (0xe000_0000, 4),  // 224.0.0.0, multicast
    (0xf000_0000, 4),  // 240.0.0.0, reserved
];

/// Whether an address is one of the public internet: not of this machine, a private network or a
/// special purpose. Of IPv6 that is 2000::/3 without what leads to IPv4 or to examples.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            let bits = u32::from(four);
            !SPECIAL.iter().any(|(network, length)| (bits ^ network) >> (32 - length) == 0)
        }
        IpAddr::V6(six) => {
            let [first, second, ..] = six.segments();
            let is_special = match first {
                0x2001 => second < 0x0200 || second == 0x0db8,
                0x2002 => true,
                0x3fff => second < 0x1000,
                _ => false,
            };
            first & 0xe000 == 0x2000 && !is_special
        }
    }
}

/// An address as 128 bits from the left, and whether it is IPv4.
fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, prefix_len)) => (address, Some(prefix_len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match prefix_len {
            Some(prefix_len) => prefix_len.parse().map_err(|_| NotANetwork)?,
            None => longest,
        };
        if prefix_len > longest {
            return Err(NotANetwork);
        }
        Ok(Network { address, prefix_len })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public_and_what_is_not() {
        for text in ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2001:db8::1",
            "2001::1",
            "2002:a00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    fn holds(network: &str, address: &str) -> bool {
        let network: Network = network.parse().expect("a network");
        network.contains(address.parse().expect("an address"))
    }

    #[test]
    fn addresses_are_in_their_networks_only() {
        assert!(holds("10.0.0.0/8", "10.255.1.2"));
        assert!(!holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("127.0.0.1", "127.0.0.1"));
        assert!(!holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("0.0.0.0/0", "192.0.2.1"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(!holds("::/0", "192.0.2.1"));
        assert!(holds("fd00::/8", "fdab::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/8/8", "host"] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}
