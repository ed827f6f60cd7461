//! Posting to a URL that somebody else has given us: the push service of a device, a webhook.
//!
//! Its host is looked up by us, and connected to at an address that was found fit: so neither the DNS,
//! whatever it says the next time, nor a redirect, which is not followed, leads into a private network.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header, http};
use rand::seq::SliceRandom;

use crate::dns::{Dns, DnsError};
use crate::https::{self, Client, Resolver};
use crate::types::callback_url::CallbackUrl;
use crate::types::network::{Network, is_public};

/// How long a connection may take to come about: the other side may be far away.
const CONNECT_TIME: Duration = Duration::from_secs(8);
/// Addresses of each family that are tried at a time.
const ADDRESSES: usize = 2;
/// Why a request is not sent.
const FORBIDDEN: &str = "its address is in a network where web pushes and webhooks do not go (push_networks)";

/// Posts where it may. Cheap to clone.
#[derive(Clone)]
pub struct Callback {
    client: Client<Full<Bytes>>,
    allowed: Arc<[Network]>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It may not be asked.
    Forbidden(String),
    /// It could not be asked, or did not answer.
    Failed(String),
}

/// Whether an address may be asked.
fn may_reach(address: IpAddr, allowed: &[Network]) -> bool {
    is_public(address) || is_allowed(address, allowed)
}

fn is_allowed(address: IpAddr, allowed: &[Network]) -> bool {
    allowed.iter().any(|network| network.contains(address))
}

/// Whether a URL may be asked, as far as it can be told without the DNS. Without TLS it may be in an allowed
/// network only, and must name an address: what is said of a name can change.
fn check(url: &CallbackUrl, allowed: &[Network]) -> Result<(), &'static str> {
    match url.address() {
        Some(address) if !may_reach(address, allowed) => Err(FORBIDDEN),
        address if url.is_plain() && !address.is_some_and(|address| is_allowed(address, allowed)) => Err(
            "without TLS only addresses (not names) of the networks in push_networks are asked; take https",
        ),
        _ => Ok(()),
    }
}

impl Callback {
    /// To the public internet and to some networks beside it.
    pub fn new(dns: Dns, allowed: Arc<[Network]>) -> Result<Callback, rustls::Error> {
        let networks = allowed.clone();
        let find = move |host: String| {
            let (dns, networks) = (dns.clone(), networks.clone());
            let found = async move {
                let addresses = dns.addresses(&host).await.map_err(|error| match error {
                    DnsError::NotFound => io::Error::new(io::ErrorKind::NotFound, error),
                    DnsError::Temporary(_) => io::Error::other(error),
                })?;
                let mut fit: Vec<IpAddr> =
                    addresses.into_iter().filter(|address| may_reach(*address, &networks)).collect();
                // Each next time others: the time for a connection is divided among them.
                fit.shuffle(&mut rand::rng());
                let of = |is_v4: bool| {
                    fit.iter().filter(move |address| address.is_ipv4() == is_v4).take(ADDRESSES)
                };
                let fit: Vec<SocketAddr> =
                    of(false).chain(of(true)).map(|address| SocketAddr::new(*address, 0)).collect();
                if fit.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, FORBIDDEN));
                }
                Ok(fit.into_iter())
            };
            Box::pin(found) as _
        };
        Ok(Callback {
            client: https::client_with(Resolver::Own(Arc::new(find)), true, CONNECT_TIME)?,
            allowed,
        })
    }

    /// Whether a URL may be asked, as far as it can be told without the DNS.
    pub fn check(&self, url: &CallbackUrl) -> Result<(), &'static str> {
        check(url, &self.allowed)
    }

    /// Posts JSON, or what a header among these says; the beginning of the answer, if it comes in time. What
    /// follows the header of the answer is of no interest, and not read.
    pub async fn post(
        &self,
        url: &CallbackUrl,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
        within: Duration,
    ) -> Result<Response<Incoming>, NoAnswer> {
        // A connector asks nobody about a host that is an address.
        self.check(url).map_err(|why| NoAnswer::Forbidden(why.to_owned()))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.uri())
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error: http::Error| {
            NoAnswer::Forbidden(format!("the request cannot be written: {error}"))
        })?;
        match tokio::time::timeout(within, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(NoAnswer::Failed(causes(&error))),
            Err(_) => Err(NoAnswer::Failed("no answer in time".to_owned())),
        }
    }
}

/// The seconds after which an answer says that it may be asked again.
pub fn retry_after(headers: &hyper::HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
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
    fn where_a_callback_may_go() {
        let allowed = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        for (url, may) in [
            ("https://hooks.test/x", true),
            ("https://192.0.2.1/", false),
            ("https://127.0.0.1/", false),
            ("https://8.8.8.8/", true),
            ("https://10.1.2.3/", true),
            ("http://10.1.2.3:3000/", true),
            ("http://[::1]:3000/", true),
            ("http://8.8.8.8/", false),
            ("http://hooks.test/", false),
            ("http://127.0.0.1/", false),
        ] {
            assert_eq!(check(&CallbackUrl::of_webhook(url).unwrap(), &allowed).is_ok(), may, "{url}");
        }
    }
}
