//! Accepts connections, up to so many and so many of one address, and ends them when the server
//! stops.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument;

use crate::listen::LastCall;
use crate::receive::connection::{Shared, serve};
use crate::receive::proxy::{FIXED_LEN, Header, SIGNATURE};
use crate::receive::session::Role;
use crate::types::connections::Connections;
use crate::types::network::Network;

/// How long a trusted proxy's header is waited for. A client on the same machine that sends none
/// is greeted after it.
const PROXY_HEADER_WAIT: Duration = Duration::from_secs(1);
/// What those who are one too many hear.
const BUSY: &[u8] = b"421 4.3.2 Too many connections, try again later\r\n";

/// A listening port with what its connections share.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    trusted_proxies: Arc<[Network]>,
    connections: Connections,
}

impl Listener {
    /// Serves a socket that listens already.
    pub fn new(socket: TcpListener, shared: Shared, trusted_proxies: &[Network]) -> Listener {
        Listener {
            socket,
            shared: Arc::new(shared),
            trusted_proxies: trusted_proxies.into(),
            connections: Connections::default(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whom it is for.
    pub fn role(&self) -> Role {
        self.shared.settings.role
    }

    /// Accepts until the server stops; returns when the last connection has ended, or has been cut
    /// off because it did not.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        let mut last_call = LastCall::default();
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next() => {}
                accepted = last_call.accept(&self.socket, &self.shared.shutdown) => match accepted {
                    None => break,
                    Some(Ok((stream, _))) if connections.len() >= self.shared.settings.policy.connections => {
                        metrics::counter!("postrider_smtp_refused_connections_total").increment(1);
                        turn_away(stream);
                    }
                    Some(Ok((stream, peer))) => {
                        connections.spawn(self.connection(stream, peer.ip().to_canonical()));
                    }
                    Some(Err(error)) => {
                        // Out of file descriptors, mostly; it passes when connections end.
                        tracing::warn!(%error, "cannot accept an SMTP connection");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(self.socket);
        let patience = self.shared.settings.policy.shutdown + Duration::from_secs(1);
        let _ = timeout(patience, async { while connections.join_next().await.is_some() {} }).await;
        connections.shutdown().await;
    }

    fn connection(
        &self,
        mut stream: TcpStream,
        mut peer: IpAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        let proxies = Arc::clone(&self.trusted_proxies);
        let connections = self.connections.clone();
        let role = shared.settings.role;
        let connection = shared.settings.ids.make();
        async move {
            let _ = stream.set_nodelay(true);
            if proxies.iter().any(|proxy| proxy.contains(peer)) {
                match proxied_peer(&mut stream).await {
                    Ok(source) => peer = source.unwrap_or(peer),
                    Err(error) => return tracing::info!(%peer, %error, "no good PROXY header"),
                }
            }
            let most = shared.settings.policy.connections_per_address;
            let Some(_place) = connections.enter(peer, most) else {
                metrics::counter!("postrider_smtp_refused_connections_total").increment(1);
                let _ = timeout(Duration::from_secs(1), stream.write_all(BUSY)).await;
                return;
            };
            metrics::counter!("postrider_smtp_connections_total").increment(1);
            tracing::debug!(%peer, "connected");
            match serve(stream, peer, &shared).await {
                Ok(()) => tracing::debug!("ended"),
                Err(error) => tracing::debug!(%error, "broken off"),
            }
        }
        .instrument(tracing::info_span!("smtp", %connection, ?role))
    }
}

/// Tells a client that it is one too many. Not waited for: that would hold up the others.
fn turn_away(stream: TcpStream) {
    // A fresh socket has room for a line; the runtime does not know yet, so it is not asked.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(BUSY);
    }
}

/// The client behind a trusted proxy, when the connection starts with a PROXY header.
async fn proxied_peer(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    if !starts_with_signature(stream).await? {
        return Ok(None);
    }
    let read = async {
        let mut fixed = [0; FIXED_LEN];
        stream.read_exact(&mut fixed).await?;
        let header = Header::parse(&fixed).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut rest = vec![0; header.rest_len];
        stream.read_exact(&mut rest).await?;
        header.source(&rest).map_err(|_| io::ErrorKind::InvalidData.into())
    };
    timeout(PROXY_HEADER_WAIT, read).await?
}

/// Looks at the first bytes without taking them.
async fn starts_with_signature(stream: &TcpStream) -> io::Result<bool> {
    let deadline = Instant::now() + PROXY_HEADER_WAIT;
    let mut start = [0; SIGNATURE.len()];
    loop {
        let Ok(count) = tokio::time::timeout_at(deadline, stream.peek(&mut start)).await else {
            return Ok(false);
        };
        let count = count?;
        let seen = start.get(..count).unwrap_or_default();
        if count == 0 || !SIGNATURE.starts_with(seen) {
            return Ok(false);
        }
        if count == SIGNATURE.len() {
            return Ok(true);
        }
        // What is there already makes `peek` return at once.
        sleep(Duration::from_millis(5)).await;
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}
