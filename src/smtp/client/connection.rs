//! Bytes out, replies in, each within its time.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::smtp::client::error::{ClientError, ErrorKind};
use crate::smtp::client::tls::TlsSettings;
use crate::smtp::reply::{NotAReply, Reply, ReplyReader};
use crate::smtp::stream::MaybeTls;

/// How long a reply is waited for on a connection that cannot be written to any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A stream with what was read ahead of it.
#[derive(Debug)]
pub(in crate::smtp::client) struct Connection<S> {
    stream: MaybeTls<S>,
    input: BytesMut,
    replies: ReplyReader,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(in crate::smtp::client) fn new(stream: S) -> Self {
        Connection { stream: MaybeTls::Plain(stream), input: BytesMut::new(), replies: ReplyReader::new() }
    }

    pub(in crate::smtp::client) fn is_encrypted(&self) -> bool {
        matches!(self.stream, MaybeTls::Tls(_))
    }

    /// Goes on inside TLS. What the server sent in the clear ahead of the handshake is dropped: it
    /// may have been put there by somebody else.
    pub(in crate::smtp::client) async fn encrypt(
        self,
        settings: &TlsSettings,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let MaybeTls::Plain(stream) = self.stream else { return Ok(self) };
        let connector = TlsConnector::from(settings.config.clone());
        let handshake = connector.connect(settings.server_name.clone(), stream);
        // One that hangs has failed as well: whoever may do without encryption tries that.
        let stream = within(timeout, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| ClientError::new(ErrorKind::Tls(error)))?;
        Ok(Connection {
            stream: MaybeTls::Tls(Box::new(stream.into())),
            input: BytesMut::new(),
            replies: ReplyReader::new(),
        })
    }

    /// Writes all bytes and flushes them.
    pub(in crate::smtp::client) async fn send(
        &mut self,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let Err(error) = within(timeout, write).await? else { return Ok(()) };
        // A server that hangs up in the middle of a message has often said why.
        match within(LAST_WORDS, self.read_reply()).await {
            Ok(Ok(reply)) if !reply.is_positive() => Err(ClientError::new(ErrorKind::Refused(reply))),
            _ => Err(ClientError::new(ErrorKind::Io(error))),
        }
    }

    /// Reads the next reply. A 421 ends the connection (RFC 5321, 3.8), so it is an error.
    pub(in crate::smtp::client) async fn reply(&mut self, timeout: Duration) -> Result<Reply, ClientError> {
        let reply = within(timeout, self.read_reply()).await??;
        if reply.code() == 421 { Err(ClientError::new(ErrorKind::Refused(reply))) } else { Ok(reply) }
    }

    async fn read_reply(&mut self) -> Result<Reply, ClientError> {
        loop {
            match self.replies.next(&mut self.input) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(NotAReply) => return Err(ClientError::new(ErrorKind::NotSmtp)),
            }
            self.input.reserve(1024);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(ClientError::new(ErrorKind::Io(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) => return Err(ClientError::new(ErrorKind::Io(error))),
            }
        }
    }
}

async fn within<T>(timeout: Duration, future: impl Future<Output = T>) -> Result<T, ClientError> {
    tokio::time::timeout(timeout, future).await.map_err(|_| ClientError::new(ErrorKind::TimedOut(timeout)))
}
