//! The HTTP client with which other services are asked: the object store, the search engine. TLS by
//! ring, connections kept for a while, an end to every wait for a connection. How long an answer may
//! take is for the caller to say.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

/// How long a connection to a service of one's own may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Connections are kept for less time than services keep them.
const IDLE_TIME: Duration = Duration::from_secs(15);
const IDLE_CONNECTIONS: usize = 32;

/// A client whose clones share their connections.
pub type Client<B> = HyperClient<HttpsConnector<HttpConnector<Resolver>>, B>;

type Found = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

/// Finds the addresses of a host. Where the host of a URL is an address, nobody is asked.
#[derive(Clone)]
pub enum Resolver {
    /// As the machine does.
    System(GaiResolver),
    /// In some other way; the ports do not count.
    Own(Arc<dyn Fn(String) -> Found + Send + Sync>),
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Found;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Resolver::System(resolver) => resolver.poll_ready(cx),
            Resolver::Own(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, host: Name) -> Found {
        match self {
            Resolver::System(resolver) => {
                let found = resolver.call(host);
                Box::pin(async move { Ok(found.await?.collect::<Vec<_>>().into_iter()) })
            }
            Resolver::Own(find) => find(host.as_str().to_owned()),
        }
    }
}

/// A client for services of one's own, by HTTP or HTTPS as their address was given.
pub fn client<B>() -> Result<Client<B>, rustls::Error>
where
    B: Body + Send,
    B::Data: Send,
{
    client_with(Resolver::System(GaiResolver::new()), true, CONNECT_TIME)
}

/// Makes a client. Certificates are those of public authorities, or of authorities that the machine
/// trusts: a service of one's own often has one of its own. Plain HTTP, where it is allowed, is used for
/// an address that was given so, and nothing else. The time for a connection is divided among the addresses of a
/// host.
pub fn client_with<B>(
    resolver: Resolver,
    allows_http: bool,
    connect_time: Duration,
) -> Result<Client<B>, rustls::Error>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.set_connect_timeout(Some(connect_time));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls);
    let https = if allows_http { https.https_or_http() } else { https.https_only() };
    let https = https.enable_http1().wrap_connector(tcp);
    Ok(HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build(https))
}
