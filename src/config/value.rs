//! How each kind of value is read. Every error says what was given and what to give instead.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::types::address::normalize_domain;
use crate::types::duration::parse_duration;
use crate::types::network::Network;
use crate::types::secret::Secret;
use crate::types::size::parse_size;

/// Which resolver is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dns {
    /// The ones of the machine's own configuration.
    System,
    /// This one only.
    Server(SocketAddr),
}

/// The server to which all outgoing mail goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relay {
    /// A host name or an IP address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User and password for AUTH.
    pub login: Option<(String, Secret)>,
    /// Whether TLS begins with the first octet (RFC 8314, 3.3) instead of with STARTTLS.
    pub is_implicit_tls: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `host:port` with an IP address or `localhost`; port 0 takes a free one.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    local.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).or_else(|| text.parse().ok()).ok_or_else(
        || format!("`{text}` is no address to listen on; give host:port, for example 127.0.0.1:8080"),
    )
}

/// As [`listen`], or `off`.
pub fn listen_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" { Ok(None) } else { listen(text).map(Some) }
}

/// A path.
pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a path must be given".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A path, or nothing.
pub fn path_or_none(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// A text, or nothing.
pub fn text_or_none(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// An `http` or `https` URL without query or fragment; a slash at its end is cut.
pub fn public_url(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("`{text}` is no public URL; give one such as https://mail.example.org");
    let host = url_host(text).ok_or_else(wrong)?;
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}?#@".contains(&byte);
    if host.is_empty() || !text.bytes().all(legal) {
        return Err(wrong());
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

/// The host of an `http` or `https` URL, without its port.
pub fn url_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split('/').next()?;
    let (host, port) = split_port(authority)?;
    port.is_none_or(|port| port.parse::<u16>().is_ok()).then_some(host)
}

/// An `http` or `https` URL of a host, a port perhaps, and nothing else; without a slash at its end.
pub(in crate::config) fn http_host(text: &str) -> Option<String> {
    let trimmed = text.trim_end_matches('/');
    let is_host_alone =
        trimmed.split_once("://").is_some_and(|(_, host)| !host.contains(['/', '@', '#', '?']));
    url_host(trimmed).filter(|host| is_host_alone && !host.is_empty()).map(|_| trimmed.to_owned())
}

/// `host:port`, `host`, `[v6]:port` or `[v6]` in two; brackets are cut.
pub(in crate::config) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return if rest.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(rest.strip_prefix(':')?)))
        };
    }
    Some(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

/// A host name in any script, or nothing.
pub fn hostname(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = normalize_domain(text).filter(|name| !name.starts_with('['));
    name.map(Some).ok_or_else(|| format!("`{text}` is no host name; give one such as mail.example.org"))
}

/// The host of the public URL, else the machine's name, else `localhost`.
pub fn default_hostname(public_url: Option<&str>) -> String {
    let of_url = public_url.and_then(url_host).filter(|host| host.parse::<IpAddr>().is_err());
    let of_machine = || {
        ["/proc/sys/kernel/hostname", "/etc/hostname"]
            .iter()
            .find_map(|file| normalize_domain(std::fs::read_to_string(file).ok()?.trim()))
    };
    of_url.and_then(normalize_domain).or_else(of_machine).unwrap_or_else(|| "localhost".to_owned())
}

/// `system`, or an IP address with or without a port.
pub fn dns(text: &str) -> Result<Dns, String> {
    if text == "system" {
        return Ok(Dns::System);
    }
    let address = text.parse::<SocketAddr>().ok();
    let address = address.or_else(|| Some(SocketAddr::from((text.parse::<IpAddr>().ok()?, 53))));
    address.map(Dns::Server).ok_or_else(|| {
        format!("`{text}` is no resolver; give system, or host:port, for example 127.0.0.1:53")
    })
}

/// `smtp://[user:password@]host[:port]`, or with `smtps`, or nothing. The value is not repeated in errors: it may
/// hold a password.
pub fn relay(text: &str) -> Result<Option<Relay>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        "no address of a relay; give smtp://host:port or smtp://user:password@host:port, or smtps:// for TLS \
         from the start"
            .to_owned()
    };
    // RFC 8314, 7.3: 465 is the port with TLS from the first octet.
    let (rest, is_implicit_tls, usual_port) = match text.split_once("://") {
        Some(("smtp", rest)) => (rest, false, 25),
        Some(("smtps", rest)) => (rest, true, 465),
        _ => return Err(wrong()),
    };
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, rest),
    };
    let login = match login {
        Some(login) => {
            let (user, password) = login.split_once(':').ok_or_else(wrong)?;
            let user = percent_decode(user).filter(|user| !user.is_empty()).ok_or_else(wrong)?;
            Some((user, Secret::new(percent_decode(password).ok_or_else(wrong)?)))
        }
        None => None,
    };
    let (host, port) = split_port(host.strip_suffix('/').unwrap_or(host)).ok_or_else(wrong)?;
    let port = port
        .map_or(Some(usual_port), |port| port.parse().ok().filter(|port| *port != 0))
        .ok_or_else(wrong)?;
    let host = match host.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => normalize_domain(host).ok_or_else(wrong)?,
    };
    Ok(Some(Relay { host, port, login, is_implicit_tls }))
}

