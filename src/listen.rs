//! Accepting connections until the server stops, and a moment longer: whoever has connected already, and
//! waits in the system's queue, is served and not cut off when the socket closes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long nobody may come in before the socket is closed, and how long this may take at the most.
const QUIET: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(300);

/// Accepts for one socket.
#[derive(Default, Debug)]
pub struct LastCall {
    /// Since the server stops: when the socket is closed whoever comes.
    end: Option<Instant>,
}

impl LastCall {
    /// The next connection; `None` when the server stops and nobody waits any more. May be dropped
    /// before it is done, and called again.
    pub async fn accept(
        &mut self,
        listener: &TcpListener,
        closing: &CancellationToken,
    ) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let end = match self.end {
            Some(end) => end,
            None => tokio::select! {
                accepted = listener.accept() => return Some(accepted),
                () = closing.cancelled() => *self.end.insert(Instant::now() + LONGEST),
            },
        };
        let now = Instant::now();
        if now >= end {
            return None;
        }
        timeout_at(end.min(now + QUIET), listener.accept()).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_has_connected_is_accepted_before_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = CancellationToken::new();
        let clients: Vec<std::net::TcpStream> =
            (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        closing.cancel();
        let mut last_call = LastCall::default();
        let mut accepted = 0;
        while let Some(connection) = last_call.accept(&listener, &closing).await {
            connection.unwrap();
            accepted += 1;
        }
        assert_eq!(accepted, clients.len());
    }

    #[tokio::test]
    async fn it_ends_whoever_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = CancellationToken::new();
        closing.cancel();
        let begun = Instant::now();
        let coming = tokio::spawn(async move {
            // An end of its own, for the port may soon be somebody else's.
            for _ in 0..2_000 {
                if TcpStream::connect(address).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let mut last_call = LastCall::default();
        while last_call.accept(&listener, &closing).await.is_some() {}
        assert!(begun.elapsed() < 2 * LONGEST);
        drop(listener);
        coming.await.unwrap();
    }
}
