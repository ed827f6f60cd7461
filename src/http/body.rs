//! Bodies of requests, as they come: bounded in their length, and in the time that their sender may
//! be silent. A client that vanishes in the midst of a body would hold its place for ever, since
//! nothing on the connection tells that it has gone.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::http::error::HttpError;

/// How long the sender of a body may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is longer than its reader takes.
    TooLarge,
    /// It ended before it was whole.
    Broken,
    /// Its sender fell silent.
    Silent,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unread::TooLarge => "The body is too large.",
            Unread::Broken => "The body ended before it was whole.",
            Unread::Silent => "The body did not come.",
        })
    }
}

impl From<Unread> for HttpError {
    fn from(unread: Unread) -> HttpError {
        match unread {
            Unread::Silent => HttpError::TimedOut,
            Unread::TooLarge | Unread::Broken => HttpError::BadRequest(unread.to_string()),
        }
    }
}

/// The pieces of a body. An error ends them.
pub fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, Unread>> + Send {
    futures_util::stream::unfold(Some(body.into_data_stream()), |pieces| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout(SILENCE, pieces.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(_))) => Some((Err(Unread::Broken), None)),
            Err(_) => Some((Err(Unread::Silent), None)),
        }
    })
}

/// The whole body, of at most so many octets.
pub async fn read_whole(body: Body, limit: usize) -> Result<Bytes, Unread> {
    let mut pieces = std::pin::pin!(pieces(body));
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if whole.len() + piece.len() > limit {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn body(texts: &'static [&'static str]) -> impl Stream<Item = Result<&'static str, Infallible>> {
        stream::iter(texts).map(|text| Ok(*text))
    }

    #[tokio::test]
    async fn bodies_end_at_their_limit() {
        let whole = || Body::from_stream(body(&["abc", "", "de"]));
        assert_eq!(read_whole(whole(), 5).await, Ok(Bytes::from_static(b"abcde")));
        assert_eq!(read_whole(whole(), 4).await, Err(Unread::TooLarge));
        let broken = body(&["abc"]).map(|_| Err::<&str, _>(std::io::Error::other("cut")));
        assert_eq!(read_whole(Body::from_stream(broken), 5).await, Err(Unread::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_may_be_slow_but_not_silent() {
        let start = tokio::time::Instant::now();
        let slow = body(&["a", "b", "c", "d"]).then(|text| async move {
            tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
            text
        });
        assert_eq!(read_whole(Body::from_stream(slow), 5).await, Ok(Bytes::from_static(b"abcd")));
        assert!(start.elapsed() > SILENCE);
        let silent = body(&["a"]).chain(stream::pending());
        let read = tokio::time::timeout(SILENCE * 2, read_whole(Body::from_stream(silent), 5)).await;
        assert_eq!(read, Ok(Err(Unread::Silent)));
    }
}
