//! Where somebody else wants to be told: the push service of a device (RFC 8620, 7.2), a webhook. An
//! absolute `https` URL; for webhooks, `http` too where the operator allows that.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;

/// Octets of a URL.
const MAX_LEN: usize = 2_048;

/// A URL that begins with `https://` (or `http://`), names a host and nobody's password.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl(Uri);

/// Why a text is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotACallbackUrl(pub &'static str);

impl CallbackUrl {
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

    /// Whether it is without TLS.
    pub fn is_plain(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }

    /// The URL of a webhook, which may be without TLS; where, is for the one to say who posts to it.
    pub fn of_webhook(text: &str) -> Result<CallbackUrl, NotACallbackUrl> {
        CallbackUrl::read(text, &["https://", "http://"])
    }

    fn read(text: &str, schemes: &[&str]) -> Result<CallbackUrl, NotACallbackUrl> {
        if text.len() > MAX_LEN {
            return Err(NotACallbackUrl("a URL may have 2048 octets"));
        }
        if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
            return Err(NotACallbackUrl("it must begin with https://"));
        }
        let uri: Uri = text.parse().map_err(|_| NotACallbackUrl("it is no URL"))?;
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if !has_host || uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(NotACallbackUrl("it must name a host, and no user"));
        }
        // `0177.1` or `2130706433` is an address to some programs: a name of digits is nobody's.
        let url = CallbackUrl(uri);
        let last = url.host().trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let looks_like_number = last.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        if url.address().is_none() && looks_like_number {
            return Err(NotACallbackUrl("its host is neither a name nor an address"));
        }
        Ok(url)
    }

    /// Scheme, host, and port where it is not that of the scheme (RFC 6454, 6.1): by which a push service knows itself.
    pub fn origin(&self) -> String {
        let host = self.0.host().unwrap_or_default();
        let scheme = if self.is_plain() { "http" } else { "https" };
        match self.0.port_u16().filter(|port| *port != if self.is_plain() { 80 } else { 443 }) {
            None => format!("{scheme}://{host}"),
            Some(port) => format!("{scheme}://{host}:{port}"),
        }
    }
}

/// Whoever knows the URL can push: it does not reach logs.
impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({})", self.origin())
    }
}

impl FromStr for CallbackUrl {
    type Err = NotACallbackUrl;

    fn from_str(text: &str) -> Result<CallbackUrl, NotACallbackUrl> {
        CallbackUrl::read(text, &["https://"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pushes_may_go_to() {
        let url: CallbackUrl = "https://push.test:8443/a/b?c=d".parse().unwrap();
        assert_eq!(
            (url.host(), url.address(), url.origin().as_str()),
            ("push.test", None, "https://push.test:8443")
        );
        let url: CallbackUrl = "https://[2001:db8::1]/".parse().unwrap();
        assert_eq!(url.address(), "2001:db8::1".parse().ok());
        assert_eq!(url.origin(), "https://[2001:db8::1]");
        let url: CallbackUrl = "https://10.1.2.3:443".parse().unwrap();
        assert_eq!((url.address(), url.origin().as_str()), ("10.1.2.3".parse().ok(), "https://10.1.2.3"));
        assert_eq!(format!("{url:?}"), "CallbackUrl(https://10.1.2.3)");
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
            assert!(text.parse::<CallbackUrl>().is_err(), "{text}");
        }
    }
}
