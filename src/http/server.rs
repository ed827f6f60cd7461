//! The listener: accepts connections, speaks HTTP/1.1 and HTTP/2 on them, and ends them in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower_service::Service;

use crate::http::origin::Peer;
use crate::listen::LastCall;
use crate::types::connections::{Connection, Connections};
use crate::types::network::Network;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 50_000;
/// Connections of one address at a time. Trusted proxies are not counted: they speak for many.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 10_000;
/// For the head of a request.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// An HTTP/2 connection whose other end does not answer a ping in time is closed.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(60);
/// A peer of which nothing was heard for so long is asked by the system: who has vanished must not hold a
/// place for ever, and an event stream without pings may say nothing for days.
const KEEPALIVE: Duration = Duration::from_secs(300);
/// For a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// For what is in hand when the server goes down.
const DRAIN_TIME: Duration = Duration::from_secs(8);
/// For whoever has connected when the server goes down and not been heard yet.
const FIRST_WORD_TIME: Duration = Duration::from_secs(1);
/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The place of a connection, which is taken for as long as any of this is kept: a WebSocket goes on
/// after HTTP has ended on its connection.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "kept for what its drop does")] Arc<PlaceParts>);
type PlaceParts = (OwnedSemaphorePermit, Connection, TaskTrackerToken);

/// Serves until `closing`, then finishes what is in hand.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    trusted_proxies: Vec<Network>,
    closing: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let of_addresses = Connections::default();
    let connections = TaskTracker::new();
    let mut last_call = LastCall::default();
    while let Some(accepted) = last_call.accept(&listener, &closing).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(limit = MAX_CONNECTIONS, "a connection was closed: there are too many");
            continue;
        };
        let is_proxy = trusted_proxies.iter().any(|network| network.contains(address.ip()));
        let most = if is_proxy { MAX_CONNECTIONS } else { MAX_CONNECTIONS_PER_ADDRESS };
        let Some(counted) = of_addresses.enter(address.ip(), most) else {
            tracing::warn!(client = %address.ip(), limit = most, "a connection was closed: the client has too many");
            continue;
        };
        let (router, tls, closing) = (router.clone(), tls.clone(), closing.clone());
        let peer = Peer { address, is_tls: tls.is_some() };
        let place = Place(Arc::new((place, counted, connections.token())));
        connections.spawn(async move { connection(stream, tls, peer, place, router, &closing).await });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIME, connections.wait()).await.is_err() {
        tracing::warn!("some requests were cut off: they took too long to end");
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    place: Place,
    router: Router,
    closing: &CancellationToken,
) {
    // Answers are whole when they are written; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    match tls {
        // Apart, so that a connection without TLS is no larger than it must be: there are many of them.
        None => Box::pin(speak(TokioIo::new(stream), peer, place, router, closing)).await,
        Some(acceptor) => {
            let accepted = Box::pin(tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream))).await;
            if let Ok(Ok(stream)) = accepted {
                Box::pin(speak(TokioIo::new(stream), peer, place, router, closing)).await;
            }
        }
    }
}

async fn speak<I>(io: I, peer: Peer, place: Place, router: Router, closing: &CancellationToken)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let began = CancellationToken::new();
    let seen = began.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        seen.cancel();
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(place.clone());
        router.clone().call(request.map(Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(HTTP2_PING_EVERY);
    let connection = builder.serve_connection_with_upgrades(io, service);
    let mut connection = std::pin::pin!(connection);
    // Whoever connects and says nothing must not hold a place.
    let silent = async {
        if tokio::time::timeout(HEADER_TIME, began.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    // A request that is on its way when the server goes down is still answered.
    let last_word = async {
        closing.cancelled().await;
        let _ = tokio::time::timeout(FIRST_WORD_TIME, began.cancelled()).await;
    };
    let ended = tokio::select! {
        () = silent => return,
        ended = connection.as_mut() => ended,
        () = last_word => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %peer.address, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_is_silent_is_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let closing = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, None, router, Vec::new(), closing.clone()));
        for said in [
            "",
            "G",
            "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            // A whole request, and then no other.
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            // HTTP/2: half of its preface, and all of it.
            "PRI * HTTP/2.0\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        ] {
            let start = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut heard = Vec::new();
            let ended = tokio::time::timeout(HEADER_TIME * 2, stream.read_to_end(&mut heard)).await;
            assert!(ended.is_ok(), "still open after {:?}: {said:?}", start.elapsed());
            assert!(start.elapsed() >= HEADER_TIME, "after {:?}: {said:?}", start.elapsed());
            let answer = String::from_utf8_lossy(&heard);
            assert_eq!(
                answer.ends_with("here"),
                said.ends_with("\r\n\r\n") && said.starts_with("GET"),
                "{answer}"
            );
        }
        closing.cancel();
        serving.await.unwrap();
    }
}