/// Undoes `%41`; `None` when it is cut short or no UTF-8 (RFC 3986, 2.1).
pub(in crate::config) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// A TCP port.
pub fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("`{text}` is no port; give 1 to 65535"))
}

/// A span of time, not zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).filter(|duration| !duration.is_zero()).ok_or_else(|| {
        format!("`{text}` is no span of time; give a number and its unit, for example 30s, 5m, 12h, 5d")
    })
}

/// Addresses and networks, with commas or spaces between them.
pub fn networks(text: &str) -> Result<Vec<Network>, String> {
    let parts = text.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            part.parse().map_err(|_| {
                format!("`{part}` is no address or network; give for example 127.0.0.1 or 10.0.0.0/8")
            })
        })
        .collect()
}

/// `true` or `false`.
pub fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

/// A size, not zero.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text).filter(|octets| (1..=i64::MAX as u64).contains(octets)).ok_or_else(|| {
        format!("`{text}` is no size; give a number and its unit, for example 64kB, 50MiB, 10GB")
    })
}

/// A size, or `none`.
pub fn size_or_none(text: &str) -> Result<Option<u64>, String> {
    if text == "none" { Ok(None) } else { size(text).map(Some) }
}

/// How many connections may be opened: two at least, so that reads do not wait for a write.
pub fn connections(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(connections @ 2..=10_000) => Ok(connections),
        _ => Err("give a number from 2 to 10000".to_owned()),
    }
}

/// A whole number from one.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=1_000_000_000).contains(count))
        .ok_or_else(|| format!("`{text}` is no number from 1 to 1000000000"))
}

/// `text` or `json`.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is neither text nor json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners() {
        assert_eq!(listen("localhost:80").map(|at| at.to_string()).as_deref(), Ok("127.0.0.1:80"));
        assert_eq!(listen("[::1]:0").map(|at| at.to_string()).as_deref(), Ok("[::1]:0"));
        assert_eq!(listen_or_off("off"), Ok(None));
        for text in ["", "80", ":80", "host:80", "127.0.0.1", "127.0.0.1:99999", "localhost:x"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn public_urls() {
        assert_eq!(public_url("http://127.0.0.1:8080//"), Ok(Some("http://127.0.0.1:8080".to_owned())));
        assert_eq!(public_url("https://[::1]:1/jmap"), Ok(Some("https://[::1]:1/jmap".to_owned())));
        for text in
            ["mail.test", "ftp://x", "https://", "https://a b", "https://a?b", "https://u@h", "https://h:x"]
        {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_names() {
        assert_eq!(hostname("Bücher.example"), Ok(Some("xn--bcher-kva.example".to_owned())));
        assert!(hostname("[127.0.0.1]").is_err() && hostname("a b").is_err());
        assert_eq!(default_hostname(Some("https://mail.test:1/x")), "mail.test");
        assert_ne!(default_hostname(Some("http://127.0.0.1:1")), "127.0.0.1");
    }

    #[test]
    fn resolvers() {
        assert_eq!(dns("system"), Ok(Dns::System));
        assert_eq!(dns("127.0.0.1").ok(), "127.0.0.1:53".parse().ok().map(Dns::Server));
        assert!(dns("ns.example").is_err());
    }

    #[test]
    fn relays() {
        let plain = relay("smtp://[::1]:2525").ok().flatten().expect("a relay");
        assert_eq!((plain.host.as_str(), plain.port, plain.login), ("::1", 2525, None));
        let login = relay("smtp://a%40b.test:p@ss@relay.test").ok().flatten().expect("a relay");
        assert_eq!((login.host.as_str(), login.port, login.is_implicit_tls), ("relay.test", 25, false));
        let implicit = relay("smtps://relay.test").ok().flatten().expect("a relay");
        assert_eq!((implicit.port, implicit.is_implicit_tls), (465, true));
        assert_eq!(login.login, Some(("a@b.test".to_owned(), Secret::new("p@ss"))));
        for text in ["relay.test:25", "smtp://", "smtp://u@h", "smtp://:p@h", "smtp://u:%4@h", "smtp://h:0"] {
            let told = relay(text).expect_err(text);
            assert!(!told.contains("%4"), "{told}");
        }
    }

    #[test]
    fn lists_of_networks() {
        assert_eq!(networks("127.0.0.1, ::1 10.0.0.0/8").map(|list| list.len()), Ok(3));
        assert_eq!(networks("").map(|list| list.len()), Ok(0));
        assert!(networks("localhost").is_err());
    }

    #[test]
    fn numbers() {
        assert_eq!(size_or_none("none"), Ok(None));
        assert!(
            size("0").is_err() && size("99999999TB").is_err() && count("0").is_err() && port("0").is_err()
        );
        assert!(duration("0s").is_err() && duration("5").is_err());
    }
}
