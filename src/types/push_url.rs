//! Where a web push goes (RFC 8620, 7.2): an absolute `https` URL.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;

/// Octets of a URL.
const MAX_LEN: usize = 2_048;

/// A URL that begins with `https://`, names a host and nobody's password.
#[derive(Clone, PartialEq, Eq)]
pub struct PushUrl(Uri);

/// Why a text is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAPushUrl(pub &'static str);

impl PushUrl {
    /// As a client of HTTP takes it.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// Scheme, host, and port where it is not 443 (RFC 6454, 6.1): by which a push service knows itself.
    pub fn origin(&self) -> String {
        let host = self.0.host().unwrap_or_default();
        match self.0.port_u16() {
            None | Some(443) => format!("https://{host}"),
            Some(port) => format!("https://{host}:{port}"),
        }
    }
}

/// Whoever knows the URL can push: it does not reach logs.
impl fmt::Debug for PushUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushUrl({})", self.origin())
    }
}

impl FromStr for PushUrl {
    type Err = NotAPushUrl;

    fn from_str(text: &str) -> Result<PushUrl, NotAPushUrl> {
        if text.len() > MAX_LEN {
            return Err(NotAPushUrl("a URL may have 2048 octets"));
        }
        if !text.starts_with("https://") {
            return Err(NotAPushUrl("it must begin with https://"));
        }
        let uri: Uri = text.parse().map_err(|_| NotAPushUrl("it is no URL"))?;
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if !has_host || uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(NotAPushUrl("it must name a host, and no user"));
        }
        // `0177.1` or `2130706433` is an address to some programs: a name of digits is nobody's.
        let url = PushUrl(uri);
        let last = url.host().trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let looks_like_number = last.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        if url.address().is_none() && looks_like_number {
            return Err(NotAPushUrl("its host is neither a name nor an address"));
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pushes_may_go_to() {
        let url: PushUrl = "https://push.test:8443/a/b?c=d".parse().unwrap();
        assert_eq!(
            (url.host(), url.address(), url.origin().as_str()),
            ("push.test", None, "https://push.test:8443")
        );
        let url: PushUrl = "https://[2001:db8::1]/".parse().unwrap();
        assert_eq!(url.address(), "2001:db8::1".parse().ok());
        assert_eq!(url.origin(), "https://[2001:db8::1]");
        let url: PushUrl = "https://10.1.2.3:443".parse().unwrap();
        assert_eq!((url.address(), url.origin().as_str()), ("10.1.2.3".parse().ok(), "https://10.1.2.3"));
        assert_eq!(format!("{url:?}"), "PushUrl(https://10.1.2.3)");
    }

    #[test]
    fn what_is_none() {
        let long = format!("https://x.test/{}", "x".repeat(MAX_LEN));
        for text in [
            "",
            "http://push.test/",
            "HTTPS://push.test/",
            "https://",
            "https:///x",
            "push.test/x",
            "https://user:password@push.test/",
            "https://x y/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://push.test.0/",
            &long,
        ] {
            assert!(text.parse::<PushUrl>().is_err(), "{text}");
        }
    }
}
