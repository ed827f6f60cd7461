//! Sending a push to the URL of a subscription (RFC 8030, 5).
//!
//! The URL is a stranger's. Its host is looked up by us, and connected to at an address that was found
//! fit: so neither the DNS, whatever it says the next time, nor a redirect, which is not followed,
//! leads into a private network.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, header};

use crate::dns::{Dns, DnsError};
use crate::https::{self, Client, Resolver};
use crate::types::network::{Network, is_public};
use crate::types::push_url::PushUrl;

/// For a push service to take a push.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A push as it travels.
pub struct Push {
    /// The content, encrypted when the device has given keys.
    pub body: Vec<u8>,
    pub is_encrypted: bool,
    /// Who pushes.
    pub authorization: String,
    /// Seconds for which it is worth keeping.
    pub ttl: u32,
    /// `very-low`, `low`, `normal` or `high` (RFC 8030, 5.3).
    pub urgency: &'static str,
    /// A later push of the same topic takes the place of this one, if it still waits.
    pub topic: Option<String>,
}

/// What came of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// The push service has it.
    Taken,
    /// The subscription is no more.
    Gone,
    /// Not so often; with the seconds to wait, if it says.
    TooOften(Option<u64>),
    /// It will not take this push.
    Refused(String),
    /// It could not be asked, or fails at present.
    Failed(String),
}

/// Sends pushes.
#[derive(Clone)]
pub struct Endpoint {
    client: Client<Full<Bytes>>,
    allowed: Arc<[Network]>,
}

/// Whether pushes may go to an address.
pub fn may_reach(address: IpAddr, allowed: &[Network]) -> bool {
    is_public(address) || allowed.iter().any(|network| network.contains(address))
}

impl Endpoint {
    /// To the public internet and to some networks beside it.
    pub fn new(dns: Dns, allowed: Arc<[Network]>) -> Result<Endpoint, rustls::Error> {
        let networks = allowed.clone();
        let find = move |host: String| {
            let (dns, networks) = (dns.clone(), networks.clone());
            let found = async move {
                let addresses = dns.addresses(&host).await.map_err(|error| match error {
                    DnsError::NotFound => io::Error::new(io::ErrorKind::NotFound, error),
                    DnsError::Temporary(_) => io::Error::other(error),
                })?;
                let fit = addresses.into_iter().filter(|address| may_reach(*address, &networks));
                let fit: Vec<SocketAddr> = fit.map(|address| SocketAddr::new(address, 0)).collect();
                if fit.is_empty() {
                    let text = "its addresses are in networks where pushes do not go (push_networks)";
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
                }
                Ok(fit.into_iter())
            };
            Box::pin(found) as _
        };
        let client = https::client_with(Resolver::Own(Arc::new(find)), false)?;
        Ok(Endpoint { client, allowed })
    }

    /// Sends a push.
    pub async fn post(&self, url: &PushUrl, push: Push) -> Posted {
        // A connector asks nobody about a host that is an address.
        if url.address().is_some_and(|address| !may_reach(address, &self.allowed)) {
            return Posted::Refused(
                "its address is in a network where pushes do not go (push_networks)".to_owned(),
            );
        }
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.uri())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, push.authorization)
            .header("TTL", push.ttl)
            .header("Urgency", push.urgency);
        if push.is_encrypted {
            request = request.header(header::CONTENT_ENCODING, "aes128gcm");
        }
        if let Some(topic) = push.topic {
            request = request.header("Topic", topic);
        }
        let Ok(request) = request.body(Full::new(Bytes::from(push.body))) else {
            return Posted::Refused("the push cannot be written".to_owned());
        };
        match tokio::time::timeout(ANSWER_TIME, self.client.request(request)).await {
            // What it says beside the status is of no interest, and not read.
            Ok(Ok(response)) => outcome(response.status(), response.headers()),
            Ok(Err(error)) => Posted::Failed(causes(&error)),
            Err(_) => Posted::Failed("no answer in time".to_owned()),
        }
    }
}

fn outcome(status: StatusCode, headers: &hyper::HeaderMap) -> Posted {
    let seconds = || headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok();
    match status {
        status if status.is_success() => Posted::Taken,
        StatusCode::NOT_FOUND | StatusCode::GONE => Posted::Gone,
        StatusCode::TOO_MANY_REQUESTS => Posted::TooOften(seconds()),
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            Posted::Failed(format!("it answered {status}"))
        }
        // A redirect too: a push service answers itself.
        status => Posted::Refused(format!("it answered {status}")),
    }
}

/// An error with its causes. None of hyper's or ours holds the URL.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_is_to_be_done() {
        let of = |status: u16, retry: &str| {
            let mut headers = hyper::HeaderMap::new();
            headers.insert(header::RETRY_AFTER, retry.parse().unwrap());
            outcome(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 201, 202, 204] {
            assert_eq!(of(status, "1"), Posted::Taken);
        }
        assert_eq!((of(404, "1"), of(410, "1")), (Posted::Gone, Posted::Gone));
        assert_eq!(of(429, "120"), Posted::TooOften(Some(120)));
        assert_eq!(of(429, "Wed, 21 Oct 2015 07:28:00 GMT"), Posted::TooOften(None));
        for status in [408, 500, 502, 503] {
            assert!(matches!(of(status, "1"), Posted::Failed(_)), "{status}");
        }
        for status in [301, 302, 307, 400, 401, 403, 413] {
            assert!(matches!(of(status, "1"), Posted::Refused(_)), "{status}");
        }
    }
}
